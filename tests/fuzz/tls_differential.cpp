// SPDX-License-Identifier: BSL-1.0
// The same records to two connections, one whose records are our own and one whose OpenSSL keeps: after a handshake
// with OpenSSL's client for each, a peer who has its keys sends records of any type, version, length, split and
// padding, KeyUpdates, alerts, and bytes that are no record. `expected` says for each of the two which data comes out,
// which alert is sent, and whether the connection stands; where it asks who keeps the records, the two differ, and
// include/hailwire/detail/tls/README.md has the reason.
#include "hailwire/tls.hpp"

#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>

using namespace hailwire;

namespace {

void require(bool claim, int line = __builtin_LINE()) {
  if (!claim) std::fprintf(stderr, "line %d\n", line), std::abort();
}

struct record {
  std::uint8_t type = 0, version = 3;
  std::string content;  // with its own type and padding behind it when `padded`
  bool padded = false;
  bool bare = false;        // `content` is what is sent
  bool new_key = false;     // and then the next key is used
  std::size_t flipped = 0;  // a bit of this byte, counted from the end, from one on
};

// Alerts (RFC 8446, section 6); the last one stands for any that a header is refused by.
enum : int {
  unexpected = 10,
  bad_mac = 20,
  overflow = 22,
  illegal = 47,
  decode = 50,
  version = 70,
  any_of_header = 1000
};

struct outcome {
  std::string data;
  detail::io_result::status end{};
  int alert = -1;             // the last one that was sent
  bool answered = false;      // a KeyUpdate; OpenSSL does so with its next write, so it does not here
  std::string bytes, secret;  // what was sent, and the client's first secret
  int ticks = 0;              // seconds of the clock that ended meanwhile

  bool operator==(const outcome& o) const {
    const bool fits =
        alert == o.alert || (o.alert == any_of_header && (alert == unexpected || alert == decode || alert == version));
    return data == o.data && end == o.end && fits && (answered == o.answered || end == status::failed);
  }
  using status = detail::io_result::status;
};

std::string text_of(BIO* b) {
  char* text = nullptr;
  long size = BIO_get_mem_data(b, &text);
  return {text, static_cast<std::size_t>(size)};
}

tls_certificate self_signed() {
  static const std::unique_ptr<EVP_PKEY, detail::tls_free<::EVP_PKEY_free>> key(EVP_EC_gen("P-256"));
  detail::x509_pointer x(::X509_new());
  ::X509_set_version(x.get(), 2);
  ::ASN1_INTEGER_set(::X509_get_serialNumber(x.get()), 1);
  ::X509_gmtime_adj(::X509_getm_notBefore(x.get()), 0);
  ::X509_gmtime_adj(::X509_getm_notAfter(x.get()), 1'000'000'000);
  ::X509_set_pubkey(x.get(), key.get());
  require(::X509_sign(x.get(), key.get(), ::EVP_sha256()) > 0);
  detail::bio_pointer chain(::BIO_new(::BIO_s_mem())), secret(::BIO_new(::BIO_s_mem()));
  require(::PEM_write_bio_X509(chain.get(), x.get()) == 1);
  require(::PEM_write_bio_PKCS8PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return {text_of(chain.get()), text_of(secret.get())};
}

constexpr std::uint16_t suites[] = {0x1301, 0x1302, 0x1303};
constexpr const char* suite_names[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                       "TLS_CHACHA20_POLY1305_SHA256"};

detail::tls_suite& suite(std::size_t which) {
  static const std::unique_ptr<detail::tls_suite> all[] = {
      detail::tls_suite::make(suites[0]), detail::tls_suite::make(suites[1]), detail::tls_suite::make(suites[2])};
  return *all[which];
}

/// A key that both sides know, for handshakes that spare certificates and Diffie-Hellman: those cost five times as much
/// as all that comes after.
SSL_SESSION* session(std::size_t which) {
  static SSL_SESSION* all[3] = {};
  if (!all[which]) {
    const unsigned char id[] = {0x13, static_cast<unsigned char>(which + 1)}, secret[48] = {1};
    detail::ssl_ctx_pointer context(::SSL_CTX_new(::TLS_client_method()));
    detail::ssl_pointer any(::SSL_new(context.get()));
    all[which] = ::SSL_SESSION_new();
    require(::SSL_SESSION_set1_master_key(all[which], secret, which == 1 ? 48 : 32) == 1 &&
            ::SSL_SESSION_set_cipher(all[which], ::SSL_CIPHER_find(any.get(), id)) == 1 &&
            ::SSL_SESSION_set_protocol_version(all[which], TLS1_3_VERSION) == 1 &&
            ::SSL_SESSION_set_timeout(all[which], 1'000'000'000) == 1);  // of its own accord it ends in five minutes
  }
  return all[which];
}
/// What a client is told of: whose key it offers, none when it is `none`.
struct wish {
  static constexpr std::size_t none = 3;
  std::size_t offered = none;
  std::string log;
};
int offer_session(SSL* s, const EVP_MD* hash, const unsigned char** name, std::size_t* size, SSL_SESSION** to) {
  static constexpr unsigned char names[] = {0, 1, 2};
  const auto which = static_cast<wish*>(SSL_get_app_data(s))->offered;
  *to = nullptr;
  if (which == wish::none || (hash && (::EVP_MD_get_size(hash) == 48) != (which == 1))) return 1;
  *name = names + which, *size = 1;
  ::SSL_SESSION_up_ref(*to = session(which));
  return 1;
}

struct house {
  std::shared_ptr<const detail::tls_contexts> contexts;
  std::vector<detail::move_only_function<void()>> turn;
  std::shared_ptr<detail::tls_shared> shared = std::make_shared<detail::tls_shared>(
      [this](detail::move_only_function<void()> f) { turn.push_back(std::move(f)); });
  std::vector<char> buffer = std::vector<char>(64 * 1024);
  detail::ssl_ctx_pointer client{::SSL_CTX_new(::TLS_client_method())};
  explicit house(tls_records kept) {
    tls_options o;
    o.certificates = {self_signed()};
    o.tickets = false;
    o.records = kept;
    std::string what;
    require(!detail::make_tls_contexts(o, contexts, what));
    require(contexts->own_records == (kept == tls_records::own));
    SSL_CTX* server = contexts->all.front().get();
    ::SSL_CTX_set_psk_find_session_callback(server, [](SSL*, const unsigned char* name, std::size_t, SSL_SESSION** to) {
      ::SSL_SESSION_up_ref(*to = session(static_cast<std::size_t>(name[0])));
      return 1;
    });
    ::SSL_CTX_set_psk_use_session_callback(client.get(), offer_session);
    for (SSL_CTX* c : {server, client.get()}) ::SSL_CTX_set_options(c, SSL_OP_ALLOW_NO_DHE_KEX);
    ::SSL_CTX_set_min_proto_version(client.get(), TLS1_3_VERSION);
    ::SSL_CTX_set_keylog_callback(client.get(), [](const SSL* s, const char* line) {
      static_cast<wish*>(SSL_get_app_data(s))->log.append(line).append("\n");
    });
  }
};

std::string secret_in(const std::string& log, std::string_view label) {
  auto at = log.find(label);
  require(at != log.npos);
  auto line = log.substr(at, log.find('\n', at) - at);
  std::string out;
  for (std::size_t i = line.rfind(' ') + 1; i + 1 < line.size(); i += 2)
    out += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
  return out;
}

std::int64_t seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

outcome play(house& h, std::size_t which, bool full, const std::vector<record>& plan, std::size_t step) {
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  outcome o;
  const auto began = seconds();
  {
    detail::tls_layer layer(h.shared, h.contexts);
    auto look = [&] {
      for (int round = 0; round < 1000; ++round) {
        auto r = layer.read(ends[0], h.buffer);
        o.end = r.what;
        if (r.what == detail::io_result::status::done) o.data.append(h.buffer.data(), r.bytes);
        auto due = std::exchange(h.turn, {});
        for (auto& f : due) f();
        if (r.what != detail::io_result::status::done && r.what != detail::io_result::status::later) return;
      }
      std::abort();
    };
    wish w{full ? wish::none : which, {}};
    const std::string& log = w.log;
    {
      detail::ssl_pointer client(::SSL_new(h.client.get()));
      require(::SSL_set_ciphersuites(client.get(), suite_names[which]) == 1);
      SSL_set_app_data(client.get(), &w);
      ::SSL_set_fd(client.get(), ends[1]);
      for (int i = 0; i < 4 && ::SSL_connect(client.get()) != 1; ++i) look();
      require(::SSL_is_init_finished(client.get()) && (::SSL_session_reused(client.get()) == 1) != full);
      look();
      ::ERR_clear_error();
    }
    require(layer.peer() != nullptr && layer.keeps_records() == h.contexts->own_records);

    detail::tls_suite* suite = &::suite(which);
    detail::tls_keys out, in;
    for (auto [keys, label] : {std::pair(&out, "CLIENT_TRAFFIC_SECRET_0"), std::pair(&in, "SERVER_TRAFFIC_SECRET_0")}) {
      auto secret = secret_in(log, label);
      std::copy(secret.begin(), secret.end(), reinterpret_cast<char*>(keys->secret.data()));
      require(suite->derive(*keys));
    }
    std::string& bytes = o.bytes;
    o.secret = secret_in(log, "CLIENT_TRAFFIC_SECRET_0");
    for (const auto& r : plan) {
      std::size_t begin = bytes.size();
      if (r.bare) {
        bytes += r.content;
      } else {
        const std::span<const char> piece(r.content);
        require(suite->seal(out, r.padded ? 0 : r.type, {&piece, 1}, bytes));
        if (r.version != 3) bytes[begin + 2] = static_cast<char>(r.version);
        if (r.new_key) require(suite->update(out));
      }
      if (r.flipped && bytes.size() > begin) {
        auto at = bytes.size() - 1 - (r.flipped - 1) % (bytes.size() - begin);
        bytes[at] = static_cast<char>(bytes[at] ^ 1);
      }
    }
    std::string answers;
    auto hear = [&] {
      char some[20000];
      for (ssize_t n; (n = ::recv(ends[1], some, sizeof some, 0)) > 0;)
        answers.append(some, static_cast<std::size_t>(n));
    };
    for (std::size_t at = 0; at < bytes.size() && o.end != detail::io_result::status::failed; at += step) {
      auto part = std::string_view(bytes).substr(at, step);
      while (!part.empty()) {
        ssize_t n = ::send(ends[1], part.data(), part.size(), MSG_NOSIGNAL);
        if (n < 0) break;  // it has ended its side and reads no more
        part.remove_prefix(static_cast<std::size_t>(n));
        look();
        hear();
        if (o.end == detail::io_result::status::failed || o.end == detail::io_result::status::end) break;
      }
      if (o.end == detail::io_result::status::end) break;
    }
    hear();
    std::string_view rest = answers;
    std::vector<char> into(70'000);
    while (rest.size() >= 5) {
      std::size_t size = 5 + (static_cast<std::size_t>(static_cast<unsigned char>(rest[3])) << 8 |
                              static_cast<unsigned char>(rest[4]));
      require(rest.size() >= size);
      auto opened = suite->open(in, rest.substr(0, size), into.data());
      require(opened && *opened >= 1);  // whatever is sent is whole, and under the keys that were told of
      auto type = static_cast<std::uint8_t>(into[*opened - 1]);
      if (type == 21) o.alert = static_cast<unsigned char>(into[1]);
      if (type == 22) {
        o.answered = true;
        require(suite->update(in));
      }
      rest.remove_prefix(size);
    }
    require(rest.empty());
  }
  ::ERR_clear_error();
  ::close(ends[0]);
  ::close(ends[1]);
  o.ticks = static_cast<int>(seconds() - began);
  return o;
}

/// The alert by which OpenSSL refuses a message of four bytes or more; 0: it is a KeyUpdate of the right size. `ends`:
/// nothing follows in the record.
int refused_header(std::string_view message, bool ends) {
  if (message[0] != 24) return unexpected;
  if (message[1] || message[2] || static_cast<unsigned char>(message[3]) > 1) return illegal;
  return message[3] ? 0 : ends ? decode : unexpected;
}

/// What a connection makes of `sent.bytes`. `spare`: by how much the count of records without data may be over its
/// limit, because it loses one whenever a second of the clock ends.
outcome expected(bool own, detail::tls_suite& suite, const outcome& sent, int spare) {
  using status = detail::io_result::status;
  outcome o;
  o.end = status::again;
  detail::tls_keys keys;
  std::copy(sent.secret.begin(), sent.secret.end(), reinterpret_cast<char*>(keys.secret.data()));
  require(suite.derive(keys));
  auto fail = [&](int alert) {
    o.end = status::failed;
    o.alert = alert;
  };
  std::string message;            // what has come of a handshake message
  bool owed = false;              // of OpenSSL's: the answer to a KeyUpdate, until its next write or message
  bool put_off = false;           // and a message's header that has not been looked at
  int idle = 0, empty = 0;        // records in a row without data; with nothing at all in them
  int warnings = 0, warning = 0;  // of OpenSSL's: alerts in a row, and the last of them
  std::vector<char> into(70'000);
  std::string_view rest = sent.bytes;
  while (o.end == status::again && rest.size() >= 5) {
    auto u = [&](std::size_t i) { return static_cast<unsigned char>(rest[i]); };
    const std::size_t sealed = static_cast<std::size_t>(u(3)) << 8 | u(4);
    // Later versions than 3.0 differ in which alert a wrong header gets; that it gets one is looked at.
    static const bool newer = ::OpenSSL_version_num() >= 0x30100000UL;
    if (!own && newer && (u(0) != 23 || u(1) != 3 || u(2) != 3)) return fail(any_of_header), o;
    if (!own && u(1) != 3) return fail(version), o;
    if (u(0) != 23) return fail(unexpected), o;
    if (!own && u(2) != 3) return fail(decode), o;
    if (sealed > detail::tls_record_content + 256) return fail(overflow), o;
    if (sealed < 17 && (own || rest.size() >= 5 + sealed)) return fail(bad_mac), o;
    if (rest.size() < 5 + sealed) return o;
    const auto opened = suite.open(keys, rest.substr(0, 5 + sealed), into.data());
    if (!opened) return fail(bad_mac), o;
    rest.remove_prefix(5 + sealed);
    if (own && *opened > detail::tls_record_content + 1) return fail(overflow), o;
    std::string_view content(into.data(), *opened);
    while (!content.empty() && content.back() == 0) content.remove_suffix(1);
    if (content.empty()) return fail(unexpected), o;
    const auto type = static_cast<unsigned char>(content.back());
    content.remove_suffix(1);
    if (own && content.size() > detail::tls_record_content) return fail(overflow), o;
    if (type != 23 && (type != 21 || content.empty()) && (type != 22 || content.empty())) return fail(unexpected), o;
    if (!own && content.size() > detail::tls_record_content) return fail(overflow), o;
    empty = content.empty() ? empty + 1 : 0;
    idle = type == 23 && !content.empty() ? 0 : idle + 1;
    // OpenSSL puts up with an alert between a KeyUpdate's header and what follows it.
    if (!message.empty() && type != 22 && (own || message.size() < 4 || put_off || type != 21))
      return fail(unexpected), o;
    if ((own ? idle : empty) > 32 + (own ? spare : 0)) return fail(unexpected), o;
    if (type == 23) o.data += content;
    if (type == 21) {
      if (content.size() != 2) return fail(own ? decode : unexpected), o;
      const int level = content[0], what = static_cast<unsigned char>(content[1]);
      if (!own && (level == 1 || what == 90)) {
        warning = what;
        if (++warnings == 5) return fail(unexpected), o;
      }
      if (what == 0)
        // What OpenSSL makes of one that is no warning depends on the warning before.
        own || warning == 0 ? void(o.end = status::end) : fail(-1);
      else if (what != 90)
        fail(-1);
    } else if (!content.empty()) {
      warnings = 0;
    }
    for (std::size_t i = 0; type == 22 && i < content.size(); ++i) {
      const bool whole = i + 1 == content.size();
      // OpenSSL gives the answer that it owes before it looks at another message, and then wants another record.
      int alert = std::exchange(put_off, false) ? refused_header(message, false) : 0;
      message += content[i];
      const std::size_t n = message.size();
      if (own) {
        if (n == 1 && message[0] != 24) alert = unexpected;
        if (n > 1 && n <= 4 && message[n - 1] != (n == 4 ? 1 : 0)) alert = decode;
      } else if (n == 4) {
        o.answered |= owed;
        put_off = std::exchange(owed, false) && whole;
        if (!put_off) alert = refused_header(message, whole);
      }
      if (n == 5 && !alert) {
        const bool asked = message[4] == 1, known = asked || message[4] == 0;
        if (!known && (own || whole))
          alert = illegal;
        else if (!whole)
          alert = unexpected;
        (own ? o.answered : owed) |= asked;
        message.clear();
        require(alert || suite.update(keys));
      }
      if (alert) return fail(alert), o;
    }
  }
  return o;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  static house own(tls_records::own), theirs(tls_records::openssl);
  const std::size_t which = data[0] % 3;
  const bool full = data[0] / 3 % 32 == 31;
  std::vector<record> plan;
  std::size_t total = 0;
  for (std::size_t at = 2; at < size && total < 60'000;) {
    const std::uint8_t what = data[at++];
    const std::size_t n = at < size ? data[at++] : 0;
    auto take = [&](std::size_t most) {
      most = std::min(most, size - at);
      std::string out(reinterpret_cast<const char*>(data) + at, most);
      at += most;
      return out;
    };
    record r;
    switch (what % 8) {
      case 0:
        r.type = 23;
        r.content = take(n);
        break;
      case 1:
        r.type = static_cast<std::uint8_t>(n ? n : 99);
        r.content = take(n % 16);
        break;
      case 2:  // padded, up to and over the limit
        r.padded = true;
        r.content = take(5) + "\x17" + std::string(n << (what >> 3 & 7), '\0');
        break;
      case 3:
        r.type = 22;
        r.content = {24, 0, 0, 1, static_cast<char>(n & 1)};
        r.new_key = true;
        break;
      case 4:
        r.type = 22;
        if (what >> 3 < 20) {
          r.content = take(n % 8);
        } else {  // a part of a KeyUpdate
          r.content = std::string{24, 0, 0, 1, static_cast<char>(what >> 3 & 1)}.substr(n % 5, 1 + n / 5 % 5);
          r.new_key = n % 5 + r.content.size() == 5;
        }
        break;
      case 5:
        r.type = 21;
        r.content = take(n % 4);
        break;
      case 6:
        r.bare = true;
        r.content = take(n);
        break;
      case 7:
        r.type = 23;
        r.content = take(n % 8);
        if (what >> 3 < 28)
          r.flipped = 1 + (what >> 3);
        else
          r.version = static_cast<std::uint8_t>(n);
        break;
    }
    total += r.content.size() + 22;
    plan.push_back(std::move(r));
  }
  const std::size_t step = std::max<std::size_t>(1 + data[1] * 8u, total / 16);
  for (house* h : {&own, &theirs}) {
    const bool ours = h == &own;
    const auto got = play(*h, which, full, plan, step);
    const auto as_it_must_be = expected(ours, suite(which), got, 0);
    bool fine = got == as_it_must_be;
    for (int spare = 1; ours && !fine && spare <= got.ticks; ++spare)
      fine = got == expected(ours, suite(which), got, spare);
    if (fine) continue;
    for (const auto& [name, o] : {std::pair("is", &got), std::pair("must be", &as_it_must_be)})
      std::fprintf(stderr, "%s %s: %zu bytes, end %d, alert %d, answered %d\n", ours ? "own" : "openssl", name,
                   o->data.size(), static_cast<int>(o->end), o->alert, o->answered);
    for (const auto& r : plan) {
      std::fprintf(stderr, "%s type %d, version %d, flipped %zu, %zu bytes:", r.bare ? "bare" : "record", r.type,
                   r.version, r.flipped, r.content.size());
      for (char c : r.content.substr(0, 16)) std::fprintf(stderr, " %02x", static_cast<unsigned>(c) & 255);
      std::fputs("\n", stderr);
    }
    std::abort();
  }
  return 0;
}
