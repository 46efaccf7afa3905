// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/redis/job.hpp"

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::detail;

TEST_CASE("a redirection names a slot and a server; without a host it is the one that says so") {
  unsigned slot = 0;
  redis_endpoint to;
  const redis_endpoint from{"here", 1};
  REQUIRE(read_redirection("3999 127.0.0.1:6381", from, slot, to));
  CHECK((slot == 3999 && to == redis_endpoint{"127.0.0.1", 6381}));
  REQUIRE(read_redirection("16383 ::1:6381", from, slot, to));
  CHECK((slot == 16383 && to == redis_endpoint{"::1", 6381}));
  REQUIRE(read_redirection("0 :7000", from, slot, to));
  CHECK((slot == 0 && to == redis_endpoint{"here", 7000}));
  for (std::string_view text :
       {"", "3999", "3999 ", "3999 a", "x a:1", "3999 a:x", "3999 a:65536", "16384 a:1", "-1 a:1", "a:1 2"})
    CHECK(!read_redirection(text, from, slot, to));
}

TEST_CASE("what Redis says before it runs a script is overloaded, all else is internal") {
  for (std::string_view text :
       {"LOADING Redis is loading the dataset in memory", "OOM command not allowed", "-READONLY You can't",
        "MISCONF Redis is configured", "CLUSTERDOWN The cluster is down", "NOREPLICAS Not enough"})
    CHECK(redis_error(text) == errc::overloaded);
  for (std::string_view text :
       {"", "ERR unknown", "WRONGTYPE Operation", "NOPERM this user", "ERR a long way before it says LOADING"})
    CHECK(redis_error(text) == errc::internal);
}
