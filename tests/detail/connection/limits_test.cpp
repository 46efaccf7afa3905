// SPDX-License-Identifier: BSL-1.0
// The limits of one connection, each at its last moment or byte within, and at the first one past it.

#include <memory>
#include <string>
#include <utility>
#include <vector>

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
  options o;
  o.heartbeat_answer = o.heartbeat;
  house h(o);
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

// ---- connections and newcomers

/// What is between `"ticket":"` and the next quote.
std::string ticket_in(const std::string& text) {
  static constexpr std::string_view name = "\"ticket\":\"";
  const auto at = text.find(name);
  return at == text.npos ? std::string()
                         : text.substr(at + name.size(), text.find('"', at + name.size()) - at - name.size());
}

/// A client of an address that no other has.
/// One of the addresses that `name` makes of numbers: it shares its bucket with no other one of these, nor with a
/// client that says nothing. Which addresses meet in a bucket is random, and who meets another is refused sooner.
template <class F>
std::string apart(house& h, F name) {
  auto bucket = [&](const std::string& address) { return *h.gate.door.reconnects.owner({}, address) % 1024; };
  static std::uint64_t n = 0;
  const std::string usual = client(h).c->from;
  do ++n;
  while (n % 1024 == bucket(usual.substr(0, usual.rfind(':'))));
  for (std::uint64_t i = 0;; ++i)
    if (auto address = name(i); bucket(address) == n % 1024) return address;
}
std::string apart(house& h) {
  return apart(h, [](std::uint64_t i) { return "198.18." + std::to_string(i / 250) + "." + std::to_string(i % 250); });
}
client newcomer(house& h) {
  client c(h);
  c.c->from = apart(h) + ":1";
  return c;
}

TEST_CASE("a connection over the limit is told so, in its transport's way, and the others do not notice") {
  options o;
  o.max_connections = 2;
  house h(o);
  client first(h), second(h);
  first.join("?channel=chat");
  second.open(event_stream("?channel=chat"));
  SECTION("by status and time") {
    const std::string request = GENERATE(get("/live?channel=chat"), upgrade("?channel=chat"), get("/elsewhere"),
                                         post("?channel=chat", "1"), json_lines("?channel=chat"));
    client third(h);
    auto a = third.ask(request);
    CHECK(a.status == 503);
    CHECK(a["retry-after"] == "5");
    CHECK(a.has("overloaded"));
    CHECK(third.c->ended_by_server);
  }
  SECTION("by an event") {
    client third(h);
    auto a = third.ask(event_stream("?channel=chat"));
    CHECK(a.status == 200);
    CHECK(a.has("event: bye"));
    CHECK(a.has(R"("code":"overloaded")"));
    CHECK(third.c->ended_by_server);
  }
  SECTION("until another has gone") {
    client third(h);
    second.c->reset();
    h.run();
    client fourth(h);
    CHECK(fourth.ask(get("/live?channel=chat")).status == 200);
    CHECK(third.ask(get("/live?channel=chat")).status == 503);  // it came when there were too many
  }
  first.take();
  h.publish("chat", "1");
  CHECK(first.hear().size() == 1);
}

TEST_CASE("connections of one address are bounded, and those of trusted proxies are not") {
  options o;
  o.max_connections_per_address = 2;
  o.trusted_proxies = {"10.0.0.1"};
  house h(o);
  auto begin = [&](const std::string& peer) {
    auto c = std::make_shared<testing::memory_connection>(h.gate);
    c->from = peer;
    c->start();
    c->send(get("/live?channel=chat"));
    h.run();
    const auto a = read_answer(c->take());
    return std::pair(c, a);
  };
  auto a = begin("203.0.113.7:1"), b = begin("203.0.113.7:2");
  CHECK(a.second.status == 200);
  CHECK(b.second.status == 200);
  {
    auto c = begin("203.0.113.7:3");
    CHECK(c.second.status == 429);
    CHECK(c.second["retry-after"] == "5");
  }
  CHECK(begin("203.0.113.8:1").second.status == 200);
  a.first->reset();
  h.run();
  CHECK(begin("203.0.113.7:4").second.status == 200);
  std::vector<std::shared_ptr<testing::memory_connection>> proxied;
  for (int i = 0; i < 5; ++i) {
    auto p = begin("10.0.0.1:" + std::to_string(i));
    CHECK(p.second.status == 200);
    proxied.push_back(p.first);
  }
}

TEST_CASE("so many new clients a second are let in by any transport; who is over it is told when there is room") {
  options o;
  o.newcomers_per_second = 2;
  house h(o);
  client a = newcomer(h), b = newcomer(h);
  a.join("?channel=chat");
  CHECK(b.ask(get("/live?channel=chat")).status == 200);
  SECTION("more are not") {
    const std::string request =
        GENERATE(get("/live?channel=chat"), upgrade("?channel=chat"), post("?channel=chat", "1"));
    client c = newcomer(h);
    auto refused = c.ask(request);
    CHECK(refused.status == 503);
    CHECK(refused["retry-after"] == "1");
    CHECK(c.c->ended_by_server);
    client events = newcomer(h);
    CHECK(events.ask(event_stream("?channel=chat")).has("event: bye"));
  }
  SECTION("more on the same connection are") {
    for (int i = 0; i < 5; ++i) CHECK(b.ask(get("/live?channel=chat")).status == 200);
    CHECK(b.ask(post("?channel=chat", "1")).status == 201);
  }
  SECTION("more are in time") {
    h.advance(499);
    client early = newcomer(h), timely = newcomer(h);
    CHECK(early.ask(get("/live?channel=chat")).status == 503);
    h.advance(1);
    CHECK(timely.ask(get("/live?channel=chat")).status == 200);
  }
  SECTION("what is not for the live resource is not counted") {
    client c = newcomer(h);
    CHECK(c.ask(get("/elsewhere")).status == 404);
    CHECK(c.ask(get("/live?channel=chat")).status == 503);
  }
}

TEST_CASE("who shows its ticket is let in where newcomers are not, and others' tickets, or none, help nobody") {
  options o;
  o.newcomers_per_second = 10;
  o.ticket_key = std::string(32, 'k');  // with a random one those who come back might meet in a bucket
  house h(o);
  client ada = newcomer(h), poll = newcomer(h), events = newcomer(h), nobody(h);
  ada.send(upgrade("?channel=chat&user=ada"));
  const std::string of_ada = ticket_in(ada.c->take());
  poll.send(get("/live?channel=chat&user=ada"));
  const std::string of_poll = ticket_in(poll.c->take());
  events.send(event_stream("?channel=chat&user=ada"));
  CHECK(ticket_in(events.c->take()).size() == 38);
  nobody.send(get("/live?channel=chat"));
  const std::string of_address = ticket_in(nobody.c->take());
  REQUIRE(of_ada.size() == 38);
  CHECK(of_poll == of_ada);  // made in the same second
  CHECK(of_address != of_ada);
  for (int i = 0; i < 6; ++i) CHECK(newcomer(h).ask(get("/live?channel=chat")).status == 200);
  REQUIRE(newcomer(h).ask(get("/live?channel=chat")).status == 503);
  auto status = [&](const std::string& query) { return client(h).ask(get("/live?channel=chat" + query)).status; };
  CHECK(status("&user=ada&ticket=" + of_ada) == 200);
  CHECK(status("&ticket=" + of_address) == 200);
  h.advance(100);  // room for one in ten of those who come back, and for one newcomer
  CHECK(newcomer(h).ask(get("/live?channel=chat")).status == 200);
  CHECK(status("&user=eve&ticket=" + of_ada) == 503);
  CHECK(status("&user=ada&ticket=" + of_ada.substr(0, 37) + (of_ada[37] == 'A' ? 'Q' : 'A')) == 503);
  SECTION("for ten minutes") {
    h.advance(600'000 - 1'100);
    while (newcomer(h).ask(get("/live?channel=chat")).status == 200) {
    }
    CHECK(status("&user=ada&ticket=" + of_ada) == 200);
    h.advance(1'000);
    while (newcomer(h).ask(get("/live?channel=chat")).status == 200) {
    }
    CHECK(status("&user=ada&ticket=" + of_ada) == 503);
  }
}

TEST_CASE("a flood of newcomers from one address leaves room for those of others, also behind a trusted proxy") {
  options o;
  o.newcomers_per_second = 10;
  o.trusted_proxies = {"10.0.0.1"};
  house h(o);
  const bool by_proxy = GENERATE(false, true);
  auto begins = [&](const std::string& address) {
    client c(h);
    c.c->from = by_proxy ? "10.0.0.1:1" : address.find(':') == address.npos ? address + ":1" : "[" + address + "]:1";
    return c.ask(get("/live?channel=chat", by_proxy ? "X-Forwarded-For: " + address + "\r\n" : "")).status;
  };
  int flood = 0;
  const auto prefix = apart(
      h, [](std::uint64_t i) { return "2001:db8:" + std::to_string(i / 999) + ":" + std::to_string(i % 999) + "::"; });
  for (int i = 0; i < 20; ++i) flood += begins(prefix + std::to_string(i)) == 200;  // a /64 is one address
  CHECK(flood == 5);
  for (int i = 0; i < 5; ++i) CHECK(begins(apart(h)) == 200);
  CHECK(begins(apart(h)) == 503);
}

TEST_CASE("a poll is given a ticket when it has none that lasts, and then no other") {
  options o;
  o.newcomers_per_second = 10;
  house h(o);
  client c(h);
  auto given = [&](const std::string& query) {
    c.send(get("/live?channel=chat&user=ada" + query));
    return ticket_in(c.c->take());
  };
  const std::string t = given("");
  CHECK(t.size() == 38);
  CHECK(given("").empty());
  CHECK(given("&ticket=" + t).empty());
  for (int i = 0; i < 4; ++i) h.advance(60'000), given("");
  CHECK(given("&ticket=" + t).empty());
  h.advance(60'000);
  CHECK(given("&ticket=" + t).size() == 38);
  CHECK(given("&ticket=nonsense").size() == 38);
  house without;
  client d(without);
  d.send(get("/live?channel=chat&user=ada"));
  CHECK(ticket_in(d.c->take()).empty());
}

// ---- what one sender sends

TEST_CASE("commands over a sender's rate are refused on every way, and the connection goes on") {
  options o;
  o.commands_per_second = 4;
  house h(o);
  const std::string who = GENERATE("", "&user=ada");  // by the address, or by the name
  client socket(h), plain(h), raw(h), poll(h);
  socket.join("?channel=chat" + who);  // each request is one, too
  socket.say(R"({"id":1,"publish":{"channel":"chat","data":1}})");
  CHECK(contains(socket.hear().at(0), "offset"));
  raw.join("?channel=chat" + who, "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  CHECK(poll.ask(get("/live?channel=chat" + who)).status == 200);
  socket.take();
  SECTION("past it") {
    socket.say(R"({"id":2,"history":{"channel":"chat"}})");
    CHECK(socket.hear().at(0) ==
          R"(text {"reply":2,"error":{"code":"rate_limited","message":"too many commands","retry_after":1}})");
    socket.say(R"({"publish":{"channel":"chat","data":1}})");
    CHECK(contains(socket.hear().at(0), R"("reply":null,"error":{"code":"rate_limited")"));
    socket.say(R"({"id":3,"ping":{}})");
    CHECK(socket.hear().at(0) == R"(text {"reply":3,"ok":{}})");
    auto a = plain.ask(post("?channel=chat" + who, "1"));
    CHECK(a.status == 429);
    CHECK(a["retry-after"] == "1");
    a = plain.ask(post("?" + who.substr(who.empty() ? 0 : 1), R"([{"id":1,"history":{"channel":"chat"}}])"));
    CHECK(a.status == 200);
    CHECK(a.has("rate_limited"));
    a = poll.ask(get("/live?channel=chat" + who));
    CHECK(a.status == 429);
    CHECK(a["retry-after"] == "1");
    CHECK(poll.ask(event_stream("?channel=chat" + who)).has("event: bye"));
    raw.send(frame("1"));
    CHECK(raw.hear().at(0).starts_with("close 4429"));
  }
  SECTION("and within it again in time") {
    h.advance(249);
    CHECK(poll.ask(get("/live?channel=chat" + who)).status == 429);
    h.advance(1);
    CHECK(poll.ask(get("/live?channel=chat" + who)).status == 200);
    CHECK(poll.ask(get("/live?channel=chat" + who)).status == 429);
  }
  SECTION("others have a rate of their own") { CHECK(plain.ask(post("?channel=chat&user=eve", "1")).status == 201); }
}

TEST_CASE("bytes over a sender's rate are not read until their time has come, and nothing of them is lost") {
  options o;
  o.bytes_per_second = 10'000;
  o.commands_per_second = 0;
  house h(o);
  client c(h), same(h), other(h);
  c.join("?channel=chat&user=ada");
  same.join("?channel=chat&user=ada");
  other.join("?channel=chat&user=eve");
  auto command = [](int i, std::size_t bytes) {
    return frame(R"({"id":)" + std::to_string(i) + R"(,"publish":{"channel":"chat","data":")" +
                 std::string(bytes, 'x') + R"("}})");
  };
  c.c->send(command(1, 15'000));
  h.run();
  CHECK_FALSE(c.c->reading);
  CHECK(contains(c.hear().at(0), R"("reply":1,"ok")"));
  c.c->send(command(2, 10));
  h.run();
  CHECK(c.hear().empty());
  CHECK_FALSE(c.c->unread.empty());
  // Another connection of the same user has no more, once it says something.
  same.c->send(command(3, 10));
  h.run();
  CHECK_FALSE(same.c->reading);
  other.c->send(command(4, 10));
  h.run();
  CHECK(other.c->reading);
  h.advance(500 + late);
  c.c->deliver();
  h.run();
  CHECK(c.c->reading);
  CHECK(c.c->unread.empty());
  bool answered = false;
  for (auto& line : c.hear()) answered = answered || contains(line, R"("reply":2,"ok")");
  CHECK(answered);
  CHECK_FALSE(c.c->ended_by_server);
}

TEST_CASE("requests count by their bytes too: the next one on the connection waits") {
  options o;
  o.bytes_per_second = 10'000;
  house h(o);
  client c(h);
  CHECK(c.ask(post("?channel=chat&user=ada", std::string(15'000, ' ') + '1')).status == 201);
  CHECK_FALSE(c.c->reading);
  c.c->send(post("?channel=chat&user=ada", "2"));
  h.run();
  CHECK(c.take().empty());
  h.advance(600 + late);
  c.c->deliver();
  h.run();
  CHECK(read_answer(c.take()).status == 201);
}

TEST_CASE("a stream that is read no further for its bytes is shown life, and not held to account for its silence") {
  options o;
  o.bytes_per_second = 1'000;
  house h(o);
  client c(h);
  c.join("?channel=chat");
  c.c->send(frame(R"({"id":1,"publish":{"channel":"chat","data":")" + std::string(200'000, 'x') + R"("}})"));
  h.run();
  REQUIRE_FALSE(c.c->reading);
  c.take();
  h.advance(150'000);
  CHECK_FALSE(c.c->ended_by_server);
  int pings = 0;
  for (auto& line : c.hear()) pings += line == "ping";
  CHECK(pings >= 5);
  h.advance(60'000);
  CHECK(c.c->reading);
  CHECK_FALSE(c.c->ended_by_server);
}

TEST_CASE("a client that only listens has no sender; a flood of control frames makes one") {
  options o;
  o.bytes_per_second = 10'000;
  house h(o);
  client c(h);
  c.join("?channel=chat&user=ada");
  const std::size_t before = h.gate.senders.size();
  c.send(frame("", proto::ws_opcode::pong));
  c.say(R"({"id":1,"ping":{}})");
  CHECK(c.c->reading);
  std::string flood;
  while (flood.size() < 20'000) flood += frame("", proto::ws_opcode::ping);
  c.c->send(flood);
  h.run();
  CHECK_FALSE(c.c->reading);
  CHECK(h.gate.senders.size() <= before + 1);
}

}  // namespace
