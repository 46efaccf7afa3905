// SPDX-License-Identifier: BSL-1.0
// A server's TLS before anybody is known: any bytes after, or in place of, a client's first flight, for a server with
// two names and client certificates. The handshake fails or waits; nobody is let in, and nothing that was said is data.
#include "hailwire/tls.hpp"

#include <cstdlib>

using namespace hailwire;

namespace {

void require(bool claim) {
  if (!claim) std::abort();
}

std::string text_of(BIO* b) {
  char* text = nullptr;
  long size = BIO_get_mem_data(b, &text);
  return {text, static_cast<std::size_t>(size)};
}

tls_certificate self_signed(const char* name) {
  std::unique_ptr<EVP_PKEY, detail::tls_free<::EVP_PKEY_free>> key(EVP_EC_gen("P-256"));
  detail::x509_pointer x(::X509_new());
  ::X509_set_version(x.get(), 2);
  ::ASN1_INTEGER_set(::X509_get_serialNumber(x.get()), 1);
  ::X509_gmtime_adj(::X509_getm_notBefore(x.get()), -60);
  ::X509_gmtime_adj(::X509_getm_notAfter(x.get()), 86400);
  ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(x.get()), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  ::X509_set_issuer_name(x.get(), ::X509_get_subject_name(x.get()));
  ::X509_set_pubkey(x.get(), key.get());
  require(::X509_sign(x.get(), key.get(), ::EVP_sha256()) > 0);
  detail::bio_pointer chain(::BIO_new(::BIO_s_mem())), secret(::BIO_new(::BIO_s_mem()));
  require(::PEM_write_bio_X509(chain.get(), x.get()) == 1);
  require(::PEM_write_bio_PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return {text_of(chain.get()), text_of(secret.get())};
}

struct house {
  std::shared_ptr<const detail::tls_contexts> contexts;
  std::vector<detail::move_only_function<void()>> turn;
  std::shared_ptr<detail::tls_shared> shared = std::make_shared<detail::tls_shared>(
      [this](detail::move_only_function<void()> f) { turn.push_back(std::move(f)); });
  std::vector<char> buffer = std::vector<char>(64 * 1024);
  house() {
    tls_options o;
    o.certificates = {self_signed("localhost"), self_signed("*.example")};
    o.clients = tls_clients::may_show;
    o.client_ca = o.certificates[0].chain;
    std::string what;
    require(!detail::make_tls_contexts(o, contexts, what));
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static house h;
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  {
    detail::tls_layer layer(h.shared, h.contexts);
    std::size_t first = size ? std::min<std::size_t>(size, 1 + data[0] * 4u) : 0;  // in two pieces
    detail::io_result last;
    for (auto [from, n] : {std::pair<std::size_t, std::size_t>(0, first), std::pair(first, size - first)}) {
      if (n == 0) continue;
      require(::send(ends[1], data + from, n, MSG_NOSIGNAL) == static_cast<ssize_t>(n));
      for (int round = 0; round < 20; ++round) {
        last = layer.read(ends[0], h.buffer);
        require(last.what != detail::io_result::status::done);  // no key was agreed on
        auto due = std::exchange(h.turn, {});
        for (auto& f : due) f();
        if (last.what != detail::io_result::status::later) break;
      }
      require(last.what == detail::io_result::status::again || last.what == detail::io_result::status::failed ||
              last.what == detail::io_result::status::later);
      if (last.what == detail::io_result::status::failed) break;
    }
    require(!layer.peer());
    const std::span<const char> piece("hello", 5);
    require(layer.write(ends[0], {&piece, 1}).bytes == 0);
    char answer[4096];
    ssize_t n = ::recv(ends[1], answer, sizeof answer, 0);
    if (n > 0) require(answer[0] == 22 || answer[0] == 21);  // a handshake or an alert
  }
  require(::ERR_peek_error() == 0);
  ::close(ends[0]);
  ::close(ends[1]);
  return 0;
}
