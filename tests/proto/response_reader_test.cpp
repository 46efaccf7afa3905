// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/response_reader.hpp"

#include <span>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire::proto::http1;

namespace {

/// Responses one behind the other, in pieces of `step` bytes.
std::string read(std::string_view bytes, std::size_t step, std::uint64_t most = 1000) {
  std::string said;
  response_reader reader("GET", most);
  for (std::size_t from = 0; from < bytes.size(); from += step) {
    auto part = bytes.substr(from, step);
    std::vector<char> copy(part.begin(), part.end());
    std::span<char> in(copy);
    for (bool more = true; more;) {
      switch (reader.read(in)) {
        case response_reader::step::head:
          said += std::to_string(reader.head().status) + (reader.keeps_connection() ? "k" : "");
          break;
        case response_reader::step::done:
          said += "(" + reader.body + ")";
          reader = response_reader("GET", most);
          more = !in.empty();
          break;
        case response_reader::step::failed:
          return said + "!" + reader.error().message;
        default:
          CHECK(in.empty());
          more = false;
      }
    }
  }
  if (reader.began() && reader.has_head())
    said += reader.end() == response_reader::step::done ? "(" + reader.body + ")." : "cut";
  return said;
}

}  // namespace

TEST_CASE("responses are read one behind the other, interim ones passed over") {
  const std::string bytes =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
      "HTTP/1.1 204 No\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
      "chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
      "HTTP/1.1 200 OK\r\n\r\nto the end";
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    CAPTURE(step);
    CHECK(read(bytes, step) == "200k(ab)204()200k(x)200(to the end).");
  }
}

TEST_CASE("a body over the limit is refused, and one that is cut is told") {
  for (std::size_t step : {1u, 7u, 1000u}) {
    CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", step, 5) == "200k(abcde)");
    CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef", step, 5) == "200k!the body is too large");
    CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcde", step, 6) == "200kcut");
    CHECK(read("SSH-2.0", step) == "!the answer is not HTTP/1.1");
  }
}
