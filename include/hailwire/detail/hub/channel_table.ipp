// SPDX-License-Identifier: BSL-1.0
#pragma once

// What the channels of a hub ask of its storage and of its broker; channel_table.hpp says what for.

#include <string>
#include <utility>

#include "hailwire/detail/hub/presence.hpp"
#include "hailwire/hub.hpp"

namespace hailwire::detail {

[[gnu::cold]] HAILWIRE_INLINE void channel_table::log_disorder(std::string_view channel, std::uint64_t head,
                                                               std::uint64_t next) noexcept {
  if (!hub_->log_.hears(log_level::error)) return;
  try {
    std::string text("the storage counts \"");
    text.append(channel).append("\" by other steps than one: ").append(std::to_string(next));
    text.append(" comes after ").append(std::to_string(head));
    hub_->log_(disorders_, hub_->loop().now(), {log_level::error, "storage_disorder"}, std::move(text));
  } catch (...) {  // no memory to tell of it
  }
}

HAILWIRE_INLINE void channel_table::join(std::unique_ptr<any_broker> b) {
  detach();
  broker_ = std::move(b);
  broker_id_ = broker_->attach([box = hub_->mailbox_](const broker_event& e) {
    if (e.stored) {
      box->put(
          [box, channel = std::string(e.channel), epoch = std::string(e.epoch), m = *e.stored] {
            hub& h = *box->owner;
            if (channel == commands_channel) return h.everywhere().heard(epoch, m);
            auto* log = h.channels.find(channel);
            if (!log) return;
            if (h.everywhere().behind()) return h.everywhere().skip(channel, false);
            if (log->apply(epoch, m)) log->flush();
          },
          [] {});
    } else if (e.live) {
      box->put(
          [box, channel = std::string(e.channel), epoch = std::string(e.live->epoch), after = e.live->after,
           bytes = std::string(e.live->bytes)] {
            hub& h = *box->owner;
            if (presence::is_own(channel)) {
              const bool command = live_reader(bytes).kind() == live_kind::command;
              return command ? h.everywhere().heard_live(bytes) : h.presence_->heard(channel, bytes);
            }
            auto* log = h.channels.find(channel);
            if (!log) return;
            if (h.everywhere().behind()) return h.everywhere().skip(channel, true);
            log->apply(live_event{epoch, after, bytes});
            if (log->flush_early()) log->flush();
          },
          [] {});
    } else {
      box->put(
          [box, channel = std::string(e.channel), lost = e.lost] {
            if (channel == commands_channel)
              return lost ? box->owner->everywhere().cut() : box->owner->everywhere().may_have_missed();
            if (lost) return;
            if (auto* log = box->owner->channels.find(channel)) log->look_again();
            box->owner->presence_->look_again(channel);
          },
          [] {});
    }
  });
  hub_->everywhere().joined();
  hub_->presence_->joined();
}

HAILWIRE_INLINE void channel_table::hear(channel_log& log, std::string_view bytes) {
  live_reader in(bytes);
  switch (in.kind()) {
    case live_kind::notice: {
      auto name = in.text(), json = in.text();
      if (in.ok()) log.notice(name, json);
      return;
    }
    case live_kind::ephemeral:
      if (message m = in.content(); in.ok()) {
        const auto by = in.text();  // empty from hubs that do not say it
        const session* s = by.empty() ? nullptr : hub_->registry().find_id(by);
        log.ephemeral(m, s && s->user() == m.from ? s->slot() : channel_log::nobody);
      }
      return;
    case live_kind::presence:
      return hub_->presence_->heard(log.name(), bytes);
    case live_kind::receipt:
      return hub_->receipts_.heard(log.name(), in);
    case live_kind::command:
      return;
  }
}

HAILWIRE_INLINE void channel_table::tell_others(std::string_view channel, std::string_view bytes,
                                                bool in_order) noexcept {
  if (!broker_) return;
  hub_->guarded([&] {
    auto* log = in_order ? find(channel) : nullptr;
    const bool open = log && log->open();
    broker_->tell(broker_id_, channel,
                  {open ? log->epoch() : std::string_view(), open ? log->head() : std::uint64_t{0}, bytes});
  });
}

HAILWIRE_INLINE channel_log* channel_table::find(std::string_view channel) const noexcept {
  return find(channel, hub_->hash_of(channel));
}

HAILWIRE_INLINE void channel_table::measure(server_stats& out) const {
  out.deliveries = deliveries;
  out.channels = size();
  logs_.each([&](channel_log& log) { log.measure(out); });
}

HAILWIRE_INLINE void channel_table::flush_later(channel_log& log) { hub_->turn.mark_dirty(log); }

HAILWIRE_INLINE void channel_table::detach() noexcept {
  if (broker_) broker_->detach(broker_id_);
}

HAILWIRE_INLINE void channel_table::publish(std::string_view channel, std::string_view epoch,
                                            const message& m) noexcept {
  if (broker_ && !hub_->announces_) hub_->guarded([&] { broker_->publish(broker_id_, channel, epoch, m); });
}

HAILWIRE_INLINE channel_log& channel_table::obtain(std::string_view channel) {
  std::uint64_t hash = hub_->hash_of(channel);
  if (auto* there = find(channel, hash)) return *there;
  auto log = channel_log::make(*this, channel);
  const channel_settings& rule = hub_->rules_.of(channel);
  if (rule.last_value || rule.at_most_every) log->set_rule(rule.last_value, rule.at_most_every);
  log->watched = hub_->presence_->enabled() && rule.presence;
  if (broker_) broker_->subscribe(broker_id_, channel);  // may throw; nothing is entered then
  logs_.insert(*log, hash);
  return *log.release();
}

HAILWIRE_INLINE void channel_table::release(channel_log& log) noexcept {
  log.sweep();
  if (!log.unused()) return;  // one that was busy a moment ago stays until it has cooled
  if (broker_)
    hub_->guarded([&] { broker_->unsubscribe(broker_id_, log.name()); });  // what it brings all the same is dropped
  if (log.watched) hub_->presence_->unfollowed(log.name());
  logs_.remove(log);
  delete &log;
}

HAILWIRE_INLINE void channel_table::open(channel_log& log, read_result& r) {
  const bool made_up = r.epoch.empty();
  if (made_up) r.epoch = hub_->own_epoch(log.name());
  log.opened(r.epoch, r.oldest, r.head, made_up);
}

// Reads of a channel, whose log stays until `f` has run. `f` is told that there is no memory where there is none, and
// whether the log may go: one that is asked about from within a pull does not where it is in use.
template <class F>
void channel_table::ask_for(channel_log& log, std::uint64_t since, read_limit limit, F f) {
  ++log.pins;
  auto take = [f](hub& h, channel_log& of, read_result r) {
    bool let_go = true;
    h.take_read(of.name(), r);
    try {
      let_go = f(h, of, std::move(r));
    } catch (...) {
      h.guarded([] { throw; });
      h.guarded([&] { of.failed(make_error_code(errc::internal)); });
    }
    of.unpin();
    if (let_go || of.unused()) h.channels.release(of);
  };
  try {
    hub_->read_storage(log.name(), since, limit, [take, name = std::string(log.name())](hub& h, read_result r) {
      take(h, *h.channels.find(name), std::move(r));
    });
  } catch (...) {
    take(*hub_, log, failed<read_result>());
  }
}

HAILWIRE_INLINE void channel_table::read_bounds(channel_log& log) {
  ask_for(log, max_offset, {0, 0}, [](hub& h, channel_log& again, read_result r) {
    if (r.error) {
      again.failed(r.error);
    } else {
      h.channels.open(again, r);
    }
    return true;
  });
}

HAILWIRE_INLINE void channel_table::read_on(channel_log& log, encoded_channel& l, std::uint64_t since) {
  ask_for(log, since, {}, [how = &l.how(), since](hub& h, channel_log& read, read_result r) {
    if (!r.error && r.epoch.empty()) r.epoch = h.own_epoch(read.name());
    if (!r.error && r.epoch != read.epoch()) {
      // Everybody has to start over, which cannot be done from within a pull; those who wait go on waiting until then.
      try {
        h.loop().post([box = h.mailbox_, name = std::string(read.name())] {
          if (!box->owner || box->closed()) return;
          if (auto* stale = box->owner->channels.find(name)) box->owner->channels.read_bounds(*stale);
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
HAILWIRE_INLINE void channel_table::read_missing(channel_log& log) {
  try {
    hub_->loop().post([box = hub_->mailbox_, &log] {
      if (!box->owner || box->closed()) return;
      log.unpin();
      box->owner->channels.ask_for(log, log.head(), {}, [](hub& h, channel_log& read, read_result r) {
        if (r.error) {
          read.failed(r.error);
        } else {
          h.channels.open(read, r);
          read.filled(r);
        }
        return false;
      });
    });
    ++log.pins;
  } catch (const std::bad_alloc&) {
    hub_->guarded([&] { log.failed(make_error_code(errc::internal)); });
  }
}

}  // namespace hailwire::detail
