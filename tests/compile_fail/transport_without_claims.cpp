// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a transport needs static bool claims(const hailwire::transport::live_request&)
#include "hailwire/transport/stream.hpp"

using namespace hailwire::transport;

struct pigeon {
  static constexpr std::string_view name = "pigeon";
  static constexpr std::string_view offer = "a pigeon";
  static hailwire::result<poll> begin(const live_request&) { return poll{}; }
};
static_assert(check_transport<pigeon>());
