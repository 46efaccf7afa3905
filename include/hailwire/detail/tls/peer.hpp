// SPDX-License-Identifier: BSL-1.0
#pragma once

// What is told of a peer once its handshake is over, and the names that stand in a certificate.

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/tls/openssl.hpp"
#include "hailwire/hooks.hpp"

namespace hailwire::detail {

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

}  // namespace hailwire::detail
