// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "hailwire/detail/base/requirements.hpp"

namespace hailwire::detail {

/// What is the same of a vector for all types of elements: where they are, how many, and how room is made for more.
class any_vector {
 public:
  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return capacity_; }
  bool empty() const noexcept { return size_ == 0; }

 protected:
  // Moves `n` elements into raw memory; null where copying their bytes does.
  using mover = void (*)(void* from, void* to, std::size_t n) noexcept;

  any_vector() = default;
  any_vector(const any_vector&) = delete;
  any_vector& operator=(const any_vector&) = delete;
  ~any_vector() { ::operator delete(at_); }

  void make_room(std::size_t least, std::size_t element, mover move) {
    if (least > std::numeric_limits<std::uint32_t>::max() / 2) throw std::length_error("vector");
    std::size_t room = capacity_ ? 2 * std::size_t{capacity_} : 1;
    if (room < least) room = least;
    void* fresh = ::operator new(room * element);
    if (move) {
      move(at_, fresh, size_);
    } else if (size_) {
      std::memcpy(fresh, at_, size_ * element);
    }
    ::operator delete(at_);
    at_ = fresh;
    capacity_ = static_cast<std::uint32_t>(room);
  }
  void swap(any_vector& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  void* at_ = nullptr;
  std::uint32_t size_ = 0, capacity_ = 0;
};

/// A `std::vector` that costs whoever compiles it a few functions for each type of elements instead of a hundred, and
/// 16 bytes instead of 24; in the inner code there are some thirty types. Up to 2^31 elements. Elements are moved
/// without a throw, and an argument that is a reference into the vector itself is not good where it may grow.
template <class T>
class vector : public any_vector {
 public:
  vector() = default;
  vector(std::initializer_list<T> all) {
    reserve(all.size());
    for (const T& one : all) emplace_back(one);
  }
  vector(const vector& other) : any_vector() {
    reserve(other.size());
    for (const T& one : other) emplace_back(one);
  }
  vector(vector&& other) noexcept : any_vector() { any_vector::swap(other); }
  vector& operator=(const vector& other) { return *this = vector(other); }
  vector& operator=(vector&& other) noexcept {
    vector(static_cast<vector&&>(other)).swap(*this);
    return *this;
  }
  ~vector() { clear(); }

  T* begin() noexcept { return static_cast<T*>(at_); }
  T* end() noexcept { return begin() + size_; }
  const T* begin() const noexcept { return static_cast<const T*>(at_); }
  const T* end() const noexcept { return begin() + size_; }
  T* data() noexcept { return begin(); }
  const T* data() const noexcept { return begin(); }
  T& operator[](std::size_t i) noexcept { return begin()[i]; }
  const T& operator[](std::size_t i) const noexcept { return begin()[i]; }
  T& front() noexcept { return *begin(); }
  const T& front() const noexcept { return *begin(); }
  T& back() noexcept { return end()[-1]; }
  const T& back() const noexcept { return end()[-1]; }

  void reserve(std::size_t n) {
    if (n > capacity_) make_room(n, sizeof(T), move());
  }
  void push_back(const T& one) { emplace_back(one); }
  void push_back(T&& one) { emplace_back(static_cast<T&&>(one)); }
  template <class... Args>
  T& emplace_back(Args&&... args) {
    if (size_ == capacity_) make_room(size_ + std::size_t{1}, sizeof(T), move());
    T* made = ::new (static_cast<void*>(end())) T(static_cast<Args&&>(args)...);
    ++size_;
    return *made;
  }
  void insert(T* before, T one) {
    std::size_t place = static_cast<std::size_t>(before - begin());
    emplace_back(static_cast<T&&>(one));
    for (std::size_t i = size_ - 1u; i > place; --i) std::swap(begin()[i], begin()[i - 1]);
  }
  void pop_back() noexcept { end()[-1].~T(), --size_; }
  void erase(T* one) noexcept { erase(one, one + 1); }
  void erase(T* from, T* to) noexcept {
    if (from == to) return;
    for (; to != end(); ++from, ++to) *from = static_cast<T&&>(*to);
    while (end() != from) pop_back();
  }
  /// Erases all that are equal to `what`, which is none of them.
  void remove(const T& what) noexcept {
    T* kept = begin();
    for (T& one : *this)
      if (!(one == what)) *kept++ = one;
    erase(kept, end());
  }
  void swap(vector& other) noexcept { any_vector::swap(other); }
  void assign(std::size_t n, const T& what) {
    clear();
    reserve(n);
    while (size_ < n) emplace_back(what);
  }
  /// New ones are value-initialized.
  void resize(std::size_t n) {
    reserve(n);
    while (size_ > n) pop_back();
    while (size_ < n) emplace_back();
  }
  void clear() noexcept {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      for (T& one : *this) one.~T();
    }
    size_ = 0;
  }

 private:
  static void relocate(void* from, void* to, std::size_t n) noexcept {
    T* old = static_cast<T*>(from);
    T* fresh = static_cast<T*>(to);
    for (; n; --n, ++old, ++fresh) {
      ::new (static_cast<void*>(fresh)) T(static_cast<T&&>(*old));
      old->~T();
    }
  }
  static constexpr mover move() noexcept {
    static_assert(alignof(T) <= alignof(std::max_align_t) && noexcept(T(std::declval<T&&>())));
    if constexpr (std::is_trivially_copyable_v<T>) {
      return nullptr;
    } else {
      return &relocate;
    }
  }
};

}  // namespace hailwire::detail
