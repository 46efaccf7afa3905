// SPDX-License-Identifier: BSL-1.0

// What a file pays that includes a server and makes none.

#include "hailwire/server.hpp"
#include "hailwire/transport/websocket.hpp"
