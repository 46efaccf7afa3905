// SPDX-License-Identifier: BSL-1.0
// The blocks of this machine against the portable ones and against bytes one by one, on any bytes.
#include "hailwire/detail/base/simd.hpp"

#include <cstdlib>
#include <string>
#include <string_view>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/proto/http_fields.hpp"
#include "hailwire/proto/json.hpp"

namespace hw = hailwire::detail;
namespace http1 = hailwire::proto::http1;

namespace {
void require(bool claim) {
  if (!claim) std::abort();
}

template <class Stops, class Byte>
void check_scan(std::string_view s, Stops stops, Byte byte) {
  const char *p = s.data(), *end = p + s.size(), *first = p;
  while (first != end && !byte(static_cast<unsigned char>(*first))) ++first;
  require(hw::find_first<hw::vector_block>(p, end, stops) == first);
  require(hw::find_first<hw::word_block>(p, end, stops) == first);
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 5) return 0;
  std::uint32_t key;
  std::memcpy(&key, data, 4);
  const std::size_t phase = data[4];
  // A copy of exactly that size, so that the sanitizer sees a load beside it.
  const std::string_view text(reinterpret_cast<const char*>(data) + 5, size - 5);
  std::string own(text), other(text), plain(text);
  bool ascii = true;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    plain[i] = static_cast<char>(static_cast<unsigned char>(plain[i]) ^ data[(phase + i) % 4]);
    ascii = ascii && static_cast<unsigned char>(plain[i]) < 0x80;
  }
  require(hw::xor_bytes<hw::vector_block>(own.data(), own.size(), key, phase) == ascii && own == plain);
  require(hw::xor_bytes<hw::word_block>(other.data(), other.size(), key, phase) == ascii && other == plain);

  for (std::string_view s : {text, std::string_view(plain)}) {
    check_scan(s, hw::not_ascii(), [](unsigned c) { return c > 0x7F; });
    check_scan(s, hailwire::proto::json::detail::string_stops<true>(),
               [](unsigned c) { return c == '"' || c == '\\' || c < 0x20 || c > 0x7F; });
    check_scan(s, hailwire::proto::json::detail::string_stops<false>(),
               [](unsigned c) { return c == '"' || c == '\\' || c < 0x20; });
    check_scan(s, http1::detail::controls(), [](unsigned c) { return (c < 0x20 && c != '\t') || c == 0x7F; });
    check_scan(s, http1::detail::not_target(), [](unsigned c) { return c < 0x21 || c > 0x7E || c == '#'; });
    check_scan(s, http1::detail::not_name(), [](unsigned c) {
      return !((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '.');
    });
    hailwire::proto::utf8_checker check;
    bool good = true;
    for (char c : s) good = good && check.feed({&c, 1});
    require(hailwire::proto::valid_utf8(s) == (good && check.complete()));
  }
  return 0;
}
