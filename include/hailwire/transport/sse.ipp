// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/base/jitter.hpp"
#include "hailwire/transport/sse.hpp"

namespace hailwire::transport::sse_detail {

HAILWIRE_INLINE void append_framed(std::string& out, bool chunked, std::string_view bytes) {
  if (!chunked) {
    out += bytes;
    return;
  }
  proto::http1::append_chunk_head(out, bytes.size());
  out.append(bytes).append("\r\n");
}

// A reader of `bye` draws its time from the whole span; an EventSource has it drawn for it.
inline void append_passing_end(std::string& out, const failure& why) {
  std::string bye;
  proto::append_bye_object(bye, why.code, why.retry_after);
  const auto least = static_cast<std::int64_t>(proto::bye_wait(why.retry_after));
  proto::append_bye(out, bye, static_cast<std::uint64_t>(detail::between(least, 2 * least)));
}

}  // namespace hailwire::transport::sse_detail

namespace hailwire::transport {

HAILWIRE_INLINE sse_stream::sse_stream(bool several, bool chunked, std::uint32_t retry, bool signals) noexcept
    : retry_(retry), several_(several), chunked_(chunked), signals_(signals) {}

HAILWIRE_INLINE const proto::encoding& sse_stream::messages() const noexcept {
  if (!several_ && signals_) return chunked_ ? sse_detail::signals_with_id<true> : sse_detail::signals_with_id<false>;
  if (!several_) return chunked_ ? sse_detail::with_id<true> : sse_detail::with_id<false>;
  return others();
}

HAILWIRE_INLINE bool sse_stream::notice(std::string& out, std::string_view name, std::string_view json,
                                        std::string_view cursor) {
  std::string block;
  if (name == "open") {
    block += "retry: ";
    proto::append_decimal(block, retry_);
    block += '\n';
  }
  append_block(block, name, json, cursor);
  sse_detail::append_framed(out, chunked_, block);
  return true;
}

HAILWIRE_INLINE bool sse_stream::bye(std::string& out, std::string_view json, std::uint64_t wait) {
  std::string block;
  proto::append_bye(block, json, wait);
  sse_detail::append_framed(out, chunked_, block);
  return true;
}

HAILWIRE_INLINE void sse_stream::beat(std::string& out) {
  std::string block = ": beat\n";
  append_block(block, "ping", "{\"ping\":{}}", {});
  sse_detail::append_framed(out, chunked_, block);
}

HAILWIRE_INLINE std::size_t sse_stream::tags() const noexcept {
  if (!several_) return 0;
  return chunked_ ? sse_detail::blank_line<true>.size() : sse_detail::blank_line<false>.size();
}

HAILWIRE_INLINE void sse_stream::tag(std::string& out, std::string_view cursor) const {
  std::string line = "id: ";
  sse_detail::append_framed(out, chunked_, line.append(cursor).append("\n\n"));
}

HAILWIRE_INLINE void sse_stream::end(std::string& out, std::uint16_t code, std::string_view) {
  // A server that is overloaded for a while says when to come back; any other end is just the stream's.
  if (code == close_code(errc::overloaded)) {
    std::string block;
    sse_detail::append_passing_end(block, {errc::overloaded, {}, 1});
    sse_detail::append_framed(out, chunked_, block);
  }
  if (chunked_) out += proto::http1::last_chunk;
}

HAILWIRE_INLINE void sse_stream::append_block(std::string& block, std::string_view name, std::string_view json,
                                              std::string_view cursor) {
  block.append("event: ").append(name).append("\ndata: ").append(json);
  if (!cursor.empty()) block.append("\nid: ").append(cursor);
  block += "\n\n";
}

HAILWIRE_INLINE result<accepted> sse::begin(const live_request& a) {
  accepted b;
  const bool chunked = a.head.minor >= 1;
  const std::int64_t retry = a.settings.retry.count();
  b.live = stream_box::of<sse_stream>(a.count("channel") > 1, chunked,
                                      static_cast<std::uint32_t>(detail::between(retry, 2 * retry)), wants_signals(a));
  b.open = [chunked](std::string& out, std::string_view extra) {
    std::string headers = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";
    // Without chunks the end of the connection is the end of the body (RFC 9112, section 6.3, rule 8).
    if (chunked) headers += "Transfer-Encoding: chunked\r\n";
    headers += extra;
    proto::http1::append_response_head(out, 200, "text/event-stream", {}, false, 1, headers);
  };
  return b;
}

HAILWIRE_INLINE spoken_refusal sse::refuse(const failure& why) {
  spoken_refusal out{"text/event-stream", "X-Accel-Buffering: no\r\n", {}};
  sse_detail::append_passing_end(out.body, why);
  return out;
}

}  // namespace hailwire::transport
