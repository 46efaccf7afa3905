// SPDX-License-Identifier: BSL-1.0
#pragma once

// One outgoing connection: a name is looked up, its addresses are tried, a proxy makes a tunnel, TLS is begun, and then
// bytes go both ways. All sockets of clients are here.
//
// How it works. Bytes are read when the socket has some, into memory that all connections of the thread share, so that
// an idle one holds none. What is written within a turn is gathered and leaves by `flush`, at once if the socket takes
// it; the rest waits for the socket. What makes the connection (addresses, timer, tunnel) goes when it is made.
//
// Threads: everything on the executor. Lifetime: handlers hold the object; `close` lets go of its user.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/net/asio.hpp"
#include "hailwire/detail/net/connector.hpp"
#include "hailwire/detail/net/layer.hpp"
#include "hailwire/detail/net/resolver.hpp"
#include "hailwire/detail/net/system.hpp"
#include "hailwire/proto/http1_response.hpp"
#include "hailwire/proto/url.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// Where an outgoing connection leads.
struct outgoing_route {
  std::string host;
  std::uint16_t port = 0;
  std::optional<proto::url> proxy;                  ///< that makes the tunnel
  std::shared_ptr<const client_security> security;  ///< null: plain
};

/// One outgoing connection.
class outgoing : public std::enable_shared_from_this<outgoing> {
 public:
  /// Who uses it. None of these is called behind `close`, nor from within a call of the user's own.
  class user {
   public:
    virtual void outgoing_connected(outgoing&) = 0;
    virtual void outgoing_received(outgoing&, std::span<char>) = 0;
    /// No error: the server has ended it in order.
    virtual void outgoing_ended(outgoing&, std::error_code, std::string_view text) = 0;

   protected:
    ~user() = default;
  };

  outgoing(const net::any_io_executor& e, user& u) : socket_(e), user_(&u) {}

  void connect(outgoing_route to) {
    making_ = std::make_unique<making>();
    making_->route = std::move(to);
    const auto& r = making_->route;
    const std::string host = r.proxy ? r.proxy->host : r.host;
    name_resolver::of(socket_.get_executor())
        .resolve(host, r.proxy ? r.proxy->port : r.port, socket_.get_executor(),
                 [self = shared_from_this()](std::error_code ec, const name_resolver::endpoints& found) {
                   if (self->user_) self->resolved(ec, found);
                 });
  }

  /// Adds to what leaves at the next `flush`. Precondition: connected.
  void write(std::string_view bytes) {
    if (!layer_) {
      out_ += bytes;
    } else if (!layer_->send(bytes, out_)) {
      broken_ = true;
    }
  }
  /// `write` and `flush` in one, without a copy of what the socket takes at once.
  void send(std::string_view bytes) {
    if (!layer_ && out_.empty() && !sending_ && socket_.is_open()) {
      net_error_code ec;
      const std::size_t n = socket_.write_some(net::buffer(bytes.data(), bytes.size()), ec);
      if (ec && ec != net::error::would_block && ec != net::error::try_again) return;  // whoever reads hears of it
      bytes.remove_prefix(n);
      if (bytes.empty()) return;
    }
    write(bytes);
    flush();
  }
  /// Sends what was written, as far as the socket takes it now; the rest follows.
  void flush() {
    if (sending_ || out_.empty() || !socket_.is_open()) return;
    net_error_code ec;
    const std::size_t n = socket_.write_some(net::buffer(out_), ec);
    if (ec && ec != net::error::would_block && ec != net::error::try_again) {
      out_.clear();  // whoever reads hears of it
      return;
    }
    if (n == out_.size()) {
      std::string().swap(out_);  // an idle connection holds no buffer
      return;
    }
    out_.erase(0, n);
    sending_ = true;
    socket_.async_wait(net::ip::tcp::socket::wait_write, [self = shared_from_this()](std::error_code failed) {
      self->sending_ = false;
      if (failed) return;
      self->flush();
      if (self->closing_ && self->out_.empty()) self->shut();
    });
  }
  /// Bytes that the socket has not taken yet.
  std::size_t unsent() const noexcept { return out_.size(); }

  /// Lets go: what was written leaves if the socket takes it, the rest within what the system allows. Nothing more is
  /// heard.
  void close() {
    if (!user_) return;
    user_ = nullptr;
    if (making_ && making_->connecting) making_->connecting->cancel();
    making_.reset();
    if (layer_ && layer_->opened()) layer_->shut(out_);
    flush();
    closing_ = true;
    if (out_.empty() || !socket_.is_open()) shut();
  }
  /// Reads no more until `resume`.
  void pause() noexcept { paused_ = true; }
  void resume() {
    if (!std::exchange(paused_, false) || !user_ || making_ || reading_) return;
    wait();
  }

 private:
  struct making {
    outgoing_route route;
    std::shared_ptr<connector> connecting;
    std::string answer;  // the proxy's
  };

  void resolved(std::error_code ec, const name_resolver::endpoints& found) {
    if (ec) return end(ec, "looking up the name failed: " + ec.message());
    making_->connecting = connector::start(socket_.get_executor(), found,
                                           [self = shared_from_this()](std::error_code failed, net::ip::tcp::socket s) {
                                             if (self->user_) self->made(failed, std::move(s));
                                           });
  }
  void made(std::error_code ec, net::ip::tcp::socket s) {
    making_->connecting.reset();
    if (ec) return end(ec, {});
    socket_ = std::move(s);
    net_error_code ignored;
    socket_.set_option(net::ip::tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
    const auto& r = making_->route;
    if (r.proxy) {
      proto::url to;
      to.host = r.host;
      to.port = 0;  // so that the port is always written
      std::string at = to.authority();
      at.resize(at.rfind(':') + 1);
      proto::append_decimal(at, r.port);
      out_ = "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n";
      flush();
      return wait();
    }
    secure();
    if (user_) wait();
  }
  /// The way to the server is there.
  void secure() {
    if (!making_->route.security) return open();
    layer_ = making_->route.security->layer(making_->route.host);
    if (!layer_->start(out_)) return end(std::make_error_code(std::errc::protocol_error), layer_->error());
    flush();
  }
  void open() {
    making_.reset();
    user_->outgoing_connected(*this);
  }

  void wait() {
    if (!socket_.is_open() || reading_) return;
    reading_ = true;
    socket_.async_wait(net::ip::tcp::socket::wait_read, [self = shared_from_this()](std::error_code ec) {
      self->reading_ = false;
      if (!ec && self->user_) self->readable();
    });
  }
  void readable() {
    read_buffer buffer;
    // As much as is there, but not for ever: others of this context have something to read too.
    for (int turns = 0; turns < 16 && user_ && !paused_; ++turns) {
      net_error_code ec;
      const std::size_t n = socket_.read_some(net::buffer(buffer.data(), read_buffer::size), ec);
      if (ec == net::error::would_block || ec == net::error::try_again) break;
      if (ec) return end(ec == net::error::eof ? std::error_code() : std::error_code(ec), {});
      take({buffer.data(), n});
      if (n < read_buffer::size) break;
    }
    if (user_ && !paused_) wait();
  }
  void take(std::span<char> in) {
    if (making_ && making_->route.proxy && !layer_) {
      in = tunnel(in);
      if (in.empty() || !user_) return;
    }
    if (!layer_) return user_->outgoing_received(*this, in);
    std::string plain;
    const bool was_open = layer_->opened();
    const bool fine = layer_->receive(in, out_, plain);
    flush();
    if (!was_open && layer_->opened()) open();
    if (user_ && !plain.empty()) user_->outgoing_received(*this, {plain.data(), plain.size()});
    if (user_ && !fine)
      end(layer_->error().empty() ? std::error_code() : std::make_error_code(std::errc::protocol_error),
          layer_->error());
  }
  /// Reads the proxy's answer; what is left is the server's.
  std::span<char> tunnel(std::span<char> in) {
    auto& answer = making_->answer;
    const auto before = answer.size();
    answer.append(in.data(), in.size());
    proto::http1::response_parser parser;
    proto::http1::response_head head;
    const auto p = parser.parse(answer, head);
    if (p == proto::http1::progress::need_more) return {};
    if (p == proto::http1::progress::failed || head.status < 200 || head.status > 299) {
      end(std::make_error_code(std::errc::connection_refused),
          p == proto::http1::progress::failed ? "the proxy's answer is not HTTP"
                                              : "the proxy makes no tunnel: status " + std::to_string(head.status));
      return {};
    }
    in = in.subspan(parser.size() - before);
    making_->route.proxy.reset();
    secure();
    return in;
  }

  void end(std::error_code ec, std::string_view text) {
    auto* u = std::exchange(user_, nullptr);
    making_.reset();
    net_error_code ignored;
    socket_.close(ignored);
    if (u) u->outgoing_ended(*this, ec, text);
  }
  void shut() {
    net_error_code ignored;
    if (socket_.is_open()) socket_.shutdown(net::ip::tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
  }

  net::ip::tcp::socket socket_;
  user* user_;
  std::string out_;
  std::unique_ptr<client_layer> layer_;
  std::unique_ptr<making> making_;  // while it is made
  bool reading_ = false, sending_ = false, closing_ = false, paused_ = false, broken_ = false;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
