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
  std::int64_t take(const bits128& who, std::uint64_t key, std::int64_t now, std::size_t most, charge& c) {
    sweep(now);
    owner* o = find(who);
    if (!o) {
      o = new owner;
      o->name = who;
      owners_.insert(*o, who.low);
    } else {
      unlink(*o);
    }
    o->newest = std::max(o->newest, now / slice_ms);
    link(*o);
    const std::int64_t first = first_slice(now);
    std::size_t taken = 0;
    std::int64_t oldest = o->newest;
    for (slice& s : o->slices) {
      if (s.number < first) s.keys = {};
      if (s.keys.size()) oldest = std::min(oldest, s.number);
      taken += s.keys.size();
    }
    if (taken >= most) {
      for (const slice& s : o->slices)
        if (std::find(s.keys.begin(), s.keys.end(), key) != s.keys.end()) return 0;
      return std::max<std::int64_t>(1, (oldest + 1) * slice_ms + life_ - now);
    }
    slice& s = o->slices[static_cast<std::size_t>(now / slice_ms) % count];
    if (s.number != now / slice_ms) s.keys = {}, s.number = now / slice_ms;
    s.keys.push_back(key);
    c = {who, key, now};
    return 0;
  }
  /// Takes back one that was counted, because no key was stored.
  void give_back(const charge& c) noexcept {
    owner* o = c.at < 0 ? nullptr : find(c.who);
    if (!o) return;
    slice& s = o->slices[static_cast<std::size_t>(c.at / slice_ms) % count];
    if (s.number != c.at / slice_ms) return;
    for (std::size_t i = s.keys.size(); i-- > 0;) {
      if (s.keys[i] != c.key) continue;
      s.keys[i] = s.keys.back();
      s.keys.pop_back();
      return;
    }
  }
  /// Forgets owners without a key that is still kept.
  void sweep(std::int64_t now) noexcept {
    const std::int64_t first = first_slice(now);
    while (oldest_ && oldest_->newest < first) {
      owner* gone = oldest_;
      unlink(*gone);
      owners_.remove(*gone);
      delete gone;
    }
  }
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
  void link(owner& o) noexcept {
    o.older = youngest_;
    (youngest_ ? youngest_->younger : oldest_) = &o;
    youngest_ = &o;
  }
  void unlink(owner& o) noexcept {
    (o.older ? o.older->younger : oldest_) = o.younger;
    (o.younger ? o.younger->older : youngest_) = o.older;
    o.older = o.younger = nullptr;
  }

  std::int64_t life_;
  intrusive_hash_table<owner> owners_;
  owner *oldest_ = nullptr, *youngest_ = nullptr;  // by their newest key
};

}  // namespace hailwire::detail
