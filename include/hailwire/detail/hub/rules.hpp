// SPDX-License-Identifier: BSL-1.0
#pragma once

// Questions that several parts of a server ask, each answered once: whether something is allowed, and what a client is
// told when it is not.

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/hub/channel_rules.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"
#include "hailwire/options.hpp"

namespace hailwire::detail {

/// The most messages in one answer about history; PROTOCOL promises it.
inline constexpr std::size_t max_history_messages = 1000;
inline bool valid_history_limit(std::size_t messages) noexcept {
  return messages >= 1 && messages <= max_history_messages;
}

/// Whether one session may follow so many channels.
inline bool may_follow_count(std::size_t channels, const options& o) noexcept { return channels <= o.max_channels; }
inline failure too_many_channels(const options& o) {
  return {errc::bad_request, "more than " + std::to_string(o.max_channels) + " channels"};
}
inline failure not_a_channel() {
  return {errc::bad_request, "a channel's name is 1 to 255 bytes of UTF-8 without control characters"};
}

inline bool payload_fits(const payload& p, const channel_settings& s) noexcept {
  return p.bytes().size() <= s.max_payload;
}
inline failure payload_too_large() { return {errc::too_large, "the payload is over the limit"}; }

/// What a client is told that did something too often, where there is room again after so many milliseconds.
inline failure too_often(std::string what, std::int64_t wait_ms) {
  return {errc::rate_limited, std::move(what),
          static_cast<int>(std::min<std::int64_t>((wait_ms + 999) / 1000, INT_MAX))};
}

/// Whether a path is that of one message: `{path}/messages`.
inline bool is_messages(std::string_view path, const options& o) noexcept {
  const std::string_view base = std::string_view(o.path).substr(0, o.path.size() - o.path.ends_with('/'));
  return path.size() == base.size() + 9 && path.starts_with(base) && path.ends_with("/messages");
}

/// Whether a path is that of uploads, `{path}/content`, or of one, `{path}/content/ID`; and of which: empty where it is
/// neither.
inline bool is_content(std::string_view path, const options& o) noexcept {
  const std::string_view base = std::string_view(o.path).substr(0, o.path.size() - o.path.ends_with('/'));
  if (!path.starts_with(base) || !path.substr(base.size()).starts_with("/content")) return false;
  path.remove_prefix(base.size() + 8);
  return path.empty() || (path[0] == '/' && valid_content_id(path.substr(1)));
}
inline std::string_view content_id(std::string_view path, const options& o) noexcept {
  if (!is_content(path, o)) return {};
  const auto slash = path.rfind('/');
  return path.substr(slash) == "/content" ? std::string_view() : path.substr(slash + 1);
}

/// What a client is told of a storage's error about content.
inline failure content_failure(const std::error_code& ec) {
  if (ec == errc::rate_limited) return {errc::rate_limited, "too many uploads, or too many bytes of them", 60};
  if (ec == errc::not_found) return {errc::not_found, "there is no such upload"};
  if (ec == errc::conflict) return {errc::conflict, "a message names the content already, or it is not complete"};
  if (ec == errc::too_large) return {errc::too_large, "the content is over its length or the limit"};
  if (ec == errc::not_implemented) return {errc::not_implemented, "this server keeps no content"};
  return storage_failure(ec);
}

/// Whether a type is shown by browsers as what it is, and nothing else: no page, no script. Others are only saved.
inline bool shown_in_place(std::string_view content_type) noexcept {
  const std::string_view type = proto::trim(content_type.substr(0, content_type.find(';')));
  for (std::string_view one : {"image/png", "image/jpeg", "image/gif", "image/webp"})
    if (proto::iequals(type, one)) return true;
  return proto::iequals(type.substr(0, 6), "audio/") || proto::iequals(type.substr(0, 6), "video/");
}

inline failure too_many_commands(std::int64_t wait_ms) { return too_often("too many commands", wait_ms); }

/// Of a grant whose time is over, in an answer and as the reason of a close.
inline constexpr std::string_view permission_ended_text = "the permission has expired";
inline failure permission_ended() { return {errc::unauthenticated, permission_ended_text}; }

/// The reason with which a session is closed for whose sake a hook was called that threw: no word of what it threw.
inline constexpr std::string_view hook_failed_text = "internal error";

}  // namespace hailwire::detail
