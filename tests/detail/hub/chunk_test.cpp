// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/chunk.hpp"

#include <random>
#include <string>
#include <vector>

#include "catch.hpp"

using hailwire::detail::chunk;
using hailwire::detail::pointer_list;

namespace {

/// Frames of these sizes, of the offsets from 5 on.
chunk of(std::initializer_list<int> sizes) {
  chunk c;
  std::uint64_t offset = 5;
  for (int size : sizes) {
    c.bytes.append(static_cast<std::size_t>(size), static_cast<char>('a' + offset % 26));
    c.marks.push_back({offset++, static_cast<std::uint32_t>(c.bytes.size())});
  }
  return c;
}

TEST_CASE("all messages but the last are taken out, and what is live-only stays in its order") {
  using hailwire::detail::chunk;
  chunk c;
  auto add = [&](std::string_view frame, std::uint64_t offset, std::uint32_t live = 0) {
    c.bytes += frame;
    c.marks.push_back({offset, static_cast<std::uint32_t>(c.bytes.size()), live});
    c.live += live != 0;
  };
  c.keep_last();
  CHECK(c.bytes.empty());
  add("first", 1);
  c.keep_last();
  CHECK(c.bytes == "first");
  add("[a]", 1, chunk::notice);
  add("2", 2);
  c.keep_last();
  CHECK(c.bytes == "[a]2");
  add("[bb]", 2, chunk::ephemeral);
  add("the third", 3);
  c.keep_last();
  CHECK(c.bytes == "[a][bb]the third");
  REQUIRE(c.marks.size() == 3);
  CHECK(c.marks[0].end == 3);
  CHECK(c.marks[1].end == 7);
  CHECK(c.marks[2].end == 16);
  CHECK(c.first() == 3);
  CHECK(c.last() == 3);
  CHECK(c.live == 2);
}

TEST_CASE("a chunk knows the frame of each of its bytes") {
  const chunk c = of({3, 1, 4});
  const std::size_t begins[] = {0, 0, 0, 3, 4, 4, 4, 4}, ends[] = {3, 3, 3, 4, 8, 8, 8, 8};
  for (std::size_t at = 0; at < 8; ++at) {
    INFO("byte " << at);
    CHECK(c.frame_begin(at) == begins[at]);
    CHECK(c.frame_end(at) == ends[at]);
  }
}

TEST_CASE("a chunk knows what is complete in its first bytes") {
  const chunk c = of({3, 1, 4});
  const std::uint64_t whole[] = {99, 99, 99, 5, 6, 6, 6, 6, 7};
  for (std::size_t n = 0; n <= 8; ++n) {
    INFO(n << " bytes");
    CHECK(c.offset_at(n, 99) == whole[n]);
  }
}

TEST_CASE("a chunk finds where the message behind an offset begins") {
  const chunk c = of({3, 1, 4});
  CHECK(c.first() == 5);
  CHECK(c.last() == 7);
  CHECK(c.begin_after(0) == 0);
  CHECK(c.begin_after(4) == 0);
  CHECK(c.begin_after(5) == 3);
  CHECK(c.begin_after(6) == 4);
  CHECK(c.begin_after(7) == 8);
  CHECK(c.begin_after(UINT64_MAX) == 8);
}

TEST_CASE("a chunk holds its offsets, the first and the last too; an empty one holds none") {
  const chunk c = of({3, 1, 4});
  for (std::uint64_t offset = 3; offset < 10; ++offset) CHECK(c.holds(offset) == (offset >= 5 && offset <= 7));
  CHECK_FALSE(chunk().holds(0));
  CHECK(chunk().begin_after(7) == 0);
  CHECK(chunk().offset_at(0, 99) == 99);
}

struct alignas(8) thing {
  int n = 0;
};

TEST_CASE("a pointer list is what a vector is, whatever is done to it") {
  std::vector<thing> things(400);
  std::mt19937 random(1);
  for (int round = 0; round < 10; ++round) {
    pointer_list<thing> list;
    std::vector<thing*> expected;
    const auto grows = 2 + random() % 3;
    for (int step = 0; step < 400; ++step) {
      thing* p = &things[random() % things.size()];
      switch (random() % (grows + 3)) {
        case 0:
          if (!expected.empty()) list.pop_back(), expected.pop_back();
          break;
        case 1:
          list.shrink();
          break;
        case 2:
          if (!expected.empty()) {
            const std::size_t at = random() % expected.size();
            list.set(at, p);
            expected[at] = p;
          }
          break;
        default:
          if (random() % 2) list.reserve_one();
          list.push_back(p);
          expected.push_back(p);
      }
      REQUIRE(list.size() == expected.size());
      REQUIRE(list.empty() == expected.empty());
      for (std::size_t i = 0; i < expected.size(); ++i) REQUIRE(list[i] == expected[i]);
      if (!expected.empty()) REQUIRE(list.back() == expected.back());
    }
    while (!expected.empty()) {  // down to nothing, through each size at which it shrinks
      list.pop_back();
      expected.pop_back();
      REQUIRE(list.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) REQUIRE(list[i] == expected[i]);
    }
  }
}

TEST_CASE("a pointer list of one takes no memory: it is a pointer") {
  CHECK(sizeof(pointer_list<thing>) == sizeof(void*));
  thing one;
  pointer_list<thing> list;
  list.push_back(&one);
  CHECK(list.size() == 1);
  CHECK(list[0] == &one);
  list.pop_back();
  CHECK(list.empty());
}

}  // namespace
