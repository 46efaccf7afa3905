// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because a request is followed from its head to its answer in one place.
//
// How HTTP requests are served, by `http_exchange` and, where the connection's phases change, by the connection. The
// order is that of the protocol: is the request well-formed, which transport claims it, who asks, may they; only then a
// look at any log.

#include <memory>
#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {

// Of a peer as `request::peer` writes it.
inline std::string_view without_port(std::string_view peer) noexcept {
  return peer.starts_with('[') ? peer.substr(1, peer.find(']') - 1) : peer.substr(0, peer.find(':'));
}

}  // namespace hailwire::detail

HAILWIRE_INLINE const std::string& hailwire::request::peer() const {
  if (peer_.empty()) peer_ = on_->peer();
  return peer_;
}
HAILWIRE_INLINE std::string_view hailwire::request::address() const { return detail::without_port(peer()); }

namespace hailwire::detail {

HAILWIRE_INLINE std::string connection::known_peer() const {
  if (asked() && asked()->shown_) return asked()->shown_.peer();
  return find_rare() && find_rare()->told_peer ? find_rare()->told_peer->text() : peer();
}
HAILWIRE_INLINE std::string connection::address() const { return std::string(without_port(known_peer())); }

// ---- from bytes to a request

HAILWIRE_INLINE http_exchange::http_exchange(connection& on) : on_(&on), parser_(on.server().settings.head) {}
HAILWIRE_INLINE server_state& http_exchange::server() const noexcept { return on_->server(); }

HAILWIRE_INLINE void connection::process() {
  if (processing_) return;
  processing_ = true;
  for (bool going = true; going;) {
    going = false;
    if (answered_) {
      finish_exchange();
      going = phase_ == phase::head;
    } else if (phase_ == phase::head && asked() && !asked()->in_.empty() && unsent() < server().settings.max_unsent) {
      going = asked()->read_head();
    } else if (phase_ == phase::body) {
      asked()->read_body();
      if (phase_ == phase::body && peer_ended_)
        asked()->refuse({errc::bad_request, "the request ended within its body"});
      going = answered_;
    }
  }
  if (unsent() && !blocked_) pump(nullptr);  // answers leave with the input that asked for them
  processing_ = false;
}

// Reads on in the head that is coming, and serves the request once it is there. Whether there is more to do now.
HAILWIRE_INLINE bool http_exchange::read_head() {
  switch (parser_.parse(in_, head_)) {
    case proto::http1::progress::need_more:
      if (!on_->peer_ended_) return false;
      drop_head();
      refuse({errc::bad_request, "the request ended within its head"});
      return true;
    case proto::http1::progress::failed:
      on_->keep_ = false;
      drop_head();
      refuse(parser_.error());
      return true;
    case proto::http1::progress::done:
      break;
  }
  rest_.assign(in_, parser_.size());
  in_.resize(parser_.size());  // shrinks in place: the head's views stay
  connection& on = *on_;       // which may have become a stream
  begin_request();
  return on.answered_ || (on.phase_ == connection::phase::body && on.peer_ended_);
}

// What was read of a head that is refused before its end looks into a buffer that may have moved. It says no more, but
// for HEAD, whose answer has no content whatever becomes of the request (RFC 9110, section 9.3.2).
HAILWIRE_INLINE void http_exchange::drop_head() {
  std::string_view line = in_;
  while (line.starts_with("\r\n")) line.remove_prefix(2);
  head_.clear();
  if (line.starts_with("HEAD ") || line == "HEAD") head_.method = "HEAD";
}

/// The largest request body: of the live resource an array of commands around a payload in base64 (RFC 4648), which
/// takes four letters for three bytes; elsewhere what the host has said.
inline std::size_t body_limit(const options& o, std::string_view path) noexcept {
  return path == o.path ? largest_payload(o) / 3 * 4 + 64 * 1024 : o.max_payload;
}

HAILWIRE_INLINE void http_exchange::begin_request() {
  const options& o = server().settings;
  on_->keep_ = head_.keep_alive;
  on_->served_ = true;
  shown_.begin(*on_, head_, query_, on_->tls());
  if (!head_.has_body())
    on_->enter(connection::phase::asked);  // whatever comes of it, the next request begins behind the head
  if (!proto::percent_decode(head_.path, shown_.path_, false))
    return refuse({errc::bad_request, "the path has a bad escape or is not UTF-8"});
  if (server().behind.any()) {
    auto told = server().behind.look(head_, shown_.peer());
    if (!told) return refuse(told.error());
    if (auto& by = *told) {
      if (by->from.address) shown_.peer_ = by->from.text();
      shown_.scheme_ = std::move(by->scheme);
      shown_.host_ = std::move(by->host);
    }
  }
  look_at_origin();
  const bool content = is_content(shown_.path_, o);
  const bool large = !content && head_.method == "POST" && shown_.path_ == o.path &&
                     head_.content_length.value_or(0) > largest_payload(o) && server().messages.contents().offered() &&
                     head_.query.find("channel=") != std::string_view::npos;
  if (head_.content_length.value_or(0) > (content || large ? o.content.size : body_limit(o, shown_.path_)))
    return refuse({errc::too_large, "the request body is over the limit"});
  query_readable_ = proto::parse_query(head_.query, query_);
  if (!query_readable_) query_.clear();
  if (on_->excess_ != session::excess::none &&
      (head_.has_body() || head_.method != "GET" || shown_.path_ != server().settings.path)) {
    on_->keep_ = false;
    return refuse(*on_->excess_failure());
  }
  if (content || large) {
    on_->enter(connection::phase::asked);
    return content ? serve_content() : begin_large_publish();
  }
  if (!head_.has_body()) return dispatch();
  on_->enter(connection::phase::body);
  if (head_.expect_continue && rest_.empty()) {
    on_->out() += proto::http1::continue_response;
    on_->ask_wake();
  }
  read_body();
}

HAILWIRE_INLINE void http_exchange::read_body() {
  if (head_.chunked) {
    std::string_view in = rest_;
    auto progress = chunks_.decode(in, body_, body_limit(server().settings, shown_.path_));
    rest_.erase(0, rest_.size() - in.size());
    if (progress == proto::http1::progress::need_more) return;
    if (progress == proto::http1::progress::failed) {
      on_->keep_ = false;
      return refuse(chunks_.error());
    }
  } else if (std::size_t size = static_cast<std::size_t>(head_.content_length.value_or(0))) {
    std::size_t n = std::min(size - body_.size(), rest_.size());
    body_.append(rest_, 0, n);
    rest_.erase(0, n);
    if (body_.size() < size) return;
  }
  on_->enter(connection::phase::asked);
  dispatch();
}

HAILWIRE_INLINE void http_exchange::dispatch() {
  // Of the server as a whole (RFC 9110, section 9.3.7): the host's to answer, where it answers requests.
  if (proto::same_bytes(head_.path, "*") && !server().host.on_http) return respond(204, {}, {}, "Allow: " + methods());
  if (shown_.path_ == server().settings.path) return serve_live();
  if (is_messages(shown_.path_, server().settings)) return serve_message();
  serve_elsewhere();
}

// ---- what no transport claims

HAILWIRE_INLINE void http_exchange::serve_elsewhere() {
  // Other protocols, and any in HTTP/1.0, may be ignored (RFC 9110, section 7.8).
  if (head_.minor >= 1 && head_.has_token("Upgrade", "websocket")) {
    for (auto& route : server().frame_routes)
      if (route->serves(shown_.path_)) return stream_exchange(*on_).open_frames(*route);
  }
  shown_.body_ = body_;
  if (!server().host.on_http) return refuse(errc::not_found);
  auto reply = server().reply_for<result<response>>(
      "on_http", server().host.serves_at_once, [here = here(), serial = serial_](result<response> r) {
        auto at = here.lock();
        connection* self = at ? *at : nullptr;
        if (!self || !self->asked() || self->asked()->serial_ != serial || !self->owes()) return;
        self->contained([&] { self->asked()->respond_with(r); });
      });
  // A hook that throws leaves its reply unanswered, which answers `internal`.
  server().guarded("on_http", [&] { server().host.on_http(shown_, std::move(reply)); });
}

HAILWIRE_INLINE void http_exchange::respond_with(const result<response>& r) {
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
HAILWIRE_INLINE void http_exchange::look_at_origin() {
  const auto& listed = server().settings.allowed_origins;
  auto origin = head_.find("Origin");
  own_page_ = !origin.data() || proto::http1::same_origin(origin, shown_.host());
  // What is known to be https is not the same origin as http; that it came here without TLS says nothing.
  if (origin.data() && shown_.scheme() == "https" && !proto::iequals(origin.substr(0, 6), "https:")) own_page_ = false;
  listed_page_ = !own_page_ && std::find(listed.begin(), listed.end(), origin) != listed.end();
  // No browser sends two (RFC 6454, section 7.3), and which of them somebody in between has looked at is not known.
  if (origin.data() && std::count_if(head_.headers.begin(), head_.headers.end(),
                                     [](const auto& h) { return proto::iequals(h.name, "Origin"); }) > 1)
    own_page_ = listed_page_ = false;
  if (shown_.path_ != server().settings.path && !is_messages(shown_.path_, server().settings) &&
      !is_content(shown_.path_, server().settings))
    return;
  if (!listed.empty()) extra_ += "Vary: Origin\r\n";
  if (!listed_page_) return;
  extra_.append("Access-Control-Allow-Origin: ").append(origin);
  extra_ +=
      "\r\nAccess-Control-Allow-Credentials: true\r\n"
      "Access-Control-Expose-Headers: ETag, Retry-After, Location, Content-Range, Accept-Ranges, Upload-Offset, "
      "Upload-Complete, Upload-Limit\r\n";
}

// Of the live resource, as a header line ends with them.
HAILWIRE_INLINE std::string http_exchange::methods() const {
  const auto& all = server().transports;
  const bool heads = std::any_of(all.begin(), all.end(), [](const transport::entry* t) { return t->answers_head; });
  return heads ? "GET, HEAD, POST, OPTIONS\r\n" : "GET, POST, OPTIONS\r\n";
}

// What a page of a listed origin may ask with (Fetch standard, CORS protocol). `methods` ends its line.
HAILWIRE_INLINE void http_exchange::allow_fields(std::string& out, std::string_view methods) {
  out.append("Access-Control-Allow-Methods: ").append(methods);
  out +=
      "Access-Control-Allow-Headers: Content-Type, Authorization, Prefer, If-None-Match, Last-Event-ID, "
      "Idempotency-Key, Cache-Control, Range, If-Range, Upload-Offset, Upload-Complete, Upload-Length\r\n"
      "Access-Control-Max-Age: 600\r\n";
}

// Without the quotes of a structured field's string; null data: there is none.
HAILWIRE_INLINE std::string_view http_exchange::idempotency_key() const {
  const std::string_view key = head_.find("Idempotency-Key");
  const bool quoted = key.size() >= 2 && key.front() == '"' && key.back() == '"';
  return quoted ? key.substr(1, key.size() - 2) : key;
}

HAILWIRE_INLINE void http_exchange::serve_live() {
  // Of the host's own paths the query is the host's to read, escapes and all.
  if (!query_readable_) return refuse({errc::bad_request, "the query has a bad escape or is not UTF-8"});
  if (proto::same_bytes(head_.method, "GET") || proto::same_bytes(head_.method, "HEAD")) return serve_follow();
  if (head_.method == "POST") {
    if (!own_page_ && !listed_page_) return refuse({errc::forbidden, "this origin is not listed"});
    return post();
  }
  if (head_.method == "OPTIONS") {
    std::string extra = "Allow: " + methods();
    if (listed_page_) allow_fields(extra, methods());
    return respond(204, {}, {}, extra);
  }
  refuse(errc::method_not_allowed);
}

// Reads the channels and the device that the query names; false when it has refused them.
HAILWIRE_INLINE bool http_exchange::read_channels() {
  auto no = [&](std::string why) { return refuse({errc::bad_request, std::move(why)}), false; };
  const auto is = [](std::string_view name, std::string_view word) { return proto::same_bytes(name, word); };
  for (const auto& [name, value] : query_) {
    if (is(name, "channel")) {
      if (!valid_channel(value)) return refuse(not_a_channel()), false;
      if (std::find(channels_.begin(), channels_.end(), value) != channels_.end())
        return no("a channel is named twice");
      channels_.push_back(value);
    } else if (is(name, "device")) {
      if (value.size() > 64 || !proto::printable_utf8(value))
        return no("a device's name is 1 to 64 bytes of UTF-8 without control characters");
      if (device_.empty()) device_ = value;
    } else if (is(name, "heartbeat")) {
      const auto asked = proto::parse_decimal(value);
      if (!asked || *asked == 0) return no("a heartbeat is a number of seconds");
      const auto& o = server().settings;
      const auto bound = [](std::chrono::seconds s) {
        return static_cast<std::uint64_t>(std::clamp<std::int64_t>(s.count(), 1, UINT16_MAX));
      };
      const std::uint64_t least = bound(o.shortest_heartbeat), most = std::max(least, bound(o.longest_heartbeat));
      heartbeat_ = static_cast<std::uint16_t>(std::clamp(*asked, least, most));
    } else if (is(name, "signal")) {
      signals_ = signals_ || value == "1";
    }
  }
  return true;
}

HAILWIRE_INLINE void http_exchange::serve_follow() {
  const options& o = server().settings;
  transport::live_request a{head_, query_, o};

  bool head_only = proto::same_bytes(head_.method, "HEAD");
  for (const transport::entry* t : server().transports) {
    if ((head_only && !t->answers_head) || !t->claims(a)) continue;
    serving_ = t;
    break;
  }
  if (!serving_) {
    if (head_only && std::none_of(server().transports.begin(), server().transports.end(),
                                  [](const transport::entry* t) { return t->answers_head; }))
      return refuse(errc::method_not_allowed);
    if (std::all_of(server().transports.begin(), server().transports.end(),
                    [](const transport::entry* t) { return t->upgrades; }))
      return refuse(errc::upgrade_required);
    std::string offered;
    for (const transport::entry* t : server().transports)
      offered.append(offered.empty() ? "this server offers " : ", ").append(t->offer);
    return refuse({errc::not_acceptable, std::move(offered)});
  }
  shown_.transport_ = serving_->name;
  const bool upgrade = serving_->upgrades;
  if (upgrade && !own_page_ && !listed_page_) return refuse({errc::forbidden, "this origin is not listed"});
  if (upgrade && head_.has_body()) return refuse({errc::bad_request, "a handshake has no body"});

  if (!let_in() || !read_channels()) return;
  if (!may_follow_count(channels_.size(), o)) return refuse(too_many_channels(o));
  if (channels_.empty() && !upgrade) return refuse({errc::bad_request, "no channel is named"});

  auto begun = serving_->begin(a);
  if (!begun) return refuse(begun.error());
  on_->stream_ = std::move(begun->live);
  if (on_->stream_ && on_->peer_ended_) return refuse({errc::bad_request, "the client ended before its stream began"});
  open_ = std::move(begun->open);
  once_ = begun->once;

  if (read_cursor()) authorize();
}

// Where to start; false when it has refused what cannot be read. Of `If-None-Match` a tag that resembles a cursor is
// one: the first that is readable decides, and where none is, what is wrong with the first is told. Other tags are
// other servers', and passed over.
HAILWIRE_INLINE bool http_exchange::read_cursor() {
  const std::size_t longest = server().settings.head.line;
  std::optional<failure> wrong;
  std::string_view text = head_.find("Last-Event-ID");
  if (text.empty()) text = shown_.param("since");
  if (!text.empty()) {
    if (auto why = hailwire::detail::read_cursor(from_, text, channels_.size(), longest)) return refuse(*why), false;
  } else if (!channels_.empty()) {
    // Read first: nearly every tag is a cursor, and what is none is looked at by its letters only then.
    auto take_tag = [&](std::string_view tag) {
      auto why = hailwire::detail::read_cursor(from_, tag, channels_.size(), longest);
      if (!why) return tag_at_ = static_cast<std::uint32_t>(tag.data() - in_.data()), true;
      if (!wrong && resembles_cursor(tag)) wrong = std::move(why);
      from_.clear();
      return false;
    };
    if (proto::http1::any_entity_tag(head_, take_tag)) {
      wrong.reset();
    } else if (!wrong) {  // a cursor that is no tag, without its quotes or with one of them
      for (const auto& h : head_.headers) {
        std::string_view bare = h.value;
        if (!proto::iequals(h.name, "If-None-Match")) continue;
        if (bare.starts_with("W/")) bare.remove_prefix(2);
        if (bare.starts_with('"')) bare.remove_prefix(1);
        if (resembles_cursor(bare)) wrong = {errc::bad_request, "If-None-Match has a cursor that is not in quotes"};
      }
    }
  }
  if (wrong) return refuse(*wrong), false;
  from_.resize(channels_.size());
  return true;
}

HAILWIRE_INLINE void http_exchange::authorize() {
  if (!server().host.authorize) {
    server().no_authorizer();
    static const shared_grant nothing{grant()};
    return allowed(nothing);
  }
  auto reply = server().reply_for<decision>(
      "authorizer", server().host.authorizes_at_once, [here = here(), serial = serial_](decision d) {
        auto at = here.lock();
        connection* self = at ? *at : nullptr;
        if (!self || !self->asked() || self->asked()->serial_ != serial || !self->owes() || self->is_open()) return;
        self->contained([&] {
          auto* granted = d.allowed();
          if (!granted) {
            // Whatever an authorizer says no with, it is one of the protocol's codes.
            self->asked()->refuse_stream(d.refused());
          } else if (!self->server().sound(*granted)) {
            self->asked()->refuse(errc::internal);
          } else if (self->server().messages.ended(*granted)) {
            self->asked()->refuse(permission_ended());
          } else {
            self->asked()->allowed(*granted);
          }
          self->update_watch();
        });
      });
  std::unique_ptr<http_exchange>
      kept;  // a reply inside the call may open a stream, which needs no request any more; the hook still does
  keeper_ = &kept;
  server().guarded("authorizer", [&] { server().host.authorize(shown_, std::move(reply)); });
  if (!kept) keeper_ = nullptr;
}

HAILWIRE_INLINE void http_exchange::begin_following(shared_grant g) {
  for (const std::string& c : channels_)
    if (auto why = server().refusal(g, &shared_grant::may_follow, c)) return refuse(*why);
  if (!count_request(g)) return;
  if (on_->stream_ && head_.method == "HEAD") {
    open_(on_->out(), std::string(server().date()) + extra_);
    on_->ask_wake();
    return on_->answered(false);
  }
  if (server().leaving())
    return refuse_stream({errc::draining, {}, server().drain.begun() ? server().drain.retry_after() : 1});
  if (!server().messages.open(*on_, std::move(g), device_, true)) return refuse_stream({errc::overloaded, {}, 5});
  on_->charge(in_.size());
  if (const std::int64_t wait_ms = server().count_command(*on_)) return refuse_stream(too_many_commands(wait_ms));
  if (std::size_t most = server().settings.max_sessions_per_address;
      most && !server().from_address.add(on_->key().slot, shown_.address(), most))
    return refuse_stream({errc::rate_limited, "too many sessions from this address", 5});
  starts_.resize(channels_.size());
  following_ = static_cast<std::uint32_t>(channels_.size());
  at_once_ = std::any_of(from_.begin(), from_.end(),
                         [](const hailwire::start& s) { return s.from == hailwire::start::word::latest; });
  if (channels_.empty()) return began();
  connection& on = *on_;
  const session_key mine = on.key();
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    follow_next(i);
    if (on.key() != mine || !on.is_open() || on.answered_ || !on.asked())
      return;  // one of them was refused, or all are answered
  }
}

HAILWIRE_INLINE void http_exchange::follow_next(std::size_t i) {
  server().messages.subscriptions.add(*on_, channels_[i], from_[i], true, [on = on_, i](result<follow_start> r) {
    if (!on->owes()) return;  // another channel, or the host, has settled it
    http_exchange& e = *on->asked();
    if (!r) return e.refuse_stream(r.error());
    e.starts_[i] = std::move(*r);
    if (--e.following_ == 0) e.began();
  });
}

// Of channels that the host took away meanwhile nothing is told any more, so what was lost of one stays ahead of the
// client's cursor.
HAILWIRE_INLINE void http_exchange::tell_losses() {
  for (std::size_t i = 0; i < starts_.size() && on_->phase_ != connection::phase::closing; ++i) {
    if (starts_[i].recovered) continue;
    if (auto* s = server().messages.subscriptions.find(*on_, channels_[i])) {
      on_->tell_gap(s->in().log(), starts_[i].lost, on_->told_cursor(this, i + 1));
    } else if (on_->find_rare()) {
      for (session::gone& g : on_->find_rare()->gone_channels) {
        if (g.place != i) continue;
        g.element.clear();
        append_start(g.element, from_[i]);
      }
    }
  }
}

HAILWIRE_INLINE void http_exchange::began() {
  if (server().messages.ended(on_->permissions())) return refuse(permission_ended());  // while the storage was asked
  if (!cursor_returns())
    return refuse(
        {errc::bad_request, "the cursor of so many channels would be longer than a request to this server may be"});
  if (on_->stream_) return stream_exchange(*on_).open();
  server().polls->begin(*this);
}

// Whether the client can come back with the longest cursor that it may ever have, later epochs counted: in a header
// line of its own, in place of the one that this request has brought, beside everything else that it has said. Who
// follows by commands needs none.
HAILWIRE_INLINE bool http_exchange::cursor_returns() const {
  if (starts_.empty() || (on_->stream_ && on_->stream_->duplex())) return true;
  const std::size_t line = std::string_view("If-None-Match: W/\"\"").size() + starts_.size() * max_cursor_element - 1;
  const auto& most = server().settings.head;
  std::size_t others = in_.size(), fields = head_.headers.size();
  // Nearly always there is room beside the old one, which then need not be looked for.
  if (line <= most.line && others + line + 2 <= most.head && fields < most.headers) return true;
  for (const auto& h : head_.headers) {
    if (!proto::iequals(h.name, "If-None-Match") && !proto::iequals(h.name, "Last-Event-ID")) continue;
    others -= static_cast<std::size_t>(h.value.data() + h.value.size() + 2 - h.name.data());
    --fields;
  }
  return line <= most.line && others + line + 2 <= most.head && fields < most.headers;
}

// ---- POST

HAILWIRE_INLINE void http_exchange::post() {
  shown_.transport_ = "post";
  if (!let_in()) return;
  // What followers would get is not what its type says (RFC 9110, sections 8.4 and 15.5.16).
  if (head_.any_element("Content-Encoding",
                        [](std::string_view coding) { return !proto::iequals(coding, "identity"); }))
    return refuse({errc::unsupported_media, "a body with a Content-Encoding is not understood"});
  if (!read_channels()) return;
  if (channels_.size() > 1) return refuse({errc::bad_request, "a publish names exactly one channel"});
  if (channels_.size() == 1) return authorize();
  std::string_view type = head_.find("Content-Type");
  if (!proto::iequals(proto::trim(type.substr(0, type.find(';'))), "application/json")) {
    return refuse({errc::unsupported_media, "commands are application/json; to publish, name a channel in the query"});
  }
  if (std::string_view body = body_;
      body.find_first_not_of(" \t\r\n") != body.npos && body[body.find_first_not_of(" \t\r\n")] == '[') {
    vector<proto::json::value> elements;
    if (auto wrong = proto::json::split_array(body, elements, {.depth = proto::detail::command_limits.depth + 1}))
      return refuse({errc::bad_request, wrong.what});
    if (elements.size() > server().settings.post_commands)
      return refuse({errc::bad_request, "more than " + std::to_string(server().settings.post_commands) + " commands"});
    array_ = true;
    for (const auto& v : elements) commands_.emplace_back(v.text);
  } else {
    commands_.emplace_back(body_);
  }
  authorize();
}

HAILWIRE_INLINE void http_exchange::begin_post(shared_grant g) {
  if (!count_request(g)) return;
  if (!server().messages.open(*on_, std::move(g), device_, false)) return refuse({errc::overloaded, {}, 5});
  on_->charge(in_.size() + body_.size());
  if (channels_.empty()) return next_command();
  // Before a look at what it says.
  if (auto why = server().refusal(on_->permissions(), &shared_grant::may_publish, channels_[0])) return refuse(*why);

  std::string_view type = head_.find("Content-Type"), plain = proto::trim(type.substr(0, type.find(';')));
  publish_options o;
  if (auto key = idempotency_key(); key.data()) {
    if (key.empty()) return refuse({errc::bad_request, "Idempotency-Key is empty"});
    o.key = key;
  }
  payload p;
  bool text = plain.size() > 5 && proto::iequals(plain.substr(0, 5), "text/");
  if (proto::iequals(plain, "application/json")) {
    if (auto wrong = proto::json::validate(body_)) return refuse({errc::bad_request, wrong.what});
    p = payload::json(body_);
  } else if (text) {
    if (!proto::valid_utf8(body_)) return refuse({errc::unsupported_media, "the text is not UTF-8"});
    p = payload::text(body_, type);
  } else {
    p = payload::binary(body_, type);
  }
  server().commands.publish(*on_, std::string(channels_[0]), std::move(p), std::move(o), true, publish_answer({}));
}

/// What the replies of an array may come to, in answers of the largest poll, before it may ask for no more history: 64
/// times an answer for a request of 3 KB would be for strangers to spend.
inline constexpr std::size_t replies_per_array = 8;

// Carries out the commands one after the other; a loop where they are done at once, so that no body can nest calls.
HAILWIRE_INLINE void http_exchange::next_command() {
  connection& on = *on_;
  if (on.command_under_way_) return;
  on.command_under_way_ = true;
  while (on.asked() && !on.answered_ && on.is_open()) {
    if (done_ == commands_.size()) {
      on.command_under_way_ = false;
      return respond(200, "application/json", '[' + replies_ + ']', "Cache-Control: no-store\r\n");
    }
    if (server().stopping && array_) {  // what a hook has stopped is not gone on with
      on.command_under_way_ = false;
      return leave_commands({errc::draining, {}, 1});
    }
    std::size_t turn = done_;
    std::string_view text = commands_[turn];
    auto finish = [on = on_](std::string_view id, const result<std::string>& r) {
      http_exchange& x = *on->asked();
      ++x.done_;
      if (!x.array_) {
        on->command_under_way_ = false;
        if (!r) return x.refuse(r.error());
        std::string body;
        proto::append_reply_ok(body, id, *r);
        return x.respond(200, "application/json", body, "Cache-Control: no-store\r\n");
      }
      if (r && id.empty()) return;
      if (!r) on->server().refused(*on, r.error());
      if (!x.replies_.empty()) x.replies_ += ',';
      if (r) {
        proto::append_reply_ok(x.replies_, id, *r);
      } else {
        proto::append_reply_error(x.replies_, id, r.error());
      }
    };
    auto c = proto::read_command(text);
    if (!c) {
      finish(proto::command_id(text), c.error());
      continue;
    }
    if (c->what == proto::command::verb::history &&
        replies_.size() > replies_per_array * server().settings.poll_bytes) {
      finish(c->id, failure(errc::too_large, "the replies before it fill this answer; ask for it in another request"));
      continue;
    }
    bool inside = true;
    auto here = std::make_shared<bool*>(&inside);
    server().commands.run(
        *on_, std::move(*c),
        [on = on_, by = &server(), key = on.key(), id = std::string(c->id), finish, here](result<std::string> r) {
          if (!by->messages.find(key) || !on->owes()) return;
          on->contained([&] {
            finish(id, r);
            if (*here || on->answered_) return;
            on->command_under_way_ = false;  // it was answered later: go on from here
            on->asked()->next_command();
          });
        });
    *here = nullptr;
    if (!on.asked() || on.answered_) break;
    if (done_ == turn) return;  // to be answered later
  }
  on.command_under_way_ = false;
}

// The server stops, or the host ends the session, in the middle of an array: what was done has been, what is with the
// host may be, and the rest will not.
HAILWIRE_INLINE void http_exchange::leave_commands(const failure& others) {
  bool begun = on_->command_under_way_;
  for (; done_ < commands_.size(); ++done_) {
    if (!replies_.empty()) replies_ += ',';
    proto::append_reply_error(replies_, proto::command_id(commands_[done_]),
                              std::exchange(begun, false) ? failure(errc::internal) : others);
  }
  respond(200, "application/json", '[' + replies_ + ']', "Cache-Control: no-store\r\n");
}

// What a server that stops does with a connection that is no stream.
HAILWIRE_INLINE void connection::leave() {
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
      if (asked()->array_ && is_open()) {
        asked()->leave_commands({errc::draining, {}, 1});
      } else {
        // What a host has begun may be done or not.
        asked()->refuse_stream(command_under_way_ ? failure(errc::internal) : failure(errc::draining, {}, 1));
      }
      break;
    default:
      break;
  }
}

// ---- answers

HAILWIRE_INLINE void http_exchange::respond(int status, std::string_view type, std::string_view body,
                                            std::string_view extra) {
  if (content_ && content_->unread) on_->keep_ = false;  // the body was not read: what follows cannot be trusted
  bool keep = on_->keeps();
  std::string& out = on_->out();
  proto::http1::begin_response_head(out, status, type, body.size(), keep, head_.minor);
  out.append(server().date()).append(extra_).append(extra).append("\r\n", 2);
  if (head_.method != "HEAD" && status != 204 && status != 304) out += body;
  if (!on_->processing_) on_->ask_wake();
  on_->answered(keep);
}

HAILWIRE_INLINE void http_exchange::refuse(const failure& why) {
  if (content_ && content_->begun) return on_->die(false, why.code);  // in the middle of another answer
  server().refused(*on_, why);
  std::string extra = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n", body;
  switch (why.code) {
    case errc::unauthenticated:
      extra += "WWW-Authenticate: Bearer\r\n";
      break;  // one must be there: RFC 9110, section 15.5.2
    case errc::method_not_allowed:
      extra +=
          "Allow: " + (shown_.path_ == server().settings.path         ? methods()
                       : is_messages(shown_.path_, server().settings) ? "GET, HEAD, OPTIONS\r\n"
                       : is_content(shown_.path_, server().settings)
                           ? content_id(shown_.path_, server().settings).empty() ? "POST, OPTIONS\r\n"
                                                                                 : "HEAD, PATCH, DELETE, OPTIONS\r\n"
                           : "GET, HEAD\r\n");
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
      on_->keep_ = false;
      break;
    default:
      break;
  }
  if (on_->phase_ == connection::phase::body || on_->phase_ == connection::phase::head)
    on_->keep_ = false;  // the body was not read: what follows cannot be trusted
  proto::append_problem(body, why);
  respond(http_status(why.code), "application/problem+json", body, extra);
}

// What will pass is said in the transport's own way, where it has one.
HAILWIRE_INLINE void http_exchange::refuse_stream(const failure& why) {
  bool passing = why.code == errc::draining || why.code == errc::overloaded || why.code == errc::rate_limited;
  if (!passing || !serving_ || !serving_->refuse) return refuse(why);
  server().refused(*on_, why);
  on_->keep_ = false;
  transport::spoken_refusal said = serving_->refuse(why);
  respond(200, said.content_type, said.body, "Cache-Control: no-store\r\n" + std::string(said.fields));
}

HAILWIRE_INLINE void connection::answered(bool keep) {
  keep_ = keep;
  answered_ = true;
  phase_ = phase::asked;
  if (!processing_) ask_settle();
}

HAILWIRE_INLINE void connection::finish_exchange() {
  end_session();  // answered until then: what its hook does to the session cannot answer once more
  answered_ = false;
  std::string rest = asked() ? std::move(asked()->rest_) : std::string();
  if (asked() && !asked()->renew()) forget_request();
  stream_.reset();  // one that was refused
  if (!keep_ || (peer_ended_ && rest.empty())) {
    enter(phase::closing);
    ask_settle();
    return;
  }
  if (!rest.empty()) ex().in_ = std::move(rest);
  enter(phase::head);
}

// ---- what a held poll is told -------------------------------------------------------------------------------------

// Here, not with the polls, because streams and draining call them also in a program without polls.

// Its next request is for whoever takes over.
HAILWIRE_INLINE void http_exchange::say_bye() {
  if (said_bye_) return;
  said_bye_ = true;
  if (!notices_.empty()) notices_ += ',';
  notices_ += server().drain.bye();
}

/// How long a held poll gathers what is live-only before it answers: PROTOCOL promises one such answer a second at
/// most.
inline constexpr std::int64_t gather_ms = 1000;

HAILWIRE_INLINE void http_exchange::gather_live(const channel_log& log, bool notice, std::string_view json) {
  const std::size_t before = notices_.size() + replies_.size();
  if (before + 1 + json.size() > server().settings.max_unsent) {
    // It is answered with what there is.
    if (std::string missed = missed_notice(log); notices_.find(missed) == std::string::npos)
      notices_.append(notices_.empty() ? "" : ",").append(missed);
    patient_ = false;
    return on_->ask_wake();
  }
  std::string& to = notice ? notices_ : replies_;
  if (before == 0) {
    until_ = std::min(until_, server().now() + gather_ms);
    patient_ = true;
    if (on_->phase_ == connection::phase::held) on_->schedule();
  }
  if (!notice || !to.empty()) to += ',';
  to += json;
}

}  // namespace hailwire::detail
