// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/storage/order.hpp"

namespace hailwire {

/// How much runs, and waits, beside the hub's thread.
struct blocking_options {
  std::size_t threads = 4;                ///< how many channels are served at once; a `single_threaded` storage has one
  std::size_t pending = 16'384;           ///< operations not yet answered; one more: `errc::overloaded`, at once
  std::size_t pending_bytes = 64u << 20;  ///< what those hold, in bytes; a single operation may hold more
};

/// Any storage that answers when it returns, run on threads of its own, so that one that waits for a disk or a network
/// does not hold up the hub:
///
///     my_storage files("/var/lib/chat");
///     hailwire::blocking_storage off_loop({}, files);
///
/// `Storage` is a reference (the host owns it and lets it live longer) or a value (made here, of the arguments). It is
/// never called for one channel twice at once. What it throws becomes `errc::internal`.
///
/// Operations on one channel are answered in the order in which they were started, except `errc::overloaded` for want
/// of room, which is answered at once, from within the call.
///
/// Threads: safe to call from any. Handlers run on this object's threads, and what they throw is dropped. The
/// destructor waits until everything started is answered; it must not run on one of these threads. Operations that are
/// started after it has begun get `operation_aborted()`.
template <class Storage>
class blocking_storage {
  using type = std::remove_reference_t<Storage>;
  static_assert(synchronous_storage<type>,
                "hailwire: blocking_storage runs a synchronous storage: one with append and read");

  static constexpr bool one_thread = [] {
    if constexpr (requires {
                    { type::single_threaded } -> std::convertible_to<bool>;
                  })
      return bool{type::single_threaded};
    else
      return false;
  }();

 public:
  static constexpr bool keeps_keys = [] {
    if constexpr (requires {
                    { type::keeps_keys } -> std::convertible_to<bool>;
                  })
      return bool{type::keeps_keys};
    else
      return false;
  }();

  template <class... Args>
  explicit blocking_storage(const blocking_options& options, Args&&... args)
      : storage_(std::forward<Args>(args)...), order_(options.pending, options.pending_bytes) {
    std::size_t count = one_thread || options.threads == 0 ? 1 : options.threads;
    threads_.reserve(count);
    try {
      while (threads_.size() < count) threads_.emplace_back([this] { run(); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~blocking_storage() { stop(); }
  blocking_storage(const blocking_storage&) = delete;
  blocking_storage& operator=(const blocking_storage&) = delete;

  void async_append(std::string_view channel, draft d, append_handler done) {
    detail::storage_jobs one;
    one.emplace_back(channel, std::move(d), std::move(done));
    start(one);
  }
  void async_read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) {
    detail::storage_jobs one;
    one.emplace_back(channel, since, limit, std::move(done));
    start(one);
  }

 private:
  void start(detail::storage_jobs& one) {
    std::error_code refused;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) {
        refused = operation_aborted();
      } else if (order_.full(one.front().size)) {
        refused = errc::overloaded;
      } else {
        auto before = ready_.size();
        order_.start(one, ready_);
        if (ready_.size() > before) wake_.notify_one();
      }
    }
    if (refused) one.front().refuse(refused);
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return !ready_.empty() || (stopping_ && order_.empty()); });
      if (ready_.empty()) return;
      detail::storage_jobs one;
      one.splice(one.end(), ready_, ready_.begin());
      lock.unlock();
      detail::storage_job& j = one.front();
      if (j.what == detail::storage_job::kind::append) {
        j.result =
            attempt<append_result>([&] { return append_result(storage_.append(j.channel, std::as_const(j.message))); });
        release(lock, j);
        j.answer(std::move(j.result));
      } else {
        read_result result =
            attempt<read_result>([&] { return read_result(storage_.read(j.channel, j.since, j.limit)); });
        release(lock, j);
        j.answer(std::move(result));
      }
      lock.lock();
      auto before = ready_.size();
      order_.finish(j, ready_);
      if (ready_.size() > before) wake_.notify_one();
      if (stopping_ && order_.empty()) wake_.notify_all();
    }
  }
  void release(std::unique_lock<std::mutex>& lock, const detail::storage_job& j) {
    lock.lock();
    order_.release(j);
    lock.unlock();
  }
  template <class Result, class Work>
  static Result attempt(Work work) {
    try {
      return work();
    } catch (...) {
      return detail::failed<Result>();
    }
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  Storage storage_;
  std::mutex mutex_;
  std::condition_variable wake_;
  detail::storage_order<false> order_;
  detail::storage_jobs ready_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

template <class Storage>
blocking_storage(const blocking_options&, Storage&&) -> blocking_storage<Storage>;

}  // namespace hailwire
