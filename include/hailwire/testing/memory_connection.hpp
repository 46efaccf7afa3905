// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/connection/connection.hpp"
#include "hailwire/testing/manual_loop.hpp"

namespace hailwire::testing {

/// A connection without a socket: a test says what the client sent and looks at what it would have received. `room` is
/// how many bytes the client's side still takes; writes beyond it would block until `open_window`.
class memory_connection final : public detail::connection {
 public:
  using connection::connection;

  /// A new connection whose client has said nothing yet.
  static std::shared_ptr<memory_connection> open(detail::server_state& g) {
    auto c = std::make_shared<memory_connection>(g);
    c->start();
    return c;
  }
  /// The client sends these bytes, if the server is reading; what it is not reading waits in `unread`.
  void send(std::string_view bytes) {
    unread += bytes;
    deliver();
  }
  /// Hands over what waits, as long as the server is reading.
  void deliver() {
    while (reading && !unread.empty() && !closed) {
      std::string taken = std::exchange(unread, {});
      contained([&] { receive(taken); });
    }
  }
  /// The client takes `n` more bytes.
  void open_window(std::size_t n) {
    room = n > std::numeric_limits<std::size_t>::max() - room ? std::numeric_limits<std::size_t>::max() : room + n;
    if (waiting && room) contained([&] { writable(layer_waits_); });
  }
  /// The client sends the end of its stream.
  void send_end() {
    if (!closed) contained([&] { ended(); });
  }
  /// The connection breaks.
  void reset() {
    if (!closed) contained([&] { failed(std::make_error_code(std::errc::connection_reset)); });
  }
  /// What the client has received and not looked at yet.
  std::string take() { return std::exchange(received, {}); }

  std::string from = "203.0.113.7:4711";  ///< who is connected
  std::string received, unread;
  std::size_t room = std::numeric_limits<std::size_t>::max();
  std::size_t writes = 0;  ///< how often the server wrote
  bool reading = false, waiting = false, ended_by_server = false, closed = false;

 protected:
  std::size_t write(std::span<const std::span<const char>> pieces) override {
    ++writes;
    if (layer_waits_) return 0;
    std::size_t taken = 0;
    for (auto& p : pieces) {
      std::size_t n = std::min(p.size(), room);
      received.append(p.data(), n);
      if (room != std::numeric_limits<std::size_t>::max()) room -= n;
      taken += n;
      if (n < p.size()) break;
    }
    taken_ += taken;
    if (!withholds) acknowledged_ = taken_;
    if (seals && taken) layer_waits_ = true, hold_back();
    return taken;
  }
  void watch(bool readable, bool writable) override { reading = readable, waiting = writable; }
  void shut_write() override { ended_by_server = true; }
  void shut() override { closed = ended_by_server = true; }
  std::string peer() const override { return from; }
  bool input_waits() const noexcept override { return !unread.empty(); }
  leaving still() const noexcept override { return holds ? leaving::bytes : leaving::nothing; }
  std::uint64_t unacknowledged() const noexcept override { return taken_ - acknowledged_; }
  std::uint64_t acknowledged() const noexcept override { return acknowledged_; }
  std::int64_t silent_for() const noexcept override { return silence; }
  void keep_alive(std::chrono::seconds after) override { probed_after = after; }

 public:
  /// A layer before the socket takes what is written, and keeps its end until `leave`.
  bool seals = false;
  /// Some of that leaves, or all.
  void leave(bool all) {
    layer_waits_ = !all;
    writable(layer_waits_);
  }
  bool holds = false;  ///< whether some of what was received has not reached the client yet
  /// The client is given some of it.
  void move() { moved(); }
  /// The client's system does not acknowledge by itself what it is sent, but when told to.
  bool withholds = false;
  std::int64_t silence = 0;              ///< for so many milliseconds its system has said nothing
  std::chrono::seconds probed_after{0};  ///< what the connection has asked for, other than the server's default
  void acknowledge(std::uint64_t n) { acknowledged_ += std::min(n, unacknowledged()); }

 private:
  bool layer_waits_ = false;  // with something that it was given
  std::uint64_t taken_ = 0, acknowledged_ = 0;
};

}  // namespace hailwire::testing
