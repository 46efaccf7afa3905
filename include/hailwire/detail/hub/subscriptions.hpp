// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"
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

/// How following one of several channels began.
struct channel_start {
  std::string channel;
  follow_start start;
};

/// Appends a channel's entry as `open`, `followed` and the answer to `subscribe` carry it.
void append_entry(std::string& out, const follow_start& f);

/// Told on the hub's loop how following began, or why it did not.
using follow_handler = detail::move_only_function<void(result<follow_start>)>;
/// The same for several channels at once.
using follow_all_handler = detail::move_only_function<void(result<detail::vector<channel_start>>&&)>;

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
  void add(session& s, std::string_view channel, const start& from, bool named, follow_handler done) {
    add(s, channel, from, named, false, std::move(done));
  }
  /// The same for several channels that it may follow, each from its element of `from`: all of them or, with an error,
  /// none. Nothing of any of them comes before the handler was called.
  void add_all(session& s, vector<std::string> channels, const cursor& from, follow_all_handler done);
  /// Behind the answer that told how following began: tells of a gap, and has what comes served.
  void serve(session& s, std::string_view channel, const follow_start& began);
  /// Has the session follow it no more; false when it did not.
  bool remove(session& s, std::string_view channel);
  /// Ends the one at this place in the session's list. `at_once`: nobody waits for its return.
  void end(session& s, std::size_t i, bool at_once);
  subscription* find(session& s, std::string_view channel) const noexcept;
  /// Of all sessions.
  std::size_t size() const noexcept { return size_; }

 private:
  struct group;
  void add_held(const intrusive_ptr<group>& g, std::size_t i);
  void one_known(const intrusive_ptr<group>& g);
  // With `held` it has nothing to pull when it has been told where it stands, until somebody lets it.
  void add(session& s, std::string_view channel, const start& from, bool named, bool held, follow_handler done);
  // A session that begins to follow comes by here, whether it begins at once or the storage had to be asked.
  void begin(session& s, channel_log& log);
  // A channel that is to be followed has been read.
  void start_read(channel_log& read, session_key asked, std::uint32_t serial, const hailwire::start& from,
                  std::uint64_t floor, bool held, read_result&& r, follow_handler& done);
  void began(session& s, subscription& sub, const hailwire::start& from, std::uint64_t floor, bool held,
             read_result&& r, follow_handler& done);

  hub* hub_;
  std::uint32_t serial_ = 0;
  std::size_t size_ = 0;
};

}  // namespace detail
}  // namespace hailwire
