// SPDX-License-Identifier: BSL-1.0
#pragma once

// A server's own TLS (OpenSSL 3): opt in by including this header and linking `hailwire::tls`.
//
//     hailwire::tls_context tls({.certificates = {hailwire::tls_certificate::from_files("chain.pem", "key.pem")}});
//     hailwire::listen_tls(live, tls, "0.0.0.0", 8443);
//
// Offered are TLS 1.3 and 1.2, the latter with ECDHE and AEAD ciphers only, no renegotiation, no compression, no early
// data. ALPN: a client that names protocols must name `http/1.1` among them. Which certificate a client gets is decided
// by the name it asks for (SNI). Resumption is by session tickets, so nothing is kept for clients that are gone.
//
// Handshake and records are OpenSSL's, about 14 KB for a connection. `tls_options::records` can have those of TLS 1.3
// kept by our own code, with OpenSSL's ciphers: then a connection costs a few hundred bytes more than a plain one while
// nothing is on its way. detail/tls/README.md says what that rests on and how it was tested. A client that is slow to
// read costs at most one record (16 KiB) besides. The time that handshakes take in one turn of the loop is bounded, so
// a burst of them delays newcomers, not those who are connected.
//
// Files are read when you say so, never later: call `reload` when certificates were renewed.

#include <openssl/pem.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/tls/layer.hpp"
#include "hailwire/detail/tls/self_check.hpp"
#include "hailwire/server.hpp"

namespace hailwire {

/// A certificate and its private key, as PEM text, which is erased when it is destroyed.
struct tls_certificate {
  std::string chain;          ///< the certificate, then those that lead to its root, in order
  std::string key;            ///< its private key
  std::string password = {};  ///< of the key, when it is encrypted

  ~tls_certificate() {
    ::OPENSSL_cleanse(chain.data(), chain.size());  // whose file may be the key's too
    ::OPENSSL_cleanse(key.data(), key.size());
    ::OPENSSL_cleanse(password.data(), password.size());
  }

  /// Reads both from files, which may be the same. Throws `std::system_error` with the file's name.
  static tls_certificate from_files(const std::string& chain, const std::string& key) {
    return {read_pem(chain), read_pem(key)};
  }
  /// A whole file of PEM text, at most 1 MiB. Throws `std::system_error`.
  static std::string read_pem(const std::string& path) {
    std::unique_ptr<std::FILE, detail::tls_free<std::fclose>> file(std::fopen(path.c_str(), "rb"));
    if (!file) throw std::system_error(errno, std::system_category(), path);
    std::setvbuf(file.get(), nullptr, _IONBF, 0);  // so that no key stays behind in a buffer of the library's
    std::string text(1 << 20, '\0');
    const std::size_t size = std::fread(text.data(), 1, text.size(), file.get());
    if (std::ferror(file.get())) throw std::system_error(EIO, std::system_category(), path);
    std::string exact(text, 0, size);
    ::OPENSSL_cleanse(text.data(), size);
    return exact;
  }
};

/// Whether clients show certificates of their own.
enum class tls_clients : unsigned char {
  anonymous,  ///< they are not asked for one
  may_show,   ///< they are asked; one that is shown must be valid
  must_show,  ///< without a valid one there is no connection
};

enum class tls_version : unsigned char { tls_1_2, tls_1_3 };

/// Who keeps the records of a TLS 1.3 connection once its handshake is over. Those of TLS 1.2 are always OpenSSL's.
enum class tls_records : unsigned char {
  own,      ///< hailwire, with OpenSSL's ciphers: a few hundred bytes for an idle connection
  openssl,  ///< OpenSSL, as far as a validated module (FIPS 140) asks for it: about 14 KB
};

/// What a `tls_context` is made of.
struct tls_options {
  /// At least one. Each serves the names in it (the DNS names among its alternative names, else its common name),
  /// wildcards for one label included; of two for one name the first. The first of all serves every other name, and
  /// clients that name none.
  std::vector<tls_certificate> certificates;
  tls_clients clients = tls_clients::anonymous;
  /// The authorities, as PEM text, whose client certificates are valid. They alone: not those of the system.
  std::string client_ca = {};
  /// Which client certificates are revoked, as PEM text (`read_pem`): a CRL of every authority that signs clients'
  /// certificates, for a client whose issuer has none here, or one that is out of date, is turned away. Empty: nobody
  /// is looked up. A `reload` with a newer one also ends resumption of sessions that began before.
  std::string client_crl = {};
  tls_version lowest = tls_version::tls_1_2;
  /// Whether clients may resume: two tickets each, good until two hours after the session's first full handshake, the
  /// end of the client's certificate or the next `reload`, which changes their key, whatever comes first.
  bool tickets = true;
  /// How long tickets are sealed under one key; that key opens them for as long again (RFC 9325, section 3.4). At
  /// least a second.
  std::chrono::seconds ticket_key_time = std::chrono::hours(12);
  /// When the check of OpenSSL that `own` begins with fails, OpenSSL keeps the records, and a server that listens says
  /// so in its log.
  tls_records records = tls_records::openssl;
};

namespace detail {
/// Makes what connections need. On an error `out` is as before, and `what` says which part of the options is at fault.
/// `unix_time`: seconds since 1970, for the lifetimes of tickets.
std::error_code make_tls_contexts(
    const tls_options& o, std::shared_ptr<const tls_contexts>& out, std::string& what,
    std::int64_t (*unix_time)() = [] { return static_cast<std::int64_t>(std::time(nullptr)); });
}  // namespace detail

}  // namespace hailwire

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// Certificates and rules of a TLS server. A copy is another name for the same.
///
/// Threads: all functions may be called from any thread. Lifetime: a server keeps what it needs.
class tls_context {
 public:
  /// Throws `std::system_error`: which certificate, and OpenSSL's reason.
  explicit tls_context(const tls_options& o) : shared_(std::make_shared<shared>()) {
    std::string what;
    if (std::error_code ec = detail::make_tls_contexts(o, shared_->now, what))
      throw std::system_error(ec, "hailwire: " + what);
  }

  /// Uses other certificates and rules for connections that are accepted from now on; those that are there go on. On an
  /// error nothing changes.
  std::error_code reload(const tls_options& o) {
    std::shared_ptr<const detail::tls_contexts> made;
    std::string what;
    if (std::error_code ec = detail::make_tls_contexts(o, made, what)) return ec;
    std::lock_guard lock(shared_->mutex);
    shared_->now.swap(made);
    return {};
  }

 private:
  friend std::uint16_t listen_tls(basic_server&, const tls_context&, const std::string&, std::uint16_t,
                                  std::error_code&);
  friend void adopt_tls(basic_server&, const tls_context&, int);

  struct shared {
    std::mutex mutex;
    std::shared_ptr<const detail::tls_contexts> now;
  };
  std::shared_ptr<const detail::tls_contexts> now() const {
    std::lock_guard lock(shared_->mutex);
    return shared_->now;
  }

  static std::shared_ptr<detail::tls_shared> shared_of(basic_server& s) {
    if (!s.layers_share_)
      s.layers_share_ =
          std::make_shared<detail::tls_shared>([&s](detail::move_only_function<void()> f) { s.post(std::move(f)); });
    return std::static_pointer_cast<detail::tls_shared>(s.layers_share_);
  }

  std::unique_ptr<detail::tls_layer> layer(basic_server& s) const {
    auto of = shared_of(s);
    auto with = now();
    if (!with->fallen_back.empty() && std::exchange(of->told_of, with.get()) != with.get())
      s.gate_.log()({log_level::warning, "tls_fallback"},
                    "TLS: OpenSSL keeps the records, because " + with->fallen_back);
    return std::unique_ptr<detail::tls_layer>(new detail::tls_layer(std::move(of), std::move(with)));
  }

  std::shared_ptr<shared> shared_;
};

/// Listens with TLS, otherwise as `basic_server::listen` does. Throws `std::system_error`; the overload with an
/// `std::error_code` does not, and returns 0.
inline std::uint16_t listen_tls(basic_server& server, const tls_context& context, const std::string& address,
                                std::uint16_t port, std::error_code& ec) {
  return server.bind_and_listen(address, port, [context](basic_server& s) { return context.layer(s); }, ec);
}
inline std::uint16_t listen_tls(basic_server& server, const tls_context& context, const std::string& address,
                                std::uint16_t port) {
  std::error_code ec;
  auto got = listen_tls(server, context, address, port, ec);
  if (ec) throw std::system_error(ec, "listen on " + address + " port " + std::to_string(port));
  return got;
}

/// Serves a connected descriptor, the server's from now on, that nothing was read from yet: its first byte is the
/// client's handshake. For a host that accepts connections itself. Safe from any thread. Throws `std::system_error` for
/// what is no descriptor.
inline void adopt_tls(basic_server& server, const tls_context& context, int descriptor) {
  server.serve(descriptor, [context](basic_server& s) { return context.layer(s); }, {});
}

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE

namespace hailwire {

/// What a host's own TLS knows of its client once the handshake is done, as `request::tls` shows it: for
/// `adopt_stream`, from the `native_handle` of an `asio::ssl::stream`. A certificate counts when OpenSSL has verified
/// it, not when a callback of the host's let one pass.
inline tls_peer tls_facts(SSL* ssl) { return detail::tls_facts_of(ssl); }

// ---- what a context is made of

namespace detail {

// Without one OpenSSL would ask on the terminal.
inline int tls_give_password(char* to, int most, int, void* password) noexcept {
  auto& text = *static_cast<const std::string*>(password);
  if (text.size() > static_cast<std::size_t>(most)) return 0;
  text.copy(to, text.size());
  return static_cast<int>(text.size());
}
inline bio_pointer tls_reader(std::string_view pem) {
  return bio_pointer(::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}
inline bool tls_load(SSL_CTX* ctx, const tls_certificate& c, std::string& what) {
  auto password = const_cast<std::string*>(&c.password);
  std::string which = what;
  what = which + ", chain";
  auto in = tls_reader(c.chain);
  x509_pointer leaf(in ? ::PEM_read_bio_X509_AUX(in.get(), nullptr, tls_give_password, password) : nullptr);
  if (!leaf || ::SSL_CTX_use_certificate(ctx, leaf.get()) != 1) return false;
  while (x509_pointer next{::PEM_read_bio_X509(in.get(), nullptr, tls_give_password, password)})
    if (::SSL_CTX_add1_chain_cert(ctx, next.get()) != 1) return false;
  // The end of the text is the end of the chain; all else is an error in it.
  unsigned long why = ::ERR_peek_last_error();
  if (ERR_GET_LIB(why) != ERR_LIB_PEM || ERR_GET_REASON(why) != PEM_R_NO_START_LINE) return false;
  ::ERR_clear_error();

  what = which + ", key";
  in = tls_reader(c.key);
  std::unique_ptr<EVP_PKEY, tls_free<::EVP_PKEY_free>> key(
      in ? ::PEM_read_bio_PrivateKey(in.get(), nullptr, tls_give_password, password) : nullptr);
  return key && ::SSL_CTX_use_PrivateKey(ctx, key.get()) == 1 && ::SSL_CTX_check_private_key(ctx) == 1;
}

inline bool tls_trust(SSL_CTX* ctx, X509_STORE* store, std::string_view pem) {
  std::string none;
  auto in = tls_reader(pem);
  std::size_t n = 0;
  while (x509_pointer ca{in ? ::PEM_read_bio_X509(in.get(), nullptr, tls_give_password, &none) : nullptr}) {
    if (::X509_STORE_add_cert(store, ca.get()) != 1 || ::SSL_CTX_add_client_CA(ctx, ca.get()) != 1) return false;
    ++n;
  }
  unsigned long why = ::ERR_peek_last_error();
  return n && ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE;
}

inline bool tls_revoke(X509_STORE* store, std::string_view pem) {
  auto in = tls_reader(pem);
  std::size_t n = 0;
  while (std::unique_ptr<X509_CRL, tls_free<::X509_CRL_free>> list{
      in ? ::PEM_read_bio_X509_CRL(in.get(), nullptr, nullptr, nullptr) : nullptr}) {
    if (::X509_STORE_add_crl(store, list.get()) != 1) return false;
    ++n;
  }
  unsigned long why = ::ERR_peek_last_error();
  return n && ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE &&
         ::X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) == 1;
}

// ---- what OpenSSL asks a context; its application data are the contexts that it belongs to

inline const tls_contexts& tls_contexts_of(const SSL* ssl) {
  return *static_cast<const tls_contexts*>(SSL_CTX_get_app_data(::SSL_get_SSL_CTX(ssl)));
}
inline int tls_note_hello(SSL* ssl, int* alert, void*) noexcept {
  try {
    tls_shared::of(ssl).hello_name = tls_hello_name(ssl);
    return SSL_CLIENT_HELLO_SUCCESS;
  } catch (const std::bad_alloc&) {
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
  }
}
inline int tls_ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                          int sealing) noexcept {
  return tls_contexts_of(ssl).tickets->use(::SSL_version(ssl) == TLS1_3_VERSION, name, iv, cipher, mac, sealing == 1);
}
inline int tls_make_ticket(SSL* ssl, void*) noexcept {
  try {
    return tls_mark_session(ssl, tls_contexts_of(ssl).tickets->now());
  } catch (const std::bad_alloc&) {
    return 0;
  }
}
inline SSL_TICKET_RETURN tls_take_ticket(SSL* ssl, SSL_SESSION* session, const unsigned char*, std::size_t,
                                         SSL_TICKET_STATUS status, void*) noexcept {
  const bool opened = status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW;
  if (!opened || !tls_session_holds(session, tls_shared::of(ssl).hello_name, tls_contexts_of(ssl).tickets->now()))
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}
inline int tls_choose(SSL* ssl, int*, void* contexts) noexcept {
  const char* name = ::SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (!name) return SSL_TLSEXT_ERR_NOACK;
  try {
    SSL_CTX* found = static_cast<const tls_contexts*>(contexts)->find(tls_lower(name));
    if (!found) return SSL_TLSEXT_ERR_NOACK;
    return ::SSL_set_SSL_CTX(ssl, found) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
  } catch (const std::bad_alloc&) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
}

// RFC 7301, section 3.2: without a protocol in common the handshake fails.
inline int tls_choose_protocol(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
                               unsigned length, void*) noexcept {
  static constexpr unsigned char known[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  unsigned char* chosen = nullptr;
  if (::SSL_select_next_proto(&chosen, size, known, sizeof known, in, length) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

inline std::error_code make_tls_contexts(const tls_options& o, std::shared_ptr<const tls_contexts>& out,
                                         std::string& what, std::int64_t (*unix_time)()) {
  ::ERR_clear_error();
  auto made = std::make_shared<tls_contexts>();
  what = "TLS without a certificate";
  if (o.certificates.empty()) return std::make_error_code(std::errc::invalid_argument);
  made->tickets = std::unique_ptr<tls_ticket_keys>(
      new tls_ticket_keys(std::max<std::int64_t>(1, o.ticket_key_time.count()), unix_time));
  bool ask = o.clients != tls_clients::anonymous;
  std::unique_ptr<X509_STORE, tls_free<::X509_STORE_free>> store(::X509_STORE_new());

  for (std::size_t i = 0; i < o.certificates.size(); ++i) {
    what = "certificate " + std::to_string(i + 1);
    ssl_ctx_pointer held(::SSL_CTX_new(::TLS_server_method()));
    SSL_CTX* ctx = held.get();
    if (!ctx || !store) return take_tls_error();
    ::SSL_CTX_set_min_proto_version(ctx, o.lowest == tls_version::tls_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    ::SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                   SSL_OP_PRIORITIZE_CHACHA);
    ::SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    // AEAD with forward secrecy: what RFC 9325, section 4.2 recommends. With AES in hardware the shorter key is the
    // faster one.
    bool fine = ::SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
                (::SSL_CTX_set_ciphersuites(
                     ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1 ||
                 ::SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") == 1);
    ::ERR_clear_error();  // an OpenSSL without ChaCha20 does not know its suite
    ::SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    fine = fine && ::SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const unsigned char*>("hailwire"), 8) == 1;
    if (!o.tickets) {
      ::SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
      ::SSL_CTX_set_num_tickets(ctx, 0);
    }
    ::SSL_CTX_set_alpn_select_cb(ctx, tls_choose_protocol, nullptr);
    ::SSL_CTX_set_tlsext_servername_callback(ctx, tls_choose);
    ::SSL_CTX_set_tlsext_servername_arg(ctx, made.get());
    SSL_CTX_set_app_data(ctx, made.get());
    ::SSL_CTX_set_client_hello_cb(ctx, tls_note_hello, nullptr);
    ::SSL_CTX_set_timeout(ctx, tls_session_time);
    fine = fine && ::SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_ticket_key) == 1 &&
           ::SSL_CTX_set_session_ticket_cb(ctx, tls_make_ticket, tls_take_ticket, nullptr) == 1;
    if (o.records == tls_records::own) ::SSL_CTX_set_keylog_callback(ctx, tls_layer::note_secret);
    if (!fine || !tls_load(ctx, o.certificates[i], what)) return take_tls_error();
    if (ask) {
      what = "client_ca";
      if (i == 0 && !tls_trust(ctx, store.get(), o.client_ca)) return take_tls_error();
      ::ERR_clear_error();
      what = "client_crl";
      if (i == 0 && !o.client_crl.empty() && !tls_revoke(store.get(), o.client_crl)) return take_tls_error();
      if (i != 0)
        ::SSL_CTX_set_client_CA_list(ctx, ::SSL_dup_CA_list(::SSL_CTX_get_client_CA_list(made->all[0].get())));
      ::SSL_CTX_set1_cert_store(ctx, store.get());
      ::SSL_CTX_set_verify(
          ctx, SSL_VERIFY_PEER | (o.clients == tls_clients::must_show ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
    }
    X509* certificate = ::SSL_CTX_get0_certificate(ctx);
    bool named = false;
    for (std::string_view name : tls_names(certificate)) {
      if (!name.starts_with("DNS:")) continue;
      named = true;
      made->names.emplace(tls_lower(name.substr(4)), ctx);
    }
    char common[256];
    int size = named ? -1
                     : ::X509_NAME_get_text_by_NID(::X509_get_subject_name(certificate), NID_commonName, common,
                                                   sizeof common);
    if (size > 0) made->names.emplace(tls_lower({common, static_cast<std::size_t>(size)}), ctx);
    made->all.push_back(std::move(held));
  }
  ::ERR_clear_error();
  if (o.records == tls_records::own) made->fallen_back = tls_self_check(made->all.front().get());
  made->own_records = o.records == tls_records::own && made->fallen_back.empty();
  out = std::move(made);
  return {};
}

}  // namespace detail

}  // namespace hailwire
