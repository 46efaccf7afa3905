// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/message.hpp"

namespace hailwire::detail {

/// What stands for a payload where only sameness matters: its kind, its media type and its bytes. Stored in files.
inline bits128 fingerprint(const bits128& key, const payload& p) noexcept {
  return keyed_hash(key)
      .add(static_cast<std::uint64_t>(p.type()))
      .add(p.content_type().size())
      .add(p.content_type())
      .add(p.bytes())
      .finish();
}

}  // namespace hailwire::detail
