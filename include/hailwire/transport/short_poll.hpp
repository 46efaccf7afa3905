// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/transport/poll.hpp"

namespace hailwire::transport {

/// Answers every request at once with what is new. Claims what comes, so it stands last in a list of transports.
struct short_poll {
  static constexpr std::string_view name = "short_poll";
  static constexpr std::string_view offer = "short poll";

  static bool claims(const live_request&) { return true; }
  static result<poll> begin(const live_request&) { return poll{}; }
};

}  // namespace hailwire::transport
