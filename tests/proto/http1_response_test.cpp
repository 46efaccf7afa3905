// SPDX-License-Identifier: BSL-1.0
// Scripts: a server's bytes in, a line that says what was understood out; each also cut in two at every byte, and byte
// by byte.
#include "hailwire/proto/http1_response.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::proto;
using namespace std::string_literals;

namespace {

using ends = std::vector<std::size_t>;

/// Runs `read` with the whole, with every cut in two and byte by byte; all must say the same.
template <class F>
std::string however_cut(std::string_view bytes, F read) {
  const std::string whole = read(ends{bytes.size()});
  ends each;
  for (std::size_t i = 1; i <= bytes.size(); ++i) each.push_back(i);
  if (each.empty()) each.push_back(0);
  CHECK(read(each) == whole);
  const std::size_t step = bytes.size() < 2000 ? 1 : 997;
  for (std::size_t i = 1; i < bytes.size(); i += step) {
    const auto split = read(ends{i, bytes.size()});
    if (split != whole) {
      CAPTURE(i);
      CHECK(split == whole);
    }
  }
  return whole;
}

std::string head_of(std::string_view bytes, const http1::limits& l = {}) {
  return however_cut(bytes, [&](const ends& at) {
    http1::response_parser parser(l);
    http1::response_head h;
    std::string said = "more";
    for (auto end : at) {
      const std::vector<char> buffer(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(end));
      const auto p = parser.parse({buffer.data(), buffer.size()}, h);
      if (p == http1::progress::need_more) continue;
      if (p == http1::progress::failed)
        return "failed " + std::string(code_name(parser.error().code)) + ": " + parser.error().message;
      said = std::to_string(parser.size()) + " " + std::to_string(h.status) + " '" + std::string(h.reason) + "' 1." +
             std::to_string(h.minor);
      if (h.content_length) said += " length=" + std::to_string(*h.content_length);
      if (h.chunked) said += " chunked";
      if (h.keep_alive) said += " keep";
      if (h.interim()) said += " interim";
      for (auto& f : h.headers) said += " [" + std::string(f.name) + "=" + std::string(f.value) + "]";
      return said;
    }
    return said;
  });
}

/// A head, its body and what is left of `bytes`; `|end` is the connection's end.
std::string whole_of(std::string_view bytes, std::string_view method = "GET", std::uint64_t most = 1 << 20) {
  return however_cut(bytes, [&](const ends& at) {
    http1::response_parser parser;
    http1::response_head h;
    http1::body_reader body;
    std::string kept, out;
    bool in_body = false;
    std::size_t from = 0;
    for (auto end : at) {
      kept += bytes.substr(from, end - from);
      from = end;
      if (!in_body) {
        const auto p = parser.parse(kept, h);
        if (p == http1::progress::need_more) continue;
        if (p == http1::progress::failed) return "head failed: " + parser.error().message;
        body = http1::body_reader(h, method);
        kept.erase(0, parser.size());
        in_body = true;
      }
      std::string_view in = kept;
      const auto p = body.read(in, out, most);
      kept.erase(0, kept.size() - in.size());
      if (p == http1::progress::failed)
        return "failed " + std::string(code_name(body.error().code)) + ": " + body.error().message;
      if (p == http1::progress::done) return "'" + out + "' then '" + kept + std::string(bytes.substr(from)) + "'";
      CHECK(kept.empty());
    }
    if (!in_body) return "more"s;
    return "'" + out + "' " + (body.end() == http1::progress::done ? "ends" : "cut: " + body.error().message);
  });
}

}  // namespace

TEST_CASE("reads the head of a response") {
  CHECK(head_of("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}") ==
        "70 200 'OK' 1.1 length=2 keep [Content-Type=application/json] [Content-Length=2]");
  CHECK(head_of("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n") ==
        "77 101 'Switching Protocols' 1.1 keep [Upgrade=websocket] [Connection=Upgrade]");
  CHECK(head_of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") == "25 100 'Continue' 1.1 keep interim");
  CHECK(head_of("HTTP/1.0 200 OK\r\n\r\n") == "19 200 'OK' 1.0");
  CHECK(head_of("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n") == "43 200 'OK' 1.0 keep [Connection=keep-alive]");
  CHECK(head_of("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n") == "41 200 'OK' 1.1 [Connection=x, Close]");
  CHECK(head_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n") ==
        "47 200 'OK' 1.1 chunked keep [Transfer-Encoding=Chunked]");
  CHECK(head_of("HTTP/1.1 299 \r\n\r\n") == "17 299 '' 1.1 keep");
  CHECK(head_of("HTTP/1.1 599\r\n\r\n") == "16 599 '' 1.1 keep");
  CHECK(head_of("HTTP/1.7 200 a b\r\n\r\n") == "20 200 'a b' 1.1 keep");
  CHECK(head_of("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n")
            .starts_with("57 200 'OK' 1.1 length=2"));
  CHECK(head_of("HTTP/1.1 200 OK\r\nA: b") == "more");
  CHECK(head_of("") == "more");
}

TEST_CASE("refuses what is no response head at its first bad byte") {
  const std::string not_http = "failed bad_request: the answer is not HTTP/1.1";
  CHECK(head_of("SSH-2.0-OpenSSH_9.2\r\n") == not_http);
  CHECK(head_of("H2") == not_http);
  CHECK(head_of("HTTP/2 200\r\n\r\n") == not_http);
  CHECK(head_of("\r\nHTTP/1.1 200 OK\r\n\r\n") == not_http);
  const std::string no_status = "failed bad_request: the answer does not begin with a status line";
  for (auto line :
       {"HTTP/1.x 200 OK", "HTTP/1.1 20", "HTTP/1.1 20x OK", "HTTP/1.1  200 OK", "HTTP/1.1 2000 OK", "HTTP/1.1\t200"})
    CHECK(head_of(std::string(line) + "\r\n\r\n") == no_status);
  CHECK(head_of("HTTP/1.1 099 a\r\n\r\n") == "failed bad_request: a status outside of 100 to 599");
  CHECK(head_of("HTTP/1.1 600 a\r\n\r\n") == "failed bad_request: a status outside of 100 to 599");
  CHECK(head_of("HTTP/1.1 200 OK\nA: b\n\n") == "failed bad_request: a line of the response head ends with LF alone");
  CHECK(head_of("HTTP/1.1 200 OK\rA: b") == "failed bad_request: a CR without its LF in the response head");
  CHECK(head_of("HTTP/1.1 200 O\x01K") == "failed bad_request: a control byte in the response head");
  const std::string no_name = "failed bad_request: a header's name is not a token with a colon behind it";
  for (auto line : {"A", ": b", "A : b", " folded", "A b: c"})
    CHECK(head_of("HTTP/1.1 200 OK\r\nX: y\r\n" + std::string(line) + "\r\n\r\n") == no_name);
  CHECK(head_of("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n") ==
        "failed bad_request: two Content-Length headers");
  for (auto value : {"", "+1", "01", "1, 1", "18446744073709551616"})
    CHECK(head_of("HTTP/1.1 200 OK\r\nContent-Length: " + std::string(value) + "\r\n\r\n") ==
          "failed bad_request: Content-Length is not a number");
  CHECK(head_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n") ==
        "failed bad_request: both Content-Length and Transfer-Encoding");
  CHECK(head_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n") ==
        "failed bad_request: two Transfer-Encoding headers");
  CHECK(head_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n") ==
        "failed not_implemented: the only transfer coding understood here is chunked");
  CHECK(head_of("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") ==
        "failed bad_request: Transfer-Encoding in HTTP/1.0");
}

TEST_CASE("a response head has limits") {
  const http1::limits l{.line = 20, .head = 60, .headers = 2};
  const std::string start = "HTTP/1.1 200 OK\r\n";
  CHECK(head_of(start + "A: " + std::string(17, 'b') + "\r\n\r\n", l).starts_with("41 200"));
  CHECK(head_of(start + "A: " + std::string(18, 'b') + "\r\n\r\n", l) ==
        "failed headers_too_large: a line of the response head is too long");
  CHECK(head_of(start + "A: b\r\nC: d\r\n\r\n", l).starts_with("31 200"));
  CHECK(head_of(start + "A: b\r\nC: d\r\nE: f\r\n\r\n", l) ==
        "failed headers_too_large: too many headers in the response");
  // 17 + 21 + 20 + 2 bytes, and one more.
  CHECK(head_of(start + "A: " + std::string(16, 'b') + "\r\nC: " + std::string(15, 'd') + "\r\n\r\n", l)
            .starts_with("60 200"));
  CHECK(head_of(start + "A: " + std::string(16, 'b') + "\r\nC: " + std::string(16, 'd') + "\r\n\r\n", l) ==
        "failed headers_too_large: the response head is too long");
}

TEST_CASE("reads a body by its length, its chunks or its connection") {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  CHECK(whole_of(ok + "Content-Length: 5\r\n\r\nhelloHTTP") == "'hello' then 'HTTP'");
  CHECK(whole_of(ok + "Content-Length: 0\r\n\r\nHTTP") == "'' then 'HTTP'");
  CHECK(whole_of(ok + "Content-Length: 5\r\n\r\nhell") == "'hell' cut: the connection ended within a body");
  CHECK(whole_of(ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\nHTTP") ==
        "'abcde' then 'HTTP'");
  CHECK(whole_of(ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n") ==
        "'abc' cut: the connection ended within a body");
  CHECK(whole_of(ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n") ==
        "failed bad_request: a chunk is longer than its size");
  CHECK(whole_of(ok + "\r\nall of it") == "'all of it' ends");
  for (auto status : {"101 S", "204 N", "304 N"})
    CHECK(whole_of("HTTP/1.1 " + std::string(status) + "\r\nContent-Length: 5\r\n\r\nrest") == "'' then 'rest'");
  CHECK(whole_of(ok + "Content-Length: 5\r\n\r\nrest", "HEAD") == "'' then 'rest'");
}

TEST_CASE("a response's body has a limit however it is framed") {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  const std::string large = "failed too_large: the body is too large";
  CHECK(whole_of(ok + "Content-Length: 4\r\n\r\nabcd", "GET", 4) == "'abcd' then ''");
  CHECK(whole_of(ok + "Content-Length: 5\r\n\r\n", "GET", 4) == large);  // as soon as it is announced
  CHECK(whole_of(ok + "Content-Length: 5\r\n\r\nabcde", "GET", 4) == large);
  CHECK(whole_of(ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", "GET", 4) ==
        "'abcd' then ''");
  CHECK(whole_of(ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\n", "GET", 4) == large);
  CHECK(whole_of(ok + "\r\nabcd", "GET", 4) == "'abcd' ends");
  CHECK(whole_of(ok + "\r\nabcde", "GET", 4) == large);
}

TEST_CASE("Retry-After is read where it is a number") {
  auto of = [](std::string_view value) {
    http1::response_head h;
    h.headers.push_back({"retry-after", value});
    return http1::retry_after(h, 60'000);
  };
  CHECK(of("0") == 0);
  CHECK(of("7") == 7000);
  CHECK(of("60") == 60'000);
  CHECK(of("61") == 60'000);
  CHECK(of("99999999999999999999999") == 60'000);
  for (auto value : {"", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT"}) CHECK_FALSE(of(value));
}
