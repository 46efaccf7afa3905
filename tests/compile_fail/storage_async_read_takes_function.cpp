// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: async_read takes its handler as hailwire::read_handler, which is moved; std::function would copy it
#include <functional>

#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  void async_append(std::string_view, draft, append_handler done) { done(1); }
  void async_read(std::string_view, std::uint64_t, read_limit, const std::function<void(read_result)>& done) {
    done({});
  }
};

void use() { detail::erase_storage(subject()); }
