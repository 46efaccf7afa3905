// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/transport/websocket.hpp"

namespace hailwire::transport {

HAILWIRE_INLINE websocket_stream::websocket_stream(mode m, std::size_t max_message) noexcept
    : in_(proto::ws_role::server, {.message = max_message}), mode_(m), ended_(false) {}

HAILWIRE_INLINE bool websocket_stream::notice(std::string& out, std::string_view, std::string_view json,
                                              std::string_view) {
  if (objects()) append(out, proto::ws_opcode::text, json);
  return objects();
}

HAILWIRE_INLINE void websocket_stream::end(std::string& out, std::uint16_t code, std::string_view reason) {
  if (ended_) return;
  ended_ = true;
  // A close without a code is answered in kind; codes that may not stand on the wire (1005, 1006) become 1000.
  if (code == 1005) return proto::append_frame(out, proto::ws_opcode::close, {});
  proto::append_close(out, proto::valid_close_code(code) ? code : std::uint16_t{1000}, reason);
}

HAILWIRE_INLINE stream_event websocket_stream::read(std::span<char>& in, std::string& out,
                                                    proto::ws_inflater* inflater) {
  ping newest;
  auto event = next(in, out, inflater, newest);
  if (newest.asked) proto::append_pong(out, {newest.bytes, newest.size});
  return event;
}

HAILWIRE_INLINE stream_event websocket_stream::next(std::span<char>& in, std::string& out, proto::ws_inflater* inflater,
                                                    ping& newest) {
  using type = proto::ws_event::type;
  for (int pings = 0;;) {
    auto event = in_.next(in, inflater);
    switch (event.what) {
      case type::none:
        return {};
      case type::pong:
        continue;
      case type::ping:
        if (ended_) continue;
        if (pings++ < single_pongs) {
          proto::append_pong(out, event.data);
          continue;
        }
        newest.asked = true;
        newest.size = event.data.copy(newest.bytes, sizeof newest.bytes);
        continue;
      case type::close:
        return {stream_event::kind::closed, event.data, event.code};
      case type::failed:
        return {stream_event::kind::failed, event.data, event.code};
      case type::text:
        if (ended_) continue;  // RFC 6455, section 1.4: data after our close is not processed
        return {objects() ? stream_event::kind::command : stream_event::kind::text, event.data, 0};
      case type::binary:
        if (ended_) continue;
        if (objects()) return {stream_event::kind::failed, "commands are text frames", proto::ws_policy};
        return {stream_event::kind::binary, event.data, 0};
    }
  }
}

}  // namespace hailwire::transport
