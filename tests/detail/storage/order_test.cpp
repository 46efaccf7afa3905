// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/storage/order.hpp"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using detail::storage_job;
using detail::storage_jobs;
using detail::storage_order;

namespace {

/// Operations by name, such as `a1` for an append and `r2` for a read; `ready` says which may run.
template <detail::run_together together>
struct rig {
  storage_order<together> order;
  storage_jobs ready;
  std::map<const storage_job*, std::string> names;
  std::string answers;

  explicit rig(std::size_t pending = 100, std::size_t bytes = 1 << 20) : order(pending, bytes) {}
  void start(const std::string& channel, const std::string& name) {
    storage_jobs one;
    if (name[0] == 'a')
      one.emplace_back(channel, draft{}, append_handler([this, name](append_result) { answers += name + ' '; }));
    else
      one.emplace_back(channel, 0, read_limit{}, read_handler([this, name](read_result) { answers += name + ' '; }));
    names[&one.front()] = name;
    order.start(one, ready);
  }
  std::string may_run() {
    std::string out;
    for (auto& job : ready) out += names[&job] + ' ';
    return out;
  }
  /// The operation of that name is done.
  void finish(const std::string& name) {
    for (auto at = ready.begin(); at != ready.end(); ++at) {
      if (names[&*at] != name) continue;
      storage_jobs one;
      one.splice(one.end(), ready, at);
      order.release(one.front());
      one.front().what == storage_job::kind::append ? one.front().answer(append_result(position{"e", 1}))
                                                    : one.front().answer(read_result());
      return order.finish(one.front(), ready);
    }
    FAIL(name << " may not run");
  }
};

TEST_CASE("one operation of a channel runs at a time, in the order in which they were started") {
  rig<detail::run_together::none> r;
  for (auto name : {"a1", "r2", "a3", "a4"}) r.start("c", name);
  CHECK(r.may_run() == "a1 ");
  r.finish("a1");
  CHECK(r.may_run() == "r2 ");
  r.finish("r2");
  CHECK(r.may_run() == "a3 ");
  r.start("c", "r5");  // behind what waits
  r.finish("a3");
  r.finish("a4");
  CHECK(r.may_run() == "r5 ");
  r.finish("r5");
  CHECK(r.answers == "a1 r2 a3 a4 r5 ");
  CHECK(r.order.empty());
}

TEST_CASE("channels do not wait for one another") {
  rig<detail::run_together::none> r;
  r.start("c", "a1");
  r.start("d", "a2");
  r.start("c", "a3");
  CHECK(r.may_run() == "a1 a2 ");
  r.finish("a2");
  CHECK(r.may_run() == "a1 ");
  r.finish("a1");
  CHECK(r.may_run() == "a3 ");
  r.finish("a3");
  CHECK(r.order.empty());
}

TEST_CASE("where they may run together, appends wait for the reads before them and reads for the appends") {
  rig<detail::run_together::all> r;
  for (auto name : {"a1", "a2", "r3", "r4", "a5"}) r.start("c", name);
  CHECK(r.may_run() == "a1 a2 ");
  r.finish("a1");
  CHECK(r.may_run() == "a2 ");
  r.start("c", "a6");  // an append is running, but a read has been waiting for longer
  CHECK(r.may_run() == "a2 ");
  r.finish("a2");
  CHECK(r.may_run() == "r3 r4 ");
  r.finish("r3");
  r.finish("r4");
  CHECK(r.may_run() == "a5 a6 ");
  r.finish("a5");
  r.finish("a6");
  CHECK(r.answers == "a1 a2 r3 r4 a5 a6 ");
  CHECK(r.order.empty());
}

TEST_CASE("so many operations are taken, and so many bytes; a single one whatever its size") {
  rig<detail::run_together::none> probe;
  probe.start("c", "r1");
  const std::size_t size = probe.ready.front().size;
  CHECK(size > 1);

  rig<detail::run_together::none> by_count(2);
  CHECK_FALSE(by_count.order.full(SIZE_MAX));
  by_count.start("c", "r1");
  CHECK_FALSE(by_count.order.full(size));
  by_count.start("c", "r2");
  CHECK(by_count.order.full(1));
  by_count.finish("r1");
  CHECK_FALSE(by_count.order.full(size));

  rig<detail::run_together::none> by_bytes(100, 2 * size);
  by_bytes.start("c", "r1");
  CHECK_FALSE(by_bytes.order.full(size));
  CHECK(by_bytes.order.full(size + 1));
  by_bytes.start("c", "r2");
  CHECK_FALSE(by_bytes.order.full(0));
  CHECK(by_bytes.order.full(1));
  by_bytes.finish("r1");
  CHECK_FALSE(by_bytes.order.full(size));
  CHECK(by_bytes.order.full(size + 1));
  by_bytes.finish("r2");
  CHECK_FALSE(by_bytes.order.full(SIZE_MAX));

  rig<detail::run_together::none> small(100, size - 1);  // one is over the limit, alone
  CHECK_FALSE(small.order.full(size));
  small.start("c", "r1");
  CHECK(small.order.full(0));
  small.finish("r1");
  CHECK_FALSE(small.order.full(size));
}

TEST_CASE("a job counts all that it holds") {
  draft d{1, "from", "type", payload::text("data"), "key"};
  const std::size_t with = storage_job("channel", std::move(d), append_handler([](append_result) {})).size;
  const std::size_t without =
      storage_job("", draft{0, "", "", payload::text(""), ""}, append_handler([](append_result) {})).size;
  CHECK(with - without == std::string("channelfromtypedatakey").size());
}

TEST_CASE("what a handler throws does not reach whoever answers it") {
  storage_job append("c", draft{}, append_handler([](append_result) { throw 1; }));
  append.refuse(errc::overloaded);
  std::error_code heard;
  storage_job read("c", 0, read_limit{}, read_handler([&](read_result r) {
                     heard = r.error;
                     throw 1;
                   }));
  read.refuse(errc::overloaded);
  CHECK(heard == errc::overloaded);
  CHECK_FALSE(bool(read.done));  // it is gone, and with it what it held
}

TEST_CASE("whatever comes and ends in whatever order, each channel is served in order and nothing is left") {
  for (unsigned seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    rig<detail::run_together::all> r;
    std::map<std::string, std::vector<std::string>> started;
    int n = 0;
    for (int step = 0; step < 200 || !r.ready.empty(); ++step) {
      if (step < 200 && random() % 2) {
        const std::string channel(1, static_cast<char>('x' + random() % 3)),
            name = (random() % 2 ? "a" : "r") + channel + std::to_string(++n);
        started[channel].push_back(name);
        r.start(channel, name);
      } else if (!r.ready.empty()) {
        // The oldest of a channel: whoever runs several finishes them in order.
        auto at = std::next(r.ready.begin(), static_cast<std::ptrdiff_t>(random() % r.ready.size()));
        for (auto& job : r.ready)
          if (job.channel == at->channel) {
            r.finish(std::string(r.names[&job]));
            break;
          }
      }
    }
    CHECK(r.order.empty());
    std::map<std::string, std::string> heard, expected;
    for (auto& [channel, names] : started)
      for (auto& name : names) expected[channel] += name + ' ';
    for (std::size_t at = 0; at < r.answers.size();) {
      const std::string name = r.answers.substr(at, r.answers.find(' ', at) - at);
      heard[name.substr(1, 1)] += name + ' ';
      at += name.size() + 1;
    }
    CHECK(heard == expected);
  }
}

}  // namespace
