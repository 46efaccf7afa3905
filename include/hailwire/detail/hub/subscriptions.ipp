// SPDX-License-Identifier: BSL-1.0
#pragma once

// How a session begins to follow a channel, from where it asked to, and ceases to.

#include <algorithm>

#include "hailwire/detail/hub/presence.hpp"
#include "hailwire/hub.hpp"

namespace hailwire {

HAILWIRE_INLINE void append_entry(std::string& out, const follow_start& f) {
  out += "{\"epoch\":\"";
  out += f.at.epoch;
  out += "\",\"offset\":";
  proto::append_decimal(out, f.at.offset);
  out += f.recovered ? ",\"recovered\":true" : ",\"recovered\":false";
  out += f.conflated ? ",\"conflated\":true}" : "}";
}

namespace detail {

HAILWIRE_INLINE void subscriptions::begin(session& s, channel_log& log) {
  if (log.watched) hub_->guarded([&] { hub_->presence_->began(s, log); });
}

HAILWIRE_INLINE void subscriptions::end(session& s, std::size_t i, bool at_once) {
  auto& log = s.followed(i).in().log();
  const bool began = s.followed(i).started();
  s.drop_follow(i);
  --size_;
  if (began && log.watched) hub_->guarded([&] { hub_->presence_->ended(s, log, at_once); });
  hub_->channels.release(log);
}

HAILWIRE_INLINE subscription* subscriptions::find(session& s, std::string_view channel) const noexcept {
  for (std::size_t i = 0; i < s.follow_count(); ++i)
    if (s.followed(i).in().log().name() == channel) return &s.followed(i);
  return nullptr;
}

HAILWIRE_INLINE void subscriptions::add(session& s, std::string_view channel, const hailwire::start& from, bool named,
                                        bool held, follow_handler done) {
  if (!valid_channel(channel)) return done(not_a_channel());
  if (find(s, channel)) return done({errc::bad_request, "the channel is followed already"});
  if (!may_follow_count(s.follow_count() + 1, hub_->options_)) return done(too_many_channels(hub_->options_));

  if (from.from == hailwire::start::word::received)
    return hub_->receipts_.find(s, channel,
                                [this, key = s.key(), name = std::string(channel), named, held,
                                 done = std::move(done)](result<position> at) mutable {
                                  session* asked = hub_->find(key);
                                  if (!asked) return;
                                  if (!at) return done(at.error());
                                  try {
                                    // A device without a watermark stands before the first message, whatever the log's
                                    // epoch is.
                                    add(*asked, name, hailwire::start::after(std::move(*at)), named, held,
                                        std::move(done));
                                  } catch (...) {
                                    asked->broken();
                                  }
                                });

  // Until it follows, whatever throws leaves all as it was.
  auto& log = hub_->channels.obtain(channel);
  struct unless_used {
    ~unless_used() {
      if (log) in.release(*log);
    }
    channel_table& in;
    channel_log* log;
  } fresh{hub_->channels, &log};
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
  auto& sub = s.add_follow(encoded, serial_ = (serial_ + 1) % subscription::serials, named);
  ++size_;
  fresh.log = nullptr;
  if (begins) {
    if (held) {
      encoded.add(sub);
    } else {
      encoded.add(sub, offset);
      begin(s, log);
    }
    try {
      return done(follow_start{{std::string(log.epoch()), offset}, true, {}, log.conflated()});
    } catch (...) {
      remove(s, channel);
      throw;
    }
  }
  encoded.add(sub);
  std::uint64_t since = from.from == word::latest ? max_offset
                        : from.from == word::at   ? std::max(from.at.offset, floor - 1)
                                                  : floor - 1;
  read_limit limit = from.from == word::latest ? read_limit{0, 0} : read_limit{};
  ++log.pins;
  if (hub_->storage_->at_once() && !hub_->stopped_ && !hub_->behind_) {
    const std::int64_t asked_at = hub_->begin_watch(hub_->reads_);
    read_result r = hub_->storage_->read_now(channel, since, limit);
    hub_->end_watch(asked_at, hub_->counted.reading);
    return start_read(log, s.key(), serial_, from, floor, held, std::move(r), done);
  }
  try {
    hub_->read_storage(channel, since, limit,
                       [key = s.key(), serial = serial_, name = std::string(channel), from, floor, held,
                        done = std::move(done)](hub& h, read_result r) mutable {
                         h.subscriptions.start_read(*h.channels.find(name), key, serial, from, floor, held,
                                                    std::move(r), done);
                       });
  } catch (...) {
    log.unpin();
    remove(s, channel);
    throw;
  }
}

HAILWIRE_INLINE void subscriptions::start_read(channel_log& read, session_key asked, std::uint32_t serial,
                                               const hailwire::start& from, std::uint64_t floor, bool held,
                                               read_result&& r, follow_handler& done) {
  hub_->take_read(read.name(), r);
  try {
    if (session* s = hub_->find(asked)) {
      std::size_t still = 0;
      while (still < s->follow_count() && s->followed(still).serial() != serial) ++still;
      if (still == s->follow_count()) {
        done({errc::forbidden, "the host took the channel away"});
      } else {
        began(*s, s->followed(still), from, floor, held, std::move(r), done);
      }
    }
  } catch (...) {
    if (session* s = hub_->find(asked)) s->broken();
  }
  read.unpin();
  hub_->channels.release(read);
}

HAILWIRE_INLINE void subscriptions::began(session& s, subscription& sub, const hailwire::start& from,
                                          std::uint64_t floor, bool held, read_result&& r, follow_handler& done) {
  auto& log = sub.in().log();
  floor = std::max(floor, s.permissions().floor_of(log.name()));  // it may have risen while the storage was asked
  if (r.error) {
    remove(s, log.name());
    return done(storage_failure(r.error));
  }
  hub_->channels.open(log, r);
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
           !(from.at.offset == 0 && (from.at.epoch.empty() || from.at.epoch == hub_->own_epoch(log.name())))) ||
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
  begin(s, log);
  done(std::move(out));
}

HAILWIRE_INLINE void subscriptions::serve(session& s, std::string_view channel, const follow_start& began) {
  if (auto* sub = began.recovered ? nullptr : find(s, channel)) sub->tell_lost(began.lost);
  hub_->turn.request_wake(s);
}

HAILWIRE_INLINE bool subscriptions::remove(session& s, std::string_view channel) {
  for (std::size_t i = 0; i < s.follow_count(); ++i) {
    auto& log = s.followed(i).in().log();
    if (log.name() != channel) continue;
    end(s, i, true);
    return true;
  }
  return false;
}

}  // namespace detail
}  // namespace hailwire
