// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a storage needs hailwire::append_result append(std::string_view channel, const hailwire::draft&
// message)
#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  bool append(std::string_view, const draft&) { return true; }
  read_result read(std::string_view, std::uint64_t, read_limit) { return {}; }
};

void use() { detail::erase_storage(subject()); }
