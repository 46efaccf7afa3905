// SPDX-License-Identifier: BSL-1.0
#include <asio/io_context.hpp>
#include <hailwire/client.hpp>
#include <iostream>

int main(int, char** words) {
  asio::io_context io;
  hailwire::client<hailwire::websocket, hailwire::sse, hailwire::long_poll> live(io, words[1]);
  live.on_message([](const hailwire::client_message& m) { std::cout << m.from << ": " << m.data << std::endl; });
  live.follow("lobby", hailwire::start::earliest());
  io.run();
}
