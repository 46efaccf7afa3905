// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "hailwire/detail/base/siphash.hpp"

namespace hailwire {

/// Which of some nodes serves a channel or a user, for hosts that want those who talk to one another on one node: its
/// place in `nodes`; 0 where there are none. Any node can serve anybody, so this is for speed alone.
///
/// Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): who has the
/// same names, in whatever order, picks the same node; one that goes moves only what was its own, evenly to all others,
/// and a new one takes its share of each. Costs a hash for each node.
///
/// `nodes`: names that tell nodes apart, as a range of what converts to `std::string_view`. The hash has no secret and
/// stays as it is: SipHash-2-4 with the key 0 of the node's name, its length before it, and `what`.
///
///     const std::vector<std::string> nodes{"a.example", "b.example", "c.example"};
///     const auto& home = nodes[hailwire::node_for("lobby", nodes)];
template <class Nodes>
std::size_t node_for(std::string_view what, const Nodes& nodes) noexcept {
  std::size_t best = 0, i = 0;
  std::uint64_t highest = 0;
  std::string_view name_of_best;
  for (const auto& node : nodes) {
    const std::string_view name(node);
    const std::uint64_t weight =
        detail::keyed_hash({}).add(std::uint64_t{name.size()}).add(name).add(what).finish().low;
    // Of two that weigh the same, one in 2^64, the name decides.
    if (i == 0 || weight > highest || (weight == highest && name < name_of_best)) {
      highest = weight;
      best = i;
      name_of_best = name;
    }
    ++i;
  }
  return best;
}

}  // namespace hailwire
