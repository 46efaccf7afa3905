// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because commands, questions and who is there share one alarm and one name on which they are heard.

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <utility>

#include "hailwire/detail/hub/all_nodes.hpp"
#include "hailwire/detail/hub/presence.hpp"
#include "hailwire/hub.hpp"

namespace hailwire {

/// A command on its way.
struct all_nodes::command final : detail::operation {
  command(hub& h, std::string&& b, command_handler&& d) : owner(&h), bytes(std::move(b)), done(std::move(d)) {}
  void finish(std::error_code ec) {
    if (std::exchange(over, true)) return;
    owner->pending_.remove();
    if (auto f = std::exchange(done, nullptr)) {
      owner->guarded([&] { f(ec); });
    } else if (ec) {
      owner->publisher.log_failure("everywhere", ec);
    }
  }
  void abort() override { finish(operation_aborted()); }
  hub* owner;
  std::string bytes;
  command_handler done;
  bool over = false;
};

HAILWIRE_INLINE std::string all_nodes::name_of(std::uint64_t id) {
  std::string out("\0node:", 6);
  proto::append_decimal(out, id);
  return out;
}

HAILWIRE_INLINE all_nodes::all_nodes(hub& h)
    : hub_(&h),
      id_(detail::random_bits().low | 1),
      node_(h.settings().node.empty() ? detail::epoch_of(detail::random_bits()) : h.settings().node),
      began_(h.loop().unix_time()) {
  if (node_.size() > 64 || !proto::printable_utf8(node_))
    throw std::invalid_argument("hailwire: options::node has at most 64 bytes, all of them printable");
}

HAILWIRE_INLINE all_nodes::alarm::alarm(all_nodes& a) noexcept : of(&a) {}

HAILWIRE_INLINE bool all_nodes::behind() const noexcept { return hub_->behind_; }

HAILWIRE_INLINE std::int64_t all_nodes::now() const noexcept { return hub_->loop().now(); }

// ---- what hosts call

HAILWIRE_INLINE std::error_code all_nodes::close(std::string_view user, std::uint16_t code, std::string_view reason,
                                                 command_handler done) {
  if (!valid_user(user) || code < 1000 || code > 4999 || reason.size() > 123 || !proto::valid_utf8(reason))
    return errc::bad_request;
  detail::live_writer w(detail::live_kind::command);
  w.number(static_cast<std::uint64_t>(word::close)).number(detail::random_bits().low).text(user);
  return start(w.number(code).text(reason).bytes(), std::move(done));
}

HAILWIRE_INLINE std::error_code all_nodes::revoke(std::string_view user, std::string_view channel,
                                                  command_handler done) {
  if (!valid_user(user) || !valid_channel(channel)) return errc::bad_request;
  detail::live_writer w(detail::live_kind::command);
  w.number(static_cast<std::uint64_t>(word::revoke)).number(detail::random_bits().low).text(user);
  return start(w.text(channel).bytes(), std::move(done));
}

HAILWIRE_INLINE std::error_code all_nodes::send(std::string_view user, std::string_view name, std::string_view json,
                                                command_handler done) {
  if (!valid_user(user)) return errc::bad_request;
  if (auto ec = session::check_notice(name, json, hub_->settings())) return ec;
  detail::live_writer w(detail::live_kind::command);
  w.number(static_cast<std::uint64_t>(word::send)).number(detail::random_bits().low).text(user);
  return start(w.text(name).text(json).bytes(), std::move(done));
}

HAILWIRE_INLINE std::error_code all_nodes::find(std::string_view user, std::chrono::milliseconds within,
                                                find_handler done) {
  if (!valid_user(user)) return errc::bad_request;
  // A question that stays away longer than an hour is asked again.
  const std::int64_t ms = std::clamp<std::int64_t>(within.count(), 0, 3'600'000);
  auto box = hub_->mailbox_;
  auto shared = std::make_shared<find_handler>(std::move(done));
  const bool taken = box->put(
      [box, ms, shared, user = std::string(user)]() mutable {
        all_nodes& self = box->owner->all_nodes_;
        query q;
        q.user = std::move(user);
        q.until = self.now() + ms;
        q.ask_again = self.now() + ms / 2;
        q.done = std::move(*shared);
        self.begin_find(std::move(q));
      },
      [shared] {
        find_result r;
        r.error = operation_aborted();
        (*shared)(std::move(r));
      });
  return taken ? std::error_code() : operation_aborted();
}

HAILWIRE_INLINE std::vector<std::string> all_nodes::others() const {
  std::vector<std::string> out;
  for (const auto& [id, o] : others_) out.push_back(o.name);
  return out;
}

// ---- what the hub calls

HAILWIRE_INLINE void all_nodes::joined() {
  joined_ = true;
  hub_->channels.listen(detail::commands_channel);
  hub_->channels.listen(name_of(id_));
  greet();
}

HAILWIRE_INLINE void all_nodes::greet() {
  tell(detail::commands_channel, std::move(detail::live_writer(detail::live_kind::command)
                                               .number(static_cast<std::uint64_t>(word::hello))
                                               .number(id_)
                                               .text(node_)));
}

HAILWIRE_INLINE void all_nodes::tell(std::string_view channel, const detail::live_writer& w) noexcept {
  if (joined_ && !stopped_) hub_->channels.tell_others(channel, w.bytes());
}

HAILWIRE_INLINE void all_nodes::stop() noexcept {
  if (stopped_) return;
  hub_->guarded([this] {
    tell(detail::commands_channel, std::move(detail::live_writer(detail::live_kind::command)
                                                 .number(static_cast<std::uint64_t>(word::ended))
                                                 .number(id_)
                                                 .text(node_)));
  });
  stopped_ = true;
  hub_->behind_ = false;
  hub_->wheel().disarm(alarm_);
  for (held& h : std::exchange(held_, {})) hub_->guarded([&] { h.run(*hub_, operation_aborted()); });
  for (auto& [number, q] : std::exchange(queries_, {})) {
    hub_->guarded([&q] {
      find_result r;
      r.error = operation_aborted();
      q.done(std::move(r));
    });
  }
}

HAILWIRE_INLINE void all_nodes::hold(detail::move_only_function<void(hub&, std::error_code)> f) {
  if (held_.size() >= hub_->settings().max_pending) return f(*hub_, errc::overloaded);
  held_.push_back({now() + detail::hold_ms, std::move(f)});
  arm();
}

HAILWIRE_INLINE void all_nodes::skip(std::string_view channel, bool live) {
  auto at = skipped_.find(channel);
  if (at == skipped_.end()) at = skipped_.emplace(std::string(channel), false).first;
  at->second |= live;
}

HAILWIRE_INLINE void all_nodes::cut() {
  if (stopped_) return;
  cut_ = true;
  hub_->behind_ = true;
}

HAILWIRE_INLINE void all_nodes::may_have_missed() {
  if (stopped_ || !joined_) return;
  greet();
  cut_ = false;
  hub_->behind_ = true;
  if (reading_) {
    again_ = true;  // that read may have begun before
  } else {
    reading_ = true;
    read_on();
  }
}

HAILWIRE_INLINE void all_nodes::heard(std::string_view epoch, const message& m) {
  if (stopped_) return;
  carry_out(m);
  if (reading_) return;  // it is read up to the head anyway
  if (!open_) {
    open_ = true;
    epoch_ = epoch;
    at_ = m.offset;
  } else if (epoch == epoch_ && m.offset <= at_ + 1) {
    at_ = std::max(at_, m.offset);
  } else {  // a hole, or another epoch
    reading_ = true;
    read_on();
  }
}

// ---- commands

HAILWIRE_INLINE std::error_code all_nodes::start(std::string bytes, command_handler done) {
  hub& h = *hub_;
  if (h.mailbox_->closed()) return operation_aborted();
  if (bytes.size() > h.settings().max_payload) return errc::too_large;
  detail::pending_operations::room room(h.pending_);
  if (!room) return errc::overloaded;
  auto c = detail::intrusive_ptr<command>(new command(h, std::move(bytes), std::move(done)));
  if (h.loop_->here() && !h.depth_.too_deep()) {
    room.keep();
    begin(std::move(c));
    return {};
  }
  const bool taken = h.mailbox_->put([this, c] { begin(c); }, [c] { c->abort(); });
  if (taken) room.keep();
  return taken ? std::error_code() : operation_aborted();
}

HAILWIRE_INLINE void all_nodes::begin(detail::intrusive_ptr<command> c) {
  hub& h = *hub_;
  const detail::call_depth::level level(h.depth_);
  if (!joined_) {
    carry_out(c->bytes);
    return c->finish({});
  }
  if (hub_->behind_) {
    return hold([c](hub& of, std::error_code ec) { ec ? c->finish(ec) : of.all_nodes_.begin(c); });
  }
  h.pending_.reserve();
  h.pending_.enroll(c);
  draft d{h.loop_->unix_time(), {}, {}, payload::binary(c->bytes), {}};
  if (h.storage_->offers(detail::storage_member::retention)) d.keep.messages = detail::commands_kept;
  try {
    h.storage_->append(detail::commands_channel, std::move(d),
                       h.on_loop([c](hub& of, append_result&& r) { of.all_nodes_.stored(*c, std::move(r)); }));
  } catch (...) {  // it was not asked
    stored(*c, detail::failed<append_result>());
  }
}

HAILWIRE_INLINE void all_nodes::stored(command& c, append_result&& r) {
  if (c.over) return;  // aborted by stop()
  const auto keep = detail::intrusive_ptr<command>::again(c);
  hub& h = *hub_;
  h.pending_.dismiss(c);
  if (r.error) {
    h.append_failed("everywhere", r.error, r.cause);
    return c.finish(r.error);
  }
  message m;
  m.offset = r.offset;
  m.at = h.loop_->unix_time();
  m.data = payload::binary(c.bytes);
  h.guarded([&] { heard(r.epoch, m); });
  h.channels.publish(detail::commands_channel, r.epoch, m);
  c.finish({});
}

HAILWIRE_INLINE void all_nodes::carry_out(const message& m) {
  const std::string_view bytes = m.data.bytes();
  detail::live_reader in(bytes);
  in.number();
  const std::uint64_t number = in.number();
  if (!in.ok() || m.erased || !done_.insert(number).second) return;
  done_order_.push_back(number);
  if (done_order_.size() > 2 * detail::commands_kept) {
    done_.erase(done_order_.front());
    done_order_.pop_front();
  }
  if (m.at >= began_ - detail::clocks_differ_ms) carry_out(bytes);
}

HAILWIRE_INLINE void all_nodes::carry_out(std::string_view bytes) {
  detail::live_reader in(bytes);
  const auto what = static_cast<word>(in.number());
  in.number();
  const std::string_view user = in.text();
  if (!in.ok() || in.kind() != detail::live_kind::command) return;
  const auto each = [&](auto f) {
    for (session* s : hub_->find(user)) hub_->guarded([&] { f(*s); });
  };
  if (what == word::close) {
    const auto code = static_cast<std::uint16_t>(in.number());
    const std::string_view reason = in.text();
    if (in.ok()) each([&](session& s) { s.close(code, reason); });
  } else if (what == word::revoke) {
    const std::string_view channel = in.text();
    if (in.ok()) each([&](session& s) { s.revoke(channel); });
  } else if (what == word::send) {
    const std::string_view name = in.text(), json = in.text();
    if (in.ok()) each([&](session& s) { (void)s.send(name, json); });
  }
}

// Up to the head. Where the log stands is found out first; then what it keeps is read, or what has come since.
HAILWIRE_INLINE void all_nodes::read_on() {
  const bool facts = !open_;
  again_ = false;
  try {
    hub_->storage_->read(detail::commands_channel, facts ? max_offset : at_, facts ? read_limit{0, 0} : read_limit{},
                         hub_->on_loop([facts](hub& h, read_result r) { h.all_nodes_.was_read(std::move(r), facts); }));
  } catch (...) {
    was_read(detail::failed<read_result>(), facts);
  }
}

HAILWIRE_INLINE void all_nodes::was_read(read_result r, bool facts) {
  if (stopped_) return;
  if (r.error) {
    hub_->storage_failed("a read of", hub_->read_failures_, "everywhere", r.error, r.cause);
    read_at_ = now() + detail::read_again_ms;
    return arm();
  }
  const std::uint64_t kept = r.head > detail::commands_kept ? r.head - detail::commands_kept : 0;
  const std::uint64_t first = std::max(kept, std::min(r.oldest, r.head + 1) - 1);
  if (!open_ || r.epoch != epoch_) {
    open_ = true;
    epoch_ = r.epoch;
    at_ = first;
    if (at_ < r.head) return read_on();
  } else if (!facts) {
    if (at_ < first) {
      missed_some();
      at_ = first;
      if (r.messages.empty() || r.messages.front().offset != at_ + 1) return at_ < r.head ? read_on() : is_current();
    }
    for (const message& m : r.messages) {
      carry_out(m);
      at_ = m.offset;
    }
    if (at_ < r.head && !r.messages.empty()) return read_on();
    at_ = r.head;
  }
  if (again_) return read_on();
  is_current();
}

// Nobody knows whom they were about.
HAILWIRE_INLINE void all_nodes::missed_some() {
  for (session* s : hub_->sessions())
    hub_->guarded([&] { s->end(errc::overloaded, close_code(errc::overloaded), "commands were missed"); });
}

HAILWIRE_INLINE void all_nodes::is_current() {
  reading_ = false;
  if (cut_) return;
  hub_->behind_ = false;
  for (const auto& [channel, live] : std::exchange(skipped_, {})) {
    if (auto* log = hub_->channels.find(channel)) {
      if (live) log->miss();
      log->look_again();
    }
  }
  for (held& h : std::exchange(held_, {})) hub_->guarded([&] { h.run(*hub_, {}); });
}

// ---- who is there

HAILWIRE_INLINE void all_nodes::meet(std::uint64_t id, std::string_view name) {
  if (id && id != id_) others_[id] = {std::string(name.substr(0, 64)), now()};
}

HAILWIRE_INLINE void all_nodes::heard_live(std::string_view bytes) {
  detail::live_reader in(bytes);
  const auto what = static_cast<word>(in.number());
  const std::uint64_t from = in.number();
  const std::string_view node = in.text();
  if (stopped_ || !in.ok() || in.kind() != detail::live_kind::command || !from || from == id_) return;
  if (what == word::ended) {
    others_.erase(from);
    for (auto at = queries_.begin(); at != queries_.end();) {
      auto q = at++;
      if (q->second.awaited.erase(from) && q->second.awaited.empty()) finish(q);
    }
    return;
  }
  meet(from, node);
  if (what == word::hello) {
    tell(name_of(from), std::move(detail::live_writer(detail::live_kind::command)
                                      .number(static_cast<std::uint64_t>(word::alive))
                                      .number(id_)
                                      .text(node_)));
  } else if (what == word::ask) {
    const std::uint64_t number = in.number();
    if (const auto user = in.text(); in.ok()) answer(from, number, user);
  } else if (what == word::answer) {
    const std::uint64_t number = in.number(), piece = in.number(), last = in.number();
    auto at = queries_.find(number);
    if (!in.ok() || at == queries_.end()) return;
    query& q = at->second;
    if (!q.awaited.contains(from) && !q.staged.contains(from) && !others_.contains(from)) return;
    auto& staged = q.staged[from];
    if (piece == 0) staged.clear();
    while (in.ok() && !in.at_end() && staged.size() < max_found_sessions) {
      found_session s;
      s.node = node;
      s.id = in.text();
      s.device = in.text();
      s.transport = in.text();
      if (in.ok()) staged.push_back(std::move(s));
    }
    if (!last || !q.awaited.erase(from)) return;
    auto& all = q.found.sessions;
    std::move(staged.begin(), staged.end(), std::back_inserter(all));
    if (q.awaited.empty()) finish(at);
  }
}

// ---- find

HAILWIRE_INLINE void all_nodes::collect(std::string_view user, std::vector<found_session>& out) const {
  for (session* s : hub_->find(user)) {
    if (out.size() == max_found_sessions) break;
    out.push_back({node_, s->id(), std::string(s->device()), std::string(s->transport())});
  }
}

HAILWIRE_INLINE void all_nodes::begin_find(query q) {
  collect(q.user, q.found.sessions);
  for (const auto& [id, o] : others_) q.awaited.insert(id);
  auto at = queries_.emplace(++queries_begun_, std::move(q)).first;
  if (at->second.awaited.empty()) return finish(at);
  ask(at->first, at->second);
  arm();
}

HAILWIRE_INLINE void all_nodes::ask(std::uint64_t number, const query& q) {
  detail::live_writer w(detail::live_kind::command);
  w.number(static_cast<std::uint64_t>(word::ask)).number(id_).text(node_);
  tell(detail::commands_channel, w.number(number).text(q.user));
}

HAILWIRE_INLINE void all_nodes::answer(std::uint64_t asker, std::uint64_t number, std::string_view user) {
  std::vector<found_session> all;
  collect(user, all);
  std::size_t at = 0;
  for (std::uint64_t piece = 0;; ++piece) {
    detail::live_writer sessions(detail::live_kind::command);
    while (at < all.size() && sessions.bytes().size() < detail::presence_piece) {
      sessions.text(all[at].id).text(all[at].device).text(all[at].transport);
      ++at;
    }
    detail::live_writer w(detail::live_kind::command);
    w.number(static_cast<std::uint64_t>(word::answer)).number(id_).text(node_);
    w.number(number).number(piece).number(at == all.size());
    tell(name_of(asker), w.append(std::string_view(sessions.bytes()).substr(1)));
    if (at == all.size()) return;
  }
}

HAILWIRE_INLINE void all_nodes::finish(std::map<std::uint64_t, query>::iterator at) {
  query q = std::move(at->second);
  queries_.erase(at);
  for (std::uint64_t id : q.awaited) {
    auto o = others_.find(id);
    if (o == others_.end()) continue;
    auto& silent = q.found.silent;
    if (std::find(silent.begin(), silent.end(), o->second.name) == silent.end()) silent.push_back(o->second.name);
    if (now() - o->second.heard > detail::forget_hub_ms) others_.erase(o);
  }
  hub_->guarded([&] { q.done(std::move(q.found)); });
}

// ---- time

HAILWIRE_INLINE void all_nodes::arm() {
  if (stopped_) return;
  std::int64_t due = read_at_;
  if (!held_.empty()) due = std::min(due, held_.front().until);
  for (const auto& [number, q] : queries_) due = std::min({due, q.until, q.ask_again});
  if (due == INT64_MAX) return;
  hub_->wheel().disarm(alarm_);
  hub_->arm(alarm_, due);
}

HAILWIRE_INLINE void all_nodes::alarm::expire(std::int64_t now) {
  of->tick(now);
  of->arm();
}

HAILWIRE_INLINE void all_nodes::alarm::broken() noexcept {
  of->hub_->guarded([this] { of->arm(); });
}

HAILWIRE_INLINE void all_nodes::tick(std::int64_t now) {
  while (!held_.empty() && held_.front().until <= now) {
    held late = std::move(held_.front());
    held_.pop_front();
    hub_->guarded([&] { late.run(*hub_, errc::overloaded); });
  }
  if (read_at_ <= now) {
    read_at_ = INT64_MAX;
    read_on();
  }
  for (auto at = queries_.begin(); at != queries_.end();) {
    auto q = at++;
    if (q->second.until <= now) {
      finish(q);
    } else if (q->second.ask_again <= now) {
      q->second.ask_again = INT64_MAX;
      ask(q->first, q->second);
    }
  }
}

}  // namespace hailwire
