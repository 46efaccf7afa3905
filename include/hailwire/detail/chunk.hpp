// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

namespace hailwire::detail {

/// A run of consecutive messages in one encoding.
struct chunk {
  struct mark {
    std::uint64_t offset;  ///< of the message
    std::uint32_t end;     ///< of its frame in `bytes`
  };
  std::string bytes;
  std::vector<mark> marks;

  std::uint64_t first() const noexcept { return marks.front().offset; }
  std::uint64_t last() const noexcept { return marks.back().offset; }
  /// Where the frame that starts at or contains byte `at` ends. Precondition: `at` < size.
  std::size_t frame_end(std::size_t at) const noexcept { return containing(at)->end; }
  /// Where the frame that contains byte `at` begins.
  std::size_t frame_begin(std::size_t at) const noexcept {
    auto m = containing(at);
    return m == marks.begin() ? 0 : std::prev(m)->end;
  }
  /// The offset of the last message that is complete in the first `n` bytes; `none` if there is none.
  std::uint64_t offset_at(std::size_t n, std::uint64_t none) const noexcept {
    auto m = containing(n);
    return m == marks.begin() ? none : std::prev(m)->offset;
  }
  /// Where the first message after `offset` begins; size when there is none.
  std::size_t begin_after(std::uint64_t offset) const noexcept {
    auto m = std::upper_bound(marks.begin(), marks.end(), offset, [](std::uint64_t v, const mark& k) { return v < k.offset; });
    return m == marks.begin() ? 0 : std::prev(m)->end;
  }
  bool holds(std::uint64_t offset) const noexcept { return !marks.empty() && first() <= offset && offset <= last(); }

 private:
  std::vector<mark>::const_iterator containing(std::size_t at) const noexcept {
    return std::upper_bound(marks.begin(), marks.end(), at, [](std::size_t v, const mark& k) { return v < k.end; });
  }
};

/// The subscribers of a channel who are in sync: most channels have one, and then the list takes no memory of its own.
template <class T>
class pointer_list {
 public:
  pointer_list() = default;
  pointer_list(const pointer_list&) = delete;
  pointer_list& operator=(const pointer_list&) = delete;
  ~pointer_list() {
    if (room_ > 1) delete[] many_;
  }

  std::uint32_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T*& operator[](std::size_t i) noexcept { return room_ > 1 ? many_[i] : one_; }
  T* back() noexcept { return (*this)[size_ - 1]; }
  void push_back(T* p) {
    if (size_ == room_) resize(room_ == 1 ? 4 : room_ + room_ / 2);
    (*this)[size_++] = p;
  }
  void pop_back() noexcept { --size_; }
  /// Gives back what is more than twice what is used.
  void shrink() {
    if (room_ > 8 && size_ < room_ / 2) resize(size_ + 4);
  }

 private:
  void resize(std::uint32_t room) {
    T** more = new T*[room];
    for (std::uint32_t i = 0; i < size_; ++i) more[i] = (*this)[i];
    if (room_ > 1) delete[] many_;
    many_ = more;
    room_ = room;
  }
  union {
    T* one_ = nullptr;
    T** many_;
  };
  std::uint32_t size_ = 0, room_ = 1;
};

}  // namespace hailwire::detail
