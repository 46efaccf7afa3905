// SPDX-License-Identifier: BSL-1.0
#pragma once

// The way to a hub from other threads: storages that answer later, brokers, hosts that publish from anywhere.
//
// A stack of letters that grows and is taken whole by one atomic exchange: a storage that answers a hundred publishes
// of one commit would else have the hub's thread, woken by the first, fight it for a mutex over each of the others.
// Whoever puts the first letter has the loop read them.

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

#include "hailwire/detail/base/event_loop.hpp"
#include "hailwire/detail/base/function.hpp"
#include "hailwire/log.hpp"

namespace hailwire {

class hub;

namespace detail {

/// Shared by the hub and by whoever may still call it: it outlives the hub. All members are safe from any thread, but
/// `close` and `owner`, which belong to the hub's.
class mailbox : public std::enable_shared_from_this<mailbox> {
  struct letter {
    move_only_function<void()> run, abort;
    letter* next = nullptr;
  };
  // Letters, the oldest first; owned.
  class letters {
   public:
    explicit letters(letter* newest) noexcept;
    letters(const letters&) = delete;
    letters& operator=(const letters&) = delete;
    ~letters();
    std::unique_ptr<letter> next() noexcept {
      return std::unique_ptr<letter>(first_ ? std::exchange(first_, first_->next) : nullptr);
    }

   private:
    letter* first_ = nullptr;
  };

 public:
  /// What letters throw is logged by `log`, until `close`; the loop is used until `retire`.
  mailbox(event_loop& l, const logger& log) noexcept : loop_(&l), log_(&log) {}
  ~mailbox();
  mailbox(const mailbox&) = delete;
  mailbox& operator=(const mailbox&) = delete;

  /// Runs `f` on the loop; or, when the mailbox is closed first, `abort`. False, and neither, when it is closed. Throws
  /// `std::bad_alloc`, and neither will run then. Where there is no memory to tell the loop, the next letter does, or
  /// the hub's next turn.
  bool put(move_only_function<void()> f, move_only_function<void()> abort);
  /// Aborts what is in it, and takes nothing more.
  void close();
  bool closed() const noexcept { return newest_.load() == &end_; }
  /// The loop is gone from now on. After `close`.
  void retire() noexcept;
  /// Whether the caller is on the loop.
  bool here() const noexcept;

  /// Reads what the loop could not be told of. On the loop.
  void read_untold();

  hub* owner = nullptr;  ///< null once it is gone

 private:
  void read();

  mutable std::mutex mutex_;  // held while the loop is used
  event_loop* loop_;
  const logger* log_;
  letter end_;  // never read: stands on top once it is closed
  std::atomic<letter*> newest_ = nullptr;
  std::atomic<bool> untold_ = false;
};

}  // namespace detail
}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/mailbox.ipp"
#endif
