// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "hailwire/detail/client/machine.hpp"
#include "hailwire/proto/ws_client.hpp"

namespace hailwire::detail {

/// Follows over one WebSocket, which carries commands and their answers too.
class websocket_link final : public client_link {
 public:
  websocket_link(client_machine& m, const proto::ws_codec_offer* offer)
      : machine_(m), socket_({.message = m.options().max_object}, offer) {}

  void connected() override {
    machine_.reached();
    std::array<unsigned char, 16> nonce;
    machine_.random(nonce);
    std::string out, headers;
    machine_.append_own_headers(headers);
    socket_.open(out, machine_.target(true), machine_.place().authority(), nonce, "hailwire.v1", headers);
    machine_.write(client_lane::follow, out);
  }

  void receive(std::span<char> in) override {
    using type = proto::ws_client::event::type;
    while (machine_.lives(this)) {
      const auto e = socket_.next(in);
      switch (e.what) {
        case type::none:
          if (pinged_) pong();
          return;
        case type::text:
          machine_.hear(e.data);
          break;
        case type::ping:  // the last of those that came together is answered (RFC 6455, section 5.5.3)
          pong_ = e.data;
          pinged_ = true;
          break;
        case type::close:
          closed(e.code, std::string(e.data));
          break;
        case type::failed:
          say(proto::ws_opcode::close, proto::close_payload(e.code));
          machine_.lose("protocol_error", 0, e.data);
          break;
        case type::refused:
          refused(e.data);
          break;
        case type::binary:
          machine_.lose("bad_answer", 0, "a binary frame, where objects were due");
          break;
        case type::opened:  // nothing to do until the server's `open`
        case type::pong:
          break;
      }
    }
  }

  void ended() override {
    if (!socket_.opened()) {
      const auto e = socket_.end();
      if (e.what == proto::ws_client::event::type::refused) return refused(e.data);
    }
    // One that never opened may be cut by something in between that knows no WebSocket.
    if (connected_once() && !machine_.following()) return machine_.fall("lost");
    machine_.lose(connected_once() ? "lost" : "unreachable");
  }

  bool carries_commands() const noexcept override { return true; }
  void send(std::string_view json) override { say(proto::ws_opcode::text, json); }
  void probe() override { say(proto::ws_opcode::ping, {}); }
  void leave() override {
    if (socket_.opened()) say(proto::ws_opcode::close, proto::close_payload(proto::ws_normal));
  }

 private:
  bool connected_once() const noexcept { return machine_.was_reached(); }
  std::uint32_t mask() { return static_cast<std::uint32_t>(machine_.random_word()); }
  void say(proto::ws_opcode what, std::string_view payload) {
    std::string out;
    socket_.append(out, what, payload, mask());
    machine_.write(client_lane::follow, out);
  }
  void pong() {
    pinged_ = false;
    say(proto::ws_opcode::pong, pong_);
    pong_.clear();
  }

  void refused(std::string_view why) {
    const auto& r = socket_.response();
    if (!r.has_head()) return machine_.fall("bad_answer", why);
    const int status = r.head().status;
    if (status == 101) return machine_.fall("bad_answer", why);
    const auto least = proto::http1::retry_after(r.head(), 3'600'000).value_or(0);
    // An answer of success, or a redirection, is by somebody who knows no WebSocket.
    if (status < 400) return machine_.fall("http_" + std::to_string(status), why);
    machine_.turned_away(status, least, r.body);
  }

  void closed(std::uint16_t code, std::string_view why) {
    say(proto::ws_opcode::close, proto::close_payload(code == proto::ws_no_code ? proto::ws_normal : code));
    switch (code) {
      case proto::ws_normal:
        return machine_.stop("closed", why);
      case proto::ws_protocol_error:
      case proto::ws_policy:
        return machine_.blame(errc::bad_request, why, code == proto::ws_policy ? "policy" : "protocol_error");
      case proto::ws_bad_data:
        return machine_.blame(errc::unsupported_media, why, "invalid_utf8");
      case proto::ws_too_big:
        return machine_.blame(errc::too_large, why, "too_large");
      case 4401:
        if (!machine_.expired(1'000)) machine_.stop("unauthenticated", why);
        return;
      case 4403:
        return machine_.stop("forbidden", why);
      default:
        break;
    }
    static constexpr std::pair<std::uint16_t, std::string_view> names[] = {
        {1001, "going_away"}, {1011, "internal"},         {1012, "draining"},
        {1013, "overloaded"}, {4408, "heartbeat_missed"}, {4429, "rate_limited"}};
    for (auto& [of, name] : names)
      if (of == code) return machine_.lose(name, 0, why);
    machine_.lose("lost", 0, why);
  }

  client_machine& machine_;
  proto::ws_client socket_;
  std::string pong_;
  bool pinged_ = false;
};

}  // namespace hailwire::detail
