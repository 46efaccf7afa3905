// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a transport needs static constexpr std::string_view name
#include "hailwire/server.hpp"
#include "hailwire/transport/sse.hpp"

struct pigeon {
  static constexpr std::string_view offer = "a pigeon";
  static bool claims(const hailwire::transport::live_request&) { return true; }
  static hailwire::result<hailwire::transport::poll> begin(const hailwire::transport::live_request&) {
    return hailwire::transport::poll{};
  }
};

void use(asio::any_io_executor ex) { hailwire::server<hailwire::sse, pigeon> live(ex); }
