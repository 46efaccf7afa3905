// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because one state is changed by followers here, by other hubs and by time.

#include <algorithm>
#include <array>

#include "hailwire/detail/hub/presence.hpp"
#include "hailwire/hub.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE presence::second::second(presence& p) noexcept : of(&p) {}

/// On which all hubs hear one another.
inline constexpr std::string_view all_hubs{"\0hubs", 5};

inline std::string name_of_hub(std::uint64_t id) {
  std::string out("\0hub:", 5);
  proto::append_decimal(out, id);
  return out;
}

HAILWIRE_INLINE presence::presence(hub& h)
    : hub_(&h),
      enabled_(std::any_of(h.settings().channels.begin(), h.settings().channels.end(),
                           [](const channel_rule& r) { return r.presence; })),
      id_(random_bits().low | 1),
      own_name_(name_of_hub(id_)),
      started_(h.loop().now()) {}

HAILWIRE_INLINE std::int64_t presence::now() const noexcept { return hub_->loop().now(); }

HAILWIRE_INLINE void presence::arm() {
  if (!second_.armed() && !stopped_) hub_->arm(second_, now() + 1000);
}

HAILWIRE_INLINE void presence::second::expire(std::int64_t now) {
  of->tick(now);
  if (of->joined_ || !of->pending_.empty()) of->arm();
}

HAILWIRE_INLINE void presence::second::broken() noexcept {
  of->hub_->guarded([this] { of->arm(); });
}

HAILWIRE_INLINE void presence::joined() {
  if (!enabled_) return;
  joined_ = true;
  hub_->channels.listen(all_hubs);
  hub_->channels.listen(own_name_);
  tell(all_hubs, std::move(live_writer(live_kind::presence).number(word_of(word::hello)).number(id_)));
  next_beat_ = now() + hub_heartbeat_ms;
  arm();
}

HAILWIRE_INLINE void presence::stop() noexcept {
  if (stopped_) return;
  hub_->guarded([this] {
    live_writer w(live_kind::presence);
    w.number(word_of(word::ended)).number(id_).number(static_cast<std::uint64_t>(linger_));
    if (joined_) tell(all_hubs, w);
  });
  stopped_ = true;
  hub_->wheel().disarm(second_);
  for (auto& [name, c] : channels_) {
    for (query& q : std::exchange(c.queries, {})) {
      hub_->guarded([&] {
        presence_result r;
        r.error = operation_aborted();
        q.done(std::move(r));
      });
    }
  }
}

// ---- here

HAILWIRE_INLINE presence::channels::iterator presence::obtain(std::string_view channel) {
  auto at = channels_.find(channel);
  if (at != channels_.end()) return at;
  at = channels_.emplace(std::string(channel), channel_state()).first;
  at->second.newest = numbers_;  // whoever has heard of everything up to here has missed nothing of it
  return at;
}

HAILWIRE_INLINE void presence::later(const std::string& name, channel_state& c) {
  if (!std::exchange(c.pending, true)) pending_.push_back(name);
  arm();
}

HAILWIRE_INLINE void presence::began(session& s, channel_log& log) {
  if (stopped_ || s.permissions().hidden()) return;
  auto& [name, c] = *obtain(log.name());
  if (!c.followed) follow(name, c);
  if (s.user().empty()) {
    ++c.anonymous;
    c.anonymous_dirty = true;
    later(name, c);
  } else {
    member& m = c.users[std::string(s.user())];
    const bool was = m.present();
    ++m.sessions;
    if (std::exchange(m.gone_at, 0)) --c.leaving;
    if (m.info != s.permissions().info() || !m.here) {
      m.info = s.permissions().info();
      c.here += !std::exchange(m.here, true);
      m.dirty = false;
      tell_change(name, c, s.user(), &m);
    } else {
      m.dirty = c.dirty = true;  // of how many sessions there are the others hear when it is convenient
    }
    if (!was) arrived(name, c, std::string(s.user()), m.info, true);
    later(name, c);
  }
  occupy(name, c);
}

HAILWIRE_INLINE void presence::ended(session& s, channel_log& log, bool at_once) {
  if (stopped_ || s.permissions().hidden()) return;
  auto at = channels_.find(log.name());
  if (at == channels_.end()) return;
  auto& [name, c] = *at;
  later(name, c);
  if (s.user().empty()) {
    if (c.anonymous) --c.anonymous;
    c.anonymous_dirty = true;
    return occupy(name, c);
  }
  auto user = c.users.find(s.user());
  if (user == c.users.end() || !user->second.sessions) return;
  member& m = user->second;
  m.dirty = c.dirty = true;
  if (--m.sessions) return;
  ++c.leaving;
  m.gone_at = at_once ? now() : now() + (s.ends_with_answer() ? presence_poll_grace_ms : presence_grace_ms) + linger_;
  if (at_once) leave(name, c, user);
}

HAILWIRE_INLINE void presence::regranted(session& s, channel_log& log, const shared_grant& before) {
  const shared_grant& g = s.permissions();
  if (stopped_ || (g.hidden() == before.hidden() && g.info() == before.info())) return;
  if (before.hidden()) return began(s, log);
  auto at = channels_.find(log.name());
  if (at == channels_.end()) return;
  if (s.user().empty()) {
    if (g.hidden() && at->second.anonymous) --at->second.anonymous, at->second.anonymous_dirty = true;
    return later(at->first, at->second);
  }
  auto user = at->second.users.find(s.user());
  if (user == at->second.users.end() || !user->second.sessions) return;
  member& m = user->second;
  m.dirty = at->second.dirty = true;
  m.info = g.info();
  later(at->first, at->second);
  if (!g.hidden() || --m.sessions) return;
  ++at->second.leaving;
  m.gone_at = now();
  leave(at->first, at->second, user);
}

// The last session of a user here is gone, and its grace time over.
HAILWIRE_INLINE void presence::leave(const std::string& name, channel_state& c, users_by_name::iterator user) {
  member& m = user->second;
  m.here = m.dirty = false;
  m.gone_at = 0;
  --c.leaving;
  --c.here;
  tell_change(name, c, user->first, nullptr);
  if (!m.present()) {
    left(name, c, user->first);
    c.users.erase(user);
  }
  occupy(name, c);
}

HAILWIRE_INLINE void presence::arrived(const std::string& name, channel_state& c, const std::string& user,
                                       const std::string& info, bool told) {
  ++c.present;
  if (!told) return;
  // What is gathered is told as one `missed`; until then nothing else is, so that nobody is told of who was there.
  if (c.gathered || now() < started_ + presence_grace_ms) {
    c.gathered = true;
    return later(name, c);
  }
  if (c.counting || c.present + anonymous(c) > hub_->settings().presence_names) {
    if (!std::exchange(c.counting, true)) c.told_count = SIZE_MAX;
    return later(name, c);
  }
  std::string json = "{\"channel\":";
  proto::json::append_quoted(json, name);
  proto::json::append_quoted(json += ",\"user\":", user);
  if (!info.empty()) json.append(",\"info\":").append(info);
  notice(name, "join", json += '}');
}

HAILWIRE_INLINE void presence::left(const std::string& name, channel_state& c, const std::string& user) {
  --c.present;
  if (c.counting || c.gathered) return later(name, c);
  std::string json = "{\"channel\":";
  proto::json::append_quoted(json, name);
  proto::json::append_quoted(json += ",\"user\":", user);
  notice(name, "leave", json += '}');
}

HAILWIRE_INLINE void presence::notice(const std::string& name, std::string_view what, std::string_view json) {
  std::string object = "{\"";
  object.append(what).append("\":").append(json).append("}");
  proto::json::spaces_for_line_breaks(object);
  if (auto* log = hub_->channels.find(name)) log->notice(what, object);  // flushed at the end of the turn
}

HAILWIRE_INLINE void presence::occupy(const std::string& name, channel_state& c) {
  const bool occupied = c.here || c.anonymous;
  if (occupied == c.occupied) return;
  c.occupied = occupied;
  if (!on_followed) return;
  hub_->loop().post([box = hub_->post_box(), name, occupied] {
    if (!box->owner || box->closed()) return;
    auto& p = *box->owner->presence_;
    p.hub_->guarded([&] { p.on_followed(name, occupied); });
  });
}

HAILWIRE_INLINE std::size_t presence::anonymous(const channel_state& c) const noexcept {
  std::size_t n = c.anonymous;
  for (const auto& [id, r] : c.others) n += r.anonymous;
  return n;
}

// ---- time

HAILWIRE_INLINE void presence::tick(std::int64_t now) {
  if (joined_ && now >= next_beat_) beat(now);
  for (const std::string& name : std::exchange(pending_, {})) {
    auto at = channels_.find(name);
    if (at == channels_.end()) continue;
    at->second.pending = false;
    look_at(at->first, at->second, now);
    if (idle(at->second)) channels_.erase(at);
  }
}

HAILWIRE_INLINE void presence::beat(std::int64_t now) {
  next_beat_ = now + hub_heartbeat_ms;
  tell(all_hubs, std::move(live_writer(live_kind::presence).number(word_of(word::alive)).number(id_)));
  std::vector<std::uint64_t> gone;
  // While nothing is heard of anybody, nobody is silent.
  if (hub_->everywhere().behind())
    for (auto& [id, heard] : hubs_) heard = now;
  for (const auto& [id, heard] : hubs_) {
    auto end = ending_.find(id);
    if (end != ending_.end() ? now >= end->second : now - heard > hub_silence_ms) gone.push_back(id);
  }
  for (std::uint64_t id : gone) {
    hubs_.erase(id);
    ending_.erase(id);
    for (auto& [name, c] : channels_)
      if (c.others.contains(id)) drop(name, c, id);
  }
}

HAILWIRE_INLINE void presence::look_at(const std::string& name, channel_state& c, std::int64_t now) {
  if (c.leaving || c.dirty) {
    c.dirty = false;
    for (auto at = c.users.begin(); at != c.users.end();) {
      auto user = at++;
      member& m = user->second;
      if (m.gone_at && now >= m.gone_at) {
        leave(name, c, user);
      } else if (std::exchange(m.dirty, false)) {
        tell_change(name, c, user->first, &m);
      }
    }
  }
  if (std::exchange(c.anonymous_dirty, false)) tell_change(name, c, {}, nullptr);
  if (c.gathered && now >= started_ + presence_grace_ms) {
    c.gathered = false;
    if (auto* log = hub_->channels.find(name)) log->miss();
  }
  if (c.counting && c.present + anonymous(c) <= hub_->settings().presence_names) {
    c.counting = false;
    if (auto* log = hub_->channels.find(name)) log->miss();
  } else if (c.counting && c.told_count != c.present) {
    c.told_count = c.present;
    std::string json = "{\"channel\":";
    proto::json::append_quoted(json, name);
    proto::append_decimal(json += ",\"count\":", c.present);
    notice(name, "presence", json += '}');
  }
  if (c.repeats && joined_ && now >= c.repeat_at) {
    c.repeat_at = now + hub_heartbeat_ms;
    --c.repeats;
    tell(name, std::move(live_writer(live_kind::presence).number(word_of(word::newest)).number(id_).number(c.newest)));
  }
  for (auto& [id, r] : c.others)
    if (!r.synced && r.asked_at && now - r.asked_at >= 2 * hub_answer_ms) ask_state(name, c, id);
  answer_queries(name, c, now);
  if (c.leaving || c.gathered || c.repeats || !c.queries.empty() || awaits(c) ||
      (c.counting && c.told_count != c.present))
    later(name, c);
}

HAILWIRE_INLINE bool presence::idle(const channel_state& c) const noexcept {
  return !c.followed && !c.here && !c.anonymous && !c.pending && c.queries.empty() && (!c.repeats || !joined_);
}

// ---- the other hubs

// Its order is that of its own numbers: hubs may have heard of different epochs of the channel's log until its next
// message, and who is there is the same in all of them.
HAILWIRE_INLINE void presence::tell(std::string_view channel, const live_writer& w) noexcept {
  if (joined_ && !stopped_) hub_->channels.tell_others(channel, w.bytes(), false);
}

// `m`: what there is of the user; null: nothing any more. An empty user stands for the anonymous sessions.
HAILWIRE_INLINE void presence::tell_change(const std::string& name, channel_state& c, std::string_view user,
                                           const member* m) {
  const std::uint64_t before = std::exchange(c.newest, ++numbers_);
  c.repeats = presence_repeats;
  c.repeat_at = now() + hub_heartbeat_ms;
  if (!joined_) return void(c.repeats = 0);
  live_writer w(live_kind::presence);
  w.number(word_of(word::change)).number(id_).number(before).number(c.newest);
  w.number(!m && !user.empty()).text(user).number(user.empty() ? c.anonymous : m ? m->sessions : 0);
  tell(name, w.text(m ? std::string_view(m->info) : std::string_view()));
  later(name, c);
}

HAILWIRE_INLINE void presence::follow(const std::string& name, channel_state& c) {
  c.followed = true;
  c.settled = !joined_ || hubs_.empty();
  if (!c.settled) ask_state(name, c, 0);
}

// `of_hub`: whose; 0: everybody's.
HAILWIRE_INLINE void presence::ask_state(const std::string& name, channel_state& c, std::uint64_t of_hub) {
  for (const auto& [id, heard] : hubs_) {
    if (of_hub && id != of_hub) continue;
    remote& r = c.others[id];
    r.synced = false;
    r.asked_at = now();
  }
  live_writer w(live_kind::presence);
  w.number(word_of(word::ask)).number(id_).text(name);
  tell(of_hub ? std::string_view(name_of_hub(of_hub)) : all_hubs, w);
  later(name, c);
}

HAILWIRE_INLINE bool presence::awaits(const channel_state& c) noexcept {
  return std::any_of(c.others.begin(), c.others.end(), [](const auto& o) { return !o.second.synced; });
}

HAILWIRE_INLINE void presence::answer(std::uint64_t asker, std::string_view channel) {
  const std::string to = name_of_hub(asker);
  auto at = channels_.find(channel);
  std::uint64_t piece = 0;
  live_writer members(live_kind::presence);
  auto send = [&](bool last) {
    live_writer w(live_kind::presence);
    w.number(word_of(word::state)).number(id_).text(channel).number(numbers_).number(piece++).number(last);
    tell(to, w.text(members.bytes()));
    members = live_writer(live_kind::presence);
  };
  if (at != channels_.end()) {
    const channel_state& c = at->second;
    members.text({}).number(c.anonymous).text({});
    for (const auto& [user, m] : c.users) {
      if (!m.here) continue;
      if (members.bytes().size() + user.size() + m.info.size() > presence_piece) send(false);
      members.text(user).number(m.sessions).text(m.info);
    }
  }
  send(true);
}

HAILWIRE_INLINE void presence::heard(std::string_view channel, std::string_view bytes) {
  if (!enabled_ || stopped_) return;
  live_reader in(bytes);
  const auto what = static_cast<word>(in.number());
  const std::uint64_t from = in.number();
  if (!in.ok() || in.kind() != live_kind::presence || !from || from == id_) return;
  const bool is_new = !hubs_.contains(from);
  hubs_[from] = now();
  switch (what) {
    case word::hello:
      return tell(name_of_hub(from),
                  std::move(live_writer(live_kind::presence).number(word_of(word::alive)).number(id_)));
    case word::alive:
      // One that was silent for too long is back, or nobody has told of it yet.
      if (is_new)
        for (auto& [name, c] : channels_)
          if (c.followed) ask_state(name, c, from);
      return;
    case word::ended: {
      const std::uint64_t longer = in.number();  // nothing from hubs that do not say it
      ending_[from] = now() + presence_grace_ms + static_cast<std::int64_t>(std::min(longer, most_linger_ms));
      return;
    }
    case word::ask:
      if (auto name = in.text(); in.ok()) answer(from, name);
      return;
    case word::state:
      return heard_state(in, from);
    case word::newest:
    case word::change:
      break;
  }
  auto at = channels_.find(channel);
  if (at == channels_.end() || !at->second.followed) return;
  auto& [name, c] = *at;
  if (what == word::newest) {
    const std::uint64_t number = in.number();
    remote& r = c.others[from];
    if (in.ok() && number > r.number && !(r.asked_at && !r.synced)) ask_state(name, c, from);
    return;
  }
  if (what != word::change) return;
  change ch;
  ch.before = in.number();
  ch.number = in.number();
  ch.gone = in.number() != 0;
  ch.user = in.text();
  ch.sessions = static_cast<std::size_t>(in.number());
  ch.info = in.text();
  if (!in.ok()) return;
  remote& r = c.others[from];
  if (ch.number <= r.number) return;  // a state had it already
  if (r.synced && ch.before <= r.number) return apply(name, c, from, r, ch, true);
  const bool asked = !r.synced && r.asked_at;
  r.synced = false;
  if (r.held.size() < most_held_changes) r.held.push_back(std::move(ch));
  if (!asked) ask_state(name, c, from);
}

HAILWIRE_INLINE void presence::apply(const std::string& name, channel_state& c, std::uint64_t from, remote& r,
                                     const change& ch, bool told) {
  r.number = ch.number;
  set_other(name, c, from, r, ch, told);
}

HAILWIRE_INLINE void presence::set_other(const std::string& name, channel_state& c, std::uint64_t from, remote& r,
                                         const change& ch, bool told) {
  if (ch.user.empty()) {
    r.anonymous = ch.sessions;
    return c.counting ? later(name, c) : void();
  }
  auto user = c.users.find(ch.user);
  if (ch.gone) {
    if (user == c.users.end()) return;
    member& m = user->second;
    if (!std::erase_if(m.others, [&](const at_hub& o) { return o.hub == from; }) || m.present()) return;
    left(name, c, user->first);
    c.users.erase(user);
    return;
  }
  if (user == c.users.end()) user = c.users.emplace(ch.user, member()).first;
  member& m = user->second;
  const bool was = m.present();
  auto there = std::find_if(m.others.begin(), m.others.end(), [&](const at_hub& o) { return o.hub == from; });
  if (there == m.others.end()) there = m.others.insert(there, {from, 0, {}});
  there->sessions = ch.sessions;
  there->info = ch.info;
  if (!was) arrived(name, c, user->first, ch.info, told);
}

HAILWIRE_INLINE void presence::heard_state(live_reader& in, std::uint64_t from) {
  const std::string channel(in.text());
  const std::uint64_t number = in.number(), piece = in.number(), last = in.number();
  const std::string_view text = in.text();
  auto at = channels_.find(channel);
  if (!in.ok() || at == channels_.end()) return;
  auto& [name, c] = *at;
  remote& r = c.others[from];
  if (number < r.number || (!c.followed && c.queries.empty())) return;
  if (piece == 0) r.staged.clear(), r.staged_number = number, r.pieces = 0;
  if (number != r.staged_number || piece != r.pieces) return;  // a piece is lost: it is asked for again
  ++r.pieces;
  live_reader members(text);
  while (members.ok() && !members.at_end()) {
    change ch;
    ch.user = members.text();
    ch.sessions = static_cast<std::size_t>(members.number());
    ch.info = members.text();
    if (members.ok()) r.staged.push_back(std::move(ch));
  }
  if (!last) return;
  auto staged = std::exchange(r.staged, {});
  // Who is not in it is gone.
  std::vector<std::string_view> named;
  for (const change& ch : staged) named.push_back(ch.user);
  std::sort(named.begin(), named.end());
  for (auto user = c.users.begin(); user != c.users.end();) {
    auto& [who, m] = *user++;
    const auto is_from = [&](const at_hub& o) { return o.hub == from; };
    if (std::none_of(m.others.begin(), m.others.end(), is_from)) continue;
    if (std::binary_search(named.begin(), named.end(), who)) continue;
    change gone;
    gone.gone = true;
    gone.user = who;
    set_other(name, c, from, r, gone, true);
  }
  r.anonymous = 0;
  r.number = number;
  r.synced = true;
  r.asked_at = 0;
  for (const change& ch : staged) set_other(name, c, from, r, ch, c.settled);
  for (change& ch : std::exchange(r.held, {})) {
    if (ch.number <= r.number) continue;
    if (r.synced && ch.before <= r.number) {
      apply(name, c, from, r, ch, true);
    } else {
      r.held.push_back(std::move(ch));
      if (std::exchange(r.synced, false)) ask_state(name, c, from);
    }
  }
  answer_queries(name, c, now());
}

HAILWIRE_INLINE void presence::drop(const std::string& name, channel_state& c, std::uint64_t from) {
  c.others.erase(from);
  for (auto user = c.users.begin(); user != c.users.end();) {
    auto at = user++;
    member& m = at->second;
    if (!std::erase_if(m.others, [&](const at_hub& o) { return o.hub == from; }) || m.present()) continue;
    left(name, c, at->first);
    c.users.erase(at);
  }
  later(name, c);
}

HAILWIRE_INLINE void presence::unfollowed(std::string_view channel) noexcept {
  auto at = channels_.find(channel);
  if (at == channels_.end()) return;
  channel_state& c = at->second;
  c.followed = c.settled = c.counting = c.gathered = false;
  c.others.clear();
  c.present = c.here;
  for (auto& [user, m] : c.users) m.others.clear();
  std::erase_if(c.users, [](const auto& user) { return !user.second.here; });
  hub_->guarded([&] { later(at->first, c); });
}

HAILWIRE_INLINE void presence::look_again(std::string_view channel) {
  if (!enabled_ || stopped_ || !joined_) return;
  // Whoever is there says so within the time in which silence means an end.
  if (is_own(channel))
    for (auto& [id, heard] : hubs_) heard = now();
  for (auto& [name, c] : channels_)
    if (c.followed && (is_own(channel) || name == channel)) ask_state(name, c, 0);
}

// ---- questions

HAILWIRE_INLINE void presence::ask(std::string_view channel, bool names, presence_handler done) {
  presence_result r;
  if (stopped_)
    r.error = operation_aborted();
  else if (!valid_channel(channel))
    r.error = errc::bad_request;
  else if (!hub_->rules_.of(channel).presence)
    r.error = errc::not_found;
  if (r.error) return done(std::move(r));
  auto& [name, c] = *obtain(channel);
  if (!c.followed && joined_ && !hubs_.empty() && c.queries.empty()) ask_state(name, c, 0);
  c.queries.push_back({names, now() + hub_answer_ms, std::move(done)});
  later(name, c);
  answer_queries(name, c, now());
}

HAILWIRE_INLINE void presence::answer_queries(const std::string& name, channel_state& c, std::int64_t now) {
  if (!c.settled && c.followed)
    c.settled = !awaits(c) || std::none_of(c.others.begin(), c.others.end(), [&](const auto& o) {
      return !o.second.synced && now - o.second.asked_at < hub_answer_ms;
    });
  if (c.queries.empty()) return;
  const bool whole = !awaits(c);
  std::vector<query> due;
  for (auto at = c.queries.begin(); at != c.queries.end();) {
    if (whole || now >= at->until) {
      due.push_back(std::move(*at));
      at = c.queries.erase(at);
    } else {
      ++at;
    }
  }
  if (due.empty()) return;
  std::vector<presence_result> results;
  for (const query& q : due) results.push_back(list(c, q.names));
  const std::string channel = name;  // what is done with the answers may end the state
  if (!c.followed && c.queries.empty()) unfollowed(channel);
  // What was told before stands before the answer.
  if (auto* log = hub_->channels.find(channel)) log->flush();
  for (std::size_t i = 0; i < due.size(); ++i) hub_->guarded([&] { due[i].done(std::move(results[i])); });
}

HAILWIRE_INLINE presence_result presence::list(const channel_state& c, bool names) const {
  presence_result r;
  r.anonymous = anonymous(c);
  r.count = c.present;
  if (!names) return r;
  for (const auto& [user, m] : c.users) {
    if (!m.present()) continue;
    if (r.members.size() == max_presence_members) {
      r.more = true;
      break;
    }
    presence_member out{user, m.sessions, m.here ? m.info : m.others.front().info};
    for (const at_hub& o : m.others) out.sessions += o.sessions;
    r.members.push_back(std::move(out));
  }
  return r;
}

}  // namespace hailwire::detail
