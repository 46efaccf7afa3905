// SPDX-License-Identifier: BSL-1.0
//
// hailwire inside a Boost.Beast server: four threads, TLS, pages of the host's own. Beast reads each request; what is
// for /live it hands over with its connection, and reads no more of it. beast PORT CHAIN.pem KEY.pem

#include <hailwire/beast.hpp>
#include <hailwire/hailwire.hpp>
#include <hailwire/tls.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <iostream>
#include <thread>
#include <vector>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using tls_stream = asio::ssl::stream<beast::tcp_stream>;
using live_server = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;

// The host's own pages; what is rung is heard by who follows `bell`.
hailwire::response page(std::string_view method, std::string_view path, live_server& live) {
  if (method == "GET" && path == "/") return {.body = "a page of Beast's\n"};
  if (method != "POST" || path != "/ring") return {.status = 404, .body = "no such page\n"};
  if (live.publish("bell", hailwire::payload::text("ding"))) return {.status = 503, .body = "too much at once\n"};
  return {.status = 202, .body = "ding\n"};
}

asio::awaitable<void> serve(tcp::socket accepted, asio::ssl::context& tls, live_server& live) {
  tls_stream stream(beast::tcp_stream(std::move(accepted)), tls);
  beast::flat_buffer buffer;
  stream.next_layer().expires_after(std::chrono::seconds(5));
  co_await stream.async_handshake(tls_stream::server, asio::use_awaitable);
  for (bool more = true; more;) {
    http::request<http::string_body> request;
    stream.next_layer().expires_after(std::chrono::seconds(5));
    co_await http::async_read(stream, buffer, request, asio::use_awaitable);
    if (hailwire::claims(live, request) == hailwire::claim::yes) {
      auto facts = hailwire::tls_facts(stream.native_handle());
      co_return hailwire::adopt_request(live, std::move(stream), request, buffer, std::move(facts));
    }
    auto made = page({request.method_string().data(), request.method_string().size()},
                     {request.target().data(), request.target().size()}, live);
    http::response<http::string_body> answer(static_cast<http::status>(made.status), request.version(), made.body);
    answer.set(http::field::content_type, made.content_type);
    answer.keep_alive(more = request.keep_alive());
    answer.prepare_payload();
    co_await http::async_write(stream, answer, asio::use_awaitable);
  }
  co_await stream.async_shutdown(asio::use_awaitable);
}

asio::awaitable<void> accept(tcp::acceptor& acceptor, asio::ssl::context& tls, live_server& live) {
  while (acceptor.is_open()) {
    boost::system::error_code ec;
    auto on = asio::make_strand(acceptor.get_executor());  // one connection's handlers do not run at the same time
    tcp::socket socket = co_await acceptor.async_accept(on, asio::redirect_error(asio::use_awaitable, ec));
    if (!ec) asio::co_spawn(on, serve(std::move(socket), tls, live), asio::detached);
  }
}

int main(int count, char** words) {
  if (count != 4) return std::cerr << "usage: beast PORT CHAIN.pem KEY.pem\n", 2;
  asio::ssl::context tls(asio::ssl::context::tls_server);
  tls.use_certificate_chain_file(words[2]);
  tls.use_private_key_file(words[3], asio::ssl::context::pem);

  asio::io_context io(4);
  live_server live(io);
  live.authorize([](const hailwire::request&) { return hailwire::grant{.follow = {"bell"}, .publish = {"bell"}}; });
  // A client that keeps its connection may ask the host something on it next.
  live.on_http([&](const hailwire::request& r) { return page(r.method(), r.path(), live); });

  tcp::acceptor acceptor(asio::make_strand(io),
                         {asio::ip::address_v4::loopback(), static_cast<std::uint16_t>(std::stoi(words[1]))});
  asio::co_spawn(acceptor.get_executor(), accept(acceptor, tls, live), asio::detached);
  asio::signal_set signals(acceptor.get_executor(), SIGINT, SIGTERM);
  signals.async_wait([&](boost::system::error_code, int) {
    acceptor.close();
    live.post([&] { live.stop(); });
  });
  std::cout << "listening on https://127.0.0.1:" << acceptor.local_endpoint().port() << "/" << std::endl;
  std::vector<std::thread> threads;
  for (int i = 1; i < 4; ++i) threads.emplace_back([&] { io.run(); });
  io.run();
  for (auto& t : threads) t.join();
}
