// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "hailwire/concepts.hpp"

namespace stage {

using namespace hailwire;

/// Logs whose epochs can be read: `chat-1`, after `restart` `chat-2`. Answers at once, or, while `holding`, when told
/// to.
class open_storage {
 public:
  bool holding = false;
  bool one_epoch = false;  // the same for all channels, as where a storage is opened anew with each start
  std::size_t keep = 1'000'000;
  std::error_code failing;
  int fail_after = -1;  // reads from now on, of which those behind them are overloaded; negative: none

  void async_append(std::string_view channel, draft d, append_handler done) {
    later([this, name = std::string(channel), d = std::move(d), done = std::move(done)]() mutable {
      if (failing) return done(failing);
      log& l = logs_[name];
      l.kept.push_back({++l.head, d.at, d.from, d.type, d.data});
      if (l.kept.size() > keep) l.kept.pop_front();
      done(position{epoch(name), l.head});
    });
  }
  void async_read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) {
    later([this, name = std::string(channel), since, limit, done = std::move(done)]() mutable {
      if (failing) return done(failing);
      if (fail_after >= 0 && fail_after-- == 0) {
        fail_after = 0;
        return done(make_error_code(errc::overloaded));
      }
      log& l = logs_[name];
      read_result r;
      r.epoch = epoch(name);
      r.head = l.head;
      r.oldest = l.head - l.kept.size() + 1;
      std::size_t bytes = 0;
      for (const auto& m : l.kept) {
        if (m.offset <= since || r.messages.size() == limit.messages) continue;
        bytes += m.data.bytes().size();
        if (bytes > limit.bytes && !r.messages.empty()) break;
        r.messages.push_back(m);
      }
      done(std::move(r));
    });
  }
  void async_erase(std::string_view channel, position at, draft d, append_handler done) {
    later([this, name = std::string(channel), offset = at.offset, d = std::move(d), done = std::move(done)]() mutable {
      if (failing) return done(failing);
      log& l = logs_[name];
      for (message& m : l.kept) {
        if (m.offset != offset || m.erases) continue;
        if (auto known = l.erased.find(offset); known != l.erased.end()) {
          append_result first(position{epoch(name), known->second});
          first.duplicate = true;
          return done(std::move(first));
        }
        m.erased = true;
        m.data = {};
        m.type.clear();
        m.content = nullptr;
        l.kept.push_back({++l.head, d.at, d.from, "", {}, offset});
        l.erased[offset] = l.head;
        return done(position{epoch(name), l.head});
      }
      done(errc::not_found);
    });
  }
  /// Answers what has been asked, in order; what that asks as well.
  void answer(std::size_t most = SIZE_MAX) {
    for (; most && !waiting_.empty(); --most) {
      auto f = std::move(waiting_.front());
      waiting_.pop_front();
      f();
    }
  }
  /// Answers what was asked last, before what was asked earlier.
  void answer_last() {
    auto f = std::move(waiting_.back());
    waiting_.pop_back();
    f();
  }
  std::size_t asked() const noexcept { return waiting_.size(); }
  void trim(const std::string& channel, std::size_t left) {
    for (auto& kept = logs_[channel].kept; kept.size() > left;) kept.pop_front();
  }
  void restart(const std::string& channel) {
    log& l = logs_[channel];
    ++l.life;
    l.head = 0;
    l.kept.clear();
    l.erased.clear();
  }

 private:
  struct log {
    std::uint64_t head = 0;
    int life = 1;
    std::deque<message> kept;
    std::map<std::uint64_t, std::uint64_t> erased;  // by what
  };
  std::string epoch(const std::string& channel) {
    if (one_epoch) return "one";
    std::string out = channel.substr(0, 20);
    for (char& c : out)
      if (!proto::is_token_letter(c)) c = '_';
    return out + '-' + std::to_string(logs_[channel].life);
  }
  void later(detail::move_only_function<void()> f) {
    if (!holding) return f();
    waiting_.push_back(std::move(f));
  }
  std::map<std::string, log> logs_;
  std::deque<detail::move_only_function<void()>> waiting_;
};

}  // namespace stage
