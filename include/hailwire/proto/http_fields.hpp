// SPDX-License-Identifier: BSL-1.0
#pragma once

// What stands in HTTP header fields (RFC 9110): tokens, hosts, lists, and the few fields whose content hailwire itself
// reads. All functions take any bytes, allocate nothing unless they return a container, and are pure.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "hailwire/detail/base/simd.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"

namespace hailwire::proto::http1 {

namespace detail {

enum letter : std::uint8_t { token = 1, reg_name = 2 };

// RFC 9110, section 5.6.2 (token); RFC 3986, sections 2.2, 2.3 and 3.2.2 (unreserved and sub-delims make a reg-name).
inline constexpr auto letters = [] {
  std::array<std::uint8_t, 256> table{};
  auto mark = [&](std::string_view chars, letter what) {
    for (char c : chars) table[static_cast<unsigned char>(c)] |= what;
  };
  constexpr std::string_view alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  mark(alphanumeric, token);
  mark("!#$%&'*+-.^_`|~", token);
  mark(alphanumeric, reg_name);
  mark("-._~!$&'()*+,;=", reg_name);
  return table;
}();

constexpr bool is(letter what, char c) noexcept { return letters[static_cast<unsigned char>(c)] & what; }

/// A control byte other than HTAB: what may stand in no line (RFC 9110, section 5.5). Bytes from 0x80 on are opaque.
constexpr bool is_control(char c) noexcept {
  auto u = static_cast<unsigned char>(c);
  return (u < 0x20 && u != '\t') || u == 0x7F;
}

/// Flags what `is_control` says of each byte.
struct controls {
  template <class Block>
  Block operator()(Block b) const noexcept {
    return (b.below(0x20) & ~b.is('\t')) | b.is(0x7F);
  }
};

/// Flags white space.
struct blanks {
  template <class Block>
  Block operator()(Block b) const noexcept {
    return b.is(' ') | b.is('\t');
  }
};

/// Flags what may not stand in a target, which is any visible ASCII except `#`: browsers send `|`, `{` and `"`
/// unescaped in queries, but nobody sends a fragment.
struct not_target {
  template <class Block>
  Block operator()(Block b) const noexcept {
    return ~b.between(0x21, 0x7E) | b.is('#');
  }
};

/// Flags all but letters, digits, `-` and `.`, which are both token and reg-name, and of which nearly every name is
/// made.
struct not_name {
  template <class Block>
  Block operator()(Block b) const noexcept {
    return ~(b.with_bits(0x20).between('a', 'z') | b.between('0', '9') | b.between('-', '.'));
  }
};

/// The index of the first control byte in [from, to), or `to`.
inline std::size_t find_control(std::string_view s, std::size_t from, std::size_t to) noexcept {
  return static_cast<std::size_t>(hailwire::detail::find_first(s.data() + from, s.data() + to, controls()) - s.data());
}

/// How many bytes of token or reg-name `s` begins with: in blocks, then what is rarer by the table.
std::size_t name_size(letter what, std::string_view s) noexcept;

bool is_ipv4(std::string_view s) noexcept;

/// IPv6address of RFC 3986, section 3.2.2: eight groups, one run of them replaced by `::`, the last two as IPv4.
bool is_ipv6(std::string_view s) noexcept;

}  // namespace detail

/// Whether `s` is a token (RFC 9110, section 5.6.2), such as a method or a header name.
inline bool is_token(std::string_view s) noexcept {
  return !s.empty() && detail::name_size(detail::token, s) == s.size();
}

/// Whether `s` may be a header's value: no control bytes but HTAB. A value that fails would split the head it is put
/// in.
inline bool is_value(std::string_view s) noexcept { return detail::find_control(s, 0, s.size()) == s.size(); }

/// Whether a header's name, which is a token, is `lower` in any case; that is lower case, letters and `-`.
template <std::size_t n>
bool is_named(std::string_view token, const char (&lower)[n]) noexcept {
  // In a token only the two cases of a letter become that letter by this bit, and only `-` becomes `-`.
  static_assert(n > 4);
  constexpr std::size_t size = n - 1;
  if (token.size() != size) return false;
  using word = std::conditional_t<(size >= 8), std::uint64_t, std::uint32_t>;
  for (std::size_t i = 0;; i = std::min(i + sizeof(word), size - sizeof(word))) {
    word a, b;
    std::memcpy(&a, token.data() + i, sizeof a);
    std::memcpy(&b, lower + i, sizeof b);
    if ((a | static_cast<word>(0x2020202020202020u)) != b) return false;
    if (i == size - sizeof(word)) return true;
  }
}

/// A host with its port, if one was written. Views into what was parsed; an IPv6 address keeps its brackets.
struct authority {
  std::string_view host;
  std::optional<std::uint16_t> port;
};

/// Reads `host[:port]` as a Host header or an absolute target carries it (RFC 9110, section 7.2; RFC 3986, section
/// 3.2.2): a name, an IPv4 or a bracketed IPv6 address; no user name (RFC 9110, section 4.2.4), no empty host (4.2.1).
/// IPvFuture is refused: no such address exists. An empty port is no port.
std::optional<authority> parse_authority(std::string_view s) noexcept;

/// Takes the next element off a comma-separated list (RFC 9110, section 5.6.1), trimmed; commas in quoted strings do
/// not separate. An empty element is given as such; the list is at its end when `rest.data()` is null.
std::string_view next_element(std::string_view& rest, char separator = ',') noexcept;

/// A header line: its name as sent, its value without white space at its ends.
struct header {
  std::string_view name, value;
};

/// The header lines of a head, in order. Views into the buffer that they were parsed from.
struct fields {
  hailwire::detail::vector<header> headers;

  /// The first value of that name, in any case; `data()` is null when there is none.
  std::string_view find(std::string_view name) const noexcept;

  std::size_t count(std::string_view name) const noexcept;

  /// Calls `f(element)` for each non-empty element of the comma lists in all lines of that name, in order, until it
  /// returns true. Whether it did.
  template <class F>
  bool any_element(std::string_view name, F f) const {
    for (auto& h : headers) {
      if (!iequals(h.name, name)) continue;
      for (auto rest = h.value; rest.data();) {
        auto element = next_element(rest);
        if (!element.empty() && f(element)) return true;
      }
    }
    return false;
  }

  /// Whether an element of the comma lists in all lines of that name is `token`, in any case.
  bool has_token(std::string_view name, std::string_view token) const noexcept {
    return any_element(name, [&](std::string_view element) { return iequals(element, token); });
  }
};

/// A request head. All views point into the buffer it was parsed from (or are literals) and die with it.
struct head : fields {
  std::string_view method;  ///< a token, case kept: methods are case-sensitive (RFC 9110, section 9.1)
  std::string_view target;  ///< as sent
  std::string_view path;    ///< raw, before percent decoding: begins with `/`, or is `*` (OPTIONS only)
  std::string_view query;   ///< raw, without its `?`
  int minor = 1;            ///< of HTTP/1.minor: 0 or 1; a later one is treated as 1 (RFC 9110, section 2.5)
  std::string_view host;    ///< the absolute target's authority, else Host; empty only when HTTP/1.0 sent neither
  std::optional<std::uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;        ///< the client wants the connection kept (RFC 9112, section 9.3)
  bool expect_continue = false;  ///< it waits for `100 Continue` before it sends the body

  /// Whether bytes of a body follow. Without a length there is none (RFC 9112, section 6.3, rule 7).
  bool has_body() const noexcept { return chunked || content_length.value_or(0) > 0; }

  /// Empty again, but for the memory of `headers`.
  void clear() noexcept;
};

/// Whether a page of `origin` (an Origin header: RFC 6454, section 7) lives on `host` (a Host header): the same name
/// without case and the same port, where none written means the default of the origin's scheme. Nothing is known here
/// of how the request came, so the scheme itself is not compared. `null` and anything but http and https is nobody's.
bool same_origin(std::string_view origin, std::string_view host) noexcept;

/// Whether `Accept` names `media_type` itself, in any case and with any parameters, with q above 0 (RFC 9110,
/// sections 12.4.2 and 12.5.1). Wildcards do not count; an element whose q is malformed does not either.
bool accepts_literally(const head& h, std::string_view media_type);

/// The seconds of `Prefer: wait=N` (RFC 7240, section 4.3): of the first `wait` there is (section 2); empty when that
/// is no number. One over 2^31 is 2^31 (RFC 9111, section 1.2.2).
std::optional<std::uint64_t> prefer_wait(const head& h);

/// Calls `f(tag)` for the entity tags of `If-None-Match` without quotes and weak prefix (RFC 9110, sections 8.8.3
/// and 13.1.2) until it returns true; whether it did. A comma inside the quotes belongs to the tag. `*` is not a tag.
/// What follows something malformed in a line is not read.
template <class F>
bool any_entity_tag(const head& h, F f) {
  for (auto& line : h.headers) {
    if (!is_named(line.name, "if-none-match")) continue;
    for (auto rest = line.value; !rest.empty();) {
      if (rest[0] == ',') {
        rest = trim(rest.substr(1));
        continue;
      }
      if (rest.substr(0, 2) == "W/") rest.remove_prefix(2);
      auto end = rest.empty() || rest[0] != '"' ? rest.npos : rest.find('"', 1);
      if (end == rest.npos) break;
      auto tag = rest.substr(1, end - 1);
      const char* tag_end = tag.data() + tag.size();
      if (hailwire::detail::find_first(tag.data(), tag_end, detail::blanks()) != tag_end) break;
      rest = trim(rest.substr(end + 1));
      if (!rest.empty() && rest[0] != ',') break;
      if (f(tag)) return true;
    }
  }
  return false;
}

/// The reason phrase of `status` (RFC 9110, section 15; RFC 6585); empty for one that is not in use here.
std::string_view reason_phrase(int status) noexcept;

}  // namespace hailwire::proto::http1

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/http_fields.ipp"
#endif
