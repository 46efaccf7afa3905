// SPDX-License-Identifier: BSL-1.0
#pragma once

// The letters that every codec shares: UTF-8, numbers, hexadecimal, base64, form data. Nothing here allocates more than
// its output, and every function takes any bytes.

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/requirements.hpp"
#include "hailwire/detail/base/simd.hpp"

namespace hailwire::proto {

/// A letter of epochs, session ids and base64url: `A–Z a–z 0–9 _ -`.
constexpr bool is_token_letter(char c) noexcept {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

constexpr char to_lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

/// ASCII letters compare without case, everything else by bytes.
inline bool iequals(std::string_view a, std::string_view b) noexcept {
  // Nearly all that differ do so in their size or in the first letter, which a bit tells.
  if (a.size() != b.size() || (!a.empty() && (a[0] | 0x20) != (b[0] | 0x20))) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (to_lower(a[i]) != to_lower(b[i])) return false;
  return true;
}

/// Spaces and tabs at both ends removed: the optional white space of RFC 9110, section 5.6.3.
constexpr std::string_view trim(std::string_view s) noexcept {
  const char *from = s.data(), *to = from + s.size();
  while (from != to && (*from == ' ' || *from == '\t')) ++from;
  while (from != to && (to[-1] == ' ' || to[-1] == '\t')) --to;
  return {from, static_cast<std::size_t>(to - from)};
}

inline void append_decimal(std::string& out, std::uint64_t n) {
  char digits[20];
  auto end = std::to_chars(digits, digits + sizeof digits, n).ptr;
  out.append(digits, end);
}

/// How many digits `append_decimal` writes.
constexpr std::size_t decimal_size(std::uint64_t n) noexcept {
  std::size_t digits = 1;
  for (; n >= 10; n /= 10) ++digits;
  return digits;
}

/// Digits only: no sign, no white space, nothing behind; empty when over `max`. A leading zero is accepted only alone.
inline std::optional<std::uint64_t> parse_decimal(std::string_view s, std::uint64_t max = UINT64_MAX) noexcept {
  if (s.empty() || (s.size() > 1 && s[0] == '0')) return {};
  for (char c : s)
    if (c < '0' || c > '9') return {};
  std::uint64_t n = 0;
  auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), n);
  if (ec != std::errc() || end != s.data() + s.size() || n > max) return {};
  return n;
}

/// The size of the UTF-8 character of several bytes that [p, end) begins with: 2–4, or 0 when it begins with none or
/// only a part of one. RFC 3629, section 4. Precondition: p != end.
inline std::size_t multibyte_size(const char* p, const char* end) noexcept {
  auto left = static_cast<std::size_t>(end - p);
  auto at = [p](std::size_t i) { return static_cast<unsigned char>(p[i]); };
  auto follows = [&](std::size_t i) { return (at(i) & 0xC0) == 0x80; };
  unsigned first = at(0);
  if (first < 0xC2) return 0;
  if (first < 0xE0) return left >= 2 && follows(1) ? 2 : 0;
  if (first < 0xF0) {
    if (left < 3 || !follows(1) || !follows(2)) return 0;
    if (first == 0xE0 && at(1) < 0xA0) return 0;  // a shorter form exists
    if (first == 0xED && at(1) > 0x9F) return 0;  // surrogates
    return 3;
  }
  if (first > 0xF4 || left < 4 || !follows(1) || !follows(2) || !follows(3)) return 0;
  if (first == 0xF0 && at(1) < 0x90) return 0;
  if (first == 0xF4 && at(1) > 0x8F) return 0;  // over U+10FFFF
  return 4;
}

/// UTF-8 (RFC 3629) checked as it arrives, failed at the first byte that no valid text can have at that place: overlong
/// forms, surrogates and values over U+10FFFF are refused at the byte that shows them.
class utf8_checker {
 public:
  /// Takes the next bytes; false from the first bad byte on.
  bool feed(std::string_view bytes) noexcept {
    const char* p = bytes.data();
    const char* end = p + bytes.size();
    while (p != end) {
      if (left_ == 0) {
        // Text is mostly ASCII: eight bytes at a time.
        while (end - p >= 8) {
          std::uint64_t word;
          std::memcpy(&word, p, 8);
          if (word & 0x8080808080808080u) break;
          p += 8;
        }
        if (p == end) break;
        // Other scripts come in runs: whole characters first, byte by byte only what is cut off or bad.
        if (std::size_t whole = multibyte_size(p, end)) {
          p += whole;
          while (p != end && (whole = multibyte_size(p, end)) != 0) p += whole;
          continue;
        }
        auto c = static_cast<unsigned char>(*p++);
        if (c < 0x80) continue;
        low_ = 0x80, high_ = 0xBF;
        if (c >= 0xC2 && c <= 0xDF) {
          left_ = 1;
        } else if (c >= 0xE0 && c <= 0xEF) {
          left_ = 2;
          if (c == 0xE0) low_ = 0xA0;   // shorter forms exist
          if (c == 0xED) high_ = 0x9F;  // surrogates
        } else if (c >= 0xF0 && c <= 0xF4) {
          left_ = 3;
          if (c == 0xF0) low_ = 0x90;
          if (c == 0xF4) high_ = 0x8F;  // over U+10FFFF
        } else {
          return left_ = 0, bad_ = true, false;
        }
      } else {
        auto c = static_cast<unsigned char>(*p++);
        if (c < low_ || c > high_) return bad_ = true, false;
        low_ = 0x80, high_ = 0xBF;
        --left_;
      }
    }
    return !bad_;
  }
  /// Whether everything so far is a whole text: nothing bad, no character half arrived.
  bool complete() const noexcept { return !bad_ && left_ == 0; }

 private:
  std::uint8_t left_ = 0, low_ = 0x80, high_ = 0xBF;
  bool bad_ = false;
};

inline bool valid_utf8(std::string_view s) noexcept {
  const char* end = s.data() + s.size();
  const char* ascii = hailwire::detail::find_first(s.data(), end, hailwire::detail::not_ascii());
  if (ascii == end) return true;  // as most texts are
  utf8_checker check;
  return check.feed({ascii, static_cast<std::size_t>(end - ascii)}) && check.complete();
}

/// Whether two texts are the same, without the library's detour over their order.
inline bool same_bytes(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

/// UTF-8 without control characters (U+0000–1F, 7F–9F) and the line separators U+2028 and U+2029.
inline bool printable_utf8(std::string_view s) noexcept {
  std::size_t plain = 0;  // most texts are ASCII and short
  while (plain < s.size() && s[plain] >= 0x20 && s[plain] < 0x7F) ++plain;
  if (plain == s.size()) return true;
  if (!valid_utf8(s)) return false;
  for (std::size_t i = 0; i < s.size(); ++i) {
    auto c = static_cast<unsigned char>(s[i]);
    if (c < 0x20 || c == 0x7F) return false;
    if (c == 0xC2 && static_cast<unsigned char>(s[i + 1]) < 0xA0) return false;
    if (c == 0xE2 && s[i + 1] == '\x80' && (s[i + 2] == '\xA8' || s[i + 2] == '\xA9')) return false;
  }
  return true;
}

inline constexpr std::string_view base64_letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
inline constexpr std::string_view base64url_letters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 (RFC 4648, section 4), padded; with `base64url_letters` section 5 without padding.
inline void append_base64(std::string& out, std::string_view bytes, std::string_view letters = base64_letters) {
  bool pad = letters[62] == '+';
  std::size_t rest = bytes.size() % 3, before = out.size();
  out.resize(before + bytes.size() / 3 * 4 + (rest == 0 ? 0 : pad ? 4 : rest + 1), '=');
  char* to = out.data() + before;
  auto at = [&](std::size_t i) { return unsigned{static_cast<unsigned char>(bytes[i])}; };
  std::size_t i = 0;
  for (; i < bytes.size() - rest; i += 3) {
    unsigned v = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    for (int shift : {18, 12, 6, 0}) *to++ = letters[v >> shift & 63];
  }
  if (rest == 0) return;
  unsigned v = at(i) << 16 | (rest == 2 ? at(i + 1) << 8 : 0u);
  *to++ = letters[v >> 18];
  *to++ = letters[v >> 12 & 63];
  if (rest == 2) *to = letters[v >> 6 & 63];
}

namespace detail {
/// The value of each base64 letter; over 63 for what is none.
inline constexpr auto base64_values = [] {
  std::array<std::uint8_t, 256> out{};
  out.fill(0xFF);
  for (std::size_t i = 0; i < base64_letters.size(); ++i)
    out[static_cast<unsigned char>(base64_letters[i])] = static_cast<std::uint8_t>(i);
  return out;
}();
}  // namespace detail

/// Reads padded base64 strictly: no white space, no missing padding, unused bits zero. Empty when it is anything else.
inline std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4) return {};
  std::size_t pads = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out(text.size() / 4 * 3, '\0');
  char* to = out.data();
  for (std::size_t i = 0; i < text.size(); i += 4) {
    bool last = i + 4 == text.size();
    unsigned v = 0, over = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      unsigned digit = last && k >= 4 - pads ? 0 : detail::base64_values[static_cast<unsigned char>(text[i + k])];
      over |= digit;
      v = v << 6 | digit;
    }
    if (over > 63) return {};
    if (last && (v & ((1u << 8 * pads) - 1))) return {};  // the bits that nothing carries (section 3.5)
    for (int shift : {16, 8, 0}) *to++ = static_cast<char>(v >> shift & 0xFF);
  }
  out.resize(out.size() - pads);
  return out;
}

/// Reads base64url without padding (section 5) as strictly: there is one way to write it.
inline std::optional<std::string> decode_base64url(std::string_view text) {
  if (text.find_first_of("+/=") != text.npos) return {};
  std::string padded(text);
  for (char& c : padded) c = c == '-' ? '+' : c == '_' ? '/' : c;
  return decode_base64(padded.append((4 - padded.size() % 4) % 4, '='));
}

constexpr int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Decodes percent escapes (RFC 3986, section 2.1); with `form` also `+` as a space. False on a bad escape or bad
/// UTF-8.
inline bool percent_decode(std::string_view in, std::string& out, bool form) {
  auto coded = [form](auto block) {
    auto flags = block | block.is('%');  // or not ASCII
    return form ? flags | block.is('+') : flags;
  };
  if (const char* end = in.data() + in.size(); hailwire::detail::find_first(in.data(), end, coded) == end)
    return out.assign(in), true;  // as most are
  auto plain = [&](std::string_view s) {
    std::size_t n = 0;
    while (n < s.size() && s[n] != '%' && (s[n] != '+' || !form)) ++n;
    return n;
  };
  std::size_t n = plain(in);
  out.assign(in, 0, n);
  for (in.remove_prefix(n); !in.empty(); in.remove_prefix(n)) {
    if (in[0] == '+') {
      out += ' ';
      in.remove_prefix(1);
    } else {
      if (in.size() < 3 || hex_digit(in[1]) < 0 || hex_digit(in[2]) < 0) return false;
      out += static_cast<char>(hex_digit(in[1]) * 16 + hex_digit(in[2]));
      in.remove_prefix(3);
    }
    n = plain(in);
    out.append(in, 0, n);
  }
  return valid_utf8(out);
}

/// A query string as pairs of decoded names and values, in order, repeats kept.
using query_pairs = std::vector<std::pair<std::string, std::string>>;

/// Reads a query string as form data (`application/x-www-form-urlencoded`) into `out`, in place of what was there:
/// pairs joined by `&`, `+` is a space. False on a bad escape or bad UTF-8. Empty pairs (`a=1&&b=2`) are skipped; a
/// name without `=` has an empty value.
inline bool parse_query(std::string_view query, query_pairs& out) {
  out.clear();
  while (!query.empty()) {
    auto pair = query.substr(0, query.find('&'));
    query.remove_prefix(pair.size() == query.size() ? pair.size() : pair.size() + 1);
    if (pair.empty()) continue;
    auto equals = pair.find('=');
    auto& [name, value] = out.emplace_back();
    if (!percent_decode(pair.substr(0, equals), name, true)) return false;
    if (equals != pair.npos && !percent_decode(pair.substr(equals + 1), value, true)) return false;
  }
  return true;
}
/// The same; empty where that is false.
inline std::optional<query_pairs> parse_query(std::string_view query) {
  std::optional<query_pairs> out(std::in_place);
  if (!parse_query(query, *out)) out.reset();
  return out;
}

}  // namespace hailwire::proto
