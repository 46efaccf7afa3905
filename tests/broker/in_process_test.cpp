// SPDX-License-Identifier: BSL-1.0
#include "hailwire/broker/in_process.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "hailwire/testing/broker_contract.hpp"

using namespace hailwire;

namespace {

struct ear {
  std::vector<std::string> heard;
  broker_receiver receiver() {
    return [this](const broker_event& e) {
      heard.push_back(std::string(e.channel) + ' ' + std::string(e.epoch) + ' ' + std::to_string(e.stored->offset));
    };
  }
};

message numbered(std::uint64_t offset) {
  message m;
  m.offset = offset;
  m.data = payload::json("1");
  return m;
}

}  // namespace

TEST_CASE("a broker within the process keeps the contract of brokers") {
  auto outcomes = testing::broker_contract([] { return std::make_unique<in_process_broker>(); });
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}

TEST_CASE("a publish reaches the hubs that follow the channel, and not the one it came from") {
  in_process_broker b;
  ear first, second, third;
  auto one = b.attach(first.receiver()), two = b.attach(second.receiver()), three = b.attach(third.receiver());
  b.subscribe(one, "chat");
  b.subscribe(two, "chat");
  b.subscribe(three, "news");
  b.publish(one, "chat", "e", numbered(7));
  CHECK(first.heard.empty());
  CHECK(second.heard == std::vector<std::string>{"chat e 7"});
  CHECK(third.heard.empty());
}

TEST_CASE("of many channels, each hub hears those that it follows, also when another one leaves them all at once") {
  in_process_broker b;
  ear mine, theirs;
  auto source = b.attach([](const broker_event&) {});
  auto one = b.attach(mine.receiver()), two = b.attach(theirs.receiver());
  auto name = [](int i) { return "channel number " + std::to_string(i); };
  for (int i = 0; i < 3000; ++i) {
    if (i % 2) b.subscribe(one, name(i));
    if (i % 3) b.subscribe(two, name(i));
    if (i % 5 == 0) b.unsubscribe(one, name(i));
  }
  b.detach(two);
  std::vector<std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    b.publish(source, name(i), "e", numbered(1));
    if (i % 2 && i % 5) expected.push_back(name(i) + " e 1");
  }
  CHECK(mine.heard == expected);
  CHECK(theirs.heard.empty());
}

TEST_CASE("nothing is heard after unsubscribe, nor after detach") {
  in_process_broker b;
  ear first, second;
  auto one = b.attach(first.receiver()), two = b.attach(second.receiver());
  b.subscribe(two, "chat");
  b.subscribe(two, "news");
  b.unsubscribe(two, "chat");
  b.unsubscribe(two, "never followed");
  b.publish(one, "chat", "e", numbered(1));
  CHECK(second.heard.empty());
  b.detach(two);
  b.publish(one, "news", "e", numbered(1));
  CHECK(second.heard.empty());
}

TEST_CASE("the seat of a hub that has gone is given to the next, which hears nothing of what the first one followed") {
  in_process_broker b;
  ear first, second, third;
  auto one = b.attach(first.receiver()), two = b.attach(second.receiver());
  b.subscribe(two, "chat");
  b.detach(two);
  CHECK(b.attach(third.receiver()) == two);
  b.publish(one, "chat", "e", numbered(1));
  CHECK(third.heard.empty());
}

TEST_CASE("sixty-four hubs can be joined, and one more is refused") {
  in_process_broker b;
  ear e;
  for (int i = 0; i < 64; ++i) b.attach(e.receiver());
  CHECK_THROWS_AS(b.attach(e.receiver()), std::length_error);
  b.detach(40);
  CHECK(b.attach(e.receiver()) == 40);
}

TEST_CASE("hubs come, follow, publish and go on several threads at once") {
  in_process_broker b;
  std::atomic<std::uint64_t> heard = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        bool gone = false;  // plain: a receiver that runs after detach is a race that the thread sanitizer sees
        auto me = b.attach([&](const broker_event&) {
          if (!gone) ++heard;
        });
        b.subscribe(me, "chat");
        for (std::uint64_t n = 1; n <= 20; ++n) b.publish(me, "chat", "e", numbered(n));
        if (round % 2) b.unsubscribe(me, "chat");
        b.detach(me);
        gone = true;
      }
    });
  }
  for (auto& t : threads) t.join();
  ear last;
  auto listener = b.attach(last.receiver());
  ear other;
  auto speaker = b.attach(other.receiver());
  b.subscribe(listener, "chat");
  b.publish(speaker, "chat", "e", numbered(1));
  CHECK(last.heard.size() == 1);
}
