// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace hailwire {

/// What an acknowledged message survives.
enum class durability : std::uint8_t {
  full,    ///< power loss: each commit is synced to the disk before it is acknowledged
  normal,  ///< the death of the process; after a power loss the newest may be missing, and every epoch is new
  off,     ///< the death of the process; after a power loss the file may be unusable
};

}  // namespace hailwire
