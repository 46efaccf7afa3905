// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because each obligation of a storage is a claim in one list.
//
// The obligations of a storage, each as a test with a name that says what is owed; those of its optional members are in
// storage_members_contract.hpp and storage_content_contract.hpp. For the tests of whoever wrote one; needs no test
// framework:
//
//   auto outcomes = hailwire::testing::storage_contract([] { return std::make_unique<my_storage>(); });
//   std::cout << hailwire::testing::report(outcomes);
//   return hailwire::testing::fulfilled(outcomes) ? 0 : 1;

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/testing/contract.hpp"
#include "hailwire/testing/storage_content_contract.hpp"
#include "hailwire/testing/storage_members_contract.hpp"
#include "hailwire/testing/storage_trial.hpp"

namespace hailwire::testing {
namespace detail {

// Offsets and reads

inline void offsets_rise(subject& s) {
  trial t(s, s.open());
  for (std::uint64_t i = 1; i <= 100; ++i)
    for (const char* channel : {"one", "two"}) {
      std::uint64_t offset = t.append(channel, number(i)).offset;
      expect(offset == i, "append number " + count(i) + " got offset " + count(offset));
    }
  for (const char* channel : {"one", "two"}) {
    auto log = t.all(channel);
    expect(log.size() == 100, "100 messages were appended, " + count(log.size()) + " came back");
    for (const message& m : log)
      expect(m.data.bytes() == number(m.offset), "the messages are not in the order of their offsets");
  }
}

inline void readable_at_once(subject& s) {
  trial t(s, s.open());
  for (std::uint64_t i = 1; i <= 50; ++i) {
    t.append("c", number(i));
    auto r = t.read("c", i - 1);
    expect(r.head == i, "after append number " + count(i) + " the head is " + count(r.head));
    expect(r.messages.size() == 1 && r.messages[0].data.bytes() == number(i), "the message is not there");
  }
}

inline void every_byte_is_kept(subject& s) {
  trial t(s, s.open());
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  std::string nul("a\0b", 3);
  const draft drafts[] = {
      {1, "", "", payload(), ""},
      {1'764'000'000'123, "ada", "note", payload::json(R"({ "a":1.0,  "b":"\u00e9\/" , "a":1e400})"), ""},
      {-1, "", "", payload::json("\"\""), ""},
      {(std::int64_t{1} << 53), std::string(254, 'u'), std::string(64, 't'), payload::text(""), ""},
      {2, "", nul, payload::text(nul), ""},
      {3, "Zoë'\"%_;--", "\xF0\x9F\x9A\x80", payload::text("é\r\n\t'\"", "text/html; charset=\"utf-8\""), ""},
      {4, "", "", payload::binary(bytes), ""},
      {5, "", "", payload::binary(bytes + bytes, "image/png"), ""},
      {6, "", "", payload::binary("", "application/x-empty"), ""},
      {7, "", "", payload::binary(std::string(1 << 20, '\xFF')), ""},
  };
  for (const draft& d : drafts) t.append("c", d);
  auto log = t.all("c");
  expect(log.size() == std::size(drafts),
         count(std::size(drafts)) + " messages were appended, " + count(log.size()) + " came back");
  for (std::size_t i = 0; i < log.size(); ++i) expect_same(log[i], drafts[i]);
}

inline void channels_are_told_apart(subject& s) {
  trial t(s, s.open());
  const std::string names[] = {"a",
                               "A",
                               "a ",
                               " a",
                               "@a",
                               "a/b",
                               "a/../a",
                               ".",
                               "..",
                               "%",
                               "_",
                               "a%",
                               "a_",
                               "'",
                               "\"",
                               "\\",
                               "\xC3\xA9",
                               "e\xCC\x81",
                               "null",
                               "0",
                               "00",
                               "1",
                               "a.b",
                               "a,b",
                               "a:b",
                               "a\xC2\xA0",
                               std::string(255, 'x'),
                               std::string(254, 'x'),
                               std::string(254, 'x') + "y"};
  for (const std::string& name : names) {
    auto offset = t.append(name, "in " + name).offset;
    expect(offset == 1, "the first message of the channel '" + name + "' got offset " + count(offset));
  }
  for (const std::string& name : names) {
    auto log = t.all(name);
    expect(log.size() == 1 && log[0].data.bytes() == "in " + name,
           "the channel '" + name + "' has another one's message");
  }
}

inline void unknown_is_empty(subject& s) {
  trial t(s, s.open());
  for (std::uint64_t since : {std::uint64_t{0}, std::uint64_t{7}, max_offset}) {
    auto r = t.read("unknown", since);
    expect(r.messages.empty() && r.oldest == 1 && r.head == 0,
           "an unknown channel has oldest " + count(r.oldest) + " and head " + count(r.head));
  }
}

inline void reading_leaves_no_trace(subject& s) {
  trial t(s, s.open());
  std::string epoch;
  for (int i = 0; i < 100; ++i) {
    epoch = t.read("c", 0).epoch;
    t.read("c" + count(static_cast<std::uint64_t>(i)), 5);
  }
  auto r = t.append("c", "x");
  expect(r.offset == 1, "the first message after reads got offset " + count(r.offset));
  expect(epoch == r.epoch || epoch.empty(), "the epoch that was read before the first message is not the one it got");
  auto facts = t.facts("c7");
  expect(facts.oldest == 1 && facts.head == 0, "a channel that was only read has a head of " + count(facts.head));
}

inline void since_is_exclusive(subject& s) {
  trial t(s, s.open());
  for (std::uint64_t i = 1; i <= 20; ++i) t.append("c", number(i));
  for (std::uint64_t since = 0; since < 20; ++since) {
    auto r = t.read("c", since);
    expect(r.messages[0].offset == since + 1,
           "a read after " + count(since) + " starts at " + count(r.messages[0].offset));
    expect(r.messages[0].data.bytes() == number(since + 1), "the message has another one's payload");
  }
}

inline void at_and_above_the_head(subject& s) {
  trial t(s, s.open());
  for (std::uint64_t i = 1; i <= 5; ++i) t.append("c", number(i));
  for (std::uint64_t since : {std::uint64_t{5}, std::uint64_t{6}, max_offset - 1, max_offset}) {
    auto r = t.read("c", since);
    expect(r.messages.empty(), "a read after " + count(since) + " returned messages");
    expect(r.oldest == 1 && r.head == 5, "its facts are oldest " + count(r.oldest) + ", head " + count(r.head));
  }
}

inline void message_limit(subject& s) {
  trial t(s, s.open());
  for (std::uint64_t i = 1; i <= 20; ++i) t.append("c", number(i));
  for (std::size_t limit : {std::size_t{1}, std::size_t{2}, std::size_t{19}, std::size_t{20}, std::size_t{21}}) {
    auto r = t.read("c", 0, {limit, 1 << 20});
    expect(r.head == 20, "the head is " + count(r.head));
  }
  auto r = t.facts("c");
  expect(r.oldest == 1 && r.head == 20,
         "without messages the facts are oldest " + count(r.oldest) + ", head " + count(r.head));
}

inline void byte_limit(subject& s) {
  trial t(s, s.open());
  for (int i = 0; i < 10; ++i) t.append("c", std::string(100, 'x'));
  for (std::size_t limit :
       {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{199}, std::size_t{200}, std::size_t{999}})
    for (std::uint64_t since : {std::uint64_t{0}, std::uint64_t{9}}) t.read("c", since, {256, limit});
}

inline void pages_make_the_log(subject& s) {
  trial t(s, s.open());
  for (std::uint64_t i = 1; i <= 40; ++i) t.append("c", number(i));
  for (read_limit limit : {read_limit{1, 1 << 20}, read_limit{7, 1 << 20}, read_limit{256, 30}, read_limit{3, 1}}) {
    auto log = t.all("c", limit);
    expect(log.size() == 40, "page by page " + count(log.size()) + " of 40 messages came back");
    for (const message& m : log) expect(m.data.bytes() == number(m.offset), "a page has another message's payload");
  }
}

// Epochs

inline void epoch_stays(subject& s) {
  trial t(s, s.open());
  std::string epoch = epoch_of(t, "c");
  expect(valid_epoch(epoch), "the epoch '" + epoch + "' is not 1–32 of A–Z a–z 0–9 _ -");
  for (int i = 0; i < 20; ++i) {
    expect(t.append("c", "x").epoch == epoch, "append names another epoch than the append before it");
    expect(t.read("c", 0).epoch == epoch, "read names another epoch than append");
    t.append("d", "x");
  }
}

/// Else whoever follows the empty channel would be told of a gap where nothing is missing.
inline void empty_channel_has_its_epoch(subject& s) {
  trial t(s, s.open());
  std::string before = t.facts("c").epoch, silent = t.facts("silent").epoch, epoch = epoch_of(t, "c");
  expect(!before.empty(), "a channel has an epoch from its first message on, and none before");
  expect(before == epoch, "a channel's first message gave it another epoch than it had when it was empty");
  expect(t.facts("silent").epoch == silent, "an empty channel has another epoch each time it is read");
  if (!s.reopens) return;
  t.close();
  t.open_again();
  bool same = t.facts("c").epoch == epoch;
  expect(!same || t.facts("silent").epoch == silent, "an empty channel has another epoch after a restart");
}

inline void epochs_differ(subject& s) {
  std::vector<std::string> seen;
  for (int life = 0; life < 2; ++life) {
    trial t(s, s.open());
    for (std::uint64_t i = 0; i < 50; ++i) seen.push_back(epoch_of(t, "channel " + count(i)));
  }
  for (std::size_t i = 0; i < seen.size(); ++i)
    for (std::size_t k = 0; k < i; ++k)
      expect(seen[i] != seen[k], i / 50 == k / 50 ? "two channels share an epoch"
                                                  : "a log that starts anew has the epoch of one that is gone");
}

// Retention

/// Appends until the oldest message is above `offset`; throws when it never is.
inline void drive_out(trial& t, std::string_view channel, std::uint64_t offset, std::string_view bytes) {
  read_result r;
  std::uint64_t head = t.facts(channel).head;
  for (int i = 0; i < 2000; ++i) {
    std::uint64_t given = t.append(channel, std::string(bytes)).offset;
    expect(given == head + 1, "after head " + count(head) + " came offset " + count(given));
    r = t.facts(channel);
    expect(r.head >= head, "the head went back from " + count(head) + " to " + count(r.head));
    if (r.oldest > offset) return;
    head = r.head;
  }
  throw broken_promise{"after 2000 more messages the oldest is still " + count(r.oldest)};
}

inline void retention_from_the_oldest_end(subject& s) {
  trial t(s, s.open(retention{10, 0, std::chrono::seconds(0)}));
  std::uint64_t oldest = 1;
  for (std::uint64_t i = 1; i <= 100; ++i) {
    expect(t.append("c", number(i)).offset == i, "an offset was given twice or left out");
    auto r = t.facts("c");
    expect(r.oldest >= oldest, "the oldest went back from " + count(oldest) + " to " + count(r.oldest));
    expect(r.head == i, "the head is " + count(r.head) + " after " + count(i) + " messages");
    oldest = r.oldest;
    for (const message& m : t.all("c")) expect(m.data.bytes() == number(m.offset), "a message changed its place");
  }
  drive_out(t, "c", 1, "x");
}

inline void retention_by_count(subject& s) {
  trial t(s, s.open(retention{10, 0, std::chrono::seconds(0)}));
  for (std::uint64_t i = 1; i <= 60; ++i) {
    t.append("c", number(i));
    std::uint64_t kept = t.all("c").size(), due = i < 10 ? i : 10;
    expect(kept >= due, count(kept) + " messages are left of the newest " + count(due));
  }
  drive_out(t, "c", 50, "x");
}

inline void retention_by_bytes(subject& s) {
  trial t(s, s.open(retention{0, 1000, std::chrono::seconds(0)}));
  for (std::uint64_t i = 1; i <= 60; ++i) {
    t.append("c", std::string(100, 'x'));
    std::uint64_t kept = t.all("c").size(), due = i < 10 ? i : 10;
    expect(kept >= due, count(kept) + " messages of 100 bytes are left within 1000 bytes, not " + count(due));
  }
  t.append("c", std::string(5000, 'y'));
  auto last = t.read("c", 60);
  expect(last.messages.size() == 1, "a message over the limit is not there when its append is answered");
  drive_out(t, "c", 61, std::string(100, 'x'));
}

inline void retention_by_age(subject& s) {
  if (!s.has_clock) throw absent{"the fixture has no now() and advance(std::chrono::milliseconds)"};
  trial t(s, s.open(retention{0, 0, std::chrono::seconds(60)}));
  for (std::uint64_t i = 1; i <= 5; ++i) t.append("c", number(i));
  s.advance(std::chrono::seconds(30));
  for (std::uint64_t i = 6; i <= 10; ++i) t.append("c", number(i));
  s.advance(std::chrono::seconds(29));
  expect(t.all("c").size() == 10, "a message of 59 seconds was dropped at an age of 60");
  s.advance(std::chrono::seconds(10));
  drive_out(t, "c", 5, "x");
  expect(t.facts("c").oldest == 6, "a message of 39 seconds was dropped at an age of 60");
  s.advance(std::chrono::seconds(100));
  auto before = t.facts("c");
  auto next = t.append("c", "x").offset;
  expect(next == before.head + 1,
         "when everything had aged, offset " + count(next) + " came after head " + count(before.head));
}

inline void since_below_the_oldest(subject& s) {
  trial t(s, s.open(retention{10, 0, std::chrono::seconds(0)}));
  drive_out(t, "c", 3, "x");
  for (std::uint64_t since = 0; since < 3; ++since) {
    auto r = t.read("c", since);
    expect(r.messages[0].offset == r.oldest, "a read below the oldest does not start there");
  }
}

// Keys

inline opened with_keys(subject& s, retention keep = {}) {
  if (!s.keeps_keys) throw absent{"the storage keeps no keys"};
  return keep.messages ? s.open(keep) : s.open();
}
inline void expect_duplicate(const append_result& r, const append_result& first) {
  expect(r.duplicate, "a known key was not called a duplicate");
  expect(r.offset == first.offset,
         "a known key got offset " + count(r.offset) + ", not the first " + count(first.offset));
  expect(r.epoch == first.epoch, "a known key got another epoch");
}

inline void key_stores_once(subject& s) {
  trial t(s, with_keys(s));
  t.append("c", "before");
  auto first = t.append("c", "x", "key");
  expect(!first.duplicate, "a new key was called a duplicate");
  t.append("c", "between");
  for (int i = 0; i < 3; ++i) expect_duplicate(t.append("c", "x", "key"), first);
  auto head = t.facts("c").head;
  expect(head == 3, "the head is " + count(head) + " after three messages: a duplicate was stored");
  auto other = t.append("c", "x", "another key");
  expect(other.offset == 4 && !other.duplicate, "the same payload under another key was not stored");
}

inline void key_conflict(subject& s) {
  trial t(s, with_keys(s));
  auto first = t.append("c", "x", "key");
  for (payload p : {payload::text("y"), payload::text(""), payload::json("x"), payload::binary("x")}) {
    draft d = t.make("", "key");
    d.data = p;
    auto r = t.try_append("c", d);
    expect(r.error == errc::conflict, "the same key with another payload was " +
                                          (r.error ? "answered: " + r.error.message() : std::string("stored")));
  }
  expect(t.facts("c").head == 1, "a conflict left a message behind");
  expect_duplicate(t.append("c", "x", "key"), first);
}

inline void key_is_the_channels_own(subject& s) {
  trial t(s, with_keys(s));
  t.append("c", "x", "key");
  auto r = t.append("d", "y", "key");
  expect(r.offset == 1 && !r.duplicate, "a key of one channel counted in another");
}

inline void keys_are_opaque(subject& s) {
  trial t(s, with_keys(s));
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  std::vector<std::string> keys = {
      "a", "A", "a ", std::string("a\0", 2), std::string("a\0b", 3),      std::string(1, '\0'),
      "'", "%", all,  std::string(384, 'k'), std::string(383, 'k') + "l", std::string(383, 'k')};
  std::vector<append_result> first;
  for (const auto& key : keys) {
    first.push_back(t.append("c", "x", key));
    expect(first.back().offset == first.size() && !first.back().duplicate, "two keys that differ were taken for one");
  }
  for (std::size_t i = 0; i < keys.size(); ++i) expect_duplicate(t.append("c", "x", keys[i]), first[i]);
}

inline void no_key_no_duplicate(subject& s) {
  trial t(s, with_keys(s));
  for (std::uint64_t i = 1; i <= 3; ++i) {
    auto r = t.append("c", "x");
    expect(r.offset == i && !r.duplicate, "a message without a key was taken for a duplicate");
  }
}

inline void key_outlives_its_message(subject& s) {
  trial t(s, with_keys(s, retention{5, 0, std::chrono::seconds(0)}));
  auto first = t.append("c", "x", "key");
  drive_out(t, "c", 1, "y");
  expect_duplicate(t.append("c", "x", "key"), first);
}

inline void key_lives_five_minutes(subject& s) {
  trial t(s, with_keys(s));
  if (!s.has_clock) throw absent{"the fixture has no now() and advance(std::chrono::milliseconds)"};
  auto first = t.append("c", "x", "key");
  for (int minute = 0; minute < 4; ++minute) {
    s.advance(std::chrono::seconds(60));
    t.append("c", "y", "key " + std::to_string(minute));
  }
  s.advance(std::chrono::seconds(59));
  expect_duplicate(t.append("c", "x", "key"), first);
}

inline void key_and_message_are_one_step(subject& s) {
  trial t(s, with_keys(s));
  if (!s.asynchronous) throw absent{"a synchronous storage is never called twice at once for one channel"};
  std::vector<std::shared_ptr<pending<append_result>>> answers;
  for (int i = 0; i < 16; ++i) answers.push_back(t.start_append("c", t.make("x", "key")));
  int stored = 0;
  for (auto& a : answers) {
    auto r = a->wait();
    expect(!r.error, "append answered: " + r.error.message());
    expect(r.offset == 1, "one key got two offsets");
    stored += !r.duplicate;
  }
  expect(stored == 1, "one key was stored " + std::to_string(stored) + " times");
  expect(t.facts("c").head == 1, "one key left more than one message");
}

// Threads

inline void channels_in_parallel(subject& s) {
  if (s.single_threaded) throw absent{"the storage is single_threaded"};
  trial t(s, s.open());
  std::mutex mutex;
  std::string why;
  std::vector<std::thread> threads;
  for (std::uint64_t n = 0; n < 4; ++n) {
    threads.emplace_back([&, n] {
      try {
        for (std::uint64_t i = 1; i <= 40; ++i)
          for (std::uint64_t k = 0; k < 3; ++k) {
            std::string channel = "channel " + count(n) + "." + count(k);
            auto offset = t.append(channel, channel + number(i)).offset;
            expect(offset == i,
                   "offset " + count(offset) + " was given for " + count(i) + " while other threads appended");
            auto r = t.read(channel, i / 2);
            expect(r.head == i,
                   "the head is " + count(r.head) + ", not " + count(i) + ", while other threads appended");
            for (const message& m : r.messages)
              expect(m.data.bytes() == channel + number(m.offset), "a message of another channel came back");
          }
      } catch (const broken_promise& broken) {
        std::lock_guard lock(mutex);
        why = broken.why;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  expect(why.empty(), why);
}

// Answers that come later

inline void completions_keep_order(subject& s) {
  if (!s.asynchronous) throw absent{"the storage is synchronous"};
  trial t(s, s.open());
  struct record {
    std::mutex mutex;
    std::condition_variable more;
    std::vector<int> order;
    std::string why;
  };
  auto shared = std::make_shared<record>();
  constexpr int operations = 64;
  auto finish = [shared](int i, bool kept, const char* why) {
    std::lock_guard lock(shared->mutex);
    shared->order.push_back(i);
    if (!kept && shared->why.empty()) shared->why = why;
    shared->more.notify_all();
  };
  std::uint64_t appended = 0;
  for (int i = 0; i < operations; ++i) {
    if (i % 3 == 2) {
      t.storage().read("c", 0, {}, [finish, i, appended](read_result r) {
        finish(i, !r.error && r.head == appended, "a read did not see exactly the appends that were started before it");
      });
    } else {
      ++appended;
      t.storage().append("c", t.make("x"), [finish, i, appended](append_result r) {
        finish(i, !r.error && r.offset == appended,
               "appends that were started together did not get their offsets in that order");
      });
    }
  }
  std::unique_lock lock(shared->mutex);
  bool all = shared->more.wait_for(lock, std::chrono::seconds(60), [&] { return shared->order.size() >= operations; });
  expect(all, "a handler was not called within 60 seconds");
  expect(shared->why.empty(), shared->why);
  for (int i = 0; i < operations; ++i)
    expect(shared->order[static_cast<std::size_t>(i)] == i,
           "operations were completed in another order than they were started in");
}

inline void handlers_called_once(subject& s) {
  if (!s.asynchronous) throw absent{"the storage is synchronous"};
  trial t(s, s.open());
  std::vector<std::shared_ptr<pending<append_result>>> appends;
  std::vector<std::shared_ptr<pending<read_result>>> reads;
  for (int i = 0; i < 64; ++i) {
    appends.push_back(t.start_append(i % 2 ? "c" : "d", t.make("x")));
    reads.push_back(t.start_read("c", 0, {}));
  }
  t.close();
  auto calls = [](auto& p) {
    std::lock_guard lock(p->mutex);
    return p->calls;
  };
  for (auto& p : appends)
    expect(calls(p) == 1, "the handler of an append was called " + std::to_string(calls(p)) + " times");
  for (auto& p : reads)
    expect(calls(p) == 1, "the handler of a read was called " + std::to_string(calls(p)) + " times");
}

// Restarts

inline void restart_keeps_or_renews(subject& s) {
  if (!s.reopens) throw absent{"the fixture has no reopen()"};
  trial t(s, s.open());
  std::vector<std::string> epochs;
  for (std::uint64_t i = 0; i < 5; ++i) {
    std::string channel = "channel " + count(i);
    for (std::uint64_t k = 1; k <= 10 * i; ++k) t.append(channel, channel + number(k));
    epochs.push_back(t.facts(channel).epoch);
  }
  for (int life = 0; life < 3; ++life) {
    t.close();
    t.open_again();
    for (std::uint64_t i = 1; i < 5; ++i) {
      std::string channel = "channel " + count(i);
      auto facts = t.facts(channel);
      bool same = !facts.epoch.empty() && facts.epoch == epochs[i];
      auto log = t.all(channel);
      for (const message& m : log)
        expect(m.data.bytes() == channel + number(m.offset), "a message changed over a restart");
      std::uint64_t due = 10 * i + static_cast<std::uint64_t>(life);
      if (same) {
        expect(facts.head == due && facts.oldest == 1 && log.size() == due,
               "in the same epoch " + count(log.size()) + " of " + count(due) + " messages are left after a restart");
      }
      auto r = t.append(channel, channel + number(facts.head + 1));
      expect(r.offset == facts.head + 1,
             "after a restart offset " + count(r.offset) + " came after head " + count(facts.head));
      if (!same && life == 0) throw absent{"the storage keeps no epochs over a restart"};
    }
  }
}

inline void restart_keeps_keys(subject& s) {
  trial t(s, with_keys(s));
  if (!s.reopens) throw absent{"the fixture has no reopen()"};
  auto first = t.append("c", "x", "key");
  t.close();
  t.open_again();
  if (t.facts("c").epoch != first.epoch) throw absent{"the storage keeps no epochs over a restart"};
  expect_duplicate(t.append("c", "x", "key"), first);
  expect(t.try_append("c", t.make("y", "key")).error == errc::conflict, "a key forgot its payload over a restart");
}

inline constexpr obligation obligations[] = {
    {"the messages of a channel have the offsets 1, 2, 3, … without a hole", &offsets_rise},
    {"a message can be read as soon as its append is answered", &readable_at_once},
    {"every byte comes back: payload, kind, media type, type, sender and time", &every_byte_is_kept},
    {"channels are told apart by every byte of their names", &channels_are_told_apart},
    {"a channel that was never published to is empty: oldest 1, head 0", &unknown_is_empty},
    {"reading a channel leaves no trace", &reading_leaves_no_trace},
    {"a read returns what comes after since, starting just after it", &since_is_exclusive},
    {"a read at or above the head returns no messages, and the facts", &at_and_above_the_head},
    {"a read returns no more messages than asked for, and for none the facts alone", &message_limit},
    {"a read returns no more bytes than asked for, but at least one message", &byte_limit},
    {"reads that continue one another return the whole log", &pages_make_the_log},
    {"an epoch stays while the storage is open, and append and read agree on it", &epoch_stays},
    {"an empty channel has the epoch that its first message gets", &empty_channel_has_its_epoch},
    {"no two channels share an epoch, and a log that starts anew has a new one", &epochs_differ},
    {"retention drops from the oldest end, oldest tells, and the head never goes back", &retention_from_the_oldest_end},
    {"retention by count keeps what is within it and drops the rest", &retention_by_count},
    {"retention by bytes keeps what is within it, and the newest message always", &retention_by_bytes},
    {"retention by age keeps what is within it and drops the rest", &retention_by_age},
    {"a read from below the oldest starts at the oldest", &since_below_the_oldest},
    {"a key stores its message once and returns the first offset from then on", &key_stores_once},
    {"a key with another payload is a conflict and stores nothing", &key_conflict},
    {"a key holds in its own channel alone", &key_is_the_channels_own},
    {"keys are told apart by every byte, up to 384 of them", &keys_are_opaque},
    {"a message without a key is never a duplicate", &no_key_no_duplicate},
    {"a key outlives its message", &key_outlives_its_message},
    {"a key is kept for five minutes", &key_lives_five_minutes},
    {"a key and its message are kept in one step", &key_and_message_are_one_step},
    {"calls for different channels may come from different threads at once", &channels_in_parallel},
    {"operations on one channel complete in the order in which they were started", &completions_keep_order},
    {"every handler is called exactly once, also when the storage is destroyed", &handlers_called_once},
    {"after a restart everything acknowledged is there, or the epoch is another", &restart_keeps_or_renews},
    {"after a restart keys are still known", &restart_keeps_keys},
};

}  // namespace detail

/// Holds a storage to its obligations and tells, for each, what became of it. Takes seconds. What the fixture or the
/// storage throws counts as a failure of that one obligation.
///
/// `fixture` is called, or its `open()` is, for a fresh and empty storage, many times; the answer owns it (a
/// `std::unique_ptr`), and it is destroyed before the next is opened. What else the fixture may have, each on its own:
/// - `open(hailwire::testing::retention)`: as `open()`, keeping about this much;
/// - `reopen()`: the storage that was opened last, destroyed since, as after a restart;
/// - `share()`: another handle on the log of the storage that was opened last and is still open, as on another node;
/// - `now()` in Unix milliseconds and `advance(std::chrono::milliseconds)`: the clock that the storage goes by.
template <class Fixture>
std::vector<outcome> storage_contract(Fixture&& fixture) {
  detail::subject_of<std::remove_reference_t<Fixture>> subject(fixture);
  std::vector<outcome> out;
  auto hold_to = [&](const detail::obligation& o) { out.push_back(detail::hold_to(o.name, [&] { o.test(subject); })); };
  for (const auto& o : detail::obligations) hold_to(o);
  for (const auto& o : detail::member_obligations) hold_to(o);
  for (const auto& o : detail::content_obligations) hold_to(o);
  return out;
}

}  // namespace hailwire::testing
