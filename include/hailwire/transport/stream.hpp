// SPDX-License-Identifier: BSL-1.0
#pragma once

// What every transport is made of: the library's and those that hosts write. A transport is a class without state that
// says which requests it serves (`claims`) and how it begins; what it begins is either a stream, a state machine with
// bytes in and bytes out, or a poll, which is one answer. None of it knows sockets, clocks, the hub or the other
// transports. `transport_type` and `stream` say what each owes; what a transport may do hangs on what it says of itself
// there, and never on its name.

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
  std::optional<std::string_view> param(std::string_view name) const noexcept;
  std::size_t count(std::string_view name) const noexcept;
};

/// Whether the client asks for signals (`&signal=1`): where a message stands, how large it is and what it is, in place
/// of its payload. See `proto::signals_of`.
inline bool wants_signals(const live_request& a) noexcept { return a.param("signal") == "1"; }

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

/// A transport whose answer goes on: one object for each connection, in a `stream_box`. A class derived from it has at
/// least `name`, `messages`, `notice`, `beat` and `end`; everything else has a meaning for one-way streams.
///
/// All functions are called on the hub's executor, one at a time. Those with `out` append to the bytes that the
/// connection will write next, and to nothing else; what they append has to stand between any two messages, and between
/// any two calls. None may throw anything but `std::bad_alloc`, which ends this connection alone.
class stream {
 public:
  virtual ~stream() = default;
  /// Its transport's name.
  virtual std::string_view name() const noexcept = 0;
  /// How messages are encoded for this client. The same object each time; see `proto::encoding`.
  virtual const proto::encoding& messages() const noexcept = 0;
  /// The same for channels that the host added, which have no place in the client's cursor.
  virtual const proto::encoding& others() const noexcept { return messages(); }
  /// Whether the client can be told of things: it has notices and replies.
  virtual bool speaks() const noexcept { return true; }
  /// Whether the client says by commands what it follows: then it needs no cursor of all its channels to come back.
  virtual bool duplex() const noexcept { return false; }
  /// Takes bytes from the front of `in`, in place, until there is something to act on. May append to `out` (a pong).
  /// Called again until `in` is empty or the stream ends, so a call must take something. As it is here: a client that
  /// has nothing to say after its request is not listened to.
  HAILWIRE_INLINE virtual stream_event receive(std::span<char>& in, std::string& /*out*/);
  /// Appends a notice, `json` being `{"name":…}` on one line; false when this kind of client has none. `cursor` is the
  /// position after it, for those that `gives_cursor`; else, and where a notice changes no position, it is empty.
  virtual bool notice(std::string& out, std::string_view name, std::string_view json, std::string_view cursor) = 0;
  /// Appends the notice of an end that will pass, before that: `json` is `{"bye":{…}}`, and `wait` a time within its
  /// span, in milliseconds, for clients that heed another word than notices. As it is here: the notice.
  virtual bool bye(std::string& out, std::string_view json, std::uint64_t /*wait*/) {
    return notice(out, "bye", json, {});
  }
  /// Appends the answer to a command, of streams whose `receive` tells of commands.
  virtual void reply(std::string& /*out*/, std::string_view /*json*/) {}
  /// Appends a message of the host's own, on streams that carry them.
  virtual void message(std::string& /*out*/, std::string_view /*bytes*/, bool /*binary*/) {}
  /// Appends a sign of life.
  virtual void beat(std::string& out) = 0;
  /// Whether the peer owes a sign of life too: an answer to `beat`. Then `receive` has to see it.
  virtual bool expects_life() const noexcept { return false; }
  /// Whether the client is handed cursors, with which it comes back.
  virtual bool gives_cursor() const noexcept { return false; }
  /// Whether each batch of messages carries the client's own cursor, and how: 0, it does not; else that many bytes are
  /// left off at the end of the batch's last message (all of this encoding's frames end with the same ones), and what
  /// `tag` appends stands in their place.
  virtual std::size_t tags() const noexcept { return 0; }
  virtual void tag(std::string& /*out*/, std::string_view /*cursor*/) const {}
  /// Appends the end of the stream; `code` and `reason` as WebSocket closes have them (`close_code` says which is
  /// which). May be called more than once.
  virtual void end(std::string& out, std::uint16_t code, std::string_view reason) = 0;
  /// After `end`: whether the peer is still to answer it.
  virtual bool awaits_end() const noexcept { return false; }

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
    static_assert(!std::is_abstract_v<held<Stream>>,
                  "hailwire: a transport's stream overrides name, messages, notice, beat and end of "
                  "hailwire::transport::stream");
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
  stream_box& operator=(stream_box&& other) noexcept;
  ~stream_box() { reset(); }

  explicit operator bool() const noexcept { return is_inside() || outside(); }
  /// Precondition: there is one.
  stream& operator*() const noexcept { return is_inside() ? inside() : *outside(); }
  stream* operator->() const noexcept { return &**this; }
  void reset() noexcept;

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
  void* word(std::size_t i) const noexcept;
  void keep(stream* s) noexcept { std::memcpy(space_ + sizeof s, &s, sizeof s); }
  void take(stream_box& other) noexcept;

  alignas(void*) unsigned char space_[room] = {};
};

/// A poll: how long it may be held, in milliseconds; 0 answers at once.
struct poll {
  std::int64_t wait = 0;
};

/// How a transport begins to serve a request: with a stream or with a poll.
struct accepted {
  stream_box live;
  /// Appends the head of a stream's answer, and what it says before anything else. `extra` are header lines, each with
  /// its CRLF, that have to stand in the head. Called once; for HEAD too, after which the connection ends, so then it
  /// appends the head alone where there is anything else.
  detail::move_only_function<void(std::string& out, std::string_view extra)> open;
  std::optional<poll> once;
};

/// How a transport says what will pass (`draining`, `overloaded`, `rate_limited`) to clients that take any status but
/// 200 for final: by an answer of 200 whose type, header lines (each with its CRLF) and body these are.
struct spoken_refusal {
  std::string_view content_type, fields;
  std::string body;
};

/// What `server<…>` serves its live resource by: the library's transports, and any that a host writes. A class of
/// static members, which has no state: they are called by all servers that name it, on any of their threads.
///
/// - `static constexpr std::string_view name`: the word of logs, `request::transport()` and `session::transport()`; one
///   that no other transport of the server has.
/// - `static constexpr std::string_view offer`: what a 406 says of it, `name (how to ask for it)`.
/// - `static bool claims(const live_request&)`: whether it serves a GET like this one. The first transport of the
///   server's list that does begins. It looks at the head and the query alone, and is asked before anybody knows who
///   the client is.
/// - `static result<accepted> begin(const live_request&)`: a stream in `accepted::live` and how its answer begins in
///   `accepted::open`; or why not, which is answered as an HTTP error. Also before authorization, so nothing of a
///   channel may be told here. For a transport that polls: `static result<poll> begin(const live_request&)`.
///
/// And, if it differs from what is said here:
///
/// - `static constexpr bool upgrades = false`: whether its answers begin with 101. Such a request may name no channel,
///   has no body, and comes from this host's pages or those of `options::allowed_origins`, because CORS does not hold
///   there. A server all of whose transports upgrade says 426 to others.
/// - `static constexpr bool answers_head = !upgrades`: whether a HEAD that it would claim as a GET is answered with the
///   head of its answer. False for one that waits.
/// - `static spoken_refusal refuse(const failure&)`: see there. Absent: HTTP errors, with their own status.
///
/// Errors of the compiler name what is missing.
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

/// True; a type that is no transport does not compile, with a sentence of what it lacks.
template <class T>
consteval bool check_transport() {
  constexpr bool there = requires { sizeof(T); };
  static_assert(there,
                "hailwire: the header of each transport must be included: #include <hailwire/transport/websocket.hpp>");
  if constexpr (there) {
    static_assert(
        requires {
          { T::name } -> std::convertible_to<std::string_view>;
        }, "hailwire: a transport needs static constexpr std::string_view name");
    static_assert(
        requires {
          { T::offer } -> std::convertible_to<std::string_view>;
        }, "hailwire: a transport needs static constexpr std::string_view offer");
    static_assert(
        requires(const live_request& a) {
          { T::claims(a) } -> std::same_as<bool>;
        }, "hailwire: a transport needs static bool claims(const hailwire::transport::live_request&)");
    static_assert(
        requires(const live_request& a) {
          { T::begin(a) } -> std::same_as<result<accepted>>;
        } ||
            requires(const live_request& a) {
              { T::begin(a) } -> std::same_as<result<poll>>;
            },
        "hailwire: a transport needs static hailwire::result<hailwire::transport::accepted> "
        "begin(const hailwire::transport::live_request&), or static hailwire::result<hailwire::transport::poll> begin "
        "when it polls");
    if constexpr (requires { T::upgrades; }) {
      static_assert(std::same_as<decltype(T::upgrades), const bool>,
                    "hailwire: a transport's upgrades is static constexpr bool upgrades");
    }
    if constexpr (requires { T::answers_head; }) {
      static_assert(std::same_as<decltype(T::answers_head), const bool>,
                    "hailwire: a transport's answers_head is static constexpr bool answers_head");
    }
    if constexpr (requires { &T::refuse; }) {
      static_assert(
          requires(const failure& why) {
            { T::refuse(why) } -> std::same_as<spoken_refusal>;
          },
          "hailwire: a transport's refuse is static hailwire::transport::spoken_refusal refuse(const "
          "hailwire::failure&)");
    }
  }
  return there;
}

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

/// What a transport says of itself, or what holds where it says nothing.
template <class T>
consteval bool upgrades() {
  if constexpr (requires { T::upgrades; }) {
    return T::upgrades;
  } else {
    return false;
  }
}
template <class T>
consteval bool answers_head() {
  if constexpr (requires { T::answers_head; }) {
    return T::answers_head;
  } else {
    return !upgrades<T>();
  }
}
using refuse_function = spoken_refusal (*)(const failure&);
template <class T>
consteval refuse_function refuses() {
  if constexpr (requires { &T::refuse; }) {
    return &T::refuse;
  } else {
    return nullptr;
  }
}

/// A transport with its type erased: one static object each.
struct entry {
  std::string_view name, offer;
  bool (*claims)(const live_request&);
  result<accepted> (*begin)(const live_request&);
  bool upgrades, answers_head;
  refuse_function refuse;  // null: by HTTP errors
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
    refuses<T>(),
};

}  // namespace hailwire::transport

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/transport/stream.ipp"
#endif
