// SPDX-License-Identifier: BSL-1.0
// Waiting in tests whose clients and servers share one context.
#pragma once

#include <asio/io_context.hpp>

#include <chrono>

constexpr auto limit = std::chrono::seconds(20);  // only a failure reaches it

/// Runs `io` until `done()` is true; false when it is not within the limit.
template <class F>
bool run_until(asio::io_context& io, F done) {
  io.restart();
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!done() && std::chrono::steady_clock::now() < end) io.run_one_for(std::chrono::milliseconds(20));
  return done();
}
