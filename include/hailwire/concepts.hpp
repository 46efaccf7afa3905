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

/// Something that is told live or not at all (an ephemeral message, a join): it has no place of its own in a log, only
/// one behind which it stands. A hub that is not that far holds it for a while, or drops it and tells its followers
/// that they have missed something.
struct live_event {
  std::string_view epoch;   ///< of the channel's log; empty where there is none
  std::uint64_t after = 0;  ///< the offset of the message behind which it stands; 0: it stands behind none
  std::string_view bytes;   ///< the hubs' own: any bytes, at most `options::max_payload` and 1 KiB
};

/// What a broker hands to a hub: a message of a channel's log, or something live-only. With neither it says that things
/// of the channel may have been missed, because a connection was lost or a subscription has only now taken effect: the
/// hub reads the storage. All that it refers to is valid during the call.
struct broker_event {
  std::string_view channel;         ///< as the hub that gave it to the broker named it
  std::string_view epoch = {};      ///< of a message: its channel's
  const message* stored = nullptr;  ///< with its offset
  const live_event* live = nullptr;
  /// With neither of both: nothing of the channel is heard any more, until an event says that it may have been missed.
  bool lost = false;
};

/// A hub's ear. May be called from any thread.
using broker_receiver = detail::move_only_function<void(const broker_event&)>;

/// Carries messages, and what is live-only, between hubs that share a storage.
///
/// Obligations:
/// - `attach` names a hub from then on; its receiver is not running, and is not called any more, when `detach` has
///   returned. A hub that has detached follows nothing.
/// - `publish` and `tell` reach every hub that subscribed to the channel, but for the one that calls. Either may be
///   called for a channel to which the calling hub has not subscribed.
/// - What is said on a channel from the moment on at which `subscribe` returned is heard; or, where a subscription
/// takes
///   effect later, an event without a message says so when it has.
/// - Who notices that nothing is heard of a name of the hubs' own any more (it begins with a zero) says so by an event
///   with `lost`: a hub that does not hear commands serves nothing new until it has read them (`all_nodes`).
/// - Messages may be dropped, repeated and reordered: the hub sees a hole in the offsets and reads the storage.
/// - What is told may be dropped. It is never repeated, and what one hub tells on one channel never changes its order.
/// - A channel's name is 1–300 opaque bytes, with zeros too: hubs use names that no client can form. Every byte counts.
/// - Nothing here waits for a network: all are called on a hub's executor.
///
/// `testing/broker_contract.hpp` holds a broker to them.
///
/// Threads: any hub calls at any time, each on its own thread, also from within its receiver's thread.
template <class B>
concept broker = requires(B& b, std::string_view channel, std::string_view epoch, const message& m,
                          broker_receiver receiver, std::uint64_t id, const live_event& e) {
  { b.attach(std::move(receiver)) } -> std::convertible_to<std::uint64_t>;  // names this hub from now on
  b.detach(id);
  b.subscribe(id, channel);
  b.unsubscribe(id, channel);
  b.publish(id, channel, epoch, m);  // to every subscribed hub but `id`
  b.tell(id, channel, e);            // likewise, but live or not at all
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
  static_assert(
      requires(B& b, std::uint64_t id, std::string_view c, const live_event& e) { b.tell(id, c, e); },
      "hailwire: a broker needs void tell(std::uint64_t hub, std::string_view channel, const hailwire::live_event& e)");
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
  virtual void tell(std::uint64_t hub, std::string_view channel, const live_event& e) = 0;
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
  void tell(std::uint64_t hub, std::string_view channel, const live_event& e) override {
    broker_.tell(hub, channel, e);
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
