// SPDX-License-Identifier: BSL-1.0
// The whole server over real sockets: what only an operating system, an Asio context and several threads can show.
// Clients are plain blocking sockets; every wait is for an event, with a limit that only a failure reaches.
#include "hailwire/hailwire.hpp"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <tuple>

#include "catch.hpp"
#include "hailwire/detail/io/asio.hpp"
#include "hailwire/detail/io/epoll.hpp"
#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/storage/blocking.hpp"
#include "socket_client.hpp"
#include "storage/host_storage.hpp"

using namespace hailwire;
using namespace hailwire::test;
using namespace std::chrono_literals;

namespace {

using everything = server<websocket, sse, long_poll, short_poll>;
void let_everybody_in(basic_server& s) {
  s.authorize([](const request& r) {
    grant g;
    g.user = r.param("user");
    g.follow = g.publish = channel_set::all();
    return decision(std::move(g));
  });
}

/// The three ways of running a server.
struct embedded {
  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> busy{io.get_executor()};
  template <class... Args>
  std::unique_ptr<everything> make(Args&&... args) {
    return std::make_unique<everything>(io, std::forward<Args>(args)...);
  }
  void run(everything&) { io.run(); }
  void finish(everything& s) {
    std::promise<void> done;
    s.post([&] {
      s.stop();
      done.set_value();
    });
    done.get_future().wait();
    io.stop();
  }
};
struct portable_asio : embedded {
  template <class... Args>
  std::unique_ptr<everything> make(Args&&... args) {
    return std::make_unique<everything>(portable, io, std::forward<Args>(args)...);
  }
};
struct own {
  template <class... Args>
  std::unique_ptr<everything> make(Args&&... args) {
    return std::make_unique<everything>(own_thread, std::forward<Args>(args)...);
  }
  void run(everything& s) { s.run(); }
  void finish(everything& s) {
    std::promise<void> done;
    s.post([&] {
      s.stop();
      done.set_value();
    });
    done.get_future().wait();
    s.quit();
  }
};

/// A server that runs on `threads` threads until this goes.
template <class Way>
struct running {
  template <class... Args>
  explicit running(Args&&... args) : s(way.make(std::forward<Args>(args)...)) {
    let_everybody_in(*s);
  }
  ~running() { finish(); }
  void start(int n = 1) {
    for (int i = 0; i < n; ++i) threads.emplace_back([this] { way.run(*s); });
  }
  void finish() {
    if (threads.empty()) return;
    way.finish(*s);
    for (auto& t : threads) t.join();
    threads.clear();
  }
  /// Runs `f` where the hooks run, and waits for it.
  template <class F>
  auto on(F f) {
    std::promise<decltype(f())> done;
    s->post([&] {
      if constexpr (std::is_void_v<decltype(f())>)
        f(), done.set_value();
      else
        done.set_value(f());
    });
    return done.get_future().get();
  }
  Way way;
  std::unique_ptr<everything> s;
  std::vector<std::thread> threads;
};

/// A thread-safe count that can be waited for.
class counter {
 public:
  void add() {
    std::lock_guard lock(mutex_);
    ++n_;
    changed_.notify_all();
  }
  bool wait_for(std::size_t n) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [&] { return n_ >= n; });
  }
  std::size_t value() {
    std::lock_guard lock(mutex_);
    return n_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t n_ = 0;
};

/// Answers when the gate is open.
struct gated_storage {
  memory_storage real;
  std::mutex mutex;
  std::condition_variable changed;
  bool open = true;
  counter asked;

  void set(bool on) {
    std::lock_guard lock(mutex);
    open = on;
    changed.notify_all();
  }
  append_result append(std::string_view channel, const draft& d) { return pass(), real.append(channel, d); }
  read_result read(std::string_view channel, std::uint64_t since, read_limit most) {
    return pass(), real.read(channel, since, most);
  }

 private:
  void pass() {
    asked.add();
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return open; });
  }
};

std::string socket_path() { return "/tmp/hailwire_test_" + std::to_string(::getpid()); }

}  // namespace

TEMPLATE_TEST_CASE("one server listens on IPv4, IPv6, a Unix socket and a ready descriptor at once", "", embedded,
                   portable_asio, own) {
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  REQUIRE(port != 0);
  std::error_code no_v6;
  auto port6 = r.s->listen("::1", 0, no_v6);
  auto path = socket_path();
  ::unlink(path.c_str());
  r.s->listen_unix(path);
  int ready = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  REQUIRE(::bind(ready, reinterpret_cast<sockaddr*>(&at), size) == 0);
  ::getsockname(ready, reinterpret_cast<sockaddr*>(&at), &size);
  r.s->listen_descriptor(ready);
  r.s->on_http([&](const request& q) { return response{200, "text/plain", q.peer() + ".", {}}; });
  r.start();

  std::vector<wire> clients;
  clients.emplace_back(port);
  clients.emplace_back(path);
  clients.emplace_back(ntohs(at.sin_port));
  if (!no_v6) clients.emplace_back(wire::v6{port6});
  CHECK(contains(clients[0].ask(get("/")), "\r\n\r\n127.0.0.1:"));
  CHECK(contains(clients[1].ask(get("/")), "\r\n\r\nunix."));
  if (!no_v6) CHECK(contains(clients[3].ask(get("/")), "\r\n\r\n[::1]:"));
  for (auto& c : clients) {
    c.send(event_stream("?channel=chat"));
    CHECK(contains(c.until("\n\n\r\n"), "event: open"));
  }
  CHECK(contains(wire(port).ask(post("?channel=chat", "1")), " 201 "));
  for (auto& c : clients) CHECK(contains(c.until("\n\n\r\n"), "\"offset\":1"));
  r.finish();
  r.s.reset();
  for (auto& c : clients) {  // a server that is destroyed at once may have no turn left for the last chunk
    auto end = c.all();
    CHECK((end.empty() || end == proto::http1::last_chunk));
  }
  ::unlink(path.c_str());
}

/// The server's end of a client's connection: both are in this process.
static int other_end(const wire& client) {
  sockaddr_in mine{}, peer{};
  socklen_t size = sizeof mine;
  ::getsockname(client.descriptor(), reinterpret_cast<sockaddr*>(&mine), &size);
  for (int d = 0; d < 1024; ++d) {
    size = sizeof peer;
    if (::getpeername(d, reinterpret_cast<sockaddr*>(&peer), &size) == 0 && peer.sin_family == AF_INET &&
        peer.sin_port == mine.sin_port)
      return d;
  }
  return -1;
}

TEMPLATE_TEST_CASE("the kernel holds little for a reader that stands still", "", embedded, portable_asio, own) {
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  r.start();
  wire still(port);
  int least = 4096;
  ::setsockopt(still.descriptor(), SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
  still.send(event_stream("?channel=chat"));
  CHECK(contains(still.until("\n\n\r\n"), "event: open"));
  int served = other_end(still);
  REQUIRE(served >= 0);
  for (int i = 0; i < 64; ++i)
    r.on([&] { std::ignore = r.s->publish("chat", payload::text(std::string(32 * 1024, 'x'))); });
  r.on([] {});
  int waiting = 0;
  REQUIRE(::ioctl(served, TIOCOUTQ, &waiting) == 0);
  CHECK(waiting > 0);
  CHECK(waiting < 256 * 1024);
  r.finish();
}

TEST_CASE(
    "a context has no more work from a server that has stopped, once its last connection is gone; what is posted still "
    "runs") {
  for (bool asio_waits : {false, true}) {
    asio::io_context io;
    options o;
    o.close_time = 1s;  // what the silent one costs
    auto live = asio_waits ? std::make_unique<everything>(portable, io, o) : std::make_unique<everything>(io, o);
    let_everybody_in(*live);
    auto port = live->listen("127.0.0.1", 0);
    std::thread context([&] { io.run(); });
    wire follower(port), silent(port);
    follower.send(event_stream("?channel=chat")).until("\n\n\r\n");
    silent.send("GET");
    live->post([&] { live->stop(); });
    follower.all();
    silent.all();
    context.join();
    bool ran = false;
    live->post([&] { ran = true; });
    io.restart();
    io.run();
    CHECK(ran);
    live->stop();
    io.restart();
    io.run();
  }
  asio::io_context io;
  everything never_run(io);
  never_run.listen("127.0.0.1", 0);
  never_run.stop();
  io.run();
}

TEMPLATE_TEST_CASE("a drained server tells its clients, answers what is asked meanwhile, and says when all are gone",
                   "", embedded, portable_asio, own) {
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  bool was_ready = false;
  r.s->on_http([&](const request&) { return response{.status = r.s->ready() ? 200 : 503}; });
  r.start();
  std::vector<wire> followers;
  for (int i = 0; i < 3; ++i) followers.emplace_back(port).send(event_stream("?channel=chat")).until("\n\n\r\n");
  wire speaker(port), health(port);
  speaker.send(upgrade("?channel=chat")).until("\"open\"");
  CHECK(contains(health.ask("GET /health HTTP/1.1\r\nHost: h\r\n\r\n"), " 200 "));
  std::promise<void> gone;
  r.on([&] {
    was_ready = r.s->ready();
    r.s->drain(30s, {.closes_per_second = 1}, [&] { gone.set_value(); });
    CHECK_FALSE(r.s->ready());
  });
  CHECK(was_ready);
  CHECK(contains(followers[0].all(), "event: bye\n"));
  // The others go on, and so does what they ask.
  speaker.send(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})")).until(R"({"reply":1,"ok")");
  CHECK(contains(followers[2].until("\"offset\":1,"), "\"offset\":1,"));
  CHECK(contains(wire(port).ask(get("/live?channel=chat")), " 503 "));
  auto told = health.ask("GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(contains(told, " 503 "));
  CHECK(contains(told, "Connection: close"));
  r.on([&] { r.s->drain(0s); });
  CHECK(contains(followers[2].all(), "event: bye\n"));
  followers.clear();
  CHECK(contains(speaker.until("draining"), "draining"));
  speaker.reset();
  health.reset();
  REQUIRE(gone.get_future().wait_for(limit) == std::future_status::ready);
  CHECK(r.s->publish("chat", payload::json("2")) == operation_aborted());
}

TEMPLATE_TEST_CASE("what a posted function or a publish handler throws is logged, and the server goes on", "", embedded,
                   portable_asio) {
  asio::io_context io;
  auto live = std::is_same_v<TestType, embedded> ? std::make_unique<everything>(io)
                                                 : std::make_unique<everything>(portable, io);
  std::vector<std::string> logged;
  live->on_log([&](const log_record& r) { logged.emplace_back(r.text); });
  bool ran = false, published = false;
  live->post([] { throw std::runtime_error("posted"); });
  live->post([&] { ran = true; });
  live->post([&] {
    CHECK_FALSE(
        live->publish("chat", payload::json("1"), [](std::error_code, position) { throw std::runtime_error("told"); }));
  });
  live->post([&] {
    std::ignore = live->publish("chat", payload::json("1"), [&](std::error_code, position) {
      published = true;
      io.stop();
    });
  });
  io.run_for(limit);
  CHECK(ran);
  CHECK(published);
  CHECK(logged == std::vector<std::string>{"a posted function threw: posted", "a handler threw: told"});
}

TEST_CASE("nothing comes from a connection that is closed, also while somebody else still holds its socket") {
  asio::io_context io;
  everything live(io);
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  int held = ::dup(ends[1]);
  live.adopt_descriptor(ends[1]);
  auto some_turns = [&] {
    for (int i = 0; i < 5; ++i) {
      bool turned = false;
      live.post([&] { turned = true; });
      while (!turned) io.run_one_for(limit);
    }
  };
  REQUIRE(::send(ends[0], "BAD\r\n\r\n", 7, 0) == 7);
  for (char bytes[4096]; ::recv(ends[0], bytes, sizeof bytes, MSG_DONTWAIT) != 0;)
    some_turns();                // the refusal and its end
  ::shutdown(ends[0], SHUT_WR);  // the connection is over
  some_turns();
  CHECK(live.sessions().empty());
  ::close(ends[0]);  // an event of the socket that is still held
  some_turns();
  ::close(held);
}

TEMPLATE_TEST_CASE("listening says what is wrong", "", embedded, portable_asio, own) {
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  std::error_code ec;
  CHECK(r.s->listen("127.0.0.1", port, ec) == 0);
  CHECK(ec == std::errc::address_in_use);
  CHECK(r.s->listen("localhost", 0, ec) == 0);
  CHECK(ec == std::errc::invalid_argument);
  CHECK_THROWS_WITH(r.s->listen("localhost", 0),
                    "listen on \"localhost\": an address is needed, such as 127.0.0.1 or ::1: Invalid argument");
  CHECK_THROWS_AS(r.s->listen("127.0.0.1", port), std::system_error);
  CHECK_THROWS_AS(r.s->listen_unix("/nowhere/at/all"), std::system_error);
  CHECK_THROWS_AS(r.s->listen_unix(std::string(200, 'x')), std::system_error);
  CHECK_THROWS_WITH(r.s->listen_unix(""), "listen on : Invalid argument");
  CHECK_THROWS_AS(r.s->on_websocket("echo", {}), std::invalid_argument);
  CHECK_THROWS_AS(r.s->listen_descriptor(-1), std::system_error);
}

TEMPLATE_TEST_CASE("four clients on four transports see the same messages from one another", "", embedded,
                   portable_asio, own) {
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  r.start();
  wire ws(port), es(port), lp(port), sp(port);
  ws.send(upgrade("?channel=chat"));
  es.send(event_stream("?channel=chat"));
  CHECK(contains(ws.until("recovered\":true}}}}"), "101 Switching"));
  es.until("\n\n\r\n");
  auto first = lp.ask(get("/live?channel=chat&wait=20"));
  auto cursor = first.substr(first.find("\"cursor\":\"") + 10);
  cursor = cursor.substr(0, cursor.find('"'));
  lp.send(get("/live?channel=chat&wait=20&since=" + cursor));
  CHECK(contains(sp.ask(post("?channel=chat&user=sp", "\"from sp\"")), " 201 "));
  CHECK(contains(lp.until("\"}"), "from sp"));
  ws.send(frame(R"({"id":1,"publish":{"channel":"chat","data":"from ws"}})"));
  CHECK(contains(ws.until("\"from ws\"}"), "\"reply\":1"));
  CHECK(contains(es.until("\"from ws\"}\n"), "\"from sp\""));
  auto all = sp.ask(get("/live?channel=chat&since=" + cursor));
  CHECK(contains(all, "\"from sp\""));
  CHECK(contains(all, "\"from ws\""));
}

TEMPLATE_TEST_CASE("an answer arrives whole on a connection that ends with it, or whose client ended its half", "",
                   embedded, portable_asio, own) {
  std::string page(3'000'000, 'p');
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  r.s->on_http([&](const request&) { return response{200, "text/plain", page, {}}; });
  r.start();
  for (int i = 0; i < 3; ++i) {
    wire c(port), h(port), old(port);
    c.send(get("/", "Connection: close\r\n"));
    old.send("GET / HTTP/1.0\r\n\r\n");
    h.send(get("/"));
    h.end();
    CHECK(c.all().size() > page.size());
    CHECK(old.all().size() > page.size());
    CHECK(h.all().size() > page.size());
  }
}

TEMPLATE_TEST_CASE("a connection lives on while it waits for nothing but the storage", "", embedded, portable_asio,
                   own) {
  gated_storage store;
  blocking_storage off_loop({}, store);
  running<TestType> r(off_loop);
  auto port = r.s->listen("127.0.0.1", 0);
  r.start();
  wire c(port), p(port);
  c.send(upgrade("?channel=chat"));
  c.until("recovered\":true}}}}");
  auto before = store.asked.value();
  store.set(false);
  c.send(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})"));
  REQUIRE(store.asked.wait_for(before + 1));
  // More than is read ahead, so that nothing is waited for any more.
  for (int i = 0; i < 20; ++i) c.send(frame("{\"id\":2,\"ping\":{}}"));
  p.send(post("?channel=news", "1") + std::string(40'000, '\r'));
  REQUIRE(store.asked.wait_for(before + 2));
  r.on([] {});
  r.on([] {});
  store.set(true);
  CHECK(contains(c.until("\"reply\":2"), "\"reply\":1,\"ok\""));
  CHECK(contains(p.until("\r\n\r\n"), " 201 "));
}

TEMPLATE_TEST_CASE("a host's own acceptor asks who claims a request and hands the socket on", "", embedded,
                   portable_asio) {
  running<TestType> r;
  everything& s = *r.s;
  CHECK(s.claims("GET /live?channel=a HTTP/1.1\r\n") == claim::yes);

  asio::ip::tcp::acceptor acceptor(r.way.io, {asio::ip::make_address("127.0.0.1"), 0});
  auto port = acceptor.local_endpoint().port();
  std::vector<std::shared_ptr<asio::ip::tcp::socket>> kept;
  auto serve = std::make_shared<std::function<void()>>();
  *serve = [&] {
    acceptor.async_accept([&](std::error_code ec, asio::ip::tcp::socket peer) {
      if (ec) return;
      auto socket = std::make_shared<asio::ip::tcp::socket>(std::move(peer));
      auto head = std::make_shared<std::array<char, 4096>>();
      socket->async_read_some(asio::buffer(*head), [&, socket, head](std::error_code failed, std::size_t n) {
        if (failed) return;
        std::string_view bytes(head->data(), n);
        if (s.claims(bytes) == claim::yes) return s.adopt(std::move(*socket), bytes);
        static const std::string own = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhost.";
        hailwire::detail::net_error_code ignored;
        socket->write_some(asio::buffer(own), ignored);
        kept.push_back(socket);
      });
      (*serve)();
    });
  };
  (*serve)();
  r.start();
  wire host(port), ws(port), es(port);
  CHECK(contains(host.ask(get("/page")), "host."));
  ws.send(upgrade("?channel=chat") + frame(R"({"id":1,"publish":{"channel":"chat","data":1}})"));
  CHECK(contains(ws.until("\"data\":1}"), "\"reply\":1"));
  es.send(event_stream("?channel=chat&since=earliest"));
  CHECK(contains(es.until("\"data\":1}\n"), "event: open"));
  es.reset();
  CHECK(contains(ws.send(frame(R"({"id":2,"ping":{}})")).until("\"reply\":2"), ""));
  r.on([&] {
    hailwire::detail::net_error_code ignored;
    acceptor.close(ignored);
  });
  r.finish();
}

TEST_CASE("what is claimed is what the server would serve, and the same however the head is cut") {
  asio::io_context io;
  everything s(io);
  s.on_websocket("/frames", {});
  s.on_http([](const request& r) { return response{.content_type = "text/plain", .body = "the host's " + r.path()}; });
  let_everybody_in(s);
  const std::string fields = "Host: h\r\n\r\n";
  auto upgrades = [](const std::string& target) {
    auto all = upgrade("");
    return all.replace(all.find("/live"), 5, target);
  };
  const std::pair<std::string, bool> cases[] = {
      {"GET /live?channel=a HTTP/1.1\r\n" + fields, true},
      {"POST /li%76e HTTP/1.1\r\n" + fields, true},
      {"GET http://h/live?channel=a HTTP/1.1\r\n" + fields, true},
      {"GET HTTPS://h:1/live?channel=a HTTP/1.1\r\n" + fields, true},
      {"\r\nGET /live?channel=a HTTP/1.1\r\n" + fields, true},
      {"\r\n\r\nOPTIONS /live HTTP/1.1\r\n" + fields, true},
      {upgrades("/frames"), true},
      {"GET /frames HTTP/1.1\r\n" + fields, false},
      {"GET /livestream HTTP/1.1\r\n" + fields, false},
      {"GET /live/ HTTP/1.1\r\n" + fields, false},
      {"GET http://live/ HTTP/1.1\r\n" + fields, false},
      {"GET http://h?/live HTTP/1.1\r\n" + fields, false},
      {"OPTIONS * HTTP/1.1\r\n" + fields, false},
      {upgrades("/chat"), false},
  };
  for (auto& [head, ours] : cases) {
    CAPTURE(head);
    CHECK((s.claims(head) == claim::yes) == ours);
    for (std::size_t n = 0; n < head.size(); ++n) {
      auto said = s.claims(std::string_view(head).substr(0, n));
      if (said != claim::need_more) CHECK((said == claim::yes) == ours);
    }
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    wire c = wire::of(ends[0]);
    s.adopt_descriptor(ends[1], head);
    for (auto until = std::chrono::steady_clock::now() + limit; !c.readable() && io.run_one_until(until);) {
    }
    CHECK(contains(c.some(), "the host's ") != ours);
  }
  CHECK(s.claims("") == claim::need_more);
  CHECK(s.claims("GET /live") == claim::need_more);
  for (auto none : {"GET /%zz HTTP/1.1\r\n", "GET /live\r\n", "GET /live HTTP/1.1\n", "\x16\x03\x01",
                    "GET  HTTP/1.1\r\n", "\r\n\r\n\r\n\r\n\r\n\r\n"})
    CHECK(s.claims(none) == claim::no);
  CHECK(s.claims("GET /" + std::string(20'000, 'x')) == claim::no);
}

TEMPLATE_TEST_CASE("connections are handed over from any thread", "", embedded, portable_asio, own) {
  constexpr int hosts = 4, each = 50;
  running<TestType> r;
  std::vector<std::vector<wire>> clients(hosts);
  std::vector<std::thread> threads;
  std::atomic<int> claimed = 0;
  auto adopt = [&](int i) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return;  // Catch takes one thread at a time
    clients[static_cast<std::size_t>(i)].push_back(wire::of(ends[0]));
    const std::string head = event_stream("?channel=chat");
    if (r.s->claims(head) == claim::yes) ++claimed;
    if (clients[static_cast<std::size_t>(i)].size() % 2) return r.s->adopt_descriptor(ends[1], head);
    asio::io_context theirs;  // the socket is another executor's
    r.s->adopt(asio::local::stream_protocol::socket(theirs, asio::local::stream_protocol(), ends[1]), head);
  };
  adopt(0);  // before it runs
  r.start();
  for (int i = 0; i < hosts; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < each; ++n) adopt(i);
    });
  }
  for (auto& t : threads) t.join();
  CHECK(claimed == hosts * each + 1);
  for (auto& some : clients)
    for (auto& c : some) CHECK(contains(c.until("recovered\":true}}}}"), "event: open"));
  CHECK(r.on([&] { return r.s->sessions().size(); }) == hosts * each + 1);
  r.finish();
}

TEMPLATE_TEST_CASE("what is no descriptor is refused, and one that comes after a stop is closed", "", embedded,
                   portable_asio, own) {
  running<TestType> r;
  CHECK_THROWS_AS(r.s->adopt_descriptor(-1), std::system_error);
  CHECK_THROWS_AS(r.s->adopt_descriptor(1'000'000), std::system_error);
  if constexpr (!std::is_same_v<TestType, own>)
    CHECK_THROWS_AS(r.s->adopt(asio::ip::tcp::socket(r.way.io)), std::system_error);
  r.start();
  CHECK(r.on([&] { return r.s->sessions().size(); }) == 0);
  r.on([&] { r.s->stop(); });
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  wire late = wire::of(ends[0]);
  r.s->adopt_descriptor(ends[1]);
  CHECK(late.all().empty());
  r.finish();
}

TEST_CASE("a server that is seen to run on another thread says so, for the assertions") {
  detail::own_thread_driver d;
  CHECK_FALSE(d.elsewhere());
  std::promise<bool> inside;
  std::thread runs([&] { d.run(); });
  d.post([&] { inside.set_value(d.elsewhere()); });
  CHECK_FALSE(inside.get_future().get());
  CHECK(d.elsewhere());
  d.quit();
  runs.join();
  CHECK_FALSE(d.elsewhere());
}

TEST_CASE("a portable server is seen to run on another thread while it serves something") {
  asio::io_context io;
  everything live(portable, io);
  auto d = std::make_shared<detail::asio_driver<detail::strand>>(io.get_executor());
  bool other = false, same = true;
  d->on_alarm([&] {
    std::thread([&] { other = d->elsewhere(); }).join();
    same = d->elsewhere();
  });
  d->alarm(0);
  CHECK_FALSE(d->elsewhere());
  io.run();
  CHECK(other);
  CHECK_FALSE(same);
  CHECK_FALSE(d->elsewhere());
}

TEMPLATE_TEST_CASE("many threads publish into a context that several threads run: everybody reads everything, in order",
                   "", embedded, portable_asio) {
  constexpr int publishers = 4, each = 500, readers = 6;
  memory_storage store({.messages = 10'000});
  counter ready, done;
  std::atomic<int> wrong = 0;
  running<TestType> r(store);
  auto port = r.s->listen("127.0.0.1", 0);
  r.start(4);
  std::vector<std::future<bool>> results;
  for (int i = 0; i < readers; ++i) {
    results.push_back(std::async(std::launch::async, [&, i] {
      wire c(port);
      c.send(i % 2 ? event_stream("?channel=chat") : upgrade("?channel=chat"));
      c.until("recovered\":true}}}}");
      ready.add();
      int last[publishers] = {};
      for (int n = 1; n <= publishers * each; ++n) {
        auto one = c.until("\"}");
        if (!contains(one, "\"offset\":" + std::to_string(n) + ',')) return false;
        auto data = one.substr(one.find("\"data\":\"") + 8);
        int who = data[0] - '0', number = std::stoi(data.substr(2));
        if (number != ++last[who]) return false;
      }
      return true;
    }));
  }
  REQUIRE(ready.wait_for(readers));
  std::vector<std::thread> threads;
  for (int i = 0; i < publishers; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 1; n <= each; ++n) {
        for (;;) {
          auto ec = r.s->publish("chat", payload::text(std::to_string(i) + ' ' + std::to_string(n)),
                                 [&](std::error_code e, position) {
                                   if (e || !r.s->get_executor().running_in_this_thread()) ++wrong;
                                   done.add();
                                 });
          if (!ec) break;
          if (ec != errc::overloaded) ++wrong;
          std::this_thread::yield();
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(done.wait_for(publishers * each));
  for (auto& f : results) CHECK(f.get());
  CHECK(wrong == 0);
  CHECK(done.value() == publishers * each);
}

TEST_CASE("one payload goes to several channels, and of each is told what became of it") {
  asio::io_context io;
  hailwire::options o;
  o.max_pending = 2;
  everything live(io, o);
  std::vector<std::pair<std::string, std::string>> told;
  auto note = [&](std::string_view channel, std::error_code ec, const position& at) {
    told.emplace_back(channel, ec ? std::string(ec.message()) : std::to_string(at.offset));
  };
  live.publish_all({"a", "a", "b"}, payload::json("1"), {}, note);  // before the context runs each one waits
  REQUIRE(told.size() == 1);
  CHECK(told[0].first == "b");
  CHECK(told[0].second == make_error_code(errc::overloaded).message());
  while (told.size() < 3 && io.run_one_for(limit)) {
  }
  told.clear();
  live.post([&] { live.publish_all({"a", "b", "", "c"}, payload::json("2"), {.key = "k"}, note); });
  live.publish_all({}, payload::json("3"), {}, note);
  while (told.size() < 4 && io.run_one_for(limit)) {
  }
  CHECK(told == std::vector<std::pair<std::string, std::string>>{
                    {"a", "3"}, {"b", "1"}, {"", make_error_code(errc::bad_request).message()}, {"c", "1"}});
}

TEST_CASE("a session is found again by its key while it lives, with what the authorizer attached") {
  asio::io_context io;
  everything live(io);
  struct account {
    int balance = 7;
  };
  auto known = std::make_shared<account>();
  live.authorize([&](const request&) { return grant{.follow = channel_set::all(), .attached = known}; });
  std::optional<session_key> key;
  bool closed = false, found = false;
  live.on_open([&](session& s) {
    key = s.key();
    found = live.find(*key) == &s;
    auto mine = std::static_pointer_cast<account>(s.permissions().attached());
    CHECK(mine == known);
  });
  live.on_close([&](session&, const close_reason&) { closed = true; });
  auto port = live.listen("127.0.0.1", 0);
  {
    wire c(port);
    c.send(event_stream("?channel=chat"));
    while (!key && io.run_one_for(limit)) {
    }
    CHECK(found);
    CHECK(known.use_count() == 2);  // the grant has one
  }
  while (!closed && io.run_one_for(limit)) {
  }
  REQUIRE(closed);
  io.poll();
  REQUIRE(key);
  CHECK(live.find(*key) == nullptr);
}

TEMPLATE_TEST_CASE("past max_pending a publish is overloaded, and its handler is never called", "", embedded,
                   portable_asio, own) {
  options o;
  o.max_pending = 10;
  gated_storage store;
  blocking_storage off_loop({}, store);
  counter done;
  running<TestType> r(off_loop, o);
  r.start();
  store.set(false);
  int taken = 0, refused = 0;
  for (int i = 0; i < 30; ++i) {
    auto ec = r.s->publish("chat", payload::json("1"), [&](std::error_code, position) { done.add(); });
    ++(ec ? refused : taken);
    if (ec) CHECK(ec == errc::overloaded);
  }
  CHECK(taken == 10);
  CHECK(refused == 20);
  store.set(true);
  CHECK(done.wait_for(10));
  CHECK_FALSE(r.s->publish("chat", payload::json("1"), [&](std::error_code, position) { done.add(); }));
  CHECK(done.wait_for(11));
}

TEMPLATE_TEST_CASE("stop ends everything in order, twice is once, and publishing afterwards is an error", "", embedded,
                   portable_asio, own) {
  std::atomic<int> opened = 0, closed = 0;
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  r.s->on_open([&](session&) { ++opened; });
  r.s->on_close([&](session&, const close_reason&) { ++closed; });
  r.start();
  wire ws(port), es(port), lp(port), idle(port);
  ws.send(upgrade("?channel=chat")).until("recovered\":true}}}}");
  es.send(event_stream("?channel=chat")).until("\n\n\r\n");
  auto first = lp.ask(get("/live?channel=chat"));
  auto cursor = first.substr(first.find("\"cursor\":\"") + 10);
  lp.send(get("/live?channel=chat&wait=50&since=" + cursor.substr(0, cursor.find('"'))));
  CHECK(contains(idle.ask(get("/nowhere")), " 404 "));
  while (r.on([&] { return r.s->sessions().size(); }) < 3) {
  }
  r.on([&] {
    r.s->stop();
    r.s->stop();
    CHECK(r.s->publish("chat", payload::json("1"), [](std::error_code, position) { FAIL("called"); }) ==
          operation_aborted());
  });
  CHECK(contains(ws.until("server stopped"), "\x03\xE9"));
  CHECK(es.all() == proto::http1::last_chunk);
  CHECK(contains(lp.all(), "Connection: close"));
  CHECK(idle.all().empty());
  CHECK(wire(port).all() == "<not connected>");
  std::thread other([&] { CHECK(r.s->publish("chat", payload::json("1")) == operation_aborted()); });
  other.join();
  ws.send(std::string("\x88\x82\0\0\0\0\x03\xE9", 8));
  CHECK(ws.all().empty());
  while (r.on([&] { return r.s->sessions().size(); }) > 0) {
  }
  CHECK(opened == 4);
  CHECK(closed == 4);
  std::error_code ec;
  CHECK(r.s->listen("127.0.0.1", 0, ec) == 0);
  CHECK(ec == operation_aborted());
}

TEST_CASE("behind a stop nothing keeps a context waiting whose sockets Asio waits for") {
  asio::io_context io;
  host_storage store;  // the hub keeps keys for it, for five minutes
  server<sse> s(portable, io, store);
  let_everybody_in(s);
  wire c(s.listen("127.0.0.1", 0));
  CHECK_FALSE(s.publish("chat", payload::json("1"), {.key = "k"}));
  c.send(event_stream("?channel=chat"));
  auto until = std::chrono::steady_clock::now() + limit;
  while (s.hub().session_count() == 0 && io.run_one_until(until)) {
  }
  asio::post(io, [&] { s.stop(); });
  std::thread peer([c = std::move(c)]() mutable { c.all(); });
  io.run_until(until);
  peer.join();
  CHECK(std::chrono::steady_clock::now() < until);
}

TEMPLATE_TEST_CASE("the destructor closes all and aborts what is pending, also with a storage that is stuck", "",
                   embedded, portable_asio, own) {
  gated_storage store;
  auto off_loop = std::make_unique<blocking_storage<gated_storage&>>(blocking_options{}, store);
  std::atomic<int> aborted = 0, others = 0, closed = 0;
  std::optional<wire> ws, posting;
  {
    running<TestType> r(*off_loop);
    auto port = r.s->listen("127.0.0.1", 0);
    r.s->on_close([&](session&, const close_reason&) { ++closed; });
    r.start();
    ws.emplace(port);
    posting.emplace(port);
    ws->send(upgrade("?channel=chat")).until("recovered\":true}}}}");
    auto before = store.asked.value();
    store.set(false);
    for (int i = 0; i < 5; ++i) {
      std::ignore = r.s->publish("c" + std::to_string(i), payload::json("1"), [&](std::error_code ec, position) {
        ++(ec == operation_aborted() ? aborted : others);
      });
    }
    posting->send(post("?channel=chat", "1"));
    ws->send(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})"));
    REQUIRE(store.asked.wait_for(before + 4));  // as many as the storage has threads
    // Not `stop`: the context just ends, and the server with it.
    if constexpr (std::is_same_v<TestType, own>)
      r.s->quit();
    else
      r.way.io.stop();
    for (auto& t : r.threads) t.join();
    r.threads.clear();
  }
  CHECK(aborted == 5);
  CHECK(others == 0);
  CHECK(closed == 1);
  ws->all();
  posting->all();
  store.set(true);
  off_loop.reset();  // its late answers find nobody
  CHECK(aborted == 5);
  CHECK(others == 0);
}

TEMPLATE_TEST_CASE("a server may be destroyed before its context has run what is posted", "", embedded, portable_asio) {
  TestType way;
  {
    auto s = way.make();
    let_everybody_in(*s);
    auto port = s->listen("127.0.0.1", 0);
    wire c(port);
    c.send(upgrade("?channel=chat"));
    way.io.run_for(1ms);
    std::thread other([&] {
      CHECK_FALSE(s->publish("chat", payload::json("1"),
                             [](std::error_code ec, position) { CHECK(ec == operation_aborted()); }));
    });
    other.join();
    s->post([] {});
  }
  way.io.run_for(1ms);
}

TEMPLATE_TEST_CASE("without descriptors accepting pauses instead of spinning, and goes on when there are some", "",
                   embedded, portable_asio) {
  std::size_t pauses = 0, closed = 0;
  TestType way;
  auto s = way.make();
  let_everybody_in(*s);
  auto port = s->listen("127.0.0.1", 0);
  s->on_log([&](const log_record& r) { pauses += r.event == "accept_paused"; });
  s->on_close([&](session&, const close_reason&) { ++closed; });
  auto early = wire(port), timed = wire(port);
  auto late = wire::unconnected();
  early.send(event_stream("?channel=chat"));
  // Everything has happened once before, a timer too: sanitizers open files when they meet something new.
  timed.send(get("/live?channel=chat&since=earliest&wait=1"));
  while (closed == 0) way.io.run_one_for(1s);

  rlimit was{};
  ::getrlimit(RLIMIT_NOFILE, &was);
  int next = ::dup(0);
  REQUIRE(next >= 0);
  ::close(next);
  rlimit tight{static_cast<rlim_t>(next), was.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
  late.connect(port);
  late.send(get("/nowhere"));
  auto cpu = [] {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    return std::chrono::seconds(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           std::chrono::microseconds(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  };
  auto began = std::chrono::steady_clock::now();
  auto busy = cpu();
  while (pauses < 4 && std::chrono::steady_clock::now() - began < limit) way.io.run_one_for(1s);
  auto took = std::chrono::steady_clock::now() - began;
  busy = cpu() - busy;
  std::ignore = s->publish("chat", payload::json("1"));  // the others are served meanwhile
  way.io.run_for(1ms);
  ::setrlimit(RLIMIT_NOFILE, &was);
  CHECK(pauses >= 4);
  CHECK(took >= 500ms);  // three pauses of 200 ms lie between four tries
  CHECK(busy < took / 2);
  CHECK(contains(early.until("\"data\":1}\n"), "event: open"));

  std::string answer;
  std::thread reader([&] {
    answer = late.until("\r\n\r\n");
    way.io.stop();
  });
  way.io.run();
  reader.join();
  CHECK(contains(answer, " 404 "));
}

TEMPLATE_TEST_CASE("clients that reset their connections are forgotten", "", embedded, portable_asio, own) {
  counter closed;
  running<TestType> r;
  auto port = r.s->listen("127.0.0.1", 0);
  r.s->on_close([&](session&, const close_reason& why) {
    if (why.by_peer) closed.add();
  });
  r.start();
  for (int i = 0; i < 20; ++i) {
    wire c(port);
    c.send(i % 2 ? event_stream("?channel=chat") : upgrade("?channel=chat"));
    c.until("recovered\":true}}}}");
    c.reset();
  }
  CHECK(closed.wait_for(20));
  CHECK(r.on([&] { return r.s->sessions().size(); }) == 0);
}
