// SPDX-License-Identifier: BSL-1.0
#pragma once

// Following several channels at once, all or none of them.
//
// Each is followed as one alone is, but held: it stands in its channel and keeps what comes, and has nothing to pull.
// When it is known of the last of them where it stands, all are let go together, or all are left. What was read from
// the storage to find that out is not kept meanwhile, however many channels there are; who is behind reads again.
//
// While one waits for the storage anything may happen to the others: the host takes a channel away, a floor rises, a
// channel begins another life. A place that is not good any more is asked for anew.

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "hailwire/hub.hpp"

namespace hailwire::detail {

struct subscriptions::group : intrusive_count {
  static constexpr std::uint32_t unknown = subscription::serials;
  struct place {
    hailwire::start from;
    std::uint32_t serial = unknown;  // of its subscription, once it is known where that stands
  };
  session_key asked;
  vector<place> places;          // of each channel
  vector<channel_start> starts;  // what is told of each
  std::size_t waiting = 0;
  std::optional<failure> why;
  follow_all_handler done;

  // The session's own subscription to a channel, which it may have lost meanwhile.
  std::size_t find(session& s, std::size_t i) const noexcept {
    std::size_t at = 0;
    while (at < s.follow_count() && s.followed(at).serial() != places[i].serial) ++at;
    return at;
  }
};

HAILWIRE_INLINE void subscriptions::add_all(session& s, vector<std::string> channels, const cursor& from,
                                            follow_all_handler done) {
  auto g = intrusive_ptr<group>(new group());
  g->asked = s.key();
  g->done = std::move(done);
  g->waiting = channels.size() + 1;  // one more: nothing is settled before all have been asked
  for (std::size_t i = 0; i < channels.size(); ++i) {
    g->places.push_back({from[i]});
    g->starts.push_back({std::move(channels[i]), {}});
  }
  for (std::size_t i = 0; i < g->places.size(); ++i) add_held(g, i);
  one_known(g);
}

HAILWIRE_INLINE void subscriptions::add_held(const intrusive_ptr<group>& g, std::size_t i) {
  session* s = hub_->find(g->asked);
  if (!s) return;
  g->places[i].serial = group::unknown;
  add(*s, g->starts[i].channel, g->places[i].from, true, true, [this, g, i](result<follow_start> r) {
    if (session* of = hub_->find(g->asked); r && of) {
      g->places[i].serial = find(*of, g->starts[i].channel)->serial();
      g->starts[i].start = std::move(*r);
    } else if (!r && !g->why) {
      g->why = r.error();
    }
    one_known(g);
  });
}

HAILWIRE_INLINE void subscriptions::one_known(const intrusive_ptr<group>& g) {
  if (--g->waiting) return;
  session* s = hub_->find(g->asked);
  if (!s) return;
  vector<std::size_t> outdated;
  for (std::size_t i = 0; i < g->places.size() && !g->why; ++i) {
    const std::size_t at = g->find(*s, i);
    if (at == s->follow_count()) {
      g->why = failure(errc::forbidden, "the host took the channel away");
      break;
    }
    const auto& log = s->followed(at).in().log();
    const position& p = g->starts[i].start.at;
    if (p.epoch != log.epoch() || p.offset + 1 < s->permissions().floor_of(log.name())) outdated.push_back(i);
  }
  if (g->why) {
    for (std::size_t i = 0; i < g->places.size(); ++i)
      if (const std::size_t at = g->find(*s, i); at < s->follow_count()) end(*s, at, true);
    return g->done(std::move(*g->why));
  }
  if (!outdated.empty()) {
    g->waiting = outdated.size() + 1;
    for (std::size_t i : outdated) {
      end(*s, g->find(*s, i), true);
      add_held(g, i);
    }
    return one_known(g);
  }
  for (std::size_t i = 0; i < g->places.size(); ++i) {
    auto& sub = s->followed(g->find(*s, i));
    sub.begin(g->starts[i].start.at.offset);
    sub.join_if_current();
    begin(*s, sub.in().log());
  }
  g->done(std::move(g->starts));
}

}  // namespace hailwire::detail
