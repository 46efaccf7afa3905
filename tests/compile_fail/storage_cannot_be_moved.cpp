// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: this storage cannot be moved: hand in std::make_unique<my_storage>(…), or an object of the host's that outlives the server
#include <mutex>
#include <utility>

#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  std::mutex mutex;
  append_result append(std::string_view, const draft&) { return 1; }
  read_result read(std::string_view, std::uint64_t, read_limit) { return {}; }
};

void use() {
  subject mine;
  detail::erase_storage(std::move(mine));
}
