// SPDX-License-Identifier: BSL-1.0
// The contract of brokers fails for brokers that break it. tests/broker has those that keep it.
#include "hailwire/testing/broker_contract.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "hailwire/broker/in_process.hpp"

using namespace hailwire;

namespace {

enum class fault { repeats, swaps, cuts_names, cuts_bytes, forgets_places, hears_itself };

/// A broker that breaks one promise.
struct faulty : in_process_broker {
  explicit faulty(fault f) : wrong(f) {}
  fault wrong;
  std::string held;

  std::string name(std::string_view channel) const {
    return std::string(wrong == fault::cuts_names ? channel.substr(0, channel.find('\0')) : channel);
  }
  void subscribe(std::uint64_t hub, std::string_view channel) { in_process_broker::subscribe(hub, name(channel)); }
  void unsubscribe(std::uint64_t hub, std::string_view channel) { in_process_broker::unsubscribe(hub, name(channel)); }
  void tell(std::uint64_t hub, std::string_view channel, live_event e) {
    if (wrong == fault::swaps && e.after == 7)
      e.after = 8;
    else if (wrong == fault::swaps && e.after == 8)
      e.after = 7;
    if (wrong == fault::cuts_bytes) e.bytes = e.bytes.substr(0, 200);
    if (wrong == fault::forgets_places && e.epoch == "epoch") e.after = 0;
    in_process_broker::tell(wrong == fault::hears_itself ? 63 : hub, name(channel), e);
    if (wrong == fault::repeats && e.after == 7) in_process_broker::tell(hub, name(channel), e);
  }
};

std::vector<std::string> broken(fault f) {
  std::vector<std::string> out;
  for (const auto& o :
       testing::broker_contract([f] { return std::make_unique<faulty>(f); }, std::chrono::milliseconds(50)))
    if (o.what == testing::verdict::failed) out.push_back(o.name);
  return out;
}

}  // namespace

TEST_CASE("a broker that breaks a promise is found out") {
  CHECK(broken(fault::repeats) == std::vector<std::string>{"what is told comes in order, and never twice"});
  CHECK(broken(fault::swaps) == std::vector<std::string>{"what is told comes in order, and never twice"});
  CHECK(broken(fault::cuts_names) == std::vector<std::string>{"a channel's name is opaque bytes, up to 300 of them"});
  CHECK(broken(fault::cuts_bytes) == std::vector<std::string>{"every byte comes as it was given"});
  CHECK(broken(fault::forgets_places).size() == 1);
  CHECK(broken(fault::hears_itself).size() == 1);
}
