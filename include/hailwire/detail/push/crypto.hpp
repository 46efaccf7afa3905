// SPDX-License-Identifier: BSL-1.0
#pragma once

// What push services want signed and encrypted, over OpenSSL 3: JSON Web Signatures (RFC 7515) with ES256 and RS256
// (RFC 7518), and messages that only one browser can read (RFC 8291, which is RFC 8188 with keys agreed on).

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/text.hpp"

namespace hailwire::detail {

template <auto Free>
struct crypto_free {
  void operator()(auto* p) const noexcept { Free(p); }
};
using pkey_pointer = std::unique_ptr<EVP_PKEY, crypto_free<::EVP_PKEY_free>>;

/// Base64url without padding (RFC 7515, section 2).
inline std::string base64url(std::string_view bytes) {
  std::string out;
  proto::append_base64(out, bytes, proto::base64url_letters);
  return out;
}
/// Reads it strictly; padding is taken where it is right, for some browsers write it.
inline std::optional<std::string> decode_base64url(std::string_view text) {
  if (text.size() % 4 == 0) text.remove_suffix(text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0);
  return proto::decode_base64url(text);
}

inline const unsigned char* raw(std::string_view s) noexcept {
  return reinterpret_cast<const unsigned char*>(s.data());
}
inline unsigned char* raw(std::string& s) noexcept { return reinterpret_cast<unsigned char*>(s.data()); }

/// HMAC with SHA-256 (RFC 2104): 32 bytes.
inline std::string hmac_sha256(std::string_view key, std::string_view text) {
  std::string out(32, '\0');
  unsigned size = 0;
  if (!::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()), raw(text), text.size(), raw(out), &size))
    throw std::bad_alloc();
  return out;
}

/// HKDF with SHA-256 (RFC 5869), for at most 32 bytes, which one block holds.
inline std::string hkdf_sha256(std::string_view salt, std::string_view key, std::string_view info, std::size_t size) {
  std::string block(info);
  block += '\x01';
  return hmac_sha256(hmac_sha256(salt, key), block).substr(0, size);
}

/// A key on P-256: a pair, or the public half of somebody else's. Copies are one object.
class p256_key {
 public:
  static constexpr std::size_t point_size = 65;  ///< uncompressed (SEC 1, section 2.3.3)
  static constexpr std::size_t secret_size = 32;

  /// A new pair.
  static p256_key generate() {
    pkey_pointer made(::EVP_EC_gen("P-256"));
    if (!made) fail("no key could be made");
    return p256_key(std::move(made));
  }
  /// Somebody's public half. Nothing where it is no point of the curve.
  static std::optional<p256_key> from_point(std::string_view point) {
    if (point.size() != point_size || point[0] != '\x04') return {};
    auto made = build(point, {});
    ::ERR_clear_error();
    if (!made) return {};
    return p256_key(std::move(made));
  }
  /// A pair from its secret number. Nothing where it is none.
  static std::optional<p256_key> from_secret(std::string_view secret) {
    if (secret.size() != secret_size) return {};
    std::unique_ptr<EC_GROUP, crypto_free<::EC_GROUP_free>> group(::EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1));
    std::unique_ptr<BIGNUM, crypto_free<::BN_clear_free>> number(
        ::BN_bin2bn(raw(secret), static_cast<int>(secret.size()), nullptr));
    if (!group || !number) throw std::bad_alloc();
    if (::BN_is_zero(number.get()) || ::BN_cmp(number.get(), ::EC_GROUP_get0_order(group.get())) >= 0) return {};
    std::unique_ptr<EC_POINT, crypto_free<::EC_POINT_free>> at(::EC_POINT_new(group.get()));
    std::string point(point_size, '\0');
    if (!at || ::EC_POINT_mul(group.get(), at.get(), number.get(), nullptr, nullptr, nullptr) != 1 ||
        ::EC_POINT_point2oct(group.get(), at.get(), POINT_CONVERSION_UNCOMPRESSED, raw(point), point_size, nullptr) !=
            point_size)
      throw std::bad_alloc();
    auto made = build(point, secret);
    if (!made) fail("a key could not be made");
    return p256_key(std::move(made));
  }
  /// PEM text of a private key, as Apple's `.p8` files hold it, or, as Web Push tools print keys, base64url of the
  /// secret number. Throws `std::invalid_argument` for anything else.
  static p256_key read(std::string_view text) {
    if (text.find("-----BEGIN") == text.npos) {
      auto secret = decode_base64url(text);
      auto made = secret ? from_secret(*secret) : std::nullopt;
      if (!made) fail("a key is neither PEM text nor base64url of 32 bytes");
      return std::move(*made);
    }
    pkey_pointer key = read_private_pem(text);
    char curve[32] = "";
    std::size_t size = 0;
    if (!key || ::EVP_PKEY_get_group_name(key.get(), curve, sizeof curve, &size) != 1 ||
        std::string_view(curve, size) != "prime256v1") {
      ::ERR_clear_error();
      fail("a key is not a private key on P-256 as PEM text");
    }
    return p256_key(std::move(key));
  }

  /// The public half, uncompressed.
  std::string point() const {
    std::string out(point_size, '\0');
    std::size_t size = 0;
    if (::EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, raw(out), out.size(),
                                          &size) != 1)
      fail("a key has no public half");
    // The encoding is the key's own form, which is uncompressed unless somebody asked otherwise.
    if (size != point_size) fail("a key is written in compressed form");
    return out;
  }
  /// The secret that two pairs share (SEC 1, section 3.3.1): 32 bytes.
  std::string agree(const p256_key& other) const {
    std::unique_ptr<EVP_PKEY_CTX, crypto_free<::EVP_PKEY_CTX_free>> context(::EVP_PKEY_CTX_new(key_.get(), nullptr));
    std::string out(32, '\0');
    std::size_t size = out.size();
    if (!context || ::EVP_PKEY_derive_init(context.get()) != 1 ||
        ::EVP_PKEY_derive_set_peer(context.get(), other.key_.get()) != 1 ||
        ::EVP_PKEY_derive(context.get(), raw(out), &size) != 1 || size != 32)
      fail("two keys do not agree");
    return out;
  }
  /// ES256 (RFC 7518, section 3.4): both numbers of the signature, 64 bytes.
  std::string sign(std::string_view text) const {
    const std::string der = sign_sha256(key_.get(), text);
    const unsigned char* at = raw(der);
    std::unique_ptr<ECDSA_SIG, crypto_free<::ECDSA_SIG_free>> numbers(
        ::d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
    std::string out(64, '\0');
    if (!numbers || ::BN_bn2binpad(::ECDSA_SIG_get0_r(numbers.get()), raw(out), 32) != 32 ||
        ::BN_bn2binpad(::ECDSA_SIG_get0_s(numbers.get()), raw(out) + 32, 32) != 32)
      fail("signing failed");
    return out;
  }
  /// Whether `signature` is one of `text` by this key.
  bool verify(std::string_view text, std::string_view signature) const {
    if (signature.size() != 64) return false;
    std::unique_ptr<ECDSA_SIG, crypto_free<::ECDSA_SIG_free>> numbers(::ECDSA_SIG_new());
    if (!numbers || ::ECDSA_SIG_set0(numbers.get(), ::BN_bin2bn(raw(signature), 32, nullptr),
                                     ::BN_bin2bn(raw(signature) + 32, 32, nullptr)) != 1)
      throw std::bad_alloc();
    unsigned char* der = nullptr;
    const int size = ::i2d_ECDSA_SIG(numbers.get(), &der);
    std::unique_ptr<unsigned char, free_der> held(der);
    std::unique_ptr<EVP_MD_CTX, crypto_free<::EVP_MD_CTX_free>> context(::EVP_MD_CTX_new());
    const bool good =
        size > 0 && context &&
        ::EVP_DigestVerifyInit(context.get(), nullptr, ::EVP_sha256(), nullptr, key_.get()) == 1 &&
        ::EVP_DigestVerify(context.get(), der, static_cast<std::size_t>(size), raw(text), text.size()) == 1;
    ::ERR_clear_error();
    return good;
  }

  /// A private key as PEM text, of any kind; null for anything else.
  static pkey_pointer read_private_pem(std::string_view text) {
    std::unique_ptr<BIO, crypto_free<::BIO_free>> in(::BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    if (!in) throw std::bad_alloc();
    // Without a function for the password OpenSSL would ask on the terminal.
    pkey_pointer key(::PEM_read_bio_PrivateKey(in.get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr));
    ::ERR_clear_error();
    return key;
  }
  /// A signature over the SHA-256 of `text`, in the key's own form.
  static std::string sign_sha256(EVP_PKEY* key, std::string_view text) {
    std::unique_ptr<EVP_MD_CTX, crypto_free<::EVP_MD_CTX_free>> context(::EVP_MD_CTX_new());
    std::size_t size = 0;
    if (!context || ::EVP_DigestSignInit(context.get(), nullptr, ::EVP_sha256(), nullptr, key) != 1 ||
        ::EVP_DigestSign(context.get(), nullptr, &size, raw(text), text.size()) != 1)
      fail("signing failed");
    std::string out(size, '\0');
    if (::EVP_DigestSign(context.get(), raw(out), &size, raw(text), text.size()) != 1) fail("signing failed");
    out.resize(size);
    return out;
  }
  [[noreturn]] static void fail(const char* why) {
    ::ERR_clear_error();
    throw std::invalid_argument(std::string("hailwire: push: ") + why);
  }

 private:
  struct free_der {
    void operator()(unsigned char* p) const noexcept { OPENSSL_free(p); }
  };
  explicit p256_key(pkey_pointer k) : key_(std::move(k)) {}

  // Null where the point is not on the curve, which OpenSSL checks as it reads it.
  static pkey_pointer build(std::string_view point, std::string_view secret) {
    std::unique_ptr<OSSL_PARAM_BLD, crypto_free<::OSSL_PARAM_BLD_free>> words(::OSSL_PARAM_BLD_new());
    std::unique_ptr<BIGNUM, crypto_free<::BN_clear_free>> number(
        secret.empty() ? nullptr : ::BN_bin2bn(raw(secret), static_cast<int>(secret.size()), nullptr));
    if (!words || ::OSSL_PARAM_BLD_push_utf8_string(words.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) != 1 ||
        ::OSSL_PARAM_BLD_push_octet_string(words.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1 ||
        (number && ::OSSL_PARAM_BLD_push_BN(words.get(), OSSL_PKEY_PARAM_PRIV_KEY, number.get()) != 1))
      throw std::bad_alloc();
    std::unique_ptr<OSSL_PARAM, crypto_free<::OSSL_PARAM_free>> list(::OSSL_PARAM_BLD_to_param(words.get()));
    std::unique_ptr<EVP_PKEY_CTX, crypto_free<::EVP_PKEY_CTX_free>> context(
        ::EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    if (!list || !context) throw std::bad_alloc();
    EVP_PKEY* made = nullptr;
    if (::EVP_PKEY_fromdata_init(context.get()) != 1 ||
        ::EVP_PKEY_fromdata(context.get(), &made, secret.empty() ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR,
                            list.get()) != 1)
      return nullptr;
    return pkey_pointer(made);
  }

  std::shared_ptr<EVP_PKEY> key_;
};

/// An RSA key that signs with RS256 (RFC 7518, section 3.3).
class rsa_key {
 public:
  /// PEM text of a private key of at least 2,048 bits. Throws `std::invalid_argument` for anything else.
  static rsa_key read(std::string_view pem) {
    pkey_pointer key = p256_key::read_private_pem(pem);
    if (!key || ::EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_RSA || ::EVP_PKEY_get_bits(key.get()) < 2048)
      p256_key::fail("a key is not a private RSA key of at least 2,048 bits as PEM text");
    return rsa_key(std::move(key));
  }
  std::string sign(std::string_view text) const { return p256_key::sign_sha256(key_.get(), text); }

 private:
  explicit rsa_key(pkey_pointer k) : key_(std::move(k)) {}
  std::shared_ptr<EVP_PKEY> key_;
};

/// A signed token in its compact form (RFC 7515, section 3.1): `header` and `claims` are JSON texts.
template <class Key>
std::string signed_token(const Key& key, std::string_view header, std::string_view claims) {
  std::string out = base64url(header) + "." + base64url(claims);
  out += "." + base64url(key.sign(out));
  return out;
}

/// The largest text of one push message: push services take bodies of 4,096 bytes (RFC 8030, section 7.2), of which 86
/// are the header, 16 the tag and 1 the delimiter.
inline constexpr std::size_t max_push_text = 4096 - 86 - 16 - 1;

/// Encrypts `text` for the browser whose key is `to` and whose secret is `auth` (16 bytes): the body of a push message
/// with the content encoding `aes128gcm`. `own` and `salt` (16 bytes) are fresh and random for every message.
inline std::string encrypt_push(std::string_view text, const p256_key& to, std::string_view auth, const p256_key& own,
                                std::string_view salt) {
  using namespace std::string_view_literals;
  const std::string theirs = to.point(), ours = own.point();
  // RFC 8291, section 3.4; RFC 8188, sections 2.2 and 2.3.
  const std::string input = hkdf_sha256(auth, own.agree(to), std::string("WebPush: info\0"sv) + theirs + ours, 32);
  const std::string key = hkdf_sha256(salt, input, "Content-Encoding: aes128gcm\0"sv, 16),
                    nonce = hkdf_sha256(salt, input, "Content-Encoding: nonce\0"sv, 12);
  // RFC 8188, section 2.1: salt, record size 4,096, and as the key's name our public half.
  std::string out(salt);
  out += "\0\0\x10\0"sv;
  out += static_cast<char>(ours.size());
  out += ours;
  std::string plain(text);
  plain += '\x02';  // the delimiter of the last record (section 2)

  std::unique_ptr<EVP_CIPHER_CTX, crypto_free<::EVP_CIPHER_CTX_free>> context(::EVP_CIPHER_CTX_new());
  std::string sealed(plain.size() + 16, '\0');
  int size = 0, rest = 0;
  if (!context || ::EVP_EncryptInit_ex(context.get(), ::EVP_aes_128_gcm(), nullptr, raw(key), raw(nonce)) != 1 ||
      ::EVP_EncryptUpdate(context.get(), raw(sealed), &size, raw(plain), static_cast<int>(plain.size())) != 1 ||
      ::EVP_EncryptFinal_ex(context.get(), raw(sealed) + size, &rest) != 1 ||
      ::EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, 16, raw(sealed) + plain.size()) != 1)
    p256_key::fail("encrypting failed");
  return out + sealed;
}

}  // namespace hailwire::detail
