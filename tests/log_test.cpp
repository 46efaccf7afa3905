// SPDX-License-Identifier: BSL-1.0
#include "hailwire/log.hpp"

#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "catch.hpp"

using namespace hailwire;

namespace {

struct kept {
  detail::logger log;
  std::vector<std::string> lines;

  explicit kept(log_level least = log_level::info) {
    log.set([this](const log_record& r) { lines.push_back(std::string(r.event) + ": " + std::string(r.text)); }, least);
  }
};

}  // namespace

TEST_CASE("a record below the level that was asked for is not made") {
  kept k(log_level::warning);
  CHECK_FALSE(k.log.hears(log_level::debug));
  CHECK_FALSE(k.log.hears(log_level::info));
  CHECK(k.log.hears(log_level::warning));
  CHECK(k.log.hears(log_level::error));
  k.log({log_level::info, "quiet"});
  k.log({log_level::warning, "loud", {}, {}, {}, {}, "said"});
  CHECK(k.lines == std::vector<std::string>{"loud: said"});
  CHECK_FALSE(detail::logger().hears(log_level::error));
  detail::logger()({log_level::error, "nobody hears"});
}

TEST_CASE("a text that somebody else has written is one line") {
  kept k;
  k.log({log_level::info, "e"}, "a\nb\r\tc\x1B[31m\x7F\xC3\xA9");
  CHECK(k.lines == std::vector<std::string>{"e: a b  c [31m \xC3\xA9"});
}

TEST_CASE("what host code throws is logged by its text") {
  kept k;
  CHECK(k.log.guarded("a hook", [] {}));
  CHECK_FALSE(k.log.guarded("a hook", [] { throw std::runtime_error("first\nsecond"); }));
  CHECK_FALSE(k.log.guarded("a hook", [] { throw 7; }));
  CHECK(k.lines == std::vector<std::string>{"hook_threw: a hook threw: first second",
                                            "hook_threw: a hook threw: not a std::exception"});
}

TEST_CASE("a log that throws, or gives rise to a record itself, does no harm") {
  detail::logger log;
  int told = 0;
  log.set(
      [&](const log_record& r) {
        ++told;
        log(r);
        CHECK_FALSE(log.hears(log_level::error));
        throw std::runtime_error("no disk");
      },
      log_level::debug);
  log({log_level::error, "one"});
  log({log_level::error, "two"});
  CHECK(told == 2);
}

TEST_CASE("of a repeated record one passes every ten seconds and tells how many did not") {
  kept k;
  detail::log_rate often, seldom;
  auto at = [&](std::int64_t now) { k.log(often, now, {log_level::info, "e"}, "full"); };
  at(5);
  at(5);
  at(10'004);
  k.log(seldom, 6, {log_level::info, "other"}, "once");
  at(10'005);
  at(10'006);
  at(20'005);
  at(30'005);
  CHECK(k.lines == std::vector<std::string>{"e: full", "other: once", "e: full (and 2 more since the record before)",
                                            "e: full (and 1 more since the record before)", "e: full"});
}

TEST_CASE("one that nobody hears does not count as one that passed") {
  kept k(log_level::error);
  detail::log_rate rate;
  k.log(rate, 1, {log_level::info, "e"}, "unheard");
  k.log(rate, 2, {log_level::error, "e"}, "heard");
  CHECK(k.lines == std::vector<std::string>{"e: heard"});
}
