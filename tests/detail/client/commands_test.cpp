// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/client/commands.hpp"

#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::detail;

namespace {

using kind = client_command::kind;

struct rows : client_commands {
  using client_commands::client_commands;
  explicit rows(std::size_t window = 1) : client_commands(100, 10'000, window) {}

  void put(kind what, const std::string& name, const std::string& channel = "a") {
    client_command c;
    c.what = what;
    c.channel = channel;
    c.name = what == kind::mark ? "read" : name;
    c.body = name;
    c.end = [this, name](const client_error& e, std::string_view ok) {
      said.push_back(name + " " + (e ? e.text() : std::string(ok)));
    };
    add(std::move(c));
  }
  /// Everything that may be sent now.
  std::string sends(std::int64_t now = 0) {
    std::string out;
    while (auto* c = take(now)) out += c->body;
    return out;
  }
  std::vector<std::string> told() {
    for (auto& e : ended()) e.end(e.error, e.ok);
    ended().clear();
    return std::exchange(said, {});
  }
  std::vector<std::string> said;
};
using lines = std::vector<std::string>;

}  // namespace

TEST_CASE("one publish of a channel is unanswered at a time, or as many as the window has") {
  rows one;
  for (auto name : {"1", "2", "3"}) one.put(kind::publish, name);
  one.put(kind::publish, "b", "other");
  one.put(kind::question, "q");
  CHECK(one.sends() == "1bq");
  CHECK(one.answer(1, {}, "ok"));
  CHECK_FALSE(one.answer(1, {}, "ok"));
  CHECK(one.sends() == "2");
  CHECK(one.told() == lines{"1 ok"});
  rows two(2);
  for (auto name : {"1", "2", "3"}) two.put(kind::publish, name);
  CHECK(two.sends() == "12");
}

TEST_CASE("an end of the connection puts back what may be repeated, in order") {
  rows r(3);
  r.put(kind::publish, "1");
  r.put(kind::once, "o");
  r.put(kind::question, "q");
  r.put(kind::publish, "2");
  r.put(kind::link, "l");
  CHECK(r.sends() == "1oq2l");
  r.put(kind::publish, "3");
  r.put(kind::link, "m");
  r.requeue(0);
  CHECK(r.told() == lines{"o the connection ended before the answer"});
  CHECK(r.sends() == "1q23");
}

TEST_CASE("a keyed publish is repeated for the life of its key, and not a millisecond longer") {
  for (auto [after, repeats] : {std::pair{269'999, true}, {270'000, false}, {270'001, false}}) {
    rows r;
    r.keys_live(280);  // the last ten seconds are left for the way
    r.put(kind::publish, "1");
    CHECK(r.sends(1000) == "1");
    CHECK(r.expires(-1) == -1);
    r.requeue(1000 + 5);
    CHECK(r.expires(999'999'999) == 271'000);
    CHECK(r.sends(1000 + after) == (repeats ? "1" : ""));
    CHECK(r.told().size() == (repeats ? 0 : 1));
  }
  // One that was never sent waits for ever.
  rows r;
  r.put(kind::publish, "1");
  CHECK(r.sends(900'000'000) == "1");
  // A server that keeps no keys: nothing is repeated.
  r.keys_live(0);
  r.requeue(900'000'001);
  CHECK(r.told() == lines{"1 the connection ended before the answer"});
  // Short lives leave a tenth.
  rows s;
  s.keys_live(10);
  s.put(kind::publish, "1");
  s.sends(0);
  s.requeue(0);
  CHECK(s.expires(999'999) == 9'000);
}

TEST_CASE("of marks only the newest of a channel counts") {
  rows r;
  r.put(kind::mark, "1");
  r.put(kind::mark, "2");
  r.put(kind::mark, "b", "other");
  CHECK(r.told() == lines{"1 {}"});
  CHECK(r.sends() == "2b");
  r.put(kind::mark, "3");
  r.requeue(0);
  CHECK(r.told() == lines{"2 {}"});
  CHECK(r.sends() == "b3");
  r.requeue(0);
  r.forget_marks("a");
  CHECK(r.told() == lines{"3 another epoch has begun"});
}

TEST_CASE("what a server has no room for is tried again, what it fails at five times") {
  rows r;
  r.put(kind::publish, "1");
  for (int i = 0; i < 20; ++i) {
    CHECK(r.sends() == "1");
    CHECK(r.again(1, errc::overloaded));
  }
  for (int i = 1; i <= 5; ++i) {
    CHECK(r.sends() == "1");
    CHECK(r.again(1, errc::internal) == (i < 5));
  }
  CHECK_FALSE(r.again(1, errc::forbidden));
  r.put(kind::once, "2");
  r.sends();
  CHECK_FALSE(r.again(2, errc::overloaded));
}

TEST_CASE("behind a connection that ended for what it was sent, one at a time") {
  rows r;
  for (auto channel : {"a", "b", "c"}) r.put(kind::publish, channel, channel);
  CHECK(r.sends() == "abc");
  r.requeue(0, errc::bad_request, "rubbish");
  r.put(kind::publish, "d", "d");
  CHECK(r.sends() == "a");
  r.answer(1, {}, "ok");
  CHECK(r.sends() == "b");
  r.requeue(0, errc::bad_request, "rubbish");  // again: b is given up
  CHECK(r.told() == lines{"a ok", "b rubbish"});
  CHECK(r.sends() == "c");
  r.answer(3, {}, "ok");
  CHECK(r.sends() == "d");
  // The first time is never the last.
  r.requeue(0, errc::bad_request, "rubbish");
  CHECK(r.told() == lines{"c ok"});
  CHECK(r.sends() == "d");
}

TEST_CASE("commands are bounded by number and by bytes") {
  for (auto [count, bytes, fits] : {std::tuple{3, 100, 3}, {2, 100, 2}, {100, 3, 3}, {100, 2, 2}}) {
    rows r(static_cast<std::size_t>(count), static_cast<std::size_t>(bytes), 1);
    for (auto name : {"1", "2", "3"}) r.put(kind::publish, name);
    CHECK(r.size() == static_cast<std::size_t>(fits));
    CHECK(r.told().size() == 3u - static_cast<std::size_t>(fits));
    // Room is had again once one has ended.
    r.sends();
    r.answer(1, {}, "ok");
    r.put(kind::publish, "4");
    CHECK(r.told() == lines{"1 ok"});
  }
}

TEST_CASE("a question whose answer had no room goes first next time, and nothing else does") {
  rows r(3);
  r.put(kind::publish, "1");
  r.put(kind::question, "q");
  CHECK(r.sends() == "1q");
  r.put(kind::publish, "2");
  CHECK_FALSE(r.ask_first(1));
  CHECK(r.ask_first(2));
  CHECK_FALSE(r.ask_first(2));
  CHECK(r.sends() == "q2");
}
