// SPDX-License-Identifier: BSL-1.0
#pragma once

// Who has a SQLite file, and which file it is: what the system knows of it, apart from what SQLite reads in it.
//
// SQLite's own locks are fcntl locks, which belong to the process: when it closes any descriptor of a file, all of its
// fcntl locks there are gone (fcntl(2)). A host that copies its file by hand does so. Two other kinds of lock are not
// touched by that, and are what a storage relies on: flock, which SQLite does not see, and open file description locks,
// which it does.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "hailwire/detail/base/descriptor.hpp"

namespace hailwire::detail {

/// Names one file for as long as it is there, also when it is moved within its file system: its inode and, where the
/// file system keeps it, the time of its birth, since inodes are used again. A copy has another. Empty: there is none.
inline std::string file_identity(const std::string& path) {
  struct statx s;
  if (::statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &s) != 0) return {};
  std::string out = std::to_string(s.stx_ino);
  if (s.stx_mask & STATX_BTIME)
    out += '.' + std::to_string(s.stx_btime.tv_sec) + '.' + std::to_string(s.stx_btime.tv_nsec);
  return out;
}

/// When the file was last written, in nanoseconds of Unix time; 0: there is none.
inline std::int64_t file_written(const std::string& path) noexcept {
  struct stat s;
  if (::stat(path.c_str(), &s) != 0) return 0;
  return std::int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec;
}

/// 0, also where there is no such file; or why this process may not write it.
inline int unwritable(const std::string& path) noexcept {
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK, AT_EACCESS) == 0 || errno == ENOENT) return 0;
  return errno;
}

/// A file beside the file, locked while that is in use. Where SQLite keeps the file in a VFS of its own it is the only
/// lock; else `sqlite_inode_lock` also sees those who come by another name.
class sqlite_lock {
 public:
  sqlite_lock() = default;
  sqlite_lock(sqlite_lock&&) noexcept = default;
  sqlite_lock& operator=(sqlite_lock&&) noexcept = default;
  ~sqlite_lock() {
    if (file_) ::unlink(path_.c_str());  // while it is still locked: who opened it meanwhile sees that it is gone
  }
  /// 0, or the system's error; EWOULDBLOCK: someone else holds it.
  int take(std::string path) {
    for (;;) {
      owned_descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
      // One that another user's process left when it was killed can be locked without being written.
      if (!fd && errno == EACCES) fd = owned_descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd) return errno;
      if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return errno;
      struct stat mine, there;
      if (::fstat(fd.get(), &mine) == 0 && ::stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
          mine.st_dev == there.st_dev) {
        path_ = std::move(path);
        file_ = std::move(fd);
        return 0;
      }
    }
  }

 private:
  std::string path_;
  owned_descriptor file_;
};

/// Held on the inode of the SQLite file itself, which a symbolic link, a hard link, a bind mount and a removed lock
/// file all lead to. Closing any descriptor of that inode would give up SQLite's own locks, so what this process
/// already holds is found by `stat`, before anything is opened, and what is opened here is closed when SQLite has
/// closed its own.
class sqlite_inode_lock {
 public:
  sqlite_inode_lock() = default;
  sqlite_inode_lock(sqlite_inode_lock&& other) noexcept
      : id_(other.id_), file_(std::move(other.file_)), shared_memory_(std::move(other.shared_memory_)) {}
  sqlite_inode_lock& operator=(sqlite_inode_lock&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(file_, other.file_);
    std::swap(shared_memory_, other.shared_memory_);
    return *this;
  }
  ~sqlite_inode_lock() {
    if (!file_) return;
    std::lock_guard lock(held().mutex);
    held().ids.erase(id_);
    shared_memory_.close();
    file_.close();
  }

  explicit operator bool() const noexcept { return static_cast<bool>(file_); }

  /// 0, or the system's error; EWOULDBLOCK: another storage holds it. Makes an empty file where there is none; a file
  /// that may not be written is an error here, before SQLite has made anything beside it.
  int take(const std::string& path) {
    std::lock_guard lock(held().mutex);
    struct stat there;
    if (::stat(path.c_str(), &there) == 0 && held().ids.count({there.st_dev, there.st_ino})) return EWOULDBLOCK;
    owned_descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!fd) return errno;
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(fd.get(), &there) != 0) return errno;
    id_ = {there.st_dev, there.st_ino};
    held().ids.insert(id_);
    file_ = std::move(fd);
    return 0;
  }

  /// From now on another program that closes the file does not take itself for the last one that has it, which moves
  /// the -wal into the file and removes it under those who still write there; and one that opens the file does not take
  /// itself for the first, which empties the -shm under those who have mapped it. SQLite's own locks say the same, as
  /// long as this process has not given them up. To be asked for when SQLite has the file open in WAL mode. File
  /// systems without such locks go without.
  void guard(const std::string& path) noexcept {
    if (!file_) return;
    lock_range(file_.get(), F_RDLCK, shared_first, shared_size);
    shared_memory_ = owned_descriptor(::open((path + "-shm").c_str(), O_RDWR | O_CLOEXEC));
    if (shared_memory_) lock_range(shared_memory_.get(), F_RDLCK, dead_man_switch, 1);
  }
  /// This process may now be the last one itself.
  void unguard() noexcept {
    if (file_) lock_range(file_.get(), F_UNLCK, shared_first, shared_size);
  }

  /// Sets the time at which the file was last written; in whole seconds, which every file system can keep.
  bool set_written(std::int64_t seconds) noexcept {
    timespec at[2] = {{0, UTIME_OMIT}, {static_cast<time_t>(seconds), 0}};
    return file_ && ::futimens(file_.get(), at) == 0;
  }

 private:
  // Where SQLite locks: the bytes that whoever has the file open locks shared, and whoever wants it alone exclusively
  // ("Database File Locking", and os.h in its source); in the -shm, the byte behind its eight locks, which everybody
  // holds who has it mapped (os_unix.c).
  static constexpr off_t shared_first = 0x40000002, shared_size = 510, dead_man_switch = 128;

  static void lock_range(int fd, short kind, off_t first, off_t size) noexcept {
    struct flock what = {};
    what.l_type = kind;
    what.l_whence = SEEK_SET;
    what.l_start = first;
    what.l_len = size;
    ::fcntl(fd, F_OFD_SETLK, &what);
  }

  using id = std::pair<dev_t, ino_t>;
  struct table {
    std::mutex mutex;
    std::set<id> ids;
  };
  static table& held() {
    static table all;
    return all;
  }

  id id_{};
  owned_descriptor file_, shared_memory_;
};

/// Names the time since the machine started; empty where the system does not say, which never equals another.
inline std::string boot_id() {
  char text[64];
  owned_descriptor fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!fd) return {};
  auto size = ::read(fd.get(), text, sizeof text);
  std::string id(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

}  // namespace hailwire::detail
