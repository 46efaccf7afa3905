// SPDX-License-Identifier: BSL-1.0
// Alone: whoever looks at the version before anything else includes nothing more.
#include "hailwire/version.hpp"

#if !defined(HAILWIRE_VERSION_MAJOR) || HAILWIRE_VERSION_MAJOR < 0 || HAILWIRE_VERSION_MINOR < 0 || \
    HAILWIRE_VERSION_PATCH < 0
#error "the version is three numbers that a preprocessor can compare"
#endif

#include "catch.hpp"

namespace {

TEST_CASE("the version is three numbers, none of which needs more than three digits") {
  for (int part : {HAILWIRE_VERSION_MAJOR, HAILWIRE_VERSION_MINOR, HAILWIRE_VERSION_PATCH}) {
    CHECK(part >= 0);
    CHECK(part < 1000);
  }
}

}  // namespace
