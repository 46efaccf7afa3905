// SPDX-License-Identifier: BSL-1.0
#pragma once

// What outgoing connections take of the Asio in use beside what detail/io/net.hpp has.

#include "hailwire/detail/io/net.hpp"

#ifdef HAILWIRE_USE_BOOST_ASIO
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/steady_timer.hpp>
#else
#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/execution_context.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/prefer.hpp>
#include <asio/steady_timer.hpp>
#endif

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// The executor of what a host hands in: an execution context, or an executor itself.
template <class Context>
net::any_io_executor executor_of(Context& context) {
  if constexpr (requires { context.get_executor(); }) {
    return context.get_executor();
  } else {
    return context;
  }
}

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
