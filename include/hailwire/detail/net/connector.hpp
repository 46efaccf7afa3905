// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/net/asio.hpp"

namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE {

/// Connects to the first of several addresses that answers (RFC 8305): they are tried in their order, the two families
/// in turn, each a quarter of a second behind the one before or as soon as that one has failed; the first that is
/// connected is taken, and the others are dropped. So a dead IPv6 costs a quarter of a second.
class connector : public std::enable_shared_from_this<connector> {
 public:
  using endpoints = std::vector<net::ip::tcp::endpoint>;
  using done = move_only_function<void(std::error_code, net::ip::tcp::socket)>;

  /// RFC 8305, section 5: the recommended delay between two attempts.
  static constexpr std::chrono::milliseconds delay{250};

  /// Calls `f` once, never from within this call, with a socket that is connected or with the last error; never behind
  /// `cancel`.
  static std::shared_ptr<connector> start(const net::any_io_executor& e, const endpoints& found, done f) {
    std::shared_ptr<connector> c(new connector(e, in_turn(found), std::move(f)));
    net::post(e, [c] {
      if (c->done_) c->next();
    });
    return c;
  }
  void cancel() {
    done_ = nullptr;
    drop();
  }

  /// The families in turn, the first address's first (RFC 8305, section 4).
  static endpoints in_turn(const endpoints& found) {
    endpoints out;
    if (found.empty()) return out;
    std::vector<net::ip::tcp::endpoint> rows[2];
    const bool first_is_four = found.front().address().is_v4();
    for (auto& e : found) rows[e.address().is_v4() == first_is_four ? 0 : 1].push_back(e);
    for (std::size_t i = 0; i < std::max(rows[0].size(), rows[1].size()); ++i)
      for (auto& row : rows)
        if (i < row.size()) out.push_back(row[i]);
    return out;
  }

 private:
  connector(const net::any_io_executor& e, endpoints found, done f)
      : executor_(e), timer_(e), found_(std::move(found)), done_(std::move(f)) {}

  void next() {
    if (!done_) return;
    if (at_ == found_.size()) {
      if (attempts_ == 0)
        finish(last_ ? last_ : std::error_code(net_error_code(net::error::host_not_found)),
               net::ip::tcp::socket(executor_));
      return;
    }
    const auto to = found_[at_++];
    auto socket = std::make_shared<net::ip::tcp::socket>(executor_);
    sockets_.push_back(socket);
    ++attempts_;
    socket->async_connect(to, [self = shared_from_this(), socket](std::error_code ec) {
      --self->attempts_;
      if (!self->done_) return;
      if (!ec) return self->finish({}, std::move(*socket));
      self->last_ = ec;
      self->next();
    });
    if (at_ == found_.size()) return;
    timer_.expires_after(delay);
    timer_.async_wait([self = shared_from_this()](std::error_code ec) {
      if (!ec) self->next();
    });
  }
  void finish(std::error_code ec, net::ip::tcp::socket socket) {
    auto f = std::exchange(done_, nullptr);
    drop();
    f(ec, std::move(socket));
  }
  void drop() {
    timer_.cancel();
    net_error_code ignored;
    for (auto& s : sockets_)
      if (s->is_open()) s->close(ignored);
    sockets_.clear();
  }

  net::any_io_executor executor_;
  net::steady_timer timer_;
  endpoints found_;
  done done_;
  std::vector<std::shared_ptr<net::ip::tcp::socket>> sockets_;
  std::size_t at_ = 0, attempts_ = 0;
  std::error_code last_;
};

}  // namespace hailwire::detail::inline HAILWIRE_ASIO_NAMESPACE
