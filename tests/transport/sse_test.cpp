// SPDX-License-Identifier: BSL-1.0
#include "hailwire/transport/sse.hpp"

#include "arriving.hpp"

using namespace hailwire;
using namespace hailwire::transport;
using arriving::request;

namespace {

arriving::begun begin(const std::string& query) {
  auto b = sse::begin(*request(query));
  REQUIRE(b);
  return arriving::begun(std::move(*b));
}
std::string encode(const proto::encoding& how, const payload& p) {
  message m{7, 1000, {}, {}, p};
  std::string json, out;
  proto::append_message(json, "chat", m);
  how.append(out, {"chat", "epoch", m, json});
  return out;
}

}  // namespace

TEST_CASE("SSE claims an Accept that names it itself, with a q over 0") {
  CHECK(sse::claims(*request("", "Accept: text/event-stream\r\n")));
  CHECK(sse::claims(*request("", "Accept: text/html;q=1, TEXT/event-Stream ; q=0.001\r\n")));
  CHECK(sse::claims(*request("", "Accept: text/html\r\nAccept: text/event-stream\r\n")));
  CHECK(sse::claims(*request("?wait=5", "Accept: text/event-stream\r\n", "1.0")));
  CHECK_FALSE(sse::claims(*request("", "Accept: */*\r\n")));
  CHECK_FALSE(sse::claims(*request("", "Accept: text/*\r\n")));
  CHECK_FALSE(sse::claims(*request("", "Accept: text/event-stream;q=0.000\r\n")));
  CHECK_FALSE(sse::claims(*request("", "Accept: text/event-streams\r\n")));
  CHECK_FALSE(sse::claims(*request("")));
}

TEST_CASE("an event stream begins with its head, which ends with the connection, and retry") {
  auto s = begin("?channel=a");
  CHECK(s.open("X: y\r\n") ==
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nCache-Control: "
        "no-store\r\nX-Accel-Buffering: no\r\nX: y\r\n\r\nretry: 2000\n\n");
}

TEST_CASE("a notice is an event of its name, with an id where it has one, on one line") {
  auto s = begin("?channel=a");
  std::string out;
  CHECK(s->notice(out, "gap", "{\"gap\":{}}", "e.4"));
  CHECK(s->notice(out, "hello", "{\"hello\":1}", {}));
  s->beat(out);
  CHECK(out ==
        "event: gap\nid: e.4\ndata: {\"gap\":{}}\n\nevent: hello\ndata: {\"hello\":1}\n\n:\n\nevent: ping\ndata: "
        "{\"ping\":{}}\n\n");
  CHECK(s->speaks());
}

TEST_CASE("with one channel every message carries its own id, with several the batch's cursor stands before its last") {
  auto one = begin("?channel=a"), two = begin("?channel=a&channel=b");
  std::string json = R"({"channel":"chat","offset":7,"at":1000,"data":{"n":1}})";
  CHECK(encode(one->messages(), payload::json(R"({"n":1})")) == "id: epoch.7\ndata: " + json + "\n\n");
  CHECK(encode(two->messages(), payload::json(R"({"n":1})")) == "data: " + json + "\n\n");
  CHECK_FALSE(one->tags());
  CHECK(two->tags());
  std::string tag;
  two->tag(tag, "e.1,f.2");
  CHECK(tag == "id: e.1,f.2\n");
  // A channel that the host adds has no place in the cursor.
  CHECK(&one->others() == &two->messages());
  CHECK(&two->others() == &two->messages());
}

TEST_CASE("no payload can break out of its line") {
  auto s = begin("?channel=a");
  for (auto& p :
       {payload::text("a\r\nb\rc\nd\n\n"), payload::binary("\r\n\r\ndata: x\n\n"), payload::text("\xE2\x80\xA8")}) {
    auto bytes = encode(s->messages(), p);
    CHECK(bytes.find('\r') == bytes.npos);
    CHECK(std::count(bytes.begin(), bytes.end(), '\n') == 3);
    CHECK(bytes.ends_with("\n\n"));
  }
}

TEST_CASE("what a client says after its request is nothing; nobody waits for its end") {
  auto s = begin("?channel=a");
  std::string in = "GET / HTTP/1.1\r\n\r\n", out;
  std::span<char> bytes(in);
  CHECK(s->receive(bytes, out).what == stream_event::kind::none);
  CHECK(bytes.empty());
  s->reply(out, "{}");
  s->end(out, 4000, "done");
  CHECK(out.empty());
  s->end(out, 1013, "overloaded");  // this will pass: it is told when to come back
  CHECK(out ==
        "retry: 1000\n\nevent: bye\ndata: "
        "{\"bye\":{\"code\":\"overloaded\",\"reconnect\":true,\"after\":[1000,2000]}}\n\n");
  CHECK_FALSE(s->expects_life());
  CHECK_FALSE(s->awaits_end());
}
