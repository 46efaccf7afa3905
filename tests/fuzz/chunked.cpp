// SPDX-License-Identifier: BSL-1.0
// A chunked body is read or refused, the same however it is cut; it never gives more than it was sent or may be.
// The first byte of the input chooses the limit of the body.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/proto/http1.hpp"
#include "splits.hpp"

using namespace hailwire::proto;

namespace {

void require(bool truth) {
  if (!truth) std::abort();
}

struct outcome {
  http1::progress verdict = http1::progress::need_more;
  std::string body, error;
  std::size_t taken = 0;
  bool operator==(const outcome&) const = default;
};

template <class Ends>
outcome decode(std::string_view bytes, std::size_t max_body, const Ends& ends) {
  http1::chunked_decoder decoder;
  outcome out;
  std::size_t from = 0;
  for (std::size_t end : ends) {
    std::vector<char> buffer(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                             bytes.begin() + static_cast<std::ptrdiff_t>(end));
    std::string_view in(buffer.data(), buffer.size());
    out.verdict = decoder.decode(in, out.body, max_body);
    out.taken += end - from - in.size();
    if (out.verdict == http1::progress::failed)
      out.error = std::string(code_name(decoder.error().code)) + decoder.error().message;
    if (out.verdict != http1::progress::need_more) break;
    require(in.empty());
    from = end;
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr std::size_t max_bodies[] = {0, 5, 40, 1000, SIZE_MAX};
  std::size_t max_body = max_bodies[data[0] % 5];
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  using ends = std::vector<std::size_t>;
  auto whole = decode(bytes, max_body, ends{bytes.size()});
  require(whole.body.size() <= max_body && whole.body.size() <= whole.taken);
  if (whole.verdict == http1::progress::done) {
    auto text = bytes.substr(0, whole.taken);
    require(text.size() >= 5 && text.substr(text.size() - 4) == "\r\n\r\n");
    require(decode(text, max_body, ends{text.size()}) == whole);
  }
  cut_everywhere(bytes, [&](const ends& e) { require(decode(bytes, max_body, e) == whole); });
  return 0;
}
