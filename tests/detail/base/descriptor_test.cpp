// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/descriptor.hpp"

#include <fcntl.h>

#include <utility>

#include "catch.hpp"

using hailwire::detail::owned_descriptor;

namespace {
int opened() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool is_open(int descriptor) { return ::fcntl(descriptor, F_GETFD) >= 0; }
}  // namespace

TEST_CASE("a descriptor is closed once, by whoever has it last") {
  const int first = opened(), second = opened();
  REQUIRE(first >= 0);
  REQUIRE(second >= 0);
  {
    owned_descriptor a(first), none;
    CHECK(a);
    CHECK_FALSE(none);
    owned_descriptor b(std::move(a));
    CHECK_FALSE(a);
    CHECK(b.get() == first);
    owned_descriptor c(second);
    c = std::move(b);
    CHECK(c.get() == first);
    CHECK(is_open(first));
    CHECK(is_open(second));  // until b ends, which has it now
  }
  CHECK_FALSE(is_open(first));
  CHECK_FALSE(is_open(second));
}

TEST_CASE("a descriptor that is released or closed is its owner's no more") {
  const int taken = opened(), shut = opened();
  {
    owned_descriptor a(taken), b(shut);
    CHECK(a.release() == taken);
    CHECK_FALSE(a);
    b.close();
    CHECK_FALSE(b);
    CHECK_FALSE(is_open(shut));
  }
  CHECK(is_open(taken));
  ::close(taken);
}
