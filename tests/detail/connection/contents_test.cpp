// SPDX-License-Identifier: BSL-1.0
// One message, fetched on its own.
#include "detail/connection/stage.hpp"

using namespace stage;

namespace {

std::string fetch(const std::string& query, const std::string& more = {}, const std::string& method = "GET") {
  return method + " /live/messages" + query + " HTTP/1.1\r\nHost: h\r\n" + more + "\r\n";
}
const std::string first = "?channel=chat&epoch=chat-1&offset=1";

void publish(house& h, payload p, const std::string& channel = "chat") {
  CHECK_FALSE(h.gate.messages.publish(channel, std::move(p)));
  h.run();
}

void check_problem(const answer& a, errc code) {
  CAPTURE(a.body);
  CHECK(a.status == http_status(code));
  CHECK(a.has("\"code\":\"" + std::string(code_name(code)) + '"'));
  CHECK(a.fields.at("cache-control") == "no-store");
}

}  // namespace

TEST_CASE("a message is fetched with its publisher's own bytes and type") {
  house h;
  const std::string bytes("\0\xFF<script>\r\n", 12);
  publish(h, payload::json("{\"a\":  1.0}"));
  publish(h, payload::text("zwölf", "text/html; charset=utf-8"));
  publish(h, payload::binary(bytes, "image/png"));
  client c(h);
  auto a = c.ask(fetch(first));
  CHECK(a.status == 200);
  CHECK(a.body == "{\"a\":  1.0}");
  CHECK(a["content-type"] == "application/json");
  CHECK(a["etag"] == "\"chat-1.1\"");
  CHECK(a["accept-ranges"] == "bytes");
  CHECK(a["x-content-type-options"] == "nosniff");
  CHECK(a["content-security-policy"] == "sandbox; default-src 'none'");
  CHECK(a["content-disposition"] == "attachment");
  CHECK(a["cache-control"] == "private, max-age=31536000, immutable");
  a = c.ask(fetch("?channel=chat&epoch=chat-1&offset=2"));
  CHECK(a.body == "zwölf");
  CHECK(a["content-type"] == "text/html; charset=utf-8");
  CHECK(a["content-disposition"] == "attachment");
  a = c.ask(fetch("?offset=3&epoch=chat-1&channel=chat"));
  CHECK(a.body == bytes);
  CHECK(a["content-type"] == "image/png");
  CHECK_FALSE(a.fields.contains("content-disposition"));
  a = c.ask(fetch("?channel=chat&epoch=chat-1&offset=3", {}, "HEAD"));
  CHECK(a.status == 200);
  CHECK(a["content-length"] == "12");
  CHECK(a["etag"] == "\"chat-1.3\"");
  CHECK(a.body.empty());
}

TEST_CASE("only types that are no page and no script are shown in their place") {
  for (auto type : {"image/png", "IMAGE/JPEG", "image/gif;x=y", " image/webp ", "audio/ogg", "video/mp4; codecs=\"x\""})
    CHECK(detail::shown_in_place(type));
  for (auto type : {"image/svg+xml", "text/html", "image/pngx", "application/pdf", "text/xml", "", "audio",
                    "image/png,text/html", "application/xhtml+xml", "multipart/mixed", "video"})
    CHECK_FALSE(detail::shown_in_place(type));
}

TEST_CASE("a part of a message is fetched by one range; of several, or of nonsense, the whole") {
  house h;
  publish(h, payload::binary("0123456789"));
  client c(h);
  auto part = [&](const std::string& range, const std::string& more = {}) {
    auto a = c.ask(fetch(first, "Range: " + range + "\r\n" + more));
    CHECK(a["etag"] == (a.status == 416 ? "" : "\"chat-1.1\""));
    return std::to_string(a.status) + ' ' + (a.status == 416 ? "" : a.body + ' ') + a["content-range"];
  };
  CHECK(part("bytes=0-0") == "206 0 bytes 0-0/10");
  CHECK(part("bytes=8-") == "206 89 bytes 8-9/10");
  CHECK(part("bytes=-3") == "206 789 bytes 7-9/10");
  CHECK(part("bytes=2-99") == "206 23456789 bytes 2-9/10");
  CHECK(part("bytes=10-") == "416 bytes */10");
  CHECK(part("bytes=-0") == "416 bytes */10");
  for (auto range : {"bytes=0-1,3-4", "bytes=5-2", "items=0-1", "bytes=x", "bytes="})
    CHECK(part(range) == "200 0123456789 ");
  CHECK(part("bytes=0-1", "If-Range: \"chat-1.1\"\r\n") == "206 01 bytes 0-1/10");
  for (auto old : {"\"chat-1.2\"", "W/\"chat-1.1\"", "chat-1.1", "Sat, 29 Oct 1994 19:43:31 GMT", ""})
    CHECK(part("bytes=0-1", "If-Range: " + std::string(old) + "\r\n") == "200 0123456789 ");
  auto a = c.ask(fetch(first, "Range: bytes=0-1\r\n", "HEAD"));  // Range is for GET alone
  CHECK(a.status == 200);
  CHECK(a["content-length"] == "10");
  check_problem(c.ask(fetch(first, "Range: bytes=11-\r\n")), errc::range);
}

TEST_CASE("a message that the client has is not sent again") {
  house h;
  publish(h, payload::json("1"));
  client c(h);
  for (auto tag : {"\"chat-1.1\"", "W/\"chat-1.1\"", "\"other\", \"chat-1.1\"", "*"}) {
    auto a = c.ask(fetch(first, "If-None-Match: " + std::string(tag) + "\r\nRange: bytes=5-\r\n"));
    CHECK(a.status == 304);
    CHECK(a["etag"] == "\"chat-1.1\"");
    CHECK(a.body.empty());
  }
  for (auto tag : {"\"chat-1.2\"", "chat-1.1", "\"\""})
    CHECK(c.ask(fetch(first, "If-None-Match: " + std::string(tag) + "\r\n")).status == 200);
}

TEST_CASE("what is not there, not any more, or not for this client is not found, or forbidden before anybody looks") {
  house h;
  h.store.keep = 5;
  for (int i = 1; i <= 6; ++i) h.publish("chat", std::to_string(i));
  client c(h);
  auto at = [](const std::string& offset, const std::string& epoch = "chat-1", const std::string& channel = "chat") {
    return fetch("?channel=" + channel + "&epoch=" + epoch + "&offset=" + offset);
  };
  CHECK(c.ask(at("2")).body == "2");
  check_problem(c.ask(at("1")), errc::not_found);  // trimmed: what comes after it is not it
  check_problem(c.ask(at("7")), errc::not_found);
  check_problem(c.ask(at("9007199254740991")), errc::not_found);
  check_problem(c.ask(at("2", "chat-2")), errc::not_found);
  check_problem(c.ask(at("1", "none-1", "none")), errc::not_found);
  for (auto offset : {"0", "-1", "01", "1.0", "9007199254740992", "", "x"})
    check_problem(c.ask(at(offset)), errc::bad_request);
  for (auto epoch : {"", "a.b", "a%20b", "123456789012345678901234567890123"})
    check_problem(c.ask(at("2", epoch)), errc::bad_request);
  check_problem(c.ask(fetch("?epoch=chat-1&offset=2")), errc::bad_request);
  check_problem(c.ask(fetch("?channel=chat&channel=b&epoch=chat-1&offset=2")), errc::bad_request);
  check_problem(c.ask(fetch("?channel=chat&epoch=chat-1")), errc::bad_request);
  check_problem(c.ask(fetch("?channel=chat&epoch=%zz&offset=2")), errc::bad_request);
  check_problem(c.ask(at("1", "secret-1", "secret")), errc::forbidden);
  check_problem(c.ask(at("1", "x", "%40bob")), errc::forbidden);
  check_problem(c.ask(fetch(first, {}, "DELETE")), errc::method_not_allowed);
  CHECK(c.ask(fetch(first, {}, "PUT"))["allow"] == "GET, HEAD, OPTIONS");

  CHECK_FALSE(h.gate.messages.erase("chat", {"", 3}));
  h.run();
  check_problem(c.ask(at("3")), errc::not_found);  // taken back
  check_problem(c.ask(at("7")), errc::not_found);  // the entry that says so
  // A floor hides what is below it; a storage that fails is not one that has nothing.
  h.gate.host.authorize = [](const request&, authorize_reply reply) {
    grant g;
    g.follow = channel_set::all();
    g.floors = {{"chat", 5}};
    reply(decision(std::move(g)));
  };
  check_problem(c.ask(at("4")), errc::not_found);
  CHECK(c.ask(at("5")).body == "5");
  h.store.failing = make_error_code(errc::overloaded);
  auto a = c.ask(at("5"));
  check_problem(a, errc::overloaded);
  CHECK(a["retry-after"] == "1");
}

TEST_CASE("pages of listed origins may fetch messages, and are told what they may ask with") {
  options o;
  o.allowed_origins = {"https://page.example"};
  house h(o);
  publish(h, payload::json("1"));
  client c(h);
  auto a = c.ask(fetch(first, "Origin: https://page.example\r\nRange: bytes=0-0\r\n"));
  CHECK(a.status == 206);
  CHECK(a["access-control-allow-origin"] == "https://page.example");
  CHECK(a["access-control-expose-headers"].find("Content-Range") != std::string::npos);
  CHECK(a["vary"] == "Origin");
  a = c.ask(fetch(first, "Origin: https://other.example\r\n"));
  CHECK_FALSE(a.fields.contains("access-control-allow-origin"));
  CHECK(a["vary"] == "Origin");
  a = c.ask(fetch("", "Origin: https://page.example\r\n", "OPTIONS"));
  CHECK(a.status == 204);
  CHECK(a["allow"] == "GET, HEAD, OPTIONS");
  CHECK(a["access-control-allow-headers"].find("If-Range") != std::string::npos);
}

TEST_CASE("a fetch that waits for the storage survives its client, and answers in order with what came behind it") {
  house h;
  h.publish("chat", "1");
  h.store.holding = true;
  {
    client gone(h);
    gone.send(fetch(first));
    gone.c->reset();
    h.run();
  }
  client c(h);
  c.send(fetch(first) + get("/other"));
  CHECK(c.take().empty());
  h.answer();
  auto a = read_answer(c.take());
  CHECK(a.body == "1");
  CHECK(read_answer(a.rest).status == 404);
}

TEST_CASE("the path of messages stands beside the live resource's, wherever that is") {
  options o;
  o.path = "/";
  house h(o);
  h.publish("chat", "1");
  client c(h);
  CHECK(c.ask(get("/messages" + first)).body == "1");
  for (auto path : {"/live/messages", "//messages", "/messages/", "/message", "/xmessages"})
    CHECK(c.ask(get(path + first)).status == 404);
}

// ---- signals

namespace {

/// What a client without payloads is told of a message.
std::string signal(std::string_view channel, int offset, const std::string& rest, std::string_view from = {}) {
  std::string out = "{\"channel\":\"" + std::string(channel) + "\",\"offset\":" + std::to_string(offset) +
                    ",\"at\":" + std::to_string(testing::manual_loop::unix_start + 1000);
  if (!from.empty()) out += ",\"from\":\"" + std::string(from) + '"';
  return out + rest + '}';
}
const std::string raw = "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n";

}  // namespace

TEST_CASE("with signal=1 every transport tells of messages without their payloads, live and replayed") {
  house h;
  publish(h, payload::json("\"first\""));
  client ws(h), sse(h), two(h), nd(h), bare(h), held(h), full(h);
  ws.join("?channel=chat&signal=1");
  bare.join("?channel=chat&signal=1", raw);
  sse.open(event_stream("?channel=chat&signal=1"));
  two.open(event_stream("?channel=chat&channel=b&signal=1"));
  nd.open(json_lines("?channel=chat&signal=1"));
  full.join("?channel=chat");
  held.send(get("/live?channel=chat&signal=1&wait=20&since=chat-1.1"));
  for (auto* c : {&ws, &sse, &two, &nd, &bare, &full}) c->take();

  CHECK_FALSE(h.gate.messages.publish("chat", payload::binary("\1\2\3", "image/png"), {.type = "pic"}));
  h.run();
  const std::string told = signal("chat", 2, R"(,"type":"pic","epoch":"chat-1","size":3,"content_type":"image/png")");
  CHECK(ws.hear() == lines{"text " + told});
  CHECK(bare.hear() == lines{"text chat-1.2"});
  CHECK(sse.take() == "data: " + told + "\nid: chat-1.2\n\n");
  CHECK(two.take() == "data: " + told + "\nid: chat-1.2,b-1.0\n\n");
  CHECK(nd.take() == told + '\n');
  CHECK(held.take().find("\"messages\":[" + told + ']') != std::string::npos);
  CHECK(full.hear().at(0).find("\"bytes\":\"AQID\"") != std::string::npos);

  const std::string before = signal("chat", 1, R"(,"epoch":"chat-1","size":7,"content_type":"application/json")");
  CHECK(client(h).ask(get("/live?channel=chat&since=earliest&signal=1")).has("[" + before + ',' + told + ']'));
  auto replayed = client(h).join("?channel=chat&since=earliest&signal=1");
  CHECK(lines(replayed.begin() + 1, replayed.end()) == lines{"text " + before, "text " + told});
  CHECK(client(h).join("?channel=chat&since=earliest&signal=1", raw) == lines{"text chat-1.1", "text chat-1.2"});
  for (auto other : {"signal=0", "signal=", "signal=true", "signal=2"})
    CHECK(client(h).ask(get("/live?channel=chat&since=earliest&" + std::string(other))).has("\"first\""));
  CHECK(client(h).ask(fetch("?channel=chat&epoch=chat-1&offset=2")).body == "\1\2\3");
}

TEST_CASE("who is told by signals hears of what was taken back as everybody does") {
  house h;
  publish(h, payload::json("\"first\""));
  client ws(h), bare(h);
  ws.join("?channel=chat&signal=1");
  bare.join("?channel=chat&signal=1", raw);
  CHECK_FALSE(h.gate.messages.erase("chat", {"", 1}));
  h.run();
  CHECK(ws.hear() == lines{"text " + signal("chat", 2, ",\"erases\":1")});
  CHECK(bare.hear().empty());
  auto a = client(h).ask(get("/live?channel=chat&since=earliest&signal=1"));
  CHECK(a.has(signal("chat", 1, ",\"erased\":true") + ',' + signal("chat", 2, ",\"erases\":1")));
  publish(h, payload::text("zwölf"));
  CHECK(bare.hear() == lines{"text chat-1.3"});
  CHECK(ws.hear() ==
        lines{"text " + signal("chat", 3, R"(,"epoch":"chat-1","size":6,"content_type":"text/plain;charset=utf-8")")});
}

TEST_CASE("a client of payloads and one of signals on the same channel are each given their own, message by message") {
  house h;
  client full(h), told(h);
  full.join("?channel=chat");
  told.join("?channel=chat&signal=1");
  for (int i = 1; i <= 3; ++i) CHECK_FALSE(h.gate.messages.publish("chat", payload::json(std::to_string(i))));
  h.run();
  auto a = full.hear(), b = told.hear();
  REQUIRE(a.size() == 3);
  REQUIRE(b.size() == 3);
  for (int i = 1; i <= 3; ++i) {
    const auto n = static_cast<std::size_t>(i - 1);
    CHECK(a[n] == "text " + published("chat", i, std::to_string(i)));
    CHECK(b[n] == "text " + signal("chat", i, R"(,"epoch":"chat-1","size":1,"content_type":"application/json")"));
  }
}
