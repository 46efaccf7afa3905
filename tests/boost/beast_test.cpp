// SPDX-License-Identifier: BSL-1.0
// A Beast host: what it has parsed is handed over, and Beast's own streams are served.
#include "hailwire/beast.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include <memory>
#include <string>
#include <thread>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "socket_client.hpp"

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using namespace hailwire;
using namespace hailwire::test;

namespace {

using everything = server<websocket, sse, long_poll, short_poll>;

/// Accepts, reads one request with Beast as `Body`, and hands it over; what is not claimed is answered by Beast.
struct beast_host {
  beast_host() {
    live.authorize([](const request& r) {
      return decision(
          grant{.user = std::string(r.param("user")), .follow = channel_set::all(), .publish = channel_set::all()});
    });
    live.on_http(
        [](const request& r) { return result<response>(response{.body = "by hailwire: " + std::string(r.path())}); });
  }
  ~beast_host() {
    live.post([this] { live.stop(); });
    io.stop();
    if (runs.joinable()) runs.join();
  }
  void start() {
    runs = std::thread([this] { io.run(); });
  }
  /// One connection, served on the host's own thread of control, which is this one.
  template <class Body>
  wire enter(std::string_view bytes, bool head_only = false) {
    wire c(acceptor.local_endpoint().port());
    beast::tcp_stream stream(acceptor.accept());
    c.send(bytes);
    beast::flat_buffer buffer;
    http::request_parser<Body> parser;
    if (head_only) {
      http::read_header(stream, buffer, parser);
      adopt_request(live, std::move(stream), parser, buffer);
      return c;
    }
    http::request<Body> request;
    http::read(stream, buffer, request);
    claimed = claims(live, request);
    adopt_request(live, std::move(stream), request, buffer);
    return c;
  }

  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> busy{io.get_executor()};
  everything live{io};
  tcp::acceptor acceptor{io, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)};
  claim claimed = claim::no;
  std::thread runs;
};

const std::string chunked_post =
    "POST /live?channel=chat HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

}  // namespace

TEST_CASE("a request that Beast has parsed is served as if it had come by itself") {
  beast_host h;
  h.start();
  SECTION("a WebSocket, its first frame already in the buffer") {
    auto c = h.enter<http::string_body>(upgrade("?channel=chat") +
                                        frame(R"({"id":1,"publish":{"channel":"chat","data":"early"}})"));
    CHECK(h.claimed == claim::yes);
    auto seen = c.until("\"early\"}");
    CHECK(contains(seen, "101 Switching"));
    CHECK(contains(seen, "\"reply\":1"));
  }
  SECTION("a body that Beast has read, whose chunks are gone") {
    auto c = h.enter<http::string_body>(chunked_post + get("/live?channel=chat&since=earliest"));
    auto seen = c.until("\"abcde\"}");
    CHECK(contains(seen, " 201 "));
    CHECK(contains(seen, " 200 "));
  }
  SECTION("a body that Beast has not read: the parser has read the head") {
    auto c = h.enter<http::string_body>(chunked_post + get("/live?channel=chat&since=earliest"), true);
    auto seen = c.until("\"abcde\"}");
    CHECK(contains(seen, " 201 "));
  }
  SECTION("an empty body of a POST") {
    auto c = h.enter<http::string_body>("POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    CHECK(h.claimed == claim::no);
    CHECK(contains(c.until("/other"), "by hailwire"));
  }
  SECTION("a request without a body, and the next one, which was not claimed") {
    auto c = h.enter<http::empty_body>(get("/live?channel=chat") + get("/page"));
    CHECK(contains(c.until("/page"), "by hailwire"));
  }
}

TEST_CASE("Beast's tcp_stream is adopted as it is, and its time limit ends") {
  beast_host h;
  wire c(h.acceptor.local_endpoint().port());
  beast::tcp_stream stream(h.acceptor.accept());
  stream.expires_after(std::chrono::milliseconds(1));
  adopt_stream(h.live, std::move(stream));
  h.start();
  c.send(get("/live?channel=chat&wait=1"));  // longer than that
  CHECK(contains(c.until("\"}"), " 200 "));
  c.send(get("/page"));
  CHECK(contains(c.until("/page"), "by hailwire"));
}
