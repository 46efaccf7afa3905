// SPDX-License-Identifier: BSL-1.0
// Memory runs out in the middle of a step: each allocation that the step makes fails in turn. Whatever was lost by
// that, afterwards a server goes on with everybody whom it has not ended: each message once, in order, and nothing is
// left over of those who go.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <future>
#include <new>
#include <thread>

#include "detail/connection/stage.hpp"
#include "hailwire/hailwire.hpp"
#include "hailwire/storage/memory.hpp"
#include "socket_client.hpp"

namespace {

// Which allocation of this thread fails, counted down; 0: none.
thread_local std::size_t fails_in = 0;
thread_local bool failed = false;

void* allocate(std::size_t n) noexcept {
  if (fails_in && --fails_in == 0) {
    failed = true;
    return nullptr;
  }
  return std::malloc(n ? n : 1);
}

}  // namespace

// Not inlined: g++ 12 takes what it then sees for a mismatch of `new` and `free`.
[[gnu::noinline]] void* operator new(std::size_t n) {
  if (void* p = allocate(n)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n); }
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

using namespace stage;

namespace {

/// A server with a few clients on every transport, all of whom follow `chat`.
struct world {
  explicit world(const options& o = {}) : h(detail::erase_storage(store), o) {
    h.gate.host.on_command = [](session& s, std::string_view name, std::string_view body, command_reply reply) {
      if (name == "revoke") s.revoke("news");
      if (name == "follow") s.follow("news", hailwire::start::earliest());
      if (name == "permit") {
        grant g;
        g.user = s.user();
        g.follow = g.publish = channel_set::all();
        g.expires =
            std::chrono::system_clock::time_point(std::chrono::milliseconds(testing::manual_loop::unix_start + 60'000));
        s.permit(std::move(g));
      }
      reply(std::string(body));
    };
    h.gate.host.on_close = [](session&, const close_reason&) {};
    for (int i = 1; i <= 3; ++i) publish("chat"), publish("news");
  }
  client& come() {
    all.push_back(std::make_unique<client>(h));
    auto& c = *all.back();
    c.c->received.reserve(1 << 18);  // what a socket takes costs a server no memory
    return c;
  }
  client& enter(const std::string& request) { return come().send(request); }
  /// Not for a step that fails: it checks.
  void publish(const std::string& channel) {
    ++sent[channel];
    static_cast<void>(h.gate.messages.publish(channel, payload::json(std::to_string(sent[channel]))));
    h.run();
  }
  memory_storage store;
  house h;
  std::map<std::string, int> sent;
  std::vector<std::unique_ptr<client>> all;
};

/// The offsets of a channel's messages in what a client was sent.
std::vector<int> offsets(const std::string& bytes, const std::string& channel) {
  std::vector<int> out;
  const std::string before = "{\"channel\":\"" + channel + "\",\"offset\":";
  for (std::size_t at = 0; (at = bytes.find(before, at)) != bytes.npos;) {
    at += before.size();
    out.push_back(std::atoi(bytes.c_str() + at));
  }
  return out;
}

TEST_CASE("an address is not counted for a session for which there was no memory") {
  for (std::size_t n = 1;; ++n) {
    INFO("allocation " << n << " fails");
    REQUIRE(n < 100);
    detail::address_count counts;
    failed = false;
    fails_in = n;
    bool counted = false;
    try {
      counted = counts.add(1, "203.0.113.7:4711", 1);
    } catch (const std::bad_alloc&) {
    }
    fails_in = 0;
    CHECK(counts.addresses() == (counted ? 1 : 0));
    CHECK(counts.add(2, "203.0.113.7:4712", 1) == !counted);
    counts.remove(counted ? 1 : 2);
    CHECK(counts.addresses() == 0);
    if (!failed) return;
  }
}

/// Has `step` fail at each of its allocations in turn, each time in a new world.
void at_every_allocation(const options& o, const std::function<void(world&)>& before,
                         const std::function<void(world&)>& step) {
  for (std::size_t n = 1;; ++n) {
    INFO("allocation " << n << " fails");
    REQUIRE(n < 3000);
    bool hit;
    {
      world w(o);
      before(w);
      failed = false;
      fails_in = n;
      // A host that catches what leaves its loop, and runs it again.
      try {
        step(w);
      } catch (const std::bad_alloc&) {
      }
      fails_in = 0;
      hit = failed;
      for (auto& c : w.all) {
        w.h.run();
        c->widen();
      }
      w.h.advance(3000);

      // Everybody who is there hears of the next message, once and behind all that came before.
      w.publish("chat");
      w.h.advance(3000);
      for (auto& c : w.all) {
        bool there = !c->c->closed && !c->c->ended_by_server && !c->c->received.empty();
        auto got = offsets(c->c->received, "chat");
        INFO(c->c->received);
        for (std::size_t i = 1; i < got.size(); ++i) REQUIRE(got[i] == got[i - 1] + 1);
        bool left = c->c->received.find("\"reply\":3,\"ok\"") != std::string::npos;
        if (there && !left && c->c->received.find("\"open\"") != std::string::npos) {
          REQUIRE_FALSE(got.empty());
          auto log = client(w.h).ask(get("/live?channel=chat&since=earliest"));
          REQUIRE(got.back() == offsets(log.body, "chat").back());
        }
      }
      // A newcomer reads everything.
      client late(w.h);
      late.send(event_stream("?channel=chat&since=earliest"));
      auto bytes = late.take();
      INFO(bytes);
      auto got = offsets(bytes, "chat");
      REQUIRE(got.size() >= 4);
      for (std::size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == static_cast<int>(i) + 1);
      late.c->reset();
      // Nothing is left over.
      for (auto& c : w.all) c->c->reset();
      w.h.run();
      w.h.advance(10'000);
      REQUIRE(w.h.gate.messages.session_count() == 0);
      REQUIRE(w.h.gate.messages.find("ada").empty());
      REQUIRE(w.h.gate.messages.channel_count() == 0);
      REQUIRE(w.h.gate.messages.pending_count() == 0);
    }
    if (!hit) {
      REQUIRE(n > 1);  // the step does ask for memory
      break;
    }
  }
}

void follow_all(world& w) {
  w.enter(upgrade("?channel=chat&user=ada"));
  w.enter(event_stream("?channel=chat&channel=news&user=bob"));
  w.enter(event_stream("?channel=chat&user=ada"));
}

}  // namespace

void wait_all(world& w) {
  follow_all(w);
  auto first = client(w.h).ask(get("/live?channel=chat")).body;
  auto at = first.find("\"cursor\":\"") + 10;
  auto since = first.substr(at, first.find('"', at) - at);
  for (int i = 0; i < 3; ++i) w.enter(get("/live?channel=chat&wait=2&since=" + since));
}

TEST_CASE("a client that comes finds no memory") {
  for (const std::string& request :
       {upgrade("?channel=chat&channel=news&user=ada&device=phone"), upgrade("?channel=chat&since=earliest&user=ada"),
        event_stream("?channel=chat&user=ada"), event_stream("?channel=chat&channel=news&since=earliest&user=ada"),
        get("/live?channel=chat&since=earliest&user=ada"), get("/live?channel=chat&user=ada&wait=5"),
        post("?channel=chat&user=ada", "1"),
        post("?user=ada",
             R"([{"id":1,"publish":{"channel":"chat","data":1,"key":"k"}},{"id":2,"history":{"channel":"chat"}}])")}) {
    INFO(request);
    at_every_allocation(
        {},
        [](world& w) {
          follow_all(w);
          w.come().c->unread.reserve(4096);
        },
        [&](world& w) { w.all.back()->send(request); });
  }
}

TEST_CASE("what a client says finds no memory") {
  for (const char* text :
       {R"({"id":1,"publish":{"channel":"chat","data":"from a client","key":"k"}})",
        R"({"publish":{"channel":"chat","data":1}})", R"({"id":2,"subscribe":{"channel":"news","since":"earliest"}})",
        R"({"id":2,"subscribe":{"channel":"other"}})", R"({"id":3,"unsubscribe":{"channel":"chat"}})",
        R"({"id":4,"history":{"channel":"chat"}})", R"({"id":5,"follow":1})", R"({"id":5,"revoke":1})",
        R"({"id":6,"permit":1})", R"({"id":7,"no such":{}})", "not json"}) {
    INFO(text);
    auto bytes = frame(text);
    at_every_allocation({}, follow_all, [&](world& w) {
      w.all[0]->send(bytes);
      w.h.run();
    });
  }
}

TEST_CASE("what a host publishes finds no memory") {
  std::string text(200, 'x');
  auto twice = [&](world& w) {
    for (int i = 0; i < 2; ++i) {
      static_cast<void>(w.h.gate.messages.publish("chat", payload::text(text), {.type = "note", .key = i ? "k" : ""}));
      static_cast<void>(w.h.gate.messages.publish("news", payload::json("1")));
    }
    w.h.run();
  };
  at_every_allocation({}, follow_all, twice);
  at_every_allocation({}, wait_all, twice);
}

TEST_CASE("a slow client's way finds no memory") {
  std::string text(3000, 'x');
  auto publish = [&](world& w, int n) {
    for (int i = 0; i < n; ++i) {
      static_cast<void>(w.h.gate.messages.publish("chat", payload::text(text)));
      w.h.run();
    }
  };
  auto slow = [](world& w) {
    follow_all(w);
    for (auto& c : w.all) c->narrow(1000);
  };
  at_every_allocation({}, slow, [&](world& w) { publish(w, 3); });
  at_every_allocation(
      {}, [&](world& w) { slow(w), publish(w, 3); },
      [&](world& w) {
        for (auto& c : w.all) c->widen(4000);
        for (auto& c : w.all) c->widen();
      });
}

TEST_CASE("what only time brings finds no memory") {
  auto expires = [](world& w) {
    follow_all(w);
    w.all[0]->say(R"({"id":6,"permit":1})");
    w.publish("chat");
    REQUIRE(w.all[0]->c->received.find("\"reply\":6,\"ok\"") != std::string::npos);
  };
  options patient;  // these clients answer no ping
  patient.heartbeat_answer = std::chrono::seconds(60);
  at_every_allocation(patient, expires, [](world& w) { w.h.advance(32'000); });
  at_every_allocation(patient, wait_all, [](world& w) { w.h.advance(2'500); });
}

TEST_CASE("clients that go find no memory") {
  auto farewell = close_frame(1000);
  at_every_allocation({}, follow_all, [&](world& w) {
    w.all[0]->send(farewell);
    w.all[1]->c->send_end();
    w.all[2]->c->reset();
    w.h.run();
  });
  at_every_allocation({}, follow_all, [&](world& w) {
    for (session* s : w.h.gate.messages.sessions()) s->close(1000, "bye");
    w.h.run();
  });
}

TEST_CASE("a channel's new epoch finds no memory: who is not ended is told of it and follows on") {
  for (std::size_t n = 1, hits = 1; hits; ++n) {
    INFO("allocation " << n << " fails");
    house h;
    client ws(h), es(h), raw(h);
    for (auto* c : {&ws, &es, &raw}) c->c->received.reserve(1 << 16);
    ws.send(upgrade("?channel=chat"));
    es.send(event_stream("?channel=chat&channel=news"));
    raw.send(upgrade("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n"));
    h.publish("chat", "1");
    h.store.restart("chat");
    failed = false;
    fails_in = n;
    try {
      static_cast<void>(h.gate.messages.publish("chat", payload::json("2")));
      h.run();
    } catch (const std::bad_alloc&) {
    }
    fails_in = 0;
    hits = failed;
    h.run();
    h.publish("chat", "\"last\"");
    h.advance(3000);
    for (auto* c : {&ws, &es}) {
      auto got = c->take();
      INFO(got);
      bool ended = c->c->closed || c->c->ended_by_server || got.find("the storage failed") != got.npos;
      REQUIRE((ended || (got.find("\"gap\"") < got.find("\"last\"") && got.find("\"last\"") != got.npos)));
    }
    REQUIRE(h.gate.messages.pending_count() == 0);
  }
}

namespace {

using socket_server = server<websocket, sse>;

/// A loop of each kind, which goes on when something leaves it.
struct own_loop {
  socket_server s{own_thread};
  void run() { s.run(); }
  void quit() { s.quit(); }
};
struct embedded_loop {
  net::io_context io{1};
  socket_server s{io};
  net::executor_work_guard<net::io_context::executor_type> busy{io.get_executor()};
  void run() { io.run(); }
  void quit() { io.stop(); }
};
struct portable_loop {
  net::io_context io{1};
  socket_server s{portable, io};
  net::executor_work_guard<net::io_context::executor_type> busy{io.get_executor()};
  void run() { io.run(); }
  void quit() { io.stop(); }
};

}  // namespace

TEMPLATE_TEST_CASE(
    "over sockets want of memory ends one client at most, and neither the loop nor whoever else is there", "", own_loop,
    embedded_loop, portable_loop) {
  TestType on_loop;
  socket_server& s = on_loop.s;
  s.authorize(
      [](const request&) { return decision(grant{.follow = channel_set::all(), .publish = channel_set::all()}); });
  auto port = s.listen("127.0.0.1", 0);
  std::atomic<int> left = 0;
  std::thread loop([&] {
    for (bool over = false; !over;) {
      try {
        on_loop.run();
        over = true;
      } catch (const std::bad_alloc&) {  // of what a host has posted itself
        ++left;
      }
    }
  });
  auto on = [&](auto f) {
    std::promise<void> done;
    s.post([&] { f(), done.set_value(); });
    done.get_future().wait();
  };
  test::wire follower(port);
  follower.send(event_stream("?channel=chat")).until("\n\n\r\n");
  for (std::size_t n = 1, hits = 1; hits > 0; ++n) {
    INFO("allocation " << n << " fails");
    on([&] { failed = false, fails_in = n; });
    auto began = std::chrono::steady_clock::now();
    test::wire one(port);
    one.send(upgrade("?channel=chat&channel=news") + frame(R"({"id":1,"publish":{"channel":"chat","data":1}})"));
    if (test::contains(one.until("\r\n\r\n"), " 101 ")) one.until("\"reply\":1");  // else it was refused, or is closed
    REQUIRE(std::chrono::steady_clock::now() - began < test::limit);               // but nobody is left waiting
    std::size_t seen = 0;
    on([&] { seen = failed, fails_in = 0; });
    hits = seen;
    // Who was there before is, and so is a newcomer.
    auto last = std::to_string(1000 + n);
    REQUIRE_FALSE(s.publish("chat", payload::json(last)));
    auto heard = follower.until("\"data\":" + last + "}");
    INFO(heard);
    REQUIRE(heard.ends_with(last + "}"));
    test::wire late(port);
    late.send(event_stream("?channel=chat&since=earliest"));
    REQUIRE(late.until("\"data\":" + last + "}").ends_with(last + "}"));
  }
  if (std::is_same_v<TestType, own_loop>) CHECK(left == 0);  // Asio lets its own want of memory out of `run`
  on_loop.quit();
  loop.join();
}
