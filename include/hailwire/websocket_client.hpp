// SPDX-License-Identifier: BSL-1.0
#pragma once

// A WebSocket (RFC 6455) to somebody else's server: an exchange's feed, say. Opt in by including this header; nothing
// of hailwire's own protocol is in it.
//
//     hailwire::websocket_client feed(io, "wss://example.org/feed", {.tls = hailwire::client_tls()});
//     feed.on_open([&](std::string_view) { feed.send_text(R"({"subscribe":"ticker"})"); });
//     feed.on_message([](std::string_view message, bool binary) { … });
//     feed.on_close([](const hailwire::websocket_end& e) { std::cerr << e.text << '\n'; });
//     io.run();
//
// One object is one connection: who wants another makes another. Messages are handed out where they were read, without
// a copy when they lie whole in what arrived; what is sent within one handler leaves in one piece.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/net/asio.hpp"
#include "hailwire/detail/net/outgoing.hpp"
#include "hailwire/detail/net/system.hpp"
#include "hailwire/proto/url.hpp"
#include "hailwire/proto/ws_client.hpp"

namespace hailwire {

/// How a connection came to its end.
struct websocket_end {
  /// The close code of RFC 6455, section 7.4: the server's, 1006 without a close frame, 1005 with one without a code;
  /// 1002, 1007, 1008 or 1009 where the server broke a rule or a limit.
  std::uint16_t code = 1006;
  std::string_view reason = {};  ///< the server's; valid during the call
  std::error_code error = {};    ///< of the network or the handshake, if that ended it
  std::string_view text = {};    ///< what happened, in English; valid during the call
  int status = 0;                ///< of the answer to the handshake where that was none; else 0
  std::string_view body = {};    ///< of that answer; valid during the call
};

/// How a WebSocket is to be. Each default suits a feed over the open internet.
struct websocket_client_options {
  std::size_t max_message = std::size_t{16}
                            << 20;  ///< bytes of one message, after inflating; a larger one ends it, 1009
  std::size_t max_unsent = std::size_t{16} << 20;  ///< bytes that the socket has not taken; `send_…` refuses more
  std::chrono::milliseconds patience{10'000};      ///< for the connection, for the handshake, for the server's close
  /// Nothing heard for so long: the server is asked by a ping; nothing for as long again: the connection is dead. 0: no
  /// pings.
  std::chrono::milliseconds heartbeat{30'000};
  std::string subprotocols = {};  ///< a list, in order of preference: `a, b`
  std::string headers = {};       ///< whole lines of the request's head, each with its CRLF
  std::string proxy = {};         ///< `http://host:port` of a proxy that makes tunnels; empty: none
  const proto::ws_codec_offer* compression = nullptr;       ///< `&client_compression<>` of client_deflate.hpp
  std::shared_ptr<const detail::client_security> tls = {};  ///< `client_tls` of client_tls.hpp, for wss
};

}  // namespace hailwire

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// What is behind a `websocket_client`.
class websocket_connection final : public std::enable_shared_from_this<websocket_connection>, public outgoing::user {
 public:
  websocket_connection(const net::any_io_executor& e, proto::url at, websocket_client_options o)
      : options_(std::move(o)),
        url_(std::move(at)),
        executor_(e),
        timer_(e),
        socket_({.message = options_.max_message}, options_.compression) {
    if (options_.proxy.empty()) return;
    auto proxy = proto::parse_url(options_.proxy);
    if (!proxy) throw std::invalid_argument("hailwire: the proxy: " + std::string(proxy.error().text()));
    proxy_ = std::move(*proxy);
  }

  void start() {
    if (over_ || way_) return;
    way_ = std::make_shared<outgoing>(executor_, *this);
    arm(options_.patience);
    outgoing_route route{url_.host, url_.port, proxy_, url_.secure ? options_.tls : nullptr};
    if (url_.secure && !route.security)
      return end({.error = std::make_error_code(std::errc::protocol_not_supported),
                  .text = "a wss URL needs tls in its options"});
    way_->connect(std::move(route));
  }

  bool send(proto::ws_opcode what, std::string_view bytes) {
    if (!open_ || closing_ || way_->unsent() + out_.size() > options_.max_unsent) return false;
    socket_.append(out_, what, bytes, mask());
    leave();
    return true;
  }
  void close(std::uint16_t code, std::string_view reason) {
    if (over_) return;
    if (!open_)
      return end({.error = std::make_error_code(std::errc::operation_canceled), .text = "closed before it was open"});
    if (std::exchange(closing_, true)) return;
    socket_.append_close(out_, code, reason, mask());
    leave();
    arm(options_.patience);
  }
  /// The host's object is gone.
  void detach() {
    on_open = nullptr, on_message = nullptr, on_close = nullptr, on_pong = nullptr;
    if (open_ && !closing_) socket_.append_close(out_, 1001, {}, mask());
    end({});
  }
  void pause() {
    paused_ = true;
    if (way_) way_->pause();
  }
  void resume() {
    if (!std::exchange(paused_, false)) return;
    net::post(executor_, [self = shared_from_this()] {
      if (self->paused_ || self->over_) return;
      std::string kept = std::exchange(self->kept_, {});
      self->take({kept.data(), kept.size()});
      if (!self->paused_ && self->way_) self->way_->resume();
    });
  }
  bool open() const noexcept { return open_ && !closing_; }
  bool compressed() const noexcept { return socket_.compressed(); }
  std::size_t unsent() const noexcept { return out_.size() + (way_ ? way_->unsent() : 0); }
  const net::any_io_executor& executor() const noexcept { return executor_; }

  move_only_function<void(std::string_view subprotocol)> on_open;
  move_only_function<void(std::string_view message, bool binary)> on_message;
  move_only_function<void(std::string_view data)> on_pong;
  move_only_function<void(const websocket_end&)> on_close;

 private:
  std::uint32_t mask() {
    std::array<unsigned char, 4> bytes;
    secret_bytes(bytes);
    std::uint32_t out;
    std::memcpy(&out, bytes.data(), 4);
    return out;
  }
  /// What was appended leaves at the end of the handler that is running, else soon.
  void leave() {
    if (depth_ || std::exchange(flushes_, true)) return;
    net::post(executor_, [self = shared_from_this()] { self->flush(); });
  }
  void flush() {
    flushes_ = false;
    if (!way_ || out_.empty()) return;
    way_->send(out_);
    out_.clear();
    if (out_.capacity() > 4096) out_.shrink_to_fit();
  }

  void outgoing_connected(outgoing&) override {
    std::array<unsigned char, 16> nonce;
    secret_bytes(nonce);
    const auto target = url_.query.empty() ? url_.path : url_.path + '?' + url_.query;
    socket_.open(out_, target, url_.authority(), nonce, options_.subprotocols, options_.headers);
    flush();
  }
  void outgoing_received(outgoing&, std::span<char> in) override {
    const auto self = shared_from_this();
    heard_ = true;
    take(in);
  }
  void outgoing_ended(outgoing&, std::error_code ec, std::string_view text) override {
    const auto self = shared_from_this();
    if (const auto e = socket_.end(); e.what == proto::ws_client::event::type::refused) return refused(e.data);
    end({.error = ec, .text = !text.empty() ? text : ec ? std::string_view() : "the server has ended the connection"});
  }

  void take(std::span<char> in) {
    using type = proto::ws_client::event::type;
    ++depth_;
    try {
      while (!over_) {
        if (paused_) {
          kept_.append(in.data(), in.size());
          break;
        }
        const auto e = socket_.next(in);
        if (e.what == type::none) break;
        switch (e.what) {
          case type::text:
          case type::binary:
            if (on_message) on_message(e.data, e.what == type::binary);
            break;
          case type::opened:
            open_ = true;
            if (options_.heartbeat.count() > 0) {
              arm(options_.heartbeat);
            } else {
              timer_.cancel();
            }
            if (on_open) on_open(e.data);
            break;
          case type::ping:  // the last of those that came together is answered (RFC 6455, section 5.5.3)
            pong_ = e.data, pinged_ = true;
            break;
          case type::pong:
            if (on_pong) on_pong(e.data);
            break;
          case type::close:
            if (!closing_) socket_.append_close(out_, e.code, {}, mask());
            flush();
            end({.code = e.code, .reason = e.data, .text = "the server has closed"});
            break;
          case type::failed:
            if (!closing_) socket_.append_close(out_, e.code, e.data, mask());
            flush();
            end({.code = e.code, .error = std::make_error_code(std::errc::protocol_error), .text = e.data});
            break;
          case type::refused:
            refused(e.data);
            break;
          default:
            break;
        }
      }
    } catch (...) {
      --depth_;
      if (!over_) end({.error = operation_aborted(), .text = "a handler has thrown"});
      throw;
    }
    --depth_;
    if (std::exchange(pinged_, false) && !over_ && !closing_)
      socket_.append(out_, proto::ws_opcode::pong, pong_, mask());
    flush();
  }
  void refused(std::string_view why) {
    const auto& r = socket_.response();
    const std::string text(why.empty() ? "the server has refused the handshake" : why);
    end({.error = std::make_error_code(std::errc::connection_refused),
         .text = text,
         .status = r.has_head() ? r.head().status : 0,
         .body = r.body});
  }

  void arm(std::chrono::milliseconds after) {
    heard_ = false;
    timer_.expires_after(after);
    timer_.async_wait([self = shared_from_this()](std::error_code ec) {
      if (!ec && !self->over_) self->rung();
    });
  }
  void rung() {
    if (!open_ || closing_)
      return end({.error = std::make_error_code(std::errc::timed_out),
                  .text = closing_ ? "the server did not answer the close" : "no connection in time"});
    if (!heard_ && asked_)
      return end({.error = std::make_error_code(std::errc::timed_out), .text = "the server has fallen silent"});
    asked_ = !heard_;
    if (asked_) socket_.append(out_, proto::ws_opcode::ping, {}, mask()), flush();
    arm(options_.heartbeat);
  }

  void end(const websocket_end& how) {
    if (std::exchange(over_, true)) return;
    open_ = false;
    timer_.cancel();
    flush();
    if (auto w = std::exchange(way_, nullptr)) w->close();
    if (auto f = std::exchange(on_close, nullptr)) f(how);
  }

  websocket_client_options options_;
  proto::url url_;
  std::optional<proto::url> proxy_;
  net::any_io_executor executor_;
  net::steady_timer timer_;
  proto::ws_client socket_;
  std::shared_ptr<outgoing> way_;
  std::string out_, kept_, pong_;
  unsigned depth_ = 0;
  bool open_ = false, closing_ = false, over_ = false, heard_ = false, asked_ = false, pinged_ = false, paused_ = false;
  bool flushes_ = false;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// One WebSocket to a server.
///
/// Threads: belongs to its executor; all functions are called there, and all of the host's are. The destructor says
/// goodbye (1001) without waiting; nothing is called then. What a handler throws ends the connection and leaves the
/// context's `run`.
class websocket_client {
 public:
  /// Connects from the next turn of the executor on. `context` is an execution context or an executor. Throws
  /// `std::invalid_argument` for a URL that cannot be read.
  template <class Context>
  websocket_client(Context&& context, std::string_view url, websocket_client_options o = {}) {
    auto at = proto::parse_url(url);
    if (!at) throw std::invalid_argument("hailwire: " + std::string(at.error().text()));
    const net::any_io_executor executor = detail::executor_of(context);
    at_ = std::make_shared<detail::websocket_connection>(executor, std::move(*at), std::move(o));
    net::post(executor, [held = std::weak_ptr<detail::websocket_connection>(at_)] {
      if (auto c = held.lock()) c->start();
    });
  }
  ~websocket_client() {
    if (at_) at_->detach();
  }
  websocket_client(websocket_client&&) noexcept = default;
  websocket_client& operator=(websocket_client&& other) noexcept {
    std::swap(at_, other.at_);
    return *this;
  }

  /// Sends a message. False, and nothing sent, when it is not open or `max_unsent` bytes wait. Precondition of the
  /// first: UTF-8.
  bool send_text(std::string_view utf8) { return at_->send(proto::ws_opcode::text, utf8); }
  bool send_binary(std::string_view bytes) { return at_->send(proto::ws_opcode::binary, bytes); }
  /// At most 125 bytes; the server's pong is told to `on_pong`.
  bool ping(std::string_view data = {}) {
    return data.size() <= proto::max_control_size && at_->send(proto::ws_opcode::ping, data);
  }
  /// Closes: what was sent before still leaves, and what the server has sent before its answer still comes. A code that
  /// must not travel (RFC 6455, section 7.4) is 1000; of the reason as much is sent as fits.
  void close(std::uint16_t code = 1000, std::string_view reason = {}) {
    at_->close(proto::valid_close_code(code) ? code : proto::ws_normal, reason);
  }

  /// Called once it is open, with the subprotocol that the server chose.
  template <class F>
  void on_open(F f) {
    at_->on_open = std::move(f);
  }
  /// Called with each message and whether it is binary; the view is valid during the call. Text is UTF-8.
  template <class F>
  void on_message(F f) {
    at_->on_message = std::move(f);
  }
  /// Called with what a pong carries.
  template <class F>
  void on_pong(F f) {
    at_->on_pong = std::move(f);
  }
  /// Called once, with how it ended; nothing is called behind it.
  template <class F>
  void on_close(F f) {
    at_->on_close = std::move(f);
  }

  /// Nothing is read, nor handed out, until `resume`: the server is held up by what TCP holds.
  void pause() { at_->pause(); }
  void resume() { at_->resume(); }

  bool is_open() const noexcept { return at_->open(); }
  /// Whether permessage-deflate was agreed.
  bool compressed() const noexcept { return at_->compressed(); }
  /// Bytes that were sent and that the socket has not taken.
  std::size_t unsent() const noexcept { return at_->unsent(); }
  net::any_io_executor get_executor() const noexcept { return at_->executor(); }

 private:
  std::shared_ptr<detail::websocket_connection> at_;
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
