// SPDX-License-Identifier: BSL-1.0
// Clients and the server's machines talk in memory, on one clock that is turned by hand.
#include "hailwire/detail/client/machine.hpp"

#include <string>

#include "detail/client/memory_client.hpp"

using namespace stage;

namespace {
const ladder each_alone[] = {
    {&detail::client_websocket}, {&detail::client_sse}, {&detail::client_long_poll}, {&detail::client_short_poll}};
}  // namespace

TEST_CASE("a client follows from where it says, on each transport") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    h.publish("a", "1");
    h.publish("a", "2");
    memory_client c(&h, l);
    CHECK(c.follow("a", start::earliest()));
    CHECK(c.follow("b"));
    CHECK_FALSE(c.follow("a"));
    CHECK_FALSE(c.follow(""));
    c.start();
    c.pass(3000);
    CHECK(c.take() == lines{"a 1 1", "a 2 2"});
    h.publish("b", "{\"x\":[1,2]}");
    h.publish("a", "3");
    c.pass(3000);
    auto heard = c.take();
    std::sort(heard.begin(), heard.end());
    CHECK(heard == lines{"a 3 3", "b 1 {\"x\":[1,2]}"});
    const std::string name(l[0]->name);
    CHECK(c.take_states() == lines{"connecting " + name, "following " + name});
    // What it has seen is its cursor.
    auto cursor = parse_cursor(c.cursor(), 2);
    REQUIRE(cursor);
    CHECK((*cursor)[0].at.offset == 3);
    CHECK((*cursor)[1].at.offset == 1);
  }
}

TEST_CASE("however bytes are cut, a client hears the same") {
  for (auto& l : each_alone) {
    for (std::size_t pieces : {1u, 2u, 3u, 7u, 50u}) {
      CAPTURE(l[0]->name, pieces);
      house h;
      memory_client c(&h, l);
      c.pieces = pieces;
      c.follow("a", start::earliest());
      c.start();
      c.pass(100);
      for (auto json : {"1", "\"zwei\"", "{\"drei\":3}"}) h.publish("a", json);
      c.pass(3000);
      CHECK(c.take() == lines{"a 1 1", "a 2 \"zwei\"", "a 3 {\"drei\":3}"});
    }
  }
}

TEST_CASE("a connection that is cut anywhere loses and repeats nothing") {
  for (auto& l : each_alone) {
    for (std::size_t after = 0; after < 900; after += after < 300 ? 7 : 23) {
      CAPTURE(l[0]->name, after);
      house h;
      memory_client c(&h, l);
      c.follow("a", start::earliest());
      c.cut_after = after;
      c.start();
      c.run();
      for (int i = 1; i <= 5; ++i) h.publish("a", std::to_string(i));
      c.pass(20'000);
      for (int i = 6; i <= 7; ++i) h.publish("a", std::to_string(i));
      c.pass(10'000);
      CHECK(c.take() == lines{"a 1 1", "a 2 2", "a 3 3", "a 4 4", "a 5 5", "a 6 6", "a 7 7"});
    }
  }
}

TEST_CASE("publishes are stored once and in order, whatever answers are lost") {
  for (auto& l : each_alone) {
    for (std::size_t lost = 0; lost < 6; ++lost) {
      CAPTURE(l[0]->name, lost);
      house h;
      memory_client c(&h, l);
      c.follow("a", start::earliest());
      c.start();
      c.pass(100);
      c.drop_answers = lost;
      for (int i = 1; i <= 5; ++i) c.say("a", std::to_string(i));
      c.pass(60'000);
      CHECK(c.take_ends().size() == 5);
      CHECK(c.take() == lines{"ada@a 1 1", "ada@a 2 2", "ada@a 3 3", "ada@a 4 4", "ada@a 5 5"});
      CHECK(c.pending() == 0);
    }
  }
}

TEST_CASE("a lost answer means a repeat with the same key") {
  house h;
  memory_client c(&h, {&detail::client_websocket});
  c.follow("a", start::earliest());
  c.start();
  c.run();
  c.say("a", "1");
  c.drop_answers = 1;
  c.run();
  CHECK(c.take_ends().empty());
  c.pass(2000);
  CHECK(c.take_ends().size() == 1);
  CHECK(c.take() == lines{"ada@a 1 1"});
  CHECK(c.connects == 2);
}

TEST_CASE("a publish is repeated only while the server keeps its key") {
  for (auto& l : each_alone) {
    for (bool late : {false, true}) {
      CAPTURE(l[0]->name, late);
      house h;
      memory_client c(&h, l);
      c.follow("a");
      c.start();
      c.pass(100);
      c.drop_answers = 1;
      c.say("a", "1");
      c.run();  // stored, and nobody knows
      c.refuses = true;
      c.pass(20'000);
      // 300 seconds, of which ten are left for the way.
      h.loop.stand_still(late ? 270'000 : 269'000 - 2'000);  // asleep
      c.refuses = false;
      if (late) c.alarm(), c.run();
      c.pass(late ? 100 : 1'900);
      if (late) {
        auto ends = c.take_ends();
        REQUIRE(ends.size() == 1);
        CHECK(ends[0] == "1 unanswered for so long that a repeat might store it twice");
      }
      c.pass(60'000);
      CHECK(c.pending() == 0);
    }
  }
}

TEST_CASE("a client without a connection keeps what it can and refuses the rest") {
  house h;
  memory_client c(&h, {&detail::client_websocket}, {.max_pending = 3, .max_pending_bytes = 1000});
  c.refuses = true;
  c.start();
  c.run();
  for (int i = 1; i <= 4; ++i) c.say("a", std::to_string(i));
  c.run();
  CHECK(c.take_ends() == lines{"4 too much is waiting or unanswered"});
  c.say("a", "5", {.ephemeral = true});
  c.run();
  CHECK(c.take_ends() == lines{"5 live-only messages do not wait for a connection"});
  c.refuses = false;
  c.pass(5000);
  auto ends = c.take_ends();
  REQUIRE(ends.size() == 3);
  CHECK(ends[2].find("\"offset\":3") != std::string::npos);
}

TEST_CASE("bytes that wait are counted to the last one") {
  house h;
  const std::string body(500, '1');
  constexpr std::size_t around = std::string_view(R"("publish":{"channel":"a","data":,"key":""}})").size() + 32;
  for (std::size_t more : {0u, 1u}) {
    memory_client c(&h, {&detail::client_websocket}, {.max_pending_bytes = 2 * (500 + around)});
    c.refuses = true;
    c.start();
    c.run();
    c.say("a", body);
    c.say("a", body + std::string(more, '1'));
    c.run();
    CHECK(c.take_ends().size() == more);
  }
}

TEST_CASE("what cannot be a publish is refused before it is sent") {
  house h;
  memory_client c(&h, {&detail::client_websocket});
  c.start();
  c.run();
  c.say("", "1");
  c.say("a", "{");
  c.say("a", "1", {.key = std::string_view("a b")});
  c.say("a", "2", {.key = std::string_view("k"), .ephemeral = true});
  const std::string long_type(65, 'x');
  c.say("a", "3", {.type = long_type});
  c.publish("a", payload::text("\xFF"), {},
            [&](const client_error& e, std::string_view) { c.ends.push_back(e.text()); });
  c.ask(detail::client_command::kind::question, "history", "[]");
  CHECK(c.ends.empty());  // never within the call
  c.run();
  CHECK(c.take_ends() == lines{"1 that is no channel's name", "{ the payload is not JSON",
                               "1 a key is 1 to 64 visible ASCII characters", "2 an ephemeral message has no key",
                               "3 a type is at most 64 bytes of UTF-8", "the payload is not UTF-8",
                               "history a command's body is a JSON object"});
  c.say("a", "1");
  c.run();
  CHECK(c.take_ends().size() == 1);
}

TEST_CASE("refused publishes end with the server's word") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    memory_client c(&h, l);
    c.follow("a");
    c.start();
    c.pass(100);
    c.say("secret", "1");
    c.pass(100);
    CHECK(c.take_ends() == lines{"1 not allowed"});
    c.ask(detail::client_command::kind::question, "history", "{\"channel\":\"a\",\"limit\":5}");
    c.pass(100);
    auto ends = c.take_ends();
    REQUIRE(ends.size() == 1);
    CHECK(ends[0].starts_with("history {\"messages\":["));
  }
}

TEST_CASE("a client falls back along its list, and climbs back") {
  house h;
  memory_client c(&h, all_ladder);
  // A proxy that knows no WebSocket.
  c.fake = [](std::string_view) {
    return std::string("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  };
  c.follow("a", start::earliest());
  c.start();
  c.run();
  CHECK(c.take_states()[0] == "connecting websocket");
  // All of them fail; the last is followed by the first, after a while.
  c.fake = nullptr;
  c.pass(2000);
  auto states = c.take_states();
  CHECK(states.back() == "following websocket");

  house other;
  memory_client d(&other, all_ladder);
  d.follow("a", start::earliest());
  d.fake = [&](std::string_view) {
    d.fake = nullptr;  // the event stream gets through
    return std::string("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n");
  };
  d.start();
  d.run();
  CHECK(d.take_states() == lines{"connecting websocket", "connecting sse", "following sse"});
  other.publish("a", "1");
  d.pass(95'000);
  CHECK(d.take_states() == lines{"connecting websocket", "following websocket"});
  other.publish("a", "2");
  d.pass(100);
  CHECK(d.take() == lines{"a 1 1", "a 2 2"});
}

TEST_CASE("a stream whose open does not come falls back") {
  house h;
  memory_client c(&h, {&detail::client_sse, &detail::client_long_poll});
  c.follow("a", start::earliest());
  c.fake = [&](std::string_view) { return std::string("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"); };
  c.start();
  c.run();
  c.fake = nullptr;
  c.pass(9'999);
  CHECK(c.take_states() == lines{"connecting sse"});
  c.pass(1);
  CHECK(c.take_states() == lines{"connecting long_poll", "following long_poll"});
}

TEST_CASE("what is refused for good is not asked again") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    memory_client c(&h, l);
    c.follow("secret");
    c.start();
    c.pass(60'000);
    const std::string name(l[0]->name);
    CHECK(c.take_states() == lines{"connecting " + name, "stopped " + name + " forbidden"});
    CHECK(c.connects == 1);
    c.say("a", "1");
    c.run();
    CHECK(c.take_ends() == lines{"1 the client has stopped"});
  }
}

TEST_CASE("the wait before a reconnect is random, grows, and comes on top of what the server asks for") {
  for (auto [random, least, most] : {std::tuple{0, 7000, 7000}, std::tuple{255, 7500, 7500}}) {
    house h;
    memory_client c(&h, {&detail::client_websocket});
    c.fixed_random = random;
    c.fake = [](std::string_view) {
      return std::string("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
    };
    c.start();
    c.run();
    CHECK(c.status().now == client_status::state::waiting);
    CHECK(c.status().wait.count() >= least);
    CHECK(c.status().wait.count() <= most);
  }
  house h;
  memory_client c(&h, {&detail::client_websocket});
  c.fixed_random = 255;
  c.refuses = true;
  c.start();
  c.run();
  for (int expected : {500, 1000, 2000, 4000, 8000, 16'000, 30'000, 30'000}) {
    CHECK(c.status().wait.count() == expected);
    c.pass(expected);
  }
}

TEST_CASE("a bye says when and where to come back, or not to") {
  auto open = [](const std::string& bye) {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: open\ndata: "
           "{\"open\":{\"session\":\"s\",\"heartbeat\":25,"
           "\"ticket\":\"t1\",\"channels\":{\"a\":{\"epoch\":\"e\",\"offset\":4}}}}\n\nevent: bye\ndata: {\"bye\":" +
           bye + "}\n\n";
  };
  for (int random : {0, 255}) {
    house h;
    memory_client c(&h, {&detail::client_sse});
    c.fixed_random = random;
    c.follow("a");
    std::string asked;
    c.fake = [&](std::string_view request) {
      asked = request;
      return open(
          R"({"code":"draining","reconnect":true,"after":[3000,5000],"url":"http://other:8080/live?user=ada"})");
    };
    c.start();
    c.run();
    CHECK(c.status().reason == "draining");
    CHECK(c.status().wait.count() == (random ? 5000 : 3000));
    c.pass(5000);
    CHECK(c.places.size() == 2);
    CHECK(c.places[1] == "other:8080");
    CHECK(asked.starts_with("GET /live?user=ada&channel=a&since=e.4&ticket=t1 HTTP/1.1\r\nHost: other:8080\r\n"));
  }
  house h;
  memory_client c(&h, {&detail::client_sse});
  c.follow("a");
  c.fake = [&](std::string_view) { return open(R"({"code":"forbidden","reconnect":false})"); };
  c.start();
  c.run();
  CHECK(c.take_states().back() == "stopped sse forbidden");
}

TEST_CASE("a server that falls silent is left after two heartbeats") {
  for (auto* t : {&detail::client_websocket, &detail::client_sse}) {
    CAPTURE(t->name);
    house h;
    memory_client c(&h, {t});
    c.follow("a");
    c.start();
    c.pass(200'000);  // as long as there are signs of life, for ever
    CHECK(c.take_states().size() == 2);
    c.blocked = true;
    c.pass(51'000);
    CHECK(c.take_states().front() == "waiting " + std::string(t->name) + " silent");
  }
  // A poll is answered in time or not at all.
  house h;
  memory_client c(&h, {&detail::client_long_poll});
  c.follow("a");
  c.start();
  c.pass(100);
  c.blocked = true;
  c.pass(36'000);
  CHECK(c.status().now != client_status::state::following);
}

TEST_CASE("silence means nothing while nothing is read, and for a while behind that") {
  house h;
  memory_client c(
      &h, GENERATE(ladder{&detail::client_websocket}, ladder{&detail::client_sse}, ladder{&detail::client_long_poll}));
  c.follow("chat");
  c.start();
  c.pass(1000);
  REQUIRE(c.status().now == client_status::state::following);
  c.hold(true);
  c.blocked = true;
  c.take_states();
  c.pass(10 * 25'000);
  CHECK(c.take_states().empty());
  c.hold(false);
  c.pass(9'000);
  CHECK(c.take_states().empty());
  c.pass(3 * 25'000);  // it is silent after all
  CHECK_FALSE(c.take_states().empty());
}

TEST_CASE("gaps are told, and the client stands behind them") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    h.publish("a", "1");
    memory_client c(&h, l);
    c.follow("a", start::after({"another", 7}));
    c.start();
    c.pass(3000);
    CHECK(c.take() == lines{"gap a epoch 1", "a 1 1"});
    h.publish("a", "2");
    c.pass(3000);
    CHECK(c.take() == lines{"a 2 2"});
  }
}

TEST_CASE("channels are followed and left while the client runs") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    memory_client c(&h, l);
    c.follow("a", start::earliest());
    c.start();
    c.pass(100);
    c.follow("b", start::earliest());
    c.pass(3000);
    h.publish("b", "1");
    c.pass(3000);
    CHECK(c.take() == lines{"b 1 1"});
    c.unfollow("a");
    h.publish("a", "1");
    h.publish("b", "2");
    c.pass(3000);
    CHECK(c.take() == lines{"b 2 2"});
    CHECK(c.channels() == lines{"b"});
  }
}

TEST_CASE("a channel that is refused by command is told of, and the rest goes on") {
  house h;
  memory_client c(&h, {&detail::client_websocket});
  c.follow("a");
  c.start();
  c.run();
  c.follow("secret");
  c.run();
  CHECK(c.notices.back() == "closed {\"channel\":\"secret\",\"code\":\"forbidden\"}");
  CHECK(c.channels() == lines{"a"});
}

TEST_CASE("the cursor moves when the application has taken the message") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    for (int i = 1; i <= 3; ++i) h.publish("a", std::to_string(i));
    memory_client c(&h, l);
    lines saved;
    c.on.cursor = [&](const std::string& cursor) { saved.push_back(cursor.substr(cursor.find('.') + 1)); };
    bool throws = true;
    c.on_each = [&](const client_message& m) {
      if (m.offset == 2 && std::exchange(throws, false)) throw std::runtime_error("the disk is full");
    };
    c.follow("a", start::earliest());
    c.start();
    CHECK_THROWS_WITH(c.run(), "the disk is full");
    CHECK(c.cursor().ends_with(".1"));
    c.pass(20'000);  // an event stream is told by lot how long to wait
    CHECK(c.take() == lines{"a 1 1", "a 2 2", "a 3 3"});
    CHECK(saved.back() == "3");
  }
}

TEST_CASE("a handler may close the client, or do anything else with it") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    for (int i = 1; i <= 3; ++i) h.publish("a", std::to_string(i));
    memory_client c(&h, l);
    c.on_each = [&](const client_message& m) {
      if (m.offset == 1) c.say("b", "9");
      if (m.offset == 2) c.close();
    };
    c.follow("a", start::earliest());
    c.start();
    c.pass(5000);
    CHECK(c.take() == lines{"a 1 1", "a 2 2"});
    CHECK(c.take_states().back() == "stopped " + std::string(l[0]->name) + " closed");
    CHECK(c.alarm_at == detail::client_machine::never);
  }
}

TEST_CASE("tokens are asked for, ride in a header, and are renewed") {
  house h;
  std::vector<std::string> shown;
  h.gate.host.authorize = [&](const request& r, authorize_reply reply) {
    shown.emplace_back(r.header("authorization"));
    if (shown.back() != "Bearer t2") return reply(failure(errc::unauthenticated));
    reply(usual(r));
  };
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    shown.clear();
    memory_client c(&h, l);
    int asked = 0;
    c.on.renew = [&](token_reply reply) { reply("t" + std::to_string(++asked)); };
    c.follow("a");
    c.start();
    c.pass(2000);
    CHECK(shown[0] == "Bearer t1");
    CHECK(shown[1] == "Bearer t2");
    CHECK(c.take_states().back() == "following " + std::string(l[0]->name));
    // Three that are refused one after the other are the end.
    memory_client d(&h, l);
    d.on.renew = [&](token_reply reply) { reply("no"); };
    d.follow("a");
    d.start();
    d.pass(20'000);
    CHECK(d.take_states().back() == "stopped " + std::string(l[0]->name) + " unauthenticated");
    CHECK(d.connects == 3);
    // So is the word that there will be none.
    memory_client e(&h, l);
    e.on.renew = [&](token_reply reply) { reply({}); };
    e.start();
    e.run();
    CHECK(e.take_states().back() == "stopped " + std::string(l[0]->name) + " unauthenticated");
    CHECK(e.connects == 0);
  }
}

TEST_CASE("a token that comes when its client is gone does no harm") {
  token_reply late;
  {
    house h;
    memory_client c(&h, {&detail::client_websocket});
    c.on.renew = [&](token_reply reply) { late = std::move(reply); };
    c.start();
    c.pass(11'000);
    CHECK(c.take_states()[1] == "waiting websocket unreachable");
  }
  late("t");
}

TEST_CASE("the command behind which a server breaks off is given up, and those behind it are not") {
  house h;
  memory_client c(&h, {&detail::client_websocket}, {.max_pending_bytes = 4 << 20});
  c.start();
  c.run();
  // Larger than the server takes: it closes with 1009.
  c.say("a", "1");
  c.say("b", '"' + std::string(3'000'000, 'x') + '"');
  c.say("c", "3");
  c.run();
  auto first = c.take_ends();
  c.pass(30'000);
  auto ends = c.take_ends();
  ends.insert(ends.begin(), first.begin(), first.end());
  REQUIRE(ends.size() == 3);
  std::sort(ends.begin(), ends.end());
  CHECK(ends[0].ends_with("\" a message is too big"));
  CHECK(ends[1].find("\"offset\":1") != std::string::npos);
  CHECK(ends[2].find("\"offset\":1") != std::string::npos);
}

TEST_CASE("a publisher that follows nothing needs no stream over HTTP") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    memory_client c(&h, l);
    c.start();
    c.say("a", "1");
    c.pass(100);
    CHECK(c.take_ends().size() == 1);
    CHECK(c.connects == 1);
  }
}

TEST_CASE("host commands are never repeated") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    memory_client c(&h, l);
    c.follow("a");
    c.start();
    c.pass(100);
    c.drop_answers = 1;
    c.ask(detail::client_command::kind::once, "launch", "{}");
    c.pass(60'000);
    CHECK(c.take_ends() == lines{"launch the connection ended before the answer"});
  }
}

TEST_CASE("a client that follows and leaves without an answer keeps no row of commands") {
  house h;
  memory_client c(&h, {&detail::client_websocket}, {.max_pending = 3});
  c.follow("a");
  c.start();
  c.run();
  c.blocked = true;
  for (int i = 0; i < 20; ++i) {
    c.follow("b", start::earliest());
    CHECK(c.pending() <= 3);
    c.unfollow("b");
    CHECK(c.pending() <= 3);
  }
  c.follow("b", start::earliest());
  c.blocked = false;
  c.pass(2000);
  h.publish("b", "1");
  c.pass(100);
  CHECK(c.take() == lines{"b 1 1"});
}

TEST_CASE("what comes twice, or from before, is dropped") {
  house h;
  memory_client c(&h, {&detail::client_sse});
  c.follow("a");
  auto message = [](int offset) {
    return "data: {\"channel\":\"a\",\"offset\":" + std::to_string(offset) +
           ",\"at\":1,\"data\":" + std::to_string(offset) + "}\n\n";
  };
  c.fake = [&](std::string_view) {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: open\ndata: "
           "{\"open\":{\"session\":\"s\",\"channels\":"
           "{\"a\":{\"epoch\":\"e\",\"offset\":4}}}}\n\n" +
           message(4) + message(5) + message(5) + message(3) + message(6);
  };
  c.start();
  c.run();
  CHECK(c.take() == lines{"a 5 5", "a 6 6"});
}

namespace {

/// Everybody's messages come without their payloads.
constexpr const char* signal_url = "http://h/live?user=ada&signal=1";

/// A client that has heard of the only message of channel `a`: where it stands.
position heard_of(house& h, memory_client& c, payload what) {
  position at;
  c.on_each = [&](const client_message& m) {
    CHECK((m.size > 0 && m.data.empty() && m.bytes.empty()));
    at = {std::string(m.epoch), m.offset};
  };
  c.follow("a", start::earliest());
  c.start();
  CHECK_FALSE(h.gate.messages.publish("a", std::move(what)));
  c.pass(3000);
  REQUIRE(at.offset == 1);
  return at;
}
int count_of(const lines& all, std::string_view part) {
  return static_cast<int>(
      std::count_if(all.begin(), all.end(), [&](const std::string& l) { return l.find(part) != l.npos; }));
}

}  // namespace

TEST_CASE("a message that comes without its payload is fetched when asked, on each transport") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    memory_client c(&h, l, {}, signal_url);
    const auto at = heard_of(h, c, payload::binary(std::string("\0\1\2", 3)));
    c.get("a", at);
    c.get("a", at);
    c.get("a", {at.epoch, 2});
    c.get("a", {"other", 1});
    c.get("", at);
    CHECK(c.pending() == 4);
    c.pass(100);
    const std::string whole = "application/octet-stream " + std::string("\0\1\2", 3);
    auto ends = c.take_ends();
    REQUIRE(ends.size() == 5);
    CHECK(ends[0] == "that names no message");
    CHECK((ends[1] == whole && ends[2] == whole));
    CHECK(lines{ends[3], ends[4]} == lines{"there is no such message", "not found"});
    CHECK(c.pending() == 0);
    CHECK(c.alarm_at > h.loop.now());
  }
}

TEST_CASE("what was fetched before a cut is not asked for again") {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += std::to_string(i) + ' ';
  for (std::size_t cut : {1u, 300u, 600u, 5000u}) {
    CAPTURE(cut);
    house h;
    memory_client c(&h, {&detail::client_websocket}, {}, signal_url);
    const auto at = heard_of(h, c, payload::text(text));
    c.cut_after = cut;
    c.get("a", at);
    c.pass(60'000);
    CHECK(c.take_ends() == lines{"text/plain;charset=utf-8 " + text});
    CHECK(c.fetches_said.size() == 2);
    CHECK(count_of(c.fetches_said, "Range: bytes=") == (cut >= 600 ? 1 : 0));
    CHECK(count_of(c.fetches_said, "If-Range: \"" + at.epoch + ".1\"") == (cut >= 600 ? 1 : 0));
  }
}

TEST_CASE("a fetch that brings nothing five times ends, one that is too large at once") {
  house h;
  memory_client c(&h, {&detail::client_websocket}, {.max_content = 10}, signal_url);
  const auto at = heard_of(h, c, payload::text("12345678901"));
  c.get("a", at);
  c.run();
  CHECK(c.take_ends() == lines{"the content is over client_options::max_content"});
  c.fetches_said.clear();
  c.drop_answers = 5;
  c.get("a", at);
  c.pass(120'000);
  CHECK(c.take_ends() == lines{"the connection ended within the content"});
  CHECK(c.fetches_said.size() == 5);
}

TEST_CASE("content is fetched where the server says, without the token when that is somebody else") {
  house h;
  memory_client c(&h, {&detail::client_websocket}, {.headers = "Cookie: secret\r\n"}, signal_url);
  const auto at = heard_of(h, c, payload::text("x"));
  c.fake = [](std::string_view asked) -> std::string {
    if (asked.starts_with("GET /live/messages?"))
      return "HTTP/1.1 302 Found\r\nLocation: http://cdn:81/a?b\r\nContent-Length: 0\r\n\r\n";
    return "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\npng";
  };
  c.get("a", at);
  c.run();
  CHECK(c.take_ends() == lines{"image/png png"});
  REQUIRE(c.fetches_said.size() == 2);
  CHECK(c.fetches_said[0].find("Cookie") != std::string::npos);
  CHECK(c.fetches_said[1] == "GET /a?b HTTP/1.1\r\nHost: cdn:81\r\nAccept: */*\r\n\r\n");
  CHECK(c.places.back() == "cdn:81");
  c.fake = [](std::string_view) -> std::string {
    return "HTTP/1.1 302 Found\r\nLocation: /round\r\nContent-Length: 0\r\n\r\n";
  };
  c.get("a", at);
  c.pass(1000);
  CHECK(c.take_ends() == lines{"the content is said to be where nobody can go"});
  // A part that nobody asked for is no content.
  c.fake = [](std::string_view) -> std::string {
    return "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/3\r\nContent-Length: 2\r\n\r\nng";
  };
  c.get("a", at);
  c.pass(120'000);
  CHECK(c.take_ends() == lines{"another part of the content than was asked for"});
}

TEST_CASE("a client that stops ends what it was to fetch") {
  house h;
  memory_client c(&h, {&detail::client_websocket}, {.max_pending = 1}, signal_url);
  const auto at = heard_of(h, c, payload::text("x"));
  c.blocked = true;
  c.get("a", at);
  c.get("a", at);
  c.close();
  c.blocked = false;
  c.run();
  CHECK(c.take_ends() == lines{"too much is waiting to be fetched", "the client has stopped"});
  c.get("a", at);
  c.run();
  CHECK(c.take_ends() == lines{"the client has stopped"});
}

TEST_CASE("a post that is refused for its token is the end of a client without another") {
  house h;
  bool known = true;
  h.gate.host.authorize = [&](const request& r, authorize_reply reply) {
    if (!known) return reply(failure(errc::unauthenticated));
    reply(usual(r));
  };
  memory_client c(&h, {&detail::client_sse});
  c.follow("a");
  c.start();
  c.pass(100);
  known = false;
  c.say("a", "1");
  c.pass(100);
  CHECK(c.take_states().back() == "stopped sse unauthenticated");
  CHECK(c.take_ends().size() == 1);
}

TEST_CASE("who comes, goes and reads is told to handlers of its own") {
  house h;
  memory_client c(&h, {&detail::client_sse});
  lines told;
  c.on.of_others().presence = [&](const client_presence_change& p) {
    static constexpr const char* words[] = {"join", "leave", "count"};
    told.push_back(std::string(words[static_cast<int>(p.what)]) + " " + std::string(p.channel) + " " +
                   std::string(p.user) + " " + std::string(p.info) + " " + std::to_string(p.count));
  };
  c.on.of_others().receipt = [&](const client_receipt& r) {
    told.push_back(std::string(r.channel) + " " + std::string(r.epoch) + " " + std::string(r.user) + " " +
                   std::to_string(r.received) + " " + std::to_string(r.read));
  };
  c.on.of_others().missed = [&](std::string_view channel) { told.push_back("missed " + std::string(channel)); };
  c.follow("a");
  c.fake = [](std::string_view) -> std::string {
    std::string out = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    for (const char* o : {R"({"open":{"session":"s","channels":{"a":{"epoch":"e","offset":4}}}})",
                          R"({"join":{"channel":"a","user":"b\u00e9","info":{"n":1}}})",
                          R"({"leave":{"channel":"a","user":"bob"}})", R"({"presence":{"channel":"a","count":10342}})",
                          R"({"receipt":{"channel":"a","epoch":"e","user":"bob","received":42,"read":40}})",
                          R"({"missed":{"channel":"a"}})", R"({"join":7})", R"({"receipt":[]})"})
      out += "data: " + std::string(o) + "\n\n";
    return out;
  };
  c.start();
  c.run();
  CHECK(told == lines{"join a b\u00e9 {\"n\":1} 0", "leave a bob  0", "count a   10342", "a e bob 42 40", "missed a"});
  CHECK(c.notices.size() == 8);  // as notices too, and those that cannot be read only so
}

TEST_CASE("the cursor passes a gap when it is told, not before") {
  house h;
  memory_client c(&h, {&detail::client_sse});
  std::vector<std::string> cursors;
  c.on.cursor = [&](const std::string& at) { cursors.push_back(at); };
  c.follow("a", start::after({"e", 4}));
  c.pieces = 1;  // a turn for each byte: the connection may end behind any of them
  c.fake = [](std::string_view) -> std::string {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: "
           R"({"open":{"session":"s","channels":{"a":{"epoch":"e","offset":9,"recovered":false}}}})"
           "\n\n";
  };
  c.start();
  c.run();
  CHECK((c.cursor() == "e.4" && cursors.empty()));
}

TEST_CASE("a channel that is followed anew begins where it says, whatever was under way") {
  house h;
  for (auto json : {"1", "2", "3"}) h.publish("b", json);
  memory_client c(&h, {&detail::client_websocket});
  c.follow("a");
  c.start();
  c.run();
  c.pieces = 20;  // each answer is a turn of its own
  c.follow("b");
  c.unfollow("b");
  c.follow("b", start::earliest());
  c.run();
  h.publish("b", "4");
  c.run();
  CHECK(c.take() == lines{"b 1 1", "b 2 2", "b 3 3", "b 4 4"});
  // An answer to the following that is over does not end the one that goes on.
  c.follow("secret");
  c.unfollow("secret");
  h.gate.host.authorize = [](const request& r, authorize_reply reply) { reply(usual(r)); };
  c.follow("secret", start::earliest());
  c.unfollow("b");
  c.follow("b");
  c.run();
  h.publish("b", "5");
  c.run();
  CHECK(c.take() == lines{"b 5 5"});
  CHECK(c.notices.back() == "closed {\"channel\":\"secret\",\"code\":\"forbidden\"}");
  CHECK(count(c.notices.begin(), c.notices.end(), c.notices.back()) == 1);
}

TEST_CASE("what is followed and left while a link opens counts, on each transport") {
  struct late final : memory_client {
    using memory_client::memory_client;
    void write(detail::client_lane lane, std::string_view bytes) override {
      memory_client::write(lane, bytes);
      if (std::exchange(named, true)) return;
      unfollow("a");  // as many as were named, but others
      follow("c", start::earliest());
    }
    bool named = false;
  };
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    for (auto channel : {"a", "b", "c"}) h.publish(channel, "1");
    late c(&h, l);
    c.follow("a", start::earliest());
    c.follow("b", start::earliest());
    c.start();
    c.pass(5000);
    auto heard = c.take();
    std::sort(heard.begin(), heard.end());
    CHECK(heard == lines{"b 1 1", "c 1 1"});
    h.publish("a", "2");
    h.publish("c", "2");
    c.pass(5000);
    CHECK(c.take() == lines{"c 2 2"});
  }
}

TEST_CASE("a handler that throws at one channel's message leaves the places of others where they are") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    for (auto json : {"1", "2"}) h.publish("a", json), h.publish("b", json);
    memory_client c(&h, l);
    bool thrown = false;
    c.on_each = [&](const client_message&) {
      if (!std::exchange(thrown, true)) throw std::runtime_error("not now");
    };
    c.follow("a");  // from now on
    c.follow("b", start::earliest());
    c.start();
    for (int i = 0; i < 3; ++i) {
      try {
        c.pass(5000);
      } catch (const std::runtime_error&) {
      }
    }
    CHECK(c.take() == lines{"b 1 1", "b 2 2"});
  }
}

TEST_CASE("a server that is not reached at first is found later, on each transport") {
  for (auto& l : each_alone) {
    CAPTURE(l[0]->name);
    house h;
    memory_client c(&h, l);
    c.refuses = true;  // as where a name cannot be resolved yet
    c.follow("a", start::earliest());
    c.start();
    c.say("a", "1");
    c.pass(5000);
    CHECK((c.take().empty() && c.take_ends().empty() && c.connects > 1));
    c.refuses = false;
    c.pass(60'000);
    CHECK(c.take() == lines{"ada@a 1 1"});
    CHECK(c.take_ends().size() == 1);
  }
}
