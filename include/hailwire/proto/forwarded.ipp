// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/forwarded.hpp"

namespace hailwire::proto::detail {

HAILWIRE_INLINE bool take_scheme(std::string_view value, std::string& out) {
  bool http = iequals(value, "http") || iequals(value, "ws"), https = iequals(value, "https") || iequals(value, "wss");
  if (http || https) out = https ? "https" : "http";
  return http || https;
}

HAILWIRE_INLINE bool take_host(std::string_view value, std::string& out) {
  if (!http1::parse_authority(value)) return false;
  out = value;
  return true;
}

HAILWIRE_INLINE bool take_node(std::string_view value, endpoint& out) {
  auto hidden = [](std::string_view s) {
    if (s.size() < 2 || s[0] != '_') return false;
    for (char c : s.substr(1))
      if (!is_token_letter(c) && c != '.') return false;
    return true;
  };
  auto bracket = value.find(']');
  auto colon = value.find(':', bracket == value.npos ? 0 : bracket);
  auto name = value.substr(0, colon);
  if (colon != value.npos) {
    auto port = value.substr(colon + 1);
    auto n = parse_decimal(port, 65535);
    if (!n && !hidden(port)) return false;
    if (n) out.port = static_cast<std::uint16_t>(*n);
  }
  if (iequals(name, "unknown") || hidden(name)) {
    out = {};
    return true;
  }
  auto e = endpoint::parse(name);
  if (!e || e->port) return false;
  out.address = e->address;
  return true;
}

HAILWIRE_INLINE bool take_value(std::string_view text, std::string& out) {
  out.clear();
  if (http1::is_token(text)) {
    out = text;
    return true;
  }
  if (text.size() < 2 || text[0] != '"') return false;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') return i + 1 == text.size();
    if (text[i] == '\\' && ++i == text.size()) return false;
    out += text[i];
  }
  return false;
}

HAILWIRE_INLINE bool read_forwarded_element(std::string_view element, hop& out) {
  bool node = false, by = false;
  std::string value;
  while (element.data()) {
    auto pair = http1::next_element(element, ';');
    if (pair.empty()) continue;
    auto equals = pair.find('=');
    auto name = pair.substr(0, equals);
    if (equals == pair.npos || !http1::is_token(name) || !take_value(pair.substr(equals + 1), value)) return false;
    if (iequals(name, "for")) {
      if (std::exchange(node, true) || !take_node(value, out.from)) return false;
    } else if (iequals(name, "by")) {
      endpoint itself;
      if (std::exchange(by, true) || !take_node(value, itself)) return false;
    } else if (iequals(name, "proto")) {
      if (!out.scheme.empty() || !take_scheme(value, out.scheme)) return false;
    } else if (iequals(name, "host")) {
      if (!out.host.empty() || !take_host(value, out.host)) return false;
    }  // others may be defined (section 5.5) and mean nothing here
  }
  return true;
}

}  // namespace hailwire::proto::detail

namespace hailwire::proto {

HAILWIRE_INLINE result<hailwire::detail::vector<hop>> read_forwarded(const http1::head& h) {
  hailwire::detail::vector<hop> out;
  bool bad = h.any_element("Forwarded", [&](std::string_view element) {
    out.emplace_back();
    return out.size() > max_hops || !detail::read_forwarded_element(element, out.back());
  });
  if (bad) return {errc::bad_request, "the Forwarded header is malformed"};
  return out;
}

HAILWIRE_INLINE result<hailwire::detail::vector<hop>> read_x_forwarded(const http1::head& h) {
  hailwire::detail::vector<hop> out;
  std::vector<std::string> schemes, hosts;
  bool bad = h.any_element("X-Forwarded-For", [&](std::string_view element) {
    out.emplace_back();
    if (out.size() > max_hops) return true;
    if (iequals(element, "unknown")) return false;
    auto e = endpoint::parse(element);
    if (e) out.back().from = *e;
    return !e;
  });
  if (bad) return {errc::bad_request, "the X-Forwarded-For header is malformed"};
  bad = h.any_element("X-Forwarded-Proto", [&](std::string_view element) {
    schemes.emplace_back();
    return schemes.size() > max_hops || !detail::take_scheme(element, schemes.back());
  });
  if (bad) return {errc::bad_request, "the X-Forwarded-Proto header is malformed"};
  bad = h.any_element("X-Forwarded-Host", [&](std::string_view element) {
    hosts.emplace_back();
    return hosts.size() > max_hops || !detail::take_host(element, hosts.back());
  });
  if (bad) return {errc::bad_request, "the X-Forwarded-Host header is malformed"};
  if (out.empty() && (!schemes.empty() || !hosts.empty())) out.emplace_back();  // the way is told without whose it is
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!schemes.empty()) out[i].scheme = schemes.size() == out.size() ? schemes[i] : schemes.back();
    if (!hosts.empty()) out[i].host = hosts.size() == out.size() ? hosts[i] : hosts.back();
  }
  return out;
}

}  // namespace hailwire::proto
