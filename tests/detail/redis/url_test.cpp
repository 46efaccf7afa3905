// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/redis/url.hpp"

#include "catch.hpp"

using namespace hailwire::detail;
using kind = redis_url::kind;

namespace {

redis_url read(std::string_view text) {
  auto u = parse_redis_url(text);
  INFO(text);
  REQUIRE(u);
  return std::move(*u);
}
std::string refused(std::string_view text) {
  auto u = parse_redis_url(text);
  return u ? "taken" : std::string(u.error().text());
}

}  // namespace

TEST_CASE("a URL of Redis names one server, over TLS or not, as whom, and which database") {
  auto u = read("redis://db.example");
  CHECK((u.how == kind::single && !u.secure && u.database == 0 && u.user.empty() && u.password.empty()));
  CHECK(u.hosts == std::vector<redis_endpoint>{{"db.example", 6379}});
  u = read("rediss://ada:p%40ss%2Fword:x@[::1]:7000/15");
  CHECK((u.secure && u.user == "ada" && u.password == "p@ss/word:x" && u.database == 15));
  CHECK(u.hosts == std::vector<redis_endpoint>{{"::1", 7000}});
  CHECK(u.hosts[0].text() == "[::1]:7000");
  u = read("redis://:secret@localhost:1/");
  CHECK((u.user.empty() && u.password == "secret" && u.hosts[0].text() == "localhost:1"));
}

TEST_CASE("a URL names sentinels and their master, or hosts of a cluster") {
  auto u = read("redis-sentinel://:pw@a,b:26380,[::2]/my%20master/3");
  CHECK((u.how == kind::sentinel && u.master == "my master" && u.database == 3 && u.password == "pw"));
  CHECK(u.hosts == std::vector<redis_endpoint>{{"a", 26379}, {"b", 26380}, {"::2", 26379}});
  u = read("redis-cluster://a:7000,b");
  CHECK(u.how == kind::cluster);
  CHECK(u.hosts == std::vector<redis_endpoint>{{"a", 7000}, {"b", 6379}});
}

TEST_CASE("a URL that says nothing sensible is refused, and its password is not repeated") {
  for (std::string_view text : {"",
                                "redis:",
                                "redis:/a",
                                "http://a",
                                "redis://",
                                "redis://a,b",
                                "redis://a:0",
                                "redis://a:65536",
                                "redis://a:",
                                "redis://a:b",
                                "redis://a/x",
                                "redis://a/1x",
                                "redis://a/-1",
                                "redis://ada@a",
                                "redis://ada:@a",
                                "redis://ada:%4@a",
                                "redis://[::1",
                                "redis://[::1]x",
                                "redis://:1",
                                "redis://a b",
                                "redis://a?tls=1",
                                "redis://a#x",
                                "redis-sentinel://a",
                                "redis-sentinel://a/",
                                "redis-sentinel://a/%",
                                "redis-sentinel://a/m/x",
                                "redis-cluster://a/1",
                                "redis-cluster://a,,b",
                                "redis://a\xC3\xA9"}) {
    INFO(text);
    CHECK(refused(text).starts_with("a URL of Redis: "));
  }
  CHECK(refused("redis://ada:hunter2@a:99999").find("hunter2") == std::string::npos);
  std::string many = "redis-cluster://a";
  for (int i = 1; i < 64; ++i) many += ",a";
  CHECK(refused(many) == "taken");
  CHECK(refused(many + ",a") == "a URL of Redis: more than 64 hosts");
}
