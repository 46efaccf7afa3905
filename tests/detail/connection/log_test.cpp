// SPDX-License-Identifier: BSL-1.0
// What a server tells its log of clients: who, what, why, and never a secret.
#include "hailwire/log.hpp"

#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "catch.hpp"
#include "detail/connection/stage.hpp"

using namespace stage;

namespace {

struct kept {
  log_level level;
  std::string event, session, user, peer;
  std::error_code code;
  std::string text;
  bool has(std::string_view secret) const {
    for (const std::string& part : {event, session, user, peer, text})
      if (part.find(secret) != part.npos) return true;
    return false;
  }
};

struct rig : house {
  explicit rig(log_level least = log_level::debug) {
    gate.messages.log().set(
        [this](const log_record& r) {
          said.push_back({r.level, std::string(r.event), std::string(r.session), std::string(r.user),
                          std::string(r.peer), r.code, std::string(r.text)});
        },
        least);
  }
  std::vector<kept> said;
};

}  // namespace

TEST_CASE("a refusal is told at debug, with its code, its reason and whose it is, and never with a token") {
  rig h;
  client(h).ask(get("/live?channel=secret-1&user=ada&token=hidden-token", "Authorization: Bearer hidden-token\r\n"));
  REQUIRE(h.said.size() == 1);
  CHECK(h.said[0].level == log_level::debug);
  CHECK(h.said[0].event == "refused");
  CHECK(h.said[0].code == errc::forbidden);
  CHECK(h.said[0].text == "not allowed");
  CHECK(h.said[0].peer == "203.0.113.7:4711");
  CHECK(h.said[0].session.empty());

  client(h).ask(get("/live?channel=a&channel=a&ticket=hidden-token"));
  client(h).ask(get("/nowhere?ticket=hidden-token"));
  client(h).ask("BAD hidden-token\r\n\r\n");
  client c(h);
  c.send(upgrade("?channel=a&user=ada"));
  c.say(R"({"id":1,"publish":{"channel":"secret-1","data":"hidden-token"}})");
  c.say(R"({"id":2,"renew":{"token":"hidden-token"}})");
  c.send(frame("\xFF"));
  std::vector<std::string> events;
  for (const kept& k : h.said) {
    CHECK_FALSE(k.has("hidden-token"));
    events.push_back(k.event + ' ' + k.code.message());
  }
  REQUIRE(events == std::vector<std::string>{"refused not allowed", "refused malformed request", "refused not found",
                                             "refused malformed request", "refused not allowed",
                                             "refused not implemented", "closed malformed request"});
  CHECK(h.said[4].user == "ada");
  CHECK(h.said[4].session.size() == 11);
  CHECK(h.said[4].session == h.said[6].session);
}

TEST_CASE("a connection that breaks is told at debug") {
  rig h;
  client c(h);
  c.send(upgrade("?channel=a&user=ada"));
  c.c->failed(std::make_error_code(std::errc::connection_reset));
  h.run();
  REQUIRE(h.said.size() == 1);
  CHECK(h.said[0].event == "connection_failed");
  CHECK(h.said[0].code == std::errc::connection_reset);
  CHECK(h.said[0].user == "ada");
}

TEST_CASE("what clients do wrong is not told at info") {
  rig h(log_level::info);
  client(h).ask(get("/nowhere"));
  CHECK(h.said.empty());
}

TEST_CASE("the end of a session says by what, how long, how much and why, and holds no secret") {
  options o;
  o.access_log_every = 1;
  struct told : house {
    explicit told(const options& o) : house(o) {
      gate.messages.log().set(
          [this](const log_record& r) {
            if (r.event == "session_ended")
              said.push_back(std::string(r.session.size() == 11 ? "" : "?") + std::string(r.user) + ' ' +
                             std::string(r.peer) + ' ' + std::string(r.text));
          },
          log_level::info);
    }
    lines said;
  } h(o);
  h.publish("chat", "1");
  client c(h);
  c.join("?channel=chat&user=ada&token=hidden-token&since=earliest");
  h.publish("chat", "2");
  h.advance(12'345);
  c.send(close_frame(1000, "bye"));
  client(h).ask(get("/live?channel=chat&since=chat-1.1&ticket=hidden-token"));
  REQUIRE(h.said.size() == 2);
  CHECK(h.said[0].starts_with("ada 203.0.113.7:4711 websocket for 12.345 s, 2 messages, "));
  CHECK(h.said[0].ends_with(" bytes: 1000 by peer: bye"));
  CHECK(h.said[1].starts_with(" 203.0.113.7:4711 short_poll for 0.000 s, 1 messages, "));
  CHECK(h.said[1].ends_with("1000 by server"));
}

TEST_CASE("of so many sessions the end of one is told, of none when nobody hears it") {
  options o;
  o.access_log_every = 3;
  house h(o);
  int told = 0;
  auto listen = [&](log_level least) {
    h.gate.messages.log().set([&](const log_record& r) { told += r.event == "session_ended"; }, least);
  };
  listen(log_level::info);
  for (int i = 0; i < 8; ++i) client(h).ask(get("/live?channel=chat"));
  CHECK(told == 2);
  listen(log_level::warning);
  for (int i = 0; i < 8; ++i) client(h).ask(get("/live?channel=chat"));
  CHECK(told == 2);
}

TEST_CASE("that there is no authorizer is told once, when it matters") {
  rig h(log_level::warning);
  h.gate.host.authorize = nullptr;
  client(h).ask(get("/nowhere"));
  CHECK(h.said.empty());
  for (int i = 0; i < 3; ++i) CHECK(client(h).ask(get("/live?channel=a")).status == 403);
  REQUIRE(h.said.size() == 1);
  CHECK(h.said[0].event == "no_authorizer");
  CHECK(h.said[0].text.find("server::authorize") != std::string::npos);
}

TEST_CASE("an answer of the authorizer that cannot be used is told as an error") {
  rig h(log_level::error);
  h.gate.host.authorize = [](const request&, authorize_reply reply) { reply(grant{.user = "a\nb"}); };
  CHECK(client(h).ask(get("/live?channel=a")).status == 500);
  REQUIRE(h.said.size() == 1);
  CHECK(h.said[0].event == "bad_grant");
}

TEST_CASE("a resource's path that no request can name is refused when the server is made") {
  for (const char* path : {"live", "", " /live"}) {
    options o;
    o.path = path;
    CHECK_THROWS_AS(house(o), std::invalid_argument);
    CHECK_THROWS_WITH(house(o), "hailwire: options::path begins with a slash, as a request's path does: \"/" + o.path +
                                    "\", not \"" + o.path + '"');
  }
  options o;
  o.path = "/";
  house h(o);
  CHECK(client(h).ask(get("/?channel=a&since=earliest")).status == 200);
}
