// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/timer_wheel.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "catch.hpp"

using hailwire::detail::ended_timers;
using hailwire::detail::timer;
using hailwire::detail::timer_wheel;

namespace {

using times = std::vector<std::int64_t>;

/// Notes when it expired, and does as told.
struct noting final : timer {
  times at;
  std::function<void(std::int64_t)> then;
  void expire(std::int64_t now) override {
    CHECK_FALSE(armed());
    at.push_back(now);
    if (then) then(now);
  }
};

/// Advances as a loop does: to each time that `next` names, up to `until`.
std::size_t follow(timer_wheel& w, std::int64_t until) {
  std::size_t looks = 0;
  for (auto next = w.next(); next && *next <= until; next = w.next()) w.advance(*next), ++looks;
  w.advance(until);
  return looks;
}

}  // namespace

TEST_CASE("a timer expires once, never early, and at most one step of the wheel late") {
  for (std::int64_t start : {std::int64_t{0}, std::int64_t{1}, std::int64_t{99}, std::int64_t{1'000'000'007}}) {
    for (std::int64_t wait : {1, 50, 99, 100, 101, 999, 25'000, 51'100, 51'200, 51'201, 75'000, 600'000}) {
      timer_wheel w(start);
      noting t;
      w.arm(t, start + wait);
      CHECK(t.armed());
      follow(w, start + 2 * wait + 1000);
      INFO("from " << start << " in " << wait);
      REQUIRE(t.at.size() == 1);
      CHECK(t.at[0] >= start + wait);
      CHECK(t.at[0] < start + wait + timer_wheel::resolution);
      CHECK_FALSE(t.armed());
      CHECK_FALSE(w.next());
    }
  }
}

TEST_CASE("a timer whose time is over already expires with the next step") {
  timer_wheel w(5000);
  noting t;
  w.arm(t, 0);
  CHECK(w.next() == 5100);
  w.advance(5099);
  CHECK(t.at.empty());
  w.advance(5100);
  CHECK(t.at == times{5100});
}

TEST_CASE("moving to later costs nothing until the old time comes, moving to earlier holds at once") {
  timer_wheel w(0);
  noting t;
  w.arm(t, 1000);
  w.arm(t, 3000);
  CHECK(w.next() == 1000);  // it is still there
  w.advance(1000);
  CHECK(t.at.empty());
  CHECK(t.armed());
  CHECK(w.next() == 3000);
  w.arm(t, 1500);
  CHECK(w.next() == 1500);
  w.advance(1500);
  CHECK(t.at == times{1500});
  w.advance(4000);
  CHECK(t.at.size() == 1);
}

TEST_CASE("a deadline beyond the wheel's span is looked at once a round") {
  timer_wheel w(0);
  noting t;
  const std::int64_t span = timer_wheel::resolution * static_cast<std::int64_t>(timer_wheel::slots);
  w.arm(t, 10 * span + 50);
  CHECK(follow(w, 11 * span) == 11);
  CHECK(t.at == times{10 * span + 100});
}

TEST_CASE("a disarmed timer does not expire, nor one that is destroyed") {
  timer_wheel w(0);
  noting t;
  w.arm(t, 500);
  w.disarm(t);
  CHECK_FALSE(t.armed());
  w.disarm(t);  // twice is once
  {
    noting shorter;
    w.arm(shorter, 500);
    CHECK(w.next() == 500);
  }
  CHECK_FALSE(w.next());
  w.advance(1000);
  CHECK(t.at.empty());
}

TEST_CASE("a timer may outlive its wheel") {
  noting t;
  {
    timer_wheel w(0);
    w.arm(t, 500);
  }
  CHECK_FALSE(t.armed());
}

TEST_CASE("while timers expire they may arm, move, disarm and destroy each other, and themselves") {
  timer_wheel w(0);
  noting again, killer, mover, moved, late;
  auto victim = std::make_unique<noting>();
  again.then = [&](std::int64_t now) {
    if (again.at.size() < 3) w.arm(again, now + 200);
  };
  killer.then = [&](std::int64_t) {
    victim.reset();
    w.disarm(late);
  };
  mover.then = [&](std::int64_t now) { w.arm(moved, now + 1000); };
  // All in one slot, so that they are taken from the same list.
  for (timer* t : {static_cast<timer*>(&again), static_cast<timer*>(&killer), static_cast<timer*>(&mover),
                   static_cast<timer*>(victim.get()), static_cast<timer*>(&moved), static_cast<timer*>(&late)})
    w.arm(*t, 100);
  follow(w, 5000);
  CHECK(again.at == times{100, 300, 500});
  CHECK(killer.at == times{100});
  CHECK_FALSE(victim);
  CHECK(late.at.empty());
  CHECK(moved.at == times{1100});
}

TEST_CASE("time that jumps expires all that is due, each once, and leaves the rest where it belongs") {
  for (std::int64_t jump : {std::int64_t{100}, std::int64_t{51'200}, std::int64_t{51'300}, std::int64_t{10'000'000}}) {
    timer_wheel w(0);
    std::vector<noting> many(700);
    for (std::size_t i = 0; i < many.size(); ++i) w.arm(many[i], static_cast<std::int64_t>(i) * 150);
    w.advance(jump);
    INFO("jump of " << jump);
    for (std::size_t i = 0; i < many.size(); ++i)
      CHECK(many[i].at.size() == (static_cast<std::int64_t>(i) * 150 <= jump ? 1u : 0u));
    follow(w, jump + 200'000);
    for (auto& t : many) CHECK(t.at.size() == 1);
  }
}

TEST_CASE("whatever is armed, moved and disarmed, each timer expires at its last deadline and at no other") {
  std::mt19937 random(20260101);
  auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n)); };
  std::int64_t now = 12'345;
  timer_wheel w(now);
  std::vector<noting> many(40);
  std::vector<std::int64_t> due(many.size(), -1);
  for (int step = 0; step < 20'000; ++step) {
    auto i = static_cast<std::size_t>(below(static_cast<std::int64_t>(many.size())));
    switch (below(4)) {
      case 0:
      case 1:
        w.arm(many[i], due[i] = now + below(below(2) ? 2000 : 120'000));
        break;
      case 2:
        w.disarm(many[i]), due[i] = -1;
        break;
      default:
        now += below(700);
        w.advance(now);
        for (std::size_t k = 0; k < many.size(); ++k) {
          if (!many[k].at.empty()) {
            CHECK(many[k].at == times{now});
            CHECK((due[k] >= 0 && due[k] <= now));
            many[k].at.clear();
            due[k] = -1;
          } else if (due[k] >= 0) {
            CHECK(due[k] + timer_wheel::resolution > now);
            CHECK(many[k].armed());
          }
        }
    }
  }
}

TEST_CASE("ended timers stand in order until they are taken, and one that is destroyed leaves") {
  noting a, b, after;
  {
    ended_timers ended;
    CHECK(ended.take() == nullptr);
    timer_wheel w(0);
    w.arm(a, 500);
    ended.add(a);
    CHECK_FALSE(w.next());  // it has left its wheel
    {
      noting gone;
      ended.add(gone);
    }
    ended.add(b);
    CHECK(ended.take() == &a);
    ended.add(after);
    CHECK(ended.take() == &b);
    CHECK(ended.take() == &after);
    CHECK(ended.take() == nullptr);
    ended.add(a);
  }
  CHECK_FALSE(a.armed());
}
