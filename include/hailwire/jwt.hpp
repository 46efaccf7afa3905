// SPDX-License-Identifier: BSL-1.0
#pragma once

// A ready authorizer for JSON Web Tokens (RFC 7519, as RFC 8725 recommends to read them): opt in by including this
// header and linking `hailwire::jwt`, which needs cpp-jwt 1.4 and OpenSSL 3.
//
//     hailwire::jwt_authorizer tokens({.algorithm = hailwire::jwt_algorithm::es256, .keys = {public_key_pem}, .audience
//     = "chat"}); live.authorize(tokens); live.on_renew(tokens);
//
// A request brings its token in one of three places (RFC 6750, section 2): `Authorization: Bearer TOKEN`; where a page
// cannot set that, beside the WebSocket subprotocol, `hailwire.v1, bearer.TOKEN`; or `?token=TOKEN`, which ends up in
// the logs of proxies.
//
// What the host has said decides, never the token: there is one algorithm, and a token that names another is refused,
// so neither `none` nor a public key taken for a secret is a way in. cpp-jwt computes and checks signatures (with
// OpenSSL); the text around them is read here, strictly, before any of it reaches the library. Its own reader throws on
// {"alg":1} from functions that promise an error code, asserts on bytes that are not base64, takes {"exp":-1} for the
// far future and no list as audience; and it compares MACs byte by byte, the time of which tells where they differ.

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <jwt/jwt.hpp>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/vector.hpp"
#include "hailwire/hooks.hpp"
#include "hailwire/proto/json.hpp"

namespace hailwire {

/// How tokens are signed (RFC 7518, section 3.1).
enum class jwt_algorithm : unsigned char {
  hs256,  ///< HMAC with SHA-256: who can check a token can make one
  rs256,  ///< RSA, PKCS #1 v1.5, with SHA-256
  es256,  ///< ECDSA on P-256 with SHA-256
};

/// What a `jwt_authorizer` is told.
struct jwt_options {
  jwt_algorithm algorithm = jwt_algorithm::es256;
  /// One to eight, any of which may have signed, so that keys can be replaced. For `hs256` secrets of at least 32 bytes
  /// (RFC 7518, section 3.2); else public keys as PEM text, `rs256` of at least 2,048 bits (section 3.3), `es256` on
  /// P-256.
  std::vector<std::string> keys = {};
  /// Must be the token's `aud`, or in it when that is a list: a token that was made for another service is good there
  /// alone.
  std::string audience = {};
  /// Takes tokens whoever they were made for, also those without `aud`: for an issuer whose tokens have none. With it
  /// `audience` stays empty.
  bool any_audience = false;
  /// Must be the token's `iss`; empty: not looked at.
  std::string issuer = {};
  /// How much the clocks of those who make tokens may differ from this one.
  std::chrono::seconds leeway{10};
  /// Whether a token without `exp` is refused. One that is not is good for ever.
  bool must_expire = true;
  /// The claims that hold channels: lists of names, of which one that ends in `*` stands for all that begin so.
  std::string follow_claim = "follow", publish_claim = "publish";
};

/// Tells from a token who a client is and what it may do: `sub` is the user (without it anonymous), `exp` is when the
/// permission ends, the two claims of the options are its channels, `info` is `grant::info`. Copies share what they
/// know.
///
/// Threads: `check` and the calls are safe from any. A token is answered `unauthenticated`, with a sentence that says
/// whether it is old, early or not accepted; two tokens in one request are `bad_request`.
class jwt_authorizer {
 public:
  /// Throws `std::invalid_argument` when a key is not one for that algorithm, or too weak; or when there is no
  /// audience.
  explicit jwt_authorizer(jwt_options o) : o_(std::make_shared<const jwt_options>(std::move(o))) {
    auto wrong = [](const char* why) { throw std::invalid_argument(std::string("hailwire: jwt_options: ") + why); };
    if (o_->keys.empty() || o_->keys.size() > 8) wrong("one to eight keys are needed");
    if (o_->audience.empty() == !o_->any_audience)
      wrong(o_->any_audience ? "an audience and any_audience exclude each other" : "the audience is missing");
    if (o_->leeway < std::chrono::seconds(0) || o_->leeway > std::chrono::hours(1))
      wrong("leeway is 0 to 3600 seconds");
    for (const std::string& key : o_->keys)
      if (const char* why = unfit(key)) wrong(why);
  }

  /// For `server::authorize`.
  decision operator()(const request& r) const {
    std::string_view token;
    int found = 0;
    for (const auto& h : r.head().headers) {
      if (!proto::iequals(h.name, "Authorization") || !proto::iequals(h.value.substr(0, 7), "Bearer ")) continue;
      token = proto::trim(h.value.substr(7));
      ++found;
    }
    r.head().any_element("Sec-WebSocket-Protocol", [&](std::string_view element) {
      if (element.starts_with("bearer.")) token = element.substr(7), ++found;
      return false;
    });
    for (const auto& [name, value] : r.query())
      if (name == "token") token = value, ++found;
    if (found > 1) return failure(errc::bad_request, "more than one token");
    if (found == 0) return failure(errc::unauthenticated, "a token is needed");
    return check(token);
  }
  /// For `server::on_renew`.
  decision operator()(session&, std::string_view token) const { return check(token); }

  /// What a token allows.
  decision check(std::string_view token) const { return check(token, std::chrono::system_clock::now()); }
  /// The same at another time.
  decision check(std::string_view token, std::chrono::system_clock::time_point now) const {
    const failure no(errc::unauthenticated, "the token is not accepted");
    if (token.size() > longest) return no;
    auto first = token.find('.'), second = token.find('.', first + 1);
    if (first == token.npos || second == token.npos) return no;
    using proto::decode_base64url;  // RFC 7515, section 2
    auto head = decode_base64url(token.substr(0, first)),
         claims = decode_base64url(token.substr(first + 1, second - first - 1)),
         signature = decode_base64url(token.substr(second + 1));
    if (!head || !claims || !signature || signature->empty()) return no;
    members all;
    if (!read(*head, all) || !header_fits(all)) return no;
    if (!signed_by_us(token.substr(0, second), token.substr(second + 1), *signature)) return no;
    if (!read(*claims, all)) return no;  // from here on it is the issuer who speaks

    using namespace std::chrono;
    grant g;
    auto exp = time_of(all, "exp"), nbf = time_of(all, "nbf");
    if (!exp || !nbf || (!*exp && o_->must_expire)) return no;
    if (!audience_fits(all)) return no;
    if (!o_->issuer.empty() && text_of(all, "iss") != o_->issuer) return no;
    if (*nbf && **nbf - o_->leeway > now) return failure(errc::unauthenticated, "the token is not valid yet");
    if (*exp) g.expires = **exp + o_->leeway;
    if (g.expires <= now) return failure(errc::unauthenticated, "the token has expired");
    if (find(all, "sub")) {
      auto user = text_of(all, "sub");
      if (!user || !valid_user(*user)) return no;
      g.user = std::move(*user);
    }
    if (auto* info = find(all, "info")) g.info = info->text;
    auto follow = channels_of(all, o_->follow_claim), publish = channels_of(all, o_->publish_claim);
    if (!follow || !publish) return no;
    g.follow = std::move(*follow);
    g.publish = std::move(*publish);
    return g;
  }

 private:
  using members = detail::vector<proto::json::member>;
  using instant = std::chrono::system_clock::time_point;
  template <auto Free>
  struct freed {
    void operator()(auto* p) const noexcept { Free(p); }
  };

  /// Longer than any token that still fits into a line of a request head by default.
  static constexpr std::size_t longest = 8 * 1024;

  /// Why a key cannot be used; null when it can.
  const char* unfit(const std::string& key) const {
    if (o_->algorithm == jwt_algorithm::hs256) {
      if (key.size() < 32) return "a secret has at least 32 bytes";
      return key.find("-----BEGIN") == key.npos ? nullptr
                                                : "a secret is no PEM text: who has the public key could sign";
    }
    std::unique_ptr<BIO, freed<::BIO_free>> in(::BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
    std::unique_ptr<EVP_PKEY, freed<::EVP_PKEY_free>> read(
        in ? ::PEM_read_bio_PUBKEY(in.get(), nullptr, nullptr, nullptr) : nullptr);
    ::ERR_clear_error();
    if (!read) return "a key is not a public key as PEM text";
    bool rsa = o_->algorithm == jwt_algorithm::rs256;
    if (::EVP_PKEY_get_base_id(read.get()) != (rsa ? EVP_PKEY_RSA : EVP_PKEY_EC))
      return "a key is not for this algorithm";
    if (rsa) return ::EVP_PKEY_get_bits(read.get()) >= 2048 ? nullptr : "an RSA key has at least 2,048 bits";
    char curve[32] = "";
    std::size_t size = 0;
    bool p256 = ::EVP_PKEY_get_group_name(read.get(), curve, sizeof curve, &size) == 1 &&
                std::string_view(curve, size) == "prime256v1";
    return p256 ? nullptr : "an ECDSA key is on P-256";
  }

  static bool read(std::string_view json, members& out) {
    return !proto::json::read_object(json, out, {.depth = 16, .members = 64});
  }
  static const proto::json::value* find(const members& all, std::string_view name) {
    for (const auto& m : all)
      if (proto::json::name_is(m, name)) return &m.content;
    return nullptr;
  }
  static std::optional<std::string> text_of(const members& all, std::string_view name) {
    auto* v = find(all, name);
    if (!v || v->type != proto::json::kind::string) return {};
    return proto::json::unescape(v->text);
  }

  bool header_fits(const members& all) const {
    constexpr std::string_view names[] = {"HS256", "RS256", "ES256"};
    if (text_of(all, "alg") != names[static_cast<std::size_t>(o_->algorithm)]) return false;
    // What must be understood is not (RFC 7515, section 4.1.11); and a token is no encrypted or nested one
    // (section 4.1.9).
    if (find(all, "crit") || find(all, "b64")) return false;
    if (!find(all, "typ")) return true;
    auto typ = text_of(all, "typ");
    return typ && (proto::iequals(*typ, "JWT") || proto::iequals(*typ, "at+jwt"));
  }

  bool signed_by_us(std::string_view what, std::string_view encoded, const std::string& signature) const {
    bool good = false;
    try {
      for (const std::string& key : o_->keys) {
        if (good) break;
        jwt::string_view k(key.data(), key.size()), text(what.data(), what.size()),
            given(encoded.data(), encoded.size());
        switch (o_->algorithm) {
          case jwt_algorithm::hs256: {
            auto [mac, ec] = jwt::HMACSign<jwt::algo::HS256>::sign(k, text);
            good = !ec && mac.size() == 32 && signature.size() == 32 &&
                   ::CRYPTO_memcmp(mac.data(), signature.data(), 32) == 0;
            break;
          }
          case jwt_algorithm::rs256: {
            auto [fine, ec] = jwt::PEMSign<jwt::algo::RS256>::verify(k, text, given);
            good = fine && !ec;
            break;
          }
          case jwt_algorithm::es256: {
            if (signature.size() != 64) break;  // RFC 7518, section 3.4
            auto [fine, ec] = jwt::PEMSign<jwt::algo::ES256>::verify(k, text, given);
            good = fine && !ec;
            break;
          }
        }
      }
    } catch (...) {  // no memory
      good = false;
    }
    ::ERR_clear_error();
    return good;
  }

  /// A NumericDate (RFC 7519, section 2). Outer nothing: it is none; inner nothing: there is no such claim.
  static std::optional<std::optional<instant>> time_of(const members& all, std::string_view name) {
    auto* v = find(all, name);
    if (!v) return std::optional<instant>();
    if (v->type != proto::json::kind::number) return {};
    double seconds = 0;
    auto [end, ec] = std::from_chars(v->text.data(), v->text.data() + v->text.size(), seconds);
    if (ec != std::errc() || end != v->text.data() + v->text.size() || !(seconds >= 0)) return {};
    // The clock counts nanoseconds in 64 bits, up to the year 2262.
    if (seconds >= 9e9) seconds = 9e9;
    return std::optional(instant(std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000))));
  }

  bool audience_fits(const members& all) const {
    if (o_->any_audience) return true;
    auto* v = find(all, "aud");
    if (!v) return false;
    if (v->type == proto::json::kind::string) return proto::json::unescape(v->text) == o_->audience;
    detail::vector<proto::json::value> list;
    if (v->type != proto::json::kind::array || proto::json::read_array(v->text, list, {.depth = 16, .members = 64}))
      return false;
    for (const auto& one : list)
      if (one.type == proto::json::kind::string && proto::json::unescape(one.text) == o_->audience) return true;
    return false;
  }

  static std::optional<channel_set> channels_of(const members& all, std::string_view claim) {
    auto* v = find(all, claim);
    if (!v) return channel_set();
    detail::vector<proto::json::value> list;
    if (v->type != proto::json::kind::array || proto::json::read_array(v->text, list, {.depth = 16, .members = 1024}))
      return {};
    std::vector<std::string> names;
    for (const auto& one : list) {
      auto name = one.type == proto::json::kind::string ? proto::json::unescape(one.text) : std::nullopt;
      if (!name || !valid_channel(*name)) return {};
      names.push_back(std::move(*name));
    }
    return channel_set(std::move(names));
  }

  std::shared_ptr<const jwt_options> o_;
};

}  // namespace hailwire
