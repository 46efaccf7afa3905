// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/ws_frame.hpp"

namespace hailwire::proto::ws_detail {

HAILWIRE_INLINE void append_head(std::string& out, ws_opcode what, std::uint64_t size, bool fin, bool rsv1,
                                 bool masked) {
  char head[10];
  std::size_t n = 2;
  head[0] = static_cast<char>((fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0) | static_cast<int>(what));
  auto big_endian = [&](int bytes) {
    for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) head[n++] = static_cast<char>(size >> shift & 0xFF);
  };
  int length = 127;
  if (size < 126) {
    length = static_cast<int>(size);
  } else if (size <= 0xFFFF) {
    length = 126;
    big_endian(2);
  } else {
    big_endian(8);
  }
  head[1] = static_cast<char>((masked ? 0x80 : 0) | length);
  out.append(head, n);
}

}  // namespace hailwire::proto::ws_detail

namespace hailwire::proto {

HAILWIRE_INLINE void append_frame_header(std::string& out, ws_opcode what, std::uint64_t size, bool fin, bool rsv1) {
  assert(!is_control(what) || (fin && !rsv1 && size <= max_control_size));
  ws_detail::append_head(out, what, size, fin, rsv1, false);
}

HAILWIRE_INLINE void append_frame(std::string& out, ws_opcode what, std::string_view payload, bool fin, bool rsv1) {
  append_frame_header(out, what, payload.size(), fin, rsv1);
  out += payload;
}

HAILWIRE_INLINE void append_masked_frame(std::string& out, ws_opcode what, std::string_view payload, std::uint32_t key,
                                         bool fin, bool rsv1) {
  assert(!is_control(what) || (fin && !rsv1 && payload.size() <= max_control_size));
  ws_detail::append_head(out, what, payload.size(), fin, rsv1, true);
  out.append(reinterpret_cast<const char*>(&key), 4);
  std::size_t start = out.size();
  out += payload;
  unmask(out.data() + start, payload.size(), key);
}

HAILWIRE_INLINE std::string close_payload(std::uint16_t code, std::string_view reason) {
  std::string out;
  if (code == ws_no_code) return out;
  assert(valid_close_code(code));
  if (!valid_utf8(reason)) reason = {};
  constexpr std::size_t room = max_control_size - 2;
  if (reason.size() > room) {
    std::size_t end = room;
    while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xC0) == 0x80) --end;
    reason = reason.substr(0, end);
  }
  out += static_cast<char>(code >> 8);
  out += static_cast<char>(code & 0xFF);
  out += reason;
  return out;
}

HAILWIRE_INLINE std::size_t frame_head_size(const char* bytes, std::size_t n) noexcept {
  if (n < 2) return 2;
  auto second = static_cast<unsigned char>(bytes[1]);
  std::size_t length = second & 0x7F;
  return 2u + (length == 127 ? 8u : length == 126 ? 2u : 0u) + (second & 0x80 ? 4u : 0u);
}

HAILWIRE_INLINE std::size_t read_frame_head(std::string_view in, ws_frame_head& head) noexcept {
  std::size_t size = frame_head_size(in.data(), in.size());
  if (in.size() < size) return 0;
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(in[i]); };
  head.what = static_cast<ws_opcode>(byte(0) & 0x0F);
  head.reserved = static_cast<std::uint8_t>(byte(0) >> 4 & 7);
  head.fin = byte(0) & 0x80;
  head.masked = byte(1) & 0x80;
  head.size = byte(1) & 0x7F;
  std::size_t extended = head.size == 127 ? 8 : head.size == 126 ? 2 : 0;
  if (extended) {
    head.size = 0;
    for (std::size_t i = 0; i < extended; ++i) head.size = head.size << 8 | byte(2 + i);
  }
  head.key = 0;
  if (head.masked) std::memcpy(&head.key, in.data() + size - 4, 4);
  return size;
}

}  // namespace hailwire::proto
