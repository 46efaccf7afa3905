// SPDX-License-Identifier: BSL-1.0
#pragma once

// For hosts that write their logs with {fmt} (9 or newer): opt in by including this header and linking fmt::fmt.
//
//     live.on_log([](const hailwire::log_record& r) { fmt::print(stderr, "{}\n", r); });
//     live.on_close([](hailwire::session& s, const hailwire::close_reason& why) { fmt::print("{}: {}\n", s.user(),
//     why); });
//
//     live.on_log([](const hailwire::log_record& r) { fmt::print(stderr, "{}\n", hailwire::log_json(r)); });
//
// Each is one line, whatever a client has put into it: control characters are written as \x0a. Width, alignment and
// precision are those of text: {:>10}.

#include <fmt/format.h>

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/error.hpp"
#include "hailwire/hooks.hpp"
#include "hailwire/log.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/json.hpp"
#include "hailwire/session.hpp"

namespace hailwire::detail {

/// Text of a client's, as one line.
inline void append_line(std::string& out, std::string_view text) {
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
}

inline std::string log_text(const position& p) { return fmt::format("{}.{}", p.epoch, p.offset); }
/// As clients carry it: what `parse_cursor` reads.
inline std::string log_text(const cursor& c) {
  constexpr std::string_view words[] = {"", "latest", "earliest", "received"};
  std::string out;
  for (const start& s : c) {
    if (!out.empty()) out += ',';
    out += s.from == start::word::at ? log_text(s.at) : words[static_cast<std::size_t>(s.from)];
  }
  return out;
}
/// The wire's word, such as `too_large`.
inline std::string log_text(errc e) { return std::string(code_name(e)); }
inline std::string log_text(const failure& f) {
  std::string out = fmt::format("{}: ", code_name(f.code));
  append_line(out, f.text());
  if (f.retry_after > 0) fmt::format_to(std::back_inserter(out), " (again after {} s)", f.retry_after);
  return out;
}
/// `1006 by peer`, `1008 by server: forbidden: no more guests`.
inline std::string log_text(const close_reason& r) {
  std::string out = fmt::format("{} by {}", r.close_code, r.by_peer ? "peer" : "server");
  if (!r.by_peer && r.close_code != 1000) fmt::format_to(std::back_inserter(out), ": {}", code_name(r.code));
  if (!r.text.empty()) append_line(out += ": ", r.text);
  return out;
}
inline std::string log_text(log_level l) {
  constexpr std::string_view words[] = {"debug", "info", "warning", "error"};
  return std::string(words[static_cast<std::size_t>(l)]);
}
/// `warning accept_paused: too many open files`, with who and where it is known.
inline std::string log_text(const log_record& r) {
  std::string out = log_text(r.level) + ' ';
  append_line(out, r.event);
  const std::pair<std::string_view, std::string_view> known[] = {
      {" session=", r.session}, {" user=", r.user}, {" peer=", r.peer}};
  for (auto [name, value] : known)
    if (!value.empty()) append_line(out.append(name), value);
  if (r.code)
    append_line(out += " code=", r.code.category() == category() ? log_text(wire_code(r.code)) : r.code.message());
  if (!r.text.empty()) append_line(out += ": ", r.text);
  return out;
}
/// A JSON string; bytes that are no UTF-8 become U+FFFD, as a log must be readable whatever a client has sent.
inline void append_json(std::string& out, std::string_view name, std::string_view value) {
  out.append(out.empty() ? "{\"" : ",\"").append(name).append("\":");
  std::string text;
  while (!value.empty()) {
    std::size_t n = 1;
    while (n <= 4 && n <= value.size() && !proto::valid_utf8(value.substr(0, n))) ++n;
    const bool fine = n <= 4 && n <= value.size();
    text += fine ? value.substr(0, n) : std::string_view("\xEF\xBF\xBD");
    value.remove_prefix(fine ? n : 1);
  }
  proto::json::append_quoted(out, text);
}
inline std::string log_text(const session_key& k) { return fmt::format("{}:{}", k.slot, k.generation); }

/// Writes `T` as the text that `log_text` makes of it.
template <class T>
struct line_formatter : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const T& value, Context& context) const {
    const std::string text = log_text(value);
    return fmt::formatter<std::string_view>::format(std::string_view(text), context);
  }
};

}  // namespace hailwire::detail

namespace hailwire {

/// A record as one JSON object on one line:
/// `{"level":"debug","event":"refused","peer":"192.0.2.1:9","code":"forbidden", "text":"not allowed"}`; what is not
/// known is absent. `at` is when, in Unix milliseconds, if the host wants it there.
inline std::string log_json(const log_record& r, std::optional<std::int64_t> at = {}) {
  std::string out;
  detail::append_json(out, "level", detail::log_text(r.level));
  detail::append_json(out, "event", r.event);
  const std::pair<std::string_view, std::string_view> known[] = {
      {"session", r.session}, {"user", r.user}, {"peer", r.peer}};
  for (auto [name, value] : known)
    if (!value.empty()) detail::append_json(out, name, value);
  if (r.code)
    detail::append_json(out, "code",
                        r.code.category() == category() ? detail::log_text(wire_code(r.code)) : r.code.message());
  if (!r.text.empty()) detail::append_json(out, "text", r.text);
  if (at) fmt::format_to(std::back_inserter(out), ",\"at\":{}", *at);
  return out + '}';
}

}  // namespace hailwire

template <>
struct fmt::formatter<hailwire::position> : hailwire::detail::line_formatter<hailwire::position> {};
template <>
struct fmt::formatter<hailwire::cursor> : hailwire::detail::line_formatter<hailwire::cursor> {};
template <>
struct fmt::formatter<hailwire::errc> : hailwire::detail::line_formatter<hailwire::errc> {};
template <>
struct fmt::formatter<hailwire::failure> : hailwire::detail::line_formatter<hailwire::failure> {};
template <>
struct fmt::formatter<hailwire::close_reason> : hailwire::detail::line_formatter<hailwire::close_reason> {};
template <>
struct fmt::formatter<hailwire::log_level> : hailwire::detail::line_formatter<hailwire::log_level> {};
template <>
struct fmt::formatter<hailwire::log_record> : hailwire::detail::line_formatter<hailwire::log_record> {};
template <>
struct fmt::formatter<hailwire::session_key> : hailwire::detail::line_formatter<hailwire::session_key> {};
