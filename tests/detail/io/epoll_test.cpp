// SPDX-License-Identifier: BSL-1.0
// What only a kernel between two ends can show of time limits, for the epoll driver and for Asio's side by side: one
// context runs a server of each, and the clients with them. The limits are the shortest there are, one second.
#include "hailwire/detail/io/epoll.hpp"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"
#include "socket_client.hpp"

using namespace hailwire;
using namespace hailwire::test;
using namespace std::chrono_literals;
using asio::ip::tcp;

namespace {

using live_server = server<websocket, sse>;
using steady = std::chrono::steady_clock;

struct drivers {
  explicit drivers(const options& o) {
    both.push_back(std::make_unique<live_server>(io, o));
    both.push_back(std::make_unique<live_server>(portable, io, o));
    for (auto& s : both) {
      s->authorize([](const request&) { return grant{.follow = channel_set::all(), .publish = channel_set::all()}; });
      s->on_close([this](session& gone, const close_reason& why) { ends.push_back({gone.id(), why}); });
    }
  }
  struct ending {
    std::string session;
    close_reason why;
  };
  asio::io_context io;
  std::vector<ending> ends;
  std::vector<std::unique_ptr<live_server>> both;
};

/// A client in the same context: it reads what it is told to, when it is told to.
struct reader {
  reader(asio::io_context& io, live_server& s, const std::string& request) : socket(io), clock(io) {
    socket.open(tcp::v4());
    socket.set_option(asio::socket_base::receive_buffer_size(4096));  // before the window is agreed on
    socket.connect({asio::ip::address_v4::loopback(), s.listen("127.0.0.1", 0)});
    socket.native_non_blocking(true);
    asio::write(socket, asio::buffer(request));
  }
  /// Up to `n` bytes that are there; false once there will be no more.
  bool take(std::size_t n) {
    std::string part(n, 0);
    const auto got = ::recv(socket.native_handle(), part.data(), n, 0);
    if (got > 0) bytes.append(part, 0, static_cast<std::size_t>(got));
    return !(ended = got == 0 || (got < 0 && errno != EAGAIN));
  }
  /// `n` bytes now and every `pause`, until there are no more or `enough` says so.
  void go_on(std::size_t n, std::chrono::milliseconds pause, std::function<bool()> enough) {
    if (!take(n) || enough()) return;
    clock.expires_after(pause);
    clock.async_wait([=, this](std::error_code ec) {
      if (!ec) go_on(n, pause, enough);
    });
  }
  tcp::socket socket;
  asio::steady_timer clock;
  std::string bytes;
  bool ended = false;
};

}  // namespace

TEST_CASE("a slow reader that is never still is not cut, one that stands still is") {
  options o;
  o.stall_time = 1s;
  o.send_buffer = 16 * 1024;
  drivers d(o);
  const std::string large(150'000, 'x');
  const auto begun = steady::now();
  // Four times as long as a reader may stand still. It takes 8 KB a second, which the kernel tells as room to write
  // only when a third of its queue is empty.
  auto slow_enough = [&] { return steady::now() - begun > 4s; };
  std::vector<std::unique_ptr<reader>> slow, still;
  for (auto& s : d.both)
    for (const std::string& request : {upgrade("?channel=chat"), event_stream("?channel=chat")}) {
      slow.push_back(std::make_unique<reader>(d.io, *s, request));
      still.push_back(std::make_unique<reader>(d.io, *s, request));
      slow.back()->go_on(400, 50ms, slow_enough);
    }
  auto sessions = [&] { return d.both[0]->sessions().size() + d.both[1]->sessions().size(); };
  while (sessions() < 8 && steady::now() - begun < limit) d.io.run_one_for(1s);
  REQUIRE(sessions() == 8);
  for (auto& s : d.both) CHECK_FALSE(s->publish("chat", payload::text(large)));
  while (!slow_enough()) d.io.run_one_for(100ms);
  CHECK(d.ends.size() == still.size());
  for (auto& e : d.ends) CHECK(e.why.code == errc::timeout);
  for (auto& c : slow) {
    CAPTURE(c->bytes.size());
    CHECK_FALSE(c->ended);
    CHECK(c->bytes.size() < large.size());
    c->go_on(65536, 0ms, [&c, &large] { return c->bytes.find(large) != c->bytes.npos; });
  }
  auto all_have_it = [&] {
    return std::all_of(slow.begin(), slow.end(), [&](auto& c) { return c->bytes.find(large) != c->bytes.npos; });
  };
  while (!all_have_it() && steady::now() - begun < limit) d.io.run_one_for(100ms);
  CHECK(all_have_it());
  CHECK(d.ends.size() == still.size());
}

TEST_CASE(
    "after a pause of the server a client that answers pings is asked first, and lives on; one that does not ends") {
  options o;
  o.heartbeat = o.heartbeat_answer = 1s;
  drivers d(o);
  const auto begun = steady::now();
  std::vector<std::unique_ptr<reader>> answers, silent;
  std::size_t pings = 0;
  for (auto& s : d.both) {
    for (auto* group : {&answers, &silent}) {
      group->push_back(std::make_unique<reader>(d.io, *s, upgrade("?channel=chat")));
      reader& c = *group->back();
      c.go_on(4096, 10ms, [&c, &pings, replies = group == &answers, from = std::size_t{0}]() mutable {
        const std::string ping("\x89\x00", 2);
        for (auto at = c.bytes.find(ping, from); replies && at != c.bytes.npos; at = c.bytes.find(ping, from)) {
          from = at + 2;
          ++pings;
          std::string pong;
          proto::append_masked_frame(pong, proto::ws_opcode::pong, {}, 0x01020304);
          asio::write(c.socket, asio::buffer(pong));
        }
        return false;
      });
    }
  }
  auto sessions = [&] { return d.both[0]->sessions().size() + d.both[1]->sessions().size(); };
  while (sessions() < 4 && steady::now() - begun < limit) d.io.run_one_for(1s);
  REQUIRE(sessions() == 4);
  // Nothing runs for longer than two heartbeats and what counts as a standstill, the clients neither.
  asio::io_context elsewhere;
  asio::steady_timer pause(elsewhere, 3500ms);
  pause.wait();
  const auto resumed = steady::now();
  while (steady::now() - resumed < 2500ms) d.io.run_one_for(100ms);
  CHECK(pings >= 2);
  CHECK(d.ends.size() == 2);
  for (auto& e : d.ends) CHECK(e.why.close_code == 4408);
  for (auto& c : answers) CHECK_FALSE(c->ended);
  for (auto& c : silent) CHECK(c->bytes.find("no sign of life") != std::string::npos);
}
