// SPDX-License-Identifier: BSL-1.0
// Who a request is from, when proxies stand between: every way to be somebody else.
#include <sys/socket.h>
#include <sys/un.h>

#include <asio/io_context.hpp>

#include <thread>

#include "detail/connection/stage.hpp"
#include "hailwire/server.hpp"

using namespace stage;

namespace {

/// A house whose authorizer notes whose request it was shown.
struct gatehouse : house {
  explicit gatehouse(const options& o) : house(o) {
    gate.host.authorize = [this](const request& r, authorize_reply reply) {
      seen.push_back(r.peer() + ' ' + std::string(r.address()) + ' ' + std::string(r.scheme()) + ' ' +
                     std::string(r.host()));
      reply(usual(r));
    };
  }
  /// What the authorizer saw of a poll with these header lines from `peer`; or the status of a refusal.
  std::string ask(const std::string& peer, const std::string& lines_of_head) {
    seen.clear();
    client c(*this);
    c.c->from = peer;
    auto a = c.ask(get("/live?channel=chat", lines_of_head));
    return seen.empty() ? std::to_string(a.status) : seen.at(0);
  }
  lines seen;
};

options trusting(std::vector<std::string> who,
                 options::forwarding_header how = options::forwarding_header::x_forwarded) {
  options o;
  o.trusted_proxies = std::move(who);
  o.forwarding = how;
  return o;
}
const std::string forged =
    "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: "
    "for=6.6.6.6;proto=https;host=evil\r\nX-Real-IP: 6.6.6.6\r\n";

}  // namespace

TEST_CASE("by default nobody is believed") {
  gatehouse h({});
  for (std::string peer : {"203.0.113.7:4711", "127.0.0.1:1", "[::1]:1", "10.0.0.1:1", "unix", "unknown"}) {
    auto address = peer.substr(0, peer.find("]:") == peer.npos ? peer.rfind(':') : peer.find(']'));
    if (address[0] == '[') address.erase(0, 1);
    CHECK(h.ask(peer, forged) == peer + ' ' + address + " http h");
  }
}

TEST_CASE("of a trusted proxy the header that it writes is read, and no other") {
  gatehouse x(trusting({"10.0.0.0/8", "fd00::/8"}));
  CHECK(x.ask("10.0.0.1:99",
              "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example\r\n") ==
        "198.51.100.1 198.51.100.1 https chat.example");
  CHECK(x.ask("[fd00::1]:99", "X-Forwarded-For: 6.6.6.6, 2001:db8::1\r\n") == "[2001:db8::1] 2001:db8::1 http h");
  CHECK(x.ask("10.0.0.1:99", "Forwarded: for=6.6.6.6;host=evil;proto=https\r\n") == "10.0.0.1:99 10.0.0.1 http h");
  CHECK(x.ask("10.0.0.1:99", "") == "10.0.0.1:99 10.0.0.1 http h");

  gatehouse f(trusting({"10.0.0.0/8"}, options::forwarding_header::forwarded));
  CHECK(f.ask("10.0.0.1:99",
              "Forwarded: for=6.6.6.6\r\nForwarded: for=\"198.51.100.1:7\";proto=https;host=\"chat.example:8443\", "
              "for=10.0.0.2\r\n") == "198.51.100.1:7 198.51.100.1 https chat.example:8443");
  CHECK(f.ask("10.0.0.1:99", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\n") ==
        "10.0.0.1:99 10.0.0.1 http h");
}

TEST_CASE("who is not trusted is not listened to, whatever it writes and however close it is") {
  gatehouse h(trusting({"10.0.0.0/8", "::1"}));
  for (std::string peer : {"11.0.0.1:9", "9.255.255.255:9", "[::2]:9", "127.0.0.1:9"})
    CHECK(h.ask(peer, forged).substr(0, peer.size() + 1) == peer + ' ');
  CHECK(h.ask("unix", forged) == "unix unix http h");
  CHECK(h.ask("unknown", forged) == "unknown unknown http h");
  CHECK(h.ask("11.0.0.1:9", "X-Forwarded-For: garbage\r\n") == "11.0.0.1:9 11.0.0.1 http h");
}

TEST_CASE("a client cannot push its own hop past a proxy that appends") {
  gatehouse h(trusting({"10.0.0.0/8"}));
  // The client wrote all but the last address; even an address of ours there does not help it.
  CHECK(h.ask("10.0.0.1:9", "X-Forwarded-For: 6.6.6.6, 10.0.0.7, 198.51.100.1\r\n") ==
        "198.51.100.1 198.51.100.1 http h");
  CHECK(h.ask("10.0.0.1:9", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 198.51.100.1\r\n") ==
        "198.51.100.1 198.51.100.1 http h");
  CHECK(h.ask("10.0.0.1:9", "X-Forwarded-For: 6.6.6.6, 198.51.100.1, 10.0.0.2\r\n") ==
        "198.51.100.1 198.51.100.1 http h");
  CHECK(h.ask("[::ffff:10.0.0.1]:9", "X-Forwarded-For: 198.51.100.1\r\n") == "198.51.100.1 198.51.100.1 http h");
  // Nor by an address of ours in other clothes, which is ours and no more, nor by so many hops that nobody counts them.
  for (std::string ours : {"::ffff:10.0.0.7", "[::ffff:10.0.0.7]:80", "10.0.0.7:80", "::ffff:a00:7"})
    CHECK(h.ask("10.0.0.1:9", "X-Forwarded-For: 6.6.6.6, 198.51.100.1, " + ours + "\r\n") ==
          "198.51.100.1 198.51.100.1 http h");
  for (std::string more :
       {"::ffff:6.6.6.6", "::10.0.0.7", "64:ff9b::10.0.0.7", "2002:a00:7::"})  // none of these is 10.0.0.7
    CHECK(h.ask("10.0.0.1:9", "X-Forwarded-For: 198.51.100.1, " + more + "\r\n").find("198.51.100.1") ==
          std::string::npos);
  std::string many = "6.6.6.6";
  for (int i = 0; i < 30; ++i) many += ", 6.6.6.6";
  CHECK(h.ask("10.0.0.1:9", "X-Forwarded-For: " + many + ", 198.51.100.1\r\n") == "198.51.100.1 198.51.100.1 http h");
  CHECK(h.ask("10.0.0.1:9", "X-Forwarded-For: " + many + ", " + many + ", 198.51.100.1\r\n") == "400");
  CHECK(h.ask("11.0.0.1:9", "X-Forwarded-For: " + many + ", " + many + "\r\n") == "11.0.0.1:9 11.0.0.1 http h");
}

TEST_CASE("what a trusted proxy sends and cannot be read is 400, for no client may pass for its proxy") {
  gatehouse h(trusting({"10.0.0.0/8"}));
  for (std::string lines_of_head :
       {"X-Forwarded-For: garbage\r\n", "X-Forwarded-For: 1.2.3.4, <script>\r\n", "X-Forwarded-Proto: gopher\r\n",
        "X-Forwarded-Host: a b\r\n", "X-Forwarded-For: 0x7f.1\r\n", "X-Forwarded-For: 010.0.0.1\r\n",
        "X-Forwarded-For: 1.2.3\r\n", "X-Forwarded-For: 1.2.3.4:99999\r\n", "X-Forwarded-For: 1.2.3.4:x\r\n",
        "X-Forwarded-For: [::1\r\n", "X-Forwarded-For: fe80::1%eth0\r\n", "X-Forwarded-For: 1.2.3.4 5.6.7.8\r\n",
        "X-Forwarded-For: unix\r\n", "X-Forwarded-For: localhost\r\n", "X-Forwarded-Proto: https http\r\n",
        "X-Forwarded-Host: user@evil\r\n", "X-Forwarded-Host: evil/path\r\n"})
    CHECK(h.ask("10.0.0.1:9", lines_of_head) == "400");
  gatehouse f(trusting({"10.0.0.0/8"}, options::forwarding_header::forwarded));
  CHECK(f.ask("10.0.0.1:9", "Forwarded: for=2001:db8::1\r\n") == "400");
}

TEST_CASE("a proxy on a Unix socket is believed when it is named, and only then") {
  gatehouse h(trusting({"unix", "10.0.0.0/8"}));
  CHECK(h.ask("unix", "X-Forwarded-For: 198.51.100.1, 10.0.0.3\r\n") == "198.51.100.1 198.51.100.1 http h");
  CHECK(h.ask("unix", "X-Forwarded-For: unknown\r\n") == "unix unix http h");
  CHECK(h.ask("unix", "") == "unix unix http h");
  CHECK(h.ask("unknown", "X-Forwarded-For: 198.51.100.1\r\n") == "unknown unknown http h");
}

TEST_CASE("a proxy that cannot be is said so when the server is made") {
  for (std::string bad : {"", "localhost", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8, 11.0.0.0/8", "*"}) {
    CHECK_THROWS_AS(gatehouse(trusting({"::1", bad})), std::invalid_argument);
  }
}

TEST_CASE("a page is of this host when it is of the host and scheme that the client asked the proxy for") {
  gatehouse h(trusting({"10.0.0.0/8"}));
  auto post_from = [&](const std::string& peer, const std::string& origin, const std::string& told) {
    client c(h);
    c.c->from = peer;
    return c.ask(post("?channel=chat", "1", "application/json", "Origin: " + origin + "\r\n" + told)).status;
  };
  const std::string proxied =
      "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example\r\n";
  CHECK(post_from("10.0.0.1:9", "https://chat.example", proxied) == 201);
  CHECK(post_from("10.0.0.1:9", "https://h", proxied) == 403);
  CHECK(post_from("10.0.0.1:9", "http://chat.example", proxied) == 403);
  CHECK(post_from("10.0.0.1:9", "https://chat.example:444", proxied) == 403);
  CHECK(post_from("10.0.0.1:9", "null", proxied) == 403);
  // From elsewhere a forged host makes no page ours.
  CHECK(post_from("11.0.0.1:9", "https://chat.example", proxied) == 403);
  CHECK(post_from("11.0.0.1:9", "https://h", proxied) == 201);
  CHECK(post_from("10.0.0.1:9", "http://h", "X-Forwarded-For: 198.51.100.1\r\n") == 201);
}

TEST_CASE("sessions are counted by address, and IPv6 by its /64") {
  auto o = trusting({"10.0.0.0/8"});
  o.max_sessions_per_address = 2;
  gatehouse h(o);
  std::vector<std::unique_ptr<client>> all;
  auto join = [&](const std::string& peer, const std::string& told) {
    all.push_back(std::make_unique<client>(h));
    all.back()->c->from = peer;
    return all.back()->ask(upgrade("?channel=chat", told)).status;
  };
  auto by = [](const std::string& address) { return "X-Forwarded-For: 6.6.6.6, " + address + "\r\n"; };
  CHECK(join("10.0.0.1:1", by("198.51.100.1")) == 101);
  CHECK(join("198.51.100.1:5", by("198.51.100.2")) == 101);  // it came itself, and said otherwise
  CHECK(join("10.0.0.1:2", by("198.51.100.1")) == 429);
  CHECK(join("10.0.0.1:3", by("198.51.100.2")) == 101);
  CHECK(join("10.0.0.1:4", by("2001:db8:0:1::1")) == 101);
  CHECK(join("10.0.0.1:4", by("2001:db8:0:1:ffff::1")) == 101);
  CHECK(join("[2001:db8:0:1:2::]:4", "") == 429);
  CHECK(join("[2001:db8:0:2::]:4", "") == 101);
  for (int i = 0; i < 5; ++i) CHECK(join("unix", "") == 101);
  for (int i = 0; i < 5; ++i) CHECK(join("unknown", "") == 101);  // a stream of the host's that has no address
  CHECK(h.gate.from_address.addresses() == 4);
  // A stream that ends makes room, and a poll that is held takes some.
  all[0]->c->reset();
  h.run();
  client poll(h);
  poll.c->from = "198.51.100.1:9";
  h.publish("a", "1");
  poll.send(get("/live?channel=a&since=a-1.1&wait=9"));
  CHECK(join("198.51.100.1:6", "") == 429);
  h.publish("a", "2");
  CHECK(read_answer(poll.take()).status == 200);
  CHECK(join("198.51.100.1:7", "") == 101);
  // An event stream is told so that it comes back later.
  client events(h);
  events.c->from = "198.51.100.1:8";
  auto a = events.ask(event_stream("?channel=chat"));
  CHECK(a.status == 200);
  CHECK(a.has("event: bye\ndata: {\"bye\":{\"code\":\"rate_limited\""));
  CHECK(h.gate.from_address.addresses() == 4);
  all.clear();
  h.gate.destroy_all();
  CHECK(h.gate.from_address.addresses() == 0);
}

TEST_CASE("which addresses meet in a bucket is each table's own") {
  using detail::address_table;
  address_table one, other;
  const auto first = address_table::of(*proto::ip_address::parse("2001:db8:0:1::1"));
  CHECK(one.hash(first) == one.hash(address_table::of(*proto::ip_address::parse("2001:db8:0:1::2"))));
  CHECK(one.hash(first) != other.hash(first));
  CHECK(one.hash(first) != one.hash(address_table::of(*proto::ip_address::parse("2001:db8:0:2::1"))));
  auto* counted = one.add(first, 1);
  REQUIRE(counted != nullptr);
  CHECK(one.add(first, 1) == nullptr);
  CHECK(one.addresses() == 1);
  one.remove(*counted);
  CHECK(one.addresses() == 0);
}

// ---- proxies of connections

namespace {

const std::string v2 = std::string("\r\n\r\n\0\r\nQUIT\n", 12);
std::string from_198_51_100_9() { return v2 + std::string("\x21\x11\0\x0C\xC6\x33\x64\x09\x7F\0\0\1\x10\0\0\x50", 16); }
std::string for_itself() { return v2 + std::string("\x20\0\0\0", 4); }

/// A server on a thread of its own, whose page is the peer that it sees.
struct real {
  explicit real(options o) {
    live = std::make_unique<hailwire::server<hailwire::short_poll>>(io, std::move(o));
    live->on_http([](const request& r) { return response{.body = "<" + r.peer() + ">"}; });
    port = live->listen("127.0.0.1", 0);
    runs = std::thread([this] { io.run(); });
  }
  ~real() {
    live->post([this] { io.stop(); });
    runs.join();
  }
  /// All that comes back to these parts, each sent when the one before it has been taken.
  std::string say(const std::vector<std::string>& parts) {
    int d = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(d, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    timeval patience{20, 0};
    ::setsockopt(d, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int now = 1;
    ::setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
    for (auto& p : parts) (void)::send(d, p.data(), p.size(), MSG_NOSIGNAL);
    std::string got;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(d, buffer, sizeof buffer, 0)) > 0;) got.append(buffer, static_cast<std::size_t>(n));
    ::close(d);
    return got;
  }
  asio::io_context io;
  std::unique_ptr<hailwire::server<hailwire::short_poll>> live;
  std::uint16_t port = 0;
  std::thread runs;
};

std::string page(const std::string& answer) {
  auto from = answer.find('<');
  return from == answer.npos ? answer : answer.substr(from);
}
const std::string ask_page = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

std::vector<std::string> bytes_of(const std::string& s) {
  std::vector<std::string> out;
  for (char c : s) out.emplace_back(1, c);
  return out;
}

}  // namespace

TEST_CASE("a trusted proxy's header comes off, in one piece with the request or byte by byte") {
  auto o = trusting({"127.0.0.1"});
  o.proxy_protocol = true;
  real s(o);
  CHECK(page(s.say({from_198_51_100_9() + ask_page})) == "<198.51.100.9:4096>");
  CHECK(page(s.say(bytes_of(from_198_51_100_9() + ask_page))) == "<198.51.100.9:4096>");
  CHECK(page(s.say({for_itself(), ask_page})).starts_with("<127.0.0.1:"));
  // Its word is the connection's peer; what that peer writes into its request is another matter.
  CHECK(page(s.say({from_198_51_100_9() +
                    "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"})) ==
        "<198.51.100.9:4096>");
  CHECK(page(s.say({for_itself() +
                    "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n\r\n"})) ==
        "<198.51.100.1>");
  // Without its header, or with a second one, there is no request.
  CHECK(s.say({ask_page}).empty());
  CHECK(s.say({"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n" + ask_page}).empty());
  CHECK(s.say({from_198_51_100_9() + from_198_51_100_9() + ask_page}).starts_with("HTTP/1.1 400 "));
}

TEST_CASE("from anyone else, or when it is not expected, such a header is a malformed request") {
  auto o = trusting({"10.0.0.0/8"});
  o.proxy_protocol = true;
  {
    real s(o);
    CHECK(s.say({from_198_51_100_9() + ask_page}).starts_with("HTTP/1.1 400 "));
    CHECK(page(s.say({ask_page})).starts_with("<127.0.0.1:"));
  }
  real s(trusting({"127.0.0.1"}));
  CHECK(s.say({from_198_51_100_9() + ask_page}).starts_with("HTTP/1.1 400 "));
}
