// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace hailwire {

/// How much of a channel's log is kept. What is 0 is as the storage has it for every channel; the largest number there
/// is means no limit.
struct retention {
  std::uint64_t messages = 0;     ///< the newest so many
  std::uint64_t bytes = 0;        ///< of payload; the newest message is kept whatever its size
  std::chrono::seconds age = {};  ///< by `message::at`
  bool any() const noexcept { return *this != retention(); }
  friend bool operator==(const retention&, const retention&) = default;
};

/// What holds for some channels instead of the general options. Of the rules of `options::channels` the first whose
/// pattern fits a channel is that channel's, and no other is looked at; what it leaves open is as the general option of
/// that name says.
///
///     o.channels = {{.pattern = "prices/*", .max_payload = 512}, {.pattern = "@*", .publishes_per_second = 5}};
struct channel_rule {
  /// A channel's name, compared by bytes; or a prefix and `*`, for every channel whose name begins with that prefix,
  /// the prefix itself included: `chat/*` has `chat/` and `chat/a/b`, `@*` all inboxes, `*` everything. A `*` stands at
  /// the end or nowhere.
  std::string pattern = {};

  /// How much of their logs is kept, by a storage that can keep channels differently (`keeps_retention`); with another
  /// one it is an error when the server is made. Holds for a channel from the next message on.
  retention keep = {};
  /// The largest payload in bytes, instead of `options::max_payload`; may be larger than that.
  std::optional<std::size_t> max_payload = {};
  /// The most publishes a second of all clients together to each such channel, with a second's worth at once; more are
  /// `rate_limited`, with the time after which there is room. What the host publishes is not counted. Each hub counts
  /// for itself. 0: no limit.
  std::optional<std::size_t> publishes_per_second = {};
  /// Whether a message wakes the devices of those who stand behind the channel (`server::add_notifier`): of an inbox
  /// its user, of any other channel the users who have watermarks in it, but not whose words they are. Inboxes do by
  /// default, other channels do not.
  std::optional<bool> wake = {};
  /// Whether followers see who follows: `join`, `leave`, and the command `presence`.
  bool presence = false;
  /// Whether clients may publish what is stored nowhere (typing, pointers): to whoever is there, or to nobody.
  bool ephemeral = false;
  /// Whether only the newest message matters, as of a price or a place on a map. Followers may be given the newest one
  /// alone where several have come, begin with it, and hear of no `gap` but for a new epoch; the newest always arrives.
  /// Their `open` says `"conflated":true`. The log is kept as ever, and `history` reads all of it.
  std::optional<bool> last_value = {};
  /// Each follower of such a channel is given something at most once in this time, rounded up to 0.1 s; what comes in
  /// between is given together, or, with `last_value`, the newest of it. The first after a pause goes at once. 0: as
  /// soon as it comes.
  std::optional<std::chrono::milliseconds> at_most_every = {};
  /// Whether followers are told how far others have received and read, where there are no more of them than
  /// `options::presence_names`, and may list it (`receipts`). A user's own devices always are; of an inbox nobody else.
  bool receipts = false;
};

}  // namespace hailwire
