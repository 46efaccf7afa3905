// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because what a batch is gathered from and what becomes of it when a write stops short stand side by
// side.
//
// How a connection, whose class is in connection.hpp, serves a stream: how it opens, what is read on it, what is told
// on it; and how anything at all is written. A batch is what one write gets, either of
//
//   the rest of a frame that is half sent │ own bytes
//   own bytes │ channel A, but for what ends its last message │ cursor │ channel B …
//
// Where several channels have something, each gives a part, and the next batch begins behind the channel that was the
// last to be sent: a client that is slower than one of its channels still hears the others.
//
// Only own bytes and cursors (on event streams of several channels) belong to this connection; the rest is shared.
// Where a write stops, the place of a channel says where to go on. Within a cursor, which stands in place of the end of
// a message that is sent, the rest of the cursor becomes the next own bytes.

#include <memory>
#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {

// ---- opening --------------------------------------------------------------------------------------------------------

HAILWIRE_INLINE void stream_exchange::open() {
  std::unique_ptr<http_exchange> mine, request = std::move(on_.busy().request);
  std::unique_ptr<http_exchange>& e = request->keeper_ ? *request->keeper_ : mine;
  e = std::move(request);
  on_.tags_ = on_.stream_->tags() != 0;
  e->open_(on_.out(), std::string(on_.server().date()) + e->extra_);
  on_.enter(connection::phase::stream);
  on_.last_read_ = on_.since_;
  on_.opened_ = true;
  // A proxy has said who this is, which nothing else tells once the request has gone.
  if (on_.server().behind.any() && e->shown_.peer() != on_.peer())
    if (auto from = proto::endpoint::parse(e->shown_.peer()))
      on_.ensure_rare().told_peer = std::unique_ptr<const proto::endpoint>(new proto::endpoint(*from));

  std::string json = "{\"open\":{\"session\":\"" + on_.id() + "\",\"user\":";
  proto::json::append_quoted(json, on_.user());
  json += ",\"heartbeat\":";
  if (e->heartbeat_ && e->heartbeat_ != on_.server().settings.heartbeat.count()) {
    on_.ensure_rare().heartbeat = e->heartbeat_;
    on_.keep_alive(std::chrono::seconds(e->heartbeat_));
    on_.schedule();
  }
  proto::append_decimal(json, static_cast<std::uint64_t>(interval() / 1000));
  json += ",\"keys\":";
  proto::append_decimal(json, static_cast<std::uint64_t>(keys_kept(on_.permissions())));
  if (const std::string ticket = e->ticket(); !ticket.empty()) json.append(",\"ticket\":\"").append(ticket) += '"';
  json += ",\"channels\":{";
  for (std::size_t i = 0; i < e->channels_.size(); ++i) {
    if (i) json += ',';
    proto::json::append_quoted(json, e->channels_[i]);
    json += ':';
    append_entry(json, e->starts_[i]);
  }
  json += "}}}";
  // A gap that is told behind it is not passed yet: were the connection cut here, it would not be told again.
  on_.stream_->notice(on_.out(), "open", json, on_.told_cursor(&*e));
  e->tell_losses();
  on_.opened_ = on_.phase_ == connection::phase::stream;  // else a loss has ended it, before anybody heard of it
  if (on_.opened_) on_.session_began();
  if (on_.opened_ && on_.server().host.on_open &&
      !on_.server().guarded("on_open", [&] { on_.server().host.on_open(on_); }))
    on_.end(errc::internal, 1011, hook_failed_text);
  if (on_.phase_ == connection::phase::stream) on_.server().messages.expiries.watch(on_);
  take_rest(std::move(e->rest_));
}

HAILWIRE_INLINE void stream_exchange::open_frames(frame_route& route) {
  http_exchange& e = *on_.asked();
  if (!e.own_page_ && !e.listed_page_) return e.refuse({errc::forbidden, "this origin is not listed"});
  if (on_.peer_ended_) return e.refuse({errc::bad_request, "the client ended before its stream began"});
  auto b =
      route.begin({e.head_, e.query_, on_.server().settings}, route.handlers.subprotocols, route.handlers.max_message);
  if (!b) return e.refuse(b.error());
  on_.stream_ = std::move(b->live);
  auto fresh = std::unique_ptr<connection::frames>(new connection::frames(on_, route));
  connection::frames& own = *fresh;
  on_.ensure_rare().data = std::move(fresh);
  on_.framed_ = true;
  on_.enter(connection::phase::stream);
  on_.last_read_ = on_.since_;
  std::size_t before = on_.out().size();
  b->open(on_.out(), e.extra_);
  bool welcome = true;
  bool fine = on_.server().guarded("on_open", [&] {
    if (route.handlers.on_open) welcome = route.handlers.on_open(own, e.shown_);
  });
  if (!fine || !welcome) {
    if (on_.phase_ == connection::phase::stream) on_.phase_ = connection::phase::asked;
    on_.out().resize(before);  // nothing is written before the turn ends
    on_.stream_.reset();
    on_.framed_ = false;
    on_.extra_.reset();
    return e.refuse(fine ? errc::forbidden : errc::internal);
  }
  on_.opened_ = true;
  auto rest = std::move(e.rest_);
  on_.forget_request();
  take_rest(std::move(rest));
}

// What came behind the request is the stream's.
HAILWIRE_INLINE void stream_exchange::take_rest(std::string input) {
  on_.ask_wake();
  if (input.empty()) return;
  on_.busy().held = std::move(input);
  on_.ask_settle();
}

// ---- reading --------------------------------------------------------------------------------------------------------

HAILWIRE_INLINE void stream_exchange::feed(std::span<char> in) {
  if (on_.holds_input()) {
    on_.busy().held.append(in.data(), in.size());
    return;
  }
  using kind = transport::stream_event::kind;
  on_.feeding_ = true;
  while (!in.empty() && (on_.phase_ == connection::phase::stream || on_.phase_ == connection::phase::closing)) {
    if (on_.phase_ == connection::phase::stream && !on_.may_read()) {
      if (!on_.command_under_way_ && !on_.blocked_) on_.pump(nullptr);
      if (!on_.may_read()) {
        on_.busy().held.assign(in.data(), in.size());
        break;
      }
    }
    auto event = on_.stream_->receive(in, on_.out());
    switch (event.what) {
      case kind::none:
        break;
      case kind::command:
        command(event.data);
        break;
      case kind::text:
      case kind::binary:
        if (connection::frames* own = on_.own_frames()) {
          auto& to = own->route->handlers;
          bool fine = on_.server().guarded("on_message", [&] {
            if (to.on_message) to.on_message(*own, event.data, event.what == kind::binary);
          });
          if (!fine) on_.end(errc::internal, 1011, hook_failed_text);
        } else if (on_.is_open()) {
          publish_raw(event.data, event.what == kind::binary);
        }
        break;
      case kind::closed:
        if (on_.phase_ == connection::phase::stream)
          on_.give_reason({errc::internal, event.code, std::string(event.data), true});
        // The same code back: RFC 6455, section 5.5.1.
        on_.end(errc::internal, event.code, {});
        on_.ask_settle();
        break;
      case kind::failed:
        on_.end(errc::bad_request, event.code, event.data);
        on_.ask_settle();
        break;
    }
  }
  // What is the connection's own (an echo, a reply, a pong) leaves now; where a channel that it follows is about to be
  // flushed, one write takes both.
  if (on_.unsent() && !on_.blocked_) on_.flush_is_near() ? on_.ask_wake() : on_.pump(nullptr);
  on_.feeding_ = false;
}

// A raw client's frame, for the one channel that it follows.
HAILWIRE_INLINE void stream_exchange::publish_raw(std::string_view bytes, bool binary) {
  if (on_.follow_count() == 0) return on_.end(errc::forbidden, 4403, "the channel is not followed any more");
  payload p = binary ? payload::binary(bytes) : payload::text(bytes);
  on_.command_under_way_ = true;
  on_.server().commands.publish(
      on_, std::string(on_.followed(0).in().log().name()), std::move(p), {}, true,
      [on = &on_, by = &on_.server(), key = on_.key()](result<position>&& r) {
        if (!by->messages.find(key)) return;
        on->command_over();
        if (r) return;
        const errc code = r.error().code;
        // An end of its permission is that, whether the timer or a message has come first: the client is
        // to bring another.
        bool own = code == errc::unauthenticated || code == errc::too_large || code == errc::rate_limited ||
                   code == errc::draining || code == errc::overloaded || code == errc::internal;
        on->contained([&] { on->end(code, own ? close_code(code) : std::uint16_t{1008}, r.error().text()); });
      });
}

HAILWIRE_INLINE void stream_exchange::command(std::string_view text) {
  auto c = proto::read_command(text);
  if (!c) return answer_command(proto::command_id(text), c.error());
  on_.command_under_way_ = true;
  if (c->what == proto::command::verb::publish && c->id.empty()) {
    // Without an id only errors are answered, so no answer is made.
    return on_.server().commands.publish(on_, std::move(*c),
                                         [on = &on_, by = &on_.server(), key = on_.key()](result<position>&& r) {
                                           if (!by->messages.find(key)) return;
                                           on->contained([&] {
                                             on->command_over();
                                             if (!r) stream_exchange(*on).answer_command({}, r.error());
                                           });
                                         });
  }
  on_.server().commands.run(
      on_, std::move(*c),
      [on = &on_, by = &on_.server(), key = on_.key(), id = std::string(c->id)](result<std::string> r) {
        if (!by->messages.find(key)) return;
        on->contained([&] {
          on->command_over();
          stream_exchange(*on).answer_command(id, r);
        });
      });
}

HAILWIRE_INLINE void stream_exchange::answer_command(std::string_view id, const result<std::string>& r) {
  if (on_.phase_ != connection::phase::stream || (r && id.empty())) return;
  if (!r) on_.server().refused(on_, r.error());
  std::string json;
  if (r) {
    proto::append_reply_ok(json, id, *r);
  } else {
    proto::append_reply_error(json, id, r.error());
  }
  on_.stream_->reply(on_.out(), json);
  if (!on_.feeding_) on_.ask_wake();
}

// ---- writing

/// How many gathered writes one wake may take before others have their turn.
inline constexpr int rounds_per_wake = 8;

/// What one channel may put into a batch while others wait, about a TLS record; never less than a whole message.
inline constexpr std::size_t channel_share = 16 * 1024;

/// What one gathered write is made of: at most so many pieces that three more fit a channel with its cursor.
struct connection::batch {
  struct piece {
    subscription* owner;  // null: the connection's own bytes
    bool tag;             // the connection's own, in the middle of the owner's
  };
  std::array<std::span<const char>, 34> bytes;
  std::array<piece, 34> what;
  std::size_t n = 0;
  std::string tags;
  std::size_t replaced = 0;  // bytes at the end of a message in whose place its tag stands
  bool turns = false;        // of several channels, of which each has its turn
  bool more = false;         // something may be left that it has no room for

  void add(subscription* owner, bool tag, std::span<const char> b) {
    bytes[n] = b;
    what[n++] = {owner, tag};
  }
};

HAILWIRE_INLINE void connection::gather(batch& b, subscription* live) {
  const bool tags = phase_ == phase::stream && tags_;
  if (tags) b.replaced = stream_->tags();
  if (subscription* s = half()) {
    auto rest = s->pending().first(s->half_sent());
    // Not while own bytes wait: a gap may be among them, which the cursor has passed and the client has not heard of.
    const bool tagged = tags && is_open() && !unsent() && rest.size() >= b.replaced;
    b.add(s, false, rest.first(rest.size() - (tagged ? b.replaced : 0)));
    if (tagged) {
      stream_->tag(b.tags, position_text());
      b.add(s, true, b.tags);
    }
    return b.add(nullptr, false, own_bytes());
  }
  struct pulled {
    std::size_t index, size;
    const char* bytes;
  };
  std::array<pulled, 32> all;  // not cleared: most of it is seldom used
  std::size_t n = 0;
  // All are pulled first. What comes to light by that (a gap, a storage that fails) is told in own bytes, which go out
  // before the batch; so cursors in the batch stand behind it, and behind a stream's end comes nothing.
  if (phase_ == phase::stream && is_open() && opened_) {
    const std::size_t most = tags ? 10 : all.size(), channels = follow_count(),
                      first = work_->next < channels ? work_->next : 0;
    std::size_t i = 0;
    for (; i < channels && n < most; ++i) {
      const std::size_t k = first + i < channels ? first + i : first + i - channels;
      subscription& s = followed(k);
      if (live && &s != live) continue;
      if (auto pending = s.pending(); !pending.empty()) all[n++] = {k, pending.size(), pending.data()};
    }
    b.more = i < channels;
    if (phase_ != phase::stream) n = 0;
  }
  b.add(nullptr, false, own_bytes());
  if (n == 0) return;
  b.turns = !live && follow_count() > 1;

  vector<std::uint64_t> reached;  // where the batch takes each channel
  if (tags) {
    std::size_t channels = follow_count();
    reached.resize(channels);
    // 50: an epoch, a point, an offset, a comma; 32: `id:` and a chunk's framing. The pieces stay where they point.
    b.tags.reserve(n * (channels * 50 + 32));
  }
  for (auto& p : std::span(all).first(n)) {
    subscription& s = followed(p.index);
    std::span<const char> bytes(p.bytes, p.size);
    const bool cut = n > 1 && p.size > channel_share;
    if (tags || cut) {
      auto chunk = s.holding();
      auto begin = static_cast<std::size_t>(bytes.data() - chunk->bytes.data());
      if (cut) bytes = bytes.first(chunk->frame_end(begin + channel_share - 1) - begin);
      b.more = b.more || bytes.size() < p.size;
      if (tags) reached[p.index] = chunk->offset_at(begin + bytes.size(), 0);
    }
    b.add(&s, false, bytes.first(bytes.size() - b.replaced));
    if (!tags) continue;
    std::size_t at = b.tags.size();
    stream_->tag(b.tags, position_text(reached));
    b.add(&s, true, std::span<const char>(b.tags).subspan(at));
  }
}

// `left` bytes of the batch have gone out. The channel behind the last that was sent has the next turn.
HAILWIRE_INLINE void connection::taken(const batch& b, std::size_t left) {
  std::string rest;  // of a cursor that was cut: it goes out before anything else
  for (std::size_t i = 0; i < b.n;) {
    subscription* owner = b.what[i].owner;
    if (b.turns && owner && left)
      for (busy().next = 1; &followed(work_->next - 1) != owner;) ++busy().next;
    std::size_t shared = 0;
    for (; i < b.n && b.what[i].owner == owner; ++i) {
      std::size_t k = std::min(left, b.bytes[i].size());
      left -= k;
      if (!owner) {
        if (k) busy().sent += k;
        continue;
      }
      if (!b.what[i].tag) {
        shared += k;
      } else if (k) {  // the message is whole with it
        shared += b.replaced;
        rest.append(b.bytes[i].data() + k, b.bytes[i].size() - k);
      }
    }
    if (!owner) continue;
    owner->advance(shared);
    if (half() == owner) busy().half = nullptr;
    if (owner->half_sent()) busy().half = owner;
  }
  if (unsent()) {
    busy().out += rest;
  } else if (!work_->out.empty()) {
    own_bytes_gone(std::move(rest));
  } else if (!rest.empty()) {
    busy().out += rest;
  }
}

// Own bytes are out; `next` are those that follow.
HAILWIRE_INLINE void connection::own_bytes_gone(std::string next) {
  pending_io& work = busy();
  work.sent = 0;
  if (next.empty()) {
    work.out.clear();
    flushed();
  } else {
    work.out = std::move(next);
  }
}

// A write was short, or a layer has not sent all that it took: the rest waits until the socket takes more.
HAILWIRE_INLINE void connection::block() {
  if (phase_ == phase::dead) return;
  blocked_ = true;
  schedule();
  update_watch();
}

// The way of nearly every delivery: one channel's bytes for a subscriber in sync whose output buffer is empty.
HAILWIRE_INLINE void connection::deliver(subscription& live) {
  const bool free = phase_ == phase::stream && is_open() && opened_ && !blocked_ && !tags_ && !half() && !unsent();
  if (!free) return pump(&live);
  const std::span<const char> bytes = live.in().in_flight();
  if (bytes.empty()) return;
  const std::size_t n = write({&bytes, 1});
  server().messages.counted.bytes_out += n;
  last_write_ = moment(server().now());
  if (n == bytes.size()) return;
  live.advance(n);
  if (live.half_sent()) busy().half = &live;
  block();
}

// The way of own bytes where there is nothing else: those of an answer, or on a stream of the host's own frames.
HAILWIRE_INLINE void connection::write_own() {
  const std::span<const char> bytes = own_bytes();
  if (bytes.empty()) return;
  const std::size_t n = write({&bytes, 1});
  server().messages.counted.bytes_out += n;
  last_write_ = moment(server().now());
  if ((busy().sent += n) == work_->out.size()) own_bytes_gone();
  if (n < bytes.size()) block();
}

HAILWIRE_INLINE void connection::pump(subscription* live) {
  if (phase_ == phase::dead || phase_ == phase::lingering) return;
  if (blocked_) return live ? live->advance(0) : void();  // it falls behind
  const bool follows = phase_ == phase::stream && is_open() && opened_;
  if (!live && !follows && !half()) return write_own();
  if (live && (phase_ != phase::stream || !opened_)) return live->advance(0);
  pump_batches(live);
}

// Gathers what there is and writes it, a batch at a time. Apart from `pump`, because a batch takes a kilobyte of stack.
void connection::pump_batches(subscription* live) {
  for (int round = 0; round < rounds_per_wake; ++round) {
    batch b;
    gather(b, live);
    std::size_t total = 0;
    for (auto& piece : std::span(b.bytes).first(b.n)) total += piece.size();
    if (total == 0) {
      if (work_->next) busy().next = 0, update_watch();
      return;
    }
    std::size_t n = write(std::span(b.bytes).first(b.n));
    server().messages.counted.bytes_out += n;
    last_write_ = moment(server().now());  // also when nothing was taken: a peer's time to take something begins
    b.turns = b.turns && (n < total || b.more);
    taken(b, n);
    if (n < total || blocked_ || phase_ == phase::dead) return block();
    if (live) return;
  }
  ask_wake();
}

HAILWIRE_INLINE void connection::writable(bool held) {
  if (phase_ == phase::dead) return;
  last_write_ = moment(server().now());
  if (phase_ == phase::stream) last_read_ = last_write_;  // to take bytes is a sign of life
  blocked_ = held;
  if (work_->seen) busy().seen = busy().ping = 0;
  pump(nullptr);
  if (!unwritten()) flushed();
  schedule();
  update_watch();
}

HAILWIRE_INLINE void connection::flushed() {
  if (phase_ == phase::closing || holds_input() || (phase_ == phase::asked && asked() && asked()->content_) ||
      (phase_ == phase::head && asked() && !asked()->in_.empty()))
    ask_settle();
  if (phase_ == phase::head) {
    since_ = moment(server().now());  // waiting for a request begins when the last answer is out
    schedule();
  }
  if (!feeding_) update_watch();
}

// Whether a channel that it follows has something for the end of this turn.
HAILWIRE_INLINE bool connection::flush_is_near() const noexcept {
  for (std::size_t i = 0; i < follow_count(); ++i)
    if (followed(i).in().log().dirty) return true;
  return false;
}

// How often life is shown here, in milliseconds.
HAILWIRE_INLINE std::int64_t stream_exchange::interval() const noexcept {
  const auto* rare = on_.find_rare();
  return rare && rare->heartbeat ? std::int64_t{rare->heartbeat} * 1000
                                 : milliseconds_of(on_.server().settings.heartbeat);
}

// Whether life has been asked for and none was seen since: by a ping; on a stream whose peer says nothing, by bytes
// that its system is to acknowledge.
HAILWIRE_INLINE bool stream_exchange::asked_for_life() const noexcept { return on_.since_.after(on_.last_read_); }

// When a stream is next looked at: to show life where nothing was written for a heartbeat, and, where the peer owes a
// sign of life, to ask for one after a heartbeat without, and to end where there was no answer.
HAILWIRE_INLINE std::int64_t stream_exchange::next_beat(std::int64_t now) const noexcept {
  const std::int64_t beat = interval();
  std::int64_t due = on_.last_write_.at(now) + beat;
  if (!asked_for_life()) return std::min(due, on_.last_read_.at(now) + beat);
  if (!on_.stream_->expects_life()) return std::min(due, acknowledged_due(now));
  if (on_.reading_) due = std::min(due, life_due(now));
  return on_.work_->ping ? std::min(due, now + beat / looks) : due;
}

// A heartbeat and the time to answer behind the last sign of life; but whoever was asked late has that time from then
// on.
HAILWIRE_INLINE std::int64_t stream_exchange::life_due(std::int64_t now) const noexcept {
  const std::int64_t answer = milliseconds_of(on_.server().settings.heartbeat_answer);
  return std::max(on_.since_.at(now) + answer, on_.last_read_.at(now) + interval() + answer);
}

// When a stream whose peer says nothing is looked at for what its system says.
HAILWIRE_INLINE std::int64_t stream_exchange::acknowledged_due(std::int64_t now) const noexcept {
  return on_.since_.at(now) + milliseconds_of(on_.server().settings.heartbeat_answer);
}

// Behind what was written: a peer whose system has said nothing at all since then is gone. One that does not read, and
// whose system says so, is not.
HAILWIRE_INLINE bool stream_exchange::vanished(std::int64_t now) {
  if (on_.stream_->expects_life() || !asked_for_life() || now < acknowledged_due(now)) return false;
  const bool silent =
      on_.unacknowledged() > 0 && on_.silent_for() >= milliseconds_of(on_.server().settings.heartbeat_answer);
  const bool held_up = now - acknowledged_due(now) >= standstill;
  on_.last_read_ = moment(now);
  return silent && !held_up;
}

HAILWIRE_INLINE void stream_exchange::beat(std::int64_t now) {
  if (vanished(now)) return on_.die(false, errc::timeout);
  const std::int64_t beat = interval();
  const bool owed = on_.stream_->expects_life();
  const bool shows = now >= on_.last_write_.at(now) + beat;
  bool asks = !asked_for_life() && now >= on_.last_read_.at(now) + beat;
  if (owed && on_.work_->ping) {
    // The ping stood behind bytes that the peer has not had: the time to answer begins when it has them.
    const std::uint64_t seen = on_.acknowledged() + 1;
    const bool arrived = seen >= on_.work_->ping;
    if (asked_for_life() && seen != on_.work_->seen) on_.since_ = moment(now);
    on_.busy().seen = arrived ? 0 : seen;
    if (arrived) on_.busy().ping = 0;
  }
  if (owed && asked_for_life() && on_.reading_ && now >= life_due(now)) {
    // A loop that was held up for long runs its timers before it reads: then it is not the peer who was silent.
    if (on_.input_waits()) {
      on_.last_read_ = moment(now);
    } else if (now - life_due(now) < standstill) {
      return on_.end(errc::timeout, 4408, "no sign of life");
    } else {
      asks = true;
    }
  }
  if (asks || shows) {
    if (owed || shows) on_.last_write_ = moment(now);
    asks = asks || !asked_for_life();
    if (asks) on_.since_ = moment(now);
    const bool queues = owed && asks && on_.unacknowledged() > 0;
    if (owed || (shows && !on_.unsent())) on_.stream_->beat(on_.out());
    on_.pump(nullptr);  // at once: thousands are due together, and the memory of one serves the next
    if (queues && on_.phase_ == connection::phase::stream && !on_.blocked_) {
      on_.busy().seen = on_.acknowledged() + 1;
      on_.busy().ping = on_.work_->seen + on_.unacknowledged();
    }
  }
  on_.work_.rest();
  if (on_.phase_ == connection::phase::stream) on_.schedule();
}

// ---- telling --------------------------------------------------------------------------------------------------------

HAILWIRE_INLINE std::error_code stream_exchange::send_frame(std::string_view bytes, bool binary) {
  if (on_.phase_ != connection::phase::stream) return operation_aborted();
  if (on_.unsent() >= on_.server().settings.max_unsent) return errc::overloaded;
  on_.stream_->message(on_.out(), bytes, binary);
  if (!on_.feeding_) on_.ask_wake();
  return {};
}

HAILWIRE_INLINE std::error_code connection::notice(std::string_view name, std::string_view json) {
  if (ending()) return operation_aborted();
  std::string object = "{\"";
  object.append(name).append("\":").append(json).append("}");
  proto::json::spaces_for_line_breaks(object);
  if (phase_ == phase::stream) {
    if (!adjustable()) return errc::not_implemented;
    if (unsent() + object.size() > server().settings.max_unsent) return errc::overloaded;
    stream_->notice(out(), name, object, {});
    ask_wake();
    return {};
  }
  if (!asked() || !asked()->once_) return errc::not_implemented;
  asked()->patient_ = false;
  const std::size_t comma = asked()->notices_.empty() ? 0 : 1;
  if (asked()->notices_.size() + comma + object.size() > server().settings.max_unsent) return errc::overloaded;
  if (comma) asked()->notices_ += ',';
  asked()->notices_ += object;
  ask_wake();
  return {};
}

HAILWIRE_INLINE void connection::lost(subscription& s, const gap& g) {
  const channel_log& log = s.in().log();
  if (phase_ == phase::asked && asked() && asked()->following_) {
    // While other starts are being read, this one begins anew; who named no position has lost nothing.
    auto i = static_cast<std::size_t>(std::find(asked()->channels_.begin(), asked()->channels_.end(), log.name()) -
                                      asked()->channels_.begin());
    if (i < asked()->starts_.size())
      asked()->starts_[i] = {{std::string(log.epoch()), g.next - 1}, !asked()->names_place(i), g, log.conflated()};
    return;
  }
  tell_gap(log, g, told_cursor());
}

// A POST names the session on which its client hears: a session of the same user's, or one whose id only its client
// knows. It may be another hub's: which thread or node serves a POST is chance.
HAILWIRE_INLINE connection::echo connection::no_echo_to() const noexcept {
  if (stream_ || !asked()) return {slot_};
  for (const auto& [name, value] : asked()->query_) {
    if (name != "session") continue;
    session* named = server().messages.registry().find_id(value);
    if (!named) return {slot_, value};
    return {named->user() == user() ? static_cast<connection*>(named)->slot_ : slot_};
  }
  return {slot_};
}

HAILWIRE_INLINE void connection::missed(subscription& s) {
  const std::string json = missed_notice(s.in().log());
  if (phase_ == phase::stream) {
    stream_->notice(out(), "missed", json, {});  // a raw client has no notices
    ask_wake();
  } else if (asked() && asked()->once_ && !answered_) {
    asked()->gather_live(s.in().log(), true, json);
  }
}

// `cursor`: the client's place behind this gap.
HAILWIRE_INLINE void connection::tell_gap(const channel_log& log, const gap& g, std::string_view cursor) {
  ++server().messages.counted.gaps;
  std::string json = "{\"gap\":{\"channel\":";
  proto::json::append_quoted(json, log.name());
  json.append(",\"reason\":\"")
      .append(g.epoch_changed ? "epoch" : "trimmed")
      .append("\",\"epoch\":\"")
      .append(log.epoch());
  json += "\",\"next\":";
  proto::append_decimal(json, g.next);
  json += "}}";
  if (phase_ == phase::stream) {
    if (!stream_->notice(out(), "gap", json, cursor)) end(errc::not_found, 4410, "gap");
  } else if (asked() && asked()->once_ && !answered_) {
    // Who polls without a position has been told none before this answer, so nothing is missing to it.
    auto i = static_cast<std::size_t>(std::find(asked()->channels_.begin(), asked()->channels_.end(), log.name()) -
                                      asked()->channels_.begin());
    if (i < asked()->from_.size() && !asked()->names_place(i)) return;
    asked()->patient_ = false;
    if (!asked()->notices_.empty()) asked()->notices_ += ',';
    asked()->notices_ += json;
  }
}

// The cursor of the named channels. `reached`: for each followed channel how far a batch has taken it, 0 where not at
// all. `unheard`: the request whose losses, from its channel `untold` on, the client has not been told of; there the
// cursor is still the one that it came with.
HAILWIRE_INLINE std::string connection::position_text(std::span<const std::uint64_t> reached,
                                                      const http_exchange* unheard, std::size_t untold) const {
  std::string out;
  if (!is_open()) return out;
  std::size_t place = 0;
  auto next = [&] {
    if (place++) out += ',';
  };
  // A channel that the host took away keeps its place: the client's URL still names it.
  auto away =
      find_rare() ? std::span<const session::gone>(find_rare()->gone_channels) : std::span<const session::gone>();
  auto pass_gone = [&] {
    for (; !away.empty() && away.front().place == place; away = away.subspan(1)) next(), out += away.front().element;
  };
  for (std::size_t i = 0; i < follow_count(); ++i) {
    const auto& f = followed(i);
    if (!f.named()) continue;
    pass_gone();
    next();
    if (std::size_t at = place - 1; unheard && at >= untold && !unheard->starts_[at].recovered) {
      append_start(out, unheard->from_[at]);
      continue;
    }
    // Own bytes go out behind a frame that is half sent, so it counts.
    append_position(out, f.in().log().epoch(), i < reached.size() && reached[i] ? reached[i] : f.offset_when_whole());
  }
  pass_gone();
  return out;
}

}  // namespace hailwire::detail
