// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/vector.hpp"

#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/detail/base/pointers.hpp"

using hailwire::detail::vector;

namespace {

std::string joined(const vector<std::string>& v) {
  std::string out;
  for (const auto& one : v) out += one + ' ';
  return out;
}

// Counts how many there are, and knows whether it is at the address where it was made or moved to.
struct witness {
  explicit witness(int& alive) : alive_(&alive) { ++alive; }
  witness(witness&& other) noexcept : alive_(other.alive_) { ++*alive_; }
  witness& operator=(witness&&) noexcept { return *this; }
  ~witness() { --*alive_; }
  bool sound() const noexcept { return self_ == this; }

 private:
  int* alive_;
  witness* self_ = this;
};

}  // namespace

TEST_CASE("a vector does what a std::vector does") {
  std::mt19937 random(7);
  vector<std::string> v;
  std::vector<std::string> model;
  for (int step = 0; step < 4000; ++step) {
    std::string text = std::to_string(random()) + " and more than fits inside";
    std::size_t at = model.empty() ? 0 : random() % model.size();
    auto place = model.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random() % 12) {
      case 0:
      case 1:
      case 2:
        v.push_back(text), model.push_back(text);
        break;
      case 3:
        CHECK(v.emplace_back(3u, 'x') == model.emplace_back(3u, 'x'));
        break;
      case 4:
        v.insert(v.begin() + at, text), model.insert(place, text);
        break;
      case 5:
        if (!model.empty()) v.erase(v.begin() + at), model.erase(place);
        break;
      case 6:
        v.erase(v.begin() + at, v.end()), model.erase(place, model.end());
        break;
      case 7:
        if (!model.empty()) v.pop_back(), model.pop_back();
        break;
      case 8:
        v.resize(at + 2), model.resize(at + 2);
        break;
      case 9:
        v.assign(3, text), model.assign(3, text);
        break;
      case 10: {
        auto other = v;
        v.clear();
        CHECK(v.empty());
        v = std::move(other);
        break;
      }
      case 11:
        v.remove("xxx"), std::erase(model, "xxx");
        break;
    }
    REQUIRE(v.size() == model.size());
    REQUIRE(std::vector<std::string>(v.begin(), v.end()) == model);
    if (!model.empty())
      REQUIRE((v.front() == model.front() && v.back() == model.back() && v[v.size() / 2] == model[v.size() / 2]));
  }
}

TEST_CASE("a vector's elements are moved one by one unless their bytes may be, and end once each") {
  int alive = 0;
  {
    vector<witness> v;
    for (int i = 0; i < 100; ++i) v.emplace_back(alive);
    CHECK(alive == 100);
    for (const auto& one : v) REQUIRE(one.sound());
    v.erase(v.begin() + 10, v.begin() + 60);
    CHECK(alive == 50);
    auto other = std::move(v);
    CHECK(v.empty());
    CHECK(other.size() == 50);
    other.swap(v);
    v.clear();
    CHECK(alive == 0);
    CHECK(v.capacity() >= 100);
    v.emplace_back(alive);
  }
  CHECK(alive == 0);
}

TEST_CASE("a vector of owners owns what they own") {
  vector<std::unique_ptr<std::string>> v;
  for (int i = 0; i < 20; ++i) v.push_back(std::unique_ptr<std::string>(new std::string(std::to_string(i))));
  CHECK(*v[13] == "13");
  v.erase(v.begin(), v.begin() + 13);
  CHECK(*v.front() == "13");
  vector<vector<std::unique_ptr<std::string>>> nested;
  for (int i = 0; i < 5; ++i) {
    nested.emplace_back();
    nested.back().push_back(std::unique_ptr<std::string>(new std::string("x")));
  }
  CHECK(*nested[0][0] == "x");
}

TEST_CASE("a vector is made of a list and grows as one that is asked for room") {
  vector<std::string> v{"a", "b"};
  CHECK(joined(v) == "a b ");
  v.reserve(10);
  CHECK(v.capacity() == 10);
  CHECK(joined(v) == "a b ");
  const auto* before = v.data();
  while (v.size() < 10) v.push_back("c");
  CHECK(v.data() == before);
}

TEST_CASE("a vector cannot be asked for more than it can count") {
  vector<std::uint32_t> v;
  CHECK_THROWS_AS(v.reserve(std::size_t{1} << 40), std::length_error);
  CHECK(v.empty());
}
