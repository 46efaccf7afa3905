// SPDX-License-Identifier: BSL-1.0
#pragma once

// One followed channel on this hub, and how its encoded channels read what has left memory. The theory is at the top of
// fan_out.hpp.

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "hailwire/detail/hub/fan_out.hpp"

namespace hailwire::detail {

/// A further encoding in which a channel is followed.
class other_encoding final : public encoded_channel {
 public:
  other_encoding(channel_log& log, std::unique_ptr<other_encoding> others) noexcept;
  channel_log* of;
  std::unique_ptr<other_encoding> next;
};

/// What a log is found by, and what fills the room behind that.
struct log_node : hash_node {
  std::uint32_t pins = 0;  ///< operations of the hub that still need the log
};

class channel_log final : public log_node, public with_tail, private encoded_channel {
 public:
  using encoded_channel::prefetch;
  static std::unique_ptr<channel_log> make(log_source& source, std::string_view name);
  channel_log(const channel_log&) = delete;
  channel_log& operator=(const channel_log&) = delete;

  /// Valid as long as the log.
  std::string_view name() const noexcept { return {behind(this), name_size_}; }
  /// Valid until a call of anything here that changes it.
  std::string_view epoch() const noexcept {
    return epoch_size_ <= sizeof epoch_ ? std::string_view(epoch_, epoch_size_) : std::string_view(extra_->long_epoch);
  }
  std::uint64_t head() const noexcept { return head_; }
  /// Whether epoch and head are known: not before the storage has told them, nor when it has failed to since.
  bool open() const noexcept { return open_; }
  bool unused() const noexcept {
    return !how_ && !(extra_ && extra_->others) && pins == 0 && !filling_ && !dirty && !warm;
  }
  log_source& source() const noexcept { return *source_; }
  /// Whether only the newest message matters: each chunk has at most one, and whoever is behind passes over the others.
  bool conflated() const noexcept { return conflated_; }
  /// Before anybody follows. `every`: there is nothing to flush more often than once in so many milliseconds; 0: there
  /// is no such bound.
  void set_rule(bool conflated, std::int64_t every);
  /// Whether there is such a bound; and, of a channel that has one, when it may be flushed next.
  bool paced() const noexcept { return extra_ && extra_->every != 0; }
  std::int64_t flush_at() const noexcept { return extra_->flush_at; }
  void flushed_at(std::int64_t now) noexcept { extra_->flush_at = now + extra_->every; }

  encoded_channel& encoded_as(const proto::encoding& how);
  encoded_channel* find_encoded(const proto::encoding* how) noexcept;
  /// Drops encoded channels that nobody follows any more.
  void sweep() noexcept;
  void shrink() {
    each([](encoded_channel& l) { l.shrink(); });
  }

  /// The storage has told epoch and bounds, for the first time or (after `reopen`) again. `made_up`: it names no epoch,
  /// so this one is the hub's.
  void opened(std::string_view epoch, std::uint64_t oldest, std::uint64_t head, bool made_up = false);

  /// The next message of the channel, from this hub or another one; encoded at once, sent at the end of the turn. One
  /// that is already here is dropped; when some are missing before it, they are read from the storage first; when its
  /// epoch is another, the storage is asked which one holds. True when so much waits for the end of the turn now that
  /// it should be flushed before; else the log may be gone.
  bool apply(std::string_view epoch, const message& m);
  /// Something live-only from another hub: told at once, or when the message is here behind which it stands.
  void apply(const live_event& e);
  /// Sends a notice to all who are in sync, in order with the messages: `json` is `{"name":…}` on one line. True when
  /// so much waits now that the channel should be flushed. Without memory they are told that they have missed it.
  bool notice(std::string_view name, std::string_view json) noexcept;
  /// The same with an ephemeral message, but not to the session at slot `not_to`.
  bool ephemeral(const message& m, std::uint32_t not_to = nobody) noexcept;
  static constexpr std::uint32_t nobody = UINT32_MAX;
  /// Tells all who are in sync that they have missed something live-only.
  void miss();
  /// How many follow the channel, in all encodings.
  std::size_t followers() {
    std::size_t n = 0;
    each([&](encoded_channel& l) { n += l.live_count() + l.behind_count(); });
    return n;
  }
  /// The sessions that follow the channel, in any encoding, from when they begin.
  std::vector<session*> sessions();
  /// Something may have come that nobody has told of: the storage is asked.
  void look_again();
  /// The hub needs the log for one operation less.
  void unpin() noexcept;
  /// What was read of the storage, as it is now: messages that were erased meanwhile are.
  std::span<const message> as_erased(std::span<const message> read, std::vector<message>& changed) const;
  /// The answer to `log_source::fill`, of this epoch.
  void filled(const read_result& r);
  /// Reading failed, so nobody can be told what comes next. Who comes now has the storage asked where the channel
  /// stands, and so has the next message: what this log knows of it may be old.
  void failed(std::error_code why);

  /// Whether so much waits for the end of the turn that the hub should not wait for it.
  bool flush_early() const noexcept;
  void flush() {
    each([](encoded_channel& l) { l.flush(); });
  }
  /// Adds who is behind.
  void measure(server_stats& out) noexcept {
    each([&](encoded_channel& l) { l.measure(out); });
  }

 private:
  friend class encoded_channel;
  struct early {
    std::string epoch;
    message content;
    bool checked;
  };
  struct held_live {
    std::string epoch, bytes;
    std::uint64_t after;
  };
  // What few logs have, most of them for a moment.
  struct extra {
    vector<std::uint64_t> erased;            // while the storage is read, which may still show them as they were
    vector<held_live> live;                  // stand behind messages that are not here yet
    vector<early> held;                      // came while the storage was being asked
    std::uint64_t wanted = 0;                // the newest of which it is known that it is there
    std::unique_ptr<other_encoding> others;  // of those who follow in other encodings
    std::string long_epoch;                  // one that does not fit into `epoch_`
    std::int64_t every = 0, flush_at = 0;    // see `set_rule`
  };

  // The name is at most 255 bytes, the epoch at most 32.
  channel_log(log_source& source, std::size_t name_size) noexcept;

  extra& ensure_extra();
  // Whether a storage that names its epoch with the first append has not named one: the epoch that followers were told
  // had no message, so the first that is named goes on from it and nobody has lost anything.
  bool nothing_named() const noexcept { return made_up_ && head_ == 0; }
  void hold(const live_event& e);
  // Tells what stands behind messages that are here now.
  void release_live();
  bool holds_live() const noexcept { return extra_ && !extra_->live.empty(); }
  template <class F>
  bool add_live(F append) noexcept;
  void fill();
  void caught_up() noexcept;
  void tidy() noexcept;
  encoded_channel* after(const encoded_channel* l) const noexcept {
    return l->first_ ? extra_ ? extra_->others.get() : nullptr : static_cast<const other_encoding*>(l)->next.get();
  }
  template <class F>
  void each(F f) {
    for (encoded_channel* l = this; l; l = after(l))
      if (l->how_) f(*l);
  }
  void keep(std::string_view epoch);
  // Who has work keeps its own mark of what is flushed; of the others the head is the mark, so it changes in between.
  void skip_to(std::uint64_t head);
  void append(const message& m);
  void erase(std::uint64_t offset);
  void reopen();
  void restart(std::string_view epoch, std::uint64_t oldest, std::uint64_t head);

  // Laid out behind `encoded_channel::first_`, without a hole. Behind all of it stands the name.
 public:
  /// In the hub's lists of those to be flushed at the end of the turn, and of those that were lately.
  bool dirty : 1 = false, warm : 1 = false;
  bool watched : 1 = false;  ///< its channel has presence

 private:
  bool open_ : 1 = false, filling_ : 1 = false, failed_ : 1 = false, made_up_ : 1 = false;
  bool conflated_ : 1 = false;
  std::uint8_t name_size_, epoch_size_ = 0;
  char epoch_[12];  // as long as an epoch that is made of a hash
  log_source* source_;
  std::uint64_t head_ = 0;
  std::unique_ptr<extra> extra_;
};
static_assert(sizeof(void*) != 8 || sizeof(channel_log) == 80);

/// `{"missed":{"channel":"…"}}`: live-only things of the channel were skipped.
std::string missed_notice(const channel_log& log);

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/channel_erase.ipp"
#include "hailwire/detail/hub/channel_log.ipp"
#include "hailwire/detail/hub/fan_out.ipp"
#endif
