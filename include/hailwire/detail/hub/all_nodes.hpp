// SPDX-License-Identifier: BSL-1.0
#pragma once

// Commands over all nodes: what a host does to the sessions of a user at whatever hub they are.
//
// `close`, `revoke` and `send` are messages of a channel of the hubs' own, which no client can form the name of. The
// storage keeps them like any others, so a hub that was cut off reads what it has missed. Each command has a number of
// its own by which a hub knows what it has carried out: it may hear a command twice, out of order, or once more when
// the log has a new epoch.
//
// A hub that may have missed commands is behind. It is from the moment on at which its broker says that it hears
// nothing of that channel any more, or that something may have been missed, until it has read up to the channel's head.
// While it is behind it serves nothing that is new: publishes and reads wait, for `hold_ms` at most, and what other
// hubs publish is read from the storage afterwards. So whoever was banned while the hub was cut off sees nothing that
// came behind the ban. A hub whose cursor the log has left behind cannot know whom it should have closed, and closes
// everybody, who may come back and are authorized anew.
//
// `find` is a question: it is told live or not at all, asked once more at half time, and answered by each hub that
// hears it. Hubs know one another by the greeting with which each begins; one that has said nothing for a minute, and
// does not answer, is named as silent once more and then forgotten.
//
// All of it but the host's calls belongs to the hub's thread.

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/hub/live_codec.hpp"
#include "hailwire/error.hpp"
#include "hailwire/storage_concept.hpp"

namespace hailwire {

class hub;
class session;

/// A session at one of the nodes.
struct found_session {
  std::string node;       ///< `options::node` of its server
  std::string id;         ///< `session::id`
  std::string device;     ///< empty: not said
  std::string transport;  ///< `session::transport`
};

/// Where a user is.
struct find_result {
  std::error_code error;                ///< `bad_request` (not a user), `operation_aborted`
  std::vector<found_session> sessions;  ///< of each hub at most `max_found_sessions`
  std::vector<std::string> silent;      ///< nodes that were there and have not answered in time
};
using find_handler = detail::move_only_function<void(find_result)>;
inline constexpr std::size_t max_found_sessions = 1000;

namespace detail {

class channel_table;
class hub_core;
class publisher;

/// The hubs' own channel of commands, on which they greet one another too.
inline constexpr std::string_view commands_channel{"\0everywhere", 11};

/// How many commands are kept for hubs that are cut off, and of how many a hub knows that it has carried them out.
inline constexpr std::size_t commands_kept = 4096;
/// How long what a client or the host asks for waits for a hub that is behind, before it is `overloaded`: as long as
/// for a storage that is away.
inline constexpr std::int64_t hold_ms = 2000;
/// When a hub that could not read the commands tries again.
inline constexpr std::int64_t read_again_ms = 250;
/// How old a command may be that a hub carries out which has begun since: by so much clocks of machines differ.
inline constexpr std::int64_t clocks_differ_ms = 10'000;
/// After how long a silence a hub that does not answer is forgotten.
inline constexpr std::int64_t forget_hub_ms = 60'000;

}  // namespace detail

/// What a host does to a user's sessions at all nodes: at all hubs that are joined by a broker, of this process and of
/// others, those of a `threaded_server` too. Of a server that is joined to no other it is the server itself.
///
/// `close`, `revoke` and `send` answer as `hub::publish` does: at once `overloaded` or `operation_aborted`, and then
/// nothing was done; else `done` is called once, on the hub's executor. Without an error the command is stored: nodes
/// that are joined carry it out within a moment, and one that is cut off before it serves anything further. Sessions
/// that begin later are not affected: whoever is not to come back has to be refused by the authorizer, before. With
/// `bad_request` (a name, a code, not JSON), `too_large` or the storage's error nothing was done, but after `timeout`
/// and `internal` it is unknown; each may be repeated, only `send` is heard twice then.
///
/// Threads: safe to call from any.
class all_nodes {
 public:
  using command_handler = detail::move_only_function<void(std::error_code)>;

  explicit all_nodes(hub& h);
  all_nodes(const all_nodes&) = delete;
  all_nodes& operator=(const all_nodes&) = delete;

  /// Ends every session of the user as `session::close` does: 4403 has clients stay away.
  [[nodiscard]] std::error_code close(std::string_view user, std::uint16_t code = 1000, std::string_view reason = {},
                                      command_handler done = {});
  /// Takes the channel away from every session of the user, as `session::revoke` does.
  [[nodiscard]] std::error_code revoke(std::string_view user, std::string_view channel, command_handler done = {});
  /// Sends a notice `{"name":json}` to every session of the user, as `session::send` does.
  [[nodiscard]] std::error_code send(std::string_view user, std::string_view name, std::string_view json,
                                     command_handler done = {});
  /// Where the user is. `done` is called on the hub's executor, when every node that is known has answered and
  /// `within` that time at the latest. Never called where this returns an error.
  [[nodiscard]] std::error_code find(std::string_view user, std::chrono::milliseconds within, find_handler done);

  /// The names of the other hubs' nodes, as far as they are known. On the hub's executor.
  std::vector<std::string> others() const;
  /// Whether commands may have been missed, because the broker hears nothing or the log was not read yet: nothing new
  /// is served meanwhile. For a health check. On the hub's executor.
  bool behind() const noexcept;

 private:
  friend class hub;
  friend class detail::channel_table;
  friend class detail::hub_core;
  friend class detail::publisher;
  enum class word : std::uint8_t { close = 1, revoke, send, hello, alive, ended, ask, answer };
  struct command;
  struct held {
    std::int64_t until;
    detail::move_only_function<void(hub&, std::error_code)> run;
  };
  struct other {
    std::string name;
    std::int64_t heard;
  };
  struct query {
    std::string user;
    std::int64_t until, ask_again;
    std::map<std::uint64_t, std::vector<found_session>> staged;  // of hubs whose answers are not whole
    std::set<std::uint64_t> awaited;
    find_result found;
    find_handler done;
  };
  struct alarm final : detail::timer {
    explicit alarm(all_nodes& a) noexcept;
    HAILWIRE_INLINE void expire(std::int64_t now) override;
    HAILWIRE_INLINE void broken() noexcept override;
    all_nodes* of;
  };

  // ---- what the hub calls

  /// A broker is there.
  void joined();
  void stop() noexcept;
  /// Runs `f(hub, error)` when the hub is not behind any more, or with `overloaded` when that takes too long, or with
  /// `operation_aborted`.
  void hold(detail::move_only_function<void(hub&, std::error_code)> f);
  /// Something of the channel was not handed on, because the hub is behind.
  void skip(std::string_view channel, bool live);
  /// What the broker says of the commands' channel, or of this hub's own.
  void heard(std::string_view epoch, const message& m);
  void heard_live(std::string_view bytes);
  void may_have_missed();
  void cut();

  // ---- commands

  std::error_code start(std::string bytes, command_handler done);
  void begin(detail::intrusive_ptr<command> c);
  void stored(command& c, append_result&& r);
  void carry_out(const message& m);
  void carry_out(std::string_view bytes);
  void read_on();
  void was_read(read_result r, bool facts);
  void missed_some();
  void is_current();

  // ---- find

  void begin_find(query q);
  void ask(std::uint64_t number, const query& q);
  void answer(std::uint64_t asker, std::uint64_t number, std::string_view user);
  void heard_answer(detail::live_reader& in);
  void finish(std::map<std::uint64_t, query>::iterator at);
  void collect(std::string_view user, std::vector<found_session>& out) const;
  void meet(std::uint64_t id, std::string_view name);
  void tell(std::string_view channel, const detail::live_writer& w) noexcept;
  void greet();
  static std::string name_of(std::uint64_t id);

  std::int64_t now() const noexcept;
  void arm();
  void tick(std::int64_t now);

  hub* hub_;
  const std::uint64_t id_;
  const std::string node_;
  bool joined_ = false, stopped_ = false;
  bool cut_ = false, reading_ = false, again_ = false;
  bool open_ = false;  // epoch and place are known
  std::string epoch_;
  std::uint64_t at_ = 0;
  std::int64_t read_at_ = INT64_MAX;  // when reading is tried again
  std::int64_t began_;                // Unix milliseconds
  std::unordered_set<std::uint64_t> done_;
  std::deque<std::uint64_t> done_order_;
  std::deque<held> held_;
  std::map<std::string, bool, std::less<>> skipped_;  // live things too
  std::map<std::uint64_t, other> others_;
  std::map<std::uint64_t, query> queries_;
  std::uint64_t queries_begun_ = 0;
  alarm alarm_{*this};
};

}  // namespace hailwire
