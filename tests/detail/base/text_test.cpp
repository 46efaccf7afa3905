// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/text.hpp"

#include <random>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire::proto;
using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

/// The UTF-8 of a code point, written from the table of RFC 3629, section 3.
std::string encode(unsigned c) {
  std::string out;
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 + c / 64);
    out += static_cast<char>(0x80 + c % 64);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 + c / 4096);
    out += static_cast<char>(0x80 + c / 64 % 64);
    out += static_cast<char>(0x80 + c % 64);
  } else {
    out += static_cast<char>(0xF0 + c / 262144);
    out += static_cast<char>(0x80 + c / 4096 % 64);
    out += static_cast<char>(0x80 + c / 64 % 64);
    out += static_cast<char>(0x80 + c % 64);
  }
  return out;
}

/// Every character's bytes as one number, so that the oracle is a list of what is valid, not another decoder.
std::vector<bool> valid_sequences(std::size_t bytes) {
  std::vector<bool> out(std::size_t{1} << 8 * bytes);
  for (unsigned c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    auto s = encode(c);
    if (s.size() != bytes) continue;
    std::size_t n = 0;
    for (char b : s) n = n << 8 | static_cast<unsigned char>(b);
    out[n] = true;
  }
  return out;
}

bool valid_at_once(std::string_view s) {
  utf8_checker check;
  return check.feed(s) && check.complete();
}

bool valid_byte_by_byte(std::string_view s) {
  utf8_checker check;
  for (char c : s)
    if (!check.feed({&c, 1})) return false;
  return check.complete();
}

}  // namespace

TEST_CASE("takes every character of Unicode as UTF-8, and no surrogate") {
  std::size_t wrong = 0;
  for (unsigned c = 0; c <= 0x1FFFFF; ++c) {
    bool expected = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
    auto s = encode(c);
    wrong += valid_at_once(s) != expected;
    wrong += valid_byte_by_byte(s) != expected;
  }
  CHECK(wrong == 0);
}

TEST_CASE("takes of all sequences of up to three bytes exactly those that are UTF-8") {
  auto one = valid_sequences(1), two = valid_sequences(2), three = valid_sequences(3);
  std::size_t wrong = 0;
  char s[3];
  for (unsigned a = 0; a < 256; ++a) {
    s[0] = static_cast<char>(a);
    wrong += valid_at_once({s, 1}) != one[a];
    for (unsigned b = 0; b < 256; ++b) {
      s[1] = static_cast<char>(b);
      bool pair = (one[a] && one[b]) || two[a << 8 | b];
      wrong += valid_at_once({s, 2}) != pair;
      for (unsigned c = 0; c < 256; ++c) {
        s[2] = static_cast<char>(c);
        bool triple = (one[a] && one[b] && one[c]) || (one[a] && two[b << 8 | c]) || (two[a << 8 | b] && one[c]) ||
                      three[a << 16 | b << 8 | c];
        wrong += valid_at_once({s, 3}) != triple;
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("takes of all sequences of four bytes that begin with a four-byte lead exactly those that are UTF-8") {
  std::size_t wrong = 0;
  char s[4];
  for (unsigned a = 0xF0; a < 256; ++a)
    for (unsigned b = 0x70; b < 0xD0; ++b)
      for (unsigned c : {0x00u, 0x7Fu, 0x80u, 0x8Fu, 0x90u, 0xBFu, 0xC0u, 0xFFu})
        for (unsigned d = 0x70; d < 0xD0; ++d) {
          s[0] = static_cast<char>(a), s[1] = static_cast<char>(b), s[2] = static_cast<char>(c),
          s[3] = static_cast<char>(d);
          unsigned point = (a & 7) << 18 | (b & 63) << 12 | (c & 63) << 6 | (d & 63);
          bool expected = a < 0xF8 && (b & 0xC0) == 0x80 && (c & 0xC0) == 0x80 && (d & 0xC0) == 0x80 &&
                          point >= 0x10000 && point <= 0x10FFFF;
          wrong += valid_at_once({s, 4}) != expected;
          wrong += valid_byte_by_byte({s, 4}) != expected;
        }
  CHECK(wrong == 0);
}

TEST_CASE("fails at the first byte that no text can have at that place") {
  struct bad {
    std::string_view text;
    std::size_t good;  // so many bytes are still the beginning of a text
  };
  for (auto [text, good] : std::initializer_list<bad>{{"\x80", 0},
                                                      {"\xC0\x80", 0},
                                                      {"\xC1", 0},
                                                      {"a\xFF", 1},
                                                      {"\xF5", 0},
                                                      {"\xE0\x9F\xBF", 1},
                                                      {"\xED\xA0\x80", 1},
                                                      {"\xF0\x8F\xBF\xBF", 1},
                                                      {"\xF4\x90\x80\x80", 1},
                                                      {"\xC2 ", 1},
                                                      {"\xE2\x82 ", 2},
                                                      {"\xF0\x9F\x98 ", 3},
                                                      {"\xE2\x82\xAC\xBF", 3},
                                                      {"12345678\xC2\xA2\xC2 ", 11},
                                                      {"12345678abcdefg\xFE", 15}}) {
    CAPTURE(text, good);
    utf8_checker check;
    std::size_t n = 0;
    while (n < text.size() && check.feed(text.substr(n, 1))) ++n;
    CHECK(n == good);
    for (std::size_t split = 0; split <= text.size(); ++split) {
      utf8_checker parts;
      CHECK(parts.feed(text.substr(0, split)) == (split <= good));
      CHECK_FALSE(parts.feed(text.substr(split)));
      CHECK_FALSE(parts.complete());
    }
  }
}

TEST_CASE("stays failed whatever comes after a bad byte") {
  utf8_checker check;
  CHECK_FALSE(check.feed("a\xFF"));
  CHECK_FALSE(check.feed("abc"));
  CHECK_FALSE(check.feed(""));
  CHECK_FALSE(check.complete());
  utf8_checker half;
  CHECK(half.feed("\xE2\x82"));
  CHECK_FALSE(half.complete());
  CHECK_FALSE(half.feed("x"));
  CHECK_FALSE(half.feed("\xAC"));
  CHECK_FALSE(half.complete());
}

TEST_CASE("gives the same answer however a text is split") {
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (std::size_t n = random() % 12; n; --n) {
      static constexpr unsigned points[] = {0x41, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF};
      text += random() % 3 ? encode(points[random() % 8]) : std::string(random() % 12, 'x');
    }
    if (random() % 2 && !text.empty()) text[random() % text.size()] = static_cast<char>(random());
    bool whole = valid_at_once(text);
    CAPTURE(text);
    CHECK(valid_byte_by_byte(text) == whole);
    CHECK(valid_utf8(text) == whole);
    for (std::size_t split = 0; split <= text.size(); ++split) {
      utf8_checker check;
      bool fed = check.feed(std::string_view(text).substr(0, split));
      fed = check.feed(std::string_view(text).substr(split)) && fed;
      if ((fed && check.complete()) != whole) FAIL("split at " << split);
    }
  }
}

TEST_CASE("finds what is not ASCII, or not UTF-8, at every place of texts of every short length") {
  for (std::size_t size = 0; size <= 48; ++size) {
    REQUIRE(valid_utf8(std::string(size, 'x')));
    for (std::size_t at = 0; at < size; ++at) {
      std::string text(size, 'x');
      text[at] = '\x80';
      REQUIRE_FALSE(valid_utf8(text));
      text[at] = '\xC3';
      REQUIRE_FALSE(valid_utf8(text));
      if (at + 1 == size) continue;
      text[at + 1] = '\xA9';
      REQUIRE(valid_utf8(text));
      text[at + 1] = '\xC3';
      REQUIRE_FALSE(valid_utf8(text));
    }
  }
}

TEST_CASE("prints of all characters all but the controls and the line separators") {
  std::size_t wrong = 0;
  for (unsigned c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    bool expected = c >= 0x20 && !(c >= 0x7F && c <= 0x9F) && c != 0x2028 && c != 0x2029;
    wrong += printable_utf8(encode(c)) != expected;
    wrong += printable_utf8("x" + encode(c) + "é") != expected;
  }
  CHECK(wrong == 0);
  CHECK(printable_utf8(""));
  CHECK_FALSE(printable_utf8("\xC2"));
  CHECK_FALSE(printable_utf8("\xE2\x80"));
}

TEST_CASE("writes base64 as RFC 4648 shows it and reads it back") {
  struct pair {
    std::string_view bytes, text, url;
  };
  for (auto [bytes, text, url] : std::initializer_list<pair>{{"", "", ""},
                                                             {"f", "Zg==", "Zg"},
                                                             {"fo", "Zm8=", "Zm8"},
                                                             {"foo", "Zm9v", "Zm9v"},
                                                             {"foob", "Zm9vYg==", "Zm9vYg"},
                                                             {"fooba", "Zm9vYmE=", "Zm9vYmE"},
                                                             {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
                                                             {"\xFB\xFF\xFE", "+//+", "-__-"}}) {
    std::string out = "x";
    append_base64(out, bytes);
    CHECK(out == "x" + std::string(text));
    CHECK(decode_base64(text) == bytes);
    out.clear();
    append_base64(out, bytes, base64url_letters);
    CHECK(out == url);
  }
}

TEST_CASE("base64url is read without padding, and in one way alone") {
  CHECK(decode_base64url("") == "");
  CHECK(decode_base64url("-_8") == "\xFB\xFF");
  CHECK(decode_base64url("Zm9v") == "foo");
  CHECK(decode_base64url("Zm8") == "fo");
  CHECK(decode_base64url("Zg") == "f");
  for (auto bad : {"Zg==", "Zm8=", "+_8", "/w", "Z", "Zh", "Zm9", "Zm9v=", "Zm 9v"}) {
    INFO(bad);
    CHECK_FALSE(decode_base64url(bad));
  }
}

TEST_CASE("reads back from base64 any bytes that were written") {
  std::mt19937 random(2);
  for (std::size_t n = 0; n < 300; ++n) {
    std::string bytes(n, '\0'), text;
    for (char& c : bytes) c = static_cast<char>(random());
    append_base64(text, bytes);
    REQUIRE(text.size() == (n + 2) / 3 * 4);
    REQUIRE(decode_base64(text) == bytes);
  }
}

TEST_CASE("reads of all base64 quads exactly those that it would write itself") {
  // Every quad over the letters where the rules turn, and some that are none: what is read must print the same again.
  static constexpr std::string_view letters = "ABPQgwfv89+/=-_ \n\0\x80"sv;
  std::size_t read = 0;
  for (char a : letters)
    for (char b : letters)
      for (char c : letters)
        for (char d : letters) {
          std::string quad = {a, b, c, d};
          bool inside = base64_letters.find(a) != base64_letters.npos && base64_letters.find(b) != base64_letters.npos;
          auto digit = [](char x) { return base64_letters.find(x); };
          bool expected = inside && ((digit(c) != std::string::npos && digit(d) != std::string::npos) ||
                                     (digit(c) != std::string::npos && digit(c) % 4 == 0 && d == '=') ||
                                     (digit(b) % 16 == 0 && c == '=' && d == '='));
          auto bytes = decode_base64(quad);
          if (bool(bytes) != expected) FAIL(quad);
          if (!bytes) continue;
          ++read;
          std::string again;
          append_base64(again, *bytes);
          if (again != quad) FAIL(quad);
          // Padding ends the text.
          if (d == '=' && decode_base64(quad + "AAAA")) FAIL(quad);
          if (decode_base64("AAAA" + quad) != std::string(3, '\0') + *bytes) FAIL(quad);
        }
  CHECK(read > 1000);
  for (auto text : {"A", "AA", "AAA", "AAAAA", "AA=", "====", "A===", "AA==\n", "=AAA"})
    CHECK_FALSE(decode_base64(text));
}

TEST_CASE("reads decimals without sign, space or leading zero, up to a maximum") {
  CHECK(parse_decimal("0") == 0u);
  CHECK(parse_decimal("7") == 7u);
  CHECK(parse_decimal("18446744073709551615") == UINT64_MAX);
  CHECK(parse_decimal("1000", 1000) == 1000u);
  CHECK_FALSE(parse_decimal("1001", 1000));
  for (auto text : {"", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e1", "0x1", "a", "18446744073709551616",
                    "99999999999999999999999"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_decimal(text));
  }
  for (std::uint64_t n : {std::uint64_t{0}, std::uint64_t{9}, std::uint64_t{10}, UINT64_MAX - 1, UINT64_MAX}) {
    std::string out = "x";
    append_decimal(out, n);
    CHECK(out == "x" + std::to_string(n));
    CHECK(parse_decimal(std::string_view(out).substr(1)) == n);
  }
}

TEST_CASE("knows hexadecimal digits of both cases and nothing else") {
  for (int c = 0; c < 256; ++c) {
    auto at = "0123456789abcdef"sv.find(to_lower(static_cast<char>(c)));
    CHECK(hex_digit(static_cast<char>(c)) == (at == std::string_view::npos ? -1 : static_cast<int>(at)));
  }
}

TEST_CASE("compares ASCII letters without case and everything else by bytes") {
  CHECK(iequals("Upgrade", "uPGRADE"));
  CHECK(iequals("", ""));
  CHECK_FALSE(iequals("a", "ab"));
  CHECK_FALSE(iequals("@", "`"));
  CHECK_FALSE(iequals("[", "{"));
  CHECK_FALSE(iequals("É", "é"));
}

TEST_CASE("trims spaces and tabs at both ends and nothing else") {
  CHECK(trim(" \ta b\t ") == "a b");
  CHECK(trim(" \t ").empty());
  CHECK(trim("").empty());
  CHECK(trim("\na\r") == "\na\r");
}

TEST_CASE("decodes percent escapes, with plus as a space only in form data") {
  std::string out = "old";
  CHECK(percent_decode("a%20b+c%2B%c3%A9", out, true));
  CHECK(out == "a b c+é");
  CHECK(percent_decode("a+b", out, false));
  CHECK(out == "a+b");
  CHECK(percent_decode("", out, true));
  CHECK(out.empty());
  CHECK(percent_decode("%00", out, true));
  CHECK(out == "\0"s);
  for (auto bad :
       {"%", "%4", "a%4", "%4g", "%g4", "%%41", "%u0041", "%-1", "%FF", "%C3", "\xFF", "%ED%A0%80", "%C0%80"}) {
    CAPTURE(bad);
    // A copy of just these bytes, so that the address sanitizer sees a read past the end.
    std::vector<char> exact(bad, bad + std::char_traits<char>::length(bad));
    CHECK_FALSE(percent_decode({exact.data(), exact.size()}, out, true));
  }
}

TEST_CASE("decodes every percent escape of an ASCII character") {
  std::string out;
  for (int c = 0; c < 128; ++c) {
    for (auto digits : {"0123456789abcdef", "0123456789ABCDEF"}) {
      std::string escape = {'%', digits[c / 16], digits[c % 16]};
      REQUIRE(percent_decode(escape, out, true));
      REQUIRE(out == std::string(1, static_cast<char>(c)));
    }
  }
}

TEST_CASE("reads a query as pairs in their order, repeats kept") {
  auto read = [](std::string_view q) {
    auto pairs = parse_query(q);
    CAPTURE(q);
    REQUIRE(pairs);
    return *pairs;
  };
  CHECK(read("").empty());
  CHECK(read("&&&").empty());
  CHECK(read("a=1&b=2&a=3") == query_pairs{{"a", "1"}, {"b", "2"}, {"a", "3"}});
  CHECK(read("a=1&&b=2&") == query_pairs{{"a", "1"}, {"b", "2"}});
  CHECK(read("&a=1") == query_pairs{{"a", "1"}});
  CHECK(read("a") == query_pairs{{"a", ""}});
  CHECK(read("=") == query_pairs{{"", ""}});
  CHECK(read("=v") == query_pairs{{"", "v"}});
  CHECK(read("a=b=c") == query_pairs{{"a", "b=c"}});
  CHECK(read("a%3Db=c%26d") == query_pairs{{"a=b", "c&d"}});
  CHECK(read("chan+nel=%F0%9F%98%80") == query_pairs{{"chan nel", "😀"}});
  CHECK(read("a;b=1") == query_pairs{{"a;b", "1"}});
  for (auto bad : {"a=%", "%=a", "a=1&b=%zz", "a=%ff", "%c3=%a9", "a=%c3&b=%a9", "a=\xC3&\xA9", "a=1&%"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_query(bad));
  }
}

TEST_CASE("reads a query back that was written from any pairs") {
  std::mt19937 random(3);
  for (int i = 0; i < 2000; ++i) {
    query_pairs pairs;
    std::string query;
    auto text = [&] {
      std::string s;
      for (std::size_t n = random() % 5; n; --n) s += encode(static_cast<unsigned>(random() % 0xD800));
      return s;
    };
    auto write = [&](const std::string& s) {
      for (char c : s) {
        auto byte = static_cast<unsigned char>(c);
        if (is_token_letter(c))
          query += c;
        else if (c == ' ' && random() % 2)
          query += '+';
        else
          query += '%', query += "0123456789ABCDEF"[byte / 16], query += "0123456789abcdef"[byte % 16];
      }
    };
    for (std::size_t n = random() % 5; n; --n) {
      pairs.emplace_back(text(), text());
      if (!query.empty()) query += '&';
      write(pairs.back().first);
      query += '=';
      write(pairs.back().second);
    }
    REQUIRE(parse_query(query) == pairs);
  }
}
