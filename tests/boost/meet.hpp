// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "hailwire/hub.hpp"
#include "hailwire/storage/memory.hpp"

/// What either file of this program has: a server on the Asio that the file was compiled for, and what of it knows no
/// Asio.
struct met {
  std::function<void()> run;                                         // until nothing is left to do
  std::function<std::string()> type;                                 // the server's, as the compiler names it
  std::function<void(std::string_view, hailwire::payload)> publish;  // and then stop
};

met meet_standalone(hailwire::memory_storage& shared);
met meet_boost(hailwire::memory_storage& shared);
