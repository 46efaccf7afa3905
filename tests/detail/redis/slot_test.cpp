// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/redis/slot.hpp"

#include "catch.hpp"

using namespace hailwire::detail;

TEST_CASE("a slot is CRC-16/XMODEM of the key, or of its hash tag, as the cluster's specification has it") {
  CHECK(redis_slot("123456789") == 0x31C3);  // the specification's own vector
  CHECK(redis_slot("") == 0);
  CHECK(redis_slot("foo{123456789}bar") == 0x31C3);
  CHECK(redis_slot("{user1000}.following") == redis_slot("{user1000}.followers"));
  CHECK(redis_slot("foo{}{bar}") != redis_slot("bar"));  // an empty tag is none
  CHECK(redis_slot("foo{{bar}}zap") == redis_slot("{bar"));
  CHECK(redis_slot("foo{bar}{zap}") == redis_slot("bar"));
  CHECK(redis_slot("{bar") != redis_slot("bar"));
}

TEST_CASE("all keys of a channel are in one slot, whatever its name, and its name can be read back") {
  for (std::string_view name :
       {"chat", "{", "}", "{}", "}{", "a{b}c", "%", "%7B", "{a}{b}", "@ada", "\xFF\x01", "100%{}"}) {
    redis_keys k("hailwire", name);
    INFO(k.meta);
    CHECK(k.stream == k.meta + ":log");
    CHECK(redis_slot(k.meta) == redis_slot(k.stream));
    const auto tag = k.meta.substr(10, k.meta.size() - 11);
    CHECK(tag.find_first_of("{}") == std::string::npos);
    CHECK(redis_slot(k.meta) == redis_slot("{" + tag + "}"));  // by the tag, and by all of it
    std::string back;
    CHECK(channel_of("hailwire", k.meta, back));
    CHECK(back == name);
    CHECK(!channel_of("hail", k.meta, back));
    CHECK(!channel_of("hailwire", k.stream, back));
  }
  CHECK(redis_keys("p", "a{").meta == "p:{a%7B}");
  CHECK(redis_keys("p", "a%7B").meta == "p:{a%257B}");
}

TEST_CASE("escapes that are none are refused") {
  std::string out;
  for (std::string_view text : {"%", "%4", "a%4", "%4g", "%g4"}) CHECK(!read_percent(text, out));
  CHECK(read_percent("%41%7b", out));
  CHECK(out == "A{");
}

TEST_CASE("each slot has a tag") {
  for (unsigned slot = 0; slot < redis_slots; ++slot) REQUIRE(redis_slot("x:{" + redis_slot_tag(slot) + "}") == slot);
  CHECK(redis_slot_tag(redis_slot("0")) == "0");
}
