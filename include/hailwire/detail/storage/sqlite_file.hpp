// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because the rules at its top bind all of its parts.
//
// One SQLite file as sqlite_storage keeps it: its schema, its lock, how it is opened, and what must be true of it
// before a message may be acknowledged.
//
// Schema, version 1 (`user_version`; `application_id` is "hail"):
// - `channels`: name → number, and the head where the log itself no longer shows it (all trimmed).
// - `messages`: the row's id is channel number × 2^40 + offset. So one table is the log of every channel, each in one
//   piece and in order, and needs no index beside it. `before` is how many payload bytes came before this message in
//   its channel; how much lies between two rows is one subtraction.
// - `tails`: a row that takes a little more than half a page would leave the rest of its page empty; it is cut in two.
// - `keys`: hash of channel and key → hash of the payload, offset, when.
// - `meta`: one row: the two secrets, the next channel number, and under which conditions the file is in use.
//
// Epochs are not stored: a channel's epoch is a hash of its name under the secret `meta.epoch`. Replacing that one
// secret gives every channel a new epoch. It is replaced when acknowledged messages may be missing: the last use did
// not end cleanly, was less than `full`, and the machine has started anew since (its boot id differs), so that what the
// kernel had not yet written is gone; or the last use did not end cleanly and its WAL is gone, removed by hand or moved
// into the file by another program (which cannot be told apart). A process that is killed loses nothing: what it wrote
// is the kernel's.
//
// For that to hold, two marks must be in order with the messages. At opening, "in use, by this boot, at this
// durability" is synced, with all that earlier uses left behind, before the first append. At the end everything is
// synced, and only then "ended cleanly".

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/error.hpp"

static_assert(SQLITE_VERSION_NUMBER >= 3037000, "hailwire: storage/sqlite.hpp needs SQLite 3.37 or newer");

namespace hailwire {

/// What an acknowledged message survives.
enum class durability : std::uint8_t {
  full,    ///< power loss: each commit is synced to the disk before it is acknowledged
  normal,  ///< the death of the process; after a power loss the newest may be missing, and every epoch is new
  off,     ///< the death of the process; after a power loss the file may be unusable
};

namespace detail {

/// What SQLite answered, thrown inside the storage only.
struct sqlite_failure {
  int code;  // an extended result code
};

/// For logs and decisions: no space, an I/O error, a locked file and no memory have the system's own codes.
inline std::error_code sqlite_error(int code) noexcept {
  auto system = [](int e) { return std::error_code(e, std::system_category()); };
  switch (code & 0xFF) {
    case SQLITE_FULL:
      return system(ENOSPC);
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return system(EIO);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return system(EBUSY);
    case SQLITE_NOMEM:
      return system(ENOMEM);
    case SQLITE_READONLY:
      return system(EROFS);
    case SQLITE_CANTOPEN:
      return system(ENOENT);
    default:
      return errc::internal;
  }
}

class sqlite_statement {
 public:
  sqlite_statement() = default;
  sqlite_statement(sqlite3* db, const char* sql) {
    int code = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &handle_, nullptr);
    if (code != SQLITE_OK) throw sqlite_failure{sqlite3_extended_errcode(db)};
  }
  sqlite_statement(sqlite_statement&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  sqlite_statement& operator=(sqlite_statement&& other) noexcept {
    sqlite3_finalize(std::exchange(handle_, std::exchange(other.handle_, nullptr)));
    return *this;
  }
  ~sqlite_statement() { sqlite3_finalize(handle_); }

  /// Binds all parameters, in order. Texts are not copied: they must live until the statement is done.
  template <class... Values>
  sqlite_statement& operator()(const Values&... values) {
    sqlite3_reset(handle_);
    int i = 0;
    (bind(++i, values), ...);
    return *this;
  }
  /// True: a row is there. False: done, and the statement is ready to be bound anew.
  bool step() {
    int code = sqlite3_step(handle_);
    if (code == SQLITE_ROW) return true;
    sqlite3_reset(handle_);
    if (code != SQLITE_DONE) throw sqlite_failure{sqlite3_extended_errcode(sqlite3_db_handle(handle_))};
    return false;
  }
  void run() {
    while (step()) {
    }
  }
  /// Ends reading before the last row; needed before the transaction can end.
  void reset() noexcept { sqlite3_reset(handle_); }

  std::int64_t integer(int column) noexcept { return sqlite3_column_int64(handle_, column); }
  std::uint64_t number(int column) noexcept { return static_cast<std::uint64_t>(integer(column)); }
  /// Until the next step.
  std::string_view bytes(int column) noexcept {
    auto data = static_cast<const char*>(sqlite3_column_blob(handle_, column));
    if (!data) return {};
    return {data, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
  }

 private:
  void bind(int i, std::int64_t n) { check(sqlite3_bind_int64(handle_, i, n)); }
  void bind(int i, std::uint64_t n) { bind(i, static_cast<std::int64_t>(n)); }
  void bind(int i, int n) { bind(i, std::int64_t{n}); }
  void bind(int i, std::nullptr_t) { check(sqlite3_bind_null(handle_, i)); }
  /// Text; an empty one is NULL.
  void bind(int i, std::string_view text) {
    if (text.empty()) return bind(i, nullptr);
    check(sqlite3_bind_text64(handle_, i, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8));
  }
  struct blob_ref {
    std::string_view bytes;
  };
  void bind(int i, blob_ref b) {
    if (b.bytes.empty()) return check(sqlite3_bind_zeroblob(handle_, i, 0));
    check(sqlite3_bind_blob64(handle_, i, b.bytes.data(), b.bytes.size(), SQLITE_STATIC));
  }
  static void check(int code) {
    if (code != SQLITE_OK) throw sqlite_failure{code};
  }

  sqlite3_stmt* handle_ = nullptr;

 public:
  static blob_ref blob(std::string_view bytes) noexcept { return {bytes}; }
  static blob_ref blob(const bits128& bits) noexcept { return {{reinterpret_cast<const char*>(&bits), sizeof bits}}; }
};

/// One connection, for one thread at a time.
class sqlite_connection {
 public:
  sqlite_connection() = default;
  sqlite_connection(const std::string& path, int flags, const std::string& vfs) {
    int code = sqlite3_open_v2(path.c_str(), &handle_, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                               vfs.empty() ? nullptr : vfs.c_str());
    if (code != SQLITE_OK) {
      sqlite3_close(std::exchange(handle_, nullptr));
      throw sqlite_failure{code};
    }
    sqlite3_busy_timeout(handle_, 1000);  // for another program that writes; nothing of our own ever waits
  }
  sqlite_connection(sqlite_connection&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  sqlite_connection& operator=(sqlite_connection&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~sqlite_connection() { sqlite3_close_v2(handle_); }

  sqlite_statement prepare(const char* sql) { return {handle_, sql}; }
  void run(const char* sql) {
    int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) throw sqlite_failure{code};
  }
  std::string text(const char* sql) {
    auto s = prepare(sql);
    return s.step() ? std::string(s.bytes(0)) : std::string();
  }
  std::int64_t integer(const char* sql) {
    auto s = prepare(sql);
    return s.step() ? s.integer(0) : 0;
  }
  /// How many rows the last statement changed.
  int changes() noexcept { return sqlite3_changes(handle_); }
  std::size_t largest_row() noexcept {
    return static_cast<std::size_t>(sqlite3_limit(handle_, SQLITE_LIMIT_LENGTH, -1));
  }
  void roll_back() noexcept {
    if (handle_ && !sqlite3_get_autocommit(handle_)) sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
  }
  void close() noexcept { sqlite3_close_v2(std::exchange(handle_, nullptr)); }

 private:
  sqlite3* handle_ = nullptr;
};

/// Held while the file is in use, so that a second opening is an error and not a second writer whose offsets collide.
/// A file beside the file: a lock on the SQLite file itself would be lost with any other descriptor that this process
/// closes (fcntl locks belong to the process).
class sqlite_lock {
 public:
  sqlite_lock() = default;
  sqlite_lock(sqlite_lock&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}
  sqlite_lock& operator=(sqlite_lock&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~sqlite_lock() {
    if (descriptor_ < 0) return;
    ::unlink(path_.c_str());  // while it is still locked: who opened it meanwhile sees that it is no longer the file
    ::close(descriptor_);
  }
  /// 0, or the system's error; EWOULDBLOCK: someone else holds it.
  int take(std::string path) {
    for (;;) {
      int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
      if (fd < 0) return errno;
      struct stat mine, there;
      int error = ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
      if (!error && ::fstat(fd, &mine) == 0 && ::stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
          mine.st_dev == there.st_dev) {
        path_ = std::move(path);
        descriptor_ = fd;
        return 0;
      }
      ::close(fd);
      if (error) return error;
    }
  }

 private:
  std::string path_;
  int descriptor_ = -1;
};

/// Held on the inode of the SQLite file itself, which a symbolic link, a hard link, a bind mount and a removed lock
/// file all lead to. It is a flock: SQLite's own locks are fcntl locks, which flock neither meets nor loses (flock(2)).
/// But closing any descriptor of an inode drops the fcntl locks that the process has there (fcntl(2)), SQLite's among
/// them; so what this process already holds is found by `stat`, before anything is opened.
class sqlite_inode_lock {
 public:
  sqlite_inode_lock() = default;
  sqlite_inode_lock(sqlite_inode_lock&& other) noexcept
      : id_(other.id_), descriptor_(std::exchange(other.descriptor_, -1)) {}
  sqlite_inode_lock& operator=(sqlite_inode_lock&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~sqlite_inode_lock() {
    if (descriptor_ < 0) return;
    std::lock_guard lock(held().mutex);
    held().ids.erase(id_);
    ::close(descriptor_);
  }
  /// 0, or the system's error; EWOULDBLOCK: another storage holds it. Makes an empty file where there is none.
  int take(const std::string& path) {
    std::lock_guard lock(held().mutex);
    struct stat there;
    if (::stat(path.c_str(), &there) == 0 && held().ids.count({there.st_dev, there.st_ino})) return EWOULDBLOCK;
    int fd = ::open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return errno;
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0 || ::fstat(fd, &there) != 0) {
      int error = errno;
      ::close(fd);
      return error;
    }
    id_ = {there.st_dev, there.st_ino};
    held().ids.insert(id_);
    descriptor_ = fd;
    return 0;
  }

 private:
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
  int descriptor_ = -1;
};

/// Names the time since the machine started; empty where the system does not say, which never equals another.
inline std::string boot_id() {
  char text[64];
  int fd = ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  auto size = ::read(fd, text, sizeof text);
  ::close(fd);
  std::string id(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

struct sqlite_place {
  std::string path, vfs, boot;
  hailwire::durability durability = hailwire::durability::full;
  std::uint64_t check = 0;
};

class sqlite_file {
  sqlite_lock lock_;  // these two first, so that they are given up last
  sqlite_inode_lock inode_lock_;
  hailwire::durability durability_ = hailwire::durability::full;

 public:
  static constexpr std::int64_t application = 0x6861696C;  // "hail"
  static constexpr std::int64_t version = 1;
  static constexpr int offset_bits = 40;  // 10^12 messages in each of 8 million channels
  static constexpr std::uint64_t max_channels = (std::uint64_t{1} << (63 - offset_bits)) - 1;

  sqlite_connection writer;
  bits128 epoch_secret, key_secret;

  /// Opens or makes the file. Whatever the error is, the file is as it was.
  static result<sqlite_file> open(const sqlite_place& place) {
    if (!sqlite3_threadsafe()) return {errc::not_implemented, "this SQLite was built without threads"};
    if (place.path.empty() || place.path[0] == ':')
      return {errc::bad_request, "a storage needs a file, not '" + place.path + "'"};
    sqlite_file f;
    f.durability_ = place.durability;
    if (int error = f.lock_.take(place.path + "-lock")) {
      if (error == EWOULDBLOCK) return {errc::conflict, place.path + " is in use: another storage has it open"};
      return {errc::internal, place.path + "-lock: " + std::system_category().message(error)};
    }
    if (place.vfs.empty()) {  // another VFS has files of its own kind
      if (int error = f.inode_lock_.take(place.path)) {
        if (error == EWOULDBLOCK) return {errc::conflict, place.path + " is in use: another storage has it open"};
        return {errc::internal, place.path + ": " + std::system_category().message(error)};
      }
    }
    try {
      bool made = false;
      // While the file is in use its WAL is never empty: `sync` moves frames without truncating it. Asked before SQLite
      // opens the file, which makes a new one. Frames are not asked for: a WAL that is begun anew when the power is cut
      // may have none, and has lost nothing.
      bool wal = exists(place, "-wal");
      if (auto why = look(place, made)) return *why;
      f.writer = sqlite_connection(place.path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, place.vfs);
      if (!made) f.make();
      f.begin_use(place, wal);
    } catch (const sqlite_failure& e) {
      return {errc::internal, place.path + ": " + sqlite3_errstr(e.code)};
    }
    return f;
  }

  sqlite_connection reader(const sqlite_place& place) const {
    sqlite_connection c(place.path, SQLITE_OPEN_READWRITE, place.vfs);
    c.run("PRAGMA query_only = 1; PRAGMA cache_size = -8000");
    return c;
  }

  /// Syncs everything and marks the file as cleanly ended. The readers are closed by now.
  void end_use() noexcept {
    try {
      writer.run("PRAGMA synchronous = FULL; UPDATE meta SET changed = changed + 1");
      sync();
      writer.run("UPDATE meta SET clean = 1");
    } catch (const sqlite_failure&) {
      // A disk that fails leaves the file in use; the next opening draws its conclusions.
    }
    writer.close();
  }

 private:
  using maybe_failure = std::optional<failure>;

  /// Why the file cannot be used, found through a connection that cannot write. `made`: it is there already.
  static maybe_failure look(const sqlite_place& place, bool& made) {
    auto why = [&](errc code, const std::string& text) { return maybe_failure(failure(code, place.path + text)); };
    auto why_not = [&](int code) -> maybe_failure {
      if ((code & 0xFF) == SQLITE_NOTADB) return why(errc::unsupported_media, " is not a SQLite file");
      if ((code & 0xFF) == SQLITE_CORRUPT) return why(errc::internal, " is damaged");
      return {};
    };
    sqlite_connection c;
    try {
      // Even to read a file in WAL mode, SQLite makes a -wal and a -shm beside it and leaves them there; not so if it
      // is told that nobody changes the file. Without a -wal or a -journal, all there is to know is in the file.
      bool whole = !exists(place, "-wal") && !exists(place, "-journal");
      c = sqlite_connection(whole ? uri(place.path) + "?immutable=1" : place.path,
                            SQLITE_OPEN_READONLY | (whole ? SQLITE_OPEN_URI : 0), place.vfs);
      c.integer("SELECT count(*) FROM sqlite_schema");
    } catch (const sqlite_failure& e) {
      if ((e.code & 0xFF) == SQLITE_CANTOPEN && !exists(place, "")) return {};
      if (auto reason = why_not(e.code)) return reason;
      // What a reader may not do is to finish a change that was cut short, as that of the making of the file.
      c = sqlite_connection(place.path, SQLITE_OPEN_READWRITE, place.vfs);
    }
    try {
      std::int64_t owner = c.integer("PRAGMA application_id"), found = c.integer("PRAGMA user_version");
      if (owner == 0 && found == 0 && c.integer("SELECT count(*) FROM sqlite_schema") == 0) return {};
      if (owner != application) return why(errc::unsupported_media, " is a SQLite file, but not one of hailwire's");
      if (found != version) {
        return why(errc::not_implemented, " has version " + std::to_string(found) + "; this hailwire reads version " +
                                              std::to_string(version));
      }
      auto meta = c.prepare("SELECT clean, durability, boot FROM meta WHERE length(epoch) = 16 AND length(keys) = 16");
      if (!meta.step()) return why(errc::internal, " is damaged: its first row is missing");
      bool suspect = meta.integer(0) == 0 && meta.integer(1) == static_cast<int>(hailwire::durability::off) &&
                     (place.boot.empty() || meta.bytes(2) != place.boot);
      meta.reset();
      auto size = c.integer("PRAGMA page_count") * c.integer("PRAGMA page_size");
      if (suspect || static_cast<std::uint64_t>(size) <= place.check) {
        if (auto text = c.text("PRAGMA quick_check(1)"); text != "ok")
          return why(errc::internal, " is damaged: " + text);
      }
    } catch (const sqlite_failure& e) {
      if (auto reason = why_not(e.code)) return reason;
      if ((e.code & 0xFF) == SQLITE_ERROR) return why(errc::internal, " is damaged: a table is missing");
      throw;
    }
    made = true;
    return {};
  }

  static bool exists(const sqlite_place& place, const char* suffix) {
    sqlite3_vfs* vfs = sqlite3_vfs_find(place.vfs.empty() ? nullptr : place.vfs.c_str());
    int there = 1;
    if (vfs) vfs->xAccess(vfs, (place.path + suffix).c_str(), SQLITE_ACCESS_EXISTS, &there);
    return there != 0;
  }
  static std::string uri(const std::string& path) {
    std::string out = "file:";
    for (char c : path) {
      if (c == '%' || c == '?' || c == '#') {
        out += c == '%' ? "%25" : c == '?' ? "%3f" : "%23";
      } else {
        out += c;
      }
    }
    return out;
  }

  void make() {
    epoch_secret = random_bits();
    key_secret = random_bits();
    writer.run("PRAGMA page_size = 4096; BEGIN IMMEDIATE");
    writer.run(
        "CREATE TABLE meta(epoch BLOB NOT NULL, keys BLOB NOT NULL, channels INTEGER NOT NULL, clean INTEGER NOT NULL,"
        " durability INTEGER NOT NULL, boot TEXT, changed INTEGER NOT NULL);"
        "CREATE TABLE channels(name TEXT PRIMARY KEY, number INTEGER NOT NULL, head INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind INTEGER NOT NULL, before INTEGER NOT "
        "NULL,"
        " sender TEXT, type TEXT, media TEXT, data BLOB NOT NULL);"
        "CREATE TABLE tails(id INTEGER PRIMARY KEY, data BLOB NOT NULL);"
        "CREATE TABLE keys(hash BLOB PRIMARY KEY, print BLOB NOT NULL, offset INTEGER NOT NULL, at INTEGER NOT NULL) "
        "WITHOUT ROWID;"
        "CREATE INDEX keys_by_age ON keys(at)");
    writer
        .prepare("INSERT INTO meta VALUES(?, ?, 0, 1, 0, NULL, 0)")(sqlite_statement::blob(epoch_secret),
                                                                    sqlite_statement::blob(key_secret))
        .run();
    writer.run(("PRAGMA application_id = " + std::to_string(application) +
                "; PRAGMA user_version = " + std::to_string(version))
                   .c_str());
    writer.run("COMMIT");
  }

  void begin_use(const sqlite_place& place, bool wal) {
    writer.run(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = 1; PRAGMA cache_size = -16000; PRAGMA journal_size_limit = "
        "67108864");
    if (writer.text("PRAGMA journal_mode = WAL") != "wal") throw sqlite_failure{SQLITE_CANTOPEN};
    auto meta = writer.prepare("SELECT epoch, keys, clean, durability, boot FROM meta");
    if (!meta.step()) throw sqlite_failure{SQLITE_CORRUPT};
    auto read = [&](int column, bits128& to) { std::memcpy(&to, meta.bytes(column).data(), sizeof to); };
    read(0, epoch_secret);
    read(1, key_secret);
    bool clean = meta.integer(2) != 0, synced = meta.integer(3) == static_cast<int>(hailwire::durability::full);
    bool same_boot = !place.boot.empty() && meta.bytes(4) == place.boot;
    meta.reset();
    bool wal_lost = !clean && !wal;
    if (wal_lost || (!clean && !synced && !same_boot)) epoch_secret = random_bits();
    writer
        .prepare("UPDATE meta SET epoch = ?, clean = 0, durability = ?, boot = ?, changed = changed + 1")(
            sqlite_statement::blob(epoch_secret), static_cast<int>(place.durability), std::string_view(place.boot))
        .run();
    sync();
    if (durability_ == hailwire::durability::normal) writer.run("PRAGMA synchronous = NORMAL");
    if (durability_ == hailwire::durability::off) writer.run("PRAGMA synchronous = OFF");
  }

  // Precondition: something was written at FULL, something that differs from what was there (SQLite leaves out a write
  // that changes nothing; hence `meta.changed`). With nothing to move from the WAL, SQLite would sync nothing, and what
  // was written at OFF before would stay the kernel's.
  void sync() {
    if (writer.integer("PRAGMA wal_checkpoint(FULL)") != 0) throw sqlite_failure{SQLITE_BUSY};
  }
};

}  // namespace detail
}  // namespace hailwire
