// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/rules.hpp"

#include <climits>
#include <cstdint>
#include <string>

#include "catch.hpp"

using namespace hailwire;

TEST_CASE("the limits are met, and passed by one more") {
  options o;
  o.max_channels = 3;
  CHECK(detail::may_follow_count(0, o));
  CHECK(detail::may_follow_count(3, o));
  CHECK_FALSE(detail::may_follow_count(4, o));
  CHECK(detail::payload_fits(payload::text("four"), {.max_payload = 4}));
  CHECK_FALSE(detail::payload_fits(payload::text("fives"), {.max_payload = 4}));
  CHECK_FALSE(detail::valid_history_limit(0));
  CHECK(detail::valid_history_limit(1));
  CHECK(detail::valid_history_limit(1000));
  CHECK_FALSE(detail::valid_history_limit(1001));
}

TEST_CASE("what a client is told has the protocol's code and says what to mend") {
  options o;
  o.max_channels = 7;
  CHECK(detail::too_many_channels(o).code == errc::bad_request);
  CHECK(detail::too_many_channels(o).text() == "more than 7 channels");
  CHECK(detail::not_a_channel().code == errc::bad_request);
  CHECK(detail::payload_too_large().code == errc::too_large);
  CHECK(detail::permission_ended().code == errc::unauthenticated);
  CHECK(detail::permission_ended().text() == detail::permission_ended_text);
}

TEST_CASE("when there is room again is said in whole seconds, rounded up") {
  CHECK(detail::too_often("too many", 1).retry_after == 1);
  CHECK(detail::too_often("too many", 1000).retry_after == 1);
  CHECK(detail::too_often("too many", 1001).retry_after == 2);
  CHECK(detail::too_often("too many", INT64_MAX / 2).retry_after == INT_MAX);
  CHECK(detail::too_often("too many", 1).code == errc::rate_limited);
  CHECK(detail::too_often("too many", 1).text() == "too many");
}
