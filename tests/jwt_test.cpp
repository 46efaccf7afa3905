// SPDX-License-Identifier: BSL-1.0
#include "hailwire/jwt.hpp"

#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include "detail/connection/stage.hpp"

using namespace stage;
using hailwire::jwt_algorithm;
using hailwire::jwt_authorizer;
using hailwire::jwt_options;

namespace {

template <auto Free>
struct freed {
  void operator()(auto* p) const noexcept { Free(p); }
};
using key_pointer = std::unique_ptr<EVP_PKEY, freed<::EVP_PKEY_free>>;

std::string b64(std::string_view bytes) {
  std::string out;
  proto::append_base64(out, bytes, proto::base64url_letters);
  return out;
}
std::string public_pem(EVP_PKEY* key) {
  std::unique_ptr<BIO, freed<::BIO_free>> out(::BIO_new(::BIO_s_mem()));
  REQUIRE(::PEM_write_bio_PUBKEY(out.get(), key) == 1);
  char* text = nullptr;
  long size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}
EVP_PKEY* ec_key() {
  static key_pointer k(EVP_EC_gen("P-256"));
  return k.get();
}
EVP_PKEY* rsa_key() {
  static key_pointer k(EVP_RSA_gen(2048u));
  return k.get();
}
const std::string secret = "0123456789abcdef0123456789abcdef";

std::string hmac(std::string_view key, std::string_view text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  ::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()),
         text.size(), out, &size);
  return {reinterpret_cast<char*>(out), size};
}
/// Signed as OpenSSL does it; an ECDSA signature made the two numbers of RFC 7518, section 3.4.
std::string sign(EVP_PKEY* key, std::string_view text) {
  std::unique_ptr<EVP_MD_CTX, freed<::EVP_MD_CTX_free>> c(::EVP_MD_CTX_new());
  std::string out(600, '\0');
  std::size_t size = out.size();
  REQUIRE(::EVP_DigestSignInit(c.get(), nullptr, ::EVP_sha256(), nullptr, key) == 1);
  REQUIRE(::EVP_DigestSign(c.get(), reinterpret_cast<unsigned char*>(out.data()), &size,
                           reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1);
  out.resize(size);
  if (::EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) return out;
  auto* at = reinterpret_cast<const unsigned char*>(out.data());
  std::unique_ptr<ECDSA_SIG, freed<::ECDSA_SIG_free>> s(::d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
  int half = (::EVP_PKEY_get_bits(key) + 7) / 8;
  std::string both(static_cast<std::size_t>(2 * half), '\0');
  ::BN_bn2binpad(ECDSA_SIG_get0_r(s.get()), reinterpret_cast<unsigned char*>(both.data()), half);
  ::BN_bn2binpad(ECDSA_SIG_get0_s(s.get()), reinterpret_cast<unsigned char*>(both.data()) + half, half);
  return both;
}

std::string token(const std::string& head, const std::string& claims, EVP_PKEY* key) {
  auto text = b64(head) + '.' + b64(claims);
  return text + '.' + b64(sign(key, text));
}
std::string hs(const std::string& claims, const std::string& head = R"({"alg":"HS256","typ":"JWT"})",
               std::string_view key = secret) {
  auto text = b64(head) + '.' + b64(claims);
  return text + '.' + b64(hmac(key, text));
}
constexpr char es_head[] = R"({"alg":"ES256"})", rs_head[] = R"({"alg":"RS256"})";

constexpr std::int64_t start = 1'800'000'000;  // when the tests play
std::chrono::system_clock::time_point at(std::int64_t seconds_later) {
  return std::chrono::system_clock::time_point(std::chrono::seconds(start + seconds_later));
}
/// Claims that are good for a minute, and more.
std::string claims(const std::string& more = R"("sub":"ada")") {
  return R"({"aud":"chat","exp":1800000060,)" + more + '}';
}

jwt_options options_for(jwt_algorithm a) {
  jwt_options o;
  o.algorithm = a;
  o.keys = {a == jwt_algorithm::hs256 ? secret : public_pem(a == jwt_algorithm::rs256 ? rsa_key() : ec_key())};
  o.audience = "chat";
  o.leeway = std::chrono::seconds(0);
  return o;
}
/// `ada` when it is accepted (`-` for nobody), else why not.
std::string who(const jwt_options& o, const std::string& t, std::int64_t seconds_later = 0) {
  auto d = jwt_authorizer(o).check(t, at(seconds_later));
  CHECK(::ERR_peek_error() == 0);
  if (!d.allowed()) {
    CHECK(d.refused().code == errc::unauthenticated);
    return std::string(d.refused().text());
  }
  return d.allowed()->user().empty() ? "-" : std::string(d.allowed()->user());
}
std::string who(const std::string& t, std::int64_t seconds_later = 0) {
  return who(options_for(jwt_algorithm::hs256), t, seconds_later);
}
const std::string refused = "the token is not accepted", expired = "the token has expired",
                  early = "the token is not valid yet";

std::string complaint(jwt_options o) {
  try {
    jwt_authorizer a(std::move(o));
    return "none";
  } catch (const std::invalid_argument& e) {
    CHECK(::ERR_peek_error() == 0);
    return std::string(e.what()).substr(23);
  }
}

}  // namespace

TEST_CASE("each algorithm accepts what its key has signed") {
  CHECK(who(options_for(jwt_algorithm::hs256), hs(claims())) == "ada");
  CHECK(who(options_for(jwt_algorithm::rs256), token(rs_head, claims(), rsa_key())) == "ada");
  for (int i = 0; i < 20; ++i)
    CHECK(who(options_for(jwt_algorithm::es256), token(es_head, claims(), ec_key())) == "ada");
}

TEST_CASE("the example of RFC 7515, appendix A.1 has a good signature, and is not for us") {
  // Its key, and its token, whose claims have no audience.
  auto key =
      proto::decode_base64("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ+EstJQLr/T+1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow==");
  REQUIRE(key);
  std::string its =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
      "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  auto o = options_for(jwt_algorithm::hs256);
  o.keys = {*key};
  CHECK(who(o, its) == refused);
  CHECK(hs(R"({"iss":"joe",)"
           "\r\n"
           R"( "exp":1300819380,)"
           "\r\n"
           R"( "http://example.com/is_root":true})",
           "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}", *key) == its);
}

TEST_CASE("any of several keys may have signed, and only those") {
  auto o = options_for(jwt_algorithm::es256);
  key_pointer other(EVP_EC_gen("P-256")), third(EVP_EC_gen("P-256"));
  o.keys = {public_pem(other.get()), public_pem(ec_key())};
  CHECK(who(o, token(es_head, claims(), ec_key())) == "ada");
  CHECK(who(o, token(es_head, claims(), other.get())) == "ada");
  CHECK(who(o, token(es_head, claims(), third.get())) == refused);
}

TEST_CASE("a forged token is refused: no byte of it can be another") {
  for (auto [o, good] : {std::pair(options_for(jwt_algorithm::hs256), hs(claims())),
                         std::pair(options_for(jwt_algorithm::es256), token(es_head, claims(), ec_key())),
                         std::pair(options_for(jwt_algorithm::rs256), token(rs_head, claims(), rsa_key()))}) {
    REQUIRE(who(o, good) == "ada");
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (char c : {'A', '.', '=', '\0', '\xFF', '+'}) {
        auto bad = good;
        if (bad[i] == c) continue;
        bad[i] = c;
        if (who(o, bad) != refused) FAIL("byte " << i << " as " << int{c});
      }
      if (who(o, good.substr(0, i)) != refused) FAIL("cut at " << i);
    }
    for (std::string more : {"A", ".", "=", "==", " ", "\n", ".AAAA"}) CHECK(who(o, good + more) == refused);
    CHECK(who(o, ' ' + good) == refused);
  }
  // The last letter of a signature of 32 bytes has two bits to spare: they must be zero.
  auto good = hs(claims());
  int accepted = 0;
  for (char c : proto::base64url_letters) accepted += who(good.substr(0, good.size() - 1) + c) == "ada";
  CHECK(accepted == 1);
  CHECK(who(hs(claims(), R"({"alg":"HS256"})", "another secret that is long enough")) == refused);
}

TEST_CASE("the algorithm is the host's choice: none, another one, or a public key as a secret") {
  auto es = options_for(jwt_algorithm::es256), rs = options_for(jwt_algorithm::rs256),
       hmac_options = options_for(jwt_algorithm::hs256);
  for (auto& o : {es, rs, hmac_options}) {
    for (std::string alg : {"\"none\"", "\"None\"", "\"NONE\"", "\"nOnE\"", "\"\"", "1", "null", "[\"HS256\"]", "{}",
                            "\"HS512\"", "\"hs256\"", "\"es256\"", "\"rs256\"", "\"HS256\\u0000\"", "\" HS256\""}) {
      auto text = b64("{\"alg\":" + alg + '}') + '.' + b64(claims());
      CHECK(who(o, text + '.') == refused);
      CHECK(who(o, text + '.' + b64(hmac(secret, text))) == refused);
      CHECK(who(o, text + '.' + b64(sign(ec_key(), text))) == refused);
      CHECK(who(o, text + '.' + b64(sign(rsa_key(), text))) == refused);
    }
  }
  CHECK(who(rs, hs(claims(), R"({"alg":"HS256"})", rs.keys[0])) == refused);
  CHECK(who(es, hs(claims(), R"({"alg":"HS256"})", es.keys[0])) == refused);
  CHECK(who(rs, hs(claims(), rs_head, rs.keys[0])) == refused);
  CHECK(who(rs, token(es_head, claims(), ec_key())) == refused);
  CHECK(who(es, token(rs_head, claims(), rsa_key())) == refused);
  CHECK(who(es, token(rs_head, claims(), ec_key())) == refused);
  CHECK(who(hs("{\"alg\":\"HS256\"}", "{}")) == refused);
  CHECK(who(hs(claims(), R"({"alg":"none","alg":"HS256"})")) == refused);
}

TEST_CASE("headers that ask for more than a signature are refused; those that only say what it is are not") {
  CHECK(who(hs(
            claims(),
            R"({"alg":"HS256","kid":"1","jku":"https://evil/","x5u":"https://evil/","jwk":{"kty":"oct","k":"AA"}})")) ==
        "ada");
  CHECK(who(hs(claims(), R"({"alg":"HS256","typ":"at+jwt"})")) == "ada");
  for (std::string more :
       {R"("crit":["exp"])", R"("crit":[])", R"("b64":false)", R"("typ":"JWE")", R"("typ":1)", R"("typ":null)"})
    CHECK(who(hs(claims(), R"({"alg":"HS256",)" + more + '}')) == refused);
  for (std::string head : {"", "{", "[]", "\"HS256\"", "null", "{\"alg\"}", R"({"typ":"JWT"})", "\xFF\xFE"})
    CHECK(who(hs(claims(), head)) == refused);
}

TEST_CASE("a token is good from nbf until exp, to the second, and a little longer where clocks may differ") {
  auto t = hs(R"({"aud":"chat","sub":"ada","nbf":1800000010,"exp":1800000020.5})");
  CHECK(who(t, 9) == early);
  CHECK(who(t, 10) == "ada");
  CHECK(who(t, 20) == "ada");
  CHECK(who(t, 21) == expired);
  auto o = options_for(jwt_algorithm::hs256);
  o.leeway = std::chrono::seconds(5);
  CHECK(who(o, t, 4) == early);
  CHECK(who(o, t, 5) == "ada");
  CHECK(who(o, t, 25) == "ada");
  CHECK(who(o, t, 26) == expired);
  auto d = jwt_authorizer(o).check(t, at(15));
  REQUIRE(d.allowed());
  CHECK(d.allowed()->expires() == at(25) + std::chrono::milliseconds(500));
}

TEST_CASE("times that are none, and none at all") {
  for (std::string exp : {"-1", "\"1900000000\"", "null", "true", "[]", "{}", "1e999", "-0.5", "0x7FFFFFFF"}) {
    INFO(exp);
    CHECK(who(hs(R"({"aud":"chat","exp":)" + exp + '}')) == refused);
    if (exp != "0x7FFFFFFF") CHECK(who(hs(R"({"aud":"chat","exp":1800000060,"nbf":)" + exp + '}')) == refused);
  }
  CHECK(who(hs(R"({"aud":"chat","exp":0})")) == expired);
  CHECK(who(hs(R"({"aud":"chat","exp":1e300})")) == "-");
  CHECK(who(hs(R"({"aud":"chat","exp":18446744073709551615})")) == "-");
  CHECK(who(hs(R"({"aud":"chat","exp":1,"exp":1800000060})")) == refused);
  auto forever = hs(R"({"aud":"chat","sub":"ada"})");
  CHECK(who(forever) == refused);
  auto o = options_for(jwt_algorithm::hs256);
  o.must_expire = false;
  CHECK(who(o, forever) == "ada");
  CHECK(jwt_authorizer(o).check(forever).allowed()->expires() == std::chrono::system_clock::time_point::max());
}

TEST_CASE("a token for another audience, or of another issuer, is another's") {
  auto aud = [](const std::string& value) { return who(hs(R"({"exp":1800000060,"sub":"ada")" + value + '}')); };
  CHECK(aud(R"(,"aud":"chat")") == "ada");
  CHECK(aud(R"(,"aud":["shop","chat"])") == "ada");
  CHECK(aud(R"(,"aud":"ch\u0061t")") == "ada");
  for (std::string bad :
       {"", R"(,"aud":"Chat")", R"(,"aud":"chat ")", R"(,"aud":"")", R"(,"aud":[])", R"(,"aud":["shop"])",
        R"(,"aud":[["chat"]])", R"(,"aud":{"chat":1})", R"(,"aud":null)", R"(,"aud":"*")"})
    CHECK(aud(bad) == refused);
  auto o = options_for(jwt_algorithm::hs256);
  o.issuer = "https://login.example/";
  CHECK(who(o, hs(claims(R"("sub":"ada","iss":"https://login.example/")"))) == "ada");
  CHECK(who(o, hs(claims(R"("sub":"ada","iss":"https://login.example")"))) == refused);
  CHECK(who(o, hs(claims(R"("sub":"ada","iss":["https://login.example/"])"))) == refused);
  CHECK(who(o, hs(claims())) == refused);
}

TEST_CASE("any audience, or none, is taken by who says so, and nothing else of the token is let off") {
  auto o = options_for(jwt_algorithm::hs256);
  o.audience.clear();
  o.any_audience = true;
  for (std::string aud : {"", R"(,"aud":"shop")", R"(,"aud":["a","b"])", R"(,"aud":"")"})
    CHECK(who(o, hs(R"({"exp":1800000060,"sub":"ada")" + aud + '}')) == "ada");
  CHECK(who(o, hs(R"({"sub":"ada"})")) == refused);
  o.issuer = "us";
  CHECK(who(o, hs(claims())) == refused);
  o.audience = "chat";
  CHECK(complaint(o) == "an audience and any_audience exclude each other");
}

TEST_CASE("users with odd names are those users, or nobody") {
  auto sub = [](const std::string& json) { return who(hs(claims("\"sub\":" + json))); };
  for (std::string name :
       {"ada@example.org", "@ada", "*", "a,b", "Ada Lovelace", "\xC3\xA9\xE2\x98\x83", "..", "%41", "-"})
    CHECK(sub('"' + name + '"') == name);
  CHECK(sub(R"("a\u0064a")") == "ada");
  // What looks like another is not: letters of another script, composed otherwise, wide, of another case, with what
  // cannot be seen.
  for (std::string like : {"\xD0\xB0"
                           "da",
                           "a\xCC\x81"
                           "da",
                           "\xC3\xA1"
                           "da",
                           "\xEF\xBD\x81"
                           "da",
                           "ADA", "ada ", " ada", "ada\xE2\x80\x8B",
                           "\xEF\xBB\xBF"
                           "ada",
                           "\xE2\x80\xAE"
                           "ada"}) {
    CHECK(sub('"' + like + '"') == like);
    CHECK(like != "ada");
  }
  for (std::string raw : {"\"ada\xC0\x80\"",
                          "\"\xC1\xA1"
                          "da\"",
                          "\"ada\xED\xA0\x80\"", "\"ada\xFF\"", "\"ada\x7F\"", "\"ada\xC2\x85\"", "\"\\u0000ada\"",
                          "\"ada\\u0085\"", "\"ada\\u007f\"", "\"ada\\ud83d\""})
    CHECK(sub(raw) == refused);
  CHECK(who(hs(claims(R"("sub":"ada","sub":"bob")"))) == refused);
  CHECK(who(hs(claims(R"("sub":"ada","s\u0075b":"bob")"))) == refused);
  CHECK(sub(R"("\"quoted\\\"")") == "\"quoted\\\"");
  CHECK(sub('"' + std::string(254, 'x') + '"') == std::string(254, 'x'));
  for (std::string bad : {R"("")", R"("ada\u0000")", R"("ada\n")", R"("\u2028")", R"("\ud800")", "1", "null",
                          R"(["ada"])", R"({"name":"ada"})"})
    CHECK(sub(bad) == refused);
  CHECK(sub('"' + std::string(255, 'x') + '"') == refused);
  CHECK(who(hs(claims(R"("name":"ada")"))) == "-");
}

TEST_CASE("channels and info are what the claims say") {
  auto o = options_for(jwt_algorithm::hs256);
  auto allowed = [&](const std::string& more) {
    auto d = jwt_authorizer(o).check(hs(claims(more)), at(0));
    return d.allowed() ? *d.allowed() : shared_grant();
  };
  auto g = allowed(R"("sub":"ada","follow":["news","chat-*"],"publish":["chat-lobby"],"info":{"name":"Ada"})");
  REQUIRE(g);
  CHECK(g.may_follow("news"));
  CHECK(g.may_follow("chat-7"));
  CHECK_FALSE(g.may_follow("newsroom"));
  CHECK(g.may_follow("@ada"));
  CHECK_FALSE(g.may_follow("@bob"));
  CHECK(g.may_publish("chat-lobby"));
  CHECK_FALSE(g.may_publish("news"));
  CHECK(g.info() == R"({"name":"Ada"})");
  g = allowed("\"sub\":\"ada\"");
  REQUIRE(g);
  CHECK_FALSE(g.may_follow("news"));
  o.follow_claim = "rooms";
  g = allowed(R"("rooms":["a"],"follow":["b"])");
  REQUIRE(g);
  CHECK(g.may_follow("a"));
  CHECK_FALSE(g.may_follow("b"));
  for (std::string bad : {"\"*\"", "[1]", "[null]", "{}", "[\"a\\n\"]", "[\"\"]", "[[\"a\"]]", "true"})
    CHECK_FALSE(allowed("\"rooms\":" + bad));
}

TEST_CASE("a token over 8 KiB is not read") {
  auto sized = [](std::size_t n) { return hs(claims(R"("sub":"ada","pad":")" + std::string(n, 'x') + '"')); };
  CHECK(who(sized(5900)) == "ada");
  CHECK(sized(6100).size() > 8192);
  CHECK(who(sized(6100)) == refused);
  CHECK(who(std::string(1 << 20, '.')) == refused);
  CHECK(who(std::string(8000, '.')) == refused);
  CHECK(who(hs(claims("\"a\":" + std::string(17, '[') + std::string(17, ']')))) == refused);
}

TEST_CASE("keys that are none, too weak, or for something else are said when the authorizer is made") {
  auto with_key = [](jwt_algorithm a, std::string key) {
    auto o = options_for(a);
    o.keys = {std::move(key)};
    return complaint(o);
  };
  CHECK(with_key(jwt_algorithm::hs256, std::string(31, 'x')) == "a secret has at least 32 bytes");
  CHECK(with_key(jwt_algorithm::hs256, public_pem(rsa_key())) ==
        "a secret is no PEM text: who has the public key could sign");
  CHECK(with_key(jwt_algorithm::rs256, "nonsense") == "a key is not a public key as PEM text");
  CHECK(with_key(jwt_algorithm::rs256, public_pem(ec_key())) == "a key is not for this algorithm");
  CHECK(with_key(jwt_algorithm::es256, public_pem(rsa_key())) == "a key is not for this algorithm");
  key_pointer small(EVP_RSA_gen(1024u)), large(EVP_EC_gen("P-384"));
  CHECK(with_key(jwt_algorithm::rs256, public_pem(small.get())) == "an RSA key has at least 2,048 bits");
  CHECK(with_key(jwt_algorithm::es256, public_pem(large.get())) == "an ECDSA key is on P-256");
  auto o = options_for(jwt_algorithm::hs256);
  o.audience.clear();
  CHECK(complaint(o) == "the audience is missing");
  o = options_for(jwt_algorithm::hs256);
  o.keys.clear();
  CHECK(complaint(o) == "one to eight keys are needed");
  o = options_for(jwt_algorithm::hs256);
  o.leeway = std::chrono::seconds(-1);
  CHECK(complaint(o) == "leeway is 0 to 3600 seconds");
}

// ---- on requests

namespace {

/// A house with tokens, whose clock is the system's: the stage's stands beside it.
struct token_house : house {
  token_house() : house() {
    jwt_authorizer a(options_for(jwt_algorithm::hs256));
    loop.set_unix_time(now() * 1000);
    gate.host.authorize = [a](const request& r, authorize_reply reply) { reply(a(r)); };
    gate.host.on_renew = [a](session& s, std::string_view token, authorize_reply reply) { reply(a(s, token)); };
  }
  static std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
  static std::string token_of(const std::string& user, std::int64_t lasts) {
    return hs(R"({"aud":"chat","exp":)" + std::to_string(now() + lasts) + R"(,"sub":")" + user +
              R"(","follow":["chat"],"publish":["chat"]})");
  }
};

}  // namespace

TEST_CASE("a token comes in the Authorization header, beside the subprotocol or in the query; never twice") {
  token_house h;
  auto t = h.token_of("ada", 3600);
  auto status = [&](const std::string& request) { return client(h).ask(request).status; };
  CHECK(status(get("/live?channel=chat", "Authorization: Bearer " + t + "\r\n")) == 200);
  CHECK(status(get("/live?channel=chat", "authorization: bEARER  " + t + "\r\n")) == 200);
  CHECK(status(get("/live?channel=chat&token=" + t)) == 200);
  CHECK(status(post("?channel=chat&token=" + t, "1")) == 201);
  CHECK(status(upgrade("?channel=chat&token=" + t)) == 101);
  CHECK(status(event_stream("?channel=chat&token=" + t)) == 200);

  client c(h);
  auto a = c.ask(upgrade("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1, bearer." + t + "\r\n"));
  CHECK(a.status == 101);
  CHECK(a["sec-websocket-protocol"] == "hailwire.v1");
  CHECK(status(upgrade("?channel=chat", "Sec-WebSocket-Protocol: bearer." + t + "\r\n")) == 400);  // never alone

  auto bob = h.token_of("bob", 3600);
  CHECK(status(get("/live?channel=chat", "Authorization: Bearer " + t + "\r\nAuthorization: Bearer " + bob + "\r\n")) ==
        400);
  CHECK(status(get("/live?channel=chat", "Authorization: Bearer " + t + "\r\nauthorization: bearer " + t + "\r\n")) ==
        400);
  CHECK(status(get("/live?channel=chat&token=x", "Authorization: Bearer " + t + "\r\n")) == 400);
  CHECK(status(get("/live?channel=chat&%74oken=" + bob, "Authorization: Bearer " + t + "\r\n")) == 400);
  CHECK(status(upgrade("?channel=chat&token=" + bob, "Sec-WebSocket-Protocol: hailwire.v1, bearer." + t + "\r\n")) ==
        400);
  CHECK(status(upgrade("?channel=chat",
                       "Sec-WebSocket-Protocol: hailwire.v1, bearer." + t + ", bearer." + bob + "\r\n")) == 400);
  CHECK(status(upgrade("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1, bearer." + t +
                                            "\r\nSec-WebSocket-Protocol: bearer." + bob + "\r\n")) == 400);
  CHECK(status(upgrade("?channel=chat", "Authorization: Bearer " + bob +
                                            "\r\nSec-WebSocket-Protocol: hailwire.v1, bearer." + t + "\r\n")) == 400);
  // One that is nearly it, or two in one.
  for (std::string odd : {t + "," + bob, t + ", Bearer " + bob, t + " " + bob, "Bearer " + t, '"' + t + '"', t + ";",
                          t + ".", t + ".x", "." + t, t + "%00", "\t" + t + " x"}) {
    INFO(odd);
    CHECK(status(get("/live?channel=chat", "Authorization: Bearer " + odd + "\r\n")) == 401);
  }
  CHECK(status(get("/live?channel=chat&Token=" + t)) == 401);
  CHECK(status(get("/live?channel=chat", "Cookie: token=" + t + "\r\nProxy-Authorization: Bearer " + t +
                                             "\r\nX-Authorization: Bearer " + t + "\r\n")) == 401);
  CHECK(status(get("/live?channel=chat#&token=" + t)) >= 400);

  CHECK(status(get("/live?channel=chat")) == 401);
  CHECK(status(get("/live?channel=chat&token=")) == 401);
  CHECK(status(get("/live?channel=chat", "Authorization: Basic " + t + "\r\n")) == 401);
  CHECK(status(get("/live?channel=chat", "Authorization: Bearer\r\n")) == 401);
  CHECK(status(get("/live?channel=chat&token=" + t, "Authorization: Bearer " + t + "\r\n")) == 400);
  CHECK(status(get("/live?channel=chat&token=" + t + "&token=" + t)) == 400);
  CHECK(status(get("/live?channel=secret&token=" + t)) == 403);
  CHECK(status(get("/live?channel=@bob&token=" + t)) == 403);
  CHECK(status(get("/live?channel=@ada&token=" + t)) == 200);
}

TEST_CASE("the token's time is the permission's, and another token renews it") {
  token_house h;
  client c(h);
  c.join("?channel=chat&token=" + h.token_of("ada", 40));
  h.advance(12'000);
  CHECK(c.hear() == lines{R"(text {"expiring":{"seconds":30}})"});
  c.say(R"({"id":1,"renew":{"token":")" + h.token_of("bob", 3600) + "\"}}");
  CHECK(c.hear() ==
        lines{R"(text {"reply":1,"error":{"code":"forbidden","message":"the token is for another user"}})"});
  c.say(R"({"id":2,"renew":{"token":")" + h.token_of("ada", 3600) + "\"}}");
  auto heard = c.hear();
  REQUIRE(heard.size() == 1);
  CHECK(heard[0].starts_with(R"(text {"reply":2,"ok":{"expires":35)"));
  h.advance(29'000);
  CHECK(h.gate.messages.session_count() == 1);
}
