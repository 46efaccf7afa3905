// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because what an upload may be, what a message makes of it and what a start finds are one table.

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "hailwire/detail/base/descriptor.hpp"
#include "hailwire/detail/storage/content_files.hpp"
#include "hailwire/detail/storage/fingerprint.hpp"

namespace hailwire::detail {

/// Where a content's bytes begin in its file.
inline constexpr std::size_t content_head = 1024;
inline constexpr std::string_view content_magic = "hailwire content 1\n";
/// How many bytes of an upload wait for the disk at `durability::full` until they are synced, so that its end does not
/// have to wait for all of them.
inline constexpr std::uint64_t content_sync_bytes = 4u << 20;
/// How long a content that went with its message is remembered for a repeat of its publish: as long as keys.
inline constexpr std::int64_t content_memory_ms = 5 * 60 * 1000;

inline std::error_code last_error() noexcept { return {errno, std::system_category()}; }

HAILWIRE_INLINE content_files::content_files(const files_options& o, any_storage& log) : options_(o), log_(log) {
  if (::mkdir(o.directory.c_str(), 0700) != 0 && errno != EEXIST) throw std::system_error(last_error(), o.directory);
  directory_ = ::open(o.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory_ < 0) throw std::system_error(last_error(), o.directory);
  if (::flock(directory_, LOCK_EX | LOCK_NB) != 0) {
    const std::error_code why = last_error();
    ::close(directory_);
    throw std::system_error(why, o.directory + ": in use by another storage");
  }
}

HAILWIRE_INLINE content_files::~content_files() {
  stop();
  ::close(directory_);
}

// ---- the thread

HAILWIRE_INLINE void content_files::stop() {
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    stopping_ = stopped_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

HAILWIRE_INLINE void content_files::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    // Once a minute what nobody goes on with is looked for, also where nothing else happens.
    if (jobs_.empty() && !stopping_ &&
        !wake_.wait_for(lock, std::chrono::minutes(1), [this] { return stopping_ || !jobs_.empty(); }))
      expire();
    if (jobs_.empty()) {
      if (stopping_) return;
      continue;
    }
    auto [next, bytes] = std::move(jobs_.front());
    jobs_.pop_front();
    waiting_bytes_ -= bytes;
    const bool go = !stopping_;
    lock.unlock();
    try {
      next(go);
    } catch (...) {  // what a handler throws is its own affair
    }
    next = nullptr;
    lock.lock();
  }
}

// Inner work is always taken; what is asked from outside may be refused.
HAILWIRE_INLINE void content_files::post(job&& j, std::size_t bytes,
                                         move_only_function<void(std::error_code)>* refuse) {
  std::error_code why;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) {
      why = operation_aborted();
    } else if (refuse && (jobs_.size() >= options_.pending ||
                          (!jobs_.empty() && waiting_bytes_ + bytes > options_.pending_bytes))) {
      why = errc::overloaded;
    } else {
      jobs_.emplace_back(std::move(j), bytes);
      waiting_bytes_ += bytes;
    }
  }
  if (!why) return wake_.notify_one();
  if (refuse) (*refuse)(why);
}

template <class Result, class Work>
void content_files::start(std::size_t bytes, move_only_function<void(Result)>&& done, Work work) {
  auto to = std::make_shared<move_only_function<void(Result)>>(std::move(done));
  move_only_function<void(std::error_code)> refuse = [to](std::error_code why) { (*to)(Result(why)); };
  post(
      [to, work = std::move(work)](bool go) mutable {
        if (!go) return (*to)(Result(operation_aborted()));
        Result r;
        try {
          r = work();
        } catch (...) {
          r = failed<Result>();
        }
        (*to)(std::move(r));
      },
      bytes, &refuse);
}

HAILWIRE_INLINE void content_files::open(upload&& u, const content_limits& limits, upload_handler&& done) {
  start<upload_result>(0, std::move(done),
                       [this, u = std::move(u), limits]() mutable { return open_now(std::move(u), limits); });
}
HAILWIRE_INLINE void content_files::find(std::string_view id, upload_handler&& done) {
  start<upload_result>(0, std::move(done), [this, id = std::string(id)] { return find_now(id); });
}
HAILWIRE_INLINE void content_files::write(std::string_view id, std::uint64_t offset, std::string&& bytes,
                                          upload_handler&& done) {
  const std::size_t size = bytes.size();
  start<upload_result>(size, std::move(done), [this, id = std::string(id), offset, bytes = std::move(bytes)] {
    return write_now(id, offset, bytes);
  });
}
HAILWIRE_INLINE void content_files::commit(std::string_view id, upload_handler&& done) {
  start<upload_result>(0, std::move(done), [this, id = std::string(id)] { return commit_now(id); });
}
HAILWIRE_INLINE void content_files::abort(std::string_view id, upload_handler&& done) {
  start<upload_result>(0, std::move(done), [this, id = std::string(id)] { return abort_now(id); });
}
HAILWIRE_INLINE void content_files::read(std::string_view id, std::uint64_t from, std::size_t size,
                                         content_handler&& done) {
  start<content_result>(0, std::move(done),
                        [this, id = std::string(id), from, size] { return read_now(id, from, size); });
}

// ---- uploads; on the thread, which alone adds and changes them

HAILWIRE_INLINE upload content_files::told(const entry& e) const {
  upload out = e.state;
  out.left_ms = std::max<std::int64_t>(0, e.last + e.limits.life_ms - options_.steady());
  return out;
}

HAILWIRE_INLINE std::uint64_t content_files::bytes_of(const std::string& owner) const {
  std::uint64_t sum = 0;
  for (const auto& [id, e] : uploads_)
    if (e.state.owner == owner) sum += e.state.offset;
  return sum;
}

// Locked.
HAILWIRE_INLINE void content_files::expire() {
  const std::int64_t now = options_.steady();
  for (auto at = uploads_.begin(); at != uploads_.end();) {
    auto next = std::next(at);
    const entry& e = at->second;
    if (!e.claims && !e.unknown && now - e.last >= e.limits.life_ms) drop_upload(at);
    at = next;
  }
  while (!gone_.empty()) {
    auto at = named_.find(gone_.front());
    if (at != named_.end() && now - at->second.gone < content_memory_ms) break;
    if (at != named_.end()) named_.erase(at);
    gone_.pop_front();
  }
}

// Locked.
HAILWIRE_INLINE void content_files::drop_upload(std::map<std::string, entry, std::less<>>::iterator at) {
  unlink_later(at->first);
  uploads_.erase(at);
}

// Locked.
HAILWIRE_INLINE void content_files::unlink_later(std::string id) {
  jobs_.emplace_back([this, id = std::move(id)](bool) { ::unlink(path_of(id).c_str()); }, 0);
  wake_.notify_one();
}

HAILWIRE_INLINE std::error_code content_files::sync(int descriptor) const {
  if (options_.durability != hailwire::durability::full) return {};
  return ::fdatasync(descriptor) == 0 ? std::error_code() : last_error();
}

inline std::error_code write_at(int descriptor, std::string_view bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? last_error() : std::error_code(EIO, std::system_category());
    bytes.remove_prefix(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return {};
}

HAILWIRE_INLINE std::error_code content_files::write_head(int descriptor, const upload& u, bool complete,
                                                          std::string_view epoch, std::uint64_t offset) const {
  std::string head(content_magic);
  head += complete ? "complete " : "part ";
  head += std::to_string(u.offset) + '\n' + u.channel + '\n' + u.type + '\n' + std::string(epoch) + ' ' +
          std::to_string(offset) + '\n';
  if (head.size() > content_head) return errc::bad_request;
  head.resize(content_head, ' ');
  return write_at(descriptor, head, 0);
}

HAILWIRE_INLINE std::optional<content_files::found_file> content_files::read_head(const std::string& id) const {
  owned_descriptor file(::open(path_of(id).c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return {};
  std::string head(content_head, '\0');
  struct stat facts{};
  if (::pread(file.get(), head.data(), head.size(), 0) != static_cast<ssize_t>(head.size()) ||
      ::fstat(file.get(), &facts) != 0)
    return {};
  std::string_view rest = head;
  auto line = [&rest] {
    const auto end = std::min(rest.find('\n'), rest.size());
    std::string_view out = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return out;
  };
  if (std::string(line()) + '\n' != content_magic) return {};
  std::string_view size = line();
  if (!size.starts_with("complete ")) return {};
  found_file f;
  f.id = id;
  f.channel = line();
  f.type = line();
  const std::string_view where = line();
  f.epoch = where.substr(0, where.find(' '));
  const auto bytes = proto::parse_decimal(size.substr(9));
  if (!bytes || !valid_channel(f.channel) || static_cast<std::uint64_t>(facts.st_size) < content_head + *bytes)
    return {};
  f.size = *bytes;
  f.hint = proto::parse_decimal(where.substr(std::min(where.find(' ') + 1, where.size()))).value_or(0);
  return f;
}

HAILWIRE_INLINE upload_result content_files::open_now(upload&& u, const content_limits& limits) {
  if (!valid_channel(u.channel) || u.type.empty() || u.type.size() > 255 || u.owner.empty() || u.owner.size() > 300 ||
      u.key.size() > 64 || u.type.find('\n') != u.type.npos)
    return errc::bad_request;
  if (u.length && *u.length > limits.size) return errc::too_large;
  entry e;
  {
    std::lock_guard lock(mutex_);
    expire();
    std::size_t count = 0;
    std::uint64_t bytes = 0;
    for (const auto& [id, other] : uploads_) {
      if (other.state.owner != u.owner) continue;
      if (!u.key.empty() && other.state.key == u.key && other.state.channel == u.channel) {
        upload_result r(told(other));
        r.known = true;
        return r;
      }
      ++count;
      bytes += other.state.offset;
    }
    if (count >= limits.uploads ||
        (u.length && (bytes >= limits.bytes ? *u.length > 0 : *u.length > limits.bytes - bytes)))
      return errc::rate_limited;
  }
  const bits128 a = random_bits();
  e.state = std::move(u);
  e.state.id = epoch_of(a) + epoch_of(random_bits()).substr(0, 10);  // 132 bits
  e.state.offset = 0;
  e.state.complete = e.state.named = false;
  e.limits = limits;
  e.last = options_.steady();
  const std::string path = path_of(e.state.id);
  owned_descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.get() < 0) return last_error();
  if (auto why = write_head(file.get(), e.state, false, {}, 0)) {
    ::unlink(path.c_str());
    return why;
  }
  std::lock_guard lock(mutex_);
  upload_result r(told(e));
  uploads_.emplace(r.state.id, std::move(e));
  return r;
}

HAILWIRE_INLINE upload_result content_files::find_now(const std::string& id) {
  std::lock_guard lock(mutex_);
  expire();
  if (auto at = uploads_.find(id); at != uploads_.end()) return told(at->second);
  auto at = named_.find(id);
  if (at == named_.end() || at->second.gone >= 0) return errc::not_found;
  const named_content& n = at->second;
  upload u{id, n.owner, n.channel, n.type, {}, n.size, n.size, true, true, 0};
  return u;
}

HAILWIRE_INLINE upload_result content_files::write_now(const std::string& id, std::uint64_t offset,
                                                       std::string_view bytes) {
  std::uint64_t synced;
  {
    std::lock_guard lock(mutex_);
    expire();
    auto at = uploads_.find(id);
    if (at == uploads_.end()) return errc::not_found;
    entry& e = at->second;
    if (e.state.complete || offset != e.state.offset) {
      upload_result r(told(e));
      r.error = errc::conflict;
      return r;
    }
    const std::uint64_t most = std::min(e.limits.size, e.state.length.value_or(e.limits.size));
    if (bytes.size() > most - offset) {
      drop_upload(at);
      return errc::too_large;
    }
    const std::uint64_t held = bytes_of(e.state.owner);
    if (bytes.size() > e.limits.bytes - std::min(held, e.limits.bytes)) return errc::rate_limited;
    synced = e.synced;
  }
  owned_descriptor file(::open(path_of(id).c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return last_error();
  if (auto why = write_at(file.get(), bytes, content_head + offset)) return why;
  const std::uint64_t now = offset + bytes.size();
  if (now - synced >= content_sync_bytes) {
    if (auto why = sync(file.get())) return why;
    synced = now;
  }
  std::lock_guard lock(mutex_);
  entry& e = uploads_.find(id)->second;  // only this thread takes one away
  e.state.offset = now;
  e.synced = synced;
  e.last = options_.steady();
  return told(e);
}

HAILWIRE_INLINE upload_result content_files::commit_now(const std::string& id) {
  upload u;
  {
    std::lock_guard lock(mutex_);
    expire();
    auto at = uploads_.find(id);
    if (at == uploads_.end()) return named_.contains(id) ? errc::conflict : errc::not_found;
    u = told(at->second);
  }
  if (u.complete) return u;
  if (u.length.value_or(u.offset) != u.offset) return errc::bad_request;
  owned_descriptor file(::open(path_of(id).c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return last_error();
  // The bytes first: a page that says that they are all there must not be there before them.
  if (auto why = sync(file.get())) return why;
  if (auto why = write_head(file.get(), u, true, {}, 0)) return why;
  if (auto why = sync(file.get())) return why;
  if (options_.durability == hailwire::durability::full && ::fsync(directory_) != 0) return last_error();
  std::lock_guard lock(mutex_);
  entry& e = uploads_.find(id)->second;
  e.state.complete = true;
  e.state.length = e.state.offset;
  return told(e);
}

HAILWIRE_INLINE upload_result content_files::abort_now(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto at = uploads_.find(id);
  if (at == uploads_.end()) {
    auto named = named_.find(id);
    return named != named_.end() && named->second.gone < 0 ? errc::conflict : errc::not_found;
  }
  if (at->second.claims || at->second.unknown) return errc::conflict;
  upload_result r(told(at->second));
  drop_upload(at);
  return r;
}

HAILWIRE_INLINE content_result content_files::read_now(const std::string& id, std::uint64_t from, std::size_t size) {
  content_result r;
  if (!valid_content_id(id)) return errc::not_found;
  {
    std::lock_guard lock(mutex_);
    auto at = uploads_.find(id);
    if (at != uploads_.end() && !at->second.state.complete) return errc::not_found;
    auto named = named_.find(id);
    if (named != named_.end() && named->second.gone >= 0) return errc::not_found;
  }
  owned_descriptor file(::open(path_of(id).c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return errno == ENOENT ? make_error_code(errc::not_found) : last_error();
  r.bytes.resize(size);
  std::size_t filled = 0;
  while (filled < size) {
    const ssize_t n =
        ::pread(file.get(), r.bytes.data() + filled, size - filled, static_cast<off_t>(content_head + from + filled));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return last_error();
    if (n == 0) break;
    filled += static_cast<std::size_t>(n);
  }
  r.bytes.resize(filled);
  return r;
}

// ---- messages

HAILWIRE_INLINE bits128 content_files::print_of(const draft& d) const {
  return keyed_hash(secret_)
      .add(d.from.size())
      .add(d.from)
      .add(d.type.size())
      .add(d.type)
      .add(d.key.size())
      .add(d.key)
      .add(fingerprint(secret_, d).low)
      .finish();
}

HAILWIRE_INLINE content_files::claim content_files::begin_append(std::string_view channel, const draft& d) {
  claim c;
  if (!d.content) return c;
  std::lock_guard lock(mutex_);
  c.print = print_of(d);
  if (auto at = uploads_.find(d.content->id); at != uploads_.end() && at->second.state.channel == channel) {
    entry& e = at->second;
    // A repeat of what is under way is for the log to tell by its key.
    if (!e.state.complete || e.state.offset != d.content->size || (e.claims && d.key.empty())) {
      c.answer = append_result(errc::conflict);
      return c;
    }
    ++e.claims;
    c.id = d.content->id;
    c.channel = channel;
    return c;
  }
  auto at = named_.find(d.content->id);
  if (at == named_.end() || at->second.channel != channel) {
    c.answer = append_result(errc::not_found);
  } else if (d.key.empty()) {
    c.answer = append_result(at->second.gone < 0 ? errc::conflict : errc::not_found);
  } else if (!at->second.printed) {
    c.compare = at->second.offset;
  } else if (at->second.print != c.print) {
    c.answer = append_result(errc::conflict);
  } else {
    c.answer = append_result(position{at->second.epoch, at->second.offset});
    c.answer->duplicate = true;
  }
  return c;
}

// After a restart keys are the log's own, and only the message itself tells whether this is its publish once more.
HAILWIRE_INLINE append_result content_files::compared(const claim& c, const read_result& r, const draft& d) {
  if (r.error) return r.error;
  if (r.messages.empty() || r.messages[0].offset != c.compare) return errc::not_found;
  const message& m = r.messages[0];
  if (!m.content || m.content->id != d.content->id || m.from != d.from || m.type != d.type || !(m.data == d.data))
    return errc::conflict;
  append_result out(position{r.epoch, m.offset});
  out.duplicate = true;
  return out;
}

HAILWIRE_INLINE void content_files::settle(const claim& c, const append_result& r) {
  if (c.id.empty()) return;
  std::lock_guard lock(mutex_);
  auto at = uploads_.find(c.id);
  if (at == uploads_.end()) return;  // a repeat, which came behind the first
  entry& e = at->second;
  --e.claims;
  if (r.error) {
    // Whether it was stored is not known, unless the error is one that says so.
    const errc word = wire_code(r.error);
    e.unknown = e.unknown || word == errc::internal || word == errc::timeout;
    return;
  }
  if (r.duplicate) return;
  named_content n;
  n.channel = c.channel;
  n.epoch = r.epoch;
  n.owner = std::move(e.state.owner);
  n.type = std::move(e.state.type);
  n.size = e.state.offset;
  n.offset = r.offset;
  n.print = c.print;
  n.printed = true;
  uploads_.erase(at);
  places_.insert_or_assign({n.channel, n.offset}, c.id);
  named_.insert_or_assign(c.id, std::move(n));
  jobs_.emplace_back([this, id = c.id, epoch = r.epoch, offset = r.offset](bool) { note_place(id, epoch, offset); }, 0);
  wake_.notify_one();
}

HAILWIRE_INLINE void content_files::note_place(const std::string& id, const std::string& epoch, std::uint64_t offset) {
  auto f = read_head(id);
  owned_descriptor file(::open(path_of(id).c_str(), O_WRONLY | O_CLOEXEC));
  if (!f || file.get() < 0) return;
  upload u;
  u.offset = f->size;
  u.channel = f->channel;
  u.type = f->type;
  static_cast<void>(write_head(file.get(), u, true, epoch, offset));  // a hint, which the next start can do without
}

// Locked.
HAILWIRE_INLINE void content_files::drop_named(std::map<place, std::string>::iterator at) {
  named_content& n = named_.find(at->second)->second;
  n.gone = options_.steady();
  gone_.push_back(at->second);
  unlink_later(at->second);
  places_.erase(at);
}

HAILWIRE_INLINE void content_files::erased(std::string_view channel, std::uint64_t offset) {
  std::lock_guard lock(mutex_);
  if (auto at = places_.find({std::string(channel), offset}); at != places_.end()) drop_named(at);
}

// Every 16th append, or a second after the last time: asking costs the log a read.
HAILWIRE_INLINE bool content_files::trim_is_due(std::string_view channel) {
  std::lock_guard lock(mutex_);
  if (places_.empty()) return false;
  auto at = places_.lower_bound({std::string(channel), 0});
  if (at == places_.end() || at->first.first != channel) return false;
  const std::int64_t now = options_.steady();
  auto [asked, fresh] = trims_.try_emplace(std::string(channel), 0, now);
  if (++asked->second.first < 16 && now - asked->second.second < 1000) return false;
  asked->second = {0, now};
  return true;
}

HAILWIRE_INLINE void content_files::trim(std::string_view channel, const read_result& facts) {
  if (facts.error) return;
  std::lock_guard lock(mutex_);
  auto at = places_.lower_bound({std::string(channel), 0});
  while (at != places_.end() && at->first.first == channel) {
    auto next = std::next(at);
    const std::string& epoch = named_.find(at->second)->second.epoch;
    const bool other = !facts.epoch.empty() && !epoch.empty() && epoch != facts.epoch;
    if (!other && at->first.second >= facts.oldest) {
      at = next;
      if (facts.epoch.empty()) break;
      continue;
    }
    drop_named(at);
    at = next;
  }
  if (auto left = places_.lower_bound({std::string(channel), 0}); left == places_.end() || left->first.first != channel)
    if (auto asked = trims_.find(channel); asked != trims_.end()) trims_.erase(asked);
}

HAILWIRE_INLINE std::pair<std::size_t, std::size_t> content_files::counts() {
  std::lock_guard lock(mutex_);
  return {places_.size(), uploads_.size()};
}

// ---- the start

struct content_files::start_work {
  std::vector<found_file> hinted;                         // to be looked for where their hints are
  std::map<std::string, std::vector<found_file>> others;  // to be looked for in their channels' whole logs
  std::uint64_t since = 0;

  bool over() const noexcept { return hinted.empty() && others.empty(); }
  const std::string& channel() const noexcept { return hinted.empty() ? others.begin()->first : hinted.back().channel; }
};

HAILWIRE_INLINE void content_files::begin() {
  auto w = std::make_shared<start_work>();
  std::unique_ptr<DIR, int (*)(DIR*)> all(::opendir(options_.directory.c_str()), &::closedir);
  if (!all) throw std::system_error(last_error(), options_.directory);
  while (const dirent* one = ::readdir(all.get())) {
    const std::string id = one->d_name;
    if (!valid_content_id(id)) continue;
    if (auto f = read_head(id)) {
      if (f->hint) {
        w->hinted.push_back(std::move(*f));
      } else {
        w->others[f->channel].push_back(std::move(*f));
      }
    } else {
      ::unlink(path_of(id).c_str());
    }
  }
  thread_ = std::thread([this] { run(); });
  if (log_.at_once()) {
    while (!w->over()) {
      const bool hinted = !w->hinted.empty();
      const std::uint64_t since = hinted ? w->hinted.back().hint - 1 : w->since;
      if (!looked(*w, log_.read_now(w->channel(), since, {hinted ? std::size_t{1} : 256, 1 << 20}))) break;
    }
  } else if (!w->over()) {
    look_on(std::move(w));
  }
}

HAILWIRE_INLINE void content_files::look_on(std::shared_ptr<start_work> w) {
  const bool hinted = !w->hinted.empty();
  const std::uint64_t since = hinted ? w->hinted.back().hint - 1 : w->since;
  const std::string channel = w->channel();
  log_.read(channel, since, {hinted ? std::size_t{1} : 256, 1 << 20}, [self = weak_from_this(), w](read_result r) {
    auto me = self.lock();
    if (!me || !me->looked(*w, r) || w->over()) return;
    me->post(
        [at = me.get(), w](bool go) {
          if (go) at->look_on(w);
        },
        0);
  });
}

// Whether to go on: a log that cannot be read says nothing of what it names, and all that is left stays.
HAILWIRE_INLINE bool content_files::looked(start_work& w, const read_result& r) {
  if (r.error) return false;
  if (!w.hinted.empty()) {
    found_file f = std::move(w.hinted.back());
    w.hinted.pop_back();
    if (!r.messages.empty() && r.messages[0].offset == f.hint && r.messages[0].content &&
        r.messages[0].content->id == f.id) {
      adopt(f, r.epoch, r.messages[0]);
    } else {
      w.others[f.channel].push_back(std::move(f));
    }
    return true;
  }
  auto channel = w.others.begin();
  for (const message& m : r.messages) {
    w.since = m.offset;
    if (!m.content) continue;
    std::erase_if(channel->second, [&](const found_file& f) {
      if (f.id != m.content->id) return false;
      adopt(f, r.epoch, m);
      return true;
    });
  }
  if (!channel->second.empty() && !r.messages.empty() && w.since < r.head) return true;
  for (const found_file& f : channel->second) ::unlink(path_of(f.id).c_str());
  w.others.erase(channel);
  w.since = 0;
  return true;
}

HAILWIRE_INLINE void content_files::adopt(const found_file& f, std::string_view epoch, const message& m) {
  named_content n;
  n.channel = f.channel;
  n.epoch = epoch;
  n.type = f.type;
  n.size = f.size;
  n.offset = m.offset;
  std::lock_guard lock(mutex_);
  places_.insert_or_assign({n.channel, n.offset}, f.id);
  named_.insert_or_assign(f.id, std::move(n));
}

}  // namespace hailwire::detail
