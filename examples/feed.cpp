// SPDX-License-Identifier: BSL-1.0
//
// Prices, four times a second, to everybody who asks: curl -NH 'Accept: text/event-stream'
// '127.0.0.1:8080/live?channel=prices'

#include <hailwire/server.hpp>
#include <hailwire/transport/sse.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <cstdlib>
#include <iostream>

asio::awaitable<void> tick(hailwire::server<hailwire::sse>& live) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (int cents = 10'000;; cents += std::rand() % 21 - 10) {
    auto price = hailwire::payload::json("{\"symbol\":\"ACME\",\"cents\":" + std::to_string(cents) + "}");
    if (live.publish("prices", price) == hailwire::operation_aborted()) co_return;  // the server has stopped
    timer.expires_after(std::chrono::milliseconds(250));
    co_await timer.async_wait(asio::use_awaitable);
  }
}

int main(int count, char** words) {
  asio::io_context io;
  hailwire::server<hailwire::sse> live(io);
  live.authorize([](const hailwire::request&) { return hailwire::grant{.follow = {"prices"}}; });
  auto port = live.listen("127.0.0.1", count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : 8080);
  asio::co_spawn(io, tick(live), asio::detached);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { live.stop(); });
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  io.run();
}
