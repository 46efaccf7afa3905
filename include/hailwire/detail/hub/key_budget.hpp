// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/vector.hpp"

namespace hailwire::detail {

/// How many idempotency keys each user, or each scope of anonymous clients, has stored within a key's life. A key takes
/// memory or disk for as long as it lives, so without a bound one client could spend everybody's.
///
/// A sliding window in slices: a key counts until the whole slice that it was stored in is older than a key's life, so
/// never less is counted than is kept. One entry takes about 450 bytes and 8 for each key, by whose hash a repeat is
/// told from one key more; it goes a life after the last key of its owner.
class key_budget {
 public:
  static constexpr std::int64_t slice_ms = 30'000;
  /// What was counted, for `give_back`.
  struct charge {
    bits128 who = {};
    std::uint64_t key = 0;
    std::int64_t at = -1;  ///< negative: nothing was
  };

  explicit key_budget(std::int64_t life_ms) noexcept : life_(life_ms) {}
  key_budget(const key_budget&) = delete;
  key_budget& operator=(const key_budget&) = delete;
  ~key_budget() { owners_.delete_all(); }

  /// Counts one more key of `who` at time `now`: 0, and `c` says so. Where there are `most` already, nothing is
  /// counted: 0 again for a key that is among them, and else after how many milliseconds there is room for one. Throws
  /// `std::bad_alloc`, and nothing is counted then.
  std::int64_t take(const bits128& who, std::uint64_t key, std::int64_t now, std::size_t most, charge& c);
  /// Takes back one that was counted, because no key was stored.
  void give_back(const charge& c) noexcept;
  /// Forgets owners without a key that is still kept.
  void sweep(std::int64_t now) noexcept;
  std::size_t owners() const noexcept { return owners_.size(); }

 private:
  static constexpr std::size_t count = 12;  // as many as a life of five minutes can touch, and one

  struct slice {
    std::int64_t number = -1;
    vector<std::uint64_t> keys;  // hashes of those stored in it
  };
  struct owner : hash_node {
    bits128 name;
    std::array<slice, count> slices{};
    std::int64_t newest = 0;
    owner *older = nullptr, *younger = nullptr;
  };
  // The first slice of which a key may still be kept.
  std::int64_t first_slice(std::int64_t now) const noexcept { return now < life_ ? 0 : (now - life_) / slice_ms; }
  owner* find(const bits128& who) const noexcept {
    return owners_.find(who.low, [&](const owner& o) { return o.name == who; });
  }
  void link(owner& o) noexcept;
  void unlink(owner& o) noexcept;

  std::int64_t life_;
  intrusive_hash_table<owner> owners_;
  owner *oldest_ = nullptr, *youngest_ = nullptr;  // by their newest key
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/key_budget.ipp"
#endif
