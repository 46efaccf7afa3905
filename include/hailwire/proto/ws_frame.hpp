// SPDX-License-Identifier: BSL-1.0
#pragma once

// The frames of WebSocket (RFC 6455, section 5), without any state: writing them in either role, reading a head, masks
// and close codes. What may follow what is `ws_connection`'s business.

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "hailwire/detail/base/simd.hpp"
#include "hailwire/detail/base/text.hpp"

namespace hailwire::proto {

/// What a frame is (RFC 6455, section 5.2). Values with bit 3 set are control frames.
enum class ws_opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

constexpr bool is_control(ws_opcode o) noexcept { return static_cast<std::uint8_t>(o) & 8; }

/// The largest payload of a control frame, in bytes (RFC 6455, section 5.5).
inline constexpr std::size_t max_control_size = 125;

/// The longest head of a frame: two bytes, a 64-bit length, a mask (RFC 6455, section 5.2).
inline constexpr std::size_t max_frame_head = 14;

/// Close codes that have a meaning of their own to a receiver (RFC 6455, section 7.4.1). The last two never travel.
inline constexpr std::uint16_t ws_normal = 1000, ws_protocol_error = 1002, ws_bad_data = 1007, ws_policy = 1008,
                               ws_too_big = 1009, ws_internal = 1011, ws_no_code = 1005, ws_abnormal = 1006;

/// Whether `code` may stand in a close frame: those of RFC 6455, section 7.4.1, and IANA's registry (1012–1014), which
/// can travel, and 3000–4999 of libraries and applications (section 7.4.2).
constexpr bool valid_close_code(std::uint16_t code) noexcept {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

namespace ws_detail {
inline void append_head(std::string& out, ws_opcode what, std::uint64_t size, bool fin, bool rsv1, bool masked) {
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
}  // namespace ws_detail

/// Appends the head of a server's frame; `size` bytes of payload are to follow. The length takes its shortest form.
/// Precondition: a control frame is final and has at most 125 bytes; `size` is below 2^63.
inline void append_frame_header(std::string& out, ws_opcode what, std::uint64_t size, bool fin = true,
                                bool rsv1 = false) {
  assert(!is_control(what) || (fin && !rsv1 && size <= max_control_size));
  ws_detail::append_head(out, what, size, fin, rsv1, false);
}

/// Appends a server's whole frame. Preconditions as for `append_frame_header`.
inline void append_frame(std::string& out, ws_opcode what, std::string_view payload, bool fin = true,
                         bool rsv1 = false) {
  append_frame_header(out, what, payload.size(), fin, rsv1);
  out += payload;
}

/// XORs `size` bytes with the mask `key` (RFC 6455, section 5.3) in place: masks and unmasks. `key` holds the four
/// bytes of the wire in memory order; `phase` is the place of the first byte within its frame's payload.
inline void unmask(char* data, std::size_t size, std::uint32_t key, std::size_t phase = 0) noexcept {
  hailwire::detail::xor_bytes(data, size, key, phase);
}

/// `unmask` of a whole payload, and in the same pass whether the bytes that come out are UTF-8.
inline bool unmask_utf8(char* data, std::size_t size, std::uint32_t key) noexcept {
  return hailwire::detail::xor_bytes(data, size, key, 0) || valid_utf8({data, size});
}

/// Appends a client's whole frame, masked with `key`, which must be fresh and hard to guess for every frame (RFC 6455,
/// section 5.3). Preconditions as for `append_frame_header`.
inline void append_masked_frame(std::string& out, ws_opcode what, std::string_view payload, std::uint32_t key,
                                bool fin = true, bool rsv1 = false) {
  assert(!is_control(what) || (fin && !rsv1 && payload.size() <= max_control_size));
  ws_detail::append_head(out, what, payload.size(), fin, rsv1, true);
  out.append(reinterpret_cast<const char*>(&key), 4);
  std::size_t start = out.size();
  out += payload;
  unmask(out.data() + start, payload.size(), key);
}

/// The payload of a close frame: the code, then as much of `reason` (UTF-8) as fits in 123 bytes without splitting a
/// character; of one that is not UTF-8 nothing (section 5.5.1). Empty for 1005, which says that there is no code.
/// Precondition: 1005, or `valid_close_code(code)`.
inline std::string close_payload(std::uint16_t code, std::string_view reason = {}) {
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

/// Appends a server's close frame; an answer to a close event takes the event's own code. See `close_payload`.
inline void append_close(std::string& out, std::uint16_t code, std::string_view reason = {}) {
  append_frame(out, ws_opcode::close, close_payload(code, reason));
}
inline void append_text(std::string& out, std::string_view utf8) { append_frame(out, ws_opcode::text, utf8); }
inline void append_binary(std::string& out, std::string_view bytes) { append_frame(out, ws_opcode::binary, bytes); }
/// Precondition, here and for `append_pong`: at most 125 bytes.
inline void append_ping(std::string& out, std::string_view bytes = {}) { append_frame(out, ws_opcode::ping, bytes); }
inline void append_pong(std::string& out, std::string_view bytes) { append_frame(out, ws_opcode::pong, bytes); }

/// A frame's head as it stands on the wire; nothing in it has been judged.
struct ws_frame_head {
  ws_opcode what = ws_opcode::continuation;  ///< any of the 16 values, also reserved ones
  std::uint8_t reserved = 0;                 ///< RSV1 is 4, RSV2 is 2, RSV3 is 1
  bool fin = false, masked = false;
  std::uint32_t key = 0;   ///< the mask's four bytes in memory order; 0 without one
  std::uint64_t size = 0;  ///< payload bytes
};

/// How many bytes the head that begins with these `n` has as far as they tell: 2 until the second is there.
inline std::size_t frame_head_size(const char* bytes, std::size_t n) noexcept {
  if (n < 2) return 2;
  auto second = static_cast<unsigned char>(bytes[1]);
  std::size_t length = second & 0x7F;
  return 2u + (length == 127 ? 8u : length == 126 ? 2u : 0u) + (second & 0x80 ? 4u : 0u);
}

/// Reads the head at the front of `in`. Returns its size in bytes, or 0 when `in` ends before it does.
inline std::size_t read_frame_head(std::string_view in, ws_frame_head& head) noexcept {
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
