// SPDX-License-Identifier: BSL-1.0
#pragma once

// What records.hpp assumes of OpenSSL, looked at once when a context is made: an OpenSSL that is built, patched or
// configured otherwise than those this was tested with is found out before a client comes, and then keeps the records
// itself. Two things are looked at:
//
//   known answers  each cipher suite seals and opens as another implementation does, also after a KeyUpdate
//   a handshake    OpenSSL's own client, in memory: the key log names both secrets, what is written behind the
//                  handshake is whole records under the new keys, and data passes both ways when we have taken over

#include <unistd.h>

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/tls/layer.hpp"

namespace hailwire::detail {

/// Empty, or what is not as it must be.
inline std::string tls_check_suites() {
  struct answer {
    std::uint16_t suite;
    std::string_view secret, first, after_update;  // sealed: "hello", as application data
  };
  // By GnuTLS 3.7.9: the server's records 1 and 6 of tests/detail/tls/gnutls_records.hpp.
  static constexpr answer answers[] = {
      {0x1301, "b1fa39b319029c52fb02a7c3bfea24b975af6eecfb0a36f7919e47ee233d787f",
       "1703030016c3e4ab788c4403928e13fad60c39e9611dff56455aeb",
       "1703030016e64f6fe722649edbdbe6f5abef0b95309770e613f438"},
      {0x1302, "093be28f645e6c27bc7fe5c557e4b1e66ac47d1ebddd45d316d8d1bf7f445ac41c6c9e8f6ca3f8cee1100ab861934be2",
       "1703030016026028ed64766ab62d85fea7d90d52788af7b09b688e",
       "1703030016e0c7f6ccf08c82733cd6ecf761e78eacb84287d2c5fe"},
      {0x1303, "d4d7c0dd1f99b4bc5c2ea807c5b9b16bed0ed76c6b077b7091037af5fbe7ae1d",
       "1703030016f953eea78f0b52eec46adaea92c1a36eeace94782522",
       "170303001684b7fcbdb6f89542917f927bce42997532ff8d55a321"},
  };
  auto bytes = [](std::string_view hex) {
    auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    std::string out;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
      out += static_cast<char>(value(hex[i]) << 4 | value(hex[i + 1]));
    return out;
  };
  for (const auto& a : answers) {
    auto suite = tls_suite::make(a.suite);
    if (!suite) continue;  // not offered here: who agrees on it all the same stays with OpenSSL
    const auto which = "cipher suite " + std::to_string(a.suite - 0x1300) + " of RFC 8446, appendix B.4";
    tls_keys sealing, opening;
    const auto secret = bytes(a.secret);
    std::copy(secret.begin(), secret.end(), reinterpret_cast<char*>(sealing.secret.data()));
    opening.secret = sealing.secret;
    if (!suite->derive(sealing) || !suite->derive(opening)) return which + " derives no keys";
    for (auto expected : {a.first, a.after_update}) {
      const std::string_view text = "hello";
      const std::span<const char> piece(text);
      std::string sealed;
      char into[64];
      if (!suite->seal(sealing, 23, {&piece, 1}, sealed) || sealed != bytes(expected))
        return which + " seals another record than GnuTLS does";
      auto size = suite->open(opening, sealed, into);
      if (!size || std::string_view(into, *size) != "hello\x17") return which + " does not open what it has sealed";
      sealed.back() = static_cast<char>(sealed.back() ^ 1);
      if (suite->open(opening, sealed, into)) return which + " opens a forged record";
      if (!suite->update(sealing) || !suite->update(opening)) return which + " derives no next keys";
    }
  }
  return {};
}

/// The same for what a handshake leaves. `context`: whose certificate and key are used.
inline std::string tls_check_handshake(SSL_CTX* context) {
  struct pair {
    int ends[2] = {-1, -1};
    ~pair() {
      for (int d : ends)
        if (d >= 0) ::close(d);
    }
  } sockets;
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets.ends) != 0) return "no sockets";
  auto contexts = std::make_shared<tls_contexts>();
  contexts->own_records = true;
  contexts->all.emplace_back(::SSL_CTX_new(::TLS_server_method()));
  SSL_CTX* ours = contexts->all.front().get();
  ssl_ctx_pointer client_context(::SSL_CTX_new(::TLS_client_method()));
  if (!ours || !client_context || ::SSL_CTX_use_certificate(ours, ::SSL_CTX_get0_certificate(context)) != 1 ||
      ::SSL_CTX_use_PrivateKey(ours, ::SSL_CTX_get0_privatekey(context)) != 1)
    return "no context for a handshake";
  ::SSL_CTX_set_keylog_callback(ours, tls_layer::note_secret);
  for (SSL_CTX* c : {ours, client_context.get()}) {
    ::SSL_CTX_set_security_level(c, 0);  // which keys are good enough is not the question here
    ::SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
  }
  ssl_pointer client(::SSL_new(client_context.get()));
  BIO* wire = ::BIO_new_socket(sockets.ends[1], BIO_NOCLOSE);
  if (!client || !wire) return ::BIO_free(wire), "no client for a handshake";
  ::SSL_set_connect_state(client.get());
  ::SSL_set_bio(client.get(), wire, wire);

  std::vector<move_only_function<void()>> posted;  // the end of a turn, which a slow handshake waits for
  auto shared =
      std::make_shared<tls_shared>([&posted](move_only_function<void()> f) { posted.push_back(std::move(f)); });
  tls_layer layer(shared, contexts);
  std::vector<char> buffer(64 * 1024);
  std::string to_us;
  auto turn = [&] {
    io_result r = layer.read(sockets.ends[0], buffer);
    if (r.what == io_result::status::done) to_us.append(buffer.data(), r.bytes);
    for (auto due = std::exchange(posted, {}); auto& f : due) f();
  };
  const std::string_view text = "hello";
  const std::span<const char> piece(text);
  std::size_t n = 0;
  for (int i = 0; i < 8 && !::SSL_is_init_finished(client.get()); ++i) {
    static_cast<void>(::SSL_do_handshake(client.get()));
    turn();
  }
  turn();
  if (!layer.keeps_records()) return "a handshake did not leave what the records need";
  if (::SSL_write_ex(client.get(), text.data(), text.size(), &n) != 1) return "a client of OpenSSL's did not write";
  ::SSL_key_update(client.get(), SSL_KEY_UPDATE_REQUESTED);
  if (::SSL_write_ex(client.get(), text.data(), text.size(), &n) != 1) return "a client of OpenSSL's did not write";
  for (int i = 0; i < 3; ++i) turn();
  if (to_us != "hellohello") return "data of OpenSSL's client did not arrive";
  if (layer.write(sockets.ends[0], {&piece, 1}).bytes != text.size()) return "nothing could be written";
  char answer[16];
  if (::SSL_read_ex(client.get(), answer, sizeof answer, &n) != 1 || std::string_view(answer, n) != text)
    return "data did not arrive at OpenSSL's client";
  return {};
}

/// Empty, or why OpenSSL has to keep the records.
inline std::string tls_self_check(SSL_CTX* context) {
  ::ERR_clear_error();
  auto why = tls_check_suites();
  if (why.empty()) why = tls_check_handshake(context);
  ::ERR_clear_error();
  return why;
}

}  // namespace hailwire::detail
