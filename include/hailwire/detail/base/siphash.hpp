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

#include "hailwire/detail/base/requirements.hpp"
#include "hailwire/detail/base/text.hpp"

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

/// The state of a SipHash (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) and its round.
struct sip_state {
  explicit sip_state(const bits128& key) noexcept
      : v0(key.low ^ 0x736f6d6570736575u),
        v1(key.high ^ 0x646f72616e646f6du),
        v2(key.low ^ 0x6c7967656e657261u),
        v3(key.high ^ 0x7465646279746573u) {}
  void rounds(int n) noexcept {
    while (n--) {
      v0 += v1, v1 = std::rotl(v1, 13), v1 ^= v0, v0 = std::rotl(v0, 32);
      v2 += v3, v3 = std::rotl(v3, 16), v3 ^= v2;
      v0 += v3, v3 = std::rotl(v3, 21), v3 ^= v0;
      v2 += v1, v1 = std::rotl(v1, 17), v1 ^= v2, v2 = std::rotl(v2, 32);
    }
  }
  void mix(std::uint64_t word, int n) noexcept {
    v3 ^= word;
    rounds(n);
    v0 ^= word;
  }
  static std::uint64_t load(const char* p) noexcept {
    std::uint64_t n;
    std::memcpy(&n, p, 8);
    if constexpr (std::endian::native == std::endian::big) n = __builtin_bswap64(n);
    return n;
  }
  /// The up to seven bytes behind the last whole word, without a loop: loads that overlap.
  static std::uint64_t load_rest(std::string_view text) noexcept {
    auto byte = [](char c) { return std::uint64_t{static_cast<unsigned char>(c)}; };
    auto half = [](const char* p) {
      std::uint32_t n;
      std::memcpy(&n, p, 4);
      if constexpr (std::endian::native == std::endian::big) n = __builtin_bswap32(n);
      return std::uint64_t{n};
    };
    const char* end = text.data() + text.size();
    std::size_t n = text.size() & 7;
    if (n == 0) return 0;
    if (text.size() >= 8) return load(end - 8) >> (64 - 8 * n);
    if (n >= 4) return half(end - n) | half(end - 4) << (8 * (n - 4));
    return byte(end[-1]) << (8 * (n - 1)) | byte(text[n / 2]) << (8 * (n / 2)) | byte(text[0]);
  }
  std::uint64_t v0, v1, v2, v3;
};

/// SipHash-1-3, the variant for hash tables: who does not know the key cannot choose texts that meet in a bucket.
/// Nothing that anybody gets to see may be made of it.
inline std::uint64_t table_hash(const bits128& key, std::string_view text) noexcept {
  sip_state s(key);
  const char* p = text.data();
  for (std::size_t whole = text.size() / 8; whole; --whole, p += 8) s.mix(sip_state::load(p), 1);
  s.mix(std::uint64_t{text.size()} << 56 | sip_state::load_rest(text), 1);
  s.v2 ^= 0xff;
  s.rounds(3);
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/// For a table of the standard library whose keys are names that strangers choose.
struct text_hash {
  std::size_t operator()(std::string_view s) const noexcept { return static_cast<std::size_t>(table_hash(key, s)); }
  bits128 key = random_bits();
};

/// SipHash-2-4 with 128 bits of output. Who does not know the key can neither predict a hash nor choose inputs that
/// collide, so it may stand for the input where strangers choose that: as a channel's epoch, in place of a key or a
/// payload. Pieces are hashed as if they were one; whoever needs borders between them adds lengths.
class keyed_hash {
 public:
  explicit keyed_hash(const bits128& key) noexcept : s_(key) { s_.v1 ^= 0xee; }

  keyed_hash& add(std::string_view bytes) noexcept {
    const char* p = bytes.data();
    std::size_t left = bytes.size();
    std::size_t held = length_ & 7;
    length_ += left;
    if (held) {
      for (; held < 8 && left; ++held, ++p, --left) tail_ |= byte(*p) << (8 * held);
      if (held < 8) return *this;
      s_.mix(tail_, 2);
    }
    for (; left >= 8; p += 8, left -= 8) s_.mix(sip_state::load(p), 2);
    tail_ = sip_state::load_rest({p, left});
    return *this;
  }
  keyed_hash& add(std::uint64_t n) noexcept {
    char bytes[8];
    for (char& c : bytes) c = static_cast<char>(n & 0xFF), n >>= 8;
    return add(std::string_view(bytes, sizeof bytes));
  }

  bits128 finish() noexcept {
    s_.mix(tail_ | std::uint64_t{length_} << 56, 2);
    s_.v2 ^= 0xee;
    s_.rounds(4);
    bits128 out;
    out.low = s_.v0 ^ s_.v1 ^ s_.v2 ^ s_.v3;
    s_.v1 ^= 0xdd;
    s_.rounds(4);
    out.high = s_.v0 ^ s_.v1 ^ s_.v2 ^ s_.v3;
    return out;
  }

 private:
  static std::uint64_t byte(char c) noexcept { return static_cast<unsigned char>(c); }

  sip_state s_;
  std::uint64_t tail_ = 0;
  std::size_t length_ = 0;
};

/// An epoch made of the upper 72 bits of a hash: 12 letters of base64url. By the birthday bound, two of 10^9 channels
/// share one with a chance of 1 : 10^4; short enough for every standard library to hold it without an allocation.
inline std::string epoch_of(const bits128& hash) {
  // The bytes of `high`, the lowest first, and the highest of `low`; six bits a letter (RFC 4648, section 5).
  const std::uint64_t most = __builtin_bswap64(hash.high), rest = most << 8 | hash.low >> 56;
  char out[12];
  char* to = out;
  for (int shift = 58; shift > 0; shift -= 6) *to++ = proto::base64url_letters[most >> shift & 63];
  *to++ = proto::base64url_letters[rest >> 6 & 63];
  *to++ = proto::base64url_letters[rest & 63];
  return std::string(out, sizeof out);
}

}  // namespace hailwire::detail
