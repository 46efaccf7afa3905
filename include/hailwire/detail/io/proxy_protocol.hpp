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

  HAILWIRE_INLINE io_result read(int d, std::span<char> into) override;
  HAILWIRE_INLINE io_result write(int d, std::span<const std::span<const char>> pieces) override;
  HAILWIRE_INLINE void shut_write(int d) override;
  bool wants_write() const noexcept override { return inner_ && inner_->wants_write(); }
  std::shared_ptr<const tls_peer> peer() const noexcept override { return inner_ ? inner_->peer() : nullptr; }
  std::string_view source() const noexcept override { return source_; }
  std::size_t footprint() const noexcept override { return sizeof *this + (inner_ ? inner_->footprint() : 0); }

 private:
  std::unique_ptr<stream_layer> inner_;
  std::string header_, source_;
  std::size_t needs_ = proto::proxy_header_start;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/io/proxy_protocol.ipp"
#endif
