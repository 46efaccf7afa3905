// SPDX-License-Identifier: BSL-1.0
#pragma once

// Which Asio the library is built on is said here and nowhere else: standalone Asio, or Boost's where a program defines
// HAILWIRE_USE_BOOST_ASIO (the CMake target hailwire::boost does). Everything else says `net`.
//
// Whatever has an Asio type in its layout or its interface (drivers, servers, `adopt_stream`, TLS listeners) stands in
// an inline namespace that is named after that Asio: its users write `hailwire::server` all the same, while the linker
// sees two different names, so that files built on either kind may meet in one program. The rest (payloads, hubs,
// storages, transports, codecs) knows no Asio and is the same in both: a storage serves servers of either kind.
//
//     namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE { … }
//     namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE { … }
//
// Asio's own headers are included by detail/io/net.hpp, so that what only names a server compiles none of them.

#include "hailwire/detail/base/requirements.hpp"

#ifdef HAILWIRE_USE_BOOST_ASIO
#define HAILWIRE_ASIO_NAMESPACE boost_asio
namespace boost::asio {}
#else
#define HAILWIRE_ASIO_NAMESPACE standalone_asio
namespace asio {}
#endif

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {
#ifdef HAILWIRE_USE_BOOST_ASIO
namespace net = ::boost::asio;
#else
namespace net = ::asio;
#endif
}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
