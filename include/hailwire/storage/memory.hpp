// SPDX-License-Identifier: BSL-1.0
#pragma once

// Logs in memory, bounded per channel. How it is laid out, because a million idle channels are the case to be small
// for:
//
// - A channel's name is hashed once, with a key that is this storage's secret. Of the 128 bits, the upper 72 are the
//   channel's epoch, so it needs no room anywhere and is known before the first message; the lower bits choose the
//   shard and the bucket. Strangers who choose names can therefore not choose collisions.
// - A channel's log is 72 bytes with the name behind them. An entry is 24 bytes: the shared payload, the time, and one
//   allocation for `from`, `type` and what is rarer, which most messages do not have. Its offset follows from its
//   place. A single entry lies in the log, more of them in a ring that doubles up to its limit.
// - Hosts have few retentions for many channels, so each shard has a list of them, and a log the place of its own
// there.
// - Keys live per shard, first in, first out: what has lived its time is dropped by whichever keyed append comes next
//   there, so a channel that falls silent holds none for ever. Of a key and its payload only hashes are kept.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/light_mutex.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/storage/fingerprint.hpp"

namespace hailwire {

/// Unix time in milliseconds, as the system's clock has it.
std::int64_t system_milliseconds() noexcept;

/// Milliseconds since some moment, by a clock that nobody sets.
std::int64_t steady_milliseconds() noexcept;

/// What a `memory_storage` keeps. The newest message of a channel is kept whatever its size; only `age` takes it away.
struct memory_options {
  std::size_t messages = 1000;             ///< per channel; 0 counts as 1
  std::size_t bytes = 4u << 20;            ///< payload bytes per channel
  std::chrono::seconds age{0};             ///< by `message::at`; 0: no limit
  std::size_t channels = 1'000'000;        ///< one more that is published to for the first time: `errc::overloaded`
  std::chrono::seconds key_lifetime{300};  ///< how long a key is kept; the protocol asks for five minutes at least
  std::size_t keys = 100'000;  ///< per channel, about 100 B each; one more within a lifetime: `errc::overloaded`
  std::size_t watermarks = 1'000'000;               ///< of all channels, about 300 B each; one more: `errc::overloaded`
  std::size_t tokens = 1'000'000;                   ///< of all users; one more: `errc::overloaded`
  std::int64_t (*clock)() = &system_milliseconds;   ///< Unix milliseconds; read only for age, from any thread
  std::int64_t (*steady)() = &steady_milliseconds;  ///< read only for keys, which a clock that is set must not end
};

/// Bounded logs that live as long as this object. Keeps keys, watermarks, device tokens and a retention for each
/// channel, of which there may be 1,000 different ones, and takes messages back. A new object has new epochs.
///
/// Costs, apart from payload bytes: a channel that was never published to nothing, one that was about 100 B, a message
/// about 60 B. `append` and `read` take constant time and time proportional to what is returned.
///
/// Errors: `errc::overloaded` (too many channels, keys, retentions, watermarks or tokens), `errc::conflict` (same key,
/// other payload; too many devices), and those of the storage concept.
///
/// Threads: safe to call from any; several hubs may share one object. Calls for different channels seldom wait for one
/// another.
class memory_storage {
 public:
  static constexpr bool keeps_keys = true;
  static constexpr bool keeps_retention = true;
  static constexpr bool thread_safe = true;

  explicit memory_storage(const memory_options& options = {});
  memory_storage(const memory_storage&) = delete;
  memory_storage& operator=(const memory_storage&) = delete;

  append_result append(std::string_view channel, const draft& d) { return append(place_of(channel), channel, d); }

  /// For hubs, which do other things before they append: where a channel is, whether or not it is there.
  struct place {
    detail::bits128 hash;
  };
  place place_of(std::string_view channel) const noexcept { return {hash_of(channel)}; }
  /// Asks for the memory that an append at that place will look at, step by step: `step` is 0, then 1.
  void prefetch_entry(const place& at, int step) noexcept;
  append_result append(const place& at, std::string_view channel, const draft& d);

  read_result read(std::string_view channel, std::uint64_t since, read_limit limit);

  append_result erase(std::string_view channel, const position& at, const draft& d);
  mark_result mark(std::string_view channel, const watermark& m);
  watermarks_result watermarks(std::string_view channel, const watermark_query& q);
  tokens_result keep_token(const device_token& t);
  tokens_result tokens(std::string_view user);
  tokens_result forget_token(std::string_view user, std::string_view device, std::string_view token);

 private:
  using bits128 = detail::bits128;

  struct entry {
    payload data;
    std::int64_t at = 0;
    std::unique_ptr<char[]> words;  // null where it is plain; else `sizes`, `rare` where they say so, and the texts

    explicit entry(const draft& d, std::uint64_t erases = 0);
    message as_message(std::uint64_t offset) const;
    std::uint64_t erases() const noexcept { return rarely().erases; }
    std::uint64_t erased_by() const noexcept { return rarely().erased_by; }
    /// What is left of it when the message at `by` has taken it back.
    entry taken_back(std::uint64_t by) const;

   private:
    struct sizes {
      std::uint32_t from = 0, type : 31 = 0, has_rare : 1 = 0;
    };
    struct rare {
      std::uint64_t erases = 0, erased_by = 0, size = 0;      // `size` of the content
      std::uint32_t id = 0, media : 31 = 0, content : 1 = 0;  // sizes of the content's texts, and whether there is one
    };
    void write(std::string_view from, std::string_view type, rare r, const content_reference* content);
    rare rarely() const noexcept;
  };

  struct keyed_node : detail::hash_node {
    std::uint32_t keys = 0;  // how many are kept; fills the room behind a node
  };
  struct log final : keyed_node, detail::with_tail {
    explicit log(std::string_view channel) noexcept;
    log(const log&) = delete;
    log& operator=(const log&) = delete;
    ~log() { clear(); }
    std::string_view channel() const noexcept { return {behind(this), name_size}; }

    std::uint64_t head = 0;
    std::uint64_t bytes = 0;
    union {
      entry only;   // when `capacity` is 1
      entry* ring;  // else
    };
    std::uint32_t capacity = 1, first = 0, size = 0;  // room for so many, of which `size` from `first` on are there
    std::uint16_t name_size;
    std::uint16_t keep = 0;  // 0: as the options have it; else its retention's number in its shard, from 1

    std::uint64_t oldest() const noexcept { return head - size + 1; }
    /// Precondition: `place < capacity`.
    entry& slot(std::uint64_t place) noexcept;
    /// Precondition: `oldest() <= offset <= head`.
    entry& operator[](std::uint64_t offset) noexcept { return slot(offset - oldest()); }

    /// Afterwards `push` cannot fail.
    void make_room(std::size_t most);
    void push(entry e, std::size_t most, std::size_t most_bytes) noexcept;
    void drop() noexcept;
    void clear() noexcept;
    /// A log is cut at one place. A message whose clock was ahead would keep all those behind it past their age: what
    /// came before one that is too old is too old itself, whatever it says. Looked for where the two oldest or the
    /// newest show that clocks differ.
    void drop_before(std::int64_t time);
    void resize(std::uint32_t room);
  };

  struct kept_key : detail::hash_node {
    bits128 name;   // of channel and key
    bits128 print;  // of the payload, which may be trimmed before its key
    std::uint64_t offset = 0;
    std::int64_t at = 0;
    log* of = nullptr;  // channels are never removed
    kept_key* younger = nullptr;
  };

  // What one device has in one channel stands beside what its user's other devices have there.
  struct mark_name {
    std::string channel, user, device;
    bool same_user(const mark_name& other) const noexcept { return user == other.user && channel == other.channel; }
    friend auto operator<=>(const mark_name&, const mark_name&) = default;
  };
  struct mark_value {
    std::string epoch;
    watermark_levels levels;
    std::int64_t at;
  };
  using mark_table = std::map<mark_name, mark_value>;

  // 64 shards: far more than cores, and a table that grows stops one 64th of the channels, not all.
  static constexpr std::size_t shard_count = 64, most_retentions = 1000;
  struct alignas(64) shard {
    detail::light_mutex mutex;
    detail::intrusive_hash_table<log> channels;  // owned, as are the keys
    detail::intrusive_hash_table<kept_key> keys;
    std::vector<retention> retentions;
    mark_table marks;
    kept_key *oldest_key = nullptr, *youngest_key = nullptr;
    std::size_t swept = 0;

    ~shard();
    log* find(const bits128& hash, std::string_view channel) const noexcept {
      return channels.find(hash.low, [&](const log& l) { return proto::same_bytes(l.channel(), channel); });
    }
    log* add(const bits128& hash, std::string_view channel);
    void keep(std::unique_ptr<kept_key> owned) noexcept;
    void forget_oldest() noexcept;
  };

  bits128 hash_of(std::string_view channel) const noexcept { return detail::keyed_hash(secret_).add(channel).finish(); }
  shard& shard_of(const bits128& hash) noexcept { return shards_[hash.low >> 48 & (shard_count - 1)]; }
  /// What holds for a log: its own retention, and what that does not say as the options have it.
  struct bounds {
    std::size_t messages, bytes;
    std::int64_t age;  // milliseconds; 0: no limit
  };
  bounds bounds_of(const shard& s, std::uint16_t number) const noexcept;
  /// The number of a retention in its shard; 0: there are too many. Throws `std::bad_alloc`.
  std::uint16_t number_of(shard& s, const retention& keep);
  static std::int64_t age_of(std::chrono::seconds age) noexcept {
    return std::chrono::duration_cast<std::chrono::milliseconds>(age).count();
  }
  append_result store(shard& s, log* l, const bits128& hash, std::string_view channel, const retention& keep, entry e,
                      std::unique_ptr<kept_key> key);
  using device_name = std::pair<std::string, std::string>;
  using token_table = std::map<device_name, device_token>;
  void drop_token(const device_name& who) noexcept;
  void forget_keys(shard& s, std::int64_t now) noexcept;

  // Each append also looks at one bucket of its shard, so that what is too old is freed in channels that nobody
  // touches.
  void sweep(shard& s);
  void drop_aged(shard& s, log& l);

  memory_options options_;
  bits128 secret_;
  std::atomic<std::size_t> channels_ = 0, marks_ = 0;
  std::atomic<bool> ages_;  // whether anything goes by age
  std::array<shard, shard_count> shards_;

  std::mutex tokens_mutex_;
  token_table tokens_;                                                // by user and device
  std::map<std::pair<std::string, std::string>, device_name> named_;  // by service and token
};

static_assert(synchronous_storage<memory_storage> && retaining_storage<memory_storage> &&
              erasing_storage<memory_storage> && watermark_storage<memory_storage> && token_storage<memory_storage>);

}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/storage/memory.ipp"
#endif
