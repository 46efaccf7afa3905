// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <charconv>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/redis/slot.hpp"
#include "hailwire/error.hpp"

namespace hailwire::detail {

/// Where a Redis listens.
struct redis_endpoint {
  std::string host;  ///< a name or an address; of IPv6 without brackets
  std::uint16_t port = 6379;
  auto operator<=>(const redis_endpoint&) const = default;
  std::string text() const {
    return (host.find(':') == host.npos ? host : '[' + host + ']') + ':' + std::to_string(port);
  }
};

/// What a URL of Redis says:
///
///     redis://[[user]:password@]host[:6379][/database]        one server
///     rediss://…                                              the same over TLS
///     redis-sentinel://[…@]host[:26379],…/master[/database]   the master that these sentinels name
///     redis-cluster://[…@]host[:6379],…                       a cluster that these are part of
///
/// User and password may be escaped with `%XX`; they are those of the servers, not of sentinels.
struct redis_url {
  enum class kind : std::uint8_t { single, sentinel, cluster };
  kind how = kind::single;
  bool secure = false;
  std::vector<redis_endpoint> hosts;  ///< at least one
  std::string user, password;         ///< no user: the default one
  std::string master;                 ///< as the sentinels call it
  unsigned database = 0;
};

/// At most so many hosts in one URL.
inline constexpr std::size_t max_redis_hosts = 64;

/// Reads a URL. `bad_request` says what is wrong with it, without its password.
inline result<redis_url> parse_redis_url(std::string_view text) {
  const auto wrong = [](std::string_view why) {
    return result<redis_url>(errc::bad_request, "a URL of Redis: " + std::string(why));
  };
  redis_url out;
  const auto colon = text.find("://");
  const auto scheme = text.substr(0, colon == text.npos ? 0 : colon);
  if (scheme == "rediss")
    out.secure = true;
  else if (scheme == "redis-sentinel")
    out.how = redis_url::kind::sentinel;
  else if (scheme == "redis-cluster")
    out.how = redis_url::kind::cluster;
  else if (scheme != "redis")
    return wrong("it begins with redis://, rediss://, redis-sentinel:// or redis-cluster://");
  text.remove_prefix(colon + 3);
  for (const char c : text)
    if (c <= ' ' || c == 0x7F) return wrong("a space, a control character, or a byte that is not ASCII");
  if (text.find_first_of("?#") != text.npos) return wrong("it has no query and no fragment");

  const auto slash = std::min(text.find('/'), text.size());
  auto authority = text.substr(0, slash), path = text.substr(std::min(slash + 1, text.size()));
  if (const auto at = authority.rfind('@'); at != authority.npos) {
    const auto who = authority.substr(0, at);
    authority.remove_prefix(at + 1);
    const auto mid = who.find(':');
    if (mid == who.npos) return wrong("a user without a password");
    if (!read_percent(who.substr(0, mid), out.user) || !read_percent(who.substr(mid + 1), out.password))
      return wrong("a user or a password with a bad escape");
    if (out.password.empty()) return wrong("an empty password");
  }
  while (!authority.empty()) {
    const auto end = std::min(authority.find(','), authority.size());
    auto host = authority.substr(0, end);
    authority.remove_prefix(std::min(end + 1, authority.size()));
    redis_endpoint e;
    e.port = out.how == redis_url::kind::sentinel ? 26379 : 6379;
    std::string_view port;
    if (host.starts_with('[')) {
      const auto close = host.find(']');
      if (close == host.npos) return wrong("an address without its ]");
      e.host = host.substr(1, close - 1);
      port = host.substr(close + 1);
    } else {
      const auto mid = std::min(host.find(':'), host.size());
      e.host = host.substr(0, mid);
      port = host.substr(mid);
    }
    if (!port.empty()) {
      const auto [last, ec] = std::from_chars(port.data() + 1, port.data() + port.size(), e.port);
      if (port[0] != ':' || port.size() < 2 || ec != std::errc() || last != port.data() + port.size() || e.port == 0)
        return wrong("a port is a number from 1 to 65535");
    }
    if (e.host.empty()) return wrong("a host without a name");
    if (out.hosts.size() == max_redis_hosts) return wrong("more than 64 hosts");
    out.hosts.push_back(std::move(e));
  }
  if (out.hosts.empty()) return wrong("no host");
  if (out.how == redis_url::kind::single && out.hosts.size() > 1)
    return wrong("several hosts are redis-sentinel:// or redis-cluster://");
  if (out.how == redis_url::kind::sentinel) {
    const auto end = std::min(path.find('/'), path.size());
    if (!read_percent(path.substr(0, end), out.master) || out.master.empty())
      return wrong("sentinels are asked for a master by name: redis-sentinel://host/name");
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  if (!path.empty()) {
    const auto [last, ec] = std::from_chars(path.data(), path.data() + path.size(), out.database);
    if (ec != std::errc() || last != path.data() + path.size()) return wrong("a database is a number");
    if (out.how == redis_url::kind::cluster && out.database) return wrong("a cluster has no databases");
  }
  return out;
}

}  // namespace hailwire::detail
