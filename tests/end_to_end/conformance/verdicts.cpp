// SPDX-License-Identifier: BSL-1.0
// What the codecs make of bytes, for comparing them with other parsers. Cases come on stdin: a letter, the size in four
// bytes, big-endian, and the bytes. `w`: a client's WebSocket frames; `d`: the same with permessage-deflate, contexts
// kept; `h`: an HTTP request. For each a line of JSON goes to stdout; bytes are in hexadecimal.
#include <cstdio>
#include <span>
#include <string>
#include <string_view>

#include "hailwire/proto/deflate.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/proto/ws_connection.hpp"

namespace {

using namespace hailwire::proto;

std::string hex(std::string_view bytes) {
  std::string out = "\"";
  for (char c : bytes) {
    auto byte = static_cast<unsigned char>(c);
    out += "0123456789abcdef"[byte / 16];
    out += "0123456789abcdef"[byte % 16];
  }
  return out + '"';
}

std::string quoted(std::string_view text) {
  std::string out;
  json::append_quoted(out, text);
  return out;
}

std::string frames(std::string bytes, bool compressed) {
  static const ws_limits limits;
  zlib_inflater inflater(deflate_params{}, ws_role::server);
  ws_connection machine(ws_role::server, limits);
  std::string events, end = "\"open\"", why;
  std::span<char> in(bytes);
  for (;;) {
    auto e = machine.next(in, compressed ? &inflater : nullptr);
    const char* name = nullptr;
    switch (e.what) {
      case ws_event::type::none:
        break;
      case ws_event::type::text:
        name = "text";
        break;
      case ws_event::type::binary:
        name = "binary";
        break;
      case ws_event::type::ping:
        name = "ping";
        break;
      case ws_event::type::pong:
        name = "pong";
        break;
      case ws_event::type::close:
        end = "\"close " + std::to_string(e.code) + ' ' + hex(e.data).substr(1);
        break;
      case ws_event::type::failed:
        end = "\"failed\"";
        why = e.data;
        break;
    }
    if (!name) break;
    if (!events.empty()) events += ',';
    events.append("[\"").append(name).append("\",").append(hex(e.data)).append("]");
  }
  return "{\"events\":[" + events + "],\"end\":" + end + ",\"why\":" + quoted(why) + '}';
}

std::string request(const std::string& bytes) {
  http1::head_parser parser;
  http1::head head;
  auto failed = [](const hailwire::failure& why) {
    return "{\"end\":\"failed\",\"status\":" + std::to_string(hailwire::http_status(why.code)) +
           ",\"why\":" + quoted(why.message) + '}';
  };
  switch (parser.parse(bytes, head)) {
    case http1::progress::need_more:
      return "{\"end\":\"open\",\"why\":\"\"}";
    case http1::progress::failed:
      return failed(parser.error());
    case http1::progress::done:
      break;
  }
  std::string body;
  std::string_view rest = std::string_view(bytes).substr(parser.size());
  bool whole = true;
  if (head.chunked) {
    http1::chunked_decoder decoder;
    auto progress = decoder.decode(rest, body, 1 << 20);
    if (progress == http1::progress::failed) return failed(decoder.error());
    whole = progress == http1::progress::done;
  } else if (auto length = head.content_length.value_or(0)) {
    body = rest.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(length, rest.size())));
    whole = body.size() == length;
    rest.remove_prefix(body.size());
  }
  std::string out = "{\"end\":" + std::string(whole ? "\"whole\"" : "\"open\"") +
                    ",\"why\":\"\",\"method\":" + hex(head.method) + ",\"target\":" + hex(head.target) +
                    ",\"minor\":" + std::to_string(head.minor) + ",\"headers\":[";
  for (const auto& h : head.headers) {
    if (out.back() == ']') out += ',';
    out.append("[").append(hex(h.name)).append(",").append(hex(h.value)).append("]");
  }
  return out + "],\"body\":" + hex(body) + ",\"left\":" + std::to_string(rest.size()) + '}';
}

}  // namespace

int main() {
  for (unsigned char head[5]; std::fread(head, 1, sizeof head, stdin) == sizeof head;) {
    std::size_t size = std::size_t{head[1]} << 24 | std::size_t{head[2]} << 16 | std::size_t{head[3]} << 8 | head[4];
    std::string bytes(size, '\0');
    if (std::fread(bytes.data(), 1, size, stdin) != size) return 1;
    std::string line = head[0] == 'h' ? request(bytes) : frames(std::move(bytes), head[0] == 'd');
    std::puts(line.c_str());
  }
}
