// SPDX-License-Identifier: BSL-1.0
#pragma once

// The obligations of a storage that keeps content: a part of storage_contract.hpp.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/storage/any_storage.hpp"
#include "hailwire/testing/storage_members_contract.hpp"
#include "hailwire/testing/storage_trial.hpp"

namespace hailwire::testing::detail {

inline opened with_content(subject& s, retention keep = {}) {
  return with(s, storage_member::content, "content", keep);
}

/// The operations on content, waited for.
class contents {
 public:
  explicit contents(trial& t) : trial_(t) {}

  upload_result open(upload u, const content_limits& limits = {}) {
    return ask([&](upload_handler h) { trial_.storage().open_content(std::move(u), limits, std::move(h)); });
  }
  upload_result open(std::string_view channel = "c", const content_limits& limits = {}) {
    return open(upload{{}, "ada", std::string(channel), "image/png", {}}, limits);
  }
  upload_result find(std::string_view id) {
    return ask([&](upload_handler h) { trial_.storage().find_content(id, std::move(h)); });
  }
  upload_result write(std::string_view id, std::uint64_t offset, std::string bytes) {
    return ask([&](upload_handler h) { trial_.storage().write_content(id, offset, std::move(bytes), std::move(h)); });
  }
  upload_result commit(std::string_view id) {
    return ask([&](upload_handler h) { trial_.storage().commit_content(id, std::move(h)); });
  }
  upload_result abort(std::string_view id) {
    return ask([&](upload_handler h) { trial_.storage().abort_content(id, std::move(h)); });
  }
  content_result read(std::string_view id, std::uint64_t from, std::size_t size) {
    auto p = std::make_shared<pending<content_result>>();
    trial_.storage().read_content(id, from, size, pending<content_result>::handler(p));
    return p->wait();
  }
  /// A complete one; its id.
  std::string whole(std::string_view bytes, std::string_view channel = "c") {
    auto r = open(channel);
    expect(!r.error, "open_content answered: " + words(r.error));
    auto w = write(r.state.id, 0, std::string(bytes));
    expect(!w.error, "write_content answered: " + words(w.error));
    auto c = commit(r.state.id);
    expect(!c.error && c.state.complete, "commit_content answered: " + words(c.error));
    return r.state.id;
  }
  draft naming(const std::string& id, std::uint64_t size, std::string key = {}) {
    draft d = trial_.make("look", std::move(key));
    d.content = std::make_shared<const content_reference>(content_reference{id, size, "image/png"});
    return d;
  }
  void expect_there(const std::string& id, std::string_view bytes, const char* when) {
    auto r = read(id, 0, bytes.size() + 1);
    expect(!r.error, std::string("a content cannot be read ") + when + ": " + words(r.error));
    expect(r.bytes == bytes, std::string("a content is another one ") + when);
  }
  void expect_gone(const std::string& id, const char* when) {
    auto r = read(id, 0, 1);
    expect(r.error == errc::not_found, std::string("a content is still there ") + when);
  }

 private:
  template <class Start>
  upload_result ask(Start start) {
    auto p = std::make_shared<pending<upload_result>>();
    start(pending<upload_result>::handler(p));
    return p->wait();
  }
  trial& trial_;
};

inline void expect_error(const upload_result& r, errc code, const char* what) {
  expect(r.error == code, std::string(what) + " was answered: " + (r.error ? words(r.error) : "done"));
}

inline void content_arrives(subject& s) {
  trial t(s, with_content(s));
  contents c(t);
  auto r = c.open();
  expect(!r.error && !r.known, "open_content answered: " + words(r.error));
  const std::string id = r.state.id;
  expect(valid_content_id(id), "an upload's id is '" + id + "'");
  expect(r.state.offset == 0 && !r.state.complete && !r.state.named, "a new upload does not begin at its beginning");
  std::string all;
  for (int i = 0; i < 40; ++i) {
    std::string part(static_cast<std::size_t>(i) * 997, static_cast<char>(i));
    r = c.write(id, all.size(), part);
    all += part;
    expect(!r.error && r.state.offset == all.size(), "write_content answered: " + words(r.error));
    expect(c.find(id).state.offset == all.size(), "an upload does not stand where its last part ended");
  }
  expect(c.read(id, 0, 1).error == errc::not_found, "an upload can be read before it is complete");
  for (std::uint64_t wrong : {std::uint64_t{0}, std::uint64_t{all.size() - 1}, std::uint64_t{all.size() + 1}}) {
    r = c.write(id, wrong, "x");
    expect_error(r, errc::conflict, "a part at another offset");
    expect(r.state.offset == all.size(), "a conflict does not tell where the upload stands");
  }
  r = c.commit(id);
  expect(!r.error && r.state.complete && r.state.offset == all.size(), "commit_content answered: " + words(r.error));
  expect(!c.commit(id).error, "an upload cannot be completed once more");
  expect_error(c.write(id, all.size(), "x"), errc::conflict, "a part behind the end");
  const auto found = c.find(id).state;
  expect(found.owner == "ada" && found.channel == "c" && found.type == "image/png" && found.complete,
         "what was said of an upload is forgotten");
  c.expect_there(id, all, "when it is complete");
  for (std::uint64_t from : {std::uint64_t{1}, std::uint64_t{70'000}, std::uint64_t{all.size() - 1}})
    expect(c.read(id, from, 1000).bytes == all.substr(from, 1000), "a part of a content is another one");
  expect(c.read(id, all.size(), 10).bytes.empty(), "there are bytes behind a content's end");
  expect_error(c.find("nobody"), errc::not_found, "an id that nobody has");
  expect_error(c.write("nobody", 0, "x"), errc::not_found, "an id that nobody has");
  expect(c.read("../nobody", 0, 1).error == errc::not_found, "an id that nobody has can be read");
}

inline void content_keys(subject& s) {
  trial t(s, with_content(s));
  contents c(t);
  upload u{{}, "ada", "c", "image/png", "k"};
  auto first = c.open(u);
  c.write(first.state.id, 0, "abc");
  auto again = c.open(u);
  expect(!again.error && again.known && again.state.id == first.state.id && again.state.offset == 3,
         "the same key is another upload");
  u.owner = "bob";
  expect(c.open(u).state.id != first.state.id, "a key is not its owner's own");
  u.owner = "ada";
  u.channel = "d";
  expect(c.open(u).state.id != first.state.id, "a key is not its channel's own");
  expect(!c.abort(first.state.id).error, "an upload cannot be forgotten");
  expect_error(c.find(first.state.id), errc::not_found, "an upload that was forgotten");
  u.channel = "c";
  again = c.open(u);
  expect(!again.error && !again.known && again.state.id != first.state.id, "the key of a forgotten upload is known");
}

inline void content_limits_hold(subject& s) {
  trial t(s, with_content(s));
  contents c(t);
  const hailwire::content_limits limits{10, 3, 25, 3'600'000};
  auto a = c.open("c", limits);
  expect(!c.write(a.state.id, 0, std::string(10, 'x')).error, "a content of the largest size is refused");
  expect_error(c.write(a.state.id, 10, "x"), errc::too_large, "a byte over the limit");
  expect_error(c.find(a.state.id), errc::not_found, "an upload that was over the limit");
  upload long_one{{}, "ada", "c", "image/png", {}, 11};
  expect_error(c.open(long_one, limits), errc::too_large, "a length over the limit");
  long_one.length = 4;
  auto b = c.open(long_one, limits);
  expect(!c.write(b.state.id, 0, "abc").error, "a part within the length is refused");
  expect_error(c.commit(b.state.id), errc::bad_request, "an upload shorter than its length");
  expect(c.find(b.state.id).state.offset == 3, "an upload that was completed too early is another one");
  expect_error(c.write(b.state.id, 3, "de"), errc::too_large, "an upload longer than its length");
  expect_error(c.find(b.state.id), errc::not_found, "an upload longer than its length, afterwards,");
  std::string ids[3];
  for (auto& id : ids) {
    auto r = c.open("c", limits);
    expect(!r.error, "as many uploads as allowed are refused");
    id = r.state.id;
  }
  expect_error(c.open("c", limits), errc::rate_limited, "one upload more than allowed");
  expect(!c.open(upload{{}, "bob", "c", "image/png", {}}, limits).error, "one owner's uploads count for another");
  for (int i = 0; i < 2; ++i) c.write(ids[i], 0, std::string(10, 'x'));
  expect(!c.write(ids[2], 0, "12345").error, "as many bytes as allowed are refused");
  expect_error(c.write(ids[2], 5, "6"), errc::rate_limited, "one byte more than an owner may have");
  expect(c.find(ids[2]).state.offset == 5, "bytes that were refused are there");
  c.abort(ids[0]);
  expect(!c.write(ids[2], 5, "6").error, "what was forgotten still counts");
}

inline void content_is_named(subject& s) {
  trial t(s, with_content(s));
  contents c(t);
  const std::string id = c.whole("abc");
  expect(t.try_append("d", c.naming(id, 3)).error == errc::not_found, "a content is named in another channel");
  expect(t.try_append("c", c.naming("nobody", 3)).error == errc::not_found, "a content that is not there is named");
  auto half = c.open();
  c.write(half.state.id, 0, "abc");
  expect(t.try_append("c", c.naming(half.state.id, 3)).error == errc::conflict, "an unfinished upload is named");
  expect(t.facts("c").head == 0 && t.facts("d").head == 0, "a message that was refused is stored");
  auto first = t.append("c", c.naming(id, 3, "key"));
  auto all = t.all("c");
  expect(all.size() == 1 && all[0].content && *all[0].content == content_reference{id, 3, "image/png"} &&
             all[0].data.bytes() == "look",
         "a message does not say which content it names");
  expect(c.find(id).state.named, "a content that a message names does not say so");
  expect_error(c.abort(id), errc::conflict, "forgetting a content that a message names");
  expect(t.try_append("c", c.naming(id, 3)).error == errc::conflict, "a content is named twice");
  c.expect_there(id, "abc", "when a message names it");
  if (!s.keeps_keys) return;
  for (int i = 0; i < 2; ++i) {
    auto again = t.append("c", c.naming(id, 3, "key"));
    expect(again.duplicate && again.offset == first.offset && again.epoch == first.epoch,
           "a key does not return the message that names its content");
  }
  draft other = c.naming(id, 3, "key");
  other.type = "other";
  other.data = payload::text("other");
  expect(t.try_append("c", other).error == errc::conflict, "a key with another payload is no conflict");
  expect(t.try_append("c", c.naming(c.whole("def"), 3, "key")).error == errc::conflict,
         "a key with another content is no conflict");
  expect(t.facts("c").head == 1, "a repeat is stored");
}

inline void content_goes_with_erase(subject& s) {
  trial t(s, with_content(s));
  if (!t.storage().offers(storage_member::erase)) throw absent{"the storage has no erase"};
  contents c(t);
  const std::string id = c.whole("abc"), other = c.whole("def");
  auto first = t.append("c", c.naming(id, 3, "key"));
  t.append("c", c.naming(other, 3));
  expect(!erase(t, "c", first.offset).error, "a message with a content cannot be erased");
  c.expect_gone(id, "after its message was erased");
  expect_error(c.find(id), errc::not_found, "an upload whose message was erased");
  c.expect_there(other, "def", "after another message was erased");
  if (!s.keeps_keys) return;
  auto again = t.try_append("c", c.naming(id, 3, "key"));
  expect(again.duplicate && again.offset == first.offset, "the key of an erased content is forgotten");
}

inline void content_goes_with_trimming(subject& s) {
  trial t(s, with_content(s, retention{5, 0, std::chrono::seconds(0)}));
  contents c(t);
  const std::string id = c.whole("abc");
  t.append("c", c.naming(id, 3));
  for (int i = 0; i < 2000 && t.facts("c").oldest == 1; ++i) t.append("c", "x");
  if (t.facts("c").oldest == 1) throw broken_promise{"after 2000 messages nothing is trimmed"};
  bool gone = false;
  for (int i = 0; i < 100 && !gone; ++i) {
    t.append("c", "x");
    gone = c.read(id, 0, 1).error == errc::not_found;
  }
  expect(gone, "a content is still there 100 messages after its own was trimmed");
}

inline void content_unnamed_goes(subject& s) {
  if (!s.has_clock) throw absent{"the fixture has no now() and advance(std::chrono::milliseconds)"};
  trial t(s, with_content(s));
  contents c(t);
  const std::string named = c.whole("abc"), left = c.whole("def");
  t.append("c", c.naming(named, 3));
  auto half = c.open();
  s.advance(std::chrono::milliseconds(3'599'999));
  expect(!c.find(left).error, "a content that no message names goes too early");
  expect(!c.write(half.state.id, 0, "x").error, "an upload ends too early");
  s.advance(std::chrono::milliseconds(1));
  expect_error(c.find(left), errc::not_found, "a content that no message names, after its time,");
  expect(c.find(half.state.id).state.left_ms == 3'599'999, "an upload's time does not begin anew with its last byte");
  c.expect_gone(left, "after its time");
  c.expect_there(named, "abc", "after the time of those that no message names");
}

inline void content_restarts(subject& s) {
  trial t(s, with_content(s));
  if (!s.reopens) throw absent{"the fixture has no reopen()"};
  contents c(t);
  std::string ids[3];
  for (auto& id : ids) {
    id = c.whole("bytes of " + count(static_cast<std::uint64_t>(&id - ids)));
    if (&id != &ids[2]) t.append("c", c.naming(id, 10, "key" + id));
    t.append("c", "x");
  }
  auto half = c.open();
  c.write(half.state.id, 0, "abc");
  const auto before = t.facts("c");
  t.close();
  t.open_again();
  if (t.facts("c").epoch != before.epoch) throw absent{"the storage keeps no epochs over a restart"};
  for (std::uint64_t i = 0; i < 2; ++i) c.expect_there(ids[i], "bytes of " + count(i), "after a restart");
  auto gone = [&](const std::string& id) {
    for (int i = 0; i < 1000; ++i)  // as soon as the log was asked
      if (c.read(id, 0, 1).error == errc::not_found) return true;
    return false;
  };
  expect(gone(ids[2]), "a content that no message names is there after a restart");
  expect(gone(half.state.id), "half an upload is there after a restart");
  expect(t.try_append("c", c.naming(ids[0], 10)).error == errc::conflict, "a content is named twice, over a restart");
  if (!s.keeps_keys) return;
  auto again = t.append("c", c.naming(ids[0], 10, "key" + ids[0]));
  expect(again.duplicate && again.offset == 1, "a key forgot its content over a restart");
}

inline constexpr obligation content_obligations[] = {
    {"content arrives in parts, each where the last one ended, and is read in any", &content_arrives},
    {"content has a key of its owner's, which stands for one upload", &content_keys},
    {"content is bounded: by size, by its own length, and by what an owner has", &content_limits_hold},
    {"content is named once, by a message of its channel, when it is complete", &content_is_named},
    {"content goes with its message when that is erased", &content_goes_with_erase},
    {"content goes with its message when that is trimmed", &content_goes_with_trimming},
    {"content that no message names goes an hour after its last byte", &content_unnamed_goes},
    {"content that messages name is there after a restart, and no other", &content_restarts},
};

}  // namespace hailwire::testing::detail
