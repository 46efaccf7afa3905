// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <charconv>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include "hailwire/message.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/proto/text.hpp"

namespace hailwire::proto {

/// A message together with what its bytes need from outside it. All views live as long as the call they are given to.
struct envelope {
  std::string_view channel, epoch;
  const message& content;
  std::string_view json;  ///< the message object, written once for all encodings that want it
};

/// One way in which messages become bytes: a transport's framing of the message object, or of the bare payload. There is
/// one object of it for each way, with static lifetime, and ways are told apart by its address.
struct encoding {
  std::string_view name;
  bool wants_json;                                           ///< whether `append` reads `envelope::json`
  void (*append)(std::string& out, const envelope& message); ///< appends one whole frame
};

/// Appends a payload as the `data` or `bytes` member: `"data":<json>` or `"bytes":"<base64>"`.
inline void append_payload_member(std::string& out, const payload& p) {
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

/// Appends the message object that every transport carries.
inline void append_message(std::string& out, std::string_view channel, const message& m) {
  out += "{\"channel\":";
  json::append_quoted(out, channel);
  char numbers[64];  // appended in one piece, which is a quarter faster
  char* end = numbers;
  auto add = [&](std::string_view name, std::uint64_t n) { end = std::to_chars(end + name.copy(end, name.size()), std::end(numbers), n).ptr; };
  if (m.offset) add(",\"offset\":", m.offset);
  add(",\"at\":", static_cast<std::uint64_t>(m.at < 0 ? 0 : m.at));
  out.append(numbers, end);
  if (!m.from.empty()) {
    out += ",\"from\":";
    json::append_quoted(out, m.from);
  }
  if (!m.type.empty()) {
    out += ",\"type\":";
    json::append_quoted(out, m.type);
  }
  out += ',';
  append_payload_member(out, m.data);
  out += '}';
}

}  // namespace hailwire::proto
