// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a host may bring as its storage: a plain class that meets a concept. The two functions that it must have are
// `append` and `read`; the rest is optional, and each part is found on its own. `explain_storage` says what is missing.

#include <concepts>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/channel_rule.hpp"
#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"
#include "hailwire/storage_content.hpp"
#include "hailwire/storage_members.hpp"

namespace hailwire {

/// A message on its way into a log: all but its offset, and the publisher's idempotency key.
struct draft {
  std::int64_t at = 0;  ///< Unix time in milliseconds
  std::string from;     ///< empty: the host or an anonymous user
  std::string type;     ///< 0–64 bytes
  payload data;
  std::string key;  ///< opaque, 0–384 bytes, already scoped to its publisher; empty: none. See `keeps_keys`
  std::shared_ptr<const content_reference> content = {};  ///< what the message names; null: none
  retention keep = {};  ///< how much of its channel is kept from now on, for a storage that `keeps_retention`
};

/// What became of an append. Converts from an offset, a position or an error, so that a storage may return just that.
struct append_result {
  std::error_code error;     ///< set: nothing was stored (`errc::internal` and `errc::timeout`: unknown)
  std::uint64_t offset = 0;  ///< where the message stands
  std::string epoch;         ///< empty: the storage keeps no epochs, the hub's own is used
  bool duplicate = false;    ///< the key was known: `offset` is the first message's, and nothing was stored
  std::exception_ptr cause;  ///< what `error` came of, for the log alone; null: its message says it

  append_result() = default;
  append_result(std::uint64_t at) : offset(at) {}
  append_result(position p) : offset(p.offset), epoch(std::move(p.epoch)) {}
  append_result(std::error_code e) : error(e) {}
  append_result(errc e) : error(e) {}
};

/// One of several appends: see `append_all`. What it refers to is valid during the call.
struct channel_draft {
  std::string_view channel;
  const draft& message;
};

/// How much one read may return. At least one message comes back when there is one, whatever its size.
struct read_limit {
  std::size_t messages = 256;     ///< 0: none, only the facts
  std::size_t bytes = 64 * 1024;  ///< payload bytes
};

/// A stretch of a channel's log, and where the log begins and ends.
struct read_result {
  std::error_code error;
  std::vector<message>
      messages;       ///< ascending without holes, the first one just after `since` or, if that is trimmed, `oldest`
  std::string epoch;  ///< empty: the storage keeps no epochs
  std::uint64_t oldest = 1;  ///< the oldest offset still to be had; `head + 1` when nothing is
  std::uint64_t head = 0;    ///< the newest offset ever given in this epoch; 0: never published to
  std::exception_ptr cause;  ///< what `error` came of, for the log alone; null: its message says it

  read_result() = default;
  read_result(std::error_code e) : error(e) {}
};

/// An epoch for a storage that keeps them: it needs to be kept nowhere, is known before a channel's first message, and
/// is the same on every node that has the secret; another secret gives every channel another epoch. 12 letters.
///
/// `secret`: 16 random bytes, kept with the log and replaced when messages that were acknowledged may be missing.
/// Longer or shorter ones are hashed first. The epoch is the upper 72 bits of SipHash-2-4-128 (Aumasson and Bernstein,
/// 2012) of the name, so that who sees epochs cannot tell the secret.
inline std::string epoch_for(std::string_view secret, std::string_view channel) {
  detail::bits128 key;
  if (secret.size() == sizeof key)
    std::memcpy(&key, secret.data(), sizeof key);
  else
    key = detail::keyed_hash(key).add(secret).finish();
  return detail::epoch_of(detail::keyed_hash(key).add(channel).finish());
}

using append_handler = detail::move_only_function<void(append_result)>;
using read_handler = detail::move_only_function<void(read_result)>;

namespace detail {

/// What an `append` may return. A `bool` that says whether it went well, or a signed number that is negative when it
/// did not, would convert to an offset that nothing stands at.
template <class R>
concept appended = std::convertible_to<R, append_result> &&
                   (!std::integral<std::remove_cvref_t<R>> ||
                    (std::unsigned_integral<std::remove_cvref_t<R>> && !std::same_as<std::remove_cvref_t<R>, bool>));

/// Whether the storage says so of itself.
template <class S>
inline constexpr bool announces = [] {
  if constexpr (requires {
                  { S::announces } -> std::convertible_to<bool>;
                })
    return bool{S::announces};
  else
    return false;
}();

}  // namespace detail

/// A storage that answers when it returns.
///
/// Obligations:
/// - `append` gives each channel the offsets 1, 2, 3, … without holes and has the message readable when it returns. It
///   keeps all of the draft but its key, byte for byte.
/// - A JSON text lies in the log as it came, without line breaks (the hub puts spaces in their place, RFC 8259 section
///   2). Who writes to the log by other ways may leave them: the hub looks for them in what it reads.
/// - `read` returns the messages with offset > `since`, within `limit`, and always `oldest` and `head`. A channel that
/// was
///   never published to is empty: `oldest` 1, `head` 0; reading it leaves no trace.
/// - Retention is the storage's own affair; what it drops, it drops from the oldest end, and `oldest` tells.
/// - A storage that may have lost what it acknowledged changes the epoch. One that keeps epochs names one for an empty
///   channel too, the one that the first message gets, the same from every process (`epoch_for` makes such): until one
///   is named the hub makes one up, and takes the first that is named over. One that returns no epochs gets a new one
///   from the hub at every start.
/// - Exceptions are caught and count as `errc::internal`; the log has their text.
///
/// Threads: calls for one channel never overlap. Calls for different channels may (several hubs can share one storage),
/// unless it has `static constexpr bool single_threaded = true`. One that takes any calls at any time may say
/// `static constexpr bool thread_safe = true`; a `threaded_server` then has no lock around it.
///
/// Optional members, each found on its own:
/// - `static constexpr bool keeps_keys = true`: `append` keeps a non-empty key, atomically with its message, for at
/// least
///   five minutes; the same key with the same payload returns the first offset and `duplicate`, with another payload
///   `errc::conflict`. Absent: the hub keeps keys in its own memory.
/// - `static constexpr bool announces = true`: an append tells the hubs of other processes itself, in the same step (a
///   script of the database, a NOTIFY); the hub then does not call `broker::publish`.
/// - `std::vector<append_result> append_all(std::span<const channel_draft>)`: as many appends one after the other, to
/// any
///   channels, with one result each, in order. For a database whose commit is what takes the time: `blocking_storage`
///   finds it and fills it with whatever waits. If it throws, all of them are `errc::internal`.
/// - `static constexpr bool keeps_retention = true`: `append` keeps to `draft::keep` where that is not 0, until the
/// next
///   append to the channel says otherwise; also over a restart, if the log does. Absent: every channel is kept alike.
/// - `erase` (`erasing_storage`), watermarks (`watermark_storage`), device tokens (`token_storage`), content
///   (`content_storage`), each in the form that `append` has. Absent: who asks for it is told `errc::not_implemented`.
/// - `place_of(channel)`, `prefetch_entry(place, step)` and `append(place, channel, draft)`, for a storage in memory
/// that
///   answers when it returns: the hub names the place of a publish that is to come (at most 16 bytes, trivially
///   copyable), has the memory behind it fetched in the steps 0 and 1, and appends there. Only a hint: nothing else may
///   happen before the append. Absent: `append` looks the channel up. `memory_storage` has them; among thousands of
///   channels that take turns they are 3 % of a direct message.
///
/// However many processes read it, or nodes it is kept on: a storage never shows a lower `head` under an epoch than it
/// has shown before.
template <class S>
concept synchronous_storage =
    requires(S& s, std::string_view channel, const draft& d, std::uint64_t since, read_limit limit) {
      { s.append(channel, d) } -> detail::appended;
      { s.read(channel, since, limit) } -> std::convertible_to<read_result>;
    };

/// A storage that answers later: the same obligations, with a handler in place of the returned value. Operations on one
/// channel complete in the order in which they were started. A handler is called exactly once, from any thread, also
/// from within the call that was given it.
template <class S>
concept asynchronous_storage = requires(S& s, std::string_view channel, draft d, std::uint64_t since, read_limit limit,
                                        append_handler appended, read_handler done) {
  s.async_append(channel, std::move(d), std::move(appended));
  s.async_read(channel, since, limit, std::move(done));
};

/// What a server takes as its storage: one of the two kinds above, whose obligations are the same.
template <class S>
concept storage = synchronous_storage<S> || asynchronous_storage<S>;

/// The optional member that takes messages back, of a storage that answers when it returns: in one step `erase(channel,
/// at, d)` takes type, payload and content away from the message at `at`, which keeps its place, time and sender and is
/// `erased` from then on, and appends `d` as a message that `erases` it. It answers as `append` does. What was taken
/// away is gone from wherever the storage keeps it, not only hidden.
/// - No such message, because it is trimmed, above the head, or itself one that erases: `errc::not_found`.
/// - `at.epoch` is not the channel's epoch: `errc::not_found`. The hub read the message a moment before; a storage that
///   lost messages since then may hold another message at the same offset. A storage without epochs ignores `at.epoch`.
/// - One that is erased already: the offset of the message that did it, and `duplicate`.
/// - The key of an erased message is still known, and returns its offset.
template <class S>
concept synchronous_erase = requires(S& s, std::string_view channel, const position& at, const draft& d) {
  { s.erase(channel, at, d) } -> detail::appended;
};
/// The same, answered later: in the order of the channel's other operations.
template <class S>
concept asynchronous_erase = requires(S& s, std::string_view channel, position at, draft d, append_handler done) {
  s.async_erase(channel, std::move(at), std::move(d), std::move(done));
};
/// Whether a storage can take messages back. Each optional member is in the form of the storage's `append`.
template <class S>
concept erasing_storage =
    (asynchronous_storage<S> && asynchronous_erase<S>) || (!asynchronous_storage<S> && synchronous_erase<S>);
/// Whether it keeps watermarks.
template <class S>
concept watermark_storage =
    (asynchronous_storage<S> && asynchronous_watermarks<S>) || (!asynchronous_storage<S> && synchronous_watermarks<S>);
/// Whether it keeps device tokens.
template <class S>
concept token_storage =
    (asynchronous_storage<S> && asynchronous_tokens<S>) || (!asynchronous_storage<S> && synchronous_tokens<S>);
/// Whether it keeps content.
template <class S>
concept content_storage = asynchronous_content<S> || (!asynchronous_storage<S> && synchronous_content<S>);
/// Whether a storage keeps to a retention that its channels have of their own.
template <class S>
concept retaining_storage = requires { requires bool(S::keeps_retention); };

namespace detail {

// The type that a member function takes last. (Whether it takes a handler that is only moved cannot be asked of
// std::function, whose constructor says yes to anything and then does not compile.)
template <class S, class R, class A, class B, class C>
std::remove_cvref_t<C> third_parameter(R (S::*)(A, B, C));
template <class S, class R, class A, class B, class C, class D>
std::remove_cvref_t<D> fourth_parameter(R (S::*)(A, B, C, D));
template <class S>
concept appends_with_function = requires {
  { third_parameter(&S::async_append) } -> std::same_as<std::function<void(append_result)>>;
};
template <class S>
concept reads_with_function = requires {
  { fourth_parameter(&S::async_read) } -> std::same_as<std::function<void(read_result)>>;
};

}  // namespace detail

/// Says at compile time, one sentence a requirement, why `S` is not a storage.
template <class S>
constexpr void explain_storage() {
  static_assert(!detail::appends_with_function<S>,
                "hailwire: async_append takes its handler as hailwire::append_handler, which is moved; std::function "
                "would copy it");
  static_assert(
      !detail::reads_with_function<S>,
      "hailwire: async_read takes its handler as hailwire::read_handler, which is moved; std::function would copy it");
  if constexpr (requires(S& s, draft d, append_handler h) {
                  s.async_append(std::string_view(), std::move(d), std::move(h));
                }) {
    static_assert(asynchronous_storage<S>,
                  "hailwire: an asynchronous storage also needs "
                  "void async_read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit, "
                  "hailwire::read_handler done)");
  } else {
    static_assert(
        requires(S& s, std::string_view c, const draft& d) {
          { s.append(c, d) } -> detail::appended;
        },
        "hailwire: a storage needs hailwire::append_result append(std::string_view channel, const hailwire::draft& "
        "message)");
    static_assert(
        requires(S& s, std::string_view c, std::uint64_t n, read_limit l) {
          { s.read(c, n, l) } -> std::convertible_to<read_result>;
        },
        "hailwire: a storage needs hailwire::read_result read(std::string_view channel, std::uint64_t since, "
        "hailwire::read_limit limit)");
  }
  // An optional member that is there and cannot be called is a mistake, not a storage without it.
  static_assert(
      erasing_storage<S> || !(
                                requires { &S::erase; } || requires { &S::async_erase; }),
      "hailwire: erase is hailwire::append_result erase(std::string_view channel, const hailwire::position& at, const "
      "hailwire::draft& message); async_erase takes both by value and a hailwire::append_handler");
  static_assert(watermark_storage<S> || !(
                                            requires { &S::mark; } || requires { &S::async_mark; }),
                "hailwire: watermarks are hailwire::mark_result mark(std::string_view channel, const "
                "hailwire::watermark& m) and hailwire::watermarks_result watermarks(std::string_view channel, const "
                "hailwire::watermark_query& q); async_mark and async_watermarks take values and a handler");
  static_assert(token_storage<S> || !(
                                        requires { &S::keep_token; } || requires { &S::async_keep_token; }),
                "hailwire: device tokens are hailwire::tokens_result keep_token(const hailwire::device_token& t), "
                "tokens(std::string_view user) and forget_token(std::string_view user, std::string_view device, "
                "std::string_view token); each async_ form also takes a hailwire::tokens_handler");
  static_assert(content_storage<S> || !(
                                          requires { &S::open_content; } || requires { &S::async_open_content; }),
                "hailwire: content is hailwire::upload_result open_content(const hailwire::upload& u, const "
                "hailwire::content_limits& limits), find_content(std::string_view id), write_content(std::string_view "
                "id, std::uint64_t offset, std::string_view bytes), commit_content and abort_content(std::string_view "
                "id), and hailwire::content_result read_content(std::string_view id, std::uint64_t from, std::size_t "
                "size); each async_ form takes upload and bytes by value and a hailwire::upload_handler or "
                "content_handler");
}

}  // namespace hailwire
