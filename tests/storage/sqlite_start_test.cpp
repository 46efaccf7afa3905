// SPDX-License-Identifier: BSL-1.0
// How a file is found when it is opened: copied, restored, moved, held by another process, written into by another
// program, of an older version, unwritable, or on a disk that is full. What must never happen is that followers are
// told nothing where a message may be missing; what must not happen for nothing is that they are told so.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <functional>
#include <map>
#include <set>

#include "catch.hpp"
#include "hailwire/storage/sqlite.hpp"
#include "storage/temporary.hpp"

using namespace hailwire;

namespace {

std::string why_not(const std::string& path, const sqlite_options& options = {}) {
  auto s = sqlite_storage::open(path, options);
  return s ? "opened" : std::string(code_name(s.error().code)) + ": " + std::string(s.error().text());
}
bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

std::set<std::string> names_in(const std::filesystem::path& directory) {
  std::set<std::string> out;
  for (auto& entry : std::filesystem::directory_iterator(directory)) out.insert(entry.path().filename().string());
  return out;
}
std::string epoch_in(const std::string& path, const sqlite_options& options = {}) {
  return read(*open(path, options), "c").epoch;
}
void write_over(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// Another program's connection.
struct program {
  sqlite3* db = nullptr;
  explicit program(const std::string& path) { REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK); }
  ~program() { sqlite3_close(db); }
  void run(const char* sql) {
    char* error = nullptr;
    int code = sqlite3_exec(db, sql, nullptr, nullptr, &error);
    INFO(sql << ": " << (error ? error : ""));
    REQUIRE(code == SQLITE_OK);
  }
};

/// Runs `work` in a process of its own, which ends as if it were killed. 77: it could not be tried.
int in_child(const std::function<int()>& work) {
  pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = work();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/// Publishes, and leaves the file as a process does that is killed.
void killed_after(const std::string& path, int messages, const sqlite_options& options = {}) {
  REQUIRE(in_child([&] {
            auto s = open(path, options).release();
            for (int i = 0; i < messages; ++i)
              if (append(*s, "c", "x").error) return 1;
            return 0;
          }) == 0);
}

/// Runs this program anew, which has no memory of what this one holds, to open the file: what it answered.
std::string opened_by_another_program(const std::string& path) {
  temporary dir;
  std::string answer = dir.file("answer");
  int code = in_child([&] {
    ::setenv("HAILWIRE_OPEN", path.c_str(), 1);
    ::setenv("HAILWIRE_ANSWER", answer.c_str(), 1);
    int out = ::open("/dev/null", O_WRONLY);
    ::dup2(out, 1);
    ::execl("/proc/self/exe", "test", "[second_process]", nullptr);
    return 98;
  });
  CHECK(code == 0);
  return contents(answer);
}

}  // namespace

TEST_CASE("opens the file that the first process names", "[.][second_process]") {
  const char *path = std::getenv("HAILWIRE_OPEN"), *answer = std::getenv("HAILWIRE_ANSWER");
  REQUIRE((path && answer));
  std::ofstream(answer) << why_not(path);
}

// ---- a file that is not the one that was in use

TEST_CASE("a file that was copied or restored has new epochs, once; one that was only moved keeps them") {
  temporary dir;
  std::string path = dir.file(), other = dir.file("other.db"), epoch;
  {
    auto s = open(path);
    epoch = append(*s, "c", "x").epoch;
  }
  REQUIRE(epoch_in(path) == epoch);
  bool renewed = true;
  SECTION("copied after a clean end") { std::filesystem::copy_file(path, other); }
  SECTION("copied after a clean end, with its times") {
    std::filesystem::copy_file(path, other);
    std::filesystem::last_write_time(other, std::filesystem::last_write_time(path));
  }
  SECTION("copied while in use, with its -wal") {
    auto s = open(path);
    append(*s, "c", "y");
    std::filesystem::copy_file(path, other);
    std::filesystem::copy_file(path + "-wal", other + "-wal");
  }
  SECTION("backed up by SQLite while in use") {
    auto s = open(path);
    append(*s, "c", "y");
    program from(path), to(other);
    sqlite3_backup* backup = sqlite3_backup_init(to.db, "main", from.db, "main");
    REQUIRE(sqlite3_backup_step(backup, -1) == SQLITE_DONE);
    sqlite3_backup_finish(backup);
  }
  SECTION("vacuumed into another") { program(path).run(("VACUUM INTO '" + other + "'").c_str()); }
  SECTION("restored in its place, under the same inode") {
    std::string old = contents(path);
    append(*open(path), "c", "lost");
    write_over(path, old);
    std::filesystem::rename(path, other);
  }
  SECTION("written into by another program between two uses") {
    program(path).run("DELETE FROM messages");
    std::filesystem::rename(path, other);
  }
  SECTION("moved") {
    std::filesystem::rename(path, other);
    renewed = false;
  }
  SECTION("read by another program between two uses") {
    program(path).run("SELECT count(*) FROM messages");
    std::filesystem::rename(path, other);
    renewed = false;
  }
  std::string now = epoch_in(other);
  CHECK((now != epoch) == renewed);
  CHECK(epoch_in(other) == now);
  CHECK(append(*open(other), "c", "z").epoch == now);
}

TEST_CASE("a process that is killed leaves a file that keeps its epochs, with the -wal of that use and no other") {
  temporary dir;
  std::string path = dir.file();
  killed_after(path, 1);
  std::string older = contents(path + "-wal"), epoch = epoch_in(path);
  killed_after(path, 3);
  bool renewed = true;
  SECTION("as it was left") { renewed = false; }
  SECTION("the -wal is gone") { std::filesystem::remove(path + "-wal"); }
  SECTION("the -wal is empty") { write_over(path + "-wal", ""); }
  SECTION("an older -wal has taken its place") {
    std::filesystem::rename(path + "-wal", path + "-gone");  // kept, so that its inode is not used again
    write_over(path + "-wal", older);
  }
  CHECK((epoch_in(path) != epoch) == renewed);
}

TEST_CASE("what another program writes while the file is in use gives new epochs at the next start") {
  temporary dir;
  bool writes = GENERATE(true, false);
  std::string epoch;
  {
    auto s = open(dir.file());
    epoch = append(*s, "c", "x").epoch;
    program(dir.file()).run(writes ? "DELETE FROM messages" : "SELECT count(*) FROM messages");
    CHECK(append(*s, "c", "y").epoch == epoch);
  }
  CHECK((epoch_in(dir.file()) != epoch) == writes);
}

// ---- a file that is in use

TEST_CASE("a file in use is refused to another program, by whatever way it comes to it") {
  temporary dir;
  auto s = open(dir.file());
  append(*s, "c", "x");
  std::string other = dir.file("other.db");
  SECTION("its own name") { other = dir.file(); }
  SECTION("a symbolic link") { std::filesystem::create_symlink(dir.file(), other); }
  SECTION("a hard link") { std::filesystem::create_hard_link(dir.file(), other); }
  SECTION("its own name, the lock file removed") {
    std::filesystem::remove(dir.file("log.db-lock"));
    other = dir.file();
  }
  SECTION("its own name, after a reader in this process has opened and closed it, and with it given up its locks") {
    std::filesystem::remove(dir.file("log.db-lock"));
    other = dir.file();
    contents(other);
    contents(other + "-shm");
  }
  CHECK(opened_by_another_program(other) == "conflict: " + other + " is in use: another storage has it open");
  CHECK(append(*s, "c", "y").offset == 2);
  s.reset();
  if (other != dir.file()) std::filesystem::remove(other);
  CHECK(opened_by_another_program(dir.file()) == "opened");
}

TEST_CASE("a file in use is refused through a bind mount of its folder") {
  temporary dir;
  auto s = open(dir.file());
  append(*s, "c", "x");
  std::string there = dir.file("there");
  std::filesystem::create_directory(there);
  // Two names of one folder, as two containers have them. A child's own mount: needs root, or name spaces for users.
  int code = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount(dir.path().c_str(), there.c_str(), nullptr, MS_BIND, nullptr) != 0) return 77;
    std::filesystem::remove(there + "/log.db-lock");
    std::string other = there + "/log.db";
    return opened_by_another_program(other) == "conflict: " + other + " is in use: another storage has it open" ? 0 : 1;
  });
  if (code == 77) {
    WARN("left out: this user may mount nothing");
    return;
  }
  CHECK(code == 0);
}

TEST_CASE("another program that reads the file and leaves does not take the -wal along, whatever this process reads") {
  temporary dir;
  std::string path = dir.file();
  int pipe[2], back[2];
  REQUIRE((::pipe(pipe) == 0 && ::pipe(back) == 0));
  char byte = 'x';
  pid_t child = ::fork();
  if (child == 0) {
    auto s = open(path).release();
    for (int i = 0; i < 10; ++i) append(*s, "c", "x");
    // A backup by hand. Closing any descriptor of a file gives up all fcntl locks that the process has on it
    // (fcntl(2)).
    for (const char* part : {"", "-wal", "-shm"}) contents(path + part);
    if (::write(pipe[1], &byte, 1) != 1 || ::read(back[0], &byte, 1) != 1) ::_exit(1);
    for (int i = 0; i < 10; ++i) append(*s, "c", "x");
    ::_exit(0);
  }
  REQUIRE(::read(pipe[0], &byte, 1) == 1);
  program(path).run("SELECT count(*) FROM messages");
  REQUIRE(::write(back[1], &byte, 1) == 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  for (int fd : {pipe[0], pipe[1], back[0], back[1]}) ::close(fd);
  CHECK(read(*open(path), "c").head == 20);
}

TEST_CASE("another program's read transaction stops neither the start nor the end, and costs no epoch") {
  temporary dir;
  bool killed = GENERATE(true, false);
  killed_after(dir.file(), 5);
  std::string epoch = killed ? "" : epoch_in(dir.file());
  program other(dir.file());
  other.run("BEGIN; SELECT count(*) FROM messages");
  CHECK(why_not(dir.file()) == "opened");
  {
    auto s = open(dir.file());
    auto r = append(*s, "c", "x");
    CHECK(r.offset == 6);
    if (killed) epoch = r.epoch;
    CHECK(r.epoch == epoch);
  }
  CHECK(read(*open(dir.file()), "c").head == 6);
  CHECK(epoch_in(dir.file()) == epoch);
  other.run("COMMIT");
  CHECK(append(*open(dir.file()), "c", "x").offset == 7);
}

// ---- a start that fails

TEST_CASE("a start that fails leaves no file behind where there was none") {
  temporary dir;
  std::filesystem::create_directory(dir.file("log.db-wal"));
  CHECK(has(why_not(dir.file()), "internal: "));
  CHECK(names_in(dir.path()) == std::set<std::string>{"log.db-wal"});
  std::filesystem::remove(dir.file("log.db-wal"));
  CHECK(why_not(dir.file()) == "opened");
}

TEST_CASE("a start by a user who may not write the file leaves nothing that spoils the next") {
  temporary dir;
  std::string path = dir.file();
  bool killed = GENERATE(true, false);
  if (killed)
    killed_after(path, 1);
  else
    append(*open(path), "c", "x");
  if (killed) REQUIRE(::chmod((path + "-wal").c_str(), 0444) == 0);
  REQUIRE(::chmod(path.c_str(), 0444) == 0);
  REQUIRE(::chmod(dir.path().c_str(), 0777) == 0);
  auto names = names_in(dir.path());
  int code = in_child([&] {
    if (::geteuid() == 0 && ::setuid(65'534) != 0) return 77;  // nobody: root may write everything
    std::string why = why_not(path);
    return has(why, "internal: ") && has(why, "Permission denied") ? 0 : 1;
  });
  if (code == 77) {
    WARN("left out: this user cannot become another");
    return;
  }
  CHECK(code == 0);
  names.erase("log.db-lock");  // left by the kill, and taken away since
  CHECK(names_in(dir.path()) == names);
  REQUIRE(::chmod(path.c_str(), 0666) == 0);
  if (killed) {
    CHECK(in_child([&] {
            if (::geteuid() == 0 && ::setuid(65'534) != 0) return 77;
            return has(why_not(path), "log.db-wal: Permission denied") ? 0 : 1;
          }) == 0);
    for (const char* part : {"-wal", "-shm"}) REQUIRE(::chmod((path + part).c_str(), 0666) == 0);
  }
  CHECK(in_child([&] {
          if (::geteuid() == 0 && ::setuid(65'534) != 0) return 77;
          auto s = open(path);
          return append(*s, "c", "y").offset == 2 ? 0 : 1;
        }) == 0);
}

TEST_CASE("a start that fails after the file was looked at leaves the -wal that a kill left") {
  temporary dir;
  std::string path = dir.file();
  killed_after(path, 3);
  std::filesystem::remove(path + "-shm");
  std::filesystem::create_directory(path + "-shm");  // SQLite cannot make it
  CHECK(has(why_not(path), "internal: "));
  std::filesystem::remove(path + "-shm");
  CHECK(std::filesystem::exists(path + "-wal"));
  auto s = open(path);
  CHECK(append(*s, "c", "x").offset == 4);
}

// ---- rows that are gone

TEST_CASE("rows that were removed by hand are a gap: no read steps over them in silence") {
  temporary dir;
  auto s = open(dir.file());
  for (int i = 1; i <= 10; ++i) append(*s, "c", std::to_string(i));
  append(*s, "d", "another channel");
  program(dir.file()).run("DELETE FROM messages WHERE id % 1024 BETWEEN 4 AND 6 AND id < 2 * (1 << 40)");
  auto offsets = [](const read_result& r) {
    std::string out = std::to_string(r.oldest) + ".." + std::to_string(r.head) + ":";
    for (const message& m : r.messages) out += ' ' + std::to_string(m.offset);
    return out;
  };
  CHECK(offsets(read(*s, "c", 0)) == "1..10: 1 2 3");  // up to the hole, and no further
  CHECK(offsets(read(*s, "c", 2)) == "1..10: 3");
  for (std::uint64_t since : {3u, 4u, 5u}) CHECK(offsets(read(*s, "c", since)) == "7..10: 7 8 9 10");
  CHECK(offsets(read(*s, "c", 6)) == "1..10: 7 8 9 10");
  CHECK(offsets(read(*s, "c", 3, {1, 100})) == "7..10: 7");  // a limit within the hole
  CHECK(offsets(read(*s, "c", 2, {2, 100})) == "1..10: 3");
  CHECK(offsets(read(*s, "c", 10)) == "1..10:");
  CHECK(append(*s, "c", "11").offset == 11);
  CHECK(read(*s, "d").messages.size() == 1);
}

// ---- versions

#if defined(HAILWIRE_TEST_FILES)
TEST_CASE("a file of each version is opened, with all that is in it, and is of this version from then on") {
  temporary dir;
  std::string path = dir.file();
  int version = GENERATE(1, 2, 3);
  CAPTURE(version);
  std::filesystem::copy_file(std::string(HAILWIRE_TEST_FILES) + "/version_" + std::to_string(version) + ".db", path);
  std::map<std::string, std::string> epochs = {
      {"chat", "Tm_D2HXFAB8C"}, {"long", "Ej8oj11yOfpV"}, {"busy", "4VWBng1w4Y97"}, {"silent", "EoqbSYgkvHN_"}};
  sqlite_options options;
  options.steady = &test_clock;
  {
    auto s = open(path, options);
    // What it is called was not written down in the first version, so it may be the file that was in use.
    for (auto& [channel, epoch] : epochs) CHECK((read(*s, channel).epoch == epoch) == (version == 1));
    auto chat = read(*s, "chat");
    REQUIRE(chat.messages.size() == 3);
    CHECK(chat.messages[0].data == payload::text("first"));
    CHECK(chat.messages[0].from == "ada");
    CHECK(chat.messages[0].type == "note");
    CHECK(chat.messages[0].at == 1'764'000'000'000);
    CHECK(chat.messages[1].data == payload::json("{\"a\":1}"));
    CHECK(chat.messages[2].data == payload::binary(std::string("\0\1\2", 3), "image/png"));
    CHECK(read(*s, "long").messages.at(0).data.bytes() == std::string(2100, 'x'));
    auto busy = read(*s, "busy");
    CHECK(busy.oldest == 6);
    CHECK(busy.head == 9);
    CHECK(read(*s, "silent").head == 0);
    CHECK(append(*s, "busy", "message 10").offset == 10);
    if (version == 3) {
      auto taken = read(*s, "taken");
      REQUIRE(taken.messages.size() == 3);
      CHECK(taken.messages[0].erased);
      CHECK(taken.messages[0].data == payload());
      CHECK(taken.messages[1].content->id == "id-1");
      CHECK(taken.messages[2].erases == 1);
      auto marks = std::make_shared<testing::detail::pending<watermarks_result>>();
      s->async_watermarks("taken", {"bob"}, testing::detail::pending<watermarks_result>::handler(marks));
      CHECK(marks->wait().marks.at(0).levels == watermark_levels{3, 2, 1});
      auto tokens = std::make_shared<testing::detail::pending<tokens_result>>();
      s->async_tokens("bob", testing::detail::pending<tokens_result>::handler(tokens));
      CHECK(tokens->wait().tokens.at(0).token == "token");
    }
    // Keys of the first version begin their time anew: theirs was another clock's.
    test_now += 299'000;
    CHECK(append(*s, "chat", "first", "key 1").duplicate);
    test_now += 2'000;
    CHECK(append(*s, "chat", "first", "key 1").offset == 4);
    epochs["chat"] = chat.epoch;
  }
  CHECK(read(*open(path), "chat").epoch == epochs["chat"]);
  program other(path);
  sqlite3_stmt* s = nullptr;
  REQUIRE(sqlite3_prepare_v2(other.db, "PRAGMA user_version", -1, &s, nullptr) == SQLITE_OK);
  REQUIRE(sqlite3_step(s) == SQLITE_ROW);
  CHECK(sqlite3_column_int(s, 0) == 3);
  sqlite3_finalize(s);
}
#endif

// ---- keys and their clock

TEST_CASE("a clock that is set ends no key in a file, nor does the time between two uses") {
  temporary dir;
  static std::atomic<std::int64_t> unix_now, used;  // read by the writer too, after it has answered
  unix_now = 1'764'000'000'000, used = 5'000;
  sqlite_options options;
  options.clock = [] { return unix_now.load(); };
  options.steady = [] { return used.load(); };
  {
    auto s = open(dir.file(), options);
    append(*s, "c", "x", "1");
    used += 100'000;
    append(*s, "c", "x", "2");
    unix_now += 86'400'000;
    CHECK(append(*s, "c", "x", "1").duplicate);
    unix_now -= 2 * 86'400'000;
    CHECK(append(*s, "c", "x", "1").duplicate);
  }
  used = 77;  // the machine has started anew
  unix_now += 7 * 86'400'000;
  auto s = open(dir.file(), options);
  used += 200'000;
  CHECK(append(*s, "c", "x", "1").duplicate);  // at its lifetime to the millisecond
  used += 1;
  CHECK(append(*s, "c", "x", "1").offset == 3);
  CHECK(append(*s, "c", "x", "2").duplicate);
  used += 100'000;
  CHECK(append(*s, "c", "x", "2").offset == 4);
}

TEST_CASE("a key that has lived its time takes nobody's room, however few transactions there are to forget it in") {
  temporary dir;
  static std::atomic<std::int64_t> used;
  used = 0;
  sqlite_options options;
  options.steady = [] { return used.load(); };
  options.keys = 1000;
  auto s = open(dir.file(), options);
  // All of them in one transaction, as on a disk that is slow: the writer is held in a handler until they are there.
  auto publish = [&](const std::string& prefix, int count) {
    std::atomic<int> left = count, refused = 0;
    std::atomic<bool> inside = false, go = false;
    s->async_append("other", draft{1, "", "", payload::text("x"), ""}, [&](append_result) {
      inside = true;
      while (!go) std::this_thread::yield();
    });
    while (!inside) std::this_thread::yield();
    for (int i = 0; i < count; ++i)
      s->async_append("c", draft{1, "", "", payload::text("x"), prefix + std::to_string(i)}, [&](append_result r) {
        refused += r.error == errc::overloaded;
        --left;
      });
    go = true;
    while (left) std::this_thread::yield();
    return refused.load();
  };
  CHECK(publish("a", 999) == 0);
  CHECK(publish("b", 2) == 1);
  used += 300'000;
  CHECK(publish("c", 1) == 1);  // all of them still live
  for (int round = 0; round < 3; ++round) {
    used += 300'001;
    CHECK(publish("d" + std::to_string(round), 1000) == 0);
    CHECK(publish("e" + std::to_string(round), 1) == 1);
  }
  s.reset();
  options.keys = 100;  // fewer than there are
  s = open(dir.file(), options);
  CHECK(publish("f", 1) == 1);
  used += 300'001;
  CHECK(publish("g", 101) == 1);
}

// ---- limits and channels to which nobody publishes

TEST_CASE("a smaller limit reaches the channels to which nobody publishes, after the start") {
  temporary dir;
  constexpr int channels = 600;  // more than one look takes in
  sqlite_options options;
  options.durability = durability::off;
  {
    auto s = open(dir.file(), options);
    for (int i = 0; i < channels; ++i)
      for (int k = 0; k < 20; ++k)
        s->async_append("channel " + std::to_string(i), draft{1, "", "", payload::text(std::string(100, 'x')), ""},
                        [](append_result) {});
    while (read(*s, "channel " + std::to_string(channels - 1)).head < 20) std::this_thread::yield();
  }
  std::uint64_t oldest = 0;
  SECTION("of messages") {
    options.messages = 5;
    oldest = 16;
  }
  SECTION("of bytes") {
    options.bytes = 700;
    oldest = 14;
  }
  SECTION("of neither: nothing goes") { oldest = 1; }
  auto s = open(dir.file(), options);
  for (int i : {0, 1, 255, 256, 257, channels - 1}) {
    std::string channel = "channel " + std::to_string(i);
    while (read(*s, channel, 0, {0, 0}).oldest < oldest) std::this_thread::yield();
    CHECK(read(*s, channel, 0, {0, 0}).oldest == oldest);
  }
}

TEST_CASE("a message whose clock was ahead keeps none past their age") {
  temporary dir;
  sqlite_options options;
  options.clock = &test_clock;
  options.age = std::chrono::seconds(60);
  auto s = open(dir.file(), options);
  const std::int64_t begin = test_now;
  auto publish = [&](std::int64_t at) { return append(*s, "c", draft{at, "", "", payload::text("x"), ""}).offset; };
  auto step = [&] {  // an append has the limits looked at, and a second one sees what became of it
    append(*s, "c", draft{test_now, "", "", payload::text("y"), ""});
    append(*s, "other", "z");
    return read(*s, "c").oldest;
  };
  SECTION("the oldest") {
    publish(begin + 86'400'000);
    publish(begin);
    publish(begin + 30'000);
    test_now = begin + 60'000;
    CHECK(step() == 1);
    test_now = begin + 64'000;  // past the age and what it may be passed by
    CHECK(step() == 3);
  }
  SECTION("one among them, a little ahead") {
    publish(begin);
    publish(begin + 40'000);
    publish(begin + 1'000);
    publish(begin + 50'000);
    test_now = begin + 66'000;
    CHECK(step() == 4);
  }
  SECTION("more of them than one step looks at") {
    for (int i = 0; i < 600; ++i)
      s->async_append("c", draft{begin + 86'400'000, "", "", payload::text("x"), ""}, [](append_result) {});
    publish(begin);
    publish(begin + 50'000);
    test_now = begin + 66'000;
    step();
    while (read(*s, "c", 0, {0, 0}).oldest < 602) std::this_thread::yield();
    CHECK(read(*s, "c", 0, {0, 0}).oldest == 602);
  }
  SECTION("after a restart, in a channel to which nobody publishes") {
    publish(begin + 86'400'000);
    publish(begin);
    s.reset();
    test_now = begin + 66'000;
    s = open(dir.file(), options);
    while (read(*s, "c", 0, {0, 0}).oldest < 3) std::this_thread::yield();
    CHECK(read(*s, "c").head == 2);
  }
  test_now = begin;
}

// ---- another program that reads on and on

TEST_CASE("a -wal that another program keeps from being emptied is told of, and again when it has doubled") {
  temporary dir;
  sqlite_options options;
  options.durability = durability::off;
  options.wal_pages = 64;
  std::vector<std::string> lines;
  options.on_log = [&](std::string_view text) {
    lines.emplace_back(text);
    throw 42;  // the host's own affair
  };
  auto s = open(dir.file(), options);
  auto fill = [&](std::size_t pages) {
    for (std::size_t i = 0; i < pages; ++i) REQUIRE_FALSE(append(*s, "c", std::string(4000, 'x')).error);
  };
  fill(1000);
  CHECK(lines.empty());
  {
    program other(dir.file());
    other.run("BEGIN; SELECT count(*) FROM messages");
    while (lines.empty()) fill(1);
    auto size = std::filesystem::file_size(dir.file("log.db-wal"));
    CHECK(size >= 4 * 64 * 4096);
    CHECK(size < 5 * 64 * 4096);
    CHECK(lines[0] ==
          dir.file("log.db-wal has grown to 1 MiB: it cannot be emptied while another program reads ") + dir.file());
    while (lines.size() < 2) fill(1);
    CHECK(std::filesystem::file_size(dir.file("log.db-wal")) >= 8 * 64 * 4096);
  }
  fill(500);
  CHECK(lines.size() == 2);
  s.reset();
  CHECK(names_in(dir.path()) == std::set<std::string>{"log.db"});
}

// ---- a disk that is full

TEST_CASE("on a full disk a file is opened and read; appends are refused until there is room") {
  temporary dir;
  bool killed = GENERATE(true, false);
  int code = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=1m") != 0) return 77;
    std::string path = dir.file(), epoch;
    if (killed)
      killed_after(path, 3);
    else
      for (int i = 0; i < 3; ++i) epoch = append(*open(path), "c", "x").epoch;
    std::ofstream(dir.file("filler")) << std::string(2 << 20, 'x');
    sqlite_options options;
    options.readers = 2;
    for (int life = 0; life < 2; ++life) {
      auto s = sqlite_storage::open(path, options);
      if (!s) return 1;
      if (read(**s, "c").messages.size() != 3) return 2;
      // Too much for what room the -wal may have of its own.
      auto refused = append(**s, "c", std::string(100'000, 'y'));
      if (refused.error != std::error_code(ENOSPC, std::system_category())) return 3;
      if (read(**s, "c").head != 3 || read(**s, "d").head != 0) return 4;
      if (!killed && read(**s, "c").epoch != epoch) return 5;
      epoch = read(**s, "c").epoch;
      if (life == 0) continue;
      std::filesystem::remove(dir.file("filler"));
      auto r = append(**s, "c", "y", "key");
      if (r.offset != 4 || r.epoch != epoch) return 6;
      if (read(**s, "c").messages.size() != 4) return 7;
      if (append(**s, "d", "y").offset != 1 || read(**s, "d").head != 1) return 8;
    }
    auto s = open(path);
    return read(*s, "c").epoch == epoch && append(*s, "c", "y", "key").duplicate ? 0 : 9;
  });
  if (code == 77) {
    WARN("left out: this user may mount nothing");
    return;
  }
  CHECK(code == 0);
}
