// SPDX-License-Identifier: BSL-1.0
// Clients and servers over TLS, with certificates made on the spot.
#include "hailwire/client_tls.hpp"

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "hailwire/client.hpp"
#include "hailwire/hailwire.hpp"
#include "run_until.hpp"
#include "tls_wire.hpp"

using namespace hailwire;

namespace {

using one = client<websocket>;

struct site {
  explicit site(const tls_certificate& c) : live(io) {
    live.authorize([](const request& r) -> decision {
      return grant{.user = std::string(r.param("user")), .follow = channel_set::all(), .publish = channel_set::all()};
    });
    port = listen_tls(live, tls_context({.certificates = {c}}), "127.0.0.1", 0);
  }
  std::string url(const std::string& host) const {
    return "https://" + host + ":" + std::to_string(port) + "/live?user=ada";
  }
  template <class F>
  bool until(F done) {
    return run_until(io, std::move(done));
  }
  /// What becomes of a client: `following`, or why not.
  template <class Client = one>
  std::string outcome(const std::string& host, const std::string& ca, const std::string& proxy = {}) {
    Client c(io, url(host), {.proxy = proxy, .tls = client_tls({.ca = ca})});
    std::string said;
    c.on_status([&](const client_status& s) {
      if (s.now == client_status::state::following) said = "following";
      if (s.now == client_status::state::waiting) said = s.text;
    });
    CHECK(until([&] { return !said.empty(); }));
    return said;
  }

  asio::io_context io;
  server<websocket, sse, long_poll> live;
  std::uint16_t port = 0;
};

std::string trusted() { return tls_wire::pem(tls_wire::authority().certificate.get()); }

}  // namespace

TEST_CASE("a client follows and publishes over TLS, on each transport") {
  site s(tls_wire::plain());
  auto talk = [&]<class T>(T*) {
    T c(s.io, s.url("localhost"), {.tls = client_tls({.ca = trusted()})});
    std::size_t heard = 0, stored = 0;
    // Records of 16 KiB are cut and put together.
    const std::string large = '"' + std::string(100'000, 'x') + '"';
    c.on_message([&](const client_message& m) { heard += m.data == large; });
    c.follow("lobby");
    c.on_status([&](const client_status& st) {
      if (st.now == client_status::state::following)
        for (int i = 0; i < 3; ++i)
          c.publish("lobby", payload::json(large), [&](const client_error& e, const position&) { stored += !e; });
    });
    CHECK(s.until([&] { return heard == 3 && stored == 3; }));
  };
  talk((client<websocket>*)nullptr);
  talk((client<sse>*)nullptr);
  talk((client<long_poll>*)nullptr);
}

TEST_CASE("a server has to prove the host of the URL") {
  site s(tls_wire::plain());
  CHECK(s.outcome("localhost", trusted()) == "following");
  CHECK(s.outcome("127.0.0.1", trusted()) == "following");
  // An authority that nobody has named, and the system's, which do not know this one either.
  const std::string other = tls_wire::pem(tls_wire::issue("another", {}, nullptr, true).certificate.get());
  CHECK(s.outcome("localhost", other).starts_with("the server's certificate is refused: "));
  CHECK(s.outcome("localhost", "").starts_with("the server's certificate is refused: "));
  site wrong(tls_wire::pem(tls_wire::issue("elsewhere", "DNS:example.org,IP:127.0.0.2", &tls_wire::authority())));
  CHECK(wrong.outcome("localhost", trusted()) == "the server's certificate is refused: hostname mismatch");
  CHECK(wrong.outcome("127.0.0.1", trusted()) == "the server's certificate is refused: IP address mismatch");
  site late(tls_wire::pem(tls_wire::issue("late", "DNS:localhost", &tls_wire::authority(), false, -1)));
  CHECK(late.outcome("localhost", trusted()) == "the server's certificate is refused: certificate has expired");
}

TEST_CASE("the name is asked for, and the protocol offered") {
  auto identity = tls_wire::issue("asked.example", "DNS:asked.example,DNS:localhost", &tls_wire::authority());
  detail::tls_client_layer layer(detail::ssl_ctx_pointer(::SSL_CTX_new(::TLS_client_method())).get(), "asked.example");
  std::string hello;
  CHECK(layer.start(hello));
  CHECK(hello.find("asked.example") != std::string::npos);
  // An address is no name (RFC 6066, section 3).
  detail::tls_client_layer address(detail::ssl_ctx_pointer(::SSL_CTX_new(::TLS_client_method())).get(), "192.0.2.77");
  hello.clear();
  CHECK(address.start(hello));
  CHECK(hello.find("192.0.2.77") == std::string::npos);
  auto made = std::shared_ptr<const detail::client_security>(client_tls());
  auto whole = made->layer("asked.example");
  hello.clear();
  CHECK(whole->start(hello));
  CHECK(hello.find("\x08http/1.1") != std::string::npos);
}

TEST_CASE("what is no TLS is told, and nothing is sent to it") {
  asio::io_context io;
  asio::ip::tcp::acceptor plain(io, {asio::ip::address_v4::loopback(), 0});
  asio::ip::tcp::socket taken(io);
  plain.async_accept(taken, [&](std::error_code) {
    asio::write(taken, asio::buffer(std::string("HTTP/1.1 400 Bad Request\r\n\r\n")));
  });
  one c(io, "https://localhost:" + std::to_string(plain.local_endpoint().port()) + "/",
        {.tls = client_tls({.ca = trusted()})});
  std::string said;
  c.on_status([&](const client_status& s) {
    if (s.now == client_status::state::waiting) said = s.text, c.close();
  });
  io.run_for(limit);
  CHECK(said.starts_with("TLS: "));
}

TEST_CASE("authorities and certificates that cannot be read are refused at once") {
  CHECK_THROWS_AS(client_tls({.ca = "nonsense"}), std::system_error);
  CHECK_THROWS_AS(client_tls({.ca = trusted() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}),
                  std::system_error);
  CHECK_THROWS_AS(client_tls({.certificate = tls_wire::plain().chain, .key = "nonsense"}), std::system_error);
  CHECK_NOTHROW(client_tls({.certificate = tls_wire::plain().chain, .key = tls_wire::plain().key}));
  CHECK_THROWS_AS(client_tls::read_pem("/nonexistent.pem"), std::system_error);
}

TEST_CASE("a proxy makes the tunnel, and sees no more than where it leads") {
  site s(tls_wire::plain());
  // A proxy of one connection, which says yes or no.
  for (const std::string answer :
       {"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "SSH-2.0\r\n"}) {
    CAPTURE(answer);
    asio::ip::tcp::acceptor door(s.io, {asio::ip::address_v4::loopback(), 0});
    std::string asked;
    asio::ip::tcp::socket near(s.io), far(s.io);
    std::vector<char> up(65536), down(65536);
    std::function<void(asio::ip::tcp::socket&, asio::ip::tcp::socket&, std::vector<char>&)> pass =
        [&](auto& from, auto& to, auto& buffer) {
          from.async_read_some(asio::buffer(buffer), [&](std::error_code ec, std::size_t n) {
            if (ec) return;
            asio::write(to, asio::buffer(buffer, n), ec);
            pass(from, to, buffer);
          });
        };
    door.async_accept(near, [&](std::error_code ec) {
      if (ec) return;
      asio::async_read_until(near, asio::dynamic_buffer(asked), "\r\n\r\n", [&](std::error_code failed, std::size_t) {
        if (failed) return;
        asio::write(near, asio::buffer(answer));
        if (!answer.starts_with("HTTP/1.1 200")) return;
        far.connect({asio::ip::address_v4::loopback(), s.port});
        pass(near, far, up);
        pass(far, near, down);
      });
    });
    const auto said =
        s.outcome("localhost", trusted(), "http://127.0.0.1:" + std::to_string(door.local_endpoint().port()));
    const std::string at = "localhost:" + std::to_string(s.port);
    CHECK(asked == "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n");
    CHECK(said == (answer.starts_with("HTTP/1.1 200")   ? "following"
                   : answer.starts_with("HTTP/1.1 407") ? "the proxy makes no tunnel: status 407"
                                                        : "the proxy's answer is not HTTP"));
    std::error_code ignored;
    near.close(ignored), far.close(ignored);
    s.until([] { return true; });
    for (int i = 0; i < 100; ++i) s.io.poll();
  }
}
