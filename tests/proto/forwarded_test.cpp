// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/forwarded.hpp"

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::proto;

namespace {

using fields = hailwire::detail::vector<http1::header>;

http1::head head_of(fields all) {
  http1::head h;
  h.headers = std::move(all);
  return h;
}
std::string print(const result<hailwire::detail::vector<hop>>& hops) {
  if (!hops) return hops.error().message;
  std::string out;
  for (const hop& h : *hops) {
    out += h.from.text();
    if (!h.scheme.empty()) out += ' ' + h.scheme;
    if (!h.host.empty()) out += ' ' + h.host;
    out += '|';
  }
  return out;
}
std::string forwarded(std::string_view value) { return print(read_forwarded(head_of({{"forwarded", value}}))); }
std::string x(fields all) { return print(read_x_forwarded(head_of(std::move(all)))); }
const std::string bad = "the Forwarded header is malformed";

std::string walk(std::span<const hop> hops, std::string_view peer, std::initializer_list<const char*> trusted) {
  auto found = walk_hops(hops, *endpoint::parse(peer), [&](const ip_address& a) {
    for (auto t : trusted)
      if (ip_range::parse(t)->contains(a)) return true;
    return false;
  });
  return found.from.text() + ' ' + found.scheme + ' ' + found.host;
}

}  // namespace

TEST_CASE("Forwarded: the examples of RFC 7239") {
  CHECK(forwarded(R"(for="_gazonk")") == "unknown|");
  CHECK(forwarded(R"(For="[2001:db8:cafe::17]:4711")") == "[2001:db8:cafe::17]:4711|");
  CHECK(forwarded("for=192.0.2.60;proto=http;by=203.0.113.43") == "192.0.2.60 http|");
  CHECK(forwarded("for=192.0.2.43, for=198.51.100.17") == "192.0.2.43|198.51.100.17|");
  CHECK(forwarded(R"(for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown)") ==
        "192.0.2.43|[2001:db8:cafe::17]|unknown|");
  CHECK(forwarded("for=_hidden, for=_SEVKISEK") == "unknown|unknown|");
  CHECK(forwarded(R"(for="192.0.2.43:47011")") == "192.0.2.43:47011|");
  CHECK(forwarded(R"(for="192.0.2.43:_port";host="example.com:8080";proto=HTTPS)") ==
        "192.0.2.43 https example.com:8080|");
}

TEST_CASE("Forwarded: quoted strings may hold anything, and lists go over several fields") {
  CHECK(forwarded(R"(for="19\2.0.2.1";secret="a,b;c=\"d")") == "192.0.2.1|");
  CHECK(print(read_forwarded(
            head_of({{"Forwarded", "for=192.0.2.1"}, {"Other", "x"}, {"FORWARDED", "for=192.0.2.2, ,"}}))) ==
        "192.0.2.1|192.0.2.2|");
  CHECK(forwarded("") == "");
  CHECK(forwarded(";;for=192.0.2.1;") == "192.0.2.1|");
  CHECK(forwarded("proto=https") == "unknown https|");
}

TEST_CASE("Forwarded: anything else is malformed") {
  for (auto value : {"for",
                     "for=",
                     "=1",
                     "for=192.0.2.1;for=192.0.2.2",
                     "for=2001:db8::1",
                     "for=[2001:db8::1]",
                     "for=192.0.2.1:80",
                     "for=\"192.0.2.1",
                     "for=\"192.0.2.1\"x",
                     "for=\"192.0.2.1\\\"",
                     "for= 192.0.2.1",
                     "for =192.0.2.1",
                     "for=192.0.2.1 proto=http",
                     "for=192.0.2.300",
                     "for=_",
                     "for=example",
                     "for=\"192.0.2.1:70000\"",
                     "for=\"192.0.2.1:\"",
                     "proto=ftp",
                     "proto=http;proto=https",
                     "host=\"a b\"",
                     "host=\"\"",
                     "host=a;host=b",
                     "host=a:80",
                     "by=x",
                     "by=_a;by=_b",
                     "f(r=1",
                     "for=\"unix:/x\"",
                     "for=\"[192.0.2.1]\"",
                     "for=\"_hid den\""}) {
    INFO(value);
    CHECK(forwarded(value) == bad);
  }
  std::string many = "for=192.0.2.1";
  for (int i = 1; i < 32; ++i) many += ",for=192.0.2.1";
  CHECK(read_forwarded(head_of({{"Forwarded", many}}))->size() == 32);
  CHECK(forwarded(many + ",for=192.0.2.1") == bad);
}

TEST_CASE("X-Forwarded-For: addresses with and without ports, over several fields") {
  CHECK(x({{"X-Forwarded-For", "192.0.2.1, 2001:db8::1 ,[2001:db8::2]:80"},
           {"x-forwarded-for", "198.51.100.1:9,unknown"}}) ==
        "192.0.2.1|[2001:db8::1]|[2001:db8::2]:80|198.51.100.1:9|unknown|");
  for (auto value : {"localhost", "192.0.2.1 192.0.2.2", "192.0.2.1;", "\"192.0.2.1\"", "_hidden", "192.0.2.1:x",
                     "<script>", "192.0.2.1, , x"}) {
    INFO(value);
    CHECK(x({{"X-Forwarded-For", value}}) == "the X-Forwarded-For header is malformed");
  }
  std::string many = "192.0.2.1";
  for (int i = 0; i < 32; ++i) many += ",192.0.2.1";
  CHECK(x({{"X-Forwarded-For", many}}) == "the X-Forwarded-For header is malformed");
}

TEST_CASE("X-Forwarded-Proto and -Host: one for each hop, or the last one for all") {
  CHECK(x({{"X-Forwarded-For", "192.0.2.1, 192.0.2.2"},
           {"X-Forwarded-Proto", "https, http"},
           {"X-Forwarded-Host", "a.example, b.example:81"}}) ==
        "192.0.2.1 https a.example|192.0.2.2 http b.example:81|");
  CHECK(x({{"X-Forwarded-For", "192.0.2.1, 192.0.2.2"},
           {"X-Forwarded-Proto", "wss"},
           {"X-Forwarded-Host", "a, b, c.example"}}) == "192.0.2.1 https c.example|192.0.2.2 https c.example|");
  CHECK(x({{"X-Forwarded-Proto", "http"}}) == "unknown http|");
  CHECK(x({}) == "");
  CHECK(x({{"X-Forwarded-Proto", "gopher"}}) == "the X-Forwarded-Proto header is malformed");
  CHECK(x({{"X-Forwarded-Host", "a/b"}}) == "the X-Forwarded-Host header is malformed");
}

TEST_CASE("the client is the rightmost address that is not trusted") {
  auto hops = *read_x_forwarded(head_of({{"X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.0.0.2"},
                                         {"X-Forwarded-Proto", "http, https, http"},
                                         {"X-Forwarded-Host", "evil, good, inner"}}));
  CHECK(walk(hops, "10.0.0.1:99", {"10.0.0.0/8"}) == "192.0.2.1 https good");
  // Who is not trusted is not listened to; who trusts too many goes too far, but not over the edge.
  CHECK(walk(hops, "192.0.2.9:99", {"10.0.0.0/8"}) == "192.0.2.9:99  ");
  CHECK(walk(hops, "10.0.0.1:99", {"0.0.0.0/0"}) == "6.6.6.6 http evil");
  CHECK(walk({}, "10.0.0.1:99", {"10.0.0.0/8"}) == "10.0.0.1:99  ");
  // A trusted proxy that keeps an address to itself is as far as one can see.
  auto hidden = *read_forwarded(head_of({{"Forwarded", "for=6.6.6.6;proto=http, for=_x;proto=https, for=10.0.0.2"}}));
  CHECK(walk(hidden, "10.0.0.1:99", {"10.0.0.0/8"}) == "10.0.0.2 https ");
}
