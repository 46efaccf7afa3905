// SPDX-License-Identifier: BSL-1.0
// The announcement of a proxy on a descriptor, cut at every byte; what its words mean is in
// proto/proxy_header_test.cpp.
#include "hailwire/detail/io/proxy_protocol.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <span>
#include <string>

#include "catch.hpp"

using namespace hailwire;
using detail::io_result;

namespace {

/// Both ends of a stream that does not block.
struct ends {
  ends() {
    int both[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both) == 0);
    near = both[0], far = both[1];
  }
  ~ends() {
    close(near);
    if (far >= 0) close(far);
  }
  void say(std::string_view bytes) {
    REQUIRE(write(far, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  void hang_up() { close(std::exchange(far, -1)); }
  int near = -1, far = -1;
};

std::string signature() { return {"\r\n\r\n\0\r\nQUIT\n", 12}; }
/// 203.0.113.7:4711 to 192.0.2.1:443 over TCP, with so many bytes of extensions.
std::string announced(std::size_t more = 0) {
  std::string out = signature() + "\x21\x11";
  out += static_cast<char>((12 + more) >> 8);
  out += static_cast<char>((12 + more) & 0xFF);
  out += std::string("\xcb\x00\x71\x07\xc0\x00\x02\x01\x12\x67\x01\xbb", 12);
  // One extension of type NOOP (0x04), as long as is asked for.
  if (more >= 3) {
    out += '\x04';
    out += static_cast<char>((more - 3) >> 8);
    out += static_cast<char>((more - 3) & 0xFF);
    out += std::string(more - 3, '\0');
  }
  return out;
}

struct answer {
  io_result::status what;
  std::string bytes;
};
answer read_from(detail::proxy_layer& layer, int d) {
  std::array<char, 64> into;
  io_result r = layer.read(d, into);
  return {r.what, std::string(into.data(), r.what == io_result::status::done ? r.bytes : 0)};
}

TEST_CASE("the announcement is taken off wherever it is cut, and not a byte of what follows") {
  const std::string header = announced(), after = "GET / HTTP/1.1";
  for (std::size_t cut = 1; cut < header.size(); ++cut) {
    INFO("cut behind " << cut);
    ends e;
    detail::proxy_layer layer(nullptr);
    e.say(header.substr(0, cut));
    CHECK(read_from(layer, e.near).what == io_result::status::again);
    CHECK(layer.source().empty());
    e.say(header.substr(cut) + after);
    answer got = read_from(layer, e.near);
    CHECK(got.what == io_result::status::done);
    CHECK(got.bytes == after);
    CHECK(layer.source() == "203.0.113.7:4711");
  }
}

TEST_CASE("an announcement alone is not an end, and its extensions are passed over up to their limit") {
  for (std::size_t more : {std::size_t{3}, std::size_t{100}}) {
    ends e;
    detail::proxy_layer layer(nullptr);
    e.say(announced(more));
    CHECK(read_from(layer, e.near).what == io_result::status::again);
    CHECK(layer.source() == "203.0.113.7:4711");
    e.say("x");
    CHECK(read_from(layer, e.near).bytes == "x");
  }
}

TEST_CASE("a proxy that speaks for itself names nobody") {
  ends e;
  detail::proxy_layer layer(nullptr);
  e.say(signature() + std::string("\x20\x00\x00\x00", 4) + "x");
  CHECK(read_from(layer, e.near).bytes == "x");
  CHECK(layer.source().empty());
}

TEST_CASE("what is no announcement fails, once what shows it is there") {
  for (std::string bytes :
       {std::string("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), signature() + std::string("\x11\x11\x00\x0c", 4),
        signature() + std::string("\x21\x11\xff\xff", 4), std::string(16, '\0')}) {
    ends e;
    detail::proxy_layer layer(nullptr);
    e.say(bytes);
    CHECK(read_from(layer, e.near).what == io_result::status::failed);
    CHECK(layer.source().empty());
  }
}

TEST_CASE("an end within the announcement is an end") {
  ends e;
  detail::proxy_layer layer(nullptr);
  e.say(announced().substr(0, 20));
  e.hang_up();
  CHECK(read_from(layer, e.near).what == io_result::status::end);
}

TEST_CASE("nothing is written before the announcement is whole") {
  ends e;
  detail::proxy_layer layer(nullptr);
  const std::string text = "answer";
  const std::span<const char> piece(text);
  CHECK(layer.write(e.near, {&piece, 1}).what == io_result::status::again);
  e.say(announced() + "x");
  CHECK(read_from(layer, e.near).bytes == "x");
  io_result r = layer.write(e.near, {&piece, 1});
  CHECK(r.what == io_result::status::done);
  CHECK(r.bytes == text.size());
  std::array<char, 16> got;
  CHECK(read(e.far, got.data(), got.size()) == static_cast<ssize_t>(text.size()));
}

}  // namespace
