// SPDX-License-Identifier: BSL-1.0
#pragma once

// What hubs tell one another live or not at all, as bytes: a letter that says what it is, then its parts one after the
// other. Numbers are LEB128 (seven bits a byte, the lowest first), texts have their size before them. A reader of an
// older version ignores letters that it does not know and what stands behind the parts that it does.

#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/message.hpp"

namespace hailwire::detail {

/// What a live-only thing is.
enum class live_kind : char {
  notice = 'n',     ///< for all followers: its name, and `{"name":…}`
  ephemeral = 'e',  ///< a message without an offset
  presence = 'p',   ///< for the other hubs alone: see `presence.hpp`
  receipt = 'r',    ///< how far a user has come: see `receipts.hpp`
  command = 'c',    ///< for the other hubs alone: see `all_nodes.hpp`
};

class live_writer {
 public:
  explicit live_writer(live_kind k) : out_(1, static_cast<char>(k)) {}
  live_writer& number(std::uint64_t n);
  live_writer& text(std::string_view s);
  live_writer& content(const message& m);
  /// Parts that were written before, as they are.
  live_writer& append(std::string_view parts) {
    out_.append(parts);
    return *this;
  }
  const std::string& bytes() const noexcept { return out_; }

 private:
  std::string out_;
};

/// Reads what may have been cut or written by somebody else: what is missing is 0 or empty, and `ok` says so.
class live_reader {
 public:
  /// `bytes` live longer than what is read from them.
  explicit live_reader(std::string_view bytes) noexcept
      : left_(bytes.empty() ? bytes : bytes.substr(1)), kind_(bytes.empty() ? 0 : bytes[0]), ok_(!bytes.empty()) {}
  live_kind kind() const noexcept { return static_cast<live_kind>(kind_); }
  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return left_.empty(); }
  std::uint64_t number() noexcept;
  std::string_view text() noexcept;
  message content();

 private:
  std::string_view left_;
  char kind_;
  bool ok_;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/live_codec.ipp"
#endif
