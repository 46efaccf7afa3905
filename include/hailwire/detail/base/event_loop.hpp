// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// What a hub asks of whoever runs it: a place to run, a clock, one alarm. Drivers implement it over their event loop,
/// tests over a clock they turn by hand. Everything but `post` is for the loop's own thread.
class event_loop {
 public:
  static constexpr std::int64_t no_alarm = INT64_MAX;
  virtual ~event_loop() = default;
  /// Runs `f` on the loop, in order of posting, never from within this call. Safe from any thread.
  virtual void post(move_only_function<void()> f) = 0;
  /// Whether the caller runs on the loop. Safe from any thread.
  virtual bool here() const noexcept = 0;
  /// Milliseconds of a clock that only rises.
  virtual std::int64_t now() const noexcept = 0;
  /// The same clock in nanoseconds, for measuring what a loop's turn does: read anew each time.
  virtual std::int64_t precise() const noexcept { return now() * 1'000'000; }
  /// Unix time in milliseconds.
  virtual std::int64_t unix_time() const noexcept = 0;
  /// Calls the function given to `on_alarm` once at `at` (as `now` counts) or a little later; replaces an earlier
  /// alarm. `no_alarm`: takes an earlier one back, so that it does not keep the loop waiting.
  virtual void alarm(std::int64_t at) = 0;
  virtual void on_alarm(move_only_function<void()> f) = 0;
};

}  // namespace hailwire::detail
