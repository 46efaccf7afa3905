// SPDX-License-Identifier: BSL-1.0
#pragma once

// What every build needs, said in one line before pages of other errors. Each header of this folder includes this file
// as the first of the project's own, since a compiler stops after some twenty errors and the folder is read first.
#if !defined(__cpp_exceptions)
#error "hailwire needs exceptions: do not compile with -fno-exceptions"
#endif
#if !defined(__cpp_rtti)
#error "hailwire needs RTTI (session::data tells types apart): do not compile with -fno-rtti"
#endif
#if __cplusplus < 202002L
#error "hailwire needs C++20: compile with -std=c++20 or newer"
#endif

// Definitions that are neither templates nor hot stand in a file `.ipp` beside their header. By default the header
// includes that file, and nothing is to be built. With HAILWIRE_SEPARATE_COMPILATION, defined for all of a program, one
// source file compiles them (`#include <hailwire/src.hpp>`), or CMake's target `hailwire::compiled` does.
#if defined(HAILWIRE_SEPARATE_COMPILATION)
#define HAILWIRE_INLINE
#else
#define HAILWIRE_INLINE inline
#endif
