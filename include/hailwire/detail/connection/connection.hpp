// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because the phases, the time limits and the ends of a connection hang on each other and are read
// together.
//
// One connection, from its first byte to its last, without a socket: bytes and time come in through `receive`,
// `writable`, `ended` and `expire`; output and read and write interest go out through a few virtual functions that a
// driver (or a test) implements.
//
//   head ─→ body ─→ asked ─→ stream                          (SSE, WebSocket: until the connection ends)
//    ↑               │  └──→ held ──┐                         (polls)
//    └── answered ←──┴──────────────┘          any ─→ closing ─→ lingering ─→ dead
//
// Reading. In `head` and `body` bytes gather in the exchange, the block that a request needs and an idle stream does
// not have. In `stream` they go straight to the transport's state machine; each command is carried out before the next
// one is looked at, and while replies are unsent, or a command waits for the storage, nothing more is read (`held`
// keeps what had been received already).
//
// Writing. `pump` gathers, in this order: the rest of a shared frame that is half sent, the connection's own bytes
// (`out`), shared bytes from the subscriptions. What a write does not take stays where it is: own bytes in `out`,
// shared ones as a place in a chunk. A poll's answer is one frame: what is left of it moves to `out`.
//
// `wake` and `pump` only write. Whatever may run host code or change what is followed (the next request, the end of a
// session) happens in `receive`, `expire`, handlers, or `settle`, never inside a flush.
//
// This file has the class, its phases, its time limits and its ends. How requests are served is in requests.hpp; polls
// in polls.hpp; what is read and written on a stream in streams.hpp.

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/connection/http_exchange.hpp"
#include "hailwire/detail/connection/server_state.hpp"
#include "hailwire/transport/poll.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::detail {

/// What a connection does while it carries a stream: it opens it, reads what the client says, answers commands, shows
/// life and asks for it. It has no state of its own, because an idle stream has none to spare: it is made where it is
/// needed.
class stream_exchange {
 public:
  explicit stream_exchange(connection& on) noexcept : on_(on) {}

  void open();
  void open_frames(frame_route& route);
  void feed(std::span<char> in);
  std::error_code send_frame(std::string_view bytes, bool binary);
  std::int64_t next_beat(std::int64_t now) const noexcept;
  void beat(std::int64_t now);

 private:
  void take_rest(std::string input);
  void publish_raw(std::string_view bytes, bool binary);
  void command(std::string_view text);
  void answer_command(std::string_view id, const result<std::string>& r);
  bool asked_for_life() const noexcept;
  std::int64_t life_due(std::int64_t now) const noexcept;

  connection& on_;
};

class connection : public session {
 public:
  explicit connection(server_state& g) : work_(g) { g.messages.enter(*this); }
  ~connection() override { detach(); }

  // ---- called by the driver ---------------------------------------------------------------------------------------

  /// The connection is there. The first request must come within `options::head_time`.
  void start() {
    last_read_ = last_write_ = since_ = moment(server().now());
    schedule();
    update_watch();
  }
  /// Received bytes; may be changed in place.
  void receive(std::span<char> bytes);
  /// The peer will send nothing more.
  void ended();
  /// Writing may go on: the peer has taken something. `held`: what was written before stands somewhere still, so
  /// nothing more is.
  inline void writable(bool held = false);
  /// Reading or writing failed for good.
  void failed(std::error_code ec) { server().note("connection_failed", *this, ec), die(true); }
  inline void expire(std::int64_t now) override;

  /// Ends it in order, because the server stops: a stream with a close, a request that waits with an answer. From now
  /// on its last bytes have `options::close_time`.
  void shut_down() {
    if (phase_ == phase::stream) return end(errc::draining, 1001, "server stopped");
    if (phase_ == phase::dead) return;
    schedule();
    ask_settle();
  }
  /// Ends it now: the session's `on_close` runs before this returns. For the server's own end, outside any flush.
  void destroy() {
    if (detached_) return;
    die(false);
    settle();
  }

  /// Serves what a host has accepted and read already.
  void adopt(std::string_view already_read) {
    start();
    std::string copy(already_read);
    if (!copy.empty()) receive(copy);
  }

  // ---- called by the hub ----------------------------------------------------------------------

  void wake(subscription* live) override {
    wake_asked_ = wake_asked_ && live;
    if (phase_ != phase::held || !answer_held(false)) pump(live);
  }
  inline void settle() override;
  inline void lost(subscription& s, const gap& g) override;
  void keep(subscription& s, std::string_view rest) override {
    if (half() == &s) {
      busy().out.insert(0, rest);  // nothing of `out` can be half sent while a shared frame is
      busy().half = nullptr;
    }
  }
  void moved(const subscription& from, subscription& to) noexcept override {
    if (half() == &from) busy().half = &to;
  }
  std::uint64_t floor(const subscription& s) const noexcept override {
    return is_open() ? permissions().floor_of(s.in().log().name()) : 1;
  }
  void unreadable(subscription&, std::error_code ec) override {
    failure why = storage_failure(ec);
    end(why.code, close_code(why.code), why.text());
  }
  void broken() noexcept override { server().log().thrown("a connection"), die(false); }
  inline std::error_code notice(std::string_view name, std::string_view json) override;
  inline void end(errc why, std::uint16_t code, std::string_view reason) override;
  bool ending() const noexcept override { return phase_ >= phase::closing || answered_; }
  bool adjustable() const noexcept override { return phase_ == phase::stream && stream_->speaks(); }
  bool duplex() const noexcept override { return stream_ && stream_->duplex(); }
  hub& at() const noexcept override { return server().messages; }
  std::string_view transport() const noexcept override {
    return stream_ ? stream_->name() : asked() ? asked()->shown_.transport() : std::string_view();
  }
  const proto::encoding& encoding() const noexcept override {
    return !stream_ ? *server().polls->messages : phase_ == phase::asked ? stream_->messages() : stream_->others();
  }

 protected:
  // ---- implemented by the driver
  // ----------------------------------------------------------------------------------------

  /// Writes what it can of the pieces, in order, without waiting; the number of bytes taken. Short when it would block,
  /// or `hold_back`. An error is reported by `failed`, later.
  virtual std::size_t write(std::span<const std::span<const char>> pieces) = 0;
  /// For a `write` that took something which has not left: as if it had been short, also if it took all.
  void hold_back() {
    blocked_ = true;
    ask_settle();
  }
  /// Read and write interest: what the driver is to tell of.
  virtual void watch(bool readable, bool writable) = 0;
  /// Sends the end of the stream; reading goes on.
  virtual void shut_write() = 0;
  /// Closes for good. Nothing more is called on it but `peer`.
  virtual void shut() = 0;
  virtual std::string peer() const = 0;
  /// Who asks, as the request that is being served knows it; else who is connected.
  std::string known_peer() const { return asked() && asked()->shown_ ? asked()->shown_.peer() : peer(); }
  friend class hailwire::request;
  friend class server_state;
  friend class http_exchange;
  friend class stream_exchange;
  /// How a driver tells it anything: what there is no memory for ends this connection, and nothing else.
  template <class F>
  void contained(F f) noexcept {
    try {
      f();
    } catch (...) {
      broken();
    }
  }
  /// Whether the peer has sent something that was not received yet, because the loop had other things to do.
  virtual bool input_waits() const noexcept { return false; }
  /// How many bytes of what `write` has taken the peer's system has acknowledged, counted from some beginning on; and
  /// how many it has not yet. Both are 0 where nobody knows.
  virtual std::uint64_t acknowledged() const noexcept { return 0; }
  virtual std::uint64_t unacknowledged() const noexcept { return 0; }
  /// What has been taken by `write` and has not left this process yet, where that can be: such a driver says `moved`
  /// whenever some has, and, once `shut_write` is done, `ended` if the peer has ended too.
  enum class leaving : std::uint8_t { nothing, farewell, bytes };
  virtual leaving still() const noexcept { return leaving::nothing; }
  void moved() {
    if (gives()) enter(phase_);
  }
  /// Null when there is no TLS.
  virtual std::shared_ptr<const tls_peer> tls() const { return nullptr; }

  /// What `watch` was told last.
  bool wants_read() const noexcept { return reading_; }
  bool waits_to_write() const noexcept { return blocked_; }

  /// Leaves the server; a session that is still open ends without hooks.
  void detach() noexcept;
  server_state& server() const noexcept { return work_.server(); }

 private:
  enum class phase : std::uint8_t { head, body, asked, stream, held, closing, lingering, dead };

  /// What a stream of the host's own frames is to the host.
  struct frames final : frame_socket, any_box {
    frames(connection& c, frame_route& r) : of(&c), route(&r) {}
    std::error_code send_text(std::string_view utf8) override { return stream_exchange(*of).send_frame(utf8, false); }
    std::error_code send_binary(std::string_view bytes) override {
      return stream_exchange(*of).send_frame(bytes, true);
    }
    void close(std::uint16_t code, std::string_view reason) override { of->end(errc::forbidden, code, reason); }
    connection* of;
    frame_route* route;
  };

  // Reading
  bool may_read() const noexcept {
    return !command_under_way_ && unsent() < server().settings.max_unsent && !(blocked_ && unsent());
  }
  void command_over() {
    command_under_way_ = false;
    if (!feeding_) ask_settle();  // to read on
  }

  // Requests: the part that changes phases; `http_exchange` has the rest
  void process();
  void write_answer(std::span<const std::span<const char>> pieces);
  bool answer_held(bool at_end);
  void answered(bool keep);
  void finish_exchange();
  void leave();
  bool keeps() const noexcept { return keep_ && !server().stopping && !(peer_ended_ && asked()->rest_.empty()); }
  /// Whether a request has been asked and not answered: one whose connection broke is not answered any more.
  bool owes() const noexcept { return phase_ == phase::asked && !answered_; }

  // Writing
  struct batch;
  void pump(subscription* live);
  bool pump_one(subscription* live);
  void block();
  void gather(batch& b, subscription* live);
  void taken(const batch& b, std::size_t n);
  /// Whether output waits for the peer: own bytes, or what a layer has taken and not sent.
  bool unwritten() const noexcept { return unsent() || blocked_; }
  std::size_t unsent() const noexcept { return work_->out.size() - work_->sent; }
  std::span<const char> own_bytes() const noexcept { return std::span<const char>(work_->out).subspan(work_->sent); }
  std::string& out() { return busy().out; }
  subscription* half() const noexcept { return work_->half; }
  bool holds_input() const noexcept { return !work_->held.empty(); }
  pending_io& busy() { return work_.busy(); }
  void give_reason(close_reason why) noexcept {
    try {
      if (!busy().reason) busy().reason = std::unique_ptr<close_reason>(new close_reason(std::move(why)));
    } catch (const std::bad_alloc&) {  // it ends without one
    }
  }
  void ask_wake() {
    if (!wake_asked_) wake_asked_ = true, server().messages.request_wake(*this);
  }
  void ask_settle() {
    if (!settle_asked_) settle_asked_ = true, server().messages.request_settle(*this);
  }
  void flushed();
  void own_bytes_gone(std::string next = {});

  // State
  /// Whether the peer has only to take the rest of its output, which is still in this process.
  bool gives() const noexcept {
    bool waits = phase_ == phase::lingering || (phase_ == phase::head && (!asked() || asked()->in_.empty()));
    return waits && !server().stopping && still() == leaving::bytes;
  }
  void schedule();
  std::int64_t limit(std::int64_t now) const noexcept;
  void look_at_progress(std::int64_t now);
  void update_watch();
  bool wants_input() const noexcept;
  std::string position_text(std::span<const std::uint64_t> reached = {}, const http_exchange* unheard = nullptr,
                            std::size_t untold = 0) const;
  std::string told_cursor(const http_exchange* unheard = nullptr, std::size_t untold = 0) const {
    return stream_ && stream_->gives_cursor() ? position_text({}, unheard, untold) : std::string();
  }
  void tell_gap(const channel_log& log, const gap& g, std::string_view cursor);
  void enter(phase p) {
    phase_ = p;
    since_ = moment(server().now());
    schedule();
  }
  void die(bool by_peer, errc why = errc::internal) noexcept;
  void end_session();
  void end_answered();
  http_exchange* asked() const noexcept { return work_->request.get(); }
  http_exchange& ex() {
    if (!asked()) busy().request = std::unique_ptr<http_exchange>(new http_exchange(*this));
    return *asked();
  }
  void forget_request() noexcept {
    if (asked()) busy().request.reset();
  }
  /// A connection that carries the host's own frames has no session, so they lie where a session has the host's object.
  frames* own_frames() const noexcept { return framed_ ? static_cast<frames*>(find_rare()->data.get()) : nullptr; }

  // In this order there are no gaps.
  phase phase_ : 4 = phase::head;
  bool blocked_ : 1 = false, peer_ended_ : 1 = false, wake_asked_ : 1 = false, settle_asked_ : 1 = false,
                  command_under_way_ : 1 = false, keep_ : 1 = true, processing_ : 1 = false, opened_ : 1 = false,
                  answered_ : 1 = false, served_ : 1 = false, reading_ : 1 = false, feeding_ : 1 = false,
                  detached_ : 1 = false,
                  tags_ : 1 = false,  // the open stream's batches carry its own cursor
      framed_ : 1 = false;            // it carries the host's own frames

 protected:
  // Bits that are left over here, for its driver's notes: it alone says what they mean.
  static constexpr int driver_note_bits = 5;
  std::uint8_t driver_notes_ : driver_note_bits = 0;

 private:
  transport::stream_box stream_;
  pending_slot work_;
  moment last_read_, last_write_;
  moment since_;  // when the phase began, or its first byte came; on a stream when life was asked for
};

// ---- reading

/// What may wait behind a request that is being served, before reading pauses: a pipelined request or two.
inline constexpr std::size_t pipelined_limit = 16 * 1024;

inline bool connection::wants_input() const noexcept {
  if (peer_ended_) return false;
  switch (phase_) {
    case phase::head:
    case phase::body:
      return unsent() < server().settings.max_unsent;
    case phase::asked:
    case phase::held:
      return !asked() || asked()->rest_.size() < pipelined_limit;  // to learn that the peer is gone
    case phase::stream:
      return may_read() && !holds_input();
    case phase::closing:
      return stream_ && stream_->awaits_end();
    case phase::lingering:
      return true;
    case phase::dead:
      break;
  }
  return false;
}

inline void connection::update_watch() {
  if (phase_ == phase::dead) return;
  bool reads = wants_input();
  if (reads && !reading_) last_read_ = moment(server().now());  // silence counts from here: nobody listened before
  reading_ = reads;
  watch(reads, blocked_);
  work_.rest();
}

inline void connection::receive(std::span<char> bytes) {
  last_read_ = moment(server().now());
  switch (phase_) {
    case phase::head:
      if (!asked() || asked()->in_.empty()) since_ = last_read_;
      ex().in_.append(bytes.data(), bytes.size());
      process();
      schedule();
      break;
    case phase::body:
    case phase::asked:
    case phase::held:
      ex().rest_.append(bytes.data(), bytes.size());
      if (phase_ == phase::body) process();
      break;
    case phase::stream:
      stream_exchange(*this).feed(bytes);
      break;
    case phase::closing:
      if (stream_ && stream_->awaits_end()) stream_exchange(*this).feed(bytes);
      break;
    case phase::lingering:
    case phase::dead:
      break;
  }
  update_watch();
}

inline void connection::ended() {
  peer_ended_ = true;
  switch (phase_) {
    case phase::stream:
      end_answered();
      break;
    case phase::lingering:
      return die(true);
    // It may still be reading: what it has asked is served, and what it broke off is told (RFC 9112, sections 8
    // and 9.6).
    case phase::head:
    case phase::body:
      if (phase_ == phase::body || (asked() && !asked()->in_.empty())) return process(), update_watch();
      [[fallthrough]];
    case phase::closing:
      if (!unwritten()) return die(true);
      if (phase_ == phase::head) enter(phase::closing);
      break;
    // A client that closes its half first still gets its answer; nobody can tell it from one that has gone, so what may
    // wait is answered at once.
    case phase::held:
      give_reason({errc::internal, 1006, {}, true});
      answer_held(true);
      break;
    case phase::asked:
      if (!answered_ && stream_) return die(true);
      break;
    case phase::dead:
      return;
  }
  update_watch();
}

// The peer has ended its stream without a close. What it has said before is answered, as it is for HTTP, if it takes
// the answer within `options::close_time`: nobody can tell a peer that still reads from one that has gone.
inline void connection::end_answered() {
  if (phase_ != phase::stream || command_under_way_ || holds_input()) return;
  if (!unsent()) return die(true);
  give_reason({errc::internal, 1006, {}, true});
  enter(phase::closing);
  ask_wake();
  ask_settle();
}

// ---- time

inline std::int64_t milliseconds_of(std::chrono::milliseconds d) noexcept { return d.count(); }

/// A loop whose timers run so late was held up: a debugger, a virtual machine that stood still, a hook that took long.
/// What its peers have sent meanwhile may not be here yet, so no time limit is held against them. Ten times what the
/// timer wheel rounds.
inline constexpr std::int64_t standstill = 1000;

// When the phase's time is over, or that of a peer that takes nothing. Streams that wait for nothing have beats
// instead.
inline std::int64_t connection::limit(std::int64_t now) const noexcept {
  const options& o = server().settings;
  const std::int64_t since = since_.at(now);
  std::int64_t due = INT64_MAX;
  switch (phase_) {
    case phase::head:
      if (unwritten() && !server().stopping) break;
      due = since + milliseconds_of(gives()                                         ? o.stall_time
                                    : served_ && (!asked() || asked()->in_.empty()) ? o.idle_time
                                                                                    : o.head_time);
      break;
    case phase::body:
      due = since + milliseconds_of(o.body_time);
      break;
    case phase::held:
      if (!asked()->at_once_) due = asked()->until_;
      break;
    case phase::closing:
      // An answer may take as long as its peer takes some of it; a stream that was ended has nothing left to give.
      if (stream_ || !unwritten() || server().stopping) due = since + milliseconds_of(o.close_time);
      break;
    case phase::lingering:
      due = since + milliseconds_of(gives() ? o.stall_time : o.close_time);
      break;
    case phase::asked:
    case phase::stream:
    case phase::dead:
      break;
  }
  return blocked_ ? std::min(due, last_write_.at(now) + milliseconds_of(o.stall_time)) : due;
}

// How often a queue of bytes is looked at, of the time within which something must leave it.
inline constexpr std::int64_t looks = 4;

inline void connection::schedule() {
  if (phase_ == phase::asked && !blocked_) return;  // an earlier deadline does no harm, and mostly the next is later
  const std::int64_t now = server().now();
  std::int64_t due = phase_ == phase::stream && !blocked_ ? stream_exchange(*this).next_beat(now) : limit(now);
  if (blocked_ && phase_ != phase::dead) {
    if (!work_->seen) busy().seen = acknowledged() + 1;
    due = std::min(due, now + milliseconds_of(server().settings.stall_time) / looks);
  }
  if (due == INT64_MAX || phase_ == phase::dead) return server().messages.wheel().disarm(*this);
  server().messages.arm(*this, due);
}

// What the peer's system has acknowledged is taken, also where there is no room to write yet.
inline void connection::look_at_progress(std::int64_t now) {
  if (!work_->seen) return;
  if (std::uint64_t seen = acknowledged() + 1; seen != work_->seen) {
    busy().seen = seen;
    last_write_ = moment(now);
  }
}

inline void connection::expire(std::int64_t now) {
  if (phase_ == phase::stream && !blocked_) return stream_exchange(*this).beat(now);
  if (blocked_) look_at_progress(now);
  const std::int64_t due = limit(now);
  if (phase_ == phase::dead || due == INT64_MAX) return;
  if (now - due >= standstill) {
    since_ = last_write_ = moment(now);
    if (phase_ != phase::held || now < asked()->until_) return schedule();
  }
  if (now < limit(now)) return schedule();
  if (blocked_ && now >= last_write_.at(now) + milliseconds_of(server().settings.stall_time))
    return die(false, errc::timeout);
  switch (phase_) {
    case phase::head:
      if (!asked() || asked()->in_.empty()) return die(false, errc::timeout);
      asked()->drop_head();
      asked()->refuse({errc::timeout, "the request head took too long"});
      break;
    case phase::body:
      asked()->refuse({errc::timeout, "the request body took too long"});
      break;
    case phase::held:
      answer_held(true);
      break;
    case phase::closing:
    case phase::lingering:
      return die(false, errc::timeout);
    case phase::stream:
    case phase::asked:
    case phase::dead:
      return;
  }
  schedule();
}

// ---- ends

inline void connection::end(errc why, std::uint16_t code, std::string_view reason) {
  switch (phase_) {
    case phase::stream:
      give_reason({why, code, std::string(reason), false});
      server().note("closed", *this, why, reason);
      stream_->end(out(), code, reason);
      enter(phase::closing);
      ask_wake();
      ask_settle();
      break;
    case phase::held:
    case phase::asked:
      if (answered_ || !asked()) return;
      give_reason({why, code, std::string(reason), false});
      // A poll that its host ends gets what there is. One whose storage fails must not look again: it would fail again.
      if (code == 1011) why = errc::internal;
      if (asked()->array_) {  // always 200 with an array, whatever ends it
        asked()->leave_commands({why, std::string(reason)});
      } else if (why != errc::forbidden || phase_ == phase::asked) {
        asked()->refuse_stream({why, std::string(reason)});
      } else {
        answer_held(true);
      }
      break;
    default:
      break;
  }
}

inline void connection::die(bool by_peer, errc why) noexcept {
  if (phase_ == phase::dead) return;
  give_reason({why, 1006, {}, by_peer});
  phase_ = phase::dead;
  server().messages.wheel().disarm(*this);
  ask_settle();
}

inline void connection::end_session() {
  if (asked()) ++asked()->serial_;
  command_under_way_ = false;
  static const close_reason in_order{errc::internal, 1000, {}, false};
  const close_reason& why = work_->reason ? *work_->reason : in_order;
  const bool told = opened_;
  opened_ = false;
  if (frames* own = own_frames()) {
    auto& to = own->route->handlers;
    if (told && to.on_close) server().guarded("on_close", [&] { to.on_close(*own, why); });
    own->data.reset();
  }
  if (is_open()) {
    if (told && server().host.on_close) server().guarded("on_close", [&] { server().host.on_close(*this, why); });
    server().close(*this);
  }
  if (half()) busy().half = nullptr;
  if (work_->reason) busy().reason.reset();
  work_.rest();
}

inline void connection::settle() {
  settle_asked_ = false;
  switch (phase_) {
    case phase::dead:
      end_session();
      detach();
      return shut();
    case phase::closing:
      if (is_open() || opened_) end_session();
      if (holds_input() && stream_) {  // the peer's own close may be among what was not read
        std::string in = std::exchange(busy().held, {});
        stream_exchange(*this).feed(in);
      }
      if (!blocked_) pump(nullptr);
      if (phase_ == phase::closing && !unwritten() && (peer_ended_ || !(stream_ && stream_->awaits_end()))) {
        // The peer may still be sending what nobody will read; closing now would reset the connection and could take
        // our last bytes with it (RFC 9112, section 9.6).
        shut_write();
        stream_.reset();
        forget_request();
        if (peer_ended_ && still() == leaving::nothing) return die(false);
        enter(phase::lingering);
      }
      break;
    case phase::stream:
      if (holds_input() && may_read()) {
        std::string in = std::exchange(busy().held, {});
        stream_exchange(*this).feed(in);
      }
      if (peer_ended_) end_answered();
      break;
    case phase::lingering:
      break;
    default:
      process();
      if (server().stopping) leave();
  }
  if (blocked_) schedule();
  update_watch();
}

inline void connection::detach() noexcept {
  if (detached_) return;
  detached_ = true;
  phase_ = phase::dead;
  server().messages.wheel().disarm(*this);
  if (is_open()) server().close(*this);
  server().messages.forget(*this);
  server().messages.leave(*this);
  work_.drop();
}

inline void server_state::note(std::string_view event, const connection& c, const std::error_code& code,
                               std::string_view text) const noexcept {
  if (!log().hears(log_level::debug)) return;
  try {
    const session* s = c.is_open() ? &c : nullptr;
    const std::string id = s ? s->id() : std::string(), peer = c.known_peer();
    log()({log_level::debug, event, id, s ? s->user() : std::string_view(), peer, code, {}},
          text.empty() ? code.message() : std::string(text));
  } catch (...) {  // no memory to tell of it
  }
}

inline vector<connection*> server_state::connections() const {
  vector<connection*> out;
  for (session* s : messages.entered()) out.push_back(static_cast<connection*>(s));
  return out;
}

inline void server_state::destroy_all() {
  for (auto all = connections(); !all.empty(); all = connections())
    for (connection* c : all) c->destroy();
}

}  // namespace hailwire::detail

#include "hailwire/detail/connection/polls.hpp"
#include "hailwire/detail/connection/requests.hpp"
#include "hailwire/detail/connection/streams.hpp"
