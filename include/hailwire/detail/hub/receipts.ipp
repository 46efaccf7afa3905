// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>

#include "hailwire/detail/hub/receipts.hpp"
#include "hailwire/hub.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE receipts::second::second(receipts& r) noexcept : of(&r) {}

HAILWIRE_INLINE receipts::receipts(hub& h) : hub_(&h) {}

HAILWIRE_INLINE void receipts::arm() {
  if (!second_.armed() && !hub_->stopped()) hub_->arm(second_, hub_->loop().now() + receipt_interval_ms);
}

HAILWIRE_INLINE std::size_t receipts::most() const noexcept { return marks_per_pending * hub_->settings().max_pending; }

HAILWIRE_INLINE void receipts::second::expire(std::int64_t now) {
  of->tick(now);
  if (!of->devices_.empty() || !of->users_.empty()) of->arm();
}

// What has not been written yet is: the storage may still take it.
HAILWIRE_INLINE void receipts::stop() noexcept {
  hub_->wheel().disarm(second_);
  for (auto& [key, d] : devices_)
    if (std::exchange(d.waits, false))
      hub_->guarded([&] { hub_->storage_->mark(key.first, std::move(d.pending), [](mark_result) {}); });
}

HAILWIRE_INLINE void receipts::mark(session& s, std::string_view channel, position at, bool read, bool hidden,
                                    mark_done done) {
  if (!hub_->storage_->offers(storage_member::watermarks)) return done(errc::not_implemented);
  watermark m;
  m.user = s.user();
  m.device = s.device();
  m.epoch = std::move(at.epoch);
  m.levels.received = at.offset;
  if (read) m.levels.read = at.offset;
  if (read && !hidden) m.levels.public_read = at.offset;
  m.at = hub_->loop().unix_time();
  name key(std::string(channel), m.user + '\n' + m.device);
  if (writes_ >= most() || (devices_.size() >= most() && !devices_.contains(key))) return done(errc::overloaded);
  auto [there, fresh] = devices_.try_emplace(key);
  device_mark& d = there->second;
  arm();
  // What the log here cannot bear out is for the storage to judge.
  auto* log = hub_->channels.find(channel);
  const bool known = log && log->open() && log->epoch() == m.epoch && at.offset <= log->head();
  const bool soon = d.writing || hub_->loop().now() < d.next;
  if (fresh || !known || !soon || (d.waits && d.pending.epoch != m.epoch)) {
    // On its own, before this one: what was answered must not be refused with what is yet to be judged.
    if (std::exchange(d.waits, false)) write(key, d, std::move(d.pending), {});
    return write(key, d, std::move(m), std::move(done));
  }
  if (std::exchange(d.waits, true)) raise(m.levels, d.pending.levels);
  d.pending = std::move(m);
  done({});
}

HAILWIRE_INLINE void receipts::write(const name& key, device_mark& d, watermark m, mark_done done) {
  d.writing = true;
  d.next = hub_->loop().now() + receipt_interval_ms;
  watermark copy = m;
  ++writes_;
  hub_->storage_->mark(key.first, std::move(copy),
                       hub_->on_loop([key, m = std::move(m), done = std::move(done)](hub& h, mark_result r) mutable {
                         h.receipts_.written(key, m, std::move(r), done);
                       }));
}

HAILWIRE_INLINE void receipts::written(const name& key, const watermark& m, mark_result r, mark_done& done) {
  --writes_;
  if (auto d = devices_.find(key); d != devices_.end()) d->second.writing = false;
  if (!r.error && !(r.before == r.after)) tell(key.first, m.user, m.epoch, r.after);
  if (done) done(r.error);
}

// Epochs have no order, but the log here knows which one holds: what comes late of an older one is void.
HAILWIRE_INLINE receipts::user_receipt* receipts::remember(std::string_view channel, std::string_view user,
                                                           std::string_view epoch) {
  const name key{std::string(channel), std::string(user)};
  auto at = users_.find(key);
  if (at == users_.end()) {
    if (users_.size() >= most()) return nullptr;
    at = users_.try_emplace(key).first;
  }
  user_receipt& u = at->second;
  if (u.epoch != epoch) {
    auto* log = hub_->channels.find(channel);
    if (!u.epoch.empty() && log && log->open() && log->epoch() == u.epoch) return &u;
    u.levels = u.told = {};
    u.epoch = epoch;
  }
  u.until = hub_->loop().now() + receipt_memory_ms;
  arm();
  return &u;
}

HAILWIRE_INLINE void receipts::tell(const std::string& channel, const std::string& user, const std::string& epoch,
                                    const watermark_levels& to) {
  user_receipt* u = remember(channel, user, epoch);
  if (!u) {
    if (auto* log = hub_->channels.find(channel)) log->miss();
    return;
  }
  if (u->epoch != epoch) return;
  raise(u->levels, to);
  if (u->levels == u->told) return;
  u->waits = true;
  const std::int64_t now = hub_->loop().now();
  if (now < u->next) return;
  u->next = now + receipt_interval_ms;
  u->waits = false;
  send(channel, user, *u);
}

HAILWIRE_INLINE void receipts::send(const std::string& channel, const std::string& user, user_receipt& r) {
  if (r.levels == r.told) return;
  r.told = r.levels;
  const bool others = !channel.starts_with('@') && hub_->rules_.of(channel).receipts;
  live_writer w(live_kind::receipt);
  w.text(user).text(r.epoch).number(r.levels.received).number(r.levels.read).number(r.levels.public_read);
  hub_->channels.tell_others(channel, w.number(others).bytes());
  tell_here(channel, user, r.epoch, r.levels, others);
}

HAILWIRE_INLINE void receipts::heard(std::string_view channel, live_reader& in) {
  const std::string user(in.text()), epoch(in.text());
  watermark_levels l;
  l.received = in.number();
  l.read = in.number();
  l.public_read = in.number();
  const bool others = in.number() != 0;
  if (!in.ok()) return;
  user_receipt* u = remember(channel, user, epoch);
  if (!u) {
    if (auto* log = hub_->channels.find(channel)) log->miss();
    return;
  }
  if (u->epoch != epoch) return;
  raise(u->levels, l);
  watermark_levels known = u->told;
  raise(known, l);
  if (known == u->told) return;
  u->told = known;
  tell_here(channel, user, epoch, known, others);
}

HAILWIRE_INLINE void receipts::tell_here(std::string_view channel, std::string_view user, std::string_view epoch,
                                         const watermark_levels& l, bool others) {
  auto* log = hub_->channels.find(channel);
  if (!log) return;
  auto text = [&](std::uint64_t read) {
    std::string json = "{\"channel\":";
    proto::json::append_quoted(json, channel);
    json.append(",\"epoch\":\"").append(epoch).append("\",\"user\":");
    proto::json::append_quoted(json, user);
    proto::append_decimal(json += ",\"received\":", l.received);
    proto::append_decimal(json += ",\"read\":", read);
    return json += '}';
  };
  others = others && log->followers() <= hub_->settings().presence_names;
  if (others) log->notice("receipt", "{\"receipt\":" + text(l.public_read) + '}');
  if (others && l.read == l.public_read) return;  // the user's own sessions are among them
  const std::string own = text(l.read);
  log->flush();  // what was told to all before stands before this
  for (session* s : hub_->find(user))
    if (hub_->subscriptions.find(*s, channel)) s->notice("receipt", own);
}

HAILWIRE_INLINE void receipts::tick(std::int64_t now) {
  for (auto at = devices_.begin(); at != devices_.end();) {
    auto& [key, d] = *at;
    if (d.waits && !d.writing && now >= d.next) {
      d.waits = false;
      write(key, d, std::move(d.pending), {});
    }
    at = d.waits || d.writing || now < d.next ? std::next(at) : devices_.erase(at);
  }
  for (auto at = users_.begin(); at != users_.end();) {
    auto& [key, u] = *at;
    if (std::exchange(u.waits, false)) {
      u.next = now + receipt_interval_ms;
      send(key.first, key.second, u);
    }
    at = now < u.until ? std::next(at) : users_.erase(at);
  }
}

HAILWIRE_INLINE void receipts::find(session& s, std::string_view channel,
                                    move_only_function<void(result<position>)> done) {
  if (s.user().empty() || !hub_->storage_->offers(storage_member::watermarks)) return done(position());
  watermark_query q;
  q.user = s.user();
  name key(std::string(channel), q.user + '\n' + std::string(s.device()));
  hub_->storage_->watermarks(channel, std::move(q),
                             hub_->on_loop([key, device = std::string(s.device()), done = std::move(done)](
                                               hub& h, watermarks_result r) mutable {
                               if (r.error) return done(storage_failure(r.error));
                               position at;
                               for (const watermark& m : r.marks)
                                 if (m.device == device) at = {m.epoch, m.levels.received};
                               auto& known = h.receipts_.devices_;
                               if (auto d = known.find(key); d != known.end() && d->second.waits) {  // not written yet
                                 const watermark& p = d->second.pending;
                                 if (p.epoch != at.epoch || p.levels.received > at.offset)
                                   at = {p.epoch, p.levels.received};
                               }
                               done(std::move(at));
                             }));
}

HAILWIRE_INLINE void receipts::list(std::string_view channel, std::string own, bool others, receipts_handler done) {
  receipts_result out;
  if (!hub_->storage_->offers(storage_member::watermarks)) out.error = errc::not_implemented;
  if (out.error) return done(std::move(out));
  // First where the channel stands, then who has come how far in it.
  hub_->storage_->read(
      channel, max_offset, {0, 0},
      hub_->on_loop([name = std::string(channel), own = std::move(own), others, done = std::move(done)](
                        hub& h, read_result facts) mutable {
        receipts_result r;
        r.error = facts.error;
        if (r.error) return done(std::move(r));
        r.epoch = facts.epoch.empty() ? h.own_epoch(name) : std::move(facts.epoch);
        r.head = facts.head;
        watermark_query q;
        if (!others) q.user = own;
        q.users = max_receipts;
        h.storage_->watermarks(
            name, std::move(q),
            h.on_loop([own, r = std::move(r), done = std::move(done)](hub&, watermarks_result all) mutable {
              r.error = all.error;
              r.more = all.more;
              for (std::size_t i = 0; i < all.marks.size();) {
                const std::string& user = all.marks[i].user;
                watermark_levels top;
                bool any = false;
                for (; i < all.marks.size() && all.marks[i].user == user; ++i)
                  if (all.marks[i].epoch == r.epoch) raise(top, all.marks[i].levels), any = true;
                if (any) r.receipts.push_back({user, top.received, user == own ? top.read : top.public_read});
              }
              const auto mine = std::find_if(r.receipts.begin(), r.receipts.end(),
                                             [&](const receipt& one) { return one.user == own; });
              if (mine != r.receipts.end()) std::rotate(r.receipts.begin(), mine, mine + 1);
              done(std::move(r));
            }));
      }));
}

}  // namespace hailwire::detail
