// SPDX-License-Identifier: BSL-1.0

// The floor: what is left when a server does nothing but epoll, recv and send. It speaks just enough WebSocket and HTTP
// for the load generator, trusts everything, keeps nothing, and prepares its bytes once: no library can do the same
// work for less, so the distance to it is the price of everything that a library adds.
//
//   /echo                   WebSocket: what comes in goes out
//   /live                   WebSocket: what comes in goes to everybody on /live. With `Accept: text/event-stream`: an
//   event
//                           stream of it. POST: publishes. Any other GET: a ready-made 304
//   /direct?id=N            WebSocket: `M payload` goes to the connection that has the number M
//
// `--batch` gathers what one loop turn has to say to a connection into one send; without it each message is sent by
// itself.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/proto/ws_handshake.hpp"

namespace {

struct peer {
  enum class mode : std::uint8_t { http, echo, live, direct, events };
  explicit peer(int descriptor) : fd(descriptor) {}
  int fd;
  mode is = mode::http;
  bool waits = false, listed = false;
  std::size_t place = 0;
  std::string in, out;  // what is not whole yet, what did not fit or waits for the end of the turn
};

void frame(std::string& out, unsigned opcode, std::string_view payload) {
  out += static_cast<char>(0x80 | opcode);
  auto n = payload.size();
  if (n < 126) {
    out += static_cast<char>(n);
  } else if (n < 65536) {
    out += '\x7e', out += static_cast<char>(n >> 8), out += static_cast<char>(n);
  } else {
    out += '\x7f';
    for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(n >> shift);
  }
  out += payload;
}

class floor_server {
 public:
  floor_server(int listener, bool batch)
      : listener_(listener), batch_(batch), epoll_(epoll_create1(0)), buffer_(64 * 1024) {
    epoll_event e{EPOLLIN, {.ptr = nullptr}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &e);
  }

  void run() {
    std::array<epoll_event, 1024> happened;
    for (;;) {
      int n = epoll_wait(epoll_, happened.data(), static_cast<int>(happened.size()), -1);
      for (int i = 0; i < n; ++i) {
        auto* p = static_cast<peer*>(happened[static_cast<std::size_t>(i)].data.ptr);
        if (!p) {
          accept();
          continue;
        }
        if (happened[static_cast<std::size_t>(i)].events & EPOLLOUT) flush(*p);
        if (happened[static_cast<std::size_t>(i)].events & ~static_cast<std::uint32_t>(EPOLLOUT)) read(*p);
      }
      end_turn();
    }
  }

 private:
  void accept() {
    for (int k = 0; k < 64; ++k) {
      int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd < 0) return;
      int one = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      epoll_event e{EPOLLIN, {.ptr = new peer(fd)}};
      epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e);
    }
  }
  void gone(peer& p) {
    if (p.is == peer::mode::live || p.is == peer::mode::events) {
      auto& list = p.is == peer::mode::live ? live_ : streams_;
      list[p.place] = list.back();
      list[p.place]->place = p.place;
      list.pop_back();
    }
    if (p.is == peer::mode::direct) numbered_[p.place] = nullptr;
    if (p.listed) std::erase(dirty_, &p);
    close(p.fd);
    delete &p;
  }
  void watch(peer& p, bool writable) {
    if (p.waits == writable) return;
    p.waits = writable;
    epoll_event e{EPOLLIN | (writable ? EPOLLOUT : 0u), {.ptr = &p}};
    epoll_ctl(epoll_, EPOLL_CTL_MOD, p.fd, &e);
  }
  void send(peer& p, std::string_view bytes) {
    if (p.out.empty()) {
      auto n = ::send(p.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
      if (bytes.empty()) return;
    }
    p.out += bytes;
    watch(p, true);
  }
  void later(peer& p) {
    if (!std::exchange(p.listed, true)) dirty_.push_back(&p);
  }
  void flush(peer& p) {
    if (p.out.empty()) return watch(p, false);
    auto n = ::send(p.fd, p.out.data(), p.out.size(), MSG_NOSIGNAL);
    if (n > 0) p.out.erase(0, static_cast<std::size_t>(n));
    watch(p, !p.out.empty());
  }
  void end_turn() {
    if (!gathered_.empty()) {
      for (auto* p : live_) send(*p, gathered_);
      for (auto* p : streams_) send(*p, gathered_events_);
      gathered_.clear();
      gathered_events_.clear();
    }
    for (auto* p : dirty_) {
      p->listed = false;
      if (!p->waits) flush(*p);
    }
    dirty_.clear();
  }

  void read(peer& p) {
    auto n = recv(p.fd, buffer_.data(), buffer_.size(), 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return gone(p);
    std::span<char> in(buffer_.data(), static_cast<std::size_t>(n));
    std::string whole;
    if (!p.in.empty()) {
      p.in.append(in.data(), in.size());
      whole = std::exchange(p.in, {});
      in = whole;
    }
    while (!in.empty()) {
      std::size_t taken = p.is == peer::mode::http ? request(p, {in.data(), in.size()}) : message(p, in);
      if (taken == 0) {
        p.in.assign(in.data(), in.size());
        return;
      }
      in = in.subspan(taken);
    }
  }

  // The number of bytes of one request, 0 when it is not whole.
  std::size_t request(peer& p, std::string_view in) {
    auto end = in.find("\r\n\r\n");
    if (end == in.npos) return 0;
    auto head = in.substr(0, end + 2);
    auto field = [&](std::string_view name) {
      auto at = head.find(name);
      return at == head.npos ? std::string_view()
                             : head.substr(at + name.size(), head.find('\r', at) - at - name.size());
    };
    if (in.starts_with("POST ")) {
      auto size = static_cast<std::size_t>(std::atoi(std::string(field("Content-Length: ")).c_str()));
      if (in.size() < end + 4 + size) return 0;
      publish(in.substr(end + 4, size));
      send(p, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
      return end + 4 + size;
    }
    if (auto key = field("Sec-WebSocket-Key: "); !key.empty()) {
      std::string answer;
      hailwire::proto::append_switching_protocols(answer, key, field("Sec-WebSocket-Protocol: "), {}, {});
      send(p, answer);
      if (in.starts_with("GET /echo")) {
        p.is = peer::mode::echo;
      } else if (in.starts_with("GET /direct?id=")) {
        p.is = peer::mode::direct;
        p.place = static_cast<std::size_t>(std::atoi(in.data() + 15));
        if (numbered_.size() <= p.place) numbered_.resize(p.place + 1);
        numbered_[p.place] = &p;
      } else {
        p.is = peer::mode::live;
        p.place = live_.size();
        live_.push_back(&p);
      }
    } else if (field("Accept: ") == "text/event-stream") {
      send(p, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n");
      p.is = peer::mode::events;
      p.place = streams_.size();
      streams_.push_back(&p);
    } else {
      send(p, "HTTP/1.1 304 Not Modified\r\nCache-Control: no-store\r\nETag: \"0123456789ab.1\"\r\n\r\n");
    }
    return end + 4;
  }

  // The number of bytes of one frame, 0 when it is not whole.
  std::size_t message(peer& p, std::span<char> in) {
    if (in.size() < 6) return 0;
    auto at = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(in[i])); };
    std::size_t size = at(1) & 127, head = 6;
    if (size == 126) {
      if (in.size() < 8) return 0;
      size = at(2) << 8 | at(3), head = 8;
    } else if (size == 127) {
      if (in.size() < 14) return 0;
      size = 0, head = 14;
      for (std::size_t i = 2; i < 10; ++i) size = size << 8 | at(i);
    }
    if (in.size() < head + size) return 0;
    char* payload = in.data() + head;
    std::uint32_t key;
    std::memcpy(&key, payload - 4, 4);
    std::uint64_t wide = std::uint64_t{key} << 32 | key;
    std::size_t i = 0;
    for (; i + 8 <= size; i += 8) {
      std::uint64_t word;
      std::memcpy(&word, payload + i, 8);
      word ^= wide;
      std::memcpy(payload + i, &word, 8);
    }
    for (; i < size; ++i) payload[i] = static_cast<char>(payload[i] ^ in[head - 4 + i % 4]);
    if ((at(0) & 15) < 8) handle(p, {payload, size});
    return head + size;
  }
  void handle(peer& p, std::string_view payload) {
    if (p.is == peer::mode::live) return publish(payload);
    peer* to = &p;
    if (p.is == peer::mode::direct) {
      auto number = static_cast<std::size_t>(std::atoi(payload.data()));
      to = number < numbered_.size() ? numbered_[number] : nullptr;
      payload.remove_prefix(std::min(payload.find(' ') + 1, payload.size()));
      if (!to) return;
    }
    if (batch_) {
      frame(to->out, 1, payload);
      later(*to);
    } else {
      ready_.clear();
      frame(ready_, 1, payload);
      send(*to, ready_);
    }
  }
  void publish(std::string_view payload) {
    frame(gathered_, 1, payload);
    gathered_events_ += "data: ";
    gathered_events_ += payload;
    gathered_events_ += "\n\n";
    if (!batch_) end_turn();
  }

  int listener_;
  bool batch_;
  int epoll_;
  std::vector<char> buffer_;
  std::string ready_, gathered_, gathered_events_;
  std::vector<peer*> live_, streams_, numbered_, dirty_;
};

}  // namespace

int main(int argc, char** argv) {
  int port = -1;
  bool batch = false;
  for (int i = 1; i < argc; ++i) {
    std::string_view name = argv[i];
    if (name == "--batch") batch = true;
    if (name == "--port" && i + 1 < argc) port = std::atoi(argv[++i]);
  }
  if (port < 0 || port > 65535) return std::fputs("usage: floor --port N [--batch]\n", stderr), 2;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<std::uint16_t>(port));
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  if (bind(listener, reinterpret_cast<sockaddr*>(&at), size) < 0 || listen(listener, 4096) < 0)
    return std::perror("floor"), 1;
  getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
  std::printf("listening on http://127.0.0.1:%u/\n", static_cast<unsigned>(ntohs(at.sin_port)));
  std::fflush(stdout);
  floor_server(listener, batch).run();
}
