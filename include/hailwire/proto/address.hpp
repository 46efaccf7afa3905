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
  static ip_address from_v4(const std::uint8_t* four) noexcept {
    ip_address a;
    a.bytes[10] = a.bytes[11] = 0xFF;
    std::copy_n(four, 4, a.bytes.begin() + 12);
    return a;
  }

  /// As people write it: `192.0.2.1` (no leading zeros, four parts) or `2001:db8::1` (RFC 4291, section 2.2), without
  /// brackets, zone or port.
  static std::optional<ip_address> parse(std::string_view s) noexcept {
    std::uint8_t four[4];
    if (s.find(':') == s.npos) return parse_v4(s, four) ? std::optional(from_v4(four)) : std::nullopt;
    // Eight groups; one run of zero groups may be left out, and the last two may be written as IPv4.
    std::array<std::uint8_t, 16> out{};
    std::size_t n = 0, gap = 17;
    if (s.starts_with("::")) {
      gap = 0;
      s.remove_prefix(2);
    }
    while (!s.empty()) {
      auto group = s.substr(0, s.find(':'));
      if (group.find('.') != group.npos) {
        if (group.size() != s.size() || n > 12 || !parse_v4(group, four)) return {};
        std::copy_n(four, 4, out.begin() + static_cast<std::ptrdiff_t>(n));
        n += 4;
        break;
      }
      unsigned value = 0;
      if (group.empty() || group.size() > 4 || n > 14) return {};
      auto [end, ec] = std::from_chars(group.data(), group.data() + group.size(), value, 16);
      if (ec != std::errc() || end != group.data() + group.size()) return {};
      out[n++] = static_cast<std::uint8_t>(value >> 8);
      out[n++] = static_cast<std::uint8_t>(value);
      s.remove_prefix(group.size());
      if (s.empty()) break;
      s.remove_prefix(1);
      if (s.empty()) return {};  // a colon at the end
      if (s[0] != ':') continue;
      if (gap <= 16) return {};
      gap = n;
      s.remove_prefix(1);
    }
    if (gap > 16 ? n != 16 : n > 14) return {};
    if (gap > 16) return ip_address{out};
    std::array<std::uint8_t, 16> whole{};  // what stood behind the gap goes to the end
    for (std::size_t i = 0; i < n; ++i) whole[i < gap ? i : i + 16 - n] = out[i];
    return ip_address{whole};
  }

  /// As `parse` reads it; IPv6 in the one form of RFC 5952: lower case, the longest run of zero groups left out.
  std::string text() const {
    std::string out;
    if (is_v4()) {
      for (std::size_t i = 12; i < 16; ++i) {
        if (i > 12) out += '.';
        append_decimal(out, bytes[i]);
      }
      return out;
    }
    auto group = [this](std::size_t i) { return static_cast<unsigned>(bytes[2 * i] << 8 | bytes[2 * i + 1]); };
    std::size_t best = 8, longest = 1;  // a single zero group is written out
    for (std::size_t i = 0, run = 0; i < 8; ++i) {
      run = group(i) == 0 ? run + 1 : 0;
      if (run > longest) longest = run, best = i + 1 - run;
    }
    for (std::size_t i = 0; i < 8; ++i) {
      if (i == best) {
        out += "::";
        i += longest - 1;
        continue;
      }
      if (!out.empty() && out.back() != ':') out += ':';
      char hex[4];
      out.append(hex, std::to_chars(hex, hex + 4, group(i), 16).ptr);
    }
    return out;
  }

 private:
  static bool parse_v4(std::string_view s, std::uint8_t* four) noexcept {
    for (int part = 0;; ++part) {
      auto dot = s.find('.');
      auto n = parse_decimal(s.substr(0, dot), 255);
      if (!n || part > 3) return false;
      four[part] = static_cast<std::uint8_t>(*n);
      if (dot == s.npos) return part == 3;
      s.remove_prefix(dot + 1);
    }
  }
};

/// A range of addresses of one family: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
class ip_range {
 public:
  /// Nothing where the text is no range, or has bits behind its prefix: `10.0.0.1/8` is a mistake of one kind or
  /// another.
  static std::optional<ip_range> parse(std::string_view s) noexcept {
    auto slash = s.find('/');
    auto base = ip_address::parse(s.substr(0, slash));
    if (!base) return {};
    unsigned before = base->is_v4() ? 96 : 0, bits = 128;
    if (slash != s.npos) {
      auto n = parse_decimal(s.substr(slash + 1), 128 - before);
      if (!n) return {};
      bits = before + static_cast<unsigned>(*n);
    }
    ip_range r{*base, bits};
    for (unsigned i = bits; i < 128; ++i)
      if (base->bytes[i / 8] >> (7 - i % 8) & 1) return {};
    return r;
  }
  bool contains(const ip_address& a) const noexcept {
    if (a.is_v4() != base_.is_v4()) return false;
    if (!std::equal(base_.bytes.begin(), base_.bytes.begin() + bits_ / 8, a.bytes.begin())) return false;
    return bits_ % 8 == 0 || (base_.bytes[bits_ / 8] ^ a.bytes[bits_ / 8]) >> (8 - bits_ % 8) == 0;
  }

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
  std::string text() const {
    if (!address) return "unknown";
    std::string out = address->is_v4() ? address->text() : '[' + address->text() + ']';
    if (port) {
      out += ':';
      append_decimal(out, port);
    }
    return out;
  }
  /// Reads what `text` writes, and IPv6 without brackets where there is no port. Nothing for anything else, `unknown`
  /// included.
  static std::optional<endpoint> parse(std::string_view s) noexcept {
    endpoint e;
    std::string_view port;
    if (s.starts_with('[')) {
      auto end = s.find(']');
      if (end == s.npos) return {};
      e.address = ip_address::parse(s.substr(1, end - 1));
      if (!e.address || s.substr(1, end - 1).find(':') == s.npos) return {};
      port = s.substr(end + 1);
    } else if (auto colon = s.find(':'); colon != s.npos && s.find(':', colon + 1) == s.npos) {
      e.address = ip_address::parse(s.substr(0, colon));
      port = s.substr(colon);
    } else {
      e.address = ip_address::parse(s);
    }
    if (!e.address) return {};
    if (port.empty()) return e;
    auto n = port[0] == ':' ? parse_decimal(port.substr(1), 65535) : std::nullopt;
    if (!n) return {};
    e.port = static_cast<std::uint16_t>(*n);
    return e;
  }
};

}  // namespace hailwire::proto
