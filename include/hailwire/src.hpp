// SPDX-License-Identifier: BSL-1.0
#pragma once

// The second way of compiling hailwire, for programs in which more than one file includes it, or whose builds take too
// long: with HAILWIRE_SEPARATE_COMPILATION defined for all of its files, headers declare what is not a template, and
// one source file of the program includes this one and nothing else. CMake's target `hailwire::compiled` does both, and
// lets the linker leave out the transports that the program does not name. Headers of components (TLS, JWT, SQLite,
// compression, the client) are complete in both modes.

#include "hailwire/detail/src/core.hpp"
#include "hailwire/detail/src/ndjson.hpp"
#include "hailwire/detail/src/polls.hpp"
#include "hailwire/detail/src/portable.hpp"
#include "hailwire/detail/src/sse.hpp"
#include "hailwire/detail/src/websocket.hpp"
