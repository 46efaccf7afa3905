// SPDX-License-Identifier: BSL-1.0
// The storage on clusters of Redis, and behind sentinels.
#include "redis_cluster.hpp"

#include <atomic>
#include <set>

#include "catch.hpp"
#include "hailwire/storage/redis.hpp"
#include "hailwire/testing/storage_contract.hpp"
#include "storage/asked.hpp"
#include "storage/redis_opened.hpp"

using namespace hailwire;

TEST_CASE("a cluster of Redis keeps the whole storage contract, slots that move keep epochs, and no message is lost") {
  NEEDS_REDIS();
  auto cluster = std::make_shared<redis_cluster>(3);
  auto outcomes = testing::storage_contract(redis_fixture<redis_cluster>{cluster});
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  // All but content, which lies beside a log: files_storage.
  for (const auto& o : outcomes) CHECK((o.what == testing::verdict::passed) != o.name.starts_with("content "));

  // A slot is moved, key by key, while keyed appends to two of its channels go on.
  cluster->flush();
  auto s = open_at(cluster->url()), other = open_at(cluster->url());
  const std::string one = "moving";
  const unsigned slot = detail::redis_slot(detail::redis_keys("hailwire", one).meta);
  std::string two;
  for (int i = 0; two.empty(); ++i)
    if (detail::redis_slot(detail::redis_keys("hailwire", "c" + std::to_string(i)).meta) == slot)
      two = "c" + std::to_string(i);
  const auto epoch = append(*s, one, "0", "k0").epoch, second = append(*s, two, "0", "k0").epoch;
  const std::size_t from = cluster->owner(slot), to = (from + 1) % 3;

  std::atomic<bool> done = false;
  std::atomic<int> refused = 0;
  std::thread publisher([&] {
    for (int i = 1; i <= 300 || !done; ++i) {
      for (const auto& channel : {one, two})
        while (append(i % 2 ? *s : *other, channel, std::to_string(i), "k" + std::to_string(i)).error) ++refused;
    }
  });
  const auto number = std::to_string(slot);
  cluster->must(to, {"CLUSTER", "SETSLOT", number, "IMPORTING", cluster->id(from)}, "OK");
  cluster->must(from, {"CLUSTER", "SETSLOT", number, "MIGRATING", cluster->id(to)}, "OK");
  for (;;) {
    redis_client control("127.0.0.1", cluster->at(from).port());
    control.send({"CLUSTER", "GETKEYSINSLOT", number, "1"});
    auto r = control.receive();
    const detail::redis_reply keys(r.get());
    if (keys.size() == 0) break;
    CHECK(control.ask({"MIGRATE", "127.0.0.1", std::to_string(cluster->at(to).port()), keys[0].text(), "0", "5000"}) ==
          "OK");
  }
  for (std::size_t i : {to, from, (from + 2) % 3})
    cluster->must(i, {"CLUSTER", "SETSLOT", number, "NODE", cluster->id(to)}, "OK");
  done = true;
  publisher.join();
  INFO("refused: " << refused);
  for (const auto& channel : {one, two}) {
    const auto log = read(*s, channel);
    CHECK(log.epoch == (channel == one ? epoch : second));
    CHECK(log.messages.size() == log.head);
    for (std::size_t i = 0; i < log.messages.size(); ++i) CHECK(log.messages[i].data.bytes() == std::to_string(i));
  }
  CHECK(cluster->owner(slot) == to);
}

TEST_CASE("a replica of a cluster that is promoted has other epochs, unless nothing can have been lost") {
  NEEDS_REDIS();
  redis_cluster cluster(3, 1);
  cluster.must(3, {"CLUSTER", "REPLICATE", cluster.id(0)}, "OK");
  redis_options kept;
  kept.keep_epochs = true;
  kept.prefix = "kept";
  auto s = open_at(cluster.url()), holds = open_at(cluster.url(), kept);
  // Channels of the first master's slots: below a third.
  std::string name, held;
  for (int i = 0; name.empty() || held.empty(); ++i) {
    const auto c = "c" + std::to_string(i);
    if (detail::redis_slot(detail::redis_keys("hailwire", c).meta) < detail::redis_slots / 3) name = held = c;
  }
  const auto before = append(*s, name, "1"), same = append(*holds, held, "1");
  redis_cluster::until(
      [&] { return cluster.at(3).ask({"INFO", "replication"}).find("master_link_status:up") != std::string::npos; });
  cluster.must(3, {"CLUSTER", "FAILOVER"}, "OK");
  redis_cluster::until(
      [&] { return cluster.at(3).ask({"INFO", "replication"}).find("role:master") != std::string::npos; });
  append_result after;
  redis_cluster::until([&] { return !(after = append(*s, name, "2")).error; });
  CHECK(after.offset == 2);
  CHECK(after.epoch != before.epoch);
  redis_cluster::until([&] { return !(after = append(*holds, held, "2")).error; });
  CHECK((after.offset == 2 && after.epoch == same.epoch));
  CHECK(read(*s, name).messages.size() == 2);
}

TEST_CASE("behind sentinels the storage finds its master, and the next one, under another epoch") {
  NEEDS_REDIS();
  redis_server master, replica({"--repl-diskless-sync-delay", "0"});
  CHECK(master.ask({"CONFIG", "SET", "repl-diskless-sync-delay", "0"}) == "OK");
  CHECK(replica.ask({"REPLICAOF", "127.0.0.1", std::to_string(master.port())}) == "OK");
  redis_cluster::until(
      [&] { return replica.ask({"INFO", "replication"}).find("master_link_status:up") != std::string::npos; });

  char name[] = "/tmp/hailwire-sentinel-XXXXXX";
  REQUIRE(::mkdtemp(name));
  const std::string folder = name;
  const auto port = free_port();
  std::ofstream(folder + "/sentinel.conf")
      << "port " << port << "\nbind 127.0.0.1\ndir " << folder << "\nsentinel monitor our-master 127.0.0.1 "
      << master.port() << " 1\nsentinel down-after-milliseconds our-master 1000\n"
      << "sentinel failover-timeout our-master 5000\n";
  {
    child_process sentinel({"redis-server", folder + "/sentinel.conf", "--sentinel"}, folder + "/output");
    const auto ask = [&](const detail::redis_command& c) { return redis_client("127.0.0.1", port).ask(c); };
    redis_cluster::until([&] {
      return ask({"SENTINEL", "REPLICAS", "our-master"}).find(std::to_string(replica.port())) != std::string::npos;
    });
    // The first of the sentinels does not answer.
    const auto url = "redis-sentinel://127.0.0.1:1,127.0.0.1:" + std::to_string(port) + "/our-master";
    {
      auto s = open_at(url);
      const auto before = append(*s, "c", "1");
      CHECK(before.offset == 1);
      redis_cluster::until([&] { return ask({"SENTINEL", "FAILOVER", "our-master"}) == "OK"; });
      append_result after;
      redis_cluster::until([&] {
        after = append(*s, "c", "2");
        return !after.error && after.epoch != before.epoch;
      });
      CHECK(replica.ask({"INFO", "replication"}).find("role:master") != std::string::npos);
      CHECK(read(*s, "c").head == after.offset);
    }
    auto why = redis_storage::open("redis-sentinel://127.0.0.1:" + std::to_string(port) + "/nobody", {},
                                   std::chrono::milliseconds(300));
    REQUIRE(!why);
    CHECK(why.error().text().find("a sentinel does not know the master's name") != std::string_view::npos);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}
