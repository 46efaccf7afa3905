// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// What an object derives from to have text of its own behind it, in the same allocation:
///
///     auto* t = new (with_tail::tail{text.size()}) thing(…);
///     text.copy(with_tail::behind(t), text.size());
///
/// There are a million small objects with a name each; a string of its own would cost each of those 32 bytes more, and
/// those whose name is longer than 15 bytes an allocation.
struct with_tail {
  struct tail {
    std::size_t bytes;
  };
  static void* operator new(std::size_t size, tail more) { return ::operator new(size + more.bytes); }
  static void operator delete(void* p) noexcept { ::operator delete(p); }
  static void operator delete(void* p, tail) noexcept { ::operator delete(p); }
  /// Where the text of an object begins; `T` is the whole object's type.
  template <class T>
  static char* behind(T* object) noexcept {
    return reinterpret_cast<char*>(object + 1);
  }
  template <class T>
  static const char* behind(const T* object) noexcept {
    return reinterpret_cast<const char*>(object + 1);
  }
};

/// What an object derives from for a `shared` to point to it. Counts who does, from any thread.
struct intrusive_count {
  mutable std::atomic<std::uint32_t> holders = 1;
};

/// A pointer to an object that goes with the last one: as `std::shared_ptr<T>`, in eight bytes instead of sixteen and
/// without a control block. Distinct copies may be used by distinct threads. One to a base owns by its virtual
/// destructor.
template <class T>
class intrusive_ptr {
 public:
  intrusive_ptr() = default;
  /// Takes over the hold that a new object begins with.
  explicit intrusive_ptr(T* fresh) noexcept : at_(fresh) {}
  intrusive_ptr(const intrusive_ptr& other) noexcept : at_(other.at_) {
    if (at_) at_->holders.fetch_add(1, std::memory_order_relaxed);
  }
  intrusive_ptr(intrusive_ptr&& other) noexcept : at_(other.let_go()) {}
  template <class U>
    requires std::is_convertible_v<U*, T*>
  intrusive_ptr(intrusive_ptr<U> other) noexcept : at_(other.let_go()) {}
  /// One more, to what a `shared` points to already.
  static intrusive_ptr again(T& held) noexcept {
    held.holders.fetch_add(1, std::memory_order_relaxed);
    return intrusive_ptr(&held);
  }
  intrusive_ptr& operator=(intrusive_ptr other) noexcept {
    std::swap(at_, other.at_);
    return *this;
  }
  ~intrusive_ptr() {
    // Whoever lets go last has to see what the others did with it.
    if (at_ && at_->holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete at_;
  }

  T& operator*() const noexcept { return *at_; }
  T* operator->() const noexcept { return at_; }
  explicit operator bool() const noexcept { return at_ != nullptr; }
  friend bool operator==(const intrusive_ptr&, const intrusive_ptr&) = default;

 private:
  template <class U>
  friend class intrusive_ptr;
  T* let_go() noexcept { return std::exchange(at_, nullptr); }

  T* at_ = nullptr;
};

}  // namespace hailwire::detail
