// SPDX-License-Identifier: BSL-1.0
#pragma once

// What all connections of a server share: its options, its hub, the transports it links, the host's hooks. How a
// command is carried out, which is the same on every transport, is in commands.ipp.

#include <algorithm>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/connection/admission.hpp"
#include "hailwire/detail/connection/draining.hpp"
#include "hailwire/detail/connection/http_exchange.hpp"
#include "hailwire/detail/connection/trusted_proxies.hpp"
#include "hailwire/detail/hub/hook_replies.hpp"
#include "hailwire/detail/hub/senders.hpp"
#include "hailwire/hooks.hpp"
#include "hailwire/hub.hpp"
#include "hailwire/proto/command.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::detail {

class connection;

/// What a connection needs for requests that a poll serves.
struct poll_table {
  const proto::encoding* messages;
  const proto::encoding* signals;  ///< for clients that ask for no payloads
  void (*begin)(http_exchange&);
  /// Answers if there is something to tell, or `at_end` in any case; whether it has.
  bool (*answer)(http_exchange&, bool at_end);
};

/// The transports of a server, and what serves polls if one of them polls. Nothing else names that, so a program
/// without such a transport does not contain it. Made by `link_of`.
struct linkage {
  std::span<const transport::entry* const> transports;
  const poll_table* polls;
};

/// A path of the host's own frames; `*` is every path.
struct frame_route {
  std::string path;
  frame_handlers handlers;
  result<transport::accepted> (*begin)(const transport::live_request&, const std::vector<std::string>&, std::size_t);
  bool serves(std::string_view asked) const noexcept { return path == "*" || path == asked; }
};

/// A moment of a loop's clock in 32 bits: right for whoever asks within 24 days of it, which is how long the heartbeat
/// and the time limits can be.
class moment {
 public:
  moment() = default;
  explicit moment(std::int64_t t) noexcept : low_(static_cast<std::uint32_t>(t)) {}
  std::int64_t at(std::int64_t now) const noexcept {
    return now + static_cast<std::int32_t>(low_ - static_cast<std::uint32_t>(now));
  }
  bool after(moment other) const noexcept { return static_cast<std::int32_t>(low_ - other.low_) > 0; }

 private:
  std::uint32_t low_ = 0;
};

/// What a flush brings to thousands of polls that wait on one channel is the same answer for each. The newest one is
/// kept here.
struct shared_answer {
  /// A longer one is not copied but gathered from shared bytes.
  static constexpr std::size_t most = 16 * 1024;

  const char* messages = nullptr;  // in the chunk that was being flushed
  std::size_t size = 0;
  std::int64_t now = 0;
  std::uint64_t head = 0;
  std::string channel, epoch;  // a host's storage may have one epoch for all channels
  int minor = 1;
  bool keep = true;
  std::string whole;
};

/// Carries out commands, which are the same on every transport: who may, what the hooks say, then the hub. A hook that
/// throws ends the session.
class command_dispatcher {
 public:
  explicit command_dispatcher(server_state& server) noexcept : server_(server) {}
  command_dispatcher(const command_dispatcher&) = delete;
  command_dispatcher& operator=(const command_dispatcher&) = delete;

  /// Told what became of a command: the JSON text of its `ok`, or the error.
  using command_done = move_only_function<void(result<std::string>)>;

  /// Carries out a command that has been read. `done` is called at most once, maybe before this returns, maybe after
  /// the session is gone.
  void run(session& s, proto::command&& c, command_done done);
  /// A client's publish by a command, or by a frame or a plain POST; `checked`: the payload is known to be valid.
  void publish(session& s, proto::command&& c, client_publish_handler&& done);
  void publish_content(session& s, proto::command&& c, client_publish_handler&& done);
  void publish(session& s, std::string&& channel, payload&& p, publish_options&& o, bool checked,
               client_publish_handler&& done);

 private:
  void publish(session& s, std::string&& channel, const prefetch_hint& at, payload&& p, publish_options&& o,
               bool checked, client_publish_handler&& done);
  void subscribe(session& s, proto::command&& c, command_done done);
  void subscribe_all(session& s, vector<std::string>&& channels, const cursor& from, command_done done);
  void history(session& s, proto::command&& c, command_done done);
  void erase(session& s, proto::command&& c, command_done done);
  void presence(session& s, proto::command&& c, command_done done);
  void mark(session& s, proto::command&& c, command_done done);
  void receipts(session& s, proto::command&& c, command_done done);
  void renew(session& s, std::string_view token, command_done done);
  void ask_host(session& s, const proto::command& c, command_done done);
  bool forbidden(session& s, std::string_view channel, command_done& done);
  template <class Done>
  bool refused(session& s, bool (session::*may)(std::string_view) const, std::string_view channel, Done& done);

  server_state& server_;
  const std::shared_ptr<const void> alive_ = std::make_shared<char>();  // a host may keep a reply for longer than us
};

class server_state {
 public:
  server_state(event_loop& l, std::unique_ptr<any_storage> store, const options& o, const linkage& linked);
  server_state(const server_state&) = delete;
  server_state& operator=(const server_state&) = delete;

  const options settings;
  const std::span<const transport::entry* const> transports;
  const poll_table* const polls;
  const proxies behind;
  admission door;
  address_count from_address;            // sessions, by their slot, when there is a limit
  address_count connections_of_address;  // connections, likewise
  sender_table senders;
  shared_answer alike;
  std::map<std::string, connection*> uploads;  // who writes which just now
  hooks host;
  vector<std::unique_ptr<frame_route>> frame_routes;
  bool stopping = false;
  draining drain{*this};
  const pending_io nothing{*this, true};  ///< of all connections on which nothing is unfinished
  hub messages;
  command_dispatcher commands{*this};

  std::int64_t now() const noexcept { return messages.loop().now(); }
  /// All there are; the pointers are good until one of them is destroyed.
  vector<connection*> connections() const;
  /// Ends what is pending, at the storage and at the host.
  void stop();
  /// Whether it is to take no new sessions, and to keep no connection longer than a request.
  bool leaving() const noexcept { return stopping || drain.begun(); }
  /// Calls `f` when no connection is left, at once if there is none.
  void when_empty(move_only_function<void()> f);
  /// A connection has gone.
  void left() noexcept {
    if (!emptied_.empty() && messages.registry().connections() == 0) [[unlikely]]
      tell_emptied();
  }
  /// Ends all of them now, for the server's own end.
  void destroy_all();
  void close(session& s);

  /// Connections that are busy in turns share some blocks of memory, so that a message costs no allocation.
  std::unique_ptr<pending_io> take_spare();
  void give_spare(std::unique_ptr<pending_io> block) noexcept;
  /// Gives back memory that is more than worth keeping, of a block without own bytes.
  void trim(pending_io& block) const noexcept;

  const logger& log() const noexcept { return messages.log(); }
  /// Calls host code; false when it threw, and that is logged.
  template <class F>
  bool guarded(std::string_view hook, F f) const noexcept {
    return log().guarded(hook, std::move(f));
  }
  /// Tells the log, where it hears so much, what a client did wrong: `event` is about `c` or, where one is open, its
  /// session.
  [[gnu::cold]] void note(std::string_view event, const connection& c, const std::error_code& code,
                          std::string_view text = {}) const noexcept;
  /// An error is about to be told to a client.
  void refused(const connection& c, const failure& why) noexcept {
    ++messages.counted.refused[static_cast<std::size_t>(why.code)];
    note("refused", c, why.code, why.text());
  }
  /// A session of this transport has begun, or is over.
  template <class Transport>
  void began(Transport by) noexcept {
    if (auto* t = counted(by)) ++t->opened, ++t->open;
  }
  template <class Transport>
  void over(Transport by) noexcept {
    if (auto* t = counted(by)) --t->open;
  }
  /// Whether the end of the session that begins is to be told to the log.
  bool access_due() noexcept {
    if (!settings.access_log_every || ++accesses_ < settings.access_log_every) return false;
    accesses_ = 0;
    return log().hears(log_level::info);
  }
  server_stats stats() const {
    server_stats out = messages.stats();
    out.draining = leaving();
    return out;
  }
  /// A client is served as if it were nobody, because no hook says who it is; told once.
  [[gnu::cold, gnu::noinline]] HAILWIRE_INLINE void no_authorizer() noexcept;

  /// Why a client may not; nothing when it may. What a grant allows may be a predicate, which is host code.
  template <class Allowed>
  std::optional<errc> refusal(const Allowed& by, bool (Allowed::*may)(std::string_view) const,
                              std::string_view channel) const noexcept {
    bool yes = false;
    if (!guarded("authorizer", [&] { yes = (by.*may)(channel); })) return errc::internal;
    return yes ? std::nullopt : std::optional(errc::forbidden);
  }
  /// Whether an authorizer's answer can be used; the log is told what is wrong with one that cannot.
  bool sound(const shared_grant& g) const noexcept;

  /// Counts a command of a session: 0, or, where there were too many, after how many milliseconds there is room.
  std::int64_t count_command(session& s);

  /// For a hook that may answer later: it has `options::hook_time` for that.
  template <class Answer, class F>
  reply_to<Answer> reply_for(std::string_view hook, bool at_once, F f) {
    return at_once ? reply_to<Answer>(std::move(f)) : replies_.make<Answer>(hook, std::move(f));
  }

  /// The `Date` line of an answer (RFC 9110, section 6.6.1), made once a second.
  std::string_view date();

 private:
  [[gnu::cold]] void tell_emptied() noexcept;
  server_stats::transport* counted(const transport::entry* by) noexcept {
    for (std::size_t i = 0; i < transports.size(); ++i)
      if (transports[i] == by) return &messages.counted.transports[i];
    return nullptr;
  }
  server_stats::transport* counted(std::string_view transport) noexcept {
    for (auto& t : messages.counted.transports)
      if (t.name == transport) return &t;
    return nullptr;
  }

  vector<std::unique_ptr<pending_io>> spares_;
  vector<move_only_function<void()>> emptied_;
  hook_replies replies_{messages};
  std::size_t accesses_ = 0;
  bool told_no_authorizer_ = false;
  std::int64_t date_second_ = -1;
  std::string date_line_;
};

/// One connection's unfinished work, and its way to the server. An idle connection points to `server_state::nothing`,
/// which all idle connections share and nobody writes to: so one pointer serves for both.
class pending_slot {
 public:
  explicit pending_slot(server_state& s) noexcept : at_(&s.nothing) {}
  pending_slot(const pending_slot&) = delete;
  pending_slot& operator=(const pending_slot&) = delete;

  server_state& server() const noexcept { return *at_->server; }
  const pending_io* operator->() const noexcept { return at_; }
  bool any() const noexcept { return !at_->common; }
  /// To be written to.
  pending_io& busy();
  /// Gives back what is not needed now.
  void rest() noexcept;
  /// Forgets all of it. To be called while the server_state is there.
  void drop() noexcept;

 private:
  pending_io& own() noexcept { return const_cast<pending_io&>(*at_); }
  std::unique_ptr<pending_io> take() noexcept;
  const pending_io* at_;
};

/// The linkage of a server with these transports, in the order in which they are asked.
template <transport::transport_type... Transports>
class link_of {
  static constexpr const transport::entry* entries_[] = {&transport::entry_of<Transports>...};
  static constexpr const poll_table* polls() noexcept {
    if constexpr ((transport::polling<Transports> || ...))
      return &http_exchange::polling;
    else
      return nullptr;
  }

 public:
  static constexpr linkage value{entries_, polls()};
};
template <transport::transport_type... Transports>
inline constexpr const linkage& linked = link_of<Transports...>::value;

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/connection/commands.ipp"
#include "hailwire/detail/connection/server_state.ipp"
#endif
