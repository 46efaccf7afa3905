// SPDX-License-Identifier: BSL-1.0
// Who is woken, by which message, and when: a hub over a storage in memory, on time that is moved by hand, with a
// notifier whose answers the test gives.
#include "hailwire/detail/hub/waking.hpp"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "detail/connection/stage.hpp"
#include "hailwire/storage/memory.hpp"

using namespace hailwire;
using stage::client;
using stage::house;
using lines = std::vector<std::string>;

namespace {

struct scripted_notifier {
  std::string word = "test";
  std::string_view service() const { return word; }
  result<push_token> accept(std::string_view object, const push_token& kept) {
    accepted.push_back(std::string(object) + " " + kept.token + " " + kept.extra);
    if (object.find("bad") != object.npos) return {errc::bad_request, "a bad token"};
    const auto from = object.find("\"token\":\"") + 9;
    return push_token{std::string(object.substr(from, object.find('"', from) - from)), "more"};
  }
  void async_notify(push_device to, push_notice what, push_handler done) {
    if (throws) throw 1;
    told.push_back(to.user + "/" + to.device + " " + to.token + " " + what.channel + " " + std::to_string(what.offset) +
                   " of " + std::to_string(what.count));
    devices.push_back(std::move(to));
    if (holds) {
      held.push_back(std::move(done));
    } else {
      done({next, next == push_outcome::delivered ? "" : "a reason"});
    }
  }
  lines take() { return std::exchange(told, {}); }
  push_outcome next = push_outcome::delivered;
  bool holds = false, throws = false;
  lines told, accepted;
  std::vector<push_device> devices;
  std::vector<push_handler> held;
};
static_assert(push_notifier<scripted_notifier>);

struct site {
  explicit site(const options& o = {}) : h(detail::erase_storage(store), o) {
    h.gate.messages.add_notifier(std::make_unique<detail::erased_notifier<scripted_notifier>>(notifier));
  }
  void keep(const std::string& user, const std::string& device, const std::string& token = "t") {
    CHECK_FALSE(store.keep_token({user, device, "test", token, "", 1}).error);
  }
  /// The device says how far it has come.
  void mark(const std::string& channel, const std::string& user, const std::string& device, std::uint64_t received,
            std::uint64_t read = 0) {
    watermark m{user, device, store.read(channel, 0, {0, 0}).epoch, {received, read, read}, 1};
    CHECK_FALSE(store.mark(channel, m).error);
  }
  void publish(const std::string& channel) { h.publish(channel, "1"); }
  /// What was told once everything that waits is over.
  lines woken() {
    h.advance(5100);
    return notifier.take();
  }
  wake_counters counters() { return h.gate.messages.wakes(); }

  memory_storage store;
  scripted_notifier notifier;
  house h;
};

}  // namespace

TEST_CASE("a message in an inbox wakes each device that has a token, once, after the delay") {
  site s;
  s.keep("ada", "phone", "p");
  s.keep("ada", "watch", "w");
  s.keep("bob", "phone", "b");
  s.publish("@ada");
  CHECK(s.counters().waiting == 1);
  s.h.advance(4900);
  CHECK(s.notifier.take().empty());
  s.h.advance(200);
  CHECK(s.notifier.take() == lines{"ada/phone p @ada 1 of 1", "ada/watch w @ada 1 of 1"});
  s.h.advance(60'000);
  CHECK(s.notifier.take().empty());
  CHECK((s.counters().woken == 2 && s.counters().delivered == 2 && s.counters().waiting == 0));
  CHECK(s.notifier.devices[0].registered == 1);
}

TEST_CASE("what comes within the delay is told together; what comes later wakes again") {
  site s;
  s.keep("ada", "phone");
  s.publish("@ada");
  s.h.advance(4000);
  s.publish("@ada");
  s.publish("@ada");
  CHECK(s.woken() == lines{"ada/phone t @ada 3 of 3"});
  s.publish("@ada");
  CHECK(s.woken() == lines{"ada/phone t @ada 4 of 1"});
}

TEST_CASE("a device with a live session is not woken, and silences no other one of its user") {
  options o;
  const bool whole_user = GENERATE(false, true);
  o.wake_absent_users_only = whole_user;
  site s(o);
  s.keep("ada", "laptop", "l");
  s.keep("ada", "phone", "p");
  client c(s.h);
  c.join("?user=ada&device=laptop&channel=chat");
  s.publish("@ada");
  CHECK(s.woken() == (whole_user ? lines{} : lines{"ada/phone p @ada 1 of 1"}));
  CHECK(s.counters().spared == (whole_user ? 2u : 1u));
  c.say("{\"id\":1,\"ping\":{}}");  // it is alive
  c.send(stage::close_frame(1000)).c->send_end();
  s.h.run();
  s.publish("@ada");
  CHECK(s.woken() == lines{"ada/laptop l @ada 2 of 1", "ada/phone p @ada 2 of 1"});
}

TEST_CASE("a device that has just come and gone is woken; one that comes within the delay is not") {
  site s;
  s.keep("ada", "phone");
  s.publish("@ada");
  client c(s.h);
  c.join("?user=ada&device=phone&channel=@ada&since=earliest");
  CHECK(s.woken().empty());
  CHECK(s.counters().spared == 1);
}

TEST_CASE("received spares the device that says it, read spares all devices of its user") {
  site s;
  s.keep("ada", "phone", "p");
  s.keep("ada", "watch", "w");
  s.publish("@ada");
  s.publish("@ada");
  SECTION("received, but not all of it") {
    s.mark("@ada", "ada", "phone", 1);
    CHECK(s.woken() == lines{"ada/phone p @ada 2 of 1", "ada/watch w @ada 2 of 2"});
  }
  SECTION("received") {
    s.mark("@ada", "ada", "phone", 2);
    CHECK(s.woken() == lines{"ada/watch w @ada 2 of 2"});
  }
  SECTION("read, but not all of it") {
    s.mark("@ada", "ada", "laptop", 2, 1);
    CHECK(s.woken().size() == 2);
  }
  SECTION("read, on a device without a token") {
    s.mark("@ada", "ada", "laptop", 2, 2);
    CHECK(s.woken().empty());
    CHECK(s.counters().spared == 2);
  }
}

TEST_CASE("a device is told one thing at a time, whatever comes while that is on its way") {
  site s;
  s.keep("ada", "phone");
  s.notifier.holds = true;
  s.publish("@ada");
  CHECK(s.woken() == lines{"ada/phone t @ada 1 of 1"});
  s.publish("@ada");
  CHECK(s.woken().empty());
  REQUIRE(s.notifier.held.size() == 1);
  s.notifier.held[0]({push_outcome::delivered, ""});
  s.publish("@ada");
  CHECK(s.woken() == lines{"ada/phone t @ada 3 of 1"});
}

TEST_CASE("a token that is gone is forgotten, but not the one that has taken its place") {
  site s;
  s.keep("ada", "phone", "old");
  s.notifier.holds = true;
  const bool renamed = GENERATE(false, true);
  s.publish("@ada");
  CHECK(s.woken().size() == 1);
  if (renamed) s.keep("ada", "phone", "new");
  s.notifier.held[0]({push_outcome::gone, "410"});
  s.h.run();
  auto left = s.store.tokens("ada").tokens;
  CHECK(left.size() == (renamed ? 1u : 0u));
  if (renamed) CHECK(left[0].token == "new");
  CHECK(s.counters().gone == 1);
}

TEST_CASE("a failed notice keeps its token; a notifier that throws is contained") {
  site s;
  s.keep("ada", "phone");
  s.notifier.next = push_outcome::failed;
  s.publish("@ada");
  CHECK(s.woken().size() == 1);
  s.notifier.throws = true;
  s.publish("@ada");
  CHECK(s.woken().empty());
  CHECK(s.counters().failed == 2);
  s.notifier.throws = false;
  s.publish("@ada");
  CHECK(s.woken().size() == 1);
  CHECK(s.store.tokens("ada").tokens.size() == 1);
}

TEST_CASE("a session that ends as dead wakes its device for what lies above its watermark") {
  site s;
  s.keep("ada", "phone");
  s.publish("@ada");
  s.publish("@ada");
  s.woken();
  client c(s.h);
  c.join("?user=ada&device=phone&channel=@ada&since=earliest");
  s.publish("@ada");
  CHECK(s.woken().empty());  // it is live, as far as anybody knows
  enum class is { silent, broken, orderly } how = GENERATE(is::silent, is::broken, is::orderly);
  const std::uint64_t received = GENERATE(0u, 2u, 3u);
  if (received) s.mark("@ada", "ada", "phone", received);
  if (how == is::silent) s.h.advance(2 * 25'000 + 200);
  if (how == is::broken) c.c->reset();
  if (how == is::orderly) c.send(stage::close_frame(1000)).c->send_end();
  s.h.run();
  INFO("how " << static_cast<int>(how) << ", received " << received);
  s.h.advance(6000);
  lines expected;
  if (how != is::orderly && received == 2) expected = {"ada/phone t @ada 3 of 1"};
  CHECK(s.notifier.take() == expected);
}

TEST_CASE("a channel whose rule says so wakes those who have watermarks in it, but not for their own words") {
  options o;
  o.channels = {{.pattern = "team/*", .wake = true}, {.pattern = "@quiet", .wake = false}};
  site s(o);
  for (const char* user : {"ada", "bob", "eve", "quiet"}) s.keep(user, "phone", user);
  s.publish("team/1");
  s.mark("team/1", "ada", "phone", 1);
  s.mark("team/1", "bob", "phone", 1);
  CHECK(s.woken().empty());
  client c(s.h);
  c.join("?user=bob&device=laptop&channel=chat");
  c.say("{\"publish\":{\"channel\":\"team/1\",\"data\":2}}");
  CHECK(s.woken() == lines{"ada/phone ada team/1 2 of 1"});
  s.publish("team/1");
  CHECK(s.woken() == lines{"ada/phone ada team/1 3 of 2", "bob/phone bob team/1 3 of 2"});
  s.publish("other");
  s.publish("@quiet");
  CHECK(s.woken().empty());
  CHECK(s.counters().waiting == 0);
}

TEST_CASE("1,000 sleeping users and one message to each: every one is woken once") {
  site s;
  for (int i = 0; i < 1000; ++i) s.keep("u" + std::to_string(i), "phone", "t" + std::to_string(i));
  for (int i = 0; i < 1000; ++i) s.publish("@u" + std::to_string(i));
  const lines told = s.woken();
  CHECK(told.size() == 1000);
  std::map<std::string, int> times;
  for (const auto& d : s.notifier.devices) ++times[d.token];
  CHECK(times.size() == 1000);
  s.h.advance(600'000);
  CHECK(s.notifier.take().empty());
}

TEST_CASE("a channel of 3,000 users wakes each of them, a page at a time") {
  options o;
  o.channels = {{.pattern = "all", .wake = true}};
  site s(o);
  s.publish("all");
  for (int i = 0; i < 3000; ++i) {
    s.keep("u" + std::to_string(i), "phone", "t" + std::to_string(i));
    s.mark("all", "u" + std::to_string(i), "phone", 0);
  }
  CHECK(s.woken().size() == 3000);
}

TEST_CASE("what waits is bounded, and what is over that is counted") {
  options o;
  o.max_pending = 3;
  site s(o);
  for (const char* user : {"a", "b", "c", "d"}) s.keep(user, "phone", user);
  for (const char* user : {"@a", "@b", "@c", "@d", "@a"}) s.publish(user);
  CHECK((s.counters().waiting == 3 && s.counters().dropped == 1));
  CHECK(s.woken().size() == 3);
}

TEST_CASE("a hub that has stopped wakes nobody, and hears what comes back without harm") {
  site s;
  s.keep("ada", "phone");
  s.notifier.holds = true;
  s.publish("@ada");
  s.woken();
  s.publish("@ada");
  s.h.gate.messages.stop();
  s.h.advance(60'000);
  CHECK(s.notifier.take().empty());
  s.notifier.held[0]({push_outcome::gone, ""});
  s.h.run();
  CHECK_FALSE(s.h.loop.waiting());
}

TEST_CASE("hubs of one process know one another's live devices") {
  site s;
  house other(detail::erase_storage(s.store));
  other.gate.messages.share_devices(s.h.gate.messages);
  scripted_notifier twin;
  other.gate.messages.add_notifier(std::make_unique<detail::erased_notifier<scripted_notifier>>(twin));
  s.keep("ada", "phone");
  client c(other);
  c.join("?user=ada&device=phone&channel=chat");
  s.publish("@ada");
  CHECK(s.woken().empty());
  c.c->reset();
  other.run();
  s.publish("@ada");
  CHECK(s.woken() == lines{"ada/phone t @ada 2 of 1"});
  CHECK(twin.take().empty());
}

TEST_CASE("the device command keeps a token, replaces and forgets it") {
  site s;
  client c(s.h);
  c.join("?user=ada&device=phone&channel=chat");
  c.say(R"({"id":1,"device":{"push":"test","token":"one"}})");
  CHECK(c.hear() == lines{R"(text {"reply":1,"ok":{}})"});
  auto kept = s.store.tokens("ada").tokens;
  REQUIRE(kept.size() == 1);
  CHECK((kept[0].device == "phone" && kept[0].service == "test" && kept[0].token == "one" && kept[0].extra == "more"));
  CHECK(kept[0].at == s.h.loop.unix_time());
  c.say(R"({"id":2,"device":{"push":"test","token":"two"}})");
  CHECK(s.notifier.accepted.back() == R"({"push":"test","token":"two"} one more)");
  CHECK(s.store.tokens("ada").tokens.at(0).token == "two");
  // Somebody else on the same browser: it is his from now on.
  client d(s.h);
  d.join("?user=bob&device=phone&channel=chat");
  d.say(R"({"id":3,"device":{"push":"test","token":"two"}})");
  CHECK(s.store.tokens("ada").tokens.empty());
  CHECK(s.store.tokens("bob").tokens.size() == 1);
  d.say(R"({"id":4,"device":{"push":"test","token":null}})");
  CHECK(s.store.tokens("bob").tokens.empty());
  d.say(R"({"id":5,"device":{"token":null}})");
  CHECK(d.hear().back() == R"(text {"reply":5,"ok":{}})");
}

TEST_CASE("a device command that makes no sense says why") {
  site s;
  auto says = [&](const std::string& query, const std::string& body) {
    client c(s.h);
    c.join(query);
    c.say("{\"id\":1,\"device\":" + body + "}");
    auto heard = c.hear();
    REQUIRE(heard.size() == 1);
    const auto from = heard[0].find("\"code\":\"");
    return from == std::string::npos ? heard[0] : heard[0].substr(from + 8, heard[0].find('"', from + 8) - from - 8);
  };
  const std::string good = R"({"push":"test","token":"t"})", ada = "?user=ada&device=phone&channel=chat";
  CHECK(says("?device=phone&channel=chat", good) == "forbidden");
  CHECK(says("?user=ada&channel=chat", good) == "bad_request");
  CHECK(says(ada, R"({"token":"t"})") == "bad_request");
  CHECK(says(ada, R"({"push":7,"token":"t"})") == "bad_request");
  CHECK(says(ada, R"({"push":"telegraph","token":"t"})") == "not_implemented");
  CHECK(says(ada, R"({"push":"test","token":"bad"})") == "bad_request");
  CHECK(says(ada, "7") == "bad_request");
  CHECK(s.store.tokens("ada").tokens.empty());
  for (int i = 0; i < 16; ++i) {
    const std::string name = "d" + std::to_string(i);
    CHECK_FALSE(s.store.keep_token({"ada", name, "test", name, "", s.h.loop.unix_time()}).error);
  }
  CHECK(says(ada, good) == "conflict");
}

TEST_CASE("without a notifier no device is kept; without tokens in the storage there is no notifier") {
  memory_storage store;
  house h(detail::erase_storage(store));
  client c(h);
  c.join("?user=ada&device=phone&channel=chat");
  c.say(R"({"id":1,"device":{"push":"test","token":"t"}})");
  CHECK(c.hear().at(0).find("not_implemented") != std::string::npos);
  house without;  // a storage of two functions
  scripted_notifier n;
  CHECK_THROWS_AS(without.gate.messages.add_notifier(std::make_unique<detail::erased_notifier<scripted_notifier>>(n)),
                  std::invalid_argument);
  site s;
  CHECK_THROWS_AS(s.h.gate.messages.add_notifier(std::make_unique<detail::erased_notifier<scripted_notifier>>(n)),
                  std::invalid_argument);
}
