// SPDX-License-Identifier: BSL-1.0
//
// A user's program: publishes one message and reads it back over each of the four transports. Exit code 0 when all of
// them brought it and the version is the one that the package named.

#include <hailwire/hailwire.hpp>

#if defined(WITH_deflate)
#include <hailwire/deflate.hpp>
#endif
#if defined(WITH_sqlite)
#include <hailwire/storage/sqlite.hpp>
#endif
#if defined(WITH_redis)
#include <hailwire/storage/redis.hpp>
#endif
#if defined(WITH_jwt)
#include <hailwire/jwt.hpp>
#endif
#if defined(WITH_push)
#include <hailwire/push/web_push.hpp>
#include <hailwire/push/webhook.hpp>
#endif
#if defined(WITH_tls) && __has_include(<hailwire/tls.hpp>)
#include <hailwire/tls.hpp>
#endif

#ifdef HAILWIRE_USE_BOOST_ASIO  // what the target hailwire::boost defines
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
namespace asio = boost::asio;
using error_code = boost::system::error_code;
#else
#include <asio/connect.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>
using error_code = std::error_code;
#endif

#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

// Sends one request and reads until `wanted` has come or the connection has ended.
static bool brings(unsigned short port, const std::string& request, const std::string& wanted) {
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  socket.connect({asio::ip::make_address("127.0.0.1"), port});
  asio::write(socket, asio::buffer(request));
  std::string got;
  error_code ec;
  for (char part[4096]; got.find(wanted) == got.npos && !ec;)
    got.append(part, socket.read_some(asio::buffer(part), ec));
  return got.find(wanted) != got.npos;
}

int main(int count, char** words) {
  std::string version = std::to_string(HAILWIRE_VERSION_MAJOR) + '.' + std::to_string(HAILWIRE_VERSION_MINOR) + '.' +
                        std::to_string(HAILWIRE_VERSION_PATCH);
  if (count != 2 || version != words[1] || version != PACKAGE_VERSION)
    return std::fprintf(stderr, "version %s, package %s\n", version.c_str(), PACKAGE_VERSION), 1;

  asio::io_context io;
  hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll> live(io);
  live.authorize([](const hailwire::request&) { return hailwire::grant{.follow = hailwire::channel_set::all()}; });
  auto port = live.listen("127.0.0.1", 0);
  if (live.publish("news", hailwire::payload::json(R"({"word":"hello"})"))) return 1;

  int failed = 0;
  std::thread clients([&] {
    const std::string rest = " HTTP/1.1\r\nHost: localhost\r\n", get = "GET /live?channel=news&since=earliest";
    const std::string wanted = R"("data":{"word":"hello"}})";
    failed += !brings(port, get + rest + "\r\n", wanted);
    failed += !brings(port, get + "&wait=5" + rest + "\r\n", wanted);
    failed += !brings(port, get + rest + "Accept: text/event-stream\r\n\r\n", wanted);
    failed += !brings(port,
                      get + rest +
                          "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                      wanted);
    io.stop();
  });
  io.run();
  clients.join();
  if (failed) std::fprintf(stderr, "%d transports did not bring the message\n", failed);
  return failed;
}
