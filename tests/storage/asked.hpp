// SPDX-License-Identifier: BSL-1.0
// Asking a storage that answers later, and a clock that tests move.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/testing/storage_trial.hpp"

inline std::atomic<std::int64_t> test_now = 1'764'000'000'000;
inline std::int64_t test_clock() { return test_now; }

/// Asks a storage and waits for the answer.
template <class Storage>
hailwire::append_result append(Storage& s, std::string_view channel, hailwire::draft d) {
  auto p = std::make_shared<hailwire::testing::detail::pending<hailwire::append_result>>();
  s.async_append(channel, std::move(d), hailwire::testing::detail::pending<hailwire::append_result>::handler(p));
  return p->wait();
}
template <class Storage>
hailwire::append_result append(Storage& s, std::string_view channel, std::string text, std::string key = {}) {
  return append(s, channel,
                hailwire::draft{test_now, "", "", hailwire::payload::text(std::move(text)), std::move(key)});
}
template <class Storage>
hailwire::read_result read(Storage& s, std::string_view channel, std::uint64_t since = 0,
                           hailwire::read_limit limit = {100'000, 1u << 30}) {
  auto p = std::make_shared<hailwire::testing::detail::pending<hailwire::read_result>>();
  s.async_read(channel, since, limit, hailwire::testing::detail::pending<hailwire::read_result>::handler(p));
  return p->wait();
}
