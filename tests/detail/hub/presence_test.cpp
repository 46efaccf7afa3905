// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/presence.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
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

/// Carries between hubs what it does not lose.
struct lossy : in_process_broker {
  std::mt19937 random{1};
  double loses = 0;
  std::set<std::uint64_t> cut;  // hubs of which nothing comes any more
  void tell(std::uint64_t hub, std::string_view channel, const live_event& e) {
    if (cut.contains(hub) || std::uniform_real_distribution<>()(random) < loses) return;
    ++told;
    in_process_broker::tell(hub, channel, e);
  }
  std::uint64_t attach(broker_receiver r) {
    ends.push_back(std::make_shared<broker_receiver>(std::move(r)));
    return in_process_broker::attach([end = ends.back()](const broker_event& e) { (*end)(e); });
  }
  /// A hub is told that nothing is heard of its own names any more, or that it may have missed something.
  void say(std::size_t hub, bool lost, std::string_view channel = detail::commands_channel) {
    broker_event e;
    e.channel = channel;
    e.lost = lost;
    (*ends[hub])(e);
  }
  std::vector<std::shared_ptr<broker_receiver>> ends;
  int told = 0;
};

options with_presence(std::size_t names = 100) {
  options o;
  o.channels = {{.pattern = "c*", .presence = true}};
  o.presence_names = names;
  return o;
}

/// A hub on a loop of its own.
struct node {
  node(lossy* b, const options& o) : h(loop, detail::erase_storage(store), o) {
    if (b) h.join(detail::erase_broker(*b));
  }
  testing::manual_loop loop;
  stage::open_storage store;
  hub h;
};

struct town : hubs_together<node> {
  explicit town(std::size_t n, const options& o = with_presence(), bool settled = true) {
    for (std::size_t i = 0; i < n; ++i) nodes.push_back(std::make_unique<node>(n > 1 ? &broker : nullptr, o));
    if (settled) advance(10'000);  // behind the time in which joins are gathered
  }
  std::string who(std::size_t i, const std::string& channel = "c", bool names = true) {
    std::string out = "no answer";
    (*this)[i].presence(
        channel,
        [&](presence_result r) {
          if (r.error) return void(out = std::string(code_name(wire_code(r.error))));
          out.clear();
          for (const auto& m : r.members) out += m.user + ':' + std::to_string(m.sessions) + m.info + ' ';
          out += std::to_string(r.count) + '+' + std::to_string(r.anonymous) + (r.more ? " more" : "");
        },
        names);
    run();
    return out;
  }
  ~town() { nodes.clear(); }  // before their broker
  lossy broker;
};

struct client final : test_session {
  explicit client(hub& h, grant g = {}, bool poll = false)
      : test_session(h, objects, allowed(std::move(g)), {}, poll) {}
  static grant allowed(grant g) {
    g.follow = channel_set::all();
    return g;
  }
};

std::string join(const std::string& user, const std::string& info = {}) {
  return "{\"join\":{\"channel\":\"c\",\"user\":\"" + user + "\"" + (info.empty() ? "" : ",\"info\":" + info) + "}}\n";
}
std::string leave(const std::string& user) { return "{\"leave\":{\"channel\":\"c\",\"user\":\"" + user + "\"}}\n"; }
std::string count(int n) { return "{\"presence\":{\"channel\":\"c\",\"count\":" + std::to_string(n) + "}}\n"; }
const std::string missed = "{\"missed\":{\"channel\":\"c\"}}\n";

}  // namespace

TEST_CASE("a user's first session joins, and the last leaves when it has been gone for ten seconds") {
  town t(1);
  client watch(t[0], of("watch"));
  watch.follow();
  t.run();
  CHECK(watch.take() == join("watch"));
  client one(t[0], of("ada", "{\"n\":1}")), two(t[0], of("ada"));
  one.follow();
  t.run();
  CHECK(watch.take() == join("ada", "{\"n\":1}"));
  two.follow();
  t.run();
  CHECK(watch.take().empty());
  CHECK(t.who(0) == "ada:2 watch:1 2+0");
  one.leave();
  t.advance(60'000);
  CHECK(watch.take().empty());
  CHECK(t.who(0) == "ada:1 watch:1 2+0");
  two.leave();
  t.advance(9'900);
  CHECK(watch.take().empty());
  CHECK(t.who(0) == "ada:0 watch:1 2+0");
  t.advance(1'200);  // seconds are counted together
  CHECK(watch.take() == leave("ada"));
  CHECK(t.who(0) == "watch:1 1+0");
}

TEST_CASE("who comes back within the grace time has not left") {
  town t(1);
  client watch(t[0], of("watch"));
  watch.follow();
  auto ada = std::make_unique<client>(t[0], of("ada"));
  ada->follow();
  t.run();
  watch.take();
  for (int i = 0; i < 5; ++i) {
    ada->leave();
    t.advance(9'000);
    ada = std::make_unique<client>(t[0], of("ada"));
    ada->follow();
  }
  t.advance(60'000);
  CHECK(watch.take().empty());
}

TEST_CASE(
    "who unsubscribes, is sent off or whose permission ends leaves at once; behind a poll's answer it is thirty "
    "seconds") {
  town t(1);
  client watch(t[0], of("watch"));
  watch.follow();
  client one(t[0], of("ada"));
  one.follow();
  t.run();
  watch.take();
  one.unfollow();
  t.run();
  CHECK(watch.take() == leave("ada"));
  grant g = of("bob");
  g.expires = std::chrono::system_clock::time_point(std::chrono::milliseconds(t.nodes[0]->loop.unix_time() + 500));
  client expired(t[0], g);
  expired.follow();
  t.advance(500);
  expired.leave();
  t.run();
  CHECK(watch.take() == join("bob") + leave("bob"));
  client poll(t[0], of("eve"), true);
  poll.follow();
  t.run();
  poll.leave();
  t.advance(29'900);
  CHECK(watch.take() == join("eve"));
  t.advance(1'200);
  CHECK(watch.take() == leave("eve"));
}

TEST_CASE("sessions without a user are counted, hidden ones are not, and a channel without the rule has nothing") {
  town t(1);
  client watch(t[0], of("watch")), nobody(t[0]), other(t[0]), elsewhere(t[0], of("ada"));
  grant g = of("spy");
  g.hidden = true;
  client hidden(t[0], g);
  for (client* c : {&watch, &nobody, &other, &hidden}) c->follow();
  elsewhere.follow("other");
  t.run();
  CHECK(watch.take() == join("watch"));
  CHECK(t.who(0) == "watch:1 1+2");
  CHECK(t.who(0, "c", false) == "1+2");
  CHECK(t.who(0, "other") == "not_found");
  CHECK(t.who(0, "") == "bad_request");
  CHECK(t.who(0, "c2") == "0+0");
  nobody.leave();
  hidden.leave();
  CHECK(t.who(0) == "watch:1 1+1");
  // What a grant says may change.
  other.leave();
  watch.permit_to(of("watch", "7"));
  CHECK(t.who(0) == "watch:17 1+0");
  t.run();
  g = of("watch");
  g.hidden = true;
  watch.permit_to(g);
  CHECK(t.who(0) == "0+0");
  watch.permit_to(of("watch"));
  t.run();
  CHECK(t.who(0) == "watch:1 1+0");
}

TEST_CASE("above the size of names followers are told how many there are, once a second, and missed on the way back") {
  town t(1, with_presence(3));
  std::vector<std::unique_ptr<client>> all;
  client watch(t[0], of("w"));
  watch.follow();
  auto come = [&](const std::string& user) {
    all.push_back(std::make_unique<client>(t[0], of(user)));
    all.back()->follow();
  };
  come("a"), come("b");
  t.run();
  CHECK(watch.take() == join("w") + join("a") + join("b"));  // three: as many as are named
  come("d");
  t.run();
  CHECK(watch.take().empty());
  t.advance(1'100);
  CHECK(watch.take() == count(4));
  for (int i = 0; i < 50; ++i) come("e" + std::to_string(i));
  t.advance(900);
  const std::string now = watch.take();
  t.advance(1'000);
  CHECK(now + watch.take() == count(54));
  t.advance(10'000);
  CHECK(watch.take().empty());
  while (all.size() > 3) all.back()->unfollow(), all.pop_back();
  t.advance(1'000);
  CHECK(watch.take() == count(4));
  all.back()->unfollow(), all.pop_back();
  t.advance(1'000);
  CHECK(watch.take() == missed);
  come("z");  // one too many again
  all.back()->unfollow();
  t.run();
  all[0]->unfollow();
  t.advance(1'100);
  CHECK(watch.take() == missed);
}

TEST_CASE("joins of the first ten seconds are one missed") {
  town t(1, with_presence(), false);
  client watch(t[0], of("watch")), ada(t[0], of("ada"));
  watch.follow();
  t.advance(5'000);
  ada.follow();
  t.advance(4'900);
  CHECK(watch.take().empty());
  CHECK(t.who(0) == "ada:1 watch:1 2+0");
  t.advance(1'200);
  CHECK(watch.take() == missed);
  client bob(t[0], of("bob"));
  bob.follow();
  t.run();
  CHECK(watch.take() == join("bob"));
}

TEST_CASE("whoever left unsaid in the first ten seconds does not join before missed is told") {
  town t(1, with_presence(), false);
  t.advance(500);  // so that the hub's seconds do not end with the ten
  client watch(t[0], of("watch")), ada(t[0], of("ada"));
  watch.follow();
  ada.follow();
  t.advance(9'300);
  ada.unfollow();
  t.advance(200);
  CHECK(watch.take().empty());
  ada.follow();
  t.run();
  CHECK(watch.take().empty());
  t.advance(1'000);
  CHECK(watch.take() == missed);
  CHECK(t.who(0) == "ada:1 watch:1 2+0");
}

TEST_CASE("on several hubs a user is one member, who leaves when no hub has it") {
  town t(3);
  client watch(t[0], of("watch"));
  watch.follow();
  t.run();  // who is there when a hub begins to follow has not just come
  client first(t[1], of("ada", "{}")), second(t[2], of("ada"));
  first.follow();
  t.run();
  CHECK(watch.take() == join("watch") + join("ada", "{}"));
  second.follow();
  t.run();
  CHECK(watch.take().empty());
  for (std::size_t i = 0; i < 3; ++i) CHECK(t.who(i).starts_with("ada:2"));
  first.leave();
  t.advance(12'000);
  CHECK(watch.take().empty());
  CHECK(t.who(0) == "ada:1 watch:1 2+0");
  second.leave();
  t.advance(12'000);
  CHECK(watch.take() == leave("ada"));
  // Whoever begins to follow has a whole list, and is told of nobody twice.
  client late(t[1], of("late"));
  late.follow();
  t.run();
  CHECK(late.take() == join("late"));
  CHECK(t.who(1) == "late:1 watch:1 2+0");
  // A hub that follows nothing asks the others.
  CHECK(t.who(2) == "late:1 watch:1 2+0");
  late.leave();
  t.advance(12'000);
  CHECK(t.who(2) == "watch:1 1+0");
}

TEST_CASE(
    "a hub that ends takes its members along after the grace time; one that falls silent after three heartbeats") {
  town t(3);
  client watch(t[0], of("watch"));
  watch.follow();
  {
    client ada(t[1], of("ada"));
    ada.follow();
    client bob(t[2], of("bob"));
    bob.follow();
    t.run();
    watch.take();
    // Nothing that this hub does is heard any more, and it hears nothing.
    t.broker.cut.insert(2);
    t.advance(14'000);
    CHECK(watch.take().empty());
    t.advance(8'000);
    CHECK(watch.take() == leave("bob"));
    t.broker.cut.clear();  // it was only the network
    t.advance(6'000);
    CHECK(watch.take() == join("bob"));
    bob.unfollow();
    t.run();
    CHECK(watch.take() == leave("bob"));
    t[1].stop();
  }
  t.advance(9'000);
  CHECK(watch.take().empty());
  t.advance(8'000);
  CHECK(watch.take() == leave("ada"));
}

TEST_CASE("while those who were sent away are to come back, they have not left: here, and where the hub has ended") {
  town t(2);
  client watch(t[0], of("watch"));
  watch.follow();
  {
    client near(t[0], of("near")), far(t[1], of("far"));
    near.follow(), far.follow();
    t.run();
    watch.take();
    t[0].linger(20'000), t[1].linger(20'000);
    near.leave(), far.leave();
    t.advance(1'000);
    t[1].stop();
  }
  t.advance(28'900);
  CHECK(watch.take().empty());
  t.advance(8'000);  // the next heartbeat is behind the grace time
  const std::string gone = watch.take();
  CHECK(gone.find(leave("near")) != gone.npos);
  CHECK(gone.find(leave("far")) != gone.npos);
}

TEST_CASE("while the broker hears nothing nobody is thought gone, nor for three heartbeats afterwards") {
  town t(3);
  client watch(t[0], of("watch"));
  watch.follow();
  client ada(t[1], of("ada")), eve(t[1], of("eve")), bob(t[2], of("bob"));
  for (client* c : {&ada, &eve, &bob}) c->follow();
  t.run();
  watch.take();
  t.broker.loses = 1;
  for (std::size_t i = 0; i < 3; ++i) t.broker.say(i, true);
  eve.unfollow();  // which nobody hears
  t.advance(60'000);
  CHECK(watch.take().empty());
  CHECK(t.who(0).starts_with("ada:1 bob:1"));
  // It hears again; one of the hubs has died meanwhile.
  t.broker.loses = 0;
  t.broker.cut.insert(2);
  for (std::size_t i = 0; i < 2; ++i) {
    t.broker.say(i, false);
    t.broker.say(i, false, std::string_view("\0hubs", 5));
  }
  t.advance(1'000);
  CHECK(watch.take() == leave("eve"));
  t.advance(13'000);
  CHECK(watch.take().empty());
  t.advance(8'000);
  CHECK(watch.take() == leave("bob"));
  CHECK(t.who(0) == "ada:1 watch:1 2+0");
}

TEST_CASE("whatever is lost on the way, all hubs agree within seconds, and who has listened knows it too") {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    INFO("seed " << seed);
    town t(4);
    t.broker.random.seed(seed);
    std::mt19937 random(seed * 7);
    auto pick = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    std::vector<std::unique_ptr<client>> watches;
    for (std::size_t i = 0; i < 4; ++i) {
      watches.push_back(std::make_unique<client>(t[i], of("w" + std::to_string(i))));
      watches.back()->follow();
    }
    t.advance(2'000);
    t.broker.loses = 0.3;
    std::vector<std::pair<std::string, std::unique_ptr<client>>> there;
    for (int step = 0; step < 200; ++step) {
      if (there.size() < 30 && pick(2)) {
        const std::string user = "u" + std::to_string(pick(12));
        there.emplace_back(user, std::make_unique<client>(t[pick(4)], of(user)));
        there.back().second->follow();
      } else if (!there.empty()) {
        const auto at = there.begin() + static_cast<std::ptrdiff_t>(pick(there.size()));
        if (pick(3) == 0) at->second->unfollow();
        there.erase(at);
      }
      t.advance(static_cast<std::int64_t>(pick(600)));
      if (step == 150) t.broker.loses = 0.05;
    }
    t.broker.loses = 0;
    t.advance(40'000);
    std::map<std::string, int> truth;
    for (int i = 0; i < 4; ++i) truth["w" + std::to_string(i)] = 1;
    for (const auto& one : there) ++truth[one.first];
    std::string expected;
    for (const auto& [user, n] : truth) expected += user + ':' + std::to_string(n) + ' ';
    expected += std::to_string(truth.size()) + "+0";
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(t.who(i) == expected);
      // What its notices add up to, beside the watches, who were there before.
      std::set<std::string> seen;
      const std::string all = watches[i]->take();
      CHECK(all.find("issed") == all.npos);
      for (std::size_t at = 0; at < all.size();) {
        const std::size_t end = all.find('\n', at);
        const std::string line = all.substr(at, end - at);
        at = end + 1;
        for (int u = 0; u < 12; ++u) {
          const std::string user = "u" + std::to_string(u);
          if (line + '\n' == join(user)) CHECK(seen.insert(user).second);
          if (line + '\n' == leave(user)) CHECK(seen.erase(user) == 1);
        }
      }
      for (int u = 0; u < 12; ++u)
        CHECK(seen.contains("u" + std::to_string(u)) == truth.contains("u" + std::to_string(u)));
    }
  }
}

TEST_CASE("a host is told of a channel's first follower at a hub and of its last") {
  town t(1);
  std::string told;
  t[0].on_followed([&](std::string_view channel, bool yes) { told += std::string(channel) + (yes ? "+" : "-"); });
  auto ada = std::make_unique<client>(t[0], of("ada"));
  client nobody(t[0]);
  ada->follow();
  nobody.follow("c2");
  t.run();
  CHECK(told == "c+c2+");
  client bob(t[0], of("bob"));
  bob.follow();
  ada->unfollow();
  t.run();
  CHECK(told == "c+c2+");
  bob.leave();
  t.advance(9'900);
  CHECK(told == "c+c2+");
  nobody.unfollow("c2");
  t.advance(1'200);
  CHECK(told == "c+c2+c2-c-");
}

TEST_CASE("nothing is kept of a channel that nobody follows, and a server without the rule says nothing to others") {
  town t(2);
  {
    client ada(t[0], of("ada")), bob(t[1], of("bob"));
    ada.follow();
    bob.follow();
    t.advance(1'000);
  }
  t.advance(60'000);
  CHECK(t.who(0) == "0+0");
  t.advance(5'000);
  CHECK(t[0].channels_with_presence() == 0);
  CHECK(t[1].channels_with_presence() == 0);
  town quiet(2, options());
  client ada(quiet[0], of("ada")), bob(quiet[1], of("bob"));
  ada.follow();
  bob.follow();
  const int greetings = quiet.broker.told;
  quiet.advance(60'000);
  CHECK(quiet.broker.told == greetings);
}

TEST_CASE("a question that waits when the hub stops is aborted") {
  town t(2);
  t.broker.loses = 1;
  std::string out;
  t[0].presence("c", [&](presence_result r) { out = r.error == operation_aborted() ? "aborted" : "answered"; });
  CHECK(out.empty());
  t[0].stop();
  CHECK(out == "aborted");
  t[0].presence("c", [&](presence_result r) { out = r.error == operation_aborted() ? "again" : "answered"; });
  CHECK(out == "again");
}

TEST_CASE("an answer waits a second for hubs that say nothing, and names as many as it may") {
  town t(2);
  t.broker.loses = 1;
  std::string out;
  t[0].presence("c", [&](presence_result r) { out = "count " + std::to_string(r.count); });
  t.advance(900);
  CHECK(out.empty());
  t.advance(1'300);
  CHECK(out == "count 0");
  town one(1);
  std::vector<std::unique_ptr<client>> all;
  for (int i = 0; i <= 1000; ++i) {
    all.push_back(std::make_unique<client>(one[0], of("u" + std::to_string(i))));
    all.back()->follow();
  }
  CHECK(one.who(0).ends_with(" 1001+0 more"));
  all.pop_back();
  one.advance(12'000);
  CHECK(one.who(0).ends_with(" 1000+0"));
}
