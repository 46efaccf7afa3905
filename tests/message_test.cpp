// SPDX-License-Identifier: BSL-1.0
#include "hailwire/message.hpp"

#include <algorithm>
#include <random>

#include "catch.hpp"

using namespace hailwire;
using namespace std::string_literals;
using word = start::word;

namespace {

cursor read_good(std::string_view text, std::size_t channels) {
  auto c = parse_cursor(text, channels);
  CAPTURE(text, channels);
  REQUIRE(c);
  return *c;
}

void refuse(std::string_view text, std::size_t channels) {
  auto c = parse_cursor(text, channels);
  CAPTURE(text, channels);
  REQUIRE_FALSE(c);
  CHECK(c.error().code == errc::bad_request);
  CHECK(c.error().message.find("cursor") != std::string::npos);
}

}  // namespace

TEST_CASE("a channel's name is 1 to 255 bytes of UTF-8 on one line") {
  CHECK(valid_channel("a"));
  CHECK(valid_channel("@ada"));
  CHECK(valid_channel(" "));
  CHECK(valid_channel("\xC2\xA0"));
  CHECK(valid_channel("日本/é 😀,.&="));
  CHECK(valid_channel(std::string(255, 'x')));
  CHECK_FALSE(valid_channel(std::string(256, 'x')));
  CHECK_FALSE(valid_channel(std::string(254, 'x') + "é"));
  CHECK_FALSE(valid_channel(""));
  for (auto bad : {"\0"s, "a\n"s, "\x1F"s, "\x7F"s, "\xC2\x80"s, "\xC2\x9F"s, "\u2028"s, "a\u2029b"s, "\xFF"s, "\xC3"s,
                   "\xED\xA0\x80"s, "\xC0\x80"s})
    CHECK_FALSE(valid_channel(bad));
}

TEST_CASE("a user's name leaves room for the sign of an inbox") {
  CHECK(valid_user("ada"));
  CHECK(valid_user(std::string(254, 'x')));
  CHECK_FALSE(valid_user(std::string(255, 'x')));
  CHECK_FALSE(valid_user(""));
  CHECK_FALSE(valid_user("a\tb"));
  CHECK(valid_channel("@" + std::string(254, 'x')));
}

TEST_CASE("what resembles a cursor is told from what somebody else has made up") {
  for (auto ours : {"chat-1.2", "a.1,b.2", ".", "chat-1.2-gzip", "latest", "earliest", "received", "x,latest", "a.b.c",
                    "latest,", "v1.2"})
    CHECK(resembles_cursor(ours));
  for (auto other : {"", "x", ",", "a,b", "Latest", "late", "5d8c72a5-3b2", "chat-1.2 ", "a.b/c", "a.\xC3\xA9", "*"})
    CHECK_FALSE(resembles_cursor(other));
}

TEST_CASE("an element is written as it was read, and none is longer than is counted for one") {
  const std::string longest = std::string(32, 'e') + ".9007199254740991";
  CHECK(longest.size() + 1 == max_cursor_element);
  for (std::string text : {"latest"s, "earliest"s, "received"s, "chat-1.0"s, longest, "a.1,latest,received"s}) {
    std::string out;
    for (const start& s : read_good(text, 1 + static_cast<std::size_t>(std::count(text.begin(), text.end(), ',')))) {
      if (!out.empty()) out += ',';
      append_start(out, s);
    }
    CHECK(out == text);
  }
}

TEST_CASE("an epoch is 1 to 32 letters that need no escape anywhere") {
  for (int c = 0; c < 256; ++c) {
    auto ch = static_cast<char>(c);
    bool good =
        (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '_' || ch == '-';
    CHECK(valid_epoch(std::string(1, ch)) == good);
    CHECK(valid_epoch("a" + std::string(1, ch)) == good);
  }
  CHECK_FALSE(valid_epoch(""));
  CHECK(valid_epoch(std::string(32, 'e')));
  CHECK_FALSE(valid_epoch(std::string(33, 'e')));
}

TEST_CASE("reads one element for each channel, in their order") {
  auto c = read_good("e-1.42,latest,earliest,received,_.0", 5);
  REQUIRE(c.size() == 5);
  CHECK(c[0].from == word::at);
  CHECK(c[0].at == position{"e-1", 42});
  CHECK(c[1].from == word::latest);
  CHECK(c[2].from == word::earliest);
  CHECK(c[3].from == word::received);
  CHECK(c[4].from == word::at);
  CHECK(c[4].at == position{"_", 0});
  CHECK(read_good("e.9007199254740991", 1)[0].at.offset == max_offset);
  CHECK(read_good(std::string(32, 'e') + ".1", 1)[0].at.epoch.size() == 32);
  // A word is one only without an offset: an epoch may be called like it.
  CHECK(read_good("latest.5", 1)[0].at == position{"latest", 5});
}

TEST_CASE("takes a single word for all channels, but not a single position") {
  for (auto [text, from] : {std::pair{"latest", word::latest}, std::pair{"earliest", word::earliest},
                            std::pair{"received", word::received}})
    for (std::size_t n : {1u, 2u, 32u}) {
      auto c = read_good(text, n);
      REQUIRE(c.size() == n);
      for (const auto& s : c) CHECK(s.from == from);
    }
  refuse("e.1", 2);
}

TEST_CASE("refuses a cursor with more or fewer elements than channels") {
  refuse("latest,latest", 1);
  refuse("latest,latest", 3);
  refuse("e.1,e.2", 1);
  refuse("e.1,e.2", 3);
}

TEST_CASE("refuses every element that is not exactly one of the four forms") {
  for (auto bad : {"",
                   "e",
                   "e.",
                   ".1",
                   ".",
                   "e.-1",
                   "e.+1",
                   "e.01",
                   "e.1.2",
                   "e. 1",
                   " e.1",
                   "e.1 ",
                   "e.0x1",
                   "e.1e3",
                   "e.9007199254740992",
                   "e.99999999999999999999999",
                   "é.1",
                   "a b.1",
                   "Latest",
                   "LATEST",
                   "latest ",
                   "now",
                   "e:1",
                   "e.1;",
                   "\"e.1\""}) {
    refuse(bad, 1);
    refuse("latest,"s + bad, 2);
    refuse(bad + ",latest"s, 2);
  }
  refuse(std::string(33, 'e') + ".1", 1);
  refuse(",", 2);
  refuse("latest,", 2);
  refuse(",latest", 2);
  refuse("latest,,latest", 3);
  refuse("e.1\0"s, 1);
}

TEST_CASE("refuses a cursor of more than 4096 bytes before it looks at it") {
  std::string text = "e.1";
  std::size_t n = 1;
  for (; text.size() + 4 <= max_cursor_size; ++n) text += ",e.1";
  CHECK(read_good(text, n).size() == n);
  for (; text.size() <= max_cursor_size; ++n) text += ",e.1";
  refuse(text, n);
}

TEST_CASE("a position that is written reads the same again") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    std::vector<position> wrote;
    for (std::size_t n = 1 + random() % 8; n; --n) {
      position p;
      for (std::size_t k = 1 + random() % 32; k; --k) p.epoch += proto::base64url_letters[random() % 64];
      p.offset = random() % 4 ? random() % 1000 : random() % (max_offset + 1);
      if (!text.empty()) text += ',';
      append_position(text, p.epoch, p.offset);
      wrote.push_back(p);
    }
    auto c = read_good(text, wrote.size());
    for (std::size_t k = 0; k < wrote.size(); ++k) REQUIRE((c[k].from == word::at && c[k].at == wrote[k]));
  }
}

TEST_CASE("copies of a payload share its bytes") {
  auto a = payload::binary("\x00\xFF"s, "image/png");
  auto b = a;
  CHECK(a.bytes().data() == b.bytes().data());
  CHECK(a == b);
  CHECK(b.type() == payload::kind::binary);
  CHECK(b.content_type() == "image/png");
  a = payload::text("x");
  CHECK(b.bytes() == "\x00\xFF"s);
}

TEST_CASE("a payload has the media type of its kind where the publisher names none") {
  CHECK(payload::json("1").content_type() == "application/json");
  CHECK(payload::text("a").content_type() == "text/plain;charset=utf-8");
  CHECK(payload::text("a", "text/html").content_type() == "text/html");
  CHECK(payload::binary("a").content_type() == "application/octet-stream");
}

TEST_CASE("payloads are equal when kind, bytes and media type are") {
  CHECK(payload::json("1") == payload::json("1"));
  CHECK_FALSE(payload::json("1") == payload::json("1 "));
  CHECK_FALSE(payload::json("1") == payload::text("1"));
  CHECK_FALSE(payload::binary("1", "a/b") == payload::binary("1", "a/c"));
  CHECK(payload::binary("1") == payload::binary("1", "application/octet-stream"));
  CHECK(payload() == payload::json("null"));
}

TEST_CASE("a payload keeps what it was made of, whatever becomes of that, and its copies share it") {
  std::string bytes(100'000, 'x'), media = "text/x-long; charset=utf-8";
  bytes[7] = '\0';
  const std::string as_made = bytes;
  payload p = payload::text(bytes, media), q = p;
  bytes.assign(bytes.size(), 'y');
  media.clear();
  CHECK(p.bytes() == as_made);
  CHECK(p.content_type() == "text/x-long; charset=utf-8");
  CHECK(p.bytes().data() == q.bytes().data());
  payload r = std::move(p);
  CHECK(r == q);
  CHECK(r != payload::binary(as_made, "text/x-long; charset=utf-8"));
  CHECK(payload::text(as_made) != q);
  CHECK(payload::text("ab", "c") != payload::text("a", "bc"));
  CHECK(payload::json("1") == payload::json("1"));
  CHECK(payload().bytes() == "null");
}
