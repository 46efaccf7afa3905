// SPDX-License-Identifier: BSL-1.0
// expect: hailwire needs C++20: compile with -std=c++20 or newer
// flags: -std=c++17
#include "hailwire/hailwire.hpp"
