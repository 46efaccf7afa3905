// SPDX-License-Identifier: BSL-1.0
// The host's own service: what it is sent, over sockets, with a server of the library's own as that service.
#include "hailwire/push/webhook.hpp"

#include <asio/io_context.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "hailwire/storage/memory.hpp"
#include "push/scripted_transport.hpp"
#include "run_until.hpp"

using namespace hailwire;
using namespace std::string_literals;

namespace {

const std::string secret = "0123456789abcdef0123456789abcdef";

/// A service that keeps what it is sent, and answers as it is told.
struct service {
  service() : live(io) {
    live.on_http([this](const request& r) -> response {
      heads.push_back(std::string(r.method()) + " " + std::string(r.target()));
      bodies.emplace_back(r.body());
      ids.emplace_back(r.header("webhook-id"));
      stamps.emplace_back(r.header("webhook-timestamp"));
      signatures.emplace_back(r.header("webhook-signature"));
      response out = answers.empty() ? response{.status = 204} : answers.front();
      if (!answers.empty()) answers.erase(answers.begin());
      return out;
    });
    port = live.listen("127.0.0.1", 0);
  }
  webhook_options options() const {
    return {.url = "http://127.0.0.1:" + std::to_string(port) + "/wake?from=hailwire", .secrets = {secret}};
  }

  asio::io_context io;
  server<short_poll> live;
  std::uint16_t port = 0;
  std::vector<std::string> heads, bodies, ids, stamps, signatures;
  std::vector<response> answers;
};

}  // namespace

static_assert(push_notifier<webhook>);

TEST_CASE("a webhook is one POST, signed so that its body, its time and its id are the sender's") {
  service s;
  webhook hook(s.io, s.options());
  told t;
  hook.async_notify(phone("webhook", "a \"word\""), news(), t.handler());
  REQUIRE(run_until(s.io, [&] { return t.times > 0; }));
  CHECK(t.last.outcome == push_outcome::delivered);
  REQUIRE(s.bodies.size() == 1);
  CHECK(s.heads[0] == "POST /wake?from=hailwire");
  CHECK(s.bodies[0] ==
        R"({"user":"ada","device":"phone","token":"a \"word\"","channel":"@ada","epoch":"E1","offset":42,"count":3})");
  std::string expected = "v1,";
  proto::append_base64(expected, detail::hmac_sha256(secret, s.ids[0] + "." + s.stamps[0] + "." + s.bodies[0]));
  CHECK(s.signatures[0] == expected);
  CHECK(s.ids[0].size() == 20);
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  CHECK(std::abs(now.count() - std::stoll(s.stamps[0])) < 300);
}

TEST_CASE("while a secret is replaced both sign") {
  service s;
  auto o = s.options();
  o.secrets = {"the new secret, 24 bytes", secret};
  webhook hook(s.io, std::move(o));
  told t;
  hook.async_notify(phone("webhook", "w"), news(), t.handler());
  REQUIRE(run_until(s.io, [&] { return t.times > 0; }));
  const std::string text = s.ids.at(0) + "." + s.stamps.at(0) + "." + s.bodies.at(0);
  std::string expected = "v1,";
  proto::append_base64(expected, detail::hmac_sha256("the new secret, 24 bytes", text));
  proto::append_base64(expected += " v1,", detail::hmac_sha256(secret, text));
  CHECK(s.signatures.at(0) == expected);
}

TEST_CASE("503 with Retry-After is tried again, 410 forgets the token, a redirect is followed nowhere") {
  service s;
  s.answers = {{.status = 503, .headers = {{"Retry-After", "0"}}}, {.status = 204}};
  auto o = s.options();
  o.limits.first_retry = std::chrono::milliseconds(1);
  webhook hook(s.io, std::move(o));
  told t;
  hook.async_notify(phone("webhook", "w"), news(), t.handler());
  REQUIRE(run_until(s.io, [&] { return t.times > 0; }));
  CHECK(t.last.outcome == push_outcome::delivered);
  CHECK(hook.counters().retried == 1);
  CHECK(s.ids.at(0) == s.ids.at(1));

  s.answers = {{.status = 410}};
  hook.async_notify(phone("webhook", "w"), news(), t.handler());
  REQUIRE(run_until(s.io, [&] { return t.times > 1; }));
  CHECK(t.last.outcome == push_outcome::gone);

  s.answers = {{.status = 307, .headers = {{"Location", "/elsewhere"}}}};
  hook.async_notify(phone("webhook", "w"), news(), t.handler());
  REQUIRE(run_until(s.io, [&] { return t.times > 2; }));
  CHECK(t.last.outcome == push_outcome::failed);
  CHECK(t.last.reason == "status 307");
  CHECK(s.heads.size() == 4);
}

TEST_CASE("many notices share few connections and are each delivered once") {
  service s;
  webhook hook(s.io, s.options());
  std::vector<told> all(300);
  for (auto& t : all) hook.async_notify(phone("webhook", "w"), news(), t.handler());
  REQUIRE(run_until(s.io, [&] { return hook.counters().delivered == all.size(); }));
  for (auto& t : all) CHECK(t.times == 1);
  CHECK(s.bodies.size() == all.size());
  CHECK(hook.counters().waiting == 0);
}

TEST_CASE("a service that nobody listens at costs the queue and no more; what is over it is told at once") {
  asio::io_context io;
  std::uint16_t nobody = 0;
  {
    asio::ip::tcp::acceptor a(io, {asio::ip::make_address("127.0.0.1"), 0});
    nobody = a.local_endpoint().port();
  }
  webhook hook(
      io,
      {.url = "http://127.0.0.1:" + std::to_string(nobody) + "/",
       .secrets = {secret},
       .limits = {.max_waiting = 2, .give_up = std::chrono::seconds(0), .first_retry = std::chrono::milliseconds(1)}});
  told a, b, c;
  hook.async_notify(phone("webhook", "w"), news(), a.handler());
  hook.async_notify(phone("webhook", "w"), news(), b.handler());
  hook.async_notify(phone("webhook", "w"), news(), c.handler());
  CHECK(c.times == 1);
  CHECK(c.last.reason == "too many notices wait");
  REQUIRE(run_until(io, [&] { return a.times && b.times; }));
  CHECK(a.last.outcome == push_outcome::failed);
  CHECK(b.last.outcome == push_outcome::failed);
  auto n = hook.counters();
  CHECK((n.failed == 3 && n.dropped == 1 && n.waiting == 0));
}

TEST_CASE("a service that does not answer costs the time that a request has") {
  asio::io_context io;
  asio::ip::tcp::acceptor a(io, {asio::ip::make_address("127.0.0.1"), 0});  // the kernel accepts; nobody answers
  webhook hook(io, {.url = "http://127.0.0.1:" + std::to_string(a.local_endpoint().port()) + "/",
                    .secrets = {secret},
                    .limits = {.give_up = std::chrono::seconds(0), .request_time = std::chrono::seconds(1)}});
  told t;
  hook.async_notify(phone("webhook", "w"), news(), t.handler());
  REQUIRE(run_until(io, [&] { return t.times > 0; }));
  CHECK(t.last.outcome == push_outcome::failed);
}

TEST_CASE("a notifier that ends in the middle of its requests calls nobody behind its end") {
  service s;
  told t;
  {
    webhook hook(s.io, s.options());
    hook.async_notify(phone("webhook", "w"), news(), t.handler());
    hook.async_notify(phone("webhook", "w"), news(), t.handler());
    REQUIRE(run_until(s.io, [&] { return s.bodies.size() >= 1 || t.times > 0; }));
    t.times = 0;
    hook.async_notify(phone("webhook", "w"), news(), t.handler());
  }
  for (int i = 0; i < 50; ++i) s.io.poll();
  CHECK(t.times == 0);
}

TEST_CASE("a notifier that ends with its context leaves nothing behind") {
  auto held = std::make_unique<asio::io_context>();
  told t;
  auto hook = std::make_unique<webhook>(*held, webhook_options{.url = "http://127.0.0.1:9/", .secrets = {secret}});
  hook->async_notify(phone("webhook", "w"), news(), t.handler());
  held->poll();
  hook.reset();
  held.reset();
  CHECK(t.times == 0);
}

TEST_CASE("a webhook's token is a word, never more") {
  CHECK(webhook::accept(R"({"push":"webhook","token":"w"})")->token == "w");
  CHECK(webhook::accept(R"({"token":"http://10.0.0.1/"})")->token == "http://10.0.0.1/");  // a word as any other
  CHECK(webhook::accept("{\"token\":\"" + std::string(1024, 'x') + "\"}"));
  CHECK_FALSE(webhook::accept("{\"token\":\"" + std::string(1025, 'x') + "\"}"));
  for (const char* bad : {"{}", "{\"token\":\"\"}", "{\"token\":1}", "{\"token\":\"a\\u0000\"}", "{\"token\":{}}"}) {
    INFO(bad);
    CHECK_FALSE(webhook::accept(bad));
  }
}

TEST_CASE("webhook options that cannot work say so at once") {
  asio::io_context io;
  CHECK_THROWS_AS(webhook(io, {.url = "ftp://x/", .secrets = {secret}}), std::invalid_argument);
  CHECK_THROWS_AS(webhook(io, {.url = "https://x/", .secrets = {}}), std::invalid_argument);
  CHECK_THROWS_AS(webhook(io, {.url = "https://x/", .secrets = {std::string(23, 's')}}), std::invalid_argument);
  CHECK_THROWS_AS(webhook(io, {.url = "https://x/", .secrets = {std::string(65, 's')}}), std::invalid_argument);
  CHECK_NOTHROW(webhook(io, {.url = "https://x/", .secrets = {std::string(24, 's'), std::string(64, 's')}}));
  CHECK_THROWS_AS(webhook(io, {.url = "https://x/", .secrets = std::vector<std::string>(9, secret)}),
                  std::invalid_argument);
}
