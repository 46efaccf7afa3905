// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: this belongs to another Asio than this file is compiled for, which is the standalone one; for Boost.Asio link hailwire::boost, or define HAILWIRE_USE_BOOST_ASIO
#include <boost/asio/io_context.hpp>

#include "hailwire/hailwire.hpp"

void use(boost::asio::io_context& io) { hailwire::server<hailwire::sse> live(io.get_executor(), hailwire::options{}); }
