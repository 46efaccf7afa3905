// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a client hears: each object of the server, on whatever transport.

#include "hailwire/detail/client/machine.hpp"

namespace hailwire::detail {

inline bool client_machine::hear(std::string_view json) {
  const client_link* mine = link_.get();
  // One a thread, for its memory; another client that is heard within a handler of this one's makes its own.
  static thread_local vector<proto::json::member> spare;
  vector<proto::json::member> members;
  members.swap(spare);
  const bool fine = !proto::json::read_object(json, members);
  if (fine) {
    take(json, members);
  } else {
    lose("bad_answer", 0, "the server sent something that is no JSON object");
  }
  members.clear();
  members.swap(spare);
  return link_.get() == mine;
}

inline bool client_machine::hear_poll(std::string_view json, bool& more, bool& some) {
  if (renamed_) return renew_link(), false;  // its cursor says where other channels stand
  const client_link* mine = link_.get();
  vector<proto::json::member> members;
  vector<proto::json::value> messages, notices;
  std::optional<std::string> reached;
  bool fine = !proto::json::read_object(json, members);
  for (auto& m : members) {
    if (name_is(m, "messages")) fine = fine && !proto::json::split_array(m.content.text, messages, poll_limits);
    if (name_is(m, "notices")) fine = fine && !proto::json::split_array(m.content.text, notices, poll_limits);
    if (name_is(m, "cursor")) reached = proto::json::unescape(m.content.text);
    if (name_is(m, "ticket")) given().ticket = proto::json::unescape(m.content.text).value_or("");
    if (name_is(m, "more")) more = m.content.text == "true";
  }
  auto ends = fine && reached ? parse_cursor(*reached, places_.size(), reached->size())
                              : result<hailwire::cursor>(errc::bad_request);
  if (!ends) return lose("bad_answer", 0, "a poll's answer could not be read"), false;
  some = !messages.empty() || !notices.empty();
  const std::vector<std::string> names = channels();
  auto each = [&](auto f) {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (auto* at = places_.find(names[i]); at && (*ends)[i].from == hailwire::start::word::at) f(*at, (*ends)[i].at);
  };
  // A place without an epoch stands before the first of its messages here, or where the answer ends: a handler that
  // throws at another channel's message leaves it there.
  each([&](client_places::place& f, const position& p) {
    if (!f.epoch.empty()) return;
    f.epoch = p.epoch;
    f.offset = p.offset;
    for (std::size_t i = messages.size(); i-- > 0;)
      if (const std::uint64_t offset = offset_in(messages[i].text, f.name)) f.offset = offset - 1;
  });
  auto is_bye = [](const proto::json::value& v) { return v.text.starts_with("{\"bye\""); };
  for (auto& v : notices)
    if (!is_bye(v) && !hear(v.text)) return false;
  for (auto& v : messages)
    if (!hear(v.text)) return false;
  each([&](client_places::place& f, const position& p) { places_.move(f, p.epoch, p.offset); });
  for (auto& v : notices)
    if (is_bye(v) && !hear(v.text)) return false;
  return link_.get() == mine;
}

inline void client_machine::answered(std::uint64_t id, const client_error& error, std::string_view ok) {
  if (error && error.code.category() == category() && commands_.again(id, static_cast<errc>(error.code.value())))
    return pause(std::int64_t{1000} * error.retry_after);
  commands_.answer(id, error, ok);
}

inline void client_machine::take(std::string_view json, const object& all) {
  if (all.empty()) return;
  const auto& first = all[0];
  if (name_is(first, "channel")) return deliver(json, all);
  for (auto& m : all) {
    if (name_is(m, "reply")) return reply(all);
    if (name_is(m, "channel")) return deliver(json, all);
  }
  notice(first);
}

inline void client_machine::deliver(std::string_view json, const object& all) {
  message_text space;
  client_message m;
  if (!read_message(json, all, m, space)) return lose("bad_answer", 0, "a message's bytes are no base64");
  auto* at = places_.find(m.channel);
  if (!at || at->awaited) return;  // of a channel that is followed no longer, or anew
  if (m.offset && !at->epoch.empty() && m.offset <= at->offset) return;
  const std::string life = at->epoch;
  if (m.epoch.empty()) m.epoch = life;
  if (on.message) on.message(m);
  if (!m.offset) return;
  at = places_.find(m.channel);  // the handler may have done anything
  if (at && at->epoch == life && m.offset > at->offset) places_.move(*at, life, m.offset);
}

inline void client_machine::reply(const object& all) {
  std::uint64_t id = 0;
  client_error error;
  std::string_view ok = "{}";
  for (auto& m : all) {
    // Without an id it is about a command that could not be read: answers come in order, so about the oldest.
    if (name_is(m, "reply")) id = m.content.type == proto::json::kind::null ? commands_.oldest() : number_in(m.content);
    if (name_is(m, "ok")) ok = m.content.text;
    if (name_is(m, "error")) error = read_error(m.content.text);
  }
  answered(id, error, ok);
}

inline void client_machine::notice(const proto::json::member& m) {
  if (name_is(m, "ping")) return;
  object all;
  const bool fine = !proto::json::read_object(m.content.text, all);
  std::string space;
  if (name_is(m, "open") && fine) {
    if (renamed_) return renew_link();  // it says where channels stand that are left by now, or followed anew
    std::int64_t heartbeat = 25;
    for (auto& x : all) {
      if (name_is(x, "heartbeat"))
        heartbeat = std::clamp<std::int64_t>(static_cast<std::int64_t>(number_in(x.content)), 1, 86'400);
      if (name_is(x, "keys"))
        commands_.keys_live(static_cast<std::int64_t>(std::min<std::uint64_t>(number_in(x.content), 86'400)));
      if (name_is(x, "ticket")) given().ticket = view_in(x.content, space);
      // A link that carries commands is known by itself; a post has to name it.
      if (name_is(x, "session") && link_ && !link_->carries_commands()) given().session = view_in(x.content, space);
      if (name_is(x, "channels")) places_.take_entries(x.content.text);
    }
    beat_ = heartbeat * 1000;
    const client_link* mine = link_.get();
    tell_notice("open", m.content.text);
    if (link_ && link_.get() == mine) opened();
    return;
  }
  if (name_is(m, "gap") && fine) {
    client_gap gap;
    std::string channel, reason, epoch;
    for (auto& x : all) {
      if (name_is(x, "channel")) gap.channel = view_in(x.content, channel);
      if (name_is(x, "reason")) gap.reason = view_in(x.content, reason);
      if (name_is(x, "epoch")) gap.epoch = view_in(x.content, epoch);
      if (name_is(x, "next")) gap.next = number_in(x.content);
    }
    auto* at = places_.find(gap.channel);
    if (!at || at->awaited || !valid_epoch(gap.epoch) || gap.next == 0) return;
    if (at->epoch != gap.epoch) commands_.forget_marks(gap.channel);
    places_.move(*at, gap.epoch, gap.next - 1, true);
    if (on.gap) on.gap(gap);
    return;
  }
  if (name_is(m, "followed") && fine) {
    for (auto& x : all) {
      auto name = proto::json::unescape('"' + std::string(x.name) + '"');
      if (!name || !valid_channel(*name)) continue;
      if (!places_.find(*name) && places_.size() < most_followed) places_.add(*name, {});
      if (auto* at = places_.find(*name)) places_.take_entry(*at, x.content.text);
    }
  }
  if (name_is(m, "closed") && fine)
    for (auto& x : all)
      if (name_is(x, "channel")) places_.erase(std::string(view_in(x.content, space)));
  std::int64_t expires = -1;
  if (name_is(m, "expiring") && fine)
    for (auto& x : all)
      if (name_is(x, "seconds"))
        expires = static_cast<std::int64_t>(std::min<std::uint64_t>(number_in(x.content), 86'400));
  const client_link* mine = link_.get();
  if (fine) tell_of_others(m, all);
  if (link_.get() != mine) return;
  tell_notice(m.name, m.content.text);
  if (link_.get() != mine) return;
  // A token that itself ends within the server's notice would be asked for without a pause.
  if (expires >= 0) renew_at_ = now() + std::min<std::int64_t>(steady, std::max<std::int64_t>(brief, expires * 500));
  if (name_is(m, "bye") && fine) farewell(all);
}

// What the other followers do: told to handlers of their own.
inline void client_machine::tell_of_others(const proto::json::member& m, const object& all) {
  using kind = client_presence_change::kind;
  if (!on.about_others) return;
  auto& to = *on.about_others;
  const bool joins = name_is(m, "join"), leaves = name_is(m, "leave");
  if (to.presence && (joins || leaves || name_is(m, "presence"))) {
    std::string channel, user;
    client_presence_change change;
    change.what = joins ? kind::join : leaves ? kind::leave : kind::count;
    read_presence_change(all, change, channel, user);
    to.presence(change);
  } else if (to.receipt && name_is(m, "receipt")) {
    std::string channel, epoch, user;
    client_receipt receipt;
    read_receipt(all, receipt, channel, epoch, user);
    to.receipt(receipt);
  } else if (to.missed && name_is(m, "missed")) {
    std::string space;
    for (auto& x : all)
      if (name_is(x, "channel")) to.missed(view_in(x.content, space));
  }
}

inline void client_machine::farewell(const object& all) {
  std::string code = "bye";
  bool back = true;
  std::int64_t from = 0, to = -1;
  std::optional<proto::url> detour;
  for (auto& x : all) {
    std::string space;
    if (name_is(x, "code")) code = view_in(x.content, space);
    if (name_is(x, "reconnect")) back = x.content.text != "false";
    if (name_is(x, "url"))
      if (auto u = proto::resolve_url(place(), view_in(x.content, space))) detour = std::move(*u);
    vector<proto::json::value> range;
    if (name_is(x, "after") && !proto::json::read_array(x.content.text, range) && range.size() == 2) {
      auto ms = [](const proto::json::value& v) {
        return static_cast<std::int64_t>(proto::json::to_uint(v, static_cast<std::uint64_t>(longest_wait)).value_or(0));
      };
      from = ms(range[0]);
      to = std::max(from, ms(range[1]));
    }
  }
  if (!back) return stop(code);
  lose(code, from, {}, to < 0 ? -1 : to - from);
  if (detour)
    detour_ = std::make_unique<proto::url>(std::move(*detour));  // forgotten as soon as a link there fails to open
}

}  // namespace hailwire::detail
