// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/session.hpp"

namespace hailwire::detail {

/// Whom something belongs to that is counted or kept: a user, on all devices; an anonymous client, by the `key_scope`
/// that its host has given it; or, where one is given, an address. The views must outlive it.
class principal {
 public:
  enum class kind : char { nobody = 0, user = '@', scope = '?', address = '#' };

  principal() = default;
  /// `address`: whose it is when the grant names nobody; empty: nobody's.
  explicit principal(const shared_grant& g, std::string_view address = {}) noexcept;

  /// Whether it is anybody.
  explicit operator bool() const noexcept { return kind_ != kind::nobody; }
  kind what() const noexcept { return kind_; }
  std::string_view name() const noexcept { return name_; }
  /// A name that no principal of another kind has; empty for nobody. Idempotency keys are stored under it.
  std::string text() const;

 private:
  kind kind_ = kind::nobody;
  std::string_view name_;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/hub/principal.ipp"
#endif
