// SPDX-License-Identifier: BSL-1.0
#include "hailwire/error.hpp"

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "catch.hpp"

using namespace hailwire;

namespace {

constexpr int count = static_cast<int>(errc::http_version);

TEST_CASE("each code has a word of its own, a phrase, a status and a close code that may travel") {
  std::set<std::string_view> words;
  for (int i = 1; i <= count; ++i) {
    const errc e = static_cast<errc>(i);
    INFO(code_name(e));
    CHECK(words.insert(code_name(e)).second);
    CHECK_FALSE(code_name(e).empty());
    CHECK_FALSE(make_error_code(e).message().empty());
    CHECK(http_status(e) >= 400);
    CHECK(http_status(e) <= 505);
    const int close = close_code(e);
    CHECK((close == 1002 || (close >= 1007 && close <= 1014) || (close >= 4000 && close <= 4999)));
  }
  CHECK(std::size(detail::errc_table) == static_cast<std::size_t>(count) + 1);
}

TEST_CASE("the words, statuses and close codes are those of the protocol") {
  struct row {
    errc code;
    std::string_view name;
    int status, close;
  };
  for (auto& [code, name, status, close] :
       {row{errc::bad_request, "bad_request", 400, 1008}, row{errc::unauthenticated, "unauthenticated", 401, 4401},
        row{errc::forbidden, "forbidden", 403, 4403}, row{errc::not_found, "not_found", 404, 1008},
        row{errc::conflict, "conflict", 409, 1008}, row{errc::too_large, "too_large", 413, 1009},
        row{errc::rate_limited, "rate_limited", 429, 4429}, row{errc::internal, "internal", 500, 1011},
        row{errc::not_implemented, "not_implemented", 501, 1008}, row{errc::draining, "draining", 503, 1012},
        row{errc::overloaded, "overloaded", 503, 1013}}) {
    CHECK(code_name(code) == name);
    CHECK(http_status(code) == status);
    CHECK(close_code(code) == close);
  }
}

TEST_CASE("a number that is no code has a message too") {
  for (int value : {-1, 0, count + 1, 1 << 30}) CHECK(category().message(value) == "unknown error");
  CHECK(std::string(category().name()) == "hailwire");
}

TEST_CASE("a system's error is overloaded where it will pass, else internal") {
  for (int passing : {ENOSPC, EDQUOT, ENOMEM, EBUSY, EAGAIN}) {
    CHECK(wire_code({passing, std::system_category()}) == errc::overloaded);
    CHECK(wire_code({passing, std::generic_category()}) == errc::internal);  // not what a system has said
  }
  for (int other : {EIO, EACCES, ECONNRESET, EROFS})
    CHECK(wire_code({other, std::system_category()}) == errc::internal);
  for (int i = 1; i <= count; ++i) CHECK(wire_code(static_cast<errc>(i)) == static_cast<errc>(i));
  CHECK(wire_code(operation_aborted()) == errc::internal);
}

TEST_CASE("a failure says its sentence, or its code's phrase") {
  CHECK(failure(errc::conflict).text() == "same key, other payload");
  CHECK(failure(errc::conflict, "another").text() == "another");
  CHECK(failure(errc::rate_limited, {}, 7).retry_after == 7);
  CHECK(failure().code == errc::internal);
}

TEST_CASE("a result holds a value or a failure, and takes either from another") {
  result<std::unique_ptr<int>> value(std::make_unique<int>(3)), failed(errc::not_found);
  CHECK(bool(value));
  CHECK(**value == 3);
  CHECK_FALSE(bool(failed));
  CHECK(failed.error().code == errc::not_found);
  result<std::unique_ptr<int>> moved = std::move(value);
  CHECK(**moved == 3);
  std::swap(moved, failed);
  CHECK(moved.error().code == errc::not_found);
  CHECK(**failed == 3);
  moved = std::move(failed);
  CHECK(**moved == 3);
  auto& self = moved;
  moved = std::move(self);
  CHECK(**moved == 3);
  CHECK(result<std::string>(std::string("text"))->size() == 4);
  CHECK(result<std::string>(failure(errc::timeout, "late")).error().message == "late");
}

TEST_CASE("a code is a std::error_code") {
  std::error_code ec = errc::too_large;
  CHECK(ec == errc::too_large);
  CHECK(ec != errc::overloaded);
  CHECK(ec.category() == category());
  CHECK(operation_aborted() != std::error_code());
}

}  // namespace
