// SPDX-License-Identifier: BSL-1.0
// Compiled twice, once on each Asio.
#include "meet.hpp"

#include <memory>
#include <thread>
#include <typeinfo>

#include "hailwire/adopt_stream.hpp"
#include "hailwire/hailwire.hpp"
#include "hailwire/threads.hpp"
#ifdef HAILWIRE_USE_BOOST_ASIO
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#define MEET meet_boost
#else
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#define MEET meet_standalone
#endif

met MEET(hailwire::memory_storage& shared) {
  using everything = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;
  struct both {
    explicit both(hailwire::memory_storage& s) : live(io, s) {}
    hailwire::net::io_context io;
    everything live;
    hailwire::threaded_server<hailwire::sse> threads{1};
  };
  auto b = std::make_shared<both>(shared);
  // Instantiates what is a template on the Asio in use.
  if (shared.read("never", 0, {}).head) {
    hailwire::adopt_stream(b->live, hailwire::net::ip::tcp::socket(b->io));
    everything portable(hailwire::portable, b->io);
  }
  return {[b] { b->io.run(); }, [] { return std::string(typeid(everything).name()); },
          [b](std::string_view channel, hailwire::payload p) {
            if (b->live.publish(std::string(channel), std::move(p),
                                [b](std::error_code, hailwire::position) { b->live.stop(); }))
              b->live.stop();
          }};
}
