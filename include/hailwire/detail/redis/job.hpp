// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <charconv>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <system_error>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/redis/slot.hpp"
#include "hailwire/detail/redis/url.hpp"

namespace hailwire::detail {

/// What a log goes by. Times in milliseconds; 0: no limit.
struct redis_log_options {
  std::string prefix;
  bool keep_epochs = false;
  std::uint64_t messages = 0, bytes = 0;
  std::int64_t age = 0, key_lifetime = 300'000, patience = 2000;
  std::uint64_t keys = 0;
  std::size_t announced = 0;
  std::int64_t (*clock)() = nullptr;
};

/// An operation on its way.
struct redis_job {
  static constexpr std::uint64_t newest = UINT64_MAX;
  enum class kind : std::uint8_t { append, read };
  kind what;
  std::string channel;
  std::size_t size;  ///< bytes that it holds while it waits
  draft message;
  append_handler appended;
  std::uint64_t since = 0;  ///< `newest`: the newest message
  read_limit limit;
  read_handler read;
  std::int64_t until = 0;  ///< boot time by which it has to have left
  unsigned tries = 0;
};
using redis_jobs = std::list<redis_job>;

/// `SLOT HOST:PORT`; no host: the one that says so.
inline bool read_redirection(std::string_view text, const redis_endpoint& from, unsigned& slot, redis_endpoint& to) {
  const auto space = text.find(' '), colon = text.rfind(':');
  if (space == text.npos || colon == text.npos || colon < space) return false;
  const auto number = [](std::string_view s, auto& n) {
    const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), n);
    return ec == std::errc() && end == s.data() + s.size();
  };
  to.host = text.substr(space + 1, colon - space - 1);
  if (to.host.empty()) to.host = from.host;
  return number(text.substr(0, space), slot) && number(text.substr(colon + 1), to.port) && slot < redis_slots;
}
/// What an error of Redis is to who asked.
inline std::error_code redis_error(std::string_view why) {
  for (std::string_view word : {"LOADING", "MISCONF", "OOM", "READONLY", "CLUSTERDOWN", "NOREPLICAS", "MASTERDOWN",
                                "BUSY", "TRYAGAIN", "MOVED", "ASK"})
    if (why.find(word) != why.npos && why.find(word) < 24) return errc::overloaded;
  return errc::internal;
}

/// What a script takes random texts from: 36 letters.
inline std::string redis_seed() {
  const auto a = random_bits(), b = random_bits();
  return epoch_of(a) + epoch_of(b) + epoch_of({a.low ^ b.high, a.low ^ b.low});
}

}  // namespace hailwire::detail
