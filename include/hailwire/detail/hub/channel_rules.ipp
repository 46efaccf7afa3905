// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <stdexcept>
#include <string>

#include "hailwire/detail/hub/channel_rules.hpp"
#include "hailwire/message.hpp"

namespace hailwire::detail {

// What is wrong with a rule, as a sentence goes on behind its pattern; null when nothing is.
inline const char* fault_of(const channel_rule& r) noexcept {
  const std::string_view p = r.pattern;
  if (p.empty()) return "a pattern is a channel's name, or a prefix and *";
  if (p.find('*') < p.size() - 1) return "a * stands at a pattern's end alone";
  if (p != "*" && !valid_channel(p)) return "no channel has a name like that";
  if (r.max_payload == 0u) return "max_payload is 1 at least";
  if (r.at_most_every && (r.at_most_every->count() < 0 || *r.at_most_every > std::chrono::hours(24)))
    return "at_most_every is between nothing and a day";
  if (r.keep.age.count() < 0) return "an age is not negative";
  return nullptr;
}

HAILWIRE_INLINE channel_rules::channel_rules(const options& o) {
  general_.max_payload = o.max_payload;
  for (const channel_rule& r : o.channels) {
    if (const char* fault = fault_of(r))
      throw std::invalid_argument("hailwire: options::channels has a rule for \"" + r.pattern + "\": " + fault);
    const bool prefix = r.pattern.ends_with('*');
    channel_settings s = general_;
    s.keep = r.keep;
    s.wake = r.wake;
    s.presence = r.presence;
    s.ephemeral = r.ephemeral;
    s.receipts = r.receipts;
    any_keep_ = any_keep_ || r.keep.any();
    s.last_value = r.last_value.value_or(false);
    s.at_most_every = r.at_most_every.value_or(std::chrono::milliseconds(0)).count();
    s.max_payload = r.max_payload.value_or(s.max_payload);
    if (r.publishes_per_second) {
      const auto rate = static_cast<double>(*r.publishes_per_second);
      s.publishes = token_rate(rate, rate);
    }
    rules_.push_back({r.pattern.substr(0, r.pattern.size() - prefix), prefix, s});
  }
}

HAILWIRE_INLINE const channel_settings& channel_rules::of(std::string_view channel) const noexcept {
  for (const rule& r : rules_)
    if (r.prefix ? channel.starts_with(r.text) : channel == r.text) return r.settings;
  return general_;
}

HAILWIRE_INLINE channel_rules::channel_in_use& channel_rules::used(std::string_view channel, std::uint64_t hash,
                                                                   std::int64_t now) {
  auto* there = used_.find(hash, [&](const channel_in_use& c) { return c.name() == channel; });
  if (there) return *there;
  if (used_.size() >= sweep_at_) sweep(now);
  auto* fresh = new (with_tail::tail{channel.size()}) channel_in_use;
  channel.copy(with_tail::behind(fresh), channel.size());
  fresh->name_size = static_cast<std::uint32_t>(channel.size());
  fresh->settings = &of(channel);
  used_.insert(*fresh, hash);
  return *fresh;
}

HAILWIRE_INLINE void channel_rules::sweep(std::int64_t now) noexcept {
  for (std::size_t i = 0; i < used_.buckets(); ++i) {
    for (hash_node* n = used_.bucket(i); n;) {
      auto* c = static_cast<channel_in_use*>(n);
      n = n->next_in_bucket;
      if (!c->publishes.full(now)) continue;
      used_.remove(*c);
      delete c;
    }
  }
  sweep_at_ = std::max(least_swept, 2 * used_.size());
}

}  // namespace hailwire::detail
