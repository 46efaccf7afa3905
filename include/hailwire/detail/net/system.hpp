// SPDX-License-Identifier: BSL-1.0
#pragma once

// What clients take of the system: a clock that runs while the machine sleeps, and randomness.

#include <sys/random.h>
#include <time.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

namespace hailwire::detail {

/// Milliseconds of a clock that only rises and goes on while the machine sleeps (CLOCK_BOOTTIME).
inline std::int64_t boot_time() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return std::int64_t{t.tv_sec} * 1000 + t.tv_nsec / 1'000'000;
}

/// Fills `out` with bytes that nobody can guess (getrandom(2)), which masks of WebSocket frames have to be (RFC 6455,
/// section 5.3) and keys should be. A block at a time, one for each thread, since a mask has four bytes. Throws
/// `std::system_error` where the system has none.
inline void secret_bytes(std::span<unsigned char> out) {
  static thread_local struct {
    unsigned char bytes[1024];
    std::size_t left = 0;
  } block;
  while (!out.empty()) {
    if (block.left == 0) {
      std::size_t got = 0;
      while (got < sizeof block.bytes) {
        const auto n = ::getrandom(block.bytes + got, sizeof block.bytes - got, 0);
        if (n > 0) got += static_cast<std::size_t>(n);
        if (n < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "getrandom");
      }
      block.left = sizeof block.bytes;
    }
    const auto n = std::min(out.size(), block.left);
    std::memcpy(out.data(), block.bytes + sizeof block.bytes - block.left, n);
    block.left -= n;
    out = out.subspan(n);
  }
}

/// The memory that connections of a thread read into, in turn. One who is called while another reads gets its own.
class read_buffer {
 public:
  static constexpr std::size_t size = std::size_t{64} << 10;
  read_buffer() : bytes_(std::exchange(spare(), nullptr)) {
    if (!bytes_) bytes_ = std::make_unique<char[]>(size);
  }
  ~read_buffer() {
    if (!spare()) spare() = std::move(bytes_);
  }
  read_buffer(const read_buffer&) = delete;
  read_buffer& operator=(const read_buffer&) = delete;
  char* data() noexcept { return bytes_.get(); }

 private:
  static std::unique_ptr<char[]>& spare() noexcept {
    static thread_local std::unique_ptr<char[]> kept;
    return kept;
  }
  std::unique_ptr<char[]> bytes_;
};

}  // namespace hailwire::detail
