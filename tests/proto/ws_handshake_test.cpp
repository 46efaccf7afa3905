// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/ws_handshake.hpp"

#include <cstdio>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/proto/http1.hpp"

using namespace hailwire::proto;
using hailwire::errc;
using hailwire::result;

namespace {
std::string hex(const std::array<unsigned char, 20>& digest) {
  std::string out;
  for (auto byte : digest) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", byte);
    out += two;
  }
  return out;
}

const std::string key = "dGhlIHNhbXBsZSBub25jZQ==";

/// A good request; `change` replaces a line by its name, an empty value removes it.
struct request {
  std::string line = "GET /chat HTTP/1.1";
  std::vector<std::pair<std::string, std::string>> fields = {
      {"Host", "server.example.com"}, {"Upgrade", "websocket"},         {"Connection", "Upgrade"},
      {"Sec-WebSocket-Key", key},     {"Origin", "http://example.com"}, {"Sec-WebSocket-Version", "13"}};
  request& start(std::string with) { return line = std::move(with), *this; }
  request& change(std::string name, std::string value) {
    std::erase_if(fields, [&](auto& f) { return f.first == name; });
    return value.empty() ? *this : add(std::move(name), std::move(value));
  }
  request& add(std::string name, std::string value) {
    return fields.emplace_back(std::move(name), std::move(value)), *this;
  }
  result<ws_offer> read() const {
    std::string bytes = line + "\r\n";
    for (auto& [name, value] : fields) bytes += name + ": " + value + "\r\n";
    bytes += "\r\n";
    http1::head_parser parser;
    http1::head head;
    REQUIRE(parser.parse(bytes, head) == http1::progress::done);
    return read_upgrade(head);
  }
  errc error() const {
    auto r = read();
    REQUIRE_FALSE(r);
    return r.error().code;
  }
};

/// The head of an answer, as a client's HTTP parser gives it.
struct answer_head {
  struct field {
    std::string name, value;
  };
  int status = 0;
  std::vector<field> headers;

  explicit answer_head(std::string_view bytes) {
    REQUIRE(bytes.substr(0, 9) == "HTTP/1.1 ");
    status = std::stoi(std::string(bytes.substr(9, 3)));
    for (bytes.remove_prefix(bytes.find("\r\n") + 2); bytes.substr(0, 2) != "\r\n";) {
      auto line = bytes.substr(0, bytes.find("\r\n"));
      auto colon = line.find(':');
      headers.push_back({std::string(line.substr(0, colon)), std::string(trim(line.substr(colon + 1)))});
      bytes.remove_prefix(line.size() + 2);
    }
    REQUIRE(bytes == "\r\n");
  }
  std::string_view find(std::string_view name) const {
    for (auto& f : headers)
      if (iequals(f.name, name)) return f.value;
    return {};
  }
  std::size_t count(std::string_view name) const {
    std::size_t n = 0;
    for (auto& f : headers) n += iequals(f.name, name);
    return n;
  }
  bool has_token(std::string_view name, std::string_view token) const {
    for (auto& f : headers) {
      if (!iequals(f.name, name)) continue;
      for (std::string_view rest = f.value; rest.data();)
        if (iequals(http1::next_element(rest), token)) return true;
    }
    return false;
  }
};

errc answer_error(std::string_view bytes, std::string_view subprotocols = {}) {
  auto r = read_switching_protocols(answer_head(bytes), key, subprotocols);
  REQUIRE_FALSE(r);
  return r.error().code;
}
}  // namespace

TEST_CASE("SHA-1 gives the digests of FIPS 180", "[ws_handshake]") {
  CHECK(hex(sha1("")) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hex(sha1("abc")) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(hex(sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  CHECK(hex(sha1("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopq"
                 "rstnopqrstu")) == "a49b2446a02c645bf419f995b67091253a04a259");
  CHECK(hex(sha1(std::string(1'000'000, 'a'))) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

TEST_CASE("SHA-1 pads every length around a block", "[ws_handshake]") {
  // Digests by coreutils' sha1sum of that many 'a'.
  CHECK(hex(sha1(std::string(55, 'a'))) == "c1c8bbdc22796e28c0e15163d20899b65621d65a");
  CHECK(hex(sha1(std::string(56, 'a'))) == "c2db330f6083854c99d4b5bfb6e8f29f201be699");
  CHECK(hex(sha1(std::string(63, 'a'))) == "03f09f5b158a7a8cdad920bddc29b81c18a551f5");
  CHECK(hex(sha1(std::string(64, 'a'))) == "0098ba824b5c16427bd7a1122a5a442a25ec644d");
  CHECK(hex(sha1(std::string(65, 'a'))) == "11655326c708d70319be2610e8a57d9a5b959d3b");
  CHECK(hex(sha1(std::string(119, 'a'))) == "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56");
  CHECK(hex(sha1(std::string(120, 'a'))) == "f34c1488385346a55709ba056ddd08280dd4c6d6");
}

TEST_CASE("the accept key is that of RFC 6455, section 1.3", "[ws_handshake]") {
  CHECK(accept_key(key) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST_CASE("accepts the handshake of RFC 6455, section 1.2", "[ws_handshake]") {
  auto r = request().add("Sec-WebSocket-Protocol", "chat, superchat").read();
  REQUIRE(r);
  CHECK(r->key == key);
  CHECK(r->subprotocols == std::vector<std::string>{"chat", "superchat"});
  CHECK(r->extensions.empty());
  std::string out;
  append_switching_protocols(out, r->key, "chat", {}, "Server: x\r\n");
  CHECK(out ==
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\nServer: x\r\n\r\n");
}

TEST_CASE("reads Upgrade and Connection as lists in any case", "[ws_handshake]") {
  CHECK(request().change("Upgrade", "h2c, WebSocket").change("Connection", "keep-alive, upgrade").read());
  CHECK(request().change("Connection", "keep-alive").add("Connection", "UPGRADE").read());
}

TEST_CASE("refuses a handshake with the status that fits", "[ws_handshake]") {
  CHECK(request().start("POST /chat HTTP/1.1").error() == errc::method_not_allowed);
  CHECK(request().start("get /chat HTTP/1.1").error() == errc::method_not_allowed);
  CHECK(request().start("GET /chat HTTP/1.0").error() == errc::bad_request);
  CHECK(request().change("Upgrade", "").error() == errc::upgrade_required);
  CHECK(request().change("Upgrade", "websocket2").error() == errc::upgrade_required);
  CHECK(request().change("Connection", "").error() == errc::bad_request);
  CHECK(request().change("Connection", "keep-alive").error() == errc::bad_request);
  CHECK(request().change("Sec-WebSocket-Version", "").error() == errc::bad_request);
  CHECK(request().add("Sec-WebSocket-Version", "13").error() == errc::bad_request);
  for (auto version : {"8", "0", "12", "14", "013", "+13", "13, 8", "x"}) {
    CHECK(request().change("Sec-WebSocket-Version", version).error() == errc::upgrade_required);
  }
}

TEST_CASE("refuses a handshake that brings a body", "[ws_handshake]") {
  CHECK(request().add("Content-Length", "5").error() == errc::bad_request);
  CHECK(request().add("Transfer-Encoding", "chunked").error() == errc::bad_request);
  CHECK(request().add("Content-Length", "0").read());
}

TEST_CASE("refuses a key that is not 16 bytes in base64", "[ws_handshake]") {
  for (auto bad : {"", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQAA",
                   "dGhlIHNhbXBsZSBub25jZTE=", "dGhlIHNhbXBsZSBub25jZR==", "dGhl!HNhbXBsZSBub25jZQ==",
                   "dGhlIHNhbXBsZSBu b25jZQ==", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}) {
    CHECK(request().change("Sec-WebSocket-Key", bad).error() == errc::bad_request);
  }
  CHECK(request().add("Sec-WebSocket-Key", key).error() == errc::bad_request);
}

TEST_CASE("reads subprotocols in order, from one field or several", "[ws_handshake]") {
  auto r = request()
               .add("Sec-WebSocket-Protocol", "hailwire.v1,bearer.abc")
               .add("Sec-WebSocket-Protocol", " last , ")
               .read();
  REQUIRE(r);
  CHECK(r->subprotocols == std::vector<std::string>{"hailwire.v1", "bearer.abc", "last"});
}

TEST_CASE("refuses subprotocols that are doubled, no tokens, none or too many", "[ws_handshake]") {
  for (auto bad : {"chat, chat", "chat, super chat", "a/b", "\"quoted\"", ",", "a;b", "\xC3\xA4"}) {
    CHECK(request().add("Sec-WebSocket-Protocol", bad).error() == errc::bad_request);
  }
  CHECK(request().add("Sec-WebSocket-Protocol", "chat").add("Sec-WebSocket-Protocol", "chat").error() ==
        errc::bad_request);
  CHECK(request().add("Sec-WebSocket-Protocol", "chat, Chat").read());
  std::string many = "p0";
  for (int i = 1; i < 64; ++i) many += ",p" + std::to_string(i);
  CHECK(request().add("Sec-WebSocket-Protocol", many).read());
  CHECK(request().add("Sec-WebSocket-Protocol", many + ",p64").error() == errc::bad_request);
}

TEST_CASE("reads extensions with their parameters", "[ws_handshake]") {
  auto r = request()
               .add("Sec-WebSocket-Extensions",
                    "permessage-deflate; client_max_window_bits; server_max_window_bits=10 ,foo;a=\"b\\c\"")
               .add("Sec-WebSocket-Extensions", "bar")
               .read();
  REQUIRE(r);
  REQUIRE(r->extensions.size() == 3);
  auto& deflate = r->extensions[0];
  CHECK(deflate.name == "permessage-deflate");
  REQUIRE(deflate.params.size() == 2);
  CHECK(deflate.params[0].name == "client_max_window_bits");
  CHECK_FALSE(deflate.params[0].has_value);
  CHECK(deflate.params[1].name == "server_max_window_bits");
  CHECK(deflate.params[1].value == "10");
  REQUIRE(r->extensions[1].params.size() == 1);
  CHECK(r->extensions[1].params[0].value == "bc");
  CHECK(r->extensions[2].name == "bar");
}

TEST_CASE("an empty list of extensions offers none", "[ws_handshake]") {
  for (auto none : {"", " ", ",", " , ,"}) {
    auto r = request().add("Sec-WebSocket-Extensions", none).read();
    REQUIRE(r);
    CHECK(r->extensions.empty());
  }
  auto r = request().add("Sec-WebSocket-Extensions", "").add("Sec-WebSocket-Extensions", ",foo,").read();
  REQUIRE(r);
  CHECK(r->extensions.size() == 1);
}

TEST_CASE("refuses extensions that break the grammar", "[ws_handshake]") {
  for (auto bad :
       {";a", "foo;", "foo; ;a", "foo; =b", "foo;a=", "foo;a=\"\"", "foo;a=\"b", "foo;a=\"b c\"", "foo;a=\"b\\",
        "foo;a=\"b\\\"\"", "foo bar", "foo;a b", "foo;a=b c", "foo;a=b=c", "foo/bar", "\"foo\"", "foo, bar baz"}) {
    CHECK(request().add("Sec-WebSocket-Extensions", bad).error() == errc::bad_request);
  }
  std::string many = "e";
  for (int i = 1; i < 64; ++i) many += ",e";
  CHECK(request().add("Sec-WebSocket-Extensions", many).read());
  CHECK(request().add("Sec-WebSocket-Extensions", many + ",e").error() == errc::bad_request);
  std::string params = "e";
  for (int i = 0; i < 64; ++i) params += ";p";
  CHECK(request().add("Sec-WebSocket-Extensions", params).read());
  CHECK(request().add("Sec-WebSocket-Extensions", params + ";p").error() == errc::bad_request);
}

TEST_CASE("a server understands what a client asks, and the client the answer", "[ws_handshake]") {
  unsigned char nonce[16];
  for (std::size_t i = 0; i < 16; ++i) nonce[i] = static_cast<unsigned char>(i * 17);
  auto own_key = handshake_key(nonce);
  std::string asked, answered;
  append_upgrade_request(asked, "/live?channel=chat", "example.com:8080", own_key, "hailwire.v1.raw, hailwire.v1",
                         "permessage-deflate", "Origin: https://example.com\r\n");
  http1::head_parser parser;
  http1::head head;
  REQUIRE(parser.parse(asked, head) == http1::progress::done);
  CHECK(parser.size() == asked.size());
  CHECK(head.target == "/live?channel=chat");
  CHECK(head.host == "example.com:8080");
  auto offer = read_upgrade(head);
  REQUIRE(offer);
  CHECK(offer->key == own_key);
  CHECK(offer->subprotocols.size() == 2);
  append_switching_protocols(answered, offer->key, offer->subprotocols[1],
                             "permessage-deflate; server_no_context_takeover");
  auto answer = read_switching_protocols(answer_head(answered), own_key, "hailwire.v1.raw, hailwire.v1");
  REQUIRE(answer);
  CHECK(answer->subprotocol == "hailwire.v1");
  REQUIRE(answer->extensions.size() == 1);
  CHECK(answer->extensions[0].params[0].name == "server_no_context_takeover");

  answered.clear();
  append_switching_protocols(answered, offer->key);
  answer = read_switching_protocols(answer_head(answered), own_key, "hailwire.v1");
  REQUIRE(answer);
  CHECK(answer->subprotocol.empty());
}

TEST_CASE("a client refuses an answer that breaks a rule", "[ws_handshake]") {
  std::string start = "HTTP/1.1 101 Switching Protocols\r\n", upgrade = "Upgrade: websocket\r\n",
              connection = "Connection: Upgrade\r\n", accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
              end = "\r\n";
  CHECK(read_switching_protocols(answer_head(start + upgrade + connection + accept + end), key));
  CHECK(answer_error(start + connection + accept + end) == errc::bad_request);
  CHECK(answer_error(start + "Upgrade: h2c\r\n" + connection + accept + end) == errc::bad_request);
  CHECK(answer_error(start + upgrade + upgrade + connection + accept + end) == errc::bad_request);
  CHECK(answer_error(start + upgrade + accept + end) == errc::bad_request);
  CHECK(answer_error(start + upgrade + connection + end) == errc::bad_request);
  CHECK(answer_error(start + upgrade + connection + accept + accept + end) == errc::bad_request);
  CHECK(answer_error(start + upgrade + connection + "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + end) ==
        errc::bad_request);
  auto good = start + upgrade + connection + accept;
  CHECK(answer_error(good + "Sec-WebSocket-Protocol: chat\r\n" + end) == errc::bad_request);
  CHECK(answer_error(good + "Sec-WebSocket-Protocol: chat\r\n" + end, "superchat") == errc::bad_request);
  CHECK(answer_error(good + "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n" + end, "a") ==
        errc::bad_request);
  CHECK(answer_error(good + "Sec-WebSocket-Extensions: a;\r\n" + end) == errc::bad_request);
}

TEST_CASE("a client learns from the status why it was refused", "[ws_handshake]") {
  CHECK(answer_error("HTTP/1.1 401 Unauthorized\r\n\r\n") == errc::unauthenticated);
  CHECK(answer_error("HTTP/1.1 403 Forbidden\r\n\r\n") == errc::forbidden);
  CHECK(answer_error("HTTP/1.1 503 Service Unavailable\r\n\r\n") == errc::draining);
  CHECK(answer_error("HTTP/1.1 200 OK\r\n\r\n") == errc::internal);
}
