// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/pending_operations.hpp"

#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"

using namespace hailwire;

namespace {

struct named final : detail::operation {
  named(std::string n, std::vector<std::string>& to) : name(std::move(n)), said(&to) {}
  ~named() override { said->push_back("gone " + name); }
  void abort() override { said->push_back("aborted " + name); }
  std::string name;
  std::vector<std::string>* said;
};

}  // namespace

TEST_CASE("there is room for so many operations, and what is not kept gives its room back") {
  detail::pending_operations all(2);
  using room = detail::pending_operations::room;
  CHECK_FALSE(all.full());
  {
    room one(all), two(all), three(all);
    CHECK(one);
    CHECK(two);
    CHECK_FALSE(three);
    two.keep();
  }
  CHECK(all.count() == 1);
  all.add();
  CHECK(all.full());
  CHECK_FALSE(room(all));
  std::thread([&] { all.remove(); }).join();
  CHECK(all.count() == 1);
  CHECK(room(all));
}

TEST_CASE("an operation is dismissed from any place, and only those that are left are aborted, in order of none") {
  std::vector<std::string> said;
  detail::pending_operations all(10);
  std::vector<detail::intrusive_ptr<named>> ops;
  for (auto name : {"a", "b", "c", "d"}) {
    ops.emplace_back(new named(name, said));
    all.reserve();
    all.enroll(ops.back());
    CHECK(ops.back()->enrolled());
  }
  all.dismiss(*ops[1]);
  all.dismiss(*ops[1]);  // twice is once
  all.dismiss(*ops[3]);
  CHECK_FALSE(ops[1]->enrolled());
  all.abort_all();
  CHECK(said == std::vector<std::string>{"aborted a", "aborted c"});
  all.dismiss(*ops[0]);
  said.clear();
  ops.clear();
  CHECK(said.size() == 4);  // nobody else holds them
}
