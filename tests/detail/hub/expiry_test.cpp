// SPDX-License-Identifier: BSL-1.0
// Permissions that end: in time, in part, while a storage is busy, between a connection and the next.
#include "detail/connection/stage.hpp"

using namespace stage;

namespace {

using clock_point = std::chrono::system_clock::time_point;

/// A time on the stage's system clock, `ms` after now.
clock_point in(const house& h, std::int64_t ms) {
  return clock_point(std::chrono::milliseconds(h.loop.unix_time() + ms));
}

/// A house where everybody is who they say and may do everything, until `lasts` milliseconds after they came.
struct guarded_house : house {
  explicit guarded_house(std::int64_t ms, const options& o = {}) : house(o), lasts(ms) {
    gate.host.authorize = [this](const request& r, authorize_reply reply) {
      ++asked;
      reply(allowed ? decision(give(r.param("user"))) : decision(errc::unauthenticated));
    };
    gate.host.on_close = [this](session& s, const close_reason& why) {
      closes.push_back(std::string(s.user()) + ' ' + std::string(code_name(why.code)) + ' ' +
                       std::to_string(why.close_code) + ' ' + why.text);
    };
  }
  grant give(std::string_view user) const {
    grant g;
    g.user = user;
    g.follow = follow;
    g.publish = channel_set::all();
    g.floors = floors;
    if (lasts) g.expires = in(*this, lasts);
    return g;
  }
  /// Tokens are `user` or `user+milliseconds`; anything that begins with a dash is refused.
  void renews() {
    gate.host.on_renew = [this](session&, std::string_view token, authorize_reply reply) {
      if (token.starts_with('-')) return reply(failure(errc::unauthenticated, "a bad token"));
      auto plus = token.find('+');
      grant g = give(token.substr(0, plus));
      g.expires = plus == token.npos ? clock_point::max() : in(*this, std::stoi(std::string(token.substr(plus + 1))));
      reply(g);
    };
  }
  session& only() { return *gate.messages.sessions().at(0); }

  std::int64_t lasts;
  channel_set follow = channel_set::all();
  std::vector<grant::floor> floors;
  bool allowed = true;
  int asked = 0;
  lines closes;
};

std::string renew(std::string_view token, int id = 1) {
  return "{\"id\":" + std::to_string(id) + ",\"renew\":{\"token\":\"" + std::string(token) + "\"}}";
}
const lines nothing;
const std::string expired_close = "close 4401 the permission has expired";

}  // namespace

// ---- in time

TEST_CASE("a permission about to end is announced once and then ends the stream with 4401") {
  guarded_house h(60'000);
  client c(h);
  c.join("?channel=chat&user=ada");
  h.advance(29'800);
  CHECK(c.hear() == lines{"ping"});
  h.advance(400);
  CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":30}})"});
  c.say(R"({"id":1,"ping":{}})");
  CHECK(c.hear() == lines{R"(text {"reply":1,"ok":{}})"});
  h.advance(29'500);
  h.publish("chat", "1");
  auto last = c.hear();
  REQUIRE(last.size() == 2);
  CHECK(last[1] == "text " + published("chat", 1, "1", 60'700));
  h.advance(400);
  CHECK(c.hear() == lines{expired_close});
  h.publish("chat", "2");
  CHECK(c.hear() == nothing);
  CHECK(h.closes == lines{"ada unauthenticated 4401 the permission has expired"});
  CHECK(h.gate.messages.session_count() == 0);
}

TEST_CASE("one that lasts less than the notice is announced at once") {
  guarded_house h(5000);
  client c(h);
  c.join("?channel=chat&user=ada");
  h.advance(100);
  CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":5}})"});
  h.advance(5000);
  CHECK(c.hear() == lines{expired_close});
}

TEST_CASE("how long before is an option") {
  options o;
  o.expiry_notice = std::chrono::seconds(7);
  guarded_house h(20'000, o);
  client c(h);
  c.join("?channel=chat&user=ada");
  h.advance(12'900);
  CHECK(c.hear() == nothing);
  h.advance(200);
  CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":7}})"});
}

TEST_CASE("an event stream is told the same and just ends, and its next request is refused") {
  guarded_house h(40'000);
  client c(h);
  c.open(event_stream("?channel=chat&user=ada"));
  h.advance(10'100);
  CHECK(c.take() == "event: expiring\ndata: {\"expiring\":{\"seconds\":30}}\n\n");
  h.allowed = false;
  h.advance(30'500);
  CHECK(c.take().ends_with("data: {\"ping\":{}}\n\n"));
  CHECK(c.c->ended_by_server);
  h.publish("chat", "1");
  CHECK(c.take().empty());
  client again(h);
  CHECK(again.ask(event_stream("?channel=chat&user=ada")).status == 401);
}

TEST_CASE("a raw client, which cannot be told, is closed when its time has come") {
  guarded_house h(10'000);
  client c(h);
  c.join("?channel=chat&user=ada", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  h.advance(10'200);
  CHECK(c.hear() == lines{expired_close});
}

TEST_CASE("a raw client that publishes when its time has come is closed with 4401 too, whatever the timer does") {
  guarded_house h(10'000);
  client c(h);
  c.join("?channel=chat&user=ada", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  h.loop.set_unix_time(h.loop.unix_time() + 10'001);
  c.send(frame("x", proto::ws_opcode::text));
  CHECK(c.hear() == lines{expired_close});
}

TEST_CASE("a poll is not held for longer than its permission") {
  guarded_house h(3000);
  h.publish("chat", "1");
  client c(h);
  c.send(get("/live?channel=chat&user=ada&since=chat-1.1&wait=50"));
  h.advance(2900);
  CHECK(c.take().empty());
  h.advance(200);
  CHECK(read_answer(c.take()).body == R"({"messages":[],"notices":[],"cursor":"chat-1.1"})");
  h.allowed = false;
  CHECK(c.ask(get("/live?channel=chat&user=ada&since=chat-1.1&wait=50")).status == 401);
}

TEST_CASE("a permission that has ended already opens nothing") {
  guarded_house h(-1);
  client c(h);
  CHECK(c.ask(get("/live?channel=chat&user=ada")).status == 401);
  CHECK(c.ask(post("?channel=chat&user=ada", "1")).status == 401);
  CHECK(c.ask(event_stream("?channel=chat&user=ada")).status == 401);
  client socket(h);
  CHECK(socket.ask(upgrade("?channel=chat&user=ada")).status == 401);
  CHECK(h.gate.messages.session_count() == 0);
}

TEST_CASE("a permission that ends while the storage is read opens nothing") {
  guarded_house h(2000);
  for (auto& request : {upgrade("?channel=chat&user=ada"), event_stream("?channel=chat&user=ada"),
                        get("/live?channel=chat&user=ada&wait=9")}) {
    h.store.holding = true;
    client c(h);
    c.send(request);
    h.advance(2500);
    CHECK(c.take().empty());
    h.answer();
    CHECK(read_answer(c.take()).status == 401);
  }
}

TEST_CASE("what a poll was still reading when its permission ended is not told") {
  guarded_house h(3000);
  h.publish("chat", "1");
  for (const char* wait : {"", "&wait=30"}) {
    h.store.holding = true;
    client c(h);
    c.send(get(std::string("/live?channel=chat&user=ada&since=chat-1.9") + wait));
    h.store.answer(1);  // where the channel stands: behind a gap, its message is asked for next
    h.run();
    h.advance(3500);
    h.answer();
    auto a = read_answer(c.take());
    CHECK(a.status == 200);
    CHECK(a.body.find("\"data\"") == std::string::npos);
    h.allowed = true;
    auto next = a.body.substr(a.body.find("cursor\":\"") + 9);
    h.store.holding = false;
    CHECK(c.ask(get("/live?channel=chat&user=ada&since=" + next.substr(0, next.find('"')))).body.find("\"data\":1") !=
          std::string::npos);
  }
}

TEST_CASE("each command is carried out only while the permission lasts, whatever the timer does") {
  guarded_house h(1000);
  h.store.holding = true;
  client c(h);
  auto command = [](int i) { return "{\"id\":" + std::to_string(i) + R"(,"publish":{"channel":"chat","data":1}})"; };
  c.send(post("?user=ada", '[' + command(1) + ',' + command(2) + ']'));
  h.advance(1500);
  h.answer();
  auto a = read_answer(c.take());
  CHECK(
      a.body ==
      R"([{"reply":1,"ok":{"epoch":"chat-1","offset":1}},{"reply":2,"error":{"code":"unauthenticated","message":"the permission has expired"}}])");
}

TEST_CASE("the end is the system clock's, which may be set while the loop's goes on") {
  guarded_house h(4'000'000);
  client c(h);
  c.join("?channel=chat&user=ada");
  h.advance(10'000);
  h.loop.set_unix_time(h.loop.unix_time() + 4'000'000);
  auto heard = c.hear();
  for (int i = 0; i < 22; ++i) {
    h.advance(14'500);
    c.say(R"({"ping":{}})");
    for (auto& line : c.hear()) heard.push_back(line);
  }
  CHECK(std::count(heard.begin(), heard.end(), expired_close) == 1);
}

TEST_CASE("who has no expiry costs nothing: no timer, no table entry") {
  house plain;
  guarded_house timed(50'000);
  client a(plain), b(timed);
  a.join("?channel=chat&user=ada");
  b.join("?channel=chat&user=ada");
  CHECK(plain.gate.messages.expiries.size() == 0);
  CHECK(timed.gate.messages.expiries.size() == 1);
  b.c->reset();
  timed.run();
  CHECK(timed.gate.messages.expiries.size() == 0);
}

// ---- renewed

TEST_CASE("a permission is renewed over the open connection, and announced again in its time") {
  guarded_house h(40'000);
  h.renews();
  client c(h);
  c.join("?channel=chat&user=ada");
  h.advance(10'100);
  CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":30}})"});
  c.say(renew("ada+50500"));
  CHECK(c.hear() == lines{R"(text {"reply":1,"ok":{"expires":50}})"});
  h.advance(20'600);
  CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":30}})"});
  c.say(renew("ada", 2));
  CHECK(c.hear() == lines{R"(text {"reply":2,"ok":{}})"});
  CHECK(h.gate.messages.expiries.size() == 0);
  for (int i = 0; i < 10; ++i) {
    h.advance(20'000);
    c.say(R"({"ping":{}})");
  }
  h.publish("chat", "1");
  auto heard = c.hear();
  CHECK(heard.back().starts_with("text {\"channel\":\"chat\",\"offset\":1,"));
}

TEST_CASE("a renewal that is refused, expired, another user's or thrown away leaves the old end in place") {
  guarded_house h(20'000);
  h.renews();
  client c(h);
  c.join("?channel=chat&user=ada");
  h.advance(100);
  c.hear();
  auto error = [&](std::string_view token, std::string_view code, std::string_view message) {
    c.say(renew(token));
    CHECK(c.hear() == lines{"text {\"reply\":1,\"error\":{\"code\":\"" + std::string(code) + "\",\"message\":\"" +
                            std::string(message) + "\"}}"});
  };
  error("-", "unauthenticated", "a bad token");
  error("ada+0", "unauthenticated", "the token has expired");
  error("bob+90000", "forbidden", "the token is for another user");
  error("+90000", "forbidden", "the token is for another user");
  h.gate.host.on_renew = [](session&, std::string_view, authorize_reply) {};
  error("ada", "internal", "internal error");
  h.gate.host.on_renew = [](session&, std::string_view, authorize_reply reply) { reply(shared_grant()); };
  error("ada", "internal", "internal error");
  h.gate.host.on_renew = nullptr;
  error("ada", "not_implemented", "renew is not offered by this server");
  h.advance(20'000);
  CHECK(c.hear() == lines{expired_close});
}

TEST_CASE("a renewal may be answered later, but not too late, and a hook that throws ends the session") {
  guarded_house h(10'000);
  std::vector<authorize_reply> waiting;
  h.gate.host.on_renew = [&](session&, std::string_view, authorize_reply reply) {
    waiting.push_back(std::move(reply));
  };
  SECTION("in time") {
    client c(h);
    c.join("?channel=chat&user=ada");
    c.say(renew("x"));
    c.say(R"({"id":2,"ping":{}})");
    h.advance(9000);
    CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":10}})"});
    h.lasts = 80'000;
    waiting.at(0)(h.give("ada"));
    h.run();
    c.c->deliver();
    h.run();
    CHECK(c.hear() == lines{R"(text {"reply":1,"ok":{"expires":80}})", R"(text {"reply":2,"ok":{}})"});
    h.advance(5000);
    CHECK(c.hear() == nothing);
  }
  SECTION("too late, or after the client has gone") {
    client c(h);
    c.join("?channel=chat&user=ada");
    c.say(renew("x"));
    h.advance(10'200);
    CHECK(c.hear().back() == expired_close);
    waiting.at(0)(h.give("ada"));
    h.run();
    CHECK(c.hear() == nothing);
  }
  SECTION("it throws") {
    h.gate.host.on_renew = [](session&, std::string_view, authorize_reply) { throw std::runtime_error("no keys"); };
    client c(h);
    c.join("?channel=chat&user=ada");
    c.say(renew("x"));
    auto heard = c.hear();
    REQUIRE(heard.size() == 2);
    CHECK(heard[1] == "close 1011 internal error");
    CHECK(h.log == lines{"on_renew threw: no keys"});
  }
}

TEST_CASE("renew by POST is refused: there is no connection that it could be for") {
  guarded_house h(10'000);
  h.renews();
  client c(h);
  CHECK(c.ask(post("?user=ada", renew("ada"))).status == 400);
}

TEST_CASE("a renewal with less closes what it does not allow, and a floor that has risen hides what lies below") {
  guarded_house h(20'000);
  h.renews();
  client c(h);
  c.join("?channel=a&channel=b&user=ada");
  h.advance(100);
  c.hear();
  h.only().follow("host's");
  h.run();
  c.hear();
  h.follow = {"b"};
  c.say(renew("ada"));
  CHECK(c.hear() == lines{R"(text {"closed":{"channel":"a","code":"forbidden"}})", R"(text {"reply":1,"ok":{}})"});
  h.publish("a", "1");
  h.publish("host's", "2");
  h.publish("b", "3");
  auto heard = c.hear();
  REQUIRE(heard.size() == 2);
  CHECK(heard[0].starts_with("text {\"channel\":\"host's\""));
  CHECK(heard[1].starts_with("text {\"channel\":\"b\""));
  c.say(R"({"id":2,"subscribe":{"channel":"a"}})");
  CHECK(c.hear() == lines{R"(text {"reply":2,"error":{"code":"forbidden","message":"not allowed"}})"});
}

// ---- in part

TEST_CASE("one channel is taken away for good: following, reading and publishing, renewed or not") {
  guarded_house h(0);
  h.renews();
  client c(h), other(h);
  c.join("?channel=chat&channel=news&user=ada");
  other.join("?channel=chat&user=bob");
  h.gate.messages.find("ada").at(0)->revoke("chat");
  h.run();
  CHECK(c.hear() == lines{R"(text {"closed":{"channel":"chat","code":"forbidden"}})"});
  h.publish("chat", "1");
  h.publish("news", "2");
  auto heard = c.hear();
  REQUIRE(heard.size() == 1);
  CHECK(heard[0].starts_with("text {\"channel\":\"news\""));
  CHECK(other.hear().size() == 1);
  c.say(renew("ada+90000"));
  CHECK(c.hear().back() == R"(text {"reply":1,"ok":{"expires":90}})");
  for (std::string command : {R"("subscribe":{"channel":"chat","since":"earliest"})", R"("history":{"channel":"chat"})",
                              R"("publish":{"channel":"chat","data":1})"}) {
    c.say("{\"id\":1," + command + '}');
    CHECK(c.hear() == lines{R"(text {"reply":1,"error":{"code":"forbidden","message":"not allowed"}})"});
  }
  // It may be named before it is followed, and more than once.
  h.gate.messages.find("bob").at(0)->revoke("later");
  h.gate.messages.find("bob").at(0)->revoke("later");
  h.run();
  CHECK(other.hear() == nothing);
  other.say(R"({"id":1,"subscribe":{"channel":"later"}})");
  CHECK(other.hear() == lines{R"(text {"reply":1,"error":{"code":"forbidden","message":"not allowed"}})"});
}

TEST_CASE("even one's own inbox can be taken away") {
  guarded_house h(0);
  client c(h);
  c.join("?channel=@ada&user=ada");
  h.only().revoke("@ada");
  h.run();
  CHECK(c.hear() == lines{R"(text {"closed":{"channel":"@ada","code":"forbidden"}})"});
  c.say(R"({"id":1,"history":{"channel":"@ada"}})");
  CHECK(c.hear() == lines{R"(text {"reply":1,"error":{"code":"forbidden","message":"not allowed"}})"});
}

TEST_CASE("a waiting poll is told at once, and hears no more of the channel") {
  guarded_house h(0);
  h.publish("a", "1");
  h.publish("b", "1");
  client c(h);
  c.send(get("/live?channel=a&channel=b&user=ada&since=a-1.1,b-1.1&wait=50"));
  CHECK(c.take().empty());
  h.only().revoke("a");
  h.publish("a", "2");
  CHECK(read_answer(c.take()).body ==
        R"({"messages":[],"notices":[{"closed":{"channel":"a","code":"forbidden"}}],"cursor":"a-1.1,b-1.1"})");
}

TEST_CASE("a raw client whose channel is taken away is closed with 4403") {
  guarded_house h(0);
  client c(h);
  c.join("?channel=chat&user=ada", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  h.only().revoke("chat");
  h.run();
  CHECK(c.hear() == lines{"close 4403 the channel may not be followed any more"});
}

TEST_CASE("permissions that the host gives are checked before anything changes") {
  guarded_house h(0);
  client c(h);
  c.join("?channel=chat&user=ada");
  session& s = h.only();
  CHECK(s.permit({}) == errc::bad_request);
  CHECK(s.permit(h.give("bob")) == errc::bad_request);
  h.lasts = -1;
  CHECK(s.permit(h.give("ada")) == errc::unauthenticated);
  grant throwing{.user = "ada"};
  throwing.follow = channel_set(
      std::function<bool(std::string_view)>([](std::string_view) -> bool { throw std::runtime_error("no"); }));
  CHECK_THROWS_AS(s.permit(throwing), std::runtime_error);
  CHECK(s.may_follow("chat"));
  h.lasts = 31'000;
  CHECK_FALSE(s.permit(h.give("ada")));
  h.advance(1100);
  CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":30}})"});

  client poll(h);
  h.publish("b", "1");
  poll.send(get("/live?channel=b&user=bob&since=b-1.1&wait=50"));
  CHECK(h.gate.messages.find("bob").at(0)->permit(h.give("bob")) == errc::bad_request);
}

// ---- between connect and replay, and between one connection and the next

TEST_CASE("a channel that is taken away while its replay is read is not replayed") {
  guarded_house h(0);
  h.publish("chat", "1");
  for (auto& request :
       {upgrade("?channel=chat&user=ada&since=earliest"), event_stream("?channel=chat&user=ada&since=earliest"),
        get("/live?channel=chat&user=ada&since=earliest&wait=5")}) {
    h.store.holding = true;
    client c(h);
    c.send(request);
    h.only().revoke("chat");
    h.answer();
    auto bytes = c.take();
    CHECK(read_answer(bytes).status == 403);
    CHECK(bytes.find("\"data\"") == bytes.npos);
  }
}

TEST_CASE("a channel that is taken away in the middle of a replay from the storage stops there") {
  guarded_house h(0);
  h.store.keep = 1000;
  for (int i = 0; i < 600; ++i) h.publish("chat", '"' + std::string(2000, 'x') + '"');
  client c(h);
  c.narrow(30'000);
  c.send(upgrade("?channel=chat&user=ada&since=earliest"));
  h.store.holding = true;
  c.widen(40'000);
  c.take();
  h.only().revoke("chat");
  h.run();
  c.widen();
  h.answer();
  auto rest = c.take();
  CHECK(rest.size() < 8000);
  CHECK(rest.find(R"({"closed":{"channel":"chat","code":"forbidden"}})") != rest.npos);
}

TEST_CASE("history that was asked for before a channel was taken away is not given after it") {
  guarded_house h(0);
  for (int i = 1; i < 5; ++i) h.publish("chat", std::to_string(i));
  client c(h);
  c.join("?user=ada");
  h.store.holding = true;
  SECTION("taken away") {
    c.say(R"({"id":1,"history":{"channel":"chat","after":0}})");
    h.only().revoke("chat");
    h.answer();
    CHECK(c.hear() == lines{R"(text {"reply":1,"error":{"code":"forbidden","message":"not allowed"}})"});
  }
  SECTION("its floor has risen") {
    c.say(R"({"id":1,"history":{"channel":"chat","after":0}})");
    h.floors = {{"chat", 4}};
    CHECK_FALSE(h.only().permit(h.give("ada")));
    h.answer();
    auto heard = c.hear();
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].find("\"offset\":4") != heard[0].npos);
    CHECK(heard[0].find("\"offset\":3") == heard[0].npos);
  }
}

TEST_CASE("a floor that rises while the replay is read holds") {
  guarded_house h(0);
  for (int i = 1; i < 6; ++i) h.publish("chat", std::to_string(i));
  h.store.holding = true;
  client c(h);
  c.send(upgrade("?channel=chat&user=ada&since=chat-1.1"));
  h.floors = {{"chat", 5}};
  CHECK_FALSE(h.only().permit(h.give("ada")));
  h.answer();
  h.answer();  // what lies above the floor is read anew
  auto bytes = c.take();
  auto heard = frames(bytes.substr(bytes.find("\r\n\r\n") + 4));
  CAPTURE(heard);
  REQUIRE(heard.size() == 3);
  CHECK(heard[1] == R"(text {"gap":{"channel":"chat","reason":"trimmed","epoch":"chat-1","next":5}})");
  CHECK(heard[2].find("\"offset\":5") != heard[2].npos);
}

TEST_CASE("a floor that rises above a client that is behind is a gap, between whole frames") {
  for (std::size_t room : {std::size_t{900}, std::size_t{5000}, std::size_t{9500}}) {
    guarded_house h(0);
    for (int i = 0; i < 50; ++i) h.publish("chat", '"' + std::string(1000, 'x') + '"');
    client c(h);
    c.narrow(room);
    c.send(upgrade("?channel=chat&user=ada&since=earliest"));
    h.floors = {{"chat", 40}};
    CHECK_FALSE(h.only().permit(h.give("ada")));
    h.run();
    c.widen();
    h.publish("chat", "1");
    auto bytes = c.take();
    auto heard = frames(bytes.substr(bytes.find("\r\n\r\n") + 4));
    CHECK(std::count(heard.begin(), heard.end(),
                     R"(text {"gap":{"channel":"chat","reason":"trimmed","epoch":"chat-1","next":40}})") == 1);
    bool hidden = false;
    int after = 0;
    bool seen_gap = false;
    for (auto& line : heard) {
      if (line.find("\"gap\"") != line.npos)
        seen_gap = true;
      else if (seen_gap)
        ++after, hidden = hidden || line.find("\"offset\":39,") != line.npos;
    }
    CHECK(after == 12);  // 40 to 51
    CHECK_FALSE(hidden);
  }
}

TEST_CASE("a floor that rises above the head hides what is still to come, from one in sync and from one behind") {
  guarded_house h(0);
  for (int i = 1; i < 4; ++i) h.publish("chat", std::to_string(i));
  client c(h);
  c.join("?channel=chat&user=ada&since=earliest");
  c.hear();
  SECTION("in sync") {}
  SECTION("with something on its way") { CHECK_FALSE(h.gate.messages.publish("chat", payload::json("4"))); }
  SECTION("behind") {
    c.narrow(30);
    h.publish("chat", '"' + std::string(100, 'x') + '"');
  }
  h.floors = {{"chat", 7}};
  CHECK_FALSE(h.only().permit(h.give("ada")));
  h.run();
  c.widen();
  for (int i = 4; i < 9; ++i) h.publish("chat", std::to_string(i));
  std::string heard;
  for (auto& line : c.hear()) {
    if (line.find("\"gap\"") != line.npos) heard += line.substr(line.find("\"next\":") + 7, 1) + "! ";
    if (auto at = line.find("\"offset\":"); at != line.npos) heard += line.substr(at + 9, 1) + ' ';
  }
  if (heard.starts_with("4 ")) heard.erase(0, 2);  // half of it had gone out
  CHECK(heard.starts_with("7! 7 8 "));
}

TEST_CASE("a floor holds when the channel begins a new life") {
  guarded_house h(0);
  h.publish("chat", "1");
  client open(h), guarded(h);
  open.join("?channel=chat&user=ada&since=earliest");
  h.floors = {{"chat", 3}};
  guarded.join("?channel=chat&user=bob");
  open.hear();
  h.store.restart("chat");
  h.store.holding = true;
  for (int i = 1; i < 6; ++i) h.publish("chat", std::to_string(i));
  h.answer();
  auto offsets = [](const lines& heard) {
    std::string out;
    for (auto& line : heard)
      if (auto at = line.find("\"offset\":"); at != line.npos) out += line.substr(at + 9, 1);
    return out;
  };
  CHECK(offsets(open.hear()) == "12345");
  auto heard = guarded.hear();
  CHECK(heard.at(0) == R"(text {"gap":{"channel":"chat","reason":"epoch","epoch":"chat-2","next":3}})");
  CHECK(offsets(heard) == "345");
}

TEST_CASE("a cursor is no permission: who has lost it meanwhile is refused, or finds the floor") {
  guarded_house h(0);
  for (int i = 1; i < 6; ++i) h.publish("chat", std::to_string(i));
  client c(h);
  SECTION("the channel") {
    h.follow = {"news"};
    for (auto& request : {upgrade("?channel=chat&user=ada&since=chat-1.2"),
                          event_stream("?channel=chat&user=ada", "Last-Event-ID: chat-1.2\r\n"),
                          get("/live?channel=chat&user=ada", "If-None-Match: \"chat-1.2\"\r\n")}) {
      CHECK(client(h).ask(request).status == 403);
    }
  }
  SECTION("the floor") {
    h.floors = {{"chat", 5}};
    auto a = c.ask(get("/live?channel=chat&user=ada&since=chat-1.2"));
    CHECK(a.has(R"("notices":[{"gap":{"channel":"chat","reason":"trimmed","epoch":"chat-1","next":5}}])"));
    CHECK_FALSE(a.has("\"offset\":4"));
    CHECK(a.has("\"offset\":5"));
  }
}

TEST_CASE("an answer of the authorizer's that cannot be used is internal, and logged") {
  guarded_house h(0);
  client c(h);
  auto give = [&](decision d) {
    h.gate.host.authorize = [d](const request&, authorize_reply reply) { reply(d); };
    h.log.clear();
    CHECK(c.ask(get("/live?channel=chat&user=ada")).status == 500);
    REQUIRE(h.log.size() == 1);
    return h.log[0];
  };
  CHECK(give(grant{.user = std::string(255, 'x')}) == "the authorizer gave a name that is not a user's");
  CHECK(give(grant{.user = "ada\n"}) == "the authorizer gave a name that is not a user's");
  CHECK(give(grant{.user = "ada", .info = "{"}) == "the authorizer gave an info that is not JSON");
}

TEST_CASE("a shared grant says what the grant said, and its copies share it") {
  int asked = 0;
  shared_grant g =
      grant{.user = "ada",
            .follow = std::function<bool(std::string_view)>([&](std::string_view c) { return ++asked, c == "a"; }),
            .publish = {"b-*"},
            .key_scope = "cookie",
            .floors = {{"a", 5}},
            .expires = clock_point(std::chrono::hours(9)),
            .info = "{}"};
  shared_grant copy = g;
  g = grant{};
  CHECK(g);
  CHECK_FALSE(shared_grant());
  CHECK(g.user().empty());
  CHECK(g.key_scope().empty());
  CHECK(g.info().empty());
  CHECK(g.floor_of("a") == 1);
  CHECK(g.expires() == clock_point::max());
  CHECK_FALSE(g.may_follow("a"));
  CHECK_FALSE(g.may_follow("@"));
  CHECK(copy.user() == "ada");
  CHECK(copy.may_follow("a"));
  CHECK(copy.may_follow("@ada"));
  CHECK_FALSE(copy.may_follow("@bob"));
  CHECK(asked == 1);
  CHECK(copy.may_publish("b-1"));
  CHECK_FALSE(copy.may_publish("a"));
  CHECK(copy.key_scope() == "cookie");
  CHECK(copy.info() == "{}");
  CHECK(copy.floor_of("a") == 5);
  CHECK(copy.floor_of("b") == 1);
  CHECK(copy.expires() == clock_point(std::chrono::hours(9)));
}

TEST_CASE("a session that is ending is given no other permissions") {
  house h;
  client c(h);
  c.join("?channel=chat&user=ada");
  session* s = h.gate.messages.find("ada").at(0);
  CHECK_FALSE(s->permit(grant{.user = "ada", .follow = channel_set::all()}));
  s->close();
  CHECK(s->permit(grant{.user = "ada", .follow = channel_set::all()}) == operation_aborted());
}
