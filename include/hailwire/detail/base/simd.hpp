// SPDX-License-Identifier: BSL-1.0
#pragma once

// Looking at many bytes at once: the scans of the codecs are written once, as templates over a block of bytes, and run
// on the widest block that every machine of the target has: 16 bytes with SSE2 on x86-64 and with NEON on arm64, a word
// of 8 elsewhere. There is no dispatch at run time. The tests and a fuzzer hold the blocks against one another.
//
// A comparison gives a block of flags: the top bit of each byte says whether the comparison holds there, and only that
// bit counts. So a block is itself the flags of its bytes that are not ASCII. No load reads outside its range.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(__ARM_BIG_ENDIAN)
#include <arm_neon.h>
#endif

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// The `n` bytes from `p`, zeros behind them. Precondition: `n <= 8`.
inline std::uint64_t load_up_to_8(const char* p, std::size_t n) noexcept {
  std::uint64_t word = 0;
  if constexpr (std::endian::native == std::endian::little) {
    if (n >= 4) {
      std::uint32_t low, high;  // which may overlap
      std::memcpy(&low, p, 4);
      std::memcpy(&high, p + n - 4, 4);
      return low | std::uint64_t{high} << (n - 4) * 8;
    }
    auto put = [&](std::size_t i) { word |= std::uint64_t{static_cast<unsigned char>(p[i])} << i * 8; };
    if (n) put(0), put(n / 2), put(n - 1);
  } else {
    std::memcpy(&word, p, n);
  }
  return word;
}

/// Eight bytes in a word: the portable block.
struct word_block {
  static constexpr std::size_t size = 8;
  static constexpr std::uint64_t ones = 0x0101010101010101u, tops = ones << 7;
  std::uint64_t v = 0;

  static word_block load(const char* p) noexcept {
    word_block out;
    std::memcpy(&out.v, p, size);
    return out;
  }
  /// Precondition here and in `store`: none on alignment. `n < size`; zeros stand behind the `n` bytes.
  static word_block load_part(const char* p, std::size_t n) noexcept { return {load_up_to_8(p, n)}; }
  void store(char* p) const noexcept { std::memcpy(p, &v, size); }
  /// The four bytes of `four` in memory order, again and again.
  static word_block repeat(std::uint32_t four) noexcept { return {four | std::uint64_t{four} << 32}; }

  // Sums of seven bits do not carry into the next byte, so each flag is exact.
  /// Precondition here and below: ASCII.
  word_block is(char c) const noexcept { return between(c, c); }
  word_block below(char c) const noexcept { return {~(((v & ~tops) + ones * (0x80u - byte(c))) | v)}; }
  word_block between(char low, char high) const noexcept {
    std::uint64_t seven = v & ~tops;
    return {(seven + ones * (0x80u - byte(low))) & ~(seven + ones * (0x7Fu - byte(high))) & ~v};
  }
  /// Those below `c` and those that are not ASCII.
  word_block below_or_high(char c) const noexcept { return {below(c).v | v}; }
  word_block with_bits(char c) const noexcept { return {v | ones * byte(c)}; }

  friend word_block operator|(word_block a, word_block b) noexcept { return {a.v | b.v}; }
  friend word_block operator&(word_block a, word_block b) noexcept { return {a.v & b.v}; }
  friend word_block operator^(word_block a, word_block b) noexcept { return {a.v ^ b.v}; }
  word_block operator~() const noexcept { return {~v}; }

  bool any() const noexcept { return v & tops; }
  /// The index of the first byte that is flagged. Precondition: `any()`.
  std::size_t first() const noexcept {
    auto zeros = std::endian::native == std::endian::little ? std::countr_zero(v & tops) : std::countl_zero(v & tops);
    return static_cast<std::size_t>(zeros) / 8;
  }

 private:
  static constexpr std::uint64_t byte(char c) noexcept { return static_cast<unsigned char>(c); }
};

#if defined(__SSE2__)

struct sse2_block {
  static constexpr std::size_t size = 16;
  __m128i v = _mm_setzero_si128();

  static sse2_block load(const char* p) noexcept { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
  static sse2_block load_part(const char* p, std::size_t n) noexcept {
    std::uint64_t low = load_up_to_8(p, std::min<std::size_t>(n, 8)), high = n > 8 ? load_up_to_8(p + 8, n - 8) : 0;
    return {_mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low))};
  }
  void store(char* p) const noexcept { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
  static sse2_block repeat(std::uint32_t four) noexcept { return {_mm_set1_epi32(static_cast<int>(four))}; }

  sse2_block is(char c) const noexcept { return {_mm_cmpeq_epi8(v, _mm_set1_epi8(c))}; }
  sse2_block below(char c) const noexcept {  // there is no unsigned comparison, but an unsigned minimum
    return {_mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(static_cast<char>(c - 1))), v)};
  }
  sse2_block between(char low, char high) const noexcept {
    return sse2_block{_mm_sub_epi8(v, _mm_set1_epi8(low))}.below(static_cast<char>(high - low + 1));
  }
  sse2_block below_or_high(char c) const noexcept { return {_mm_cmplt_epi8(v, _mm_set1_epi8(c))}; }  // signed
  sse2_block with_bits(char c) const noexcept { return {_mm_or_si128(v, _mm_set1_epi8(c))}; }

  friend sse2_block operator|(sse2_block a, sse2_block b) noexcept { return {_mm_or_si128(a.v, b.v)}; }
  friend sse2_block operator&(sse2_block a, sse2_block b) noexcept { return {_mm_and_si128(a.v, b.v)}; }
  friend sse2_block operator^(sse2_block a, sse2_block b) noexcept { return {_mm_xor_si128(a.v, b.v)}; }
  sse2_block operator~() const noexcept { return {_mm_xor_si128(v, _mm_set1_epi8(-1))}; }

  bool any() const noexcept { return _mm_movemask_epi8(v) != 0; }
  std::size_t first() const noexcept {
    return static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(_mm_movemask_epi8(v))));
  }
};
using vector_block = sse2_block;

#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(__ARM_BIG_ENDIAN)

struct neon_block {
  static constexpr std::size_t size = 16;
  uint8x16_t v = vdupq_n_u8(0);

  static neon_block load(const char* p) noexcept { return {vld1q_u8(reinterpret_cast<const std::uint8_t*>(p))}; }
  static neon_block load_part(const char* p, std::size_t n) noexcept {
    std::uint64_t low = load_up_to_8(p, std::min<std::size_t>(n, 8)), high = n > 8 ? load_up_to_8(p + 8, n - 8) : 0;
    return {vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low), vcreate_u64(high)))};
  }
  void store(char* p) const noexcept { vst1q_u8(reinterpret_cast<std::uint8_t*>(p), v); }
  static neon_block repeat(std::uint32_t four) noexcept { return {vreinterpretq_u8_u32(vdupq_n_u32(four))}; }

  neon_block is(char c) const noexcept { return {vceqq_u8(v, vdupq_n_u8(static_cast<std::uint8_t>(c)))}; }
  neon_block below(char c) const noexcept { return {vcltq_u8(v, vdupq_n_u8(static_cast<std::uint8_t>(c)))}; }
  neon_block between(char low, char high) const noexcept {
    return neon_block{vsubq_u8(v, vdupq_n_u8(static_cast<std::uint8_t>(low)))}.below(static_cast<char>(high - low + 1));
  }
  neon_block below_or_high(char c) const noexcept {  // signed
    return {vcltq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(static_cast<std::int8_t>(c)))};
  }
  neon_block with_bits(char c) const noexcept { return {vorrq_u8(v, vdupq_n_u8(static_cast<std::uint8_t>(c)))}; }

  friend neon_block operator|(neon_block a, neon_block b) noexcept { return {vorrq_u8(a.v, b.v)}; }
  friend neon_block operator&(neon_block a, neon_block b) noexcept { return {vandq_u8(a.v, b.v)}; }
  friend neon_block operator^(neon_block a, neon_block b) noexcept { return {veorq_u8(a.v, b.v)}; }
  neon_block operator~() const noexcept { return {vmvnq_u8(v)}; }

  bool any() const noexcept { return nibbles() != 0; }
  std::size_t first() const noexcept { return static_cast<std::size_t>(std::countr_zero(nibbles())) / 4; }

 private:
  /// Four bits for each byte, set where its top bit is: NEON has no instruction that gathers the top bits.
  std::uint64_t nibbles() const noexcept {
    uint8x16_t whole = vreinterpretq_u8_s8(vshrq_n_s8(vreinterpretq_s8_u8(v), 7));
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(whole), 4)), 0);
  }
};
using vector_block = neon_block;

#else
using vector_block = word_block;
#endif

/// `find_first` in less than a block. Where the zeros behind its bytes are flagged, the first of them is the end.
template <class Block, class Stops>
[[gnu::noinline]] const char* find_in_part(const char* p, const char* end, Stops stops) noexcept {
  auto flags = stops(Block::load_part(p, static_cast<std::size_t>(end - p)));
  return flags.any() ? p + flags.first() : end;
}

/// The first byte of [p, end) that `stops`, a function from a block to flags, flags; `end` if there is none.
template <class Block = vector_block, class Stops>
inline const char* find_first(const char* p, const char* end, Stops stops) noexcept {
  for (; static_cast<std::size_t>(end - p) >= Block::size; p += Block::size)
    if (auto flags = stops(Block::load(p)); flags.any()) return p + flags.first();
  return p == end ? p : find_in_part<Block>(p, end, stops);
}

/// XORs `size` bytes with the four bytes of `key` (in memory order) in turn, from the byte `phase` of them on. Whether
/// all that comes out is ASCII.
template <class Block = vector_block>
inline bool xor_bytes(char* data, std::size_t size, std::uint32_t key, std::size_t phase) noexcept {
  const int bits = static_cast<int>(phase & 3) * 8;
  key = std::endian::native == std::endian::little ? std::rotr(key, bits) : std::rotl(key, bits);
  const Block mask = Block::repeat(key);
  Block seen;
  for (; size >= 4 * Block::size; size -= 4 * Block::size, data += 4 * Block::size) {
    Block a = Block::load(data) ^ mask, b = Block::load(data + Block::size) ^ mask,
          c = Block::load(data + 2 * Block::size) ^ mask, d = Block::load(data + 3 * Block::size) ^ mask;
    a.store(data), b.store(data + Block::size), c.store(data + 2 * Block::size), d.store(data + 3 * Block::size);
    seen = seen | ((a | b) | (c | d));
  }
  for (; size >= Block::size; size -= Block::size, data += Block::size) {
    Block a = Block::load(data) ^ mask;
    a.store(data);
    seen = seen | a;
  }
  const word_block word_mask = word_block::repeat(key);
  word_block rest;
  if (size >= 8) {
    rest = word_block::load(data) ^ word_mask;
    rest.store(data);
    size -= 8, data += 8;
  }
  if (size >= 4) {
    std::uint32_t four;
    std::memcpy(&four, data, 4);
    four ^= key;
    std::memcpy(data, &four, 4);
    rest.v |= four;
    size -= 4, data += 4;
  }
  unsigned char pattern[4], tail = 0;
  std::memcpy(pattern, &key, 4);
  for (std::size_t i = 0; i < size; ++i) {
    auto byte = static_cast<unsigned char>(static_cast<unsigned char>(data[i]) ^ pattern[i]);
    data[i] = static_cast<char>(byte);
    tail |= byte;
  }
  return !seen.any() && !rest.any() && tail < 0x80;
}

/// Flags every byte that is not ASCII.
struct not_ascii {
  template <class Block>
  Block operator()(Block b) const noexcept {
    return b;
  }
};

}  // namespace hailwire::detail
