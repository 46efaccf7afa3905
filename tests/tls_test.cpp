// SPDX-License-Identifier: BSL-1.0
#include "hailwire/tls.hpp"

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <chrono>
#include <functional>
#include <future>
#include <thread>

#include "hailwire/transport/short_poll.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"
#include "tls_wire.hpp"

using namespace tls_wire;

// ---- contexts

TEST_CASE("a context says what is wrong with it") {
  auto complaint = [](const tls_options& o) -> std::string {
    try {
      tls_context c(o);
      return "none";
    } catch (const std::system_error& e) {
      CHECK(e.code());
      CHECK(::ERR_peek_error() == 0);
      return e.what();
    }
  };
  auto secret = issue("secret", {}, &authority());
  tls_certificate locked{pem(secret.certificate.get()), pem(secret.key.get(), "open sesame")};
  CHECK(complaint(with()) == "none");
  CHECK(complaint({}) == "hailwire: TLS without a certificate: Invalid argument");
  CHECK(complaint(with({{plain().chain, locked.key, "open sesame"}})) ==
        "hailwire: certificate 1, key: key values mismatch");
  CHECK(complaint(with({plain(), {"", plain().key}})) == "hailwire: certificate 2, chain: no start line");
  CHECK(complaint(with({{plain().chain, "nonsense"}})).starts_with("hailwire: certificate 1, key: "));
  CHECK(
      complaint(with({{plain().chain + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", plain().key}}))
          .starts_with("hailwire: certificate 1, chain: "));
  CHECK(complaint(with({locked})).starts_with("hailwire: certificate 1, key: "));
  locked.password = "open sesame";
  CHECK(complaint(with({locked})) == "none");
  locked.password = std::string(5000, 'x');
  CHECK(complaint(with({locked})).starts_with("hailwire: certificate 1, key: "));
  auto o = with();
  o.clients = tls_clients::must_show;
  CHECK(complaint(o) == "hailwire: client_ca: no start line");
  o.client_ca = pem(authority().certificate.get());
  CHECK(complaint(o) == "none");
  o.client_crl = "nonsense";
  CHECK(complaint(o) == "hailwire: client_crl: no start line");
  o.client_crl = revoked(authority(), {});
  CHECK(complaint(o) == "none");
  CHECK_THROWS_AS(tls_certificate::from_files("/nonexistent/chain.pem", "/nonexistent/key.pem"), std::system_error);
}

TEST_CASE("a chain is sent whole") {
  KEEP_RECORDS_BOTH_WAYS;
  auto middle = issue("in between", {}, &authority(), true);
  auto leaf = issue("leaf", "DNS:leaf.example", &middle);
  wire w(made(with({{pem(leaf.certificate.get()) + pem(middle.certificate.get()), pem(leaf.key.get())}})));
  w.settle();
  CHECK(sk_X509_num(::SSL_get_peer_cert_chain(w.peer.ssl.get())) == 2);
}

// ---- whole servers

namespace {

using tls_server = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::short_poll>;

/// A blocking client over a real socket.
class visitor {
 public:
  explicit visitor(std::uint16_t port, int receive_buffer = 0)
      : peer_({}), d_(tls_wire::connect_to(port, receive_buffer)) {
    peer_.give({});
  }
  /// Over a socket that is connected already.
  struct over {
    int descriptor;
  };
  explicit visitor(over connected) : peer_({}), d_(connected.descriptor) { peer_.give({}); }
  ~visitor() { ::close(d_); }

  /// Bytes beside TLS.
  void send_bare(std::string_view bytes) {
    REQUIRE(::send(d_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  /// Whether the connection ends without a byte.
  bool turned_away() {
    char byte;
    return ::recv(d_, &byte, 1, 0) <= 0;
  }
  void flush() {
    auto bytes = peer_.take();
    if (!bytes.empty())
      REQUIRE(::send(d_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  /// False at the end.
  bool more() {
    char bytes[30000];
    ssize_t n = ::recv(d_, bytes, sizeof bytes, 0);
    if (n > 0) peer_.give({bytes, static_cast<std::size_t>(n)});
    flush();
    return n > 0;
  }
  void shake() {
    flush();
    while (!::SSL_is_init_finished(peer_.ssl.get())) REQUIRE(more());
  }
  void ask(std::string_view request) {
    peer_.write(request);
    flush();
  }
  std::string read_until(std::string_view text) {
    while (peer_.received.find(text) == std::string::npos) REQUIRE(more());
    return std::exchange(peer_.received, {});
  }
  client& tls() { return peer_; }
  void farewell() {
    ::SSL_shutdown(peer_.ssl.get());
    flush();
  }
  void end_socket() { ::shutdown(d_, SHUT_WR); }
  /// Whether the connection's end was told of.
  bool told_of_the_end() {
    while (more()) {
    }
    return peer_.closed && !peer_.failed;
  }

 private:
  client peer_;
  int d_;
};

std::string get(std::string_view target, std::string_view more = {}) {
  return std::string("GET ").append(target).append(" HTTP/1.1\r\nHost: localhost\r\n").append(more).append("\r\n");
}

std::string common_name(visitor& v) {
  x509_pointer x(::SSL_get1_peer_certificate(v.tls().ssl.get()));
  char common[64] = "";
  ::X509_NAME_get_text_by_NID(::X509_get_subject_name(x.get()), NID_commonName, common, sizeof common);
  return common;
}

constexpr int burst = 25;

void prepare(tls_server& s) {
  s.authorize([](const hailwire::request& r) -> hailwire::decision {
    if (!r.secure()) return hailwire::errc::forbidden;
    return hailwire::grant{.follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
  });
  s.on_http([&s](const hailwire::request& r) {
    if (r.path() == "/burst") {
      // In one turn: WebSocket frames of as many bytes as a record's, the first one byte shorter. So a record ends one
      // byte behind a frame.
      for (int i = 1; i <= burst; ++i) {
        std::size_t rest =
            std::string_view("{\"channel\":\"c\",\"offset\":,\"at\":1234567890123,\"data\":\"\"}").size() +
            std::to_string(i).size();
        if (s.publish("c", hailwire::payload::json('"' + std::string((i == 1 ? 16'379 : 16'380) - rest, 'x') + '"')))
          return hailwire::response{.status = 500};  // nothing is checked on this thread: Catch2 takes one at a time
      }
    }
    if (r.path() == "/big") return hailwire::response{.body = some_text(3'000'000)};
    return hailwire::response{.body = r.tls() ? r.tls()->version + " to " + r.tls()->server_name : "plain"};
  });
}

/// Runs `f(server)` beside the server's own thread; on every driver.
template <class F>
void on_every_driver(F f) {
  for (int driver = 0; driver < 3; ++driver) {
    INFO("driver " << driver);
    asio::io_context io(1);
    std::unique_ptr<tls_server> s;
    hailwire::options o;
    o.send_buffer = 16 * 1024;  // a slow reader is soon one
    if (driver == 0) s = std::make_unique<tls_server>(io, o);
    if (driver == 1) s = std::make_unique<tls_server>(hailwire::portable, io, o);
    if (driver == 2) s = std::make_unique<tls_server>(hailwire::own_thread, o);
    prepare(*s);
    auto guard = asio::make_work_guard(io);
    f(*s, [&](auto&& play) {
      std::thread t([&] { driver == 2 ? s->run() : static_cast<void>(io.run()); });
      std::exception_ptr failed;
      try {
        play();
      } catch (...) {
        failed = std::current_exception();
      }
      driver == 2 ? s->quit() : io.stop();
      t.join();
      if (failed) std::rethrow_exception(failed);
    });
  }
}

}  // namespace

TEST_CASE("connections are handed over to TLS by four threads at once, on every driver") {
  on_every_driver([](tls_server& s, auto play) {
    tls_context context(with());
    play([&] {
      constexpr std::size_t hosts = 4, each = 5;
      std::vector<std::array<int, 2>> ends(hosts * each);
      for (auto& e : ends) REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, e.data()) == 0);
      std::vector<std::thread> threads;
      for (std::size_t t = 0; t < hosts; ++t)
        threads.emplace_back([&, t] {
          for (std::size_t n = 0; n < each; ++n) hailwire::adopt_tls(s, context, ends[t * each + n][1]);
        });
      for (auto& t : threads) t.join();
      for (auto& e : ends) {
        visitor v(visitor::over{e[0]});
        v.shake();
        v.ask(get("/hello"));
        CHECK(v.read_until("localhost").ends_with("TLSv1.3 to localhost"));
      }
    });
  });
}

TEST_CASE(
    "a server speaks TLS beside plain text on every driver, to slow readers too, and reloads without dropping "
    "anybody") {
  KEEP_RECORDS_BOTH_WAYS;
  on_every_driver([](tls_server& s, auto play) {
    tls_context context(with());
    auto port = hailwire::listen_tls(s, context, "127.0.0.1", 0);
    auto plain_port = s.listen("127.0.0.1", 0);
    play([&] {
      visitor v(port);
      v.shake();
      v.ask(get("/hello"));
      CHECK(v.read_until("localhost").ends_with("TLSv1.3 to localhost"));

      visitor slow(port, 4096);
      slow.shake();
      slow.ask(get("/big", "Connection: close\r\n"));
      while (!slow.tls().closed) REQUIRE(slow.more());
      CHECK(slow.tls().received.ends_with(some_text(3'000'000)));

      visitor follower(port);
      follower.shake();
      follower.ask(get("/live?channel=chat", "Accept: text/event-stream\r\n"));
      follower.read_until("\"open\"");

      CHECK(context.reload({}) == std::errc::invalid_argument);
      CHECK_FALSE(context.reload(with({pem(issue("renewed", "DNS:localhost", &authority()))})));
      visitor late(port);
      late.shake();
      CHECK(common_name(late) == "renewed");
      CHECK(common_name(follower) == "localhost");
      CHECK_FALSE(s.publish("chat", hailwire::payload::json("\"" + some_text(50'000) + "\"")));
      CHECK(follower.read_until("\n\n").find(some_text(50'000)) != std::string::npos);

      // A client that closes its half first still gets its answer, and is told when that is all.
      visitor half(port);
      half.shake();
      half.tls().write(get("/hello"));
      ::SSL_shutdown(half.tls().ssl.get());
      half.flush();
      while (!half.tls().closed) REQUIRE(half.more());
      CHECK(half.tls().received.ends_with("TLSv1.3 to localhost"));

      int d = ::socket(AF_INET, SOCK_STREAM, 0);
      sockaddr_in at{};
      at.sin_family = AF_INET;
      at.sin_port = htons(plain_port);
      at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      REQUIRE(::connect(d, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
      auto request = get("/hello", "Connection: close\r\n");
      ::send(d, request.data(), request.size(), 0);
      std::string answer;
      char bytes[1000];
      for (ssize_t n; (n = ::recv(d, bytes, sizeof bytes, 0)) > 0;) answer.append(bytes, static_cast<std::size_t>(n));
      ::close(d);
      CHECK(answer.ends_with("plain"));
    });
  });
}

TEST_CASE(
    "what a connection says itself stands between whole frames to a slow reader, wherever a record ends, and its close "
    "is the last") {
  KEEP_RECORDS_BOTH_WAYS;
  on_every_driver([](tls_server& s, auto play) {
    tls_context context(with());
    auto port = hailwire::listen_tls(s, context, "127.0.0.1", 0);
    play([&] {
      visitor slow(port, 4096);
      slow.shake();
      slow.ask(get("/live?channel=c",
                   "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                   "dGhlIHNhbXBsZSBub25jZQ==\r\n"));
      slow.read_until("\"recovered\":true}}}}");
      visitor other(port);
      other.shake();
      other.ask(get("/burst"));
      other.read_until("localhost");

      namespace proto = hailwire::proto;
      auto say = [&](proto::ws_opcode what, std::string_view text) {
        std::string out;
        proto::append_masked_frame(out, what, text, 0x5AC3F00D, true);
        slow.ask(out);
      };
      say(proto::ws_opcode::ping, "hello");
      bool told = false;
      proto::ws_connection machine(proto::ws_role::client, proto::ws_limits{});
      int texts = 0, pongs = 0, closes = 0;
      while (!slow.tls().closed) {
        REQUIRE(slow.more());
        auto got = std::exchange(slow.tls().received, {});
        std::span<char> in(got);
        for (;;) {
          auto e = machine.next(in);
          using type = proto::ws_event::type;
          if (e.what == type::none) break;
          REQUIRE((e.what == type::text || e.what == type::pong || e.what == type::close));
          texts += e.what == type::text &&
                   e.data.starts_with("{\"channel\":\"c\",\"offset\":" + std::to_string(texts + 1) + ',');
          pongs += e.what == type::pong && e.data == "hello";
          closes += e.what == type::close;
        }
        if (texts == burst && !std::exchange(told, true)) say(proto::ws_opcode::close, proto::close_payload(1000, {}));
      }
      CHECK(pongs == 1);
      CHECK(closes == 1);
      CHECK(texts == burst);
    });
  });
}

TEST_CASE("an end is told of by close_notify, whoever ends, and wherever the connection stands") {
  KEEP_RECORDS_BOTH_WAYS;
  const std::function<void(visitor&)> places[] = {
      [](visitor&) {},
      [](visitor& v) {
        v.ask(get("/hello"));
        v.read_until("localhost");
      },
      [](visitor& v) {
        v.ask(get("/live?channel=c", "Accept: text/event-stream\r\n"));
        v.read_until("\"open\"");
      },
      [](visitor& v) {
        v.ask(get("/live?channel=c",
                  "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                  "dGhlIHNhbXBsZSBub25jZQ==\r\n"));
        v.read_until("\"recovered\":true}}}}");
      }};
  on_every_driver([&](tls_server& s, auto play) {
    auto port = hailwire::listen_tls(s, tls_context(with()), "127.0.0.1", 0);
    play([&] {
      for (const auto& place : places) {
        INFO("place " << &place - places);
        visitor says(port), cuts(port);
        for (auto* v : {&says, &cuts}) {
          v->shake();
          place(*v);
        }
        says.farewell();
        CHECK(says.told_of_the_end());
        cuts.end_socket();
        CHECK(cuts.told_of_the_end());
      }
      visitor asks(port);
      asks.shake();
      asks.ask(get("/hello", "Connection: close\r\n"));
      CHECK(asks.told_of_the_end());
    });
  });
  // The server's own limits of time.
  asio::io_context io(1);
  hailwire::options o;
  o.head_time = o.idle_time = std::chrono::seconds(1);
  tls_server s(io, o);
  prepare(s);
  auto port = hailwire::listen_tls(s, tls_context(with()), "127.0.0.1", 0);
  std::thread t([&] { io.run(); });
  {
    visitor silent(port);
    silent.shake();
    CHECK(silent.told_of_the_end());
    visitor idle(port);
    idle.shake();
    idle.ask(get("/hello"));
    CHECK(idle.told_of_the_end());
  }
  s.post([&] { io.stop(); });
  t.join();
}

TEST_CASE("a burst of handshakes is served on every driver while a client that is connected goes on") {
  KEEP_RECORDS_BOTH_WAYS;
  on_every_driver([](tls_server& s, auto play) {
    tls_context context(with());
    auto port = hailwire::listen_tls(s, context, "127.0.0.1", 0);
    play([&] {
      visitor healthy(port);
      healthy.shake();
      std::vector<std::unique_ptr<visitor>> crowd;
      for (int i = 0; i < 150; ++i) crowd.push_back(std::make_unique<visitor>(port));
      for (auto& v : crowd) v->flush();
      for (int i = 0; i < 20; ++i) {
        healthy.ask(get("/hello"));
        healthy.read_until("localhost");
      }
      for (auto& v : crowd) {
        v->shake();
        v->ask(get("/hello"));
      }
      for (auto& v : crowd) v->read_until("to localhost");
    });
  });
}

TEST_CASE("a host's own acceptor may hand connections over for TLS") {
  KEEP_RECORDS_BOTH_WAYS;
  on_every_driver([](tls_server& s, auto play) {
    tls_context context(with());
    int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    socklen_t size = sizeof at;
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&at), size) == 0);
    ::listen(listener, 5);
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
    visitor v(ntohs(at.sin_port));
    int d = ::accept(listener, nullptr, nullptr);
    ::close(listener);
    hailwire::adopt_tls(s, context, d);
    play([&] {
      v.shake();
      v.ask(get("/hello"));
      CHECK(v.read_until("localhost").ends_with("TLSv1.3 to localhost"));
    });
  });
}

TEST_CASE("what TLS takes counts as what the hub holds, by who keeps the records") {
  KEEP_RECORDS_BOTH_WAYS;
  on_every_driver([&](tls_server& s, auto play) {
    auto port = hailwire::listen_tls(s, tls_context(with()), "127.0.0.1", 0);
    play([&] {
      auto held = [&] {
        std::promise<std::size_t> told;
        s.post([&] { told.set_value(s.hub().memory_held()); });
        return told.get_future().get();
      };
      {
        visitor v(port);
        v.shake();
        v.ask(get("/hello"));
        v.read_until("localhost");
        CHECK(held() == (tls_wire::records_kept == hailwire::tls_records::own ? 384u : 14u * 1024u));
      }
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (held() > 0 && std::chrono::steady_clock::now() < end) {
      }
      CHECK(held() == 0);
    });
  });
}

TEST_CASE("a trusted proxy's header stands before the handshake") {
  asio::io_context io(1);
  hailwire::options o;
  o.trusted_proxies = {"127.0.0.1"};
  o.proxy_protocol = true;
  tls_server s(io, o);
  s.on_http([](const hailwire::request& r) {
    return hailwire::response{.body = "<" + r.peer() + " " + std::string(r.scheme()) + ">"};
  });
  auto port = listen_tls(s, tls_context(with()), "127.0.0.1", 0);
  std::thread t([&] { io.run(); });
  {
    visitor v(port);
    std::string_view header("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC6\x33\x64\x09\x7F\0\0\1\x10\0\0\x50", 28);
    v.send_bare(header.substr(0, 20));
    v.send_bare(header.substr(20));
    v.shake();
    v.ask(get("/"));
    CHECK(v.read_until(">").find("<198.51.100.9:4096 https>") != std::string::npos);
    visitor without(port);
    without.flush();
    CHECK(without.turned_away());
  }
  s.post([&] { io.stop(); });
  t.join();
}
