// SPDX-License-Identifier: BSL-1.0
#pragma once

// What every transport is made of. A transport is a class without state that says which requests it serves (`claims`)
// and how it begins; what it begins is either a stream, a state machine with bytes in and bytes out, or a poll, which
// is one answer. None of it knows sockets, clocks, the hub or the other transports.

#include <concepts>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"
#include "hailwire/options.hpp"
#include "hailwire/proto/envelope.hpp"
#include "hailwire/proto/http_fields.hpp"

namespace hailwire::transport {

/// A request for the live resource, as a transport sees it. Valid during the call it is given to.
struct live_request {
  const proto::http1::head& head;
  const proto::query_pairs& query;
  const options& settings;

  /// The first value of a query parameter.
  std::optional<std::string_view> param(std::string_view name) const noexcept {
    for (const auto& [n, value] : query)
      if (n == name) return value;
    return {};
  }
  std::size_t count(std::string_view name) const noexcept {
    std::size_t n = 0;
    for (const auto& p : query) n += p.first == name;
    return n;
  }
};

/// What received bytes turned out to be.
struct stream_event {
  enum class kind : std::uint8_t {
    none,     ///< nothing to act on; more input is needed
    command,  ///< a command's JSON text in `data`
    text,     ///< a message of a client without commands: valid UTF-8
    binary,   ///< the same, any bytes
    closed,   ///< the peer closed in order, with `code` and its reason in `data`
    failed,   ///< the peer broke a rule; the stream is to be ended with `code`
  };
  kind what = kind::none;
  std::string_view data;  ///< valid until the next `receive`, and while its input is
  std::uint16_t code = 0;
};

/// A transport whose answer goes on: one object for each connection, in a `stream_box`.
class stream {
 public:
  virtual ~stream() = default;
  /// Its transport's name.
  virtual std::string_view name() const noexcept = 0;
  /// How messages are encoded for this client.
  virtual const proto::encoding& messages() const noexcept = 0;
  /// The same for channels that the host added, which have no place in the client's cursor.
  virtual const proto::encoding& others() const noexcept { return messages(); }
  /// Whether the client can be told of things: it has notices, replies and commands.
  virtual bool speaks() const noexcept { return true; }
  /// Takes bytes from the front of `in`, in place, until there is something to act on. May append to `out` (a pong).
  virtual stream_event receive(std::span<char>& in, std::string& out) = 0;
  /// Appends a notice, `json` being `{"name":…}`; false when this kind of client has none. `cursor` is the position
  /// after it, for those that carry one.
  virtual bool notice(std::string& out, std::string_view name, std::string_view json, std::string_view cursor) = 0;
  /// Appends the answer to a command.
  virtual void reply(std::string& out, std::string_view json) = 0;
  /// Appends a message of the host's own, on streams that carry them.
  virtual void message(std::string&, std::string_view /*bytes*/, bool /*binary*/) {}
  /// Appends a sign of life.
  virtual void beat(std::string& out) = 0;
  /// Whether the peer owes a sign of life too.
  virtual bool expects_life() const noexcept = 0;
  /// Whether the client says by commands what it follows: then it needs no cursor of all its channels to come back.
  virtual bool duplex() const noexcept { return false; }
  /// Whether the client is handed cursors, with which it comes back.
  virtual bool gives_cursor() const noexcept { return false; }
  /// Whether each batch of messages carries the client's own cursor, and how: 0, it does not; else that many bytes are
  /// left off at the end of the batch's last message (all of this encoding's frames end with the same ones), and what
  /// `tag` appends stands in their place.
  virtual std::size_t tags() const noexcept { return 0; }
  virtual void tag(std::string&, std::string_view /*cursor*/) const {}
  /// Appends the end of the stream; `code` and `reason` as WebSocket closes have them.
  virtual void end(std::string& out, std::uint16_t code, std::string_view reason) = 0;
  /// After `end`: whether the peer is still to answer it.
  virtual bool awaits_end() const noexcept = 0;

 private:
  friend class stream_box;
  virtual void move_to(void* place) noexcept = 0;  // and is destroyed
};

/// Owns a stream, or nothing. It is a part of each connection, so small streams lie inside; others are on the heap.
class stream_box {
 public:
  /// Enough for a WebSocket without compression and for an event stream.
  static constexpr std::size_t room = 3 * sizeof(void*);

  template <std::derived_from<stream> Stream, class... Args>
  static stream_box of(Args&&... args) {
    stream_box made;
    if constexpr (fits<Stream>) {
      ::new (static_cast<void*>(made.space_)) held<Stream>(std::forward<Args>(args)...);
    } else {
      made.keep(new held<Stream>(std::forward<Args>(args)...));
    }
    return made;
  }
  stream_box() noexcept = default;
  stream_box(stream_box&& other) noexcept { take(other); }
  stream_box& operator=(stream_box&& other) noexcept {
    if (this == &other) return *this;
    reset();
    take(other);
    return *this;
  }
  ~stream_box() { reset(); }

  explicit operator bool() const noexcept { return is_inside() || outside(); }
  /// Precondition: there is one.
  stream& operator*() const noexcept { return is_inside() ? inside() : *outside(); }
  stream* operator->() const noexcept { return &**this; }
  void reset() noexcept {
    if (is_inside()) {
      inside().~stream();
    } else {
      delete outside();
    }
    std::memset(space_, 0, sizeof space_);
  }

 private:
  template <class Stream>
  class held final : public Stream {
   public:
    using Stream::Stream;

   private:
    void move_to([[maybe_unused]] void* place) noexcept override {
      if constexpr (fits<Stream>) {
        ::new (place) held(std::move(*this));
        this->~held();
      }
    }
  };
  template <class Stream>
  static constexpr bool fits = sizeof(held<Stream>) <= room && std::is_nothrow_move_constructible_v<held<Stream>>;

  // What lies inside begins with the address of its functions. Where nothing does, that word is null, and the next one
  // is a stream's address or null.
  bool is_inside() const noexcept { return word(0) != nullptr; }
  stream& inside() const noexcept {
    return *std::launder(reinterpret_cast<stream*>(const_cast<unsigned char*>(space_)));
  }
  stream* outside() const noexcept { return static_cast<stream*>(word(1)); }
  void* word(std::size_t i) const noexcept {
    void* value;
    std::memcpy(&value, space_ + i * sizeof value, sizeof value);
    return value;
  }
  void keep(stream* s) noexcept { std::memcpy(space_ + sizeof s, &s, sizeof s); }
  void take(stream_box& other) noexcept {
    if (other.is_inside()) {
      other.inside().move_to(space_);
    } else {
      keep(other.outside());
    }
    std::memset(other.space_, 0, sizeof other.space_);
  }

  alignas(void*) unsigned char space_[room] = {};
};

/// A poll: how long it may be held, in milliseconds; 0 answers at once.
struct poll {
  std::int64_t wait = 0;
};

/// How a transport begins to serve a request: with a stream or with a poll.
struct accepted {
  stream_box live;
  /// Appends the head of a stream's answer and what it says first. `extra` are header lines, each with its CRLF.
  detail::move_only_function<void(std::string& out, std::string_view extra)> open;
  std::optional<poll> once;
};

/// A class of static members:
/// - `name`: the word of logs and `session::transport()`;
/// - `offer`: what a 406 says of it;
/// - `claims`: whether it serves a GET like this one; it looks at the head and the query only;
/// - `begin`: what it answers with, or why it cannot: an `accepted` with its `live` stream, or, for one that polls, a
/// `poll`.
template <class T>
concept transport_type = requires(const live_request& a) {
  { T::name } -> std::convertible_to<std::string_view>;
  { T::offer } -> std::convertible_to<std::string_view>;
  { T::claims(a) } -> std::same_as<bool>;
  requires std::same_as<decltype(T::begin(a)), result<accepted>> || std::same_as<decltype(T::begin(a)), result<poll>>;
};
/// A transport that polls.
template <class T>
concept polling = transport_type<T> && requires(const live_request& a) {
  { T::begin(a) } -> std::same_as<result<poll>>;
};

/// A transport that serves the host's own frames too: `begin_plain` with the subprotocols that the host knows and the
/// largest message.
template <class T>
concept framed = requires(const live_request& a, const std::vector<std::string>& known, std::size_t max_message) {
  { T::begin_plain(a, known, max_message) } -> std::same_as<result<accepted>>;
};
/// The first of some transports that does, or void.
template <class... Transports>
struct first_framed {
  using type = void;
};
template <class T, class... Others>
struct first_framed<T, Others...> : first_framed<Others...> {};
template <framed T, class... Others>
struct first_framed<T, Others...> {
  using type = T;
};

/// Whether a transport's answers begin with 101 (`upgrades`; absent: they do not).
template <class T>
constexpr bool upgrades() noexcept {
  if constexpr (requires { T::upgrades; }) {
    return T::upgrades;
  } else {
    return false;
  }
}
/// Whether a HEAD that it claims is answered with the head of its answer (`answers_head`; absent: unless it upgrades).
template <class T>
constexpr bool answers_head() noexcept {
  if constexpr (requires { T::answers_head; }) {
    return T::answers_head;
  } else {
    return !upgrades<T>();
  }
}

/// A transport with its type erased: one static object each.
struct entry {
  std::string_view name, offer;
  bool (*claims)(const live_request&);
  result<accepted> (*begin)(const live_request&);
  bool upgrades, answers_head;
};
template <transport_type T>
inline constexpr entry entry_of{
    T::name,
    T::offer,
    &T::claims,
    [](const live_request& a) -> result<accepted> {
      if constexpr (polling<T>) {
        auto once = T::begin(a);
        if (!once) return once.error();
        accepted b;
        b.once = *once;
        return b;
      } else {
        return T::begin(a);
      }
    },
    upgrades<T>(),
    answers_head<T>(),
};

}  // namespace hailwire::transport
