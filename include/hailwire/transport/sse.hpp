// SPDX-License-Identifier: BSL-1.0
#pragma once

// Server-Sent Events (WHATWG HTML, section 9.2). Each object is one event with one `data:` line; messages are unnamed
// events, notices are named after their member. The `id:` is the client's cursor, which EventSource hands back as
// Last-Event-ID. With one channel it is the same for everybody and part of the shared bytes; with several it is the
// session's own and goes just before the last message of each batch.

#include <string>
#include <string_view>
#include <utility>

#include "hailwire/proto/command.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::transport {

/// One channel: each message carries its own cursor.
inline constexpr proto::encoding sse_with_id{"sse", true, [](std::string& out, const proto::envelope& e) {
                                               out += "id: ";
                                               append_position(out, e.epoch, e.content.offset);
                                               out += "\ndata: ";
                                               out += e.json;
                                               out += "\n\n";
                                             }};
/// Several channels: the cursor comes from `stream::tag`.
inline constexpr proto::encoding sse_plain{"sse, several channels", true,
                                           [](std::string& out, const proto::envelope& e) {
                                             out += "data: ";
                                             out += e.json;
                                             out += "\n\n";
                                           }};

/// One event stream. `several`: more than one channel is followed, so batches carry the session's own cursor.
class sse_stream : public stream {
 public:
  explicit sse_stream(bool several) noexcept : several_(several) {}

  std::string_view name() const noexcept override { return "sse"; }
  const proto::encoding& messages() const noexcept override { return several_ ? sse_plain : sse_with_id; }
  const proto::encoding& others() const noexcept override { return sse_plain; }
  stream_event receive(std::span<char>& in, std::string&) override {
    in = in.last(0);  // there is nothing a client may say after its request on a connection that will not serve another
    return {};
  }
  bool notice(std::string& out, std::string_view name, std::string_view json, std::string_view cursor) override {
    out += "event: ";
    out += name;
    if (!cursor.empty()) {
      out += "\nid: ";
      out += cursor;
    }
    out += "\ndata: ";
    out += json;
    out += "\n\n";
    return true;
  }
  void reply(std::string&, std::string_view) override {}
  void beat(std::string& out) override {
    out += ":\n\n";
    notice(out, "ping", "{\"ping\":{}}", {});
  }
  bool expects_life() const noexcept override { return false; }
  bool tags() const noexcept override { return several_; }
  void tag(std::string& out, std::string_view cursor) const override {
    out += "id: ";
    out += cursor;
    out += '\n';
  }
  void end(std::string& out, std::uint16_t code, std::string_view) override {
    // A server that is overloaded for a while says when to come back; any other end is just the stream's.
    if (code == close_code(errc::overloaded)) proto::append_bye(out, errc::overloaded, 1);
  }
  bool awaits_end() const noexcept override { return false; }

 private:
  bool several_;
};
static_assert(sizeof(sse_stream) <= stream_box::room);

/// Serves requests whose `Accept` names `text/event-stream`.
struct sse {
  static constexpr std::string_view name = "sse";
  static constexpr std::string_view offer = "Server-Sent Events (Accept: text/event-stream)";

  static bool claims(const live_request& a) { return proto::http1::accepts_literally(a.head, "text/event-stream"); }
  static result<accepted> begin(const live_request& a) {
    accepted b;
    b.live = stream_box::of<sse_stream>(a.count("channel") > 1);
    b.open = [retry = a.settings.retry.count()](std::string& out, std::string_view extra) {
      std::string headers = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";
      headers += extra;
      // The end of the connection is the end of the body (RFC 9112, section 6.3, rule 8).
      proto::http1::append_response_head(out, 200, "text/event-stream", {}, false, 1, headers);
      out += "retry: ";
      proto::append_decimal(out, static_cast<std::uint64_t>(retry));
      out += "\n\n";
    };
    return b;
  }
};

}  // namespace hailwire::transport
