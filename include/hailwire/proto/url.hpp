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
  std::string authority() const {
    const bool six = host.find(':') != host.npos;
    std::string out = six ? '[' + host + ']' : host;
    if (port != (secure ? 443 : 80)) append_decimal(out += ':', port);
    return out;
  }
  friend bool operator==(const url&, const url&) = default;
};

namespace url_detail {
inline bool visible(std::string_view s) noexcept {
  for (char c : s)
    if (c <= 0x20 || c >= 0x7F || c == '#' || c == '\\') return false;
  return true;
}
inline void take_target(std::string_view target, url& out) {
  const auto mark = target.find('?');
  out.path = target.substr(0, mark);
  if (out.path.empty()) out.path = "/";
  out.query = mark == target.npos ? std::string_view() : target.substr(mark + 1);
}
}  // namespace url_detail

/// Reads an absolute URL. `bad_request` for another scheme, a user name (RFC 9110, section 4.2.4), a fragment, a port
/// 0, and anything that is not visible ASCII: names and queries of other scripts are to be escaped.
inline result<url> parse_url(std::string_view text) {
  url out;
  const auto colon = text.find("://");
  const auto scheme = text.substr(0, colon);
  out.secure = iequals(scheme, "https") || iequals(scheme, "wss");
  if (colon == text.npos || !(out.secure || iequals(scheme, "http") || iequals(scheme, "ws")))
    return {errc::bad_request, "a URL begins with http://, https://, ws:// or wss://"};
  text.remove_prefix(colon + 3);
  if (!url_detail::visible(text))
    return {errc::bad_request, "a URL is visible ASCII without a fragment: escape what is not"};
  const auto end = std::min(text.find_first_of("/?"), text.size());
  const auto authority = http1::parse_authority(text.substr(0, end));
  if (!authority || authority->port == std::uint16_t{0}) return {errc::bad_request, "the URL's host is malformed"};
  auto host = authority->host;
  if (host[0] == '[') host = host.substr(1, host.size() - 2);
  for (char c : host) out.host += to_lower(c);
  out.port = authority->port.value_or(out.secure ? 443 : 80);
  url_detail::take_target(text.substr(end), out);
  return out;
}

/// Reads what a server names in place of `base`: an absolute URL, or a path on the same host that begins with `/`.
inline result<url> resolve_url(const url& base, std::string_view reference) {
  if (!reference.starts_with('/') || reference.starts_with("//")) return parse_url(reference);
  if (!url_detail::visible(reference)) return {errc::bad_request, "a path is visible ASCII without a fragment"};
  url out = base;
  url_detail::take_target(reference, out);
  return out;
}

/// Appends `utf8` as a part of a query: everything but unreserved characters (RFC 3986, section 2.3) is escaped.
inline void append_escaped(std::string& out, std::string_view utf8) {
  for (char c : utf8) {
    if (is_token_letter(c) || c == '.' || c == '~') {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += "0123456789ABCDEF"[byte >> 4];
      out += "0123456789ABCDEF"[byte & 15];
    }
  }
}

/// Appends `name=value` to a query, behind `&` where there is something already.
inline void append_query(std::string& query, std::string_view name, std::string_view value) {
  if (!query.empty()) query += '&';
  append_escaped(query, name);
  query += '=';
  append_escaped(query, value);
}

}  // namespace hailwire::proto
