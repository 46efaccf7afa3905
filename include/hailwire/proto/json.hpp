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

void append_utf8(std::string& out, unsigned c);

/// Appends the characters for which `inner`, the valid inside of a string, stands. A lone surrogate becomes the three
/// bytes that UTF-8 would have for it, so that names that differ stay different; false says that there was one.
bool append_unescaped(std::string& out, std::string_view inner);

/// Whether two members have the same name, escapes resolved; `escapes`: there may be some. n·log n in their number, so
/// that no choice of names is slow.
bool has_duplicates(const hailwire::detail::vector<member>& members, bool escapes);

// A name of that size with the same bytes, or a longer one, which begins like it or with an escape.
bool name_reads(std::string_view name, std::string_view decoded);
}  // namespace detail

/// Whether the member's name, escapes resolved, is `decoded`. A name with a lone surrogate is equal to nothing.
bool name_is(const member& m, std::string_view decoded);

/// Reads a text that is exactly one value; white space around it is allowed. The whole of it is validated.
error read_value(std::string_view text, value& out, const limits& bounds = {});

/// Whether `text` is exactly one JSON value.
error validate(std::string_view text, const limits& bounds = {});

/// Reads a text that is one object. The whole of it is validated, nested values too. `out` is cleared first and gets
/// the members in their order; after an error it holds those that stood before it. Two members of one name are an
/// error.
error read_object(std::string_view text, hailwire::detail::vector<member>& out, const limits& bounds = {});

/// Reads a text that is one array, as `read_object` does an object.
error read_array(std::string_view text, hailwire::detail::vector<value>& out, const limits& bounds = {});

/// As `read_array`, but an element that nests too deep is that element's fault alone: it is kept as its text, which
/// whoever reads it refuses.
error split_array(std::string_view text, hailwire::detail::vector<value>& out, const limits& bounds = {});

/// The UTF-8 text of a string value, given with its quotes. Empty when it is not one string without anything around it,
/// or holds a lone surrogate, which no UTF-8 stands for.
std::optional<std::string> unescape(std::string_view quoted);

/// Whether a UTF-8 text stands in a JSON string as it is.
bool is_plain(std::string_view utf8) noexcept;

/// Appends `utf8` as a JSON string with its quotes. Escapes what section 7 says must be (`"`, `\`, U+0000–1F) and
/// nothing else. Precondition: `utf8` is UTF-8; other bytes would be passed on as they are.
void append_quoted(std::string& out, std::string_view utf8);

/// The number `v` when it is a whole one from 0 to `max`, written plainly: no sign, fraction or exponent (`1.0`, `1e2`
/// and
/// `-0` are refused, though some readers would take them for whole).
std::optional<std::uint64_t> to_uint(const value& v, std::uint64_t max) noexcept;

/// Makes every CR and LF of a valid JSON text a space. In such a text they stand only between tokens (inside a string
/// they are escaped, section 7), so the text means the same and fits on one line of an event stream.
void spaces_for_line_breaks(std::string& json_text);

}  // namespace hailwire::proto::json

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/json.ipp"
#endif
