// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a storage may keep beside its logs: how far each device of a user has received and read (watermarks), and where
// devices are to be woken (tokens). Each is an optional member, found on its own: see the end of storage_concept.hpp.

#include <concepts>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/error.hpp"

namespace hailwire {

/// How many devices of one user a storage remembers, of those that have watermarks in one channel, and of those that
/// have tokens. PROTOCOL.md, "Who may".
inline constexpr std::size_t max_devices = 16;
/// One more takes the place of the one that was unseen longest, if that is so for longer than this, in milliseconds;
/// else it is `errc::conflict`.
inline constexpr std::int64_t device_memory_ms = std::int64_t{30} * 24 * 60 * 60 * 1000;

/// How far something has come in a channel, in offsets of one epoch. 0: nothing yet.
struct watermark_levels {
  std::uint64_t received = 0;     ///< everything up to here has arrived
  std::uint64_t read = 0;         ///< and was read; at most `received`
  std::uint64_t public_read = 0;  ///< as far as others may know it; at most `read`

  friend bool operator==(const watermark_levels&, const watermark_levels&) = default;
};

/// How far one device of a user has come in a channel.
struct watermark {
  std::string user;    ///< 1–254 bytes
  std::string device;  ///< 0–64 bytes
  std::string epoch;   ///< of the levels
  watermark_levels levels;
  std::int64_t at = 0;  ///< when the device was seen last: Unix time in milliseconds
};

/// What became of a watermark that was raised.
struct mark_result {
  std::error_code error;  ///< set: nothing moved (`errc::internal`: unknown)
  /// The highest over all devices of the user in the channel's epoch, before and after. Equal: nobody need be told.
  watermark_levels before, after;
  std::exception_ptr cause;  ///< what `error` came of, for the log alone; null: its message says it

  mark_result() = default;
  mark_result(std::error_code e) : error(e) {}
  mark_result(errc e) : error(e) {}
};

/// Which watermarks of a channel are asked for.
struct watermark_query {
  std::string user = {};     ///< those of this user's devices; empty: everybody's
  std::string after = {};    ///< of everybody: users whose names are above this one, by bytes
  std::size_t users = 1000;  ///< of everybody: so many users at most, at least one when there is one
};

/// Watermarks in the order of their users' names and their devices' names, by bytes; all devices of each user.
struct watermarks_result {
  std::error_code error;
  std::vector<watermark> marks;
  bool more = false;         ///< there are users behind the last one
  std::exception_ptr cause;  ///< as in `mark_result`

  watermarks_result() = default;
  watermarks_result(std::error_code e) : error(e) {}
  watermarks_result(errc e) : error(e) {}
};

/// Where one device of a user is woken.
struct device_token {
  std::string user;        ///< 1–254 bytes
  std::string device;      ///< 1–64 bytes
  std::string service;     ///< which notifier takes it: `web`, `apns`, `fcm`, `webhook`; up to 64 bytes
  std::string token;       ///< the notifier's own, 1–4096 bytes
  std::string extra = {};  ///< what else the notifier keeps with it, up to 4096 bytes
  std::int64_t at = 0;     ///< when it was named last: Unix time in milliseconds

  friend bool operator==(const device_token&, const device_token&) = default;
};

/// What became of an operation on device tokens.
struct tokens_result {
  std::error_code error;
  std::vector<device_token> tokens;  ///< of a question: the user's, in the order of their devices' names, by bytes
  std::exception_ptr cause;          ///< as in `mark_result`

  tokens_result() = default;
  tokens_result(std::error_code e) : error(e) {}
  tokens_result(errc e) : error(e) {}
};

using mark_handler = detail::move_only_function<void(mark_result)>;
using watermarks_handler = detail::move_only_function<void(watermarks_result)>;
using tokens_handler = detail::move_only_function<void(tokens_result)>;

/// The optional member for watermarks, of a storage that answers when it returns:
/// - `mark(channel, m)` raises the levels of (channel, user, device) to those of `m` where they are higher, and notes
///   that the device was seen at `m.at`. A level never falls within an epoch. A watermark of an older epoch is
///   replaced. In one step with the look at the log: another epoch than the channel has is `errc::not_found`, a level
///   above the head is `errc::bad_request`, and nothing moves. A storage without epochs keeps what `m.epoch` says. What
///   is answered is kept as messages are.
/// - At most `max_devices` devices of a user are remembered in a channel; see `device_memory_ms`.
/// - `watermarks(channel, query)` also shows those of older epochs, with their epoch.
/// Trimming and erasing do not touch watermarks.
template <class S>
concept synchronous_watermarks =
    requires(S& s, std::string_view channel, const watermark& m, const watermark_query& q) {
      { s.mark(channel, m) } -> std::convertible_to<mark_result>;
      { s.watermarks(channel, q) } -> std::convertible_to<watermarks_result>;
    };
/// The same, answered later: in the order of the channel's other operations.
template <class S>
concept asynchronous_watermarks = requires(S& s, std::string_view channel, watermark m, watermark_query q,
                                           mark_handler marked, watermarks_handler done) {
  s.async_mark(channel, std::move(m), std::move(marked));
  s.async_watermarks(channel, std::move(q), std::move(done));
};

/// The optional member for device tokens, of a storage that answers when it returns:
/// - `keep_token(t)` keeps it as the one token of (user, device). A token belongs to who named it last: whichever other
///   device had the same one of the same service has none from then on. At most `max_devices` a user; see
///   `device_memory_ms`, counted from `at`.
/// - `tokens(user)` shows the user's.
/// - `forget_token(user, device, token)` forgets it, if it is still this one; an empty `token` means whichever it is.
///   One that is not there is no error.
/// What is answered is kept as messages are, and outlives every channel. A token may pass from one user to another, so
/// as to threads and order all these operations count as those of one channel.
template <class S>
concept synchronous_tokens =
    requires(S& s, const device_token& t, std::string_view user, std::string_view device, std::string_view token) {
      { s.keep_token(t) } -> std::convertible_to<tokens_result>;
      { s.tokens(user) } -> std::convertible_to<tokens_result>;
      { s.forget_token(user, device, token) } -> std::convertible_to<tokens_result>;
    };
/// The same, answered later: all of them in the order in which they were started.
template <class S>
concept asynchronous_tokens = requires(S& s, device_token t, std::string_view text, tokens_handler done) {
  s.async_keep_token(std::move(t), std::move(done));
  s.async_tokens(text, std::move(done));
  s.async_forget_token(text, text, text, std::move(done));
};
namespace detail {

/// The highest levels of all devices that `marks` has of an epoch.
inline watermark_levels highest(const std::vector<watermark>& marks, std::string_view epoch) noexcept {
  watermark_levels top;
  for (const watermark& m : marks) {
    if (m.epoch != epoch) continue;
    if (m.levels.received > top.received) top.received = m.levels.received;
    if (m.levels.read > top.read) top.read = m.levels.read;
    if (m.levels.public_read > top.public_read) top.public_read = m.levels.public_read;
  }
  return top;
}

/// Raises `to` where `by` is higher; keeps what was public at most what was read, and that at most what was received.
inline void raise(watermark_levels& to, const watermark_levels& by) noexcept {
  auto most = [](std::uint64_t a, std::uint64_t b) { return a > b ? a : b; };
  to.public_read = most(to.public_read, by.public_read);
  to.read = most(most(to.read, by.read), to.public_read);
  to.received = most(most(to.received, by.received), to.read);
}

/// Which of a user's devices gives way to a new one, by when each was seen: its place; `seen.size()` when there is room
/// for one more; `none` when nobody gives way.
inline constexpr std::size_t none_gives_way = ~std::size_t{0};
inline std::size_t gives_way(const std::vector<std::int64_t>& seen, std::int64_t now) noexcept {
  if (seen.size() < max_devices) return seen.size();
  std::size_t oldest = 0;
  for (std::size_t i = 1; i < seen.size(); ++i)
    if (seen[i] < seen[oldest]) oldest = i;
  return now - seen[oldest] > device_memory_ms ? oldest : none_gives_way;
}

}  // namespace detail
}  // namespace hailwire
