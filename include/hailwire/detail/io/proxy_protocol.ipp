// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/io/proxy_protocol.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE io_result proxy_layer::read(int d, std::span<char> into) {
  while (needs_ > 0) {
    std::array<char, proto::max_proxy_header> part;
    io_result r = read_descriptor(d, std::span(part).first(needs_));
    if (r.what != io_result::status::done) return r;
    header_.append(part.data(), r.bytes);
    proto::proxy_header said;
    auto progress = proto::read_proxy_header(header_, said);
    if (progress.what == proto::proxy_header_progress::state::failed)
      return {io_result::status::failed, 0, std::make_error_code(std::errc::protocol_error)};
    needs_ = progress.size - header_.size();
    if (progress.what == proto::proxy_header_progress::state::need_more) continue;
    std::string().swap(header_);
    if (said.source.address) source_ = said.source.text();
  }
  return inner_ ? inner_->read(d, into) : read_descriptor(d, into);
}

HAILWIRE_INLINE io_result proxy_layer::write(int d, std::span<const std::span<const char>> pieces) {
  if (needs_ > 0) return {io_result::status::again, 0, {}};  // nobody has asked for anything yet
  return inner_ ? inner_->write(d, pieces) : write_descriptor(d, pieces);
}

HAILWIRE_INLINE void proxy_layer::shut_write(int d) {
  if (inner_ && needs_ == 0) return inner_->shut_write(d);
  ::shutdown(d, SHUT_WR);
}

}  // namespace hailwire::detail
