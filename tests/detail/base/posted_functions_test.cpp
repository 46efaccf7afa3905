// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/posted_functions.hpp"

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "catch.hpp"

using hailwire::detail::posted_functions;

TEST_CASE("what a loop's own thread posts runs in order and wakes nobody", "[posted]") {
  posted_functions posted;
  CHECK_FALSE(posted.any());
  posted.run();
  std::string ran;
  CHECK_FALSE(posted.add([&] { ran += 'a'; }, true));
  CHECK_FALSE(posted.add([&] { ran += 'b'; }, true));
  CHECK(posted.any());
  CHECK(ran.empty());
  posted.run();
  CHECK(ran == "ab");
  CHECK_FALSE(posted.any());
}

TEST_CASE("the first that other threads post wakes the loop, the next ones do not", "[posted]") {
  posted_functions posted;
  std::string ran;
  CHECK_FALSE(posted.add([&] { ran += 'a'; }, true));
  CHECK(posted.add([&] { ran += 'b'; }, false));
  CHECK_FALSE(posted.add([&] { ran += 'c'; }, false));
  posted.run();
  CHECK(ran == "abc");
  CHECK(posted.add([&] { ran += 'd'; }, false));
  posted.run();
  CHECK(ran == "abcd");
}

TEST_CASE("what was posted before runs before, whoever posted it", "[posted]") {
  posted_functions posted;
  std::string ran;
  posted.add([&] { ran += 'a'; }, false);
  CHECK_FALSE(posted.add([&] { ran += 'b'; }, true));  // perhaps because of the first
  posted.add([&] { ran += 'c'; }, false);
  posted.add([&] { ran += 'd'; }, true);
  posted.run();
  CHECK(ran == "abcd");
}

TEST_CASE("what a posted function posts waits for the next run", "[posted]") {
  posted_functions posted;
  std::string ran;
  auto post_more = [&] {
    ran += 'a';
    posted.add([&] { ran += 'b'; }, true);
    posted.add([&] { ran += 'c'; }, false);
  };
  posted.add(post_more, true);
  posted.run();
  CHECK(ran == "a");
  CHECK(posted.any());
  posted.run();
  CHECK(ran == "abc");
  CHECK_FALSE(posted.any());
}

TEST_CASE("what throws leaves the run, and the next one goes on behind it", "[posted]") {
  posted_functions posted;
  std::string ran;
  auto held = std::make_shared<int>();
  for (bool own : {true, false}) {
    posted.add([&] { ran += 'a'; }, own);
    posted.add([held] { throw std::runtime_error("a host's"); }, own);
    posted.add([&] { ran += 'b'; }, own);
  }
  CHECK_THROWS_AS(posted.run(), std::runtime_error);
  CHECK(ran == "a");
  CHECK(held.use_count() == 2);  // the one that threw is gone
  CHECK(posted.any());
  posted.add([&] { ran += 'c'; }, true);
  CHECK_THROWS_AS(posted.run(), std::runtime_error);
  CHECK(ran == "aba");
  posted.run();
  CHECK(ran == "ababc");
  CHECK_FALSE(posted.any());
}

TEST_CASE("what has not run goes with the loop", "[posted]") {
  auto held = std::make_shared<int>();
  {
    posted_functions posted;
    for (bool own : {true, false}) posted.add([held] {}, own);
    CHECK(held.use_count() == 3);
  }
  CHECK(held.use_count() == 1);
}

TEST_CASE("threads post while the loop runs, and each thread's own order is kept", "[posted]") {
  constexpr int threads = 3, each = 2000;
  posted_functions posted;
  std::vector<int> next(threads + 1, 0);
  int disorder = 0, own = 0;
  auto note = [&](int of, int n) {
    disorder += next[static_cast<std::size_t>(of)] != n;
    ++next[static_cast<std::size_t>(of)];
  };
  std::vector<std::thread> others;
  for (int t = 0; t < threads; ++t)
    others.emplace_back([&, t] {
      for (int n = 0; n < each; ++n) posted.add([&note, t, n] { note(t, n); }, false);
    });
  auto over = [&] {
    for (int n : next)
      if (n != each) return false;
    return true;
  };
  while (!over()) {
    if (own < each) posted.add([&note, n = own] { note(threads, n); }, true), ++own;
    posted.run();
  }
  for (auto& t : others) t.join();
  CHECK(disorder == 0);
  CHECK_FALSE(posted.any());
}
