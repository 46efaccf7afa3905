// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <unistd.h>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "hailwire/storage/sqlite.hpp"
#include "storage/asked.hpp"

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

inline std::unique_ptr<hailwire::sqlite_storage> open(const std::string& path,
                                                      const hailwire::sqlite_options& options = {}) {
  auto s = hailwire::sqlite_storage::open(path, options);
  if (!s) throw std::runtime_error(std::string(s.error().text()));
  return std::move(*s);
}
