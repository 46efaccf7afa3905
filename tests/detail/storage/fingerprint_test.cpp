// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/storage/fingerprint.hpp"

#include <vector>

#include "catch.hpp"

using namespace hailwire;

namespace {

TEST_CASE("a fingerprint is the same for the same payload and key, and for nothing else") {
  const detail::bits128 key{1, 2}, other{1, 3};
  const std::vector<payload> all{payload::text(""),
                                 payload::text("1"),
                                 payload::json("1"),
                                 payload::binary("1"),
                                 payload::text("1 "),
                                 payload::text("1", "text/html"),
                                 payload::text("html1", "text/"),  // the same bytes one behind the other
                                 payload::text("", "text/html1"),
                                 payload::binary(std::string_view("\0", 1)),
                                 payload::binary(std::string_view("\0\0", 2))};
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(detail::fingerprint(key, all[i]) == detail::fingerprint(key, payload(all[i])));
    CHECK_FALSE(detail::fingerprint(key, all[i]) == detail::fingerprint(other, all[i]));
    for (std::size_t j = 0; j < i; ++j) {
      INFO(i << " and " << j);
      CHECK_FALSE(detail::fingerprint(key, all[i]) == detail::fingerprint(key, all[j]));
    }
  }
}

TEST_CASE("a fingerprint is stored in files, so it never changes") {
  const detail::bits128 key{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  const detail::bits128 json = detail::fingerprint(key, payload::json("{\"a\":1}"));
  const detail::bits128 typed = detail::fingerprint(key, payload::text("hello", "text/html"));
  // By another program: SipHash-2-4-128 of the kind and the media type's length, 8 bytes each, the media type and the
  // bytes.
  CHECK(json.low == 0x99e1e0fdc7fe6a5fu);
  CHECK(json.high == 0x2728fd459b424460u);
  CHECK(typed.low == 0x714cd879688c6b29u);
  CHECK(typed.high == 0x0ee57a329926e785u);
}

}  // namespace
