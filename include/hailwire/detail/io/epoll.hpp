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
#include <mutex>
#include <system_error>
#include <utility>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/io/asio.hpp"

namespace hailwire::detail {

class epoll_driver : public driver {
 public:
  epoll_driver()
      : epoll_(check(::epoll_create1(EPOLL_CLOEXEC))),
        event_(check(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))),
        timer_(check(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC))) {
    add(event_, EPOLLIN | EPOLLET, &wakeup_);
    add(timer_, EPOLLIN | EPOLLET, &rings_);
  }
  ~epoll_driver() override {
    listeners_.clear();
    bury();
    for (int d : {timer_, event_, epoll_}) ::close(d);
  }

  void post(move_only_function<void()> f) override {
    bool first;
    {
      std::lock_guard lock(mutex_);
      first = posted_.empty();
      posted_.push_back(std::move(f));
    }
    // During a turn of its own the loop looks again by itself.
    if (first && !(in_turn_ && here())) wake();
  }
  void alarm(std::int64_t at) override {
    itimerspec when{};
    if (at <= 0) at = 1;
    if (at != no_alarm) {  // zeros disarm it
      when.it_value.tv_sec = at / 1000;
      when.it_value.tv_nsec = at % 1000 * 1'000'000;
    }
    ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);  // the clock of std::chrono::steady_clock
  }
  void on_alarm(move_only_function<void()> f) override { rung_ = std::move(f); }

  void listen(server_state& g, int descriptor, move_only_function<void(int)> accepted) override {
    listeners_.push_back(
        std::unique_ptr<epoll_listener>(new epoll_listener(*this, g, descriptor, std::move(accepted))));
    listeners_.back()->resume();
  }
  void serve(server_state& g, int descriptor, std::unique_ptr<stream_layer> layer,
             std::string_view already_read) override {
    owned_descriptor own(descriptor);
    epoll_connection* c = layer ? new layered_connection(g, own, std::move(layer)) : new epoll_connection(g, own);
    ++connections_;
    c->begin(already_read);  // it owns itself until it is closed
  }
  void stop_listening() override {
    for (auto& l : listeners_) {
      l->stop();
      stopped_listeners_.push_back(std::move(l));  // an event of this turn may still name it
    }
    listeners_.clear();
  }
  void beside(int more) override {
    connections_ += static_cast<std::size_t>(more);
    if (more < 0 && !in_turn_) wake();
  }
  void retire() override { rung_ = nullptr; }
  /// Read once for all that a wait brings: a turn writes to thousands.
  std::int64_t now() const noexcept override { return now_ ? now_ : driver::now(); }
  std::int64_t unix_time() const noexcept override {
    if (!now_) return driver::unix_time();
    if (!unix_now_) unix_now_ = driver::unix_time();
    return unix_now_;
  }

 protected:
  /// Serves what is ready, waiting for it at most `wait_ms` (-1: for ever).
  ///
  /// What a function of the host's throws that was posted leaves the turn; the next one goes on behind it.
  void turn(int wait_ms) {
    in_turn_ = true;
    const struct end_of_turn {
      epoll_driver& of;
      ~end_of_turn() {
        of.now_ = 0;
        of.in_turn_ = false;
        if (!of.again_.empty() || of.have_posted()) of.wake();
      }
    } at_end{*this};
    epoll_event events[256];
    for (int round = 0; round < rounds_per_turn; ++round) {
      bool more = !again_.empty() || have_posted();
      int n = ::epoll_wait(epoll_, events, std::size(events), round || more ? 0 : wait_ms);
      now_ = driver::now();
      unix_now_ = 0;
      for (int i = 0; i < n; ++i) {
        if (i + 2 < n) fetch(events[i + 2].data.ptr);
        ready(events[i]);
      }
      auto again = std::exchange(again_, {});
      for (auto* c : again)
        if (c) c->go_on();
      run_posted();
      bury();
      stopped_listeners_.clear();
      if (n < static_cast<int>(std::size(events)) && again_.empty() && !have_posted()) break;
    }
  }
  int descriptor() const noexcept { return epoll_; }
  bool in_turn() const noexcept { return in_turn_; }
  /// Has a turn come soon. Safe from any thread.
  virtual void wake() {
    std::uint64_t one = 1;
    [[maybe_unused]] auto n = ::write(event_, &one, sizeof one);
  }
  /// Whether nothing is being served and nothing is left to run.
  bool at_rest() { return connections_ == 0 && !have_posted(); }

 private:
  class epoll_connection;

  // An event names a connection, told by this bit, or one of the few other things.
  static constexpr std::uintptr_t connection_bit = 1;
  void ready(const epoll_event& e) {
    auto named = reinterpret_cast<std::uintptr_t>(e.data.ptr);
    if (named & connection_bit) {
      reinterpret_cast<epoll_connection*>(named & ~connection_bit)->ready(e.events);
    } else {
      reinterpret_cast<entry*>(named)->ready(e.events);
    }
  }

  // How often a turn looks for more before whoever runs it gets control back.
  static constexpr int rounds_per_turn = 4;

  struct entry {
    virtual void ready(std::uint32_t events) = 0;

   protected:
    ~entry() = default;
  };
  struct event_entry final : entry {
    explicit event_entry(epoll_driver& d) : owner(d) {}
    void ready(std::uint32_t) override {
      std::uint64_t count;
      [[maybe_unused]] auto n = ::read(owner.event_, &count, sizeof count);
    }
    epoll_driver& owner;
  };
  struct timer_entry final : entry {
    explicit timer_entry(epoll_driver& d) : owner(d) {}
    void ready(std::uint32_t) override {
      std::uint64_t count;
      [[maybe_unused]] auto n = ::read(owner.timer_, &count, sizeof count);
      if (owner.rung_) owner.rung_();
    }
    epoll_driver& owner;
  };
  class epoll_connection : public descriptor_connection {
   public:
    explicit epoll_connection(server_state& g, owned_descriptor& d, bool layered = false)
        : descriptor_connection(g, d, layered) {}

    void begin(std::string_view already_read) {
      set().add(descriptor(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                reinterpret_cast<std::uintptr_t>(this) | connection_bit);
      contained([&] { adopt(already_read); });
    }
    void ready(std::uint32_t events) {
      contained([&] { react(events); });
    }
    void go_on() {
      note(queued_note, false);
      contained([&] {
        if (!closed() && noted(readable_note)) read();
      });
    }

   private:
    void react(std::uint32_t events) {
      if (closed()) return;
      if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        note(readable_note, true);
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) note(ended_note, true);
        read();
      }
      if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && !closed() && wants_write() && write_ready()) {
        note(readable_note, true);
        read();
      }
    }
    void read() {
      if (!wants_read()) return;
      note(readable_note, !read_some(noted(ended_note)));
      if (noted(readable_note) && !closed()) arm();
    }
    void arm() override {
      if (!noted(readable_note) || !wants_read() || noted(queued_note)) return;
      note(queued_note, true);
      set().again_.push_back(this);
      if (!set().in_turn_) set().wake();
    }
    void closing() override {
      // Closing alone would not do: a child that is being started may hold the socket for a moment longer.
      ::epoll_ctl(set().epoll_, EPOLL_CTL_DEL, descriptor(), nullptr);
      if (noted(queued_note))
        std::replace(set().again_.begin(), set().again_.end(), this, static_cast<epoll_connection*>(nullptr));
      try {
        set().graveyard_.push_back(this);  // events of this turn may still name it
      } catch (const std::bad_alloc&) {    // nobody names it any more: without memory to note it, its own stays taken
      }
      --set().connections_;
      if (!set().in_turn_) set().wake();
    }

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
    layered_connection(server_state& g, owned_descriptor& d, std::unique_ptr<stream_layer> layer)
        : epoll_connection(g, d, true), layer_(std::move(layer)) {}

   private:
    stream_layer* layer() const noexcept override { return layer_.get(); }
    std::unique_ptr<stream_layer> layer_;
  };
  class epoll_listener final : public listener, public entry {
   public:
    epoll_listener(epoll_driver& d, server_state& g, int descriptor, move_only_function<void(int)> accepted)
        : listener(g, descriptor, std::move(accepted)), driver_(d) {}
    // Level-triggered and disarmed while paused: a burst is accepted over several turns.
    void resume() override {
      if (!std::exchange(added_, true)) driver_.add(descriptor(), EPOLLIN, this);
    }
    void ready(std::uint32_t) override {
      if (stopped_) return;
      accept();
      if (paused() && std::exchange(added_, false)) ::epoll_ctl(driver_.epoll_, EPOLL_CTL_DEL, descriptor(), nullptr);
    }
    void stop() {
      stopped_ = true;
      gate_->messages.wheel().disarm(*this);
      if (added_) ::epoll_ctl(driver_.epoll_, EPOLL_CTL_DEL, descriptor(), nullptr);
    }

   private:
    epoll_driver& driver_;
    bool added_ = false, stopped_ = false;
  };

  static int check(int descriptor) {
    if (descriptor < 0) throw std::system_error(errno, std::system_category(), "epoll");
    return descriptor;
  }
  void add(int descriptor, std::uint32_t events, entry* e) {
    add(descriptor, events, reinterpret_cast<std::uintptr_t>(e));
  }
  void add(int descriptor, std::uint32_t events, std::uintptr_t named) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = reinterpret_cast<void*>(named);
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
  }
  void run_posted() {
    struct rest {
      epoll_driver& of;
      vector<move_only_function<void()>> all;
      std::size_t next = 0;
      ~rest() {
        if (next == all.size()) return;
        std::lock_guard lock(of.mutex_);
        all.erase(all.begin(), all.begin() + next);
        for (auto& f : of.posted_) all.push_back(std::move(f));
        of.posted_ = std::move(all);
      }
    } posted{*this, {}};
    {
      std::lock_guard lock(mutex_);
      posted.all.swap(posted_);
    }
    while (posted.next < posted.all.size()) posted.all[posted.next++]();
  }
  void bury() noexcept {
    for (auto* c : graveyard_) delete c;
    graveyard_.clear();
  }
  bool have_posted() {
    std::lock_guard lock(mutex_);
    return !posted_.empty();
  }

  int epoll_, event_, timer_;
  event_entry wakeup_{*this};
  timer_entry rings_{*this};
  move_only_function<void()> rung_;
  std::int64_t now_ = 0;               // outside a turn 0
  mutable std::int64_t unix_now_ = 0;  // 0 until somebody asks in a turn
  std::mutex mutex_;
  vector<move_only_function<void()>> posted_;
  vector<epoll_connection*> again_;
  vector<epoll_connection*> graveyard_;  // owned
  std::size_t connections_ = 0;
  vector<std::unique_ptr<epoll_listener>> listeners_, stopped_listeners_;
  std::atomic<bool> in_turn_ = false;
};

}  // namespace hailwire::detail

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// The epoll driver inside a host's Asio context: Asio waits for the epoll descriptor alone.
class embedded_driver final : public epoll_driver, public std::enable_shared_from_this<embedded_driver> {
 public:
  explicit embedded_driver(const net::any_io_executor& ex)
      : strand_(net::make_strand(ex)), wait_(strand_, descriptor()) {}
  ~embedded_driver() override {
    if (wait_.is_open()) wait_.release();  // the base closes it
  }
  const strand& executor() const noexcept { return strand_; }
  bool here() const noexcept override { return strand_.running_in_this_thread(); }
  bool elsewhere() const noexcept override { return in_turn() && !here(); }
  void start() { wait(); }
  void retire() override {
    epoll_driver::retire();
    retired_ = true;
    net_error_code ignored;
    wait_.cancel(ignored);
  }
  void stop_listening() override {
    epoll_driver::stop_listening();
    stopped_ = true;
    wake();
  }

 private:
  template <class Me, class F>
  friend class awaited;
  void wait() noexcept {
    wait_for(wait_, waiting_descriptor::wait_read, shared_from_this(), [](embedded_driver& me, net_error_code ec) {
      if (!ec) me.go_on();
    });
  }
  void wait_again() noexcept {
    if (!try_again(strand_, [me = shared_from_this()] { me->go_on(); })) resting_ = true;  // until it is woken
  }
  void go_on() {
    if (retired_) return;
    try {
      turn(0);
    } catch (...) {
      if (!retired_) wait();
      throw;
    }
    if (retired_) return;
    // Once the server has stopped and its last connection is gone, the context has nothing to wait for here and may run
    // out of work. What is posted afterwards comes by way of the strand.
    if (stopped_ && at_rest()) {
      resting_ = true;
      if (at_rest() || !resting_.exchange(false)) return;
    }
    wait();
  }
  void wake() override {
    if (!resting_.exchange(false)) return epoll_driver::wake();
    net::post(strand_, [me = shared_from_this()] { me->go_on(); });
  }
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
  void run() {
    const running here(*this);
    while (!quit_) turn(-1);
  }
  /// One turn, without waiting. False once it has stopped and the last connection is gone. Called from within a turn it
  /// does nothing.
  bool poll() {
    if (in_turn()) return true;
    const running here(*this);
    turn(0);
    return !stopped_ || !at_rest();
  }
  /// Readable while a turn has something to do: what a turn leaves over, and what is posted, has it readable as well.
  int native_handle() const noexcept { return descriptor(); }
  void stop_listening() override {
    epoll_driver::stop_listening();
    stopped_ = true;
    wake();  // whoever watches the descriptor hears that this was all
  }
  /// Safe from any thread.
  void quit() {
    quit_ = true;
    wake();
  }

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
