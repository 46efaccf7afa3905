// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/hooks.hpp"

namespace hailwire {

HAILWIRE_INLINE std::string_view request::param(std::string_view name) const noexcept {
  for (const auto& [n, value] : *query_)
    if (proto::same_bytes(n, name)) return value;
  return {};
}

HAILWIRE_INLINE void request::begin(const detail::connection& on, const proto::http1::head& h,
                                    const proto::query_pairs& q, std::shared_ptr<const tls_peer> tls) {
  on_ = &on, head_ = &h, query_ = &q;
  for (std::string* s : {&path_, &peer_, &scheme_, &host_}) s->clear();
  tls_ = std::move(tls);
  body_ = transport_ = {};
}

HAILWIRE_INLINE verdict verdict::replace(payload p) {
  verdict v(choice::replace);
  v.payload_ = std::move(p);
  return v;
}

HAILWIRE_INLINE verdict verdict::refuse(errc why, std::string message) {
  verdict v(choice::refuse);
  v.why_ = failure(why, std::move(message));
  return v;
}

}  // namespace hailwire
