// SPDX-License-Identifier: BSL-1.0
#pragma once

// TLS for clients (OpenSSL 3): opt in by including this header and linking `hailwire::tls`.
//
//     hailwire::client_options o{.tls = hailwire::client_tls()};
//     hailwire::client<hailwire::websocket> live(io, "https://example.org/live", o);
//
// The server has to prove the URL's host by a certificate that leads to an authority that is trusted: one of the
// system's, or one of the authorities named here. TLS 1.2 or 1.3; ALPN offers `http/1.1`. There is no way to leave the
// check out: who runs a server of his own names its authority.

#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/net/tls_layer.hpp"
#include "hailwire/detail/tls/openssl.hpp"

namespace hailwire {

/// Whom a client trusts, and what it shows of itself. All as PEM text.
struct client_tls_options {
  std::string ca = {};           ///< the authorities that are trusted in place of the system's; empty: the system's
  std::string certificate = {};  ///< the client's own, then those that lead to its root; empty: none
  std::string key = {};          ///< its private key
};

/// What the connections of clients share. A copy is another name for the same; clients keep what they need. Safe to use
/// from several threads.
class client_tls {
 public:
  /// Throws `std::system_error` for what cannot be read, with OpenSSL's reason.
  explicit client_tls(const client_tls_options& o = {}) : shared_(std::make_shared<security>(o)) {}

  operator std::shared_ptr<const detail::client_security>() const { return shared_; }

  /// A whole file of PEM text, at most 1 MiB. Throws `std::system_error` with the file's name.
  static std::string read_pem(const std::string& path) {
    std::unique_ptr<std::FILE, detail::tls_free<std::fclose>> file(std::fopen(path.c_str(), "rb"));
    if (!file) throw std::system_error(errno, std::system_category(), path);
    std::string text(std::size_t{1} << 20, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file.get()));
    if (std::ferror(file.get())) throw std::system_error(EIO, std::system_category(), path);
    return text;
  }

 private:
  struct security final : detail::client_security {
    explicit security(const client_tls_options& o) : context(::SSL_CTX_new(::TLS_client_method())) {
      ::ERR_clear_error();
      SSL_CTX* c = context.get();
      // RFC 7301: a server that speaks other protocols on its port then knows what this client means.
      static constexpr unsigned char http[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
      must(c && ::SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) == 1 &&
               ::SSL_CTX_set_alpn_protos(c, http, sizeof http) == 0,
           "TLS");
      ::SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
      ::SSL_CTX_set_mode(
          c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
      ::SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
      if (o.ca.empty()) {
        must(::SSL_CTX_set_default_verify_paths(c) == 1, "the system's authorities");
      } else {
        trust(::SSL_CTX_get_cert_store(c), o.ca);
      }
      if (!o.certificate.empty()) show(c, o);
    }
    std::unique_ptr<detail::client_layer> layer(const std::string& host) const override {
      return std::make_unique<detail::tls_client_layer>(context.get(), host);
    }

    static void must(bool fine, std::string_view what) {
      if (!fine) throw std::system_error(detail::take_tls_error(), "hailwire: " + std::string(what));
    }
    static detail::bio_pointer reader(std::string_view pem) {
      return detail::bio_pointer(::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    }
    // Without one OpenSSL would ask on the terminal.
    static int no_password(char*, int, int, void*) noexcept { return 0; }
    static void trust(X509_STORE* store, std::string_view pem) {
      auto in = reader(pem);
      std::size_t n = 0;
      while (detail::x509_pointer ca{in ? ::PEM_read_bio_X509(in.get(), nullptr, no_password, nullptr) : nullptr}) {
        must(::X509_STORE_add_cert(store, ca.get()) == 1, "ca");
        ++n;
      }
      // The end of the text is the end of the list; all else is an error in it.
      const unsigned long why = ::ERR_peek_last_error();
      must(n > 0 && ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE, "ca");
      ::ERR_clear_error();
    }
    static void show(SSL_CTX* c, const client_tls_options& o) {
      auto in = reader(o.certificate);
      detail::x509_pointer own(in ? ::PEM_read_bio_X509(in.get(), nullptr, no_password, nullptr) : nullptr);
      must(own && ::SSL_CTX_use_certificate(c, own.get()) == 1, "certificate");
      while (detail::x509_pointer next{::PEM_read_bio_X509(in.get(), nullptr, no_password, nullptr)})
        must(::SSL_CTX_add1_chain_cert(c, next.get()) == 1, "certificate");
      ::ERR_clear_error();
      in = reader(o.key);
      std::unique_ptr<EVP_PKEY, detail::tls_free<::EVP_PKEY_free>> key(
          in ? ::PEM_read_bio_PrivateKey(in.get(), nullptr, no_password, nullptr) : nullptr);
      must(key && ::SSL_CTX_use_PrivateKey(c, key.get()) == 1 && ::SSL_CTX_check_private_key(c) == 1, "key");
    }

    detail::ssl_ctx_pointer context;
  };

  std::shared_ptr<const security> shared_;
};

}  // namespace hailwire
