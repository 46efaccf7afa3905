// SPDX-License-Identifier: BSL-1.0
#pragma once

// Logs in Redis (6.2 or newer), which several processes and machines share. Needs the component `hailwire::redis`.
// `redis_broker` (broker/redis.hpp) joins their hubs; detail/redis/script.hpp has the layout, for other programs.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/redis/core.hpp"
#include "hailwire/detail/redis/members.hpp"
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
  static constexpr bool keeps_retention = true;
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
    one.push_back({detail::redis_job::kind::append,
                   std::string(channel),
                   size,
                   std::move(d),
                   std::move(done),
                   0,
                   {},
                   {},
                   0,
                   0,
                   {}});
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
                   0,
                   {}});
    core_->start(std::move(one));
  }

  void async_erase(std::string_view channel, position at, draft d, append_handler done) {
    const std::uint64_t offset = at.offset;
    auto& log = core_->log();
    words w{log.origin(), log.publish_verb()};
    detail::add_redis_limits(w, log.options(), d.keep);
    d.data = {};
    d.type.clear();
    d.content.reset();
    w.number(offset).add(detail::redis_head(d, offset)).add(at.epoch);
    start(channel, detail::redis_erase_script, {"", ":log"}, std::move(w), false,
          [core = core_.get(), channel = std::string(channel), d = std::move(d), offset, done = std::move(done)](
              std::error_code ec, detail::redis_reply r) mutable {
            if (!ec && r[0].text() != "ok") ec = detail::redis_refusal(r);
            if (ec) return done(ec);
            append_result out;
            out.duplicate = r[2].integer() < 0;
            out.offset = static_cast<std::uint64_t>(out.duplicate ? -r[2].integer() : r[2].integer());
            out.epoch = r[1].text();
            const bool fresh = !out.duplicate;
            const message m{out.offset, d.at, d.from, {}, {}, offset, false, {}};
            const std::string epoch = out.epoch;
            done(std::move(out));
            if (fresh) core->stored(channel, epoch, m);
          });
  }

  void async_mark(std::string_view channel, watermark m, mark_handler done) {
    watermark_levels levels;
    detail::raise(levels, m.levels);
    words w{m.user, escaped(m.device), m.epoch};
    w.number(levels.received).number(levels.read).number(levels.public_read).number(m.at);
    w.number(std::uint64_t{max_devices}).number(device_memory_ms);
    start(channel, detail::redis_mark_script, {"", ":log", ":marks", ":users"}, std::move(w), true,
          [done = std::move(done)](std::error_code ec, detail::redis_reply r) mutable {
            if (!ec && r[0].text() != "ok") ec = detail::redis_refusal(r);
            mark_result out(ec);
            const auto level = [&](std::size_t i) { return static_cast<std::uint64_t>(r[i].integer()); };
            out.before = {level(1), level(2), level(3)};
            out.after = {level(4), level(5), level(6)};
            done(std::move(out));
          });
  }
  void async_watermarks(std::string_view channel, watermark_query q, watermarks_handler done) {
    words w{q.user, q.after};
    w.number(std::uint64_t{std::clamp<std::size_t>(q.users, 1, 10'000)});
    start(channel, detail::redis_marks_script, {":marks", ":users"}, std::move(w), true,
          [done = std::move(done)](std::error_code ec, detail::redis_reply r) mutable {
            done(ec ? watermarks_result(ec) : detail::read_redis_marks(r));
          });
  }

  void async_keep_token(device_token t, tokens_handler done) {
    words w{t.user, escaped(t.device), escaped(t.service), escaped(t.token), escaped(t.extra)};
    w.number(t.at).number(std::uint64_t{max_devices}).number(device_memory_ms);
    start_tokens(detail::redis_keep_token_script, std::move(w), {}, std::move(done));
  }
  void async_tokens(std::string_view user, tokens_handler done) {
    start_tokens(detail::redis_tokens_script, words{user}, std::string(user), std::move(done));
  }
  void async_forget_token(std::string_view user, std::string_view device, std::string_view token, tokens_handler done) {
    start_tokens(detail::redis_forget_token_script, words{user, escaped(device), escaped(token)}, {}, std::move(done));
  }

  /// Whether every server that is needed can be asked, as far as is known: for a host's readiness.
  bool connected() const { return core_->connected(); }

 private:
  friend class redis_broker;

  // What an operation's script is given.
  struct words {
    words(std::initializer_list<std::string_view> some) {
      for (auto one : some) add(std::string(one));
    }
    words& add(std::string one) {
      all.push_back(std::move(one));
      return *this;
    }
    template <class Number>
    words& number(Number n) {
      return add(std::to_string(n));
    }
    std::vector<std::string> all;
  };
  static std::string escaped(std::string_view word) {
    std::string out;
    detail::append_redis_word(out, word);
    return out;
  }
  template <class F>
  void start(std::string_view channel, const detail::redis_script& script, std::vector<const char*> keys, words w,
             bool may_repeat, F done) {
    detail::redis_jobs one;
    std::size_t size = sizeof(detail::redis_job) + sizeof(detail::redis_operation) + channel.size();
    for (const auto& word : w.all) size += sizeof word + word.size();
    one.push_back({detail::redis_job::kind::other,
                   std::string(channel),
                   size,
                   {},
                   {},
                   0,
                   {},
                   {},
                   0,
                   0,
                   std::make_unique<detail::redis_operation>(detail::redis_operation{
                       &script, std::move(keys), std::move(w.all), may_repeat, std::move(done)})});
    core_->start(std::move(one));
  }
  // All of them are in one slot, and in line as the operations of a channel are.
  void start_tokens(const detail::redis_script& script, words w, std::string user, tokens_handler done) {
    start("tokens", script, {":devices", ":owners"}, std::move(w), true,
          [user = std::move(user), done = std::move(done)](std::error_code ec, detail::redis_reply r) mutable {
            done(ec ? tokens_result(ec) : detail::read_redis_tokens(user, r));
          });
  }

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

static_assert(asynchronous_storage<redis_storage> && retaining_storage<redis_storage> &&
              erasing_storage<redis_storage> && watermark_storage<redis_storage> && token_storage<redis_storage>);

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
