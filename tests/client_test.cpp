// SPDX-License-Identifier: BSL-1.0
// Clients and servers over real sockets, in one context. What the protocol asks of a client is tested in memory
// (detail/client/machine_test.cpp); here is what only sockets show.
#include "hailwire/client.hpp"

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/use_future.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "hailwire/storage/memory.hpp"
#include "run_until.hpp"

using namespace hailwire;

namespace {

using four = client<websocket, sse, long_poll, short_poll>;
using lines = std::vector<std::string>;

struct site {
  explicit site(const options& o = {}) : storage(std::make_unique<memory_storage>()), live(io, *storage, o) {
    live.authorize([](const request& r) -> decision {
      return grant{.user = std::string(r.param("user")), .follow = channel_set::all(), .publish = channel_set::all()};
    });
    port = live.listen("127.0.0.1", 0);
  }
  std::string url(const std::string& user = "ada") const {
    return "http://127.0.0.1:" + std::to_string(port) + "/live?user=" + user;
  }
  /// Runs until `done` is true.
  template <class F>
  void until(F done) {
    const bool is = run_until(io, std::move(done));  // what a handler throws leaves it here
    REQUIRE(is);
  }

  asio::io_context io;
  std::unique_ptr<memory_storage> storage;
  server<websocket, sse, long_poll, short_poll> live;
  std::uint16_t port = 0;
};

template <class Client>
lines follow_and_publish() {
  site s;
  lines heard;
  Client c(s.io, s.url(), {.poll_interval = std::chrono::milliseconds(20)});
  c.on_message([&](const client_message& m) { heard.push_back(std::string(m.from) + " " + std::string(m.data)); });
  c.follow("lobby", start::earliest());
  std::optional<position> stored;
  c.publish("lobby", payload::json("{\"n\":1}"), [&](const client_error& e, const position& p) {
    CHECK_FALSE(e);
    stored = p;
  });
  s.until([&] { return heard.size() == 1 && stored; });
  CHECK(stored->offset == 1);
  CHECK_FALSE(s.live.publish("lobby", payload::json("2")));
  s.until([&] { return heard.size() == 2; });
  CHECK(c.cursor() == stored->epoch + ".2");
  CHECK(c.pending() == 0);
  c.close();
  CHECK(c.status().now == client_status::state::stopped);
  return heard;
}

}  // namespace

TEST_CASE("a client follows and publishes over sockets, on each transport") {
  const lines expected{"ada {\"n\":1}", " 2"};
  CHECK(follow_and_publish<four>() == expected);
  CHECK(follow_and_publish<client<websocket>>() == expected);
  CHECK(follow_and_publish<client<sse>>() == expected);
  CHECK(follow_and_publish<client<long_poll>>() == expected);
  CHECK(follow_and_publish<client<short_poll>>() == expected);
}

TEST_CASE("a closed client leaves its context without work") {
  asio::io_context io;
  four c(io, "http://127.0.0.1:1/live");
  c.publish("a", payload::json("1"),
            [](const client_error& e, const position&) { CHECK(e.code == operation_aborted()); });
  c.on_status([&](const client_status& s) {
    if (s.now == client_status::state::waiting) c.close();
  });
  io.run();
  CHECK(c.status().now == client_status::state::stopped);
}

TEST_CASE("a client that is destroyed ends what it was asked, and calls nothing else") {
  asio::io_context io;
  std::error_code ended;
  {
    four c(io, "http://127.0.0.1:1/live");
    c.on_status([](const client_status& s) { CHECK(s.now == client_status::state::stopped); });
    c.publish("a", payload::json("1"), [&](const client_error& e, const position&) { ended = e.code; });
  }
  io.run();
  CHECK(ended == operation_aborted());
}

TEST_CASE("a URL that cannot be read is refused at once") {
  asio::io_context io;
  CHECK_THROWS_AS(four(io, "example.org/live"), std::invalid_argument);
  CHECK_THROWS_AS(four(io, "http://h/live", {.proxy = "nowhere"}), std::invalid_argument);
}

TEST_CASE("https without security says so") {
  asio::io_context io;
  four c(io, "https://127.0.0.1:1/live");
  std::string text;
  c.on_status([&](const client_status& s) {
    if (s.now == client_status::state::waiting) text = s.text, c.close();
  });
  io.run();
  CHECK(text == "an https URL needs client_options::tls");
}

TEST_CASE("publishes and questions as completion tokens") {
  site s;
  four c(s.io, s.url());
  auto stored = c.async_publish("lobby", payload::json("1"), asio::use_future);
  auto asked = c.async_ask("history", "{\"channel\":\"lobby\"}", asio::use_future);
  auto refused = c.async_publish("lobby", payload::json("{"), asio::use_future);
  auto ready = [](auto& f) { return f.wait_for(std::chrono::seconds(0)) == std::future_status::ready; };
  s.until([&] { return ready(stored) && ready(asked) && ready(refused); });
  CHECK(stored.get().offset == 1);
  CHECK(asked.get().starts_with("{\"messages\":["));
  CHECK_THROWS_AS(refused.get(), std::system_error);
}

TEST_CASE("several hundred clients share a context") {
  site s;
  std::size_t heard = 0, open = 0;  // before the clients, whose end is told too
  std::vector<std::unique_ptr<client<websocket>>> all;
  for (int i = 0; i < 300; ++i) {
    all.push_back(std::make_unique<client<websocket>>(s.io, s.url("u" + std::to_string(i))));
    all.back()->on_message([&](const client_message&) { ++heard; });
    all.back()->on_status([&](const client_status& st) { open += st.now == client_status::state::following; });
    all.back()->follow("lobby");
  }
  s.until([&] { return open == 300; });
  CHECK_FALSE(s.live.publish("lobby", payload::json("1")));
  s.until([&] { return heard == 300; });
}

TEST_CASE("what a handler throws leaves the context, and the message comes again") {
  site s;
  lines heard;
  bool throws = true;
  client<websocket> c(s.io, s.url());
  c.on_message([&](const client_message& m) {
    if (std::exchange(throws, false)) throw std::runtime_error("not now");
    heard.push_back(std::string(m.data));
  });
  c.follow("lobby", start::earliest());
  CHECK_FALSE(s.live.publish("lobby", payload::json("1")));
  CHECK_THROWS_WITH(s.until([&] { return !heard.empty(); }), "not now");
  s.until([&] { return !heard.empty(); });
  CHECK(heard == lines{"1"});
}
