// SPDX-License-Identifier: BSL-1.0
#pragma once

// A strict JSON scanner (RFC 8259). It builds no tree: it proves that a text is JSON and hands out its parts as spans
// of the input, so that a payload travels byte for byte as its publisher wrote it.
//
// Where RFC 8259 leaves a choice:
// - A byte order mark is refused (section 8.1 lets a reader ignore it; a payload that is copied must not carry it).
// - `\ud800` without its other half is JSON by the grammar, so texts that hold it are accepted and travel unchanged;
//   `unescape` gives no UTF-8 for it, because there is none (section 8.2).
// - Numbers have no limit of size: they are never converted unless `to_uint` is asked.
// - Duplicate names are an error where `read_object` looks, the outermost object; deeper ones are payload (section 4).

#include <algorithm>
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
#include "hailwire/proto/json_scanner.hpp"

namespace hailwire::proto::json {

/// A member of an object. `name` is what stands between the quotes as written, so it may hold escapes: compare it with
/// `name_is`. Valid as long as the input.
struct member {
  std::string_view name;
  value content;
};

namespace detail {

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
