// SPDX-License-Identifier: BSL-1.0
#pragma once

// The opening handshake of WebSocket (RFC 6455, section 4) in both roles: what a server demands of a request and
// answers, what a client asks and demands of the answer. It reads heads that an HTTP parser has read already, so it is
// written over the head's type. A request head has
//   method, minor           the method's name; the version's second digit
//   find(name)              the value of the first field of that name, empty when there is none
//   count(name)             how many fields of that name there are
//   has_token(name, token)  whether the lists in all fields of that name hold the token, in any case
//   headers                 all fields in order, each with name and value
// and an answer's head has `status` in place of `method` and `minor`. `http1::head` is a request's.

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/text.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/error.hpp"
#include "hailwire/proto/http_fields.hpp"

namespace hailwire::proto {

/// SHA-1 (FIPS 180-4, section 6.1): 20 bytes. The handshake asks for it, where it proves only that the server speaks
/// WebSocket (RFC 6455, section 10.8); it must not guard anything.
std::array<unsigned char, 20> sha1(std::string_view bytes);

/// What `Sec-WebSocket-Accept` must say to this `Sec-WebSocket-Key` (RFC 6455, section 4.2.2, item 5.4).
std::string accept_key(std::string_view sec_websocket_key);

/// A parameter of an extension. `value` is empty without one (`has_value` tells; a value itself is never empty).
struct ws_extension_param {
  std::string name, value;
  bool has_value = false;
};

/// An extension as one side offers or accepts it.
struct ws_extension {
  std::string name;
  hailwire::detail::vector<ws_extension_param> params;
};

/// The most subprotocols, extensions, or parameters of one extension that are read: browsers send one or two, and a
/// bound keeps the search for doubles cheap.
inline constexpr std::size_t max_offer_elements = 64;

namespace ws_detail {

/// Calls `f(value)` for every field called `name`, until it returns false. Returns whether it never did.
template <class Head, class F>
bool each_value(const Head& head, std::string_view name, F&& f) {
  for (const auto& field : head.headers)
    if (iequals(field.name, name) && !f(std::string_view(field.value))) return false;
  return true;
}

/// Reads a list of tokens, no two of them alike. Empty elements count for nothing (RFC 9110, section 5.6.1.2).
bool read_tokens(std::string_view list, std::vector<std::string>& out);

/// Reads the value of one Sec-WebSocket-Extensions field (RFC 6455, section 9.1). A quoted value must be a token once
/// its quoting is undone.
bool read_extensions(std::string_view in, hailwire::detail::vector<ws_extension>& out);

}  // namespace ws_detail

/// What a client offers in its request.
struct ws_offer {
  std::string key;                                    ///< for `append_switching_protocols`
  std::vector<std::string> subprotocols;              ///< in the client's order of preference, no two alike
  hailwire::detail::vector<ws_extension> extensions;  ///< in the client's order of preference
};

/// Checks a server's request for the opening handshake (RFC 6455, section 4.2.1). Failures: `method_not_allowed` when
/// it is not a GET; `upgrade_required` when it does not ask for WebSocket, or for another version than 13: the answer
/// must then carry `Sec-WebSocket-Version: 13` (section 4.4) and `Upgrade: websocket`; `bad_request` for everything
/// else that is missing, doubled or malformed. Host, Origin and the target are for others to judge.
template <class Head>
result<ws_offer> read_upgrade(const Head& head) {
  if (head.method != "GET") return {errc::method_not_allowed, "a WebSocket handshake is a GET"};
  if (head.minor < 1) return {errc::bad_request, "a WebSocket handshake needs HTTP/1.1"};
  if (!head.has_token("Upgrade", "websocket")) return {errc::upgrade_required, "Upgrade does not name websocket"};
  if (!head.has_token("Connection", "upgrade")) return {errc::bad_request, "Connection does not name Upgrade"};
  // Behind the head come frames. Whoever sees a body there sees another conversation (RFC 9112, section 11.2).
  if (head.count("Transfer-Encoding") || (head.count("Content-Length") && head.find("Content-Length") != "0")) {
    return {errc::bad_request, "a WebSocket handshake has no body"};
  }
  if (head.count("Sec-WebSocket-Version") != 1)
    return {errc::bad_request, "Sec-WebSocket-Version must stand there once"};
  if (trim(head.find("Sec-WebSocket-Version")) != "13")
    return {errc::upgrade_required, "the WebSocket version is not 13"};
  if (head.count("Sec-WebSocket-Key") != 1) return {errc::bad_request, "Sec-WebSocket-Key must stand there once"};
  ws_offer offer;
  offer.key = trim(head.find("Sec-WebSocket-Key"));
  auto nonce = offer.key.size() == 24 ? decode_base64(offer.key) : std::nullopt;
  if (!nonce || nonce->size() != 16) return {errc::bad_request, "Sec-WebSocket-Key is not 16 bytes in base64"};

  auto tokens = [&](std::string_view list) { return ws_detail::read_tokens(list, offer.subprotocols); };
  if (!ws_detail::each_value(head, "Sec-WebSocket-Protocol", tokens) ||
      (head.count("Sec-WebSocket-Protocol") && offer.subprotocols.empty())) {
    return {errc::bad_request, "Sec-WebSocket-Protocol is not a list of different tokens"};
  }
  auto extensions = [&](std::string_view list) { return ws_detail::read_extensions(list, offer.extensions); };
  // RFC 6455, section 9.1 has at least one in the list; but a recipient takes empty elements for nothing (RFC 9110,
  // section 5.6.1.2), and clients that have none to offer do send an empty one (Python's websockets).
  if (!ws_detail::each_value(head, "Sec-WebSocket-Extensions", extensions))
    return {errc::bad_request, "Sec-WebSocket-Extensions is malformed"};
  return offer;
}

/// Appends the answer that accepts a handshake (RFC 6455, section 4.2.2). `subprotocol` is one of the offered, or
/// empty; `extensions` is the value of Sec-WebSocket-Extensions, or empty; `extra_headers` are whole lines, each with
/// its CRLF.
void append_switching_protocols(std::string& out, std::string_view key, std::string_view subprotocol = {},
                                std::string_view extensions = {}, std::string_view extra_headers = {});

/// A client's key from 16 random bytes, fresh for each connection (RFC 6455, section 4.1).
std::string handshake_key(std::span<const unsigned char, 16> nonce);

/// Appends a client's opening handshake (RFC 6455, section 4.1). `subprotocols` and `extensions` are values of their
/// fields, or empty; `extra_headers` are whole lines, each with its CRLF. All must be fit for a request head already.
void append_upgrade_request(std::string& out, std::string_view target, std::string_view host, std::string_view key,
                            std::string_view subprotocols = {}, std::string_view extensions = {},
                            std::string_view extra_headers = {});

/// What a server chose. A client must fail the connection when it did not offer one of `extensions` (RFC 6455, section
/// 4.1, item 5): that needs each extension's own rules.
struct ws_answer {
  std::string subprotocol;  ///< empty when the server chose none
  hailwire::detail::vector<ws_extension> extensions;
};

/// Checks a server's answer to a client's handshake (RFC 6455, section 4.1). `key` and `subprotocols` are what the
/// client sent. Failures: for an answer other than 101 the error that its status stands for, `internal` for one that
/// stands for none; `bad_request` for a 101 that breaks a rule: the connection is to be closed.
template <class Head>
result<ws_answer> read_switching_protocols(const Head& head, std::string_view key, std::string_view subprotocols = {}) {
  if (head.status != 101) {
    for (auto code = errc::bad_request; code <= errc::http_version;
         code = static_cast<errc>(static_cast<int>(code) + 1))
      if (http_status(code) == head.status) return {code, "the server refused the handshake"};
    return {errc::internal, "the server answered the handshake with status " + std::to_string(head.status)};
  }
  if (head.count("Upgrade") != 1 || !iequals(trim(head.find("Upgrade")), "websocket")) {
    return {errc::bad_request, "the answer does not switch to websocket"};
  }
  if (!head.has_token("Connection", "upgrade"))
    return {errc::bad_request, "the answer's Connection does not name Upgrade"};
  if (head.count("Sec-WebSocket-Accept") != 1 || trim(head.find("Sec-WebSocket-Accept")) != accept_key(key)) {
    return {errc::bad_request, "Sec-WebSocket-Accept does not fit the key"};
  }
  ws_answer answer;
  if (head.count("Sec-WebSocket-Protocol")) {
    std::vector<std::string> offered;
    ws_detail::read_tokens(subprotocols, offered);
    answer.subprotocol = trim(head.find("Sec-WebSocket-Protocol"));
    bool known = false;
    for (const auto& one : offered) known = known || one == answer.subprotocol;
    if (!known || head.count("Sec-WebSocket-Protocol") != 1) {
      return {errc::bad_request, "the server chose a subprotocol that was not offered"};
    }
  }
  auto extensions = [&](std::string_view list) { return ws_detail::read_extensions(list, answer.extensions); };
  if (!ws_detail::each_value(head, "Sec-WebSocket-Extensions", extensions) ||
      (head.count("Sec-WebSocket-Extensions") && answer.extensions.empty())) {
    return {errc::bad_request, "Sec-WebSocket-Extensions is malformed"};
  }
  return answer;
}

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/ws_handshake.ipp"
#endif
