// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>

#include "hailwire/detail/base/jitter.hpp"
#include "hailwire/detail/connection/connection.hpp"
#include "hailwire/detail/connection/draining.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void draining::begin(std::int64_t deadline, const drain_options& o,
                                     move_only_function<void()> drained) {
  const std::int64_t now = server_.now();
  deadline = std::max<std::int64_t>(deadline, 0);
  if (begun_) {
    deadline_ = std::min(deadline_, now + deadline);
    drained_ = [first = std::move(drained_), second = std::move(drained)]() mutable {
      if (first) first();
      second();
    };
    return server_.messages.arm(*this, now);
  }
  drained_ = std::move(drained);
  url_ = o.url;
  const std::size_t sessions = server_.messages.session_count();
  per_second_ = std::max<std::size_t>(o.closes_per_second, 1);
  const auto ms = static_cast<std::size_t>(std::max<std::int64_t>(deadline, 1));
  per_second_ = std::max(per_second_, (sessions * 1000 + ms - 1) / ms);
  begun_at_ = now;
  deadline_ = now + deadline;
  closed_by_ = now + std::min(deadline, static_cast<std::int64_t>(sessions * 1000 / per_second_));
  const std::size_t rate = o.returns_per_second                    ? o.returns_per_second
                           : server_.settings.newcomers_per_second ? server_.settings.newcomers_per_second
                                                                   : 1000;
  spread_ = std::max<std::int64_t>(1000, static_cast<std::int64_t>(sessions * 1250 / rate));
  begun_ = true;
  server_.messages.linger(begins() + spread_);  // until the last of them is to be back
  look_at_all(deadline == 0);
}

HAILWIRE_INLINE void draining::look_again() noexcept {
  server_.log().guarded("draining", [this] { server_.messages.arm(*this, server_.now()); });
}

// Tells as many as may be told by now, beginning behind the last one. Polls are answered at once, and so are streams at
// the deadline.
HAILWIRE_INLINE void draining::look_at_all(bool at_deadline) {
  const std::int64_t now = server_.now();
  // So many as fit into the time that a wheel can tell apart go at once.
  const auto due = static_cast<std::size_t>(now - begun_at_ + timer_wheel::resolution) * per_second_ / 1000 + 1;
  const bool first = told_ == 0 && next_ == 0 && now == begun_at_;
  const std::uint32_t slots = server_.messages.registry().slots();
  std::size_t owed = 0;
  bool all = true;
  for (std::uint32_t looked = 0; looked < slots; ++looked) {
    const bool paced = !at_deadline && told_ >= due;
    const std::uint32_t slot = next_;
    auto* c = static_cast<connection*>(server_.messages.registry().in_slot(slot));
    using left = connection::farewell;
    left became = left::none;
    try {
      if (c && !server_.stopping) became = c->take_leave(!paced, at_deadline);
    } catch (...) {
      c->broken();
    }
    told_ += became == left::told;
    owed += became == left::owed;
    all = all && became != left::later;
    if (became == left::later && !first) break;
    next_ = slot + 1 < slots ? slot + 1 : 0;
  }
  if (first) next_ = 0;
  const bool idle = owed == 0 && server_.messages.pending_count() == 0;
  if (at_deadline || server_.stopping || (all && idle)) {
    if (auto f = std::exchange(drained_, nullptr)) f();
    return;
  }
  server_.messages.arm(*this, std::min(now + timer_wheel::resolution, deadline_));
}

HAILWIRE_INLINE std::int64_t draining::begins() const noexcept {
  // Whoever takes this server's place on its port needs a moment to be there.
  constexpr std::int64_t change_over = 1000;
  return url_.empty() ? std::max<std::int64_t>(closed_by_ - server_.now(), 0) + change_over : 0;
}

HAILWIRE_INLINE std::int64_t draining::wait() const { return between(begins(), begins() + spread_); }

HAILWIRE_INLINE int draining::retry_after() const { return static_cast<int>(std::max<std::int64_t>(wait() / 1000, 1)); }

HAILWIRE_INLINE std::string_view draining::bye() {
  if (const std::int64_t now = server_.now(); bye_at_ != now) {
    bye_.clear();
    const auto from = static_cast<std::uint64_t>(begins());
    proto::append_bye_object(bye_, errc::draining, from, from + static_cast<std::uint64_t>(spread_), url_);
    bye_at_ = now;
  }
  return bye_;
}

HAILWIRE_INLINE connection::farewell connection::take_leave(bool turn, bool at_once) {
  switch (phase_) {
    case phase::stream:
      if (!at_once && (command_under_way_ || holds_input())) return farewell::owed;
      if (!turn) return farewell::later;
      if (is_open()) stream_->bye(out(), server().drain.bye(), static_cast<std::uint64_t>(server().drain.wait()));
      end(errc::draining, close_code(errc::draining), "draining");
      return farewell::told;
    case phase::held:
      return asked()->say_bye(), answer_held(true) ? farewell::none : farewell::owed;
    case phase::head:
      return asked() && !asked()->in_.empty() ? farewell::owed : farewell::none;
    case phase::body:
      return farewell::owed;
    case phase::asked:
      return answered_ ? farewell::none : farewell::owed;
    case phase::closing:
    case phase::lingering:
    case phase::dead:
      break;
  }
  return farewell::none;
}

}  // namespace hailwire::detail
