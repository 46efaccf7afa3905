// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "hailwire/detail/base/event_loop.hpp"

namespace hailwire::testing {

/// A loop with a clock that is turned by hand, for tests: nothing runs until `run` or `advance`, and time stands still
/// in between. `post` is safe from any thread; everything else is for the thread that made it, which counts as the
/// loop's.
class manual_loop final : public hailwire::detail::event_loop {
 public:
  /// Unix time at the start: 2026-01-01 00:00:00 UTC, in milliseconds.
  static constexpr std::int64_t unix_start = 1'767'225'600'000;

  void post(hailwire::detail::move_only_function<void()> f) override {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(f));
  }
  bool here() const noexcept override { return std::this_thread::get_id() == thread_; }
  std::int64_t now() const noexcept override { return now_; }
  std::int64_t unix_time() const noexcept override { return unix_start + set_by_ + now_; }
  void alarm(std::int64_t at) override { alarm_ = at; }
  void on_alarm(hailwire::detail::move_only_function<void()> f) override { rung_ = std::move(f); }

  /// Sets the system's clock, in Unix milliseconds; the loop's own goes on.
  void set_unix_time(std::int64_t to) noexcept { set_by_ += to - unix_time(); }
  /// Whether an alarm is set: without one, and with nothing posted, a loop of the host's would end.
  bool waiting() const noexcept { return alarm_ != never; }

  /// Runs what was posted, and what that posts, until nothing is left. The number of calls made.
  std::size_t run() {
    std::size_t n = 0;
    while (run_one()) ++n;
    return n;
  }
  /// Runs the oldest of what was posted; false when there was nothing.
  bool run_one() {
    hailwire::detail::move_only_function<void()> f;
    {
      std::lock_guard lock(mutex_);
      if (posted_.empty()) return false;
      f = std::move(posted_.front());
      posted_.pop_front();
    }
    f();
    return true;
  }
  /// Lets `ms` milliseconds pass, ringing each alarm at its time and running what is posted.
  void advance(std::int64_t ms) {
    std::int64_t until = now_ + ms;
    run();
    while (alarm_ <= until) {
      if (alarm_ > now_) now_ = alarm_;
      alarm_ = never;
      if (rung_) rung_();
      run();
    }
    now_ = until;
  }
  /// Lets `ms` milliseconds pass in which nothing runs, as when a process is stopped: alarms ring late, and once.
  void stand_still(std::int64_t ms) {
    now_ += ms;
    advance(0);
  }

 private:
  static constexpr std::int64_t never = hailwire::detail::event_loop::no_alarm;
  std::mutex mutex_;
  std::deque<hailwire::detail::move_only_function<void()>> posted_;
  hailwire::detail::move_only_function<void()> rung_;
  std::thread::id thread_ = std::this_thread::get_id();
  std::int64_t now_ = 1000, alarm_ = never, set_by_ = 0;
};

}  // namespace hailwire::testing
