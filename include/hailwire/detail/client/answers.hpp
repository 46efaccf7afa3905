// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/json.hpp"

namespace hailwire::detail {

// What a server says, read into structs: messages, notices, what the `ok` of a command carries, and how it refuses.
// What is missing, or not what it has to be, is left as it was: a server may be newer, and none of this decides
// anything.

/// Calls `f(name, value)` for each member of an object; nothing where it is none.
template <class F>
void each_member(std::string_view json, F f) {
  vector<proto::json::member> members;
  if (proto::json::read_object(json, members)) return;
  for (const auto& m : members)
    if (const auto name = proto::json::unescape('"' + std::string(m.name) + '"')) f(*name, m.content);
}
/// Calls `f(json)` for each object of an array.
template <class F>
void each_object(const proto::json::value& list, F f) {
  vector<proto::json::value> values;
  if (list.type != proto::json::kind::array || proto::json::read_array(list.text, values)) return;
  for (const auto& v : values)
    if (v.type == proto::json::kind::object) f(v.text);
}
inline std::string text_in(const proto::json::value& v) {
  return v.type == proto::json::kind::string ? proto::json::unescape(v.text).value_or("") : std::string();
}
inline std::uint64_t number_in(const proto::json::value& v) { return proto::json::to_uint(v, max_offset).value_or(0); }

/// `{"epoch":"…","offset":42}`.
inline position read_position(std::string_view json) {
  position p;
  each_member(json, [&](std::string_view name, const proto::json::value& v) {
    if (name == "epoch") p.epoch = text_in(v);
    if (name == "offset") p.offset = number_in(v);
  });
  return p;
}

/// The offset of a message that stands in `channel`; 0 where it stands in none, or in another one.
inline std::uint64_t offset_in(std::string_view message, std::string_view channel) {
  bool here = false;
  std::uint64_t offset = 0;
  each_member(message, [&](std::string_view name, const proto::json::value& v) {
    if (name == "channel") here = text_in(v) == channel;
    if (name == "offset") offset = number_in(v);
  });
  return here ? offset : 0;
}

inline client_presence read_presence(std::string_view json) {
  client_presence out;
  each_member(json, [&](std::string_view name, const proto::json::value& v) {
    if (name == "count") out.count = number_in(v);
    if (name == "anonymous") out.anonymous = number_in(v);
    if (name == "more") out.more = v.text == "true";
    if (name != "members") return;
    each_object(v, [&](std::string_view one) {
      auto& m = out.members.emplace_back();
      each_member(one, [&](std::string_view of, const proto::json::value& x) {
        if (of == "user") m.user = text_in(x);
        if (of == "sessions") m.sessions = number_in(x);
        if (of == "info") m.info = x.text;
      });
    });
  });
  return out;
}

inline client_receipts read_receipts(std::string_view json) {
  client_receipts out;
  each_member(json, [&](std::string_view name, const proto::json::value& v) {
    if (name == "epoch") out.epoch = text_in(v);
    if (name == "head") out.head = number_in(v);
    if (name == "more") out.more = v.text == "true";
    if (name != "receipts") return;
    each_object(v, [&](std::string_view one) {
      auto& r = out.receipts.emplace_back();
      each_member(one, [&](std::string_view of, const proto::json::value& x) {
        if (of == "user") r.user = text_in(x);
        if (of == "received") r.received = number_in(x);
        if (of == "read") r.read = number_in(x);
      });
    });
  });
  return out;
}

/// The text of a string, read where it lies if it can be; `space` holds it else. Empty where it is none.
inline std::string_view view_in(const proto::json::value& v, std::string& space) {
  if (v.type != proto::json::kind::string) return {};
  const auto inner = v.text.substr(1, v.text.size() - 2);
  if (inner.find('\\') == inner.npos) return inner;
  space = proto::json::unescape(v.text).value_or("");
  return space;
}

/// What a message's members hold where they had to be decoded.
struct message_text {
  std::string channel, from, type, bytes, media, epoch;
};
/// Reads a message, `json`, from its members. False where its bytes are no base64. What is read lives in `json` and
/// `space`.
inline bool read_message(std::string_view json, const vector<proto::json::member>& members, client_message& m,
                         message_text& space) {
  m.json = json;
  for (auto& x : members) {
    const auto& v = x.content;
    if (name_is(x, "channel")) {
      m.channel = view_in(v, space.channel);
    } else if (name_is(x, "offset")) {
      m.offset = number_in(v);
    } else if (name_is(x, "at")) {
      m.at = static_cast<std::int64_t>(number_in(v));
    } else if (name_is(x, "data")) {
      m.data = v.text;
    } else if (name_is(x, "from")) {
      m.from = view_in(v, space.from);
    } else if (name_is(x, "type")) {
      m.type = view_in(v, space.type);
    } else if (name_is(x, "erased")) {
      m.erased = v.text == "true";
    } else if (name_is(x, "erases")) {
      m.erases = number_in(v);
    } else if (name_is(x, "size")) {
      m.size = number_in(v);
    } else if (name_is(x, "content_type")) {
      m.content_type = view_in(v, space.media);
    } else if (name_is(x, "epoch")) {
      m.epoch = view_in(v, space.epoch);
    } else if (name_is(x, "bytes")) {
      std::string coded;
      auto decoded = proto::decode_base64(view_in(v, coded));
      if (!decoded) return false;
      space.bytes = std::move(*decoded);
      m.bytes = space.bytes;
      m.binary = true;
    }
  }
  return true;
}

/// `join`, `leave` and `presence`.
inline void read_presence_change(const vector<proto::json::member>& members, client_presence_change& out,
                                 std::string& channel, std::string& user) {
  for (auto& x : members) {
    if (name_is(x, "channel")) out.channel = view_in(x.content, channel);
    if (name_is(x, "user")) out.user = view_in(x.content, user);
    if (name_is(x, "info")) out.info = x.content.text;
    if (name_is(x, "count")) out.count = number_in(x.content);
  }
}
inline void read_receipt(const vector<proto::json::member>& members, client_receipt& out, std::string& channel,
                         std::string& epoch, std::string& user) {
  for (auto& x : members) {
    if (name_is(x, "channel")) out.channel = view_in(x.content, channel);
    if (name_is(x, "epoch")) out.epoch = view_in(x.content, epoch);
    if (name_is(x, "user")) out.user = view_in(x.content, user);
    if (name_is(x, "received")) out.received = number_in(x.content);
    if (name_is(x, "read")) out.read = number_in(x.content);
  }
}

/// The error of the protocol's that has this word; none where there is no such error.
inline std::optional<errc> errc_of(std::string_view word) noexcept {
  for (auto e = errc::bad_request; e <= errc::http_version; e = static_cast<errc>(static_cast<int>(e) + 1))
    if (code_name(e) == word) return e;
  return {};
}
/// The word of an error of the protocol's; else what its code says.
inline std::string word_of(const client_error& e) {
  return e.code.category() == category() ? std::string(code_name(static_cast<errc>(e.code.value()))) : e.code.message();
}

/// An `error` object; `internal` where it says nothing that is known.
inline client_error read_error(std::string_view json) {
  client_error out(make_error_code(errc::internal));
  each_member(json, [&](std::string_view name, const proto::json::value& v) {
    if (name == "code")
      if (auto e = errc_of(text_in(v))) out.code = make_error_code(*e);
    if (name == "message") out.message = text_in(v);
    if (name == "retry_after") out.retry_after = static_cast<int>(proto::json::to_uint(v, 86'400).value_or(0));
  });
  return out;
}

/// `code` and `detail` of a problem document (RFC 9457), or a word for the status.
inline std::pair<std::string, std::string> read_problem(int status, std::string_view body) {
  std::pair<std::string, std::string> out("http_" + std::to_string(status), {});
  each_member(body, [&](std::string_view name, const proto::json::value& v) {
    if (v.type != proto::json::kind::string) return;
    if (name == "code") out.first = text_in(v);
    if (name == "detail" || name == "message") out.second = text_in(v);
  });
  return out;
}
/// The same as an error: by the word, else by the first error of this status, else `bad_request`.
inline client_error read_refusal(int status, std::string_view body) {
  auto [word, text] = read_problem(status, body);
  auto code = errc_of(word);
  for (auto e = errc::bad_request; !code && e <= errc::http_version; e = static_cast<errc>(static_cast<int>(e) + 1))
    if (http_status(e) == status) code = e;
  return {make_error_code(code.value_or(errc::bad_request)), text.empty() ? word : text};
}

}  // namespace hailwire::detail
