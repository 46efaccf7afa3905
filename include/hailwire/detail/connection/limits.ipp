// SPDX-License-Identifier: BSL-1.0
#pragma once

// What is too much, where a connection finds out: that there are too many of them, that too many clients begin, that
// one of them sends too much. What is counted, and how, is in admission.hpp and senders.hpp.
//
//   connection accepted   max_connections, max_connections_per_address      told at its first request
//   first live request    newcomers_per_second, or a ticket                 before anybody asks who it is
//   its client is known   the ticket's owner; commands, bytes               each request, then each command

#include <cstring>

#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {

// Whoever sends on this connection, found when it first does; null where nothing is limited or nobody knows who it is.
HAILWIRE_INLINE sender* connection::find_sender() {
  server_state& s = server();
  if (!s.senders.limits()) return nullptr;
  auto& at = asked() ? busy().sends : ensure_rare().sends;
  if (at) return &*at;
  principal who = is_open() ? principal(permissions()) : principal();
  if (who) {
    at = s.senders.obtain(static_cast<char>(who.what()), who.name(), s.now());
  } else if (auto from = proto::endpoint::parse(s.behind.any() ? known_peer() : peer())) {
    const auto key = address_table::of(*from->address);
    char name[sizeof key];
    std::memcpy(name, &key, sizeof key);
    at = s.senders.obtain(static_cast<char>(principal::kind::address), {name, sizeof name}, s.now());
  } else {
    return nullptr;
  }
  return &*at;
}

HAILWIRE_INLINE void connection::charge(std::size_t bytes) {
  sender* by = sends();
  if (!by) return;
  server().senders.note(*by, bytes);
  if (!server().senders.count(*by, server().now())) return;
  throttled_ = true;
  schedule();
}

HAILWIRE_INLINE std::int64_t connection::owed_ms() const noexcept {
  const auto* at = asked() ? &work_->sends : find_rare() ? &find_rare()->sends : nullptr;
  return at && *at ? server().senders.owed(**at, server().now()) : 0;
}

// What a connection over a limit is told.
HAILWIRE_INLINE std::optional<failure> connection::excess_failure() const {
  if (excess_ == excess::of_all) return failure(errc::overloaded, "too many connections", 5);
  if (excess_ == excess::of_address) return failure(errc::rate_limited, "too many connections from this address", 5);
  return std::nullopt;
}

HAILWIRE_INLINE std::int64_t server_state::count_command(session& s) {
  sender* by = static_cast<connection&>(s).sends();
  return by ? senders.command(*by, now()) : 0;
}

// ---- of requests

HAILWIRE_INLINE std::optional<tickets::known> http_exchange::shown_ticket() const {
  const std::string_view text = shown_.param("ticket");
  if (text.empty()) return std::nullopt;
  return server().door.reconnects.read(text, server().messages.loop().unix_time() / 1000);
}

// 0 for a newcomer that there is room for; else after how many milliseconds it may come again.
HAILWIRE_INLINE std::int64_t http_exchange::begin_as_newcomer() {
  admission& door = server().door;
  return door.newcomer(door.reconnects.owner({}, shown_.address()), server().now());
}

// Whether there is room for one more client on a new connection; false when it has refused it.
HAILWIRE_INLINE bool http_exchange::let_in() {
  admission& door = server().door;
  if (auto over = on_->excess_failure()) {
    on_->keep_ = false;
    return refuse_stream(*over), false;
  }
  if (!door.counts()) return true;
  const auto ticket = shown_ticket();
  fresh_ticket_ = ticket && ticket->left > tickets::life / 2;
  if (on_->let_in_) return true;
  first_ = on_->let_in_ = true;
  by_ticket_ = ticket && door.returns(*ticket, server().now());
  const std::int64_t wait_ms = by_ticket_ ? 0 : begin_as_newcomer();
  if (!wait_ms) return true;
  on_->keep_ = on_->let_in_ = false;
  return refuse_stream({errc::overloaded, "too many new clients", static_cast<int>((wait_ms + 999) / 1000)}), false;
}

// Counts a request whose client is known now; false when it has refused it.
HAILWIRE_INLINE bool http_exchange::count_request(const shared_grant& g) {
  // Another's ticket is none.
  if (by_ticket_ && shown_ticket()->owner != server().door.reconnects.owner(g.user(), shown_.address())) {
    fresh_ticket_ = false;
    if (const std::int64_t wait_ms = begin_as_newcomer()) {
      on_->keep_ = on_->let_in_ = false;
      return refuse_stream({errc::overloaded, "too many new clients", static_cast<int>((wait_ms + 999) / 1000)}), false;
    }
  }
  // Whose address it is stays the same on one connection, where no proxy says otherwise.
  constexpr char address = static_cast<char>(principal::kind::address);
  if (auto& by = on_->busy().sends; by && (principal(g) || server().behind.any() || by->kind != address)) by = {};
  return true;
}

// A ticket for the answer: for who has none yet, or one that has lived half its life; else empty.
HAILWIRE_INLINE bool http_exchange::gives_ticket() const noexcept {
  if (on_->stream_) return server().door.counts();
  return !fresh_ticket_ && (first_ || !shown_.param("ticket").empty());
}

HAILWIRE_INLINE std::string http_exchange::ticket() const {
  const admission& door = server().door;
  if (!gives_ticket() || !door.counts()) return {};
  const auto owner = door.reconnects.owner(on_->user(), shown_.address());
  return owner ? door.reconnects.make(*owner, server().messages.loop().unix_time() / 1000) : std::string();
}

}  // namespace hailwire::detail
