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

HAILWIRE_INLINE void chunk::keep_last() noexcept {
  if (marks.size() < 2) return;
  const mark last = marks.back();
  std::size_t kept = 0;
  std::uint32_t begin = 0, end = 0;  // of a frame where it was, and of what is kept
  for (const mark m : marks) {
    const std::uint32_t size = m.end - begin;
    if (m.live || m.offset == last.offset) {
      if (end != begin) bytes.replace(end, size, bytes, begin, size);
      marks[kept] = m;
      marks[kept++].end = end += size;
    }
    begin = m.end;
  }
  bytes.resize(end);
  while (marks.size() > kept) marks.pop_back();
}

}  // namespace hailwire::detail
