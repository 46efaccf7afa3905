// SPDX-License-Identifier: BSL-1.0
#pragma once

// One message, fetched on its own: `GET {path}/messages?channel=…&epoch=…&offset=…` answers with the publisher's own
// bytes and type, to whoever may follow the channel. A message never changes, so a part of it can be asked for, and
// what has arrived can be kept; one that is trimmed or taken back is not found.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/connection/connection.hpp"
#include "hailwire/proto/range.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void http_exchange::serve_message() {
  if (!query_readable_) return refuse({errc::bad_request, "the query has a bad escape or is not UTF-8"});
  if (head_.method == "OPTIONS") {
    std::string extra = "Allow: GET, HEAD, OPTIONS\r\n";
    if (listed_page_) allow_fields(extra, "GET, HEAD, OPTIONS\r\n");
    return respond(204, {}, {}, extra);
  }
  if (head_.method != "GET" && head_.method != "HEAD") return refuse(errc::method_not_allowed);
  shown_.transport_ = "messages";
  if (!read_channels()) return;
  if (channels_.size() != 1) return refuse({errc::bad_request, "a message is in exactly one channel"});
  const auto offset = proto::parse_decimal(shown_.param("offset"), max_offset);
  if (!offset || *offset == 0) return refuse({errc::bad_request, "\"offset\" is a whole number from 1 to 2^53-1"});
  if (!valid_epoch(shown_.param("epoch")))
    return refuse({errc::bad_request, "\"epoch\" is 1 to 32 of A-Z a-z 0-9 _ -"});
  fetch_ = true;
  authorize();
}

HAILWIRE_INLINE void http_exchange::begin_fetch(shared_grant g) {
  if (auto why = server().refusal(g, &shared_grant::may_follow, channels_[0])) return refuse(*why);
  history_query q;
  q.after = *proto::parse_decimal(shown_.param("offset"), max_offset) - 1;
  q.from_start = true;
  q.limit = 1;
  q.epoch = shown_.param("epoch");
  server().messages.history(channels_[0], std::move(q), g.floor_of(channels_[0]),
                            [here = here(), serial = serial_, g](history_result r) {
                              auto at = here.lock();
                              connection* self = at ? *at : nullptr;
                              if (!self || !self->asked() || self->asked()->serial_ != serial || !self->owes()) return;
                              self->contained([&] {
                                http_exchange& e = *self->asked();
                                if (r.error) {
                                  e.refuse(storage_failure(r.error));
                                } else if (self->server().messages.ended(g)) {  // while the storage was asked
                                  e.refuse(permission_ended());
                                } else {
                                  e.respond_with_message(r.messages.empty() ? message() : r.messages.front(), r.epoch);
                                }
                                self->update_watch();
                              });
                            });
}

HAILWIRE_INLINE void http_exchange::respond_with_message(const message& m, std::string_view epoch) {
  const std::string_view asked = shown_.param("offset");
  if (!m.offset || proto::parse_decimal(asked) != m.offset || m.erased || m.erases)
    return refuse({errc::not_found, "there is no such message"});
  const content_reference* c = m.content.get();
  const std::string_view bytes = c ? std::string_view() : m.data.bytes(),
                         type = c ? std::string_view(c->type) : m.data.content_type();
  const std::uint64_t whole = c ? c->size : bytes.size();
  if (server().host.on_fetch) {
    std::string url;
    if (!server().guarded("on_fetch", [&] { url = server().host.on_fetch(shown_, channels_[0], m); }))
      return refuse(errc::internal);
    if (!url.empty()) {
      if (!proto::http1::is_value(url)) return refuse(errc::internal);
      return respond(307, {}, {}, "Location: " + url + "\r\nCache-Control: no-store\r\n");
    }
  }
  std::string tag = "\"";
  append_position(tag, epoch, m.offset);
  tag += '"';
  std::string fields =
      "Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n"
      "Content-Security-Policy: sandbox; default-src 'none'\r\n"
      "Cache-Control: private, max-age=31536000, immutable\r\n";
  fields.append("ETag: ").append(tag).append("\r\n");
  if (!shown_in_place(type)) fields += "Content-Disposition: attachment\r\n";
  // It is looked at before `Range` (RFC 9110, section 13.2.2).
  if (proto::http1::any_entity_tag(
          head_, [&](std::string_view t) { return t == std::string_view(tag).substr(1, tag.size() - 2); }) ||
      head_.find("If-None-Match") == "*")
    return respond(304, {}, {}, fields);
  const std::string_view if_range = head_.find("If-Range");
  const bool heeded = head_.method == "GET" && (!if_range.data() || if_range == tag);  // by a strong comparison
  const auto range = heeded ? proto::read_range(head_.find("Range"), whole) : proto::byte_range();
  auto size = [&](std::string& out) { proto::append_decimal(out, whole); };
  switch (range.what) {
    case proto::byte_range::kind::whole:
      return c ? send_content(200, *c, 0, whole, fields) : respond(200, type, bytes, fields);
    case proto::byte_range::kind::unsatisfiable:
      extra_ += "Content-Range: bytes */";
      size(extra_);
      extra_ += "\r\n";
      return refuse(errc::range);
    case proto::byte_range::kind::part:
      fields += "Content-Range: bytes ";
      proto::append_decimal(fields, range.first);
      fields += '-';
      proto::append_decimal(fields, range.last);
      fields += '/';
      size(fields);
      fields += "\r\n";
      if (c) return send_content(206, *c, range.first, range.last - range.first + 1, fields);
      return respond(
          206, type,
          bytes.substr(static_cast<std::size_t>(range.first), static_cast<std::size_t>(range.last - range.first + 1)),
          fields);
  }
}

}  // namespace hailwire::detail
