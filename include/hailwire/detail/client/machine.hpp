// SPDX-License-Identifier: BSL-1.0
#pragma once

// A client without a socket and without a clock: what hailwire's protocol asks of whoever follows channels.
//
// Over 500 lines because it is one state machine: each of its steps can end the link that took it.
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
// Two *lanes*, which are connections to the server: links follow over the first; over the second `client_requests`
// posts the commands of a link that cannot carry them.
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
#include "hailwire/detail/client/commands.hpp"
#include "hailwire/detail/net/backoff.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/envelope.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/proto/url.hpp"

namespace hailwire::detail {

class client_machine;

/// A connection of a client.
enum class client_lane : std::uint8_t { follow, command };

/// One attempt to move the cursor forward, over the lane `follow`. Made when the lane is about to connect; destroyed at
/// the end of the turn in which it ended.
class client_link {
 public:
  virtual ~client_link() = default;
  /// The lane is connected.
  virtual void connected() = 0;
  virtual void receive(std::span<char> in) = 0;
  /// The server has ended the lane in order, or it broke.
  virtual void ended() = 0;
  /// Its own alarm has passed.
  virtual void alarm() {}
  virtual std::int64_t due() const noexcept { return event_loop::no_alarm; }
  /// Whether it takes commands; else they are posted.
  virtual bool carries_commands() const noexcept { return false; }
  virtual void send(std::string_view) {}
  /// Asks the server for a sign of life, where that can be asked for.
  virtual void probe() {}
  /// The client goes: whatever is to be said to the server.
  virtual void leave() {}
};

/// A transport as a client uses it. There is one object of each, with static lifetime.
struct client_transport {
  std::string_view name;
  std::unique_ptr<client_link> (*make)(client_machine&);
};

/// What a host hears.
struct client_handlers {
  move_only_function<void(const client_message&)> message;
  move_only_function<void(std::string_view name, std::string_view json)> notice;
  move_only_function<void(const client_gap&)> gap;
  move_only_function<void(const client_status&)> status;
  move_only_function<void(const std::string& cursor)> cursor;
  move_only_function<void(token_reply)> renew;
};

/// What posts commands, and asks for content, over the lane `command`.
class client_poster {
 public:
  virtual ~client_poster() = default;
  virtual void flush() = 0;
  virtual void connected() = 0;
  virtual void receive(std::span<char> in) = 0;
  virtual void ended() = 0;
  virtual void alarm() = 0;
  virtual std::int64_t due() const noexcept = 0;
  /// What it was doing is void; commands have been put back.
  virtual void reset() = 0;
};

/// One client. All functions are for one thread at a time.
class client_machine {
 public:
  static constexpr std::int64_t never = event_loop::no_alarm;
  using state = client_status::state;

  client_machine(proto::url at, client_options o, std::span<const client_transport* const> ladder,
                 std::unique_ptr<client_poster> (*make_poster)(client_machine&))
      : url_(std::move(at)),
        options_(shared(std::move(o))),
        ladder_(ladder),
        make_poster_(make_poster),
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

  void lane_connected(client_lane lane) {
    turn([&] {
      if (lane == client_lane::command) {
        if (poster_) poster_->connected();
      } else if (link_) {
        link_->connected();
      }
    });
  }
  void lane_received(client_lane lane, std::span<char> bytes) {
    turn([&] {
      if (lane == client_lane::command) {
        if (poster_) poster_->receive(bytes);
      } else if (link_) {
        heard_ = now();
        link_->receive(bytes);
      }
    });
  }
  /// The server has ended the lane in order (no error), it broke, or it could not be made.
  void lane_ended(client_lane lane, std::error_code why, std::string_view text = {}) {
    turn([&] {
      if (lane == client_lane::command) {
        if (poster_) poster_->ended();
        return;
      }
      if (!link_) return;
      news().trouble = !text.empty() ? std::string(text) : why ? why.message() : std::string();
      link_->ended();
    });
  }
  void alarm() {
    turn([&] {
      const auto at = now();
      if (link_ && link_->due() <= at && !excused(at)) link_->alarm();
      if (poster_ && poster_->due() <= at) poster_->alarm();
      if (retry_at_ <= at && !link_ && state_ == state::waiting) open();
      if (opens_by_ <= at && state_ == state::connecting && !excused(at)) {
        // What connects but says nothing may be a proxy that holds everything back: another transport may get through.
        opens_by_ = never;
        asking_ = false;  // whoever gives tokens is asked anew
        reached_ ? fall("silent") : lose("unreachable", 0, "no connection in time");
      }
      if (beat_ > 0 && state_ == state::following && link_ && !excused(at)) watch(at);
      if (quiet_until_ <= at) quiet_until_ = 0;
      if (renew_at_ <= at) extend();
      if (climb_at_ <= at && state_ == state::following && level_ > 0) climb();
      commands_.expire(at);
    });
  }
  /// While the driver does not read, because the application takes nothing, silence means nothing.
  void hold(bool yes) {
    turn(
        [&] {
          if (!yes && held_) excused_until_ = now() + patience(), heard_ = now();
          held_ = yes;
        },
        true);
  }
  /// The cursor is told anew, though nothing has come in.
  void cursor_moved() {
    moved_ = true;
    settle_later();
  }
  /// Tells what the last turns brought. Called by the driver when `settle_later` asked for it.
  void settle() {
    turn([] {});
  }

  // ---- what a host does

  client_handlers on;

  /// Begins to connect.
  void start() {
    if (state_ == state::stopped || started_) return;
    started_ = true;
    turn([&] { open(); });
  }
  /// Ends for good: what is unanswered ends with `operation_aborted`.
  void close() {
    turn([&] { stop("closed"); }, true);
  }

  /// Follows one channel more, from `since`. No channel twice: false, and `what` says why, for a name that is none.
  bool follow(std::string_view channel, hailwire::start since = {}) {
    if (!valid_channel(channel) || find(channel) || state_ == state::stopped) return false;
    channels_.push_back({std::string(channel), std::move(since.at.epoch), since.at.offset, since.from});
    if (since.from != hailwire::start::word::at) channels_.back().epoch.clear();
    if (!started_ || state_ != state::following) return true;
    turn(
        [&] {
          if (!subscribes()) return renew_link();
          std::string body = "\"subscribe\":{\"channel\":";
          proto::json::append_quoted(body, channel);
          body += ",\"since\":\"" + element(channels_.back()) + "\"}}";
          link_command(std::move(body),
                       [this, name = std::string(channel)](const client_error& e, std::string_view ok) {
                         auto* at = find(name);
                         if (!at) return;
                         if (!e) return take_entry(*at, ok);
                         erase(name);
                         std::string json = "{\"channel\":";
                         proto::json::append_quoted(json, name);
                         json += ",\"code\":\"" + word_of(e) + "\"}";
                         tell_notice("closed", json);
                       });
        },
        true);
    return true;
  }
  /// Follows a channel no longer: no message of it comes after this call.
  void unfollow(std::string_view channel) {
    if (!find(channel)) return;
    const std::string name(channel);
    erase(name);
    if (!started_ || state_ != state::following) return;
    turn(
        [&] {
          if (!subscribes()) return renew_link();
          std::string body = "\"unsubscribe\":{\"channel\":";
          proto::json::append_quoted(body, name);
          link_command(body + "}}", nullptr);
        },
        true);
  }

  void publish(std::string_view channel, const payload& data, const client_publish_options& how, command_end end) {
    turn(
        [&] {
          client_command c;
          c.end = std::move(end);
          std::string_view wrong;
          errc code = errc::bad_request;
          if (!valid_channel(channel)) wrong = "that is no channel's name";
          if (how.type.size() > 64 || !proto::valid_utf8(how.type)) wrong = "a type is at most 64 bytes of UTF-8";
          if (!valid_key(how.key)) wrong = "a key is 1 to 64 visible ASCII characters";
          if (how.ephemeral && !how.key.empty()) wrong = "an ephemeral message has no key";
          if (data.type() == payload::kind::json && proto::json::validate(data.bytes()))
            wrong = "the payload is not JSON";
          if (data.type() == payload::kind::text && !proto::valid_utf8(data.bytes()))
            wrong = "the payload is not UTF-8", code = errc::unsupported_media;
          if (!wrong.empty()) return refuse(c, {make_error_code(code), wrong});
          c.what = how.ephemeral ? client_command::kind::once : client_command::kind::publish;
          c.live_only = how.ephemeral;
          c.channel = channel;
          c.body = "\"publish\":{\"channel\":";
          proto::json::append_quoted(c.body, channel);
          c.body += ',';
          proto::append_payload_member(c.body, data);
          if (!how.type.empty()) proto::json::append_quoted(c.body += ",\"type\":", how.type);
          if (how.ephemeral) {
            c.body += ",\"ephemeral\":true";
          } else {
            proto::json::append_quoted(c.body += ",\"key\":", how.key.empty() ? random_key() : std::string(how.key));
          }
          c.body += "}}";
          add(std::move(c));
        },
        true);
  }
  /// Any other command: `name` with `body`, a JSON object.
  void request(client_command::kind what, std::string_view name, std::string_view body, std::string_view channel,
               command_end end) {
    turn(
        [&] {
          client_command c;
          c.what = what;
          c.channel = channel;
          c.name = name;
          c.end = std::move(end);
          proto::json::value v;
          if (proto::json::read_value(body, v) || v.type != proto::json::kind::object)
            return refuse(c, {make_error_code(errc::bad_request), "a command's body is a JSON object"});
          proto::json::append_quoted(c.body, name);
          c.body += ':';
          c.body += v.text;
          c.body += '}';
          add(std::move(c));
        },
        true);
  }

  /// One element a channel: where the application is, and where a later client would begin.
  std::string cursor() const {
    return cursor([](std::string_view) { return std::optional<position>(); });
  }
  /// The same, but for channels for which `instead` knows another place.
  template <class F>
  std::string cursor(F instead) const {
    std::string out;
    for (auto& c : channels_) {
      if (!out.empty()) out += ',';
      if (const std::optional<position> at = instead(c.name)) {
        append_position(out, at->epoch, at->offset);
      } else {
        out += element(c);
      }
    }
    return out;
  }
  std::vector<std::string> channels() const {
    std::vector<std::string> out;
    for (auto& c : channels_) out.push_back(c.name);
    return out;
  }
  client_status status() const {
    return {state_, ladder_[level_]->name, news_ ? std::string_view(news_->reason) : "",
            news_ ? std::string_view(news_->trouble) : "",
            std::chrono::milliseconds(state_ == state::waiting ? std::max<std::int64_t>(0, retry_at_ - now()) : 0)};
  }
  std::size_t pending() const noexcept { return commands_.size(); }

  // ---- what links and the poster do

  const client_options& options() const noexcept { return *options_; }
  client_commands& commands() noexcept { return commands_; }
  bool lives(const client_link* l) const noexcept { return link_.get() == l; }
  bool following() const noexcept { return state_ == state::following; }
  bool has_channels() const noexcept { return !channels_.empty(); }
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
      for (auto& c : channels_) proto::append_query(query, "channel", c.name);
      if (!channels_.empty()) proto::append_query(query, "since", cursor());
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
  void opened() {
    if (state_ == state::following) return;
    state_ = state::following;
    opened_at_ = heard_ = now();
    proven_ |= 1u << level_;
    opens_by_ = never;
    news_.reset();
    if (level_ == 0) {
      climb_tries_ = 0;
      climb_at_ = never;
    } else {
      const auto most = options_->climb.count() << std::min(climb_tries_, 4u);
      climb_at_ = now() + most / 2 + uniform(most, random_word());
    }
    tell_status({});
  }

  /// The link is over: come back after a random time, and no sooner than `least` milliseconds.
  void lose(std::string_view reason, std::int64_t least = 0, std::string_view text = {}, std::int64_t spread = -1) {
    if (state_ == state::stopped || state_ == state::waiting) return;
    if (state_ == state::following && now() - opened_at_ >= steady) backoff_.reset();
    if (state_ != state::following) detour_.reset();  // a detour that does not open is forgotten
    const auto jitter = backoff_.next(options_->first_wait.count(), options_->most_wait.count(), random_word());
    // Where the server names a range, the time is random within it; else its least time has the jitter on top.
    const auto wait = spread >= 0 ? least + uniform(spread, random_word()) : std::max(least, retry_) + jitter;
    drop();
    state_ = state::waiting;
    retry_at_ = now() + wait;
    tell_status(reason, text);
  }
  /// The link's transport does not get through: the next one of the list, at once. One that has worked before is tried
  /// a few times more; behind the last comes the first, after a while.
  void fall(std::string_view reason, std::string_view text = {}) {
    if (state_ == state::stopped || state_ == state::waiting) return;
    if ((proven_ >> level_ & 1) && backoff_.attempts() < proofs) return lose(reason, 0, text);
    proven_ &= ~(1u << level_);
    level_ = static_cast<std::uint8_t>((level_ + 1u) % ladder_.size());
    if (level_ == 0) return lose(reason, 0, text);
    drop();
    open();
  }
  /// Do not come back.
  void stop(std::string_view reason, std::string_view text = {}) {
    if (state_ == state::stopped) return;
    if (link_) link_->leave();
    drop();
    state_ = state::stopped;
    poster_.reset();
    std::error_code code = operation_aborted();
    for (auto e : {errc::unauthenticated, errc::forbidden})
      if (code_name(e) == reason) code = make_error_code(e);
    commands_.fail_all({code, "the client has stopped"});
    ended(code);
    tell_status(reason, text);
  }
  /// The server ended the link for what it was sent.
  void blame(errc code, std::string_view why, std::string_view reason) {
    commands_.requeue(now(), code, why.empty() ? reason : why);
    lose(reason, 0, why);
  }

  /// A request that brought nothing: its status decides what becomes of the link.
  void turned_away(int status, std::int64_t least, std::string_view body) {
    auto [code, text] = read_problem(status, body);
    switch (status) {
      case 401:
        return expired(brief) ? void() : stop(code, text);
      case 403:
        return stop(code, text);
      case 408:
      case 429:
        return lose(code, least, text);
      default:
        // What is not served this way, or by somebody who does not know it, may be served another way; what the server
        // or a proxy fails at is tried again.
        return status >= 500 && status != 501 && status != 505 ? lose(code, least, text) : fall(code, text);
    }
  }
  /// `code` and `detail` of a problem document (RFC 9457), or a word for the status.
  static std::pair<std::string, std::string> read_problem(int status, std::string_view body) {
    std::pair<std::string, std::string> out("http_" + std::to_string(status), {});
    vector<proto::json::member> members;
    if (proto::json::read_object(body, members)) return out;
    for (auto& m : members) {
      auto text = m.content.type == proto::json::kind::string ? proto::json::unescape(m.content.text) : std::nullopt;
      if (text && name_is(m, "code")) out.first = *text;
      if (text && (name_is(m, "detail") || name_is(m, "message"))) out.second = *text;
    }
    return out;
  }
  /// The server refused the token, or its permission has ended. False when there is nothing more to try; else another
  /// token is asked for, and the link, if there is one, lost.
  bool expired(std::int64_t good) {
    const bool held =
        state_ == state::following && now() - opened_at_ >= good;  // then it has ended, and was not refused
    refusals_ = held ? 0 : static_cast<std::uint8_t>(refusals_ + 1);
    if (!on.renew || refusals_ >= most_refusals) return false;
    stale_ = true;
    lose("unauthenticated");
    return true;
  }

  /// One object from the server. False when the link is over.
  bool hear(std::string_view json) {
    const client_link* mine = link_.get();
    // One a thread, for its memory; another client that is heard within a handler of this one's makes its own.
    static thread_local vector<proto::json::member> spare;
    vector<proto::json::member> members;
    members.swap(spare);
    const bool fine = !proto::json::read_object(json, members);
    if (fine) {
      take(json, members);
    } else {
      lose("bad_answer", 0, "the server sent something that is no JSON object");
    }
    members.clear();
    members.swap(spare);
    return link_.get() == mine;
  }

  /// A poll's answer. Gaps say where its messages start, so they go first; a `bye` ends the link, so it goes last.
  /// False when the link is over; `more`: there is more to be had at once; `some`: it brought something.
  bool hear_poll(std::string_view json, bool& more, bool& some) {
    const client_link* mine = link_.get();
    vector<proto::json::member> members;
    vector<proto::json::value> messages, notices;
    std::optional<std::string> reached;
    bool fine = !proto::json::read_object(json, members);
    for (auto& m : members) {
      if (name_is(m, "messages")) fine = fine && !proto::json::split_array(m.content.text, messages, poll_limits);
      if (name_is(m, "notices")) fine = fine && !proto::json::split_array(m.content.text, notices, poll_limits);
      if (name_is(m, "cursor")) reached = proto::json::unescape(m.content.text);
      if (name_is(m, "ticket")) given().ticket = proto::json::unescape(m.content.text).value_or("");
      if (name_is(m, "more")) more = m.content.text == "true";
    }
    auto ends = fine && reached ? parse_cursor(*reached, channels_.size(), reached->size())
                                : result<hailwire::cursor>(errc::bad_request);
    if (!ends) return lose("bad_answer", 0, "a poll's answer could not be read"), false;
    some = !messages.empty() || !notices.empty();
    const std::vector<std::string> names = channels();
    auto each = [&](auto f) {
      for (std::size_t i = 0; i < names.size(); ++i)
        if (auto* at = find(names[i]); at && (*ends)[i].from == hailwire::start::word::at) f(*at, (*ends)[i].at);
    };
    each([&](followed& f, const position& p) {
      if (f.epoch.empty()) f.epoch = p.epoch, f.offset = 0;
    });
    auto is_bye = [](const proto::json::value& v) { return v.text.starts_with("{\"bye\""); };
    for (auto& v : notices)
      if (!is_bye(v) && !hear(v.text)) return false;
    for (auto& v : messages)
      if (!hear(v.text)) return false;
    each([&](followed& f, const position& p) { move(f, p.epoch, p.offset, false); });
    for (auto& v : notices)
      if (is_bye(v) && !hear(v.text)) return false;
    return link_.get() == mine;
  }

  /// A `retry:` of an event stream, in milliseconds.
  void retry(std::int64_t ms) noexcept { retry_ = std::min<std::int64_t>(ms, longest_wait); }

  /// An answer to a command, on whatever way. `json` is the reply object's `ok`, or its error.
  void answered(std::uint64_t id, const client_error& error, std::string_view ok) {
    if (error && error.code.category() == category() && commands_.again(id, static_cast<errc>(error.code.value())))
      return pause(std::int64_t{1000} * error.retry_after);
    commands_.answer(id, error, ok);
  }
  /// No command is sent for a random time, and no sooner than `least` milliseconds.
  void pause(std::int64_t least) {
    quiet_until_ = now() + std::min(least, longest_wait) +
                   pauses_.next(options_->first_wait.count(), options_->most_wait.count(), random_word());
  }
  void resume_commands() noexcept { pauses_.reset(); }
  bool may_send() const noexcept { return state_ == state::following && quiet_until_ == 0; }
  /// The next command to send; null when there is none, or none now.
  const client_command* next_command() { return may_send() ? commands_.take(now()) : nullptr; }

  /// Reads an `error` object.
  static client_error read_error(std::string_view json) {
    client_error out(make_error_code(errc::internal));
    vector<proto::json::member> members;
    if (proto::json::read_object(json, members)) return out;
    for (auto& m : members) {
      if (name_is(m, "code")) {
        const auto word = proto::json::unescape(m.content.text).value_or("");
        for (auto e = errc::bad_request; e <= errc::http_version; e = static_cast<errc>(static_cast<int>(e) + 1))
          if (code_name(e) == word) out.code = make_error_code(e);
      }
      if (name_is(m, "message")) out.message = proto::json::unescape(m.content.text).value_or("");
      if (name_is(m, "retry_after"))
        out.retry_after = static_cast<int>(proto::json::to_uint(m.content, 86'400).value_or(0));
    }
    return out;
  }

 private:
  /// A link that lived so long was a good one: the next wait starts small again.
  static constexpr std::int64_t steady = 5'000;
  /// A token that was good for so long was a token; none is asked for more often than that.
  static constexpr std::int64_t brief = 1'000;
  static constexpr std::int64_t longest_wait = 3'600'000;  ///< however long a server asks a client to wait
  static constexpr unsigned proofs = 3;                    ///< failures of a transport that once worked
  static constexpr std::uint8_t most_refusals = 3;         ///< tokens refused one after the other
  static constexpr proto::json::limits poll_limits{.depth = 64, .members = 1 << 20};

  struct followed {
    std::string name, epoch;  // no epoch: `word` says where it begins
    std::uint64_t offset = 0;
    hailwire::start::word word = hailwire::start::word::latest;
  };

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
  void finish_turn(bool by_host) {
    for (;;) {
      flush();
      dead_.clear();
      auto& ended = commands_.ended();
      const bool news = !ended.empty() || (moved_ && on.cursor);
      if (!news) break;
      if (by_host) {
        settle_later();
        break;
      }
      if (!ended.empty()) {
        auto one = std::move(ended.front());
        ended.erase(ended.begin());
        one.end(one.error, one.ok);
      } else {
        moved_ = false;
        on.cursor(cursor());
      }
    }
    wake_at(next_alarm());
  }
  void lose_quietly() {
    auto status = std::exchange(on.status, nullptr);
    lose("handler", 0, "a handler has thrown");
    on.status = std::move(status);
  }
  bool excused(std::int64_t at) const noexcept { return held_ || at < excused_until_; }
  std::int64_t next_alarm() const noexcept {
    if (state_ == state::stopped) return never;
    // While silence means nothing, what waits for words waits until then.
    const std::int64_t least = held_ ? never : now() < excused_until_ ? excused_until_ : 0;
    auto from = [&](std::int64_t due) { return std::max(due, least); };
    std::int64_t at = std::min(commands_.expires(never), renew_at_);
    if (state_ == state::waiting) at = std::min(at, retry_at_);
    if (state_ == state::connecting) at = std::min(at, from(opens_by_));
    if (link_) at = std::min(at, from(link_->due()));
    if (poster_) at = std::min(at, poster_->due());
    if (quiet_until_) at = std::min(at, quiet_until_);
    if (state_ == state::following) {
      if (level_ > 0) at = std::min(at, climb_at_);
      if (beat_ > 0 && link_) at = std::min(at, from(heard_ + (probed_ ? 2 * beat_ : beat_ + beat_ / 4)));
    }
    return at;
  }

  // ---- the life of a link

  void open() {
    state_ = state::connecting;
    retry_at_ = never;
    reached_ = probed_ = false;
    beat_ = 0;
    opens_by_ = now() + patience();
    tell_status({});
    if (state_ != state::connecting || link_) return;  // the host has closed, or begun anew
    if (on.renew && stale_) return ask_token();
    begin();
  }
  void begin() {
    link_ = ladder_[level_]->make(*this);
    if (!link_->carries_commands() &&
        channels_.empty()) {  // over HTTP there is nothing to keep open for a mere publisher
      link_.reset();
      return opened();
    }
    connect(client_lane::follow, place());
  }
  /// Takes the link down; what it left unanswered goes back to the head of the row, if it may be repeated. `posts`:
  /// what is being posted is given up as well.
  void drop(bool posts = true) {
    climb_at_ = renew_at_ = opens_by_ = never;
    beat_ = 0;
    const bool carried = link_ && link_->carries_commands();
    if (given_ && (carried || posts)) given_->session.clear();
    if (link_) {
      dead_.push_back(std::move(link_));
      disconnect(client_lane::follow);
    }
    if (poster_ && posts) {
      poster_->reset();
      disconnect(client_lane::command);
    }
    if (carried || posts) commands_.requeue(now());
  }
  /// Replaces the link, whose URL has changed.
  void renew_link() {
    drop(false);
    open();
  }
  void climb() {
    if (commands_.unanswered()) return void(climb_at_ = now() + brief);  // what is never repeated would be lost
    ++climb_tries_;
    proven_ &= ~((1u << level_) - 1);
    level_ = 0;
    renew_link();
  }
  /// Two heartbeats without a byte, and the link is dead; a quarter behind the first it is asked for one.
  void watch(std::int64_t at) {
    if (at - heard_ >= 2 * beat_) return lose("silent");
    if (at - heard_ < beat_) return void(probed_ = false);
    if (probed_ || at - heard_ < beat_ + beat_ / 4) return;
    probed_ = true;
    link_->probe();
  }
  void flush() {
    if (state_ != state::following) return;
    if (link_ && link_->carries_commands()) {
      while (auto* c = next_command()) link_->send(c->text());
      return;
    }
    if (!poster_ && !commands_.has_waiting()) return;
    if (!poster_) poster_ = make_poster_(*this);
    poster_->flush();
  }

  // ---- permission

  void ask_token() {
    if (asking_) return;
    asking_ = true;
    if (!self_) self_ = std::make_shared<client_machine*>(this);
    // The reply may come at any time, also when this is gone.
    on.renew([box = std::weak_ptr<client_machine*>(self_)](std::optional<std::string> token) {
      if (auto held = box.lock()) (*held)->take_token(std::move(token));
    });
  }
  void take_token(std::optional<std::string> token) {
    if (!std::exchange(asking_, false)) return;
    turn([&] {
      if (state_ == state::stopped) return;
      if (!token) return stop("unauthenticated", "there are no more tokens");
      const bool line =
          !token->empty() && std::all_of(token->begin(), token->end(), [](char c) { return c >= 0x20 && c < 0x7F; });
      if (line) given().token = std::move(*token), stale_ = false;
      if (state_ == state::connecting && !link_) return line ? begin() : lose("renew", 0, "no token for now");
      if (!line || state_ != state::following) return;
      if (!link_ || !link_->carries_commands()) {
        // An event stream is replaced by one with the new token, and the next poll simply brings it.
        if (link_ && beat_ > 0) renew_link();
        return;
      }
      std::string body = "\"renew\":{\"token\":";
      proto::json::append_quoted(body, given().token);
      link_command(body + "}}", nullptr);
    });
  }
  /// The permission ends: another token, but no more often than `steady`.
  void extend() {
    renew_at_ = never;
    if (!on.renew || state_ != state::following) return;
    ask_token();
  }

  // ---- what comes in

  using object = vector<proto::json::member>;
  static bool name_is(const proto::json::member& m, std::string_view name) { return proto::json::name_is(m, name); }
  static std::uint64_t number(const proto::json::member& m) {
    return proto::json::to_uint(m.content, max_offset).value_or(0);
  }
  /// The text of a string, read where it lies if it can be; `space` holds it else.
  static std::string_view text(const proto::json::member& m, std::string& space) {
    if (m.content.type != proto::json::kind::string) return {};
    const auto inner = m.content.text.substr(1, m.content.text.size() - 2);
    if (inner.find('\\') == inner.npos) return inner;
    space = proto::json::unescape(m.content.text).value_or("");
    return space;
  }

  void take(std::string_view json, const object& all) {
    if (all.empty()) return;
    const auto& first = all[0];
    if (name_is(first, "channel")) return deliver(json, all);
    for (auto& m : all) {
      if (name_is(m, "reply")) return reply(all);
      if (name_is(m, "channel")) return deliver(json, all);
    }
    notice(first);
  }

  void deliver(std::string_view json, const object& all) {
    client_message m;
    m.json = json;
    std::string channel, from, type, bytes, media, epoch;
    for (auto& x : all) {
      if (name_is(x, "channel"))
        m.channel = text(x, channel);
      else if (name_is(x, "offset"))
        m.offset = number(x);
      else if (name_is(x, "at"))
        m.at = static_cast<std::int64_t>(number(x));
      else if (name_is(x, "data"))
        m.data = x.content.text;
      else if (name_is(x, "from"))
        m.from = text(x, from);
      else if (name_is(x, "type"))
        m.type = text(x, type);
      else if (name_is(x, "erased"))
        m.erased = x.content.text == "true";
      else if (name_is(x, "erases"))
        m.erases = number(x);
      else if (name_is(x, "size"))
        m.size = number(x);
      else if (name_is(x, "content_type"))
        m.content_type = text(x, media);
      else if (name_is(x, "epoch"))
        m.epoch = text(x, epoch);
      else if (name_is(x, "bytes")) {
        std::string coded;
        auto decoded = proto::decode_base64(text(x, coded));
        if (!decoded) return lose("bad_answer", 0, "a message's bytes are no base64");
        bytes = std::move(*decoded);
        m.bytes = bytes;
        m.binary = true;
      }
    }
    auto* at = find(m.channel);
    if (!at) return;  // of a channel that is followed no longer
    if (m.offset && !at->epoch.empty() && m.offset <= at->offset) return;
    const std::string life = at->epoch;
    if (m.epoch.empty()) m.epoch = life;
    if (on.message) on.message(m);
    if (!m.offset) return;
    at = find(m.channel);  // the handler may have done anything
    if (at && at->epoch == life && m.offset > at->offset) {
      at->offset = m.offset;
      moved_ = true;
    }
  }

  void reply(const object& all) {
    std::uint64_t id = 0;
    client_error error;
    std::string_view ok = "{}";
    for (auto& m : all) {
      // Without an id it is about a command that could not be read: answers come in order, so about the oldest.
      if (name_is(m, "reply")) id = m.content.type == proto::json::kind::null ? commands_.oldest() : number(m);
      if (name_is(m, "ok")) ok = m.content.text;
      if (name_is(m, "error")) error = read_error(m.content.text);
    }
    answered(id, error, ok);
  }

  void notice(const proto::json::member& m) {
    if (name_is(m, "ping")) return;
    object all;
    const bool fine = !proto::json::read_object(m.content.text, all);
    std::string space;
    if (name_is(m, "open") && fine) {
      std::int64_t heartbeat = 25;
      for (auto& x : all) {
        if (name_is(x, "heartbeat"))
          heartbeat = std::clamp<std::int64_t>(static_cast<std::int64_t>(number(x)), 1, 86'400);
        if (name_is(x, "keys"))
          commands_.keys_live(static_cast<std::int64_t>(std::min<std::uint64_t>(number(x), 86'400)));
        if (name_is(x, "ticket")) given().ticket = text(x, space);
        // A link that carries commands is known by itself; a post has to name it.
        if (name_is(x, "session") && link_ && !link_->carries_commands()) given().session = text(x, space);
        if (name_is(x, "channels")) take_entries(x.content.text);
      }
      beat_ = heartbeat * 1000;
      const client_link* mine = link_.get();
      tell_notice("open", m.content.text);
      if (link_ && link_.get() == mine) opened();
      return;
    }
    if (name_is(m, "gap") && fine) {
      client_gap gap;
      std::string channel, reason, epoch;
      for (auto& x : all) {
        if (name_is(x, "channel")) gap.channel = text(x, channel);
        if (name_is(x, "reason")) gap.reason = text(x, reason);
        if (name_is(x, "epoch")) gap.epoch = text(x, epoch);
        if (name_is(x, "next")) gap.next = number(x);
      }
      auto* at = find(gap.channel);
      if (!at || !valid_epoch(gap.epoch) || gap.next == 0) return;
      if (at->epoch != gap.epoch) commands_.forget_marks(gap.channel);
      move(*at, gap.epoch, gap.next - 1, true);
      if (on.gap) on.gap(gap);
      return;
    }
    if (name_is(m, "followed") && fine) {
      for (auto& x : all) {
        auto name = proto::json::unescape('"' + std::string(x.name) + '"');
        if (!name || !valid_channel(*name)) continue;
        if (!find(*name)) channels_.push_back({*name, {}, 0, hailwire::start::word::latest});
        take_entry(*find(*name), x.content.text);
      }
    }
    if (name_is(m, "closed") && fine)
      for (auto& x : all)
        if (name_is(x, "channel")) erase(std::string(text(x, space)));
    std::int64_t expires = -1;
    if (name_is(m, "expiring") && fine)
      for (auto& x : all)
        if (name_is(x, "seconds")) expires = static_cast<std::int64_t>(std::min<std::uint64_t>(number(x), 86'400));
    const client_link* mine = link_.get();
    tell_notice(m.name, m.content.text);
    if (link_.get() != mine) return;
    // A token that itself ends within the server's notice would be asked for without a pause.
    if (expires >= 0) renew_at_ = now() + std::min<std::int64_t>(steady, std::max<std::int64_t>(brief, expires * 500));
    if (name_is(m, "bye") && fine) farewell(all);
  }

  void farewell(const object& all) {
    std::string code = "bye";
    bool back = true;
    std::int64_t from = 0, to = -1;
    std::optional<proto::url> detour;
    for (auto& x : all) {
      std::string space;
      if (name_is(x, "code")) code = text(x, space);
      if (name_is(x, "reconnect")) back = x.content.text != "false";
      if (name_is(x, "url"))
        if (auto u = proto::resolve_url(place(), text(x, space))) detour = std::move(*u);
      vector<proto::json::value> range;
      if (name_is(x, "after") && !proto::json::read_array(x.content.text, range) && range.size() == 2) {
        auto ms = [](const proto::json::value& v) {
          return static_cast<std::int64_t>(
              proto::json::to_uint(v, static_cast<std::uint64_t>(longest_wait)).value_or(0));
        };
        from = ms(range[0]);
        to = std::max(from, ms(range[1]));
      }
    }
    if (!back) return stop(code);
    lose(code, from, {}, to < 0 ? -1 : to - from);
    if (detour)
      detour_ = std::make_unique<proto::url>(std::move(*detour));  // forgotten as soon as a link there fails to open
  }

  followed* find(std::string_view channel) noexcept {
    for (auto& c : channels_)
      if (proto::same_bytes(c.name, channel)) return &c;
    return nullptr;
  }
  void erase(std::string_view channel) {
    channels_.erase(std::remove_if(channels_.begin(), channels_.end(), [&](auto& c) { return c.name == channel; }),
                    channels_.end());
  }
  static std::string element(const followed& c) {
    static constexpr const char* words[] = {"latest", "latest", "earliest", "received"};
    if (c.epoch.empty()) return words[static_cast<int>(c.word)];
    std::string out;
    append_position(out, c.epoch, c.offset);
    return out;
  }
  /// Takes a position from the server. Within an epoch only a gap takes it back: what was seen stays seen.
  void move(followed& at, std::string_view epoch, std::uint64_t offset, bool back) {
    if (!back && at.epoch == epoch && offset <= at.offset) return;
    at.epoch = epoch;
    at.offset = offset;
    moved_ = true;
  }
  void take_entries(std::string_view json) {
    object all;
    if (proto::json::read_object(json, all)) return;
    for (auto& x : all) {
      auto name = proto::json::unescape('"' + std::string(x.name) + '"');
      if (auto* at = name ? find(*name) : nullptr) take_entry(*at, x.content.text);
    }
  }
  void take_entry(followed& at, std::string_view entry) {
    object all;
    if (proto::json::read_object(entry, all)) return;
    std::string space;
    std::string_view epoch;
    std::uint64_t offset = 0;
    for (auto& x : all) {
      if (name_is(x, "epoch")) epoch = text(x, space);
      if (name_is(x, "offset")) offset = number(x);
    }
    if (valid_epoch(epoch)) move(at, epoch, offset, false);
  }

  // ---- what goes out

  static bool valid_key(std::string_view key) noexcept {
    return key.size() <= 64 && std::all_of(key.begin(), key.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  }
  std::string random_key() {
    std::array<unsigned char, 16> bytes;
    random(bytes);
    std::string out;
    for (auto b : bytes) (out += "0123456789abcdef"[b >> 4]) += "0123456789abcdef"[b & 15];
    return out;
  }
  void add(client_command c) {
    if (state_ == state::stopped) return refuse(c, {operation_aborted(), "the client has stopped"});
    if (c.live_only && state_ != state::following)
      return refuse(c, {make_error_code(std::errc::not_connected), "live-only messages do not wait for a connection"});
    commands_.add(std::move(c));
  }
  void refuse(client_command& c, client_error why) {
    if (c.end) commands_.ended().push_back({std::move(c.end), std::move(why), {}});
  }
  /// Whether following more or less is a command; else, and where too many are unanswered already, it is another URL.
  bool subscribes() const noexcept {
    return link_ && link_->carries_commands() && commands_.size() < options_->max_pending;
  }
  void link_command(std::string body, command_end end) {
    client_command c;
    c.what = client_command::kind::link;
    c.body = std::move(body);
    c.end = std::move(end);
    commands_.add(std::move(c));
  }
  static std::string word_of(const client_error& e) {
    return e.code.category() == category() ? std::string(code_name(static_cast<errc>(e.code.value())))
                                           : e.code.message();
  }

  void tell_notice(std::string_view name, std::string_view json) {
    if (on.notice) on.notice(name, json);
  }
  void tell_status(std::string_view reason, std::string_view text = {}) {
    if (news_ || !reason.empty() || !text.empty()) {
      news().reason = reason;
      if (!text.empty()) news().trouble = text;
    }
    if (on.status) on.status(status());
  }

  proto::url url_;
  std::shared_ptr<const client_options> options_;
  std::span<const client_transport* const> ladder_;
  std::unique_ptr<client_poster> (*make_poster_)(client_machine&);
  client_commands commands_;
  std::unique_ptr<client_link> link_;
  std::unique_ptr<client_poster> poster_;
  std::vector<std::unique_ptr<client_link>> dead_;  // until the turn's end
  std::vector<followed> channels_;
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
  bool started_ = false, reached_ = false, probed_ = false, moved_ = false, stale_ = true, asking_ = false,
       held_ = false;
};

}  // namespace hailwire::detail
