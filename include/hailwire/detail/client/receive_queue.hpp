// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/client_options.hpp"

namespace hailwire::detail {

/// What has arrived and waits until the application asks for it, and where the application is meanwhile: behind what it
/// has come back from. The event that it was given last counts as taken when it asks for the next one. One thread.
class receive_queue {
 public:
  explicit receive_queue(std::size_t most) noexcept : most_(most) {}

  void push(const client_message& m) {
    item i{client_event(m), std::string(m.channel), {}, m.json.size()};
    if (m.offset) {
      i.before = position{std::string(m.epoch), m.offset - 1};
      last_[i.channel] = {std::string(m.epoch), m.offset};
    }
    add(std::move(i));
  }
  void push(const client_gap& g) {
    item i{client_event(g), std::string(g.channel), {}, g.channel.size() + 64};
    auto& last = last_[i.channel];
    // Where nothing was seen before it, the gap is where the channel begins.
    i.before = last.epoch.empty() ? position{std::string(g.epoch), g.next - 1} : last;
    last = {std::string(g.epoch), g.next - 1};
    add(std::move(i));
  }

  /// The application is back from what it was given last.
  void acknowledge() noexcept { out_.reset(); }
  /// The oldest; nothing when there is none.
  std::optional<client_event> take() {
    if (items_.empty()) return {};
    item i = std::move(items_.front());
    items_.pop_front();
    bytes_ -= i.size;
    std::optional<client_event> event(std::move(i.event));
    if (i.before) out_ = {std::move(i.channel), std::move(*i.before)};
    return event;
  }
  /// Nothing of this channel is given any more.
  void drop(std::string_view channel) {
    std::erase_if(items_, [&](const item& i) {
      if (i.channel != channel) return false;
      bytes_ -= i.size;
      return true;
    });
    if (out_ && out_->first == channel) out_.reset();
    last_.erase(std::string(channel));
  }

  bool empty() const noexcept { return items_.empty(); }
  std::size_t bytes() const noexcept { return bytes_; }
  bool full() const noexcept { return bytes_ >= most_; }
  /// Whether there is room again for more than a few.
  bool drained() const noexcept { return bytes_ <= most_ / 2; }

  /// Where the application is in a channel of which something has not been taken yet; nothing else.
  std::optional<position> behind(std::string_view channel) const {
    if (out_ && out_->first == channel) return out_->second;
    for (const item& i : items_)
      if (i.before && i.channel == channel) return i.before;
    return {};
  }

 private:
  struct item {
    client_event event;
    std::string channel;
    std::optional<position> before;  // in its channel; an ephemeral message has none
    std::size_t size;
  };
  void add(item i) {
    const std::size_t size = i.size;
    items_.push_back(std::move(i));
    bytes_ += size;
  }

  std::deque<item> items_;
  std::optional<std::pair<std::string, position>> out_;  // before what was given last
  std::map<std::string, position, std::less<>> last_;    // of each channel
  std::size_t most_, bytes_ = 0;
};

}  // namespace hailwire::detail
