// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/mailbox.hpp"

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "hailwire/testing/manual_loop.hpp"

using namespace hailwire;

namespace {

using lines = std::vector<std::string>;

/// A loop that has no memory for so many posts.
struct poor_loop final : detail::event_loop {
  void post(detail::move_only_function<void()> f) override {
    if (refuses && refuses--) throw std::bad_alloc();
    posted.push_back(std::move(f));
  }
  bool here() const noexcept override { return true; }
  std::int64_t now() const noexcept override { return 0; }
  std::int64_t unix_time() const noexcept override { return 0; }
  void alarm(std::int64_t) override {}
  void on_alarm(detail::move_only_function<void()>) override {}
  void run() {
    for (auto& f : std::exchange(posted, {})) f();
  }
  int refuses = 0;
  std::vector<detail::move_only_function<void()>> posted;
};

struct rig {
  rig() {
    log.set([this](const log_record& r) { said.emplace_back(r.text); }, log_level::error);
  }
  bool put(const std::string& name) {
    return box->put([this, name] { said.push_back("ran " + name); }, [this, name] { said.push_back("no " + name); });
  }
  testing::manual_loop loop;
  detail::logger log;
  std::shared_ptr<detail::mailbox> box = std::make_shared<detail::mailbox>(loop, log);
  lines said;
};

}  // namespace

TEST_CASE("letters are read on the loop, in order, and what one throws does not take the others along") {
  rig r;
  CHECK(r.put("1"));
  CHECK(r.box->put([] { throw std::runtime_error("torn"); }, [] {}));
  CHECK(r.put("2"));
  CHECK(r.said.empty());
  r.loop.run();
  CHECK(r.said == lines{"ran 1", "a handler threw: torn", "ran 2"});
  CHECK(r.put("3"));
  r.loop.run();
  CHECK(r.said.back() == "ran 3");
}

TEST_CASE("a closed mailbox aborts what is in it, once, and takes nothing more") {
  rig r;
  CHECK(r.put("1"));
  CHECK(r.put("2"));
  CHECK(r.box->here());
  r.box->close();
  CHECK(r.said == lines{"no 1", "no 2"});
  CHECK(r.box->closed());
  CHECK_FALSE(r.put("3"));
  CHECK(r.box->here());
  r.box->retire();
  CHECK_FALSE(r.box->here());
  r.loop.run();
  r.box->close();
  CHECK(r.said == lines{"no 1", "no 2"});
}

TEST_CASE("a letter may close the mailbox; those behind it are aborted") {
  rig r;
  r.box->put([&] { r.box->close(); }, [] {});
  CHECK(r.put("1"));
  r.loop.run();
  CHECK(r.said == lines{"no 1"});
}

TEST_CASE("letters of several threads all come, each thread's in order") {
  rig r;
  std::vector<std::vector<int>> came(3);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < came.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) r.box->put([&, t, i] { came[t].push_back(i); }, [] {});
    });
  for (auto& t : threads) t.join();
  r.loop.run();
  for (const auto& one : came) {
    REQUIRE(one.size() == 1000);
    CHECK(std::is_sorted(one.begin(), one.end()));
  }
}

TEST_CASE("a loop that had no memory to be told of the first letter is told by the next one, or by a turn") {
  poor_loop loop;
  detail::logger log;
  auto box = std::make_shared<detail::mailbox>(loop, log);
  int ran = 0;
  auto put = [&] { return box->put([&] { ++ran; }, [] {}); };
  loop.refuses = 1;
  CHECK(put());
  loop.run();
  CHECK(ran == 0);
  CHECK(put());
  loop.run();
  CHECK(ran == 2);
  loop.refuses = 1;
  CHECK(put());
  box->read_untold();
  CHECK(ran == 3);
  box->read_untold();
  loop.run();
  CHECK(ran == 3);
}
