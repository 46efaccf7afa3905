// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <unistd.h>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "hailwire/storage/sqlite.hpp"
#include "hailwire/testing/storage_trial.hpp"

/// A directory of this test's own, gone with it. In memory where there is room, unless TMPDIR says otherwise: what a
/// disk can do to a file is faulty_disk's part, and thousands of syncs of a real one that others keep busy take
/// minutes.
class temporary {
 public:
  temporary() {
    std::error_code none;
    std::filesystem::path place = std::filesystem::temp_directory_path(), memory = "/dev/shm";
    if (!std::getenv("TMPDIR") && ::access(memory.c_str(), W_OK) == 0 &&
        std::filesystem::space(memory, none).available >> 30 > 0 && !none)
      place = memory;
    std::string name = (place / "hailwire-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  temporary(const temporary&) = delete;
  temporary& operator=(const temporary&) = delete;
  ~temporary() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const char* name = "log.db") const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::atomic<std::int64_t> test_now = 1'764'000'000'000;
inline std::int64_t test_clock() { return test_now; }

/// Asks a storage and waits for the answer.
template <class Storage>
hailwire::append_result append(Storage& s, std::string_view channel, hailwire::draft d) {
  auto p = std::make_shared<hailwire::testing::detail::pending<hailwire::append_result>>();
  s.async_append(channel, std::move(d), hailwire::testing::detail::pending<hailwire::append_result>::handler(p));
  return p->wait();
}
template <class Storage>
hailwire::append_result append(Storage& s, std::string_view channel, std::string text, std::string key = {}) {
  return append(s, channel,
                hailwire::draft{test_now, "", "", hailwire::payload::text(std::move(text)), std::move(key)});
}
template <class Storage>
hailwire::read_result read(Storage& s, std::string_view channel, std::uint64_t since = 0,
                           hailwire::read_limit limit = {100'000, 1u << 30}) {
  auto p = std::make_shared<hailwire::testing::detail::pending<hailwire::read_result>>();
  s.async_read(channel, since, limit, hailwire::testing::detail::pending<hailwire::read_result>::handler(p));
  return p->wait();
}

inline std::unique_ptr<hailwire::sqlite_storage> open(const std::string& path,
                                                      const hailwire::sqlite_options& options = {}) {
  auto s = hailwire::sqlite_storage::open(path, options);
  if (!s) throw std::runtime_error(std::string(s.error().text()));
  return std::move(*s);
}
