// SPDX-License-Identifier: BSL-1.0
#pragma once

// What storages that answer later have in common: the operation that waits, the bound on how many may, and the order in
// which those on one channel are answered.

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/siphash.hpp"

namespace hailwire::detail {

/// What an optional member asks of a storage: carried out with whatever carries it out, and answered afterwards.
struct storage_work {
  virtual ~storage_work() = default;
  virtual void run(void* with) = 0;
  virtual void fail(std::error_code why) noexcept = 0;  ///< in place of what it came to
  virtual void fail() noexcept = 0;                     ///< the same, for the exception that is being caught
  virtual void answer() noexcept = 0;                   ///< once; what the handler throws is dropped
};

/// `work(with)` returns what `done` is given.
template <class With, class Result, class Work>
class storage_work_of final : public storage_work {
 public:
  storage_work_of(move_only_function<void(Result)>&& done, Work&& work)
      : done_(std::move(done)), work_(std::move(work)) {}
  void run(void* with) override { result_ = Result(work_(*static_cast<With*>(with))); }
  void fail(std::error_code why) noexcept override { result_ = Result(why); }
  void fail() noexcept override { result_ = failed<Result>(); }
  void answer() noexcept override {
    try {
      std::exchange(done_, nullptr)(std::move(result_));
    } catch (...) {
    }
  }

 private:
  move_only_function<void(Result)> done_;
  Work work_;
  Result result_;
};

/// An operation on its way. A list node, so that it changes hands without being moved.
struct storage_job {
  enum class kind : std::uint8_t { append, read, write };

  storage_job(std::string_view c, draft&& d, append_handler&& h);
  storage_job(std::string_view c, std::uint64_t after, read_limit most, read_handler&& h);
  /// One of an optional member's, a read or a write, which holds `held` bytes.
  storage_job(std::string_view c, kind k, std::size_t held, std::unique_ptr<storage_work> w);
  template <class With, class Result, class Work>
  static storage_job of(std::string_view c, kind k, std::size_t held, move_only_function<void(Result)>&& done,
                        Work&& work) {
    return {c, k, held,
            std::unique_ptr<storage_work>(
                new storage_work_of<With, Result, Work>(std::move(done), std::forward<Work>(work)))};
  }

  /// Calls the handler, and ends it and what it holds. What it throws is the handler's own affair, and dropped: the
  /// next in line must still be called.
  void answer(append_result r) noexcept { call(appended, std::move(r)); }
  void answer(read_result r) noexcept { call(done, std::move(r)); }
  void refuse(std::error_code why) noexcept;

  kind what;
  std::string channel;
  std::size_t size = 0;  ///< bytes that it holds while it waits
  draft message;
  append_handler appended;
  append_result result;  ///< between the work and the answer, where many are answered together
  std::uint64_t since = 0;
  read_limit limit;
  read_handler done;
  std::unique_ptr<storage_work> other;  ///< set: an optional member's

 private:
  template <class Handler, class Result>
  static void call(Handler& handler, Result r) noexcept {
    try {
      std::exchange(handler, nullptr)(std::move(r));
    } catch (...) {
    }
  }
};

using storage_jobs = std::list<storage_job>;

/// Decides which operations may run now, so that those on one channel complete in the order in which they were started
/// while those on different channels do not wait for one another; and bounds how many there are.
///
/// `all`: the appends and other writes of a channel run together, and so do its reads, provided that whoever runs them
/// finishes them in order; a write waits for the reads before it and a read for the writes. `appends`: its appends run
/// together, everything else one at a time. `none`: a channel runs one operation at a time. Not thread-safe.
enum class run_together : std::uint8_t { none, appends, all };
template <run_together together>
class storage_order {
 public:
  /// Precondition for `pending`: at least 1.
  storage_order(std::size_t pending, std::size_t bytes) : most_(pending), most_bytes_(bytes) {}

  /// Whether one more job, of this size, is too many. A single one never is, whatever its size.
  bool full(std::size_t size) const noexcept {
    return pending_ > 0 && (pending_ >= most_ || bytes_ > most_bytes_ || size > most_bytes_ - bytes_);
  }

  /// Takes the one job in `one`; it goes to the end of `ready` if it may run now.
  void start(storage_jobs& one, storage_jobs& ready) {
    storage_job& job = one.front();
    channel_queue& l = queues_[job.channel];
    ++pending_;
    bytes_ += job.size;
    bool may_run = l.running == 0 || (many(job.what) && alike(l.what, job.what) && l.waiting.empty());
    if (may_run) {
      l.what = job.what;
      ++l.running;
      ready.splice(ready.end(), one);
    } else {
      l.waiting.splice(l.waiting.end(), one);
    }
  }

  /// `job` is about to be answered: whoever hears the answer finds its room free.
  void release(const storage_job& job) noexcept {
    --pending_;
    bytes_ -= job.size;
  }

  /// `job` was answered; what waited for it goes to the end of `ready`.
  void finish(const storage_job& job, storage_jobs& ready) {
    auto at = queues_.find(job.channel);
    channel_queue& l = at->second;
    if (--l.running > 0) return;
    if (l.waiting.empty()) {
      queues_.erase(at);
      return;
    }
    l.what = l.waiting.front().what;
    do {
      ++l.running;
      ready.splice(ready.end(), l.waiting, l.waiting.begin());
    } while (many(l.what) && !l.waiting.empty() && alike(l.waiting.front().what, l.what));
  }

  /// Whether everything was answered.
  bool empty() const noexcept { return queues_.empty(); }

 private:
  static constexpr bool many(storage_job::kind what) noexcept {
    return together == run_together::all || (together == run_together::appends && what == storage_job::kind::append);
  }
  static constexpr bool alike(storage_job::kind a, storage_job::kind b) noexcept {
    if (together != run_together::all) return a == b;
    return (a == storage_job::kind::read) == (b == storage_job::kind::read);
  }
  struct channel_queue {
    std::size_t running = 0;
    storage_job::kind what = storage_job::kind::append;
    storage_jobs waiting;
  };
  std::unordered_map<std::string, channel_queue, text_hash> queues_;
  std::size_t most_, most_bytes_;
  std::size_t pending_ = 0, bytes_ = 0;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/storage/order.ipp"
#endif
