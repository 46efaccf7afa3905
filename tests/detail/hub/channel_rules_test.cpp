// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/channel_rules.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using namespace std::chrono_literals;

namespace {

options with(std::vector<channel_rule> rules) {
  options o;
  o.max_payload = 100;
  o.channels = std::move(rules);
  return o;
}

/// The rules, asked as the hub does: by a hash of the name, at some time.
struct asked {
  explicit asked(std::vector<channel_rule> rules) : of(with(std::move(rules))) {}
  const detail::channel_settings& settings(std::string_view channel) {
    auto& known = of.of(channel, std::hash<std::string_view>()(channel), now);
    CHECK(&known == &of.of(channel));
    return known;
  }
  std::int64_t publish(std::string_view channel) {
    return of.count_publish(channel, std::hash<std::string_view>()(channel), now);
  }
  std::int64_t now = 1000;
  detail::channel_rules of;
};

std::string fault(channel_rule r) {
  try {
    detail::channel_rules rules(with({{.pattern = "fine"}, std::move(r)}));
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("without rules the general options hold, and nothing is kept of any channel") {
  asked a({});
  CHECK_FALSE(a.of.any());
  CHECK(a.settings("chat").max_payload == 100);
  for (int i = 0; i < 1000; ++i) REQUIRE(a.publish("chat") == 0);
  CHECK(a.of.size() == 0);
}

TEST_CASE("a pattern is a whole name, or a prefix and a star, and the prefix itself fits") {
  asked a({{.pattern = "news", .max_payload = 1},
           {.pattern = "chat/*", .max_payload = 2},
           {.pattern = "@*", .max_payload = 3}});
  const std::pair<const char*, std::size_t> cases[] = {{"news", 1},   {"new", 100},    {"news/", 100}, {"chat/", 2},
                                                       {"chat/a", 2}, {"chat/a/b", 2}, {"chat", 100},  {"Chat/a", 100},
                                                       {"@", 3},      {"@ada", 3},     {"a@ada", 100}, {"*", 100}};
  for (auto& [channel, most] : cases) {
    INFO(channel);
    CHECK(a.settings(channel).max_payload == most);
  }
}

TEST_CASE("the first rule that fits holds alone: what it leaves open is the general option's, not the next rule's") {
  asked a({{.pattern = "a/b", .publishes_per_second = 1}, {.pattern = "a/*", .max_payload = 7}, {.pattern = "*"}});
  CHECK(a.settings("a/b").max_payload == 100);
  CHECK(a.settings("a/c").max_payload == 7);
  CHECK(a.settings("b").max_payload == 100);
  CHECK(a.publish("a/b") == 0);
  CHECK(a.publish("a/b") == 1000);
  for (int i = 0; i < 100; ++i) CHECK(a.publish("a/c") == 0);
}

TEST_CASE("a payload may be larger by rule than in general, which is then what bounds bytes of unknown use") {
  auto o = with({{.pattern = "a", .max_payload = 1}, {.pattern = "b", .max_payload = 101}, {.pattern = "c"}});
  CHECK(largest_payload(o) == 101);
  CHECK(largest_payload(with({{.pattern = "a", .max_payload = 99}})) == 100);
}

TEST_CASE("what is kept of a log is handed on as the rule says it") {
  asked a({{.pattern = "a", .keep = {.messages = 5}}, {.pattern = "b", .keep = {.bytes = 7, .age = 3s}}});
  CHECK(a.settings("a").keep == retention{.messages = 5});
  CHECK(a.settings("b").keep == retention{.bytes = 7, .age = 3s});
  CHECK_FALSE(a.settings("c").keep.any());
}

TEST_CASE("each channel counts its own publishes, and has room again in time") {
  asked a({{.pattern = "chat/*", .publishes_per_second = 2}});
  for (const char* channel : {"chat/a", "chat/b"}) {
    CHECK(a.publish(channel) == 0);
    CHECK(a.publish(channel) == 0);
    CHECK(a.publish(channel) == 500);
  }
  a.now += 499;
  CHECK(a.publish("chat/a") == 1);
  a.now += 1;
  CHECK(a.publish("chat/a") == 0);
  CHECK(a.publish("chat/a") == 500);
}

TEST_CASE("a rule that makes no sense is said by its pattern and its fault") {
  CHECK(fault({}) ==
        "hailwire: options::channels has a rule for \"\": a pattern is a channel's name, or a prefix and *");
  CHECK(fault({.pattern = "a*b"}).ends_with("a * stands at a pattern's end alone"));
  CHECK(fault({.pattern = "a**"}).ends_with("a * stands at a pattern's end alone"));
  CHECK(fault({.pattern = "*a"}).ends_with("a * stands at a pattern's end alone"));
  CHECK(fault({.pattern = "a\nb"}).ends_with("no channel has a name like that"));
  CHECK(fault({.pattern = std::string(256, 'a')}).ends_with("no channel has a name like that"));
  CHECK(fault({.pattern = "\xC3*"}).ends_with("no channel has a name like that"));
  CHECK(fault({.pattern = "a", .max_payload = 0}).ends_with("max_payload is 1 at least"));
  CHECK(fault({.pattern = "a", .keep = {.age = -1s}}).ends_with("an age is not negative"));
  CHECK(fault({.pattern = "a", .at_most_every = -1ms}).ends_with("at_most_every is between nothing and a day"));
  CHECK(fault({.pattern = "a", .at_most_every = 24h}) == "none");
  CHECK(fault({.pattern = "a", .at_most_every = 24h + 1ms}).ends_with("at_most_every is between nothing and a day"));
  CHECK(fault({.pattern = "*"}) == "none");
  CHECK(fault({.pattern = std::string(255, 'a'), .keep = {.age = 0s}, .max_payload = 1, .publishes_per_second = 0}) ==
        "none");
}

TEST_CASE("channels of which nothing is counted are forgotten when many are known, and those that are over are not") {
  asked a({{.pattern = "limited/*", .publishes_per_second = 1}, {.pattern = "*"}});
  CHECK(a.publish("limited/a") == 0);
  for (int i = 0; i < 1'023; ++i) a.publish(std::to_string(i));
  CHECK(a.of.size() == 1024);
  a.publish("one more");
  CHECK(a.of.size() == 2);
  CHECK(a.publish("limited/a") == 1000);
  a.now += 1000;
  for (int i = 0; i < 1'023; ++i) a.publish(std::to_string(i));
  CHECK(a.of.size() == 1);
  CHECK(a.publish("limited/a") == 0);
}

TEST_CASE("nothing is kept of what cannot be a channel") {
  asked a({{.pattern = "*", .max_payload = 9, .publishes_per_second = 1}});
  const std::string longest(255, 'a'), longer(256, 'a');
  CHECK(a.of.of(longest, 1, 0).max_payload == 9);
  CHECK(a.of.size() == 1);
  CHECK(a.of.of(longer, 2, 0).max_payload == 100);
  CHECK(a.of.count_publish(longer, 2, 0) == 0);
  CHECK(a.of.size() == 1);
}
