// SPDX-License-Identifier: BSL-1.0
// One answer of a poll: what is in it, how much of that, and when. What a poll's request may say is in
// requests_test.cpp.
#include "hailwire/detail/connection/connection.hpp"

#include <string>

#include "detail/connection/stage.hpp"

using namespace hailwire;
using namespace stage;

namespace {

int count(const std::string& all, std::string_view what) {
  int n = 0;
  for (std::size_t at = 0; (at = all.find(what, at)) != all.npos; at += what.size()) ++n;
  return n;
}
std::string cursor(const answer& a) {
  const auto at = a.body.rfind("\"cursor\":\"") + 10;
  return a.body.substr(at, a.body.find('"', at) - at);
}

TEST_CASE("an answer has as many messages as it may, and says whether there are more") {
  for (int there : {2, 3, 4, 6, 7}) {
    for (std::string query : {"?channel=c&since=earliest", "?channel=c&since=earliest&wait=10"}) {
      INFO(there << " of 3 an answer, " << query);
      options o;
      o.poll_messages = 3;
      house h(o);
      for (int i = 0; i < there; ++i) h.publish("c", std::to_string(i));
      client c(h);
      int heard = 0;
      std::string at = "earliest";
      for (int round = 0; heard < there; ++round) {
        REQUIRE(round < 4);
        auto a = c.ask(get("/live?channel=c&since=" + at));
        const int now = count(a.body, "\"data\":");
        heard += now;
        CHECK(now == std::min(3, there - (heard - now)));
        CHECK(a.has("\"more\":true") == (heard < there));
        at = cursor(a);
        CHECK(at == "c-1." + std::to_string(heard));
      }
    }
  }
}

TEST_CASE("an answer has as many bytes as it may, and one message whatever its size") {
  // What one message weighs with its comma.
  const std::size_t weight = published("c", 1, "1").size() + 1;
  for (int over : {-1, 0, 1}) {
    for (std::size_t limit : {std::size_t{1}, std::size_t{2}, std::size_t{3}}) {
      INFO(limit << " messages and " << over);
      options o;
      o.poll_bytes = limit * weight + static_cast<std::size_t>(over);
      house h(o);
      for (int i = 0; i < 5; ++i) h.publish("c", "1");
      client c(h);
      auto a = c.ask(get("/live?channel=c&since=earliest"));
      const std::size_t fit = std::max<std::size_t>(1, over < 0 ? limit - 1 : limit);
      CHECK(count(a.body, "\"data\":") == static_cast<int>(fit));
      CHECK(cursor(a) == "c-1." + std::to_string(fit));
    }
  }
}

TEST_CASE("a poll that waits is answered by what it waited for or at the end of its time, not before") {
  house h;
  client c(h);
  c.send(get("/live?channel=c&since=earliest&wait=10"));
  h.advance(9'999);
  CHECK(c.take().empty());
  SECTION("in time") {
    h.publish("c", "1");
    CHECK(read_answer(c.take()).has("\"offset\":1"));
  }
  SECTION("without anything") {
    h.advance(1 + 300);  // the timer wheel may ring so much later
    auto a = read_answer(c.take());
    CHECK(a.status == 200);
    CHECK(cursor(a) == "c-1.0");
    CHECK(a.body.starts_with(R"({"messages":[],"notices":[])"));
  }
}

TEST_CASE(
    "what is live-only ends a poll's wait a second later, with all that came, and messages take it along at once") {
  house h;
  client c(h);
  auto wait = [&] { c.send(get("/live?channel=c&since=earliest&wait=10")); };
  auto tell = [&](const std::string& what) { h.gate.messages.tell("c", what, "1"), h.run(); };
  auto ephemeral = [&](const std::string& json) {
    CHECK_FALSE(h.gate.messages.publish("c", payload::json(json), {.ephemeral = true}));
    h.run();
  };
  SECTION("a second") {
    wait();
    tell("a");
    h.advance(500);
    tell("b");
    ephemeral("7");
    ephemeral("8");
    h.advance(400);
    CHECK(c.take().empty());
    h.advance(300);
    auto a = read_answer(c.take());
    CHECK(a.has("\"notices\":[{\"a\":1},{\"b\":1}]"));
    CHECK(a.has("\"data\":7},{\"channel\":\"c\""));
    CHECK(a.has("\"data\":8}],\"notices\""));
    CHECK(cursor(a) == "c-1.0");
    wait();  // nothing of it comes again
    h.advance(9'000);
    CHECK(c.take().empty());
  }
  SECTION("with messages") {
    wait();
    ephemeral("7");
    tell("a");
    h.publish("c", "1");
    auto a = read_answer(c.take());
    CHECK(a.has("\"data\":7},{\"channel\":\"c\",\"offset\":1"));
    CHECK(a.has("\"notices\":[{\"a\":1}]"));
    CHECK(cursor(a) == "c-1.1");
  }
  SECTION("in one turn with messages, in whatever order") {
    wait();
    CHECK_FALSE(h.gate.messages.publish("c", payload::json("1")));
    h.gate.messages.tell("c", "a", "1");
    CHECK_FALSE(h.gate.messages.publish("c", payload::json("2")));
    h.gate.messages.tell("c", "b", "1");
    h.run();
    auto a = read_answer(c.take());
    CHECK(a.has("\"offset\":1"));
    CHECK(a.has("\"offset\":2"));
    CHECK(a.has("\"notices\":[{\"a\":1},{\"b\":1}]"));
    CHECK(cursor(a) == "c-1.2");
  }
  SECTION("more than there is room for is missed, and the poll is answered") {
    wait();
    for (int i = 0; i < 70; ++i) ephemeral('"' + std::string(1000, 'x') + '"');
    auto a = read_answer(c.take());
    CHECK(a.has("\"notices\":[{\"missed\":{\"channel\":\"c\"}}]"));
    CHECK(count(a.body, "\"data\":") < 70);
    CHECK(count(a.body, "\"data\":") > 50);
  }
}

TEST_CASE("a poll's answers, one behind the other, are the log: nothing lost, nothing twice, however they are cut") {
  for (std::size_t most : {std::size_t{1}, std::size_t{2}, std::size_t{5}}) {
    options o;
    o.poll_messages = most;
    house h(o);
    client c(h);
    std::string at = "earliest", heard, expected;
    int said = 0;
    for (int round = 0; round < 40; ++round) {
      for (int i = round % 4; i > 0; --i) {
        h.publish("c", std::to_string(++said));
        expected += std::to_string(said) + ' ';
      }
      auto a = c.ask(get("/live?channel=c&since=" + at));
      REQUIRE(a.status == 200);
      for (std::size_t i = 0; (i = a.body.find("\"data\":", i)) != a.body.npos;) {
        i += 7;
        heard += a.body.substr(i, a.body.find('}', i) - i) + ' ';
      }
      at = cursor(a);
    }
    while (heard.size() < expected.size()) {
      auto a = c.ask(get("/live?channel=c&since=" + at));
      const std::string before = at;
      for (std::size_t i = 0; (i = a.body.find("\"data\":", i)) != a.body.npos;) {
        i += 7;
        heard += a.body.substr(i, a.body.find('}', i) - i) + ' ';
      }
      at = cursor(a);
      REQUIRE(at != before);
    }
    CHECK(heard == expected);
  }
}

TEST_CASE("polls that one flush answers get the same body, each in its own version of HTTP and its own way to end") {
  house h;
  client one(h), two(h), old(h), closing(h), other(h);
  const std::string query = "/live?channel=c&since=earliest&wait=20";
  one.send(get(query));
  two.send(get(query));
  closing.send(get(query, "Connection: close\r\n"));
  old.send("GET " + query + " HTTP/1.0\r\nHost: h\r\n\r\n");
  other.send(get("/live?channel=d&since=earliest&wait=20"));
  h.publish("c", "1");
  auto a = read_answer(one.take()), b = read_answer(two.take()), d = read_answer(closing.take()),
       e = read_answer(old.take());
  CHECK(a.body == R"({"messages":[)" + published("c", 1, "1") + R"(],"notices":[],"cursor":"c-1.1"})");
  for (auto& same : {b, d, e}) CHECK(same.body == a.body);
  CHECK(d["connection"] == "close");
  CHECK(closing.c->ended_by_server);
  CHECK(old.c->ended_by_server);
  CHECK_FALSE(one.c->ended_by_server);
  CHECK(other.take().empty());
  h.publish("d", "2");  // the same head of another channel
  CHECK(read_answer(other.take()).body ==
        R"({"messages":[)" + published("d", 1, "2") + R"(],"notices":[],"cursor":"d-1.1"})");
}

TEST_CASE("an answer that is taken byte by byte is whole, and the next one follows it") {
  house h;
  for (int i = 0; i < 5; ++i) h.publish("c", std::to_string(i));
  client whole(h);
  whole.send(get("/live?channel=c&since=earliest"));
  const std::string expected = whole.take();
  for (std::size_t step : {std::size_t{1}, std::size_t{3}, std::size_t{50}}) {
    client c(h);
    c.narrow(0);
    c.send(get("/live?channel=c&since=earliest"));
    c.send(get("/live?channel=c&since=earliest"));
    std::string got;
    for (int i = 0; i < 10'000 && got.size() < 2 * expected.size(); ++i) {
      c.widen(step);
      got += c.take();
    }
    CHECK(got == expected + expected);
  }
}

}  // namespace
