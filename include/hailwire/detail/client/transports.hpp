// SPDX-License-Identifier: BSL-1.0
#pragma once

// The transports that a client can be made of, and lists of them.

#include <memory>

#include "hailwire/detail/client/fetcher.hpp"
#include "hailwire/detail/client/machine.hpp"
#include "hailwire/detail/client/poll_link.hpp"
#include "hailwire/detail/client/poster.hpp"
#include "hailwire/detail/client/sse_link.hpp"
#include "hailwire/detail/client/websocket_link.hpp"
#include "hailwire/fwd.hpp"

namespace hailwire::detail {

/// How a client uses the transport that a server calls `Transport`. Specialised for each; deflate for clients is in
/// client_deflate.hpp.
template <class Transport>
inline constexpr const client_transport* client_transport_of = nullptr;

template <class Link, auto... more>
std::unique_ptr<client_link> make_client_link(client_machine& m) {
  return std::make_unique<Link>(m, more...);
}

inline constexpr const proto::ws_codec_offer* no_codec = nullptr;
inline constexpr client_transport client_websocket{"websocket", make_client_link<websocket_link, no_codec>};
inline constexpr client_transport client_sse{"sse", make_client_link<sse_link>};
inline constexpr client_transport client_long_poll{"long_poll", make_client_link<poll_link, true>};
inline constexpr client_transport client_short_poll{"short_poll", make_client_link<poll_link, false>};

template <>
inline constexpr const client_transport* client_transport_of<transport::websocket> = &client_websocket;
template <>
inline constexpr const client_transport* client_transport_of<transport::sse> = &client_sse;
template <>
inline constexpr const client_transport* client_transport_of<transport::long_poll> = &client_long_poll;
template <>
inline constexpr const client_transport* client_transport_of<transport::short_poll> = &client_short_poll;

template <class... Transports>
inline constexpr const client_transport* client_ladder[] = {client_transport_of<Transports>...};

/// What does a lane's errands.
inline std::unique_ptr<client_errands> make_client_errands(client_machine& m, client_lane lane) {
  if (lane == client_lane::command) return std::make_unique<command_poster>(m);
  return std::make_unique<content_fetcher>(m);
}

}  // namespace hailwire::detail
