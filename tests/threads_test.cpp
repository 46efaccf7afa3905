// SPDX-License-Identifier: BSL-1.0
#include "hailwire/threads.hpp"
#include "hailwire/storage/blocking.hpp"

#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "socket_client.hpp"

using namespace hailwire;
using namespace hailwire::test;

namespace {

using everything = threaded_server<websocket, sse, long_poll, short_poll>;

/// Serves until it goes.
struct running {
  template <class... Args>
  explicit running(unsigned threads, Args&&... args) : s(threads, std::forward<Args>(args)...) {
    begin();
  }
  template <class... Args>
  running(in_process_broker& others, unsigned threads, Args&&... args) : s(threads, std::forward<Args>(args)...) {
    s.join(others);
    begin();
  }
  void begin() {
    s.each([](auto& part) {
      part.authorize([](const request& r) {
        grant g;
        g.user = r.param("user");
        g.follow = g.publish = channel_set::all();
        return decision(std::move(g));
      });
    });
    port = s.listen("127.0.0.1", 0);
    server = std::thread([this] { s.run(); });
  }
  ~running() {
    s.quit();
    server.join();
  }
  everything s;
  std::uint16_t port;
  std::thread server;
};

std::string following(wire& c, const std::string& query) {
  c.send(event_stream(query));
  return c.until("\n\n\r\n");
}
std::string publish_frame(int n) { return frame(R"({"publish":{"channel":"chat","data":)" + std::to_string(n) + "}}"); }
std::string member(const std::string& json, const std::string& name) {
  auto at = json.find('"' + name + "\":\"");
  if (at == json.npos) return "<no " + name + '>';
  at += name.size() + 4;
  return json.substr(at, json.find('"', at) - at);
}

/// As a host would write the least: no epochs, no locks. It counts the calls that overlap.
struct careless_storage {
  struct log {
    std::vector<message> messages;
    std::atomic<int> visitors = 0;
  };
  static constexpr bool keeps_keys = true;
  std::map<std::string, log, std::less<>> logs;  // the channels of the test, made before
  std::atomic<int> overlaps = 0;

  careless_storage() {
    for (auto name : {"chat", "news"}) logs[name];
  }
  append_result append(std::string_view channel, const draft& d) {
    visit v(*this, channel);
    message m;
    m.offset = v.at.messages.size() + 1;
    m.at = d.at;
    m.data = d.data;
    v.at.messages.push_back(std::move(m));
    return v.at.messages.size();
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit most) {
    visit v(*this, channel);
    read_result r;
    r.head = v.at.messages.size();
    for (auto n = since; n < r.head && r.messages.size() < most.messages; ++n) r.messages.push_back(v.at.messages[n]);
    return r;
  }

  struct visit {
    visit(careless_storage& s, std::string_view channel) : at(s.logs.find(channel)->second) {
      if (at.visitors.fetch_add(1) != 0) ++s.overlaps;
      std::this_thread::yield();  // makes room for whoever would overlap
    }
    ~visit() { --at.visitors; }
    log& at;
  };
};

struct lonely_storage : careless_storage {
  static constexpr bool single_threaded = true;
};

}  // namespace

TEST_CASE(
    "a hook that publishes while the server is destroyed is told that it has stopped: no part is gone before all are") {
  std::atomic<int> closed = 0, refused = 0;
  std::vector<wire> clients;
  {
    running r(4);
    r.s.each([&](auto& part) {
      part.on_close([&](session&, const close_reason&) {
        ++closed;
        for (int i = 0; i < 32; ++i)  // on each of the threads, by the names of their channels
          if (r.s.publish("left " + std::to_string(i), payload::json("1")) == operation_aborted()) ++refused;
      });
    });
    for (int i = 0; i < 16; ++i) following(clients.emplace_back(r.port), "?channel=chat");
  }
  CHECK(closed == 16);
  CHECK(refused == 16 * 32);
}

TEST_CASE("clients on different threads hear one another, each message once and in order") {
  running r(3);
  constexpr int publishers = 3, each = 300;
  std::vector<wire> followers;
  for (int i = 0; i < 6; ++i) following(followers.emplace_back(r.port), "?channel=chat");
  std::vector<std::thread> threads;
  for (int p = 0; p < publishers; ++p) {
    threads.emplace_back([&] {
      wire c(r.port);
      c.send(upgrade("")).until("\r\n\r\n");
      for (int n = 0; n < each; ++n) c.send(publish_frame(n));
      c.send(frame(R"({"id":1,"ping":{}})")).until(R"({"reply":1,)");
    });
  }
  for (auto& t : threads) t.join();
  for (auto& f : followers) {
    for (int n = 1; n <= publishers * each; ++n) {
      auto event = f.until("\n\n");
      INFO(event);
      REQUIRE(contains(event, "\"offset\":" + std::to_string(n) + ','));
    }
  }
}

TEST_CASE("servers of several threads that share a storage are joined by a broker, each thread of them to each") {
  memory_storage store;
  in_process_broker broker;
  running one(broker, 2, store), two(broker, 3, store);
  std::vector<wire> followers;
  for (running* r : {&one, &two})
    for (int i = 0; i < 6; ++i) following(followers.emplace_back(r->port), "?channel=chat&channel=news");
  wire publishers[] = {wire(one.port), wire(two.port)};
  for (auto& p : publishers) p.send(upgrade("")).until("\r\n\r\n");
  for (int i = 0; i < 20; ++i) {
    REQUIRE_FALSE((i % 2 ? one : two).s.publish("chat", payload::json(std::to_string(i)), {.key = std::to_string(i)}));
    publishers[i % 2].send(frame(R"({"publish":{"channel":"news","data":1}})"));
  }
  for (auto& f : followers) {
    int chat = 0, news = 0;
    while (chat < 20 || news < 20) {
      const std::string event = f.until("\n\n");
      int& seen = contains(event, "\"chat\"") ? chat : news;
      CHECK(contains(event, "\"offset\":" + std::to_string(++seen) + ','));
    }
  }
}

TEST_CASE("connections are dealt to all threads, and hooks run on them") {
  std::mutex mutex;
  std::map<std::thread::id, int> seen;
  running r(4);
  std::atomic<int> asked = 0;
  r.s.each([&](auto& part) {
    part.post([&] {
      part.on_http([&](const request&) {
        std::lock_guard lock(mutex);
        ++seen[std::this_thread::get_id()];
        return response{200, "text/plain", "here", {}};
      });
      ++asked;
    });
  });
  while (asked != 4) std::this_thread::yield();
  for (int i = 0; i < 8; ++i) CHECK(contains(wire(r.port).ask(get("/")), " 200 "));
  std::lock_guard lock(mutex);
  CHECK(seen.size() == 4);
  for (auto& [id, times] : seen) CHECK(times == 2);
}

TEST_CASE("a call for each thread runs on it, with its server, and several channels are published to at once") {
  running r(3);
  std::vector<wire> clients;
  for (int i = 0; i < 6; ++i) following(clients.emplace_back(r.port), "?channel=chat&channel=news");
  std::atomic<int> told = 0;
  r.s.publish_all({"chat", "news"}, payload::json("7"), {}, [&](std::string_view, std::error_code ec, position at) {
    if (!ec && at.offset == 1) ++told;
  });
  for (auto& c : clients) {
    auto both = c.until("\n\n") + c.until("\n\n");
    CHECK(contains(both, "\"chat\""));
    CHECK(contains(both, "\"news\""));
  }
  while (told < 2) std::this_thread::yield();
  std::atomic<int> calls = 0, sessions = 0;
  r.s.post_each([&](auto& part) {
    for (session* s : part.sessions()) {
      ++sessions;
      s->close();
    }
    ++calls;
  });
  for (auto& c : clients) c.until("\r\n0\r\n\r\n");
  while (calls < 3) std::this_thread::yield();
  CHECK(sessions == 6);
}

TEST_CASE("the sessions of an address are counted over all threads, while they come and go on all of them") {
  options o;
  o.max_sessions_per_address = 5;
  running r(4, o);
  std::vector<std::unique_ptr<wire>> held;
  for (int i = 0; i < 5; ++i) {
    held.push_back(std::make_unique<wire>(r.port));
    CHECK(contains(following(*held.back(), "?channel=chat"), "event: open"));
  }
  auto refused = [&] {
    wire c(r.port);
    return contains(c.send(event_stream("?channel=chat")).all(), "event: bye");
  };
  for (int i = 0; i < 8; ++i) CHECK(refused());  // whichever thread it comes to
  // They go on any thread, and there is room on any other.
  for (int round = 0; round < 12; ++round) {
    held.erase(held.begin());
    std::string got;
    do {
      held.push_back(std::make_unique<wire>(r.port));
      held.back()->send(event_stream("?channel=chat"));
      got = held.back()->until("\n\n");
      if (!contains(got, "event: open")) got += held.back()->until("\n\n");
      if (!contains(got, "event: open")) held.pop_back();  // the one that went is not known to be gone yet
    } while (!contains(got, "event: open"));
  }
  CHECK(refused());

  // All at once: never more than five, and none is left over.
  held.clear();
  std::atomic<int> inside = 0, most = 0;
  std::vector<std::thread> crowd;
  for (int t = 0; t < 4; ++t)
    crowd.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        wire c(r.port);
        c.send(event_stream("?channel=chat"));
        auto got = c.until("\n\n");
        if (!contains(got, "event: open")) got += c.until("\n\n");
        if (!contains(got, "event: open")) continue;
        int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        --inside;
      }
    });
  for (auto& t : crowd) t.join();
  CHECK(most <= 5);
  CHECK(most > 0);
}

TEST_CASE("a cursor that one thread gave is good on another") {
  running r(2);
  wire first(r.port), second(r.port);
  auto told = following(first, "?channel=chat");
  std::promise<position> done;
  REQUIRE_FALSE(r.s.publish("chat", payload::json("1"), {}, [&](std::error_code, position p) { done.set_value(p); }));
  auto at = done.get_future().get();
  CHECK(at.offset == 1);
  CHECK(member(told, "epoch") == at.epoch);
  first.until("\"data\":1}");
  REQUIRE_FALSE(r.s.publish("chat", payload::json("2")));
  auto resumed = following(second, "?channel=chat&since=" + at.epoch + ".1");
  CHECK(contains(resumed, "\"recovered\":true"));
  CHECK(contains(second.until("\n\n"), "\"offset\":2,"));
}

TEST_CASE("a storage that names its epoch with the first message gives nobody a gap, on whatever thread they are") {
  struct late_epoch_storage : careless_storage {
    position append(std::string_view channel, const draft& d) {
      return {"E", careless_storage::append(channel, d).offset};
    }
    read_result read(std::string_view channel, std::uint64_t since, read_limit most) {
      read_result r = careless_storage::read(channel, since, most);
      if (r.head) r.epoch = "E";
      return r;
    }
  };
  late_epoch_storage store;
  running r(3, store);
  std::vector<wire> clients;
  for (int i = 0; i < 6; ++i) following(clients.emplace_back(r.port), "?channel=chat");
  std::promise<std::error_code> stored;
  CHECK_FALSE(
      r.s.publish("chat", payload::json("\"first\""), {}, [&](std::error_code ec, position) { stored.set_value(ec); }));
  CHECK_FALSE(stored.get_future().get());
  for (wire& c : clients) CHECK(c.until("first").find("gap") == std::string::npos);
}

TEST_CASE("a key that one thread has seen is known to the others") {
  running r(2);
  wire first(r.port), second(r.port);
  std::string body = R"({"id":1,"publish":{"channel":"chat","data":"x","key":"k"}})";
  CHECK(contains(first.ask(post("?user=ada", body)), "\"offset\":1}"));
  CHECK(contains(second.ask(post("?user=ada", body)), "\"offset\":1}"));
}

TEST_CASE(
    "a storage that takes no care of threads is never called for one channel twice at a time, and needs no epochs") {
  careless_storage storage;
  {
    running r(3, storage);
    std::vector<wire> followers;
    std::string epoch;
    for (int i = 0; i < 3; ++i) epoch = member(following(followers.emplace_back(r.port), "?channel=chat"), "epoch");
    std::vector<std::thread> publishers;
    for (int p = 0; p < 3; ++p) {
      publishers.emplace_back([&] {
        wire c(r.port);
        c.send(upgrade("")).until("\r\n\r\n");
        for (int n = 0; n < 200; ++n) c.send(publish_frame(n));
        c.send(frame(R"({"id":1,"ping":{}})")).until(R"({"reply":1,)");
      });
    }
    for (auto& t : publishers) t.join();
    for (auto& f : followers) f.until("\"offset\":600,");
    for (int i = 0; i < 3; ++i)
      CHECK(contains(wire(r.port).ask(get("/live?channel=chat&since=" + epoch + ".599")), "\"offset\":600,"));
  }
  CHECK(storage.overlaps == 0);
}

TEST_CASE("only a storage that does not look after itself is guarded, as far as it says it needs to be") {
  using guard = detail::common_storage::guard;
  CHECK(detail::guard_for<careless_storage>() == guard::channel);
  CHECK(detail::guard_for<lonely_storage>() == guard::all);
  CHECK(detail::guard_for<memory_storage>() == guard::none);
  CHECK(detail::guard_for<blocking_storage<careless_storage>>() == guard::later);
}

TEST_CASE("stop ends every session on every thread, and publishing afterwards is an error") {
  running r(2);
  std::vector<wire> clients;
  for (int i = 0; i < 4; ++i) following(clients.emplace_back(r.port), "?channel=chat");
  r.s.stop();
  for (auto& c : clients) c.all();
  std::error_code ec;
  for (int i = 0; i < 1000 && !ec; ++i) ec = r.s.publish("chat", payload::json("1"));
  CHECK(ec == operation_aborted());
}

TEST_CASE("a drain sends away the clients of all threads, and its handler runs once, when all are gone") {
  running r(3);
  std::vector<wire> clients;
  for (int i = 0; i < 9; ++i) following(clients.emplace_back(r.port), "?channel=chat");
  std::promise<void> gone;
  std::atomic<int> called = 0;
  r.s.drain(std::chrono::seconds(20), {}, [&] {
    if (++called == 1) gone.set_value();
  });
  for (auto& c : clients) {
    const auto heard = c.all();
    CHECK(contains(heard, "event: bye\n"));
    CHECK(contains(heard, "0\r\n\r\n"));
  }
  clients.clear();
  REQUIRE(gone.get_future().wait_for(limit) == std::future_status::ready);
  std::error_code ec;
  for (int i = 0; i < 1000 && !ec; ++i) ec = r.s.publish("chat", payload::json("1"));
  CHECK(ec == operation_aborted());
  std::promise<void> again;
  r.s.stop([&] { again.set_value(); });
  CHECK(again.get_future().wait_for(limit) == std::future_status::ready);
  CHECK(called == 1);
}

TEST_CASE("statistics are those of all threads together") {
  std::promise<server_stats> told;
  running r(3);
  std::vector<wire> clients;
  for (int i = 0; i < 6; ++i) following(clients.emplace_back(r.port), "?channel=chat");
  r.s.stats([&](const server_stats& s) { told.set_value(s); });
  auto answer = told.get_future();
  REQUIRE(answer.wait_for(limit) == std::future_status::ready);
  const server_stats s = answer.get();
  CHECK(s.sessions() == 6);
  CHECK(s.accepted == 6);
  CHECK(s.connections == 6);
  CHECK(s.transports.size() == 4);
  CHECK(s.channels == 3);  // one channel in three hubs
}

TEST_CASE("a user is found, sent to, revoked and closed on whatever thread its sessions are") {
  running r(3);
  std::vector<wire> adas, bobs;
  for (int i = 0; i < 6; ++i) following(adas.emplace_back(r.port), "?channel=chat&user=ada");
  for (int i = 0; i < 3; ++i) following(bobs.emplace_back(r.port), "?channel=chat&user=bob");
  std::promise<find_result> found;
  REQUIRE_FALSE(
      r.s.everywhere().find("ada", std::chrono::seconds(20), [&](find_result f) { found.set_value(std::move(f)); }));
  auto answer = found.get_future();
  REQUIRE(answer.wait_for(limit) == std::future_status::ready);
  const find_result f = answer.get();
  CHECK(f.silent.empty());
  CHECK(f.sessions.size() == 6);
  for (const auto& s : f.sessions) CHECK(s.transport == "sse");

  const auto done = [](auto start) {
    std::promise<std::error_code> told;
    REQUIRE_FALSE(start([&](std::error_code ec) { told.set_value(ec); }));
    auto what = told.get_future();
    REQUIRE(what.wait_for(limit) == std::future_status::ready);
    CHECK_FALSE(what.get());
  };
  done([&](auto h) { return r.s.everywhere().send("ada", "hint", "{\"n\":1}", std::move(h)); });
  for (auto& c : adas) CHECK(contains(c.until("\n\n"), "{\"hint\":{\"n\":1}}"));
  done([&](auto h) { return r.s.everywhere().close("ada", 4403, "banned", std::move(h)); });
  for (auto& c : adas) c.all();  // each has ended
  done([&](auto h) { return r.s.everywhere().send("bob", "hint", "{\"n\":2}", std::move(h)); });
  for (auto& c : bobs) CHECK(contains(c.until("\n\n"), "{\"hint\":{\"n\":2}}"));
}

TEST_CASE("between one and sixty-four threads can be asked for") {
  CHECK_THROWS_AS(everything(65), std::invalid_argument);
  everything as_many_as_cores(0);
  int parts = 0;
  as_many_as_cores.each([&](auto&) { ++parts; });
  CHECK(parts >= 1);
}
