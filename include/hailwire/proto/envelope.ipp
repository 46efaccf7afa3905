// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/envelope.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE void append_payload_member(std::string& out, const payload& p) {
  switch (p.type()) {
    case payload::kind::json:
      out += "\"data\":";
      out += p.bytes();
      break;
    case payload::kind::text:
      out += "\"data\":";
      json::append_quoted(out, p.bytes());
      break;
    case payload::kind::binary:
      out += "\"bytes\":\"";
      append_base64(out, p.bytes());
      out += '"';
      break;
  }
}

HAILWIRE_INLINE void append_message(std::string& out, std::string_view channel, const message& m) {
  // Within a turn most messages have the same time.
  static thread_local struct {
    std::int64_t of = 0;
    char digits[20] = {'0'};
    std::size_t size = 1;
  } at;
  if (const std::int64_t time = m.at < 0 ? 0 : m.at; time != at.of) {
    at.size = static_cast<std::size_t>(
        std::to_chars(at.digits, std::end(at.digits), static_cast<std::uint64_t>(time)).ptr - at.digits);
    at.of = time;
  }
  char head[400];  // as much as possible is appended in one piece: a name has at most 255 bytes
  char* end = head;
  auto add = [&](std::string_view s) { end += s.copy(end, s.size()); };
  add("{\"channel\":");
  if (channel.size() <= 255 && json::is_plain(channel)) {
    add("\"");
    add(channel);
    add("\"");
  } else {
    out.append(head, end);
    end = head;
    json::append_quoted(out, channel);
  }
  if (m.offset) {
    add(",\"offset\":");
    end = std::to_chars(end, std::end(head), m.offset).ptr;
  }
  add(",\"at\":");
  add({at.digits, at.size});
  if (m.from.empty() && m.type.empty() && m.data.type() == payload::kind::json && !m.erased && !m.erases) {
    add(",\"data\":");
    out.append(head, end).append(m.data.bytes()) += '}';
    return;
  }
  out.append(head, end);
  if (!m.from.empty()) {
    out += ",\"from\":";
    json::append_quoted(out, m.from);
  }
  if (m.erased) {
    out += ",\"erased\":true}";
    return;
  }
  if (m.erases) {
    out += ",\"erases\":";
    append_decimal(out, m.erases);
    out += '}';
    return;
  }
  if (!m.type.empty()) {
    out += ",\"type\":";
    json::append_quoted(out, m.type);
  }
  out += ',';
  append_payload_member(out, m.data);
  out += '}';
}

HAILWIRE_INLINE void append_signal(std::string& out, std::string_view channel, std::string_view epoch, const message& m,
                                   bool beside) {
  if (!m.offset || !has_payload(m)) return append_message(out, channel, m);
  out += "{\"channel\":";
  json::append_quoted(out, channel);
  out += ",\"offset\":";
  append_decimal(out, m.offset);
  out += ",\"at\":";
  append_decimal(out, static_cast<std::uint64_t>(m.at < 0 ? 0 : m.at));
  if (!m.from.empty()) {
    out += ",\"from\":";
    json::append_quoted(out, m.from);
  }
  if (!m.type.empty()) {
    out += ",\"type\":";
    json::append_quoted(out, m.type);
  }
  const content_reference* c = m.content.get();
  out.append(",\"epoch\":\"").append(epoch).append("\",\"size\":");
  append_decimal(out, c ? c->size : m.data.bytes().size());
  out += ",\"content_type\":";
  json::append_quoted(out, c ? std::string_view(c->type) : m.data.content_type());
  if (beside && c && !(m.data.type() == payload::kind::json && m.data.bytes() == "null")) {
    out += ',';
    append_payload_member(out, m.data);
  }
  out += '}';
}

}  // namespace hailwire::proto
