// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/address.hpp"

#include <arpa/inet.h>

#include <cstring>
#include <random>

#include "catch.hpp"

using namespace hailwire::proto;

namespace {
std::string again(std::string_view text) {
  auto a = ip_address::parse(text);
  return a ? a->text() : "no";
}
bool in(std::string_view range, std::string_view address) {
  auto r = ip_range::parse(range);
  REQUIRE(r);
  return r->contains(*ip_address::parse(address));
}
std::string end(std::string_view text) {
  auto e = endpoint::parse(text);
  return e ? e->text() : "no";
}
}  // namespace

TEST_CASE("addresses are read as people write them and written in the one form of RFC 5952") {
  CHECK(again("192.0.2.1") == "192.0.2.1");
  CHECK(again("255.255.255.255") == "255.255.255.255");
  CHECK(again("::") == "::");
  CHECK(again("::1") == "::1");
  CHECK(again("1::") == "1::");
  CHECK(again("2001:DB8:0:0:1:0:0:1") == "2001:db8::1:0:0:1");
  CHECK(again("2001:db8:0:1:1:1:1:1") == "2001:db8:0:1:1:1:1:1");
  CHECK(again("0:0:0:0:0:0:0:0") == "::");
  CHECK(again("::ffff:192.0.2.1") == "192.0.2.1");
  CHECK(again("::ffff:c000:201") == "192.0.2.1");
  CHECK(again("64:ff9b::192.0.2.33") == "64:ff9b::c000:221");
  for (auto bad : {"",
                   "1",
                   "1.2.3",
                   "1.2.3.4.5",
                   "1.2.3.256",
                   "01.2.3.4",
                   "1.2.3.4 ",
                   " 1.2.3.4",
                   "1.2.3.-4",
                   ":",
                   ":::",
                   "1:",
                   ":1",
                   "1::2::3",
                   "1:2:3:4:5:6:7",
                   "1:2:3:4:5:6:7:8:9",
                   "1:2:3:4:5:6:7::8",
                   "12345::",
                   "g::",
                   "::1%eth0",
                   "[::1]",
                   "::1.2.3",
                   "1.2.3.4::",
                   "::1.2.3.4:5",
                   "1:2:3:4:5:6:7:1.2.3.4",
                   "0x1::",
                   "+1::",
                   "::-1"})
    CHECK(again(bad) == "no");
}

TEST_CASE("what the C library reads is read alike, on 200,000 texts near addresses") {
  std::mt19937 random(7);
  const std::string letters = "0123456789abcdefF:::..";
  int good = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text;
    if (i % 2) {
      in6_addr any;
      for (auto& b : any.s6_addr) b = random() % 3 ? 0 : static_cast<std::uint8_t>(random());
      char out[INET6_ADDRSTRLEN];
      ::inet_ntop(AF_INET6, &any, out, sizeof out);
      text = out;
      if (random() % 2) text[random() % text.size()] = letters[random() % letters.size()];
    } else {
      for (auto n = random() % 20; n > 0; --n) text += letters[random() % letters.size()];
    }
    in6_addr six{};
    in_addr four{};
    bool v6 = ::inet_pton(AF_INET6, text.c_str(), &six) == 1, v4 = ::inet_pton(AF_INET, text.c_str(), &four) == 1;
    auto ours = ip_address::parse(text);
    INFO(text);
    REQUIRE(ours.has_value() == (v4 || v6));
    if (v6) REQUIRE(std::memcmp(ours->bytes.data(), &six, 16) == 0);
    if (v4) REQUIRE(std::memcmp(ours->bytes.data() + 12, &four, 4) == 0);
    if (ours) {
      REQUIRE(ip_address::parse(ours->text()) == ours);
      ++good;
    }
  }
  CHECK(good > 20'000);
}

TEST_CASE("a range holds addresses of its own family, to the bit") {
  CHECK(in("10.0.0.0/8", "10.255.255.255"));
  CHECK_FALSE(in("10.0.0.0/8", "11.0.0.0"));
  CHECK(in("192.0.2.128/25", "192.0.2.128"));
  CHECK_FALSE(in("192.0.2.128/25", "192.0.2.127"));
  CHECK(in("192.0.2.7", "192.0.2.7"));
  CHECK(in("192.0.2.7", "::ffff:192.0.2.7"));
  CHECK_FALSE(in("192.0.2.7", "192.0.2.6"));
  CHECK(in("0.0.0.0/0", "8.8.8.8"));
  CHECK_FALSE(in("0.0.0.0/0", "2001:db8::1"));
  CHECK_FALSE(in("::/0", "8.8.8.8"));
  CHECK(in("::/0", "2001:db8::1"));
  CHECK(in("2001:db8::/33", "2001:db8:7fff::"));
  CHECK_FALSE(in("2001:db8::/33", "2001:db8:8000::"));
  CHECK(in("::1/128", "::1"));
  for (auto bad : {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.1/8", "::1/64", "::/129",
                   "localhost", "10.0.0.0/8/8", "/8"})
    CHECK_FALSE(ip_range::parse(bad));
}

TEST_CASE("an endpoint is an address and perhaps a port") {
  CHECK(end("192.0.2.1") == "192.0.2.1");
  CHECK(end("192.0.2.1:80") == "192.0.2.1:80");
  CHECK(end("2001:db8::1") == "[2001:db8::1]");
  CHECK(end("[2001:db8::1]") == "[2001:db8::1]");
  CHECK(end("[2001:db8::1]:65535") == "[2001:db8::1]:65535");
  CHECK(end("[::ffff:192.0.2.1]:80") == "192.0.2.1:80");
  CHECK(endpoint().text() == "unknown");
  for (auto bad : {"", ":80", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:x", "[2001:db8::1", "[2001:db8::1]80",
                   "[192.0.2.1]:80", "[]", "unix", "unknown", "2001:db8::1]:80"})
    CHECK(end(bad) == "no");
}
