// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: watermarks are hailwire::mark_result mark(std::string_view channel, const hailwire::watermark& m)
#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  append_result append(std::string_view, const draft&) { return 1; }
  read_result read(std::string_view, std::uint64_t, read_limit) { return {}; }
  mark_result mark(std::string_view, const watermark&) { return {}; }
};

void use() { detail::erase_storage(subject()); }
