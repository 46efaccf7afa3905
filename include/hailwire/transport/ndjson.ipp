// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/transport/ndjson.hpp"

namespace hailwire::transport {

HAILWIRE_INLINE bool ndjson_stream::notice(std::string& out, std::string_view, std::string_view json,
                                           std::string_view) {
  append(out, json);
  return true;
}

HAILWIRE_INLINE void ndjson_stream::end(std::string& out, std::uint16_t code, std::string_view) {
  // A server that is overloaded for a while says when to come back; any other end is just the stream's.
  if (code == close_code(errc::overloaded)) {
    std::string json;
    proto::append_bye_object(json, errc::overloaded, 1);
    append(out, json);
  }
  if (chunked_) out += proto::http1::last_chunk;
}

HAILWIRE_INLINE result<accepted> ndjson::begin(const live_request& a) {
  accepted b;
  const bool chunked = a.head.minor >= 1;
  b.live = stream_box::of<ndjson_stream>(chunked, wants_signals(a));
  b.open = [chunked](std::string& out, std::string_view extra) {
    std::string fields = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";
    // Without chunks the end of the connection is the end of the body (RFC 9112, section 6.3, rule 8).
    if (chunked) fields += "Transfer-Encoding: chunked\r\n";
    proto::http1::append_response_head(out, 200, "application/x-ndjson", {}, false, 1, fields.append(extra));
  };
  return b;
}

}  // namespace hailwire::transport
