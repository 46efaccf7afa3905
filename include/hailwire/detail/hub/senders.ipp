// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "hailwire/detail/hub/senders.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE sender_table::sender_table(const options& o)
    : batch_(o.bytes_per_second ? std::min<std::size_t>(4096, o.bytes_per_second / 256) : SIZE_MAX) {
  const auto commands = static_cast<double>(o.commands_per_second), bytes = static_cast<double>(o.bytes_per_second);
  commands_ = token_rate(commands, commands);
  bytes_ = token_rate(bytes, bytes);
}

HAILWIRE_INLINE sender_table::~sender_table() {
  forget([](const sender&) { return true; });
}

HAILWIRE_INLINE intrusive_ptr<sender> sender_table::obtain(char kind, std::string_view name, std::int64_t now) {
  const bits128 hashed = keyed_hash(secret_).add(std::string_view(&kind, 1)).add(name).finish();
  sender* there = all_.find(hashed.low, [&](const sender& s) { return s.name == hashed; });
  if (there) return intrusive_ptr<sender>::again(*there);
  if (all_.size() >= sweep_at_) {
    forget([now](const sender& s) { return s.holders == 1 && s.commands.full(now) && s.bytes.full(now); });
    sweep_at_ = std::max(least_swept, 2 * all_.size());
  }
  auto* fresh = new sender;  // with the table's hold
  fresh->kind = kind;
  fresh->name = hashed;
  all_.insert(*fresh, hashed.low);
  return intrusive_ptr<sender>::again(*fresh);
}

template <class F>
void sender_table::forget(F gone) noexcept {
  for (std::size_t i = 0; i < all_.buckets(); ++i) {
    for (hash_node* n = all_.bucket(i); n;) {
      auto* s = static_cast<sender*>(n);
      n = n->next_in_bucket;
      if (!gone(*s)) continue;
      all_.remove(*s);
      intrusive_ptr<sender> held(s);  // the table's hold, which ends here
    }
  }
}

}  // namespace hailwire::detail
