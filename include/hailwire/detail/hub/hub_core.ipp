// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>

#include "hailwire/hub.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE hub_core::hub_core(event_loop& l, std::unique_ptr<any_storage> store, const options& o)
    : options_(o),
      loop_(&l),
      storage_(std::move(store)),
      announces_(storage_->announces()),
      wheel_(l.now()),
      mailbox_(std::make_shared<mailbox>(l, log_)),
      pending_(o.max_pending) {
  if (rules_.any_keep() && !storage_->offers(storage_member::retention))
    throw std::invalid_argument(
        "hailwire: options::channels says how much is kept of some channels, which this storage cannot");
}

[[gnu::cold]] HAILWIRE_INLINE void hub_core::storage_failed(std::string_view what, log_rate& rate,
                                                            std::string_view channel, const std::error_code& ec,
                                                            const std::exception_ptr& cause) const noexcept {
  if (stopped_ || ec == errc::conflict || ec == errc::too_large || !log_.hears(log_level::error)) return;
  try {
    std::string text(what);
    text.append(" \"").append(channel).append("\" failed: ").append(cause ? text_of(cause) : ec.message());
    log_(rate, loop_->now(), {log_level::error, "storage_failed", {}, {}, {}, ec}, std::move(text));
  } catch (...) {  // no memory to tell of it
  }
}

HAILWIRE_INLINE void hub_core::take_read(std::string_view channel, read_result& r) {
  if (r.error) return storage_failed("a read of", read_failures_, channel, r.error, r.cause);
  for (message& m : r.messages) {
    const std::string_view text = m.data.bytes();
    if (m.data.type() != payload::kind::json ||
        (text.find('\n') == std::string_view::npos && text.find('\r') == std::string_view::npos))
      continue;
    std::string one_line(text);
    proto::json::spaces_for_line_breaks(one_line);
    m.data = payload::json(one_line);
  }
}

HAILWIRE_INLINE std::int64_t hub_core::left(const shared_grant& g) const noexcept {
  if (g.expires() == std::chrono::system_clock::time_point::max()) return INT64_MAX;
  return std::chrono::floor<std::chrono::milliseconds>(g.expires().time_since_epoch()).count() - loop_->unix_time();
}

}  // namespace hailwire::detail
