// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/session_registry.hpp"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/hub.hpp"

using namespace hailwire;

namespace {

/// A connection that is nothing but entered.
struct guest final : session {
  explicit guest(detail::session_registry& r) : in(&r) { in->enter(*this); }
  ~guest() override {
    in->close(*this);
    in->leave(*this);
  }
  session_key open(std::string user, bool listed = true) {
    in->open(*this, grant{.user = std::move(user)}, "phone", listed);
    return key();
  }
  void wake(detail::subscription*) override {}
  void settle() override {}
  void lost(detail::subscription&, const detail::gap&) override {}
  void keep(detail::subscription&, std::string_view) override {}
  void unreadable(detail::subscription&, std::error_code) override {}
  std::error_code notice(std::string_view, std::string_view) override { return {}; }
  void end(errc, std::uint16_t, std::string_view) override {}
  bool ending() const noexcept override { return false; }
  bool adjustable() const noexcept override { return false; }
  bool duplex() const noexcept override { return false; }
  hub& at() const noexcept override { std::abort(); }
  std::string_view transport() const noexcept override { return "none"; }
  const proto::encoding& encoding() const noexcept override { std::abort(); }
  detail::session_registry* in;
};

}  // namespace

TEST_CASE("a key means one session for ever, on whatever slot") {
  detail::session_registry all;
  std::set<std::string> ids;
  std::vector<session_key> dead;
  for (int round = 0; round < 3; ++round) {
    guest g(all);
    for (int n = 0; n < 3; ++n) {
      const auto key = g.open("ada");
      CHECK(all.find(key) == &g);
      CHECK(ids.insert(all.id_of(key)).second);
      CHECK(all.id_of(key).size() == 11);
      for (auto old : dead) CHECK_FALSE(all.find(old));
      all.close(g);
      CHECK_FALSE(all.find(key));
      dead.push_back(key);
    }
  }
  CHECK_FALSE(all.find(session_key{99, 1}));
}

TEST_CASE("listed sessions are counted and found by user; one that only brings commands is neither") {
  detail::session_registry all;
  CHECK(all.find("ada").empty());
  guest one(all), two(all), other(all), commands(all), nobody(all);
  one.open("ada"), two.open("ada"), other.open("bob"), nobody.open("");
  const auto key = commands.open("ada", false);
  CHECK(all.listed() == 4);
  CHECK(all.entered().size() == 5);
  CHECK(all.find(key) == &commands);
  auto found = all.find("ada");
  std::sort(found.begin(), found.end());
  std::vector<session*> both{&one, &two};
  std::sort(both.begin(), both.end());
  CHECK(found == both);
  CHECK(all.find("bob") == std::vector<session*>{&other});
  CHECK(all.find("").empty());
  all.close(one);
  CHECK(all.find("ada") == std::vector<session*>{&two});
  CHECK(all.sessions().size() == 3);
  CHECK(all.entered().size() == 5);
}

TEST_CASE("users are found while their number grows and shrinks") {
  detail::session_registry all;
  std::vector<std::unique_ptr<guest>> guests;
  for (int i = 0; i < 100; ++i) {
    guests.push_back(std::make_unique<guest>(all));
    guests.back()->open("user " + std::to_string(i % 40));
    if (i % 3 == 2) guests.erase(guests.begin());
  }
  std::size_t found = 0;
  for (int i = 0; i < 40; ++i) found += all.find("user " + std::to_string(i)).size();
  CHECK(found == guests.size());
  CHECK(all.listed() == guests.size());
}

TEST_CASE("whoever is looked at may leave") {
  detail::session_registry all;
  std::vector<std::unique_ptr<guest>> guests;
  for (int i = 0; i < 5; ++i) guests.push_back(std::make_unique<guest>(all));
  int seen = 0;
  all.each([&](session& s) {
    ++seen;
    std::erase_if(guests, [&](const auto& g) { return g.get() == &s; });
  });
  CHECK(seen == 5);
  CHECK(all.entered().empty());
}
