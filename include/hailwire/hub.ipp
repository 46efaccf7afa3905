// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <stdexcept>

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

HAILWIRE_INLINE hub::hub(detail::event_loop& l, std::unique_ptr<detail::any_storage> store, const options& o)
    : options_(o),
      loop_(&l),
      storage_(std::move(store)),
      announces_(storage_->announces()),
      wheel_(l.now()),
      mailbox_(std::make_shared<detail::mailbox>(l, log_)),
      pending_(o.max_pending) {
  if (rules_.any_keep() && !storage_->offers(detail::storage_member::retention))
    throw std::invalid_argument(
        "hailwire: options::channels says how much is kept of some channels, which this storage cannot");
  mailbox_->owner = this;
  loop_->on_alarm([this] { tick(); });
}

HAILWIRE_INLINE hub::~hub() {
  stop();
  if (broker_) broker_->detach(broker_id_);
  mailbox_->owner = nullptr;
  mailbox_->retire();
  registry_.each([this](session& s) {
    if (s.open_) close(s);  // they point into logs
  });
  logs_.delete_all();
}

HAILWIRE_INLINE std::error_code hub::publish(std::string channel, payload p, publish_options o, publish_handler done) {
  if (mailbox_->closed()) return operation_aborted();
  publishing what{std::move(channel), std::move(done), {}, {}};
  const bool here = loop_->here();
  if (here && !nests_too_deep()) {
    if (pending_.full()) return errc::overloaded;
    const nested level(nesting_);
    what.at = prefetch(what.channel);
    start(std::move(what), std::move(p), std::move(o), {}, {}, false);
    return {};
  }
  detail::pending_operations::room room(pending_);
  if (!room) return errc::overloaded;
  auto op = detail::intrusive_ptr<publish_op>(new publish_op(*this, std::move(what)));
  bool taken = mailbox_->put(
      [this, here, op, p = std::move(p), o = std::move(o)]() mutable {
        if (here) --put_off_;
        const nested level(nesting_);
        op->over = op->what.counted = true;
        op->what.at = prefetch(op->what.channel);
        start(std::move(op->what), std::move(p), std::move(o), {}, {}, false);
      },
      [op] { op->abort(); });
  if (taken) room.keep();
  if (taken && here) ++put_off_;  // other threads do not touch it
  return taken ? std::error_code() : operation_aborted();
}

HAILWIRE_INLINE void hub::arm(detail::timer& t, std::int64_t due) {
  wheel_.arm(t, due);
  if (alarm_ < 0 || due < alarm_) set_alarm();
}

HAILWIRE_INLINE void hub::regranted(session& s, const shared_grant& before) {
  for (std::size_t i = 0; i < s.follow_count(); ++i) {
    auto& log = s.followed(i).in().log();
    if (log.watched && s.followed(i).started()) guarded([&] { presence_.regranted(s, log, before); });
  }
}

HAILWIRE_INLINE hub::prefetch_hint hub::prefetch(std::string_view channel) const noexcept {
  prefetch_hint at{hash_of(channel), storage_->prefetch(channel)};
  __builtin_prefetch(logs_.bucket_address(at.hash));
  return at;
}

HAILWIRE_INLINE void hub::prefetch_entry(const prefetch_hint& at) const noexcept {
  storage_->prefetch_entry(at.stored);
  if (auto* near = logs_.candidate(at.hash, false)) detail::fetch(near, 2);
}

HAILWIRE_INLINE void hub::add_notifier(std::unique_ptr<detail::any_notifier> n) {
  if (!storage_->offers(detail::storage_member::tokens))
    throw std::invalid_argument("hailwire: a notifier wakes devices, whose tokens this storage does not keep");
  if (!devices_) devices_ = std::make_shared<detail::live_devices>();
  if (!waking_) waking_ = std::make_unique<detail::waking>(*this, devices_);
  waking_->add(std::move(n));
}

HAILWIRE_INLINE void hub::share_devices(hub& other) {
  if (!other.devices_) other.devices_ = std::make_shared<detail::live_devices>();
  devices_ = other.devices_;
}

HAILWIRE_INLINE void hub::keep_device(session& s, std::string_view object, detail::waking::device_handler done) {
  if (!waking_) return done({errc::not_implemented, "device is not offered by this server"});
  waking_->keep(s, object, std::move(done));
}

HAILWIRE_INLINE void hub::forget(session& o) noexcept {
  turn_.forget(o);
  rest();
}

HAILWIRE_INLINE void hub::publish_op::finish(std::error_code ec, position p) {
  if (std::exchange(over, true)) return;
  owner->pending_.remove();
  owner->finish(what, ec, std::move(p));
}

HAILWIRE_INLINE void hub::history_op::finish(history_result r) {
  owner->pending_.remove();
  owner->guarded([&] { done(std::move(r)); });
}

HAILWIRE_INLINE void hub::history_op::abort() {
  history_result r;
  r.error = operation_aborted();
  finish(std::move(r));
}

HAILWIRE_INLINE void hub::take_read(std::string_view channel, read_result& r) {
  if (r.error) return storage_failed("a read of", read_failures_, channel, r.error, r.cause);
  for (message& m : r.messages) {
    const std::string_view text = m.data.bytes();
    if (m.data.type() != payload::kind::json ||
        (text.find('\n') == std::string_view::npos && text.find('\r') == std::string_view::npos))
      continue;
    std::string one_line(text);
    proto::json::spaces_for_line_breaks(one_line);
    m.data = payload::json(one_line);
  }
}

HAILWIRE_INLINE void hub::uncharge(publishing& what) noexcept {
  if (what.charge.at >= 0) budget_.give_back(std::exchange(what.charge, {}));
}

HAILWIRE_INLINE void hub::uncount(publishing& what) noexcept {
  if (std::exchange(what.counted, false)) pending_.remove();
}

HAILWIRE_INLINE void hub::finish(publishing& what, std::error_code ec, position&& p) {
  uncount(what);
  counted.failed += bool(ec);
  if (ec && !what.done && !what.told) publish_failed(what.channel, ec);
  if (auto f = std::exchange(what.done, nullptr)) guarded([&] { f(ec, std::move(p)); });
  if (auto f = std::exchange(what.told, nullptr)) ec ? f(storage_failure(ec)) : f(std::move(p));
}

template <class F>
void hub::read_storage(std::string_view channel, std::uint64_t since, read_limit limit, F f) {
  if (!reads_.next()) return storage_->read(channel, since, limit, on_loop(std::move(f)));
  storage_->read(channel, since, limit,
                 on_loop([began = loop_->precise(), f = std::move(f)](hub& h, read_result r) mutable {
                   h.end_watch(began, h.counted.reading);
                   f(h, std::move(r));
                 }));
}

HAILWIRE_INLINE server_stats hub::stats() const {
  server_stats out = counted;
  out.deliveries = deliveries;
  out.connections = registry_.connections();
  out.channels = channel_count();
  out.pending = pending_count();
  out.memory = memory_held();
  logs_.each([&](detail::channel_log& log) { log.measure(out); });
  return out;
}

HAILWIRE_INLINE void hub::tick() {
  alarm_ = -1;
  mailbox_->read_untold();
  wheel_.advance(loop_->now());
  budget_.sweep(loop_->now());
  keys_.expire(loop_->now());
  set_alarm();
}

HAILWIRE_INLINE void hub::set_alarm() {
  auto next = wheel_.next();
  if (auto end = keys_.next()) next = std::min(next.value_or(INT64_MAX), *end);
  if (!next || (alarm_ >= 0 && alarm_ <= *next)) return;
  loop_->alarm(*next);
  alarm_ = *next;
}

HAILWIRE_INLINE void hub::rest() noexcept {
  if (!stopped_ || alarm_ < 0 || wheel_.next()) return;
  alarm_ = -1;
  loop_->alarm(detail::event_loop::no_alarm);
}

}  // namespace hailwire
