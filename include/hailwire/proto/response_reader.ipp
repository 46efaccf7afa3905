// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/response_reader.hpp"

namespace hailwire::proto::http1 {

HAILWIRE_INLINE response_reader::step response_reader::read(std::span<char>& in) {
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

HAILWIRE_INLINE response_reader::step response_reader::end() {
  if (has_head_ && reader_.end() == progress::done) return step::done;
  return step::failed;
}

}  // namespace hailwire::proto::http1
