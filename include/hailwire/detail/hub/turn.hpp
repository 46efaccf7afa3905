// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/hub/fan_out.hpp"
#include "hailwire/session.hpp"

namespace hailwire::detail {

/// What a hub leaves for the end of its loop's turn, in this order: channels that something was published to are
/// flushed, then sessions that asked for it are woken, then those settle that have more to do than to write. The lists
/// keep their memory from turn to turn. A second after a channel was busy it gives back what only a busy channel needs.
class loop_turn {
 public:
  explicit loop_turn(hub& h) noexcept : hub_(&h), cooling_(*this), pacing_(*this), retry_(*this) {}
  loop_turn(const loop_turn&) = delete;
  loop_turn& operator=(const loop_turn&) = delete;

  /// Has the channel flushed. Throws `std::bad_alloc`.
  void mark_dirty(channel_log& log);
  void request_wake(session& s) noexcept { ask(wakes_, s); }
  void request_settle(session& s) noexcept { ask(settles_, s); }
  /// Forgets what was asked for a session that goes away.
  void forget(session& s) noexcept;
  /// No channel is looked at later from now on.
  void stop() noexcept;
  void run();

 private:
  struct cooling final : timer {
    explicit cooling(loop_turn& t) noexcept : of(&t) {}
    void expire(std::int64_t) override { of->cool(); }
    loop_turn* of;
  };
  struct pacing final : timer {
    explicit pacing(loop_turn& t) noexcept : of(&t) {}
    void expire(std::int64_t now) override { of->flush_paced(now); }
    void broken() noexcept override { of->pace_again(); }
    loop_turn* of;
  };
  // Has a turn come for which there was no memory when it was asked for.
  struct retry final : timer {
    explicit retry(loop_turn& t) noexcept : of(&t) {}
    void expire(std::int64_t) override { of->schedule(); }
    void broken() noexcept override { of->try_again(); }
    loop_turn* of;
  };
  void run_all();
  void schedule();
  bool wait(channel_log& log);
  void pace_again() noexcept;
  void flush_paced(std::int64_t now);
  void ask(vector<session*>& list, session& s) noexcept;
  void try_again() noexcept;
  void cool();
  void keep_warm(vector<channel_log*>& logs);
  static void wake(session& s) noexcept;
  static void settle(session& s) noexcept;

  hub* hub_;
  vector<channel_log*> dirty_, warm_, paced_;
  vector<session*> wakes_, settles_, waking_, settling_;
  cooling cooling_;
  pacing pacing_;
  std::int64_t pacing_due_ = 0;
  retry retry_;
  bool scheduled_ = false, look_at_all_ = false, stopped_ = false;
};

}  // namespace hailwire::detail
