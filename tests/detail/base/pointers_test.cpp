// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/pointers.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "catch.hpp"

using namespace hailwire::detail;

namespace {

struct thing : intrusive_count, with_tail {
  explicit thing(int& alive) : alive_(&alive) { ++alive; }
  ~thing() { --*alive_; }
  char* text() noexcept { return reinterpret_cast<char*>(this + 1); }
  const char* text() const noexcept { return reinterpret_cast<const char*>(this + 1); }

 private:
  int* alive_;
};
intrusive_ptr<thing> make(int& alive, std::string_view text) {
  auto t = std::unique_ptr<thing>(new (with_tail::tail{text.size()}) thing(alive));
  text.copy(t->text(), text.size());
  return intrusive_ptr<thing>(t.release());
}

}  // namespace

TEST_CASE("a shared object goes with the last who points to it") {
  int alive = 0;
  intrusive_ptr<thing> none, a = make(alive, "text behind the thing");
  CHECK_FALSE(none);
  CHECK(a);
  {
    intrusive_ptr<thing> b = a, c = std::move(b);
    CHECK_FALSE(b);
    CHECK(c == a);
    a = none;
    CHECK(alive == 1);
    CHECK(std::string_view(c->text(), 21) == "text behind the thing");
    c = make(alive, "another");
    CHECK(alive == 1);
    auto& same = c;
    c = same;
    CHECK(alive == 1);
    CHECK(std::string_view((*c).text(), 7) == "another");
  }
  CHECK(alive == 0);
}

TEST_CASE("copies may come and go on several threads") {
  int alive = 0;
  {
    auto a = make(alive, "x");
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([a] {
        for (int n = 0; n < 10'000; ++n) {
          intrusive_ptr<thing> b = a, c = std::move(b);
          if (*c->text() != 'x') std::terminate();
        }
      });
    }
    for (auto& t : threads) t.join();
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}

TEST_CASE("an owned object goes with its owner, and ownership moves to a base") {
  struct base {
    explicit base(int& alive) : alive_(&alive) { ++alive; }
    virtual ~base() { --*alive_; }
    int* alive_;
  };
  struct derived final : base {
    using base::base;
  };
  int alive = 0;
  {
    std::unique_ptr<derived> first(new derived(alive));
    std::unique_ptr<base> second = std::move(first);
    CHECK_FALSE(first);
    CHECK(first == nullptr);
    CHECK(alive == 1);
    second = std::unique_ptr<base>(new derived(alive));
    CHECK(alive == 1);
    std::unique_ptr<base> third(second.release());
    CHECK_FALSE(second);
    third.reset();
    CHECK(alive == 0);
    second = std::unique_ptr<derived>(new derived(alive));
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}
