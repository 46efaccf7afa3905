// SPDX-License-Identifier: BSL-1.0
#include "hailwire/transport/ndjson.hpp"

#include "arriving.hpp"
#include "hailwire/transport/websocket.hpp"

using namespace hailwire;
using namespace hailwire::transport;
using arriving::encode;
using arriving::request;

namespace {

arriving::begun begin(const std::string& version = "1.1") {
  auto b = ndjson::begin(*request("?channel=a&channel=b", {}, version));
  REQUIRE(b);
  return arriving::begun(std::move(*b));
}

}  // namespace

TEST_CASE("lines of JSON are for an Accept that names them itself, with a q over 0") {
  CHECK(ndjson::claims(*request("", "Accept: application/x-ndjson\r\n")));
  CHECK(ndjson::claims(*request("", "Accept: text/html;q=1, Application/X-NDJSON ; q=0.001\r\n")));
  CHECK(ndjson::claims(*request("?wait=5", "Accept: application/x-ndjson\r\n", "1.0")));
  CHECK_FALSE(ndjson::claims(*request("", "Accept: */*\r\n")));
  CHECK_FALSE(ndjson::claims(*request("", "Accept: application/*\r\n")));
  CHECK_FALSE(ndjson::claims(*request("", "Accept: application/x-ndjson;q=0.000\r\n")));
  CHECK_FALSE(ndjson::claims(*request("", "Accept: application/x-ndjsons\r\n")));
  CHECK_FALSE(ndjson::claims(*request("", "Accept: application/json\r\n")));
  CHECK_FALSE(ndjson::claims(*request("")));
}

TEST_CASE("a stream of lines begins with its head: chunked, and on HTTP/1.0 up to the end of the connection") {
  const std::string head =
      "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\nCache-Control: "
      "no-store\r\nX-Accel-Buffering: no\r\n";
  CHECK(begin().open("X: y\r\n") == head + "Transfer-Encoding: chunked\r\nX: y\r\n\r\n");
  CHECK(begin("1.0").open("X: y\r\n") == head + "X: y\r\n\r\n");
}

TEST_CASE("each object is one line and one chunk; no line is empty, and none has a cursor") {
  for (bool chunked : {false, true}) {
    auto s = begin(chunked ? "1.1" : "1.0");
    std::string out;
    CHECK(s->notice(out, "open", "{\"open\":{}}", "e.4"));
    CHECK(s->notice(out, "gap", "{\"gap\":{}}", {}));
    s->beat(out);
    CHECK(out == (chunked ? "c\r\n{\"open\":{}}\n\r\nb\r\n{\"gap\":{}}\n\r\nc\r\n{\"ping\":{}}\n\r\n"
                          : "{\"open\":{}}\n{\"gap\":{}}\n{\"ping\":{}}\n"));
    CHECK(s->speaks());
    CHECK_FALSE(s->gives_cursor());
    CHECK_FALSE(s->duplex());
    CHECK_FALSE(s->expects_life());
    CHECK_FALSE(s->awaits_end());
    CHECK(s->tags() == 0);
    CHECK(&s->messages() == &s->others());
    const std::string one = R"({"channel":"chat","offset":7,"at":1000,"data":{"n":1}})";
    CHECK(encode(s->messages(), payload::json(R"({"n":1})")) == (chunked ? "37\r\n" + one + "\n\r\n" : one + '\n'));
    REQUIRE(one.size() + 1 == 0x37);
  }
}

TEST_CASE("a line is the object that a WebSocket carries") {
  auto socket = websocket::begin(*request("?channel=a",
                                          "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                                          "dGhlIHNhbXBsZSBub25jZQ==\r\n"));
  REQUIRE(socket);
  for (const payload& p :
       {payload::json("[1, 2]"), payload::text("a\nb\xE2\x80\xA8"), payload::binary(std::string("\0\n\xFF", 3))}) {
    std::string line = encode(begin("1.0")->messages(), p), frame = encode(socket->live->messages(), p);
    REQUIRE(line.back() == '\n');
    line.pop_back();
    CHECK(line.find('\n') == line.npos);
    CHECK(frame.substr(frame.size() - line.size()) == line);
  }
}

TEST_CASE("only an end for a while says when to come back; a clean end is the last chunk") {
  for (bool chunked : {false, true}) {
    auto s = begin(chunked ? "1.1" : "1.0");
    std::string out, overloaded;
    s->end(out, 1001, "server stopped");
    CHECK(out == (chunked ? "0\r\n\r\n" : ""));
    s->end(overloaded, 1013, {});
    const std::string bye = R"({"bye":{"code":"overloaded","reconnect":true,"after":[1000,2000]}})";
    CHECK(overloaded == (chunked ? "43\r\n" + bye + "\n\r\n0\r\n\r\n" : bye + '\n'));
  }
}

TEST_CASE("what a client says after its request is not listened to") {
  auto s = begin();
  std::string bytes = "anything", out;
  std::span<char> in(bytes);
  CHECK(s->receive(in, out).what == stream_event::kind::none);
  CHECK(in.empty());
  CHECK(out.empty());
}
