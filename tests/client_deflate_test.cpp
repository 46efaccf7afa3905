// SPDX-License-Identifier: BSL-1.0
#include "hailwire/client_deflate.hpp"

#include <asio/io_context.hpp>
#include <chrono>
#include <string>

#include "catch.hpp"
#include "hailwire/deflate.hpp"
#include "hailwire/server.hpp"
#include "hailwire/transport/websocket.hpp"
#include "hailwire/websocket_client.hpp"
#include "run_until.hpp"

using namespace hailwire;

namespace {

constexpr deflate_options contexts{.per_connection = true, .client_no_context_takeover = false, .threshold = 0};
constexpr deflate_options small_window{.client_max_window_bits = 9, .threshold = 0};

}  // namespace

TEST_CASE("a client of channels and its server agree on compression, or do without") {
  auto talk = [](auto* server_kind, auto* client_kind) {
    asio::io_context io;
    std::remove_pointer_t<decltype(server_kind)> live(io);
    live.authorize([](const request&) -> decision {
      return grant{.user = "ada", .follow = channel_set::all(), .publish = channel_set::all()};
    });
    const auto port = live.listen("127.0.0.1", 0);
    std::remove_pointer_t<decltype(client_kind)> c(io, "http://127.0.0.1:" + std::to_string(port) + "/live");
    const std::string large = '"' + std::string(100'000, 'x') + '"';
    std::size_t heard = 0;
    c.on_message([&](const client_message& m) { heard += m.data == large; });
    c.follow("lobby");
    c.on_status([&](const client_status& s) {
      if (s.now == client_status::state::following)
        for (int i = 0; i < 3; ++i) c.publish("lobby", payload::json(large));
    });
    CHECK(run_until(io, [&] { return heard == 3; }));
  };
  using plain = server<websocket>;
  using deflated = server<websocket_deflate>;
  talk((deflated*)nullptr, (client<websocket_deflate>*)nullptr);
  talk((deflated*)nullptr, (client<websocket_deflate_with<small_window>>*)nullptr);
  talk((plain*)nullptr, (client<websocket_deflate>*)nullptr);
  talk((deflated*)nullptr, (client<websocket>*)nullptr);
}

TEST_CASE("a WebSocket to somebody else's server is compressed as it was agreed") {
  asio::io_context io;
  server<websocket_deflate> live(io);
  frame_handlers echo;
  echo.on_message = [](frame_socket& s, std::string_view bytes, bool binary) {
    binary ? s.send_binary(bytes) : s.send_text(bytes);
  };
  live.on_websocket<websocket_deflate_with<contexts>>("/echo", std::move(echo));
  const auto port = live.listen("127.0.0.1", 0);
  for (auto* compression : {&client_compression<>, &client_compression<contexts>, &client_compression<small_window>}) {
    websocket_client c(io, "ws://127.0.0.1:" + std::to_string(port) + "/echo", {.compression = compression});
    std::string sent, heard;
    for (int i = 0; i < 5000; ++i) sent += "the same again " + std::to_string(i);
    int left = 3;
    c.on_open([&](std::string_view) { c.send_text(sent); });
    c.on_message([&](std::string_view m, bool) {
      CHECK(m == sent);
      if (--left) c.send_text(sent);
    });
    CHECK(run_until(io, [&] { return left == 0; }));
    CHECK(c.compressed());
  }
}
