// SPDX-License-Identifier: BSL-1.0
// A host's own streams. This one is a socket that gives and takes a few bytes at a time and says farewell in its own
// way, so every write stops somewhere; the same with TLS is in tls_adopt_stream_test.cpp.
#include "hailwire/adopt_stream.hpp"

#include <asio/any_io_executor.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/write.hpp>

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <thread>
#include <tuple>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "socket_client.hpp"

using namespace hailwire;
using namespace hailwire::test;
using asio::ip::tcp;

namespace {

using everything = server<websocket, sse, long_poll, short_poll>;

/// At most so many bytes an operation; its farewell is a line of text.
struct grudging {
  tcp::socket socket;
  std::size_t reads = 1 << 20, writes = 1 << 20;

  auto& lowest_layer() { return socket.lowest_layer(); }
  template <class Handler>
  void async_read_some(asio::mutable_buffer to, Handler&& h) {
    socket.async_read_some(asio::buffer(to, reads), std::forward<Handler>(h));
  }
  template <class Handler>
  void async_write_some(asio::const_buffer from, Handler&& h) {
    socket.async_write_some(asio::buffer(from, writes), std::forward<Handler>(h));
  }
  template <class Handler>
  void async_shutdown(Handler&& h) {
    static const std::string farewell = "<farewell>";
    auto where =
        asio::get_associated_executor(h);  // a handler runs where it was bound to, as every Asio stream promises
    asio::async_write(
        socket, asio::buffer(farewell),
        asio::bind_executor(where, [h = std::forward<Handler>(h)](std::error_code ec, std::size_t) mutable { h(ec); }));
  }
};

/// A server on a context, and a host that accepts for it.
struct host {
  template <class... Way>
  explicit host(const options& o, Way... way) : s(std::make_unique<everything>(way..., io, o)) {
    s->authorize([](const request& r) {
      grant g;
      g.user = r.param("user");
      g.follow = g.publish = channel_set::all();
      return decision(std::move(g));
    });
    s->on_close([this](session&, const close_reason& why) { last_end = why; });
  }
  ~host() { finish(); }

  std::uint16_t port() const { return acceptor.local_endpoint().port(); }
  void start(int n = 1) {
    for (int i = 0; i < n; ++i) threads.emplace_back([this] { io.run(); });
  }
  /// Runs the context until it has nothing left to do.
  void finish() {
    busy.reset();
    if (threads.empty()) return;
    on([&] { s->stop(); });
    for (auto& t : threads) t.join();
    threads.clear();
  }
  template <class F>
  void on(F f) {
    std::promise<void> done;
    s->post([&] { f(), done.set_value(); });
    done.get_future().wait();
  }
  /// A client, served by way of a stream that `wrap` makes of the accepted socket.
  template <class Wrap>
  wire enter(Wrap wrap, std::string already_read = {}) {
    wire c(port());
    tcp::socket accepted(io);
    acceptor.accept(accepted);
    on([&] { adopt_stream(*s, wrap(std::move(accepted)), already_read); });
    return c;
  }
  wire enter(std::size_t reads = 1 << 20, std::size_t writes = 1 << 20) {
    return enter([=](tcp::socket a) { return grudging{std::move(a), reads, writes}; });
  }
  std::size_t connections() {
    std::size_t n = 0;
    on([&] { n = s->sessions().size(); });
    return n;
  }

  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> busy{io.get_executor()};
  tcp::acceptor acceptor{io, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)};
  std::unique_ptr<everything> s;
  std::vector<std::thread> threads;
  close_reason last_end;
};

/// The drivers on which streams can be adopted.
void on_each(const options& o, std::function<void(host&)> play) {
  {
    INFO("portable");
    host h(o, portable);
    play(h);
  }
  INFO("embedded");
  host h(o);
  play(h);
}

}  // namespace

TEST_CASE("a stream that takes a few bytes at a time serves every transport") {
  on_each({}, [](host& h) {
    h.start(2);
    for (std::size_t few : {1u, 7u, 5000u}) {
      INFO(few << " bytes at a time");
      auto ws = h.enter(few, few), es = h.enter(few, few), lp = h.enter(few, few), sp = h.enter(few, few);
      ws.send(upgrade("?channel=chat"));
      es.send(event_stream("?channel=chat"));
      CHECK(contains(ws.until("recovered\":true}}}}"), "101 Switching"));
      es.until("\n\n\r\n");
      lp.send(get("/live?channel=chat&wait=20"));
      auto first = lp.until("\"}");
      auto cursor = first.substr(first.find("\"cursor\":\"") + 10);
      cursor.erase(cursor.find('"'));
      lp.send(get("/live?channel=chat&wait=20&since=" + cursor));
      std::string text(few * 700, 'x');  // a hundred buffers at most
      if (text.size() > 60'000) text.resize(60'000);
      sp.send(post("?channel=chat&user=sp", "\"" + text + "\""));
      CHECK(contains(sp.until("}"), " 201 "));
      CHECK(contains(lp.until("\"}"), text));
      CHECK(contains(es.until("\"}\n"), text));
      CHECK(contains(ws.until("\"}"), text));
      ws.send(frame(R"({"id":1,"publish":{"channel":"chat","data":"from ws"}})"));
      CHECK(contains(ws.until("\"from ws\"}"), "\"reply\":1"));
      es.until("\"from ws\"}\n");
    }
  });
}

TEST_CASE("streams are handed over by four threads at once, before the context runs as well as while it does") {
  on_each({}, [](host& h) {
    constexpr std::size_t hosts = 4, each = 25;
    std::vector<wire> clients;
    std::vector<tcp::socket> accepted;
    for (std::size_t i = 0; i < hosts * each + 1; ++i) {
      clients.emplace_back(h.port());
      h.acceptor.accept(accepted.emplace_back(h.io));
    }
    auto adopt = [&](std::size_t i) {
      adopt_stream(*h.s, grudging{std::move(accepted[i]), 64, 64}, event_stream("?channel=chat"));
    };
    adopt(hosts * each);
    h.start(2);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < hosts; ++t)
      threads.emplace_back([&, t] {
        for (std::size_t n = 0; n < each; ++n) adopt(t * each + n);
      });
    for (auto& t : threads) t.join();
    for (wire& c : clients) CHECK(contains(c.until("recovered\":true}}}}"), "event: open"));
    CHECK(h.connections() == clients.size());
  });
}

TEST_CASE("a stream begins with what its host has read, and shows its peer and its TLS") {
  on_each({}, [](host& h) {
    h.s->on_http([](const request& r) {
      return response{.body = "<" + r.peer() + " " + std::string(r.scheme()) + (r.tls() ? r.tls()->version : "") + ">"};
    });
    h.start();
    auto c = h.enter([](tcp::socket a) { return grudging{std::move(a), 3, 3}; }, "GET / HTTP/1.1\r\nHo");
    CHECK(contains(c.send("st: x\r\n\r\n").until(">"), "<127.0.0.1:"));
    CHECK(contains(c.send(get("/")).until(">"), " http>"));

    wire other(h.port());
    tcp::socket accepted(h.io);
    h.acceptor.accept(accepted);
    h.on([&] {
      adopt_stream(
          *h.s, std::move(accepted), {},
          tls_peer{
              .version = "TLSv1.3", .cipher = {}, .server_name = {}, .subject = {}, .names = {}, .fingerprint = {}});
    });
    CHECK(contains(other.send(get("/")).until(">"), " httpsTLSv1.3>"));
    // A page that TLS has brought is one of this host's when its Origin says https, and only then.
    CHECK(contains(
        other.ask(
            post("?channel=a", "1").insert(post("?channel=a", "1").find("\r\n") + 2, "Origin: https://localhost\r\n")),
        " 201 "));
    CHECK(contains(
        other.ask(
            post("?channel=a", "1").insert(post("?channel=a", "1").find("\r\n") + 2, "Origin: http://localhost\r\n")),
        " 403 "));
  });
}

TEST_CASE(
    "a stream's answer arrives whole, and its farewell after it, also when the client has ended its half or reads "
    "slowly") {
  std::string page(1'000'000, 'p');
  on_each({}, [&](host& h) {
    h.s->on_http([&](const request&) { return response{200, "text/plain", page, {}}; });
    h.start();
    for (std::size_t few : {1u << 20, 3000u}) {
      auto closes = h.enter(few, few), half = h.enter(few, few), old = h.enter(few, few);
      auto plain = h.enter([](tcp::socket a) { return a; });
      closes.send(get("/", "Connection: close\r\n"));
      old.send("GET / HTTP/1.0\r\n\r\n");
      plain.send(get("/", "Connection: close\r\n"));
      half.send(get("/"));
      half.end();
      for (auto* c : {&closes, &half, &old}) {
        auto all = c->all();
        CHECK(all.size() > page.size());
        CHECK(all.ends_with("p<farewell>"));
      }
      CHECK(plain.all().ends_with("pppp"));
    }
  });
}

#ifdef __linux__
TEST_CASE("a stream's silent peer is probed by the system, as any other's, in the time that its client has chosen") {
  options o;
  o.heartbeat = std::chrono::seconds(40);
  o.heartbeat_answer = std::chrono::seconds(12);
  on_each(o, [](host& h) {
    h.start();
    int descriptor = -1;
    auto c = h.enter([&](tcp::socket a) {
      descriptor = static_cast<int>(a.native_handle());
      return grudging{std::move(a)};
    });
    auto told = [&](int level, int name) {
      int value = -1;
      socklen_t size = sizeof value;
      ::getsockopt(descriptor, level, name, &value, &size);
      return value;
    };
    CHECK(told(SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(told(IPPROTO_TCP, TCP_KEEPIDLE) == 40);
    CHECK(told(IPPROTO_TCP, TCP_KEEPINTVL) == 6);
    CHECK(told(IPPROTO_TCP, TCP_KEEPCNT) == 2);
    c.send(event_stream("?channel=chat&heartbeat=70"));
    CHECK(contains(c.until("recovered\":true}}}}"), "\"heartbeat\":70"));
    CHECK(told(IPPROTO_TCP, TCP_KEEPIDLE) == 70);
  });
}
#endif

TEST_CASE("what a stream takes counts as what the hub holds, from its beginning to its end") {
  on_each({}, [](host& h) {
    h.start();
    auto held = [&] {
      std::size_t n = 0;
      h.on([&] { n = h.s->hub().memory_held(); });
      return n;
    };
    CHECK(held() == 0);
    {
      auto c = h.enter();
      CHECK(held() > 8 * 1024);
      CHECK(held() < 12 * 1024);
    }
    const auto end = std::chrono::steady_clock::now() + limit;
    while (held() > 0 && std::chrono::steady_clock::now() < end) {
    }
    CHECK(held() == 0);
  });
}

TEST_CASE("a stream that takes nothing costs its buffers; what it missed it reads from the log") {
  options o;
  o.send_buffer = 64 * 1024;
  on_each(o, [](host& h) {
    h.start();
    auto slow = h.enter(), quick = h.enter();
    slow.send(event_stream("?channel=chat&since=earliest"));
    quick.send(event_stream("?channel=chat&since=earliest"));
    slow.until("\n\n\r\n");
    quick.until("\n\n\r\n");
    std::string text(50'000, 'x');
    for (int i = 1; i <= 40; ++i) {
      CHECK_FALSE(h.s->publish("chat", payload::json("\"" + text + std::to_string(i) + "\"")));
      quick.until("x" + std::to_string(i) +
                  "\"}\n");  // short words: a search for a long one among so many x takes minutes under a sanitizer
    }
    auto all = slow.until("x40\"}\n");
    CHECK_FALSE(contains(all, "gap"));
    std::size_t at = 0;
    for (int i = 1; i <= 40 && at != all.npos; ++i) at = all.find("x" + std::to_string(i) + "\"", at);
    CHECK(at != all.npos);
    CHECK(static_cast<std::size_t>(std::count(all.begin(), all.end(), 'x')) >= 40 * text.size());
  });
}

TEST_CASE("a stream whose peer vanishes, whatever is under way, is forgotten") {
  on_each({}, [](host& h) {
    h.start();
    std::string text(60'000, 'x');
    auto stays = h.enter();
    stays.send(event_stream("?channel=chat"));
    stays.until("\n\n\r\n");
    for (int round = 0; round < 5; ++round) {
      auto a = h.enter(), b = h.enter(10, 10), c = h.enter();
      a.send(upgrade("?channel=chat"));
      a.until("}}}}");
      b.send(event_stream("?channel=chat"));
      b.until("\n\n\r\n");
      c.send(get("/live?channel=chat&wait=20&since=earliest").substr(0, 20));
      for (int i = 0; i < 20; ++i) std::ignore = h.s->publish("chat", payload::json("\"" + text + "\""));
      a.reset();
      b.reset();
      c.reset();
      CHECK_FALSE(h.s->publish("chat", payload::json("\"round " + std::to_string(round) + "\"")));
      stays.until("\"round " + std::to_string(round) + "\"}\n");
    }
    while (h.connections() != 1) std::ignore = h.s->publish("chat", payload::json("0"));
    SUCCEED();
  });
}

TEST_CASE("a server that stops ends its streams in order, and in bounded time those that take nothing") {
  options o;
  o.close_time = std::chrono::seconds(1);
  on_each(o, [](host& h) {
    h.start();
    auto ws = h.enter(), stuck = h.enter(), held = h.enter();
    ws.send(upgrade("?channel=chat"));
    ws.until("}}}}");
    stuck.send(event_stream("?channel=chat"));
    stuck.until("\n\n\r\n");
    held.send(get("/live?channel=chat&wait=20&since=latest"));
    held.until("\"}");
    for (int i = 0; i < 200; ++i)
      std::ignore = h.s->publish("chat", payload::json("\"" + std::string(60'000, 'x') + "\""));
    h.on([] {});
    std::thread reader([&] { CHECK(contains(ws.all(), "server stopped")); });
    h.finish();  // returns: the context has run out of work
    reader.join();
    CHECK(h.s->sessions().empty());
    tcp::socket late(h.io);
    late.open(tcp::v4());
    adopt_stream(*h.s, std::move(late));  // is closed
    CHECK(h.s->sessions().empty());
  });
}

TEST_CASE("a server may be destroyed while its streams read and write") {
  on_each({}, [](host& h) {
    h.start();
    auto es = h.enter(), ws = h.enter(5, 5);
    es.send(event_stream("?channel=chat"));
    es.until("\n\n\r\n");
    ws.send(upgrade("?channel=chat"));
    ws.until("}}}}");
    for (int i = 0; i < 100; ++i)
      std::ignore = h.s->publish("chat", payload::json("\"" + std::string(60'000, 'x') + "\""));
    h.on([] {});
    h.io.stop();
    for (auto& t : h.threads) t.join();
    h.threads.clear();
    h.s.reset();
    es.all();
    ws.all();
    SUCCEED();
  });
}

TEST_CASE("a server without an executor says that it cannot adopt a stream") {
  everything s(own_thread);
  asio::io_context io;
  CHECK_THROWS_WITH(adopt_stream(s, tcp::socket(io)), "hailwire: this server runs on its own thread");
}
