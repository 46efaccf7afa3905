// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/base/text.hpp"
#include "hailwire/proto/range.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE byte_range read_range(std::string_view field, std::uint64_t size) noexcept {
  constexpr std::string_view unit = "bytes=";
  if (field.size() < unit.size() || !iequals(field.substr(0, unit.size()), unit)) return {};
  field = trim(field.substr(unit.size()));
  const std::size_t dash = field.find('-');
  if (dash == field.npos || field.find_first_not_of("0123456789-") != field.npos || field.rfind('-') != dash) return {};
  // One that is longer than any number that counts is as good as the greatest.
  auto number = [](std::string_view digits) {
    std::uint64_t n = 0;
    for (char c : digits) {
      const auto digit = static_cast<std::uint64_t>(c - '0');
      if (n > (UINT64_MAX - digit) / 10) return UINT64_MAX;
      n = 10 * n + digit;
    }
    return n;
  };
  const std::string_view from = field.substr(0, dash), to = field.substr(dash + 1);
  if (from.empty() && to.empty()) return {};
  byte_range r;
  if (from.empty()) {  // the last so many
    const std::uint64_t n = number(to);
    if (n == 0 || size == 0) return {byte_range::kind::unsatisfiable, 0, 0};
    return {byte_range::kind::part, n < size ? size - n : 0, size - 1};
  }
  r.first = number(from);
  r.last = to.empty() ? UINT64_MAX : number(to);
  if (r.last < r.first) return {};  // no range at all (section 14.1.1)
  if (r.first >= size) return {byte_range::kind::unsatisfiable, 0, 0};
  r.what = byte_range::kind::part;
  if (r.last >= size) r.last = size - 1;
  return r;
}

}  // namespace hailwire::proto
