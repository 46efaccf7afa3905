// SPDX-License-Identifier: BSL-1.0
#pragma once

// A client: follows channels of a hailwire server and publishes to them. Opt in by including this header; nothing else
// of the library is needed with it.
//
//     asio::io_context io;
//     hailwire::client<hailwire::websocket, hailwire::sse, hailwire::long_poll> live(io,
//     "http://127.0.0.1:8080/live?user=ada"); live.on_message([](const hailwire::client_message& m) { std::cout <<
//     m.data << '\n'; }); live.follow("lobby", hailwire::start::earliest()); io.run();
//
// It connects by itself, comes back by itself, and begins where the application has got to. Where the first transport
// does not get through, it uses the next of its list, and tries the first again after a while. Publishes carry random
// keys and are repeated until they are answered, each stored once.

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/client/answers.hpp"
#include "hailwire/detail/client/asio_client.hpp"
#include "hailwire/detail/client/transports.hpp"
#include "hailwire/detail/net/asio.hpp"
#include "hailwire/message.hpp"

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// What every client can do, whatever its transports. Use it through `client`.
///
/// Threads: a client belongs to its executor; all functions are called there, and all of the host's functions are.
/// Where a single thread runs the context, that thread may call everything; where several do, hand in a strand.
///
/// Lifetime: the destructor closes. Ends of commands come later, with `operation_aborted()`; nothing else is called
/// then.
///
/// Whatever a handler throws leaves the context's `run`; the message that it was given comes again.
class basic_client {
 public:
  /// Connects from the next turn of the executor on. Throws `std::invalid_argument` for a URL that cannot be read.
  basic_client(const net::any_io_executor& e, std::string_view at, client_options o,
               std::span<const detail::client_transport* const> ladder) {
    auto url = proto::parse_url(at);
    if (!url) throw std::invalid_argument("hailwire: " + std::string(url.error().text()));
    machine_ = std::make_shared<detail::asio_client>(e, std::move(*url), std::move(o), ladder);
    net::post(e, [held = std::weak_ptr<detail::asio_client>(machine_)] {
      if (auto m = held.lock()) m->start();
    });
  }
  ~basic_client() {
    if (machine_) machine_->detach();
  }
  basic_client(basic_client&&) noexcept = default;
  basic_client& operator=(basic_client&& other) noexcept {
    std::swap(machine_, other.machine_);
    return *this;
  }

  /// Follows one channel more. False when it is followed already, or is no channel's name. A channel that the server
  /// refuses is told in the notice `closed`, or, where the whole URL is refused, by `stopped`.
  bool follow(std::string_view channel, start since = {}) { return machine_->follow(channel, std::move(since)); }
  /// Follows it no longer: no message of it comes after this call.
  void unfollow(std::string_view channel) {
    machine_->unfollow(channel);
    machine_->forget(channel);
  }

  /// Gives the next message or gap, once and in order: `void(std::error_code, client_event)`. In place of `on_message`
  /// and `on_gap` from the first call on, which comes before the context runs: what arrives earlier is for the
  /// handlers.
  ///
  ///     for (;;) {
  ///       auto event = co_await live.async_receive(asio::use_awaitable);  // throws when the client has stopped
  ///       if (!event.gap()) std::cout << event.message().data << '\n';
  ///     }
  ///
  /// What it gave counts as taken when it is called again: `cursor` moves then. A program that takes its time is waited
  /// for: beyond `client_options::max_unreceived` nothing more is read. One call at a time: a second one is
  /// `std::errc::operation_in_progress`. Ends with what the client has stopped with, behind the messages that came
  /// before that; a call that is cancelled loses none.
  template <class Token>
  auto async_receive(Token&& token) {
    return net::async_initiate<Token, void(std::error_code, client_event)>(
        [m = machine_](auto handler) {
          auto slot = net::get_associated_cancellation_slot(handler);
          auto executor = net::get_associated_executor(handler, m->executor());
          if (slot.is_connected())
            slot.assign([held = std::weak_ptr<detail::asio_client>(m)](net::cancellation_type) {
              if (auto still = held.lock()) still->cancel_receive();
            });
          m->receive(
              [h = std::move(handler), slot, work = net::prefer(executor, net::execution::outstanding_work.tracked)](
                  std::error_code ec, client_event e) mutable {
                slot.clear();
                net::post(work, [h = std::move(h), ec, e = std::move(e)]() mutable { h(ec, std::move(e)); });
              });
        },
        token);
  }
  /// Bytes that have come and were not given by `async_receive` yet.
  std::size_t unreceived() const noexcept { return machine_->unreceived(); }

  /// Publishes. `done(const client_error&, const position&)` is called once, later. What waits for a connection is kept
  /// within `max_pending`. An error of `errc::timeout` means that it may be stored.
  template <class F>
  void publish(std::string_view channel, const payload& data, F done, const client_publish_options& how = {}) {
    machine_->publish(channel, data, how, [done = std::move(done)](const client_error& e, std::string_view ok) mutable {
      done(e, e ? position() : detail::read_position(ok));
    });
  }
  void publish(std::string_view channel, const payload& data, const client_publish_options& how = {}) {
    machine_->publish(channel, data, how, nullptr);
  }
  /// The same for completion tokens (`net::use_awaitable`, `net::use_future`, …): `void(std::error_code, position)`.
  template <class Token>
  auto async_publish(std::string_view channel, const payload& data, Token&& token,
                     const client_publish_options& how = {}) {
    return net::async_initiate<Token, void(std::error_code, position)>(
        [m = machine_](auto handler, std::string to, payload what, client_publish_options o) {
          m->publish(to, what, o,
                     completion(m, std::move(handler), [](std::string_view ok) { return detail::read_position(ok); }));
        },
        token, std::string(channel), data, how);
  }

  /// Who follows a channel now: `done(const client_error&, const client_presence&)`. `names`: else numbers alone.
  template <class F>
  void presence(std::string_view channel, F done, bool names = true) {
    ask("presence", about(channel) + (names ? "}" : ",\"count\":true}"),
        [done = std::move(done)](const client_error& e, std::string_view ok) mutable {
          done(e, e ? client_presence() : detail::read_presence(ok));
        });
  }
  /// How far the users of a channel have come: `done(const client_error&, const client_receipts&)`.
  template <class F>
  void receipts(std::string_view channel, F done) {
    ask("receipts", about(channel) + "}", [done = std::move(done)](const client_error& e, std::string_view ok) mutable {
      done(e, e ? client_receipts() : detail::read_receipts(ok));
    });
  }
  /// Takes back a message of one's own: `done(const client_error&, const position&)` has where the taking back stands.
  /// Never repeated: where the connection ends first, it ends with `errc::timeout`.
  template <class F>
  void erase(std::string_view channel, const position& at, F done) {
    call("erase", at_position(channel, at) + "}",
         [done = std::move(done)](const client_error& e, std::string_view ok) mutable {
           done(e, e ? position() : detail::read_position(ok));
         });
  }
  /// Says where this device is woken while it has no connection; `forget_device` takes that back. The URL has to name a
  /// device. `done(const client_error&)`.
  ///
  ///     live.device({.push = "fcm", .fid = "cFZl7…"}, [](const hailwire::client_error& e) {});
  template <class F>
  void device(const client_device& d, F done) {
    std::string body = "{\"push\":";
    proto::json::append_quoted(body, d.push);
    if (!d.token.empty()) body.append(",\"token\":").append(d.token);
    if (!d.fid.empty()) proto::json::append_quoted(body += ",\"fid\":", d.fid);
    if (d.sandbox) body += ",\"environment\":\"sandbox\"";
    body += '}';
    ask("device", body, [done = std::move(done)](const client_error& e, std::string_view) mutable { done(e); });
  }
  template <class F>
  void forget_device(std::string_view push, F done) {
    device({.push = push, .token = "null"}, std::move(done));
  }

  /// Fetches the payload of a message that came with its `size` instead: `done(const client_error&, client_content)` is
  /// called once, later. One is fetched at a time, over a connection of its own, and what has arrived before a cut is
  /// not asked for again. `errc::not_found`: it was trimmed or taken back; `errc::too_large`: it is over
  /// `client_options::max_content`.
  template <class F>
  void fetch(std::string_view channel, const position& at, F done) {
    machine_->fetch(channel, at, std::move(done));
  }
  template <class F>
  void fetch(const client_message& m, F done) {
    machine_->fetch(m.channel, {std::string(m.epoch), m.offset}, std::move(done));
  }
  /// The same for completion tokens: `void(std::error_code, client_content)`.
  template <class Token>
  auto async_fetch(std::string_view channel, const position& at, Token&& token) {
    return net::async_initiate<Token, void(std::error_code, client_content)>(
        [m = machine_](auto handler, std::string of, position where) {
          auto executor = net::get_associated_executor(handler, m->executor());
          m->fetch(of, where,
                   [h = std::move(handler), work = net::prefer(executor, net::execution::outstanding_work.tracked)](
                       const client_error& e, client_content c) mutable {
                     net::post(work, [h = std::move(h), code = e.code, c = std::move(c)]() mutable {
                       h(code, std::move(c));
                     });
                   });
        },
        token, std::string(channel), at);
  }

  /// Any other command that changes nothing: `history`, `presence`, `receipts`. `body` is a JSON object;
  /// `done(const client_error&, std::string_view ok)` is called once, later, with what `ok` carries, as JSON text. It
  /// is repeated until it is answered.
  template <class F>
  void ask(std::string_view command, std::string_view body, F done) {
    machine_->request(detail::client_command::kind::question, command, body, {}, std::move(done));
  }
  /// A command of the host's, or any other. Never repeated: where the connection ends first, it ends with
  /// `errc::timeout`.
  template <class F>
  void call(std::string_view command, std::string_view body, F done) {
    machine_->request(detail::client_command::kind::once, command, body, {}, std::move(done));
  }
  /// `ask`, for completion tokens: `void(std::error_code, std::string)`.
  template <class Token>
  auto async_ask(std::string_view command, std::string_view body, Token&& token) {
    return net::async_initiate<Token, void(std::error_code, std::string)>(
        [m = machine_](auto handler, std::string name, std::string with) {
          m->request(detail::client_command::kind::question, name, with, {},
                     completion(m, std::move(handler), [](std::string_view ok) { return std::string(ok); }));
        },
        token, std::string(command), std::string(body));
  }

  /// Tells the server that this device has received everything up to `at`, or that its user has read it. Of what waits
  /// only the newest of a channel is sent.
  void received(std::string_view channel, const position& at) { mark("received", channel, at, false); }
  void read(std::string_view channel, const position& at, bool hidden = false) { mark("read", channel, at, hidden); }

  /// Called with each message, once and in order.
  template <class F>
  void on_message(F f) {
    machine_->on.message = std::move(f);
  }
  /// Called with `client_gap`: something cannot be had any more.
  template <class F>
  void on_gap(F f) {
    machine_->on.gap = std::move(f);
  }
  /// Called with `client_presence_change` when somebody comes or goes in a channel with presence.
  template <class F>
  void on_presence(F f) {
    machine_->on.of_others().presence = std::move(f);
  }
  /// Called with `client_receipt` when a user has received or read more of a channel.
  template <class F>
  void on_receipt(F f) {
    machine_->on.of_others().receipt = std::move(f);
  }
  /// Called with the name of a channel of which live-only things were skipped: ephemeral messages, joins, leaves,
  /// receipts. Whoever cares asks `presence` and `receipts` anew.
  template <class F>
  void on_missed(F f) {
    machine_->on.of_others().missed = std::move(f);
  }
  /// Called with every notice but `gap`, those of the handlers above too: its name, and what it says as JSON text.
  template <class F>
  void on_notice(F f) {
    machine_->on.notice = std::move(f);
  }
  /// Called with `client_status` when it changes; also from within `follow`, `unfollow` and `close`.
  template <class F>
  void on_status(F f) {
    machine_->on.status = std::move(f);
  }
  /// Called with the cursor, behind the messages that moved it: what a host saves to begin there another time.
  template <class F>
  void on_cursor(F f) {
    machine_->on.cursor = [m = machine_.get(), f = std::move(f), told = std::string()](const std::string&) mutable {
      std::string now = m->taken();
      if (now == told) return;
      told = now;
      f(now);
    };
  }
  /// Called with a `token_reply` when a token is wanted: before the first connection, when permission ends, and when
  /// one was refused. Three refused in a row are the end.
  template <class F>
  void on_renew(F f) {
    machine_->on.renew = std::move(f);
  }

  /// Where the application is: one element for each channel, in the order of `channels`.
  std::string cursor() const { return machine_->taken(); }
  std::vector<std::string> channels() const { return machine_->channels(); }
  client_status status() const { return machine_->status(); }
  /// Commands that wait or are unanswered.
  std::size_t pending() const noexcept { return machine_->pending(); }
  net::any_io_executor get_executor() const noexcept { return machine_->executor(); }

  /// Ends for good.
  void close() { machine_->close(); }

 private:
  /// A completion handler as the end of a command. It keeps the context at work, as Asio's own operations do.
  template <class Handler, class Read>
  static detail::command_end completion(const std::shared_ptr<detail::asio_client>& m, Handler handler, Read read) {
    auto executor = net::get_associated_executor(handler, m->executor());
    return [h = std::move(handler), work = net::prefer(executor, net::execution::outstanding_work.tracked), read](
               const client_error& e, std::string_view ok) mutable {
      auto value = e ? decltype(read(ok))() : read(ok);
      net::post(work,
                [h = std::move(h), code = e.code, value = std::move(value)]() mutable { h(code, std::move(value)); });
    };
  }
  static std::string about(std::string_view channel) {
    std::string body = "{\"channel\":";
    proto::json::append_quoted(body, channel);
    return body;
  }
  static std::string at_position(std::string_view channel, const position& at) {
    std::string body = about(channel);
    proto::json::append_quoted(body += ",\"epoch\":", at.epoch);
    proto::append_decimal(body += ",\"offset\":", at.offset);
    return body;
  }
  void mark(std::string_view name, std::string_view channel, const position& at, bool hidden) {
    std::string body = at_position(channel, at);
    body += hidden ? ",\"private\":true}" : "}";
    machine_->request(detail::client_command::kind::mark, name, body, channel, nullptr);
  }

  std::shared_ptr<detail::asio_client> machine_;
};

/// A client of the named transports, in the order in which it tries them: `websocket`, `sse`, `long_poll`,
/// `short_poll`. What is not named is not compiled in.
template <class... Transports>
class client : public basic_client {
  static_assert(sizeof...(Transports) > 0, "hailwire: a client needs a transport: client<hailwire::websocket>");
  static_assert(
      (... && (detail::client_transport_of<Transports> != nullptr)),
      "hailwire: a client's transports are websocket, sse, long_poll and short_poll, and those of client_deflate.hpp");

 public:
  /// `context` is an execution context or an executor.
  template <class Context>
  client(Context&& context, std::string_view url, client_options o = {})
      : basic_client(detail::executor_of(context), url, std::move(o), detail::client_ladder<Transports...>) {}
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
