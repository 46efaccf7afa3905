// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/broker/in_process.hpp"

namespace hailwire {

HAILWIRE_INLINE std::uint64_t in_process_broker::attach(broker_receiver receiver) {
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    std::lock_guard lock(seats_[i].mutex);
    if (seats_[i].taken) continue;
    seats_[i].taken = true;
    seats_[i].receiver = std::move(receiver);
    return i;
  }
  throw std::length_error("hailwire: an in_process_broker joins at most 64 hubs");
}

HAILWIRE_INLINE void in_process_broker::detach(std::uint64_t hub) {
  for (auto& s : shards_) {
    std::lock_guard lock(s.mutex);
    for (std::size_t i = 0; i < s.channels.buckets(); ++i) {
      for (auto* n = s.channels.bucket(i); n;) {
        auto& c = static_cast<followed&>(*std::exchange(n, n->next_in_bucket));
        s.leave(c, hub);
      }
    }
  }
  std::lock_guard lock(seats_[hub].mutex);
  seats_[hub].receiver = nullptr;
  seats_[hub].taken = false;
}

HAILWIRE_INLINE void in_process_broker::subscribe(std::uint64_t hub, std::string_view channel) {
  std::uint64_t hash = hash_of(channel);
  shard& s = shard_of(hash);
  std::lock_guard lock(s.mutex);
  followed* c = s.find(channel, hash);
  if (!c) {
    c = new (detail::with_tail::tail{channel.size()}) followed(channel);
    s.channels.insert(*c, hash);
  }
  c->hubs |= bit(hub);
}

HAILWIRE_INLINE void in_process_broker::unsubscribe(std::uint64_t hub, std::string_view channel) {
  std::uint64_t hash = hash_of(channel);
  shard& s = shard_of(hash);
  std::lock_guard lock(s.mutex);
  if (followed* c = s.find(channel, hash)) s.leave(*c, hub);
}

HAILWIRE_INLINE void in_process_broker::hand(const broker_event& e, std::uint64_t from) {
  std::uint64_t others = 0;
  {
    std::uint64_t hash = hash_of(e.channel);
    shard& s = shard_of(hash);
    std::lock_guard lock(s.mutex);
    if (followed* c = s.find(e.channel, hash)) others = c->hubs & ~bit(from);
  }
  for (; others; others &= others - 1) {
    seat& to = seats_[static_cast<std::size_t>(std::countr_zero(others))];
    std::lock_guard lock(to.mutex);  // a receiver leaves a letter: it is short, and does not come back here
    if (to.receiver) to.receiver(e);
  }
}

HAILWIRE_INLINE in_process_broker::followed::followed(std::string_view channel) noexcept
    : name_size(static_cast<std::uint32_t>(channel.size())) {
  channel.copy(behind(this), channel.size());
}

HAILWIRE_INLINE void in_process_broker::shard::leave(followed& c, std::uint64_t hub) noexcept {
  if ((c.hubs &= ~bit(hub)) != 0) return;
  channels.remove(c);
  delete &c;
}

}  // namespace hailwire
