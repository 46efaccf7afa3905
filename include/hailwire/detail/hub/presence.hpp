// SPDX-License-Identifier: BSL-1.0
#pragma once

// Presence: who follows a channel, on all hubs that are joined.
//
// Each hub knows of its own followers, and tells the others what changes: a user is there with so many sessions, a user
// is gone. A user is a member as long as one hub has it, so a hub that sees a user's number of hubs leave or reach zero
// tells its own followers `join` and `leave`. A user whose last session at a hub has ended stays for a grace time, so
// that who reconnects, also at another hub, does not leave.
//
// What one hub tells of a channel is numbered, by one count for all its channels; each change names the one before it
// in its channel. A hub that sees a hole, that begins to follow, or that hears of a hub for the first time asks for the
// state, which says up to which number it holds: changes up to there are in it already. A hub repeats its newest number
// a few times, with its heartbeat, so that a lost last change is seen. Hubs say that they are alive on a name of their
// own, which no client can form; the members of one that has been silent for three heartbeats are gone. Hubs of a
// server without a rule for presence say nothing.
//
// All of it belongs to the hub's thread. One timer a second serves what is late or gathered: grace times, counts,
// holes.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/hub/live_codec.hpp"
#include "hailwire/detail/hub/presence_result.hpp"
#include "hailwire/error.hpp"

namespace hailwire {

class hub;
class session;
class shared_grant;

namespace detail {

class channel_log;

/// How long a user stays a member behind the last session at a hub: PROTOCOL.md. Behind a poll's answer until the
/// client asks again, with the time that it may wait before.
inline constexpr std::int64_t presence_grace_ms = 10'000;
inline constexpr std::int64_t presence_poll_grace_ms = 30'000;
/// How often a hub says that it is alive, and after how long a silence its members are gone.
inline constexpr std::int64_t hub_heartbeat_ms = 5'000;
inline constexpr std::int64_t hub_silence_ms = 3 * hub_heartbeat_ms;
/// The longest that the members of a hub which has ended stay beyond the grace time, whatever it said.
inline constexpr std::uint64_t most_linger_ms = 3'600'000;
/// How long an answer waits for hubs that do not say what they have.
inline constexpr std::int64_t hub_answer_ms = 1'000;
/// How often a hub repeats the number of its newest change.
inline constexpr unsigned presence_repeats = 3;
/// Up to how many bytes of members stand in one piece of a state: what the smallest brokers carry.
inline constexpr std::size_t presence_piece = 2'000;
/// How many changes of a hub are held while its state is asked for; the state has the rest.
inline constexpr std::size_t most_held_changes = 256;

class presence {
 public:
  explicit presence(hub& h);
  presence(const presence&) = delete;
  presence& operator=(const presence&) = delete;

  /// Whether any channel has it.
  bool enabled() const noexcept { return enabled_; }
  /// A broker is there.
  void joined();
  void stop() noexcept;

  void began(session& s, channel_log& log);
  /// `at_once`: without a grace time.
  void ended(session& s, channel_log& log, bool at_once);
  /// The session has another grant.
  void regranted(session& s, channel_log& log, const shared_grant& before);
  /// Nobody here follows the channel any more, so that nothing is heard of it.
  void unfollowed(std::string_view channel) noexcept;

  /// What another hub told on a followed channel, or on a name of the hubs' own.
  void heard(std::string_view channel, std::string_view bytes);
  /// Something may have been missed on that name.
  void look_again(std::string_view channel);

  /// Calls `done` when all hubs have said what they have, or after `hub_answer_ms`.
  void ask(std::string_view channel, bool names, presence_handler done);
  /// From now on users stay so much longer, here and, when this hub has ended, at the others: while those who were sent
  /// away are to come back.
  void linger(std::int64_t ms) noexcept { linger_ = ms; }
  /// Called on the loop when a channel has its first follower at this hub, and when it has had its last.
  std::function<void(std::string_view channel, bool followed)> on_followed;

  /// Whether a name is the hubs' own.
  static bool is_own(std::string_view channel) noexcept { return !channel.empty() && channel.front() == '\0'; }
  /// How many channels something is kept of.
  std::size_t size() const noexcept { return channels_.size(); }

 private:
  enum class word : std::uint8_t { change = 1, newest, alive, hello, ended, ask, state };
  struct at_hub {
    std::uint64_t hub;
    std::size_t sessions;
    std::string info;
  };
  // A user in a channel.
  struct member {
    std::size_t sessions = 0;  // here
    bool here = false;         // with sessions, or within the grace time
    bool dirty = false;        // the others have not been told of `sessions`
    std::int64_t gone_at = 0;  // when the grace time ends; 0: there are sessions
    std::string info;
    std::vector<at_hub> others;
    bool present() const noexcept { return here || !others.empty(); }
  };
  struct change {
    std::uint64_t before = 0, number = 0;
    bool gone = false;
    std::string user, info;  // an empty user: all anonymous sessions
    std::size_t sessions = 0;
  };
  // What is known of another hub in a channel.
  struct remote {
    std::uint64_t number = 0;  // of the newest change that is known
    bool synced = false;
    std::int64_t asked_at = 0;  // 0: its state is not awaited
    std::size_t anonymous = 0;
    std::vector<change> held;
    std::uint64_t staged_number = 0;
    std::size_t pieces = 0;
    std::vector<change> staged;
  };
  struct query {
    bool names;
    std::int64_t until;
    presence_handler done;
  };
  using users_by_name = std::map<std::string, member, std::less<>>;
  struct channel_state {
    users_by_name users;
    std::map<std::uint64_t, remote> others;
    std::size_t anonymous = 0;  // sessions here
    bool anonymous_dirty = false;
    bool followed = false;  // here, so that the others are heard
    bool settled = false;   // all hubs have said what they had when it began
    bool counting = false;  // too many for names
    bool gathered = false;  // joins of the first grace time
    std::size_t told_count = 0;
    std::size_t present = 0;   // users
    bool occupied = false;     // as the host was told
    std::uint64_t newest = 0;  // the number of this hub's newest change
    unsigned repeats = 0;
    std::vector<query> queries;
    std::size_t here = 0;     // users with sessions here, or within the grace time
    std::size_t leaving = 0;  // users within the grace time
    bool dirty = false;       // a user is
    bool pending = false;     // it is looked at in the next second
    std::int64_t repeat_at = 0;
  };
  using channels = std::map<std::string, channel_state, std::less<>>;
  struct second final : timer {
    explicit second(presence& p) noexcept;
    HAILWIRE_INLINE void expire(std::int64_t now) override;
    HAILWIRE_INLINE void broken() noexcept override;
    presence* of;
  };

  std::int64_t now() const noexcept;
  void arm();
  void later(const std::string& name, channel_state& c);
  void tick(std::int64_t now);
  void beat(std::int64_t now);
  void look_at(const std::string& name, channel_state& c, std::int64_t now);
  bool idle(const channel_state& c) const noexcept;

  channels::iterator obtain(std::string_view channel);
  void follow(const std::string& name, channel_state& c);
  void tell(std::string_view channel, const live_writer& w) noexcept;
  void tell_change(const std::string& name, channel_state& c, std::string_view user, const member* m);
  void ask_state(const std::string& name, channel_state& c, std::uint64_t of_hub);
  void answer(std::uint64_t asker, std::string_view channel);

  void apply(const std::string& name, channel_state& c, std::uint64_t from, remote& r, const change& ch, bool told);
  void heard_state(live_reader& in, std::uint64_t from);
  void set_other(const std::string& name, channel_state& c, std::uint64_t from, remote& r, const change& ch, bool told);
  void drop(const std::string& name, channel_state& c, std::uint64_t from);
  // A user's number of hubs has left zero or reached it.
  void arrived(const std::string& name, channel_state& c, const std::string& user, const std::string& info, bool told);
  void left(const std::string& name, channel_state& c, const std::string& user);
  void leave(const std::string& name, channel_state& c, users_by_name::iterator user);
  void notice(const std::string& name, std::string_view what, std::string_view json);
  void occupy(const std::string& name, channel_state& c);
  std::size_t anonymous(const channel_state& c) const noexcept;
  void answer_queries(const std::string& name, channel_state& c, std::int64_t now);
  presence_result list(const channel_state& c, bool names) const;
  static bool awaits(const channel_state& c) noexcept;
  static std::uint64_t word_of(word w) noexcept { return static_cast<std::uint64_t>(w); }

  hub* hub_;
  const bool enabled_;
  bool joined_ = false, stopped_ = false;
  const std::uint64_t id_;
  const std::string own_name_;
  const std::int64_t started_;
  std::int64_t linger_ = 0, next_beat_ = 0;
  std::uint64_t numbers_ = 0;
  std::map<std::uint64_t, std::int64_t> hubs_;    // when each was heard last
  std::map<std::uint64_t, std::int64_t> ending_;  // hubs that ended in order: when their members are gone
  channels channels_;
  std::vector<std::string> pending_;  // channels that are looked at in the next second
  second second_{*this};
};

}  // namespace detail
}  // namespace hailwire
