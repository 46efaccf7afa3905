// SPDX-License-Identifier: BSL-1.0
// expect nothing
#include "hailwire/transport/stream.hpp"

using namespace hailwire::transport;

struct pigeon {
  static constexpr std::string_view name = "pigeon";
  static constexpr std::string_view offer = "a pigeon";
  static bool claims(const live_request&) { return true; }
  static hailwire::result<poll> begin(const live_request&) { return poll{}; }
  static constexpr bool upgrades = false;
  static constexpr bool answers_head = false;
  static spoken_refusal refuse(const hailwire::failure&) { return {}; }
};
static_assert(check_transport<pigeon>() && polling<pigeon>);
