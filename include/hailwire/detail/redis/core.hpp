// SPDX-License-Identifier: BSL-1.0
#pragma once

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

#include "hailwire/detail/redis/log.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// What a storage and its brokers share: a thread with a context of its own, the log, and the way in from other
/// threads.
///
/// Threads: `start`, `connected` and `wait_until_connected` from any; the rest says so.
class redis_core final : redis_log::listener {
 public:
  struct limits {
    std::size_t pending, pending_bytes;
    std::function<void(std::string_view)> on_log;
  };

  redis_core(redis_url u, redis_link_options o, redis_log_options l, limits m)
      : limits_(std::move(m)),
        work_(net::make_work_guard(io_)),
        log_(io_.get_executor(), std::move(u), std::move(o), std::move(l), *this) {
    post([this] { log_.start(); });
    thread_ = std::thread([this] {
      for (bool done = false; !done;) {
        try {
          io_.run();
          done = true;
        } catch (...) {  // no memory for one of the things to be done; the others go on
        }
      }
    });
  }
  ~redis_core() { stop(); }
  redis_core(const redis_core&) = delete;
  redis_core& operator=(const redis_core&) = delete;

  /// Answers what is under way if Redis does within a second, the rest with `operation_aborted`. Once; not on its
  /// thread.
  void stop() {
    if (!thread_.joinable()) return;
    {
      std::unique_lock lock(mutex_);
      stopping_ = true;
      changed_.wait_for(lock, std::chrono::seconds(1), [this] { return pending_ == 0 || failures_; });
    }
    post([this] {
      take();
      log_.stop();
      work_.reset();
    });
    thread_.join();
  }

  void start(redis_jobs one) {
    auto& job = one.front();
    std::error_code refused;
    bool first = false;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) {
        refused = operation_aborted();
      } else if (pending_ > 0 && (pending_ >= limits_.pending || bytes_ + job.size > limits_.pending_bytes)) {
        refused = errc::overloaded;
      } else {
        ++pending_;
        bytes_ += job.size;
        first = inbox_.empty();
        inbox_.splice(inbox_.end(), one);
      }
    }
    if (refused) {
      job.refuse(refused);
    } else if (first) {
      post([this] { take(); });
    }
  }
  /// A read of this thread's own, from its executor.
  void read(std::string channel, std::uint64_t since, read_limit limit, read_handler done) {
    redis_jobs one;
    const std::size_t size = sizeof(redis_job) + channel.size();
    one.push_back({redis_job::kind::read, std::move(channel), size, {}, {}, since, limit, std::move(done), 0, 0, {}});
    {
      std::lock_guard lock(mutex_);
      ++pending_;
      bytes_ += size;
    }
    log_.take(one);
  }

  /// Something of the own storage's was stored, and answered. On the executor.
  void stored(const std::string& channel, const std::string& epoch, const message& m) { log_stored(channel, epoch, m); }

  template <class F>
  void post(F f) {
    net::post(io_, std::move(f));
  }
  net::any_io_executor executor() { return io_.get_executor(); }
  redis_log& log() noexcept { return log_; }
  void say(std::string_view text) noexcept {
    try {
      if (limits_.on_log) limits_.on_log(text);
    } catch (...) {
    }
  }

  /// Whether every server that is needed can be asked.
  bool connected() const {
    std::lock_guard lock(mutex_);
    return failures_ == 0 && ready_ > 0;
  }
  /// False, and why, when there is no connection by then.
  bool wait_until_connected(std::chrono::milliseconds most, std::string& why) {
    std::unique_lock lock(mutex_);
    const bool there = changed_.wait_for(lock, most, [this] { return ready_ > 0; });
    why = why_;
    return there;
  }

  /// Who is told of what servers say beside the log. On the executor; null: nobody.
  redis_log::listener* broker = nullptr;

 private:
  void take() {
    redis_jobs all;
    {
      std::lock_guard lock(mutex_);
      all.swap(inbox_);
    }
    log_.take(all);
  }

  void log_node_ready(redis_nodes::node& n, redis_link& l) override {
    if (&l == n.commands.get()) {
      count();
      if (l.facts().policy.starts_with("allkeys-"))
        say("Redis at " + l.endpoint().text() + " may drop what was acknowledged: maxmemory-policy is " +
            l.facts().policy);
    }
    if (broker) broker->log_node_ready(n, l);
  }
  void log_node_lost(redis_nodes::node& n, redis_link& l, std::string_view why) override {
    const std::string text = "Redis at " + l.endpoint().text() + ": " + std::string(why);
    if (&l == n.commands.get()) {
      count(text);
      if (told_ != text) say(told_ = text);  // each attempt fails alike
    }
    if (broker) broker->log_node_lost(n, l, why);
  }
  void log_pushed(redis_nodes::node& n, redis_reply r) override {
    if (broker) broker->log_pushed(n, r);
  }
  void log_slots_changed() override {
    count();
    if (broker) broker->log_slots_changed();
  }
  void log_stored(const std::string& channel, const std::string& epoch, const message& m) override {
    if (broker) broker->log_stored(channel, epoch, m);
  }
  void log_released(const redis_job& j) override {
    std::lock_guard lock(mutex_);
    bytes_ -= j.size;
    if (--pending_ == 0 && stopping_) changed_.notify_all();
  }
  void count(std::string why = {}) {
    std::size_t ready = 0, failures = 0;
    for (const auto& n : log_.nodes().all()) {
      if (!n->commands || !n->listed) continue;
      ready += n->commands->ready();
      failures += !n->commands->ready();
    }
    if (!failures) told_.clear();
    std::lock_guard lock(mutex_);
    ready_ = ready;
    failures_ = failures;
    if (!why.empty()) why_ = std::move(why);
    changed_.notify_all();
  }

  const limits limits_;
  net::io_context io_{1};
  net::executor_work_guard<net::io_context::executor_type> work_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  redis_jobs inbox_;
  std::size_t pending_ = 0, bytes_ = 0, ready_ = 0, failures_ = 0;
  std::string why_;
  bool stopping_ = false;
  std::string told_;  // the thread's own
  redis_log log_;
  std::thread thread_;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
