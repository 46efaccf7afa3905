// SPDX-License-Identifier: BSL-1.0
#pragma once

// permessage-deflate (RFC 7692) for servers: a WebSocket transport to be named in place of `websocket`. Needs zlib: the
// CMake component hailwire::deflate, or -lz.
//
//     hailwire::server<hailwire::websocket_deflate, hailwire::sse> live(io);
//
// Messages of channels are compressed once, whoever follows: the server always answers `server_no_context_takeover`, so
// one frame serves every client that agreed on compression, as an uncompressed one serves those that did not. An offer
// that asks for a smaller window than the full one is answered without compression (RFC 7692, section 5.1), because its
// client could not read that frame.
//
// What an idle connection costs beyond an uncompressed one: 80 bytes. Beyond that nothing, unless options ask for more:
//   client_no_context_takeover = false   39 KiB to inflate, from the first compressed message that the client sends
//   per_connection = true                262 KiB to deflate, from the first message that is sent to it, when the client
//   lets
//                                        the server keep its context; for the host's own frames only
// Each thread that runs hubs has one deflater of 262 KiB for each set of options and window, from its first use.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/proto/deflate.hpp"
#include "hailwire/transport/websocket.hpp"

namespace hailwire {

using proto::deflate_options;

namespace transport {

/// Appends a message as a frame that fits every connection whose server keeps no context and whose window has at least
/// `bits`; `Options` decide how.
template <deflate_options Options, int Bits = 15>
void append_shared_frame(std::string& out, proto::ws_opcode what, std::string_view bytes) {
  if (bytes.size() < Options.threshold) return proto::append_frame(out, what, bytes);
  // One a thread: what it holds is too much for each hub, and a message's end leaves nothing behind in it.
  static thread_local proto::zlib_deflater deflater(
      {.server_no_context_takeover = true, .server_max_window_bits = Bits}, proto::ws_role::server, Options);
  proto::append_deflated_frame(out, deflater, what, bytes);
}

template <deflate_options Options>
inline constexpr proto::encoding websocket_object_deflated{
    "websocket, deflated", true,
    [](std::string& out, const proto::envelope& e) {
      append_shared_frame<Options>(out, proto::ws_opcode::text, e.json);
    },
    [](std::string& out, std::string_view, std::string_view json) {
      append_shared_frame<Options>(out, proto::ws_opcode::text, json);
    }};
template <deflate_options Options>
inline constexpr proto::encoding websocket_payload_deflated{
    "websocket, raw, deflated", false, [](std::string& out, const proto::envelope& e) {
      if (!proto::has_payload(e.content)) return;
      if (e.content.content) return websocket_payload.append(out, e);
      const payload& p = e.content.data;
      append_shared_frame<Options>(
          out, p.type() == payload::kind::binary ? proto::ws_opcode::binary : proto::ws_opcode::text, p.bytes());
    }};

template <deflate_options Options>
inline constexpr proto::encoding websocket_signal_deflated = proto::signals_of(websocket_object_deflated<Options>);

/// One WebSocket connection that agreed on compression: the same machine, with messages deflated and inflated.
template <deflate_options Options>
class websocket_deflate_stream : public websocket_stream {
 public:
  websocket_deflate_stream(mode m, std::size_t max_message, const proto::deflate_params& agreed)
      : websocket_stream(m, max_message),
        inflater_(agreed, proto::ws_role::server),
        bits_(static_cast<std::int8_t>(agreed.server_max_window_bits)) {
    if (!agreed.server_no_context_takeover)
      own_ = std::make_unique<proto::zlib_deflater>(agreed, proto::ws_role::server, Options);
  }

  const proto::encoding& messages() const noexcept override {
    return as() == mode::object       ? websocket_object_deflated<Options>
           : as() == mode::signal     ? websocket_signal_deflated<Options>
           : as() == mode::raw_signal ? websocket_position  // shorter than what compressing is worth
                                      : websocket_payload_deflated<Options>;
  }
  stream_event receive(std::span<char>& in, std::string& out) override { return read(in, out, &inflater_); }

 protected:
  void append(std::string& out, proto::ws_opcode what, std::string_view bytes) override {
    if (own_) {
      if (bytes.size() < Options.threshold) return proto::append_frame(out, what, bytes);
      proto::append_deflated_frame(out, *own_, what, bytes);
      return;
    }
    using append_function = void (*)(std::string&, proto::ws_opcode, std::string_view);
    static constexpr append_function by_bits[] = {append_shared_frame<Options, 9>,  append_shared_frame<Options, 10>,
                                                  append_shared_frame<Options, 11>, append_shared_frame<Options, 12>,
                                                  append_shared_frame<Options, 13>, append_shared_frame<Options, 14>,
                                                  append_shared_frame<Options, 15>};
    by_bits[bits_ - 9](out, what, bytes);
  }

 private:
  proto::zlib_inflater inflater_;
  std::unique_ptr<proto::zlib_deflater> own_;  // only when its context is kept
  std::int8_t bits_;
};
static_assert(sizeof(websocket_deflate_stream<deflate_options{}>) <= 72,
              "what the top of this file says, in an allocation of its own");

/// Serves requests that ask for an upgrade to WebSocket, with compression for clients that offer it in a way that fits
/// `Options`. For the live resource `per_connection` and the two `server_…` parameters mean nothing: its messages are
/// shared. For the host's own frames (`server::on_websocket`) all of them count; several sets can be in use at a time,
/// one a path.
template <deflate_options Options>
struct websocket_deflate_with {
  static_assert(Options.server_max_window_bits >= 9 && Options.server_max_window_bits <= 15,
                "hailwire: server_max_window_bits is 9 to 15");
  static_assert(Options.client_max_window_bits >= 8 && Options.client_max_window_bits <= 15,
                "hailwire: client_max_window_bits is 8 to 15");
  static_assert(Options.level >= 1 && Options.level <= 9 && Options.memory_level >= 1 && Options.memory_level <= 9,
                "hailwire: the levels of deflate are 1 to 9");

  static constexpr std::string_view name = websocket::name;
  static constexpr std::string_view offer = websocket::offer;
  static constexpr bool upgrades = true;

  static bool claims(const live_request& a) { return websocket::claims(a); }
  static result<accepted> begin(const live_request& a) {
    static constexpr deflate_options shared = [] {
      deflate_options o = Options;
      o.per_connection = false;
      return o;
    }();
    return websocket::begin_as(a, make<shared>);
  }
  static result<accepted> begin_plain(const live_request& a, const std::vector<std::string>& known,
                                      std::size_t max_message) {
    return websocket::begin_plain_as(a, known, max_message, make<Options>);
  }

 private:
  template <deflate_options Used>
  static stream_box make(const proto::ws_offer& asked, websocket_stream::mode m, std::size_t max_message,
                         std::string& answer) {
    auto agreed = proto::accept_deflate(asked.extensions, Used, answer);
    if (!agreed) return stream_box::of<websocket_stream>(m, max_message);
    return stream_box::of<websocket_deflate_stream<Used>>(m, max_message, *agreed);
  }
};

using websocket_deflate = websocket_deflate_with<deflate_options{}>;

}  // namespace transport

using transport::websocket_deflate;
using transport::websocket_deflate_with;

}  // namespace hailwire
