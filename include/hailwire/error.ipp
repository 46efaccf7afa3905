// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/error.hpp"

namespace hailwire {

HAILWIRE_INLINE const std::error_category& category() noexcept {
  static const struct : std::error_category {
    const char* name() const noexcept override { return "hailwire"; }
    std::string message(int value) const override {
      bool known = value > 0 && static_cast<std::size_t>(value) < std::size(detail::errc_table);
      return std::string(known ? detail::errc_table[value].phrase : "unknown error");
    }
  } instance;
  return instance;
}

HAILWIRE_INLINE errc wire_code(const std::error_code& ec) noexcept {
  if (ec.category() == category()) return static_cast<errc>(ec.value());
  for (int passing : {ENOSPC, EDQUOT, ENOMEM, EBUSY, EAGAIN})
    if (ec == std::error_code(passing, std::system_category())) return errc::overloaded;
  return errc::internal;
}

failure::failure(errc c, std::string_view text, int seconds) : code(c), message(text), retry_after(seconds) {}

HAILWIRE_INLINE failure storage_failure(const std::error_code& ec) {
  errc code = wire_code(ec);
  if (code == errc::internal) return {code, "the storage failed"};
  if (code != errc::overloaded) return code;
  bool full = ec == std::errc::no_space_on_device || ec == std::error_code(EDQUOT, std::system_category());
  return full ? failure(code, "the storage is full, try again later", 10) : failure(code, {}, 1);
}

}  // namespace hailwire
