// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/session.hpp"

namespace hailwire {

HAILWIRE_INLINE channel_set channel_set::all() {
  static const channel_set everything({"*"});
  return everything;
}

HAILWIRE_INLINE bool channel_set::contains(std::string_view channel) const {
  if (!rules_) return false;
  for (const std::string& n : rules_->names) {
    if (!n.empty() && n.back() == '*') {
      if (channel.starts_with(std::string_view(n).substr(0, n.size() - 1))) return true;
    } else if (n == channel) {
      return true;
    }
  }
  return rules_->predicate && rules_->predicate(channel);
}

HAILWIRE_INLINE channel_set::rules::rules(std::vector<std::string> n, std::function<bool(std::string_view)> p)
    : names(std::move(n)), predicate(std::move(p)) {}

HAILWIRE_INLINE shared_grant::shared_grant(grant g) {
  auto fresh = std::unique_ptr<content>(new (detail::with_tail::tail{g.user.size()}) content);
  g.user.copy(content::behind(fresh.get()), g.user.size());
  fresh->name_size = static_cast<std::uint32_t>(g.user.size()) & 0x7FFFFFFF;
  fresh->hidden = g.hidden;
  fresh->follow = std::move(g.follow);
  fresh->publish = std::move(g.publish);
  fresh->expires = g.expires;
  if (!g.key_scope.empty() || !g.info.empty() || !g.floors.empty() || g.attached) {
    fresh->more = std::unique_ptr<const rare>(
        new rare{std::move(g.key_scope), std::move(g.info), std::move(g.floors), std::move(g.attached)});
  }
  at_ = detail::intrusive_ptr<const content>(fresh.release());
}

HAILWIRE_INLINE bool shared_grant::may_follow(std::string_view channel) const {
  if (channel.starts_with('@')) return !user().empty() && channel.substr(1) == user();
  return at_->follow.contains(channel);
}

HAILWIRE_INLINE std::uint64_t shared_grant::floor_of(std::string_view channel) const noexcept {
  if (at_->more)
    for (const grant::floor& f : at_->more->floors)
      if (f.channel == channel) return std::clamp<std::uint64_t>(f.offset, 1, max_offset);
  return 1;
}

HAILWIRE_INLINE session::~session() {
  while (follow_count()) drop_follow(follow_count() - 1);
}

HAILWIRE_INLINE session::rare_state& session::ensure_rare() {
  auto& rare = ensure_extra().rare;
  if (!rare) rare = std::unique_ptr<rare_state>(new rare_state());
  return *rare;
}

HAILWIRE_INLINE session::extra_state& session::ensure_extra() {
  if (!extra_) grow(0);
  return *extra_;
}

HAILWIRE_INLINE void session::grow(std::size_t room) {
  std::unique_ptr<extra_state> larger(new (extra_state::tail{room * sizeof(detail::further_subscription)}) extra_state);
  if (extra_) {
    larger->rare = std::move(extra_->rare);
    larger->next_user = extra_->next_user;
    for (auto& n = larger->further; n < extra_->further; ++n) extra_->at(n)->move_to(larger->at(n));
  }
  extra_ = std::move(larger);
}

HAILWIRE_INLINE detail::subscription& session::add_follow(detail::encoded_channel& in, std::uint32_t serial,
                                                          bool named) {
  if (follow_count() == 0) return first_.enter(in, serial, named), first_;
  const std::uint32_t n = ensure_extra().further;
  if ((n & (n - 1)) == 0) grow(n ? 2 * n : 1);  // there is room up to each power of two
  return *::new (static_cast<void*>(extra_->at(extra_->further++)))
      detail::further_subscription(*this, in, serial, named);
}

HAILWIRE_INLINE void session::drop_follow(std::size_t i) noexcept {
  if (first_ && i == 0) return first_.leave();
  std::size_t at = i - bool(first_);
  std::destroy_at(extra_->at(at));
  for (--extra_->further; at < extra_->further; ++at) extra_->at(at + 1)->move_to(extra_->at(at));
}

}  // namespace hailwire
