// SPDX-License-Identifier: BSL-1.0
// How a fuzzer cuts its input for a reader that takes bytes as they come.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

/// Calls `agree` with the ends of the pieces, the last of which is `bytes`' own: short inputs in two pieces at each
/// byte and all in single bytes, longer ones at two places, the same again for the same input.
template <class Agree>
void cut_everywhere(std::string_view bytes, Agree agree) {
  using ends = std::vector<std::size_t>;
  const std::size_t size = bytes.size();
  if (size <= 64) {
    ends each;
    for (std::size_t i = 0; i < size; ++i) each.push_back(i), agree(ends{i, size});
    each.push_back(size);
    agree(each);
  } else {
    std::size_t at = 0;
    for (char byte : bytes) at = at * 31 + static_cast<unsigned char>(byte);
    agree(ends{at % size, size});
    agree(ends{at % size / 2, at % size, size});
  }
}
