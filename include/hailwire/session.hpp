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

/// Some channels: none (the default), all, some by name or prefix, or whatever a predicate says. Copies share what it says, so
/// that the grants of many clients take little memory.
class channel_set {
 public:
  channel_set() = default;
  /// The names listed; one that ends in `*` stands for everything that begins with what is before it.
  channel_set(std::initializer_list<std::string> names) : channel_set(std::vector<std::string>(names)) {}
  channel_set(std::vector<std::string> names) : rules_(std::make_shared<const rules>(rules{std::move(names), {}})) {}
  /// Called with a channel's name on the hub's executor, each time somebody asks.
  channel_set(std::function<bool(std::string_view)> predicate) : rules_(std::make_shared<const rules>(rules{{}, std::move(predicate)})) {}
  static channel_set all() {
    static const channel_set everything({"*"});
    return everything;
  }

  bool contains(std::string_view channel) const {
    if (!rules_) return false;
    for (const std::string& n : rules_->names) {
      if (!n.empty() && n.back() == '*') {
        if (channel.starts_with(std::string_view(n).substr(0, n.size() - 1))) return true;
      } else if (n == channel) {
        return true;
      }
    }
    return rules_->predicate && rules_->predicate(channel);
  }

 private:
  struct rules {
    std::vector<std::string> names;
    std::function<bool(std::string_view)> predicate;
  };
  std::shared_ptr<const rules> rules_;
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

/// The channels of a session, in the order in which they were asked for. Of most sessions there is one, which lies inside;
/// none ever moves, because lanes point to them.
class follow_list {
 public:
  follow_list() noexcept {}  // nothing lies inside yet
  follow_list(const follow_list&) = delete;
  follow_list& operator=(const follow_list&) = delete;
  ~follow_list() { reset(); }

  std::size_t size() const noexcept { return inside_ + (more_ ? more_->size() : 0); }
  bool empty() const noexcept { return size() == 0; }
  subscription& operator[](std::size_t i) noexcept { return inside_ && i == 0 ? first_ : *(*more_)[i - inside_]; }
  const subscription& operator[](std::size_t i) const noexcept { return const_cast<follow_list&>(*this)[i]; }

  subscription& add(outlet& to, lane& in, std::uint32_t serial, bool named) {
    if (empty()) {
      ::new (static_cast<void*>(&first_)) subscription(to, in, serial, named);
      inside_ = true;
      return first_;
    }
    if (!more_) more_ = std::make_unique<others>();
    more_->push_back(std::make_unique<subscription>(to, in, serial, named));
    return *more_->back();
  }
  void erase(std::size_t i) noexcept {
    if (inside_ && i == 0) {
      inside_ = false;
      first_.~subscription();
    } else {
      more_->erase(more_->begin() + static_cast<std::ptrdiff_t>(i - inside_));
      if (more_->empty()) more_.reset();
    }
  }

 private:
  using others = std::vector<std::unique_ptr<subscription>>;
  void reset() noexcept {
    while (!empty()) erase(size() - 1);
  }
  union {
    subscription first_;
  };
  std::unique_ptr<others> more_;
  bool inside_ = false;
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
  std::string_view device() const noexcept { return rare_ ? std::string_view(rare_->device) : std::string_view(); }
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
  /// Takes away the right to follow the channel and to publish to it, for the rest of the session, renewed or not. One that
  /// follows it is told by a `closed` notice with the code `forbidden`; a raw client, which cannot be told, is closed with 4403.
  void revoke(std::string_view channel);
  /// Gives the session other permissions from now on: channels that it asked for and may not follow any more are closed, a floor
  /// that has risen hides what lies below it, and the expiry is the new one. On streams only. Errors, after which nothing has
  /// changed: `bad_request` (null, another user, not a stream), `unauthenticated` (it has expired already). Throws what a
  /// predicate of `follow` throws.
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
    auto& held = rarely().data;
    if (!held) held = std::make_unique<box<T>>();
    return dynamic_cast<box<T>&>(*held).value;
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
  // A named channel that the host took away: its element stays in the cursor as it was.
  struct gone {
    std::size_t place;  // in the cursor
    std::string element;
  };
  // What few sessions have.
  struct rare {
    std::vector<gone> gone_channels;  // by place
    std::vector<std::string> revoked;
    std::string device;
    std::unique_ptr<any_box> data;
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
  const char* transport_ = "";  // transports' names are literals
  detail::session_key key_;
  detail::follow_list follows_;
  std::unique_ptr<rare> rare_;
};

}  // namespace hailwire
