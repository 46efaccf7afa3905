// SPDX-License-Identifier: BSL-1.0
#pragma once

// Content on its way in and out: uploads (`{path}/content`, PROTOCOL.md), and the bytes of a message that names one.
// Neither is ever whole in memory. An upload's connection is read while less than `upload_buffer` waits for the
// storage; a download asks the storage for its next block when the peer's system has taken the last one. So a slow peer
// or a slow disk costs one block, and whoever stands still for `options::stall_time` is let go: an upload keeps what
// has arrived.
//
// A request with content is served from its head on, in the phase `asked`: its body is taken as it comes.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/connection/connection.hpp"
#include "hailwire/detail/hub/principal.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE content_work::~content_work() {
  if (!writes) return;
  auto at = writes->find(id);
  if (at != writes->end() && at->second == on) writes->erase(at);
}

// For what the storage answers to a request: nothing, once that is not the one under way any more.
template <class Result, class F>
move_only_function<void(Result)> http_exchange::later(F f) {
  return [here = here(), serial = serial_, f = std::move(f)](Result r) mutable {
    auto at = here.lock();
    connection* self = at ? *at : nullptr;
    if (!self || !self->asked() || self->asked()->serial_ != serial || !self->owes()) return;
    self->contained([&] {
      f(*self->asked(), std::move(r));
      self->update_watch();
    });
  };
}

HAILWIRE_INLINE void http_exchange::serve_content() {
  auto no = [&](std::string_view why) { return refuse({errc::bad_request, why}); };
  content_ = std::unique_ptr<content_work>(new content_work);
  content_work& w = *content_;
  w.on = on_;
  w.unread = head_.has_body();
  w.left = head_.content_length.value_or(0);
  if (!query_readable_) return no("the query has a bad escape or is not UTF-8");
  const std::string_view id = content_id(shown_.path_, server().settings);
  const std::string_view methods = id.empty() ? "POST, OPTIONS\r\n" : "HEAD, PATCH, DELETE, OPTIONS\r\n";
  if (head_.method == "OPTIONS") {
    std::string extra = "Allow: " + std::string(methods);
    if (listed_page_) allow_fields(extra, methods);
    return respond(204, {}, {}, extra);
  }
  shown_.transport_ = "content";
  if (id.empty() && head_.method == "POST") {
    w.what = content_work::task::create;
  } else if (!id.empty() && head_.method == "HEAD") {
    w.what = content_work::task::show;
  } else if (!id.empty() && head_.method == "PATCH") {
    w.what = content_work::task::append;
  } else if (!id.empty() && head_.method == "DELETE") {
    w.what = content_work::task::drop;
  } else {
    return refuse(errc::method_not_allowed);
  }
  const bool changes = w.what != content_work::task::show;
  if (changes && !own_page_ && !listed_page_) return refuse({errc::forbidden, "this origin is not listed"});
  if (!server().messages.contents().offered()) return refuse({errc::not_implemented, "this server keeps no content"});
  if (!let_in() || !read_channels()) return;
  w.id = id;
  if (auto said = head_.find("Upload-Complete"); said.data()) {
    if (said != "?0" && said != "?1") return no("Upload-Complete is ?0 or ?1");
    w.completes = said == "?1";
  }
  if (auto said = head_.find("Upload-Length"); said.data()) {
    w.length = proto::parse_decimal(said, max_offset);
    if (!w.length) return no("Upload-Length is a number of bytes");
  }
  if (w.what == content_work::task::create) {
    if (channels_.size() != 1) return no("an upload is for exactly one channel");
    if (head_.any_element("Content-Encoding",
                          [](std::string_view coding) { return !proto::iequals(coding, "identity"); }))
      return refuse({errc::unsupported_media, "a body with a Content-Encoding is not understood"});
    if (!read_type_and_key()) return;
    if (!w.length && w.completes && !head_.chunked) w.length = w.left;
  } else if (w.what == content_work::task::append) {
    std::string_view type = head_.find("Content-Type");
    if (!proto::iequals(proto::trim(type.substr(0, type.find(';'))), "application/partial-upload"))
      return refuse({errc::unsupported_media, "a part of an upload is application/partial-upload"});
    const auto at = proto::parse_decimal(head_.find("Upload-Offset"), max_offset);
    if (!at) return no("Upload-Offset is the number of bytes before this part");
    w.from = *at;
  }
  authorize();
}

// What a new content is said to be. False when it has refused.
HAILWIRE_INLINE bool http_exchange::read_type_and_key() {
  content_work& w = *content_;
  auto no = [&](std::string_view why) { return refuse({errc::bad_request, why}), false; };
  w.type = head_.find("Content-Type");
  if (w.type.empty()) w.type = "application/octet-stream";
  if (w.type.size() > 255) return no("Content-Type is longer than 255 bytes");
  if (auto key = idempotency_key(); key.data()) {
    if (!proto::detail::valid_key(key)) return no("Idempotency-Key is 1 to 64 visible ASCII characters");
    w.key = key;
  }
  return true;
}

// A plain publish that is too large for a log: its body becomes a content, which its message names.
HAILWIRE_INLINE void http_exchange::begin_large_publish() {
  content_ = std::unique_ptr<content_work>(new content_work);
  content_->on = on_;
  content_->what = content_work::task::publish;
  content_->unread = true;
  content_->left = head_.content_length.value_or(0);
  content_->length = head_.content_length;
  if (read_type_and_key()) serve_live();
}

HAILWIRE_INLINE void http_exchange::begin_content(shared_grant g) {
  using task = content_work::task;
  if (!count_request(g)) return;
  if (!server().messages.open(*on_, std::move(g), device_, false)) return refuse({errc::overloaded, {}, 5});
  on_->charge(in_.size());
  content_work& w = *content_;
  const content_limits& limits = server().settings.content;
  const std::string owner = principal(on_->permissions()).text();
  if (owner.empty()) return refuse({errc::forbidden, "an upload is a user's"});
  auto contents = server().messages.contents();
  if (w.what == task::create || w.what == task::publish) {
    if (auto why = server().refusal(on_->permissions(), &shared_grant::may_publish, channels_[0])) return refuse(*why);
    upload u{{}, owner, channels_[0], w.type, w.what == task::create ? w.key : std::string(), w.length};
    return contents.open(std::move(u), limits, later<upload_result>([](http_exchange& e, upload_result r) {
                           if (r.error) return e.refuse(content_failure(r.error));
                           content_work& mine = *e.content_;
                           mine.id = r.state.id;
                           // A repeat: what it brings is there already, at least in part; its client goes on from where
                           // that ends.
                           if (r.known && (r.state.offset > 0 || r.state.complete))
                             return e.respond_upload(201, r.state);
                           e.begin_body(r.state);
                         }));
  }
  contents.find(w.id, later<upload_result>([owner](http_exchange& e, upload_result r) {
                  content_work& mine = *e.content_;
                  if (r.error) return e.refuse(content_failure(r.error));
                  if (r.state.owner != owner) return e.refuse({errc::not_found, "there is no such upload"});
                  if (auto why = e.server().refusal(e.on_->permissions(), &shared_grant::may_publish, r.state.channel))
                    return e.refuse(*why);
                  if (mine.what == task::show) return e.respond_upload(204, r.state);
                  if (mine.what == task::drop)
                    return e.server().messages.contents().abort(
                        mine.id, e.later<upload_result>([](http_exchange& x, upload_result d) {
                          if (d.error) return x.refuse(content_failure(d.error));
                          x.respond(204, {}, {}, "Cache-Control: no-store\r\n");
                        }));
                  if (r.state.complete || r.state.offset != mine.from) return e.refuse_offset(r.state);
                  if (mine.length && r.state.length.value_or(*mine.length) != *mine.length)
                    return e.refuse({errc::bad_request, "Upload-Length is another one than before"});
                  e.begin_body(r.state);
                }));
}

HAILWIRE_INLINE void http_exchange::refuse_offset(const upload& u) {
  extra_ += "Upload-Offset: ";
  proto::append_decimal(extra_, u.offset);
  extra_ += u.complete ? "\r\nUpload-Complete: ?1\r\n" : "\r\nUpload-Complete: ?0\r\n";
  refuse({errc::conflict, "the upload stands at another offset"});
}

// Of two who write at once the earlier is cut: it may be a connection that is dead and does not know.
HAILWIRE_INLINE void http_exchange::begin_body(const upload& state) {
  content_work& w = *content_;
  auto& all = server().uploads;
  auto [at, first] = all.try_emplace(w.id, on_);
  if (!first) {
    connection* earlier = std::exchange(at->second, on_);
    if (earlier != on_) earlier->contained([&] { earlier->die(true, errc::conflict); });
  }
  w.writes = &all;
  w.from = state.offset;
  w.state = state;
  w.reading = true;
  if (head_.expect_continue && rest_.empty()) {
    on_->out() += proto::http1::continue_response;
    on_->ask_wake();
  }
  on_->schedule();
  content_more();
}

// Goes on with what there is to do: the next of an upload's body, or of a download.
HAILWIRE_INLINE void http_exchange::content_more() {
  content_work& w = *content_;
  if (w.busy || on_->answered_) return;
  if (w.what == content_work::task::send) return send_more();
  if (!w.reading) return;
  std::string block;
  if (head_.chunked) {
    std::string_view in = rest_;
    const auto progress = chunks_.decode(in, block, SIZE_MAX);
    rest_.erase(0, rest_.size() - in.size());
    if (progress == proto::http1::progress::failed) return refuse(chunks_.error());
    if (progress == proto::http1::progress::done) w.unread = false;
  } else {
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(w.left, rest_.size()));
    block.assign(rest_, 0, n);
    rest_.erase(0, n);
    w.left -= n;
    if (w.left == 0) w.unread = false;
  }
  if (block.empty() && w.unread) {
    if (on_->peer_ended_) on_->die(true);  // cut: what came before is kept
    return;
  }
  if (block.empty()) return body_over();
  w.busy = true;
  on_->charge(block.size());
  server().messages.contents().write(w.id, w.from, std::move(block),
                                     later<upload_result>([](http_exchange& e, upload_result r) {
                                       content_work& mine = *e.content_;
                                       mine.busy = false;
                                       if (r.error == errc::conflict) return e.refuse_offset(r.state);
                                       if (r.error) return e.give_up(r.error);
                                       mine.from = r.state.offset;
                                       mine.state = std::move(r.state);
                                       e.on_->last_read_ = moment(e.server().now());  // the peer's time begins anew
                                       e.on_->schedule();
                                       e.content_more();
                                     }));
}

HAILWIRE_INLINE void http_exchange::give_up(std::error_code why) {
  if (content_->what == content_work::task::publish)
    server().messages.contents().abort(content_->id, [](upload_result) {});
  refuse(content_failure(why));
}

HAILWIRE_INLINE void http_exchange::body_over() {
  content_work& w = *content_;
  w.reading = false;
  if (!w.completes) return respond_upload(w.what == content_work::task::create ? 201 : 204, w.state);
  w.busy = true;
  server().messages.contents().commit(
      w.id, later<upload_result>([](http_exchange& e, upload_result r) {
        content_work& mine = *e.content_;
        mine.busy = false;
        if (r.error == errc::bad_request) return e.refuse({errc::bad_request, "the upload is shorter than its length"});
        if (r.error) return e.give_up(r.error);
        if (mine.what != content_work::task::publish)
          return e.respond_upload(mine.what == content_work::task::create ? 201 : 204, r.state);
        publish_options o;
        o.key = mine.key;
        o.content = std::make_shared<const content_reference>(content_reference{mine.id, r.state.offset, r.state.type});
        e.server().commands.publish(*e.on_, std::string(e.channels_[0]), payload(), std::move(o), true,
                                    e.publish_answer(mine.id));
      }));
}

// An upload that its publish has not used goes at once.
HAILWIRE_INLINE client_publish_handler http_exchange::publish_answer(std::string unused) {
  return [on = on_, by = &server(), key = on_->key(), unused = std::move(unused)](result<position>&& r) {
    if (!unused.empty() && by->messages.contents().offered())
      by->messages.contents().abort(unused, [](upload_result) {});
    if (!by->messages.find(key) || !on->owes()) return;
    on->contained([&] {
      http_exchange& e = *on->asked();
      if (!r) return e.refuse(r.error());
      std::string body = "{\"channel\":";
      proto::json::append_quoted(body, e.channels_[0]);
      body += ",\"epoch\":\"" + r->epoch + "\",\"offset\":";
      proto::append_decimal(body, r->offset);
      e.respond(201, "application/json", body + '}', "Cache-Control: no-store\r\n");
    });
  };
}

HAILWIRE_INLINE void http_exchange::respond_upload(int status, const upload& u) {
  std::string fields, body;
  if (status == 201) {
    const std::string& path = server().settings.path;
    fields = "Location: " + path.substr(0, path.size() - path.ends_with('/')) + "/content/" + u.id + "\r\n";
    body = "{\"content\":\"" + u.id + "\",\"offset\":";
    proto::append_decimal(body, u.offset);
    body += u.complete ? ",\"complete\":true" : ",\"complete\":false";
    proto::append_decimal(body += ",\"expires\":", static_cast<std::uint64_t>(u.left_ms / 1000));
    body += '}';
  }
  proto::append_decimal(fields += "Upload-Offset: ", u.offset);
  fields += u.complete ? "\r\nUpload-Complete: ?1" : "\r\nUpload-Complete: ?0";
  if (u.length) proto::append_decimal(fields += "\r\nUpload-Length: ", *u.length);
  proto::append_decimal(fields += "\r\nUpload-Limit: max-size=", server().settings.content.size);
  fields += "\r\nCache-Control: no-store\r\n";
  respond(status, body.empty() ? std::string_view() : std::string_view("application/json"), body, fields);
}

// ---- downloads

HAILWIRE_INLINE void http_exchange::send_content(int status, const content_reference& c, std::uint64_t from,
                                                 std::uint64_t size, std::string_view fields) {
  content_ = std::unique_ptr<content_work>(new content_work);
  content_work& w = *content_;
  w.what = content_work::task::send;
  w.on = on_;
  w.id = c.id;
  w.from = from;
  w.left = size;
  w.keeps = on_->keeps();
  proto::http1::begin_response_head(on_->out(), status, c.type, size, w.keeps, head_.minor);
  on_->out().append(server().date()).append(extra_).append(fields).append("\r\n", 2);
  w.begun = true;
  on_->ask_wake();
  if (head_.method == "HEAD") w.left = 0;
  send_more();
}

HAILWIRE_INLINE void http_exchange::send_more() {
  content_work& w = *content_;
  if (w.left == 0) return on_->answered(w.keeps);
  if (on_->unsent() >= download_block || on_->blocked_) return;
  w.busy = true;
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(w.left, download_block));
  server().messages.contents().read(w.id, w.from, size,
                                    later<content_result>([size](http_exchange& e, content_result r) {
                                      content_work& mine = *e.content_;
                                      mine.busy = false;
                                      // Trimmed or taken back meanwhile, or the disk fails: a status has been told, so
                                      // only the end of the connection says that this is not the whole (RFC 9112,
                                      // section 8).
                                      if (r.error || r.bytes.size() != size)
                                        return e.on_->die(false, r.error ? wire_code(r.error) : errc::internal);
                                      e.on_->out() += r.bytes;
                                      mine.from += size;
                                      mine.left -= size;
                                      e.on_->ask_wake();
                                      if (mine.left == 0) e.on_->answered(mine.keeps);
                                    }));
}

}  // namespace hailwire::detail
