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
    : begin_(text.data()),
      p_(begin_),
      end_(begin_ + text.size()),
      fence_(end_),
      depth_limit_(std::min(bounds.depth, max_depth)) {
  while (fence_ != begin_ && (fence_[-1] == ' ' || fence_[-1] == '\n' || fence_[-1] == '\r' || fence_[-1] == '\t'))
    --fence_;
  if (fence_ != begin_ && fence_[-1] != '}' && fence_[-1] != ']') fence_ = begin_;
}

HAILWIRE_INLINE bool scanner::any(value& out) noexcept {
  const char *from = p_, *p = nullptr;
  if (from < fence_) p = *from == '"' ? string_from(from + 1) : walk<false>(from);
  if (!p && !(p = walk<true>(from))) return false;
  out = {kind_of(*from), {from, static_cast<std::size_t>(p - from)}, escape_ > from};
  return moved(p);
}

// White space is looked for only where something stands that is not due: most texts have none.
template <bool careful>
const char* scanner::walk(const char* p) noexcept {
  nesting n = open_;
  bool object = false;  // whether the innermost of what is open within the value is one
  for (;;) {
    if (object) {
      if (over<careful>(p) || *p != '"') p = behind_space<careful>(p);
      if (over<careful>(p) || *p != '"') return no_string(p);
      if (!(p = string_from(p + 1)) || !(p = colon_from<careful>(p))) return p;
    }
    p = behind_space<careful>(p);
    if (over<careful>(p)) return refuse(p, "it ends where a value must stand");
    const char c = *p;
    if (c == '"') {
      p = string_from(p + 1);
    } else if (c == '{' || c == '[') {
      object = c == '{';
      if (n.depth == depth_limit_) return refuse(p, too_deep);
      open(n, object);
      p = behind_space<careful>(p + 1);
      if (over<careful>(p) || *p != (object ? '}' : ']')) continue;
      object = close(n);
      ++p;
      if (!careful && p == fence_ && n.depth != open_.depth) return refuse(p, unclosed(object, p));
    } else {
      p = scalar_from<careful>(p);
    }
    if (!p) return p;
    // A value is complete: leave what ends here too, until a comma says that another follows.
    while (n.depth != open_.depth) {
      if (!over<careful>(p) && *p == ',') break;
      p = behind_space<careful>(p);
      if (!over<careful>(p) && *p == ',') break;
      if (over<careful>(p) || *p != (object ? '}' : ']')) return refuse(p, unclosed(object, p));
      object = close(n);
      ++p;
      if (!careful && p == fence_ && n.depth != open_.depth) return refuse(p, unclosed(object, p));
    }
    if (n.depth == open_.depth) return p;
    ++p;
  }
}

HAILWIRE_INLINE bool scanner::any_depth(value& out) noexcept {
  const char* from = p_;
  if (any(out)) return true;
  if (what_ != too_deep) return false;
  what_ = nullptr, p_ = from;
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

const char* scanner::behind_more_space(const char* p) const noexcept {
  while (p != end_ && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) ++p;
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

const char* scanner::long_string(const char* p) noexcept {
  p = hailwire::detail::find_first(p, end_, string_stops<true>());
  return p != end_ && *p == '"' ? p + 1 : rest_of_string(p);
}

const char* scanner::rest_of_string(const char* p) noexcept {
  for (;;) {
    if (p == end_) return refuse(p, "it ends inside a string");
    const auto c = static_cast<unsigned char>(*p);
    if (c == '"') return p + 1;
    if (c == '\\') {
      escape_ = p;
      if (!(p = escape_from(p))) return p;
    } else if (c > 0x7F) {
      const std::size_t n = multibyte_size(p, end_);
      if (n == 0) return refuse(p, "not UTF-8");
      p += n;
      if (p != end_ && static_cast<unsigned char>(*p) > 0x7F) continue;  // other scripts come in runs
    } else {
      return refuse(p, "a control character in a string is not escaped");
    }
    p = hailwire::detail::find_first(p, end_, string_stops<true>());
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

HAILWIRE_INLINE bool scanner::name(std::string_view& out) noexcept {
  const char* from = p_;
  if (!string()) return false;
  out = {from + 1, static_cast<std::size_t>(p_ - from) - 2};
  if (escape_ > from) names_escape_ = true;
  const char* p = colon_from(p_);
  return p && moved(behind_space(p));
}

template <bool careful>
const char* scanner::scalar_from(const char* p) noexcept {
  switch (*p) {
    case 't':
      return literal_from(p, "true");
    case 'f':
      return literal_from(p, "false");
    case 'n':
      return literal_from(p, "null");
    default:
      return number_from<careful>(p);
  }
}

template <bool careful>
const char* scanner::number_from(const char* p) noexcept {
  auto digits = [&] {
    const char* from = p;
    while (!over<careful>(p) && static_cast<unsigned char>(*p - '0') < 10) ++p;
    return p != from;
  };
  if (*p == '-')
    ++p;
  else if (*p < '0' || *p > '9')
    return refuse(p, "not a value");
  // A zero stands alone: a digit behind it is found by whoever looks for a comma or an end (section 6).
  if (!over<careful>(p) && *p == '0')
    ++p;
  else if (!digits())
    return refuse(p, "a digit must stand here");
  if (!over<careful>(p) && *p == '.' && (++p, !digits())) return refuse(p, "a digit must stand here");
  if (!over<careful>(p) && (*p == 'e' || *p == 'E')) {
    ++p;
    if (!over<careful>(p) && (*p == '-' || *p == '+')) ++p;
    if (!digits()) return refuse(p, "a digit must stand here");
  }
  return p;
}

}  // namespace hailwire::proto::json::detail
