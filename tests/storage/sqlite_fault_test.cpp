// SPDX-License-Identifier: BSL-1.0
// What a disk can do to a sqlite_storage: see faulty_disk.hpp for how it fails and what a power cut leaves.

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "catch.hpp"
#include "storage/faulty_disk.hpp"
#include "storage/temporary.hpp"

using namespace hailwire;
using fault = faulty_disk::fault;

namespace {

// The sanitizers make everything ten times slower; they look for other mistakes than these tests do, and see enough of
// the code in a part of the runs.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(thread_sanitizer) || __has_feature(address_sanitizer);
#else
constexpr bool sanitized = false;
#endif

unsigned power_cuts() {
  const char* text = std::getenv("HAILWIRE_POWER_CUTS");
  return text ? static_cast<unsigned>(std::atoi(text)) : sanitized ? 100 : 1000;
}

struct bench {
  faulty_disk disk;
  temporary dir;  // for the lock, which is the real disk's
  sqlite_options options;

  explicit bench(hailwire::durability level) {
    options.durability = level;
    options.vfs = disk.name();
    options.boot = "monday";
    options.wal_pages = 8;  // so that pages are moved into the file often
    options.clock = options.steady = &test_clock;
  }
  result<std::unique_ptr<sqlite_storage>> open() { return sqlite_storage::open(dir.file(), options); }
};

std::string text_of(const std::string& channel, std::uint64_t offset) {
  return channel + " " + std::to_string(offset) + std::string(offset * 611 % 3000, '.');
}

/// What a publisher knows: what was acknowledged, and what may or may not be there.
struct record {
  std::map<std::string, std::vector<std::string>> acknowledged;
  std::map<std::string, std::set<std::string>> unknown;
};

/// Every acknowledged message stands where the answer said, and nothing is there that nobody sent.
template <class Storage>
std::string compare(Storage& s, const record& known) {
  for (const auto& [channel, texts] : known.acknowledged) {
    auto r = read(s, channel);
    if (r.error) return channel + ": " + r.error.message();
    if (r.head < texts.size())
      return channel + ": head " + std::to_string(r.head) + " of " + std::to_string(texts.size());
    if (r.messages.size() != r.head) return channel + ": a hole";
    for (std::size_t i = 0; i < r.messages.size(); ++i) {
      std::string text(r.messages[i].data.bytes());
      if (i < texts.size() && !texts[i].empty() && text != texts[i])
        return channel + ": another message at " + std::to_string(i + 1);
      if ((i >= texts.size() || texts[i].empty()) && !known.unknown.at(channel).count(text))
        return channel + ": a message from nowhere";
    }
  }
  return {};
}

/// Publishes one after the other, keyed every third time; a refused one is sent again under the same key, as a client
/// does.
void publish(sqlite_storage& s, record& known, int from, int to, int& refused) {
  for (int i = from; i < to; ++i) {
    std::string channel = "channel " + std::to_string(i % 3), text = text_of(channel, static_cast<std::uint64_t>(i));
    std::string key = i % 3 == 1 ? "key " + std::to_string(i) : "";
    auto& texts = known.acknowledged[channel];
    auto r = append(s, channel, text, key);
    if (r.error) {
      ++refused;
      known.unknown[channel].insert(text);
      if (!key.empty()) r = append(s, channel, text, key);
    }
    if (r.error) continue;
    if (texts.size() < r.offset) texts.resize(r.offset);
    texts[r.offset - 1] = text;
  }
}

}  // namespace

TEST_CASE("one failure at any step: what is acknowledged stays, what failed is refused, and service resumes at once") {
  auto level = GENERATE(durability::full, durability::normal);
  auto kind = GENERATE(fault::write_error, fault::short_write, fault::no_space, fault::sync_error, fault::read_error);
  std::size_t hit = 0, refusals = 0;
  for (std::size_t step = 0;; step += sanitized ? 9 : 1) {
    bench b(level);
    record known;
    int refused = 0;
    b.disk.fail(kind, step);
    auto s = b.open();
    bool made = static_cast<bool>(s);
    if (!made) s = b.open();
    INFO("step " << step << (s ? "" : ": " + std::string(s.error().text())));
    REQUIRE(s);
    publish(**s, known, 0, 24, refused);
    std::string first = compare(**s, known);
    if (first.find("Input/output") != first.npos) first = compare(**s, known);  // the failure met this very read
    CHECK(first == "");
    CHECK(refused <= 1);
    int again = 0;
    publish(**s, known, 24, 30, again);
    CHECK(again + refused <= 1);
    s->reset();
    bool done = b.disk.hits() == 0;
    b.disk.mend();
    hit += !done;
    refusals += static_cast<std::size_t>(refused);
    s = b.open();
    REQUIRE(s);
    CHECK(compare(**s, known) == "");
    CHECK(append(**s, "channel 1", text_of("channel 1", 1), "key 1").duplicate);
    if (done) break;
  }
  CAPTURE(static_cast<int>(level), static_cast<int>(kind), hit, refusals);
  CHECK(hit > (sanitized ? 0 : 3));
}

TEST_CASE("a start that fails at any step leaves the file as a kill had left it: all is there, and every epoch") {
  auto kind = GENERATE(fault::write_error, fault::short_write, fault::no_space, fault::sync_error, fault::read_error);
  bool older = GENERATE(false, true);
  std::size_t failed = 0;
  for (std::size_t step = 0;; step += sanitized ? 5 : 1) {
    bench b(durability::full);
    record known;
    int refused = 0;
    auto s = b.open();
    REQUIRE(s);
    publish(**s, known, 0, 20, refused);
    std::string epoch = read(**s, "channel 0").epoch;
    if (older) {  // as version 1 had it, ended cleanly
      s->reset();
      sqlite3* db = nullptr;
      REQUIRE(sqlite3_open_v2(b.dir.file().c_str(), &db, SQLITE_OPEN_READWRITE, b.disk.name().c_str()) == SQLITE_OK);
      REQUIRE(
          sqlite3_exec(db,
                       "ALTER TABLE meta DROP COLUMN file; ALTER TABLE meta DROP COLUMN wal;"
                       "ALTER TABLE meta DROP COLUMN written; UPDATE keys SET at = 1764000000000;"
                       "ALTER TABLE meta DROP COLUMN ages; DROP TABLE notes; DROP TABLE marks; DROP TABLE tokens;"
                       "ALTER TABLE channels DROP COLUMN keep_messages; ALTER TABLE channels DROP COLUMN keep_bytes;"
                       "ALTER TABLE channels DROP COLUMN keep_age;"
                       "PRAGMA user_version = 1",
                       nullptr, nullptr, nullptr) == SQLITE_OK);
      sqlite3_close(db);
    } else {
      b.disk.cut_now();
      s->reset();
      b.disk.revive();
    }
    b.disk.fail(kind, step);
    s = b.open();
    bool hit = b.disk.hits() > 0;
    b.disk.mend();
    failed += !s;
    if (s) s->reset();
    s = b.open();
    INFO("step " << step << (s ? "" : ": " + std::string(s.error().text())));
    REQUIRE(s);
    CHECK(read(**s, "channel 0").epoch == epoch);
    CHECK(compare(**s, known) == "");
    CHECK(append(**s, "channel 1", text_of("channel 1", 1), "key 1").duplicate);
    if (!hit) break;
  }
  CAPTURE(static_cast<int>(kind), older);
  CHECK((failed > 0 || kind == fault::no_space || kind == fault::short_write));  // a full disk stops no start
}

TEST_CASE("a disk that fails for a while: appends are refused and say why, reads go on, and service resumes with it") {
  auto level = GENERATE(durability::full, durability::normal);
  auto kind = GENERATE(fault::write_error, fault::no_space, fault::short_write, fault::sync_error);
  if (kind == fault::sync_error && level == durability::normal) return;  // nothing is synced there
  for (std::size_t step = 0; step < 40; step += sanitized ? 9 : 1) {
    bench b(level);
    record known;
    auto s = b.open();
    REQUIRE(s);
    int refused = 0;
    publish(**s, known, 0, 12, refused);
    REQUIRE(refused == 0);
    b.disk.fail(kind, step, true);
    publish(**s, known, 12, 60, refused);
    CHECK(refused > 0);
    auto r = append(**s, "channel 0", "refused");
    known.unknown["channel 0"].insert("refused");
    bool full = kind == fault::no_space || kind == fault::short_write;
    CHECK(r.error == std::error_code(full ? ENOSPC : EIO, std::system_category()));
    CHECK(compare(**s, known) == "");
    b.disk.mend();
    int after = 0;
    publish(**s, known, 60, 72, after);
    CHECK(after == 0);
    CHECK(compare(**s, known) == "");
    s->reset();
    s = b.open();
    REQUIRE(s);
    CHECK(compare(**s, known) == "");
  }
}

TEST_CASE("a full disk refuses, keeps what it has, and takes messages again when there is room") {
  bench b(durability::full);
  b.disk.resize(300'000);
  record known;
  auto s = b.open();
  REQUIRE(s);
  int refused = 0;
  publish(**s, known, 0, 300, refused);
  CHECK(refused > 10);
  CHECK(append(**s, "channel 0", std::string(5000, 'x')).error == std::error_code(ENOSPC, std::system_category()));
  CHECK(compare(**s, known) == "");
  s->reset();
  b.disk.resize(0);  // and a start while it is full
  s = b.open();
  REQUIRE(s);
  CHECK(compare(**s, known) == "");
  CHECK(append(**s, "channel 0", std::string(5000, 'x')).error == std::error_code(ENOSPC, std::system_category()));
  b.disk.resize(3'000'000);
  refused = 0;
  publish(**s, known, 300, 400, refused);
  CHECK(refused == 0);
  s->reset();
  s = b.open();
  REQUIRE(s);
  CHECK(compare(**s, known) == "");
}

TEST_CASE("a full file system of 8 MiB refuses, keeps what it has, and takes messages again when there is room") {
  temporary dir;
  pid_t child = ::fork();
  if (child == 0) {
    // A mount of the child's own: it needs root, or a kernel that lets users have name spaces. 77: neither.
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(77);
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=8m") != 0) ::_exit(77);
    int code = 0;
    auto expect = [&](bool kept, int step) { code = code || kept ? code : step; };
    std::ofstream(dir.file("filler")) << std::string(4 << 20, 'x');
    {
      auto s = open(dir.file());
      record known;
      int refused = 0;
      publish(*s, known, 0, 3000, refused);
      expect(refused > 100, 1);
      expect(
          append(*s, "channel 0", std::string(100'000, 'x')).error == std::error_code(ENOSPC, std::system_category()),
          2);
      expect(compare(*s, known).empty(), 3);
      std::filesystem::remove(dir.file("filler"));
      refused = 0;
      publish(*s, known, 3000, 3100, refused);
      expect(refused == 0, 4);
      expect(compare(*s, known).empty(), 5);
      s.reset();
      s = open(dir.file());
      expect(compare(*s, known).empty(), 6);
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    WARN("left out: this user may mount nothing");
    return;
  }
  CHECK(WEXITSTATUS(status) == 0);
}

namespace {

/// Two lives of one file, each ended by a power cut at a moment that the seed chooses, many publishes being under way.
/// Returns what was not as promised.
std::string cut_twice(hailwire::durability level, unsigned seed, std::size_t& acknowledged) {
  std::mt19937 random(seed);
  bench b(level);
  std::map<std::string, std::uint64_t> kept;  // how many messages each channel is known to have
  std::map<std::string, std::string> epochs;
  for (unsigned life = 0; life < 3; ++life) {
    b.options.boot = "boot " + std::to_string(life);
    auto s = b.open();
    if (!s && life == 0) return "cannot be made: " + std::string(s.error().text());
    if (!s) return "cannot be opened: " + std::string(s.error().text());
    for (const char* name : {"channel 0", "channel 1", "channel 2"}) {
      std::string channel = name;
      std::uint64_t& count = kept[channel];
      auto r = read(**s, channel);
      if (r.error) return channel + ": " + r.error.message();
      if (r.messages.size() != r.head) return channel + ": a hole";
      for (const message& m : r.messages)
        if (m.data.bytes() != text_of(channel, m.offset))
          return channel + ": another message at " + std::to_string(m.offset);
      std::string last = std::exchange(epochs[channel], r.epoch);
      bool same = r.epoch == last || last.empty();
      if (level == durability::full && !same) return channel + ": a new epoch";
      if (level != durability::full && same && !last.empty()) return channel + ": the epoch is the same";
      if (same && r.head < count) return channel + ": head " + std::to_string(r.head) + " of " + std::to_string(count);
      count = r.head;
      for (std::uint64_t i = 1; i <= r.head; ++i) {
        if (i % 4) continue;
        auto again = append(**s, channel, text_of(channel, i), "key " + std::to_string(i));
        if (!again.duplicate || again.offset != i) return channel + ": a key is gone though its message is there";
      }
    }
    if (life == 2) break;

    b.disk.cut_after(random() % 120);
    std::mutex mutex;
    std::map<std::string, std::uint64_t> next = kept;
    for (int i = 0; i < 200 && !b.disk.dead(); ++i) {
      std::string channel = "channel " + std::to_string(random() % 3);
      std::uint64_t offset = ++next[channel];
      std::string key = offset % 4 ? "" : "key " + std::to_string(offset);
      (*s)->async_append(channel, draft{test_now, "", "", payload::text(text_of(channel, offset)), key},
                         [&, channel, offset](append_result r) {
                           std::lock_guard lock(mutex);
                           if (r.error) return;
                           kept[channel] = std::max(kept[channel], offset);
                           epochs[channel] = r.epoch;
                           ++acknowledged;
                         });
      if (random() % 4 == 0)
        read(**s, channel, 0, {0, 0});  // waits until the disk is done: the next has a batch of its own
    }
    b.disk.cut_now();
    s->reset();
    b.disk.restore(seed + life);
  }
  return {};
}

void cut(hailwire::durability level, unsigned seeds, unsigned& wrong, std::string& first) {
  std::size_t acknowledged = 0;
  for (unsigned seed = 0; seed < seeds; ++seed) {
    std::string why = cut_twice(level, seed, acknowledged);
    if (why.empty()) continue;
    if (wrong++ == 0) first = "seed " + std::to_string(seed) + ": " + why;
  }
  std::printf("power cut at %s: %u seeds, %zu messages acknowledged, %u seeds wrong\n",
              level == durability::full     ? "full"
              : level == durability::normal ? "normal"
                                            : "off",
              seeds, acknowledged, wrong);
  CHECK(acknowledged > seeds);
}

}  // namespace

TEST_CASE("power cut while a file is made or opened: it can be opened, and what was acknowledged before is there") {
  auto level = GENERATE(durability::full, durability::normal);
  for (unsigned step = 0; step < 80; ++step) {
    for (bool fresh : {true, false}) {
      bench b(level);
      record known;
      int refused = 0;
      std::string epoch;
      if (!fresh) {
        auto s = b.open();
        REQUIRE(s);
        publish(**s, known, 0, 30, refused);
        epoch = read(**s, "channel 0").epoch;
        // Killed on the same boot half of the time: the file has to be mended before it is opened.
        if (step % 2) b.disk.cut_now();
        s->reset();
        b.disk.revive();
      }
      b.disk.cut_after(step / 2);
      b.open();
      b.disk.cut_now();
      b.disk.restore(step);
      b.options.boot = "tuesday";
      auto s = b.open();
      INFO("step " << step << (s ? "" : ": " + std::string(s.error().text())));
      REQUIRE(s);
      publish(**s, known, 30, 36, refused);
      CHECK(refused == 0);
      if (fresh || read(**s, "channel 0").epoch != epoch) {
        CHECK((fresh || level == durability::normal));
      } else {
        CHECK(compare(**s, known) == "");
      }
    }
  }
}

TEST_CASE("power cut during or after a clean end: the epoch stays only if everything is there, at any durability") {
  auto level = GENERATE(durability::full, durability::normal, durability::off);
  unsigned stayed = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    bench b(level);
    b.options.wal_pages = seed % 2 ? 4 : 100'000;
    record known;
    int refused = 0;
    auto s = b.open();
    REQUIRE(s);
    publish(**s, known, 0, 3 + static_cast<int>(seed % 7) * 5, refused);
    std::string epoch = read(**s, "channel 0").epoch;
    if (seed % 3) b.disk.cut_after(seed % 53);
    s->reset();
    bool ended = !b.disk.dead();
    b.disk.cut_now();
    b.disk.restore(seed);
    b.options.boot = "tuesday";
    s = b.open();
    INFO("seed " << seed << (s ? "" : ": " + std::string(s.error().text())));
    if (!s) {
      CHECK(level == durability::off);
      CHECK_FALSE(ended);
      continue;
    }
    bool same = read(**s, "channel 0").epoch == epoch;
    stayed += same;
    CHECK((same || (!ended && level != durability::full)));
    if (same) CHECK(compare(**s, known) == "");
  }
  CHECK(stayed >= 100);
}

TEST_CASE("power cut at full keeps also what an earlier use at less, killed on the same boot, had acknowledged") {
  auto level = GENERATE(durability::normal, durability::off);
  for (unsigned seed = 0; seed < 100; ++seed) {
    bench b(level);
    b.options.wal_pages = seed % 2 ? 4 : 100'000;
    record known;
    int refused = 0;
    auto s = b.open();
    REQUIRE(s);
    publish(**s, known, 0, 30 + static_cast<int>(seed % 10), refused);
    std::string epoch = read(**s, "channel 0").epoch;
    b.disk.cut_now();
    s->reset();
    b.disk.revive();
    b.options.durability = durability::full;
    s = b.open();
    REQUIRE(s);
    CHECK(compare(**s, known) == "");
    b.disk.cut_now();
    s->reset();
    b.disk.restore(seed);
    b.options.boot = "tuesday";
    s = b.open();
    INFO((s ? "" : std::string(s.error().text())));
    REQUIRE(s);
    CHECK(read(**s, "channel 0").epoch == epoch);
    CHECK(compare(**s, known) == "");
  }
}

TEST_CASE("power cut at full: every acknowledged message is there, in its epoch") {
  unsigned wrong = 0;
  std::string first;
  cut(durability::full, power_cuts(), wrong, first);
  CHECK(first == "");
}

TEST_CASE("power cut at normal: the file is sound, a prefix is there, and its epoch is new") {
  unsigned wrong = 0;
  std::string first;
  cut(durability::normal, power_cuts(), wrong, first);
  CHECK(first == "");
}

TEST_CASE("power cut at off breaks what normal promises, so the test would notice") {
  unsigned wrong = 0;
  std::string first;
  cut(durability::off, power_cuts(), wrong, first);
  CAPTURE(first);
  CHECK(wrong > 0);
}
