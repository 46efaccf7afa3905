// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/net/asio.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// Looks up names for all connections of a context. Connections that ask for one name while it is being looked up share
/// the answer, so a thousand clients that lost one server ask once. Nothing is kept beyond that: the system knows how
/// long an answer holds. Safe from any thread.
class name_resolver : public net::execution_context::service {
 public:
  using endpoints = std::vector<net::ip::tcp::endpoint>;
  using answer = move_only_function<void(std::error_code, const endpoints&)>;

  static inline net::execution_context::id id;
  explicit name_resolver(net::execution_context& c) : service(c) {}

  static name_resolver& of(const net::any_io_executor& e) {
    return net::use_service<name_resolver>(net::query(e, net::execution::context));
  }

  /// Calls `f` on `executor`, never from within this call, unless the context ends first. An address is its own answer.
  void resolve(const std::string& host, std::uint16_t port, const net::any_io_executor& executor, answer f) {
    net_error_code ec;
    if (auto address = net::ip::make_address(host, ec); !ec) {
      net::post(executor, [f = std::move(f), at = net::ip::tcp::endpoint(address, port)]() mutable { f({}, {at}); });
      return;
    }
    std::lock_guard lock(mutex_);
    if (closed_) return;
    auto& waiting = waiting_[{host, port}];
    waiting.push_back({executor, std::move(f)});
    if (waiting.size() > 1) return;
    if (instead_) {
      net::post(executor, [this, host, port] {
        endpoints found;
        const auto failed = instead_(host, port, found);
        finish(host, port, failed, found);
      });
      return;
    }
    auto asking = std::make_shared<net::ip::tcp::resolver>(executor);
    asking->async_resolve(host, std::to_string(port), net::ip::tcp::resolver::numeric_service,
                          [this, asking, host, port](std::error_code failed, const auto& results) {
                            endpoints found;
                            for (auto& r : results) found.push_back(r.endpoint());
                            finish(host, port, failed, found);
                          });
  }

  /// Asks `f` in place of the system, for tests. Set before the first lookup.
  void ask_instead(move_only_function<std::error_code(const std::string&, std::uint16_t, endpoints&)> f) {
    instead_ = std::move(f);
  }

 private:
  struct waiter {
    net::any_io_executor executor;
    answer f;
  };

  void shutdown() override {
    std::map<std::pair<std::string, std::uint16_t>, std::vector<waiter>> gone;
    std::lock_guard lock(mutex_);
    closed_ = true;
    gone.swap(waiting_);
  }

  void finish(const std::string& host, std::uint16_t port, std::error_code failed, const endpoints& found) {
    std::vector<waiter> told;
    {
      std::lock_guard lock(mutex_);
      auto at = waiting_.find({host, port});
      if (at == waiting_.end()) return;
      told = std::move(at->second);
      waiting_.erase(at);
    }
    for (auto& w : told) net::post(w.executor, [f = std::move(w.f), failed, found]() mutable { f(failed, found); });
  }

  std::mutex mutex_;
  std::map<std::pair<std::string, std::uint16_t>, std::vector<waiter>> waiting_;
  move_only_function<std::error_code(const std::string&, std::uint16_t, endpoints&)> instead_;
  bool closed_ = false;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
