// SPDX-License-Identifier: BSL-1.0
#pragma once

// What connections have in common: certificates, and one block for each server, with the buffer that sockets are read
// into, the one that records are made in, OpenSSL's way to both, the ciphers, and the time that handshakes may take.

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/tls/cipher.hpp"
#include "hailwire/detail/tls/openssl.hpp"
#include "hailwire/detail/tls/tickets.hpp"
#include "hailwire/hooks.hpp"

namespace hailwire::detail {

/// The certificates of one moment; a reload makes another one. Never changes, so any thread may read it; but for
/// the keys of tickets, which any thread may use.
struct tls_contexts {
  std::vector<ssl_ctx_pointer> all;  // the first serves names that nobody has
  std::map<std::string, SSL_CTX*, std::less<>> names;
  std::unique_ptr<tls_ticket_keys> tickets;  // keys, and the clock that tickets are judged by
  bool own_records = false;                  // else OpenSSL keeps them, also of TLS 1.3
  std::string fallen_back;                   // why it does so although it was not asked to

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
  std::span<const char> input;    // of it, what OpenSSL has not read
  std::string out;                // what is to be sent; empty between calls
  std::string joined;             // what OpenSSL is to seal as one record
  std::string hello_name;         // what the client that shakes hands asks for
  const void* told_of = nullptr;  // the contexts whose falling back is in the log
  tls_layer* current = nullptr;

  /// What belongs to one call alone is gone when it ends, however it ends.
  void rest() noexcept {
    input = {};
    out.clear();
    current = nullptr;
  }

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

}  // namespace hailwire::detail
