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
void append_head(std::string& out, ws_opcode what, std::uint64_t size, bool fin, bool rsv1, bool masked);
}  // namespace ws_detail

/// Appends the head of a server's frame; `size` bytes of payload are to follow. The length takes its shortest form.
/// Precondition: a control frame is final and has at most 125 bytes; `size` is below 2^63.
void append_frame_header(std::string& out, ws_opcode what, std::uint64_t size, bool fin = true, bool rsv1 = false);

/// Appends a server's whole frame. Preconditions as for `append_frame_header`.
void append_frame(std::string& out, ws_opcode what, std::string_view payload, bool fin = true, bool rsv1 = false);

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
void append_masked_frame(std::string& out, ws_opcode what, std::string_view payload, std::uint32_t key, bool fin = true,
                         bool rsv1 = false);

/// The payload of a close frame: the code, then as much of `reason` (UTF-8) as fits in 123 bytes without splitting a
/// character; of one that is not UTF-8 nothing (section 5.5.1). Empty for 1005, which says that there is no code.
/// Precondition: 1005, or `valid_close_code(code)`.
std::string close_payload(std::uint16_t code, std::string_view reason = {});

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
std::size_t frame_head_size(const char* bytes, std::size_t n) noexcept;

/// Reads the head at the front of `in`. Returns its size in bytes, or 0 when `in` ends before it does.
std::size_t read_frame_head(std::string_view in, ws_frame_head& head) noexcept;

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/ws_frame.ipp"
#endif
