// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/error.hpp"

namespace hailwire {

/// How important a record of the log is. `debug`: what clients do wrong, which on the open internet never ends.
/// `warning` and `error`: somebody has to look.
enum class log_level : std::uint8_t { debug, info, warning, error };

/// Something that happened, as `server::on_log` is told it. Views are valid during the call. No member ever holds a
/// token, a ticket, a payload or a query.
struct log_record {
  log_level level = log_level::info;
  /// What happened, in a word that stays the same from version to version:
  ///
  ///     storage_failed     error    an append or a read failed; at most one in ten seconds for each of the two
  ///     storage_disorder   error    an append gave an offset that is not the one after the last; as seldom
  ///     hook_threw         error    a hook, a handler, a posted function or a predicate of a grant has thrown
  ///     hook_late          warning  a hook has not answered within `options::hook_time`; as seldom
  ///     bad_grant          error    an authorizer's answer cannot be used
  ///     no_authorizer      warning  a client was refused because there is no authorizer; once
  ///     publish_failed     warning  a publish of the host's that has no handler was refused; as seldom
  ///     accept_paused      warning  no descriptor is left for one more connection
  ///     tls_fallback       warning  OpenSSL keeps the records
  ///     session_ended      info     transport, seconds, messages that it was given of what it followed to its end,
  ///                                 bytes that its system has acknowledged, who closed it; see
  ///                                 `options::access_log_every`
  ///     push_failed        debug    a notice to a device was not delivered
  ///     refused            debug    a request or a command was answered with an error
  ///     closed             debug    the server has ended a stream
  ///     connection_failed  debug    a connection broke, or its TLS handshake failed
  std::string_view event;
  std::string_view session = {};  ///< `session::id` of the one that it is about; empty: none
  std::string_view user = {};     ///< the session's; empty: anonymous, or no session
  std::string_view peer = {};     ///< as `request::peer`; empty: nobody's, or not known
  std::error_code code = {};      ///< an `errc`, the system's, or a storage's; none where nothing has failed
  std::string_view text = {};     ///< English, one line: for people, and free to change
};

namespace detail {

/// Keeps a repeated record from filling the log: one passes every ten seconds, and says how many did not.
class log_rate {
 public:
  static constexpr std::int64_t every_ms = 10'000;
  /// Whether one may pass at `now`, in milliseconds; then `left_out` are those that were held back before it.
  bool pass(std::int64_t now, std::uint64_t& left_out) noexcept {
    if (now < next_) return ++held_back_, false;
    next_ = now + every_ms;
    left_out = std::exchange(held_back_, 0);
    return true;
  }

 private:
  std::int64_t next_ = INT64_MIN;
  std::uint64_t held_back_ = 0;
};

/// The text of what is being caught, or of what `thrown` holds.
inline std::string text_of(const std::exception_ptr& thrown = std::current_exception()) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "not a std::exception";
  }
}

/// The way to the host's log. It belongs to the hub's executor; nothing that it does throws.
class logger {
 public:
  void set(std::function<void(const log_record&)> sink, log_level least) {
    sink_ = std::move(sink);
    least_ = least;
  }
  /// Whether anybody hears a record of this level: asked before one is made.
  bool hears(log_level level) const noexcept { return sink_ && level >= least_ && !telling_; }

  /// A record that a log's own function gives rise to is dropped, for it could do so again.
  [[gnu::cold, gnu::noinline]] void operator()(const log_record& r) const noexcept {
    if (!hears(r.level)) return;
    telling_ = true;
    try {
      sink_(r);
    } catch (...) {  // a log that fails has nobody to tell
    }
    telling_ = false;
  }
  /// The same with a text that somebody else has written: line breaks and other control characters become spaces.
  [[gnu::cold, gnu::noinline]] void operator()(log_record r, std::string text) const noexcept {
    for (char& c : text)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
    r.text = text;
    (*this)(r);
  }
  /// One that is repeated: of those that `rate` holds back the next one tells the number.
  [[gnu::cold, gnu::noinline]] void operator()(log_rate& rate, std::int64_t now, const log_record& r,
                                               std::string text) const noexcept {
    std::uint64_t left_out = 0;
    if (!hears(r.level) || !rate.pass(now, left_out)) return;
    try {
      if (left_out) text += " (and " + std::to_string(left_out) + " more since the record before)";
    } catch (...) {  // no memory: without the number
    }
    (*this)(r, std::move(text));
  }

  /// Calls host code; false when it threw, and that is logged.
  template <class F>
  bool guarded(std::string_view hook, F f) const noexcept {
    try {
      f();
      return true;
    } catch (...) {
      thrown(hook);
      return false;
    }
  }
  /// Tells of what is being caught.
  [[gnu::cold, gnu::noinline]] void thrown(std::string_view hook) const noexcept {
    if (!hears(log_level::error)) return;
    try {
      (*this)({log_level::error, "hook_threw"}, std::string(hook) + " threw: " + text_of());
    } catch (...) {  // there is no memory to tell that there is none
    }
  }

 private:
  std::function<void(const log_record&)> sink_;
  log_level least_ = log_level::info;
  mutable bool telling_ = false;
};

}  // namespace detail
}  // namespace hailwire
