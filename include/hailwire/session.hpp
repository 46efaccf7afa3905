// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include "hailwire/detail/fan_out.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"

namespace hailwire {

class hub;
namespace detail {
class connection;
}

/// Some channels: none (the default), all, some by name or prefix, or whatever a predicate says.
class channel_set {
 public:
  channel_set() = default;
  /// The names listed; one that ends in `*` stands for everything that begins with what is before it.
  channel_set(std::initializer_list<std::string> names) : names_(names) {}
  channel_set(std::vector<std::string> names) : names_(std::move(names)) {}
  /// Called with a channel's name on the hub's executor, each time somebody asks.
  channel_set(std::function<bool(std::string_view)> predicate) : predicate_(std::move(predicate)) {}
  static channel_set all() { return channel_set({"*"}); }

  bool contains(std::string_view channel) const {
    for (const std::string& n : names_) {
      if (!n.empty() && n.back() == '*') {
        if (channel.starts_with(std::string_view(n).substr(0, n.size() - 1))) return true;
      } else if (n == channel) {
        return true;
      }
    }
    return predicate_ && predicate_(channel);
  }

 private:
  std::vector<std::string> names_;
  std::function<bool(std::string_view)> predicate_;
};

/// What an authorizer allows one client.
struct grant {
  std::string user = {};  ///< 1–254 bytes as `valid_user` says; empty: anonymous
  channel_set follow = {};    ///< what it may follow and read. Nobody but its user ever follows an inbox (`@user`)
  channel_set publish = {};   ///< what it may publish to
  std::string key_scope = {}; ///< tells one anonymous client's idempotency keys from another's; empty: theirs are ignored
  /// Messages of `channel` below `offset` stay hidden from this client.
  struct floor {
    std::string channel;
    std::uint64_t offset;
  };
  std::vector<floor> floors = {};
  /// When the permission ends; as it is, never. A stream is told `options::expiry_notice` before by an `expiring` notice and
  /// is closed with 4401 at that time, unless `on_renew` or `session::permit` has put it off; a poll is not held for longer.
  std::chrono::system_clock::time_point expires = std::chrono::system_clock::time_point::max();
  /// What may be told of the user to others, a JSON text; empty: nothing.
  std::string info = {};

  bool may_follow(std::string_view channel) const {
    if (channel.starts_with('@')) return !user.empty() && channel.substr(1) == user;
    return follow.contains(channel);
  }
  bool may_publish(std::string_view channel) const { return publish.contains(channel); }
  std::uint64_t floor_of(std::string_view channel) const noexcept {
    for (const floor& f : floors)
      if (f.channel == channel) return f.offset;
    return 1;
  }
};

namespace detail {

/// The hub's and the host's way to whoever serves a client.
class client_link : public outlet {
 public:
  /// A notice of the session's own: `{"name":json}`. False when it cannot be taken: too much is unsent, or this kind of
  /// client has no notices.
  virtual bool notice(std::string_view name, std::string_view json) = 0;
  /// Ends the session.
  virtual void end(errc why, std::uint16_t close_code, std::string_view reason) = 0;
  /// Whether the session outlives one answer and its client can be told what it follows.
  virtual bool adjustable() const noexcept = 0;
};

/// Names a session while it lives and never again: a slot of the hub's table and how often that slot was used.
struct session_key {
  std::uint32_t slot = 0, generation = 0;
  friend bool operator==(const session_key&, const session_key&) = default;
};

}  // namespace detail

/// One client's live subscription, whatever the transport: who it is, what it follows, and from where. On a poll it lasts
/// for one request, on a stream for one connection.
///
/// Every member is for the hub's executor (hooks run there). A reference is valid until `on_close` for it has returned.
class session {
 public:
  session(const session&) = delete;
  session& operator=(const session&) = delete;

  /// Finds this session again, or finds it gone, with `hub::find`.
  detail::session_key key() const noexcept { return key_; }
  /// 11 letters, unique while the server runs, not guessable.
  std::string id() const;
  /// Empty when anonymous.
  const std::string& user() const noexcept { return grant_->user; }
  /// Which of the user's devices; empty when not said.
  const std::string& device() const noexcept { return device_; }
  /// The transport's name: `websocket`, `sse`, `long_poll`, `short_poll`, or `post` for one that only brings commands.
  std::string_view transport() const noexcept { return transport_; }
  /// What the authorizer allowed; see also `revoke`.
  const grant& permissions() const noexcept { return *grant_; }
  /// Whether it may now: what was granted and has not been revoked. Throw what a predicate of the grant throws.
  bool may_follow(std::string_view channel) const { return !revoked(channel) && grant_->may_follow(channel); }
  bool may_publish(std::string_view channel) const { return !revoked(channel) && grant_->may_publish(channel); }
  /// The channels it follows, in the order in which they were asked for.
  std::vector<std::string> channels() const;

  /// Has the session follow one more channel, which its grant need not name; it is told by a `followed` notice, or, when too
  /// much is unsent for that, closed with 1013. On streams only. Errors: `bad_request` (already followed, not a name, too many,
  /// not a stream).
  std::error_code follow(std::string_view channel, start from = start::latest());
  /// Stops following; it is told by a `closed` notice with the code `forbidden`. A client that cannot be told is closed: with
  /// 1013 when too much is unsent, with 4403 when it is raw. `not_found` when it did not follow.
  std::error_code unfollow(std::string_view channel);
  /// Takes away the right to follow the channel and to publish to it, for the rest of the session, renewed or not. One that follows it is told
  /// by a `closed` notice with the code `forbidden`; a raw client, which cannot be told, is closed with 4403.
  void revoke(std::string_view channel);
  /// Gives the session other permissions from now on: channels that it asked for and may not follow any more are closed, a floor that has risen hides what lies below it, and the expiry is the new one. On streams only. Errors, after
  /// which nothing has changed: `bad_request` (null, another user, not a stream), `unauthenticated` (it has expired already).
  /// Throws what a predicate of `follow` throws.
  std::error_code permit(std::shared_ptr<const grant> g);
  /// Sends a notice `{"name":json}` to this client alone. Errors: `bad_request` (`name` is empty, over 64 bytes or the
  /// protocol's own; not JSON), `overloaded` (`max_unsent` bytes wait already), `not_implemented` (a raw client).
  std::error_code send(std::string_view name, std::string_view json);
  /// Ends the session with a WebSocket close code (RFC 6455, section 7.4) and a reason of at most 123 bytes; other
  /// transports just end. `on_close` runs later, not within this call.
  void close(std::uint16_t code = 1000, std::string_view reason = {});

  /// The host's own object, made on first use and destroyed with the session. Throws `std::bad_cast` when another type is
  /// there already.
  template <class T>
  T& data() {
    if (!data_) data_ = std::make_unique<box<T>>();
    return dynamic_cast<box<T>&>(*data_).value;
  }

 private:
  friend class hub;
  friend class detail::connection;
  struct any_box {
    virtual ~any_box() = default;
  };
  template <class T>
  struct box final : any_box {
    T value{};
  };
  struct followed {
    std::unique_ptr<detail::subscription> at;
    bool named;  // by the client's URL: has an element in its cursor
    std::uint32_t serial;  // tells it from an earlier following of the same channel
  };
  // A named channel that the host took away: its element stays in the cursor as it was.
  struct gone {
    std::size_t place;  // in the cursor
    std::string element;
  };
  // What few sessions have.
  struct rare {
    std::vector<gone> gone_channels;  // by place
    std::vector<std::string> revoked;
  };

  rare& rarely() {
    if (!rare_) rare_ = std::make_unique<rare>();
    return *rare_;
  }
  bool revoked(std::string_view channel) const noexcept {
    return rare_ && std::find(rare_->revoked.begin(), rare_->revoked.end(), channel) != rare_->revoked.end();
  }

  // The client cannot be told what it follows from now on, so it has to come back.
  void cannot_tell();
  session(hub& h, detail::client_link& link, std::shared_ptr<const grant> g) : hub_(&h), link_(&link), grant_(std::move(g)) {}

  hub* hub_;
  detail::client_link* link_;
  std::shared_ptr<const grant> grant_;
  const proto::encoding* encoding_ = nullptr;
  std::string_view transport_;
  std::vector<followed> follows_;
  std::unique_ptr<rare> rare_;
  std::unique_ptr<any_box> data_;
  std::string device_;
  detail::session_key key_;
};

}  // namespace hailwire
