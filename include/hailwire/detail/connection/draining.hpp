// SPDX-License-Identifier: BSL-1.0
#pragma once

// How a server sends its clients away before it ends.
//
//   begin ─→ polls are answered ─→ streams are told `bye` and closed, so many a second ─→ drained
//                                     │ no new sessions; publishes and requests go on │
//                                     └──────────── at the deadline all that are left ─┘
//
// A stream is followed as always until its own turn comes. One that has a command under way is passed over until that
// is answered. All are told to come back within the same span of time, which begins when the last of them has been
// closed, so whoever was closed first does not find this server still here.

#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/requirements.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/options.hpp"

namespace hailwire::detail {

class server_state;

/// The draining of one server. It belongs to the hub's executor.
class draining final : public timer {
 public:
  explicit draining(server_state& of) noexcept : server_(of) {}

  bool begun() const noexcept { return begun_; }
  /// Begins, or, when it has begun, hurries to an earlier deadline: `deadline` milliseconds from now. `drained` is
  /// called from the loop once nobody is left who could be told something, at the latest soon after the deadline.
  void begin(std::int64_t deadline, const drain_options& o, move_only_function<void()> drained);
  void expire(std::int64_t now) override { look_at_all(now >= deadline_); }
  /// There was no memory for somebody's goodbye: the others go on having theirs.
  void broken() noexcept override { look_again(); }

  /// What clients are told now: `{"bye":{…}}`, whose span of time is that of `wait`.
  std::string_view bye();
  /// A random time within the span, in milliseconds from now.
  std::int64_t wait() const;
  /// The same in whole seconds, at least one, for those who are refused meanwhile.
  int retry_after() const;

 private:
  void look_at_all(bool at_deadline);
  void look_again() noexcept;
  std::int64_t begins() const noexcept;  // the span, in milliseconds from now

  server_state& server_;
  move_only_function<void()> drained_;
  std::string url_, bye_;
  std::int64_t begun_at_ = 0, deadline_ = 0, closed_by_ = 0, spread_ = 0, bye_at_ = -1;
  std::size_t per_second_ = 1, told_ = 0;
  std::uint32_t next_ = 0;  // the slot of the connection whose turn it is
  bool begun_ = false;
};

}  // namespace hailwire::detail
