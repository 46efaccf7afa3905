// SPDX-License-Identifier: BSL-1.0
// A server of its own thread in a loop of the host's: one descriptor is watched, and what is ready is done without
// waiting. The rest of the epoll driver is seen in epoll_test.cpp and server_test.cpp.
#include "hailwire/detail/io/epoll.hpp"

#include <poll.h>

#include <asio/io_context.hpp>

#include <string>

#include "catch.hpp"
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"
#include "socket_client.hpp"

using namespace hailwire;
using namespace hailwire::test;

namespace {

bool readable(int descriptor, std::chrono::milliseconds within = std::chrono::milliseconds(0)) {
  pollfd one{descriptor, POLLIN, 0};
  return ::poll(&one, 1, static_cast<int>(within.count())) == 1;
}

/// The smallest loop of a host: until what it waits for has come.
template <class Server, class Until>
void loop(Server& s, Until until) {
  while (!until()) {
    REQUIRE(readable(s.native_handle(), limit));
    if (!s.poll()) break;
  }
}

}  // namespace

TEST_CASE("the descriptor is readable while there is something to do, and only then") {
  detail::own_thread_driver d;
  while (readable(d.native_handle())) d.poll();

  SECTION("what was posted") {
    int ran = 0;
    d.post([&] { ++ran; });
    CHECK(readable(d.native_handle()));
    CHECK(d.poll());
    CHECK(ran == 1);
    CHECK_FALSE(readable(d.native_handle()));
  }
  SECTION("an alarm") {
    int rung = 0;
    d.on_alarm([&] { ++rung; });
    d.alarm(d.now() + 5);
    CHECK(readable(d.native_handle(), limit));
    d.poll();
    CHECK(rung == 1);
    CHECK_FALSE(readable(d.native_handle()));
    d.alarm(d.now() + 3'600'000);
    CHECK_FALSE(readable(d.native_handle()));
  }
  SECTION("what a turn leaves over, because it is bounded") {
    int ran = 0;
    std::function<void()> again = [&] {
      if (++ran < 100) d.post(again);
    };
    d.post(again);
    int turns = 0;
    while (ran < 100) {
      ++turns;
      REQUIRE(readable(d.native_handle()));
      d.poll();
    }
    CHECK(turns > 1);
    CHECK_FALSE(readable(d.native_handle()));
  }
  SECTION("what a posted function has thrown over") {
    int ran = 0;
    d.post([] { throw 1; });
    d.post([&] { ++ran; });
    CHECK_THROWS_AS(d.poll(), int);
    CHECK(readable(d.native_handle()));
    CHECK_FALSE(d.elsewhere());
    d.poll();
    CHECK(ran == 1);
  }
  SECTION("a turn is not begun within a turn") {
    int ran = 0;
    d.post([&] {
      d.post([&] { ++ran; });
      CHECK(d.poll());
      CHECK(ran == 0);
    });
    while (ran == 0) d.poll();
  }
}

TEST_CASE("a server in a host's own loop serves, publishes between turns, and says when it is done") {
  server<sse> live(own_thread);
  live.authorize([](const request&) { return decision(grant{.follow = channel_set::all()}); });
  wire c(live.listen("127.0.0.1", 0));
  c.send(event_stream("?channel=chat"));
  loop(live, [&] { return !live.sessions().empty(); });
  int stored = 0;
  REQUIRE_FALSE(
      live.publish("chat", payload::text("between two turns"), [&](std::error_code ec, position) { stored += !ec; }));
  loop(live, [&] { return stored == 1; });
  CHECK(contains(c.until("\"}\n"), "between two turns"));

  live.stop();
  CHECK(live.poll());  // the client has not closed yet
  CHECK(contains(c.all(), "0\r\n\r\n"));
  c.end();
  loop(live, [] { return false; });
  CHECK_FALSE(live.poll());
}

TEST_CASE("a stopped server that nobody has come to is done at the next turn") {
  server<sse> live(own_thread);
  live.listen("127.0.0.1", 0);
  while (readable(live.native_handle())) CHECK(live.poll());
  live.stop();
  CHECK(readable(live.native_handle()));
  CHECK_FALSE(live.poll());
}

TEST_CASE("a server on an executor has no descriptor to watch") {
  asio::io_context io;
  server<sse> live(io);
  CHECK_THROWS_AS(live.native_handle(), std::logic_error);
  CHECK_THROWS_AS(live.poll(), std::logic_error);
}
