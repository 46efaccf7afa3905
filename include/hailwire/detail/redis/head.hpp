// SPDX-License-Identifier: BSL-1.0
#pragma once

// A message as it stands in a Stream (script.hpp has the layout).

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/redis/slot.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/ws_handshake.hpp"

namespace hailwire::detail {

/// SHA-1 in hexadecimal digits, by which EVALSHA names a script.
inline std::string redis_digest(std::string_view text) {
  std::string out;
  for (const unsigned char byte : proto::sha1(text)) {
    constexpr char digits[] = "0123456789abcdef";
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

inline char redis_kind(payload::kind k) noexcept {
  return k == payload::kind::json ? 'j' : k == payload::kind::text ? 't' : 'b';
}

/// The media type, unless it is the one that the kind implies.
inline std::string_view redis_media(const payload& p) noexcept {
  const auto own = p.type() == payload::kind::json   ? std::string_view("application/json")
                   : p.type() == payload::kind::text ? std::string_view("text/plain;charset=utf-8")
                                                     : std::string_view("application/octet-stream");
  return p.content_type() == own ? std::string_view() : p.content_type();
}

/// What stands for a payload beside its key: SHA-1 of its kind, its media type as in its head, a line break and its
/// bytes, so that any program can make it. Who makes two payloads with one digest deceives nobody but himself: keys are
/// a user's own.
inline std::string redis_fingerprint(const payload& p) {
  std::string text;
  text.reserve(p.bytes().size() + 64);
  text += redis_kind(p.type());
  text.append(redis_media(p)).append("\n").append(p.bytes());
  return redis_digest(text);
}

/// The head of a message in a Stream.
inline std::string redis_head(const draft& d) {
  const auto special = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7F; };
  std::string out = std::to_string(d.at);
  out += ' ';
  out += redis_kind(d.data.type());
  for (std::string_view word : {std::string_view(d.from), std::string_view(d.type), redis_media(d.data)}) {
    out += ' ';
    append_percent(out, word, special);
  }
  return out;
}

/// Reads a head and a payload; all but the offset. False for what is no head.
inline bool read_redis_message(std::string_view head, std::string_view data, message& m) {
  std::string_view words[5];
  for (std::size_t i = 0; i < 5; ++i) {
    const auto end = std::min(head.find(' '), head.size());
    words[i] = head.substr(0, end);
    if (i < 4 && end == head.size()) return false;
    head.remove_prefix(std::min(end + 1, head.size()));
  }
  const auto [end, ec] = std::from_chars(words[0].data(), words[0].data() + words[0].size(), m.at);
  std::string media;
  if (ec != std::errc() || end != words[0].data() + words[0].size() || words[1].size() != 1 ||
      !read_percent(words[2], m.from) || !read_percent(words[3], m.type) || !read_percent(words[4], media))
    return false;
  switch (words[1][0]) {
    case 'j':
      m.data = payload::json(data);
      return true;
    case 't':
      m.data = payload::text(data, media);
      return true;
    case 'b':
      m.data = payload::binary(data, media);
      return true;
    default:
      return false;
  }
}

}  // namespace hailwire::detail
