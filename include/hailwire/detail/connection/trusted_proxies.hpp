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
  explicit proxies(const options& o) : reads_(o.forwarding) {
    for (const std::string& text : o.trusted_proxies) {
      if (text == "unix") {
        unix_ = true;
      } else if (auto range = proto::ip_range::parse(text)) {
        ranges_.push_back(*range);
      } else {
        throw std::invalid_argument("hailwire: trusted_proxies has \"" + text +
                                    "\", which is neither an address, nor a range such as 10.0.0.0/8, nor unix");
      }
    }
  }

  bool any() const noexcept { return unix_ || !ranges_.empty(); }
  bool trust(const proto::ip_address& a) const noexcept {
    for (const auto& r : ranges_)
      if (r.contains(a)) return true;
    return false;
  }
  /// `peer`: who is connected, as `connection::peer` writes it.
  bool trust(std::string_view peer) const noexcept {
    if (peer == "unix") return unix_;
    auto e = proto::endpoint::parse(peer);
    return e && trust(*e->address);
  }

  /// Who sent the request, where `peer` is trusted to know; nothing where it is not. Fails with `bad_request` when what
  /// a trusted proxy says cannot be read: passing it over would let a client be whoever the proxy is.
  result<std::optional<proto::requester>> look(const proto::http1::head& h, std::string_view peer) const {
    if (!any() || !trust(peer)) return std::optional<proto::requester>();
    auto hops = reads_ == options::forwarding_header::forwarded ? proto::read_forwarded(h) : proto::read_x_forwarded(h);
    if (!hops) return hops.error();
    auto e = proto::endpoint::parse(peer);
    // On a Unix socket the last proxy has no address. Its own word stands for one that is trusted.
    bool here = true;
    auto found = proto::walk_hops(*hops, e ? *e : proto::endpoint{proto::ip_address{}, 0},
                                  [&](const proto::ip_address& a) { return std::exchange(here, false) || trust(a); });
    if (!e && found.from.address == proto::ip_address{}) found.from.address.reset();
    return std::optional(std::move(found));
  }

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
  static key of(const proto::ip_address& a) noexcept {
    key k;
    std::memcpy(&k.high, a.bytes.data(), 8);
    std::memcpy(&k.low, a.bytes.data() + 8, 8);
    if (!a.is_v4()) k.low = 0;
    return k;
  }
  /// One more, unless there are `most` already.
  bool add(const key& k, std::size_t most) {
    const std::uint64_t h = hash(k);
    part& p = part_of(h);
    std::lock_guard lock(p.mutex);
    counted_address* there = p.find(h, k);
    if (there ? there->n >= most : most == 0) return false;
    if (!there) p.counts.insert(*(there = new counted_address{{}, k, 0}), h);
    ++there->n;
    return true;
  }
  void remove(const key& k) {
    const std::uint64_t h = hash(k);
    part& p = part_of(h);
    std::lock_guard lock(p.mutex);
    counted_address* there = p.find(h, k);
    if (--there->n == 0) p.counts.remove(*there), delete there;
  }
  std::size_t addresses() const {
    std::size_t n = 0;
    for (const part& p : parts_) {
      std::lock_guard lock(p.mutex);
      n += p.counts.size();
    }
    return n;
  }
  /// Each table's own: whoever has many addresses, as one with an IPv6 /32 has, cannot choose some that meet in a
  /// bucket.
  std::uint64_t hash(const key& k) const noexcept {
    char bytes[16];
    std::memcpy(bytes, &k.high, 8);
    std::memcpy(bytes + 8, &k.low, 8);
    return table_hash(secret_, {bytes, sizeof bytes});
  }

 private:
  struct counted_address : hash_node {
    key of;
    std::size_t n;
  };
  struct alignas(64) part {  // a cache line of its own
    part() = default;
    part(const part&) = delete;
    part& operator=(const part&) = delete;
    ~part() { counts.delete_all(); }
    counted_address* find(std::uint64_t h, const key& k) const noexcept {
      return counts.find(h, [&](const counted_address& a) { return a.of == k; });
    }
    mutable std::mutex mutex;
    intrusive_hash_table<counted_address> counts;
  };
  // By bits that no bucket is chosen by.
  part& part_of(std::uint64_t hash) noexcept { return parts_[(hash >> 32) % parts_.size()]; }
  const bits128 secret_ = random_bits();
  std::array<part, 16> parts_;
};

/// Counts what belongs to an address, each thing under a number of its own.
class address_count {
 public:
  address_count() = default;
  address_count(const address_count&) = delete;
  address_count& operator=(const address_count&) = delete;
  ~address_count() { whose_.delete_all(); }
  /// One more of `peer`'s, under a number that is not in use; false, and nothing is counted, when it has `most`
  /// already. Peers without an address are not counted.
  bool add(std::uint32_t number, std::string_view peer, std::size_t most) {
    auto e = proto::endpoint::parse(peer);
    if (!e) return true;
    if (!table_) table_ = std::make_shared<address_table>();
    auto k = address_table::of(*e->address);
    auto fresh = std::unique_ptr<owner>(new owner{{}, number, k});  // what has no memory has counted nothing
    if (!table_->add(k, most)) return false;
    whose_.insert(*fresh.release(), number);
    return true;
  }
  void remove(std::uint32_t number) {
    owner* who = whose_.find(number, [&](const owner& o) { return o.number == number; });
    if (!who) return;
    table_->remove(who->of);
    whose_.remove(*who);
    delete who;
  }
  std::size_t addresses() const { return table_ ? table_->addresses() : 0; }
  /// Counts together with others. Before anything is counted.
  void share(std::shared_ptr<address_table> t) noexcept { table_ = std::move(t); }

 private:
  struct owner : hash_node {
    std::uint32_t number;
    address_table::key of;
  };
  std::shared_ptr<address_table> table_;
  intrusive_hash_table<owner> whose_;
};

}  // namespace hailwire::detail
