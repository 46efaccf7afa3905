// SPDX-License-Identifier: BSL-1.0
#pragma once

// What is left for the end of a turn, and carried out there.

#include <algorithm>
#include <utility>

#include "hailwire/hub.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void loop_turn::schedule() {
  if (scheduled_) return;
  hub_->loop().post([box = hub_->post_box()] {
    if (box->owner) box->owner->turn.run();
  });
  scheduled_ = true;
}

HAILWIRE_INLINE void loop_turn::mark_dirty(channel_log& log) {
  if (log.dirty) return;
  if (log.paced() && wait(log)) return;
  schedule();
  dirty_.push_back(&log);
  log.dirty = true;
}

// A channel that is given at intervals waits for its time; false when that has come.
HAILWIRE_INLINE bool loop_turn::wait(channel_log& log) {
  const std::int64_t until = log.flush_at();
  if (until <= hub_->loop().now() || stopped_) return false;
  paced_.push_back(&log);
  if (!pacing_.armed() || until < pacing_due_) hub_->arm(pacing_, pacing_due_ = until);
  return log.dirty = true;
}

// Channels whose time has come are flushed at the end of this turn; the others wait on.
HAILWIRE_INLINE void loop_turn::flush_paced(std::int64_t now) {
  dirty_.reserve(dirty_.size() + paced_.size());
  std::size_t rest = 0;
  std::int64_t next = INT64_MAX;
  for (channel_log* log : paced_) {
    if (const std::int64_t at = log->flush_at(); at > now) {
      next = std::min(next, at);
      paced_[rest++] = log;
    } else {
      dirty_.push_back(log);
    }
  }
  while (paced_.size() > rest) paced_.pop_back();
  if (rest) hub_->arm(pacing_, pacing_due_ = next);
  schedule();
}

HAILWIRE_INLINE void loop_turn::pace_again() noexcept {
  hub_->guarded([this] { hub_->arm(pacing_, pacing_due_ = hub_->loop().now()); });
}

HAILWIRE_INLINE void loop_turn::ask(vector<session*>& list, session& s) noexcept {
  try {
    list.push_back(&s);
    schedule();
  } catch (...) {  // no memory for one more: the next turn looks at everybody
    look_at_all_ = true;
    try_again();
  }
}

HAILWIRE_INLINE void loop_turn::try_again() noexcept {
  hub_->guarded([this] { hub_->arm(retry_, hub_->loop().now()); });
}

HAILWIRE_INLINE void loop_turn::forget(session& s) noexcept {
  for (auto* list : {&wakes_, &settles_, &waking_, &settling_})
    std::replace(list->begin(), list->end(), &s, static_cast<session*>(nullptr));
}

HAILWIRE_INLINE void loop_turn::stop() noexcept {
  stopped_ = true;
  hub_->wheel().disarm(cooling_);
  hub_->wheel().disarm(pacing_);
  hub_->wheel().disarm(retry_);
}

HAILWIRE_INLINE void loop_turn::run() {
  scheduled_ = false;
  const std::int64_t since = hub_->begin_watch(hub_->turns_);
  run_all();
  hub_->end_watch(since, hub_->counted.turn);
}

HAILWIRE_INLINE void loop_turn::run_all() {
  hub_->post_box()->read_untold();
  auto logs = std::exchange(dirty_, {});
  for (std::size_t i = 0; i < logs.size(); ++i) {
    if (i + 4 < logs.size()) fetch(logs[i + 4], 2);
    for (int step = 3; step; --step)
      if (i + static_cast<std::size_t>(step) < logs.size()) logs[i + static_cast<std::size_t>(step)]->prefetch(step);
    auto* log = logs[i];
    log->dirty = false;
    log->flush();
    if (log->paced()) log->flushed_at(hub_->loop().now());
  }
  if (!logs.empty()) {
    hub_->guarded([&] { keep_warm(logs); });
    logs.clear();
    if (dirty_.empty()) dirty_ = std::move(logs);  // keeps its memory
  }
  waking_.swap(wakes_);  // two lists that change places keep their memory
  for (std::size_t i = 0; i < waking_.size(); ++i)
    if (waking_[i]) wake(*waking_[i]);
  waking_.clear();
  settling_.swap(settles_);
  for (std::size_t i = 0; i < settling_.size(); ++i)
    if (auto* s = std::exchange(settling_[i], nullptr)) settle(*s);
  settling_.clear();
  if (!std::exchange(look_at_all_, false)) return;
  hub_->registry_.each([](session& s) { wake(s); });
  hub_->registry_.each([](session& s) { settle(s); });
}

// A channel for which there is no room among the warm ones is looked at again when something goes through it.
HAILWIRE_INLINE void loop_turn::keep_warm(vector<channel_log*>& logs) {
  if (!cooling_.armed() && !stopped_) hub_->arm(cooling_, hub_->loop().now() + 1000);
  for (auto* log : logs) {
    if (log->warm) continue;
    warm_.push_back(log);
    log->warm = true;
  }
}

HAILWIRE_INLINE void loop_turn::cool() {
  for (auto* log : std::exchange(warm_, {})) {
    log->warm = false;
    log->shrink();
    hub_->channels.release(*log);
  }
  hub_->channels.spares.clear();
}

HAILWIRE_INLINE void loop_turn::wake(session& s) noexcept {
  try {
    s.wake(nullptr);
  } catch (...) {
    s.broken();
  }
}

HAILWIRE_INLINE void loop_turn::settle(session& s) noexcept {
  try {
    s.settle();
  } catch (...) {
    s.broken();
  }
}

}  // namespace hailwire::detail
