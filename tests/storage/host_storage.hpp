// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/concepts.hpp"

/// A storage as a host would write one from the concept alone: the two functions that a storage must have, and nothing
/// that is optional. It keeps everything.
class host_storage {
 public:
  std::uint64_t append(std::string_view channel, const hailwire::draft& d) {
    std::lock_guard lock(mutex_);
    auto& log = logs_[std::string(channel)];
    log.push_back({log.size() + 1, d.at, d.from, d.type, d.data});
    return log.size();
  }

  hailwire::read_result read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit) {
    hailwire::read_result r;
    std::lock_guard lock(mutex_);
    auto found = logs_.find(std::string(channel));
    if (found == logs_.end()) return r;
    const auto& log = found->second;
    r.head = log.size();
    std::size_t bytes = 0;
    for (std::uint64_t i = since; i < log.size() && r.messages.size() < limit.messages; ++i) {
      bytes += log[i].data.bytes().size();
      if (bytes > limit.bytes && !r.messages.empty()) break;
      r.messages.push_back(log[i]);
    }
    return r;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<hailwire::message>> logs_;
};
