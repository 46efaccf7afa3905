// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/siphash.hpp"

#include <set>

#include "catch.hpp"
#include "hailwire/message.hpp"

using namespace hailwire;
using detail::bits128;
using detail::keyed_hash;

namespace {
std::string hex(const bits128& b) {
  std::string out;
  for (std::uint64_t half : {b.low, b.high})
    for (int i = 0; i < 8; ++i, half >>= 8)
      for (unsigned digit : {static_cast<unsigned>(half >> 4 & 15), static_cast<unsigned>(half & 15)})
        out += "0123456789abcdef"[digit];
  return out;
}
// The key of the paper's own test vectors: the bytes 0, 1, …, 15.
constexpr bits128 key{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
}  // namespace

TEST_CASE("an epoch is the upper 72 bits of a hash in base64url, the lowest byte of the high half first") {
  for (std::uint64_t i = 0; i < 100; ++i) {
    bits128 hash = keyed_hash(key).add(i).finish();
    std::string bytes;
    for (int k = 0; k < 8; ++k) bytes += static_cast<char>(hash.high >> (8 * k) & 0xFF);
    bytes += static_cast<char>(hash.low >> 56);
    std::string letters;
    proto::append_base64(letters, bytes, proto::base64url_letters);
    CHECK(detail::epoch_of(hash) == letters);
  }
}

TEST_CASE("the keyed hash is SipHash-2-4 with 128 bits: the authors' vectors") {
  const char* expected[] = {"a3817f04ba25a8e66df67214c7550293", "da87c1d86b99af44347659119b22fc45",
                            "8177228da4a45dc7fca38bdef60affe4", "9c70b60c5267a94e5f33b6b02985ed51"};
  std::string input;
  for (const char* hash : expected) {
    CHECK(hex(keyed_hash(key).add(input).finish()) == hash);
    input += static_cast<char>(input.size());
  }
}

TEST_CASE("the hash for tables is SipHash-1-3: what CPython 3.11 says") {
  // PYTHONHASHSEED=42 python3 -c "print(hex(hash(b'a') & 2**64-1))"; the seed is stretched to this key.
  constexpr bits128 seed_42{0xdc504fd368cd90afu, 0xb920bb9ffe99e9c1u};
  std::string rising;
  while (rising.size() < 31) rising += static_cast<char>(rising.size());
  CHECK(detail::table_hash(seed_42, "a") == 0xfe4a47335692551eu);
  for (std::size_t n = 0; n < 40; ++n) {  // every length: each byte counts, and so does the length
    std::string text(n, '\0'), longer(n + 1, '\0');
    const auto hash = detail::table_hash(seed_42, text);
    CHECK(hash != detail::table_hash(seed_42, longer));
    for (char& c : text) {
      c = '\x80';
      CHECK(hash != detail::table_hash(seed_42, text));
      c = '\0';
    }
  }
  CHECK(detail::table_hash(seed_42, "ab") == 0x85652f29192e603au);
  CHECK(detail::table_hash(seed_42, "abc") == 0x35b382d0c5d675e9u);
  CHECK(detail::table_hash(seed_42, "abcd") == 0xbeeac10495cfd7b8u);
  CHECK(detail::table_hash(seed_42, "abcde") == 0xf3cc0962ae662ac2u);
  CHECK(detail::table_hash(seed_42, "abcdefg") == 0x13162120b6bf06edu);
  CHECK(detail::table_hash(seed_42, "abcdefgh") == 0xb441be6d79f21056u);
  CHECK(detail::table_hash(seed_42, "room-1234567890") == 0x25f65000eda5ee63u);
  CHECK(detail::table_hash(seed_42, rising) == 0x6f3af51bda71c61u);
  CHECK(detail::table_hash(seed_42, "") != detail::table_hash(key, ""));
}

TEST_CASE("the keyed hash of an input does not depend on the pieces in which it arrives") {
  std::string input;
  for (int i = 0; i < 40; ++i) input += static_cast<char>(i * 37);
  const bits128 whole = keyed_hash(key).add(input).finish();
  for (std::size_t a = 0; a <= input.size(); ++a)
    for (std::size_t b = a; b <= input.size(); ++b) {
      std::string_view v = input;
      CHECK(keyed_hash(key).add(v.substr(0, a)).add(v.substr(a, b - a)).add(v.substr(b)).finish() == whole);
    }
}

TEST_CASE("an epoch made of a hash is 12 letters that are valid, and each hash has its own") {
  std::set<std::string> seen;
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    std::string epoch = detail::epoch_of(keyed_hash(key).add(i).finish());
    CHECK(epoch.size() == 12);
    CHECK(valid_epoch(epoch));
    CHECK(seen.insert(epoch).second);
  }
  CHECK(detail::random_bits() != detail::random_bits());
}
