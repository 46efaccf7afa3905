// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/json.hpp"

namespace hailwire::detail {

// What the `ok` of a command carries, read into structs. What is missing, or not what it has to be, is left as it was:
// a server may be newer, and none of this decides anything.

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

}  // namespace hailwire::detail
