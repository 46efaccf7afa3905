// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "hailwire/detail/base/jitter.hpp"

namespace hailwire::detail {

/// How long to wait before the next attempt: exponential back-off with full jitter, a random time between nothing and
/// the least of `most` and `first` · 2^attempts. So a crowd that lost its server at one moment comes back spread out,
/// at a rate that halves as long as the server fails. Milliseconds.
class backoff {
 public:
  /// The wait behind one more failure.
  std::int64_t next(std::int64_t first, std::int64_t most, std::uint64_t random) noexcept {
    const std::int64_t ceiling = std::min(most, first << std::min<unsigned>(attempts_, 16));
    if (attempts_ < 16) ++attempts_;
    return uniform(ceiling, random);
  }
  /// It worked: the next wait is short again.
  void reset() noexcept { attempts_ = 0; }
  unsigned attempts() const noexcept { return attempts_; }

 private:
  std::uint8_t attempts_ = 0;
};

}  // namespace hailwire::detail
