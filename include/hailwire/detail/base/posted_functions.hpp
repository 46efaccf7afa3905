// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <utility>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/requirements.hpp"
#include "hailwire/detail/base/vector.hpp"

namespace hailwire::detail {

/// What was posted to a loop and has not run yet. Most of it the loop's own thread posts, the end of each turn above
/// all, and takes no lock for that. What was posted before, on whichever thread, runs before.
class posted_functions {
 public:
  /// Safe from any thread. `own`: the caller is the thread that calls everything else here. Whether the loop has to be
  /// told: nothing of other threads waited before.
  bool add(move_only_function<void()> f, bool own) {
    // Behind what others have posted it waits among theirs, because it may have been posted for that.
    if (own && !others_wait_.load(std::memory_order_acquire)) {
      own_.push_back(std::move(f));
      return false;
    }
    std::lock_guard lock(mutex_);
    others_.push_back(std::move(f));
    return !others_wait_.exchange(true, std::memory_order_release);
  }
  bool any() const noexcept {
    return !own_.empty() || !running_.empty() || others_wait_.load(std::memory_order_acquire);
  }
  /// Runs what there is, and not what that posts. What one of them throws leaves this call; the next one goes on behind
  /// it. Precondition: none of them calls it.
  void run() {
    struct done {
      vector<move_only_function<void()>>& all;
      std::size_t next = 0;
      ~done() { all.erase(all.begin(), all.begin() + next); }
    } so_far{running_};
    if (running_.empty()) {
      running_.swap(own_);  // two lists that change places keep their memory
    } else {
      move_behind(own_);
    }
    if (others_wait_.load(std::memory_order_acquire)) {
      std::lock_guard lock(mutex_);
      move_behind(others_);
      others_wait_.store(false, std::memory_order_relaxed);
    }
    while (so_far.next < running_.size()) running_[so_far.next++]();
  }

 private:
  void move_behind(vector<move_only_function<void()>>& more) {
    running_.reserve(running_.size() + more.size());
    for (auto& f : more) running_.push_back(std::move(f));
    more.clear();
  }

  vector<move_only_function<void()>> own_, running_;
  std::mutex mutex_;
  vector<move_only_function<void()>> others_;  // guarded by the mutex
  std::atomic<bool> others_wait_ = false;      // written with the mutex held
};

}  // namespace hailwire::detail
