// SPDX-License-Identifier: BSL-1.0
#include "hailwire/websocket_client.hpp"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "run_until.hpp"

using namespace hailwire;

namespace {

using lines = std::vector<std::string>;

/// A server that echoes, and what it saw of how its connections closed.
struct echo {
  echo() : live(io) {
    frame_handlers h;
    h.subprotocols = {"b"};
    h.max_message = 4 << 20;
    h.on_message = [](frame_socket& s, std::string_view bytes, bool binary) {
      binary ? s.send_binary(bytes) : s.send_text(bytes);
    };
    h.on_close = [this](frame_socket&, const close_reason& r) {
      closes.push_back(std::to_string(r.close_code) + " " + std::string(r.text));
    };
    live.on_websocket("/echo", std::move(h));
    port = live.listen("127.0.0.1", 0);
  }
  std::string url(const std::string& path = "/echo") const { return "ws://127.0.0.1:" + std::to_string(port) + path; }
  template <class F>
  void until(F done) {
    const bool is = run_until(io, std::move(done));  // what a handler throws leaves it here
    REQUIRE(is);
  }
  asio::io_context io;
  lines closes;  // before the server, whose end is told too
  server<websocket> live;
  std::uint16_t port = 0;
};

/// A server that says what a test tells it to, once it was asked.
struct script {
  explicit script(std::string answer)
      : says(std::move(answer)), door(io, {asio::ip::address_v4::loopback(), 0}), taken(io) {
    door.async_accept(taken, [this](std::error_code) {
      asio::async_read_until(taken, asio::dynamic_buffer(asked), "\r\n\r\n", [this](std::error_code, std::size_t) {
        const auto at = asked.find("Sec-WebSocket-Key: ") + 19;
        std::string answered;
        if (says.starts_with("HTTP")) {
          answered = says;
        } else {
          proto::append_switching_protocols(answered, asked.substr(at, 24));
          answered += says;
        }
        asio::write(taken, asio::buffer(answered));
      });
    });
  }
  /// How a client ended, with these options.
  std::string end(websocket_client_options o = {}) {
    websocket_client c(io, "ws://127.0.0.1:" + std::to_string(door.local_endpoint().port()) + "/a?b=c", std::move(o));
    std::string said;
    c.on_message([&](std::string_view m, bool) { said += "(" + std::string(m) + ")"; });
    c.on_close([&](const websocket_end& e) {
      said += std::to_string(e.code) + " " + std::string(e.text) +
              (e.status ? " " + std::to_string(e.status) + std::string(e.body) : "");
      std::error_code ignored;
      taken.close(ignored), door.close(ignored);
    });
    io.run_for(limit);
    return said;
  }
  std::string says, asked;
  asio::io_context io;
  asio::ip::tcp::acceptor door;
  asio::ip::tcp::socket taken;
};

}  // namespace

TEST_CASE("messages go to and fro, in order and whole") {
  echo s;
  websocket_client c(s.io, s.url(), {.subprotocols = "a, b"});
  lines heard;
  const std::string large(3'000'000, 'x');
  std::string chosen;
  CHECK_FALSE(c.send_text("too soon"));
  c.on_open([&](std::string_view subprotocol) {
    chosen = subprotocol;
    CHECK(c.send_text("text"));
    CHECK(c.send_binary(std::string_view("\0\xFF", 2)));
    CHECK(c.send_text(""));
    CHECK(c.send_text(large));
    CHECK(c.ping("p"));
    CHECK_FALSE(c.ping(std::string(126, 'p')));
  });
  std::string pong;
  c.on_pong([&](std::string_view data) { pong = data; });
  c.on_message([&](std::string_view m, bool binary) { heard.push_back((binary ? "b" : "t") + std::string(m)); });
  s.until([&] { return heard.size() == 4 && !pong.empty(); });
  CHECK(chosen == "b");
  CHECK(heard == lines{"ttext", std::string("b\0\xFF", 3), "t", "t" + large});
  CHECK(pong == "p");
  CHECK(c.unsent() == 0);
  CHECK_FALSE(c.compressed());
}

TEST_CASE("a close is answered, and its code arrives") {
  echo s;
  websocket_client c(s.io, s.url());
  websocket_end ended;
  bool over = false;
  c.on_open([&](std::string_view) {
    c.send_text("last");
    c.close(4001, "enough");
    CHECK_FALSE(c.send_text("too late"));
  });
  std::string heard;
  c.on_message([&](std::string_view m, bool) { heard = m; });
  c.on_close([&](const websocket_end& e) { ended = e, over = true; });
  s.until([&] { return over && !s.closes.empty(); });
  CHECK(heard == "last");
  CHECK(ended.code == 4001);
  CHECK_FALSE(ended.error);
  CHECK(s.closes == lines{"4001 enough"});
  CHECK_FALSE(c.is_open());
}

TEST_CASE("a client that is destroyed says goodbye") {
  echo s;
  {
    websocket_client c(s.io, s.url());
    bool open = false;
    c.on_open([&](std::string_view) { open = true; });
    c.on_close([](const websocket_end&) { FAIL("told"); });
    s.until([&] { return open; });
  }
  s.until([&] { return !s.closes.empty(); });
  CHECK(s.closes == lines{"1001 "});
}

TEST_CASE("what a server answers in place of a WebSocket is told") {
  CHECK(script("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").end() ==
        "1006 the server has refused the handshake 403no");
  CHECK(script("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n").end() ==
        "1006 the server has refused the handshake 302");
  CHECK(script("HTTP/2 200\r\n\r\n").end() == "1006 the answer is not HTTP/1.1");
}

TEST_CASE("a server that breaks a rule is told so, and left") {
  std::string frames;
  proto::append_text(frames, "fine");
  script masked(frames + std::string("\x81\x80\x01\x02\x03\x04", 6));
  CHECK(masked.end() == "(fine)1002 a server's frame is masked");
  script utf8(std::string("\x81\x01\xFF", 3));
  CHECK(utf8.end() == "1007 a text is not UTF-8");
  for (std::size_t most : {9u, 10u}) {
    std::string ten;
    proto::append_binary(ten, "0123456789");
    proto::append_close(ten, 4000, "bye");
    script s(ten);
    CHECK(s.end({.max_message = most}) ==
          (most == 10 ? "(0123456789)4000 the server has closed" : "1009 a message is too big"));
  }
}

TEST_CASE("silence ends it, at each of its times") {
  using std::chrono::milliseconds;
  script mute("HTTP");  // half a head
  CHECK(mute.end({.patience = milliseconds(50)}) == "1006 no connection in time");
  script open("");
  CHECK(open.end({.heartbeat = milliseconds(30)}) == "1006 the server has fallen silent");
  asio::io_context io;
  asio::ip::tcp::acceptor gone(io, {asio::ip::address_v4::loopback(), 0});
  const auto port = gone.local_endpoint().port();
  gone.close();
  websocket_client c(io, "ws://127.0.0.1:" + std::to_string(port));
  std::error_code ec;
  c.on_close([&](const websocket_end& e) { ec = e.error; });
  io.run_for(limit);
  CHECK(ec);
}

TEST_CASE("what is not taken from a socket has a limit") {
  echo s;
  websocket_client c(s.io, s.url(), {.max_unsent = 1 << 20});
  bool refused = false;
  c.on_open([&](std::string_view) {
    const std::string piece(100'000, 'x');
    for (int i = 0; i < 12; ++i) refused = !c.send_binary(piece);
  });
  s.until([&] { return refused; });
  CHECK(c.unsent() <= (1 << 20) + 100'100);
}

TEST_CASE("a paused client hears nothing, and misses nothing") {
  echo s;
  websocket_client c(s.io, s.url());
  lines heard;
  c.on_open([&](std::string_view) {
    for (auto text : {"1", "2", "3"}) c.send_text(text);
  });
  c.on_message([&](std::string_view m, bool) {
    heard.emplace_back(m);
    c.pause();
  });
  s.until([&] { return heard.size() == 1; });
  for (int i = 0; i < 50; ++i) s.io.poll();
  CHECK(heard == lines{"1"});
  c.resume();
  s.until([&] { return heard.size() == 2; });
  c.resume();
  s.until([&] { return heard.size() == 3; });
  CHECK(heard == lines{"1", "2", "3"});
}

TEST_CASE("what a handler throws ends the connection and leaves the context") {
  echo s;
  websocket_client c(s.io, s.url());
  std::string text;
  c.on_open([&](std::string_view) { throw std::runtime_error("oh"); });
  c.on_close([&](const websocket_end& e) { text = e.text; });
  CHECK_THROWS_WITH(s.until([] { return false; }), "oh");
  CHECK(text == "a handler has thrown");
}
