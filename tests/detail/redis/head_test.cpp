// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/redis/head.hpp"

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::detail;

TEST_CASE("a head is words that a person can read, and every byte comes back") {
  CHECK(redis_head({1'764'000'000'123, "ada", "note", payload::json("1"), "key"}) == "1764000000123 j ada note ");
  CHECK(redis_head({-1, "", "", payload::text("x"), ""}) == "-1 t   ");
  CHECK(redis_head({0, "a b%", "", payload::binary("x", "image/png"), ""}) == "0 b a%20b%25  image/png");
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (const payload& p : {payload::json("{}"), payload::text(all), payload::text(all, "text/html; charset=\"x\""),
                           payload::binary(all), payload::binary("", all)}) {
    const draft d{42, all, all, p, ""};
    message m;
    const auto head = redis_head(d);
    CHECK(head.find('\n') == head.npos);
    REQUIRE(read_redis_message(head, p.bytes(), m));
    CHECK((m.at == 42 && m.from == all && m.type == all && m.data == p));
  }
}

TEST_CASE("what is no head is refused; more words than are known are not") {
  message m;
  for (std::string_view head : {"", "1", "1 j", "1 j a b", "x j a b ", "1x j a b ", "1 q a b ", "1 jj a b ", "1  a b ",
                                "1 j %4 b ", "1 j a % ", "1 j a b  x", "1 j a b  -1", "1 j a b  1 id x text",
                                "1 j a b   id 1 %", "1 t a b %zz", " j a b ", "99999999999999999999 j a b "}) {
    INFO(head);
    CHECK(!read_redis_message(head, "null", m));
  }
  CHECK(read_redis_message("1 j a b  42 id 7 text/plain and more", "null", m));
  CHECK((m.from == "a" && m.type == "b" && m.erases == 42));
  REQUIRE(m.content);
  CHECK(*m.content == content_reference{"id", 7, "text/plain"});
  draft d{1, "a", "", payload::json("{}"), ""};
  d.content = std::make_shared<content_reference>(content_reference{"ID_-9", max_offset, "image/svg xml"});
  CHECK(redis_head(d) == "1 j a    ID_-9 9007199254740991 image/svg%20xml");
  message back;
  REQUIRE(read_redis_message(redis_head(d), "{}", back));
  CHECK((back.erases == 0 && back.content && *back.content == *d.content));
  d.content = nullptr;
  d.data = {};
  CHECK(redis_head(d, 42) == "1 j a   42");
  REQUIRE(read_redis_message(redis_head(d, 42), "", back));
  CHECK((back.erases == 42 && back.data == payload()));
}

TEST_CASE("a fingerprint tells payloads apart by kind, media type and bytes, and can be made by others") {
  // echo -en 'j\n{}' | sha1sum
  CHECK(redis_fingerprint(payload::json("{}")) == redis_digest("j\n{}"));
  CHECK(redis_digest("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d");  // FIPS 180-4's example
  const payload all[] = {payload::json("1"), payload::text("1"), payload::binary("1"), payload::text("1", "text/html"),
                         payload::text("2"), payload::text("")};
  for (const auto& a : all)
    for (const auto& b : all) CHECK((redis_fingerprint(a) == redis_fingerprint(b)) == (&a == &b));
}
