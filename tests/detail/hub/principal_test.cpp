// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/principal.hpp"

#include "catch.hpp"

using namespace hailwire;

TEST_CASE("a user goes before a scope, a scope before an address, and no two kinds have a name in common") {
  const shared_grant user{grant{.user = "ada", .key_scope = "browser"}}, scope{grant{.key_scope = "ada"}},
      neither{grant{}};
  using detail::principal;
  CHECK(principal(user, "ada").what() == principal::kind::user);
  CHECK(principal(user).text() == "@ada");
  CHECK(principal(scope, "ada").what() == principal::kind::scope);
  CHECK(principal(scope).text() == "?ada");
  CHECK(principal(neither, "ada").what() == principal::kind::address);
  CHECK(principal(neither, "ada").text() == "#ada");
  CHECK(principal(neither, "ada").name() == "ada");
}

TEST_CASE("who has none of them is nobody") {
  CHECK_FALSE(detail::principal(shared_grant{grant{}}));
  CHECK_FALSE(detail::principal());
  CHECK(detail::principal().text().empty());
}
