// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string_view>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/hub/fan_out.hpp"
#include "hailwire/session.hpp"
#include "hailwire/storage_concept.hpp"

namespace hailwire {

/// How following began.
struct follow_start {
  position at;            ///< before the first message that will follow
  bool recovered = true;  ///< nothing was lost; else `lost` says what
  detail::gap lost{};
  bool conflated = false;  ///< only the newest message of the channel matters
};

/// Appends a channel's entry as `open`, `followed` and the answer to `subscribe` carry it.
void append_entry(std::string& out, const follow_start& f);

/// Told on the hub's loop how following began, or why it did not.
using follow_handler = detail::move_only_function<void(result<follow_start>)>;

namespace detail {

/// How sessions begin to follow a channel of a hub, and how they cease to. Each of them goes through one function,
/// because presence is told of both.
class subscriptions {
 public:
  explicit subscriptions(hub& h) noexcept : hub_(&h) {}
  subscriptions(const subscriptions&) = delete;
  subscriptions& operator=(const subscriptions&) = delete;

  /// Has the session follow a channel. The handler may be called before this returns, with `forbidden` when the
  /// channel was unfollowed first, and is never called once the session is closed. After it, `subscription::pending`
  /// has what comes.
  void add(session& s, std::string_view channel, const start& from, bool named, follow_handler done);
  /// Has the session follow it no more; false when it did not.
  bool remove(session& s, std::string_view channel);
  /// Ends the one at this place in the session's list. `at_once`: nobody waits for its return.
  void end(session& s, std::size_t i, bool at_once);
  subscription* find(session& s, std::string_view channel) const noexcept;

 private:
  // A session that begins to follow comes by here, whether it begins at once or the storage had to be asked.
  void begin(session& s, channel_log& log);
  // A channel that is to be followed has been read.
  void start_read(channel_log& read, session_key asked, std::uint32_t serial, const hailwire::start& from,
                  std::uint64_t floor, read_result&& r, follow_handler& done);
  void began(session& s, subscription& sub, const hailwire::start& from, std::uint64_t floor, read_result&& r,
             follow_handler& done);

  hub* hub_;
  std::uint32_t serial_ = 0;
};

}  // namespace detail
}  // namespace hailwire
