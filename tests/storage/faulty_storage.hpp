// SPDX-License-Identifier: BSL-1.0
#pragma once

// A storage that keeps every obligation, and one that breaks a single one of them: the kill list of the contract suite.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/testing/storage_trial.hpp"

namespace faulty {

using namespace hailwire;

enum class fault {
  none,
  // offsets and reads
  skips_an_offset,
  repeats_an_offset,
  swaps_two,
  shows_late,
  forgets_the_kind,
  forgets_the_media_type,
  cuts_at_nul,
  forgets_the_sender,
  rounds_the_time,
  folds_case,
  cuts_long_names,
  invents_a_head,
  reads_make_channels,
  includes_since,
  reads_above_the_head,
  hides_the_head,
  ignores_the_count,
  ignores_the_bytes,
  returns_nothing_over_the_bytes,
  throws_on_empty_reads,
  // epochs
  two_epochs,
  renews_the_epoch,
  shares_epochs,
  reuses_epochs,
  bad_epoch,
  epoch_with_the_first_message,
  another_epoch_when_empty,
  forgets_empty_channels,
  // retention
  drops_the_newest,
  head_goes_back,
  drops_too_much,
  drops_by_bytes_too_much,
  drops_the_big_one,
  drops_young,
  drops_nothing,
  hides_what_it_dropped,
  nothing_from_below,
  // keys
  forgets_keys,
  blind_to_conflicts,
  stores_conflicts,
  stores_duplicates,
  keys_for_all_channels,
  compares_half_the_key,
  empty_is_a_key,
  key_dies_with_message,
  key_dies_young,
  key_after_message,
  // threads and later answers
  mixes_up_threads,
  completes_out_of_order,
  reads_overtake,
  calls_twice,
  forgets_at_the_end,
  // restarts
  loses_the_tail,
  starts_again_at_one,
  loses_keys,
  // taking back
  keeps_what_was_erased,
  erases_without_a_word,
  erases_the_sender,
  erases_the_next_one,
  erases_in_any_epoch,
  erases_what_is_not_there,
  erases_erasures,
  erases_twice,
  erased_key_is_new,
  erasures_overtake,
  loses_erasures,
  // retention by channel
  ignores_own_retention,
  one_retention_for_all,
  keeps_to_old_retention,
  ignores_own_age,
  // watermarks
  marks_fall,
  marks_read_alone,
  marks_without_devices,
  marks_any_epoch,
  marks_above_the_head,
  marks_seventeen_devices,
  marks_drop_the_newest,
  marks_in_one_page,
  marks_go_with_messages,
  loses_marks,
  // device tokens
  token_of_two,
  token_loses_its_extra,
  token_forgotten_by_any_name,
  tokens_of_seventeen,
  loses_tokens,
  // handles
  handle_lags,
};

struct kept_key {
  payload data;
  append_result first;
  std::int64_t at;
};
struct log {
  std::string epoch;
  std::uint64_t head = 0;
  retention keep = {};
  std::map<std::uint64_t, std::uint64_t> erased;  // by whom
  std::map<std::pair<std::string, std::string>, watermark> marks;
  std::deque<message> messages;
  std::map<std::string, kept_key> keys;
};
/// What outlives the storage.
struct world {
  std::mutex mutex;
  std::map<std::string, log> logs;
  std::map<std::pair<std::string, std::string>, device_token> tokens;
  testing::retention keep;
  retention named;
  std::int64_t now = 1'764'000'000'000;
};

class storage {
 public:
  static constexpr bool keeps_keys = true, keeps_retention = true;

  storage(std::shared_ptr<world> w, fault f, bool second = false)
      : world_(std::move(w)), fault_(f), owner_(std::this_thread::get_id()), second_(second) {}

  append_result append(std::string_view channel, const draft& d) {
    std::string name = named(channel);
    if (fault_ == fault::mixes_up_threads && std::this_thread::get_id() != owner_) meet(name);
    std::lock_guard lock(world_->mutex);
    log& l = at(name);
    take_retention(l, d.keep);
    auto& keys = is(fault::keys_for_all_channels) ? world_->logs[""].keys : l.keys;
    std::string key = is(fault::compares_half_the_key) ? d.key.substr(0, d.key.size() / 2 + 1) : d.key;
    if (is(fault::key_dies_young)) std::erase_if(keys, [&](auto& k) { return world_->now - k.second.at > 240'000; });
    if (!key.empty() || is(fault::empty_is_a_key)) {
      auto known = keys.find(key);
      if (known != keys.end()) {
        bool conflict = known->second.data != d.data && !is(fault::blind_to_conflicts);
        if (conflict && is(fault::stores_conflicts)) store(l, d);
        if (conflict) return errc::conflict;
        if (is(fault::stores_duplicates)) store(l, d);
        append_result r = known->second.first;
        r.duplicate = true;
        return r;
      }
    }
    append_result r = store(l, d);
    if (!is(fault::forgets_keys)) keys.emplace(key, kept_key{d.data, r, world_->now});
    trim(l);
    if (is(fault::key_dies_with_message))
      std::erase_if(keys, [&](auto& k) { return k.second.first.offset < oldest(l); });
    return r;
  }

  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    std::lock_guard lock(world_->mutex);
    std::string name = named(channel);
    read_result r;
    if (is(fault::reads_make_channels)) at(name).head += at(name).head == 0;
    log& l = at(name);
    r.epoch = is(fault::two_epochs) ? l.epoch + "r" : l.epoch;
    if (l.head == 0 && is(fault::epoch_with_the_first_message)) r.epoch.clear();
    if (l.head == 0 && is(fault::another_epoch_when_empty)) r.epoch = "empty";
    r.head = l.head + (is(fault::invents_a_head) && l.head == 0);
    r.oldest = is(fault::hides_what_it_dropped) ? 1 : oldest(l);
    if (is(fault::hides_the_head) && since >= l.head) r.head = 0, r.oldest = 1;
    if (is(fault::throws_on_empty_reads) && since > l.head) throw 42;
    if (is(fault::handle_lags) && second_ && l.head > 3) r.head = l.head - 1;
    if (is(fault::nothing_from_below) && since + 1 < oldest(l)) return r;
    std::size_t bytes = 0;
    for (const message& m : l.messages) {
      bool after = m.offset > since || (is(fault::includes_since) && m.offset == since) ||
                   (is(fault::reads_above_the_head) && since > l.head);
      if (!after) continue;
      if (is(fault::shows_late) && m.offset == l.head) break;
      if (r.messages.size() >= limit.messages && !is(fault::ignores_the_count)) break;
      bytes += m.data.bytes().size();
      bool over = bytes > limit.bytes && !is(fault::ignores_the_bytes);
      if (over && (!r.messages.empty() || is(fault::returns_nothing_over_the_bytes))) break;
      r.messages.push_back(m);
    }
    return r;
  }

  append_result erase(std::string_view channel, const position& where, const draft& d) {
    std::lock_guard lock(world_->mutex);
    log& l = at(std::string(channel));
    std::uint64_t offset = where.offset;
    if (where.epoch != l.epoch && !is(fault::erases_in_any_epoch)) return errc::not_found;
    if (is(fault::erases_the_next_one) && offset == 3) ++offset;
    auto place = std::find_if(l.messages.begin(), l.messages.end(), [&](auto& m) { return m.offset == offset; });
    const bool there = place != l.messages.end() && (!place->erases || is(fault::erases_erasures));
    if (!there && !is(fault::erases_what_is_not_there)) return errc::not_found;
    if (auto known = l.erased.find(offset); known != l.erased.end() && !is(fault::erases_twice)) {
      append_result r = position{l.epoch, known->second};
      r.duplicate = true;
      return r;
    }
    if (there && !is(fault::keeps_what_was_erased)) {
      place->data = payload();
      place->type.clear();
      place->content = nullptr;
      place->erased = true;
      if (is(fault::erases_the_sender)) place->from.clear();
    }
    if (is(fault::erased_key_is_new)) std::erase_if(l.keys, [&](auto& k) { return k.second.first.offset == offset; });
    draft plain;
    plain.at = d.at;
    plain.from = d.from;
    append_result r = store(l, plain);
    l.messages.back().erases = is(fault::erases_without_a_word) ? 0 : offset;
    l.erased[offset] = r.offset;
    take_retention(l, d.keep);
    trim(l);
    return r;
  }

  mark_result mark(std::string_view channel, const watermark& m) {
    std::lock_guard lock(world_->mutex);
    log& l = at(std::string(channel));
    if (m.epoch != l.epoch && !is(fault::marks_any_epoch)) return errc::not_found;
    watermark_levels levels;
    is(fault::marks_read_alone) ? void(levels = m.levels) : hailwire::detail::raise(levels, m.levels);
    if (std::max(levels.received, levels.read) > l.head && !is(fault::marks_above_the_head)) return errc::bad_request;
    mark_result r;
    std::vector<std::int64_t> seen;
    std::vector<std::string> devices;
    for (auto& [name, kept] : l.marks) {
      if (name.first != m.user) continue;
      hailwire::detail::raise(r.before, kept.levels);
      seen.push_back(is(fault::marks_drop_the_newest) ? -kept.at : kept.at);
      devices.push_back(name.second);
    }
    const std::string device = is(fault::marks_without_devices) ? "" : m.device;
    auto own = l.marks.find({m.user, device});
    if (own == l.marks.end()) {
      auto place = hailwire::detail::gives_way(seen, is(fault::marks_drop_the_newest) ? m.at + 2 * m.at : m.at);
      if (place == hailwire::detail::none_gives_way && !is(fault::marks_seventeen_devices)) return errc::conflict;
      if (place < devices.size()) l.marks.erase({m.user, devices[place]});
      own = l.marks.try_emplace({m.user, device}, watermark{m.user, device, l.epoch, {}, 0}).first;
    }
    if (is(fault::marks_fall) || is(fault::marks_read_alone)) {
      own->second.levels = levels;
    } else {
      hailwire::detail::raise(own->second.levels, levels);
    }
    own->second.at = m.at;
    r.after = r.before;
    hailwire::detail::raise(r.after, own->second.levels);
    if (is(fault::marks_read_alone)) r.after = own->second.levels;
    return r;
  }

  watermarks_result watermarks(std::string_view channel, const watermark_query& q) {
    std::lock_guard lock(world_->mutex);
    watermarks_result r;
    std::size_t users = 0;
    for (auto& [name, m] : at(std::string(channel)).marks) {
      if (!q.user.empty() ? name.first != q.user : name.first <= q.after && !q.after.empty()) continue;
      if (r.marks.empty() || r.marks.back().user != name.first) {
        if (q.user.empty() && ++users > q.users) {
          r.more = !is(fault::marks_in_one_page);
          break;
        }
      }
      r.marks.push_back(m);
    }
    return r;
  }

  tokens_result keep_token(const device_token& t) {
    std::lock_guard lock(world_->mutex);
    auto& all = world_->tokens;
    const std::pair who(t.user, t.device);
    std::vector<std::int64_t> seen;
    std::vector<std::string> devices;
    for (auto& [name, kept] : all) {
      if (name.first != t.user) continue;
      seen.push_back(kept.at);
      devices.push_back(name.second);
    }
    if (!all.contains(who)) {
      auto place = hailwire::detail::gives_way(seen, t.at);
      if (place == hailwire::detail::none_gives_way && !is(fault::tokens_of_seventeen)) return errc::conflict;
      if (place < devices.size()) all.erase({t.user, devices[place]});
    }
    if (!is(fault::token_of_two)) {
      std::erase_if(all, [&](auto& k) { return k.second.service == t.service && k.second.token == t.token; });
    }
    all[who] = t;
    if (is(fault::token_loses_its_extra)) all[who].extra.clear();
    return {};
  }
  tokens_result tokens(std::string_view user) {
    std::lock_guard lock(world_->mutex);
    tokens_result r;
    for (auto& [name, t] : world_->tokens)
      if (name.first == user) r.tokens.push_back(t);
    return r;
  }
  tokens_result forget_token(std::string_view user, std::string_view device, std::string_view token) {
    std::lock_guard lock(world_->mutex);
    auto own = world_->tokens.find({std::string(user), std::string(device)});
    bool meant = own != world_->tokens.end() &&
                 (token.empty() || own->second.token == token || is(fault::token_forgotten_by_any_name));
    if (meant) world_->tokens.erase(own);
    return {};
  }

 private:
  bool is(fault f) const { return fault_ == f; }
  void take_retention(log& l, const retention& keep) {
    if (is(fault::ignores_own_retention)) return;
    if (is(fault::keeps_to_old_retention) && keep == retention()) return;
    l.keep = keep;
    if (is(fault::one_retention_for_all) && keep != retention()) world_->named = keep;
    if (is(fault::one_retention_for_all)) l.keep = world_->named;
  }
  std::string named(std::string_view channel) const {
    std::string name(channel);
    if (is(fault::folds_case))
      for (char& c : name) c = proto::to_lower(c);
    if (is(fault::cuts_long_names)) name = name.substr(0, 254);
    return name;
  }
  log& at(const std::string& name) {
    log& l = world_->logs[name];
    if (l.epoch.empty()) {
      l.epoch = is(fault::reuses_epochs)   ? "epoch" + std::to_string(world_->logs.size())
                : is(fault::shares_epochs) ? "epoch" + std::to_string(lives_)
                : is(fault::bad_epoch)     ? "epoch:" + std::to_string(++lives_)
                                           : "epoch" + std::to_string(++lives_);
    }
    return l;
  }
  static std::uint64_t oldest(const log& l) { return l.messages.empty() ? l.head + 1 : l.messages.front().offset; }

  append_result store(log& l, const draft& d) {
    std::uint64_t offset = l.head + 1;
    if (is(fault::skips_an_offset) && offset == 17) ++offset;
    if (is(fault::repeats_an_offset) && offset == 17) --offset;
    if (is(fault::renews_the_epoch) && offset == 17) l.epoch = "again" + std::to_string(++lives_);
    message m{offset, d.at, d.from, d.type, d.data};
    m.content = d.content;
    std::string bytes(d.data.bytes()), media(d.data.content_type());
    if (is(fault::forgets_the_kind)) m.data = payload::binary(bytes, media);
    if (is(fault::forgets_the_media_type) && m.data.type() == payload::kind::binary) m.data = payload::binary(bytes);
    if (is(fault::cuts_at_nul) && m.data.type() == payload::kind::text) m.data = payload::text(bytes.c_str(), media);
    if (is(fault::forgets_the_sender)) m.from.clear();
    if (is(fault::rounds_the_time)) m.at -= m.at % 1000;
    l.head = offset;
    l.messages.push_back(std::move(m));
    if (is(fault::swaps_two) && offset == 17) std::swap(l.messages.back().data, l.messages.end()[-2].data);
    append_result r = position{l.epoch, offset};
    return r;
  }

  void trim(log& l) {
    auto keep = world_->keep;
    if (is(fault::drops_nothing)) return;
    if (l.keep.messages) keep.messages = l.keep.messages;
    if (l.keep.bytes) keep.bytes = l.keep.bytes;
    if (l.keep.age.count() && !is(fault::ignores_own_age)) keep.age = l.keep.age;
    auto bytes = [&] {
      std::size_t n = 0;
      for (auto& m : l.messages) n += m.data.bytes().size();
      return n;
    };
    auto age = std::chrono::duration_cast<std::chrono::milliseconds>(keep.age).count();
    auto over = [&] {
      if (l.messages.size() <= 1 && !is(fault::drops_the_big_one)) return false;
      if (l.messages.empty()) return false;
      return (keep.messages && l.messages.size() > keep.messages - is(fault::drops_too_much)) ||
             (keep.bytes && bytes() > keep.bytes - is(fault::drops_by_bytes_too_much)) ||
             (age && world_->now - l.messages.front().at > (is(fault::drops_young) ? age / 2 : age));
    };
    while (over()) {
      if (is(fault::drops_the_newest)) {
        l.messages.pop_back();
        l.head = l.messages.back().offset;
      } else {
        l.messages.pop_front();
      }
      if (is(fault::marks_go_with_messages)) l.marks.clear();
      if (is(fault::head_goes_back)) {
        std::uint64_t offset = 0;
        for (auto& m : l.messages) m.offset = ++offset;
        l.head = offset;
      }
    }
  }

  // Two threads wait for one another, so that the fault shows in every run; then each takes the other's channel.
  void meet(std::string& name) {
    std::unique_lock lock(meeting_);
    met_.push_back(name);
    auto place = met_.size() - 1;
    arrived_.notify_all();
    if (place % 2 == 0) {
      if (arrived_.wait_for(lock, std::chrono::seconds(1), [&] { return met_.size() > place + 1; }))
        name = met_[place + 1];
    } else {
      name = met_[place - 1];
    }
  }

  std::shared_ptr<world> world_;
  fault fault_;
  std::thread::id owner_;
  bool second_;
  std::mutex meeting_;
  std::condition_variable arrived_;
  std::vector<std::string> met_;
  static inline std::atomic<std::uint64_t> lives_ = 0;
};

/// The same, answering from a thread of its own.
class later_storage {
 public:
  static constexpr bool keeps_keys = true, keeps_retention = true;

  later_storage(std::shared_ptr<world> w, fault f, bool second = false)
      : inner_(w, f, second), fault_(f), thread_([this] { run(); }) {}
  ~later_storage() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      if (fault_ == fault::forgets_at_the_end) jobs_.clear();
    }
    more_.notify_all();
    thread_.join();
  }

  void async_append(std::string_view channel, draft d, append_handler done) {
    auto work = [this, c = std::string(channel), d = std::move(d)] {
      append_result r = inner_.append(c, d);
      // Two steps instead of one: the key is looked at, and a moment later the message is stored.
      if (fault_ == fault::key_after_message && r.duplicate && !d.key.empty()) {
        draft again = d;
        again.key.clear();
        r = inner_.append(c, again);
      }
      return r;
    };
    post([this, work = std::move(work), done = std::move(done)]() mutable {
      append_result r = work();
      if (fault_ == fault::calls_twice) done(r);
      done(std::move(r));
    });
  }
  void async_read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) {
    if (fault_ == fault::reads_overtake) return done(inner_.read(channel, since, limit));
    post([this, c = std::string(channel), since, limit, done = std::move(done)]() mutable {
      read_result r;
      try {
        r = inner_.read(c, since, limit);
      } catch (...) {
        r.error = errc::internal;
      }
      done(std::move(r));
    });
  }
  void async_erase(std::string_view channel, position at, draft d, append_handler done) {
    if (fault_ == fault::erasures_overtake) return done(inner_.erase(channel, at, d));
    post([this, c = std::string(channel), at = std::move(at), d = std::move(d), done = std::move(done)]() mutable {
      done(inner_.erase(c, at, d));
    });
  }
  void async_mark(std::string_view channel, watermark m, mark_handler done) {
    post([this, c = std::string(channel), m = std::move(m), done = std::move(done)]() mutable {
      done(inner_.mark(c, m));
    });
  }
  void async_watermarks(std::string_view channel, watermark_query q, watermarks_handler done) {
    post([this, c = std::string(channel), q = std::move(q), done = std::move(done)]() mutable {
      done(inner_.watermarks(c, q));
    });
  }
  void async_keep_token(device_token t, tokens_handler done) {
    post([this, t = std::move(t), done = std::move(done)]() mutable { done(inner_.keep_token(t)); });
  }
  void async_tokens(std::string_view user, tokens_handler done) {
    post([this, u = std::string(user), done = std::move(done)]() mutable { done(inner_.tokens(u)); });
  }
  void async_forget_token(std::string_view user, std::string_view device, std::string_view token, tokens_handler done) {
    post([this, u = std::string(user), d = std::string(device), t = std::string(token),
          done = std::move(done)]() mutable { done(inner_.forget_token(u, d, t)); });
  }

 private:
  using job = hailwire::detail::move_only_function<void()>;
  void post(job j) {
    {
      std::lock_guard lock(mutex_);
      // Out of order, and never late: the newest overtakes the one that waits before it.
      if (fault_ == fault::completes_out_of_order && !jobs_.empty()) {
        jobs_.insert(jobs_.end() - 1, std::move(j));
      } else {
        jobs_.push_back(std::move(j));
      }
    }
    more_.notify_all();
  }
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      more_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job j = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      j();
      lock.lock();
    }
  }

  storage inner_;
  fault fault_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<job> jobs_;
  bool stop_ = false;
  std::thread thread_;
};

/// Opens either of them, with everything that a fixture can offer.
template <class Storage>
struct fixture {
  fault broken = fault::none;
  std::shared_ptr<world> last = std::make_shared<world>();

  std::unique_ptr<Storage> open(testing::retention keep) {
    last = std::make_shared<world>();
    last->keep = keep;
    return std::make_unique<Storage>(last, broken);
  }
  std::unique_ptr<Storage> open() { return open({}); }
  std::unique_ptr<Storage> reopen() {
    for (auto& [name, l] : last->logs) {
      if (broken == fault::loses_the_tail && !l.messages.empty()) l.messages.pop_back(), --l.head;
      if (broken == fault::starts_again_at_one) l.messages.clear(), l.head = 0;
      if (broken == fault::loses_keys) l.keys.clear();
      if (broken == fault::loses_erasures) l.erased.clear();
      if (broken == fault::loses_marks) l.marks.clear();
      if (broken == fault::forgets_empty_channels && l.head == 0) l.epoch.clear();
    }
    if (broken == fault::loses_tokens) last->tokens.clear();
    return std::make_unique<Storage>(last, broken);
  }
  std::unique_ptr<Storage> share() { return std::make_unique<Storage>(last, broken, true); }
  std::int64_t now() const { return last->now; }
  void advance(std::chrono::milliseconds time) { last->now += time.count(); }
};

}  // namespace faulty
