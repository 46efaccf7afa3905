// SPDX-License-Identifier: BSL-1.0
// The PROXY protocol's header under any bytes: cut anywhere the answer is the same, and no more is asked for than there
// is.
#include "hailwire/proto/proxy_header.hpp"

#include <cstdlib>

using namespace hailwire::proto;

namespace {
void require(bool claim) {
  if (!claim) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using state = proxy_header_progress::state;
  // Most inputs begin as they must; the rest is the fuzzer's.
  std::string bytes("\r\n\r\n\0\r\nQUIT\n", size && data[0] & 1 ? 12 : 0);
  if (size) bytes.append(reinterpret_cast<const char*>(data) + 1, size - 1);

  // As a socket gives them: never more than is asked for.
  proxy_header told;
  proxy_header_progress p;
  std::size_t have = 0;
  while (p.what == state::need_more && have < bytes.size()) {
    require(p.size > have && p.size <= max_proxy_header);
    have = std::min(p.size, bytes.size());
    p = read_proxy_header(std::string_view(bytes).substr(0, have), told);
  }
  // Byte by byte: fails no later, and not where the whole succeeds.
  proxy_header again;
  proxy_header_progress q;
  for (std::size_t n = 0; n <= have && q.what == state::need_more; ++n)
    q = read_proxy_header(std::string_view(bytes).substr(0, n), again);
  require(q.what == p.what);
  if (p.what != state::done) return 0;
  require(p.size == have && q.size == have && have >= proxy_header_start && have <= max_proxy_header);
  for (auto* e : {&told.source, &told.target}) {
    if (!e->address) continue;
    auto read = endpoint::parse(e->text());
    require(read && read->address == e->address && read->port == e->port);
  }
  require(again.source.text() == told.source.text() && again.target.text() == told.target.text());
  return 0;
}
