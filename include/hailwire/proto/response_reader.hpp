// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/proto/http1_response.hpp"

namespace hailwire::proto::http1 {

/// Reads one response, head and body, and keeps both. Interim responses (RFC 9110, section 15.2) are passed over. For
/// bodies that never end, such as event streams, take what has come out of `body` behind each call.
class response_reader {
 public:
  enum class step : std::uint8_t {
    need_more,
    head,    ///< told once: `head()` is there; call again for the body
    done,    ///< the body is whole; what is left of the input is the next response's
    failed,  ///< see `error()`; stays so
  };

  /// `method` is the request's, with static lifetime. `most`: bytes of the body.
  response_reader(std::string_view method, std::uint64_t most) : method_(method), most_(most) {}

  /// Takes bytes from the front of `in`.
  step read(std::span<char>& in);

  /// The connection has ended: `done` where that is the body's end, else `failed`.
  step end();

  const response_head& head() const noexcept { return head_; }
  bool has_head() const noexcept { return has_head_; }
  /// Whether any byte of a response has come.
  bool began() const noexcept { return began_ || !text_.empty(); }
  /// Whether the connection may serve another request behind this response.
  bool keeps_connection() const noexcept { return has_head_ && head_.keep_alive && !reader_.to_end(); }
  /// After `failed` of `read`: what was wrong.
  const failure& error() const noexcept { return has_head_ ? reader_.error() : parser_.error(); }

  std::string body;

 private:
  std::string_view method_;
  std::uint64_t most_;
  std::string text_;  // of the head
  response_parser parser_;
  response_head head_;
  body_reader reader_;
  bool has_head_ = false, began_ = false;
};

}  // namespace hailwire::proto::http1

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/response_reader.ipp"
#endif
