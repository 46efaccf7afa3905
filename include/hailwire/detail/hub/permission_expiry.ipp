// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/permission_expiry.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE void permission_expiry::forget(session_key k) noexcept {
  if (entry* e = find(k)) entries_.remove(*e), delete e;
}

}  // namespace hailwire::detail
