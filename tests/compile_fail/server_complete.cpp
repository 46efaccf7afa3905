// SPDX-License-Identifier: BSL-1.0
// expect nothing
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

void use(hailwire::server<hailwire::sse>& live) {
  live.authorize([](const hailwire::request&) { return hailwire::decision(hailwire::grant{}); });
  live.authorize([](const hailwire::request&) { return hailwire::grant{}; });
  live.authorize([](const hailwire::request&) { return hailwire::errc::forbidden; });
  live.authorize([](const hailwire::request&, hailwire::authorize_reply reply) { reply(hailwire::grant{}); });
  live.on_http([](const hailwire::request&) { return hailwire::response{}; });
  live.on_http([](const hailwire::request&, hailwire::reply_to<hailwire::result<hailwire::response>> reply) {
    reply(hailwire::response{});
  });
}
