// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/push/addresses.hpp"

#include "catch.hpp"

using hailwire::detail::is_public;
using hailwire::proto::ip_address;

TEST_CASE("addresses of the open internet are told from all others, at the edges of each range") {
  for (const char* text :
       {"1.1.1.1",           "9.255.255.255",   "11.0.0.0",        "100.63.255.255",  "100.128.0.0", "126.255.255.255",
        "128.0.0.0",         "169.253.255.255", "169.255.0.0",     "172.15.255.255",  "172.32.0.0",  "192.167.255.255",
        "192.169.0.0",       "198.17.255.255",  "198.20.0.0",      "223.255.255.255", "2000::",      "2001:200::",
        "2a00:1450:4001::1", "3ffe:ffff::",     "64:ff9b::8.8.8.8"}) {
    INFO(text);
    auto a = ip_address::parse(text);
    REQUIRE(a);
    CHECK(is_public(*a));
  }
  for (const char* text : {"0.0.0.0",
                           "0.255.255.255",
                           "10.0.0.0",
                           "10.255.255.255",
                           "100.64.0.0",
                           "100.127.255.255",
                           "127.0.0.1",
                           "169.254.169.254",
                           "172.16.0.0",
                           "172.31.255.255",
                           "192.0.0.1",
                           "192.0.2.1",
                           "192.168.0.0",
                           "192.168.255.255",
                           "198.18.0.0",
                           "198.19.255.255",
                           "198.51.100.1",
                           "203.0.113.1",
                           "224.0.0.0",
                           "255.255.255.255",
                           "::",
                           "::1",
                           "::ffff:10.0.0.1",
                           "::ffff:127.0.0.1",
                           "64:ff9b::10.0.0.1",
                           "100::1",
                           "1fff:ffff::",
                           "2001::1",
                           "2001:1ff::",
                           "2001:db8::1",
                           "2002:7f00:1::",
                           "3fff::1",
                           "4000::",
                           "fc00::1",
                           "fe80::1",
                           "ff02::1"}) {
    INFO(text);
    auto a = ip_address::parse(text);
    REQUIRE(a);
    CHECK_FALSE(is_public(*a));
  }
}
