// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/client/answers.hpp"

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::detail;

TEST_CASE("who follows is read from what the server says") {
  const auto p = read_presence(
      R"({"members":[{"user":"ada \"x\"","sessions":2,"info":{"n":[1]}},{"user":"bob","new":7}],"count":12,)"
      R"("anonymous":3,"more":true,"later":{}})");
  REQUIRE(p.members.size() == 2);
  CHECK((p.members[0].user == "ada \"x\"" && p.members[0].sessions == 2 && p.members[0].info == "{\"n\":[1]}"));
  CHECK((p.members[1].user == "bob" && p.members[1].sessions == 0 && p.members[1].info.empty()));
  CHECK((p.count == 12 && p.anonymous == 3 && p.more));
  const auto numbers = read_presence(R"({"count":1,"anonymous":0,"more":false})");
  CHECK((numbers.members.empty() && numbers.count == 1 && !numbers.more));
}

TEST_CASE("how far users have come is read from what the server says") {
  const auto r = read_receipts(
      R"({"epoch":"k3X9","head":9007199254740991,"receipts":[{"user":"ada","received":42,"read":40}],"more":false})");
  REQUIRE(r.receipts.size() == 1);
  CHECK((r.epoch == "k3X9" && r.head == max_offset && !r.more));
  CHECK((r.receipts[0].user == "ada" && r.receipts[0].received == 42 && r.receipts[0].read == 40));
  const auto at = read_position(R"({"offset":7,"epoch":"E"})");
  CHECK((at.epoch == "E" && at.offset == 7));
}

TEST_CASE("whatever a server says in place of that does no harm") {
  for (const char* odd : {"", "[]", "7", "{", R"({"members":7,"receipts":{},"count":-1,"head":1e9,"epoch":[]})",
                          R"({"members":[1,"x",null,{}],"receipts":[[],{"user":3}]})",
                          R"({"members":[{"user":"\ud800"}],"count":99999999999999999999})"}) {
    INFO(odd);
    const auto p = read_presence(odd);
    const auto r = read_receipts(odd);
    CHECK((p.count == 0 && r.head == 0 && r.epoch.empty() && read_position(odd).offset == 0));
    for (auto& m : p.members) CHECK((m.user.empty() && m.sessions == 0));
    for (auto& one : r.receipts) CHECK((one.user.empty() && one.read == 0));
  }
}
