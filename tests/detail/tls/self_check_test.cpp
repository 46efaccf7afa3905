// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/tls/self_check.hpp"

#include "tls_wire.hpp"

using namespace tls_wire;

TEST_CASE("this OpenSSL does what the records rest on; nothing is looked at when OpenSSL keeps them") {
  CHECK(tls_options{}.records == hailwire::tls_records::openssl);  // who wants our own says so
  auto c = made(with());
  CHECK(c->own_records);
  CHECK(c->fallen_back.empty());
  auto o = with();
  o.records = hailwire::tls_records::openssl;
  CHECK_FALSE(made(o)->own_records);
  CHECK(made(o)->fallen_back.empty());
}

TEST_CASE("who keeps the records is the context's choice, and TLS 1.2's are OpenSSL's") {
  for (auto records : {hailwire::tls_records::own, hailwire::tls_records::openssl}) {
    auto o = with();
    o.records = records;
    wire newer(made(o), v13()), older(made(o), v12());
    for (auto* w : {&newer, &older}) w->settle();
    CHECK(newer.layer->keeps_records() == (records == hailwire::tls_records::own));
    CHECK_FALSE(older.layer->keeps_records());
  }
}

TEST_CASE("an OpenSSL whose key log is silent is found out") {
  // As when a build of it leaves the key log out: the callback is not called.
  auto c = made(with());
  SSL_CTX* context = c->all.front().get();
  CHECK(hailwire::detail::tls_check_handshake(context).empty());
  hailwire::detail::tls_contexts silent;
  wire w(c, v13());
  ::SSL_CTX_set_keylog_callback(context, nullptr);
  w.settle();
  CHECK_FALSE(w.layer->keeps_records());
  w.peer.write("all the same");
  w.settle();
  CHECK(w.got == "all the same");
}
