// SPDX-License-Identifier: BSL-1.0
// A head is read or refused, the same however it is cut; what is read keeps its promises.
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

// Small, so that inputs of a few hundred bytes reach every limit.
const http1::limits small{96, 256, 8};

struct outcome {
  http1::progress verdict = http1::progress::need_more;
  std::string said;
};

std::string tell(const http1::head_parser& parser, const http1::head& h) {
  std::string s;
  auto add = [&](std::string_view part) { s.append(part).push_back('\n'); };
  add(std::to_string(parser.size()));
  for (auto part : {h.method, h.target, h.path, h.query, h.host}) add(part);
  add(std::to_string(h.minor) + (h.chunked ? "c" : "") + (h.keep_alive ? "k" : "") + (h.expect_continue ? "e" : ""));
  add(h.content_length ? std::to_string(*h.content_length) : "none");
  for (auto& line : h.headers) add(line.name), add(line.value);
  return s;
}

// Parses what has arrived at each of `ends`, each time from memory of its own without a byte behind it.
template <class Ends>
outcome parse(std::string_view bytes, const Ends& ends) {
  http1::head_parser parser(small);
  http1::head h;
  outcome out;
  for (std::size_t end : ends) {
    std::vector<char> buffer(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(end));
    out.verdict = parser.parse({buffer.data(), buffer.size()}, h);
    if (out.verdict == http1::progress::failed)
      out.said = std::string(code_name(parser.error().code)) + parser.error().message;
    if (out.verdict == http1::progress::done) out.said = tell(parser, h);
    if (out.verdict != http1::progress::need_more) break;
  }
  return out;
}

void check_promises(std::string_view bytes) {
  http1::head_parser parser(small);
  http1::head h;
  auto verdict = parser.parse(bytes, h);
  if (verdict == http1::progress::need_more) require(bytes.size() < small.head);
  if (verdict != http1::progress::done) return;
  auto text = bytes.substr(0, parser.size());
  require(text.size() <= small.head && text.substr(text.size() - 4) == "\r\n\r\n");
  require(h.headers.size() <= small.headers);
  require(http1::is_token(h.method) && h.method != "CONNECT");
  require(!h.path.empty() && (h.path[0] == '/' || (h.path == "*" && h.method == "OPTIONS")));
  require(h.host.empty() ? h.minor == 0 : http1::parse_authority(h.host).has_value());
  require(!(h.chunked && h.content_length) && !(h.chunked && h.minor == 0));
  require(h.count("content-length") == (h.content_length ? 1u : 0u) &&
          h.count("transfer-encoding") == (h.chunked ? 1u : 0u));
  for (auto& line : h.headers) {
    require(http1::is_token(line.name) && http1::is_value(line.value) && trim(line.value) == line.value);
    require(h.find(line.name).data() != nullptr && h.count(line.name) > 0);
    http1::same_origin(line.value, h.host);
  }
  h.has_token("upgrade", "websocket");
  http1::accepts_literally(h, "text/event-stream");
  if (auto seconds = http1::prefer_wait(h)) require(*seconds <= std::uint64_t{1} << 31);
  http1::any_entity_tag(h, [](std::string_view tag) {
    require(tag.find('"') == tag.npos);
    return false;
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_promises(bytes);
  using ends = std::vector<std::size_t>;
  auto whole = parse(bytes, ends{size});
  cut_everywhere(bytes, [&](const ends& e) {
    auto split = parse(bytes, e);
    require(split.verdict == whole.verdict && split.said == whole.said);
  });
  return 0;
}
