// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because following, publishing and reading share the state that they hand to one another.
//
// The hub's longer functions; hub.hpp says what they are for.

#include <algorithm>
#include <memory>

#include "hailwire/hub.hpp"

namespace hailwire {

// ---- turns

HAILWIRE_INLINE void hub::stop() {
  if (stopped_) return;
  stopped_ = true;
  presence_.stop();
  receipts_.stop();
  mailbox_->close();
  pending_.abort_all();
  keys_.clear();
  if (waking_) waking_->stop();
  turn_.stop();
  rest();
}

namespace detail {

HAILWIRE_INLINE void loop_turn::schedule() {
  if (scheduled_) return;
  hub_->loop().post([box = hub_->post_box()] {
    if (box->owner) box->owner->turn_.run();
  });
  scheduled_ = true;
}

HAILWIRE_INLINE void loop_turn::mark_dirty(channel_log& log) {
  if (log.dirty) return;
  if (log.paced() && wait(log)) return;
  schedule();
  dirty_.push_back(&log);
  log.dirty = true;
}

// A channel that is given at intervals waits for its time; false when that has come.
HAILWIRE_INLINE bool loop_turn::wait(channel_log& log) {
  const std::int64_t until = log.flush_at();
  if (until <= hub_->loop().now() || stopped_) return false;
  paced_.push_back(&log);
  if (!pacing_.armed() || until < pacing_due_) hub_->arm(pacing_, pacing_due_ = until);
  return log.dirty = true;
}

// Channels whose time has come are flushed at the end of this turn; the others wait on.
HAILWIRE_INLINE void loop_turn::flush_paced(std::int64_t now) {
  dirty_.reserve(dirty_.size() + paced_.size());
  std::size_t rest = 0;
  std::int64_t next = INT64_MAX;
  for (channel_log* log : paced_) {
    if (const std::int64_t at = log->flush_at(); at > now) {
      next = std::min(next, at);
      paced_[rest++] = log;
    } else {
      dirty_.push_back(log);
    }
  }
  while (paced_.size() > rest) paced_.pop_back();
  if (rest) hub_->arm(pacing_, pacing_due_ = next);
  schedule();
}

HAILWIRE_INLINE void loop_turn::pace_again() noexcept {
  hub_->guarded([this] { hub_->arm(pacing_, pacing_due_ = hub_->loop().now()); });
}

HAILWIRE_INLINE void loop_turn::ask(vector<session*>& list, session& s) noexcept {
  try {
    list.push_back(&s);
    schedule();
  } catch (...) {  // no memory for one more: the next turn looks at everybody
    look_at_all_ = true;
    try_again();
  }
}

HAILWIRE_INLINE void loop_turn::try_again() noexcept {
  hub_->guarded([this] { hub_->arm(retry_, hub_->loop().now()); });
}

HAILWIRE_INLINE void loop_turn::forget(session& s) noexcept {
  for (auto* list : {&wakes_, &settles_, &waking_, &settling_})
    std::replace(list->begin(), list->end(), &s, static_cast<session*>(nullptr));
}

HAILWIRE_INLINE void loop_turn::stop() noexcept {
  stopped_ = true;
  hub_->wheel().disarm(cooling_);
  hub_->wheel().disarm(pacing_);
  hub_->wheel().disarm(retry_);
}

HAILWIRE_INLINE void loop_turn::run() {
  scheduled_ = false;
  const std::int64_t since = hub_->begin_watch(hub_->turns_);
  run_all();
  hub_->end_watch(since, hub_->counted.turn);
}

HAILWIRE_INLINE void loop_turn::run_all() {
  hub_->post_box()->read_untold();
  auto logs = std::exchange(dirty_, {});
  for (std::size_t i = 0; i < logs.size(); ++i) {
    if (i + 4 < logs.size()) fetch(logs[i + 4], 2);
    for (int step = 3; step; --step)
      if (i + static_cast<std::size_t>(step) < logs.size()) logs[i + static_cast<std::size_t>(step)]->prefetch(step);
    auto* log = logs[i];
    log->dirty = false;
    log->flush();
    if (log->paced()) log->flushed_at(hub_->loop().now());
  }
  if (!logs.empty()) {
    hub_->guarded([&] { keep_warm(logs); });
    logs.clear();
    if (dirty_.empty()) dirty_ = std::move(logs);  // keeps its memory
  }
  waking_.swap(wakes_);  // two lists that change places keep their memory
  for (std::size_t i = 0; i < waking_.size(); ++i)
    if (waking_[i]) wake(*waking_[i]);
  waking_.clear();
  settling_.swap(settles_);
  for (std::size_t i = 0; i < settling_.size(); ++i)
    if (auto* s = std::exchange(settling_[i], nullptr)) settle(*s);
  settling_.clear();
  if (!std::exchange(look_at_all_, false)) return;
  hub_->registry_.each([](session& s) { wake(s); });
  hub_->registry_.each([](session& s) { settle(s); });
}

// A channel for which there is no room among the warm ones is looked at again when something goes through it.
HAILWIRE_INLINE void loop_turn::keep_warm(vector<channel_log*>& logs) {
  if (!cooling_.armed() && !stopped_) hub_->arm(cooling_, hub_->loop().now() + 1000);
  for (auto* log : logs) {
    if (log->warm) continue;
    warm_.push_back(log);
    log->warm = true;
  }
}

HAILWIRE_INLINE void loop_turn::cool() {
  for (auto* log : std::exchange(warm_, {})) {
    log->warm = false;
    log->shrink();
    hub_->release_log(*log);
  }
  hub_->spares.clear();
}

HAILWIRE_INLINE void loop_turn::wake(session& s) noexcept {
  try {
    s.wake(nullptr);
  } catch (...) {
    s.broken();
  }
}

HAILWIRE_INLINE void loop_turn::settle(session& s) noexcept {
  try {
    s.settle();
  } catch (...) {
    s.broken();
  }
}

}  // namespace detail

HAILWIRE_INLINE void hub::join(std::unique_ptr<detail::any_broker> b) {
  if (broker_) broker_->detach(broker_id_);
  broker_ = std::move(b);
  broker_id_ = broker_->attach([box = mailbox_](const broker_event& e) {
    if (e.stored) {
      box->put(
          [box, channel = std::string(e.channel), epoch = std::string(e.epoch), m = *e.stored] {
            hub& h = *box->owner;
            auto* log = h.find_log(channel);
            if (!log) return;
            if (log->apply(epoch, m)) log->flush();
          },
          [] {});
    } else if (e.live) {
      box->put(
          [box, channel = std::string(e.channel), epoch = std::string(e.live->epoch), after = e.live->after,
           bytes = std::string(e.live->bytes)] {
            if (detail::presence::is_own(channel)) return box->owner->presence_.heard(channel, bytes);
            auto* log = box->owner->find_log(channel);
            if (!log) return;
            log->apply(live_event{epoch, after, bytes});
            if (log->flush_early()) log->flush();
          },
          [] {});
    } else {
      box->put(
          [box, channel = std::string(e.channel)] {
            if (auto* log = box->owner->find_log(channel)) log->look_again();
            box->owner->presence_.look_again(channel);
          },
          [] {});
    }
  });
  presence_.joined();
}

// ---- live-only

HAILWIRE_INLINE void hub::told(detail::channel_log& log, std::string_view bytes) {
  detail::live_reader in(bytes);
  switch (in.kind()) {
    case detail::live_kind::notice: {
      auto name = in.text(), json = in.text();
      if (in.ok()) log.notice(name, json);
      return;
    }
    case detail::live_kind::ephemeral:
      if (message m = in.content(); in.ok()) {
        const auto by = in.text();  // empty from hubs that do not say it
        const session* s = by.empty() ? nullptr : find_id(by);
        log.ephemeral(m, s && s->user() == m.from ? s->slot() : detail::channel_log::nobody);
      }
      return;
    case detail::live_kind::presence:
      return presence_.heard(log.name(), bytes);
    case detail::live_kind::receipt:
      return receipts_.heard(log.name(), in);
  }
}

HAILWIRE_INLINE void hub::tell_others(std::string_view channel, std::string_view bytes) noexcept {
  if (!broker_) return;
  guarded([&] {
    auto* log = find_log(channel);
    const bool open = log && log->open();
    broker_->tell(broker_id_, channel,
                  {open ? log->epoch() : std::string_view(), open ? log->head() : std::uint64_t{0}, bytes});
  });
}

HAILWIRE_INLINE void hub::tell(std::string_view channel, std::string_view name, std::string_view json) {
  std::string object = "{\"";
  object.append(name).append("\":").append(json).append("}");
  proto::json::spaces_for_line_breaks(object);
  tell_others(channel, detail::live_writer(detail::live_kind::notice).text(name).text(object).bytes());
  if (auto* log = find_log(channel); log && log->notice(name, object)) log->flush();
}

// ---- what goes wrong

[[gnu::cold]] HAILWIRE_INLINE void hub::storage_failed(std::string_view what, detail::log_rate& rate,
                                                       std::string_view channel, const std::error_code& ec,
                                                       const std::exception_ptr& cause) const noexcept {
  if (stopped_ || ec == errc::conflict || ec == errc::too_large || !log_.hears(log_level::error)) return;
  try {
    std::string text(what);
    text.append(" \"").append(channel).append("\" failed: ").append(cause ? detail::text_of(cause) : ec.message());
    log_(rate, loop_->now(), {log_level::error, "storage_failed", {}, {}, {}, ec}, std::move(text));
  } catch (...) {  // no memory to tell of it
  }
}

[[gnu::cold]] HAILWIRE_INLINE void hub::disorder(std::string_view channel, std::uint64_t head,
                                                 std::uint64_t next) noexcept {
  if (!log_.hears(log_level::error)) return;
  try {
    std::string text("the storage counts \"");
    text.append(channel).append("\" by other steps than one: ").append(std::to_string(next));
    text.append(" comes after ").append(std::to_string(head));
    log_(disorders_, loop_->now(), {log_level::error, "storage_disorder"}, std::move(text));
  } catch (...) {  // no memory to tell of it
  }
}

[[gnu::cold]] HAILWIRE_INLINE void hub::publish_failed(std::string_view channel, const std::error_code& ec) noexcept {
  if (ec == operation_aborted() || !log_.hears(log_level::warning)) return;
  try {
    std::string text("a publish to \"");
    text.append(channel.substr(0, 255)).append("\" was refused: ").append(ec.message());
    log_(publish_failures_, loop_->now(), {log_level::warning, "publish_failed", {}, {}, {}, ec}, std::move(text));
  } catch (...) {  // no memory to tell of it
  }
}

// ---- sessions

HAILWIRE_INLINE bool hub::open(session& s, shared_grant g, std::string device, bool listed) {
  if (stopped_) return false;
  if (listed &&
      (registry_.listed() >= options_.max_sessions || memory_held() >= options_.max_memory.value_or(SIZE_MAX)))
    return false;
  registry_.open(s, std::move(g), std::move(device), listed);
  if (waking_ && listed && !s.user().empty()) guarded([&] { waking_->opened(s); });
  return true;
}

HAILWIRE_INLINE void hub::close(session& s) {
  const bool at_once = s.follow_count() && ended(s.permissions());
  while (s.follow_count()) end_follow(s, s.follow_count() - 1, at_once);
  expiries_.forget(s.key());
  if (waking_ && s.listed_ && !s.user().empty()) waking_->closed(s);
  registry_.close(s);
}

// A session that begins to follow comes by here, whether it begins at once or the storage had to be asked.
HAILWIRE_INLINE void hub::begin_follow(session& s, detail::channel_log& log) {
  if (log.watched) guarded([&] { presence_.began(s, log); });
}

// However a session ceases to follow, it comes by here. `at_once`: nobody waits for its return.
HAILWIRE_INLINE void hub::end_follow(session& s, std::size_t i, bool at_once) {
  auto& log = s.followed(i).in().log();
  const bool began = s.followed(i).started();
  s.drop_follow(i);
  --follows_;
  if (began && log.watched) guarded([&] { presence_.ended(s, log, at_once); });
  release_log(log);
}

HAILWIRE_INLINE detail::subscription* hub::find(session& s, std::string_view channel) const noexcept {
  for (std::size_t i = 0; i < s.follow_count(); ++i)
    if (s.followed(i).in().log().name() == channel) return &s.followed(i);
  return nullptr;
}

HAILWIRE_INLINE detail::channel_log& hub::obtain_log(std::string_view channel) {
  std::uint64_t hash = hash_of(channel);
  if (auto* there = find_log(channel, hash)) return *there;
  auto log = detail::channel_log::make(*this, channel);
  const detail::channel_settings& rule = rules_.of(channel);
  if (rule.last_value || rule.at_most_every) log->set_rule(rule.last_value, rule.at_most_every);
  log->watched = presence_.enabled() && rule.presence;
  if (broker_) broker_->subscribe(broker_id_, channel);  // may throw; nothing is entered then
  logs_.insert(*log, hash);
  return *log.release();
}

HAILWIRE_INLINE void hub::release_log(detail::channel_log& log) noexcept {
  log.sweep();
  if (!log.unused()) return;  // one that was busy a moment ago stays until it has cooled
  if (broker_)
    guarded([&] { broker_->unsubscribe(broker_id_, log.name()); });  // what it brings all the same is dropped
  if (log.watched) presence_.unfollowed(log.name());
  logs_.remove(log);
  delete &log;
}

HAILWIRE_INLINE void hub::open_log(detail::channel_log& log, read_result& r) {
  const bool made_up = r.epoch.empty();
  if (made_up) r.epoch = own_epoch(log.name());
  log.opened(r.epoch, r.oldest, r.head, made_up);
}

HAILWIRE_INLINE void hub::reopen(detail::channel_log& log) {
  ask_for(log, max_offset, {0, 0}, [](hub& h, detail::channel_log& again, read_result r) {
    if (r.error) {
      again.failed(r.error);
    } else {
      h.open_log(again, r);
    }
    return true;
  });
}

// Reads of a channel, whose log stays until `f` has run. `f` is told that there is no memory where there is none, and
// whether the log may go: one that is asked about from within a pull does not where it is in use.
template <class F>
void hub::ask_for(detail::channel_log& log, std::uint64_t since, read_limit limit, F f) {
  ++log.pins;
  auto take = [f](hub& h, detail::channel_log& of, read_result r) {
    bool let_go = true;
    h.take_read(of.name(), r);
    try {
      let_go = f(h, of, std::move(r));
    } catch (...) {
      h.guarded([] { throw; });
      h.guarded([&] { of.failed(make_error_code(errc::internal)); });
    }
    of.unpin();
    if (let_go || of.unused()) h.release_log(of);
  };
  try {
    read_storage(log.name(), since, limit, [take, name = std::string(log.name())](hub& h, read_result r) {
      take(h, *h.find_log(name), std::move(r));
    });
  } catch (...) {
    take(*this, log, detail::failed<read_result>());
  }
}

HAILWIRE_INLINE void hub::follow(session& s, std::string_view channel, const hailwire::start& from, bool named,
                                 bool held, follow_handler done) {
  if (!valid_channel(channel)) return done(detail::not_a_channel());
  if (find(s, channel)) return done({errc::bad_request, "the channel is followed already"});
  if (!detail::may_follow_count(s.follow_count() + 1, options_)) return done(detail::too_many_channels(options_));

  if (from.from == hailwire::start::word::received)
    return receipts_.find(s, channel,
                          [this, key = s.key(), name = std::string(channel), named, held,
                           done = std::move(done)](result<position> at) mutable {
                            session* asked = find(key);
                            if (!asked) return;
                            if (!at) return done(at.error());
                            try {
                              // A device without a watermark stands before the first message, whatever the log's epoch
                              // is.
                              follow(*asked, name, hailwire::start::after(std::move(*at)), named, held,
                                     std::move(done));
                            } catch (...) {
                              asked->broken();
                            }
                          });

  // Until it follows, whatever throws leaves all as it was.
  auto& log = obtain_log(channel);
  struct unless_used {
    ~unless_used() {
      if (log) h.release_log(*log);
    }
    hub& h;
    detail::channel_log* log;
  } fresh{*this, &log};
  auto& encoded = log.encoded_as(s.encoding());
  using word = hailwire::start::word;
  std::uint64_t floor = s.permissions().floor_of(channel);
  // Who begins at the head has nothing to read, and polls nearly always do.
  bool at_head =
      from.from == word::at && from.at.offset == log.head() && from.at.epoch == log.epoch() && floor <= log.head() + 1;
  const bool begins = log.open() && (at_head || from.from == word::latest);
  // Who follows a channel of which the newest message matters begins with that.
  const bool newest = log.conflated() && !at_head && log.head() > 0;
  const std::uint64_t offset = std::max(log.head() - newest, floor - 1);
  encoded.reserve_one(begins && !held && offset == encoded.flushed());
  auto& sub = s.add_follow(encoded, follow_serial_ = (follow_serial_ + 1) % detail::subscription::serials, named);
  ++follows_;
  fresh.log = nullptr;
  if (begins) {
    if (held) {
      encoded.add(sub);
    } else {
      encoded.add(sub, offset);
      begin_follow(s, log);
    }
    try {
      return done(follow_start{{std::string(log.epoch()), offset}, true, {}, log.conflated()});
    } catch (...) {
      unfollow(s, channel);
      throw;
    }
  }
  encoded.add(sub);
  std::uint64_t since = from.from == word::latest ? max_offset
                        : from.from == word::at   ? std::max(from.at.offset, floor - 1)
                                                  : floor - 1;
  read_limit limit = from.from == word::latest ? read_limit{0, 0} : read_limit{};
  ++log.pins;
  if (storage_->at_once() && !stopped_) {
    const std::int64_t asked_at = begin_watch(reads_);
    read_result r = storage_->read_now(channel, since, limit);
    end_watch(asked_at, counted.reading);
    return start_read(log, s.key(), follow_serial_, from, floor, held, std::move(r), done);
  }
  try {
    read_storage(channel, since, limit,
                 [key = s.key(), serial = follow_serial_, name = std::string(channel), from, floor, held,
                  done = std::move(done)](hub& h, read_result r) mutable {
                   h.start_read(*h.find_log(name), key, serial, from, floor, held, std::move(r), done);
                 });
  } catch (...) {
    log.unpin();
    unfollow(s, channel);
    throw;
  }
}

HAILWIRE_INLINE void hub::start_read(detail::channel_log& read, session_key asked, std::uint32_t serial,
                                     const hailwire::start& from, std::uint64_t floor, bool held, read_result&& r,
                                     follow_handler& done) {
  take_read(read.name(), r);
  try {
    if (session* s = find(asked)) {
      std::size_t still = 0;
      while (still < s->follow_count() && s->followed(still).serial() != serial) ++still;
      if (still == s->follow_count()) {
        done({errc::forbidden, "the host took the channel away"});
      } else {
        began(*s, s->followed(still), from, floor, held, std::move(r), done);
      }
    }
  } catch (...) {
    if (session* s = find(asked)) s->broken();
  }
  read.unpin();
  release_log(read);
}

HAILWIRE_INLINE void hub::began(session& s, detail::subscription& sub, const hailwire::start& from, std::uint64_t floor,
                                bool held, read_result&& r, follow_handler& done) {
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
    case word::latest:
      out.at.offset = head;
      break;
    case word::received:  // was made a position
    case word::earliest:
      out.at.offset = oldest - 1;
      break;
    case word::at:
      out.at.offset = from.at.offset;
      // The hub's own epoch at 0 is where a channel stood before its storage had named one: nothing was before it.
      if ((from.at.epoch != log.epoch() &&
           !(from.at.offset == 0 && (from.at.epoch.empty() || from.at.epoch == own_epoch(log.name())))) ||
          from.at.offset > head) {
        out.lost = {true, oldest};
      } else if (from.at.offset + 1 < oldest) {
        out.lost = {false, oldest};
      } else {
        break;
      }
      out.recovered = false;
      out.at.offset = oldest - 1;
  }
  if (log.conflated()) {
    // The newest, if it is still there, and nothing else; what lay before it is not missed, but in a new epoch.
    const std::uint64_t newest = std::max(oldest, head) - 1;
    if (out.recovered || !out.lost.epoch_changed) out.recovered = true, out.lost = {};
    if (!out.recovered) out.lost.next = newest + 1;
    const bool has_all = from.from == word::at && out.recovered && from.at.offset == head;
    out.at.offset = has_all ? head : newest;
    out.conflated = true;
    r.messages.clear();
  }
  if (held) return done(std::move(out));
  sub.begin(out.at.offset);
  sub.in().prime(sub, r.messages);
  sub.join_if_current();
  begin_follow(s, log);
  done(std::move(out));
}

HAILWIRE_INLINE bool hub::unfollow(session& s, std::string_view channel) {
  for (std::size_t i = 0; i < s.follow_count(); ++i) {
    auto& log = s.followed(i).in().log();
    if (log.name() != channel) continue;
    end_follow(s, i, true);
    return true;
  }
  return false;
}

HAILWIRE_INLINE void hub::load(detail::channel_log& log, detail::encoded_channel& l, std::uint64_t since) {
  ask_for(log, since, {}, [how = &l.how(), since](hub& h, detail::channel_log& read, read_result r) {
    if (!r.error && r.epoch.empty()) r.epoch = h.own_epoch(read.name());
    if (!r.error && r.epoch != read.epoch()) {
      // Everybody has to start over, which cannot be done from within a pull; those who wait go on waiting until then.
      try {
        h.loop_->post([box = h.mailbox_, name = std::string(read.name())] {
          if (!box->owner || box->closed()) return;
          if (auto* stale = box->owner->find_log(name)) box->owner->reopen(*stale);
        });
        return false;
      } catch (const std::bad_alloc&) {
        r.error = errc::internal;
      }
    }
    if (auto* encoded = read.find_encoded(how)) encoded->loaded(since, r);
    return false;
  });
}

// Behind the turn that hands out what was read last: however large the hole is and whoever answers at once, one read is
// in memory at a time, and none is within another one.
HAILWIRE_INLINE void hub::fill(detail::channel_log& log) {
  try {
    loop_->post([box = mailbox_, &log] {
      if (!box->owner || box->closed()) return;
      log.unpin();
      box->owner->ask_for(log, log.head(), {}, [](hub& h, detail::channel_log& read, read_result r) {
        if (r.error) {
          read.failed(r.error);
        } else {
          h.open_log(read, r);
          read.filled(r);
        }
        return false;
      });
    });
    ++log.pins;
  } catch (const std::bad_alloc&) {
    guarded([&] { log.failed(make_error_code(errc::internal)); });
  }
}

// ---- publishing

HAILWIRE_INLINE std::error_code hub::check(const publishing& what, payload& p, const publish_options& o, bool checked) {
  if (!valid_channel(what.channel)) return errc::bad_request;
  if (o.type.size() > 64 || !proto::printable_utf8(o.type)) return errc::bad_request;
  if (o.key.size() > 64 || std::any_of(o.key.begin(), o.key.end(), [](char c) { return c < 0x21 || c > 0x7E; }))
    return errc::bad_request;
  if (!detail::payload_fits(p, settings_of(what.channel, what.at))) return errc::too_large;
  if (p.type() == payload::kind::json) {
    if (!checked && proto::json::validate(p.bytes())) return errc::bad_request;
    const char* end = p.bytes().data() + p.bytes().size();
    auto line_breaks = [](auto block) { return block.is('\n') | block.is('\r'); };
    if (detail::find_first(p.bytes().data(), end, line_breaks) != end) {
      std::string one_line(p.bytes());
      proto::json::spaces_for_line_breaks(one_line);
      p = payload::json(one_line);
    }
  } else if (p.type() == payload::kind::text && !checked && !proto::valid_utf8(p.bytes())) {
    return errc::unsupported_media;
  }
  return {};
}

HAILWIRE_INLINE void hub::publish_for(session& s, std::string&& channel, const prefetch_hint& at, payload&& p,
                                      publish_options&& o, bool checked, client_publish_handler&& done) {
  if (pending_.full()) return done(storage_failure(errc::overloaded));
  if (const std::int64_t wait_ms = rules_.count_publish(channel, at.hash, loop_->now()))
    return done(detail::too_often("too many publishes to this channel", wait_ms));
  const shared_grant& g = s.permissions();
  std::string scope;
  if (!o.key.empty()) {
    scope = detail::principal(g).text();
    if (scope.empty()) o.key.clear();  // an anonymous client's keys mean nothing unless the host tells clients apart
  }
  publishing what{std::move(channel), {}, std::move(done), at};
  if (o.ephemeral) what.by = &s;  // which is sent before this returns
  start(std::move(what), std::move(p), std::move(o), std::string(g.user()), std::move(scope), checked);
}

HAILWIRE_INLINE void hub::start(publishing&& what, payload&& p, publish_options&& o, std::string&& from,
                                std::string&& scope, bool checked) {
  if (stopped_) return finish(what, operation_aborted(), {});
  const bool hears = what.done || what.told;
  try {
    begin(what, std::move(p), std::move(o), std::move(from), std::move(scope), checked);
  } catch (...) {  // no memory: nothing was stored
    uncharge(what);
    if (what.key) settle_key(*std::exchange(what.key, nullptr), errc::internal, {});
    uncount(what);
    if (!hears) throw;
    guarded([] { throw; });
    finish(what, errc::internal, {});
  }
}

HAILWIRE_INLINE void hub::begin(publishing& what, payload&& p, publish_options&& o, std::string&& from,
                                std::string&& scope, bool checked) {
  if (auto ec = check(what, p, o, checked)) return finish(what, ec, {});
  if (o.ephemeral) return send_ephemeral(what, std::move(p), std::move(o), std::move(from));

  draft d{loop_->unix_time(), std::move(from), std::move(o.type), std::move(p), {}};
  if (rules_.any_keep()) d.keep = settings_of(what.channel, what.at).keep;
  if (!o.key.empty()) {
    d.key = scope + '\n' + o.key;
    const std::size_t most = scope.empty() ? 0 : options_.max_keys_per_user;  // the host counts for itself
    // Where the storage keeps keys, only it knows whether this one is new; what was not stored is given back.
    auto over = [&] {
      if (!most) return false;
      const auto who = detail::keyed_hash(secret_).add(scope).finish();
      const auto key = detail::keyed_hash(secret_).add(what.channel.size()).add(what.channel).add(o.key).finish().low;
      const std::int64_t wait_ms = budget_.take(who, key, loop_->now(), most, what.charge);
      if (!wait_ms) return false;
      uncount(what);
      if (auto f = std::exchange(what.told, nullptr)) {
        f(detail::too_often("too many publishes with a key", wait_ms));
      }
      return true;
    };
    if (storage_->keeps_keys()) {
      if (over()) return;
    } else {
      auto name =
          detail::keyed_hash(secret_).add(what.channel.size()).add(what.channel).add(std::exchange(d.key, {})).finish();
      auto print = detail::fingerprint(secret_, d);
      if (auto* known = keys_.find(name)) {
        if (known->print != print) return finish(what, errc::conflict, {});
        if (known->at.offset) return finish(what, {}, position(known->at));
        known->waiting.reserve(known->waiting.size() + 1);
        known->waiting.push_back(wait(std::move(what)));
        return;
      }
      if (keys_.full()) return finish(what, errc::overloaded, {});
      if (over()) return;
      what.key = &keys_.begin(name, print);
    }
  }
  message& m = what.content;
  m.at = d.at;
  m.data = d.data;
  if (storage_->at_once()) {
    if (auto* near = logs_.candidate(what.at.hash, true)) detail::fetch(near, 2);  // while the storage is at work
    const std::int64_t since = begin_watch(appends_);
    append_result r = storage_->append_now(what.at.stored, what.channel, d);
    end_watch(since, counted.append);
    if (!d.from.empty()) m.from.swap(d.from);
    if (!d.type.empty()) m.type.swap(d.type);
    return stopped_ ? finish(what, operation_aborted(), {}) : stored(what, std::move(r));
  }
  m.from = d.from;
  m.type = d.type;
  auto op = wait(std::move(what));
  std::string_view channel = op->what.channel;
  try {
    storage_->append(channel, std::move(d), on_loop([op, since = begin_watch(appends_)](hub& h, append_result&& later) {
                       h.end_watch(since, h.counted.append);
                       h.stored_later(*op, std::move(later));
                     }));
  } catch (...) {  // it was not asked
    stored_later(*op, detail::failed<append_result>());
  }
}

HAILWIRE_INLINE void hub::send_ephemeral(publishing& what, payload&& p, publish_options&& o, std::string&& from) {
  if (!o.key.empty()) return finish(what, errc::bad_request, {});  // what is stored nowhere is found by no key
  message m;
  m.at = loop_->unix_time();
  m.from = std::move(from);
  m.type = std::move(o.type);
  m.data = std::move(p);
  const session::echo own = what.by ? what.by->no_echo_to() : session::echo{detail::channel_log::nobody};
  detail::live_writer w(detail::live_kind::ephemeral);
  if (broker_) tell_others(what.channel, w.content(m).text(own.elsewhere).bytes());
  if (auto* log = find_log(what.channel, what.at.hash); log && log->ephemeral(m, own.slot)) log->flush();
  finish(what, {}, {});
}

HAILWIRE_INLINE void hub::stored_later(publish_op& op, append_result&& r) {
  if (op.over) return;  // aborted by stop()
  pending_.dismiss(op);
  op.over = true;
  pending_.remove();
  stored(op.what, std::move(r));
}

HAILWIRE_INLINE detail::intrusive_ptr<hub::publish_op> hub::wait(publishing&& what) {
  pending_.reserve();
  auto op = detail::intrusive_ptr<publish_op>(new publish_op(*this, std::move(what)));  // from here on nothing throws
  if (!what.counted) pending_.add();
  what.counted = op->what.counted = false;  // the operation's from now on
  pending_.enroll(op);
  return op;
}

HAILWIRE_INLINE void hub::stored(publishing& what, append_result&& r) {
  auto* log = find_log(what.channel, what.at.hash);
  bool much = false;
  position p;
  if (r.error) append_failed(what.channel, r.error, r.cause);
  if (!r.error) {
    p.offset = r.offset;
    p.epoch = !r.epoch.empty()     ? std::move(r.epoch)
              : log && log->open() ? std::string(log->epoch())
                                   : own_epoch(what.channel);
    // What answers at once has its newest message when it returns; what answers later may be behind the broker.
    if (r.offset == 0 || (log && r.offset <= log->head() && !r.duplicate && log->open() && storage_->at_once() &&
                          proto::same_bytes(p.epoch, log->epoch()))) {
      disorder(what.channel, log ? log->head() : 0, r.offset);
      r.error = errc::internal;
      p = {};
    } else if (!r.duplicate) {
      what.content.offset = r.offset;
      ++counted.published;
      // It is stored: what fails from here on is not the publisher's. Others see the hole, and read.
      if (log) guarded([&] { much = log->apply(p.epoch, what.content); });
      if (broker_ && !announces_) guarded([&] { broker_->publish(broker_id_, what.channel, p.epoch, what.content); });
      if (waking_ && !what.content.erases) guarded([&] { waking_->stored(what.channel, p.epoch, what.content); });
    }
  }
  if (r.error || r.duplicate) uncharge(what);
  if (what.key) settle_key(*std::exchange(what.key, nullptr), r.error, p);
  finish(what, r.error, std::move(p));
  // The publisher's own answer stands before its message, so this comes last.
  if (!much) return;
  if (log = find_log(what.channel, what.at.hash); log && log->flush_early()) log->flush();
}

HAILWIRE_INLINE void hub::settle_key(kept_keys::key& k, std::error_code ec, const position& p) {
  auto waiting = keys_.settle(k, ec, p, loop_->now());
  if (!ec) set_alarm();
  for (auto& same : waiting) {
    if (same->over) continue;
    pending_.dismiss(*same);
    guarded([&] { same->finish(ec, p); });
  }
}

}  // namespace hailwire
