// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/proto/address.hpp"

namespace hailwire::proto {

HAILWIRE_INLINE ip_address ip_address::from_v4(const std::uint8_t* four) noexcept {
  ip_address a;
  a.bytes[10] = a.bytes[11] = 0xFF;
  std::copy_n(four, 4, a.bytes.begin() + 12);
  return a;
}

HAILWIRE_INLINE std::optional<ip_address> ip_address::parse(std::string_view s) noexcept {
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

HAILWIRE_INLINE std::string ip_address::text() const {
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

HAILWIRE_INLINE bool ip_address::parse_v4(std::string_view s, std::uint8_t* four) noexcept {
  for (int part = 0;; ++part) {
    auto dot = s.find('.');
    auto n = parse_decimal(s.substr(0, dot), 255);
    if (!n || part > 3) return false;
    four[part] = static_cast<std::uint8_t>(*n);
    if (dot == s.npos) return part == 3;
    s.remove_prefix(dot + 1);
  }
}

HAILWIRE_INLINE std::optional<ip_range> ip_range::parse(std::string_view s) noexcept {
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

HAILWIRE_INLINE bool ip_range::contains(const ip_address& a) const noexcept {
  if (a.is_v4() != base_.is_v4()) return false;
  if (!std::equal(base_.bytes.begin(), base_.bytes.begin() + bits_ / 8, a.bytes.begin())) return false;
  return bits_ % 8 == 0 || (base_.bytes[bits_ / 8] ^ a.bytes[bits_ / 8]) >> (8 - bits_ % 8) == 0;
}

HAILWIRE_INLINE std::string endpoint::text() const {
  if (!address) return "unknown";
  std::string out = address->is_v4() ? address->text() : '[' + address->text() + ']';
  if (port) {
    out += ':';
    append_decimal(out, port);
  }
  return out;
}

HAILWIRE_INLINE std::optional<endpoint> endpoint::parse(std::string_view s) noexcept {
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

}  // namespace hailwire::proto
