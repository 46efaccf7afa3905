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
  ws_connection(ws_role role, const ws_limits& limits) noexcept;

  /// Takes bytes from the front of `in` until one event is there or `in` is used up (`none`). Unmasks in place: bytes
  /// that were taken are no longer what they were. Throws only `std::bad_alloc`. `inflater` is the connection's, the
  /// same in every call; without one compressed messages are refused (RFC 7692, section 6, and RFC 6455, section 5.2).
  ws_event next(std::span<char>& in, ws_inflater* inflater = nullptr);

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
  void release() noexcept;

  /// What is wrong with a frame whose first `n` bytes these are, in the order in which they came.
  fault judge(const char* bytes, std::size_t n, const ws_inflater* inflater) const noexcept;

  /// The whole way of what most frames are: a message of less than 64 KiB in one frame that lies whole in the input and
  /// of which `judge` would find nothing wrong. False: there is none, and nothing was taken.
  bool take_message(std::span<char>& in, ws_event& out) noexcept;

  /// The event of a frame that lies whole in the input and is a whole message or a control frame. A server's frame has
  /// the key 0, which changes nothing.
  ws_event whole(std::span<char>& in, ws_opcode what, std::span<char> payload, std::uint32_t key) noexcept;

  /// Takes a whole head off `in`. False when it has not arrived (what there is is kept) or is `wrong`.
  bool take_head(std::span<char>& in, ws_frame_head& head, fault& wrong, const ws_inflater* inflater);

  fault begin_frame(const ws_frame_head& head);

  /// Takes the next unmasked bytes of the open message.
  fault take_data(partial& p, std::string_view bytes, ws_inflater* inflater);

  ws_event control(std::span<char>& in, ws_opcode what, std::string_view data);

  void finish(std::span<char>& in) noexcept;

  ws_event fail(std::span<char>& in, fault wrong) noexcept;

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

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/ws_connection.ipp"
#endif
