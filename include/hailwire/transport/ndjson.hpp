// SPDX-License-Identifier: BSL-1.0
#pragma once

// Newline-delimited JSON: each object is a line, the same object that a WebSocket carries; there is never a blank line.
// For programs that read a body line by line, with no parser of frames or events. No cursor is in it: the client builds
// its own from `open`, `gap` and the offsets that it has seen, and comes back with `since` or `Last-Event-ID`. Its
// readers see a status, so what will pass (`overloaded`) is an HTTP error here, with its `Retry-After`.
//
// On HTTP/1.1 the stream is chunked (RFC 9112, section 7.1), each line a chunk of its own, so that the bytes of a
// message are the same for everybody. On HTTP/1.0 it ends with the connection.
//
//     #include <hailwire/transport/ndjson.hpp>
//     hailwire::server<hailwire::ndjson, hailwire::short_poll> live(io);

#include <string>
#include <string_view>

#include "hailwire/proto/command.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::transport {

namespace ndjson_detail {

template <bool chunked>
void append_line(std::string& out, std::string_view json) {
  if constexpr (chunked) proto::http1::append_chunk_head(out, json.size() + 1);
  out.append(json).append(chunked ? "\n\r\n" : "\n");
}

template <bool chunked>
inline constexpr proto::encoding lines{
    "ndjson", true, [](std::string& out, const proto::envelope& e) { append_line<chunked>(out, e.json); },
    [](std::string& out, std::string_view, std::string_view json) { append_line<chunked>(out, json); }};

template <bool chunked>
inline constexpr proto::encoding signals = proto::signals_of(lines<chunked>);

}  // namespace ndjson_detail

/// One stream of lines. `chunked`: it is framed as HTTP/1.1 does.
class ndjson_stream : public stream {
 public:
  explicit ndjson_stream(bool chunked, bool signals = false) noexcept : chunked_(chunked), signals_(signals) {}

  std::string_view name() const noexcept override { return "ndjson"; }
  const proto::encoding& messages() const noexcept override {
    if (signals_) return chunked_ ? ndjson_detail::signals<true> : ndjson_detail::signals<false>;
    return chunked_ ? ndjson_detail::lines<true> : ndjson_detail::lines<false>;
  }
  HAILWIRE_INLINE bool notice(std::string& out, std::string_view, std::string_view json, std::string_view) override;
  void beat(std::string& out) override { append(out, "{\"ping\":{}}"); }
  HAILWIRE_INLINE void end(std::string& out, std::uint16_t code, std::string_view) override;

 private:
  void append(std::string& out, std::string_view json) const {
    chunked_ ? ndjson_detail::append_line<true>(out, json) : ndjson_detail::append_line<false>(out, json);
  }
  bool chunked_, signals_;
};
static_assert(sizeof(ndjson_stream) <= stream_box::room);

/// Serves requests whose `Accept` names `application/x-ndjson`.
struct ndjson {
  static constexpr std::string_view name = "ndjson";
  static constexpr std::string_view offer = "newline-delimited JSON (Accept: application/x-ndjson)";

  static bool claims(const live_request& a) { return proto::http1::accepts_literally(a.head, "application/x-ndjson"); }
  static result<accepted> begin(const live_request& a);
};

}  // namespace hailwire::transport

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/transport/ndjson.ipp"
#endif
