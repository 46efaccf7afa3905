// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: an authorizer is hailwire::decision(const hailwire::request&) or void(const hailwire::request&, hailwire::authorize_reply)
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

void use(hailwire::server<hailwire::sse>& live) {
  live.authorize([] { return hailwire::grant{}; });
}
