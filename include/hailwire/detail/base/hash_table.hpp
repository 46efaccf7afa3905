// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// What an object derives from to be found in a `intrusive_hash_table`. It leaves the index before it goes.
struct hash_node {
  hash_node* next_in_bucket = nullptr;
  std::uint32_t hash = 0;  // four bytes, behind which the members of whoever derives from it begin
};

/// A hash table of objects that belong to somebody else: chains through the objects themselves, so that entering and
/// leaving allocate nothing and nobody ever moves. Nothing here is a template, and each kind of object adds one small
/// function: a `std::unordered_map` would add some two hundred to whoever compiles it.
///
/// The table has a power of two buckets, doubles when there are more than two objects to a bucket and does not shrink:
/// it takes four to eight bytes an object, and about two of those are looked at to find one. Of a hash the low 32 bits
/// count. Where strangers choose the input, it has to be a keyed one.
class hash_table {
 public:
  hash_table() = default;
  hash_table(const hash_table&) = delete;
  hash_table& operator=(const hash_table&) = delete;
  ~hash_table() { delete[] table_; }

  /// Never fails: where there is no memory for more buckets, chains grow longer.
  void insert(hash_node& n, std::uint64_t hash) noexcept {
    if (size_ >= 2 * buckets()) [[unlikely]]
      grow();
    n.hash = static_cast<std::uint32_t>(hash);
    link(n);
    ++size_;
  }
  /// Precondition: it is in here.
  void remove(hash_node& n) noexcept {
    hash_node** at = &head(n.hash);
    while (*at != &n) at = &(*at)->next_in_bucket;
    *at = n.next_in_bucket;
    n.next_in_bucket = nullptr;
    --size_;
  }
  std::size_t size() const noexcept { return size_; }
  std::size_t buckets() const noexcept { return mask_ + 1; }
  /// Where a hash would be found: not to be looked at, but asked for before it is.
  const void* bucket_address(std::uint64_t hash) const noexcept { return table_ ? &table_[hash & mask_] : nullptr; }
  /// Who stands there: the first of the chain, or, where that is known to be another, the second; null when there is
  /// none.
  const hash_node* candidate(std::uint64_t hash, bool looked_at_first) const noexcept {
    const hash_node* n = bucket(hash & mask_);
    return looked_at_first && n && n->hash != static_cast<std::uint32_t>(hash) ? n->next_in_bucket : n;
  }
  /// The first of a bucket's chain; a bucket holds what has hashes equal to its number modulo `buckets()`.
  hash_node* bucket(std::size_t number) const noexcept { return table_ ? table_[number] : only_; }

 private:
  hash_node*& head(std::uint64_t hash) noexcept { return table_ ? table_[hash & mask_] : only_; }
  void link(hash_node& n) noexcept {
    hash_node*& first = head(n.hash);
    n.next_in_bucket = first;
    first = &n;
  }
  void grow() noexcept {
    std::size_t count = table_ ? 2 * buckets() : 8;
    if (count - 1 > UINT32_MAX) return;
    auto** larger = new (std::nothrow) hash_node* [count] {};
    if (!larger) return;
    std::size_t old = buckets();
    auto** before = table_;
    hash_node* chain = only_;
    only_ = nullptr;
    table_ = larger;
    mask_ = count - 1;
    for (std::size_t i = 0; i < old; ++i) {
      if (before) chain = before[i];
      while (chain) {
        hash_node* n = chain;
        chain = n->next_in_bucket;
        link(*n);
      }
    }
    delete[] before;
  }

  hash_node** table_ = nullptr;
  hash_node* only_ = nullptr;  // the single bucket of a table that has allocated nothing yet
  std::size_t mask_ = 0, size_ = 0;
};

/// A `hash_table` of `T`, which derives from `hash_node`.
template <class T>
class intrusive_hash_table : public hash_table {
 public:
  /// The one with this hash for which `same(const T&)` holds, or null.
  template <class Same>
  T* find(std::uint64_t hash, Same same) const noexcept {
    for (hash_node* n = bucket(hash & (buckets() - 1)); n; n = n->next_in_bucket)
      if (n->hash == static_cast<std::uint32_t>(hash) && same(static_cast<const T&>(*n))) return static_cast<T*>(n);
    return nullptr;
  }
  /// Calls `f(T&)` for each; `f` changes nothing of the table.
  template <class F>
  void each(F f) const {
    for (std::size_t i = 0; i < buckets(); ++i)
      for (hash_node* n = bucket(i); n; n = n->next_in_bucket) f(static_cast<T&>(*n));
  }
  /// For an index whose objects belong to it.
  void delete_all() noexcept {
    for (std::size_t i = 0; i < buckets(); ++i) {
      while (auto* n = static_cast<T*>(bucket(i))) {
        remove(*n);
        delete n;
      }
    }
  }
};

}  // namespace hailwire::detail
