// SPDX-License-Identifier: BSL-1.0
// A client whose server is the stage's: both without sockets, on one clock that is turned by hand.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/connection/stage.hpp"
#include "hailwire/detail/client/transports.hpp"

namespace stage {

using detail::client_lane;
using ladder = std::vector<const detail::client_transport*>;

inline const ladder all_ladder = {&detail::client_websocket, &detail::client_sse, &detail::client_long_poll,
                                  &detail::client_short_poll};

/// Made before the machine, which looks into it.
struct kept_ladder {
  ladder kept;
};

/// A client with the way to its server; what may go wrong on it is switched on by a test.
class memory_client : private kept_ladder, public detail::client_machine {
 public:
  memory_client(house* h, const ladder& l, client_options o = {}, const std::string& url = "http://h/live?user=ada")
      : kept_ladder{l}, client_machine(*proto::parse_url(url), std::move(o), kept, detail::make_client_errands), at(h) {
    on.message = [this](const client_message& m) {
      std::string line = std::string(m.channel) + " " + std::to_string(m.offset) + " " +
                         (m.binary ? "bytes " + std::string(m.bytes) : std::string(m.data));
      if (!m.from.empty()) line = std::string(m.from) + "@" + line;
      if (on_each) on_each(m);
      heard.push_back(line);
    };
    on.status = [this](const client_status& s) {
      static constexpr const char* names[] = {"connecting", "following", "waiting", "stopped"};
      std::string line = std::string(names[static_cast<int>(s.now)]) + " " + std::string(s.transport);
      if (!s.reason.empty()) line += " " + std::string(s.reason);
      states.push_back(line);
    };
    on.gap = [this](const client_gap& g) {
      heard.push_back("gap " + std::string(g.channel) + " " + std::string(g.reason) + " " + std::to_string(g.next));
    };
    on.notice = [this](std::string_view name, std::string_view json) {
      notices.push_back(std::string(name) + " " + std::string(json));
    };
  }

  std::int64_t now() const noexcept override { return at->loop.now(); }
  void random(std::span<unsigned char> out) override {
    for (auto& b : out) {
      seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
      b = fixed_random >= 0 ? static_cast<unsigned char>(fixed_random) : static_cast<unsigned char>(seed_ >> 56);
    }
  }
  void connect(client_lane lane, const proto::url& to) override {
    places.push_back(to.authority());
    of(lane) = {};
    of(lane).wanted = true;
    ++of(lane).life;
    ++connects;
  }
  void write(client_lane lane, std::string_view bytes) override {
    of(lane).out += bytes;
    if (lane == client_lane::content) fetches_said.emplace_back(bytes);
  }
  void disconnect(client_lane lane) override {
    auto& l = of(lane);
    if (l.c && !l.out.empty() && !blocked) l.c->send(l.out);
    if (l.c) l.c->send_end(), gone_.push_back(l.c);
    const auto life = l.life + 1;
    l = {};
    l.life = life;
  }
  void wake_at(std::int64_t when) override { alarm_at = when; }
  void settle_later() override { settles = true; }

  /// Moves bytes both ways, until nothing moves.
  memory_client& run() {
    for (bool busy = true; busy;) {
      busy = false;
      at->run();
      if (std::exchange(settles, false)) settle(), busy = true;
      for (auto lane : {client_lane::follow, client_lane::command, client_lane::content}) busy = step(lane) || busy;
    }
    return *this;
  }
  /// Lets time pass, ringing every alarm of both at its time.
  memory_client& pass(std::int64_t ms) {
    const auto until = now() + ms;
    run();
    while (now() < until) {
      const auto next = std::min({until, std::max(alarm_at, now()), now() + 1000});
      at->advance(std::max<std::int64_t>(next - now(), alarm_at <= now() ? 0 : 1));
      if (alarm_at <= now()) {
        alarm_at = never;
        alarm();
      }
      run();
    }
    return *this;
  }
  /// The lane breaks: nothing that is on the way arrives.
  memory_client& cut(client_lane lane = client_lane::follow) {
    auto& l = of(lane);
    if (!l.c) return *this;
    l.c->reset();
    l.c.reset();
    l.cut = true;
    return run();
  }
  lines take() { return std::exchange(heard, {}); }
  lines take_states() { return std::exchange(states, {}); }
  void say(const std::string& channel, const std::string& json, client_publish_options how = {}) {
    publish(channel, payload::json(json), how, [this, json](const client_error& e, std::string_view ok) {
      ends.push_back(json + " " + (e ? e.text() : std::string(ok)));
    });
  }
  void ask(detail::client_command::kind k, const std::string& name, const std::string& body,
           const std::string& channel = {}) {
    request(k, name, body, channel, [this, name](const client_error& e, std::string_view ok) {
      ends.push_back(name + " " + (e ? e.text() : std::string(ok)));
    });
  }
  void get(const std::string& channel, const position& p) {
    fetch(channel, p, [this](const client_error& e, client_content what) {
      ends.push_back(e ? e.text() : what.type + " " + what.bytes);
    });
  }
  lines take_ends() { return std::exchange(ends, {}); }

  house* at;
  lines heard, states, notices, ends, places, fetches_said;
  std::function<void(const client_message&)> on_each;
  std::int64_t alarm_at = never;
  int fixed_random = -1;
  bool settles = false;
  bool blocked = false;              // bytes stay where they are, both ways
  bool refuses = false;              // nobody listens
  std::size_t drop_answers = 0;      // so many answers are lost with their connection
  std::size_t pieces = SIZE_MAX;     // how many bytes arrive together
  std::size_t cut_after = SIZE_MAX;  // the lane breaks once so many bytes more have come
  std::size_t connects = 0;
  std::function<std::string(std::string_view)> fake;  // answers in place of the server

 private:
  struct lane_state {
    std::shared_ptr<testing::memory_connection> c;
    std::string out;
    bool wanted = false, cut = false, faked = false;
    std::uint64_t life = 0;
  };
  lane_state& of(client_lane l) { return lanes_[static_cast<int>(l)]; }

  bool step(client_lane lane) {
    auto& l = of(lane);
    if (blocked) return false;
    if (std::exchange(l.wanted, false)) {
      if (refuses) return lane_ended(lane, std::make_error_code(std::errc::connection_refused)), true;
      l.faked = bool(fake);
      if (!l.faked) l.c = testing::memory_connection::open(at->gate);
      lane_connected(lane);
      return true;
    }
    if (std::exchange(l.cut, false)) {
      lane_ended(lane, std::make_error_code(std::errc::connection_reset));
      return true;
    }
    if (l.faked && !l.out.empty()) {
      auto answer = fake(std::exchange(l.out, {}));
      lane_received(lane, {answer.data(), answer.size()});
      return true;
    }
    if (!l.c) return false;
    bool busy = false;
    if (!l.out.empty()) {
      const auto bytes = std::exchange(l.out, {});
      const auto c = l.c;
      c->send(bytes);
      at->run();
      c->deliver();
      busy = true;
    }
    auto bytes = l.c->take();
    if (!bytes.empty() && drop_answers > 0) {
      --drop_answers;
      cut(lane);
      return true;
    }
    if (bytes.size() > cut_after) bytes.resize(cut_after);
    const auto life = l.life;
    for (std::size_t from = 0; from < bytes.size() && of(lane).life == life;
         from += std::min(pieces, bytes.size() - from)) {
      auto n = std::min(pieces, bytes.size() - from);
      const std::vector<char> exact(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                                    bytes.begin() + static_cast<std::ptrdiff_t>(from + n));
      std::vector<char> copy = exact;
      lane_received(lane, copy);
      busy = true;
    }
    if (cut_after != SIZE_MAX && of(lane).life == life) {
      cut_after -= bytes.size();
      if (cut_after == 0) return cut_after = SIZE_MAX, cut(lane), true;
    }
    if (of(lane).life == life && l.c && l.c->ended_by_server && l.c->received.empty()) {
      l.c.reset();
      lane_ended(lane, {});
      return true;
    }
    return busy;
  }

  lane_state lanes_[detail::client_lanes];
  std::vector<std::shared_ptr<testing::memory_connection>> gone_;
  std::uint64_t seed_ = 42;
};

}  // namespace stage
