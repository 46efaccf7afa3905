// SPDX-License-Identifier: BSL-1.0
#pragma once

// Where a key lives in Redis Cluster, and how a channel's keys are named.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/requirements.hpp"
#include "hailwire/detail/base/text.hpp"

namespace hailwire::detail {

inline constexpr unsigned redis_slots = 16384;

/// The slot of a key: CRC-16/XMODEM of it, modulo 16384; of what stands between the first `{` and the first `}` behind
/// it where that is not empty (Redis Cluster specification, "Key distribution model" and "Hash tags").
inline unsigned redis_slot(std::string_view key) noexcept {
  if (const auto open = key.find('{'); open != key.npos)
    if (const auto close = key.find('}', open + 1); close != key.npos && close > open + 1)
      key = key.substr(open + 1, close - open - 1);
  unsigned crc = 0;
  for (const char c : key) {
    crc ^= static_cast<unsigned>(static_cast<unsigned char>(c)) << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021u : 0u)) & 0xFFFF;
  }
  return crc % redis_slots;
}

/// The least number that is in the slot, as text: a hash tag for what belongs to a slot as a whole.
inline const std::string& redis_slot_tag(unsigned slot) {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> tags(redis_slots);
    unsigned missing = redis_slots;
    for (std::uint64_t n = 0; missing; ++n) {  // 200,000 or so: a few milliseconds, once
      auto tag = std::to_string(n);
      auto& place = tags[redis_slot(tag)];
      if (!place.empty()) continue;
      place = std::move(tag);
      --missing;
    }
    return tags;
  }();
  return all[slot % redis_slots];
}

/// Appends `text` with `%XX` (upper case) in place of `%` and of what `special` names.
template <class Special>
void append_percent(std::string& out, std::string_view text, Special special) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c != '%' && !special(c)) {
      out += c;
      continue;
    }
    constexpr char digits[] = "0123456789ABCDEF";
    out += '%';
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
}

/// Reads what `append_percent` has made. False for an escape that is none.
inline bool read_percent(std::string_view text, std::string& out) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = digit(text[i + 1]), low = digit(text[i + 2]);
    if (high < 0 || low < 0) return false;
    out += static_cast<char>(high << 4 | low);
    i += 2;
  }
  return true;
}

/// The names of a channel's keys. They share a hash tag, `{channel}`, in which `{`, `}` and `%` are escaped, so that no
/// channel's name can end it early.
struct redis_keys {
  std::string meta;    ///< a hash; also the name under which its messages are announced
  std::string stream;  ///< a Stream

  redis_keys(std::string_view prefix, std::string_view channel) {
    meta.reserve(prefix.size() + channel.size() + 8);
    meta.append(prefix).append(":{");
    append_percent(meta, channel, [](char c) { return c == '{' || c == '}'; });
    meta += '}';
    stream = meta + ":log";
  }
};

/// The channel whose messages are announced under `name`; false where that is none of this prefix.
inline bool channel_of(std::string_view prefix, std::string_view name, std::string& channel) {
  if (name.size() < prefix.size() + 4 || !name.starts_with(prefix) || name.substr(prefix.size(), 2) != ":{" ||
      name.back() != '}')
    return false;
  name.remove_prefix(prefix.size() + 2);
  name.remove_suffix(1);
  return read_percent(name, channel);
}

}  // namespace hailwire::detail
