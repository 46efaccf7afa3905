// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a transport needs static constexpr std::string_view offer
#include "hailwire/transport/stream.hpp"

using namespace hailwire::transport;

struct pigeon {
  static constexpr std::string_view name = "pigeon";
  static bool claims(const live_request&) { return true; }
  static hailwire::result<poll> begin(const live_request&) { return poll{}; }
};
static_assert(check_transport<pigeon>());
