// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/sse_reader.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE sse_reader::progress sse_reader::next(std::string_view& in, sse_event& out) {
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

HAILWIRE_INLINE sse_reader::progress sse_reader::fail() noexcept {
  failed_ = true;
  return progress::failed;
}

HAILWIRE_INLINE bool sse_reader::take_line(std::string_view line) {
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

}  // namespace hailwire::proto
