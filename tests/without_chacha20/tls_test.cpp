// SPDX-License-Identifier: BSL-1.0
// TLS with an OpenSSL that has no ChaCha20: the headers and the tests of records and connections are compiled with
// OPENSSL_NO_CHACHA20, as <openssl/opensslconf.h> of such a build says, and this program replaces the two functions by
// which libssl and our own code would get at the cipher.
#include "hailwire/tls.hpp"

#include <dlfcn.h>

#include "tls_wire.hpp"

#ifndef OPENSSL_NO_CHACHA20
#error "for a build without ChaCha20"
#endif

extern "C" EVP_CIPHER* EVP_CIPHER_fetch(OSSL_LIB_CTX* library, const char* name, const char* properties) {
  static const auto original = reinterpret_cast<decltype(&::EVP_CIPHER_fetch)>(::dlsym(RTLD_NEXT, "EVP_CIPHER_fetch"));
  return std::string_view(name).starts_with("ChaCha20") ? nullptr : original(library, name, properties);
}
// Such a build does not know the suite's name, and has another list to begin with.
extern "C" int SSL_CTX_set_ciphersuites(SSL_CTX* context, const char* names) {
  static const auto original =
      reinterpret_cast<decltype(&::SSL_CTX_set_ciphersuites)>(::dlsym(RTLD_NEXT, "SSL_CTX_set_ciphersuites"));
  const std::string_view all = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
  if (names == all) names = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
  return std::string_view(names).find("CHACHA20") == std::string_view::npos ? original(context, names) : 0;
}

using namespace tls_wire;

TEST_CASE("without ChaCha20 the other suites are offered, and their records are our own") {
  CHECK_FALSE(tls_suite::make(0x1303));
  CHECK(tls_suite::make(0x1301));
  CHECK(tls_suite::make(0x1302));
  auto c = made(with());
  CHECK(c->own_records);
  CHECK(c->fallen_back.empty());
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    wire w(c, {.version = version});
    w.settle();
    REQUIRE(w.layer->peer());
    CHECK(w.layer->peer()->cipher.find("AES") != std::string::npos);
    CHECK(w.layer->keeps_records() == (version == TLS1_3_VERSION));
    w.write("hello");
    CHECK(w.peer.received == "hello");
  }
}

TEST_CASE("a client that offers ChaCha20 alone is turned away with an alert") {
  KEEP_RECORDS_BOTH_WAYS;
  wire w(made(with()), v13());
  w.peer.give({});
  auto hello = w.peer.take();
  // Behind record and message headers, version and random: the session's name, and a list with one suite in it.
  std::size_t at = 5 + 4 + 2 + 32;
  at += 1 + static_cast<std::size_t>(static_cast<unsigned char>(hello.at(at))) + 2;
  REQUIRE(hello.substr(at, 2) == "\x13\x01");
  hello[at + 1] = 3;
  REQUIRE(::send(w.there, hello.data(), hello.size(), 0) == static_cast<ssize_t>(hello.size()));
  w.look();
  CHECK(w.last.what == status::failed);
  char alert[7];
  REQUIRE(::recv(w.there, alert, sizeof alert, 0) == 7);
  CHECK(std::string_view(alert, 7) == std::string_view("\x15\x03\x03\x00\x02\x02\x28", 7));  // handshake_failure
}
