// SPDX-License-Identifier: BSL-1.0
#include "hailwire/node_for.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "catch.hpp"

using hailwire::node_for;

TEST_CASE("all who know the same nodes, in whatever order, send a channel to the same one") {
  std::vector<std::string> nodes{"a", "b", "c", "d"};
  std::vector<std::string> homes;
  for (int i = 0; i < 100; ++i) homes.push_back(nodes[node_for("channel " + std::to_string(i), nodes)]);
  while (std::next_permutation(nodes.begin(), nodes.end()))
    for (int i = 0; i < 100; ++i)
      CHECK(nodes[node_for("channel " + std::to_string(i), nodes)] == homes[std::size_t(i)]);
  // These stay as they are: processes of different versions run side by side.
  const std::string_view three[] = {"one", "two", "three"};
  std::string said;
  for (const char* what : {"lobby", "ada", "", "@bob", "news"}) said += three[node_for(what, three)].substr(0, 2);
  CHECK(said == "ontwonthtw");
}

TEST_CASE("each node has its share, and one that comes or goes moves no more than that") {
  const std::vector<std::string> three{"a", "b", "c"}, four{"a", "b", "c", "d"};
  std::size_t share[4] = {}, moved = 0, came_from[3] = {};
  for (int i = 0; i < 12'000; ++i) {
    const auto what = std::to_string(i);
    const auto before = node_for(what, three), after = node_for(what, four);
    ++share[after];
    if (before == after) continue;
    ++moved;
    CHECK(after == 3);  // only to the new one
    ++came_from[before];
  }
  for (auto n : share) CHECK((n > 2700 && n < 3300));
  CHECK(moved == share[3]);
  for (auto n : came_from) CHECK((n > 800 && n < 1200));
}

TEST_CASE("without nodes, or with one, there is nothing to choose") {
  CHECK(node_for("x", std::vector<std::string>()) == 0);
  CHECK(node_for("x", std::vector<std::string>{"a"}) == 0);
}
