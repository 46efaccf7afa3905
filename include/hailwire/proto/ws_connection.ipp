// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/ws_connection.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE ws_connection::ws_connection(ws_role role, const ws_limits& limits) noexcept
    : most_(static_cast<std::uint32_t>(std::min<std::size_t>(limits.message, unbounded))),
      empty_fragments_(limits.empty_fragments),
      role_(role),
      over_(false) {}

HAILWIRE_INLINE ws_event ws_connection::next(std::span<char>& in, ws_inflater* inflater) {
  if (part_ && part_->handed_out) release();
  if (over_) return in = in.last(0), ws_event{};
  if (ws_event message; take_message(in, message)) return message;
  for (;;) {
    if (!part_ || !part_->in_frame) {
      ws_frame_head head;
      fault wrong;
      if (!take_head(in, head, wrong, inflater)) return wrong.code ? fail(in, wrong) : ws_event{};
      bool alone = is_control(head.what) || (head.fin && !(head.reserved & 4) && head.what != ws_opcode::continuation);
      if (alone && head.size <= in.size()) {
        auto payload = in.first(static_cast<std::size_t>(head.size));
        in = in.subspan(payload.size());
        return whole(in, head.what, payload, head.key);
      }
      if (wrong = begin_frame(head); wrong.code) return fail(in, wrong);
    }

    partial& p = *part_;
    auto chunk = in.first(static_cast<std::size_t>(std::min<std::uint64_t>(p.left, in.size())));
    in = in.subspan(chunk.size());
    if (p.masked) unmask(chunk.data(), chunk.size(), p.key, p.phase);
    p.phase = static_cast<std::uint8_t>((p.phase + chunk.size()) & 3);
    p.left -= chunk.size();
    std::string_view bytes(chunk.data(), chunk.size());
    if (is_control(p.frame)) {
      p.buffer += bytes;
      if (p.left) return {};
      p.in_frame = false;
      p.handed_out = true;
      return control(in, p.frame, std::string_view(p.buffer).substr(p.message_size));
    }
    if (fault wrong = take_data(p, bytes, inflater); wrong.code) return fail(in, wrong);
    if (p.left) return {};
    p.in_frame = false;
    if (!p.fin) continue;
    if (p.message == ws_opcode::text && !p.text.complete()) return fail(in, bad_text);
    p.handed_out = true;
    p.message_over = true;
    return {p.message == ws_opcode::text ? ws_event::type::text : ws_event::type::binary, p.buffer, 0};
  }
}

HAILWIRE_INLINE void ws_connection::release() noexcept {
  part_->handed_out = false;
  if (over_ || part_->message_over || !in_message())
    part_.reset();
  else
    part_->buffer.resize(part_->message_size);
}

HAILWIRE_INLINE ws_connection::fault ws_connection::judge(const char* bytes, std::size_t n,
                                                          const ws_inflater* inflater) const noexcept {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (n < 1) return {};
  bool fin = byte(0) & 0x80, rsv1 = byte(0) & 0x40;
  auto what = static_cast<ws_opcode>(byte(0) & 0x0F);
  // Section 5.2: bits and opcodes that no extension has given a meaning.
  if ((byte(0) & 0x30) || (rsv1 && !inflater)) return {ws_protocol_error, "a reserved bit is set"};
  if (!(0x0707 >> (byte(0) & 0x0F) & 1)) return {ws_protocol_error, "a reserved opcode"};
  if (is_control(what)) {
    if (!fin) return {ws_protocol_error, "a control frame is fragmented"};  // section 5.5
    if (rsv1) return {ws_protocol_error, "a control frame is compressed"};  // RFC 7692, section 6.1
  } else if (what == ws_opcode::continuation) {
    if (!in_message()) return {ws_protocol_error, "a continuation without a beginning"};  // section 5.4
    if (rsv1) return {ws_protocol_error, "RSV1 stands in a continuation"};                // RFC 7692, section 6.1
  } else if (in_message()) {
    return {ws_protocol_error, "a message begins within another"};  // section 5.4
  }
  if (n < 2) return {};
  bool masked = byte(1) & 0x80;
  std::uint64_t size = byte(1) & 0x7F;
  if (masked != (role_ == ws_role::server)) {  // section 5.1
    return {ws_protocol_error, masked ? "a server's frame is masked" : "a client's frame is not masked"};
  }
  if (is_control(what)) {
    if (size > max_control_size) return {ws_protocol_error, "a control frame is longer than 125 bytes"};
    if (what == ws_opcode::close && size == 1) return {ws_protocol_error, "a close code has one byte"};
    return {};
  }
  // Section 5.2: the shortest form that holds the length, and no more than 63 bits.
  if (size >= 126) {
    std::size_t extended = size == 127 ? 8 : 2;
    if (extended == 8 && n > 2 && (byte(2) & 0x80)) return {ws_protocol_error, "a length has more than 63 bits"};
    if (n < 2 + extended) return {};
    size = 0;
    for (std::size_t i = 0; i < extended; ++i) size = size << 8 | byte(2 + i);
    if (size < (extended == 8 ? 0x10000u : 126u)) return {ws_protocol_error, "a length is not in its shortest form"};
  }
  bool compressed = what == ws_opcode::continuation ? part_->compressed : rsv1;
  std::uint64_t most = most_, before = 0;
  if (compressed) {
    // What the message inflates to is bounded as it is made; this refuses what cannot be meant well. A sender that
    // flushes after each single byte needs 8 bytes for it, none needs more.
    most = most * 8 + 64;
    before = part_ ? part_->wire : 0;
  } else if (in_message()) {
    before = part_->buffer.size();
  }
  if (size > most - std::min(before, most) && most_ != unbounded) return {ws_too_big, "a message is too big"};
  return {};
}

HAILWIRE_INLINE bool ws_connection::take_message(std::span<char>& in, ws_event& out) noexcept {
  if (part_ || in.size() < 2) return false;
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(in[i]); };
  const bool masked = role_ == ws_role::server;
  std::size_t size = byte(1) ^ (masked ? 0x80u : 0u), head = 2;
  const auto what = static_cast<ws_opcode>(byte(0) ^ 0x80u);  // of a whole message, without reserved bits
  if (what != ws_opcode::text && what != ws_opcode::binary) return false;
  if (size == 126 && in.size() >= 4) {
    size = std::size_t{byte(2)} << 8 | byte(3), head = 4;
    if (size < 126) return false;
  } else if (size > 125) {
    return false;
  }
  if (masked) head += 4;
  if (size > most_ || in.size() < head + size) return false;
  std::uint32_t key = 0;
  if (masked) std::memcpy(&key, in.data() + head - 4, 4);
  char* const data = in.data() + head;
  in = in.subspan(head + size);
  if (what == ws_opcode::binary) {
    unmask(data, size, key);
    out.what = ws_event::type::binary;
  } else if (unmask_utf8(data, size, key)) {
    out.what = ws_event::type::text;
  } else {
    return out = fail(in, bad_text), true;
  }
  out.data = {data, size};
  return true;
}

HAILWIRE_INLINE ws_event ws_connection::whole(std::span<char>& in, ws_opcode what, std::span<char> payload,
                                              std::uint32_t key) noexcept {
  std::string_view data(payload.data(), payload.size());
  if (what == ws_opcode::text) {
    if (!unmask_utf8(payload.data(), payload.size(), key)) return fail(in, bad_text);
    return {ws_event::type::text, data, 0};
  }
  if (key != 0) unmask(payload.data(), payload.size(), key);
  if (what == ws_opcode::binary) return {ws_event::type::binary, data, 0};
  return control(in, what, data);
}

HAILWIRE_INLINE bool ws_connection::take_head(std::span<char>& in, ws_frame_head& head, fault& wrong,
                                              const ws_inflater* inflater) {
  if (!part_ || part_->head_size == 0) {
    std::size_t n = frame_head_size(in.data(), in.size());
    if (wrong = judge(in.data(), std::min(n, in.size()), inflater); wrong.code) return false;
    if (std::size_t size = read_frame_head({in.data(), in.size()}, head)) return in = in.subspan(size), true;
    if (in.empty()) return false;
    if (!part_) part_ = std::unique_ptr<partial>(new partial());
    std::memcpy(part_->head, in.data(), in.size());
    part_->head_size = static_cast<std::uint8_t>(in.size());
    in = in.last(0);
    return false;
  }
  partial& p = *part_;
  for (;;) {
    std::size_t size = frame_head_size(p.head, p.head_size);
    if (p.head_size >= size) break;
    std::size_t n = std::min(size - p.head_size, in.size());
    if (n == 0) return false;
    std::memcpy(p.head + p.head_size, in.data(), n);
    p.head_size = static_cast<std::uint8_t>(p.head_size + n);
    in = in.subspan(n);
    if (wrong = judge(p.head, p.head_size, inflater); wrong.code) return false;
  }
  read_frame_head({p.head, p.head_size}, head);
  p.head_size = 0;
  if (!in_message()) part_.reset();
  return true;
}

HAILWIRE_INLINE ws_connection::fault ws_connection::begin_frame(const ws_frame_head& head) {
  if (!part_) part_ = std::unique_ptr<partial>(new partial());
  partial& p = *part_;
  p.frame = head.what;
  p.left = head.size;
  p.key = head.key;
  p.masked = head.masked;
  p.phase = 0;
  p.in_frame = true;
  if (is_control(head.what)) {
    p.message_size = p.buffer.size();
    return {};
  }
  p.fin = head.fin;
  if (head.what != ws_opcode::continuation) {
    p.message = head.what;
    p.compressed = head.reserved & 4;
  }
  p.wire += head.size;
  if (head.size == 0 && !head.fin && ++p.empty > empty_fragments_) {
    return {ws_policy, "a message has too many empty fragments"};
  }
  return {};
}

HAILWIRE_INLINE ws_connection::fault ws_connection::take_data(partial& p, std::string_view bytes,
                                                              ws_inflater* inflater) {
  std::size_t before = p.buffer.size();
  auto progress = ws_inflater::progress::ok;
  if (p.compressed) {
    bool end = p.fin && p.left == 0;
    if (end || !bytes.empty()) progress = inflater->inflate(bytes, end, p.buffer, largest());
  } else {
    p.buffer += bytes;
  }
  // Before the inflater's own complaint, because it came earlier in the message.
  if (p.message == ws_opcode::text && !p.text.feed(std::string_view(p.buffer).substr(before))) return bad_text;
  switch (progress) {
    case ws_inflater::progress::ok:
      return {};
    case ws_inflater::progress::too_big:
      return {ws_too_big, "a message is too big"};
    case ws_inflater::progress::corrupt:
      return {ws_bad_data, "a compressed message cannot be inflated"};
    default:
      return {ws_internal, "out of memory"};
  }
}

HAILWIRE_INLINE ws_event ws_connection::control(std::span<char>& in, ws_opcode what, std::string_view data) {
  if (what == ws_opcode::ping) return {ws_event::type::ping, data, 0};
  if (what == ws_opcode::pong) return {ws_event::type::pong, data, 0};
  if (data.empty()) return finish(in), ws_event{ws_event::type::close, {}, ws_no_code};
  auto code =
      static_cast<std::uint16_t>(static_cast<unsigned char>(data[0]) << 8 | static_cast<unsigned char>(data[1]));
  if (!valid_close_code(code)) return fail(in, {ws_protocol_error, "a close code that must not travel"});
  if (!valid_utf8(data.substr(2))) return fail(in, {ws_bad_data, "a close reason is not UTF-8"});
  return finish(in), ws_event{ws_event::type::close, data.substr(2), code};
}

HAILWIRE_INLINE void ws_connection::finish(std::span<char>& in) noexcept {
  over_ = true;
  in = in.last(0);
  // A close frame's reason may lie in the block; then it goes with the next call.
  if (part_ && !part_->handed_out) part_.reset();
}

HAILWIRE_INLINE ws_event ws_connection::fail(std::span<char>& in, fault wrong) noexcept {
  over_ = true;
  in = in.last(0);
  part_.reset();
  return {ws_event::type::failed, wrong.why, wrong.code};
}

}  // namespace hailwire::proto
