// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>
#include <string>

#include "hailwire/detail/base/vector.hpp"

namespace hailwire::detail {

/// Asks for the first cache lines of an object that will be used soon. Where thousands are served in turns, each has
/// left the processor's caches since its last turn, and waiting for it takes longer than the work.
void fetch(const void* object, int lines = 4) noexcept;

/// A run of consecutive messages in one encoding, and between them what is live-only: notices and ephemeral messages.
struct chunk {
  struct mark {
    std::uint64_t offset;    ///< of the message; of something live-only, of the message behind which it stands
    std::uint32_t end;       ///< of its frame in `bytes`
    std::uint32_t live = 0;  ///< 0: a message; else something live-only: one of the values below
  };
  /// What stands in `mark::live`: a notice, an ephemeral message for everybody, or one for everybody but the session at
  /// the slot that is added.
  static constexpr std::uint32_t notice = 1, ephemeral = 2, but_for = 3;

  std::string bytes;
  vector<mark> marks;
  std::uint32_t live = 0;  ///< how many of them are live-only

  /// It is used soon.
  void prefetch() const noexcept;
  bool has_messages() const noexcept { return live < marks.size(); }
  /// The offset of the first message. Precondition: `has_messages`.
  std::uint64_t first() const noexcept { return live ? first_message() : marks.front().offset; }
  std::uint64_t last() const noexcept { return marks.back().offset; }
  void clear() noexcept {
    bytes.clear();
    marks.clear();
    live = 0;
  }
  /// Takes out all messages but the last. What is live-only stays, in its order.
  void keep_last() noexcept;
  /// Where the frame that starts at or contains byte `at` ends. Precondition: `at` < size.
  std::size_t frame_end(std::size_t at) const noexcept { return containing(at)->end; }
  /// Where the frame that contains byte `at` begins.
  std::size_t frame_begin(std::size_t at) const noexcept;
  /// The offset of the last message that is complete in the first `n` bytes; `none` if there is none.
  std::uint64_t offset_at(std::size_t n, std::uint64_t none) const noexcept;
  /// Where the first message after `offset` begins; size when there is none.
  std::size_t begin_after(std::uint64_t offset) const noexcept;
  bool holds(std::uint64_t offset) const noexcept { return has_messages() && first() <= offset && offset <= last(); }
  /// The frame that starts at or contains byte `at`.
  const mark* containing(std::size_t at) const noexcept {
    return std::upper_bound(marks.begin(), marks.end(), at, [](std::size_t v, const mark& k) { return v < k.end; });
  }

 private:
  std::uint64_t first_message() const noexcept;
};

/// The subscribers of a channel who are in sync. Most channels have one: then the list takes no memory of its own, and
/// a list is no more than a pointer.
template <class T>
class pointer_list {
 public:
  pointer_list() = default;
  pointer_list(const pointer_list&) = delete;
  pointer_list& operator=(const pointer_list&) = delete;
  ~pointer_list() {
    if (spilled()) ::operator delete(many());
  }

  std::uint32_t size() const noexcept { return spilled() ? many()->size : at_ != 0; }
  bool empty() const noexcept { return size() == 0; }
  T* operator[](std::size_t i) const noexcept { return spilled() ? many()->first()[i] : reinterpret_cast<T*>(at_); }
  T* back() const noexcept { return (*this)[size() - 1]; }
  void set(std::size_t i, T* p) noexcept {
    if (spilled()) {
      many()->first()[i] = p;
    } else {
      at_ = reinterpret_cast<std::uintptr_t>(p);
    }
  }
  void push_back(T* p) {
    if (at_ == 0) {
      at_ = reinterpret_cast<std::uintptr_t>(p);
    } else {
      spill(p);
    }
  }
  /// Has room for one more.
  void reserve_one() {
    if (at_ && !spilled()) {
      resize(4);
    } else if (spilled() && many()->size == many()->room) {
      resize(many()->room + many()->room / 2);
    }
  }
  void pop_back() noexcept {
    if (spilled() && --many()->size > 0) {
      if (many()->room > 64 && many()->size < many()->room / 4) resize(many()->room / 2, std::nothrow);
    } else {
      if (spilled()) ::operator delete(many());
      at_ = 0;
    }
  }
  /// Gives back what is more than twice what is used, if there is memory to move to.
  void shrink() noexcept {
    if (spilled() && many()->room > 8 && many()->size < many()->room / 2) resize(many()->size + 4, std::nothrow);
  }

 private:
  struct block {
    std::uint32_t size, room;
    T** first() noexcept { return reinterpret_cast<T**>(this + 1); }
  };
  static_assert(alignof(T) > 1 && sizeof(block) % alignof(T*) == 0);
  bool spilled() const noexcept { return at_ & 1; }
  block* many() const noexcept { return reinterpret_cast<block*>(at_ - 1); }
  void spill(T* p) {
    if (!spilled() || many()->size == many()->room) resize(!spilled() ? 4 : many()->room + many()->room / 2);
    many()->first()[many()->size++] = p;
  }
  template <class... Nothrow>
  void resize(std::uint32_t room, const Nothrow&... nothrow) noexcept(sizeof...(Nothrow) > 0) {
    void* memory = ::operator new(sizeof(block) + room * sizeof(T*), nothrow...);
    if (!memory) return;
    auto n = static_cast<std::uint32_t>(size());
    auto* more = ::new (memory) block{n, room};
    for (std::uint32_t i = 0; i < n; ++i) more->first()[i] = (*this)[i];
    if (spilled()) ::operator delete(many());
    at_ = reinterpret_cast<std::uintptr_t>(more) + 1;
  }

  std::uintptr_t at_ = 0;  // null; the only one; or a block, with the lowest bit set
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/chunk.ipp"
#endif
