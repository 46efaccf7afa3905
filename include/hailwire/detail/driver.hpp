// SPDX-License-Identifier: BSL-1.0
#pragma once

// The driver: the only file that does input and output. It runs connections over Asio's sockets on any platform: waits for
// readability without a buffer, reads into one buffer that all connections of a server share, writes without waiting, and
// keeps one timer for the hub's wheel. A handler in flight shares ownership of what it needs, so nothing is called back
// after the server is gone.

#include <asio/any_io_executor.hpp>
#include <asio/basic_socket_acceptor.hpp>
#include <asio/basic_stream_socket.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/strand.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hailwire/detail/connection.hpp"
#include "hailwire/detail/loop.hpp"

namespace hailwire::detail {

using strand = asio::strand<asio::any_io_executor>;
using stream_socket = asio::basic_stream_socket<asio::generic::stream_protocol, strand>;
using stream_acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol, strand>;

/// A loop on a strand of the host's executor, so that the host may run it with as many threads as it likes.
class asio_loop final : public loop, public std::enable_shared_from_this<asio_loop> {
 public:
  explicit asio_loop(const asio::any_io_executor& ex) : strand_(asio::make_strand(ex)), timer_(strand_), buffer_(buffer_size) {}

  const strand& executor() const noexcept { return strand_; }
  /// What all connections read into, one after the other.
  std::span<char> buffer() noexcept { return buffer_; }

  void post(function<void()> f) override { asio::post(strand_, std::move(f)); }
  bool here() const noexcept override { return strand_.running_in_this_thread(); }
  std::int64_t now() const noexcept override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  std::int64_t unix_time() const noexcept override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  }
  void alarm(std::int64_t at) override {
    timer_.expires_at(std::chrono::steady_clock::time_point(std::chrono::milliseconds(at)));
    timer_.async_wait([self = shared_from_this()](std::error_code ec) {
      if (!ec && self->rung_) self->rung_();
    });
  }
  void on_alarm(function<void()> f) override { rung_ = std::move(f); }
  /// Nothing rings from now on.
  void retire() {
    rung_ = nullptr;
    timer_.cancel();
  }

 private:
  /// A read of this size empties what a socket usually holds; larger ones gained nothing in measurements.
  static constexpr std::size_t buffer_size = 64 * 1024;

  strand strand_;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, strand> timer_;
  std::vector<char> buffer_;
  function<void()> rung_;
};

/// A connection over a socket.
class socket_connection final : public connection {
 public:
  socket_connection(gateway& g, std::shared_ptr<asio_loop> l, stream_socket s) : connection(g), loop_(std::move(l)), socket_(std::move(s)) {
    std::error_code ignored;
    socket_.non_blocking(true, ignored);
  }

 protected:
  std::size_t write(std::span<const std::span<const char>> pieces) override {
    std::array<asio::const_buffer, 64> list;  // as many as one writev of Asio takes
    std::size_t n = 0, total = 0;
    for (auto& p : pieces) {
      if (p.empty() || n == list.size()) continue;
      list[n++] = asio::buffer(p.data(), p.size());
      total += p.size();
    }
    std::error_code ec;
    std::size_t taken = n == 1 ? socket_.write_some(asio::const_buffers_1(list[0]), ec) : socket_.write_some(std::span(list).first(n), ec);
    if (ec && ec != asio::error::would_block && ec != asio::error::try_again) {
      failed(ec);
      return 0;
    }
    // Asio takes as many buffers as it takes; what is left of a write that was not short goes at once.
    return taken;
  }
  void watch(bool readable, bool writable) override {
    want_read_ = readable;
    want_write_ = writable;
    if (want_read_ && !reading_) wait_read();
    if (want_write_ && !writing_) wait_write();
  }
  void shut_write() override {
    std::error_code ignored;
    socket_.shutdown(stream_socket::shutdown_send, ignored);
  }
  void shut() override {
    closed_ = true;
    std::error_code ignored;
    socket_.close(ignored);
  }
  std::string peer() const override {
    std::error_code ec;
    auto at = socket_.remote_endpoint(ec);
    auto family = at.data()->sa_family;
    if (ec || (family != AF_INET && family != AF_INET6)) return "unix";
    asio::ip::tcp::endpoint tcp;
    tcp.resize(at.size());
    std::memcpy(tcp.data(), at.data(), at.size());
    auto text = tcp.address().to_string();
    return (family == AF_INET6 ? '[' + text + ']' : text) + ':' + std::to_string(tcp.port());
  }

 private:
  std::shared_ptr<socket_connection> self() { return std::static_pointer_cast<socket_connection>(shared_from_this()); }

  void wait_read() {
    reading_ = true;
    socket_.async_wait(stream_socket::wait_read, [me = self()](std::error_code ec) {
      me->reading_ = false;
      if (me->closed_ || ec == asio::error::operation_aborted) return;
      if (ec) return me->failed(ec);
      me->read();
    });
  }
  void wait_write() {
    writing_ = true;
    socket_.async_wait(stream_socket::wait_write, [me = self()](std::error_code ec) {
      me->writing_ = false;
      if (me->closed_ || ec == asio::error::operation_aborted) return;
      if (ec) return me->failed(ec);
      if (me->want_write_) me->writable();
    });
  }
  void read() {
    // Two reads at most, so that one busy peer does not keep the others waiting.
    for (int round = 0; round < 2 && want_read_ && !closed_; ++round) {
      auto buffer = loop_->buffer();
      std::error_code ec;
      std::size_t n = socket_.read_some(asio::buffer(buffer.data(), buffer.size()), ec);
      if (ec == asio::error::eof) {
        want_read_ = false;
        return ended();
      }
      if (ec == asio::error::would_block || ec == asio::error::try_again || ec == asio::error::interrupted) break;
      if (ec) return failed(ec);
      receive(buffer.first(n));
      if (n < buffer.size()) break;
    }
    if (want_read_ && !reading_ && !closed_) wait_read();
  }

  std::shared_ptr<asio_loop> loop_;
  stream_socket socket_;
  bool want_read_ = false, want_write_ = false, reading_ = false, writing_ = false, closed_ = false;
};

/// Accepts connections on one socket.
class listener final : public std::enable_shared_from_this<listener> {
 public:
  listener(std::shared_ptr<asio_loop> l, gateway& g) : loop_(std::move(l)), gate_(&g), acceptor_(loop_->executor()), pause_(loop_->executor()) {}

  stream_acceptor& socket() noexcept { return acceptor_; }

  void start() {
    std::error_code ignored;
    acceptor_.non_blocking(true, ignored);
    wait();
  }
  void stop() {
    gate_ = nullptr;
    std::error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
  }

 private:
  void wait() {
    acceptor_.async_wait(stream_acceptor::wait_read, [me = shared_from_this()](std::error_code ec) {
      if (!ec && me->gate_) me->accept();
    });
  }
  void accept() {
    // A burst of connections does not keep the others waiting.
    for (int n = 0; n < 64; ++n) {
      stream_socket s(loop_->executor());
      std::error_code ec;
      acceptor_.accept(s, ec);
      if (ec == asio::error::would_block || ec == asio::error::try_again) break;
      if (ec.value() == EMFILE || ec.value() == ENFILE || ec.value() == ENOBUFS || ec.value() == ENOMEM) {
        // The waiting connection keeps the socket readable, so waiting for readability would spin.
        gate_->log(log_level::warning, "accepting paused: " + ec.message());
        pause_.expires_after(std::chrono::milliseconds(200));
        return pause_.async_wait([me = shared_from_this()](std::error_code stopped) {
          if (!stopped && me->gate_) me->accept();
        });
      }
      if (ec) continue;  // the peer was gone before it was accepted
      std::error_code ignored;
      s.set_option(asio::ip::tcp::no_delay(true), ignored);  // batching is ours; on a Unix socket there is no such thing
      std::make_shared<socket_connection>(*gate_, loop_, std::move(s))->start();
    }
    wait();
  }

  std::shared_ptr<asio_loop> loop_;
  gateway* gate_;
  stream_acceptor acceptor_;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, strand> pause_;
};

}  // namespace hailwire::detail
