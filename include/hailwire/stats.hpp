// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "hailwire/error.hpp"

namespace hailwire {

/// How long something took, counted by bounds.
struct duration_histogram {
  /// The upper bounds in seconds, each included: from what memory takes to what a hung disk takes.
  static constexpr std::array<double, 12> bounds{0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003,
                                                 0.01,    0.03,    0.1,    0.3,    1,     10};
  std::array<std::uint64_t, bounds.size() + 1>
      counts{};                   ///< at or below each bound and above the one before; then above all
  std::uint64_t nanoseconds = 0;  ///< of all together

  void add(std::int64_t ns) noexcept {
    std::size_t i = 0;
    while (i < bounds.size() && static_cast<double>(ns) > bounds[i] * 1e9) ++i;
    ++counts[i];
    nanoseconds += static_cast<std::uint64_t>(ns);
  }
  std::uint64_t count() const noexcept {
    std::uint64_t n = 0;
    for (std::uint64_t c : counts) n += c;
    return n;
  }
  duration_histogram& operator+=(const duration_histogram& other) noexcept {
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
    nanoseconds += other.nanoseconds;
    return *this;
  }
};

/// What a server has done since it was made, and how it stands: counters only rise, gauges are of this moment. No
/// channel and no user is named, so it may be shown to whoever runs the machine.
struct server_stats {
  /// Sessions of one transport; of polls each request is one, open while it waits.
  struct transport {
    std::string_view name;
    std::uint64_t opened = 0;  ///< counter
    std::uint64_t open = 0;    ///< gauge
  };
  static constexpr std::size_t codes = sizeof detail::errc_table / sizeof *detail::errc_table;

  // Counters
  std::uint64_t accepted = 0;    ///< connections
  std::uint64_t published = 0;   ///< messages stored, repeats of a key not counted
  std::uint64_t failed = 0;      ///< publishes of the host or of clients that were allowed and yet not stored
  std::uint64_t deliveries = 0;  ///< messages handed to followers, each message once for each; polls included
  std::uint64_t bytes_in = 0;    ///< received from clients, TLS not counted
  std::uint64_t bytes_out = 0;   ///< taken by the system to be sent to them, TLS not counted
  std::uint64_t gaps = 0;        ///< told to followers
  std::array<std::uint64_t, codes> refused{};  ///< requests and commands answered with an error, by `errc`
  std::vector<transport> transports;           ///< in the server's order

  // Gauges
  std::uint64_t connections = 0;  ///< with a session or without
  std::uint64_t channels = 0;     ///< of which something is in memory
  std::uint64_t pending = 0;      ///< publishes and reads of history that wait for the storage or for the hub's thread
  std::uint64_t slow = 0;         ///< subscriptions that are behind their channel
  std::uint64_t lag = 0;          ///< of the slowest one: how many messages it is behind
  std::uint64_t memory =
      0;  ///< bytes that the hub holds for sessions, channels and who is behind; `options::max_memory` bounds it
  bool draining = false;

  // Histograms. Clocks cost more than a message, so one in 64 is measured.
  duration_histogram turn;     ///< the end of a loop's turn, in which messages are handed out
  duration_histogram append;   ///< from asking the storage to its answer
  duration_histogram reading;  ///< the same, for reads

  std::uint64_t sessions() const noexcept {
    std::uint64_t n = 0;
    for (const transport& t : transports) n += t.open;
    return n;
  }
  /// Adds those of another thread's server with the same transports; the larger lag counts.
  server_stats& operator+=(const server_stats& other);
};

namespace detail {

/// One event in so many is measured by a clock.
class sampler {
 public:
  static constexpr unsigned every = 64;
  bool next() noexcept { return ++seen_ % every == 0; }

 private:
  unsigned seen_ = 0;
};

}  // namespace detail

inline server_stats& server_stats::operator+=(const server_stats& other) {
  accepted += other.accepted, published += other.published, failed += other.failed;
  deliveries += other.deliveries, bytes_in += other.bytes_in, bytes_out += other.bytes_out, gaps += other.gaps;
  for (std::size_t i = 0; i < codes; ++i) refused[i] += other.refused[i];
  if (transports.size() < other.transports.size()) transports.resize(other.transports.size());
  for (std::size_t i = 0; i < other.transports.size(); ++i) {
    transports[i].name = other.transports[i].name;
    transports[i].opened += other.transports[i].opened;
    transports[i].open += other.transports[i].open;
  }
  connections += other.connections, channels += other.channels, pending += other.pending, slow += other.slow;
  if (other.lag > lag) lag = other.lag;
  memory += other.memory;
  draining = draining || other.draining;
  turn += other.turn, append += other.append, reading += other.reading;
  return *this;
}

}  // namespace hailwire
