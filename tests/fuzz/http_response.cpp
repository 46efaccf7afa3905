// SPDX-License-Identifier: BSL-1.0
// A hostile server's responses, one behind the other on a connection: read or refused, the same however they are cut,
// and never more of a body than was sent or may be. The first byte chooses the body's limit and the request's method.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/proto/http1_response.hpp"
#include "splits.hpp"

using namespace hailwire;
using namespace hailwire::proto;

namespace {

void require(bool truth) {
  if (!truth) std::abort();
}

// Small, so that inputs of a few hundred bytes reach every limit.
constexpr http1::limits small{96, 256, 8};

// What is understood of `bytes` that come in pieces, each in memory of its own without a byte behind it.
std::string read(std::string_view bytes, std::uint64_t most, std::string_view method,
                 const std::vector<std::size_t>& ends) {
  std::string said, kept, body;
  http1::response_parser parser(small);
  http1::response_head h;
  http1::body_reader reader;
  bool in_body = false;
  std::size_t from = 0;
  for (auto end : ends) {
    kept += bytes.substr(from, end - from);
    from = end;
    for (bool more = true; more;) {
      const std::vector<char> exact(kept.begin(), kept.end());
      std::string_view in(exact.data(), exact.size());
      if (!in_body) {
        const auto p = parser.parse(in, h);
        if (p == http1::progress::failed)
          return said + "!" + std::string(code_name(parser.error().code)) + parser.error().message;
        if (p == http1::progress::need_more) {
          require(in.size() < small.head);
          break;
        }
        require(parser.size() <= small.head && h.headers.size() <= small.headers);
        require(h.status >= 100 && h.status <= 599 && !(h.chunked && h.content_length));
        said +=
            std::to_string(h.status) + (h.chunked ? "c" : "") + (h.keep_alive ? "k" : "") + (h.interim() ? "i" : "");
        if (h.content_length) said += std::to_string(*h.content_length);
        for (auto& f : h.headers) {
          require(http1::is_token(f.name) && http1::is_value(f.value) && trim(f.value) == f.value);
          said.append(f.name).append("=").append(f.value).append(";");
        }
        if (auto ms = http1::retry_after(h, 86'400'000)) require(*ms >= 0 && *ms <= 86'400'000);
        reader = http1::body_reader(h, method);
        in.remove_prefix(parser.size());
        parser.reset();
        body.clear();
        in_body = true;
      }
      const auto p = reader.read(in, body, most);
      kept.assign(in);
      require(body.size() <= most);
      if (p == http1::progress::failed)
        return said + "!" + std::string(code_name(reader.error().code)) + reader.error().message;
      more = p == http1::progress::done;
      if (!more) {
        require(kept.empty());
        continue;
      }
      said += "(" + body + ")";
      in_body = false;
    }
  }
  if (in_body) said += reader.end() == http1::progress::done ? "(" + body + ")." : "!cut" + body;
  return said;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr std::uint64_t limits[] = {0, 5, 40, 1000, UINT64_MAX};
  const auto most = limits[data[0] % 5];
  const std::string_view method = data[0] & 0x80 ? "HEAD" : "GET";
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = read(bytes, most, method, {bytes.size()});
  cut_everywhere(bytes,
                 [&](const std::vector<std::size_t>& ends) { require(read(bytes, most, method, ends) == whole); });
  return 0;
}
