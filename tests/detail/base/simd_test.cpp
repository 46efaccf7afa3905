// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/simd.hpp"

#include <memory>
#include <string>

#include "catch.hpp"

using namespace hailwire::detail;

namespace {

/// What a block says of a byte that stands at each of its places, against what is known of the byte.
template <class Block, class Flags, class Byte>
void holds_at_every_place(Flags flags, Byte byte) {
  for (int other : {0x00, 0x41, 0xFF}) {
    for (int c = 0; c < 256; ++c) {
      for (std::size_t place = 0; place < Block::size; ++place) {
        std::string bytes(Block::size, static_cast<char>(other));
        bytes[place] = static_cast<char>(c);
        Block got = flags(Block::load(bytes.data()));
        std::size_t first = Block::size;
        for (std::size_t i = Block::size; i-- > 0;)
          if (byte(static_cast<unsigned char>(bytes[i]))) first = i;
        if (got.any() != (first < Block::size)) FAIL("byte " << c << " at " << place << " among " << other);
        if (got.any() && got.first() != first) FAIL("byte " << c << " at " << place << " among " << other);
      }
    }
  }
}

template <class Block>
void comparisons_are_exact() {
  for (int c : {1, 0x20, 0x41, 0x7F}) {
    auto as_char = static_cast<char>(c);
    holds_at_every_place<Block>([=](Block b) { return b.is(as_char); }, [=](int x) { return x == c; });
    holds_at_every_place<Block>([=](Block b) { return b.below(as_char); }, [=](int x) { return x < c; });
    holds_at_every_place<Block>([=](Block b) { return ~b.below(as_char); }, [=](int x) { return x >= c; });
    holds_at_every_place<Block>([=](Block b) { return b.below_or_high(as_char); },
                                [=](int x) { return x < c || x > 0x7F; });
    holds_at_every_place<Block>([=](Block b) { return b.between('A', as_char < 'A' ? 'A' : as_char); },
                                [=](int x) { return x >= 'A' && x <= (c < 'A' ? 'A' : c); });
  }
  holds_at_every_place<Block>([](Block b) { return b.is('\0'); }, [](int x) { return x == 0; });
  holds_at_every_place<Block>([](Block b) { return b.between('\0', '\x7F'); }, [](int x) { return x < 0x80; });
  holds_at_every_place<Block>([](Block b) { return b.with_bits(' ').between('a', 'z'); },
                              [](int x) { return (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z'); });
  holds_at_every_place<Block>(not_ascii(), [](int x) { return x > 0x7F; });
  holds_at_every_place<Block>([](Block b) { return (b.is('a') | b.below(' ')) & ~b.is('\t'); },
                              [](int x) { return x == 'a' || (x < 0x20 && x != '\t'); });
}

/// The bytes lie in a block of memory of exactly their size, so that the address sanitizer sees what is read beside
/// them; behind that, stops of both kinds are on either side where there is room.
template <class Block>
void find_is_the_first() {
  auto stops = [](auto b) { return b.is('"') | b.below(' '); };
  for (std::size_t alignment = 0; alignment < 16; ++alignment) {
    for (std::size_t size = 0; size <= 70; ++size) {
      for (std::size_t place = 0; place <= size; ++place) {
        std::unique_ptr<char[]> memory(new char[alignment + size]);
        std::fill_n(memory.get(), alignment, '"');
        char* from = memory.get() + alignment;
        std::fill_n(from, size, '\xC3');
        if (place < size) from[place] = place % 2 ? '"' : '\0';
        if (place + 1 < size) from[size - 1] = '"';
        if (find_first<Block>(from, from + size, stops) != from + place)
          FAIL("size " << size << " place " << place << " alignment " << alignment);
        // A stop just behind the end is not found, though it lies in the same block of the processor.
        if (find_first<Block>(from, from + place, stops) != from + place) FAIL("behind the end " << place);
      }
    }
  }
}

template <class Block>
void xor_is_byte_by_byte() {
  const unsigned char ring[4] = {0x12, 0x7F, 0x00, 0x5A};
  std::uint32_t key;
  std::memcpy(&key, ring, 4);
  for (std::size_t size = 0; size <= 150; ++size) {
    for (std::size_t phase = 0; phase < 4; ++phase) {
      for (std::size_t alignment = 0; alignment < 16; ++alignment) {
        // Where one byte is not ASCII afterwards; at `size`, none.
        for (std::size_t high : {size, size / 2, size ? size - 1 : 0, std::size_t{0}}) {
          std::unique_ptr<char[]> memory(new char[alignment + size]);
          std::string expected;
          for (std::size_t i = 0; i < size; ++i) {
            auto plain = static_cast<unsigned char>((i * 37 & 0x7F) | (i == high ? 0x80 : 0));
            expected += static_cast<char>(plain);
            memory[alignment + i] = static_cast<char>(plain ^ ring[(phase + i) % 4]);
          }
          bool ascii = xor_bytes<Block>(memory.get() + alignment, size, key, phase);
          if (std::string(memory.get() + alignment, size) != expected || ascii != (high >= size))
            FAIL("size " << size << " phase " << phase << " alignment " << alignment << " high " << high);
        }
      }
    }
  }
}

template <class Block>
void part_has_zeros_behind() {
  for (std::size_t n = 0; n < Block::size; ++n) {
    std::unique_ptr<char[]> memory(new char[n]);
    std::string expected(Block::size, '\0'), got(Block::size, 'x');
    for (std::size_t i = 0; i < n; ++i) expected[i] = memory[i] = static_cast<char>(0xF0 + i);
    Block::load_part(memory.get(), n).store(got.data());
    if (got != expected) FAIL("of " << n << " bytes");
  }
}

}  // namespace

TEST_CASE("comparisons of blocks are exact for every byte at every place", "[simd]") {
  comparisons_are_exact<vector_block>();
  comparisons_are_exact<word_block>();
}

TEST_CASE("a scan finds the first stop at every length, place and alignment", "[simd]") {
  find_is_the_first<vector_block>();
  find_is_the_first<word_block>();
}

TEST_CASE("XOR by blocks is XOR byte by byte, and tells ASCII, at every length, phase and alignment", "[simd]") {
  xor_is_byte_by_byte<vector_block>();
  xor_is_byte_by_byte<word_block>();
}

TEST_CASE("a part of a block has zeros behind it", "[simd]") {
  part_has_zeros_behind<vector_block>();
  part_has_zeros_behind<word_block>();
}
