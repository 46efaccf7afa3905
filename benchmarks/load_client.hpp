// SPDX-License-Identifier: BSL-1.0
#pragma once

// Clients for the load generator: thousands of them on one epoll loop, each with a few dozen bytes of state and no
// buffer.
//
// Every payload carries a marker: `#`, eight hexadecimal digits of a sequence number, then `x` up to the payload's
// size. What a server sends is scanned for markers as it arrives, whatever stands around them (a frame, an event, a
// JSON object, an answer's body), and each must be whole: a byte that differs ends the run. So one scanner checks every
// transport of every server. WebSocket frames and HTTP answers are still read by their own rules, since pings have to
// be answered and the end of an answer has to be known.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "load_tls.hpp"

namespace load {

inline std::int64_t nanoseconds() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Where a server is: `ws://127.0.0.1:8080/live?channel=c` or `http://…`, with an IPv4 address; with TLS `wss://` or
/// `https://`.
struct address {
  sockaddr_in at{};
  std::string host, path = "/";
  bool websocket = false, tls = false;
};

inline std::optional<address> parse_url(std::string_view url) {
  address a;
  auto scheme = url.substr(0, url.find("://"));
  a.websocket = scheme == "ws" || scheme == "wss";
  a.tls = scheme == "wss" || scheme == "https";
  if ((!a.websocket && !a.tls && scheme != "http") || (a.tls && !has_tls)) return {};
  url.remove_prefix(scheme.size() + 3);
  auto slash = std::min(url.find('/'), url.size());
  a.host = url.substr(0, slash);
  if (slash < url.size()) a.path = url.substr(slash);
  auto colon = a.host.find(':');
  a.at.sin_family = AF_INET;
  a.at.sin_port = htons(
      static_cast<std::uint16_t>(colon == a.host.npos ? (a.tls ? 443 : 80) : std::atoi(a.host.c_str() + colon + 1)));
  if (inet_pton(AF_INET, a.host.substr(0, colon).c_str(), &a.at.sin_addr) != 1) return {};
  return a;
}

/// `text` with `%i` and `%t` replaced by numbers and `%p` by the payload.
inline void substitute(std::string& out, std::string_view text, std::uint64_t i, std::uint64_t t = 0,
                       std::string_view payload = {}) {
  for (std::size_t k = 0; k < text.size(); ++k) {
    char next = k + 1 < text.size() ? text[k + 1] : '\0';
    if (text[k] != '%' || (next != 'i' && next != 't' && next != 'p')) {
      out += text[k];
      continue;
    }
    ++k;
    if (next == 'p') {
      out += payload;
    } else {
      out += std::to_string(next == 'i' ? i : t);
    }
  }
}

/// The least that carries a marker.
inline constexpr std::size_t smallest_payload = 9;

/// The payload of a sequence number, `size` bytes.
inline void make_payload(std::string& out, std::uint32_t sequence, std::size_t size) {
  out.assign(size, 'x');
  out[0] = '#';
  for (std::size_t i = 0; i < 8; ++i) out[1 + i] = "0123456789abcdef"[sequence >> (28 - 4 * i) & 15];
}

/// Appends a client's frame: masked (RFC 6455, section 5.3), with a constant key, because what it is makes no
/// difference to the work of taking it off.
inline void append_frame(std::string& out, unsigned opcode, std::string_view payload) {
  static constexpr unsigned char key[4] = {0x37, 0xfa, 0x21, 0x3d};
  auto put = [&](std::uint64_t v) { out += static_cast<char>(v & 255); };
  put(0x80u | opcode);
  if (payload.size() < 126) {
    put(0x80 | payload.size());
  } else if (payload.size() < 65536) {
    put(0x80 | 126), put(payload.size() >> 8), put(payload.size());
  } else {
    put(0x80 | 127);
    for (int shift = 56; shift >= 0; shift -= 8) put(static_cast<std::uint64_t>(payload.size()) >> shift);
  }
  out.append(reinterpret_cast<const char*>(key), 4);
  std::size_t from = out.size();
  out += payload;
  std::uint64_t wide;
  unsigned char twice[8] = {key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]};
  std::memcpy(&wide, twice, 8);
  char* p = out.data() + from;
  std::size_t n = payload.size();
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    word ^= wide;
    std::memcpy(p, &word, 8);
  }
  for (std::size_t i = 0; i < n; ++i) p[i] = static_cast<char>(p[i] ^ static_cast<char>(key[i % 4]));
}

enum class kind : std::uint8_t {
  websocket,
  events,  ///< one GET, answered without end
  polls,   ///< requests and answers in turn, on a kept-alive connection
};

struct client {
  enum class stage : std::uint8_t { unused, connecting, head, open, body, closed };
  int fd = -1;
  std::unique_ptr<tls_end> tls;
  std::uint32_t index = 0;
  kind how = kind::websocket;
  stage at = stage::unused;
  bool wants_write = false, dirty = false, deaf = false;
  // A frame, or an answer's body
  std::uint8_t header_have = 0, opcode = 0;
  unsigned char header[10]{};
  std::uint64_t left = 0;
  // A marker
  std::uint8_t matched = 0;  // 0: none; 1–8: `#` and that many digits less one; 9: in its filler
  std::uint32_t sequence = 0, filler = 0;
  // What the scenario keeps
  std::uint32_t sent = 0, seen = 0;
  // HTTP
  int status = 0;
  std::string text;  // a head or a control frame that is not whole yet
  std::string etag, modified;
  std::string out;
};

/// What a scenario is told.
class events {
 public:
  virtual ~events() = default;
  /// The handshake is done, or an event stream has begun. On polls: connected.
  virtual void ready(client&) = 0;
  virtual void marked(client&, std::uint32_t) {}
  /// A whole answer has been read; `etag` and `modified` are set.
  virtual void answered(client&) {}
  /// All that was readable has been read; time to send.
  virtual void turn_over() {}
};

/// All clients and their loop.
class pool {
 public:
  pool(std::size_t capacity, std::size_t payload)
      : clients(capacity), filler_(payload - smallest_payload, 'x'), buffer_(256 * 1024) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) fail("epoll_create1");
  }
  ~pool() {
    for (auto& c : clients)
      if (c.fd >= 0) ::close(c.fd);
    ::close(epoll_);
  }
  pool(const pool&) = delete;
  pool& operator=(const pool&) = delete;

  std::vector<client> clients;
  events* to = nullptr;
  std::string error;          ///< the first thing that went wrong; the run is void then
  int receive_buffer = 0;     ///< of connections opened from now on, in bytes; 0: the system's choice
  bool exact_frames = false;  ///< each data frame holds nothing but the payload
  std::uint64_t bytes_read = 0;

  void fail(std::string what) {
    if (error.empty()) error = std::move(what);
  }
  void fail(client& c, std::string what) { fail("connection " + std::to_string(c.index) + ": " + std::move(what)); }

  /// Connects client `i`. `request`: what is sent first (empty on polls).
  void open(std::size_t i, const address& where, kind how, std::string request) {
    client& c = clients[i];
    c = client();
    c.index = static_cast<std::uint32_t>(i);
    c.how = how;
    c.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c.fd < 0) return fail(c, std::string("socket: ") + std::strerror(errno));
    int one = 1;
    ::setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    // Closing resets: a run must not leave thousands of ports waiting (TIME_WAIT) for the next one.
    linger hard{1, 0};
    ::setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    if (receive_buffer) ::setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (where.tls) c.tls = std::make_unique<tls_end>(c.fd);
    c.out = std::move(request);
    c.at = client::stage::connecting;
    c.wants_write = true;
    int r = ::connect(c.fd, reinterpret_cast<const sockaddr*>(&where.at), sizeof where.at);
    if (r < 0 && errno != EINPROGRESS) return fail(c, std::string("connect: ") + std::strerror(errno));
    epoll_event e{EPOLLIN | EPOLLOUT, {.u32 = c.index}};
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &e) < 0) fail(c, "epoll_ctl");
  }
  void close(client& c) {
    c.tls.reset();
    if (c.fd >= 0) ::close(c.fd);
    c.fd = -1;
    c.at = client::stage::closed;
  }
  /// From now on nothing is read from it.
  void deafen(client& c) {
    c.deaf = true;
    watch(c);
  }
  /// Leaves bytes to be sent at the end of the turn.
  void send(client& c) {
    if (!std::exchange(c.dirty, true)) dirty_.push_back(c.index);
  }
  void send_frame(client& c, std::string_view payload) {
    append_frame(c.out, 1, payload);
    send(c);
  }

  /// One turn: waits up to `timeout_ms` and handles what is there.
  void turn(int timeout_ms) {
    flush();
    int n = ::epoll_wait(epoll_, happened_.data(), static_cast<int>(happened_.size()), timeout_ms);
    for (int i = 0; i < n && error.empty(); ++i) {
      client& c = clients[happened_[static_cast<std::size_t>(i)].data.u32];
      auto what = happened_[static_cast<std::size_t>(i)].events;
      if (c.fd < 0) continue;
      if (c.at == client::stage::connecting) {
        connected(c);
        continue;
      }
      if (what & (EPOLLIN | EPOLLHUP | EPOLLERR)) read(c);
      if ((what & EPOLLOUT) && c.fd >= 0) write(c);
    }
    to->turn_over();
    flush();
  }

 private:
  void watch(client& c) {
    epoll_event e{(c.deaf ? 0u : EPOLLIN) | (c.wants_write ? EPOLLOUT : 0u), {.u32 = c.index}};
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &e);
  }
  void flush() {
    for (std::size_t i = 0; i < dirty_.size(); ++i) {
      client& c = clients[dirty_[i]];
      c.dirty = false;
      if (c.fd >= 0 && !c.wants_write) write(c);
    }
    dirty_.clear();
  }
  void connected(client& c) {
    int code = 0;
    socklen_t size = sizeof code;
    ::getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &code, &size);
    if (code) return fail(c, std::string("connect: ") + std::strerror(code));
    if (c.tls && c.tls->shake() != 1) {
      if (errno != EAGAIN) return fail(c, std::string("TLS: ") + std::strerror(errno));
      c.wants_write = false;  // what it has to say has gone out; now it waits
      return watch(c);
    }
    c.at = c.how == kind::polls ? client::stage::open : client::stage::head;
    if (c.how == kind::polls) to->ready(c);
    write(c);
  }
  void write(client& c) {
    std::size_t done = 0;
    while (done < c.out.size()) {
      auto n = c.tls ? c.tls->send(c.out.data() + done, c.out.size() - done)
                     : ::send(c.fd, c.out.data() + done, c.out.size() - done, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n < 0) return fail(c, std::string("send: ") + std::strerror(errno));
      done += static_cast<std::size_t>(n);
    }
    c.out.erase(0, done);
    if (c.wants_write != !c.out.empty()) {
      c.wants_write = !c.out.empty();
      watch(c);
    }
  }
  void read(client& c) {
    if (!c.tls) return take(c, ::recv(c.fd, buffer_.data(), buffer_.size(), 0));
    // TLS may hold more than one record, of which the socket tells no more.
    for (ssize_t n = 1; n > 0 && c.tls && error.empty();) take(c, n = c.tls->recv(buffer_.data(), buffer_.size()));
  }
  void take(client& c, ssize_t n) {
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) return fail(c, std::string("recv: ") + std::strerror(errno));
    if (n == 0)
      return fail(c, c.text.empty() ? "the server closed it" : "the server closed it after: " + c.text.substr(0, 300));
    bytes_read += static_cast<std::uint64_t>(n);
    std::string_view in(buffer_.data(), static_cast<std::size_t>(n));
    while (!in.empty() && c.fd >= 0 && error.empty()) {
      switch (c.at) {
        case client::stage::open:
          if (c.how == kind::websocket) {
            frames(c, in);
          } else if (c.how == kind::events) {
            scan(c, in);
            in = {};
          } else {
            c.at = client::stage::head;
          }
          break;
        case client::stage::head:
          head(c, in);
          break;
        case client::stage::body: {
          auto part = in.substr(0, c.left);
          in.remove_prefix(part.size());
          c.left -= part.size();
          scan(c, part);
          if (c.left == 0) whole(c);
          break;
        }
        default:
          return fail(c, "bytes that nobody asked for");
      }
    }
  }

  void whole(client& c) {
    c.at = client::stage::open;
    to->answered(c);
  }
  void head(client& c, std::string_view& in) {
    std::size_t had = c.text.size();
    c.text += in;
    auto end = c.text.find("\r\n\r\n", had < 3 ? 0 : had - 3);
    if (end == c.text.npos) {
      in = {};
      if (c.text.size() > 64 * 1024) fail(c, "an answer's head without end");
      return;
    }
    in.remove_prefix(end + 4 - had);
    std::string_view lines(c.text.data(), end + 2);
    c.status = lines.size() > 12 ? std::atoi(c.text.c_str() + 9) : 0;
    std::optional<std::uint64_t> length;
    bool accepted = false, chunked = false;
    for (auto at = lines.find("\r\n"); at + 2 < lines.size();) {
      auto next = lines.find("\r\n", at + 2);
      auto line = lines.substr(at + 2, next - at - 2);
      at = next;
      auto colon = std::min(line.find(':'), line.size());
      auto name = line.substr(0, colon), value = line.substr(std::min(colon + 1, line.size()));
      while (value.starts_with(' ')) value.remove_prefix(1);
      if (is(name, "content-length")) length = std::strtoull(std::string(value).c_str(), nullptr, 10);
      if (is(name, "transfer-encoding")) chunked = true;
      if (is(name, "sec-websocket-accept")) accepted = value == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
      if (is(name, "etag")) c.etag = value;
      if (is(name, "last-modified")) c.modified = value;
    }
    auto refused = [&] { fail(c, "unexpected answer: " + c.text.substr(0, 200)); };
    switch (c.how) {
      case kind::websocket:
        if (c.status != 101 || !accepted) return refused();
        std::string().swap(c.text);
        c.at = client::stage::open;
        return to->ready(c);
      case kind::events:
        if (c.status != 200) return refused();
        std::string().swap(c.text);
        c.at = client::stage::open;
        return to->ready(c);
      case kind::polls:
        if (c.status < 200 || c.status >= 400 || chunked) return refused();
        c.left = c.status == 204 || c.status == 304 ? 0 : length.value_or(0);
        c.text.clear();
        if (c.left == 0) return whole(c);
        c.at = client::stage::body;
    }
  }
  static bool is(std::string_view name, std::string_view lower) {
    return name.size() == lower.size() && std::equal(name.begin(), name.end(), lower.begin(), [](char a, char b) {
             return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b;
           });
  }

  void frames(client& c, std::string_view& in) {
    while (!in.empty() && c.fd >= 0) {
      if (c.left) {
        auto part = in.substr(0, c.left);
        in.remove_prefix(part.size());
        c.left -= part.size();
        if (c.opcode < 8) {
          scan(c, part);
        } else {
          c.text += part;
        }
        if (c.left == 0 && c.opcode >= 8) control(c);
        continue;
      }
      c.header[c.header_have++] = static_cast<unsigned char>(in[0]);
      in.remove_prefix(1);
      if (c.header_have < 2) continue;
      unsigned short_length = c.header[1];
      if (short_length > 127) return fail(c, "a masked frame from the server");
      unsigned need = short_length < 126 ? 2 : short_length == 126 ? 4 : 10;
      if (c.header_have < need) continue;
      c.header_have = 0;
      c.opcode = c.header[0] & 15;
      if (c.header[0] & 0x70) return fail(c, "a compressed frame");
      c.left = short_length < 126 ? short_length : 0;
      for (unsigned i = 2; i < need; ++i) c.left = c.left << 8 | c.header[i];
      if (exact_frames && c.opcode < 8 && c.left != filler_.size() + smallest_payload)
        return fail(c, "a frame of " + std::to_string(c.left) + " bytes");
      if (c.left == 0 && c.opcode >= 8) control(c);
    }
  }
  void control(client& c) {
    if (c.opcode == 8) {
      return fail(c, "closed with " + (c.text.size() < 2 ? "no code"
                                                         : std::to_string(static_cast<unsigned char>(c.text[0]) << 8 |
                                                                          static_cast<unsigned char>(c.text[1])) +
                                                               ' ' + c.text.substr(2)));
    }
    if (c.opcode == 9) {
      append_frame(c.out, 10, c.text);
      send(c);
    }
    std::string().swap(c.text);
  }

  void scan(client& c, std::string_view in) {
    while (!in.empty() && error.empty()) {
      if (c.matched == 0) {
        auto at = static_cast<const char*>(std::memchr(in.data(), '#', in.size()));
        if (!at) return;
        in.remove_prefix(static_cast<std::size_t>(at - in.data()) + 1);
        c.matched = 1;
        c.sequence = 0;
      } else if (c.matched < 9) {
        char d = in[0];
        in.remove_prefix(1);
        unsigned v = d >= '0' && d <= '9'   ? static_cast<unsigned>(d - '0')
                     : d >= 'a' && d <= 'f' ? static_cast<unsigned>(d - 'a' + 10)
                                            : 16;
        if (v == 16) return fail(c, "a marker with a wrong digit");
        c.sequence = c.sequence << 4 | v;
        if (++c.matched < 9) continue;
        c.filler = static_cast<std::uint32_t>(filler_.size());
        if (c.filler == 0) c.matched = 0, to->marked(c, c.sequence);
      } else {
        std::size_t n = std::min<std::size_t>(in.size(), c.filler);
        if (std::memcmp(in.data(), filler_.data(), n) != 0) return fail(c, "a payload that is not what was sent");
        in.remove_prefix(n);
        c.filler -= static_cast<std::uint32_t>(n);
        if (c.filler == 0) c.matched = 0, to->marked(c, c.sequence);
      }
    }
  }

  int epoll_ = -1;
  const std::string filler_;
  std::vector<char> buffer_;
  std::vector<std::uint32_t> dirty_;
  std::array<epoll_event, 1024> happened_{};
};

}  // namespace load
