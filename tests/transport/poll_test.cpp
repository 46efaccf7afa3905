// SPDX-License-Identifier: BSL-1.0
#include <thread>

#include "arriving.hpp"
#include "hailwire/transport/long_poll.hpp"
#include "hailwire/transport/short_poll.hpp"

using namespace hailwire;
using namespace hailwire::transport;
using arriving::request;

TEST_CASE("a short poll claims whatever comes and waits for nothing") {
  for (auto& r : {request(""), request("?wait=5"), request("?channel=a", "Accept: text/event-stream\r\n")}) {
    CHECK(short_poll::claims(*r));
    auto b = short_poll::begin(*r);
    REQUIRE(b);
    CHECK(b->wait == 0);
  }
}

TEST_CASE("a long poll claims wait in the query or in Prefer, and nothing else") {
  CHECK(long_poll::claims(*request("?wait=5")));
  CHECK(long_poll::claims(*request("?a=b&wait=")));
  CHECK(long_poll::claims(*request("", "Prefer: wait=5\r\n")));
  CHECK(long_poll::claims(*request("", "prefer: respond-async; x=y, WAIT = \"5\"\r\n")));
  CHECK_FALSE(long_poll::claims(*request("")));
  CHECK_FALSE(long_poll::claims(*request("?Wait=5&waits=5")));
  CHECK_FALSE(long_poll::claims(*request("", "Prefer: wait=soon\r\n")));
  CHECK_FALSE(long_poll::claims(*request("", "Prefer: wait\r\n")));
}

TEST_CASE("how long a poll is held: the query before Prefer, whole seconds, capped") {
  auto wait = [](const request& r) {
    auto b = long_poll::begin(*r);
    if (!b) {
      CHECK(b.error().code == errc::bad_request);
      return std::int64_t{-1};
    }
    return b->wait;
  };
  CHECK(wait(request("?wait=0")) == 0);
  CHECK(wait(request("?wait=7")) == 7000);
  CHECK(wait(request("?wait=55")) == 55'000);
  CHECK(wait(request("?wait=56")) == 55'000);
  CHECK(wait(request("?wait=18446744073709551615")) == 55'000);
  CHECK(wait(request("?wait=18446744073709551616")) == 55'000);
  CHECK(wait(request("?wait=" + std::string(40, '9'))) == 55'000);
  CHECK(wait(request("?wait=" + std::string(40, '9') + "s")) == -1);
  CHECK(wait(request("?wait=018446744073709551616")) == -1);
  CHECK(wait(request("?wait=07")) == -1);
  CHECK(wait(request("?wait=-1")) == -1);
  CHECK(wait(request("?wait=1.5")) == -1);
  CHECK(wait(request("?wait=")) == -1);
  CHECK(wait(request("?wait=3", "Prefer: wait=9\r\n")) == 3000);
  CHECK(wait(request("", "Prefer: wait=9\r\n")) == 9000);
  CHECK(wait(request("", "Prefer: wait=99999999999999999999\r\n")) == 55'000);
  request capped("?wait=30");
  capped.settings.longest_wait = std::chrono::seconds(10);
  CHECK(wait(capped) == 10'000);
  capped.settings.longest_wait = std::chrono::seconds(-1);
  CHECK(wait(capped) == 0);
}

TEST_CASE("a message of before 1970 has the time 0, also when it is the first of its thread") {
  for (std::int64_t at : {std::int64_t{-1}, std::int64_t{0}, INT64_MIN}) {
    std::string json;
    std::thread([&] { proto::append_message(json, "chat", {1, at, {}, {}, payload::json("2")}); }).join();
    CHECK(json == R"({"channel":"chat","offset":1,"at":0,"data":2})");
  }
}

TEST_CASE("a poll's answer is one JSON object whose length is known before its messages") {
  message m{1, 1000, "ada", {}, payload::json("[1]")};
  std::string json, frames;
  proto::append_message(json, "chat", m);
  for (int i = 0; i < 2; ++i) poll_element.append(frames, {"chat", "e", m, json});
  CHECK(frames == ',' + json + ',' + json);
  std::string messages = frames.substr(1);

  auto a = make_poll_answer(messages.size(), R"({"gap":{}})", "e.1", {}, true, true, 1, "X: ", "y\r\n", false);
  std::string body = R"({"messages":[)" + messages + R"(],"notices":[{"gap":{}}],"cursor":"e.1","more":true})";
  CHECK(a.head + messages + a.tail ==
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
            "\r\nCache-Control: no-store\r\nETag: \"e.1\"\r\nX: y\r\n\r\n" + body);

  a = make_poll_answer(0, {}, "e.1,f.0", {}, false, false, 0, {}, {}, false);
  CHECK(a.head + a.tail ==
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 47\r\nConnection: "
        "close\r\nCache-Control: no-store\r\nETag: \"e.1,f.0\"\r\n\r\n"
        R"({"messages":[],"notices":[],"cursor":"e.1,f.0"})");
  auto head = make_poll_answer(0, {}, "e.1,f.0", {}, false, false, 0, {}, {}, true);
  CHECK(head.head + R"({"messages":[)" == a.head);
  CHECK(head.tail.empty());
}

TEST_CASE("not modified has the tag, no length and no body") {
  std::string answer, kept = "what stands before";
  append_not_modified(answer, "e.1", true, 1, "X: y\r\n", "Z: 1\r\n");
  CHECK(answer == "HTTP/1.1 304 Not Modified\r\nCache-Control: no-store\r\nETag: \"e.1\"\r\nX: y\r\nZ: 1\r\n\r\n");
  append_not_modified(kept, "e.1", true, 0, {}, {});
  CHECK(kept ==
        "what stands beforeHTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\nCache-Control: no-store\r\n"
        "ETag: \"e.1\"\r\n\r\n");
}
