// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because it is what hosts call, what connections call, and how the classes behind it work together.
//
// The hub: channels, sessions and the way between them. It knows a storage, maybe a broker, and sessions as
// subscribers; it knows nothing of sockets or transports, and belongs to one loop.
//
//   publish → storage.append (gives the offset) → broker → the channel's log → end of turn: flush → subscribers pull
//
// Each of its jobs is a class in detail/hub/: who is connected (session_registry), what comes from other threads
// (mailbox), what waits for the storage (pending_operations), whose permission ends (permission_expiry), which keys are
// known (idempotency_keys, key_budget), who is woken (waking), and the end of a turn (loop_turn). The hub says how they
// work together. Over 500 lines because each of these jobs is asked for here.
//
// One code path serves storages that answer at once and those that answer later: each operation is an object that is
// finished on the hub's loop, whoever completed it, and aborted when the hub stops first. Operations hold no pointers
// into the hub's tables across that wait; they find channel and session again by name and key.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/event_loop.hpp"
#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/hub/channel_rules.hpp"
#include "hailwire/detail/hub/fan_out.hpp"
#include "hailwire/detail/hub/idempotency_keys.hpp"
#include "hailwire/detail/hub/key_budget.hpp"
#include "hailwire/detail/hub/live_codec.hpp"
#include "hailwire/detail/hub/mailbox.hpp"
#include "hailwire/detail/hub/pending_operations.hpp"
#include "hailwire/detail/hub/permission_expiry.hpp"
#include "hailwire/detail/hub/presence.hpp"
#include "hailwire/detail/hub/principal.hpp"
#include "hailwire/detail/hub/receipts.hpp"
#include "hailwire/detail/hub/rules.hpp"
#include "hailwire/detail/hub/session_registry.hpp"
#include "hailwire/detail/hub/turn.hpp"
#include "hailwire/detail/hub/waking.hpp"
#include "hailwire/detail/storage/fingerprint.hpp"
#include "hailwire/log.hpp"
#include "hailwire/options.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/session.hpp"
#include "hailwire/stats.hpp"

namespace hailwire {

/// How many publishes and reads of history are carried out within one another, each by the handler of the one before.
/// Further ones run from the loop, so that a chain of any length fits on any stack; a level takes 1–3 KiB.
inline constexpr unsigned max_nesting = 16;

/// What a session takes at most that is a user's on two channels, which benchmarks/README.md measures, what it takes
/// for each channel that it follows, and what a channel takes whose name is of middle length, allocations counted.
inline constexpr std::size_t bytes_per_session = 448, bytes_per_subscription = 48, bytes_per_channel = 160;

/// What may be said of a publish beside its payload.
struct publish_options {
  std::string type = {};  ///< the publisher's own word, up to 64 bytes
  std::string key = {};  ///< idempotency key, 1–64 visible ASCII: the same key and payload are stored once. Empty: none
  /// Sent to whoever follows and is in sync, on all hubs, and stored nowhere: it has no offset. Not with a key.
  bool ephemeral = false;
};

/// Told once, on the hub's executor, what became of a publish. Without an error the position is where the message
/// stands.
using publish_handler = detail::move_only_function<void(std::error_code, position)>;
/// The same for a client's publish: where it stands, or what the client is told.
using client_publish_handler = detail::move_only_function<void(result<position>&&)>;

/// A stretch of history, oldest first.
struct history_result {
  std::error_code error;
  std::vector<message> messages;
  std::string epoch;
  bool more = false;  ///< there is more in the direction that was asked for
};
using history_handler = detail::move_only_function<void(history_result)>;

/// Which stretch of history: after an offset, before one, or, with neither, the newest.
struct history_query {
  std::uint64_t after = 0, before = 0;  ///< 0: not given
  std::size_t limit = 50;               ///< 1–1,000 messages; at most 1 MiB of them is returned
  std::string epoch = {};               ///< empty: whichever is
  bool from_start = false;              ///< `after` was given, and is 0
};

/// How following began.
struct follow_start {
  position at;            ///< before the first message that will follow
  bool recovered = true;  ///< nothing was lost; else `lost` says what
  detail::gap lost{};
  bool conflated = false;  ///< only the newest message of the channel matters
};

/// How following one of several channels began.
struct channel_start {
  std::string channel;
  follow_start start;
};

/// Appends a channel's entry as `open`, `followed` and the answer to `subscribe` carry it.
void append_entry(std::string& out, const follow_start& f);

/// The channels of a server and who follows them: publish, follow, read. The top of this file says how it works.
///
/// Threads: `publish` is safe from any thread; everything else belongs to the hub's executor. Handlers run there.
class hub final : public detail::log_source {
 public:
  using follow_handler = detail::move_only_function<void(result<follow_start>)>;
  using follow_all_handler = detail::move_only_function<void(result<detail::vector<channel_start>>&&)>;

  hub(detail::event_loop& l, std::unique_ptr<detail::any_storage> store, const options& o);
  HAILWIRE_INLINE ~hub() override;
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
                                        publish_handler done = {});

  /// Takes a message back, whoever published it: its type, payload and content are gone from the storage, its place is
  /// shown as erased from then on, and the log has an entry that says so, whose position `done` is given. An empty
  /// epoch in `at` means whichever it is. Taking back once more gives the first entry's position. Safe from any thread,
  /// and answers as `publish` does; further errors: `not_found` (no such message, or another epoch), `not_implemented`
  /// (the storage takes nothing back).
  [[nodiscard]] std::error_code erase(std::string channel, position at, publish_handler done = {});

  /// Reads a stretch of history, as a client's `history` does. On the hub's executor. Errors: `bad_request` (name,
  /// limit), `not_found` (another epoch), `overloaded` (`max_pending` operations wait already), the storage's.
  void history(std::string_view channel, history_query q, std::uint64_t floor, history_handler done);

  /// Sends a notice `{"name":json}` to whoever follows the channel and is in sync, here and at the hubs that are
  /// joined, in order with its messages. It is told live or not at all: those who are behind are told `missed`. On the
  /// hub's executor. `json` is a JSON text.
  void tell(std::string_view channel, std::string_view name, std::string_view json);
  /// The sessions that follow the channel at this hub. On the hub's executor; the pointers are good until it runs
  /// something else.
  std::vector<session*> followers(std::string_view channel) const {
    auto* log = find_log(channel);
    return log ? log->sessions() : std::vector<session*>();
  }

  /// Who follows the channel, at all hubs that are joined; at most the first `max_presence_members` are named, and with
  /// `names` false nobody. On the hub's executor, on which `done` is called, possibly before this returns, and a second
  /// later at the latest. Errors: `not_found` (no rule gives the channel presence), `bad_request` (not a channel),
  /// `operation_aborted`.
  void presence(std::string_view channel, presence_handler done, bool names = true) {
    presence_.ask(channel, names, std::move(done));
  }
  /// How far each user has received and read the channel, private reads left out. On the hub's executor, on which
  /// `done` is called, possibly before this returns; never once the hub has stopped. Errors: `not_implemented` (the
  /// storage keeps no watermarks), the storage's.
  void watermarks(std::string_view channel, receipts_handler done) {
    receipts_.list(channel, {}, true, std::move(done));
  }
  /// Sets what is told, on the hub's executor, when a channel with presence has its first follower at this hub, and
  /// when it has had its last.
  void on_followed(std::function<void(std::string_view channel, bool followed)> f) {
    presence_.on_followed = std::move(f);
  }

  /// From now on users whose last session ends stay present for `ms` milliseconds longer: those who were sent away come
  /// back within that time.
  void linger(std::int64_t ms) noexcept { presence_.linger(ms); }

  /// Every session, streams and waiting polls. On the hub's executor; the pointers are good until it runs something
  /// else.
  std::vector<session*> sessions() const { return registry_.sessions(); }
  /// The sessions of one user, on all devices and transports.
  std::vector<session*> find(std::string_view user) const { return registry_.find(user); }
  std::size_t session_count() const noexcept { return registry_.listed(); }
  /// Channels of which something is kept here: those that are followed, or were busy a moment ago.
  std::size_t channel_count() const noexcept { return logs_.size(); }
  /// From now on devices of that service can name themselves (`device`), and are woken. Before the first connection.
  /// Throws `std::invalid_argument` where the storage keeps no device tokens, and for a second notifier of one service.
  void add_notifier(std::unique_ptr<detail::any_notifier> n);
  /// What became of waking devices; all 0 without a notifier.
  wake_counters wakes() const noexcept { return waking_ ? waking_->counters() : wake_counters(); }
  /// Channels of which it is known who follows them.
  std::size_t channels_with_presence() const noexcept { return presence_.size(); }
  /// How many bytes the hub holds for sessions, channels and the tails that are kept for who is behind: the tails to
  /// the byte, what the others take by the count of them. Connections that take more than a socket's (TLS, a stream of
  /// the host's) count with that, from when they are accepted.
  std::size_t memory_held() const noexcept {
    return tail_bytes + beside_bytes + registry_.listed() * bytes_per_session + follows_ * bytes_per_subscription +
           logs_.size() * bytes_per_channel;
  }
  /// Publishes and reads of history that are not answered yet. Safe from any thread.
  std::size_t pending_count() const noexcept { return pending_.count(); }

  // ---- for the parts that serve clients; all on the hub's loop ---------------------------------------------------

  detail::event_loop& loop() const noexcept { return *loop_; }
  detail::timer_wheel& wheel() noexcept { return wheel_; }
  /// The way here from other threads, which outlives the hub.
  const std::shared_ptr<detail::mailbox>& post_box() const noexcept { return mailbox_; }
  const options& settings() const noexcept { return options_; }

  /// Arms `t` for a time as `loop().now()` counts.
  void arm(detail::timer& t, std::int64_t due);

  /// From now on both name the same epoch for a channel for which their storage names none. Before anything is
  /// followed.
  void share_epochs(const hub& other) noexcept { epoch_secret_ = other.epoch_secret_; }
  /// Joins other hubs, in place of those that it was joined to. Before anything is followed.
  void join(std::unique_ptr<detail::any_broker> b);

  /// Gives whoever serves clients a slot, which it has until it leaves.
  void enter(session& s) { registry_.enter(s), ++counted.accepted; }
  void leave(session& s) noexcept { registry_.leave(s); }
  /// Where they stand.
  const detail::session_registry& registry() const noexcept { return registry_; }
  /// All who have entered, with a session or without.
  std::vector<session*> entered() const { return registry_.entered(); }
  /// Opens a session; false when there are `max_sessions`. One that is not `listed` brings commands only.
  bool open(session& s, shared_grant g, std::string device, bool listed);
  void close(session& s);
  /// The session of that key, while it lives.
  session* find(session_key k) const noexcept { return registry_.find(k); }
  /// The session of that id, while it lives.
  session* find_id(std::string_view id) const noexcept { return registry_.find_id(id); }
  detail::receipts& watermarks() noexcept { return receipts_; }

  /// Has the session follow a channel. The handler may be called before this returns, with `forbidden` when the
  /// channel was unfollowed first, and is never called once the session is closed. After it, `subscription::pending`
  /// has what comes.
  void follow(session& s, std::string_view channel, const start& from, bool named, follow_handler done) {
    follow(s, channel, from, named, false, std::move(done));
  }
  /// The same for several channels that it may follow, each from its element of `from`: all of them or, with an error,
  /// none. Nothing of any of them comes before the handler was called.
  void follow_all(session& s, detail::vector<std::string> channels, const cursor& from, follow_all_handler done);
  bool unfollow(session& s, std::string_view channel);
  detail::subscription* find(session& s, std::string_view channel) const noexcept;

  /// The session has another grant than `before`.
  void regranted(session& s, const shared_grant& before);
  /// How long a permission still holds, in milliseconds: not above 0 when it has ended, `INT64_MAX` when it never does.
  std::int64_t left(const shared_grant& g) const noexcept;
  bool ended(const shared_grant& g) const noexcept { return left(g) <= 0; }
  /// From now on the session is told before its permission ends, and is ended with it. For streams; polls are not held
  /// so long.
  void watch_expiry(session& s) { expiries_.watch(s); }
  std::size_t expiring_count() const noexcept { return expiries_.size(); }

  /// The prefetch hint for a coming publish: where its channel is looked up. Among thousands of channels that take
  /// turns each has left the processor's caches since its last message, so its memory is asked for before there is work
  /// for it: by `prefetch`, and once more by `prefetch_entry`.
  struct prefetch_hint {
    std::uint64_t hash = 0;
    detail::any_storage::place stored = {};
  };
  prefetch_hint prefetch(std::string_view channel) const noexcept;
  void prefetch_entry(const prefetch_hint& at) const noexcept;

  /// The same of one that need not be in use.
  const detail::channel_settings& settings_of(std::string_view channel) const noexcept { return rules_.of(channel); }
  /// What holds for a channel. Valid as long as the hub.
  const detail::channel_settings& settings_of(std::string_view channel, const prefetch_hint& at) {
    return rules_.of(channel, at.hash, loop_->now());
  }

  /// A client's publish: authorized and offered to hooks by the caller. `checked`: the payload is known to be what it
  /// says.
  void publish_for(session& s, std::string&& channel, const prefetch_hint& at, payload&& p, publish_options&& o,
                   bool checked, client_publish_handler&& done);

  /// A client's `erase`; `allowed` is asked about the message before anything is done, and says why not.
  using erase_check = detail::move_only_function<std::optional<failure>(session&, const message&)>;
  void erase_for(session& s, std::string&& channel, position&& at, erase_check&& allowed,
                 client_publish_handler&& done);

  /// A session that is about to be closed has ended as dead: what it was sent may never have arrived.
  void died(session& s) noexcept {
    if (waking_) guarded([&] { waking_->died(s); });
  }
  /// Carries out a client's `device` command: `object` is its value. `not_implemented` without a notifier.
  void keep_device(session& s, std::string_view object, detail::waking::device_handler done);
  /// Which devices are live is known to both from now on. Before a notifier is added.
  void share_devices(hub& other);

  /// For how many seconds an idempotency key of somebody with this grant is kept at least; 0: it means nothing.
  static std::int64_t keys_kept(const shared_grant& g) noexcept {
    return detail::principal(g) ? key_lifetime_ms / 1000 : 0;
  }

  /// Has `subscriber::wake(nullptr)` called at the end of this turn.
  void request_wake(session& o) noexcept { turn_.request_wake(o); }
  /// Has `subscriber::settle` called at the end of this turn, after all flushing.
  void request_settle(session& o) noexcept { turn_.request_settle(o); }
  /// Forgets requests of a subscriber that goes away.
  void forget(session& o) noexcept;

  /// Ends what is pending with `operation_aborted`; from now on publishing is an error. Idempotent.
  void stop();
  bool stopped() const noexcept { return stopped_; }
  /// Where it is told what goes wrong, here and by what handlers throw: that goes no further, so that the rest of a
  /// turn is not lost by it.
  detail::logger& log() noexcept { return log_; }
  const detail::logger& log() const noexcept { return log_; }

  /// What was counted, by the hub and by those who serve its clients; `stats` adds how everything stands.
  server_stats counted;
  server_stats stats() const;

  std::string printed(session_key k) const { return registry_.id_of(k); }

 private:
  friend class detail::loop_turn;
  friend class detail::waking;
  friend class detail::presence;
  friend class detail::receipts;
  struct publish_op;
  using kept_keys = detail::idempotency_keys<detail::intrusive_ptr<publish_op>>;

  // A publish on its way. It becomes an operation only where it has to wait, which is seldom.
  struct publishing {
    std::string channel;
    publish_handler done;         // the host's, or
    client_publish_handler told;  // a client's
    prefetch_hint at;             // of the channel
    message content = {};
    kept_keys::key* key = nullptr;           // set when the hub keeps it, and this is the first that comes with it
    detail::key_budget::charge charge = {};  // for its key
    const session* by = nullptr;             // who publishes an ephemeral message
    bool counted = false;                    // as pending, though it is no operation: it came from another thread
  };
  struct publish_op final : detail::operation {
    publish_op(hub& h, publishing&& p) : owner(&h), what(std::move(p)) {}
    void finish(std::error_code ec, position p);
    void abort() override { finish(operation_aborted(), {}); }
    hub* owner;
    publishing what;
    bool over = false;
  };
  struct history_op final : detail::operation {
    explicit history_op(hub& h) : owner(&h) {}
    void finish(history_result r);
    HAILWIRE_INLINE void abort() override;
    hub* owner;
    std::string channel;
    history_query query;
    std::uint64_t floor = 1;
    std::size_t tried = 0;
    history_handler done;
  };

  struct erase_op;

  template <class F>
  void guarded(F f) noexcept {
    log_.guarded("a handler", std::move(f));
  }
  // Tells of an operation of the storage's that has failed, but for what is its publisher's own fault.
  void storage_failed(std::string_view what, detail::log_rate& rate, std::string_view channel,
                      const std::error_code& ec, const std::exception_ptr& cause) const noexcept;
  void append_failed(std::string_view channel, const std::error_code& ec, const std::exception_ptr& cause) noexcept {
    storage_failed("an append to", append_failures_, channel, ec, cause);
  }
  // Every read of a channel comes through here: what went wrong is logged, and JSON that another program wrote into the
  // storage with raw line breaks gets spaces in their place, because a line break would end a line of an event stream.
  void take_read(std::string_view channel, read_result& r);
  void publish_failed(std::string_view channel, const std::error_code& ec) noexcept;
  // Tells of a storage that does not count by ones: it gave, or left out, what lies behind `head`.
  HAILWIRE_INLINE void disorder(std::string_view channel, std::uint64_t head, std::uint64_t next) noexcept override;
  // Within how many of its own calls the hub is.
  struct nested {
    explicit nested(unsigned& depth) noexcept : of(++depth) {}
    nested(const nested&) = delete;
    ~nested() { --of; }
    unsigned& of;
  };
  // Behind a publish that waits for the loop the next ones wait too, so that their order is kept.
  bool nests_too_deep() const noexcept { return nesting_ >= max_nesting || put_off_; }

  // Puts `f` with the result that another thread has for it, to be run with the hub, or not at all.
  template <class Result>
  static void forward(const std::shared_ptr<detail::mailbox>& to, detail::move_only_function<void(hub&, Result)> f,
                      Result&& r) {
    to->put([to, f = std::move(f), r = std::move(r)]() mutable { f(*to->owner, std::move(r)); }, [] {});
  }
  // The beginning of what is to be measured; 0 where it is not.
  std::int64_t begin_watch(detail::sampler& by) const noexcept { return by.next() ? loop_->precise() : 0; }
  void end_watch(std::int64_t since, duration_histogram& of) const noexcept {
    if (since) of.add(loop_->precise() - since);
  }
  // A storage's handler: runs f(hub, result) on the loop, or never once the hub has stopped.
  template <class F>
  auto on_loop(F f) {
    return [box = mailbox_, f = std::move(f)]<class Result>(Result&& r) mutable {
      if (!box->closed() && box->here())
        return box->owner->guarded([&] { f(*box->owner, std::move(r)); });  // not the storage's to catch
      forward<std::remove_cvref_t<Result>>(box, std::move(f), std::move(r));
    };
  }

  // Asks the storage, and runs f(hub, read_result) with its answer.
  template <class F>
  void read_storage(std::string_view channel, std::uint64_t since, read_limit limit, F f);
  void begin(publishing& what, payload&& p, publish_options&& o, std::string&& from, std::string&& scope, bool checked);
  void start(publishing&& what, payload&& p, publish_options&& o, std::string&& from, std::string&& scope,
             bool checked);
  detail::intrusive_ptr<publish_op> wait(publishing&& what);
  void stored(publishing& what, append_result&& r);
  void stored_later(publish_op& op, append_result&& r);
  // No key of this publish is kept after all.
  void uncharge(publishing& what) noexcept;
  void uncount(publishing& what) noexcept;
  void finish(publishing& what, std::error_code ec, position&& p);
  void settle_key(kept_keys::key& k, std::error_code ec, const position& p);
  void begin_erase(detail::intrusive_ptr<erase_op> op);
  void looked_at(const detail::intrusive_ptr<erase_op>& op, read_result r);
  void erased(erase_op& op, append_result&& r);
  void read_history(detail::intrusive_ptr<history_op> op);
  void history_read(const detail::intrusive_ptr<history_op>& op, read_result r);
  std::error_code check(const publishing& what, payload& p, const publish_options& o, bool checked);

  detail::channel_log* find_log(std::string_view channel) const noexcept { return find_log(channel, hash_of(channel)); }
  detail::channel_log* find_log(std::string_view channel, std::uint64_t hash) const noexcept {
    return logs_.find(hash, [&](const detail::channel_log& l) { return proto::same_bytes(l.name(), channel); });
  }
  detail::channel_log& obtain_log(std::string_view channel);
  void release_log(detail::channel_log& log) noexcept;
  template <class F>
  void ask_for(detail::channel_log& log, std::uint64_t since, read_limit limit, F f);
  void open_log(detail::channel_log& log, read_result& r);
  void send_ephemeral(publishing& what, payload&& p, publish_options&& o, std::string&& from);
  // With `held` it has nothing to pull when it has been told where it stands, until somebody lets it.
  void follow(session& s, std::string_view channel, const hailwire::start& from, bool named, bool held,
              follow_handler done);
  struct follow_group;
  void follow_held(const detail::intrusive_ptr<follow_group>& g, std::size_t i);
  void one_known(const detail::intrusive_ptr<follow_group>& g);
  void begin_follow(session& s, detail::channel_log& log);
  void end_follow(session& s, std::size_t i, bool at_once);
  // A channel that is to be followed has been read.
  void start_read(detail::channel_log& read, session_key asked, std::uint32_t serial, const hailwire::start& from,
                  std::uint64_t floor, bool held, read_result&& r, follow_handler& done);
  void began(session& s, detail::subscription& sub, const hailwire::start& from, std::uint64_t floor, bool held,
             read_result&& r, follow_handler& done);

  // log_source
  HAILWIRE_INLINE void load(detail::channel_log& log, detail::encoded_channel& l, std::uint64_t since) override;
  HAILWIRE_INLINE void fill(detail::channel_log& log) override;
  HAILWIRE_INLINE void reopen(detail::channel_log& log) override;
  void mark_dirty(detail::channel_log& log) override { turn_.mark_dirty(log); }
  HAILWIRE_INLINE void told(detail::channel_log& log, std::string_view bytes) override;

  // Something live-only for the hubs that are joined and follow the channel. It may be dropped.
  void tell_others(std::string_view channel, std::string_view bytes) noexcept;

  void tick();
  void set_alarm();
  // Once stopped the alarm is for connections that are closing; behind the last of them it must not hold the host's
  // loop.
  void rest() noexcept;
  std::uint64_t hash_of(std::string_view name) const noexcept { return detail::table_hash(secret_, name); }
  std::string own_epoch(std::string_view channel) const {
    return detail::epoch_of(detail::keyed_hash(epoch_secret_).add(channel).finish());
  }

  options options_;
  detail::channel_rules rules_{options_};
  detail::event_loop* loop_;
  std::unique_ptr<detail::any_storage> storage_;
  std::unique_ptr<detail::any_broker> broker_;
  std::uint64_t broker_id_ = 0;
  const bool announces_;  // the storage tells the others what was appended
  detail::timer_wheel wheel_;
  std::int64_t alarm_ = -1;
  detail::bits128 secret_ = detail::random_bits();        // of what is made of names, but for
  detail::bits128 epoch_secret_ = detail::random_bits();  // epochs
  detail::logger log_;
  std::shared_ptr<detail::mailbox> mailbox_;
  detail::pending_operations pending_;

  detail::intrusive_hash_table<detail::channel_log> logs_;  // owned
  detail::loop_turn turn_{*this};
  detail::session_registry registry_;
  std::uint32_t follow_serial_ = 0;
  std::size_t follows_ = 0;  // of all sessions
  detail::permission_expiry expiries_{*this};
  detail::presence presence_{*this};
  detail::receipts receipts_{*this};
  kept_keys keys_;
  detail::key_budget budget_{key_lifetime_ms};

  detail::log_rate append_failures_, read_failures_, publish_failures_, disorders_;
  detail::sampler turns_, appends_, reads_;
  std::shared_ptr<detail::live_devices> devices_;
  std::unique_ptr<detail::waking> waking_;  // null until there is a notifier
  bool stopped_ = false;
  unsigned nesting_ = 0;
  std::size_t put_off_ = 0;  // publishes of this thread that wait for the loop, because they nested too deep
};

}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/erase.ipp"
#include "hailwire/detail/hub/expiry.ipp"
#include "hailwire/detail/hub/follow_all.ipp"
#include "hailwire/detail/hub/history.ipp"
#include "hailwire/detail/hub/hub_impl.ipp"
#include "hailwire/detail/hub/presence.ipp"
#include "hailwire/detail/hub/receipts.ipp"
#include "hailwire/detail/hub/session_impl.ipp"
#include "hailwire/detail/hub/waking.ipp"
#include "hailwire/hub.ipp"
#endif
