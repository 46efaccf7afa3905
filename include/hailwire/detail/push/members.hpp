// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "hailwire/detail/base/vector.hpp"
#include "hailwire/proto/json.hpp"

namespace hailwire::detail {

/// The members of a JSON object, for what is read once: a client's words, a service's answer, a key file.
class json_members {
 public:
  /// Nothing is found in what is no object.
  explicit json_members(std::string_view text) {
    if (proto::json::read_object(text, all_, {.depth = 16, .members = 64})) all_.clear();
  }
  const proto::json::value* find(std::string_view name) const {
    for (const auto& m : all_)
      if (proto::json::name_is(m, name)) return &m.content;
    return nullptr;
  }
  /// A string, if it is there and one.
  std::optional<std::string> text(std::string_view name) const {
    auto* v = find(name);
    if (!v || v->type != proto::json::kind::string) return {};
    return proto::json::unescape(v->text);
  }
  /// The text of an object or array within; empty for anything else.
  std::string_view inner(std::string_view name) const {
    auto* v = find(name);
    if (!v || (v->type != proto::json::kind::object && v->type != proto::json::kind::array)) return {};
    return v->text;
  }

 private:
  vector<proto::json::member> all_;
};

}  // namespace hailwire::detail
