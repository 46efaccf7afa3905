// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a host asks of its client: channels to follow, and commands.

#include "hailwire/detail/client/machine.hpp"

namespace hailwire::detail {

inline bool client_machine::follow(std::string_view channel, hailwire::start since) {
  if (!valid_channel(channel) || places_.find(channel) || state_ == state::stopped) return false;
  places_.add(channel, std::move(since));
  if (!started_ || state_ != state::following) return named_late(), true;
  turn(
      [&] {
        if (!subscribes()) return renew_link();
        std::string body = "\"subscribe\":{\"channel\":";
        proto::json::append_quoted(body, channel);
        body += ",\"since\":\"" + client_places::element(places_.back()) + "\"}}";
        places_.back().awaited = true;
        link_command(std::move(body), [this, name = std::string(channel), serial = places_.back().serial](
                                          const client_error& e, std::string_view ok) {
          auto* at = places_.find(name);
          if (!at || at->serial != serial) return;
          at->awaited = false;
          if (!e) return places_.take_entry(*at, ok);
          places_.erase(name);
          std::string json = "{\"channel\":";
          proto::json::append_quoted(json, name);
          json += ",\"code\":\"" + word_of(e) + "\"}";
          tell_notice("closed", json);
        });
      },
      true);
  return true;
}

inline void client_machine::unfollow(std::string_view channel) {
  if (!places_.find(channel)) return;
  const std::string name(channel);
  places_.erase(name);
  if (!started_ || state_ != state::following) return named_late();
  turn(
      [&] {
        if (!subscribes()) return renew_link();
        std::string body = "\"unsubscribe\":{\"channel\":";
        proto::json::append_quoted(body, name);
        link_command(body + "}}", nullptr);
      },
      true);
}

inline void client_machine::publish(std::string_view channel, const payload& data, const client_publish_options& how,
                                    command_end end) {
  turn(
      [&] {
        client_command c;
        c.end = std::move(end);
        std::string_view wrong;
        errc code = errc::bad_request;
        if (!valid_channel(channel)) wrong = "that is no channel's name";
        if (how.type.size() > 64 || !proto::valid_utf8(how.type)) wrong = "a type is at most 64 bytes of UTF-8";
        if (!valid_key(how.key)) wrong = "a key is 1 to 64 visible ASCII characters";
        if (how.ephemeral && !how.key.empty()) wrong = "an ephemeral message has no key";
        if (data.type() == payload::kind::json && proto::json::validate(data.bytes()))
          wrong = "the payload is not JSON";
        if (data.type() == payload::kind::text && !proto::valid_utf8(data.bytes()))
          wrong = "the payload is not UTF-8", code = errc::unsupported_media;
        if (!wrong.empty()) return refuse(c, {make_error_code(code), wrong});
        c.what = how.ephemeral ? client_command::kind::once : client_command::kind::publish;
        c.live_only = how.ephemeral;
        c.channel = channel;
        c.body = "\"publish\":{\"channel\":";
        proto::json::append_quoted(c.body, channel);
        c.body += ',';
        proto::append_payload_member(c.body, data);
        if (!how.type.empty()) proto::json::append_quoted(c.body += ",\"type\":", how.type);
        if (how.ephemeral) {
          c.body += ",\"ephemeral\":true";
        } else {
          proto::json::append_quoted(c.body += ",\"key\":", how.key.empty() ? random_key() : std::string(how.key));
        }
        c.body += "}}";
        add(std::move(c));
      },
      true);
}

inline void client_machine::request(client_command::kind what, std::string_view name, std::string_view body,
                                    std::string_view channel, command_end end) {
  turn(
      [&] {
        client_command c;
        c.what = what;
        c.channel = channel;
        c.name = name;
        c.end = std::move(end);
        proto::json::value v;
        if (proto::json::read_value(body, v) || v.type != proto::json::kind::object)
          return refuse(c, {make_error_code(errc::bad_request), "a command's body is a JSON object"});
        proto::json::append_quoted(c.body, name);
        c.body += ':';
        c.body += v.text;
        c.body += '}';
        add(std::move(c));
      },
      true);
}

inline void client_machine::fetch(std::string_view channel, const position& at, fetch_end end) {
  turn(
      [&] {
        client_fetch f{std::string(channel), at, std::move(end)};
        if (!valid_channel(channel) || !valid_epoch(at.epoch) || at.offset == 0 || at.offset > max_offset)
          return end_fetch(std::move(f), {make_error_code(errc::bad_request), "that names no message"});
        if (state_ == state::stopped) return end_fetch(std::move(f), {operation_aborted(), "the client has stopped"});
        if (!fetching_) fetching_ = std::make_unique<fetching>();
        if (fetching_->row.size() >= options_->max_pending)
          return end_fetch(std::move(f), {make_error_code(errc::overloaded), "too much is waiting to be fetched"});
        fetching_->row.push_back(std::move(f));
      },
      true);
}

inline void client_machine::end_fetch(client_fetch f, client_error why, client_content what) {
  if (!f.end) return;
  commands_.ended().push_back({[end = std::move(f.end), what = std::move(what)](
                                   const client_error& e, std::string_view) mutable { end(e, std::move(what)); },
                               std::move(why),
                               {}});
}

inline std::string client_machine::random_key() {
  std::array<unsigned char, 16> bytes;
  random(bytes);
  std::string out;
  for (auto b : bytes) (out += "0123456789abcdef"[b >> 4]) += "0123456789abcdef"[b & 15];
  return out;
}

inline void client_machine::add(client_command c) {
  if (state_ == state::stopped) return refuse(c, {operation_aborted(), "the client has stopped"});
  if (c.live_only && state_ != state::following)
    return refuse(c, {make_error_code(std::errc::not_connected), "live-only messages do not wait for a connection"});
  commands_.add(std::move(c));
}

inline void client_machine::refuse(client_command& c, client_error why) {
  if (c.end) commands_.ended().push_back({std::move(c.end), std::move(why), {}});
}

inline bool client_machine::subscribes() const noexcept {
  return link_ && link_->carries_commands() && commands_.size() < options_->max_pending;
}

inline void client_machine::link_command(std::string body, command_end end) {
  client_command c;
  c.what = client_command::kind::link;
  c.body = std::move(body);
  c.end = std::move(end);
  commands_.add(std::move(c));
}

}  // namespace hailwire::detail
