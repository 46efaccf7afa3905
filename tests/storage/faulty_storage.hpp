// SPDX-License-Identifier: BSL-1.0
#pragma once

// A storage that keeps every obligation, and one that breaks a single one of them: the kill list of the contract suite.

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
};

struct kept_key {
  payload data;
  append_result first;
  std::int64_t at;
};
struct log {
  std::string epoch;
  std::uint64_t head = 0;
  std::deque<message> messages;
  std::map<std::string, kept_key> keys;
};
/// What outlives the storage.
struct world {
  std::map<std::string, log> logs;
  testing::retention keep;
  std::int64_t now = 1'764'000'000'000;
};

class storage {
 public:
  static constexpr bool keeps_keys = true;

  storage(std::shared_ptr<world> w, fault f) : world_(std::move(w)), fault_(f), owner_(std::this_thread::get_id()) {}

  append_result append(std::string_view channel, const draft& d) {
    std::string name = named(channel);
    if (fault_ == fault::mixes_up_threads && std::this_thread::get_id() != owner_) meet(name);
    std::lock_guard lock(mutex_);
    log& l = at(name);
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
    std::lock_guard lock(mutex_);
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

 private:
  bool is(fault f) const { return fault_ == f; }
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
    const auto& keep = world_->keep;
    if (is(fault::drops_nothing)) return;
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
  std::mutex mutex_, meeting_;
  std::condition_variable arrived_;
  std::vector<std::string> met_;
  static inline std::atomic<std::uint64_t> lives_ = 0;
};

/// The same, answering from a thread of its own.
class later_storage {
 public:
  static constexpr bool keeps_keys = true;

  later_storage(std::shared_ptr<world> w, fault f) : inner_(w, f), fault_(f), thread_([this] { run(); }) {}
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
      if (broken == fault::forgets_empty_channels && l.head == 0) l.epoch.clear();
    }
    return std::make_unique<Storage>(last, broken);
  }
  std::int64_t now() const { return last->now; }
  void advance(std::chrono::milliseconds time) { last->now += time.count(); }
};

}  // namespace faulty
