// SPDX-License-Identifier: BSL-1.0
#include "hailwire/storage/memory.hpp"

#include <malloc.h>

#include <atomic>
#include <thread>

#include "catch.hpp"

using namespace hailwire;

namespace {

std::atomic<std::int64_t> clock_now{1'000'000};
std::int64_t test_clock() { return clock_now; }

draft text(std::string bytes, std::int64_t at = 1, std::string key = {}) {
  return draft{at, "", "", payload::text(std::move(bytes)), std::move(key)};
}

/// Bytes that the C library has handed out; 0 under the sanitizers, which bring an allocator of their own.
std::size_t allocated() { return mallinfo2().uordblks; }
bool counts_memory() {
  auto before = allocated();
  auto probe = std::make_unique<char[]>(100'000);
  probe[0] = 1;
  return allocated() > before;
}

std::string words(const read_result& r) {
  std::string out;
  for (const message& m : r.messages)
    out += (out.empty() ? "" : " ") + std::to_string(m.offset) + std::string(m.data.bytes());
  return out;
}

// The suite that every storage runs is in contract_test.cpp; here is what is memory_storage's own.

TEST_CASE("memory keeps the newest messages up to the limit of their number, and oldest tells") {
  memory_options options;
  options.messages = 3;
  memory_storage s(options);
  for (const char* word : {"a", "b", "c", "d", "e"}) s.append("c", text(word));
  auto r = s.read("c", 0, {});
  CHECK(words(r) == "3c 4d 5e");
  CHECK(r.oldest == 3);
  CHECK(r.head == 5);
  CHECK(words(s.read("c", 4, {})) == "5e");
}

TEST_CASE("memory keeps payload bytes up to the limit, and a message over the limit alone") {
  memory_options options;
  options.bytes = 10;
  memory_storage s(options);
  s.append("c", text("1234"));
  s.append("c", text("5678"));
  CHECK(s.read("c", 0, {}).oldest == 1);
  s.append("c", text("90"));
  CHECK(s.read("c", 0, {}).oldest == 1);
  s.append("c", text("x"));
  CHECK(s.read("c", 0, {}).oldest == 2);
  s.append("c", text("a message over the limit"));
  auto r = s.read("c", 0, {});
  CHECK(words(r) == "5a message over the limit");
  s.append("c", text("y"));
  CHECK(words(s.read("c", 0, {})) == "6y");
}

TEST_CASE("memory drops what is over age when it is read, and the head stays") {
  memory_options options;
  options.age = std::chrono::seconds(10);
  options.clock = &test_clock;
  memory_storage s(options);
  clock_now = 100'000;
  s.append("c", text("a", 100'000));
  s.append("c", text("b", 105'000));
  clock_now = 110'000;
  CHECK(words(s.read("c", 0, {})) == "1a 2b");
  clock_now = 110'001;
  CHECK(words(s.read("c", 0, {})) == "2b");
  clock_now = 999'000;
  auto r = s.read("c", 0, {});
  CHECK(r.messages.empty());
  CHECK(r.oldest == 3);
  CHECK(r.head == 2);
  CHECK(s.append("c", text("c", 999'000)).offset == 3);
}

TEST_CASE("in memory a message whose clock was ahead keeps none past their age") {
  memory_options options;
  options.age = std::chrono::seconds(10);
  options.clock = &test_clock;
  for (int ahead : {0, 1, 2, 3}) {  // which of them
    memory_storage s(options);
    clock_now = 100'000;
    for (int i = 0; i < 4; ++i) s.append("c", text("x", i == ahead ? 900'000 : 100'000 + i * 1000));
    for (std::int64_t after : {0, 999, 1'000, 1'001, 2'000, 2'001, 3'000, 3'001}) {
      clock_now = 110'000 + after;
      INFO("number " << ahead << " is ahead, " << after << " ms after the first is at its age");
      // Dropped are those that are too old, and the one that is ahead where one behind it is too old.
      std::uint64_t oldest = static_cast<std::uint64_t>((after + 999) / 1000) + 1;
      if (ahead + 1 == static_cast<int>(oldest) - 1) --oldest;
      CHECK(s.read("c", 0, {}).oldest == oldest);
    }
  }
}

TEST_CASE("memory frees what is over age in channels that nobody touches") {
  if (!counts_memory()) return;
  memory_options options;
  options.age = std::chrono::seconds(10);
  options.clock = &test_clock;
  memory_storage s(options);
  clock_now = 0;
  auto before = allocated();
  for (int i = 0; i < 2000; ++i) s.append("silent " + std::to_string(i), text(std::string(10'000, 'x'), 0));
  auto full = allocated() - before;
  clock_now = 20'000;
  for (int i = 0; i < 20'000; ++i) s.append("busy " + std::to_string(i % 500), text("y", 20'000));
  auto swept = allocated() - before;
  CHECK(full > 20'000'000);
  CHECK(swept < full / 4);
}

TEST_CASE("memory refuses the first message of a channel too many, and serves the others") {
  memory_options options;
  options.channels = 2;
  memory_storage s(options);
  CHECK(!s.append("a", text("x")).error);
  CHECK(!s.append("b", text("x")).error);
  CHECK(s.append("c", text("x")).error == errc::overloaded);
  CHECK(s.append("a", text("x")).offset == 2);
  CHECK(s.read("c", 0, {}).head == 0);
  for (int i = 0; i < 1000; ++i) s.read("unknown " + std::to_string(i), 0, {});
  CHECK(s.append("b", text("x")).offset == 2);
}

TEST_CASE("memory forgets a key after its lifetime, not before, also when the clock was set back") {
  memory_options options;
  options.steady = &test_clock;
  memory_storage s(options);
  clock_now = 1'000'000;
  CHECK(s.append("c", text("x", 1, "key")).offset == 1);
  clock_now = 500'000;
  CHECK(s.append("c", text("x", 1, "key")).duplicate);
  clock_now = 1'300'000;
  CHECK(s.append("c", text("x", 1, "key")).duplicate);
  clock_now = 1'300'001;
  auto r = s.append("c", text("y", 1, "key"));
  CHECK(r.offset == 2);
  CHECK_FALSE(r.duplicate);
}

TEST_CASE("a clock that is set ends no key in memory") {
  static std::int64_t used;
  used = 7;
  memory_options options;
  options.clock = &test_clock;
  options.steady = [] { return used; };
  memory_storage s(options);
  clock_now = 1'000'000;
  CHECK(s.append("c", text("x", 1, "key")).offset == 1);
  for (std::int64_t set : {1'000'000'000, 0}) {
    clock_now = set;
    CHECK(s.append("c", text("x", 1, "key")).duplicate);
  }
  used += 300'000;
  CHECK(s.append("c", text("x", 1, "key")).duplicate);
  used += 1;
  CHECK(s.append("c", text("x", 1, "key")).offset == 2);
}

TEST_CASE("memory refuses keys over the bound of a channel until older ones have lived their time") {
  memory_options options;
  options.steady = &test_clock;
  options.keys = 2;
  memory_storage s(options);
  clock_now = 0;
  CHECK(s.append("c", text("x", 1, "1")).offset == 1);
  CHECK(s.append("c", text("x", 1, "2")).offset == 2);
  CHECK(s.append("c", text("x", 1, "3")).error == errc::overloaded);
  CHECK(s.append("c", text("x", 1, "2")).duplicate);
  CHECK(s.append("c", text("x")).offset == 3);
  CHECK(s.append("d", text("x", 1, "3")).offset == 1);
  clock_now = 300'001;
  CHECK(s.append("c", text("x", 1, "3")).offset == 4);
  CHECK(s.append("c", text("x", 1, "4")).offset == 5);
}

TEST_CASE("memory counts a payload of another kind or media type as another payload") {
  memory_storage s;
  auto publish = [&](payload p) { return s.append("c", draft{1, "", "", std::move(p), "key"}); };
  CHECK(publish(payload::text("1")).offset == 1);
  CHECK(publish(payload::text("1")).duplicate);
  CHECK(publish(payload::json("1")).error == errc::conflict);
  CHECK(publish(payload::binary("1")).error == errc::conflict);
  CHECK(publish(payload::text("1", "text/html")).error == errc::conflict);
}

TEST_CASE("a memory storage has an epoch for each channel before its first message, and each storage its own") {
  memory_storage s, t;
  std::string epoch = s.read("c", 0, {}).epoch;
  CHECK(valid_epoch(epoch));
  CHECK(epoch.size() == 12);
  CHECK(s.append("c", text("x")).epoch == epoch);
  CHECK(s.read("c", 0, {}).epoch == epoch);
  CHECK(s.read("d", 0, {}).epoch != epoch);
  CHECK(t.read("c", 0, {}).epoch != epoch);
}

TEST_CASE("a silent channel with one message of 64 bytes costs at most 384 bytes, an unknown one nothing") {
  if (!counts_memory()) return;
  constexpr std::size_t channels = 20'000;
  memory_storage s;
  auto before = allocated();
  for (std::size_t i = 0; i < channels; ++i) s.read("room-" + std::to_string(i), 0, {});
  CHECK(allocated() == before);
  for (std::size_t i = 0; i < channels; ++i)
    s.append("room-" + std::to_string(i), draft{1, "ada", "", payload::text(std::string(64, 'x')), ""});
  auto each = (allocated() - before) / channels;
  CHECK(each <= 384);
}

TEST_CASE("a memory storage may be shared: threads append to and read one another's channels") {
  memory_options options;
  options.messages = 50;
  memory_storage s(options);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        if (s.append("own " + std::to_string(t), text("x")).offset != static_cast<std::uint64_t>(i) + 1) ++wrong;
        s.append("common " + std::to_string(i % 7), text("y", 1, std::to_string(t * 1000 + i)));
        auto r = s.read("own " + std::to_string((t + 1) % 4), 0, {});
        for (std::size_t k = 0; k < r.messages.size(); ++k)
          if (r.messages[k].offset != r.oldest + k || r.messages[k].offset > r.head) ++wrong;
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
  std::uint64_t total = 0;
  for (int i = 0; i < 7; ++i) total += s.read("common " + std::to_string(i), 0, {}).head;
  CHECK(total == 2000);
}

}  // namespace

TEST_CASE("memory that was taken back is not counted, and is not held") {
  memory_options o;
  o.bytes = 1000;
  memory_storage s(o);
  const payload big = payload::text(std::string(600, 'x'));
  draft d = text("", 1);
  d.data = big;
  d.from = "ada";
  s.append("c", d);
  CHECK(s.erase("c", {s.read("c", 0, {}).epoch, 1}, text("", 2)).offset == 2);
  d.data = payload::text(std::string(900, 'y'));
  s.append("c", d);  // 600 more would not fit
  CHECK(s.read("c", 0, {}).oldest == 1);
  CHECK(s.read("c", 0, {}).messages[0].from == "ada");
}

TEST_CASE("memory refuses one more retention, watermark or token than it has room for") {
  memory_options o;
  o.watermarks = 2;
  o.tokens = 2;
  memory_storage s(o);
  const std::string epoch = s.append("c", text("x", 1)).epoch;
  for (const char* user : {"a", "b"}) {
    CHECK_FALSE(s.mark("c", {user, "", epoch, {1, 0, 0}, 0}).error);
    CHECK_FALSE(s.keep_token({user, "d", "web", user, "", 0}).error);
  }
  CHECK(s.mark("c", {"c", "", epoch, {1, 0, 0}, 0}).error == errc::overloaded);
  CHECK_FALSE(s.mark("c", {"a", "", epoch, {1, 1, 0}, 0}).error);
  CHECK(s.keep_token({"c", "d", "web", "c", "", 0}).error == errc::overloaded);
  CHECK_FALSE(s.keep_token({"a", "d", "web", "z", "", 0}).error);
  draft d = text("x", 1);
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    d.keep.bytes = i + 100;
    REQUIRE_FALSE(s.append("c", d).error);
  }
  d.keep.bytes = 1;
  CHECK(s.append("c", d).error == errc::overloaded);
  d.keep.bytes = 101;
  CHECK_FALSE(s.append("c", d).error);
}

TEST_CASE("a message keeps the content that it names, and loses it when it is taken back") {
  memory_storage s;
  draft d = text("caption", 1);
  d.type = "picture";
  d.content = std::make_shared<const content_reference>(content_reference{"id", 1 << 20, "image/png"});
  s.append("c", d);
  auto m = s.read("c", 0, {}).messages.at(0);
  REQUIRE(m.content);
  CHECK(*m.content == *d.content);
  CHECK(m.type == "picture");
  CHECK(m.data.bytes() == "caption");
  s.erase("c", {s.read("c", 0, {}).epoch, 1}, text("", 2));
  m = s.read("c", 0, {}).messages.at(0);
  CHECK(m.erased);
  CHECK_FALSE(m.content);
}
