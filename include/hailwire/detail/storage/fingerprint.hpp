// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/message.hpp"
#include "hailwire/storage_concept.hpp"

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

/// The same for a draft: a content that it names is a part of what it says.
inline bits128 fingerprint(const bits128& key, const draft& d) noexcept {
  const bits128 of_payload = fingerprint(key, d.data);
  if (!d.content) return of_payload;
  return keyed_hash(key).add(of_payload.low).add(of_payload.high).add(d.content->id).finish();
}

}  // namespace hailwire::detail
