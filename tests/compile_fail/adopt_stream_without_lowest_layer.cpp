// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a stream to adopt needs lowest_layer(), and that close(std::error_code&), which ends what is under way
#include "hailwire/adopt_stream.hpp"

struct stream {
  template <class Handler>
  void async_read_some(asio::mutable_buffer, Handler) {}
  template <class Handler>
  void async_write_some(asio::const_buffer, Handler) {}
};

void use(hailwire::basic_server& live) { hailwire::adopt_stream(live, stream()); }
