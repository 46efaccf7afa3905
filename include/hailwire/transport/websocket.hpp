// SPDX-License-Identifier: BSL-1.0
#pragma once

// WebSocket (RFC 6455). One state machine serves three kinds of client: the protocol's own (`hailwire.v1`: text frames
// with one JSON object each, both ways), raw ones (`hailwire.v1.raw`: frames are payloads), and the host's own frames
// on other paths (`frame_handlers`).

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/proto/ws_frame.hpp"
#include "hailwire/proto/ws_handshake.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::transport {

inline constexpr proto::encoding websocket_object{
    "websocket", true, [](std::string& out, const proto::envelope& e) { proto::append_text(out, e.json); },
    [](std::string& out, std::string_view, std::string_view json) { proto::append_text(out, json); }};
inline constexpr proto::encoding websocket_payload{"websocket, raw", false,
                                                   [](std::string& out, const proto::envelope& e) {
                                                     if (!proto::has_payload(e.content)) return;
                                                     if (e.content.content) {  // not to be had without a notice of it
                                                       proto::append_close(out, 4410, "gap");
                                                       return;
                                                     }
                                                     if (e.content.data.type() == payload::kind::binary) {
                                                       proto::append_binary(out, e.content.data.bytes());
                                                     } else {
                                                       proto::append_text(out, e.content.data.bytes());
                                                     }
                                                   }};

inline constexpr proto::encoding websocket_signal = proto::signals_of(websocket_object);
/// A text frame with the position; of an ephemeral message, which has none, the payload.
inline constexpr proto::encoding websocket_position{"websocket, raw signals", false,
                                                    [](std::string& out, const proto::envelope& e) {
                                                      if (!e.content.offset) return websocket_payload.append(out, e);
                                                      if (!proto::has_payload(e.content)) return;
                                                      std::string at;
                                                      append_position(at, e.epoch, e.content.offset);
                                                      proto::append_text(out, at);
                                                    },
                                                    nullptr, true};

/// One WebSocket connection of a server's: protocol objects (`hailwire.v1`), payloads alone (`hailwire.v1.raw`), or a
/// host's own frames.
class websocket_stream : public stream {
 public:
  /// The last two send signals: positions in place of payloads.
  enum class mode : std::uint8_t { object, raw, plain, signal, raw_signal };

  websocket_stream(mode m, std::size_t max_message) noexcept;

  std::string_view name() const noexcept override { return "websocket"; }
  const proto::encoding& messages() const noexcept override {
    return mode_ == mode::object       ? websocket_object
           : mode_ == mode::raw        ? websocket_payload
           : mode_ == mode::signal     ? websocket_signal
           : mode_ == mode::raw_signal ? websocket_position
                                       : websocket_payload;
  }

  stream_event receive(std::span<char>& in, std::string& out) override { return read(in, out, nullptr); }
  HAILWIRE_INLINE bool notice(std::string& out, std::string_view, std::string_view json, std::string_view) override;
  void reply(std::string& out, std::string_view json) override { append(out, proto::ws_opcode::text, json); }
  void message(std::string& out, std::string_view bytes, bool binary) override {
    append(out, binary ? proto::ws_opcode::binary : proto::ws_opcode::text, bytes);
  }
  void beat(std::string& out) override { proto::append_ping(out); }
  bool expects_life() const noexcept override { return true; }
  bool duplex() const noexcept override { return true; }
  HAILWIRE_INLINE void end(std::string& out, std::uint16_t code, std::string_view reason) override;
  bool awaits_end() const noexcept override { return !in_.ended(); }
  bool speaks() const noexcept override { return objects(); }

 protected:
  /// Appends a message of this connection's own.
  virtual void append(std::string& out, proto::ws_opcode what, std::string_view bytes) {
    proto::append_frame(out, what, bytes);
  }
  bool objects() const noexcept { return mode_ == mode::object || mode_ == mode::signal; }
  mode as() const noexcept { return mode_; }
  /// `receive`, with what inflates messages if that was agreed on.
  stream_event read(std::span<char>& in, std::string& out, proto::ws_inflater* inflater);

 private:
  struct ping {
    bool asked = false;
    std::size_t size = 0;
    char bytes[proto::max_control_size];
  };
  /// Of pings that came together so many are answered one by one, which public test suites ask for; of the rest only
  /// the newest (RFC 6455, section 5.5.3), so that a flood of them is worth no more than 8 KiB of pongs.
  static constexpr int single_pongs = 64;

  stream_event next(std::span<char>& in, std::string& out, proto::ws_inflater* inflater, ping& newest);

  [[no_unique_address]] proto::ws_connection in_;  // what follows lies in its padding
  mode mode_ : 3;
  bool ended_ : 1;
};
static_assert(sizeof(websocket_stream) <= stream_box::room);

/// Serves requests that ask for an upgrade to WebSocket.
struct websocket {
  static constexpr std::string_view name = "websocket";
  static constexpr std::string_view offer = "WebSocket (Upgrade: websocket)";
  static constexpr bool upgrades = true;
  /// Room for a publish command around a payload that is just within its limit.
  static constexpr std::size_t command_room = 1024;

  /// An Upgrade in HTTP/1.0 counts for nothing (RFC 9110, section 7.8).
  static bool claims(const live_request& a) { return a.head.minor >= 1 && a.head.has_token("Upgrade", "websocket"); }

  static result<accepted> begin(const live_request& a) { return begin_as(a, make); }
  /// The same for the host's own frames: no subprotocol is chosen unless it is in `known`.
  static result<accepted> begin_plain(const live_request& a, const std::vector<std::string>& known,
                                      std::size_t max_message) {
    return begin_plain_as(a, known, max_message, make);
  }

  /// Both with streams of another making: `make_stream` has the parameters of `make`, the last of which takes the
  /// extensions that the handshake is answered with.
  template <class Make>
  static result<accepted> begin_as(const live_request& a, Make make_stream) {
    auto asked = proto::read_upgrade(a.head);
    if (!asked) return asked.error();
    std::string_view chosen;
    for (const std::string& p : asked->subprotocols) {
      if (p == "hailwire.v1" || p == "hailwire.v1.raw") {
        chosen = p;
        break;
      }
    }
    if (chosen.empty() && !asked->subprotocols.empty()) {
      return {errc::bad_request, "none of the subprotocols is known: hailwire.v1 and hailwire.v1.raw are"};
    }
    bool raw = chosen == "hailwire.v1.raw";
    if (raw && a.count("channel") != 1) return {errc::bad_request, "hailwire.v1.raw needs exactly one channel"};
    std::size_t most = largest_payload(a.settings);
    if (!raw) most = most / 3 * 4 + 4 + command_room;  // base64 (RFC 4648) takes four letters for three bytes
    using mode = websocket_stream::mode;
    const mode m = wants_signals(a) ? raw ? mode::raw_signal : mode::signal : raw ? mode::raw : mode::object;
    return begun(*asked, chosen, m, most, make_stream);
  }
  template <class Make>
  static result<accepted> begin_plain_as(const live_request& a, const std::vector<std::string>& known,
                                         std::size_t max_message, Make make_stream) {
    auto asked = proto::read_upgrade(a.head);
    if (!asked) return asked.error();
    std::string_view chosen;
    for (const std::string& p : asked->subprotocols) {
      if (std::find(known.begin(), known.end(), p) != known.end()) {
        chosen = p;
        break;
      }
    }
    return begun(*asked, chosen, websocket_stream::mode::plain, max_message, make_stream);
  }

 private:
  template <class Make>
  static accepted begun(proto::ws_offer& asked, std::string_view protocol, websocket_stream::mode m,
                        std::size_t max_message, Make make_stream) {
    accepted b;
    std::string extensions;
    b.live = make_stream(asked, m, max_message, extensions);
    b.open = [key = std::move(asked.key), chosen = std::string(protocol), extensions = std::move(extensions)](
                 std::string& out, std::string_view extra) {
      proto::append_switching_protocols(out, key, chosen, extensions, extra);
    };
    return b;
  }
  static stream_box make(const proto::ws_offer&, websocket_stream::mode m, std::size_t max_message, std::string&) {
    return stream_box::of<websocket_stream>(m, max_message);
  }
};

}  // namespace hailwire::transport

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/transport/websocket.ipp"
#endif
