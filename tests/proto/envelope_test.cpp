// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/envelope.hpp"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "catch.hpp"

using namespace hailwire;

namespace {

std::string object(std::string_view channel, const message& m) {
  std::string out;
  proto::append_message(out, channel, m);
  return out;
}
message of(payload p, std::uint64_t offset = 7, std::int64_t at = 1000) {
  message m;
  m.offset = offset;
  m.at = at;
  m.data = std::move(p);
  return m;
}

TEST_CASE("a message object has its members in one order, and only those that it needs") {
  CHECK(object("chat", of(payload::json("{\"a\": 1.50}"))) ==
        R"({"channel":"chat","offset":7,"at":1000,"data":{"a": 1.50}})");
  CHECK(object("chat", of(payload::text("a\"b\n"))) == R"({"channel":"chat","offset":7,"at":1000,"data":"a\"b\n"})");
  CHECK(object("chat", of(payload::binary(std::string_view("\0\xff", 2)))) ==
        R"({"channel":"chat","offset":7,"at":1000,"bytes":"AP8="})");
  message m = of(payload::json("1"));
  m.from = "ada";
  CHECK(object("chat", m) == R"({"channel":"chat","offset":7,"at":1000,"from":"ada","data":1})");
  m.type = "note";
  CHECK(object("chat", m) == R"({"channel":"chat","offset":7,"at":1000,"from":"ada","type":"note","data":1})");
  m.from.clear();
  CHECK(object("chat", m) == R"({"channel":"chat","offset":7,"at":1000,"type":"note","data":1})");
}

TEST_CASE("a message without an offset, which is in no log, has none; a time before 1970 is 0") {
  CHECK(object("chat", of(payload::json("1"), 0, -5)) == R"({"channel":"chat","at":0,"data":1})");
}

TEST_CASE("each number is written whole, whatever was written before it") {
  for (std::int64_t at : {std::int64_t{0}, std::int64_t{1}, std::numeric_limits<std::int64_t>::max(), std::int64_t{9},
                          std::int64_t{10}, std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'767'225'600'000}}) {
    const std::uint64_t offset = at % 2 ? UINT64_MAX : 1;
    CHECK(object("c", of(payload::json("1"), offset, at)) == "{\"channel\":\"c\",\"offset\":" + std::to_string(offset) +
                                                                 ",\"at\":" + std::to_string(at < 0 ? 0 : at) +
                                                                 ",\"data\":1}");
  }
}

TEST_CASE("a name of any length and of any letters is the channel's, as another library reads it") {
  for (std::size_t size : {1u, 2u, 253u, 254u, 255u, 256u, 257u, 400u, 5000u}) {
    for (std::string letter : {"x", "\"", "\\", "é", "\n"}) {
      std::string name;
      while (name.size() + letter.size() <= size) name += letter;
      if (name.empty()) continue;
      message m = of(payload::text("t"), UINT64_MAX, std::numeric_limits<std::int64_t>::max());
      m.from = name;
      m.type = name;
      auto read = nlohmann::json::parse(object(name, m));
      CHECK(read["channel"] == name);
      CHECK(read["from"] == name);
      CHECK(read["type"] == name);
      CHECK(read["offset"] == UINT64_MAX);
      CHECK(read["at"] == std::numeric_limits<std::int64_t>::max());
    }
  }
}

TEST_CASE("a message is appended behind what is there") {
  std::string out = "before ";
  proto::append_message(out, "c", of(payload::json("1"), 1, 2));
  CHECK(out == R"(before {"channel":"c","offset":1,"at":2,"data":1})");
  out = "[";
  proto::append_payload_member(out, payload::binary("x"));
  CHECK(out == "[\"bytes\":\"eA==\"");
}

}  // namespace
