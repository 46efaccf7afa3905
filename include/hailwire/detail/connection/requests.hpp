// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because a request is followed from its head to its answer in one place.
//
// How a connection, whose class is in connection.hpp, serves HTTP requests. The order is that of the protocol: is the
// request well-formed, which transport claims it, who asks, may they; only then a look at any log.

#include <memory>
#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {}  // namespace hailwire::detail

inline const std::string& hailwire::request::peer() const {
  if (peer_.empty()) peer_ = on_->peer();
  return peer_;
}
inline std::string_view hailwire::request::address() const {
  std::string_view p = peer();
  return p.starts_with('[') ? p.substr(1, p.find(']') - 1) : p.substr(0, p.find(':'));
}

namespace hailwire::detail {

// ---- from bytes to a request

inline void connection::process() {
  if (processing_) return;
  processing_ = true;
  for (bool going = true; going;) {
    going = false;
    if (answered_) {
      finish_exchange();
      going = phase_ == phase::head;
    } else if (phase_ == phase::head && asked() && !asked()->in.empty() && unsent() < gate().settings.max_unsent) {
      exchange& e = *asked();
      switch (e.parser.parse(e.in, e.head)) {
        case proto::http1::progress::need_more:
          if (!peer_ended_) break;
          drop_head();
          refuse({errc::bad_request, "the request ended within its head"});
          going = true;
          break;
        case proto::http1::progress::failed:
          keep_ = false;
          drop_head();
          refuse(e.parser.error());
          going = true;
          break;
        case proto::http1::progress::done:
          e.rest.assign(e.in, e.parser.size());
          e.in.resize(e.parser.size());  // shrinks in place: the head's views stay
          begin_request();
          going = answered_ || (phase_ == phase::body && peer_ended_);
      }
    } else if (phase_ == phase::body) {
      read_body();
      if (phase_ == phase::body && peer_ended_) refuse({errc::bad_request, "the request ended within its body"});
      going = answered_;
    }
  }
  processing_ = false;
}

// What was read of a head that is refused before its end looks into a buffer that may have moved. It says no more, but
// for HEAD, whose answer has no content whatever becomes of the request (RFC 9110, section 9.3.2).
inline void connection::drop_head() {
  exchange& e = *asked();
  std::string_view line = e.in;
  while (line.starts_with("\r\n")) line.remove_prefix(2);
  e.head.clear();
  if (line.starts_with("HEAD ") || line == "HEAD") e.head.method = "HEAD";
}

/// The largest request body: of the live resource an array of commands around a payload in base64 (RFC 4648), which
/// takes four letters for three bytes; elsewhere what the host has said.
inline std::size_t body_limit(const options& o, std::string_view path) noexcept {
  return path == o.path ? o.max_payload / 3 * 4 + 64 * 1024 : o.max_payload;
}

inline void connection::begin_request() {
  exchange& e = *asked();
  const options& o = gate().settings;
  keep_ = e.head.keep_alive;
  served_ = true;
  e.shown.begin(*this, e.head, e.query, tls());
  if (!e.head.has_body()) enter(phase::asked);  // whatever comes of it, the next request begins behind the head
  if (!proto::percent_decode(e.head.path, e.shown.path_, false))
    return refuse({errc::bad_request, "the path has a bad escape or is not UTF-8"});
  if (gate().behind.any()) {
    auto told = gate().behind.look(e.head, e.shown.peer());
    if (!told) return refuse(told.error());
    if (auto& by = *told) {
      if (by->from.address) e.shown.peer_ = by->from.text();
      e.shown.scheme_ = std::move(by->scheme);
      e.shown.host_ = std::move(by->host);
    }
  }
  look_at_origin();
  if (e.head.content_length.value_or(0) > body_limit(o, e.shown.path_))
    return refuse({errc::too_large, "the request body is over the limit"});
  e.query_readable = proto::parse_query(e.head.query, e.query);
  if (!e.query_readable) e.query.clear();
  if (!e.head.has_body()) return dispatch();
  enter(phase::body);
  if (e.head.expect_continue && e.rest.empty()) {
    out() += proto::http1::continue_response;
    ask_wake();
  }
  read_body();
}

inline void connection::read_body() {
  exchange& e = *asked();
  if (e.head.chunked) {
    std::string_view in = e.rest;
    auto progress = e.chunks.decode(in, e.body, body_limit(gate().settings, e.shown.path_));
    e.rest.erase(0, e.rest.size() - in.size());
    if (progress == proto::http1::progress::need_more) return;
    if (progress == proto::http1::progress::failed) {
      keep_ = false;
      return refuse(e.chunks.error());
    }
  } else if (std::size_t size = static_cast<std::size_t>(e.head.content_length.value_or(0))) {
    std::size_t n = std::min(size - e.body.size(), e.rest.size());
    e.body.append(e.rest, 0, n);
    e.rest.erase(0, n);
    if (e.body.size() < size) return;
  }
  enter(phase::asked);
  dispatch();
}

inline void connection::dispatch() {
  exchange& e = *asked();
  // Of the server as a whole (RFC 9110, section 9.3.7): the host's to answer, where it answers requests.
  if (e.head.path == "*" && !gate().host.on_http) return respond(204, {}, {}, "Allow: " + methods());
  if (e.shown.path_ == gate().settings.path) return serve_live();
  serve_elsewhere();
}

// ---- what no transport claims

inline void connection::serve_elsewhere() {
  exchange& e = *asked();
  // Other protocols, and any in HTTP/1.0, may be ignored (RFC 9110, section 7.8).
  if (e.head.minor >= 1 && e.head.has_token("Upgrade", "websocket")) {
    for (auto& route : gate().frame_routes)
      if (route->serves(e.shown.path_)) return serve_frames(*route);
  }
  e.shown.body_ = e.body;
  if (!gate().host.on_http) return refuse(errc::not_found);
  auto reply = gate().reply_for<result<response>>(
      "on_http", gate().host.serves_at_once, [here = here(), serial = asked()->serial](result<response> r) {
        auto at = here.lock();
        connection* self = at ? *at : nullptr;
        if (!self || !self->asked() || self->asked()->serial != serial || !self->owes()) return;
        self->contained([&] { self->respond_with(r); });
      });
  // A hook that throws leaves its reply unanswered, which answers `internal`.
  gate().guarded("on_http", [&] { gate().host.on_http(e.shown, std::move(reply)); });
}

inline void connection::respond_with(const result<response>& r) {
  if (!r) return refuse(r.error());
  if (r->status < 200 || r->status > 599) return refuse(errc::internal);
  std::string extra;
  for (const auto& [name, value] : r->headers) {
    bool own = proto::iequals(name, "Content-Length") || proto::iequals(name, "Connection") ||
               proto::iequals(name, "Date") || proto::iequals(name, "Transfer-Encoding");
    if (!own && proto::http1::is_token(name) && proto::http1::is_value(value))
      extra.append(name).append(": ").append(value).append("\r\n");
  }
  respond(r->status, r->content_type, r->body, extra);
}

// ---- the live resource

// Whose page is it that asks? One of a listed origin is told so in every answer (Fetch standard, CORS protocol).
inline void connection::look_at_origin() {
  exchange& e = *asked();
  const auto& listed = gate().settings.allowed_origins;
  auto origin = e.head.find("Origin");
  e.own_page = !origin.data() || proto::http1::same_origin(origin, e.shown.host());
  // What is known to be https is not the same origin as http; that it came here without TLS says nothing.
  if (origin.data() && e.shown.scheme() == "https" && !proto::iequals(origin.substr(0, 6), "https:"))
    e.own_page = false;
  e.listed_page = !e.own_page && std::find(listed.begin(), listed.end(), origin) != listed.end();
  // No browser sends two (RFC 6454, section 7.3), and which of them somebody in between has looked at is not known.
  if (origin.data() && std::count_if(e.head.headers.begin(), e.head.headers.end(),
                                     [](const auto& h) { return proto::iequals(h.name, "Origin"); }) > 1)
    e.own_page = e.listed_page = false;
  if (e.shown.path_ != gate().settings.path) return;
  if (!listed.empty()) e.extra += "Vary: Origin\r\n";
  if (!e.listed_page) return;
  e.extra.append("Access-Control-Allow-Origin: ").append(origin);
  e.extra += "\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: ETag, Retry-After\r\n";
}

// The methods of the live resource, as a header line ends with them.
inline std::string connection::methods() const {
  const auto& all = gate().transports;
  const bool heads = std::any_of(all.begin(), all.end(), [](const transport::entry* t) { return t->answers_head; });
  return heads ? "GET, HEAD, POST, OPTIONS\r\n" : "GET, POST, OPTIONS\r\n";
}

inline void connection::serve_live() {
  exchange& e = *asked();
  // Of the host's own paths the query is the host's to read, escapes and all.
  if (!e.query_readable) return refuse({errc::bad_request, "the query has a bad escape or is not UTF-8"});
  if (e.head.method == "GET" || e.head.method == "HEAD") return serve_follow();
  if (e.head.method == "POST") {
    if (!e.own_page && !e.listed_page) return refuse({errc::forbidden, "this origin is not listed"});
    return post();
  }
  if (e.head.method == "OPTIONS") {
    std::string extra = "Allow: " + methods();
    if (e.listed_page) {
      extra += "Access-Control-Allow-Methods: " + methods();
      extra +=
          "Access-Control-Allow-Headers: Content-Type, Authorization, Prefer, If-None-Match, Last-Event-ID, "
          "Idempotency-Key\r\n"
          "Access-Control-Max-Age: 600\r\n";
    }
    return respond(204, {}, {}, extra);
  }
  refuse(errc::method_not_allowed);
}

// Reads the channels and the device that the query names; false when it has refused them.
inline bool connection::read_channels() {
  exchange& e = *asked();
  auto no = [&](std::string why) { return refuse({errc::bad_request, std::move(why)}), false; };
  for (const auto& [name, value] : e.query) {
    if (name == "channel") {
      if (!valid_channel(value)) return no("a channel's name is 1 to 255 bytes of UTF-8 without control characters");
      if (std::find(e.channels.begin(), e.channels.end(), value) != e.channels.end())
        return no("a channel is named twice");
      e.channels.push_back(value);
    } else if (name == "device") {
      if (value.size() > 64 || !proto::printable_utf8(value))
        return no("a device's name is 1 to 64 bytes of UTF-8 without control characters");
      if (e.device.empty()) e.device = value;
    }
  }
  return true;
}

inline void connection::serve_follow() {
  exchange& e = *asked();
  const options& o = gate().settings;
  transport::live_request a{e.head, e.query, o};

  bool head_only = e.head.method == "HEAD";
  for (const transport::entry* t : gate().transports) {
    if ((head_only && !t->answers_head) || !t->claims(a)) continue;
    e.serving = t;
    break;
  }
  if (!e.serving) {
    if (head_only && std::none_of(gate().transports.begin(), gate().transports.end(),
                                  [](const transport::entry* t) { return t->answers_head; }))
      return refuse(errc::method_not_allowed);
    if (std::all_of(gate().transports.begin(), gate().transports.end(),
                    [](const transport::entry* t) { return t->upgrades; }))
      return refuse(errc::upgrade_required);
    std::string offered;
    for (const transport::entry* t : gate().transports)
      offered.append(offered.empty() ? "this server offers " : ", ").append(t->offer);
    return refuse({errc::not_acceptable, std::move(offered)});
  }
  e.shown.transport_ = e.serving->name;
  const bool upgrade = e.serving->upgrades;
  if (upgrade && !e.own_page && !e.listed_page) return refuse({errc::forbidden, "this origin is not listed"});
  if (upgrade && e.head.has_body()) return refuse({errc::bad_request, "a handshake has no body"});

  if (!read_channels()) return;
  if (e.channels.size() > o.max_channels)
    return refuse({errc::bad_request, "more than " + std::to_string(o.max_channels) + " channels"});
  if (e.channels.empty() && !upgrade) return refuse({errc::bad_request, "no channel is named"});

  auto begun = e.serving->begin(a);
  if (!begun) return refuse(begun.error());
  stream_ = std::move(begun->live);
  if (stream_ && peer_ended_) return refuse({errc::bad_request, "the client ended before its stream began"});
  e.open = std::move(begun->open);
  e.once = begun->once;

  if (read_cursor()) authorize();
}

// Where to start; false when it has refused what cannot be read. Of `If-None-Match` a tag that resembles a cursor is
// one: the first that is readable decides, and where none is, what is wrong with the first is told. Other tags are
// other servers', and passed over.
inline bool connection::read_cursor() {
  exchange& e = *asked();
  const std::size_t longest = gate().settings.head.line;
  std::optional<failure> wrong;
  auto take = [&](std::string_view text) {
    auto from = parse_cursor(text, e.channels.size(), longest);
    if (from) {
      e.from = std::move(*from);
    } else if (!wrong) {
      wrong = from.error();
    }
    return static_cast<bool>(from);
  };
  std::string_view text = e.head.find("Last-Event-ID");
  if (text.empty()) text = e.shown.param("since");
  if (!text.empty()) {
    take(text);
  } else if (!e.channels.empty()) {
    if (proto::http1::any_entity_tag(e.head,
                                     [&](std::string_view tag) { return resembles_cursor(tag) && take(tag); })) {
      wrong.reset();
    } else if (!wrong) {  // a cursor that is no tag, without its quotes or with one of them
      for (const auto& h : e.head.headers) {
        std::string_view bare = h.value;
        if (!proto::iequals(h.name, "If-None-Match")) continue;
        if (bare.starts_with("W/")) bare.remove_prefix(2);
        if (bare.starts_with('"')) bare.remove_prefix(1);
        if (resembles_cursor(bare)) wrong = {errc::bad_request, "If-None-Match has a cursor that is not in quotes"};
      }
    }
  }
  if (wrong) return refuse(*wrong), false;
  e.from.resize(e.channels.size());
  return true;
}

inline void connection::authorize() {
  if (!gate().host.authorize) {
    gate().no_authorizer();
    static const shared_grant nothing{grant()};
    return allowed(nothing);
  }
  auto reply = gate().reply_for<decision>(
      "authorizer", gate().host.authorizes_at_once, [here = here(), serial = asked()->serial](decision d) {
        auto at = here.lock();
        connection* self = at ? *at : nullptr;
        if (!self || !self->asked() || self->asked()->serial != serial || !self->owes() || self->is_open()) return;
        self->contained([&] {
          auto* granted = d.allowed();
          if (!granted) {
            // Whatever an authorizer says no with, it is one of the protocol's codes.
            self->refuse_stream(d.refused());
          } else if (!self->gate().sound(*granted)) {
            self->refuse(errc::internal);
          } else if (self->gate().messages.left(*granted) <= 0) {
            self->refuse({errc::unauthenticated, "the permission has expired"});
          } else {
            self->allowed(*granted);
          }
          self->update_watch();
        });
      });
  std::unique_ptr<exchange>
      kept;  // a reply inside the call may open a stream, which needs no request any more; the hook still does
  asked()->keeper = &kept;
  gate().guarded("authorizer", [&] { gate().host.authorize(asked()->shown, std::move(reply)); });
  if (asked()) asked()->keeper = nullptr;
}

inline void connection::begin_following(shared_grant g) {
  exchange& e = *asked();
  for (const std::string& c : e.channels)
    if (auto why = gate().refusal(g, &shared_grant::may_follow, c)) return refuse(*why);
  if (stream_ && e.head.method == "HEAD") {
    e.open(out(), std::string(gate().date()) + e.extra);
    ask_wake();
    return answered(false);
  }
  if (!gate().messages.open(*this, std::move(g), e.device, true)) return refuse_stream({errc::overloaded, {}, 5});
  if (std::size_t most = gate().settings.max_sessions_per_address;
      most && !gate().from_address.add(key().slot, e.shown.address(), most))
    return refuse_stream({errc::rate_limited, "too many sessions from this address", 5});
  e.starts.resize(e.channels.size());
  e.following = e.channels.size();
  e.at_once = std::any_of(e.from.begin(), e.from.end(),
                          [](const hailwire::start& s) { return s.from == hailwire::start::word::latest; });
  if (e.channels.empty()) return began();
  const session_key mine = key();
  for (std::size_t i = 0; i < e.channels.size(); ++i) {
    follow_next(i);
    if (key() != mine || !is_open() || answered_ || !asked()) return;  // one of them was refused, or all are answered
  }
}

inline void connection::follow_next(std::size_t i) {
  exchange& e = *asked();
  gate().messages.follow(*this, e.channels[i], e.from[i], true, [this, i](result<follow_start> r) {
    if (!owes()) return;  // another channel, or the host, has settled it
    if (!r) return refuse_stream(r.error());
    asked()->starts[i] = std::move(*r);
    if (--asked()->following == 0) began();
  });
}

// Of channels that the host took away meanwhile nothing is told any more, so what was lost of one stays ahead of the
// client's cursor.
inline void connection::tell_losses(const exchange& e) {
  for (std::size_t i = 0; i < e.starts.size() && phase_ != phase::closing; ++i) {
    if (e.starts[i].recovered) continue;
    if (auto* s = gate().messages.find(*this, e.channels[i])) {
      tell_gap(s->in().log(), e.starts[i].lost, told_cursor(&e, i + 1));
    } else if (find_rare()) {
      for (gone& g : find_rare()->gone_channels) {
        if (g.place != i) continue;
        g.element.clear();
        append_start(g.element, e.from[i]);
      }
    }
  }
}

inline void connection::began() {
  if (gate().messages.left(permissions()) <= 0)
    return refuse({errc::unauthenticated, "the permission has expired"});  // while the storage was asked
  if (!cursor_returns())
    return refuse(
        {errc::bad_request, "the cursor of so many channels would be longer than a request to this server may be"});
  if (stream_) return open_stream();
  gate().polls->begin(*this);
}

// Whether the client can come back with the longest cursor that it may ever have, later epochs counted: in a header
// line of its own, in place of the one that this request has brought, beside everything else that it has said. Who
// follows by commands needs none.
inline bool connection::cursor_returns() const {
  const exchange& e = *asked();
  if (e.starts.empty() || (stream_ && stream_->duplex())) return true;
  const std::size_t line = std::string_view("If-None-Match: W/\"\"").size() + e.starts.size() * max_cursor_element - 1;
  std::size_t others = e.in.size(), fields = e.head.headers.size();
  for (const auto& h : e.head.headers) {
    if (!proto::iequals(h.name, "If-None-Match") && !proto::iequals(h.name, "Last-Event-ID")) continue;
    others -= static_cast<std::size_t>(h.value.data() + h.value.size() + 2 - h.name.data());
    --fields;
  }
  const auto& most = gate().settings.head;
  return line <= most.line && others + line + 2 <= most.head && fields < most.headers;
}

// ---- POST

inline void connection::post() {
  exchange& e = *asked();
  e.shown.transport_ = "post";
  // What followers would get is not what its type says (RFC 9110, sections 8.4 and 15.5.16).
  if (e.head.any_element("Content-Encoding",
                         [](std::string_view coding) { return !proto::iequals(coding, "identity"); }))
    return refuse({errc::unsupported_media, "a body with a Content-Encoding is not understood"});
  if (!read_channels()) return;
  if (e.channels.size() > 1) return refuse({errc::bad_request, "a publish names exactly one channel"});
  if (e.channels.size() == 1) return authorize();
  std::string_view type = e.head.find("Content-Type");
  if (!proto::iequals(proto::trim(type.substr(0, type.find(';'))), "application/json")) {
    return refuse({errc::unsupported_media, "commands are application/json; to publish, name a channel in the query"});
  }
  if (std::string_view body = e.body;
      body.find_first_not_of(" \t\r\n") != body.npos && body[body.find_first_not_of(" \t\r\n")] == '[') {
    vector<proto::json::value> elements;
    if (auto wrong = proto::json::split_array(body, elements, {.depth = proto::detail::command_limits.depth + 1}))
      return refuse({errc::bad_request, wrong.what});
    if (elements.size() > gate().settings.post_commands)
      return refuse({errc::bad_request, "more than " + std::to_string(gate().settings.post_commands) + " commands"});
    e.array = true;
    for (const auto& v : elements) e.commands.emplace_back(v.text);
  } else {
    e.commands.push_back(e.body);
  }
  authorize();
}

inline void connection::begin_post(shared_grant g) {
  exchange& e = *asked();
  if (!gate().messages.open(*this, std::move(g), e.device, false)) return refuse({errc::overloaded, {}, 5});
  if (e.channels.empty()) return next_command();
  // Before a look at what it says.
  if (auto why = gate().refusal(permissions(), &shared_grant::may_publish, e.channels[0])) return refuse(*why);

  std::string_view type = e.head.find("Content-Type"), plain = proto::trim(type.substr(0, type.find(';')));
  publish_options o;
  if (auto key = e.head.find("Idempotency-Key"); key.data()) {
    if (key.size() >= 2 && key.front() == '"' && key.back() == '"') key = key.substr(1, key.size() - 2);
    if (key.empty()) return refuse({errc::bad_request, "Idempotency-Key is empty"});
    o.key = key;
  }
  payload p;
  bool text = plain.size() > 5 && proto::iequals(plain.substr(0, 5), "text/");
  if (proto::iequals(plain, "application/json")) {
    if (auto wrong = proto::json::validate(e.body)) return refuse({errc::bad_request, wrong.what});
    p = payload::json(e.body);
  } else if (text) {
    if (!proto::valid_utf8(e.body)) return refuse({errc::unsupported_media, "the text is not UTF-8"});
    p = payload::text(e.body, type);
  } else {
    p = payload::binary(e.body, type);
  }
  gate().publish(*this, std::string(e.channels[0]), std::move(p), std::move(o), true,
                 [this, g2 = &gate(), key = key()](result<position>&& r) {
                   if (!g2->messages.find(key) || !owes()) return;
                   contained([&] {
                     if (!r) return refuse(r.error());
                     std::string body = "{\"channel\":";
                     proto::json::append_quoted(body, asked()->channels[0]);
                     body += ",\"epoch\":\"" + r->epoch + "\",\"offset\":";
                     proto::append_decimal(body, r->offset);
                     respond(201, "application/json", body + '}', "Cache-Control: no-store\r\n");
                   });
                 });
}

/// What the replies of an array may come to, in answers of the largest poll, before it may ask for no more history: 64
/// times an answer for a request of 3 KB would be for strangers to spend.
inline constexpr std::size_t replies_per_array = 8;

// Carries out the commands one after the other; a loop where they are done at once, so that no body can nest calls.
inline void connection::next_command() {
  if (command_under_way_) return;
  command_under_way_ = true;
  while (asked() && !answered_ && is_open()) {
    exchange& e = *asked();
    if (e.done == e.commands.size()) {
      command_under_way_ = false;
      return respond(200, "application/json", '[' + e.replies + ']', "Cache-Control: no-store\r\n");
    }
    if (gate().stopping && e.array) {  // what a hook has stopped is not gone on with
      command_under_way_ = false;
      return leave_commands({errc::draining, {}, 1});
    }
    std::size_t turn = e.done;
    std::string_view text = e.commands[turn];
    auto finish = [this](std::string_view id, const result<std::string>& r) {
      exchange& x = *asked();
      ++x.done;
      if (!x.array) {
        command_under_way_ = false;
        if (!r) return refuse(r.error());
        std::string body;
        proto::append_reply_ok(body, id, *r);
        return respond(200, "application/json", body, "Cache-Control: no-store\r\n");
      }
      if (r && id.empty()) return;
      if (!r) gate().note("refused", *this, r.error().code, r.error().text());
      if (!x.replies.empty()) x.replies += ',';
      if (r) {
        proto::append_reply_ok(x.replies, id, *r);
      } else {
        proto::append_reply_error(x.replies, id, r.error());
      }
    };
    auto c = proto::read_command(text);
    if (!c) {
      finish(proto::command_id(text), c.error());
      continue;
    }
    if (c->what == proto::command::verb::history && e.replies.size() > replies_per_array * gate().settings.poll_bytes) {
      finish(c->id, failure(errc::too_large, "the replies before it fill this answer; ask for it in another request"));
      continue;
    }
    bool inside = true;
    auto here = std::make_shared<bool*>(&inside);
    gate().run(*this, std::move(*c),
               [this, g = &gate(), key = key(), id = std::string(c->id), finish, here](result<std::string> r) {
                 if (!g->messages.find(key) || !owes()) return;
                 contained([&] {
                   finish(id, r);
                   if (*here || answered_) return;
                   command_under_way_ = false;  // it was answered later: go on from here
                   next_command();
                 });
               });
    *here = nullptr;
    if (!asked() || answered_) break;
    if (asked()->done == turn) return;  // to be answered later
  }
  command_under_way_ = false;
}

// The server stops, or the host ends the session, in the middle of an array: what was done has been, what is with the
// host may be, and the rest will not.
inline void connection::leave_commands(const failure& others) {
  exchange& e = *asked();
  bool begun = command_under_way_;
  for (; e.done < e.commands.size(); ++e.done) {
    if (!e.replies.empty()) e.replies += ',';
    proto::append_reply_error(e.replies, proto::command_id(e.commands[e.done]),
                              std::exchange(begun, false) ? failure(errc::internal) : others);
  }
  respond(200, "application/json", '[' + e.replies + ']', "Cache-Control: no-store\r\n");
}

// What a server that stops does with a connection that is no stream.
inline void connection::leave() {
  switch (phase_) {
    case phase::head:
      enter(phase::closing);
      ask_settle();
      break;
    case phase::held:
      if (answer_held(true)) break;
      [[fallthrough]];  // the storage has not told what there is, and will not any more
    case phase::body:
    case phase::asked:
      if (answered_) break;
      if (asked()->array && is_open()) {
        leave_commands({errc::draining, {}, 1});
      } else {
        // What a host has begun may be done or not.
        refuse_stream(command_under_way_ ? failure(errc::internal) : failure(errc::draining, {}, 1));
      }
      break;
    default:
      break;
  }
}

// ---- answers

inline void connection::respond(int status, std::string_view type, std::string_view body, std::string_view extra) {
  exchange& e = *asked();
  bool keep = keeps();
  std::string headers(gate().date());
  headers.append(e.extra).append(extra);
  proto::http1::append_response_head(out(), status, type, body.size(), keep, e.head.minor, headers);
  if (e.head.method != "HEAD" && status != 204 && status != 304) out() += body;
  ask_wake();
  answered(keep);
}

inline void connection::refuse(const failure& why) {
  ex();  // a peer too slow for its first byte has no exchange yet
  gate().note("refused", *this, why.code, why.text());
  std::string extra = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n", body;
  switch (why.code) {
    case errc::unauthenticated:
      extra += "WWW-Authenticate: Bearer\r\n";
      break;  // one must be there: RFC 9110, section 15.5.2
    case errc::method_not_allowed:
      extra += "Allow: " + (asked()->shown.path_ == gate().settings.path ? methods() : "GET, HEAD\r\n");
      break;
    case errc::upgrade_required:
      extra += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
      break;
    case errc::rate_limited:
    case errc::draining:
    case errc::overloaded:
      extra.append("Retry-After: ").append(std::to_string(std::max(1, why.retry_after))).append("\r\n");
      break;
    case errc::timeout:
      keep_ = false;
      break;
    default:
      break;
  }
  if (phase_ == phase::body || phase_ == phase::head)
    keep_ = false;  // the body was not read: what follows cannot be trusted
  proto::append_problem(body, why);
  respond(http_status(why.code), "application/problem+json", body, extra);
}

// What will pass is said in the transport's own way, where it has one.
inline void connection::refuse_stream(const failure& why) {
  bool passing = why.code == errc::draining || why.code == errc::overloaded || why.code == errc::rate_limited;
  exchange& e = *asked();
  if (!passing || !e.serving || !e.serving->refuse) return refuse(why);
  gate().note("refused", *this, why.code, why.text());
  keep_ = false;
  transport::spoken_refusal said = e.serving->refuse(why);
  respond(200, said.content_type, said.body, "Cache-Control: no-store\r\n" + std::string(said.fields));
}

inline void connection::answered(bool keep) {
  keep_ = keep;
  answered_ = true;
  phase_ = phase::asked;
  if (!processing_) ask_settle();
}

inline void connection::finish_exchange() {
  end_session();  // answered until then: what its hook does to the session cannot answer once more
  answered_ = false;
  std::string rest = asked() ? std::move(asked()->rest) : std::string();
  if (asked() && !asked()->renew()) forget_request();
  stream_.reset();  // one that was refused
  if (!keep_ || (peer_ended_ && rest.empty())) {
    enter(phase::closing);
    ask_settle();
    return;
  }
  if (!rest.empty()) ex().in = std::move(rest);
  enter(phase::head);
}

}  // namespace hailwire::detail
