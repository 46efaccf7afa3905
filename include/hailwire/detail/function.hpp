// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace hailwire::detail {

template <class Signature>
class function;

/// A callable that is moved, never copied, so that it may own what cannot be copied (C++23 has one; C++20 does not).
/// Callables of up to four words live inside; larger ones on the heap. Calling an empty one is a caller's mistake.
template <class R, class... Args>
class function<R(Args...)> {
 public:
  function() = default;
  function(std::nullptr_t) noexcept {}

  template <class F, class D = std::decay_t<F>>
    requires(!std::is_same_v<D, function> && std::is_invocable_r_v<R, D&, Args...>)
  function(F&& f) {
    if constexpr (fits<D>) {
      ::new (static_cast<void*>(space_)) D(std::forward<F>(f));
    } else {
      ::new (static_cast<void*>(space_)) D*(new D(std::forward<F>(f)));
    }
    table_ = &table_of<D>;
  }
  function(function&& other) noexcept { take(other); }
  function& operator=(function&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  ~function() { reset(); }

  explicit operator bool() const noexcept { return table_ != nullptr; }
  R operator()(Args... args) { return table_->call(space_, std::forward<Args>(args)...); }

 private:
  struct operations {
    R (*call)(void*, Args&&...);
    void (*move)(void* from, void* to) noexcept;
    void (*destroy)(void*) noexcept;
  };
  static constexpr std::size_t room = 4 * sizeof(void*);
  template <class D>
  static constexpr bool fits =
      sizeof(D) <= room && alignof(D) <= alignof(void*) && std::is_nothrow_move_constructible_v<D>;

  template <class D>
  static D& held(void* p) noexcept {
    if constexpr (fits<D>) {
      return *std::launder(static_cast<D*>(p));
    } else {
      return **static_cast<D**>(p);
    }
  }
  template <class D>
  static constexpr operations table_of{
      [](void* p, Args&&... args) -> R { return held<D>(p)(std::forward<Args>(args)...); },
      [](void* from, void* to) noexcept {
        if constexpr (fits<D>) {
          ::new (to) D(std::move(held<D>(from)));
          held<D>(from).~D();
        } else {
          ::new (to) D*(*static_cast<D**>(from));
        }
      },
      [](void* p) noexcept {
        if constexpr (fits<D>) {
          held<D>(p).~D();
        } else {
          delete *static_cast<D**>(p);
        }
      }};

  void take(function& other) noexcept {
    if (other.table_) {
      other.table_->move(other.space_, space_);
      table_ = std::exchange(other.table_, nullptr);
    }
  }
  void reset() noexcept {
    if (table_) std::exchange(table_, nullptr)->destroy(space_);
  }

  alignas(void*) unsigned char space_[room];
  const operations* table_ = nullptr;
};

}  // namespace hailwire::detail
