// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/net/resolver.hpp"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <system_error>

#include "catch.hpp"

using namespace hailwire::detail;

TEST_CASE("an address is its own answer") {
  asio::io_context io;
  name_resolver::endpoints four, six;
  auto& r = name_resolver::of(io.get_executor());
  r.resolve("127.0.0.1", 80, io.get_executor(), [&](std::error_code, const auto& found) { four = found; });
  r.resolve("::1", 81, io.get_executor(), [&](std::error_code, const auto& found) { six = found; });
  CHECK(four.empty());
  io.run();
  REQUIRE(four.size() == 1);
  CHECK(four[0].port() == 80);
  REQUIRE(six.size() == 1);
  CHECK(six[0].address().is_v6());
}

TEST_CASE("those who ask for one name at a time share its answer, and a failure is not kept") {
  asio::io_context io;
  auto& r = name_resolver::of(io.get_executor());
  CHECK(&r == &name_resolver::of(io.get_executor()));
  int asked = 0, failed = 0, found = 0;
  r.ask_instead([&](const std::string& host, std::uint16_t port, name_resolver::endpoints& out) {
    CHECK(host == "h");
    if (++asked == 1) return std::make_error_code(std::errc::host_unreachable);
    out.push_back({asio::ip::address_v4::loopback(), port});
    return std::error_code();
  });
  for (int turn = 0; turn < 2; ++turn) {
    for (int i = 0; i < 100; ++i)
      r.resolve("h", 80, io.get_executor(), [&](std::error_code ec, const auto& list) {
        ++(ec ? failed : found);
        CHECK(list.size() == (ec ? 0 : 1));
      });
    io.restart();
    io.run();
  }
  CHECK(asked == 2);
  CHECK(failed == 100);
  CHECK(found == 100);
}

TEST_CASE("the system knows localhost") {
  asio::io_context io;
  std::size_t found = 0;
  name_resolver::of(io.get_executor())
      .resolve("localhost", 80, io.get_executor(), [&](std::error_code, const auto& list) { found = list.size(); });
  io.run();
  CHECK(found > 0);
}
