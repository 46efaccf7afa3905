// SPDX-License-Identifier: BSL-1.0
// A server that sends its clients away: who is told what, when, and what goes on meanwhile.
#include "hailwire/detail/connection/draining.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "detail/connection/stage.hpp"

using namespace hailwire;
using namespace stage;

namespace {

bool contains(const std::string& all, std::string_view part) { return all.find(part) != all.npos; }

/// `bye` as a notice, for that span.
std::string bye(std::int64_t from, std::int64_t to, const std::string& more = {}) {
  return R"({"bye":{"code":"draining","reconnect":true,"after":[)" + std::to_string(from) + ',' + std::to_string(to) +
         ']' + more + "}}";
}

struct rig : house {
  using house::house;
  int drained = 0;
  void drain(std::int64_t deadline, const drain_options& o = {}) {
    gate.drain.begin(deadline, o, [this] { ++drained; });
    run();
  }
  /// Clients that follow by WebSocket, each from an address of its own, and have heard `open`.
  std::vector<std::unique_ptr<client>> crowd(std::size_t n) {
    std::vector<std::unique_ptr<client>> all;
    for (std::size_t i = 0; i < n; ++i) {
      all.push_back(std::make_unique<client>(*this));
      all.back()->c->from = "198.51.100." + std::to_string(i % 250) + ":1";
      all.back()->join("?channel=chat");
    }
    return all;
  }
};

std::ptrdiff_t closed(const std::vector<std::unique_ptr<client>>& all) {
  return std::count_if(all.begin(), all.end(), [](auto& c) { return contains(c->c->received, "draining"); });
}

}  // namespace

TEST_CASE("each kind of client is told bye in its own words, and nothing is lost") {
  rig h;
  h.publish("chat", "1");
  client ws(h), raw(h), sse(h), ndjson(h), held(h);
  ws.join("?channel=chat");
  raw.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  sse.open(event_stream("?channel=chat"));
  ndjson.open(json_lines("?channel=chat"));
  held.send(get("/live?channel=chat&since=chat-1.1&wait=30"));
  CHECK_FALSE(h.gate.messages.publish("chat", payload::json("2")));  // in the same turn
  h.drain(10'000, {.url = "wss://b.example/live"});
  const std::string told = bye(0, 1000, R"(,"url":"wss://b.example/live")"), message = published("chat", 2, "2");
  CHECK(ws.hear() == lines{"text " + told, "close 1012 draining"});
  CHECK(raw.hear() == lines{"close 1012 draining"});
  CHECK(without_retry(sse.take()) == "retry: R\nevent: bye\ndata: " + told + "\n\n");
  CHECK(sse.c->ended_by_server);
  CHECK(ndjson.take() == told + '\n');
  CHECK(ndjson.c->ended_by_server);
  auto a = read_answer(held.take());
  CHECK(a["connection"] == "close");
  CHECK(a.body == R"({"messages":[)" + message + R"(],"notices":[)" + told + R"(],"cursor":"chat-1.2"})");
  h.advance(100);
  CHECK(h.drained == 1);
  // What was published meanwhile waits for all of them, at their cursors.
  client again(h);
}

TEST_CASE("what an EventSource is told to wait lies in the span that bye names") {
  rig h;
  auto c = testing::memory_connection::open(h.gate);
  c->send(event_stream("?channel=chat"));
  h.run();
  c->take();
  h.drain(10'000);
  const auto said = c->take();
  const auto wait = std::stol(said.substr(said.find("retry: ") + 7));
  const auto after = said.substr(said.find("[") + 1);
  CHECK(wait >= std::stol(after));
  CHECK(wait <= std::stol(after.substr(after.find(',') + 1)));
}

TEST_CASE("closes are paced, and all come back within one span that begins when the last is closed") {
  rig h;
  auto all = h.crowd(100);
  for (auto& c : all) c->take();
  h.drain(60'000, {.closes_per_second = 10, .returns_per_second = 10});
  CHECK(closed(all) == 2);  // what a tenth of a second has room for, and the one that is due now
  CHECK(contains(all[0]->c->received, bye(11'000, 11'000 + 12'500)));
  h.publish("chat", "1");
  CHECK(contains(all[50]->c->received, published("chat", 1, "1")));
  CHECK_FALSE(contains(all[0]->c->received, "data"));
  h.advance(5000);
  CHECK(closed(all) == 52);
  // Whoever is told later has so much less to wait.
  CHECK(contains(all[51]->c->received, bye(6000, 6000 + 12'500)));
  CHECK(h.drained == 0);
  h.advance(4700);
  CHECK(closed(all) == 99);
  CHECK(h.drained == 0);
  h.advance(100);
  CHECK(closed(all) == 100);
  CHECK(h.drained == 1);
}

TEST_CASE("who is sent away comes back at the rate at which this server lets newcomers in") {
  options o;
  o.newcomers_per_second = GENERATE(0u, 20u);
  o.ticket_key = std::string(32, 'k');  // with a random one three of them might meet in a bucket
  rig h(o);
  auto all = h.crowd(20);
  h.drain(0);
  const std::int64_t spread = o.newcomers_per_second ? 1250 : 1000;
  CHECK(contains(all[0]->c->received, bye(1000, 1000 + spread)));
}

TEST_CASE("closes are quicker when the deadline could not be kept else") {
  rig h;
  auto all = h.crowd(100);
  h.drain(2000, {.closes_per_second = 1});
  h.advance(1000);
  CHECK(closed(all) >= 50);
  CHECK(closed(all) <= 60);
  CHECK(h.drained == 0);
  h.advance(1000);
  CHECK(closed(all) == 100);
  CHECK(h.drained == 1);
}

TEST_CASE("while it drains nobody new is let in, in the words of each transport") {
  rig h;
  auto all = h.crowd(30);
  h.drain(60'000, {.closes_per_second = 1, .returns_per_second = 1});
  REQUIRE(h.drained == 0);
  for (const auto& request : {get("/live?channel=chat"), get("/live?channel=chat&wait=9"), upgrade("?channel=chat"),
                              json_lines("?channel=chat")}) {
    client c(h);
    auto a = c.ask(request);
    CHECK(a.status == 503);
    CHECK(a.has(R"("code":"draining")"));
    CHECK(std::stol(a["retry-after"]) >= 31);
    CHECK(std::stol(a["retry-after"]) <= 31 + 38);
    CHECK(a["connection"] == "close");
  }
  client sse(h);
  auto a = sse.ask(event_stream("?channel=chat"));
  CHECK(a.status == 200);
  CHECK(a.has(R"({"bye":{"code":"draining","reconnect":true,"after":[)"));
  // Who may not is told that all the same.
  CHECK(client(h).ask(get("/live?channel=secret")).status == 403);
}

TEST_CASE("a command under way is answered before its stream is closed") {
  rig h;
  client ws(h), posting(h);
  ws.join("?channel=chat");
  h.store.holding = true;
  ws.say(R"({"id":1,"publish":{"channel":"chat","data":1}})");
  posting.send(post("?channel=chat", "2"));
  h.drain(10'000);
  h.advance(1000);
  CHECK(ws.take().empty());
  CHECK(h.drained == 0);
  h.answer();
  h.advance(200);
  auto heard = ws.hear();
  REQUIRE(heard.size() == 5);
  CHECK(heard[0] == R"(text {"reply":1,"ok":{"epoch":"chat-1","offset":1}})");
  CHECK(contains(heard[3], R"({"bye":)"));
  CHECK(heard[4] == "close 1012 draining");
  auto a = read_answer(posting.take());
  CHECK(a.status == 201);
  CHECK(a["connection"] == "close");
  CHECK(h.drained == 1);
}

TEST_CASE("the host's publish under way is waited for") {
  rig h;
  h.store.holding = true;
  bool stored = false;
  CHECK_FALSE(
      h.gate.messages.publish("chat", payload::json("1"), {}, [&](std::error_code ec, position) { stored = !ec; }));
  h.drain(10'000);
  h.advance(5000);
  CHECK(h.drained == 0);
  h.answer();
  h.advance(100);
  CHECK(stored);
  CHECK(h.drained == 1);
}

TEST_CASE("at the deadline those who are left are told so and closed in one go") {
  rig h;
  auto all = h.crowd(20);
  client stuck(h), held(h), half(h);
  stuck.join("?channel=chat");
  h.store.holding = true;
  stuck.say(R"({"id":1,"publish":{"channel":"chat","data":1}})");
  held.send(get("/live?channel=new&since=earliest&wait=30"));  // what there is, is being read
  half.send("POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Le");
  h.drain(3000);
  h.advance(2999);
  CHECK(h.drained == 0);
  CHECK(stuck.take().empty());
  h.advance(101);
  CHECK(h.drained == 1);
  CHECK(stuck.hear() == lines{"text " + bye(1000, 2000), "close 1012 draining"});
}

TEST_CASE("without a session it is drained at once, and a deadline of nothing closes all at once") {
  rig empty;
  empty.drain(10'000);
  CHECK(empty.drained == 1);
  rig kept;
  client idle(kept);
  CHECK(idle.ask(get("/nowhere")).status == 404);
  kept.drain(10'000);
  CHECK(kept.drained == 1);
  rig many;
  auto all = many.crowd(50);
  many.drain(0, {.closes_per_second = 1});
  CHECK(closed(all) == 50);
  CHECK(many.drained == 1);
  CHECK(contains(all[49]->c->received, bye(1000, 2000)));
}

TEST_CASE("a poll whose start is still being read is answered with bye, and a stream is told it when it is open") {
  rig h;
  h.publish("chat", "1");
  h.store.holding = true;
  client poll(h), sse(h);
  poll.send(get("/live?channel=chat&since=chat-1.0&wait=30"));
  sse.send(event_stream("?channel=new&since=earliest"));
  h.drain(10'000);
  CHECK(h.drained == 0);
  h.answer();
  h.advance(200);
  CHECK(read_answer(poll.take()).has(R"("notices":[{"bye":)"));
  CHECK(contains(sse.take(), "event: bye\n"));
  CHECK(h.drained == 1);
}

TEST_CASE("drained once more, the earlier deadline holds and both handlers are called") {
  rig h;
  auto all = h.crowd(30);
  h.drain(60'000, {.closes_per_second = 1});
  h.drain(500);
  h.advance(499);
  CHECK(h.drained == 0);
  h.advance(101);
  CHECK(h.drained == 2);
  h.drain(500);
  h.advance(100);
  CHECK(h.drained == 3);
}

TEST_CASE("a host's own frames are closed with 1012") {
  rig h;
  h.gate.frame_routes.push_back(std::make_unique<detail::frame_route>(detail::frame_route{
      "/own", {}, [](const transport::live_request& a, const std::vector<std::string>& known, std::size_t most) {
        return transport::websocket::begin_plain(a, known, most);
      }}));
  client c(h);
  c.open(upgrade("", {}, "/own"), 101);
  h.drain(1000);
  CHECK(c.hear() == lines{"close 1012 draining"});
  CHECK(h.drained == 1);
}

TEST_CASE("whoever waits for the last connection hears of it, once") {
  rig h;
  int empty = 0;
  {
    client a(h), b(h);
    a.join("?channel=chat");
    b.ask(get("/nowhere"));
    h.gate.when_empty([&] { ++empty; });
    a.c->reset();
    h.run();
    CHECK(empty == 0);
    b.c->send_end();
    h.run();
    CHECK(empty == 1);
  }
  h.gate.when_empty([&] { ++empty; });
  CHECK(empty == 2);
}
