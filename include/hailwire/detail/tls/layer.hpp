// SPDX-License-Identifier: BSL-1.0
#pragma once

// TLS as a layer between a connection and its descriptor.
//
//   handshake ──→ records   TLS 1.3: OpenSSL's object is freed, tls_records.hpp goes on with its secrets
//        └──────→ library   TLS 1.2: OpenSSL goes on
//
// Memory. All connections of a server share one block (`tls_shared`): the buffer that sockets are read into, the one
// that records are made in, and OpenSSL's way to both, a single BIO. A connection keeps of its own the part of a record
// that has come so far, and the part of one that the socket did not take.
//
// Writing. Bytes that were sealed must leave as they are, in order, whatever is offered next. So they count as taken at
// once. When a record does not leave whole, nothing more is sealed, and `wants_write` tells that its end is still here.
//
// Fairness. A handshake costs as much as thousands of messages. Each turn of the loop has a budget of time for them;
// past it a layer answers `later` before it reads, so the client waits in its socket. Who waited longest goes first.
//
// Only one thread at a time runs a server's connections, so nothing here is locked.

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <cassert>
#include <chrono>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/io/driver.hpp"
#include "hailwire/detail/tls/records.hpp"
#include "hailwire/hooks.hpp"

namespace hailwire::detail {

/// Reasons as OpenSSL numbers them (`ERR_get_error`).
inline const std::error_category& tls_category() noexcept {
  static const struct : std::error_category {
    const char* name() const noexcept override { return "tls"; }
    std::string message(int value) const override {
      const char* text = ::ERR_reason_error_string(static_cast<unsigned long>(value));
      return text ? text : "TLS error";
    }
  } instance;
  return instance;
}

/// What OpenSSL complains of, earliest first, for that is the cause. Empties its queue.
inline std::error_code take_tls_error() noexcept {
  unsigned long why = ::ERR_peek_error();
  ::ERR_clear_error();
  if (why == 0) return std::make_error_code(std::errc::protocol_error);
  if (ERR_SYSTEM_ERROR(why)) return {ERR_GET_REASON(why), std::system_category()};
  return {static_cast<int>(why), tls_category()};
}

using ssl_ctx_pointer = std::unique_ptr<SSL_CTX, tls_free<::SSL_CTX_free>>;
using ssl_pointer = std::unique_ptr<SSL, tls_free<::SSL_free>>;
using x509_pointer = std::unique_ptr<X509, tls_free<::X509_free>>;
using bio_pointer = std::unique_ptr<BIO, tls_free<::BIO_free>>;

/// The certificates of one moment; a reload makes another one. Never changes, so any thread may read it.
struct tls_contexts {
  std::vector<ssl_ctx_pointer> all;  // the first serves names that nobody has
  std::map<std::string, SSL_CTX*, std::less<>> names;

  /// The context for a host name in lower case: by the name itself, else by a wildcard for its first label (RFC 6125,
  /// section 6.4.3).
  SSL_CTX* find(std::string_view host) const {
    auto found = names.find(host);
    if (found != names.end()) return found->second;
    auto dot = host.find('.');
    if (dot == host.npos) return nullptr;
    found = names.find('*' + std::string(host.substr(dot)));
    return found == names.end() ? nullptr : found->second;
  }
};

/// A certificate's subject, in the form of RFC 4514.
inline std::string tls_name(const X509_NAME* name) {
  bio_pointer memory(::BIO_new(::BIO_s_mem()));
  if (!memory || ::X509_NAME_print_ex(memory.get(), name, 0,
                                      XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB)) < 0)
    return {};
  char* text = nullptr;
  long size = ::BIO_get_mem_data(memory.get(), &text);
  return {text, static_cast<std::size_t>(std::max(0L, size))};
}

/// A certificate's alternative names, each with what it is in front. One that is not printable ASCII throughout is left
/// out: a name with a zero in it could pass for a shorter one.
inline std::vector<std::string> tls_names(const X509* certificate) {
  std::unique_ptr<GENERAL_NAMES, tls_free<::GENERAL_NAMES_free>> names(
      static_cast<GENERAL_NAMES*>(::X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::vector<std::string> out;
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    auto* value = static_cast<ASN1_STRING*>(::GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type));
    if (type != GEN_DNS && type != GEN_EMAIL && type != GEN_URI && type != GEN_IPADD) continue;
    std::string_view text(reinterpret_cast<const char*>(::ASN1_STRING_get0_data(value)),
                          static_cast<std::size_t>(::ASN1_STRING_length(value)));
    char address[INET6_ADDRSTRLEN] = "";
    if (type == GEN_IPADD) {
      if (text.size() != 4 && text.size() != 16) continue;
      ::inet_ntop(text.size() == 4 ? AF_INET : AF_INET6, text.data(), address, sizeof address);
      text = address;
    }
    if (!std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 127; })) continue;
    const char* what = type == GEN_DNS ? "DNS:" : type == GEN_EMAIL ? "email:" : type == GEN_URI ? "URI:" : "IP:";
    out.push_back(std::string(what).append(text));
  }
  return out;
}

/// What is known of the peer of a finished handshake. Of its certificate only what OpenSSL has verified.
inline tls_peer tls_facts_of(SSL* ssl) {
  tls_peer p;
  p.version = ::SSL_get_version(ssl);
  p.cipher = ::SSL_get_cipher_name(ssl);
  if (const char* name = ::SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) p.server_name = name;
  X509* certificate = ::SSL_get_verify_result(ssl) == X509_V_OK ? ::SSL_get0_peer_certificate(ssl) : nullptr;
  if (!certificate) return p;
  p.subject = tls_name(::X509_get_subject_name(certificate));
  p.names = tls_names(certificate);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (::X509_digest(certificate, ::EVP_sha256(), digest, &size) == 1)
    for (unsigned i = 0; i < size; ++i)
      p.fingerprint += {"0123456789abcdef"[digest[i] >> 4], "0123456789abcdef"[digest[i] & 15]};
  return p;
}

class tls_layer;

/// What all connections of a server share.
class tls_shared : public std::enable_shared_from_this<tls_shared> {
 public:
  /// `post` runs a function when the loop's turn is over.
  explicit tls_shared(move_only_function<void(move_only_function<void()>)> post)
      : post_(std::move(post)), bio_(::BIO_new(method())) {
    if (!bio_) throw std::bad_alloc();
    ::BIO_set_data(bio_.get(), this);
    ::BIO_set_init(bio_.get(), 1);
  }

  /// Sockets are read into this. With what OpenSSL may hold of a record it opens to less than a driver's buffer.
  static constexpr std::size_t room_size = 40 * 1024;
  std::vector<char> room = std::vector<char>(room_size);
  std::span<const char> input;  // of it, what OpenSSL has not read
  std::string out;              // what is to be sent; empty between calls
  std::string joined;           // what OpenSSL is to seal as one record
  tls_layer* current = nullptr;

  /// An `SSL` that reads `input` and writes `out`; null when there is no memory.
  ssl_pointer make(SSL_CTX* context) {
    ssl_pointer ssl(::SSL_new(context));
    if (!ssl) return nullptr;
    ::SSL_set_accept_state(ssl.get());
    ::BIO_up_ref(bio_.get());
    ::SSL_set_bio(ssl.get(), bio_.get(), bio_.get());
    return ssl;
  }
  static tls_shared& of(const SSL* ssl) { return *static_cast<tls_shared*>(::BIO_get_data(::SSL_get_rbio(ssl))); }

  /// Null when OpenSSL has to go on with this cipher itself.
  tls_suite* suite(std::uint16_t id) {
    auto at = suites_.find(id);
    if (at == suites_.end()) at = suites_.emplace(id, tls_suite::make(id)).first;
    return at->second.get();
  }

  /// Most connections are alike; those share one block.
  std::shared_ptr<const tls_peer> intern(tls_peer p) {
    if (!last_peer_ || !(*last_peer_ == p)) last_peer_ = std::make_shared<const tls_peer>(std::move(p));
    return last_peer_;
  }

  /// Whether a handshake may go on now; `queued` is the connection's own note that it was told to wait.
  bool admit(bool& queued) noexcept {
    if (spent_ < per_turn && (queued || waiting_ == 0)) {
      leave(queued);
      return true;
    }
    if (!std::exchange(queued, true)) ++waiting_;
    return false;
  }
  void leave(bool& queued) noexcept {
    if (std::exchange(queued, false)) --waiting_;
  }
  void spend(std::chrono::steady_clock::duration time) {
    spent_ += time;
    if (std::exchange(resetting_, true)) return;
    post_([me = shared_from_this()] {
      me->spent_ = {};
      me->resetting_ = false;
    });
  }

 private:
  // Two handshakes with a 2048-bit RSA key, or a dozen with a P-256 one; what a turn of messages takes.
  static constexpr std::chrono::milliseconds per_turn{2};

  static const BIO_METHOD* method() {
    static const std::unique_ptr<BIO_METHOD, tls_free<::BIO_meth_free>> m = [] {
      std::unique_ptr<BIO_METHOD, tls_free<::BIO_meth_free>> made(
          ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "hailwire"));
      if (!made) throw std::bad_alloc();
      ::BIO_meth_set_read(made.get(), [](BIO* b, char* to, int most) {
        auto& in = static_cast<tls_shared*>(::BIO_get_data(b))->input;
        ::BIO_clear_retry_flags(b);
        if (in.empty()) {
          ::BIO_set_retry_read(b);
          return -1;
        }
        std::size_t n = std::min(in.size(), static_cast<std::size_t>(most));
        std::memcpy(to, in.data(), n);
        in = in.subspan(n);
        return static_cast<int>(n);
      });
      ::BIO_meth_set_write(made.get(), [](BIO* b, const char* from, int size) {
        ::BIO_clear_retry_flags(b);
        try {
          static_cast<tls_shared*>(::BIO_get_data(b))->out.append(from, static_cast<std::size_t>(size));
          return size;
        } catch (const std::bad_alloc&) {
          return -1;
        }
      });
      ::BIO_meth_set_ctrl(made.get(), [](BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1L : 0L; });
      return made;
    }();
    return m.get();
  }

  move_only_function<void(move_only_function<void()>)> post_;
  bio_pointer bio_;
  std::map<std::uint16_t, std::unique_ptr<tls_suite>> suites_;
  std::shared_ptr<const tls_peer> last_peer_;
  std::chrono::steady_clock::duration spent_{};
  std::size_t waiting_ = 0;
  bool resetting_ = false;
};

class tls_layer final : public stream_layer {
 public:
  tls_layer(std::shared_ptr<tls_shared> shared, std::shared_ptr<const tls_contexts> contexts)
      : shared_(std::move(shared)), contexts_(std::move(contexts)), ssl_(shared_->make(contexts_->all.front().get())) {
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
    if (over_ != over::no) return verdict();
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
    s.current = this;
    std::size_t produced = 0;
    if (mode_ == mode::handshake) shake();
    if (mode_ == mode::library && over_ == over::no) produced = read_library(into);
    if (mode_ == mode::records && over_ == over::no) {
      in = s.input;  // what the handshake left
      std::size_t used = records_.receive(in, into, produced, s.out);
      if (records_.now() == tls_records::state::open) held_.assign(in.data() + used, in.size() - used);
      if (records_.now() == tls_records::state::ended) over_ = over::ended;
      if (records_.now() == tls_records::state::failed) fail(std::make_error_code(std::errc::protocol_error));
    }
    s.input = {};
    io_result sent = send(d);
    if (sent.what == io_result::status::failed) fail(sent.error);
    if (produced) return {io_result::status::done, produced, {}, got.emptied && over_ == over::no && pending_.empty()};
    if (!pending_.empty()) return {io_result::status::again, 0, {}};
    if (over_ != over::no) return verdict();
    // Nothing to tell of yet. Whether the socket is empty is for the next read to find out.
    return {io_result::status::later, 0, {}};
  }

  io_result write(int d, std::span<const std::span<const char>> pieces) override {
    if (over_ == over::failed) return {io_result::status::failed, 0, error_};
    if (mode_ == mode::handshake) return {io_result::status::again, 0, {}};
    if (!pending_.empty()) {
      io_result r = flush(d);
      if (r.what != io_result::status::done) return r;
    }
    std::size_t at = 0, taken = 0, piece = 0;
    auto next = [&](std::size_t most) {
      auto part = pieces[piece].subspan(at);
      part = part.first(std::min(part.size(), most));
      at += part.size();
      if (at == pieces[piece].size()) ++piece, at = 0;
      return part;
    };
    while (piece < pieces.size()) {
      std::array<std::span<const char>, 64> parts;
      std::size_t n = 0, size = 0, most = mode_ == mode::records ? records_.most() : tls_record_content;
      while (piece < pieces.size() && n < parts.size() && size < most)
        if (auto part = next(most - size); !part.empty()) parts[n++] = part, size += part.size();
      if (size == 0) break;
      if (!seal(std::span(parts).first(n), size)) {
        shared_->out.clear();
        fail(take_tls_error());
        return {io_result::status::failed, taken, error_};
      }
      io_result sent = send(d);
      if (sent.what == io_result::status::failed) {
        fail(sent.error);
        return {io_result::status::failed, taken, error_};
      }
      taken += size;
      if (!pending_.empty()) return {io_result::status::again, taken, {}};
    }
    return {io_result::status::done, taken, {}};
  }

  void shut_write(int d) override {
    if (over_ == over::failed || mode_ == mode::handshake) return;
    if (mode_ == mode::records) {
      records_.close(shared_->out);
    } else {
      ::SSL_shutdown(ssl_.get());
      ::ERR_clear_error();
    }
    send(d);
  }

  bool wants_write() const noexcept override { return !pending_.empty(); }
  std::shared_ptr<const tls_peer> peer() const noexcept override { return peer_; }

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
    if (mode_ == mode::records) ssl_.reset();
    contexts_.reset();
  }

  // Whether the records can go on without OpenSSL's object.
  bool take_over() {
    SSL* ssl = ssl_.get();
    if (::SSL_version(ssl) != TLS1_3_VERSION || ::SSL_has_pending(ssl)) return false;
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

  static std::size_t read_secret(std::string_view line, tls_keys& to) noexcept {
    auto digits = line.substr(line.rfind(' ') + 1);
    auto value = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : (c | 32) - 'a' + 10) & 15u; };
    if (digits.size() % 2 || digits.size() / 2 > to.secret.size()) return 0;
    for (std::size_t i = 0; i < digits.size() / 2; ++i)
      to.secret[i] = static_cast<unsigned char>(value(digits[2 * i]) << 4 | value(digits[2 * i + 1]));
    return digits.size() / 2;
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
    shared_->current = this;
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
    return {};
  }

  static void release(std::string& s) noexcept { std::string().swap(s); }
  void fail(std::error_code why) noexcept {
    over_ = over::failed;
    error_ = why;
  }
  io_result verdict() const {
    if (over_ == over::ended) return {io_result::status::end, 0, {}};
    return {io_result::status::failed, 0, error_};
  }

  std::shared_ptr<tls_shared> shared_;
  std::shared_ptr<const tls_contexts> contexts_;  // until the handshake is over
  ssl_pointer ssl_;                               // until then, or for ever in mode::library
  std::shared_ptr<const tls_peer> peer_;
  tls_records records_;
  std::string held_;     // the beginning of a record
  std::string pending_;  // the end of one that the socket has not taken
  std::error_code error_;
  std::size_t secret_in_ = 0, secret_out_ = 0;  // their sizes, once they are known
  mode mode_ = mode::handshake;
  over over_ = over::no;
  bool queued_ = false, truncated_ = false;
};

}  // namespace hailwire::detail
