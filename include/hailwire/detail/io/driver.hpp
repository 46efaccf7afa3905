// SPDX-License-Identifier: BSL-1.0
#pragma once

// Drivers: the only code that does input and output. What they share is here: a connection over a descriptor, and the
// accepting of connections. Two files implement them, for the same state machine:
//
//   asio.hpp   waits for each socket with Asio: everywhere
//   epoll.hpp  one epoll descriptor for all connections, which either Asio waits on (embedded in the host's
//              context) or a thread of the host's blocks in (`server::run`): Linux, less memory, fewer calls
//
// All of them wait for readability without a buffer, read into one buffer that all connections share, write without
// waiting, and keep one timer, for the hub's wheel.

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hailwire/detail/base/descriptor.hpp"
#include "hailwire/detail/base/event_loop.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/connection/connection.hpp"

namespace hailwire::detail {

/// What became of a read or a write.
struct io_result {
  /// `later`: there may be more to read, but others have their turn first. Only a layer says so.
  enum class status : std::uint8_t { done, again, later, end, failed };
  status what = status::done;
  std::size_t bytes = 0;  ///< moved; a write may move some, a layer's also all, and then say `again`
  std::error_code error;
  bool emptied = false;  ///< a read that took all there was
};

/// What stands between a connection and its descriptor when it is not the descriptor itself (TLS). Nothing here waits.
class stream_layer {
 public:
  virtual ~stream_layer() = default;
  /// Keeps nothing back: what it has read and can understand is in `into`, which is a driver's buffer.
  virtual io_result read(int descriptor, std::span<char> into) = 0;
  /// What it has taken may not have left: then it says `again` and `wants_write`, and before that is out it takes
  /// nothing more.
  virtual io_result write(int descriptor, std::span<const std::span<const char>> pieces) = 0;
  /// Tells the peer that nothing more will be written, and ends the descriptor's sending side when all that was taken
  /// has left: `wants_write` says whether that is still to come. Called again it only hurries that.
  virtual void shut_write(int descriptor) = 0;
  /// Whether the layer itself waits to write, so that the next read or write needs writability first.
  virtual bool wants_write() const noexcept = 0;
  /// What is known of the peer.
  virtual std::shared_ptr<const tls_peer> peer() const noexcept = 0;
  /// Whose connection it is, as `connection::peer` writes it, when the layer knows better than the descriptor; else
  /// empty.
  virtual std::string_view source() const noexcept { return {}; }
  /// About how many bytes of memory it takes while nothing is on its way; always the same.
  virtual std::size_t footprint() const noexcept { return 0; }
};

io_result read_descriptor(int descriptor, std::span<char> into);

io_result write_descriptor(int descriptor, std::span<const std::span<const char>> pieces);

/// How many bytes of what was written to a socket the peer's kernel has not acknowledged (of a Unix socket: the peer
/// has not read, by what they take); 0 where nobody knows.
std::uint64_t unacknowledged_by_peer([[maybe_unused]] int descriptor) noexcept;

/// How many it has acknowledged since the connection began: only differences count. Rises while nothing is written, and
/// for TCP always.
std::uint64_t acknowledged_by_peer(int descriptor) noexcept;

/// For how many milliseconds a peer's kernel has sent nothing; 0 where nobody knows.
std::int64_t silence_of_peer([[maybe_unused]] int descriptor) noexcept;

/// Has the kernel probe a peer that was silent for so long, and end the connection when it has not answered within
/// `answer` (RFC 9293, section 3.8.4). Accepted descriptors inherit it from the listening one. There is no
/// TCP_USER_TIMEOUT: Linux ends by that a peer that answers each probe of its closed window, and a slow client is not
/// gone; and where it is set, it holds in place of the number of probes.
void probe_silence(int descriptor, std::chrono::seconds silence, std::chrono::seconds answer) noexcept;

/// What the kernel keeps before it has sent it: enough to fill the wire until the next turn, and no more, because what
/// stays in the log serves all (precedent: 16–128 KiB in servers that set it).
inline constexpr int unsent_in_kernel = 64 * 1024;

/// Bounds what the kernel holds for one connection; for those of a listening descriptor, which inherit it. Where there
/// is no such option, as for a Unix socket, nothing happens.
void bound_sending(int descriptor, std::size_t send_buffer) noexcept;

/// What every connection's socket is told. Batching is ours, so the kernel waits for nothing; on a Unix socket there is
/// no such thing.
void tune(int descriptor, std::size_t send_buffer) noexcept;

/// Who is connected: `address:port`, `[address]:port`, `unix`; or `unknown`, when the connection has broken already.
/// That is not the same: who comes by a Unix socket may be trusted.
std::string peer_of(int descriptor);

/// A connection that owns itself until it is closed, because handlers share it.
struct self_owned {
  virtual ~self_owned() = default;
  std::shared_ptr<self_owned> self;  ///< once it is closed: the one of its driver that was closed before
};

/// `o` with as many connections as this process has descriptors for, and half of the machine's memory, where it does
/// not say.
options within_system(options o) noexcept;

class driver : public event_loop {
 public:
  /// Accepts connections on a listening descriptor, which it owns from now on; each is given to `accepted`.
  virtual void listen(server_state& g, int descriptor, move_only_function<void(int)> accepted) = 0;
  /// Serves a connected descriptor that does not wait, which it owns from now on, beginning with what was read from it
  /// already.
  virtual void serve(server_state& g, int descriptor, std::unique_ptr<stream_layer> layer,
                     std::string_view already_read) = 0;
  virtual void stop_listening() = 0;
  /// So many connections more, of those that it does not serve itself, run on this loop.
  virtual void beside([[maybe_unused]] int more) {}
  /// Whether it can be seen to run on another thread than the caller's: for assertions.
  virtual bool elsewhere() const noexcept { return false; }
  /// Nothing runs from now on. After all connections are gone.
  virtual void retire() { release_closed(); }
  /// `c` has been closed: it is released once no function of its own can be running. Allocates nothing that must
  /// succeed, since what closes it may be want of memory.
  void closed(self_owned& c) noexcept {
    auto me = std::move(c.self);
    c.self = std::exchange(closed_, std::move(me));
    release_soon();
  }

  /// What all connections read into, one after the other. A read of this size empties what a socket usually holds;
  /// larger ones gained nothing in measurements.
  std::span<char> buffer() noexcept { return buffer_; }

  std::int64_t now() const noexcept override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  std::int64_t precise() const noexcept override {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  std::int64_t unix_time() const noexcept override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

 protected:
  /// Has `release_closed` called soon, outside any connection's functions; or, without memory for that, with the next.
  virtual void release_soon() noexcept = 0;
  void release_closed() noexcept {
    while (auto c = std::move(closed_)) closed_ = std::move(c->self);
  }

  std::vector<char> buffer_ = std::vector<char>(64 * 1024);

 private:
  std::shared_ptr<self_owned> closed_;  // the last that was closed
};

/// A connection over a descriptor. A driver tells it of readiness and arms what it wants.
class descriptor_connection : public connection {
 public:
  /// `layered`: there is a `layer`.
  descriptor_connection(server_state& g, owned_descriptor& d, bool layered);
  HAILWIRE_INLINE ~descriptor_connection() override;

  /// Reads what is there, but not so much that one busy peer keeps the others waiting. True when it is known that there
  /// is no more. With `to_end` a short read is not taken for that: the peer's end may follow it without another notice.
  bool read_some(bool to_end = false);
  /// True when reading had to wait for this, so that it is tried again.
  bool write_ready();

 protected:
  // What a driver notes about a connection, in the bits that are left over there.
  static constexpr std::uint8_t layered_note = 1;      // something stands before the descriptor
  static constexpr std::uint8_t layer_waits_note = 2;  // that has something to write before it reads or takes more
  static constexpr std::uint8_t first_note_of_derived = 4;
  bool noted(std::uint8_t what) const noexcept { return driver_notes_ & what; }
  void note(std::uint8_t what, bool on) noexcept {
    driver_notes_ = static_cast<std::uint8_t>(on ? driver_notes_ | what : driver_notes_ & ~what) & all_notes;
  }
  bool layered() const noexcept { return noted(layered_note); }

  bool closed() const noexcept { return descriptor_ < 0; }
  int descriptor() const noexcept { return descriptor_; }
  /// Its driver, which is the loop that its hub runs on.
  driver& by() const noexcept { return static_cast<driver&>(server().messages.loop()); }
  bool wants_write() const noexcept { return waits_to_write() || noted(layer_waits_note); }

  /// Something is wanted that was not, or no more.
  virtual void arm() = 0;
  /// The descriptor is about to be closed.
  virtual void closing() = 0;
  /// What stands before the descriptor; asked only where there is something.
  virtual stream_layer* layer() const noexcept { return nullptr; }

  HAILWIRE_INLINE std::size_t write(std::span<const std::span<const char>> pieces) final;
  HAILWIRE_INLINE void watch(bool, bool) final;
  HAILWIRE_INLINE void shut_write() final;
  HAILWIRE_INLINE void shut() final;
  std::shared_ptr<const tls_peer> tls() const final { return layered() ? layer()->peer() : nullptr; }
  HAILWIRE_INLINE bool input_waits() const noexcept final;
  // Under a layer these are its bytes, of which there are more: what has been acknowledged compares all the same.
  std::uint64_t acknowledged() const noexcept final { return closed() ? 0 : acknowledged_by_peer(descriptor_); }
  std::uint64_t unacknowledged() const noexcept final { return closed() ? 0 : unacknowledged_by_peer(descriptor_); }
  std::int64_t silent_for() const noexcept final { return closed() ? 0 : silence_of_peer(descriptor_); }
  HAILWIRE_INLINE void keep_alive(std::chrono::seconds silence) final;
  HAILWIRE_INLINE std::string peer() const final;

 private:
  static constexpr std::uint8_t all_notes = (1 << driver_note_bits) - 1;
  void layer_wants();

  int descriptor_;
};

/// Accepts from one listening descriptor. A driver calls `accept` when it is readable and waits again unless it is
/// `paused`.
class listener : public timer {
 public:
  listener(server_state& g, int descriptor, move_only_function<void(int)> accepted);
  HAILWIRE_INLINE ~listener() override;

  void accept();
  bool paused() const noexcept { return paused_; }
  int descriptor() const noexcept { return descriptor_; }
  HAILWIRE_INLINE void expire(std::int64_t) override;

 protected:
  virtual void resume() = 0;
  server_state* gate_;

 private:
  void pause();

  int descriptor_;
  bool paused_ = false;
  log_rate full_;
  move_only_function<void(int)> accepted_;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/io/driver.ipp"
#endif
