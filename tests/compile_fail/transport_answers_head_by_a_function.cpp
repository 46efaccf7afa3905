// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a transport's answers_head is static constexpr bool answers_head
#include "hailwire/transport/stream.hpp"

using namespace hailwire::transport;

struct pigeon {
  static constexpr std::string_view name = "pigeon";
  static constexpr std::string_view offer = "a pigeon";
  static bool claims(const live_request&) { return true; }
  static hailwire::result<poll> begin(const live_request&) { return poll{}; }
  static bool answers_head() { return true; }
};
static_assert(check_transport<pigeon>());
