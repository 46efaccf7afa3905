// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/tls/tickets.hpp"

#include "tls_wire.hpp"

using namespace tls_wire;

namespace {

/// Of the server's; OpenSSL's own clocks go on as they do.
std::int64_t later = 0;
std::int64_t clock_of_tests() { return static_cast<std::int64_t>(std::time(nullptr)) + later; }

contexts made_by_clock(const tls_options& o) {
  later = 0;
  contexts out;
  std::string what;
  REQUIRE_FALSE(hailwire::detail::make_tls_contexts(o, out, what, clock_of_tests));
  return out;
}

/// Resumes with the newest ticket of `v`, whose next one it then keeps; whether that went without a full handshake.
bool resumes(const contexts& c, session_pointer& ticket, client_options o) {
  o.resume = ticket.get();
  wire w(c, o);
  w.settle();
  REQUIRE(::SSL_is_init_finished(w.peer.ssl.get()));
  REQUIRE(w.layer->peer());
  w.write("x");
  REQUIRE(w.peer.received == "x");
  bool resumed = ::SSL_session_reused(w.peer.ssl.get());
  // A renewed one of TLS 1.2 is not announced to a client of OpenSSL's.
  if (o.version == TLS1_2_VERSION) ticket.reset(::SSL_get1_session(w.peer.ssl.get()));
  if (!w.peer.tickets.empty()) ticket = std::move(w.peer.tickets.back());
  return resumed;
}
session_pointer first_ticket(const contexts& c, const client_options& o) {
  wire w(c, o);
  w.settle();
  REQUIRE_FALSE(w.peer.tickets.empty());
  return std::move(w.peer.tickets.back());
}

}  // namespace

TEST_CASE("a chain of tickets ends two hours after its first full handshake") {
  KEEP_RECORDS_BOTH_WAYS;
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    auto c = made_by_clock(with());
    client_options o{.version = version};
    auto ticket = first_ticket(c, o);
    for (int minutes : {0, 30, 60, 90, 119}) {
      later = minutes * 60;
      CHECK(resumes(c, ticket, o));
    }
    later = 121 * 60;
    CHECK_FALSE(resumes(c, ticket, o));
    // That was a full handshake, so another chain begins.
    later += 119 * 60;
    CHECK(resumes(c, ticket, o));
    later += 2 * 60;
    CHECK_FALSE(resumes(c, ticket, o));
  }
}

TEST_CASE("a client's certificate is not good for longer by way of tickets, nor is one in its chain") {
  KEEP_RECORDS_BOTH_WAYS;
  auto middle = issue("in between", {}, &authority(), true, 5 * 60);
  auto ada = issue("ada", {}, &authority(), false, 10 * 60), eve = issue("eve", {}, &middle, false, 3600);
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (auto [own, minutes] : {std::pair(&ada, 10), std::pair(&eve, 5)}) {
      auto o = with();
      o.clients = tls_clients::must_show;
      o.client_ca = pem(authority().certificate.get()) + pem(middle.certificate.get());
      auto c = made_by_clock(o);
      auto ticket = first_ticket(c, {.version = version, .own = own});
      client_options back{.version = version};
      for (int at : {1, minutes - 1}) {
        later = at * 60;
        CHECK(resumes(c, ticket, back));
      }
      for (int at : {minutes + 1, 5 * 60}) {
        later = at * 60;
        back.resume = ticket.get();
        wire w(c, back);
        w.settle();
        CHECK(w.last.what == status::failed);  // without the ticket it has no certificate
        CHECK_FALSE(w.layer->peer());
      }
    }
  }
}

TEST_CASE("the keys of tickets are replaced by time; the one before still opens what it has sealed") {
  KEEP_RECORDS_BOTH_WAYS;
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    auto o = with();
    o.ticket_key_time = std::chrono::minutes(20);
    auto c = made_by_clock(o);
    client_options v{.version = version};
    auto key_name = [](const session_pointer& t) {
      const unsigned char* at = nullptr;
      std::size_t size = 0;
      ::SSL_SESSION_get0_ticket(t.get(), &at, &size);
      REQUIRE(size > 16);
      return std::string(reinterpret_cast<const char*>(at), 16);
    };
    auto ticket = first_ticket(c, v), old = first_ticket(c, v);
    auto name = key_name(ticket);
    later = 19 * 60;
    CHECK(resumes(c, ticket, v));
    CHECK(key_name(ticket) == name);
    later = 21 * 60;
    CHECK(resumes(c, ticket, v));
    CHECK(key_name(ticket) != name);
    later = 39 * 60;
    auto copy = first_ticket(c, v);
    CHECK(resumes(c, ticket, v));
    later = 42 * 60;
    CHECK(resumes(c, ticket, v));
    CHECK_FALSE(resumes(c, old, v));
  }
}

TEST_CASE("a session of TLS 1.2 is not resumed under another name") {
  KEEP_RECORDS_BOTH_WAYS;
  auto c = made(with({plain(), pem(issue("one", "DNS:one.example", &authority()))}));
  for (std::string name : {"one.example", "nobody.example", ""}) {
    INFO(name);
    auto ticket = first_ticket(c, {.version = TLS1_2_VERSION, .name = name});
    CHECK(resumes(c, ticket, {.version = TLS1_2_VERSION, .name = name}));
    CHECK(resumes(c, ticket, {.version = TLS1_2_VERSION, .name = name.empty() ? name : "O" + name.substr(1)}) ==
          (name != "nobody.example"));
    for (std::string other : {"localhost", "one.example.", ""}) {
      if (other == name) continue;
      auto mine = first_ticket(c, {.version = TLS1_2_VERSION, .name = name});
      CHECK_FALSE(resumes(c, mine, {.version = TLS1_2_VERSION, .name = other}));
    }
  }
}

TEST_CASE("a client whose certificate is on the list of those revoked is turned away, from the reload on") {
  KEEP_RECORDS_BOTH_WAYS;
  auto ada = issue("ada", {}, &authority()), eve = issue("eve", {}, &authority());
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    auto o = with();
    o.clients = tls_clients::must_show;
    o.client_ca = pem(authority().certificate.get());
    o.client_crl = revoked(authority(), {});
    auto before = made(o);
    auto ticket = first_ticket(before, {.version = version, .own = &eve});
    o.client_crl = revoked(authority(), {&eve});
    auto after = made(o);
    wire good(after, {.version = version, .own = &ada}), bad(after, {.version = version, .own = &eve}),
        old(after, {.version = version, .own = &eve, .resume = ticket.get()});
    for (auto* w : {&good, &bad, &old}) w->settle();
    CHECK(good.layer->peer());
    CHECK(bad.last.what == status::failed);
    CHECK(old.last.what == status::failed);
    // A list of another authority says nothing of these.
    static const identity elsewhere = issue("another authority", {}, nullptr, true);
    o.client_crl = revoked(elsewhere, {});
    wire none(made(o), {.version = version, .own = &ada});
    none.settle();
    CHECK(none.last.what == status::failed);
  }
}
