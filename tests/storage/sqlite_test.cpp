// SPDX-License-Identifier: BSL-1.0
#include "hailwire/storage/sqlite.hpp"

#include <sys/wait.h>

#include <csignal>
#include <functional>
#include <set>

#include "catch.hpp"
#include "hailwire/testing/storage_contract.hpp"
#include "storage/temporary.hpp"

using namespace hailwire;

namespace {

struct sqlite_fixture {
  hailwire::durability durability;
  std::unique_ptr<temporary> directory;
  sqlite_options options;
  std::weak_ptr<sqlite_storage> last = {};

  std::shared_ptr<sqlite_storage> open(testing::retention keep) {
    directory = std::make_unique<temporary>();
    options = {};
    options.durability = durability;
    options.messages = keep.messages;
    options.bytes = keep.bytes;
    options.age = keep.age;
    options.clock = options.steady = &test_clock;
    return reopen();
  }
  std::shared_ptr<sqlite_storage> open() { return open({}); }
  std::shared_ptr<sqlite_storage> reopen() {
    std::shared_ptr<sqlite_storage> s = ::open(directory->file(), options);
    last = s;
    return s;
  }
  std::shared_ptr<sqlite_storage> share() { return last.lock(); }  // one file has one storage, and several handles
  std::int64_t now() const { return test_now; }
  void advance(std::chrono::milliseconds time) { test_now += time.count(); }
};

std::string why_not(const std::string& path, const sqlite_options& options = {}) {
  auto s = sqlite_storage::open(path, options);
  return s ? "opened" : std::string(code_name(s.error().code)) + ": " + std::string(s.error().text());
}
bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

void run(const std::string& path, const char* sql) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  char* error = nullptr;
  int code = sqlite3_exec(db, sql, nullptr, nullptr, &error);
  INFO((error ? error : ""));
  sqlite3_close(db);
  REQUIRE(code == SQLITE_OK);
}

/// What a machine that stops, or a process that is killed, leaves of a file that is in use: with its -wal or without.
struct left_behind {
  std::string path, file, wal;
  explicit left_behind(const std::string& p) : path(p), file(contents(p)), wal(contents(p + "-wal")) {}
  /// Puts it where it was, once the storage is closed: it is still the same file, and the same -wal.
  void put_back(bool with_wal = true) const {
    std::ofstream(path, std::ios::binary) << file;
    if (!with_wal) return;
    std::ofstream(path + "-wal", std::ios::binary) << wal;
    sqlite3* db = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    auto name = "UPDATE meta SET wal = '" + detail::file_identity(path + "-wal") + "'";
    CHECK(sqlite3_exec(db, name.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(db);
    std::filesystem::remove(path + "-shm");
  }
};

std::set<std::string> names_in(const std::filesystem::path& directory) {
  std::set<std::string> out;
  for (auto& entry : std::filesystem::directory_iterator(directory)) out.insert(entry.path().filename().string());
  return out;
}

}  // namespace

TEST_CASE("sqlite keeps the whole storage contract, at each durability") {
  auto level = GENERATE(durability::full, durability::normal, durability::off);
  auto outcomes = testing::storage_contract(sqlite_fixture{level, nullptr, {}});
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  // All but content, which lies beside a log: files_storage.
  for (const auto& o : outcomes) CHECK((o.what == testing::verdict::passed) != o.name.starts_with("content "));
}

TEST_CASE("sqlite keeps messages, epochs and keys over restarts, and leaves one file behind") {
  temporary dir;
  std::string epoch, silent;
  for (int life = 0; life < 3; ++life) {
    auto s = open(dir.file());
    auto r = append(*s, "chat", "message " + std::to_string(life), "key " + std::to_string(life));
    CHECK(r.offset == static_cast<std::uint64_t>(life) + 1);
    if (life == 0) epoch = r.epoch, silent = read(*s, "silent").epoch;
    CHECK(r.epoch == epoch);
    CHECK(read(*s, "silent").epoch == silent);
    CHECK(append(*s, "chat", "message 0", "key 0").duplicate);
    CHECK(append(*s, "chat", "message 1", "key 0").error == errc::conflict);
    s.reset();
    CHECK(names_in(dir.path()) == std::set<std::string>{"log.db"});
  }
}

TEST_CASE("what was taken back is in the file no more, in no page and behind no row") {
  temporary dir;
  // A row in its page, one cut in two, and one that goes on in pages of its own; each beside neighbours that stay.
  const std::size_t size = GENERATE(std::size_t{20}, std::size_t{2100}, std::size_t{100'000});
  CAPTURE(size);
  const std::string secret = "taken back", kept = "kept for ever";
  auto filled_with = [&](const std::string& word) {
    std::string out;
    while (out.size() < size) out += word + ' ';
    return out;
  };
  auto s = open(dir.file());
  for (int i = 0; i < 3; ++i) append(*s, "c", filled_with(kept));
  draft d{1, "ada", secret, payload::binary(filled_with(secret), "image/" + secret), "key"};
  d.content = std::make_shared<const content_reference>(content_reference{"id", 7, secret});
  REQUIRE(append(*s, "c", d).offset == 4);
  for (int i = 0; i < 3; ++i) append(*s, "c", filled_with(kept));
  auto p = std::make_shared<testing::detail::pending<append_result>>();
  s->async_erase("c", position{read(*s, "c").epoch, 4}, draft{2, "ada", "", {}, ""},
                 testing::detail::pending<append_result>::handler(p));
  CHECK(p->wait().offset == 8);
  CHECK(read(*s, "c").messages.at(3).erased);
  CHECK_FALSE(has(contents(dir.file()), secret));  // already while it is in use
  s.reset();
  const std::string file = contents(dir.file());
  CHECK_FALSE(has(file, secret));
  CHECK(has(file, kept));
  CHECK(names_in(dir.path()) == std::set<std::string>{"log.db"});
}

TEST_CASE("a message in a file keeps the content that it names, and trimming takes its note along") {
  temporary dir;
  sqlite_options options;
  options.messages = 10;
  auto s = open(dir.file(), options);
  draft d{1, "ada", "picture", payload::text("caption"), ""};
  d.content = std::make_shared<const content_reference>(content_reference{"id-1", std::uint64_t{1} << 40, "image/png"});
  for (int i = 0; i < 100; ++i) append(*s, "c", d);
  auto log = read(*s, "c");
  REQUIRE(log.messages.size() < 100);
  for (const message& m : log.messages) {
    REQUIRE(m.content);
    CHECK(*m.content == *d.content);
    CHECK(m.data == d.data);
  }
  s.reset();
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(dir.file().c_str(), &db) == SQLITE_OK);
  auto count = [&](const char* sql) {
    sqlite3_stmt* one = nullptr;
    REQUIRE(sqlite3_prepare_v2(db, sql, -1, &one, nullptr) == SQLITE_OK);
    REQUIRE(sqlite3_step(one) == SQLITE_ROW);
    int n = sqlite3_column_int(one, 0);
    sqlite3_finalize(one);
    return n;
  };
  CHECK(count("SELECT count(*) FROM notes") == count("SELECT count(*) FROM messages"));
  sqlite3_close(db);
}

TEST_CASE("sqlite refuses watermarks and tokens over their limits, and serves the others") {
  temporary dir;
  sqlite_options options;
  options.watermarks = options.tokens = 2;
  auto s = open(dir.file(), options);
  const std::string epoch = append(*s, "c", "x").epoch;
  auto mark = [&](const char* user) {
    auto p = std::make_shared<testing::detail::pending<mark_result>>();
    s->async_mark("c", {user, "", epoch, {1, 0, 0}, 1}, testing::detail::pending<mark_result>::handler(p));
    return p->wait().error;
  };
  auto keep = [&](const char* user, const char* token) {
    auto p = std::make_shared<testing::detail::pending<tokens_result>>();
    s->async_keep_token({user, "d", "web", token, "", 1}, testing::detail::pending<tokens_result>::handler(p));
    return p->wait().error;
  };
  for (int life = 0; life < 2; ++life) {
    for (const char* user : {"a", "b"}) {
      CHECK_FALSE(mark(user));
      CHECK_FALSE(keep(user, user));
    }
    CHECK(mark("c") == errc::overloaded);
    CHECK(keep("c", "c") == errc::overloaded);
    CHECK_FALSE(keep("a", "another"));
    CHECK_FALSE(keep("a", "a"));
    s.reset();
    s = open(dir.file(), options);
  }
}

TEST_CASE("sqlite drops what is too old for its own channel, though nobody touches it") {
  temporary dir;
  sqlite_options options;
  options.clock = &test_clock;
  draft d{test_now, "", "", payload::text("x"), ""};
  d.keep.age = std::chrono::seconds(60);
  {
    auto s = open(dir.file(), options);
    append(*s, "aged", d);
    append(*s, "plain", "x");
  }
  test_now += 1'000'000;
  auto s = open(dir.file(), options);  // the first look at all channels follows at once, and goes by what the file says
  bool dropped = false;
  for (int i = 0; i < 10'000 && !dropped; ++i) dropped = read(*s, "aged").oldest == 2;
  CHECK(dropped);
  CHECK(read(*s, "plain").oldest == 1);
}

TEST_CASE("sqlite tells apart why a file cannot be opened, and leaves it as it was") {
  temporary dir;
  std::string path = dir.file();
  auto unchanged = [&](std::string_view reason) {
    auto before = contents(path);
    auto names = names_in(dir.path());
    CHECK(has(why_not(path), reason));
    CHECK(why_not(path) == why_not(path));
    CHECK(contents(path) == before);
    CHECK(names_in(dir.path()) == names);
  };
  SECTION("a text file") {
    std::ofstream(path) << "Dear diary, this is no data base, but it is long enough to have a header of a hundred "
                           "bytes or so, I think.";
    unchanged("unsupported_media: " + path + " is not a SQLite file");
  }
  SECTION("a short text file") {
    std::ofstream(path) << "hello";
    unchanged("unsupported_media: " + path + " is not a SQLite file");
  }
  SECTION("another program's file") {
    run(path, "CREATE TABLE messages(id INTEGER PRIMARY KEY, text); INSERT INTO messages VALUES(1, 'x')");
    unchanged("is a SQLite file, but not one of hailwire's");
  }
  SECTION("another program's file in WAL mode") {
    run(path, "PRAGMA journal_mode = WAL; CREATE TABLE messages(id INTEGER PRIMARY KEY, text)");
    unchanged("is a SQLite file, but not one of hailwire's");
  }
  SECTION("a newer version") {
    open(path);
    run(path, "PRAGMA user_version = 4");
    unchanged("not_implemented: " + path + " has version 4; this hailwire reads up to version 3");
  }
  SECTION("a missing table") {
    open(path);
    run(path, "DROP TABLE meta");
    unchanged("internal: " + path + " is damaged");
  }
  SECTION("a missing row") {
    open(path);
    run(path, "DELETE FROM meta");
    unchanged("internal: " + path + " is damaged");
  }
  SECTION("damaged pages") {
    auto s = open(path);
    for (int i = 0; i < 100; ++i) append(*s, "c", std::string(1000, 'x'));
    s.reset();
    auto bytes = contents(path);
    for (std::size_t i = bytes.size() / 2; i < bytes.size() / 2 + 8192; ++i) bytes[i] = static_cast<char>(i * 31);
    std::ofstream(path, std::ios::binary) << bytes;
    unchanged("internal: " + path + " is damaged");
  }
  SECTION("a truncated file") {
    auto s = open(path);
    for (int i = 0; i < 100; ++i) append(*s, "c", std::string(1000, 'x'));
    s.reset();
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    unchanged("internal: " + path + " is damaged");
  }
  SECTION("no file at all, in a folder that is not there") {
    CHECK(has(why_not(dir.file("nowhere/log.db")), "No such file"));
    CHECK(has(why_not(""), "needs a file"));
    CHECK(has(why_not(":memory:"), "needs a file"));
  }
  SECTION("a folder") { CHECK(has(why_not(dir.path().string()), "internal: ")); }
}

TEST_CASE("sqlite makes a file of an empty one, whatever its name") {
  temporary dir;
  std::string path = dir.file("a ?b#c%20d&immutable=1.db");
  std::ofstream(path).close();
  CHECK(append(*open(path), "c", "x").offset == 1);
  CHECK(read(*open(path), "c").head == 1);
}

TEST_CASE("a file in use is refused to a second storage of this process and of any other, until it is closed") {
  temporary dir;
  std::string path = dir.file();
  auto s = open(path);
  append(*s, "c", "x");
  CHECK(why_not(path) == "conflict: " + path + " is in use: another storage has it open");
  pid_t child = ::fork();
  if (child == 0) ::_exit(why_not(path) == "conflict: " + path + " is in use: another storage has it open" ? 0 : 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(append(*s, "c", "y").offset == 2);
  s.reset();
  CHECK(why_not(path) == "opened");
}

TEST_CASE(
    "a process that is killed loses nothing that was acknowledged, at any durability, and its file is free again") {
  auto level = GENERATE(durability::full, durability::normal, durability::off);
  temporary dir;
  sqlite_options options;
  options.durability = level;
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  pid_t child = ::fork();
  if (child == 0) {
    auto s = open(dir.file(), options);
    for (std::uint64_t i = 1;; ++i) {
      auto r = append(*s, "c", "message " + std::to_string(i));
      if (r.error || ::write(pipe[1], &i, sizeof i) != sizeof i) ::_exit(1);
    }
  }
  ::close(pipe[1]);
  std::uint64_t acknowledged = 0, next = 0;
  while (acknowledged < 100 && ::read(pipe[0], &next, sizeof next) == sizeof next) acknowledged = next;
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  while (::read(pipe[0], &next, sizeof next) == sizeof next) acknowledged = next;
  ::close(pipe[0]);
  CHECK(acknowledged >= 100);

  auto s = open(dir.file(), options);
  auto r = read(*s, "c");
  CHECK(r.head >= acknowledged);
  CHECK(r.head <= acknowledged + 1);
  CHECK(r.messages.size() == r.head);
  for (const message& m : r.messages) CHECK(m.data.bytes() == "message " + std::to_string(m.offset));
}

TEST_CASE("after an unclean end the epochs are new on another boot at less than full, and only then") {
  auto level = GENERATE(durability::full, durability::normal, durability::off);
  bool clean = GENERATE(true, false), another = GENERATE(true, false);
  temporary dir;
  sqlite_options options;
  options.durability = level;
  options.boot = "monday";
  std::string epoch, other, path = dir.file();
  {
    auto s = open(path, options);
    epoch = append(*s, "c", "x", "key").epoch;
    other = read(*s, "other").epoch;
    left_behind left(path);  // provided that the kernel had written everything
    s.reset();
    if (!clean) left.put_back();
  }
  if (another) options.boot = "tuesday";
  bool renewed = !clean && another && level != durability::full;
  CAPTURE(static_cast<int>(level), clean, another);
  {
    auto s = open(path, options);
    auto r = read(*s, "c");
    CHECK((r.epoch != epoch) == renewed);
    CHECK((read(*s, "other").epoch != other) == renewed);
    CHECK(valid_epoch(r.epoch));
    CHECK(r.messages.size() == 1);
    epoch = r.epoch;
    auto again = append(*s, "c", "x", "key");
    CHECK(again.duplicate);
    CHECK(again.epoch == epoch);
  }
  CHECK(read(*open(path, options), "c").epoch == epoch);
}

TEST_CASE("a boot that has no name counts as another") {
  temporary dir;
  sqlite_options options;
  options.durability = durability::normal;
  options.boot = "";
  auto s = open(dir.file(), options);
  std::string epoch = append(*s, "c", "x").epoch;
  left_behind left(dir.file());
  s.reset();
  left.put_back();
  CHECK(read(*open(dir.file(), options), "c").epoch != epoch);
}

TEST_CASE("a file whose -wal was lost after an unclean end has new epochs; with its -wal it has the old ones") {
  auto level = GENERATE(durability::full, durability::normal, durability::off);
  bool lost = GENERATE(true, false), published = GENERATE(true, false);
  temporary dir;
  sqlite_options options;
  options.durability = level;
  auto s = open(dir.file(), options);
  std::string epoch = published ? append(*s, "c", "x").epoch : read(*s, "c").epoch;
  left_behind left(dir.file());
  s.reset();
  left.put_back(!lost);
  CAPTURE(static_cast<int>(level), lost, published);
  CHECK((read(*open(dir.file(), options), "c").epoch != epoch) == lost);
}

TEST_CASE("a queue that is full refuses at once and stores nothing; what it took is kept") {
  temporary dir;
  sqlite_options options;
  options.pending = 100;
  auto s = open(dir.file(), options);
  std::mutex mutex;
  std::size_t stored = 0, refused = 0;
  std::mutex gate;  // holds the writer in its first handler, so that nothing is taken from the queue
  std::unique_lock hold(gate);
  std::atomic<bool> inside = false;
  s->async_append("c", draft{1, "", "", payload::text("first"), ""}, [&](append_result) {
    inside = true;
    std::lock_guard wait(gate);
  });
  while (!inside) std::this_thread::yield();
  for (int i = 0; i < 150; ++i) {
    s->async_append("c", draft{1, "", "", payload::text("x"), ""}, [&](append_result r) {
      std::lock_guard lock(mutex);
      ++(r.error == errc::overloaded ? refused : stored);
    });
  }
  {
    std::lock_guard lock(mutex);
    CHECK(refused == 50);  // the first, being answered, has left its room
    CHECK(stored == 0);
  }
  std::error_code read_refused;
  s->async_read("c", 0, {}, [&](read_result r) { read_refused = r.error; });
  CHECK(read_refused == errc::overloaded);
  hold.unlock();
  s.reset();
  CHECK(stored == 100);
  CHECK(read(*open(dir.file()), "c").head == 101);
}

TEST_CASE("a queue that holds too many bytes refuses at once, but takes a single large message") {
  temporary dir;
  sqlite_options options;
  options.pending_bytes = 1 << 20;
  auto s = open(dir.file(), options);
  CHECK(append(*s, "c", std::string(3 << 20, 'x')).offset == 1);
  std::mutex gate;
  std::unique_lock hold(gate);
  std::atomic<bool> inside = false;
  s->async_append("c", draft{1, "", "", payload::text("first"), ""}, [&](append_result) {
    inside = true;
    std::lock_guard wait(gate);
  });
  while (!inside) std::this_thread::yield();
  std::error_code first, second;
  s->async_append("c", draft{1, "", "", payload::text(std::string(700'000, 'x')), ""},
                  [&](append_result r) { first = r.error; });
  s->async_append("c", draft{1, "", "", payload::text(std::string(700'000, 'x')), ""},
                  [&](append_result r) { second = r.error; });
  CHECK(second == errc::overloaded);
  hold.unlock();
  s.reset();
  CHECK(!first);
}

TEST_CASE(
    "an operation that is answered has left its room in the queue: with room for one, each answer may start the next") {
  temporary dir;
  sqlite_options options;
  options.pending = 1;
  options.pending_bytes = 1;
  options.durability = durability::off;
  std::atomic<int> answered = 0, refused = 0;
  auto s = open(dir.file(), options);
  std::function<void(std::error_code)> next = [&](std::error_code error) {
    error ? ++refused : ++answered;
    if (error || answered >= 50) return;
    if (answered % 2)
      s->async_append("c", draft{1, "", "", payload::text("x"), ""}, [&](append_result r) { next(r.error); });
    else
      s->async_read("c", 0, {}, [&](read_result r) { next(r.error); });
  };
  s->async_read("c", 0, {}, [&](read_result r) { next(r.error); });
  while (answered < 50 && refused == 0) std::this_thread::yield();
  s.reset();
  CHECK(refused == 0);
  CHECK(answered == 50);
}

TEST_CASE("sqlite refuses channels and keys over their limits, and serves the others") {
  temporary dir;
  sqlite_options options;
  options.channels = 2;
  options.keys = 2;
  options.steady = &test_clock;
  for (int life = 0; life < 2; ++life) {
    auto s = open(dir.file(), options);
    CHECK(append(*s, "a", "x", "1").duplicate == (life == 1));
    CHECK(append(*s, "b", "x", "2").duplicate == (life == 1));
    CHECK(append(*s, "c", "x").error == errc::overloaded);
    CHECK(append(*s, "a", "x", "3").error == errc::overloaded);
    CHECK(append(*s, "a", "x").offset == static_cast<std::uint64_t>(life) + 2);
  }
  auto s = open(dir.file(), options);
  test_now += 300'001;
  CHECK(append(*s, "a", "y", "1").offset == 4);
  CHECK(append(*s, "a", "y", "3").offset == 5);
  CHECK(append(*s, "a", "y", "4").error == errc::overloaded);
}

TEST_CASE("sqlite drops what is too old in channels that nobody touches") {
  temporary dir;
  sqlite_options options;
  options.clock = &test_clock;
  options.age = std::chrono::seconds(60);
  {
    auto s = open(dir.file(), options);
    for (int i = 0; i < 10; ++i) append(*s, "silent " + std::to_string(i), "x");
  }
  test_now += 70'000;
  auto s = open(dir.file(), options);  // it looks around when it is opened, too
  append(*s, "busy", "x");
  append(*s, "busy", "y");
  for (int i = 0; i < 10; ++i) {
    auto r = read(*s, "silent " + std::to_string(i));
    CHECK(r.messages.empty());
    CHECK(r.oldest == 2);
    CHECK(r.head == 1);
  }
  s.reset();
  s = open(dir.file(), options);
  CHECK(read(*s, "silent 3").head == 1);
  CHECK(append(*s, "silent 3", "y").offset == 2);
}

TEST_CASE("a limit that was lowered is reached in steps, while appends go on") {
  temporary dir;
  {
    auto s = open(dir.file());
    for (int i = 0; i < 20; ++i) {
      std::atomic<int> left = 250;
      for (int k = 0; k < 250; ++k)
        s->async_append("c", draft{1, "", "", payload::text("x"), ""}, [&](append_result) { --left; });
      while (left) std::this_thread::yield();
    }
    CHECK(read(*s, "c").head == 5000);
  }
  sqlite_options options;
  options.messages = 100;
  auto s = open(dir.file(), options);
  CHECK(append(*s, "c", "y").offset == 5001);
  auto first = read(*s, "c", 0, {1, 1}).oldest;
  CHECK(first >= 513);  // one step a transaction
  // The rest without another append; the look at all channels after the start may have begun before this one.
  while (read(*s, "c", 0, {1, 1}).oldest < 4901) std::this_thread::yield();
  auto left = read(*s, "c").messages.size();
  CHECK(left >= 100);
  CHECK(left <= 101);
}

TEST_CASE("the file is at most half as large again as its payloads and 40 bytes each") {
  auto channels = GENERATE(1, 50);
  for (std::size_t size : {0u, 10u, 64u, 200u, 500u, 1000u, 1400u, 2000u, 2040u, 2300u, 2700u, 2790u, 2830u, 3000u,
                           4100u, 5000u, 8200u, 20'000u, 100'000u}) {
    temporary dir;
    sqlite_options options;
    options.durability = durability::off;
    std::size_t count = size < 1000 ? 20'000 : 6'000'000 / size;
    std::atomic<std::size_t> left = count;
    {
      auto s = open(dir.file(), options);
      std::string text(size, 'x');
      for (std::size_t i = 0; i < count; ++i) {
        while (count - i + 4000 < left) std::this_thread::yield();
        s->async_append("channel " + std::to_string(i * 7919 % static_cast<std::size_t>(channels)),
                        draft{1'764'000'000'000, "", "", payload::text(text), ""}, [&](append_result) { --left; });
      }
      while (left) std::this_thread::yield();
      std::size_t found = 0;
      for (int c = 0; c < channels; ++c)
        for (const message& m : read(*s, "channel " + std::to_string(c)).messages) found += m.data.bytes() == text;
      CHECK(found == count);
    }
    auto ratio = static_cast<double>(std::filesystem::file_size(dir.file())) / static_cast<double>(count * (size + 40));
    CAPTURE(channels, size, ratio);
    CHECK(ratio <= 1.5);
  }
}

TEST_CASE("another program that writes into a channel costs the publish that collides, and no more") {
  temporary dir;
  auto s = open(dir.file());
  CHECK(append(*s, "c", "x").offset == 1);
  run(dir.file(),
      "INSERT INTO messages SELECT id + 1, at, kind, before + 1, sender, type, media, CAST('y' AS BLOB) FROM messages");
  CHECK(append(*s, "c", "z").error == errc::internal);
  CHECK(append(*s, "c", "z").offset == 3);
  auto r = read(*s, "c");
  REQUIRE(r.messages.size() == 3);
  CHECK(r.messages[1].data.bytes() == "y");
}

TEST_CASE("another program that holds the file makes publishes wait, then fail, and stops no reader") {
  temporary dir;
  auto s = open(dir.file());
  append(*s, "c", "x");
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(dir.file().c_str(), &db) == SQLITE_OK);
  REQUIRE(sqlite3_exec(db, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
  auto waiting = std::make_shared<testing::detail::pending<append_result>>();
  s->async_append("c", draft{1, "", "", payload::text("y"), ""},
                  testing::detail::pending<append_result>::handler(waiting));
  CHECK(read(*s, "other").head == 0);
  CHECK(waiting->wait().error == std::error_code(EBUSY, std::system_category()));
  CHECK(read(*s, "c").head == 1);
  sqlite3_close(db);
  CHECK(append(*s, "c", "y").offset == 2);
}

TEST_CASE("many threads share one transaction: each message once, in the order of its thread") {
  temporary dir;
  sqlite_options options;
  options.readers = 2;
  auto s = open(dir.file(), options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        append(*s, "common " + std::to_string(i % 3), std::to_string(t) + " " + std::to_string(i));
        read(*s, "common " + std::to_string(i % 5));
      }
    });
  for (auto& t : threads) t.join();
  std::size_t total = 0;
  for (int c = 0; c < 3; ++c) {
    std::vector<int> last(4, -1);
    for (const message& m : read(*s, "common " + std::to_string(c)).messages) {
      std::string text(m.data.bytes());
      auto t = static_cast<std::size_t>(text[0] - '0');
      int i = std::stoi(text.substr(2));
      CHECK(i > last[t]);
      last[t] = i;
      ++total;
    }
  }
  CHECK(total == 400);
}
