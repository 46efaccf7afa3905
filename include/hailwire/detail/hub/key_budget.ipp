// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/key_budget.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE std::int64_t key_budget::take(const bits128& who, std::uint64_t key, std::int64_t now, std::size_t most,
                                              charge& c) {
  sweep(now);
  owner* o = find(who);
  if (!o) {
    o = new owner;
    o->name = who;
    owners_.insert(*o, who.low);
  } else {
    unlink(*o);
  }
  o->newest = std::max(o->newest, now / slice_ms);
  link(*o);
  const std::int64_t first = first_slice(now);
  std::size_t taken = 0;
  std::int64_t oldest = o->newest;
  for (slice& s : o->slices) {
    if (s.number < first) s.keys = {};
    if (s.keys.size()) oldest = std::min(oldest, s.number);
    taken += s.keys.size();
  }
  if (taken >= most) {
    for (const slice& s : o->slices)
      if (std::find(s.keys.begin(), s.keys.end(), key) != s.keys.end()) return 0;
    return std::max<std::int64_t>(1, (oldest + 1) * slice_ms + life_ - now);
  }
  slice& s = o->slices[static_cast<std::size_t>(now / slice_ms) % count];
  if (s.number != now / slice_ms) s.keys = {}, s.number = now / slice_ms;
  s.keys.push_back(key);
  c = {who, key, now};
  return 0;
}

HAILWIRE_INLINE void key_budget::give_back(const charge& c) noexcept {
  owner* o = c.at < 0 ? nullptr : find(c.who);
  if (!o) return;
  slice& s = o->slices[static_cast<std::size_t>(c.at / slice_ms) % count];
  if (s.number != c.at / slice_ms) return;
  for (std::size_t i = s.keys.size(); i-- > 0;) {
    if (s.keys[i] != c.key) continue;
    s.keys[i] = s.keys.back();
    s.keys.pop_back();
    return;
  }
}

HAILWIRE_INLINE void key_budget::sweep(std::int64_t now) noexcept {
  const std::int64_t first = first_slice(now);
  while (oldest_ && oldest_->newest < first) {
    owner* gone = oldest_;
    unlink(*gone);
    owners_.remove(*gone);
    delete gone;
  }
}

HAILWIRE_INLINE void key_budget::link(owner& o) noexcept {
  o.older = youngest_;
  (youngest_ ? youngest_->younger : oldest_) = &o;
  youngest_ = &o;
}

HAILWIRE_INLINE void key_budget::unlink(owner& o) noexcept {
  (o.older ? o.older->younger : oldest_) = o.younger;
  (o.younger ? o.younger->older : youngest_) = o.older;
  o.older = o.younger = nullptr;
}

}  // namespace hailwire::detail
