// SPDX-License-Identifier: BSL-1.0
#include "hailwire/push/fcm.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "catch.hpp"
#include "push/keys.hpp"
#include "push/scripted_transport.hpp"

using namespace hailwire;
using namespace hailwire::detail;
using nlohmann::json;

namespace {

std::string account() {
  static const std::string text = json{{"type", "service_account"},
                                       {"project_id", "chat-1"},
                                       {"private_key_id", "k1"},
                                       {"private_key", rfc7515_rsa_pem()},
                                       {"client_email", "push@chat-1.example"},
                                       {"token_uri", "https://oauth2.googleapis.com/token"}}
                                      .dump();
  return text;
}

struct google {
  google() : provider({.service_account = account()}), delivery(transport, provider, {}) {}
  void add(told& t, std::string token = "token:abc") {
    REQUIRE(delivery.reserve());
    delivery.add(phone("fcm", std::move(token)), news(), t.handler());
  }
  /// Answers the question for an access token.
  void sign_in(std::string token = "access-1", int seconds = 3600) {
    REQUIRE(transport.requests.size() == 1);
    REQUIRE(transport.requests[0].request.url == "https://oauth2.googleapis.com/token");
    transport.answer(200, json{{"access_token", token}, {"expires_in", seconds}, {"token_type", "Bearer"}}.dump());
  }
  scripted_transport transport;
  fcm_provider provider;
  push_delivery delivery;
};

std::string error(int code, const char* status, const char* fcm_code) {
  return json{{"error",
               {{"code", code},
                {"status", status},
                {"details",
                 {{{"@type", "type.googleapis.com/google.rpc.BadRequest"}},
                  {{"@type", "type.googleapis.com/google.firebase.fcm.v1.FcmError"}, {"errorCode", fcm_code}}}}}}}
      .dump();
}

}  // namespace

static_assert(push_notifier<fcm>);

TEST_CASE("FCM is asked for an access token with a token that the service account has signed") {
  google g;
  told t;
  g.add(t);
  REQUIRE(g.transport.requests.size() == 1);
  const std::string& body = g.transport.requests[0].request.body;
  const std::string begin = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
  REQUIRE(body.starts_with(begin));
  const std::string token = body.substr(begin.size());
  const auto first = token.find('.'), second = token.rfind('.');
  CHECK(json::parse(*decode_base64url(token.substr(0, first))) ==
        json{{"alg", "RS256"}, {"typ", "JWT"}, {"kid", "k1"}});
  const std::int64_t now = g.transport.unix_time() / 1000;
  CHECK(json::parse(*decode_base64url(token.substr(first + 1, second - first - 1))) ==
        json{{"iss", "push@chat-1.example"},
             {"scope", "https://www.googleapis.com/auth/firebase.messaging"},
             {"aud", "https://oauth2.googleapis.com/token"},
             {"iat", now},
             {"exp", now + 3600}});
  CHECK(base64url(rsa_key::read(rfc7515_rsa_pem()).sign(token.substr(0, second))) == token.substr(second + 1));
}

TEST_CASE("a notice to FCM is a data message of texts, of high priority, that collapses") {
  google g;
  told t;
  g.add(t);
  g.sign_in();
  REQUIRE(g.transport.requests.size() == 1);
  auto& r = g.transport.requests[0];
  CHECK(r.request.url == "https://fcm.googleapis.com/v1/projects/chat-1/messages:send");
  CHECK(r.header("Authorization") == "Bearer access-1");
  const json m = json::parse(r.request.body)["message"];
  CHECK(m["token"] == "abc");
  CHECK_FALSE(m.contains("fid"));
  CHECK(m["data"] == json{{"channel", "@ada"}, {"epoch", "E1"}, {"offset", "42"}, {"count", "3"}});
  CHECK(m["android"] == json{{"collapse_key", "hailwire"}, {"priority", "HIGH"}, {"ttl", "86400s"}});
  CHECK(m["apns"]["payload"]["aps"] == json{{"alert", {{"loc-key", "NEW_MESSAGE"}}}, {"mutable-content", 1}});
  CHECK(m["apns"]["headers"]["apns-expiration"] == std::to_string(g.transport.unix_time() / 1000 + 86400));
  // A later attempt has less time.
  g.transport.answer(500);
  g.transport.pass(10'000, g.delivery);
  CHECK(json::parse(g.transport.requests.at(0).request.body)["message"]["android"]["ttl"] == "86390s");
}

TEST_CASE("a device of FCM is named by its installation id or by its token") {
  google g;
  told t;
  g.add(t, fcm::accept(R"({"push":"fcm","fid":"F1"})")->token);
  g.sign_in();
  const json m = json::parse(g.transport.requests.at(0).request.body)["message"];
  CHECK(m["fid"] == "F1");
  CHECK_FALSE(m.contains("token"));
  CHECK(fcm::accept(R"({"token":"a:b"})")->token == "token:a:b");
  CHECK(fcm::accept("{\"token\":\"" + std::string(4000, 'a') + "\"}"));
  CHECK_FALSE(fcm::accept("{\"token\":\"" + std::string(4001, 'a') + "\"}"));
  for (const char* bad : {"{}", R"({"token":""})", R"({"token":"a b"})", R"({"token":"a","fid":"b"})", R"({"fid":3})",
                          R"({"fid":"é"})"}) {
    INFO(bad);
    CHECK_FALSE(fcm::accept(bad));
  }
}

TEST_CASE("UNREGISTERED forgets a token, INVALID_ARGUMENT and another project's do not") {
  google g;
  told t;
  g.add(t);
  g.sign_in();
  g.transport.answer(404, error(404, "NOT_FOUND", "UNREGISTERED"));
  CHECK(t.last.outcome == push_outcome::gone);
  g.add(t);
  g.transport.answer(400, error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"));
  CHECK(t.last.outcome == push_outcome::failed);
  CHECK(t.last.reason == "status 400 INVALID_ARGUMENT");
  g.add(t);
  g.transport.answer(403, error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"));
  CHECK(t.last.outcome == push_outcome::failed);
  g.add(t);
  g.transport.answer(404, "<html>");  // a wrong URL, say
  CHECK(t.last.outcome == push_outcome::failed);
}

TEST_CASE("an access token is renewed before it ends, and when it is refused") {
  google g;
  told t;
  g.add(t);
  g.sign_in("access-1", 3600);
  g.transport.answer(200);
  g.transport.time += (3600 - 300) * 1000 - 1;
  g.add(t);
  CHECK(g.transport.requests.at(0).header("Authorization") == "Bearer access-1");
  g.transport.answer(200);
  g.transport.time += 1;
  g.add(t);
  g.sign_in("access-2");
  CHECK(g.transport.requests.at(0).header("Authorization") == "Bearer access-2");
  g.transport.answer(401, error(401, "UNAUTHENTICATED", "UNSPECIFIED_ERROR"));
  g.sign_in("access-3");
  CHECK(g.transport.requests.at(0).header("Authorization") == "Bearer access-3");
  g.transport.answer(401);
  g.sign_in("access-4");
  g.transport.answer(401);
  CHECK(t.times == 3);  // it is not the token
  CHECK(t.last.outcome == push_outcome::failed);
  g.add(t);
  g.sign_in();
  g.transport.answer(401, error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"));
  CHECK(t.times == 4);
}

TEST_CASE("the project's quota holds the line; a sign-in that fails holds it as well and loses nothing") {
  google g;
  told t, u;
  g.add(t), g.add(u);
  REQUIRE(g.transport.requests.size() == 1);
  for (const char* odd : {"", "{}", R"({"access_token":"","expires_in":9})", R"({"access_token":"a"})",
                          R"({"access_token":"a\r\nb","expires_in":9})", R"({"access_token":"a","expires_in":-1})"}) {
    g.transport.answer(200, odd);
    CHECK(g.transport.requests.empty());
    g.transport.pass(60'001, g.delivery);
    REQUIRE(g.transport.requests.size() == 1);
  }
  g.sign_in();
  REQUIRE(g.transport.requests.size() == 2);
  g.transport.answer(429, error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), 30);
  g.transport.answer(200);
  g.add(u);
  CHECK(g.transport.requests.empty());
  g.transport.pass(29'999, g.delivery);
  CHECK(g.transport.requests.empty());
  g.transport.pass(1'003, g.delivery);
  CHECK(g.transport.requests.size() == 1);
  CHECK(t.times == 0);
}

TEST_CASE("a service account that cannot be used says so at once") {
  auto without = [](const char* member) {
    json j = json::parse(account());
    j.erase(member);
    return j.dump();
  };
  for (const char* member : {"project_id", "private_key", "client_email", "token_uri"}) {
    INFO(member);
    CHECK_THROWS_AS(fcm_provider({.service_account = without(member)}), std::invalid_argument);
  }
  CHECK_THROWS_AS(fcm_provider({.service_account = "no JSON"}), std::invalid_argument);
  json j = json::parse(account());
  j["project_id"] = "a/../b";
  CHECK_THROWS_AS(fcm_provider({.service_account = j.dump()}), std::invalid_argument);
}
