// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/net/backoff.hpp"

#include <cstdint>

#include "catch.hpp"

using hailwire::detail::backoff;

TEST_CASE("a random time lies between nothing and its bound, both included") {
  CHECK(backoff::uniform(1000, 0) == 0);
  CHECK(backoff::uniform(1000, UINT64_MAX) == 1000);
  CHECK(backoff::uniform(1000, UINT64_MAX / 2) == 500);
  CHECK(backoff::uniform(0, UINT64_MAX) == 0);
  CHECK(backoff::uniform(-1, UINT64_MAX) == 0);
  CHECK(backoff::uniform(1, UINT64_MAX) == 1);
}

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
