// SPDX-License-Identifier: BSL-1.0
#include "hailwire/push/apns.hpp"

#include <string>

#include "catch.hpp"
#include "push/keys.hpp"
#include "push/scripted_transport.hpp"

using namespace hailwire;
using namespace hailwire::detail;

namespace {

const std::string key_pem = p256_pem();

struct apple {
  explicit apple(apns_options o = {}) : provider(filled(std::move(o))), delivery(transport, provider, {}) {}
  static apns_options filled(apns_options o) {
    o.team = "TEAM567890", o.key_id = "KEY4567890", o.topic = "org.example.chat", o.key = key_pem;
    return o;
  }
  void add(told& t, std::string token = "00ff", std::int64_t registered = 0) {
    REQUIRE(delivery.reserve());
    delivery.add(phone("apns", std::move(token), registered), news(), t.handler());
  }
  scripted_transport transport;
  apns_provider provider;
  push_delivery delivery;
};

/// The second part of the token in an authorization header.
std::string claims_of(const std::string& header) {
  const auto first = header.find('.'), second = header.find('.', first + 1);
  return *decode_base64url(header.substr(first + 1, second - first - 1));
}

constexpr std::int64_t minute = 60'000;

}  // namespace

static_assert(push_notifier<apns>);

TEST_CASE("a notice to APNs is an alert that names no text, with an absolute expiration") {
  apple a;
  told t;
  a.add(t);
  REQUIRE(a.transport.requests.size() == 1);
  auto& r = a.transport.requests[0];
  CHECK(r.request.url == "https://api.push.apple.com/3/device/00ff");
  CHECK(r.request.body == R"({"aps":{"alert":{"loc-key":"NEW_MESSAGE"},"mutable-content":1},"channel":"@ada",)"
                          R"("epoch":"E1","offset":42,"count":3})");
  CHECK(r.header("apns-topic") == "org.example.chat");
  CHECK(r.header("apns-push-type") == "alert");
  CHECK(r.header("apns-priority") == "10");
  CHECK(r.header("apns-collapse-id") == "hailwire");
  const std::int64_t began = a.transport.unix_time() / 1000;
  CHECK(r.header("apns-expiration") == std::to_string(began + 24 * 3600));
  const std::string token = r.header("authorization");
  REQUIRE(token.starts_with("bearer "));
  const auto dot = token.rfind('.');
  CHECK(*decode_base64url(token.substr(7, token.find('.') - 7)) == R"({"alg":"ES256","kid":"KEY4567890"})");
  CHECK(claims_of(token) == "{\"iss\":\"TEAM567890\",\"iat\":" + std::to_string(began) + "}");
  CHECK(p256_key::read(key_pem).verify(token.substr(7, dot - 7), *decode_base64url(token.substr(dot + 1))));
  // A later attempt lives no longer.
  a.transport.answer(500);
  a.transport.pass(2'000, a.delivery);
  REQUIRE(a.transport.requests.size() == 1);
  CHECK(a.transport.requests[0].header("apns-expiration") == std::to_string(began + 24 * 3600));
  a.transport.answer(200);
  CHECK(t.last.outcome == push_outcome::delivered);
}

TEST_CASE("a provider token serves for forty minutes, and is never older than an hour") {
  apple a;
  told t;
  a.add(t);
  const std::string first = a.transport.requests[0].header("authorization");
  a.transport.answer(200);
  a.transport.time += 40 * minute - 1;
  a.add(t);
  CHECK(a.transport.requests[0].header("authorization") == first);
  a.transport.answer(200);
  a.transport.time += 1;
  a.add(t);
  CHECK(a.transport.requests[0].header("authorization") != first);
  CHECK(claims_of(a.transport.requests[0].header("authorization")) ==
        "{\"iss\":\"TEAM567890\",\"iat\":" + std::to_string(a.transport.unix_time() / 1000) + "}");
}

TEST_CASE("a token that APNs calls expired is made anew after twenty minutes, not before") {
  apple a;
  told t;
  a.add(t);
  const std::string first = a.transport.requests[0].header("authorization");
  a.transport.answer(403, R"({"reason":"ExpiredProviderToken"})");
  CHECK(t.times == 0);
  a.transport.pass(1'001, a.delivery);
  REQUIRE(a.transport.requests.size() == 1);
  CHECK(a.transport.requests[0].header("authorization") == first);
  a.transport.time += 20 * minute - 1'002;
  a.transport.answer(403, R"({"reason":"ExpiredProviderToken"})");
  CHECK(t.times == 1);  // it has become old meanwhile
  a.add(t);
  a.transport.pass(5'000, a.delivery);
  REQUIRE(a.transport.requests.size() == 1);
  CHECK(a.transport.requests[0].header("authorization") == first);
  a.transport.answer(403, R"({"reason":"ExpiredProviderToken"})");
  REQUIRE(a.transport.requests.size() == 1);
  CHECK(a.transport.requests[0].header("authorization") != first);
  a.transport.answer(200);
  CHECK(t.last.outcome == push_outcome::delivered);
}

TEST_CASE("410 forgets a token only if it was seen to fail after it was registered") {
  apple a;
  told t;
  const std::string body = R"({"reason":"Unregistered","timestamp":1700000000000})";
  a.add(t, "aa", 1'699'999'999'999);
  a.transport.answer(410, body);
  CHECK(t.last.outcome == push_outcome::gone);
  for (std::int64_t registered : {1'700'000'000'000, 1'700'000'000'001}) {
    a.add(t, "aa", registered);
    a.transport.answer(410, body);
    CHECK(t.last.outcome == push_outcome::failed);
  }
  for (const char* odd : {"", "{", R"({"reason":"Unregistered"})", R"({"timestamp":"1800000000000"})",
                          R"({"timestamp":-1})", R"({"timestamp":99999999999999999999})"}) {
    a.add(t, "aa", 0);
    a.transport.answer(410, odd);
    CHECK(t.last.outcome == push_outcome::failed);
  }
}

TEST_CASE("BadDeviceToken forgets nothing, for it may be the other environment's") {
  apple a;
  told t;
  a.add(t);
  a.transport.answer(400, R"({"reason":"BadDeviceToken"})");
  CHECK(t.last.outcome == push_outcome::failed);
  CHECK(t.last.reason == "BadDeviceToken");
}

TEST_CASE("429 of one device is retried; one for too many tokens holds the line") {
  apple a;
  told t, u;
  a.add(t), a.add(u);
  a.transport.answer(429, R"({"reason":"TooManyRequests"})");
  a.transport.answer(200);
  CHECK(u.last.outcome == push_outcome::delivered);
  a.transport.pass(1'001, a.delivery);
  a.transport.answer(429, R"({"reason":"TooManyProviderTokenUpdates"})");
  a.add(u);
  CHECK(a.transport.requests.empty());
}

TEST_CASE("a developer's device is reached where developers' devices are") {
  apple a;
  told t;
  a.add(t, apns::accept(R"({"push":"apns","token":"AB","environment":"sandbox"})")->token);
  CHECK(a.transport.requests[0].request.url == "https://api.sandbox.push.apple.com/3/device/ab");
}

TEST_CASE("an APNs token is hexadecimal") {
  CHECK(apns::accept(R"({"token":"00aBfF"})")->token == "00abff");
  CHECK(apns::accept(R"({"token":"00","environment":"production"})")->token == "00");
  CHECK(apns::accept("{\"token\":\"" + std::string(400, 'a') + "\"}"));
  CHECK_FALSE(apns::accept("{\"token\":\"" + std::string(402, 'a') + "\"}"));
  for (const char* bad :
       {"{}", R"({"token":""})", R"({"token":"0"})", R"({"token":"0g"})", R"({"token":7})", R"({"token":"../../x1"})",
        R"({"token":"00","environment":"moon"})", R"({"token":"00","environment":null})"}) {
    INFO(bad);
    CHECK_FALSE(apns::accept(bad));
  }
}

TEST_CASE("a channel's name that leaves no room in the payload is an error of that notice alone") {
  apple a;
  told t;
  REQUIRE(a.delivery.reserve());
  push_notice large = news();
  large.channel = std::string(4096, 'c');
  a.delivery.add(phone("apns", "00"), large, t.handler());
  CHECK(t.last.outcome == push_outcome::failed);
  CHECK(a.transport.requests.empty());
}

TEST_CASE("APNs options that cannot work say so at once") {
  auto o = apple::filled({});
  o.topic = "";
  CHECK_THROWS_AS(apns_provider(o), std::invalid_argument);
  o = apple::filled({});
  o.team = "a\r\nb";
  CHECK_THROWS_AS(apns_provider(o), std::invalid_argument);
  o = apple::filled({});
  o.key = "-----BEGIN";
  CHECK_THROWS_AS(apns_provider(o), std::invalid_argument);
  o = apple::filled({});
  o.url = "nowhere";
  CHECK_THROWS_AS(apns_provider(o), std::invalid_argument);
}
