// SPDX-License-Identifier: BSL-1.0
// The same records to two connections, one whose records are our own and one whose OpenSSL keeps: after a handshake
// with OpenSSL's client for each, a peer who has its keys sends records of any type, version, length, split and
// padding, KeyUpdates, alerts, and bytes that are no record. The same data comes out, the same alert is sent, and the
// connection stands or ends alike, but for the differences that `excused` lists; include/hailwire/detail/tls/README.md
// has the reasons.
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
  std::size_t flipped = 0;  // the bit of this byte from the end, one more
};

struct outcome {
  std::string data;
  detail::io_result::status end{};
  int alert = -1;         // the last one that was sent
  bool answered = false;  // a KeyUpdate; not compared, because OpenSSL answers with its next write
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
    ::SSL_CTX_set_min_proto_version(client.get(), TLS1_3_VERSION);
    ::SSL_CTX_set_keylog_callback(client.get(), [](const SSL* s, const char* line) {
      static_cast<std::string*>(SSL_get_app_data(s))->append(line).append("\n");
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

outcome play(house& h, std::size_t which, const std::vector<record>& plan, std::size_t step) {
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  outcome o;
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
    std::string log;
    {
      detail::ssl_pointer client(::SSL_new(h.client.get()));
      require(::SSL_set_ciphersuites(client.get(), suite_names[which]) == 1);
      SSL_set_app_data(client.get(), &log);
      ::SSL_set_fd(client.get(), ends[1]);
      for (int i = 0; i < 4 && ::SSL_connect(client.get()) != 1; ++i) look();
      require(::SSL_is_init_finished(client.get()));
      look();
      ::ERR_clear_error();
    }
    require(layer.peer() != nullptr && layer.keeps_records() == h.contexts->own_records);

    auto suite = detail::tls_suite::make(suites[which]);
    detail::tls_keys out, in;
    for (auto [keys, label] : {std::pair(&out, "CLIENT_TRAFFIC_SECRET_0"), std::pair(&in, "SERVER_TRAFFIC_SECRET_0")}) {
      auto secret = secret_in(log, label);
      std::copy(secret.begin(), secret.end(), reinterpret_cast<char*>(keys->secret.data()));
      require(suite->derive(*keys));
    }
    std::string bytes;
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
  return o;
}

/// Where the two may differ: ours is the stricter one or says another alert.
bool excused(const outcome& own, const outcome& theirs, const std::vector<record>& plan) {
  using status = detail::io_result::status;
  if (own.end != status::failed || !theirs.data.starts_with(own.data)) return false;
  int updates = 0, most = 0;
  bool overlong = false;
  for (const auto& r : plan) {
    // What OpenSSL takes as a KeyUpdate, whoever sent it.
    updates = r.type == 23 && !r.padded && !r.content.empty() ? 0 : updates + 1;
    most = std::max(most, updates);
    overlong = overlong || (r.padded && r.content.size() > detail::tls_record_content + 1);
  }
  // A version in a header other than 3.3: OpenSSL looks at it before anything else; with us it is authenticated with
  // the rest of the header.
  if (theirs.end == status::failed && (theirs.alert == 70 || theirs.alert == 10) &&
      (own.alert == 10 || own.alert == 20 || own.alert == 22))
    return true;
  // A record that is too short for a tag is refused at its header; OpenSSL waits for its bytes.
  if (own.alert == 20 && theirs.end == status::again) return true;
  switch (own.alert) {
    case 50:  // decode_error: a message or an alert of a wrong size
      return theirs.end == status::failed && (theirs.alert == 10 || theirs.alert == 47);
    case 22:  // record_overflow: padding counts (RFC 8446, section 5.4)
      return overlong;
    case 10:  // unexpected_message: more than 32 records without data
      return most > 32;
    default:
      return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  static house own(tls_records::own), theirs(tls_records::openssl);
  const std::size_t which = data[0] % 3;
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
        r.content = take(n % 8);
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
        r.flipped = 1 + (what >> 3);
        break;
    }
    total += r.content.size() + 22;
    plan.push_back(std::move(r));
  }
  const std::size_t step = std::max<std::size_t>(1 + data[1] * 8u, total / 16);
  auto a = play(own, which, plan, step), b = play(theirs, which, plan, step);
  const bool alike = a.data == b.data && a.end == b.end && a.alert == b.alert;
  if (!alike && !excused(a, b, plan)) {
    std::fprintf(stderr,
                 "own: %zu bytes, end %d, alert %d, answered %d; openssl: %zu bytes, end %d, alert %d, answered %d\n",
                 a.data.size(), static_cast<int>(a.end), a.alert, a.answered, b.data.size(), static_cast<int>(b.end),
                 b.alert, b.answered);
    std::abort();
  }
  return 0;
}
