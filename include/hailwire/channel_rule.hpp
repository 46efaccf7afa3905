// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

namespace hailwire {

/// How much of a channel's log is kept. What is not set is left to the storage's own options.
struct retention {
  std::optional<std::size_t> messages = {};      ///< the newest so many; 0: no limit
  std::optional<std::size_t> bytes = {};         ///< of payloads; 0: no limit
  std::optional<std::chrono::seconds> age = {};  ///< by `message::at`; 0: no limit
  bool any() const noexcept { return messages || bytes || age; }
  bool operator==(const retention&) const = default;
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

  /// How much of their logs is kept, by a storage that can keep channels differently: each is asked when the server is
  /// made, and one that cannot is an error then.
  retention keep = {};
  /// The largest payload in bytes, instead of `options::max_payload`; may be larger than that.
  std::optional<std::size_t> max_payload = {};
  /// The most publishes a second of all clients together to each such channel, with a second's worth at once; more are
  /// `rate_limited`, with the time after which there is room. What the host publishes is not counted. Each hub counts
  /// for itself. 0: no limit.
  std::optional<std::size_t> publishes_per_second = {};
};

}  // namespace hailwire
