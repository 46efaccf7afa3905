// SPDX-License-Identifier: BSL-1.0
#pragma once

// Logs in a SQLite file. Needs SQLite 3.37 or newer and the component `hailwire::sqlite`.
//
// One thread writes and others read; none of them is the hub's. The writer takes all that has gathered while the last
// commit was on its way to the disk, up to a bound, into one transaction, and only after its commit are the appends
// answered: the slower the disk, the more publishes share one sync. Readers see the file as of the last commit (WAL)
// and neither wait for the writer nor make it wait. `storage_order` lets the appends of a channel run together and its
// reads run together, and keeps the two apart, so that a read sees every append that was started before it.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/storage/order.hpp"
#include "hailwire/detail/storage/sqlite_file.hpp"
#include "hailwire/detail/storage/sqlite_log.hpp"
#include "hailwire/storage/memory.hpp"

namespace hailwire {

/// How a `sqlite_storage` keeps its file. Retention limits may be passed by an eighth (count: at most 64 messages; age:
/// a sixteenth) before the oldest are dropped, up to 512 of them a transaction; the newest message is dropped by age
/// alone. Limits that are lower than at the last use reach every channel soon after the start, also those to which
/// nobody publishes.
struct sqlite_options {
  hailwire::durability durability = hailwire::durability::full;
  std::size_t messages = 1'000'000;  ///< per channel; 0: no limit
  std::uint64_t bytes = 0;           ///< payload bytes per channel; 0: no limit
  std::chrono::seconds age{0};       ///< by `message::at`; 0: no limit
  std::size_t channels = 1'000'000;  ///< one more that is published to for the first time: `errc::overloaded`
  /// How long a key is kept; the protocol asks for five minutes at least. Counted while the file is in use, so that
  /// neither a clock that is set nor a pause between two uses ends a key before its time.
  std::chrono::seconds key_lifetime{300};
  std::size_t keys = 1'000'000;         ///< kept at once, about 80 bytes of file each; one more: `errc::overloaded`
  std::size_t watermarks = 10'000'000;  ///< of all channels, about 60 bytes of file each; one more: `errc::overloaded`
  std::size_t tokens = 10'000'000;      ///< of all users; one more: `errc::overloaded`

  std::size_t pending = 16'384;           ///< operations not yet answered; one more: `errc::overloaded`, at once
  std::size_t pending_bytes = 64u << 20;  ///< what those hold, in bytes
  std::size_t batch = 4'096;              ///< the most appends in one transaction
  std::size_t readers = 1;                ///< reading threads, each with a connection

  /// Of 4 KiB; when the -wal has as many, they are moved into the file. While another program reads, they cannot be,
  /// and the -wal grows: at four times as many, and whenever it has doubled since, `on_log` is told.
  std::size_t wal_pages = 4000;
  /// What a person should know, a line; called on the writer's thread, which waits for it. What it throws is dropped.
  std::function<void(std::string_view text)> on_log;
  /// Files up to this size are checked page by page when they are opened, which takes about a second a gigabyte. Others
  /// only after an unclean end at `durability::off`; a damaged page shows when it is read.
  std::uint64_t check = 64u << 20;
  std::int64_t (*clock)() = &system_milliseconds;   ///< Unix milliseconds, for age; read by the writer's thread
  std::int64_t (*steady)() = &steady_milliseconds;  ///< milliseconds since some moment, for keys; read there, too
  std::string boot = detail::boot_id();  ///< names the time since the machine started; empty: unlike any other
  std::string vfs;                       ///< a registered SQLite VFS; empty: the default one
};

/// Logs that survive the process, in one SQLite file (with its `-wal` and `-shm`, and `-lock` while it is open). Keeps
/// keys, and epochs over restarts. All epochs are new, so that followers hear a gap, where acknowledged messages may be
/// missing: the machine went down during a use at less than `full`; the `-wal` is gone after an unclean end (another
/// program that opened the file in between removes it, too); the file is a copy, or another program has written into
/// it.
///
/// Takes messages back (`erase`): what is taken away is written over with zeros (`PRAGMA secure_delete`); in the `-wal`
/// it may stand until that is written over in its turn, at the latest until a clean end removes it. Until the message
/// is trimmed, its payload still counts for `bytes`. Keeps watermarks, device tokens and a retention for each channel.
///
/// Errors of an append, which then stored nothing unless it says otherwise: `errc::overloaded` (too many channels, keys
/// or pending operations), `errc::conflict` (same key, other payload), `errc::too_large` (over SQLite's limit of about
/// 1 GB); `ENOSPC` and other codes of the system's own for the whole transaction: outcome unknown only after a failed
/// sync (`EIO`). Clients are told `overloaded` of a full disk, `internal` of one that fails. Later appends are tried
/// afresh, so service resumes when the disk does. Reads answer `EIO` where the file is damaged. `operation_aborted()`
/// after the destructor has begun.
///
/// Operations on one channel are answered in the order in which they were started, except `errc::overloaded` for want
/// of room among the pending ones, which is answered at once, from within the call.
///
/// Threads: safe to call from any. Handlers run on this object's threads, and what they throw is dropped. The
/// destructor waits until everything started is written and answered; it must not run on one of these threads.
class sqlite_storage {
 public:
  static constexpr bool keeps_keys = true, keeps_retention = true;

  /// Opens the file, or makes it; may wait for the disk. A file of an older version is brought to this one's schema, in
  /// one transaction. On a disk that is full, a file that is there is opened for reading, and appends are refused with
  /// `ENOSPC` until there is room. A failure tells what is wrong, and the file is as it was, or not there:
  /// - `errc::conflict`: in use by another storage, in this process or any other;
  /// - `errc::unsupported_media`: a file, but not one of hailwire's;
  /// - `errc::not_implemented`: made by a newer version;
  /// - `errc::internal`: damaged, or cannot be opened or written.
  static result<std::unique_ptr<sqlite_storage>> open(const std::string& path, const sqlite_options& options = {}) {
    const detail::sqlite_place place{path, options.vfs, options.boot, options.durability, options.check};
    auto file = detail::sqlite_file::open(place);
    if (!file) return file.error();
    try {
      return std::unique_ptr<sqlite_storage>(new sqlite_storage(std::move(*file), place, options));
    } catch (const detail::sqlite_failure& e) {
      return {errc::internal, path + ": " + sqlite3_errstr(e.code)};
    }
  }

  ~sqlite_storage() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_all();
    for (std::thread& t : threads_) t.join();
    readers_.clear();
    writer_.reset();
    begin_ = {};
    commit_ = {};
    file_.end_use();
  }
  sqlite_storage(const sqlite_storage&) = delete;
  sqlite_storage& operator=(const sqlite_storage&) = delete;

  void async_append(std::string_view channel, draft d, append_handler done) {
    if (d.data.bytes().size() > largest_) return done(errc::too_large);
    jobs one;
    one.emplace_back(channel, std::move(d), std::move(done));
    start(one);
  }

  void async_read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) {
    jobs one;
    one.emplace_back(channel, since, limit, std::move(done));
    start(one);
  }

  void async_erase(std::string_view channel, position at, draft d, append_handler done) {
    const std::size_t held = d.from.size() + at.epoch.size();
    write<append_result>(channel, held, std::move(done),
                         [c = std::string(channel), at = std::move(at), d = std::move(d)](detail::sqlite_writer& w) {
                           return w.erase(c, at, d);
                         });
  }
  void async_mark(std::string_view channel, watermark m, mark_handler done) {
    const std::size_t held = m.user.size() + m.device.size() + m.epoch.size();
    write<mark_result>(channel, held, std::move(done),
                       [c = std::string(channel), m = std::move(m)](detail::sqlite_writer& w) { return w.mark(c, m); });
  }
  void async_watermarks(std::string_view channel, watermark_query q, watermarks_handler done) {
    const std::size_t held = q.user.size() + q.after.size();
    look<watermarks_result>(
        channel, held, std::move(done),
        [c = std::string(channel), q = std::move(q)](detail::sqlite_reader& r) { return r.watermarks(c, q); });
  }
  void async_keep_token(device_token t, tokens_handler done) {
    const std::size_t held = t.user.size() + t.device.size() + t.token.size() + t.extra.size();
    write<tokens_result>({}, held, std::move(done),
                         [t = std::move(t)](detail::sqlite_writer& w) { return w.members.keep_token(t); });
  }
  void async_tokens(std::string_view user, tokens_handler done) {
    look<tokens_result>({}, user.size(), std::move(done),
                        [u = std::string(user)](detail::sqlite_reader& r) { return r.tokens(u); });
  }
  void async_forget_token(std::string_view user, std::string_view device, std::string_view token, tokens_handler done) {
    write<tokens_result>({}, user.size() + device.size() + token.size(), std::move(done),
                         [u = std::string(user), d = std::string(device), t = std::string(token)](
                             detail::sqlite_writer& w) { return w.members.forget_token(u, d, t); });
  }

 private:
  using job = detail::storage_job;
  using jobs = detail::storage_jobs;

  template <class Result, class Work>
  void write(std::string_view channel, std::size_t held, detail::move_only_function<void(Result)>&& done, Work work) {
    jobs one;
    one.push_back(
        job::of<detail::sqlite_writer, Result>(channel, job::kind::write, held, std::move(done), std::move(work)));
    start(one);
  }
  template <class Result, class Work>
  void look(std::string_view channel, std::size_t held, detail::move_only_function<void(Result)>&& done, Work work) {
    jobs one;
    one.push_back(
        job::of<detail::sqlite_reader, Result>(channel, job::kind::read, held, std::move(done), std::move(work)));
    start(one);
  }

  struct reading {
    detail::sqlite_reader file;
    jobs queue;
    std::condition_variable wake;
    std::mutex busy;        // held while it reads
    bool outdated = false;  // its connection sees the file as it was before it was in use
  };

  sqlite_storage(detail::sqlite_file file, const detail::sqlite_place& place, const sqlite_options& options)
      : options_(options), place_(place), file_(std::move(file)), order_(options.pending, options.pending_bytes) {
    // The row's other columns are far below 4096 bytes.
    largest_ = detail::sqlite_connection(":memory:", SQLITE_OPEN_READWRITE, {}).largest_row() - 4096;
    if (file_.in_use()) prepare();
    for (std::size_t i = 0; i < std::max<std::size_t>(options.readers, 1); ++i) {
      readers_.push_back(std::unique_ptr<reading>(
          new reading{detail::sqlite_reader(file_.reader(place), file_.epoch_secret, file_.current()), {}, {}, {}}));
      readers_.back()->outdated = !file_.in_use();
    }
    threads_.reserve(readers_.size() + 1);
    try {
      threads_.emplace_back([this] { write(); });
      for (auto& r : readers_) threads_.emplace_back([this, &r = *r] { read(r); });
    } catch (...) {
      {
        std::lock_guard lock(mutex_);
        stopping_ = true;
      }
      wake_all();
      for (std::thread& t : threads_) t.join();
      throw detail::sqlite_failure{SQLITE_NOMEM};
    }
    file_.keep();
  }

  detail::sqlite_limits limits() const {
    auto or_none = [](std::uint64_t n) {
      return n == 0 ? detail::no_limit : static_cast<std::int64_t>(std::min<std::uint64_t>(n, INT64_MAX / 4));
    };
    auto milliseconds = [](std::chrono::seconds s) {
      return static_cast<std::uint64_t>(std::chrono::milliseconds(s).count());
    };
    detail::sqlite_limits out;
    out.messages = or_none(options_.messages);
    out.bytes = or_none(options_.bytes);
    out.age = or_none(milliseconds(options_.age));
    out.channels = options_.channels;
    out.keys = options_.keys;
    out.marks = options_.watermarks;
    out.tokens = options_.tokens;
    out.key_lifetime = static_cast<std::int64_t>(milliseconds(options_.key_lifetime));
    return out;
  }
  void prepare() {
    file_.writer.count_wal(&wal_);
    begin_ = file_.writer.prepare("BEGIN IMMEDIATE");
    commit_ = file_.writer.prepare("COMMIT");
    writer_ = std::make_unique<detail::sqlite_writer>(file_, limits());
    began_ = options_.steady();
  }

  // What follows runs on the caller's thread.

  void start(jobs& one) {
    std::error_code refused;
    std::condition_variable* wake = nullptr;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) {
        refused = operation_aborted();
      } else if (order_.full(one.front().size)) {
        refused = errc::overloaded;
      } else {
        jobs ready;
        order_.start(one, ready);
        wake = hand_out(ready);
      }
    }
    if (refused) return one.front().refuse(refused);
    if (wake) wake->notify_one();  // without the mutex, which the one who wakes will want at once
  }

  // What follows needs the mutex.

  /// Returns who has to be woken for the last of them; others are woken here.
  std::condition_variable* hand_out(jobs& ready) {
    std::condition_variable* wake = nullptr;
    while (!ready.empty()) {
      job& j = ready.front();
      bool append = j.what != job::kind::read;
      auto& r = *readers_[append ? 0 : std::hash<std::string>()(j.channel) % readers_.size()];
      auto& queue = append ? appends_ : r.queue;
      if (queue.empty()) {
        if (wake) wake->notify_one();
        wake = append ? &write_ : &r.wake;
      }
      queue.splice(queue.end(), ready, ready.begin());
    }
    return wake;
  }
  void finish(jobs& done) {
    jobs ready;
    for (const job& j : done) order_.finish(j, ready);
    if (auto* wake = hand_out(ready)) wake->notify_one();
    if (stopping_ && order_.empty()) wake_all();
  }
  bool finished() const noexcept { return stopping_ && order_.empty(); }
  void wake_all() noexcept {
    write_.notify_all();
    for (auto& r : readers_) r->wake.notify_all();
  }

  // What follows runs on this object's threads.

  void read(reading& r) {
    std::unique_lock lock(mutex_);
    for (;;) {
      r.wake.wait(lock, [&] { return !r.queue.empty() || finished(); });
      if (r.queue.empty()) return;
      jobs one;
      one.splice(one.end(), r.queue, r.queue.begin());
      lock.unlock();
      job& j = one.front();
      read_result result;
      try {
        std::lock_guard busy(r.busy);
        if (r.outdated && file_.in_use()) {
          r.file = detail::sqlite_reader(file_.reader(place_), file_.epoch_secret, file_.current());
          r.outdated = false;
        }
        if (j.other) {
          j.other->run(&r.file);
        } else {
          result = r.file.read(j.channel, j.since, j.limit);
        }
      } catch (const detail::sqlite_failure& e) {
        fail_read(r, j, result, detail::sqlite_error(e.code));
      } catch (...) {
        fail_read(r, j, result, errc::internal);
      }
      lock.lock();
      order_.release(j);
      lock.unlock();
      j.other ? j.other->answer() : j.answer(std::move(result));
      lock.lock();
      finish(one);
    }
  }
  static void fail_read(reading& r, job& j, read_result& result, std::error_code why) noexcept {
    if (!j.other) {
      result = read_result(why);
      return;
    }
    r.file.give_up();
    j.other->fail(why);
  }

  void write() {
    using clock = std::chrono::steady_clock;
    clock::time_point tidy_at = clock::now();
    bool more = false;  // to drop, at once
    std::unique_lock lock(mutex_);
    for (;;) {
      auto due = [&] { return !appends_.empty() || finished(); };
      if (!more && writer_ && (!swept_ || by_age() || writer_->any_keys()))
        write_.wait_until(lock, tidy_at, due);
      else if (!more)
        write_.wait(lock, due);
      if (appends_.empty() && finished()) return;
      jobs batch;
      std::size_t bytes = 0;
      while (!appends_.empty() && batch.size() < options_.batch && bytes < largest_batch) {
        bytes += appends_.front().size;
        batch.splice(batch.end(), appends_, appends_.begin());
      }
      lock.unlock();
      bool tidy = clock::now() >= tidy_at;
      more = commit(batch, tidy);
      if (tidy) tidy_at = clock::now() + pause_;
      lock.lock();
      for (const job& j : batch) order_.release(j);
      lock.unlock();
      for (job& j : batch) j.other ? j.other->answer() : j.answer(std::move(j.result));
      lock.lock();
      finish(batch);
    }
  }

  // One transaction for the batch and for a step of tidying up: all of it is kept or none. True: there is more to tidy.
  bool commit(jobs& batch, bool tidy) noexcept {
    try {
      if (!writer_) use();
      writer_->at(options_.clock(), options_.steady() - began_);
      begin_().run();
      if (std::exchange(stale_, true)) writer_->reload();
      std::size_t keyed = 0;
      for (const job& j : batch) keyed += !j.message.key.empty();  // another member's has none
      bool more = (keyed || tidy) && writer_->forget_keys(keyed);
      for (job& j : batch) {
        if (j.other) {
          j.other->run(writer_.get());
        } else {
          j.result = writer_->append(j.channel, j.message);
        }
      }
      if (tidy) sweep();
      more |= writer_->trim(512);
      commit_().run();
      stale_ = false;
      if (writer_->take_erased()) file_.writer.checkpoint();
      empty_wal();
      return more;
    } catch (const detail::sqlite_failure& e) {
      fail(batch, detail::sqlite_error(e.code));
    } catch (...) {
      fail(batch, errc::internal);
    }
    return false;
  }
  bool by_age() const noexcept { return options_.age.count() > 0 || (writer_ && writer_->any_ages()); }
  // The first look at all channels goes through 25,600 of them a second, the others, for age, through 1,000. When all
  // were seen, the next look waits for age to come.
  void sweep() {
    bool first = !swept_;
    pause_ = std::chrono::seconds(10);
    if (!first && !by_age()) return;
    if (writer_->sweep())
      pause_ = std::chrono::milliseconds(first ? 10 : 250);
    else
      swept_ = true;
  }
  void empty_wal() noexcept {
    const auto pages = static_cast<std::size_t>(wal_), most = std::max<std::size_t>(options_.wal_pages, 1);
    if (pages < most) {
      wal_told_ = 2 * most;
      return;
    }
    if (file_.writer.checkpoint() || pages < 2 * wal_told_) return;
    wal_told_ = pages;
    try {
      if (options_.on_log)
        options_.on_log(place_.path + "-wal has grown to " + std::to_string(pages / 256) +
                        " MiB: it cannot be emptied while another program reads " + place_.path);
    } catch (...) {
    }
  }
  // A file that was opened on a full disk; throws while it still is.
  void use() {
    std::vector<std::unique_lock<std::mutex>> still;  // what they see may change under them only when they know
    for (auto& r : readers_) still.emplace_back(r->busy);
    if (!file_.in_use()) file_.use(place_);
    prepare();
  }
  void fail(jobs& batch, std::error_code why) noexcept {
    for (job& j : batch) j.other ? j.other->fail(why) : void(j.result = append_result(why));
    pause_ = std::chrono::seconds(1);  // tidying up can wait for the disk too
    if (!writer_) return;
    file_.writer.roll_back();
    file_.see_others();
  }

  static constexpr std::size_t largest_batch = 8u << 20;  // bytes; a few hundredths of a second of a disk's time

  const sqlite_options options_;
  const detail::sqlite_place place_;
  detail::sqlite_file file_;
  std::size_t largest_ = 0;  // payload bytes

  std::mutex mutex_;
  detail::storage_order<detail::run_together::all> order_;
  jobs appends_;
  std::condition_variable write_;
  std::vector<std::unique_ptr<reading>> readers_;
  bool stopping_ = false;

  // The writing thread's own.
  std::unique_ptr<detail::sqlite_writer> writer_;
  detail::sqlite_statement begin_, commit_;
  std::chrono::milliseconds pause_{0};
  bool stale_ = false;  // what the writer remembers of the file may be of a transaction that failed
  bool swept_ = false;  // every channel was looked at since the start
  int wal_ = 0;         // how many pages are in the -wal
  std::size_t wal_told_ = 0;
  std::int64_t began_ = 0;  // on the steady clock

  std::vector<std::thread> threads_;
};

static_assert(asynchronous_storage<sqlite_storage> && retaining_storage<sqlite_storage> &&
              erasing_storage<sqlite_storage> && watermark_storage<sqlite_storage> && token_storage<sqlite_storage>);

}  // namespace hailwire
