// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a server hands to its hub of the notifiers that wake devices; waking.hpp, which only the hub's definitions
// include, says how they are used.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/error.hpp"
#include "hailwire/push/notifier.hpp"

namespace hailwire {

/// What became of waking so far.
struct wake_counters {
  std::uint64_t woken = 0;      ///< notices handed to notifiers
  std::uint64_t delivered = 0;  ///< of these: taken by their service
  std::uint64_t gone = 0;       ///< of these: their token was forgotten
  std::uint64_t failed = 0;     ///< of these: not delivered
  std::uint64_t spared = 0;     ///< devices that were not woken, being live, up to date, or already on the way
  std::uint64_t dropped = 0;    ///< channels for which there was no room to wait
  std::size_t waiting = 0;      ///< channels that wait now
};

namespace detail {

/// Told what became of a client's `device` command: the JSON text of its `ok`, or the error.
using device_handler = move_only_function<void(result<std::string>)>;

/// A push notifier with its type erased.
struct any_notifier {
  virtual ~any_notifier() = default;
  virtual std::string_view service() const = 0;
  virtual result<push_token> accept(std::string_view object, const push_token& kept) = 0;
  virtual void notify(push_device to, push_notice what, push_handler done) = 0;
};

/// `N` is the host's, and outlives it.
template <push_notifier N>
class erased_notifier final : public any_notifier {
 public:
  explicit erased_notifier(N& n) noexcept : of_(n) {}
  std::string_view service() const override { return of_.service(); }
  result<push_token> accept(std::string_view object, const push_token& kept) override {
    return of_.accept(object, kept);
  }
  void notify(push_device to, push_notice what, push_handler done) override {
    of_.async_notify(std::move(to), std::move(what), std::move(done));
  }

 private:
  N& of_;
};

}  // namespace detail
}  // namespace hailwire
