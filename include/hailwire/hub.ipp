// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <stdexcept>

#include "hailwire/detail/hub/presence.hpp"
#include "hailwire/detail/hub/waking.hpp"
#include "hailwire/hub.hpp"

namespace hailwire {

HAILWIRE_INLINE hub::hub(detail::event_loop& l, std::unique_ptr<detail::any_storage> store, const options& o)
    : hub_core(l, std::move(store), o), presence_(std::make_unique<detail::presence>(*this)) {
  if (storage_->offers(detail::storage_member::content)) channels.inline_limit = o.inline_limit;
  mailbox_->owner = this;
  loop_->on_alarm([this] { tick(); });
}

HAILWIRE_INLINE hub::~hub() {
  stop();
  channels.detach();
  mailbox_->owner = nullptr;
  mailbox_->retire();
  registry_.each([this](session& s) {
    if (s.open_) close(s);  // they point into logs
  });
  channels.clear();
}

HAILWIRE_INLINE void hub::stop() {
  if (stopped_) return;
  stopped_ = true;
  presence_->stop();
  all_nodes_.stop();
  receipts_.stop();
  mailbox_->close();
  pending_.abort_all();
  publisher.stop();
  if (waking_) waking_->stop();
  turn.stop();
  rest();
}

HAILWIRE_INLINE void hub::tell(std::string_view channel, std::string_view name, std::string_view json) {
  std::string object = "{\"";
  object.append(name).append("\":").append(json).append("}");
  proto::json::spaces_for_line_breaks(object);
  channels.tell_others(channel, detail::live_writer(detail::live_kind::notice).text(name).text(object).bytes());
  if (auto* log = channels.find(channel); log && log->notice(name, object)) log->flush();
}

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
  while (s.follow_count()) subscriptions.end(s, s.follow_count() - 1, at_once);
  expiries.forget(s.key());
  if (waking_ && s.listed_ && !s.user().empty()) waking_->closed(s);
  registry_.close(s);
}

HAILWIRE_INLINE void hub::presence(std::string_view channel, presence_handler done, bool names) {
  presence_->ask(channel, names, std::move(done));
}

HAILWIRE_INLINE void hub::on_followed(std::function<void(std::string_view channel, bool followed)> f) {
  presence_->on_followed = std::move(f);
}

HAILWIRE_INLINE std::size_t hub::channels_with_presence() const noexcept { return presence_->size(); }

HAILWIRE_INLINE void hub::linger(std::int64_t ms) noexcept { presence_->linger(ms); }

HAILWIRE_INLINE void hub::regranted(session& s, const shared_grant& before) {
  for (std::size_t i = 0; i < s.follow_count(); ++i) {
    auto& log = s.followed(i).in().log();
    if (log.watched && s.followed(i).started()) guarded([&] { presence_->regranted(s, log, before); });
  }
}

HAILWIRE_INLINE void hub::forget(session& o) noexcept {
  turn.forget(o);
  rest();
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

HAILWIRE_INLINE wake_counters hub::wakes() const noexcept { return waking_ ? waking_->counters() : wake_counters(); }

HAILWIRE_INLINE void hub::died(session& s) noexcept {
  if (waking_) guarded([&] { waking_->died(s); });
}

HAILWIRE_INLINE void hub::keep_device(session& s, std::string_view object, detail::device_handler done) {
  if (!waking_) return done({errc::not_implemented, "device is not offered by this server"});
  waking_->keep(s, object, std::move(done));
}

HAILWIRE_INLINE server_stats hub::stats() const {
  server_stats out = counted;
  out.connections = registry_.connections();
  out.pending = pending_count();
  out.memory = memory_held();
  channels.measure(out);
  return out;
}

HAILWIRE_INLINE void hub::arm(detail::timer& t, std::int64_t due) {
  wheel_.arm(t, due);
  if (alarm_ < 0 || due < alarm_) set_alarm();
}

HAILWIRE_INLINE void hub::tick() {
  alarm_ = -1;
  mailbox_->read_untold();
  wheel_.advance(loop_->now());
  publisher.expire(loop_->now());
  set_alarm();
}

HAILWIRE_INLINE void hub::set_alarm() {
  auto next = wheel_.next();
  if (auto end = publisher.next_expiry()) next = std::min(next.value_or(INT64_MAX), *end);
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
