// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because what comes into a log and what its encoded channels read of it stand side by side.

#include "hailwire/detail/hub/channel_log.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE other_encoding::other_encoding(channel_log& log, std::unique_ptr<other_encoding> others) noexcept
    : encoded_channel(false), of(&log), next(std::move(others)) {}

HAILWIRE_INLINE std::unique_ptr<channel_log> channel_log::make(log_source& source, std::string_view name) {
  auto log = std::unique_ptr<channel_log>(new (tail{name.size()}) channel_log(source, name.size()));
  name.copy(behind(log.get()), name.size());
  return log;
}

HAILWIRE_INLINE encoded_channel& channel_log::encoded_as(const proto::encoding& how) {
  if (auto* there = find_encoded(&how)) return *there;
  encoded_channel* at = this;
  if (how_) {
    auto& all = ensure_extra().others;
    all = std::unique_ptr<other_encoding>(new other_encoding(*this, std::move(all)));
    at = all.get();
  }
  at->how_ = &how;
  return *at;
}

HAILWIRE_INLINE encoded_channel* channel_log::find_encoded(const proto::encoding* how) noexcept {
  for (encoded_channel* l = this; l; l = after(l))
    if (l->how_ == how) return l;
  return nullptr;
}

HAILWIRE_INLINE void channel_log::sweep() noexcept {
  if (extra_) {
    for (auto* at = &extra_->others; *at;) {
      if ((*at)->unused()) {
        *at = std::exchange((*at)->next, nullptr);
      } else {
        at = &(*at)->next;
      }
    }
    tidy();
  }
  if (!encoded_channel::unused()) return;
  how_ = nullptr;
  work_.reset();
}

HAILWIRE_INLINE void channel_log::opened(std::string_view epoch, std::uint64_t oldest, std::uint64_t head,
                                         bool made_up) {
  if (epoch_size_ == 0 || (!made_up && nothing_named())) keep(epoch);
  made_up_ = made_up;
  if (epoch != this->epoch()) {
    restart(epoch, oldest, head);
  } else if (!open_ && head > head_) {
    skip_to(head);
  }
  bool was_open = open_;
  open_ = true;
  failed_ = false;
  if (was_open || !extra_) return;
  // What came meanwhile and is of another epoch is of an older one, and void, or of one that began after the storage
  // was asked: then it is asked once more.
  auto held = std::exchange(extra_->held, {});
  bool newer = false;
  for (auto& e : held) {
    if (e.epoch == this->epoch()) {
      apply(e.epoch, e.content);
    } else if (!std::exchange(e.checked, true)) {
      newer = true;
      ensure_extra().held.push_back(std::move(e));
    }
  }
  if (newer) return reopen();
  if (holds_live()) release_live();
  caught_up();
}

HAILWIRE_INLINE bool channel_log::apply(std::string_view epoch, const message& m) {
  if (open_ && nothing_named() && !proto::same_bytes(epoch, this->epoch())) {
    keep(epoch);
    made_up_ = false;
  }
  if (!open_ || !proto::same_bytes(epoch, this->epoch())) {
    // The last one is enough to tell which are missing.
    auto& held = ensure_extra().held;
    if (held.size() >= most_early) held.pop_back();
    held.push_back({std::string(epoch), m, false});
    if (open_ || failed_) reopen();  // else it is being asked
  } else if (conflated_ && m.offset > head_) {
    head_ = m.offset - 1;  // nobody waits for what is missing
    append(m);
    return flush_early();
  } else if (m.offset > head_ + 1) {
    ensure_extra().wanted = std::max(ensure_extra().wanted, m.offset);
    fill();
  } else if (m.offset == head_ + 1) {
    append(m);
    return flush_early();
  }
  return false;
}

HAILWIRE_INLINE void channel_log::apply(const live_event& e) {
  const bool known = open_ && proto::same_bytes(e.epoch, epoch());
  if (e.after == 0 || (known && e.after <= head_)) return source_->told(*this, e.bytes);
  if (open_ && !known && !nothing_named()) return miss();  // of another life of the log
  hold(e);
  if (known) {
    ensure_extra().wanted = std::max(ensure_extra().wanted, e.after);
    fill();
  }
}

HAILWIRE_INLINE void channel_log::hold(const live_event& e) {
  auto& all = ensure_extra().live;
  std::size_t bytes = e.bytes.size();
  for (const held_live& h : all) bytes += h.bytes.size();
  if (all.size() >= most_held_live || bytes > most_held_live_bytes) return miss();
  all.push_back({std::string(e.epoch), std::string(e.bytes), e.after});
}

HAILWIRE_INLINE void channel_log::release_live() {
  if (!open_) return;
  auto all = std::exchange(extra_->live, {});
  vector<held_live> rest;
  bool missing = false;
  for (held_live& h : all) {
    if (h.epoch != epoch()) {
      missing = true;
    } else if (h.after > head_) {
      rest.push_back(std::move(h));
    } else {
      source_->told(*this, h.bytes);
    }
  }
  if (!rest.empty()) ensure_extra().live = std::move(rest);
  if (missing) miss();
}

template <class F>
bool channel_log::add_live(F append) noexcept {
  try {
    source_->mark_dirty(*this);
  } catch (...) {
    each([](encoded_channel& l) { l.miss_all(); });
    return false;
  }
  each(append);
  return flush_early();
}

HAILWIRE_INLINE bool channel_log::notice(std::string_view name, std::string_view json) noexcept {
  return add_live([&](encoded_channel& l) {
    if (l.how().notice) l.append_live(chunk::notice, [&](std::string& out) { l.how().notice(out, name, json); });
  });
}

HAILWIRE_INLINE bool channel_log::ephemeral(const message& m, std::uint32_t not_to) noexcept {
  std::string json;
  const std::uint32_t live = not_to == nobody ? chunk::ephemeral : chunk::but_for + not_to;
  return add_live([&](encoded_channel& l) {
    l.append_live(live, [&](std::string& out) {
      if (l.how().wants_json && json.empty()) proto::append_message(json, name(), m);
      l.how().append(out, {name(), epoch(), m, json});
    });
  });
}

HAILWIRE_INLINE std::string missed_notice(const channel_log& log) {
  std::string json = "{\"missed\":{\"channel\":";
  proto::json::append_quoted(json, log.name());
  return json += "}}";
}

HAILWIRE_INLINE void channel_log::miss() { notice("missed", missed_notice(*this)); }

HAILWIRE_INLINE std::vector<session*> channel_log::sessions() {
  std::vector<session*> out;
  each([&](encoded_channel& l) {
    l.each([&](subscription& s) {
      if (session* client = s.started() ? s.to().client() : nullptr) out.push_back(client);
    });
  });
  return out;
}

HAILWIRE_INLINE void channel_log::look_again() {
  if (open_) {
    fill();
  } else if (failed_) {
    reopen();
  }  // else it is being asked
  miss();
}

HAILWIRE_INLINE void channel_log::filled(const read_result& r) {
  filling_ = false;
  std::uint64_t before = head_;
  if (r.oldest > head_ + 1) skip_to(r.oldest - 1);  // trimmed meanwhile: everybody finds out where they stand
  for (const auto& m : r.messages) {
    if (m.offset > head_ + 1) {  // the storage has a hole, and reading again would not fill it
      source_->disorder(name(), head_, m.offset);
      skip_to(m.offset - 1);
    }
    apply(epoch(), m);
  }
  if (r.head > head_) ensure_extra().wanted = std::max(ensure_extra().wanted, r.head);
  // Without progress the next message tries again.
  bool more = extra_ && head_ < extra_->wanted;
  if (more && head_ > before) return fill();
  if (!more && open_) caught_up();
}

HAILWIRE_INLINE void channel_log::failed(std::error_code why) {
  filling_ = open_ = false;
  failed_ = true;
  each([&](encoded_channel& l) { l.failed(why); });
}

HAILWIRE_INLINE bool channel_log::flush_early() const noexcept {
  for (const encoded_channel* l = this; l; l = after(l))
    if (l->built() >= early_flush) return true;
  return false;
}

HAILWIRE_INLINE channel_log::channel_log(log_source& source, std::size_t name_size) noexcept
    : encoded_channel(true), name_size_(static_cast<std::uint8_t>(name_size)), source_(&source) {}

HAILWIRE_INLINE void channel_log::set_rule(bool conflated, std::int64_t every) {
  if (every > 0) ensure_extra().every = every;
  conflated_ = conflated;
}

HAILWIRE_INLINE channel_log::extra& channel_log::ensure_extra() {
  if (!extra_) extra_ = std::unique_ptr<extra>(new extra());
  return *extra_;
}

HAILWIRE_INLINE void channel_log::fill() {
  if (filling_) return;
  filling_ = true;
  source_->fill(*this);
}

HAILWIRE_INLINE void channel_log::caught_up() noexcept {
  if (extra_ && !filling_) extra_->wanted = 0;
  tidy();
}

HAILWIRE_INLINE void channel_log::tidy() noexcept {
  if (extra_ && !paced() && extra_->held.empty() && extra_->erased.empty() && extra_->live.empty() &&
      extra_->wanted == 0 && !extra_->others && extra_->long_epoch.empty())
    extra_.reset();
}

HAILWIRE_INLINE void channel_log::keep(std::string_view epoch) {
  if (epoch.size() > sizeof epoch_) {
    ensure_extra().long_epoch = epoch;
  } else {
    epoch.copy(epoch_, sizeof epoch_);
    if (extra_) extra_->long_epoch.clear();
  }
  epoch_size_ = static_cast<std::uint8_t>(epoch.size());
}

HAILWIRE_INLINE void channel_log::skip_to(std::uint64_t head) {
  each([&](encoded_channel& l) { l.detach(head); });
  head_ = head;
  each([](encoded_channel& l) { l.wake_behind(); });
  if (holds_live()) release_live();
}

HAILWIRE_INLINE void channel_log::append(const message& m) {
  if (m.erases) [[unlikely]]
    erase(m.erases);
  // One scratch buffer a thread for messages and one for signals: their content never outlives this call.
  static thread_local std::string json, signal;
  json.clear();
  signal.clear();
  bool anybody = false;
  try {
    each([&](encoded_channel& l) {
      std::string& text = l.how().signals ? signal : json;
      if (l.how().wants_json && text.empty())
        proto::append_as(text, l.how(), name(), epoch(), m, source_->inline_limit);
      l.append({name(), epoch(), m, text});
      anybody = true;
    });
    if (conflated_) each([](encoded_channel& l) { l.keep_last(); });
    if (anybody) source_->mark_dirty(*this);
  } catch (...) {  // no memory: all are given it, or nobody is, and who follows reads it from the storage
    each([&](encoded_channel& l) { l.take_back(m.offset); });
    return skip_to(m.offset);
  }
  head_ = m.offset;
  if (json.capacity() > spare_limit) std::string().swap(json);
  if (holds_live()) release_live();
}

HAILWIRE_INLINE void channel_log::reopen() {
  open_ = failed_ = false;
  source_->reopen(*this);
}

HAILWIRE_INLINE void channel_log::restart(std::string_view epoch, std::uint64_t oldest, std::uint64_t head) {
  each([](encoded_channel& l) { l.flush(); });         // under the old epoch's name
  each([](encoded_channel& l) { l.room_for_all(); });  // what comes now cannot stop half way
  keep(epoch);
  head_ = head;
  if (extra_) extra_->wanted = 0;
  each([&](encoded_channel& l) { l.restart(oldest - 1, head, {true, oldest}); });
}

HAILWIRE_INLINE channel_log& encoded_channel::log() const noexcept {
  // Its own first encoded channel is a log, which is never const.
  if (first_) return const_cast<channel_log&>(static_cast<const channel_log&>(*this));
  return *static_cast<const other_encoding*>(this)->of;
}

HAILWIRE_INLINE std::uint64_t encoded_channel::flushed() const noexcept {
  return work_ ? work_->flushed : log().head();
}

HAILWIRE_INLINE void encoded_channel::begin_work() {
  work_ = log().source().spares.take();
  work_->flushed = log().head();
}

HAILWIRE_INLINE void encoded_channel::end_work() noexcept {
  log().source().tail_bytes -= work_->tail_bytes;
  log().source().spares.give(std::move(work_));
}

HAILWIRE_INLINE void encoded_channel::forget_tail() noexcept {
  log().source().tail_bytes -= work_->tail_bytes;
  work_->tail.clear();
  work_->tail_begin = work_->tail_bytes = 0;
}

// Of its own, so that a flush, which never comes here, is short.
HAILWIRE_INLINE bool encoded_channel::read_on(subscription& s) {
  std::uint64_t before = at(s).offset;
  s.loading_ = true;
  for (load& same : work_->loads) {
    if (same.since != before) continue;
    same.waiting.push_back(&s);
    return false;
  }
  work_->loads.push_back({before, {&s}});
  work_->resolving = &s;
  log().source().load(log(), *this, before);
  work_->resolving = nullptr;
  return s.loading_ || at(s).in || at(s).offset != before;  // else it failed at once; asking again is for another wake
}

HAILWIRE_INLINE std::span<const char> encoded_channel::pending(subscription& s) {
  while (s.started_) {
    if (s.live_) return in_flight();
    place& p = at(s);
    if (p.in) {
      if (p.in->live == 0) {
        if (p.done < p.in->bytes.size()) return std::span<const char>(p.in->bytes).subspan(p.done);
      } else if (auto rest = p.done < p.in->bytes.size() ? without_live(s, p) : std::span<const char>();
                 !rest.empty()) {
        return rest;
      }
      p.let_go(std::max(p.offset, p.in->last()));  // behind the last bytes there may be empty frames
    }
    if (s.loading_) break;
    if (p.offset == work_->flushed) {
      live_.reserve_one();
      leave(s);
      join_live(s);
      if (s.missed_) {
        s.missed_ = false;
        s.to().missed(s);
      }
      continue;
    }
    if (p.offset > work_->flushed) {
      work_->ahead = true;
      break;
    }
    if (log().conflated()) p.offset = work_->flushed - 1;  // what lies before the newest is passed over
    if (auto c = find(p.offset + 1)) {
      p.done = static_cast<std::uint32_t>(c->begin_after(p.offset));
      p.in = std::move(c);
      continue;
    }
    if (!read_on(s)) break;
  }
  return {};
}

HAILWIRE_INLINE std::shared_ptr<const chunk> encoded_channel::encode(std::span<const message> messages) {
  auto c = std::make_shared<chunk>();
  std::string json;
  std::vector<message> changed;
  for (const auto& m : log().as_erased(messages, changed)) {
    json.clear();
    if (how_->wants_json) proto::append_as(json, *how_, log().name(), log().epoch(), m, log().source().inline_limit);
    how_->append(c->bytes, {log().name(), log().epoch(), m, json});
    c->marks.push_back({m.offset, static_cast<std::uint32_t>(c->bytes.size())});
  }
  work_->recent[work_->next_recent++ % work_->recent.size()] = c;
  return c;
}

HAILWIRE_INLINE void encoded_channel::loaded(std::uint64_t since, const read_result& r) {
  if (!work_) return;
  auto found = std::find_if(work_->loads.begin(), work_->loads.end(), [&](const load& l) { return l.since == since; });
  if (found == work_->loads.end()) return;
  auto waiting = std::move(found->waiting);
  work_->loads.erase(found);
  for (subscription* s : waiting) s->loading_ = false;

  if (r.error) {
    for (subscription* s : waiting) unreadable(*s, r.error);
    return rest();
  }
  std::shared_ptr<const chunk> c;
  std::uint64_t next = r.messages.empty() ? std::max(r.oldest, work_->flushed + 1) : r.messages.front().offset;
  try {
    if (!r.messages.empty()) c = encode(log().conflated() ? std::span(&r.messages.back(), 1) : std::span(r.messages));
  } catch (const std::bad_alloc&) {
    for (subscription* s : waiting) unreadable(*s, make_error_code(errc::internal));
    return rest();
  }
  for (subscription* s : waiting) {
    if (next > since + 1) {
      at(*s).offset = next - 1;
      if (!log().conflated()) lost(*s, {false, next});
    }
    at(*s).in = c;
    at(*s).done = 0;
  }
  // The one whose pull started this read goes on by itself.
  subscription* goes_on = work_->resolving;
  for (subscription* s : waiting)
    if (s != goes_on) wake(*s);
  rest();
}

}  // namespace hailwire::detail
