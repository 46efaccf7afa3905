// SPDX-License-Identifier: BSL-1.0
#pragma once

// Reads an event stream (`text/event-stream`: WHATWG HTML, section 9.2.6) as it arrives: bytes in, events out.
//
// Theory of operation. Lines end with LF, CR or CRLF, and a CR at the end of the input may be either: so a line is
// taken at its CR at once, and a LF that comes next is passed over, which means that no event waits for a byte that may
// never come. A line that lies whole in the input is read where it lies; only one that is cut is gathered. An event is
// handed out at the blank line behind it.
//
// Where the standard decodes UTF-8 with replacement characters, this reader passes the bytes on: what is in them is
// JSON, and whoever reads that is strict.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/error.hpp"

namespace hailwire::proto {

/// One event. Views are valid until the next call of `next`.
struct sse_event {
  std::string_view type;  ///< empty: `message`
  std::string_view data;  ///< its lines joined by LF
  std::string_view id;    ///< the newest `id` of the stream up to here, its own or an earlier event's
};

/// Reads one event stream. Distinct objects are independent; one object is for one thread at a time.
class sse_reader {
 public:
  enum class progress : std::uint8_t {
    need_more,  ///< the input is used up
    event,      ///< one event; call again with what is left
    failed,     ///< a line or an event is over the limit; stays so
  };

  /// `most`: bytes of one event's data, type and id, and of one line.
  explicit sse_reader(std::size_t most) noexcept : most_(most) {}

  /// Takes bytes from the front of `in` until one event is there or `in` is used up.
  progress next(std::string_view& in, sse_event& out);

  /// The newest `retry:` in milliseconds, if there was one.
  std::optional<std::uint32_t> retry() const noexcept { return retry_; }

 private:
  progress fail() noexcept;

  /// False when the event has become too large.
  bool take_line(std::string_view line);

  std::string line_;              // what has come of a line that is cut
  std::string data_, type_, id_;  // of the event that is arriving
  std::size_t most_;
  std::optional<std::uint32_t> retry_;
  bool has_data_ = false, ready_ = false, handed_out_ = false;
  bool skip_lf_ = false;  // the last line ended with a CR
  bool first_ = true, failed_ = false;
};

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/sse_reader.ipp"
#endif
