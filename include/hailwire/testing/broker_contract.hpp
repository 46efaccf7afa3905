// SPDX-License-Identifier: BSL-1.0
#pragma once

// The obligations of a broker, each as a test with a name that says what is owed. For the tests of whoever wrote one;
// needs no test framework:
//
//   auto outcomes = hailwire::testing::broker_contract([] { return std::make_unique<my_broker>(); });
//   std::cout << hailwire::testing::report(outcomes);
//   return hailwire::testing::fulfilled(outcomes) ? 0 : 1;
//
// A broker may carry by a network, so that what one hub says is heard later and on another thread, and may drop what it
// carries while it connects. So each test first says a word on its channel until that is heard, and what must not be
// heard is waited for until a later word has come.

#include <atomic>
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
#include "hailwire/testing/storage_trial.hpp"

namespace hailwire::testing {
namespace detail {

using hailwire::detail::any_broker;

/// The brokers of one test: one, or several that are joined as those of several processes are.
struct broker_subject {
  bool publishes = true;
  std::chrono::milliseconds patience{0};  ///< how long a word may take
  virtual ~broker_subject() = default;
  /// Begins anew.
  virtual void open() = 0;
  virtual void close() = 0;
  /// The broker of hub number `i`.
  virtual any_broker& of(std::size_t i) = 0;
};

template <class Fixture>
class broker_subject_of final : public broker_subject {
  using pointer = decltype(open_in(std::declval<Fixture&>()));

 public:
  explicit broker_subject_of(Fixture& f) : fixture_(f) {
    if constexpr (requires { std::remove_cvref_t<Fixture>::announces; })
      publishes = !std::remove_cvref_t<Fixture>::announces;
  }
  ~broker_subject_of() override { broker_subject_of::close(); }
  void open() override {
    add(open_in(fixture_));
    if constexpr (requires(Fixture& f) { f.join(); }) add(fixture_.join());
  }
  void close() override {
    erased_.clear();
    while (!brokers_.empty()) brokers_.pop_back();  // the first one last
  }
  any_broker& of(std::size_t i) override { return *erased_[i % erased_.size()]; }

 private:
  void add(pointer p) {
    brokers_.push_back(std::move(p));
    erased_.push_back(hailwire::detail::erase_broker(*brokers_.back()));
  }
  Fixture& fixture_;
  std::vector<pointer> brokers_;
  std::vector<std::unique_ptr<any_broker>> erased_;
};

/// A hub of a test: what it has heard, as text.
class ear {
 public:
  ear(broker_subject& s, std::size_t i) : on_(&s.of(i)), patience_(s.patience) {
    id_ = on_->attach([this](const broker_event& e) { hear(e); });
  }
  ear(const ear&) = delete;
  ear& operator=(const ear&) = delete;
  ~ear() { leave(); }
  void leave() {
    if (!std::exchange(gone_, true)) on_->detach(id_);
  }
  any_broker& broker() noexcept { return *on_; }
  std::uint64_t id() const noexcept { return id_; }
  void follow(std::string_view channel) { on_->subscribe(id_, channel); }
  void tell(std::string_view channel, std::string_view bytes, std::string_view epoch = "e", std::uint64_t after = 1) {
    on_->tell(id_, channel, {epoch, after, bytes});
  }
  void publish(std::string_view channel, const message& m, std::string_view epoch = "e") {
    on_->publish(id_, channel, epoch, m);
  }
  bool hears(const std::string& what) {
    std::unique_lock lock(mutex_);
    return came_.wait_for(lock, patience_, [&] { return has(what); });
  }
  std::vector<std::string> all() {
    std::lock_guard lock(mutex_);
    return heard_;
  }
  std::size_t times(const std::string& what) {
    std::lock_guard lock(mutex_);
    std::size_t n = 0;
    for (const auto& h : heard_) n += h == what;
    return n;
  }
  /// Has `from` tell words on the channel until one has come: from then on the way is open.
  /// Words under a `name` that is used once have not been heard before.
  void connect(ear& from, std::string_view channel, const std::string& name = "open") {
    const auto until = std::chrono::steady_clock::now() + patience_;
    for (std::uint64_t i = 0;; ++i) {
      const std::string word = name + " " + count(i);
      from.tell(channel, word);
      std::unique_lock lock(mutex_);
      if (came_.wait_for(lock, std::chrono::milliseconds(i ? 20 : 0),
                         [&] { return has(of_live(channel, word, "e", 1)); }))
        return;
      expect(std::chrono::steady_clock::now() < until,
             "nothing that is told on a channel reaches who subscribed to it");
    }
  }
  static std::string of_live(std::string_view channel, std::string_view bytes, std::string_view epoch,
                             std::uint64_t after) {
    return "live " + std::string(channel) + ' ' + std::string(epoch) + '.' + count(after) + ' ' + std::string(bytes);
  }
  static std::string of(std::string_view channel, const message& m, std::string_view epoch) {
    return "message " + std::string(channel) + ' ' + std::string(epoch) + '.' + count(m.offset) + ' ' +
           std::to_string(m.at) + ' ' + m.from + ' ' + m.type + ' ' + std::to_string(static_cast<int>(m.data.type())) +
           ' ' + std::string(m.data.content_type()) + ' ' + std::string(m.data.bytes());
  }

 private:
  bool has(const std::string& what) const {
    for (const auto& h : heard_)
      if (h == what) return true;
    return false;
  }
  void hear(const broker_event& e) {
    std::lock_guard lock(mutex_);
    heard_.push_back(e.stored ? of(e.channel, *e.stored, e.epoch)
                     : e.live ? of_live(e.channel, e.live->bytes, e.live->epoch, e.live->after)
                              : "missed " + std::string(e.channel));
    came_.notify_all();
  }
  any_broker* on_;
  std::chrono::milliseconds patience_;
  std::uint64_t id_ = 0;
  bool gone_ = false;
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<std::string> heard_;
};

inline message sample(std::uint64_t offset, payload data = payload::json("1")) {
  message m;
  m.offset = offset;
  m.at = 1'764'000'000'123;
  m.data = std::move(data);
  return m;
}
inline std::string every_byte() {
  std::string out;
  for (int i = 0; i < 256; ++i) out += static_cast<char>(i);
  return out;
}

inline void publish_reaches_the_others(broker_subject& s) {
  ear one(s, 0), two(s, 1), three(s, 2), other(s, 3);
  for (ear* e : {&one, &two, &three}) e->follow("c");
  other.follow("d");
  two.connect(one, "c");
  three.connect(one, "c");
  one.connect(two, "c");
  other.connect(one, "d");
  if (!s.publishes) throw absent{"the storage announces messages"};
  const message m = sample(7);
  // It may be dropped, so it is said again: what is repeated is no worse than what is not.
  for (ear* e : {&two, &three}) {
    bool came = false;
    for (int i = 0; i < 3 && !came; ++i) one.publish("c", m), came = e->hears(ear::of("c", m, "e"));
    expect(came, "a hub that subscribed did not hear a message");
  }
  two.tell("c", "end");
  expect(one.hears(ear::of_live("c", "end", "e", 1)), "the way back is closed");
  expect(one.times(ear::of("c", m, "e")) == 0, "a hub heard its own message");
  expect(other.times(ear::of("c", m, "e")) == 0, "a hub heard a message of a channel to which it did not subscribe");
}

inline void tell_reaches_the_others(broker_subject& s) {
  ear one(s, 0), two(s, 1), other(s, 2);
  one.follow("c");
  two.follow("c");
  other.follow("d");
  two.connect(one, "c");
  one.connect(two, "c");
  other.connect(two, "d");
  one.tell("c", "word", "epoch", 42);
  expect(two.hears(ear::of_live("c", "word", "epoch", 42)), "a hub that subscribed did not hear what was told");
  two.tell("c", "end");
  two.tell("d", "end");
  expect(one.hears(ear::of_live("c", "end", "e", 1)) && other.hears(ear::of_live("d", "end", "e", 1)),
         "what was told later did not come");
  expect(one.times(ear::of_live("c", "word", "epoch", 42)) == 0, "a hub heard what it told itself");
  expect(other.times(ear::of_live("c", "word", "epoch", 42)) == 0, "a hub heard what it did not subscribe to");
}

inline void without_own_subscription(broker_subject& s) {
  ear quiet(s, 0), two(s, 1);
  two.follow("c");
  two.connect(quiet, "c");
  quiet.tell("c", "word");
  expect(two.hears(ear::of_live("c", "word", "e", 1)), "a hub that follows nothing cannot tell");
  if (!s.publishes) return;
  const message m = sample(3);
  bool came = false;
  for (int i = 0; i < 3 && !came; ++i) quiet.publish("c", m), came = two.hears(ear::of("c", m, "e"));
  expect(came, "a hub that follows nothing cannot publish");
}

inline void every_byte_is_carried(broker_subject& s) {
  ear one(s, 0), two(s, 1);
  two.follow("c");
  two.connect(one, "c");
  const std::string bytes = every_byte();
  message odd = sample(max_offset, payload::binary(bytes + bytes, "image/png"));
  odd.from = "Zo\xC3\xAB'\"%_;--";
  odd.type = std::string(64, 't');
  message plain = sample(2, payload::text("\xC3\xA9\r\n\t", "text/html; charset=\"utf-8\""));
  plain.at = 0;
  for (const message& m : {odd, plain, sample(3, payload::json("{ \"a\":1.0,  \"b\":\"\\u00e9\" }")),
                           sample(4, payload::binary(std::string(1 << 20, '\xFF')))}) {
    bool came = !s.publishes;
    for (int i = 0; i < 3 && !came; ++i) {
      one.publish("c", m, "a_long-epoch-of-32-letters-000000");
      came = two.hears(ear::of("c", m, "a_long-epoch-of-32-letters-000000"));
    }
    expect(came, "message " + count(m.offset) + " did not come as it was");
  }
  // What is told may be dropped for its size, but not in part.
  const std::string large((1 << 20) + 1024, '\0');
  one.tell("c", large, "", max_offset);
  for (const std::string& told : {bytes, std::string(), std::string(3000, '\0')}) {
    one.tell("c", told, "", max_offset);
    expect(two.hears(ear::of_live("c", told, "", max_offset)),
           "of " + count(told.size()) + " bytes that were told something is lost");
  }
  for (const std::string& h : two.all())
    expect(h.size() < 100'000 || h.starts_with("message") || h == ear::of_live("c", large, "", max_offset),
           "of many bytes that were told some are lost");
}

inline void names_are_opaque(broker_subject& s) {
  ear one(s, 0), two(s, 1);
  using namespace std::string_literals;
  const std::string names[] = {"a",
                               "A",
                               "a "s,
                               "*",
                               "a*",
                               "?",
                               "[a]",
                               "a\0"s,
                               "\0"s,
                               "\0a"s,
                               "\0b"s,
                               "a\r\n",
                               "'",
                               "\"\\",
                               "{a}",
                               every_byte(),
                               "\xFF",
                               "%00",
                               ".",
                               "a.b",
                               ">",
                               std::string(300, 'x'),
                               std::string(299, 'x')};
  for (const std::string& name : names) two.follow(name);
  for (const std::string& name : names) two.connect(one, name);
  std::size_t n = 0;
  for (const std::string& name : names) one.tell(name, "word " + count(++n));
  n = 0;
  for (const std::string& name : names) {
    const std::string word = "word " + count(++n);
    expect(two.hears(ear::of_live(name, word, "e", 1)), "channel number " + count(n) + " is not heard");
    std::size_t all = 0;
    for (const std::string& other : names) all += two.times(ear::of_live(other, word, "e", 1));
    expect(all == 1, "channel number " + count(n) + " is heard as another one, or twice");
  }
}

inline void told_in_order_and_once(broker_subject& s) {
  ear one(s, 0), two(s, 1), three(s, 2);
  two.follow("c");
  three.follow("c");
  two.connect(one, "c");
  three.connect(one, "c");
  const std::uint64_t n = 2000;
  for (std::uint64_t i = 1; i <= n; ++i) one.tell("c", "number", "n", i);
  // The last one may have been dropped like any other.
  for (ear* e : {&two, &three}) {
    e->connect(one, "c", "end");
    std::uint64_t last = 0;
    const std::string prefix = "live c n.";
    for (const std::string& h : e->all()) {
      if (!h.starts_with(prefix)) continue;
      const std::uint64_t at = std::stoull(h.substr(prefix.size()));
      expect(at > last, "what was told as number " + count(at) + " came behind number " + count(last));
      last = at;
    }
    expect(last > 0, "of 2,000 words none was heard");
  }
}

inline void unsubscribe_ends_it(broker_subject& s) {
  ear one(s, 0), two(s, 1);
  two.follow("c");
  two.follow("d");
  two.connect(one, "c");
  two.connect(one, "d");
  two.broker().unsubscribe(two.id(), "c");
  two.broker().unsubscribe(two.id(), "never followed");
  // It may take until the other side knows.
  std::uint64_t heard = 1, round = 0;
  const auto until = std::chrono::steady_clock::now() + s.patience;
  while (heard) {
    expect(std::chrono::steady_clock::now() < until, "a channel is still heard that was unsubscribed");
    const std::string word = "round " + count(++round);
    one.tell("c", word);
    one.publish("c", sample(round), "after");
    one.tell("d", word);
    expect(two.hears(ear::of_live("d", word, "e", 1)), "with one channel another one is lost");
    heard = two.times(ear::of_live("c", word, "e", 1)) + two.times(ear::of("c", sample(round), "after"));
  }
  two.follow("c");
  two.connect(one, "c");
}

inline void detach_ends_it(broker_subject& s) {
  ear one(s, 0), stays(s, 1);
  stays.follow("c");
  stays.connect(one, "c");
  auto leaves = std::make_unique<ear>(s, 1);
  leaves->follow("c");
  leaves->connect(one, "c");
  leaves->leave();
  const std::size_t before = leaves->all().size();
  one.tell("c", "word");
  one.publish("c", sample(1));
  expect(stays.hears(ear::of_live("c", "word", "e", 1)), "with one hub another one has gone");
  expect(leaves->all().size() == before, "a receiver was called after detach");
  ear next(s, 1);
  next.follow("d");
  next.connect(one, "d");
  one.tell("c", "another word");
  expect(stays.hears(ear::of_live("c", "another word", "e", 1)), "a hub that stayed hears nothing");
  one.tell("d", "end");
  expect(next.hears(ear::of_live("d", "end", "e", 1)), "a new hub hears nothing");
  expect(next.times(ear::of_live("c", "another word", "e", 1)) == 0,
         "a new hub hears what one before it had subscribed to");
}

inline void hubs_on_threads(broker_subject& s) {
  std::atomic<bool> late = false;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&s, &late, t] {
      for (int round = 0; round < 20; ++round) {
        std::atomic<bool> gone = false;
        any_broker& b = s.of(t);
        const std::uint64_t me = b.attach([&gone, &late](const broker_event&) {
          if (gone) late = true;
        });
        b.subscribe(me, "c");
        for (std::uint64_t n = 1; n <= 20; ++n) {
          b.publish(me, "c", "e", sample(n));
          b.tell(me, "c", {"e", n, "word"});
        }
        if (round % 2) b.unsubscribe(me, "c");
        b.detach(me);
        gone = true;
      }
    });
  }
  for (auto& t : threads) t.join();
  expect(!late, "a receiver was called after detach");
  ear one(s, 0), two(s, 1);
  two.follow("c");
  two.connect(one, "c");
}

struct broker_obligation {
  const char* name;
  void (*test)(broker_subject&);
};

inline constexpr broker_obligation broker_obligations[] = {
    {"a message reaches every hub that subscribed, but for its own", &publish_reaches_the_others},
    {"what is told reaches every hub that subscribed, but for its own, with the place behind which it stands",
     &tell_reaches_the_others},
    {"a hub publishes and tells where it has not subscribed", &without_own_subscription},
    {"every byte comes as it was given", &every_byte_is_carried},
    {"a channel's name is opaque bytes, up to 300 of them", &names_are_opaque},
    {"what is told comes in order, and never twice", &told_in_order_and_once},
    {"a channel that was unsubscribed is not heard, and the others are", &unsubscribe_ends_it},
    {"after detach nothing is heard, and who comes next hears nothing of it", &detach_ends_it},
    {"hubs come, say things and go on several threads at once", &hubs_on_threads},
};

}  // namespace detail

/// Holds a broker to its obligations and tells, for each, what became of it. What the fixture or the broker throws
/// counts as a failure of that one obligation.
///
/// `fixture` is called, or its `open()` is, for a fresh broker, once for each obligation; the answer owns it (a
/// `std::unique_ptr`), and it is destroyed before the next is opened. It may have `join()`: one more broker on the same
/// bus, as another process has, which the hubs of a test are then dealt to as well; it is destroyed before the first.
/// And `static constexpr bool announces = true`, where the storage tells of messages and `publish` does nothing.
/// `patience`: how long anything may take to be heard; only a broken broker makes a test wait so long.
template <class Fixture>
std::vector<outcome> broker_contract(Fixture&& fixture, std::chrono::milliseconds patience = std::chrono::seconds(10)) {
  detail::broker_subject_of<std::remove_reference_t<Fixture>> subject(fixture);
  subject.patience = patience;
  std::vector<outcome> out;
  for (const auto& o : detail::broker_obligations) {
    out.push_back(detail::hold_to(o.name, [&] {
      subject.open();
      o.test(subject);
    }));
    subject.close();
  }
  return out;
}

}  // namespace hailwire::testing
