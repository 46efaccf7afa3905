// SPDX-License-Identifier: BSL-1.0
#include "hailwire/broker/redis.hpp"

#include <condition_variable>
#include <set>

#include "catch.hpp"
#include "hailwire/hub.hpp"
#include "hailwire/testing/broker_contract.hpp"
#include "hailwire/testing/manual_loop.hpp"
#include "redis_server.hpp"
#include "storage/asked.hpp"
#include "storage/redis_opened.hpp"

using namespace hailwire;

namespace {

/// A process, as far as Redis can tell: a storage and its broker.
struct process {
  explicit process(const std::string& url, const redis_broker_options& o = {})
      : storage(open_at(url)), broker(*storage, o) {}
  std::unique_ptr<redis_storage> storage;
  redis_broker broker;
};

/// A broker that brings its storage.
struct own_storage {
  std::unique_ptr<redis_storage> storage;
};
struct own_broker : own_storage, redis_broker {
  explicit own_broker(std::unique_ptr<redis_storage> s) : own_storage{std::move(s)}, redis_broker(*storage) {}
};
struct broker_fixture {
  static constexpr bool announces = true;
  std::string url;
  std::unique_ptr<own_broker> open() { return std::make_unique<own_broker>(open_at(url)); }
  std::unique_ptr<own_broker> join() { return open(); }
};

/// A hub, as far as a broker can tell.
struct listener {
  listener(redis_broker& b, std::vector<std::string> channels) : on(b) {
    id = on.attach([this](const broker_event& e) {
      std::lock_guard lock(mutex);
      const std::string channel(e.channel);
      if (e.stored)
        heard.push_back(channel + ' ' + std::to_string(e.stored->offset) + ' ' +
                        std::string(e.stored->data.bytes().substr(0, 20)));
      else
        heard.push_back(channel + (e.live   ? " live " + std::string(e.live->bytes)
                                   : e.lost ? std::string(" lost")
                                            : std::string(" look")));
      came.notify_all();
    });
    for (const auto& c : channels) on.subscribe(id, c);
  }
  ~listener() { on.detach(id); }
  bool hears(const std::string& what, std::size_t times = 1) {
    std::unique_lock lock(mutex);
    return came.wait_for(lock, std::chrono::seconds(20), [&] {
      return static_cast<std::size_t>(std::count(heard.begin(), heard.end(), what)) >= times;
    });
  }
  std::size_t count(const std::string& what) {
    std::lock_guard lock(mutex);
    return static_cast<std::size_t>(std::count(heard.begin(), heard.end(), what));
  }
  redis_broker& on;
  std::uint64_t id = 0;
  std::mutex mutex;
  std::condition_variable came;
  std::vector<std::string> heard;
};

}  // namespace

TEST_CASE("the broker over Redis keeps the contract of brokers, within a process and between two") {
  NEEDS_REDIS();
  redis_server server;
  broker_fixture two{server.url()};
  auto outcomes = testing::broker_contract(two);
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}

TEST_CASE("hubs elsewhere hear what was appended, whatever its size, and the own ones what was answered") {
  NEEDS_REDIS();
  redis_server server;
  process here(server.url()), there(server.url());
  listener one(here.broker, {"c"}), two(here.broker, {"c"}), other(here.broker, {"d"}), far(there.broker, {"c"});
  REQUIRE(far.hears("c look"));
  REQUIRE(one.hears("c look"));
  append(*here.storage, "c", "small");
  append(*here.storage, "c", std::string(65'537, 'x'));
  append(*here.storage, "c", "small again");
  for (auto* l : {&one, &two, &far}) {
    CHECK(l->hears("c 1 small"));
    CHECK(l->hears("c 2 " + std::string(20, 'x')));
    CHECK(l->hears("c 3 small again"));
  }
  append(*there.storage, "c", "back");
  CHECK(one.hears("c 4 back"));
  CHECK(two.hears("c 4 back"));
  CHECK(other.heard.size() <= 1);
  for (const auto& what : other.heard) CHECK(what == "d look");
  // With a single hub its own appends are its answers alone.
  CHECK(far.count("c 4 back") == 0);
}

TEST_CASE("channels are subscribed to while a hub of the process follows them, and no longer") {
  NEEDS_REDIS();
  redis_server server;
  process here(server.url());
  const auto subscribers = [&](const std::string& channel) {
    return server.ask({"PUBSUB", "NUMSUB", detail::redis_keys("hailwire", channel).meta});
  };
  {
    listener one(here.broker, {"c", "a{b}"}), two(here.broker, {"c"});
    REQUIRE(one.hears("c look"));
    REQUIRE(one.hears("a{b} look"));
    CHECK(subscribers("c") == "hailwire:{c} 1");
    CHECK(subscribers("a{b}") == "hailwire:{a%7Bb%7D} 1");
    one.on.unsubscribe(one.id, "c");
    one.on.unsubscribe(one.id, "a{b}");
    while (subscribers("a{b}") != "hailwire:{a%7Bb%7D} 0") {
    }
    CHECK(subscribers("c") == "hailwire:{c} 1");
  }
  while (subscribers("c") != "hailwire:{c} 0") {
  }
}

TEST_CASE("when a subscription was lost, hubs are told to look again, and hear on") {
  NEEDS_REDIS();
  redis_server server;
  process here(server.url()), there(server.url(), {.checks = 0});  // so that nothing else has them look
  std::vector<std::string> all;
  for (int i = 0; i < 600; ++i) all.push_back("c" + std::to_string(i));
  listener far(there.broker, all);
  for (const auto& c : all) REQUIRE(far.hears(c + " look"));
  CHECK(server.ask({"CLIENT", "KILL", "TYPE", "pubsub"}) != "0");
  for (const auto& c : all) REQUIRE(far.hears(c + " look", 2));
  append(*here.storage, "c599", "x");
  CHECK(far.hears("c599 1 x"));
}

TEST_CASE("a message that was announced and not heard is found by its offset") {
  NEEDS_REDIS();
  redis_server server;
  process here(server.url(), {.checks = 1000});
  listener one(here.broker, {"c", "d"});
  REQUIRE(one.hears("c look"));
  REQUIRE(one.hears("d look"));
  append(*here.storage, "d", "its own");
  // Stored by somebody who tells nobody.
  const auto epoch = read(*here.storage, "c").epoch;
  CHECK(server.ask({"XADD", "hailwire:{c}:log", "1", "h", "7 t   ", "d", "silent"}) == "1-0");
  CHECK(server.ask({"HSET", "hailwire:{c}", "h", "1", "o", "1", "e", epoch, "i", "x"}) == "4");
  CHECK(one.hears("c look", 2));
  const auto before = one.count("d look");
  // What a hub knows already it is not told of again: a round more has passed when the next is found.
  CHECK(server.ask({"XADD", "hailwire:{c}:log", "2", "h", "7 t   ", "d", "silent"}) == "2-0");
  CHECK(server.ask({"HSET", "hailwire:{c}", "h", "2"}) == "0");
  CHECK(one.hears("c look", 3));
  CHECK(one.count("d look") <= before + 1);
}

TEST_CASE("while Redis is away what is live-only is dropped beyond a bound, and nothing breaks") {
  NEEDS_REDIS();
  redis_server server;
  process here(server.url()), there(server.url());
  listener one(here.broker, {"c"}), two(here.broker, {"c"}), far(there.broker, {"c"});
  REQUIRE(far.hears("c look"));
  server.end(SIGKILL);
  for (int i = 0; i < 10'000; ++i) here.broker.tell(one.id, "c", {"", 0, "lost"});
  CHECK(two.hears("c live lost", 10'000));  // the own process's hubs hear it all the same
  REQUIRE(server.start());
  REQUIRE(far.hears("c look", 2));
  while (far.count("c live here") == 0) here.broker.tell(one.id, "c", {"", 0, "here"});
  CHECK(far.count("c live lost") == 0);
}

TEST_CASE("a hub is told when nothing is heard of its own names any more, and when it may have missed something") {
  NEEDS_REDIS();
  redis_server server;
  process here(server.url(), {.checks = 0});
  const std::string own("\0own", 4);
  listener one(here.broker, {"c", own});
  REQUIRE(one.hears(own + " look"));
  REQUIRE(one.hears("c look"));
  CHECK(one.count(own + " lost") == 0);
  server.ask({"CLIENT", "KILL", "TYPE", "pubsub"});
  CHECK(one.hears(own + " lost"));
  CHECK(one.hears(own + " look", 2));
  CHECK(one.hears("c look", 2));
  CHECK(one.count("c lost") == 0);
}

TEST_CASE("over Redis a command is done at every node, also when it was said while a node heard nothing") {
  NEEDS_REDIS();
  redis_server server;
  struct node {
    explicit node(const std::string& url)
        : of(url, {.checks = 0}), h(loop, detail::erase_storage(*of.storage), options{}) {
      h.join(detail::erase_broker(of.broker));
    }
    process of;
    hailwire::testing::manual_loop loop;
    hub h;
  };
  node a(server.url()), b(server.url());
  const auto until = [&](auto done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done() && std::chrono::steady_clock::now() < end) {
      // What waits for a node that is behind is told so by the clock: it goes on as time does.
      if (a.loop.run() + b.loop.run() == 0) std::this_thread::yield();
    }
    return done();
  };
  REQUIRE(until([&] { return a.h.everywhere().others().size() == 1 && b.h.everywhere().others().size() == 1; }));
  struct user final : session {
    user(hub& h, std::string name) : there(&h) {
      grant g;
      g.user = std::move(name);
      h.enter(*this);
      h.open(*this, std::move(g), {}, true);
    }
    ~user() override {
      if (!gone) there->close(*this);
      there->forget(*this);
      there->leave(*this);
    }
    void wake(detail::subscription*) override {}
    void settle() override {}
    void lost(detail::subscription&, const detail::gap&) override {}
    void keep(detail::subscription&, std::string_view) override {}
    void missed(detail::subscription&) override {}
    void unreadable(detail::subscription&, std::error_code) override {}
    std::error_code notice(std::string_view, std::string_view) override { return {}; }
    void end(errc, std::uint16_t, std::string_view) override {
      if (!std::exchange(gone, true)) there->close(*this);
    }
    bool ending() const noexcept override { return gone; }
    bool adjustable() const noexcept override { return true; }
    bool duplex() const noexcept override { return true; }
    hub& at() const noexcept override { return *there; }
    std::string_view transport() const noexcept override { return "test"; }
    const proto::encoding& encoding() const noexcept override {
      static constexpr proto::encoding none{"none", true, [](std::string&, const proto::envelope&) {},
                                            [](std::string&, std::string_view, std::string_view) {}};
      return none;
    }
    hub* there;
    bool gone = false;
  };
  for (int round = 0; round < 5; ++round) {
    const std::string name = "ada" + std::to_string(round);
    user here(a.h, name), there(b.h, name), other(b.h, "bob");
    if (round % 2) server.ask({"CLIENT", "KILL", "TYPE", "pubsub"});
    if (round == 3) server.ask({"SCRIPT", "FLUSH"});
    std::error_code told = errc::internal;
    REQUIRE_FALSE(a.h.everywhere().close(name, 4403, "banned", [&](std::error_code ec) { told = ec; }));
    REQUIRE(until([&] { return here.gone && there.gone; }));
    CHECK_FALSE(told);
    CHECK_FALSE(other.gone);
  }
}
