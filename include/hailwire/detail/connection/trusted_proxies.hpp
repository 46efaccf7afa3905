// SPDX-License-Identifier: BSL-1.0
#pragma once

// Which proxies a server believes, and how many sessions each address has.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/options.hpp"
#include "hailwire/proto/forwarded.hpp"

namespace hailwire::detail {

/// The proxies that the options name.
class proxies {
 public:
  /// Throws `std::invalid_argument` when one is neither a range nor `unix`.
  explicit proxies(const options& o);

  bool any() const noexcept { return unix_ || !ranges_.empty(); }
  bool trust(const proto::ip_address& a) const noexcept;
  /// `peer`: who is connected, as `connection::peer` writes it.
  bool trust(std::string_view peer) const noexcept;

  /// Who sent the request, where `peer` is trusted to know; nothing where it is not. Fails with `bad_request` when what
  /// a trusted proxy says cannot be read: passing it over would let a client be whoever the proxy is.
  result<std::optional<proto::requester>> look(const proto::http1::head& h, std::string_view peer) const;

 private:
  vector<proto::ip_range> ranges_;
  options::forwarding_header reads_;
  bool unix_ = false;
};

/// How much each address has. One client has a whole /64 of IPv6 at least (RFC 6177), so that counts as one. May be
/// used by any thread: the servers of a `threaded_server` share one.
class address_table {
 public:
  struct key {
    std::uint64_t high, low;
    bool operator==(const key&) const = default;
  };
  /// An address that has something. It stays where it is until that was taken away again.
  struct counted : hash_node {
    key of;
    std::size_t n;
  };
  static key of(const proto::ip_address& a) noexcept;
  /// One more of that address's, which `remove` takes away; null when there are `most` already.
  counted* add(const key& k, std::size_t most);
  void remove(counted& of);
  std::size_t addresses() const;
  /// Each table's own: whoever has many addresses, as one with an IPv6 /32 has, cannot choose some that meet in a
  /// bucket.
  std::uint64_t hash(const key& k) const noexcept;

 private:
  struct alignas(64) part {  // a cache line of its own
    part() = default;
    part(const part&) = delete;
    part& operator=(const part&) = delete;
    ~part() { counts.delete_all(); }
    counted* find(std::uint64_t h, const key& k) const noexcept {
      return counts.find(h, [&](const counted& a) { return a.of == k; });
    }
    mutable std::mutex mutex;
    intrusive_hash_table<counted> counts;
  };
  // By bits that no bucket is chosen by.
  part& part_of(std::uint64_t hash) noexcept { return parts_[(hash >> 32) % parts_.size()]; }
  const bits128 secret_ = random_bits();
  std::array<part, 16> parts_;
};

/// Counts what belongs to an address, each thing under a number of its own; the numbers in use are small ones, as slots
/// are.
class address_count {
 public:
  address_count() = default;
  address_count(const address_count&) = delete;
  address_count& operator=(const address_count&) = delete;
  ~address_count() {
    for (auto* of : whose_)
      if (of) table_->remove(*of);
  }
  /// One more of `peer`'s, under a number that is not in use; false, and nothing is counted, when it has `most`
  /// already. Peers without an address are not counted.
  bool add(std::uint32_t number, std::string_view peer, std::size_t most);
  void remove(std::uint32_t number);
  std::size_t addresses() const { return table_ ? table_->addresses() : 0; }
  /// Counts together with others. Before anything is counted.
  void share(std::shared_ptr<address_table> t) noexcept { table_ = std::move(t); }

 private:
  std::shared_ptr<address_table> table_;
  vector<address_table::counted*> whose_;  // by number
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/connection/trusted_proxies.ipp"
#endif
