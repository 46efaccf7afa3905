// SPDX-License-Identifier: BSL-1.0
// A push service in memory: requests wait until a test answers them, and time is moved by hand.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/push/delivery.hpp"

struct scripted_transport final : hailwire::detail::push_transport {
  struct sent {
    hailwire::detail::push_request request;
    answered done;
    /// The value of a header line; empty when there is none.
    std::string header(std::string_view name) const {
      for (const std::string& line : request.headers)
        if (line.size() > name.size() + 1 && line.compare(0, name.size(), name) == 0 && line[name.size()] == ':')
          return line.substr(line.find_first_not_of(' ', name.size() + 1));
      return {};
    }
  };

  void send(hailwire::detail::push_request r, answered done) override {
    requests.push_back({std::move(r), std::move(done)});
  }
  void alarm_at(std::int64_t at) override { alarm = at; }
  std::int64_t now() const noexcept override { return time; }
  std::int64_t unix_time() const noexcept override { return 1'764'000'000'000 + time; }
  /// Always the longest of the times that jitter chooses from.
  void random(std::span<unsigned char> out) override {
    for (unsigned char& c : out) c = 0xFF;
  }

  /// Answers the oldest request.
  void answer(int status, std::string body = {}, std::int64_t retry_after = 0) {
    auto s = std::move(requests.front());
    requests.pop_front();
    s.done({status, std::move(body), retry_after});
  }
  void fail(std::string why) {
    auto s = std::move(requests.front());
    requests.pop_front();
    hailwire::detail::push_response r;
    r.error = std::move(why);
    s.done(std::move(r));
  }
  /// Moves the clock, and rings if the alarm is due.
  void pass(std::int64_t ms, hailwire::detail::push_delivery& d) {
    time += ms;
    if (alarm <= time) {
      alarm = INT64_MAX;
      d.alarm();
    }
  }

  std::deque<sent> requests;
  std::int64_t time = 5'000, alarm = INT64_MAX;
};

/// What a test is told of one notice.
struct told {
  int times = 0;
  hailwire::push_result last;
  hailwire::push_handler handler() {
    return [this](hailwire::push_result r) {
      ++times;
      last = std::move(r);
    };
  }
};

inline hailwire::push_device phone(std::string service, std::string token, std::int64_t registered = 0) {
  return {"ada", "phone", std::move(service), std::move(token), {}, registered};
}
inline hailwire::push_notice news() { return {"@ada", "E1", 42, 3}; }
