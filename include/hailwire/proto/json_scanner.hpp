// SPDX-License-Identifier: BSL-1.0
#pragma once

// The walk through a JSON text that `json.hpp` is made of, and the words that both speak in.
//
// How it works. `scanner` walks the text once, without recursion: what is open at the moment is one bit a level (object
// or array), so the depth of a text costs bits, never stack. Outside strings only ASCII can be valid; inside them clean
// spans are skipped a block at a time, and every other byte is looked at once. The time is linear in the text.
//
// A text that ends with a bracket is its own fence: outside strings nothing runs past a bracket but the one step that
// closes it, and a string that ran past it would find no quote. So such a text, which is nearly every one, is walked
// without asking before each byte whether it is the last; one that is refused then is walked again with these
// questions, for the reason.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "hailwire/detail/base/simd.hpp"
#include "hailwire/detail/base/text.hpp"

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
  bool escapes = false;  ///< of a string: whether there is an escape in it
};

namespace detail {

/// Flags what a string cannot go on over: `"`, `\`, control characters and, with `high`, all that is not ASCII.
template <bool high>
struct string_stops {
  template <class Block>
  Block operator()(Block b) const noexcept {
    return b.is('"') | b.is('\\') | (high ? b.below_or_high(' ') : b.below(' '));
  }
};

bool hex4(const char* p, unsigned& out) noexcept;

class scanner {
 public:
  explicit scanner(std::string_view text, const limits& bounds = {}) noexcept;

  /// Why the last call returned false.
  error why() const noexcept { return {what_, static_cast<std::size_t>(p_ - begin_)}; }
  bool fail(const char* what) noexcept { return what_ = what, false; }

  [[gnu::always_inline]] void space() noexcept { p_ = behind_space(p_); }
  bool take(char c) noexcept { return p_ != end_ && *p_ == c && (++p_, true); }
  bool sees(char c) const noexcept { return p_ != end_ && *p_ == c; }
  const char* place() const noexcept { return p_; }
  /// Whether there was an escape in any name that `name` has read.
  bool names_escape() const noexcept { return names_escape_; }
  /// White space up to the end of the text.
  bool finish() noexcept { return space(), p_ == end_ || fail("something follows the value"); }

  /// A string; the place is its first quote.
  bool string() noexcept { return moved(sees('"') ? string_from(p_ + 1) : no_string(p_)); }
  /// A member's name and its colon, up to the value.
  bool name(std::string_view& out) noexcept;

  /// A value with everything in it; the place is its first character.
  bool any(value& out) noexcept;

  /// The same for a value that may nest too deep: then only its strings are checked and its brackets counted, and
  /// whoever reads its text refuses it.
  bool any_depth(value& out) noexcept;

  /// One object or array, the outermost or one at whose first character the place is. `element` takes one member or
  /// element and says whether it could; the place is then its first character, afterwards the one behind it.
  template <class Element>
  bool each(bool object, Element element) {
    space();
    if (p_ == end_) return fail("it is empty");
    if (*p_ != (object ? '{' : '[')) return fail(object ? "it is not an object" : "it is not an array");
    if (open_.depth == depth_limit_) return fail(too_deep);
    open(open_, object);
    ++p_;
    space();
    for (bool first = true; !take(object ? '}' : ']'); first = false) {
      if (!first && !take(',')) return fail(unclosed(object, p_));
      space();
      if (!element()) return false;
      space();
    }
    close(open_);
    return true;
  }

 private:
  /// What is open: how many objects and arrays, and a bit for each of the innermost 64, the lowest for the innermost;
  /// it is set for an object.
  struct nesting {
    std::size_t depth = 0;
    std::uint64_t objects = 0;
  };
  // What follows reads from `p` on and gives the place behind what it has read; null when that is refused, which
  // `refuse` has then noted. So the place stays in a register while a value is read.
  const char* refuse(const char* p, const char* what) noexcept { return p_ = p, what_ = what, nullptr; }
  bool moved(const char* p) noexcept { return p && (p_ = p, true); }

  void open(nesting& n, bool object) noexcept {
    if (n.depth % 64 == 0) outer_[n.depth / 64] = n.objects;
    n.objects = n.objects << 1 | std::uint64_t{object};
    ++n.depth;
  }
  /// Whether what is the innermost then is an object.
  bool close(nesting& n) const noexcept {
    n.objects >>= 1;
    if (--n.depth % 64 == 0) n.objects = outer_[n.depth / 64];
    return n.objects & 1;
  }

  /// A value. Not `careful`: `p` is before the fence.
  template <bool careful>
  const char* walk(const char* p) noexcept;

  /// Whether `p` is the end; behind a fence nobody has to ask.
  template <bool careful>
  bool over(const char* p) const noexcept {
    return careful && p == end_;
  }

  /// Behind the white space that `p` may stand before. Most places have none, and one comparison says so.
  template <bool careful = true>
  const char* behind_space(const char* p) const noexcept {
    return over<careful>(p) || static_cast<unsigned char>(*p) > ' ' ? p : behind_more_space(p);
  }
  [[gnu::noinline]] HAILWIRE_INLINE const char* behind_more_space(const char* p) const noexcept;

  /// What is wrong where neither a comma nor the end of an object or array stands.
  const char* unclosed(bool object, const char* p) const noexcept;

  static kind kind_of(char c) noexcept;

  /// A string, whose first quote stands before `p`. Nearly all end in their first block.
  const char* string_from(const char* p) noexcept {
    using block = hailwire::detail::vector_block;
    if (static_cast<std::size_t>(end_ - p) >= block::size)
      if (auto stops = string_stops<true>()(block::load(p)); stops.any()) {
        p += stops.first();
        return *p == '"' ? p + 1 : rest_of_string(p);
      }
    return long_string(p);
  }
  [[gnu::noinline]] HAILWIRE_INLINE const char* long_string(const char* p) noexcept;

  /// A string from its first byte on that does not simply stand for itself. Out of line, so that what all others take
  /// needs few registers.
  [[gnu::noinline]] HAILWIRE_INLINE const char* rest_of_string(const char* p) noexcept;

  const char* escape_from(const char* p) noexcept;

  /// The colon behind a name.
  template <bool careful = true>
  const char* colon_from(const char* p) noexcept {
    if (over<careful>(p) || *p != ':') p = behind_space<careful>(p);
    if (over<careful>(p) || *p != ':') return refuse(p, p == end_ ? "it ends early" : "a colon must stand here");
    return p + 1;
  }

  const char* no_string(const char* p) noexcept {
    return refuse(p, p == end_ ? "it ends early" : "a string must stand here");
  }

  /// A value that is neither a string nor an object or array. Precondition: `p` is not the end.
  template <bool careful>
  const char* scalar_from(const char* p) noexcept;

  template <std::size_t n>
  const char* literal_from(const char* p, const char (&word)[n]) noexcept {
    constexpr std::size_t size = n - 1;
    if (static_cast<std::size_t>(end_ - p) < size || std::memcmp(p, word, size) != 0) return refuse(p, "not a value");
    return p + size;
  }

  template <bool careful>
  const char* number_from(const char* p) noexcept;

  const char* begin_;
  const char* p_;
  const char* end_;
  const char* fence_;  // behind the bracket that is the last of the text but for white space; else the beginning
  const char* what_ = nullptr;
  std::size_t depth_limit_;
  nesting open_;
  const char* escape_ = begin_;  // the last one
  bool names_escape_ = false;
  std::array<std::uint64_t, max_depth / 64> outer_;  // `nesting::objects` as they were at each 64th level that is open
};

}  // namespace detail

}  // namespace hailwire::proto::json

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/json_scanner.ipp"
#endif
