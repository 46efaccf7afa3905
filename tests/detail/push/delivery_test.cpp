// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/push/delivery.hpp"

#include <string>
#include <vector>

#include "catch.hpp"
#include "push/scripted_transport.hpp"

using namespace hailwire;
using namespace hailwire::detail;

namespace {

/// A service that answers by status alone, and may want a credential.
struct plain_provider final : push_provider {
  std::optional<push_request> credential(std::int64_t) override {
    if (!wants_credential) return {};
    return push_request{"https://login"};
  }
  std::string take_credential(const push_response& r, std::int64_t) override {
    if (r.status != 200) return "status " + std::to_string(r.status);
    wants_credential = false;
    return {};
  }
  result<push_request> write(const push_job& job, std::int64_t) override {
    if (job.to.token == "bad") return errc::bad_request;
    ids.push_back(job.id);
    return push_request{"https://service/" + job.to.token};
  }
  push_verdict judge(const push_job&, const push_response& r, std::int64_t) override {
    if (r.status == 410) return {push_verdict::what::gone, "gone"};
    if (r.status == 401) {
      wants_credential = true;
      return {push_verdict::what::renew, "renew"};
    }
    return judge_status(r);
  }
  bool wants_credential = false;
  std::vector<std::string> ids;
};

struct line {
  explicit line(push_limits l = {}) : delivery(transport, provider, l) {}
  bool add(told& t, std::string token = "t") {
    if (!delivery.reserve()) return false;
    delivery.add(phone("test", std::move(token)), news(), t.handler());
    return true;
  }
  plain_provider provider;
  scripted_transport transport;
  push_delivery delivery;
};

}  // namespace

TEST_CASE("a notice is delivered, or its token is gone, or it failed: each is told once and counted") {
  line l;
  told a, b, c, d;
  l.add(a, "a"), l.add(b, "b"), l.add(c, "c"), l.add(d, "bad");
  CHECK(d.times == 1);
  CHECK(d.last.outcome == push_outcome::failed);
  REQUIRE(l.transport.requests.size() == 3);
  CHECK(l.transport.requests[0].request.url == "https://service/a");
  l.transport.answer(201);
  l.transport.answer(410);
  l.transport.answer(400);
  CHECK((a.times == 1 && b.times == 1 && c.times == 1));
  CHECK(a.last.outcome == push_outcome::delivered);
  CHECK(b.last.outcome == push_outcome::gone);
  CHECK(c.last.outcome == push_outcome::failed);
  CHECK(c.last.reason == "status 400");
  auto n = l.delivery.counters();
  CHECK((n.delivered == 1 && n.gone == 1 && n.failed == 2 && n.retried == 0 && n.waiting == 0 && n.dropped == 0));
}

TEST_CASE("there is room for as many notices as the limit says, and one more is dropped and counted") {
  line l({.max_waiting = 3, .max_in_flight = 2});
  told t[5];
  for (auto& one : t) l.add(one);
  CHECK(l.transport.requests.size() == 2);
  CHECK(l.delivery.counters().waiting == 3);
  CHECK(l.delivery.counters().dropped == 2);
  l.transport.answer(200);
  CHECK(l.transport.requests.size() == 2);
  CHECK(l.add(t[3]));
  CHECK_FALSE(l.add(t[4]));
}

TEST_CASE("429 is retried after what the service asked for, and not a millisecond before") {
  line l;
  told t;
  l.add(t);
  l.transport.answer(429, "", 7);
  CHECK(t.times == 0);
  // 7 s, a second of jitter at most, and one millisecond.
  CHECK(l.transport.alarm == 5'000 + 7'000 + 1'000 + 1);
  l.transport.pass(8'000, l.delivery);
  CHECK(l.transport.requests.empty());
  l.transport.pass(1, l.delivery);
  REQUIRE(l.transport.requests.size() == 1);
  l.transport.answer(200);
  CHECK(t.last.outcome == push_outcome::delivered);
  CHECK(l.delivery.counters().retried == 1);
  CHECK(l.provider.ids.at(0) == l.provider.ids.at(1));  // the same notice
  CHECK_FALSE(l.provider.ids[0].empty());
}

TEST_CASE("500 is tried as often as the limit says") {
  line l({.max_attempts = 3});
  told t;
  l.add(t);
  for (int i = 0; i < 2; ++i) {
    l.transport.answer(500);
    CHECK(t.times == 0);
    l.transport.pass(60'000, l.delivery);
    REQUIRE(l.transport.requests.size() == 1);
  }
  l.transport.answer(500);
  CHECK(t.times == 1);
  CHECK(t.last.outcome == push_outcome::failed);
  CHECK(t.last.reason == "given up: status 500");
}

TEST_CASE("a Retry-After beyond the time in which a notice matters ends it at once") {
  line l({.give_up = std::chrono::seconds(60)});
  told t;
  l.add(t);
  l.transport.answer(429, "", 61);
  CHECK(t.times == 1);
  CHECK(t.last.reason == "given up: status 429");
}

TEST_CASE("a service that is away costs one request at a time, and its notices wait for it") {
  line l({.max_in_flight = 4});
  told t[8];
  for (auto& one : t) l.add(one);
  REQUIRE(l.transport.requests.size() == 4);
  for (int i = 0; i < 4; ++i) l.transport.fail("no route");
  CHECK(l.transport.requests.empty());
  // What failed together makes the line wait once: a second, not one for each.
  l.transport.pass(1'001, l.delivery);
  REQUIRE(l.transport.requests.size() == 1);
  l.transport.fail("no route");
  l.transport.pass(1'999, l.delivery);
  CHECK(l.transport.requests.empty());
  l.transport.pass(2, l.delivery);
  REQUIRE(l.transport.requests.size() == 1);
  CHECK(l.delivery.counters().waiting == 8);
  l.transport.answer(200);
  CHECK(l.transport.requests.size() == 4);  // it is back
  while (!l.transport.requests.empty() || l.delivery.counters().waiting) {
    if (l.transport.requests.empty()) l.transport.pass(1'000, l.delivery);
    if (!l.transport.requests.empty()) l.transport.answer(200);
  }
  for (auto& one : t) CHECK((one.times == 1 && one.last.outcome == push_outcome::delivered));
}

TEST_CASE("an outage that lasts longer than a notice matters ends the notice with its reason") {
  line l({.max_attempts = 2, .give_up = std::chrono::seconds(100)});
  told sent, waiting;
  l.add(sent);
  l.transport.answer(503);
  l.add(waiting);
  CHECK(l.transport.requests.empty());
  std::int64_t from = l.transport.time;
  while (sent.times == 0 && l.transport.time < from + 200'000) {
    l.transport.pass(1'000, l.delivery);
    while (!l.transport.requests.empty()) l.transport.answer(503);
  }
  CHECK(sent.last.reason == "given up: status 503");
  CHECK(l.transport.time - from >= 30'000);  // attempts do not count while nobody answers
  while (waiting.times == 0 && l.transport.time < from + 300'000) {
    l.transport.pass(1'000, l.delivery);
    while (!l.transport.requests.empty()) l.transport.answer(503);
  }
  CHECK(waiting.last.outcome == push_outcome::failed);
  CHECK(l.delivery.counters().waiting == 0);
}

TEST_CASE("the line waits for a credential, which is asked for once") {
  line l;
  l.provider.wants_credential = true;
  told a, b;
  l.add(a), l.add(b);
  REQUIRE(l.transport.requests.size() == 1);
  CHECK(l.transport.requests[0].request.url == "https://login");
  l.transport.answer(500);
  CHECK(l.transport.requests.empty());
  CHECK((a.times == 0 && b.times == 0));
  l.transport.pass(1'001, l.delivery);
  REQUIRE(l.transport.requests.size() == 1);
  l.transport.answer(200);
  REQUIRE(l.transport.requests.size() == 2);
  // One that the service refuses later is replaced, and the notice sent again at once.
  l.transport.answer(401);
  REQUIRE(l.transport.requests.size() == 2);
  CHECK(l.transport.requests[1].request.url == "https://login");
  l.transport.answer(200);
  l.transport.answer(200);
  REQUIRE(l.transport.requests.size() == 1);
  l.transport.answer(200);
  CHECK((a.last.outcome == push_outcome::delivered && b.last.outcome == push_outcome::delivered));
}

TEST_CASE("what a handler throws is its own loss") {
  line l;
  REQUIRE(l.delivery.reserve());
  l.delivery.add(phone("test", "t"), news(), [](push_result) { throw 1; });
  told after;
  l.add(after);
  l.transport.answer(200);
  l.transport.answer(200);
  CHECK(after.times == 1);
  CHECK(l.delivery.counters().waiting == 0);
}
