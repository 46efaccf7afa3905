// SPDX-License-Identifier: BSL-1.0
// What a hub may expect of any event loop (detail/base/event_loop.hpp), shown on the one that tests turn by hand.
#include "hailwire/testing/manual_loop.hpp"

#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"

using hailwire::testing::manual_loop;

namespace {

TEST_CASE("what is posted runs in order, never from within post, and what that posts runs too") {
  manual_loop loop;
  std::string said;
  loop.post([&] {
    loop.post([&] { said += 'c'; });
    said += 'a';
  });
  loop.post([&] { said += 'b'; });
  CHECK(said.empty());
  CHECK(loop.run() == 3);
  CHECK(said == "abc");
  CHECK(loop.run() == 0);
  CHECK_FALSE(loop.run_one());
}

TEST_CASE("an alarm rings once, at its time, and the clock stands there while it rings") {
  manual_loop loop;
  std::vector<std::int64_t> rang;
  loop.on_alarm([&] { rang.push_back(loop.now()); });
  const std::int64_t start = loop.now();
  CHECK_FALSE(loop.waiting());
  loop.alarm(start + 100);
  CHECK(loop.waiting());
  loop.advance(99);
  CHECK(rang.empty());
  loop.advance(1);
  CHECK(rang == std::vector<std::int64_t>{start + 100});
  loop.advance(1000);
  CHECK(rang.size() == 1);
  CHECK(loop.now() == start + 1100);
}

TEST_CASE("a later alarm replaces an earlier one, and no_alarm takes it back") {
  manual_loop loop;
  int rang = 0;
  loop.on_alarm([&] { ++rang; });
  loop.alarm(loop.now() + 10);
  loop.alarm(loop.now() + 50);
  loop.advance(49);
  CHECK(rang == 0);
  loop.alarm(manual_loop::no_alarm);
  CHECK_FALSE(loop.waiting());
  loop.advance(1000);
  CHECK(rang == 0);
  loop.alarm(loop.now());  // due already
  loop.advance(0);
  CHECK(rang == 1);
}

TEST_CASE("an alarm that sets the next one rings as often as time allows, and posts run between") {
  manual_loop loop;
  std::string said;
  loop.on_alarm([&] {
    said += std::to_string(loop.now() % 1000) + ' ';
    loop.alarm(loop.now() + 10);
    loop.post([&] { said += "p "; });
  });
  loop.alarm(loop.now() + 10);
  loop.advance(35);
  CHECK(said == "10 p 20 p 30 p ");
}

TEST_CASE("Unix time goes with the loop's clock, and may be set while that goes on") {
  manual_loop loop;
  const std::int64_t unix_time = loop.unix_time(), now = loop.now();
  loop.advance(500);
  CHECK(loop.unix_time() == unix_time + 500);
  loop.set_unix_time(5);
  CHECK(loop.unix_time() == 5);
  CHECK(loop.now() == now + 500);
  loop.advance(7);
  CHECK(loop.unix_time() == 12);
}

TEST_CASE("other threads may post, and are not the loop's") {
  manual_loop loop;
  int ran = 0;
  std::vector<std::thread> threads;
  std::vector<char> here(4, 1);
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      here[t] = loop.here();
      for (int i = 0; i < 1000; ++i) loop.post([&] { ++ran; });
    });
  for (auto& t : threads) t.join();
  CHECK(here == std::vector<char>(4, 0));
  CHECK(loop.here());
  CHECK(loop.run() == 4000);
  CHECK(ran == 4000);
}

}  // namespace
