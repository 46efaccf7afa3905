// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/senders.hpp"

#include <cstddef>
#include <string>
#include <utility>

#include "catch.hpp"

using namespace hailwire;
using detail::sender_table;

namespace {

options with(std::size_t commands, std::size_t bytes) {
  options o;
  o.commands_per_second = commands;
  o.bytes_per_second = bytes;
  return o;
}

}  // namespace

TEST_CASE("whoever sends is one sender over all its connections, and those of different kinds are different") {
  sender_table t(with(2, 0));
  auto a = t.obtain('@', "ada", 0), again = t.obtain('@', "ada", 0), scope = t.obtain('?', "ada", 0);
  CHECK(&*a == &*again);
  CHECK(&*a != &*scope);
  CHECK(t.command(*a, 0) == 0);
  CHECK(t.command(*again, 0) == 0);
  CHECK(t.command(*a, 0) == 500);
  CHECK(t.command(*scope, 0) == 0);
  CHECK(t.command(*a, 499) == 1);
  CHECK(t.command(*a, 500) == 0);
}

TEST_CASE("bytes are owed past a second's worth, to the byte") {
  sender_table t(with(0, 1000));
  auto a = t.obtain('@', "ada", 0);
  auto received = [&](std::size_t bytes) {
    t.note(*a, bytes);
    return t.count(*a, 0);
  };
  CHECK_FALSE(received(999));
  CHECK(t.owed(*a, 0) == 0);
  received(1);
  CHECK(t.owed(*a, 0) == 0);
  received(1);
  CHECK(t.owed(*a, 0) == 1);
  CHECK(received(499));
  CHECK(t.owed(*a, 0) == 500);
  CHECK(t.owed(*a, 500) == 0);
}

TEST_CASE("without limits nothing is counted") {
  sender_table t(with(0, 0));
  CHECK_FALSE(t.limits());
  CHECK(sender_table(with(1, 0)).limits());
  CHECK(sender_table(with(0, 1)).limits());
}

TEST_CASE("senders of whom nothing counts any more are forgotten when many are known, but for those that are held") {
  sender_table t(with(1, 0));
  auto held = t.obtain('@', "held", 0);
  auto* over = &*t.obtain('@', "over", 0);
  CHECK(t.command(*over, 0) == 0);
  for (int i = 2; i < 256; ++i) t.obtain('#', std::to_string(i), 0);
  CHECK(t.size() == 256);
  t.obtain('#', "one more", 0);
  CHECK(t.size() == 3);
  CHECK(&*t.obtain('@', "over", 0) == over);
  CHECK(t.command(*over, 0) == 1000);
  CHECK(&*t.obtain('@', "held", 0) == &*held);
}

TEST_CASE("a sender that is held outlives its table") {
  detail::intrusive_ptr<detail::sender> held;
  {
    sender_table t(with(1, 0));
    held = t.obtain('@', "ada", 0);
    t.obtain('@', "eve", 0);
  }
  CHECK(held->kind == '@');
}

TEST_CASE("bytes are counted when there are many, and soon where few are allowed") {
  for (auto& [rate, batch] : {std::pair<std::size_t, std::size_t>(8u << 20, 4096), {256'000, 1000}, {256, 1}}) {
    sender_table t(with(0, rate));
    auto a = t.obtain('@', "ada", 0);
    if (batch > 1) CHECK_FALSE(t.note(*a, batch - 1));
    CHECK(t.note(*a, 1));
    t.count(*a, 0);
    CHECK(t.note(*a, 1) == (batch == 1));
  }
}
