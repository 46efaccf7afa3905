// SPDX-License-Identifier: BSL-1.0
// A server without sockets and without a clock of its own, for scripts: bytes in, bytes out, time as an argument.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "chunks.hpp"
#include "detail/connection/open_storage.hpp"
#include "hailwire/proto/ws_connection.hpp"
#include "hailwire/testing/memory_connection.hpp"
#include "hailwire/transport/long_poll.hpp"
#include "hailwire/transport/ndjson.hpp"
#include "hailwire/transport/short_poll.hpp"
#include "hailwire/transport/sse.hpp"
#include "hailwire/transport/websocket.hpp"

namespace stage {

using namespace hailwire;
using lines = std::vector<std::string>;

inline constexpr auto& all_transports = detail::linked<transport::websocket, transport::sse, transport::ndjson,
                                                       transport::long_poll, transport::short_poll>;

/// Everybody is who `?user=` says; may follow and publish everything, but not what begins with `secret`.
inline decision usual(const request& r) {
  auto open = [](std::string_view c) { return !c.starts_with("secret"); };
  grant g;
  g.user = r.param("user");
  g.follow = channel_set(std::function<bool(std::string_view)>(open));
  g.publish = channel_set(std::function<bool(std::string_view)>(open));
  return g;
}

struct house {
  explicit house(const options& o = {}, const detail::linkage& linked = all_transports)
      : house(detail::erase_storage(store), o, linked) {}
  /// On another storage; `store` is idle then.
  explicit house(std::unique_ptr<detail::any_storage> other, const options& o = {},
                 const detail::linkage& linked = all_transports)
      : gate(loop, std::move(other), paced(o), linked) {
    gate.host.authorize = [](const request& r, authorize_reply reply) { reply(usual(r)); };
    gate.messages.log().set([this](const log_record& r) { log.emplace_back(r.text); }, log_level::info);
  }
  /// Clients come as they like, and get no tickets, unless a test says otherwise.
  static options paced(options o) {
    if (o.newcomers_per_second == options().newcomers_per_second) o.newcomers_per_second = 0;
    return o;
  }
  ~house() {
    gate.messages.stop();
    gate.destroy_all();
  }

  testing::manual_loop loop;
  open_storage store;
  detail::server_state gate;
  lines log;

  void run() { loop.run(); }
  void advance(std::int64_t ms) { loop.advance(ms); }
  void answer(std::size_t most = SIZE_MAX) {
    store.answer(most);
    run();
  }
  /// The host publishes a JSON payload.
  void publish(const std::string& channel, std::string json) {
    CHECK_FALSE(gate.messages.publish(channel, payload::json(std::move(json))));
    run();
  }
};

/// What the host's publish at time `at` looks like.
inline std::string published(std::string_view channel, int offset, std::string_view json, std::int64_t at = 1000,
                             std::string_view from = {}) {
  std::string out = "{\"channel\":\"" + std::string(channel) + "\",\"offset\":" + std::to_string(offset) +
                    ",\"at\":" + std::to_string(testing::manual_loop::unix_start + at);
  if (!from.empty()) out += ",\"from\":\"" + std::string(from) + '"';
  return out + ",\"data\":" + std::string(json) + '}';
}

/// What an event stream is told to wait, which is drawn by lot, made the same for all.
inline std::string without_retry(std::string text, bool of_one_length = true) {
  static constexpr std::string_view key = "retry: ";
  for (std::size_t at = 0; (at = text.find(key, at)) != text.npos;) {
    at += key.size();
    const std::size_t digits = std::min(text.find('\n', at), text.size()) - at;
    text.replace(at, digits, of_one_length ? 1 : digits, 'R');
  }
  return text;
}

/// An HTTP answer, taken apart; `rest` is what came after it.
struct answer {
  int status = 0;
  std::map<std::string, std::string> fields;  // names in lower case; several of one name are joined by ", "
  std::string body, rest;

  std::string operator[](const std::string& name) const {
    auto found = fields.find(name);
    return found == fields.end() ? std::string() : found->second;
  }
  bool has(std::string_view text) const { return body.find(text) != body.npos; }
};

inline answer read_answer(const std::string& bytes, bool head_only = false) {
  answer a;
  auto end = bytes.find("\r\n\r\n");
  if (bytes.compare(0, 9, "HTTP/1.1 ") != 0 || end == bytes.npos) {
    FAIL("not an HTTP answer: " << bytes);
  }
  a.status = std::stoi(bytes.substr(9, 3));
  for (std::size_t at = bytes.find("\r\n") + 2; at < end + 2;) {
    auto line = bytes.substr(at, bytes.find("\r\n", at) - at);
    at += line.size() + 2;
    auto colon = line.find(": ");
    std::string name = line.substr(0, colon);
    for (char& c : name) c = proto::to_lower(c);
    auto& value = a.fields[name];
    if (!value.empty()) value += ", ";
    value += line.substr(colon + 2);
  }
  std::string rest = bytes.substr(end + 4);
  std::size_t size = a.fields.count("content-length") && !head_only ? std::stoul(a.fields["content-length"]) : 0;
  bool to_end = !a.fields.count("content-length") && a.status == 200;
  if (to_end) size = rest.size();
  REQUIRE(rest.size() >= size);
  a.body = without_retry(rest.substr(0, size));
  a.rest = rest.substr(size);
  return a;
}

/// Frames as readable lines: `text …`, `binary …`, `close 1000 reason`, `ping`, `pong …`.
inline lines frames(std::string_view bytes) {
  static const proto::ws_limits limits{.message = 64u << 20};
  proto::ws_connection machine(proto::ws_role::client, limits);
  std::vector<char> copy(bytes.begin(), bytes.end());
  std::span<char> in(copy);
  lines out;
  for (;;) {
    auto e = machine.next(in);
    using type = proto::ws_event::type;
    if (e.what == type::none) return out;
    static constexpr const char* names[] = {"none", "text", "binary", "ping", "pong", "close", "failed"};
    std::string line = names[static_cast<int>(e.what)];
    if (e.code) line += ' ' + std::to_string(e.code);
    if (!e.data.empty()) line += ' ' + std::string(e.data);
    out.push_back(line);
  }
}

inline std::string frame(std::string_view text, proto::ws_opcode what = proto::ws_opcode::text, bool fin = true) {
  std::string out;
  proto::append_masked_frame(out, what, text, 0x5AC3F00D, fin);
  return out;
}
inline std::string close_frame(std::uint16_t code, std::string_view reason = {}) {
  return frame(proto::close_payload(code, reason), proto::ws_opcode::close);
}

inline std::string upgrade(const std::string& query, const std::string& more = {}, const std::string& path = "/live") {
  return "GET " + path + query +
         " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + more + "\r\n";
}
inline std::string get(const std::string& target, const std::string& more = {}) {
  return "GET " + target + " HTTP/1.1\r\nHost: h\r\n" + more + "\r\n";
}
inline std::string event_stream(const std::string& query, const std::string& more = {}) {
  return get("/live" + query, "Accept: text/event-stream\r\n" + more);
}
inline std::string json_lines(const std::string& query, const std::string& more = {}) {
  return get("/live" + query, "Accept: application/x-ndjson\r\n" + more);
}
inline std::string post(const std::string& query, const std::string& body, const std::string& type = "application/json",
                        const std::string& more = {}) {
  return "POST /live" + query + " HTTP/1.1\r\nHost: h\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + more + "\r\n" + body;
}

/// The random part of an `open` notice, made the same for all.
inline std::string without_session(std::string text) {
  static constexpr std::string_view key = "\"session\":\"";
  for (std::size_t at = 0; (at = text.find(key, at)) != text.npos; at += key.size()) {
    auto from = at + key.size();
    for (auto i = from; i < text.size() && text[i] != '"'; ++i) text[i] = 'S';
  }
  return text;
}

struct client {
  explicit client(house& h) : at(&h), c(testing::memory_connection::open(h.gate)) {}
  house* at;
  std::shared_ptr<testing::memory_connection> c;
  std::size_t pieces = SIZE_MAX;  // how many bytes arrive together
  chunk_reader chunks;

  client& send(std::string_view bytes) {
    do {
      auto part = bytes.substr(0, pieces);
      bytes.remove_prefix(part.size());
      c->send(part);
      at->run();
      c->deliver();
      at->run();
    } while (!bytes.empty());
    return *this;
  }
  client& say(std::string_view json) { return send(frame(json)); }
  /// What came since the last look; of an event stream what its chunks hold.
  std::string take() { return without_retry(without_session(chunks.read(c->take())), false); }
  answer ask(const std::string& request) {
    send(request);
    return read_answer(take(), request.starts_with("HEAD "));
  }
  lines hear() { return frames(take()); }
  /// Opens a stream, and returns what came after the head of its answer.
  std::string open(const std::string& request, int status = 200) {
    send(request);
    auto bytes = take();
    auto a = read_answer(bytes, true);
    CHECK(a.status == status);
    return without_retry(bytes.substr(bytes.find("\r\n\r\n") + 4));
  }
  lines join(const std::string& query, const std::string& more = {}) { return frames(open(upgrade(query, more), 101)); }
  /// The client takes `n` more bytes, and only those.
  void narrow(std::size_t n) { c->room = n; }
  void widen(std::size_t n = SIZE_MAX) {
    c->open_window(n);
    at->run();
    c->deliver();
    at->run();
  }
};

}  // namespace stage
