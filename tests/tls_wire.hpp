// SPDX-License-Identifier: BSL-1.0
// Certificates made on the spot, a TLS client in memory, and a layer with a pair of sockets between them.
#pragma once

#include "hailwire/tls.hpp"

#include <netinet/in.h>
#include <openssl/pem.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"

namespace tls_wire {

using hailwire::tls_certificate;
using hailwire::tls_clients;
using hailwire::tls_context;
using hailwire::tls_options;
using hailwire::detail::io_result;
using hailwire::detail::ssl_pointer;
using hailwire::detail::tls_free;
using hailwire::detail::tls_keys;
using hailwire::detail::tls_layer;
using hailwire::detail::tls_record_layer;
using hailwire::detail::tls_shared;
using hailwire::detail::tls_suite;
using hailwire::detail::x509_pointer;
using status = io_result::status;

/// A blocking socket, connected to a server on this machine. It waits 20 s, which only a failure reaches.
inline int connect_to(std::uint16_t port, int receive_buffer = 0) {
  int d = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer) ::setsockopt(d, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  timeval patience{20, 0};
  ::setsockopt(d, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(d, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
  return d;
}

// ---- certificates

using key_pointer = std::unique_ptr<EVP_PKEY, tls_free<::EVP_PKEY_free>>;

struct identity {
  x509_pointer certificate;
  key_pointer key;
};

inline void extend(X509* x, X509* issuer, int id, const char* value) {
  X509V3_CTX context;
  ::X509V3_set_ctx(&context, issuer, x, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, tls_free<::X509_EXTENSION_free>> e(
      ::X509V3_EXT_conf_nid(nullptr, &context, id, value));
  REQUIRE(e);
  ::X509_add_ext(x, e.get(), -1);
}

/// Signed by `issuer`, or by itself. `names` as X509V3 writes alternative names: `DNS:a,IP:127.0.0.1`.
inline identity issue(const std::string& common, const std::string& names = {}, const identity* issuer = nullptr,
                      bool authority = false, long lasts = 3600) {
  static long serial = 1;
  identity made{x509_pointer(::X509_new()), key_pointer(EVP_EC_gen("P-256"))};
  X509* x = made.certificate.get();
  ::X509_set_version(x, 2);
  ::ASN1_INTEGER_set(::X509_get_serialNumber(x), serial++);
  ::X509_gmtime_adj(::X509_getm_notBefore(x), -60);
  ::X509_gmtime_adj(::X509_getm_notAfter(x), lasts);
  auto* subject = ::X509_get_subject_name(x);
  ::X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>("Analytical Engines"), -1, -1, 0);
  ::X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(common.c_str()), -1,
                               -1, 0);
  X509* by = issuer ? issuer->certificate.get() : x;
  ::X509_set_issuer_name(x, ::X509_get_subject_name(by));
  ::X509_set_pubkey(x, made.key.get());
  if (authority) extend(x, by, NID_basic_constraints, "critical,CA:TRUE");
  if (!names.empty()) extend(x, by, NID_subject_alt_name, names.c_str());
  REQUIRE(::X509_sign(x, issuer ? issuer->key.get() : made.key.get(), ::EVP_sha256()) > 0);
  return made;
}

inline std::string text_of(BIO* b) {
  char* text = nullptr;
  long size = BIO_get_mem_data(b, &text);
  return {text, static_cast<std::size_t>(size)};
}
inline std::string pem(const X509* x) {
  hailwire::detail::bio_pointer b(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_X509(b.get(), x);
  return text_of(b.get());
}
inline std::string pem(const EVP_PKEY* k, const char* password = nullptr) {
  hailwire::detail::bio_pointer b(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_PKCS8PrivateKey(b.get(), k, password ? ::EVP_aes_128_cbc() : nullptr, password,
                                  password ? static_cast<int>(std::strlen(password)) : 0, nullptr, nullptr);
  return text_of(b.get());
}
inline tls_certificate pem(const identity& i) { return {pem(i.certificate.get()), pem(i.key.get())}; }

inline const identity& authority() {
  static const identity a = issue("an authority", {}, nullptr, true);
  return a;
}
inline const tls_certificate& plain() {
  static const tls_certificate c = pem(issue("localhost", "DNS:localhost,IP:127.0.0.1", &authority()));
  return c;
}
/// A list of revoked certificates of `issuer`'s, as PEM text.
inline std::string revoked(const identity& issuer, std::initializer_list<const identity*> all) {
  std::unique_ptr<X509_CRL, tls_free<::X509_CRL_free>> list(::X509_CRL_new());
  std::unique_ptr<ASN1_TIME, tls_free<::ASN1_TIME_free>> from(::X509_gmtime_adj(nullptr, -60)),
      to(::X509_gmtime_adj(nullptr, 3600));
  ::X509_CRL_set_version(list.get(), 1);
  ::X509_CRL_set_issuer_name(list.get(), ::X509_get_subject_name(issuer.certificate.get()));
  ::X509_CRL_set1_lastUpdate(list.get(), from.get());
  ::X509_CRL_set1_nextUpdate(list.get(), to.get());
  for (auto* i : all) {
    auto* entry = ::X509_REVOKED_new();
    ::X509_REVOKED_set_serialNumber(entry, ::X509_get_serialNumber(i->certificate.get()));
    ::X509_REVOKED_set_revocationDate(entry, from.get());
    ::X509_CRL_add0_revoked(list.get(), entry);
  }
  REQUIRE(::X509_CRL_sign(list.get(), issuer.key.get(), ::EVP_sha256()) > 0);
  hailwire::detail::bio_pointer b(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_X509_CRL(b.get(), list.get());
  return text_of(b.get());
}

/// Who keeps the records in what `with` makes.
inline hailwire::tls_records records_kept = hailwire::tls_records::own;
struct keeping {
  explicit keeping(hailwire::tls_records by) { records_kept = by; }
  keeping(const keeping&) = delete;
  keeping& operator=(const keeping&) = delete;
  ~keeping() { records_kept = hailwire::tls_records::own; }
};
/// Runs the rest of a test once for each way of keeping records.
#define KEEP_RECORDS_BOTH_WAYS                                                                           \
  const tls_wire::keeping kept_by(GENERATE(hailwire::tls_records::own, hailwire::tls_records::openssl)); \
  INFO((tls_wire::records_kept == hailwire::tls_records::own ? "records are our own" : "records are OpenSSL's"))

inline tls_options with(std::vector<tls_certificate> c = {plain()}) {
  tls_options o{.certificates = std::move(c)};
  o.records = records_kept;
  return o;
}

// ---- a client in memory and a layer, with a pair of sockets between them

using ctx_pointer = hailwire::detail::ssl_ctx_pointer;

struct client_options {
  int version = 0;  // 0: whatever both can
  std::string name = "localhost";
  const char* suite = nullptr;
  std::vector<unsigned char> protocols = {};
  const identity* own = nullptr;
  SSL_SESSION* resume = nullptr;
  unsigned char fragment = 0;
};

struct session_free {
  void operator()(SSL_SESSION* s) const noexcept { ::SSL_SESSION_free(s); }
};
using session_pointer = std::unique_ptr<SSL_SESSION, session_free>;

class client {
 public:
  explicit client(const client_options& o) : ctx_(::SSL_CTX_new(::TLS_client_method())) {
    if (o.version)
      ::SSL_CTX_set_min_proto_version(ctx_.get(), o.version), ::SSL_CTX_set_max_proto_version(ctx_.get(), o.version);
    if (o.suite && o.version == TLS1_3_VERSION) REQUIRE(::SSL_CTX_set_ciphersuites(ctx_.get(), o.suite) == 1);
    if (o.suite && o.version == TLS1_2_VERSION) REQUIRE(::SSL_CTX_set_cipher_list(ctx_.get(), o.suite) == 1);
    ::SSL_CTX_set_session_cache_mode(ctx_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    ::SSL_CTX_sess_set_new_cb(ctx_.get(), [](SSL* s, SSL_SESSION* session) {
      static_cast<client*>(SSL_get_app_data(s))->tickets.emplace_back(session);
      return 1;
    });
    ::SSL_CTX_set_keylog_callback(ctx_.get(), [](const SSL* s, const char* line) {
      static_cast<client*>(SSL_get_app_data(s))->keys += std::string(line) + '\n';
    });
    ssl.reset(::SSL_new(ctx_.get()));
    SSL_set_app_data(ssl.get(), this);
    if (!o.name.empty()) SSL_set_tlsext_host_name(ssl.get(), o.name.c_str());
    if (!o.protocols.empty())
      ::SSL_set_alpn_protos(ssl.get(), o.protocols.data(), static_cast<unsigned>(o.protocols.size()));
    if (o.own)
      ::SSL_use_certificate(ssl.get(), o.own->certificate.get()), ::SSL_use_PrivateKey(ssl.get(), o.own->key.get());
    if (o.resume) ::SSL_set_session(ssl.get(), o.resume);
    if (o.fragment) ::SSL_set_tlsext_max_fragment_length(ssl.get(), o.fragment);
    ::SSL_set_connect_state(ssl.get());
    in_ = ::BIO_new(::BIO_s_mem());
    out_ = ::BIO_new(::BIO_s_mem());
    BIO_set_mem_eof_return(in_, -1);
    BIO_set_mem_eof_return(out_, -1);
    ::SSL_set_bio(ssl.get(), in_, out_);
  }
  ~client() {
    if (ssl)
      ::SSL_set_shutdown(ssl.get(),
                         SSL_SENT_SHUTDOWN);  // else OpenSSL takes its session for one that must not be resumed
    ::ERR_clear_error();
  }

  /// What it wants to send.
  std::string take() {
    std::string text = text_of(out_);
    (void)BIO_reset(out_);
    return text;
  }
  /// What has come for it; goes on as far as it can.
  void give(std::string_view bytes) {
    raw.append(bytes);
    if (!bytes.empty()) ::BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
    ::ERR_clear_error();
    if (!::SSL_is_init_finished(ssl.get())) {
      int r = ::SSL_do_handshake(ssl.get());
      if (r != 1 && ::SSL_get_error(ssl.get(), r) != SSL_ERROR_WANT_READ) {
        failed = true;
        if (!reason) reason = ERR_GET_REASON(::ERR_peek_error());
      }
    }
    char buffer[20000];
    for (std::size_t n; ::SSL_is_init_finished(ssl.get());) {
      if (::SSL_read_ex(ssl.get(), buffer, sizeof buffer, &n) == 1) {
        received.append(buffer, n);
        continue;
      }
      int why = ::SSL_get_error(ssl.get(), 0);
      if (why == SSL_ERROR_ZERO_RETURN) closed = true;
      if (why == SSL_ERROR_SSL) {
        failed = true;
        if (!reason) reason = ERR_GET_REASON(::ERR_peek_error());
      }
      break;
    }
    ::ERR_clear_error();
  }
  void write(std::string_view text) {
    std::size_t n = 0;
    REQUIRE(::SSL_write_ex(ssl.get(), text.data(), text.size(), &n) == 1);
  }
  std::string secret(std::string_view label) const {
    auto at = keys.find(label);
    auto line = keys.substr(at, keys.find('\n', at) - at);
    std::string out;
    for (std::size_t i = line.rfind(' ') + 1; i + 1 < line.size(); i += 2)
      out += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    return out;
  }

  std::string received, raw, keys;
  bool closed = false, failed = false;
  int reason = 0;
  std::vector<session_pointer> tickets;
  ssl_pointer ssl;

 private:
  ctx_pointer ctx_;
  BIO *in_, *out_;
};

/// Stands in for a loop: what is posted runs at the end of a turn.
struct turns {
  std::shared_ptr<tls_shared> shared = std::make_shared<tls_shared>(
      [this](hailwire::detail::move_only_function<void()> f) { posted.push_back(std::move(f)); });
  std::deque<hailwire::detail::move_only_function<void()>> posted;
  void next() {
    for (auto all = std::exchange(posted, {}); auto& f : all) f();
  }
};

using contexts = std::shared_ptr<const hailwire::detail::tls_contexts>;
inline contexts made(const tls_options& o) {
  contexts out;
  std::string what;
  INFO(what);
  REQUIRE_FALSE(hailwire::detail::make_tls_contexts(o, out, what));
  return out;
}

class wire {
 public:
  explicit wire(contexts c = made(with()), const client_options& o = {}, turns* t = nullptr)
      : peer(o), loop(t ? *t : own_), layer(std::make_unique<tls_layer>(loop.shared, std::move(c))) {
    int two[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, two) == 0);
    here = two[0], there = two[1];
  }
  ~wire() {
    layer.reset();
    for (int d : {here, there})
      if (d >= 0) ::close(d);
    CHECK(::ERR_peek_error() == 0);
  }

  /// Client to socket, `chunk` bytes at a time with a look by the layer after each.
  void push(std::size_t chunk = SIZE_MAX) {
    std::string bytes = peer.take();
    for (std::size_t i = 0; i < bytes.size() && there >= 0;) {
      std::size_t n = std::min({chunk, bytes.size() - i, std::size_t{60'000}, cut - std::min(cut, sent)});
      if (n == 0 && sent >= cut) {
        cut = SIZE_MAX;
        if (reset_at_cut) {
          ::close(std::exchange(there, -1));
          look();
          return;
        }
        look();
        continue;
      }
      REQUIRE(::send(there, bytes.data() + i, n, MSG_NOSIGNAL) == static_cast<ssize_t>(n));
      i += n, sent += n;
      look();
    }
  }
  /// Reads as a driver does, until there is no more.
  void look() {
    for (int i = 0; i < 1000; ++i) {
      io_result r = layer->read(here, buffer);
      last = r;
      if (r.what == status::done) got.append(buffer.data(), r.bytes);
      if (r.what == status::later) loop.next();
      if (r.what != status::done && r.what != status::later) return;
    }
    FAIL("a layer that never says it has read all");
  }
  /// Socket to client, at most so many bytes.
  std::size_t pull(std::size_t most = SIZE_MAX) {
    char bytes[20000];
    std::size_t all = 0;
    while (most && there >= 0) {
      ssize_t n = ::recv(there, bytes, std::min(most, sizeof bytes), 0);
      if (n <= 0) break;
      peer.give({bytes, static_cast<std::size_t>(n)});
      all += static_cast<std::size_t>(n), most -= static_cast<std::size_t>(n);
    }
    return all;
  }
  /// Until both have nothing more to say.
  void settle(std::size_t chunk = SIZE_MAX) {
    peer.give({});
    for (int i = 0; i < 20; ++i) {
      push(chunk);
      look();
      pull();
    }
  }
  /// As a connection writes: what was not taken is offered again.
  void write(std::string_view text) {
    while (!text.empty() || layer->wants_write()) {
      std::span<const char> piece(text);
      io_result r = layer->write(here, {&piece, 1});
      REQUIRE((r.what == status::done || r.what == status::again));
      text.remove_prefix(r.bytes);
      pull();
    }
  }

  client peer;

 private:
  turns own_;

 public:
  turns& loop;
  std::unique_ptr<tls_layer> layer;
  int here = -1, there = -1;
  std::vector<char> buffer = std::vector<char>(64 * 1024);
  std::string got;
  io_result last;
  std::size_t sent = 0, cut = SIZE_MAX;  // of what the client sends: at `cut` bytes there is a pause, or the end
  bool reset_at_cut = false;
};

/// The client's side of a TLS 1.3 connection with keys in hand, to send what no client would.
struct forger {
  explicit forger(wire& w) : suite(tls_suite::make(0x1301)) {
    auto secret = w.peer.secret("CLIENT_TRAFFIC_SECRET_0");
    std::copy(secret.begin(), secret.end(), reinterpret_cast<char*>(keys.secret.data()));
    REQUIRE(suite->derive(keys));
  }
  ~forger() { suite->forget(keys); }
  void update() { REQUIRE(suite->update(keys)); }
  std::string record(std::uint8_t type, std::string_view content) {
    std::string out;
    std::span<const char> piece(content);
    REQUIRE(suite->seal(keys, type, {&piece, 1}, out));
    return out;
  }
  std::string records(std::initializer_list<std::pair<std::uint8_t, std::string>> all) {
    std::string out;
    for (auto& [type, content] : all) out += record(type, content);
    return out;
  }
  std::unique_ptr<tls_suite> suite;
  tls_keys keys;
};

inline client_options v13(const char* suite = "TLS_AES_128_GCM_SHA256") {
  return {.version = TLS1_3_VERSION, .suite = suite};
}
inline client_options v12(const char* suite = nullptr) { return {.version = TLS1_2_VERSION, .suite = suite}; }

inline std::string some_text(std::size_t size) {
  std::string out(size, ' ');
  std::uint32_t x = 7;
  for (char& c : out) c = static_cast<char>('a' + (x = x * 1664525 + 1013904223) % 26);
  return out;
}

struct kind {
  int version;
  const char* suite;
};
inline constexpr kind kinds[] = {{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
                                 {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
#ifndef OPENSSL_NO_CHACHA20
                                 {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
                                 {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
                                 {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"}};
#else
                                 {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
                                 {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
                                 {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"}};
#endif
inline client_options of(const kind& k) { return {.version = k.version, .suite = k.suite}; }

}  // namespace tls_wire
