// SPDX-License-Identifier: BSL-1.0
#pragma once

// The header that a proxy of connections (HAProxy, a cloud's balancer) puts before the client's first byte: version 2
// of the PROXY protocol, binary (HAProxy, "The PROXY protocol", section 2.2).
//
//   12 bytes signature │ version, command │ family, protocol │ 2 bytes size │ addresses │ type-length-value …
//
// A receiver must know whether to expect one (section 2): a client that writes one of its own would be believed
// otherwise.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "hailwire/proto/address.hpp"

namespace hailwire::proto {

/// What such a header says.
struct proxy_header {
  endpoint source;  ///< without an address where the proxy speaks for itself, or does not tell
  endpoint target;  ///< where the client connected to; likewise
};

/// The longest header that is taken. The standard's own has at most 232 bytes of addresses; certificates' names and
/// what clouds add stay far below this in all.
inline constexpr std::size_t max_proxy_header = 2048;
/// What says how long it is (section 2.2).
inline constexpr std::size_t proxy_header_start = 16;

/// How reading one goes: `size` is how many bytes it has at least, exactly once 16 are there. Who reads no more than
/// that from a socket leaves all else to whom it is for.
struct proxy_header_progress {
  enum class state : std::uint8_t { need_more, done, failed };
  state what = state::need_more;
  std::size_t size = proxy_header_start;
};

/// Reads a header from its first byte on. Fails at the first byte that cannot be right.
proxy_header_progress read_proxy_header(std::string_view in, proxy_header& out) noexcept;

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/proxy_header.ipp"
#endif
