// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: async_append takes its handler as hailwire::append_handler, which is moved; std::function would copy it
#include <functional>

#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  void async_append(std::string_view, draft, std::function<void(append_result)> done) { done(1); }
  void async_read(std::string_view, std::uint64_t, read_limit, read_handler done) { done({}); }
};

void use() { detail::erase_storage(subject()); }
