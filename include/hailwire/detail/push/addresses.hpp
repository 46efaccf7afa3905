// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstring>

#include "hailwire/proto/address.hpp"

namespace hailwire::detail {

/// Whether an address is one of the open internet's: what a name that somebody else chose may lead to. By the special
/// purpose registries of IANA (RFC 6890): private, shared, local, documentation, benchmark, multicast and reserved
/// addresses are not, nor is what carries an IPv4 address that is not.
inline bool is_public(const proto::ip_address& a) {
  static const auto in = [](const proto::ip_address& x, auto&... ranges) {
    return (... || proto::ip_range::parse(ranges)->contains(x));
  };
  if (a.is_v4())
    return !in(a, "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
               "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
               "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4");
  // A network without IPv4 reaches it through such addresses (RFC 6052).
  if (in(a, "64:ff9b::/96")) return is_public(proto::ip_address::from_v4(a.bytes.data() + 12));
  // Global unicast, but for Teredo and the other protocols' own, documentation, and 6to4.
  return in(a, "2000::/3") && !in(a, "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20");
}

}  // namespace hailwire::detail
