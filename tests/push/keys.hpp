// SPDX-License-Identifier: BSL-1.0
// Keys for tests: the RSA key that RFC 7515 prints in its appendix A.2, and one on P-256 that is made here.
#pragma once

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include <stdexcept>
#include <string>

#include "hailwire/detail/push/crypto.hpp"

inline std::string private_pem(EVP_PKEY* key) {
  std::unique_ptr<BIO, hailwire::detail::crypto_free<::BIO_free>> out(::BIO_new(::BIO_s_mem()));
  if (!out || ::PEM_write_bio_PKCS8PrivateKey(out.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    throw std::runtime_error("no PEM");
  char* text = nullptr;
  const long size = ::BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

inline std::string p256_pem() {
  hailwire::detail::pkey_pointer key(::EVP_EC_gen("P-256"));
  return private_pem(key.get());
}

inline std::string rfc7515_rsa_pem() {
  using namespace hailwire::detail;
  struct {
    const char* name;
    const char* value;
  } const parts[] = {
      {OSSL_PKEY_PARAM_RSA_N,
       "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
       "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2"
       "R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD"
       "TW9gb54h4FRWyuXpoQ"},
      {OSSL_PKEY_PARAM_RSA_E, "AQAB"},
      {OSSL_PKEY_PARAM_RSA_D,
       "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_G"
       "O-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQl"
       "BjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0"
       "QU91p1DhOVRuOopznQ"},
      {OSSL_PKEY_PARAM_RSA_FACTOR1,
       "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2"
       "KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"},
      {OSSL_PKEY_PARAM_RSA_FACTOR2,
       "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_"
       "HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"},
      {OSSL_PKEY_PARAM_RSA_EXPONENT1,
       "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vm"
       "AktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0"},
      {OSSL_PKEY_PARAM_RSA_EXPONENT2,
       "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9c"
       "jz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU"},
      {OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
       "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnb"
       "JtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"},
  };
  std::unique_ptr<OSSL_PARAM_BLD, crypto_free<::OSSL_PARAM_BLD_free>> words(::OSSL_PARAM_BLD_new());
  std::vector<std::unique_ptr<BIGNUM, crypto_free<::BN_clear_free>>> numbers;
  for (auto& p : parts) {
    const std::string bytes = *decode_base64url(p.value);
    numbers.emplace_back(::BN_bin2bn(raw(bytes), static_cast<int>(bytes.size()), nullptr));
    if (::OSSL_PARAM_BLD_push_BN(words.get(), p.name, numbers.back().get()) != 1) throw std::runtime_error("no key");
  }
  std::unique_ptr<OSSL_PARAM, crypto_free<::OSSL_PARAM_free>> list(::OSSL_PARAM_BLD_to_param(words.get()));
  std::unique_ptr<EVP_PKEY_CTX, crypto_free<::EVP_PKEY_CTX_free>> context(
      ::EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  EVP_PKEY* made = nullptr;
  if (::EVP_PKEY_fromdata_init(context.get()) != 1 ||
      ::EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_KEYPAIR, list.get()) != 1)
    throw std::runtime_error("no key");
  pkey_pointer key(made);
  return private_pem(key.get());
}
