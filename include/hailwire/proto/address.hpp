// SPDX-License-Identifier: BSL-1.0
#pragma once

// IP addresses as text and as numbers, and ranges of them.

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "hailwire/detail/base/text.hpp"

namespace hailwire::proto {

/// An IPv4 or IPv6 address. IPv4 is kept as IPv6 maps it (RFC 4291, section 2.5.5.2), so `::ffff:192.0.2.1` is
/// `192.0.2.1`: a socket that serves both families names one client in one way.
struct ip_address {
  std::array<std::uint8_t, 16> bytes{};

  friend bool operator==(const ip_address&, const ip_address&) = default;
  bool is_v4() const noexcept {
    return std::all_of(bytes.begin(), bytes.begin() + 10, [](std::uint8_t b) { return b == 0; }) && bytes[10] == 0xFF &&
           bytes[11] == 0xFF;
  }
  static ip_address from_v4(const std::uint8_t* four) noexcept;

  /// As people write it: `192.0.2.1` (no leading zeros, four parts) or `2001:db8::1` (RFC 4291, section 2.2), without
  /// brackets, zone or port.
  static std::optional<ip_address> parse(std::string_view s) noexcept;

  /// As `parse` reads it; IPv6 in the one form of RFC 5952: lower case, the longest run of zero groups left out.
  std::string text() const;

 private:
  static bool parse_v4(std::string_view s, std::uint8_t* four) noexcept;
};

/// A range of addresses of one family: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
class ip_range {
 public:
  /// Nothing where the text is no range, or has bits behind its prefix: `10.0.0.1/8` is a mistake of one kind or
  /// another.
  static std::optional<ip_range> parse(std::string_view s) noexcept;
  bool contains(const ip_address& a) const noexcept;

 private:
  ip_range(const ip_address& base, unsigned bits) noexcept : base_(base), bits_(bits) {}
  ip_address base_;
  unsigned bits_;
};

/// An address, if it is known, and a port, if it is (else 0).
struct endpoint {
  std::optional<ip_address> address;
  std::uint16_t port = 0;

  /// `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`; `unknown` where the address is not.
  std::string text() const;
  /// Reads what `text` writes, and IPv6 without brackets where there is no port. Nothing for anything else, `unknown`
  /// included.
  static std::optional<endpoint> parse(std::string_view s) noexcept;
};

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/address.ipp"
#endif
