// SPDX-License-Identifier: BSL-1.0
#include "hailwire/push/web_push.hpp"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "catch.hpp"
#include "push/keys.hpp"
#include "push/scripted_transport.hpp"
#include "run_until.hpp"

using namespace hailwire;
using namespace hailwire::detail;
using nlohmann::json;

namespace {

const std::string first_key = p256_pem(), second_key = p256_pem();
const p256_key browser = p256_key::generate();

web_push_options filled(std::vector<std::string> keys = {first_key}) {
  return {.keys = std::move(keys),
          .subject = "mailto:ops@example.org",
          .title = "New message",
          .navigate = "https://chat.example.org/"};
}
std::string subscription(const std::string& endpoint = "https://updates.push.services.mozilla.com/wpush/v2/x") {
  return json{{"push", "web"},
              {"token",
               {{"endpoint", endpoint},
                {"expirationTime", nullptr},
                {"keys", {{"p256dh", base64url(browser.point())}, {"auth", base64url(std::string(16, 'a'))}}}}}}
      .dump();
}

struct web {
  explicit web(web_push_options o = filled()) : provider(std::move(o)), delivery(transport, provider, {}) {}
  void add(told& t, const push_token& kept) {
    REQUIRE(delivery.reserve());
    push_device to = phone("web", kept.token);
    to.extra = kept.extra;
    delivery.add(std::move(to), news(), t.handler());
  }
  scripted_transport transport;
  web_push_provider provider;
  push_delivery delivery;
};

json claims_of(const std::string& authorization) {
  const auto first = authorization.find('.'), second = authorization.find('.', first + 1);
  return json::parse(*decode_base64url(authorization.substr(first + 1, second - first - 1)));
}

}  // namespace

static_assert(push_notifier<web_push>);

TEST_CASE("a notice to a browser is encrypted, says how long it lives, and who sends it") {
  web w;
  told t;
  auto kept = w.provider.accept(subscription());
  REQUIRE(kept);
  w.add(t, *kept);
  REQUIRE(w.transport.requests.size() == 1);
  auto& r = w.transport.requests[0];
  CHECK(r.request.url == "https://updates.push.services.mozilla.com/wpush/v2/x");
  CHECK(r.request.public_only);
  CHECK(r.header("TTL") == "86400");
  CHECK(r.header("Topic") == "hailwire");
  CHECK(r.header("Urgency") == "high");
  CHECK(r.header("Content-Encoding") == "aes128gcm");
  const std::string a = r.header("Authorization");
  REQUIRE(a.starts_with("vapid t="));
  const auto comma = a.find(", k=");
  REQUIRE(comma != a.npos);
  CHECK(a.substr(comma + 4) == w.provider.public_key());
  const std::string token = a.substr(8, comma - 8);
  const auto dot = token.rfind('.');
  CHECK(p256_key::from_point(*decode_base64url(w.provider.public_key()))
            ->verify(token.substr(0, dot), *decode_base64url(token.substr(dot + 1))));
  const std::int64_t now = w.transport.unix_time() / 1000;
  CHECK(claims_of(a) == json{{"aud", "https://updates.push.services.mozilla.com"},
                             {"exp", now + 12 * 3600},
                             {"sub", "mailto:ops@example.org"}});
  // The text is for the browser alone; that it can read it is seen with another implementation (end_to_end).
  CHECK(r.request.body.find("web_push") == std::string::npos);
  CHECK(r.request.body.size() <= 4096);
  CHECK(r.request.body.substr(16, 5) == std::string("\0\0\x10\0\x41", 5));
  w.transport.answer(201);
  CHECK(t.last.outcome == push_outcome::delivered);
}

TEST_CASE("salt and key of every message are new, and a VAPID token serves its origin for half its life") {
  web w;
  told t;
  const push_token kept = *w.provider.accept(subscription());
  std::set<std::string> salts, points, tokens;
  for (int i = 0; i < 8; ++i) {
    w.add(t, kept);
    salts.insert(w.transport.requests[0].request.body.substr(0, 16));
    points.insert(w.transport.requests[0].request.body.substr(21, 65));
    tokens.insert(w.transport.requests[0].header("Authorization"));
    w.transport.answer(201);
  }
  CHECK(salts.size() == 8);
  CHECK(points.size() == 8);
  CHECK(tokens.size() == 1);
  w.transport.time += 6 * 3600 * 1000 - 1;
  w.add(t, kept);
  tokens.insert(w.transport.requests[0].header("Authorization"));
  w.transport.answer(201);
  CHECK(tokens.size() == 1);
  w.transport.time += 1;
  w.add(t, kept);
  const std::string later = w.transport.requests[0].header("Authorization");
  CHECK(tokens.count(later) == 0);
  CHECK(claims_of(later)["exp"] == w.transport.unix_time() / 1000 + 12 * 3600);
}

TEST_CASE("a subscription stays with the key that it was made for, while that key is there") {
  web before(filled({first_key}));
  const push_token old = *before.provider.accept(subscription());
  web after(filled({second_key, first_key}));
  CHECK(after.provider.public_key() != before.provider.public_key());
  told t;
  after.add(t, old);
  CHECK(after.transport.requests[0].header("Authorization").ends_with("k=" + before.provider.public_key()));
  after.transport.answer(201);
  // A page names its subscription at every start: the same one keeps its key, another gets the first.
  auto same = after.provider.accept(subscription(), old);
  REQUIRE(same);
  CHECK((same->token == old.token && same->extra == old.extra));
  const push_token fresh = *after.provider.accept(subscription("https://web.push.apple.com/new"), old);
  CHECK(json::parse(fresh.extra)["key"] == after.provider.public_key());
  web gone(filled({second_key}));
  gone.add(t, old);
  CHECK(gone.transport.requests.empty());
  CHECK(t.last.outcome == push_outcome::failed);
  CHECK(json::parse(gone.provider.accept(subscription(), old)->extra)["key"] == gone.provider.public_key());
}

TEST_CASE("404 and 410 forget a subscription, refusals do not, a service without room is tried again alone") {
  web w;
  told t, u;
  const push_token kept = *w.provider.accept(subscription());
  for (int status : {404, 410}) {
    w.add(t, kept);
    w.transport.answer(status);
    CHECK(t.last.outcome == push_outcome::gone);
  }
  for (int status : {301, 400, 401, 403, 413}) {
    w.add(t, kept);
    w.transport.answer(status);
    CHECK(t.last.outcome == push_outcome::failed);
  }
  const int before = t.times;
  w.add(t, kept);
  w.transport.answer(503, "", 5);
  w.add(u, *w.provider.accept(subscription("https://web.push.apple.com/y")));
  w.transport.answer(201);
  CHECK(u.last.outcome == push_outcome::delivered);
  CHECK(t.times == before);
  w.transport.pass(6'002, w.delivery);
  w.transport.answer(201);
  CHECK(t.last.outcome == push_outcome::delivered);
}

TEST_CASE("no client can make the server call a URL of its choice") {
  web w;
  for (const char* good : {"https://fcm.googleapis.com/fcm/send/x", "https://web.push.apple.com/x",
                           "https://wns2-par02p.notify.windows.com/w/?token=x", "https://fcm.googleapis.com:443/x",
                           "https://FCM.googleapis.com/x"}) {
    INFO(good);
    CHECK(w.provider.accept(subscription(good)));
  }
  for (const char* bad :
       {"http://fcm.googleapis.com/x", "https://example.org/x", "https://127.0.0.1/x", "https://[::1]/x",
        "https://fcm.googleapis.com:8443/x", "https://fcm.googleapis.com@10.0.0.1/x",
        "https://fcm.googleapis.com.evil.org/x", "https://evilfcm.googleapis.com/x", "https://notify.windows.com/x",
        "https://x.notify.windows.com.evil.org/", "https://fcm.googleapis.com/x#y", "file:///etc/passwd",
        "gopher://fcm.googleapis.com/", "//fcm.googleapis.com/x", "https://fcm.googleapis.com\\@evil.org/",
        "https://fcm.googleapis.com/\r\nX: y", "", "https://"}) {
    INFO(bad);
    CHECK_FALSE(w.provider.accept(subscription(bad)));
  }
  CHECK(w.provider.accept(subscription("https://fcm.googleapis.com/" + std::string(2048 - 27, 'x'))));
  CHECK_FALSE(w.provider.accept(subscription("https://fcm.googleapis.com/" + std::string(2048 - 26, 'x'))));
  // What was kept when the list was longer is not called either.
  auto o = filled();
  const push_token kept = *w.provider.accept(subscription());
  o.services = {"fcm.googleapis.com"};
  web fewer(std::move(o));
  told t;
  fewer.add(t, kept);
  CHECK(fewer.transport.requests.empty());
  CHECK(t.last.outcome == push_outcome::failed);
}

TEST_CASE("a listed name that leads into the host's own network is not connected to") {
  asio::io_context io;
  asio::ip::tcp::acceptor trap(io, {asio::ip::make_address("127.0.0.1"), 0});
  bool called = false;
  trap.async_accept([&](std::error_code ec, asio::ip::tcp::socket) { called = called || !ec; });
  auto multi = std::make_shared<curl_multi>(io.get_executor(), push_network(), std::chrono::seconds(10));
  push_response answer;
  bool answered = false;
  auto ask = [&](bool public_only) {
    answered = false;
    push_request r{"http://localhost:" + std::to_string(trap.local_endpoint().port()) + "/"};
    r.public_only = public_only;
    multi->send(std::move(r), [&](push_response a) {
      answer = std::move(a);
      answered = true;
    });
  };
  ask(true);
  REQUIRE(run_until(io, [&] { return answered; }));
  CHECK(answer.status == 0);
  CHECK(answer.forbidden);
  CHECK(answer.error == "its name leads to an address that is not public");
  CHECK_FALSE(called);
  CHECK(judge_status(answer).next == push_verdict::what::failed);
  ask(false);  // the trap would have been found
  REQUIRE(run_until(io, [&] { return called; }));
  multi->close();
}

TEST_CASE("a subscription is read strictly") {
  web w;
  auto changed = [](auto change) {
    json j = json::parse(subscription());
    change(j["token"]);
    return j.dump();
  };
  CHECK(w.provider.accept(changed([](json& t) { t["more"] = 1; })));
  CHECK_FALSE(w.provider.accept(changed([](json& t) { t["keys"]["auth"] = base64url(std::string(15, 'a')); })));
  CHECK_FALSE(w.provider.accept(changed([](json& t) { t["keys"]["auth"] = base64url(std::string(17, 'a')); })));
  CHECK_FALSE(w.provider.accept(changed([](json& t) { t["keys"]["p256dh"] = base64url(std::string(65, '\4')); })));
  CHECK_FALSE(w.provider.accept(changed([](json& t) { t["keys"].erase("p256dh"); })));
  CHECK_FALSE(w.provider.accept(changed([](json& t) { t["keys"] = 1; })));
  CHECK_FALSE(w.provider.accept(changed([](json& t) { t = "https://fcm.googleapis.com/"; })));
  CHECK_FALSE(w.provider.accept(""));
  CHECK_FALSE(w.provider.accept("{\"token\":{}}"));
  told t;
  for (const char* odd : {"", "{}", R"({"p256dh":"AA"})", R"({"p256dh":"AA","auth":"AA","key":"AA"})"}) {
    w.add(t, {"https://fcm.googleapis.com/", odd});
    CHECK(t.last.outcome == push_outcome::failed);
  }
}

TEST_CASE("Web Push options that cannot work say so at once; both ways of writing a key are read") {
  auto with = [](auto change) {
    auto o = filled();
    change(o);
    return web_push_provider(std::move(o));
  };
  CHECK_THROWS_AS(with([](auto& o) { o.keys.clear(); }), std::invalid_argument);
  CHECK_THROWS_AS(with([](auto& o) { o.keys = {"AAAA"}; }), std::invalid_argument);
  CHECK_THROWS_AS(with([](auto& o) { o.subject = "ops@example.org"; }), std::invalid_argument);
  CHECK_THROWS_AS(with([](auto& o) { o.navigate = "http://chat.example.org/"; }), std::invalid_argument);
  CHECK_THROWS_AS(with([](auto& o) { o.title = ""; }), std::invalid_argument);
  auto p = with([](auto& o) { o.keys = {"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}; });
  CHECK(p.public_key() == base64url("\x04" + *decode_base64url("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU") +
                                    *decode_base64url("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")));
}
