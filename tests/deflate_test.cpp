// SPDX-License-Identifier: BSL-1.0
#include "hailwire/deflate.hpp"

#include "detail/connection/stage.hpp"

using namespace stage;
using proto::ws_opcode;

namespace {

constexpr auto& with_deflate = detail::linked<websocket_deflate, transport::sse, transport::short_poll>;
const std::string plain_offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// A client's end of the extension: what it hears, inflated, with a `*` before what came compressed.
struct reader {
  explicit reader(const proto::deflate_params& agreed = {.server_no_context_takeover = true})
      : inflater(agreed, proto::ws_role::client) {}
  proto::zlib_inflater inflater;

  lines read(const std::string& bytes) {
    lines out;
    for (std::string_view rest = bytes; !rest.empty();) {
      proto::ws_frame_head head;
      std::size_t n = proto::read_frame_head(rest, head);
      REQUIRE((n && rest.size() - n >= head.size && head.fin && (head.reserved == 0 || head.reserved == 4)));
      auto payload = rest.substr(n, static_cast<std::size_t>(head.size));
      rest.remove_prefix(n + payload.size());
      std::string text(payload);
      if (head.reserved) {
        text = "*";
        std::string inflated;
        REQUIRE(inflater.inflate(payload, true, inflated, 1 << 20) == proto::ws_inflater::progress::ok);
        text += inflated;
      }
      out.push_back(text);
    }
    return out;
  }
};

std::string squeezed(std::string_view text, proto::zlib_deflater& d) {
  std::string out;
  proto::append_masked_deflated_frame(out, d, ws_opcode::text, text, 0x01020304);
  return out;
}

std::string long_json(int n) { return "[\"" + std::string(400, 'x') + "\"," + std::to_string(n) + "]"; }

}  // namespace

TEST_CASE("a message is compressed once, for everybody who agreed on it, and others get it as it is") {
  house h({}, with_deflate);
  client a(h), b(h), plain(h);
  a.join("?channel=chat", plain_offer);
  b.send(upgrade("?channel=chat", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"));
  CHECK(read_answer(b.take(), true)["sec-websocket-extensions"] ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
  plain.join("?channel=chat");
  for (int i = 1; i < 4; ++i) {
    h.publish("chat", long_json(i));
    auto one = a.take(), two = b.take();
    CHECK(one == two);
    CHECK(one.size() < 150);
    CHECK(reader().read(one) ==
          lines{'*' + published("chat", i, long_json(i))});  // a fresh inflater each: no context is kept
    CHECK(plain.hear() == lines{"text " + published("chat", i, long_json(i))});
  }
  // Encodings are told apart by their address, and a channel is encoded once for each.
  using stream = transport::websocket_deflate_stream<deflate_options{}>;
  auto first = transport::stream_box::of<stream>(stream::mode::object, 1u, proto::deflate_params()),
       second = transport::stream_box::of<stream>(stream::mode::object, 1u, proto::deflate_params());
  CHECK(&first->messages() == &second->messages());
}

TEST_CASE("what is small, or does not shrink, is not compressed") {
  house h({}, with_deflate);
  client a(h);
  a.join("?channel=chat", plain_offer);
  h.publish("chat", "1");
  CHECK(reader().read(a.take()) == lines{published("chat", 1, "1")});
  std::string noise;
  std::uint32_t x = 7;
  for (int i = 0; i < 2000; ++i) noise += proto::base64_letters[(x = x * 1664525 + 1013904223) >> 26];
  std::string dense = "\"" + noise + "\"";
  h.publish("chat", dense);
  auto got = a.take();
  CHECK(got.size() <= published("chat", 2, dense).size() + 4);
  CHECK(reader().read(got).size() == 1);
}

TEST_CASE("an offer that forces a smaller window on the server is answered without compression") {
  house h({}, with_deflate);
  for (const char* offer :
       {"permessage-deflate; server_max_window_bits=14", "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16", "x-other",
        "permessage-deflate; server_no_context_takeover; unknown=1"}) {
    CAPTURE(offer);
    client c(h);
    c.send(upgrade("?channel=chat", "Sec-WebSocket-Extensions: " + std::string(offer) + "\r\n"));
    auto bytes = c.take();
    auto a = read_answer(bytes, true);
    CHECK(a.status == 101);
    CHECK(a.fields.count("sec-websocket-extensions") == 0);
    h.publish("chat", long_json(1));
    auto heard = c.hear();
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].find(long_json(1)) != std::string::npos);
    // And the client may not compress either.
    auto d = proto::zlib_deflater::shared();
    c.send(squeezed(R"({"id":1,"ping":{},"filler":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"})", d));
    heard = c.hear();
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].starts_with("close 1002"));
  }
}

TEST_CASE("commands may come compressed, whole, in fragments and byte by byte") {
  for (std::size_t pieces : {SIZE_MAX, std::size_t{1}, std::size_t{7}}) {
    house h({}, with_deflate);
    client c(h);
    c.pieces = pieces;
    c.join("?channel=chat", plain_offer);
    auto d = proto::zlib_deflater::shared();
    std::string command = R"({"id":1,"publish":{"channel":"chat","data":)" + long_json(5) + "}}";
    c.send(squeezed(command, d));
    auto got = reader().read(c.take());
    CHECK(got == lines{R"({"reply":1,"ok":{"epoch":"chat-1","offset":1}})", '*' + published("chat", 1, long_json(5))});

    std::string payload;
    REQUIRE(d.deflate(command, payload));
    std::string fragments;
    proto::append_masked_frame(fragments, ws_opcode::text, payload.substr(0, 9), 5, false, true);
    fragments += frame("between", ws_opcode::ping);
    proto::append_masked_frame(fragments, ws_opcode::continuation, payload.substr(9), 6);
    c.send(fragments);
    CHECK(reader().read(c.take()) == lines{"between", R"({"reply":1,"ok":{"epoch":"chat-1","offset":2}})",
                                           '*' + published("chat", 2, long_json(5))});
  }
}

TEST_CASE("long replies and notices are compressed, and fit between messages") {
  house h({}, with_deflate);
  client c(h);
  c.join("?channel=chat", plain_offer);
  for (int i = 1; i <= 3; ++i) h.publish("chat", long_json(i));
  reader r;
  r.read(c.take());
  c.say(R"({"id":1,"history":{"channel":"chat","limit":3}})");
  auto got = r.read(c.take());
  REQUIRE(got.size() == 1);
  CHECK(got[0].starts_with(R"(*{"reply":1,"ok":{"messages":[)"));
  h.gate.messages.sessions()[0]->send("note", long_json(9));
  h.run();
  CHECK(r.read(c.take()) == lines{"*{\"note\":" + long_json(9) + '}'});
}

TEST_CASE("raw clients get payloads compressed") {
  house h({}, with_deflate);
  client c(h);
  c.join("?channel=chat", plain_offer + "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  h.publish("chat", long_json(1));
  CHECK_FALSE(h.gate.messages.publish("chat", payload::binary(std::string(500, '\1'))));
  h.run();
  auto bytes = c.take();
  CHECK(bytes.substr(0, 1) == "\xC1");
  CHECK(reader().read(bytes) == lines{'*' + long_json(1), '*' + std::string(500, '\1')});
}

TEST_CASE("a bomb closes with 1009, what is no deflate stream with 1007") {
  options o;
  o.max_payload = 4096;
  house h(o, with_deflate);
  auto d = proto::zlib_deflater::shared();
  client bomb(h), broken(h);
  bomb.join("?channel=chat", plain_offer);
  bomb.send(squeezed(std::string(1 << 20, ' '), d));
  CHECK(bomb.hear().at(0).starts_with("close 1009"));
  broken.join("?channel=chat", plain_offer);
  std::string frame;
  proto::append_masked_frame(frame, ws_opcode::text, "\xFF\xFF\xFF", 9, true, true);
  broken.send(frame);
  CHECK(broken.hear().at(0).starts_with("close 1007"));
}

namespace {

template <deflate_options Options>
void echo_on(house& h, const char* path) {
  frame_handlers echo;
  echo.on_message = [](frame_socket& s, std::string_view m, bool binary) {
    binary ? s.send_binary(m) : s.send_text(m);
  };
  h.gate.frame_routes.push_back(std::unique_ptr<detail::frame_route>(
      new detail::frame_route{path, echo, &transport::websocket_deflate_with<Options>::begin_plain}));
}

std::string answered(client& c, const char* path, const std::string& offer) {
  c.send(upgrade("", "Sec-WebSocket-Extensions: " + offer + "\r\n", path));
  auto a = read_answer(c.take(), true);
  CHECK(a.status == 101);
  return a["sec-websocket-extensions"];
}

}  // namespace

TEST_CASE("the host's own frames are compressed with all four parameters, per connection where it says so") {
  house h({}, with_deflate);
  echo_on<deflate_options{.per_connection = true, .client_no_context_takeover = false, .threshold = 0}>(h, "/kept");
  echo_on<deflate_options{.per_connection = true,
                          .server_no_context_takeover = true,
                          .server_max_window_bits = 10,
                          .client_max_window_bits = 11,
                          .threshold = 0}>(h, "/lean");
  echo_on<deflate_options{}>(h, "/shared");
  const std::string text = "some text of the host's own, sixty-four bytes in all, or nearly";

  client kept(h);
  CHECK(answered(kept, "/kept", "permessage-deflate; client_max_window_bits") == "permessage-deflate");
  reader r(proto::deflate_params{});
  proto::zlib_deflater d({}, proto::ws_role::client);
  kept.send(squeezed(text, d));
  auto first = kept.take();
  CHECK(r.read(first) == lines{'*' + text});
  kept.send(squeezed(text, d));
  auto second = kept.take();
  CHECK(second.size() < 20);  // it looks back on the first
  CHECK(r.read(second) == lines{'*' + text});

  client small(h);
  CHECK(answered(small, "/kept", "permessage-deflate; server_max_window_bits=9; server_no_context_takeover") ==
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9");
  std::string far =
      std::string(600, 'a') + text + std::string(600, 'b') + text;  // a window of 512 bytes does not reach back
  small.send(frame(far));
  CHECK(reader({.server_no_context_takeover = true, .server_max_window_bits = 9}).read(small.take()) ==
        lines{'*' + far});

  client lean(h);
  CHECK(answered(lean, "/lean", "permessage-deflate; client_max_window_bits") ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; "
        "client_max_window_bits=11");
  for (int i = 0; i < 2; ++i) {
    lean.send(frame(far));
    CHECK(reader({.server_no_context_takeover = true, .server_max_window_bits = 10}).read(lean.take()) ==
          lines{'*' + far});
  }

  client shared(h);
  CHECK(answered(shared, "/shared", "permessage-deflate") ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
  shared.send(frame(far));
  CHECK(reader().read(shared.take()) == lines{'*' + far});
}

TEST_CASE("on the live resource per-connection compression is not offered: its messages are shared") {
  static constexpr deflate_options own{.per_connection = true, .client_no_context_takeover = false};
  house h({}, detail::linked<websocket_deflate_with<own>>);
  client c(h);
  c.send(upgrade("?channel=chat", plain_offer));
  CHECK(read_answer(c.take(), true)["sec-websocket-extensions"] == "permessage-deflate; server_no_context_takeover");
}
