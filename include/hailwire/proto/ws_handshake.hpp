// SPDX-License-Identifier: BSL-1.0
#pragma once

// The opening handshake of WebSocket (RFC 6455, section 4) in both roles: what a server demands of a request and
// answers, what a client asks and demands of the answer. It reads heads that an HTTP parser has read already, so it is
// written over the head's type. A request head has
//   method, minor           the method's name; the version's second digit
//   find(name)              the value of the first field of that name, empty when there is none
//   count(name)             how many fields of that name there are
//   has_token(name, token)  whether the lists in all fields of that name hold the token, in any case
//   headers                 all fields in order, each with name and value
// and an answer's head has `status` in place of `method` and `minor`. `http1::head` is a request's.

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/error.hpp"
#include "hailwire/proto/http_fields.hpp"

namespace hailwire::proto {

/// SHA-1 (FIPS 180-4, section 6.1): 20 bytes. The handshake asks for it, where it proves only that the server speaks
/// WebSocket (RFC 6455, section 10.8); it must not guard anything.
inline std::array<unsigned char, 20> sha1(std::string_view bytes) {
  std::uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  auto block = [&](const unsigned char* p) {
    std::uint32_t w[80];
    for (std::size_t t = 0; t < 16; ++t, p += 4) {
      w[t] = std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
    }
    for (std::size_t t = 16; t < 80; ++t) w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    auto [a, b, c, d, e] = h;
    for (std::size_t t = 0; t < 80; ++t) {
      std::uint32_t f = t < 20   ? (b & c) ^ (~b & d)
                        : t < 40 ? b ^ c ^ d
                        : t < 60 ? (b & c) ^ (b & d) ^ (c & d)
                                 : b ^ c ^ d;
      std::uint32_t k = t < 20 ? 0x5A827999u : t < 40 ? 0x6ED9EBA1u : t < 60 ? 0x8F1BBCDCu : 0xCA62C1D6u;
      std::uint32_t sum = std::rotl(a, 5) + f + e + k + w[t];
      e = d, d = c, c = std::rotl(b, 30), b = a, a = sum;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
  };

  std::size_t whole = bytes.size() / 64 * 64;
  for (std::size_t i = 0; i < whole; i += 64) block(reinterpret_cast<const unsigned char*>(bytes.data()) + i);
  // Padding (section 5.1.1): a one bit, zeros, the length in bits.
  unsigned char last[128] = {};
  std::size_t rest = bytes.size() - whole, size = rest < 56 ? 64 : 128;
  if (rest) std::memcpy(last, bytes.data() + whole, rest);
  last[rest] = 0x80;
  std::uint64_t bits = std::uint64_t{bytes.size()} * 8;
  for (std::size_t i = 0; i < 8; ++i) last[size - 1 - i] = static_cast<unsigned char>(bits >> (8 * i));
  for (std::size_t i = 0; i < size; i += 64) block(last + i);

  std::array<unsigned char, 20> out;
  for (std::size_t i = 0; i < 20; ++i) out[i] = static_cast<unsigned char>(h[i / 4] >> (24 - 8 * (i % 4)));
  return out;
}

/// What `Sec-WebSocket-Accept` must say to this `Sec-WebSocket-Key` (RFC 6455, section 4.2.2, item 5.4).
inline std::string accept_key(std::string_view sec_websocket_key) {
  std::string text(sec_websocket_key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  auto digest = sha1(text);
  std::string out;
  append_base64(out, {reinterpret_cast<const char*>(digest.data()), digest.size()});
  return out;
}

/// A parameter of an extension. `value` is empty without one (`has_value` tells; a value itself is never empty).
struct ws_extension_param {
  std::string name, value;
  bool has_value = false;
};

/// An extension as one side offers or accepts it.
struct ws_extension {
  std::string name;
  hailwire::detail::vector<ws_extension_param> params;
};

/// The most subprotocols, extensions, or parameters of one extension that are read: browsers send one or two, and a
/// bound keeps the search for doubles cheap.
inline constexpr std::size_t max_offer_elements = 64;

namespace ws_detail {

/// Calls `f(value)` for every field called `name`, until it returns false. Returns whether it never did.
template <class Head, class F>
bool each_value(const Head& head, std::string_view name, F&& f) {
  for (const auto& field : head.headers)
    if (iequals(field.name, name) && !f(std::string_view(field.value))) return false;
  return true;
}

/// Reads a list of tokens, no two of them alike. Empty elements count for nothing (RFC 9110, section 5.6.1.2).
inline bool read_tokens(std::string_view list, std::vector<std::string>& out) {
  for (;;) {
    auto comma = list.find(',');
    auto token = trim(list.substr(0, comma));
    if (!token.empty()) {
      if (!http1::is_token(token) || out.size() == max_offer_elements) return false;
      for (const auto& other : out)
        if (other == token) return false;
      out.emplace_back(token);
    }
    if (comma == list.npos) return true;
    list.remove_prefix(comma + 1);
  }
}

/// Reads the value of one Sec-WebSocket-Extensions field (RFC 6455, section 9.1). A quoted value must be a token once
/// its quoting is undone.
inline bool read_extensions(std::string_view in, hailwire::detail::vector<ws_extension>& out) {
  auto skip = [&] {
    while (!in.empty() && (in[0] == ' ' || in[0] == '\t')) in.remove_prefix(1);
  };
  auto take = [&](char c) { return skip(), !in.empty() && in[0] == c ? in.remove_prefix(1), true : false; };
  auto token = [&](std::string& to) {
    skip();
    std::size_t n = 0;
    while (n < in.size() && http1::is_token(in.substr(n, 1))) ++n;
    to = in.substr(0, n);
    in.remove_prefix(n);
    return n > 0;
  };
  auto quoted = [&](std::string& to) {
    while (!in.empty() && in[0] != '"') {
      if (in[0] == '\\') in.remove_prefix(1);
      if (!http1::is_token(in.substr(0, 1))) return false;
      to += in[0];
      in.remove_prefix(1);
    }
    return take('"') && !to.empty();
  };
  for (;;) {
    while (take(',')) {
    }
    if (in.empty()) return true;
    if (out.size() == max_offer_elements) return false;
    auto& extension = out.emplace_back();
    if (!token(extension.name)) return false;
    while (take(';')) {
      if (extension.params.size() == max_offer_elements) return false;
      auto& param = extension.params.emplace_back();
      if (!token(param.name)) return false;
      if (take('=')) {
        param.has_value = true;
        if (take('"') ? !quoted(param.value) : !token(param.value)) return false;
      }
    }
    if (skip(), !in.empty() && in[0] != ',') return false;
  }
}

}  // namespace ws_detail

/// What a client offers in its request.
struct ws_offer {
  std::string key;                                    ///< for `append_switching_protocols`
  std::vector<std::string> subprotocols;              ///< in the client's order of preference, no two alike
  hailwire::detail::vector<ws_extension> extensions;  ///< in the client's order of preference
};

/// Checks a server's request for the opening handshake (RFC 6455, section 4.2.1). Failures: `method_not_allowed` when
/// it is not a GET; `upgrade_required` when it does not ask for WebSocket, or for another version than 13: the answer
/// must then carry `Sec-WebSocket-Version: 13` (section 4.4) and `Upgrade: websocket`; `bad_request` for everything
/// else that is missing, doubled or malformed. Host, Origin and the target are for others to judge.
template <class Head>
result<ws_offer> read_upgrade(const Head& head) {
  if (head.method != "GET") return {errc::method_not_allowed, "a WebSocket handshake is a GET"};
  if (head.minor < 1) return {errc::bad_request, "a WebSocket handshake needs HTTP/1.1"};
  if (!head.has_token("Upgrade", "websocket")) return {errc::upgrade_required, "Upgrade does not name websocket"};
  if (!head.has_token("Connection", "upgrade")) return {errc::bad_request, "Connection does not name Upgrade"};
  // Behind the head come frames. Whoever sees a body there sees another conversation (RFC 9112, section 11.2).
  if (head.count("Transfer-Encoding") || (head.count("Content-Length") && head.find("Content-Length") != "0")) {
    return {errc::bad_request, "a WebSocket handshake has no body"};
  }
  if (head.count("Sec-WebSocket-Version") != 1)
    return {errc::bad_request, "Sec-WebSocket-Version must stand there once"};
  if (trim(head.find("Sec-WebSocket-Version")) != "13")
    return {errc::upgrade_required, "the WebSocket version is not 13"};
  if (head.count("Sec-WebSocket-Key") != 1) return {errc::bad_request, "Sec-WebSocket-Key must stand there once"};
  ws_offer offer;
  offer.key = trim(head.find("Sec-WebSocket-Key"));
  auto nonce = offer.key.size() == 24 ? decode_base64(offer.key) : std::nullopt;
  if (!nonce || nonce->size() != 16) return {errc::bad_request, "Sec-WebSocket-Key is not 16 bytes in base64"};

  auto tokens = [&](std::string_view list) { return ws_detail::read_tokens(list, offer.subprotocols); };
  if (!ws_detail::each_value(head, "Sec-WebSocket-Protocol", tokens) ||
      (head.count("Sec-WebSocket-Protocol") && offer.subprotocols.empty())) {
    return {errc::bad_request, "Sec-WebSocket-Protocol is not a list of different tokens"};
  }
  auto extensions = [&](std::string_view list) { return ws_detail::read_extensions(list, offer.extensions); };
  // RFC 6455, section 9.1 has at least one in the list; but a recipient takes empty elements for nothing (RFC 9110,
  // section 5.6.1.2), and clients that have none to offer do send an empty one (Python's websockets).
  if (!ws_detail::each_value(head, "Sec-WebSocket-Extensions", extensions))
    return {errc::bad_request, "Sec-WebSocket-Extensions is malformed"};
  return offer;
}

/// Appends the answer that accepts a handshake (RFC 6455, section 4.2.2). `subprotocol` is one of the offered, or
/// empty; `extensions` is the value of Sec-WebSocket-Extensions, or empty; `extra_headers` are whole lines, each with
/// its CRLF.
inline void append_switching_protocols(std::string& out, std::string_view key, std::string_view subprotocol = {},
                                       std::string_view extensions = {}, std::string_view extra_headers = {}) {
  out += "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
  out += accept_key(key);
  if (!subprotocol.empty()) (out += "\r\nSec-WebSocket-Protocol: ") += subprotocol;
  if (!extensions.empty()) (out += "\r\nSec-WebSocket-Extensions: ") += extensions;
  (out += "\r\n") += extra_headers;
  out += "\r\n";
}

/// A client's key from 16 random bytes, fresh for each connection (RFC 6455, section 4.1).
inline std::string handshake_key(std::span<const unsigned char, 16> nonce) {
  std::string out;
  append_base64(out, {reinterpret_cast<const char*>(nonce.data()), nonce.size()});
  return out;
}

/// Appends a client's opening handshake (RFC 6455, section 4.1). `subprotocols` and `extensions` are values of their
/// fields, or empty; `extra_headers` are whole lines, each with its CRLF. All must be fit for a request head already.
inline void append_upgrade_request(std::string& out, std::string_view target, std::string_view host,
                                   std::string_view key, std::string_view subprotocols = {},
                                   std::string_view extensions = {}, std::string_view extra_headers = {}) {
  ((((out += "GET ") += target) += " HTTP/1.1\r\nHost: ") += host);
  (out += "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ") += key;
  if (!subprotocols.empty()) (out += "\r\nSec-WebSocket-Protocol: ") += subprotocols;
  if (!extensions.empty()) (out += "\r\nSec-WebSocket-Extensions: ") += extensions;
  (out += "\r\n") += extra_headers;
  out += "\r\n";
}

/// What a server chose. A client must fail the connection when it did not offer one of `extensions` (RFC 6455, section
/// 4.1, item 5): that needs each extension's own rules.
struct ws_answer {
  std::string subprotocol;  ///< empty when the server chose none
  hailwire::detail::vector<ws_extension> extensions;
};

/// Checks a server's answer to a client's handshake (RFC 6455, section 4.1). `key` and `subprotocols` are what the
/// client sent. Failures: for an answer other than 101 the error that its status stands for, `internal` for one that
/// stands for none; `bad_request` for a 101 that breaks a rule: the connection is to be closed.
template <class Head>
result<ws_answer> read_switching_protocols(const Head& head, std::string_view key, std::string_view subprotocols = {}) {
  if (head.status != 101) {
    for (auto code = errc::bad_request; code <= errc::http_version;
         code = static_cast<errc>(static_cast<int>(code) + 1))
      if (http_status(code) == head.status) return {code, "the server refused the handshake"};
    return {errc::internal, "the server answered the handshake with status " + std::to_string(head.status)};
  }
  if (head.count("Upgrade") != 1 || !iequals(trim(head.find("Upgrade")), "websocket")) {
    return {errc::bad_request, "the answer does not switch to websocket"};
  }
  if (!head.has_token("Connection", "upgrade"))
    return {errc::bad_request, "the answer's Connection does not name Upgrade"};
  if (head.count("Sec-WebSocket-Accept") != 1 || trim(head.find("Sec-WebSocket-Accept")) != accept_key(key)) {
    return {errc::bad_request, "Sec-WebSocket-Accept does not fit the key"};
  }
  ws_answer answer;
  if (head.count("Sec-WebSocket-Protocol")) {
    std::vector<std::string> offered;
    ws_detail::read_tokens(subprotocols, offered);
    answer.subprotocol = trim(head.find("Sec-WebSocket-Protocol"));
    bool known = false;
    for (const auto& one : offered) known = known || one == answer.subprotocol;
    if (!known || head.count("Sec-WebSocket-Protocol") != 1) {
      return {errc::bad_request, "the server chose a subprotocol that was not offered"};
    }
  }
  auto extensions = [&](std::string_view list) { return ws_detail::read_extensions(list, answer.extensions); };
  if (!ws_detail::each_value(head, "Sec-WebSocket-Extensions", extensions) ||
      (head.count("Sec-WebSocket-Extensions") && answer.extensions.empty())) {
    return {errc::bad_request, "Sec-WebSocket-Extensions is malformed"};
  }
  return answer;
}

}  // namespace hailwire::proto
