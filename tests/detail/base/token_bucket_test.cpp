// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/token_bucket.hpp"

#include <cstdint>

#include "catch.hpp"

using hailwire::detail::token_bucket;
using hailwire::detail::token_rate;

TEST_CASE("a new bucket holds its burst, and not one token more") {
  for (double per_second : {1.0, 3.0, 7.0, 1000.0, 333'333.0}) {
    for (int burst : {1, 2, 7, 1000}) {
      const token_rate rate(per_second, burst);
      token_bucket b;
      for (int i = 0; i < burst; ++i) REQUIRE(b.take(rate, 5000) == 0);
      CHECK(b.take(rate, 5000) > 0);
    }
  }
}

TEST_CASE("there is room again after the time that is told, and not a millisecond before") {
  const token_rate rate(4, 2);
  token_bucket b;
  CHECK(b.take(rate, 1000) == 0);
  CHECK(b.take(rate, 1000) == 0);
  CHECK(b.take(rate, 1000) == 250);
  CHECK(b.take(rate, 1249) == 1);
  CHECK(b.take(rate, 1250) == 0);
  CHECK(b.take(rate, 1250) == 250);
}

TEST_CASE("what is refused takes nothing") {
  const token_rate rate(1, 3);
  token_bucket b;
  CHECK(b.take(rate, 0, 2) == 0);
  for (int i = 0; i < 10; ++i) CHECK(b.take(rate, 0, 2) == 1000);
  CHECK(b.take(rate, 0, 1) == 0);
}

TEST_CASE("more than the bucket holds can be taken from a full one") {
  const token_rate rate(10, 5);
  token_bucket b;
  CHECK(b.take(rate, 0, 1e300) == 0);
  CHECK(b.take(rate, 0) == 100);
  CHECK(b.take(rate, 499, 5) == 1);
  CHECK(b.take(rate, 500, 6) == 0);
}

TEST_CASE("over a long time exactly the rate goes through, at any rate") {
  for (double per_second : {1.0, 7.0, 60.0, 999.0}) {
    const token_rate rate(per_second, per_second);
    token_bucket b;
    int through = 0;
    for (std::int64_t now = 0; now <= 10'000; ++now)
      while (b.take(rate, now) == 0) ++through;
    CHECK(through == static_cast<int>(per_second) * 11);  // the burst, and ten seconds
  }
}

TEST_CASE("what is charged is owed, until it has come in") {
  const token_rate rate(1000, 100);
  token_bucket b;
  CHECK(b.owed(rate, 7) == 0);
  b.charge(rate, 7, 100);
  CHECK(b.owed(rate, 7) == 0);
  b.charge(rate, 7, 50);
  CHECK(b.owed(rate, 7) == 50);
  CHECK(b.owed(rate, 56) == 1);
  CHECK(b.owed(rate, 57) == 0);
  CHECK_FALSE(b.full(156));
  CHECK(b.full(157));
}

TEST_CASE("a token that is given back can be taken again") {
  const token_rate rate(1, 1);
  token_bucket b;
  CHECK(b.take(rate, 0) == 0);
  b.give_back(rate);
  CHECK(b.take(rate, 0) == 0);
  CHECK(b.take(rate, 0) == 1000);
}

TEST_CASE("no rate is no limit") {
  for (const token_rate& none : {token_rate(), token_rate(0, 5)}) {
    token_bucket b;
    CHECK_FALSE(none);
    for (int i = 0; i < 1000; ++i) REQUIRE(b.take(none, 0) == 0);
    b.charge(none, 0, 1e18);
    CHECK(b.owed(none, 0) == 0);
    CHECK(b.full(0));
  }
}

TEST_CASE("no number is too large for a bucket") {
  for (double per_second : {1e-9, 1.0, 1e18}) {
    for (double burst : {0.0, 1.0, 1e18}) {
      const token_rate rate(per_second, burst);
      token_bucket b;
      for (int i = 0; i < 10; ++i) b.charge(rate, 1000, 1e18);
      CHECK(b.owed(rate, 1000) >= 0);
      CHECK(b.take(rate, 1000) >= 0);
    }
  }
}
