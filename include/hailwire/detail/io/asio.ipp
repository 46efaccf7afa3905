// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/io/asio.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

HAILWIRE_INLINE std::pair<std::shared_ptr<driver>, strand> make_asio_driver(const net::any_io_executor& ex) {
  auto made = std::make_shared<asio_driver<strand>>(ex);
  made->start();
  return {made, made->executor()};
}

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
