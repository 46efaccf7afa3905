// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: adopt takes a socket; for another Asio stream, such as asio::ssl::stream, #include <hailwire/adopt_stream.hpp> and call hailwire::adopt_stream(server, std::move(stream), already_read)
#include "hailwire/server.hpp"

struct stream {};

void use(hailwire::basic_server& live) { live.adopt(stream()); }
