// SPDX-License-Identifier: BSL-1.0
#pragma once

// A publish on its way through the rooms; publisher.hpp and hub.hpp say what is promised.

#include <algorithm>
#include <memory>
#include <string>

#include "hailwire/detail/hub/waking.hpp"
#include "hailwire/hub.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE prefetch_hint publisher::prefetch(std::string_view channel) const noexcept {
  prefetch_hint at{hub_->hash_of(channel), hub_->storage_->prefetch(channel)};
  hub_->channels.prefetch(at.hash);
  return at;
}

HAILWIRE_INLINE void publisher::prefetch_entry(const prefetch_hint& at) const noexcept {
  hub_->storage_->prefetch_entry(at.stored);
  hub_->channels.prefetch_log(at.hash, false);
}

HAILWIRE_INLINE std::error_code publisher::check(const publishing& what, payload& p, const publish_options& o,
                                                 bool checked) {
  if (!valid_channel(what.channel)) return errc::bad_request;
  if (o.type.size() > 64 || !proto::printable_utf8(o.type)) return errc::bad_request;
  if (o.key.size() > 64 || std::any_of(o.key.begin(), o.key.end(), [](char c) { return c < 0x21 || c > 0x7E; }))
    return errc::bad_request;
  if (!payload_fits(p, hub_->settings_of(what.channel, what.at.hash))) return errc::too_large;
  if (o.content && (o.ephemeral || !valid_content_id(o.content->id))) return errc::bad_request;
  if (p.type() == payload::kind::json) {
    if (!checked && proto::json::validate(p.bytes())) return errc::bad_request;
    const char* end = p.bytes().data() + p.bytes().size();
    auto line_breaks = [](auto block) { return block.is('\n') | block.is('\r'); };
    if (find_first(p.bytes().data(), end, line_breaks) != end) {
      std::string one_line(p.bytes());
      proto::json::spaces_for_line_breaks(one_line);
      p = payload::json(one_line);
    }
  } else if (p.type() == payload::kind::text && !checked && !proto::valid_utf8(p.bytes())) {
    return errc::unsupported_media;
  }
  return {};
}

HAILWIRE_INLINE std::error_code publisher::publish(std::string&& channel, payload&& p, publish_options&& o,
                                                   publish_handler&& done) {
  if (hub_->mailbox_->closed()) return operation_aborted();
  publishing what{std::move(channel), std::move(done), {}, {}};
  const bool here = hub_->loop().here();
  if (here && !hub_->depth_.too_deep()) {
    if (hub_->pending_.full()) return errc::overloaded;
    const call_depth::level level(hub_->depth_);
    what.at = prefetch(what.channel);
    start(std::move(what), std::move(p), std::move(o), {}, {}, false);
    return {};
  }
  pending_operations::room room(hub_->pending_);
  if (!room) return errc::overloaded;
  auto op = intrusive_ptr<publish_op>(new publish_op(*this, std::move(what)));
  bool taken = hub_->mailbox_->put(
      [this, here, op, p = std::move(p), o = std::move(o)]() mutable {
        if (here) hub_->depth_.came_back();
        const call_depth::level level(hub_->depth_);
        op->over = op->what.counted = true;
        op->what.at = prefetch(op->what.channel);
        start(std::move(op->what), std::move(p), std::move(o), {}, {}, false);
      },
      [op] { op->abort(); });
  if (taken) room.keep();
  if (taken && here) hub_->depth_.put_off();  // other threads do not touch it
  return taken ? std::error_code() : operation_aborted();
}

HAILWIRE_INLINE void publisher::publish_for(session& s, std::string&& channel, const prefetch_hint& at, payload&& p,
                                            publish_options&& o, bool checked, client_publish_handler&& done) {
  if (hub_->pending_.full()) return done(storage_failure(errc::overloaded));
  if (const std::int64_t wait_ms = hub_->rules_.count_publish(channel, at.hash, hub_->loop().now()))
    return done(too_often("too many publishes to this channel", wait_ms));
  const shared_grant& g = s.permissions();
  std::string scope;
  if (!o.key.empty()) {
    scope = principal(g).text();
    if (scope.empty()) o.key.clear();  // an anonymous client's keys mean nothing unless the host tells clients apart
  }
  publishing what{std::move(channel), {}, std::move(done), at};
  if (o.ephemeral) what.by = &s;  // which is sent before this returns
  start(std::move(what), std::move(p), std::move(o), std::string(g.user()), std::move(scope), checked);
}

HAILWIRE_INLINE void publisher::start(publishing&& what, payload&& p, publish_options&& o, std::string&& from,
                                      std::string&& scope, bool checked) {
  if (hub_->stopped_) return finish(what, operation_aborted(), {});
  const bool hears = what.done || what.told;
  try {
    if (hub_->behind_) [[unlikely]]
      return hold(std::move(what), std::move(p), std::move(o), std::move(from), std::move(scope), checked);
    begin(what, std::move(p), std::move(o), std::move(from), std::move(scope), checked);
  } catch (...) {  // no memory: nothing was stored
    uncharge(what);
    if (what.key) settle_key(*std::exchange(what.key, nullptr), errc::internal, {});
    uncount(what);
    if (!hears) throw;
    hub_->guarded([] { throw; });
    finish(what, errc::internal, {});
  }
}

// It waits until the hub has heard all commands; what is live or not at all does not.
[[gnu::cold]] HAILWIRE_INLINE void publisher::hold(publishing&& what, payload&& p, publish_options&& o,
                                                   std::string&& from, std::string&& scope, bool checked) {
  if (o.ephemeral) return finish(what, errc::overloaded, {});
  struct parts {
    publishing what;
    payload p;
    publish_options o;
    std::string from, scope;
  };
  auto all =
      std::make_unique<parts>(parts{std::move(what), std::move(p), std::move(o), std::move(from), std::move(scope)});
  if (!all->what.counted) hub_->pending_.add();
  all->what.counted = true;
  hub_->everywhere().hold([all = std::move(all), checked](hub& h, std::error_code ec) {
    if (ec) return h.publisher.finish(all->what, ec, {});
    all->what.at = h.publisher.prefetch(all->what.channel);
    h.publisher.start(std::move(all->what), std::move(all->p), std::move(all->o), std::move(all->from),
                      std::move(all->scope), checked);
  });
}

HAILWIRE_INLINE void publisher::begin(publishing& what, payload&& p, publish_options&& o, std::string&& from,
                                      std::string&& scope, bool checked) {
  if (auto ec = check(what, p, o, checked)) return finish(what, ec, {});
  if (o.ephemeral) return send_ephemeral(what, std::move(p), std::move(o), std::move(from));

  draft d{hub_->loop().unix_time(), std::move(from), std::move(o.type), std::move(p), {}};
  d.content = std::move(o.content);
  if (hub_->rules_.any_keep()) d.keep = hub_->settings_of(what.channel, what.at.hash).keep;
  if (!o.key.empty()) {
    d.key = scope + '\n' + o.key;
    const std::size_t most = scope.empty() ? 0 : hub_->options_.max_keys_per_user;  // the host counts for itself
    // Where the storage keeps keys, only it knows whether this one is new; what was not stored is given back.
    auto over = [&] {
      if (!most) return false;
      const auto who = keyed_hash(hub_->secret_).add(scope).finish();
      const auto key = keyed_hash(hub_->secret_).add(what.channel.size()).add(what.channel).add(o.key).finish().low;
      const std::int64_t wait_ms = budget_.take(who, key, hub_->loop().now(), most, what.charge);
      if (!wait_ms) return false;
      uncount(what);
      if (auto f = std::exchange(what.told, nullptr)) {
        f(too_often("too many publishes with a key", wait_ms));
      }
      return true;
    };
    if (hub_->storage_->keeps_keys()) {
      if (over()) return;
    } else {
      auto name =
          keyed_hash(hub_->secret_).add(what.channel.size()).add(what.channel).add(std::exchange(d.key, {})).finish();
      auto print = fingerprint(hub_->secret_, d);
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
  m.content = d.content;
  if (hub_->storage_->at_once()) {
    hub_->channels.prefetch_log(what.at.hash, true);  // while the storage is at work
    const std::int64_t since = hub_->begin_watch(hub_->appends_);
    append_result r = hub_->storage_->append_now(what.at.stored, what.channel, d);
    hub_->end_watch(since, hub_->counted.append);
    if (!d.from.empty()) m.from.swap(d.from);
    if (!d.type.empty()) m.type.swap(d.type);
    return hub_->stopped_ ? finish(what, operation_aborted(), {}) : stored(what, std::move(r));
  }
  m.from = d.from;
  m.type = d.type;
  auto op = wait(std::move(what));
  std::string_view channel = op->what.channel;
  try {
    hub_->storage_->append(
        channel, std::move(d),
        hub_->on_loop([op, since = hub_->begin_watch(hub_->appends_)](hub& h, append_result&& later) {
          h.end_watch(since, h.counted.append);
          h.publisher.stored_later(*op, std::move(later));
        }));
  } catch (...) {  // it was not asked
    stored_later(*op, failed<append_result>());
  }
}

HAILWIRE_INLINE void publisher::send_ephemeral(publishing& what, payload&& p, publish_options&& o, std::string&& from) {
  if (!o.key.empty()) return finish(what, errc::bad_request, {});  // what is stored nowhere is found by no key
  message m;
  m.at = hub_->loop().unix_time();
  m.from = std::move(from);
  m.type = std::move(o.type);
  m.data = std::move(p);
  const session::echo own = what.by ? what.by->no_echo_to() : session::echo{channel_log::nobody};
  live_writer w(live_kind::ephemeral);
  if (hub_->channels.joined()) hub_->channels.tell_others(what.channel, w.content(m).text(own.elsewhere).bytes());
  if (auto* log = hub_->channels.find(what.channel, what.at.hash); log && log->ephemeral(m, own.slot)) log->flush();
  finish(what, {}, {});
}

HAILWIRE_INLINE void publisher::stored_later(publish_op& op, append_result&& r) {
  if (op.over) return;  // aborted by stop()
  hub_->pending_.dismiss(op);
  op.over = true;
  hub_->pending_.remove();
  stored(op.what, std::move(r));
}

HAILWIRE_INLINE void publisher::stored(publishing& what, append_result&& r) {
  auto* log = hub_->channels.find(what.channel, what.at.hash);
  bool much = false;
  position p;
  if (r.error) hub_->append_failed(what.channel, r.error, r.cause);
  if (!r.error) {
    p.offset = r.offset;
    p.epoch = !r.epoch.empty()     ? std::move(r.epoch)
              : log && log->open() ? std::string(log->epoch())
                                   : hub_->own_epoch(what.channel);
    // What answers at once has its newest message when it returns; what answers later may be behind the broker.
    if (r.offset == 0 || (log && r.offset <= log->head() && !r.duplicate && log->open() && hub_->storage_->at_once() &&
                          proto::same_bytes(p.epoch, log->epoch()))) {
      hub_->channels.disorder(what.channel, log ? log->head() : 0, r.offset);
      r.error = errc::internal;
      p = {};
    } else if (!r.duplicate) {
      what.content.offset = r.offset;
      ++hub_->counted.published;
      // It is stored: what fails from here on is not the publisher's. Others see the hole, and read.
      if (log) hub_->guarded([&] { much = log->apply(p.epoch, what.content); });
      hub_->channels.publish(what.channel, p.epoch, what.content);
      if (hub_->waking_ && !what.content.erases)
        hub_->guarded([&] { hub_->waking_->stored(what.channel, p.epoch, what.content); });
    }
  }
  if (r.error || r.duplicate) uncharge(what);
  if (what.key) settle_key(*std::exchange(what.key, nullptr), r.error, p);
  finish(what, r.error, std::move(p));
  // The publisher's own answer stands before its message, so this comes last.
  if (!much) return;
  if (log = hub_->channels.find(what.channel, what.at.hash); log && log->flush_early()) log->flush();
}

HAILWIRE_INLINE void publisher::settle_key(kept_keys::key& k, std::error_code ec, const position& p) {
  auto waiting = keys_.settle(k, ec, p, hub_->loop().now());
  if (!ec) hub_->set_alarm();
  for (auto& same : waiting) {
    if (same->over) continue;
    hub_->pending_.dismiss(*same);
    hub_->guarded([&] { same->finish(ec, p); });
  }
}

HAILWIRE_INLINE intrusive_ptr<publisher::publish_op> publisher::wait(publishing&& what) {
  hub_->pending_.reserve();
  auto op = intrusive_ptr<publish_op>(new publish_op(*this, std::move(what)));  // from here on nothing throws
  if (!what.counted) hub_->pending_.add();
  what.counted = op->what.counted = false;  // the operation's from now on
  hub_->pending_.enroll(op);
  return op;
}

HAILWIRE_INLINE void publisher::uncharge(publishing& what) noexcept {
  if (what.charge.at >= 0) budget_.give_back(std::exchange(what.charge, {}));
}

HAILWIRE_INLINE void publisher::uncount(publishing& what) noexcept {
  if (std::exchange(what.counted, false)) hub_->pending_.remove();
}

HAILWIRE_INLINE void publisher::finish(publishing& what, std::error_code ec, position&& p) {
  uncount(what);
  hub_->counted.failed += bool(ec);
  if (ec && !what.done && !what.told) log_failure(what.channel, ec);
  if (auto f = std::exchange(what.done, nullptr)) hub_->guarded([&] { f(ec, std::move(p)); });
  if (auto f = std::exchange(what.told, nullptr)) ec ? f(storage_failure(ec)) : f(std::move(p));
}

HAILWIRE_INLINE void publisher::publish_op::finish(std::error_code ec, position p) {
  if (std::exchange(over, true)) return;
  owner->hub_->pending_.remove();
  owner->finish(what, ec, std::move(p));
}

[[gnu::cold]] HAILWIRE_INLINE void publisher::log_failure(std::string_view channel,
                                                          const std::error_code& ec) noexcept {
  if (ec == operation_aborted() || !hub_->log_.hears(log_level::warning)) return;
  try {
    std::string text("a publish to \"");
    text.append(channel.substr(0, 255)).append("\" was refused: ").append(ec.message());
    hub_->log_(failures_, hub_->loop().now(), {log_level::warning, "publish_failed", {}, {}, {}, ec}, std::move(text));
  } catch (...) {  // no memory to tell of it
  }
}

}  // namespace hailwire::detail
