// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because a connection's phases, their time limits and its ends are one state machine.

#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {

/// What may wait behind a request that is being served, before reading pauses: a pipelined request or two.
inline constexpr std::size_t pipelined_limit = 16 * 1024;

/// What a stream may bring at a time, before it counts, from a client that has not sent anything that does: the largest
/// control frame (RFC 6455, section 5.5), masked, is 131 bytes.
inline constexpr std::size_t uncounted_bytes = 256;

HAILWIRE_INLINE void connection::start() {
  last_read_ = last_write_ = since_ = moment(server().now());
  if (const std::size_t most = server().settings.max_connections_per_address) {
    const std::string from = peer();
    if (!server().behind.trust(from) && !server().connections_of_address.add(slot_, from, most) &&
        excess_ == excess::none)
      excess_ = excess::of_address;
  }
  schedule();
  update_watch();
}

HAILWIRE_INLINE void connection::shut_down() {
  if (phase_ == phase::stream) return end(errc::draining, 1001, "server stopped");
  if (phase_ == phase::dead) return;
  schedule();
  ask_settle();
}

HAILWIRE_INLINE void connection::destroy() {
  if (detached_) return;
  die(false);
  settle();
}

HAILWIRE_INLINE void connection::adopt(std::string_view already_read) {
  start();
  std::string copy(already_read);
  if (!copy.empty()) receive(copy);
}

HAILWIRE_INLINE void connection::wake(subscription* live) {
  wake_asked_ = wake_asked_ && live;
  // A poll that a flush does not answer has gathered what was live-only in it, and there was nothing else.
  if (phase_ == phase::held && (answer_held(false) || live)) return;
  live ? deliver(*live) : pump(nullptr);
}

HAILWIRE_INLINE void connection::keep(subscription& s, std::string_view rest) {
  if (half() == &s) {
    busy().out.insert(0, rest);  // nothing of `out` can be half sent while a shared frame is
    busy().half = nullptr;
  }
}

HAILWIRE_INLINE void connection::moved(const subscription& from, subscription& to) noexcept {
  if (half() == &from) busy().half = &to;
}

HAILWIRE_INLINE void connection::unreadable(subscription&, std::error_code ec) {
  failure why = storage_failure(ec);
  end(why.code, close_code(why.code), why.text());
}

HAILWIRE_INLINE void connection::hold_back() {
  blocked_ = true;
  ask_settle();
}

HAILWIRE_INLINE void connection::moved() {
  if (gives()) enter(phase_);
}

HAILWIRE_INLINE void connection::command_over() {
  command_under_way_ = false;
  if (!feeding_) ask_settle();  // to read on
}

HAILWIRE_INLINE void connection::give_reason(close_reason why) noexcept {
  try {
    if (!busy().reason) busy().reason = std::unique_ptr<close_reason>(new close_reason(std::move(why)));
  } catch (const std::bad_alloc&) {  // it ends without one
  }
}

HAILWIRE_INLINE void connection::ask_wake() {
  if (!wake_asked_) wake_asked_ = true, server().messages.turn.request_wake(*this);
}

HAILWIRE_INLINE void connection::ask_settle() {
  if (!settle_asked_) settle_asked_ = true, server().messages.turn.request_settle(*this);
}

HAILWIRE_INLINE bool connection::gives() const noexcept {
  bool waits = phase_ == phase::lingering || (phase_ == phase::head && (!asked() || asked()->in_.empty()));
  return waits && !server().stopping && still() == leaving::bytes;
}

HAILWIRE_INLINE void connection::enter(phase p) {
  phase_ = p;
  since_ = moment(server().now());
  schedule();
}

HAILWIRE_INLINE http_exchange& connection::ex() {
  if (!asked()) busy().request = std::unique_ptr<http_exchange>(new http_exchange(*this));
  return *asked();
}

HAILWIRE_INLINE void connection::forget_request() noexcept {
  if (asked()) busy().request.reset();
}

HAILWIRE_INLINE bool connection::wants_input() const noexcept {
  if (peer_ended_) return false;
  switch (phase_) {
    case phase::head:
    case phase::body:
      return unsent() < server().settings.max_unsent && !throttled_;
    case phase::asked:
    case phase::held:
      if (asked() && asked()->content_ && asked()->content_->reading)
        return asked()->rest_.size() < upload_buffer && !throttled_;
      return !asked() || asked()->rest_.size() < pipelined_limit;  // to learn that the peer is gone
    case phase::stream:
      return may_read() && !holds_input() && !throttled_;
    case phase::closing:
      return stream_ && stream_->awaits_end();
    case phase::lingering:
      return true;
    case phase::dead:
      break;
  }
  return false;
}

HAILWIRE_INLINE void connection::update_watch() {
  if (phase_ == phase::dead) return;
  bool reads = wants_input();
  if (reads && !reading_) last_read_ = moment(server().now());  // silence counts from here: nobody listened before
  reading_ = reads;
  watch(reads, blocked_);
  work_.rest();
}

HAILWIRE_INLINE void connection::receive(std::span<char> bytes) {
  const std::size_t size = bytes.size();
  last_read_ = moment(server().now());
  server().messages.counted.bytes_in += bytes.size();
  switch (phase_) {
    case phase::head:
      if (!asked() || asked()->in_.empty()) since_ = last_read_;
      ex().in_.append(bytes.data(), bytes.size());
      process();
      if (phase_ == phase::head && asked() && !asked()->in_.empty()) schedule();  // else it is done
      break;
    case phase::body:
    case phase::asked:
    case phase::held:
      ex().rest_.append(bytes.data(), bytes.size());
      if (phase_ == phase::body) process();
      if (phase_ == phase::asked && !answered_ && asked()->content_) asked()->content_more();
      break;
    case phase::stream:
      stream_exchange(*this).feed(bytes);
      if (phase_ == phase::stream) {
        const auto* rare = find_rare();
        if (rare && rare->sends) {
          if (server().senders.note(*rare->sends, size)) charge(0);
        } else if (size > uncounted_bytes) {
          charge(size);
        }
      }
      // Most read on as before, and the driver need not be told again.
      if (phase_ == phase::stream && reading_ && !blocked_ && wants_input()) return work_.rest();
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

HAILWIRE_INLINE void connection::ended() {
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
      if (!answered_ && asked() && asked()->content_) asked()->content_more();
      break;
    case phase::dead:
      return;
  }
  update_watch();
}

// The peer has ended its stream without a close. What it has said before is answered, as it is for HTTP, if it takes
// the answer within `options::close_time`: nobody can tell a peer that still reads from one that has gone.
HAILWIRE_INLINE void connection::end_answered() {
  if (phase_ != phase::stream || command_under_way_ || holds_input()) return;
  if (!unsent()) return die(true);
  give_reason({errc::internal, 1006, {}, true});
  enter(phase::closing);
  ask_wake();
  ask_settle();
}

// When the phase's time is over, or that of a peer that takes nothing. Streams that wait for nothing have beats
// instead.
HAILWIRE_INLINE std::int64_t connection::limit(std::int64_t now) const noexcept {
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
      // An upload may take as long as it goes on; who does not is let go, and continues.
      if (asked() && asked()->content_ && asked()->content_->reading && !asked()->content_->busy && !throttled_)
        due = last_read_.at(now) + milliseconds_of(o.stall_time);
      break;
    case phase::stream:
    case phase::dead:
      break;
  }
  return blocked_ ? std::min(due, last_write_.at(now) + milliseconds_of(o.stall_time)) : due;
}

HAILWIRE_INLINE void connection::schedule() {
  if (phase_ == phase::asked && !blocked_ && !(asked() && asked()->content_))
    return;  // an earlier deadline does no harm, and mostly the next is later
  const std::int64_t now = server().now();
  std::int64_t due = phase_ == phase::stream && !blocked_ ? stream_exchange(*this).next_beat(now) : limit(now);
  if (blocked_ && phase_ != phase::dead) {
    if (!work_->seen) busy().seen = acknowledged() + 1;
    due = std::min(due, now + milliseconds_of(server().settings.stall_time) / looks);
  }
  if (throttled_) due = std::min(due, now + owed_ms());
  if (due == INT64_MAX || phase_ == phase::dead) return server().messages.wheel().disarm(*this);
  server().messages.arm(*this, due);
}

// What the peer's system has acknowledged is taken, also where there is no room to write yet.
HAILWIRE_INLINE void connection::look_at_progress(std::int64_t now) {
  if (!work_->seen) return;
  if (std::uint64_t seen = acknowledged() + 1; seen != work_->seen) {
    busy().seen = seen;
    last_write_ = moment(now);
  }
}

HAILWIRE_INLINE void connection::expire(std::int64_t now) {
  if (throttled_ && !owed_ms()) {
    throttled_ = false;
    ask_settle();  // to read on
  }
  if (phase_ == phase::stream && !blocked_) return stream_exchange(*this).beat(now);
  if (blocked_) look_at_progress(now);
  const std::int64_t due = limit(now);
  if (phase_ == phase::dead || due == INT64_MAX) return schedule();
  if (now - due >= standstill) {
    since_ = last_write_ = moment(now);
    if (phase_ == phase::asked) last_read_ = moment(now);
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
    case phase::asked:
      if (answered_ || !asked() || !asked()->content_) return;
      asked()->refuse({errc::timeout, "the upload stood still"});
      break;
    case phase::stream:
    case phase::dead:
      return;
  }
  schedule();
}

HAILWIRE_INLINE void connection::end(errc why, std::uint16_t code, std::string_view reason) {
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

HAILWIRE_INLINE void connection::die(bool by_peer, errc why) noexcept {
  if (phase_ == phase::dead) return;
  give_reason({why, 1006, {}, by_peer});
  phase_ = phase::dead;
  server().messages.wheel().disarm(*this);
  ask_settle();
}

HAILWIRE_INLINE void connection::end_session() {
  if (asked()) ++asked()->serial_;
  command_under_way_ = false;
  static const close_reason in_order{errc::internal, 1000, {}, false};
  const close_reason& why = work_->reason ? *work_->reason : in_order;
  const bool told = opened_;
  session_over();
  if (told && is_open() && find_rare() && find_rare()->access) note_access(why);
  opened_ = false;
  if (frames* own = own_frames()) {
    auto& to = own->route->handlers;
    if (told && to.on_close) server().guarded("on_close", [&] { to.on_close(*own, why); });
    own->data.reset();
  }
  if (is_open()) {
    if (told && server().host.on_close) server().guarded("on_close", [&] { server().host.on_close(*this, why); });
    if (why.close_code == 1006 || why.close_code == 4408) server().messages.died(*this);
    server().close(*this);
  }
  if (half()) busy().half = nullptr;
  if (work_->reason) busy().reason.reset();
  work_.rest();
}

HAILWIRE_INLINE void connection::settle() {
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
      if (phase_ == phase::asked && !answered_ && asked() && asked()->content_) asked()->content_more();
      process();
      if (server().stopping) leave();
  }
  if (blocked_) schedule();
  update_watch();
}

HAILWIRE_INLINE void connection::detach() noexcept {
  if (detached_) return;
  detached_ = true;
  phase_ = phase::dead;
  server().messages.wheel().disarm(*this);
  session_over();
  if (is_open()) server().close(*this);
  server().messages.forget(*this);
  if (server().settings.max_connections_per_address) server().connections_of_address.remove(slot_);
  server().door.leave(excess_ != excess::of_all);
  server().messages.leave(*this);
  server().left();
  work_.drop();
}

HAILWIRE_INLINE void server_state::note(std::string_view event, const connection& c, const std::error_code& code,
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

HAILWIRE_INLINE vector<connection*> server_state::connections() const {
  vector<connection*> out;
  for (session* s : messages.registry().entered()) out.push_back(static_cast<connection*>(s));
  return out;
}

HAILWIRE_INLINE void server_state::destroy_all() {
  for (auto all = connections(); !all.empty(); all = connections())
    for (connection* c : all) c->destroy();
}

// Reached through the linkage, so that a server without polls does without theirs.
HAILWIRE_INLINE bool connection::answer_held(bool at_end) { return server().polls->answer(*asked(), at_end); }

}  // namespace hailwire::detail
