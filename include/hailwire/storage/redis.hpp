// SPDX-License-Identifier: BSL-1.0
#pragma once

// Logs in Redis (6.2 or newer), which several processes and machines share. Needs the component `hailwire::redis`.
// `redis_broker` (broker/redis.hpp) joins their hubs; detail/redis/script.hpp has the layout, for other programs.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/redis/core.hpp"
#include "hailwire/storage/memory.hpp"

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

class redis_broker;

/// How a `redis_storage` keeps its logs. Retention limits may be passed by an eighth (count: at most 64 messages; age:
/// a sixteenth) before the oldest are dropped; who reads sees no message that is too old. Storages that share logs are
/// made with the same options.
struct redis_options {
  std::string prefix = "hailwire";  ///< begins the names of all keys; 1–64 bytes without `{`, `}`, spaces
  std::size_t messages = 10'000;    ///< per channel; 0: no limit
  std::uint64_t bytes = 0;          ///< payload bytes per channel; 0: no limit
  std::chrono::seconds age{0};      ///< by `message::at`; 0: no limit
  /// How long a key is kept, by Redis's clock; the protocol asks for five minutes at least.
  std::chrono::seconds key_lifetime{300};
  std::size_t keys = 100'000;  ///< kept at once of each channel; one more: `errc::overloaded`

  /// Epochs outlive restarts and failovers. Only for a Redis that loses nothing by them: `appendfsync always`, and
  /// failovers that are made by hand (`CLUSTER FAILOVER`). Else a failover may silently lose what was acknowledged.
  bool keep_epochs = false;

  /// For `rediss://`, and for sentinels and clusters over TLS: a `client_tls`. Null: those are plain.
  std::shared_ptr<const detail::client_security> tls = {};

  std::size_t pending = 16'384;           ///< operations not yet answered; one more: `errc::overloaded`, at once
  std::size_t pending_bytes = 64u << 20;  ///< what those hold, in bytes
  /// What a person should know, a line: a connection that is lost, a Redis that may drop keys. Called on this object's
  /// thread, which waits for it. What it throws is dropped.
  std::function<void(std::string_view text)> on_log = {};
  std::int64_t (*clock)() = &system_milliseconds;  ///< Unix milliseconds, for age
};

/// Logs in Redis, shared by all storages that are opened with the same URL and prefix, in this process and others.
/// Keeps keys; append, key and announcement are one step.
///
/// A channel's epoch changes, so that its followers hear a gap, where acknowledged messages may be missing: the server
/// was restarted, or another one was promoted (`run_id` and `master_replid` say so). In a cluster a slot that was moved
/// keeps the epochs of its channels. What a failover loses, and with which settings it cannot, says README.
///
/// Errors of an append, which then stored nothing unless it says otherwise: `errc::overloaded` (no connection, too many
/// pending operations or keys; Redis is loading, out of memory, read-only, cannot write to its disk, has too few
/// replicas), `errc::conflict` (same key, other payload), `errc::too_large` (a payload over 32 MiB); `errc::timeout`:
/// the connection was lost under way, the outcome is unknown; `errc::internal`: Redis has said something else.
/// `operation_aborted()` after the destructor has begun.
///
/// A connection is made again by itself, 50 ms to 2 s later; a server that is silent for 5 s is taken for lost.
/// Operations on one channel are answered in the order in which they were started, except `errc::overloaded` for want
/// of room among the pending ones, which is answered at once, from within the call.
///
/// Threads: safe to call from any. Handlers run on this object's thread, and what they throw is dropped. The destructor
/// waits up to a second for what is under way; it must not run on that thread. A `redis_broker` keeps what it needs.
class redis_storage {
 public:
  static constexpr bool keeps_keys = true;
  static constexpr bool announces = true;
  /// The largest payload: what a message may hold up the others in one Redis.
  static constexpr std::size_t max_payload = std::size_t{32} << 20;

  /// Connects; waits up to `patience` for it. `url`: `redis://`, `rediss://`, `redis-sentinel://` or `redis-cluster://`
  /// (`redis_url` in detail/redis/url.hpp has their forms). `bad_request`: the URL or an option cannot be;
  /// `overloaded`: nobody answers, or refuses, as the text says.
  static result<std::unique_ptr<redis_storage>> open(std::string_view url, const redis_options& options = {},
                                                     std::chrono::milliseconds patience = std::chrono::seconds(5)) {
    auto to = detail::parse_redis_url(url);
    if (!to) return to.error();
    if (to->secure && !options.tls) return failure(errc::bad_request, "rediss:// needs redis_options::tls");
    if (options.prefix.empty() || options.prefix.size() > 64 ||
        options.prefix.find_first_of("{} \n\r") != options.prefix.npos)
      return failure(errc::bad_request, "redis_options::prefix has 1 to 64 bytes without braces and spaces");
    std::unique_ptr<redis_storage> made(new redis_storage(std::move(*to), options));
    std::string why;
    if (!made->core_->wait_until_connected(patience, why))
      return failure(errc::overloaded, why.empty() ? "Redis does not answer" : why);
    return made;
  }

  ~redis_storage() { core_->stop(); }
  redis_storage(const redis_storage&) = delete;
  redis_storage& operator=(const redis_storage&) = delete;

  void async_append(std::string_view channel, draft d, append_handler done) {
    if (d.data.bytes().size() > max_payload) return done(errc::too_large);
    detail::redis_jobs one;
    const std::size_t size = sizeof(detail::redis_job) + channel.size() + d.data.bytes().size() + d.key.size() +
                             d.from.size() + d.type.size();
    one.push_back(
        {detail::redis_job::kind::append, std::string(channel), size, std::move(d), std::move(done), 0, {}, {}, 0, 0});
    core_->start(std::move(one));
  }

  /// A page holds at most 4,096 messages and 16 MiB, whatever is asked for.
  void async_read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) {
    detail::redis_jobs one;
    one.push_back({detail::redis_job::kind::read,
                   std::string(channel),
                   sizeof(detail::redis_job) + channel.size(),
                   {},
                   {},
                   std::min(since, max_offset),
                   limit,
                   std::move(done),
                   0,
                   0});
    core_->start(std::move(one));
  }

  /// Whether every server that is needed can be asked, as far as is known: for a host's readiness.
  bool connected() const { return core_->connected(); }

 private:
  friend class redis_broker;

  redis_storage(detail::redis_url u, const redis_options& o) {
    detail::redis_link_options link;
    link.user = u.user;
    link.password = u.password;
    link.database = u.database;
    if (u.secure || u.how != detail::redis_url::kind::single) link.security = o.tls;
    detail::redis_log_options log;
    const auto ms = [](std::chrono::seconds s) {
      return std::chrono::duration_cast<std::chrono::milliseconds>(
                 std::min(s, std::chrono::seconds(100ll * 366 * 86400)))
          .count();
    };
    log.prefix = o.prefix;
    log.keep_epochs = o.keep_epochs;
    log.messages = o.messages;
    log.bytes = o.bytes;
    log.age = ms(o.age);
    log.key_lifetime = ms(o.key_lifetime);
    log.keys = o.keys;
    log.announced = std::size_t{64} << 10;
    log.clock = o.clock;
    core_ = std::make_shared<detail::redis_core>(std::move(u), std::move(link), std::move(log),
                                                 detail::redis_core::limits{o.pending, o.pending_bytes, o.on_log});
  }

  std::shared_ptr<detail::redis_core> core_;
};

static_assert(asynchronous_storage<redis_storage>);

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
