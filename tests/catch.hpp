// SPDX-License-Identifier: BSL-1.0
// The one include through which tests reach Catch2, 2.13 or 3.x.
#pragma once
#if defined(HAILWIRE_CATCH2_3)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
