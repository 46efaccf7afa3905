// SPDX-License-Identifier: BSL-1.0
// Several channels by one `subscribe`: all of them or none, and nothing of any before the answer.
#include <nlohmann/json.hpp>

#include "detail/connection/stage.hpp"
#include "hailwire/storage/memory.hpp"

using namespace stage;

namespace {

std::string text(const std::string& json) { return "text " + json; }
std::string ok(const std::string& entries) { return text("{\"reply\":1,\"ok\":{" + entries + "}}"); }
std::string entry(const std::string& channel, int offset, bool recovered = true, int life = 1) {
  return '"' + channel + R"(":{"epoch":")" + channel + '-' + std::to_string(life) +
         "\",\"offset\":" + std::to_string(offset) + ",\"recovered\":" + (recovered ? "true}" : "false}");
}
std::string subscribe(const std::string& channels, const std::string& since = {}) {
  return R"({"id":1,"subscribe":{"channels":[)" + channels + ']' +
         (since.empty() ? std::string() : ",\"since\":\"" + since + '"') + "}}";
}
/// The code with which the only answer refuses.
std::string refused(const lines& heard) {
  REQUIRE(heard.size() == 1);
  return nlohmann::json::parse(heard[0].substr(5)).at("error").at("code");
}
session& only(house& h, std::size_t i = 0) { return *h.gate.messages.sessions().at(i); }

/// A client that waits for two channels: of `a`, which somebody else follows, it is known where it stands, of `b` it is
/// still being read.
struct waiting {
  explicit waiting(const std::string& since = {}) : c(h), warm(h) {
    c.join("");
    warm.join("?channel=a");
    h.store.holding = true;
    c.say(subscribe(R"("a","b")", since));
    REQUIRE(h.store.asked() == 1);
    REQUIRE(c.hear().empty());
  }
  void answer() {
    h.store.holding = false;
    h.answer();
    c.c->deliver();
    h.run();
  }
  house h;
  client c, warm;
};

}  // namespace

TEST_CASE("several channels by one command: their entries in order, then what each has") {
  house h;
  h.publish("a", "1");
  h.publish("a", "2");
  h.publish("b", "3");
  client c(h);
  c.join("?channel=z");
  c.say(subscribe(R"("b","a","new")", "earliest"));
  CHECK(c.hear() == lines{ok(entry("b", 0) + ',' + entry("a", 0) + ',' + entry("new", 0)), text(published("b", 1, "3")),
                          text(published("a", 1, "1")), text(published("a", 2, "2"))});
  h.publish("new", "4");
  h.publish("z", "5");
  CHECK(c.hear() == lines{text(published("new", 1, "4")), text(published("z", 1, "5"))});
  CHECK(only(h).channels() == lines{"z", "b", "a", "new"});
  c.say(R"({"id":2,"unsubscribe":{"channel":"b"}})");
  c.take();
  h.publish("b", "6");
  CHECK(c.hear().empty());
  c.say(subscribe(R"("b")"));
  CHECK(c.hear() == lines{ok(entry("b", 2))});
}

TEST_CASE("each begins at its element of the cursor, and what one has lost is told behind the answer") {
  house h;
  for (int i = 0; i < 4; ++i) h.publish("a", "1");
  for (int i = 0; i < 2; ++i) h.publish("b", "2");
  h.store.trim("a", 1);
  client c(h);
  c.join("");
  c.say(subscribe(R"("b","a","c")", "b-1.1,a-1.1,latest"));
  const auto gap = [](const std::string& reason, int next) {
    return text(R"({"gap":{"channel":"a","reason":")" + reason + R"(","epoch":"a-1","next":)" + std::to_string(next) +
                "}}");
  };
  CHECK(c.hear() == lines{ok(entry("b", 1) + ',' + entry("a", 3, false) + ',' + entry("c", 0)), gap("trimmed", 4),
                          text(published("b", 2, "2")), text(published("a", 4, "1"))});
  client d(h);
  d.join("");
  d.say(subscribe(R"("a","b")", "old.9,b-1.2"));
  CHECK(d.hear() ==
        lines{ok(entry("a", 3, false) + ',' + entry("b", 2)), gap("epoch", 4), text(published("a", 4, "1"))});
}

TEST_CASE("one that cannot be followed refuses all") {
  options o;
  o.max_channels = 3;
  house h(o);
  client c(h);
  c.join("?channel=z");
  auto follows = [&] { return only(h).channels(); };
  c.say(subscribe(R"("a","secret")"));
  CHECK(refused(c.hear()) == "forbidden");
  c.say(subscribe(R"("a","@ada")"));
  CHECK(refused(c.hear()) == "forbidden");
  c.say(subscribe(R"("a","z")"));
  CHECK(refused(c.hear()) == "bad_request");
  c.say(subscribe(R"("z","a")"));
  CHECK(refused(c.hear()) == "bad_request");
  c.say(subscribe(R"("a","b","c")"));
  CHECK(refused(c.hear()) == "bad_request");
  c.say(subscribe(R"("a","b")", "latest,latest,latest"));
  CHECK(refused(c.hear()) == "bad_request");
  CHECK(follows() == lines{"z"});
  CHECK(h.gate.messages.followers("a").empty());
  for (int failing = 0; failing < 2; ++failing) {
    CAPTURE(failing);
    h.store.fail_after = failing;
    c.say(subscribe(R"("a","b")"));
    CHECK(refused(c.hear()) == "overloaded");
    h.store.fail_after = -1;
    CHECK(follows() == lines{"z"});
    h.publish("a", "1");
    h.publish("b", "1");
    CHECK(c.hear().empty());
  }
  c.say(subscribe(R"("a","b")"));
  CHECK(c.hear() == lines{ok(entry("a", 2) + ',' + entry("b", 2))});
  client poster(h);
  CHECK(poster.ask(post("", subscribe(R"("a","b")"))).status == 400);
}

TEST_CASE("while one is being read nothing comes of the others, and nothing is lost of them") {
  for (const bool slow : {false, true}) {  // whether the peer is slow besides
    CAPTURE(slow);
    waiting w;
    CHECK(w.h.gate.messages.followers("a").size() == 1);  // the other one
    CHECK_FALSE(w.h.gate.messages.publish("a", payload::json("7")));
    w.h.run();
    w.h.store.answer_last();
    w.h.run();
    CHECK(w.warm.hear() == lines{text(published("a", 1, "7", w.h.loop.now()))});
    CHECK(w.c.hear().empty());
    if (slow) w.c.narrow(10);
    w.answer();
    if (slow) w.c.widen();
    CHECK(w.c.hear() == lines{ok(entry("a", 0) + ',' + entry("b", 0)), text(published("a", 1, "7", w.h.loop.now()))});
    CHECK(w.h.gate.messages.followers("a").size() == 2);
    w.h.publish("b", "8");
    w.h.publish("a", "9");
    CHECK(w.c.hear() == lines{text(published("b", 1, "8")), text(published("a", 2, "9"))});
  }
}

TEST_CASE("a channel that the host takes away meanwhile refuses all") {
  for (const std::string channel : {"a", "b"}) {
    CAPTURE(channel);
    waiting w;
    session* s = nullptr;
    for (session* one : w.h.gate.messages.sessions())
      if (one->channels().size() == 2) s = one;
    REQUIRE(s);
    CHECK_FALSE(s->unfollow(channel));
    w.answer();
    auto heard = w.c.hear();
    REQUIRE(heard.size() == 2);  // `closed`, and the answer
    CHECK(refused({heard[1]}) == "forbidden");
    CHECK(s->channels().empty());
    w.h.publish("a", "1");
    w.h.publish("b", "1");
    CHECK(w.c.hear().empty());
    w.c.say(subscribe(R"("a","b")"));
    CHECK(w.c.hear() == lines{ok(entry("a", 1) + ',' + entry("b", 1))});
  }
}

TEST_CASE("a channel that begins another life meanwhile is begun in that one") {
  auto another_life = [](waiting& w) {
    w.h.store.restart("a");
    CHECK_FALSE(w.h.gate.messages.publish("a", payload::json("7")));
    w.h.run();
    w.h.store.answer_last();  // the publish, by which the hub hears of it
    w.h.run();
    w.h.store.answer_last();  // where the channel stands now
    w.h.run();
    w.h.store.answer_last();  // what the other one reads on
    w.h.run();
    REQUIRE(w.h.store.asked() == 1);
    CHECK(w.c.hear().empty());
  };
  {
    waiting latest;
    another_life(latest);
    latest.answer();
    CHECK(latest.c.hear() == lines{ok(entry("a", 1, true, 2) + ',' + entry("b", 0))});
  }
  waiting placed("a-1.0,latest");
  another_life(placed);
  placed.answer();
  CHECK(placed.c.hear() == lines{ok(entry("a", 0, false, 2) + ',' + entry("b", 0)),
                                 text(R"({"gap":{"channel":"a","reason":"epoch","epoch":"a-2","next":1}})"),
                                 text(published("a", 1, "7", placed.h.loop.now()))});
}

TEST_CASE("a floor that rises meanwhile hides what lies below it") {
  house h;
  for (int i = 1; i <= 4; ++i) h.publish("a", std::to_string(i));
  client c(h);
  c.join("?user=ada");
  h.store.holding = true;
  c.say(subscribe(R"("a","b")", "earliest"));
  h.answer(1);
  CHECK(h.store.asked() == 1);
  grant g;
  g.user = "ada";
  g.follow = channel_set::all();
  g.floors = {{"a", 4}};
  CHECK_FALSE(only(h).permit(g));
  h.store.holding = false;
  h.answer();
  CHECK(c.hear() == lines{ok(entry("a", 3) + ',' + entry("b", 0)), text(published("a", 4, "4"))});
}

TEST_CASE("a client that is gone when the last of them is known is not served any more") {
  waiting w;
  w.c.c->reset();
  w.h.run();
  w.answer();
  CHECK(w.h.gate.messages.sessions().size() == 1);
  w.h.publish("a", "1");
  CHECK(w.warm.hear() == lines{text(published("a", 1, "1"))});
}

TEST_CASE("a storage that answers at once lets several channels begin at once") {
  memory_storage store;
  house h(detail::erase_storage(store));
  for (int i = 1; i <= 3; ++i) h.publish("a", std::to_string(i));
  client c(h);
  c.join("");
  c.say(subscribe(R"("b","a")", "earliest"));
  auto heard = c.hear();
  REQUIRE(heard.size() == 4);
  const auto entries = nlohmann::json::parse(heard[0].substr(5)).at("ok");
  CHECK(entries.at("a").at("offset") == 0);
  CHECK(entries.at("b").at("offset") == 0);
  for (int i = 1; i <= 3; ++i) CHECK(heard[static_cast<std::size_t>(i)] == text(published("a", i, std::to_string(i))));
}
