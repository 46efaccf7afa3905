// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/json.hpp"

namespace hailwire::proto::json::detail {

HAILWIRE_INLINE void append_utf8(std::string& out, unsigned c) {
  auto put = [&out](unsigned byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
}

HAILWIRE_INLINE bool append_unescaped(std::string& out, std::string_view inner) {
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

HAILWIRE_INLINE bool has_duplicates(const hailwire::detail::vector<member>& members, bool escapes) {
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

HAILWIRE_INLINE bool name_reads(std::string_view name, std::string_view decoded) {
  bool escapes = std::memchr(name.data(), '\\', name.size());
  if (!escapes || name.size() == decoded.size() || name.size() / 6 > decoded.size())
    return !escapes && name.size() == decoded.size();
  std::string resolved;
  return append_unescaped(resolved, name) && resolved == decoded;
}

}  // namespace hailwire::proto::json::detail

namespace hailwire::proto::json {

HAILWIRE_INLINE bool name_is(const member& m, std::string_view decoded) {
  // An escape is longer than its character, up to six times: only a name of the same size can be equal without one.
  if (m.name.size() < decoded.size()) return false;
  if (!decoded.empty() && m.name[0] != decoded[0] && m.name[0] != '\\')
    return false;  // nearly every name that is another
  if (m.name.size() == decoded.size() && !same_bytes(m.name, decoded)) return false;
  return detail::name_reads(m.name, decoded);
}

HAILWIRE_INLINE error read_value(std::string_view text, value& out, const limits& bounds) {
  detail::scanner scan(text, bounds);
  scan.space();
  return scan.any(out) && scan.finish() ? error{} : scan.why();
}

HAILWIRE_INLINE error validate(std::string_view text, const limits& bounds) {
  value ignored;
  return read_value(text, ignored, bounds);
}

HAILWIRE_INLINE error read_object(std::string_view text, hailwire::detail::vector<member>& out, const limits& bounds) {
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

HAILWIRE_INLINE error read_array(std::string_view text, hailwire::detail::vector<value>& out, const limits& bounds) {
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

HAILWIRE_INLINE error split_array(std::string_view text, hailwire::detail::vector<value>& out, const limits& bounds) {
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

HAILWIRE_INLINE std::optional<std::string> unescape(std::string_view quoted) {
  detail::scanner scan(quoted);
  if (!scan.string() || scan.why().at != quoted.size()) return {};
  std::optional<std::string> out(std::in_place);
  out->reserve(quoted.size() - 2);
  if (!detail::append_unescaped(*out, quoted.substr(1, quoted.size() - 2))) out.reset();
  return out;
}

HAILWIRE_INLINE bool is_plain(std::string_view utf8) noexcept {
  const char* end = utf8.data() + utf8.size();
  return hailwire::detail::find_first(utf8.data(), end, detail::string_stops<false>()) == end;
}

HAILWIRE_INLINE void append_quoted(std::string& out, std::string_view utf8) {
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

HAILWIRE_INLINE std::optional<std::uint64_t> to_uint(const value& v, std::uint64_t max) noexcept {
  if (v.type != kind::number) return {};
  return parse_decimal(v.text, max);
}

HAILWIRE_INLINE void spaces_for_line_breaks(std::string& json_text) {
  for (char line_break : {'\n', '\r'})
    for (auto at = json_text.find(line_break); at != json_text.npos; at = json_text.find(line_break, at + 1))
      json_text[at] = ' ';
}

}  // namespace hailwire::proto::json
