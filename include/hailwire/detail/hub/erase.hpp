// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/hub/publisher.hpp"
#include "hailwire/session.hpp"

namespace hailwire {

/// Asked about a message before it is taken back; says why not.
using erase_check = detail::move_only_function<std::optional<failure>(session&, const message&)>;

namespace detail {

/// How a message is taken back. It is looked at first, because who may take it back is decided by what it is; then the
/// storage takes its payload away and appends the entry that says so, which goes the way of any message: the log lets
/// go of what is encoded of the other one before that entry goes out (`channel_log::erase`), at each hub that hears of
/// it.
class eraser {
 public:
  explicit eraser(hub& h) noexcept : hub_(&h) {}
  eraser(const eraser&) = delete;
  eraser& operator=(const eraser&) = delete;

  /// The host's, from any thread; `hub::erase` says what is promised.
  [[nodiscard]] std::error_code erase(std::string channel, position at, publish_handler done);
  /// A client's `erase`; `allowed` is asked about the message before anything is done.
  void erase_for(session& s, std::string&& channel, position&& at, erase_check&& allowed,
                 client_publish_handler&& done);

 private:
  struct erase_op;
  void begin(intrusive_ptr<erase_op> op);
  void looked_at(const intrusive_ptr<erase_op>& op, read_result r);
  void erased(erase_op& op, append_result&& r);

  hub* hub_;
};

}  // namespace detail
}  // namespace hailwire
