// SPDX-License-Identifier: BSL-1.0
#pragma once

// What is told of presence; presence.hpp, which only the hub's definitions include, says how it is known.

#include <cstddef>
#include <string>
#include <system_error>
#include <vector>

#include "hailwire/detail/base/function.hpp"

namespace hailwire {

/// A user who follows a channel.
struct presence_member {
  std::string user;
  std::size_t sessions = 0;  ///< on all devices and hubs; 0 while it may come back within the grace time
  std::string info;          ///< what its grant says of it, a JSON text; empty: nothing
};

/// Who follows a channel.
struct presence_result {
  std::error_code error;                 ///< `not_found`: presence is off for this channel
  std::vector<presence_member> members;  ///< by their names' bytes, at most `max_presence_members`
  std::size_t count = 0;                 ///< of users, those that are not listed too
  std::size_t anonymous = 0;             ///< sessions without a user
  bool more = false;                     ///< there are more members than are listed
};
using presence_handler = detail::move_only_function<void(presence_result)>;

/// The most members in one answer; PROTOCOL promises it.
inline constexpr std::size_t max_presence_members = 1000;

}  // namespace hailwire
