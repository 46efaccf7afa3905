// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: erase is hailwire::append_result erase(std::string_view channel, const hailwire::position& at, const hailwire::draft& message)
#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  append_result append(std::string_view, const draft&) { return 1; }
  read_result read(std::string_view, std::uint64_t, read_limit) { return {}; }
  append_result erase(std::string_view, const draft&) { return 1; }
};

void use() { detail::erase_storage(subject()); }
