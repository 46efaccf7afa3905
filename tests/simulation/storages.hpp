// SPDX-License-Identifier: BSL-1.0
#pragma once

// The storages that a simulation runs on besides `hailwire::memory_storage`: one as a host would write it, with the two
// functions that a storage must have, and one that answers later, forgets, and begins new epochs.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/event_loop.hpp"
#include "record.hpp"

namespace simulation {

/// A channel's log that keeps its newest `retention` messages.
class bounded_log {
 public:
  std::uint64_t head() const noexcept { return head_; }
  std::uint64_t oldest() const noexcept { return head_ - kept_.size() + 1; }
  /// Forgets the newest `lost`, as if they had never been.
  void lose_newest(std::uint64_t lost) {
    for (; lost > 0 && !kept_.empty(); --lost, --head_) kept_.pop_back();
  }
  std::uint64_t append(const hailwire::draft& d, std::size_t retention) {
    kept_.push_back({++head_, d.at, d.from, d.type, d.data});
    if (kept_.size() > retention) kept_.pop_front();
    return head_;
  }
  hailwire::read_result read(std::uint64_t since, hailwire::read_limit limit) const {
    hailwire::read_result r;
    r.head = head_;
    r.oldest = oldest();
    std::size_t bytes = 0;
    for (std::uint64_t at = std::max(since + 1, r.oldest); at <= head_ && r.messages.size() < limit.messages; ++at) {
      const auto& m = kept_[static_cast<std::size_t>(at - r.oldest)];
      bytes += m.data.bytes().size();
      if (bytes > limit.bytes && !r.messages.empty()) break;
      r.messages.push_back(m);
    }
    return r;
  }

 private:
  std::deque<hailwire::message> kept_;
  std::uint64_t head_ = 0;
};

/// Answers at once; no epochs, no keys; fails by throwing.
class plain_storage {
 public:
  plain_storage(dice& d, std::size_t retention) : dice_(d), retention_(retention) {}
  unsigned failing = 0;  ///< percent of the calls

  /// Another program shares the log and appends to it.
  void append_behind(const std::string& channel, const hailwire::draft& d) { logs_[channel].append(d, retention_); }
  std::uint64_t append(std::string_view channel, const hailwire::draft& d) {
    if (dice_.chance(failing)) throw std::runtime_error("disk full");
    return logs_[std::string(channel)].append(d, retention_);
  }
  hailwire::read_result read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit) {
    if (dice_.chance(failing)) throw std::runtime_error("disk gone");
    auto found = logs_.find(std::string(channel));
    return found == logs_.end() ? hailwire::read_result() : found->second.read(since, limit);
  }

 private:
  dice& dice_;
  std::size_t retention_;
  std::map<std::string, bounded_log> logs_;
};

/// Answers later, through the loop. What was started on a channel takes effect and is answered in that order; between
/// channels, and between effect and answer, anything may happen. `restart` begins a new epoch, with all history lost;
/// `lose_newest` too, with all but the newest messages still there, as in a file whose write-ahead log was lost.
class delayed_storage {
 public:
  delayed_storage(hailwire::detail::event_loop& l, dice& d, std::size_t retention)
      : loop_(l), dice_(d), retention_(retention) {}
  unsigned failing = 0;

  void async_append(std::string_view channel, hailwire::draft d, hailwire::append_handler done) {
    channel_of(channel).waiting.push_back([this, d = std::move(d), done = std::move(done),
                                           r = hailwire::append_result()](channel_state& c, bool answer) mutable {
      if (answer) return done(std::move(r));
      if (dice_.chance(failing)) {
        r.error = failure();
      } else {
        r = hailwire::position{c.epoch, c.log.append(d, retention_)};
      }
    });
  }
  void async_read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit,
                  hailwire::read_handler done) {
    channel_of(channel).waiting.push_back([this, since, limit, done = std::move(done), r = hailwire::read_result()](
                                              channel_state& c, bool answer) mutable {
      if (answer) return done(std::move(r));
      if (dice_.chance(failing)) {
        r.error = failure();
      } else {
        r = c.log.read(since, limit);
        r.epoch = c.epoch;
      }
    });
  }

  /// One effect or one answer on some channel; false when nothing waits.
  bool step() {
    std::vector<channel_state*> busy;
    for (auto& [name, c] : channels_)
      if (!c.waiting.empty()) busy.push_back(&c);
    if (busy.empty()) return false;
    channel_state& c = *busy[dice_.below(busy.size())];
    if (c.effective < c.waiting.size() && (c.effective == 0 || dice_.chance(50))) {
      c.waiting[c.effective++](c, false);
    } else {
      auto f = std::move(c.waiting.front());
      c.waiting.pop_front();
      --c.effective;
      loop_.post([f = std::move(f), &c]() mutable { f(c, true); });
    }
    return true;
  }
  void restart(const std::string& channel) {
    auto found = channels_.find(channel);
    if (found == channels_.end()) return;
    found->second.log = {};
    found->second.epoch = fresh_epoch();
  }
  /// Another program shares the log and appends to it; false while it has no such channel.
  bool append_behind(const std::string& channel, const hailwire::draft& d) {
    auto found = channels_.find(channel);
    if (found == channels_.end()) return false;
    found->second.log.append(d, retention_);
    return true;
  }
  struct loss {
    std::string before, after;           // epochs
    std::uint64_t oldest = 0, head = 0;  // of what is left
  };
  loss lose_newest(const std::string& channel, std::uint64_t most) {
    auto found = channels_.find(channel);
    if (found == channels_.end()) return {};
    auto& c = found->second;
    loss out{c.epoch, fresh_epoch(), 0, 0};
    c.log.lose_newest(1 + dice_.below(most));
    c.epoch = out.after;
    out.oldest = c.log.oldest();
    out.head = c.log.head();
    return out;
  }

 private:
  struct channel_state {
    bounded_log log;
    std::string epoch;
    std::deque<hailwire::detail::move_only_function<void(channel_state&, bool)>> waiting;
    std::size_t effective = 0;  // of `waiting`, how many have taken effect
  };
  hailwire::errc failure() { return dice_.chance(50) ? hailwire::errc::internal : hailwire::errc::overloaded; }
  std::string fresh_epoch() { return "E" + std::to_string(++epochs_); }
  channel_state& channel_of(std::string_view name) {
    auto& c = channels_[std::string(name)];
    if (c.epoch.empty()) c.epoch = fresh_epoch();
    return c;
  }

  hailwire::detail::event_loop& loop_;
  dice& dice_;
  std::size_t retention_, epochs_ = 0;
  std::map<std::string, channel_state> channels_;
};

}  // namespace simulation
