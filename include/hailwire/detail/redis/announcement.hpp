// SPDX-License-Identifier: BSL-1.0
#pragma once

// What is said about a channel over Pub/Sub (script.hpp has the form of announcements).
//
//   M ORIGIN EPOCH FIRST COUNT\n   then COUNT times SIZE SIZE\n, a head and a payload
//   L ORIGIN EPOCH AFTER\n         then the bytes of something live-only; no epoch is `-`

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/detail/redis/head.hpp"
#include "hailwire/message.hpp"

namespace hailwire::detail {

/// Reads an announcement step by step. What it gives refers to the text.
class redis_announcement {
 public:
  explicit redis_announcement(std::string_view text) : rest_(text) {
    std::string_view words[5];
    const auto end = rest_.find('\n');
    if (end == rest_.npos || !split(rest_.substr(0, end), words)) return;
    rest_.remove_prefix(end + 1);
    live_ = words[0] == "L";
    origin_ = words[1];
    epoch_ = words[2];
    std::uint64_t count = 0;
    if (origin_.empty() || !number(words[3], at_)) return;
    if (live_) {
      fine_ = words[4].empty();
      if (epoch_ == "-") epoch_ = {};
    } else {
      fine_ = words[0] == "M" && number(words[4], count) && valid_epoch(epoch_);
      left_ = count;
    }
  }

  /// Whether it is one, as far as it was read.
  bool fine() const noexcept { return fine_; }
  bool live() const noexcept { return live_; }
  std::string_view origin() const noexcept { return origin_; }
  std::string_view epoch() const noexcept { return epoch_; }
  /// The offset of the first message; without messages the newest one's; of something live-only what it stands behind.
  std::uint64_t offset() const noexcept { return at_; }
  /// Messages that are still to be read.
  std::uint64_t left() const noexcept { return left_; }
  /// The bytes of something live-only.
  std::string_view bytes() const noexcept { return rest_; }

  /// The next message. False: there is none, or it cannot be read (see `fine`).
  bool next(message& m) {
    if (!fine_ || left_ == 0) return false;
    fine_ = false;
    const auto end = rest_.find('\n');
    if (end == rest_.npos) return false;
    const auto line = rest_.substr(0, end);
    const auto space = line.find(' ');
    std::uint64_t head = 0, data = 0;
    if (space == line.npos || !number(line.substr(0, space), head) || !number(line.substr(space + 1), data))
      return false;
    rest_.remove_prefix(end + 1);
    if (head > rest_.size() || data > rest_.size() - head) return false;
    if (!read_redis_message(rest_.substr(0, head), rest_.substr(head, data), m)) return false;
    rest_.remove_prefix(head + data);
    m.offset = at_++;
    --left_;
    return fine_ = true;
  }

  /// Something live-only, as it is said.
  static std::string live(std::string_view origin, std::string_view epoch, std::uint64_t after,
                          std::string_view bytes) {
    std::string out = "L ";
    out.append(origin).append(" ").append(epoch.empty() ? "-" : epoch).append(" ");
    return out.append(std::to_string(after)).append("\n").append(bytes);
  }

 private:
  static bool split(std::string_view line, std::string_view (&words)[5]) {
    for (auto& w : words) {
      const auto end = std::min(line.find(' '), line.size());
      w = line.substr(0, end);
      line.remove_prefix(std::min(end + 1, line.size()));
    }
    return line.empty();
  }
  static bool number(std::string_view s, std::uint64_t& n) {
    const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), n);
    return ec == std::errc() && end == s.data() + s.size() && n <= max_offset;
  }
  std::string_view rest_, origin_, epoch_;
  std::uint64_t at_ = 0, left_ = 0;
  bool fine_ = false, live_ = false;
};

}  // namespace hailwire::detail
