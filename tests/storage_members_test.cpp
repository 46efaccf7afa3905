// SPDX-License-Identifier: BSL-1.0
#include "hailwire/storage_members.hpp"

#include <map>
#include <memory>
#include <optional>
#include <stdexcept>

#include "catch.hpp"
#include "hailwire/concepts.hpp"
#include "hailwire/storage/blocking.hpp"
#include "hailwire/storage/memory.hpp"
#include "storage/host_storage.hpp"

using namespace hailwire;
using detail::storage_member;

namespace {

// Storages that have one optional member each.
struct with_erase : host_storage {
  append_result erase(std::string_view, const position& at, const draft&) { return at.offset + 1; }
};
struct with_marks : host_storage {
  mark_result mark(std::string_view channel, const watermark& m) {
    if (channel == "bad") throw std::runtime_error("bad");
    mark_result r;
    r.after = m.levels;
    return r;
  }
  watermarks_result watermarks(std::string_view, const watermark_query&) { return {}; }
};
struct with_tokens : host_storage {
  std::error_code keep_token(const device_token&) { return {}; }
  tokens_result tokens(std::string_view user) {
    tokens_result r;
    r.tokens.push_back({std::string(user), "phone", "web", "token"});
    return r;
  }
  errc forget_token(std::string_view, std::string_view, std::string_view) { return errc::conflict; }
};
struct with_retention : host_storage {
  static constexpr bool keeps_retention = true;
};
struct without_retention : host_storage {
  static constexpr bool keeps_retention = false;
};

/// Answers later, and has a member in the form of answers that come at once: which is none that anybody finds.
struct later {
  void async_append(std::string_view, draft, append_handler done) { done(1u); }
  void async_read(std::string_view, std::uint64_t, read_limit, read_handler done) { done({}); }
};
struct later_with_erase : later {
  void async_erase(std::string_view, position at, draft, append_handler done) { done(at.offset + 2); }
};

template <class S>
std::string offered() {
  S storage;
  auto erased = detail::erase_storage(storage);
  std::string out;
  const std::pair<storage_member, const char*> all[] = {{storage_member::retention, "retention "},
                                                        {storage_member::erase, "erase "},
                                                        {storage_member::watermarks, "watermarks "},
                                                        {storage_member::tokens, "tokens "}};
  for (const auto& [part, name] : all)
    if (erased->offers(part)) out += name;
  return out;
}

template <class Result, class Ask>
Result answer(Ask ask) {
  std::optional<Result> out;
  ask([&out](Result r) { out = std::move(r); });
  REQUIRE(out);
  return *out;
}
append_result erase(detail::any_storage& s) {
  return answer<append_result>([&](append_handler h) { s.erase("c", position{{}, 7}, draft(), std::move(h)); });
}

}  // namespace

TEST_CASE("each optional member of a storage is found on its own") {
  CHECK(offered<host_storage>().empty());
  CHECK(offered<with_erase>() == "erase ");
  CHECK(offered<with_marks>() == "watermarks ");
  CHECK(offered<with_tokens>() == "tokens ");
  CHECK(offered<with_retention>() == "retention ");
  CHECK(offered<without_retention>().empty());
  CHECK(offered<later>().empty());
  CHECK(offered<later_with_erase>() == "erase ");
  CHECK(offered<memory_storage>() == "retention erase watermarks tokens ");
}

TEST_CASE("what a storage does not have is not implemented, and every handler is called") {
  host_storage bare;
  auto s = detail::erase_storage(bare);
  CHECK(erase(*s).error == errc::not_implemented);
  CHECK(answer<mark_result>([&](mark_handler h) { s->mark("c", {}, std::move(h)); }).error == errc::not_implemented);
  CHECK(answer<watermarks_result>([&](watermarks_handler h) { s->watermarks("c", {}, std::move(h)); }).error ==
        errc::not_implemented);
  CHECK(answer<tokens_result>([&](tokens_handler h) { s->keep_token({}, std::move(h)); }).error ==
        errc::not_implemented);
  CHECK(answer<tokens_result>([&](tokens_handler h) { s->tokens("ada", std::move(h)); }).error ==
        errc::not_implemented);
  CHECK(answer<tokens_result>([&](tokens_handler h) { s->forget_token("a", "b", "c", std::move(h)); }).error ==
        errc::not_implemented);
}

TEST_CASE("optional members are reached through values, references and smart pointers") {
  with_erase own;
  CHECK(erase(*detail::erase_storage(own)).offset == 8);
  CHECK(erase(*detail::erase_storage(std::make_unique<with_erase>())).offset == 8);
  CHECK(erase(*detail::erase_storage(std::make_shared<with_erase>())).offset == 8);
  CHECK(erase(*detail::erase_storage(later_with_erase())).offset == 9);
  CHECK(erase(*detail::erase_storage(detail::erase_storage(own))).offset == 8);  // erased twice is erased once
}

TEST_CASE("what an optional member throws is an internal error, with its cause") {
  with_marks own;
  auto s = detail::erase_storage(own);
  auto r = answer<mark_result>([&](mark_handler h) { s->mark("bad", {}, std::move(h)); });
  CHECK(r.error == errc::internal);
  CHECK(r.cause);
  r = answer<mark_result>([&](mark_handler h) { s->mark("c", {"ada", "", "e", {3, 2, 1}, 0}, std::move(h)); });
  CHECK(r.after == watermark_levels{3, 2, 1});
}

TEST_CASE("tokens come in whatever the storage's functions return") {
  with_tokens own;
  auto s = detail::erase_storage(own);
  CHECK_FALSE(answer<tokens_result>([&](tokens_handler h) { s->keep_token({}, std::move(h)); }).error);
  CHECK(answer<tokens_result>([&](tokens_handler h) { s->tokens("ada", std::move(h)); }).tokens.at(0).user == "ada");
  CHECK(answer<tokens_result>([&](tokens_handler h) { s->forget_token("a", "b", "c", std::move(h)); }).error ==
        errc::conflict);
}

TEST_CASE("a storage that runs off the loop has the members of the one that it runs, and no others") {
  CHECK_FALSE(erasing_storage<blocking_storage<host_storage>>);
  CHECK_FALSE(watermark_storage<blocking_storage<with_erase>>);
  CHECK(erasing_storage<blocking_storage<with_erase&>>);
  CHECK(watermark_storage<blocking_storage<with_marks>>);
  CHECK(token_storage<blocking_storage<with_tokens>>);
  CHECK(retaining_storage<blocking_storage<with_retention>>);
  CHECK_FALSE(retaining_storage<blocking_storage<host_storage>>);
}

TEST_CASE("levels are raised where they are higher, and stand in their order") {
  watermark_levels l{5, 3, 1};
  detail::raise(l, {4, 4, 0});
  CHECK(l == watermark_levels{5, 4, 1});
  detail::raise(l, {0, 0, 6});
  CHECK(l == watermark_levels{6, 6, 6});
  CHECK(detail::highest({{"a", "", "e", {5, 1, 0}, 0}, {"a", "b", "e", {2, 2, 2}, 0}, {"a", "c", "old", {9, 9, 9}, 0}},
                        "e") == watermark_levels{5, 2, 2});
}

TEST_CASE("a device gives way when there are sixteen and it was unseen for longer than thirty days") {
  std::vector<std::int64_t> seen(max_devices - 1, 100);
  CHECK(detail::gives_way(seen, 100) == max_devices - 1);
  seen.push_back(50);
  CHECK(detail::gives_way(seen, 50 + device_memory_ms) == detail::none_gives_way);
  CHECK(detail::gives_way(seen, 51 + device_memory_ms) == max_devices - 1);
}
