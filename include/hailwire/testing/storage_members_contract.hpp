// SPDX-License-Identifier: BSL-1.0
#pragma once

// Over 500 lines because each obligation is a claim in one list.
//
// The obligations of a storage's optional members, and of several handles on one log: a part of storage_contract.hpp.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/storage/any_storage.hpp"
#include "hailwire/testing/storage_trial.hpp"

namespace hailwire::testing::detail {

using hailwire::detail::storage_member;

inline opened with(subject& s, storage_member part, const char* name, retention keep = {}) {
  opened o = keep.messages ? s.open(keep) : s.open();
  if (!o.storage->offers(part)) throw absent{std::string("the storage has no ") + name};
  return o;
}

// Taking messages back

inline opened with_erase(subject& s, retention keep = {}) { return with(s, storage_member::erase, "erase", keep); }

inline append_result erase(trial& t, std::string_view channel, position at, std::string from = "") {
  auto d = t.make("");
  d.from = std::move(from);
  auto p = std::make_shared<pending<append_result>>();
  t.storage().erase(channel, std::move(at), std::move(d), pending<append_result>::handler(p));
  return p->wait();
}
/// In the epoch that the channel is in, as the hub does after it has looked at the message.
inline append_result erase(trial& t, std::string_view channel, std::uint64_t offset, std::string from = "") {
  return erase(t, channel, position{t.facts(channel).epoch, offset}, std::move(from));
}
inline void expect_erased(const message& m) {
  expect(m.erased, "a message that was erased is not marked so");
  expect(m.data == payload() && m.type.empty() && !m.content,
         "a message that was erased still has its payload, type or content");
  expect(m.erases == 0, "a message that was erased says that it erases another one");
}

inline void erase_leaves_the_place(subject& s) {
  trial t(s, with_erase(s));
  for (std::uint64_t i = 1; i <= 5; ++i) {
    draft d = t.make(number(i));
    d.at += static_cast<std::int64_t>(i);
    d.from = "ada";
    d.type = "note";
    if (i == 4) d.data = payload::binary(std::string(100'000, 'x'), "image/png");
    t.append("c", d);
  }
  t.append("d", "x");
  for (std::uint64_t offset : {std::uint64_t{3}, std::uint64_t{4}, std::uint64_t{1}}) {
    auto before = t.facts("c");
    auto r = erase(t, "c", offset, "bob");
    expect(!r.error, "erase answered: " + words(r.error));
    expect(r.offset == before.head + 1 && !r.duplicate,
           "the entry of an erasure got offset " + count(r.offset) + " after head " + count(before.head));
    expect(r.epoch == before.epoch, "an erasure changed the epoch");
    auto log = t.all("c");
    expect(log.size() == r.offset, "after an erasure " + count(log.size()) + " messages came back");
    const message& gone = log[offset - 1];
    expect_erased(gone);
    expect(gone.from == "ada", "a message that was erased lost its sender");
    expect(gone.at == s.now() + static_cast<std::int64_t>(offset), "a message that was erased lost its time");
    const message& note = log.back();
    expect(note.erases == offset, "the entry of an erasure erases " + count(note.erases) + ", not " + count(offset));
    expect(!note.erased && note.data == payload() && note.type.empty() && !note.content && note.from == "bob",
           "the entry of an erasure has more than it should, or not its sender");
    for (const message& m : log)
      if (m.offset == 2 || m.offset == 5)
        expect(!m.erased && !m.erases && m.data.bytes() == number(m.offset) && m.type == "note",
               "an erasure touched another message");
  }
  auto next = t.append("c", "y");
  expect(t.read("c", next.offset - 1).messages[0].data.bytes() == "y", "a message behind an erasure is another one");
  expect(t.all("d").size() == 1 && !t.all("d")[0].erased, "an erasure touched another channel");
}

/// That nothing is erased at that position of the channel `c`.
inline void expect_not_erased(trial& t, const position& at, const std::string& what) {
  const std::uint64_t head = t.facts("c").head;
  const auto r = erase(t, "c", at);
  expect(r.error == errc::not_found,
         "erasing " + what + " was " + (r.error ? "answered: " + r.error.message() : std::string("done")));
  expect(t.facts("c").head == head, "erasing " + what + " left an entry behind");
}

inline void erase_of_nothing(subject& s) {
  trial t(s, with_erase(s, retention{5, 0, std::chrono::seconds(0)}));
  auto refused = [&](std::uint64_t offset, const char* what) {
    expect_not_erased(t, {t.facts("c").epoch, offset}, what);
  };
  for (std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, max_offset}) refused(offset, "in an empty channel");
  t.append("c", "x");
  for (std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{2}, max_offset}) refused(offset, "what is not there");
  auto note = erase(t, "c", 1);
  refused(note.offset, "the entry of an erasure");
  for (int i = 0; i < 2000 && t.facts("c").oldest <= 3; ++i) t.append("c", "y");
  std::uint64_t oldest = t.facts("c").oldest;
  expect(oldest > 3, "after 2000 more messages the oldest is still " + count(oldest));
  refused(oldest - 1, "a trimmed message");
}

inline void erase_in_its_epoch(subject& s) {
  trial t(s, with_erase(s));
  t.append("c", "x");
  t.append("d", "x");
  const std::string own = t.facts("c").epoch, other = t.facts("d").epoch;
  if (own.empty()) throw absent{"the storage has no epochs"};
  for (const std::string& epoch : {std::string(), other, own + "x", own.substr(1)})
    expect_not_erased(t, {epoch, 1}, "a message of another epoch");
  expect(t.facts("c").head == 1 && !t.all("c")[0].erased, "erasing a message of another epoch erased this one");
  expect(!erase(t, "c", position{own, 1}).error, "a message could not be erased in its own epoch");
}

inline void erase_twice(subject& s) {
  trial t(s, with_erase(s));
  t.append("c", "x");
  auto first = erase(t, "c", 1);
  t.append("c", "y");
  for (int i = 0; i < 2; ++i) {
    auto again = erase(t, "c", 1);
    expect(!again.error && again.duplicate && again.offset == first.offset && again.epoch == first.epoch,
           "erasing once more did not return the first entry");
  }
  expect(t.facts("c").head == 3, "erasing once more left another entry");
}

inline void erased_key_returns(subject& s) {
  if (!s.keeps_keys) throw absent{"the storage keeps no keys"};
  trial t(s, with_erase(s));
  auto first = t.append("c", "x", "key");
  erase(t, "c", 1);
  auto again = t.append("c", "x", "key");
  expect(again.duplicate && again.offset == first.offset, "the key of an erased message was forgotten");
  expect(t.try_append("c", t.make("y", "key")).error == errc::conflict,
         "the key of an erased message lost its payload");
  expect(t.facts("c").head == 2, "a known key stored a message");
}

inline void erase_keeps_order(subject& s) {
  trial t(s, with_erase(s));
  if (!s.asynchronous) throw absent{"the storage is synchronous"};
  std::vector<std::shared_ptr<pending<append_result>>> notes;
  std::vector<std::shared_ptr<pending<read_result>>> reads;
  const std::string epoch = t.facts("c").epoch;
  for (std::uint64_t i = 0; i < 20; ++i) {
    t.start_append("c", t.make("x"));
    reads.push_back(t.start_read("c", 0, {1000, 1 << 20}));
    auto p = std::make_shared<pending<append_result>>();
    t.storage().erase("c", position{epoch, 2 * i + 1}, t.make(""), pending<append_result>::handler(p));
    notes.push_back(p);
    reads.push_back(t.start_read("c", 0, {1000, 1 << 20}));
  }
  for (std::uint64_t i = 0; i < 20; ++i) {
    auto before = reads[2 * i]->wait(), after = reads[2 * i + 1]->wait();
    auto note = notes[i]->wait();
    expect(!note.error && note.offset == 2 * i + 2, "an erasure overtook an append that was started before it");
    expect(before.head == 2 * i + 1 && !before.messages.back().erased, "an erasure overtook a read");
    expect(after.head == 2 * i + 2 && after.messages[2 * i].erased, "a read overtook an erasure");
  }
}

inline void restart_keeps_erased(subject& s) {
  trial t(s, with_erase(s));
  if (!s.reopens) throw absent{"the fixture has no reopen()"};
  t.append("c", "x");
  t.append("c", "y");
  auto note = erase(t, "c", 1);
  t.close();
  t.open_again();
  if (t.facts("c").epoch != note.epoch) throw absent{"the storage keeps no epochs over a restart"};
  auto log = t.all("c");
  expect(log.size() == 3, "after a restart " + count(log.size()) + " of 3 messages are left");
  expect_erased(log[0]);
  expect(log[2].erases == 1 && log[1].data.bytes() == "y", "after a restart an erasure is another one");
  auto again = erase(t, "c", 1);
  expect(again.duplicate && again.offset == 3, "after a restart an erasure is not known any more");
}

// Retention by channel

inline opened with_retention(subject& s) { return with(s, storage_member::retention, "retention by channel"); }

inline void own_retention(subject& s) {
  trial t(s, with_retention(s));
  auto kept = [&](std::string_view channel, hailwire::retention keep, std::size_t bytes = 1) {
    draft d = t.make(std::string(bytes, 'x'));
    d.keep = keep;
    t.append(channel, d);
  };
  hailwire::retention ten, small;
  ten.messages = 10;
  small.bytes = 1000;
  for (int i = 0; i < 300; ++i) {
    kept("few", ten);
    kept("small", small, 100);
    kept("plain", {});
  }
  expect(t.facts("plain").oldest == 1, "the retention of one channel was applied to another");
  for (const char* channel : {"few", "small"}) {
    std::size_t n = t.all(channel).size();
    expect(n >= 10, std::string("of the channel '") + channel + "' " + count(n) + " messages are left, not 10");
    expect(n < 200, std::string("of the channel '") + channel + "' all " + count(n) + " messages are left");
  }
  hailwire::retention more;
  more.messages = 50;
  for (int i = 0; i < 50; ++i) kept("few", more);
  expect(t.all("few").size() >= 50, "a retention that was raised is not kept to");
  for (int i = 0; i < 100; ++i) kept("few", {});
  expect(t.all("few").size() >= 150, "a channel without a retention of its own any more is kept to the old one");
}

inline void own_age(subject& s) {
  if (!s.has_clock) throw absent{"the fixture has no now() and advance(std::chrono::milliseconds)"};
  trial t(s, with_retention(s));
  draft d = t.make("x");
  d.keep.age = std::chrono::seconds(60);
  t.append("aged", d);
  t.append("plain", "x");
  s.advance(std::chrono::seconds(59));
  expect(t.all("aged").size() == 1, "a message of 59 seconds was dropped at an age of 60");
  s.advance(std::chrono::seconds(100));
  for (int i = 0; i < 2000 && t.facts("aged").oldest == 1; ++i) {
    d.at = s.now();
    t.append("aged", d);
  }
  expect(t.facts("aged").oldest > 1, "a message of 159 seconds is still there at an age of 60");
  expect(t.facts("plain").oldest == 1, "the age of one channel was applied to another");
}

// Watermarks

inline opened with_marks(subject& s, retention keep = {}) {
  return with(s, storage_member::watermarks, "watermarks", keep);
}
inline mark_result mark(trial& t, std::string_view channel, watermark m) {
  auto p = std::make_shared<pending<mark_result>>();
  t.storage().mark(channel, std::move(m), pending<mark_result>::handler(p));
  return p->wait();
}
inline watermarks_result marks(trial& t, std::string_view channel, watermark_query q = {}) {
  auto p = std::make_shared<pending<watermarks_result>>();
  t.storage().watermarks(channel, std::move(q), pending<watermarks_result>::handler(p));
  auto r = p->wait();
  expect(!r.error, "watermarks answered: " + words(r.error));
  return r;
}
/// A channel with this many messages; its epoch.
inline std::string filled(trial& t, std::string_view channel, std::uint64_t messages) {
  std::string epoch;
  for (std::uint64_t i = 1; i <= messages; ++i) epoch = t.append(channel, number(i)).epoch;
  return epoch;
}
inline std::string text_of(const watermark_levels& l) {
  return count(l.received) + "/" + count(l.read) + "/" + count(l.public_read);
}
inline void expect_levels(const watermark_levels& is, const watermark_levels& due, const char* what) {
  expect(is == due, std::string(what) + " is " + text_of(is) + ", not " + text_of(due));
}

inline void marks_only_rise(subject& s) {
  trial t(s, with_marks(s));
  std::string epoch = filled(t, "c", 10);
  expect(marks(t, "c").marks.empty(), "a channel has watermarks that nobody set");
  struct step {
    watermark_levels set, due;
  };
  const step steps[] = {{{5, 0, 0}, {5, 0, 0}},  {{4, 0, 0}, {5, 0, 0}},   {{5, 3, 0}, {5, 3, 0}},
                        {{0, 4, 4}, {5, 4, 4}},  {{10, 2, 2}, {10, 4, 4}}, {{10, 10, 4}, {10, 10, 4}},
                        {{0, 0, 0}, {10, 10, 4}}};
  watermark_levels before;
  for (const step& now : steps) {
    s.advance_if_possible();
    auto r = mark(t, "c", {"ada", "phone", epoch, now.set, s.now()});
    expect(!r.error, "mark answered: " + words(r.error));
    expect_levels(r.before, before, "the watermark before");
    expect_levels(r.after, now.due, "the watermark after");
    auto all = marks(t, "c").marks;
    expect(all.size() == 1, "one device has " + count(all.size()) + " watermarks");
    expect_levels(all[0].levels, now.due, "the watermark that was kept");
    expect(all[0].user == "ada" && all[0].device == "phone" && all[0].epoch == epoch && all[0].at == s.now(),
           "a watermark came back with another user, device, epoch or time");
    before = now.due;
  }
}

inline void marks_imply(subject& s) {
  trial t(s, with_marks(s));
  std::string epoch = filled(t, "c", 10);
  auto r = mark(t, "c", {"ada", "", epoch, {1, 2, 3}, s.now()});
  expect_levels(r.after, {3, 3, 3}, "what was read in public was not received, or not read:");
}

inline void marks_of_devices(subject& s) {
  trial t(s, with_marks(s));
  std::string epoch = filled(t, "c", 10), other = filled(t, "d", 10);
  mark(t, "c", {"ada", "phone", epoch, {7, 2, 1}, s.now()});
  auto r = mark(t, "c", {"ada", "", epoch, {5, 5, 0}, s.now()});
  expect_levels(r.before, {7, 2, 1}, "the highest of a user's devices before");
  expect_levels(r.after, {7, 5, 1}, "the highest of a user's devices after");
  r = mark(t, "c", {"ad", "phone", epoch, {1, 0, 0}, s.now()});
  expect_levels(r.before, {}, "another user's watermark");
  r = mark(t, "d", {"ada", "phone", other, {1, 0, 0}, s.now()});
  expect_levels(r.before, {}, "another channel's watermark");
  auto own = marks(t, "c", {"ada"}).marks;
  expect(own.size() == 2 && own[0].device.empty() && own[1].device == "phone",
         "a user's two devices came back as " + count(own.size()) + ", or not in the order of their names");
  expect_levels(own[0].levels, {5, 5, 0}, "the watermark of the first device");
  expect(marks(t, "c", {"eve"}).marks.empty(), "a user without watermarks has some");
}

inline void marks_are_checked(subject& s) {
  trial t(s, with_marks(s));
  std::string epoch = filled(t, "c", 10);
  mark(t, "c", {"ada", "phone", epoch, {5, 0, 0}, s.now()});
  auto refused = [&](std::string_view channel, watermark m, errc due, const char* what) {
    auto r = mark(t, channel, std::move(m));
    expect(r.error == due,
           std::string(what) + " was " + (r.error ? "answered: " + r.error.message() : std::string("kept")));
  };
  if (!epoch.empty()) refused("c", {"ada", "phone", "another", {6, 0, 0}, s.now()}, errc::not_found, "another epoch");
  refused("c", {"ada", "phone", epoch, {11, 0, 0}, s.now()}, errc::bad_request, "a mark above the head");
  refused("c", {"ada", "phone", epoch, {5, 11, 0}, s.now()}, errc::bad_request, "a mark above the head");
  refused("c", {"ada", "phone", epoch, {max_offset, 0, 0}, s.now()}, errc::bad_request, "a mark above the head");
  refused("empty", {"ada", "phone", t.facts("empty").epoch, {1, 0, 0}, s.now()}, errc::bad_request,
          "a mark in an empty channel");
  auto all = marks(t, "c").marks;
  expect(all.size() == 1, "a refused mark was kept");
  expect_levels(all[0].levels, {5, 0, 0}, "after refusals the watermark");
  expect(!mark(t, "c", {"ada", "phone", epoch, {10, 10, 10}, s.now()}).error, "a mark at the head was refused");
}

inline void sixteen_devices(subject& s) {
  trial t(s, with_marks(s));
  std::string epoch = filled(t, "c", 10);
  std::int64_t now = s.now();
  auto by = [&](const std::string& device, std::int64_t at) {
    return mark(t, "c", {"ada", device, epoch, {1, 0, 0}, at});
  };
  for (std::size_t i = 0; i < max_devices; ++i)
    expect(!by("device " + count(i), now + static_cast<std::int64_t>(i)).error, "one of 16 devices was refused");
  expect(by("one more", now + device_memory_ms).error == errc::conflict, "a 17th device was not refused");
  expect(!by("device 0", now + device_memory_ms).error, "a known device was refused");
  expect(marks(t, "c").marks.size() == max_devices, "a user has not 16 devices");
  expect(by("one more", now + 1 + device_memory_ms).error == errc::conflict,
         "a device gave way that was unseen for 30 days, and not longer");
  expect(!by("one more", now + 2 + device_memory_ms).error,
         "a 17th device was refused, though one was unseen too long");
  auto all = marks(t, "c", {"ada"}).marks;
  expect(all.size() == max_devices, "a user has " + count(all.size()) + " devices");
  for (const watermark& m : all)
    expect(m.device != "device 1", "another device gave way than the one that was unseen longest");
  expect(!mark(t, "c", {"bob", "one more", epoch, {1, 0, 0}, now}).error, "another user's device was refused");
}

inline void marks_page_by_user(subject& s) {
  trial t(s, with_marks(s));
  std::string epoch = filled(t, "c", 3);
  for (int i = 9; i >= 0; --i)
    for (const char* device : {"b", "a"})
      mark(t, "c", {"user " + std::to_string(i), device, epoch, {1, 0, 0}, s.now()});
  mark(t, "c", {std::string("user 0\0x", 8), "a", epoch, {2, 0, 0}, s.now()});
  std::vector<watermark> seen;
  watermark_query q;
  q.users = 3;
  for (int pages = 0;; ++pages) {
    expect(pages < 20, "paging through watermarks does not end");
    auto r = marks(t, "c", q);
    for (auto& m : r.marks) seen.push_back(m);
    if (!r.more) break;
    expect(!r.marks.empty(), "a page of watermarks is empty, and there are more");
    q.after = seen.back().user;
  }
  expect(seen.size() == 21, "page by page " + count(seen.size()) + " of 21 watermarks came back");
  for (std::size_t i = 1; i < seen.size(); ++i)
    expect(seen[i - 1].user < seen[i].user || (seen[i - 1].user == seen[i].user && seen[i - 1].device < seen[i].device),
           "watermarks are not in the order of their users and devices");
}

inline void marks_outlive_messages(subject& s) {
  trial t(s, with_marks(s, retention{5, 0, std::chrono::seconds(0)}));
  std::string epoch = filled(t, "c", 5);
  mark(t, "c", {"ada", "phone", epoch, {2, 1, 0}, s.now()});
  for (int i = 0; i < 2000 && t.facts("c").oldest <= 3; ++i) t.append("c", "y");
  auto all = marks(t, "c").marks;
  expect(all.size() == 1, "a watermark went with the messages below it");
  expect_levels(all[0].levels, {2, 1, 0}, "after trimming the watermark");
}

inline void restart_keeps_marks(subject& s) {
  trial t(s, with_marks(s));
  if (!s.reopens) throw absent{"the fixture has no reopen()"};
  std::string epoch = filled(t, "c", 5);
  mark(t, "c", {"ada", "phone", epoch, {4, 3, 2}, s.now()});
  t.close();
  t.open_again();
  auto all = marks(t, "c").marks;
  if (t.facts("c").epoch != epoch) throw absent{"the storage keeps no epochs over a restart"};
  expect(all.size() == 1, "after a restart a watermark is gone");
  expect_levels(all[0].levels, {4, 3, 2}, "after a restart the watermark");
  expect_levels(mark(t, "c", {"ada", "phone", epoch, {1, 1, 1}, s.now()}).after, {4, 3, 2},
                "after a restart a watermark fell, which");
}

// Device tokens

inline opened with_tokens(subject& s) { return with(s, storage_member::tokens, "device tokens"); }
inline tokens_result keep(trial& t, device_token token) {
  auto p = std::make_shared<pending<tokens_result>>();
  t.storage().keep_token(std::move(token), pending<tokens_result>::handler(p));
  return p->wait();
}
inline std::vector<device_token> tokens(trial& t, std::string_view user) {
  auto p = std::make_shared<pending<tokens_result>>();
  t.storage().tokens(user, pending<tokens_result>::handler(p));
  auto r = p->wait();
  expect(!r.error, "tokens answered: " + words(r.error));
  return r.tokens;
}
inline void forget(trial& t, std::string_view user, std::string_view device, std::string_view token) {
  auto p = std::make_shared<pending<tokens_result>>();
  t.storage().forget_token(user, device, token, pending<tokens_result>::handler(p));
  auto r = p->wait();
  expect(!r.error, "forget_token answered: " + words(r.error));
}

inline void tokens_come_back(subject& s) {
  trial t(s, with_tokens(s));
  expect(tokens(t, "ada").empty(), "a user has tokens that nobody named");
  std::string odd = std::string("\0'\"%_", 5) + std::string(4091, 'x');
  const device_token tablet{"ada", "tablet", "web", odd, std::string("{\"k\":\0}", 7), 5},
      phone{"ada", "phone", "apns", "aa", "", s.now()}, other{"bob", "phone", "apns", "bb", "x", 1};
  for (const auto& one : {tablet, phone, other}) expect(!keep(t, one).error, "a token was refused");
  auto all = tokens(t, "ada");
  expect(all.size() == 2, "a user's two tokens came back as " + count(all.size()));
  expect(all[0] == phone && all[1] == tablet, "tokens came back changed, or not in the order of their devices");
  device_token next = phone;
  next.token = "cc";
  next.at += 1;
  expect(!keep(t, next).error, "a device's next token was refused");
  all = tokens(t, "ada");
  expect(all.size() == 2 && all[0] == next, "a device's next token did not take the place of the last one");
}

inline void token_has_one_owner(subject& s) {
  trial t(s, with_tokens(s));
  keep(t, {"ada", "phone", "fcm", "same", "", 1});
  keep(t, {"ada", "tablet", "fcm", "another", "", 1});
  keep(t, {"eve", "phone", "web", "same", "", 1});
  keep(t, {"bob", "phone", "fcm", "same", "", 2});
  auto ada = tokens(t, "ada");
  expect(ada.size() == 1 && ada[0].device == "tablet", "a token that another user named is still the first one's");
  expect(tokens(t, "bob").size() == 1, "a token that another user named is not that one's");
  expect(tokens(t, "eve").size() == 1, "the same token of another service was taken for the same");
  keep(t, {"ada", "tablet", "fcm", "same", "", 3});
  expect(tokens(t, "bob").empty(), "a token that was named by a device that had another is still the last one's");
  ada = tokens(t, "ada");
  expect(ada.size() == 1 && ada[0].token == "same", "a device has two tokens, or none");
  keep(t, {"bob", "phone", "fcm", "another", "", 4});
  expect(tokens(t, "ada").size() == 1 && tokens(t, "bob").size() == 1,
         "a token that nobody had any more took another one away");
}

inline void tokens_are_forgotten(subject& s) {
  trial t(s, with_tokens(s));
  for (const char* device : {"a", "b", "c"}) keep(t, {"ada", device, "fcm", device, "", 1});
  forget(t, "ada", "a", "");
  forget(t, "ada", "b", "b");
  forget(t, "ada", "c", "older");
  forget(t, "ada", "none", "");
  forget(t, "nobody", "c", "c");
  auto all = tokens(t, "ada");
  expect(all.size() == 1 && all[0].device == "c",
         "of three tokens two were forgotten, and " + count(all.size()) + " are left");
}

inline void sixteen_tokens(subject& s) {
  trial t(s, with_tokens(s));
  auto by = [&](const std::string& device, std::int64_t at) { return keep(t, {"ada", device, "fcm", device, "", at}); };
  for (std::size_t i = 0; i < max_devices; ++i) by("device " + count(i), 100 + static_cast<std::int64_t>(i));
  expect(by("one more", 100 + device_memory_ms).error == errc::conflict, "a 17th device's token was not refused");
  expect(!by("one more", 101 + device_memory_ms).error, "a 17th token was refused, though one was unseen too long");
  auto all = tokens(t, "ada");
  expect(all.size() == max_devices, "a user has " + count(all.size()) + " tokens");
  for (const auto& one : all)
    expect(one.device != "device 0", "another device's token gave way than the one that was unseen longest");
}

inline void restart_keeps_tokens(subject& s) {
  trial t(s, with_tokens(s));
  if (!s.reopens) throw absent{"the fixture has no reopen()"};
  std::string epoch = epoch_of(t, "c");
  const device_token token{"ada", "phone", "web", "token", "extra", 7};
  keep(t, token);
  t.close();
  t.open_again();
  if (t.facts("c").epoch != epoch) throw absent{"the storage keeps no epochs over a restart"};
  auto all = tokens(t, "ada");
  expect(all.size() == 1 && all[0] == token, "after a restart a token is gone, or another one");
}

// Several handles on one log

inline void handles_agree(subject& s) {
  if (!s.shares) throw absent{"the fixture has no share()"};
  trial one(s, s.open()), two(s, s.share());
  std::uint64_t head = 0;
  std::string epoch;
  for (std::uint64_t i = 1; i <= 60; ++i) {
    trial& by = i % 3 ? one : two;
    auto r = by.append("c", number(i));
    expect(epoch.empty() || r.epoch == epoch, "two handles on one log have two epochs");
    expect(r.offset == head + 1,
           "after head " + count(head) + " came offset " + count(r.offset) + " by another handle");
    epoch = r.epoch;
    head = r.offset;
    for (trial* t : {&one, &two}) {
      auto facts = t->facts("c");
      expect(facts.epoch != epoch || facts.head >= head,
             "a handle shows head " + count(facts.head) + " under the epoch in which " + count(head) + " was given");
      expect(facts.head <= head, "a handle shows a head that nobody has given");
    }
  }
  for (trial* t : {&one, &two}) {
    auto log = t->all("c");
    expect(log.size() == 60, "a handle has " + count(log.size()) + " of 60 messages");
    for (const message& m : log) expect(m.data.bytes() == number(m.offset), "two handles have two logs");
  }
  if (!s.keeps_keys) return;
  auto first = one.append("c", "x", "key");
  auto again = two.append("c", "x", "key");
  expect(again.duplicate && again.offset == first.offset, "a key of one handle is not known to the other");
}

struct obligation {
  const char* name;
  void (*test)(subject&);
};

inline constexpr obligation member_obligations[] = {
    {"an erased message keeps its place, and an entry says that it was erased", &erase_leaves_the_place},
    {"erasing what is not there is not found, and leaves nothing", &erase_of_nothing},
    {"a message is erased in its own epoch alone", &erase_in_its_epoch},
    {"erasing once more returns the first entry", &erase_twice},
    {"the key of an erased message still returns its position", &erased_key_returns},
    {"an erasure keeps its channel's order", &erase_keeps_order},
    {"after a restart what was erased still is", &restart_keeps_erased},
    {"a channel keeps to a retention of its own, until another is named", &own_retention},
    {"a channel keeps to an age of its own", &own_age},
    {"watermarks only rise", &marks_only_rise},
    {"what was read has been received", &marks_imply},
    {"a user's devices have watermarks of their own, and the highest is told", &marks_of_devices},
    {"a watermark of another epoch or above the head moves nothing", &marks_are_checked},
    {"of a 17th device, the one unseen longest gives way after 30 days, and else it is refused", &sixteen_devices},
    {"watermarks come page by page, all devices of a user together", &marks_page_by_user},
    {"watermarks outlive their messages", &marks_outlive_messages},
    {"after a restart watermarks are where they were", &restart_keeps_marks},
    {"a device has one token, which comes back as it was named", &tokens_come_back},
    {"a token belongs to who named it last", &token_has_one_owner},
    {"tokens are forgotten one by one", &tokens_are_forgotten},
    {"of a 17th token, the one unseen longest gives way after 30 days, and else it is refused", &sixteen_tokens},
    {"after a restart device tokens are still there", &restart_keeps_tokens},
    {"two handles on one log agree, and none shows a lower head", &handles_agree},
};

}  // namespace hailwire::testing::detail
