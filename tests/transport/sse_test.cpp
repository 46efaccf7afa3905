// SPDX-License-Identifier: BSL-1.0
#include "hailwire/transport/sse.hpp"

#include <set>
#include <string>

#include "arriving.hpp"

using namespace hailwire;
using namespace hailwire::transport;
using arriving::encode;
using arriving::request;

namespace {

arriving::begun begin(const std::string& query, const std::string& version = "1.1") {
  auto b = sse::begin(*request(query, {}, version));
  REQUIRE(b);
  return arriving::begun(std::move(*b));
}

/// The number of `retry:` is drawn by lot: made the same for all, if it lies within its span.
std::string without_retry(std::string text, unsigned long least, unsigned long most) {
  const auto at = text.find("retry: ") + 7, end = text.find('\n', at);
  const auto n = std::stoul(text.substr(at));
  CHECK(n >= least);
  CHECK(n <= most);
  return text.replace(at, end - at, "R");
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

TEST_CASE("an event stream begins with its head: chunked, and on HTTP/1.0 up to the end of the connection") {
  auto s = begin("?channel=a"), old = begin("?channel=a", "1.0");
  const std::string head =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nCache-Control: "
      "no-store\r\nX-Accel-Buffering: no\r\n";
  CHECK(s.open("X: y\r\n") == head + "Transfer-Encoding: chunked\r\nX: y\r\n\r\n");
  CHECK(old.open("X: y\r\n") == head + "X: y\r\n\r\n");
}

TEST_CASE("open says in its own block when to come back") {
  auto s = begin("?channel=a", "1.0");
  std::string out;
  CHECK(s->notice(out, "open", "{\"open\":{}}", "e.4"));
  CHECK(without_retry(out, 2000, 4000) == "retry: R\nevent: open\ndata: {\"open\":{}}\nid: e.4\n\n");
}

TEST_CASE("what an EventSource is told to wait is drawn by lot, between the option and its double") {
  std::set<std::string> seen;
  for (int i = 0; i < 64; ++i) {
    auto s = begin("?channel=a", "1.0");
    std::string out;
    s->notice(out, "open", "{}", {});
    CHECK(without_retry(out, 2000, 4000).starts_with("retry: R\n"));
    seen.insert(out);
  }
  CHECK(seen.size() > 32);
}

TEST_CASE("bye has in its own block the time to wait, for who reads nothing else") {
  auto s = begin("?channel=a&channel=b", "1.0"), chunked = begin("?channel=a");
  std::string out;
  CHECK(s->bye(out, "{\"bye\":{}}", 1234));
  CHECK(out == "retry: 1234\nevent: bye\ndata: {\"bye\":{}}\n\n");
  out.clear();
  CHECK(chunked->bye(out, "{\"bye\":{}}", 1234));
  CHECK(out == "29\r\nretry: 1234\nevent: bye\ndata: {\"bye\":{}}\n\n\r\n");
}

TEST_CASE("a notice is an event of its name, with an id where it has one, on one line") {
  auto s = begin("?channel=a", "1.0");
  std::string out;
  CHECK(s->notice(out, "gap", "{\"gap\":{}}", "e.4"));
  CHECK(s->notice(out, "hello", "{\"hello\":1}", {}));
  s->beat(out);
  CHECK(out ==
        "event: gap\ndata: {\"gap\":{}}\nid: e.4\n\nevent: hello\ndata: {\"hello\":1}\n\n: beat\nevent: ping\ndata: "
        "{\"ping\":{}}\n\n");
  // The same, each block a chunk (RFC 9112, section 7.1).
  auto chunked = begin("?channel=a");
  out.clear();
  CHECK(chunked->notice(out, "gap", "{\"gap\":{}}", "e.4"));
  CHECK(out == "25\r\nevent: gap\ndata: {\"gap\":{}}\nid: e.4\n\n\r\n");
  CHECK(s->speaks());
}

TEST_CASE("with one channel every message carries its own id behind its data, with several the batch's cursor does") {
  const payload p = payload::json(R"({"n":1})");
  const std::string data = R"(data: {"channel":"chat","offset":7,"at":1000,"data":{"n":1}})";
  CHECK(encode(begin("?channel=a", "1.0")->messages(), p) == data + "\nid: epoch.7\n\n");
  CHECK(encode(begin("?channel=a")->messages(), p) == "4a\r\n" + data + "\nid: epoch.7\n\n\r\n");
  REQUIRE((data + "\nid: epoch.7\n\n").size() == 0x4a);
  for (const std::string version : {"1.0", "1.1"}) {
    auto one = begin("?channel=a", version), two = begin("?channel=a&channel=b", version);
    CHECK(one->tags() == 0);
    // Behind what is left once `tags()` bytes are taken from the end stands the tag, in the same block.
    std::string bytes = encode(two->messages(), p), tagged = bytes.substr(0, bytes.size() - two->tags());
    two->tag(tagged, "e.1,f.2");
    const bool chunked = version == "1.1";
    CHECK(bytes == (chunked ? "3d\r\n" + data + "\n\r\n1\r\n\n\r\n" : data + "\n\n"));
    CHECK(tagged == (chunked ? "3d\r\n" + data + "\n\r\nd\r\nid: e.1,f.2\n\n\r\n" : data + "\nid: e.1,f.2\n\n"));
    // A channel that the host adds has no place in the cursor.
    CHECK(&one->others() == &two->messages());
    CHECK(&two->others() == &two->messages());
  }
}

TEST_CASE("no payload can break out of its line") {
  auto s = begin("?channel=a", "1.0");
  for (auto& p :
       {payload::text("a\r\nb\rc\nd\n\n"), payload::binary("\r\n\r\ndata: x\n\n"), payload::text("\xE2\x80\xA8")}) {
    auto bytes = encode(s->messages(), p);
    CHECK(bytes.find('\r') == bytes.npos);
    CHECK(std::count(bytes.begin(), bytes.end(), '\n') == 3);
    CHECK(bytes.ends_with("\n\n"));
  }
}

TEST_CASE("what a client says after its request is nothing; nobody waits for its end") {
  auto s = begin("?channel=a", "1.0"), chunked = begin("?channel=a");
  std::string in = "GET / HTTP/1.1\r\n\r\n", out;
  std::span<char> bytes(in);
  CHECK(s->receive(bytes, out).what == stream_event::kind::none);
  CHECK(bytes.empty());
  s->reply(out, "{}");
  s->end(out, 4000, "done");
  CHECK(out.empty());
  s->end(out, 1013, "overloaded");  // this will pass: it is told when to come back
  CHECK(without_retry(out, 1000, 2000) ==
        "retry: R\nevent: bye\ndata: "
        "{\"bye\":{\"code\":\"overloaded\",\"reconnect\":true,\"after\":[1000,2000]}}\n\n");
  out.clear();
  chunked->end(out, 4000, "done");
  CHECK(out == "0\r\n\r\n");
  CHECK_FALSE(s->expects_life());
  CHECK_FALSE(s->awaits_end());
}
