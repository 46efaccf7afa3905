// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/hub/fan_out.hpp"
#include "hailwire/detail/hub/senders.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/address.hpp"

namespace hailwire {

class hub;
namespace detail {
class connection;
class command_dispatcher;
class http_exchange;
class session_registry;
class permission_expiry;
class loop_turn;
class stream_exchange;
class presence;
class receipts;
class subscriptions;
class channel_table;
class publisher;
}  // namespace detail

/// Some channels: none (the default), all, some by name or prefix, or whatever a predicate says. Copies share what it
/// says, so that the grants of many clients take little memory.
class channel_set {
 public:
  channel_set() = default;
  /// The names listed; one that ends in `*` stands for everything that begins with what is before it.
  channel_set(std::initializer_list<std::string> names) : channel_set(std::vector<std::string>(names)) {}
  channel_set(std::vector<std::string> names) : rules_(new rules(std::move(names), {})) {}
  /// Called with a channel's name on the hub's executor, each time somebody asks.
  channel_set(std::function<bool(std::string_view)> predicate) : rules_(new rules({}, std::move(predicate))) {}
  static channel_set all();

  bool contains(std::string_view channel) const;

 private:
  struct rules : detail::intrusive_count {
    rules(std::vector<std::string> n, std::function<bool(std::string_view)> p);
    std::vector<std::string> names;
    std::function<bool(std::string_view)> predicate;
  };
  detail::intrusive_ptr<const rules> rules_;
};

/// What an authorizer allows one client.
struct grant {
  std::string user = {};     ///< 1–254 bytes as `valid_user` says; empty: anonymous
  channel_set follow = {};   ///< what it may follow and read. Nobody but its user ever follows an inbox (`@user`)
  channel_set publish = {};  ///< what it may publish to
  std::string key_scope =
      {};  ///< tells one anonymous client's idempotency keys from another's; empty: theirs are ignored
  /// Messages of `channel` below `offset` stay hidden from this client.
  struct floor {
    std::string channel;
    std::uint64_t offset;
  };
  std::vector<floor> floors = {};
  /// When the permission ends; as it is, never. A stream is told `options::expiry_notice` before by an `expiring`
  /// notice and is closed with 4401 at that time, unless `on_renew` or `session::permit` has put it off; a poll is not
  /// held for longer.
  std::chrono::system_clock::time_point expires = std::chrono::system_clock::time_point::max();
  /// What may be told of the user to others, a JSON text; empty: nothing.
  std::string info = {};
  /// Whether it is left out of presence: neither named nor counted.
  bool hidden = false;
  /// The host's own, which it finds again by `session::permissions().attached()`: what it looked up to decide, say.
  std::shared_ptr<void> attached = {};
};

/// A grant as it is kept for those who have it: made of a `grant`, never changed, and one for as many clients as the
/// host likes. A copy costs a pointer; the thing itself, beside the user's name, 40 bytes, and 120 more where it has an
/// `info`, a `key_scope`, floors or something attached. Copies may be used by different threads; what they say is valid
/// while one of them lives.
class shared_grant {
 public:
  /// None at all; nothing but `operator bool` may be asked of it.
  shared_grant() = default;
  shared_grant(grant g);
  explicit operator bool() const noexcept { return bool(at_); }

  std::string_view user() const noexcept { return {content::behind(&*at_), at_->name_size}; }
  const channel_set& follow() const noexcept { return at_->follow; }
  const channel_set& publish() const noexcept { return at_->publish; }
  std::string_view key_scope() const noexcept {
    return at_->more ? std::string_view(at_->more->key_scope) : std::string_view();
  }
  bool hidden() const noexcept { return at_->hidden; }
  std::string_view info() const noexcept { return at_->more ? std::string_view(at_->more->info) : std::string_view(); }
  /// What the authorizer attached; null when it did not.
  std::shared_ptr<void> attached() const noexcept { return at_->more ? at_->more->attached : nullptr; }
  std::chrono::system_clock::time_point expires() const noexcept { return at_->expires; }
  bool may_follow(std::string_view channel) const;
  bool may_publish(std::string_view channel) const { return at_->publish.contains(channel); }
  /// The first offset of the channel that may be seen: one that an offset can be, whatever the grant says, because the
  /// place before it stands in cursors.
  std::uint64_t floor_of(std::string_view channel) const noexcept;

 private:
  // What few grants have.
  struct rare {
    std::string key_scope, info;
    std::vector<grant::floor> floors;
    std::shared_ptr<void> attached;
  };
  struct content : detail::intrusive_count, detail::with_tail {
    std::uint32_t name_size : 31 = 0, hidden : 1 = 0;
    channel_set follow, publish;
    std::chrono::system_clock::time_point expires;
    std::unique_ptr<const rare> more;
  };
  detail::intrusive_ptr<const content> at_;
};

/// Names a session while it lives and never again: a slot of the hub's table and how many sessions that slot has had.
/// A host keeps it in place of a reference, and asks `server::find` for the session. Copies are for any thread.
struct session_key {
  std::uint32_t slot = 0, generation = 0;
  friend bool operator==(const session_key&, const session_key&) = default;
};

/// One client's live subscription, whatever the transport: who it is, what it follows, and from where. On a poll it
/// lasts for one request, on a stream for one connection.
///
/// Every member is for the hub's executor (hooks run there). A reference is valid until `on_close` for it has returned.
///
/// It is a part of the connection that it is on, so that a client who only listens costs one piece of memory. A
/// connection is entered at the hub for as long as it lives; on it sessions are opened and closed, one at a time.
class session : protected detail::follower {
 public:
  session(const session&) = delete;
  session& operator=(const session&) = delete;

  /// Finds this session again, or finds it gone, with `server::find`.
  session_key key() const noexcept { return {slot_, generation_}; }
  /// 11 letters, unique while the server runs, not guessable.
  std::string id() const;
  /// Empty when anonymous. The view is valid until the session ends or has other permissions (`permit`, a renewal); a
  /// copy of `permissions()` keeps it.
  std::string_view user() const noexcept { return grant_.user(); }
  /// Which of the user's devices; empty when not said.
  std::string_view device() const noexcept {
    return find_rare() ? std::string_view(find_rare()->device) : std::string_view();
  }
  /// The transport's name: `websocket`, `sse`, `ndjson`, `long_poll`, `short_poll`, a host's own, or `post` for one
  /// that only brings commands.
  virtual std::string_view transport() const noexcept = 0;
  /// Where the client is: its IP address without brackets and port, as `request::address` has it, also of a client that
  /// a trusted proxy names; `unix` or `unknown` where there is none.
  virtual std::string address() const { return "unknown"; }
  /// What the authorizer allowed; see also `revoke`.
  const shared_grant& permissions() const noexcept { return grant_; }
  /// Whether it may now: what was granted and has not been revoked. Throw what a predicate of the grant throws.
  bool may_follow(std::string_view channel) const { return !revoked(channel) && grant_.may_follow(channel); }
  bool may_publish(std::string_view channel) const { return !revoked(channel) && grant_.may_publish(channel); }
  /// The channels it follows, in the order in which they were asked for.
  std::vector<std::string> channels() const;

  /// Has the session follow one more channel, which its grant need not name; it is told by a `followed` notice, or,
  /// when too much is unsent for that, closed with 1013. On streams only. Errors: `bad_request` (already followed, not
  /// a name, too many, not a stream), `operation_aborted` (the session is ending).
  std::error_code follow(std::string_view channel, start from = start::latest());
  /// Stops following; it is told by a `closed` notice with the code `forbidden`. A client that cannot be told is
  /// closed: with 1013 when too much is unsent, with 4403 when it is raw. `not_found` when it did not follow.
  std::error_code unfollow(std::string_view channel);
  /// Takes away the right to follow the channel and to publish to it, for the rest of the session, renewed or not. One
  /// that follows it is told by a `closed` notice with the code `forbidden`; a raw client, which cannot be told, is
  /// closed with 4403.
  void revoke(std::string_view channel);
  /// Gives the session other permissions from now on: channels that it asked for and may not follow any more are
  /// closed, a floor that has risen hides what lies below it, and the expiry is the new one. On streams only. Errors,
  /// after which nothing has changed: `bad_request` (none, another user, not a stream), `unauthenticated` (it has
  /// expired already), `operation_aborted` (the session is ending). Throws what a predicate of `follow` throws.
  std::error_code permit(shared_grant g);
  /// Sends a notice `{"name":json}` to this client alone. Errors: `bad_request` (`name` is empty, over 64 bytes or the
  /// protocol's own; not JSON), `overloaded` (`max_unsent` bytes wait already), `not_implemented` (a raw client, or
  /// one that only brings commands), `operation_aborted` (the session is ending).
  std::error_code send(std::string_view name, std::string_view json);
  /// Ends the session with a WebSocket close code (RFC 6455, section 7.4) and a reason of at most 123 bytes; other
  /// transports just end. `on_close` runs later, not within this call.
  void close(std::uint16_t code = 1000, std::string_view reason = {});

  /// The host's own object, made on first use and destroyed with the session. Throws `std::bad_cast` when another type
  /// is there already.
  template <class T>
  T& data() {
    auto& held = ensure_rare().data;
    if (!held) held = std::unique_ptr<box<T>>(new box<T>);
    return dynamic_cast<box<T>&>(*held).value;
  }

 protected:
  session() = default;
  HAILWIRE_INLINE ~session() override;
  session* client() noexcept override { return this; }
  /// Whether there is a session now.
  bool is_open() const noexcept { return open_; }

 private:
  friend class all_nodes;
  friend class hub;
  friend class detail::connection;
  friend class detail::http_exchange;
  friend class detail::stream_exchange;
  friend class detail::command_dispatcher;
  friend class detail::session_registry;
  friend class detail::permission_expiry;
  friend class detail::loop_turn;
  friend class detail::presence;
  friend class detail::receipts;
  friend class detail::subscriptions;
  friend class detail::publisher;
  friend class detail::channel_table;

  // ---- what whoever serves the client does for it ----------------------------------------------------------------

  /// The hub at which it is entered.
  virtual hub& at() const noexcept = 0;
  /// How messages are encoded for channels that are followed from now on.
  virtual const proto::encoding& encoding() const noexcept = 0;
  /// A notice of the session's own: `{"name":json}`. `errc::overloaded` when too much is unsent,
  /// `errc::not_implemented` when this kind of client has no notices, `operation_aborted` when the session is ending.
  virtual std::error_code notice(std::string_view name, std::string_view json) = 0;
  /// Ends the session.
  virtual void end(errc why, std::uint16_t close_code, std::string_view reason) = 0;
  /// Whether it has been ended, and only its `on_close` is still to come.
  virtual bool ending() const noexcept = 0;
  /// Whether the session outlives one answer and its client can be told what it follows.
  virtual bool adjustable() const noexcept = 0;
  /// The session that does not hear what is published here and stored nowhere: its slot at this hub, or the id of one
  /// that is another hub's, valid during the publish.
  struct echo {
    std::uint32_t slot;
    std::string_view elsewhere = {};
  };
  virtual echo no_echo_to() const noexcept { return {slot_}; }
  /// Whether it lasts for one answer to a poll.
  virtual bool ends_with_answer() const noexcept { return false; }
  /// Whether its client says by commands what it follows, so that its URL does not have to.
  virtual bool duplex() const noexcept = 0;

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
  // Where a session began whose end is told to the log.
  struct access_note {
    std::int64_t since;
    std::uint64_t acknowledged;
    struct start {
      std::uint32_t serial;
      std::uint64_t offset;
    };
    detail::vector<start> from;
  };
  // What few sessions have.
  struct rare_state {
    detail::vector<gone> gone_channels;  // by place
    std::vector<std::string> revoked;
    std::string device;
    std::unique_ptr<any_box> data;
    std::uint32_t heartbeat = 0;                  // seconds, of a stream that has asked for its own
    detail::intrusive_ptr<detail::sender> sends;  // who has sent something on this stream
    std::unique_ptr<access_note> access;
    std::unique_ptr<const proto::endpoint> told_peer;  // of a stream: whom a trusted proxy named
  };
  // What an anonymous client on one channel does without; once it is there it stays until the session ends. Further
  // channels lie behind it. They move when it grows and when one before them goes.
  struct extra_state : detail::with_tail {
    std::unique_ptr<rare_state> rare;
    std::uint32_t next_user = 0;  // the slot of the next one in the hub's table of users
    std::uint32_t further = 0;
    detail::further_subscription* at(std::size_t i) noexcept {
      return reinterpret_cast<detail::further_subscription*>(behind(this)) + i;
    }
  };

  rare_state* find_rare() const noexcept { return extra_ ? extra_->rare.get() : nullptr; }
  rare_state& ensure_rare();
  bool revoked(std::string_view channel) const noexcept {
    return find_rare() &&
           std::find(find_rare()->revoked.begin(), find_rare()->revoked.end(), channel) != find_rare()->revoked.end();
  }
  extra_state& ensure_extra();
  void grow(std::size_t room);

  // What it follows, in the order in which it was asked for. Of most sessions that is one channel, whose subscription
  // is a part of it.
  std::size_t follow_count() const noexcept { return std::size_t{bool(first_)} + (extra_ ? extra_->further : 0); }
  detail::subscription& followed(std::size_t i) noexcept {
    return first_ && i == 0 ? first_ : *extra_->at(i - bool(first_));
  }
  const detail::subscription& followed(std::size_t i) const noexcept { return const_cast<session*>(this)->followed(i); }
  detail::subscription& add_follow(detail::encoded_channel& in, std::uint32_t serial, bool named);
  void drop_follow(std::size_t i) noexcept;

  // Why a notice cannot be sent to anybody.
  static std::error_code check_notice(std::string_view name, std::string_view json, const options& o);
  // The client cannot be told what it follows from now on, so it has to come back.
  void cannot_tell();

  // In this order there are no gaps.
  shared_grant grant_;
  std::unique_ptr<extra_state> extra_;
  std::uint32_t generation_ = 0;
  bool open_ : 1 = false, listed_ : 1 = false;
  // Of the connection, and here because there is a gap: whether it is one over a limit on connections; has been let in;
  // is not read for now, because whoever sends on it sends too much.
  enum class excess : std::uint8_t { none, of_all, of_address };
  excess excess_ : 2 = excess::none;
  bool let_in_ : 1 = false, throttled_ : 1 = false;
};

}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/session.ipp"
#endif
