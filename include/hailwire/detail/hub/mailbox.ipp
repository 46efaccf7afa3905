// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/mailbox.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE mailbox::letters::letters(letter* newest) noexcept {
  while (newest) first_ = std::exchange(newest, std::exchange(newest->next, first_));
}

HAILWIRE_INLINE mailbox::letters::~letters() {
  while (next()) {
  }
}

HAILWIRE_INLINE mailbox::~mailbox() {
  if (!closed()) letters(newest_.load());
}

HAILWIRE_INLINE bool mailbox::put(move_only_function<void()> f, move_only_function<void()> abort) {
  auto mine = std::unique_ptr<letter>(new letter{std::move(f), std::move(abort), nullptr});
  letter* below = newest_.load();
  do {
    if (below == &end_) return false;
    mine->next = below;
  } while (!newest_.compare_exchange_weak(below, mine.get()));
  mine.release();                                      // the hub's: it may have been read by now
  if (below && !untold_.exchange(false)) return true;  // whoever put the first has told the loop
  std::lock_guard lock(mutex_);
  if (closed()) return true;
  try {
    loop_->post([self = shared_from_this()] { self->read(); });
  } catch (...) {
    untold_ = true;
  }
  return true;
}

HAILWIRE_INLINE void mailbox::close() {
  letter* newest;
  {
    std::lock_guard lock(mutex_);
    newest = newest_.exchange(&end_);
  }
  letters unread(newest == &end_ ? nullptr : newest);
  while (auto l = unread.next()) l->abort();
}

HAILWIRE_INLINE void mailbox::retire() noexcept {
  std::lock_guard lock(mutex_);
  loop_ = nullptr;
}

HAILWIRE_INLINE bool mailbox::here() const noexcept {
  std::lock_guard lock(mutex_);
  return loop_ && loop_->here();
}

HAILWIRE_INLINE void mailbox::read_untold() {
  if (untold_.load(std::memory_order_relaxed) && untold_.exchange(false)) read();
}

HAILWIRE_INLINE void mailbox::read() {
  letter* newest = newest_.load();
  while (newest != &end_ && !newest_.compare_exchange_weak(newest, nullptr)) {
  }
  letters unread(newest == &end_ ? nullptr : newest);
  while (auto l = unread.next()) {
    if (closed()) {
      l->abort();
    } else {
      log_->guarded("a handler", [&] { l->run(); });  // the others are not lost with it
    }
  }
}

}  // namespace hailwire::detail
