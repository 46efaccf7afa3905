// SPDX-License-Identifier: BSL-1.0
// memory_storage against a model of it that is too simple to be wrong: a deque from which the oldest are taken. What
// the storage adds to that (a ring that grows, shrinks and begins anywhere; a sum of bytes that is kept, not counted)
// must never show.

#include <deque>
#include <random>
#include <string>

#include "catch.hpp"
#include "hailwire/storage/memory.hpp"

using namespace hailwire;

namespace {

std::int64_t model_now = 0;
std::int64_t model_clock() { return model_now; }

struct model {
  explicit model(const memory_options& o) : options(o) {}
  memory_options options;
  struct kept {
    std::uint64_t offset;
    std::int64_t at;
    std::string text;
  };
  std::deque<kept> log;
  std::uint64_t head = 0;

  std::size_t bytes() const {
    std::size_t n = 0;
    for (auto& m : log) n += m.text.size();
    return n;
  }
  void age() {
    if (options.age.count() == 0) return;
    while (!log.empty() && log.front().at < model_now - options.age.count() * 1000) log.pop_front();
  }
  void append(std::string text) {
    age();
    log.push_back({++head, model_now, std::move(text)});
    while (log.size() > 1 && (log.size() > options.messages || bytes() > options.bytes)) log.pop_front();
  }
  /// What is read, as one text, with where the log begins and ends.
  std::string read(std::uint64_t since, read_limit limit) {
    age();
    std::string out = std::to_string(head - log.size() + 1) + ".." + std::to_string(head) + ":";
    std::size_t count = 0, sum = 0;
    for (auto& m : log) {
      if (m.offset <= since) continue;
      sum += m.text.size();
      if (count == limit.messages || (count > 0 && sum > limit.bytes)) break;
      out += ' ' + std::to_string(m.offset) + '@' + std::to_string(m.at) + m.text;
      ++count;
    }
    return out;
  }
};

std::string said(const read_result& r) {
  std::string out = std::to_string(r.oldest) + ".." + std::to_string(r.head) + ":";
  for (const message& m : r.messages)
    out += ' ' + std::to_string(m.offset) + '@' + std::to_string(m.at) + std::string(m.data.bytes());
  return out;
}

struct pair_of {
  explicit pair_of(const memory_options& o) : storage(o), expected(o) {}
  memory_storage storage;
  model expected;
  void append(const std::string& text) {
    expected.append(text);
    auto r = storage.append("c", draft{model_now, "", "", payload::text(text), ""});
    REQUIRE(!r.error);
    REQUIRE(r.offset == expected.head);
  }
  void same(std::uint64_t since = 0, read_limit limit = {}) {
    REQUIRE(said(storage.read("c", since, limit)) == expected.read(since, limit));
  }
};

memory_options of(std::size_t messages, std::size_t bytes, int age) {
  memory_options o;
  o.messages = messages;
  o.bytes = bytes;
  o.age = std::chrono::seconds(age);
  o.clock = &model_clock;
  return o;
}

TEST_CASE("memory keeps its order when a ring that begins in its middle grows, and when it shrinks there") {
  for (int dropped = 0; dropped <= 4; ++dropped) {
    for (int kept = 5; kept <= 20; ++kept) {
      INFO(dropped << " of 4 too old, then up to " << kept);
      model_now = 0;
      pair_of p(of(1000, 1 << 20, 10));
      for (int i = 0; i < 4; ++i) {
        if (i == dropped) model_now = 9'000;
        p.append("old " + std::to_string(i));
      }
      model_now = 11'000;
      p.same();  // those of the first second are gone: the ring begins behind them
      for (int i = 0; i < kept; ++i) {
        p.append("new " + std::to_string(i));
        p.same();
      }
      model_now = 19'001;  // the others of the four go
      p.same();
      model_now = 22'000;
      p.same();
      p.append("last");
      p.same();
    }
  }
}

TEST_CASE("memory shrinks a ring that begins in its middle, at each place") {
  for (int young = 1; young <= 9; ++young) {
    for (int before = 0; before < 64; before += 3) {
      INFO(young << " of 64 stay, behind " << before);
      model_now = 0;
      pair_of p(of(64, 1 << 20, 10));
      for (int i = 0; i < 64 + before; ++i) p.append(std::to_string(i));
      model_now = 5'000;
      for (int i = 0; i < young; ++i) p.append("young " + std::to_string(i));
      model_now = 11'000;
      p.same();
      for (int i = 0; i < 20; ++i) p.append("more " + std::to_string(i));
      p.same();
    }
  }
}

TEST_CASE("memory subtracts the bytes of each message that it drops, the last one's too") {
  pair_of p(of(1000, 10, 10));
  model_now = 0;
  p.append("0123456789");
  model_now = 10'001;
  p.same();  // too old, and so gone
  p.append("01234");
  p.append("56789");
  p.same();
  CHECK(p.storage.read("c", 0, {}).messages.size() == 2);
  p.append("x");  // one byte over
  p.same();
  CHECK(p.storage.read("c", 0, {}).messages.size() == 2);
  for (int i = 0; i < 3; ++i) {
    model_now += 10'001;
    p.same();
    p.append("0123456789x");  // over the limit alone
    p.same();
  }
  model_now += 10'001;
  p.same();
  for (int i = 0; i < 12; ++i) p.append("1");
  p.same();
  CHECK(p.storage.read("c", 0, {}).messages.size() == 10);
}

TEST_CASE("memory holds each of its limits to the one: below, at and above") {
  for (std::size_t limit : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u, 16u, 17u}) {
    INFO("the limit is " << limit);
    pair_of by_count(of(limit, 1 << 20, 0)), by_bytes(of(1000, limit, 0));
    for (std::size_t n = 1; n <= 3 * limit + 2; ++n) {
      by_count.append("x");
      by_bytes.append("x");
      CHECK(by_count.storage.read("c", 0, {}).messages.size() == std::min(n, limit));
      CHECK(by_bytes.storage.read("c", 0, {}).messages.size() == std::min(n, limit));
      for (std::size_t read = 1; read <= limit + 1; ++read) {
        CHECK(by_count.storage.read("c", 0, {read, SIZE_MAX}).messages.size() == std::min({n, limit, read}));
        CHECK(by_count.storage.read("c", 0, {1000, read}).messages.size() == std::min({n, limit, read}));
      }
      const std::uint64_t head = by_count.expected.head;
      for (std::uint64_t since : {head - 1, head, head + 1, UINT64_MAX - 1, UINT64_MAX}) by_count.same(since);
    }
  }
}

TEST_CASE("memory keeps a message to the last millisecond of its age, and no longer") {
  for (int behind : {0, 1, 5}) {
    pair_of p(of(1000, 1 << 20, 10));
    model_now = 0;
    p.append("it");
    model_now = 1;
    for (int i = 0; i < behind; ++i) p.append("another");
    const std::size_t others = static_cast<std::size_t>(behind);
    for (std::int64_t now : {9'999, 10'000}) {
      model_now = now;
      p.same();
      CHECK(p.storage.read("c", 0, {}).messages.size() == 1 + others);
    }
    model_now = 10'001;
    p.same();
    CHECK(p.storage.read("c", 0, {}).messages.size() == others);
    model_now = 10'002;
    CHECK(p.storage.read("c", 0, {}).messages.empty());
  }
}

TEST_CASE("memory is what its model is, whatever is appended, read and waited for") {
  for (unsigned seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    const std::size_t counts[] = {1, 2, 3, 5, 8, 9, 33, 1000}, sums[] = {1, 10, 17, 64, 300, 1 << 20};
    model_now = 0;
    pair_of p(of(counts[below(8)], sums[below(6)], below(4) ? 10 : 0));
    INFO("seed " << seed << ": messages " << p.expected.options.messages << ", bytes " << p.expected.options.bytes);
    for (int step = 0; step < 300; ++step) {
      const std::size_t burst = below(8) ? 1 : below(40);
      for (std::size_t i = 0; i < burst; ++i)
        p.append(std::string(below(4) ? below(8) : below(30), static_cast<char>('a' + step % 26)));
      if (below(3) == 0) model_now += static_cast<std::int64_t>(below(5) ? below(3'000) : below(15'000));
      if (below(2)) p.same(below(p.expected.head + 2), {1 + below(50), 1 + below(100)});
    }
    p.same();
  }
}

}  // namespace
