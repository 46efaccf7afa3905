// SPDX-License-Identifier: BSL-1.0
// What the WebSocket fuzzers share: a run of the machine over input that is cut at given places, and what it must not
// do.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/proto/ws_connection.hpp"

namespace ws_fuzz {

using namespace hailwire::proto;

inline void must(bool fine, const char* what) {
  if (fine) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// Events of a run, one after another, as bytes that compare.
struct record {
  std::string events;
  bool failed = false;
};

inline void feed(ws_connection& machine, ws_inflater* inflater, const ws_limits& limits, std::string_view bytes,
                 record& out) {
  // Memory of exactly that size, so that reading beyond it is seen.
  std::vector<char> copy(bytes.begin(), bytes.end());
  std::span<char> in(copy);
  for (;;) {
    bool ended = machine.ended();
    auto e = machine.next(in, inflater);
    if (e.what == ws_event::type::none) break;
    must(!ended, "an event after the end");
    using enum ws_event::type;
    switch (e.what) {
      case text:
        must(valid_utf8(e.data), "a text that is not UTF-8");
        [[fallthrough]];
      case binary:
        must(e.data.size() <= limits.message, "a message over the limit");
        break;
      case close:
        must(valid_utf8(e.data) && e.data.size() <= 123, "a bad close reason");
        must(e.code == ws_no_code ? e.data.empty() : valid_close_code(e.code), "a bad close code");
        break;
      case failed:
        must(e.code == 1002 || e.code == 1007 || e.code == 1008 || e.code == 1009, "a failure that is not the peer's");
        must(!e.data.empty() && machine.idle(), "a failure without a reason, or that keeps memory");
        out.failed = true;
        break;
      default:
        must(e.data.size() <= max_control_size, "a control frame over 125 bytes");
    }
    must(machine.ended() == (e.what == close || e.what == failed), "an end that is none");
    out.events += static_cast<char>('0' + static_cast<int>(e.what));
    out.events += std::to_string(e.code) + ":" + std::to_string(e.data.size()) + ":";
    out.events += e.data;
  }
  must(in.empty(), "input left without an event");
}

/// `machine` makes a fresh machine for each run. Whole input and split input must say the same: every split up to 64
/// bytes, one elsewhere at a place that the input chooses; and byte by byte when it is small.
template <class Machine>
void compare(std::string_view bytes, const ws_limits& limits, std::size_t choice, Machine machine) {
  auto run = [&](auto&& cuts) {
    record out;
    machine([&](ws_connection& m, ws_inflater* inflater) {
      cuts([&](std::string_view piece) { feed(m, inflater, limits, piece, out); });
    });
    return out;
  };
  auto whole = run([&](auto&& piece) { piece(bytes); });
  auto split = [&](std::size_t at) {
    auto two = run([&](auto&& piece) { piece(bytes.substr(0, at)), piece(bytes.substr(at)); });
    must(two.events == whole.events, "a split changes what is said");
  };
  if (bytes.size() <= 64) {
    for (std::size_t at = 1; at < bytes.size(); ++at) split(at);
  } else {
    split(choice % bytes.size());
  }
  if (bytes.size() <= 512) {
    auto each = run([&](auto&& piece) {
      for (std::size_t i = 0; i < bytes.size(); ++i) piece(bytes.substr(i, 1));
    });
    must(each.events == whole.events, "byte by byte changes what is said");
  }
}

}  // namespace ws_fuzz
