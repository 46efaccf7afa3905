// SPDX-License-Identifier: BSL-1.0
// Streams in, events out; each also cut in two at every byte, and byte by byte.
#include "hailwire/proto/sse_reader.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

using namespace hailwire::proto;
using namespace std::string_literals;

namespace {

std::string run(std::string_view bytes, std::size_t most, const std::vector<std::size_t>& ends) {
  sse_reader reader(most);
  std::string said;
  std::size_t from = 0;
  for (auto end : ends) {
    const std::vector<char> buffer(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                                   bytes.begin() + static_cast<std::ptrdiff_t>(end));
    std::string_view in(buffer.data(), buffer.size());
    from = end;
    sse_event e;
    for (;;) {
      const auto p = reader.next(in, e);
      if (p == sse_reader::progress::failed) return said + "failed";
      if (p == sse_reader::progress::need_more) break;
      said += "<" + std::string(e.type) + "|" + std::string(e.data) + "|" + std::string(e.id) + ">";
    }
    CHECK(in.empty());
  }
  if (reader.retry()) said += "retry " + std::to_string(*reader.retry());
  return said;
}

std::string read(std::string_view bytes, std::size_t most = 1000) {
  const auto whole = run(bytes, most, {bytes.size()});
  std::vector<std::size_t> each;
  for (std::size_t i = 1; i <= bytes.size(); ++i) each.push_back(i);
  CHECK(run(bytes, most, each) == whole);
  for (std::size_t i = 1; i < bytes.size(); ++i) {
    CAPTURE(i);
    CHECK(run(bytes, most, {i, bytes.size()}) == whole);
  }
  return whole;
}

}  // namespace

TEST_CASE("reads what this server sends") {
  CHECK(read("event: open\ndata: {\"open\":{}}\nretry: 2000\nid: k3X9.41\n\n"
             "data: {\"channel\":\"chat\"}\nid: k3X9.42\n\n"
             ": beat\nevent: ping\ndata: {\"ping\":{}}\n\n") ==
        "<open|{\"open\":{}}|k3X9.41><|{\"channel\":\"chat\"}|k3X9.42><ping|{\"ping\":{}}|k3X9.42>retry 2000");
}

TEST_CASE("reads lines and fields as the standard says") {
  CHECK(read("data: a\r\ndata: b\r\n\r\n") == "<|a\nb|>");
  CHECK(read("data: a\rdata: b\r\r") == "<|a\nb|>");
  CHECK(read("data: a\n\r\ndata: b\n\n") == "<|a|><|b|>");
  CHECK(read("data:a\n\n") == "<|a|>");
  CHECK(read("data:  a\n\n") == "<| a|>");
  CHECK(read("data\n\n") == "<||>");
  CHECK(read("data\ndata\n\n") == "<|\n|>");
  CHECK(read("event: x\n\ndata: a\n\n") == "<|a|>");  // a type without data goes
  CHECK(read("event: x\nevent: y\ndata: a\n\n") == "<y|a|>");
  CHECK(read("id: 1\n\ndata: a\n\nid\ndata: b\n\n") == "<|a|1><|b|>");
  CHECK(read("id: 1\nid: 2\0\ndata: a\n\n"s) == "<|a|1>");
  CHECK(read("Data: a\nother: b\n: c\n\n") == "");
  CHECK(read("data: a") == "");
  CHECK(read("data: a\n") == "");
  CHECK(read("\xEF\xBB\xBF"
             "data: a\n\n") == "<|a|>");
  CHECK(read("data: a\n\n\xEF\xBB\xBF"
             "data: b\n\n") == "<|a|>");
}

TEST_CASE("retry is a number of milliseconds") {
  CHECK(read("retry: 0\n") == "retry 0");
  CHECK(read("retry: 10\nretry: 1x\nretry: -1\nretry\n") == "retry 10");
  CHECK(read("retry: 4294967295\n") == "retry 4294967295");
  CHECK(read("retry: 99999999999999999999\n") == "retry 4294967295");
}

TEST_CASE("lines and events have a limit") {
  CHECK(read("data: abcd\n\n", 10) == "<|abcd|>");
  CHECK(read("data: abcde\n\n", 10) == "failed");
  CHECK(read(": 45678901", 10) == "");
  CHECK(read(": 456789012", 10) == "failed");
  CHECK(read("data:12345\ndata:6789\n\n", 10) == "<|12345\n6789|>");
  CHECK(read("data:12345\ndata:67890\n\n", 10) == "failed");
  CHECK(read("data:123\n\ndata:123\n\ndata:123\n\n", 10) == "<|123|><|123|><|123|>");
}
