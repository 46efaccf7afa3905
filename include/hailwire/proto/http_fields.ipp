// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/http_fields.hpp"

namespace hailwire::proto::http1::detail {

HAILWIRE_INLINE std::size_t name_size(letter what, std::string_view s) noexcept {
  const char* end = s.data() + s.size();
  const char* p = hailwire::detail::find_first(s.data(), end, not_name());
  while (p != end && is(what, *p)) ++p;
  return static_cast<std::size_t>(p - s.data());
}

HAILWIRE_INLINE bool is_ipv4(std::string_view s) noexcept {
  for (int part = 0;; ++part) {
    auto dot = s.find('.');
    if (!parse_decimal(s.substr(0, dot), 255)) return false;
    if (dot == s.npos) return part == 3;
    s.remove_prefix(dot + 1);
  }
}

HAILWIRE_INLINE bool is_ipv6(std::string_view s) noexcept {
  int groups = 0;
  bool shortened = s.substr(0, 2) == "::";
  if (shortened) s.remove_prefix(2);
  if (shortened && s.empty()) return true;
  for (;;) {
    std::size_t n = 0;
    while (n < s.size() && hex_digit(s[n]) >= 0) ++n;
    if (n < s.size() && s[n] == '.') {
      if (!is_ipv4(s)) return false;
      groups += 2;
      break;
    }
    if (n == 0 || n > 4 || ++groups > 8) return false;
    s.remove_prefix(n);
    if (s.empty()) break;
    if (s[0] != ':' || s.size() == 1) return false;
    s.remove_prefix(1);
    if (s[0] != ':') continue;
    if (shortened) return false;
    shortened = true;
    s.remove_prefix(1);
    if (s.empty()) break;
  }
  return shortened ? groups <= 7 : groups == 8;
}

}  // namespace hailwire::proto::http1::detail

namespace hailwire::proto::http1 {

HAILWIRE_INLINE std::optional<authority> parse_authority(std::string_view s) noexcept {
  authority out;
  if (!s.empty() && s[0] == '[') {
    auto end = s.find(']');
    if (end == s.npos || !detail::is_ipv6(s.substr(1, end - 1))) return {};
    out.host = s.substr(0, end + 1);
  } else {
    std::size_t n = detail::name_size(detail::reg_name, s);  // nearly always up to the colon or the end
    for (; n < s.size() && s[n] != ':'; ++n) {
      if (detail::is(detail::reg_name, s[n])) continue;
      if (s[n] != '%' || s.size() - n < 3 || hex_digit(s[n + 1]) < 0 || hex_digit(s[n + 2]) < 0) return {};
      n += 2;
    }
    if (n == 0) return {};
    out.host = s.substr(0, n);
  }
  s.remove_prefix(out.host.size());
  if (s.empty()) return out;
  if (s[0] != ':' || s.size() > 6) return {};
  s.remove_prefix(1);
  unsigned port = 0;
  for (char c : s) {
    if (c < '0' || c > '9') return {};
    port = port * 10 + static_cast<unsigned>(c - '0');
  }
  if (port > 65535) return {};
  if (!s.empty()) out.port = static_cast<std::uint16_t>(port);
  return out;
}

HAILWIRE_INLINE std::string_view next_element(std::string_view& rest, char separator) noexcept {
  bool quoted = false;
  std::size_t i = 0;
  for (; i < rest.size(); ++i) {
    if (quoted) {
      if (rest[i] == '\\')
        ++i;
      else if (rest[i] == '"')
        quoted = false;
    } else if (rest[i] == '"') {
      quoted = true;
    } else if (rest[i] == separator) {
      auto element = rest.substr(0, i);
      rest.remove_prefix(i + 1);
      return trim(element);
    }
  }
  auto element = rest;
  rest = {};
  return trim(element);
}

HAILWIRE_INLINE std::string_view fields::find(std::string_view name) const noexcept {
  for (auto& h : headers)
    if (iequals(h.name, name)) return h.value;
  return {};
}

HAILWIRE_INLINE std::size_t fields::count(std::string_view name) const noexcept {
  std::size_t n = 0;
  for (auto& h : headers) n += iequals(h.name, name);
  return n;
}

HAILWIRE_INLINE void head::clear() noexcept {
  head fresh;
  fresh.headers.swap(headers);
  fresh.headers.clear();
  *this = std::move(fresh);
}

HAILWIRE_INLINE bool same_origin(std::string_view origin, std::string_view host) noexcept {
  auto colon = origin.find("://");
  if (colon == origin.npos) return false;
  bool secure = iequals(origin.substr(0, colon), "https");
  if (!secure && !iequals(origin.substr(0, colon), "http")) return false;
  auto a = parse_authority(origin.substr(colon + 3));
  auto b = parse_authority(host);
  std::uint16_t usual = secure ? 443 : 80;
  return a && b && iequals(a->host, b->host) && a->port.value_or(usual) == b->port.value_or(usual);
}

HAILWIRE_INLINE bool accepts_literally(const head& h, std::string_view media_type) {
  return h.any_element("accept", [&](std::string_view element) {
    if (element.size() < media_type.size() || !iequals(next_element(element, ';'), media_type)) return false;
    while (element.data()) {
      auto parameter = next_element(element, ';');
      if (parameter.size() < 2 || to_lower(parameter[0]) != 'q' || parameter[1] != '=') continue;
      auto q = parameter.substr(2);
      bool form = !q.empty() && q.size() <= 5 && (q[0] == '0' || q[0] == '1') && (q.size() == 1 || q[1] == '.');
      bool some = form && q[0] == '1';
      for (std::size_t i = 2; form && i < q.size(); ++i) {
        form = q[i] >= '0' && q[i] <= (q[0] == '1' ? '0' : '9');
        some = some || q[i] != '0';
      }
      return form && some;
    }
    return true;
  });
}

HAILWIRE_INLINE std::optional<std::uint64_t> prefer_wait(const head& h) {
  std::optional<std::uint64_t> seconds;
  h.any_element("prefer", [&](std::string_view element) {
    auto preference = next_element(element, ';');  // a preference may have parameters; `wait` has none
    auto equals = preference.find('=');
    if (!iequals(trim(preference.substr(0, equals)), "wait")) return false;
    auto value = equals == preference.npos ? std::string_view() : trim(preference.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    std::uint64_t n = 0;
    for (char c : value) {
      if (c < '0' || c > '9') return true;
      n = std::min<std::uint64_t>(n * 10 + static_cast<unsigned>(c - '0'), std::uint64_t{1} << 31);
    }
    if (!value.empty()) seconds = n;
    return true;
  });
  return seconds;
}

HAILWIRE_INLINE std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 426:
      return "Upgrade Required";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return {};
  }
}

}  // namespace hailwire::proto::http1
