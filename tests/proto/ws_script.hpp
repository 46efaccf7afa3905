// SPDX-License-Identifier: BSL-1.0
// Scripts for WebSocket tests: bytes in, events out as readable lines, the same however the bytes are cut.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "hailwire/proto/ws_connection.hpp"

namespace ws_script {

using namespace hailwire::proto;
using lines = std::vector<std::string>;

/// "text Hello", "close 1000 bye", "failed 1002", ...; what is long is shortened to its size.
inline std::string line(const ws_event& e) {
  static constexpr const char* names[] = {"none", "text", "binary", "ping", "pong", "close", "failed"};
  std::string out = names[static_cast<int>(e.what)];
  if (e.code) out += " " + std::to_string(e.code);
  if (e.what == ws_event::type::failed) return out;
  if (e.data.size() > 200) return out + " of " + std::to_string(e.data.size());
  return e.data.empty() ? out : out + " " + std::string(e.data);
}

/// Hands `bytes` to `machine` as one piece of input, in memory of exactly that size, and adds what it says to `out`.
inline void feed(ws_connection& machine, std::string_view bytes, lines& out, ws_inflater* inflater = nullptr) {
  std::vector<char> copy(bytes.begin(), bytes.end());
  std::span<char> in(copy);
  for (auto e = machine.next(in, inflater); e.what != ws_event::type::none; e = machine.next(in, inflater))
    out.push_back(line(e));
  REQUIRE(in.empty());
}

struct options {
  ws_role role = ws_role::server;
  ws_limits limits{};
  /// Makes an inflater for each run; none when empty.
  std::function<std::unique_ptr<ws_inflater, void (*)(ws_inflater*)>()> inflater{};
};

inline lines run(std::string_view bytes, const options& how, std::size_t first, std::size_t step) {
  auto inflater = how.inflater ? how.inflater()
                               : std::unique_ptr<ws_inflater, void (*)(ws_inflater*)>(nullptr, [](ws_inflater*) {});
  ws_connection machine(how.role, how.limits);
  lines out;
  if (first) feed(machine, bytes.substr(0, first), out, inflater.get());
  for (std::size_t at = first; at < bytes.size(); at += step)
    feed(machine, bytes.substr(at, step), out, inflater.get());
  return out;
}

/// Plays `bytes` whole, cut in two at every byte, and byte by byte; all must say the same, which is returned. Scripts
/// over 2,000 bytes are cut at 200 places, those over 100,000 in pieces instead of bytes.
inline lines play(std::string_view bytes, const options& how = {}) {
  auto whole = run(bytes, how, 0, std::max<std::size_t>(bytes.size(), 1));
  std::size_t stride = bytes.size() > 2000 ? bytes.size() / 200 : 1;
  for (std::size_t cut = 1; cut < bytes.size(); cut += stride) {
    auto split = run(bytes, how, cut, bytes.size());
    if (split != whole) {
      INFO("cut at " << cut);
      REQUIRE(split == whole);
    }
  }
  REQUIRE(run(bytes, how, 0, bytes.size() > 100'000 ? 997 : 1) == whole);
  return whole;
}

/// How many bytes of a script must have come before the machine fails; npos when it never does.
inline std::size_t fails_after(std::string_view bytes, const options& how = {}) {
  ws_connection machine(how.role, how.limits);
  lines out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    feed(machine, bytes.substr(i, 1), out);
    if (!out.empty() && out.back().starts_with("failed")) return i + 1;
  }
  return std::string_view::npos;
}

inline constexpr std::uint32_t key = 0xA1B2C3D4;

/// A client's frame; `reserved` is RSV1–3 as 4, 2, 1; any opcode.
inline std::string frame(int opcode, std::string_view payload, bool fin = true, int reserved = 0) {
  std::string out;
  append_masked_frame(out, ws_opcode::text, payload, key, fin);
  out[0] = static_cast<char>((fin ? 0x80 : 0) | reserved << 4 | opcode);
  return out;
}
inline std::string text(std::string_view payload, bool fin = true) { return frame(1, payload, fin); }
inline std::string more(std::string_view payload, bool fin = true) { return frame(0, payload, fin); }
inline std::string ping(std::string_view payload = {}) { return frame(9, payload); }
/// A client's close frame with any code.
inline std::string close_frame(int code, std::string_view reason = {}) {
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
  return frame(8, payload += reason);
}
/// Bytes as they are, with NULs.
template <std::size_t N>
std::string raw(const char (&literal)[N]) {
  return std::string(literal, N - 1);
}

}  // namespace ws_script
