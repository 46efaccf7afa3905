// SPDX-License-Identifier: BSL-1.0
#include "hailwire/hub.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "detail/connection/open_storage.hpp"
#include "hailwire/storage/memory.hpp"
#include "hailwire/testing/manual_loop.hpp"
#include "storage/host_storage.hpp"

using namespace hailwire;

namespace {

using lines = std::vector<std::string>;

constexpr proto::encoding short_form{
    "short", false,
    [](std::string& out, const proto::envelope& e) {
      out.append("<")
          .append(e.epoch)
          .append(".")
          .append(std::to_string(e.content.offset))
          .append(" ")
          .append(e.content.data.bytes())
          .append(">");
    },
    [](std::string& out, std::string_view, std::string_view json) { out.append(json); }};

std::string text(const std::error_code& ec) {
  return !ec ? "ok" : ec == operation_aborted() ? "aborted" : std::string(code_name(wire_code(ec)));
}
std::string text(const position& p) { return p.epoch + '.' + std::to_string(p.offset); }
std::string text(const result<follow_start>& r) {
  if (!r) return std::string(code_name(r.error().code));
  return text(r->at) +
         (r->recovered ? "" : (r->lost.epoch_changed ? " epoch " : " trimmed ") + std::to_string(r->lost.next));
}
std::string text(const history_result& r) {
  if (r.error) return text(r.error);
  std::string out = r.epoch + ':';
  for (const auto& m : r.messages) out += ' ' + std::to_string(m.offset);
  return out + (r.more ? " more" : "");
}

/// A client that takes everything at once, unless `shut`. What it is told stands in `got`.
struct client final : session {
  explicit client(hub& h, grant g = {}, std::string_view transport = "websocket") : there(&h), how(transport) {
    h.enter(*this);
    open(std::move(g));
  }
  ~client() override {
    leave();
    there->forget(*this);
    there->leave(*this);
  }
  void open(grant g = {}) {
    if (there->open(*this, std::move(g), "phone", how != "post")) mine = this, key = session::key();
  }
  void leave() {
    if (mine) there->close(*std::exchange(mine, nullptr));
  }
  /// How following began, as text; empty while it is not known.
  const std::string& follow(const std::string& channel, start from = start::latest()) {
    began[channel].clear();
    there->subscriptions.add(*mine, channel, from, true, [this, channel](result<follow_start> r) {
      CHECK(began[channel].empty());
      began[channel] = text(r);
      if (r && !r->recovered) there->subscriptions.find(*mine, channel)->tell_lost(r->lost);
      if (r) there->turn.request_wake(*this);
    });
    return began[channel];
  }
  std::string take() { return std::exchange(got, {}); }

  void pull(detail::subscription& s) {
    for (bool more = true; more;) {
      auto bytes = s.pending();
      if (bytes.empty()) return;
      std::size_t n = shut ? 0 : bytes.size();
      largest = std::max(largest, n);
      got.append(bytes.data(), n);
      more = !shut && !s.live();
      s.advance(n);
    }
  }
  void wake(detail::subscription* live) override {
    if (live) return pull(*live);
    for (const auto& c : mine->channels()) pull(*there->subscriptions.find(*mine, c));
  }
  void settle() override { ++settled; }
  void lost(detail::subscription&, const detail::gap& g) override {
    got += (g.epoch_changed ? "[epoch " : "[trimmed ") + std::to_string(g.next) + "]";
  }
  void keep(detail::subscription&, std::string_view rest) override { got.append("[kept ").append(rest).append("]"); }
  void missed(detail::subscription&) override { got += "[missed]"; }
  void unreadable(detail::subscription&, std::error_code) override { got += "[unreadable]"; }
  std::error_code notice(std::string_view name, std::string_view json) override {
    if (deaf) return errc::overloaded;
    notices.push_back(std::string(name) + ' ' + std::string(json));
    return {};
  }
  void end(errc why, std::uint16_t code, std::string_view reason) override {
    ended.push_back(std::string(code_name(why)) + ' ' + std::to_string(code) + ' ' + std::string(reason));
  }
  bool ending() const noexcept override { return false; }
  bool adjustable() const noexcept override { return streams; }
  bool duplex() const noexcept override { return transport() == "websocket"; }
  std::uint64_t floor(const detail::subscription& s) const noexcept override {
    return mine->permissions().floor_of(s.in().log().name());
  }

  hub& at() const noexcept override { return *there; }
  std::string_view transport() const noexcept override { return how; }
  const proto::encoding& encoding() const noexcept override { return short_form; }

  hub* there;
  std::string_view how;
  session* mine = nullptr;  // null while it has none
  session_key key;
  std::map<std::string, std::string> began;
  std::string got;
  lines notices, ended;
  int settled = 0;
  std::size_t largest = 0;  // of what it was given at a time
  bool shut = false, deaf = false, streams = true;
};

struct rig {
  explicit rig(const options& o = {}) : h(loop, detail::erase_storage(store), o) {}
  testing::manual_loop loop;
  stage::open_storage store;
  lines done;  // of publishes and histories, in order; the hub says something to the end
  hub h;

  publish_handler note() {
    return [this](std::error_code ec, position p) { done.push_back(ec ? text(ec) : text(p)); };
  }
  std::error_code publish(const std::string& channel, payload p = payload::json("1"), publish_options o = {}) {
    return h.publish(channel, std::move(p), std::move(o), note());
  }
  void fill(const std::string& channel, int n) {
    for (int i = 1; i <= n; ++i) CHECK_FALSE(h.publish(channel, payload::json(std::to_string(i))));
    loop.run();
  }
  std::string history(const std::string& channel, history_query q, std::uint64_t floor = 1) {
    std::string out;
    h.history(channel, std::move(q), floor, [&](history_result r) { out = text(r); });
    return out;
  }
  lines take() { return std::exchange(done, {}); }
};

history_query after(std::uint64_t offset, std::size_t limit = 50) {
  return {.after = offset, .limit = limit, .from_start = true};
}
history_query before(std::uint64_t offset, std::size_t limit = 50) { return {.before = offset, .limit = limit}; }

}  // namespace

// ---- publishing

TEST_CASE("a publish is told its position, each channel counting for itself") {
  rig r;
  CHECK_FALSE(r.publish("a"));
  CHECK_FALSE(r.publish("a"));
  CHECK_FALSE(r.publish("b"));
  CHECK(r.take() == lines{"a-1.1", "a-1.2", "b-1.1"});
}

TEST_CASE("what cannot be published is refused by its own word, and nothing is stored") {
  options o;
  o.max_payload = 10;
  rig r(o);
  auto refused = [&](const std::string& channel, payload p, publish_options with = {}) {
    CHECK_FALSE(r.publish(channel, std::move(p), std::move(with)));
    REQUIRE(r.done.size() == 1);
    return r.take()[0];
  };
  CHECK(refused("", payload::json("1")) == "bad_request");
  CHECK(refused("a\nb", payload::json("1")) == "bad_request");
  CHECK(refused(std::string(256, 'a'), payload::json("1")) == "bad_request");
  CHECK(refused("a", payload::json("{")) == "bad_request");
  CHECK(refused("a", payload::json("")) == "bad_request");
  CHECK(refused("a", payload::json("1"), {.type = std::string(65, 't')}) == "bad_request");
  CHECK(refused("a", payload::json("1"), {.type = "\x01"}) == "bad_request");
  CHECK(refused("a", payload::json("1"), {.key = std::string(65, 'k')}) == "bad_request");
  CHECK(refused("a", payload::json("1"), {.key = "a b"}) == "bad_request");
  CHECK(refused("a", payload::text("\xFF")) == "unsupported_media");
  CHECK(refused("a", payload::binary("12345678901")) == "too_large");
  CHECK(refused("a", payload::text("1234567890")) == "a-1.1");
}

TEST_CASE("a channel's own largest payload holds for the host too, its publishes a second for clients alone") {
  options o;
  o.max_payload = 10;
  o.channels = {{.pattern = "small-*", .max_payload = 3, .publishes_per_second = 2},
                {.pattern = "large", .max_payload = 11}};
  rig r(o);
  for (auto& [channel, most] : {std::pair("small-a", 3), std::pair("large", 11), std::pair("other", 10)}) {
    for (int size : {most - 1, most, most + 1})
      CHECK_FALSE(r.publish(channel, payload::binary(std::string(static_cast<std::size_t>(size), 'x'))));
    CHECK(r.take() == lines{channel + std::string("-1.1"), channel + std::string("-1.2"), "too_large"});
  }
  for (int i = 0; i < 10; ++i) CHECK_FALSE(r.publish("small-a"));
  CHECK(r.take().back() == "small-a-1.12");
}

TEST_CASE("a rule about what is kept holds for its channels where the storage can do so, and else is refused") {
  options o;
  o.channels = {{.pattern = "few*", .keep = {.messages = 5}}};
  testing::manual_loop loop;
  {
    memory_storage store;
    hub h(loop, detail::erase_storage(store), o);
    for (int i = 0; i < 20; ++i)
      for (const char* channel : {"few", "few/a", "all"}) CHECK_FALSE(h.publish(channel, payload::json("1")));
    CHECK(store.read("few", 0, {}).oldest == 16);
    CHECK(store.read("few/a", 0, {}).oldest == 16);
    CHECK(store.read("all", 0, {}).oldest == 1);
  }
  stage::open_storage bare;
  CHECK_THROWS_AS(hub(loop, detail::erase_storage(bare), o), std::invalid_argument);
  o.channels = {{.pattern = ""}};
  CHECK_THROWS_AS(rig(o), std::invalid_argument);
  o.channels = {{.pattern = "a"}};
  CHECK_NOTHROW(rig(o));
}

TEST_CASE("what the hub holds is the sum of its sessions, channels and tails, and nothing of it is left") {
  rig r;
  CHECK(r.h.memory_held() == 0);
  auto fast = std::make_unique<client>(r.h), slow = std::make_unique<client>(r.h);
  fast->follow("a");
  slow->follow("a");
  r.loop.run();
  const std::size_t idle = 2 * (bytes_per_session + bytes_per_subscription) + bytes_per_channel;
  CHECK(r.h.memory_held() == idle);
  CHECK_FALSE(r.publish("a", payload::binary(std::string(1000, 'x'))));
  r.loop.run();
  CHECK(r.h.memory_held() == idle);  // nobody is behind
  slow->shut = true;
  for (int i = 0; i < 5; ++i) {
    CHECK_FALSE(r.publish("a", payload::binary(std::string(1000, 'x'))));
    r.loop.run();
  }
  CHECK(r.h.memory_held() > idle + 5000);
  SECTION("when it catches up") {
    slow->shut = false;
    r.h.turn.request_wake(*slow);
    r.loop.run();
    CHECK_FALSE(r.publish("a"));
    r.loop.run();
    CHECK(r.h.memory_held() == idle);
  }
  SECTION("when it goes") {
    slow.reset();
    CHECK(r.h.memory_held() == idle - bytes_per_session - bytes_per_subscription);
  }
  SECTION("when it follows more") {
    fast->follow("b");
    r.loop.run();
    const std::size_t more = r.h.memory_held();
    CHECK(r.h.subscriptions.remove(*fast, "b"));
    CHECK(r.h.memory_held() < more);
  }
  SECTION("when its tail is cut") {
    for (int i = 0; i < 3000; ++i) {
      CHECK_FALSE(r.publish("a", payload::binary(std::string(1000, 'x'))));
      r.loop.run();
    }
    CHECK(r.h.memory_held() <= idle + detail::tail_limit);
  }
  slow.reset();
  fast.reset();
  r.loop.advance(5'000);
  CHECK(r.h.memory_held() == 0);
}

TEST_CASE("above its memory the hub takes no new sessions, and those that there are go on") {
  options o;
  o.max_memory = 2 * bytes_per_session;
  rig r(o);
  client a(r.h), b(r.h), c(r.h), command(r.h, {}, "post");
  CHECK(a.mine != nullptr);
  CHECK(b.mine != nullptr);
  CHECK(c.mine == nullptr);
  CHECK(command.mine != nullptr);
  a.leave();
  c.open();
  CHECK(c.mine != nullptr);
  b.follow("a");
  r.loop.run();
  CHECK_FALSE(r.publish("a"));
  r.loop.run();
  CHECK(b.take() == "<a-1.1 1>");
}

// ---- channels of which the newest message matters, and those that are given at intervals

TEST_CASE("of a channel's last value each follower gets the newest, whatever came in between, and no gap") {
  options o;
  o.channels = {{.pattern = "price", .last_value = true}};
  rig r(o);
  client fast(r.h), slow(r.h);
  fast.follow("price");
  slow.follow("price");
  for (int i = 1; i <= 3; ++i) CHECK_FALSE(r.publish("price", payload::json(std::to_string(i))));
  r.loop.run();
  CHECK(fast.take() == "<price-1.3 3>");
  CHECK(slow.take() == "<price-1.3 3>");
  slow.shut = true;
  for (int i = 4; i <= 2000; ++i) {  // more than what is kept for who is behind, and than the storage keeps
    CHECK_FALSE(r.publish("price", payload::json('"' + std::string(1000, 'x') + std::to_string(i) + '"')));
    if (i % 3 == 0) r.loop.run();
    CHECK(fast.take().find("[") == std::string::npos);
  }
  CHECK_FALSE(r.publish("price", payload::json("2001")));
  r.loop.run();
  CHECK(fast.take().ends_with("<price-1.2001 2001>"));
  CHECK(slow.take().empty());
  slow.shut = false;
  r.h.turn.request_wake(slow);
  r.loop.run();
  CHECK(slow.take() == "<price-1.2001 2001>");
  CHECK_FALSE(r.publish("price", payload::json("2002")));
  r.loop.run();
  CHECK(slow.take() == "<price-1.2002 2002>");
}

TEST_CASE("who follows a last value begins with it, from wherever") {
  options o;
  o.channels = {{.pattern = "price*", .last_value = true}};
  rig r(o);
  r.fill("price", 9);
  const bool somebody_follows = GENERATE(false, true);
  client there(r.h);
  if (somebody_follows) there.follow("price"), r.loop.run(), there.take();
  struct from {
    start at;
    const char *begins, *gets;
  };
  for (const from& f :
       {from{start::latest(), "price-1.8", "<price-1.9 9>"}, from{start::earliest(), "price-1.8", "<price-1.9 9>"},
        from{start::after({"price-1", 3}), "price-1.8", "<price-1.9 9>"},
        from{start::after({"price-1", 8}), "price-1.8", "<price-1.9 9>"},
        from{start::after({"price-1", 9}), "price-1.9", ""},
        from{start::after({"price-1", 10}), "price-1.8 epoch 9", "[epoch 9]<price-1.9 9>"},
        from{start::after({"another", 3}), "price-1.8 epoch 9", "[epoch 9]<price-1.9 9>"}}) {
    client c(r.h);
    CHECK(c.follow("price", f.at) == f.begins);
    r.loop.run();
    CHECK(c.take() == f.gets);
  }
  client empty(r.h);
  CHECK(empty.follow("price-of-nothing") == "price-of-nothing-1.0");
  r.loop.run();
  CHECK(empty.take().empty());
}

TEST_CASE("an entry says of a channel whether its newest message is all that matters") {
  std::string plain, conflated;
  append_entry(plain, {{"e", 3}, true, {}, false});
  append_entry(conflated, {{"e", 3}, true, {}, true});
  CHECK(plain == R"({"epoch":"e","offset":3,"recovered":true})");
  CHECK(conflated == R"({"epoch":"e","offset":3,"recovered":true,"conflated":true})");
}

TEST_CASE("a channel is given at most once in its time: together what has come, or the newest") {
  const bool last_value = GENERATE(false, true);
  options o;
  o.channels = {{.pattern = "paced", .last_value = last_value, .at_most_every = std::chrono::milliseconds(1000)}};
  rig r(o);
  client c(r.h);
  c.follow("paced");
  r.loop.advance(1);
  auto publish = [&](int n) {
    CHECK_FALSE(r.publish("paced", payload::json(std::to_string(n))));
    r.loop.run();
  };
  publish(1);
  CHECK(c.take() == "<paced-1.1 1>");
  publish(2);
  r.loop.advance(500);
  publish(3);
  r.loop.advance(499);
  CHECK(c.take().empty());
  r.loop.advance(1 + 300);  // the timer wheel may ring so much later
  CHECK(c.take() == (last_value ? "<paced-1.3 3>" : "<paced-1.2 2><paced-1.3 3>"));
  publish(4);
  CHECK(c.take().empty());
  r.loop.advance(1'300);
  CHECK(c.take() == "<paced-1.4 4>");
  r.loop.advance(5'000);
  publish(5);
  CHECK(c.take() == "<paced-1.5 5>");
  SECTION("who leaves meanwhile takes nothing along") {
    publish(6);
    c.leave();
    r.loop.advance(5'000);
    CHECK(r.h.channel_count() == 0);
  }
  SECTION("nor does a hub that stops") {
    publish(6);
    r.h.stop();
    r.loop.advance(5'000);
  }
}

TEST_CASE("channels that are given at intervals do not wait for one another") {
  options o;
  o.channels = {{.pattern = "often", .at_most_every = std::chrono::milliseconds(1000)},
                {.pattern = "seldom", .at_most_every = std::chrono::milliseconds(5000)}};
  rig r(o);
  client c(r.h);
  c.follow("seldom");
  c.follow("often");
  for (const char* channel : {"seldom", "often"})
    for (int i = 1; i <= 2; ++i) {
      CHECK_FALSE(r.publish(channel));
      r.loop.run();
    }
  CHECK(c.take() == "<seldom-1.1 1><often-1.1 1>");
  r.loop.advance(1'300);
  CHECK(c.take() == "<often-1.2 1>");
  r.loop.advance(3'600);
  CHECK(c.take().empty());
  r.loop.advance(500);
  CHECK(c.take() == "<seldom-1.2 1>");
}

TEST_CASE("line breaks between a JSON payload's tokens become spaces, all else travels as it came") {
  rig r;
  client c(r.h);
  c.follow("a");
  r.publish("a", payload::json("{\r\n \"a\" : 1.0e1,\n\"a\":\"\\n\" }"));
  r.publish("a", payload::text("two\r\nlines"));
  r.loop.run();
  CHECK(c.take() == "<a-1.1 {   \"a\" : 1.0e1, \"a\":\"\\n\" }><a-1.2 two\r\nlines>");
}

TEST_CASE("a storage's error is the publish's, and the next one is not held back by it") {
  rig r;
  r.store.failing = std::make_error_code(std::errc::no_space_on_device);
  r.publish("a");
  r.store.failing = errc::overloaded;
  r.publish("a");
  r.store.failing = {};
  r.publish("a");
  CHECK(r.take() == lines{"internal", "overloaded", "a-1.1"});
}

TEST_CASE("a publish of another thread happens on the hub's loop, where its handler is called once") {
  rig r;
  client c(r.h);
  c.follow("a");
  std::thread([&] {
    CHECK_FALSE(r.publish("a", payload::json("1")));
    CHECK_FALSE(r.publish("a", payload::json("2")));
  }).join();
  CHECK(r.done.empty());
  r.loop.run();
  CHECK(r.take() == lines{"a-1.1", "a-1.2"});
  CHECK(c.take() == "<a-1.1 1><a-1.2 2>");
}

TEST_CASE(
    "a publish of another thread is pending until it is answered, also while a storage that answers at once has it") {
  struct watching : host_storage {
    hub* of = nullptr;
    std::vector<std::size_t> pending;
    std::uint64_t append(std::string_view channel, const draft& d) {
      pending.push_back(of->pending_count());
      return host_storage::append(channel, d);
    }
  } store;
  testing::manual_loop loop;
  hub h(loop, detail::erase_storage(store), {});
  store.of = &h;
  std::size_t answered = 99;
  CHECK_FALSE(h.publish("a", payload::json("1")));
  std::thread([&] {
    CHECK_FALSE(h.publish("a", payload::json("2")));
    CHECK_FALSE(
        h.publish("a", payload::json("3"), {}, [&](std::error_code, position) { answered = h.pending_count(); }));
    CHECK_FALSE(h.publish("a", payload::json("{")));  // refused on the loop, and nobody hears
  }).join();
  CHECK(h.pending_count() == 3);
  loop.run();
  CHECK(store.pending == std::vector<std::size_t>{0, 3, 2});
  CHECK(answered == 1);
  CHECK(h.pending_count() == 0);
}

TEST_CASE("past max_pending a publish is overloaded at once, until one is done") {
  options o;
  o.max_pending = 3;
  rig r(o);
  r.store.holding = true;
  for (int i = 0; i < 3; ++i) CHECK_FALSE(r.publish("a"));
  CHECK(r.publish("a") == errc::overloaded);
  std::thread([&] { CHECK(r.publish("b") == errc::overloaded); }).join();
  CHECK(r.done.empty());
  r.store.answer(1);
  r.loop.run();
  CHECK(r.take() == lines{"a-1.1"});
  CHECK_FALSE(r.publish("a"));
  CHECK(r.publish("a") == errc::overloaded);
  r.store.answer();
  r.loop.run();
  CHECK(r.take() == lines{"a-1.2", "a-1.3", "a-1.4"});
  CHECK_FALSE(r.publish("a"));
  r.h.history("a", {}, 1, [&](history_result h) { r.done.push_back("history " + text(h)); });
  r.h.history("a", {}, 1, [&](history_result h) { r.done.push_back("history " + text(h)); });
  CHECK(r.history("a", {}) == "overloaded");  // what reads waits there too
  CHECK(r.publish("a") == errc::overloaded);
  r.store.answer();
  r.loop.run();
  CHECK(r.take() == lines{"a-1.5", "history a-1: 1 2 3 4 5", "history a-1: 1 2 3 4 5"});
  // Those that were refused for what they are take no place.
  for (int i = 0; i < 10; ++i) CHECK_FALSE(r.publish(""));
  CHECK_FALSE(r.publish("a"));
}

TEST_CASE("the publisher hears of its message before it hears the message") {
  rig r;
  client c(r.h);
  c.follow("a");
  CHECK_FALSE(r.h.publish("a", payload::json("1"), {}, [&](std::error_code, position) { c.got += "(stored)"; }));
  r.loop.run();
  CHECK(c.take() == "(stored)<a-1.1 1>");
}

TEST_CASE("a handler may publish, follow and unfollow") {
  rig r;
  client c(r.h);
  std::ignore = r.h.publish("a", payload::json("1"), {}, [&](std::error_code, position) {
    c.follow("a");
    r.publish("a", payload::json("2"));
    r.h.subscriptions.remove(*c.mine, "a");
    c.follow("a");
    r.publish("a", payload::json("3"));
  });
  r.loop.run();
  CHECK(c.take() == "<a-1.3 3>");
}

TEST_CASE("a handler that publishes or reads again, as often as it likes, does not fill the stack") {
  testing::manual_loop loop;
  memory_storage store(memory_options{.messages = 10});
  hub h(loop, detail::erase_storage(store), {});
  int told = 0, wrong = 0;
  // Not the address of a variable, which a sanitizer may keep elsewhere.
  char* const top = static_cast<char*>(__builtin_frame_address(0));
  char* lowest = top;
  auto deep = [&] { lowest = std::min(lowest, static_cast<char*>(__builtin_frame_address(0)), std::less<char*>()); };
  std::function<void(std::error_code, position)> next = [&](std::error_code ec, const position& at) {
    deep();
    if (ec || at.offset != static_cast<std::uint64_t>(++told)) ++wrong;
    if (told < 100'000 && h.publish("a", payload::json("1"), {}, next)) ++wrong;
  };
  CHECK_FALSE(h.publish("a", payload::json("1"), {}, next));
  loop.run();
  CHECK(told == 100'000);
  CHECK(wrong == 0);
  CHECK(top - lowest < 256 * 1024);

  int pages = 0;
  lowest = top;
  std::function<void(history_result)> page = [&](const history_result& r) {
    deep();
    if (r.error || r.messages.size() != 10) ++wrong;
    if (++pages < 100'000) h.history("a", {}, 1, page);
  };
  h.history("a", {}, 1, page);
  loop.run();
  CHECK(pages == 100'000);
  CHECK(wrong == 0);
  CHECK(top - lowest < 256 * 1024);
  CHECK(h.pending_count() == 0);
}

TEST_CASE("what handlers publish is stored in the order in which it was published, however deep they stand") {
  rig r;
  client c(r.h);
  c.follow("a");
  std::string said;
  std::function<void(int)> descend = [&](int depth) {
    auto publish = [&](const std::string& what, publish_handler done) {
      said += what + ' ';
      CHECK_FALSE(r.h.publish("a", payload::json(what), {}, std::move(done)));
    };
    publish(std::to_string(depth), [&, depth](std::error_code ec, const position&) {
      CHECK_FALSE(ec);
      if (depth < 40) descend(depth + 1);
      CHECK_FALSE(r.h.publish("a", payload::json("\"again\"")));
      said += "\"again\" ";
    });
  };
  descend(1);
  r.loop.run();
  std::string heard;
  for (const std::string& bytes = c.got; const char letter : bytes) heard += letter;
  std::string plain;
  for (std::size_t at = 0; (at = heard.find(' ', at)) != heard.npos; ++at)
    plain += heard.substr(at + 1, heard.find('>', at) - at - 1) + ' ';
  CHECK(plain == said);
}

TEST_CASE("a hub that stops while a handler's publish waits for the loop says so to its handler") {
  rig r;
  lines said;
  std::function<void(int)> descend = [&](int depth) {
    auto ec = r.h.publish("a", payload::json("1"), {}, [&, depth](std::error_code why, const position&) {
      if (why) return said.push_back(std::to_string(depth) + ' ' + text(why));
      descend(depth + 1);
    });
    if (ec) said.push_back("refused");
  };
  descend(1);
  CHECK(said.empty());
  CHECK(r.h.pending_count() == 1);
  r.h.stop();
  REQUIRE(said.size() == 1);
  CHECK(said[0].ends_with(" aborted"));
}

// ---- what is logged

TEST_CASE("a storage's failures are logged with their own text, each kind one time in ten seconds") {
  struct failing_storage : host_storage {
    std::uint64_t append(std::string_view, const draft&) { throw std::runtime_error("the disk is\non fire"); }
    read_result read(std::string_view, std::uint64_t, read_limit) { throw std::runtime_error("so is the other"); }
  } store;
  testing::manual_loop loop;
  hub h(loop, detail::erase_storage(store), {});
  lines logged;
  h.log().set([&](const log_record& r) { logged.push_back(std::string(r.event) + ": " + std::string(r.text)); },
              log_level::info);
  client c(h);
  auto publish = [&] {
    CHECK_FALSE(
        h.publish("a", payload::json("1"), {}, [](std::error_code ec, position) { CHECK(ec == errc::internal); }));
  };
  publish();
  CHECK(logged == lines{"storage_failed: an append to \"a\" failed: the disk is on fire"});
  for (int i = 0; i < 99; ++i) publish();
  CHECK(logged.size() == 1);
  CHECK(c.follow("b") == "internal");
  CHECK(c.follow("b") == "internal");
  h.history("c", {}, 1, [](const history_result& r) { CHECK(r.error == errc::internal); });
  REQUIRE(logged.size() == 2);
  CHECK(logged[1] == "storage_failed: a read of \"b\" failed: so is the other");
  loop.advance(9'999);
  publish();
  CHECK(logged.size() == 2);
  loop.advance(1);
  publish();
  REQUIRE(logged.size() == 3);
  CHECK(logged[2] ==
        "storage_failed: an append to \"a\" failed: the disk is on fire (and 100 more since the record before)");
}

TEST_CASE("a storage that answers later is heard as well, by its exception or by its code") {
  rig r;
  std::vector<std::pair<std::string, std::error_code>> logged;
  r.h.log().set([&](const log_record& l) { logged.emplace_back(l.text, l.code); }, log_level::error);
  r.store.failing = std::make_error_code(std::errc::no_space_on_device);
  r.publish("a");
  client c(r.h);
  c.follow("a");
  REQUIRE(logged.size() == 2);
  CHECK(logged[0].first == "an append to \"a\" failed: No space left on device");
  CHECK(logged[0].second == std::errc::no_space_on_device);
  CHECK(logged[1].first == "a read of \"a\" failed: No space left on device");
  // What is the publisher's own fault is not the storage's.
  r.loop.advance(20'000);
  for (errc own : {errc::conflict, errc::too_large}) {
    r.store.failing = own;
    r.publish("a");
  }
  CHECK(logged.size() == 2);

  struct throwing {
    void async_append(std::string_view, draft, append_handler) { throw std::runtime_error("not today"); }
    void async_read(std::string_view, std::uint64_t, read_limit, read_handler) { throw std::runtime_error("nor this"); }
  } none;
  hub h(r.loop, detail::erase_storage(none), {});
  h.log().set([&](const log_record& l) { logged.emplace_back(l.text, l.code); }, log_level::error);
  CHECK_FALSE(
      h.publish("a", payload::json("1"), {}, [](std::error_code ec, position) { CHECK(ec == errc::internal); }));
  h.history("a", {}, 1, [](const history_result& got) { CHECK(got.error == errc::internal); });
  REQUIRE(logged.size() == 4);
  CHECK(logged[2].first == "an append to \"a\" failed: not today");
  CHECK(logged[3].first == "a read of \"a\" failed: nor this");
}

TEST_CASE("a storage whose offsets do not rise by one is told of, and neither stops its followers nor deceives them") {
  struct odd_storage {
    std::uint64_t next = 0, shown = 0;  // what an append answers; the offset of the last message that is read
    std::vector<message> log;
    std::uint64_t append(std::string_view, const draft& d) {
      log.push_back({log.size() + 1, d.at, d.from, d.type, d.data});
      return next;
    }
    read_result read(std::string_view, std::uint64_t since, read_limit limit) {
      read_result r;
      r.messages = log;
      r.head = log.size();
      if (r.head && shown) r.messages.back().offset = r.head = shown;
      std::erase_if(r.messages, [&](const message& m) { return m.offset <= since; });
      if (limit.messages == 0) r.messages.clear();
      return r;
    }
  } store;
  testing::manual_loop loop;
  hub h(loop, detail::erase_storage(store), {});
  lines logged, done;
  h.log().set([&](const log_record& r) { logged.push_back(std::string(r.event) + ": " + std::string(r.text)); },
              log_level::error);
  auto publish = [&](std::uint64_t answer) {
    store.next = answer;
    CHECK_FALSE(h.publish("a", payload::json(std::to_string(answer)), {}, [&](std::error_code ec, const position& at) {
      done.push_back(ec ? text(ec) : std::to_string(at.offset));
    }));
    loop.run();
    loop.advance(10'000);
  };
  publish(0);
  CHECK(done == lines{"internal"});
  CHECK(logged == lines{"storage_disorder: the storage counts \"a\" by other steps than one: 0 comes after 0"});
  store = {};
  logged.clear();
  done.clear();
  client c(h);
  CHECK(c.follow("a").ends_with(".0"));
  const std::string epoch = c.began["a"].substr(0, c.began["a"].size() - 2);
  publish(1);
  publish(1);  // no step
  CHECK(done == lines{"1", "internal"});
  REQUIRE(logged.size() == 1);
  CHECK(logged[0] == "storage_disorder: the storage counts \"a\" by other steps than one: 1 comes after 1");
  CHECK(c.take() == '<' + epoch + ".1 1>");
  store.log.pop_back();
  store.shown = 4;
  publish(4);  // a step of three: 2 and 3 are nowhere
  CHECK(done.back() == "4");
  REQUIRE(logged.size() == 2);
  CHECK(logged[1] == "storage_disorder: the storage counts \"a\" by other steps than one: 4 comes after 1");
  CHECK(c.take() == "[trimmed 4]<" + epoch + ".4 4>");
}

TEST_CASE("a publish that is refused and has no handler to hear it is logged") {
  rig r;
  lines logged;
  r.h.log().set([&](const log_record& l) { logged.push_back(std::string(l.event) + ": " + std::string(l.text)); },
                log_level::warning);
  r.publish("a\nb");  // has a handler
  CHECK(logged.empty());
  CHECK_FALSE(r.h.publish("a\nb", payload::json("1")));
  CHECK_FALSE(r.h.publish("a", payload::json("{")));
  CHECK(logged == lines{"publish_failed: a publish to \"a b\" was refused: malformed request"});
  r.loop.advance(10'000);
  CHECK_FALSE(r.h.publish("a", payload::text("\xFF")));
  REQUIRE(logged.size() == 2);
  CHECK(logged[1] ==
        "publish_failed: a publish to \"a\" was refused: unsupported media (and 1 more since the record before)");
  // A log that publishes what it is told does not hear of it again.
  lines told;
  r.h.log().set(
      [&](const log_record& l) {
        told.emplace_back(l.event);
        CHECK_FALSE(r.h.publish("log\n", payload::text(std::string(l.text))));
      },
      log_level::warning);
  r.loop.advance(10'000);
  CHECK_FALSE(r.h.publish("", payload::json("1")));
  CHECK(told == lines{"publish_failed"});
}

// ---- keys

TEST_CASE("a key that the hub keeps: the same payload is stored once, another one is a conflict") {
  rig r;
  r.publish("a", payload::json("1"), {.key = "k"});
  r.publish("a", payload::json("1"), {.key = "k"});
  r.publish("a", payload::json("2"), {.key = "k"});
  r.publish("a", payload::text("1"), {.key = "k"});
  r.publish("a", payload::binary("1"), {.key = "k"});
  r.publish("b", payload::json("2"), {.key = "k"});  // another channel's
  r.publish("a", payload::json("2"), {.key = "l"});
  CHECK(r.take() == lines{"a-1.1", "a-1.1", "conflict", "conflict", "conflict", "b-1.1", "a-1.2"});

  r.publish("a", payload::binary("1", "image/png"), {.key = "m"});
  r.publish("a", payload::binary("1", "image/png"), {.key = "m"});
  r.publish("a", payload::binary("1", "image/gif"), {.key = "m"});
  r.publish("a", payload::binary("1"), {.key = "m"});
  CHECK(r.take() == lines{"a-1.3", "a-1.3", "conflict", "conflict"});
}

TEST_CASE("those who come with a key while it is being stored share what becomes of it") {
  rig r;
  r.store.holding = true;
  r.publish("a", payload::json("1"), {.key = "k"});
  r.publish("a", payload::json("1"), {.key = "k"});
  r.publish("a", payload::json("2"), {.key = "k"});
  CHECK(r.take() == lines{"conflict"});
  r.store.answer();
  r.loop.run();
  CHECK(r.take() == lines{"a-1.1", "a-1.1"});

  SECTION("a failure too, and then the key is free again") {
    r.publish("a", payload::json("3"), {.key = "l"});
    r.publish("a", payload::json("3"), {.key = "l"});
    r.store.failing = errc::overloaded;
    r.store.answer();
    r.store.failing = {};
    CHECK(r.take() == lines{"overloaded", "overloaded"});
    r.publish("a", payload::json("4"), {.key = "l"});
    r.store.answer();
    CHECK(r.take() == lines{"a-1.2"});
  }
}

TEST_CASE("the hub keeps a key for five minutes and then lets it go") {
  rig r;
  r.publish("a", payload::json("1"), {.key = "k"});
  r.loop.advance(5 * 60'000 - 1);
  r.publish("a", payload::json("1"), {.key = "k"});
  r.loop.advance(200);
  r.publish("a", payload::json("1"), {.key = "k"});
  CHECK(r.take() == lines{"a-1.1", "a-1.1", "a-1.2"});
}

TEST_CASE("keys are a user's own; an anonymous client's count only where the host tells clients apart") {
  rig r;
  auto publish = [&](grant g, const std::string& json) {
    client c(r.h, std::move(g));
    r.h.publisher.publish_for(
        *c.mine, "a", r.h.publisher.prefetch("a"), payload::json(json), {.key = "k"}, true,
        [note = r.note()](result<position> at) mutable { at ? note({}, std::move(*at)) : note(at.error().code, {}); });
    return r.take();
  };
  CHECK(publish({.user = "ada"}, "1") == lines{"a-1.1"});
  CHECK(publish({.user = "ada"}, "1") == lines{"a-1.1"});
  CHECK(publish({.user = "ada"}, "2") == lines{"conflict"});
  CHECK(publish({.user = "bob"}, "2") == lines{"a-1.2"});
  CHECK(publish({}, "1") == lines{"a-1.3"});
  CHECK(publish({}, "1") == lines{"a-1.4"});
  CHECK(publish({.key_scope = "cookie 1"}, "1") == lines{"a-1.5"});
  CHECK(publish({.key_scope = "cookie 1"}, "1") == lines{"a-1.5"});
  CHECK(publish({.key_scope = "cookie 2"}, "1") == lines{"a-1.6"});
  CHECK(publish({.key_scope = "ada"}, "1") == lines{"a-1.7"});  // no scope is a user's
}

TEST_CASE("keyed publishes of one user or scope within a key's life are bounded, and told honestly when to come back") {
  options o;
  o.max_keys_per_user = 3;
  testing::manual_loop loop;
  stage::open_storage own;  // keeps no keys
  memory_storage keeping;   // keeps them
  const bool kept_here = GENERATE(true, false);
  hub h(loop, kept_here ? detail::erase_storage(own) : detail::erase_storage(keeping), o);
  std::string said;
  auto publish = [&](grant g, const std::string& key, std::string channel = "a", std::string json = "1") {
    client c(h, std::move(g));
    said.clear();
    h.publisher.publish_for(*c.mine, std::move(channel), h.publisher.prefetch("a"), payload::json(json), {.key = key},
                            true, [&](result<position> at) {
                              said = at ? std::to_string(at->offset)
                                        : std::string(code_name(at.error().code)) + ' ' +
                                              std::to_string(at.error().retry_after);
                            });
    return said;
  };
  loop.advance(29'000);
  CHECK(publish({.user = "ada"}, "1") == "1");
  loop.advance(100'000);
  CHECK(publish({.user = "ada"}, "2") == "2");
  CHECK(publish({.user = "ada"}, "2") == "2");  // known: nothing more is kept
  CHECK(publish({.user = "ada"}, "2", "a", "2") == "conflict 0");
  CHECK(publish({.user = "ada"}, "3", "other") == "1");
  std::string refused = publish({.user = "ada"}, "4");
  CHECK(refused.starts_with("rate_limited "));
  CHECK(publish({.user = "ada"}, "2") == "2");  // a repeat is answered at the bound too
  CHECK(publish({.user = "ada"}, "2", "a", "2") == "conflict 0");
  CHECK(publish({.user = "ada"}, "2", "other").starts_with("rate_limited "));  // another channel's is another key
  CHECK(publish({.user = "ada"}, "") == "3");                                  // without a key nothing is kept
  CHECK(publish({.user = "bob"}, "1") == "4");
  CHECK(publish({.key_scope = "ada"}, "1") == "5");
  CHECK_FALSE(h.publish("a", payload::json("1"), {.key = "of-the-host"},
                        [&](std::error_code ec, position) { CHECK_FALSE(ec); }));
  const int seconds = std::stoi(refused.substr(13));
  CHECK(seconds <= 300);
  CHECK(seconds >= 300 - 101);
  loop.advance(seconds * 1000 - 1001);
  CHECK(publish({.user = "ada"}, "4").starts_with("rate_limited "));
  loop.advance(1001);
  CHECK(publish({.user = "ada"}, "4") == "7");
  CHECK(publish({.user = "ada"}, "5").starts_with("rate_limited "));
}

// ---- following

TEST_CASE("following begins where it is told to, and says where that is") {
  rig r;
  r.fill("a", 3);
  auto all = [&](start from) {
    client c(r.h);
    auto began = c.follow("a", from);
    r.loop.run();
    r.publish("a", payload::json("9"));
    r.loop.run();
    auto got = c.take();
    auto head = r.done.back();
    return began + ' ' + got.substr(0, got.rfind('<'));
  };
  CHECK(all(start::latest()) == "a-1.3 ");
  CHECK(all(start::after({"a-1", 4})) == "a-1.4 ");
  CHECK(all(start::after({"a-1", 2})) == "a-1.2 <a-1.3 3><a-1.4 9><a-1.5 9>");
  CHECK(all(start::after({"a-1", 0})) == "a-1.0 <a-1.1 1><a-1.2 2><a-1.3 3><a-1.4 9><a-1.5 9><a-1.6 9>");
  CHECK(all(start::after({"a-1", 99})) ==
        "a-1.0 epoch 1 [epoch 1]<a-1.1 1><a-1.2 2><a-1.3 3><a-1.4 9><a-1.5 9><a-1.6 9><a-1.7 9>");
  CHECK(all(start::after({"z-9", 1})).starts_with("a-1.0 epoch 1 [epoch 1]<a-1.1 1>"));
  r.store.trim("a", 2);
  CHECK(all(start::earliest()) == "a-1.7 <a-1.8 9><a-1.9 9>");
  r.store.trim("a", 2);
  CHECK(all(start::after({"a-1", 3})) == "a-1.8 trimmed 9 [trimmed 9]<a-1.9 9><a-1.10 9>");
  // A device that has received nothing stands before the first.
  CHECK(all({start::word::received, {}}) == "a-1.8 trimmed 9 [trimmed 9]<a-1.9 9><a-1.10 9><a-1.11 9>");
  CHECK(all(start::after({"a-1", 8})) == "a-1.8 <a-1.9 9><a-1.10 9><a-1.11 9><a-1.12 9>");
}

TEST_CASE("replay, then live is one step, whenever the storage answers and whatever is published meanwhile") {
  // Ten publishes and one follow from 3, in every order of asking and answering.
  for (int asked_at = 0; asked_at <= 10; ++asked_at) {
    for (int answered_at = asked_at; answered_at <= 11; ++answered_at) {
      for (bool flushed : {false, true}) {
        rig r;
        r.fill("a", 5);
        client live(r.h), c(r.h);
        live.follow("a");
        r.store.holding = true;
        bool asked = false;
        std::size_t backlog = 0;
        for (int i = 0; i <= 10; ++i) {
          if (i == asked_at) {
            c.follow("a", start::after({"a-1", 3}));
            asked = true;
            backlog = r.store.asked();
          }
          if (asked && i == answered_at) r.store.answer(backlog);
          if (i < 10) r.publish("a", payload::json(std::to_string(i + 6)));
          if (i % 3 == 2) r.store.answer(1);
          if (flushed) r.loop.run();
        }
        while (r.store.asked()) r.store.answer(), r.loop.run();
        r.loop.run();
        std::string expected, heard;
        for (int i = 4; i <= 15; ++i) expected += "<a-1." + std::to_string(i) + ' ' + std::to_string(i) + '>';
        INFO("asked at " << asked_at << ", answered at " << answered_at << (flushed ? ", flushed" : ""));
        CHECK(c.began["a"] == "a-1.3");
        CHECK(c.take() == expected);
        CHECK(live.take() == expected.substr(expected.find("<a-1.6")));
      }
    }
  }
}

TEST_CASE("a follow that cannot be says why") {
  options o;
  o.max_channels = 2;
  rig r(o);
  client c(r.h);
  CHECK(c.follow("") == "bad_request");
  CHECK(c.follow("a") == "a-1.0");
  CHECK(c.follow("a") == "bad_request");
  r.store.failing = errc::overloaded;
  CHECK(c.follow("b") == "overloaded");
  r.store.failing = std::make_error_code(std::errc::io_error);
  CHECK(c.follow("b") == "internal");
  CHECK(c.mine->channels() == lines{"a"});  // what failed takes no place
  r.store.failing = {};
  CHECK(c.follow("b") == "b-1.0");
  CHECK(c.follow("c") == "bad_request");
  CHECK(c.mine->channels() == lines{"a", "b"});
}

TEST_CASE(
    "a channel that is unfollowed before the storage has answered is told as forbidden, a session that left not at "
    "all") {
  rig r;
  r.store.holding = true;
  client stays(r.h), leaves(r.h);
  stays.follow("a");
  leaves.follow("a");
  CHECK(r.h.subscriptions.remove(*stays.mine, "a"));
  leaves.leave();
  r.store.answer();
  r.loop.run();
  CHECK(stays.began["a"] == "forbidden");
  CHECK(leaves.began["a"].empty());
  r.publish("a");
  r.store.answer();
  r.loop.run();
  CHECK(stays.take().empty());
}

TEST_CASE("a channel followed again before the first follow was answered is answered for both") {
  rig r;
  r.fill("a", 2);
  r.store.holding = true;
  client c(r.h);
  lines told;
  auto note = [&](const char* which) {
    return [&told, which](result<follow_start> f) { told.push_back(which + text(f)); };
  };
  r.h.subscriptions.add(*c.mine, "a", start::earliest(), true, note("first "));
  r.h.subscriptions.remove(*c.mine, "a");
  r.h.subscriptions.add(*c.mine, "a", start::earliest(), true, note("second "));
  r.store.answer();
  r.loop.run();
  REQUIRE(told.size() == 2);
  std::sort(told.begin(), told.end());
  CHECK(told == lines{"first forbidden", "second a-1.0"});
  r.h.turn.request_wake(c);
  r.loop.run();
  CHECK(c.take() == "<a-1.1 1><a-1.2 2>");
}

TEST_CASE("after unfollow nothing of the channel comes, and other channels go on") {
  rig r;
  client c(r.h);
  c.follow("a");
  c.follow("b");
  r.publish("a", payload::json("1"));
  r.publish("b", payload::json("2"));
  CHECK(r.h.subscriptions.remove(*c.mine, "a"));  // in the same turn, before anything is sent
  CHECK_FALSE(r.h.subscriptions.remove(*c.mine, "a"));
  CHECK_FALSE(r.h.subscriptions.remove(*c.mine, "never"));
  r.loop.run();
  CHECK(c.take() == "<b-1.1 2>");
}

TEST_CASE("what retention passes while a client is slow is a gap, what it does not is read from the storage") {
  rig r;
  client c(r.h);
  c.follow("a");
  c.shut = true;
  auto publish_large = [&](int n) {
    for (int i = 0; i < n; ++i) r.publish("a", payload::json('"' + std::string(300'000, 'x') + '"')), r.loop.run();
  };
  auto take = [&] {
    std::string got = c.take();
    std::erase_if(got, [](char letter) { return letter == 'x' || letter == '"'; });
    return got;
  };
  publish_large(8);  // more than is kept in memory
  c.shut = false;
  r.h.turn.request_wake(c);
  r.loop.run();
  CHECK(take() == "<a-1.1 ><a-1.2 ><a-1.3 ><a-1.4 ><a-1.5 ><a-1.6 ><a-1.7 ><a-1.8 >");

  c.shut = true;
  publish_large(8);
  r.store.trim("a", 3);
  c.shut = false;
  r.h.turn.request_wake(c);
  r.loop.run();
  CHECK(take() == "[trimmed 14]<a-1.14 ><a-1.15 ><a-1.16 >");
}

TEST_CASE("a storage that changes its epoch starts everybody over, with a gap") {
  rig r;
  r.fill("a", 3);
  client c(r.h);
  c.follow("a", start::after({"a-1", 1}));
  r.loop.run();
  CHECK(c.take() == "<a-1.2 2><a-1.3 3>");
  r.store.restart("a");
  r.publish("a", payload::json("4"));
  r.loop.run();
  CHECK(c.take() == "[epoch 1]<a-2.1 4>");
  CHECK(c.follow("a") == "bad_request");  // it is followed still
}

TEST_CASE("a storage that fails while a client reads on is told to it") {
  rig r;
  client c(r.h);
  c.follow("a");
  c.shut = true;
  for (int i = 0; i < 5; ++i) r.publish("a", payload::json('"' + std::string(300'000, 'x') + '"')), r.loop.run();
  c.shut = false;
  r.store.failing = errc::internal;
  r.h.turn.request_wake(c);
  r.loop.run();
  CHECK(c.take() == "[unreadable]");
}

TEST_CASE("what is below a floor stays hidden: at the start, live, and in a new epoch") {
  rig r;
  r.fill("a", 5);
  auto with = [](std::uint64_t floor) {
    grant g;
    g.floors = {{"other", 9}, {"a", floor}};
    return g;
  };
  SECTION("below the head it is a trimmed gap") {
    client c(r.h, with(4));
    CHECK(c.follow("a", start::after({"a-1", 1})) == "a-1.3 trimmed 4");
    r.loop.run();
    CHECK(c.take() == "[trimmed 4]<a-1.4 4><a-1.5 5>");
    client d(r.h, with(4));
    CHECK(d.follow("a", start::earliest()) == "a-1.3");
    client e(r.h, with(4));
    CHECK(e.follow("a", start::after({"a-1", 3})) == "a-1.3");
    client f(r.h, with(4));
    CHECK(f.follow("a", start::after({"z", 1})) == "a-1.3 epoch 4");
  }
  SECTION("above the head it hides what is still to come") {
    client now(r.h, with(8)), all(r.h, with(8)), back(r.h, with(8)), wrong(r.h, with(8)), other(r.h);
    CHECK(other.follow("a") == "a-1.5");
    CHECK(now.follow("a") == "a-1.7");
    CHECK(all.follow("a", start::earliest()) == "a-1.7");
    CHECK(back.follow("a", start::after({"a-1", 7})) == "a-1.7");
    CHECK(wrong.follow("a", start::after({"a-1", 8})) == "a-1.7 epoch 8");
    r.loop.run();
    CHECK(wrong.take() == "[epoch 8]");
    client behind(r.h, with(8));
    CHECK(behind.follow("a", start::after({"a-1", 5})) == "a-1.7 trimmed 8");
    r.loop.run();
    CHECK(behind.take() == "[trimmed 8]");
    for (int i = 6; i <= 9; ++i) {
      r.publish("a", payload::json(std::to_string(i)));
      if (i != 7) r.loop.run();
    }
    for (auto* c : {&now, &all, &back, &wrong, &behind}) CHECK(c->take() == "<a-1.8 8><a-1.9 9>");
    CHECK(other.take() == "<a-1.6 6><a-1.7 7><a-1.8 8><a-1.9 9>");
  }
  SECTION("a first follower of a channel that nobody else follows") {
    client c(r.h, with(7));
    r.store.holding = true;
    c.follow("a");
    r.store.holding = false;
    r.store.answer();
    CHECK(c.began["a"] == "a-1.6");
    r.publish("a", payload::json("6"));
    r.publish("a", payload::json("7"));
    r.loop.run();
    CHECK(c.take() == "<a-1.7 7>");
  }
  SECTION("in a new epoch it is the same floor") {
    client c(r.h, with(3)), other(r.h);
    c.follow("a");
    other.follow("a");
    r.store.restart("a");
    for (int i = 1; i <= 4; ++i) r.publish("a", payload::json(std::to_string(i))), r.loop.run();
    CHECK(other.take() == "[epoch 1]<a-2.1 1><a-2.2 2><a-2.3 3><a-2.4 4>");
    CHECK(c.take() == "[epoch 3]<a-2.3 3><a-2.4 4>");
  }
}

// ---- epochs of the hub's own

TEST_CASE("a storage without epochs has the hub's: one for each channel, the same for all who ask, new with each hub") {
  std::set<std::string> seen;
  host_storage store;
  for (int life = 0; life < 2; ++life) {
    testing::manual_loop loop;
    hub h(loop, detail::erase_storage(store), {});
    for (std::string channel : {"a", "b"}) {
      position stored;
      std::string read;
      std::ignore = h.publish(channel, payload::json("1"), {}, [&](std::error_code ec, position p) {
        CHECK_FALSE(ec);
        stored = p;
      });
      h.history(channel, {}, 1, [&](history_result r) { read = r.epoch; });
      client c(h);
      c.follow(channel);
      CHECK(c.began[channel] == text(stored));
      CHECK(read == stored.epoch);
      CHECK(valid_epoch(read));
      CHECK(read.size() == 12);
      CHECK(seen.insert(read).second);
      CHECK(stored.offset == static_cast<std::uint64_t>(life) + 1);  // the second hub goes on where the storage stands
      loop.run();
    }
  }
}

namespace {

/// Names an epoch from a channel's first message on, and none before.
struct late_epoch_storage : host_storage {
  std::string life = "E";
  position append(std::string_view channel, const draft& d) { return {life, host_storage::append(channel, d)}; }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    read_result r = host_storage::read(channel, since, limit);
    if (r.head) r.epoch = life;
    return r;
  }
};

}  // namespace

TEST_CASE("the first epoch that a storage names goes on from the one that the hub had made up for the empty channel") {
  testing::manual_loop loop;
  late_epoch_storage store;
  hub h(loop, detail::erase_storage(store), {});
  client early(h);
  const std::string own = early.follow("a");
  REQUIRE(own.ends_with(".0"));
  REQUIRE(own != "E.0");
  auto publish = [&] { CHECK_FALSE(h.publish("a", payload::json("1"))); };
  SECTION("with a publish here") {
    publish();
    publish();
    loop.run();
    CHECK(early.take() == "<E.1 1><E.2 1>");
  }
  SECTION("with messages that the storage got from elsewhere, of which the second is seen first") {
    draft d;
    d.data = payload::json("1");
    store.append("a", d);
    publish();
    loop.run();
    CHECK(early.take() == "<E.1 1><E.2 1>");
  }
  SECTION("where it is read before anything comes") {
    draft d;
    d.data = payload::json("1");
    store.append("a", d);
    client late(h);
    CHECK(late.follow("a", start::earliest()) == "E.0");
    loop.run();
    CHECK(late.take() == "<E.1 1>");
    publish();
    loop.run();
    CHECK(early.take() == "<E.1 1><E.2 1>");
  }
  SECTION("who comes back with the epoch that was made up has lost nothing") {
    loop.run();
    early.leave();
    publish();
    client back(h);
    const position at{own.substr(0, own.size() - 2), 0};
    CHECK(back.follow("a", start::after(at)) == "E.0");
    loop.run();
    CHECK(back.take() == "<E.1 1>");
    client wrong(h);
    CHECK(wrong.follow("a", start::after({at.epoch, 1})) == "E.0 epoch 1");
  }
  SECTION("a change of epochs later on is a gap as ever") {
    publish();
    loop.run();
    early.take();
    store.life = "F";
    publish();
    loop.run();
    CHECK(early.take() == "[epoch 1]<F.1 1><F.2 1>");
  }
}

TEST_CASE("a position of an earlier life of a storage without epochs is a gap, never a silent loss") {
  host_storage store;
  std::string old;
  {
    testing::manual_loop loop;
    hub h(loop, detail::erase_storage(store), {});
    std::ignore = h.publish("a", payload::json("1"), {}, [&](std::error_code, position p) { old = p.epoch; });
  }
  testing::manual_loop loop;
  hub h(loop, detail::erase_storage(store), {});
  client c(h);
  CHECK(c.follow("a", start::after({old, 1})).ends_with(".0 epoch 1"));
}

// ---- history

TEST_CASE("history: after an offset, before one, or the newest; oldest first, and whether there is more that way") {
  rig r;
  r.fill("a", 9);
  CHECK(r.history("a", {}) == "a-1: 1 2 3 4 5 6 7 8 9");
  CHECK(r.history("a", {.limit = 3}) == "a-1: 7 8 9 more");
  CHECK(r.history("a", after(0, 3)) == "a-1: 1 2 3 more");
  CHECK(r.history("a", after(6, 3)) == "a-1: 7 8 9");
  CHECK(r.history("a", after(9)) == "a-1:");
  CHECK(r.history("a", after(99)) == "a-1:");
  CHECK(r.history("a", before(4)) == "a-1: 1 2 3");
  CHECK(r.history("a", before(4, 2)) == "a-1: 2 3 more");
  CHECK(r.history("a", before(1)) == "a-1:");
  CHECK(r.history("a", before(10, 2)) == "a-1: 8 9 more");
  CHECK(r.history("a", before(11, 2)) == "a-1: 8 9 more");
  CHECK(r.history("a", before(1000, 2)) == "a-1: 8 9 more");
  CHECK(r.history("a", before(max_offset, 1)) == "a-1: 9 more");
  CHECK(r.history("never", {}) == "never-1:");
  CHECK(r.history("never", before(5)) == "never-1:");
}

TEST_CASE("history knows of retention and of floors") {
  rig r;
  r.fill("a", 9);
  r.store.trim("a", 5);  // 5 to 9
  CHECK(r.history("a", {}) == "a-1: 5 6 7 8 9");
  CHECK(r.history("a", after(0, 2)) == "a-1: 5 6 more");
  CHECK(r.history("a", before(7)) == "a-1: 5 6");
  CHECK(r.history("a", before(5)) == "a-1:");
  CHECK(r.history("a", before(3)) == "a-1:");
  CHECK(r.history("a", {}, 7) == "a-1: 7 8 9");
  CHECK(r.history("a", {.limit = 1}, 8) == "a-1: 9 more");
  CHECK(r.history("a", after(0), 8) == "a-1: 8 9");
  CHECK(r.history("a", before(9), 8) == "a-1: 8");
  CHECK(r.history("a", before(8), 8) == "a-1:");
  CHECK(r.history("a", before(1000, 1), 8) == "a-1: 9 more");
  CHECK(r.history("a", {}, 20) == "a-1:");
}

TEST_CASE("history of another epoch is not found, and what is asked for wrongly is said so") {
  rig r;
  r.fill("a", 2);
  CHECK(r.history("a", {.epoch = "a-1"}) == "a-1: 1 2");
  CHECK(r.history("a", {.epoch = "a-2"}) == "not_found");
  CHECK(r.history("", {}) == "bad_request");
  CHECK(r.history("a", {.limit = 0}) == "bad_request");
  CHECK(r.history("a", {.limit = 1001}) == "bad_request");
  r.store.failing = errc::overloaded;
  CHECK(r.history("a", {}) == "overloaded");
}

TEST_CASE(
    "history is at most a mebibyte, the part next to where was asked, and never nothing when there is something") {
  rig r;
  for (int i = 0; i < 6; ++i) r.publish("a", payload::text(std::string(300'000, 'x')));
  CHECK(r.history("a", after(0)) == "a-1: 1 2 3 more");
  CHECK(r.history("a", before(6)).ends_with(" 5 more"));
  CHECK(r.history("a", {}).ends_with(" 6 more"));
  std::size_t got = 0;
  for (std::uint64_t at = 7; at > 1;) {  // page by page backwards: all of them, once
    std::vector<message> page;
    r.h.history("a", before(at), 1, [&](history_result h) { page = std::move(h.messages); });
    REQUIRE_FALSE(page.empty());
    REQUIRE(page.back().offset == at - 1);
    got += page.size();
    at = page.front().offset;
  }
  CHECK(got == 6);
}

// ---- sessions

TEST_CASE("sessions are found by user and by key; a key means one session for ever") {
  rig r;
  client a(r.h, {.user = "ada"}), b(r.h, {.user = "ada"}, "sse"), c(r.h);
  CHECK(r.h.session_count() == 3);
  CHECK(r.h.sessions() == std::vector<session*>{a.mine, b.mine, c.mine});
  auto ada = r.h.find("ada");
  CHECK(std::set<session*>(ada.begin(), ada.end()) == std::set<session*>{a.mine, b.mine});
  CHECK(r.h.find("").empty());
  CHECK(r.h.find("bob").empty());
  CHECK(r.h.find(b.key) == b.mine);
  CHECK(b.mine->device() == "phone");
  CHECK(b.mine->transport() == "sse");
  auto first = b.key;
  b.leave();
  CHECK(r.h.find(first) == nullptr);
  CHECK(r.h.find("ada") == std::vector<session*>{a.mine});
  b.open();  // again on the same connection, with the same slot and another key
  CHECK(b.key.slot == first.slot);
  CHECK(r.h.find(first) == nullptr);
  CHECK(r.h.find(b.key) == b.mine);
  auto gone = client(r.h).key;
  CHECK(r.h.find(gone) == nullptr);
  client d(r.h);  // takes the place of the one that has gone, not its key
  CHECK(d.key.slot == gone.slot);
  CHECK(r.h.find(gone) == nullptr);
  CHECK(r.h.find(d.key) == d.mine);
  CHECK(r.h.registry().entered() == std::vector<session*>{&a, &b, &c, &d});
}

TEST_CASE("each of many users is found, with all sessions, while others come and go") {
  rig r;
  std::map<std::string, std::vector<std::unique_ptr<client>>> all;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 300; ++i) {
      std::string name = "user " + std::to_string(i);
      auto& mine = all[name];
      if (i % 3 == round) {
        for (auto& c : mine) c->leave();
        mine.clear();
      } else {
        mine.push_back(std::make_unique<client>(r.h, grant{.user = name}));
      }
    }
    for (auto& [name, mine] : all) {
      std::set<session*> expected;
      for (auto& c : mine) expected.insert(c->mine);
      auto found = r.h.find(name);
      CHECK(found.size() == expected.size());
      CHECK(std::set<session*>(found.begin(), found.end()) == expected);
    }
  }
}

TEST_CASE("a session that only brings commands is not listed and takes no place of those that are") {
  options o;
  o.max_sessions = 1;
  rig r(o);
  client a(r.h, {.user = "ada"});
  CHECK(client(r.h).mine == nullptr);
  client commands(r.h, {.user = "ada"}, "post");
  REQUIRE(commands.mine);
  CHECK(r.h.session_count() == 1);
  CHECK(r.h.find("ada") == std::vector<session*>{a.mine});
  a.leave();
  CHECK(client(r.h).mine != nullptr);
}

TEST_CASE("session ids are 11 letters, no two alike, and are not a counter") {
  rig r;
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    client c(r.h);
    auto id = c.mine->id();
    CHECK(id.size() == 11);
    CHECK(std::all_of(id.begin(), id.end(), [](char letter) { return proto::is_token_letter(letter); }));
    CHECK(seen.insert(id).second);
  }
  rig other;
  client c(other.h);
  CHECK(seen.insert(c.mine->id()).second);
}

TEST_CASE("a session carries the host's own object, of one type, for as long as it lives") {
  rig r;
  static int alive;
  alive = 0;
  struct counted {
    counted() { ++alive; }
    ~counted() { --alive; }
    int visits = 0;
  };
  client c(r.h);
  CHECK(alive == 0);
  c.mine->data<counted>().visits = 3;
  CHECK(c.mine->data<counted>().visits == 3);
  CHECK(alive == 1);
  CHECK_THROWS_AS(c.mine->data<int>(), std::bad_cast);
  c.leave();
  CHECK(alive == 0);
}

TEST_CASE("the host has a session follow: it is told, its grant is not asked, and what comes first is told first") {
  rig r;
  r.fill("a", 2);
  r.store.trim("a", 1);
  client c(r.h);
  CHECK_FALSE(c.mine->follow("a", start::after({"a-1", 0})));
  r.loop.run();
  CHECK(c.notices == lines{"followed {\"a\":{\"epoch\":\"a-1\",\"offset\":1,\"recovered\":false}}"});
  CHECK(c.take() == "[trimmed 2]<a-1.2 2>");
  CHECK(c.mine->follow("a") == errc::bad_request);
  CHECK(c.mine->follow("") == errc::bad_request);
  c.streams = false;
  CHECK(c.mine->follow("b") == errc::bad_request);
}

TEST_CASE("a client that cannot be told what it follows is closed") {
  rig r;
  client c(r.h), raw(r.h);
  c.follow("a");
  raw.follow("a");
  c.deaf = raw.deaf = true;
  raw.streams = false;
  SECTION("a channel that it should have heard of") {
    CHECK_FALSE(c.mine->follow("b"));
    CHECK(c.ended == lines{"overloaded 1013 too much is unsent"});
  }
  SECTION("a channel that was taken away") {
    CHECK_FALSE(c.mine->unfollow("a"));
    CHECK(c.ended == lines{"overloaded 1013 too much is unsent"});
    CHECK_FALSE(raw.mine->unfollow("a"));
    CHECK(raw.ended == lines{"forbidden 4403 the channel may not be followed any more"});
  }
}

TEST_CASE("the host takes a channel away, also before it was there") {
  rig r;
  client c(r.h);
  c.follow("a");
  CHECK_FALSE(c.mine->unfollow("a"));
  CHECK(c.notices == lines{"closed {\"channel\":\"a\",\"code\":\"forbidden\"}"});
  CHECK(c.mine->unfollow("a") == errc::not_found);
  r.store.holding = true;
  CHECK_FALSE(c.mine->follow("b"));
  CHECK_FALSE(c.mine->unfollow("b"));
  r.store.answer();
  r.loop.run();
  CHECK(c.notices.back() == "closed {\"channel\":\"b\",\"code\":\"forbidden\"}");
  CHECK(c.notices.size() == 2);
  CHECK(c.ended.empty());
}

TEST_CASE("a channel that the host wants followed and that cannot be read ends the session") {
  rig r;
  client c(r.h);
  r.store.failing = errc::internal;
  CHECK_FALSE(c.mine->follow("a"));
  CHECK(c.ended == lines{"forbidden 1011 a channel could not be followed"});
}

TEST_CASE("a host's notices have names of their own and carry JSON") {
  options o;
  o.max_unsent = 100;
  rig r(o);
  client c(r.h);
  CHECK_FALSE(c.mine->send("weather", "{\"rain\":true}"));
  CHECK(c.notices == lines{"weather {\"rain\":true}"});
  for (const char* name : {"", "open", "gap", "reply", "ping", "bye", "messages", "a b", "a\"b"})
    CHECK(c.mine->send(name, "1") == errc::bad_request);
  CHECK(c.mine->send(std::string(65, 'n'), "1") == errc::bad_request);
  CHECK(c.mine->send("weather", "{") == errc::bad_request);
  CHECK(c.mine->send("weather", std::string(101, '1')) == errc::too_large);
  c.deaf = true;
  CHECK(c.mine->send("weather", "1") == errc::overloaded);
}

// ---- turns, brokers, the end

TEST_CASE("what one turn publishes leaves in one wake, then come those who asked to be woken, then those who settle") {
  rig r;
  client c(r.h), d(r.h);
  c.follow("a");
  r.loop.run();
  for (int i = 0; i < 5; ++i) r.publish("a");
  r.h.turn.request_settle(c);
  r.h.turn.request_settle(d);
  r.h.forget(d);
  CHECK(c.take().empty());
  r.loop.run();
  CHECK(c.take() == "<a-1.1 1><a-1.2 1><a-1.3 1><a-1.4 1><a-1.5 1>");
  CHECK(c.settled == 1);
  CHECK(d.settled == 0);
}

TEST_CASE("a turn that grows large is sent before it ends") {
  rig r;
  client c(r.h);
  c.follow("a");
  r.loop.run();
  r.publish("a", payload::text(std::string(detail::early_flush, 'x')));
  CHECK_FALSE(c.take().empty());
}

TEST_CASE("a timer armed through the hub rings the loop's alarm, also when it is armed for earlier than another one") {
  rig r;
  struct noting final : detail::timer {
    std::int64_t at = 0;
    void expire(std::int64_t now) override { at = now; }
  } late, soon;
  auto now = r.loop.now();
  r.h.arm(late, now + 60'000);
  r.h.arm(soon, now + 1000);
  r.loop.advance(1100);
  CHECK(soon.at == now + 1000);
  CHECK(late.at == 0);
  r.loop.advance(60'000);
  CHECK(late.at == now + 60'000);
}

namespace {
/// A storage that tells other hubs of what it was given.
struct announcing : stage::open_storage {
  static constexpr bool announces = true;
};

/// A broker in a test's hands: what a hub says is noted, what others say is given to it.
struct wire {
  broker_receiver receive;
  lines said, told;
  std::uint64_t attach(broker_receiver r) {
    receive = std::move(r);
    said.push_back("attach");
    return 7;
  }
  void detach(std::uint64_t id) { said.push_back("detach " + std::to_string(id)); }
  void subscribe(std::uint64_t id, std::string_view channel) {
    if (channel.front() == 0) return;  // the hubs' own
    said.push_back("subscribe " + std::to_string(id) + ' ' + std::string(channel));
  }
  void unsubscribe(std::uint64_t id, std::string_view channel) {
    said.push_back("unsubscribe " + std::to_string(id) + ' ' + std::string(channel));
  }
  void publish(std::uint64_t id, std::string_view channel, std::string_view epoch, const message& m) {
    said.push_back("publish " + std::to_string(id) + ' ' + std::string(channel) + ' ' + std::string(epoch) + '.' +
                   std::to_string(m.offset));
  }
  void tell(std::uint64_t id, std::string_view channel, const live_event& e) {
    if (channel.front() == 0) return;
    said.push_back("tell " + std::to_string(id) + ' ' + std::string(channel) + ' ' + std::string(e.epoch) + '.' +
                   std::to_string(e.after));
    told.emplace_back(e.bytes);
  }
  void hear(std::string_view channel, std::string_view epoch, const message& m) { receive({channel, epoch, &m}); }
  void hear(std::string_view channel, const live_event& e) { receive({channel, {}, nullptr, &e}); }
  lines take() { return std::exchange(said, {}); }
};
}  // namespace

TEST_CASE("a hub tells its broker what it follows and publishes, and hears what others publish; holes are read") {
  wire w;
  {
    rig r;
    r.h.join(detail::erase_broker(w));
    client c(r.h), d(r.h);
    c.follow("a");
    d.follow("a");
    CHECK(w.take() == lines{"attach", "subscribe 7 a"});
    r.publish("a", payload::json("1"));
    r.publish("b", payload::json("1"));
    CHECK(w.take() == lines{"publish 7 a a-1.1", "publish 7 b b-1.1"});

    // Another hub has stored 2 to 4; the broker has lost 2 and 3 and repeats 4.
    for (int i = 2; i <= 4; ++i)
      r.store.async_append("a", {.at = 0, .from = {}, .type = {}, .data = payload::json(std::to_string(i)), .key = {}},
                           [](append_result) {});
    message m;
    m.offset = 4;
    m.data = payload::json("4");
    w.hear("a", "a-1", m);
    w.hear("a", "a-1", m);
    w.hear("nobody follows this", "x", m);
    r.loop.run();
    CHECK(c.take() == "<a-1.1 1><a-1.2 2><a-1.3 3><a-1.4 4>");
    CHECK(d.take() == "<a-1.1 1><a-1.2 2><a-1.3 3><a-1.4 4>");

    c.leave();
    CHECK(w.take().empty());
    d.leave();
    CHECK(w.take().empty());  // somebody may be back soon
    r.loop.advance(3000);
    CHECK(w.take() == lines{"unsubscribe 7 a"});

    client e(r.h);
    e.follow("quiet");
    CHECK(w.take() == lines{"subscribe 7 quiet"});
    e.leave();
    CHECK(w.take() == lines{"unsubscribe 7 quiet"});
  }
  CHECK(w.take() == lines{"detach 7"});
}

TEST_CASE(
    "a notice for a channel is for all who are in sync, here and at other hubs, which are told behind what it stands") {
  wire w;
  rig r;
  r.h.join(detail::erase_broker(w));
  client c(r.h), d(r.h), slow(r.h);
  for (client* each : {&c, &d, &slow}) each->follow("a");
  r.publish("a");
  r.loop.run();
  slow.shut = true;
  for (client* each : {&c, &d, &slow}) each->take();
  w.take();
  r.publish("a", payload::json("2"));
  r.h.tell("a", "mood", "{\n\"is\":\"good\"}");
  r.loop.run();
  CHECK(c.take() == "<a-1.2 2>{\"mood\":{ \"is\":\"good\"}}");
  CHECK(d.take() == "<a-1.2 2>{\"mood\":{ \"is\":\"good\"}}");
  CHECK(w.take() == lines{"publish 7 a a-1.2", "tell 7 a a-1.2"});
  slow.shut = false;
  slow.wake(nullptr);
  CHECK(slow.take() == "<a-1.2 2>[missed]");

  // Another hub hears the same bytes.
  wire v;
  rig s;
  s.h.join(detail::erase_broker(v));
  client e(s.h);
  e.follow("a");
  v.hear("a", {"a-1", 2, w.told.at(0)});
  s.loop.run();
  CHECK(e.take().empty());
  message m;
  for (m.offset = 1; m.offset <= 2; ++m.offset) v.hear("a", "a-1", m);
  s.loop.run();
  CHECK(e.take() == "<a-1.1 null><a-1.2 null>{\"mood\":{ \"is\":\"good\"}}");
  for (const std::string& odd :
       {std::string(), std::string("?"), std::string("n"), std::string("n\x05"), std::string("e")}) {
    v.hear("a", {"a-1", 2, odd});
    s.loop.run();
    CHECK(e.take().empty());
  }
  CHECK(r.h.followers("a").size() == 3);
  CHECK(r.h.followers("b").empty());
}

TEST_CASE("a broker that may have lost something says so, and the storage is read") {
  wire w;
  rig r;
  r.h.join(detail::erase_broker(w));
  client c(r.h);
  c.follow("a");
  r.publish("a");
  r.loop.run();
  c.take();
  for (int i = 2; i <= 600; ++i)
    r.store.async_append("a", {.at = 0, .from = {}, .type = {}, .data = payload::json("0"), .key = {}},
                         [](append_result) {});
  w.receive(broker_event{"a"});
  w.receive(broker_event{"nobody follows this"});
  r.loop.run();
  const std::string got = c.take();
  CHECK(got.starts_with("{\"missed\":{\"channel\":\"a\"}}<a-1.2 0>"));
  CHECK(got.ends_with("<a-1.600 0>"));
  w.receive(broker_event{"a"});  // and nothing was
  r.loop.run();
  CHECK(c.take() == "{\"missed\":{\"channel\":\"a\"}}");
}

TEST_CASE("a storage that announces is the one that tells the other hubs") {
  for (bool told : {false, true}) {
    wire w;
    testing::manual_loop loop;
    announcing store;
    stage::open_storage quiet;
    hub h(loop, told ? detail::erase_storage(store) : detail::erase_storage(quiet), {});
    h.join(detail::erase_broker(w));
    CHECK_FALSE(h.publish("a", payload::json("1")));
    loop.run();
    CHECK(w.take() == (told ? lines{"attach"} : lines{"attach", "publish 7 a a-1.1"}));
  }
}

TEST_CASE("a large hole is read in as many turns as it has pieces, whatever answers at once") {
  wire w;
  rig r;
  r.h.join(detail::erase_broker(w));
  client c(r.h);
  c.follow("a");
  r.publish("a", payload::json("1"));
  const std::string kilobyte = '"' + std::string(1022, 'x') + '"';
  for (int i = 2; i <= 3000; ++i)
    r.store.async_append("a", {.at = 0, .from = {}, .type = {}, .data = payload::json(kilobyte), .key = {}},
                         [](append_result) {});
  message m;
  m.offset = 3000;
  m.data = payload::json(kilobyte);
  w.hear("a", "a-1", m);
  r.loop.run();
  CHECK(c.largest < 2 * read_limit().bytes);
  CHECK(std::count(c.got.begin(), c.got.end(), '<') == 3000);
  CHECK(c.got.ends_with("<a-1.3000 " + kilobyte + '>'));
  r.publish("a", payload::json("2"));
  r.loop.run();
  CHECK(c.got.ends_with("<a-1.3001 2>"));
}

TEST_CASE(
    "when a hole could not be read, who comes back is told what the storage has, also before the channel has cooled") {
  wire w;
  rig r;
  r.h.join(detail::erase_broker(w));
  client c(r.h), d(r.h);
  c.follow("a");
  r.fill("a", 1);
  CHECK(c.take() == "<a-1.1 1>");

  // Another hub has stored 2 to 4, of which the broker brings the last.
  for (int i = 2; i <= 4; ++i)
    r.store.async_append("a", {.at = 0, .from = {}, .type = {}, .data = payload::json(std::to_string(i)), .key = {}},
                         [](append_result) {});
  message m;
  m.offset = 4;
  m.data = payload::json("4");
  r.store.fail_after = 0;
  w.hear("a", "a-1", m);
  r.loop.run();
  CHECK(c.take() == "[unreadable]");
  c.leave();
  r.store.fail_after = -1;

  std::string behind = "<a-1.2 2><a-1.3 3><a-1.4 4>";
  SECTION("with its cursor") { CHECK(d.follow("a", start::after({"a-1", 1})) == "a-1.1"); }
  SECTION("from now on") {
    CHECK(d.follow("a") == "a-1.4");
    behind.clear();
  }
  r.loop.run();
  CHECK(d.take() == behind);
  r.publish("a", payload::json("5"));
  r.loop.run();
  CHECK(d.take() == "<a-1.5 5>");
}

TEST_CASE("stop aborts what is pending, once, and refuses what comes after") {
  rig r;
  r.store.holding = true;
  r.publish("a", payload::json("1"));
  r.publish("a", payload::json("1"), {.key = "k"});
  r.publish("a", payload::json("1"), {.key = "k"});
  r.h.history("a", {}, 1, [&](history_result h) { r.done.push_back("history " + text(h)); });
  std::thread([&] { CHECK_FALSE(r.publish("a", payload::json("2"))); }).join();
  client c(r.h);
  c.follow("a");
  CHECK(r.done.empty());

  r.h.stop();
  auto told = r.take();
  std::sort(told.begin(), told.end());
  CHECK(told == lines{"aborted", "aborted", "aborted", "aborted", "history aborted"});
  r.h.stop();
  CHECK(r.h.stopped());
  CHECK(r.publish("a") == operation_aborted());
  std::thread([&] { CHECK(r.publish("a") == operation_aborted()); }).join();
  CHECK(r.history("a", {}) == "aborted");
  CHECK(client(r.h).mine == nullptr);
  // The storage answers nobody any more.
  r.store.holding = false;
  r.store.answer();
  r.loop.run();
  CHECK(r.done.empty());
  CHECK(c.began["a"].empty());
}

TEST_CASE("a hub that has stopped wakes nobody up when its last timer is gone") {
  rig r;
  struct quiet final : detail::timer {
    void expire(std::int64_t) override {}
  } t;
  client c(r.h);
  c.follow("a");
  r.publish("a", payload::json("1"), {.key = "k"});  // kept for five minutes
  r.loop.run();
  r.h.arm(t, r.loop.now() + 30'000);
  CHECK(r.loop.waiting());
  SECTION("with nothing left") {
    r.h.wheel().disarm(t);
    r.h.stop();
    CHECK_FALSE(r.loop.waiting());
  }
  SECTION("with a connection that closes yet") {
    r.h.stop();
    CHECK(r.loop.waiting());
    r.h.wheel().disarm(t);
    r.h.forget(c);
    CHECK_FALSE(r.loop.waiting());
  }
}

TEST_CASE("a handler that is told of the stop may publish, which is refused, and destroy what it likes") {
  auto r = std::make_unique<rig>();
  r->store.holding = true;
  std::error_code second;
  std::ignore = r->h.publish("a", payload::json("1"), {}, [&](std::error_code ec, position) {
    CHECK(ec == operation_aborted());
    second = r->h.publish("a", payload::json("2"));
  });
  r->h.stop();
  CHECK(second == operation_aborted());
}

TEST_CASE("a storage may answer after the hub has gone") {
  testing::manual_loop loop;
  stage::open_storage store;
  store.holding = true;
  lines done;
  {
    hub h(loop, detail::erase_storage(store), {});
    std::ignore =
        h.publish("a", payload::json("1"), {}, [&](std::error_code ec, position) { done.push_back(text(ec)); });
    client c(h);
    c.follow("a");
    c.leave();
  }
  CHECK(done == lines{"aborted"});
  store.holding = false;
  store.answer();
  std::thread([&] { store.answer(); }).join();
  loop.run();
  CHECK(done.size() == 1);
}
