// SPDX-License-Identifier: BSL-1.0
// An echo server for conformance suites: `conformance_server --port N` (0: any). On every path it sends WebSocket
// messages back as they came, with permessage-deflate as the client asks for it, and answers every HTTP request with
// its own body.
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <cstdio>
#include <cstring>
#include <string>

#include "hailwire/deflate.hpp"
#include "hailwire/server.hpp"

namespace {

constexpr std::size_t largest = 32 << 20;

// Everything that a suite may ask of compression: contexts kept both ways, every window, no message too small for it.
constexpr hailwire::deflate_options thorough{
    .per_connection = true, .client_no_context_takeover = false, .threshold = 0};

int fail(const std::string& why) {
  std::fprintf(stderr, "conformance_server: %s\nusage: conformance_server --port N\n", why.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || std::strcmp(argv[1], "--port") != 0) return fail("one port is needed");
  auto port = hailwire::proto::parse_decimal(argv[2], 65535);
  if (!port) return fail("not a port: " + std::string(argv[2]));

  asio::io_context io(1);
  hailwire::options o;
  o.path = "/-";  // nothing is live here: every other path is the echo's
  o.max_payload = largest;
  hailwire::server<hailwire::websocket_deflate> server(io, o);

  hailwire::frame_handlers echo;
  echo.max_message = largest;
  echo.on_message = [](hailwire::frame_socket& s, std::string_view message, bool binary) {
    if (binary)
      s.send_binary(message);
    else
      s.send_text(message);
  };
  server.on_websocket<hailwire::websocket_deflate_with<thorough>>("*", std::move(echo));
  server.on_http([](const hailwire::request& r) {
    return hailwire::response{.content_type = "application/octet-stream", .body = std::string(r.body())};
  });

  std::error_code ec;
  auto bound = server.listen("127.0.0.1", static_cast<std::uint16_t>(*port), ec);
  if (ec) return fail("port " + std::string(argv[2]) + ": " + ec.message());

  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { io.stop(); });
  std::printf("listening on http://127.0.0.1:%u/\n", static_cast<unsigned>(bound));
  std::fflush(stdout);
  io.run();
}
