// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a storage needs hailwire::read_result read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit)
#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  append_result append(std::string_view, const draft&) { return 1; }
  read_result read(std::string_view, std::uint64_t) { return {}; }
};

void use() { detail::erase_storage(subject()); }
