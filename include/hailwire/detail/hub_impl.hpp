// SPDX-License-Identifier: BSL-1.0
#pragma once

// The hub's longer functions; hub.hpp says what they are for.

#include <algorithm>

#include "hailwire/hub.hpp"

namespace hailwire {

/// How long an idempotency key is kept: the protocol promises five minutes.
inline constexpr std::int64_t key_lifetime_ms = 5 * 60 * 1000;
/// How many keys a hub keeps for a storage that keeps none, about 150 bytes each; past it a keyed publish is `overloaded`.
inline constexpr std::size_t max_kept_keys = 1'000'000;
/// How many bytes of messages one history answer holds, as a poll answer does.
inline constexpr std::size_t max_history_bytes = 1 << 20;

// ---- mailbox and turns -----------------------------------------------------------------------------------------------

inline bool hub::mailbox::put(detail::function<void()> f, detail::function<void()> abort) {
  auto mine = detail::owned<letter>(new letter{std::move(f), std::move(abort), nullptr});
  letter* below = newest_.load();
  do {
    if (below == &end_) return false;
    mine->next = below;
  } while (!newest_.compare_exchange_weak(below, mine.get()));
  mine.release();  // the hub's: it may have been read by now
  if (below) return true;  // whoever put the first has told the loop
  std::lock_guard lock(mutex_);
  if (closed()) return true;
  loop_->post([self = owner->mailbox_] {
    auto unread = self->take();
    while (auto l = unread.next()) {
      if (self->closed()) {
        l->abort();
      } else {
        l->run();
      }
    }
  });
  return true;
}

template <class F>
auto hub::on_loop(F f) {
  return [box = mailbox_, f = std::move(f)]<class Result>(Result&& r) mutable {
    if (box->here()) return f(*box->owner, std::move(r));
    mailbox::forward<std::remove_cvref_t<Result>>(box, std::move(f), std::move(r));
  };
}

inline void hub::turn() {
  scheduled_ = false;
  auto logs = std::exchange(dirty_, {});
  for (std::size_t i = 0; i < logs.size(); ++i) {
    if (i + 4 < logs.size()) detail::fetch(logs[i + 4], 2);
    for (int step = 3; step; --step)
      if (i + static_cast<std::size_t>(step) < logs.size()) logs[i + static_cast<std::size_t>(step)]->comes(step);
    auto* log = logs[i];
    log->dirty = false;
    log->flush();
  }
  if (!logs.empty()) {
    if (!cooling_.armed() && !stopped_) {
      cooling_.owner = this;
      arm(cooling_, loop_->now() + 1000);
    }
    for (auto* log : logs) {
      if (log->warm) continue;
      log->warm = true;
      warm_.push_back(log);
    }
    logs.clear();
    if (dirty_.empty()) dirty_ = std::move(logs);  // keeps its memory
  }
  waking_.swap(wakes_);  // two lists that change places keep their memory
  for (std::size_t i = 0; i < waking_.size(); ++i)
    if (waking_[i]) waking_[i]->wake(nullptr);
  waking_.clear();
  settling_.swap(settles_);
  for (std::size_t i = 0; i < settling_.size(); ++i)
    if (auto* o = std::exchange(settling_[i], nullptr)) o->settle();
  settling_.clear();
}

inline void hub::join(detail::owned<detail::any_broker> b) {
  broker_ = std::move(b);
  broker_id_ = broker_->attach([box = mailbox_](std::string_view channel, std::string_view epoch, const message& m) {
    box->put(
        [box, channel = std::string(channel), epoch = std::string(epoch), m] {
          hub& h = *box->owner;
          auto* log = h.find_log(channel);
          if (!log) return;
          if (log->apply(epoch, m)) log->flush();
        },
        [] {});
  });
}

// ---- names -----------------------------------------------------------------------------------------------------------

inline std::string hub::printed(detail::session_key k) const {
  // Four rounds of a keyed Feistel network: a permutation, so ids are unique, and their order tells nothing.
  std::uint32_t left = k.slot, right = k.generation;
  for (std::uint64_t round : {id_secret_[0].low, id_secret_[0].high, id_secret_[1].low, id_secret_[1].high}) {
    std::uint64_t f = (right ^ round) * 0x9E3779B97F4A7C15u;
    f ^= f >> 29;
    left ^= static_cast<std::uint32_t>((f * 0xBF58476D1CE4E5B9u + (round >> 32)) >> 32);
    std::swap(left, right);
  }
  std::uint64_t word = std::uint64_t{left} << 32 | right;
  std::string out;
  proto::append_base64(out, std::string_view(reinterpret_cast<const char*>(&word), 8), proto::base64url_letters);
  return out;
}

// ---- sessions --------------------------------------------------------------------------------------------------------

inline void hub::enter(session& s) {
  if (free_slot_ == no_slot) {
    s.slot_ = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot& at = slots_[s.slot_ = free_slot_];
    free_slot_ = at.next_free();
    s.generation_ = at.generation();
  }
  slots_[s.slot_].take(s);
}

inline void hub::leave(session& s) noexcept { slots_[s.slot_].free(std::exchange(free_slot_, s.slot_), s.generation_); }

inline bool hub::open(session& s, shared_grant g, std::string device, bool listed) {
  if (stopped_ || (listed && listed_ >= options_.max_sessions)) return false;
  ++s.generation_;
  s.open_ = true;
  s.listed_ = listed;
  s.grant_ = std::move(g);
  if (!device.empty()) s.rarely().device = std::move(device);
  if (!listed) return true;
  ++listed_;
  if (!s.user().empty()) add_user(s);
  return true;
}

inline void hub::add_user(session& s) {
  if (++named_ <= users_.size()) return enter_user(s);
  users_.assign(std::max<std::size_t>(8, 2 * users_.size()), no_slot);
  for (const slot& at : slots_)
    if (session* one = at.taken(); one && one->listed_ && !one->user().empty()) enter_user(*one);
}

inline void hub::close(session& s) {
  while (s.follow_count()) {
    auto& log = s.followed(s.follow_count() - 1).in().log();
    s.drop_follow(s.follow_count() - 1);
    release_log(log);
  }
  forget_expiry(s);
  if (s.listed_) {
    --listed_;
    if (!s.user().empty()) remove_user(s);
  }
  s.open_ = s.listed_ = false;
  s.grant_ = {};
  auto dying = std::move(s.beyond_);  // the host's data may look at the hub from its destructor
}

inline detail::subscription* hub::find(session& s, std::string_view channel) const noexcept {
  for (std::size_t i = 0; i < s.follow_count(); ++i)
    if (s.followed(i).in().log().name() == channel) return &s.followed(i);
  return nullptr;
}

inline detail::channel_log& hub::obtain_log(std::string_view channel) {
  std::uint64_t hash = hash_of(channel);
  if (auto* there = find_log(channel, hash)) return *there;
  auto log = detail::channel_log::make(*this, channel);
  if (broker_) broker_->subscribe(broker_id_, channel);  // may throw; nothing is entered then
  logs_.insert(*log, hash);
  return *log.release();
}

inline void hub::release_log(detail::channel_log& log) {
  log.sweep();
  if (!log.unused()) return;  // one that was busy a moment ago stays until it has cooled
  if (broker_) broker_->unsubscribe(broker_id_, log.name());
  logs_.remove(log);
  delete &log;
}

inline void hub::open_log(detail::channel_log& log, read_result& r) {
  if (r.epoch.empty()) r.epoch = own_epoch(log.name());
  log.opened(r.epoch, r.oldest, r.head);
}

inline void hub::reopen(detail::channel_log& log) {
  ++log.pins;
  storage_->read(log.name(), max_offset, {0, 0}, on_loop([channel = std::string(log.name())](hub& h, read_result r) {
    auto& again = *h.find_log(channel);
    if (r.error) {
      again.failed(r.error);
    } else {
      h.open_log(again, r);
    }
    --again.pins;
    h.release_log(again);
  }));
}

inline void hub::follow(session& s, std::string_view channel, const hailwire::start& from, bool named, follow_handler done) {
  if (!valid_channel(channel)) return done({errc::bad_request, "not a channel name"});
  if (find(s, channel)) return done({errc::bad_request, "the channel is followed already"});
  if (s.follow_count() >= options_.max_channels) return done({errc::bad_request, "too many channels"});

  auto& log = obtain_log(channel);
  auto& lane = log.lane_for(s.encoding());
  auto& sub = s.add_follow(lane, follow_serial_ = (follow_serial_ + 1) % detail::subscription::serials, named);
  using word = hailwire::start::word;
  std::uint64_t floor = s.permissions().floor_of(channel);
  // Who begins at the head has nothing to read, and polls nearly always do.
  bool at_head = from.from == word::at && from.at.offset == log.head() && from.at.epoch == log.epoch() && floor <= log.head() + 1;
  if (log.open() && (at_head || from.from == word::latest)) {
    std::uint64_t offset = std::max(log.head(), floor - 1);
    lane.add(sub, offset);
    return done(follow_start{{std::string(log.epoch()), offset}, true, {}});
  }
  lane.add(sub);
  std::uint64_t since = from.from == word::latest ? max_offset : from.from == word::at ? std::max(from.at.offset, floor - 1) : floor - 1;
  read_limit limit = from.from == word::latest ? read_limit{0, 0} : read_limit{};
  ++log.pins;
  storage_->read(channel, since, limit,
                 on_loop([key = s.key(), serial = follow_serial_, name = std::string(channel), from, floor, done = std::move(done)](hub& h, read_result r) mutable {
                   auto& read = *h.find_log(name);
                   if (session* asked = h.find(key)) {
                     std::size_t still = 0;
                     while (still < asked->follow_count() && asked->followed(still).serial() != serial) ++still;
                     if (still == asked->follow_count()) {
                       done({errc::forbidden, "the host took the channel away"});
                     } else {
                       h.began(*asked, asked->followed(still), from, floor, std::move(r), done);
                     }
                   }
                   --read.pins;
                   h.release_log(read);
                 }));
}

inline void hub::began(session& s, detail::subscription& sub, const hailwire::start& from, std::uint64_t floor, read_result r,
                       follow_handler& done) {
  auto& log = sub.in().log();
  floor = std::max(floor, s.permissions().floor_of(log.name()));  // it may have risen while the storage was asked
  if (r.error) {
    unfollow(s, log.name());
    return done(storage_failure(r.error));
  }
  open_log(log, r);
  // To this client what is below its floor counts as trimmed, also where it is yet to come.
  std::uint64_t head = std::max({r.head, log.head(), floor - 1});
  std::uint64_t oldest = std::max(std::min(r.oldest, head + 1), floor);
  follow_start out;
  out.at.epoch = log.epoch();
  using word = hailwire::start::word;
  switch (from.from) {
    case word::latest: out.at.offset = head; break;
    case word::earliest:
    case word::received: out.at.offset = oldest - 1; break;  // without watermarks, `received` is `earliest`
    case word::at:
      out.at.offset = from.at.offset;
      if (from.at.epoch != log.epoch() || from.at.offset > head) {
        out.lost = {true, oldest};
      } else if (from.at.offset + 1 < oldest) {
        out.lost = {false, oldest};
      } else {
        break;
      }
      out.recovered = false;
      out.at.offset = oldest - 1;
  }
  sub.begin(out.at.offset);
  sub.in().prime(sub, r.messages);
  done(std::move(out));
}

inline bool hub::unfollow(session& s, std::string_view channel) {
  for (std::size_t i = 0; i < s.follow_count(); ++i) {
    auto& log = s.followed(i).in().log();
    if (log.name() != channel) continue;
    s.drop_follow(i);
    release_log(log);
    return true;
  }
  return false;
}

inline void hub::load(detail::channel_log& log, detail::lane& l, std::uint64_t since) {
  ++log.pins;
  storage_->read(log.name(), since, {}, on_loop([name = std::string(log.name()), how = &l.how(), since](hub& h, read_result r) {
    auto& read = *h.find_log(name);
    if (!r.error && r.epoch.empty()) r.epoch = h.own_epoch(name);
    if (!r.error && r.epoch != read.epoch()) {
      // Everybody has to start over, which cannot be done from within a pull; those who wait go on waiting until then.
      h.loop_->post([box = h.mailbox_, name] {
        if (!box->owner || box->closed()) return;
        if (auto* stale = box->owner->find_log(name)) box->owner->reopen(*stale);
      });
    } else if (auto* lane = read.find_lane(how)) {
      lane->loaded(since, r);
    }
    --read.pins;
    if (read.unused()) h.release_log(read);
  }));
}

inline void hub::fill(detail::channel_log& log) {
  ++log.pins;
  storage_->read(log.name(), log.head(), {}, on_loop([name = std::string(log.name())](hub& h, read_result r) {
    auto& read = *h.find_log(name);
    if (r.error) {
      read.failed(r.error);
    } else {
      h.open_log(read, r);
      read.filled(r);
    }
    --read.pins;
    if (read.unused()) h.release_log(read);
  }));
}

// ---- publishing ------------------------------------------------------------------------------------------------------

inline std::error_code hub::check(const std::string& channel, payload& p, const publish_options& o, bool checked) const {
  if (!valid_channel(channel)) return errc::bad_request;
  if (o.type.size() > 64 || !proto::printable_utf8(o.type)) return errc::bad_request;
  if (o.key.size() > 64 || std::any_of(o.key.begin(), o.key.end(), [](char c) { return c < 0x21 || c > 0x7E; })) return errc::bad_request;
  if (p.bytes().size() > options_.max_payload) return errc::too_large;
  if (p.type() == payload::kind::json) {
    if (!checked && proto::json::validate(p.bytes())) return errc::bad_request;
    if (p.bytes().find('\n') != std::string_view::npos || p.bytes().find('\r') != std::string_view::npos) {
      std::string one_line(p.bytes());
      proto::json::spaces_for_line_breaks(one_line);
      p = payload::json(one_line);
    }
  } else if (p.type() == payload::kind::text && !checked && !proto::valid_utf8(p.bytes())) {
    return errc::unsupported_media;
  }
  return {};
}

inline void hub::start(publishing&& what, payload&& p, publish_options&& o, std::string&& from, std::string&& scope, bool checked) {
  if (stopped_) return finish(what, operation_aborted(), {});
  if (auto ec = check(what.channel, p, o, checked)) return finish(what, ec, {});

  draft d{loop_->unix_time(), std::move(from), std::move(o.type), std::move(p), {}};
  if (!o.key.empty()) {
    d.key = scope + '\n' + o.key;
    if (!storage_->keeps_keys()) {
      auto name = detail::keyed_hash(secret_).add(what.channel.size()).add(what.channel).add(std::exchange(d.key, {})).finish();
      auto print = detail::print_of(secret_, d.data);
      if (auto* known = keys_.find(name.low, [&](const kept_key& k) { return k.name == name; })) {
        if (known->print != print) return finish(what, errc::conflict, {});
        if (known->at.offset) return finish(what, {}, position(known->at));
        known->waiting.push_back(wait(std::move(what)));
        return;
      }
      if (keys_.size() >= max_kept_keys) return finish(what, errc::overloaded, {});
      what.key = new kept_key;
      what.key->name = name;
      what.key->print = print;
      keys_.insert(*what.key, name.low);
    }
  }
  message& m = what.content;
  m.at = d.at;
  m.data = d.data;
  if (storage_->at_once()) {
    if (auto* near = logs_.candidate(what.at.hash, true)) detail::fetch(near, 2);  // while the storage is at work
    append_result r = storage_->append_now(what.at.stored, what.channel, d);
    if (!d.from.empty()) m.from.swap(d.from);
    if (!d.type.empty()) m.type.swap(d.type);
    return stopped_ ? finish(what, operation_aborted(), {}) : stored(what, std::move(r));
  }
  m.from = d.from;
  m.type = d.type;
  auto op = wait(std::move(what));
  std::string_view channel = op->what.channel;
  storage_->append(channel, std::move(d), on_loop([op](hub& h, append_result&& later) {
                     if (op->over) return;  // aborted by stop()
                     h.dismiss(*op);
                     op->over = true;
                     h.pending_.fetch_sub(1);
                     h.stored(op->what, std::move(later));
                   }));
}

inline detail::shared<hub::publish_op> hub::wait(publishing&& what) {
  pending_.fetch_add(1);
  auto op = detail::shared<publish_op>(new publish_op(*this, std::move(what)));
  enroll(op);
  return op;
}

inline void hub::stored(publishing& what, append_result&& r) {
  auto* log = find_log(what.channel, what.at.hash);
  bool much = false;
  position p;
  if (!r.error) {
    p.offset = r.offset;
    p.epoch = !r.epoch.empty() ? std::move(r.epoch) : log && log->open() ? std::string(log->epoch()) : own_epoch(what.channel);
    if (!r.duplicate) {
      what.content.offset = r.offset;
      if (log) much = log->apply(p.epoch, what.content);
      if (broker_) broker_->publish(broker_id_, what.channel, p.epoch, what.content);
    }
  }
  if (what.key) settle_key(*std::exchange(what.key, nullptr), r.error, p);
  finish(what, r.error, std::move(p));
  // The publisher's own answer stands before its message, so this comes last.
  if (!much) return;
  if (log = find_log(what.channel, what.at.hash); log && log->flush_early()) log->flush();
}

inline void hub::settle_key(kept_key& k, std::error_code ec, const position& p) {
  auto waiting = std::move(k.waiting);
  if (ec) {
    forget(k);
  } else {
    k.at = p;
    k.until = loop_->now() + key_lifetime_ms;
    (youngest_key_ ? youngest_key_->younger : oldest_key_) = &k;
    youngest_key_ = &k;
    set_alarm();
  }
  for (auto& same : waiting) {
    if (same->over) continue;
    dismiss(*same);
    same->finish(ec, p);
  }
}

// ---- history ---------------------------------------------------------------------------------------------------------

inline void hub::history(std::string_view channel, history_query q, std::uint64_t floor, history_handler done) {
  auto refuse = [&](std::error_code ec) {
    history_result r;
    r.error = ec;
    done(std::move(r));
  };
  if (stopped_) return refuse(operation_aborted());
  if (!valid_channel(channel) || q.limit < 1 || q.limit > 1000) return refuse(errc::bad_request);
  if (pending_.fetch_add(1) >= options_.max_pending) {
    pending_.fetch_sub(1);
    return refuse(errc::overloaded);
  }
  auto op = detail::shared<history_op>(new history_op(*this));
  op->channel = channel;
  op->query = std::move(q);
  op->floor = std::max<std::uint64_t>(floor, 1);
  op->done = std::move(done);
  op->tried = op->query.limit;
  enroll(op);
  read_history(std::move(op));
}

inline void hub::read_history(detail::shared<history_op> op) {
  const history_query& q = op->query;
  bool forward = q.after || q.from_start;
  std::uint64_t since = max_offset;  // neither after nor before: the facts first
  read_limit limit{0, 0};
  if (forward) {
    since = std::max(q.after, op->floor - 1);
    limit = {q.limit, max_history_bytes};
  } else if (q.before) {
    since = std::max(q.before > op->tried ? q.before - 1 - op->tried : 0, op->floor - 1);
    limit = {op->tried, max_history_bytes};
  }
  std::string_view channel = op->channel;
  storage_->read(channel, since, limit, on_loop([op](hub& h, read_result r) { h.history_read(op, std::move(r)); }));
}

inline void hub::history_read(const detail::shared<history_op>& op, read_result r) {
  if (op->index == SIZE_MAX) return;  // aborted by stop()
  history_query& q = op->query;
  history_result out;
  out.error = r.error;
  if (!r.error) {
    out.epoch = r.epoch.empty() ? own_epoch(op->channel) : std::move(r.epoch);
    if (!q.epoch.empty() && q.epoch != out.epoch) {
      out.error = errc::not_found;
    } else if (q.after || q.from_start) {
      out.messages = std::move(r.messages);
      out.more = !out.messages.empty() && out.messages.back().offset < r.head;
    } else if (!q.before || q.before > r.head + 1) {
      q.before = r.head + 1;
      return read_history(op);
    } else {
      std::erase_if(r.messages, [&](const message& m) { return m.offset >= q.before; });
      bool whole = r.messages.empty() ? q.before <= std::max(r.oldest, op->floor) : r.messages.back().offset + 1 == q.before;
      if (!whole && op->tried > 1) {  // cut off by size at the wrong end: ask for fewer
        op->tried /= 2;
        return read_history(op);
      }
      out.messages = std::move(r.messages);
      out.more = !out.messages.empty() && out.messages.front().offset > std::max(r.oldest, op->floor);
    }
  }
  dismiss(*op);
  op->finish(std::move(out));
}

// ---- session ---------------------------------------------------------------------------------------------------------

inline std::string session::id() const { return at().printed(key()); }

inline std::vector<std::string> session::channels() const {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < follow_count(); ++i) out.emplace_back(followed(i).in().log().name());
  return out;
}

/// Appends a channel's entry as `open`, `followed` and the answer to `subscribe` carry it.
inline void append_entry(std::string& out, const follow_start& f) {
  out += "{\"epoch\":\"";
  out += f.at.epoch;
  out += "\",\"offset\":";
  proto::append_decimal(out, f.at.offset);
  out += f.recovered ? ",\"recovered\":true}" : ",\"recovered\":false}";
}

inline std::error_code session::follow(std::string_view channel, start from) {
  hub& h = at();
  if (!adjustable() || !valid_channel(channel) || h.find(*this, channel)) return errc::bad_request;
  if (follow_count() >= h.settings().max_channels) return errc::bad_request;
  h.follow(*this, channel, from, false, [&h, key = key(), name = std::string(channel)](result<follow_start> r) {
    session* self = h.find(key);
    if (!self) return;
    std::string json = "{";
    proto::json::append_quoted(json, name);
    json += ':';
    if (r) {
      append_entry(json, *r);
      json += '}';
      if (!self->notice("followed", json)) return self->cannot_tell();
      if (auto* sub = r->recovered ? nullptr : h.find(*self, name)) sub->tell_lost(r->lost);
      h.request_wake(*self);
    } else if (r.error().code != errc::forbidden) {  // else the host has changed its mind
      self->close(close_code(r.error().code), "a channel could not be followed");
    }
  });
  return {};
}

inline std::error_code session::unfollow(std::string_view channel) {
  std::string json = "{\"channel\":";
  proto::json::append_quoted(json, channel);
  json += ",\"code\":\"forbidden\"}";
  std::size_t place = 0;
  for (std::size_t i = 0; i < follow_count(); ++i) {
    while (rare() && std::any_of(rare()->gone_channels.begin(), rare()->gone_channels.end(), [&](const gone& g) { return g.place == place; })) ++place;
    const auto& sub = followed(i);
    if (transport() != "websocket" && sub.in().log().name() == channel && followed(i).named() && sub.started()) {
      auto& all = rarely().gone_channels;
      std::string element;
      append_position(element, sub.in().log().epoch(), sub.offset_when_whole());
      all.insert(std::find_if(all.begin(), all.end(), [&](const gone& g) { return g.place > place; }), {place, std::move(element)});
      break;
    }
    place += followed(i).named();
  }
  if (!at().unfollow(*this, channel)) return errc::not_found;
  if (!notice("closed", json)) cannot_tell();
  return {};
}

inline void session::cannot_tell() {
  if (adjustable()) return end(errc::overloaded, close_code(errc::overloaded), "too much is unsent");
  end(errc::forbidden, close_code(errc::forbidden), "the channel may not be followed any more");
}

inline std::error_code session::send(std::string_view name, std::string_view json) {
  static constexpr std::string_view reserved[] = {"open",  "gap",     "missed", "join",     "leave", "receipt", "followed",
                                                  "closed", "expiring", "bye",    "ping",     "reply", "message", "error",
                                                  "channel", "messages", "notices", "cursor", "more"};
  if (name.empty() || name.size() > 64) return errc::bad_request;
  for (char c : name)
    if (!proto::is_token_letter(c)) return errc::bad_request;
  if (std::find(std::begin(reserved), std::end(reserved), name) != std::end(reserved)) return errc::bad_request;
  if (json.size() > at().settings().max_unsent) return errc::too_large;
  if (proto::json::validate(json)) return errc::bad_request;
  return notice(name, json) ? std::error_code() : make_error_code(errc::overloaded);
}

inline void session::close(std::uint16_t code, std::string_view reason) { end(errc::forbidden, code, reason); }

}  // namespace hailwire
