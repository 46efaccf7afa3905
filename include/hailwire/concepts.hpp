// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a host may bring: a storage (storage_concept.hpp) and a broker. Each is a plain class that meets a concept;
// there is nothing to derive from. Where one is handed in, `explain_storage` and `explain_broker` turn each missing
// requirement into one readable compile error, and from there on the hub knows it only through `detail::any_storage`
// and `detail::any_broker`.

#include <concepts>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/storage/any_storage.hpp"
#include "hailwire/message.hpp"
#include "hailwire/storage_concept.hpp"

namespace hailwire {

/// What a broker hands to each hub that subscribed to the channel: the channel, the epoch, the message with its offset.
/// May be called from any thread.
using broker_receiver =
    detail::move_only_function<void(std::string_view channel, std::string_view epoch, const message&)>;

/// Carries messages between hubs that share a storage.
///
/// Obligations: few. It may drop, repeat and reorder; the hub sees a hole in the offsets and reads the storage. It must
/// not call a receiver after `detach` has returned.
template <class B>
concept broker = requires(B& b, std::string_view channel, std::string_view epoch, const message& m,
                          broker_receiver receiver, std::uint64_t id) {
  { b.attach(std::move(receiver)) } -> std::convertible_to<std::uint64_t>;  // names this hub from now on
  b.detach(id);
  b.subscribe(id, channel);
  b.unsubscribe(id, channel);
  b.publish(id, channel, epoch, m);  // to every subscribed hub but `id`
};

/// Says at compile time, one sentence a requirement, why `B` is not a broker.
template <class B>
constexpr void explain_broker() {
  static_assert(
      requires(B& b, broker_receiver r) {
        { b.attach(std::move(r)) } -> std::convertible_to<std::uint64_t>;
      }, "hailwire: a broker needs std::uint64_t attach(hailwire::broker_receiver receiver)");
  static_assert(
      requires(B& b, std::uint64_t id) { b.detach(id); }, "hailwire: a broker needs void detach(std::uint64_t hub)");
  static_assert(
      requires(B& b, std::uint64_t id, std::string_view c) { b.subscribe(id, c); },
      "hailwire: a broker needs void subscribe(std::uint64_t hub, std::string_view channel)");
  static_assert(
      requires(B& b, std::uint64_t id, std::string_view c) { b.unsubscribe(id, c); },
      "hailwire: a broker needs void unsubscribe(std::uint64_t hub, std::string_view channel)");
  static_assert(
      requires(B& b, std::uint64_t id, std::string_view c, const message& m) { b.publish(id, c, c, m); },
      "hailwire: a broker needs void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, "
      "const hailwire::message& m)");
}

namespace detail {

/// A broker with its type erased.
struct any_broker {
  virtual ~any_broker() = default;
  virtual std::uint64_t attach(broker_receiver receiver) = 0;
  virtual void detach(std::uint64_t hub) = 0;
  virtual void subscribe(std::uint64_t hub, std::string_view channel) = 0;
  virtual void unsubscribe(std::uint64_t hub, std::string_view channel) = 0;
  virtual void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) = 0;
};

template <class Broker>
class erased_broker final : public any_broker {
 public:
  explicit erased_broker(Broker& b) : broker_(b) {}
  std::uint64_t attach(broker_receiver receiver) override { return broker_.attach(std::move(receiver)); }
  void detach(std::uint64_t hub) override { broker_.detach(hub); }
  void subscribe(std::uint64_t hub, std::string_view channel) override { broker_.subscribe(hub, channel); }
  void unsubscribe(std::uint64_t hub, std::string_view channel) override { broker_.unsubscribe(hub, channel); }
  void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) override {
    broker_.publish(hub, channel, epoch, m);
  }

 private:
  Broker& broker_;
};

template <class Broker>
std::unique_ptr<any_broker> erase_broker(Broker& b) {
  explain_broker<Broker>();
  return std::unique_ptr<erased_broker<Broker>>(new erased_broker<Broker>(b));
}

}  // namespace detail
}  // namespace hailwire
