// SPDX-License-Identifier: BSL-1.0
// What stands in single fields; how a head as a whole is read is in http1_test.cpp.
#include "hailwire/proto/http_fields.hpp"

#include <random>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::proto;
using namespace hailwire::proto::http1;

namespace {

head with(std::initializer_list<header> lines) {
  head h;
  for (auto& line : lines) h.headers.push_back(line);
  return h;
}

TEST_CASE("a token is the letters of RFC 9110, section 5.6.2, and at least one") {
  const std::string letters = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  for (int c = 0; c < 256; ++c) {
    INFO(c);
    CHECK(is_token(std::string(1, static_cast<char>(c))) == (letters.find(static_cast<char>(c)) != letters.npos));
  }
  CHECK_FALSE(is_token(""));
  CHECK(is_token(letters));
  CHECK_FALSE(is_token("Content Length"));
}

TEST_CASE("a value is refused for one control byte, wherever it stands and however long it is") {
  for (std::size_t size : {1u, 7u, 8u, 9u, 15u, 16u, 17u, 64u}) {
    for (std::size_t at = 0; at < size; ++at) {
      for (int c = 0; c < 256; ++c) {
        std::string s(size, '\x80');
        s[at] = static_cast<char>(c);
        const bool control = (c < 0x20 && c != '\t') || c == 0x7F;
        if (is_value(s) == control) FAIL("byte " << c << " at " << at << " of " << size);
        if (http1::detail::find_control(s, 0, size) != (control ? at : size)) FAIL("found elsewhere: " << c);
        if (at > 0 && http1::detail::find_control(s, 0, at) != at) FAIL("looked too far");
      }
    }
  }
  CHECK(is_value(""));
}

TEST_CASE("an IPv6 address is what RFC 3986, section 3.2.2 allows") {
  for (auto good : {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1::8", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7::",
                    "1:2:3:4:5:6:1.2.3.4", "::ffff:1.2.3.4", "::1.2.3.4", "ABCD:ef01::", "1:2:3::1.2.3.4"})
    CHECK(parse_authority('[' + std::string(good) + ']'));
  for (auto bad :
       {"", ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "g::", "::1.2.3",
        "::1.2.3.256", "1:2:3:4:5:6:7:1.2.3.4", "1:", ":1", "1:2:3:4:5:6:7:8::", "::%25eth0", "1.2.3.4", "::01.2.3.4"})
    CHECK_FALSE(parse_authority('[' + std::string(bad) + ']'));
}

TEST_CASE("an authority has a host and a port up to 65535, or is refused") {
  CHECK(parse_authority("example.org")->host == "example.org");
  CHECK_FALSE(parse_authority("example.org")->port);
  CHECK_FALSE(parse_authority("example.org:")->port);
  CHECK(parse_authority("example.org:0")->port == 0);
  CHECK(parse_authority("example.org:65535")->port == 65535);
  CHECK(parse_authority("[::1]:8080")->host == "[::1]");
  CHECK(parse_authority("a%2Fb")->host == "a%2Fb");
  for (auto bad : {"", ":80", "a:65536", "a:99999", "a:100000", "a:-1", "a:8o", "a:80:81", "u@a", "a b", "a%2", "a%",
                   "a%2g", "[::1", "[::1]a", "[v1.x]", "a/b", "\xc3\xa9"})
    CHECK_FALSE(parse_authority(bad));
}

TEST_CASE("a list is taken apart at its commas, but not within quotes, and gives its empty elements too") {
  auto elements = [](std::string_view list) {
    std::vector<std::string> out;
    for (std::string_view rest = list; rest.data();) out.emplace_back(next_element(rest));
    return out;
  };
  using words = std::vector<std::string>;
  CHECK(elements("a") == words{"a"});
  CHECK(elements(" a ,b,\t c") == words{"a", "b", "c"});
  CHECK(elements("a,,") == words{"a", "", ""});
  CHECK(elements(R"("a,b",c)") == words{R"("a,b")", "c"});
  CHECK(elements(R"("a\",b",c)") == words{R"("a\",b")", "c"});
  CHECK(elements(R"("a,b)") == words{R"("a,b)"});
  CHECK(elements("\"a\\") == words{"\"a\\"});  // the backslash escapes what is not there
  CHECK(elements("") == words{""});
}

TEST_CASE("a list in several lines of one name is one list") {
  const head h = with({{"Connection", "a, B"}, {"Other", "c"}, {"connection", ",d"}});
  for (auto there : {"A", "b", "d"}) CHECK(h.has_token("CONNECTION", there));
  for (auto away : {"", "c", "a, b", "e"}) CHECK_FALSE(h.has_token("connection", away));
  CHECK(h.count("CONNECTION") == 2);
  CHECK(h.find("other") == "c");
  CHECK(h.find("none").data() == nullptr);
}

TEST_CASE("a body follows where it is chunked or has a length above 0") {
  head h;
  CHECK_FALSE(h.has_body());
  h.content_length = 0;
  CHECK_FALSE(h.has_body());
  h.content_length = 1;
  CHECK(h.has_body());
  h.content_length.reset();
  h.chunked = true;
  CHECK(h.has_body());
  h.headers.push_back({"a", "b"});
  h.clear();
  CHECK_FALSE(h.has_body());
  CHECK(h.headers.empty());
  CHECK(h.keep_alive);
}

TEST_CASE("a page and a host are one origin when name and port are the same, the scheme's port being the usual one") {
  for (auto [origin, host] : {std::pair{"http://a", "a"},
                              {"http://a:80", "a"},
                              {"http://a", "a:80"},
                              {"https://a", "a:443"},
                              {"HTTPS://A.Example:443", "a.example"},
                              {"http://[::1]:8080", "[::1]:8080"},
                              {"http://a:", "a"}})
    CHECK(same_origin(origin, host));
  for (auto [origin, host] : {std::pair{"http://a", "b"},
                              {"http://a:81", "a"},
                              {"https://a", "a:80"},
                              {"null", "a"},
                              {"", ""},
                              {"ftp://a", "a"},
                              {"a", "a"},
                              {"http://a/", "a"},
                              {"http://u@a", "a"},
                              {"http://a.b", "a"},
                              {"http://", ""}})
    CHECK_FALSE(same_origin(origin, host));
}

TEST_CASE("Accept counts where it names the type itself and its q is above 0 and well-formed") {
  auto accepts = [](std::string_view value) {
    return accepts_literally(with({{"Accept", value}}), "text/event-stream");
  };
  for (auto yes : {"text/event-stream", "TEXT/Event-Stream", "text/html, text/event-stream", "text/event-stream;q=1",
                   "text/event-stream;q=1.000", "text/event-stream; q=0.001", "text/event-stream;charset=utf-8;Q=0.5",
                   "text/event-stream;q=0, text/event-stream"})
    CHECK(accepts(yes));
  for (auto no :
       {"", "*/*", "text/*", "text/event-stream;q=0", "text/event-stream;q=0.000", "text/event-stream;q=1.001",
        "text/event-stream;q=2", "text/event-stream;q=", "text/event-stream;q=.5", "text/event-stream;q=0.0001",
        "text/event-stream;q=0.x", "text/event-streams"})
    CHECK_FALSE(accepts(no));
}

TEST_CASE("Prefer's wait is the first there is, digits alone, and bounded") {
  auto wait = [](std::string_view value) { return prefer_wait(with({{"Prefer", value}})); };
  CHECK(wait("wait=5") == 5);
  CHECK(wait("respond-async, WAIT = \"10\"; x=y") == 10);
  CHECK(wait("wait=1, wait=2") == 1);
  CHECK(wait("wait=0") == 0);
  CHECK(wait("wait=2147483647") == 2147483647u);
  CHECK(wait("wait=2147483648") == 2147483648u);
  CHECK(wait("wait=2147483649") == 2147483648u);
  CHECK(wait("wait=99999999999999999999999999999999") == 2147483648u);
  for (auto none : {"", "wait", "wait=", "wait=\"\"", "wait=-1", "wait=1s", "waits=1", "wait=x, wait=2"})
    CHECK_FALSE(wait(none));
}

TEST_CASE("entity tags lose their quotes and their weakness, and keep their commas") {
  auto tags = [](std::string_view value) {
    std::string out;
    any_entity_tag(with({{"If-None-Match", value}}),
                   [&](std::string_view tag) { return out += '<' + std::string(tag) + '>', false; });
    return out;
  };
  CHECK(tags("\"a\"") == "<a>");
  CHECK(tags("W/\"a,b\", \"c\",,\"\"") == "<a,b><c><>");
  CHECK(tags("*") == "");
  CHECK(tags("a, \"b\"") == "");
  CHECK(tags("\"a\" \"b\"") == "");
  CHECK(tags("\"a\", \"b") == "<a>");
  CHECK(tags("\"a b\"") == "");
  CHECK(tags("w/\"a\"") == "");
  CHECK(any_entity_tag(with({{"If-None-Match", "\"a\", \"b\""}}), [](std::string_view tag) { return tag == "b"; }));
}

TEST_CASE("any bytes are read by every function to their end, and no further") {
  std::mt19937 random(9110);
  const std::string letters = "aA0:;,.\"\\[]%= \tW/*@qwait\x7f\r\n\xff";
  for (int i = 0; i < 20'000; ++i) {
    std::vector<char> exact(random() % 24);  // no zero behind it: what reads on is seen by the sanitizer
    for (char& c : exact) c = letters[random() % letters.size()];
    const std::string_view s(exact.data(), exact.size());
    parse_authority(s);
    same_origin(s, s);
    const head h = with({{"accept", s}, {"prefer", s}, {"if-none-match", s}});
    accepts_literally(h, "a");
    if (auto n = prefer_wait(h)) CHECK(*n <= std::uint64_t{1} << 31);
    any_entity_tag(h, [](std::string_view tag) { return tag.size() > 24; });
    std::size_t elements = 0;
    for (std::string_view rest = s; rest.data(); ++elements) next_element(rest);
    CHECK(elements <= exact.size() + 1);
  }
}

TEST_CASE("each status that this library can send has its phrase") {
  for (int status : {100, 101, 200, 201, 204, 304, 400, 401, 403, 404, 405, 406, 408,
                     409, 413, 415, 416, 417, 426, 429, 431, 500, 501, 503, 505})
    CHECK_FALSE(reason_phrase(status).empty());
  CHECK(reason_phrase(413) == "Content Too Large");
  for (int status : {-1, 0, 99, 199, 299, 600, 1 << 30}) CHECK(reason_phrase(status).empty());
}

}  // namespace

namespace {
template <std::size_t n>
void is_found_in_any_case_alone(const char (&lower)[n]) {
  std::string upper(lower);
  for (char& c : upper)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  CHECK(is_named(lower, lower));
  CHECK(is_named(upper, lower));
  CHECK_FALSE(is_named(upper + 'a', lower));
  CHECK_FALSE(is_named(upper.substr(1), lower));
  CHECK_FALSE(is_named("", lower));
  std::size_t wrong = 0;
  for (std::size_t place = 0; place < upper.size(); ++place) {
    for (int c = 0; c < 256; ++c) {
      std::string name(upper);
      name[place] = static_cast<char>(c);
      if (is_token(name)) wrong += is_named(name, lower) != iequals(name, lower);
    }
  }
  CHECK(wrong == 0);
}
}  // namespace

TEST_CASE("a header's name is compared in any case, in words") {
  is_found_in_any_case_alone("host");
  is_found_in_any_case_alone("range");
  is_found_in_any_case_alone("expect");
  is_found_in_any_case_alone("if-none");
  is_found_in_any_case_alone("x-length");
  is_found_in_any_case_alone("connection");
  is_found_in_any_case_alone("if-none-match");
  is_found_in_any_case_alone("sec-websocket-protocol");
}
