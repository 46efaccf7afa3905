// SPDX-License-Identifier: BSL-1.0
#pragma once

// A strict JSON scanner (RFC 8259). It builds no tree: it proves that a text is JSON and hands out its parts as spans
// of the input, so that a payload travels byte for byte as its publisher wrote it.
//
// How it works. `scanner` walks the text once, without recursion: what is open at the moment is one bit a level (object
// or array), so the depth of a text costs bits, never stack. Outside strings only ASCII can be valid; inside them clean
// spans are skipped eight bytes at a time, and every other byte is looked at once. The time is linear in the text.
//
// Where RFC 8259 leaves a choice:
// - A byte order mark is refused (section 8.1 lets a reader ignore it; a payload that is copied must not carry it).
// - `\ud800` without its other half is JSON by the grammar, so texts that hold it are accepted and travel unchanged;
//   `unescape` gives no UTF-8 for it, because there is none (section 8.2).
// - Numbers have no limit of size: they are never converted unless `to_uint` is asked.
// - Duplicate names are an error where `read_object` looks, the outermost object; deeper ones are payload (section 4).

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

/// The `what` of a text that nests deeper than its reader wanted; can be told apart by its address.
inline constexpr char too_deep[] = "nested too deep";

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

/// The first byte of [p, end) that is `"`, `\`, a control character or, with `high`, not ASCII; `end` if there is none.
template <bool high>
inline const char* skip_clean(const char* p, const char* end) noexcept {
  constexpr std::uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
  // A zero byte of x is flagged by (x - ones) & ~x & tops. Flags above a true one can be false, so only the lowest
  // counts; a byte over 0x7F never is one, and is flagged by itself when asked for.
  for (; end - p >= 8; p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    std::uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
    std::uint64_t flags =
        ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((word - ones * 0x20) & ~word);
    if constexpr (high) flags |= word;
    flags &= tops;
    if (flags == 0) continue;
    if constexpr (std::endian::native == std::endian::little) return p + std::countr_zero(flags) / 8;
    break;
  }
  for (; p != end; ++p) {
    auto c = static_cast<unsigned char>(*p);
    if (c == '"' || c == '\\' || c < 0x20 || (high && c > 0x7F)) break;
  }
  return p;
}

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

  void space() noexcept {
    while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
  }
  bool take(char c) noexcept { return p_ != end_ && *p_ == c && (++p_, true); }
  bool sees(char c) const noexcept { return p_ != end_ && *p_ == c; }
  const char* place() const noexcept { return p_; }
  /// Whether there was an escape in any name up to here.
  bool names_escape() const noexcept { return names_escape_; }
  /// White space up to the end of the text.
  bool finish() noexcept { return space(), p_ == end_ || fail("something follows the value"); }

  /// Enters an object or array whose first character has been seen; `leave` goes back.
  bool enter(bool object) noexcept {
    if (depth_ == depth_limit_) return fail(too_deep);
    ++p_;
    std::uint64_t bit = std::uint64_t{1} << depth_ % 64;
    auto& word = objects_[depth_ / 64];
    word = object ? word | bit : word & ~bit;
    ++depth_;
    return true;
  }
  void leave() noexcept { --depth_; }

  /// A string; the place is its first quote.
  bool string() noexcept {
    if (!take('"')) return fail(p_ == end_ ? "it ends early" : "a string must stand here");
    for (;;) {
      p_ = skip_clean<true>(p_, end_);
      if (p_ == end_) return fail("it ends inside a string");
      auto c = static_cast<unsigned char>(*p_);
      if (c == '"') return ++p_, true;
      if (c < 0x20) return fail("a control character in a string is not escaped");
      if (c == '\\') {
        escape_ = p_;
        if (!escape()) return false;
        continue;
      }
      do {
        std::size_t n = multibyte_size(p_, end_);
        if (n == 0) return fail("not UTF-8");
        p_ += n;
      } while (p_ != end_ && static_cast<unsigned char>(*p_) > 0x7F);
    }
  }

  /// A member's name and its colon, up to the value.
  bool name(std::string_view& out) noexcept {
    const char* from = p_;
    if (!string()) return false;
    out = {from + 1, static_cast<std::size_t>(p_ - from) - 2};
    if (escape_ > from) names_escape_ = true;
    space();
    if (!take(':')) return fail(p_ == end_ ? "it ends early" : "a colon must stand here");
    space();
    return true;
  }

  /// A value with everything in it; the place is its first character.
  bool any(value& out) noexcept {
    const char* from = p_;
    const std::size_t floor = depth_;
    out.type = p_ == end_ ? kind::null : kind_of(*p_);
    std::string_view ignored;
    for (;;) {
      if (p_ == end_) return fail("it ends where a value must stand");
      bool object = *p_ == '{';
      if (object || *p_ == '[') {
        if (!enter(object)) return false;
        space();
        if (!take(object ? '}' : ']')) {
          if (object && !name(ignored)) return false;
          continue;
        }
        leave();
      } else if (!scalar()) {
        return false;
      }
      // A value is complete: leave what ends here too, until a comma says that another follows.
      for (;;) {
        if (depth_ == floor) return out.text = {from, static_cast<std::size_t>(p_ - from)}, true;
        object = objects_[(depth_ - 1) / 64] >> (depth_ - 1) % 64 & 1;
        space();
        if (take(',')) {
          space();
          if (object && !name(ignored)) return false;
          break;
        }
        if (!take(object ? '}' : ']')) return fail(unclosed(object));
        leave();
      }
    }
  }

  /// The same for a value that may nest too deep: then only its strings are checked and its brackets counted, and
  /// whoever reads its text refuses it.
  bool any_depth(value& out) noexcept {
    const char* from = p_;
    const std::size_t floor = depth_;
    if (any(out)) return true;
    if (what_ != too_deep) return false;
    what_ = nullptr, depth_ = floor, p_ = from;
    for (std::size_t open = 0; p_ != end_;) {
      const char c = *p_;
      if (c == '"') {
        if (!string()) return false;
        continue;
      }
      ++p_;
      open += c == '[' || c == '{';
      if ((c == ']' || c == '}') && --open == 0) return out.text = {from, static_cast<std::size_t>(p_ - from)}, true;
    }
    return fail("it ends inside an array");
  }

  /// One object or array, the outermost or one at whose first character the place is. `element` takes one member or
  /// element and says whether it could; the place is then its first character, afterwards the one behind it.
  template <class Element>
  bool each(bool object, Element element) {
    space();
    if (p_ == end_) return fail("it is empty");
    if (*p_ != (object ? '{' : '[')) return fail(object ? "it is not an object" : "it is not an array");
    if (!enter(object)) return false;
    space();
    for (bool first = true; !take(object ? '}' : ']'); first = false) {
      if (!first && !take(',')) return fail(unclosed(object));
      space();
      if (!element()) return false;
      space();
    }
    leave();
    return true;
  }

 private:
  /// What is wrong where neither a comma nor the end of an object or array stands.
  const char* unclosed(bool object) const noexcept {
    if (p_ == end_) return object ? "it ends inside an object" : "it ends inside an array";
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

  bool scalar() noexcept {
    switch (*p_) {
      case '"':
        return string();
      case 't':
        return literal("true");
      case 'f':
        return literal("false");
      case 'n':
        return literal("null");
      default:
        return number();
    }
  }

  bool literal(std::string_view word) noexcept {
    if (static_cast<std::size_t>(end_ - p_) < word.size() || std::memcmp(p_, word.data(), word.size()) != 0)
      return fail("not a value");
    p_ += word.size();
    return true;
  }

  bool digits() noexcept {
    const char* from = p_;
    while (p_ != end_ && *p_ >= '0' && *p_ <= '9') ++p_;
    return p_ != from || fail("a digit must stand here");
  }

  bool number() noexcept {
    if (!take('-') && (*p_ < '0' || *p_ > '9')) return fail("not a value");
    // A zero stands alone: a digit behind it is found by whoever looks for a comma or an end (section 6).
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (take('e') || take('E')) {
      if (!take('-')) take('+');
      return digits();
    }
    return true;
  }

  bool escape() noexcept {
    if (end_ - p_ < 2) return p_ = end_, fail("it ends inside a string");
    char c = p_[1];
    unsigned unit;
    if (c == 'u') {
      if (end_ - p_ < 6 || !hex4(p_ + 2, unit)) return fail("\\u needs four hexadecimal digits");
      p_ += 6;
      return true;
    }
    if (std::string_view("\"\\/bfnrt").find(c) == std::string_view::npos) return fail("no such escape");
    p_ += 2;
    return true;
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

/// As `read_array`, but an element that nests too deep is that element's fault alone: it is kept as its text, which
/// whoever reads it refuses.
inline error split_array(std::string_view text, hailwire::detail::vector<value>& out, const limits& bounds = {}) {
  out.clear();
  detail::scanner scan(text, bounds);
  auto add = [&] {
    value v;
    if (!scan.any_depth(v)) return false;
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
  return detail::skip_clean<false>(utf8.data(), end) == end;
}

/// Appends `utf8` as a JSON string with its quotes. Escapes what section 7 says must be (`"`, `\`, U+0000–1F) and
/// nothing else. Precondition: `utf8` is UTF-8; other bytes would be passed on as they are.
inline void append_quoted(std::string& out, std::string_view utf8) {
  out += '"';
  const char* p = utf8.data();
  const char* end = p + utf8.size();
  for (;;) {
    const char* stop = detail::skip_clean<false>(p, end);
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
