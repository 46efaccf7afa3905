// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/session.hpp"

namespace hailwire::detail {

/// The streams whose permission ends, each with a timer; expiry.ipp says how it is told of and ended. A stream whose
/// permission does not end, and a poll, have no entry.
class permission_expiry {
 public:
  explicit permission_expiry(hub& h) noexcept : hub_(&h) {}
  permission_expiry(const permission_expiry&) = delete;
  permission_expiry& operator=(const permission_expiry&) = delete;
  ~permission_expiry() { entries_.delete_all(); }

  /// From now on the session is told before its permission ends, and is ended with it. Throws `std::bad_alloc`.
  void watch(session& s);
  void forget(session_key k) noexcept;
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct entry final : hash_node, timer {
    entry(permission_expiry& in, session_key k) noexcept : owner(&in), of(k) {}
    void expire(std::int64_t) override { owner->look_at(*this); }
    permission_expiry* owner;
    session_key of;
    bool told = false;
  };
  entry* find(session_key k) const noexcept {
    return entries_.find(k.slot, [&](const entry& e) { return e.of.slot == k.slot; });
  }
  void look_at(entry& e);

  hub* hub_;
  intrusive_hash_table<entry> entries_;  // by slot; owned
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/permission_expiry.ipp"
#endif
