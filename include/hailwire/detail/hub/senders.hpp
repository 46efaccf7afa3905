// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/token_bucket.hpp"
#include "hailwire/options.hpp"

namespace hailwire::detail {

/// Somebody who sends: what a principal has sent lately, over all its connections. A client that listens has none.
struct sender : intrusive_count, hash_node {
  char kind = 0;  // of its principal
  bits128 name = {};
  token_bucket commands, bytes;
  std::size_t uncounted = 0;  // bytes that have come and are not taken from the bucket yet
};

/// All senders of a server. One that no connection holds is forgotten once nothing of it counts any more, when many
/// have come.
class sender_table {
 public:
  explicit sender_table(const options& o);
  sender_table(const sender_table&) = delete;
  sender_table& operator=(const sender_table&) = delete;
  ~sender_table();

  bool limits() const noexcept { return commands_ || bytes_; }
  /// The one of a kind of principal with that name. Throws `std::bad_alloc`.
  intrusive_ptr<sender> obtain(char kind, std::string_view name, std::int64_t now);
  /// Counts one command: 0, or after how many milliseconds there is room for one.
  std::int64_t command(sender& s, std::int64_t now) const noexcept { return s.commands.take(commands_, now); }
  /// Notes bytes that have been received: whether there are so many that they are to be counted. Messages are small,
  /// and counting each of them would be a per cent of what it costs to serve one.
  bool note(sender& s, std::size_t bytes) const noexcept { return (s.uncounted += bytes) >= batch_; }
  /// Counts what was noted: whether no more are to be read for now.
  bool count(sender& s, std::int64_t now) const noexcept {
    return s.bytes.charge(bytes_, now, static_cast<double>(std::exchange(s.uncounted, 0)));
  }
  /// For how many milliseconds no more bytes are to be read.
  std::int64_t owed(const sender& s, std::int64_t now) const noexcept { return s.bytes.owed(bytes_, now); }
  std::size_t size() const noexcept { return all_.size(); }

 private:
  static constexpr std::size_t least_swept = 256;
  // Forgets all of which `gone(const sender&)` holds.
  template <class F>
  void forget(F gone) noexcept;

  token_rate commands_, bytes_;
  std::size_t batch_;
  intrusive_hash_table<sender> all_;  // each held here once
  std::size_t sweep_at_ = least_swept;
  bits128 secret_ = random_bits();
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/senders.ipp"
#endif
