// SPDX-License-Identifier: BSL-1.0
#pragma once

// Serves a connection that is a host's own Asio stream, such as an `asio::ssl::stream` whose handshake the host has
// made: opt in by including this header. A socket is handed over with `basic_server::adopt`, which costs less; TLS of
// our own is in tls.hpp.
//
//     hailwire::adopt_stream(live, std::move(stream), already_read);
//
// Of such a stream nobody knows whether it would take bytes now, so what a connection writes goes through two buffers
// of one TLS record each: one that is being written and one that gathers meanwhile. When both are full, the connection
// waits as it does for a socket that is full. They are there while something is on its way; the buffer for reading
// stays, because a read must be under way for the peer's end to be noticed.
//
// What has been taken into these buffers is not lost by an orderly end: the end of reading is told only when they are
// empty, and the stream's own farewell (`async_shutdown`, where it has one) comes after them.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/connection/connection.hpp"
#include "hailwire/detail/io/driver.hpp"
#include "hailwire/detail/io/net.hpp"
#include "hailwire/server.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// What a completion token is tried with when a stream is asked what it can do.
struct io_probe {
  void operator()(net_error_code, std::size_t = 0) const {}
};

/// What a stream stands on: `lowest_layer()`, or of Beast's streams, which have none to show, the socket.
template <class Stream>
decltype(auto) socket_below(Stream& s) {
  if constexpr (requires { s.lowest_layer(); }) {
    return s.lowest_layer();
  } else if constexpr (requires { s.socket().lowest_layer(); }) {
    return s.socket().lowest_layer();
  } else if constexpr (requires { s.next_layer(); }) {
    return socket_below(s.next_layer());
  }
}

/// Beast's streams have time limits of their own, which would end what waits here. The server's hold from now on.
template <class Stream>
void drop_time_limits(Stream& s) {
  if constexpr (requires { s.expires_never(); }) {
    s.expires_never();
  } else if constexpr (requires { s.next_layer(); }) {
    drop_time_limits(s.next_layer());
  }
}

/// A connection over such a stream; it owns itself until it is closed.
template <class Stream>
class adopted_connection final : public connection,
                                 public self_owned,
                                 public std::enable_shared_from_this<adopted_connection<Stream>> {
 public:
  adopted_connection(server_state& g, const strand& on, Stream s, std::optional<tls_peer> t)
      : connection(g), strand_(on), stream_(std::move(s)) {
    if constexpr (requires { typename Stream::handshake_type; }) {
      if (!t) t.emplace();
    }
    if (t) tls_ = std::make_shared<const tls_peer>(std::move(*t));
    drop_time_limits(stream_);
    if constexpr (requires { static_cast<int>(below().native_handle()); }) {
      int d = static_cast<int>(below().native_handle());
      peer_ = peer_of(d);
      tune(d, g.settings.send_buffer);
      keep_alive(g.settings.heartbeat);
    }
    g.messages.channels.beside_bytes += footprint;
  }

  void begin(std::string_view already_read) {
    self = this->shared_from_this();
    by().beside(+1);
    this->contained([&] { adopt(already_read); });
  }

 private:
  // One TLS record (RFC 8446, section 5.1). Reading in halves of one costs little and keeps an idle connection small.
  static constexpr std::size_t most_written = 16 * 1024, most_read = 8 * 1024;
  // What it takes beside a session. An `asio::ssl::stream` took 73,721 bytes with OpenSSL 3.0: two buffers of 17 KiB of
  // its own, as many between it and OpenSSL, and OpenSSL's objects.
  static constexpr std::size_t footprint = sizeof(Stream) + most_read + [] {
    if constexpr (requires { typename Stream::handshake_type; }) return std::size_t{72 * 1024};
    return std::size_t{0};
  }();

  // ---- reading ---------------------------------------------------------------------------------------------------

  void read() {
    if (reading_ || delivering_ || arrived_ || over_ || !wants_read_ || closed_) return;
    reading_ = true;
    stream_.async_read_some(net::buffer(in_), net::bind_executor(strand_, [me = this->shared_from_this()](
                                                                              net_error_code ec, std::size_t n) {
                              if (me->closed_) return;
                              if (ec && me->ending_ && !is_end(ec)) return me->contained([&] { me->drain(); });
                              me->reading_ = false;
                              me->arrived_ = n;
                              if (ec) me->over_ = ec;
                              me->contained([&] { me->deliver(); });
                            }));
  }
  // OpenSSL takes nothing more from a peer that has gone on sending behind our farewell. What comes is read all the
  // same and dropped: closing over it would reset the connection and could take our last bytes with it (RFC 9112,
  // section 9.6).
  void drain() {
    if constexpr (requires {
                    static_cast<int>(below().native_handle()),
                        below().async_wait(net::socket_base::wait_read, io_probe());
                  }) {
      auto got = read_descriptor(static_cast<int>(below().native_handle()), in_).what;
      if (got == io_result::status::done || got == io_result::status::again)
        return below().async_wait(net::socket_base::wait_read,
                                  net::bind_executor(strand_, [me = this->shared_from_this()](net_error_code ec) {
                                    if (!me->closed_ && !ec) me->contained([&] { me->drain(); });
                                  }));
    }
    reading_ = false;
    over_ = net::error::eof;
    deliver();
  }
  // Hands on what has come, when it is wanted; the end when what was written is out.
  void deliver() {
    if (closed_ || delivering_) return;
    if (arrived_) {
      if (!wants_read_) return;
      delivering_ = true;  // the bytes are used in place
      receive(std::span(in_).first(std::exchange(arrived_, 0)));
      delivering_ = false;
      if (closed_) return;
    }
    if (!over_ || arrived_) return read();
    if (!wants_read_ && !ending_) return;
    if (!is_end(*over_)) return failed(*over_);
    if (still() == leaving::nothing) ended();
  }
  void deliver_later() {
    net::post(strand_, [me = this->shared_from_this()] { me->contained([&] { me->deliver(); }); });
  }
  // TLS that ends without its farewell may be somebody's doing; but what HTTP and WebSocket send says itself where it
  // ends, and the peer may still be reading.
  static bool is_end(const net_error_code& ec) {
    constexpr int stream_truncated = 1;  // asio::ssl::error
    return ec == net::error::eof ||
           (ec.value() == stream_truncated && std::string_view(ec.category().name()) == "asio.ssl.stream");
  }

  // ---- writing ---------------------------------------------------------------------------------------------------

  std::size_t write(std::span<const std::span<const char>> pieces) override {
    if (closed_ || ending_) return 0;
    std::string& to = writing_ ? next_ : now_;
    std::size_t before = to.size();
    for (auto& p : pieces) to.append(p.data(), std::min(p.size(), most_written - to.size()));
    std::size_t taken = to.size() - before;
    send();
    return taken;
  }
  void send() {
    if (writing_ || now_.empty()) return;
    writing_ = true;
    stream_.async_write_some(
        net::buffer(now_.data() + sent_, now_.size() - sent_),
        net::bind_executor(strand_, [me = this->shared_from_this()](net_error_code ec, std::size_t n) {
          me->contained([&] { me->have_sent(ec, n); });
        }));
  }
  void have_sent(net_error_code ec, std::size_t n) {
    writing_ = false;
    if (closed_) return;
    if (ec) {
      drop();
      return failed(ec);
    }
    sent_ += n;
    passed_on_ += n;
    if (sent_ == now_.size()) {
      sent_ = 0;
      now_.clear();
      now_.swap(next_);
    }
    send();
    if (!writing_) {
      if (now_.capacity() > 1024) drop();
      if (ending_) say_farewell();
    }
    moved();
    if (wants_write_ && next_.empty()) writable();
    if (over_) deliver();
  }
  void drop() noexcept {
    std::string().swap(now_);
    std::string().swap(next_);
    sent_ = 0;
  }
  // A farewell waits for the peer's own. Once the peer has ended there is none to wait for, and Asio's epoll reactor
  // would not even tell: a second read at the end of a socket has no edge to come. The socket was asked to take ours
  // when it began.
  leaving still() const noexcept override {
    return writing_ ? leaving::bytes : ending_ && !farewell_over_ && !over_ ? leaving::farewell : leaving::nothing;
  }

  // ---- the end ---------------------------------------------------------------------------------------------------

  void shut_write() override {
    if (closed_ || ending_) return;
    ending_ = true;
    if (!writing_) say_farewell();
  }
  void say_farewell() {
    if constexpr (requires { stream_.async_shutdown(io_probe()); }) {
      // Ends when the peer has said the same, or with an error if it goes on sending: then it is read from until it
      // ends.
      stream_.async_shutdown(net::bind_executor(strand_, [me = this->shared_from_this()](net_error_code ec) {
        if (me->closed_) return;
        me->farewell_over_ = true;
        me->shut_below();
        if (!ec && !me->over_) me->over_ = net::error::eof;
        me->contained([&] { me->deliver(); });
      }));
    } else {
      shut_below();
      farewell_over_ = true;
      deliver_later();  // who says farewell may be one of the connection's own functions
    }
  }
  void shut_below() {
    net_error_code ignored;
    if constexpr (requires { below().shutdown(net::socket_base::shutdown_send, ignored); }) {
      below().shutdown(net::socket_base::shutdown_send, ignored);
    }
  }
  // What is under way ends with an error, and its handler is the last to hold on.
  void shut() override {
    if (closed_) return;
    // The peer ended first and nothing was left to say: it gets its farewell if the socket takes that at once.
    if (over_ && is_end(*over_) && !ending_ && !writing_) shut_write();
    closed_ = true;
    server().messages.channels.beside_bytes -= footprint;
    net_error_code ignored;
    below().close(ignored);
    by().beside(-1);
    by().closed(*this);
  }

  // ---- what the connection asks ----------------------------------------------------------------------------------

  void watch(bool readable, bool writable) override {
    wants_read_ = readable;
    wants_write_ = writable;
    if (closed_ || delivering_ || !readable) return;
    if (arrived_ || over_) return still() == leaving::nothing || arrived_ ? deliver_later() : void();
    read();
  }
  bool input_waits() const noexcept override { return arrived_ > 0; }
  // What is in these buffers has not even been sent. Of a stream without a socket that is all that is known.
  std::uint64_t unacknowledged() const noexcept override {
    return now_.size() - sent_ + next_.size() +
           (closed_ || descriptor() < 0 ? 0 : unacknowledged_by_peer(descriptor()));
  }
  std::uint64_t acknowledged() const noexcept override {
    return closed_ || descriptor() < 0 ? passed_on_ : acknowledged_by_peer(descriptor());
  }
  std::int64_t silent_for() const noexcept override {
    return closed_ || descriptor() < 0 ? 0 : silence_of_peer(descriptor());
  }
  void keep_alive(std::chrono::seconds silence) override {
    if (!closed_ && descriptor() >= 0) probe_silence(descriptor(), silence, server().settings.heartbeat_answer);
  }
  decltype(auto) below() { return socket_below(stream_); }
  int descriptor() const noexcept {
    if constexpr (requires(Stream& s) { static_cast<int>(socket_below(s).native_handle()); }) {
      return static_cast<int>(socket_below(const_cast<Stream&>(stream_)).native_handle());
    } else {
      return -1;
    }
  }
  std::string peer() const override { return peer_; }
  std::shared_ptr<const tls_peer> tls() const override { return tls_; }
  driver& by() const noexcept { return static_cast<driver&>(server().messages.loop()); }

  strand strand_;
  Stream stream_;
  std::shared_ptr<const tls_peer> tls_;
  std::string peer_ = "unknown";
  std::string now_, next_;              // being written; gathered meanwhile
  std::size_t sent_ = 0, arrived_ = 0;  // of `now_`; in `in_`, not yet wanted
  std::uint64_t passed_on_ = 0;         // what the stream has taken, all in all
  std::optional<net_error_code> over_;  // how reading ended
  bool reading_ = false, delivering_ = false, writing_ = false, wants_read_ = false, wants_write_ = false,
       ending_ = false, farewell_over_ = false, closed_ = false;
  std::array<char, most_read> in_;
};

/// The way into a server for `adopt_stream`.
class adopting {
 public:
  template <class Stream>
  static void take(basic_server& s, Stream stream, std::string_view already_read, std::optional<tls_peer> t) {
    auto on = s.get_executor();
    if (!s.driver_->here())
      return s.post([&s, stream = std::move(stream), read = std::string(already_read), t = std::move(t)]() mutable {
        take(s, std::move(stream), read, std::move(t));
      });
    if (s.gate_.stopping) return;  // the stream closes with its destructor
    std::make_shared<adopted_connection<Stream>>(s.gate_, on, std::move(stream), std::move(t))->begin(already_read);
  }
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// Serves a connection that the host has accepted, and made a handshake on if the stream has one, beginning with the
/// bytes that it has read from it already. Requests on it that are not claimed go to `on_http`.
///
/// The stream is an Asio stream: `async_read_some`, `async_write_some`, and a `lowest_layer()` whose `close` ends what
/// is under way; it may have an `async_shutdown`. On Boost.Asio it may also be Beast's `tcp_stream` and `ssl_stream`,
/// whose time limits end here: the server's take their place. Reading, writing and shutting down may be under way at
/// the same time, as `asio::ssl::stream` allows. It may belong to another executor, but its handlers run on the
/// server's, and nothing may be pending on it. What the stream refers to, an `asio::ssl::context` with its callbacks
/// say, must outlive it: until the server's context has run what the server's end leaves.
///
/// `tls`: what the host knows of its client, shown by `request::tls`; see `tls_facts`. An `asio::ssl::stream` counts as
/// TLS without it, of another stream this is how a page's `Origin` is known to be `https`.
///
/// Costs, besides what the stream does, 8 KiB for reading, and up to 32 KiB while something is on its way.
///
/// Safe from any thread, as `adopt` is. Throws `std::logic_error` for a server that has none (`own_thread`).
template <class Stream>
void adopt_stream(basic_server& server, Stream stream, std::string_view already_read = {},
                  std::optional<tls_peer> tls = {}) {
  if constexpr (detail::of_another_asio<Stream>) {
    static_assert(!detail::of_another_asio<Stream>, HAILWIRE_ANOTHER_ASIO);
  } else {
    constexpr bool reads = requires(net::mutable_buffer to) { stream.async_read_some(to, detail::io_probe()); };
    constexpr bool writes = requires(net::const_buffer from) { stream.async_write_some(from, detail::io_probe()); };
    constexpr bool closes = requires(detail::net_error_code& ec) { detail::socket_below(stream).close(ec); };
    static_assert(reads,
                  "hailwire: a stream to adopt needs async_read_some(mutable buffer, void(std::error_code, "
                  "std::size_t) handler)");
    static_assert(
        writes,
        "hailwire: a stream to adopt needs async_write_some(const buffer, void(std::error_code, std::size_t) handler)");
    static_assert(closes,
                  "hailwire: a stream to adopt needs lowest_layer(), and that close(std::error_code&), which ends what "
                  "is under way");
    if constexpr (reads && writes && closes)
      detail::adopting::take(server, std::move(stream), already_read, std::move(tls));
  }
}

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
