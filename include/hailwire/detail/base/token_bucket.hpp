// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// How fast a token bucket fills, and how much it holds.
class token_rate {
 public:
  /// No limit.
  token_rate() = default;
  /// `per_second` tokens a second, 0: no limit; as many as `burst` at once, at least one.
  token_rate(double per_second, double burst) noexcept
      : token_(per_second > 0 ? std::max(1e9 / per_second, 1e-6) : 0), room_(cost(std::max(burst, 1.0))) {}
  explicit operator bool() const noexcept { return token_ > 0; }

 private:
  friend class token_bucket;
  // Rounded down, so that as many single tokens as the bucket holds never cost more than it holds.
  std::int64_t cost(double n) const noexcept { return static_cast<std::int64_t>(std::min(n * token_, 1e18)); }
  double token_ = 0;       // nanoseconds
  std::int64_t room_ = 0;  // nanoseconds
};

/// A token bucket that is one number: the time at which it is full again. Taking tokens puts that off, and where it
/// would lie further ahead than an empty bucket takes to fill, there are not enough of them. (The virtual scheduling
/// algorithm of ITU-T I.371, known as GCRA.) A new one is full. Times are milliseconds of a clock that nobody sets.
class token_bucket {
 public:
  /// Takes `n` tokens, if at least `left` remain: 0; or takes none, and says after how many milliseconds that can be.
  /// More than the bucket holds, both together, count as what it holds.
  std::int64_t take(const token_rate& r, std::int64_t now, double n = 1, double left = 0) noexcept {
    if (!r) return 0;
    const std::int64_t at = nanoseconds(now), cost = std::min(r.cost(n), r.room_), full = std::max(full_, at) + cost;
    const std::int64_t room = r.room_ - std::min(r.cost(left), r.room_ - cost);
    if (full - at > room) return milliseconds(full - at - room);
    full_ = full;
    return 0;
  }
  /// Takes `n` tokens, also such as are not there yet: those are owed. Whether something is.
  bool charge(const token_rate& r, std::int64_t now, double n) noexcept {
    if (!r) return false;
    const std::int64_t at = nanoseconds(now);
    full_ = std::min(std::max(full_, at) + r.cost(n), most);
    return full_ - at > r.room_;
  }
  /// After how many milliseconds nothing is owed; 0: nothing is.
  std::int64_t owed(const token_rate& r, std::int64_t now) const noexcept {
    const std::int64_t at = nanoseconds(now), over = std::max(full_, at) - at - r.room_;
    return r && over > 0 ? milliseconds(over) : 0;
  }
  /// Gives back a token that was taken.
  void give_back(const token_rate& r) noexcept { full_ -= r.cost(1); }
  /// Whether it is as good as new.
  bool full(std::int64_t now) const noexcept { return full_ <= nanoseconds(now); }

 private:
  static constexpr std::int64_t most = 4'000'000'000'000'000'000;  // so that sums stay in range
  static std::int64_t nanoseconds(std::int64_t ms) noexcept { return ms * 1'000'000; }
  static std::int64_t milliseconds(std::int64_t ns) noexcept { return (ns + 999'999) / 1'000'000; }

  std::int64_t full_ = 0;
};

}  // namespace hailwire::detail
