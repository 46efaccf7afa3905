// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// A deadline that a wheel watches. Derive from it and implement `expire`. Leaves its wheel when destroyed. Every
/// connection is one, so it is small: what derives from it goes on behind its 28 bytes.
class timer {
 public:
  timer() = default;
  timer(const timer&) = delete;
  timer& operator=(const timer&) = delete;
  virtual ~timer() { unlink(); }

  /// Called once the deadline has passed; the timer is disarmed by then and may be armed again.
  virtual void expire(std::int64_t now) = 0;
  /// Something that was called on it has thrown, and is not called again for that: there was no memory. Called where
  /// the exception is caught, so that `throw;` tells which.
  virtual void broken() noexcept {}

  bool armed() const noexcept { return next_ != nullptr; }

 private:
  friend class timer_wheel;
  friend class ended_timers;
  void unlink() noexcept {
    if (!next_) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = nullptr;
  }
  timer* prev_ = nullptr;
  timer* next_ = nullptr;
  std::uint32_t due_ = 0;  // the low bits of the wheel's step
};

/// One coarse wheel for all deadlines of a hub: heartbeats, long polls, time limits. Arming, moving and disarming are
/// O(1) and allocate nothing. Deadlines are rounded up to 100 ms: nobody who waits for a heartbeat of 25 s or a long
/// poll of whole seconds can tell, and a wheel of 512 slots then spans 51 s. A deadline further away stays in its slot
/// for another round; one that is moved to later (the common case: life was seen) is only rewritten, and is put where
/// it belongs when its old slot comes round.
class timer_wheel {
 public:
  static constexpr std::int64_t resolution = 100;
  static constexpr std::size_t slots = 512;

  explicit timer_wheel(std::int64_t now) : tick_(now / resolution) {
    for (auto& s : slots_) s.prev_ = s.next_ = &s;
  }
  timer_wheel(const timer_wheel&) = delete;
  timer_wheel& operator=(const timer_wheel&) = delete;
  ~timer_wheel() {
    for (auto& s : slots_) {
      while (s.next_ != &s) s.next_->unlink();
      s.prev_ = s.next_ = nullptr;
    }
  }

  /// Arms `t` for `due`, or moves it there.
  void arm(timer& t, std::int64_t due) noexcept {
    std::int64_t step = std::clamp((due + resolution - 1) / resolution, tick_ + 1, tick_ + furthest);
    bool later = t.armed() && step >= step_of(t);
    t.due_ = static_cast<std::uint32_t>(step);
    if (!later) link(t, step);
  }
  void disarm(timer& t) noexcept { t.unlink(); }

  /// Expires everything that is due at `now`.
  void advance(std::int64_t now) {
    std::int64_t last = now / resolution;
    if (last - tick_ > static_cast<std::int64_t>(slots)) tick_ = last - static_cast<std::int64_t>(slots);
    while (tick_ < last) {
      ++tick_;
      head due;  // expire() may arm and disarm anything, so the slot is emptied first
      head& slot = slots_[index(tick_)];
      if (slot.next_ == &slot) continue;
      due.next_ = slot.next_;
      due.prev_ = slot.prev_;
      due.next_->prev_ = due.prev_->next_ = &due;
      slot.prev_ = slot.next_ = &slot;
      while (due.next_ != &due) {
        timer& t = *due.next_;
        t.unlink();
        if (std::int64_t step = step_of(t); step <= last) {
          try {
            t.expire(now);
          } catch (...) {
            t.broken();
          }
        } else {
          link(t, step);
        }
      }
      due.prev_ = due.next_ = nullptr;
    }
  }

  /// When `advance` is next worth calling; empty when nothing is armed.
  std::optional<std::int64_t> next() const noexcept {
    for (std::size_t i = 1; i <= slots; ++i) {
      auto tick = tick_ + static_cast<std::int64_t>(i);
      const head& slot = slots_[index(tick)];
      if (slot.next_ != &slot) return tick * resolution;
    }
    return {};
  }

 private:
  struct head final : timer {
    void expire(std::int64_t) override {}
  };
  // How far ahead a step can be told from its low bits: six years.
  static constexpr std::int64_t furthest = INT32_MAX;
  std::int64_t step_of(const timer& t) const noexcept {
    return tick_ + static_cast<std::int32_t>(t.due_ - static_cast<std::uint32_t>(tick_));
  }
  static std::size_t index(std::int64_t tick) noexcept { return static_cast<std::size_t>(tick) % slots; }

  void link(timer& t, std::int64_t step) noexcept {
    t.unlink();
    head& slot = slots_[index(std::min(step, tick_ + static_cast<std::int64_t>(slots)))];
    t.prev_ = slot.prev_;
    t.next_ = &slot;
    slot.prev_->next_ = &t;
    slot.prev_ = &t;
  }

  std::int64_t tick_;
  std::array<head, slots> slots_;
};

/// Timers that are on no wheel any more and wait to be deleted. They stand here by the links that a wheel would use, so
/// that no allocation can fail while something ends. Owns none of them; one that is destroyed leaves it.
class ended_timers {
 public:
  ended_timers() noexcept { first_.prev_ = first_.next_ = &first_; }
  ended_timers(const ended_timers&) = delete;
  ended_timers& operator=(const ended_timers&) = delete;
  ~ended_timers() {
    while (take()) {
    }
    first_.prev_ = first_.next_ = nullptr;
  }

  void add(timer& t) noexcept {
    t.unlink();
    t.prev_ = first_.prev_;
    t.next_ = &first_;
    t.prev_->next_ = first_.prev_ = &t;
  }
  /// The one that stands here longest, or null.
  timer* take() noexcept {
    if (first_.next_ == &first_) return nullptr;
    timer* t = first_.next_;
    t->unlink();
    return t;
  }

 private:
  struct head final : timer {
    void expire(std::int64_t) override {}
  };
  head first_;
};

}  // namespace hailwire::detail
