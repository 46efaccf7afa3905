// SPDX-License-Identifier: BSL-1.0
// Forwarding headers under any bytes: hops or a clear refusal; and whoever is not trusted changes nothing to the right
// of a hop that is. The input's lines are the values of Forwarded, X-Forwarded-For, -Proto and -Host in turn.
#include "hailwire/proto/forwarded.hpp"

#include <algorithm>
#include <cstdlib>
#include <span>

using namespace hailwire;
using namespace hailwire::proto;

namespace {
void require(bool claim) {
  if (!claim) std::abort();
}
void check(const result<hailwire::detail::vector<hop>>& hops) {
  if (!hops) {
    require(hops.error().code == errc::bad_request && !hops.error().message.empty());
    return;
  }
  require(hops->size() <= max_hops);
  for (const hop& h : *hops) {
    require(h.scheme.empty() || h.scheme == "http" || h.scheme == "https");
    require(h.host.empty() || http1::parse_authority(h.host));
    if (!h.from.address) continue;
    auto again = endpoint::parse(h.from.text());
    require(again && again->address == h.from.address && again->port == h.from.port);
    require(ip_address::parse(h.from.address->text()) == h.from.address);
  }
  endpoint peer{ip_address::parse("10.0.0.1"), 1};
  auto nobody = walk_hops(*hops, peer, [](const ip_address&) { return false; });
  require(nobody.from.text() == "10.0.0.1:1" && nobody.scheme.empty() && nobody.host.empty());
  // Of an address that is not trusted nothing is believed: what stands to the left of it makes no difference.
  auto only_peer = [&](const ip_address& a) { return a == *peer.address; };
  auto found = walk_hops(*hops, peer, only_peer);
  std::size_t keep = 0;
  while (keep < hops->size() && (*hops)[hops->size() - 1 - keep].from.address == peer.address) ++keep;
  std::span<const hop> right(hops->end() - std::min(keep + 1, hops->size()), hops->end());
  auto same = walk_hops(right, peer, only_peer);
  require(found.from.text() == same.from.text() && found.scheme == same.scheme && found.host == same.host);
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view names[] = {"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"};
  http1::head h;
  for (std::size_t i = 0; !text.empty(); ++i) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    h.headers.push_back({names[i % 4], line});
  }
  check(read_forwarded(h));
  check(read_x_forwarded(h));
  if (auto e = endpoint::parse(h.headers.empty() ? std::string_view() : h.headers[0].value))
    require(endpoint::parse(e->text())->address == e->address);
  if (!h.headers.empty()) {
    if (auto r = ip_range::parse(h.headers[0].value))
      require(r->contains(*ip_address::parse(h.headers[0].value.substr(0, h.headers[0].value.find('/')))));
  }
  return 0;
}
