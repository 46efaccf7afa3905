// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/redis/resp.hpp"

#include "catch.hpp"

using namespace hailwire::detail;
using namespace std::string_literals;

namespace {

std::string wire(const redis_command& c) {
  std::string out;
  c.append_to(out);
  return out;
}
std::string show(const redis_reply& r) {
  if (r.is_nil()) return "nil";
  if (r.is_integer()) return std::to_string(r.integer());
  if (!r.is_array()) return (r.is_error() ? "!" : "") + std::string(r.text());
  std::string out = "[";
  for (std::size_t i = 0; i < r.size(); ++i) out += (i ? "," : "") + show(r[i]);
  return out + "]";
}

}  // namespace

TEST_CASE("a command is its arguments, each of any bytes") {
  CHECK(wire({"PING"}) == "*1\r\n$4\r\nPING\r\n");
  redis_command c{"SET", std::string_view("\0\r\n", 3)};
  c.own(std::string(2, 'x')).number(std::int64_t{-7}).number(std::uint64_t{9'007'199'254'740'991}).add({});
  CHECK(wire(c) == "*6\r\n$3\r\nSET\r\n$3\r\n\0\r\n\r\n$2\r\nxx\r\n$2\r\n-7\r\n$16\r\n9007199254740991\r\n$0\r\n\r\n"s);
  CHECK(c.size() == 6);
  CHECK(c.bytes() == 26);
}

TEST_CASE("replies are read the same whole and cut at every byte") {
  const auto in = "+OK\r\n-ERR no\r\n:42\r\n$-1\r\n$4\r\na\0\r\n\r\n*3\r\n:1\r\n*1\r\n$0\r\n\r\n*-1\r\n"s;
  const std::vector<std::string> wanted{"OK", "!ERR no", "42", "nil", "a\0\r\n"s, "[1,[],nil]"};
  for (std::size_t cut = 0; cut <= in.size(); ++cut) {
    redis_reader reader(1000);
    std::vector<std::string> got;
    for (auto piece : {std::string_view(in).substr(0, cut), std::string_view(in).substr(cut)}) {
      REQUIRE(reader.feed({piece.data(), piece.size()}));
      while (auto r = reader.next()) got.push_back(show(redis_reply(r.get())));
    }
    INFO(cut);
    CHECK(got == wanted);
    CHECK(reader.error().empty());
  }
}

TEST_CASE("what is no reply is an error from then on") {
  for (std::string_view in : {"HTTP/1.1 200 OK\r\n\r\n", "*1\r\n?x\r\n", "$x\r\n", ":\r\n"}) {
    INFO(in);
    redis_reader reader(1000);
    reader.feed({in.data(), in.size()});
    CHECK(reader.next() == nullptr);
    CHECK(!reader.error().empty());
    CHECK(!reader.feed({in.data(), in.size()}));
  }
}

TEST_CASE("a reply that does not end within the limit is an error, one at the limit is not") {
  for (int over : {-1, 0, 1}) {
    redis_reader reader(100);
    std::string in = "$1000\r\n";
    in.append(static_cast<std::size_t>(100 + over) - in.size(), 'x');
    REQUIRE(reader.feed({in.data(), in.size()}));
    CHECK(reader.next() == nullptr);
    CHECK(reader.error().empty() == (over <= 0));
  }
  // Finished replies do not count, however many.
  redis_reader reader(100);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(reader.feed({"$10\r\n0123456789\r\n+O", 19}));
    REQUIRE(reader.next());
    REQUIRE(reader.feed({"K\r\n", 3}));
    REQUIRE(reader.next());
    REQUIRE(reader.next() == nullptr);
  }
  CHECK(reader.error().empty());
}

TEST_CASE("asking a reply for what it is not gives nothing") {
  redis_reply none;
  CHECK(none.is_nil());
  CHECK(none.text().empty());
  CHECK(none.integer() == 0);
  CHECK(none[3][4].is_nil());
  redis_reader reader(100);
  reader.feed({"-MOVED 1 a:1\r\n", 14});
  auto r = reader.next();
  CHECK(redis_reply(r.get()).failed_with("MOVED"));
  CHECK(!redis_reply(r.get()).failed_with("MOVE"));
  CHECK(!none.failed_with("MOVED"));
}
