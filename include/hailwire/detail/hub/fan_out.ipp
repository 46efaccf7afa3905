// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because an encoded channel, its work and its subscriptions change one another's state.

#include "hailwire/detail/hub/fan_out.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void encoded_channel_work::renew() noexcept {
  tail_begin = tail_bytes = 0;
  resolving = nullptr;
  ahead = false;
  if (tail.capacity()) tail = vector<std::shared_ptr<const chunk>>();
  if (behind.capacity()) behind = vector<place>();
  if (loads.capacity()) loads = vector<load>();
  if (std::exchange(next_recent, 0)) recent = {};
}

HAILWIRE_INLINE std::unique_ptr<encoded_channel_work> spare_work::take() {
  if (!size_) return std::unique_ptr<encoded_channel_work>(new encoded_channel_work());
  // The next ones, each step by step: what leads to a line has been asked for one call before.
  if (size_ > 3) fetch(spares_[size_ - 4].get(), 1);
  if (size_ > 2) fetch(spares_[size_ - 3]->building.get(), 1);
  if (size_ > 1 && spares_[size_ - 2]->building) spares_[size_ - 2]->building->prefetch();
  return std::move(spares_[--size_]);
}

HAILWIRE_INLINE void spare_work::give(std::unique_ptr<encoded_channel_work> work) noexcept {
  if (size_ == spares_.size()) return;
  if (size_ >= most_spares / 4 && work->building && work->building->bytes.capacity() > small_spare)
    work->building.reset();
  work->renew();
  spares_[size_++] = std::move(work);
}

HAILWIRE_INLINE void spare_work::clear() noexcept {
  while (size_) spares_[--size_].reset();
}

HAILWIRE_INLINE subscription::~subscription() {
  if (encoded_) leave();
}

HAILWIRE_INLINE void subscription::enter(encoded_channel& in, std::uint32_t serial, bool named) noexcept {
  encoded_ = &in, serial_ = serial & (serials - 1), named_ = named;
  live_ = loading_ = started_ = missed_ = false;
}

HAILWIRE_INLINE further_subscription::further_subscription(subscriber& to, encoded_channel& in, std::uint32_t serial,
                                                           bool named) noexcept
    : to_(&to) {
  own_ = false;
  enter(in, serial, named);
}

HAILWIRE_INLINE subscriber& subscription::to() const noexcept {
  auto* self = const_cast<subscription*>(this);
  if (own_) return static_cast<follower&>(*reinterpret_cast<own_subscription*>(self));
  return *static_cast<further_subscription*>(self)->to_;
}

HAILWIRE_INLINE void encoded_channel::add(subscription& s, std::uint64_t offset) {
  s.started_ = true;
  if (offset == flushed()) return join_live(s);
  join_behind(s, {&s, nullptr, offset, 0});
}

HAILWIRE_INLINE void encoded_channel::append(const proto::envelope& e) {
  auto& c = busy().building;
  if (!c) c = std::make_shared<chunk>();
  const std::size_t before = c->bytes.size();
  try {
    how_->append(c->bytes, e);
    c->marks.push_back({e.content.offset, static_cast<std::uint32_t>(c->bytes.size())});
  } catch (...) {
    c->bytes.resize(before);  // a frame is there whole or not at all
    throw;
  }
}

template <class F>
void encoded_channel::append_live(std::uint32_t live, F encode) noexcept {
  if (live_.empty()) return miss_behind(nullptr);  // nobody would have it
  std::size_t before = 0;
  chunk* c = nullptr;
  try {
    auto& building = busy().building;
    if (!building) building = std::make_shared<chunk>();
    c = building.get();
    before = c->bytes.size();
    encode(c->bytes);
    c->marks.push_back({log().head(), static_cast<std::uint32_t>(c->bytes.size()), live});
    ++c->live;
  } catch (...) {
    if (c) c->bytes.resize(before);
    miss_all();
  }
}

HAILWIRE_INLINE void encoded_channel::miss_all() noexcept {
  for (std::size_t i = 0; i < live_.size(); ++i) told_missed(*live_[i]);
  miss_behind(nullptr);
}

HAILWIRE_INLINE void encoded_channel::miss_behind(const chunk* flushed) noexcept {
  for (std::size_t i = 0; i < behind_count(); ++i) {
    place& p = work_->behind[i];
    if (p.who->started_ && !(p.in_sync && p.in.get() == flushed)) p.who->missed_ = true;
  }
}

HAILWIRE_INLINE void encoded_channel::take_back(std::uint64_t offset) noexcept {
  if (!built() || work_->building->last() != offset) return;
  auto& c = *work_->building;
  c.marks.pop_back();
  c.bytes.resize(c.marks.empty() ? 0 : c.marks.back().end);
}

HAILWIRE_INLINE void encoded_channel::prefetch(int steps) noexcept {
  if (steps == 3) {
    if (work_) fetch(work_.get(), 2);
    if (!live_.empty()) fetch(live_[0], 1);
  } else if (steps == 2) {
    if (work_) fetch(work_->building.get(), 1);
    if (!live_.empty()) fetch(&live_[0]->to());
  } else if (work_ && work_->building) {
    work_->building->prefetch();
  }
}

HAILWIRE_INLINE void encoded_channel::prime(subscription& s, const std::vector<message>& messages) {
  std::uint64_t next = at(s).offset + 1;
  if (messages.empty() || messages.front().offset != next || find(next)) return;
  auto c = encode(messages);
  at(s).in = std::move(c);
  at(s).done = 0;
}

// What lies between may erase what is encoded here, so all of it is let go.
HAILWIRE_INLINE void encoded_channel::detach(std::uint64_t head) {
  flush();
  while (!live_.empty()) fall_behind(*live_.back(), nullptr, 0);
  if (!work_) return;
  work_->flushed = head;
  for (place& p : work_->behind) release(p);
  work_->tail.clear();
  work_->tail_begin = work_->tail_bytes = 0;
  work_->recent = {};
}

HAILWIRE_INLINE void encoded_channel::failed(std::error_code why) {
  for (std::size_t i = 0; i < live_.size(); ++i) unreadable(*live_[i], why);
  for (std::size_t i = 0; i < behind_count(); ++i) unreadable(*work_->behind[i].who, why);
}

HAILWIRE_INLINE encoded_channel_work& encoded_channel::busy() {
  if (!work_) begin_work();
  return *work_;
}

HAILWIRE_INLINE void encoded_channel::rest() noexcept {
  if (work_ && work_->idle()) end_work();
}

HAILWIRE_INLINE void encoded_channel::moved(const subscription& from, subscription& to) noexcept {
  if (to.live_) live_.set(to.index_, &to);
  if (!work_) return;
  if (!to.live_) work_->behind[to.index_].who = &to;
  for (load& l : work_->loads) std::replace(l.waiting.begin(), l.waiting.end(), const_cast<subscription*>(&from), &to);
  if (work_->resolving == &from) work_->resolving = &to;
}

HAILWIRE_INLINE void encoded_channel::wake(subscription& s) noexcept {
  try {
    s.to().wake(nullptr);
  } catch (...) {
    s.to().broken();
  }
}

HAILWIRE_INLINE void encoded_channel::lost(subscription& s, const gap& g) noexcept {
  try {
    s.to().lost(s, g);
  } catch (...) {
    s.to().broken();
  }
}

HAILWIRE_INLINE void encoded_channel::told_missed(subscription& s) noexcept {
  try {
    s.to().missed(s);
  } catch (...) {
    s.to().broken();
  }
}

HAILWIRE_INLINE void encoded_channel::unreadable(subscription& s, std::error_code why) noexcept {
  try {
    s.to().unreadable(s, why);
  } catch (...) {
    s.to().broken();
  }
}

HAILWIRE_INLINE void encoded_channel::join_live(subscription& s) {
  live_.push_back(&s);
  s.live_ = true;
  s.index_ = live_.size() - 1;
}

HAILWIRE_INLINE void encoded_channel::join_behind(subscription& s, place p) {
  auto& list = busy().behind;
  list.push_back(std::move(p));
  s.live_ = false;
  s.index_ = static_cast<std::uint32_t>(list.size() - 1);
}

HAILWIRE_INLINE void encoded_channel::room_for_all() {
  if (!live_.empty()) busy().behind.reserve(behind_count() + live_.size());
}

HAILWIRE_INLINE void encoded_channel::room_behind() {
  auto& list = busy().behind;
  if (list.size() == list.capacity()) list.reserve(std::max<std::size_t>(1, 2 * list.size()));
}

HAILWIRE_INLINE void encoded_channel::leave(subscription& s) noexcept {
  if (s.live_) {
    subscription* last = live_.back();
    last->index_ = s.index_;
    live_.set(s.index_, last);
    return live_.pop_back();
  }
  auto& list = work_->behind;
  if (s.index_ + 1 != list.size()) {
    list[s.index_] = std::move(list.back());
    list[s.index_].who->index_ = s.index_;
  }
  list.pop_back();
  rest();
}

HAILWIRE_INLINE void encoded_channel::fall_behind(subscription& s, std::shared_ptr<const chunk> in, std::size_t done,
                                                  bool in_sync) {
  room_behind();
  leave(s);
  std::uint64_t offset = in ? in->offset_at(done, flushed()) : flushed();
  log().source().deliveries += offset - flushed();
  join_behind(s, {&s, std::move(in), offset, static_cast<std::uint32_t>(done), in_sync});
}

HAILWIRE_INLINE void encoded_channel::set_senders_apart() {
  const chunk& c = *work_->flushing;
  auto sent = [&](std::uint32_t slot) {
    return std::any_of(c.marks.begin(), c.marks.end(),
                       [&](const chunk::mark& m) { return m.live == chunk::but_for + slot; });
  };
  if (std::none_of(c.marks.begin(), c.marks.end(), [](const chunk::mark& m) { return m.live >= chunk::but_for; }))
    return;
  for (std::size_t i = 0; i < live_.size();) {
    if (!sent(live_[i]->to().slot())) {
      ++i;
      continue;
    }
    fall_behind(*live_[i], work_->flushing, 0, true);  // another one has taken its place
    work_->ahead = true;
  }
}

HAILWIRE_INLINE std::span<const char> encoded_channel::without_live(subscription& s, place& p) noexcept {
  const chunk& c = *p.in;
  auto unwanted = [&](const chunk::mark& m) {
    return m.live && (!p.in_sync || m.live == chunk::but_for + s.to().slot());
  };
  auto* m = c.containing(p.done);
  const auto* end = c.marks.end();
  if (p.half_sent()) {
    ++m;  // its frame goes on, whatever it is
  } else {
    for (; m != end && unwanted(*m); ++m) p.done = m->end;
  }
  for (; m != end && !unwanted(*m); ++m) {
  }
  const std::size_t to = m == c.marks.begin() ? 0 : std::prev(m)->end;
  return std::span<const char>(c.bytes).subspan(p.done, to - p.done);
}

HAILWIRE_INLINE void encoded_channel::release(place& p) noexcept {
  if (!p.in) return;
  std::uint64_t pulled = p.offset;
  if (std::size_t rest = p.half_sent()) {
    pulled = p.in->offset_at(p.done + rest, pulled);
    try {
      p.who->to().keep(*p.who, std::string_view(p.in->bytes).substr(p.done, rest));
    } catch (...) {
      p.who->to().broken();
    }
  }
  log().source().deliveries += pulled - p.offset;
  p.let_go(pulled);
}

HAILWIRE_INLINE void encoded_channel::measure(server_stats& out) const noexcept {
  if (!work_) return;
  const std::uint64_t head = log().head();
  for (const place& p : work_->behind) {
    ++out.slow;
    out.lag = std::max(out.lag, head - std::min(head, p.offset));
  }
}

HAILWIRE_INLINE void encoded_channel::wake_behind() {
  // A woken one may catch up and leave the list, another then stands in its place.
  for (std::size_t i = 0; i < behind_count();) {
    subscription* s = work_->behind[i].who;
    wake(*s);
    if (i < behind_count() && work_->behind[i].who == s) ++i;
  }
}

HAILWIRE_INLINE std::shared_ptr<const chunk> encoded_channel::find(std::uint64_t offset) const noexcept {
  auto begin = work_->tail.begin() + static_cast<std::ptrdiff_t>(work_->tail_begin);
  auto in_tail = std::partition_point(begin, work_->tail.end(), [&](const auto& c) { return c->last() < offset; });
  if (in_tail != work_->tail.end() && (*in_tail)->holds(offset)) return *in_tail;
  for (const auto& weak : work_->recent)
    if (auto c = weak.lock(); c && c->holds(offset)) return c;
  return nullptr;
}

HAILWIRE_INLINE bool subscription::due() const noexcept { return live_ && encoded_->built() > 0; }

HAILWIRE_INLINE void encoded_channel::flush() {
  if (!built()) return;
  auto& flushing = work_->flushing;
  flushing = std::exchange(work_->building, nullptr);
  const bool live = flushing->live != 0;
  if (live) set_senders_apart();
  const bool any = !flushing->bytes.empty();  // else these clients are sent nothing of it
  for (std::size_t i = 0; any && i < live_.size();) {
    subscription* s = nullptr;
    try {  // around all of them: entered once, it costs nothing
      while (i < live_.size()) {
        s = live_[i];
        s->to().wake(s);
        if (s->live_ && s->index_ == i) ++i;  // else it fell behind, and another one has taken its place
      }
    } catch (...) {  // the others are not concerned
      s->to().broken();
      if (s->live_ && s->index_ == i) ++i;
    }
  }
  log().source().deliveries += live_.size() * flushing->marks.size();
  work_->flushed = flushing->last();
  if (!work_->behind.empty()) {
    if (live) miss_behind(flushing.get());
    if (!live || flushing->has_messages()) keep_in_tail(std::move(flushing));
    flushing.reset();
    if (std::exchange(work_->ahead, false)) wake_behind();
    return rest();
  }
  if (!work_->tail.empty()) forget_tail();
  // Nobody else holds it: its memory serves another turn.
  if (flushing.use_count() == 1 && flushing->bytes.capacity() <= spare_limit) {
    flushing->clear();
    work_->building = std::move(flushing);
  }
  flushing.reset();
  rest();
}

HAILWIRE_INLINE void encoded_channel::restart(std::uint64_t offset, std::uint64_t head, const gap& g) {
  flush();
  while (!live_.empty()) fall_behind(*live_.back(), nullptr, 0);
  if (!work_) return;
  work_->flushed = head;
  forget_tail();
  work_->recent = {};
  for (std::size_t i = 0; i < work_->behind.size(); ++i) {
    subscription& s = *work_->behind[i].who;
    if (!s.started_) continue;
    release(work_->behind[i]);
    at(s).offset = std::max(offset, s.to().floor(s) - 1);
    s.loading_ = false;
    lost(s, {g.epoch_changed, at(s).offset + 1});
  }
  work_->loads.clear();
  wake_behind();
}

// Without memory for it the chunk is not kept: whoever is behind reads the storage.
HAILWIRE_INLINE void encoded_channel::keep_in_tail(std::shared_ptr<const chunk> c) noexcept {
  std::size_t bytes = c->bytes.size();
  try {
    work_->tail.push_back(std::move(c));
    work_->tail_bytes += bytes;
    log().source().tail_bytes += bytes;
    trim();
  } catch (const std::bad_alloc&) {
  }
}

HAILWIRE_INLINE void encoded_channel::trim() noexcept {
  auto& tail = work_->tail;
  auto& begin = work_->tail_begin;
  while ((work_->tail_bytes > tail_limit || log().conflated()) && tail.size() - begin > 1) {
    auto oldest = std::move(tail[begin++]);
    work_->tail_bytes -= oldest->bytes.size();
    log().source().tail_bytes -= oldest->bytes.size();
    for (place& p : work_->behind)
      if (p.in == oldest) release(p);
  }
  if (begin > tail.size() / 2)
    tail.erase(tail.begin(), tail.begin() + static_cast<std::ptrdiff_t>(std::exchange(begin, 0)));
}

HAILWIRE_INLINE void further_subscription::move_to(void* to) noexcept {
  auto* there = ::new (to) further_subscription(*to_, *encoded_, serial_, named_);
  there->index_ = index_;
  there->live_ = live_;
  there->loading_ = loading_;
  there->started_ = started_;
  there->missed_ = missed_;
  encoded_->moved(*this, *there);
  to_->moved(*this, *there);
  // Its destructor would take what is the other one's now.
}

HAILWIRE_INLINE void subscription::leave() noexcept {
  if (auto* w = encoded_->work_.get()) {
    for (auto& l : w->loads) l.waiting.remove(this);
    if (w->resolving == this) w->resolving = nullptr;
    if (!live_) encoded_->release(encoded_->at(*this));
  }
  std::exchange(encoded_, nullptr)->leave(*this);
}

HAILWIRE_INLINE void subscription::begin(std::uint64_t offset) noexcept {
  encoded_->at(*this).offset = offset;
  started_ = true;
}

HAILWIRE_INLINE void subscription::join_if_current() {
  if (live_ || loading_ || encoded_->at(*this).in || encoded_->at(*this).offset != encoded_->flushed()) return;
  encoded_->live_.reserve_one();
  encoded_->leave(*this);
  encoded_->join_live(*this);
}

HAILWIRE_INLINE std::uint64_t subscription::offset() const noexcept {
  return live_ ? encoded_->flushed() : encoded_->at(*this).offset;
}

HAILWIRE_INLINE std::size_t subscription::half_sent() const noexcept {
  return live_ ? 0 : encoded_->at(*this).half_sent();
}

HAILWIRE_INLINE std::uint64_t subscription::offset_when_whole() const noexcept {
  std::size_t rest = half_sent();
  if (!rest) return offset();
  const auto& p = encoded_->at(*this);
  return p.in->offset_at(p.done + rest, p.offset);
}

HAILWIRE_INLINE std::shared_ptr<const chunk> subscription::holding() const noexcept {
  if (!live_) return encoded_->at(*this).in;
  return encoded_->work_ ? encoded_->work_->flushing : nullptr;
}

HAILWIRE_INLINE std::span<const char> subscription::pending() { return encoded_->pending(*this); }

HAILWIRE_INLINE void subscription::advance(std::size_t n) {
  if (live_) {
    if (n < encoded_->work_->flushing->bytes.size()) encoded_->fall_behind(*this, encoded_->work_->flushing, n);
    return;
  }
  auto& p = encoded_->at(*this);
  p.done += static_cast<std::uint32_t>(n);
  const std::uint64_t before = std::exchange(p.offset, p.in->offset_at(p.done, p.offset));
  encoded_->log().source().deliveries += p.offset - before;
}

}  // namespace hailwire::detail
