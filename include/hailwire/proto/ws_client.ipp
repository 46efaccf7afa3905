// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/ws_client.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE ws_client::ws_client(const ws_limits& limits, const ws_codec_offer* offer)
    : connection_(ws_role::client, limits), opening_(new opening()) {
  opening_->offer = offer;
}

HAILWIRE_INLINE void ws_client::open(std::string& out, std::string_view target, std::string_view host,
                                     std::span<const unsigned char, 16> nonce, std::string_view subprotocols,
                                     std::string_view headers) {
  opening_->key = handshake_key(nonce);
  opening_->subprotocols = subprotocols;
  append_upgrade_request(out, target, host, opening_->key, subprotocols,
                         opening_->offer ? opening_->offer->offer() : std::string(), headers);
}

HAILWIRE_INLINE ws_client::event ws_client::next(std::span<char>& in) {
  if (opening_) return handshake(in);
  const auto e = connection_.next(in, codec_ ? codec_->inflater() : nullptr);
  return {kind_of(e.what), e.data, e.code};
}

HAILWIRE_INLINE ws_client::event ws_client::end() {
  if (!opening_ || opening_->told) return {};
  return opening_->reader.end() == http1::response_reader::step::done ? refused({}) : event{};
}

HAILWIRE_INLINE void ws_client::append(std::string& out, ws_opcode what, std::string_view message, std::uint32_t mask) {
  if (codec_ && !is_control(what)) return codec_->append(out, what, message, mask);
  append_masked_frame(out, what, message, mask);
}

HAILWIRE_INLINE ws_client::event::type ws_client::kind_of(ws_event::type t) noexcept {
  using from = ws_event::type;
  using to = event::type;
  return t == from::none     ? to::none
         : t == from::text   ? to::text
         : t == from::binary ? to::binary
         : t == from::ping   ? to::ping
         : t == from::pong   ? to::pong
         : t == from::close  ? to::close
                             : to::failed;
}

HAILWIRE_INLINE ws_client::event ws_client::refused(std::string_view why) {
  opening_->told = true;
  opening_->why = why;
  return {event::type::refused, opening_->why, 0};
}

HAILWIRE_INLINE ws_client::event ws_client::handshake(std::span<char>& in) {
  opening& o = *opening_;
  if (o.answered) {  // the caller has seen the subprotocol
    opening_.reset();
    return next(in);
  }
  using step = http1::response_reader::step;
  while (!o.told) {
    const auto s = o.reader.read(in);
    if (s == step::failed) return in = in.last(0), refused(o.reader.error().text());
    if (s == step::need_more) return {};
    if (o.reader.head().status != 101) {
      if (s == step::done) return in = in.last(0), refused({});
      continue;
    }
    auto answer = read_switching_protocols(o.reader.head(), o.key, o.subprotocols);
    if (!answer) return in = in.last(0), refused(answer.error().text());
    if (o.offer) {
      auto codec = o.offer->accept(answer->extensions);
      if (!codec) return in = in.last(0), refused(codec.error().text());
      codec_ = std::move(*codec);
    } else if (!answer->extensions.empty()) {
      return in = in.last(0), refused("the server chose an extension that was not offered");
    }
    o.answered = true;
    o.subprotocol = std::move(answer->subprotocol);
    return {event::type::opened, o.subprotocol, 0};
  }
  in = in.last(0);
  return {};
}

}  // namespace hailwire::proto
