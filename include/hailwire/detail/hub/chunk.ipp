// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/chunk.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void fetch(const void* object, int lines) noexcept {
  for (int i = 0; i < lines; ++i) __builtin_prefetch(static_cast<const char*>(object) + 64 * i);
}

HAILWIRE_INLINE void chunk::prefetch() const noexcept {
  fetch(bytes.data(), 3);
  fetch(marks.data(), 1);
}

HAILWIRE_INLINE std::size_t chunk::frame_begin(std::size_t at) const noexcept {
  auto m = containing(at);
  return m == marks.begin() ? 0 : std::prev(m)->end;
}

HAILWIRE_INLINE std::uint64_t chunk::first_message() const noexcept {
  return std::find_if(marks.begin(), marks.end(), [](const mark& m) { return m.live == 0; })->offset;
}

HAILWIRE_INLINE std::uint64_t chunk::offset_at(std::size_t n, std::uint64_t none) const noexcept {
  auto m = containing(n);
  return m == marks.begin() ? none : std::prev(m)->offset;
}

HAILWIRE_INLINE std::size_t chunk::begin_after(std::uint64_t offset) const noexcept {
  auto m =
      std::upper_bound(marks.begin(), marks.end(), offset, [](std::uint64_t v, const mark& k) { return v < k.offset; });
  return m == marks.begin() ? 0 : std::prev(m)->end;
}

}  // namespace hailwire::detail
