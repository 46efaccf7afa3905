// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "hailwire/detail/io/epoll.hpp"

namespace hailwire::detail {

HAILWIRE_INLINE epoll_driver::epoll_driver()
    : epoll_(check(::epoll_create1(EPOLL_CLOEXEC))),
      event_(check(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))),
      timer_(check(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC))) {
  add(event_, EPOLLIN | EPOLLET, &wakeup_);
  add(timer_, EPOLLIN | EPOLLET, &rings_);
}

HAILWIRE_INLINE epoll_driver::~epoll_driver() {
  listeners_.clear();
  bury();
  for (int d : {timer_, event_, epoll_}) ::close(d);
}

HAILWIRE_INLINE void epoll_driver::post(move_only_function<void()> f) {
  // During a turn of its own the loop looks again by itself.
  if (posted_.add(std::move(f), in_turn_ && here())) wake();
}

HAILWIRE_INLINE void epoll_driver::alarm(std::int64_t at) {
  itimerspec when{};
  if (at <= 0) at = 1;
  if (at != no_alarm) {  // zeros disarm it
    when.it_value.tv_sec = at / 1000;
    when.it_value.tv_nsec = at % 1000 * 1'000'000;
  }
  ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);  // the clock of std::chrono::steady_clock
}

HAILWIRE_INLINE void epoll_driver::listen(server_state& g, int descriptor, move_only_function<void(int)> accepted) {
  listeners_.push_back(std::unique_ptr<epoll_listener>(new epoll_listener(*this, g, descriptor, std::move(accepted))));
  listeners_.back()->resume();
}

HAILWIRE_INLINE void epoll_driver::serve(server_state& g, int descriptor, std::unique_ptr<stream_layer> layer,
                                         std::string_view already_read) {
  owned_descriptor own(descriptor);
  epoll_connection* c = layer ? new layered_connection(g, own, std::move(layer)) : new epoll_connection(g, own);
  ++connections_;
  c->begin(already_read);  // it owns itself until it is closed
}

HAILWIRE_INLINE void epoll_driver::stop_listening() {
  for (auto& l : listeners_) {
    l->stop();
    stopped_listeners_.push_back(std::move(l));  // an event of this turn may still name it
  }
  listeners_.clear();
}

HAILWIRE_INLINE void epoll_driver::beside(int more) {
  connections_ += static_cast<std::size_t>(more);
  if (more < 0 && !in_turn_) wake();
}

HAILWIRE_INLINE std::int64_t epoll_driver::unix_time() const noexcept {
  if (!now_) return driver::unix_time();
  if (!unix_now_) unix_now_ = driver::unix_time();
  return unix_now_;
}

HAILWIRE_INLINE void epoll_driver::turn(int wait_ms) {
  in_turn_ = true;
  const struct end_of_turn {
    epoll_driver& of;
    ~end_of_turn() {
      of.now_ = 0;
      of.in_turn_ = false;
      if (!of.again_.empty() || of.posted_.any()) of.wake();
    }
  } at_end{*this};
  epoll_event events[256];
  for (int round = 0; round < rounds_per_turn; ++round) {
    bool more = !again_.empty() || posted_.any();
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
    posted_.run();
    bury();
    stopped_listeners_.clear();
    if (n < static_cast<int>(std::size(events)) && again_.empty() && !posted_.any()) break;
  }
}

HAILWIRE_INLINE void epoll_driver::wake() {
  std::uint64_t one = 1;
  [[maybe_unused]] auto n = ::write(event_, &one, sizeof one);
}

HAILWIRE_INLINE void epoll_driver::ready(const epoll_event& e) {
  auto named = reinterpret_cast<std::uintptr_t>(e.data.ptr);
  if (named & connection_bit) {
    reinterpret_cast<epoll_connection*>(named & ~connection_bit)->ready(e.events);
  } else {
    reinterpret_cast<entry*>(named)->ready(e.events);
  }
}

HAILWIRE_INLINE void epoll_driver::event_entry::ready(std::uint32_t) {
  std::uint64_t count;
  [[maybe_unused]] auto n = ::read(owner.event_, &count, sizeof count);
}

HAILWIRE_INLINE void epoll_driver::timer_entry::ready(std::uint32_t) {
  std::uint64_t count;
  [[maybe_unused]] auto n = ::read(owner.timer_, &count, sizeof count);
  if (owner.rung_) owner.rung_();
}

HAILWIRE_INLINE epoll_driver::epoll_connection::epoll_connection(server_state& g, owned_descriptor& d, bool layered)
    : descriptor_connection(g, d, layered) {}

HAILWIRE_INLINE void epoll_driver::epoll_connection::begin(std::string_view already_read) {
  set().add(descriptor(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
            reinterpret_cast<std::uintptr_t>(this) | connection_bit);
  contained([&] { adopt(already_read); });
}

HAILWIRE_INLINE void epoll_driver::epoll_connection::go_on() {
  note(queued_note, false);
  contained([&] {
    if (!closed() && noted(readable_note)) read();
  });
}

HAILWIRE_INLINE void epoll_driver::epoll_connection::react(std::uint32_t events) {
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

HAILWIRE_INLINE void epoll_driver::epoll_connection::read() {
  if (!wants_read()) return;
  note(readable_note, !read_some(noted(ended_note)));
  if (noted(readable_note) && !closed()) arm();
}

HAILWIRE_INLINE void epoll_driver::epoll_connection::arm() {
  if (!noted(readable_note) || !wants_read() || noted(queued_note)) return;
  note(queued_note, true);
  set().again_.push_back(this);
  if (!set().in_turn_) set().wake();
}

HAILWIRE_INLINE void epoll_driver::epoll_connection::closing() {
  // Closing alone would not do: a child that is being started may hold the socket for a moment longer.
  ::epoll_ctl(set().epoll_, EPOLL_CTL_DEL, descriptor(), nullptr);
  if (noted(queued_note))
    std::replace(set().again_.begin(), set().again_.end(), this, static_cast<epoll_connection*>(nullptr));
  set().graveyard_.add(*this);  // events of this turn may still name it
  --set().connections_;
  if (!set().in_turn_) set().wake();
}

HAILWIRE_INLINE epoll_driver::layered_connection::layered_connection(server_state& g, owned_descriptor& d,
                                                                     std::unique_ptr<stream_layer> layer)
    : epoll_connection(g, d, true), layer_(std::move(layer)) {
  g.messages.channels.beside_bytes += layer_->footprint();
}

HAILWIRE_INLINE epoll_driver::epoll_listener::epoll_listener(epoll_driver& d, server_state& g, int descriptor,
                                                             move_only_function<void(int)> accepted)
    : listener(g, descriptor, std::move(accepted)), driver_(d) {}

HAILWIRE_INLINE void epoll_driver::epoll_listener::resume() {
  if (!std::exchange(added_, true)) driver_.add(descriptor(), EPOLLIN, this);
}

HAILWIRE_INLINE void epoll_driver::epoll_listener::ready(std::uint32_t) {
  if (stopped_) return;
  accept();
  if (paused() && std::exchange(added_, false)) ::epoll_ctl(driver_.epoll_, EPOLL_CTL_DEL, descriptor(), nullptr);
}

HAILWIRE_INLINE void epoll_driver::epoll_listener::stop() {
  stopped_ = true;
  gate_->messages.wheel().disarm(*this);
  if (added_) ::epoll_ctl(driver_.epoll_, EPOLL_CTL_DEL, descriptor(), nullptr);
}

HAILWIRE_INLINE int epoll_driver::check(int descriptor) {
  if (descriptor < 0) throw std::system_error(errno, std::system_category(), "epoll");
  return descriptor;
}

HAILWIRE_INLINE void epoll_driver::add(int descriptor, std::uint32_t events, std::uintptr_t named) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = reinterpret_cast<void*>(named);
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
}

HAILWIRE_INLINE void epoll_driver::bury() noexcept {
  while (timer* c = graveyard_.take()) delete c;
  release_closed();
}

}  // namespace hailwire::detail

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

HAILWIRE_INLINE embedded_driver::embedded_driver(const net::any_io_executor& ex)
    : strand_(net::make_strand(ex)), wait_(strand_, descriptor()) {}

HAILWIRE_INLINE embedded_driver::~embedded_driver() {
  if (wait_.is_open()) wait_.release();  // the base closes it
}

HAILWIRE_INLINE void embedded_driver::retire() {
  epoll_driver::retire();
  retired_ = true;
  net_error_code ignored;
  wait_.cancel(ignored);
}

HAILWIRE_INLINE void embedded_driver::stop_listening() {
  epoll_driver::stop_listening();
  stopped_ = true;
  wake();
}

HAILWIRE_INLINE void embedded_driver::wait() noexcept {
  wait_for(wait_, waiting_descriptor::wait_read, shared_from_this(), [](embedded_driver& me, net_error_code ec) {
    if (!ec) me.go_on();
  });
}

HAILWIRE_INLINE void embedded_driver::wait_again() noexcept {
  if (!try_again(strand_, [me = shared_from_this()] { me->go_on(); })) resting_ = true;  // until it is woken
}

HAILWIRE_INLINE void embedded_driver::go_on() {
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

HAILWIRE_INLINE void embedded_driver::wake() {
  if (!resting_.exchange(false)) return epoll_driver::wake();
  net::post(strand_, [me = shared_from_this()] { me->go_on(); });
}

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE

namespace hailwire::detail {

HAILWIRE_INLINE void own_thread_driver::run() {
  const running here(*this);
  while (!quit_) turn(-1);
}

HAILWIRE_INLINE bool own_thread_driver::poll() {
  if (in_turn()) return true;
  const running here(*this);
  turn(0);
  return !stopped_ || !at_rest();
}

HAILWIRE_INLINE void own_thread_driver::stop_listening() {
  epoll_driver::stop_listening();
  stopped_ = true;
  wake();  // whoever watches the descriptor hears that this was all
}

HAILWIRE_INLINE void own_thread_driver::quit() {
  quit_ = true;
  wake();
}

}  // namespace hailwire::detail
