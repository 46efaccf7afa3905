// SPDX-License-Identifier: BSL-1.0
#pragma once

// Who is let in. Two things are limited: how many connections there are, which is known when one is accepted, and how
// many clients a second begin on a new one, which is counted at a connection's first request of the live resource,
// because only that brings a ticket. Who is over a limit is answered, and its connection ends: it is served by a few
// connections that are kept for this, and while those are taken nobody is accepted.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/token_bucket.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/options.hpp"

namespace hailwire::detail {

/// Tickets: who has one was here a moment ago, and comes back before newcomers. They say nothing of what a client may.
///
/// A ticket is, in base64url letters (RFC 4648, section 5), the second at which it ends (4 bytes), the hash of whose it
/// is (8), and a SipHash-2-4-128 of both (16) under the key: nobody makes one without it, and nobody learns a name from
/// one.
class tickets {
 public:
  static constexpr std::int64_t life = 600;  ///< seconds
  /// `key`: at least 16 bytes, the same at each server that is to take a ticket of another; empty: one of its own.
  /// Throws `std::invalid_argument` for a shorter one.
  explicit tickets(std::string_view key);

  /// Whose a client's tickets are: its user's, or where there is none its address's; nothing for who has neither.
  std::optional<std::uint64_t> owner(std::string_view user, std::string_view address) const;
  std::string make(std::uint64_t owner, std::int64_t unix_seconds) const;
  struct known {
    std::uint64_t owner;
    std::int64_t left;  ///< seconds
  };
  /// Nothing for what was not made with this key, or has ended.
  std::optional<known> read(std::string_view text, std::int64_t unix_seconds) const;

 private:
  bits128 sign(std::string_view bytes) const noexcept { return keyed_hash(key_).add("ticket").add(bytes).finish(); }
  bits128 key_;
};

/// A key of tickets that nobody knows.
inline std::string random_key() {
  const bits128 bits = random_bits();
  return std::string(reinterpret_cast<const char*>(&bits), sizeof bits);
}

class admission {
 public:
  /// So many connections over the limit are accepted to be told so.
  static constexpr std::size_t told = 128;
  /// Nobody is told to come back later than this.
  static constexpr std::int64_t longest_wait_ms = 60'000;

  explicit admission(const options& o);
  admission(const admission&) = delete;
  admission& operator=(const admission&) = delete;

  /// Counts a connection; false when it is over the limit, and only there to be told so.
  bool enter() noexcept {
    const bool fits = count_->let_in.fetch_add(1, std::memory_order_relaxed) < most_;
    if (!fits) {
      count_->let_in.fetch_sub(1, std::memory_order_relaxed);
      count_->over.fetch_add(1, std::memory_order_relaxed);
    }
    return fits;
  }
  /// `fitted`: what `enter` has said of it.
  void leave(bool fitted) noexcept { (fitted ? count_->let_in : count_->over).fetch_sub(1, std::memory_order_relaxed); }
  /// How many there are within the limit.
  std::size_t connections() const noexcept { return count_->let_in.load(std::memory_order_relaxed); }
  /// Whether there is no room even for one that is to be told that there is none.
  bool shut() const noexcept { return count_->over.load(std::memory_order_relaxed) >= told; }
  /// Counts connections together with another server. Before there are any.
  void share(const admission& other) noexcept { count_ = other.count_; }

  /// Whether clients are counted that begin: then there are tickets.
  bool counts() const noexcept { return bool(rate_); }
  /// One begins without a ticket, `from` an address that `tickets::owner` has hashed: 0, or after how many milliseconds
  /// it may come again. Of many that are refused each is told a time of its own, as far away as there is room for them.
  ///
  /// An address has a share, a tenth of all. What it asks for beyond that it is given while at least half of the room
  /// is left, so that whoever floods the server from one address, or from a few, does not keep the others out.
  std::int64_t newcomer(std::optional<std::uint64_t> from, std::int64_t now) noexcept;
  /// One begins with a valid ticket: whether there is room among those.
  bool returns(const tickets::known& t, std::int64_t now) noexcept;

  const tickets reconnects;

 private:
  // The largest part of the returning clients' rate that one owner is given, since a ticket can be used more than once;
  // and of the newcomers' rate the share of an address.
  static constexpr double owner_part = 0.1;
  // What newcomers have of the room that is beyond the share of their addresses ends where this part is left of it.
  static constexpr double kept_part = 0.5;

  std::size_t most_;
  double kept_;  // newcomers
  struct count {
    std::atomic<std::size_t> let_in = 0, over = 0;
  };
  std::shared_ptr<count> count_ = std::make_shared<count>();
  token_rate rate_, owner_rate_;
  token_bucket newcomers_, refused_, returning_;
  // By hash. Who meets another there is a newcomer more often, or beyond its share sooner.
  vector<token_bucket> owners_, addresses_;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/connection/admission.ipp"
#endif
