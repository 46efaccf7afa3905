// SPDX-License-Identifier: BSL-1.0
#pragma once

// A strict JSON scanner (RFC 8259). It builds no tree: it proves that a text is JSON and hands out its parts as spans
// of the input, so that a payload travels byte for byte as its publisher wrote it.
//
// How it works. `scanner` walks the text once, without recursion: what is open at the moment is one bit a level (object
// or array), so the depth of a text costs bits, never stack. Outside strings only ASCII can be valid; inside them clean
// spans are skipped a block at a time, and every other byte is looked at once. The time is linear in the text.
//
// Where RFC 8259 leaves a choice:
// - A byte order mark is refused (section 8.1 lets a reader ignore it; a payload that is copied must not carry it).
// - `\ud800` without its other half is JSON by the grammar, so texts that hold it are accepted and travel unchanged;
//   `unescape` gives no UTF-8 for it, because there is none (section 8.2).
// - Numbers have no limit of size: they are never converted unless `to_uint` is asked.
// - Duplicate names are an error where `read_object` looks, the outermost object; deeper ones are payload (section 4).

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/base/simd.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"

namespace hailwire::proto::json {

enum class kind : std::uint8_t { null, boolean, number, string, array, object };

/// The deepest nesting that can be asked for. It is what the scanner keeps a bit for.
inline constexpr std::size_t max_depth = 1024;

/// How much a text may ask of its reader.
struct limits {
  /// Arrays and objects open at once; `[]` is one deep. Over `max_depth` means `max_depth`. 64 is far above what
  /// messages need and below what recursive readers on the other side survive (RFC 8259, section 9, lets us choose).
  std::size_t depth = 64;
  /// Members or elements that `read_object` and `read_array` gather, so that `{"a":1,"b":1,…` cannot cost its reader
  /// many times its own size. Deeper levels are not gathered, so not counted.
  std::size_t members = 4096;
};

/// Why a text was refused; true in a condition when it was.
struct error {
  const char* what = nullptr;  ///< English, static; reads on after "the JSON is refused: "
  std::size_t at = 0;  ///< index of the byte that cannot stand where it is; the text's size if more was due, or no
                       ///< single byte is to blame

  explicit operator bool() const noexcept { return what != nullptr; }
};

/// The `what` of a text with more members or elements than its reader wanted; can be told apart by its address.
inline constexpr char too_many_members[] = "too many members";

/// A value: its kind and its span of the input, without the white space around it. Valid as long as the input.
struct value {
  kind type = kind::null;
  std::string_view text;
};

/// A member of an object. `name` is what stands between the quotes as written, so it may hold escapes: compare it with
/// `name_is`. Valid as long as the input.
struct member {
  std::string_view name;
  value content;
};

namespace detail {

/// Flags what a string cannot go on over: `"`, `\`, control characters and, with `high`, all that is not ASCII.
template <bool high>
struct string_stops {
  template <class Block>
  Block operator()(Block b) const noexcept {
    Block stops = b.is('"') | b.is('\\') | b.below(' ');
    return high ? stops | b : stops;
  }
};

inline bool hex4(const char* p, unsigned& out) noexcept {
  out = 0;
  for (int i = 0; i < 4; ++i) {
    int digit = hex_digit(p[i]);
    if (digit < 0) return false;
    out = out << 4 | static_cast<unsigned>(digit);
  }
  return true;
}

inline void append_utf8(std::string& out, unsigned c) {
  auto put = [&out](unsigned byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
}

/// Appends the characters for which `inner`, the valid inside of a string, stands. A lone surrogate becomes the three
/// bytes that UTF-8 would have for it, so that names that differ stay different; false says that there was one.
inline bool append_unescaped(std::string& out, std::string_view inner) {
  bool whole = true;
  const char* p = inner.data();
  const char* end = p + inner.size();
  while (p != end) {
    auto backslash = static_cast<const char*>(std::memchr(p, '\\', static_cast<std::size_t>(end - p)));
    out.append(p, backslash ? backslash : end);
    if (!backslash) break;
    p = backslash + 2;
    switch (p[-1]) {
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'u': {
        unsigned c = 0, low = 0;
        hex4(p, c);
        p += 4;
        if (c >= 0xD800 && c <= 0xDFFF) {
          bool pair = c < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' && hex4(p + 2, low) && low >= 0xDC00 &&
                      low <= 0xDFFF;
          if (pair)
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00), p += 6;
          else
            whole = false;
        }
        append_utf8(out, c);
        break;
      }
      default:
        out += p[-1];  // one of " \ /
    }
  }
  return whole;
}

class scanner {
 public:
  explicit scanner(std::string_view text, const limits& bounds = {}) noexcept
      : begin_(text.data()), p_(begin_), end_(begin_ + text.size()), depth_limit_(std::min(bounds.depth, max_depth)) {}

  /// Why the last call returned false.
  error why() const noexcept { return {what_, static_cast<std::size_t>(p_ - begin_)}; }
  bool fail(const char* what) noexcept { return what_ = what, false; }

  void space() noexcept { p_ = behind_space(p_); }
  bool take(char c) noexcept { return p_ != end_ && *p_ == c && (++p_, true); }
  bool sees(char c) const noexcept { return p_ != end_ && *p_ == c; }
  const char* place() const noexcept { return p_; }
  /// Whether there was an escape in any name up to here.
  bool names_escape() const noexcept { return names_escape_; }
  /// White space up to the end of the text.
  bool finish() noexcept { return space(), p_ == end_ || fail("something follows the value"); }

  /// A string; the place is its first quote.
  bool string() noexcept { return moved(string_from(p_)); }
  /// A member's name and its colon, up to the value.
  bool name(std::string_view& out) noexcept { return moved(name_from(p_, out)); }

  /// A value with everything in it; the place is its first character.
  bool any(value& out) noexcept {
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
        if (depth_ == depth_limit_) return moved(refuse(p, "nested too deep"));
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

  /// One object or array, the outermost or one at whose first character the place is. `element` takes one member or
  /// element and says whether it could; the place is then its first character, afterwards the one behind it.
  template <class Element>
  bool each(bool object, Element element) {
    space();
    if (p_ == end_) return fail("it is empty");
    if (*p_ != (object ? '{' : '[')) return fail(object ? "it is not an object" : "it is not an array");
    if (depth_ == depth_limit_) return fail("nested too deep");
    open(object);
    ++p_;
    space();
    for (bool first = true; !take(object ? '}' : ']'); first = false) {
      if (!first && !take(',')) return fail(unclosed(object, p_));
      space();
      if (!element()) return false;
      space();
    }
    close();
    return true;
  }

 private:
  // What follows reads from `p` on and gives the place behind what it has read; null when that is refused, which
  // `refuse` has then noted. So the place stays in a register while a value is read.
  const char* refuse(const char* p, const char* what) noexcept { return p_ = p, what_ = what, nullptr; }
  bool moved(const char* p) noexcept { return p && (p_ = p, true); }

  void open(bool object) noexcept {
    std::uint64_t bit = std::uint64_t{1} << depth_ % 64;
    auto& word = objects_[depth_ / 64];
    word = object ? word | bit : word & ~bit;
    ++depth_;
  }
  /// Whether what is the innermost then is an object.
  bool close() noexcept { return --depth_ != 0 && (objects_[(depth_ - 1) / 64] >> (depth_ - 1) % 64 & 1); }

  const char* behind_space(const char* p) const noexcept {
    // Most places have none, and one comparison says so.
    while (p != end_ && static_cast<unsigned char>(*p) <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
      ++p;
    return p;
  }

  /// What is wrong where neither a comma nor the end of an object or array stands.
  const char* unclosed(bool object, const char* p) const noexcept {
    if (p == end_) return object ? "it ends inside an object" : "it ends inside an array";
    return object ? "a comma or } must stand here" : "a comma or ] must stand here";
  }

  static kind kind_of(char c) noexcept {
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

  const char* string_from(const char* p) noexcept {
    if (p == end_ || *p != '"') return refuse(p, p == end_ ? "it ends early" : "a string must stand here");
    p = hailwire::detail::find_first(p + 1, end_, string_stops<true>());
    return p != end_ && *p == '"' ? p + 1 : rest_of_string(p);
  }

  /// A string from its first byte on that does not simply stand for itself. Out of line, so that what all others take
  /// needs few registers.
  [[gnu::noinline]] const char* rest_of_string(const char* p) noexcept {
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

  const char* escape_from(const char* p) noexcept {
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

  const char* name_from(const char* p, std::string_view& out) noexcept {
    const char* from = p;
    if (!(p = string_from(p))) return p;
    out = {from + 1, static_cast<std::size_t>(p - from) - 2};
    if (escape_ > from) names_escape_ = true;
    p = behind_space(p);
    if (p == end_ || *p != ':') return refuse(p, p == end_ ? "it ends early" : "a colon must stand here");
    return behind_space(p + 1);
  }

  /// A value that is neither a string nor an object or array. Precondition: `p` is not the end.
  const char* scalar_from(const char* p) noexcept {
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

  const char* literal_from(const char* p, std::string_view word) noexcept {
    if (static_cast<std::size_t>(end_ - p) < word.size() || std::memcmp(p, word.data(), word.size()) != 0)
      return refuse(p, "not a value");
    return p + word.size();
  }

  const char* number_from(const char* p) noexcept {
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

  const char* begin_;
  const char* p_;
  const char* end_;
  const char* what_ = nullptr;
  std::size_t depth_ = 0, depth_limit_;
  const char* escape_ = begin_;  // the last one
  bool names_escape_ = false;
  std::array<std::uint64_t, max_depth / 64> objects_{};  // bit i: level i is an object
};

/// Whether two members have the same name, escapes resolved; `escapes`: there may be some. n·log n in their number, so
/// that no choice of names is slow.
inline bool has_duplicates(const hailwire::detail::vector<member>& members, bool escapes) {
  // 16: below, comparing all pairs needs no memory and is the faster way.
  if (!escapes && members.size() <= 16) {
    for (std::size_t i = 1; i < members.size(); ++i)
      for (std::size_t k = 0; k < i; ++k)
        if (same_bytes(members[i].name, members[k].name)) return true;
    return false;
  }
  std::vector<std::string> resolved;
  hailwire::detail::vector<std::string_view> names;
  resolved.reserve(escapes ? members.size() : 0);  // no reallocation: `names` looks into its strings
  names.reserve(members.size());
  for (const member& m : members) {
    if (m.name.find('\\') == m.name.npos) {
      names.push_back(m.name);
    } else {
      append_unescaped(resolved.emplace_back(), m.name);
      names.push_back(resolved.back());
    }
  }
  std::make_heap(names.begin(), names.end());  // with `sort_heap` a third of the code of `sort`
  std::sort_heap(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end();
}

}  // namespace detail

namespace detail {
// A name of that size with the same bytes, or a longer one, which begins like it or with an escape.
inline bool name_reads(std::string_view name, std::string_view decoded) {
  bool escapes = std::memchr(name.data(), '\\', name.size());
  if (!escapes || name.size() == decoded.size() || name.size() / 6 > decoded.size())
    return !escapes && name.size() == decoded.size();
  std::string resolved;
  return append_unescaped(resolved, name) && resolved == decoded;
}
}  // namespace detail

/// Whether the member's name, escapes resolved, is `decoded`. A name with a lone surrogate is equal to nothing.
inline bool name_is(const member& m, std::string_view decoded) {
  // An escape is longer than its character, up to six times: only a name of the same size can be equal without one.
  if (m.name.size() < decoded.size()) return false;
  if (!decoded.empty() && m.name[0] != decoded[0] && m.name[0] != '\\')
    return false;  // nearly every name that is another
  if (m.name.size() == decoded.size() && !same_bytes(m.name, decoded)) return false;
  return detail::name_reads(m.name, decoded);
}

/// Reads a text that is exactly one value; white space around it is allowed. The whole of it is validated.
inline error read_value(std::string_view text, value& out, const limits& bounds = {}) {
  detail::scanner scan(text, bounds);
  scan.space();
  return scan.any(out) && scan.finish() ? error{} : scan.why();
}

/// Whether `text` is exactly one JSON value.
inline error validate(std::string_view text, const limits& bounds = {}) {
  value ignored;
  return read_value(text, ignored, bounds);
}

/// Reads a text that is one object. The whole of it is validated, nested values too. `out` is cleared first and gets
/// the members in their order; after an error it holds those that stood before it. Two members of one name are an
/// error.
inline error read_object(std::string_view text, hailwire::detail::vector<member>& out, const limits& bounds = {}) {
  out.clear();
  detail::scanner scan(text, bounds);
  auto add = [&] {
    member m;
    if (!scan.name(m.name) || !scan.any(m.content)) return false;
    if (out.size() == bounds.members) return scan.fail(too_many_members);
    return out.push_back(m), true;
  };
  if (!scan.each(true, add) || !scan.finish()) return scan.why();
  if (detail::has_duplicates(out, scan.names_escape())) return scan.fail("two members have the same name"), scan.why();
  return {};
}

/// Reads a text that is one array, as `read_object` does an object.
inline error read_array(std::string_view text, hailwire::detail::vector<value>& out, const limits& bounds = {}) {
  out.clear();
  detail::scanner scan(text, bounds);
  auto add = [&] {
    value v;
    if (!scan.any(v)) return false;
    if (out.size() == bounds.members) return scan.fail(too_many_members);
    return out.push_back(v), true;
  };
  return scan.each(false, add) && scan.finish() ? error{} : scan.why();
}

/// The UTF-8 text of a string value, given with its quotes. Empty when it is not one string without anything around it,
/// or holds a lone surrogate, which no UTF-8 stands for.
inline std::optional<std::string> unescape(std::string_view quoted) {
  detail::scanner scan(quoted);
  if (!scan.string() || scan.why().at != quoted.size()) return {};
  std::optional<std::string> out(std::in_place);
  out->reserve(quoted.size() - 2);
  if (!detail::append_unescaped(*out, quoted.substr(1, quoted.size() - 2))) out.reset();
  return out;
}

/// Whether a UTF-8 text stands in a JSON string as it is.
inline bool is_plain(std::string_view utf8) noexcept {
  const char* end = utf8.data() + utf8.size();
  return hailwire::detail::find_first(utf8.data(), end, detail::string_stops<false>()) == end;
}

/// Appends `utf8` as a JSON string with its quotes. Escapes what section 7 says must be (`"`, `\`, U+0000–1F) and
/// nothing else. Precondition: `utf8` is UTF-8; other bytes would be passed on as they are.
inline void append_quoted(std::string& out, std::string_view utf8) {
  out += '"';
  const char* p = utf8.data();
  const char* end = p + utf8.size();
  for (;;) {
    const char* stop = hailwire::detail::find_first(p, end, detail::string_stops<false>());
    out.append(p, stop);
    if (stop == end) break;
    p = stop + 1;
    out += '\\';
    switch (*stop) {
      case '\b':
        out += 'b';
        break;
      case '\f':
        out += 'f';
        break;
      case '\n':
        out += 'n';
        break;
      case '\r':
        out += 'r';
        break;
      case '\t':
        out += 't';
        break;
      case '"':
      case '\\':
        out += *stop;
        break;
      default:
        out += *stop < 0x10 ? "u000" : "u001";
        out += "0123456789abcdef"[*stop & 15];
    }
  }
  out += '"';
}

/// The number `v` when it is a whole one from 0 to `max`, written plainly: no sign, fraction or exponent (`1.0`, `1e2`
/// and
/// `-0` are refused, though some readers would take them for whole).
inline std::optional<std::uint64_t> to_uint(const value& v, std::uint64_t max) noexcept {
  if (v.type != kind::number) return {};
  return parse_decimal(v.text, max);
}

/// Makes every CR and LF of a valid JSON text a space. In such a text they stand only between tokens (inside a string
/// they are escaped, section 7), so the text means the same and fits on one line of an event stream.
inline void spaces_for_line_breaks(std::string& json_text) {
  for (char line_break : {'\n', '\r'})
    for (auto at = json_text.find(line_break); at != json_text.npos; at = json_text.find(line_break, at + 1))
      json_text[at] = ' ';
}

}  // namespace hailwire::proto::json
