// SPDX-License-Identifier: BSL-1.0
#pragma once

// One followed channel on this hub, and how its lanes read what has left memory. The theory is at the top of fan_out.hpp.

#include "hailwire/detail/fan_out.hpp"

namespace hailwire::detail {

class channel_log : public hash_node {
 public:
  channel_log(log_source& source, std::string_view name) : source_(&source), first_(*this, nullptr, 0) { keep(name, {}); }
  channel_log(const channel_log&) = delete;
  channel_log& operator=(const channel_log&) = delete;

  /// Valid as long as the log.
  std::string_view name() const noexcept { return {text_.get(), name_size_}; }
  /// Valid until a call of anything here that changes it.
  std::string_view epoch() const noexcept { return {text_.get() + name_size_, epoch_size_}; }
  std::uint64_t head() const noexcept { return head_; }
  /// Whether epoch and head are known.
  bool open() const noexcept { return open_; }
  bool unused() const noexcept { return !first_.how_ && !first_.next_ && pins == 0 && !filling_ && !dirty && !warm; }
  log_source& source() const noexcept { return *source_; }

  /// Operations of the hub that still need this object.
  std::uint32_t pins = 0;
  /// In the hub's lists of those to be flushed at the end of the turn, and of those that were lately.
  bool dirty = false, warm = false;

  lane& lane_for(const proto::encoding& how) {
    if (auto* there = find_lane(&how)) return *there;
    lane* at = &first_;
    if (first_.how_) {
      auto added = std::make_unique<lane>(*this, nullptr, 0);
      at = added.get();
      added->next_ = std::exchange(first_.next_, nullptr);
      first_.next_ = std::move(added);
    }
    at->how_ = &how;
    at->flushed_ = head_;
    return *at;
  }
  lane* find_lane(const proto::encoding* how) noexcept {
    for (lane* l = &first_; l; l = l->next_.get())
      if (l->how_ == how) return l;
    return nullptr;
  }
  /// Drops lanes that nobody follows any more.
  void sweep() noexcept {
    for (auto* at = &first_.next_; *at;) {
      if ((*at)->unused()) {
        *at = std::exchange((*at)->next_, nullptr);
      } else {
        at = &(*at)->next_;
      }
    }
    if (!first_.unused()) return;
    first_.how_ = nullptr;
    first_.work_.reset();
  }
  void shrink() {
    each([](lane& l) { l.shrink(); });
  }

  /// The storage has told epoch and bounds, for the first time or (after `reopen`) again.
  void opened(std::string_view epoch, std::uint64_t oldest, std::uint64_t head) {
    if (epoch_size_ == 0) keep(name(), epoch);
    if (epoch != this->epoch()) {
      restart(epoch, oldest, head);
    } else if (!open_ && head > head_) {
      head_ = head;
      each([&](lane& l) { l.detach(head); });
    }
    if (std::exchange(open_, true) || !rare_) return;
    // What came meanwhile and is of another epoch is of an older one, and void, or of one that began after the storage was
    // asked: then it is asked once more.
    auto held = std::exchange(rare_->held, {});
    bool newer = false;
    for (auto& e : held) {
      if (e.epoch == this->epoch()) {
        apply(e.epoch, e.content);
      } else if (!std::exchange(e.checked, true)) {
        newer = true;
        rare().held.push_back(std::move(e));
      }
    }
    if (newer) return reopen();
    if (!filling_) rare_.reset();
  }

  /// The next message of the channel, from this hub or another one; encoded at once, sent at the end of the turn. One that is
  /// already here is dropped; when some are missing before it, they are read from the storage first; when its epoch is
  /// another, the storage is asked which one holds.
  void apply(std::string_view epoch, const message& m) {
    if (!open_ || epoch != this->epoch()) {
      // The last one is enough to tell which are missing.
      auto& held = rare().held;
      if (held.size() >= most_early) held.pop_back();
      held.push_back({std::string(epoch), m, false});
      if (open_) reopen();
    } else if (m.offset > head_ + 1) {
      rare().wanted = std::max(rare().wanted, m.offset);
      if (!std::exchange(filling_, true)) source_->fill(*this);
    } else if (m.offset == head_ + 1) {
      head_ = m.offset;
      append(m);
    }
  }
  /// The answer to `log_source::fill`, of this epoch.
  void filled(const read_result& r) {
    filling_ = false;
    std::uint64_t before = head_;
    if (r.oldest > head_ + 1) {  // trimmed meanwhile: everybody finds out where they stand
      head_ = r.oldest - 1;
      each([&](lane& l) { l.detach(head_); });
    }
    for (const auto& m : r.messages) apply(epoch(), m);
    // Without progress the next message tries again.
    bool more = rare_ && head_ < rare_->wanted;
    if (more && head_ > before && !std::exchange(filling_, true)) return source_->fill(*this);
    if (!more && open_ && !filling_) rare_.reset();
  }
  /// Reading failed, so nobody can be told what comes next.
  void failed(std::error_code why) {
    filling_ = false;
    each([&](lane& l) { l.failed(why); });
  }

  /// Whether so much waits for the end of the turn that the hub should not wait for it.
  bool flush_early() const noexcept {
    for (const lane* l = &first_; l; l = l->next_.get())
      if (l->built() >= early_flush) return true;
    return false;
  }
  void flush() {
    each([](lane& l) { l.flush(); });
  }

 private:
  struct early {
    std::string epoch;
    message content;
    bool checked;
  };
  struct rarely {
    std::vector<early> held;   // came while the storage was being asked
    std::uint64_t wanted = 0;  // the newest of which it is known that it is there
  };
  rarely& rare() {
    if (!rare_) rare_ = std::make_unique<rarely>();
    return *rare_;
  }
  template <class F>
  void each(F f) {
    for (lane* l = &first_; l; l = l->next_.get())
      if (l->how_) f(*l);
  }
  void keep(std::string_view name, std::string_view epoch) {
    std::unique_ptr<char[]> both(new char[name.size() + epoch.size()]);
    name.copy(both.get(), name.size());
    epoch.copy(both.get() + name.size(), epoch.size());
    name_size_ = static_cast<std::uint16_t>(name.size());
    epoch_size_ = static_cast<std::uint16_t>(epoch.size());
    text_ = std::move(both);
  }
  void append(const message& m) {
    static thread_local std::string json;  // one scratch buffer a thread: its content never outlives this call
    json.clear();
    bool anybody = false;
    each([&](lane& l) {
      if (l.how().wants_json && json.empty()) proto::append_message(json, name(), m);
      l.append({name(), epoch(), m, json});
      anybody = true;
    });
    if (json.capacity() > spare_limit) std::string().swap(json);
    if (anybody) source_->mark_dirty(*this);
  }
  void reopen() {
    open_ = false;
    source_->reopen(*this);
  }
  void restart(std::string_view epoch, std::uint64_t oldest, std::uint64_t head) {
    each([](lane& l) { l.flush(); });  // under the old epoch's name
    keep(name(), epoch);
    head_ = head;
    if (rare_) rare_->wanted = 0;
    each([&](lane& l) { l.restart(oldest - 1, head, {true, oldest}); });
  }

  log_source* source_;
  std::unique_ptr<char[]> text_;  // name and epoch
  std::uint64_t head_ = 0;
  std::unique_ptr<rarely> rare_;
  lane first_;  // most channels are followed in one encoding; the lanes of others hang on it
  std::uint16_t name_size_ = 0, epoch_size_ = 0;
  bool open_ = false, filling_ = false;
};

inline std::span<const char> lane::pending(subscription& s) {
  while (s.started_) {
    if (s.live_) return work_ && work_->flushing ? std::span<const char>(work_->flushing->bytes) : std::span<const char>();
    place& p = at(s);
    if (p.in) {
      if (p.done < p.in->bytes.size()) return std::span<const char>(p.in->bytes).subspan(p.done);
      p.let_go(p.offset);
    }
    if (s.loading_) break;
    if (p.offset == flushed_) {
      leave(s);
      join_live(s);
      continue;
    }
    if (p.offset > flushed_) {
      work_->ahead = true;
      break;
    }
    if (auto c = find(p.offset + 1)) {
      p.done = static_cast<std::uint32_t>(c->begin_after(p.offset));
      p.in = std::move(c);
      continue;
    }
    s.loading_ = true;
    std::uint64_t before = p.offset;
    auto same = std::find_if(work_->loads.begin(), work_->loads.end(), [&](const load& l) { return l.since == before; });
    if (same != work_->loads.end()) {
      same->waiting.push_back(&s);
      break;
    }
    work_->loads.push_back({before, {&s}});
    work_->resolving = &s;
    log_->source().load(*log_, *this, before);
    work_->resolving = nullptr;
    if (!s.loading_ && !at(s).in && at(s).offset == before) break;  // it failed at once; asking again is for another wake
  }
  return {};
}

inline std::shared_ptr<const chunk> lane::encode(const std::vector<message>& messages) {
  auto c = std::make_shared<chunk>();
  std::string json;
  for (const auto& m : messages) {
    json.clear();
    if (how_->wants_json) proto::append_message(json, log_->name(), m);
    how_->append(c->bytes, {log_->name(), log_->epoch(), m, json});
    c->marks.push_back({m.offset, static_cast<std::uint32_t>(c->bytes.size())});
  }
  work_->recent[work_->next_recent++ % work_->recent.size()] = c;
  return c;
}

inline void lane::loaded(std::uint64_t since, const read_result& r) {
  if (!work_) return;
  auto found = std::find_if(work_->loads.begin(), work_->loads.end(), [&](const load& l) { return l.since == since; });
  if (found == work_->loads.end()) return;
  auto waiting = std::move(found->waiting);
  work_->loads.erase(found);
  for (subscription* s : waiting) s->loading_ = false;

  if (r.error) {
    for (subscription* s : waiting) s->to_->unreadable(*s, r.error);
    return rest();
  }
  std::shared_ptr<const chunk> c;
  std::uint64_t next = r.messages.empty() ? std::max(r.oldest, flushed_ + 1) : r.messages.front().offset;
  if (!r.messages.empty()) c = encode(r.messages);
  for (subscription* s : waiting) {
    if (next > since + 1) {
      at(*s).offset = next - 1;
      s->to_->lost(*s, {false, next});
    }
    at(*s).in = c;
    at(*s).done = 0;
  }
  // The one whose pull started this read goes on by itself.
  subscription* goes_on = work_->resolving;
  for (subscription* s : waiting)
    if (s != goes_on) s->to_->wake(nullptr);
  rest();
}

}  // namespace hailwire::detail
