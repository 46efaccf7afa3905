// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/live_codec.hpp"

#include <cstdint>
#include <string>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::detail;

namespace {

message sample(payload p) {
  message m;
  m.at = 1'764'000'000'123;
  m.from = "ada";
  m.type = "note";
  m.data = std::move(p);
  return m;
}

}  // namespace

TEST_CASE("what is written is read back, whatever its bytes") {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  live_writer out(live_kind::notice);
  for (std::uint64_t n : {std::uint64_t{0}, std::uint64_t{127}, std::uint64_t{128}, UINT64_MAX}) out.number(n);
  out.text("").text(bytes);
  live_reader in(out.bytes());
  CHECK(in.kind() == live_kind::notice);
  for (std::uint64_t n : {std::uint64_t{0}, std::uint64_t{127}, std::uint64_t{128}, UINT64_MAX})
    CHECK(in.number() == n);
  CHECK(in.text().empty());
  CHECK(in.text() == bytes);
  CHECK(in.ok());
  CHECK(in.at_end());
  for (const payload& p : {payload::json("1"), payload::text("a", "text/html"), payload::binary(bytes, "image/png")}) {
    message m = sample(p), back = live_reader(live_writer(live_kind::ephemeral).content(m).bytes()).content();
    CHECK(back.data == m.data);
    CHECK(back.at == m.at);
    CHECK(back.from == m.from);
    CHECK(back.type == m.type);
  }
}

TEST_CASE("what is cut at any byte is not taken for whole, nor read beyond its end") {
  const std::string whole = live_writer(live_kind::ephemeral).content(sample(payload::json("\"x\""))).bytes();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const std::string cut = whole.substr(0, n);
    live_reader in(cut);
    (void)in.content();
    CHECK_FALSE(in.ok());
  }
  live_reader endless(std::string_view("n\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 13));
  (void)endless.number();
  CHECK_FALSE(endless.ok());
  live_reader kind(std::string_view("e\0\0\0\x07\0\0", 7));
  (void)kind.content();
  CHECK_FALSE(kind.ok());
}
