// SPDX-License-Identifier: BSL-1.0
// A client for conformance suites in the server's role, such as Autobahn's `fuzzingserver`: `conformance_client URL`
// asks URL/getCaseCount how many cases there are, runs each (URL/runCase?case=N&agent=hailwire) by sending back what it
// is sent, and has the reports written (URL/updateReports?agent=hailwire).
#include <asio/io_context.hpp>

#include <cstdio>
#include <string>
#include <string_view>

#include "hailwire/client_deflate.hpp"
#include "hailwire/websocket_client.hpp"

namespace {

// Everything that a suite may ask of compression: contexts kept both ways, no message too small for it.
constexpr hailwire::deflate_options thorough{.client_no_context_takeover = false, .threshold = 0};

/// Runs one connection to its end. False when it never opened.
template <class F>
bool run(const std::string& url, F on_message) {
  asio::io_context io(1);
  hailwire::websocket_client c(io, url,
                               {.max_message = std::size_t{64} << 20,
                                .max_unsent = std::size_t{128} << 20,
                                .heartbeat = std::chrono::milliseconds(0),
                                .compression = &hailwire::client_compression<thorough>});
  bool opened = false;
  c.on_open([&](std::string_view) { opened = true; });
  c.on_message([&](std::string_view m, bool binary) { on_message(c, m, binary); });
  c.on_close([&](const hailwire::websocket_end& e) {
    if (!opened)
      std::fprintf(stderr, "conformance_client: %s: %.*s\n", url.c_str(), static_cast<int>(e.text.size()),
                   e.text.data());
  });
  io.run();
  return opened;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: conformance_client ws://HOST:PORT\n");
    return 2;
  }
  std::string url = argv[1];
  while (url.ends_with('/')) url.pop_back();
  std::uint64_t cases = 0;
  if (!run(url + "/getCaseCount", [&](auto&, std::string_view m, bool) {
        cases = hailwire::proto::parse_decimal(hailwire::proto::trim(m), 100'000).value_or(0);
      }))
    return 1;
  for (std::uint64_t i = 1; i <= cases; ++i) {
    run(url + "/runCase?case=" + std::to_string(i) + "&agent=hailwire",
        [](auto& c, std::string_view m, bool binary) { binary ? c.send_binary(m) : c.send_text(m); });
  }
  run(url + "/updateReports?agent=hailwire", [](auto&, std::string_view, bool) {});
  std::printf("%llu cases\n", static_cast<unsigned long long>(cases));
  return cases ? 0 : 1;
}
