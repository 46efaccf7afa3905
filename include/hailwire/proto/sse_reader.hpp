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
  progress next(std::string_view& in, sse_event& out) {
    if (failed_) return progress::failed;
    if (handed_out_) {
      data_.clear();
      type_.clear();
      handed_out_ = false;
    }
    while (!in.empty()) {
      if (skip_lf_) {
        skip_lf_ = false;
        if (in[0] == '\n') {
          in.remove_prefix(1);
          continue;
        }
      }
      const auto end = in.find_first_of("\r\n");
      if (end == in.npos) {
        if (in.size() > most_ - std::min(line_.size(), most_)) return fail();
        line_ += in;
        in.remove_prefix(in.size());
        break;
      }
      auto line = in.substr(0, end);
      skip_lf_ = in[end] == '\r';
      in.remove_prefix(end + 1);
      if (line.size() > most_ - std::min(line_.size(), most_)) return fail();
      const bool whole = line_.empty();
      if (!whole) line = line_ += line;
      const bool fits = take_line(line);
      line_.clear();
      if (!fits) return fail();
      if (!ready_) continue;
      ready_ = false;
      handed_out_ = true;
      out = {type_, data_, id_};
      return progress::event;
    }
    return progress::need_more;
  }

  /// The newest `retry:` in milliseconds, if there was one.
  std::optional<std::uint32_t> retry() const noexcept { return retry_; }

 private:
  progress fail() noexcept {
    failed_ = true;
    return progress::failed;
  }

  /// False when the event has become too large.
  bool take_line(std::string_view line) {
    if (first_) {  // a byte order mark is passed over, at the very beginning alone
      first_ = false;
      if (line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
    }
    if (line.empty()) {
      // Without data there is no event, and its type is forgotten.
      ready_ = has_data_;
      if (!has_data_) type_.clear();
      has_data_ = false;
      return true;
    }
    if (line[0] == ':') return true;
    const auto colon = line.find(':');
    const auto name = line.substr(0, colon);
    auto value = colon == line.npos ? std::string_view() : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (name == "data") {
      if (value.size() + has_data_ > most_ - std::min(data_.size(), most_)) return false;
      if (has_data_) data_ += '\n';
      data_ += value;
      has_data_ = true;
    } else if (name == "event") {
      type_ = value;
    } else if (name == "id") {
      if (value.find('\0') == value.npos) id_ = value;
    } else if (name == "retry") {
      if (!value.empty() && value.find_first_not_of("0123456789") == value.npos) {
        std::uint64_t n = 0;
        for (char c : value) n = std::min<std::uint64_t>(n * 10 + static_cast<unsigned>(c - '0'), UINT32_MAX);
        retry_ = static_cast<std::uint32_t>(n);
      }
    }
    return true;
  }

  std::string line_;              // what has come of a line that is cut
  std::string data_, type_, id_;  // of the event that is arriving
  std::size_t most_;
  std::optional<std::uint32_t> retry_;
  bool has_data_ = false, ready_ = false, handed_out_ = false;
  bool skip_lf_ = false;  // the last line ended with a CR
  bool first_ = true, failed_ = false;
};

}  // namespace hailwire::proto
