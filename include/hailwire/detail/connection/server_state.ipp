// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/connection/server_state.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE server_state::server_state(event_loop& l, std::unique_ptr<any_storage> store, const options& o,
                                           const linkage& linked)
    : settings(o),
      transports(linked.transports),
      polls(linked.polls),
      behind(o),
      door(o),
      senders(o),
      messages(l, std::move(store), settings) {
  if (!settings.path.starts_with('/'))
    throw std::invalid_argument("hailwire: options::path begins with a slash, as a request's path does: \"/" +
                                settings.path + "\", not \"" + settings.path + '"');
  spares_.reserve(64);
  for (const transport::entry* t : transports) messages.counted.transports.push_back({t->name});
}

HAILWIRE_INLINE void server_state::stop() {
  replies_.rest();
  messages.stop();
}

HAILWIRE_INLINE void server_state::when_empty(move_only_function<void()> f) {
  emptied_.push_back(std::move(f));
  left();
}

HAILWIRE_INLINE void server_state::tell_emptied() noexcept {
  auto all = std::exchange(emptied_, {});
  for (auto& f : all) guarded("a handler", [&] { f(); });
}

HAILWIRE_INLINE void server_state::close(session& s) {
  from_address.remove(s.key().slot);
  messages.close(s);
}

HAILWIRE_INLINE std::unique_ptr<pending_io> server_state::take_spare() {
  if (spares_.empty()) return std::unique_ptr<pending_io>(new pending_io(*this));
  auto block = std::move(spares_.back());
  spares_.pop_back();
  return block;
}

HAILWIRE_INLINE void server_state::give_spare(std::unique_ptr<pending_io> block) noexcept {
  if (spares_.size() == spares_.capacity()) return;
  trim(*block);
  block->sends = {};
  spares_.push_back(std::move(block));
}

HAILWIRE_INLINE void server_state::trim(pending_io& block) const noexcept {
  if (block.out.capacity() > 4096) std::string().swap(block.out);
  if (block.held.empty() && block.held.capacity() > 64) std::string().swap(block.held);
}

void server_state::no_authorizer() noexcept {
  if (std::exchange(told_no_authorizer_, true)) return;
  log()({log_level::warning,
         "no_authorizer",
         {},
         {},
         {},
         {},
         "no authorizer is set (server::authorize): everybody is anonymous and may follow and publish nothing"});
}

HAILWIRE_INLINE bool server_state::sound(const shared_grant& g) const noexcept {
  std::string_view wrong;
  if (!g.user().empty() && !valid_user(g.user())) {
    wrong = "the authorizer gave a name that is not a user's";
  } else if (!g.info().empty() && proto::json::validate(g.info())) {
    wrong = "the authorizer gave an info that is not JSON";
  }
  if (!wrong.empty()) log()({log_level::error, "bad_grant", {}, {}, {}, {}, wrong});
  return wrong.empty();
}

HAILWIRE_INLINE std::string_view server_state::date() {
  std::int64_t second = messages.loop().unix_time() / 1000;
  if (second != date_second_) {
    date_second_ = second;
    auto t = static_cast<std::time_t>(second);
    std::tm utc{};
    gmtime_r(&t, &utc);
    date_line_ = "Date: Sun, 00 Jan 0000 00:00:00 GMT\r\n";
    auto put = [&](std::size_t at, int n) {
      date_line_[at] = static_cast<char>('0' + n / 10);
      date_line_[at + 1] = static_cast<char>('0' + n % 10);
    };
    date_line_.replace(6, 3, &"SunMonTueWedThuFriSat"[3 * utc.tm_wday], 3);
    date_line_.replace(14, 3, &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * utc.tm_mon], 3);
    const int year = 1900 + utc.tm_year;
    const std::pair<std::size_t, int> places[] = {{11, utc.tm_mday}, {18, year / 100}, {20, year % 100},
                                                  {23, utc.tm_hour}, {26, utc.tm_min}, {29, utc.tm_sec}};
    for (auto [at, n] : places) put(at, n);
  }
  return date_line_;
}

HAILWIRE_INLINE pending_io& pending_slot::busy() {
  if (!any()) at_ = server().take_spare().release();
  return own();
}

HAILWIRE_INLINE void pending_slot::rest() noexcept {
  if (!any() || !at_->out.empty()) return;
  at_->none() ? server().give_spare(take()) : server().trim(own());
}

HAILWIRE_INLINE void pending_slot::drop() noexcept {
  if (any()) take();
}

HAILWIRE_INLINE std::unique_ptr<pending_io> pending_slot::take() noexcept {
  pending_io& taken = own();
  at_ = &server().nothing;
  return std::unique_ptr<pending_io>(&taken);
}

}  // namespace hailwire::detail
