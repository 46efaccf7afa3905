// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a broker needs void tell(std::uint64_t hub, std::string_view channel, const hailwire::live_event& e)
#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  std::uint64_t attach(broker_receiver) { return 1; }
  void detach(std::uint64_t) {}
  void subscribe(std::uint64_t, std::string_view) {}
  void unsubscribe(std::uint64_t, std::string_view) {}
  void publish(std::uint64_t, std::string_view, std::string_view, const message&) {}
};

void use(subject& s) { detail::erase_broker(s); }
