// SPDX-License-Identifier: BSL-1.0
#pragma once

// The receiving side of a WebSocket connection (RFC 6455) as a state machine: bytes in, events out, in either role.
//
// Theory of operation. There are two ways through `next`:
//  - The short one: a frame that lies whole in the input and is a whole message, or a control frame. It is judged,
//    unmasked where it lies and handed out as a view; nothing is allocated and nothing is remembered.
//  - The long one, for everything else: a head, a frame or a message that has not ended lives in a block on the heap
//    (`partial`), which is made when the first such byte comes and freed when the message has been handed out. So an
//    idle connection is two words, and a slow one costs what it has sent (at most twice that, as a string grows).
//
// All rules about heads stand in `judge`, in the order in which the bytes that break them arrive: it is asked with
// every prefix of a head, so a bad peer is found out at its first bad byte and however its bytes are cut, the answer is
// the same. Payload is unmasked, inflated and checked as it comes for the same reason: text fails at the first byte
// that cannot be UTF-8, not at the end of its frame.
//
// What a peer can make us hold is bounded: a message by `ws_limits::message`, which is held against the head before any
// payload is taken, and, when inflating, against the output as it is made; a control frame by the protocol. What a peer
// can make us do is proportional to what it sends, but a fragment without payload would be work without progress, so a
// message may have only `ws_limits::empty_fragments` of them. Pings hold nothing here: whoever reads them may answer
// just the last of those that came in one go (RFC 6455, section 5.5.3), which turns any flood into one pong a turn.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/proto/ws_frame.hpp"

namespace hailwire::proto {

/// Which end of the connection this is: a server's input must be masked, a client's must not (RFC 6455, section 5.1).
enum class ws_role : std::uint8_t { server, client };

/// How much a peer may ask of a connection.
struct ws_limits {
  /// Bytes of one message, after inflating; 4 GiB or more: without bound. 1 MiB: sixteen times the largest payload that
  /// hailwire delivers inline.
  std::size_t message = std::size_t{1} << 20;
  /// Fragments without payload in one message, apart from a final one. RFC 6455 sets no bound; streaming senders
  /// produce one now and then (a flush of nothing), and 1,024 of them are 6 KiB on the wire that say nothing.
  std::uint16_t empty_fragments = 1024;
};

/// What inflates the messages of a connection that agreed on permessage-deflate: `deflate.hpp` has one over zlib.
class ws_inflater {
 public:
  enum class progress : std::uint8_t {
    ok,       ///< all of `in` is taken
    too_big,  ///< the message would have more than `max` bytes
    corrupt,  ///< not a deflate stream, or one that does not end where the message does
    no_memory,
  };
  /// Inflates the next bytes of a message's payload and appends what they give to `out`, which holds all that the
  /// message gave before and must not grow over `max` bytes. After anything but `ok` it is not called again, and `out`
  /// has the output that came before the fault, so that how the input was cut makes no difference.
  virtual progress inflate(std::string_view in, bool end_of_message, std::string& out, std::size_t max) = 0;

 protected:
  ~ws_inflater() = default;
};

/// What a connection received.
struct ws_event {
  enum class type : std::uint8_t {
    none,    ///< the input is used up
    text,    ///< a message: valid UTF-8
    binary,  ///< a message
    ping,    ///< to be answered by a pong with the same data
    pong,
    close,   ///< the peer closes: `code` (1005 when it gave none) and its reason, valid UTF-8, in `data`
    failed,  ///< the peer broke a rule: close with `code` (1002, 1007, 1008, 1009, 1011); `data` says why, in English
  };
  type what = type::none;
  std::string_view data;  ///< valid until the next call of `next` and while its input is
  std::uint16_t code = 0;
};

/// One connection's input. After a `close` or `failed` event everything further is ignored (RFC 6455, sections 1.4 and
/// 7.1.7). Distinct objects are independent; one object is for one thread at a time.
class ws_connection {
 public:
  ws_connection(ws_role role, const ws_limits& limits) noexcept
      : most_(static_cast<std::uint32_t>(std::min<std::size_t>(limits.message, unbounded))),
        empty_fragments_(limits.empty_fragments),
        role_(role),
        over_(false) {}

  /// Takes bytes from the front of `in` until one event is there or `in` is used up (`none`). Unmasks in place: bytes
  /// that were taken are no longer what they were. Throws only `std::bad_alloc`. `inflater` is the connection's, the
  /// same in every call; without one compressed messages are refused (RFC 7692, section 6, and RFC 6455, section 5.2).
  ws_event next(std::span<char>& in, ws_inflater* inflater = nullptr) {
    if (part_ && part_->handed_out) release();
    if (over_) return in = in.last(0), ws_event{};
    if (ws_event message; take_message(in, message)) return message;
    for (;;) {
      if (!part_ || !part_->in_frame) {
        ws_frame_head head;
        fault wrong;
        if (!take_head(in, head, wrong, inflater)) return wrong.code ? fail(in, wrong) : ws_event{};
        bool alone =
            is_control(head.what) || (head.fin && !(head.reserved & 4) && head.what != ws_opcode::continuation);
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

  /// Whether nothing is half received, so that no memory is held beyond the object: false also from an event whose
  /// data lies in that memory until the next call of `next`.
  bool idle() const noexcept { return !part_; }

  /// Whether a `close` or `failed` event was given: nothing comes any more.
  bool ended() const noexcept { return over_; }

 private:
  struct fault {
    std::uint16_t code = 0;
    const char* why = "";
  };
  static constexpr fault bad_text{ws_bad_data, "a text is not UTF-8"};

  /// What a head, frame or message that has not ended holds.
  struct partial {
    std::string buffer;            // what the message has given so far, then the control frame that arrives within it
    std::size_t message_size = 0;  // how much of `buffer` is the message's while a control frame arrives
    std::uint64_t left = 0;        // payload bytes of the frame that are still to come
    std::uint64_t wire = 0;        // payload bytes of a compressed message as its heads announced them
    std::uint32_t key = 0;
    std::uint32_t empty = 0;  // fragments without payload
    utf8_checker text;
    char head[max_frame_head];
    std::uint8_t head_size = 0;
    std::uint8_t phase = 0;
    ws_opcode frame = ws_opcode::continuation;
    ws_opcode message = ws_opcode::continuation;  // text or binary while a message is open
    bool masked = false, fin = false, compressed = false;
    bool in_frame = false;      // the head is there, payload is awaited
    bool message_over = false;  // the open message has been handed out
    bool handed_out = false;    // an event's data lies in `buffer`
  };

  bool in_message() const noexcept { return part_ && part_->message != ws_opcode::continuation; }

  /// Frees what the last event was looking at.
  void release() noexcept {
    part_->handed_out = false;
    if (over_ || part_->message_over || !in_message())
      part_.reset();
    else
      part_->buffer.resize(part_->message_size);
  }

  /// What is wrong with a frame whose first `n` bytes these are, in the order in which they came.
  fault judge(const char* bytes, std::size_t n, const ws_inflater* inflater) const noexcept {
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

  /// The whole way of what most frames are: a message of less than 64 KiB in one frame that lies whole in the input and
  /// of which `judge` would find nothing wrong. False: there is none, and nothing was taken.
  bool take_message(std::span<char>& in, ws_event& out) noexcept {
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
    auto payload = in.subspan(head, size);
    in = in.subspan(head + size);
    out = whole(in, what, payload, key);
    return true;
  }

  /// The event of a frame that lies whole in the input and is a whole message or a control frame. A server's frame has
  /// the key 0, which changes nothing.
  ws_event whole(std::span<char>& in, ws_opcode what, std::span<char> payload, std::uint32_t key) noexcept {
    std::string_view data(payload.data(), payload.size());
    if (what == ws_opcode::text) {
      if (!unmask_utf8(payload.data(), payload.size(), key)) return fail(in, bad_text);
      return {ws_event::type::text, data, 0};
    }
    if (key != 0) unmask(payload.data(), payload.size(), key);
    if (what == ws_opcode::binary) return {ws_event::type::binary, data, 0};
    return control(in, what, data);
  }

  /// Takes a whole head off `in`. False when it has not arrived (what there is is kept) or is `wrong`.
  bool take_head(std::span<char>& in, ws_frame_head& head, fault& wrong, const ws_inflater* inflater) {
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

  fault begin_frame(const ws_frame_head& head) {
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

  /// Takes the next unmasked bytes of the open message.
  fault take_data(partial& p, std::string_view bytes, ws_inflater* inflater) {
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

  ws_event control(std::span<char>& in, ws_opcode what, std::string_view data) {
    if (what == ws_opcode::ping) return {ws_event::type::ping, data, 0};
    if (what == ws_opcode::pong) return {ws_event::type::pong, data, 0};
    if (data.empty()) return finish(in), ws_event{ws_event::type::close, {}, ws_no_code};
    auto code =
        static_cast<std::uint16_t>(static_cast<unsigned char>(data[0]) << 8 | static_cast<unsigned char>(data[1]));
    if (!valid_close_code(code)) return fail(in, {ws_protocol_error, "a close code that must not travel"});
    if (!valid_utf8(data.substr(2))) return fail(in, {ws_bad_data, "a close reason is not UTF-8"});
    return finish(in), ws_event{ws_event::type::close, data.substr(2), code};
  }

  void finish(std::span<char>& in) noexcept {
    over_ = true;
    in = in.last(0);
    // A close frame's reason may lie in the block; then it goes with the next call.
    if (part_ && !part_->handed_out) part_.reset();
  }

  ws_event fail(std::span<char>& in, fault wrong) noexcept {
    over_ = true;
    in = in.last(0);
    part_.reset();
    return {ws_event::type::failed, wrong.why, wrong.code};
  }

  static constexpr std::uint32_t unbounded = UINT32_MAX;
  std::size_t largest() const noexcept { return most_ == unbounded ? std::numeric_limits<std::size_t>::max() : most_; }

  std::unique_ptr<partial> part_;
  std::uint32_t most_;  // bytes of a message
  std::uint16_t empty_fragments_;
  ws_role role_ : 1;
  bool over_ : 1;
};

static_assert(sizeof(ws_connection) == 2 * sizeof(void*));

}  // namespace hailwire::proto
