// SPDX-License-Identifier: BSL-1.0
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <hailwire/hailwire.hpp>
#include <iostream>

int main(int count, char** words) {
  asio::io_context io;
  hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll> live(io);
  live.authorize([](const hailwire::request& r) -> hailwire::decision {
    std::string user(r.param("user"));  // a real host checks a cookie or a token here
    if (!hailwire::valid_user(user)) return hailwire::errc::unauthenticated;
    return hailwire::grant{.user = user, .follow = {"news", "chat-*"}, .publish = {"chat-*"}};
  });
  auto port = live.listen("127.0.0.1", count > 1 ? std::uint16_t(std::stoi(words[1])) : 8080);
  if (live.publish("news", hailwire::payload::json(R"({"text":"the server is up"})"))) return 1;  // never, so early
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { live.stop(); });  // says goodbye; then the context runs out of work
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  io.run();
}
