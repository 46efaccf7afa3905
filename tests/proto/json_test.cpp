// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/json.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "catch.hpp"

namespace json = hailwire::proto::json;
using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

json::error error_of(std::string_view text, const json::limits& bounds = {}) { return json::validate(text, bounds); }
bool accepts(std::string_view text, const json::limits& bounds = {}) { return !error_of(text, bounds); }

/// Seeded: every run sees the same documents.
class generator {
 public:
  explicit generator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return random_() % n; }

  std::string document() {
    std::string out;
    value(out, 0);
    return out;
  }

  std::string object() {
    std::string out;
    space(out);
    members(out, 0, true);
    space(out);
    return out;
  }

  std::string quoted() {
    std::string out = "\"";
    for (std::size_t n = below(4) ? below(6) : below(40); n; --n) character(out);
    return out += '"';
  }

  /// A few changes that often, but not always, make a document something else than JSON.
  std::string mutate(std::string text, const std::string& other) {
    for (std::size_t n = 1 + below(3); n; --n) {
      std::size_t at = below(text.size() + 1);
      static constexpr std::string_view likely =
          "{}[]\",:\\u0123456789abdefDtrn.+-eE \t\r\n\0\x1F\x7F\x80\xBF\xC2\xE0\xED\xF0\xF4\xFF"sv;
      switch (below(6)) {
        case 0:
          text.insert(at, 1, likely[below(likely.size())]);
          break;
        case 1:
          if (at < text.size()) text[at] = likely[below(likely.size())];
          break;
        case 2:
          text.erase(at, 1 + below(3));
          break;
        case 3:
          text.insert(at, text.substr(below(text.size() + 1), below(8)));
          break;
        case 4:
          text.replace(at, below(8), other.substr(below(other.size() + 1), below(8)));
          break;
        case 5:
          if (at < text.size()) text[at] = static_cast<char>(below(256));
          break;
      }
    }
    return text;
  }

 private:
  void space(std::string& out) {
    if (below(4) == 0)
      for (std::size_t n = below(4); n; --n) out += " \t\r\n"[below(4)];
  }

  void character(std::string& out) {
    static constexpr std::string_view escapes[] = {"\\\"",   "\\\\", "\\/",     "\\b",     "\\f",     "\\n",
                                                   "\\r",    "\\t",  "\\u0000", "\\u00e9", "\\u20AC", "\\ud83d\\ude00",
                                                   "\\uFFFF"};
    static constexpr std::string_view letters[] = {
        "é", "ß", "€", "日", "😀", "\x7F", "\u2028", "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF"};
    switch (below(8)) {
      case 0:
        out += escapes[below(std::size(escapes))];
        break;
      case 1:
        out += letters[below(std::size(letters))];
        break;
      default:
        out += "abcdefgh /{}[]:,'0"[below(18)];
    }
  }

  void number(std::string& out) {
    auto digits = [&] {
      for (std::size_t n = 1 + below(5); n; --n) out += static_cast<char>('0' + below(10));
    };
    if (below(3) == 0) out += '-';
    if (below(3) == 0)
      out += '0';
    else
      out += static_cast<char>('1' + below(9)), digits();
    if (below(4) == 0) out += '.', digits();
    if (below(4) == 0) {
      out += "eE"[below(2)];
      if (below(2)) out += "+-"[below(2)];
      out += static_cast<char>('0' + below(10));
    }
  }

  void members(std::string& out, int depth, bool object) {
    out += object ? '{' : '[';
    space(out);
    for (std::size_t n = below(5), i = 0; i < n; ++i) {
      if (i) out += ',', space(out);
      if (object) out += quoted(), space(out), out += ':', space(out);
      value(out, depth + 1);
    }
    out += object ? '}' : ']';
  }

  void value(std::string& out, int depth) {
    space(out);
    switch (below(depth < 5 ? 8 : 5)) {
      case 0:
        out += "null";
        break;
      case 1:
        out += below(2) ? "true" : "false";
        break;
      case 2:
        number(out);
        break;
      case 3:
      case 4:
        out += quoted();
        break;
      default:
        members(out, depth, below(2));
    }
    space(out);
  }

  std::mt19937 random_;
};

/// What nlohmann/json says of a text, and why it refuses.
struct oracle : nlohmann::json_sax<nlohmann::json> {
  std::string why;
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& e) override {
    why = e.what();
    return false;
  }
  bool accepts(const std::string& text) { return nlohmann::json::sax_parse(text, this); }
};

/// The differences that json.hpp states: nlohmann/json skips a byte order mark, takes a NUL for the end, has no limit
/// of depth, and refuses lone surrogates and numbers that no double holds.
bool differ_as_documented(const std::string& text, json::error ours, const std::string& theirs) {
  if (ours) return text.starts_with("\xEF\xBB\xBF") || text.find('\0') != text.npos || ours.what == "nested too deep"sv;
  return theirs.find("surrogate") != theirs.npos || theirs.find("number overflow") != theirs.npos;
}

void compare(const std::string& text) {
  auto ours = json::validate(text);
  oracle theirs;
  bool they = theirs.accepts(text);
  if (!ours != they && !differ_as_documented(text, ours, theirs.why)) {
    CAPTURE(text, theirs.why, ours.at, ours.what ? ours.what : "accepted");
    FAIL("the two readers disagree");
  }
  // The functions that gather refuse the same texts, at the same byte, as the one that does not.
  hailwire::detail::vector<json::member> members;
  hailwire::detail::vector<json::value> elements;
  auto first = text.find_first_not_of(" \t\r\n");
  bool object = first != text.npos && text[first] == '{', array = first != text.npos && text[first] == '[';
  auto as_object = json::read_object(text, members), as_array = json::read_array(text, elements);
  bool same = object ? (ours ? as_object.what == ours.what && as_object.at == ours.at
                             : !as_object || as_object.what == "two members have the same name"sv)
                     : bool(as_object);
  same = same && (array ? as_array.what == ours.what && as_array.at == ours.at : bool(as_array));
  if (!same) {
    CAPTURE(text, ours.at, as_object.at, as_array.at);
    FAIL("the functions disagree");
  }
}

/// RFC 3629, section 4, as its table stands there.
bool is_character(const std::string& s) {
  auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  auto in = [&](std::size_t i, int from, int to) { return at(i) >= from && at(i) <= to; };
  switch (s.size()) {
    case 1:
      return in(0, 0, 0x7F);
    case 2:
      return in(0, 0xC2, 0xDF) && in(1, 0x80, 0xBF);
    case 3:
      return in(2, 0x80, 0xBF) &&
             ((in(0, 0xE0, 0xE0) && in(1, 0xA0, 0xBF)) || (in(0, 0xE1, 0xEC) && in(1, 0x80, 0xBF)) ||
              (in(0, 0xED, 0xED) && in(1, 0x80, 0x9F)) || (in(0, 0xEE, 0xEF) && in(1, 0x80, 0xBF)));
    case 4:
      return in(2, 0x80, 0xBF) && in(3, 0x80, 0xBF) &&
             ((in(0, 0xF0, 0xF0) && in(1, 0x90, 0xBF)) || (in(0, 0xF1, 0xF3) && in(1, 0x80, 0xBF)) ||
              (in(0, 0xF4, 0xF4) && in(1, 0x80, 0x8F)));
    default:
      return false;
  }
}

/// Whether `s` splits into characters that may stand unescaped inside a string.
bool may_stand_in_string(const std::string& s) {
  for (std::size_t i = 0, n; i < s.size(); i += n) {
    for (n = 1; n <= 4 && i + n <= s.size() && !is_character(s.substr(i, n)); ++n) {
    }
    if (n > 4 || i + n > s.size()) return false;
    if (n == 1 && (static_cast<unsigned char>(s[i]) < 0x20 || s[i] == '"' || s[i] == '\\')) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("accepts every kind of JSON value, alone and with white space around it") {
  for (auto text : {"null",
                    "true",
                    "false",
                    "0",
                    "-0",
                    "10",
                    "-1.5",
                    "1e5",
                    "1E+5",
                    "0.0e-0",
                    "1e999",
                    "123456789012345678901234567890",
                    "\"\"",
                    "\"a\"",
                    "[]",
                    "{}",
                    "[1]",
                    "[1,2]",
                    "[[],{}]",
                    "{\"a\":1}",
                    "{\"a\":{\"b\":[]},\"c\":\"d\"}",
                    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0aFf\"",
                    "\"\x7F\"",
                    "\"\\ud800\"",
                    "\"\\udc00\\ud800\""}) {
    CAPTURE(text);
    CHECK(accepts(text));
    CHECK(accepts(" \t\r\n"s + text + "\n\r\t "));
  }
}

TEST_CASE("refuses what is not JSON, at the byte that shows it") {
  struct refused {
    std::string_view text;
    std::size_t at;
  };
  for (auto [text, at] : std::initializer_list<refused>{{"", 0},
                                                        {"  ", 2},
                                                        {"nul", 0},
                                                        {"nulL", 0},
                                                        {"True", 0},
                                                        {"nullx", 4},
                                                        {"true false", 5},
                                                        {"-", 1},
                                                        {"+1", 0},
                                                        {"01", 1},
                                                        {"-01", 2},
                                                        {"1.", 2},
                                                        {".5", 0},
                                                        {"1.e5", 2},
                                                        {"1e", 2},
                                                        {"1e+", 3},
                                                        {"0x10", 1},
                                                        {"1_000", 1},
                                                        {"NaN", 0},
                                                        {"-Infinity", 1},
                                                        {"\"", 1},
                                                        {"\"a", 2},
                                                        {"\"\\\"", 3},
                                                        {"\"\\", 2},
                                                        {"\"\\x\"", 1},
                                                        {"\"\\u12g4\"", 1},
                                                        {"\"\\u12\"", 1},
                                                        {"\"\\u\"", 1},
                                                        {"\"\t\"", 1},
                                                        {"\"a\nb\"", 2},
                                                        {"\"\0\""sv, 1},
                                                        {"\"\x1F\"", 1},
                                                        {"\"\x80\"", 1},
                                                        {"\"\xC0\x80\"", 1},
                                                        {"\"a\xC2\"", 2},
                                                        {"'a'", 0},
                                                        {"[", 1},
                                                        {"[1", 2},
                                                        {"[1,", 3},
                                                        {"[1,]", 3},
                                                        {"[,1]", 1},
                                                        {"[1 2]", 3},
                                                        {"[1]]", 3},
                                                        {"]", 0},
                                                        {"[}", 1},
                                                        {"[1}", 2},
                                                        {"[//\n1]", 1},
                                                        {"{", 1},
                                                        {"{\"a\"", 4},
                                                        {"{\"a\":", 5},
                                                        {"{\"a\":}", 5},
                                                        {"{\"a\":1", 6},
                                                        {"{\"a\":1,", 7},
                                                        {"{\"a\":1,}", 7},
                                                        {"{,}", 1},
                                                        {"{\"a\" 1}", 5},
                                                        {"{a:1}", 1},
                                                        {"{1:1}", 1},
                                                        {"{\"a\":1]", 6},
                                                        {"{\"a\":1 \"b\":2}", 7},
                                                        {"{\"a\"::1}", 5},
                                                        {"[{\"a\":1]}", 7},
                                                        {"\xEF\xBB\xBF{}", 0},
                                                        {"{}\0"sv, 2},
                                                        {"\xC2\xA0"
                                                         "1",
                                                         0},
                                                        {"\v1", 0},
                                                        {"\f1", 0},
                                                        {"/**/1", 0},
                                                        {"1,2", 1},
                                                        {"{}{}", 2}}) {
    CAPTURE(text);
    auto e = error_of(text);
    CHECK(e);
    CHECK(e.at == at);
  }
}

TEST_CASE("knows the nine escapes and no other") {
  for (int c = 0; c < 256; ++c) {
    CAPTURE(c);
    auto text = "\"\\"s + static_cast<char>(c) + "00e9\"";
    CHECK(accepts(text) == ("\"\\/bfnrtu"sv.find(static_cast<char>(c)) != std::string_view::npos));
  }
  CHECK(error_of("\"\x1F\"").what == "a control character in a string is not escaped"sv);
  CHECK(error_of("\"\xBF\"").what == "not UTF-8"sv);
}

TEST_CASE("refuses every beginning of a document that is not yet whole") {
  const auto text = R"({"a":[1,-2.5e+3,{"b":"c\u00e9\\d"}],"é😀":[[],{},null,true,false]})"s;
  REQUIRE(accepts(text));
  for (std::size_t n = 0; n < text.size(); ++n) {
    CAPTURE(n);
    auto e = error_of(std::string_view(text).substr(0, n));
    CHECK(e);
    CHECK(e.at <= n);
  }
}

TEST_CASE("counts the depth of what is open at once, and stops at the limit") {
  auto nested = [](std::size_t n, char open, char close) { return std::string(n, open) + std::string(n, close); };
  CHECK(accepts(nested(64, '[', ']')));
  CHECK(error_of(nested(65, '[', ']')).what == "nested too deep"sv);
  CHECK(error_of(nested(65, '[', ']')).at == 64);
  CHECK(accepts("[" + nested(63, '[', ']') + "," + nested(63, '[', ']') + "]"));
  std::string objects;
  for (int i = 0; i < 63; ++i) objects += "{\"a\":";
  CHECK(accepts(objects + "{}" + std::string(63, '}')));
  CHECK_FALSE(accepts(objects + "[[]]" + std::string(63, '}')));
  CHECK(accepts("1", {.depth = 0}));
  CHECK_FALSE(accepts("[]", {.depth = 0}));
  CHECK(accepts(nested(1024, '[', ']'), {.depth = 1000000}));
  CHECK_FALSE(accepts(nested(1025, '[', ']'), {.depth = 1000000}));
  CHECK_FALSE(accepts(std::string(1000000, '['), {.depth = 1000000}));
}

TEST_CASE("knows an object from an array on every level") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::string open, close;
    for (std::size_t n = 1 + random() % 200; n; --n) {
      bool object = random() % 2;
      open += object ? "{\"a\":" : "[";
      close.insert(0, object ? "}" : "]");
    }
    CHECK(accepts(open + "0" + close, {.depth = 200}));
    std::size_t at = random() % close.size();
    close[at] = close[at] == ']' ? '}' : ']';
    CHECK(error_of(open + "0" + close, {.depth = 200}).at == open.size() + 1 + at);
  }
}

TEST_CASE("takes into a string exactly what is UTF-8 and may stand there unescaped, wherever it lies") {
  const std::string edge =
      "\x1F\x20\x22\x41\x5C\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF"s +
      '\0';
  std::size_t wrong = 0;
  std::string text, part;
  auto check = [&](std::size_t pad) {
    if (part.find('\\') != part.npos) return;  // escapes are another matter
    text.assign(1, '"').append(pad, 'x').append(part).append("yyyyyyyyy\"");
    // A quote inside `part` ends the string, and what follows it is refused.
    wrong += accepts(text) != may_stand_in_string(part);
  };
  for (char a : edge)
    for (char b : edge)
      for (char c : edge) {
        part = {a, b, c};
        for (std::size_t pad = 0; pad < 9; ++pad) check(pad);
        for (char d : edge)
          if (static_cast<unsigned char>(a) >= 0xF0) part = {a, b, c, d}, check(5);
      }
  for (int a = 0; a < 256; ++a) {
    part = {static_cast<char>(a)};
    for (std::size_t pad = 0; pad < 9; ++pad) check(pad);
    for (int b = 0; b < 256; ++b) part = {static_cast<char>(a), static_cast<char>(b)}, check(7);
  }
  CHECK(wrong == 0);
}

TEST_CASE("agrees with nlohmann/json on generated documents and on damaged ones") {
  std::size_t accepted = 0, refused = 0;
  generator make(1);
  std::string other = make.document();
  for (int i = 0; i < 6000; ++i) {
    auto text = make.document();
    if (!accepts(text)) {
      CAPTURE(text, error_of(text).what, error_of(text).at);
      FAIL("a generated document is refused");
    }
    compare(text);
    for (int k = 0; k < 6; ++k) {
      auto damaged = make.mutate(text, other);
      compare(damaged);
      ++(accepts(damaged) ? accepted : refused);
    }
    other = std::move(text);
  }
  // Both answers have to be frequent, or the comparison says little.
  CHECK(accepted > 2000);
  CHECK(refused > 2000);
}

TEST_CASE("refuses a text that ends with a bracket at the same byte as one that goes on behind it") {
  // The walk asks for the end of the text only where no bracket is its last byte.
  auto check = [](const std::string& text) {
    const json::error alone = error_of(text), followed = error_of(text + "x");
    INFO(text);
    REQUIRE(followed);
    if (!alone) {
      REQUIRE(followed.at == text.size());
      REQUIRE(followed.what == "something follows the value"sv);
    } else if (followed.at < text.size()) {
      REQUIRE(alone.at == followed.at);
      REQUIRE(alone.what == followed.what);
    } else {  // what is due behind the last bracket
      REQUIRE(alone.at == text.size());
    }
    for (std::string_view space : {" ", "\n", " \r\n\t"}) {
      const json::error padded = error_of(text + std::string(space));
      REQUIRE(!padded == !alone);
    }
  };
  for (const char* text : {"{}",       "[]",     "[[]]", "[[]",   "[{}",      "[]]",  "{\"a\":[}", "{\"a}", "{\"a\"}",
                           "{\"a\":}", "[1}",    "[1,]", "[tru]", "[-]",      "[1.]", "[1e]",      "[1e+]", "{\"a\":1]",
                           "[\"]",     "[\"\\]", "}",    "]",     "[\"a\" ]", "{ }",  "[ ]",       "[1 2]"})
    check(text);
  generator random(17);
  for (int i = 0; i < 20'000; ++i) {
    std::string text = random.mutate(random.object(), random.document());
    while (!text.empty() && text.back() != '}' && text.back() != ']') text.pop_back();
    if (!text.empty()) check(text);
  }
}

TEST_CASE("agrees with nlohmann/json on short texts of telling bytes") {
  static constexpr std::string_view pieces[] = {
      "{", "}",    "[",    "]", ",",  ":",  "\"",      "\"a\"", "1",       "0",       "-",    ".",    "e",
      "+", "true", "null", " ", "\n", "\\", "\\u00e9", "\\n",   "\\ud800", "\\udc00", "\xC3", "\xA9", "x"};
  std::mt19937 random(7);
  for (int i = 0; i < 60000; ++i) {
    std::string text;
    for (std::size_t n = 1 + random() % 9; n; --n) text += pieces[random() % std::size(pieces)];
    compare(text);
  }
}

TEST_CASE("gives the members of an object as they were written") {
  hailwire::detail::vector<json::member> members;
  members.resize(3);
  const auto text = R"( {"a" : 1 , "b\u0063":[1, {"x":2}],"":"" , "é":{ } } )"s;
  REQUIRE_FALSE(json::read_object(text, members));
  REQUIRE(members.size() == 4);
  CHECK(members[0].name == "a");
  CHECK(members[0].content.type == json::kind::number);
  CHECK(members[0].content.text == "1");
  CHECK(members[1].name == "b\\u0063");
  CHECK(members[1].content.type == json::kind::array);
  CHECK(members[1].content.text == R"([1, {"x":2}])");
  CHECK(members[2].name.empty());
  CHECK(members[2].content.text == "\"\"");
  CHECK(members[3].name == "é");
  CHECK(members[3].content.text == "{ }");
  CHECK(members[0].content.text.data() == text.data() + 8);
}

TEST_CASE("gives the elements of an array as they were written") {
  hailwire::detail::vector<json::value> elements;
  elements.resize(3);
  REQUIRE_FALSE(json::read_array(" [ 1.0 ,\"a\" , [ ],{\"a\":{}}, true,null] ", elements));
  REQUIRE(elements.size() == 6);
  const json::kind kinds[] = {json::kind::number, json::kind::string,  json::kind::array,
                              json::kind::object, json::kind::boolean, json::kind::null};
  const std::string_view texts[] = {"1.0", "\"a\"", "[ ]", "{\"a\":{}}", "true", "null"};
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(elements[i].type == kinds[i]);
    CHECK(elements[i].text == texts[i]);
  }
  REQUIRE_FALSE(json::read_array("[ ]", elements));
  CHECK(elements.empty());
}

TEST_CASE("gives a value without the white space around it") {
  json::value v;
  REQUIRE_FALSE(json::read_value("\n [1 , 2]\t", v));
  CHECK(v.type == json::kind::array);
  CHECK(v.text == "[1 , 2]");
}

TEST_CASE("reads as an object or array only what is one") {
  hailwire::detail::vector<json::member> members;
  hailwire::detail::vector<json::value> elements;
  for (auto text : {"", " ", "[]", "1", "\"{}\"", "null"}) CHECK(json::read_object(text, members));
  for (auto text : {"", " ", "{}", "1", "\"[]\"", "null"}) CHECK(json::read_array(text, elements));
}

TEST_CASE("checks nested values and what follows also where only the outermost members are asked for") {
  hailwire::detail::vector<json::member> members;
  hailwire::detail::vector<json::value> elements;
  for (auto text :
       {R"({"a":[1,]})", R"({"a":{"b":tru}})", R"({"a":1}x)", R"({"a":1,})", R"({"a":1)", "{\"a\":\"\xFF\"}"}) {
    CAPTURE(text);
    auto e = json::read_object(text, members);
    CHECK(e);
    CHECK(e.at == error_of(text).at);
    auto wrapped = "["s + text + "]";
    CHECK(json::read_array(wrapped, elements).at == error_of(wrapped).at);
    CHECK(json::read_array(wrapped, elements));
  }
}

TEST_CASE("keeps the members that stood before an error") {
  hailwire::detail::vector<json::member> members;
  CHECK(json::read_object(R"({"id":1,"a":[},"b":2})", members));
  REQUIRE(members.size() == 1);
  CHECK(members[0].name == "id");
}

TEST_CASE("agrees with nlohmann/json on what the members of an object are") {
  generator make(2);
  hailwire::detail::vector<json::member> members;
  std::size_t duplicates = 0;
  for (int i = 0; i < 5000; ++i) {
    auto text = make.object();
    auto theirs = nlohmann::json::parse(text);
    auto ours = json::read_object(text, members);
    CAPTURE(text);
    if (ours) {
      ++duplicates;
      REQUIRE(ours.what == "two members have the same name"sv);
      REQUIRE(theirs.size() < members.size());
      continue;
    }
    REQUIRE(theirs.size() == members.size());
    for (const auto& m : members) {
      auto name = json::unescape("\"" + std::string(m.name) + "\"");
      REQUIRE(name);
      REQUIRE(json::name_is(m, *name));
      REQUIRE(theirs.contains(*name));
      REQUIRE(nlohmann::json::parse(m.content.text) == theirs[*name]);
    }
  }
  CHECK(duplicates > 20);
}

TEST_CASE("refuses two members of one name, however it is written") {
  hailwire::detail::vector<json::member> members;
  auto refuses = [&](const std::string& text) { return bool(json::read_object(text, members)); };
  CHECK(refuses(R"({"a":1,"a":1})"));
  CHECK(refuses(R"({"a":1,"b":2,"\u0061":3})"));
  CHECK(refuses(R"({"":1,"":2})"));
  CHECK(refuses(R"({"\/":1,"/":2})"));
  CHECK(refuses(R"({"\ud83d\ude00":1,"😀":2})"));
  CHECK(refuses(R"({"\ud800":1,"\uD800":2})"));
  CHECK_FALSE(refuses(R"({"\ud800":1,"\ud801":2,"\udc00":3})"));
  CHECK_FALSE(refuses(R"({"a":1,"A":2,"a ":3,"aa":4})"));
  CHECK_FALSE(refuses(R"({"a":{"a":1},"b":[{"x":1,"x":2}]})"));
  for (std::size_t n : {15u, 16u, 17u, 18u, 100u, 4096u}) {
    CAPTURE(n);
    std::string text = "{";
    for (std::size_t i = 0; i < n; ++i) text += (i ? ",\"" : "\"") + std::to_string(i) + "\":1";
    CHECK_FALSE(refuses(text + "}"));
    if (n == 4096) continue;
    CHECK(refuses(text + ",\"7\":1}"));
    CHECK(refuses(text + ",\"\\u0037\":1}"));
  }
}

TEST_CASE("gathers no more members or elements than it was told") {
  hailwire::detail::vector<json::member> members;
  hailwire::detail::vector<json::value> elements;
  CHECK_FALSE(json::read_object(R"({"a":1,"b":2})", members, {.members = 2}));
  auto e = json::read_object(R"({"a":1,"b":2,"c":3})", members, {.members = 2});
  CHECK(e.what == json::too_many_members);
  CHECK(members.size() == 2);
  CHECK_FALSE(json::read_object(R"({"a":[1,2,3],"b":{"c":1,"d":2,"e":3}})", members, {.members = 2}));
  CHECK_FALSE(json::read_object("{}", members, {.members = 0}));
  CHECK(json::read_array("[1,2,3]", elements, {.members = 2}).what == json::too_many_members);
  CHECK_FALSE(json::read_array("[1,2]", elements, {.members = 2}));
  std::string many = "[0";
  for (int i = 1; i < 4096; ++i) many += ",0";
  CHECK_FALSE(json::read_array(many + "]", elements));
  CHECK(json::read_array(many + ",0]", elements));
}

TEST_CASE("compares names by the characters they stand for") {
  auto is = [](std::string_view written, std::string_view decoded) { return json::name_is({written, {}}, decoded); };
  CHECK(is("id", "id"));
  CHECK_FALSE(is("id", "Id"));
  CHECK(is("i\\u0064", "id"));
  CHECK(is("\\u0069\\u0064", "id"));
  CHECK(is("\\n\\\\\\\"", "\n\\\""));
  CHECK(is("\\ud83d\\ude00", "😀"));
  CHECK(is("\\u20ac", "€"));
  CHECK(is("\\u0000", "\0"sv));
  CHECK_FALSE(is("\\u0069", "id"));
  CHECK_FALSE(is("\\n", "\\n"));
  CHECK_FALSE(is("\\u0069", ""));
  CHECK_FALSE(is("\\ud800", "\xED\xA0\x80"));
  CHECK(is("", ""));
}

TEST_CASE("resolves escapes as nlohmann/json does") {
  generator make(3);
  for (int i = 0; i < 10000; ++i) {
    auto quoted = make.quoted();
    CAPTURE(quoted);
    auto ours = json::unescape(quoted);
    REQUIRE(ours);
    REQUIRE(*ours == nlohmann::json::parse(quoted).get<std::string>());
  }
}

TEST_CASE("resolves every \\u escape to its character, and none that has no character") {
  char quoted[16];
  for (unsigned c = 0; c < 0x10000; ++c) {
    std::snprintf(quoted, sizeof quoted, "\"\\u%04X\"", c);
    auto s = json::unescape(quoted);
    bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    if (bool(s) == surrogate || (s && (!is_character(*s) || *s != nlohmann::json::parse(quoted).get<std::string>())))
      FAIL(quoted);
  }
  for (auto lone : {R"("\ud800")", R"("\udfff")", R"("a\ud83db")", R"("\ud83d\n")", R"("\ud83d\ud83d\ude00")",
                    R"("\ude00\ud83d")", R"("\ud83d\u0041")", R"("\ud83d\udbff")", R"("\ud83d\ue000")"}) {
    CAPTURE(lone);
    CHECK_FALSE(json::unescape(lone));
    CHECK(accepts(lone));
  }
}

TEST_CASE("resolves nothing that is not one string") {
  for (auto text : {"", "\"", "a", "\"a", "a\"", "\"a\"b\"", "\"a\" ", " \"a\"", "\"\\\"", "\"\\u12\"", "\"\xFF\"",
                    "\"\n\"", "null"}) {
    CAPTURE(text);
    CHECK_FALSE(json::unescape(text));
  }
  CHECK(json::unescape("\"\"") == "");
}

TEST_CASE("quotes a text so that it is read back the same, escaping no more than it must") {
  std::string out = "x";
  json::append_quoted(out, "a\"b\\c\b\f\n\r\t\x01\x1F\0/\x7Fé\u2028😀"sv);
  CHECK(out == "x\"a\\\"b\\\\c\\b\\f\\n\\r\\t\\u0001\\u001f\\u0000/\x7Fé\u2028😀\"");
  out.clear();
  json::append_quoted(out, {});
  CHECK(out == "\"\"");
  generator make(4);
  for (int i = 0; i < 5000; ++i) {
    auto text = *json::unescape(make.quoted());
    out.clear();
    json::append_quoted(out, text);
    REQUIRE(out == nlohmann::json(text).dump());
    REQUIRE(json::unescape(out) == text);
  }
  for (int c = 0; c < 128; ++c)
    for (std::size_t pad = 0; pad < 10; ++pad) {
      auto text = std::string(pad, 'x') + static_cast<char>(c) + "yyyyyyyyyy";
      out.clear();
      json::append_quoted(out, text);
      // nlohmann/json escapes DEL only when asked for ASCII, as here nobody does.
      REQUIRE(out == nlohmann::json(text).dump());
    }
}

TEST_CASE("takes for an unsigned number only one that is written plainly") {
  auto read = [](std::string_view text, std::uint64_t max = UINT64_MAX) {
    json::value v;
    REQUIRE_FALSE(json::read_value(text, v));
    return json::to_uint(v, max);
  };
  CHECK(read("0") == 0u);
  CHECK(read("42") == 42u);
  CHECK(read("18446744073709551615") == UINT64_MAX);
  CHECK(read("9007199254740991", 9007199254740991u) == 9007199254740991u);
  CHECK(read("1000", 1000) == 1000u);
  for (auto text : {"-0", "-1", "1.0", "1e2", "1E0", "0.5", "18446744073709551616", "99999999999999999999999", "\"1\"",
                    "true", "null", "[]", "{}"}) {
    CAPTURE(text);
    CHECK_FALSE(read(text));
  }
  CHECK_FALSE(read("1001", 1000));
}

TEST_CASE("puts a JSON text on one line without changing what it means") {
  auto text = "{\r\n \"a\" :\n\r[1,\r2\n], \"b\":\"c\\r\\n\"}\n"s;
  auto before = nlohmann::json::parse(text);
  auto size = text.size();
  json::spaces_for_line_breaks(text);
  CHECK(text == "{   \"a\" :  [1, 2 ], \"b\":\"c\\r\\n\"} ");
  CHECK(text.size() == size);
  CHECK(nlohmann::json::parse(text) == before);
  generator make(5);
  for (int i = 0; i < 2000; ++i) {
    text = make.document();
    before = nlohmann::json::parse(text);
    json::spaces_for_line_breaks(text);
    REQUIRE(text.find_first_of("\r\n") == text.npos);
    REQUIRE(nlohmann::json::parse(text) == before);
  }
}
