// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a transport is hailwire::websocket, hailwire::sse, hailwire::long_poll or hailwire::short_poll, and its header must be included: #include <hailwire/transport/websocket.hpp>
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

struct pigeon {};

void use(asio::any_io_executor ex) { hailwire::server<hailwire::sse, pigeon> live(ex); }
