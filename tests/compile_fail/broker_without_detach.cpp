// SPDX-License-Identifier: BSL-1.0
// expect: hailwire: a broker needs void detach(std::uint64_t hub)
#include "hailwire/concepts.hpp"

using namespace hailwire;

struct subject {
  std::uint64_t attach(broker_receiver) { return 1; }
  void subscribe(std::uint64_t, std::string_view) {}
  void unsubscribe(std::uint64_t, std::string_view) {}
  void publish(std::uint64_t, std::string_view, std::string_view, const message&) {}
  void tell(std::uint64_t, std::string_view, const live_event&) {}
};

void use(subject& s) { detail::erase_broker(s); }
