// SPDX-License-Identifier: BSL-1.0
#pragma once

// What every notifier of push/ is made of: a service's rules, a line of notices, and libcurl on the host's executor.

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "hailwire/detail/net/system.hpp"
#include "hailwire/detail/push/curl.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// A line of notices over libcurl. All on the executor, but for `notify` and `counters`, which are safe from any
/// thread.
class push_sender final : public push_transport, public std::enable_shared_from_this<push_sender> {
 public:
  push_sender(const net::any_io_executor& e, std::unique_ptr<push_provider> p, const push_limits& l, push_network n)
      : executor_(e),
        timer_(e),
        provider_(std::move(p)),
        curl_(std::make_shared<curl_multi>(e, std::move(n), std::chrono::milliseconds(l.request_time))),
        delivery_(*this, *provider_, l) {}

  void notify(push_device to, push_notice what, push_handler done) {
    if (!delivery_.reserve()) return done({push_outcome::failed, "too many notices wait"});
    net::post(executor_,
              [held = weak_from_this(), to = std::move(to), what = std::move(what), done = std::move(done)]() mutable {
                if (auto self = held.lock(); self && self->curl_)
                  self->delivery_.add(std::move(to), std::move(what), std::move(done));
              });
  }
  push_counters counters() const noexcept { return delivery_.counters(); }
  /// Ends everything; no handler is called behind it.
  void close() {
    if (!curl_) return;
    timer_.cancel();
    std::exchange(curl_, nullptr)->close();
  }

  // push_transport
  void send(push_request r, answered done) override {
    // The answer comes while the transfer lives, and that ends with this object's `close`.
    if (curl_) curl_->send(std::move(r), std::move(done));
  }
  void alarm_at(std::int64_t at) override {
    if (at == alarm_ || !curl_) return;
    alarm_ = at;
    timer_.cancel();
    if (at == INT64_MAX) return;
    timer_.expires_after(std::chrono::milliseconds(std::max<std::int64_t>(at - now(), 0)));
    timer_.async_wait([held = weak_from_this()](net_error_code ec) {
      auto self = held.lock();
      if (ec || !self || !self->curl_) return;
      self->alarm_ = INT64_MAX;
      self->delivery_.alarm();
    });
  }
  std::int64_t now() const noexcept override { return boot_time(); }
  std::int64_t unix_time() const noexcept override {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
  }
  void random(std::span<unsigned char> out) override { secret_bytes(out); }

 private:
  net::any_io_executor executor_;
  net::steady_timer timer_;
  std::int64_t alarm_ = INT64_MAX;
  std::unique_ptr<push_provider> provider_;
  std::shared_ptr<curl_multi> curl_;
  push_delivery delivery_;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// What every notifier over HTTP can do. Use it through `webhook`, `apns`, `fcm` and `web_push`.
///
/// Threads: `async_notify` and `counters` are safe from any thread. The notifier belongs to its executor, on which no
/// two handlers run at once: it is made and destroyed there, or while nothing runs it. Where several threads run the
/// context, hand in a strand.
///
/// Lifetime: the destructor ends what is on its way; handlers that have not been called by then never are.
class http_notifier {
 public:
  http_notifier(http_notifier&&) noexcept = default;
  http_notifier& operator=(http_notifier&& other) noexcept {
    std::swap(sender_, other.sender_);
    return *this;
  }
  ~http_notifier() {
    if (sender_) sender_->close();
  }

  /// Tells a device of something new. `done` is called once with what became of it, on the executor, or from within
  /// this call when `push_limits::max_waiting` notices wait. What it throws is lost.
  void async_notify(push_device to, push_notice what, push_handler done) {
    sender_->notify(std::move(to), std::move(what), std::move(done));
  }
  /// What was done so far.
  push_counters counters() const noexcept { return sender_->counters(); }

 protected:
  template <class Context>
  http_notifier(Context& where, std::unique_ptr<detail::push_provider> p, const push_limits& l, push_network n)
      : sender_(std::make_shared<detail::push_sender>(executor_of(where), std::move(p), l, std::move(n))) {}

 private:
  template <class Context>
  static net::any_io_executor executor_of(Context& where) {
    static_assert(!detail::of_another_asio<Context>, HAILWIRE_ANOTHER_ASIO);
    return detail::executor_of(where);
  }

  std::shared_ptr<detail::push_sender> sender_;
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
