// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: an asynchronous storage also needs void async_read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit, hailwire::read_handler done)
#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  void async_append(std::string_view, draft, append_handler done) { done(1); }
};

void use() { detail::erase_storage(subject()); }
