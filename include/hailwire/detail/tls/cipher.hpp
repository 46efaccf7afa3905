// SPDX-License-Identifier: BSL-1.0
#pragma once

// The keys of a TLS 1.3 connection, and the cipher suites that seal and open single records with them (RFC 8446,
// sections 5.2, 5.3, 7.1 to 7.3). Every cipher and hash is OpenSSL's, comparing tags included.
//
// Rules that everything here keeps:
//   - A key never meets the same record number twice. A number is taken before anything is sealed under it, whatever
//     becomes of the record; and key, iv, secret and number change together or not at all, so that no failure leaves an
//     old key with a number that starts again.
//   - Keys are erased where they lay when a connection ends: its own copy, and the one in a cipher context.

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/tls/openssl.hpp"

namespace hailwire::detail {

/// The most content of one record (section 5.1), and the most that sealing adds to it (section 5.2).
inline constexpr std::size_t tls_record_content = 16 * 1024;
inline constexpr std::size_t tls_record_overhead = 256;
inline constexpr std::size_t tls_record_header = 5;

using tls_cipher_context = std::unique_ptr<EVP_CIPHER_CTX, tls_free<::EVP_CIPHER_CTX_free>>;

/// One direction of a connection.
struct tls_keys {
  std::array<unsigned char, 48> secret{};  // of SHA-384, the largest
  std::array<unsigned char, 32> key{};
  std::array<unsigned char, 12> iv{};
  std::uint64_t sequence = 0;
  std::uint64_t generation = 0;  ///< Names `key` among all keys that its suite has derived; 0: none was.

  tls_keys() = default;
  tls_keys(const tls_keys&) = delete;
  tls_keys& operator=(const tls_keys&) = delete;
  ~tls_keys() { erase(); }
  void erase() noexcept {
    ::OPENSSL_cleanse(secret.data(), secret.size());
    ::OPENSSL_cleanse(key.data(), key.size());
    ::OPENSSL_cleanse(iv.data(), iv.size());
  }
};

/// A cipher suite of TLS 1.3 with one context for sealing and one for opening, which all connections of one thread
/// share. Nothing here throws but `seal`, before it has taken a number.
class tls_suite {
 public:
  /// Null for a suite that is not known here or not offered by OpenSSL's providers: it is asked by name, so an OpenSSL
  /// that is built without one needs nothing else.
  static std::unique_ptr<tls_suite> make(std::uint16_t id) {
    std::unique_ptr<tls_suite> s(new tls_suite);
    bool known = false;
    switch (id) {  // RFC 8446, appendix B.4
      case 0x1301:
        known = s->set("AES-128-GCM", 16, ::EVP_sha256(), 32);
        break;
      case 0x1302:
        known = s->set("AES-256-GCM", 32, ::EVP_sha384(), 48);
        break;
      case 0x1303:
        known = s->set("ChaCha20-Poly1305", 32, ::EVP_sha256(), 32);
        break;
      default:
        break;
    }
    if (known && s->sealing_ && s->opening_) return s;
    ::ERR_clear_error();
    return nullptr;
  }

  std::size_t secret_size() const noexcept { return secret_size_; }
  std::size_t key_size() const noexcept { return key_size_; }

  /// Derives key and nonce from `k.secret`; records count from 0 again (sections 5.3, 7.3). On failure `k` is as
  /// before.
  [[nodiscard]] bool derive(tls_keys& k) noexcept {
    tls_keys fresh;
    fresh.secret = k.secret;
    if (!expand_keys(fresh)) return false;
    install(k, fresh);
    return true;
  }
  /// The next generation of keys (section 7.2), into `fresh`. `k` stays in use until `install`.
  [[nodiscard]] bool next(const tls_keys& k, tls_keys& fresh) const noexcept {
    return expand(k, "traffic upd", std::span(fresh.secret).first(secret_size_)) && expand_keys(fresh);
  }
  /// All of `fresh` in place of all of `k`, whose key is erased.
  void install(tls_keys& k, const tls_keys& fresh) noexcept {
    forget(k);
    k.secret = fresh.secret;
    k.key = fresh.key;
    k.iv = fresh.iv;
    k.sequence = 0;
    k.generation = ++generations_;
  }
  /// `next` and `install` at once. On failure `k` is as before.
  [[nodiscard]] bool update(tls_keys& k) noexcept {
    tls_keys fresh;
    if (!next(k, fresh)) return false;
    install(k, fresh);
    return true;
  }
  /// Erases what the shared contexts hold of keys that have been used.
  void forget(const tls_keys& k) noexcept {
    if (k.generation == 0) return;
    if (sealing_for_ == k.generation) sealing_for_ = 0, ::EVP_CIPHER_CTX_reset(sealing_.get());
    if (opening_for_ == k.generation) opening_for_ = 0, ::EVP_CIPHER_CTX_reset(opening_.get());
  }

  /// Appends one record to `out`; the pieces make its content, at most `tls_record_content` together. When that fails
  /// nothing is appended, and the number it would have had is spent all the same.
  [[nodiscard]] bool seal(tls_keys& k, std::uint8_t type, std::span<const std::span<const char>> pieces,
                          std::string& out) {
    std::size_t content = 0;
    const std::size_t begin = out.size();
    for (auto& p : pieces) content += p.size();
    const std::size_t sealed = content + 1 + tag_size;
    out.reserve(begin + tls_record_header + sealed);
    // Types are hidden: every record says application data (section 5.2).
    const char header[tls_record_header] = {23, 3, 3, static_cast<char>(sealed >> 8), static_cast<char>(sealed)};
    const char behind[1 + tag_size] = {static_cast<char>(type)};
    // Gathered first and sealed where it lies: a call of the cipher for each piece costs more than copying it.
    out.append(header, sizeof header);
    for (auto& p : pieces) out.append(p.data(), p.size());
    out.append(behind, sizeof behind);
    auto* at = reinterpret_cast<unsigned char*>(out.data()) + begin;
    auto* body = at + tls_record_header;
    auto* c = sealing_.get();
    int n = 0, last = 0;
    bool fine = start(c, sealing_for_, k, 1) && ::EVP_EncryptUpdate(c, nullptr, &n, at, tls_record_header) == 1 &&
                ::EVP_EncryptUpdate(c, body, &n, body, static_cast<int>(content + 1)) == 1 &&
                ::EVP_EncryptFinal_ex(c, body + n, &last) == 1 &&
                ::EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, tag_size, body + content + 1) == 1;
    if (!fine) {
      ::OPENSSL_cleanse(at, out.size() - begin);
      out.resize(begin);
    }
    return fine;
  }

  /// Opens one record, header and all, into `into`, which has room for what is sealed. The size of content, type and
  /// padding; none when it is not authentic.
  [[nodiscard]] std::optional<std::size_t> open(tls_keys& k, std::span<const char> record, char* into) noexcept {
    auto* from = reinterpret_cast<const unsigned char*>(record.data());
    auto* to = reinterpret_cast<unsigned char*>(into);
    std::size_t size = record.size() - tls_record_header - tag_size;
    unsigned char tag[tag_size];
    std::memcpy(tag, from + tls_record_header + size, tag_size);
    auto* c = opening_.get();
    int n = 0, last = 0;
    bool fine = start(c, opening_for_, k, 0) && ::EVP_DecryptUpdate(c, nullptr, &n, from, tls_record_header) == 1 &&
                ::EVP_DecryptUpdate(c, to, &n, from + tls_record_header, static_cast<int>(size)) == 1 &&
                ::EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, tag_size, tag) == 1 &&
                ::EVP_DecryptFinal_ex(c, to + n, &last) == 1;
    if (!fine) return std::nullopt;
    return size;
  }

  static constexpr int tag_size = 16;

 private:
  tls_suite() : sealing_(::EVP_CIPHER_CTX_new()), opening_(::EVP_CIPHER_CTX_new()) {}
  bool set(const char* cipher, std::size_t key_size, const EVP_MD* hash, std::size_t secret_size) {
    cipher_.reset(::EVP_CIPHER_fetch(nullptr, cipher, nullptr));
    hash_ = hash;
    key_size_ = key_size;
    secret_size_ = secret_size;
    // The nonce's 12 bytes are each of these ciphers' own default (section 5.3).
    return cipher_ && static_cast<std::size_t>(::EVP_CIPHER_get_key_length(cipher_.get())) == key_size &&
           ::EVP_CIPHER_get_iv_length(cipher_.get()) == 12 &&
           static_cast<std::size_t>(::EVP_MD_get_size(hash)) == secret_size;
  }

  // Takes a number. The nonce is that number over the fixed one (section 5.3). A key that the context still holds from
  // the record before is not expanded again; a context that holds none has forgotten its cipher too.
  bool start(EVP_CIPHER_CTX* c, std::uint64_t& loaded, tls_keys& k, int sealing) noexcept {
    const std::uint64_t number = k.sequence++;
    if (k.generation == 0) return false;
    auto nonce = k.iv;
    for (std::size_t i = 0; i < 8; ++i) nonce[11 - i] = static_cast<unsigned char>(nonce[11 - i] ^ (number >> (8 * i)));
    const bool empty = loaded == 0, same = loaded == k.generation;
    if (::EVP_CipherInit_ex(c, empty ? cipher_.get() : nullptr, nullptr, same ? nullptr : k.key.data(), nonce.data(),
                            sealing) == 1) {
      loaded = k.generation;
      return true;
    }
    loaded = 0;
    ::EVP_CIPHER_CTX_reset(c);
    return false;
  }

  bool expand_keys(tls_keys& k) const noexcept {
    return expand(k, "key", std::span(k.key).first(key_size_)) && expand(k, "iv", k.iv);
  }
  // HKDF-Expand-Label without context (section 7.1). Nothing here is longer than one block of the hash, so HKDF-Expand
  // (RFC 5869, section 2.3) is one HMAC.
  bool expand(const tls_keys& k, std::string_view label, std::span<unsigned char> to) const noexcept {
    unsigned char info[32];
    std::size_t n = 0;
    info[n++] = 0;
    info[n++] = static_cast<unsigned char>(to.size());
    info[n++] = static_cast<unsigned char>(6 + label.size());
    for (char c : std::string_view("tls13 ")) info[n++] = static_cast<unsigned char>(c);
    for (char c : label) info[n++] = static_cast<unsigned char>(c);
    info[n++] = 0;
    info[n++] = 1;
    unsigned char block[EVP_MAX_MD_SIZE];
    bool fine = ::HMAC(hash_, k.secret.data(), static_cast<int>(secret_size_), info, n, block, nullptr) != nullptr;
    if (fine) std::memcpy(to.data(), block, to.size());
    ::OPENSSL_cleanse(block, sizeof block);
    return fine;
  }

  std::unique_ptr<EVP_CIPHER, tls_free<::EVP_CIPHER_free>> cipher_;
  const EVP_MD* hash_ = nullptr;
  std::size_t key_size_ = 0, secret_size_ = 0;
  tls_cipher_context sealing_, opening_;
  std::uint64_t sealing_for_ = 0, opening_for_ = 0;  // the generation whose key a context holds; 0: none, nor a cipher
  std::uint64_t generations_ = 0;
};

}  // namespace hailwire::detail
