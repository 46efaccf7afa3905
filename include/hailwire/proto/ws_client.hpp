// SPDX-License-Identifier: BSL-1.0
#pragma once

// The client's end of a WebSocket connection (RFC 6455) from its first byte: the opening handshake and what follows it.
// Bytes in, events out; no I/O, no clock, no randomness of its own.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/error.hpp"
#include "hailwire/proto/response_reader.hpp"
#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/proto/ws_frame.hpp"
#include "hailwire/proto/ws_handshake.hpp"

namespace hailwire::proto {

/// What an agreed extension does to messages: permessage-deflate, in deflate.hpp's terms, for those who do not link it.
class ws_codec {
 public:
  virtual ~ws_codec() = default;
  virtual ws_inflater* inflater() noexcept = 0;
  /// Appends a message as a masked frame, compressed if that is worth it.
  virtual void append(std::string& out, ws_opcode what, std::string_view message, std::uint32_t mask) = 0;
};

/// How a client asks for an extension. One object for each way, with static lifetime.
struct ws_codec_offer {
  std::string (*offer)();  ///< the value of Sec-WebSocket-Extensions
  /// What the server answered: a codec, or none where it declined. `bad_request` where it chose what was not offered.
  result<std::unique_ptr<ws_codec>> (*accept)(const hailwire::detail::vector<ws_extension>& answered);
};

/// One connection. Distinct objects are independent; one object is for one thread at a time. While it is idle it holds
/// four words.
class ws_client {
 public:
  /// What came.
  struct event {
    enum class type : std::uint8_t {
      none,     ///< the input is used up
      opened,   ///< the handshake is done; `data` is the subprotocol that the server chose
      refused,  ///< the answer was another: `response()` has it, `data` says what was wrong with it
      text,     ///< from here on as `ws_event`
      binary,
      ping,
      pong,
      close,
      failed,
    };
    type what = type::none;
    std::string_view data;
    std::uint16_t code = 0;
  };

  /// `offer` is null where no extension is wanted.
  explicit ws_client(const ws_limits& limits, const ws_codec_offer* offer = nullptr);

  /// Appends the request. `nonce` is 16 random bytes; `subprotocols` is a list or empty; `headers` are whole lines. All
  /// must be fit for a request head already.
  void open(std::string& out, std::string_view target, std::string_view host, std::span<const unsigned char, 16> nonce,
            std::string_view subprotocols = {}, std::string_view headers = {});

  /// Takes bytes from the front of `in` until one event is there or `in` is used up. Unmasked as they are, messages
  /// that lie whole in the input are handed out where they lie.
  event next(std::span<char>& in);

  /// The connection has ended before the handshake was done: `refused` where its answer was one, else `none`.
  event end();

  /// Appends a message, compressed where that was agreed. Precondition: opened; text is UTF-8.
  void append(std::string& out, ws_opcode what, std::string_view message, std::uint32_t mask);
  /// Appends a close frame. Precondition: opened; 1005, or `valid_close_code(code)`.
  void append_close(std::string& out, std::uint16_t code, std::string_view reason, std::uint32_t mask) {
    append_masked_frame(out, ws_opcode::close, close_payload(code, reason), mask);
  }

  bool opened() const noexcept { return !opening_; }
  /// Whether an extension was agreed.
  bool compressed() const noexcept { return codec_ != nullptr; }
  /// After `refused`: the answer; `has_head()` is false where it could not be read.
  const http1::response_reader& response() const noexcept { return opening_->reader; }

 private:
  /// What a refusal's body may have: a problem document (RFC 9457) is small.
  static constexpr std::size_t max_refusal = std::size_t{64} << 10;

  struct opening {
    const ws_codec_offer* offer = nullptr;
    std::string key, subprotocols, subprotocol, why;
    http1::response_reader reader{"GET", max_refusal};
    bool told = false;  // refused
    bool answered = false;
  };

  static event::type kind_of(ws_event::type t) noexcept;

  event refused(std::string_view why);

  event handshake(std::span<char>& in);

  ws_connection connection_;
  std::unique_ptr<ws_codec> codec_;
  std::unique_ptr<opening> opening_;
};

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/ws_client.ipp"
#endif
