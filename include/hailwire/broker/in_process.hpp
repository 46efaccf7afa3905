// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <iterator>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/hash_index.hpp"

namespace hailwire {

/// Joins up to 64 hubs of one process that share a storage: what one of them has stored reaches the others that have
/// followers of the channel, and no others.
///
/// It drops nothing. Two hubs that publish to one channel at the same moment may be heard in either order, which a hub sees
/// in the offsets and mends.
///
/// Costs about 100 bytes for each channel that is followed, besides its name. A publish takes one lock of 64 that all channels
/// share, and one for each hub that has followers.
///
/// Threads: safe to call from any. It must outlive the hubs.
class in_process_broker {
 public:
  in_process_broker() = default;
  in_process_broker(const in_process_broker&) = delete;
  in_process_broker& operator=(const in_process_broker&) = delete;

  /// Names the hub from now on. Throws `std::length_error` when 64 are joined.
  std::uint64_t attach(broker_receiver receiver) {
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      std::lock_guard lock(seats_[i].mutex);
      if (seats_[i].taken) continue;
      seats_[i].taken = true;
      seats_[i].receiver = std::move(receiver);
      return i;
    }
    throw std::length_error("hailwire: an in_process_broker joins at most 64 hubs");
  }
  /// The hub hears nothing from then on, and its receiver is not running.
  void detach(std::uint64_t hub) {
    for (auto& s : shards_) {
      std::lock_guard lock(s.mutex);
      for (auto at = s.followers.begin(); at != s.followers.end();) at = (at->second &= ~bit(hub)) ? std::next(at) : s.followers.erase(at);
    }
    std::lock_guard lock(seats_[hub].mutex);
    seats_[hub].receiver = nullptr;
    seats_[hub].taken = false;
  }

  void subscribe(std::uint64_t hub, std::string_view channel) {
    shard& s = shard_of(channel);
    std::lock_guard lock(s.mutex);
    if (auto at = s.followers.find(channel); at != s.followers.end()) {
      at->second |= bit(hub);
    } else {
      s.followers.emplace(std::string(channel), bit(hub));
    }
  }
  void unsubscribe(std::uint64_t hub, std::string_view channel) {
    shard& s = shard_of(channel);
    std::lock_guard lock(s.mutex);
    auto at = s.followers.find(channel);
    if (at != s.followers.end() && (at->second &= ~bit(hub)) == 0) s.followers.erase(at);
  }

  /// To every subscribed hub but `hub`.
  void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) {
    std::uint64_t others = 0;
    {
      shard& s = shard_of(channel);
      std::lock_guard lock(s.mutex);
      if (auto at = s.followers.find(channel); at != s.followers.end()) others = at->second & ~bit(hub);
    }
    for (; others; others &= others - 1) {
      seat& to = seats_[static_cast<std::size_t>(std::countr_zero(others))];
      std::lock_guard lock(to.mutex);  // a receiver leaves a letter: it is short, and does not come back here
      if (to.receiver) to.receiver(channel, epoch, m);
    }
  }

 private:
  static std::uint64_t bit(std::uint64_t hub) noexcept { return std::uint64_t{1} << hub; }

  struct alignas(64) shard {
    std::mutex mutex;
    std::unordered_map<std::string, std::uint64_t, detail::text_hash, std::equal_to<>> followers;  // one bit a hub
  };
  struct alignas(64) seat {
    std::mutex mutex;
    bool taken = false;
    broker_receiver receiver;
  };
  // By the upper bits, as the maps take the lower ones for their buckets.
  shard& shard_of(std::string_view channel) noexcept { return shards_[std::uint64_t{detail::text_hash()(channel)} >> 58]; }

  std::array<shard, 64> shards_;
  std::array<seat, 64> seats_;
};

static_assert(broker<in_process_broker>);

}  // namespace hailwire
