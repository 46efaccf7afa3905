// SPDX-License-Identifier: BSL-1.0
#pragma once

// The definitions of lines of JSON, for the object that holds them.

#ifndef HAILWIRE_SEPARATE_COMPILATION
#error "hailwire: define HAILWIRE_SEPARATE_COMPILATION for all files of a program whose definitions are compiled once"
#endif

#include "hailwire/transport/ndjson.ipp"
