// SPDX-License-Identifier: BSL-1.0
// The limits of one connection, each at its last moment or byte within, and at the first one past it.

#include <string>

#include "detail/connection/stage.hpp"

using namespace hailwire;
using namespace stage;

namespace {

bool contains(const std::string& all, std::string_view part) { return all.find(part) != all.npos; }

/// The timer wheel may ring so much later than it was armed for, never earlier.
constexpr std::int64_t late = 300;

// ---- time

TEST_CASE("a request head has its time from its first byte on, however many more trickle in") {
  house h;
  const bool kept = GENERATE(false, true);  // or the second request of a connection
  client c(h);
  if (kept) {
    CHECK(c.ask(get("/live?channel=chat")).status == 200);
    h.advance(9'500);  // idle, which does not count; for longer it would look like a loop that stood still
  }
  std::string head = "GET /live?channel=chat HTTP/1.1\r\nHost: h\r\nX: ";
  for (int i = 0; i < 99; ++i) {  // at 0, 100, … 9,800 ms
    c.send(i < static_cast<int>(head.size()) ? head.substr(static_cast<std::size_t>(i), 1) : "x");
    h.advance(100);
    REQUIRE(c.take().empty());
  }
  h.advance(99);
  CHECK(c.take().empty());
  SECTION("and is then refused") {
    h.advance(1 + late);
    CHECK(read_answer(c.take()).status == 408);
    CHECK(c.c->ended_by_server);
  }
  SECTION("but is answered when it ends just in time") {
    c.send("\r\n\r\n");
    CHECK(read_answer(c.take()).status == 200);
  }
}

TEST_CASE("empty lines before a request do not give it more time") {
  house h;
  client c(h);
  for (int i = 0; i < 98 && !c.c->ended_by_server; ++i) {
    c.send(i % 2 ? "\n" : "\r");
    h.advance(400);
  }
  h.advance(late);
  CHECK(c.c->ended_by_server);
}

TEST_CASE("a request body has its time from its head on, however many bytes trickle in") {
  house h;
  const bool chunked = GENERATE(false, true);
  client c(h);
  c.send(std::string("POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n") +
         (chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "Content-Length: 100\r\n\r\n"));
  for (int i = 0; i < 59; ++i) {  // at 0, 500, … 29,000 ms
    c.send(chunked ? "1\r\nx\r\n" : "x");
    h.advance(500);
    REQUIRE(c.take().empty());
  }
  h.advance(499);
  CHECK(c.take().empty());
  SECTION("and is then refused") {
    h.advance(1 + late);
    CHECK(read_answer(c.take()).status == 408);
  }
  SECTION("but is answered when it ends just in time") {
    c.send(chunked ? "0\r\n\r\n" : std::string(41, 'x'));
    CHECK(read_answer(c.take()).status == 201);
  }
}

TEST_CASE("what a peer still sends while its connection ends does not put off the end") {
  options o;
  house h(o);
  SECTION("behind a request that was refused") {
    client c(h);
    c.send("GET / HTTP/1.1\r\nHost h\r\n\r\n");
    REQUIRE(c.c->ended_by_server);
    for (int i = 0; i < 49; ++i) h.advance(100), c.send("x");
    CHECK_FALSE(c.c->closed);
    h.advance(100 + late);
    CHECK(c.c->closed);
  }
  SECTION("on a WebSocket that waits for the peer's close") {
    client c(h);
    c.join("?channel=chat");
    h.gate.messages.sessions().at(0)->close(4000, "over");
    h.run();
    for (int i = 0; i < 49; ++i) h.advance(100), c.send(frame("1"));
    CHECK_FALSE(c.c->closed);
    h.advance(100 + late + 5'000 + late);  // the end of the handshake, then of lingering
    CHECK(c.c->closed);
  }
}

TEST_CASE("silence counts from where reading goes on, on a stream that was not read for long") {
  house h;
  client c(h);
  c.join("?channel=chat");
  h.store.holding = true;
  c.say(R"({"id":1,"publish":{"channel":"chat","data":1}})");
  REQUIRE_FALSE(c.c->reading);  // the storage is waited for
  h.advance(GENERATE(24'000, 49'000, 60'000, 200'000));
  CHECK_FALSE(c.c->ended_by_server);
  c.take();
  h.answer();
  REQUIRE(c.c->reading);
  // From here on it is what it would be for a stream that begins now.
  h.advance(49'900);
  for (auto& line : c.hear()) CHECK_FALSE(line.starts_with("close"));
  CHECK_FALSE(c.c->ended_by_server);
}

TEST_CASE("nothing is held against a client whose bytes wait while its replies are unsent") {
  options o;
  o.max_unsent = 100;
  o.stall_time = std::chrono::seconds(1000);
  house h(o);
  client c(h);
  c.join("?channel=chat");
  c.narrow(0);
  for (int i = 0; i < 10; ++i) c.say(R"({"id":)" + std::to_string(i) + R"(,"publish":{"channel":"chat","data":1}})");
  REQUIRE_FALSE(c.c->reading);
  h.advance(500'000);
  CHECK_FALSE(c.c->ended_by_server);
  c.widen();
  h.advance(1'000);
  CHECK_FALSE(c.c->ended_by_server);
  for (auto& line : c.hear()) CHECK_FALSE(line.starts_with("close"));
}

// ---- bytes

/// A JSON string that makes the notice `{"n":…}` of so many bytes.
std::string of_size(std::size_t notice) { return '"' + std::string(notice - 8, 'x') + '"'; }

TEST_CASE("a notice is taken up to the last byte of max_unsent, and not past it") {
  options o;
  o.max_unsent = 1000;
  house h(o);
  const bool events = GENERATE(false, true);
  client c(h);
  events ? void(c.open(event_stream("?channel=chat"))) : void(c.join("?channel=chat"));
  session& s = *h.gate.messages.sessions().at(0);
  c.narrow(0);
  SECTION("one alone") {
    CHECK(s.send("n", of_size(1001)) == errc::overloaded);
    CHECK_FALSE(s.send("n", of_size(1000)));
    CHECK(s.send("n", "1") == errc::overloaded);
    h.run();
    CHECK(s.send("n", "1") == errc::overloaded);
  }
  SECTION("one behind another, whose frame, or event and chunk, count too") {
    // Of 7: what stands around `{"n":1}` is known by what the client gets.
    client probe(h);
    events ? void(probe.open(event_stream("?channel=chat"))) : void(probe.join("?channel=chat"));
    for (session* other : h.gate.messages.sessions())
      if (other != &s) CHECK_FALSE(other->send("n", of_size(500)));
    h.run();
    const std::size_t first = probe.c->take().size();
    CHECK_FALSE(s.send("n", of_size(500)));
    CHECK(s.send("n", of_size(1000 - first + 1)) == errc::overloaded);
    CHECK_FALSE(s.send("n", of_size(1000 - first)));
    CHECK(s.send("n", "1") == errc::overloaded);
  }
  SECTION("and again when the client has taken it") {
    CHECK_FALSE(s.send("n", of_size(1000)));
    h.run();
    c.widen();
    CHECK_FALSE(s.send("n", of_size(1000)));
  }
  h.run();
  c.widen();
  CHECK_FALSE(c.take().empty());
}

TEST_CASE("the notices of one poll's answer are bounded to the byte") {
  options o;
  o.max_unsent = 1000;
  house h(o);
  client c(h);
  c.send(get("/live?channel=chat&since=earliest&wait=20"));
  session& s = *h.gate.messages.sessions().at(0);
  SECTION("one") {
    CHECK(s.send("n", of_size(1001)) == errc::overloaded);
    CHECK_FALSE(s.send("n", of_size(1000)));
    CHECK(s.send("n", "1") == errc::overloaded);
    h.run();
    CHECK(contains(read_answer(c.take()).body, std::string(992, 'x')));
  }
  SECTION("two, with the comma between them") {
    CHECK_FALSE(s.send("n", of_size(500)));
    CHECK(s.send("n", of_size(500)) == errc::overloaded);
    CHECK_FALSE(s.send("n", of_size(499)));
    h.run();
    CHECK(contains(read_answer(c.take()).body, std::string(491, 'x')));
  }
}

TEST_CASE("who has no notices is told so, whatever is unsent; who is ending, that") {
  house h;
  SECTION("a raw client") {
    client c(h);
    c.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
    session& s = *h.gate.messages.sessions().at(0);
    CHECK(s.send("n", "1") == errc::not_implemented);
    CHECK(c.take().empty());
  }
  SECTION("a session that has been closed") {
    client c(h);
    c.join("?channel=chat");
    session& s = *h.gate.messages.sessions().at(0);
    s.close(4000, "over");
    CHECK(s.send("n", "1") == operation_aborted());
  }
}

TEST_CASE("replies up to max_unsent are gathered before commands wait") {
  // What one reply weighs.
  house plain;
  client one(plain);
  one.join("?channel=chat");
  one.say(R"({"id":1,"ping":{}})");
  const std::size_t reply = one.take().size();
  for (int shift : {-1, 0, 1}) {
    INFO("the limit is three replies and " << shift);
    options o;
    o.max_unsent = 3 * reply + static_cast<std::size_t>(shift);
    house h(o);
    client c(h);
    c.join("?channel=chat");
    std::string many;
    for (int i = 0; i < 9; ++i) many += frame(R"({"id":)" + std::to_string(i) + R"(,"ping":{}})");
    c.c->send(many);  // all in one read: what is answered before the turn ends is gathered
    h.run();
    c.c->deliver();
    h.run();
    CHECK(c.hear().size() == 9);
    // Four that nobody takes: the last one waits unless the limit leaves it room.
    c.narrow(0);
    std::string four;
    for (int i = 0; i < 4; ++i) four += frame(R"({"id":)" + std::to_string(i) + R"(,"ping":{}})");
    c.c->send(four);
    h.run();
    c.widen();
    CHECK(c.hear().size() == 4);
  }
}

// ---- channels with rules of their own

TEST_CASE(
    "the largest payload of a channel's rule holds on every way to publish, also where it is over the general one") {
  options o;
  o.max_payload = 50;
  o.channels = {{.pattern = "small", .max_payload = 10}, {.pattern = "large", .max_payload = 4000}};
  house h(o);
  const std::string channel = GENERATE("small", "other", "large");
  const std::size_t most = channel == "small" ? 10u : channel == "other" ? 50u : 4000u;
  for (int shift : {-1, 0, 1}) {
    INFO(channel << ' ' << shift);
    const std::size_t size = most + static_cast<std::size_t>(shift);
    const std::string json = '"' + std::string(size - 2, 'x') + '"';
    client plain(h), command(h), socket(h), raw(h);
    CHECK(plain.ask(post("?channel=" + channel, json)).status == (shift > 0 ? 413 : 201));
    CHECK(command.ask(post("", R"({"publish":{"channel":")" + channel + R"(","data":)" + json + "}}")).status ==
          (shift > 0 ? 413 : 200));
    socket.join("");
    socket.say(R"({"id":1,"publish":{"channel":")" + channel + R"(","data":)" + json + "}}");
    auto told = socket.hear();
    REQUIRE(told.size() == 1);
    CHECK(contains(told[0], shift > 0 ? "too_large" : "offset"));
    raw.join("?channel=" + channel, "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
    raw.send(frame(std::string(size, 'x')));
    told = raw.hear();
    REQUIRE(told.size() == 1);
    CHECK((shift > 0 ? told[0].starts_with("close 1009") : told[0].starts_with("text x")));
  }
}

TEST_CASE(
    "more publishes a second than a channel's rule allows are refused by all transports, and each says until when") {
  options o;
  o.channels = {{.pattern = "slow/*", .publishes_per_second = 2}};
  house h(o);
  client plain(h), socket(h), raw(h);
  socket.join("");
  raw.join("?channel=slow/a", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  CHECK(plain.ask(post("?channel=slow/a", "1")).status == 201);
  socket.say(R"({"id":1,"publish":{"channel":"slow/a","data":1}})");
  CHECK(contains(socket.hear().at(0), "offset"));
  raw.take();
  SECTION("over it") {
    auto a = plain.ask(post("?channel=slow/a", "1"));
    CHECK(a.status == 429);
    CHECK(a["retry-after"] == "1");
    CHECK(a.has("rate_limited"));
    socket.say(R"({"id":2,"publish":{"channel":"slow/a","data":1}})");
    CHECK(contains(socket.hear().at(0), R"("code":"rate_limited")"));
    socket.say(R"({"id":3,"publish":{"channel":"slow/a","data":1}})");
    CHECK(contains(socket.hear().at(0), R"("retry_after":1)"));
    raw.send(frame("1"));
    CHECK(raw.hear().at(0).starts_with("close 4429"));
    h.publish("slow/a", "1");  // the host's
    CHECK(plain.ask(post("?channel=slow/b", "1")).status == 201);
    CHECK(plain.ask(post("?channel=other", "1")).status == 201);
  }
  SECTION("within it") {
    h.advance(500);
    raw.send(frame("1"));
    CHECK(raw.hear().at(0) == "text 1");
    CHECK(plain.ask(post("?channel=slow/a", "1")).status == 429);
    h.advance(500);
    CHECK(plain.ask(post("?channel=slow/a", "1")).status == 201);
  }
}

}  // namespace
