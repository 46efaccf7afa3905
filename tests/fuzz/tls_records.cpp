// SPDX-License-Identifier: BSL-1.0
// Records of a peer who has the keys and keeps no rule. The input says what it sends: records of any type, content and
// padding, bytes that are no record, its own KeyUpdates. However the bytes are cut, the same data comes out and the
// same is answered; a record that was changed on the way is never data; and nothing comes after an end.
#include "hailwire/detail/tls/records.hpp"

#include <cstdlib>
#include <vector>

using namespace hailwire::detail;

namespace {

void require(bool claim) {
  if (!claim) std::abort();
}

struct outcome {
  std::string data, reply;
  tls_record_layer::state state = tls_record_layer::state::open;
};

constexpr std::uint16_t suites[] = {0x1301, 0x1302, 0x1303};

/// What a server makes of `bytes` that arrive `step` at a time.
outcome receive(tls_suite& suite, const std::string& bytes, std::size_t step) {
  tls_record_layer server;
  server.in.secret.fill(1);
  server.out.secret.fill(2);
  require(server.begin(suite, 0));
  outcome o;
  std::string held;
  for (std::size_t at = 0; at < bytes.size() && server.now() == tls_record_layer::state::open; at += step) {
    held.append(bytes, at, step);
    std::vector<char> into(held.size());
    std::size_t produced = 0;
    std::size_t used = server.receive(held, into, produced, o.reply, 0);
    require(used <= held.size() && produced <= used);
    o.data.append(into.data(), produced);
    held.erase(0, used);
    // Less than one record is kept, and that is bounded.
    if (server.now() == tls_record_layer::state::open)
      require(held.size() < tls_record_header + tls_record_content + tls_record_overhead);
  }
  o.state = server.now();
  std::vector<char> into(64);
  std::size_t produced = 0;
  if (o.state != tls_record_layer::state::open)
    require(server.receive(std::string(64, 'x'), into, produced, o.reply, 0) == 0 && produced == 0);
  return o;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  static std::unique_ptr<tls_suite> all[] = {tls_suite::make(suites[0]), tls_suite::make(suites[1]),
                                             tls_suite::make(suites[2])};
  tls_suite& suite = *all[data[0] % 3];
  std::size_t step = 1 + data[1];
  // The peer's first keys are the same each time, so they are derived once: deriving is half of what an input costs.
  static tls_keys first[3];
  if (tls_keys& f = first[data[0] % 3]; f.generation == 0) {
    f.secret.fill(1);
    require(suite.derive(f));
  }
  tls_keys peer;
  suite.install(peer, first[data[0] % 3]);

  std::string bytes, sent;  // sent: the data in it, if no rule were broken and nothing changed
  for (std::size_t at = 2; at < size && bytes.size() < 60'000;) {
    std::uint8_t what = data[at++];
    std::size_t n = at < size ? data[at++] : 0;
    auto take = [&](std::size_t most) {
      most = std::min(most, size - at);
      std::string out(reinterpret_cast<const char*>(data) + at, most);
      at += most;
      return out;
    };
    auto seal = [&](std::uint8_t type, const std::string& content) {
      const std::span<const char> piece(content);
      require(suite.seal(peer, type, {&piece, 1}, bytes));
    };
    switch (what % 8) {
      case 0: {
        auto content = take(n);
        seal(23, content);
        sent += content;
        break;
      }
      case 1:  // any type but those that carry data
        seal(n == 23 || n == 0 ? std::uint8_t{99} : static_cast<std::uint8_t>(n), take(n % 16));
        break;
      case 2: {  // padded, up to and over the limit
        std::size_t zeros = n << (what >> 3 & 7);
        auto content = take(5);
        seal(0, content + "\x17" + std::string(zeros, '\0'));
        sent += content;
        break;
      }
      case 3: {
        const char update[] = {24, 0, 0, 1, static_cast<char>(n & 1)};
        seal(22, std::string(update, 5));
        require(suite.update(peer));
        break;
      }
      case 4:
        seal(22, take(n));
        break;
      case 5:
        seal(21, take(n % 4));
        break;
      case 6:
        bytes += take(n);
        break;
      case 7:
        if (!bytes.empty()) bytes[bytes.size() - 1 - n % std::min<std::size_t>(bytes.size(), 40)] ^= 1;
        break;
    }
  }
  auto whole = receive(suite, bytes, bytes.size() + 1);
  auto cut = receive(suite, bytes, std::max(step, bytes.size() / 64));  // long ones not byte by byte: that is slow
  require(whole.data == cut.data && whole.state == cut.state);
  require(sent.starts_with(whole.data));
  return 0;
}
