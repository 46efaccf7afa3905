// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire {

/// What can be wrong with a request, a command or a publish: the stable codes of the wire protocol. Each has one word
/// on the wire (`code_name`), one HTTP status (RFC 9110, section 15, and RFC 6585) and one WebSocket close code (RFC
/// 6455, section 7.4; 4000–4999 are an application's own).
///
/// Usable as a `std::error_code`. What the network or the disk did arrives as the system's own codes; a handler that
/// was pending when the server stopped gets `operation_aborted()`.
enum class errc : std::uint8_t {
  bad_request = 1,     ///< malformed, or a rule of the protocol broken
  unauthenticated,     ///< the server does not know who asks
  forbidden,           ///< it knows, and the answer is no; unknown channels answer the same
  not_found,           ///< no such thing, or this server does not offer it
  method_not_allowed,  ///< the resource exists, the method does not fit
  not_acceptable,      ///< no transport that this server links can serve the request
  timeout,             ///< the peer was too slow, or an outcome is unknown
  conflict,            ///< the same key with another payload
  too_large,           ///< over a size limit
  unsupported_media,   ///< a text that is not UTF-8, or an encoding that is not understood
  range,               ///< a range that cannot be satisfied
  expectation,         ///< an `Expect` that is not understood
  upgrade_required,    ///< only WebSocket is linked
  rate_limited,        ///< too often
  headers_too_large,   ///< the request head is over a limit
  internal,            ///< the server's own failure; the outcome of a publish is unknown
  not_implemented,     ///< known to the protocol, not to this server
  draining,            ///< the server is going away
  overloaded,          ///< a queue is full; nothing was stored
  http_version,        ///< an HTTP version that is not 1.x
};

namespace detail {
struct errc_facts {
  std::string_view name, phrase;
  int status;
  std::uint16_t close;
};
inline constexpr errc_facts errc_table[] = {
    {"", "", 0, 0},
    {"bad_request", "malformed request", 400, 1008},
    {"unauthenticated", "who are you?", 401, 4401},
    {"forbidden", "not allowed", 403, 4403},
    {"not_found", "not found", 404, 1008},
    {"method_not_allowed", "method not allowed", 405, 1008},
    {"not_acceptable", "no transport of this server fits", 406, 1008},
    {"timeout", "too slow", 408, 1008},
    {"conflict", "same key, other payload", 409, 1008},
    {"too_large", "too large", 413, 1009},
    {"unsupported_media", "unsupported media", 415, 1007},
    {"range", "range not satisfiable", 416, 1008},
    {"expectation", "expectation failed", 417, 1008},
    {"upgrade_required", "upgrade required", 426, 1008},
    {"rate_limited", "too many requests", 429, 4429},
    {"headers_too_large", "request head too large", 431, 1009},
    {"internal", "internal error", 500, 1011},
    {"not_implemented", "not implemented", 501, 1008},
    {"draining", "server is going away", 503, 1012},
    {"overloaded", "overloaded, try again later", 503, 1013},
    {"http_version", "HTTP version not supported", 505, 1002},
};
inline const errc_facts& facts(errc e) noexcept { return errc_table[static_cast<std::size_t>(e)]; }
}  // namespace detail

/// The word that stands for `e` on the wire, such as `"too_large"`. Static lifetime.
inline std::string_view code_name(errc e) noexcept { return detail::facts(e).name; }

/// The HTTP status of `e`: 400–505.
inline int http_status(errc e) noexcept { return detail::facts(e).status; }

/// The WebSocket close code of `e`.
inline std::uint16_t close_code(errc e) noexcept { return detail::facts(e).close; }

/// The category of `errc`: its messages are short English phrases.
const std::error_category& category() noexcept;

inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), category()}; }

/// What a pending handler gets when the server stops before its work is done. Equal to Asio's `operation_aborted`.
inline std::error_code operation_aborted() noexcept { return {ECANCELED, std::system_category()}; }

/// The wire's word for any error: `ec` itself when it is an `errc`. Of the system's own, what says that there is no
/// room, or that somebody else holds what is needed, is `overloaded`: nothing was done, and it will pass. Everything
/// else, an I/O error above all, is `internal`: the outcome of a publish is unknown.
errc wire_code(const std::error_code& ec) noexcept;

/// An error with a sentence for whoever has to mend it, as it stands in `error` objects and problem documents.
struct failure {
  errc code = errc::internal;
  std::string message;  ///< English, UTF-8; empty: the code's own phrase
  int retry_after = 0;  ///< seconds after which trying again makes sense; 0: not said

  failure() = default;
  // There are a hundred places that make one; each is a call, and what leads there is not what a compiler makes fast.
  [[gnu::cold, gnu::noinline]] HAILWIRE_INLINE failure(errc c, std::string_view text = {}, int seconds = 0);

  /// `message`, or the code's phrase where there is none.
  std::string_view text() const noexcept {
    return message.empty() ? detail::facts(code).phrase : std::string_view(message);
  }
};

/// What a client is told of a storage's error, and when it may come back: a queue is shorter in a second, a disk that
/// is full takes somebody to make room.
failure storage_failure(const std::error_code& ec);

/// A value or the reason why there is none. Movable. A plain union rather than `std::variant`, whose visitors cost each
/// includer more compile time than anything else here.
template <class T>
class result {
 public:
  /// A value that is made here, for those who fill it bit by bit.
  explicit result(std::in_place_t) : has_(true) { ::new (static_cast<void*>(&value_)) T(); }
  result(T value) : has_(true) { ::new (static_cast<void*>(&value_)) T(std::move(value)); }
  result(failure why) noexcept : has_(false) { ::new (static_cast<void*>(&why_)) failure(std::move(why)); }
  result(errc code, std::string_view text = {}) : result(failure(code, text)) {}
  result(result&& other) noexcept : has_(other.has_) { take(other); }
  result& operator=(result&& other) noexcept {
    if (this != &other) {
      drop();
      has_ = other.has_;
      take(other);
    }
    return *this;
  }
  ~result() { drop(); }

  explicit operator bool() const noexcept { return has_; }

  /// Precondition: `*this` holds a value.
  T& operator*() noexcept { return value_; }
  const T& operator*() const noexcept { return value_; }
  T* operator->() noexcept { return &value_; }
  const T* operator->() const noexcept { return &value_; }

  /// Precondition: `*this` holds no value.
  const failure& error() const noexcept { return why_; }

 private:
  static_assert(std::is_nothrow_move_constructible_v<T>);

  void take(result& other) noexcept {
    if (has_) {
      ::new (static_cast<void*>(&value_)) T(std::move(other.value_));
    } else {
      ::new (static_cast<void*>(&why_)) failure(std::move(other.why_));
    }
  }
  void drop() noexcept {
    if (has_) {
      value_.~T();
    } else {
      why_.~failure();
    }
  }

  union {
    T value_;
    failure why_;
  };
  bool has_;
};

}  // namespace hailwire

template <>
struct std::is_error_code_enum<hailwire::errc> : std::true_type {};

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/error.ipp"
#endif
