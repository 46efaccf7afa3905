// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
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
/// never called for one channel twice at once. What it throws becomes `errc::internal`. One that has `append_all` is
/// given whatever appends wait by then, in one call, `most_at_once` at most; one such call runs at a time, beside
/// reads, so while a commit takes its time the next one fills. What other optional members it has, this has too.
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

  static constexpr bool fills = requires(type& s, std::span<const channel_draft> all) {
    { s.append_all(all) } -> std::convertible_to<std::vector<append_result>>;
  };
  static_assert(
      fills || !requires { &type::append_all; },
      "hailwire: append_all is std::vector<hailwire::append_result> "
      "append_all(std::span<const hailwire::channel_draft>)");

  static constexpr bool one_thread = [] {
    if constexpr (requires {
                    { type::single_threaded } -> std::convertible_to<bool>;
                  })
      return bool{type::single_threaded};
    else
      return false;
  }();

 public:
  static constexpr bool keeps_retention = retaining_storage<type>;
  static constexpr bool keeps_keys = [] {
    if constexpr (requires {
                    { type::keeps_keys } -> std::convertible_to<bool>;
                  })
      return bool{type::keeps_keys};
    else
      return false;
  }();
  static constexpr bool announces = detail::announces<type>;

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

  // The optional members that `Storage` has.
  void async_erase(std::string_view channel, position at, draft d, append_handler done)
    requires erasing_storage<type>
  {
    const std::size_t held = d.from.size() + at.epoch.size();
    start<append_result>(
        channel, job::kind::write, held, std::move(done),
        [c = std::string(channel), at = std::move(at), d = std::move(d)](type& s) { return s.erase(c, at, d); });
  }
  void async_mark(std::string_view channel, watermark m, mark_handler done)
    requires watermark_storage<type>
  {
    const std::size_t held = m.user.size() + m.device.size() + m.epoch.size();
    start<mark_result>(channel, job::kind::write, held, std::move(done),
                       [c = std::string(channel), m = std::move(m)](type& s) { return s.mark(c, m); });
  }
  void async_watermarks(std::string_view channel, watermark_query q, watermarks_handler done)
    requires watermark_storage<type>
  {
    const std::size_t held = q.user.size() + q.after.size();
    start<watermarks_result>(channel, job::kind::read, held, std::move(done),
                             [c = std::string(channel), q = std::move(q)](type& s) { return s.watermarks(c, q); });
  }
  void async_keep_token(device_token t, tokens_handler done)
    requires token_storage<type>
  {
    const std::size_t held = t.user.size() + t.device.size() + t.token.size() + t.extra.size();
    start<tokens_result>({}, job::kind::write, held, std::move(done),
                         [t = std::move(t)](type& s) { return s.keep_token(t); });
  }
  void async_tokens(std::string_view user, tokens_handler done)
    requires token_storage<type>
  {
    start<tokens_result>({}, job::kind::read, user.size(), std::move(done),
                         [u = std::string(user)](type& s) { return s.tokens(u); });
  }
  void async_forget_token(std::string_view user, std::string_view device, std::string_view token, tokens_handler done)
    requires token_storage<type>
  {
    start<tokens_result>({}, job::kind::write, user.size() + device.size() + token.size(), std::move(done),
                         [u = std::string(user), d = std::string(device), t = std::string(token)](type& s) {
                           return s.forget_token(u, d, t);
                         });
  }

  // Content: by its own way, where it answers later; else in the order of each upload.
  void async_open_content(upload u, const content_limits& limits, upload_handler done)
    requires content_storage<type>
  {
    if constexpr (asynchronous_content<type>) {
      storage_.async_open_content(std::move(u), limits, std::move(done));
    } else {
      const std::size_t held = u.owner.size() + u.channel.size() + u.type.size() + u.key.size();
      start<upload_result>(order_of({}), job::kind::write, held, std::move(done),
                           [u = std::move(u), limits](type& s) { return s.open_content(u, limits); });
    }
  }
  void async_find_content(std::string_view id, upload_handler done)
    requires content_storage<type>
  {
    if constexpr (asynchronous_content<type>) {
      storage_.async_find_content(id, std::move(done));
    } else {
      start<upload_result>(order_of(id), job::kind::read, id.size(), std::move(done),
                           [id = std::string(id)](type& s) { return s.find_content(id); });
    }
  }
  void async_write_content(std::string_view id, std::uint64_t offset, std::string bytes, upload_handler done)
    requires content_storage<type>
  {
    if constexpr (asynchronous_content<type>) {
      storage_.async_write_content(id, offset, std::move(bytes), std::move(done));
    } else {
      const std::size_t held = bytes.size();
      start<upload_result>(order_of(id), job::kind::write, held, std::move(done),
                           [id = std::string(id), offset, bytes = std::move(bytes)](type& s) {
                             return s.write_content(id, offset, bytes);
                           });
    }
  }
  void async_commit_content(std::string_view id, upload_handler done)
    requires content_storage<type>
  {
    if constexpr (asynchronous_content<type>) {
      storage_.async_commit_content(id, std::move(done));
    } else {
      start<upload_result>(order_of(id), job::kind::write, id.size(), std::move(done),
                           [id = std::string(id)](type& s) { return s.commit_content(id); });
    }
  }
  void async_abort_content(std::string_view id, upload_handler done)
    requires content_storage<type>
  {
    if constexpr (asynchronous_content<type>) {
      storage_.async_abort_content(id, std::move(done));
    } else {
      start<upload_result>(order_of(id), job::kind::write, id.size(), std::move(done),
                           [id = std::string(id)](type& s) { return s.abort_content(id); });
    }
  }
  void async_read_content(std::string_view id, std::uint64_t from, std::size_t size, content_handler done)
    requires content_storage<type>
  {
    if constexpr (asynchronous_content<type>) {
      storage_.async_read_content(id, from, size, std::move(done));
    } else {
      start<content_result>(order_of(id), job::kind::read, id.size(), std::move(done),
                            [id = std::string(id), from, size](type& s) { return s.read_content(id, from, size); });
    }
  }

 private:
  using job = detail::storage_job;
  /// What the operations on one content are ordered by: no channel's name has such a byte.
  static std::string order_of(std::string_view id) { return '\x01' + std::string(id); }

  template <class Result, class Work>
  void start(std::string_view channel, job::kind what, std::size_t held,
             detail::move_only_function<void(Result)>&& done, Work work) {
    detail::storage_jobs one;
    one.push_back(job::of<type, Result>(channel, what, held, std::move(done), std::move(work)));
    start(one);
  }
  void start(detail::storage_jobs& one) {
    std::error_code refused;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) {
        refused = operation_aborted();
      } else if (order_.full(one.front().size)) {
        refused = errc::overloaded;
      } else {
        detail::storage_jobs may_run;
        order_.start(one, may_run);
        line_up(may_run);
      }
    }
    if (refused) one.front().refuse(refused);
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (bool reads_next = false;;) {  // one thread alone does not leave reads waiting behind ever new appends
      wake_.wait(lock, [&] { return !ready_.empty() || may_append() || (stopping_ && order_.empty()); });
      if (may_append() && !(reads_next && !ready_.empty())) {
        run_appends(lock);
        reads_next = true;
        continue;
      }
      reads_next = false;
      if (ready_.empty()) return;
      detail::storage_jobs one;
      one.splice(one.end(), ready_, ready_.begin());
      lock.unlock();
      detail::storage_job& j = one.front();
      if (j.other) {
        try {
          j.other->run(&storage_);
        } catch (...) {
          j.other->fail();
        }
        release(lock, j);
        j.other->answer();
      } else if (j.what == job::kind::append) {
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
      finish(one);
    }
  }
  /// Everything that waits to be appended, as far as one call may take.
  void run_appends(std::unique_lock<std::mutex>& lock) {
    if constexpr (fills) {
      appending_ = true;
      detail::storage_jobs all;
      std::vector<channel_draft> drafts;
      for (std::size_t bytes = 0; !appends_.empty() && all.size() < most_at_once; bytes += all.back().size) {
        if (!all.empty() && bytes + appends_.front().size > most_bytes_at_once) break;
        all.splice(all.end(), appends_, appends_.begin());
      }
      lock.unlock();
      std::vector<append_result> results;
      try {
        drafts.reserve(all.size());
        for (const auto& j : all) drafts.push_back({j.channel, j.message});
        results = storage_.append_all(std::span<const channel_draft>(drafts));
      } catch (...) {
        results.clear();
      }
      const bool whole = results.size() == all.size();
      auto result = results.begin();
      lock.lock();
      for (const auto& j : all) order_.release(j);
      lock.unlock();
      for (auto& j : all) j.answer(whole ? std::move(*result++) : append_result(errc::internal));
      lock.lock();
      appending_ = false;
      finish(all);
      if (!appends_.empty()) wake_.notify_one();
    }
  }
  bool may_append() const noexcept { return fills && !appending_ && !appends_.empty(); }
  void line_up(detail::storage_jobs& may_run) {
    while (!may_run.empty()) {
      auto& to = fills && may_run.front().what == detail::storage_job::kind::append ? appends_ : ready_;
      to.splice(to.end(), may_run, may_run.begin());
      if (&to == &ready_ || !appending_) wake_.notify_one();
    }
  }
  void finish(const detail::storage_jobs& answered) {
    detail::storage_jobs may_run;
    for (const auto& j : answered) order_.finish(j, may_run);
    line_up(may_run);
    if (stopping_ && order_.empty()) wake_.notify_all();
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
  // What one call of `append_all` takes: as many as a database does in one transaction without others noticing.
  static constexpr std::size_t most_at_once = 1000, most_bytes_at_once = 4 << 20;
  detail::storage_order<fills ? detail::run_together::appends : detail::run_together::none> order_;
  detail::storage_jobs ready_, appends_;  // may run now; the latter together
  bool appending_ = false;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

template <class Storage>
blocking_storage(const blocking_options&, Storage&&) -> blocking_storage<Storage>;

}  // namespace hailwire
