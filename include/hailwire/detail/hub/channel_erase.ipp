// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a log does about a message that was taken back: nothing of it goes out any more, from wherever its bytes stand.
// That is the tail and what was read of the storage lately, the chunk of this turn, and reads that are under way.

#include <algorithm>

#include "hailwire/detail/hub/channel_log.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void channel_log::erase(std::uint64_t offset) {
  if (pins > 0) ensure_extra().erased.push_back(offset);
  each([&](encoded_channel& l) {
    if (l.forget(offset)) l.set_back(offset - 1, head_);
  });
}

HAILWIRE_INLINE void channel_log::unpin() noexcept {
  if (--pins > 0 || !extra_) return;
  extra_->erased.clear();
  tidy();
}

HAILWIRE_INLINE std::span<const message> channel_log::as_erased(std::span<const message> read,
                                                                std::vector<message>& changed) const {
  if (!extra_ || extra_->erased.empty() || read.empty()) return read;
  for (std::uint64_t offset : extra_->erased) {
    if (offset < read.front().offset || offset > read.back().offset) continue;
    if (changed.empty()) changed.assign(read.begin(), read.end());
    for (message& m : changed) {
      if (m.offset != offset) continue;
      m.erased = true;
      m.type.clear();
      m.data = {};
      m.content = nullptr;
    }
  }
  return changed.empty() ? read : std::span<const message>(changed);
}

HAILWIRE_INLINE bool encoded_channel::forget(std::uint64_t offset) noexcept {
  if (!work_) return false;
  for (place& p : work_->behind)
    if (p.in && p.in->holds(offset)) release(p);
  auto& tail = work_->tail;
  for (std::size_t i = work_->tail_begin; i < tail.size();) {
    if (!tail[i]->holds(offset)) {
      ++i;
      continue;
    }
    work_->tail_bytes -= tail[i]->bytes.size();
    tail.erase(tail.begin() + static_cast<std::ptrdiff_t>(i), tail.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
  for (auto& weak : work_->recent)
    if (auto c = weak.lock(); c && c->holds(offset)) weak.reset();
  if (!built() || !work_->building->holds(offset)) return false;
  chunk& c = *work_->building;
  bool missed = false;
  while (!c.marks.empty() && c.marks.back().offset >= offset) {
    if (c.marks.back().live) --c.live, missed = true;
    c.marks.pop_back();
  }
  c.bytes.resize(c.marks.empty() ? 0 : c.marks.back().end);
  for (std::size_t i = 0; missed && i < live_.size(); ++i) live_[i]->missed_ = true;  // what was live-only behind it
  return true;
}

HAILWIRE_INLINE void encoded_channel::set_back(std::uint64_t offset, std::uint64_t head) {
  room_for_all();  // what comes now cannot stop half way
  flush();
  while (!live_.empty()) {
    subscription& s = *live_.back();
    fall_behind(s, nullptr, 0);
    at(s).offset = offset;
  }
  if (!work_) return;
  work_->flushed = head;
  wake_behind();
}

}  // namespace hailwire::detail
