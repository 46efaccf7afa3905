// SPDX-License-Identifier: BSL-1.0
#pragma once

// A client for tests over real sockets: it blocks, and says what it saw when what it waited for does not come.

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/proto/ws_frame.hpp"

namespace hailwire::test {

/// How long a test waits for what must come: only a failure reaches it.
inline constexpr auto limit = std::chrono::seconds(20);

/// A blocking client.
class wire {
 public:
  explicit wire(std::uint16_t port) : wire(AF_INET) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connect(reinterpret_cast<sockaddr*>(&at), sizeof at);
  }
  struct v6 {
    std::uint16_t port;
  };
  explicit wire(v6 to) : wire(AF_INET6) {
    sockaddr_in6 at{};
    at.sin6_family = AF_INET6;
    at.sin6_port = htons(to.port);
    at.sin6_addr = in6addr_loopback;
    connect(reinterpret_cast<sockaddr*>(&at), sizeof at);
  }
  explicit wire(const std::string& path) : wire(AF_UNIX) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    path.copy(at.sun_path, sizeof at.sun_path - 1);
    connect(reinterpret_cast<sockaddr*>(&at), sizeof at);
  }
  wire(wire&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), seen_(std::move(other.seen_)) {}
  ~wire() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  /// Of a descriptor that is connected, and its own from now on.
  static wire of(int descriptor) { return wire(owned{descriptor}); }
  /// A socket that is not connected yet, for when no more descriptors can be had.
  static wire unconnected() { return wire(AF_INET); }
  void connect(std::uint16_t port) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connect(reinterpret_cast<sockaddr*>(&at), sizeof at);
  }

  wire& send(std::string_view bytes) {
    while (!bytes.empty()) {
      auto n = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) break;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return *this;
  }
  void end() { ::shutdown(descriptor_, SHUT_WR); }
  /// Has the connection end with a reset.
  void reset() {
    linger l{1, 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    ::close(std::exchange(descriptor_, -1));
  }
  /// Everything up to and with `text`; what came before the connection ended when it never came.
  std::string until(std::string_view text) {
    for (std::size_t from = 0;;) {
      if (auto at = seen_.find(text, from); at != seen_.npos) {
        auto out = seen_.substr(0, at + text.size());
        seen_.erase(0, out.size());
        return out;
      }
      from = seen_.size() < text.size() ? 0 : seen_.size() - text.size();
      if (!more()) return std::exchange(seen_, {}) + " <and no " + std::string(text) + '>';
    }
  }
  /// Everything until the server ends it.
  std::string all() {
    while (more()) {
    }
    return std::exchange(seen_, {});
  }
  /// Small answers only: what has a length comes whole in these tests.
  std::string ask(std::string_view request) {
    auto head = send(request).until("\r\n\r\n");
    const bool bare = head.find("\r\nContent-Length: 0\r\n") != head.npos;
    while (!bare && seen_.empty() && more()) {
    }
    return head + std::exchange(seen_, {});
  }
  /// What has come by now, or comes next.
  std::string some() {
    if (seen_.empty()) more();
    return std::exchange(seen_, {});
  }
  /// Whether something has come.
  bool readable() const {
    char c;
    return !seen_.empty() || ::recv(descriptor_, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
  }
  int descriptor() const noexcept { return descriptor_; }

 private:
  struct owned {
    int descriptor;
  };
  explicit wire(int family) : wire(owned{::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)}) {}
  explicit wire(owned d) : descriptor_(d.descriptor) {
    timeval t{std::chrono::seconds(limit).count(), 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
  }
  void connect(const sockaddr* at, socklen_t size) {
    if (::connect(descriptor_, at, size) != 0) seen_ = "<not connected>";
  }
  bool more() {
    char buffer[65536];
    auto n = ::recv(descriptor_, buffer, sizeof buffer, 0);
    if (n > 0) seen_.append(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }
  int descriptor_;
  std::string seen_;
};

inline std::string get(const std::string& target, const std::string& more = {}) {
  return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + more + "\r\n";
}
inline std::string event_stream(const std::string& query) {
  return get("/live" + query, "Accept: text/event-stream\r\n");
}
inline std::string upgrade(const std::string& query) {
  return get("/live" + query,
             "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
             "dGhlIHNhbXBsZSBub25jZQ==\r\n");
}
inline std::string post(const std::string& query, const std::string& body) {
  return "POST /live" + query + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}
inline std::string frame(std::string_view text) {
  std::string out;
  proto::append_masked_frame(out, proto::ws_opcode::text, text, 0x01020304);
  return out;
}
inline bool contains(const std::string& all, std::string_view part) { return all.find(part) != all.npos; }

}  // namespace hailwire::test
