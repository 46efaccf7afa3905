// SPDX-License-Identifier: BSL-1.0
//
// A storage of the host's own: two functions, nothing to derive from. This one keeps the last hundred messages of each
// channel; put a database behind the same two functions, and hailwire::blocking_storage around them if they wait.

#include <hailwire/hailwire.hpp>

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <algorithm>
#include <deque>
#include <iostream>
#include <map>

class last_hundred {
 public:
  static constexpr bool single_threaded = true;  // no locks in here: never called from two threads at once

  std::uint64_t append(std::string_view channel, const hailwire::draft& d) {
    log& l = logs_[std::string(channel)];
    l.kept.push_back({++l.head, d.at, d.from, d.type, d.data});
    if (l.kept.size() > 100) l.kept.pop_front();
    return l.head;
  }

  hailwire::read_result read(std::string_view channel, std::uint64_t since, hailwire::read_limit limit) const {
    hailwire::read_result r;
    auto found = logs_.find(channel);
    if (found == logs_.end()) return r;  // never published to: empty, and no trace of it
    const log& l = found->second;
    r.head = l.head;
    r.oldest = l.head + 1 - l.kept.size();
    std::size_t bytes = 0;
    for (auto offset = std::max(since + 1, r.oldest); offset <= l.head && r.messages.size() < limit.messages;
         ++offset) {
      const hailwire::message& m = l.kept[offset - r.oldest];
      bytes += m.data.bytes().size();
      if (bytes > limit.bytes && !r.messages.empty()) break;
      r.messages.push_back(m);
    }
    return r;
  }

 private:
  struct log {
    std::uint64_t head = 0;  // the newest offset ever given
    std::deque<hailwire::message> kept;
  };
  std::map<std::string, log, std::less<>> logs_;
};

int main(int count, char** words) {
  asio::io_context io;
  last_hundred storage;
  hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll> live(io, storage);
  live.authorize([](const hailwire::request&) {
    return hailwire::grant{.follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
  });
  auto port = live.listen("127.0.0.1", count > 1 ? static_cast<std::uint16_t>(std::stoi(words[1])) : 8080);
  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](std::error_code, int) { live.stop(); });
  std::cout << "listening on http://127.0.0.1:" << port << "/" << std::endl;
  io.run();
}
