// SPDX-License-Identifier: BSL-1.0
#pragma once

// The bench on which the storage contract is tried: a storage that is opened, waited for, closed and opened again, and
// looked at through `detail::any_storage`, exactly as the hub does, so that what answers at once and what answers later
// are held to the same words.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/concepts.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/testing/contract.hpp"

namespace hailwire::testing {

/// What a storage is opened with where retention is tested; 0: no limit. It keeps at least this much, and drops the
/// rest sooner or later while messages arrive.
struct retention {
  std::size_t messages = 0;     ///< per channel
  std::size_t bytes = 0;        ///< payload bytes per channel
  std::chrono::seconds age{0};  ///< by `message::at`
};

namespace detail {

using hailwire::detail::any_storage;

inline std::string count(std::uint64_t n) { return std::to_string(n); }
inline std::string words(std::error_code ec) { return ec.message() + (ec == errc::internal ? " (did it throw?)" : ""); }

/// A storage that is open, its type forgotten.
struct opened {
  std::shared_ptr<void> owner;  // declared first: it outlives what refers to it
  std::unique_ptr<any_storage> storage;
};

/// What the tests know of a fixture and its storage.
struct subject {
  bool asynchronous = false, single_threaded = false, keeps_keys = false;
  bool reopens = false, retains = false, has_clock = false, shares = false;
  virtual ~subject() = default;
  virtual opened open() = 0;
  virtual opened open(retention) = 0;
  virtual opened reopen() = 0;
  virtual opened share() = 0;
  virtual std::int64_t now() = 0;
  virtual void advance(std::chrono::milliseconds) = 0;
  void advance_if_possible() {
    if (has_clock) advance(std::chrono::milliseconds(1));
  }
};

template <class Fixture>
class subject_of final : public subject {
  using pointer = decltype(open_in(std::declval<Fixture&>()));
  using storage_type = std::remove_cvref_t<decltype(*std::declval<pointer&>())>;

  // Another handle may be owned by a pointer of another kind.
  template <class Pointer>
  static opened wrap(Pointer p) {
    auto owner = std::make_shared<Pointer>(std::move(p));
    auto& s = **owner;
    return {std::move(owner), hailwire::detail::erase_storage<decltype(s)>(s)};
  }

 public:
  explicit subject_of(Fixture& f) : fixture_(f) {
    explain_storage<storage_type>();
    asynchronous = asynchronous_storage<storage_type>;
    if constexpr (requires { storage_type::single_threaded; }) single_threaded = storage_type::single_threaded;
    if constexpr (requires { storage_type::keeps_keys; }) keeps_keys = storage_type::keeps_keys;
    reopens = requires { f.reopen(); };
    retains = requires { f.open(retention()); };
    shares = requires { f.share(); };
    has_clock = requires { f.now(), f.advance(std::chrono::milliseconds()); };
  }
  opened open() override { return wrap(open_in(fixture_)); }
  opened open(retention r) override {
    if constexpr (requires(Fixture& f) { f.open(r); }) return wrap(fixture_.open(r));
    throw absent{"the fixture has no open(hailwire::testing::retention)"};
  }
  opened reopen() override {
    if constexpr (requires(Fixture& f) { f.reopen(); }) return wrap(fixture_.reopen());
    throw absent{"the fixture has no reopen()"};
  }
  opened share() override {
    if constexpr (requires(Fixture& f) { f.share(); }) return wrap(fixture_.share());
    throw absent{"the fixture has no share()"};
  }
  std::int64_t now() override {
    if constexpr (requires(Fixture& f) { f.now(); }) return fixture_.now();
    return 1'764'000'000'000;
  }
  void advance(std::chrono::milliseconds time) override {
    if constexpr (requires(Fixture& f) { f.advance(time); }) return fixture_.advance(time);
    throw absent{"the fixture has no now() and advance(std::chrono::milliseconds)"};
  }

 private:
  Fixture& fixture_;
};

/// An answer that is waited for. What the handlers share with the test outlives both.
template <class Result>
struct pending {
  std::mutex mutex;
  std::condition_variable arrived;
  std::optional<Result> value;
  int calls = 0;
  bool dropped = false;

  // A handler that is destroyed uncalled says so at once, so that a test need not wait for what cannot come.
  class handler {
   public:
    explicit handler(std::shared_ptr<pending> to) : to_(std::move(to)) {}
    handler(handler&&) noexcept = default;
    handler& operator=(handler&&) = delete;
    ~handler() {
      if (!to_) return;
      std::lock_guard lock(to_->mutex);
      to_->dropped = true;
      to_->arrived.notify_all();
    }
    void operator()(Result r) {
      std::lock_guard lock(to_->mutex);
      if (++to_->calls == 1) to_->value = std::move(r);
      to_->arrived.notify_all();
    }

   private:
    std::shared_ptr<pending> to_;
  };

  Result wait() {
    std::unique_lock lock(mutex);
    // Generous: a file on a busy disk, under a sanitizer.
    bool done = arrived.wait_for(lock, std::chrono::seconds(60), [&] { return value || dropped; });
    expect(value.has_value(),
           done ? "a handler was destroyed without a call" : "a handler was not called within 60 seconds");
    expect(calls == 1, "a handler was called twice");
    return *value;
  }
};

/// A storage under test, with every read looked at twice: once by the test, once for what no read may ever show.
class trial {
 public:
  trial(subject& s, opened o) : subject_(s), opened_(std::move(o)) {}

  /// Ends the storage, as the destruction of its owner does.
  void close() {
    opened_.storage.reset();
    opened_.owner.reset();
  }
  void open_again() { opened_ = subject_.reopen(); }
  any_storage& storage() { return *opened_.storage; }

  std::shared_ptr<pending<append_result>> start_append(std::string_view channel, draft d) {
    auto p = std::make_shared<pending<append_result>>();
    storage().append(channel, std::move(d), pending<append_result>::handler(p));
    return p;
  }
  std::shared_ptr<pending<read_result>> start_read(std::string_view channel, std::uint64_t since, read_limit limit) {
    auto p = std::make_shared<pending<read_result>>();
    storage().read(channel, since, limit, pending<read_result>::handler(p));
    return p;
  }
  append_result try_append(std::string_view channel, draft d) { return start_append(channel, std::move(d))->wait(); }
  append_result append(std::string_view channel, draft d) {
    append_result r = try_append(channel, std::move(d));
    expect(!r.error, "append answered: " + words(r.error));
    return r;
  }
  append_result append(std::string_view channel, std::string bytes, std::string key = {}) {
    return append(channel, make(std::move(bytes), std::move(key)));
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit = {}) {
    read_result r = start_read(channel, since, limit)->wait();
    check(r, since, limit);
    return r;
  }
  read_result facts(std::string_view channel) { return read(channel, 0, {0, 0}); }
  /// The whole log, read in pages.
  std::vector<message> all(std::string_view channel, read_limit limit = {}) {
    std::vector<message> out;
    for (std::uint64_t since = 0;;) {
      read_result r = read(channel, since, limit);
      for (message& m : r.messages) out.push_back(std::move(m));
      if (out.empty() || out.back().offset >= r.head) return out;
      since = out.back().offset;
    }
  }
  draft make(std::string bytes, std::string key = {}) {
    return draft{subject_.now(), "", "", payload::text(std::move(bytes)), std::move(key)};
  }

  static void check(const read_result& r, std::uint64_t since, read_limit limit) {
    expect(!r.error, "read answered: " + words(r.error));
    expect(r.epoch.empty() || valid_epoch(r.epoch), "the epoch '" + r.epoch + "' is not 1–32 of A–Z a–z 0–9 _ -");
    expect(r.oldest >= 1, "oldest is 0");
    expect(r.oldest <= r.head + 1, "oldest is " + count(r.oldest) + ", past head + 1 = " + count(r.head + 1));
    expect(r.messages.size() <= limit.messages,
           "read returned " + count(r.messages.size()) + " messages, " + count(limit.messages) + " were asked for");
    bool some = limit.messages > 0 && since < r.head && r.oldest <= r.head;
    expect(!some || !r.messages.empty(),
           "read after " + count(since) + " returned nothing, though the head is " + count(r.head));
    if (r.messages.empty()) return;
    expect(since < r.head, "read after " + count(since) + " returned messages, though the head is " + count(r.head));
    std::uint64_t next = since + 1 > r.oldest ? since + 1 : r.oldest;
    std::size_t bytes = 0;
    for (const message& m : r.messages) {
      expect(m.offset == next, "offset " + count(m.offset) + " stands where " + count(next) + " belongs");
      bytes += m.data.bytes().size();
      ++next;
    }
    expect(next - 1 <= r.head, "a message stands above the head");
    expect(bytes <= limit.bytes || r.messages.size() == 1,
           "read returned " + count(bytes) + " bytes, " + count(limit.bytes) + " were asked for");
  }

 private:
  subject& subject_;
  opened opened_;
};

inline void expect_same(const message& m, const draft& d) {
  std::string which = "of the message at offset " + count(m.offset) + " ";
  expect(m.at == d.at, which + "the time is " + std::to_string(m.at) + ", not " + std::to_string(d.at));
  expect(m.from == d.from, which + "the sender differs");
  expect(m.type == d.type, which + "the type differs");
  expect(m.data.type() == d.data.type(), which + "the kind of payload differs");
  expect(m.data.bytes() == d.data.bytes(), which + "the payload differs");
  expect(m.data.content_type() == d.data.content_type(), which + "the media type differs");
}

inline std::string number(std::uint64_t i) { return "message " + count(i); }

/// The epoch of a channel that has a message.
inline std::string epoch_of(trial& t, std::string_view channel) {
  std::string epoch = t.append(channel, "x").epoch;
  if (epoch.empty() && t.facts(channel).epoch.empty()) throw absent{"the storage keeps no epochs"};
  return epoch;
}

}  // namespace detail
}  // namespace hailwire::testing
