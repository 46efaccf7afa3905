// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"

namespace hailwire {

/// How many publishes and reads of history are carried out within one another, each by the handler of the one before.
/// Further ones run from the loop, so that a chain of any length fits on any stack; a level takes 1–3 KiB.
inline constexpr unsigned max_nesting = 16;

}  // namespace hailwire

namespace hailwire::detail {

/// What waits for the storage, or for the hub's thread. Finished or aborted once, on the hub's loop.
struct operation : intrusive_count {
  virtual ~operation() = default;
  virtual void abort() = 0;
  /// Whether `pending_operations::abort_all` would abort this operation.
  bool enrolled() const noexcept { return index_ != SIZE_MAX; }

 private:
  friend class pending_operations;
  std::size_t index_ = SIZE_MAX;
};

/// The operations of a hub that are not done, and how many there may be. A count for itself: what is on its way from
/// another thread is counted before it is enrolled. The count is safe from any thread, the rest belongs to the hub's.
class pending_operations {
 public:
  explicit pending_operations(std::size_t most) noexcept : most_(most) {}
  pending_operations(const pending_operations&) = delete;
  pending_operations& operator=(const pending_operations&) = delete;

  std::size_t count() const noexcept { return count_.load(); }
  bool full() const noexcept { return count() >= most_; }
  void add() noexcept { count_.fetch_add(1); }
  void remove() noexcept { count_.fetch_sub(1); }
  /// Counts one more if there is room; given back at its end unless it is kept.
  class room {
   public:
    explicit room(pending_operations& in) noexcept : of_(&in), fits_(in.count_.fetch_add(1) < in.most_) {}
    room(const room&) = delete;
    room& operator=(const room&) = delete;
    ~room();
    explicit operator bool() const noexcept { return fits_; }
    void keep() noexcept { of_ = nullptr; }

   private:
    pending_operations* of_;
    bool fits_;
  };

  /// Makes room for `enroll`, which does not throw then. Throws `std::bad_alloc`.
  void reserve() { all_.reserve(all_.size() + 1); }
  void enroll(intrusive_ptr<operation> op);
  void dismiss(operation& op) noexcept;
  void abort_all();

 private:
  const std::size_t most_;
  std::atomic<std::size_t> count_ = 0;
  vector<intrusive_ptr<operation>> all_;
};

/// Within how many of its own calls a hub is. A handler may publish, and the handler of that publish, and so on: past
/// `max_nesting` the next ones run from the loop, so that a chain of any length fits on any stack.
class call_depth {
 public:
  class level {
   public:
    explicit level(call_depth& d) noexcept : of_(&++d.depth_) {}
    level(const level&) = delete;
    level& operator=(const level&) = delete;
    ~level() { --*of_; }

   private:
    unsigned* of_;
  };
  bool deep() const noexcept { return depth_ >= max_nesting; }
  /// Whether the next publish waits for the loop: it does behind one that waits too, so that their order is kept.
  bool too_deep() const noexcept { return deep() || waiting_; }
  void put_off() noexcept { ++waiting_; }
  void came_back() noexcept { --waiting_; }

 private:
  unsigned depth_ = 0;
  std::size_t waiting_ = 0;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/pending_operations.ipp"
#endif
