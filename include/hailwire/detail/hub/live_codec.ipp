// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/live_codec.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE live_writer& live_writer::number(std::uint64_t n) {
  for (; n > 0x7F; n >>= 7) out_ += static_cast<char>(0x80 | (n & 0x7F));
  out_ += static_cast<char>(n);
  return *this;
}

HAILWIRE_INLINE live_writer& live_writer::text(std::string_view s) {
  number(s.size());
  out_.append(s);
  return *this;
}

HAILWIRE_INLINE live_writer& live_writer::content(const message& m) {
  number(static_cast<std::uint64_t>(m.at)).text(m.from).text(m.type);
  number(static_cast<std::uint64_t>(m.data.type())).text(m.data.content_type());
  return text(m.data.bytes());
}

HAILWIRE_INLINE std::uint64_t live_reader::number() noexcept {
  std::uint64_t n = 0;
  for (unsigned shift = 0; shift < 64 && !left_.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(left_.front());
    left_.remove_prefix(1);
    n |= std::uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return n;
  }
  left_ = {};
  ok_ = false;
  return 0;
}

HAILWIRE_INLINE std::string_view live_reader::text() noexcept {
  const std::uint64_t size = number();
  if (size > left_.size()) {
    left_ = {};
    ok_ = false;
    return {};
  }
  std::string_view out = left_.substr(0, static_cast<std::size_t>(size));
  left_.remove_prefix(out.size());
  return out;
}

HAILWIRE_INLINE message live_reader::content() {
  message m;
  m.at = static_cast<std::int64_t>(number());
  m.from = text();
  m.type = text();
  const std::uint64_t kind = number();
  std::string_view media = text(), bytes = text();
  switch (kind) {
    case static_cast<std::uint64_t>(payload::kind::json):
      m.data = payload::json(bytes);
      break;
    case static_cast<std::uint64_t>(payload::kind::text):
      m.data = payload::text(bytes, media);
      break;
    case static_cast<std::uint64_t>(payload::kind::binary):
      m.data = payload::binary(bytes, media);
      break;
    default:
      ok_ = false;
  }
  return m;
}

}  // namespace hailwire::detail
