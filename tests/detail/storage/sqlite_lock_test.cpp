// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/storage/sqlite_lock.hpp"

#include <sys/wait.h>

#include "catch.hpp"
#include "storage/temporary.hpp"

using namespace hailwire::detail;

namespace {

/// What another process finds: 0, or why it may not lock these bytes exclusively by fcntl, as SQLite does.
int locked_elsewhere(const std::string& path, off_t first, off_t size) {
  pid_t child = ::fork();
  if (child == 0) {
    int fd = ::open(path.c_str(), O_RDWR);
    struct flock what = {};
    what.l_type = F_WRLCK;
    what.l_whence = SEEK_SET;
    what.l_start = first;
    what.l_len = size;
    ::_exit(::fcntl(fd, F_SETLK, &what) == 0 ? 0 : errno);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a file is told from its copy, not from its other names, and keeps its identity when it is moved") {
  temporary dir;
  std::string path = dir.file();
  CHECK(file_identity(path).empty());
  CHECK(file_written(path) == 0);
  std::ofstream(path) << "text";
  std::string id = file_identity(path);
  CHECK_FALSE(id.empty());
  std::filesystem::copy_file(path, dir.file("copy"));
  CHECK(file_identity(dir.file("copy")) != id);
  std::filesystem::create_hard_link(path, dir.file("hard"));
  std::filesystem::create_symlink(path, dir.file("soft"));
  CHECK(file_identity(dir.file("hard")) == id);
  CHECK(file_identity(dir.file("soft")) == id);
  std::filesystem::rename(path, dir.file("moved"));
  CHECK(file_identity(dir.file("moved")) == id);
  std::ofstream(dir.file("moved"), std::ios::app) << "more";
  CHECK(file_identity(dir.file("moved")) == id);
}

TEST_CASE("a lock file is taken once, given up with its owner, and made anew when somebody has removed it") {
  temporary dir;
  std::string path = dir.file("lock");
  sqlite_lock second;
  {
    sqlite_lock first;
    CHECK(first.take(path) == 0);
    CHECK(second.take(path) == EWOULDBLOCK);
    sqlite_lock moved(std::move(first));
    CHECK(second.take(path) == EWOULDBLOCK);
  }
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK(second.take(path) == 0);
  std::filesystem::remove(path);
  sqlite_lock third;
  CHECK(third.take(path) == 0);
  CHECK(sqlite_lock().take(dir.file("nowhere/lock")) == ENOENT);
}

TEST_CASE("an inode is locked under all of its names, and free when its owner is gone") {
  temporary dir;
  std::string path = dir.file();
  {
    sqlite_inode_lock first, second;
    CHECK_FALSE(first);
    CHECK(first.take(path) == 0);
    CHECK(first);
    std::filesystem::create_hard_link(path, dir.file("hard"));
    CHECK(second.take(path) == EWOULDBLOCK);
    CHECK(second.take(dir.file("hard")) == EWOULDBLOCK);
    CHECK_FALSE(second);
    sqlite_inode_lock moved(std::move(first));
    CHECK(second.take(path) == EWOULDBLOCK);
    CHECK(second.take(dir.file("other")) == 0);
  }
  sqlite_inode_lock third;
  CHECK(third.take(dir.file("hard")) == 0);
  CHECK(third.set_written(1'700'000'000));
  CHECK(file_written(path) == 1'700'000'000'000'000'000);
}

TEST_CASE("a guard keeps other processes from having the file alone, also when this process has closed it elsewhere") {
  temporary dir;
  std::string path = dir.file();
  std::ofstream(path + "-shm") << "x";
  sqlite_inode_lock lock;
  REQUIRE(lock.take(path) == 0);
  auto alone = [&] { return locked_elsewhere(path, 0x40000002, 510); };
  auto first = [&] { return locked_elsewhere(path + "-shm", 128, 1); };
  CHECK(alone() == 0);
  CHECK(first() == 0);
  lock.guard(path);
  for (int i = 0; i < 2; ++i) {
    CHECK(alone() == EAGAIN);
    CHECK(first() == EAGAIN);
    CHECK(locked_elsewhere(path, 0x40000000, 2) == 0);  // who only writes is not held up
    contents(path);
    contents(path + "-shm");
  }
  lock.unguard();
  CHECK(alone() == 0);
}

TEST_CASE("a boot has a name, always the same") {
  CHECK(boot_id().size() == 36);
  CHECK(boot_id() == boot_id());
}
