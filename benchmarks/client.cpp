// SPDX-License-Identifier: BSL-1.0
// Clients beside Boost.Beast's: messages of 128 bytes received, and echoed, for each CPU-second of the client; and what
// an idle client of channels costs.
//
//     client receive|echo [ROUNDS]   in turn with Beast's, the median of the rounds
//     client idle URL N              N clients of channels at a server, say the chat
//
// The server is a process of its own that is no part of the measurement.
#include <malloc.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <asio/io_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <string>
#include <vector>

#include "hailwire/client.hpp"
#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/websocket_client.hpp"

namespace {

namespace beast = boost::beast;
using beast_tcp = boost::asio::ip::tcp;
constexpr std::size_t size = 128, received = 2'000'000, echoed = 100'000;

double cpu() {
  rusage r{};
  ::getrusage(RUSAGE_SELF, &r);
  auto s = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return s(r.ru_utime) + s(r.ru_stime);
}

void send_all(int d, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = ::send(d, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) _exit(0);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

/// Serves one connection after the other: pushes messages, or sends back what comes.
[[noreturn]] void serve(int listening, bool echo) {
  using namespace hailwire::proto;
  const std::string message(size, 'x');
  std::string many;
  for (int i = 0; i < 500; ++i) append_text(many, message);
  for (;;) {
    const int d = ::accept(listening, nullptr, nullptr);
    if (d < 0) _exit(0);
    std::string asked;
    char piece[65536];
    while (asked.find("\r\n\r\n") == asked.npos) {
      const auto n = ::recv(d, piece, sizeof piece, 0);
      if (n <= 0) break;
      asked.append(piece, static_cast<std::size_t>(n));
    }
    const auto at = asked.find("Sec-WebSocket-Key: ");
    if (at == asked.npos) continue;
    std::string answer;
    append_switching_protocols(answer, std::string_view(asked).substr(at + 19, 24));
    send_all(d, answer);
    if (!echo) {
      for (std::size_t sent = 0; sent < received; sent += 500) send_all(d, many);
    } else {
      ws_connection machine(ws_role::server, {});
      for (bool over = false; !over;) {
        const auto n = ::recv(d, piece, sizeof piece, 0);
        if (n <= 0) break;
        std::span<char> in(piece, static_cast<std::size_t>(n));
        std::string out;
        for (auto e = machine.next(in); e.what != ws_event::type::none; e = machine.next(in)) {
          if (e.what == ws_event::type::text) append_text(out, e.data);
          over = over || machine.ended();
        }
        send_all(d, out);
      }
    }
    ::close(d);
  }
}

/// Messages per CPU-second.
double hailwire_client(std::uint16_t port, bool echo) {
  asio::io_context io(1);
  std::size_t heard = 0;
  const std::size_t wanted = echo ? echoed : received;
  hailwire::websocket_client c(io, "ws://127.0.0.1:" + std::to_string(port) + "/");
  const std::string message(size, 'x');
  c.on_open([&](std::string_view) {
    if (echo) c.send_text(message);
  });
  c.on_message([&](std::string_view m, bool) {
    if (++heard == wanted) return c.close();
    if (echo) c.send_text(m);
  });
  const double before = cpu();
  while (heard < wanted && io.run_one()) {
  }
  return static_cast<double>(heard) / (cpu() - before);
}

double beast_client(std::uint16_t port, bool echo) {
  boost::asio::io_context io(1);
  beast::websocket::stream<beast_tcp::socket> ws(io);
  ws.next_layer().connect({boost::asio::ip::address_v4::loopback(), port});
  ws.next_layer().set_option(beast_tcp::no_delay(true));
  ws.handshake("127.0.0.1", "/");
  std::size_t heard = 0;
  const std::size_t wanted = echo ? echoed : received;
  const std::string message(size, 'x');
  beast::flat_buffer buffer;
  std::function<void()> read, write;
  read = [&] {
    ws.async_read(buffer, [&](beast::error_code ec, std::size_t) {
      if (ec || ++heard == wanted) return;
      if (echo) return write();
      buffer.consume(buffer.size());
      read();
    });
  };
  write = [&] {
    ws.async_write(buffer.data(), [&](beast::error_code ec, std::size_t) {
      if (ec) return;
      buffer.consume(buffer.size());
      read();
    });
  };
  ws.text(true);
  const double before = cpu();
  if (echo) ws.write(boost::asio::buffer(message));
  read();
  io.run();
  return static_cast<double>(heard) / (cpu() - before);
}

int compare(bool echo, int rounds) {
  const int listening = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  if (::bind(listening, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 || ::listen(listening, 8) != 0 ||
      ::getsockname(listening, reinterpret_cast<sockaddr*>(&at), &length) != 0)
    return std::perror("listen"), 1;
  const pid_t child = ::fork();
  if (child == 0) serve(listening, echo);
  std::vector<double> ours, theirs, ratios;
  for (int i = 0; i < rounds; ++i) {
    ours.push_back(hailwire_client(ntohs(at.sin_port), echo));
    theirs.push_back(beast_client(ntohs(at.sin_port), echo));
    ratios.push_back(ours.back() / theirs.back());
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  auto median = [](std::vector<double> v) { return std::sort(v.begin(), v.end()), v[v.size() / 2]; };
  std::printf("%s, %zu B: %.0f thousand a CPU-second, Beast %.0f, ratio %.2f [%.2f–%.2f] of %d rounds\n",
              echo ? "echo" : "receive", size, median(ours) / 1000, median(theirs) / 1000, median(ratios),
              *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()), rounds);
  return 0;
}

int idle(const std::string& url, std::size_t n) {
  asio::io_context io(1);
  std::size_t open = 0;
  auto resident = [] {
    long all = 0, pages = 0;
    std::ifstream f("/proc/self/statm");
    f >> all >> pages;
    return pages * 4096;
  };
  std::deque<hailwire::client<hailwire::websocket>> clients;
  const auto heap_before = ::mallinfo2().uordblks;
  const auto resident_before = resident();
  for (std::size_t i = 0; i < n; ++i) {
    clients.emplace_back(io, url);
    clients.back().on_message([](const hailwire::client_message&) {});
    clients.back().on_status(
        [&](const hailwire::client_status& s) { open += s.now == hailwire::client_status::state::following; });
    clients.back().follow("lobby");
    while (open + 50 < clients.size()) io.run_one();
  }
  while (open < n) io.run_one();
  for (int i = 0; i < 1000; ++i) io.poll_one();
  ::malloc_trim(0);
  std::printf("%zu idle clients: %.0f bytes each of the heap, %.0f resident\n", n,
              static_cast<double>(::mallinfo2().uordblks - heap_before) / static_cast<double>(n),
              static_cast<double>(resident() - resident_before) / static_cast<double>(n));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "receive" || what == "echo") return compare(what == "echo", argc > 2 ? std::stoi(argv[2]) : 7);
  if (what == "idle" && argc == 4) return idle(argv[2], std::stoul(argv[3]));
  std::fprintf(stderr, "usage: client receive|echo [ROUNDS] | idle URL N\n");
  return 2;
}
