// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/jitter.hpp"

#include <set>
#include <thread>

#include "catch.hpp"

using namespace hailwire::detail;

TEST_CASE("uniform takes the whole of its span, both ends included") {
  CHECK(uniform(1000, 0) == 0);
  CHECK(uniform(1000, UINT64_MAX) == 1000);
  CHECK(uniform(1000, UINT64_MAX / 2) == 500);
  CHECK(uniform(0, UINT64_MAX) == 0);
  CHECK(uniform(-1, UINT64_MAX) == 0);
  CHECK(uniform(1, UINT64_MAX) == 1);
}

TEST_CASE("a random value lies in its span and reaches both ends") {
  std::set<std::int64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const auto v = between(7, 9);
    REQUIRE(v >= 7);
    REQUIRE(v <= 9);
    seen.insert(v);
  }
  CHECK(seen.size() == 3);
  CHECK(between(5, 5) == 5);
}

TEST_CASE("words do not repeat, and each thread has others") {
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(jitter_word());
  std::uint64_t other = 0;
  std::thread([&] { other = jitter_word(); }).join();
  seen.insert(other);
  CHECK(seen.size() == 1001);
}
