// SPDX-License-Identifier: BSL-1.0
// expect: hailwire needs RTTI (session::data tells types apart): do not compile with -fno-rtti
// flags: -fno-rtti
#include "hailwire/hailwire.hpp"
