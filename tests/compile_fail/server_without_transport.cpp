// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: name at least one transport: hailwire::server<hailwire::websocket, hailwire::sse>
#include "hailwire/server.hpp"

void use(asio::any_io_executor ex) { hailwire::server<> live(ex); }
