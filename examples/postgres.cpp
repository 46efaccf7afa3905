// SPDX-License-Identifier: BSL-1.0
//
// A server with its history in PostgreSQL. Start as many as you like on one database: who publishes to one of them is
// heard by the followers of all. postgres PORT [CONNECTION], the latter in libpq's words.

#include <hailwire/hailwire.hpp>
#include <hailwire/storage/blocking.hpp>

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <iostream>

#include "postgres_storage.hpp"

int main(int count, char** words) try {
  postgres_storage storage({.connection = count > 2 ? words[2] : ""});
  postgres_broker broker(storage);
  hailwire::blocking_storage off_loop({}, storage);
  asio::io_context io;
  hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll> live(io, off_loop);
  live.join(broker);
  live.authorize([](const hailwire::request& r) -> hailwire::decision {
    std::string user(r.param("user"));
    if (!user.empty() && !hailwire::valid_user(user)) return hailwire::errc::bad_request;
    return hailwire::grant{
        .user = user, .follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
  });
  auto port = live.listen("127.0.0.1", count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : 8080);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { live.stop(); });
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  io.run();
} catch (const std::exception& e) {
  std::cerr << "postgres: " << e.what() << '\n';
  return 1;
}
