// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: on_renew takes hailwire::decision(hailwire::session&, std::string_view token) or void(hailwire::session&, std::string_view token, hailwire::authorize_reply)
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

void use(hailwire::server<hailwire::sse>& live) {
  live.on_renew([](hailwire::session&, std::string_view) { return true; });
}
