// SPDX-License-Identifier: BSL-1.0
#pragma once

// What is counted of a connection's sessions, and told to the log at their end.

#include <memory>
#include <string>
#include <utility>

#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void connection::session_began() {
  server_state& s = server();
  stream_ ? s.began(stream_->name()) : s.began(asked()->serving_);
  if (!s.access_due()) return;
  auto note = std::unique_ptr<access_note>(new access_note{s.now(), acknowledged(), {}});
  for (std::size_t i = 0; i < follow_count(); ++i)
    note->from.push_back({followed(i).serial(), followed(i).offset_when_whole()});
  ensure_rare().access = std::move(note);
}

HAILWIRE_INLINE void connection::session_over() noexcept {
  if (!opened_ || !is_open()) return;
  if (stream_) {
    server().over(stream_->name());
  } else if (asked()) {
    server().over(asked()->serving_);
  }
}

HAILWIRE_INLINE void connection::note_access(const close_reason& why) noexcept {
  const access_note& n = *find_rare()->access;
  try {
    std::uint64_t messages = 0;
    for (std::size_t i = 0; i < follow_count(); ++i)
      for (auto [serial, offset] : n.from)
        if (serial == followed(i).serial()) messages += followed(i).offset_when_whole() - offset;
    const std::int64_t ms = server().now() - n.since;
    std::string text(transport());
    text.append(" for ").append(std::to_string(ms / 1000)).append(".");
    text.append(std::to_string(1000 + ms % 1000), 1, 3).append(" s, ").append(std::to_string(messages));
    text.append(" messages, ").append(std::to_string(acknowledged() - n.acknowledged)).append(" bytes: ");
    text.append(std::to_string(why.close_code)).append(why.by_peer ? " by peer" : " by server");
    if (!why.text.empty()) text.append(": ").append(why.text);
    const std::string key = id(), peer = known_peer();
    server().log()({log_level::info, "session_ended", key, user(), peer, {}, {}}, std::move(text));
  } catch (...) {  // no memory to tell of it
  }
}

}  // namespace hailwire::detail
