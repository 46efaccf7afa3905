// SPDX-License-Identifier: BSL-1.0
// A Redis Cluster of a test's own.
#pragma once

#include "hailwire/detail/redis/slot.hpp"
#include "redis_server.hpp"

/// Masters that share the slots evenly; then servers that have none.
class redis_cluster {
 public:
  explicit redis_cluster(std::size_t masters, std::size_t more = 0) {
    for (std::size_t i = 0; i < masters + more; ++i) add();
    for (std::size_t i = 0; i < masters; ++i) {
      const auto first = hailwire::detail::redis_slots * i / masters,
                 next = hailwire::detail::redis_slots * (i + 1) / masters;
      must(i, {"CLUSTER", "ADDSLOTSRANGE", std::to_string(first), std::to_string(next - 1)}, "OK");
    }
    for (std::size_t i = 1; i < size(); ++i)
      must(0, {"CLUSTER", "MEET", "127.0.0.1", std::to_string(at(i).port()), std::to_string(buses_[i])}, "OK");
    for (std::size_t i = 0; i < size(); ++i)
      until([&] { return has(i, "cluster_state:ok") && has(i, "cluster_known_nodes:" + std::to_string(size())); });
  }
  std::size_t size() const { return servers_.size(); }
  redis_server& at(std::size_t i) { return *servers_[i]; }
  std::string id(std::size_t i) { return at(i).ask({"CLUSTER", "MYID"}); }
  std::string url() { return "redis-cluster://127.0.0.1:" + std::to_string(at(0).port()); }
  void must(std::size_t i, const hailwire::detail::redis_command& c, const std::string& answer) {
    const auto said = at(i).ask(c);
    if (said != answer) throw std::runtime_error(std::string(c.word(0)) + ' ' + std::string(c.word(1)) + ": " + said);
  }
  bool has(std::size_t i, const std::string& line) {
    return at(i).ask({"CLUSTER", "INFO"}).find(line) != std::string::npos;
  }
  /// The master that has a slot.
  std::size_t owner(unsigned slot) {
    for (std::size_t i = 0; i < size(); ++i) {
      if (at(i).ask({"GET", "{" + hailwire::detail::redis_slot_tag(slot) + "}:none"}) == "(nil)") return i;
    }
    throw std::runtime_error("nobody has the slot");
  }
  template <class F>
  static void until(F done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) throw std::runtime_error("the cluster does not come to rest");
      std::this_thread::yield();
    }
  }
  void flush() {
    for (auto& s : servers_) s->ask({"FLUSHALL"});
  }

 private:
  void add() {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const auto bus = free_port();
      try {
        servers_.push_back(std::make_unique<redis_server>(
            std::vector<std::string>{"--cluster-enabled", "yes", "--cluster-port", std::to_string(bus),
                                     "--cluster-node-timeout", "5000", "--cluster-allow-replica-migration", "no"}));
        buses_.push_back(bus);
        return;
      } catch (const std::runtime_error&) {  // somebody else has taken the bus's port in between
      }
    }
    throw std::runtime_error("no server for the cluster");
  }
  std::vector<std::unique_ptr<redis_server>> servers_;
  std::vector<std::uint16_t> buses_;
};
