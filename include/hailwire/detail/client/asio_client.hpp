// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/client/receive_queue.hpp"
#include "hailwire/detail/client/transports.hpp"
#include "hailwire/detail/net/asio.hpp"
#include "hailwire/detail/net/outgoing.hpp"
#include "hailwire/detail/net/system.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// A client machine over Asio.
class asio_client final : public client_machine,
                          public std::enable_shared_from_this<asio_client>,
                          public outgoing::user {
 public:
  asio_client(const net::any_io_executor& e, proto::url at, client_options o,
              std::span<const client_transport* const> l)
      : client_machine(std::move(at), std::move(o), l, make_client_errands), executor_(e), timer_(e) {
    if (!options().proxy.empty()) {
      auto proxy = proto::parse_url(options().proxy);
      if (!proxy) throw std::invalid_argument("hailwire: the proxy: " + std::string(proxy.error().text()));
      proxy_ = std::make_unique<proto::url>(std::move(*proxy));
    }
  }

  std::int64_t now() const noexcept override { return boot_time(); }
  void random(std::span<unsigned char> out) override { secret_bytes(out); }
  void connect(client_lane lane, const proto::url& to) override {
    if (lane == client_lane::follow && receiving_ && receiving_->held) {
      receiving_->later = std::make_unique<proto::url>(to);
      return;
    }
    auto& l = lanes_[static_cast<int>(lane)];
    l = std::make_shared<outgoing>(executor_, *this);
    outgoing_route route{to.host, to.port, {}, to.secure ? options().tls : nullptr};
    if (proxy_) route.proxy = *proxy_;
    if (to.secure && !route.security)
      return net::post(executor_, [self = shared_from_this(), held = l] {
        if (self->holds(*held))
          self->outgoing_ended(*held, std::make_error_code(std::errc::protocol_not_supported),
                               "an https URL needs client_options::tls");
      });
    l->connect(std::move(route));
  }
  void write(client_lane lane, std::string_view bytes) override {
    if (auto& l = lanes_[static_cast<int>(lane)]) l->write(bytes);
  }
  void disconnect(client_lane lane) override {
    if (lane == client_lane::follow && receiving_) receiving_->later.reset();
    if (auto l = std::exchange(lanes_[static_cast<int>(lane)], nullptr)) l->close();
  }
  void wake_at(std::int64_t at) override {
    for (auto& l : lanes_)
      if (l) l->flush();
    // An alarm that rings too early is set again: moving it for every message would cost more than it saves.
    if (at == never) {
      if (std::exchange(armed_, never) != never) timer_.cancel();
      wanted_ = never;
      return;
    }
    wanted_ = at;
    if (armed_ > at) arm();
  }
  void settle_later() override {
    net::post(executor_, [self = shared_from_this()] { self->settle(); });
  }
  const net::any_io_executor& executor() const noexcept { return executor_; }

  using receive_handler = move_only_function<void(std::error_code, client_event)>;
  /// Gives the next event, now or when it comes.
  void receive(receive_handler done) {
    if (!receiving_) begin_to_receive();
    receiving& r = *receiving_;
    if (r.waiter) return done(std::make_error_code(std::errc::operation_in_progress), {});
    r.queue.acknowledge();
    r.waiter = std::move(done);
    hand_out();
    if (r.over && r.waiter) std::exchange(r.waiter, nullptr)(r.over, {});
    if (on.cursor) cursor_moved();
    if (!r.held || !r.queue.drained()) return;
    r.held = false;
    hold(false);
    if (r.later) {
      const auto to = std::exchange(r.later, nullptr);
      connect(client_lane::follow, *to);
    } else if (lanes_[0]) {
      lanes_[0]->resume();
    }
  }
  /// Who waits is told `operation_aborted`; nothing that has come is lost.
  void cancel_receive() {
    if (receiving_ && receiving_->waiter) std::exchange(receiving_->waiter, nullptr)(operation_aborted(), {});
  }
  void forget(std::string_view channel) {
    if (receiving_) receiving_->queue.drop(channel);
  }
  std::size_t unreceived() const noexcept { return receiving_ ? receiving_->queue.bytes() : 0; }
  /// The cursor as the application sees it.
  std::string taken() const {
    if (!receiving_) return cursor();
    return cursor([&](std::string_view channel) { return receiving_->queue.behind(channel); });
  }
  void ended(const std::error_code& why) override {
    if (!receiving_) return;
    receiving_->over = why;
    if (receiving_->waiter) std::exchange(receiving_->waiter, nullptr)(why, {});
  }

  /// The host's object is gone: nothing of it is called any more but ends of commands.
  void detach() {
    close();
    on = {};
  }

 private:
  void arm() {
    armed_ = wanted_;
    timer_.expires_after(std::chrono::milliseconds(std::max<std::int64_t>(armed_ - now(), 0)));
    timer_.async_wait([self = shared_from_this()](std::error_code ec) {
      if (ec) return;
      self->armed_ = never;
      if (self->wanted_ == never) return;
      if (self->wanted_ > self->now()) return self->arm();
      self->alarm();
    });
  }
  // What `receive` needs; most clients have handlers instead.
  struct receiving {
    explicit receiving(std::size_t most) : queue(most) {}
    receive_queue queue;
    receive_handler waiter;
    std::error_code over;
    bool held = false;                  // nothing is read
    std::unique_ptr<proto::url> later;  // connected to when something is read again
  };
  void begin_to_receive() {
    receiving_ = std::make_unique<receiving>(options().max_unreceived);
    if (status().now == state::stopped) receiving_->over = operation_aborted();
    on.message = [this](const client_message& m) { arrived(m); };
    on.gap = [this](const client_gap& g) { arrived(g); };
  }
  template <class Event>
  void arrived(const Event& e) {
    receiving& r = *receiving_;
    r.queue.push(e);
    hand_out();
    if (r.held || !r.queue.full()) return;
    r.held = true;
    hold(true);
    if (lanes_[0]) lanes_[0]->pause();
  }
  void hand_out() {
    receiving& r = *receiving_;
    if (!r.waiter || r.queue.empty()) return;
    auto event = r.queue.take();
    std::exchange(r.waiter, nullptr)({}, std::move(*event));
  }
  bool holds(const outgoing& o) const noexcept { return lanes_[static_cast<int>(lane_of(o))].get() == &o; }
  client_lane lane_of(const outgoing& o) const noexcept {
    return lanes_[0].get() == &o   ? client_lane::follow
           : lanes_[1].get() == &o ? client_lane::command
                                   : client_lane::content;
  }
  void outgoing_connected(outgoing& o) override {
    const auto self = shared_from_this();
    lane_connected(lane_of(o));
  }
  void outgoing_received(outgoing& o, std::span<char> bytes) override {
    const auto self = shared_from_this();
    lane_received(lane_of(o), bytes);
  }
  void outgoing_ended(outgoing& o, std::error_code ec, std::string_view text) override {
    const auto self = shared_from_this();
    const auto lane = lane_of(o);
    const auto held = std::exchange(lanes_[static_cast<int>(lane)], nullptr);
    lane_ended(lane, ec, text);
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  std::shared_ptr<outgoing> lanes_[client_lanes];
  std::unique_ptr<proto::url> proxy_;
  std::unique_ptr<receiving> receiving_;
  std::int64_t armed_ = never, wanted_ = never;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
