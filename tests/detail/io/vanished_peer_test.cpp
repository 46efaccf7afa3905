// SPDX-License-Identifier: BSL-1.0
// A peer that is gone without a word: in a network namespace of its own the loopback goes down, and every packet is
// dropped. The bounds to the millisecond are tested with a clock that stands still; this is about what the system does.
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>

#include "catch.hpp"
#include "hailwire/detail/base/descriptor.hpp"
#include "hailwire/server.hpp"
#include "hailwire/transport/long_poll.hpp"
#include "hailwire/transport/ndjson.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"

using namespace hailwire;
using namespace std::chrono_literals;

#ifdef __linux__

namespace {

enum class outcome { all_gone, some_stay, too_soon, none_came, not_permitted };

bool set_loopback(bool up) {
  const int s = ::socket(AF_INET, SOCK_DGRAM, 0);
  detail::owned_descriptor close_it(s);
  ifreq r{};
  r.ifr_name[0] = 'l', r.ifr_name[1] = 'o';
  if (s < 0 || ::ioctl(s, SIOCGIFFLAGS, &r) != 0) return false;
  r.ifr_flags = static_cast<short>(up ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
  return ::ioctl(s, SIOCSIFFLAGS, &r) == 0;
}

bool send_request(std::uint16_t port, const std::string& request) {
  const int s = ::socket(AF_INET, SOCK_STREAM, 0);  // stays open until the process ends
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(s, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 &&
         ::send(s, request.data(), request.size(), 0) == static_cast<ssize_t>(request.size());
}

/// Serves until `done()`, or for so long.
template <class F>
bool serve_until(basic_server& live, std::chrono::seconds most, F done) {
  for (const auto end = std::chrono::steady_clock::now() + most; !done();) {
    if (std::chrono::steady_clock::now() > end) return false;
    pollfd p{live.native_handle(), POLLIN, 0};
    ::poll(&p, 1, 100);
    live.poll();
  }
  return true;
}

// In a child process, of which only the exit status is seen.
outcome lose_all_packets() {
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0 || !set_loopback(true)) return outcome::not_permitted;
  options o;
  o.heartbeat = 2s;
  o.heartbeat_answer = 2s;
  std::size_t open = 0;
  std::map<std::string, std::chrono::steady_clock::time_point> gone;
  server<websocket, sse, ndjson, long_poll> live(own_thread, o);
  live.authorize([](const request&) { return grant{.follow = channel_set::all()}; });
  live.on_open([&](session&) { ++open; });
  live.on_close(
      [&](session& s, const close_reason&) { gone[std::string(s.transport())] = std::chrono::steady_clock::now(); });
  const auto port = live.listen("127.0.0.1", 0);
  const std::string host = " HTTP/1.1\r\nHost: h\r\n";
  const bool asked = send_request(port, "GET /live?channel=chat" + host +
                                            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n") &&
                     send_request(port, "GET /live?channel=chat" + host + "Accept: text/event-stream\r\n\r\n") &&
                     send_request(port, "GET /live?channel=chat" + host + "Accept: application/x-ndjson\r\n\r\n") &&
                     send_request(port, "GET /live?channel=chat&since=earliest&wait=50" + host + "\r\n");
  if (!asked || !serve_until(live, 60s, [&] { return open == 4; })) return outcome::none_came;
  const auto cut = std::chrono::steady_clock::now();
  if (!set_loopback(false)) return outcome::not_permitted;
  // Twice the heartbeat and the time to answer would do; a busy machine has more, and is far from the quarter of an
  // hour after which TCP gives up by itself.
  const bool all = serve_until(live, 40s, [&] { return gone.size() == 4; });
  for (auto& [transport, at] : gone) {
    std::fprintf(stderr, "%s was gone after %d ms\n", transport.c_str(),
                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(at - cut).count()));
    if (at - cut < 1s) return outcome::too_soon;
  }
  return all ? outcome::all_gone : outcome::some_stay;
}

}  // namespace

TEST_CASE("a peer whose packets are dropped is gone in time on every transport") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(static_cast<int>(lose_all_packets()));
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  const auto what = static_cast<outcome>(WEXITSTATUS(status));
  if (what == outcome::not_permitted) {
    WARN("skipped: this process may not have a network namespace of its own");
    return;
  }
  CHECK(static_cast<int>(what) == static_cast<int>(outcome::all_gone));
}

#endif
