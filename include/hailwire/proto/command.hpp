// SPDX-License-Identifier: BSL-1.0
#pragma once

// Commands from the client and the answers to them: the same JSON objects on every transport. A command is read into a
// struct whose fields have been checked, so whoever carries it out looks only at what it means: who may, and whether
// the channel, epoch or offset exists.
//
// An object is a command when one of its members is: `{"id":1,"publish":{…}}`. Members that are not known are ignored,
// so that a newer client can talk to an older server; duplicate members and two commands in one object are refused,
// because two readers could take such an object for two different things.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/http_fields.hpp"
#include "hailwire/proto/json.hpp"

namespace hailwire::proto {

/// The longest `id` a command may have, in bytes as written: the server keeps it until it has answered.
inline constexpr std::size_t max_command_id = 64;

/// The most messages one `history` may ask for; as many as one answer to a poll holds.
inline constexpr std::uint64_t max_history = 1000;

/// One command, read and checked. The views look into the text that was read and are valid as long as it.
struct command {
  enum class verb : std::uint8_t {
    publish,
    subscribe,
    unsubscribe,
    history,
    presence,
    received,
    read,
    renew,
    device,
    ping,
    other,  ///< not one of the protocol's: the host may know it by `name`
  };

  std::string_view id;  ///< the JSON scalar as written, to be echoed; empty when there is none
  verb what = verb::other;
  std::string_view name;  ///< the command's name; of `verb::other` as written between its quotes
  std::string_view body;  ///< the JSON text of the command's value; an object, except that `verb::other` has any value

  std::string channel;    ///< a valid channel name; empty only where the verb takes none
  std::string_view data;  ///< publish: the payload's JSON text
  bool has_data = false;  ///< publish: exactly one of `has_data` and `has_bytes` is set
  std::string bytes;      ///< publish: the payload of `"bytes":"<base64>"`, decoded
  bool has_bytes = false;
  std::string type;                     ///< publish: the publisher's own word; empty when not given
  std::string key;                      ///< publish: the idempotency key; empty when not given
  bool ephemeral = false;               ///< publish: live or not at all
  std::optional<std::string> since;     ///< subscribe: a cursor of one element
  std::optional<std::uint64_t> before;  ///< history: only offsets below this one; never together with `after`
  std::optional<std::uint64_t> after;   ///< history: only offsets above this one; without both, the newest
  std::optional<std::uint64_t> limit;   ///< history: 1 to `max_history` messages
  std::optional<std::uint64_t> offset;  ///< received, read: the watermark
  std::optional<std::string> epoch;     ///< history: a valid epoch
  bool count = false;                   ///< presence: numbers alone
  std::string token;                    ///< renew
};

namespace detail {

struct verb_entry {
  std::string_view name;
  command::verb what;
};
inline constexpr verb_entry verbs[] = {
    {"publish", command::verb::publish},
    {"subscribe", command::verb::subscribe},
    {"unsubscribe", command::verb::unsubscribe},
    {"history", command::verb::history},
    {"presence", command::verb::presence},
    {"received", command::verb::received},
    {"read", command::verb::read},
    {"renew", command::verb::renew},
    {"device", command::verb::device},
    {"ping", command::verb::ping},
};

/// A payload may nest as deep as one that is published by itself, under the command and its arguments. 64 members: a
/// command has two and at most six arguments; the rest is room for what newer clients add.
inline constexpr json::limits command_limits{.depth = json::limits{}.depth + 2, .members = 64};

inline bool valid_command_id(const json::value& v) noexcept {
  return v.type != json::kind::object && v.type != json::kind::array && v.text.size() <= max_command_id;
}

inline failure unreadable(const json::error& why, std::size_t from) {
  std::string text = "the command cannot be read: ";
  text += why.what;
  text += " (byte ";
  append_decimal(text, from + why.at);
  text += ')';
  return {why.what == json::too_many_members ? errc::too_large : errc::bad_request, std::move(text)};
}

/// `json::name_is` for a word of the protocol, in which no backslash stands: a name of its size has no escapes either
/// when its bytes are the same.
inline bool reads(const json::member& m, std::string_view word) {
  if (m.name.size() == word.size()) return same_bytes(m.name, word);
  return m.name.size() > word.size() && json::name_is(m, word);
}

/// The arguments of one command. Each function reads the member `name` into `out` if it is there, and is false when it
/// is not what it has to be; the first that is false decides `why`.
class arguments {
 public:
  /// The members live longer.
  explicit arguments(const hailwire::detail::vector<json::member>& members) noexcept : members_(members) {}

  failure why;

  bool fail(std::string_view name, std::string_view wrong) {
    why.code = errc::bad_request;
    why.message.clear();
    why.message.append("\"").append(name).append("\" ").append(wrong);
    return false;
  }

  const json::value* find(std::string_view name) const {
    for (const json::member& m : members_)
      if (reads(m, name)) return &m.content;
    return nullptr;
  }

  bool text(std::string_view name, std::string& out, bool& found) {
    const json::value* v = find(name);
    found = v != nullptr;
    if (!v) return true;
    if (v->type != json::kind::string) return fail(name, "must be a string");
    std::string_view inner = v->text.substr(1, v->text.size() - 2);
    out.clear();
    return json::detail::append_unescaped(out, inner) || fail(name, "holds half of a surrogate pair");
  }

  bool flag(std::string_view name, bool& out) {
    const json::value* v = find(name);
    if (!v) return true;
    if (v->type != json::kind::boolean) return fail(name, "must be true or false");
    out = v->text == "true";
    return true;
  }

  bool number(std::string_view name, std::optional<std::uint64_t>& out, std::uint64_t min, std::uint64_t max) {
    const json::value* v = find(name);
    if (!v) return true;
    out = json::to_uint(*v, max);
    if (out && *out >= min) return true;
    std::string range = "must be a whole number from ";
    append_decimal(range, min);
    range += " to ";
    append_decimal(range, max);
    return fail(name, range);
  }

  bool channel(std::string& out) {
    bool found;
    if (!text("channel", out, found)) return false;
    if (!found) return fail("channel", "is missing");
    return valid_channel(out) ||
           fail("channel", "must be 1 to 255 bytes without control characters or line separators");
  }

 private:
  const hailwire::detail::vector<json::member>& members_;
};

/// Reads an object and, in the same pass, the members of the last one that stands directly in it: of a command that is
/// nearly always the one with its arguments.
class two_levels {
 public:
  two_levels(std::string_view text, hailwire::detail::vector<json::member>& outer,
             hailwire::detail::vector<json::member>& inner)
      : scan_(text, command_limits), text_(text), outer_(outer), inner_(inner) {
    outer.clear();
    inner.clear();
  }
  /// As `json::read_object` for the outer one.
  json::error read() {
    auto add = [&] {
      json::member m;
      if (!scan_.name(m.name) || !(scan_.sees('{') ? gather(m.content) : scan_.any(m.content))) return false;
      if (outer_.size() == command_limits.members) return scan_.fail(json::too_many_members);
      return outer_.push_back(m), true;
    };
    if (!scan_.each(true, add) || !scan_.finish()) return scan_.why();
    return doubles(outer_, text_);
  }
  /// As `json::read_object` for the value of one of its members, which is an object.
  json::error look_into(const json::member& m) {
    if (m.content.text.data() != gathered_.data()) return json::read_object(m.content.text, inner_, command_limits);
    return too_many_ ? json::error{json::too_many_members, too_many_} : doubles(inner_, gathered_);
  }

 private:
  bool gather(json::value& out) {
    const char* from = scan_.place();
    inner_.clear();
    too_many_ = 0;
    auto add = [&] {
      json::member m;
      if (!scan_.name(m.name) || !scan_.any(m.content)) return false;
      if (inner_.size() < command_limits.members) return inner_.push_back(m), true;
      if (!too_many_) too_many_ = static_cast<std::size_t>(scan_.place() - from);
      return true;
    };
    if (!scan_.each(true, add)) return false;
    out = {json::kind::object, gathered_ = {from, static_cast<std::size_t>(scan_.place() - from)}};
    return true;
  }
  json::error doubles(const hailwire::detail::vector<json::member>& members, std::string_view all) const {
    if (!json::detail::has_duplicates(members, scan_.names_escape())) return {};
    return {"two members have the same name", all.size()};
  }

  json::detail::scanner scan_;
  std::string_view text_, gathered_;
  hailwire::detail::vector<json::member>&outer_, &inner_;
  std::size_t too_many_ = 0;  // where the inner one has more than are taken
};

/// A publisher's word for a message: 1–64 bytes of UTF-8 that can be printed on one line.
inline bool valid_type(std::string_view s) noexcept { return !s.empty() && s.size() <= 64 && printable_utf8(s); }

/// An idempotency key: 1–64 visible ASCII characters.
inline bool valid_key(std::string_view s) noexcept {
  if (s.empty() || s.size() > 64) return false;
  for (char c : s)
    if (c < 0x21 || c > 0x7E) return false;
  return true;
}

inline bool read_publish(arguments& in, command& out) {
  bool found;
  if (!in.channel(out.channel)) return false;
  if (const json::value* data = in.find("data")) out.has_data = true, out.data = data->text;
  std::string base64;
  if (!in.text("bytes", base64, out.has_bytes)) return false;
  if (out.has_data && out.has_bytes) return in.fail("data", "and \"bytes\" exclude each other");
  if (!out.has_data && !out.has_bytes) return in.fail("data", "or \"bytes\" is missing");
  if (out.has_bytes) {
    auto bytes = decode_base64(base64);
    if (!bytes) return in.fail("bytes", "must be padded base64");
    out.bytes = std::move(*bytes);
  }
  if (!in.text("type", out.type, found)) return false;
  if (found && !valid_type(out.type))
    return in.fail("type", "must be 1 to 64 bytes without control characters or line separators");
  if (!in.text("key", out.key, found)) return false;
  if (found && !valid_key(out.key)) return in.fail("key", "must be 1 to 64 visible ASCII characters");
  if (!in.flag("ephemeral", out.ephemeral)) return false;
  // What is stored nowhere cannot be found again by its key.
  return !(out.ephemeral && found) || in.fail("key", "does not go with \"ephemeral\"");
}

inline bool read_subscribe(arguments& in, command& out) {
  bool found;
  std::string since;
  if (!in.channel(out.channel) || !in.text("since", since, found)) return false;
  if (!found) return true;
  auto cursor = parse_cursor(since, 1);
  if (!cursor) return in.why = cursor.error(), false;
  out.since = std::move(since);
  return true;
}

inline bool read_history(arguments& in, command& out) {
  bool found;
  std::string epoch;
  if (!in.channel(out.channel)) return false;
  if (!in.number("before", out.before, 0, max_offset) || !in.number("after", out.after, 0, max_offset)) return false;
  if (out.before && out.after) return in.fail("before", "and \"after\" exclude each other");
  if (!in.number("limit", out.limit, 1, max_history) || !in.text("epoch", epoch, found)) return false;
  if (!found) return true;
  if (!valid_epoch(epoch)) return in.fail("epoch", "must be 1 to 32 of A-Z a-z 0-9 _ -");
  out.epoch = std::move(epoch);
  return true;
}

inline bool read_watermark(arguments& in, command& out) {
  if (!in.channel(out.channel) || !in.number("offset", out.offset, 0, max_offset)) return false;
  return out.offset || in.fail("offset", "is missing");
}

inline bool read_renew(arguments& in, command& out) {
  bool found;
  if (!in.text("token", out.token, found)) return false;
  return found || in.fail("token", "is missing");
}

inline std::optional<failure> read_into(command& out, std::string_view json_text) {
  // In use only within this call, and never more than 64 each.
  static thread_local hailwire::detail::vector<json::member> members, inner;
  two_levels both(json_text, members, inner);
  if (auto bad = both.read()) return unreadable(bad, 0);

  const json::member* known = nullptr;
  const json::member* unknown = nullptr;
  std::size_t unknowns = 0;
  for (const json::member& m : members) {
    if (reads(m, "id")) {
      if (!valid_command_id(m.content))
        return failure(errc::bad_request, "\"id\" must be a string, number, true, false or null of at most 64 bytes");
      out.id = m.content.text;
      continue;
    }
    const verb_entry* entry = nullptr;
    for (const auto& e : verbs)
      if (reads(m, e.name)) {
        entry = &e;
        break;
      }
    if (!entry) {
      unknown = &m;
      ++unknowns;
      continue;
    }
    if (known)
      return failure(errc::bad_request, "\"" + std::string(out.name) + "\" and \"" + std::string(entry->name) +
                                            "\" are two commands in one object");
    known = &m;
    out.what = entry->what;
    out.name = entry->name;
  }
  if (!known) {
    if (unknowns != 1)
      return failure(errc::bad_request,
                     unknowns ? "none of the object's members is a command" : "the object holds no command");
    out.name = unknown->name;
    out.body = unknown->content.text;
    return {};
  }
  if (known->content.type != json::kind::object)
    return failure(errc::bad_request, "\"" + std::string(out.name) + "\" must be an object");
  out.body = known->content.text;

  if (auto bad = both.look_into(*known))
    return unreadable(bad, static_cast<std::size_t>(out.body.data() - json_text.data()));
  arguments in(inner);
  bool good = true;
  switch (out.what) {
    case command::verb::publish:
      good = read_publish(in, out);
      break;
    case command::verb::subscribe:
      good = read_subscribe(in, out);
      break;
    case command::verb::unsubscribe:
      good = in.channel(out.channel);
      break;
    case command::verb::history:
      good = read_history(in, out);
      break;
    case command::verb::presence:
      good = in.channel(out.channel) && in.flag("count", out.count);
      break;
    case command::verb::received:
    case command::verb::read:
      good = read_watermark(in, out);
      break;
    case command::verb::renew:
      good = read_renew(in, out);
      break;
    case command::verb::device:
    case command::verb::ping:
    case command::verb::other:
      break;
  }
  if (!good) return std::move(in.why);
  return {};
}

/// What a failure says, quoted. A host's text that is not UTF-8 must not break the object around it.
inline void append_reason(std::string& out, const failure& why) {
  json::append_quoted(out, valid_utf8(why.text()) ? why.text() : hailwire::detail::facts(why.code).phrase);
}

}  // namespace detail

/// Reads one command. What it gives looks into `json_text`. Fails with `bad_request` and a sentence that names the
/// member at fault, or with `too_large` when the object or the command's value has more than 64 members. Takes any
/// bytes.
///
/// The value of `device` is only known to be an object: what stands in it depends on the push service it names.
inline result<command> read_command(std::string_view json_text) {
  result<command> out(std::in_place);  // filled where it is returned: a command is half a kilobyte
  if (auto why = detail::read_into(*out, json_text)) out = std::move(*why);
  return out;
}

/// The `id` to answer a text with that `read_command` refused, as written; empty when there is none, when it is no
/// scalar of at most 64 bytes, or when there are several. Where the text stops being JSON, what came before it counts.
inline std::string_view command_id(std::string_view json_text) {
  hailwire::detail::vector<json::member> members;
  json::read_object(json_text, members, detail::command_limits);
  std::string_view id;
  for (const json::member& m : members) {
    if (!detail::reads(m, "id")) continue;
    if (!id.empty() || !detail::valid_command_id(m.content)) return {};
    id = m.content.text;
  }
  return id;
}

/// Appends `{"reply":ID,"ok":…}`. `id` as `read_command` gave it, empty for `null`; `ok_json` is a JSON text.
inline void append_reply_ok(std::string& out, std::string_view id, std::string_view ok_json) {
  out.append("{\"reply\":").append(id.empty() ? "null" : id).append(",\"ok\":").append(ok_json).append("}");
}

/// Appends `{"reply":ID,"error":{"code":"…","message":"…"}}`, with `retry_after` in seconds where it is known. `id` as
/// `read_command` or `command_id` gave it, empty for `null`.
inline void append_reply_error(std::string& out, std::string_view id, const failure& why) {
  out.append("{\"reply\":")
      .append(id.empty() ? "null" : id)
      .append(",\"error\":{\"code\":\"")
      .append(code_name(why.code))
      .append("\",\"message\":");
  detail::append_reason(out, why);
  if (why.retry_after > 0) {
    out += ",\"retry_after\":";
    append_decimal(out, static_cast<std::uint64_t>(why.retry_after));
  }
  out += "}}";
}

/// Appends the problem document of `why` (RFC 9457), the body of an HTTP error: `application/problem+json`.
inline void append_problem(std::string& out, const failure& why) {
  int status = http_status(why.code);
  // The title of a problem whose type is `about:blank` is its status's phrase (RFC 9457, section 4.2.1).
  out.append("{\"type\":\"about:blank\",\"title\":\"").append(http1::reason_phrase(status)).append("\",\"status\":");
  append_decimal(out, static_cast<std::uint64_t>(status));
  out.append(",\"code\":\"").append(code_name(why.code)).append("\",\"detail\":");
  detail::append_reason(out, why);
  out += '}';
}

/// The least time after which a client is to come back, in milliseconds; never none.
inline std::uint64_t bye_wait(int retry_after_seconds) noexcept {
  return static_cast<std::uint64_t>(retry_after_seconds < 1 ? 1 : retry_after_seconds) * 1000;
}

/// Appends the `bye` of a server that will serve this client again, at a random time between the two that it names.
inline void append_bye_object(std::string& out, errc why, int retry_after_seconds) {
  const std::uint64_t wait = bye_wait(retry_after_seconds);
  out.append("{\"bye\":{\"code\":\"").append(code_name(why)).append("\",\"reconnect\":true,\"after\":[");
  append_decimal(out, wait);
  out += ',';
  append_decimal(out, 2 * wait);
  out += "]}}";
}

/// Appends what an event stream is told that ends for a reason that will pass: `retry`, which is all that an
/// EventSource heeds, and a `bye` with a span of time to come back within, so that not all who were told come at once.
/// At least a second. One block: several clients take a block without data for an empty event.
inline void append_bye(std::string& out, errc why, int retry_after_seconds) {
  out += "retry: ";
  append_decimal(out, bye_wait(retry_after_seconds));
  out += "\nevent: bye\ndata: ";
  append_bye_object(out, why, retry_after_seconds);
  out += "\n\n";
}

}  // namespace hailwire::proto
