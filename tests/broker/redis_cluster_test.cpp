// SPDX-License-Identifier: BSL-1.0
// The broker on a cluster of three masters: sharded Pub/Sub, whose channels live where their slots do.
#include "redis_cluster.hpp"

#include <condition_variable>

#include "catch.hpp"
#include "hailwire/broker/redis.hpp"
#include "hailwire/testing/broker_contract.hpp"
#include "storage/asked.hpp"
#include "storage/redis_opened.hpp"

using namespace hailwire;

namespace {

struct own_storage {
  std::unique_ptr<redis_storage> storage;
};
struct own_broker : own_storage, redis_broker {
  explicit own_broker(const std::string& url) : own_storage{open_at(url)}, redis_broker(*storage) {}
};
struct broker_fixture {
  static constexpr bool announces = true;
  std::string url;
  std::unique_ptr<own_broker> open() { return std::make_unique<own_broker>(url); }
  std::unique_ptr<own_broker> join() { return open(); }
};

}  // namespace

TEST_CASE(
    "on a cluster the broker keeps its contract, hears the channels of all masters, and follows slots that move") {
  NEEDS_REDIS();
  redis_cluster cluster(3);
  broker_fixture two{cluster.url()};
  auto outcomes = testing::broker_contract(two);
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));

  own_broker here(cluster.url()), there(cluster.url());
  std::mutex mutex;
  std::condition_variable came;
  std::map<std::string, std::vector<std::string>> heard;
  const auto hub = there.attach([&](const broker_event& e) {
    std::lock_guard lock(mutex);
    heard[std::string(e.channel)].push_back(e.stored ? std::string(e.stored->data.bytes()) : "look");
    came.notify_all();
  });
  const auto hears = [&](const std::string& channel, const std::string& what, std::ptrdiff_t times = 1) {
    std::unique_lock lock(mutex);
    return came.wait_for(lock, std::chrono::seconds(20), [&] {
      const auto& all = heard[channel];
      return std::count(all.begin(), all.end(), what) >= times;
    });
  };
  std::vector<std::string> names{"{", "}", "{}", "a{b}c", "%7B"};
  for (int i = 0; i < 60; ++i) names.push_back("c" + std::to_string(i));
  for (const auto& name : names) there.subscribe(hub, name);
  for (const auto& name : names) REQUIRE(hears(name, "look"));
  std::size_t subscribed[3] = {};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string info = cluster.at(i).ask({"INFO", "stats"});
    subscribed[i] = std::stoul(info.substr(info.find("pubsubshard_channels:") + 21));
  }
  CHECK((subscribed[0] > 5 && subscribed[1] > 5 && subscribed[2] > 5));
  CHECK(subscribed[0] + subscribed[1] + subscribed[2] == names.size());
  for (const auto& name : names) REQUIRE_FALSE(append(*here.storage, name, "in " + name).error);
  for (const auto& name : names) CHECK(hears(name, "in " + name));

  // An empty slot is given to another master: who has subscribed there is told so, and asks the new one.
  const unsigned slot = detail::redis_slot(detail::redis_keys("hailwire", "moved").meta);
  there.subscribe(hub, "moved");
  REQUIRE(hears("moved", "look"));
  const std::size_t from = cluster.owner(slot), to = (from + 1) % 3;
  for (std::size_t i : {to, from, (from + 2) % 3})
    cluster.must(i, {"CLUSTER", "SETSLOT", std::to_string(slot), "NODE", cluster.id(to)}, "OK");
  REQUIRE(hears("moved", "look", 2));
  CHECK(append(*here.storage, "moved", "at its new place").offset == 1);
  CHECK(hears("moved", "at its new place"));
  there.detach(hub);
}
