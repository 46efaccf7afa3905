// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/message.hpp"

namespace hailwire {

/// How long an idempotency key is kept at least, here or by a storage: the protocol promises five minutes.
inline constexpr std::int64_t key_lifetime_ms = 5 * 60 * 1000;
/// How many keys a hub keeps for a storage that keeps none, about 150 bytes each; past it a keyed publish is
/// `overloaded`.
inline constexpr std::size_t max_kept_keys = 1'000'000;

namespace detail {

/// The idempotency keys that a hub keeps for a storage that keeps none. `Waiting` is what waits for the first publish
/// with a key while that is being stored.
template <class Waiting>
class idempotency_keys {
 public:
  struct key : hash_node {
    bits128 name;   ///< of channel, scope and key
    bits128 print;  ///< of the payload
    position at;    ///< offset 0: the first publish is under way
    vector<Waiting> waiting;

   private:
    friend class idempotency_keys;
    std::int64_t until_ = 0;
    key* younger_ = nullptr;
  };

  idempotency_keys() = default;
  idempotency_keys(const idempotency_keys&) = delete;
  idempotency_keys& operator=(const idempotency_keys&) = delete;
  ~idempotency_keys() { clear(); }

  key* find(const bits128& name) const noexcept {
    return keys_.find(name.low, [&](const key& k) { return k.name == name; });
  }
  /// One whose first publish begins, valid until `settle` with an error, `expire` or `clear`. Throws `std::bad_alloc`.
  key& begin(const bits128& name, const bits128& print) {
    auto* k = new key;
    k->name = name;
    k->print = print;
    keys_.insert(*k, name.low);  // does not throw
    return *k;
  }
  /// The first publish has been stored, or has failed: then the key is forgotten. Returns the repeats that
  /// waited for its outcome.
  vector<Waiting> settle(key& k, std::error_code ec, const position& p, std::int64_t now) {
    auto waiting = std::move(k.waiting);
    if (ec) {
      forget(k);
    } else {
      k.at = p;
      k.until_ = now + key_lifetime_ms;
      (youngest_ ? youngest_->younger_ : oldest_) = &k;
      youngest_ = &k;
    }
    return waiting;
  }
  /// Forgets those whose life is over.
  void expire(std::int64_t now) noexcept {
    while (oldest_ && oldest_->until_ <= now) {
      forget(*std::exchange(oldest_, oldest_->younger_));
      if (!oldest_) youngest_ = nullptr;
    }
  }
  /// When the next life is over.
  std::optional<std::int64_t> next() const noexcept { return oldest_ ? std::optional(oldest_->until_) : std::nullopt; }
  bool full() const noexcept { return keys_.size() >= max_kept_keys; }
  std::size_t size() const noexcept { return keys_.size(); }
  void clear() noexcept {
    keys_.delete_all();
    oldest_ = youngest_ = nullptr;
  }

 private:
  void forget(key& k) noexcept {
    keys_.remove(k);
    delete &k;
  }
  intrusive_hash_table<key> keys_;               // owned
  key *oldest_ = nullptr, *youngest_ = nullptr;  // of those whose publish is stored
};

}  // namespace detail
}  // namespace hailwire
