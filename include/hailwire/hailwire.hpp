// SPDX-License-Identifier: BSL-1.0
#pragma once

// The core and the four transports. A program that links fewer includes server.hpp and the transports it names.

#include "hailwire/server.hpp"
#include "hailwire/transport/long_poll.hpp"
#include "hailwire/transport/short_poll.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"
#include "hailwire/version.hpp"
