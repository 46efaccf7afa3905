// SPDX-License-Identifier: BSL-1.0
// A URL is read or refused; one that is read stands in a request head without splitting it, and reads again.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "hailwire/proto/url.hpp"

using namespace hailwire::proto;

namespace {
void require(bool truth) {
  if (!truth) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const auto base = parse_url("https://h:8443/live?user=a");
  for (const auto& read : {parse_url(text), resolve_url(*base, text)}) {
    if (!read) continue;
    require(!read->host.empty() && read->port != 0 && read->path.starts_with('/'));
    for (const auto& part : {read->host, read->path, read->query})
      for (char c : part) require(c > 0x20 && c < 0x7F && c != '#');
    require(http1::parse_authority(read->authority()).has_value());
    const auto again =
        parse_url((read->secure ? "wss://" : "ws://") + read->authority() + read->path + "?" + read->query);
    require(again && *again == *read);
  }
  std::string query;
  append_query(query, text, text);
  query_pairs pairs;
  if (valid_utf8(text)) require(parse_query(query, pairs) && pairs.size() == 1 && pairs[0].second == text);
  return 0;
}
