// SPDX-License-Identifier: BSL-1.0
#pragma once

// Fan-out: how one publish reaches every subscriber of a channel without a queue for any of them.
//
//   channel_log        one followed channel on this hub: its epoch and its head
//     └─ lane          the channel in one encoding; exists while somebody follows the channel in it
//          ├─ building   the chunk that this loop turn's publishes are encoded into, once for everybody
//          ├─ live       subscribers in sync: they have had everything up to `flushed`, and carry no cursor of their own
//          ├─ behind     the others: each has an offset and, in the middle of a chunk, that chunk and a byte index
//          └─ tail       recent chunks, kept only while somebody is behind, and bounded
//
// A chunk is a run of consecutive messages as contiguous bytes, immutable once it is complete. At the end of a loop turn
// `flush` wakes each live subscriber, which pulls the chunk in one write. One whose socket takes only a part falls behind,
// holding the chunk and where it stopped; when it is writable it goes on: the rest of its chunk, the next chunk of the
// tail, or, when its place has left the tail, a chunk read from the storage. When it reaches `flushed` it is live again.
// So "replay, then live" is one act: a new follower starts behind, and the tail is kept from that moment on.
//
// A slow subscriber pins at most one chunk. When that chunk leaves the tail, only the rest of the frame that is half sent
// is copied out (`outlet::keep`) and the chunk is let go.
//
// Nothing here runs host code, so a flush cannot be re-entered; what an outlet wants to do beyond writing waits for
// `outlet::settle`, after the flush. Everything belongs to the hub's thread.

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/envelope.hpp"

namespace hailwire::detail {

/// How much of a channel is kept in memory for those who are behind, per encoding. Past it they read the storage. From a
/// prototype: between 256 KiB and 4 MiB the size made no difference to throughput.
inline constexpr std::size_t tail_limit = 1 << 20;
/// A chunk this long is flushed before the turn ends, so that one turn cannot grow without bound.
inline constexpr std::size_t early_flush = tail_limit / 2;
/// A chunk's memory is reused for the next turn up to this capacity.
inline constexpr std::size_t spare_limit = 64 * 1024;

/// How many messages are held while the storage is asked about a channel; more are read from it afterwards.
inline constexpr std::size_t most_early = 256;

/// A run of consecutive messages in one encoding.
struct chunk {
  struct mark {
    std::uint64_t offset;  ///< of the message
    std::uint32_t end;     ///< of its frame in `bytes`
  };
  std::string bytes;
  std::vector<mark> marks;

  std::uint64_t first() const noexcept { return marks.front().offset; }
  std::uint64_t last() const noexcept { return marks.back().offset; }
  /// Where the frame that starts at or contains byte `at` ends. Precondition: `at` < size.
  std::size_t frame_end(std::size_t at) const noexcept { return containing(at)->end; }
  /// Where the frame that contains byte `at` begins.
  std::size_t frame_begin(std::size_t at) const noexcept {
    auto m = containing(at);
    return m == marks.begin() ? 0 : std::prev(m)->end;
  }
  /// The offset of the last message that is complete in the first `n` bytes; `none` if there is none.
  std::uint64_t offset_at(std::size_t n, std::uint64_t none) const noexcept {
    auto m = std::upper_bound(marks.begin(), marks.end(), n, [](std::size_t v, const mark& k) { return v < k.end; });
    return m == marks.begin() ? none : std::prev(m)->offset;
  }
  /// Where the first message after `offset` begins; size when there is none.
  std::size_t begin_after(std::uint64_t offset) const noexcept {
    auto m = std::upper_bound(marks.begin(), marks.end(), offset, [](std::uint64_t v, const mark& k) { return v < k.offset; });
    return m == marks.begin() ? 0 : std::prev(m)->end;
  }
  bool holds(std::uint64_t offset) const noexcept { return !marks.empty() && first() <= offset && offset <= last(); }

 private:
  std::vector<mark>::const_iterator containing(std::size_t at) const noexcept {
    return std::upper_bound(marks.begin(), marks.end(), at, [](std::size_t v, const mark& k) { return v < k.end; });
  }
};

class subscription;
class lane;
class channel_log;

/// What could not be had: what lay between a client's position and `next`.
struct gap {
  bool epoch_changed;  ///< else trimmed
  std::uint64_t next;  ///< the oldest offset still to be had, or head + 1
};

/// The way from the hub to whoever serves a client. `wake` carries no data.
class outlet {
 public:
  virtual ~outlet() = default;
  /// There may be something to pull: for `live` alone while its channel is flushed, else anywhere. May write; must not
  /// run host code, follow or unfollow.
  virtual void wake(subscription* live) = 0;
  /// Called once after `hub::request_settle`, outside any flush.
  virtual void settle() = 0;
  /// A stretch of the channel is lost to this subscriber, whose offset is `g.next - 1` from now on.
  virtual void lost(subscription& s, const gap& g) = 0;
  /// `rest` of a half-sent frame goes out before anything else; the subscriber is past that frame now.
  virtual void keep(subscription& s, std::string_view rest) = 0;
  /// The first offset that this subscriber may see.
  virtual std::uint64_t floor(const subscription&) const noexcept { return 1; }
  /// The channel cannot be read.
  virtual void unreadable(subscription& s, std::error_code why) = 0;
};

/// What a log asks of the hub.
class log_source {
 public:
  virtual ~log_source() = default;
  /// Reads on after `since`, for `lane::loaded`; may complete before it returns.
  virtual void load(channel_log& log, lane& l, std::uint64_t since) = 0;
  /// Reads what is missing after the head, for `channel_log::filled`.
  virtual void fill(channel_log& log) = 0;
  /// Reads epoch and bounds again, for `channel_log::opened`, because a message of another epoch has come.
  virtual void reopen(channel_log& log) = 0;
  /// Has `channel_log::flush` called at the end of the turn.
  virtual void mark_dirty(channel_log& log) = 0;
};

/// One client's place in one channel.
class subscription {
 public:
  subscription(outlet& to, lane& in) : to_(&to), lane_(&in) {}
  subscription(const subscription&) = delete;
  subscription& operator=(const subscription&) = delete;
  ~subscription();

  lane& in() const noexcept { return *lane_; }
  /// The offset of the last message that was pulled whole.
  std::uint64_t offset() const noexcept;
  /// The same once the frame that is half sent, if there is one, is out.
  std::uint64_t offset_when_whole() const noexcept;
  /// The next bytes, whole frames but for the first when one is half sent; empty when there is nothing now. Valid until the
  /// next call of anything here, or, with `holding`, while that is held.
  std::span<const char> pending();
  /// `n` of the pending bytes have gone out.
  void advance(std::size_t n);
  /// How many bytes of the frame that is half sent are left; 0 between frames.
  std::size_t half_sent() const noexcept { return chunk_ && at_ && at_ < chunk_->bytes.size() && chunk_->frame_begin(at_) != at_ ? chunk_->frame_end(at_) - at_ : 0; }
  /// The chunk that `pending` points into.
  std::shared_ptr<const chunk> holding() const noexcept;
  /// Whether a read of the storage is under way for this subscription.
  bool loading() const noexcept { return loading_; }
  /// Whether it is in sync: during a flush, `pending` is then the chunk being flushed.
  bool live() const noexcept { return live_; }
  /// Lets it pull from `offset` on; until then it has nothing.
  void begin(std::uint64_t offset) noexcept { offset_ = offset, started_ = true; }
  bool started() const noexcept { return started_; }
  void raise(std::uint64_t next);  ///< what lies before `next` is hidden from it from now on
  /// Tells its client of a gap that was there from the start.
  void tell_lost(const gap& g) { to_->lost(*this, g); }

 private:
  friend class lane;
  friend class channel_log;
  void let_go(std::uint64_t offset) noexcept { chunk_.reset(), at_ = 0, offset_ = offset; }

  outlet* to_;
  lane* lane_;
  std::shared_ptr<const chunk> chunk_;  // behind only
  std::uint64_t offset_ = 0;            // behind only: the last message wholly pulled
  std::uint32_t at_ = 0;                // behind only: bytes of `chunk_` that are done
  std::uint32_t index_ = 0;             // in the lane's list
  bool live_ = false, loading_ = false, started_ = false;
};

class lane {
 public:
  lane(channel_log& log, const proto::encoding& how, std::uint64_t head) : log_(&log), how_(&how), flushed_(head) {}
  lane(const lane&) = delete;
  lane& operator=(const lane&) = delete;

  const proto::encoding& how() const noexcept { return *how_; }
  channel_log& log() const noexcept { return *log_; }
  bool unused() const noexcept { return live_.empty() && behind_.empty(); }
  std::size_t live_count() const noexcept { return live_.size(); }
  std::size_t behind_count() const noexcept { return behind_.size(); }

  /// Adds a subscriber: behind, until it has caught up.
  void add(subscription& s) { join(behind_, s, false); }

  /// Adds a message to this turn's chunk.
  void append(const proto::envelope& e) {
    if (!building_) building_ = std::make_shared<chunk>();
    how_->append(building_->bytes, e);
    building_->marks.push_back({e.content.offset, static_cast<std::uint32_t>(building_->bytes.size())});
  }
  std::size_t built() const noexcept { return building_ ? building_->bytes.size() : 0; }

  /// Hands this turn's chunk to everybody.
  void flush() {
    if (!built()) return;
    flushing_ = std::exchange(building_, nullptr);
    for (std::size_t i = 0; i < live_.size();) {
      subscription* s = live_[i];
      s->to_->wake(s);
      if (i < live_.size() && live_[i] == s) ++i;  // else it fell behind, and another one has taken its place
    }
    flushed_ = flushing_->last();
    if (!behind_.empty()) {
      tail_bytes_ += flushing_->bytes.size();
      tail_.push_back(std::move(flushing_));
      trim();
      if (std::exchange(ahead_, false)) wake_behind();
    } else {
      tail_.clear();
      tail_bytes_ = 0;
      // Nobody else holds it: its memory serves the next turn.
      if (flushing_.use_count() == 1 && flushing_->bytes.capacity() <= spare_limit) {
        flushing_->bytes.clear();
        flushing_->marks.clear();
        building_ = std::move(flushing_);
      }
      flushing_.reset();
    }
  }

  /// Lets go of what an idle lane does not need.
  void shrink() noexcept {
    if (!built()) building_.reset();
  }

  /// Gives a subscriber that is about to begin the messages that were read to find out where it stands.
  void prime(subscription& s, const std::vector<message>& messages) {
    if (messages.empty() || messages.front().offset != s.offset_ + 1 || find(s.offset_ + 1)) return;
    s.chunk_ = encode(messages);
    s.at_ = 0;
  }
  /// The answer to `log_source::load`. A result that nobody waits for is dropped.
  void loaded(std::uint64_t since, const read_result& r);

  /// Everybody starts over at `offset`, having lost what was before: the channel has a new epoch.
  void restart(std::uint64_t offset, std::uint64_t head, const gap& g) {
    flush();
    while (!live_.empty()) fall_behind(*live_.back(), nullptr, 0);
    tail_.clear();
    tail_bytes_ = 0;
    recent_ = {};
    flushed_ = head;
    for (std::size_t i = 0; i < behind_.size(); ++i) {
      subscription& s = *behind_[i];
      if (!s.started_) continue;
      release(s);
      s.offset_ = std::max(offset, s.to_->floor(s) - 1);
      s.loading_ = false;
      s.to_->lost(s, {g.epoch_changed, s.offset_ + 1});
    }
    loads_.clear();
    wake_behind();
  }
  /// Everybody is behind from now on, and `head` is the newest message: what lies between is read from the storage.
  void detach(std::uint64_t head) {
    flush();
    while (!live_.empty()) fall_behind(*live_.back(), nullptr, 0);
    flushed_ = head;
    wake_behind();
  }
  void failed(std::error_code why) {
    for (auto* list : {&live_, &behind_})
      for (std::size_t i = 0; i < list->size(); ++i) (*list)[i]->to_->unreadable(*(*list)[i], why);
  }

 private:
  friend class subscription;
  struct load {
    std::uint64_t since;
    std::vector<subscription*> waiting;
  };

  void join(std::vector<subscription*>& list, subscription& s, bool live) {
    s.live_ = live;
    s.index_ = static_cast<std::uint32_t>(list.size());
    list.push_back(&s);
  }
  void leave(subscription& s) noexcept {
    auto& list = s.live_ ? live_ : behind_;
    list[s.index_] = list.back();
    list[s.index_]->index_ = s.index_;
    list.pop_back();
  }
  void fall_behind(subscription& s, std::shared_ptr<const chunk> in, std::size_t at) {
    leave(s);
    s.offset_ = in ? in->offset_at(at, flushed_) : flushed_;
    s.chunk_ = std::move(in);
    s.at_ = static_cast<std::uint32_t>(at);
    join(behind_, s, false);
  }
  /// Lets go of the chunk that `s` is in; the rest of a frame half sent is copied out.
  void release(subscription& s) {
    if (!s.chunk_) return;
    std::uint64_t done = s.offset_;
    if (std::size_t rest = s.half_sent()) {
      done = s.chunk_->offset_at(s.at_ + rest, done);
      s.to_->keep(s, std::string_view(s.chunk_->bytes).substr(s.at_, rest));
    }
    s.let_go(done);
  }
  void trim() {
    while (tail_bytes_ > tail_limit && tail_.size() > 1) {
      auto oldest = std::move(tail_.front());
      tail_.pop_front();
      tail_bytes_ -= oldest->bytes.size();
      for (subscription* s : behind_)
        if (s->chunk_ == oldest) release(*s);
    }
  }
  void wake_behind() {
    // A woken one may catch up and leave the list, another then stands in its place.
    for (std::size_t i = 0; i < behind_.size();) {
      subscription* s = behind_[i];
      s->to_->wake(nullptr);
      if (i < behind_.size() && behind_[i] == s) ++i;
    }
  }

  std::span<const char> pending(subscription& s);
  std::shared_ptr<const chunk> encode(const std::vector<message>& messages);
  std::shared_ptr<const chunk> find(std::uint64_t offset) const noexcept {
    auto in_tail = std::partition_point(tail_.begin(), tail_.end(), [&](const auto& c) { return c->last() < offset; });
    if (in_tail != tail_.end() && (*in_tail)->holds(offset)) return *in_tail;
    for (const auto& weak : recent_)
      if (auto c = weak.lock(); c && c->holds(offset)) return c;
    return nullptr;
  }

  channel_log* log_;
  const proto::encoding* how_;
  std::uint64_t flushed_;
  bool ahead_ = false;  // somebody behind has already read past `flushed_` and waits for the flush
  std::shared_ptr<chunk> building_, flushing_;
  std::vector<subscription*> live_, behind_;
  std::deque<std::shared_ptr<const chunk>> tail_;
  std::size_t tail_bytes_ = 0;
  std::array<std::weak_ptr<const chunk>, 4> recent_;  // chunks read from the storage, shared by those who catch up together
  std::size_t next_recent_ = 0;
  std::vector<load> loads_;
  subscription* resolving_ = nullptr;
};

class channel_log {
 public:
  channel_log(log_source& source, std::string name) : source_(&source), name_(std::move(name)) {}
  channel_log(const channel_log&) = delete;
  channel_log& operator=(const channel_log&) = delete;

  const std::string& name() const noexcept { return name_; }
  const std::string& epoch() const noexcept { return epoch_; }
  std::uint64_t head() const noexcept { return head_; }
  /// Whether epoch and head are known.
  bool open() const noexcept { return open_; }
  bool unused() const noexcept { return lanes_.empty() && pins == 0 && !filling_ && !dirty && !warm; }
  log_source& source() const noexcept { return *source_; }

  /// Operations of the hub that still need this object.
  std::size_t pins = 0;
  /// In the hub's lists of those to be flushed at the end of the turn, and of those that were lately.
  bool dirty = false, warm = false;

  lane& lane_for(const proto::encoding& how) {
    for (auto& l : lanes_)
      if (&l->how() == &how) return *l;
    lanes_.push_back(std::make_unique<lane>(*this, how, head_));
    return *lanes_.back();
  }
  lane* find_lane(const proto::encoding* how) noexcept {
    for (auto& l : lanes_)
      if (&l->how() == how) return l.get();
    return nullptr;
  }
  /// Drops lanes that nobody follows any more.
  void sweep() {
    std::erase_if(lanes_, [](const auto& l) { return l->unused(); });
  }
  void shrink() noexcept {
    for (auto& l : lanes_) l->shrink();
  }

  /// The storage has told epoch and bounds, for the first time or (after `reopen`) again.
  void opened(const std::string& epoch, std::uint64_t oldest, std::uint64_t head) {
    bool first = epoch_.empty();
    if (first) epoch_ = epoch;
    if (epoch != epoch_) {
      restart(epoch, oldest, head);
    } else if (!open_ && head > head_) {
      head_ = head;
      for (auto& l : lanes_) l->detach(head);
    }
    if (std::exchange(open_, true)) return;
    // What came meanwhile and is of another epoch is of an older one, and void, or of one that began after the storage was
    // asked: then it is asked once more.
    auto held = std::exchange(early_, {});
    bool newer = false;
    for (auto& e : held) {
      if (e.epoch == epoch_) {
        apply(e.epoch, e.content);
      } else if (!std::exchange(e.checked, true)) {
        newer = true;
        early_.push_back(std::move(e));
      }
    }
    if (newer) reopen();
  }

  /// The next message of the channel, from this hub or another one; encoded at once, sent at the end of the turn. One that is
  /// already here is dropped; when some are missing before it, they are read from the storage first; when its epoch is
  /// another, the storage is asked which one holds.
  void apply(const std::string& epoch, const message& m) {
    if (!open_ || epoch != epoch_) {
      // The last one is enough to tell which are missing.
      if (early_.size() >= most_early) early_.pop_back();
      early_.push_back({epoch, m, false});
      if (open_) reopen();
    } else if (m.offset > head_ + 1) {
      wanted_ = std::max(wanted_, m.offset);
      if (!std::exchange(filling_, true)) source_->fill(*this);
    } else if (m.offset == head_ + 1) {
      head_ = m.offset;
      append(m);
    }
  }
  /// The answer to `log_source::fill`, of this epoch.
  void filled(const read_result& r) {
    filling_ = false;
    std::uint64_t before = head_;
    if (r.oldest > head_ + 1) {  // trimmed meanwhile: everybody finds out where they stand
      head_ = r.oldest - 1;
      for (auto& l : lanes_) l->detach(head_);
    }
    for (const auto& m : r.messages) apply(epoch_, m);
    // Without progress the next message tries again.
    if (head_ < wanted_ && head_ > before && !std::exchange(filling_, true)) source_->fill(*this);
  }
  /// Reading failed, so nobody can be told what comes next.
  void failed(std::error_code why) {
    filling_ = false;
    for (auto& l : lanes_) l->failed(why);
  }

  /// Whether so much waits for the end of the turn that the hub should not wait for it.
  bool flush_early() const noexcept {
    return std::any_of(lanes_.begin(), lanes_.end(), [](const auto& l) { return l->built() >= early_flush; });
  }
  void flush() {
    for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i]->flush();
  }

 private:
  void append(const message& m) {
    static thread_local std::string json;  // one scratch buffer a thread: its content never outlives this call
    json.clear();
    for (auto& l : lanes_) {
      if (l->how().wants_json && json.empty()) proto::append_message(json, name_, m);
      l->append({name_, epoch_, m, json});
    }
    if (json.capacity() > spare_limit) std::string().swap(json);
    if (!lanes_.empty()) source_->mark_dirty(*this);
  }
  void reopen() {
    open_ = false;
    source_->reopen(*this);
  }
  void restart(const std::string& epoch, std::uint64_t oldest, std::uint64_t head) {
    for (auto& l : lanes_) l->flush();  // under the old epoch's name
    epoch_ = epoch;
    head_ = head;
    wanted_ = 0;
    for (auto& l : lanes_) l->restart(oldest - 1, head, {true, oldest});
  }

  log_source* source_;
  std::string name_, epoch_;
  std::uint64_t head_ = 0, wanted_ = 0;
  bool open_ = false, filling_ = false;
  struct early {
    std::string epoch;
    message content;
    bool checked;
  };
  std::vector<early> early_;  // came while the storage was being asked
  std::vector<std::unique_ptr<lane>> lanes_;
};

inline subscription::~subscription() {
  for (auto& l : lane_->loads_) std::erase(l.waiting, this);
  if (lane_->resolving_ == this) lane_->resolving_ = nullptr;
  lane_->release(*this);
  lane_->leave(*this);
}

inline std::uint64_t subscription::offset() const noexcept { return live_ ? lane_->flushed_ : offset_; }

inline std::uint64_t subscription::offset_when_whole() const noexcept {
  std::size_t rest = half_sent();
  return rest ? chunk_->offset_at(at_ + rest, offset_) : offset();
}

inline std::shared_ptr<const chunk> subscription::holding() const noexcept { return live_ ? lane_->flushing_ : chunk_; }

inline std::span<const char> subscription::pending() { return lane_->pending(*this); }

inline std::span<const char> lane::pending(subscription& s) {
  while (s.started_) {
    if (s.live_) return flushing_ ? std::span<const char>(flushing_->bytes) : std::span<const char>();
    if (s.chunk_) {
      if (s.at_ < s.chunk_->bytes.size()) return std::span<const char>(s.chunk_->bytes).subspan(s.at_);
      s.let_go(s.offset_);
    }
    if (s.loading_) break;
    if (s.offset_ == flushed_) {
      leave(s);
      join(live_, s, true);
      continue;
    }
    if (s.offset_ > flushed_) {
      ahead_ = true;
      break;
    }
    if (auto c = find(s.offset_ + 1)) {
      s.at_ = static_cast<std::uint32_t>(c->begin_after(s.offset_));
      s.chunk_ = std::move(c);
      continue;
    }
    s.loading_ = true;
    auto same = std::find_if(loads_.begin(), loads_.end(), [&](const load& l) { return l.since == s.offset_; });
    if (same != loads_.end()) {
      same->waiting.push_back(&s);
      break;
    }
    loads_.push_back({s.offset_, {&s}});
    resolving_ = &s;
    std::uint64_t before = s.offset_;
    log_->source().load(*log_, *this, before);
    resolving_ = nullptr;
    if (!s.loading_ && !s.chunk_ && s.offset_ == before) break;  // it failed at once; asking again is for another wake
  }
  return {};
}

inline std::shared_ptr<const chunk> lane::encode(const std::vector<message>& messages) {
  auto c = std::make_shared<chunk>();
  std::string json;
  for (const auto& m : messages) {
    json.clear();
    if (how_->wants_json) proto::append_message(json, log_->name(), m);
    how_->append(c->bytes, {log_->name(), log_->epoch(), m, json});
    c->marks.push_back({m.offset, static_cast<std::uint32_t>(c->bytes.size())});
  }
  recent_[next_recent_++ % recent_.size()] = c;
  return c;
}

inline void lane::loaded(std::uint64_t since, const read_result& r) {
  auto found = std::find_if(loads_.begin(), loads_.end(), [&](const load& l) { return l.since == since; });
  if (found == loads_.end()) return;
  auto waiting = std::move(found->waiting);
  loads_.erase(found);
  for (subscription* s : waiting) s->loading_ = false;

  if (r.error) {
    for (subscription* s : waiting) s->to_->unreadable(*s, r.error);
    return;
  }
  std::shared_ptr<const chunk> c;
  std::uint64_t next = r.messages.empty() ? std::max(r.oldest, flushed_ + 1) : r.messages.front().offset;
  if (!r.messages.empty()) c = encode(r.messages);
  for (subscription* s : waiting) {
    if (next > since + 1) {
      s->offset_ = next - 1;
      s->to_->lost(*s, {false, next});
    }
    s->chunk_ = c;
    s->at_ = 0;
  }
  // The one whose pull started this read goes on by itself.
  for (subscription* s : waiting)
    if (s != resolving_) s->to_->wake(nullptr);
}

inline void subscription::advance(std::size_t n) {
  if (live_) {
    if (n < lane_->flushing_->bytes.size()) lane_->fall_behind(*this, lane_->flushing_, n);
    return;
  }
  at_ += static_cast<std::uint32_t>(n);
  offset_ = chunk_->offset_at(at_, offset_);
}

}  // namespace hailwire::detail
