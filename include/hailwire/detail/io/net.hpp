// SPDX-License-Identifier: BSL-1.0
#pragma once

// The headers of the Asio in use, which is named in detail/base/asio_in_use.hpp, and its error code.

#include "hailwire/detail/base/asio_in_use.hpp"

#ifdef HAILWIRE_USE_BOOST_ASIO
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/asio/strand.hpp>
#include <boost/version.hpp>
#if BOOST_VERSION < 108100
#error "hailwire needs Boost 1.81 or newer when HAILWIRE_USE_BOOST_ASIO is defined"
#endif
#else
#include <asio/any_io_executor.hpp>
#include <asio/basic_waitable_timer.hpp>
#include <asio/bind_executor.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/posix/basic_stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/socket_base.hpp>
#include <asio/strand.hpp>
#endif

#include <concepts>
#include <system_error>

#ifdef HAILWIRE_USE_BOOST_ASIO
#define HAILWIRE_ANOTHER_ASIO                                                                           \
  "hailwire: this belongs to standalone Asio, and this file is compiled for Boost.Asio: do not define " \
  "HAILWIRE_USE_BOOST_ASIO and link hailwire::hailwire in place of hailwire::boost, or hand over Boost's"
#else
#define HAILWIRE_ANOTHER_ASIO                                                                                \
  "hailwire: this belongs to another Asio than this file is compiled for, which is the standalone one; for " \
  "Boost.Asio "                                                                                              \
  "link hailwire::boost, or define HAILWIRE_USE_BOOST_ASIO"
#endif

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// What the Asio in use gives to handlers. Boost's turns into a `std::error_code` by itself.
#ifdef HAILWIRE_USE_BOOST_ASIO
using net_error_code = boost::system::error_code;
#else
using net_error_code = std::error_code;
#endif

template <class T>
concept executor_of_another_asio = requires(T& e) {
  e.context();
  requires !std::convertible_to<decltype(e.context()), net::execution_context&>;
};
/// An executor, or what has one (a context, a socket, a stream), of an Asio that is not the one in use.
template <class T>
concept of_another_asio = executor_of_another_asio<T> || requires(T& t) {
  { t.get_executor() } -> executor_of_another_asio;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
