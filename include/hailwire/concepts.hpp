// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a host may bring: a storage and a broker. Each is a plain class that meets a concept; there is nothing to derive
// from. Where one is handed in, `explain_storage` and `explain_broker` turn each missing requirement into one readable
// compile error, and from there on the hub knows it only through `detail::any_storage` and `detail::any_broker`.

#include <concepts>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"

namespace hailwire {

/// A message on its way into a log: all but its offset, and the publisher's idempotency key.
struct draft {
  std::int64_t at = 0;  ///< Unix time in milliseconds
  std::string from;     ///< empty: the host or an anonymous user
  std::string type;     ///< 0–64 bytes
  payload data;
  std::string key;  ///< opaque, 0–384 bytes, already scoped to its publisher; empty: none. See `keeps_keys`
};

/// What became of an append. Converts from an offset, a position or an error, so that a storage may return just that.
struct append_result {
  std::error_code error;     ///< set: nothing was stored (`errc::internal` and `errc::timeout`: unknown)
  std::uint64_t offset = 0;  ///< where the message stands
  std::string epoch;         ///< empty: the storage keeps no epochs, the hub's own is used
  bool duplicate = false;    ///< the key was known: `offset` is the first message's, and nothing was stored
  std::exception_ptr cause;  ///< what `error` came of, for the log alone; null: its message says it

  append_result() = default;
  append_result(std::uint64_t at) : offset(at) {}
  append_result(position p) : offset(p.offset), epoch(std::move(p.epoch)) {}
  append_result(std::error_code e) : error(e) {}
  append_result(errc e) : error(e) {}
};

/// One of several appends: see `append_all`. What it refers to is valid during the call.
struct channel_draft {
  std::string_view channel;
  const draft& message;
};

/// How much one read may return. At least one message comes back when there is one, whatever its size.
struct read_limit {
  std::size_t messages = 256;     ///< 0: none, only the facts
  std::size_t bytes = 64 * 1024;  ///< payload bytes
};

/// A stretch of a channel's log, and where the log begins and ends.
struct read_result {
  std::error_code error;
  std::vector<message>
      messages;       ///< ascending without holes, the first one just after `since` or, if that is trimmed, `oldest`
  std::string epoch;  ///< empty: the storage keeps no epochs
  std::uint64_t oldest = 1;  ///< the oldest offset still to be had; `head + 1` when nothing is
  std::uint64_t head = 0;    ///< the newest offset ever given in this epoch; 0: never published to
  std::exception_ptr cause;  ///< what `error` came of, for the log alone; null: its message says it

  read_result() = default;
  read_result(std::error_code e) : error(e) {}
};

/// An epoch for a storage that keeps them: it needs to be kept nowhere, is known before a channel's first message, and
/// is the same on every node that has the secret; another secret gives every channel another epoch. 12 letters.
///
/// `secret`: 16 random bytes, kept with the log and replaced when messages that were acknowledged may be missing.
/// Longer or shorter ones are hashed first. The epoch is the upper 72 bits of SipHash-2-4-128 (Aumasson and Bernstein,
/// 2012) of the name, so that who sees epochs cannot tell the secret.
inline std::string epoch_for(std::string_view secret, std::string_view channel) {
  detail::bits128 key;
  if (secret.size() == sizeof key)
    std::memcpy(&key, secret.data(), sizeof key);
  else
    key = detail::keyed_hash(key).add(secret).finish();
  return detail::epoch_of(detail::keyed_hash(key).add(channel).finish());
}

using append_handler = detail::move_only_function<void(append_result)>;
using read_handler = detail::move_only_function<void(read_result)>;

namespace detail {

/// What an `append` may return. A `bool` that says whether it went well, or a signed number that is negative when it
/// did not, would convert to an offset that nothing stands at.
template <class R>
concept appended = std::convertible_to<R, append_result> &&
                   (!std::integral<std::remove_cvref_t<R>> ||
                    (std::unsigned_integral<std::remove_cvref_t<R>> && !std::same_as<std::remove_cvref_t<R>, bool>));

}  // namespace detail

/// A storage that answers when it returns.
///
/// Obligations:
/// - `append` gives each channel the offsets 1, 2, 3, … without holes and has the message readable when it returns. It
///   keeps all of the draft but its key, byte for byte.
/// - A JSON text lies in the log without line breaks (the hub puts spaces in their place, RFC 8259 section 2): it is
///   handed on as it stands, and in an event stream a line is what a line break ends. Who writes to the log by other
///   ways keeps to that.
/// - `read` returns the messages with offset > `since`, within `limit`, and always `oldest` and `head`. A channel that
/// was
///   never published to is empty: `oldest` 1, `head` 0; reading it leaves no trace.
/// - Retention is the storage's own affair; what it drops, it drops from the oldest end, and `oldest` tells.
/// - A storage that may have lost what it acknowledged changes the epoch. One that keeps epochs names one for an empty
///   channel too, the one that the first message gets, the same from every process (`epoch_for` makes such): until one
///   is named the hub makes one up, and takes the first that is named over. One that returns no epochs gets a new one
///   from the hub at every start.
/// - Exceptions are caught and count as `errc::internal`; the log has their text.
///
/// Threads: calls for one channel never overlap. Calls for different channels may (several hubs can share one storage),
/// unless it has `static constexpr bool single_threaded = true`. One that takes any calls at any time may say
/// `static constexpr bool thread_safe = true`; a `threaded_server` then has no lock around it.
///
/// Optional members, each found on its own:
/// - `static constexpr bool keeps_keys = true`: `append` keeps a non-empty key, atomically with its message, for at
/// least
///   five minutes; the same key with the same payload returns the first offset and `duplicate`, with another payload
///   `errc::conflict`. Absent: the hub keeps keys in its own memory.
/// - `std::vector<append_result> append_all(std::span<const channel_draft>)`: as many appends one after the other, to
/// any
///   channels, with one result each, in order. For a database whose commit is what takes the time: `blocking_storage`
///   finds it and fills it with whatever waits. If it throws, all of them are `errc::internal`.
template <class S>
concept synchronous_storage =
    requires(S& s, std::string_view channel, const draft& d, std::uint64_t since, read_limit limit) {
      { s.append(channel, d) } -> detail::appended;
      { s.read(channel, since, limit) } -> std::convertible_to<read_result>;
    };

/// A storage that answers later: the same obligations, with a handler in place of the returned value. Operations on one
/// channel complete in the order in which they were started. A handler is called exactly once, from any thread, also
/// from within the call that was given it.
template <class S>
concept asynchronous_storage = requires(S& s, std::string_view channel, draft d, std::uint64_t since, read_limit limit,
                                        append_handler appended, read_handler done) {
  s.async_append(channel, std::move(d), std::move(appended));
  s.async_read(channel, since, limit, std::move(done));
};

/// What a server takes as its storage: one of the two kinds above, whose obligations are the same.
template <class S>
concept storage = synchronous_storage<S> || asynchronous_storage<S>;

/// What a broker hands to each hub that subscribed to the channel: the channel, the epoch, the message with its offset.
/// May be called from any thread.
using broker_receiver =
    detail::move_only_function<void(std::string_view channel, std::string_view epoch, const message&)>;

/// Carries messages between hubs that share a storage.
///
/// Obligations: few. It may drop, repeat and reorder; the hub sees a hole in the offsets and reads the storage. It must
/// not call a receiver after `detach` has returned.
template <class B>
concept broker = requires(B& b, std::string_view channel, std::string_view epoch, const message& m,
                          broker_receiver receiver, std::uint64_t id) {
  { b.attach(std::move(receiver)) } -> std::convertible_to<std::uint64_t>;  // names this hub from now on
  b.detach(id);
  b.subscribe(id, channel);
  b.unsubscribe(id, channel);
  b.publish(id, channel, epoch, m);  // to every subscribed hub but `id`
};

namespace detail {

// The type that a member function takes last. (Whether it takes a handler that is only moved cannot be asked of
// std::function, whose constructor says yes to anything and then does not compile.)
template <class S, class R, class A, class B, class C>
std::remove_cvref_t<C> third_parameter(R (S::*)(A, B, C));
template <class S, class R, class A, class B, class C, class D>
std::remove_cvref_t<D> fourth_parameter(R (S::*)(A, B, C, D));
template <class S>
concept appends_with_function = requires {
  { third_parameter(&S::async_append) } -> std::same_as<std::function<void(append_result)>>;
};
template <class S>
concept reads_with_function = requires {
  { fourth_parameter(&S::async_read) } -> std::same_as<std::function<void(read_result)>>;
};

}  // namespace detail

/// Says at compile time, one sentence a requirement, why `S` is not a storage.
template <class S>
constexpr void explain_storage() {
  static_assert(!detail::appends_with_function<S>,
                "hailwire: async_append takes its handler as hailwire::append_handler, which is moved; std::function "
                "would copy it");
  static_assert(
      !detail::reads_with_function<S>,
      "hailwire: async_read takes its handler as hailwire::read_handler, which is moved; std::function would copy it");
  if constexpr (requires(S& s, draft d, append_handler h) {
                  s.async_append(std::string_view(), std::move(d), std::move(h));
                }) {
    static_assert(asynchronous_storage<S>,
                  "hailwire: an asynchronous storage also needs "
                  "void async_read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit, "
                  "hailwire::read_handler done)");
  } else {
    static_assert(
        requires(S& s, std::string_view c, const draft& d) {
          { s.append(c, d) } -> detail::appended;
        },
        "hailwire: a storage needs hailwire::append_result append(std::string_view channel, const hailwire::draft& "
        "message)");
    static_assert(
        requires(S& s, std::string_view c, std::uint64_t n, read_limit l) {
          { s.read(c, n, l) } -> std::convertible_to<read_result>;
        },
        "hailwire: a storage needs hailwire::read_result read(std::string_view channel, std::uint64_t since, "
        "hailwire::read_limit limit)");
  }
}

/// Says at compile time, one sentence a requirement, why `B` is not a broker.
template <class B>
constexpr void explain_broker() {
  static_assert(
      requires(B& b, broker_receiver r) {
        { b.attach(std::move(r)) } -> std::convertible_to<std::uint64_t>;
      }, "hailwire: a broker needs std::uint64_t attach(hailwire::broker_receiver receiver)");
  static_assert(
      requires(B& b, std::uint64_t id) { b.detach(id); }, "hailwire: a broker needs void detach(std::uint64_t hub)");
  static_assert(
      requires(B& b, std::uint64_t id, std::string_view c) { b.subscribe(id, c); },
      "hailwire: a broker needs void subscribe(std::uint64_t hub, std::string_view channel)");
  static_assert(
      requires(B& b, std::uint64_t id, std::string_view c) { b.unsubscribe(id, c); },
      "hailwire: a broker needs void unsubscribe(std::uint64_t hub, std::string_view channel)");
  static_assert(
      requires(B& b, std::uint64_t id, std::string_view c, const message& m) { b.publish(id, c, c, m); },
      "hailwire: a broker needs void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, "
      "const hailwire::message& m)");
}

namespace detail {

/// What a storage's exception, which is being caught, counts as.
template <class Result>
[[gnu::cold]] Result failed() {
  Result r(make_error_code(errc::internal));
  r.cause = std::current_exception();
  return r;
}

/// A storage with its type erased. Handlers are called exactly once, from any thread, possibly before the call returns.
struct any_storage {
  virtual ~any_storage() = default;
  virtual void append(std::string_view channel, draft&& d, append_handler done) = 0;
  /// Where a storage in memory looks for a channel; only its own to understand.
  struct place {
    alignas(8) unsigned char bytes[16];
  };
  /// Whether it answers when it returns; then an append needs no handler. `at` is of this channel.
  virtual bool at_once() const noexcept { return false; }
  virtual append_result append_now(const place& /*at*/, std::string_view /*channel*/, const draft& /*d*/) {
    return errc::internal;
  }
  /// Such an append comes soon: memory is asked for before it is needed.
  virtual place prefetch(std::string_view /*channel*/) noexcept { return {}; }
  virtual void prefetch_entry(const place& /*at*/) noexcept {}
  virtual void read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) = 0;
  virtual bool keeps_keys() const noexcept = 0;
};

// What a handed-in storage is: itself, or what a smart pointer points to.
template <class T>
struct pointee {
  using type = T;
};
template <class T, class D>
struct pointee<std::unique_ptr<T, D>> {
  using type = T;
};
template <class T>
struct pointee<std::unique_ptr<T>> {
  using type = T;
};
template <class T>
struct pointee<std::shared_ptr<T>> {
  using type = T;
};

/// `Holder` is a reference to a storage (the host's), a storage, or a smart pointer to one.
template <class Holder>
class erased_storage final : public any_storage {
  using type = typename pointee<std::remove_cvref_t<Holder>>::type;

 public:
  explicit erased_storage(Holder&& s) : holder_(std::forward<Holder>(s)) {}

  void append(std::string_view channel, draft&& d, append_handler done) override {
    if constexpr (asynchronous_storage<type>) {
      storage().async_append(channel, std::move(d), std::move(done));
    } else {
      done(append_now(prefetch(channel), channel, d));
    }
  }
  place prefetch(std::string_view channel) noexcept override {
    place out{};
    if constexpr (has_places) {
      auto at = storage().place_of(channel);
      static_assert(sizeof at == sizeof out.bytes && std::is_trivially_copyable_v<decltype(at)>);
      std::memcpy(out.bytes, &at, sizeof at);
      storage().prefetch_entry(at, 0);
    }
    return out;
  }
  void prefetch_entry(const place& at) noexcept override {
    if constexpr (has_places) storage().prefetch_entry(own(at), 1);
  }
  bool at_once() const noexcept override { return !asynchronous_storage<type>; }
  append_result append_now(const place& at, std::string_view channel, const draft& d) override {
    if constexpr (asynchronous_storage<type>) {
      return any_storage::append_now(at, channel, d);
    } else {
      try {
        if constexpr (has_places) {
          return storage().append(own(at), channel, d);
        } else {
          return storage().append(channel, d);
        }
      } catch (...) {
        return failed<append_result>();
      }
    }
  }
  void read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) override {
    if constexpr (asynchronous_storage<type>) {
      storage().async_read(channel, since, limit, std::move(done));
    } else {
      read_result r;
      try {
        r = storage().read(channel, since, limit);
      } catch (...) {
        r = failed<read_result>();
      }
      done(std::move(r));
    }
  }
  bool keeps_keys() const noexcept override {
    if constexpr (requires {
                    { type::keeps_keys } -> std::convertible_to<bool>;
                  }) {
      return type::keeps_keys;
    } else {
      return false;
    }
  }

 private:
  static constexpr bool has_places = requires(type& s, std::string_view c) { s.prefetch_entry(s.place_of(c), 0); };
  static auto own(const place& at) noexcept {
    decltype(std::declval<type&>().place_of(std::string_view())) out;
    std::memcpy(&out, at.bytes, sizeof out);
    return out;
  }
  type& storage() noexcept {
    if constexpr (std::is_same_v<type, std::remove_cvref_t<Holder>>) {
      return holder_;
    } else {
      return *holder_;
    }
  }
  Holder holder_;
};

template <class Storage>
std::unique_ptr<any_storage> erase_storage(Storage&& s) {
  explain_storage<typename pointee<std::remove_cvref_t<Storage>>::type>();
  static_assert(std::is_lvalue_reference_v<Storage> || std::is_move_constructible_v<Storage>,
                "hailwire: this storage cannot be moved: hand in std::make_unique<my_storage>(…), or an object of the "
                "host's that outlives the server");
  return std::unique_ptr<erased_storage<Storage>>(new erased_storage<Storage>(std::forward<Storage>(s)));
}

/// A broker with its type erased.
struct any_broker {
  virtual ~any_broker() = default;
  virtual std::uint64_t attach(broker_receiver receiver) = 0;
  virtual void detach(std::uint64_t hub) = 0;
  virtual void subscribe(std::uint64_t hub, std::string_view channel) = 0;
  virtual void unsubscribe(std::uint64_t hub, std::string_view channel) = 0;
  virtual void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) = 0;
};

template <class Broker>
class erased_broker final : public any_broker {
 public:
  explicit erased_broker(Broker& b) : broker_(b) {}
  std::uint64_t attach(broker_receiver receiver) override { return broker_.attach(std::move(receiver)); }
  void detach(std::uint64_t hub) override { broker_.detach(hub); }
  void subscribe(std::uint64_t hub, std::string_view channel) override { broker_.subscribe(hub, channel); }
  void unsubscribe(std::uint64_t hub, std::string_view channel) override { broker_.unsubscribe(hub, channel); }
  void publish(std::uint64_t hub, std::string_view channel, std::string_view epoch, const message& m) override {
    broker_.publish(hub, channel, epoch, m);
  }

 private:
  Broker& broker_;
};

template <class Broker>
std::unique_ptr<any_broker> erase_broker(Broker& b) {
  explain_broker<Broker>();
  return std::unique_ptr<erased_broker<Broker>>(new erased_broker<Broker>(b));
}

}  // namespace detail
}  // namespace hailwire
