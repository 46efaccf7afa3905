// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: the header of each transport must be included: #include <hailwire/transport/websocket.hpp>
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

// fwd.hpp names them all; only its own header brings one.
void use(asio::any_io_executor ex) { hailwire::server<hailwire::sse, hailwire::long_poll> live(ex); }
