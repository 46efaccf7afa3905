// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/ws_connection.hpp"

#include <limits>

#include "catch.hpp"
#include "ws_script.hpp"

using namespace ws_script;

namespace {
const std::string umlauts = "Hello-\xC2\xB5@\xC3\x9F\xC3\xB6\xC3\xA4\xC3\xBC\xC3\xA0\xC3\xA1-UTF-8!!";

std::string joined(const lines& l) {
  std::string out;
  for (auto& one : l) out += (out.empty() ? "" : "; ") + one;
  return out;
}
std::string says(std::string_view bytes, const options& how = {}) { return joined(play(bytes, how)); }
options as_client() { return {.role = ws_role::client}; }
options with_limit(std::size_t message) { return {.limits = {.message = message}}; }
}  // namespace

TEST_CASE("a machine is two words and holds nothing while idle", "[ws_connection]") {
  CHECK(sizeof(ws_connection) <= 16);
  ws_limits limits;
  ws_connection machine(ws_role::server, limits);
  CHECK(machine.idle());
  lines out;
  feed(machine, text("whole") + ping("x") + frame(2, ""), out);
  CHECK(machine.idle());
  auto bytes = text("cut");
  feed(machine, std::string_view(bytes).substr(0, 4), out);
  CHECK_FALSE(machine.idle());
  feed(machine, std::string_view(bytes).substr(4), out);
  CHECK(machine.idle());
  feed(machine, text("a", false) + more("b"), out);
  CHECK(machine.idle());
  feed(machine, std::string(text("a", false)), out);
  CHECK_FALSE(machine.idle());
  feed(machine, std::string("\xFF"), out);
  CHECK(machine.idle());
  CHECK(machine.ended());
  CHECK(joined(out) == "text whole; ping x; binary; text cut; text ab; failed 1002");
}

TEST_CASE("a whole frame is handed out as a view into the input", "[ws_connection]") {
  ws_limits limits;
  ws_connection machine(ws_role::server, limits);
  auto bytes = text("Hello") + frame(2, "bytes");
  std::span<char> in(bytes);
  auto e = machine.next(in);
  CHECK(e.what == ws_event::type::text);
  CHECK(e.data.data() == bytes.data() + 6);
  e = machine.next(in);
  CHECK(e.what == ws_event::type::binary);
  CHECK(e.data.data() == bytes.data() + 17);
  CHECK(in.empty());
}

// --- Group 1: framing -----------------------------------------------------------------------------------------------

TEST_CASE("messages of every length form arrive as they were sent", "[ws_connection]") {
  for (std::size_t size : {0u, 1u, 125u, 126u, 127u, 128u, 65535u, 65536u}) {
    for (int opcode : {1, 2}) {
      std::string payload(size, '*');
      for (std::size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(' ' + i % 90);
      CHECK(says(frame(opcode, payload)) ==
            line({opcode == 1 ? ws_event::type::text : ws_event::type::binary, payload, 0}));
      ws_limits limits;
      ws_connection machine(ws_role::server, limits);
      auto bytes = frame(opcode, payload);
      std::span<char> first(bytes.data(), bytes.size() / 2),
          second(bytes.data() + bytes.size() / 2, bytes.size() - bytes.size() / 2);
      CHECK(machine.next(first).what == ws_event::type::none);
      CHECK(machine.next(second).data == payload);
    }
  }
}

TEST_CASE("a client reads a server's unmasked frames", "[ws_connection]") {
  std::string bytes;
  append_text(bytes, "one");
  append_ping(bytes, "two");
  append_binary(bytes, "three");
  append_close(bytes, 1000, "four");
  CHECK(says(bytes, as_client()) == "text one; ping two; binary three; close 1000 four");
}

TEST_CASE("a frame without the mask its role demands is refused at its second byte", "[ws_connection]") {
  std::string unmasked;
  append_text(unmasked, "Hello");
  CHECK(says(unmasked) == "failed 1002");
  CHECK(fails_after(unmasked) == 2);
  CHECK(says(text("Hello"), as_client()) == "failed 1002");
  CHECK(fails_after(text("Hello"), as_client()) == 2);
}

TEST_CASE("a length that is not in its shortest form is refused", "[ws_connection]") {
  CHECK(says(raw("\x82\xFE\x00\x7D") + std::string(4 + 125, 0)) == "failed 1002");
  CHECK(fails_after(raw("\x82\xFE\x00\x7D") + std::string(4 + 125, 0)) == 4);
  CHECK(says(raw("\x82\xFE\x00\x00")) == "failed 1002");
  CHECK(says(raw("\x82\xFF\x00\x00\x00\x00\x00\x00\xFF\xFF")) == "failed 1002");
  CHECK(says(raw("\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x05")) == "failed 1002");
  CHECK(says(raw("\x82\xFE\x00\x7E\x00\x00\x00\x00") + std::string(126, 'x')) == "binary " + std::string(126, 'x'));
}

TEST_CASE("a length of 64 bits is refused at the byte that shows it", "[ws_connection]") {
  auto bytes = raw("\x82\xFF\x80\x00\x00\x00\x00\x00\x00\x00");
  CHECK(says(bytes) == "failed 1002");
  CHECK(fails_after(bytes) == 3);
  bytes = raw("\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
  CHECK(says(bytes) == "failed 1009");
  CHECK(says(bytes, with_limit(std::numeric_limits<std::size_t>::max())).empty());
}

// --- Group 2: pings and pongs ---------------------------------------------------------------------------------------

TEST_CASE("pings come with their data, in order", "[ws_connection]") {
  CHECK(says(ping()) == "ping");
  CHECK(says(ping("Hello, world!")) == "ping Hello, world!");
  CHECK(says(ping(raw("\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF"))) == "ping " + raw("\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF"));
  CHECK(says(ping(std::string(125, '\xFE'))) == "ping " + std::string(125, '\xFE'));
  std::string ten, expected;
  for (char c = '0'; c <= '9'; ++c) ten += ping({&c, 1}), expected += std::string(c == '0' ? "" : "; ") + "ping " + c;
  CHECK(says(ten) == expected);
}

TEST_CASE("a ping of 126 bytes is refused at its second byte", "[ws_connection]") {
  CHECK(says(ping(std::string(126, '\xFE'))) == "failed 1002");
  CHECK(fails_after(ping(std::string(126, '\xFE'))) == 2);
  CHECK(fails_after(ping(std::string(70000, '\xFE'))) == 2);
}

TEST_CASE("pongs that nobody asked for are no error", "[ws_connection]") {
  CHECK(says(frame(10, "") + frame(10, "unsolicited") + ping("now")) == "pong; pong unsolicited; ping now");
}

TEST_CASE("a flood of pings leaves nothing behind", "[ws_connection]") {
  ws_limits limits;
  ws_connection machine(ws_role::server, limits);
  std::string flood;
  for (int i = 0; i < 10'000; ++i) flood += ping("x");
  lines out;
  feed(machine, flood, out);
  CHECK(out.size() == 10'000);
  CHECK(machine.idle());
}

// --- Group 3: reserved bits -----------------------------------------------------------------------------------------

TEST_CASE("reserved bits are refused at the first byte, what came before is delivered", "[ws_connection]") {
  for (int bits = 1; bits < 8; ++bits) {
    for (int opcode : {0, 1, 2, 8, 9, 10}) {
      auto bad = frame(opcode, opcode == 8 ? "" : "Hello", true, bits);
      CHECK(says(bad) == "failed 1002");
      CHECK(fails_after(bad) == 1);
      CHECK(says(text("before") + bad + ping("after")) == "text before; failed 1002");
    }
    CHECK(says(text("half", false) + frame(0, "", true, bits)) == "failed 1002");
  }
}

// --- Group 4: opcodes -----------------------------------------------------------------------------------------------

TEST_CASE("reserved opcodes are refused at the first byte, what came before is delivered", "[ws_connection]") {
  for (int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
    for (auto payload : {"", "Hello"}) {
      auto bad = frame(opcode, payload);
      CHECK(says(bad) == "failed 1002");
      CHECK(fails_after(bad) == 1);
      CHECK(says(text("before") + bad + ping("after")) == "text before; failed 1002");
      CHECK(says(text("half", false) + bad) == "failed 1002");
    }
  }
}

// --- Group 5: fragmentation -----------------------------------------------------------------------------------------

TEST_CASE("control frames may not be fragmented", "[ws_connection]") {
  for (int opcode : {8, 9, 10}) {
    CHECK(says(frame(opcode, "", false) + more("")) == "failed 1002");
    CHECK(fails_after(frame(opcode, "", false)) == 1);
  }
}

TEST_CASE("fragments make one message", "[ws_connection]") {
  CHECK(says(text("fragment1", false) + more("fragment2")) == "text fragment1fragment2");
  CHECK(says(frame(2, "a", false) + more("b", false) + more("c")) == "binary abc");
  CHECK(says(text("", false) + more("", false) + more("")) == "text");
  CHECK(says(text("", false) + more("middle", false) + more("") + text("next")) == "text middle; text next");
}

TEST_CASE("control frames come through between fragments", "[ws_connection]") {
  CHECK(says(text("fragment1", false) + ping("ping payload") + more("fragment2")) ==
        "ping ping payload; text fragment1fragment2");
  CHECK(says(text("a", false) + ping("1") + more("b", false) + ping("2") + frame(10, "3") + more("c")) ==
        "ping 1; ping 2; pong 3; text abc");
  CHECK(says(text("a", false) + ping(std::string(125, 'p')) + more("") + ping()) ==
        "ping " + std::string(125, 'p') + "; text a; ping");
  CHECK(says(text("a", false) + close_frame(1000, "enough") + more("b")) == "close 1000 enough");
}

TEST_CASE("a continuation needs something to continue", "[ws_connection]") {
  for (bool fin : {true, false}) {
    CHECK(says(more("non-continuation payload", fin) + text("Hello")) == "failed 1002");
    CHECK(fails_after(more("x", fin)) == 1);
    CHECK(says(text("whole") + more("x", fin)) == "text whole; failed 1002");
    CHECK(says(text("a", false) + more("b") + more("c", fin)) == "text ab; failed 1002");
  }
}

TEST_CASE("a message may not begin within another", "[ws_connection]") {
  for (int opcode : {1, 2}) {
    CHECK(says(text("fragment1", false) + frame(opcode, "fragment2")) == "failed 1002");
    CHECK(says(text("a", false) + more("b", false) + frame(opcode, "c", false)) == "failed 1002");
  }
}

// --- Group 6: UTF-8 -------------------------------------------------------------------------------------------------

TEST_CASE("valid UTF-8 arrives, whole and cut between and within characters", "[ws_connection]") {
  CHECK(says(text("")) == "text");
  CHECK(says(text(umlauts)) == "text " + umlauts);
  for (std::size_t cut = 0; cut <= umlauts.size(); ++cut) {
    CHECK(says(text(umlauts.substr(0, cut), false) + more(umlauts.substr(cut))) == "text " + umlauts);
  }
  std::string bytewise = text("", false);
  for (char c : umlauts) bytewise += more({&c, 1}, false);
  CHECK(says(bytewise + more("")) == "text " + umlauts);
  for (auto good :
       {"\xF4\x8F\xBF\xBF", "\xF0\x90\x80\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBD", "\xEF\xBF\xBE",
        "\xEF\xBF\xBF", "\xC2\x80", "\xE0\xA0\x80", "\xDF\xBF", "\xF0\x9F\xBF\xBE", "\xCE\xBA\xE1\xBD\xB9\xCF\x83"}) {
    CHECK(says(text(good)) == std::string("text ") + good);
  }
}

TEST_CASE("invalid UTF-8 is refused with 1007", "[ws_connection]") {
  for (std::string bad : {"\x80",
                          "\xBF",
                          "\x80\xBF",
                          "\xC0\x80",
                          "\xC1\xBF",
                          "\xC0\xAF",
                          "\xE0\x80\xAF",
                          "\xE0\x9F\xBF",
                          "\xF0\x80\x80\xAF",
                          "\xF0\x8F\xBF\xBF",
                          "\xF8\x88\x80\x80\x80",
                          "\xFC\x84\x80\x80\x80\x80",
                          "\xFE",
                          "\xFF",
                          "\xED\xA0\x80",
                          "\xED\xBF\xBF",
                          "\xED\xA0\x80\xED\xB0\x80",
                          "\xF4\x90\x80\x80",
                          "\xF7\xBF\xBF\xBF",
                          "\xC3(",
                          "\xE1\x80(",
                          "\xF1\x80\x80(",
                          "\xCE\xBA\xE1\xBD\xB9\xCF\x83\xED\xA0\x80"
                          "edited"}) {
    CHECK(says(text(bad)) == "failed 1007");
    CHECK(says(text("ok " + bad + " ok") + text("never")) == "failed 1007");
    CHECK(says(text("ok", false) + more(bad) + text("never")) == "failed 1007");
    CHECK(says(frame(2, bad)) == "binary " + bad);
  }
}

TEST_CASE("a text that ends within a character is refused at its end", "[ws_connection]") {
  for (auto cut : {"\xC3", "\xE1\x80", "\xF1\x80\x80", "\xF4"}) {
    CHECK(says(text(cut)) == "failed 1007");
    CHECK(says(text(cut, false) + more("")) == "failed 1007");
    CHECK(says(text(cut, false) + ping("still fine")) == "ping still fine");
  }
}

TEST_CASE("bad UTF-8 is refused at its first bad byte, within a fragment and before the frame is complete",
          "[ws_connection]") {
  // Valid up to the fourth byte of a character above U+10FFFF: its second byte cannot be right.
  std::string good = "\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5", bad =
                                                                         "\xF4\x90\x80\x80"
                                                                         "edited";
  CHECK(fails_after(text(good + bad)) == 6 + good.size() + 2);
  CHECK(fails_after(text(good, false) + more(bad)) == 6 + good.size() + 6 + 2);
  CHECK(fails_after(text(good, false) + more("\xF4", false) + more("\x90\x80\x80")) == 6 + good.size() + 6 + 1 + 6 + 1);
  std::string big = std::string(70'000, 'x');
  CHECK(fails_after(text("\xFF" + big)) == 14 + 1);
  CHECK(fails_after(text(std::string(300, 'x') + "\xED\xA0" + big)) == 14 + 302);
  // The same as a script: nothing but the head and the first bytes is there.
  CHECK(says(text("\xC0" + big).substr(0, 20)) == "failed 1007");
}

// --- Group 7: closing -----------------------------------------------------------------------------------------------

TEST_CASE("after a close everything is ignored", "[ws_connection]") {
  CHECK(says(close_frame(1000) + close_frame(1000)) == "close 1000");
  CHECK(says(close_frame(1000) + ping("late") + text("late") + raw("\xFF\xFF\xFF")) == "close 1000");
  CHECK(says(text("before") + close_frame(1001, "going") + text("late")) == "text before; close 1001 going");
  CHECK(says(text("half", false) + close_frame(1000) + more("late")) == "close 1000");
}

TEST_CASE("a close frame without payload has code 1005, one with a single byte is refused", "[ws_connection]") {
  CHECK(says(frame(8, "")) == "close 1005");
  CHECK(says(frame(8, "a")) == "failed 1002");
}

TEST_CASE("a close reason is UTF-8 of at most 123 bytes", "[ws_connection]") {
  CHECK(says(close_frame(1000, "Hello World!")) == "close 1000 Hello World!");
  CHECK(says(close_frame(1000, std::string(123, '*'))) == "close 1000 " + std::string(123, '*'));
  CHECK(says(close_frame(1000, std::string(124, '*'))) == "failed 1002");
  CHECK(says(close_frame(1000, umlauts)) == "close 1000 " + umlauts);
  CHECK(says(close_frame(1000,
                         "\xCE\xBA\xED\xA0\x80"
                         "edited")) == "failed 1007");
  CHECK(says(close_frame(1000, "\xCE")) == "failed 1007");
}

TEST_CASE("close codes are those that may travel", "[ws_connection]") {
  for (int code : {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}) {
    CHECK(says(close_frame(code)) == "close " + std::to_string(code));
    CHECK(says(close_frame(code, "why")) == "close " + std::to_string(code) + " why");
  }
  for (int code : {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}) {
    CHECK(says(close_frame(code)) == "failed 1002");
    CHECK(says(close_frame(code, "why")) == "failed 1002");
  }
}

TEST_CASE("a close reason that arrived in pieces stays readable until the next call", "[ws_connection]") {
  for (auto begin : {std::string(), text("half a message", false)}) {
    ws_limits limits;
    ws_connection machine(ws_role::server, limits);
    auto bytes = begin + close_frame(4000, "reason");
    std::string tail = bytes.substr(bytes.size() - 3);
    bytes.resize(bytes.size() - 3);
    std::span<char> first(bytes), second(tail);
    CHECK(machine.next(first).what == ws_event::type::none);
    auto e = machine.next(second);
    CHECK(line(e) == "close 4000 reason");
    CHECK(machine.ended());
    CHECK(machine.next(second).what == ws_event::type::none);
    CHECK(machine.idle());
  }
}

// --- Groups 9 and 10: limits, many pieces ---------------------------------------------------------------------------

TEST_CASE("a message at the limit arrives, one byte more is refused before any payload", "[ws_connection]") {
  for (std::size_t limit : {0u, 125u, 1000u, 65536u, 100'000u}) {
    auto how = with_limit(limit);
    CHECK(says(frame(2, std::string(limit, 'x')), how) == line({ws_event::type::binary, std::string(limit, 'x'), 0}));
    auto over = frame(2, std::string(limit + 1, 'x'));
    auto head = over.size() - limit - 1 - 4;  // the mask need not be there
    CHECK(fails_after(over, how) == head);
    CHECK(says(over, how) == "failed 1009");
    CHECK(says(ping("small"), how) == "ping small");
  }
}

TEST_CASE("fragments are limited together, as soon as a head shows it", "[ws_connection]") {
  auto how = with_limit(10);
  CHECK(says(text("12345", false) + more("67890"), how) == "text 1234567890");
  CHECK(says(text("12345", false) + ping("does not count") + more("67890"), how) ==
        "ping does not count; text 1234567890");
  CHECK(fails_after(text("12345", false) + more("678901"), how) == 6 + 5 + 2);
  CHECK(says(text("1234567890", false) + more("", false) + more(""), how) == "text 1234567890");
}

TEST_CASE("an announced length reserves nothing", "[ws_connection]") {
  ws_limits limits{.message = std::numeric_limits<std::size_t>::max()};
  ws_connection machine(ws_role::server, limits);
  lines out;
  // 2^62 bytes cannot be had: trying to would throw.
  feed(machine, raw("\x82\xFF\x40\x00\x00\x00\x00\x00\x00\x00") + "maskpayload", out);
  CHECK(out.empty());
  CHECK_FALSE(machine.idle());
}

TEST_CASE("65,536 fragments of one byte are a message", "[ws_connection]") {
  std::string bytes = text("", false), payload;
  for (int i = 0; i < 65'536; ++i) {
    char c = static_cast<char>('a' + i % 26);
    bytes += more({&c, 1}, i == 65'535);
    payload += c;
  }
  ws_limits limits;
  ws_connection machine(ws_role::server, limits);
  std::span<char> in(bytes);
  CHECK(machine.next(in).data == payload);
  CHECK(in.empty());
}

TEST_CASE("a flood of empty fragments is refused, some are not", "[ws_connection]") {
  options how{.limits = {.empty_fragments = 3}};
  CHECK(says(text("", false) + more("", false) + more("", false) + more(""), how) == "text");
  CHECK(says(text("", false) + more("", false) + more("a", false) + more("", false) + more("", false), how) ==
        "failed 1008");
  CHECK(says(text("", false) + more("", false) + ping() + more("", false) + more("", false), how) ==
        "ping; failed 1008");
  // The count is a message's own.
  auto three = text("", false) + more("", false) + more("", false) + more("end");
  CHECK(says(three + three + three, how) == "text end; text end; text end");
  std::string flood = text("", false);
  for (int i = 0; i < 2000; ++i) flood += more("", false);
  CHECK(fails_after(flood) == 1024 * 6 + 2 + 4);
}

TEST_CASE("a message that comes in pieces of any size is the same", "[ws_connection]") {
  std::string payload;
  for (int i = 0; i < 30'000; ++i) payload += static_cast<char>(' ' + i * 7 % 95);
  auto bytes = text(payload);
  for (std::size_t piece : {1u, 3u, 64u, 1000u, 1024u, 8191u}) {
    ws_limits limits;
    ws_connection machine(ws_role::server, limits);
    std::string got;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      std::string part = bytes.substr(at, piece);
      std::span<char> in(part);
      for (auto e = machine.next(in); e.what != ws_event::type::none; e = machine.next(in)) got += e.data;
    }
    CHECK(got == payload);
  }
}

// --- Two machines ---------------------------------------------------------------------------------------------------

namespace {
/// Echoes as a server or answers as a client: what a transport does with the events, without the transport.
struct peer {
  explicit peer(ws_role r) : role(r), machine(r, limits) {}
  void send(ws_opcode what, std::string_view payload) {
    role == ws_role::server ? append_frame(out, what, payload)
                            : append_masked_frame(out, what, payload, mask += 0x9E3779B9);
  }
  void receive(std::string bytes) {
    std::span<char> in(bytes);
    for (auto e = machine.next(in); e.what != ws_event::type::none; e = machine.next(in)) {
      heard.push_back(line(e));
      using enum ws_event::type;
      if (e.what == ping) send(ws_opcode::pong, e.data);
      if (e.what == text && role == ws_role::server) send(ws_opcode::text, e.data);
      if (e.what == binary && role == ws_role::server) send(ws_opcode::binary, e.data);
      if (e.what == close && !closing) closing = true, send(ws_opcode::close, close_payload(e.code));
      if (e.what == failed) closing = true, send(ws_opcode::close, close_payload(e.code, e.data));
    }
  }
  void start_close(std::uint16_t code, std::string_view why) {
    closing = true;
    send(ws_opcode::close, close_payload(code, why));
  }
  ws_limits limits{};
  ws_role role;
  ws_connection machine;
  std::uint32_t mask = 1;
  bool closing = false;
  std::string out;
  lines heard;
};

/// Carries bytes both ways in pieces until both are silent.
void carry(peer& a, peer& b, std::size_t piece) {
  while (!a.out.empty() || !b.out.empty()) {
    for (auto [from, to] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      auto bytes = from->out.substr(0, piece);
      from->out.erase(0, bytes.size());
      to->receive(bytes);
    }
  }
}
}  // namespace

TEST_CASE("client and server talk, echo and close in either direction", "[ws_connection]") {
  for (std::size_t piece : {1u, 2u, 7u, 100u, 1'000'000u}) {
    for (bool server_closes : {true, false}) {
      peer server(ws_role::server), client(ws_role::client);
      std::string large(70'000, 'L');
      client.send(ws_opcode::text, umlauts);
      client.send(ws_opcode::ping, "p");
      client.send(ws_opcode::binary, large);
      server.send(ws_opcode::ping, "q");
      carry(client, server, piece);
      (server_closes ? server : client).start_close(1000, "done");
      carry(client, server, piece);
      CHECK(joined(server.heard) ==
            "text " + umlauts + "; ping p; binary of 70000; pong q; close 1000" + (server_closes ? "" : " done"));
      // The server's own ping may overtake its echoes only in the first line, where it was sent first.
      CHECK(joined(client.heard) ==
            "ping q; text " + umlauts + "; pong p; binary of 70000; close 1000" + (server_closes ? " done" : ""));
      CHECK(server.machine.ended());
      CHECK(client.machine.ended());
    }
  }
}

TEST_CASE("a client that breaks a rule is told why, and both ends are over", "[ws_connection]") {
  peer server(ws_role::server), client(ws_role::client);
  client.out = text("\xC0\xAF");
  carry(client, server, 3);
  CHECK(joined(server.heard) == "failed 1007");
  CHECK(joined(client.heard) == "close 1007 a text is not UTF-8");
  CHECK(client.machine.ended());
}
