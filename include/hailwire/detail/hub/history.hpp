// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/hub/pending_operations.hpp"
#include "hailwire/message.hpp"
#include "hailwire/storage_concept.hpp"

namespace hailwire {

class hub;

/// A stretch of history, oldest first.
struct history_result {
  std::error_code error;
  std::vector<message> messages;
  std::string epoch;
  bool more = false;  ///< there is more in the direction that was asked for
};
using history_handler = detail::move_only_function<void(history_result)>;

/// Which stretch of history: after an offset, before one, or, with neither, the newest.
struct history_query {
  std::uint64_t after = 0, before = 0;  ///< 0: not given
  std::size_t limit = 50;               ///< 1–1,000 messages; at most 1 MiB of them is returned
  std::string epoch = {};               ///< empty: whichever is
  bool from_start = false;              ///< `after` was given, and is 0
};

namespace detail {

/// How a stretch of history is read: forward from an offset, or backward, where what fits has to be found by trying.
class history_reader {
 public:
  explicit history_reader(hub& h) noexcept : hub_(&h) {}
  history_reader(const history_reader&) = delete;
  history_reader& operator=(const history_reader&) = delete;

  /// `hub::history` says what is promised.
  void read(std::string_view channel, history_query q, std::uint64_t floor, history_handler done);

 private:
  struct history_op final : operation {
    explicit history_op(hub& h) : owner(&h) {}
    void finish(history_result r);
    void abort() override {
      history_result r;
      r.error = operation_aborted();
      finish(std::move(r));
    }
    hub* owner;
    std::string channel;
    history_query query;
    std::uint64_t floor = 1;
    std::size_t tried = 0;
    history_handler done;
  };
  void ask(intrusive_ptr<history_op> op);
  void answered(const intrusive_ptr<history_op>& op, read_result r);

  hub* hub_;
};

}  // namespace detail
}  // namespace hailwire
