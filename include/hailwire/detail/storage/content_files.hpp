// SPDX-License-Identifier: BSL-1.0
#pragma once

// Contents in the files of one directory, for `files_storage`: which upload stands where, which message names which
// content, and the thread that reads and writes.
//
// A file bears its content's id. It begins with a page that says of which channel and type the content is, how long,
// and, once a message names it, where that stands; the bytes follow. Whether a message really names it only the log
// can tell: the note in the file is a hint for the next start, written without a sync. So a message and the name of
// its content are stored in the one step in which the log stores the message.
//
// At the start a file that is not complete goes. Of the others the log is asked: first for the message at the hint,
// then, for those that were not found so, for the whole log of their channels. Until then nothing of them is dropped.
//
// Tables are guarded by a mutex, which is never held while a file or the log is used.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/siphash.hpp"
#include "hailwire/detail/storage/any_storage.hpp"
#include "hailwire/durability.hpp"
#include "hailwire/storage_content.hpp"

namespace hailwire {

std::int64_t steady_milliseconds() noexcept;

/// Where and how a `files_storage` keeps contents.
struct files_options {
  /// Made, with mode 0700, where it is not there; of one storage alone as long as that lives.
  std::string directory;
  /// As of the log: at `full` a content is synced before `commit_content` is answered.
  hailwire::durability durability = hailwire::durability::full;
  std::size_t pending = 4096;             ///< operations not yet answered; one more: `errc::overloaded`, at once
  std::size_t pending_bytes = 64u << 20;  ///< bytes to be written that those hold
  std::int64_t (*steady)() = &steady_milliseconds;  ///< milliseconds since some moment, for the life of uploads
};

namespace detail {

class content_files : public std::enable_shared_from_this<content_files> {
 public:
  /// Throws `std::system_error`: the directory cannot be made or read, or another storage has it.
  content_files(const files_options& o, any_storage& log);
  ~content_files();
  content_files(const content_files&) = delete;
  content_files& operator=(const content_files&) = delete;

  /// Looks at what a former use has left; asks the log, before which nothing else may have been asked where that
  /// answers at once.
  void begin();
  /// Answers what waits with `operation_aborted`, and ends the thread. Before the log ends.
  void stop();

  void open(upload&& u, const content_limits& limits, upload_handler&& done);
  void find(std::string_view id, upload_handler&& done);
  void write(std::string_view id, std::uint64_t offset, std::string&& bytes, upload_handler&& done);
  void commit(std::string_view id, upload_handler&& done);
  void abort(std::string_view id, upload_handler&& done);
  void read(std::string_view id, std::uint64_t from, std::size_t size, content_handler&& done);

  /// What an append that names a content is to do.
  struct claim {
    std::optional<append_result> answer;  ///< set: this, and nothing is appended
    std::uint64_t compare = 0;  ///< not 0: nothing is appended; the answer is what `compared` makes of this message
    std::string id, channel;    ///< of what it has claimed, for `settle`; empty: nothing
    bits128 print;
  };
  claim begin_append(std::string_view channel, const draft& d);
  /// The append has been answered so.
  void settle(const claim& c, const append_result& r);
  static append_result compared(const claim& c, const read_result& r, const draft& d);
  /// A message was erased.
  void erased(std::string_view channel, std::uint64_t offset);
  /// Whether it is time to tell `trim` where the channel's log begins, of a channel in which messages name contents.
  bool trim_is_due(std::string_view channel);
  void trim(std::string_view channel, const read_result& facts);

  /// How many contents messages name, and how many uploads there are.
  std::pair<std::size_t, std::size_t> counts();

 private:
  struct entry {
    upload state;
    content_limits limits;
    std::int64_t last = 0;     // when its last byte came
    std::uint64_t synced = 0;  // of its bytes
    int claims = 0;            // appends under way that name it
    bool unknown = false;      // one of those may or may not have been stored: it is kept
  };
  struct named_content {
    std::string channel, epoch, owner, type;
    std::uint64_t offset = 0, size = 0;
    bits128 print;
    bool printed = false;    // whether `print` says what its message is
    std::int64_t gone = -1;  // when it went with its message; remembered for repeats of its publish
  };
  using place = std::pair<std::string, std::uint64_t>;  // channel and offset
  struct found_file {
    std::string id, channel, epoch, type;
    std::uint64_t size = 0, hint = 0;
  };
  struct start_work;
  using job = move_only_function<void(bool)>;  // false: it is not carried out

  void post(job&& j, std::size_t bytes, move_only_function<void(std::error_code)>* refuse = nullptr);
  void run();
  template <class Result, class Work>
  void start(std::size_t bytes, move_only_function<void(Result)>&& done, Work work);
  std::string path_of(std::string_view id) const { return options_.directory + '/' + std::string(id); }
  void expire();
  void drop_upload(std::map<std::string, entry, std::less<>>::iterator at);
  void drop_named(std::map<place, std::string>::iterator at);
  void unlink_later(std::string id);
  std::uint64_t bytes_of(const std::string& owner) const;
  upload told(const entry& e) const;
  bits128 print_of(const draft& d) const;

  upload_result open_now(upload&& u, const content_limits& limits);
  upload_result find_now(const std::string& id);
  upload_result write_now(const std::string& id, std::uint64_t offset, std::string_view bytes);
  upload_result commit_now(const std::string& id);
  upload_result abort_now(const std::string& id);
  content_result read_now(const std::string& id, std::uint64_t from, std::size_t size);
  void note_place(const std::string& id, const std::string& epoch, std::uint64_t offset);
  std::error_code sync(int descriptor) const;
  std::error_code write_head(int descriptor, const upload& u, bool complete, std::string_view epoch,
                             std::uint64_t offset) const;
  std::optional<found_file> read_head(const std::string& id) const;

  void look_on(std::shared_ptr<start_work> w);
  bool looked(start_work& w, const read_result& r);
  void adopt(const found_file& f, std::string_view epoch, const message& m);

  const files_options options_;
  any_storage& log_;
  const bits128 secret_ = random_bits();  // of prints, which end with this object
  int directory_ = -1;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::pair<job, std::size_t>> jobs_;
  std::size_t waiting_bytes_ = 0;
  bool stopping_ = false, stopped_ = false;
  std::map<std::string, entry, std::less<>> uploads_;                       // by id
  std::map<std::string, named_content, std::less<>> named_;                 // by id
  std::map<place, std::string> places_;                                     // of those that have not gone
  std::deque<std::string> gone_;                                            // in the order in which they went
  std::map<std::string, std::pair<int, std::int64_t>, std::less<>> trims_;  // appends since the log was asked, and when
  std::thread thread_;
};

}  // namespace detail
}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/storage/content_files.ipp"
#endif
