// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

template <class Signature>
class move_only_function;

/// A callable that is moved, never copied, so that it may own what cannot be copied (C++23 has one; C++20 does not).
/// Callables of up to four words live inside; larger ones on the heap. Calling an empty one is a caller's mistake.
template <class R, class... Args>
class move_only_function<R(Args...)> {
 public:
  move_only_function() = default;
  move_only_function(std::nullptr_t) noexcept {}

  template <class F, class D = std::decay_t<F>>
    requires(!std::is_same_v<D, move_only_function>) &&
            requires(D& f, Args&&... args) { static_cast<R>(f(static_cast<Args&&>(args)...)); }
  move_only_function(F&& f) : table_(&table_of<D>) {
    if constexpr (fits<D>) {
      ::new (static_cast<void*>(space_)) D(static_cast<F&&>(f));
    } else {
      ::new (static_cast<void*>(space_)) D*(new D(static_cast<F&&>(f)));
    }
  }
  move_only_function(move_only_function&& other) noexcept { take(other); }
  move_only_function& operator=(move_only_function&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  ~move_only_function() { reset(); }

  explicit operator bool() const noexcept { return table_ != nullptr; }
  R operator()(Args... args) { return table_->call(space_, static_cast<Args&&>(args)...); }

 private:
  static constexpr std::size_t room = 4 * sizeof(void*);
  template <class D>
  static constexpr bool fits =
      sizeof(D) <= room && alignof(D) <= alignof(void*) && std::is_nothrow_move_constructible_v<D>;

  // Two functions for each callable, no more: there are some hundred callables in a server, and each function counts
  // for who compiles them.
  template <class D>
  static R call(void* p, Args&&... args) {
    if constexpr (fits<D>) {
      return static_cast<R>((*std::launder(static_cast<D*>(p)))(static_cast<Args&&>(args)...));
    } else {
      return static_cast<R>((**static_cast<D**>(p))(static_cast<Args&&>(args)...));
    }
  }
  // Moves what `from` holds into `to`, or destroys it where `to` is null.
  template <class D>
  static void manage(void* from, void* to) noexcept {
    if constexpr (fits<D>) {
      D* held = std::launder(static_cast<D*>(from));
      if (to) ::new (to) D(static_cast<D&&>(*held));
      held->~D();
    } else if (to) {
      ::new (to) D*(*static_cast<D**>(from));
    } else {
      delete *static_cast<D**>(from);
    }
  }

  struct operations {
    R (*call)(void*, Args&&...);
    void (*manage)(void*, void*) noexcept;
  };
  template <class D>
  static constexpr operations table_of{&call<D>, &manage<D>};

  void take(move_only_function& other) noexcept {
    if (!other.table_) return;
    other.table_->manage(other.space_, space_);
    table_ = other.table_;
    other.table_ = nullptr;
  }
  void reset() noexcept {
    if (!table_) return;
    auto* table = table_;
    table_ = nullptr;
    table->manage(space_, nullptr);
  }

  alignas(void*) unsigned char space_[room];
  const operations* table_ = nullptr;
};

}  // namespace hailwire::detail
