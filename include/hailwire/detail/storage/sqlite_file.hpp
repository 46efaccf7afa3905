// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because the rules at its top bind all of its parts.
//
// One SQLite file as sqlite_storage keeps it: its schema, its lock, how it is opened, and what must be true of it
// before a message may be acknowledged.
//
// Schema, version 3 (`user_version`; `application_id` is "hail"):
// - `channels`: name → number, the head where the log itself no longer shows it (all trimmed), and the retention that
// is
//   the channel's own (0: the storage's).
// - `messages`: the row's id is channel number × 2^40 + offset. So one table is the log of every channel, each in one
//   piece and in order, and needs no index beside it. `before` is how many payload bytes came before this message in
//   its channel; how much lies between two rows is one subtraction.
// - `tails`: a row that takes a little more than half a page would leave the rest of its page empty; it is cut in two.
// - `notes`: what few messages have: which one they erase, which one has erased them, the content that they name.
// - `marks`: watermarks, by channel number, user and device. `tokens`: device tokens, by user and device.
// - `keys`: hash of channel and key → hash of the payload, offset, when: in milliseconds of use, which neither a clock
//   that is set nor the time between two uses adds to.
// - `meta`: one row: the two secrets, the next channel number, under which conditions the file is in use, what the
// system
//   calls the file and its WAL, and whether any channel goes by an age of its own.
// Version 1 had Unix time in `keys`, and in `meta` no `file`, `wal` and `written`. Version 2 had no `notes`, `marks`
// and `tokens`, and no retention of a channel's own.
//
// Epochs are not stored: a channel's epoch is a hash of its name under the secret `meta.epoch`. Replacing that one
// secret gives every channel a new epoch. It is replaced when acknowledged messages may be missing:
// - the last use did not end cleanly, was less than `full`, and the machine has started anew since (its boot id
//   differs), so that what the kernel had not yet written is gone;
// - the last use did not end cleanly and its WAL is gone: removed by hand, or moved into the file by another program
//   (which cannot be told apart), with another in its place or none;
// - the file is not the one that was in use but a copy, which may be older than what was acknowledged since;
// - it ended cleanly and was written since, or another program wrote into it during the last use.
// A process that is killed loses nothing: what it wrote is the kernel's.
//
// For that to hold, two marks must be in order with the messages. At opening, all that earlier uses left behind is
// synced, then "in use, by this boot, at this durability", before the first append. At the end everything is synced,
// and only then "ended cleanly". Syncing the file itself does not wait for its WAL to be moved into it: another program
// that reads may hold that up for as long as it likes.

#include <sqlite3.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/storage/sqlite_lock.hpp"
#include "hailwire/durability.hpp"
#include "hailwire/error.hpp"

static_assert(SQLITE_VERSION_NUMBER >= 3037000, "hailwire: storage/sqlite.hpp needs SQLite 3.37 or newer");

namespace hailwire {

namespace detail {

/// What SQLite answered, thrown inside the storage only.
struct sqlite_failure {
  int code;  // an extended result code
};

/// No room for a row, or for the -shm.
inline bool no_room(int code) noexcept { return (code & 0xFF) == SQLITE_FULL || code == SQLITE_IOERR_SHMSIZE; }

/// For logs and decisions: no space, an I/O error, a locked file and no memory have the system's own codes.
inline std::error_code sqlite_error(int code) noexcept {
  auto system = [](int e) { return std::error_code(e, std::system_category()); };
  if (no_room(code)) return system(ENOSPC);
  switch (code & 0xFF) {
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
  explicit operator bool() const noexcept { return handle_ != nullptr; }

  /// Whether the last connection that closes moves the WAL into the file and removes it.
  void keep_wal(bool keep) noexcept {
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep ? 1 : 0, nullptr);
  }
  /// Has the disk keep what was moved into the file. SQLite does so by itself only where it moves something.
  void sync() {
    sqlite3_file* file = nullptr;
    int code = sqlite3_file_control(handle_, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (code == SQLITE_OK && file && file->pMethods) code = file->pMethods->xSync(file, SQLITE_SYNC_FULL);
    if (code != SQLITE_OK) throw sqlite_failure{code};
  }
  /// Moves into the file what no reader holds up, without waiting; true: the WAL can be begun anew.
  bool checkpoint() noexcept {
    int pages = 0, moved = 0;
    return sqlite3_wal_checkpoint_v2(handle_, nullptr, SQLITE_CHECKPOINT_PASSIVE, &pages, &moved) == SQLITE_OK &&
           pages == moved;
  }
  /// Has `pages` told, after each commit, how many are in the WAL.
  void count_wal(int* pages) noexcept {
    sqlite3_wal_hook(
        handle_, [](void* to, sqlite3*, const char*, int n) { return *static_cast<int*>(to) = n, SQLITE_OK; }, pages);
  }

 private:
  sqlite3* handle_ = nullptr;
};

struct sqlite_place {
  std::string path, vfs, boot;
  hailwire::durability durability = hailwire::durability::full;
  std::uint64_t check = 0;
};

/// Takes away a file that a start which failed has made.
class sqlite_leftovers {
 public:
  sqlite_leftovers() = default;
  explicit sqlite_leftovers(const sqlite_place& place) : path_(place.path), vfs_(place.vfs) {}
  sqlite_leftovers(sqlite_leftovers&& other) noexcept
      : path_(std::exchange(other.path_, {})), vfs_(std::move(other.vfs_)) {}
  sqlite_leftovers& operator=(sqlite_leftovers&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(vfs_, other.vfs_);
    return *this;
  }
  ~sqlite_leftovers() {
    sqlite3_vfs* vfs = sqlite3_vfs_find(vfs_.empty() ? nullptr : vfs_.c_str());
    if (path_.empty() || !vfs) return;
    for (const char* part : {"-wal", "-shm", "-journal", ""}) vfs->xDelete(vfs, (path_ + part).c_str(), 0);
  }
  void keep() noexcept { path_.clear(); }

 private:
  std::string path_, vfs_;
};

class sqlite_file {
  sqlite_lock lock_;  // these two first, so that they are given up last
  sqlite_inode_lock inode_lock_;
  sqlite_leftovers leftovers_;
  bool in_use_ = false;
  int version_ = 0;                 // of the file as it was found
  std::int64_t written_ = 0;        // its last clean end, in seconds of Unix time
  std::int64_t other_writers_ = 0;  // a number that changes when another program writes

 public:
  static constexpr std::int64_t application = 0x6861696C;  // "hail"
  static constexpr int version = 3;
  static constexpr int offset_bits = 40;  // 10^12 messages in each of 8 million channels
  static constexpr std::uint64_t max_channels = (std::uint64_t{1} << (63 - offset_bits)) - 1;

  sqlite_connection writer;  // while the file is in use
  bits128 epoch_secret, key_secret;

  /// Opens or makes the file. Whatever the error is, the file is as it was. Where only the room is missing to write
  /// that the file is in use, it can be read, and `use` may be tried again.
  static result<sqlite_file> open(const sqlite_place& place) {
    if (!sqlite3_threadsafe()) return {errc::not_implemented, "this SQLite was built without threads"};
    if (place.path.empty() || place.path[0] == ':')
      return {errc::bad_request, "a storage needs a file, not '" + place.path + "'"};
    sqlite_file f;
    auto locked = [&](int error, const std::string& path) -> failure {
      if (error == EWOULDBLOCK) return {errc::conflict, place.path + " is in use: another storage has it open"};
      return {errc::internal, path + ": " + std::system_category().message(error)};
    };
    if (int error = f.lock_.take(place.path + "-lock")) return locked(error, place.path + "-lock");
    // All that the system knows is asked for before SQLite opens the file, and may make another WAL. While the file is
    // in use its WAL is never empty. Frames are not asked for: a WAL that is begun anew when the power is cut may have
    // none, and has lost nothing.
    evidence found;
    found.wal = exists(place, "-wal");
    bool there = exists(place, "");
    if (place.vfs.empty()) {  // another VFS has files of its own kind
      found.file = file_identity(place.path);
      found.written = file_written(place.path);
      if (found.wal) found.wal_file = file_identity(place.path + "-wal");
      there = !found.file.empty();
    }
    if (place.vfs.empty()) {
      if (int error = f.inode_lock_.take(place.path)) return locked(error, place.path);
    }
    if (!there) f.leftovers_ = sqlite_leftovers(place);
    if (place.vfs.empty()) {
      for (const char* part : {"-wal", "-shm"})
        if (int error = unwritable(place.path + part)) return locked(error, place.path + part);
    }
    try {
      if (auto why = f.look(place, found)) return *why;
      try {
        f.use(place);
      } catch (const sqlite_failure& e) {
        if (f.version_ == 0 || !no_room(e.code)) throw;
      }
    } catch (const sqlite_failure& e) {
      return {errc::internal, place.path + ": " + sqlite3_errstr(e.code)};
    }
    return f;
  }

  bool in_use() const noexcept { return in_use_; }
  /// Whether its schema is this version's; else it is one that could not be brought up, and can only be read.
  bool current() const noexcept { return version_ == version; }
  /// The file stays, also where this use has made it.
  void keep() noexcept { leftovers_.keep(); }

  /// Marks the file as in use, in the schema of this version. Tried again after it threw; nobody reads meanwhile.
  void use(const sqlite_place& place) {
    // A WAL that was there stays where it is, whatever becomes of this: it is the proof that nothing is missing.
    bool wal = exists(place, "-wal");
    writer = sqlite_connection(place.path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, place.vfs);
    try {
      writer.keep_wal(true);
      writer.run(
          "PRAGMA synchronous = FULL; PRAGMA fullfsync = 1; PRAGMA cache_size = -16000; PRAGMA secure_delete = 1;"
          "PRAGMA journal_size_limit = 67108864");
      if (version_ == 0) make();
      if (writer.text("PRAGMA journal_mode = WAL") != "wal") throw sqlite_failure{SQLITE_CANTOPEN};
      writer.sync();
      mark(place);
    } catch (const sqlite_failure&) {
      writer.roll_back();
      writer.keep_wal(wal);
      writer.close();
      throw;
    }
    in_use_ = true;
    inode_lock_.guard(place.path);
    writer.checkpoint();
    see_others();
    if (place.durability == hailwire::durability::normal) writer.run("PRAGMA synchronous = NORMAL");
    if (place.durability == hailwire::durability::off) writer.run("PRAGMA synchronous = OFF");
  }

  /// Sees the file as of the last commit; before the file is in use, as it was found.
  sqlite_connection reader(const sqlite_place& place) const {
    // What nobody writes can be read without a -shm, for which there may be no room.
    bool still = !in_use_ && is_whole(place);
    auto c = still ? unchanged(place) : sqlite_connection(place.path, SQLITE_OPEN_READWRITE, place.vfs);
    c.keep_wal(true);  // also where it is the last to close a file that could not be marked as in use
    c.run("PRAGMA query_only = 1; PRAGMA cache_size = -8000");
    return c;
  }

  /// What other programs have written until now is not held against the file when its use ends: after a failure SQLite
  /// cannot tell their writing from its own.
  void see_others() noexcept {
    try {
      other_writers_ = writer.integer("PRAGMA data_version");
    } catch (const sqlite_failure&) {
    }
  }

  /// Syncs everything and marks the file as cleanly ended. The readers are closed by now.
  void end_use() noexcept {
    if (!in_use_) return;
    in_use_ = false;
    std::int64_t now = 0;
    try {
      // A commit at FULL syncs the whole WAL, also what earlier ones left to the kernel.
      writer.run("PRAGMA synchronous = FULL; UPDATE meta SET changed = changed + 1");
      writer.sync();
      if (writer.integer("PRAGMA data_version") != other_writers_) epoch_secret = random_bits();
      now = std::max<std::int64_t>(std::time(nullptr), written_ + 1);
      writer
          .prepare("UPDATE meta SET epoch = ?, clean = 1, written = ?")(sqlite_statement::blob(epoch_secret),
                                                                        inode_lock_ ? now : 0)
          .run();
      writer.keep_wal(false);
    } catch (const sqlite_failure&) {
      now = 0;  // a disk that fails leaves the file in use; the next opening draws its conclusions
    }
    inode_lock_.unguard();
    writer.close();
    if (now) inode_lock_.set_written(now);
  }

 private:
  using maybe_failure = std::optional<failure>;

  /// What the system knows of the file before it is opened. Empty: nothing, as in a VFS of another kind.
  struct evidence {
    bool wal = false;
    std::string file, wal_file;
    std::int64_t written = 0;
  };

  /// Why the file cannot be used, found through a connection that cannot write; or under which secrets it is used.
  maybe_failure look(const sqlite_place& place, const evidence& seen) {
    auto why = [&](errc code, const std::string& text) { return maybe_failure(failure(code, place.path + text)); };
    auto why_not = [&](int code) -> maybe_failure {
      if ((code & 0xFF) == SQLITE_NOTADB) return why(errc::unsupported_media, " is not a SQLite file");
      if ((code & 0xFF) == SQLITE_CORRUPT) return why(errc::internal, " is damaged");
      return {};
    };
    sqlite_connection c;
    try {
      c = is_whole(place) ? unchanged(place) : sqlite_connection(place.path, SQLITE_OPEN_READONLY, place.vfs);
      c.keep_wal(true);
      c.integer("SELECT count(*) FROM sqlite_schema");
    } catch (const sqlite_failure& e) {
      if ((e.code & 0xFF) == SQLITE_CANTOPEN && !exists(place, "")) return {};
      if (auto reason = why_not(e.code)) return reason;
      // What a reader may not do is to finish a change that was cut short, as that of the making of the file.
      c = sqlite_connection(place.path, SQLITE_OPEN_READWRITE, place.vfs);
      c.keep_wal(true);
    }
    try {
      std::int64_t owner = c.integer("PRAGMA application_id"), found = c.integer("PRAGMA user_version");
      if (owner == 0 && found == 0 && c.integer("SELECT count(*) FROM sqlite_schema") == 0) return {};
      if (owner != application) return why(errc::unsupported_media, " is a SQLite file, but not one of hailwire's");
      if (found > version) {
        return why(errc::not_implemented, " has version " + std::to_string(found) +
                                              "; this hailwire reads up to version " + std::to_string(version));
      }
      if (found < 1) return why(errc::internal, " is damaged: it has version " + std::to_string(found));
      auto meta = c.prepare((std::string("SELECT clean, durability, boot, epoch, keys, ") +
                             (found < 2 ? "NULL, NULL, 0" : "file, wal, written") +
                             " FROM meta WHERE length(epoch) = 16 AND length(keys) = 16")
                                .c_str());
      if (!meta.step()) return why(errc::internal, " is damaged: its first row is missing");
      bool unsynced = meta.integer(0) == 0 && (place.boot.empty() || meta.bytes(2) != place.boot);
      bool suspect = unsynced && meta.integer(1) == static_cast<int>(hailwire::durability::off);
      decide(meta, unsynced, seen);
      meta.reset();
      auto size = c.integer("PRAGMA page_count") * c.integer("PRAGMA page_size");
      if (suspect || static_cast<std::uint64_t>(size) <= place.check) {
        if (auto text = c.text("PRAGMA quick_check(1)"); text != "ok")
          return why(errc::internal, " is damaged: " + text);
      }
      version_ = static_cast<int>(found);
    } catch (const sqlite_failure& e) {
      if (auto reason = why_not(e.code)) return reason;
      if ((e.code & 0xFF) == SQLITE_ERROR) return why(errc::internal, " is damaged: a table is missing");
      throw;
    }
    return {};
  }

  /// Under which secrets the file goes on; see the rules at the top. What an older version, or a VFS of another kind,
  /// has not written down is not held against the file.
  void decide(sqlite_statement& meta, bool unsynced, const evidence& seen) {
    auto read = [&](int column, bits128& to) { std::memcpy(&to, meta.bytes(column).data(), sizeof to); };
    auto another = [](std::string_view kept, std::string_view found) { return !kept.empty() && kept != found; };
    read(3, epoch_secret);
    read(4, key_secret);
    written_ = meta.integer(7);
    bool clean = meta.integer(0) != 0, full = meta.integer(1) == static_cast<int>(hailwire::durability::full);
    bool wal_lost = !clean && (!seen.wal || another(meta.bytes(6), seen.wal_file));
    bool copied = another(meta.bytes(5), seen.file);
    bool written = clean && written_ > 0 && seen.written != written_ * 1'000'000'000;
    if ((unsynced && !full) || wal_lost || copied || written) epoch_secret = random_bits();
  }

  /// Without a -wal or a -journal, or with nothing in them, all there is to know is in the file.
  static bool is_whole(const sqlite_place& place) { return !exists(place, "-wal") && !exists(place, "-journal"); }
  /// Even to read a file in WAL mode, SQLite makes a -wal and a -shm beside it and leaves them there; not so if it is
  /// told that nobody changes the file.
  static sqlite_connection unchanged(const sqlite_place& place) {
    return {uri(place.path) + "?immutable=1", SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, place.vfs};
  }
  /// An empty file counts as none, as in SQLite's own VFS.
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
        " durability INTEGER NOT NULL, boot TEXT, changed INTEGER NOT NULL, file TEXT, wal TEXT,"
        " written INTEGER NOT NULL);"
        "CREATE TABLE channels(name TEXT PRIMARY KEY, number INTEGER NOT NULL, head INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind INTEGER NOT NULL, before INTEGER NOT "
        "NULL,"
        " sender TEXT, type TEXT, media TEXT, data BLOB NOT NULL);"
        "CREATE TABLE tails(id INTEGER PRIMARY KEY, data BLOB NOT NULL);"
        "CREATE TABLE keys(hash BLOB PRIMARY KEY, print BLOB NOT NULL, offset INTEGER NOT NULL, at INTEGER NOT NULL) "
        "WITHOUT ROWID;"
        "CREATE INDEX keys_by_age ON keys(at)");
    writer
        .prepare("INSERT INTO meta VALUES(?, ?, 0, 1, 0, NULL, 0, NULL, NULL, 0)")(sqlite_statement::blob(epoch_secret),
                                                                                   sqlite_statement::blob(key_secret))
        .run();
    writer.run(("PRAGMA application_id = " + std::to_string(application)).c_str());
    bring_from_2();
    writer.run("COMMIT");
    version_ = version;
  }
  void bring_from_2() {
    writer.run(
        "ALTER TABLE channels ADD COLUMN keep_messages INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE channels ADD COLUMN keep_bytes INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE channels ADD COLUMN keep_age INTEGER NOT NULL DEFAULT 0;"  // seconds
        "ALTER TABLE meta ADD COLUMN ages INTEGER NOT NULL DEFAULT 0;"
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, erases INTEGER NOT NULL, erased_by INTEGER NOT NULL, content TEXT,"
        " size INTEGER NOT NULL, media TEXT);"
        "CREATE TABLE marks(channel INTEGER NOT NULL, user BLOB NOT NULL, device BLOB NOT NULL, epoch TEXT NOT NULL,"
        " received INTEGER NOT NULL, read INTEGER NOT NULL, public_read INTEGER NOT NULL, at INTEGER NOT NULL,"
        " PRIMARY KEY(channel, user, device)) WITHOUT ROWID;"
        "CREATE TABLE tokens(user BLOB NOT NULL, device BLOB NOT NULL, service BLOB NOT NULL, token BLOB NOT NULL,"
        " extra BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(user, device)) WITHOUT ROWID;"
        "CREATE UNIQUE INDEX tokens_by_name ON tokens(token, service);"
        "PRAGMA user_version = 3");
  }

  /// One transaction: the file is brought to this version's schema and in use, or as it was.
  void mark(const sqlite_place& place) {
    writer.run("BEGIN IMMEDIATE");
    if (version_ < 2) {
      writer.run(
          "ALTER TABLE meta ADD COLUMN file TEXT; ALTER TABLE meta ADD COLUMN wal TEXT;"
          "ALTER TABLE meta ADD COLUMN written INTEGER NOT NULL DEFAULT 0; UPDATE keys SET at = 0");
    }
    if (version_ < 3) bring_from_2();
    std::string file, wal;
    if (place.vfs.empty()) {
      file = file_identity(place.path);
      wal = file_identity(place.path + "-wal");
    }
    // SQLite leaves out a write that changes nothing; hence `meta.changed`.
    writer
        .prepare(
            "UPDATE meta SET epoch = ?, clean = 0, durability = ?, boot = ?, changed = changed + 1, file = ?, wal = ?,"
            " written = 0")(sqlite_statement::blob(epoch_secret), static_cast<int>(place.durability),
                            std::string_view(place.boot), std::string_view(file), std::string_view(wal))
        .run();
    writer.run("COMMIT");
    version_ = version;
  }
};

}  // namespace detail
}  // namespace hailwire
