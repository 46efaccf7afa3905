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

inline void append_framed(std::string& out, bool chunked, std::string_view bytes) {
  if (!chunked) {
    out += bytes;
    return;
  }
  proto::http1::append_chunk_head(out, bytes.size());
  out.append(bytes).append("\r\n");
}

/// One channel: each message carries its own cursor.
template <bool chunked>
void append_with_id(std::string& out, const proto::envelope& e) {
  if constexpr (chunked) {
    const std::size_t id = e.epoch.size() + 1 + proto::decimal_size(e.content.offset);
    proto::http1::append_chunk_head(out, 6 + e.json.size() + 5 + id + 2);
  }
  out.append("data: ").append(e.json).append("\nid: ");
  append_position(out, e.epoch, e.content.offset);
  out += chunked ? "\n\n\r\n" : "\n\n";
}

/// What ends the block of an event without an id.
template <bool chunked>
inline constexpr std::string_view blank_line = chunked ? "1\r\n\n\r\n" : "\n";

/// Several channels: the cursor comes from `stream::tag`, in place of the blank line.
template <bool chunked>
void append_plain(std::string& out, const proto::envelope& e) {
  if constexpr (chunked) proto::http1::append_chunk_head(out, 6 + e.json.size() + 1);
  out.append("data: ").append(e.json).append(chunked ? "\n\r\n" : "\n").append(blank_line<chunked>);
}

template <bool chunked>
inline constexpr proto::encoding with_id{"sse", true, append_with_id<chunked>};
template <bool chunked>
inline constexpr proto::encoding plain{"sse, several channels", true, append_plain<chunked>};

}  // namespace sse_detail

/// One event stream. `several`: more than one channel is followed, so batches carry the session's own cursor.
/// `chunked`: it is framed as HTTP/1.1 does. `retry`: milliseconds that the client is to wait before it comes back.
class sse_stream : public stream {
 public:
  sse_stream(bool several, bool chunked, std::uint32_t retry) noexcept
      : retry_(retry), several_(several), chunked_(chunked) {}

  std::string_view name() const noexcept override { return "sse"; }
  const proto::encoding& messages() const noexcept override {
    if (!several_) return chunked_ ? sse_detail::with_id<true> : sse_detail::with_id<false>;
    return others();
  }
  const proto::encoding& others() const noexcept override {
    return chunked_ ? sse_detail::plain<true> : sse_detail::plain<false>;
  }
  bool notice(std::string& out, std::string_view name, std::string_view json, std::string_view cursor) override {
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
  void beat(std::string& out) override {
    std::string block = ": beat\n";
    append_block(block, "ping", "{\"ping\":{}}", {});
    sse_detail::append_framed(out, chunked_, block);
  }
  bool gives_cursor() const noexcept override { return true; }
  std::size_t tags() const noexcept override {
    if (!several_) return 0;
    return chunked_ ? sse_detail::blank_line<true>.size() : sse_detail::blank_line<false>.size();
  }
  void tag(std::string& out, std::string_view cursor) const override {
    std::string line = "id: ";
    sse_detail::append_framed(out, chunked_, line.append(cursor).append("\n\n"));
  }
  void end(std::string& out, std::uint16_t code, std::string_view) override {
    // A server that is overloaded for a while says when to come back; any other end is just the stream's.
    if (code == close_code(errc::overloaded)) {
      std::string block;
      proto::append_bye(block, errc::overloaded, 1);
      sse_detail::append_framed(out, chunked_, block);
    }
    if (chunked_) out += proto::http1::last_chunk;
  }

 private:
  static void append_block(std::string& block, std::string_view name, std::string_view json, std::string_view cursor) {
    block.append("event: ").append(name).append("\ndata: ").append(json);
    if (!cursor.empty()) block.append("\nid: ").append(cursor);
    block += "\n\n";
  }

  std::uint32_t retry_;
  bool several_, chunked_;
};
static_assert(sizeof(sse_stream) <= stream_box::room);

/// Serves requests whose `Accept` names `text/event-stream`.
struct sse {
  static constexpr std::string_view name = "sse";
  static constexpr std::string_view offer = "Server-Sent Events (Accept: text/event-stream)";

  static bool claims(const live_request& a) { return proto::http1::accepts_literally(a.head, "text/event-stream"); }
  static result<accepted> begin(const live_request& a) {
    accepted b;
    const bool chunked = a.head.minor >= 1;
    b.live = stream_box::of<sse_stream>(a.count("channel") > 1, chunked,
                                        static_cast<std::uint32_t>(a.settings.retry.count()));
    b.open = [chunked](std::string& out, std::string_view extra) {
      std::string headers = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";
      // Without chunks the end of the connection is the end of the body (RFC 9112, section 6.3, rule 8).
      if (chunked) headers += "Transfer-Encoding: chunked\r\n";
      headers += extra;
      proto::http1::append_response_head(out, 200, "text/event-stream", {}, false, 1, headers);
    };
    return b;
  }
  /// EventSource gives up for good on any status but 200, so what will pass is said as an event.
  static spoken_refusal refuse(const failure& why) {
    spoken_refusal out{"text/event-stream", "X-Accel-Buffering: no\r\n", {}};
    proto::append_bye(out.body, why.code, why.retry_after);
    return out;
  }
};

}  // namespace hailwire::transport
