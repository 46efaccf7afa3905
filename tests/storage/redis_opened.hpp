// SPDX-License-Identifier: BSL-1.0
// A storage in a Redis of a test's own, and what the storage contract opens there.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "catch.hpp"
#include "hailwire/storage/redis.hpp"
#include "storage/asked.hpp"

inline std::unique_ptr<hailwire::redis_storage> open_at(const std::string& url, const hailwire::redis_options& o = {}) {
  auto s = hailwire::redis_storage::open(url, o);
  INFO((s ? std::string() : std::string(s.error().text())));
  REQUIRE(s);
  return std::move(*s);
}

/// One Redis, or one cluster, for all that the contract opens; emptied before each.
template <class Server>
struct redis_fixture {
  std::shared_ptr<Server> server = std::make_shared<Server>();
  hailwire::redis_options options = {};

  std::unique_ptr<hailwire::redis_storage> open(hailwire::testing::retention keep) {
    server->flush();
    options.messages = keep.messages;
    options.bytes = keep.bytes;
    options.age = keep.age;
    options.clock = &test_clock;
    return reopen();
  }
  std::unique_ptr<hailwire::redis_storage> open() { return open({}); }
  std::unique_ptr<hailwire::redis_storage> reopen() { return open_at(server->url(), options); }
  std::unique_ptr<hailwire::redis_storage> share() { return reopen(); }
  std::int64_t now() const { return test_now; }
  void advance(std::chrono::milliseconds time) { test_now += time.count(); }
};
