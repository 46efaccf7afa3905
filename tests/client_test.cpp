// SPDX-License-Identifier: BSL-1.0
// Clients and servers over real sockets, in one context. What the protocol asks of a client is tested in memory
// (detail/client/machine_test.cpp); here is what only sockets show.
#include "hailwire/client.hpp"

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
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
  explicit site(const options& o = {}, const memory_options& kept = {})
      : storage(std::make_unique<memory_storage>(kept)), live(io, *storage, o) {
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

namespace {

/// Waits for the next event of a client.
template <class Client>
client_event next_of(site& s, Client& c) {
  std::optional<std::error_code> ended;
  client_event out;
  c.async_receive([&](std::error_code ec, client_event e) {
    ended = ec;
    out = std::move(e);
  });
  s.until([&] { return ended.has_value(); });
  CHECK_FALSE(*ended);
  return out;
}

}  // namespace

TEST_CASE("events are received one after the other, and the cursor follows the application") {
  site s;
  for (const char* json : {"{\"n\":1}", "2"}) CHECK_FALSE(s.live.publish("lobby", payload::json(json)));
  CHECK_FALSE(s.live.publish("lobby", payload::binary(std::string("\0\1", 2)), {.type = "raw"}));
  four c(s.io, s.url());
  lines cursors;
  c.on_cursor([&](const std::string& at) { cursors.push_back(at); });
  c.follow("lobby", start::earliest());
  client_event e = next_of(s, c);
  CHECK(e.message().data == "{\"n\":1}");
  CHECK(e.message().channel == "lobby");
  CHECK(e.message().json.find(e.message().data) != std::string_view::npos);
  const client_event moved = std::move(e);
  CHECK(moved.message().data == "{\"n\":1}");
  CHECK(c.cursor().ends_with(".0"));  // it is at work with the first one
  CHECK(next_of(s, c).message().data == "2");
  CHECK(c.cursor().ends_with(".1"));
  e = next_of(s, c);
  CHECK((e.message().binary && e.message().bytes == std::string_view("\0\1", 2) && e.message().type == "raw"));
  CHECK(e.gap() == nullptr);
  CHECK(c.cursor().ends_with(".2"));
  c.async_receive([](std::error_code, client_event) {});
  s.until([&] { return !cursors.empty() && cursors.back().ends_with(".3"); });
  CHECK(c.cursor().ends_with(".3"));
}

TEST_CASE("a gap is an event in its place") {
  site s;
  s.storage = std::make_unique<memory_storage>(memory_options{.messages = 1});
  server<websocket> live(s.io, *s.storage);
  live.authorize([](const request&) { return grant{.follow = channel_set::all()}; });
  const auto port = live.listen("127.0.0.1", 0);
  for (int i = 1; i <= 3; ++i) CHECK_FALSE(live.publish("lobby", payload::json(std::to_string(i))));
  client<websocket> c(s.io, "http://127.0.0.1:" + std::to_string(port) + "/live");
  const std::string epoch = s.storage->read("lobby", 0, {0, 0}).epoch;
  c.follow("lobby", start{start::word::at, {epoch, 1}});
  const client_event e = next_of(s, c);
  REQUIRE(e.gap());
  CHECK((e.gap()->reason == "trimmed" && e.gap()->next == 3 && e.gap()->channel == "lobby"));
  CHECK(next_of(s, c).message().data == "3");
  c.close();
}

template <class Client>
void take_its_time() {
  site s({}, {.messages = 10'000, .bytes = 64u << 20});
  const std::string text(10'000, 'x');
  constexpr int count = 1000;  // far more than sockets hold
  Client c(s.io, s.url(), {.max_unreceived = 64 * 1024, .poll_interval = std::chrono::milliseconds(1)});
  c.follow("lobby", start::earliest());
  std::optional<client_event> got;
  c.async_receive([&](std::error_code, client_event e) { got = std::move(e); });
  int published = 0;
  for (; published < count; ++published) {
    CHECK_FALSE(s.live.publish("lobby", payload::json("\"" + std::to_string(published) + text + "\"")));
    s.io.poll();
  }
  s.until([&] { return got.has_value(); });
  std::size_t most = 0;
  for (int i = 0; i < 20'000; ++i) s.io.poll_one(), most = std::max(most, c.unreceived());
  // What one read brings, of a poll one answer, comes on top.
  CHECK(most >= 64 * 1024);
  CHECK(most < 3 * 1024 * 1024);
  int heard = 0;
  for (;;) {
    const auto wanted = "\"" + std::to_string(heard) + "x";
    if (got->message().data.substr(0, wanted.size()) != wanted) break;
    if (++heard == count) break;
    got.reset();
    c.async_receive([&](std::error_code, client_event e) { got = std::move(e); });
    s.until([&] { return got.has_value(); });
  }
  CHECK(heard == count);
  c.close();
}

TEST_CASE("a client that takes its time costs its memory a bound, and loses nothing") {
  SECTION("WebSocket") { take_its_time<client<websocket>>(); }
  SECTION("event stream") { take_its_time<client<sse>>(); }
  SECTION("long poll") { take_its_time<client<long_poll>>(); }
}

TEST_CASE("receiving ends with its client, behind what has come; one call at a time; a cancelled one loses nothing") {
  site s;
  four c(s.io, s.url());
  c.follow("lobby", start::earliest());
  std::vector<std::pair<std::error_code, std::string>> told;
  auto tell = [&](std::error_code ec, client_event e) { told.emplace_back(ec, std::string(e.message().data)); };
  asio::cancellation_signal stop;
  c.async_receive(asio::bind_cancellation_slot(stop.slot(), tell));
  c.async_receive(tell);
  s.until([&] { return told.size() == 1; });
  CHECK(told[0].first == std::errc::operation_in_progress);
  stop.emit(asio::cancellation_type::all);
  s.until([&] { return told.size() == 2; });
  CHECK(told[1].first == operation_aborted());
  CHECK_FALSE(s.live.publish("lobby", payload::json("1")));
  CHECK_FALSE(s.live.publish("lobby", payload::json("2")));
  s.until([&] { return c.unreceived() > 0; });
  CHECK(next_of(s, c).message().data == "1");
  s.until([&] { return c.unreceived() > 0; });
  c.close();
  CHECK(next_of(s, c).message().data == "2");
  told.clear();
  c.async_receive(tell);
  s.until([&] { return told.size() == 1; });
  CHECK(told[0].first == operation_aborted());
  {
    four gone(s.io, s.url());
    gone.async_receive(tell);
  }
  s.until([&] { return told.size() == 2; });
  CHECK(told[1].first == operation_aborted());
}

TEST_CASE("what was left is not received") {
  site s;
  four c(s.io, s.url());
  c.follow("lobby", start::earliest());
  c.follow("other", start::earliest());
  std::optional<client_event> first;
  c.async_receive([&](std::error_code, client_event e) { first = std::move(e); });
  for (const char* channel : {"lobby", "lobby", "other"}) CHECK_FALSE(s.live.publish(channel, payload::json("1")));
  s.until([&] { return first && c.unreceived() > 100; });
  c.unfollow("lobby");
  CHECK(next_of(s, c).message().channel == "other");
}

namespace {

struct quiet_notifier {
  std::string_view service() const { return "webhook"; }
  result<push_token> accept(std::string_view object, const push_token&) {
    accepted.emplace_back(object);
    return push_token{"w"};
  }
  void async_notify(push_device, push_notice, push_handler done) { done({push_outcome::delivered, {}}); }
  lines accepted;
};

}  // namespace

TEST_CASE("who follows, taking back and where to be woken are asked by a function each") {
  quiet_notifier notifier;
  options o;
  o.channels = {{.pattern = "lobby", .presence = true}};
  site s(o);
  s.live.add_notifier(notifier);
  s.live.on_erase([](session&, std::string_view, const message&) { return true; });
  client<websocket> c(s.io, s.url("ada&device=phone"));
  lines told;
  c.on_message([&](const client_message& m) { told.push_back("erases " + std::to_string(m.erases)); });
  c.follow("lobby");
  s.until([&] { return c.status().now == client_status::state::following; });
  std::optional<client_presence> who;
  c.presence("lobby", [&](const client_error& e, const client_presence& p) {
    CHECK_FALSE(e);
    who = p;
  });
  s.until([&] { return who.has_value(); });
  REQUIRE(who->members.size() == 1);
  CHECK((who->members[0].user == "ada" && who->members[0].sessions == 1 && who->count == 1 && who->anonymous == 0));
  std::optional<position> stored, erased;
  c.publish("lobby", payload::json("1"), [&](const client_error&, const position& p) { stored = p; });
  s.until([&] { return stored.has_value(); });
  c.erase("lobby", *stored, [&](const client_error& e, const position& p) {
    CHECK_FALSE(e);
    erased = p;
  });
  s.until([&] { return erased && told.size() == 2; });
  CHECK(erased->offset == 2);
  CHECK(told == lines{"erases 0", "erases 1"});
  std::optional<client_error> kept, numbers;
  c.device({.push = "webhook", .token = "\"word\""}, [&](const client_error& e) { kept = e; });
  c.presence(
      "other",
      [&](const client_error& e, const client_presence& p) {
        numbers = e;
        CHECK(p.count == 0);
      },
      false);
  s.until([&] { return kept && numbers; });
  CHECK_FALSE(*kept);
  CHECK(notifier.accepted == lines{R"({"push":"webhook","token":"word"})"});
  CHECK(numbers->code == errc::not_found);
  CHECK(s.storage->tokens("ada").tokens.size() == 1);
}

TEST_CASE("a device is named by what its service calls it") {
  struct fcm : quiet_notifier {
    std::string_view service() const { return "fcm"; }
  } notifier;
  site s;
  s.live.add_notifier(notifier);
  client<websocket> c(s.io, s.url("ada&device=phone"));
  int ended = 0;
  auto done = [&](const client_error& e) {
    CHECK_FALSE(e);
    ++ended;
  };
  c.device({.push = "fcm", .fid = "c\"F"}, done);
  s.until([&] { return ended == 1; });
  CHECK(s.storage->tokens("ada").tokens.size() == 1);
  c.device({.push = "fcm", .token = "\"t\"", .sandbox = true}, done);
  s.until([&] { return ended == 2; });
  c.forget_device("fcm", done);
  s.until([&] { return ended == 3; });
  CHECK(s.storage->tokens("ada").tokens.empty());
  CHECK(notifier.accepted ==
        lines{R"({"push":"fcm","fid":"c\"F"})", R"({"push":"fcm","token":"t","environment":"sandbox"})"});
}

TEST_CASE("content is fetched over a connection of its own") {
  site s;
  client<websocket> c(s.io, s.url("ada&signal=1"));
  std::optional<client_content> got;
  c.on_message([&](const client_message& m) {
    CHECK((m.size == 100'000 && m.content_type == "text/plain;charset=utf-8"));
    c.fetch(m, [&](const client_error& e, client_content what) {
      CHECK_FALSE(e);
      got = std::move(what);
    });
  });
  c.follow("lobby", start::earliest());
  CHECK_FALSE(s.live.publish("lobby", payload::text(std::string(100'000, 'x'))));
  s.until([&] { return got.has_value(); });
  CHECK((got->bytes == std::string(100'000, 'x') && got->type == "text/plain;charset=utf-8"));
  auto again = c.async_fetch("lobby", {"nothing", 1}, asio::use_future);
  s.until([&] { return again.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  CHECK_THROWS_AS(again.get(), std::system_error);
}
