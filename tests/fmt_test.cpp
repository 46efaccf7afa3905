// SPDX-License-Identifier: BSL-1.0
#include "hailwire/fmt.hpp"

#include "catch.hpp"

using namespace hailwire;

TEST_CASE("places are written as clients carry them") {
  CHECK(fmt::format("{}", position{"e-1", 7}) == "e-1.7");
  const cursor c{start::after({"e", 0}), start::latest(), start::earliest(), {start::word::received, {}}};
  CHECK(fmt::format("{}", c) == "e.0,latest,earliest,received");
  CHECK(fmt::format("{}", cursor{}).empty());
  auto back = parse_cursor(fmt::format("{}", c), 4);
  REQUIRE(back);
  CHECK(fmt::format("{}", *back) == fmt::format("{}", c));
}

TEST_CASE("errors are the wire's word, and what is to be done") {
  CHECK(fmt::format("{}", errc::too_large) == "too_large");
  CHECK(fmt::format("{}", failure(errc::forbidden)) == "forbidden: not allowed");
  CHECK(fmt::format("{}", failure(errc::overloaded, "later", 3)) == "overloaded: later (again after 3 s)");
}

TEST_CASE("the end of a session names who ended it") {
  CHECK(fmt::format("{}", close_reason{errc::internal, 1006, "", true}) == "1006 by peer");
  CHECK(fmt::format("{}", close_reason{errc::forbidden, 1008, "no more guests", false}) ==
        "1008 by server: forbidden: no more guests");
  CHECK(fmt::format("{}", close_reason{errc::internal, 1000, "", false}) == "1000 by server");
}

TEST_CASE("a record of the log says what is known, and nothing else") {
  CHECK(fmt::format("{}", log_level::warning) == "warning");
  CHECK(fmt::format("{}", log_record{log_level::warning, "accept_paused"}) == "warning accept_paused");
  log_record r{log_level::error, "storage_failed"};
  r.user = "ada";
  r.peer = "192.0.2.1:9";
  r.code = errc::overloaded;
  r.text = "an append failed";
  CHECK(fmt::format("{}", r) == "error storage_failed user=ada peer=192.0.2.1:9 code=overloaded: an append failed");
  r = {log_level::info, "x"};
  r.code = operation_aborted();
  CHECK(fmt::format("{}", r) == "info x code=" + operation_aborted().message());
}

TEST_CASE("a session's key is its slot and its life there") { CHECK(fmt::format("{}", session_key{3, 9}) == "3:9"); }

TEST_CASE("whatever a client has sent stays one line") {
  CHECK(fmt::format("{}", close_reason{errc::internal, 1000, "a\r\nerror storage_failed\x7f é", true}) ==
        "1000 by peer: a\\x0d\\x0aerror storage_failed\\x7f é");
  CHECK(fmt::format("{}", failure(errc::bad_request, std::string_view("\0\x1f ", 3))) == "bad_request: \\x00\\x1f ");
}

TEST_CASE("a record is one JSON object on one line, whatever a client has put into it") {
  CHECK(log_json({log_level::warning, "accept_paused"}) == R"({"level":"warning","event":"accept_paused"})");
  log_record r{log_level::debug, "refused"};
  r.session = "s", r.user = "\"ada\"", r.peer = "192.0.2.1:9", r.code = errc::forbidden;
  r.text = "a\nb\\ \xFF \xC3\xA9 \xE2\x82";
  CHECK(log_json(r, 1764000000123) ==
        R"({"level":"debug","event":"refused","session":"s","user":"\"ada\"","peer":"192.0.2.1:9","code":"forbidden",)"
        "\"text\":\"a\\nb\\\\ \xEF\xBF\xBD \xC3\xA9 \xEF\xBF\xBD\xEF\xBF\xBD\",\"at\":1764000000123}");
}

TEST_CASE("width, alignment and precision are those of text") {
  CHECK(fmt::format("{:>7}|{:<7}|{:^7}", log_level::info, errc::range, position{"e", 1}) == "   info|range  |  e.1  ");
  CHECK(fmt::format("{:.4}", errc::forbidden) == "forb");
}
