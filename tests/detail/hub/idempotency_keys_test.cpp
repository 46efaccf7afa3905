// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/idempotency_keys.hpp"

#include <optional>

#include "catch.hpp"
#include "hailwire/error.hpp"

using namespace hailwire;

namespace {

using keys = detail::idempotency_keys<int>;
constexpr detail::bits128 one{1, 1}, two{2, 1}, like_one{1, 2}, print{7, 7};
const position at{"e", 5};

}  // namespace

TEST_CASE("a key is found by its whole name, from its first publish on") {
  keys all;
  CHECK_FALSE(all.find(one));
  auto& k = all.begin(one, print);
  CHECK(all.find(one) == &k);
  CHECK_FALSE(all.find(like_one));
  CHECK_FALSE(all.find(two));
  CHECK(k.at.offset == 0);
  CHECK(k.print == print);
  CHECK_FALSE(all.next());  // whoever is being stored does not run out
  all.expire(INT64_MAX);
  CHECK(all.find(one) == &k);
}

TEST_CASE("those who wait are handed back once, whatever has become of the first") {
  keys all;
  auto& stored = all.begin(one, print);
  stored.waiting.push_back(3);
  stored.waiting.push_back(4);
  auto waited = all.settle(stored, {}, at, 1000);
  REQUIRE(waited.size() == 2);
  CHECK(waited[0] == 3);
  CHECK(all.find(one)->at == at);
  CHECK(all.find(one)->waiting.size() == 0);
  auto& failed = all.begin(two, print);
  failed.waiting.push_back(5);
  CHECK(all.settle(failed, errc::internal, {}, 1000).size() == 1);
  CHECK_FALSE(all.find(two));
  CHECK(all.size() == 1);
}

TEST_CASE("a key lives for key_lifetime_ms from where it was stored, the oldest first") {
  keys all;
  all.settle(all.begin(one, print), {}, at, 1000);
  all.settle(all.begin(two, print), {}, at, 2000);
  CHECK(all.next() == std::optional<std::int64_t>(1000 + key_lifetime_ms));
  all.expire(1000 + key_lifetime_ms - 1);
  CHECK(all.size() == 2);
  all.expire(1000 + key_lifetime_ms);
  CHECK_FALSE(all.find(one));
  CHECK(all.find(two));
  all.expire(2000 + key_lifetime_ms);
  CHECK(all.size() == 0);
  CHECK_FALSE(all.next());
  all.settle(all.begin(one, print), {}, at, 3000);  // the chain begins anew
  CHECK(all.next() == std::optional<std::int64_t>(3000 + key_lifetime_ms));
  all.clear();
  CHECK_FALSE(all.next());
}
