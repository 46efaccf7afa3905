// SPDX-License-Identifier: BSL-1.0
// A hostile server: a client on each transport is told anything, in any pieces, through lost connections and time. It
// never crashes, delivers no offset of an epoch twice or backwards, keeps its limits, and ends what it was asked.
//
// The input: the first byte chooses the transport; then pieces, each a byte that says what happens and how many bytes
// follow (0 to 63): bytes over a lane, a lane's end, time, or a call of the host's.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/client/transports.hpp"

using namespace hailwire;

namespace {

void require(bool truth, int line = __builtin_LINE()) {
  if (truth) return;
  std::fprintf(stderr, "broken: line %d\n", line);
  std::abort();
}

class victim final : public detail::client_machine {
 public:
  victim(std::span<const detail::client_transport* const> ladder)
      : client_machine(*proto::parse_url("http://h/live?user=a"), {.max_pending = 8, .max_object = 2000}, ladder,
                       detail::make_client_errands) {
    on.message = [this](const client_message& m) {
      require(m.channel == "a" || m.channel == "b");
      require(m.json.size() <= 2000 && m.offset <= max_offset);
      if (!m.offset) return;
      // Of one life of a channel every offset comes once and in order, unless a gap took the client back.
      auto& newest = seen[std::string(m.channel) + ' ' + std::string(m.epoch)];
      require(m.offset > newest || m.epoch.empty());
      newest = m.offset;
    };
    on.gap = [this](const client_gap& g) { seen.erase(std::string(g.channel) + ' ' + std::string(g.epoch)); };
    on.cursor = [this](const std::string& c) { require(c == cursor()); };
    on.renew = [](token_reply reply) { reply("token"); };
  }
  std::int64_t now() const noexcept override { return time; }
  void random(std::span<unsigned char> out) override {
    for (auto& b : out) b = static_cast<unsigned char>(seed = seed * 167 + 13);
  }
  void connect(detail::client_lane lane, const proto::url&) override {
    of(lane) = wanted;
    ++connects;
  }
  void write(detail::client_lane lane, std::string_view) override { require(of(lane) == open); }
  void disconnect(detail::client_lane lane) override { of(lane) = closed; }
  void wake_at(std::int64_t at) override { due = at; }
  void settle_later() override { settles = true; }

  void tell(detail::client_lane lane, std::string_view bytes) {
    if (of(lane) == wanted) of(lane) = open, lane_connected(lane);
    if (of(lane) != open) return;
    std::vector<char> exact(bytes.begin(), bytes.end());
    lane_received(lane, exact);
  }
  void break_off(detail::client_lane lane) {
    if (of(lane) == closed) return;
    of(lane) = closed;
    lane_ended(lane, {});
  }
  void pass(std::int64_t ms) {
    const auto until = time + ms;
    for (int n = 0; due <= until && n < 50; ++n) {
      time = std::max(time, due);
      due = never;
      alarm();
    }
    time = std::max(time, until);
    if (std::exchange(settles, false)) settle();
  }
  enum way : std::uint8_t { closed, wanted, open };
  way& of(detail::client_lane lane) { return lanes[static_cast<int>(lane)]; }
  way lanes[detail::client_lanes] = {closed, closed, closed};
  std::map<std::string, std::uint64_t> seen;
  std::int64_t time = 1'000'000, due = never;
  std::size_t connects = 0, asked = 0, ended = 0;
  std::uint64_t seed = 1;
  bool settles = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static constexpr const detail::client_transport* all[] = {&detail::client_websocket, &detail::client_sse,
                                                            &detail::client_long_poll, &detail::client_short_poll};
  const auto choice = data[0] % 5u;
  std::span<const detail::client_transport* const> ladder(all);
  victim c(choice < 4 ? ladder.subspan(choice, 1) : ladder);
  c.follow("a", start::earliest());
  c.start();
  // A WebSocket's handshake cannot be guessed: this server knows the key.
  auto shake_hands = [&] {
    std::array<unsigned char, 16> nonce;
    auto seed = c.seed;
    for (auto& b : nonce) b = static_cast<unsigned char>(seed = seed * 167 + 13);
    std::string answer;
    proto::append_switching_protocols(answer, proto::handshake_key(nonce), "hailwire.v1");
    c.tell(detail::client_lane::follow, answer);
  };
  std::string_view in(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto end = [&](const client_error&, std::string_view) { ++c.ended; };
  while (!in.empty()) {
    const auto head = static_cast<unsigned char>(in[0]);
    in.remove_prefix(1);
    const auto n = std::min<std::size_t>(in.size(), head & 63u);
    const auto bytes = in.substr(0, n);
    switch (head >> 6) {
      case 0:
        in.remove_prefix(n);
        c.tell(detail::client_lane::follow, bytes);
        break;
      case 1:
        in.remove_prefix(n);
        c.tell(detail::client_lane::command, bytes);
        break;
      case 2:  // more of the same lane: long texts
        in.remove_prefix(n);
        c.tell(detail::client_lane::follow, bytes);
        c.pass(1);
        break;
      default:
        switch (head & 7u) {
          case 0:
            c.break_off(detail::client_lane::follow);
            break;
          case 1:
            c.break_off(detail::client_lane::command);
            break;
          case 2:
            c.pass(1000);
            break;
          case 3:
            c.pass(100'000);
            break;
          case 4:
            ++c.asked, c.publish("a", payload::json("1"), {}, end);
            break;
          case 5:
            ++c.asked, c.request(detail::client_command::kind::once, "host", "{}", {}, end);
            break;
          case 6:
            head & 8u ? c.unfollow("b") : void(c.follow("b"));
            break;
          default:
            shake_hands();
        }
    }
    c.pass(0);
    require(c.pending() <= 8);
  }
  c.close();
  c.pass(0);
  c.settle();
  require(c.ended == c.asked && c.pending() == 0 && c.due == victim::never);
  return 0;
}
