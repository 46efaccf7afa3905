// SPDX-License-Identifier: BSL-1.0
// One program, two servers, each on another Asio, with one storage and one kind of payload.
#include <cstdio>

#include "meet.hpp"

static bool wrong(bool fine, const char* what) {
  if (!fine) std::fprintf(stderr, "meet: %s\n", what);
  return !fine;
}

int main() {
  hailwire::memory_storage shared;
  met standalone = meet_standalone(shared), boost = meet_boost(shared);
  const auto text = hailwire::payload::text("hello");
  standalone.publish("news", text);
  standalone.run();
  boost.publish("news", text);
  boost.run();
  int failed = wrong(standalone.type() != boost.type(), "the linker takes one server for the other");
  auto kept = shared.read("news", 0, {});
  failed += wrong(kept.messages.size() == 2, "both publish to one storage");
  for (const auto& m : kept.messages) failed += wrong(m.data.bytes() == "hello", "what was published is what was kept");
  return failed;
}
