// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/proxy_header.hpp"

#include "catch.hpp"

using namespace hailwire::proto;

namespace {

using state = proxy_header_progress::state;
const std::string signature("\r\n\r\n\0\r\nQUIT\n", 12);

std::string made(unsigned command, unsigned family, const std::string& rest) {
  return signature + static_cast<char>(command) + static_cast<char>(family) + static_cast<char>(rest.size() >> 8) +
         static_cast<char>(rest.size()) + rest;
}
const std::string four("\xC0\x00\x02\x01\xCB\x00\x71\x05\x12\x67\x01\xBB", 12);
std::string six() {
  return std::string("\x20\x01\x0d\xb8", 4) + std::string(11, '\0') + "\1" + std::string(15, '\0') + "\1" +
         std::string("\x12\x67\x01\xBB", 4);
}
std::string tlv(char type, const std::string& value) {
  return std::string(1, type) + static_cast<char>(value.size() >> 8) + static_cast<char>(value.size()) + value;
}

/// What is read, with every prefix asking for more and never for too much.
std::string read(const std::string& bytes) {
  proxy_header h;
  std::size_t wants = proxy_header_start;
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    auto p = read_proxy_header(std::string_view(bytes).substr(0, n), h);
    if (p.what == state::failed) return "failed at " + std::to_string(n);
    REQUIRE(p.what == state::need_more);
    REQUIRE(p.size > n);
    REQUIRE(p.size <= bytes.size());
    REQUIRE(p.size == (n < proxy_header_start ? proxy_header_start : bytes.size()));
    wants = p.size;
  }
  auto p = read_proxy_header(bytes, h);
  if (p.what == state::failed) return "failed";
  if (p.what == state::need_more) return "more";
  REQUIRE(p.size == bytes.size());
  REQUIRE(wants <= bytes.size());
  return h.source.text() + " to " + h.target.text();
}

}  // namespace

TEST_CASE("the source of a connection over IPv4 or IPv6 is told") {
  CHECK(read(made(0x21, 0x11, four)) == "192.0.2.1:4711 to 203.0.113.5:443");
  CHECK(read(made(0x21, 0x21, six())) == "[2001:db8::1]:4711 to [::1]:443");
  CHECK(read(made(0x21, 0x31, std::string(216, 'x'))) == "unknown to unknown");
}

TEST_CASE("a proxy that speaks for itself, or of what it does not know, names nobody") {
  CHECK(read(made(0x20, 0x00, "")) == "unknown to unknown");
  CHECK(read(made(0x20, 0x11, four)) == "unknown to unknown");
  CHECK(read(made(0x20, 0x11, "xy")) == "unknown to unknown");
  CHECK(read(made(0x21, 0x00, "any bytes, which are skipped")) == "unknown to unknown");
}

TEST_CASE("what is added behind the addresses is skipped, and must be whole") {
  CHECK(read(made(0x21, 0x11, four + tlv(1, "h2") + tlv(4, "") + tlv(0x20, std::string(300, 'x')))) ==
        "192.0.2.1:4711 to 203.0.113.5:443");
  for (auto rest : {std::string("\1"), std::string("\1\0", 2), tlv(1, "h2").substr(0, 4), tlv(1, "h2") + '\2',
                    std::string("\1\xFF\xFF", 3)})
    CHECK(read(made(0x21, 0x11, four + rest)) == "failed");
}

TEST_CASE("all else fails, at the first byte that shows it") {
  CHECK(read("GET / HTTP/1.1\r\n") == "failed at 1");
  CHECK(read("PROXY TCP4 192.0.2.1 203.0.113.5 4711 443\r\n") == "failed at 1");  // version 1 is another protocol
  for (std::size_t i = 0; i < 12; ++i) {
    auto bytes = made(0x21, 0x11, four);
    bytes[i] ^= 0x20;
    CHECK(read(bytes) == "failed at " + std::to_string(i + 1));
  }
  for (unsigned command : {0x11u, 0x22u, 0x2Fu, 0x31u, 0x01u, 0xFFu})
    CHECK(read(made(command, 0x11, four)) == "failed at 13");
  for (unsigned family : {0x12u, 0x22u, 0x32u, 0x10u, 0x01u, 0x41u, 0xFFu})
    CHECK(read(made(0x21, family, four)) == "failed at 14");
  CHECK(read(made(0x21, 0x11, four.substr(1))) == "failed at 16");
  CHECK(read(made(0x21, 0x21, four)) == "failed at 16");
  CHECK(read(made(0x21, 0x31, std::string(215, 'x'))) == "failed at 16");
  CHECK(read(made(0x21, 0x11, four + tlv(4, std::string(max_proxy_header - 16 - 12 - 3, 'x')))) ==
        "192.0.2.1:4711 to 203.0.113.5:443");
  CHECK(read(made(0x21, 0x11, four + tlv(4, std::string(max_proxy_header - 16 - 12 - 2, 'x')))) == "failed at 16");
  CHECK(read(made(0x20, 0x00, std::string(65535, 'x'))) == "failed at 16");
}
