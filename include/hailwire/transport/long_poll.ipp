// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/transport/long_poll.hpp"

namespace hailwire::transport {

HAILWIRE_INLINE result<poll> long_poll::begin(const live_request& a) {
  std::optional<std::uint64_t> seconds;
  if (auto asked = a.param("wait")) {
    seconds = proto::parse_decimal(*asked);
    if (!seconds && !asked->empty() && asked->front() != '0' && asked->find_first_not_of("0123456789") == asked->npos)
      seconds = UINT64_MAX;  // more than fits is capped like what fits
    if (!seconds) return {errc::bad_request, "wait is not a number of whole seconds"};
  } else {
    seconds = proto::http1::prefer_wait(a.head);
  }
  auto longest = static_cast<std::uint64_t>(std::max<std::int64_t>(a.settings.longest_wait.count(), 0));
  return poll{static_cast<std::int64_t>(std::min(seconds.value_or(0), longest)) * 1000};
}

}  // namespace hailwire::transport
