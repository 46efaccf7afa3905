// SPDX-License-Identifier: BSL-1.0
#pragma once

// Server-Sent Events (WHATWG HTML, section 9.2). Each object is one event with one `data:` line; messages are unnamed
// events, notices are named after their member. The `id:` is the client's cursor, which EventSource hands back as
// Last-Event-ID. It is the last line of its block: several clients keep an id as soon as they have read its line, so
// that before `data:` a connection that is cut in between would lose the message.
//
// With one channel the id is the same for everybody and part of the shared bytes. With several it is the session's own:
// the blank line that ends a block is left off behind the last event of a batch, and the id follows in the same block.
//
// On HTTP/1.1 the stream is chunked (RFC 9112, section 7.1), each event a chunk of its own, so that the bytes of an
// event are the same for everybody; with several channels the blank line is a chunk of its own. On HTTP/1.0 the stream
// ends with the connection.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/proto/command.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::transport {

namespace sse_detail {

void append_framed(std::string& out, bool chunked, std::string_view bytes);

/// What ends the block of an event without an id.
template <bool chunked>
inline constexpr std::string_view blank_line = chunked ? "1\r\n\n\r\n" : "\n";

/// Several channels: the cursor comes from `stream::tag`, in place of the blank line.
template <bool chunked>
void append_plain(std::string& out, const proto::envelope& e) {
  if constexpr (chunked) proto::http1::append_chunk_head(out, 6 + e.json.size() + 1);
  out.append("data: ").append(e.json).append(chunked ? "\n\r\n" : "\n").append(blank_line<chunked>);
}

/// One channel: each message carries its own cursor, but for an ephemeral one, which has no place.
template <bool chunked>
void append_with_id(std::string& out, const proto::envelope& e) {
  if (!e.content.offset) return append_plain<chunked>(out, e);
  if constexpr (chunked) {
    const std::size_t id = e.epoch.size() + 1 + proto::decimal_size(e.content.offset);
    proto::http1::append_chunk_head(out, 6 + e.json.size() + 5 + id + 2);
  }
  out.append("data: ").append(e.json).append("\nid: ");
  append_position(out, e.epoch, e.content.offset);
  out += chunked ? "\n\n\r\n" : "\n\n";
}

/// A notice that all subscribers share. It changes no position, so it has no id of its own.
template <bool chunked>
void append_notice(std::string& out, std::string_view name, std::string_view json) {
  if constexpr (chunked) proto::http1::append_chunk_head(out, 7 + name.size() + 7 + json.size() + 1);
  out.append("event: ").append(name).append("\ndata: ").append(json).append(chunked ? "\n\r\n" : "\n");
  out.append(blank_line<chunked>);
}

template <bool chunked>
inline constexpr proto::encoding with_id{"sse", true, append_with_id<chunked>, append_notice<chunked>};
template <bool chunked>
inline constexpr proto::encoding plain{"sse, several channels", true, append_plain<chunked>, append_notice<chunked>};

template <bool chunked>
inline constexpr proto::encoding signals_with_id = proto::signals_of(with_id<chunked>);
template <bool chunked>
inline constexpr proto::encoding plain_signals = proto::signals_of(plain<chunked>);

}  // namespace sse_detail

/// One event stream. `several`: more than one channel is followed, so batches carry the session's own cursor.
/// `chunked`: it is framed as HTTP/1.1 does. `retry`: milliseconds that the client is to wait before it comes back, if
/// nothing else is said. `signals`: without payloads.
class sse_stream : public stream {
 public:
  sse_stream(bool several, bool chunked, std::uint32_t retry, bool signals = false) noexcept;

  std::string_view name() const noexcept override { return "sse"; }
  HAILWIRE_INLINE const proto::encoding& messages() const noexcept override;
  const proto::encoding& others() const noexcept override {
    if (signals_) return chunked_ ? sse_detail::plain_signals<true> : sse_detail::plain_signals<false>;
    return chunked_ ? sse_detail::plain<true> : sse_detail::plain<false>;
  }
  HAILWIRE_INLINE bool notice(std::string& out, std::string_view name, std::string_view json,
                              std::string_view cursor) override;
  HAILWIRE_INLINE bool bye(std::string& out, std::string_view json, std::uint64_t wait) override;
  HAILWIRE_INLINE void beat(std::string& out) override;
  bool gives_cursor() const noexcept override { return true; }
  HAILWIRE_INLINE std::size_t tags() const noexcept override;
  HAILWIRE_INLINE void tag(std::string& out, std::string_view cursor) const override;
  HAILWIRE_INLINE void end(std::string& out, std::uint16_t code, std::string_view) override;

 private:
  static void append_block(std::string& block, std::string_view name, std::string_view json, std::string_view cursor);

  std::uint32_t retry_;
  bool several_, chunked_, signals_;
};
static_assert(sizeof(sse_stream) <= stream_box::room);

/// Serves requests whose `Accept` names `text/event-stream`.
struct sse {
  static constexpr std::string_view name = "sse";
  static constexpr std::string_view offer = "Server-Sent Events (Accept: text/event-stream)";

  static bool claims(const live_request& a) { return proto::http1::accepts_literally(a.head, "text/event-stream"); }
  static result<accepted> begin(const live_request& a);
  /// EventSource gives up for good on any status but 200, so what will pass is said as an event.
  static spoken_refusal refuse(const failure& why);
};

}  // namespace hailwire::transport

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/transport/sse.ipp"
#endif
