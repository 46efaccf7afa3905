// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/net/connector.hpp"

#include <sys/socket.h>

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire::detail;
using asio::ip::tcp;

namespace {

struct outcome {
  bool called = false;
  std::error_code ec;
  tcp::endpoint peer;
};

outcome connect(asio::io_context& io, const connector::endpoints& to) {
  outcome out;
  auto c = connector::start(io.get_executor(), to, [&](std::error_code ec, tcp::socket s) {
    out.called = true;
    out.ec = ec;
    if (!ec) out.peer = s.remote_endpoint();
  });
  CHECK_FALSE(out.called);
  io.restart();
  io.run_for(std::chrono::seconds(20));
  return out;
}

tcp::endpoint local(std::uint16_t port) { return {asio::ip::address_v4::loopback(), port}; }

}  // namespace

TEST_CASE("the families take turns, the first one first") {
  const tcp::endpoint a6(asio::ip::make_address("2001:db8::1"), 1), b6(asio::ip::make_address("2001:db8::2"), 1);
  const tcp::endpoint a4(asio::ip::make_address("192.0.2.1"), 1), b4(asio::ip::make_address("192.0.2.2"), 1);
  using list = connector::endpoints;
  CHECK(connector::in_turn({a6, b6, a4, b4}) == list{a6, a4, b6, b4});
  CHECK(connector::in_turn({a4, a6, b6}) == list{a4, a6, b6});
  CHECK(connector::in_turn({a4, b4}) == list{a4, b4});
  CHECK(connector::in_turn({}).empty());
}

TEST_CASE("an address that refuses is followed by the next at once") {
  asio::io_context io;
  tcp::acceptor closed(io, local(0)), open(io, local(0));
  const auto refused = closed.local_endpoint();
  closed.close();
  auto out = connect(io, {refused, open.local_endpoint()});
  CHECK_FALSE(out.ec);
  CHECK(out.peer == open.local_endpoint());
  CHECK(connect(io, {refused}).ec == asio::error::connection_refused);
  CHECK(connect(io, {}).ec);
}

TEST_CASE("an address that does not answer costs a quarter of a second") {
  asio::io_context io;
  // A queue that is full: the system passes over whoever knocks.
  tcp::acceptor silent(io);
  silent.open(tcp::v4());
  silent.bind(local(0));
  silent.listen(0);
  std::vector<tcp::socket> full;
  for (int i = 0; i < 4; ++i) {
    full.emplace_back(io);
    full.back().open(tcp::v4());
    full.back().native_non_blocking(true);
    const auto to = silent.local_endpoint();
    (void)::connect(full.back().native_handle(), to.data(), static_cast<socklen_t>(to.size()));
  }
  tcp::acceptor open(io, local(0));
  const auto began = std::chrono::steady_clock::now();
  auto out = connect(io, {silent.local_endpoint(), open.local_endpoint()});
  CHECK_FALSE(out.ec);
  CHECK(out.peer == open.local_endpoint());
  CHECK(std::chrono::steady_clock::now() - began >= connector::delay);
}

TEST_CASE("nothing is told behind a cancel") {
  asio::io_context io;
  tcp::acceptor open(io, local(0));
  auto c =
      connector::start(io.get_executor(), {open.local_endpoint()}, [](std::error_code, tcp::socket) { FAIL("told"); });
  c->cancel();
  io.run();
}
