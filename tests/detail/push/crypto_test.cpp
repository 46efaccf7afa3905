// SPDX-License-Identifier: BSL-1.0
// Against the vectors that the standards print.
#include "hailwire/detail/push/crypto.hpp"

#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <string>

#include "catch.hpp"
#include "push/keys.hpp"

using namespace hailwire::detail;
using namespace std::string_literals;

TEST_CASE("RFC 8291, appendix A: the message is encrypted to the very bytes that are printed there") {
  auto ours = p256_key::from_secret(*decode_base64url("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"));
  auto theirs = p256_key::from_point(
      *decode_base64url("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"));
  REQUIRE(ours);
  REQUIRE(theirs);
  CHECK(base64url(ours->point()) ==
        "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8");
  CHECK(base64url(ours->agree(*theirs)) == "kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs");
  const std::string body =
      encrypt_push("When I grow up, I want to be a watermelon", *theirs, *decode_base64url("BTBZMqHH6r4Tts7J_aSIgg"),
                   *ours, *decode_base64url("DGv6ra1nlYgDCS1FRnbzlw"));
  CHECK(base64url(body) ==
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBr"
        "u3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN");
}

namespace {

constexpr std::string_view claims =
    "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
constexpr std::string_view payload =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

}  // namespace

TEST_CASE("RFC 7515, appendix A.2: RS256 gives the very signature that is printed there") {
  const std::string token = signed_token(rsa_key::read(rfc7515_rsa_pem()), "{\"alg\":\"RS256\"}", claims);
  CHECK(token == "eyJhbGciOiJSUzI1NiJ9." + std::string(payload) +
                     ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7"
                     "AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4"
                     "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K"
                     "0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv"
                     "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB"
                     "p0igcN_IoypGlUPQGe77Rw");
}

TEST_CASE("RFC 7515, appendix A.3: the printed ES256 signature is verified, and ours by the printed key") {
  auto pair = p256_key::from_secret(*decode_base64url("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"));
  REQUIRE(pair);
  const std::string point = "\x04" + *decode_base64url("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU") +
                            *decode_base64url("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
  CHECK(pair->point() == point);
  auto printed = p256_key::from_point(point);
  REQUIRE(printed);
  const std::string text = "eyJhbGciOiJFUzI1NiJ9." + std::string(payload);
  CHECK(printed->verify(
      text,
      *decode_base64url("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")));
  const std::string token = signed_token(*pair, "{\"alg\":\"ES256\"}", claims);
  REQUIRE(token.compare(0, text.size(), text) == 0);
  std::string signature = *decode_base64url(token.substr(text.size() + 1));
  CHECK(signature.size() == 64);
  CHECK(printed->verify(text, signature));
  signature[63] = static_cast<char>(signature[63] ^ 1);
  CHECK_FALSE(printed->verify(text, signature));
  CHECK_FALSE(printed->verify(text, signature.substr(1)));
}

TEST_CASE("RFC 5869, appendix A.1: HKDF") {
  CHECK(base64url(hkdf_sha256("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"s, std::string(22, '\x0b'),
                              "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9"s, 32)) ==
        base64url("\x3c\xb2\x5f\x25\xfa\xac\xd5\x7a\x90\x43\x4f\x64\xd0\x36\x2f\x2a"
                  "\x2d\x2d\x0a\x90\xcf\x1a\x5a\x4c\x5d\xb0\x2d\x56\xec\xc4\xc5\xbf"s));
}

TEST_CASE("keys that are none are refused") {
  const std::string point = p256_key::generate().point();
  CHECK(p256_key::from_point(point));
  CHECK_FALSE(p256_key::from_point(point.substr(1)));
  CHECK_FALSE(p256_key::from_point(point + "x"));
  std::string beside = point;
  beside[64] = static_cast<char>(beside[64] ^ 1);  // not on the curve
  CHECK_FALSE(p256_key::from_point(beside));
  std::string other = point;
  other[0] = '\x06';
  CHECK_FALSE(p256_key::from_point(other));
  CHECK_FALSE(p256_key::from_secret(std::string(32, '\0')));
  CHECK_FALSE(p256_key::from_secret(std::string(32, '\xFF')));
  CHECK_FALSE(p256_key::from_secret(std::string(31, '\x01')));
  CHECK_THROWS_AS(p256_key::read(""), std::invalid_argument);
  CHECK_THROWS_AS(p256_key::read("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
                  std::invalid_argument);
  CHECK_THROWS_AS(p256_key::read(rfc7515_rsa_pem()), std::invalid_argument);
  CHECK_THROWS_AS(rsa_key::read(p256_pem()), std::invalid_argument);
  CHECK_THROWS_AS(rsa_key::read("no key"), std::invalid_argument);
  CHECK(p256_key::read(p256_pem()).point().size() == 65);
}

TEST_CASE("base64url is read strictly, with padding or without") {
  CHECK(decode_base64url("AQI") == "\x01\x02");
  CHECK(decode_base64url("AQI=") == "\x01\x02");
  CHECK_FALSE(decode_base64url("AQI=="));
  CHECK_FALSE(decode_base64url("AQJ"));  // a bit that nothing carries
  CHECK_FALSE(decode_base64url("A+I"));
  CHECK_FALSE(decode_base64url("A/I"));
  CHECK_FALSE(decode_base64url("A Q"));
}
