// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: this belongs to another Asio than this file is compiled for, which is the standalone one; for Boost.Asio link hailwire::boost, or define HAILWIRE_USE_BOOST_ASIO
#include <boost/asio/ip/tcp.hpp>

#include "hailwire/adopt_stream.hpp"

void use(hailwire::basic_server& live, boost::asio::ip::tcp::socket s) { hailwire::adopt_stream(live, std::move(s)); }
