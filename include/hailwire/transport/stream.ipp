// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/transport/stream.hpp"

namespace hailwire::transport {

HAILWIRE_INLINE std::optional<std::string_view> live_request::param(std::string_view name) const noexcept {
  for (const auto& [n, value] : query)
    if (proto::same_bytes(n, name)) return value;
  return {};
}

HAILWIRE_INLINE std::size_t live_request::count(std::string_view name) const noexcept {
  std::size_t n = 0;
  for (const auto& p : query) n += proto::same_bytes(p.first, name);
  return n;
}

HAILWIRE_INLINE stream_event stream::receive(std::span<char>& in, std::string& /*out*/) {
  in = in.last(0);
  return {};
}

HAILWIRE_INLINE stream_box& stream_box::operator=(stream_box&& other) noexcept {
  if (this == &other) return *this;
  reset();
  take(other);
  return *this;
}

HAILWIRE_INLINE void stream_box::reset() noexcept {
  if (is_inside()) {
    inside().~stream();
  } else {
    delete outside();
  }
  std::memset(space_, 0, sizeof space_);
}

HAILWIRE_INLINE void* stream_box::word(std::size_t i) const noexcept {
  void* value;
  std::memcpy(&value, space_ + i * sizeof value, sizeof value);
  return value;
}

HAILWIRE_INLINE void stream_box::take(stream_box& other) noexcept {
  if (other.is_inside()) {
    other.inside().move_to(space_);
  } else {
    keep(other.outside());
  }
  std::memset(other.space_, 0, sizeof other.space_);
}

}  // namespace hailwire::transport
