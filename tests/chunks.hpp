// SPDX-License-Identifier: BSL-1.0
// The client's end of a chunked answer (RFC 9112, section 7.1), for tests: strict, and fed with any pieces.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

/// Takes an answer whose head names the chunked coding apart; any other passes as it is. Throws `std::runtime_error`
/// where the framing is broken.
class chunk_reader {
 public:
  /// The head, when it is among these bytes, and what the chunks so far hold.
  std::string read(std::string_view bytes) {
    std::string out;
    if (!began_) {
      head_ += bytes;
      const auto end = head_.find("\r\n\r\n");
      if (!std::string_view("HTTP/1.1 ").substr(0, head_.size()).starts_with(head_.substr(0, 9))) return pass();
      if (end == head_.npos) return {};
      began_ = true;
      chunked_ = head_.substr(0, end).find("Transfer-Encoding: chunked") != head_.npos;
      if (!chunked_) return pass();
      out = head_.substr(0, end + 4);
      rest_ = head_.substr(end + 4);
    } else if (!chunked_) {
      return std::string(bytes);
    } else {
      rest_ += bytes;
    }
    for (;;) {
      if (ended) {
        if (!rest_.empty()) throw std::runtime_error("bytes behind the last chunk: " + rest_);
        return out;
      }
      if (left_) {
        const auto n = std::min(left_, rest_.size());
        out += rest_.substr(0, n);
        rest_.erase(0, n);
        if (left_ -= n; left_) return out;
        behind_ = true;
      }
      if (behind_) {
        if (rest_.size() < 2) return out;
        if (rest_.substr(0, 2) != "\r\n") throw std::runtime_error("no CRLF behind a chunk: " + rest_.substr(0, 40));
        rest_.erase(0, 2);
        behind_ = false;
        ++chunks;
      }
      const auto line = rest_.find("\r\n");
      if (line == rest_.npos) {
        if (rest_.size() > 8) throw std::runtime_error("no chunk size: " + rest_.substr(0, 40));
        return out;
      }
      std::size_t digits = 0;
      left_ = std::stoul(rest_.substr(0, line), &digits, 16);
      if (digits != line) throw std::runtime_error("a chunk size is " + rest_.substr(0, line));
      if (left_) {
        rest_.erase(0, line + 2);
        continue;
      }
      if (rest_.size() < line + 4) return out;
      if (rest_.substr(line, 4) != "\r\n\r\n") throw std::runtime_error("trailers: " + rest_);
      rest_.erase(0, line + 4);
      ended = true;
    }
  }

  /// Whether a chunk has begun that is not whole yet.
  bool inside() const noexcept { return left_ != 0 || behind_ || !rest_.empty(); }

  bool ended = false;      ///< the last chunk has come
  std::size_t chunks = 0;  ///< whole ones so far, without the last

 private:
  std::string pass() {
    began_ = true;
    chunked_ = false;
    return std::move(head_);
  }

  std::string head_, rest_;
  std::size_t left_ = 0;
  bool began_ = false, chunked_ = false, behind_ = false;
};
