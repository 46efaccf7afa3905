// SPDX-License-Identifier: BSL-1.0
#pragma once

// TLS for the load generator's clients, in a build that has OpenSSL: calls that look like a socket's. The certificate
// is not checked, because it is not the client's work that is measured, and one cipher suite is offered, so that all
// servers do the same work.

#include <sys/types.h>

#include <cerrno>
#include <cstddef>

#ifdef HAILWIRE_LOAD_TLS
#include <openssl/ssl.h>
#endif

namespace load {

#ifdef HAILWIRE_LOAD_TLS
inline constexpr bool has_tls = true;

/// A client's end of a TLS connection.
class tls_end {
 public:
  explicit tls_end(int fd) : ssl_(::SSL_new(context())) {
    ::SSL_set_fd(ssl_, fd);
    ::SSL_set_connect_state(ssl_);
  }
  tls_end(const tls_end&) = delete;
  tls_end& operator=(const tls_end&) = delete;
  ~tls_end() { ::SSL_free(ssl_); }

  /// 1 when the handshake is done; else -1 with `errno`, which is `EAGAIN` while it waits for the server.
  int shake() { return static_cast<int>(result(::SSL_do_handshake(ssl_))); }
  ssize_t recv(char* to, std::size_t size) { return result(::SSL_read(ssl_, to, static_cast<int>(size))); }
  ssize_t send(const char* from, std::size_t size) { return result(::SSL_write(ssl_, from, static_cast<int>(size))); }

 private:
  ssize_t result(int r) {
    if (r > 0) return r;
    switch (::SSL_get_error(ssl_, r)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
      case SSL_ERROR_ZERO_RETURN:
        return 0;
      case SSL_ERROR_SYSCALL:
        return r;
      default:
        errno = EPROTO;
        return -1;
    }
  }
  static SSL_CTX* context() {
    static SSL_CTX* const made = [] {
      SSL_CTX* c = ::SSL_CTX_new(::TLS_client_method());
      ::SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
      ::SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256");
      ::SSL_CTX_set_mode(
          c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
      return c;
    }();
    return made;
  }
  SSL* ssl_;
};
#else
inline constexpr bool has_tls = false;

class tls_end {
 public:
  explicit tls_end(int) {}
  int shake() { return errno = ENOSYS, -1; }
  ssize_t recv(char*, std::size_t) { return errno = ENOSYS, -1; }
  ssize_t send(const char*, std::size_t) { return errno = ENOSYS, -1; }
};
#endif

}  // namespace load
