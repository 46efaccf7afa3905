// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/io/driver.hpp"
#include "hailwire/detail/io/net.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

using strand = net::strand<net::any_io_executor>;
using waiting_descriptor = net::posix::basic_stream_descriptor<strand>;

/// A handler of something that `Me` waits for. Where Asio has no memory to begin the wait, or to call the handler, it
/// drops it while it throws: then `Me::wait_again` is called, from whichever thread that is.
template <class Me, class F>
class awaited {
 public:
  awaited(std::shared_ptr<Me> me, F f) : me_(std::move(me)), f_(std::move(f)) {}
  awaited(awaited&&) noexcept = default;
  ~awaited() {
    if (me_ && std::uncaught_exceptions() > 0) me_->wait_again();
  }
  void operator()(net_error_code ec) {
    auto me = std::move(me_);
    f_(*me, ec);
  }

 private:
  std::shared_ptr<Me> me_;  // null once it was called
  F f_;
};

/// Has `object` wait by `on`, an Asio object: `f(object, error)` is called once. Throws nothing: without memory it is
/// tried again from the strand.
template <class Object, class Me, class F>
void wait_for(Object& on, std::shared_ptr<Me> me, F f) noexcept {
  try {
    on.async_wait(awaited<Me, F>(std::move(me), std::move(f)));
  } catch (...) {  // `wait_again` has been called
  }
}
template <class Object, class What, class Me, class F>
void wait_for(Object& on, What what, std::shared_ptr<Me> me, F f) noexcept {
  try {
    on.async_wait(what, awaited<Me, F>(std::move(me), std::move(f)));
  } catch (...) {
  }
}
/// Runs `f` on the strand; false when there is no memory for that either.
template <class Strand, class F>
bool try_again(const Strand& on, F f) noexcept {
  try {
    net::post(on, std::move(f));
    return true;
  } catch (...) {
    return false;
  }
}

// What follows are templates so that a program whose server does not ask for them does not compile what they use of
// Asio.

/// A loop on a strand of the host's executor, so that the host may run it with as many threads as it likes. A handler
/// in flight shares ownership of what it needs, so nothing is called back after the server is gone.
template <class Strand>
class asio_loop : public driver, public std::enable_shared_from_this<asio_loop<Strand>> {
 public:
  explicit asio_loop(const net::any_io_executor& ex) : strand_(net::make_strand(ex)), timer_(strand_) {}

  const Strand& executor() const noexcept { return strand_; }
  void start() noexcept {}  // waits for nothing yet

  void post(move_only_function<void()> f) override { net::post(strand_, std::move(f)); }
  bool here() const noexcept override { return strand_.running_in_this_thread(); }
  /// Seen while a socket or the alarm is served, not while a posted function runs.
  bool elsewhere() const noexcept override { return serving_.load(std::memory_order_relaxed) && !here(); }
  void alarm(std::int64_t at) override {
    if (at == no_alarm) {
      timer_.cancel();
      return;
    }
    timer_.expires_at(std::chrono::steady_clock::time_point(std::chrono::milliseconds(at)));
    due_ = at;
    wait_for(timer_, this->shared_from_this(), [](asio_loop& self, net_error_code ec) {
      const serving mark(self);
      if (!ec && self.rung_) self.rung_();
    });
  }
  void wait_again() noexcept {
    try_again(strand_, [self = this->shared_from_this()] {
      if (self->rung_) self->alarm(self->due_);
    });
  }
  void on_alarm(move_only_function<void()> f) override { rung_ = std::move(f); }
  void retire() override {
    driver::retire();
    rung_ = nullptr;
    timer_.cancel();
  }

 protected:
  void release_soon() noexcept override {
    try_again(strand_, [self = this->shared_from_this()] { self->release_closed(); });
  }

  // While something is served here.
  struct serving {
    explicit serving(asio_loop& l) noexcept : of(l.serving_) { of.store(true, std::memory_order_relaxed); }
    serving(const serving&) = delete;
    ~serving() { of.store(false, std::memory_order_relaxed); }
    std::atomic<bool>& of;
  };

 private:
  Strand strand_;
  net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>, Strand> timer_;
  move_only_function<void()> rung_;
  std::int64_t due_ = 0;
  std::atomic<bool> serving_ = false;
};

/// The portable driver: Asio waits for each socket.
template <class Strand>
class asio_driver final : public asio_loop<Strand> {
 public:
  using asio_loop<Strand>::asio_loop;

  void listen(server_state& g, int descriptor, move_only_function<void(int)> accepted) override {
    auto l = std::make_shared<asio_listener>(*this, g, descriptor, std::move(accepted));
    listeners_.push_back(l);
    l->resume();
  }
  void serve(server_state& g, int descriptor, std::unique_ptr<stream_layer> layer,
             std::string_view already_read) override {
    owned_descriptor own(descriptor);
    std::make_shared<asio_connection>(*this, g, own, std::move(layer))->begin(already_read);
  }
  void stop_listening() override {
    for (auto& l : std::exchange(listeners_, {})) l->stop();
  }

 private:
  class asio_connection final : public descriptor_connection,
                                public self_owned,
                                public std::enable_shared_from_this<asio_connection> {
   public:
    asio_connection(asio_driver& d, server_state& g, owned_descriptor& own, std::unique_ptr<stream_layer> layer)
        : descriptor_connection(g, own, layer != nullptr),
          layer_(std::move(layer)),
          loop_(std::static_pointer_cast<asio_driver>(d.shared_from_this())),
          wait_(d.executor(), descriptor()) {
      if (layer_) g.messages.channels.beside_bytes += layer_->footprint();
    }
    // The descriptor is closed by the base, not by its waiter.
    ~asio_connection() override { release(); }

    void begin(std::string_view already_read) {
      self = this->shared_from_this();  // it may wait for neither reading nor writing, only for a storage or a hook
      this->contained([&] { adopt(already_read); });
    }

   private:
    void arm() override {
      if (wants_read() && !std::exchange(reading_, true)) wait_read();
      if (wants_write() && !std::exchange(writing_, true)) wait_write();
    }
    void closing() override {
      release();
      loop_->closed(*this);
    }
    void release() {
      net_error_code ignored;
      if (wait_.is_open()) wait_.cancel(ignored), wait_.release();
    }
    void wait_read() {
      wait_.async_wait(waiting_descriptor::wait_read, [me = this->shared_from_this()](net_error_code ec) {
        const typename asio_driver::serving mark(*me->loop_);
        me->reading_ = false;
        if (me->closed() || ec == net::error::operation_aborted) return;
        if (ec) return me->failed(ec);
        me->contained([&] {
          me->read_some();
          if (!me->closed()) me->arm();
        });
      });
    }
    void wait_write() {
      wait_.async_wait(waiting_descriptor::wait_write, [me = this->shared_from_this()](net_error_code ec) {
        const typename asio_driver::serving mark(*me->loop_);
        me->writing_ = false;
        if (me->closed() || ec == net::error::operation_aborted) return;
        if (ec) return me->failed(ec);
        me->contained([&] {
          if (me->write_ready()) me->read_some();
          if (!me->closed()) me->arm();
        });
      });
    }
    stream_layer* layer() const noexcept override { return layer_.get(); }

    std::unique_ptr<stream_layer> layer_;
    std::shared_ptr<asio_driver> loop_;  // holds the buffer that reads go to
    waiting_descriptor wait_;
    bool reading_ = false, writing_ = false;
  };

  class asio_listener final : public listener, public std::enable_shared_from_this<asio_listener> {
   public:
    asio_listener(asio_driver& d, server_state& g, int descriptor, move_only_function<void(int)> accepted)
        : listener(g, descriptor, std::move(accepted)), strand_(d.executor()), wait_(strand_, descriptor) {}
    ~asio_listener() override { release(); }

    void resume() override {
      wait_for(wait_, waiting_descriptor::wait_read, this->shared_from_this(),
               [](asio_listener& me, net_error_code ec) {
                 if (ec || me.stopped_) return;
                 me.accept();
                 if (!me.paused()) me.resume();
               });
    }
    void wait_again() noexcept {
      try_again(strand_, [me = this->shared_from_this()] {
        if (!me->stopped_) me->resume();
      });
    }
    void stop() {
      stopped_ = true;
      gate_->messages.wheel().disarm(*this);
      release();
    }

   private:
    void release() {
      net_error_code ignored;
      if (wait_.is_open()) wait_.cancel(ignored), wait_.release();
    }
    Strand strand_;
    waiting_descriptor wait_;
    bool stopped_ = false;
  };

  std::vector<std::shared_ptr<asio_listener>> listeners_;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/io/asio.ipp"
#endif
