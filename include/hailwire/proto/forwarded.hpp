// SPDX-License-Identifier: BSL-1.0
#pragma once

// What reverse proxies write into a request about whom they had it from: `Forwarded` (RFC 7239) or, older and more
// common, X-Forwarded-For with -Proto and -Host. Either is a list to which each proxy adds on the right, so the further
// to the left an element stands, the more proxies must be believed for it; which of them are is the caller's to know.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/vector.hpp"
#include "hailwire/error.hpp"
#include "hailwire/proto/address.hpp"
#include "hailwire/proto/http_fields.hpp"

namespace hailwire::proto {

/// What one proxy says of whoever sent the request to it.
struct hop {
  endpoint from;       ///< without an address where the proxy keeps it to itself
  std::string scheme;  ///< by which the request came to it, `http` or `https`; empty: not said
  std::string host;    ///< the Host that it was sent; empty: not said
};

/// The most hops that are read. Chains of more than a handful do not occur.
inline constexpr std::size_t max_hops = 32;

namespace detail {

bool take_scheme(std::string_view value, std::string& out);
bool take_host(std::string_view value, std::string& out);

/// RFC 7239, section 6: an address with brackets around IPv6, `unknown`, or a name that begins with `_`; then perhaps a
/// port, which may be such a name as well.
bool take_node(std::string_view value, endpoint& out);

/// A token or a quoted string (RFC 9110, section 5.6.4), which is all of `text`.
bool take_value(std::string_view text, std::string& out);

bool read_forwarded_element(std::string_view element, hop& out);

}  // namespace detail

/// Reads all `Forwarded` fields; leftmost first. Fails with `bad_request` on anything that RFC 7239, section 4 does not
/// allow.
result<hailwire::detail::vector<hop>> read_forwarded(const http1::head& h);

/// Reads all X-Forwarded-For, -Proto and -Host fields; leftmost first. There is no standard: elements of the latter two
/// belong to the hops one by one where there are as many, else the last one holds for the whole way. Fails with
/// `bad_request` on what is no address, `unknown`, scheme or host.
result<hailwire::detail::vector<hop>> read_x_forwarded(const http1::head& h);

/// Who sent a request, and as what.
struct requester {
  endpoint from;
  std::string scheme, host;  ///< as it asked the outermost proxy that is believed; empty: not said
};

/// Follows the chain from `peer`, who is connected, to the left: past each address that is trusted, to the first that
/// is not. Where a trusted proxy keeps an address to itself, that proxy is as far as one can see.
template <class Trusted>
requester walk_hops(std::span<const hop> hops, const endpoint& peer, Trusted trusted) {
  requester out{peer, {}, {}};
  for (std::size_t i = hops.size(); i > 0 && trusted(*out.from.address); --i) {
    const hop& h = hops[i - 1];
    if (!h.scheme.empty()) out.scheme = h.scheme;
    if (!h.host.empty()) out.host = h.host;
    if (!h.from.address) break;
    out.from = h.from;
  }
  return out;
}

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/forwarded.ipp"
#endif
