// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/json_scanner.hpp"

namespace hailwire::proto::json::detail {

HAILWIRE_INLINE bool hex4(const char* p, unsigned& out) noexcept {
  out = 0;
  for (int i = 0; i < 4; ++i) {
    int digit = hex_digit(p[i]);
    if (digit < 0) return false;
    out = out << 4 | static_cast<unsigned>(digit);
  }
  return true;
}

HAILWIRE_INLINE scanner::scanner(std::string_view text, const limits& bounds) noexcept
    : begin_(text.data()), p_(begin_), end_(begin_ + text.size()), depth_limit_(std::min(bounds.depth, max_depth)) {}

HAILWIRE_INLINE bool scanner::any(value& out) noexcept {
  const char* p = p_;
  const std::size_t floor = depth_;
  bool object = false;  // whether the innermost of what is open within the value is one
  std::string_view ignored;
  out.type = p == end_ ? kind::null : kind_of(*p);
  for (;;) {
    if (p == end_) return moved(refuse(p, "it ends where a value must stand"));
    if (*p == '"') {
      p = string_from(p);
    } else if (*p == '{' || *p == '[') {
      object = *p == '{';
      if (depth_ == depth_limit_) return moved(refuse(p, too_deep));
      open(object);
      p = behind_space(p + 1);
      if (p == end_ || *p != (object ? '}' : ']')) {
        if (object && !(p = name_from(p, ignored))) return false;
        continue;
      }
      object = close();
      ++p;
    } else {
      p = scalar_from(p);
    }
    if (!p) return false;
    // A value is complete: leave what ends here too, until a comma says that another follows.
    for (;;) {
      if (depth_ == floor) {
        out.text = {p_, static_cast<std::size_t>(p - p_)};
        return moved(p);
      }
      p = behind_space(p);
      if (p != end_ && *p == ',') {
        p = behind_space(p + 1);
        if (object && !(p = name_from(p, ignored))) return false;
        break;
      }
      if (p == end_ || *p != (object ? '}' : ']')) return moved(refuse(p, unclosed(object, p)));
      object = close();
      ++p;
    }
  }
}

HAILWIRE_INLINE bool scanner::any_depth(value& out) noexcept {
  const char* from = p_;
  const std::size_t floor = depth_;
  if (any(out)) return true;
  if (what_ != too_deep) return false;
  what_ = nullptr, depth_ = floor, p_ = from;
  for (std::size_t inside = 0; p_ != end_;) {
    const char c = *p_;
    if (c == '"') {
      if (!string()) return false;
      continue;
    }
    ++p_;
    inside += c == '[' || c == '{';
    if ((c == ']' || c == '}') && --inside == 0) return out.text = {from, static_cast<std::size_t>(p_ - from)}, true;
  }
  return fail("it ends inside an array");
}

HAILWIRE_INLINE void scanner::open(bool object) noexcept {
  std::uint64_t bit = std::uint64_t{1} << depth_ % 64;
  auto& word = objects_[depth_ / 64];
  word = object ? word | bit : word & ~bit;
  ++depth_;
}

HAILWIRE_INLINE const char* scanner::behind_space(const char* p) const noexcept {
  // Most places have none, and one comparison says so.
  while (p != end_ && static_cast<unsigned char>(*p) <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
    ++p;
  return p;
}

HAILWIRE_INLINE const char* scanner::unclosed(bool object, const char* p) const noexcept {
  if (p == end_) return object ? "it ends inside an object" : "it ends inside an array";
  return object ? "a comma or } must stand here" : "a comma or ] must stand here";
}

HAILWIRE_INLINE kind scanner::kind_of(char c) noexcept {
  switch (c) {
    case '{':
      return kind::object;
    case '[':
      return kind::array;
    case '"':
      return kind::string;
    case 't':
    case 'f':
      return kind::boolean;
    case 'n':
      return kind::null;
    default:
      return kind::number;
  }
}

HAILWIRE_INLINE const char* scanner::string_from(const char* p) noexcept {
  if (p == end_ || *p != '"') return refuse(p, p == end_ ? "it ends early" : "a string must stand here");
  p = hailwire::detail::find_first(p + 1, end_, string_stops<true>());
  return p != end_ && *p == '"' ? p + 1 : rest_of_string(p);
}

const char* scanner::rest_of_string(const char* p) noexcept {
  for (;; p = hailwire::detail::find_first(p, end_, string_stops<true>())) {
    if (p == end_) return refuse(p, "it ends inside a string");
    auto c = static_cast<unsigned char>(*p);
    if (c == '"') return p + 1;
    if (c < 0x20) return refuse(p, "a control character in a string is not escaped");
    if (c == '\\') {
      escape_ = p;
      if (!(p = escape_from(p))) return p;
      continue;
    }
    do {
      std::size_t n = multibyte_size(p, end_);
      if (n == 0) return refuse(p, "not UTF-8");
      p += n;
    } while (p != end_ && static_cast<unsigned char>(*p) > 0x7F);
  }
}

HAILWIRE_INLINE const char* scanner::escape_from(const char* p) noexcept {
  if (end_ - p < 2) return refuse(end_, "it ends inside a string");
  unsigned unit;
  switch (p[1]) {
    case 'u':
      if (end_ - p < 6 || !hex4(p + 2, unit)) return refuse(p, "\\u needs four hexadecimal digits");
      return p + 6;
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
      return p + 2;
    default:
      return refuse(p, "no such escape");
  }
}

HAILWIRE_INLINE const char* scanner::name_from(const char* p, std::string_view& out) noexcept {
  const char* from = p;
  if (!(p = string_from(p))) return p;
  out = {from + 1, static_cast<std::size_t>(p - from) - 2};
  if (escape_ > from) names_escape_ = true;
  p = behind_space(p);
  if (p == end_ || *p != ':') return refuse(p, p == end_ ? "it ends early" : "a colon must stand here");
  return behind_space(p + 1);
}

HAILWIRE_INLINE const char* scanner::scalar_from(const char* p) noexcept {
  switch (*p) {
    case 't':
      return literal_from(p, "true");
    case 'f':
      return literal_from(p, "false");
    case 'n':
      return literal_from(p, "null");
    default:
      return number_from(p);
  }
}

HAILWIRE_INLINE const char* scanner::literal_from(const char* p, std::string_view word) noexcept {
  if (static_cast<std::size_t>(end_ - p) < word.size() || std::memcmp(p, word.data(), word.size()) != 0)
    return refuse(p, "not a value");
  return p + word.size();
}

HAILWIRE_INLINE const char* scanner::number_from(const char* p) noexcept {
  auto digits = [&] {
    const char* from = p;
    while (p != end_ && *p >= '0' && *p <= '9') ++p;
    return p != from;
  };
  if (*p == '-')
    ++p;
  else if (*p < '0' || *p > '9')
    return refuse(p, "not a value");
  // A zero stands alone: a digit behind it is found by whoever looks for a comma or an end (section 6).
  if (p != end_ && *p == '0')
    ++p;
  else if (!digits())
    return refuse(p, "a digit must stand here");
  if (p != end_ && *p == '.' && (++p, !digits())) return refuse(p, "a digit must stand here");
  if (p != end_ && (*p == 'e' || *p == 'E')) {
    ++p;
    if (p != end_ && (*p == '-' || *p == '+')) ++p;
    if (!digits()) return refuse(p, "a digit must stand here");
  }
  return p;
}

}  // namespace hailwire::proto::json::detail
