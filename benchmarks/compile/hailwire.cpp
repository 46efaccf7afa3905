// SPDX-License-Identifier: BSL-1.0

// The smallest WebSocket server: what it costs to compile is one of the figures.

#include <asio/io_context.hpp>

#include "hailwire/server.hpp"
#include "hailwire/transport/websocket.hpp"

int main() {
  asio::io_context io;
  hailwire::server<hailwire::websocket> live(io);
  live.authorize([](const hailwire::request&) -> hailwire::decision {
    return hailwire::grant{.follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
  });
  live.listen("127.0.0.1", 8080);
  io.run();
}
