// SPDX-License-Identifier: BSL-1.0
// A TLS server for suites that test TLS, ours and public ones (tlsfuzzer, BoGo with a shim):
//
//     tls_server --port N --cert F --key F [--records own|openssl]
//
// `--port 0` takes any. It answers GET on every path with as much text as fits one record with its head, and sends
// WebSocket messages back.
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

#include "hailwire/server.hpp"
#include "hailwire/tls.hpp"
#include "hailwire/transport/websocket.hpp"

namespace {

int fail(const std::string& why) {
  std::fprintf(stderr, "tls_server: %s\nusage: tls_server --port N --cert F --key F [--records own|openssl]\n",
               why.c_str());
  return 2;
}

// With the head, less than the 16 KiB of one record (RFC 8446, section 5.1).
constexpr std::size_t page_size = 16'000;

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string_view, std::string> given{{"--port", ""}, {"--cert", ""}, {"--key", ""}, {"--records", "own"}};
  for (int i = 1; i < argc; i += 2) {
    auto option = given.find(argv[i]);
    if (option == given.end() || i + 1 == argc) return fail("what is " + std::string(argv[i]) + '?');
    option->second = argv[i + 1];
  }
  auto port = hailwire::proto::parse_decimal(given["--port"], 65535);
  if (!port) return fail("a port is needed");
  if (given["--records"] != "own" && given["--records"] != "openssl") return fail("who is to keep the records?");

  asio::io_context io(1);
  hailwire::options o;
  o.path = "/-";  // nothing is live here
  hailwire::server<hailwire::websocket> server(io, o);
  server.on_log([](const hailwire::log_record& r) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(r.text.size()), r.text.data());
  });
  hailwire::frame_handlers echo;
  echo.on_message = [](hailwire::frame_socket& s, std::string_view message, bool binary) {
    if (binary)
      s.send_binary(message);
    else
      s.send_text(message);
  };
  server.on_websocket("*", std::move(echo));
  const std::string page(page_size, 'x');
  server.on_http([&page](const hailwire::request&) { return hailwire::response{.body = page}; });

  std::uint16_t bound = 0;
  try {
    hailwire::tls_options tls;
    tls.certificates = {hailwire::tls_certificate::from_files(given["--cert"], given["--key"])};
    tls.records = given["--records"] == "own" ? hailwire::tls_records::own : hailwire::tls_records::openssl;
    bound = hailwire::listen_tls(server, hailwire::tls_context(tls), "127.0.0.1", static_cast<std::uint16_t>(*port));
  } catch (const std::system_error& e) {
    return fail(e.what());
  }

  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { io.stop(); });
  std::printf("listening on https://127.0.0.1:%u/\n", static_cast<unsigned>(bound));
  std::fflush(stdout);
  io.run();
}
