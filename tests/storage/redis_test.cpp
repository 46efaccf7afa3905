// SPDX-License-Identifier: BSL-1.0
#include "hailwire/storage/redis.hpp"

#include <set>

#include "catch.hpp"
#include "hailwire/testing/storage_contract.hpp"
#include "redis_server.hpp"
#include "storage/asked.hpp"
#include "storage/redis_opened.hpp"

using namespace hailwire;
using testing::outcome;

namespace {

void keeps_the_contract(redis_fixture<redis_server> f) {
  auto outcomes = testing::storage_contract(std::move(f));
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  // All but content, which lies beside a log: files_storage.
  for (const auto& o : outcomes) CHECK((o.what == testing::verdict::passed) != o.name.starts_with("content "));
}

}  // namespace

TEST_CASE("Redis keeps the whole storage contract") {
  NEEDS_REDIS();
  keeps_the_contract({});
}

TEST_CASE("two storages on one log give a channel's offsets in turn, and hear of each other's keys and epochs") {
  NEEDS_REDIS();
  redis_server server;
  auto a = open_at(server.url()), b = open_at(server.url());
  const auto silent = read(*a, "c").epoch;
  CHECK(read(*b, "c").epoch == silent);
  for (std::uint64_t i = 1; i <= 20; ++i) {
    const auto r = append(i % 2 ? *a : *b, "c", std::to_string(i));
    CHECK(r.offset == i);
    CHECK(r.epoch == silent);
  }
  const auto first = append(*a, "c", "x", "key");
  CHECK((append(*b, "c", "x", "key").duplicate && append(*b, "c", "x", "key").offset == first.offset));
  CHECK(append(*b, "c", "y", "key").error == errc::conflict);
  CHECK(read(*b, "c").head == 21);
  auto other = open_at(server.url("/1"));  // another database
  CHECK(read(*other, "c").head == 0);
  redis_options o;
  o.prefix = "other";
  auto elsewhere = open_at(server.url(), o);
  CHECK(read(*elsewhere, "c").head == 0);
}

TEST_CASE("storages that append at the same time leave no hole, and each message once") {
  NEEDS_REDIS();
  redis_server server;
  auto a = open_at(server.url()), b = open_at(server.url());
  std::vector<std::shared_ptr<testing::detail::pending<append_result>>> answers;
  for (int i = 0; i < 500; ++i)
    for (auto* s : {a.get(), b.get()}) {
      answers.push_back(std::make_shared<testing::detail::pending<append_result>>());
      s->async_append(i % 3 ? "c" : "d", {1, "", "", payload::text("x"), i % 5 ? "" : "k" + std::to_string(i)},
                      testing::detail::pending<append_result>::handler(answers.back()));
    }
  std::size_t stored = 0;
  for (auto& p : answers) {
    const auto r = p->wait();
    CHECK(!r.error);
    stored += !r.duplicate;
  }
  CHECK(read(*a, "c").head + read(*b, "d").head == stored);
  CHECK(stored == 900);  // of 100 keys that both have used
}

TEST_CASE("a script flush in the middle is not noticed, and nothing passes what has to be sent again") {
  NEEDS_REDIS();
  redis_server server;
  auto s = open_at(server.url());
  redis_client control("127.0.0.1", server.port());
  std::mutex mutex;
  std::vector<std::uint64_t> offsets;
  std::vector<std::shared_ptr<testing::detail::pending<append_result>>> answers;
  for (int i = 0; i < 2000; ++i) {
    if (i % 100 == 50) CHECK(control.ask({"SCRIPT", "FLUSH"}) == "OK");
    answers.push_back(std::make_shared<testing::detail::pending<append_result>>());
    s->async_append("c", {1, "", "", payload::text(std::to_string(i)), ""},
                    [&, p = testing::detail::pending<append_result>::handler(answers.back())](append_result r) mutable {
                      {
                        std::lock_guard lock(mutex);
                        offsets.push_back(r.offset);
                      }
                      p(std::move(r));
                    });
  }
  for (auto& p : answers) CHECK(!p->wait().error);
  const auto log = read(*s, "c");
  REQUIRE(log.messages.size() == 2000);
  for (std::size_t i = 0; i < 2000; ++i) {
    CHECK(offsets[i] == i + 1);
    CHECK(log.messages[i].data.bytes() == std::to_string(i));
  }
}

TEST_CASE("a database that is emptied under the storage gives new epochs, also before the first message") {
  NEEDS_REDIS();
  redis_server server;
  auto s = open_at(server.url());
  std::set<std::string> seen;
  for (int life = 0; life < 3; ++life) {
    const auto empty = read(*s, "c");
    CHECK((empty.head == 0 && seen.insert(empty.epoch).second));
    CHECK(append(*s, "c", "x").epoch == empty.epoch);
    CHECK(append(*s, "c", "x").offset == 2);
    CHECK(server.ask({life == 1 ? "FLUSHDB" : "FLUSHALL"}) == "OK");
  }
}

TEST_CASE("a hash that was evicted makes a new life of its channel, a Stream that was evicted leaves the head") {
  NEEDS_REDIS();
  redis_server server;
  auto s = open_at(server.url());
  for (int i = 0; i < 5; ++i) append(*s, "c", "x");
  const auto before = read(*s, "c");
  CHECK(server.ask({"DEL", "hailwire:{c}:log"}) == "1");
  auto now = read(*s, "c");
  CHECK((now.epoch == before.epoch && now.head == 5 && now.oldest == 6 && now.messages.empty()));
  auto r = append(*s, "c", "y");
  CHECK((r.offset == 6 && r.epoch == before.epoch));
  now = read(*s, "c");
  CHECK((now.oldest == 6 && now.messages.size() == 1));
  CHECK(server.ask({"DEL", "hailwire:{c}"}) == "1");
  now = read(*s, "c");
  CHECK((now.epoch != before.epoch && now.head == 0 && now.oldest == 1));
  r = append(*s, "c", "z");
  CHECK((r.offset == 1 && r.epoch == now.epoch));
  CHECK(server.ask({"DEL", "hailwire:{c}"}) == "1");  // and found by an append
  r = append(*s, "c", "z");
  CHECK((r.offset == 1 && r.epoch != now.epoch));
}

TEST_CASE("a script that stored and did not come to say so is taken for what it was") {
  NEEDS_REDIS();
  redis_server server;
  auto s = open_at(server.url());
  append(*s, "c", "1");
  CHECK(server.ask({"XADD", "hailwire:{c}:log", "2", "h", "7 t ada note ", "d", "2"}) == "2-0");
  CHECK(read(*s, "c").head == 1);
  CHECK(append(*s, "c", "3").offset == 3);
  const auto log = read(*s, "c");
  REQUIRE(log.messages.size() == 3);
  CHECK((log.messages[1].data.bytes() == "2" && log.messages[1].from == "ada" && log.messages[1].type == "note"));
}

TEST_CASE("keys are forgotten when their time is over, and as many as are allowed are kept") {
  NEEDS_REDIS();
  redis_server server;
  redis_options o;
  o.keys = 2;
  auto s = open_at(server.url(), o);
  CHECK(append(*s, "c", "1", "a").offset == 1);
  CHECK(append(*s, "c", "2", "b").offset == 2);
  CHECK(append(*s, "c", "3", "c").error == errc::overloaded);
  CHECK(append(*s, "c", "1", "a").duplicate);
  CHECK(append(*s, "c", "no key").offset == 3);
  CHECK(append(*s, "d", "another channel's", "c").offset == 1);
  // Their expiry is Redis's time, which a test cannot move: it is moved in the hash.
  CHECK(server.ask({"HSET", "hailwire:{c}", "ka", "1 1000 x", "kb", "2 1000 x"}) == "0");
  CHECK(append(*s, "c", "4", "c").offset == 4);
  CHECK(append(*s, "c", "5", "a").offset == 5);
  CHECK(server.ask({"HKEYS", "hailwire:{c}"}).find("kb") == std::string::npos);
}

TEST_CASE("what Redis refuses before it runs is overloaded, and nothing was stored") {
  NEEDS_REDIS();
  redis_server server;
  auto s = open_at(server.url());
  append(*s, "c", "x");
  CHECK(server.ask({"CONFIG", "SET", "maxmemory", "1"}) == "OK");
  CHECK(append(*s, "c", "no room").error == errc::overloaded);
  CHECK(read(*s, "c").head == 1);
  CHECK(server.ask({"CONFIG", "SET", "maxmemory", "0"}) == "OK");
  CHECK(server.ask({"CONFIG", "SET", "min-replicas-to-write", "1"}) == "OK");
  CHECK(append(*s, "c", "no replica").error == errc::overloaded);
  CHECK(server.ask({"CONFIG", "SET", "min-replicas-to-write", "0"}) == "OK");
  CHECK(append(*s, "c", "y").offset == 2);
  CHECK(server.ask({"DEL", "hailwire:{c}:log"}) == "1");
  CHECK(server.ask({"SET", "hailwire:{c}:log", "not a Stream"}) == "OK");
  CHECK(append(*s, "c", "z").error == errc::internal);
  CHECK(append(*s, "d", "z").offset == 1);
}

TEST_CASE("while Redis is away everything is overloaded, and served again when it is back, under another epoch") {
  NEEDS_REDIS();
  redis_server server({"--appendonly", "yes", "--appendfsync", "always"});
  auto s = open_at(server.url());
  redis_options o;
  o.keep_epochs = true;
  o.prefix = "kept";
  auto kept = open_at(server.url(), o);
  const auto before = append(*s, "c", "x"), held = append(*kept, "c", "x", "key");
  CHECK(s->connected());
  server.end(SIGKILL);
  std::error_code ec;
  while (!(ec = append(*s, "c", "away").error) || ec == errc::timeout) {
  }
  CHECK(ec == errc::overloaded);
  CHECK(read(*s, "c").error == errc::overloaded);
  CHECK(!s->connected());
  REQUIRE(server.start());
  read_result now;
  while ((now = read(*s, "c")).error) {
  }
  CHECK((now.epoch != before.epoch && now.head == 1 && now.messages.size() == 1));
  const auto next = append(*s, "c", "y");
  CHECK((next.offset == 2 && next.epoch == now.epoch));
  while ((now = read(*kept, "c")).error) {
  }
  CHECK((now.epoch == held.epoch && now.head == 1));
  CHECK(append(*kept, "c", "x", "key").duplicate);
}

TEST_CASE("a connection that is cut behind a request leaves it unknown, and its key tells") {
  NEEDS_REDIS();
  redis_server server;
  auto s = open_at(server.url());
  append(*s, "c", "1");
  server.signal(SIGSTOP);
  auto answer = std::make_shared<testing::detail::pending<append_result>>();
  s->async_append("c", {1, "", "", payload::text("2"), "key"},
                  testing::detail::pending<append_result>::handler(answer));
  // Five seconds at most: nobody has closed the connection, it is only silent.
  const auto began = std::chrono::steady_clock::now();
  CHECK(answer->wait().error == errc::timeout);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(20));
  server.signal(SIGCONT);
  append_result again;
  while ((again = append(*s, "c", "2", "key")).error) {
  }
  CHECK(again.offset == 2);
  CHECK(read(*s, "c").head == 2);
}

TEST_CASE("a Redis that may drop what was acknowledged is told of, and one that cannot be used says why") {
  NEEDS_REDIS();
  redis_server server({"--maxmemory-policy", "allkeys-lru", "--requirepass", "secret"});
  std::mutex mutex;
  std::string told;
  redis_options o;
  o.on_log = [&](std::string_view text) {
    std::lock_guard lock(mutex);
    told.append(text).append("\n");
  };
  const auto at = "127.0.0.1:" + std::to_string(server.port());
  {
    auto s = redis_storage::open("redis://:secret@" + at, o);
    REQUIRE(s);
    CHECK(append(**s, "c", "x").offset == 1);
  }
  CHECK(told.find("may drop what was acknowledged: maxmemory-policy is allkeys-lru") != told.npos);
  const auto why = [&](const std::string& url) {
    auto s = redis_storage::open(url, {}, std::chrono::milliseconds(300));
    return s ? "opened" : std::string(code_name(s.error().code)) + ": " + std::string(s.error().text());
  };
  CHECK(why("redis://" + at).find("NOAUTH") != std::string::npos);
  CHECK(why("redis://:wrong@" + at).find("AUTH: WRONGPASS") != std::string::npos);
  CHECK(why("redis://:wrong@" + at).find("overloaded: Redis at " + at) == 0);
  CHECK(why("redis://:secret@" + at + "/99").find("SELECT: ERR") != std::string::npos);
  CHECK(why("redis://127.0.0.1:1").find("overloaded: ") == 0);
  CHECK(why("rediss://" + at).find("bad_request: ") == 0);
  CHECK(why("redis:/").find("bad_request: ") == 0);
  // A user of an access list, who may do what a storage does and nothing else.
  redis_client control("127.0.0.1", server.port());
  control.ask({"AUTH", "secret"});
  CHECK(control.ask({"ACL", "SETUSER", "live", "on", ">pw", "~hailwire:*", "&hailwire:*", "-@all", "+@read", "+@write",
                     "+@scripting", "+@pubsub", "+@connection", "+info", "+time"}) == "OK");
  auto s = redis_storage::open("redis://live:pw@" + at);
  REQUIRE(s);
  CHECK(append(**s, "c", "x", "key").offset == 2);
}

TEST_CASE("a payload may have 32 MiB, and is read alone") {
  NEEDS_REDIS();
  redis_server server;
  auto s = open_at(server.url());
  const std::string most(redis_storage::max_payload, 'x');
  CHECK(append(*s, "c", most).offset == 1);
  CHECK(append(*s, "c", most + "y").error == errc::too_large);
  CHECK(append(*s, "c", "small").offset == 2);
  const auto r = read(*s, "c");
  REQUIRE(r.messages.size() == 1);
  CHECK(r.messages[0].data.bytes() == most);
  CHECK(read(*s, "c", 1).messages.size() == 1);
}

TEST_CASE("too many operations at once are overloaded, at once") {
  NEEDS_REDIS();
  redis_server server;
  redis_options o;
  o.pending = 3;
  auto s = open_at(server.url(), o);
  server.signal(SIGSTOP);
  std::atomic<int> refused = 0, answered = 0;
  for (int i = 0; i < 10; ++i)
    s->async_append("c", {1, "", "", payload::text("x"), ""}, [&](append_result r) {
      ++answered;
      refused += r.error == errc::overloaded;
    });
  CHECK(answered == 7);
  CHECK(refused == 7);
  server.signal(SIGCONT);
  s.reset();
  CHECK(answered == 10);
}

TEST_CASE("what a message names beside its payload comes back, and two processes see what the other took back") {
  NEEDS_REDIS();
  redis_server server;
  auto a = open_at(server.url()), b = open_at(server.url());
  draft d{1, "ada", "note", payload::json("{}"), ""};
  d.content = std::make_shared<content_reference>(content_reference{"id", 7, "image/svg xml"});
  CHECK(append(*a, "c", d).offset == 1);
  const auto log = read(*b, "c");
  REQUIRE((log.messages.size() == 1 && log.messages[0].content));
  CHECK(*log.messages[0].content == *d.content);
  auto p = std::make_shared<testing::detail::pending<append_result>>();
  b->async_erase("c", position{log.epoch, 1}, {2, "bob", "", payload(), ""},
                 testing::detail::pending<append_result>::handler(p));
  CHECK(p->wait().offset == 2);
  const auto now = read(*a, "c");
  REQUIRE(now.messages.size() == 2);
  CHECK((now.messages[0].erased && !now.messages[0].content && now.messages[0].from == "ada"));
  CHECK((now.messages[1].erases == 1 && now.messages[1].from == "bob"));
  CHECK(server.ask({"HGETALL", "hailwire:{c}"}).find("svg") == std::string::npos);  // gone, not hidden
}
