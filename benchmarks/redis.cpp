// SPDX-License-Identifier: BSL-1.0
//
// What a publish costs Redis: its CPU time for XADD and PUBLISH, pipelined by 16, beside that for the storage's script,
// with as many publishes a call as gather, one a call, and with a key on each. A Redis of its own; interleaved rounds.
//
//     redis_benchmark [rounds] [publishes a round]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <map>
#include <string>
#include <vector>

#include "hailwire/storage/redis.hpp"
#include "redis_server.hpp"

using namespace hailwire;

namespace {

constexpr std::size_t payload_bytes = 128, channels = 16;

/// A number that INFO gives, by what stands before it.
double info(redis_client& c, const char* section, const std::string& name) {
  const std::string text = c.ask({"INFO", section});
  const auto at = text.find(name);
  return at == text.npos ? 0 : std::strtod(text.c_str() + at + name.size(), nullptr);
}
double cpu(redis_client& c) { return info(c, "cpu", "used_cpu_sys:") + info(c, "cpu", "used_cpu_user:"); }

void raw(redis_client& c, std::size_t count) {
  const std::string data(payload_bytes, 'x');
  for (std::size_t i = 0; i < count; i += 16) {
    for (std::size_t k = 0; k < 16; ++k) {
      const auto name = "raw" + std::to_string(k % channels);
      c.send({"XADD", name, "MAXLEN", "~", "10000", "*", "h", "1764000000123 t ada note ", "d", data});
      c.send({"PUBLISH", name, data});
    }
    for (std::size_t k = 0; k < 32; ++k) c.receive();
  }
}

/// `window` publishes are under way at any time.
void stored(redis_storage& s, std::size_t count, std::size_t window, bool keyed, std::size_t& serial) {
  const payload data = payload::text(std::string(payload_bytes, 'x'));
  std::mutex mutex;
  std::condition_variable less;
  std::size_t under_way = 0, failed = 0;
  for (std::size_t i = 0; i < count; ++i) {
    {
      std::unique_lock lock(mutex);
      less.wait(lock, [&] { return under_way < window; });
      ++under_way;
    }
    s.async_append("c" + std::to_string(i % channels),
                   {1'764'000'000'123, "ada", "note", data, keyed ? "key" + std::to_string(++serial) : ""},
                   [&](append_result r) {
                     std::lock_guard lock(mutex);
                     failed += bool(r.error);
                     --under_way;
                     less.notify_one();
                   });
  }
  std::unique_lock lock(mutex);
  less.wait(lock, [&] { return under_way == 0; });
  if (failed) std::printf("%zu failed\n", failed);
}

}  // namespace

int main(int count, char** words) {
  const int rounds = count > 1 ? std::atoi(words[1]) : 11;
  const std::size_t publishes = count > 2 ? static_cast<std::size_t>(std::atoi(words[2])) : 16'000;
  redis_server server;
  redis_client control("127.0.0.1", server.port());
  redis_options o;
  o.keys = 0;
  auto s = redis_storage::open(server.url(), o);
  if (!s) return std::fprintf(stderr, "%s\n", std::string(s.error().text()).c_str()), 1;
  std::map<std::string, std::vector<double>> ratios, batches;
  std::size_t serial = 0;
  const auto row = [&](const std::string& name, double base, auto work) {
    const double before = cpu(control), calls = info(control, "commandstats", "cmdstat_evalsha:calls=");
    work();
    const double used = cpu(control) - before;
    if (base > 0) {
      ratios[name].push_back(base / used);
      batches[name].push_back(double(publishes) / (info(control, "commandstats", "cmdstat_evalsha:calls=") - calls));
    }
    return used;
  };
  for (int i = 0; i < rounds; ++i) {
    const double base = row("raw", 0, [&] { raw(control, publishes); });
    row("as many a call as gather", base, [&] { stored(**s, publishes, 192, false, serial); });
    row("one a call", base, [&] { stored(**s, publishes, 1, false, serial); });
    row("with a key, as many a call as gather", base, [&] { stored(**s, publishes, 192, true, serial); });
    row("with a key, one a call", base, [&] { stored(**s, publishes, 1, true, serial); });
    std::printf("round %d: XADD and PUBLISH take %.1f µs of Redis each\n", i + 1, base / double(publishes) * 1e6);
  }
  for (auto& [name, all] : ratios) {
    auto& size = batches[name];
    std::sort(all.begin(), all.end());
    std::sort(size.begin(), size.end());
    std::printf("%-40s %.2f [%.2f-%.2f] of XADD + PUBLISH per CPU-second of Redis, %.1f publishes a call\n",
                name.c_str(), all[all.size() / 2], all.front(), all.back(), size[size.size() / 2]);
  }
}
