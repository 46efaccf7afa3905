// SPDX-License-Identifier: BSL-1.0
#include "hailwire/tls.hpp"

#include <openssl/pem.h>
#include <openssl/rand.h>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <thread>

#include "catch.hpp"
#include "hailwire/transport/short_poll.hpp"
#include "hailwire/transport/sse.hpp"

using hailwire::tls_certificate;
using hailwire::tls_clients;
using hailwire::tls_context;
using hailwire::tls_options;
using hailwire::detail::io_result;
using hailwire::detail::ssl_pointer;
using hailwire::detail::tls_free;
using hailwire::detail::tls_keys;
using hailwire::detail::tls_layer;
using hailwire::detail::tls_records;
using hailwire::detail::tls_shared;
using hailwire::detail::tls_suite;
using hailwire::detail::x509_pointer;
using status = io_result::status;

namespace {

// ---- certificates ----------------------------------------------------------------------------------------------------

using key_pointer = std::unique_ptr<EVP_PKEY, tls_free<::EVP_PKEY_free>>;

struct identity {
  x509_pointer certificate;
  key_pointer key;
};

void extend(X509* x, X509* issuer, int id, const char* value) {
  X509V3_CTX context;
  ::X509V3_set_ctx(&context, issuer, x, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, tls_free<::X509_EXTENSION_free>> e(::X509V3_EXT_conf_nid(nullptr, &context, id, value));
  REQUIRE(e);
  ::X509_add_ext(x, e.get(), -1);
}

/// Signed by `issuer`, or by itself. `names` as X509V3 writes alternative names: `DNS:a,IP:127.0.0.1`.
identity issue(const std::string& common, const std::string& names = {}, const identity* issuer = nullptr, bool authority = false) {
  static long serial = 1;
  identity made{x509_pointer(::X509_new()), key_pointer(EVP_EC_gen("P-256"))};
  X509* x = made.certificate.get();
  ::X509_set_version(x, 2);
  ::ASN1_INTEGER_set(::X509_get_serialNumber(x), serial++);
  ::X509_gmtime_adj(::X509_getm_notBefore(x), -60);
  ::X509_gmtime_adj(::X509_getm_notAfter(x), 3600);
  auto* subject = ::X509_get_subject_name(x);
  ::X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>("Analytical Engines"), -1, -1, 0);
  ::X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(common.c_str()), -1, -1, 0);
  X509* by = issuer ? issuer->certificate.get() : x;
  ::X509_set_issuer_name(x, ::X509_get_subject_name(by));
  ::X509_set_pubkey(x, made.key.get());
  if (authority) extend(x, by, NID_basic_constraints, "critical,CA:TRUE");
  if (!names.empty()) extend(x, by, NID_subject_alt_name, names.c_str());
  REQUIRE(::X509_sign(x, issuer ? issuer->key.get() : made.key.get(), ::EVP_sha256()) > 0);
  return made;
}

std::string text_of(BIO* b) {
  char* text = nullptr;
  long size = BIO_get_mem_data(b, &text);
  return {text, static_cast<std::size_t>(size)};
}
std::string pem(const X509* x) {
  hailwire::detail::bio_pointer b(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_X509(b.get(), x);
  return text_of(b.get());
}
std::string pem(const EVP_PKEY* k, const char* password = nullptr) {
  hailwire::detail::bio_pointer b(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_PKCS8PrivateKey(b.get(), k, password ? ::EVP_aes_128_cbc() : nullptr, password, password ? static_cast<int>(std::strlen(password)) : 0, nullptr, nullptr);
  return text_of(b.get());
}
tls_certificate pem(const identity& i) { return {pem(i.certificate.get()), pem(i.key.get())}; }

const identity& authority() {
  static const identity a = issue("an authority", {}, nullptr, true);
  return a;
}
const tls_certificate& plain() {
  static const tls_certificate c = pem(issue("localhost", "DNS:localhost,IP:127.0.0.1", &authority()));
  return c;
}
tls_options with(std::vector<tls_certificate> c = {plain()}) { return {.certificates = std::move(c)}; }

// ---- a client in memory and a layer, with a pair of sockets between them ---------------------------------------------

using ctx_pointer = hailwire::detail::ssl_ctx_pointer;

struct client_options {
  int version = 0;  // 0: whatever both can
  std::string name = "localhost";
  const char* suite = nullptr;
  std::vector<unsigned char> protocols = {};
  const identity* own = nullptr;
  SSL_SESSION* resume = nullptr;
  unsigned char fragment = 0;
};

struct session_free {
  void operator()(SSL_SESSION* s) const noexcept { ::SSL_SESSION_free(s); }
};
using session_pointer = std::unique_ptr<SSL_SESSION, session_free>;

class client {
 public:
  explicit client(const client_options& o) : ctx_(::SSL_CTX_new(::TLS_client_method())) {
    if (o.version) ::SSL_CTX_set_min_proto_version(ctx_.get(), o.version), ::SSL_CTX_set_max_proto_version(ctx_.get(), o.version);
    if (o.suite && o.version == TLS1_3_VERSION) REQUIRE(::SSL_CTX_set_ciphersuites(ctx_.get(), o.suite) == 1);
    if (o.suite && o.version == TLS1_2_VERSION) REQUIRE(::SSL_CTX_set_cipher_list(ctx_.get(), o.suite) == 1);
    ::SSL_CTX_set_session_cache_mode(ctx_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    ::SSL_CTX_sess_set_new_cb(ctx_.get(), [](SSL* s, SSL_SESSION* session) {
      static_cast<client*>(SSL_get_app_data(s))->tickets.emplace_back(session);
      return 1;
    });
    ::SSL_CTX_set_keylog_callback(ctx_.get(), [](const SSL* s, const char* line) { static_cast<client*>(SSL_get_app_data(s))->keys += std::string(line) + '\n'; });
    ssl.reset(::SSL_new(ctx_.get()));
    SSL_set_app_data(ssl.get(), this);
    if (!o.name.empty()) SSL_set_tlsext_host_name(ssl.get(), o.name.c_str());
    if (!o.protocols.empty()) ::SSL_set_alpn_protos(ssl.get(), o.protocols.data(), static_cast<unsigned>(o.protocols.size()));
    if (o.own) ::SSL_use_certificate(ssl.get(), o.own->certificate.get()), ::SSL_use_PrivateKey(ssl.get(), o.own->key.get());
    if (o.resume) ::SSL_set_session(ssl.get(), o.resume);
    if (o.fragment) ::SSL_set_tlsext_max_fragment_length(ssl.get(), o.fragment);
    ::SSL_set_connect_state(ssl.get());
    in_ = ::BIO_new(::BIO_s_mem());
    out_ = ::BIO_new(::BIO_s_mem());
    BIO_set_mem_eof_return(in_, -1);
    BIO_set_mem_eof_return(out_, -1);
    ::SSL_set_bio(ssl.get(), in_, out_);
  }
  ~client() { ::ERR_clear_error(); }

  /// What it wants to send.
  std::string take() {
    std::string text = text_of(out_);
    (void)BIO_reset(out_);
    return text;
  }
  /// What has come for it; goes on as far as it can.
  void give(std::string_view bytes) {
    raw.append(bytes);
    if (!bytes.empty()) ::BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
    ::ERR_clear_error();
    if (!::SSL_is_init_finished(ssl.get())) {
      int r = ::SSL_do_handshake(ssl.get());
      if (r != 1 && ::SSL_get_error(ssl.get(), r) != SSL_ERROR_WANT_READ) {
        failed = true;
        if (!reason) reason = ERR_GET_REASON(::ERR_peek_error());
      }
    }
    char buffer[20000];
    for (std::size_t n; ::SSL_is_init_finished(ssl.get());) {
      if (::SSL_read_ex(ssl.get(), buffer, sizeof buffer, &n) == 1) {
        received.append(buffer, n);
        continue;
      }
      int why = ::SSL_get_error(ssl.get(), 0);
      if (why == SSL_ERROR_ZERO_RETURN) closed = true;
      if (why == SSL_ERROR_SSL) {
        failed = true;
        if (!reason) reason = ERR_GET_REASON(::ERR_peek_error());
      }
      break;
    }
    ::ERR_clear_error();
  }
  void write(std::string_view text) {
    std::size_t n = 0;
    REQUIRE(::SSL_write_ex(ssl.get(), text.data(), text.size(), &n) == 1);
  }
  std::string secret(std::string_view label) const {
    auto at = keys.find(label);
    auto line = keys.substr(at, keys.find('\n', at) - at);
    std::string out;
    for (std::size_t i = line.rfind(' ') + 1; i + 1 < line.size(); i += 2) out += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    return out;
  }

  std::string received, raw, keys;
  bool closed = false, failed = false;
  int reason = 0;
  std::vector<session_pointer> tickets;
  ssl_pointer ssl;

 private:
  ctx_pointer ctx_;
  BIO *in_, *out_;
};

/// Stands in for a loop: what is posted runs at the end of a turn.
struct turns {
  std::shared_ptr<tls_shared> shared = std::make_shared<tls_shared>([this](hailwire::detail::function<void()> f) { posted.push_back(std::move(f)); });
  std::deque<hailwire::detail::function<void()>> posted;
  void next() {
    for (auto all = std::exchange(posted, {}); auto& f : all) f();
  }
};

using contexts = std::shared_ptr<const hailwire::detail::tls_contexts>;
contexts made(const tls_options& o) {
  contexts out;
  std::string what;
  INFO(what);
  REQUIRE_FALSE(hailwire::detail::make_tls_contexts(o, out, what));
  return out;
}

class wire {
 public:
  explicit wire(contexts c = made(with()), const client_options& o = {}, turns* t = nullptr)
      : peer(o), loop(t ? *t : own_), layer(std::make_unique<tls_layer>(loop.shared, std::move(c))) {
    int two[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, two) == 0);
    here = two[0], there = two[1];
  }
  ~wire() {
    layer.reset();
    for (int d : {here, there})
      if (d >= 0) ::close(d);
    CHECK(::ERR_peek_error() == 0);
  }

  /// Client to socket, `chunk` bytes at a time with a look by the layer after each.
  void push(std::size_t chunk = SIZE_MAX) {
    std::string bytes = peer.take();
    for (std::size_t i = 0; i < bytes.size() && there >= 0;) {
      std::size_t n = std::min({chunk, bytes.size() - i, std::size_t{60'000}, cut - std::min(cut, sent)});
      if (n == 0 && sent >= cut) {
        cut = SIZE_MAX;
        if (reset_at_cut) {
          ::close(std::exchange(there, -1));
          look();
          return;
        }
        look();
        continue;
      }
      REQUIRE(::send(there, bytes.data() + i, n, MSG_NOSIGNAL) == static_cast<ssize_t>(n));
      i += n, sent += n;
      look();
    }
  }
  /// Reads as a driver does, until there is no more.
  void look() {
    for (int i = 0; i < 1000; ++i) {
      io_result r = layer->read(here, buffer);
      last = r;
      if (r.what == status::done) got.append(buffer.data(), r.bytes);
      if (r.what == status::later) loop.next();
      if (r.what != status::done && r.what != status::later) return;
    }
    FAIL("a layer that never says it has read all");
  }
  /// Socket to client, at most so many bytes.
  std::size_t pull(std::size_t most = SIZE_MAX) {
    char bytes[20000];
    std::size_t all = 0;
    while (most && there >= 0) {
      ssize_t n = ::recv(there, bytes, std::min(most, sizeof bytes), 0);
      if (n <= 0) break;
      peer.give({bytes, static_cast<std::size_t>(n)});
      all += static_cast<std::size_t>(n), most -= static_cast<std::size_t>(n);
    }
    return all;
  }
  /// Until both have nothing more to say.
  void settle(std::size_t chunk = SIZE_MAX) {
    peer.give({});
    for (int i = 0; i < 20; ++i) {
      push(chunk);
      look();
      pull();
    }
  }
  /// As a connection writes: what was not taken is offered again.
  void write(std::string_view text) {
    while (!text.empty()) {
      std::span<const char> piece(text);
      io_result r = layer->write(here, {&piece, 1});
      REQUIRE((r.what == status::done || r.what == status::again));
      text.remove_prefix(r.bytes);
      pull();
    }
  }

  client peer;

 private:
  turns own_;

 public:
  turns& loop;
  std::unique_ptr<tls_layer> layer;
  int here = -1, there = -1;
  std::vector<char> buffer = std::vector<char>(64 * 1024);
  std::string got;
  io_result last;
  std::size_t sent = 0, cut = SIZE_MAX;  // of what the client sends: at `cut` bytes there is a pause, or the end
  bool reset_at_cut = false;
};

/// The client's side of a TLS 1.3 connection with keys in hand, to send what no client would.
struct forger {
  explicit forger(wire& w) : suite(tls_suite::make(0x1301)) {
    auto secret = w.peer.secret("CLIENT_TRAFFIC_SECRET_0");
    std::copy(secret.begin(), secret.end(), reinterpret_cast<char*>(keys.secret.data()));
    REQUIRE(suite->derive(keys));
  }
  ~forger() { suite->forget(keys); }
  std::string record(std::uint8_t type, std::string_view content) {
    std::string out;
    std::span<const char> piece(content);
    REQUIRE(suite->seal(keys, type, {&piece, 1}, out));
    return out;
  }
  std::string records(std::initializer_list<std::pair<std::uint8_t, std::string>> all) {
    std::string out;
    for (auto& [type, content] : all) out += record(type, content);
    return out;
  }
  std::unique_ptr<tls_suite> suite;
  tls_keys keys;
};

client_options v13(const char* suite = "TLS_AES_128_GCM_SHA256") { return {.version = TLS1_3_VERSION, .suite = suite}; }
client_options v12(const char* suite = nullptr) { return {.version = TLS1_2_VERSION, .suite = suite}; }

std::string some_text(std::size_t size) {
  std::string out(size, ' ');
  std::uint32_t x = 7;
  for (char& c : out) c = static_cast<char>('a' + (x = x * 1664525 + 1013904223) % 26);
  return out;
}

struct kind {
  int version;
  const char* suite;
};
constexpr kind kinds[] = {{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},        {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
                          {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},  {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
                          {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"}};
client_options of(const kind& k) { return {.version = k.version, .suite = k.suite}; }

}  // namespace

// ---- handshakes ------------------------------------------------------------------------------------------------------

TEST_CASE("TLS 1.2 and 1.3 with each cipher carry bytes both ways and tell of the peer") {
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
  auto c = made(with({plain(), pem(issue("one", "DNS:one.example,DNS:*.many.example", &authority())), pem(issue("Two.Example", {}, &authority())),
                      pem(issue("late", "DNS:one.example", &authority()))}));
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
  auto ada = issue("ada", "DNS:ada.example,email:ada@example.org,URI:urn:ada,IP:192.0.2.7,IP:2001:db8::7", &authority());
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
      CHECK(p.names == std::vector<std::string>{"DNS:ada.example", "email:ada@example.org", "URI:urn:ada", "IP:192.0.2.7", "IP:2001:db8::7"});
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
  CHECK(hailwire::detail::tls_names(odd.certificate.get()) == std::vector<std::string>{"DNS:fine.example", "DNS:fine.example"});
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

TEST_CASE("a peer that asks for small records gets them") {
  for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    wire w(made(with()), {.version = version, .fragment = TLSEXT_max_fragment_length_512});
    w.settle();
    w.peer.raw.clear();
    w.write(some_text(5000));
    CHECK(w.peer.received == some_text(5000));
    std::string_view raw = w.peer.raw;
    std::size_t records = 0;
    while (raw.size() >= 5) {
      std::size_t size = static_cast<std::size_t>(static_cast<unsigned char>(raw[3])) << 8 | static_cast<unsigned char>(raw[4]);
      CHECK(size <= 512 + 40);
      raw.remove_prefix(5 + size);
      ++records;
    }
    CHECK(records == 10);
  }
}

// ---- cut anywhere ----------------------------------------------------------------------------------------------------

TEST_CASE("a session is the same however its bytes arrive") {
  for (const auto& k : {kinds[0], kinds[3]}) {
    for (std::size_t chunk : {1, 2, 5, 100}) {
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
      bool over = broken->last.what == status::failed || (broken->last.what == status::end && broken->layer->truncated());
      CHECK(over);
    }
  }
}

TEST_CASE("what a slow reader gets is whole, in order, however it is offered") {
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
      CHECK((r.bytes == end - at) == (r.what == status::done));
      CHECK(w.layer->wants_write() == (r.what == status::again));
      at += r.bytes;
      if (r.what == status::again) ++blocked;
      w.pull(random() % 9000);
    }
    while (w.pull()) w.look();
    CHECK(blocked > 10);
    CHECK(w.peer.received == text);
    CHECK_FALSE(w.layer->wants_write());
  }
}

TEST_CASE("an end is told from a cut, and leaves the other direction open") {
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

// ---- hostile bytes ---------------------------------------------------------------------------------------------------

TEST_CASE("what is not a client's handshake ends the connection") {
  for (std::string_view text : {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "\x16\x03\x01\xff\xff", "\0\0\0\0\0\0\0\0", "\x80\x2e\x01\x03\x01"}) {
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
  auto c = made(with());
  struct rule {
    const char* name;
    int alert;  // 0: none, data goes on
    std::function<std::string(forger&)> make;
  };
  auto update = [](int asked) { return std::string{24, 0, 0, 1, static_cast<char>(asked)}; };
  const rule rules[] = {
      {"plain data", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger&) { return std::string("\x16\x03\x03\x00\x01x", 6); }},
      {"a change of cipher", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger&) { return std::string("\x14\x03\x03\x00\x01\x01", 6); }},
      {"too long", SSL_R_TLSV1_ALERT_RECORD_OVERFLOW, [](forger&) { return std::string("\x17\x03\x03\x41\x01", 5); }},
      {"too short", SSL_R_SSLV3_ALERT_BAD_RECORD_MAC, [](forger&) { return std::string("\x17\x03\x03\x00\x10", 5) + std::string(16, 'x'); }},
      {"nothing but padding", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger& f) { return f.record(0, std::string(3, '\0')); }},
      {"a type that is none", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger& f) { return f.record(99, "x"); }},
      {"an alert of one byte", SSL_R_TLSV1_ALERT_DECODE_ERROR, [](forger& f) { return f.record(21, "\x01"); }},
      {"two alerts in one", SSL_R_TLSV1_ALERT_DECODE_ERROR, [](forger& f) { return f.record(21, std::string("\x01\x5a\x01\x00", 4)); }},
      {"an empty handshake", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger& f) { return f.record(22, ""); }},
      {"another hello", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [](forger& f) { return f.record(22, std::string("\x01\x00\x00\x01x", 5)); }},
      {"a long update", SSL_R_TLSV1_ALERT_DECODE_ERROR, [](forger& f) { return f.record(22, std::string("\x18\x00\x00\x02\x00\x00", 6)); }},
      {"an update to two", SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER, [=](forger& f) { return f.record(22, update(2)); }},
      {"an update with more behind it", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [=](forger& f) { return f.record(22, update(0) + update(0)); }},
      {"data within an update", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [=](forger& f) { return f.records({{22, update(0).substr(0, 3)}, {23, "x"}}); }},
      {"empty data within an update", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, [=](forger& f) { return f.records({{22, update(0).substr(0, 3)}, {23, ""}}); }},
      {"too many empty records", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [](forger& f) {
         std::string all;
         for (int i = 0; i < 33; ++i) all += f.record(23, "");
         return all;
       }},
      {"too many updates", SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE,
       [=](forger& f) {
         std::string all;
         for (int i = 0; i < 33; ++i) all += f.record(22, update(0)), f.suite->update(f.keys);
         return all;
       }},
      {"content over the limit", SSL_R_TLSV1_ALERT_RECORD_OVERFLOW, [](forger& f) { return f.record(23, std::string(16385, 'x')); }},
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
         f.suite->update(f.keys);
         return all;
       }},
      {"a warning", 0, [](forger& f) { return f.record(21, std::string("\x01\x5a", 2)); }},
  };
  for (const auto& r : rules) {
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

TEST_CASE("keys are those of RFC 8448") {
  // Section 3, "{server} derive write traffic keys for application data".
  const std::string secret = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
  auto hex = [](std::span<const unsigned char> bytes) {
    std::string out;
    for (unsigned char b : bytes) out += {"0123456789abcdef"[b >> 4], "0123456789abcdef"[b & 15]};
    return out;
  };
  auto suite = tls_suite::make(0x1301);
  tls_keys k;
  for (std::size_t i = 0; i < 32; ++i) k.secret[i] = static_cast<unsigned char>(std::stoi(secret.substr(2 * i, 2), nullptr, 16));
  REQUIRE(suite->derive(k));
  CHECK(hex(std::span(k.key).first(16)) == "9f02283b6c9c07efc26bb9f2ac92e356");
  CHECK(hex(k.iv) == "cf782b88dd83549aadf1e984");
  CHECK_FALSE(tls_suite::make(0x1304));
}

// ---- many at once ----------------------------------------------------------------------------------------------------

TEST_CASE("handshakes share a turn's budget, first come, first served, and those who talk already do not wait") {
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

// ---- contexts --------------------------------------------------------------------------------------------------------

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
  CHECK(complaint(with({{plain().chain, locked.key, "open sesame"}})) == "hailwire: certificate 1, key: key values mismatch");
  CHECK(complaint(with({plain(), {"", plain().key}})) == "hailwire: certificate 2, chain: no start line");
  CHECK(complaint(with({{plain().chain, "nonsense"}})).starts_with("hailwire: certificate 1, key: "));
  CHECK(complaint(with({{plain().chain + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", plain().key}})).starts_with("hailwire: certificate 1, chain: "));
  CHECK(complaint(with({locked})).starts_with("hailwire: certificate 1, key: "));
  locked.password = "open sesame";
  CHECK(complaint(with({locked})) == "none");
  locked.password = std::string(5000, 'x');
  CHECK(complaint(with({locked})).starts_with("hailwire: certificate 1, key: "));
  auto o = with();
  o.clients = tls_clients::must_show;
  CHECK(complaint(o) == "hailwire: client_ca: no start line");
  CHECK_THROWS_AS(tls_certificate::from_files("/nonexistent/chain.pem", "/nonexistent/key.pem"), std::system_error);
}

TEST_CASE("a chain is sent whole") {
  auto middle = issue("in between", {}, &authority(), true);
  auto leaf = issue("leaf", "DNS:leaf.example", &middle);
  wire w(made(with({{pem(leaf.certificate.get()) + pem(middle.certificate.get()), pem(leaf.key.get())}})));
  w.settle();
  CHECK(sk_X509_num(::SSL_get_peer_cert_chain(w.peer.ssl.get())) == 2);
}

// ---- whole servers ---------------------------------------------------------------------------------------------------

namespace {

using tls_server = hailwire::server<hailwire::sse, hailwire::short_poll>;

/// A blocking client over a real socket.
class visitor {
 public:
  explicit visitor(std::uint16_t port, int receive_buffer = 0) : peer_({}) {
    d_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer) ::setsockopt(d_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    timeval patience{20, 0};
    ::setsockopt(d_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(d_, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    peer_.give({});
  }
  ~visitor() { ::close(d_); }

  void flush() {
    auto bytes = peer_.take();
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

void prepare(tls_server& s) {
  s.authorize([](const hailwire::request& r) -> hailwire::decision {
    if (!r.secure()) return hailwire::errc::forbidden;
    return hailwire::grant{.follow = hailwire::channel_set::all(), .publish = hailwire::channel_set::all()};
  });
  s.on_http([](const hailwire::request& r) {
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
    if (driver == 0) s = std::make_unique<tls_server>(io);
    if (driver == 1) s = std::make_unique<tls_server>(hailwire::portable, io);
    if (driver == 2) s = std::make_unique<tls_server>(hailwire::own_thread);
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

TEST_CASE("a server speaks TLS beside plain text on every driver, to slow readers too, and reloads without dropping anybody") {
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
      s.publish("chat", hailwire::payload::json("\"" + some_text(50'000) + "\""));
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

TEST_CASE("a burst of handshakes is served on every driver while a client that is connected goes on") {
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
