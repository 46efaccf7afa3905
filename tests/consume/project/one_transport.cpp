// SPDX-License-Identifier: BSL-1.0
//
// A server of one transport; what is linked beside it is looked up from outside.

#include <hailwire/server.hpp>

#ifdef ALONE_polls
#include <hailwire/transport/long_poll.hpp>
using transport_alone = hailwire::long_poll;
#else
#include <hailwire/transport/websocket.hpp>
using transport_alone = hailwire::websocket;
#endif

int main() { hailwire::server<transport_alone> live(hailwire::own_thread); }
