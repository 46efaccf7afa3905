// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/connection/admission.hpp"
#include "hailwire/detail/connection/trusted_proxies.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE tickets::tickets(std::string_view key) : key_(random_bits()) {
  if (key.empty()) return;
  if (key.size() < 16)
    throw std::invalid_argument(
        "hailwire: options::ticket_key is at least 16 bytes, or empty for one of the server's own");
  key_ = keyed_hash(bits128{}).add(key).finish();
}

HAILWIRE_INLINE std::optional<std::uint64_t> tickets::owner(std::string_view user, std::string_view address) const {
  if (!user.empty()) return keyed_hash(key_).add("user").add(user).finish().low;
  const auto a = proto::ip_address::parse(address);
  if (!a) return std::nullopt;
  const auto k = address_table::of(*a);
  return keyed_hash(key_).add("address").add(k.high).add(k.low).finish().low;
}

HAILWIRE_INLINE std::string tickets::make(std::uint64_t owner, std::int64_t unix_seconds) const {
  const auto end = static_cast<std::uint32_t>(unix_seconds + life);
  char bytes[28];
  std::memcpy(bytes, &end, 4);
  std::memcpy(bytes + 4, &owner, 8);
  const bits128 signature = sign({bytes, 12});
  std::memcpy(bytes + 12, &signature, 16);
  std::string out;
  proto::append_base64(out, {bytes, sizeof bytes}, proto::base64url_letters);
  return out;
}

HAILWIRE_INLINE std::optional<tickets::known> tickets::read(std::string_view text, std::int64_t unix_seconds) const {
  if (text.size() != 38) return std::nullopt;
  const auto bytes = proto::decode_base64url(text);
  if (!bytes) return std::nullopt;
  std::uint32_t end;
  known out{};
  bits128 said;
  std::memcpy(&end, bytes->data(), 4);
  std::memcpy(&out.owner, bytes->data() + 4, 8);
  std::memcpy(&said, bytes->data() + 12, 16);
  const bits128 signature = sign(std::string_view(*bytes).substr(0, 12));
  // In the same time wherever they differ.
  if (((said.low ^ signature.low) | (said.high ^ signature.high)) != 0) return std::nullopt;
  out.left = std::int64_t{end} - unix_seconds;
  if (out.left <= 0 || out.left > life) return std::nullopt;
  return out;
}

HAILWIRE_INLINE admission::admission(const options& o)
    : reconnects(o.ticket_key),
      most_(o.max_connections.value_or(SIZE_MAX)),
      kept_(static_cast<double>(o.newcomers_per_second) * kept_part) {
  const auto a_second = static_cast<double>(o.newcomers_per_second);
  rate_ = token_rate(a_second, a_second);
  owner_rate_ = token_rate(a_second * owner_part, a_second * owner_part);
  if (!rate_) return;
  owners_.assign(1024, token_bucket());
  addresses_.assign(1024, token_bucket());
}

HAILWIRE_INLINE std::int64_t admission::newcomer(std::optional<std::uint64_t> from, std::int64_t now) noexcept {
  if (!rate_) return 0;
  // A request without an address came by a proxy that is not listed: nothing tells its clients apart.
  const bool beyond = from && addresses_[*from % addresses_.size()].take(owner_rate_, now) != 0;
  const std::int64_t wait = newcomers_.take(rate_, now, 1, beyond ? kept_ : 0);
  if (!wait) return 0;
  if (refused_.owed(rate_, now) < longest_wait_ms) refused_.charge(rate_, now, 1);
  return std::min(std::max(wait, refused_.owed(rate_, now)), longest_wait_ms);
}

HAILWIRE_INLINE bool admission::returns(const tickets::known& t, std::int64_t now) noexcept {
  return owners_[t.owner % owners_.size()].take(owner_rate_, now) == 0 && returning_.take(rate_, now) == 0;
}

}  // namespace hailwire::detail
