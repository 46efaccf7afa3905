// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/hub/fan_out.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::detail;

namespace {

int encoded = 0;
constexpr proto::encoding lines{"lines", false,
                                [](std::string& out, const proto::envelope& e) {
                                  ++encoded;
                                  out.append("<")
                                      .append(e.epoch)
                                      .append(".")
                                      .append(std::to_string(e.content.offset))
                                      .append(":")
                                      .append(e.content.data.bytes())
                                      .append(">");
                                },
                                [](std::string& out, std::string_view name, std::string_view) {
                                  ++encoded;
                                  out.append("{").append(name).append("}");
                                }};
constexpr proto::encoding objects{"objects", true,
                                  [](std::string& out, const proto::envelope& e) { out.append(e.json).append("\n"); }};

message made(std::uint64_t offset, std::string bytes = "x") {
  message m;
  m.offset = offset;
  m.data = payload::text(std::move(bytes));
  return m;
}
read_result stretch(std::uint64_t first, std::uint64_t last, std::uint64_t oldest, std::uint64_t head) {
  read_result r;
  for (std::uint64_t i = first; i <= last; ++i) r.messages.push_back(made(i));
  r.oldest = oldest;
  r.head = head;
  return r;
}
/// What `lines` makes of offsets `first` to `last` in epoch e.
std::string wire(std::uint64_t first, std::uint64_t last, const std::string& epoch = "e") {
  std::string out;
  for (std::uint64_t i = first; i <= last; ++i) out += "<" + epoch + "." + std::to_string(i) + ":x>";
  return out;
}

/// Notes what a log asks for. A load is answered at once where `stored` is set, else by the test.
struct source final : log_source {
  void disorder(std::string_view, std::uint64_t, std::uint64_t) noexcept override {}
  std::vector<std::uint64_t> loads;
  int fills = 0, reopens = 0, dirty = 0;
  std::optional<read_result> stored;
  void load(channel_log&, encoded_channel& l, std::uint64_t since) override {
    loads.push_back(since);
    if (!stored) return;
    read_result r = *stored;
    std::erase_if(r.messages, [&](const message& m) { return m.offset <= since; });
    l.loaded(since, r);
  }
  void told(channel_log& log, std::string_view bytes) override { log.notice(bytes, "{}"); }
  void fill(channel_log&) override { ++fills; }
  void reopen(channel_log&) override { ++reopens; }
  void mark_dirty(channel_log&) override { ++dirty; }
};

/// A client that takes up to `room` bytes; what it is told stands in `got` between square brackets.
struct reader : subscriber {
  reader(channel_log& log, std::uint64_t from, const proto::encoding& how = lines)
      : at(std::make_unique<further_subscription>(*this, log.encoded_as(how))) {
    at->in().add(*at);
    at->begin(from);
  }
  ~reader() override { at.reset(); }

  void pull() {
    for (bool more = true; more;) {
      auto bytes = at->pending();
      if (bytes.empty()) return;
      std::size_t n = std::min(room, bytes.size());
      got.append(bytes.data(), n);
      if (room != SIZE_MAX) room -= n;
      more = n == bytes.size() && !at->live();  // of a live one the same chunk would come again
      at->advance(n);
    }
  }
  void take(std::size_t n) {
    room = n;
    pull();
  }
  void wake(subscription*) override {
    ++woken;
    pull();
  }
  void settle() override {}
  void lost(subscription& s, const gap& g) override {
    CHECK(s.offset() == g.next - 1);
    got += (g.epoch_changed ? "[epoch " : "[trimmed ") + std::to_string(g.next) + "]";
  }
  void keep(subscription&, std::string_view rest) override { got.append("[kept ").append(rest).append("]"); }
  std::uint64_t floor(const subscription&) const noexcept override { return lowest; }
  void unreadable(subscription&, std::error_code) override { got += "[unreadable]"; }

  void missed(subscription&) override { got += "[missed]"; }
  void sits_at(std::uint32_t slot) { slot_ = slot; }

  std::size_t room = SIZE_MAX;
  std::uint64_t lowest = 1;
  int woken = 0;
  std::string got;
  std::unique_ptr<further_subscription> at;
};

struct rig {
  source from;
  std::unique_ptr<channel_log> owned = channel_log::make(from, "c");
  channel_log& log = *owned;
  explicit rig(std::uint64_t head = 0) { log.opened("e", 1, head); }
  void publish(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t i = first; i <= last; ++i) log.apply("e", made(i));
    log.flush();
  }
};

}  // namespace

TEST_CASE("a message is encoded once per encoding, whoever follows") {
  rig r;
  std::vector<std::unique_ptr<reader>> many;
  for (int i = 0; i < 50; ++i) many.push_back(std::make_unique<reader>(r.log, 0));
  reader other(r.log, 0, objects);
  for (auto& one : many) one->pull();
  other.pull();
  encoded = 0;
  r.publish(1, 3);
  CHECK(encoded == 3);
  for (auto& one : many) CHECK(one->got == wire(1, 3));
  CHECK(other.got.find("\"offset\":3") != std::string::npos);
}

TEST_CASE("subscribers in sync are given the very same bytes") {
  rig r;
  struct looker final : subscriber {
    void wake(subscription* live) override { seen = live->pending().data(), live->advance(live->pending().size()); }
    void settle() override {}
    void lost(subscription&, const gap&) override {}
    void keep(subscription&, std::string_view) override {}
    std::uint64_t floor(const subscription&) const noexcept override { return 1; }
    void unreadable(subscription&, std::error_code) override {}
    const char* seen = nullptr;
  } a, b;
  further_subscription first(a, r.log.encoded_as(lines)), second(b, r.log.encoded_as(lines));
  for (auto* s : {&first, &second}) s->in().add(*s), s->begin(0), (void)s->pending();
  r.publish(1, 2);
  CHECK(a.seen != nullptr);
  CHECK(a.seen == b.seen);
}

TEST_CASE("many messages of one turn leave in one wake") {
  rig r;
  reader one(r.log, 0);
  one.pull();
  r.publish(1, 100);
  CHECK(one.woken == 1);
  CHECK(one.got == wire(1, 100));
  CHECK(r.from.dirty == 100);
}

TEST_CASE("a slow reader goes on from the tail at the byte where it stopped, and is live again at its end") {
  std::string whole = wire(1, 6);
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    rig r;
    reader slow(r.log, 0);
    slow.pull();
    slow.room = cut;
    r.publish(1, 2);
    r.publish(3, 4);
    r.publish(5, 6);
    CHECK(slow.got == whole.substr(0, cut));
    slow.take(SIZE_MAX);
    CHECK(slow.got == whole);
    CHECK(slow.at->live());
    CHECK(r.from.loads.empty());
    r.publish(7, 7);
    CHECK(slow.got == wire(1, 7));
  }
}

TEST_CASE("a slow reader knows the offset of what it has whole") {
  rig r;
  reader slow(r.log, 0);
  slow.pull();
  slow.room = wire(1, 2).size() + 3;
  r.publish(1, 4);
  CHECK(slow.at->offset() == 2);
  CHECK(slow.at->half_sent() == wire(3, 3).size() - 3);
  CHECK(slow.at->offset_when_whole() == 3);
  slow.take(wire(3, 3).size() - 3);
  CHECK(slow.at->offset() == 3);
  CHECK(slow.at->half_sent() == 0);
  CHECK(slow.at->offset_when_whole() == 3);
}

TEST_CASE("a place that has left the tail is read from the storage") {
  rig r(10);
  r.from.stored = stretch(5, 10, 5, 10);
  reader late(r.log, 7);
  late.pull();
  CHECK(r.from.loads == std::vector<std::uint64_t>{7});
  CHECK(late.got == wire(8, 10));
  CHECK(late.at->live());
}

TEST_CASE("what is read later is sent when it is there, and what came meanwhile follows it") {
  rig r(4);
  reader late(r.log, 1);
  late.pull();
  CHECK(late.at->loading());
  r.publish(5, 6);
  CHECK(late.got.empty());
  late.at->in().loaded(1, stretch(2, 4, 1, 6));
  CHECK(late.got == wire(2, 6));
  CHECK(late.at->live());
}

TEST_CASE("a reader whom the storage has put ahead of the flush waits for it, and repeats nothing") {
  rig r(4);
  reader ahead(r.log, 1);
  ahead.pull();
  r.log.apply("e", made(5));
  ahead.at->in().loaded(1, stretch(2, 5, 1, 5));
  CHECK(ahead.got == wire(2, 5));
  CHECK(!ahead.at->live());
  r.log.flush();
  CHECK(ahead.got == wire(2, 5));
  CHECK(ahead.at->live());
  r.publish(6, 6);
  CHECK(ahead.got == wire(2, 6));
}

TEST_CASE("those who stand at one place wait for one read and share what it brings") {
  rig r(9);
  reader a(r.log, 3), b(r.log, 3), c(r.log, 3);
  for (auto* one : {&a, &b, &c}) one->pull();
  CHECK(r.from.loads == std::vector<std::uint64_t>{3});
  encoded = 0;
  a.at->in().loaded(3, stretch(4, 9, 1, 9));
  CHECK(encoded == 6);
  for (auto* one : {&a, &b, &c}) CHECK(one->got == wire(4, 9));
}

TEST_CASE("who waits for a read and leaves is not told") {
  rig r(9);
  auto gone = std::make_unique<reader>(r.log, 3);
  reader stays(r.log, 3);
  gone->pull();
  stays.pull();
  gone.reset();
  stays.at->in().loaded(3, stretch(4, 9, 1, 9));
  CHECK(stays.got == wire(4, 9));
}

TEST_CASE("past retention the gap is told before what is still to be had") {
  rig r(20);
  r.from.stored = stretch(15, 20, 15, 20);
  reader late(r.log, 3);
  late.pull();
  CHECK(late.got == "[trimmed 15]" + wire(15, 20));
}

TEST_CASE("one exactly before the oldest has no gap") {
  rig r(20);
  r.from.stored = stretch(15, 20, 15, 20);
  reader late(r.log, 14);
  late.pull();
  CHECK(late.got == wire(15, 20));
}

TEST_CASE("where nothing is retained the gap reaches to the head") {
  rig r(20);
  r.from.stored = stretch(1, 0, 21, 20);
  reader late(r.log, 3);
  late.pull();
  CHECK(late.got == "[trimmed 21]");
  CHECK(late.at->live());
}

TEST_CASE("a channel that cannot be read says so to those who wait, and asks again only when woken") {
  rig r(9);
  read_result broken{make_error_code(errc::internal)};
  reader late(r.log, 3);
  r.from.stored = broken;
  late.pull();
  CHECK(late.got == "[unreadable]");
  CHECK(r.from.loads.size() == 1);
  r.from.stored = stretch(1, 9, 1, 9);
  late.pull();
  CHECK(late.got == "[unreadable]" + wire(4, 9));
}

TEST_CASE("the tail is bounded; who loses its chunk keeps the rest of its frame and reads the storage from there") {
  rig r;
  reader slow(r.log, 0);
  slow.pull();
  std::string first = "<e.1:" + std::string(200'000, 'a') + ">";
  slow.room = 10;
  r.log.apply("e", made(1, std::string(200'000, 'a')));
  r.log.flush();
  for (std::uint64_t i = 2; i <= 8; ++i) {
    r.log.apply("e", made(i, std::string(200'000, 'b')));
    r.log.flush();
  }
  CHECK(slow.got == first.substr(0, 10) + "[kept " + first.substr(10) + "]");
  CHECK(slow.at->offset() == 1);
  r.from.stored = stretch(2, 8, 1, 8);
  slow.take(SIZE_MAX);
  CHECK(r.from.loads == std::vector<std::uint64_t>{1});
  CHECK(slow.got == first.substr(0, 10) + "[kept " + first.substr(10) + "]" + wire(2, 8));
}

TEST_CASE("who stands between frames when its chunk leaves the tail keeps nothing") {
  rig r;
  reader slow(r.log, 0);
  slow.pull();
  slow.room = std::string("<e.1:>").size() + 200'000;
  for (std::uint64_t i = 1; i <= 9; ++i) {
    r.log.apply("e", made(i, std::string(200'000, 'a')));
    r.log.flush();
  }
  CHECK(slow.got.find("[kept") == std::string::npos);
  CHECK(slow.at->offset() == 1);
}

TEST_CASE("a subscriber that leaves in the middle of a frame takes the rest with it") {
  rig r;
  reader slow(r.log, 0);
  slow.pull();
  slow.room = 3;
  r.publish(1, 2);
  slow.at.reset();
  CHECK(slow.got == "<e.[kept 1:x>]");
}

TEST_CASE(
    "an idle channel is one small object, whatever went through it; a turn's memory serves other channels, a large "
    "one's nobody") {
  rig r;
  struct witness final : reader {
    using reader::reader;
    void wake(subscription* live) override {
      if (live) chunks.push_back(live->holding());
      reader::wake(live);
    }
    std::vector<std::weak_ptr<const chunk>> chunks;
  } one(r.log, 0);
  one.pull();
  r.publish(1, 3);
  r.publish(4, 4);
  CHECK(one.at->holding() == nullptr);
  REQUIRE(one.chunks.size() == 2);
  CHECK(one.chunks[0].lock() == one.chunks[1].lock());
  CHECK_FALSE(one.chunks[1].expired());
  CHECK(r.from.spares.size() == 1);
  auto other = channel_log::make(r.from, "another channel");
  other->opened("an epoch of more than 12 letters", 1, 0);
  other->apply("an epoch of more than 12 letters", made(1));  // nobody follows
  CHECK(r.from.spares.size() == 1);
  {
    reader two(*other, 1);
    two.pull();
    other->apply("an epoch of more than 12 letters", made(2));
    CHECK(r.from.spares.size() == 0);
    other->flush();
    CHECK(two.got == wire(2, 2, "an epoch of more than 12 letters"));
  }
  CHECK(r.from.spares.size() == 1);
  CHECK(other->epoch() == "an epoch of more than 12 letters");
  CHECK(other->name() == "another channel");
  r.from.spares.clear();
  CHECK(one.chunks[1].expired());

  r.log.apply("e", made(5));
  r.from.spares.clear();  // what is not sent yet stays
  r.log.shrink();
  r.log.flush();
  CHECK(one.got == wire(1, 5));

  r.log.apply("e", made(6, std::string(spare_limit + 1, 'a')));
  r.log.flush();
  REQUIRE(one.chunks.size() == 4);
  CHECK(one.chunks[3].expired());
}

TEST_CASE("channels that publish in one turn leave no more than so many spare blocks") {
  source from;
  std::vector<std::unique_ptr<channel_log>> logs;
  std::vector<std::unique_ptr<reader>> readers;
  for (std::size_t i = 0; i < most_spares + 10; ++i) {
    logs.push_back(channel_log::make(from, std::to_string(i)));
    logs.back()->opened("e", 1, 0);
    readers.push_back(std::make_unique<reader>(*logs.back(), 0));
    readers.back()->pull();
  }
  from.spares.clear();
  for (auto& log : logs) log->apply("e", made(1));
  for (auto& log : logs) log->flush();
  CHECK(from.spares.size() == most_spares);
  for (auto& r : readers) CHECK(r->got == wire(1, 1));
}

TEST_CASE("subscribers in sync come and go, and each that stays is given every message once") {
  rig r;
  std::vector<std::unique_ptr<reader>> all;
  std::uint64_t at = 0;
  for (std::size_t size : {1u, 2u, 3u, 9u, 4u, 1u, 0u, 2u, 30u, 5u}) {
    while (all.size() < size) {
      all.push_back(std::make_unique<reader>(r.log, at));
      all.back()->pull();
    }
    while (all.size() > size) all.erase(all.begin() + static_cast<std::ptrdiff_t>(all.size() * 7 % 5 % all.size()));
    r.log.shrink();
    for (auto& one : all) one->got.clear();
    ++at;
    r.publish(at, at);
    for (auto& one : all) CHECK(one->got == wire(at, at));
    if (size) CHECK(all[0]->at->in().live_count() == size);
  }
}

TEST_CASE("one turn does not grow without bound") {
  rig r;
  reader one(r.log, 0);
  one.pull();
  CHECK(!r.log.flush_early());
  for (std::uint64_t i = 1; i <= 3; ++i) r.log.apply("e", made(i, std::string(200'000, 'a')));
  CHECK(r.log.flush_early());
  r.log.flush();
  CHECK(!r.log.flush_early());
}

TEST_CASE("a message that is here already is dropped") {
  rig r;
  reader one(r.log, 0);
  one.pull();
  r.publish(1, 2);
  r.publish(1, 2);
  r.publish(2, 3);
  CHECK(one.got == wire(1, 3));
}

TEST_CASE("a hole in the offsets is read from the storage, once, up to the newest that came") {
  rig r;
  reader one(r.log, 0);
  one.pull();
  r.publish(1, 1);
  r.log.apply("e", made(4));
  r.log.apply("e", made(5));
  CHECK(r.from.fills == 1);
  r.log.flush();
  CHECK(one.got == wire(1, 1));
  r.log.filled(stretch(2, 3, 1, 5));
  CHECK(r.from.fills == 2);  // 4 and 5 are still missing
  r.log.filled(stretch(4, 5, 1, 5));
  r.log.flush();
  CHECK(one.got == wire(1, 5));
  CHECK(r.from.fills == 2);
}

TEST_CASE("a hole that the storage does not fill is not asked for without end") {
  rig r;
  reader one(r.log, 0);
  one.pull();
  r.log.apply("e", made(3));
  r.log.filled(stretch(1, 0, 1, 0));
  CHECK(r.from.fills == 1);
  r.log.apply("e", made(4));
  CHECK(r.from.fills == 2);
  r.log.filled(stretch(1, 4, 1, 4));
  r.log.flush();
  CHECK(one.got == wire(1, 4));
}

TEST_CASE("a hole that was trimmed meanwhile is a gap for everybody") {
  rig r;
  reader one(r.log, 0);
  one.pull();
  r.publish(1, 2);
  r.log.apply("e", made(30));
  r.from.stored = stretch(20, 30, 20, 30);
  r.log.filled(stretch(20, 30, 20, 30));
  r.log.flush();
  CHECK(one.got == wire(1, 2) + "[trimmed 20]" + wire(20, 30));
}

TEST_CASE(
    "a failing read of a hole is told to everybody; then nobody knows where the channel stands, until the storage is "
    "asked again") {
  rig r;
  reader live(r.log, 0), behind(r.log, 0);
  live.pull();
  r.log.apply("e", made(3));
  CHECK(r.log.open());
  r.log.failed(make_error_code(errc::internal));
  CHECK(live.got == "[unreadable]");
  CHECK(behind.got == "[unreadable]");
  CHECK(!r.log.open());
  r.from.stored = stretch(1, 5, 1, 5);

  SECTION("by who comes: what is there is there for everybody") {
    r.log.opened("e", 1, 3);
    r.log.apply("e", made(4));
    r.log.flush();
    CHECK(r.from.reopens == 0);
  }
  SECTION("by the next message, once") {
    r.log.apply("e", made(4));
    r.log.apply("e", made(5));
    CHECK(r.from.reopens == 1);
    r.log.opened("e", 1, 5);
  }
  SECTION("by the next message, each time that it fails") {
    for (int i = 1; i <= 3; ++i) {
      r.log.apply("e", made(4));
      CHECK(r.from.reopens == i);
      r.log.failed(make_error_code(errc::internal));
    }
    live.got = "[unreadable]";
    r.log.opened("e", 1, 5);
  }
  CHECK(r.log.open());
  CHECK(r.from.fills == 1);
  live.pull();
  CHECK(live.got == "[unreadable]" + wire(1, 5));
}

TEST_CASE("a new epoch starts everybody over after what the old one still had") {
  rig r;
  reader live(r.log, 0), half(r.log, 0), waiting(r.log, 0);
  live.pull();
  half.pull();
  half.room = 3;
  r.publish(1, 2);
  r.log.apply("e", made(3));  // not flushed yet
  r.from.stored = stretch(1, 1, 1, 1);
  r.log.apply("f", made(1));
  CHECK(r.from.reopens == 1);
  CHECK(!r.log.open());
  half.room = SIZE_MAX;
  r.log.opened("f", 1, 1);
  CHECK(live.got == wire(1, 3) + "[epoch 1]" + wire(1, 1, "f"));
  CHECK(half.got == "<e.[kept 1:x>][epoch 1]" + wire(1, 1, "f"));
  r.log.apply("f", made(2));
  r.log.flush();
  CHECK(live.got.ends_with(wire(2, 2, "f")));
  CHECK(half.got.ends_with(wire(2, 2, "f")));
}

TEST_CASE("a new epoch begins at a subscriber's floor, also where that is still to come") {
  rig r(9);
  reader all(r.log, 9), some(r.log, 9), few(r.log, 9);
  some.lowest = 3;
  few.lowest = 7;
  for (auto* one : {&all, &some, &few}) one->pull();
  r.from.stored = stretch(1, 5, 1, 5);
  r.log.apply("f", made(5));
  r.log.opened("f", 1, 5);
  r.log.apply("f", made(6));
  r.log.flush();
  r.log.apply("f", made(7));
  r.log.flush();
  CHECK(all.got == "[epoch 1]" + wire(1, 7, "f"));
  CHECK(some.got == "[epoch 3]" + wire(3, 7, "f"));
  CHECK(few.got == "[epoch 7]" + wire(7, 7, "f"));
  CHECK(few.at->live());
}

TEST_CASE("an answer of the old epoch to a read from before a restart reaches nobody") {
  rig r(9);
  reader late(r.log, 3);
  late.pull();
  r.log.apply("f", made(1));
  r.log.opened("f", 1, 1);
  std::string before = late.got;
  CHECK(before == "[epoch 1]");
  late.at->in().loaded(3, stretch(4, 9, 1, 9));
  CHECK(late.got == before);
}

TEST_CASE("messages that come while the storage is asked are kept, whichever epoch turns out to hold") {
  SECTION("they are of the epoch that holds") {
    rig r(2);
    reader one(r.log, 2);
    one.pull();
    r.log.apply("f", made(3));
    r.log.apply("f", made(4));
    CHECK(r.from.reopens == 1);
    r.from.stored = stretch(1, 2, 1, 2);
    r.log.opened("f", 1, 2);
    r.log.flush();
    CHECK(one.got == "[epoch 1]" + wire(1, 4, "f"));
  }
  SECTION("the epoch came and went: they are void") {
    rig r(2);
    reader one(r.log, 2);
    one.pull();
    r.log.apply("f", made(1));
    r.log.opened("g", 1, 0);
    r.log.flush();
    CHECK(one.got == "[epoch 1]");
    CHECK(r.from.reopens == 2);  // or it is newer than what the storage said: asked once more
    r.log.opened("g", 1, 0);
    CHECK(r.from.reopens == 2);
    r.log.apply("g", made(1));
    r.log.flush();
    CHECK(one.got == "[epoch 1]" + wire(1, 1, "g"));
  }
  SECTION("a straggler of an old epoch is void, even where its offset would fit") {
    rig r(2);
    reader one(r.log, 2);
    one.pull();
    r.log.apply("d", made(3));
    r.log.opened("e", 1, 2);
    r.log.opened("e", 1, 2);
    r.publish(3, 3);
    CHECK(one.got == wire(3, 3));
  }
  SECTION("more than are held are read from the storage") {
    rig r(0);
    reader one(r.log, 0);
    one.pull();
    for (std::uint64_t i = 1; i <= 1000; ++i) r.log.apply("f", made(i));
    r.log.opened("f", 1, 0);
    CHECK(r.from.fills == 1);
    r.log.filled(stretch(most_early, 1000, 1, 1000));
    r.log.flush();
    CHECK(one.got == "[epoch 1]" + wire(1, 1000, "f"));
  }
}

TEST_CASE("one that has not begun is given nothing and keeps its lane") {
  rig r;
  reader early(r.log, 0);
  further_subscription waiting(early, r.log.encoded_as(lines));
  waiting.in().add(waiting);
  r.publish(1, 2);
  CHECK(waiting.pending().empty());
  waiting.begin(1);
  CHECK(std::string(waiting.pending().begin(), waiting.pending().end()) == wire(2, 2));
}

TEST_CASE(
    "what lies within its follower finds it there, is nothing once it has left, and may follow something else then") {
  rig r, other;
  struct one final : follower {
    subscription& own() { return first_; }
    void wake(subscription* live) override {
      if (!live) return;
      auto bytes = live->pending();
      got.append(bytes.data(), bytes.size());
      live->advance(bytes.size());
    }
    void settle() override {}
    void lost(subscription&, const gap&) override {}
    void keep(subscription& s, std::string_view rest) override {
      got.append("[kept ").append(rest).append(&s == &own() ? "]" : "!");
    }
    void unreadable(subscription&, std::error_code) override {}
    std::string got;
  } client;
  subscription& own = client.own();
  CHECK_FALSE(own);
  own.enter(r.log.encoded_as(lines), 7, true);
  own.in().add(own, 0);
  further_subscription more(client, other.log.encoded_as(lines));
  more.in().add(more, 0);
  CHECK(&own.to() == &more.to());
  CHECK(own.serial() == 7);
  CHECK(own.named());
  r.publish(1, 2);
  other.publish(1, 1);
  CHECK(client.got == wire(1, 2) + wire(1, 1));

  own.leave();
  CHECK_FALSE(own);
  r.publish(3, 3);
  CHECK(client.got == wire(1, 2) + wire(1, 1));
  client.got.clear();
  other.from.stored = stretch(1, 1, 1, 1);
  own.enter(other.log.encoded_as(lines), 8, false);
  own.in().add(own, 0);
  CHECK_FALSE(own.live());
  own.advance(own.pending().size() - 1);
  own.leave();
  CHECK(client.got == "[kept >]");
}

TEST_CASE("what was read to find the start is sent without being read again") {
  rig r(9);
  reader one(r.log, 4);
  auto read = stretch(5, 9, 1, 9);
  one.at->in().prime(*one.at, read.messages);
  one.pull();
  CHECK(one.got == wire(5, 9));
  CHECK(r.from.loads.empty());
}

TEST_CASE("what was read for another place is not taken for the start") {
  rig r(9);
  reader one(r.log, 4);
  auto read = stretch(7, 9, 1, 9);
  one.at->in().prime(*one.at, read.messages);
  one.pull();
  CHECK(one.got.empty());
  CHECK(r.from.loads == std::vector<std::uint64_t>{4});
}

// ---- live-only

TEST_CASE("a notice is encoded once an encoding, in order with messages, and takes no offset") {
  rig r;
  reader one(r.log, 0), two(r.log, 0), other(r.log, 0, objects);
  for (reader* each : {&one, &two, &other}) each->pull();
  encoded = 0;
  r.log.apply("e", made(1));
  r.log.notice("a", "{}");
  r.log.apply("e", made(2));
  r.log.notice("b", "{}");
  r.log.flush();
  CHECK(encoded == 4);
  CHECK(one.got == "<e.1:x>{a}<e.2:x>{b}");
  CHECK(two.got == one.got);
  CHECK(other.got.find("{a}") == std::string::npos);  // this encoding has no notices
  CHECK(one.at->offset() == 2);
  CHECK(one.at->live());
}

TEST_CASE("who is behind passes over what is live-only, and is told that it missed it when it is live again") {
  rig r;
  reader slow(r.log, 0), quick(r.log, 0);
  slow.pull(), quick.pull();
  slow.room = 0;
  r.publish(1, 1);
  r.log.notice("a", "{}");
  r.log.apply("e", made(2));
  r.log.notice("b", "{}");
  r.log.flush();
  r.log.notice("c", "{}");
  r.log.flush();
  CHECK(quick.got == "<e.1:x>{a}<e.2:x>{b}{c}");
  slow.take(SIZE_MAX);
  CHECK(slow.got == "<e.1:x><e.2:x>[missed]");
  CHECK(slow.at->live());
  r.log.notice("d", "{}");
  r.log.flush();
  CHECK(slow.got == "<e.1:x><e.2:x>[missed]{d}");
  CHECK(r.from.loads.empty());
}

TEST_CASE("a notice at the beginning of a chunk stands for no message of it") {
  rig r;
  reader slow(r.log, 0), quick(r.log, 0);
  slow.pull(), quick.pull();
  slow.room = 0;
  r.publish(1, 1);
  r.publish(2, 2);
  r.log.notice("a", "{}");  // behind 2, in the chunk of 3
  r.publish(3, 3);
  slow.take(wire(1, 1).size());
  slow.take(wire(2, 2).size());
  CHECK(slow.got == wire(1, 2));
  slow.take(SIZE_MAX);
  CHECK(slow.got == wire(1, 3) + "[missed]");
  CHECK(r.from.loads.empty());
}

TEST_CASE("a notice that is half sent goes on, and what is behind it in the chunk is passed over") {
  for (std::size_t cut = 0; cut <= 17; ++cut) {
    INFO(cut << " bytes at first");
    rig r;
    reader one(r.log, 0);
    one.pull();
    r.log.notice("abc", "{}");
    r.log.apply("e", made(1));
    r.log.notice("def", "{}");
    one.room = cut;
    r.log.flush();
    one.take(SIZE_MAX);
    const bool first = cut > 0, whole = cut >= 17, second = cut > 12;
    CHECK(one.got ==
          std::string(first ? "{abc}" : "") + "<e.1:x>" + (second ? "{def}" : "") + (whole ? "" : "[missed]"));
    CHECK(one.at->live());
    CHECK(one.at->offset() == 1);
  }
}

TEST_CASE("an ephemeral message is for everybody but its sender, who has all else of that turn in order") {
  rig r;
  reader sender(r.log, 0), other(r.log, 0), raw(r.log, 0, objects);
  sender.sits_at(5);
  other.sits_at(6);
  raw.sits_at(7);
  for (reader* each : {&sender, &other, &raw}) each->pull();
  r.log.apply("e", made(1));
  r.log.ephemeral(made(0, "mine"), 5);
  r.log.notice("a", "{}");
  r.log.ephemeral(made(0, "theirs"), 6);
  r.log.apply("e", made(2));
  r.log.ephemeral(made(0, "nobody's"));
  r.log.flush();
  CHECK(sender.got == "<e.1:x>{a}<e.0:theirs><e.2:x><e.0:nobody's>");
  CHECK(other.got == "<e.1:x><e.0:mine>{a}<e.2:x><e.0:nobody's>");
  CHECK(raw.got.find("mine") != std::string::npos);
  CHECK(sender.at->live());
  CHECK(other.at->live());
  r.log.ephemeral(made(0, "again"), 5);  // nothing but it in the turn
  r.log.flush();
  CHECK(sender.got == "<e.1:x>{a}<e.0:theirs><e.2:x><e.0:nobody's>");
  CHECK(other.got.ends_with("<e.0:again>"));
  CHECK(sender.at->live());
}

TEST_CASE("for a reader who takes nothing, what is live-only costs nothing but the news that it was missed") {
  rig r;
  reader slow(r.log, 0), quick(r.log, 0);
  slow.pull(), quick.pull();
  slow.room = 0;
  for (int i = 0; i < 1000; ++i) {
    r.log.ephemeral(made(0, std::string(1000, 'y')));
    r.log.flush();
  }
  CHECK(slow.at->holding());  // the one chunk in which it stopped
  slow.take(SIZE_MAX);
  CHECK(slow.got == "[missed]");
  CHECK(slow.at->live());
}

TEST_CASE("what another hub tells waits for the message behind which it stands") {
  rig r;
  reader one(r.log, 0);
  one.pull();
  r.log.apply(live_event{"e", 0, "now"});
  r.log.apply(live_event{"e", 2, "behind two"});
  CHECK(r.from.fills == 1);  // it says that there is something
  r.publish(1, 1);
  CHECK(one.got == "{now}<e.1:x>");
  r.publish(2, 3);
  CHECK(one.got == "{now}<e.1:x><e.2:x>{behind two}<e.3:x>");
  r.log.apply(live_event{"e", 2, "late"});
  r.log.flush();
  CHECK(one.got.ends_with("<e.3:x>{late}"));
  r.log.apply(live_event{"other", 1, "of another life"});
  r.log.flush();
  CHECK(one.got.ends_with("{late}{missed}"));
}

TEST_CASE("of what waits for its message only so much is held; the rest is missed, and said to be") {
  for (std::size_t over : {0u, 1u}) {
    rig r;
    reader one(r.log, 0);
    one.pull();
    for (std::size_t i = 0; i < most_held_live + over; ++i) r.log.apply(live_event{"e", 1, "x"});
    r.log.flush();
    CHECK(one.got == (over ? "{missed}" : ""));
    one.got.clear();
    r.publish(1, 1);
    std::string all = "<e.1:x>";
    for (std::size_t i = 0; i < most_held_live; ++i) all += "{x}";
    CHECK(one.got == all);
  }
  for (std::size_t over : {0u, 1u}) {
    rig r;
    reader one(r.log, 0);
    one.pull();
    r.log.apply(live_event{"e", 1, std::string(most_held_live_bytes - 1 + over, 'x')});
    r.log.apply(live_event{"e", 1, "y"});
    r.log.flush();
    CHECK(one.got == (over ? "{missed}" : ""));
  }
}

TEST_CASE("what comes before the storage has told where the channel stands is held, and told in its order") {
  source from;
  auto owned = channel_log::make(from, "c");
  channel_log& log = *owned;
  reader one(log, 4);
  log.apply(live_event{"e", 5, "a"});
  log.apply(live_event{"old", 5, "b"});
  log.apply("e", made(6));
  from.stored = stretch(5, 6, 1, 6);
  log.opened("e", 1, 5);
  one.pull();
  log.flush();
  CHECK(one.got == wire(5, 6) + "[missed]");
}

TEST_CASE("a log lists the sessions that follow it, and one that only begins is none of them") {
  rig r;
  reader one(r.log, 0);
  CHECK(r.log.sessions().empty());  // it serves no session
}
