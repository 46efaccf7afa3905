// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "hailwire/detail/base/requirements.hpp"
#include "hailwire/detail/base/siphash.hpp"

namespace hailwire::detail {

/// A uniform value from 0 to `most`, from 64 random bits.
inline std::int64_t uniform(std::int64_t most, std::uint64_t random) noexcept {
  if (most <= 0) return 0;
  // The high word of a product: exact enough (off by 2^-32 of `most`), and without a division.
  const auto span = static_cast<std::uint64_t>(std::min<std::int64_t>(most, UINT32_MAX)) + 1;
  return static_cast<std::int64_t>((random >> 32) * span >> 32);
}

/// A random word that spreads clients over time, and is no secret: SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014). Each thread begins somewhere else.
inline std::uint64_t jitter_word() {
  thread_local std::uint64_t state = random_bits().low;
  std::uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// A random value from `least` to `most`.
inline std::int64_t between(std::int64_t least, std::int64_t most) {
  return least + uniform(most - least, jitter_word());
}

}  // namespace hailwire::detail
