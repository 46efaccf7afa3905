// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// A mutex for moments: four bytes, and where nobody contends two atomic operations in line, a tenth of what calling
/// `std::mutex` takes. A thread that has to wait sleeps in the kernel. For `std::lock_guard`. Neither recursive nor
/// fair.
///
/// The states are those of the second mutex in Drepper, "Futexes Are Tricky" (2011): whoever has waited locks it as
/// contended, since others may wait still, so that no wake-up is lost and none is made where nobody waits.
class light_mutex {
 public:
  light_mutex() = default;
  light_mutex(const light_mutex&) = delete;
  light_mutex& operator=(const light_mutex&) = delete;

  void lock() noexcept {
    int expected = open;
    if (!state_.compare_exchange_strong(expected, locked, std::memory_order_acquire)) [[unlikely]]
      wait();
  }
  void unlock() noexcept {
    if (state_.exchange(open, std::memory_order_release) == contended) [[unlikely]]
      state_.notify_one();
  }

 private:
  static constexpr int open = 0, locked = 1, contended = 2;

  [[gnu::noinline]] void wait() noexcept {
    while (state_.exchange(contended, std::memory_order_acquire) != open) state_.wait(contended);
  }

  std::atomic<int> state_ = open;  // the size that a futex has
};

}  // namespace hailwire::detail
