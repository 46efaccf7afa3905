// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/tls/layer.hpp"

#include <functional>
#include <map>
#include <random>

#include "tls_wire.hpp"

using namespace tls_wire;

// ---- handshakes

TEST_CASE("TLS 1.2 and 1.3 with each cipher carry bytes both ways and tell of the peer") {
  KEEP_RECORDS_BOTH_WAYS;
  for (const auto& k : kinds) {
    INFO(k.suite);
    wire w(made(with()), of(k));
    w.settle();
    REQUIRE(::SSL_is_init_finished(w.peer.ssl.get()));
    REQUIRE(w.layer->peer());
    CHECK(w.layer->peer()->version == (k.version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2"));
    CHECK(w.layer->peer()->cipher == k.suite);
    CHECK(w.layer->peer()->server_name == "localhost");
    CHECK(w.layer->peer()->subject.empty());
    auto text = some_text(100'000);
    w.peer.write("hello");
    w.peer.write(text);
    w.settle();
    CHECK(w.got == "hello" + text);
    w.write(text);
    w.write("bye");
    CHECK(w.peer.received == text + "bye");
    CHECK_FALSE(w.peer.failed);
  }
}

TEST_CASE("the versions are bounded below") {
  KEEP_RECORDS_BOTH_WAYS;
  wire old(made(with()), {.version = TLS1_1_VERSION});
  ::SSL_set_security_level(old.peer.ssl.get(), 0);
  old.settle();
  CHECK(old.last.what == status::failed);
  auto o = with();
  o.lowest = hailwire::tls_version::tls_1_3;
  wire newer(made(o), v12());
  newer.settle();
  CHECK(newer.last.what == status::failed);
  CHECK(newer.peer.failed);
}

TEST_CASE("ALPN agrees on http/1.1 or on nothing") {
  KEEP_RECORDS_BOTH_WAYS;
  using bytes = std::vector<unsigned char>;
  const bytes both{2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'}, other{2, 'h', '2'};
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    wire w(made(with()), {.version = version, .protocols = both});
    w.settle();
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    ::SSL_get0_alpn_selected(w.peer.ssl.get(), &chosen, &size);
    CHECK(std::string(reinterpret_cast<const char*>(chosen), size) == "http/1.1");
    wire x(made(with()), {.version = version, .protocols = other});
    x.settle();
    CHECK(x.last.what == status::failed);
    CHECK(x.peer.reason == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
  }
}

TEST_CASE("the name that is asked for chooses the certificate") {
  KEEP_RECORDS_BOTH_WAYS;
  auto c =
      made(with({plain(), pem(issue("one", "DNS:one.example,DNS:*.many.example", &authority())),
                 pem(issue("Two.Example", {}, &authority())), pem(issue("late", "DNS:one.example", &authority()))}));
  auto shown = [&](const std::string& name) {
    wire w(c, {.name = name});
    w.settle();
    std::unique_ptr<X509, tls_free<::X509_free>> x(::SSL_get1_peer_certificate(w.peer.ssl.get()));
    REQUIRE(x);
    char common[64];
    ::X509_NAME_get_text_by_NID(::X509_get_subject_name(x.get()), NID_commonName, common, sizeof common);
    REQUIRE(w.layer->peer());
    CHECK(w.layer->peer()->server_name == name);
    return std::string(common);
  };
  CHECK(shown("one.example") == "one");
  CHECK(shown("ONE.Example") == "one");
  CHECK(shown("a.many.example") == "one");
  CHECK(shown("two.example") == "Two.Example");
  CHECK(shown("localhost") == "localhost");
  CHECK(shown("many.example") == "localhost");
  CHECK(shown("a.b.many.example") == "localhost");
  CHECK(shown("nobody.example") == "localhost");
  CHECK(shown("") == "localhost");
}

TEST_CASE("a client's certificate is asked for, verified and told of") {
  KEEP_RECORDS_BOTH_WAYS;
  auto ada =
      issue("ada", "DNS:ada.example,email:ada@example.org,URI:urn:ada,IP:192.0.2.7,IP:2001:db8::7", &authority());
  auto foreign = issue("ada", {}, nullptr, true);
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    auto o = with();
    o.client_ca = pem(authority().certificate.get());
    for (auto clients : {tls_clients::may_show, tls_clients::must_show}) {
      o.clients = clients;
      auto c = made(o);
      wire w(c, {.version = version, .own = &ada});
      w.settle();
      REQUIRE(w.layer->peer());
      const auto& p = *w.layer->peer();
      CHECK(p.subject == "CN=ada,O=Analytical Engines");
      CHECK(p.names == std::vector<std::string>{"DNS:ada.example", "email:ada@example.org", "URI:urn:ada",
                                                "IP:192.0.2.7", "IP:2001:db8::7"});
      unsigned char digest[32];
      ::X509_digest(ada.certificate.get(), ::EVP_sha256(), digest, nullptr);
      char hex[65];
      for (int i = 0; i < 32; ++i) std::snprintf(hex + 2 * i, 3, "%02x", digest[i]);
      CHECK(p.fingerprint == hex);

      wire stranger(c, {.version = version, .own = &foreign});
      stranger.settle();
      CHECK(stranger.last.what == status::failed);
      CHECK_FALSE(stranger.layer->peer());

      wire nobody(c, {.version = version});
      nobody.settle();
      CHECK((nobody.last.what == status::failed) == (clients == tls_clients::must_show));
      if (nobody.layer->peer()) CHECK(nobody.layer->peer()->subject.empty());

      // Who comes back with a ticket is who it was.
      REQUIRE_FALSE(w.peer.tickets.empty());
      wire again(c, {.version = version, .resume = w.peer.tickets.back().get()});
      again.settle();
      CHECK(::SSL_session_reused(again.peer.ssl.get()));
      REQUIRE(again.layer->peer());
      CHECK(again.layer->peer()->fingerprint == p.fingerprint);
    }
    o.clients = tls_clients::anonymous;
    wire unasked(made(o), {.version = version, .own = &ada});
    unasked.settle();
    REQUIRE(unasked.layer->peer());
    CHECK(unasked.layer->peer()->subject.empty());
  }
}

TEST_CASE("a name with a zero or a space in it is not told of") {
  auto odd = issue("odd", "DNS:fine.example,DNS:not fine.example,DNS:fine.example", &authority());
  CHECK(hailwire::detail::tls_names(odd.certificate.get()) ==
        std::vector<std::string>{"DNS:fine.example", "DNS:fine.example"});
  identity zero = issue("zero");
  std::unique_ptr<GENERAL_NAMES, tls_free<::GENERAL_NAMES_free>> names(sk_GENERAL_NAME_new_null());
  auto* name = ::GENERAL_NAME_new();
  auto* text = ::ASN1_IA5STRING_new();
  ::ASN1_STRING_set(text, "bank.example\0.evil.example", 26);
  ::GENERAL_NAME_set0_value(name, GEN_DNS, text);
  sk_GENERAL_NAME_push(names.get(), name);
  ::X509_add1_ext_i2d(zero.certificate.get(), NID_subject_alt_name, names.get(), 0, 0);
  CHECK(hailwire::detail::tls_names(zero.certificate.get()).empty());
}

TEST_CASE("tickets resume, unless there are none or the certificates were reloaded") {
  KEEP_RECORDS_BOTH_WAYS;
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    auto c = made(with());
    wire first(c, {.version = version});
    first.settle();
    CHECK(first.peer.tickets.size() == (version == TLS1_3_VERSION ? 2 : 1));
    wire again(c, {.version = version, .resume = first.peer.tickets.back().get()});
    again.settle();
    CHECK(::SSL_session_reused(again.peer.ssl.get()));
    again.peer.write("x");
    again.settle();
    CHECK(again.got == "x");
    again.write("y");
    CHECK(again.peer.received == "y");

    wire other(made(with()), {.version = version, .resume = first.peer.tickets.back().get()});
    other.settle();
    CHECK(::SSL_is_init_finished(other.peer.ssl.get()));
    CHECK_FALSE(::SSL_session_reused(other.peer.ssl.get()));

    auto o = with();
    o.tickets = false;
    wire none(made(o), {.version = version});
    none.settle();
    none.write("z");
    CHECK(none.peer.received == "z");
    CHECK(none.peer.tickets.empty());
  }
}

TEST_CASE("a ticket is no certificate: none of before is good once one is demanded, or another authority's") {
  KEEP_RECORDS_BOTH_WAYS;
  auto ada = issue("ada", {}, &authority());
  static const identity elsewhere = issue("another authority", {}, nullptr, true);
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    wire before(made(with()), {.version = version});
    before.settle();
    REQUIRE_FALSE(before.peer.tickets.empty());
    auto o = with();
    o.clients = tls_clients::must_show;
    o.client_ca = pem(authority().certificate.get());
    auto demanding = made(o);
    wire late(demanding, {.version = version, .resume = before.peer.tickets.back().get()});
    late.settle();
    CHECK(late.last.what == status::failed);
    CHECK_FALSE(late.layer->peer());

    wire known(demanding, {.version = version, .own = &ada});
    known.settle();
    REQUIRE(known.layer->peer());
    REQUIRE_FALSE(known.peer.tickets.empty());
    o.client_ca = pem(elsewhere.certificate.get());
    wire stranger(made(o), {.version = version, .own = &ada, .resume = known.peer.tickets.back().get()});
    stranger.settle();
    CHECK(stranger.last.what == status::failed);
    CHECK_FALSE(stranger.layer->peer());
  }
}

TEST_CASE("a ticket of one name used under another is still the same client's, and nobody else's") {
  KEEP_RECORDS_BOTH_WAYS;
  auto o = with({plain(), pem(issue("one", "DNS:one.example", &authority()))});
  auto ada = issue("ada", {}, &authority());
  o.clients = tls_clients::may_show;
  o.client_ca = pem(authority().certificate.get());
  auto c = made(o);
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    wire first(c, {.version = version, .name = "one.example", .own = &ada});
    first.settle();
    REQUIRE_FALSE(first.peer.tickets.empty());
    wire other(c, {.version = version, .name = "localhost", .resume = first.peer.tickets.back().get()});
    other.settle();
    // Resumed or not, a host is told of no name that this client has not asked for, and of nobody else. (In TLS 1.2 a
    // session keeps the name that it was begun with.)
    if (!other.layer->peer()) continue;
    CHECK(other.layer->peer()->server_name ==
          (version == TLS1_2_VERSION && ::SSL_session_reused(other.peer.ssl.get()) ? "one.example" : "localhost"));
    CHECK(
        (other.layer->peer()->subject.empty() || other.layer->peer()->fingerprint == first.layer->peer()->fingerprint));
  }
}

TEST_CASE("a peer that asks for small records gets them") {
  KEEP_RECORDS_BOTH_WAYS;
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    wire w(made(with()), {.version = version, .fragment = TLSEXT_max_fragment_length_512});
    w.settle();
    w.peer.raw.clear();
    w.write(some_text(5000));
    CHECK(w.peer.received == some_text(5000));
    std::string_view raw = w.peer.raw;
    std::size_t records = 0;
    while (raw.size() >= 5) {
      std::size_t size =
          static_cast<std::size_t>(static_cast<unsigned char>(raw[3])) << 8 | static_cast<unsigned char>(raw[4]);
      CHECK(size <= 512 + 40);
      raw.remove_prefix(5 + size);
      ++records;
    }
    CHECK(records == 10);
  }
}

// ---- cut anywhere

TEST_CASE("a session is the same however its bytes arrive") {
  KEEP_RECORDS_BOTH_WAYS;
  for (const auto& k : {kinds[0], kinds[3]}) {
    for (std::size_t chunk : {1u, 2u, 5u, 100u}) {
      wire w(made(with()), of(k));
      w.settle(chunk);
      w.peer.write("hello");
      w.peer.write(some_text(1000));
      ::SSL_shutdown(w.peer.ssl.get());
      w.settle(chunk);
      CHECK(w.got == "hello" + some_text(1000));
      CHECK(w.last.what == status::end);
      CHECK_FALSE(w.layer->truncated());
    }
  }
}

TEST_CASE("a session that pauses or breaks off after any byte gives what was whole") {
  KEEP_RECORDS_BOTH_WAYS;
  auto c = made(with());
  for (const auto& k : {kinds[0], kinds[3]}) {
    auto play = [&](std::size_t cut, bool reset) {
      auto w = std::make_unique<wire>(c, of(k));
      w->cut = cut, w->reset_at_cut = reset;
      w->settle();
      if (::SSL_is_init_finished(w->peer.ssl.get()) && w->there >= 0) w->peer.write("hello");
      w->settle();
      if (::SSL_is_init_finished(w->peer.ssl.get()) && w->there >= 0) w->peer.write("world");
      w->settle();
      return w;
    };
    std::size_t all = play(SIZE_MAX, false)->sent;
    REQUIRE(all > 300);
    for (std::size_t cut = 0; cut < all; ++cut) {
      INFO(k.suite << " cut at " << cut);
      auto paused = play(cut, false);
      CHECK(paused->got == "helloworld");
      auto broken = play(cut, true);
      CHECK(std::string_view("helloworld").starts_with(broken->got));
      CHECK(broken->got.size() % 5 == 0);
      // Over a pair of Unix sockets a close with bytes unread is a reset.
      bool over =
          broken->last.what == status::failed || (broken->last.what == status::end && broken->layer->truncated());
      CHECK(over);
    }
  }
}

TEST_CASE("what a slow reader gets is whole, in order, however it is offered") {
  KEEP_RECORDS_BOTH_WAYS;
  std::mt19937 random(1);
  for (const auto& k : {kinds[0], kinds[2], kinds[3]}) {
    wire w(made(with()), of(k));
    w.settle();
    int small = 4096;
    ::setsockopt(w.here, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    std::string text = some_text(400'000);
    std::size_t at = 0, blocked = 0;
    while (at < text.size()) {
      // In pieces, some of them empty, which differ from call to call; only their order is given.
      std::vector<std::span<const char>> pieces;
      std::size_t end = at, most = random() % 30'000 + 1;
      while (end < text.size() && end - at < most) {
        std::size_t n = std::min<std::size_t>(random() % 4 ? random() % 700 : 0, text.size() - end);
        pieces.push_back(std::span<const char>(text).subspan(end, n));
        end += n;
      }
      io_result r = w.layer->write(w.here, pieces);
      REQUIRE((r.what == status::done || r.what == status::again));
      CHECK(r.bytes <= end - at);
      CHECK((r.bytes == end - at || r.what == status::again));
      CHECK(w.layer->wants_write() == (r.what == status::again));
      at += r.bytes;
      if (r.what == status::again) ++blocked;
      w.pull(random() % 9000);
    }
    w.write({});
    while (w.pull()) w.look();
    CHECK(blocked > 10);
    CHECK(w.peer.received == text);
    CHECK_FALSE(w.layer->wants_write());
  }
}

TEST_CASE("an end is told from a cut, and leaves the other direction open") {
  KEEP_RECORDS_BOTH_WAYS;
  for (const auto& k : {kinds[0], kinds[3]}) {
    wire w(made(with()), of(k));
    w.settle();
    w.peer.write("last words");
    ::SSL_shutdown(w.peer.ssl.get());
    w.push();
    CHECK(w.got == "last words");
    CHECK(w.last.what == status::end);
    CHECK_FALSE(w.layer->truncated());
    w.write("an answer");
    CHECK(w.peer.received == "an answer");
    CHECK_FALSE(w.peer.closed);
    w.layer->shut_write(w.here);
    w.pull();
    CHECK(w.peer.closed);

    wire cut(made(with()), of(k));
    cut.settle();
    ::shutdown(cut.there, SHUT_WR);
    cut.look();
    CHECK(cut.last.what == status::end);
    CHECK(cut.layer->truncated());
    cut.write("an answer");
    CHECK(cut.peer.received == "an answer");

    wire ours(made(with()), of(k));
    ours.settle();
    ours.layer->shut_write(ours.here);
    ours.pull();
    CHECK(ours.peer.closed);
    ours.peer.write("still here");
    ours.push();
    CHECK(ours.got == "still here");
  }
}

// ---- hostile bytes

TEST_CASE("what is not a client's handshake ends the connection") {
  KEEP_RECORDS_BOTH_WAYS;
  for (std::string_view text : {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "\x16\x03\x01\xff\xff", "\0\0\0\0\0\0\0\0",
                                "\x80\x2e\x01\x03\x01"}) {
    wire w;
    ::send(w.there, text.data(), text.size(), 0);
    w.look();
    if (w.last.what != status::failed) {
      ::shutdown(w.there, SHUT_WR);
      w.look();
    }
    CHECK((w.last.what == status::failed || w.last.what == status::end));
    CHECK_FALSE(w.layer->peer());
    std::span<const char> piece(text);
    CHECK(w.layer->write(w.here, {&piece, 1}).bytes == 0);
  }
}

TEST_CASE("a damaged hello gives a handshake that fails or goes on, nothing else") {
  KEEP_RECORDS_BOTH_WAYS;
  auto c = made(with());
  client original({});
  original.give({});
  std::string hello = original.take();
  std::mt19937 random(3);
  for (std::size_t i = 0; i < hello.size(); ++i) {
    for (int bit : {0, 3, 7}) {
      turns t;
      wire w(c, {}, &t);
      auto bad = hello;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      ::send(w.there, bad.data(), bad.size(), 0);
      w.look();
      CHECK((w.last.what == status::failed || w.last.what == status::again));
      CHECK(w.got.empty());
      CHECK_FALSE(w.layer->peer());
    }
  }
}

TEST_CASE("a record with any byte changed is refused with an alert, and is nobody's data") {
  KEEP_RECORDS_BOTH_WAYS;
  auto c = made(with());
  for (std::size_t i = 0;; ++i) {
    wire w(c, v13());
    w.settle();
    w.peer.write("some data");
    std::string record = w.peer.take();
    if (i == record.size()) break;
    INFO("byte " << i);
    record[i] = static_cast<char>(record[i] ^ 1);
    record.append(300, 'x');  // so that a changed length has its bytes
    ::send(w.there, record.data(), record.size(), 0);
    w.look();
    CHECK(w.got.empty());
    CHECK(w.last.what == status::failed);
    w.pull();
    CHECK(w.peer.failed);
  }
}

TEST_CASE("rules of records are kept") {
  KEEP_RECORDS_BOTH_WAYS;
  auto c = made(with());
  struct rule {
    const char* name;
    int alert;  // 0: none, data goes on
    std::function<std::string(forger&)> make;
  };
  auto update = [](int asked) { return std::string{24, 0, 0, 1, static_cast<char>(asked)}; };
  const rule rules[] = {
      {"plain data", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [](forger&) { return std::string("\x16\x03\x03\x00\x01x", 6); }},
      {"a change of cipher", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [](forger&) { return std::string("\x14\x03\x03\x00\x01\x01", 6); }},
      {"too long", SSL_R_TLSV1_ALERT_RECORD_OVERFLOW, [](forger&) { return std::string("\x17\x03\x03\x41\x01", 5); }},
      {"too short", SSL_R_SSLV3_ALERT_BAD_RECORD_MAC,
       [](forger&) { return std::string("\x17\x03\x03\x00\x10", 5) + std::string(16, 'x'); }},
      {"nothing but padding", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [](forger& f) { return f.record(0, std::string(3, '\0')); }},
      {"a type that is none", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger& f) { return f.record(99, "x"); }},
      {"an empty alert", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger& f) { return f.record(21, ""); }},
      {"a warning within an update", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [=](forger& f) { return f.records({{22, update(0).substr(0, 3)}, {21, std::string("\x01\x5a", 2)}}); }},
      {"a farewell within an update", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [=](forger& f) { return f.records({{22, update(0).substr(0, 3)}, {21, std::string("\x01\x00", 2)}}); }},
      {"an alert of one byte", SSL_R_TLSV1_ALERT_DECODE_ERROR, [](forger& f) { return f.record(21, "\x01"); }},
      {"two alerts in one", SSL_R_TLSV1_ALERT_DECODE_ERROR,
       [](forger& f) { return f.record(21, std::string("\x01\x5a\x01\x00", 4)); }},
      {"an empty handshake", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger& f) { return f.record(22, ""); }},
      {"another hello", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [](forger& f) { return f.record(22, std::string("\x01\x00\x00\x01x", 5)); }},
      {"a long update", SSL_R_TLSV1_ALERT_DECODE_ERROR,
       [](forger& f) { return f.record(22, std::string("\x18\x00\x00\x02\x00\x00", 6)); }},
      {"an update to two", SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER, [=](forger& f) { return f.record(22, update(2)); }},
      {"an update with more behind it", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [=](forger& f) { return f.record(22, update(0) + update(0)); }},
      {"data within an update", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [=](forger& f) { return f.records({{22, update(0).substr(0, 3)}, {23, "x"}}); }},
      {"empty data within an update", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [=](forger& f) { return f.records({{22, update(0).substr(0, 3)}, {23, ""}}); }},
      // 32 may come, of which a second that passes meanwhile forgives one; records_test.cpp has that to the one.
      {"too many empty records", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [](forger& f) {
         std::string all;
         for (int i = 0; i < 48; ++i) all += f.record(23, "");
         return all;
       }},
      {"too many updates", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [=](forger& f) {
         std::string all;
         for (int i = 0; i < 48; ++i) all += f.record(22, update(0)), f.update();
         return all;
       }},
      {"content over the limit", SSL_R_TLSV1_ALERT_RECORD_OVERFLOW,
       [](forger& f) { return f.record(23, std::string(16385, 'x')); }},
      {"padding over the limit", SSL_R_TLSV1_ALERT_RECORD_OVERFLOW,
       [](forger& f) { return f.record(0, "x\x17" + std::string(16383, '\0')); }},
      {"padding at the limit", 0, [](forger& f) { return f.record(0, "x\x17" + std::string(16382, '\0')); }},
      {"content at the limit", 0, [](forger& f) { return f.record(23, std::string(16384, 'x')); }},
      {"padding", 0, [](forger& f) { return f.record(0, std::string("data\x17\0\0\0", 8)); }},
      {"some empty records", 0,
       [](forger& f) {
         std::string all;
         for (int i = 0; i < 32; ++i) all += f.record(23, "");
         all += f.record(23, "x");
         for (int i = 0; i < 32; ++i) all += f.record(23, "");
         return all;
       }},
      {"an update in two records", 0,
       [=](forger& f) {
         std::string all = f.records({{22, update(0).substr(0, 2)}, {22, update(0).substr(2)}});
         f.update();
         return all;
       }},
      {"a warning", 0, [](forger& f) { return f.record(21, std::string("\x01\x5a", 2)); }},
  };
  // What OpenSSL 3.0 says instead, or lets pass; detail/tls/README.md says why ours stands.
  const std::map<std::string_view, int> otherwise = {{"an alert of one byte", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE},
                                                     {"two alerts in one", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE},
                                                     {"a long update", SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER},
                                                     {"too many updates", 0},
                                                     {"padding over the limit", 0}};
  for (auto r : rules) {
    const bool listed = tls_wire::records_kept == hailwire::tls_records::openssl && otherwise.contains(r.name);
    if (listed) r.alert = otherwise.at(r.name);
    for (bool bytewise : {false, true}) {
      INFO(r.name << (bytewise ? ", byte by byte" : ""));
      wire w(c, v13());
      w.settle();
      forger f(w);
      auto bytes = r.make(f);
      if (!r.alert) bytes += f.record(23, "after");
      std::size_t step = bytewise && bytes.size() < 2000 ? 1 : bytes.size();
      for (std::size_t i = 0; i < bytes.size() && w.last.what != status::failed; i += step) {
        ::send(w.there, bytes.data() + i, std::min(step, bytes.size() - i), MSG_NOSIGNAL);
        w.look();
      }
      w.pull();
      if (r.alert) {
        CHECK(w.last.what == status::failed);
        CHECK(w.peer.reason == r.alert);
        std::string_view text = "x";
        std::span<const char> piece(text);
        CHECK(w.layer->write(w.here, {&piece, 1}).what == status::failed);
      } else {
        CHECK(w.last.what == status::again);
        CHECK(w.got.ends_with("after"));
      }
    }
  }
}

TEST_CASE("keys are updated on either side's wish, also while writing is blocked") {
  KEEP_RECORDS_BOTH_WAYS;
  for (const auto& k : {kinds[0], kinds[1], kinds[2]}) {
    wire w(made(with()), of(k));
    w.settle();
    std::string sent, answered;
    for (int round = 0; round < 5; ++round) {
      ::SSL_key_update(w.peer.ssl.get(), round % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
      auto text = some_text(static_cast<std::size_t>(round) * 9000 + 5);
      w.peer.write(text);
      sent += text;
      w.settle(round % 2 ? SIZE_MAX : 3);
      CHECK(w.got == sent);
      w.write(text);
      answered += text;
      CHECK(w.peer.received == answered);
    }
    // The socket is full when the wish comes: it is answered after what is in front of it.
    int small = 4096;
    ::setsockopt(w.here, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    auto text = some_text(100'000);
    std::span<const char> piece(text);
    auto taken = w.layer->write(w.here, {&piece, 1}).bytes;
    REQUIRE(w.layer->wants_write());
    ::SSL_key_update(w.peer.ssl.get(), SSL_KEY_UPDATE_REQUESTED);
    w.peer.write("more");
    w.push();
    CHECK(w.last.what == status::again);
    CHECK(w.got == sent);
    while (w.pull(1000)) w.look();
    CHECK(w.got == sent + "more");
    w.write(std::string_view(text).substr(taken));
    CHECK(w.peer.received == answered + text);
    CHECK_FALSE(w.peer.failed);
  }
}

// ---- many at once

TEST_CASE("connections that take turns keep their keys apart, also when they are updated") {
  KEEP_RECORDS_BOTH_WAYS;
  turns t;
  auto c = made(with());
  std::vector<std::unique_ptr<wire>> all;
  for (const auto& k : {kinds[0], kinds[0], kinds[1], kinds[0]}) {
    all.push_back(std::make_unique<wire>(c, of(k), &t));
    all.back()->settle();
  }
  std::string expected;
  for (int round = 0; round < 6; ++round) {
    expected += "round " + std::to_string(round);
    for (auto& w : all) {
      if (round == 2) ::SSL_key_update(w->peer.ssl.get(), SSL_KEY_UPDATE_REQUESTED);
      w->peer.write("round " + std::to_string(round));
      w->settle();
      w->write("round " + std::to_string(round));
    }
    for (auto& w : all) CHECK((w->got == expected && w->peer.received == expected && !w->peer.failed));
    if (round == 3) all.erase(all.begin());  // whoever leaves takes no other key along
  }
}

TEST_CASE("handshakes share a turn's budget, first come, first served, and those who talk already do not wait") {
  KEEP_RECORDS_BOTH_WAYS;
  turns t;
  auto c = made(with());
  wire healthy(c, {}, &t);
  healthy.settle();
  t.next();
  std::vector<std::unique_ptr<wire>> crowd;
  for (int i = 0; i < 60; ++i) {
    crowd.push_back(std::make_unique<wire>(c, client_options{}, &t));
    crowd.back()->peer.give({});
    auto hello = crowd.back()->peer.take();
    ::send(crowd.back()->there, hello.data(), hello.size(), 0);
  }
  std::vector<std::size_t> served;
  std::vector<bool> done(crowd.size());
  int turn_count = 0;
  while (served.size() < crowd.size()) {
    REQUIRE(++turn_count < 100);
    std::size_t before = served.size();
    for (std::size_t i = 0; i < crowd.size(); ++i) {
      if (done[i]) continue;
      char byte;
      crowd[i]->layer->read(crowd[i]->here, crowd[i]->buffer);
      if (::recv(crowd[i]->there, &byte, 1, MSG_PEEK) == 1) served.push_back(i), done[i] = true;
    }
    CHECK(served.size() > before);
    healthy.peer.write("x");
    auto bytes = healthy.peer.take();
    ::send(healthy.there, bytes.data(), bytes.size(), 0);
    CHECK(healthy.layer->read(healthy.here, healthy.buffer).what == status::done);
    t.next();
  }
  CHECK(turn_count > 2);
  CHECK(std::is_sorted(served.begin(), served.end()));

  // A newcomer does not push in while somebody waits, and who goes away keeps nobody waiting.
  auto ready = [&] {
    auto w = std::make_unique<wire>(c, client_options{}, &t);
    w->peer.give({});
    auto hello = w->peer.take();
    ::send(w->there, hello.data(), hello.size(), 0);
    return w;
  };
  t.shared->spend(std::chrono::seconds(1));
  auto waiting = ready(), newcomer = ready();
  CHECK(waiting->layer->read(waiting->here, waiting->buffer).what == status::later);
  t.next();
  CHECK(newcomer->layer->read(newcomer->here, newcomer->buffer).what == status::later);
  CHECK(newcomer->layer->read(newcomer->here, newcomer->buffer).what != status::done);
  t.shared->spend(std::chrono::seconds(1));
  auto third = ready();
  CHECK(third->layer->read(third->here, third->buffer).what == status::later);
  waiting.reset();
  newcomer.reset();
  third.reset();
  t.next();
  auto fourth = ready();
  fourth->layer->read(fourth->here, fourth->buffer);
  CHECK(fourth->pull() > 0);
}

// ---- ends

TEST_CASE("close_notify is said whoever ends first, and not twice") {
  KEEP_RECORDS_BOTH_WAYS;
  for (const auto& k : {kinds[0], kinds[3]}) {
    for (bool farewell : {true, false}) {
      wire w(made(with()), of(k));
      w.settle();
      if (farewell) ::SSL_shutdown(w.peer.ssl.get());
      w.push();
      ::shutdown(w.there, SHUT_WR);
      w.look();
      CHECK(w.last.what == status::end);
      w.layer->shut_write(w.here);
      w.layer->shut_write(w.here);
      w.peer.raw.clear();
      w.pull();
      CHECK(w.peer.closed);
      CHECK(w.peer.raw.size() < 40);
      char byte;
      CHECK(::recv(w.there, &byte, 1, 0) == 0);
    }
    // After a failure nothing is said, and before the end of a handshake nothing can be.
    wire failed(made(with()), of(k)), early(made(with()), of(k));
    failed.settle();
    std::string noise("\x17\x03\x03\x00\x20", 5);
    noise += std::string(32, 'x');
    ::send(failed.there, noise.data(), noise.size(), 0);
    failed.look();
    CHECK(failed.last.what == status::failed);
    failed.layer->shut_write(failed.here);
    failed.pull();
    CHECK(failed.peer.failed);
    CHECK_FALSE(failed.peer.closed);
    early.layer->shut_write(early.here);
    char byte;
    CHECK(::recv(early.there, &byte, 1, 0) == 0);
  }
}

TEST_CASE("a farewell that a full socket does not take leaves when there is room, and then our direction ends") {
  KEEP_RECORDS_BOTH_WAYS;
  for (const auto& k : {kinds[0], kinds[3]}) {
    wire w(made(with()), of(k));
    w.settle();
    int small = 4096;
    ::setsockopt(w.here, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    auto text = some_text(100'000);
    std::span<const char> piece(text);
    auto taken = w.layer->write(w.here, {&piece, 1}).bytes;
    REQUIRE(w.layer->wants_write());
    w.layer->shut_write(w.here);
    CHECK(w.layer->wants_write());
    while (w.pull(1000)) w.look();
    CHECK_FALSE(w.layer->wants_write());
    CHECK(w.peer.received == text.substr(0, taken));
    CHECK(w.peer.closed);
    char byte;
    CHECK(::recv(w.there, &byte, 1, 0) == 0);
  }
}

namespace {

/// A connection of TCP's, because a reset is its own.
void over_tcp(wire& w, int receive_buffer = 0) {
  int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  socklen_t size = sizeof at;
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&at), size) == 0);
  ::listen(listener, 1);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
  for (int d : {w.here, w.there}) ::close(d);
  w.there = connect_to(ntohs(at.sin_port), receive_buffer);
  w.here = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
  ::close(listener);
  ::fcntl(w.there, F_SETFL, O_NONBLOCK);
  w.settle();
  REQUIRE(w.layer->peer());
}
/// Reads until the connection's end; whether that is an orderly one.
bool ends_in_order(wire& w) {
  char bytes[1000];
  ssize_t n;
  ::fcntl(w.there, F_SETFL, 0);
  while ((n = ::recv(w.there, bytes, sizeof bytes, 0)) > 0) w.peer.give({bytes, static_cast<std::size_t>(n)});
  return n == 0;
}
/// A record that nobody sealed, and more behind it than one read takes.
std::string noise() { return std::string("\x17\x03\x03\x00\x20", 5) + std::string(150'000, 'x'); }

}  // namespace

TEST_CASE("a fatal alert arrives although much that is unread is behind what it answers") {
  KEEP_RECORDS_BOTH_WAYS;
  for (const auto& k : {kinds[0], kinds[3]}) {
    // Also behind data that the client has no room for yet: a reset would take it, and the alert, from the socket.
    for (std::size_t unread : {std::size_t{0}, std::size_t{300'000}}) {
      INFO(k.suite << ", " << unread << " bytes in front");
      wire w(made(with()), of(k));
      over_tcp(w, unread ? 4096 : 0);
      const auto text = some_text(unread);
      if (unread) {
        int much = 2'000'000;
        ::setsockopt(w.here, SOL_SOCKET, SO_SNDBUF, &much, sizeof much);
        const std::span<const char> piece(text);
        REQUIRE(w.layer->write(w.here, {&piece, 1}).what == status::done);
      }
      const auto bytes = noise();
      REQUIRE(::send(w.there, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
      w.look();
      CHECK(w.last.what == status::failed);
      w.layer->shut_write(w.here);
      ::close(std::exchange(w.here, -1));
      CHECK(ends_in_order(w));
      CHECK(w.peer.received == text);
      CHECK(w.peer.reason == SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
    }
  }
}

TEST_CASE("a fatal alert that has to wait for a full socket arrives too") {
  KEEP_RECORDS_BOTH_WAYS;
  // A pair of Unix sockets, where unread bytes are a reset too, and the room is known by the byte: sooner or later the
  // end of a record fits and the alert behind it does not.
  std::size_t waited = 0;
  for (std::size_t size = 16'000; size < 19'000; size += 100) {
    wire w(made(with()), v13());
    w.settle();
    int small = 4096;
    ::setsockopt(w.here, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    const auto text = some_text(size);
    const std::span<const char> piece(text);
    const std::size_t taken = w.layer->write(w.here, {&piece, 1}).bytes;
    const auto bytes = noise();
    REQUIRE(::send(w.there, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    int unread = 0;
    bool waits = false;
    while (w.layer->wants_write()) {
      w.pull(1000);
      w.look();
      ::ioctl(w.here, FIONREAD, &unread);
      if (!w.layer->wants_write() || static_cast<std::size_t>(unread) == bytes.size()) continue;
      waits = true;
      const io_result late = w.layer->write(w.here, {&piece, 1});
      CHECK((late.what == status::again || late.what == status::failed));
      CHECK(late.bytes == 0);
    }
    waited += waits;
    w.look();
    REQUIRE(w.last.what == status::failed);
    ::close(std::exchange(w.here, -1));
    CHECK(ends_in_order(w));
    CHECK(w.peer.received == text.substr(0, taken));
    CHECK(w.peer.reason == SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
  }
  CHECK(waited > 0);
}
