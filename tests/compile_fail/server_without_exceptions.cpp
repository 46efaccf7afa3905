// SPDX-License-Identifier: BSL-1.0
// expect: hailwire needs exceptions: do not compile with -fno-exceptions
// flags: -fno-exceptions
#include "hailwire/hailwire.hpp"
