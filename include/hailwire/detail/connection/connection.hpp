// SPDX-License-Identifier: BSL-1.0
#pragma once

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
// This file has the class, its phases, its time limits and its ends. How requests are served is in requests.ipp; polls
// in polls.ipp; what is read and written on a stream in streams.ipp.

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
  std::int64_t acknowledged_due(std::int64_t now) const noexcept;
  bool vanished(std::int64_t now);
  std::int64_t interval() const noexcept;

  connection& on_;
};

class connection : public session {
 public:
  explicit connection(server_state& g) : work_(g) {
    g.messages.enter(*this);
    if (!g.door.enter()) excess_ = excess::of_all;
  }
  ~connection() override { detach(); }

  // ---- called by the driver ---------------------------------------------------------------------------------------

  /// The connection is there. The first request must come within `options::head_time`.
  void start();
  /// Received bytes; may be changed in place.
  void receive(std::span<char> bytes);
  /// The peer will send nothing more.
  void ended();
  /// Writing may go on: the peer has taken something. `held`: what was written before stands somewhere still, so
  /// nothing more is.
  HAILWIRE_INLINE void writable(bool held = false);
  /// Reading or writing failed for good.
  void failed(std::error_code ec) { server().note("connection_failed", *this, ec), die(true); }
  HAILWIRE_INLINE void expire(std::int64_t now) override;

  /// Ends it in order, because the server stops: a stream with a close, a request that waits with an answer. From now
  /// on its last bytes have `options::close_time`.
  void shut_down();
  /// What became of a connection whose server drains: it was told `bye` and ends; it is answered first; it waits for
  /// its turn; or there is nobody on it.
  enum class farewell : std::uint8_t { none, told, owed, later };
  /// Its server drains. `turn`: whether a stream may be told now; `at_once`: whatever is under way on it.
  farewell take_leave(bool turn, bool at_once);
  /// Ends it now: the session's `on_close` runs before this returns. For the server's own end, outside any flush.
  void destroy();

  /// Serves what a host has accepted and read already.
  void adopt(std::string_view already_read);

  // ---- called by the hub ----------------------------------------------------------------------

  HAILWIRE_INLINE void wake(subscription* live) override;
  HAILWIRE_INLINE void settle() override;
  HAILWIRE_INLINE void lost(subscription& s, const gap& g) override;
  HAILWIRE_INLINE void missed(subscription& s) override;
  HAILWIRE_INLINE void keep(subscription& s, std::string_view rest) override;
  HAILWIRE_INLINE void moved(const subscription& from, subscription& to) noexcept override;
  std::uint64_t floor(const subscription& s) const noexcept override {
    return is_open() ? permissions().floor_of(s.in().log().name()) : 1;
  }
  HAILWIRE_INLINE void unreadable(subscription&, std::error_code ec) override;
  void broken() noexcept override { server().log().thrown("a connection"), die(false); }
  HAILWIRE_INLINE std::error_code notice(std::string_view name, std::string_view json) override;
  HAILWIRE_INLINE void end(errc why, std::uint16_t code, std::string_view reason) override;
  bool ending() const noexcept override { return phase_ >= phase::closing || answered_; }
  bool adjustable() const noexcept override { return phase_ == phase::stream && stream_->speaks(); }
  bool duplex() const noexcept override { return stream_ && stream_->duplex(); }
  HAILWIRE_INLINE echo no_echo_to() const noexcept override;
  bool ends_with_answer() const noexcept override { return !stream_ && !framed_; }
  hub& at() const noexcept override { return server().messages; }
  std::string_view transport() const noexcept override {
    return stream_ ? stream_->name() : asked() ? asked()->shown_.transport() : std::string_view();
  }
  HAILWIRE_INLINE std::string address() const override;
  const proto::encoding& encoding() const noexcept override {
    if (!stream_) return asked() && asked()->signals_ ? *server().polls->signals : *server().polls->messages;
    return phase_ == phase::asked ? stream_->messages() : stream_->others();
  }

 protected:
  // ---- implemented by the driver
  // ----------------------------------------------------------------------------------------

  /// Writes what it can of the pieces, in order, without waiting; the number of bytes taken. Short when it would block,
  /// or `hold_back`. An error is reported by `failed`, later.
  virtual std::size_t write(std::span<const std::span<const char>> pieces) = 0;
  /// For a `write` that took something which has not left: as if it had been short, also if it took all.
  void hold_back();
  /// Read and write interest: what the driver is to tell of.
  virtual void watch(bool readable, bool writable) = 0;
  /// Sends the end of the stream; reading goes on.
  virtual void shut_write() = 0;
  /// Closes for good. Nothing more is called on it but `peer`.
  virtual void shut() = 0;
  virtual std::string peer() const = 0;
  /// The client's address, which proxies may have told; else the peer's.
  std::string known_peer() const;
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
  /// For how many milliseconds the peer's system has sent nothing, not even an acknowledgement; 0 where nobody knows.
  virtual std::int64_t silent_for() const noexcept { return 0; }
  /// Has the system ask for life after so long a silence.
  virtual void keep_alive(std::chrono::seconds /*silence*/) {}
  /// What has been taken by `write` and has not left this process yet, where that can be: such a driver says `moved`
  /// whenever some has, and, once `shut_write` is done, `ended` if the peer has ended too.
  enum class leaving : std::uint8_t { nothing, farewell, bytes };
  virtual leaving still() const noexcept { return leaving::nothing; }
  void moved();
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
  void command_over();

  // Limits
  sender* sends() {
    const auto* rare = asked() ? nullptr : find_rare();
    return rare && rare->sends ? &*rare->sends : find_sender();
  }
  sender* find_sender();
  void charge(std::size_t bytes);
  std::int64_t owed_ms() const noexcept;
  std::optional<failure> excess_failure() const;

  // Requests: the part that changes phases; `http_exchange` has the rest
  void process();
  void write_answer(std::span<const std::span<const char>> pieces);
  bool answer_held(bool at_end);
  void answered(bool keep);
  void finish_exchange();
  void leave();
  bool keeps() const noexcept { return keep_ && !server().leaving() && !(peer_ended_ && asked()->rest_.empty()); }
  /// Whether a request has been asked and not answered: one whose connection broke is not answered any more.
  bool owes() const noexcept { return phase_ == phase::asked && !answered_; }

  // Writing
  struct batch;
  void pump(subscription* live);
  void deliver(subscription& live);
  void write_own();
  [[gnu::noinline]] HAILWIRE_INLINE void pump_batches(subscription* live);
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
  void give_reason(close_reason why) noexcept;
  void ask_wake();
  void ask_settle();
  void flushed();
  bool flush_is_near() const noexcept;
  void own_bytes_gone(std::string next = {});

  // State
  /// Whether the peer has only to take the rest of its output, which is still in this process.
  bool gives() const noexcept;
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
  void enter(phase p);
  void die(bool by_peer, errc why = errc::internal) noexcept;
  void session_began();
  void session_over() noexcept;
  [[gnu::cold]] void note_access(const close_reason& why) noexcept;
  void end_session();
  void end_answered();
  http_exchange* asked() const noexcept { return work_->request.get(); }
  http_exchange& ex();
  void forget_request() noexcept;
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

inline std::int64_t milliseconds_of(std::chrono::milliseconds d) noexcept { return d.count(); }

/// A loop whose timers run so late was held up: a debugger, a virtual machine that stood still, a hook that took long.
/// What its peers have sent meanwhile may not be here yet, so no time limit is held against them. Ten times what the
/// timer wheel rounds.
inline constexpr std::int64_t standstill = 1000;

// How often a queue of bytes is looked at, of the time within which something must leave it.
inline constexpr std::int64_t looks = 4;

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/connection/accounts.ipp"
#include "hailwire/detail/connection/connection.ipp"
#include "hailwire/detail/connection/contents.ipp"
#include "hailwire/detail/connection/draining.ipp"
#include "hailwire/detail/connection/limits.ipp"
#include "hailwire/detail/connection/polls.ipp"
#include "hailwire/detail/connection/requests.ipp"
#include "hailwire/detail/connection/streams.ipp"
#include "hailwire/detail/connection/uploads.ipp"
#endif
