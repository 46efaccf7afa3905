// SPDX-License-Identifier: BSL-1.0
// What a server counts, held against what its clients were given.
#include "hailwire/stats.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "detail/connection/stage.hpp"

using namespace stage;

namespace {

std::uint64_t times(const std::string& all, std::string_view part) {
  std::uint64_t n = 0;
  for (std::size_t at = 0; (at = all.find(part, at)) != all.npos; at += part.size()) ++n;
  return n;
}
std::uint64_t open_by(const server_stats& s, std::string_view transport, bool ever = false) {
  for (const auto& t : s.transports)
    if (t.name == transport) return ever ? t.opened : t.open;
  return UINT64_MAX;
}

}  // namespace

TEST_CASE("a duration is counted under the first bound that it does not pass") {
  duration_histogram h;
  h.add(0);
  h.add(10'000);
  h.add(10'001);
  h.add(10'000'000'000);
  h.add(10'000'000'001);
  CHECK(h.counts[0] == 2);
  CHECK(h.counts[1] == 1);
  CHECK(h.counts[h.bounds.size() - 1] == 1);
  CHECK(h.counts[h.bounds.size()] == 1);
  CHECK(h.count() == 5);
  CHECK(h.nanoseconds == 20'000'020'002);
}

TEST_CASE("statistics of several threads are added up; of the lags the largest counts") {
  server_stats a, b;
  a.transports = {{"sse", 3, 1}};
  b.transports = {{"sse", 4, 2}};
  a.published = 5, b.published = 6, a.lag = 7, b.lag = 3;
  a.refused[3] = 1, b.refused[3] = 2;
  b.turn.add(1), b.draining = true;
  server_stats sum;
  sum += a;
  sum += b;
  CHECK(sum.published == 11);
  CHECK(sum.lag == 7);
  CHECK(sum.refused[3] == 3);
  CHECK(sum.turn.count() == 1);
  CHECK(sum.draining);
  CHECK(sum.sessions() == 3);
  CHECK(open_by(sum, "sse", true) == 7);
}

TEST_CASE("one in so many is measured") {
  detail::sampler s;
  unsigned measured = 0;
  for (unsigned i = 0; i < 3 * detail::sampler::every; ++i) measured += s.next();
  CHECK(measured == 3);
}

TEST_CASE("deliveries are the messages that clients were given, whatever their transport and however slow") {
  house h;
  std::string got;
  auto take = [&](client& c) { got += c.take(); };
  client ws(h), sse(h), several(h), ndjson(h), raw(h), narrow(h);
  ws.join("?channel=chat");
  raw.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  sse.open(event_stream("?channel=chat"));
  several.open(event_stream("?channel=chat&channel=news"));
  ndjson.open(json_lines("?channel=chat"));
  narrow.join("?channel=chat");
  narrow.narrow(0);
  for (int i = 0; i < 10; ++i) {
    CHECK_FALSE(h.gate.messages.publish("chat", payload::json("\"M\"")));
    if (i % 3) h.run();
    if (i == 5) narrow.widen(40);  // a part of a frame
  }
  h.publish("news", "\"M\"");
  auto s = h.gate.stats();
  CHECK(s.slow == 1);
  CHECK(s.lag >= 9);
  CHECK(s.memory > 0);
  narrow.widen();
  client late(h);
  got += late.open(upgrade("?channel=chat&since=earliest"), 101);
  client poll(h);
  got += poll.ask(get("/live?channel=chat&since=chat-1.4")).body;
  client held(h);
  held.send(get("/live?channel=chat&since=chat-1.10&wait=30"));
  h.publish("chat", "\"M\"");
  for (client* c : {&ws, &raw, &sse, &several, &ndjson, &narrow, &late, &held}) take(*c);
  s = h.gate.stats();
  CHECK(s.deliveries == times(got, "\"M\"") + times(got, "\x81\x01M"));
  CHECK(s.published == 12);
  CHECK(s.slow == 0);
  CHECK(s.lag == 0);
  CHECK(s.channels == 2);
}

TEST_CASE("connections, sessions and bytes are counted as they come and go") {
  house h;
  auto a = std::make_unique<client>(h), b = std::make_unique<client>(h);
  std::uint64_t sent = 0;
  auto say = [&](client& c, const std::string& bytes) { sent += bytes.size(), c.send(bytes); };
  say(*a, upgrade("?channel=chat"));
  say(*b, get("/live?channel=chat&since=earliest&wait=30"));
  auto s = h.gate.stats();
  CHECK(s.accepted == 2);
  CHECK(s.connections == 2);
  CHECK(s.sessions() == 2);
  CHECK(open_by(s, "websocket") == 1);
  CHECK(open_by(s, "long_poll") == 1);
  CHECK(open_by(s, "sse") == 0);
  CHECK(s.bytes_in == sent);
  h.publish("chat", "1");
  std::uint64_t received = a->c->received.size() + b->c->received.size();
  s = h.gate.stats();
  CHECK(s.bytes_out == received);
  CHECK(open_by(s, "long_poll") == 0);
  a->c->reset();
  h.run();
  s = h.gate.stats();
  CHECK(s.connections == 1);
  CHECK(open_by(s, "websocket") == 0);
  CHECK(open_by(s, "websocket", true) == 1);
  CHECK(s.accepted == 2);
  CHECK_FALSE(s.draining);
  h.gate.drain.begin(1000, {}, [] {});
  CHECK(h.gate.stats().draining);
}

TEST_CASE("refusals are counted by their code, of requests, commands and batches") {
  house h;
  client(h).ask(get("/nowhere"));
  client(h).ask(get("/live?channel=secret"));
  client ws(h);
  ws.join("?channel=chat");
  ws.say(R"({"id":1,"subscribe":{"channel":"secret"}})");
  ws.say("no JSON");
  client(h).ask(post("", R"([{"id":1,"publish":{"channel":"secret","data":1}}])"));
  auto s = h.gate.stats();
  CHECK(s.refused[static_cast<std::size_t>(errc::not_found)] == 1);
  CHECK(s.refused[static_cast<std::size_t>(errc::forbidden)] == 3);
  CHECK(s.refused[static_cast<std::size_t>(errc::bad_request)] == 1);
}

TEST_CASE("gaps and publishes that were not stored are counted; what waits is seen") {
  house h;
  h.store.keep = 2;
  for (int i = 0; i < 5; ++i) h.publish("chat", "1");
  client c(h);
  c.join("?channel=chat&since=chat-1.1");
  CHECK(h.gate.stats().gaps == 1);
  h.store.holding = true;
  CHECK_FALSE(h.gate.messages.publish("chat", payload::json("2")));
  CHECK(h.gate.stats().pending == 1);
  h.store.failing = errc::overloaded;
  h.answer();
  CHECK(h.gate.stats().pending == 0);
  CHECK(h.gate.stats().failed == 1);
}

TEST_CASE("turns and what a storage takes are measured now and then") {
  house h;
  client c(h);
  c.join("?channel=chat");
  for (int i = 0; i < 200; ++i) h.publish("chat", "1");
  for (int i = 0; i < 200; ++i) h.gate.messages.history("chat", {}, 1, [](history_result) {});
  h.run();
  auto s = h.gate.stats();
  CHECK(s.turn.count() >= 200 / detail::sampler::every);
  CHECK(s.append.count() == 200 / detail::sampler::every);
  CHECK(s.reading.count() >= 200 / detail::sampler::every);
}
