// SPDX-License-Identifier: BSL-1.0
#pragma once

// The definitions of WebSocket, for the object that holds them.

#ifndef HAILWIRE_SEPARATE_COMPILATION
#error "hailwire: define HAILWIRE_SEPARATE_COMPILATION for all files of a program whose definitions are compiled once"
#endif

#include "hailwire/proto/ws_client.ipp"
#include "hailwire/proto/ws_connection.ipp"
#include "hailwire/proto/ws_frame.ipp"
#include "hailwire/proto/ws_handshake.ipp"
#include "hailwire/transport/websocket.ipp"
