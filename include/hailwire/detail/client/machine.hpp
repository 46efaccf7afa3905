// SPDX-License-Identifier: BSL-1.0
#pragma once

// A client without a socket and without a clock: what hailwire's protocol asks of whoever follows channels.
//
// Theory of operation. A client is a cursor over some channels, and a *link* is one attempt to move that cursor
// forward: a WebSocket, an event stream, a row of polls. At most one link lives at a time. Whatever ends it, the next
// one begins at the cursor, on the same transport or another: that is all there is to resuming. The cursor is built
// here from what was seen (`open`, `gap`, messages, the cursor of a poll), so a lost answer is read again, and a
// message that comes twice is dropped because its offset is not above the last one of its channel in that epoch. It
// moves when the application has taken the message, not before: one whose handler throws comes again.
//
// States: connecting → following → waiting → connecting …, and stopped. A link ends in one of three ways: `lose` (come
// back after a while), `fall` (this transport does not get through: the next of the list), `stop` (do not come back).
// After `climb` on a lesser transport the first is tried again.
//
// Three *lanes*, which are connections to the server: links follow over the first; over the second the commands of a
// link that cannot carry them are posted; over the third content is fetched.
//
// The definitions stand in three halves of this header, by what they do: machine_life.hpp (links, time, permission),
// machine_objects.hpp (what comes in), machine_commands.hpp (what the host asks for).
//
// Turns. Whatever comes in, from the driver or the host, is one turn. Links that end within it, ends of commands and
// the news of the cursor are kept until its end (`settle`), when nothing of the machine is under way: there the host's
// functions may do anything, `close` included. Message handlers run within the turn; whoever calls one asks afterwards
// whether its link still lives.
//
// Time: `now` is in milliseconds of one clock that runs while the machine sleeps, so that what was due meanwhile is due
// at once: keys of publishes, heartbeats.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/base/event_loop.hpp"
#include "hailwire/detail/client/answers.hpp"
#include "hailwire/detail/client/commands.hpp"
#include "hailwire/detail/client/link.hpp"
#include "hailwire/detail/client/places.hpp"
#include "hailwire/detail/net/backoff.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/envelope.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/proto/url.hpp"

namespace hailwire::detail {

/// One client. All functions are for one thread at a time.
class client_machine {
 public:
  static constexpr std::int64_t never = event_loop::no_alarm;
  using state = client_status::state;

  client_machine(proto::url at, client_options o, std::span<const client_transport* const> ladder,
                 std::unique_ptr<client_errands> (*make_errands)(client_machine&, client_lane))
      : url_(std::move(at)),
        options_(shared(std::move(o))),
        ladder_(ladder),
        make_errands_(make_errands),
        commands_(options_->max_pending, options_->max_pending_bytes, options_->unanswered) {}
  virtual ~client_machine() = default;
  client_machine(const client_machine&) = delete;
  client_machine& operator=(const client_machine&) = delete;

  // ---- what a driver does

  virtual std::int64_t now() const noexcept = 0;
  virtual void random(std::span<unsigned char> out) = 0;
  /// Connects a lane to `to`; answered by `lane_connected` or `lane_ended`, in a later turn.
  virtual void connect(client_lane lane, const proto::url& to) = 0;
  /// Sends bytes on a lane that is connected.
  virtual void write(client_lane lane, std::string_view bytes) = 0;
  /// Ends a lane, connected or not; what was written leaves if it can. Nothing is heard of it any more.
  virtual void disconnect(client_lane lane) = 0;
  /// Calls `alarm` at that time or a little later; replaces an earlier one. `never`: takes it back.
  virtual void wake_at(std::int64_t at) = 0;
  /// Calls `settle` in a later turn.
  virtual void settle_later() = 0;
  /// The client has stopped for good, with this error.
  virtual void ended(const std::error_code& /*why*/) {}

  // ---- what a driver tells

  void lane_connected(client_lane lane);
  void lane_received(client_lane lane, std::span<char> bytes);
  /// The server has ended the lane in order (no error), it broke, or it could not be made.
  void lane_ended(client_lane lane, std::error_code why, std::string_view text = {});
  void alarm();
  /// While the driver does not read, because the application takes nothing, silence means nothing.
  void hold(bool yes);
  /// The cursor is told anew, though nothing has come in.
  void cursor_moved() {
    places_.moved(true);
    settle_later();
  }
  /// Tells what the last turns brought. Called by the driver when `settle_later` asked for it.
  void settle() {
    turn([] {});
  }

  // ---- what a host does

  client_handlers on;

  /// Begins to connect.
  void start();
  /// Ends for good: what is unanswered ends with `operation_aborted`.
  void close() {
    turn([&] { stop("closed"); }, true);
  }

  /// Follows one channel more, from `since`. No channel twice: false, and `what` says why, for a name that is none.
  bool follow(std::string_view channel, hailwire::start since = {});
  /// Follows a channel no longer: no message of it comes after this call.
  void unfollow(std::string_view channel);
  void publish(std::string_view channel, const payload& data, const client_publish_options& how, command_end end);
  /// Any other command: `name` with `body`, a JSON object.
  void request(client_command::kind what, std::string_view name, std::string_view body, std::string_view channel,
               command_end end);

  /// One element a channel: where the application is, and where a later client would begin.
  std::string cursor() const {
    return cursor([](std::string_view) { return std::optional<position>(); });
  }
  /// The same, but for channels for which `instead` knows another place.
  template <class F>
  std::string cursor(F instead) const {
    return places_.cursor(std::move(instead));
  }
  std::vector<std::string> channels() const { return places_.names(); }
  client_status status() const {
    return {state_, ladder_[level_]->name, news_ ? std::string_view(news_->reason) : "",
            news_ ? std::string_view(news_->trouble) : "",
            std::chrono::milliseconds(state_ == state::waiting ? std::max<std::int64_t>(0, retry_at_ - now()) : 0)};
  }
  /// Fetches the payload of a message that came without it.
  void fetch(std::string_view channel, const position& at, fetch_end end);
  std::size_t pending() const noexcept { return commands_.size() + (fetching_ ? fetching_->row.size() : 0); }

  // ---- what links and the poster do

  const client_options& options() const noexcept { return *options_; }
  client_commands& commands() noexcept { return commands_; }
  /// What is to be fetched, in order; the first may be under way. Precondition: something was to be fetched once.
  std::vector<client_fetch>& fetches() noexcept { return fetching_->row; }
  void end_fetch(client_fetch f, client_error why, client_content what = {});
  bool lives(const client_link* l) const noexcept { return link_.get() == l; }
  bool following() const noexcept { return state_ == state::following; }
  bool has_channels() const noexcept { return !places_.empty(); }
  std::int64_t patience() const noexcept { return options_->patience.count(); }
  const proto::url& place() const noexcept { return detour_ ? *detour_ : url_; }
  std::uint64_t random_word() {
    std::array<unsigned char, 8> bytes;
    random(bytes);
    std::uint64_t out;
    std::memcpy(&out, bytes.data(), sizeof out);
    return out;
  }

  /// Appends a request's head; `headers` are whole lines.
  void append_request(std::string& out, std::string_view method, std::string_view target,
                      std::string_view headers) const {
    ((((out += method) += ' ') += target) += " HTTP/1.1\r\nHost: ") += place().authority();
    out += "\r\n";
    out += headers;
    append_own_headers(out);
    out += "\r\n";
  }
  void append_own_headers(std::string& out) const {
    if (given_ && !given_->token.empty()) ((out += "Authorization: Bearer ") += given_->token) += "\r\n";
    out += options_->headers;
  }
  /// The URL's path and query: for following with channels and cursor. `more` is a query of its own.
  std::string target(bool to_follow, std::string_view more = {}) const {
    const auto& u = place();
    std::string query = u.query;
    if (to_follow) {
      for (auto& c : places_.all()) proto::append_query(query, "channel", c.name);
      if (!places_.empty()) proto::append_query(query, "since", cursor());
      if (given_ && !given_->ticket.empty()) proto::append_query(query, "ticket", given_->ticket);
    } else if (given_ && !given_->session.empty()) {
      proto::append_query(query, "session", given_->session);
    }
    if (!more.empty()) ((query += query.empty() ? "" : "&") += more);
    return query.empty() ? u.path : u.path + '?' + query;
  }

  /// The link has connected: what it hears from now on, or does not, says something about its transport.
  void reached() noexcept { reached_ = true; }
  bool was_reached() const noexcept { return reached_; }
  /// The link works.
  void opened();
  /// The link is over: come back after a random time, and no sooner than `least` milliseconds.
  void lose(std::string_view reason, std::int64_t least = 0, std::string_view text = {}, std::int64_t spread = -1);
  /// The link's transport does not get through: the next one of the list, at once. One that has worked before is tried
  /// a few times more; behind the last comes the first, after a while.
  void fall(std::string_view reason, std::string_view text = {});
  /// Do not come back.
  void stop(std::string_view reason, std::string_view text = {});
  /// The server ended the link for what it was sent.
  void blame(errc code, std::string_view why, std::string_view reason);

  /// A request that brought nothing: its status decides what becomes of the link.
  void turned_away(int status, std::int64_t least, std::string_view body);
  /// The server refused the token, or its permission has ended. False when there is nothing more to try; else another
  /// token is asked for, and the link, if there is one, lost.
  bool expired(std::int64_t good);
  /// One object from the server. False when the link is over.
  bool hear(std::string_view json);
  /// A poll's answer. Gaps say where its messages start, so they go first; a `bye` ends the link, so it goes last.
  /// False when the link is over; `more`: there is more to be had at once; `some`: it brought something.
  bool hear_poll(std::string_view json, bool& more, bool& some);
  /// A `retry:` of an event stream, in milliseconds.
  void retry(std::int64_t ms) noexcept { retry_ = std::min<std::int64_t>(ms, longest_wait); }

  /// An answer to a command, on whatever way. `json` is the reply object's `ok`, or its error.
  void answered(std::uint64_t id, const client_error& error, std::string_view ok);
  /// No command is sent for a random time, and no sooner than `least` milliseconds.
  void pause(std::int64_t least) {
    quiet_until_ = now() + std::min(least, longest_wait) +
                   pauses_.next(options_->first_wait.count(), options_->most_wait.count(), random_word());
  }
  void resume_commands() noexcept { pauses_.reset(); }
  bool may_send() const noexcept { return state_ == state::following && quiet_until_ == 0; }
  /// The next command to send; null when there is none, or none now.
  const client_command* next_command() { return may_send() ? commands_.take(now()) : nullptr; }

 private:
  /// A link that lived so long was a good one: the next wait starts small again.
  static constexpr std::int64_t steady = 5'000;
  /// A token that was good for so long was a token; none is asked for more often than that.
  static constexpr std::int64_t brief = 1'000;
  static constexpr std::int64_t longest_wait = 3'600'000;  ///< however long a server asks a client to wait
  static constexpr unsigned proofs = 3;                    ///< failures of a transport that once worked
  static constexpr std::uint8_t most_refusals = 3;         ///< tokens refused one after the other
  static constexpr std::size_t most_followed = 1'000;      ///< channels that a server may add; servers take 32
  static constexpr proto::json::limits poll_limits{.depth = 64, .members = 1 << 20};

  /// Thousands of clients have the usual options: those are there once.
  static std::shared_ptr<const client_options> shared(client_options o) {
    static const auto usual = std::make_shared<const client_options>();
    return o == *usual ? usual : std::make_shared<const client_options>(std::move(o));
  }

  template <class F>
  void turn(F f, bool by_host = false) {
    ++depth_;
    try {
      f();
      if (depth_ == 1) finish_turn(by_host);
    } catch (...) {
      // What the handler was told is not taken: it comes again over another link.
      lose_quietly();
      --depth_;
      settle_later();
      throw;
    }
    --depth_;
  }
  // Within a call of the host's nothing is told: its own call is under way.
  void finish_turn(bool by_host);
  void lose_quietly();
  bool excused(std::int64_t at) const noexcept { return held_ || at < excused_until_; }
  std::int64_t next_alarm() const noexcept;

  // ---- the life of a link

  void open();
  void begin();
  /// Takes the link down; what it left unanswered goes back to the head of the row, if it may be repeated. `posts`:
  /// what is being posted is given up as well.
  void drop(bool posts = true);
  /// Replaces the link, whose URL has changed.
  void renew_link();
  // The channels have changed. A link whose request is on its way has named others; when it opens, it is renewed.
  void named_late() noexcept { renamed_ = renamed_ || (state_ == state::connecting && reached_); }
  void climb();
  /// Two heartbeats without a byte, and the link is dead; a quarter behind the first it is asked for one.
  void watch(std::int64_t at);
  void flush();

  // ---- permission

  void ask_token();
  void take_token(std::optional<std::string> token);
  /// The permission ends: another token, but no more often than `steady`.
  void extend();

  // ---- what comes in

  using object = vector<proto::json::member>;

  void take(std::string_view json, const object& all);
  void deliver(std::string_view json, const object& all);
  void reply(const object& all);
  void notice(const proto::json::member& m);
  void farewell(const object& all);

  void tell_of_others(const proto::json::member& m, const object& all);

  // ---- what goes out

  static bool valid_key(std::string_view key) noexcept {
    return key.size() <= 64 && std::all_of(key.begin(), key.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  }
  std::string random_key();
  void add(client_command c);
  void refuse(client_command& c, client_error why);
  /// Whether following more or less is a command; else, and where too many are unanswered already, it is another URL.
  bool subscribes() const noexcept;
  void link_command(std::string body, command_end end);
  client_errands* errands(client_lane lane) const noexcept {
    return lane == client_lane::command ? poster_.get() : fetching_ ? fetching_->fetcher.get() : nullptr;
  }
  void tell_notice(std::string_view name, std::string_view json) {
    if (on.notice) on.notice(name, json);
  }
  void tell_status(std::string_view reason, std::string_view text = {});

  proto::url url_;
  std::shared_ptr<const client_options> options_;
  std::span<const client_transport* const> ladder_;
  std::unique_ptr<client_errands> (*make_errands_)(client_machine&, client_lane);
  client_commands commands_;
  std::unique_ptr<client_link> link_;
  std::unique_ptr<client_errands> poster_;
  std::vector<std::unique_ptr<client_part>> dead_;  // until the turn's end
  client_places places_;
  struct fetching {
    std::vector<client_fetch> row;
    std::unique_ptr<client_errands> fetcher;
  };
  std::unique_ptr<fetching> fetching_;  // from the first fetch on
  std::unique_ptr<proto::url> detour_;  // where a `bye` has sent us
  struct words {
    std::string token, ticket, session;
  };
  words& given() {
    if (!given_) given_ = std::make_unique<words>();
    return *given_;
  }
  std::unique_ptr<words> given_;  // that the server, or whoever gives tokens, has given
  struct bad_news {
    std::string reason, trouble;
  };
  bad_news& news() {
    if (!news_) news_ = std::make_unique<bad_news>();
    return *news_;
  }
  std::unique_ptr<bad_news> news_;         // while all is well there is none
  std::shared_ptr<client_machine*> self_;  // what replies of `on.renew` look through
  std::int64_t retry_at_ = never, opens_by_ = never, climb_at_ = never, renew_at_ = never, quiet_until_ = 0;
  std::int64_t opened_at_ = 0, heard_ = 0, beat_ = 0, retry_ = 0, excused_until_ = INT64_MIN;
  unsigned depth_ = 0, proven_ = 0, climb_tries_ = 0;
  backoff backoff_, pauses_;
  std::uint8_t level_ = 0, refusals_ = 0;
  state state_ = state::connecting;
  bool started_ = false, reached_ = false, renamed_ = false, probed_ = false, stale_ = true, asking_ = false,
       held_ = false;
};

}  // namespace hailwire::detail

#include "hailwire/detail/client/machine_commands.hpp"
#include "hailwire/detail/client/machine_life.hpp"
#include "hailwire/detail/client/machine_objects.hpp"
