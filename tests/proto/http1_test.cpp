// SPDX-License-Identifier: BSL-1.0
// Scripts: bytes in, a line that says what was understood out. Each script is also fed split in two at every byte and
// one byte at a time, each time from memory of exactly its size, so that a view into an earlier buffer is found out.
#include "hailwire/proto/http1.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::proto;
using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

/// Bytes on the heap with nothing behind them.
class exact {
 public:
  explicit exact(std::string_view s) : bytes_(std::make_unique<char[]>(s.size())), size_(s.size()) {
    std::copy(s.begin(), s.end(), bytes_.get());
  }
  std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t size_;
};

std::string describe(http1::progress p, const http1::head_parser& parser, const http1::head& h) {
  if (p == http1::progress::need_more) return "more";
  if (p == http1::progress::failed)
    return "failed " + std::string(code_name(parser.error().code)) + ": " + parser.error().message;
  std::string s = std::to_string(parser.size()) + " " + std::string(h.method) + " " + std::string(h.path) + " ?" +
                  std::string(h.query);
  s += " 1." + std::to_string(h.minor) + " @" + std::string(h.host);
  if (h.content_length) s += " length=" + std::to_string(*h.content_length);
  if (h.chunked) s += " chunked";
  if (h.keep_alive) s += " keep";
  if (h.expect_continue) s += " expect";
  for (auto& x : h.headers) s += " [" + std::string(x.name) + "=" + std::string(x.value) + "]";
  return s;
}

/// What is understood of `bytes`, however they arrive.
std::string read(std::string_view bytes, const http1::limits& l = {}) {
  auto feed = [&](const std::vector<std::size_t>& ends) {
    http1::head_parser parser(l);
    http1::head h;
    auto p = http1::progress::need_more;
    std::string said = "more";
    for (auto end : ends) {
      exact buffer(bytes.substr(0, end));
      p = parser.parse(buffer.view(), h);
      said = describe(p, parser, h);
      if (p != http1::progress::need_more) break;
    }
    if (p == http1::progress::failed) CHECK(parser.parse(bytes, h) == http1::progress::failed);
    return said;
  };
  auto whole = feed({bytes.size()});
  std::vector<std::size_t> each;
  for (std::size_t i = 0; i <= bytes.size(); ++i) each.push_back(i);
  CHECK(feed(each) == whole);
  std::size_t step = bytes.size() < 2000 ? 1 : 997;
  for (std::size_t i = 0; i < bytes.size(); i += step) {
    auto split = feed({i, bytes.size()});
    if (split != whole) {
      CAPTURE(i);
      CHECK(split == whole);
    }
  }
  return whole;
}

/// The word of the error that `bytes` give, or what they gave instead.
std::string refusal(std::string_view bytes, const http1::limits& l = {}) {
  auto said = read(bytes, l);
  if (said.substr(0, 7) != "failed ") return said;
  return said.substr(7, said.find(':') - 7);
}

std::string get(std::string_view lines) { return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(lines) + "\r\n"; }
std::string post(std::string_view lines) { return "POST / HTTP/1.1\r\nHost: a\r\n" + std::string(lines) + "\r\n"; }
std::string hosted(std::string_view host) { return "GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"; }
std::string line(std::string_view request_line) { return std::string(request_line) + "\r\nHost: a\r\n\r\n"; }

/// A head made of header lines, kept with the bytes its views point into.
struct parsed {
  explicit parsed(std::string_view lines) : bytes(get(lines)) {
    http1::head_parser parser;
    REQUIRE(parser.parse(bytes, head) == http1::progress::done);
  }
  std::string bytes;
  http1::head head;
};

/// What a chunked body gives, however it arrives: the body, `|`, what is left; or the error.
std::string decode(std::string_view bytes, std::size_t max_body = 1 << 20) {
  auto feed = [&](const std::vector<std::size_t>& ends) {
    http1::chunked_decoder decoder;
    std::string out;
    std::size_t from = 0;
    for (auto end : ends) {
      exact buffer(bytes.substr(from, end - from));
      auto in = buffer.view();
      auto p = decoder.decode(in, out, max_body);
      from = end;
      if (p == http1::progress::done) return out + "|" + std::string(in) + std::string(bytes.substr(end));
      if (p == http1::progress::failed) {
        CHECK(decoder.decode(in, out, max_body) == http1::progress::failed);
        return std::string(code_name(decoder.error().code)) + ": " + decoder.error().message;
      }
      CHECK(in.empty());
    }
    return "more " + out;
  };
  auto whole = feed({bytes.size()});
  std::vector<std::size_t> each;
  for (std::size_t i = 0; i <= bytes.size(); ++i) each.push_back(i);
  CHECK(feed(each) == whole);
  std::size_t step = bytes.size() < 2000 ? 1 : 997;
  for (std::size_t i = 0; i < bytes.size(); i += step) {
    auto split = feed({i, bytes.size()});
    if (split != whole) {
      CAPTURE(i);
      CHECK(split == whole);
    }
  }
  return whole;
}

std::string chunk_refusal(std::string_view bytes, std::size_t max_body = 1 << 20) {
  auto said = decode(bytes, max_body);
  auto colon = said.find(':');
  return colon == said.npos ? said : said.substr(0, colon);
}

}  // namespace

TEST_CASE("reads a request head") {
  CHECK(read("GET /live?channel=chat&since=x HTTP/1.1\r\nHost: example.org:8080\r\nAccept:  text/html "
             "\t\r\nX-Empty:\r\n\r\n") ==
        "99 GET /live ?channel=chat&since=x 1.1 @example.org:8080 keep [Host=example.org:8080] [Accept=text/html] "
        "[X-Empty=]");
  CHECK(read("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello") ==
        "48 POST /a ? 1.1 @a length=5 keep [Host=a] [Content-Length=5]");
  CHECK(read("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\tChunked\t\r\n\r\n0\r\n\r\n") ==
        "58 POST /a ? 1.1 @a chunked keep [host=a] [transfer-encoding=Chunked]");
  CHECK(read("GET //x/../y%2F?? HTTP/1.1\r\nHost: a\r\n\r\n") == "39 GET //x/../y%2F ?? 1.1 @a keep [Host=a]");
  CHECK(read("GET /|{}\"<>\\^` HTTP/1.1\r\nHost: a\r\n\r\n") == "36 GET /|{}\"<>\\^` ? 1.1 @a keep [Host=a]");
}

TEST_CASE("takes methods it does not know, with their case, and header values with opaque bytes") {
  CHECK(read(line("get / HTTP/1.1")) == "27 get / ? 1.1 @a keep [Host=a]");
  CHECK(read(line("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1")) == "46 M-SEARCH!#$%&'*+.^_`|~ / ? 1.1 @a keep [Host=a]");
  CHECK(read(get("X: \xC3\xA9\xFF\x80 a\tb\r\n")) == "40 GET / ? 1.1 @a keep [Host=a] [X=\xC3\xA9\xFF\x80 a\tb]");
}

TEST_CASE("waits for the rest of a head") {
  // The fragments of h1spec: none of them may be answered.
  auto all = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"sv;
  for (std::size_t n = 0; n < all.size(); ++n) CHECK(read(all.substr(0, n)) == "more");
  CHECK(read(all) == "40 GET /hello ? 1.1 @localhost keep [Host=localhost]");
}

TEST_CASE("a head that trickles in is not rescanned") {
  // Quadratic work over a head of 8 MB would take minutes; the limits are raised for it.
  http1::limits wide{std::size_t{1} << 23, std::size_t{1} << 24, 100};
  std::string bytes = get("X: " + std::string((std::size_t{1} << 23) - 10, 'x') + "\r\n");
  http1::head_parser parser(wide);
  http1::head h;
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    if (parser.parse(std::string_view(bytes).substr(0, n), h) != http1::progress::need_more) FAIL("at " << n);
  }
  CHECK(parser.parse(bytes, h) == http1::progress::done);
  CHECK(parser.size() == bytes.size());
}

TEST_CASE("reads pipelined heads one after another, into the same memory") {
  std::string bytes = "GET /1 HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nGET /3";
  std::string_view rest = bytes;
  http1::head_parser parser;
  http1::head h;
  REQUIRE(parser.parse(rest, h) == http1::progress::done);
  CHECK(h.path == "/1");
  auto* memory = h.headers.data();
  rest.remove_prefix(parser.size());
  parser.reset();
  REQUIRE(parser.parse(rest, h) == http1::progress::done);
  CHECK(h.path == "/2");
  CHECK(h.host == "b");
  CHECK(h.headers.size() == 1);
  CHECK(h.headers.data() == memory);
  rest.remove_prefix(parser.size());
  parser.reset();
  CHECK(parser.parse(rest, h) == http1::progress::need_more);
}

TEST_CASE("nothing of a request shows in the next") {
  http1::head_parser parser;
  http1::head h;
  REQUIRE(parser.parse("POST http://x/p?q HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: "
                       "100-continue\r\nConnection: close\r\n\r\n",
                       h) == http1::progress::done);
  CHECK(h.expect_continue);
  parser.reset();
  REQUIRE(parser.parse("GET /n HTTP/1.0\r\n\r\n", h) == http1::progress::done);
  CHECK(describe(http1::progress::done, parser, h) == "19 GET /n ? 1.0 @");
  parser.reset();
  REQUIRE(parser.parse("BAD\r\n", h) == http1::progress::failed);
  parser.reset();
  CHECK(parser.parse("GET /n HTTP/1.0\r\n\r\n", h) == http1::progress::done);
}

TEST_CASE("skips a few empty lines before a request, and counts them") {
  CHECK(read("\r\nGET / HTTP/1.0\r\n\r\n") == "20 GET / ? 1.0 @");
  CHECK(read("\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n") == "26 GET / ? 1.0 @");
  CHECK(refusal("\r\n\r\n\r\n\r\n\r\n") == "bad_request");
  CHECK(refusal("\nGET / HTTP/1.0\r\n\r\n") == "bad_request");
  CHECK(refusal("\r\r\nGET / HTTP/1.0\r\n\r\n") == "bad_request");
  CHECK(refusal(" \r\nGET / HTTP/1.0\r\n\r\n") == "bad_request");
}

TEST_CASE("knows the forms of a target") {
  CHECK(read("GET http://b:81/p/?q HTTP/1.1\r\nHost: a\r\n\r\n") == "42 GET /p/ ?q 1.1 @b:81 keep [Host=a]");
  CHECK(read("GET HTTPS://b HTTP/1.1\r\nHost: b\r\n\r\n") == "35 GET / ? 1.1 @b keep [Host=b]");
  CHECK(read("GET http://b?q=/ HTTP/1.1\r\nHost: b\r\n\r\n") == "38 GET / ?q=/ 1.1 @b keep [Host=b]");
  CHECK(read("GET http://[::1]/x HTTP/1.0\r\n\r\n") == "31 GET /x ? 1.0 @[::1]");
  CHECK(read("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") == "31 OPTIONS * ? 1.1 @a keep [Host=a]");
  CHECK(read("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n") == "38 OPTIONS * ? 1.1 @b keep [Host=a]");
  CHECK(read("OPTIONS http://b/ HTTP/1.1\r\nHost: a\r\n\r\n") == "39 OPTIONS / ? 1.1 @b keep [Host=a]");
}

TEST_CASE("refuses a target that is none") {
  for (auto target : {"*",
                      "a",
                      "a/b",
                      "example.org:80",
                      "?q",
                      "#",
                      "/#",
                      "/a#b",
                      "http:/a",
                      "http://",
                      "http:///x",
                      "http://?x",
                      "http:a",
                      "://a/",
                      "ftp://a/",
                      "ws://a/",
                      "javascript:alert(1)",
                      "http://u@a/",
                      "http://u:p@a/",
                      "http://a:b/",
                      "http://a:99999/",
                      "http://a b/",
                      "http://[::1/",
                      "http://[::g]/",
                      "http://a\\b/",
                      "/\x7F",
                      "/\x80",
                      "/caf\xC3\xA9",
                      "/\xC0\xAF",
                      "/\t",
                      "\\"}) {
    CAPTURE(target);
    CHECK(refusal(line("GET " + std::string(target) + " HTTP/1.1")) == "bad_request");
  }
  CHECK(refusal(line("OPTIONS ** HTTP/1.1")) == "bad_request");
  CHECK(refusal(line("options * HTTP/1.1")) == "bad_request");
  CHECK(refusal("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"s) == "bad_request");
}

TEST_CASE("answers CONNECT with not implemented") {
  CHECK(refusal("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n") == "not_implemented");
}

TEST_CASE("refuses a request line that is not three words with one space between") {
  for (auto text : {"GET /",
                    "GET / ",
                    "GET  / HTTP/1.1",
                    "GET /  HTTP/1.1",
                    "GET / HTTP/1.1 ",
                    " GET / HTTP/1.1",
                    "GET\t/\tHTTP/1.1",
                    "GET /\tHTTP/1.1",
                    "GET /a b HTTP/1.1",
                    "GET",
                    "GET HTTP/1.1",
                    "GET  HTTP/1.1",
                    "/ HTTP/1.1",
                    " / HTTP/1.1",
                    "HTTP/1.1 200 OK",
                    "HTTP/1.1",
                    "   ",
                    "Extra lineGET / HTTP/1.1",
                    "G@T / HTTP/1.1",
                    "GET: / HTTP/1.1",
                    "(GET) / HTTP/1.1",
                    "G\xC3\x89T / HTTP/1.1",
                    "\"GET\" / HTTP/1.1",
                    "\xEF\xBB\xBFGET / HTTP/1.1",
                    "GET\x0B/ HTTP/1.1",
                    "GET /\x0C HTTP/1.1",
                    "GET / HTTP/1.1\x01",
                    "GET / HTTP/1.1 HTTP/1.1"}) {
    CAPTURE(text);
    CHECK(refusal(line(text)) == "bad_request");
  }
  CHECK(refusal("GET\0/ HTTP/1.1\r\nHost: a\r\n\r\n"s) == "bad_request");
}

TEST_CASE("reads the version to the letter") {
  for (auto version :
       {"http/1.1", "HTTP/1",    "HTTP/1.",   "HTTP/.1", "HTTP/1.10", "HTTP/01.1",  "HTTP/1.01", "HTTP/11",
        "HTTP/1,1", "HTTP/ 1.1", "HTTP-1.1",  "HTTP1.1", "HTTP//1.1", "HTTP/1.1x",  "HTTP/x.y",  "HTTP/-1.1",
        "HTTP/1.+", "XTTP/1.1",  "HTTPS/1.1", "ICY/1.1", "RTSP/1.0",  "HTTP/\xB9.1"}) {
    CAPTURE(version);
    CHECK(refusal(line("GET / " + std::string(version))) == "bad_request");
  }
  for (auto version : {"HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.0"}) {
    CAPTURE(version);
    CHECK(refusal(line("GET / " + std::string(version))) == "http_version");
  }
  CHECK(refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == "http_version");
  CHECK(read(line("GET / HTTP/1.2")) == "27 GET / ? 1.1 @a keep [Host=a]");
  CHECK(read(line("GET / HTTP/1.9")) == "27 GET / ? 1.1 @a keep [Host=a]");
}

TEST_CASE("fails at the first bad byte, not at the end of a line that may never come") {
  CHECK(refusal("\x16\x03\x01") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\nHost: a\x01") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\rX") == "bad_request");
  CHECK(refusal("GET / FTP/1.1\r\n") == "bad_request");
}

TEST_CASE("the only line end is CRLF") {
  CHECK(refusal("GET / HTTP/1.1\nHost: a\n\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\nHost: a\r\n\r\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\nHost: a\n\r\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\nHost: a\r\n\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\rHost: a\r\r") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n") == "bad_request");
  CHECK(refusal(get("X: a\rContent-Length: 5\r\n")) == "bad_request");
  CHECK(refusal(get("X: a\nContent-Length: 5\r\n")) == "bad_request");
  CHECK(refusal(get("X: a\n\nGET /evil HTTP/1.1\r\n")) == "bad_request");
}

TEST_CASE("refuses a header line that is not a token, a colon and a value") {
  for (auto text : {"X : y",
                    "X\t: y",
                    "Content-Length : 5",
                    "Transfer-Encoding : chunked",
                    ": y",
                    ":",
                    "X",
                    "X y: z",
                    "X[]: y",
                    "X(: y",
                    "X@: y",
                    "\"X\": y",
                    "X\xC3\xAB: y",
                    "Content-Length\xA0: 5",
                    "X/Y: z",
                    "X{: y",
                    "X=y",
                    "X;: y",
                    "X,: y",
                    "X\\: y",
                    "X?: y"}) {
    CAPTURE(text);
    CHECK(refusal(get(std::string(text) + "\r\n")) == "bad_request");
  }
  for (int c = 0; c < 256; ++c) {
    CAPTURE(c);
    bool control = (c < 0x20 && c != '\t') || c == 0x7F;
    auto said = refusal(get("X: a" + std::string(1, static_cast<char>(c)) + "b\r\n"));
    CHECK((said == "bad_request") == control);
    bool letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  (c != 0 && std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos);
    if (c == ':') continue;  // `a: b: c` has a value of `b: c`
    said = refusal(get("a" + std::string(1, static_cast<char>(c)) + "b: c\r\n"));
    CHECK((said == "bad_request") == !letter);
  }
  CHECK(read(get("X:y:z: \r\n")) == "36 GET / ? 1.1 @a keep [Host=a] [X=y:z:]");
}

TEST_CASE("refuses folded header lines") {
  CHECK(refusal(get("X: a\r\n b\r\n")) == "bad_request");
  CHECK(refusal(get("X: a\r\n\tb\r\n")) == "bad_request");
  CHECK(refusal(get("X: a\r\n \r\n")) == "bad_request");
  CHECK(refusal(post("Transfer-Encoding:\r\n chunked\r\n")) == "bad_request");
  CHECK(refusal(post("Content-Length: 1\r\n 0\r\n")) == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\n Host: a\r\n\r\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n") == "bad_request");
}

TEST_CASE("wants exactly one well-formed Host of HTTP/1.1") {
  for (auto host : {"a", "example.org", "example.org:80", "example.org:", "localhost:65535", "127.0.0.1:8080", "[::1]",
                    "[::1]:80", "[2001:db8::1:0:0:1]", "a_b-c.d~e", "%61.example", "xn--nxasmq6b", "[::ffff:1.2.3.4]",
                    "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:1.2.3.4]", "[1::8]", "[::]", "[1::]"}) {
    CAPTURE(host);
    CHECK(read(hosted(host)).find(" @" + std::string(host) + " ") != std::string::npos);
  }
  for (auto host : {"",
                    " ",
                    "a b",
                    "a, b",
                    "a/b",
                    "a?b",
                    "a#b",
                    "u@a",
                    "u:p@a",
                    "a:b",
                    "a:80:80",
                    "a:65536",
                    "a:-1",
                    "a:+80",
                    "a:080000",
                    ":80",
                    ":",
                    "http://a",
                    "a\\b",
                    "\"a\"",
                    "<a>",
                    "a%",
                    "a%2",
                    "a%zz",
                    "[]",
                    "[",
                    "]",
                    "[::1",
                    "::1",
                    "[::1]a",
                    "[::1]80",
                    "[:1]",
                    "[1:]",
                    "[1:2]",
                    "[:::]",
                    "[1::2::3]",
                    "[12345::]",
                    "[g::]",
                    "[1:2:3:4:5:6:7:8:9]",
                    "[1:2:3:4:5:6:7::8]x",
                    "[::1.2.3]",
                    "[::1.2.3.256]",
                    "[::01.2.3.4]",
                    "[::1.2.3.4:5]",
                    "[1:2:3:4:5:6:7:1.2.3.4]",
                    "[1::2:3:4:5:6:7:8]",
                    "[fe80::1%25eth0]",
                    "[v1.a]",
                    "[1.2.3.4]",
                    "caf\xC3\xA9",
                    "a\tb",
                    "{a}",
                    "a|b",
                    "a^b"}) {
    CAPTURE(host);
    CHECK(refusal(hosted(host)) == "bad_request");
  }
  CHECK(refusal("GET / HTTP/1.1\r\n\r\n") == "bad_request");
  CHECK(refusal("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n") == "bad_request");
  CHECK(refusal("GET http://a/ HTTP/1.1\r\n\r\n") == "bad_request");
  CHECK(refusal("GET http://a/ HTTP/1.1\r\nHost: b/c\r\n\r\n") == "bad_request");
  CHECK(refusal(get("Host: a\r\n")) == "bad_request");
  CHECK(refusal(get("hOST: b\r\n")) == "bad_request");
  CHECK(refusal("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n") == "bad_request");
}

TEST_CASE("takes one Content-Length of plain digits") {
  CHECK(read(post("Content-Length: 0\r\n")) == "47 POST / ? 1.1 @a length=0 keep [Host=a] [Content-Length=0]");
  CHECK(read(post("content-LENGTH:\t10 \r\n")) == "49 POST / ? 1.1 @a length=10 keep [Host=a] [content-LENGTH=10]");
  CHECK(read(post("Content-Length: 18446744073709551615\r\n")).find("length=18446744073709551615 ") !=
        std::string::npos);
  for (auto value : {"",
                     "-1",
                     "-0",
                     "+5",
                     "-123456789123456789123456789",
                     "abc",
                     "5x",
                     "x5",
                     "0x5",
                     "0o5",
                     "05",
                     "00",
                     "0200",
                     "5,5",
                     "5, 5",
                     "5, 10",
                     ",5",
                     "5,",
                     "1 0",
                     "1_0",
                     "1.0",
                     "1e3",
                     "5;",
                     "\"5\"",
                     "18446744073709551616",
                     "99999999999999999999",
                     "\xB2",
                     "\xEF\xBC\x95"}) {
    CAPTURE(value);
    CHECK(refusal(post("Content-Length: " + std::string(value) + "\r\n")) == "bad_request");
  }
  CHECK(refusal(post("Content-Length: 5\r\nContent-Length: 5\r\n")) == "bad_request");
  CHECK(refusal(post("Content-Length: 5\r\nX: y\r\ncontent-length: 10\r\n")) == "bad_request");
  CHECK(refusal(post("Content-Length: 5\0\r\n"s)) == "bad_request");
  CHECK(refusal(post("Content-Length: 5\x0B\r\n")) == "bad_request");
  CHECK(read(post("Content_Length: 5\r\nContent-Length-: 7\r\n")).find("length=") == std::string::npos);
}

TEST_CASE("takes chunked alone for a transfer coding") {
  for (auto value : {"",
                     ",",
                     "chunked,",
                     ",chunked",
                     ", chunked",
                     "chunked, chunked",
                     "chunked,gzip",
                     "chunked, identity",
                     "identity",
                     "gzip",
                     "xchunked",
                     "chunkedx",
                     "chunked;a=b",
                     "chunk",
                     "\"chunked\"",
                     "'chunked'",
                     "[chunked]",
                     "chunked chunked",
                     "gzip chunked",
                     "gzip, chunked, gzip",
                     "gzip;q=\"a,chunked\"",
                     "ch\xC3\xBCnked",
                     "chunked\xA0"}) {
    CAPTURE(value);
    CHECK(refusal(post("Transfer-Encoding: " + std::string(value) + "\r\n")) == "bad_request");
  }
  CHECK(refusal(post("Transfer-Encoding: gzip, chunked\r\n")) == "not_implemented");
  CHECK(refusal(post("Transfer-Encoding: identity, Chunked\r\n")) == "not_implemented");
  CHECK(refusal(post("Transfer-Encoding: \x0B"
                     "chunked\r\n")) == "bad_request");
  CHECK(refusal(post("Transfer-Encoding: \x0C"
                     "chunked\r\n")) == "bad_request");
  CHECK(refusal(post("Transfer-Encoding: chunked\0\r\n"s)) == "bad_request");
  CHECK(refusal(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")) == "bad_request");
  CHECK(refusal(post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n")) == "bad_request");
  CHECK(refusal("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n") == "bad_request");
}

TEST_CASE("refuses two ways to frame one body, in either order") {
  CHECK(refusal(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")) == "bad_request");
  CHECK(refusal(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")) == "bad_request");
  CHECK(refusal(post("Transfer-Encoding: gzip\r\nContent-Length: 0\r\n")) == "bad_request");
  CHECK(refusal(post("tRANSFER-eNCODING: chunked\r\ncONTENT-lENGTH: +5\r\n")) == "bad_request");
}

TEST_CASE("keeps the connection as the version and the client say") {
  auto kept = [](std::string_view text) { return read(text).find(" keep") != std::string::npos; };
  CHECK(kept(get("")));
  CHECK(kept(get("Connection: keep-alive, Upgrade\r\n")));
  CHECK_FALSE(kept(get("Connection: close\r\n")));
  CHECK_FALSE(kept(get("Connection: Upgrade\r\nconnection: x, CLOSE\r\n")));
  CHECK_FALSE(kept(get("Connection: keep-alive, close\r\n")));
  CHECK(kept(get("Connection: closed\r\n")));
  CHECK(kept(get("Connection: \"x, close\"\r\n")));
  CHECK_FALSE(kept("GET / HTTP/1.0\r\n\r\n"));
  CHECK(kept("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
  CHECK_FALSE(kept("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
}

TEST_CASE("meets only the expectation of 100-continue") {
  auto expects = [](std::string_view text) { return read(text).find(" expect") != std::string::npos; };
  CHECK(expects(post("Content-Length: 5\r\nExpect: 100-Continue\r\n")));
  CHECK(expects(post("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")));
  CHECK_FALSE(expects(post("Expect: 100-continue\r\n")));
  CHECK_FALSE(expects(post("Content-Length: 0\r\nExpect: 100-continue\r\n")));
  CHECK_FALSE(expects(post("Content-Length: 5\r\nExpect:\r\n")));
  CHECK_FALSE(expects("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
  CHECK(refusal(post("Content-Length: 5\r\nExpect: 200-ok\r\n")) == "expectation");
  CHECK(refusal(post("Content-Length: 5\r\nExpect: 100-continue, more\r\n")) == "expectation");
  CHECK(refusal(get("Expect: 100-continue=1\r\n")) == "expectation");
}

TEST_CASE("every limit of a head holds to the byte") {
  http1::limits tight{20, 64, 2};
  CHECK(read("GET /23456 HTTP/1.1\r\nHost: a\r\n\r\n", tight).substr(0, 2) == "32");
  CHECK(read("GET /234567 HTTP/1.1\r\nHost: a\r\n\r\n", tight).substr(0, 2) == "33");
  CHECK(refusal("GET /2345678 HTTP/1.1\r\nHost: a\r\n\r\n", tight) == "headers_too_large");
  CHECK(refusal("GET /2345678 HTTP/1.1", tight) == "headers_too_large");  // without its end
  CHECK(refusal("G345678901234567890", tight) == "more");
  CHECK(refusal("G34567890123456789012", tight) == "headers_too_large");
  CHECK(refusal("GET / HTTP/1.1\r\nHost: a\r\nX: 456789012345678901", tight) == "headers_too_large");
  CHECK(read("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", tight).substr(0, 2) == "33");
  CHECK(refusal("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nX: y\r\n\r\n", tight) == "headers_too_large");
  std::string head = "GET / HTTP/1.1\r\nHost: " + std::string(14, 'a') + "\r\nX: " + std::string(17, 'x') + "\r\n\r\n";
  REQUIRE(head.size() == 62);
  CHECK(read("\r\n" + head, tight).substr(0, 2) == "64");
  CHECK(refusal("\r\n\r\n" + head, tight) == "headers_too_large");
  CHECK(refusal("\r\n\r\n" + head.substr(0, 60), tight) == "headers_too_large");
}

TEST_CASE("refuses floods by default") {
  CHECK(refusal("GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n") == "headers_too_large");
  CHECK(refusal(std::string(9000, 'G')) == "headers_too_large");
  CHECK(refusal(get("X: " + std::string(9000, 'a') + "\r\n")) == "headers_too_large");
  CHECK(refusal(get(std::string(9000, 'X') + ": a\r\n")) == "headers_too_large");
  std::string many, large;
  for (int i = 0; i < 99; ++i) many += "X: y\r\n";
  CHECK(read(get(many)).substr(0, 5) == "621 G");
  CHECK(refusal(get(many + "X: y\r\n")) == "headers_too_large");
  for (int i = 0; i < 20; ++i) large += "X: " + std::string(1000, 'x') + "\r\n";
  CHECK(refusal(get(large)) == "headers_too_large");
  CHECK(read("GET /" + std::string(7986, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n").substr(0, 6) ==
        "8013 G");  // RFC 9112, section 3: 8000 octets
}

TEST_CASE("finds headers in any case") {
  parsed p("Upgrade: h2c, WebSocket\r\nX-A: 1\r\nx-a: 2\r\nupgrade: , \"a,b\" , c\r\n");
  CHECK(p.head.find("x-A") == "1");
  CHECK(p.head.find("x-b").data() == nullptr);
  CHECK(p.head.count("X-a") == 2);
  CHECK(p.head.count("x-b") == 0);
  CHECK(p.head.has_token("upgrade", "websocket"));
  CHECK(p.head.has_token("upgrade", "C"));
  CHECK(p.head.has_token("upgrade", "\"a,b\""));
  CHECK_FALSE(p.head.has_token("upgrade", "b"));
  CHECK_FALSE(p.head.has_token("upgrade", ""));
  CHECK_FALSE(p.head.has_token("connection", "upgrade"));
  parsed empty("X-Empty:\r\n");
  CHECK(empty.head.find("x-empty").data() != nullptr);
  CHECK(empty.head.find("x-empty").empty());
}

TEST_CASE("decodes chunked bodies, and leaves what follows") {
  CHECK(decode("0\r\n\r\n") == "|");
  CHECK(decode("5\r\nhello\r\n0\r\n\r\nGET /") == "hello|GET /");
  CHECK(decode("5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n") == "hello world|");
  CHECK(decode("A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n") == "0123456789\r\n\r\n\r\n\r\n\r\n|");
  CHECK(decode("000000000000000a\r\n0123456789\r\n0\r\n\r\n") == "0123456789|");
  for (auto part :
       {"", "5", "5\r", "5\r\n", "5\r\nhell", "5\r\nhello", "5\r\nhello\r", "5\r\nhello\r\n", "5\r\nhello\r\n0",
        "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n\r", "0\r\nX", "0\r\nX: y\r\n", "0\r\nX: y\r\n\r"}) {
    CAPTURE(part);
    CHECK(decode(part).substr(0, 5) == "more ");
  }
}

TEST_CASE("checks and ignores chunk extensions") {
  CHECK(decode("5;a\r\nhello\r\n0;b=c\r\n\r\n") == "hello|");
  CHECK(decode("5;a=\"q;\\\"\\\\ \t\xC3\xA9\";b=1;c\r\nhello\r\n0\r\n\r\n") == "hello|");
  CHECK(decode("5 ; a = b ;\tc = \"\" ; d\r\nhello\r\n0\r\n\r\n") == "hello|");
  for (auto text : {"5;",           "5;;a",
                    "5;=",          "5;a=",
                    "5;a=;b",       "5;a[",
                    "5;a=[",        "5;a=\"",
                    "5;a=\"b\"c",   "5;a=\"b",
                    "5;a=b\"c\"",   "5;a b",
                    "5;a =",        "5;a ",
                    "5;a=b ",       "5 ",
                    "5\t",          "5 a",
                    "5,a",          "5;a\x01",
                    "5;a=\"\x01\"", "5;a=\"\\\x7F\"",
                    "5;\xC3\xA9",   "5;a=\"b\" "}) {
    CAPTURE(text);
    CHECK(chunk_refusal(std::string(text) + "\r\nhello\r\n0\r\n\r\n") == "bad_request");
  }
  CHECK(chunk_refusal("5;a\nhello\r\n0\r\n\r\n") == "bad_request");
  CHECK(chunk_refusal("5;a\rX\r\nhello\r\n0\r\n\r\n") == "bad_request");
  CHECK(chunk_refusal("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n") == "bad_request");
  CHECK(chunk_refusal("5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n") == "bad_request");
  CHECK(chunk_refusal("5;a\0\r\nhello\r\n0\r\n\r\n"s) == "bad_request");
}

TEST_CASE("refuses tricks with a chunk's size") {
  for (auto text : {"",
                    " 5",
                    "\t5",
                    "+5",
                    "-5",
                    "-1",
                    "+0",
                    "0x5",
                    "0X5",
                    "5h",
                    "g",
                    "1_0",
                    "5.0",
                    "\"5\"",
                    "x",
                    ";a",
                    "\xEF\xBC\x95",
                    "5\x0B",
                    "5\x0C",
                    "fffffffffffffffff",
                    "FFFFFFFFFFFFFFFF0",
                    "10000000000000005",
                    "00000000000000005"}) {
    CAPTURE(text);
    CHECK(chunk_refusal(std::string(text) + "\r\nhello\r\n0\r\n\r\n") == "bad_request");
  }
  CHECK(chunk_refusal("5\0\r\nhello\r\n0\r\n\r\n"s) == "bad_request");
}

TEST_CASE("wants the line ends of a chunked body where they belong") {
  for (auto text : {"5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello0\r\n\r\n",
                    "5\r\nhello\r0\r\n\r\n", "5\r\nhello!!\r\n0\r\n\r\n", "5\r\nhello\r\n\r\n0\r\n\r\n",
                    "5\r\nhel\r\n0\r\n\r\n", "5\r\r\nhello\r\n0\r\n\r\n", "0\r\n\n", "0\n\n", "0\r\n\rX",
                    "0\r\nX: y\n\r\n", "0\r\nX: y\r\n\n", "\r\n5\r\nhello\r\n0\r\n\r\n"}) {
    CAPTURE(text);
    CHECK(chunk_refusal(text) == "bad_request");
  }
}

TEST_CASE("checks and drops trailers") {
  CHECK(decode("5\r\nhello\r\n0\r\nX-Sum: abc\r\nContent-Length: 50\r\nHost:evil\r\nEmpty:\r\n\r\nrest") ==
        "hello|rest");
  for (auto text : {" X: y", "X : y", "X", ": y", "X[: y", "X: \x01", "X: y\r\n z", "X\xC3\xA9: y", "GET / HTTP/1.1"}) {
    CAPTURE(text);
    CHECK(chunk_refusal("0\r\n" + std::string(text) + "\r\n\r\n") == "bad_request");
  }
  CHECK(chunk_refusal("0\r\nX: \0\r\n\r\n"s) == "bad_request");
}

TEST_CASE("every limit of a chunked body holds to the byte") {
  CHECK(decode("5\r\nhello\r\n0\r\n\r\n", 5) == "hello|");
  CHECK(decode("0\r\n\r\n", 0) == "|");
  CHECK(chunk_refusal("5\r\n", 4) == "too_large");
  CHECK(chunk_refusal("3\r\nabc\r\n3\r\n", 5) == "too_large");
  CHECK(chunk_refusal("ffffffffffffffff\r\n") == "too_large");
  CHECK(chunk_refusal("1\r\na\r\nffffffffffffffff\r\n", SIZE_MAX) == "too_large");
  CHECK(chunk_refusal("ffffffffffffffff\r\n", SIZE_MAX) == "more ");
  CHECK(decode("1;" + std::string(4095, 'a') + "\r\nx\r\n0\r\n\r\n") == "x|");
  CHECK(chunk_refusal("1;" + std::string(4096, 'a') + "\r") == "bad_request");
  std::string spread;
  for (int i = 0; i < 200; ++i) spread += "1;" + std::string(30, 'a') + "\r\nx\r\n";
  CHECK(chunk_refusal(spread) == "bad_request");
  CHECK(decode("0\r\nX:" + std::string(8186, 'a') + "\r\n\r\n") == "|");
  CHECK(chunk_refusal("0\r\nX:" + std::string(8187, 'a') + "\r\n\r\n") == "headers_too_large");
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += "X:\r\n";
  CHECK(chunk_refusal("0\r\n" + lines) == "headers_too_large");
}

TEST_CASE("a chunked decoder is as new after reset") {
  http1::chunked_decoder decoder;
  std::string out;
  auto first = "2\r\nab\r\n0\r\n\r\n"sv, bad = "z"sv;
  REQUIRE(decoder.decode(first, out, 2) == http1::progress::done);
  decoder.reset();
  REQUIRE(decoder.decode(bad, out, 2) == http1::progress::failed);
  decoder.reset();
  auto again = "2\r\ncd\r\n0\r\n\r\n"sv;
  CHECK(decoder.decode(again, out, 2) == http1::progress::done);
  CHECK(out == "abcd");
}

TEST_CASE("writes a response head for each version and way of closing") {
  auto write = [](int status, std::string_view type, std::optional<std::uint64_t> length, bool keep, int minor,
                  std::string_view extra = {}) {
    std::string out = "-";
    http1::append_response_head(out, status, type, length, keep, minor, extra);
    return out;
  };
  CHECK(write(200, "application/json", 12, true, 1, "Date: now\r\nETag: \"x\"\r\n") ==
        "-HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\nDate: now\r\nETag: \"x\"\r\n\r\n");
  CHECK(write(200, "", 0, true, 0) == "-HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
  CHECK(write(400, "", {}, false, 1) == "-HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
  CHECK(write(400, "", {}, false, 0) == "-HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
  CHECK(write(204, "", 0, true, 1) == "-HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(write(101, "", 0, true, 1, "Connection: Upgrade\r\n") ==
        "-HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n");
  CHECK(write(299, "", 1, true, 1) == "-HTTP/1.1 299 \r\nContent-Length: 1\r\n\r\n");
  CHECK(http1::continue_response == "HTTP/1.1 100 Continue\r\n\r\n");
}

TEST_CASE("a publisher's media type cannot split a response") {
  for (auto type : {"text/html\r\nSet-Cookie: a=b"s, "a\nb"s, "a\0b"s, "a\x7F"s}) {
    std::string out;
    http1::append_response_head(out, 200, type, 1, true, 1, {});
    CHECK(out == "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\n");
  }
}

TEST_CASE("every error has a reason phrase") {
  for (int code = 1; code <= static_cast<int>(errc::http_version); ++code) {
    CAPTURE(code);
    CHECK_FALSE(http1::reason_phrase(http_status(static_cast<errc>(code))).empty());
  }
  CHECK(http1::reason_phrase(999).empty());
}

TEST_CASE("tells a page of this host from another's") {
  CHECK(http1::same_origin("http://a", "a"));
  CHECK(http1::same_origin("https://A.example", "a.EXAMPLE:443"));
  CHECK(http1::same_origin("http://a:80", "a"));
  CHECK(http1::same_origin("http://a", "a:80"));
  CHECK(http1::same_origin("http://a:8080", "a:8080"));
  CHECK(http1::same_origin("HTTP://[::1]:81", "[::1]:81"));
  for (auto [origin, host] : {std::pair{"null", "null"},
                              {"", ""},
                              {"http://", ""},
                              {"http://a", "b"},
                              {"http://a", "a:443"},
                              {"https://a", "a:80"},
                              {"http://a:81", "a"},
                              {"http://a", "a:81"},
                              {"http://a.b", "a"},
                              {"http://a", "a.b"},
                              {"ftp://a", "a"},
                              {"a", "a"},
                              {"http://a/", "a"},
                              {"http://u@a", "a"},
                              {"http://a http://b", "a"},
                              {"http://b, http://a", "a"},
                              {"file://", ""},
                              {"http://a:x", "a"},
                              {"chrome-extension://a", "a"}}) {
    CAPTURE(origin, host);
    CHECK_FALSE(http1::same_origin(origin, host));
  }
}

TEST_CASE("an Accept counts when it names the type with a weight above 0") {
  auto accepts = [](std::string_view value) {
    return http1::accepts_literally(parsed("Accept: " + std::string(value) + "\r\n").head, "text/event-stream");
  };
  for (auto value : {"text/event-stream", "TEXT/Event-Stream", "text/html, text/event-stream;q=0.001",
                     "text/event-stream ; charset=utf-8", "text/event-stream;Q=1", "text/event-stream;q=1.000",
                     "text/event-stream;q=0.5;x=y", ",, text/event-stream ,", "text/plain;x=\"a,b\", text/event-stream",
                     "text/html\r\nAccept: text/event-stream"}) {
    CAPTURE(value);
    CHECK(accepts(value));
  }
  for (auto value : {"", "*/*", "text/*", "text/html", "text/event-stream;q=0", "text/event-stream; q=0.000",
                     "text/event-stream;q=0.", "text/event-stream;q=", "text/event-stream;q=x", "text/event-stream;q=2",
                     "text/event-stream;q=1.1", "text/event-stream;q=0.0001", "text/event-stream;q=-1",
                     "text/event-streams", "x=\"text/event-stream\"", "text/plain;x=\", text/event-stream"}) {
    CAPTURE(value);
    CHECK_FALSE(accepts(value));
  }
  CHECK_FALSE(http1::accepts_literally(parsed("").head, "text/event-stream"));
}

TEST_CASE("reads how long a client would wait") {
  auto wait = [](std::string_view value) {
    return http1::prefer_wait(parsed("Prefer: " + std::string(value) + "\r\n").head);
  };
  CHECK(wait("wait=10") == 10u);
  CHECK(wait("respond-async, Wait = 0") == 0u);
  CHECK(wait("wait=\"7\"") == 7u);
  CHECK(wait("wait=5; foo=bar") == 5u);
  CHECK(wait("foo; wait=5") == std::nullopt);  // a parameter of another preference
  CHECK(wait("wait=5, wait=6") == 5u);
  CHECK(wait("x\r\nPrefer: wait=007") == 7u);
  CHECK(wait("wait=2147483648") == 2147483648u);
  CHECK(wait("wait=99999999999999999999999999") == 2147483648u);
  for (auto value : {"wait", "wait=", "wait=x", "wait=-1", "wait=+1", "wait=1.5", "wait=1 0", "wait=\"", "wait=\"\"",
                     "waits=1", "\"wait=1\"", "wait=x, wait=5"}) {
    CAPTURE(value);
    CHECK(wait(value) == std::nullopt);
  }
  CHECK(http1::prefer_wait(parsed("").head) == std::nullopt);
}

TEST_CASE("lists the entity tags of If-None-Match") {
  auto tags = [](std::string_view value) {
    std::string out;
    parsed p("If-None-Match: " + std::string(value) + "\r\n");
    http1::any_entity_tag(p.head, [&](std::string_view tag) {
      out += "<" + std::string(tag) + ">";
      return false;
    });
    return out;
  };
  CHECK(tags("\"a.1\"") == "<a.1>");
  CHECK(tags("W/\"a.1,b.2\" , \"\",\"c\"") == "<a.1,b.2><><c>");
  CHECK(tags(", ,\"a\",") == "<a>");
  CHECK(tags("\"a\"\r\nIf-None-Match: W/\"b\"") == "<a><b>");
  CHECK(tags("*") == "");
  CHECK(tags("") == "");
  CHECK(tags("a") == "");
  CHECK(tags("w/\"a\"") == "");
  CHECK(tags("W/ \"a\"") == "");
  CHECK(tags("W/") == "");
  CHECK(tags("\"") == "");
  CHECK(tags("\"a") == "");
  CHECK(tags("\"a\"b, \"c\"") == "");
  CHECK(tags("\"a\" \"b\"") == "");
  CHECK(tags("\"a b\"") == "");
  CHECK(tags("\"x\", oops, \"y\"") == "<x>");
}

TEST_CASE("a response head takes a type of any length") {
  for (std::size_t size : {1u, 127u, 128u, 129u, 1000u}) {
    std::string out = "before ", type(size, 'x');
    http1::append_response_head(out, 200, type, UINT64_MAX, false, 1, "A: b\r\n");
    CHECK(out == "before HTTP/1.1 200 OK\r\nContent-Type: " + type +
                     "\r\nContent-Length: 18446744073709551615\r\nConnection: close\r\nA: b\r\n\r\n");
  }
}
