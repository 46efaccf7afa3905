// SPDX-License-Identifier: BSL-1.0
#pragma once

// The hub: channels, sessions and the way between them. It knows a storage, maybe a broker, and sessions as
// subscribers; it knows nothing of sockets or transports, and belongs to one loop.
//
//   publish → storage.append (gives the offset) → broker → the channel's log → end of turn: flush → subscribers pull
//
// Each of its jobs is a class in detail/hub/, in one room each: what all of them stand on (hub_core: loop, clock,
// storage, log), the channels that are in use and the broker (channel_table), who follows them (subscriptions), how a
// message is published, taken back and read again (publisher, eraser, history_reader), who is connected
// (session_registry), whose permission ends (permission_expiry), who is there (presence), how far users have come
// (receipts), who is woken (waking), and the end of a turn (loop_turn). The hub says how they work together.
//
// One code path serves storages that answer at once and those that answer later: each operation is an object that is
// finished on the hub's loop, whoever completed it, and aborted when the hub stops first. Operations hold no pointers
// into the hub's tables across that wait; they find channel and session again by name and key.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/event_loop.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/hub/all_nodes.hpp"
#include "hailwire/detail/hub/channel_rules.hpp"
#include "hailwire/detail/hub/channel_table.hpp"
#include "hailwire/detail/hub/content_access.hpp"
#include "hailwire/detail/hub/erase.hpp"
#include "hailwire/detail/hub/fan_out.hpp"
#include "hailwire/detail/hub/history.hpp"
#include "hailwire/detail/hub/hub_core.hpp"
#include "hailwire/detail/hub/live_codec.hpp"
#include "hailwire/detail/hub/mailbox.hpp"
#include "hailwire/detail/hub/notifiers.hpp"
#include "hailwire/detail/hub/permission_expiry.hpp"
#include "hailwire/detail/hub/presence_result.hpp"
#include "hailwire/detail/hub/principal.hpp"
#include "hailwire/detail/hub/publisher.hpp"
#include "hailwire/detail/hub/receipts.hpp"
#include "hailwire/detail/hub/rules.hpp"
#include "hailwire/detail/hub/session_registry.hpp"
#include "hailwire/detail/hub/subscriptions.hpp"
#include "hailwire/detail/hub/turn.hpp"
#include "hailwire/detail/storage/fingerprint.hpp"
#include "hailwire/options.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/session.hpp"
#include "hailwire/stats.hpp"

namespace hailwire {

namespace detail {
class live_devices;
class presence;
class waking;
}  // namespace detail

/// What a session takes at most that is a user's on two channels, which benchmarks/README.md measures, what it takes
/// for each channel that it follows, and what a channel takes whose name is of middle length, allocations counted.
inline constexpr std::size_t bytes_per_session = 448, bytes_per_subscription = 48, bytes_per_channel = 160;

/// The channels of a server and who follows them: publish, follow, read. The top of this file says how it works.
///
/// Threads: `publish` is safe from any thread; everything else belongs to the hub's executor. Handlers run there.
class hub final : public detail::hub_core {
 public:
  hub(detail::event_loop& l, std::unique_ptr<detail::any_storage> store, const options& o);
  HAILWIRE_INLINE ~hub();
  hub(const hub&) = delete;
  hub& operator=(const hub&) = delete;

  // ---- for hosts -------------------------------------------------------------------------------------------------

  /// Stores `p` as the next message of `channel` and sends it to everybody who follows. Safe from any thread.
  ///
  /// Returns at once: `overloaded` when `max_pending` publishes wait already (before the loop runs too, where each one
  /// waits), `operation_aborted` after the hub has stopped. In these two cases nothing was stored and `done` is never
  /// called. Otherwise `done` is called exactly once, on the hub's executor, possibly before this returns when called
  /// there: with `bad_request` (channel name, type, key, JSON), `unsupported_media` (a text that is not UTF-8),
  /// `too_large`, `conflict` (key used with another payload), the storage's error, `internal` (no memory; the outcome
  /// is unknown), or `operation_aborted` when the hub stopped first and the outcome is unknown. A handler may publish
  /// again, as often as it likes: past `max_nesting` calls within one another the next ones wait for the loop, in
  /// order. What a handler throws is logged, and so is what a publish without a handler would have told it. Throws
  /// `std::bad_alloc`, and nothing was stored then.
  [[nodiscard]] std::error_code publish(std::string channel, payload p, publish_options o = {},
                                        publish_handler done = {}) {
    return publisher.publish(std::move(channel), std::move(p), std::move(o), std::move(done));
  }

  /// Takes a message back, whoever published it: its type, payload and content are gone from the storage, its place is
  /// shown as erased from then on, and the log has an entry that says so, whose position `done` is given. An empty
  /// epoch in `at` means whichever it is. Taking back once more gives the first entry's position. Safe from any thread,
  /// and answers as `publish` does; further errors: `not_found` (no such message, or another epoch), `not_implemented`
  /// (the storage takes nothing back).
  [[nodiscard]] std::error_code erase(std::string channel, position at, publish_handler done = {}) {
    return eraser.erase(std::move(channel), std::move(at), std::move(done));
  }

  /// Reads a stretch of history, as a client's `history` does. On the hub's executor. Errors: `bad_request` (name,
  /// limit), `not_found` (another epoch), `overloaded` (`max_pending` operations wait already), the storage's.
  void history(std::string_view channel, history_query q, std::uint64_t floor, history_handler done) {
    history_.read(channel, std::move(q), floor, std::move(done));
  }
  /// The storage's content. On the hub's executor.
  detail::content_access contents() noexcept { return detail::content_access(*this); }

  /// Sends a notice `{"name":json}` to whoever follows the channel and is in sync, here and at the hubs that are
  /// joined, in order with its messages. It is told live or not at all: those who are behind are told `missed`. On the
  /// hub's executor. `json` is a JSON text.
  void tell(std::string_view channel, std::string_view name, std::string_view json);
  /// The sessions that follow the channel at this hub. On the hub's executor; the pointers are good until it runs
  /// something else.
  std::vector<session*> followers(std::string_view channel) const {
    auto* log = channels.find(channel);
    return log ? log->sessions() : std::vector<session*>();
  }

  /// Who follows the channel, at all hubs that are joined; at most the first `max_presence_members` are named, and with
  /// `names` false nobody. On the hub's executor, on which `done` is called, possibly before this returns, and a second
  /// later at the latest. Errors: `not_found` (no rule gives the channel presence), `bad_request` (not a channel),
  /// `operation_aborted`.
  void presence(std::string_view channel, presence_handler done, bool names = true);
  /// How far each user has received and read the channel, private reads left out. On the hub's executor, on which
  /// `done` is called, possibly before this returns; never once the hub has stopped. Errors: `not_implemented` (the
  /// storage keeps no watermarks), the storage's.
  void watermarks(std::string_view channel, receipts_handler done) {
    receipts_.list(channel, {}, true, std::move(done));
  }
  /// Sets what is told, on the hub's executor, when a channel with presence has its first follower at this hub, and
  /// when it has had its last.
  void on_followed(std::function<void(std::string_view channel, bool followed)> f);

  /// From now on users whose last session ends stay present for `ms` milliseconds longer: those who were sent away come
  /// back within that time.
  void linger(std::int64_t ms) noexcept;

  /// Every session, streams and waiting polls. On the hub's executor; the pointers are good until it runs something
  /// else.
  std::vector<session*> sessions() const { return registry_.sessions(); }
  /// The sessions of one user, on all devices and transports.
  std::vector<session*> find(std::string_view user) const { return registry_.find(user); }
  /// What is done to a user's sessions at all hubs that are joined. Valid as long as the hub.
  all_nodes& everywhere() noexcept { return all_nodes_; }
  std::size_t session_count() const noexcept { return registry_.listed(); }
  /// Channels of which something is kept here: those that are followed, or were busy a moment ago.
  std::size_t channel_count() const noexcept { return channels.size(); }
  /// From now on devices of that service can name themselves (`device`), and are woken. Before the first connection.
  /// Throws `std::invalid_argument` where the storage keeps no device tokens, and for a second notifier of one service.
  void add_notifier(std::unique_ptr<detail::any_notifier> n);
  /// What became of waking devices; all 0 without a notifier.
  wake_counters wakes() const noexcept;
  /// Channels of which it is known who follows them.
  std::size_t channels_with_presence() const noexcept;
  /// How many bytes the hub holds for sessions, channels and the tails that are kept for who is behind: the tails to
  /// the byte, what the others take by the count of them. Connections that take more than a socket's (TLS, a stream of
  /// the host's) count with that, from when they are accepted.
  std::size_t memory_held() const noexcept {
    return channels.tail_bytes + channels.beside_bytes + registry_.listed() * bytes_per_session +
           subscriptions.size() * bytes_per_subscription + channels.size() * bytes_per_channel;
  }
  server_stats stats() const;

  // ---- for the parts that serve clients; all on the hub's loop ---------------------------------------------------

  /// Arms `t` for a time as `loop().now()` counts.
  void arm(detail::timer& t, std::int64_t due);
  /// Joins other hubs, in place of those that it was joined to. Before anything is followed.
  void join(std::unique_ptr<detail::any_broker> b) { channels.join(std::move(b)); }

  /// Gives whoever serves clients a slot, which it has until it leaves.
  void enter(session& s) { registry_.enter(s), ++counted.accepted; }
  void leave(session& s) noexcept { registry_.leave(s); }
  /// Where they stand.
  const detail::session_registry& registry() const noexcept { return registry_; }
  /// Opens a session; false when there are `max_sessions`. One that is not `listed` brings commands only.
  bool open(session& s, shared_grant g, std::string device, bool listed);
  void close(session& s);
  /// The session of that key, while it lives.
  session* find(session_key k) const noexcept { return registry_.find(k); }
  detail::receipts& watermarks() noexcept { return receipts_; }
  /// The session has another grant than `before`.
  void regranted(session& s, const shared_grant& before);

  /// A session that is about to be closed has ended as dead: what it was sent may never have arrived.
  void died(session& s) noexcept;
  /// Carries out a client's `device` command: `object` is its value. `not_implemented` without a notifier.
  void keep_device(session& s, std::string_view object, detail::device_handler done);
  /// Which devices are live is known to both from now on. Before a notifier is added.
  void share_devices(hub& other);

  /// Forgets what was requested for a subscriber that goes away.
  void forget(session& o) noexcept;
  /// Ends what is pending with `operation_aborted`; from now on publishing is an error. Idempotent.
  void stop();

  // The rooms behind, each with its own contract.
  detail::channel_table channels{*this};
  detail::loop_turn turn{*this};
  detail::subscriptions subscriptions{*this};
  detail::publisher publisher{*this};
  detail::eraser eraser{*this};
  detail::permission_expiry expiries{*this};

 private:
  friend class all_nodes;
  friend class detail::channel_table;
  friend class detail::eraser;
  friend class detail::history_reader;
  friend class detail::loop_turn;
  friend class detail::content_access;
  friend class detail::presence;
  friend class detail::publisher;
  friend class detail::receipts;
  friend class detail::subscriptions;
  friend class detail::waking;

  void tick();
  void set_alarm();
  // Once stopped the alarm is for connections that are closing; behind the last of them it must not hold the host's
  // loop.
  void rest() noexcept;

  std::int64_t alarm_ = -1;
  detail::session_registry registry_;
  detail::history_reader history_{*this};
  all_nodes all_nodes_{*this};
  std::unique_ptr<detail::presence> presence_;
  detail::receipts receipts_{*this};
  std::shared_ptr<detail::live_devices> devices_;
  std::unique_ptr<detail::waking> waking_;  // null until there is a notifier
};

namespace detail {

template <class Result>
void hub_core::forward(const std::shared_ptr<mailbox>& to, move_only_function<void(hub&, Result)> f, Result&& r) {
  to->put([to, f = std::move(f), r = std::move(r)]() mutable { f(*to->owner, std::move(r)); }, [] {});
}

template <class F>
auto hub_core::on_loop(F f) {
  return [box = mailbox_, f = std::move(f)]<class Result>(Result&& r) mutable {
    if (!box->closed() && box->here())
      return box->owner->guarded([&] { f(*box->owner, std::move(r)); });  // not the storage's to catch
    forward<std::remove_cvref_t<Result>>(box, std::move(f), std::move(r));
  };
}

template <class F>
void hub_core::read_storage(std::string_view channel, std::uint64_t since, read_limit limit, F f) {
  if (behind_) [[unlikely]] {
    return mailbox_->owner->everywhere().hold(
        [name = std::string(channel), since, limit, f = std::move(f)](hub& h, std::error_code ec) mutable {
          if (ec == operation_aborted()) return;
          if (ec) return f(h, read_result(ec));
          h.read_storage(name, since, limit, std::move(f));
        });
  }
  if (!reads_.next()) return storage_->read(channel, since, limit, on_loop(std::move(f)));
  storage_->read(channel, since, limit,
                 on_loop([began = loop_->precise(), f = std::move(f)](hub& h, read_result r) mutable {
                   h.end_watch(began, h.counted.reading);
                   f(h, std::move(r));
                 }));
}

}  // namespace detail
}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/all_nodes.ipp"
#include "hailwire/detail/hub/channel_table.ipp"
#include "hailwire/detail/hub/content_access.ipp"
#include "hailwire/detail/hub/erase.ipp"
#include "hailwire/detail/hub/expiry.ipp"
#include "hailwire/detail/hub/follow_all.ipp"
#include "hailwire/detail/hub/history.ipp"
#include "hailwire/detail/hub/hub_core.ipp"
#include "hailwire/detail/hub/presence.ipp"
#include "hailwire/detail/hub/publisher.ipp"
#include "hailwire/detail/hub/receipts.ipp"
#include "hailwire/detail/hub/session_impl.ipp"
#include "hailwire/detail/hub/subscriptions.ipp"
#include "hailwire/detail/hub/turn.ipp"
#include "hailwire/detail/hub/waking.ipp"
#include "hailwire/hub.ipp"
#endif
