// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

namespace hailwire::detail {

/// Decides which operations may run now, so that those on one channel complete in the order in which they were started
/// while those on different channels do not wait for one another.
///
/// A channel runs operations of one kind at a time: any number of them if `Job::together(kind)`, else a single one. Those
/// that run together must be finished in order by whoever runs them. Operations of another kind wait, and so does all
/// that comes after them. Jobs are list nodes and change hands by splicing. Not thread-safe.
///
/// `Job` has a `std::string channel`, an `int kind` and `static bool together(int kind)`.
template <class Job>
class channel_order {
 public:
  using jobs = std::list<Job>;

  /// Takes the one job in `one`; it goes to the end of `ready` if it may run now.
  void start(jobs&& one, jobs& ready) {
    Job& job = one.front();
    lane& l = lanes_[job.channel];
    bool may_run = l.running == 0 || (l.kind == job.kind && Job::together(job.kind) && l.waiting.empty());
    if (may_run) {
      l.kind = job.kind;
      ++l.running;
      ready.splice(ready.end(), one);
    } else {
      l.waiting.splice(l.waiting.end(), one);
    }
  }

  /// A job of `channel` is done; what waited for it goes to the end of `ready`.
  void finish(const std::string& channel, jobs& ready) {
    auto at = lanes_.find(channel);
    lane& l = at->second;
    if (--l.running > 0) return;
    if (l.waiting.empty()) {
      lanes_.erase(at);
      return;
    }
    l.kind = l.waiting.front().kind;
    do {
      ++l.running;
      ready.splice(ready.end(), l.waiting, l.waiting.begin());
    } while (Job::together(l.kind) && !l.waiting.empty() && l.waiting.front().kind == l.kind);
  }

  /// Whether nothing runs and nothing waits.
  bool empty() const noexcept { return lanes_.empty(); }

 private:
  struct lane {
    std::size_t running = 0;
    int kind = 0;
    jobs waiting;
  };
  std::unordered_map<std::string, lane> lanes_;
};

}  // namespace hailwire::detail
