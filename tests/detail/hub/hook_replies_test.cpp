// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/hook_replies.hpp"

#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "detail/connection/stage.hpp"

using namespace stage;

namespace {

/// A host that keeps what it could answer with.
struct slow_house : house {
  explicit slow_house(const options& o = {}) : house(o) {
    gate.host.authorize = [this](const request& r, authorize_reply reply) {
      r.param("user") == "slow" ? authorizations.push_back(std::move(reply)) : reply(usual(r));
    };
    gate.host.on_http = [this](const request&, reply_to<result<response>> reply) { pages.push_back(std::move(reply)); };
    gate.host.on_command = [this](session&, std::string_view, std::string_view, command_reply reply) {
      commands.push_back(std::move(reply));
    };
    gate.host.on_renew = [this](session&, std::string_view, authorize_reply reply) {
      authorizations.push_back(std::move(reply));
    };
  }
  std::vector<authorize_reply> authorizations;
  std::vector<reply_to<result<response>>> pages;
  std::vector<command_reply> commands;
};

constexpr std::int64_t hook_time = 20'000;

}  // namespace

TEST_CASE("who waits for a host's answer is told timeout in the end, and the late answer does nothing") {
  slow_house h;
  auto times_out = [&](const std::string& request) {
    client c(h);
    c.send(request);
    h.advance(hook_time - 200);
    CHECK(c.take().empty());
    h.advance(400);
    answer a = read_answer(c.take());
    CHECK(a.status == 408);
    CHECK(a.has("the host did not answer in time"));
    for (auto& late : std::exchange(h.authorizations, {})) late(grant());
    for (auto& late : std::exchange(h.pages, {})) late(response());
    for (auto& late : std::exchange(h.commands, {})) late(std::string("1"));
    h.run();
    CHECK(c.take().empty());
  };
  SECTION("an authorizer's: a poll, a stream, a handshake, a POST") {
    times_out(get("/live?channel=chat&user=slow"));
    times_out(event_stream("?channel=chat&user=slow"));
    times_out(upgrade("?channel=chat&user=slow"));
    times_out(post("?user=slow", R"({"ping":{}})"));
  }
  SECTION("a page's") { times_out(get("/page")); }
  SECTION("a command's in a POST") { times_out(post("?user=ada", R"({"id":1,"think":{}})")); }
  CHECK(h.log.size() >= 1);
  CHECK(h.log[0].ends_with("has not answered within options::hook_time"));
}

TEST_CASE("a WebSocket goes on when the host has not answered a command or a renewal in time") {
  slow_house h;
  client c(h);
  c.send(upgrade("?channel=chat&user=ada"));
  c.take();
  for (auto say : {R"({"id":1,"think":{}})", R"({"id":1,"renew":{"token":"t"}})"}) {
    c.say(say);
    h.advance(hook_time + 200);
    const auto told = c.hear();
    REQUIRE(told.size() >= 1);
    CHECK(told.back() == R"(text {"reply":1,"error":{"code":"timeout","message":"the host did not answer in time"}})");
    for (auto& late : std::exchange(h.authorizations, {})) late(grant());
    for (auto& late : std::exchange(h.commands, {})) late(std::string("1"));
    h.run();
    CHECK(c.hear().empty());
  }
  c.say(R"({"id":2,"ping":{}})");
  CHECK(c.hear() == lines{R"(text {"reply":2,"ok":{}})"});
}

TEST_CASE("an answer in time is the answer, and nobody waits any more") {
  slow_house h;
  client c(h);
  c.send(post("?user=ada", R"({"id":1,"think":{}})"));
  h.advance(hook_time - 200);
  REQUIRE(h.commands.size() == 1);
  h.commands[0](std::string("7"));
  h.run();
  CHECK(read_answer(c.take()).body == R"({"reply":1,"ok":7})");
  h.advance(2 * hook_time);
  CHECK(h.log.empty());
}

TEST_CASE("a reply may be called, and may die, on any thread") {
  slow_house h;
  for (bool called : {true, false}) {
    client c(h);
    c.send(get("/live?channel=chat&since=earliest&user=slow"));
    REQUIRE(h.authorizations.size() == 1);
    std::thread([&, called] {
      auto mine = std::move(h.authorizations[0]);
      h.authorizations.clear();
      if (called) mine(grant{.user = "slow", .follow = channel_set::all()});
    }).join();
    CHECK(c.take().empty());
    h.run();
    CHECK(read_answer(c.take()).status == (called ? 200 : 500));
  }
}

TEST_CASE("a reply may outlive the server, on any thread") {
  std::optional<authorize_reply> kept, dropped;
  {
    slow_house h;
    client one(h), two(h);
    one.send(get("/live?channel=chat&user=slow"));
    two.send(get("/live?channel=chat&user=slow"));
    kept = std::move(h.authorizations[0]);
    dropped = std::move(h.authorizations[1]);
  }
  std::thread([&] { (*kept)(grant()); }).join();
  dropped.reset();
}

TEST_CASE("a server that stops does not wait for its host's answers") {
  slow_house h;
  auto c = std::make_unique<client>(h);
  c->send(get("/live?channel=chat&user=slow"));
  CHECK(h.loop.waiting());
  h.gate.stopping = true;
  h.gate.stop();
  h.gate.destroy_all();
  c.reset();
  CHECK_FALSE(h.loop.waiting());
  h.authorizations.clear();
}
