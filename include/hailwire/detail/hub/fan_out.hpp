// SPDX-License-Identifier: BSL-1.0
#pragma once

// Fan-out: how one publish reaches every subscriber of a channel without a queue for any of them.
//
//   channel_log        one followed channel on this hub: its epoch and its head (channel_log.hpp)
//     └─ encoded channel          the channel in one encoding; exists while somebody follows the channel in it
//          ├─ live       subscribers in sync: they have had everything up to `flushed`, and carry no cursor of their
//          own └─ work       what only an encoded channel has through which something goes, or somebody of which is
//          behind
//               ├─ building   the chunk that this loop turn's publishes are encoded into, once for everybody
//               ├─ behind     the other subscribers: each has an offset and, in the middle of a chunk, that chunk and a
//               byte index └─ tail       recent chunks, kept only while somebody is behind, and bounded
//
// A million channels that each have one subscriber and nothing to do are the case to be small for: such a channel is
// one object of 80 bytes with its name behind it. It is its own first encoded channel, and its work goes back to a pool
// at the end of each turn.
//
// A chunk is a run of consecutive messages as contiguous bytes, immutable once it is complete. At the end of a loop
// turn `flush` wakes each live subscriber, which pulls the chunk in one write. One whose socket takes only a part falls
// behind, holding the chunk and where it stopped; when it is writable it goes on: the rest of its chunk, the next chunk
// of the tail, or, when its place has left the tail, a chunk read from the storage. When it reaches `flushed` it is
// live again. So "replay, then live" is one act: a new follower starts behind, and the tail is kept from that moment
// on.
//
// A slow subscriber pins at most one chunk. When that chunk leaves the tail, only the rest of the frame that is half
// sent is copied out (`subscriber::keep`) and the chunk is let go.
//
// A message that is erased goes out no more: the chunks that have it are let go, but for the rest of a frame half sent,
// and an encoding that has nothing to say of a message appends an empty frame, which is passed over.
//
// What is live-only (a notice for all followers, an ephemeral message) is a frame among the messages of the chunk, so
// it is encoded once and stands in order with them. Whoever is behind passes over it, and is told that it has missed
// something when it is live again; nothing of it enters the tail by itself. The session that an ephemeral message came
// from passes over that one frame.
//
// Nothing here runs host code, so a flush cannot be re-entered; what a subscriber wants to do beyond writing waits for
// `subscriber::settle`, after the flush. Everything belongs to the hub's thread.

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/hub/chunk.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/envelope.hpp"
#include "hailwire/stats.hpp"

namespace hailwire::detail {

/// How much of a channel is kept in memory for those who are behind, per encoding. Past it they read the storage. From
/// a prototype: between 256 KiB and 4 MiB the size made no difference to throughput.
inline constexpr std::size_t tail_limit = 1 << 20;
/// A chunk this long is flushed before the turn ends, so that one turn cannot grow without bound.
inline constexpr std::size_t early_flush = tail_limit / 2;
/// A chunk's memory is reused for the next turn up to this capacity.
inline constexpr std::size_t spare_limit = 64 * 1024;
/// In how many channels something may go in one turn before the memory for it is asked of the allocator: one for each
/// event that a driver takes at a time.
inline constexpr std::size_t most_spares = 256;
/// Up to this capacity all of them keep a chunk's memory, past it a quarter of them: together they hold 5 MiB at most.
inline constexpr std::size_t small_spare = 4 * 1024;

/// How many messages are held while the storage is asked about a channel; more are read from it afterwards.
inline constexpr std::size_t most_early = 256;
/// How many live-only things from other hubs, and how many bytes of them, are held until the message is here behind
/// which they stand. That takes one read of the storage; who floods a channel for so long is told to have missed some.
inline constexpr std::size_t most_held_live = 64;
inline constexpr std::size_t most_held_live_bytes = 256 * 1024;

class subscription;
class encoded_channel;
class channel_log;
}  // namespace hailwire::detail

namespace hailwire {
class session;
}

namespace hailwire::detail {

/// What could not be had: what lay between a client's position and `next`.
struct gap {
  bool epoch_changed;  ///< else trimmed
  std::uint64_t next;  ///< the oldest offset still to be had, or head + 1
};

/// The way from the hub to whoever serves a client. `wake` carries no data. It is a timer too, because a connection
/// needs one, and one table of functions is shorter than two.
class subscriber : public timer {
 public:
  void expire(std::int64_t) override {}
  /// There may be something to pull: for `live` alone while its channel is flushed, else anywhere. May write; must not
  /// run host code, follow or unfollow.
  virtual void wake(subscription* live) = 0;
  /// Called once after `hub::request_settle`, outside any flush.
  virtual void settle() = 0;
  /// A stretch of the channel is lost to this subscriber, whose offset is `g.next - 1` from now on.
  virtual void lost(subscription& s, const gap& g) = 0;
  /// Live-only things of the channel were skipped because it was behind; it is live again.
  virtual void missed(subscription& /*s*/) {}
  /// The session that it serves; null where it serves none.
  virtual session* client() noexcept { return nullptr; }
  /// Where the hub has entered it.
  std::uint32_t slot() const noexcept { return slot_; }
  /// `rest` of a half-sent frame goes out before anything else; the subscriber is past that frame now.
  virtual void keep(subscription& s, std::string_view rest) = 0;
  /// The subscription stands elsewhere from now on.
  virtual void moved(const subscription& /*from*/, subscription& /*to*/) noexcept {}
  virtual std::uint64_t floor(const subscription&) const noexcept { return 1; }  ///< the first offset that it may see
  /// The channel cannot be read.
  virtual void unreadable(subscription& s, std::error_code why) = 0;

 protected:
  std::uint32_t slot_ = 0;  // where the hub has entered it; here because there is a gap
};

/// What only an encoded channel has through which something goes, or somebody of which is behind. An idle one has none.
struct encoded_channel_work {
  // Where one who is behind stands.
  struct place {
    subscription* who;
    std::shared_ptr<const chunk> in;
    std::uint64_t offset;  // the last message wholly pulled
    std::uint32_t done;    // bytes of `in`
    bool in_sync = false;  // it was when `in` was flushed, and so is to have what is live-only in it
    std::size_t half_sent() const noexcept {
      return in && done && done < in->bytes.size() && in->frame_begin(done) != done ? in->frame_end(done) - done : 0;
    }
    void let_go(std::uint64_t pulled) noexcept { in.reset(), done = 0, in_sync = false, offset = pulled; }
  };
  struct load {
    std::uint64_t since;
    vector<subscription*> waiting;
  };
  std::uint64_t flushed = 0;  // what was sent up to here; without work that is the log's head
  std::shared_ptr<chunk> building, flushing;
  vector<place> behind;
  vector<std::shared_ptr<const chunk>> tail;  // from `tail_begin` on
  std::size_t tail_begin = 0, tail_bytes = 0;
  std::array<std::weak_ptr<const chunk>, 4>
      recent;  // chunks read from the storage, shared by those who catch up together
  std::size_t next_recent = 0;
  vector<load> loads;
  subscription* resolving = nullptr;
  bool ahead = false;  // somebody behind has already read past `flushed` and waits for the flush

  bool built() const noexcept { return building && !building->marks.empty(); }
  bool idle() const noexcept { return behind.empty() && loads.empty() && !flushing && !built(); }
  /// Makes idle work new again, but for the memory of `building`. Most has had no more than that.
  void renew() noexcept;
};

/// Work that encoded channels have finished with, and its memory, for those that begin next.
class spare_work {
 public:
  std::unique_ptr<encoded_channel_work> take();
  /// Precondition: it is idle.
  void give(std::unique_ptr<encoded_channel_work> work) noexcept;
  void clear() noexcept;
  std::size_t size() const noexcept { return size_; }

 private:
  std::array<std::unique_ptr<encoded_channel_work>, most_spares> spares_;
  std::size_t size_ = 0;
};

/// What a log asks of the hub.
class log_source {
 public:
  virtual ~log_source() = default;
  spare_work spares;
  std::uint64_t deliveries = 0;         ///< messages handed to subscribers
  std::size_t tail_bytes = 0;           ///< in the tails of all channels
  std::size_t inline_limit = SIZE_MAX;  ///< a larger payload is not carried by its message object
  std::size_t beside_bytes = 0;  ///< what connections take that are more than a socket: TLS, a stream of the host's
  /// Reads on after `since`, for `encoded_channel::loaded`; may complete before it returns.
  virtual void load(channel_log& log, encoded_channel& l, std::uint64_t since) = 0;
  /// Reads what is missing after the head, for `channel_log::filled`.
  virtual void fill(channel_log& log) = 0;
  /// Reads epoch and bounds again, for `channel_log::opened`, because a message of another epoch has come.
  virtual void reopen(channel_log& log) = 0;
  /// Has `channel_log::flush` called at the end of the turn.
  virtual void mark_dirty(channel_log& log) = 0;
  /// Something live-only has come from another hub, and the message behind which it stands is here. May add to the
  /// channel what is live-only, and nothing else.
  virtual void told(channel_log& /*log*/, std::string_view /*bytes*/) {}
  /// The storage has `next` behind `head` where `head + 1` should be.
  virtual void disorder(std::string_view channel, std::uint64_t head, std::uint64_t next) noexcept = 0;
};

/// One client's place in one channel. In sync it is no more than an entry in its encoded channel's list; where one who
/// is behind stands is kept by the encoded channel. It is a part of its `follower` or a `further_subscription`.
class subscription {
 public:
  /// How many different `serial`s there are.
  static constexpr std::uint32_t serials = 1u << 26;

  /// A follower's own, to no channel yet: until `enter`, and after `leave`, nothing else of it may be used.
  subscription() = default;
  subscription(const subscription&) = delete;
  subscription& operator=(const subscription&) = delete;
  ~subscription();
  /// Two notes of its session's: `serial`, under `serials`, tells it from an earlier one to the same channel; `named`
  /// is a channel that the client's URL names, which has an element in its cursor.
  void enter(encoded_channel& in, std::uint32_t serial, bool named) noexcept;
  void leave() noexcept;

  /// Whether there is a channel.
  explicit operator bool() const noexcept { return encoded_ != nullptr; }
  encoded_channel& in() const noexcept { return *encoded_; }
  subscriber& to() const noexcept;
  std::uint32_t serial() const noexcept { return serial_; }
  bool named() const noexcept { return named_; }
  /// The offset of the last message that was pulled whole.
  std::uint64_t offset() const noexcept;
  /// The same once the frame that is half sent, if there is one, is out.
  std::uint64_t offset_when_whole() const noexcept;
  /// The next bytes, whole frames but for the first when one is half sent; empty when there is nothing now. Valid until
  /// the next call of anything here, or, with `holding`, while that is held.
  std::span<const char> pending();
  /// `n` of the pending bytes have gone out.
  void advance(std::size_t n);
  /// How many bytes of the frame that is half sent are left; 0 between frames.
  std::size_t half_sent() const noexcept;
  /// The chunk that `pending` points into.
  std::shared_ptr<const chunk> holding() const noexcept;
  /// Whether a read of the storage is under way for this subscription.
  bool loading() const noexcept { return loading_; }
  /// Whether the end of this turn brings it something.
  bool due() const noexcept;
  /// Whether it is in sync: during a flush, `pending` is then the chunk being flushed.
  bool live() const noexcept { return live_; }
  /// Lets it pull from `offset` on; until then it has nothing.
  void begin(std::uint64_t offset) noexcept;
  /// Is in sync from now on if there is nothing between its place and the others'; else its next pull finds that out.
  void join_if_current();
  bool started() const noexcept { return started_; }
  void raise(std::uint64_t next);  ///< what lies before `next` is hidden from it from now on
  /// Tells its client of a gap that was there from the start.
  void tell_lost(const gap& g) { to().lost(*this, g); }

 private:
  friend class encoded_channel;
  friend class further_subscription;

  encoded_channel* encoded_ = nullptr;
  std::uint32_t index_ = 0;  // in the encoded channel's list
  std::uint32_t serial_ : 26 = 0;
  bool own_ : 1 = true;  // a follower's
  bool named_ : 1 = false, live_ : 1 = false, loading_ : 1 = false, started_ : 1 = false;
  bool missed_ : 1 = false;  // something live-only, of which it is told when it is live again
};

/// A subscriber of which its first subscription is a part. Most clients follow one channel, and where that subscription
/// lies tells whose it is.
struct own_subscription {
  subscription first_;
};
static_assert(std::is_standard_layout_v<own_subscription>, "such an object and its first member have one address");
class follower : public subscriber, protected own_subscription {
  friend class subscription;
};

/// One that lies elsewhere.
class further_subscription : public subscription {
 public:
  further_subscription(subscriber& to, encoded_channel& in, std::uint32_t serial = 0, bool named = true) noexcept;
  /// Makes it anew in the raw memory at `to`, in its encoded channel's place of this one, and ends this one.
  void move_to(void* to) noexcept;

 private:
  friend class subscription;
  subscriber* to_;
};

class encoded_channel {
 public:
  encoded_channel(const encoded_channel&) = delete;
  encoded_channel& operator=(const encoded_channel&) = delete;

  const proto::encoding& how() const noexcept { return *how_; }
  channel_log& log() const noexcept;
  bool unused() const noexcept { return live_.empty() && behind_count() == 0; }
  /// Adds those who are behind.
  void measure(server_stats& out) const noexcept;
  std::size_t live_count() const noexcept { return live_.size(); }
  std::size_t behind_count() const noexcept { return work_ ? work_->behind.size() : 0; }

  /// Adds a subscriber: behind, until it has caught up.
  void add(subscription& s) { join_behind(s, {&s, nullptr, 0, 0}); }
  /// Has room for one more, in sync or behind: then `add` cannot fail.
  void reserve_one(bool live) { live ? live_.reserve_one() : room_behind(); }
  /// Adds one that begins at `offset`: in sync, if that is where those are who are in sync.
  void add(subscription& s, std::uint64_t offset);

  /// Adds a message to this turn's chunk.
  void append(const proto::envelope& e);
  /// A message was erased. What is encoded of it here is let go: whoever has not had it reads the storage. True when it
  /// stood in this turn's chunk, of which then nothing is left from there on, and `set_back` has to follow.
  bool forget(std::uint64_t offset) noexcept;
  /// Who is in sync is sent what this turn's chunk has, up to `offset`, and reads the storage from there to `head`.
  void set_back(std::uint64_t offset, std::uint64_t head);
  /// Leaves of this turn's messages the last.
  void keep_last() noexcept { work_->building->keep_last(); }
  /// Takes a message of this turn's chunk back, if it is there and the last.
  void take_back(std::uint64_t offset) noexcept;
  /// Adds something live-only to this turn's chunk: `live` is its mark's, and `encode(out)` appends its frame. Without
  /// memory for it all are told that they have missed it.
  template <class F>
  void append_live(std::uint32_t live, F encode) noexcept;
  /// Those who are in sync have missed something too.
  void miss_all() noexcept;
  /// Calls `f(subscription&)` for each subscriber; `f` changes none.
  template <class F>
  void each(F f) const {
    for (std::size_t i = 0; i < live_.size(); ++i) f(*live_[i]);
    for (std::size_t i = 0; i < behind_count(); ++i) f(*work_->behind[i].who);
  }
  std::size_t built() const noexcept { return work_ && work_->building ? work_->building->bytes.size() : 0; }
  /// Up to where everything has been handed out.
  std::uint64_t flushed() const noexcept;

  /// Its turn to be flushed comes in so many steps, from 3 to 1: each asks for what the step before has led to.
  void prefetch(int steps) noexcept;
  /// What is being flushed: all that one who is in sync has to pull.
  std::span<const char> in_flight() const noexcept {
    return work_ && work_->flushing ? std::span<const char>(work_->flushing->bytes) : std::span<const char>();
  }
  /// Hands this turn's chunk to everybody.
  void flush();
  /// Lets go of what an encoded channel does not need that has cooled.
  void shrink() { live_.shrink(); }

  /// Gives a subscriber that is about to begin the messages that were read to find out where it stands.
  void prime(subscription& s, const std::vector<message>& messages);
  /// The answer to `log_source::load`. A result that nobody waits for is dropped.
  void loaded(std::uint64_t since, const read_result& r);

  /// Everybody starts over at `offset`, having lost what was before: the channel has a new epoch.
  void restart(std::uint64_t offset, std::uint64_t head, const gap& g);
  /// Everybody is behind from now on, and `head` will be the newest message: what lies between is read from the
  /// storage, by whoever is woken once it is.
  void detach(std::uint64_t head);
  void failed(std::error_code why);

 protected:
  // In use as soon as it has an encoding. `first`: it is part of its log, and no `other_encoding`.
  explicit encoded_channel(bool first) noexcept : first_(first) {}
  ~encoded_channel() = default;

 private:
  friend class subscription;
  friend class further_subscription;
  friend class channel_log;
  using place = encoded_channel_work::place;
  using load = encoded_channel_work::load;

  encoded_channel_work& busy();
  void begin_work();
  void rest() noexcept;
  void end_work() noexcept;
  void forget_tail() noexcept;
  // Precondition: it is behind. Good until somebody falls behind or catches up.
  place& at(const subscription& s) const noexcept { return work_->behind[s.index_]; }

  void moved(const subscription& from, subscription& to) noexcept;
  // What is told to one of many: for want of memory it goes on without that one.
  static void wake(subscription& s) noexcept;
  static void lost(subscription& s, const gap& g) noexcept;
  static void told_missed(subscription& s) noexcept;
  static void unreadable(subscription& s, std::error_code why) noexcept;

  // Joining changes nothing when it throws.
  void join_live(subscription& s);
  void join_behind(subscription& s, place p);
  void room_for_all();
  void room_behind();
  void leave(subscription& s) noexcept;
  void fall_behind(subscription& s, std::shared_ptr<const chunk> in, std::size_t done, bool in_sync = false);
  // Whoever sent something ephemeral in the chunk that is about to be flushed reads it by itself, and passes over that.
  void set_senders_apart();
  // Those who are behind miss what is live-only in the chunk that was flushed.
  void miss_behind(const chunk* flushed) noexcept;
  // What one who is behind is to have of its chunk next, in which something is live-only.
  static std::span<const char> without_live(subscription& s, place& p) noexcept;
  /// Lets go of the chunk that it is in; the rest of a frame half sent is copied out.
  void release(place& p) noexcept;
  void trim() noexcept;
  void keep_in_tail(std::shared_ptr<const chunk> c) noexcept;
  void wake_behind();

  std::span<const char> pending(subscription& s);
  /// Has the storage read on for one who is behind. False when it has to wait.
  bool read_on(subscription& s);
  std::shared_ptr<const chunk> encode(std::span<const message> messages);
  std::shared_ptr<const chunk> find(std::uint64_t offset) const noexcept;

  const proto::encoding* how_ = nullptr;
  pointer_list<subscription> live_;
  std::unique_ptr<encoded_channel_work> work_;
  bool first_;  // the last member: those of the log go on right behind it
};

}  // namespace hailwire::detail

#include "hailwire/detail/hub/channel_log.hpp"
