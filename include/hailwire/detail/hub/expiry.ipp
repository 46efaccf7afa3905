// SPDX-License-Identifier: BSL-1.0
#pragma once

// How permissions end, all or in part, while a session goes on; hub.hpp and session.hpp say what is promised. What a
// session may do is asked of its grant each time that it does something, so all there is to do here is to stop what
// goes on by itself: messages of channels that are followed, and, when the time has come, the session.
//
// A session does not know of its expiry. The hub has a table with a timer for each stream that has one
// (permission_expiry.hpp); the wheel's steps of 100 ms are the precision. Deadlines are of the system's clock and
// timers of the loop's, so one that is far away is looked at now and then: the former may be set, and goes on while a
// machine is suspended.

#include "hailwire/hub.hpp"

namespace hailwire {

/// How long a timer may trust that both clocks go on alike.
inline constexpr std::int64_t clocks_agree_ms = 5 * 60 * 1000;

namespace detail {

HAILWIRE_INLINE void permission_expiry::watch(session& s) {
  if (hub_->left(s.grant_) == INT64_MAX) return forget(s.key());
  entry* e = find(s.key());
  if (!e) entries_.insert(*(e = new entry(*this, s.key())), s.slot_);
  e->told = false;
  // Not at once: who renews in time has the answer before the next notice.
  hub_->arm(*e, hub_->loop().now());
}

HAILWIRE_INLINE void permission_expiry::look_at(entry& e) {
  session* s = hub_->find(e.of);
  if (!s) return;
  const std::int64_t rest = hub_->left(s->grant_);
  const std::int64_t notice = std::chrono::milliseconds(hub_->settings().expiry_notice).count();
  if (rest <= 0) return s->end(errc::unauthenticated, close_code(errc::unauthenticated), permission_ended_text);
  if (!e.told && rest <= notice) {
    e.told = true;
    std::string json = "{\"seconds\":";
    proto::append_decimal(json, static_cast<std::uint64_t>((rest + 999) / 1000));
    s->notice("expiring", json + '}');
  }
  hub_->arm(e, hub_->loop().now() + std::min(e.told ? rest : rest - notice, clocks_agree_ms));
}

HAILWIRE_INLINE void subscription::raise(std::uint64_t next) {
  if (!started_ || offset_when_whole() + 1 >= next) return;
  if (live_) encoded_->fall_behind(*this, nullptr, 0);  // it waits there for what it may see
  for (auto& l : encoded_->work_->loads) l.waiting.remove(this);
  loading_ = false;
  auto& place = encoded_->at(*this);
  encoded_->release(place);
  place.offset = next - 1;
  encoded_channel::lost(*this, {false, next});
}

}  // namespace detail

HAILWIRE_INLINE void session::revoke(std::string_view channel) {
  if (!revoked(channel)) ensure_rare().revoked.emplace_back(channel);
  unfollow(channel);
}

HAILWIRE_INLINE std::error_code session::permit(shared_grant g) {
  if (ending()) return operation_aborted();
  const bool stream = duplex() || adjustable();
  if (!g || g.user() != user() || !stream) return errc::bad_request;
  if (at().ended(g)) return errc::unauthenticated;
  std::vector<std::string> lost;  // a predicate may throw: it is asked before anything changes
  for (std::size_t i = 0; i < follow_count(); ++i) {
    const auto& f = followed(i);
    std::string_view name = f.in().log().name();
    if (f.named() && !g.may_follow(name)) lost.emplace_back(name);
  }
  const shared_grant before = std::exchange(grant_, std::move(g));
  for (const std::string& name : lost) unfollow(name);
  at().regranted(*this, before);
  for (std::size_t i = 0; i < follow_count(); ++i) followed(i).raise(grant_.floor_of(followed(i).in().log().name()));
  at().expiries.watch(*this);
  at().turn.request_wake(*this);
  return {};
}

}  // namespace hailwire
