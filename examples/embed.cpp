// SPDX-License-Identifier: BSL-1.0
//
// hailwire inside a host's own HTTP server. The host accepts and reads the request head; what hailwire claims it hands
// over, socket and bytes; the rest it answers itself. Ring the bell at /ring and whoever follows `bell` hears it.

#include <hailwire/hailwire.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <iostream>
#include <sstream>
#include <string>

using asio::ip::tcp;
using live_server = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;

// What the host itself has to say: on connections of its own, and on those that it has handed over.
hailwire::response answer(std::string_view method, std::string_view path, live_server& live) {
  if (method == "GET" && path == "/") return {.body = std::to_string(live.sessions().size()) + " are following\n"};
  if (method != "POST" || path != "/ring") return {.status = 404, .body = "no such page\n"};
  bool taken = !live.publish("bell", hailwire::payload::text("ding"));
  if (!taken) return {.status = 503, .body = "too much at once\n"};
  return {.status = 202, .body = "ding\n"};
}

std::string written(const hailwire::response& r) {
  return "HTTP/1.1 " + std::to_string(r.status) + " \r\nContent-Type: " + r.content_type +
         "\r\nContent-Length: " + std::to_string(r.body.size()) + "\r\nConnection: close\r\n\r\n" + r.body;
}

asio::awaitable<void> serve(tcp::socket accepted, live_server& live) {
  auto socket = std::make_shared<tcp::socket>(std::move(accepted));
  asio::steady_timer limit(socket->get_executor(), std::chrono::seconds(10));
  limit.async_wait([socket](std::error_code ec) {
    if (!ec) socket->close(ec);  // a client that dawdles is let go
  });
  std::string bytes;
  auto whose = live.claims(bytes);
  while (whose == hailwire::claim::need_more) {
    std::array<char, 4096> more;
    bytes.append(more.data(), co_await socket->async_read_some(asio::buffer(more), asio::use_awaitable));
    whose = live.claims(bytes);
  }
  if (whose == hailwire::claim::yes) co_return live.adopt(std::move(*socket), bytes);
  std::istringstream line(bytes);
  std::string method, path;
  line >> method >> path;
  co_await asio::async_write(*socket, asio::buffer(written(answer(method, path, live))), asio::use_awaitable);
}

asio::awaitable<void> accept(tcp::acceptor& acceptor, live_server& live) {
  asio::steady_timer pause(acceptor.get_executor());
  while (acceptor.is_open()) {
    std::error_code ec;
    tcp::socket socket = co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (!ec) {
      asio::co_spawn(acceptor.get_executor(), serve(std::move(socket), live), asio::detached);
      continue;
    }
    pause.expires_after(
        std::chrono::milliseconds(200));  // too many open files, perhaps: that does not pass by asking again
    co_await pause.async_wait(asio::use_awaitable);
  }
}

int main(int count, char** words) {
  asio::io_context io;
  live_server live(io);
  live.authorize([](const hailwire::request&) { return hailwire::grant{.follow = {"bell"}}; });
  // A client that keeps its connection, such as a browser behind a poll, may ask the host something on it next.
  live.on_http([&](const hailwire::request& r) { return answer(r.method(), r.path(), live); });

  auto port = count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : std::uint16_t{8080};
  tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), port});
  asio::co_spawn(io, accept(acceptor, live), asio::detached);

  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) {
    acceptor.close();
    live.stop();
  });
  std::cout << "listening on http://127.0.0.1:" << acceptor.local_endpoint().port() << "/" << std::endl;
  io.run();
}
