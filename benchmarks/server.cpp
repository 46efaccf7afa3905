// SPDX-License-Identifier: BSL-1.0

// hailwire as it is measured: WebSocket echo on /echo, all four transports on /live, everybody anonymous and allowed
// everything, history in memory, no compression. `?user=NAME` on /live gives a client a grant of its own, for the
// memory that a distinct user takes.

#ifdef HAILWIRE_USE_BOOST_ASIO
#include <boost/asio/io_context.hpp>
namespace asio = boost::asio;
#else
#include <asio/io_context.hpp>
#endif
#ifdef HAILWIRE_SERVER_UV
#include <uv.h>
#endif

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "hailwire/hailwire.hpp"
#include "hailwire/threads.hpp"
#ifdef HAILWIRE_SERVER_TLS
#include "hailwire/tls.hpp"
#endif

namespace {

using live_server = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;
using threaded_server =
    hailwire::threaded_server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;

#ifdef HAILWIRE_SERVER_UV
constexpr const char* drivers = "own embedded portable uv";
#else
constexpr const char* drivers = "own embedded portable";
#endif

int usage() {
  std::fputs(
      "usage: server --port N [--threads T] [--driver own|embedded|portable] [--heartbeat SECONDS]\n"
      "  --port N        0 has the system pick one\n"
      "  --threads T     1 to 64, each with a hub and a thread of its own; more than 1 means --driver own\n"
      "  --driver NAME   own (default): a thread of the hub's own; embedded: one epoll descriptor in an Asio context;\n"
      "                  portable: Asio waits for each socket; uv: libuv watches the hub's one descriptor\n"
      "  --drivers       prints the drivers that are built in, and ends\n"
      "  --heartbeat S   in place of the library's default\n"
      "  --limits WHICH  none, or all: in place of those that are on by default\n"
      "  --tls-cert FILE --tls-key FILE [--tls-records own|openssl]\n"
      "                  TLS in place of plain text, in a build that has it; who keeps its records\n",
      stderr);
  return 2;
}

void set_up(live_server& live) {
  hailwire::shared_grant everybody =
      hailwire::grant{.follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
  live.authorize([everybody](const hailwire::request& r) -> hailwire::decision {
    if (auto user = r.param("user"); !user.empty()) {
      return hailwire::grant{
          .user = std::string(user), .follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
    }
    return everybody;
  });
  live.on_websocket("/echo", {.on_message = [](hailwire::frame_socket& s, std::string_view bytes, bool binary) {
                      binary ? s.send_binary(bytes) : s.send_text(bytes);
                    }});
}

std::uint16_t listen(hailwire::basic_server& live, std::uint16_t port, [[maybe_unused]] const std::string& chain,
                     [[maybe_unused]] const std::string& key, [[maybe_unused]] bool own_records) {
#ifdef HAILWIRE_SERVER_TLS
  if (!chain.empty()) {
    hailwire::tls_options o{.certificates = {hailwire::tls_certificate::from_files(chain, key)}};
    o.records = own_records ? hailwire::tls_records::own : hailwire::tls_records::openssl;
    return hailwire::listen_tls(live, hailwire::tls_context(o), "127.0.0.1", port);
  }
#endif
  return live.listen("127.0.0.1", port);
}

}  // namespace

int main(int argc, char** argv) {
  int port = -1, threads = 1;
  std::string_view driver = "own";
  std::string chain, key;
  bool own_records = true;
  hailwire::options settings;
  settings.max_sessions = 100'000;
  // Limits are counted, as they are for everybody, and never met: a benchmark is one address that does all it can.
  settings.newcomers_per_second = settings.commands_per_second = settings.bytes_per_second = 1'000'000'000'000;
  std::string_view limits = "usual";
  for (int i = 1; i < argc; ++i) {
    std::string_view name = argv[i];
    if (name == "--drivers") return std::puts(drivers), 0;
    if (i + 1 == argc) return usage();
    std::string_view value = argv[++i];
    if (name == "--port") {
      port = std::atoi(value.data());
    } else if (name == "--threads") {
      threads = std::atoi(value.data());
    } else if (name == "--driver") {
      driver = value;
    } else if (name == "--limits" && (value == "none" || value == "all")) {
      limits = value;
    } else if (name == "--heartbeat") {
      settings.heartbeat = std::chrono::seconds(std::atoi(value.data()));
#ifdef HAILWIRE_SERVER_TLS
    } else if (name == "--tls-cert") {
      chain = value;
    } else if (name == "--tls-key") {
      key = value;
    } else if (name == "--tls-records" && (value == "own" || value == "openssl")) {
      own_records = value == "own";
#endif
    } else {
      return usage();
    }
  }
  if (port < 0 || port > 65535 || threads < 1 || threads > 64 || (threads > 1 && driver != "own") ||
      chain.empty() != key.empty())
    return usage();
  if (limits == "none")
    settings.newcomers_per_second = settings.commands_per_second = settings.bytes_per_second =
        settings.max_keys_per_user = 0;
  if (limits == "all") {
    settings.max_connections_per_address = settings.max_sessions_per_address = 1'000'000'000;
    settings.channels = {{.pattern = "*", .publishes_per_second = 1'000'000'000}};
  }
  auto listening = [&](hailwire::basic_server& live, int at) {
    auto bound = listen(live, static_cast<std::uint16_t>(at), chain, key, own_records);
    std::printf("listening on %s://127.0.0.1:%u/\n", chain.empty() ? "http" : "https", static_cast<unsigned>(bound));
    std::fflush(stdout);
  };
  if (threads > 1) {
    threaded_server live(static_cast<unsigned>(threads), settings);
    live.each(set_up);
    listening(live.front(), port);
    live.run();
    return 0;
  }

  asio::io_context io(1);
  std::unique_ptr<live_server> live;
  if (driver == "own" || (driver == "uv" && std::string_view(drivers).ends_with("uv"))) {
    live = std::make_unique<live_server>(hailwire::own_thread, settings);
  } else if (driver == "embedded") {
    live = std::make_unique<live_server>(io, settings);
  } else if (driver == "portable") {
    live = std::make_unique<live_server>(hailwire::portable, io, settings);
  } else {
    return usage();
  }
  set_up(*live);
  listening(*live, port);
  if (driver == "own") {
    live->run();
#ifdef HAILWIRE_SERVER_UV
  } else if (driver == "uv") {
    uv_poll_t input;
    input.data = live.get();
    uv_poll_init(uv_default_loop(), &input, live->native_handle());
    uv_poll_start(&input, UV_READABLE, [](uv_poll_t* watched, int, int) {
      if (!static_cast<live_server*>(watched->data)->poll()) uv_stop(watched->loop);
    });
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
#endif
  } else {
    io.run();
  }
}
