// SPDX-License-Identifier: BSL-1.0
#include "hailwire/transport/websocket.hpp"

#include "arriving.hpp"

using namespace hailwire;
using namespace hailwire::transport;
using arriving::request;
using lines = std::vector<std::string>;

namespace {

request handshake(const std::string& query, const std::string& more = {}) {
  return request(query,
                 "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                 "dGhlIHNhbXBsZSBub25jZQ==\r\n" +
                     more);
}
request protocol(const std::string& query, const std::string& list) {
  return handshake(query, "Sec-WebSocket-Protocol: " + list + "\r\n");
}

arriving::begun begin(const request& r) {
  auto b = websocket::begin(*r);
  if (!b) FAIL(b.error().text());
  return arriving::begun(std::move(*b));
}
std::string masked(proto::ws_opcode what, std::string_view data, bool fin = true) {
  std::string out;
  proto::append_masked_frame(out, what, data, 0x11223344, fin);
  return out;
}
using op = proto::ws_opcode;

/// Everything that a machine says to these bytes, and what it answers by itself, which comes first where it was written
/// first.
lines feed(stream& s, std::string bytes, std::size_t step = SIZE_MAX) {
  static constexpr const char* names[] = {"none", "command", "text", "binary", "closed", "failed"};
  lines out;
  std::string wire;
  auto look = [&] {
    static const proto::ws_limits limits{};
    proto::ws_connection client(proto::ws_role::client, limits);
    std::span<char> in(wire);
    for (auto e = client.next(in); e.what != proto::ws_event::type::none; e = client.next(in))
      out.push_back((e.what == proto::ws_event::type::pong ? "-> pong " : "-> ") + std::string(e.data));
    wire.clear();
  };
  for (std::size_t at = 0; at < bytes.size(); at += std::min(step, bytes.size() - at)) {
    std::string part = bytes.substr(at, step);
    std::span<char> in(part);
    while (!in.empty()) {
      auto e = s.receive(in, wire);
      std::string said = names[static_cast<int>(e.what)];
      if (e.code) said += ' ' + std::to_string(e.code);
      if (!e.data.empty() && e.what != stream_event::kind::failed) said += ' ' + std::string(e.data);
      look();
      if (e.what != stream_event::kind::none) out.push_back(said);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("WebSocket claims an upgrade to it, in HTTP/1.1") {
  CHECK(websocket::claims(*handshake("")));
  CHECK(websocket::claims(*request("", "Upgrade: h2c, WebSocket\r\n")));
  CHECK_FALSE(websocket::claims(*request("", "Upgrade: h2c\r\n")));
  CHECK_FALSE(websocket::claims(*request("", "Upgrade: websocket\r\n", "1.0")));
  CHECK_FALSE(websocket::claims(*request("")));
}

TEST_CASE("a handshake that is wrong is refused with its own status") {
  auto code = [](const request& r) {
    auto b = websocket::begin(*r);
    return b ? std::string("fine") : std::string(code_name(b.error().code));
  };
  CHECK(code(handshake("?channel=a")) == "fine");
  CHECK(code(handshake("")) == "fine");
  CHECK(code(request("", "Upgrade: websocket\r\n")) == "bad_request");
  CHECK(code(request("",
                     "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: "
                     "dGhlIHNhbXBsZSBub25jZQ==\r\n")) == "upgrade_required");
  CHECK(
      code(request(
          "",
          "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n")) ==
      "bad_request");
  CHECK(code(handshake("", "Transfer-Encoding: chunked\r\n")) == "bad_request");
  CHECK(code(protocol("", "bearer.TOKEN")) == "bad_request");
  CHECK(code(protocol("", "HAILWIRE.V1")) == "bad_request");
  CHECK(code(protocol("", "hailwire.v1, hailwire.v1")) == "bad_request");
  CHECK(code(protocol("", "hailwire.v1.raw")) == "bad_request");
  CHECK(code(protocol("?channel=a&channel=b", "hailwire.v1.raw")) == "bad_request");
  CHECK(code(protocol("?channel=a", "hailwire.v1.raw")) == "fine");
}

TEST_CASE("the subprotocol is the first known one; without any, hailwire.v1 is meant and not named") {
  auto named = [](const request& r) {
    auto s = begin(r);
    auto head = s.open();
    auto at = head.find("Sec-WebSocket-Protocol: ");
    std::string name = at == head.npos ? "none" : head.substr(at + 24, head.find("\r\n", at) - at - 24);
    return name + (s->speaks() ? "" : " raw");
  };
  CHECK(named(handshake("?channel=a")) == "none");
  CHECK(named(protocol("?channel=a", "hailwire.v1")) == "hailwire.v1");
  CHECK(named(protocol("?channel=a", "bearer.TOKEN, hailwire.v1")) == "hailwire.v1");
  CHECK(named(protocol("?channel=a", "x, hailwire.v1.raw, hailwire.v1")) == "hailwire.v1.raw raw");
  CHECK(named(protocol("?channel=a", "hailwire.v1, hailwire.v1.raw")) == "hailwire.v1");
}

TEST_CASE("the answer to a handshake") {
  auto s = begin(protocol("?channel=a", "hailwire.v1"));
  CHECK(s.open("X: y\r\n") ==
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        "Sec-WebSocket-Protocol: hailwire.v1\r\nX: y\r\n\r\n");
}

TEST_CASE("an object client says commands in text frames, however they are cut") {
  std::string bytes = masked(op::text, R"({"a":1})") + masked(op::text, R"({"b")", false) +
                      masked(op::continuation, ":2}") + masked(op::text, "") + masked(op::close, "\x03\xE8");
  lines said{R"(command {"a":1})", R"(command {"b":2})", "command", "closed 1000"};
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    auto s = begin(handshake("?channel=a"));
    CHECK(feed(*s, bytes, step) == said);
  }
  auto s = begin(handshake("?channel=a"));
  CHECK(feed(*s, masked(op::binary, "x")) == lines{"failed 1008"});
  // That broke no rule of RFC 6455, so the peer's close is awaited; what did is not.
  CHECK(s->awaits_end());
  auto t = begin(handshake("?channel=a"));
  CHECK(feed(*t, "\x81\x01x") == lines{"failed 1002"});
  CHECK_FALSE(t->awaits_end());
}

TEST_CASE("a raw client's frames are payloads, its messages are bare, and it is told of nothing") {
  auto s = begin(protocol("?channel=a", "hailwire.v1.raw"));
  CHECK(feed(*s, masked(op::text, "hi") + masked(op::binary, "\x01")) == lines{"text hi", "binary \x01"});
  std::string out;
  CHECK_FALSE(s->notice(out, "gap", "{}", {}));
  CHECK(out.empty());
  message text{1, 0, {}, {}, payload::text("a\n\"")}, json{2, 0, {}, {}, payload::json("[1]")},
      binary{3, 0, {}, {}, payload::binary(std::string("\0\1", 2))};
  for (auto* m : {&text, &json, &binary}) s->messages().append(out, {"c", "e", *m, "unused"});
  CHECK(out == std::string("\x81\x03"
                           "a\n\"\x81\x03[1]\x82\x02\0\1",
                           14));
}

TEST_CASE("objects, notices, replies and beats are text frames of their own") {
  auto s = begin(handshake("?channel=a"));
  std::string out;
  message m{1, 1000, {}, {}, payload::json("1")};
  s->messages().append(out, {"c", "e", m, "{json}"});
  CHECK(s->notice(out, "gap", "{gap}", "e.1"));
  s->reply(out, "{reply}");
  s->message(out, "x", true);
  s->beat(out);
  CHECK(out == std::string("\x81\x06{json}\x81\x05{gap}\x81\x07{reply}\x82\x01x\x89\0", 29));
  CHECK(s->expects_life());
  CHECK_FALSE(s->tags());
  CHECK(&s->others() == &s->messages());
}

TEST_CASE("of the pings that came together the first 64 are answered, and the newest, before what follows them") {
  auto s = begin(handshake("?channel=a"));
  std::string longest(125, 'p'), flood;
  CHECK(feed(*s, masked(op::ping, "1") + masked(op::pong, "x") + masked(op::ping, longest)) ==
        lines{"-> pong 1", "-> pong " + longest});
  CHECK(feed(*s, masked(op::ping, "1") + masked(op::text, "{}") + masked(op::ping, "2")) ==
        lines{"-> pong 1", "command {}", "-> pong 2"});
  CHECK(feed(*s, masked(op::ping, "")) == lines{"-> pong "});
  lines answered;
  for (int i = 0; i < 1000; ++i) {
    flood += masked(op::ping, std::to_string(i));
    if (i < 64 || i == 999) answered.push_back("-> pong " + std::to_string(i));
  }
  answered.push_back("command {}");
  CHECK(feed(*s, flood + masked(op::text, "{}")) == answered);
}

TEST_CASE("a message may be as large as its limit: raw by the payload, else by a command around it") {
  for (bool raw : {true, false}) {
    auto r = raw ? protocol("?channel=a", "hailwire.v1.raw") : handshake("?channel=a");
    r.settings.max_payload = 3000;
    std::size_t most = raw ? 3000 : 4004 + websocket::command_room;
    auto s = begin(r);
    CHECK(feed(*s, masked(op::text, std::string(most, 'x'))).size() == 1);
    CHECK(feed(*s, masked(op::text, std::string(most + 1, 'x'))) == lines{"failed 1009"});
  }
}

TEST_CASE("the end: once, with a code that may travel; then only the peer's own is heard") {
  auto end = [](std::uint16_t code, std::string_view reason) {
    auto s = begin(handshake("?channel=a"));
    std::string out;
    s->end(out, code, reason);
    s->end(out, 4001, "again");
    return out;
  };
  CHECK(end(4000, "bye") ==
        "\x88\x05\x0F\xA0"
        "bye");
  CHECK(end(1005, "") == std::string("\x88\0", 2));
  CHECK(end(1006, "") == "\x88\x02\x03\xE8");
  CHECK(end(99, "") == "\x88\x02\x03\xE8");
  CHECK(end(4000, std::string(200, 'r')).size() == 2 + 125);

  auto s = begin(handshake("?channel=a"));
  std::string out;
  s->end(out, 4000, {});
  CHECK(s->awaits_end());
  CHECK(feed(*s, masked(op::text, "{}") + masked(op::ping, "x") + masked(op::binary, "x")).empty());
  CHECK(s->awaits_end());
  CHECK(feed(*s, masked(op::close, "\x0F\xA0") + masked(op::text, "{}")) == lines{"closed 4000"});
  CHECK_FALSE(s->awaits_end());
}

TEST_CASE("the host's own frames: its subprotocols, its limit, both kinds") {
  auto begin_plain = [](const request& r) {
    auto b = websocket::begin_plain(*r, {"v2", "v1"}, 10);
    REQUIRE(b);
    return arriving::begun(std::move(*b));
  };
  auto s = begin_plain(protocol("", "v0, v1, v2"));
  CHECK(s.open().find("Sec-WebSocket-Protocol: v1\r\n") != std::string::npos);
  CHECK(feed(*s, masked(op::text, "0123456789") + masked(op::binary, "x")) == lines{"text 0123456789", "binary x"});
  CHECK(feed(*s, masked(op::text, "0123456789a")) == lines{"failed 1009"});
  auto none = begin_plain(protocol("", "v0"));
  CHECK(none.open().find("Protocol:") == std::string::npos);
  CHECK_FALSE(none->speaks());
}
