// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/ws_handshake.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE std::array<unsigned char, 20> sha1(std::string_view bytes) {
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

HAILWIRE_INLINE std::string accept_key(std::string_view sec_websocket_key) {
  std::string text(sec_websocket_key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  auto digest = sha1(text);
  std::string out;
  append_base64(out, {reinterpret_cast<const char*>(digest.data()), digest.size()});
  return out;
}

}  // namespace hailwire::proto

namespace hailwire::proto::ws_detail {

HAILWIRE_INLINE bool read_tokens(std::string_view list, std::vector<std::string>& out) {
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

HAILWIRE_INLINE bool read_extensions(std::string_view in, hailwire::detail::vector<ws_extension>& out) {
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

}  // namespace hailwire::proto::ws_detail

namespace hailwire::proto {

HAILWIRE_INLINE void append_switching_protocols(std::string& out, std::string_view key, std::string_view subprotocol,
                                                std::string_view extensions, std::string_view extra_headers) {
  out += "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
  out += accept_key(key);
  if (!subprotocol.empty()) (out += "\r\nSec-WebSocket-Protocol: ") += subprotocol;
  if (!extensions.empty()) (out += "\r\nSec-WebSocket-Extensions: ") += extensions;
  (out += "\r\n") += extra_headers;
  out += "\r\n";
}

HAILWIRE_INLINE std::string handshake_key(std::span<const unsigned char, 16> nonce) {
  std::string out;
  append_base64(out, {reinterpret_cast<const char*>(nonce.data()), nonce.size()});
  return out;
}

HAILWIRE_INLINE void append_upgrade_request(std::string& out, std::string_view target, std::string_view host,
                                            std::string_view key, std::string_view subprotocols,
                                            std::string_view extensions, std::string_view extra_headers) {
  ((((out += "GET ") += target) += " HTTP/1.1\r\nHost: ") += host);
  (out += "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ") += key;
  if (!subprotocols.empty()) (out += "\r\nSec-WebSocket-Protocol: ") += subprotocols;
  if (!extensions.empty()) (out += "\r\nSec-WebSocket-Extensions: ") += extensions;
  (out += "\r\n") += extra_headers;
  out += "\r\n";
}

}  // namespace hailwire::proto
