// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/net/layer.hpp"
#include "hailwire/detail/tls/openssl.hpp"

namespace hailwire::detail {

/// TLS between two buffers in memory, in the client's role.
class tls_client_layer final : public client_layer {
 public:
  /// `host` is the name that is asked for (SNI: RFC 6066, section 3) and has to be proven, or an address that has to
  /// be.
  tls_client_layer(SSL_CTX* context, const std::string& host) : ssl_(::SSL_new(context)) {
    bio_pointer in(::BIO_new(::BIO_s_mem())), out(::BIO_new(::BIO_s_mem()));
    if (!ssl_ || !in || !out) {
      fail("out of memory");
      return;
    }
    in_ = in.get(), out_ = out.get();
    ::SSL_set_bio(ssl_.get(), in.release(), out.release());
    ::SSL_set_connect_state(ssl_.get());
    // An address is no name: it is not asked for, and is looked for among the certificate's addresses.
    X509_VERIFY_PARAM* wanted = ::SSL_get0_param(ssl_.get());
    if (::X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str()) == 1) return;
    ::ERR_clear_error();
    ::X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (::X509_VERIFY_PARAM_set1_host(wanted, host.data(), host.size()) != 1 ||
        ::SSL_set_tlsext_host_name(ssl_.get(), host.c_str()) != 1)
      fail("the host's name cannot be asked for");
  }

  bool start(std::string& wire) override { return over_ ? false : handshake(wire); }

  bool receive(std::span<const char> in, std::string& wire, std::string& plain) override {
    if (over_) return false;
    ::ERR_clear_error();
    if (::BIO_write(in_, in.data(), static_cast<int>(in.size())) != static_cast<int>(in.size()))
      return fail("out of memory"), false;
    if (!opened_ && (!handshake(wire) || !opened_)) return !over_;
    for (;;) {
      const std::size_t before = plain.size();
      plain.resize(before + piece);
      const int n = ::SSL_read(ssl_.get(), plain.data() + before, static_cast<int>(piece));
      plain.resize(before + (n > 0 ? static_cast<std::size_t>(n) : 0));
      if (n > 0) continue;
      drain(wire);  // answers of TLS itself: key updates, alerts
      return judge(n);
    }
  }

  bool send(std::string_view plain, std::string& wire) override {
    ::ERR_clear_error();
    while (!plain.empty() && !over_) {
      const int n =
          ::SSL_write(ssl_.get(), plain.data(), static_cast<int>(std::min(plain.size(), std::size_t{1} << 20)));
      if (n <= 0) return judge(n);
      plain.remove_prefix(static_cast<std::size_t>(n));
      drain(wire);
    }
    return !over_;
  }
  void shut(std::string& wire) override {
    if (over_) return;
    ::ERR_clear_error();
    ::SSL_shutdown(ssl_.get());
    ::ERR_clear_error();
    drain(wire);
    over_ = true;
  }
  bool opened() const noexcept override { return opened_; }
  const std::string& error() const noexcept override { return error_; }

 private:
  static constexpr std::size_t piece = std::size_t{16} << 10;  // what a record holds

  bool handshake(std::string& wire) {
    ::ERR_clear_error();
    const int n = ::SSL_do_handshake(ssl_.get());
    drain(wire);
    if (n == 1) return opened_ = true;
    return judge(n);
  }
  /// What a call that did not go through means. False when it is over.
  bool judge(int n) {
    switch (::SSL_get_error(ssl_.get(), n)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        return true;
      case SSL_ERROR_ZERO_RETURN:  // the server has ended it in order
        over_ = true;
        return false;
      default:
        break;
    }
    if (const long why = ::SSL_get_verify_result(ssl_.get()); !opened_ && why != X509_V_OK) {
      ::ERR_clear_error();
      return fail(std::string("the server's certificate is refused: ") + ::X509_verify_cert_error_string(why)), false;
    }
    return fail("TLS: " + take_tls_error().message()), false;
  }
  void drain(std::string& wire) {
    char* bytes = nullptr;
    const long n = BIO_get_mem_data(out_, &bytes);
    if (n <= 0) return;
    wire.append(bytes, static_cast<std::size_t>(n));
    BIO_reset(out_);
  }
  void fail(std::string why) {
    over_ = true;
    error_ = std::move(why);
  }

  ssl_pointer ssl_;
  BIO *in_ = nullptr, *out_ = nullptr;  // the SSL's
  std::string error_;
  bool opened_ = false, over_ = false;
};

}  // namespace hailwire::detail
