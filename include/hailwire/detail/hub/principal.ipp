// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/hub/principal.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE principal::principal(const shared_grant& g, std::string_view address) noexcept
    : kind_(!g.user().empty()        ? kind::user
            : !g.key_scope().empty() ? kind::scope
            : !address.empty()       ? kind::address
                                     : kind::nobody),
      name_(kind_ == kind::user    ? g.user()
            : kind_ == kind::scope ? g.key_scope()
                                   : address) {}

HAILWIRE_INLINE std::string principal::text() const {
  std::string out;
  if (*this) out.append(1, static_cast<char>(kind_)).append(name_);
  return out;
}

}  // namespace hailwire::detail
