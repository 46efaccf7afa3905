// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a storage needs hailwire::read_result read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit)
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

struct subject {
  hailwire::append_result append(std::string_view, const hailwire::draft&) { return {}; }
};

void use(asio::any_io_executor ex) { hailwire::server<hailwire::sse> live(ex, subject()); }
