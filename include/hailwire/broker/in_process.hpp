// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/siphash.hpp"

namespace hailwire {

/// Joins up to 64 hubs of one process that share a storage: what one of them has stored reaches the others that have
/// followers of the channel, and no others.
///
/// It drops nothing. Two hubs that publish to one channel at the same moment may be heard in either order, which a hub
/// sees in the offsets and mends.
///
/// Costs about 50 bytes for each channel that is followed, besides its name. A publish takes one lock of 64 that all
/// channels share, and one for each hub that has followers.
///
/// Threads: safe to call from any. It must outlive the hubs.
class in_process_broker {
 public:
  in_process_broker() = default;
  in_process_broker(const in_process_broker&) = delete;
  in_process_broker& operator=(const in_process_broker&) = delete;

  /// Names the hub from now on. Throws `std::length_error` when 64 are joined.
  std::uint64_t attach(broker_receiver receiver);
  /// The hub hears nothing from then on, and its receiver is not running.
  void detach(std::uint64_t hub);

  void subscribe(std::uint64_t hub, std::string_view channel);
  void unsubscribe(std::uint64_t hub, std::string_view channel);

  /// To every subscribed hub but `hub`.
  void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) {
    hand({channel, epoch, &m, nullptr}, hub);
  }
  /// The same for what is live-only.
  void tell(std::uint64_t hub, std::string_view channel, const live_event& e) { hand({channel, {}, nullptr, &e}, hub); }

 private:
  void hand(const broker_event& e, std::uint64_t from);
  static std::uint64_t bit(std::uint64_t hub) noexcept { return std::uint64_t{1} << hub; }

  // A channel that somebody follows; its name stands behind it.
  struct followed : detail::hash_node, detail::with_tail {
    explicit followed(std::string_view channel) noexcept;
    std::string_view name() const noexcept { return {behind(this), name_size}; }
    std::uint32_t name_size;
    std::uint64_t hubs = 0;  // one bit each
  };
  struct alignas(64) shard {
    ~shard() { channels.delete_all(); }
    followed* find(std::string_view channel, std::uint64_t hash) const noexcept {
      return channels.find(hash, [&](const followed& c) { return c.name() == channel; });
    }
    void leave(followed& c, std::uint64_t hub) noexcept;
    std::mutex mutex;
    detail::intrusive_hash_table<followed> channels;  // owned
  };
  struct alignas(64) seat {
    std::mutex mutex;
    bool taken = false;
    broker_receiver receiver;
  };
  std::uint64_t hash_of(std::string_view channel) const noexcept { return detail::table_hash(secret_, channel); }
  // By the upper bits, as the tables take the lower ones for their buckets.
  shard& shard_of(std::uint64_t hash) noexcept { return shards_[hash >> 58]; }

  const detail::bits128 secret_ = detail::random_bits();
  std::array<shard, 64> shards_;
  std::array<seat, 64> seats_;
};

static_assert(broker<in_process_broker>);

}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/broker/in_process.ipp"
#endif
