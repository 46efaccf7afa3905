// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/url.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE std::string url::authority() const {
  const bool six = host.find(':') != host.npos;
  std::string out = six ? '[' + host + ']' : host;
  if (port != (secure ? 443 : 80)) append_decimal(out += ':', port);
  return out;
}

}  // namespace hailwire::proto

namespace hailwire::proto::url_detail {

HAILWIRE_INLINE bool visible(std::string_view s) noexcept {
  for (char c : s)
    if (c <= 0x20 || c >= 0x7F || c == '#' || c == '\\') return false;
  return true;
}

HAILWIRE_INLINE void take_target(std::string_view target, url& out) {
  const auto mark = target.find('?');
  out.path = target.substr(0, mark);
  if (out.path.empty()) out.path = "/";
  out.query = mark == target.npos ? std::string_view() : target.substr(mark + 1);
}

}  // namespace hailwire::proto::url_detail

namespace hailwire::proto {

HAILWIRE_INLINE result<url> parse_url(std::string_view text) {
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

HAILWIRE_INLINE result<url> resolve_url(const url& base, std::string_view reference) {
  if (!reference.starts_with('/') || reference.starts_with("//")) return parse_url(reference);
  if (!url_detail::visible(reference)) return {errc::bad_request, "a path is visible ASCII without a fragment"};
  url out = base;
  url_detail::take_target(reference, out);
  return out;
}

HAILWIRE_INLINE void append_escaped(std::string& out, std::string_view utf8) {
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

HAILWIRE_INLINE void append_query(std::string& query, std::string_view name, std::string_view value) {
  if (!query.empty()) query += '&';
  append_escaped(query, name);
  query += '=';
  append_escaped(query, value);
}

}  // namespace hailwire::proto
