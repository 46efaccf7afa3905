// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/redis/announcement.hpp"

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::detail;
using namespace std::string_literals;

TEST_CASE("an announcement brings messages one after the other, payloads of any bytes") {
  // The heads have the sizes that are said.
  const std::string one = "7 t ada note ", two = "8 b   a/b";
  const auto made = "M origin epoch 41 2\n" + std::to_string(one.size()) + " 3\n" + one + "x\ny" +
                    std::to_string(two.size()) + " 4\n" + two + "\0\n\xFF!"s;
  redis_announcement a(made);
  REQUIRE(a.fine());
  CHECK((!a.live() && a.origin() == "origin" && a.epoch() == "epoch" && a.offset() == 41 && a.left() == 2));
  message m;
  REQUIRE(a.next(m));
  CHECK((m.offset == 41 && m.at == 7 && m.from == "ada" && m.type == "note" && m.data == payload::text("x\ny")));
  REQUIRE(a.next(m));
  CHECK((m.offset == 42 && m.data == payload::binary("\0\n\xFF!"s, "a/b")));
  CHECK(!a.next(m));
  CHECK(a.fine());
  // Whatever is cut off, nothing is read that is not there.
  for (std::size_t n = 0; n < made.size(); ++n) {
    redis_announcement cut(std::string_view(made).substr(0, n));
    std::size_t count = 0;
    while (cut.next(m)) ++count;
    CHECK(count < 2);
    CHECK((!cut.fine() || cut.left() == 0));
  }
}

TEST_CASE("something live-only is as it was told") {
  const auto text = redis_announcement::live("me", "epoch", 7, "a\n\0b"s);
  redis_announcement a(text);
  CHECK((a.fine() && a.live() && a.origin() == "me" && a.epoch() == "epoch" && a.offset() == 7 &&
         a.bytes() == "a\n\0b"s));
  const auto none = redis_announcement::live("me", "", 0, "");
  redis_announcement b(none);
  CHECK((b.fine() && b.epoch().empty() && b.offset() == 0 && b.bytes().empty()));
}

TEST_CASE("what is no announcement is not taken for one") {
  message m;
  for (std::string_view text : {"", "\n", "hello", "hello\n", "M\n", "M o e 1\n", "M o e x 1\n", "M o e 1 x\n",
                                "M o e 1 1 1\n", "M o e! 1 0\n", "M  e 1 0\n", "X o e 1 0\n", "L o e x\n",
                                "L o e 1 2\n", "M o e 99999999999999999999 0\n", "M o e 9007199254740992 0\n"})
    CHECK(!redis_announcement(text).fine());
  for (std::string_view text :
       {"M o e 1 1\n", "M o e 1 1\nx\n", "M o e 1 1\n1\n", "M o e 1 1\n9 9\n1 j   ", "M o e 1 1\n3 1\n1 j1",
        "M o e 1 1\n18446744073709551615 2\n1 j   ", "M o e 1 1\n6 9007199254740991\n1 j   1"}) {
    redis_announcement a(text);
    CHECK(a.fine());
    CHECK(!a.next(m));
    CHECK(!a.fine());
  }
  redis_announcement large("M o e 57 0\n");
  CHECK((large.fine() && large.left() == 0 && large.offset() == 57));
}
