// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/hub/fan_out.hpp"
#include "hailwire/log.hpp"
#include "hailwire/message.hpp"
#include "hailwire/stats.hpp"

namespace hailwire {

class hub;

namespace detail {

/// The channels of a hub that are followed, or were busy a moment ago: the log of each, what their logs ask of the
/// storage, and the broker that joins them to the same channels at other hubs. All on the hub's loop.
class channel_table final : public log_source {
 public:
  explicit channel_table(hub& h) noexcept : hub_(&h) {}
  channel_table(const channel_table&) = delete;
  channel_table& operator=(const channel_table&) = delete;

  /// The log of a channel, or null. `hash` is of its name.
  channel_log* find(std::string_view channel) const noexcept;
  channel_log* find(std::string_view channel, std::uint64_t hash) const noexcept {
    return logs_.find(hash, [&](const channel_log& l) { return proto::same_bytes(l.name(), channel); });
  }
  std::size_t size() const noexcept { return logs_.size(); }
  /// The log of a channel, made where there is none. Throws `std::bad_alloc`, and what a broker's `subscribe` throws.
  channel_log& obtain(std::string_view channel);
  /// Lets go of a log that nobody uses.
  void release(channel_log& log) noexcept;
  /// The storage has said which epoch the channel has, and what is kept of it. Names the hub's own epoch in `r` where
  /// the storage names none.
  void open(channel_log& log, read_result& r);
  /// Lets go of all. No session follows any more.
  void clear() noexcept { logs_.delete_all(); }
  /// Adds how many stand behind, and how much is kept for them.
  void measure(server_stats& out) const;

  /// Asks for the memory of a channel that is about to be published to, in two steps; see `prefetch_hint`.
  void prefetch(std::uint64_t hash) const noexcept { __builtin_prefetch(logs_.bucket_address(hash)); }
  void prefetch_log(std::uint64_t hash, bool known) const noexcept {
    if (auto* near = logs_.candidate(hash, known)) fetch(near, 2);
  }

  /// Joins the channels of other hubs, in place of those that it was joined to. Before anything is followed.
  void join(std::unique_ptr<any_broker> b);
  void detach() noexcept;
  bool joined() const noexcept { return broker_ != nullptr; }
  /// Hears what is told on a name of the hubs' own. After `join`.
  void listen(std::string_view name) { broker_->subscribe(broker_id_, name); }
  /// A message that is stored, for the hubs that are joined and follow the channel.
  void publish(std::string_view channel, std::string_view epoch, const message& m) noexcept;
  /// Something live-only for the hubs that are joined and follow the channel. It may be dropped.
  /// `in_order`: behind the messages that this hub has of the channel, and void where its log has another epoch.
  void tell_others(std::string_view channel, std::string_view bytes, bool in_order = true) noexcept;

  /// Tells of a storage that does not count by ones: it gave, or left out, what lies behind `head`.
  void disorder(std::string_view channel, std::uint64_t head, std::uint64_t next) noexcept override {
    log_disorder(channel, head, next);
  }

 private:
  void load(channel_log& log, encoded_channel& l, std::uint64_t since) override { read_on(log, l, since); }
  void fill(channel_log& log) override { read_missing(log); }
  void reopen(channel_log& log) override { read_bounds(log); }
  void mark_dirty(channel_log& log) override { flush_later(log); }
  void told(channel_log& log, std::string_view bytes) override { hear(log, bytes); }
  void read_on(channel_log& log, encoded_channel& l, std::uint64_t since);
  void read_missing(channel_log& log);
  void read_bounds(channel_log& log);
  void flush_later(channel_log& log);
  void hear(channel_log& log, std::string_view bytes);
  void log_disorder(std::string_view channel, std::uint64_t head, std::uint64_t next) noexcept;
  template <class F>
  void ask_for(channel_log& log, std::uint64_t since, read_limit limit, F f);

  hub* hub_;
  intrusive_hash_table<channel_log> logs_;  // owned
  std::unique_ptr<any_broker> broker_;
  std::uint64_t broker_id_ = 0;
  log_rate disorders_;
};

}  // namespace detail
}  // namespace hailwire
