// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/hash_table.hpp"

#include <memory>
#include <unordered_map>
#include <vector>

#include "catch.hpp"

using namespace hailwire::detail;

namespace {

struct thing : hash_node {
  explicit thing(std::uint64_t n) : name(n) {}
  std::uint64_t name;
};
thing* find(intrusive_hash_table<thing>& index, std::uint64_t hash, std::uint64_t name) {
  return index.find(hash, [&](const thing& t) { return t.name == name; });
}

}  // namespace

TEST_CASE("an empty index finds nothing and has allocated nothing") {
  intrusive_hash_table<thing> index;
  CHECK(index.size() == 0);
  CHECK(index.buckets() == 1);
  CHECK(find(index, 0, 0) == nullptr);
  CHECK(index.bucket(0) == nullptr);
}

TEST_CASE("of a hash the low 32 bits count; what derives from a node begins behind them") {
  intrusive_hash_table<thing> index;
  thing a(1);
  index.insert(a, 0x1'0000'0007);
  CHECK(find(index, 0x2'0000'0007, 1) == &a);
  CHECK(find(index, 0x1'0000'0008, 1) == nullptr);
  struct small : hash_node {
    std::uint32_t n;
  };
  CHECK(sizeof(small) == 2 * sizeof(void*));
}

TEST_CASE(
    "of a hash it tells the memory where it stands: its bucket, the first there, and the second where the first is "
    "another") {
  intrusive_hash_table<thing> index;
  CHECK(index.bucket_address(5) == nullptr);
  CHECK(index.candidate(5, false) == nullptr);
  CHECK(index.candidate(5, true) == nullptr);
  thing a(1), b(2), c(3);  // the third makes a table of eight buckets
  index.insert(a, 5);
  index.insert(b, 5 + 8);
  index.insert(c, 6);
  REQUIRE(index.buckets() == 8);
  const hash_node* first = index.bucket(5);
  const auto* at = static_cast<const hash_node* const*>(index.bucket_address(5));
  REQUIRE(at);
  CHECK(*at == first);
  for (std::uint64_t hash : {std::uint64_t{5}, std::uint64_t{5 + 8}}) {
    CHECK(index.candidate(hash, false) == first);
    CHECK(index.candidate(hash, true) == find(index, hash, hash == 5 ? 1 : 2));
  }
  CHECK(index.candidate(6 + 8, true) == nullptr);
}

TEST_CASE("an index that owns its things deletes them all") {
  static int alive;
  struct owned : hash_node {
    owned() { ++alive; }
    ~owned() { --alive; }
  };
  intrusive_hash_table<owned> index;
  index.delete_all();
  for (std::uint64_t i = 0; i < 100; ++i) index.insert(*new owned, i / 3);
  CHECK(alive == 100);
  index.delete_all();
  CHECK(alive == 0);
  CHECK(index.size() == 0);
}

TEST_CASE("things with the same hash are told apart, things with another hash are not asked") {
  intrusive_hash_table<thing> index;
  thing a(1), b(2), c(3);
  index.insert(a, 7);
  index.insert(b, 7);
  index.insert(c, 8);
  CHECK(find(index, 7, 1) == &a);
  CHECK(find(index, 7, 2) == &b);
  CHECK(find(index, 7, 3) == nullptr);
  CHECK(find(index, 8, 3) == &c);
  index.remove(b);
  CHECK(find(index, 7, 2) == nullptr);
  CHECK(find(index, 7, 1) == &a);
  CHECK(index.size() == 2);
}

TEST_CASE("it agrees with the standard's map through a long life, and every bucket's chain is where it belongs") {
  std::uint64_t random = 1;
  auto next = [&] { return random = random * 6364136223846793005u + 1442695040888963407u, random >> 33; };
  intrusive_hash_table<thing> index;
  std::unordered_map<std::uint64_t, std::unique_ptr<thing>> model;
  for (int step = 0; step < 20'000; ++step) {
    std::uint64_t name = next() % 3'000, hash = name * 0x9E3779B97F4A7C15u >> 40;  // collides at times
    auto known = model.find(name);
    CHECK(find(index, hash, name) == (known == model.end() ? nullptr : known->second.get()));
    if (known == model.end()) {
      known = model.emplace(name, std::make_unique<thing>(name)).first;
      index.insert(*known->second, hash);
    } else if (next() % 3 == 0) {
      index.remove(*known->second);
      model.erase(known);
    }
  }
  CHECK(index.size() == model.size());
  CHECK(index.buckets() >= index.size() / 2);
  std::size_t seen = 0;
  for (std::size_t i = 0; i < index.buckets(); ++i) {
    for (auto* n = index.bucket(i); n; n = n->next_in_bucket) {
      CHECK((n->hash & (index.buckets() - 1)) == i);
      ++seen;
    }
  }
  CHECK(seen == model.size());
}
