// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/connection/admission.hpp"

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>

#include "catch.hpp"

using namespace hailwire;
using detail::admission;
using detail::tickets;

namespace {

constexpr std::int64_t unix_now = 1'767'225'600;

options with(std::size_t newcomers, std::optional<std::size_t> connections = {}) {
  options o;
  o.newcomers_per_second = newcomers;
  o.max_connections = connections;
  return o;
}

}  // namespace

TEST_CASE("a ticket is good for ten minutes, at every server that has its key, and names whose it is") {
  const std::string key = "sixteen bytes at";
  const tickets here(key), there(key);
  const auto ada = *here.owner("ada", "203.0.113.7"), eve = *here.owner("eve", "203.0.113.7");
  CHECK(ada != eve);
  CHECK(here.owner("ada", "::1") == ada);
  const std::string t = here.make(ada, unix_now);
  CHECK(t.size() == 38);
  CHECK(t.find("ada") == t.npos);
  REQUIRE(there.read(t, unix_now));
  CHECK(there.read(t, unix_now)->owner == ada);
  CHECK(there.read(t, unix_now)->left == 600);
  CHECK(there.read(t, unix_now + 599)->left == 1);
  CHECK_FALSE(there.read(t, unix_now + 600));
  CHECK_FALSE(there.read(t, unix_now - 1));  // from the future, as by a clock that was set
}

TEST_CASE("nothing but a ticket is one: not a byte of it can be changed, left out or added") {
  const tickets by("sixteen bytes at"), other("sixteen bytes of"), own(""), another("");
  const std::string t = by.make(7, unix_now);
  REQUIRE(by.read(t, unix_now));
  for (std::size_t i = 0; i < t.size(); ++i) {
    for (char c : {'A', 'Q', 'g', 'w', '-', '_', '+', '/', '=', ' ', '\0'}) {
      std::string changed = t;
      if (changed[i] == c) continue;
      changed[i] = c;
      CHECK_FALSE(by.read(changed, unix_now));
    }
  }
  for (const std::string& text : {std::string(), t.substr(1), t.substr(0, 37), t + 'A', t + "==", std::string(38, 'A')})
    CHECK_FALSE(by.read(text, unix_now));
  CHECK_FALSE(other.read(t, unix_now));
  CHECK_FALSE(another.read(own.make(7, unix_now), unix_now));
  CHECK(own.read(own.make(7, unix_now), unix_now));
}

TEST_CASE("an anonymous client's ticket is its address's, a /64 of IPv6 being one; who has neither gets none") {
  const tickets by("");
  CHECK(by.owner("", "203.0.113.7") == by.owner("", "203.0.113.7"));
  CHECK(by.owner("", "203.0.113.7") != by.owner("", "203.0.113.8"));
  CHECK(by.owner("", "2001:db8::1") == by.owner("", "2001:db8::2"));
  CHECK(by.owner("", "2001:db8::1") != by.owner("", "2001:db8:0:1::1"));
  CHECK(by.owner("", "203.0.113.7") != by.owner("203.0.113.7", ""));
  CHECK_FALSE(by.owner("", "unix"));
  CHECK_FALSE(by.owner("", "unknown"));
  CHECK_FALSE(by.owner("", ""));
}

TEST_CASE("a key of tickets is long, or absent") {
  CHECK_THROWS_AS(tickets(std::string(15, 'k')), std::invalid_argument);
  CHECK_NOTHROW(tickets(std::string(16, 'k')));
  CHECK_NOTHROW(tickets(std::string(1000, 'k')));
  CHECK(detail::random_key().size() == 16);
  CHECK(detail::random_key() != detail::random_key());
}

TEST_CASE("connections are counted up to their limit, those that are told so a little further") {
  admission door(with(0, 3));
  for (int i = 0; i < 3; ++i) CHECK(door.enter());
  CHECK_FALSE(door.enter());
  CHECK_FALSE(door.shut());
  for (std::size_t i = 2; i < admission::told; ++i) CHECK_FALSE(door.enter());
  CHECK_FALSE(door.shut());
  CHECK_FALSE(door.enter());
  CHECK(door.shut());
  CHECK(door.connections() == 3);
  door.leave(true);
  CHECK(door.enter());
  CHECK_FALSE(door.enter());
  door.leave(false);
  door.leave(false);
  CHECK_FALSE(door.shut());
}

TEST_CASE("without a limit there is none, and those of several servers count together") {
  admission none(with(0));
  for (int i = 0; i < 10'000; ++i) REQUIRE(none.enter());
  CHECK_FALSE(none.shut());
  admission a(with(0, 2)), b(with(0, 2));
  b.share(a);
  CHECK(a.enter());
  CHECK(b.enter());
  CHECK_FALSE(a.enter());
  CHECK_FALSE(b.enter());
}

TEST_CASE("so many newcomers a second, and each that is refused has a time of its own at which there is room") {
  admission door(with(10));
  for (int i = 0; i < 10; ++i) CHECK(door.newcomer({}, 1000) == 0);
  std::multiset<std::int64_t> told;
  for (int i = 0; i < 100; ++i) told.insert(door.newcomer({}, 1000));
  CHECK(*told.begin() >= 100);
  CHECK(*told.rbegin() <= 10'000);
  for (std::int64_t second = 0; second < 10; ++second)  // no more than there is room for come back in any second
    CHECK(std::distance(told.lower_bound(second * 1000 + 1), told.lower_bound((second + 1) * 1000 + 1)) <= 20);
  CHECK(door.newcomer({}, 1099) > 0);
  CHECK(door.newcomer({}, 1100) == 0);
}

TEST_CASE("nobody is sent away for longer than a minute, however many come") {
  admission door(with(1));
  door.newcomer({}, 0);
  for (int i = 0; i < 1000; ++i) CHECK(door.newcomer({}, 0) <= admission::longest_wait_ms);
  CHECK(door.newcomer({}, 0) == admission::longest_wait_ms);
}

TEST_CASE("who comes back has room of its own, and no one owner takes more than a tenth of it") {
  admission door(with(100));
  while (door.newcomer({}, 0) == 0) {
  }
  int ada = 0, all = 0;
  for (int i = 0; i < 50; ++i) ada += door.returns({7, 600}, 0);
  CHECK(ada == 10);
  for (std::uint64_t owner = 100; owner < 400; ++owner) all += door.returns({owner, 600}, 0);
  CHECK(all == 90);
  CHECK_FALSE(door.returns({500, 600}, 9));
  CHECK(door.returns({500, 600}, 10));
}

TEST_CASE("one address has a tenth of the room for newcomers, and more while half of it is left") {
  admission door(with(100));
  int flood = 0, others = 0;
  for (int i = 0; i < 100; ++i) flood += door.newcomer(1, 0) == 0;
  CHECK(flood == 50);  // 10 by its share, and what was above the half
  for (std::uint64_t address = 2; address < 7; ++address)
    for (int i = 0; i < 10; ++i) others += door.newcomer(address, 0) == 0;
  CHECK(others == 50);
  CHECK(door.newcomer(7, 0) > 0);  // there is nothing left
}

TEST_CASE("a flood from one address keeps nobody else out, for as long as it goes on") {
  admission door(with(100));
  int flood = 0, others = 0;
  for (std::int64_t ms = 0; ms < 60'000; ++ms) {
    for (int i = 0; i < 5; ++i) flood += door.newcomer(1, ms) == 0;
    if (ms % 20 == 0) others += door.newcomer(static_cast<std::uint64_t>(2 + ms / 20 % 500), ms) == 0;
  }
  CHECK(others == 3000);
  CHECK(flood > 2900);  // what the others leave is its own
}

TEST_CASE("where newcomers are not limited nothing is counted") {
  admission door(with(0));
  CHECK_FALSE(door.counts());
  for (int i = 0; i < 10'000; ++i) REQUIRE(door.newcomer({}, 0) == 0);
}
