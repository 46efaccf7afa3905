// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a transport needs static hailwire::result<hailwire::transport::accepted> begin(const hailwire::transport::live_request&), or static hailwire::result<hailwire::transport::poll> begin when it polls
#include "hailwire/transport/stream.hpp"

using namespace hailwire::transport;

struct pigeon {
  static constexpr std::string_view name = "pigeon";
  static constexpr std::string_view offer = "a pigeon";
  static bool claims(const live_request&) { return true; }
  static stream_box begin(const live_request&) { return {}; }
};
static_assert(check_transport<pigeon>());
