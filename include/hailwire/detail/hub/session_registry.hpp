// SPDX-License-Identifier: BSL-1.0
#pragma once

// The sessions of a hub: connections by slot, their sessions by key, listed sessions by user.
//
// A slot is 8 bytes, and the sessions of a user are chained through the sessions themselves, so that a connection costs
// 8 bytes here and a user's session 4 more. A key names a slot and how many sessions that slot has had: it means one
// session for ever, and a table lookup finds the session or finds it gone.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/session.hpp"

namespace hailwire::detail {

class session_registry {
 public:
  /// Gives a connection a slot, which it has until it leaves. Throws `std::bad_alloc`.
  void enter(session& s);
  void leave(session& s) noexcept {
    slots_[s.slot_].free(std::exchange(free_slot_, s.slot_), s.generation_);
    --connections_;
  }

  /// Opens a session on a connection that has entered. A session that is not `listed` brings commands only. Throws
  /// `std::bad_alloc`, and nothing has changed then.
  void open(session& s, shared_grant g, std::string device, bool listed);
  void close(session& s) noexcept;

  /// The session of that key, while it lives.
  session* find(session_key k) const noexcept;
  /// The listed sessions of one user.
  std::vector<session*> find(std::string_view user) const;
  /// All listed sessions.
  std::vector<session*> sessions() const;
  std::size_t listed() const noexcept { return listed_; }
  /// All connections, with a session or without.
  std::vector<session*> entered() const;
  /// How many connections there are.
  std::size_t connections() const noexcept { return connections_; }
  /// Slots are numbered from 0 to below this.
  std::uint32_t slots() const noexcept { return static_cast<std::uint32_t>(slots_.size()); }
  /// The connection in a slot, or null.
  session* in_slot(std::uint32_t i) const noexcept { return slots_[i].taken(); }
  /// Calls `f(session&)` for each connection. `f` may have any of them leave.
  template <class F>
  void each(F f) const {
    for (std::uint32_t i = 0; i < slots_.size(); ++i)
      if (session* s = slots_[i].taken()) f(*s);
  }

  /// The session of that id, while it lives.
  session* find_id(std::string_view id) const noexcept;
  /// A key as 11 letters, unique and not guessable: four rounds of a keyed Feistel network, which is a permutation.
  std::string id_of(session_key k) const;

 private:
  // A connection; or, told by the lowest bit, what a free slot has to know: the next free one, and how many sessions it
  // has had.
  class slot {
   public:
    session* taken() const noexcept {
      return is_free() ? nullptr : reinterpret_cast<session*>(static_cast<std::uintptr_t>(word_));
    }
    std::uint32_t next_free() const noexcept { return static_cast<std::uint32_t>(word_) >> 1; }
    std::uint32_t generation() const noexcept { return static_cast<std::uint32_t>(word_ >> 32); }
    void take(session& s) noexcept { word_ = reinterpret_cast<std::uintptr_t>(&s); }
    void free(std::uint32_t next, std::uint32_t generation) noexcept {
      word_ = std::uint64_t{generation} << 32 | std::uint64_t{next} << 1 | 1;
    }

   private:
    bool is_free() const noexcept { return word_ & 1; }
    std::uint64_t word_ = 1;
  };
  static constexpr std::uint32_t no_slot = INT32_MAX;
  // One round of the network that makes ids.
  static std::uint32_t round_of(std::uint32_t half, std::uint64_t secret) noexcept {
    std::uint64_t f = (half ^ secret) * 0x9E3779B97F4A7C15u;
    f ^= f >> 29;
    return static_cast<std::uint32_t>((f * 0xBF58476D1CE4E5B9u + (secret >> 32)) >> 32);
  }

  std::size_t bucket(std::string_view user) const noexcept { return table_hash(secret_, user) & (users_.size() - 1); }
  void enter_user(session& s) { s.ensure_extra().next_user = std::exchange(users_[bucket(s.user())], s.slot_); }
  void remove_user(session& s) noexcept;
  void more_users();

  vector<slot> slots_;
  std::uint32_t free_slot_ = no_slot;
  vector<std::uint32_t> users_;  // a power of two buckets, or none: the first slot of each chain
  std::size_t connections_ = 0, named_ = 0, listed_ = 0;
  bits128 secret_ = random_bits();
  bits128 id_secret_[2] = {random_bits(), random_bits()};
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/session_registry.ipp"
#endif
