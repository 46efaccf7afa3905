// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/client/places.hpp"

#include <optional>
#include <string>

#include "catch.hpp"

using namespace hailwire;
using detail::client_places;

namespace {
std::string cursor_of(const client_places& p) {
  return p.cursor([](std::string_view) { return std::optional<position>(); });
}
}  // namespace

TEST_CASE("a cursor has an element for each channel, in the order in which they came") {
  client_places p;
  CHECK((p.empty() && cursor_of(p).empty()));
  p.add("b", {});
  p.add("a", start::earliest());
  p.add("c", start::after({"k", 7}));
  CHECK(cursor_of(p) == "latest,earliest,k.7");
  CHECK(p.cursor([](std::string_view c) { return c == "a" ? std::optional<position>({"z", 1}) : std::nullopt; }) ==
        "latest,z.1,k.7");
  CHECK(p.names() == std::vector<std::string>{"b", "a", "c"});
  p.erase("a");
  CHECK((p.find("a") == nullptr && p.size() == 2 && cursor_of(p) == "latest,k.7"));
  CHECK_FALSE(p.moved());
}

TEST_CASE("within an epoch a place goes forward, and back only by a gap") {
  client_places p;
  p.add("a", start::after({"k", 7}));
  auto& at = *p.find("a");
  p.move(at, "k", 7);
  p.move(at, "k", 6);
  CHECK((cursor_of(p) == "k.7" && !p.moved()));
  p.move(at, "k", 8);
  CHECK((cursor_of(p) == "k.8" && p.moved()));
  p.moved(false);
  p.move(at, "k", 3, true);
  CHECK((cursor_of(p) == "k.3" && p.moved()));
  p.move(at, "l", 1);
  CHECK(cursor_of(p) == "l.1");
}

TEST_CASE("entries are taken by name, and what is no entry is passed over") {
  client_places p;
  p.add("a\"b", {});
  p.add("c", {});
  p.take_entries(
      R"({"a\"b":{"epoch":"k","offset":4},"c":{"epoch":"no epoch","offset":1},"d":{"epoch":"k","offset":9}})");
  CHECK(cursor_of(p) == "k.4,latest");
  for (const char* odd : {"", "7", "[]", R"({"c":7})", R"({"c":{"offset":3}})"}) p.take_entries(odd);
  CHECK((cursor_of(p) == "k.4,latest" && p.size() == 2));
}

TEST_CASE("an entry before a gap leaves the place where it is") {
  client_places p;
  p.add("a", start::after({"k", 7}));
  p.take_entries(R"({"a":{"epoch":"k","offset":99,"recovered":false}})");
  CHECK((cursor_of(p) == "k.7" && !p.moved()));
  p.take_entries(R"({"a":{"epoch":"k","offset":8,"recovered":true}})");
  CHECK(cursor_of(p) == "k.8");
}
