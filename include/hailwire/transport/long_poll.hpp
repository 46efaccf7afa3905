// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>

#include "hailwire/transport/poll.hpp"

namespace hailwire::transport {

/// Holds a request until something is new or its time is over. The client says how long, in whole seconds: `?wait=N`,
/// or `Prefer: wait=N` (RFC 7240, section 4.3); `options::longest_wait` caps it.
struct long_poll {
  static constexpr std::string_view name = "long_poll";
  static constexpr std::string_view offer = "long poll (?wait=seconds)";
  static constexpr bool answers_head = false;  // it waits; a short poll answers the same

  static bool claims(const live_request& a) { return a.param("wait") || proto::http1::prefer_wait(a.head); }
  static result<poll> begin(const live_request& a);
};

}  // namespace hailwire::transport

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/transport/long_poll.ipp"
#endif
