// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

#include "hailwire/proto/text.hpp"

namespace hailwire::detail {

/// 128 bits, as a hash or as its secret key.
struct bits128 {
  std::uint64_t low = 0, high = 0;
  friend bool operator==(const bits128&, const bits128&) = default;
};

/// 128 random bits from the kernel. Throws `std::system_error` where it has none to give.
inline bits128 random_bits() {
  bits128 b;
  if (::getentropy(&b, sizeof b) != 0) throw std::system_error(errno, std::system_category(), "getentropy");
  return b;
}

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012). Who does not
/// know the key can neither predict a hash nor choose inputs that collide, so it may stand where strangers choose the
/// input: channel names, keys. Pieces are hashed as if they were one; whoever needs borders between them adds lengths.
class keyed_hash {
 public:
  explicit keyed_hash(const bits128& key) noexcept
      : v0_(key.low ^ 0x736f6d6570736575u),
        v1_(key.high ^ 0x646f72616e646f6du ^ 0xee),
        v2_(key.low ^ 0x6c7967656e657261u),
        v3_(key.high ^ 0x7465646279746573u) {}

  keyed_hash& add(std::string_view bytes) noexcept {
    const char* p = bytes.data();
    std::size_t left = bytes.size();
    std::size_t held = length_ & 7;
    length_ += left;
    if (held) {
      for (; held < 8 && left; ++held, ++p, --left) tail_ |= byte(*p) << (8 * held);
      if (held < 8) return *this;
      mix(tail_);
    }
    for (; left >= 8; p += 8, left -= 8) mix(load(p));
    tail_ = 0;
    for (std::size_t i = 0; i < left; ++i) tail_ |= byte(p[i]) << (8 * i);
    return *this;
  }
  keyed_hash& add(std::uint64_t n) noexcept {
    char bytes[8];
    for (char& c : bytes) c = static_cast<char>(n & 0xFF), n >>= 8;
    return add(std::string_view(bytes, sizeof bytes));
  }

  bits128 finish() noexcept {
    mix(tail_ | std::uint64_t{length_} << 56);
    v2_ ^= 0xee;
    rounds(4);
    bits128 out;
    out.low = v0_ ^ v1_ ^ v2_ ^ v3_;
    v1_ ^= 0xdd;
    rounds(4);
    out.high = v0_ ^ v1_ ^ v2_ ^ v3_;
    return out;
  }

 private:
  static std::uint64_t byte(char c) noexcept { return static_cast<unsigned char>(c); }
  static std::uint64_t load(const char* p) noexcept {
    std::uint64_t n;
    std::memcpy(&n, p, 8);
    if constexpr (std::endian::native == std::endian::big) n = __builtin_bswap64(n);
    return n;
  }
  void mix(std::uint64_t word) noexcept {
    v3_ ^= word;
    rounds(2);
    v0_ ^= word;
  }
  void rounds(int n) noexcept {
    while (n--) {
      v0_ += v1_, v1_ = std::rotl(v1_, 13), v1_ ^= v0_, v0_ = std::rotl(v0_, 32);
      v2_ += v3_, v3_ = std::rotl(v3_, 16), v3_ ^= v2_;
      v0_ += v3_, v3_ = std::rotl(v3_, 21), v3_ ^= v0_;
      v2_ += v1_, v1_ = std::rotl(v1_, 17), v1_ ^= v2_, v2_ = std::rotl(v2_, 32);
    }
  }

  std::uint64_t v0_, v1_, v2_, v3_, tail_ = 0;
  std::size_t length_ = 0;
};

/// An epoch made of the upper 72 bits of a hash: 12 letters of base64url. By the birthday bound, two of 10^9 channels
/// share one with a chance of 1 : 10^4; short enough for every standard library to hold it without an allocation.
inline std::string epoch_of(const bits128& hash) {
  char bytes[9];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(hash.high >> (8 * i) & 0xFF);
  bytes[8] = static_cast<char>(hash.low >> 56);
  std::string out;
  proto::append_base64(out, std::string_view(bytes, sizeof bytes), proto::base64url_letters);
  return out;
}

}  // namespace hailwire::detail
