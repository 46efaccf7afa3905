// SPDX-License-Identifier: BSL-1.0
#pragma once

// The storage's content as connections reach it: every answer comes on the hub's executor, or never once the hub has
// stopped.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/storage/any_storage.hpp"

namespace hailwire {

class hub;

namespace detail {

/// Made where it is needed; as good as its hub. `done` is called once, maybe before the call returns.
class content_access {
 public:
  explicit content_access(hub& h) noexcept : hub_(h) {}

  /// Whether the storage keeps content.
  bool offered() const noexcept;
  void open(upload&& u, const content_limits& limits, upload_handler done);
  void find(std::string_view id, upload_handler done);
  void write(std::string_view id, std::uint64_t offset, std::string&& bytes, upload_handler done);
  void commit(std::string_view id, upload_handler done);
  void abort(std::string_view id, upload_handler done);
  void read(std::string_view id, std::uint64_t from, std::size_t size, content_handler done);

 private:
  template <class Result, class Ask>
  void ask(move_only_function<void(Result)>&& done, Ask start);
  hub& hub_;
};

}  // namespace detail
}  // namespace hailwire
