// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <stdexcept>

#include "hailwire/detail/hub/waking.hpp"
#include "hailwire/hub.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void live_devices::add(std::string_view user, std::string_view device) {
  std::lock_guard lock(mutex_);
  ++sessions_[{std::string(user), std::string(device)}];
}

HAILWIRE_INLINE void live_devices::remove(std::string_view user, std::string_view device) noexcept {
  std::lock_guard lock(mutex_);
  for (auto at = sessions_.begin(); at != sessions_.end(); ++at) {
    if (at->first.first != user || at->first.second != device) continue;
    if (--at->second == 0) sessions_.erase(at);
    return;
  }
}

HAILWIRE_INLINE bool live_devices::has(std::string_view user, std::string_view device) const {
  std::lock_guard lock(mutex_);
  return sessions_.count({std::string(user), std::string(device)}) > 0;
}

HAILWIRE_INLINE bool live_devices::has(std::string_view user) const {
  std::lock_guard lock(mutex_);
  auto at = sessions_.lower_bound({std::string(user), {}});
  return at != sessions_.end() && at->first.first == user;
}

HAILWIRE_INLINE waking::waking(hub& h, std::shared_ptr<live_devices> live) : hub_(&h), live_(std::move(live)) {}
HAILWIRE_INLINE waking::~waking() { waits_.delete_all(); }

HAILWIRE_INLINE void waking::add(std::unique_ptr<any_notifier> n) {
  if (find(n->service()))
    throw std::invalid_argument("hailwire: there is a notifier for " + std::string(n->service()) + " already");
  notifiers_.push_back(std::move(n));
}

HAILWIRE_INLINE any_notifier* waking::find(std::string_view service) const noexcept {
  for (const auto& n : notifiers_)
    if (n->service() == service) return n.get();
  return nullptr;
}

HAILWIRE_INLINE bool waking::wakes(std::string_view channel) const {
  const bool inbox = channel.starts_with('@');
  return hub_->rules_.any() ? hub_->rules_.of(channel).wake.value_or(inbox) : inbox;
}

// ---- what begins a wait

HAILWIRE_INLINE waking::wait* waking::obtain(std::string_view channel, std::string_view user) {
  const std::uint64_t hash = keyed_hash(hub_->secret_).add(channel.size()).add(channel).add(user).finish().low;
  if (wait* there = waits_.find(hash, [&](const wait& w) { return w.channel == channel && w.user == user; }))
    return there;
  if (hub_->stopped_) return nullptr;
  if (waits_.size() >= hub_->options_.max_pending) return ++counters_.dropped, nullptr;
  auto* fresh = new wait(*this, channel, user);
  waits_.insert(*fresh, hash);
  hub_->arm(*fresh, hub_->loop().now() + hub_->options_.wake_delay.count());
  return fresh;
}

HAILWIRE_INLINE void waking::stored(std::string_view channel, std::string_view epoch, const message& m) {
  if (!wakes(channel)) return;
  wait* w = obtain(channel, inbox_user(channel));
  if (!w) return;
  if (w->epoch != epoch) w->epoch = epoch, w->offset = w->count = 0;
  if (w->count == 0) w->from = m.from;
  if (w->from != m.from) w->from.clear();
  w->offset = std::max(w->offset, m.offset);
  ++w->count;
}

HAILWIRE_INLINE void waking::opened(session& s) { live_->add(s.user(), s.device()); }

HAILWIRE_INLINE void waking::closed(session& s) noexcept { live_->remove(s.user(), s.device()); }

HAILWIRE_INLINE void waking::died(session& s) {
  if (s.user().empty() || s.device().empty()) return;
  for (const std::string& channel : s.channels())
    if (wakes(channel)) obtain(channel, s.user());
}

// ---- a round

HAILWIRE_INLINE void waking::begin(wait& w) {
  round_pointer r(new round);
  r->channel = std::move(w.channel);
  r->epoch = std::move(w.epoch);
  r->from = std::move(w.from);
  r->offset = w.offset;
  r->count = w.count;
  r->all = w.user.empty();
  if (!r->all) r->to_do.push_back({std::move(w.user), {}});
  waits_.remove(w);
  delete &w;
  if (r->offset == 0) return look_up_head(std::move(r));
  r->more = r->all;
  next(std::move(r));
}

HAILWIRE_INLINE bool waking::failed(std::string_view channel, const std::error_code& ec,
                                    const std::exception_ptr& cause) const noexcept {
  if (ec) hub_->storage_failed("waking the devices behind", hub_->read_failures_, channel, ec, cause);
  return bool(ec);
}

HAILWIRE_INLINE void waking::look_up_head(round_pointer r) {
  const std::string& channel = r->channel;
  hub_->storage_->read(channel, max_offset, {0, 0}, hub_->on_loop([r](hub& h, read_result read) {
    waking& w = *h.waking_;
    if (w.failed(r->channel, read.error, read.cause) || read.head == 0) return;
    r->epoch = read.epoch.empty() ? h.own_epoch(r->channel) : std::move(read.epoch);
    r->offset = read.head;
    w.next(r);
  }));
}

HAILWIRE_INLINE void waking::next(round_pointer r) {
  if (r->to_do.empty()) return r->more ? list_users(std::move(r)) : void();
  look_up_tokens(std::move(r));
}

// Behind this turn: a storage that answers at once must not have a thousand users stand on one stack.
HAILWIRE_INLINE void waking::next_later(round_pointer r) {
  if (r->to_do.empty() && !r->more) return;
  hub_->loop().post([box = hub_->mailbox_, r] {
    if (box->owner && !box->closed()) box->owner->guarded([&] { box->owner->waking_->next(r); });
  });
}

HAILWIRE_INLINE void waking::list_users(round_pointer r) {
  hub_->storage_->watermarks(r->channel, {.after = r->after}, hub_->on_loop([r](hub& h, watermarks_result found) {
    waking& w = *h.waking_;
    if (w.failed(r->channel, found.error, found.cause)) return;
    r->more = found.more && !found.marks.empty();
    if (!found.marks.empty()) r->after = found.marks.back().user;
    for (watermark& m : found.marks) {
      if (!m.user.empty() && m.user == r->from) continue;  // its own words wake nobody
      if (r->to_do.empty() || r->to_do.back().user != m.user) r->to_do.push_back({m.user, {}, true});
      r->to_do.back().marks.push_back(std::move(m));
    }
    w.next_later(r);
  }));
}

HAILWIRE_INLINE void waking::look_up_tokens(round_pointer r) {
  hub_->storage_->tokens(r->to_do.front().user, hub_->on_loop([r](hub& h, tokens_result found) {
    waking& w = *h.waking_;
    if (w.failed(r->channel, found.error, found.cause)) return;
    if (found.tokens.empty()) {
      r->to_do.pop_front();
      return w.next_later(r);
    }
    w.look_up_marks(r, std::move(found.tokens));
  }));
}

HAILWIRE_INLINE void waking::look_up_marks(round_pointer r, std::vector<device_token> tokens) {
  auto go_on = [](waking& w, const round_pointer& of, const std::vector<device_token>& to) {
    w.decide(*of, to);
    of->to_do.pop_front();
    w.next_later(of);
  };
  if (r->to_do.front().marks_known || !hub_->storage_->offers(storage_member::watermarks))
    return go_on(*this, r, tokens);
  hub_->storage_->watermarks(r->channel, {.user = r->to_do.front().user},
                             hub_->on_loop([r, go_on, tokens = std::move(tokens)](hub& h, watermarks_result found) {
                               waking& w = *h.waking_;
                               if (w.failed(r->channel, found.error, found.cause)) return;
                               r->to_do.front().marks = std::move(found.marks);
                               go_on(w, r, tokens);
                             }));
}

HAILWIRE_INLINE void waking::decide(const round& r, const std::vector<device_token>& tokens) {
  const auto& member = r.to_do.front();
  const bool read = highest(member.marks, r.epoch).read >= r.offset;
  const bool somebody = hub_->options_.wake_absent_users_only && live_->has(member.user);
  for (const device_token& t : tokens) {
    const watermark* own = nullptr;
    for (const watermark& m : member.marks)
      if (m.device == t.device && m.epoch == r.epoch) own = &m;
    const bool here = own && own->levels.received >= r.offset;
    // Behind a session that died stands only what a watermark is below.
    const bool nothing = r.count == 0 && !own;
    if (read || somebody || here || nothing || live_->has(t.user, t.device) || under_way_.count({t.user, t.device}) ||
        !find(t.service)) {
      ++counters_.spared;
      continue;
    }
    wake(r, t, own ? r.offset - own->levels.received : r.count);
  }
}

HAILWIRE_INLINE void waking::wake(const round& r, const device_token& t, std::uint64_t count) {
  under_way_.insert({t.user, t.device});
  ++counters_.woken;
  const bool fine = hub_->log().guarded("a push notifier", [&] {
    find(t.service)->notify({t.user, t.device, t.service, t.token, t.extra, t.at},
                            {r.channel, r.epoch, r.offset, count},
                            hub_->on_loop([t](hub& h, push_result result) { h.waking_->ended(t, std::move(result)); }));
  });
  if (fine) return;
  under_way_.erase({t.user, t.device});
  ++counters_.failed;
}

HAILWIRE_INLINE void waking::ended(const device_token& t, push_result r) {
  under_way_.erase({t.user, t.device});
  ++(r.outcome == push_outcome::delivered ? counters_.delivered
     : r.outcome == push_outcome::gone    ? counters_.gone
                                          : counters_.failed);
  if (r.outcome != push_outcome::delivered && hub_->log().hears(log_level::debug))
    hub_->log()({log_level::debug, "push_failed", {}, t.user}, t.service + ": " + r.reason);
  if (r.outcome != push_outcome::gone) return;
  // Only that very token: the device may have named another one since.
  hub_->storage_->forget_token(t.user, t.device, t.token, hub_->on_loop([](hub& h, tokens_result done) {
    h.waking_->failed("its tokens", done.error, done.cause);
  }));
}

// ---- the device command

HAILWIRE_INLINE void waking::keep(session& s, std::string_view object, device_handler done) {
  if (s.user().empty()) return done({errc::forbidden, "a device belongs to a user"});
  if (s.device().empty()) return done({errc::bad_request, "the device has no name: say &device= in the URL"});
  if (hub_->pending_.full()) return done(storage_failure(errc::overloaded));
  vector<proto::json::member> members;
  if (proto::json::read_object(object, members, {.depth = 16, .members = 64}))
    return done({errc::bad_request, "\"device\" must be an object"});
  std::string service;
  bool forgets = false;
  for (const auto& m : members) {
    if (name_is(m, "push") && m.content.type == proto::json::kind::string)
      service = proto::json::unescape(m.content.text).value_or("");
    if (name_is(m, "token")) forgets = m.content.type == proto::json::kind::null;
  }
  any_notifier* by = find(service);
  if (!by && !forgets) {
    if (service.empty()) return done({errc::bad_request, "\"push\" is missing"});
    return done({errc::not_implemented, "this server reaches no devices by \"" + service + "\""});
  }
  // Answers, if the session is still there.
  struct answer {
    session_key of;
    device_handler done;
    void operator()(hub& h, const tokens_result& r) {
      if (!h.find(of)) return;
      r.error ? done(storage_failure(r.error)) : done(std::string("{}"));
    }
    void refuse(hub& h, const failure& why) {
      if (h.find(of)) done(why);
    }
  };
  answer end{s.key(), std::move(done)};
  std::string user(s.user()), device(s.device());
  if (forgets) return hub_->storage_->forget_token(user, device, {}, hub_->on_loop(std::move(end)));
  // What is kept already tells a notifier which of its keys the token is bound to.
  hub_->storage_->tokens(user, hub_->on_loop([user, device, service, text = std::string(object), end = std::move(end)](
                                                 hub& h, tokens_result found) mutable {
    if (found.error) return end(h, found);
    push_token kept;
    for (device_token& t : found.tokens)
      if (t.device == device && t.service == service) kept = {std::move(t.token), std::move(t.extra)};
    auto token = h.waking_->find(service)->accept(text, kept);
    if (!token) return end.refuse(h, token.error());
    h.storage_->keep_token(
        {user, device, service, std::move(token->token), std::move(token->extra), h.loop().unix_time()},
        h.on_loop(std::move(end)));
  }));
}

}  // namespace hailwire::detail
