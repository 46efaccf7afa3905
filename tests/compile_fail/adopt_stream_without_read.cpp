// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a stream to adopt needs async_read_some(mutable buffer, void(std::error_code, std::size_t) handler)
#include "hailwire/adopt_stream.hpp"

struct layer {
  void close(std::error_code&) {}
};
struct stream {
  template <class Handler>
  void async_write_some(asio::const_buffer, Handler) {}
  layer& lowest_layer();
};

void use(hailwire::basic_server& live) { hailwire::adopt_stream(live, stream()); }
