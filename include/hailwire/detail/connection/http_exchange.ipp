// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/connection/http_exchange.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE std::weak_ptr<connection*> http_exchange::here() {
  if (!here_) here_ = std::make_shared<connection*>(on_);
  return here_;
}

HAILWIRE_INLINE bool http_exchange::renew() {
  static_cast<request_state&>(*this) = request_state();
  in_.clear(), head_.clear(), query_.clear(), channels_.clear(), from_.clear(), starts_.clear();
  parser_.reset();
  tag_at_ = 0;
  return in_.capacity() <= 2048 &&
         std::max({query_.capacity(), channels_.capacity(), from_.capacity(), starts_.capacity()}) <= 16;
}

}  // namespace hailwire::detail
