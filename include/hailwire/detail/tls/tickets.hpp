// SPDX-License-Identifier: BSL-1.0
#pragma once

// Session tickets: the keys that they are sealed under, and how long a session may be resumed.
//
// OpenSSL's own keys last as long as their context, and it gives each TLS 1.3 ticket a new lifetime, so that a chain of
// tickets goes on for ever and a client's certificate outlives its end. Here keys are replaced by time (RFC 9325,
// section 3.4), and each ticket says until when its session is good: two hours from the first full handshake, or the
// end of the first certificate of the client's chain to end. Resuming copies that moment and never moves it. Until
// then a ticket also remembers the name that was asked for, because TLS 1.2 may not resume under another (RFC 6066,
// section 3).

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/tls/openssl.hpp"

namespace hailwire::detail {

/// The keys of all tickets of a context. Any thread may use them.
class tls_ticket_keys {
 public:
  /// `period`: seconds until a key is replaced; for as long again it still opens what it has sealed. `unix_time` in
  /// seconds.
  tls_ticket_keys(std::int64_t period, std::int64_t (*unix_time)()) : period_(period), unix_time_(unix_time) {}

  std::int64_t now() const noexcept { return unix_time_(); }

  /// What OpenSSL asks of `SSL_CTX_set_tlsext_ticket_key_evp_cb`: 1 for a key, 2 for one whose ticket is to be
  /// replaced, 0 for none, -1 for an error.
  int use(bool tls_1_3, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
          bool sealing) noexcept {
    std::lock_guard lock(mutex_);
    if (!rotate()) return -1;
    if (sealing) {
      std::memcpy(name, now_.name.data(), now_.name.size());
      const bool fine = ::RAND_bytes(iv, 16) == 1 &&
                        ::EVP_EncryptInit_ex2(cipher, ::EVP_aes_256_cbc(), now_.cipher.data(), iv, nullptr) == 1 &&
                        authenticate(mac, now_);
      return fine ? 1 : -1;
    }
    for (const key* k : {&now_, &before_}) {
      if (!k->made || !std::equal(k->name.begin(), k->name.end(), name)) continue;
      if (::EVP_DecryptInit_ex2(cipher, ::EVP_aes_256_cbc(), k->cipher.data(), iv, nullptr) != 1 ||
          !authenticate(mac, *k))
        return -1;
      return tls_1_3 || k == &before_ ? 2 : 1;  // in TLS 1.3 each ticket is for one use (RFC 8446, appendix C.4)
    }
    return 0;
  }

 private:
  struct key {
    std::array<unsigned char, 16> name{};
    std::array<unsigned char, 32> cipher{}, mac{};
    std::optional<std::int64_t> made;
    key() = default;
    key(const key&) = delete;
    key& operator=(const key&) = default;
    ~key() { erase(); }
    void erase() noexcept {
      ::OPENSSL_cleanse(cipher.data(), cipher.size());
      ::OPENSSL_cleanse(mac.data(), mac.size());
      made.reset();
    }
  };

  // A clock that was set back makes no key older than it is.
  bool rotate() noexcept {
    const std::int64_t t = now();
    if (now_.made && t < *now_.made) now_.made = t;
    if (before_.made && t - *before_.made >= 2 * period_) before_.erase();
    if (now_.made && t - *now_.made < period_) return true;
    key fresh;
    if (::RAND_bytes(fresh.name.data(), static_cast<int>(fresh.name.size())) != 1 ||
        ::RAND_priv_bytes(fresh.cipher.data(), static_cast<int>(fresh.cipher.size())) != 1 ||
        ::RAND_priv_bytes(fresh.mac.data(), static_cast<int>(fresh.mac.size())) != 1)
      return false;
    fresh.made = t;
    before_.erase();
    if (now_.made && t - *now_.made < 2 * period_) before_ = now_;
    now_ = fresh;
    return true;
  }
  static bool authenticate(EVP_MAC_CTX* mac, const key& k) noexcept {
    auto* secret = const_cast<unsigned char*>(k.mac.data());
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {::OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret, k.mac.size()),
                                     ::OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                     ::OSSL_PARAM_construct_end()};
    return ::EVP_MAC_CTX_set_params(mac, parameters) == 1;
  }

  const std::int64_t period_;
  std::int64_t (*const unix_time_)();
  std::mutex mutex_;
  key now_, before_;
};

/// Until when a session may be resumed, from its first full handshake on: RFC 8446, section 4.6.1 has seven days for
/// the most; two hours are OpenSSL's own default.
inline constexpr std::int64_t tls_session_time = 2 * 60 * 60;

inline std::string tls_lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = proto::to_lower(c);
  return out;
}

/// The name that a ClientHello asks for, in lower case; empty when there is none. For `SSL_CTX_set_client_hello_cb`.
inline std::string tls_hello_name(SSL* ssl) {
  const unsigned char* at = nullptr;
  std::size_t size = 0;
  // RFC 6066, section 3: the size of a list, and of its first entry type and size.
  if (::SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &at, &size) != 1 || size < 5 || at[2] != 0) return {};
  const std::size_t name = static_cast<std::size_t>(at[3]) << 8 | at[4];
  if (name > size - 5 || name > TLSEXT_MAXLEN_host_name) return {};
  return tls_lower({reinterpret_cast<const char*>(at) + 5, name});
}

/// Seconds since 1970 of a certificate's time.
inline std::optional<std::int64_t> tls_seconds(const ASN1_TIME* time) noexcept {
  std::tm parts{};
  if (!time || ::ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  return static_cast<std::int64_t>(::timegm(&parts));
}

/// Writes into the session that a ticket is about to be made of how long it is good. False when that fails.
inline bool tls_mark_session(SSL* ssl, std::int64_t now) {
  SSL_SESSION* session = ::SSL_get_session(ssl);
  void* known = nullptr;
  std::size_t size = 0;
  if (::SSL_session_reused(ssl) && ::SSL_SESSION_get0_ticket_appdata(session, &known, &size) == 1 && size >= 8)
    return true;
  std::int64_t until = now + tls_session_time;
  STACK_OF(X509)* chain = ::SSL_get0_verified_chain(ssl);
  for (int i = 0; chain && i < sk_X509_num(chain); ++i)
    until = std::min(until, tls_seconds(::X509_get0_notAfter(sk_X509_value(chain, i))).value_or(0));
  std::string mark;
  for (int i = 0; i < 8; ++i) mark += static_cast<char>(static_cast<std::uint64_t>(until) >> (8 * i));
  if (const char* name = ::SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) mark += tls_lower(name);
  return ::SSL_SESSION_set1_ticket_appdata(session, mark.data(), mark.size()) == 1;
}

/// Whether a session that a ticket brought may be resumed by a client that asks for `name`.
inline bool tls_session_holds(SSL_SESSION* session, std::string_view name, std::int64_t now) noexcept {
  void* known = nullptr;
  std::size_t size = 0;
  if (::SSL_SESSION_get0_ticket_appdata(session, &known, &size) != 1 || size < 8) return false;
  std::string_view mark(static_cast<const char*>(known), size);
  std::uint64_t until = 0;
  for (std::size_t i = 0; i < 8; ++i)
    until |= static_cast<std::uint64_t>(static_cast<unsigned char>(mark[i])) << (8 * i);
  return now < static_cast<std::int64_t>(until) &&
         (::SSL_SESSION_get_protocol_version(session) != TLS1_2_VERSION || mark.substr(8) == name);
}

}  // namespace hailwire::detail
