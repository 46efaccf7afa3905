// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/ws_client.hpp"

#include <array>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire::proto;

namespace {

/// What a client says to a server's bytes, which come in pieces of `step`.
std::string talk(std::string_view bytes, std::size_t step) {
  ws_client client({.message = 1000});
  std::string out;
  // The key of RFC 6455, section 1.3.
  const std::string nonce = "the sample nonce";
  std::array<unsigned char, 16> key;
  std::copy(nonce.begin(), nonce.end(), key.begin());
  client.open(out, "/live", "h", key, "hailwire.v1", "X: y\r\n");
  CHECK(out ==
        "GET /live HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: hailwire.v1\r\nX: y\r\n\r\n");
  static constexpr const char* names[] = {"", "opened", "refused", "text", "binary", "ping", "pong", "close", "failed"};
  std::string said;
  for (std::size_t from = 0; from < bytes.size(); from += step) {
    auto part = bytes.substr(from, step);
    std::vector<char> copy(part.begin(), part.end());
    std::span<char> in(copy);
    for (;;) {
      const auto e = client.next(in);
      if (e.what == ws_client::event::type::none) break;
      said += std::string(names[static_cast<int>(e.what)]) + (e.code ? std::to_string(e.code) : "") + "(" +
              std::string(e.data) + ")";
      if (e.what == ws_client::event::type::refused && client.response().has_head())
        said += std::to_string(client.response().head().status) + client.response().body;
    }
    CHECK(in.empty());
  }
  if (const auto e = client.end(); e.what == ws_client::event::type::refused)
    said += "refused at the end " + std::to_string(client.response().head().status) + client.response().body;
  return said;
}

std::string however_cut(const std::string& bytes) {
  const auto whole = talk(bytes, bytes.size());
  for (std::size_t step = 1; step < bytes.size(); ++step) {
    CAPTURE(step);
    CHECK(talk(bytes, step) == whole);
  }
  return whole;
}

const std::string switching =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: hailwire.v1\r\n\r\n";

}  // namespace

TEST_CASE("a client's WebSocket opens and hears frames that came with the answer") {
  std::string bytes = switching;
  append_text(bytes, "hello");
  append_ping(bytes, "p");
  append_binary(bytes, "b");
  append_close(bytes, 1000, "bye");
  CHECK(however_cut(bytes) == "opened(hailwire.v1)text(hello)ping(p)binary(b)close1000(bye)");
}

TEST_CASE("a client's WebSocket is told what another answer was") {
  CHECK(however_cut("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nbody") == "refused()403body");
  CHECK(however_cut("HTTP/1.1 200 OK\r\n\r\nto the end") == "refused at the end 200to the end");
  CHECK(however_cut("HTTP/1.1 400 Bad\r\nContent-Length: 99999999\r\n\r\n") == "refused(the body is too large)400");
  CHECK(however_cut("SSH-2.0") == "refused(the answer is not HTTP/1.1)");
  auto wrong = switching;
  wrong.replace(wrong.find("s3p"), 3, "xxx");
  CHECK(however_cut(wrong) == "refused(Sec-WebSocket-Accept does not fit the key)101");
  wrong = switching;
  wrong.insert(wrong.size() - 2, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
  CHECK(however_cut(wrong) == "refused(the server chose an extension that was not offered)101");
}

TEST_CASE("a client's WebSocket fails when its server breaks a rule") {
  std::string bytes = switching;
  append_masked_frame(bytes, ws_opcode::text, "x", 1);
  CHECK(however_cut(bytes) == "opened(hailwire.v1)failed1002(a server's frame is masked)");
}
