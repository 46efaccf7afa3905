// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/token_bucket.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/options.hpp"

namespace hailwire::detail {

/// What holds for a channel: its rule, where it has one, and for what that leaves open the general options.
struct channel_settings {
  std::size_t max_payload = 0;
  token_rate publishes = {};
  bool last_value = false;
  std::int64_t at_most_every = 0;  // milliseconds
  retention keep = {};
  std::optional<bool> wake = {};
  bool presence = false, ephemeral = false, receipts = false;
};

/// `options::channels`, read. Which rule is whose is found out once for each channel that is in use, and kept.
class channel_rules {
 public:
  /// Throws `std::invalid_argument` for a rule that makes no sense. Keeps nothing of `o`.
  explicit channel_rules(const options& o);
  channel_rules(const channel_rules&) = delete;
  channel_rules& operator=(const channel_rules&) = delete;
  ~channel_rules() { used_.delete_all(); }

  bool any() const noexcept { return !rules_.empty(); }
  /// Whether some channels' logs are to be kept otherwise than the rest.
  bool any_keep() const noexcept { return any_keep_; }
  /// What holds for a channel; valid as long as this object. `hash` is of its name, and the same each time.
  const channel_settings& of(std::string_view channel, std::uint64_t hash, std::int64_t now) {
    return any() && channel.size() <= longest ? *used(channel, hash, now).settings : general_;
  }
  /// The same of one that is not in use yet: each rule is tried.
  const channel_settings& of(std::string_view channel) const noexcept;
  /// Counts one publish of a client's: 0, or after how many milliseconds there is room for one.
  std::int64_t count_publish(std::string_view channel, std::uint64_t hash, std::int64_t now) {
    return any() && channel.size() <= longest ? used(channel, hash, now).take(now) : 0;
  }
  /// Of how many channels the rule is known.
  std::size_t size() const noexcept { return used_.size(); }

 private:
  struct rule {
    std::string text;  // without its `*`
    bool prefix;
    channel_settings settings;
  };
  struct channel_in_use : hash_node, with_tail {
    std::uint32_t name_size = 0;
    const channel_settings* settings = nullptr;
    token_bucket publishes;
    std::string_view name() const noexcept { return {behind(this), name_size}; }
    std::int64_t take(std::int64_t now) noexcept { return publishes.take(settings->publishes, now); }
  };
  static constexpr std::size_t least_swept = 1024;
  static constexpr std::size_t longest = 255;  // what is longer is no channel

  channel_in_use& used(std::string_view channel, std::uint64_t hash, std::int64_t now);
  // Forgets channels of which nothing is counted: their rule is found again.
  void sweep(std::int64_t now) noexcept;

  channel_settings general_;
  bool any_keep_ = false;
  vector<rule> rules_;
  intrusive_hash_table<channel_in_use> used_;
  std::size_t sweep_at_ = least_swept;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/channel_rules.ipp"
#endif
