// SPDX-License-Identifier: BSL-1.0
#pragma once

// Content in files, beside a log of the host's choice.

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/storage/content_files.hpp"
#include "hailwire/storage/memory.hpp"

namespace hailwire {

/// Any storage, with content in the files of one directory:
///
///     auto log = hailwire::sqlite_storage::open("chat.db");
///     hailwire::files_storage storage({.directory = "chat.content"}, std::move(*log));
///
/// `Storage` is a reference (the host owns the log and lets it live longer), a value, or a smart pointer. What the log
/// has of optional members this has too, in the same form; content (storage_content.hpp) is answered later, on a
/// thread of this object's own, so that a disk does not hold up the hub. An append costs what the log's does; one that
/// names a content reads and writes no file on the caller's thread.
///
/// A message's content is there as long as the message is: it goes at once when that is erased, and soon after it is
/// trimmed, with the next appends to its channel; at the start whatever no message of the log names goes. So the
/// directory belongs to its log: a copy of one without the other loses contents. What files hold is not encrypted.
///
/// The directory must be one that the log's other nodes do not use: contents of a log that several nodes share are
/// found only where they were uploaded. Errors of content: those of the concept, `errc::overloaded` (too much waits),
/// and the system's own, such as `ENOSPC`, of which a client is told `overloaded`; what was written until then is kept.
///
/// Threads: content from any; the log's members as the log has them. One that answers later must be one that any
/// thread may call, as those of hailwire are. The destructor answers what waits with `operation_aborted()`; it must not
/// run on this object's own thread.
template <class Storage>
class files_storage {
  using type = typename detail::pointee<std::remove_cvref_t<Storage>>::type;
  static constexpr bool later = asynchronous_storage<type>;

 public:
  static constexpr bool keeps_keys = [] {
    if constexpr (requires { bool(type::keeps_keys); })
      return bool(type::keeps_keys);
    else
      return false;
  }();
  static constexpr bool keeps_retention = retaining_storage<type>;
  static constexpr bool announces = detail::announces<type>;
  static constexpr bool thread_safe = [] {
    if constexpr (requires { bool(type::thread_safe); })
      return bool(type::thread_safe);
    else
      return false;
  }();
  static constexpr bool single_threaded = [] {
    if constexpr (requires { bool(type::single_threaded); })
      return bool(type::single_threaded);
    else
      return false;
  }();

  /// Throws `std::system_error` where the directory cannot be used, or another storage has it.
  files_storage(const files_options& options, Storage log)
      : log_(std::forward<Storage>(log)),
        erased_(detail::erase_storage<type&>(own())),
        files_(std::make_shared<detail::content_files>(options, *erased_)) {
    files_->begin();
  }
  files_storage(const files_storage&) = delete;
  files_storage& operator=(const files_storage&) = delete;
  ~files_storage() { files_->stop(); }

  // The log, where it answers when it returns.
  append_result append(std::string_view channel, const draft& d)
    requires(!later)
  {
    return append_with(channel, d, [&] { return append_result(own().append(channel, d)); });
  }
  auto place_of(std::string_view channel) const noexcept
    requires(!later) && requires(type& s) { s.prefetch_entry(s.place_of(channel), 0); }
  {
    return own().place_of(channel);
  }
  template <class Place>
  void prefetch_entry(const Place& at, int step) noexcept
    requires(!later)
  {
    own().prefetch_entry(at, step);
  }
  template <class Place>
  append_result append(const Place& at, std::string_view channel, const draft& d)
    requires(!later)
  {
    return append_with(channel, d, [&] { return append_result(own().append(at, channel, d)); });
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit)
    requires(!later)
  {
    return own().read(channel, since, limit);
  }
  append_result erase(std::string_view channel, const position& at, const draft& d)
    requires(!later && erasing_storage<type>)
  {
    append_result r(own().erase(channel, at, d));
    if (!r.error) files_->erased(channel, at.offset);
    return r;
  }
  mark_result mark(std::string_view channel, const watermark& m)
    requires(!later && watermark_storage<type>)
  {
    return own().mark(channel, m);
  }
  watermarks_result watermarks(std::string_view channel, const watermark_query& q)
    requires(!later && watermark_storage<type>)
  {
    return own().watermarks(channel, q);
  }
  tokens_result keep_token(const device_token& t)
    requires(!later && token_storage<type>)
  {
    return own().keep_token(t);
  }
  tokens_result tokens(std::string_view user)
    requires(!later && token_storage<type>)
  {
    return own().tokens(user);
  }
  tokens_result forget_token(std::string_view user, std::string_view device, std::string_view token)
    requires(!later && token_storage<type>)
  {
    return own().forget_token(user, device, token);
  }

  // The log, where it answers later.
  void async_append(std::string_view channel, draft d, append_handler done)
    requires later
  {
    if (!d.content) {
      own().async_append(channel, std::move(d), std::move(done));
      if (files_->trim_is_due(channel)) ask_where_it_begins(channel);
      return;
    }
    auto c = files_->begin_append(channel, d);
    if (c.answer) return done(std::move(*c.answer));
    if (const std::uint64_t offset = c.compare)
      return own().async_read(channel, offset - 1, {1, SIZE_MAX},
                              [c = std::move(c), d = std::move(d), done = std::move(done)](read_result r) mutable {
                                done(detail::content_files::compared(c, r, d));
                              });
    own().async_append(channel, std::move(d),
                       [files = files_, c = std::move(c), done = std::move(done)](append_result r) mutable {
                         files->settle(c, r);
                         done(std::move(r));
                       });
    if (files_->trim_is_due(channel)) ask_where_it_begins(channel);
  }
  void async_read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done)
    requires later
  {
    own().async_read(channel, since, limit, std::move(done));
  }
  void async_erase(std::string_view channel, position at, draft d, append_handler done)
    requires(later && erasing_storage<type>)
  {
    const std::uint64_t offset = at.offset;
    own().async_erase(
        channel, std::move(at), std::move(d),
        [files = files_, name = std::string(channel), offset, done = std::move(done)](append_result r) mutable {
          if (!r.error) files->erased(name, offset);
          done(std::move(r));
        });
  }
  void async_mark(std::string_view channel, watermark m, mark_handler done)
    requires(later && watermark_storage<type>)
  {
    own().async_mark(channel, std::move(m), std::move(done));
  }
  void async_watermarks(std::string_view channel, watermark_query q, watermarks_handler done)
    requires(later && watermark_storage<type>)
  {
    own().async_watermarks(channel, std::move(q), std::move(done));
  }
  void async_keep_token(device_token t, tokens_handler done)
    requires(later && token_storage<type>)
  {
    own().async_keep_token(std::move(t), std::move(done));
  }
  void async_tokens(std::string_view user, tokens_handler done)
    requires(later && token_storage<type>)
  {
    own().async_tokens(user, std::move(done));
  }
  void async_forget_token(std::string_view user, std::string_view device, std::string_view token, tokens_handler done)
    requires(later && token_storage<type>)
  {
    own().async_forget_token(user, device, token, std::move(done));
  }

  // Content, always later.
  void async_open_content(upload u, const content_limits& limits, upload_handler done) {
    files_->open(std::move(u), limits, std::move(done));
  }
  void async_find_content(std::string_view id, upload_handler done) { files_->find(id, std::move(done)); }
  void async_write_content(std::string_view id, std::uint64_t offset, std::string bytes, upload_handler done) {
    files_->write(id, offset, std::move(bytes), std::move(done));
  }
  void async_commit_content(std::string_view id, upload_handler done) { files_->commit(id, std::move(done)); }
  void async_abort_content(std::string_view id, upload_handler done) { files_->abort(id, std::move(done)); }
  void async_read_content(std::string_view id, std::uint64_t from, std::size_t size, content_handler done) {
    files_->read(id, from, size, std::move(done));
  }
  /// How many contents messages name, and how many uploads no message names yet.
  std::pair<std::size_t, std::size_t> content_counts() { return files_->counts(); }

 private:
  type& own() const noexcept {
    if constexpr (std::is_same_v<type, std::remove_cvref_t<Storage>>) {
      return const_cast<type&>(log_);
    } else {
      return *log_;
    }
  }
  template <class Append>
  append_result append_with(std::string_view channel, const draft& d, Append append) {
    append_result r;
    if (d.content) {
      auto c = files_->begin_append(channel, d);
      if (c.answer) return std::move(*c.answer);
      if (c.compare) return detail::content_files::compared(c, own().read(channel, c.compare - 1, {1, SIZE_MAX}), d);
      try {
        r = append();
      } catch (...) {
        files_->settle(c, errc::internal);
        throw;
      }
      files_->settle(c, r);
    } else {
      r = append();
    }
    if (files_->trim_is_due(channel)) files_->trim(channel, own().read(channel, max_offset, {0, 0}));
    return r;
  }
  void ask_where_it_begins(std::string_view channel) {
    own().async_read(channel, max_offset, {0, 0},
                     [files = files_, name = std::string(channel)](read_result r) { files->trim(name, r); });
  }

  Storage log_;
  std::unique_ptr<detail::any_storage> erased_;
  std::shared_ptr<detail::content_files> files_;  // its thread ends before the log
};

template <class Storage>
files_storage(const files_options&, Storage&&) -> files_storage<Storage>;

}  // namespace hailwire
