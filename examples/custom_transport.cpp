// SPDX-License-Identifier: BSL-1.0
//
// A transport of the host's own: each object is a line of JSON in a chunked body. It needs a class that says which
// requests it serves, and a stream that says how things are written.
// curl -NH 'Accept: application/x-ndjson' '127.0.0.1:8080/live?channel=lobby'

#include <hailwire/server.hpp>
#include <hailwire/transport/short_poll.hpp>

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <iostream>

namespace http = hailwire::proto::http1;
namespace transport = hailwire::transport;

void append_line(std::string& out, std::string_view json) {
  http::append_chunk_head(out, json.size() + 1);
  out.append(json).append("\n\r\n");
}

// One object for all streams, so that a message becomes bytes once, however many follow.
constexpr hailwire::proto::encoding line_of_message{
    "lines", true, [](std::string& out, const hailwire::proto::envelope& e) { append_line(out, e.json); }};

struct line_stream : transport::stream {
  std::string_view name() const noexcept override { return "lines"; }
  const hailwire::proto::encoding& messages() const noexcept override { return line_of_message; }
  bool notice(std::string& out, std::string_view, std::string_view json, std::string_view) override {
    append_line(out, json);
    return true;
  }
  void beat(std::string& out) override { append_line(out, "{\"ping\":{}}"); }
  void end(std::string& out, std::uint16_t code, std::string_view) override {
    if (code == close_code(hailwire::errc::overloaded))
      append_line(out, R"({"bye":{"code":"overloaded","reconnect":true,"after":[1000,2000]}})");
    out += http::last_chunk;
  }
};

struct lines {
  static constexpr std::string_view name = "lines";
  static constexpr std::string_view offer = "lines of JSON (Accept: application/x-ndjson)";

  static bool claims(const transport::live_request& a) {
    return a.head.minor >= 1 && http::accepts_literally(a.head, "application/x-ndjson");  // HTTP/1.0 has no chunks
  }
  static hailwire::result<transport::accepted> begin(const transport::live_request&) {
    transport::accepted b;
    b.live = transport::stream_box::of<line_stream>();
    b.open = [](std::string& out, std::string_view extra) {
      std::string fields = "Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n";
      http::append_response_head(out, 200, "application/x-ndjson", {}, false, 1, fields.append(extra));
    };
    return b;
  }
};

int main(int count, char** words) {
  asio::io_context io;
  hailwire::server<lines, hailwire::short_poll> live(io);
  live.authorize([](const hailwire::request& r) {
    auto all = hailwire::channel_set::all();
    return hailwire::grant{.user = std::string(r.param("user")), .follow = all, .publish = all};
  });
  auto port = live.listen("127.0.0.1", count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : 8080);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { live.stop(); });
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  io.run();
}
