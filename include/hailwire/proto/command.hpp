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

/// The most channels that one `subscribe` may name; a server allows far fewer by default.
inline constexpr std::size_t max_subscribe_channels = 1024;

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
    receipts,
    read,
    renew,
    device,
    erase,
    ping,
    other,  ///< not one of the protocol's: the host may know it by `name`
  };

  std::string_view id;  ///< the JSON scalar as written, to be echoed; empty when there is none
  verb what = verb::other;
  std::string_view name;  ///< the command's name; of `verb::other` as written between its quotes
  std::string_view body;  ///< the JSON text of the command's value; an object, except that `verb::other` has any value

  std::string channel;    ///< a valid channel name; empty only where the verb takes none or names several
  std::string_view data;  ///< publish: the payload's JSON text
  bool has_data = false;  ///< publish: one of `has_data` and `has_bytes` is set, or, with `content`, neither
  std::string bytes;      ///< publish: the payload of `"bytes":"<base64>"`, decoded
  bool has_bytes = false;
  std::string type;                     ///< publish: the publisher's own word; empty when not given
  std::string key;                      ///< publish: the idempotency key; empty when not given
  bool ephemeral = false;               ///< publish: live or not at all
  std::string content;                  ///< publish: the upload that it names; empty: none
  std::optional<std::string> since;     ///< subscribe: a cursor for that channel, or for all of `channels`
  std::optional<std::uint64_t> before;  ///< history: only offsets below this one; never together with `after`
  std::optional<std::uint64_t> after;   ///< history: only offsets above this one; without both, the newest
  std::optional<std::uint64_t> limit;   ///< history: 1 to `max_history` messages
  std::optional<std::uint64_t> offset;  ///< received, read: the watermark; erase: the message, from 1
  std::optional<std::string> epoch;     ///< history, erase, received, read: a valid epoch
  bool is_private = false;              ///< read: told to nobody but the user's own devices
  bool count = false;                   ///< presence: numbers alone
  std::string token;                    ///< renew
  /// subscribe: several valid names, no two alike, in place of `channel`
  hailwire::detail::vector<std::string> channels;
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
    {"receipts", command::verb::receipts},
    {"read", command::verb::read},
    {"renew", command::verb::renew},
    {"device", command::verb::device},
    {"erase", command::verb::erase},
    {"ping", command::verb::ping},
};

/// A payload may nest as deep as one that is published by itself, under the command and its arguments. 64 members: a
/// command has two and at most six arguments; the rest is room for what newer clients add.
inline constexpr json::limits command_limits{.depth = json::limits{}.depth + 2, .members = 64};

inline bool valid_command_id(const json::value& v) noexcept {
  return v.type != json::kind::object && v.type != json::kind::array && v.text.size() <= max_command_id;
}

failure unreadable(const json::error& why, std::size_t from);

/// `json::name_is` for a word of the protocol, in which no backslash stands: a name of its size has no escapes either
/// when its bytes are the same.
bool reads(const json::member& m, std::string_view word);

/// The arguments of one command. Each function reads the member `name` into `out` if it is there, and is false when it
/// is not what it has to be; the first that is false decides `why`.
class arguments {
 public:
  /// The members live longer.
  explicit arguments(const hailwire::detail::vector<json::member>& members) noexcept : members_(members) {}

  failure why;

  bool fail(std::string_view name, std::string_view wrong);

  const json::value* find(std::string_view name) const;

  bool text(std::string_view name, std::string& out, bool& found);

  bool flag(std::string_view name, bool& out);

  bool number(std::string_view name, std::optional<std::uint64_t>& out, std::uint64_t min, std::uint64_t max);

  bool channel(std::string& out);

  /// `channels`, where it is there: at least one name, none twice.
  bool channels(hailwire::detail::vector<std::string>& out);

 private:
  const hailwire::detail::vector<json::member>& members_;
};

/// Reads an object and, in the same pass, the members of the last one that stands directly in it: of a command that is
/// nearly always the one with its arguments.
class two_levels {
 public:
  two_levels(std::string_view text, hailwire::detail::vector<json::member>& outer,
             hailwire::detail::vector<json::member>& inner);
  /// As `json::read_object` for the outer one.
  json::error read();
  /// As `json::read_object` for the value of one of its members, which is an object.
  json::error look_into(const json::member& m);

 private:
  bool gather(json::value& out);
  /// Reads a member and adds it; of the outermost object with the members of its value, if that is an object.
  bool member_into(hailwire::detail::vector<json::member>& to, bool outermost);
  json::error doubles(const hailwire::detail::vector<json::member>& members, std::string_view all) const;

  json::detail::scanner scan_;
  std::string_view text_, gathered_;
  hailwire::detail::vector<json::member>&outer_, &inner_;
  std::size_t too_many_ = 0;  // where the inner one has more than are taken
};

/// A publisher's word for a message: 1–64 bytes of UTF-8 that can be printed on one line.
inline bool valid_type(std::string_view s) noexcept { return !s.empty() && s.size() <= 64 && printable_utf8(s); }

/// An idempotency key: 1–64 visible ASCII characters.
bool valid_key(std::string_view s) noexcept;

bool read_publish(arguments& in, command& out);

bool read_subscribe(arguments& in, command& out);

bool read_history(arguments& in, command& out);

bool read_watermark(arguments& in, command& out);

bool read_renew(arguments& in, command& out);

std::optional<failure> read_into(command& out, std::string_view json_text);

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
result<command> read_command(std::string_view json_text);

/// The `id` to answer a text with that `read_command` refused, as written; empty when there is none, when it is no
/// scalar of at most 64 bytes, or when there are several. Where the text stops being JSON, what came before it counts.
std::string_view command_id(std::string_view json_text);

/// Appends `{"reply":ID,"ok":…}`. `id` as `read_command` gave it, empty for `null`; `ok_json` is a JSON text.
inline void append_reply_ok(std::string& out, std::string_view id, std::string_view ok_json) {
  out.append("{\"reply\":").append(id.empty() ? "null" : id).append(",\"ok\":").append(ok_json).append("}");
}

/// Appends `{"reply":ID,"error":{"code":"…","message":"…"}}`, with `retry_after` in seconds where it is known. `id` as
/// `read_command` or `command_id` gave it, empty for `null`.
void append_reply_error(std::string& out, std::string_view id, const failure& why);

/// Appends the problem document of `why` (RFC 9457), the body of an HTTP error: `application/problem+json`.
void append_problem(std::string& out, const failure& why);

/// The least time after which a client is to come back, in milliseconds; never none.
inline std::uint64_t bye_wait(int retry_after_seconds) noexcept {
  return static_cast<std::uint64_t>(retry_after_seconds < 1 ? 1 : retry_after_seconds) * 1000;
}

/// Appends the `bye` of a server that will serve this client again, at a random time between the two that it names, in
/// milliseconds, and, if it is not empty, at `url`.
void append_bye_object(std::string& out, errc why, std::uint64_t from, std::uint64_t to, std::string_view url = {});
/// The same between `retry_after_seconds`, at least one, and the double of it.
inline void append_bye_object(std::string& out, errc why, int retry_after_seconds) {
  append_bye_object(out, why, bye_wait(retry_after_seconds), 2 * bye_wait(retry_after_seconds));
}

/// Appends what an event stream is told that ends for a reason that will pass: `retry`, which is all that an
/// EventSource heeds, and `bye`, a whole object. `wait` lies within its span of time. One block: several clients take
/// a block without data for an empty event.
void append_bye(std::string& out, std::string_view bye, std::uint64_t wait);

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/command.ipp"
#endif
