// SPDX-License-Identifier: BSL-1.0
#pragma once

// TLS as a layer between a connection and its descriptor.
//
//   handshake ──→ records   TLS 1.3: OpenSSL's object is freed, records.hpp goes on with its secrets
//        └──────→ library   TLS 1.2, and what `tls_records::openssl` asks for: OpenSSL goes on
//
// Memory. All connections of a server share one block (`tls_shared`): the buffer that sockets are read into, the one
// that records are made in, and OpenSSL's way to both, a single BIO. A connection keeps of its own the part of a record
// that has come so far, and the part of one that the socket did not take. Whatever is shared is empty again when a call
// ends, also by an exception: then this connection has failed, and nothing of it leaves on the next one.
//
// Writing. Bytes that were sealed must leave as they are, in order, whatever is offered next. So they count as taken at
// once. When a record does not leave whole, nothing more is sealed, and `wants_write` tells that its end is still here.
//
// Ends. Whoever ends a connection that has not failed is told so by close_notify (RFC 8446, section 6.1), however it
// ends, if the socket takes it. A fatal alert is followed by the end of our direction, and what the peer has sent is
// read and dropped: closing with unread bytes would reset the connection, and could take the alert with it.
//
// Fairness. A handshake costs as much as thousands of messages. Each turn of the loop has a budget of time for them;
// past it a layer answers `later` before it reads, so the client waits in its socket. Who waited longest goes first.
//
// Only one thread at a time runs a server's connections, so nothing here is locked.

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>
#include <cassert>
#include <chrono>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/io/driver.hpp"
#include "hailwire/detail/tls/peer.hpp"
#include "hailwire/detail/tls/records.hpp"
#include "hailwire/detail/tls/shared.hpp"
#include "hailwire/hooks.hpp"

namespace hailwire::detail {

class tls_layer final : public stream_layer {
 public:
  tls_layer(std::shared_ptr<tls_shared> shared, std::shared_ptr<const tls_contexts> contexts)
      : shared_(std::move(shared)),
        contexts_(std::move(contexts)),
        ssl_(shared_->make(contexts_->all.front().get())),
        own_records_(contexts_->own_records) {
    ::ERR_clear_error();
    if (!ssl_) fail(std::make_error_code(std::errc::not_enough_memory));
  }
  ~tls_layer() override { shared_->leave(queued_); }

  io_result read(int d, std::span<char> into) override {
    assert(into.size() >= tls_shared::room_size + tls_record_content + tls_record_overhead);
    if (!pending_.empty()) {
      io_result r = flush(d);
      if (r.what != io_result::status::done) return r;
    }
    if (over_ != over::no) return verdict(d);
    const call here(*this);
    tls_shared& s = *shared_;
    if (mode_ == mode::handshake && !s.admit(queued_)) return {io_result::status::later, 0, {}};
    held_.copy(s.room.data(), held_.size());
    io_result got = read_descriptor(d, std::span(s.room).subspan(held_.size()));
    if (got.what == io_result::status::end) truncated_ = true, over_ = over::ended;
    if (got.what == io_result::status::failed) fail(got.error);
    if (got.what != io_result::status::done) return got;

    std::span<const char> in = std::span(s.room).first(held_.size() + got.bytes);
    release(held_);
    s.input = in;
    std::size_t produced = 0;
    if (mode_ == mode::handshake) shake();
    if (mode_ == mode::library && over_ == over::no) produced = read_library(into);
    if (mode_ == mode::records && over_ == over::no) {
      in = s.input;  // what the handshake left
      std::size_t used = records_.receive(in, into, produced, s.out, seconds());
      if (records_.now() == tls_record_layer::state::open) held_.assign(in.data() + used, in.size() - used);
      if (records_.now() == tls_record_layer::state::ended) over_ = over::ended;
      if (records_.now() == tls_record_layer::state::failed) fail(std::make_error_code(std::errc::protocol_error));
    }
    io_result sent = send(d);
    if (sent.what == io_result::status::failed) fail(sent.error);
    if (produced) return {io_result::status::done, produced, {}, got.emptied && over_ == over::no && pending_.empty()};
    if (!pending_.empty()) return {io_result::status::again, 0, {}};
    if (over_ != over::no) return verdict(d);
    // Nothing to tell of yet. Whether the socket is empty is for the next read to find out.
    return {io_result::status::later, 0, {}};
  }

  io_result write(int d, std::span<const std::span<const char>> pieces) override {
    if (mode_ == mode::handshake && over_ != over::failed) return {io_result::status::again, 0, {}};
    if (!pending_.empty()) {
      io_result r = flush(d);
      if (r.what != io_result::status::done) return r;
    }
    if (over_ == over::failed) return verdict(d);
    const call here(*this);
    const std::size_t most = mode_ == mode::records ? records_.most() : tls_record_content;
    std::size_t all = 0;
    for (auto& p : pieces) all += p.size();
    if (all > most) return write_records(d, pieces, most);
    return all ? write_record(d, pieces, all) : io_result{};
  }

  void shut_write(int d) override {
    // Its caller is about to close the descriptor, whatever happens here.
    try {
      if (over_ != over::failed && mode_ != mode::handshake && !std::exchange(told_, true)) {
        const call here(*this);
        if (mode_ == mode::records) {
          records_.close(shared_->out);
        } else {
          ::ERR_clear_error();
          ::SSL_shutdown(ssl_.get());
          ::ERR_clear_error();
        }
        static_cast<void>(send(d));
      }
      ending_ = true;
      if (!pending_.empty()) static_cast<void>(flush(d));
      if (pending_.empty()) over_ == over::failed ? let_alert_pass(d) : static_cast<void>(::shutdown(d, SHUT_WR));
    } catch (const std::bad_alloc&) {  // `call` has ended it
    }
  }

  bool wants_write() const noexcept override { return !pending_.empty(); }
  // As benchmarks/README.md measures them, without the connection itself. A client that speaks TLS 1.2 to a server
  // whose records are its own costs what OpenSSL does, and is not told apart: there are hardly any.
  std::size_t footprint() const noexcept override { return own_records_ ? 384 : 14 * 1024; }
  std::shared_ptr<const tls_peer> peer() const noexcept override { return peer_; }

  /// Whether OpenSSL has nothing to do with this connection any more.
  bool keeps_records() const noexcept { return mode_ == mode::records; }
  /// The peer's end came without its close_notify: somebody may have cut off the rest (RFC 8446, section 6.1). HTTP's
  /// lengths and WebSocket's close frame tell what is whole, so nothing else is made of it.
  bool truncated() const noexcept { return truncated_; }

  /// For OpenSSL's key log: `LABEL client-random secret`, the latter two in hexadecimal digits.
  static void note_secret(const SSL* ssl, const char* line) noexcept {
    tls_layer* me = tls_shared::of(ssl).current;
    std::string_view text(line);
    if (!me || me->mode_ != mode::handshake) return;
    if (text.starts_with("CLIENT_TRAFFIC_SECRET_0 ")) me->secret_in_ = read_secret(text, me->records_.in);
    if (text.starts_with("SERVER_TRAFFIC_SECRET_0 ")) me->secret_out_ = read_secret(text, me->records_.out);
  }

 private:
  enum class mode : std::uint8_t { handshake, records, library };
  enum class over : std::uint8_t { no, ended, failed };

  /// One call, during which what is shared is this connection's.
  class call {
   public:
    explicit call(tls_layer& of) noexcept : of_(of), exceptions_(std::uncaught_exceptions()) {
      of.shared_->rest();
      of.shared_->current = &of;
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;
    ~call() {
      of_.shared_->rest();
      if (std::uncaught_exceptions() == exceptions_) return;
      ::ERR_clear_error();
      of_.fail(std::make_error_code(std::errc::not_enough_memory));
    }

   private:
    tls_layer& of_;
    int exceptions_;
  };

  void shake() {
    auto began = std::chrono::steady_clock::now();
    ::ERR_clear_error();
    int r = ::SSL_do_handshake(ssl_.get());
    if (r == 1) {
      established();
    } else if (::SSL_get_error(ssl_.get(), r) != SSL_ERROR_WANT_READ) {
      fail(take_tls_error());
    }
    ::ERR_clear_error();
    shared_->spend(std::chrono::steady_clock::now() - began);
  }

  void established() {
    SSL* ssl = ssl_.get();
    peer_ = shared_->intern(tls_facts_of(ssl));
    mode_ = take_over() ? mode::records : mode::library;
    if (mode_ == mode::library) {
      records_.in.erase();
      records_.out.erase();
      return;
    }
    ssl_.reset();
    contexts_.reset();
  }

  // Whether the records can go on without OpenSSL's object.
  bool take_over() {
    SSL* ssl = ssl_.get();
    if (!contexts_->own_records || ::SSL_version(ssl) != TLS1_3_VERSION || ::SSL_has_pending(ssl)) return false;
    tls_suite* suite = shared_->suite(::SSL_CIPHER_get_protocol_id(::SSL_get_current_cipher(ssl)));
    if (!suite || secret_in_ != suite->secret_size() || secret_out_ != suite->secret_size()) return false;
    // What completes a handshake is the client's Finished, so all that was written in this call is what came after it:
    // records under the server's last keys, session tickets, if any.
    std::string_view sent = shared_->out;
    std::uint64_t written = 0;
    while (sent.size() >= tls_record_header) {
      std::size_t size = tls_record_header + (static_cast<std::size_t>(static_cast<unsigned char>(sent[3])) << 8 |
                                              static_cast<unsigned char>(sent[4]));
      if (sent[0] != 23 || sent.size() < size) return false;
      sent.remove_prefix(size);
      ++written;
    }
    // RFC 6066, section 4: 1 stands for 2^9, 4 for 2^12.
    auto limit = ::SSL_SESSION_get_max_fragment_length(::SSL_get_session(ssl));
    return sent.empty() &&
           records_.begin(*suite, written, limit >= 1 && limit <= 4 ? std::size_t{256} << limit : tls_record_content);
  }

  static std::uint8_t read_secret(std::string_view line, tls_keys& to) noexcept {
    auto digits = line.substr(line.rfind(' ') + 1);
    auto value = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : (c | 32) - 'a' + 10) & 15u; };
    if (digits.size() % 2 || digits.size() / 2 > to.secret.size()) return 0;
    for (std::size_t i = 0; i < digits.size() / 2; ++i)
      to.secret[i] = static_cast<unsigned char>(value(digits[2 * i]) << 4 | value(digits[2 * i + 1]));
    return static_cast<std::uint8_t>(digits.size() / 2);
  }
  static std::int64_t seconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  std::size_t read_library(std::span<char> into) {
    std::size_t produced = 0, n = 0;
    ::ERR_clear_error();
    while (::SSL_read_ex(ssl_.get(), into.data() + produced, into.size() - produced, &n) == 1) produced += n;
    switch (::SSL_get_error(ssl_.get(), 0)) {
      case SSL_ERROR_WANT_READ:
        break;
      case SSL_ERROR_ZERO_RETURN:
        over_ = over::ended;
        break;
      default:
        fail(take_tls_error());
    }
    return produced;
  }

  // One record; all of it is taken, or nothing.
  io_result write_record(int d, std::span<const std::span<const char>> parts, std::size_t size) {
    if (!seal(parts, size)) {
      fail(take_tls_error());
      return {io_result::status::failed, 0, error_};
    }
    io_result sent = send(d);
    if (sent.what == io_result::status::failed) {
      fail(sent.error);
      return {io_result::status::failed, 0, error_};
    }
    return {pending_.empty() ? io_result::status::done : io_result::status::again, size, {}};
  }
  // More than one: as many as leave, and the one after.
  io_result write_records(int d, std::span<const std::span<const char>> pieces, std::size_t most) {
    std::size_t at = 0, taken = 0, piece = 0;
    while (piece < pieces.size()) {
      std::array<std::span<const char>, 64> parts;
      std::size_t n = 0, size = 0;
      while (piece < pieces.size() && n < parts.size() && size < most) {
        auto part = pieces[piece].subspan(at);
        part = part.first(std::min(part.size(), most - size));
        at += part.size();
        if (at == pieces[piece].size()) ++piece, at = 0;
        if (!part.empty()) parts[n++] = part, size += part.size();
      }
      if (size == 0) break;
      io_result r = write_record(d, std::span(parts).first(n), size);
      taken += r.bytes;
      if (r.what != io_result::status::done) return {r.what, taken, r.error};
    }
    return {io_result::status::done, taken, {}};
  }

  bool seal(std::span<const std::span<const char>> parts, std::size_t size) {
    if (mode_ == mode::records) return records_.seal(parts, shared_->out);
    std::span<const char> whole = parts[0];
    if (parts.size() > 1) {
      auto& joined = shared_->joined;
      joined.clear();
      for (auto& p : parts) joined.append(p.data(), p.size());
      whole = joined;
    }
    ::ERR_clear_error();
    std::size_t n = 0;
    return ::SSL_write_ex(ssl_.get(), whole.data(), whole.size(), &n) == 1 && n == size;
  }

  /// Sends `shared_->out`; what is not taken is kept.
  io_result send(int d) {
    std::string& out = shared_->out;
    if (!pending_.empty()) {
      pending_ += out;
      out.clear();
      return {io_result::status::again, 0, {}};
    }
    if (out.empty()) return {};
    const std::span<const char> piece(out);
    io_result r = write_descriptor(d, {&piece, 1});
    if (r.what != io_result::status::failed && r.bytes < out.size()) pending_.assign(out, r.bytes);
    out.clear();
    return r;
  }
  io_result flush(int d) {
    const std::span<const char> piece(pending_);
    io_result r = write_descriptor(d, {&piece, 1});
    if (r.what == io_result::status::failed) {
      fail(r.error);
      return {r.what, 0, r.error};
    }
    pending_.erase(0, r.bytes);
    if (!pending_.empty()) return {io_result::status::again, 0, {}};
    release(pending_);
    if (ending_) ::shutdown(d, SHUT_WR);
    return {};
  }
  // What is still under way to us would reset the connection all the same; what is here already does not.
  void let_alert_pass(int d) noexcept {
    ::shutdown(d, SHUT_WR);
    for (int i = 0; i < 8 && read_descriptor(d, shared_->room).what == io_result::status::done; ++i) {
    }
  }

  static void release(std::string& s) noexcept { std::string().swap(s); }
  void fail(std::error_code why) noexcept {
    over_ = over::failed;
    error_ = why;
    records_.silence();
  }
  // Once nothing is left to be sent.
  io_result verdict(int d) noexcept {
    if (over_ == over::ended) return {io_result::status::end, 0, {}};
    let_alert_pass(d);
    return {io_result::status::failed, 0, error_};
  }

  std::shared_ptr<tls_shared> shared_;
  std::shared_ptr<const tls_contexts> contexts_;  // until the handshake is over; in mode::library for ever, as `ssl_`
  ssl_pointer ssl_;
  std::shared_ptr<const tls_peer> peer_;
  tls_record_layer records_;
  std::string held_;     // the beginning of a record
  std::string pending_;  // the end of one that the socket has not taken
  std::error_code error_;
  std::uint8_t secret_in_ = 0, secret_out_ = 0;  // their sizes, once they are known
  mode mode_ = mode::handshake;
  over over_ = over::no;
  // `told_`: close_notify was sealed; `ending_`: our direction ends when `pending_` has left.
  bool queued_ = false, told_ = false;
  bool truncated_ : 1 = false, ending_ : 1 = false;
  const bool own_records_ : 1;  // what was asked for
};

}  // namespace hailwire::detail
