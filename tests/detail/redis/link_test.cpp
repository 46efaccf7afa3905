// SPDX-License-Identifier: BSL-1.0
// A link, before a server that says what the test tells it to.
#include "hailwire/detail/redis/link.hpp"

#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/write.hpp>

#include "catch.hpp"
#include "run_until.hpp"

using namespace hailwire::detail;
using asio::ip::tcp;

namespace {

/// Accepts one connection after the other, and keeps what it hears.
struct scripted_server {
  explicit scripted_server(asio::io_context& io) : acceptor(io, {asio::ip::address_v4::loopback(), 0}) { accept(); }
  void accept() {
    acceptor.async_accept([this](std::error_code ec, tcp::socket s) {
      if (ec) return;
      ++accepted;
      heard.clear();
      socket = std::make_unique<tcp::socket>(std::move(s));
      listen(socket.get());
      accept();
    });
  }
  void listen(tcp::socket* from) {
    from->async_read_some(asio::buffer(buffer), [this, from](std::error_code ec, std::size_t n) {
      if (ec || socket.get() != from) return;
      heard.append(buffer, n);
      listen(from);
    });
  }
  void say(std::string text) { asio::write(*socket, asio::buffer(text)); }
  bool has(std::string_view text) const { return heard.find(text) != heard.npos; }

  tcp::acceptor acceptor;
  std::unique_ptr<tcp::socket> socket;
  char buffer[4096];
  std::string heard;
  int accepted = 0;
};

std::string info(std::string_view role = "master", std::string_view run_id = "r1", std::string_view more = "") {
  const std::string text = "# Server\r\nredis_version:7.0.15\r\nrun_id:" + std::string(run_id) +
                           "\r\nrole:" + std::string(role) + "\r\nmaster_replid:p1\r\nmaxmemory_policy:noeviction\r\n" +
                           std::string(more);
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

struct owner final : redis_link::owner {
  explicit owner(asio::io_context& io) : server(io) {}
  void link_due(redis_link& l) override {
    ++due;
    l.connect({"127.0.0.1", server.acceptor.local_endpoint().port()});
  }
  void link_ready(redis_link&) override { ++ready; }
  void link_lost(redis_link&, std::string_view why) override { lost.emplace_back(why); }
  void link_pushed(redis_link&, redis_reply r) override { pushed.emplace_back(r[0].text()); }
  std::shared_ptr<redis_link> make(asio::io_context& io, redis_link::use u = redis_link::use::commands) {
    options.backoff_first = options.backoff_most = 1;
    link = std::make_shared<redis_link>(io.get_executor(), options, u, static_cast<redis_link::owner&>(*this));
    link->start();
    return link;
  }
  scripted_server server;
  redis_link_options options;
  std::shared_ptr<redis_link> link;
  int due = 0, ready = 0;
  std::vector<std::string> lost, pushed;
  ~owner() {
    if (link) link->stop();
  }
};

}  // namespace

TEST_CASE("a link says who it is before anything else, and is ready with what the server says of itself") {
  asio::io_context io;
  owner o(io);
  o.options.user = "ada";
  o.options.password = "p w";
  o.options.database = 3;
  auto l = o.make(io);
  REQUIRE(run_until(io, [&] { return o.server.has("INFO"); }));
  CHECK(o.server.heard ==
        "*3\r\n$4\r\nAUTH\r\n$3\r\nada\r\n$3\r\np w\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$4\r\nINFO\r\n");
  CHECK(!l->ready());
  o.server.say("+OK\r\n+OK\r\n" + info());
  REQUIRE(run_until(io, [&] { return o.ready == 1; }));
  CHECK(l->facts().identity() == "r1:p1");
  CHECK(l->facts().version == "7.0.15");
  CHECK(l->facts().policy == "noeviction");
}

TEST_CASE("commands are pipelined, and each has its own answer") {
  asio::io_context io;
  owner o(io);
  auto l = o.make(io);
  REQUIRE(run_until(io, [&] { return o.server.has("INFO"); }));
  o.server.say(info());
  REQUIRE(run_until(io, [&] { return o.ready == 1; }));
  std::vector<std::string> got;
  for (const char* word : {"A", "B", "C"})
    l->send({word}, [&, word](std::error_code ec, redis_reply r) {
      got.push_back(word + std::string(ec ? "?" : "") + std::string(r.text()));
    });
  l->flush();
  REQUIRE(run_until(io, [&] { return o.server.has("C\r\n"); }));
  o.server.say("+a\r\n-b\r\n+");
  REQUIRE(run_until(io, [&] { return got.size() == 2; }));
  // What is not answered when the connection ends is told so, and the link comes back.
  o.server.socket.reset();
  REQUIRE(run_until(io, [&] { return o.lost.size() == 1; }));
  CHECK(got == std::vector<std::string>{"Aa", "Bb", "C?"});
  CHECK(o.lost[0] == "it has closed the connection");
  REQUIRE(run_until(io, [&] { return o.server.accepted == 2 && o.server.has("INFO"); }));
  o.server.say(info());
  REQUIRE(run_until(io, [&] { return o.ready == 2; }));
}

TEST_CASE("a server that will not do is left, with what it said, and tried again") {
  struct {
    std::string says;
    const char* why;
  } const all[] = {
      {"-WRONGPASS invalid\r\n-NOAUTH\r\n", "AUTH: WRONGPASS invalid"},
      {"+OK\r\n-NOPERM no\r\n", "INFO: NOPERM no"},
      {"+OK\r\n" + info("slave"), "it is a slave"},
      {"+OK\r\n" + info("master", "r1", "loading:1\r\n"), "it is loading its data"},
      {"+OK\r\n" + info("master", ""), "INFO does not name its run_id"},
      {"+OK\r\n+\r\n", "it is a stranger"},
      {"HTTP/1.1 400 Bad Request\r\n\r\n", "not a reply of Redis: "},
      {"+OK\r\n" + info() + "+more\r\n", "an answer to nothing"},
  };
  for (const auto& one : all) {
    INFO(one.why);
    asio::io_context io;
    owner o(io);
    o.options.password = "x";
    auto l = o.make(io);
    REQUIRE(run_until(io, [&] { return o.server.has("INFO"); }));
    o.server.say(one.says);
    REQUIRE(run_until(io, [&] { return !o.lost.empty(); }));
    CHECK(o.lost[0].starts_with(one.why));
    REQUIRE(run_until(io, [&] { return o.server.accepted == 2; }));
  }
}

TEST_CASE("a server that falls silent is noticed, before and behind the greeting, and when it only pushes") {
  for (bool greets : {false, true})
    for (auto use : {redis_link::use::commands, redis_link::use::subscriptions}) {
      asio::io_context io;
      owner o(io);
      o.options.ping = 10;
      o.options.stall = 40;
      auto l = o.make(io, use);
      REQUIRE(run_until(io, [&] { return o.server.has("INFO"); }));
      if (greets) {
        o.server.say(info());
        REQUIRE(run_until(io, [&] { return o.ready == 1; }));
      }
      REQUIRE(run_until(io, [&] { return !o.lost.empty(); }));
      CHECK(o.lost[0].starts_with("no answer for "));
      CHECK(o.server.accepted >= 1);
    }
}

TEST_CASE("a master that became another server's copy, or has another history, is left") {
  for (const auto& now : {info("slave"), info("master", "r2")}) {
    asio::io_context io;
    owner o(io);
    o.options.ping = 10;
    auto l = o.make(io);
    REQUIRE(run_until(io, [&] { return o.server.has("INFO"); }));
    o.server.say(info());
    REQUIRE(run_until(io, [&] { return o.server.has("replication"); }));
    o.server.say(now);
    REQUIRE(run_until(io, [&] { return !o.lost.empty(); }));
    CHECK(o.lost[0] == "it is another server's copy by now");
  }
}

TEST_CASE("what a server may have outstanding is bounded, and so is its reply") {
  asio::io_context io;
  owner o(io);
  o.options.most_pending = 3;
  o.options.most_reply = 2000;
  auto l = o.make(io);
  CHECK(!l->room());
  REQUIRE(run_until(io, [&] { return o.server.has("INFO"); }));
  o.server.say(info());
  REQUIRE(run_until(io, [&] { return o.ready == 1; }));
  for (int i = 0; i < 3; ++i) {
    CHECK(l->room());
    l->send({"A"}, [](std::error_code, redis_reply) {});
  }
  CHECK(!l->room());
  o.server.say("$100000\r\n" + std::string(3000, 'x'));
  REQUIRE(run_until(io, [&] { return !o.lost.empty(); }));
  CHECK(o.lost[0] == "a reply of more than 2000 bytes");
}

TEST_CASE("a link that is stopped says nothing more, and answers what was asked") {
  asio::io_context io;
  owner o(io);
  auto l = o.make(io);
  REQUIRE(run_until(io, [&] { return o.server.has("INFO"); }));
  o.server.say(info());
  REQUIRE(run_until(io, [&] { return o.ready == 1; }));
  std::error_code got;
  l->send({"A"}, [&](std::error_code ec, redis_reply) { got = ec; });
  l->stop();
  CHECK(got == hailwire::operation_aborted());
  CHECK(o.lost.empty());
  CHECK(!l->ready());
}
