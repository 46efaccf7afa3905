// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/redis/head.hpp"
#include "hailwire/detail/redis/resp.hpp"
#include "hailwire/detail/redis/script.hpp"
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

/// What an optional member of a storage asks for: a script of its own, for one channel.
struct redis_operation {
  const redis_script* script;
  std::vector<const char*> keys;   ///< what stands behind the channel's name in them
  std::vector<std::string> words;  ///< ARGV behind the rule
  bool may_repeat;                 ///< doing it twice is as doing it once
  move_only_function<void(std::error_code, redis_reply)> done;
};

/// An operation on its way.
struct redis_job {
  static constexpr std::uint64_t newest = UINT64_MAX;
  enum class kind : std::uint8_t { append, read, other };
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
  std::unique_ptr<redis_operation> other;

  /// Calls the handler with an error; what it throws is its own affair, and dropped.
  void refuse(std::error_code why) noexcept {
    try {
      if (what == kind::append)
        std::exchange(appended, nullptr)(append_result(why));
      else if (what == kind::read)
        std::exchange(read, nullptr)(read_result(why));
      else
        std::exchange(other->done, nullptr)(why, redis_reply());
    } catch (...) {
    }
  }
};
using redis_jobs = std::list<redis_job>;

/// Of one page: payload bytes (beyond them is at most one message), and messages.
inline constexpr std::size_t max_redis_page = std::size_t{16} << 20, max_redis_page_messages = 4096;

/// Adds the limits of a channel: messages, payload bytes, age in milliseconds, and the age again if it is the channel's
/// own. What a retention of its own leaves open is as the options have it.
template <class Command>
void add_redis_limits(Command& out, const redis_log_options& options, const retention& keep) {
  constexpr std::int64_t most = 100ll * 366 * 86400;  // a hundred years, in seconds
  const std::int64_t own = std::min<std::int64_t>(keep.age.count(), most) * 1000;
  out.number(keep.messages ? keep.messages : options.messages).number(keep.bytes ? keep.bytes : options.bytes);
  out.number(own ? own : options.age).number(own);
}
/// Adds how many drafts there are, and each of them.
inline void add_redis_drafts(redis_command& out, const redis_jobs& jobs) {
  out.number(std::uint64_t{jobs.size()});
  for (const auto& j : jobs) {
    out.add(j.message.key)
        .own(j.message.key.empty() ? std::string() : redis_fingerprint(j.message.data, j.message.content.get()));
    out.own(redis_head(j.message)).add(j.message.data.bytes());
  }
}
/// Adds how many reads there are, and each of them.
inline void add_redis_reads(redis_command& out, const redis_jobs& jobs) {
  out.number(std::uint64_t{jobs.size()});
  for (const auto& j : jobs) {
    out.own(j.since == redis_job::newest ? "-1" : std::to_string(j.since));
    out.number(std::uint64_t{std::min(j.limit.messages, max_redis_page_messages)});
    out.number(std::uint64_t{std::min(j.limit.bytes, max_redis_page)});
  }
}

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

/// What became of one draft.
inline append_result read_redis_offset(redis_reply outcome, const std::string& epoch) {
  if (!outcome.is_integer())
    return outcome.text() == "keys" ? make_error_code(errc::overloaded) : redis_error(outcome.text());
  if (outcome.integer() == 0) return errc::conflict;
  append_result r;
  r.duplicate = outcome.integer() < 0;
  r.offset = static_cast<std::uint64_t>(r.duplicate ? -outcome.integer() : outcome.integer());
  r.epoch = epoch;
  return r;
}
/// One page, and the channel's facts.
inline read_result read_redis_page(redis_reply facts, redis_reply page) {
  read_result r;
  r.epoch = facts[1].text();
  r.oldest = static_cast<std::uint64_t>(facts[2].integer());
  r.head = static_cast<std::uint64_t>(facts[3].integer());
  for (std::size_t k = 0; k + 2 < page.size(); k += 3) {
    message m;
    m.offset = static_cast<std::uint64_t>(page[k].integer());
    if (!read_redis_message(page[k + 1].text(), page[k + 2].text(), m)) return make_error_code(errc::internal);
    m.erased = page[k + 2].is_nil();
    r.messages.push_back(std::move(m));
  }
  return r;
}

/// What a script takes random texts from: 36 letters.
inline std::string redis_seed() {
  const auto a = random_bits(), b = random_bits();
  return epoch_of(a) + epoch_of(b) + epoch_of({a.low ^ b.high, a.low ^ b.low});
}

}  // namespace hailwire::detail
