// SPDX-License-Identifier: BSL-1.0
#pragma once

// A connection from a proxy that announces its client (proto/proxy_header.hpp): the announcement is taken off, then
// everything is as without it, TLS included. Just so many bytes are read as belong to it, so nothing has to be handed
// on.

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/io/driver.hpp"
#include "hailwire/proto/proxy_header.hpp"

namespace hailwire::detail {

class proxy_layer final : public stream_layer {
 public:
  /// `inner` may be null: then there is the bare descriptor behind the header.
  explicit proxy_layer(std::unique_ptr<stream_layer> inner) : inner_(std::move(inner)) {}

  io_result read(int d, std::span<char> into) override {
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
  io_result write(int d, std::span<const std::span<const char>> pieces) override {
    if (needs_ > 0) return {io_result::status::again, 0, {}};  // nobody has asked for anything yet
    return inner_ ? inner_->write(d, pieces) : write_descriptor(d, pieces);
  }
  void shut_write(int d) override {
    if (inner_ && needs_ == 0) return inner_->shut_write(d);
    ::shutdown(d, SHUT_WR);
  }
  bool wants_write() const noexcept override { return inner_ && inner_->wants_write(); }
  std::shared_ptr<const tls_peer> peer() const noexcept override { return inner_ ? inner_->peer() : nullptr; }
  std::string_view source() const noexcept override { return source_; }

 private:
  std::unique_ptr<stream_layer> inner_;
  std::string header_, source_;
  std::size_t needs_ = proto::proxy_header_start;
};

}  // namespace hailwire::detail
