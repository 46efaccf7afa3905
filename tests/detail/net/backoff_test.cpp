// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/net/backoff.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "catch.hpp"

using hailwire::detail::backoff;

TEST_CASE("waits double up to their bound, and start again") {
  backoff b;
  for (int expected : {500, 1000, 2000, 4000, 8000, 16'000, 30'000, 30'000})
    CHECK(b.next(500, 30'000, UINT64_MAX) == expected);
  for (int i = 0; i < 100; ++i) b.next(500, 30'000, 0);
  CHECK(b.next(500, 30'000, UINT64_MAX) == 30'000);
  CHECK(b.next(500, 30'000, 0) == 0);
  b.reset();
  CHECK(b.attempts() == 0);
  CHECK(b.next(500, 30'000, UINT64_MAX) == 500);
}

TEST_CASE("a crowd that lost its server at one moment comes back evenly") {
  std::uint64_t seed = 1;
  auto random = [&] {  // SplitMix64
    std::uint64_t z = seed += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  };
  std::vector<backoff> crowd(5000);
  for (std::int64_t ceiling : {500, 1000, 2000, 4000}) {
    std::size_t tenths[10] = {};
    for (auto& b : crowd) ++tenths[std::min<std::int64_t>(b.next(500, 30'000, random()) * 10 / ceiling, 9)];
    // 500 in each on average; five standard deviations are 106.
    for (auto n : tenths) {
      CAPTURE(ceiling, n);
      CHECK(n > 394);
      CHECK(n < 606);
    }
  }
}
