// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/hook_replies.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE hook_replies::~hook_replies() {
  while (oldest_) unlink(*oldest_);
}

HAILWIRE_INLINE void hook_replies::rest() noexcept {
  resting_ = true;
  hub_->wheel().disarm(*this);
}

HAILWIRE_INLINE void hook_replies::link(std::shared_ptr<asked> one) noexcept {
  one->older = youngest_;
  (youngest_ ? youngest_->younger : oldest_) = one.get();
  youngest_ = one.get();
  ++size_;
  one->self = std::move(one);
}

HAILWIRE_INLINE std::shared_ptr<hook_replies::asked> hook_replies::unlink(asked& one) noexcept {
  (one.older ? one.older->younger : oldest_) = one.younger;
  (one.younger ? one.younger->older : youngest_) = one.older;
  if (--size_ == 0) hub_->wheel().disarm(*this);
  return std::exchange(one.self, nullptr);
}

HAILWIRE_INLINE void hook_replies::expire(std::int64_t now) {
  while (oldest_ && oldest_->due <= now) {
    auto late = unlink(*oldest_);
    hub_->log()(late_, now, {log_level::warning, "hook_late", {}, {}, {}, errc::timeout},
                std::string(late->hook) + " has not answered within options::hook_time");
    hub_->log().guarded("a handler", [&] { late->time_out(); });
  }
  if (oldest_ && !resting_) hub_->arm(*this, oldest_->due);
}

}  // namespace hailwire::detail
