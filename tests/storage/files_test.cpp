// SPDX-License-Identifier: BSL-1.0
#include "hailwire/storage/files.hpp"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/storage/blocking.hpp"
#include "hailwire/testing/storage_contract.hpp"
#include "storage/temporary.hpp"

using namespace hailwire;
using testing::verdict;

namespace {

std::atomic<std::int64_t> clock_now{1'764'000'000'000};

/// What outlives a storage in these fixtures: its directory.
struct place {
  std::shared_ptr<temporary> directory;
  files_options fresh() {
    directory = std::make_shared<temporary>();
    return same();
  }
  files_options same() const {
    files_options o;
    o.directory = directory->file("content");
    o.durability = durability::off;
    o.steady = [] { return clock_now.load(); };
    return o;
  }
  std::int64_t now() const { return clock_now; }
  void advance(std::chrono::milliseconds time) { clock_now += time.count(); }
};

memory_options memory_keeping(testing::retention keep) {
  memory_options o;
  if (keep.messages) o.messages = keep.messages;
  if (keep.bytes) o.bytes = keep.bytes;
  o.age = keep.age;
  o.clock = o.steady = [] { return clock_now.load(); };
  return o;
}

struct beside_memory : place {
  using storage = files_storage<std::shared_ptr<memory_storage>>;
  std::shared_ptr<memory_storage> log;  // outlives the storage, so that a restart can be tried
  std::unique_ptr<storage> open(testing::retention keep = {0, 0, std::chrono::seconds(0)}) {
    log = std::make_shared<memory_storage>(memory_keeping(keep));
    return std::make_unique<storage>(fresh(), log);
  }
  std::unique_ptr<storage> reopen() { return std::make_unique<storage>(same(), log); }
};

struct beside_sqlite : place {
  using storage = files_storage<std::unique_ptr<sqlite_storage>>;
  testing::retention keep;
  std::unique_ptr<storage> open(testing::retention r = {0, 0, std::chrono::seconds(0)}) {
    keep = r;
    auto files = fresh();
    return at(files);
  }
  std::unique_ptr<storage> reopen() { return at(same()); }
  std::unique_ptr<storage> at(const files_options& files) const {
    sqlite_options o;
    o.durability = durability::off;
    if (keep.messages) o.messages = keep.messages;
    if (keep.bytes) o.bytes = keep.bytes;
    o.age = keep.age;
    o.clock = o.steady = [] { return clock_now.load(); };
    return std::make_unique<storage>(files, ::open(directory->file(), o));
  }
};

struct beside_blocking : place {
  using log = blocking_storage<memory_storage>;
  using storage = files_storage<std::unique_ptr<log>>;
  std::unique_ptr<storage> open(testing::retention keep = {0, 0, std::chrono::seconds(0)}) {
    return std::make_unique<storage>(fresh(), std::make_unique<log>(blocking_options(), memory_keeping(keep)));
  }
};

struct run_by_blocking : place {
  using files = files_storage<std::shared_ptr<memory_storage>>;
  using storage = blocking_storage<files>;
  std::unique_ptr<storage> open(testing::retention keep = {0, 0, std::chrono::seconds(0)}) {
    return std::make_unique<storage>(blocking_options(), fresh(),
                                     std::make_shared<memory_storage>(memory_keeping(keep)));
  }
};

template <class Fixture>
std::string not_offered(Fixture f) {
  auto outcomes = testing::storage_contract(f);
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  std::string out;
  for (const auto& o : outcomes)
    if (o.what == verdict::not_offered && o.name.starts_with("content ")) out += o.name + '\n';
  return out;
}

/// Files that break one promise.
enum class fault { none, takes_any_offset, reads_one_off, forgets_keys, has_no_limits, names_anything, keeps_erased };
struct broken : beside_memory::storage {
  using whole = beside_memory::storage;
  broken(const files_options& o, std::shared_ptr<memory_storage> l, fault f) : whole(o, l), log(std::move(l)), of(f) {}
  std::shared_ptr<memory_storage> log;
  fault of;
  append_result append(std::string_view channel, const draft& d) {
    append_result r = whole::append(channel, d);
    if (!r.error || of != fault::names_anything || !d.content) return r;
    draft bare = d;
    bare.content = nullptr;
    return whole::append(channel, bare);
  }
  append_result append(const memory_storage::place&, std::string_view channel, const draft& d) {
    return append(channel, d);
  }
  append_result erase(std::string_view channel, const position& at, const draft& d) {
    return of == fault::keeps_erased ? log->erase(channel, at, d) : whole::erase(channel, at, d);
  }
  void async_open_content(upload u, content_limits limits, upload_handler done) {
    if (of == fault::forgets_keys) u.key.clear();
    if (of == fault::has_no_limits) limits = {};
    whole::async_open_content(std::move(u), limits, std::move(done));
  }
  void async_write_content(std::string_view id, std::uint64_t offset, std::string bytes, upload_handler done) {
    whole::async_write_content(id, offset, std::move(bytes), [this, done = std::move(done)](upload_result r) mutable {
      if (of == fault::takes_any_offset && r.error == errc::conflict) r.error = {};
      done(std::move(r));
    });
  }
  void async_read_content(std::string_view id, std::uint64_t from, std::size_t size, content_handler done) {
    whole::async_read_content(id, from + (of == fault::reads_one_off && from > 0), size, std::move(done));
  }
};
struct broken_fixture : place {
  fault of;
  std::unique_ptr<broken> open() {
    return std::make_unique<broken>(fresh(), std::make_shared<memory_storage>(memory_keeping({})), of);
  }
};

std::size_t files_in(const std::string& directory) {
  std::size_t n = 0;
  for (auto& one : std::filesystem::directory_iterator(directory)) n += one.is_regular_file();
  return n;
}

}  // namespace

TEST_CASE("files beside memory keep the storage contract, over restarts of the files too") {
  CHECK(not_offered(beside_memory()).empty());
}

TEST_CASE("files beside SQLite keep the storage contract") { CHECK(not_offered(beside_sqlite()).empty()); }

TEST_CASE("files beside a storage off the loop, and run off the loop, keep the storage contract") {
  const std::string restarts = "content that messages name is there after a restart, and no other\n";
  CHECK(not_offered(beside_blocking()) == restarts);
  CHECK(not_offered(run_by_blocking()) == restarts);
}

TEST_CASE("the contract catches files that break a single promise") {
  const std::pair<fault, const char*> list[] = {
      {fault::takes_any_offset, "content arrives"},
      {fault::reads_one_off, "content arrives"},
      {fault::forgets_keys, "content has a key"},
      {fault::has_no_limits, "content is bounded"},
      {fault::names_anything, "content is named"},
      {fault::keeps_erased, "content goes with its message when that is erased"},
      {fault::none, nullptr},
  };
  for (const auto& [of, owed] : list) {
    std::string failed;
    broken_fixture f;
    f.of = of;
    for (const auto& o : testing::storage_contract(f))
      if (o.what == verdict::failed) failed += o.name + '\n';
    CAPTURE(failed, static_cast<int>(of));
    if (owed) {
      CHECK(failed.find(owed) == 0);
    } else {
      CHECK(failed.empty());
    }
  }
}

TEST_CASE("a directory belongs to one storage at a time") {
  place p;
  memory_storage log;
  const files_options o = p.fresh();
  {
    files_storage one(o, log);
    CHECK_THROWS_AS((files_storage<memory_storage&>(o, log)), std::system_error);
  }
  CHECK_NOTHROW(files_storage<memory_storage&>(o, log));
  files_options nowhere = o;
  nowhere.directory = p.directory->file("no/such/place");
  CHECK_THROWS_AS((files_storage<memory_storage&>(nowhere, log)), std::system_error);
}

TEST_CASE("what a crash has left that no message names goes at the start, and nothing else") {
  place p;
  memory_storage log;
  const files_options o = p.fresh();
  auto ask = [](auto start) {
    upload_result out;
    std::mutex m;
    std::condition_variable cv;
    bool done = false;
    start([&](upload_result r) {
      std::lock_guard lock(m);
      out = std::move(r);
      done = true;
      cv.notify_all();
    });
    std::unique_lock lock(m);
    cv.wait(lock, [&] { return done; });
    return out;
  };
  std::string named, hinted;
  {
    files_storage s(o, log);
    auto whole = [&] {
      auto u = ask([&](upload_handler h) { s.async_open_content({{}, "ada", "c", "a/b", {}}, {}, std::move(h)); });
      ask([&](upload_handler h) { s.async_write_content(u.state.id, 0, "abc", std::move(h)); });
      ask([&](upload_handler h) { s.async_commit_content(u.state.id, std::move(h)); });
      return u.state.id;
    };
    auto name = [&](const std::string& id) {
      draft d;
      d.data = payload::json("1");
      d.content = std::make_shared<const content_reference>(content_reference{id, 3, "a/b"});
      CHECK_FALSE(s.append("c", d).error);
    };
    named = whole(), hinted = whole();
    name(named), name(hinted);
    whole();
    for (int i = 0; i < 300; ++i) CHECK_FALSE(s.append("c", draft{0, "", "", payload::json("2"), {}}).error);
    CHECK(s.content_counts() == std::pair<std::size_t, std::size_t>(2, 1));
  }
  // A crash came before the note of where its message stands.
  std::fstream file(o.directory + '/' + named, std::ios::in | std::ios::out | std::ios::binary);
  std::string head(1024, '\0');
  file.read(head.data(), 1024);
  const auto at = head.find(" 1\n", 30);
  REQUIRE(at != head.npos);
  file.seekp(static_cast<std::streamoff>(at));
  file.write(" 0\n", 3);
  file.close();
  std::ofstream(o.directory + "/torn") << "hailwire con";
  std::ofstream(o.directory + "/not.ours") << "left alone";
  CHECK(files_in(o.directory) == 5);
  files_storage again(o, log);
  CHECK(files_in(o.directory) == 3);
  CHECK(again.content_counts() == std::pair<std::size_t, std::size_t>(2, 0));
  CHECK(std::filesystem::exists(o.directory + '/' + named));
  CHECK(std::filesystem::exists(o.directory + '/' + hinted));
  // Of a log that has begun anew no message names anything.
}

TEST_CASE("files whose log has begun anew go") {
  place p;
  const files_options o = p.fresh();
  {
    memory_storage log;
    files_storage s(o, log);
    std::ofstream(o.directory + "/abc") << "hailwire content 1\ncomplete 0\nc\na/b\ne 1\n" << std::string(1024, ' ');
  }
  memory_storage log;
  files_storage s(o, log);
  CHECK(files_in(o.directory) == 0);
}

TEST_CASE("a storage has content in whichever form, and its errors are its own") {
  CHECK(content_storage<files_storage<memory_storage&>>);
  CHECK_FALSE(content_storage<memory_storage>);
  CHECK_FALSE(content_storage<blocking_storage<memory_storage>>);
  CHECK(content_storage<blocking_storage<files_storage<memory_storage&>>>);
  CHECK(synchronous_storage<files_storage<memory_storage&>>);
  CHECK(asynchronous_storage<files_storage<sqlite_storage&>>);
  CHECK_FALSE(synchronous_storage<files_storage<sqlite_storage&>>);
  for (auto id : {"", "a/b", "..", "a.b", "a b"}) CHECK_FALSE(valid_content_id(id));
  CHECK(valid_content_id(std::string(64, 'a')));
  CHECK_FALSE(valid_content_id(std::string(65, 'a')));
  CHECK(valid_content_id("A-z_0"));
}
