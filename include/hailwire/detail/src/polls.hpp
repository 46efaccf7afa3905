// SPDX-License-Identifier: BSL-1.0
#pragma once

// The definitions of long and short polls, for the object that holds them.

#ifndef HAILWIRE_SEPARATE_COMPILATION
#error "hailwire: define HAILWIRE_SEPARATE_COMPILATION for all files of a program whose definitions are compiled once"
#endif

#include "hailwire/detail/connection/polls.ipp"
#include "hailwire/transport/long_poll.ipp"
#include "hailwire/transport/poll.ipp"
