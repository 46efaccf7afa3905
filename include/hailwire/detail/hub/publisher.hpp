// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/hub/idempotency_keys.hpp"
#include "hailwire/detail/hub/key_budget.hpp"
#include "hailwire/detail/hub/pending_operations.hpp"
#include "hailwire/detail/hub/principal.hpp"
#include "hailwire/detail/storage/any_storage.hpp"
#include "hailwire/log.hpp"
#include "hailwire/message.hpp"
#include "hailwire/session.hpp"

namespace hailwire {

/// What may be said of a publish beside its payload.
struct publish_options {
  std::string type = {};  ///< the publisher's own word, up to 64 bytes
  std::string key = {};  ///< idempotency key, 1–64 visible ASCII: the same key and payload are stored once. Empty: none
  /// Sent to whoever follows and is in sync, on all hubs, and stored nowhere: it has no offset. Not with a key.
  bool ephemeral = false;
  /// A complete upload of this channel, which the message names beside its payload. Not with `ephemeral`. The
  /// storage's own errors say what is wrong with it: `not_found`, `conflict` (not complete, or named already).
  std::shared_ptr<const content_reference> content = {};
};

/// Told once, on the hub's executor, what became of a publish. Without an error the position is where the message
/// stands.
using publish_handler = detail::move_only_function<void(std::error_code, position)>;
/// The same for a client's publish: where it stands, or what the client is told.
using client_publish_handler = detail::move_only_function<void(result<position>&&)>;

namespace detail {

/// The prefetch hint for a coming publish: where its channel is looked up. Among thousands of channels that take turns
/// each has left the processor's caches since its last message, so its memory is asked for before there is work for it:
/// by `publisher::prefetch`, and once more by `publisher::prefetch_entry`. Measured at 4 % of direct messages.
struct prefetch_hint {
  std::uint64_t hash = 0;
  any_storage::place stored = {};
};

/// For how many seconds an idempotency key of somebody with this grant is kept at least; 0: it means nothing.
inline std::int64_t keys_kept(const shared_grant& g) noexcept { return principal(g) ? key_lifetime_ms / 1000 : 0; }

/// How a message is published: what is checked, how its idempotency key is kept, how it gets its offset from the
/// storage, and who is told in which order: the channel's log, the other hubs, the publisher, then the followers.
class publisher {
 public:
  explicit publisher(hub& h) noexcept : hub_(&h) {}
  publisher(const publisher&) = delete;
  publisher& operator=(const publisher&) = delete;

  prefetch_hint prefetch(std::string_view channel) const noexcept;
  void prefetch_entry(const prefetch_hint& at) const noexcept;

  /// The host's, from any thread; `hub::publish` says what is promised.
  [[nodiscard]] std::error_code publish(std::string&& channel, payload&& p, publish_options&& o,
                                        publish_handler&& done);
  /// A client's: authorized and offered to hooks by the caller. `checked`: the payload is known to be what it says.
  void publish_for(session& s, std::string&& channel, const prefetch_hint& at, payload&& p, publish_options&& o,
                   bool checked, client_publish_handler&& done);

  /// Forgets idempotency keys whose life is over.
  void expire(std::int64_t now) noexcept {
    budget_.sweep(now);
    keys_.expire(now);
  }
  /// When the next of them is.
  std::optional<std::int64_t> next_expiry() const noexcept { return keys_.next(); }
  void stop() noexcept { keys_.clear(); }

  /// A publish, or an erase, has failed and nobody is told: then the log is.
  void log_failure(std::string_view channel, const std::error_code& ec) noexcept;

 private:
  struct publish_op;
  using kept_keys = idempotency_keys<intrusive_ptr<publish_op>>;

  // A publish on its way. It becomes an operation only where it has to wait, which is seldom.
  struct publishing {
    std::string channel;
    publish_handler done;         // the host's, or
    client_publish_handler told;  // a client's
    prefetch_hint at;             // of the channel
    message content = {};
    kept_keys::key* key = nullptr;   // set when the hub keeps it, and this is the first that comes with it
    key_budget::charge charge = {};  // for its key
    const session* by = nullptr;     // who publishes an ephemeral message
    bool counted = false;            // as pending, though it is no operation: it came from another thread
  };
  struct publish_op final : operation {
    publish_op(publisher& p, publishing&& w) : owner(&p), what(std::move(w)) {}
    void finish(std::error_code ec, position p);
    void abort() override { finish(operation_aborted(), {}); }
    publisher* owner;
    publishing what;
    bool over = false;
  };

  std::error_code check(const publishing& what, payload& p, const publish_options& o, bool checked);
  void start(publishing&& what, payload&& p, publish_options&& o, std::string&& from, std::string&& scope,
             bool checked);
  void begin(publishing& what, payload&& p, publish_options&& o, std::string&& from, std::string&& scope, bool checked);
  void hold(publishing&& what, payload&& p, publish_options&& o, std::string&& from, std::string&& scope, bool checked);
  void send_ephemeral(publishing& what, payload&& p, publish_options&& o, std::string&& from);
  intrusive_ptr<publish_op> wait(publishing&& what);
  void stored(publishing& what, append_result&& r);
  void stored_later(publish_op& op, append_result&& r);
  // No key of this publish is kept after all.
  void uncharge(publishing& what) noexcept;
  void uncount(publishing& what) noexcept;
  void finish(publishing& what, std::error_code ec, position&& p);
  void settle_key(kept_keys::key& k, std::error_code ec, const position& p);

  hub* hub_;
  kept_keys keys_;
  key_budget budget_{key_lifetime_ms};
  log_rate failures_;
};

}  // namespace detail
}  // namespace hailwire
