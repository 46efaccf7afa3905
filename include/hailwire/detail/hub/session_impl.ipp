// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a host does with a session; session.hpp says what that is for. What concerns its permissions is in
// expiry.ipp.

#include <algorithm>

#include "hailwire/hub.hpp"

namespace hailwire {

HAILWIRE_INLINE std::string session::id() const { return at().registry().id_of(key()); }

HAILWIRE_INLINE std::vector<std::string> session::channels() const {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < follow_count(); ++i) out.emplace_back(followed(i).in().log().name());
  return out;
}

HAILWIRE_INLINE std::error_code session::follow(std::string_view channel, start from) {
  hub& h = at();
  if (ending()) return operation_aborted();
  if (!adjustable() || !valid_channel(channel) || h.subscriptions.find(*this, channel)) return errc::bad_request;
  if (!detail::may_follow_count(follow_count() + 1, h.settings())) return errc::bad_request;
  h.subscriptions.add(*this, channel, from, false,
                      [&h, key = key(), name = std::string(channel)](result<follow_start> r) {
                        session* self = h.find(key);
                        if (!self) return;
                        try {
                          std::string json = "{";
                          proto::json::append_quoted(json, name);
                          json += ':';
                          if (r) {
                            append_entry(json, *r);
                            json += '}';
                            if (self->notice("followed", json)) return self->cannot_tell();
                            h.subscriptions.serve(*self, name, *r);
                          } else if (r.error().code != errc::forbidden) {  // else the host has changed its mind
                            self->close(close_code(r.error().code), "a channel could not be followed");
                          }
                        } catch (...) {
                          self->broken();
                        }
                      });
  return {};
}

HAILWIRE_INLINE std::error_code session::unfollow(std::string_view channel) {
  std::string json = "{\"channel\":";
  proto::json::append_quoted(json, channel);
  json += ",\"code\":\"forbidden\"}";
  std::size_t place = 0;
  for (std::size_t i = 0; i < follow_count(); ++i) {
    while (find_rare() && std::any_of(find_rare()->gone_channels.begin(), find_rare()->gone_channels.end(),
                                      [&](const gone& g) { return g.place == place; }))
      ++place;
    const auto& sub = followed(i);
    if (!duplex() && sub.in().log().name() == channel && followed(i).named() && sub.started()) {
      auto& all = ensure_rare().gone_channels;
      std::string element;
      append_position(element, sub.in().log().epoch(), sub.offset_when_whole());
      all.insert(std::find_if(all.begin(), all.end(), [&](const gone& g) { return g.place > place; }),
                 {place, std::move(element)});
      break;
    }
    place += followed(i).named();
  }
  if (!at().subscriptions.remove(*this, channel)) return errc::not_found;
  if (notice("closed", json)) cannot_tell();
  return {};
}

HAILWIRE_INLINE void session::cannot_tell() {
  if (adjustable()) return end(errc::overloaded, close_code(errc::overloaded), "too much is unsent");
  end(errc::forbidden, close_code(errc::forbidden), "the channel may not be followed any more");
}

HAILWIRE_INLINE std::error_code session::check_notice(std::string_view name, std::string_view json, const options& o) {
  static constexpr std::string_view reserved[] = {
      "open", "gap",   "missed",  "join",  "leave",   "receipt",  "followed", "closed", "expiring", "bye",
      "ping", "reply", "message", "error", "channel", "messages", "notices",  "cursor", "more"};
  if (name.empty() || name.size() > 64) return errc::bad_request;
  for (char c : name)
    if (!proto::is_token_letter(c)) return errc::bad_request;
  if (std::find(std::begin(reserved), std::end(reserved), name) != std::end(reserved)) return errc::bad_request;
  if (json.size() > o.max_unsent) return errc::too_large;
  return proto::json::validate(json) ? make_error_code(errc::bad_request) : std::error_code();
}

HAILWIRE_INLINE std::error_code session::send(std::string_view name, std::string_view json) {
  if (ending()) return operation_aborted();
  if (auto ec = check_notice(name, json, at().settings())) return ec;
  return notice(name, json);
}

HAILWIRE_INLINE void session::close(std::uint16_t code, std::string_view reason) { end(errc::forbidden, code, reason); }

}  // namespace hailwire
