// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: on_http takes hailwire::response(const hailwire::request&) or void(const hailwire::request&, hailwire::reply_to<hailwire::result<hailwire::response>>)
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

void use(hailwire::server<hailwire::sse>& live) {
  live.on_http([](const hailwire::request&) { return "hello"; });
}
