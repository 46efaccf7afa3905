// SPDX-License-Identifier: BSL-1.0
#pragma once

// What wakes a device that has no connection: the words that a server and its push notifiers share, and what a notifier
// is. Ready ones: push/webhook.hpp, push/apns.hpp, push/fcm.hpp, push/web_push.hpp. One of a host's own is a class that
// meets `push_notifier`.

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/error.hpp"
#include "hailwire/proto/json.hpp"

namespace hailwire {

/// What a sleeping device is told: where something new stands, and how much there is. Neither text nor sender: these
/// are read over the connection that the device opens then, and no push service learns of them.
struct push_notice {
  std::string channel;
  std::string epoch;
  std::uint64_t offset = 0;  ///< the newest message's
  std::uint64_t count = 0;   ///< messages above what the device has received, at least

  /// `{"channel":"@ada","epoch":"…","offset":42,"count":3}`.
  std::string json() const { return "{" + members() + "}"; }
  /// The same without its braces, for notifiers that put members beside them.
  std::string members() const {
    std::string out = "\"channel\":";
    proto::json::append_quoted(out, channel);
    proto::json::append_quoted(out += ",\"epoch\":", epoch);
    proto::append_decimal(out += ",\"offset\":", offset);
    proto::append_decimal(out += ",\"count\":", count);
    return out;
  }
};

/// What a notifier makes of a client's words.
struct push_token {
  std::string token;  ///< 1–4,096 bytes that name the device at its service: whoever names the same token last has it
  std::string extra = {};  ///< up to 4,096 bytes that are kept with it
};

/// A device that can be woken, as the storage keeps it.
struct push_device {
  std::string user, device;
  std::string service;          ///< the notifier that can reach it: `web`, `apns`, `fcm`, `webhook`, a host's own word
  std::string token;            ///< what that notifier's `accept` made of the client's words
  std::string extra = {};       ///< and what else it wants to have back
  std::int64_t registered = 0;  ///< when the client last named it, Unix milliseconds
};

/// What became of one notice.
enum class push_outcome : std::uint8_t {
  delivered,  ///< the push service has taken it
  gone,       ///< the token will never work again: it is to be forgotten, unless another has taken its place
  failed,     ///< not delivered; the token is kept
};

/// The outcome, and why where it is not `delivered`: English, for logs.
struct push_result {
  push_outcome outcome = push_outcome::failed;
  std::string reason = {};
};
using push_handler = detail::move_only_function<void(push_result)>;

/// What a notifier has done since it was made, and what waits in it.
struct push_counters {
  std::uint64_t delivered = 0, gone = 0, failed = 0;
  std::uint64_t dropped = 0;  ///< of `failed`: those for which there was no room
  std::uint64_t retried = 0;  ///< attempts behind the first of a notice
  std::uint64_t waiting = 0;  ///< notices that are not answered yet
};

/// Reaches the devices of one push service.
///
/// Obligations:
/// - `service()` is the word of the `device` command's `push`; it stays the same.
/// - `accept` reads a client's `device` command, the whole object: what it returns is kept as the device's token and
///   handed back in `push_device`. `kept` is what is kept of this device at this service already, empty for nothing.
///   What cannot be a token is `bad_request`. It does not block, and is called on the executors of hubs, of several at
///   the same time.
/// - `async_notify` returns at once, whatever the service does, and calls `done` exactly once, from any thread,
/// possibly
///   before it returns; or drops it when the notifier ends. It bounds what waits. Safe from any thread.
template <class N>
concept push_notifier =
    requires(N& n, std::string_view text, const push_token& kept, push_device to, push_notice what, push_handler done) {
      { n.service() } -> std::convertible_to<std::string_view>;
      { n.accept(text, kept) } -> std::same_as<result<push_token>>;
      n.async_notify(std::move(to), std::move(what), std::move(done));
    };

}  // namespace hailwire
