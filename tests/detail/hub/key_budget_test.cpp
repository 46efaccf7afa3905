// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/key_budget.hpp"

#include <cstdint>

#include "catch.hpp"

using namespace hailwire;

namespace {

constexpr std::int64_t life = 300'000;
constexpr detail::bits128 ada{1, 2}, bob{3, 4};

struct rig {
  detail::key_budget budget{life};
  detail::key_budget::charge last;
  std::int64_t take(const detail::bits128& who, std::uint64_t key, std::int64_t now, std::size_t most = 3) {
    last = {};
    return budget.take(who, key, now, most, last);
  }
};

}  // namespace

TEST_CASE("an owner has so many keys within a life, and is told when there is room for one more") {
  rig r;
  for (std::uint64_t k = 1; k <= 3; ++k) CHECK(r.take(ada, k, 29'999) == 0);
  const std::int64_t wait = r.take(ada, 4, 29'999);
  CHECK(wait == 30'000 + life - 29'999);  // when the whole slice is older than a life
  CHECK(r.last.at < 0);
  CHECK(r.take(bob, 4, 29'999) == 0);
  CHECK(r.take(ada, 4, 29'999 + wait - 1) == 1);
  CHECK(r.take(ada, 4, 29'999 + wait) == 0);
}

TEST_CASE("at the bound a key that is among those counted is not one more") {
  rig r;
  for (std::uint64_t k = 1; k <= 3; ++k) CHECK(r.take(ada, k, 0) == 0);
  CHECK(r.take(ada, 2, 100'000) == 0);
  CHECK(r.last.at < 0);  // and is not counted again
  CHECK(r.take(ada, 4, 100'000) > 0);
  CHECK(r.take(bob, 2, 100'000, 0) > 0);  // another's
}

TEST_CASE("what was not stored is given back, one for one") {
  rig r;
  CHECK(r.take(ada, 1, 0) == 0);
  CHECK(r.take(ada, 1, 0) == 0);
  const auto repeat = r.last;
  CHECK(r.take(ada, 2, 0) == 0);
  CHECK(r.take(ada, 3, 0) > 0);
  r.budget.give_back(repeat);
  CHECK(r.take(ada, 3, 0) == 0);
  CHECK(r.take(ada, 1, 0) == 0);  // the first of the two is still known
  r.budget.give_back({});         // nothing was counted
  CHECK(r.take(ada, 4, 0) > 0);
  r.budget.give_back({ada, 3, 0});
  r.budget.give_back({ada, 3, 0});  // once more than there were
  CHECK(r.take(ada, 4, 0) == 0);
  CHECK(r.take(ada, 5, 0) > 0);
}

TEST_CASE("one that is given back when its slice is over changes no later one") {
  rig r;
  CHECK(r.take(ada, 1, 0) == 0);
  const auto early = r.last;
  for (std::uint64_t k = 1; k <= 3; ++k) CHECK(r.take(ada, k, 12 * 30'000) == 0);  // the same place in the ring
  r.budget.give_back(early);
  CHECK(r.take(ada, 4, 12 * 30'000) > 0);
}

TEST_CASE("owners are forgotten a life after their last key") {
  rig r;
  CHECK(r.take(ada, 1, 0) == 0);
  CHECK(r.take(bob, 1, 60'000) == 0);
  CHECK(r.budget.owners() == 2);
  r.budget.sweep(30'000 + life - 1);
  CHECK(r.budget.owners() == 2);
  r.budget.sweep(30'000 + life);
  CHECK(r.budget.owners() == 1);
  CHECK(r.take(bob, 2, 90'000 + life - 1) == 0);
  r.budget.sweep(90'000 + life);
  CHECK(r.budget.owners() == 1);
}
