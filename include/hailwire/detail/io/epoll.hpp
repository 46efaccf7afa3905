// SPDX-License-Identifier: BSL-1.0
#pragma once

// The Linux driver: one epoll descriptor for all connections of a hub. A turn serves what is ready, a bounded number of
// times, then runs what was posted, the hub's flush among it, so that everything that one turn's input caused leaves in
// gathered writes at its end.
//
// Connections are registered once, edge-triggered for both directions; what is wanted changes without a system call,
// and an edge that came while nobody wanted it is remembered (`readable_note`). The hub's alarm is a timer descriptor
// in the same set, and other threads wake it through an event descriptor, so whoever runs a turn waits for the epoll
// descriptor alone.

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <atomic>
#include <iterator>
#include <memory>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/posted_functions.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/io/asio.hpp"

namespace hailwire::detail {

class epoll_driver : public driver {
 public:
  epoll_driver();
  HAILWIRE_INLINE ~epoll_driver() override;

  HAILWIRE_INLINE void post(move_only_function<void()> f) override;
  HAILWIRE_INLINE void alarm(std::int64_t at) override;
  void on_alarm(move_only_function<void()> f) override { rung_ = std::move(f); }

  HAILWIRE_INLINE void listen(server_state& g, int descriptor, move_only_function<void(int)> accepted) override;
  HAILWIRE_INLINE void serve(server_state& g, int descriptor, std::unique_ptr<stream_layer> layer,
                             std::string_view already_read) override;
  HAILWIRE_INLINE void stop_listening() override;
  HAILWIRE_INLINE void beside(int more) override;
  void retire() override {
    driver::retire();
    rung_ = nullptr;
  }
  /// Read once for all that a wait brings: a turn writes to thousands.
  std::int64_t now() const noexcept override { return now_ ? now_ : driver::now(); }
  HAILWIRE_INLINE std::int64_t unix_time() const noexcept override;

 protected:
  /// Serves what is ready, waiting for it at most `wait_ms` (-1: for ever).
  ///
  /// What a function of the host's throws that was posted leaves the turn; the next one goes on behind it.
  void turn(int wait_ms);
  int descriptor() const noexcept { return epoll_; }
  bool in_turn() const noexcept { return in_turn_; }
  /// Has a turn come soon. Safe from any thread.
  HAILWIRE_INLINE virtual void wake();
  /// Whether nothing is being served and nothing is left to run.
  bool at_rest() const noexcept { return connections_ == 0 && !posted_.any(); }

 private:
  class epoll_connection;

  // An event names a connection, told by this bit, or one of the few other things.
  static constexpr std::uintptr_t connection_bit = 1;
  void ready(const epoll_event& e);

  // How often a turn looks for more before whoever runs it gets control back.
  static constexpr int rounds_per_turn = 4;

  struct entry {
    virtual void ready(std::uint32_t events) = 0;

   protected:
    ~entry() = default;
  };
  struct event_entry final : entry {
    explicit event_entry(epoll_driver& d) : owner(d) {}
    HAILWIRE_INLINE void ready(std::uint32_t) override;
    epoll_driver& owner;
  };
  struct timer_entry final : entry {
    explicit timer_entry(epoll_driver& d) : owner(d) {}
    HAILWIRE_INLINE void ready(std::uint32_t) override;
    epoll_driver& owner;
  };
  class epoll_connection : public descriptor_connection {
   public:
    explicit epoll_connection(server_state& g, owned_descriptor& d, bool layered = false);

    void begin(std::string_view already_read);
    void ready(std::uint32_t events) {
      contained([&] { react(events); });
    }
    void go_on();

   private:
    void react(std::uint32_t events);
    void read();
    HAILWIRE_INLINE void arm() override;
    HAILWIRE_INLINE void closing() override;

    static constexpr std::uint8_t readable_note = first_note_of_derived;    // an edge that nobody has used up yet
    static constexpr std::uint8_t queued_note = first_note_of_derived * 2;  // it stands in `again_`
    static constexpr std::uint8_t ended_note = first_note_of_derived * 4;  // the peer's end is among what is to be read
    static_assert(ended_note < 1 << driver_note_bits);
    epoll_driver& set() const noexcept { return static_cast<epoll_driver&>(by()); }
  };
  static_assert(sizeof(void*) != 8 || sizeof(epoll_connection) <= 120,
                "what an idle client costs: nothing may be added without thought");
  class layered_connection final : public epoll_connection {
   public:
    layered_connection(server_state& g, owned_descriptor& d, std::unique_ptr<stream_layer> layer);

   private:
    stream_layer* layer() const noexcept override { return layer_.get(); }
    std::unique_ptr<stream_layer> layer_;
  };
  class epoll_listener final : public listener, public entry {
   public:
    epoll_listener(epoll_driver& d, server_state& g, int descriptor, move_only_function<void(int)> accepted);
    // Level-triggered and disarmed while paused: a burst is accepted over several turns.
    HAILWIRE_INLINE void resume() override;
    HAILWIRE_INLINE void ready(std::uint32_t) override;
    void stop();

   private:
    epoll_driver& driver_;
    bool added_ = false, stopped_ = false;
  };

  static int check(int descriptor);
  void add(int descriptor, std::uint32_t events, entry* e) {
    add(descriptor, events, reinterpret_cast<std::uintptr_t>(e));
  }
  void add(int descriptor, std::uint32_t events, std::uintptr_t named);
  void bury() noexcept;
  void release_soon() noexcept override {
    if (!in_turn_) wake();  // each turn ends with it
  }

  int epoll_, event_, timer_;
  event_entry wakeup_{*this};
  timer_entry rings_{*this};
  move_only_function<void()> rung_;
  std::int64_t now_ = 0;               // outside a turn 0
  mutable std::int64_t unix_now_ = 0;  // 0 until somebody asks in a turn
  posted_functions posted_;
  vector<epoll_connection*> again_;
  ended_timers graveyard_;  // connections, owned
  std::size_t connections_ = 0;
  vector<std::unique_ptr<epoll_listener>> listeners_, stopped_listeners_;
  std::atomic<bool> in_turn_ = false;
};

}  // namespace hailwire::detail

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// The epoll driver inside a host's Asio context: Asio waits for the epoll descriptor alone.
class embedded_driver final : public epoll_driver, public std::enable_shared_from_this<embedded_driver> {
 public:
  explicit embedded_driver(const net::any_io_executor& ex);
  HAILWIRE_INLINE ~embedded_driver() override;
  const strand& executor() const noexcept { return strand_; }
  bool here() const noexcept override { return strand_.running_in_this_thread(); }
  bool elsewhere() const noexcept override { return in_turn() && !here(); }
  void start() { wait(); }
  HAILWIRE_INLINE void retire() override;
  HAILWIRE_INLINE void stop_listening() override;

 private:
  template <class Me, class F>
  friend class awaited;
  void wait() noexcept;
  void wait_again() noexcept;
  void go_on();
  HAILWIRE_INLINE void wake() override;
  strand strand_;
  waiting_descriptor wait_;
  bool retired_ = false, stopped_ = false;
  std::atomic<bool> resting_ = false;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE

namespace hailwire::detail {

/// The epoll driver on a thread of the host's, which blocks in it, or in a loop of the host's, which watches its
/// descriptor.
class own_thread_driver final : public epoll_driver {
 public:
  bool here() const noexcept override { return thread_.load() == &this_thread; }
  bool elsewhere() const noexcept override { return thread_.load() && !here(); }
  /// Runs turns until `quit`.
  void run();
  /// One turn, without waiting. False once it has stopped and the last connection is gone. Called from within a turn it
  /// does nothing.
  bool poll();
  /// Readable while a turn has something to do: what a turn leaves over, and what is posted, has it readable as well.
  int native_handle() const noexcept { return descriptor(); }
  HAILWIRE_INLINE void stop_listening() override;
  /// Safe from any thread.
  void quit();

 private:
  // Its address names a thread. The header <thread> is two thousand lines for everybody who includes this.
  static inline thread_local char this_thread = 0;
  struct running {
    explicit running(own_thread_driver& d) : of(d) { of.thread_ = &this_thread; }
    ~running() { of.thread_ = nullptr; }  // also when a posted function of the host's has thrown
    own_thread_driver& of;
  };
  bool stopped_ = false;
  std::atomic<const char*> thread_ = nullptr;
  std::atomic<bool> quit_ = false;
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/io/epoll.ipp"
#endif
