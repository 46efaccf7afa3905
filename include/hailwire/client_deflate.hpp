// SPDX-License-Identifier: BSL-1.0
#pragma once

// permessage-deflate (RFC 7692) for clients: opt in by including this header. Needs zlib: the CMake component
// hailwire::deflate, or -lz.
//
//     hailwire::client<hailwire::websocket_deflate, hailwire::sse> live(io, url);
//     hailwire::websocket_client feed(io, url, {.compression = &hailwire::client_compression<>});
//
// What a connection costs that agreed on compression: 39 KiB to inflate while its server keeps its context, from the
// first compressed message on, which a hailwire server does not; 262 KiB to deflate where `client_no_context_takeover`
// is off. Each thread has one deflater of 262 KiB for each set of options, from its first use.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/client.hpp"
#include "hailwire/proto/deflate.hpp"
#include "hailwire/proto/ws_client.hpp"

namespace hailwire {

using proto::deflate_options;

namespace transport {
template <deflate_options Options>
struct websocket_deflate_with;
using websocket_deflate = websocket_deflate_with<deflate_options{}>;
}  // namespace transport
using transport::websocket_deflate;
using transport::websocket_deflate_with;

namespace detail {

/// Compression as one connection of a client agreed on it.
template <deflate_options Options>
class client_codec final : public proto::ws_codec {
 public:
  explicit client_codec(const proto::deflate_params& agreed)
      : inflater_(agreed, proto::ws_role::client), bits_(agreed.client_max_window_bits) {
    if (!agreed.client_no_context_takeover || bits_ != 15) own_.emplace(agreed, proto::ws_role::client, Options);
  }
  proto::ws_inflater* inflater() noexcept override { return &inflater_; }
  void append(std::string& out, proto::ws_opcode what, std::string_view message, std::uint32_t mask) override {
    if (message.size() < Options.threshold) return proto::append_masked_frame(out, what, message, mask);
    proto::append_masked_deflated_frame(out, own_ ? *own_ : shared(), what, message, mask);
  }

  static std::string offer() { return proto::deflate_offer(Options); }
  static result<std::unique_ptr<proto::ws_codec>> accept(const vector<proto::ws_extension>& answered) {
    auto agreed = proto::read_deflate_answer(answered, Options);
    if (!agreed) return agreed.error();
    if (!*agreed) return std::unique_ptr<proto::ws_codec>();
    return std::unique_ptr<proto::ws_codec>(new client_codec(**agreed));
  }

 private:
  // One a thread for all connections that keep no context: a message's end leaves nothing behind in it.
  static proto::zlib_deflater& shared() {
    static thread_local proto::zlib_deflater deflater({.client_no_context_takeover = true}, proto::ws_role::client,
                                                      Options);
    return deflater;
  }
  proto::zlib_inflater inflater_;
  std::optional<proto::zlib_deflater> own_;
  int bits_;
};

}  // namespace detail

/// How a client's WebSocket asks for compression.
template <deflate_options Options = deflate_options{}>
inline constexpr proto::ws_codec_offer client_compression{&detail::client_codec<Options>::offer,
                                                          &detail::client_codec<Options>::accept};

namespace detail {
template <deflate_options Options>
inline constexpr client_transport client_websocket_deflate{
    "websocket", make_client_link<websocket_link, &client_compression<Options>>};
template <deflate_options Options>
inline constexpr const client_transport* client_transport_of<transport::websocket_deflate_with<Options>> =
    &client_websocket_deflate<Options>;
}  // namespace detail

}  // namespace hailwire
