// SPDX-License-Identifier: BSL-1.0
#pragma once

// How commands are carried out, by `command_dispatcher`, whose class is in server_state.hpp. The order is the same for
// each: is its permission still good, may it, is what it names there; only then the hub, or the host.

#include <memory>
#include "hailwire/detail/connection/server_state.hpp"

namespace hailwire::detail {

/// What became of a command, as `make` writes it: `internal` where there is no memory for it, because whoever asked is
/// told something.
template <class F>
inline void tell(command_dispatcher::command_done& done, F make) {
  std::string ok;
  try {
    make(ok);
  } catch (const std::bad_alloc&) {
    return done(errc::internal);
  }
  done(std::move(ok));
}

/// Tells where something stands now.
inline client_publish_handler tell_position(command_dispatcher::command_done&& done) {
  return [done = std::move(done)](result<position>&& at) mutable {
    if (!at) return done(at.error());
    if (!at->offset) return done(std::string("{}"));  // an ephemeral message stands nowhere
    tell(done, [&](std::string& ok) {
      ok.append("{\"epoch\":\"").append(at->epoch).append("\",\"offset\":");
      proto::append_decimal(ok, at->offset);
      ok += '}';
    });
  };
}

/// Ends a session because of a hook's exception.
inline void hook_failed(session& s) { s.close(1011, hook_failed_text); }

// True when it has answered that the session may not.
template <class Done>
bool command_dispatcher::refused(session& s, bool (session::*may)(std::string_view) const, std::string_view channel,
                                 Done& done) {
  auto why = server_.refusal(s, may, channel);
  if (why) done(*why);
  if (why == errc::internal) hook_failed(s);
  return why.has_value();
}

HAILWIRE_INLINE bool command_dispatcher::forbidden(session& s, std::string_view channel, command_done& done) {
  return refused(s, &session::may_follow, channel, done);
}

HAILWIRE_INLINE void command_dispatcher::publish(session& s, std::string&& channel, const prefetch_hint& at,
                                                 payload&& p, publish_options&& o, bool checked,
                                                 client_publish_handler&& done) {
  if (server_.messages.ended(s.permissions())) return done(permission_ended());
  if (const std::int64_t wait_ms = server_.count_command(s)) return done(too_many_commands(wait_ms));
  if (refused(s, &session::may_publish, channel, done)) return;
  if (!payload_fits(p, server_.messages.settings_of(channel, at.hash))) return done(payload_too_large());
  if (o.ephemeral && !server_.messages.settings_of(channel, at.hash).ephemeral)
    return done({errc::not_implemented, "the channel takes no ephemeral messages"});
  server_.messages.publisher.prefetch_entry(at);
  const bool told = o.content && server_.host.on_publish_content;
  if (told || server_.host.on_publish) {
    verdict v = verdict::accept();
    if (!server_.guarded("on_publish", [&] {
          v = told ? server_.host.on_publish_content(s, channel, p, *o.content)
                   : server_.host.on_publish(s, channel, p);
        })) {
      done(errc::internal);
      return hook_failed(s);
    }
    if (auto* why = v.refusal()) return done(*why);
    if (s.ending()) return done(errc::forbidden);  // the host has ended the session instead, which refuses it
    if (auto* other = v.replacement()) p = *other, checked = false;
  }
  server_.messages.publisher.publish_for(s, std::move(channel), at, std::move(p), std::move(o), checked,
                                         std::move(done));
}

HAILWIRE_INLINE void command_dispatcher::publish(session& s, std::string&& channel, payload&& p, publish_options&& o,
                                                 bool checked, client_publish_handler&& done) {
  prefetch_hint at = server_.messages.publisher.prefetch(channel);
  publish(s, std::move(channel), at, std::move(p), std::move(o), checked, std::move(done));
}

HAILWIRE_INLINE void command_dispatcher::publish(session& s, proto::command&& c, client_publish_handler&& done) {
  if (!c.content.empty()) return publish_content(s, std::move(c), std::move(done));
  prefetch_hint at = server_.messages.publisher.prefetch(c.channel);
  payload p = c.has_bytes ? payload::binary(c.bytes) : payload::json(c.data);
  publish(s, std::move(c.channel), at, std::move(p), {std::move(c.type), std::move(c.key), c.ephemeral}, true,
          std::move(done));
}

// Whose it is, and what there is to say of it, only the storage knows; whether it may be named still, only the append.
HAILWIRE_INLINE void command_dispatcher::publish_content(session& s, proto::command&& c,
                                                         client_publish_handler&& done) {
  auto contents = server_.messages.contents();
  if (!contents.offered()) return done({errc::not_implemented, "this server keeps no content"});
  if (server_.messages.ended(s.permissions())) return done(permission_ended());
  if (refused(s, &session::may_publish, c.channel, done)) return;
  payload p = c.has_bytes ? payload::binary(c.bytes) : c.has_data ? payload::json(c.data) : payload();
  publish_options o;
  o.type = std::move(c.type);
  o.key = std::move(c.key);
  contents.find(c.content,
                [this, alive = std::weak_ptr(alive_), key = s.key(), id = c.content, channel = std::move(c.channel),
                 p = std::move(p), o = std::move(o), done = std::move(done)](upload_result r) mutable {
                  session* by = alive.expired() ? nullptr : server_.messages.find(key);
                  if (!by) return;
                  const upload& u = r.state;
                  if (r.error && r.error != errc::not_found) return done(content_failure(r.error));
                  const bool own = !r.error && u.owner == principal(by->permissions()).text() && u.channel == channel;
                  // A repeat of a publish, by its key, finds its message also when the content has gone, or is not
                  // known any more as this user's: the log has the last word.
                  if (!own && (o.key.empty() || (!r.error && !u.named)))
                    return done(content_failure(make_error_code(errc::not_found)));
                  if (own && (!u.complete || (u.named && o.key.empty())))
                    return done(content_failure(make_error_code(errc::conflict)));
                  o.content = std::make_shared<const content_reference>(content_reference{id, u.offset, u.type});
                  publish(*by, std::move(channel), std::move(p), std::move(o), true, std::move(done));
                });
}

HAILWIRE_INLINE void command_dispatcher::run(session& s, proto::command&& c, command_done done) {
  using verb = proto::command::verb;
  if (c.what != verb::ping && c.what != verb::publish && server_.messages.ended(s.permissions()))
    return done(permission_ended());
  if (c.what != verb::ping && c.what != verb::publish)  // a publish counts itself
    if (const std::int64_t wait_ms = server_.count_command(s)) return done(too_many_commands(wait_ms));
  switch (c.what) {
    case verb::ping:
      return done(std::string("{}"));
    case verb::publish:
      return publish(s, std::move(c), tell_position(std::move(done)));
    case verb::subscribe:
      return subscribe(s, std::move(c), std::move(done));
    case verb::unsubscribe:
      if (!s.duplex()) return done({errc::bad_request, "unsubscribe needs a WebSocket"});
      if (!server_.messages.subscriptions.remove(s, c.channel))
        return done({errc::bad_request, "the channel is not followed"});
      return done(std::string("{}"));
    case verb::history:
      return history(s, std::move(c), std::move(done));
    case verb::erase:
      return erase(s, std::move(c), std::move(done));
    case verb::renew:
      return renew(s, c.token, std::move(done));
    case verb::device:
      return server_.messages.keep_device(s, c.body, std::move(done));
    case verb::presence:
      return presence(s, std::move(c), std::move(done));
    case verb::received:
    case verb::read:
      return mark(s, std::move(c), std::move(done));
    case verb::receipts:
      return receipts(s, std::move(c), std::move(done));
    case verb::other:
      return ask_host(s, c, std::move(done));
  }
}

HAILWIRE_INLINE void command_dispatcher::subscribe(session& s, proto::command&& c, command_done done) {
  if (!s.duplex())
    return done({errc::bad_request, "subscribe needs a WebSocket; elsewhere reconnect with another URL"});
  const std::size_t several = c.channels.size();
  auto from = parse_cursor(c.since && !c.since->empty() ? *c.since : "latest", several ? several : 1);
  if (!from) return done(from.error());
  if (several) return subscribe_all(s, std::move(c.channels), *from, std::move(done));
  if (forbidden(s, c.channel, done)) return;
  server_.messages.subscriptions.add(
      s, c.channel, from->front(), true,
      [&s, this, channel = c.channel, done = std::move(done)](result<follow_start> r) mutable {
        if (!r) return done(r.error());
        std::string ok;
        append_entry(ok, *r);
        done(std::move(ok));
        server_.messages.subscriptions.serve(s, channel, *r);  // also where no reply was asked for
      });
}

HAILWIRE_INLINE void command_dispatcher::subscribe_all(session& s, vector<std::string>&& channels, const cursor& from,
                                                       command_done done) {
  if (!may_follow_count(s.follow_count() + channels.size(), server_.settings))
    return done(too_many_channels(server_.settings));
  for (const std::string& c : channels)
    if (forbidden(s, c, done)) return;
  server_.messages.subscriptions.add_all(s, std::move(channels), from,
                                         [&s, this, done = std::move(done)](result<vector<channel_start>>&& r) mutable {
                                           if (!r) return done(r.error());
                                           std::string ok = "{";
                                           for (const channel_start& one : *r) {
                                             if (ok.size() > 1) ok += ',';
                                             proto::json::append_quoted(ok, one.channel);
                                             append_entry(ok += ':', one.start);
                                           }
                                           done(ok + '}');
                                           for (const channel_start& one : *r)
                                             server_.messages.subscriptions.serve(s, one.channel, one.start);
                                         });
}

HAILWIRE_INLINE void command_dispatcher::history(session& s, proto::command&& c, command_done done) {
  if (forbidden(s, c.channel, done)) return;
  history_query q;
  q.after = c.after.value_or(0);
  q.from_start = c.after.has_value();
  q.before = c.before ? std::max<std::uint64_t>(*c.before, 1) : 0;  // nothing stands before 1, nor before 0
  q.limit = static_cast<std::size_t>(c.limit.value_or(q.limit));
  q.epoch = c.epoch.value_or("");
  const std::uint64_t floor = s.permissions().floor_of(c.channel);
  server_.messages.history(
      c.channel, std::move(q), floor,
      [this, key = s.key(), channel = c.channel, done = std::move(done)](history_result r) mutable {
        session* asked = server_.messages.find(key);
        if (!asked) return;
        if (r.error) return done(storage_failure(r.error));
        // What was allowed when it was asked may have been taken away while the storage was busy.
        if (auto why = server_.refusal(*asked, &session::may_follow, channel)) return done(*why);
        const std::uint64_t least = asked->permissions().floor_of(channel);
        std::erase_if(r.messages, [&](const message& m) { return m.offset < least; });
        tell(done, [&](std::string& ok) {
          ok = "{\"messages\":[";
          for (const message& m : r.messages) {
            if (ok.back() == '}') ok += ',';
            proto::append_inlined(ok, channel, r.epoch, m, server_.messages.channels.inline_limit);
          }
          ok += "],\"epoch\":\"" + r.epoch + (r.more ? "\",\"more\":true}" : "\",\"more\":false}");
        });
      });
}

// It is an entry of the log, so it needs the right to publish; and the message must be the client's own, as far as the
// host allows that at all.
HAILWIRE_INLINE void command_dispatcher::erase(session& s, proto::command&& c, command_done done) {
  if (refused(s, &session::may_publish, c.channel, done)) return;
  if (!server_.host.on_erase || s.user().empty()) return done(errc::forbidden);
  auto allowed = [this, channel = c.channel](session& by, const message& m) -> std::optional<failure> {
    if (m.offset < by.permissions().floor_of(channel)) return failure(errc::not_found, "there is no such message");
    if (m.from != by.user()) return failure(errc::forbidden, "the message is somebody else's");
    // What was allowed when it was asked may have been taken away while the storage was busy.
    if (auto why = server_.refusal(by, &session::may_publish, channel)) return failure(*why);
    bool yes = false;
    if (!server_.guarded("on_erase", [&] { yes = server_.host.on_erase(by, channel, m); })) {
      hook_failed(by);
      return failure(errc::internal);
    }
    return yes && !by.ending() ? std::nullopt : std::optional(failure(errc::forbidden));
  };
  server_.messages.eraser.erase_for(s, std::move(c.channel), {std::move(*c.epoch), *c.offset}, std::move(allowed),
                                    tell_position(std::move(done)));
}

HAILWIRE_INLINE void command_dispatcher::mark(session& s, proto::command&& c, command_done done) {
  if (forbidden(s, c.channel, done)) return;
  if (s.user().empty()) return done({errc::forbidden, "watermarks are a user's"});
  const bool read = c.what == proto::command::verb::read;
  server_.messages.watermarks().mark(
      s, c.channel, {std::move(*c.epoch), *c.offset}, read, c.is_private,
      [this, key = s.key(), name = std::string(c.name), done = std::move(done)](std::error_code ec) mutable {
        if (!server_.messages.find(key)) return;
        if (!ec) return done(std::string("{}"));
        if (ec == errc::not_implemented) return done({errc::not_implemented, name + " is not offered by this server"});
        if (ec == errc::not_found) return done({errc::not_found, "the channel has another epoch"});
        if (ec == errc::bad_request) return done({errc::bad_request, "the offset is above the channel's newest"});
        if (ec == errc::conflict) return done({errc::conflict, "too many devices"});
        done(storage_failure(ec));
      });
}

HAILWIRE_INLINE void command_dispatcher::receipts(session& s, proto::command&& c, command_done done) {
  if (forbidden(s, c.channel, done)) return;
  const bool others = !c.channel.starts_with('@') && server_.messages.settings_of(c.channel).receipts;
  if (s.user().empty() && !others) return done({errc::forbidden, "watermarks are a user's"});
  server_.messages.watermarks().list(
      c.channel, std::string(s.user()), others,
      [this, key = s.key(), channel = c.channel, done = std::move(done)](receipts_result r) mutable {
        session* asked = server_.messages.find(key);
        if (!asked) return;
        if (r.error == errc::not_implemented)
          return done({errc::not_implemented, "receipts is not offered by this server"});
        if (r.error) return done(storage_failure(r.error));
        // What was allowed when it was asked may have been taken away since.
        if (auto why = server_.refusal(*asked, &session::may_follow, channel)) return done(*why);
        tell(done, [&](std::string& ok) {
          ok.append("{\"epoch\":\"").append(r.epoch).append("\",\"head\":");
          proto::append_decimal(ok, r.head);
          ok += ",\"receipts\":[";
          for (const receipt& one : r.receipts) {
            if (ok.back() == '}') ok += ',';
            proto::json::append_quoted(ok += "{\"user\":", one.user);
            proto::append_decimal(ok += ",\"received\":", one.received);
            proto::append_decimal(ok += ",\"read\":", one.read);
            ok += '}';
          }
          ok += r.more ? "],\"more\":true}" : "],\"more\":false}";
        });
      });
}

HAILWIRE_INLINE void command_dispatcher::presence(session& s, proto::command&& c, command_done done) {
  if (forbidden(s, c.channel, done)) return;
  server_.messages.presence(
      c.channel,
      [this, key = s.key(), channel = c.channel, names = !c.count, done = std::move(done)](presence_result r) mutable {
        session* asked = server_.messages.find(key);
        if (!asked) return;
        if (r.error == errc::not_found) return done({errc::not_found, "the channel has no presence"});
        if (r.error) return done(storage_failure(r.error));
        // What was allowed when it was asked may have been taken away since.
        if (auto why = server_.refusal(*asked, &session::may_follow, channel)) return done(*why);
        tell(done, [&](std::string& ok) {
          ok = "{";
          if (names) {
            ok += "\"members\":[";
            for (const presence_member& m : r.members) {
              if (ok.back() == '}') ok += ',';
              proto::json::append_quoted(ok += "{\"user\":", m.user);
              proto::append_decimal(ok += ",\"sessions\":", m.sessions);
              if (!m.info.empty()) ok.append(",\"info\":").append(m.info);
              ok += '}';
            }
            ok += "],";
          }
          proto::append_decimal(ok += "\"count\":", r.count);
          proto::append_decimal(ok += ",\"anonymous\":", r.anonymous);
          ok += names && r.more ? ",\"more\":true}" : ",\"more\":false}";
          proto::json::spaces_for_line_breaks(ok);
        });
      },
      !c.count);
}

// A command that is not the protocol's is the host's.
HAILWIRE_INLINE void command_dispatcher::ask_host(session& s, const proto::command& c, command_done done) {
  if (!server_.host.on_command) return done({errc::bad_request, "unknown command " + std::string(c.name)});
  const bool fine = server_.guarded("on_command", [&] {
    server_.host.on_command(
        s, c.name, c.body,
        server_.reply_for<result<std::string>>(
            "on_command", false, [this, key = s.key(), done = std::move(done)](result<std::string> r) mutable {
              if (!server_.messages.find(key)) return;
              if (r && proto::json::validate(*r)) r = failure(errc::internal, "the host's answer is not JSON");
              if (r) proto::json::spaces_for_line_breaks(*r);
              done(std::move(r));
            }));
  });
  if (!fine) hook_failed(s);
}

HAILWIRE_INLINE void command_dispatcher::renew(session& s, std::string_view token, command_done done) {
  if (!server_.host.on_renew) return done({errc::not_implemented, "renew is not offered by this server"});
  if (!s.duplex())
    return done(
        {errc::bad_request, "renew goes over the connection that it is for; elsewhere each request brings its token"});
  auto reply = server_.reply_for<decision>(
      "on_renew", server_.host.renews_at_once,
      [this, alive = std::weak_ptr(alive_), key = s.key(), done = std::move(done)](decision d) mutable {
        session* of = alive.expired() ? nullptr : server_.messages.find(key);
        if (!of) return;
        auto* allowed = d.allowed();
        if (!allowed) return done(d.refused());
        if (!server_.sound(*allowed)) return done(errc::internal);
        if (allowed->user() != of->user()) return done({errc::forbidden, "the token is for another user"});
        std::error_code ec;
        if (!server_.guarded("authorizer", [&] { ec = of->permit(*allowed); })) return done(errc::internal);
        if (ec) return done({wire_code(ec), "the token has expired"});
        std::int64_t left = server_.messages.left(*allowed);
        if (left == INT64_MAX) return done(std::string("{}"));
        std::string ok = "{\"expires\":";
        proto::append_decimal(ok, static_cast<std::uint64_t>(left / 1000));
        done(ok + '}');
      });
  if (!server_.guarded("on_renew", [&] { server_.host.on_renew(s, token, std::move(reply)); })) hook_failed(s);
}

}  // namespace hailwire::detail
