// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/all_nodes.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "detail/connection/open_storage.hpp"
#include "detail/hub/test_session.hpp"
#include "hailwire/broker/in_process.hpp"
#include "hailwire/hub.hpp"
#include "hailwire/testing/manual_loop.hpp"

using namespace hailwire;
using namespace hub_tests;

namespace {

constexpr proto::encoding objects{
    "objects", true, [](std::string& out, const proto::envelope& e) { out.append(e.json).append("\n"); },
    [](std::string& out, std::string_view, std::string_view json) { out.append(json).append("\n"); }};
const std::string commands(detail::commands_channel);

/// Hubs are cut off from it and joined again, and it says so or does not.
struct cable : in_process_broker {
  std::uint64_t attach(broker_receiver r) {
    const std::uint64_t n = ends.size();
    ends.push_back(std::make_shared<broker_receiver>(std::move(r)));
    return ids.emplace_back(in_process_broker::attach([this, n](const broker_event& e) {
      if (cut.contains(n)) return;
      if (holding && e.stored)
        return late.emplace_back(n, std::string(e.channel), std::string(e.epoch), *e.stored), void();
      if (e.live && lose > 0) return --lose, void();
      ++heard;
      (*ends[n])(e);
    }));
  }
  void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) {
    if (!is_cut(hub)) in_process_broker::publish(hub, channel, epoch, m);
  }
  void tell(std::uint64_t hub, std::string_view channel, const live_event& e) {
    if (!is_cut(hub)) in_process_broker::tell(hub, channel, e);
  }
  void say(std::size_t n, std::string_view channel, bool lost = false) {
    broker_event e;
    e.channel = channel;
    e.lost = lost;
    (*ends[n])(e);
  }
  void cut_off(std::size_t n) {
    cut.insert(n);
    say(n, commands, true);
  }
  bool is_cut(std::uint64_t hub) const {
    for (const std::uint64_t n : cut)
      if (ids[n] == hub) return true;
    return false;
  }
  struct event {
    event(std::uint64_t n, std::string c, std::string e, message m)
        : to(n), channel(std::move(c)), epoch(std::move(e)), content(std::move(m)) {}
    std::uint64_t to;
    std::string channel, epoch;
    message content;
  };
  std::vector<std::shared_ptr<broker_receiver>> ends;
  std::vector<std::uint64_t> ids;
  std::set<std::uint64_t> cut;
  std::vector<event> late;
  bool holding = false;
  int lose = 0, heard = 0;
};

struct node {
  node(stage::open_storage& store, cable* b, std::string name) : h(loop, detail::erase_storage(store), named(name)) {
    if (b) h.join(detail::erase_broker(*b));
  }
  static options named(const std::string& name) {
    options o;
    o.node = name;
    o.max_pending = 8;
    return o;
  }
  testing::manual_loop loop;
  hub h;
};

struct town : hubs_together<node> {
  explicit town(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) add(n > 1);
    run();
  }
  void add(bool joined = true) {
    nodes.push_back(
        std::make_unique<node>(store, joined ? &broker : nullptr, std::string(1, char('a' + nodes.size()))));
  }
  all_nodes& from(std::size_t i) { return nodes[i]->h.everywhere(); }
  /// Publishes, and says what came of it.
  std::string publish(std::size_t i, const std::string& json) {
    auto out = std::make_shared<std::string>("no answer");
    said.push_back(out);
    if (auto ec = (*this)[i].publish("chat", payload::json(json), {},
                                     [out](std::error_code e, position) { *out = e ? e.message() : "stored"; }))
      *out = ec.message();
    run();
    return *out;
  }
  stage::open_storage store;
  cable broker;
  std::vector<std::shared_ptr<std::string>> said;
  ~town() { nodes.clear(); }  // before their storage and their broker
};

struct client final : test_session {
  client(hub& h, std::string user, std::string device = {})
      : test_session(h, objects, of(std::move(user)), std::move(device)) {}
  void follow(const std::string& channel = "chat") {
    home().subscriptions.add(*this, channel, start::latest(), true, [this](result<follow_start> r) {
      began = r ? "begun" : r.error().text();
      home().turn.request_wake(*this);
    });
  }
  bool has(std::string_view text) const { return got.find(text) != got.npos; }
  void unreadable(detail::subscription&, std::error_code) override { got += "[unreadable]"; }
  std::error_code notice(std::string_view name, std::string_view json) override {
    notices.append(name).append(json).append(" ");
    return {};
  }
  void end(errc, std::uint16_t code, std::string_view reason) override {
    if (std::exchange(gone, true)) return;
    ended = std::to_string(code) + ' ' + std::string(reason);
    leave();
  }
  bool ending() const noexcept override { return gone; }

  bool gone = false;
  std::string notices, ended, began = "no answer";
};

std::string told(const std::error_code& ec) { return ec ? std::string(code_name(wire_code(ec))) : "done"; }

}  // namespace

TEST_CASE("a user's sessions are closed, revoked and sent to at every hub, and nobody else's are") {
  const std::size_t hubs = GENERATE(1u, 3u);
  town t(hubs);
  std::vector<std::unique_ptr<client>> adas, bobs;
  for (std::size_t i = 0; i < hubs; ++i) {
    adas.push_back(std::make_unique<client>(t[i], "ada"));
    bobs.push_back(std::make_unique<client>(t[i], "bob"));
    adas[i]->follow();
    bobs[i]->follow();
  }
  t.run();
  std::string answers;
  auto note = [&](std::error_code ec) { answers += told(ec) + ' '; };
  CHECK_FALSE(t.from(0).send("ada", "tell", "{\"a\":1}", note));
  t.run();
  for (auto& a : adas) CHECK(a->notices == "tell{\"a\":1} ");
  CHECK_FALSE(t.from(hubs - 1).revoke("ada", "chat", note));
  t.run();
  for (auto& a : adas) {
    CHECK(a->channels().empty());
    CHECK_FALSE(a->may_follow("chat"));
    CHECK(a->may_follow("news"));
  }
  CHECK_FALSE(t.from(0).close("ada", 4403, "banned", note));
  t.run();
  for (auto& a : adas) CHECK(a->ended == "4403 banned");
  for (auto& b : bobs) {
    CHECK(b->ended.empty());
    CHECK(b->notices.empty());
    CHECK(b->channels() == std::vector<std::string>{"chat"});
  }
  CHECK(answers == "done done done ");
}

TEST_CASE("what cannot be a command is refused, and nothing is done") {
  town t(2);
  client ada(t[1], "ada");
  auto& all = t.from(0);
  CHECK(all.close("") == errc::bad_request);
  CHECK(all.close("a\nb") == errc::bad_request);
  CHECK(all.close("ada", 999) == errc::bad_request);
  CHECK(all.close("ada", 5000) == errc::bad_request);
  CHECK(all.close("ada", 1000, std::string(124, 'x')) == errc::bad_request);
  CHECK(all.close("ada", 1000, "\xFF") == errc::bad_request);
  CHECK(all.revoke("ada", "") == errc::bad_request);
  CHECK(all.send("ada", "bye", "{}") == errc::bad_request);
  CHECK(all.send("ada", "x", "{") == errc::bad_request);
  CHECK(all.find("", std::chrono::seconds(1), [](find_result) {}) == errc::bad_request);
  t.run();
  CHECK(ada.ended.empty());
  CHECK_FALSE(all.close("ada", 1000, std::string(123, 'x')));
  t.run();
  CHECK(ada.ended == "1000 " + std::string(123, 'x'));
  options o;
  o.node = std::string(65, 'x');
  testing::manual_loop loop;
  CHECK_THROWS_AS(hub(loop, detail::erase_storage(t.store), o), std::invalid_argument);
  o.node.pop_back();
  CHECK_NOTHROW(hub(loop, detail::erase_storage(t.store), o));
}

TEST_CASE("a command that the storage does not take is not done, and says so") {
  town t(2);
  client ada(t[0], "ada");
  t.store.failing = errc::overloaded;
  std::string answer;
  CHECK_FALSE(t.from(0).close("ada", 1000, {}, [&](std::error_code ec) { answer = told(ec); }));
  t.run();
  CHECK(answer == "overloaded");
  CHECK(ada.ended.empty());
}

TEST_CASE("a command is carried out once, however often and in whatever order it is heard") {
  town t(2);
  client ada(t[1], "ada");
  t.broker.holding = true;
  for (const char* n : {"1", "2", "3"}) CHECK_FALSE(t.from(0).send("ada", "n", n));
  t.run();
  CHECK(ada.notices.empty());
  t.broker.holding = false;
  auto& late = t.broker.late;
  REQUIRE(late.size() == 3);
  const std::size_t order[] = {1, 0, 0, 2, 1, 2};
  for (std::size_t i : order) {
    broker_event e{late[i].channel, late[i].epoch, &late[i].content, nullptr};
    (*t.broker.ends[1])(e);
    t.run();
  }
  CHECK(ada.notices == "n2 n1 n3 ");
  // And when all of it may have been missed.
  t.broker.say(1, commands);
  t.run();
  CHECK(ada.notices == "n2 n1 n3 ");
}

TEST_CASE("a command that was dropped on its way is read when the next one is heard") {
  town t(2);
  client ada(t[1], "ada");
  CHECK_FALSE(t.from(0).send("ada", "n", "1"));
  t.run();
  t.broker.holding = true;
  CHECK_FALSE(t.from(0).send("ada", "n", "2"));
  t.run();
  t.broker.holding = false;
  CHECK_FALSE(t.from(0).send("ada", "n", "3"));
  t.run();
  CHECK(ada.notices == "n1 n3 n2 ");
}

TEST_CASE("a hub that was cut off shows whoever was banned meanwhile nothing that came behind the ban") {
  town t(2);
  client ada(t[1], "ada"), bob(t[1], "bob");
  ada.follow();
  bob.follow();
  t.run();
  CHECK(t.publish(0, "1") == "stored");
  REQUIRE(ada.has("\"data\":1"));
  t.broker.cut_off(1);
  t.run();
  CHECK_FALSE(t.from(0).close("ada", 4403, "banned"));
  CHECK(t.publish(0, "2") == "stored");

  t.store.holding = true;
  t.broker.cut.clear();
  // The worst order: what was missed of the room is heard of first, and more is said before the commands are read.
  t.broker.say(1, "chat");
  t.run();
  t.broker.say(1, commands);
  t.run();
  t.broker.in_process_broker::publish(t.broker.ids[0], "chat", "chat-1", message{3, 1, {}, {}, payload::json("3")});
  t.run();
  CHECK(t.publish(1, "4") == "no answer");
  client late(t[1], "ada");
  late.follow();
  while (t.store.asked() && ada.ended.empty()) {
    CHECK_FALSE(ada.has("\"data\":2"));
    CHECK_FALSE(bob.has("\"data\":2"));
    CHECK_FALSE(late.has("\"data\""));
    t.store.answer(1);
    t.run();
  }
  CHECK(ada.ended == "4403 banned");
  while (t.store.asked()) {
    t.store.answer();
    t.run();
  }
  t.run();
  CHECK_FALSE(ada.has("\"data\":2"));
  CHECK(late.ended == "4403 banned");
  CHECK_FALSE(late.has("\"data\""));
  CHECK(bob.has("\"data\":2"));
  CHECK(*t.said.back() == "stored");
  CHECK(bob.has("\"data\":4"));
}

TEST_CASE("what others say while a hub is behind is passed over, and read when it is not") {
  town t(2);
  client bob(t[1], "bob");
  bob.follow();
  t.run();
  t.broker.say(1, commands, true);  // of the room it hears all the same
  t.run();
  CHECK(t.publish(0, "1") == "stored");
  CHECK_FALSE(t[0].publish("chat", payload::json("2"), {.ephemeral = true}));
  t.run();
  CHECK(bob.got.empty());
  t.broker.say(1, commands);
  t.run();
  CHECK(bob.has("\"data\":1"));
  CHECK_FALSE(bob.has("\"data\":2"));
  CHECK(bob.has("missed"));
}

TEST_CASE("while a hub is behind, publishes, reads and commands wait for two seconds and are overloaded then") {
  town t(2);
  client ada(t[1], "ada");
  t.broker.cut_off(1);
  t.run();
  CHECK(t.publish(1, "1") == "no answer");
  ada.follow();
  std::string command, history;
  CHECK_FALSE(t.from(1).send("bob", "n", "1", [&](std::error_code ec) { command = told(ec); }));
  t[1].history("chat", {}, 1, [&](history_result r) { history = told(r.error); });
  t.advance(1900);
  CHECK(*t.said.back() == "no answer");
  CHECK(ada.began == "no answer");
  CHECK((command + history).empty());
  t.advance(300);
  CHECK(*t.said.back() == make_error_code(errc::overloaded).message());
  CHECK(ada.began != "no answer");
  CHECK(ada.began != "begun");
  CHECK(command == "overloaded");
  CHECK(history == "overloaded");
  CHECK(t[1].pending_count() == 0);
  // The other one is not cut off, and this one neither when it has read.
  CHECK(t.publish(0, "1") == "stored");
  t.broker.cut.clear();
  t.broker.say(1, commands);
  t.run();
  CHECK(t.publish(1, "2") == "stored");
}

TEST_CASE("what waits for a hub that is behind is bounded, and ends with the hub") {
  town t(2);
  t.broker.cut_off(1);
  t.run();
  for (int i = 0; i < 8; ++i) CHECK(t.publish(1, "1") == "no answer");
  CHECK(t.publish(1, "1") == make_error_code(errc::overloaded).message());
  t[1].stop();
  for (int i = 0; i < 8; ++i) CHECK(*t.said[static_cast<std::size_t>(i)] == operation_aborted().message());
  CHECK(t[1].pending_count() == 0);
  CHECK(t.from(1).close("ada") == operation_aborted());
  CHECK(t.from(1).find("ada", std::chrono::seconds(1), [](find_result) {}) == operation_aborted());
}

TEST_CASE("a hub that cannot read the commands tries again, and serves nothing before") {
  town t(2);
  client ada(t[1], "ada"), bob(t[1], "bob");
  t.broker.cut_off(1);
  t.run();
  CHECK_FALSE(t.from(0).close("ada"));
  t.run();
  t.store.failing = errc::overloaded;
  t.broker.cut.clear();
  t.broker.say(1, commands);
  t.advance(1000);
  CHECK(ada.ended.empty());
  CHECK(t.publish(1, "1") == "no answer");
  t.store.failing = {};
  t.advance(400);
  CHECK(ada.ended == "1000 ");
  CHECK(*t.said.back() == "stored");
  CHECK(bob.ended.empty());
}

TEST_CASE("a hub whose place in the commands is gone closes everybody, and they may come back") {
  town t(2);
  client ada(t[1], "ada"), bob(t[1], "bob");
  CHECK_FALSE(t.from(0).send("bob", "n", "0"));
  t.run();
  t.broker.cut_off(1);
  for (const char* n : {"1", "2", "3"}) CHECK_FALSE(t.from(0).send("bob", "n", n));
  t.run();
  SECTION("one is left behind its place: nothing is gone") {
    t.broker.cut.clear();
    t.broker.say(1, commands);
    t.run();
    CHECK(bob.notices == "n0 n1 n2 n3 ");
    CHECK(ada.ended.empty());
  }
  SECTION("the next one is gone") {
    t.store.trim(commands, 2);
    t.broker.cut.clear();
    t.broker.say(1, commands);
    t.run();
    CHECK(ada.ended == "1013 commands were missed");
    CHECK(bob.ended == "1013 commands were missed");
    client again(t[1], "bob");
    CHECK_FALSE(t.from(0).send("bob", "n", "4"));
    t.run();
    CHECK(again.notices == "n4 ");
  }
}

TEST_CASE("in a new life of the log a hub carries out what it has not, and nothing twice") {
  town t(2);
  client ada(t[1], "ada");
  CHECK_FALSE(t.from(0).send("ada", "n", "1"));
  t.run();
  t.store.restart(commands);
  t.broker.holding = true;
  CHECK_FALSE(t.from(0).send("ada", "n", "2"));
  t.run();
  t.broker.holding = false;
  t.broker.say(1, commands);
  t.run();
  CHECK(ada.notices == "n1 n2 ");
}

TEST_CASE("a hub that begins does not carry out what was said before") {
  town t(2);
  CHECK_FALSE(t.from(0).close("ada"));
  t.run();
  t.advance(detail::clocks_differ_ms + 100);
  t.add();
  t.nodes.back()->loop.advance(detail::clocks_differ_ms + 100);
  auto late = std::make_unique<node>(t.store, &t.broker, "late");  // whose clock begins with the others'
  late->loop.set_unix_time(t.nodes[0]->loop.unix_time());
  t.run();
  client ada(t[2], "ada");
  t.broker.say(2, commands);
  t.run();
  // It began at the same moment by its clock, so it cannot know.
  CHECK(ada.ended == "1000 ");
  client bob(late->h, "bob");
  CHECK(bob.ended.empty());
}

TEST_CASE("find names every session of a user, and the nodes that do not answer") {
  town t(3);
  client one(t[0], "ada", "phone"), two(t[1], "ada"), three(t[2], "ada"), bob(t[1], "bob");
  std::vector<find_result> got;
  auto find = [&](std::int64_t ms = 1000) {
    CHECK_FALSE(
        t.from(0).find("ada", std::chrono::milliseconds(ms), [&](find_result r) { got.push_back(std::move(r)); }));
    t.run();
  };
  find();
  REQUIRE(got.size() == 1);
  CHECK_FALSE(got[0].error);
  CHECK(got[0].silent.empty());
  REQUIRE(got[0].sessions.size() == 3);
  CHECK(got[0].sessions[0].node == "a");
  CHECK(got[0].sessions[0].device == "phone");
  CHECK(got[0].sessions[0].transport == "test");
  CHECK(got[0].sessions[0].id == one.id());
  std::set<std::string> at;
  for (const auto& s : got[0].sessions) at.insert(s.node + s.id);
  CHECK(at == std::set<std::string>{"a" + one.id(), "b" + two.id(), "c" + three.id()});

  t.broker.cut.insert(2);
  find();
  CHECK(got.size() == 1);
  t.advance(900);
  CHECK(got.size() == 1);
  t.advance(200);
  REQUIRE(got.size() == 2);
  CHECK(got[1].sessions.size() == 2);
  CHECK(got[1].silent == std::vector<std::string>{"c"});
  // One that says nothing for a minute is forgotten when it has been named once more.
  t.advance(60'000);
  find(100);
  t.advance(300);
  REQUIRE(got.size() == 3);
  CHECK(got[2].silent == std::vector<std::string>{"c"});
  find(100);
  REQUIRE(got.size() == 4);
  CHECK(got[3].silent.empty());
  // It greets the others when it is back.
  t.broker.cut.clear();
  t.broker.say(2, commands);
  t.run();
  find();
  REQUIRE(got.size() == 5);
  CHECK(got[4].sessions.size() == 3);
  // And says when it goes.
  t[2].stop();
  t.run();
  find();
  REQUIRE(got.size() == 6);
  CHECK(got[5].silent.empty());
  CHECK(got[5].sessions.size() == 2);
  CHECK(t.from(0).others() == std::vector<std::string>{"b"});
}

TEST_CASE("a question that is lost is asked once more, and an answer may have many pieces") {
  town t(2);
  std::vector<std::unique_ptr<client>> adas;
  const std::size_t n = GENERATE(0u, 1u, 300u, unsigned(max_found_sessions), unsigned(max_found_sessions) + 1);
  for (std::size_t i = 0; i < n; ++i) adas.push_back(std::make_unique<client>(t[1], "ada", "d" + std::to_string(i)));
  find_result got;
  int answers = 0;
  const int lost = GENERATE(0, 1, 2);
  t.broker.lose = lost;
  CHECK_FALSE(t.from(0).find("ada", std::chrono::seconds(1), [&](find_result r) {
    got = std::move(r);
    ++answers;
  }));
  t.run();
  if (lost < 2) {
    t.advance(lost ? 600 : 0);
    REQUIRE(answers == 1);
    CHECK(got.silent.empty());
    CHECK(got.sessions.size() == std::min(n, max_found_sessions));
  }
  t.advance(1200);
  CHECK(answers == 1);
  if (lost == 2) CHECK(got.silent == std::vector<std::string>{"b"});
}

TEST_CASE("what other hubs say may be anything") {
  town t(2);
  client ada(t[1], "ada");
  std::string bytes =
      detail::live_writer(detail::live_kind::command).number(1).number(7).text("ada").number(1000).text("x").bytes();
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    message m;
    m.offset = 1;
    m.at = testing::manual_loop::unix_start;
    m.data = payload::binary(bytes.substr(0, cut));
    broker_event e{commands, "x", &m, nullptr};
    (*t.broker.ends[1])(e);
    const std::string part = bytes.substr(0, cut);
    live_event l{{}, 0, part};
    broker_event f{commands, {}, nullptr, &l};
    (*t.broker.ends[1])(f);
    t.run();
    CHECK(ada.ended.empty());
  }
}
