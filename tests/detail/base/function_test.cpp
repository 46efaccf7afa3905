// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/function.hpp"

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "catch.hpp"

using hailwire::detail::move_only_function;

namespace {

/// Counts how many of it there are; large ones do not fit inside.
template <std::size_t words>
struct counted {
  explicit counted(int& alive) : alive_(&alive) { ++alive; }
  counted(counted&& other) noexcept : alive_(other.alive_), calls_(other.calls_) { ++*alive_; }
  ~counted() { --*alive_; }
  int operator()(int n) { return n + ++calls_; }
  int* alive_;
  int calls_ = 0;
  std::array<void*, words> more_{};
};

template <std::size_t words>
void is_kept_once() {
  int alive = 0;
  {
    move_only_function<int(int)> f = counted<words>(alive);
    CHECK(alive == 1);
    CHECK(f(10) == 11);
    CHECK(f(10) == 12);  // it has its own state
    move_only_function<int(int)> g = std::move(f);
    CHECK(alive == 1);
    CHECK_FALSE(bool(f));
    CHECK(g(10) == 13);
    f = std::move(g);
    CHECK(alive == 1);
    CHECK(f(10) == 14);
    f = counted<words>(alive);  // the old one goes
    CHECK(alive == 1);
    CHECK(f(10) == 11);
    auto& self = f;
    f = std::move(self);
    CHECK(alive == 1);
    CHECK(f(10) == 12);
    f = nullptr;
    CHECK(alive == 0);
    CHECK_FALSE(bool(f));
  }
  CHECK(alive == 0);
}

TEST_CASE("a callable is moved, never copied, and ends once, wherever it lives") {
  is_kept_once<0>();   // inside
  is_kept_once<2>();   // just inside
  is_kept_once<3>();   // just not
  is_kept_once<40>();  // on the heap
}

TEST_CASE("what may throw when it is moved lives on the heap, so that moving the function does not") {
  struct throws {
    throws() = default;
    throws(throws&& other) noexcept(false) : moves(other.moves + 1) {
      if (moves > 1) throw std::runtime_error("moved twice");
    }
    int operator()() { return moves; }
    int moves = 0;
  };
  move_only_function<int()> f{throws()};
  move_only_function<int()> g = std::move(f);
  f = std::move(g);
  CHECK(f() == 1);
  static_assert(std::is_nothrow_move_constructible_v<decltype(f)>);
  static_assert(!std::is_copy_constructible_v<decltype(f)>);
}

TEST_CASE("an empty function is false, also one made from null") {
  CHECK_FALSE(bool(move_only_function<void()>()));
  CHECK_FALSE(bool(move_only_function<void()>(nullptr)));
  CHECK(bool(move_only_function<void()>([] {})));
}

TEST_CASE("arguments and results travel as they are: references, what cannot be copied, conversions") {
  move_only_function<std::unique_ptr<int>(std::unique_ptr<int>)> through = [](std::unique_ptr<int> p) {
    ++*p;
    return p;
  };
  CHECK(*through(std::make_unique<int>(6)) == 7);
  int n = 1;
  move_only_function<int&(int&)> same = [](int& i) -> int& { return i; };
  same(n) = 5;
  CHECK(n == 5);
  move_only_function<std::string(const char*)> converts = [](std::string s) { return s + '!'; };
  CHECK(converts("so") == "so!");
  move_only_function<void()> drops = [] { return 7; };
  drops();
  static_assert(!std::is_constructible_v<move_only_function<void(int)>, int>);
}

TEST_CASE("a function may be replaced, and destroyed, by what it calls") {
  move_only_function<void()> f;
  int done = 0;
  f = [&f, &done, big = std::array<int, 40>{}] {
    static_cast<void>(big);    // for its size alone: the callable lies on the heap
    auto self = std::move(f);  // as whoever calls a handler once does
    f = [&done] { ++done; };
    f();
  };
  f();
  CHECK(done == 1);
}

TEST_CASE("what a call throws comes out of it, and the callable stays") {
  int calls = 0;
  move_only_function<void()> f = [&] {
    if (++calls == 1) throw std::runtime_error("once");
  };
  CHECK_THROWS_AS(f(), std::runtime_error);
  f();
  CHECK(calls == 2);
}

}  // namespace
