// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/proxy_header.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE proxy_header_progress read_proxy_header(std::string_view in, proxy_header& out) noexcept {
  using state = proxy_header_progress::state;
  constexpr proxy_header_progress failed{state::failed, 0};
  constexpr std::string_view signature("\r\n\r\n\0\r\nQUIT\n", 12);
  auto u = [&](std::size_t i) { return static_cast<std::uint8_t>(in[i]); };
  if (in.substr(0, 12) != signature.substr(0, in.size())) return failed;
  if (in.size() > 12 && u(12) != 0x20 && u(12) != 0x21) return failed;  // version 2; LOCAL or PROXY
  // Families: unspecified, IPv4, IPv6, Unix; protocols: unspecified, stream. Datagrams do not come over a stream.
  if (in.size() > 13 && u(13) != 0 && u(13) != 0x11 && u(13) != 0x21 && u(13) != 0x31) return failed;
  if (in.size() < proxy_header_start) return {};
  std::size_t size = proxy_header_start + (static_cast<std::size_t>(u(14)) << 8 | u(15));
  std::size_t addresses = u(13) == 0x11 ? 12 : u(13) == 0x21 ? 36 : u(13) == 0x31 ? 216 : 0;
  bool local = u(12) == 0x20;
  // A LOCAL header's families and addresses are to be skipped, whatever they are (section 2.2).
  if (size > max_proxy_header || (!local && size < proxy_header_start + addresses)) return failed;
  if (in.size() < size) return {state::need_more, size};

  out = {};
  if (local || u(13) == 0) return {state::done, size};
  std::size_t at = proxy_header_start;
  auto port = [&](std::size_t i) { return static_cast<std::uint16_t>(u(i) << 8 | u(i + 1)); };
  auto address = [&](std::size_t i, std::size_t n) {
    std::array<std::uint8_t, 16> bytes{};
    for (std::size_t k = 0; k < n; ++k) bytes[k] = u(i + k);
    return n == 4 ? ip_address::from_v4(bytes.data()) : ip_address{bytes};
  };
  if (std::size_t n = u(13) == 0x11 ? 4 : u(13) == 0x21 ? 16 : 0) {
    out.source = {address(at, n), port(at + 2 * n)};
    out.target = {address(at + n, n), port(at + 2 * n + 2)};
  }
  for (at += addresses; at < size;) {  // nothing in them is of use here, but they must be whole
    if (size - at < 3) return failed;
    at += 3 + (static_cast<std::size_t>(u(at + 1)) << 8 | u(at + 2));
    if (at > size) return failed;
  }
  return {state::done, size};
}

}  // namespace hailwire::proto
