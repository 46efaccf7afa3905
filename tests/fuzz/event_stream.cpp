// SPDX-License-Identifier: BSL-1.0
// A hostile server's event stream: the same events however it is cut, and none over the limit that its first byte
// chooses.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/proto/sse_reader.hpp"
#include "splits.hpp"

using namespace hailwire::proto;

namespace {

void require(bool truth) {
  if (!truth) std::abort();
}

std::string read(std::string_view bytes, std::size_t most, const std::vector<std::size_t>& ends) {
  sse_reader reader(most);
  std::string said;
  std::size_t from = 0;
  for (auto end : ends) {
    const std::vector<char> exact(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                                  bytes.begin() + static_cast<std::ptrdiff_t>(end));
    std::string_view in(exact.data(), exact.size());
    from = end;
    sse_event e;
    for (;;) {
      const auto p = reader.next(in, e);
      if (p == sse_reader::progress::failed) return said + "!";
      if (p == sse_reader::progress::need_more) break;
      require(e.data.size() <= most && e.type.size() <= most && e.id.size() <= most);
      require(e.data.find('\r') == e.data.npos && e.type.find_first_of("\r\n") == e.type.npos);
      said += std::to_string(e.type.size()) + ":" + std::string(e.type) + std::to_string(e.data.size()) + ":" +
              std::string(e.data) + std::to_string(e.id.size()) + ":" + std::string(e.id);
    }
    require(in.empty());
  }
  return said + (reader.retry() ? std::to_string(*reader.retry()) : "");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr std::size_t limits[] = {6, 16, 64, 4096};
  const auto most = limits[data[0] % 4];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = read(bytes, most, {bytes.size()});
  cut_everywhere(bytes, [&](const std::vector<std::size_t>& ends) { require(read(bytes, most, ends) == whole); });
  return 0;
}
