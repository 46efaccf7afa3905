// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/io/driver.hpp"

#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire::detail;

namespace {

/// Two ends of a connection.
struct ends {
  explicit ends(int family) {
    if (family == AF_UNIX) {
      REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, at.data()) == 0);
      return;
    }
    int listening = ::socket(AF_INET, SOCK_STREAM, 0);
    owned_descriptor close_it(listening);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof to;
    REQUIRE(::bind(listening, reinterpret_cast<sockaddr*>(&to), size) == 0);
    REQUIRE(::listen(listening, 1) == 0);
    REQUIRE(::getsockname(listening, reinterpret_cast<sockaddr*>(&to), &size) == 0);
    at[1] = ::socket(AF_INET, SOCK_STREAM, 0);
    int least = 4096;
    ::setsockopt(at[1], SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
    REQUIRE(::connect(at[1], reinterpret_cast<sockaddr*>(&to), size) == 0);
    at[0] = ::accept4(listening, nullptr, nullptr, SOCK_NONBLOCK);
    REQUIRE(at[0] >= 0);
  }
  ~ends() {
    for (int d : at) ::close(d);
  }
  std::array<int, 2> at;
};

/// Acknowledgements are the kernel's to send, in its own time.
bool soon(const std::function<bool()>& holds) {
  for (auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20); !holds();)
    if (std::chrono::steady_clock::now() > until) return false;
  return true;
}

}  // namespace

TEST_CASE("what a peer's kernel has acknowledged is known while there is no room to write") {
  const int family = GENERATE(AF_INET, AF_UNIX);
  CAPTURE(family);
  ends e(family);
  CHECK(unacknowledged_by_peer(e.at[0]) == 0);
  const std::string much(4096, 'x');
  const std::span<const char> piece(much);
  std::size_t written = 0;
  while (auto n = write_descriptor(e.at[0], {&piece, 1}).bytes) written += n;
  REQUIRE(unacknowledged_by_peer(e.at[0]) > 0);
  auto before = acknowledged_by_peer(e.at[0]);
  soon([&] { return std::exchange(before, acknowledged_by_peer(e.at[0])) == before; });
  before = acknowledged_by_peer(e.at[0]);
  std::vector<char> buffer(16 * 1024);
  std::size_t read = 0;
  // A reader that takes a little now and then: no room is told of yet, and there is progress.
  CHECK(soon([&] {
    if (auto n = ::recv(e.at[1], buffer.data(), buffer.size(), MSG_DONTWAIT); n > 0)
      read += static_cast<std::size_t>(n);
    return acknowledged_by_peer(e.at[0]) > before;
  }));
  CHECK(read < written);
  CHECK(soon([&] {
    if (auto n = ::recv(e.at[1], buffer.data(), buffer.size(), MSG_DONTWAIT); n > 0)
      read += static_cast<std::size_t>(n);
    return unacknowledged_by_peer(e.at[0]) == 0;
  }));
  CHECK(acknowledged_by_peer(e.at[0]) > before);
}

TEST_CASE("of TCP it is a count of bytes") {
  ends e(AF_INET);
  const auto before = acknowledged_by_peer(e.at[0]);
  const std::string some(1000, 'x');
  const std::span<const char> piece(some);
  REQUIRE(write_descriptor(e.at[0], {&piece, 1}).bytes == 1000);
  CHECK(soon([&] { return unacknowledged_by_peer(e.at[0]) == 0; }));
  CHECK(acknowledged_by_peer(e.at[0]) == before + 1000);
}

TEST_CASE("of what is no socket nothing is known") {
  CHECK(unacknowledged_by_peer(-1) == 0);
  CHECK(acknowledged_by_peer(-1) == acknowledged_by_peer(-1));
}
