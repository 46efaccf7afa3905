// SPDX-License-Identifier: BSL-1.0
#include "hailwire/storage/blocking.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <stdexcept>

#include "catch.hpp"
#include "hailwire/storage/memory.hpp"
#include "hailwire/testing/storage_contract.hpp"
#include "storage/host_storage.hpp"

using namespace hailwire;

namespace {

/// Sees who calls it, and waits where it is told to.
struct watched_storage {
  std::mutex mutex;
  std::condition_variable moved;
  std::set<std::string> inside;
  std::size_t most = 0;
  bool overlapped = false, closed = false;
  host_storage log;

  append_result append(std::string_view channel, const draft& d) {
    std::unique_lock lock(mutex);
    if (!inside.insert(std::string(channel)).second) overlapped = true;
    most = std::max(most, inside.size());
    moved.notify_all();
    moved.wait(lock, [&] { return !closed; });
    lock.unlock();
    auto offset = log.append(channel, d);
    lock.lock();
    inside.erase(std::string(channel));
    return offset;
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    if (channel == "bad") throw std::runtime_error("bad");
    return log.read(channel, since, limit);
  }
  void close() {
    std::lock_guard lock(mutex);
    closed = true;
  }
  void open() {
    std::lock_guard lock(mutex);
    closed = false;
    moved.notify_all();
  }
  void wait_for(std::size_t channels) {
    std::unique_lock lock(mutex);
    moved.wait(lock, [&] { return inside.size() >= channels; });
  }
};

struct lone_storage : watched_storage {
  static constexpr bool single_threaded = true;
};

draft text(std::string bytes) { return {1, "", "", payload::text(std::move(bytes)), ""}; }

}  // namespace

TEST_CASE("a host's storage keeps the contract off the loop as it does on it, and answers in order") {
  auto outcomes =
      testing::storage_contract([] { return std::make_unique<blocking_storage<host_storage>>(blocking_options{}); });
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  std::size_t passed = 0;
  for (const auto& o : outcomes) passed += o.what == testing::verdict::passed;
  CHECK(passed == 14);
}

TEST_CASE("a storage that keeps keys and epochs keeps them off the loop") {
  auto outcomes =
      testing::storage_contract([] { return std::make_unique<blocking_storage<memory_storage>>(blocking_options{}); });
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  for (const auto& o : outcomes)
    if (o.name.find("key stores its message once") != o.name.npos || o.name.find("one step") != o.name.npos)
      CHECK(o.what == testing::verdict::passed);
}

TEST_CASE("channels are served at once on several threads, one channel never") {
  watched_storage storage;
  storage.close();
  std::atomic<int> answered = 0;
  {
    blocking_storage off_loop({.threads = 3}, storage);
    for (int i = 0; i < 30; ++i)
      off_loop.async_append("c" + std::to_string(i % 5), text("x"), [&](append_result) { ++answered; });
    storage.wait_for(3);
    CHECK(answered == 0);
    storage.open();
  }
  CHECK(answered == 30);
  CHECK(storage.most == 3);
  CHECK_FALSE(storage.overlapped);
}

TEST_CASE("a single-threaded storage is called by one thread alone") {
  lone_storage storage;
  {
    blocking_storage off_loop({.threads = 3}, storage);
    for (int i = 0; i < 300; ++i) off_loop.async_append("c" + std::to_string(i % 5), text("x"), [](append_result) {});
  }
  CHECK(storage.most == 1);
}

TEST_CASE("too many operations, or too many bytes, are refused at once and stored nowhere") {
  watched_storage storage;
  storage.close();
  int refused = 0;
  std::atomic<int> stored = 0;
  auto count = [&](append_result r) { r.error == errc::overloaded ? void(++refused) : void(++stored); };
  {
    blocking_storage off_loop({.threads = 1, .pending = 10, .pending_bytes = 1 << 20}, storage);
    SECTION("too many") {
      for (int i = 0; i < 25; ++i) off_loop.async_append("c", text("x"), count);
      CHECK(refused == 15);
    }
    SECTION("too large") {
      off_loop.async_append("c", text(std::string(2 << 20, 'x')), count);
      CHECK(refused == 0);
      off_loop.async_append("c", text("x"), count);
      CHECK(refused == 1);
    }
    storage.open();
  }
  CHECK(storage.log.read("c", 0, {}).head == static_cast<std::uint64_t>(stored));
}

TEST_CASE("an operation that is answered has left its room: with room for one, each answer may start the next") {
  watched_storage storage;
  std::atomic<int> stored = 0, refused = 0;
  {
    blocking_storage off_loop({.threads = 2, .pending = 1, .pending_bytes = 1}, storage);
    std::function<void(append_result)> next = [&](append_result r) {
      r.error ? ++refused : ++stored;
      if (stored < 50 && !r.error) off_loop.async_append("c", text("x"), next);
    };
    off_loop.async_append("c", text("x"), next);
    while (stored < 50 && refused == 0) std::this_thread::yield();
  }
  CHECK(refused == 0);
  CHECK(stored == 50);
}

TEST_CASE("what the storage or a handler throws stays within that one operation") {
  watched_storage storage;
  std::error_code error;
  std::uint64_t head = 0;
  {
    blocking_storage off_loop({.threads = 1}, storage);
    off_loop.async_read("bad", 0, {}, [&](read_result r) { error = r.error; });
    off_loop.async_append("c", text("x"), [](append_result) { throw std::runtime_error("mine"); });
    off_loop.async_append("c", text("x"), [](append_result) {});
    off_loop.async_read("c", 0, {}, [&](read_result r) { head = r.head; });
  }
  CHECK(error == errc::internal);
  CHECK(head == 2);
}

TEST_CASE("a handler may start operations, and one that comes while all is ending is aborted") {
  watched_storage storage;
  std::error_code late;
  storage.close();
  {
    blocking_storage off_loop({.threads = 2}, storage);
    auto* self = &off_loop;
    off_loop.async_append("c", text("x"), [&, self](append_result) {
      // The destructor has begun: nothing opens the storage before.
      while (!late)
        self->async_append("c", text("y"), [&](append_result r) {
          if (r.error == operation_aborted()) late = r.error;
        });
    });
    storage.wait_for(1);
    storage.open();
  }
  CHECK(late == operation_aborted());
}

namespace {

/// Takes appends together, waits where it is told to, and notes how many came in each call.
struct filled_storage : watched_storage {
  std::vector<std::size_t> calls;
  bool breaks = false, forgets_one = false;

  std::vector<append_result> append_all(std::span<const channel_draft> all) {
    std::unique_lock lock(mutex);
    if (!inside.insert("append_all").second) overlapped = true;
    calls.push_back(all.size());
    moved.notify_all();
    moved.wait(lock, [&] { return !closed; });
    inside.erase("append_all");
    if (breaks) throw std::runtime_error("the database is gone");
    std::vector<append_result> results;
    for (const auto& one : all) results.push_back(log.append(one.channel, one.message));
    if (forgets_one) results.pop_back();
    return results;
  }
};

/// Answers, in the order in which they came.
struct answers {
  std::mutex mutex;
  std::condition_variable came;
  std::vector<append_result> all;
  append_handler next() {
    return [this](append_result r) {
      std::lock_guard lock(mutex);
      all.push_back(std::move(r));
      came.notify_all();
    };
  }
  void wait_for(std::size_t n) {
    std::unique_lock lock(mutex);
    came.wait(lock, [&] { return all.size() >= n; });
  }
};

}  // namespace

TEST_CASE("what waits while a commit takes its time goes into the next one, in order") {
  filled_storage s;
  answers a;
  s.close();
  blocking_storage off_loop({}, s);
  off_loop.async_append("c", text("first"), a.next());
  s.wait_for(1);
  for (int i = 0; i < 2500; ++i) off_loop.async_append(i % 2 ? "c" : "d", text(std::to_string(i)), a.next());
  read_result read;
  bool was_read = false;
  off_loop.async_read("e", 0, {}, [&](read_result) {  // another channel's read does not wait for a commit
    std::lock_guard lock(a.mutex);
    was_read = true;
    a.came.notify_all();
  });
  {
    std::unique_lock lock(a.mutex);
    a.came.wait(lock, [&] { return was_read; });
    CHECK(a.all.empty());
  }
  s.open();
  a.wait_for(2501);
  CHECK(s.calls == std::vector<std::size_t>{1, 1000, 1000, 500});
  CHECK_FALSE(s.overlapped);
  std::uint64_t c = 0, d = 0;
  CHECK(a.all[0].offset == ++c);
  for (std::size_t i = 0; i < 2500; ++i) CHECK(a.all[i + 1].offset == (i % 2 ? ++c : ++d));
}

TEST_CASE("a read behind appends to its channel sees them, and appends behind it wait") {
  filled_storage s;
  answers a;
  s.close();
  blocking_storage off_loop({}, s);
  off_loop.async_append("c", text("1"), a.next());
  s.wait_for(1);
  off_loop.async_append("c", text("2"), a.next());
  std::uint64_t head = 0;
  off_loop.async_read("c", 0, {}, [&](read_result r) { head = r.head; });
  off_loop.async_append("c", text("3"), a.next());
  s.open();
  a.wait_for(3);
  CHECK(head == 2);
}

TEST_CASE(
    "a call that breaks, or answers for too few, is unknown for all that it was given, and the next one goes on") {
  for (bool breaks : {true, false}) {
    filled_storage s;
    answers a;
    (breaks ? s.breaks : s.forgets_one) = true;
    s.close();
    blocking_storage off_loop({}, s);
    off_loop.async_append("c", text("1"), a.next());
    s.wait_for(1);
    off_loop.async_append("c", text("2"), a.next());
    off_loop.async_append("d", text("3"), a.next());
    s.open();
    a.wait_for(3);
    for (const auto& r : a.all) CHECK(r.error == errc::internal);
    {
      std::lock_guard lock(s.mutex);
      s.breaks = s.forgets_one = false;
    }
    off_loop.async_append("c", text("4"), a.next());
    a.wait_for(4);
    CHECK_FALSE(a.all[3].error);
  }
}

TEST_CASE("a storage that is filled keeps the contract off the loop") {
  auto outcomes =
      testing::storage_contract([] { return std::make_unique<blocking_storage<filled_storage>>(blocking_options{}); });
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
}
