// SPDX-License-Identifier: BSL-1.0
// The whole stack under any bytes: a server_state with all transports, an authorizer that permits everything, one
// client that sends the input and four that follow a channel. The first byte chooses what the bytes are to the client's
// connection (requests, frames of each kind of WebSocket, commands, the body of a POST), the second how they are cut.
// Whole, cut, and with a client that takes a few bytes at a time: the same is said. At the end nothing is left.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/deflate.hpp"
#include "hailwire/testing/memory_connection.hpp"
#include "hailwire/transport/long_poll.hpp"
#include "hailwire/transport/ndjson.hpp"
#include "hailwire/transport/short_poll.hpp"
#include "hailwire/transport/sse.hpp"

using namespace hailwire;

namespace {

void require(bool claim, const char* what) {
  if (claim) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// Keeps the last few messages of each channel, always in the same epoch, so that runs can be compared.
struct fixed_storage {
  struct log {
    std::uint64_t head = 0;
    std::vector<message> kept;
  };
  std::map<std::string, log, std::less<>> logs;

  append_result append(std::string_view channel, const draft& d) {
    log& l = logs[std::string(channel)];
    l.kept.push_back({++l.head, d.at, d.from, d.type, d.data});
    if (l.kept.size() > 20) l.kept.erase(l.kept.begin());
    return position{"e", l.head};
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    read_result r;
    r.epoch = "e";
    auto found = logs.find(channel);
    if (found == logs.end()) return r;
    const log& l = found->second;
    r.head = l.head;
    r.oldest = l.head - l.kept.size() + 1;
    std::size_t bytes = 0;
    for (const message& m : l.kept) {
      if (m.offset <= since || r.messages.size() == limit.messages) continue;
      bytes += m.data.bytes().size();
      if (bytes > limit.bytes && !r.messages.empty()) break;
      r.messages.push_back(m);
    }
    return r;
  }
};

/// Small, so that inputs of a few hundred bytes reach every limit.
options small() {
  options o;
  o.retry = std::chrono::milliseconds(0);  // else it is random
  o.newcomers_per_second = 0;              // else tickets are, by the random key of each server
  o.head = {512, 1024, 16};
  o.max_payload = 2048;
  o.max_unsent = 1024;
  o.max_channels = 4;
  o.poll_messages = 5;
  o.poll_bytes = 1024;
  o.post_commands = 6;
  return o;
}

using deflated = transport::websocket_deflate_with<deflate_options{.threshold = 64}>;
using deflated_alone = transport::websocket_deflate_with<deflate_options{
    .per_connection = true, .client_no_context_takeover = false, .threshold = 0}>;
constexpr auto& linked =
    detail::linked<deflated, transport::sse, transport::ndjson, transport::long_poll, transport::short_poll>;

enum class way : std::uint8_t { requests, frames, commands, raw, deflated, plain, plain_deflated, post };

std::string handshake(std::string_view target, std::string_view more = {}) {
  std::string s = "GET ";
  s.append(target).append(
      " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
  return s.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n").append(more).append("\r\n");
}

/// What the client sends in all.
std::string conversation(way w, std::string_view bytes) {
  switch (w) {
    case way::frames:
      return handshake("/live?channel=a&channel=b").append(bytes);
    case way::raw:
      return handshake("/live?channel=a", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n").append(bytes);
    case way::deflated:
      return handshake("/live?channel=a", "Sec-WebSocket-Extensions: permessage-deflate\r\n").append(bytes);
    case way::plain:
      return handshake("/plain").append(bytes);
    case way::plain_deflated:
      return handshake("/deflated", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
          .append(bytes);
    case way::commands: {
      // A line is a command; masks of zeros hide nothing from a mutation.
      std::string out = handshake("/live?channel=a");
      while (!bytes.empty()) {
        auto line = bytes.substr(0, bytes.find('\n'));
        bytes.remove_prefix(std::min(bytes.size(), line.size() + 1));
        proto::append_masked_frame(out, proto::ws_opcode::text, line, 0);
      }
      return out;
    }
    case way::post: {
      std::string out = "POST /live HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ";
      return out.append(std::to_string(bytes.size())).append("\r\n\r\n").append(bytes);
    }
    case way::requests:
      break;
  }
  return std::string(bytes);
}

/// What a client heard, in parts that keep their order: what happened at once may be told in one turn or in two, and
/// then messages stand before or behind replies and pongs.
struct heard {
  std::string answers, replies, controls;
  std::map<std::string, std::string> messages;  // by channel: those of two have no order
  std::size_t pongs = 0;
  bool closed = false;
};

void cut_out(std::string& text, std::string_view mark, std::size_t more) {
  for (std::size_t at = 0; (at = text.find(mark, at)) != text.npos; at += mark.size())
    text.erase(at + mark.size(), more);
}

heard understand(std::string bytes, bool raw = false) {
  heard out;
  std::size_t switched = bytes.find("HTTP/1.1 101 ");
  // An answer's body may quote anything, but no input is long enough to have a whole handshake echoed and a head before
  // it.
  std::size_t head = switched == bytes.npos ? bytes.npos : bytes.find("\r\n\r\n", switched);
  out.answers = bytes.substr(0, head);
  for (std::string_view interim = "HTTP/1.1 100 Continue\r\n\r\n"; out.answers.find(interim) != out.answers.npos;) {
    out.answers.erase(out.answers.find(interim), interim.size());  // only sent when the body is not there yet
  }
  cut_out(out.answers, "{\"open\":{\"session\":\"", 11);
  if (head == bytes.npos) return out;
  std::string_view rest = std::string_view(bytes).substr(head + 4);
  proto::zlib_inflater inflater({}, proto::ws_role::client);
  proto::ws_limits limits{.message = 1 << 20};
  proto::ws_connection client(proto::ws_role::client, limits);
  std::string copy(rest);
  for (std::span<char> in(copy);;) {
    auto e = client.next(in, &inflater);
    std::string data(e.data);
    switch (e.what) {
      case proto::ws_event::type::none:
        return out;
      case proto::ws_event::type::failed:
        require(false, "frames that a client cannot read");
        break;
      case proto::ws_event::type::close:
        out.closed = true;
        out.controls += "close " + std::to_string(e.code) + data;
        break;
      case proto::ws_event::type::pong:
        ++out.pongs;
        [[fallthrough]];
      case proto::ws_event::type::ping:
        out.controls += "p" + data + '\n';
        break;
      case proto::ws_event::type::text:
      case proto::ws_event::type::binary:
        cut_out(data, "{\"open\":{\"session\":\"", 11);
        bool message = raw || data.starts_with("{\"channel\":");
        auto& part =
            message ? out.messages[raw ? std::string() : data.substr(0, data.find("\",\"offset\":"))] : out.replies;
        part += data + '\n';
    }
  }
}

struct stage {
  stage() : gate(loop, detail::erase_storage(store), small(), linked) {
    gate.host.authorize = [](const request& r, authorize_reply reply) {
      grant g{.user = std::string(r.param("user")), .follow = channel_set::all(), .publish = channel_set::all()};
      if (!g.user.empty() && !valid_user(g.user)) return reply(errc::unauthenticated);
      reply(std::move(g));
    };
    gate.host.on_http = [](const request& r, reply_to<result<response>> reply) {
      reply(response{.body = std::string(r.body())});
    };
    gate.host.on_command = [](session&, std::string_view, std::string_view body, command_reply reply) {
      reply(std::string(body));
    };
    frame_handlers echo;
    echo.max_message = 2048;
    echo.subprotocols = {"x"};
    echo.on_message = [](frame_socket& s, std::string_view m, bool binary) {
      binary ? s.send_binary(m) : s.send_text(m);
    };
    gate.frame_routes.push_back(
        std::unique_ptr<detail::frame_route>(new detail::frame_route{"/plain", echo, &deflated::begin_plain}));
    gate.frame_routes.push_back(
        std::unique_ptr<detail::frame_route>(new detail::frame_route{"/deflated", echo, &deflated_alone::begin_plain}));
  }
  ~stage() {
    gate.messages.stop();
    gate.destroy_all();
    loop.run();
  }
  std::shared_ptr<testing::memory_connection> open(std::string_view sent = {}) {
    auto c = testing::memory_connection::open(gate);
    c->send(sent);
    loop.run();
    return c;
  }
  testing::manual_loop loop;
  fixed_storage store;
  detail::server_state gate;
};

struct outcome {
  heard client;
  std::string followers[4];
};

/// Sends `bytes` cut at `cuts`, to a server that can write `window` bytes at a time (0: all).
outcome run(way w, std::string_view bytes, const std::vector<std::size_t>& cuts, std::size_t window) {
  outcome out;
  stage s;
  std::shared_ptr<testing::memory_connection> followers[] = {
      s.open(handshake("/live?channel=a")),
      s.open("GET /live?channel=a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"),
      s.open("GET /live?channel=a HTTP/1.1\r\nHost: a\r\nAccept: application/x-ndjson\r\n\r\n"),
      s.open("GET /live?channel=a&since=e.0&wait=9 HTTP/1.1\r\nHost: a\r\n\r\n")};
  auto c = s.open();
  if (window) c->room = 0;
  auto settle = [&] {
    for (int turns = 0;; ++turns) {
      require(turns < 100'000, "an end of the conversation");
      s.loop.run();
      std::size_t before = c->unread.size();
      c->deliver();
      s.loop.run();
      if (window && c->waiting && !c->closed) {
        c->open_window(window);
      } else if (c->unread.size() == before) {
        return;
      }
    }
  };
  std::size_t from = 0;
  for (std::size_t cut : cuts) {
    c->send(bytes.substr(from, cut - from));
    from = cut;
    s.loop.run();
    if (!window) settle();
  }
  c->send(bytes.substr(from));
  settle();
  out.client = understand(c->take(), w == way::raw);
  for (int i = 0; i < 4; ++i) {
    auto f = understand(followers[i]->take());
    out.followers[i] = f.answers;
    for (const auto& [channel, lines] : f.messages) out.followers[i] += lines;
  }

  // Time ends what the client leaves open, and its end what is left then.
  s.loop.advance(40'000);
  settle();
  c->send_end();
  s.loop.advance(200'000);
  settle();
  require(c->closed, "a connection that ends");
  for (auto& f : followers) f->reset();
  s.loop.run();
  require(s.gate.messages.sessions().empty() && s.gate.connections().empty(), "nobody left behind");
  return out;
}

/// Whether, of each channel, one was told what the other was, or less.
bool begin_alike(std::map<std::string, std::string> a, std::map<std::string, std::string> b) {
  for (auto& [channel, lines] : a) {
    auto& others = b[channel];
    if (lines.compare(0, std::min(lines.size(), others.size()), others, 0, std::min(lines.size(), others.size())) != 0)
      return false;
  }
  return true;
}

void agree(const outcome& a, const outcome& b, bool leaves) {
  require(a.client.answers == b.client.answers, "the same answers");
  require(a.client.replies == b.client.replies, "the same replies");
  require(a.client.closed == b.client.closed, "the same end");
  // Whoever is closed for what it sent may or may not have been told before of what it sent before that; and whoever
  // stops following.
  const auto &m = a.client.messages, &n = b.client.messages;
  if (!leaves) require(a.client.closed ? begin_alike(m, n) : m == n, "the same messages");
  // Of many pings that come together only some are answered.
  if (std::max(a.client.pongs, b.client.pongs) < 64)
    require(a.client.controls == b.client.controls, "the same control frames");
  for (int i = 0; i < 3; ++i) require(a.followers[i] == b.followers[i], "the same for those who follow");
  // A poll is answered with what there is by then.
  require(a.followers[3].empty() == b.followers[3].empty(), "an answer to the poll that waited");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  auto w = static_cast<way>(data[0] % 8);
  auto sent = conversation(w, {reinterpret_cast<const char*>(data) + 2, size - 2});
  auto whole = run(w, sent, {}, 0);
  std::size_t at = data[1];
  for (std::size_t i = 2; i < size && i < 10; ++i) at = at * 31 + data[i];
  if (sent.empty()) return 0;
  bool leaves = sent.find("uns") != sent.npos;
  agree(whole, run(w, sent, {sent.size() - 1 - at % std::min(sent.size(), size)}, 0), leaves);
  switch (data[1] % 4) {
    case 0: {
      if (sent.size() > 600) break;
      std::vector<std::size_t> each;
      for (std::size_t i = 1; i < sent.size(); ++i) each.push_back(i);
      agree(whole, run(w, sent, each, 0), leaves);
      break;
    }
    case 1:
      agree(whole, run(w, sent, {}, 1 + at % 97), leaves);
      break;
    default:
      break;
  }
  return 0;
}
