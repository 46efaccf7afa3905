// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/event_loop.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/hub/channel_rules.hpp"
#include "hailwire/detail/hub/mailbox.hpp"
#include "hailwire/detail/hub/pending_operations.hpp"
#include "hailwire/log.hpp"
#include "hailwire/options.hpp"
#include "hailwire/session.hpp"
#include "hailwire/stats.hpp"

namespace hailwire::detail {

/// What every part of a hub stands on: its loop and clock, its options, its storage and the way back from it, its log
/// and its counters. Knows no channel and no session.
class hub_core {
 public:
  hub_core(const hub_core&) = delete;
  hub_core& operator=(const hub_core&) = delete;

  event_loop& loop() const noexcept { return *loop_; }
  timer_wheel& wheel() noexcept { return wheel_; }
  /// The way here from other threads, which outlives the hub.
  const std::shared_ptr<mailbox>& post_box() const noexcept { return mailbox_; }
  const options& settings() const noexcept { return options_; }
  /// Where it is told what goes wrong, here and by what handlers throw: that goes no further, so that the rest of a
  /// turn is not lost by it.
  logger& log() noexcept { return log_; }
  const logger& log() const noexcept { return log_; }
  bool stopped() const noexcept { return stopped_; }
  /// Publishes and reads of history that are not answered yet. Safe from any thread.
  std::size_t pending_count() const noexcept { return pending_.count(); }

  /// What holds for a channel that need not be in use.
  const channel_settings& settings_of(std::string_view channel) const noexcept { return rules_.of(channel); }
  /// What holds for a channel, by the hash of its name. Valid as long as the hub.
  const channel_settings& settings_of(std::string_view channel, std::uint64_t hash) {
    return rules_.of(channel, hash, loop_->now());
  }
  /// How long a permission still holds, in milliseconds: not above 0 when it has ended, `INT64_MAX` when it never does.
  std::int64_t left(const shared_grant& g) const noexcept;
  bool ended(const shared_grant& g) const noexcept { return left(g) <= 0; }

  /// From now on both name the same epoch for a channel for which their storage names none. Before anything is
  /// followed.
  void share_epochs(const hub_core& other) noexcept { epoch_secret_ = other.epoch_secret_; }

  /// What was counted, by the hub and by those who serve its clients; `hub::stats` adds how everything stands.
  server_stats counted;

 protected:
  hub_core(event_loop& l, std::unique_ptr<any_storage> store, const options& o);
  ~hub_core() = default;

  template <class F>
  void guarded(F f) noexcept {
    log_.guarded("a handler", std::move(f));
  }
  // Tells of an operation of the storage's that has failed, but for what is its publisher's own fault.
  void storage_failed(std::string_view what, log_rate& rate, std::string_view channel, const std::error_code& ec,
                      const std::exception_ptr& cause) const noexcept;
  void append_failed(std::string_view channel, const std::error_code& ec, const std::exception_ptr& cause) noexcept {
    storage_failed("an append to", append_failures_, channel, ec, cause);
  }
  // Every read of a channel comes through here: what went wrong is logged, and JSON that another program wrote into the
  // storage with raw line breaks gets spaces in their place, because a line break would end a line of an event stream.
  void take_read(std::string_view channel, read_result& r);

  // The beginning of what is to be measured; 0 where it is not.
  std::int64_t begin_watch(sampler& by) const noexcept { return by.next() ? loop_->precise() : 0; }
  void end_watch(std::int64_t since, duration_histogram& of) const noexcept {
    if (since) of.add(loop_->precise() - since);
  }
  // A storage's handler: runs f(hub, result) on the loop, or never once the hub has stopped.
  template <class F>
  auto on_loop(F f);
  // Puts `f` with the result that another thread has for it, to be run with the hub, or not at all.
  template <class Result>
  static void forward(const std::shared_ptr<mailbox>& to, move_only_function<void(hub&, Result)> f, Result&& r);
  // Asks the storage, and runs f(hub, read_result) with its answer.
  template <class F>
  void read_storage(std::string_view channel, std::uint64_t since, read_limit limit, F f);

  std::uint64_t hash_of(std::string_view name) const noexcept { return table_hash(secret_, name); }
  std::string own_epoch(std::string_view channel) const {
    return epoch_of(keyed_hash(epoch_secret_).add(channel).finish());
  }

  options options_;
  channel_rules rules_{options_};
  event_loop* loop_;
  std::unique_ptr<any_storage> storage_;
  const bool announces_;  // the storage tells the others what was appended
  timer_wheel wheel_;
  bits128 secret_ = random_bits();        // of what is made of names, but for
  bits128 epoch_secret_ = random_bits();  // epochs
  logger log_;
  std::shared_ptr<mailbox> mailbox_;
  pending_operations pending_;
  call_depth depth_;
  log_rate append_failures_, read_failures_;
  sampler turns_, appends_, reads_;
  bool stopped_ = false;
  bool behind_ = false;  // what other hubs have told all may have been missed: see `all_nodes`
};

}  // namespace hailwire::detail
