// SPDX-License-Identifier: BSL-1.0
#pragma once

// The URLs that a client connects to (RFC 3986): taken apart, resolved, and their queries added to.

#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/error.hpp"
#include "hailwire/proto/http_fields.hpp"

namespace hailwire::proto {

/// A URL of scheme http, https, ws or wss. For what is connected to, ws is http, and wss is https.
struct url {
  bool secure = false;
  std::string host;         ///< a name or an address, in lower case; of IPv6 without brackets
  std::uint16_t port = 80;  ///< as written, else 80 or 443
  std::string path = "/";   ///< escaped as written; begins with `/`
  std::string query;        ///< escaped as written, without its `?`

  /// The value of a Host header: the port is left out where it is the scheme's (RFC 9110, section 7.2).
  std::string authority() const;
  friend bool operator==(const url&, const url&) = default;
};

namespace url_detail {
bool visible(std::string_view s) noexcept;
void take_target(std::string_view target, url& out);
}  // namespace url_detail

/// Reads an absolute URL. `bad_request` for another scheme, a user name (RFC 9110, section 4.2.4), a fragment, a port
/// 0, and anything that is not visible ASCII: names and queries of other scripts are to be escaped.
result<url> parse_url(std::string_view text);

/// Reads what a server names in place of `base`: an absolute URL, or a path on the same host that begins with `/`.
result<url> resolve_url(const url& base, std::string_view reference);

/// Appends `utf8` as a part of a query: everything but unreserved characters (RFC 3986, section 2.3) is escaped.
void append_escaped(std::string& out, std::string_view utf8);

/// Appends `name=value` to a query, behind `&` where there is something already.
void append_query(std::string& query, std::string_view name, std::string_view value);

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/url.ipp"
#endif
