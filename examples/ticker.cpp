// SPDX-License-Identifier: BSL-1.0
//
// A thousand symbols, 20,000 prices a second, over one WebSocket each: of a symbol only the newest price matters, and
// four a second are enough for anybody. Who reads slowly gets fewer of them, and always the newest.

#include <hailwire/server.hpp>
#include <hailwire/transport/websocket.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <cstdlib>
#include <iostream>

using namespace std::chrono_literals;

asio::awaitable<void> tick(hailwire::server<hailwire::websocket>& live) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (unsigned n = 0;;) {
    for (int i = 0; i < 200; ++i, ++n) {
      auto price = hailwire::payload::json("{\"cents\":" + std::to_string(10'000 + std::rand() % 1000) + "}");
      if (live.publish("symbol-" + std::to_string(n % 1000), price) == hailwire::operation_aborted()) co_return;
    }
    timer.expires_at(timer.expiry() < asio::steady_timer::clock_type::now() - 1s ? asio::steady_timer::clock_type::now()
                                                                                 : timer.expiry() + 10ms);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

int main(int count, char** words) {
  hailwire::options o;
  o.channels = {{.pattern = "symbol-*", .keep = {.messages = 10}, .last_value = true, .at_most_every = 250ms}};
  o.max_channels = 1000;
  o.commands_per_second = 10'000;  // a client subscribes to all of them at once
  asio::io_context io;
  hailwire::server<hailwire::websocket> live(io, o);
  live.authorize([](const hailwire::request&) { return hailwire::grant{.follow = {"symbol-*"}}; });
  auto port = live.listen("127.0.0.1", count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : 8080);
  asio::co_spawn(io, tick(live), asio::detached);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { live.stop(); });
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  io.run();
}
