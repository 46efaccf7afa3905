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
  step read(std::span<char>& in) {
    if (!has_head_) {
      do {
        const std::size_t before = text_.size();
        text_.append(in.data(), in.size());
        const auto p = parser_.parse(text_, head_);
        if (p == progress::failed) return step::failed;
        if (p == progress::need_more) {
          in = in.last(0);
          return step::need_more;
        }
        began_ = true;
        in = in.subspan(parser_.size() - before);  // what was there before was not the whole of it
        text_.resize(parser_.size());              // in place: `head_` looks into it
        if (!head_.interim()) break;
        text_.clear();
        parser_.reset();
      } while (true);
      has_head_ = true;
      reader_ = body_reader(head_, method_);
      return step::head;
    }
    std::string_view rest(in.data(), in.size());
    const auto p = reader_.read(rest, body, most_);
    in = in.last(rest.size());
    return p == progress::done ? step::done : p == progress::failed ? step::failed : step::need_more;
  }

  /// The connection has ended: `done` where that is the body's end, else `failed`.
  step end() {
    if (has_head_ && reader_.end() == progress::done) return step::done;
    return step::failed;
  }

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
