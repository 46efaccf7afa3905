// SPDX-License-Identifier: BSL-1.0
// The answers that hooks give, by themselves; what a server makes of them is in detail/connection/requests_test.cpp.
#include "hailwire/hooks.hpp"

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace hailwire;

namespace {

struct heard {
  std::vector<std::string> all;
  command_reply reply() {
    return command_reply(
        [this](result<std::string> r) { all.push_back(r ? *r : std::string(code_name(r.error().code))); });
  }
};

TEST_CASE("a reply answers once") {
  heard h;
  {
    auto reply = h.reply();
    reply(std::string("1"));
    reply(std::string("2"));
  }
  CHECK(h.all == std::vector<std::string>{"1"});
}

TEST_CASE("a reply that is dropped answers internal by itself, wherever it has been moved") {
  heard h;
  {
    auto first = h.reply();
    auto second = std::move(first);
    CHECK(h.all.empty());
  }
  CHECK(h.all == std::vector<std::string>{"internal"});
  {
    auto third = h.reply();
    third = h.reply();  // what it was is dropped
    CHECK(h.all.size() == 2);
    third(std::string("3"));
  }
  CHECK(h.all == std::vector<std::string>{"internal", "internal", "3"});
}

TEST_CASE("what answers may throw: out of a call, but not out of a destructor") {
  command_reply called([](result<std::string>) { throw std::runtime_error("no"); });
  CHECK_THROWS_AS(called(std::string("1")), std::runtime_error);
  called(std::string("2"));  // it has answered
  command_reply dropped([](result<std::string>) { throw std::runtime_error("no"); });
}

TEST_CASE("a reply may be called by what it calls, and answers once all the same") {
  int calls = 0;
  command_reply* again = nullptr;
  command_reply reply([&](result<std::string>) {
    if (++calls < 10) (*again)(std::string("more"));
  });
  again = &reply;
  reply(std::string("1"));
  CHECK(calls == 1);
}

TEST_CASE("a decision is a grant or a refusal") {
  grant g;
  g.user = "ada";
  decision yes(std::move(g)), no(errc::forbidden), why(failure(errc::rate_limited, "later", 3));
  REQUIRE(yes.allowed());
  CHECK(yes.allowed()->user() == "ada");
  CHECK(no.allowed() == nullptr);
  CHECK(no.refused().code == errc::forbidden);
  CHECK(why.refused().retry_after == 3);
  CHECK(decision(shared_grant()).allowed() == nullptr);
  CHECK(decision(shared_grant()).refused().code == errc::internal);
}

TEST_CASE("a verdict accepts, replaces or refuses, and says which") {
  auto accepted = verdict::accept(), other = verdict::replace(payload::text("x")),
       refused = verdict::refuse(errc::too_large, "no");
  CHECK(accepted.replacement() == nullptr);
  CHECK(accepted.refusal() == nullptr);
  REQUIRE(other.replacement());
  CHECK(other.replacement()->bytes() == "x");
  CHECK(other.refusal() == nullptr);
  REQUIRE(refused.refusal());
  CHECK(refused.refusal()->text() == "no");
  CHECK(refused.replacement() == nullptr);
}

}  // namespace
