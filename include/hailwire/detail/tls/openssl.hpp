// SPDX-License-Identifier: BSL-1.0
#pragma once

// OpenSSL's objects as owners, and its errors as `std::error_code`.

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <system_error>

namespace hailwire::detail {

template <auto Free>
struct tls_free {
  void operator()(auto* p) const noexcept { Free(p); }
};
using ssl_ctx_pointer = std::unique_ptr<SSL_CTX, tls_free<::SSL_CTX_free>>;
using ssl_pointer = std::unique_ptr<SSL, tls_free<::SSL_free>>;
using x509_pointer = std::unique_ptr<X509, tls_free<::X509_free>>;
using bio_pointer = std::unique_ptr<BIO, tls_free<::BIO_free>>;

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

}  // namespace hailwire::detail
