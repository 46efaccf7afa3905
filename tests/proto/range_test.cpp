// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/range.hpp"

#include <string>

#include "catch.hpp"

using namespace hailwire::proto;

namespace {

std::string read(std::string_view field, std::uint64_t size = 10) {
  const byte_range r = read_range(field, size);
  switch (r.what) {
    case byte_range::kind::whole:
      return "whole";
    case byte_range::kind::unsatisfiable:
      return "none";
    case byte_range::kind::part:
      return std::to_string(r.first) + '-' + std::to_string(r.last);
  }
  return {};
}

}  // namespace

TEST_CASE("a range is read from its first to its last byte, and cut at the end of the content") {
  CHECK(read("bytes=0-0") == "0-0");
  CHECK(read("bytes=2-5") == "2-5");
  CHECK(read("Bytes= 2-5 ") == "2-5");
  CHECK(read("bytes=0-9") == "0-9");
  CHECK(read("bytes=0-10") == "0-9");
  CHECK(read("bytes=9-") == "9-9");
  CHECK(read("bytes=0-") == "0-9");
  CHECK(read("bytes=-1") == "9-9");
  CHECK(read("bytes=-10") == "0-9");
  CHECK(read("bytes=-11") == "0-9");
  CHECK(read("bytes=3-99999999999999999999999999") == "3-9");
  CHECK(read("bytes=-99999999999999999999999999") == "0-9");
}

TEST_CASE("a range in which there is nothing cannot be satisfied") {
  CHECK(read("bytes=10-") == "none");
  CHECK(read("bytes=10-10") == "none");
  CHECK(read("bytes=99999999999999999999999999-") == "none");
  CHECK(read("bytes=18446744073709551615-18446744073709551616") == "none");
  CHECK(read("bytes=-0") == "none");
  CHECK(read("bytes=0-", 0) == "none");
  CHECK(read("bytes=-1", 0) == "none");
}

TEST_CASE("what is no range, or several, is passed over") {
  for (auto field : {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-2", "bytes=0-1,3-4",
                     "bytes=0-1,", "bytes=--1", "bytes=1--2", "bytes=1-2-3", "bytes=0x1-2", "bytes=+1-2",
                     "bytes= 1 - 2", "items=0-1", "bytes:0-1", "bytes=0-1;q=1"})
    CHECK(read(field) == "whole");
  CHECK(read("bytes=" + std::string(100'000, '9') + "-") == "none");
  CHECK(read("bytes=" + std::string(100'000, ',')) == "whole");
}
