// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/command.hpp"

namespace hailwire::proto::detail {

HAILWIRE_INLINE failure unreadable(const json::error& why, std::size_t from) {
  std::string text = "the command cannot be read: ";
  text += why.what;
  text += " (byte ";
  append_decimal(text, from + why.at);
  text += ')';
  return {why.what == json::too_many_members ? errc::too_large : errc::bad_request, std::move(text)};
}

HAILWIRE_INLINE bool reads(const json::member& m, std::string_view word) {
  const char first = *m.name.data();  // of an empty name its closing quote
  if (first != word[0] && first != '\\') return false;
  if (m.name.size() == word.size()) return same_bytes(m.name, word);
  return m.name.size() > word.size() && json::name_is(m, word);
}

HAILWIRE_INLINE bool arguments::fail(std::string_view name, std::string_view wrong) {
  why.code = errc::bad_request;
  why.message.clear();
  why.message.append("\"").append(name).append("\" ").append(wrong);
  return false;
}

HAILWIRE_INLINE const json::value* arguments::find(std::string_view name) const {
  for (const json::member& m : members_)
    if (reads(m, name)) return &m.content;
  return nullptr;
}

HAILWIRE_INLINE bool arguments::text(std::string_view name, std::string& out, bool& found) {
  const json::value* v = find(name);
  found = v != nullptr;
  if (!v) return true;
  if (v->type != json::kind::string) return fail(name, "must be a string");
  std::string_view inner = v->text.substr(1, v->text.size() - 2);
  if (!v->escapes) return out = inner, true;
  out.clear();
  return json::detail::append_unescaped(out, inner) || fail(name, "holds half of a surrogate pair");
}

HAILWIRE_INLINE bool arguments::flag(std::string_view name, bool& out) {
  const json::value* v = find(name);
  if (!v) return true;
  if (v->type != json::kind::boolean) return fail(name, "must be true or false");
  out = v->text == "true";
  return true;
}

HAILWIRE_INLINE bool arguments::number(std::string_view name, std::optional<std::uint64_t>& out, std::uint64_t min,
                                       std::uint64_t max) {
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

HAILWIRE_INLINE bool arguments::channel(std::string& out) {
  bool found;
  if (!text("channel", out, found)) return false;
  if (!found) return fail("channel", "is missing");
  return valid_channel(out) || fail("channel", "must be 1 to 255 bytes without control characters or line separators");
}

HAILWIRE_INLINE bool arguments::channels(hailwire::detail::vector<std::string>& out) {
  const json::value* v = find("channels");
  if (!v) return true;
  if (v->type != json::kind::array) return fail("channels", "must be an array of strings");
  hailwire::detail::vector<json::value> names;
  if (auto bad = json::read_array(v->text, names, {.members = max_subscribe_channels}))
    return fail("channels", bad.what == json::too_many_members ? "has too many elements" : "cannot be read");
  if (names.empty()) return fail("channels", "must name at least one");
  for (const json::value& one : names) {
    std::string& name = out.emplace_back();
    if (one.type != json::kind::string) return fail("channels", "must be an array of strings");
    if (!json::detail::append_unescaped(name, one.text.substr(1, one.text.size() - 2)) || !valid_channel(name))
      return fail("channels", "must each be 1 to 255 bytes without control characters or line separators");
  }
  hailwire::detail::vector<std::string_view> sorted;
  sorted.reserve(out.size());
  for (const std::string& name : out) sorted.push_back(name);
  std::make_heap(sorted.begin(), sorted.end());  // with `sort_heap` a third of the code of `sort`
  std::sort_heap(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end() || fail("channels", "must differ");
}

HAILWIRE_INLINE two_levels::two_levels(std::string_view text, hailwire::detail::vector<json::member>& outer,
                                       hailwire::detail::vector<json::member>& inner)
    : scan_(text, command_limits), text_(text), outer_(outer), inner_(inner) {
  outer.clear();
  inner.clear();
}

HAILWIRE_INLINE json::error two_levels::read() {
  auto add = [&] {
    if (!member_into(outer_, true)) return false;
    return outer_.size() <= command_limits.members || (outer_.pop_back(), scan_.fail(json::too_many_members));
  };
  if (!scan_.each(true, add) || !scan_.finish()) return scan_.why();
  return doubles(outer_, text_);
}

HAILWIRE_INLINE bool two_levels::member_into(hailwire::detail::vector<json::member>& to, bool outermost) {
  json::member& m = to.emplace_back();  // filled where it stays
  if (scan_.name(m.name) && (outermost && scan_.sees('{') ? gather(m.content) : scan_.any(m.content))) return true;
  return to.pop_back(), false;
}

HAILWIRE_INLINE json::error two_levels::look_into(const json::member& m) {
  if (m.content.text.data() != gathered_.data()) return json::read_object(m.content.text, inner_, command_limits);
  return too_many_ ? json::error{json::too_many_members, too_many_} : doubles(inner_, gathered_);
}

HAILWIRE_INLINE bool two_levels::gather(json::value& out) {
  const char* from = scan_.place();
  inner_.clear();
  too_many_ = 0;
  auto add = [&] {
    if (!member_into(inner_, false)) return false;
    if (inner_.size() <= command_limits.members) return true;
    inner_.pop_back();
    if (!too_many_) too_many_ = static_cast<std::size_t>(scan_.place() - from);
    return true;
  };
  if (!scan_.each(true, add)) return false;
  out = {json::kind::object, gathered_ = {from, static_cast<std::size_t>(scan_.place() - from)}};
  return true;
}

HAILWIRE_INLINE json::error two_levels::doubles(const hailwire::detail::vector<json::member>& members,
                                                std::string_view all) const {
  if (!json::detail::has_duplicates(members, scan_.names_escape())) return {};
  return {"two members have the same name", all.size()};
}

HAILWIRE_INLINE bool valid_key(std::string_view s) noexcept {
  if (s.empty() || s.size() > 64) return false;
  for (char c : s)
    if (c < 0x21 || c > 0x7E) return false;
  return true;
}

HAILWIRE_INLINE bool read_publish(arguments& in, command& out) {
  bool found;
  if (!in.channel(out.channel)) return false;
  if (const json::value* data = in.find("data")) out.has_data = true, out.data = data->text;
  std::string base64;
  if (!in.text("bytes", base64, out.has_bytes)) return false;
  if (out.has_data && out.has_bytes) return in.fail("data", "and \"bytes\" exclude each other");
  if (!in.text("content", out.content, found)) return false;
  if (found && !valid_content_id(out.content)) return in.fail("content", "must be 1 to 64 of A-Z a-z 0-9 _ -");
  if (!out.has_data && !out.has_bytes && !found) return in.fail("data", "or \"bytes\" is missing");
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
  if (out.ephemeral && found) return in.fail("key", "does not go with \"ephemeral\"");
  return !(out.ephemeral && !out.content.empty()) || in.fail("content", "does not go with \"ephemeral\"");
}

HAILWIRE_INLINE bool read_subscribe(arguments& in, command& out) {
  bool found;
  std::string since;
  if (in.find("channels")) {
    if (in.find("channel")) return in.fail("channel", "and \"channels\" exclude each other");
    if (!in.channels(out.channels)) return false;
  } else if (!in.channel(out.channel)) {
    return false;
  }
  if (!in.text("since", since, found)) return false;
  if (!found) return true;
  auto cursor = parse_cursor(since, std::max<std::size_t>(1, out.channels.size()));
  if (!cursor) return in.why = cursor.error(), false;
  out.since = std::move(since);
  return true;
}

HAILWIRE_INLINE bool read_history(arguments& in, command& out) {
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

HAILWIRE_INLINE bool read_watermark(arguments& in, command& out) {
  bool found;
  std::string epoch;
  if (!in.channel(out.channel) || !in.number("offset", out.offset, 0, max_offset)) return false;
  if (!out.offset) return in.fail("offset", "is missing");
  if (!in.text("epoch", epoch, found)) return false;
  if (!found) return in.fail("epoch", "is missing");
  if (!valid_epoch(epoch)) return in.fail("epoch", "must be 1 to 32 of A-Z a-z 0-9 _ -");
  out.epoch = std::move(epoch);
  return out.what != command::verb::read || in.flag("private", out.is_private);
}

HAILWIRE_INLINE bool read_erase(arguments& in, command& out) {
  bool found;
  std::string epoch;
  if (!in.channel(out.channel) || !in.number("offset", out.offset, 1, max_offset)) return false;
  if (!out.offset) return in.fail("offset", "is missing");
  if (!in.text("epoch", epoch, found)) return false;
  if (!found) return in.fail("epoch", "is missing");
  if (!valid_epoch(epoch)) return in.fail("epoch", "must be 1 to 32 of A-Z a-z 0-9 _ -");
  out.epoch = std::move(epoch);
  return true;
}

HAILWIRE_INLINE bool read_renew(arguments& in, command& out) {
  bool found;
  if (!in.text("token", out.token, found)) return false;
  return found || in.fail("token", "is missing");
}

HAILWIRE_INLINE std::optional<failure> read_into(command& out, std::string_view json_text) {
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
    case command::verb::receipts:
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
    case command::verb::erase:
      good = read_erase(in, out);
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

}  // namespace hailwire::proto::detail

namespace hailwire::proto {

HAILWIRE_INLINE result<command> read_command(std::string_view json_text) {
  result<command> out(std::in_place);  // filled where it is returned: a command is half a kilobyte
  if (auto why = detail::read_into(*out, json_text)) out = std::move(*why);
  return out;
}

HAILWIRE_INLINE std::string_view command_id(std::string_view json_text) {
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

HAILWIRE_INLINE void append_reply_error(std::string& out, std::string_view id, const failure& why) {
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

HAILWIRE_INLINE void append_problem(std::string& out, const failure& why) {
  int status = http_status(why.code);
  // The title of a problem whose type is `about:blank` is its status's phrase (RFC 9457, section 4.2.1).
  out.append("{\"type\":\"about:blank\",\"title\":\"").append(http1::reason_phrase(status)).append("\",\"status\":");
  append_decimal(out, static_cast<std::uint64_t>(status));
  out.append(",\"code\":\"").append(code_name(why.code)).append("\",\"detail\":");
  detail::append_reason(out, why);
  out += '}';
}

HAILWIRE_INLINE void append_bye_object(std::string& out, errc why, std::uint64_t from, std::uint64_t to,
                                       std::string_view url) {
  out.append("{\"bye\":{\"code\":\"").append(code_name(why)).append("\",\"reconnect\":true,\"after\":[");
  append_decimal(out, from);
  out += ',';
  append_decimal(out, to);
  out += ']';
  if (!url.empty()) json::append_quoted(out += ",\"url\":", url);
  out += "}}";
}

HAILWIRE_INLINE void append_bye(std::string& out, std::string_view bye, std::uint64_t wait) {
  out += "retry: ";
  append_decimal(out, wait);
  out.append("\nevent: bye\ndata: ").append(bye).append("\n\n");
}

}  // namespace hailwire::proto
