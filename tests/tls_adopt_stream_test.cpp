// SPDX-License-Identifier: BSL-1.0
// A host's own asio::ssl::stream, against OpenSSL's client.
#include "hailwire/adopt_stream.hpp"

#include <asio/bind_executor.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ssl/context.hpp>
#include <asio/ssl/stream.hpp>

#include <array>
#include <future>
#include <thread>
#include <tuple>

#include "hailwire/hailwire.hpp"
#include "socket_client.hpp"
#include "tls_wire.hpp"

using namespace hailwire;
using asio::ip::tcp;
using test::contains;
using test::frame;
using test::get;
using test::upgrade;

namespace {

using everything = server<websocket, sse, long_poll, short_poll>;
using tls_stream = asio::ssl::stream<tcp::socket>;

/// A blocking client.
class visitor {
 public:
  explicit visitor(std::uint16_t port, const tls_wire::client_options& o = {})
      : d_(tls_wire::connect_to(port)), peer_(o) {
    peer_.give({});
    flush();
    while (!::SSL_is_init_finished(peer_.ssl.get())) REQUIRE(more());
  }
  ~visitor() {
    if (d_ >= 0) ::close(d_);
  }
  void flush() {
    for (auto bytes = peer_.take(); !bytes.empty();) {
      auto n = ::send(d_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.erase(0, static_cast<std::size_t>(n));
    }
  }
  bool more() {
    char bytes[30000];
    ssize_t n = ::recv(d_, bytes, sizeof bytes, 0);
    if (n > 0) peer_.give({bytes, static_cast<std::size_t>(n)});
    flush();
    return n > 0;
  }
  visitor& send(std::string_view text) {
    peer_.write(text);
    flush();
    return *this;
  }
  std::string until(std::string_view text) {
    while (!contains(peer_.received, text)) {
      if (!more()) return std::exchange(peer_.received, {}) + " <and no " + std::string(text) + '>';
    }
    auto end = peer_.received.find(text) + text.size();
    auto out = peer_.received.substr(0, end);
    peer_.received.erase(0, end);
    return out;
  }
  /// All that comes until the server says that it was all.
  std::string all() {
    while (!peer_.closed && more()) {
    }
    return std::exchange(peer_.received, {}) + (peer_.closed ? "<farewell>" : "<cut>");
  }
  /// Says that it will send no more; its socket stays open both ways.
  void farewell() {
    ::SSL_shutdown(peer_.ssl.get());
    flush();
  }
  void end_socket() { ::shutdown(d_, SHUT_WR); }
  void reset() {
    linger l{1, 0};
    ::setsockopt(d_, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    ::close(std::exchange(d_, -1));
  }

 private:
  int d_;
  tls_wire::client peer_;
};

/// A host with an acceptor and a TLS context of its own, which hands every stream over after its handshake.
struct host {
  template <class... Way>
  explicit host(bool reads_first, Way... way)
      : first(reads_first), s(std::make_unique<everything>(way..., io, patience())) {
    tls.use_certificate_chain(asio::buffer(tls_wire::plain().chain));
    tls.use_private_key(asio::buffer(tls_wire::plain().key), asio::ssl::context::pem);
    tls.add_certificate_authority(asio::buffer(tls_wire::pem(tls_wire::authority()).chain));
    tls.set_verify_mode(asio::ssl::verify_peer);
    s->authorize([](const request& r) {
      if (!r.secure()) return decision(errc::forbidden);
      grant g;
      g.user = r.tls()->names.empty() ? std::string(r.param("user")) : r.tls()->names.front();
      g.follow = g.publish = channel_set::all();
      return decision(std::move(g));
    });
    s->on_http([this](const request& r) {
      return response{.body = r.path() == "/big" ? page
                                                 : '<' + std::string(r.address()) + ' ' + std::string(r.scheme()) +
                                                       ' ' + r.tls()->version + ' ' + r.tls()->server_name + '>'};
    });
    accept();
    for (int i = 0; i < 2; ++i) threads.emplace_back([this] { io.run(); });
  }
  ~host() { finish(true); }
  static options patience() {
    options o;
    o.close_time = std::chrono::seconds(1);
    return o;
  }

  void accept() {
    acceptor.async_accept(asio::bind_executor(s->get_executor(), [this](std::error_code ec, tcp::socket a) {
      if (ec) return;
      auto stream = std::make_shared<tls_stream>(std::move(a), tls);
      stream->async_handshake(
          asio::ssl::stream_base::server,
          asio::bind_executor(s->get_executor(), [this, stream](std::error_code failed) {
            if (failed) return;
            if (!first) return adopt(*stream, {});
            auto head = std::make_shared<std::array<char, 7>>();  // one each: their reads are under way at once, on
                                                                  // both threads
            stream->async_read_some(
                asio::buffer(*head),
                asio::bind_executor(s->get_executor(), [this, stream, head](std::error_code, std::size_t n) {
                  adopt(*stream, {head->data(), n});
                }));
          }));
      accept();
    }));
  }
  void adopt(tls_stream& stream, std::string_view already_read) {
    auto facts = tls_facts(stream.native_handle());
    adopt_stream(*s, std::move(stream), already_read, std::move(facts));
  }
  std::uint16_t port() const { return acceptor.local_endpoint().port(); }
  template <class F>
  void on(F f) {
    std::promise<void> done;
    s->post([&] { f(), done.set_value(); });
    done.get_future().wait();
  }
  /// In order: until the context has nothing left to do. Else at once.
  void finish(bool in_order) {
    if (threads.empty()) return;
    if (in_order) on([&] { s->stop(); });
    on([&] { acceptor.close(); });  // where it accepts: an acceptor is for one thread at a time
    busy.reset();
    if (!in_order) io.stop();
    for (auto& t : threads) t.join();
    threads.clear();
  }

  const bool first;
  const std::string page = std::string(1'000'000, 'p');
  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> busy{io.get_executor()};
  asio::ssl::context tls{asio::ssl::context::tls_server};
  tcp::acceptor acceptor{io, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)};
  std::unique_ptr<everything> s;
  std::vector<std::thread> threads;
};

/// On the drivers that can adopt streams; of one the host reads some bytes first.
template <class F>
void on_each(F play) {
  {
    INFO("portable");
    host h(false, portable);
    play(h);
  }
  INFO("embedded");
  host h(true);
  play(h);
}

}  // namespace

TEST_CASE("a host's asio::ssl::stream serves every transport, with big messages both ways") {
  on_each([](host& h) {
    for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      tls_wire::client_options o;
      o.version = version;
      visitor ws(h.port(), o), es(h.port(), o), lp(h.port(), o);
      ws.send(upgrade("?channel=chat&user=ada"));
      CHECK(contains(ws.until("}}}}"), "101 Switching"));
      es.send(test::event_stream("?channel=chat"));
      es.until("\n\n\r\n");
      lp.send(get("/live?channel=chat&wait=20"));
      auto first = lp.until("\"}");
      auto cursor = first.substr(first.find("\"cursor\":\"") + 10);
      cursor.resize(cursor.find('"'));
      lp.send(get("/live?channel=chat&wait=20&since=" + cursor));
      std::string text(60'000, 'x');
      for (int i = 0; i < 20; ++i) {
        ws.send(
            frame("{\"id\":" + std::to_string(i) + ",\"publish\":{\"channel\":\"chat\",\"data\":\"" + text + "\"}}"));
        auto own = ws.until(
            "x\"}");  // not the whole text: a search for a long run of x among others takes seconds under a sanitizer
        CHECK(contains(own, "\"from\":\"ada\""));
        CHECK(contains(own, text));
        CHECK(contains(es.until("\n\n\r\n"), text));
      }
      CHECK(contains(lp.until("]"), text));
    }
  });
}

TEST_CASE("a stream's client is known by its address, by TLS and by its certificate; its pages are https") {
  on_each([](host& h) {
    visitor v(h.port());
    CHECK(contains(v.send(get("/")).until(">"), "<127.0.0.1 https TLSv1.3 localhost>"));
    auto with_origin = [](const std::string& origin) {
      return get("/live?channel=a", "Origin: " + origin +
                                        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
                                        "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    };
    CHECK(contains(v.send(with_origin("http://localhost")).until("\r\n"), " 403 "));
    CHECK(contains(visitor(h.port()).send(with_origin("https://localhost")).until("\r\n"), " 101 "));

    auto ada = tls_wire::issue("ada", "email:ada@example.org", &tls_wire::authority());
    tls_wire::client_options shows;
    shows.own = &ada;
    CHECK(contains(visitor(h.port(), shows).send(test::event_stream("?channel=a&user=eve")).until("}}}}"),
                   "\"user\":\"email:ada@example.org\""));
  });
}

TEST_CASE("an answer over a host's TLS arrives whole and ends with TLS's own farewell, whoever ends first") {
  on_each([](host& h) {
    for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      tls_wire::client_options o;
      o.version = version;
      visitor closes(h.port(), o), half(h.port(), o), cut(h.port(), o);
      auto whole = h.page + "<farewell>";
      CHECK(closes.send(get("/big", "Connection: close\r\n")).all().ends_with(whole));
      half.send(get("/big")).farewell();
      CHECK(half.all().ends_with(whole));
      // Its socket ends without a farewell: what it asked for before is answered all the same.
      cut.send(get("/big")).end_socket();
      CHECK(contains(cut.all(), h.page));
    }
  });
}

TEST_CASE("TLS clients that vanish, stop reading or go on sending behind the end cost a host nothing but time") {
  on_each([](host& h) {
    visitor stays(h.port());
    stays.send(test::event_stream("?channel=chat"));
    stays.until("\n\n\r\n");
    visitor stuck(h.port());
    stuck.send(test::event_stream("?channel=chat"));
    stuck.until("\n\n\r\n");
    for (int round = 0; round < 5; ++round) {
      visitor a(h.port()), b(h.port());
      a.send(upgrade("?channel=chat"));
      a.until("}}}}");
      b.send(get("/big", "Connection: close\r\n"));
      for (int i = 0; i < 8; ++i)
        std::ignore = h.s->publish("chat", payload::json("\"" + std::string(60'000, 'x') + "\""));
      a.reset();
      b.send(std::string(100'000, 'y'));
      b.reset();
      CHECK_FALSE(h.s->publish("chat", payload::json("\"round " + std::to_string(round) + "\"")));
      stays.until("\"round " + std::to_string(round) + "\"}\n");
    }
    auto all = stuck.until("round 4");
    CHECK(contains(all, "round 0"));
    CHECK_FALSE(contains(all, "gap"));
    visitor late(h.port());
    late.send(get("/big", "Connection: close\r\n"));
    late.until("pppp");
    late.send(std::string(50'000, 'y'));
    CHECK(late.all().ends_with("pppp<farewell>"));
  });
}

TEST_CASE("a server stops in order, or is destroyed at once, while a host's TLS streams write") {
  for (bool in_order : {true, false})
    on_each([&](host& h) {
      visitor ws(h.port()), es(h.port());
      ws.send(upgrade("?channel=chat"));
      ws.until("}}}}");
      es.send(test::event_stream("?channel=chat"));
      es.until("\n\n\r\n");
      for (int i = 0; i < 100; ++i)
        std::ignore = h.s->publish("chat", payload::json("\"" + std::string(60'000, 'x') + "\""));
      h.on([] {});
      std::string end;
      std::thread reader([&] { end = ws.all(), es.all(); });
      h.finish(in_order);
      h.s.reset();
      if (in_order) {
        reader.join();
        CHECK(contains(end, "server stopped"));
      } else {
        reader.join();
      }
    });
}
