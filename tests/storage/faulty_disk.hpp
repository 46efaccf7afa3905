// SPDX-License-Identifier: BSL-1.0
#pragma once

// A disk in memory, as a SQLite VFS, that fails where it is told to and whose power can be cut.
//
// What survives a cut, as a file system promises no more: of each file what it held when it was last synced, and of the
// writes since then none, the first few, or any, whichever the seed says. Names (files made and deleted) survive as of
// the last sync of the directory, which SQLite's own VFS does when it first syncs a journal or WAL that it made; a
// later making or deleting may have happened or not.

#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <vector>

class faulty_disk {
 public:
  enum class fault { none, write_error, short_write, no_space, sync_error, read_error };

  faulty_disk() : name_("faulty-disk-" + std::to_string(++made_)) {
    std::memset(&vfs_, 0, sizeof vfs_);
    vfs_.iVersion = 2;
    vfs_.szOsFile = sizeof(handle);
    vfs_.mxPathname = 512;
    vfs_.zName = name_.c_str();
    vfs_.pAppData = this;
    vfs_.xOpen = [](sqlite3_vfs* v, sqlite3_filename name, sqlite3_file* f, int flags, int* out) {
      return of(v).open(name, f, flags, out);
    };
    vfs_.xDelete = [](sqlite3_vfs* v, const char* name, int sync) { return of(v).remove(name, sync != 0); };
    vfs_.xAccess = [](sqlite3_vfs* v, const char* name, int, int* out) { return *out = of(v).has(name), SQLITE_OK; };
    vfs_.xFullPathname = [](sqlite3_vfs*, const char* name, int size, char* out) {
      sqlite3_snprintf(size, out, "%s", name);
      return SQLITE_OK;
    };
    vfs_.xRandomness = [](sqlite3_vfs*, int n, char* out) { return real()->xRandomness(real(), n, out); };
    vfs_.xSleep = [](sqlite3_vfs*, int n) { return real()->xSleep(real(), n); };
    vfs_.xCurrentTime = [](sqlite3_vfs*, double* out) { return real()->xCurrentTime(real(), out); };
    vfs_.xGetLastError = [](sqlite3_vfs*, int, char*) { return 0; };
    vfs_.xCurrentTimeInt64 = [](sqlite3_vfs*, sqlite3_int64* out) { return real()->xCurrentTimeInt64(real(), out); };
    sqlite3_vfs_register(&vfs_, 0);
  }
  ~faulty_disk() { sqlite3_vfs_unregister(&vfs_); }
  faulty_disk(const faulty_disk&) = delete;
  faulty_disk& operator=(const faulty_disk&) = delete;

  const std::string& name() const { return name_; }

  /// The operation of its kind number `step` from now fails, and with `forever` all after it. Steps count from 0.
  void fail(fault f, std::size_t step, bool forever = false) {
    std::lock_guard lock(mutex_);
    fault_ = f, step_ = step, forever_ = forever, hits_ = 0;
  }
  void mend() { fail(fault::none, 0); }
  /// How often it failed since.
  std::size_t hits() {
    std::lock_guard lock(mutex_);
    return hits_;
  }
  /// All files together may hold this much.
  void resize(std::size_t bytes) {
    std::lock_guard lock(mutex_);
    capacity_ = bytes;
  }

  /// From now on syncs take until `release`: a disk that is slower than its users.
  void hold() {
    std::lock_guard lock(mutex_);
    held_ = true;
  }
  void release() {
    std::lock_guard lock(mutex_);
    held_ = false;
    released_.notify_all();
  }

  /// The power goes before the write, sync, truncation, making or deleting number `step` from now.
  void cut_after(std::size_t step) {
    std::lock_guard lock(mutex_);
    cut_ = step;
  }
  void cut_now() {
    std::lock_guard lock(mutex_);
    dead_ = true;
  }
  bool dead() {
    std::lock_guard lock(mutex_);
    return dead_;
  }
  /// Another process opens what one that was killed has left: the kernel still has every write. Nothing may be open.
  void revive() {
    std::lock_guard lock(mutex_);
    dead_ = false;
    cut_ = SIZE_MAX;
  }
  /// The power comes back. Nothing may be open.
  void restore(unsigned seed) {
    std::lock_guard lock(mutex_);
    std::mt19937 random(seed);
    std::map<std::string, std::shared_ptr<node>> names;
    for (const auto* list : {&synced_names_, &names_}) {
      for (const auto& [n, file] : *list) {
        auto before = synced_names_.find(n), now = names_.find(n);
        auto old = before == synced_names_.end() ? nullptr : before->second;
        auto fresh = now == names_.end() ? nullptr : now->second;
        if (names.count(n) || absent_.count(n)) continue;
        auto kept = old == fresh || random() % 2 ? fresh : old;
        if (kept)
          names[n] = kept;
        else
          absent_.insert({n, true});
      }
    }
    absent_.clear();
    for (auto& [n, file] : names) {
      auto mode = random() % 3;  // none, the first few, any
      std::size_t first = file->unsynced.empty() ? 0 : random() % (file->unsynced.size() + 1);
      file->now = file->synced;
      for (std::size_t i = 0; i < file->unsynced.size(); ++i)
        if (mode == 1 ? i < first : mode == 2 && random() % 2) file->unsynced[i].apply(file->now);
      file->synced = file->now;
      file->unsynced.clear();
      file->made = false;
    }
    names_ = synced_names_ = names;
    dead_ = false;
    cut_ = SIZE_MAX;
  }

 private:
  struct change {
    std::size_t offset;
    std::string bytes;
    bool truncates;
    void apply(std::string& to) const {
      if (truncates) return to.resize(std::min(to.size(), offset));
      if (to.size() < offset + bytes.size()) to.resize(offset + bytes.size());
      to.replace(offset, bytes.size(), bytes);
    }
  };
  struct node {
    std::string now, synced;
    std::vector<change> unsynced;
    bool made = true;  // and its directory not synced since
    // Locks, as SQLite's "OS interface" page has them; by handle.
    std::vector<const void*> shared;
    const void *reserved = nullptr, *pending = nullptr, *exclusive = nullptr;
    std::vector<std::unique_ptr<char[]>> shm;
    std::vector<const void*> shm_users;
    std::vector<const void*> shm_shared[SQLITE_SHM_NLOCK];
    const void* shm_exclusive[SQLITE_SHM_NLOCK] = {};
  };
  struct handle {
    sqlite3_file base;
    faulty_disk* disk;
    std::shared_ptr<node> file;
    bool journal, read_only;
    int level;
  };

  static faulty_disk& of(sqlite3_vfs* v) { return *static_cast<faulty_disk*>(v->pAppData); }
  static handle& of(sqlite3_file* f) { return *reinterpret_cast<handle*>(f); }
  static sqlite3_vfs* real() {
    static sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
    return vfs;
  }

  // Whether this step of the power's count may still happen.
  bool alive() {
    if (!dead_ && cut_ != SIZE_MAX && cut_-- == 0) dead_ = true;
    return !dead_;
  }
  bool fails(fault f) {
    if (fault_ != f) return false;
    if (step_ > 0) return --step_, false;
    ++hits_;
    if (!forever_) fault_ = fault::none;
    return true;
  }

  int open(const char* name, sqlite3_file* f, int flags, int* out) {
    std::lock_guard lock(mutex_);
    handle* h = reinterpret_cast<handle*>(f);
    h->base.pMethods = nullptr;
    std::shared_ptr<node> file;
    if (name) {
      auto known = names_.find(name);
      if (known != names_.end()) file = known->second;
      if (!file && !(flags & SQLITE_OPEN_CREATE)) return SQLITE_CANTOPEN;
      if (!file && !alive()) return SQLITE_IOERR;
      if (!file) file = names_[name] = std::make_shared<node>();
    } else {
      file = std::make_shared<node>();
    }
    ::new (h) handle{{methods()},
                     this,
                     file,
                     (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL)) != 0,
                     (flags & SQLITE_OPEN_READONLY) != 0,
                     SQLITE_LOCK_NONE};
    if (out) *out = flags;
    return SQLITE_OK;
  }
  int remove(const char* name, bool sync) {
    std::lock_guard lock(mutex_);
    if (!names_.count(name)) return SQLITE_IOERR_DELETE_NOENT;
    if (!alive()) return SQLITE_IOERR_DELETE;
    names_.erase(name);
    if (sync) synced_names_ = names_;
    return SQLITE_OK;
  }
  bool has(const char* name) {
    std::lock_guard lock(mutex_);
    return names_.count(name) > 0;
  }

  int read(handle& h, void* to, int size, sqlite3_int64 at) {
    std::lock_guard lock(mutex_);
    if (dead_ || fails(fault::read_error)) return SQLITE_IOERR_READ;
    auto offset = static_cast<std::size_t>(at), wanted = static_cast<std::size_t>(size);
    std::size_t there = offset < h.file->now.size() ? std::min(wanted, h.file->now.size() - offset) : 0;
    std::memcpy(to, h.file->now.data() + std::min(offset, h.file->now.size()), there);
    std::memset(static_cast<char*>(to) + there, 0, wanted - there);
    return there < wanted ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
  }
  int write(handle& h, const void* from, int size, sqlite3_int64 at) {
    std::lock_guard lock(mutex_);
    if (h.read_only) return SQLITE_READONLY;
    if (!alive() || fails(fault::write_error)) return SQLITE_IOERR_WRITE;
    if (fails(fault::no_space)) return SQLITE_FULL;
    bool part = fails(fault::short_write);
    auto offset = static_cast<std::size_t>(at);
    std::size_t count = static_cast<std::size_t>(size) / (part ? 2 : 1), used = 0;
    for (auto& [n, file] : names_) used += file->now.size();
    std::size_t end = std::max(h.file->now.size(), offset + count);
    if (used - h.file->now.size() + end > capacity_) return SQLITE_FULL;
    change c{offset, std::string(static_cast<const char*>(from), count), false};
    c.apply(h.file->now);
    h.file->unsynced.push_back(std::move(c));
    return part ? SQLITE_FULL : SQLITE_OK;
  }
  int truncate(handle& h, sqlite3_int64 size) {
    std::lock_guard lock(mutex_);
    if (!alive() || fails(fault::write_error)) return SQLITE_IOERR_TRUNCATE;
    change c{static_cast<std::size_t>(size), {}, true};
    c.apply(h.file->now);
    h.file->unsynced.push_back(std::move(c));
    return SQLITE_OK;
  }
  int sync(handle& h) {
    std::unique_lock lock(mutex_);
    released_.wait(lock, [&] { return !held_; });
    if (!alive() || fails(fault::sync_error)) return SQLITE_IOERR_FSYNC;
    for (const change& c : h.file->unsynced) c.apply(h.file->synced);
    h.file->unsynced.clear();
    if (h.journal && h.file->made) {
      synced_names_ = names_;
      h.file->made = false;
    }
    return SQLITE_OK;
  }

  int lock(handle& h, int level) {
    std::lock_guard guard(mutex_);
    node& n = *h.file;
    auto others = [&] { return std::any_of(n.shared.begin(), n.shared.end(), [&](const void* p) { return p != &h; }); };
    if (level <= h.level) return SQLITE_OK;
    if (h.read_only && level > SQLITE_LOCK_SHARED) return SQLITE_IOERR_LOCK;  // fcntl: EBADF
    if (level == SQLITE_LOCK_SHARED) {
      if (n.pending || n.exclusive) return SQLITE_BUSY;
      n.shared.push_back(&h);
    } else if (level == SQLITE_LOCK_RESERVED) {
      if (n.reserved) return SQLITE_BUSY;
      n.reserved = &h;
    } else {
      if ((n.pending && n.pending != &h) || (n.reserved && n.reserved != &h)) return SQLITE_BUSY;
      n.reserved = n.pending = &h;
      h.level = SQLITE_LOCK_PENDING;
      if (others()) return SQLITE_BUSY;
      n.exclusive = &h;
    }
    h.level = level;
    return SQLITE_OK;
  }
  int unlock(handle& h, int level) {
    std::lock_guard guard(mutex_);
    node& n = *h.file;
    for (const void** p : {&n.reserved, &n.pending, &n.exclusive})
      if (*p == &h) *p = nullptr;
    if (level == SQLITE_LOCK_NONE) n.shared.erase(std::remove(n.shared.begin(), n.shared.end(), &h), n.shared.end());
    h.level = level;
    return SQLITE_OK;
  }
  int reserved(handle& h, int* out) {
    std::lock_guard guard(mutex_);
    *out = h.file->reserved != nullptr;
    return SQLITE_OK;
  }

  int shm_map(handle& h, int region, int size, int extend, void volatile** out) {
    std::lock_guard guard(mutex_);
    node& n = *h.file;
    if (std::find(n.shm_users.begin(), n.shm_users.end(), &h) == n.shm_users.end()) n.shm_users.push_back(&h);
    auto index = static_cast<std::size_t>(region);
    *out = nullptr;
    if (n.shm.size() <= index && !extend) return SQLITE_OK;
    while (n.shm.size() <= index) n.shm.push_back(std::make_unique<char[]>(static_cast<std::size_t>(size)));
    *out = n.shm[index].get();
    return SQLITE_OK;
  }
  int shm_lock(handle& h, int first, int count, int flags) {
    std::lock_guard guard(mutex_);
    node& n = *h.file;
    for (int i = first; i < first + count; ++i) {
      bool foreign =
          std::any_of(n.shm_shared[i].begin(), n.shm_shared[i].end(), [&](const void* p) { return p != &h; });
      bool held = n.shm_exclusive[i] && n.shm_exclusive[i] != &h;
      if (flags & SQLITE_SHM_LOCK && (held || (flags & SQLITE_SHM_EXCLUSIVE && foreign))) return SQLITE_BUSY;
    }
    for (int i = first; i < first + count; ++i) {
      auto& shared = n.shm_shared[i];
      shared.erase(std::remove(shared.begin(), shared.end(), &h), shared.end());
      if (n.shm_exclusive[i] == &h) n.shm_exclusive[i] = nullptr;
      if (flags & SQLITE_SHM_LOCK && flags & SQLITE_SHM_SHARED) shared.push_back(&h);
      if (flags & SQLITE_SHM_LOCK && flags & SQLITE_SHM_EXCLUSIVE) n.shm_exclusive[i] = &h;
    }
    return SQLITE_OK;
  }
  int shm_unmap(handle& h) {
    std::lock_guard guard(mutex_);
    node& n = *h.file;
    n.shm_users.erase(std::remove(n.shm_users.begin(), n.shm_users.end(), &h), n.shm_users.end());
    if (n.shm_users.empty()) n.shm.clear();
    return SQLITE_OK;
  }

  static const sqlite3_io_methods* methods() {
    static const sqlite3_io_methods table = [] {
      sqlite3_io_methods m{};
      m.iVersion = 2;
      m.xClose = [](sqlite3_file* f) { return of(f).~handle(), SQLITE_OK; };
      m.xRead = [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) { return of(f).disk->read(of(f), to, n, at); };
      m.xWrite = [](sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
        return of(f).disk->write(of(f), from, n, at);
      };
      m.xTruncate = [](sqlite3_file* f, sqlite3_int64 size) { return of(f).disk->truncate(of(f), size); };
      m.xSync = [](sqlite3_file* f, int) { return of(f).disk->sync(of(f)); };
      m.xFileSize = [](sqlite3_file* f, sqlite3_int64* out) {
        std::lock_guard lock(of(f).disk->mutex_);
        *out = static_cast<sqlite3_int64>(of(f).file->now.size());
        return SQLITE_OK;
      };
      m.xLock = [](sqlite3_file* f, int level) { return of(f).disk->lock(of(f), level); };
      m.xUnlock = [](sqlite3_file* f, int level) { return of(f).disk->unlock(of(f), level); };
      m.xCheckReservedLock = [](sqlite3_file* f, int* out) { return of(f).disk->reserved(of(f), out); };
      m.xFileControl = [](sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; };
      m.xSectorSize = [](sqlite3_file*) { return 4096; };
      m.xDeviceCharacteristics = [](sqlite3_file*) {
        return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
      };  // as the real VFS says
      m.xShmMap = [](sqlite3_file* f, int i, int n, int extend, void volatile** out) {
        return of(f).disk->shm_map(of(f), i, n, extend, out);
      };
      m.xShmLock = [](sqlite3_file* f, int i, int n, int flags) { return of(f).disk->shm_lock(of(f), i, n, flags); };
      m.xShmBarrier = [](sqlite3_file* f) { std::lock_guard lock(of(f).disk->mutex_); };
      m.xShmUnmap = [](sqlite3_file* f, int) { return of(f).disk->shm_unmap(of(f)); };
      return m;
    }();
    return &table;
  }

  static inline std::atomic<unsigned> made_ = 0;
  std::string name_;
  sqlite3_vfs vfs_;
  std::mutex mutex_;
  std::condition_variable released_;
  bool held_ = false;
  std::map<std::string, std::shared_ptr<node>> names_, synced_names_;
  std::map<std::string, bool> absent_;
  fault fault_ = fault::none;
  std::size_t step_ = 0, hits_ = 0, capacity_ = SIZE_MAX, cut_ = SIZE_MAX;
  bool forever_ = false, dead_ = false;
};
