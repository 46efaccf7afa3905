// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/deflate.hpp"

#include "catch.hpp"
#include "ws_script.hpp"

using namespace ws_script;
using namespace std::string_literals;
using hailwire::errc;

namespace {
hailwire::detail::vector<ws_extension> extensions(std::string_view value) {
  hailwire::detail::vector<ws_extension> out;
  REQUIRE(ws_detail::read_extensions(value, out));
  return out;
}
/// What a server answers to an offer; "declined" when nothing.
std::string answered(std::string_view offer, const deflate_options& how = {}) {
  std::string answer;
  return accept_deflate(extensions(offer), how, answer) ? answer : "declined";
}
const deflate_options per_connection{.per_connection = true, .client_no_context_takeover = false};

options with_inflater(const deflate_params& agreed = {}, ws_limits limits = {}, ws_role role = ws_role::server) {
  return {.role = role, .limits = limits, .inflater = [=] {
            return std::unique_ptr<ws_inflater, void (*)(ws_inflater*)>(
                new zlib_inflater(agreed, role), [](ws_inflater* i) { delete static_cast<zlib_inflater*>(i); });
          }};
}
std::string says(std::string_view bytes, const options& how) {
  std::string out;
  for (auto& one : play(bytes, how)) out += (out.empty() ? "" : "; ") + one;
  return out;
}
std::string compressed(std::string_view message) {
  std::string out;
  zlib_deflater deflater(deflate_params{}, ws_role::server);
  REQUIRE(deflater.deflate(message, out));
  return out;
}
std::string server_frame(zlib_deflater& deflater, std::string_view message) {
  std::string out;
  append_deflated_frame(out, deflater, ws_opcode::text, message);
  return out;
}
/// A client's compressed frame.
std::string packed(std::string_view payload, bool fin = true, int opcode = 1) { return frame(opcode, payload, fin, 4); }
std::string mixed_text(std::size_t size) {
  std::string out;
  for (unsigned i = 7; out.size() < size; i = i * 1103515245 + 12345)
    out += std::to_string(i >> 16), out += " \xC3\xA4 ";
  while (out.size() > size) out.pop_back();
  while (!valid_utf8(out)) out.pop_back();
  return out;
}
}  // namespace

// --- Agreement ------------------------------------------------------------------------------------------------------

TEST_CASE("a server that shares frames always keeps no context and the full window", "[deflate]") {
  std::string both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
  CHECK(answered("permessage-deflate") == both);
  CHECK(answered("permessage-deflate; client_max_window_bits") == both);
  CHECK(answered("permessage-deflate; server_no_context_takeover; client_no_context_takeover") == both);
  CHECK(answered("permessage-deflate; server_max_window_bits=15") == both + "; server_max_window_bits=15");
  CHECK(answered("permessage-deflate; server_max_window_bits=\"15\"") == both + "; server_max_window_bits=15");
  CHECK(answered("permessage-deflate; client_max_window_bits=10") == both + "; client_max_window_bits=10");
  // What a host says of a deflater of the connection's own means nothing then.
  CHECK(answered("permessage-deflate", {.server_max_window_bits = 10}) == both);
  CHECK(answered("permessage-deflate", {.client_no_context_takeover = false}) ==
        "permessage-deflate; server_no_context_takeover");
}

TEST_CASE("an offer that needs a smaller server window is passed over for the next", "[deflate]") {
  for (auto bits : {"8", "9", "14"}) {
    CHECK(answered("permessage-deflate; server_max_window_bits="s + bits) == "declined");
    CHECK(answered("permessage-deflate; server_max_window_bits="s + bits + ", permessage-deflate") ==
          "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
  }
  CHECK(answered("permessage-deflate; server_max_window_bits=8", per_connection) == "declined");
  CHECK(answered("permessage-deflate; server_max_window_bits=9", per_connection) ==
        "permessage-deflate; server_max_window_bits=9");
}

TEST_CASE("a malformed offer is passed over for the next", "[deflate]") {
  for (auto bad : {"server_no_context_takeover=1",
                   "client_no_context_takeover=true",
                   "server_max_window_bits",
                   "server_max_window_bits=7",
                   "server_max_window_bits=16",
                   "server_max_window_bits=015",
                   "server_max_window_bits=0",
                   "server_max_window_bits=1a",
                   "client_max_window_bits=7",
                   "client_max_window_bits=16",
                   "client_max_window_bits=x",
                   "unknown",
                   "unknown=1",
                   "Server_no_context_takeover",
                   "server_no_context_takeover; server_no_context_takeover",
                   "client_no_context_takeover; client_no_context_takeover",
                   "server_max_window_bits=15; server_max_window_bits=15",
                   "client_max_window_bits; client_max_window_bits",
                   "client_max_window_bits; client_max_window_bits=15",
                   "client_max_window_bits=15; client_max_window_bits"}) {
    auto offer = "permessage-deflate; "s + bad;
    for (auto& how : {deflate_options{}, per_connection}) {
      CHECK(answered(offer, how) == "declined");
      CHECK(answered(offer + ", permessage-deflate; client_max_window_bits", how) ==
            answered("permessage-deflate", how));
    }
  }
}

TEST_CASE("other extensions are not taken", "[deflate]") {
  CHECK(answered("x-webkit-deflate-frame") == "declined");
  CHECK(answered("permessage-bzip2, PERMESSAGE-DEFLATE") == "declined");
  CHECK(answered("permessage-bzip2, permessage-deflate") != "declined");
}

TEST_CASE("a server that deflates per connection agrees on all four parameters", "[deflate]") {
  CHECK(answered("permessage-deflate", per_connection) == "permessage-deflate");
  CHECK(answered("permessage-deflate; client_max_window_bits", per_connection) == "permessage-deflate");
  CHECK(answered("permessage-deflate; server_no_context_takeover", per_connection) ==
        "permessage-deflate; server_no_context_takeover");
  CHECK(answered("permessage-deflate; client_no_context_takeover", per_connection) ==
        "permessage-deflate; client_no_context_takeover");
  CHECK(answered("permessage-deflate; server_max_window_bits=10; client_max_window_bits=11", per_connection) ==
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11");
  deflate_options small{.per_connection = true,
                        .server_no_context_takeover = true,
                        .server_max_window_bits = 11,
                        .client_max_window_bits = 12};
  CHECK(answered("permessage-deflate", small) ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11");
  CHECK(answered("permessage-deflate; client_max_window_bits; server_max_window_bits=13", small) ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11; "
        "client_max_window_bits=12");
  std::string answer;
  auto agreed = accept_deflate(extensions("permessage-deflate; client_max_window_bits=10"), small, answer);
  REQUIRE(agreed);
  CHECK(agreed->client_max_window_bits == 10);
  CHECK(agreed->server_max_window_bits == 11);
  CHECK(agreed->client_no_context_takeover);
}

TEST_CASE("client and server agree on the same, whatever each wants", "[deflate]") {
  for (int i = 0; i < 64; ++i) {
    auto wish = [&](int bits, bool per) {
      return deflate_options{.per_connection = per,
                             .server_no_context_takeover = (bits & 1) != 0,
                             .client_no_context_takeover = (bits & 2) != 0,
                             .server_max_window_bits = bits & 4 ? 10 : 15,
                             .client_max_window_bits = bits & 2 ? 9 : 15};
    };
    auto client = wish(i % 8, false), server = wish(i / 8, true);
    std::string answer;
    auto agreed = accept_deflate(extensions(deflate_offer(client)), server, answer);
    REQUIRE(agreed);
    auto seen = read_deflate_answer(extensions(answer), client);
    REQUIRE(seen);
    REQUIRE(*seen);
    CHECK((*seen)->server_no_context_takeover == agreed->server_no_context_takeover);
    CHECK((*seen)->client_no_context_takeover == agreed->client_no_context_takeover);
    CHECK((*seen)->server_max_window_bits == agreed->server_max_window_bits);
    CHECK((*seen)->client_max_window_bits == agreed->client_max_window_bits);
  }
}

TEST_CASE("a client refuses an answer that does not fit its offer", "[deflate]") {
  deflate_options wants{.server_no_context_takeover = true, .server_max_window_bits = 12, .client_max_window_bits = 10};
  auto good = "permessage-deflate; server_no_context_takeover; server_max_window_bits=12"s;
  CHECK(read_deflate_answer(extensions(good), wants));
  CHECK(read_deflate_answer(extensions(good + "; client_max_window_bits=9"), wants));
  CHECK(read_deflate_answer({}, wants));
  CHECK_FALSE(*read_deflate_answer({}, wants));
  for (auto& bad : {"permessage-deflate; server_max_window_bits=12"s, "permessage-deflate; server_no_context_takeover"s,
                    "permessage-deflate; server_no_context_takeover; server_max_window_bits=13"s,
                    good + "; client_max_window_bits=11", good + "; client_max_window_bits",
                    good + "; server_no_context_takeover", good + "; x", good + ", " + good, "foo"s}) {
    auto r = read_deflate_answer(extensions(bad), wants);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == errc::bad_request);
  }
}

// --- Inflating ------------------------------------------------------------------------------------------------------

TEST_CASE("the examples of RFC 7692, section 7.2.3 are understood", "[deflate]") {
  auto hello = raw("\xF2\x48\xCD\xC9\xC9\x07\x00");
  auto how = with_inflater();
  CHECK(says(packed(hello), how) == "text Hello");
  CHECK(says(packed(hello.substr(0, 3), false) + more(hello.substr(3)), how) == "text Hello");
  // With context takeover the second is two bytes shorter.
  CHECK(says(packed(hello) + packed(raw("\xF2\x00\x11\x00\x00")), how) == "text Hello; text Hello");
  CHECK(says(packed(hello) + packed(raw("\xF2\x00\x11\x00\x00")),
             with_inflater({.client_no_context_takeover = true})) == "text Hello; failed 1007");
  CHECK(says(packed(raw("\x00\x05\x00\xFA\xFF\x48\x65\x6C\x6C\x6F\x00")), how) == "text Hello");  // no compression
  CHECK(says(packed(raw("\xF3\x48\xCD\xC9\xC9\x07\x00\x00")), how) == "text Hello");              // BFINAL
  CHECK(says(packed(raw("\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9\xC9\x07\x00")), how) == "text Hello");  // two blocks
  CHECK(says(packed(raw("\x00")), how) == "text");
}

TEST_CASE("an empty compressed message and one that ends with its final block are understood", "[deflate]") {
  auto how = with_inflater();
  CHECK(says(packed(""), how) == "text");
  CHECK(says(packed("", false) + more(""), how) == "text");
  CHECK(says(packed(raw("\xF3\x48\xCD\xC9\xC9\x07\x00")) + packed(raw("\xF2\x48\xCD\xC9\xC9\x07\x00")), how) ==
        "text Hello; text Hello");
  CHECK(says(packed("") + packed(raw("\xF2\x48\xCD\xC9\xC9\x07\x00")), how) == "text; text Hello");
}

TEST_CASE("compressed and plain messages alternate, control frames between fragments are plain", "[deflate]") {
  auto hello = raw("\xF2\x48\xCD\xC9\xC9\x07\x00");
  auto how = with_inflater();
  CHECK(says(packed(hello) + text("plain") + packed(hello, true, 2), how) == "text Hello; text plain; binary Hello");
  CHECK(says(packed(hello.substr(0, 2), false) + ping("ping") + more(hello.substr(2)) + ping("x"), how) ==
        "ping ping; text Hello; ping x");
  CHECK(
      says(packed(hello.substr(0, 2), false) + ping("ping") + more("", false) + more(hello.substr(2), false) + more(""),
           how) == "ping ping; text Hello");
}

TEST_CASE("RSV1 stands only in the first frame of a message", "[deflate]") {
  auto how = with_inflater();
  CHECK(says(packed("\xF2", false) + frame(0, "x", true, 4), how) == "failed 1002");
  CHECK(says(text("a", false) + frame(0, "x", true, 4), how) == "failed 1002");
  for (int opcode : {8, 9, 10}) CHECK(says(frame(opcode, "", true, 4), how) == "failed 1002");
  CHECK(says(frame(1, "", true, 6), how) == "failed 1002");
  CHECK(says(frame(1, "", true, 5), how) == "failed 1002");
}

TEST_CASE("a stream that is broken or ends elsewhere than its message is refused with 1007", "[deflate]") {
  auto how = with_inflater();
  auto hello = raw("\xF2\x48\xCD\xC9\xC9\x07\x00");
  CHECK(says(packed("\xFF\xFF\xFF"), how) == "failed 1007");               // reserved block type
  CHECK(says(packed(raw("\x00\x05\x00\xFF\xFF")), how) == "failed 1007");  // a stored block's length and its complement
  for (std::size_t n = 1; n < hello.size(); ++n) CHECK(says(packed(hello.substr(0, n)), how) == "failed 1007");
  CHECK(says(packed(raw("\x00\x64\x00\x9B\xFF"
                        "abc")),
             how) == "failed 1007");                                           // 100 stored bytes, of which three came
  CHECK(says(packed(hello + raw("\x00\x00\xFF\xFF")), how) == "failed 1007");  // the flush was not taken off
}

TEST_CASE("inflated text is UTF-8 or refused at once, also within a fragment", "[deflate]") {
  auto how = with_inflater();
  auto good = mixed_text(3000);
  CHECK(says(packed(compressed(good)), how) == line({ws_event::type::text, good, 0}));
  CHECK(says(packed(compressed("abc\xFF")), how) == "failed 1007");
  CHECK(says(packed(compressed("abc\xC3")), how) == "failed 1007");
  CHECK(says(packed(compressed("abc\xFF"), false) + ping("never"), how) == "failed 1007");
  CHECK(says(packed(compressed("abc\xFF"), true, 2), how) == "binary abc\xFF");
}

TEST_CASE("a message may inflate to the limit and not one byte over", "[deflate]") {
  for (std::size_t limit : {0u, 1u, 1000u, 16383u, 16384u, 16385u, 100'000u}) {
    auto how = with_inflater({}, {.message = limit});
    auto whole = std::string(limit, 'x');
    CHECK(says(packed(compressed(whole)), how) == line({ws_event::type::text, whole, 0}));
    CHECK(says(packed(compressed(whole + "x")), how) == "failed 1009");
    CHECK(says(packed(compressed(whole), false) + more(compressed("x")), how).starts_with("failed"));
  }
}

TEST_CASE("a bomb costs no more than the message limit", "[deflate]") {
  // 64 MiB of zeros in 64 KiB.
  auto bomb = compressed(std::string(std::size_t{64} << 20, '\0'));
  CHECK(bomb.size() < 70'000);
  zlib_inflater inflater(deflate_params{}, ws_role::server);
  std::string out;
  CHECK(inflater.inflate(bomb, true, out, 100'000) == ws_inflater::progress::too_big);
  CHECK(out.size() == 100'000);
  CHECK(out.capacity() < 300'000);
  ws_limits limits{.message = 100'000};
  ws_connection machine(ws_role::server, limits);
  lines heard;
  feed(machine, packed(bomb, true, 2), heard, &inflater);
  CHECK(heard == lines{"failed 1009"});
}

TEST_CASE("a compressed frame that can mean no good is refused by its head", "[deflate]") {
  auto how = with_inflater({}, {.message = 100});
  CHECK(says(packed(std::string(8 * 100 + 65, 'x')).substr(0, 4), how) == "failed 1009");
  CHECK(says(packed(std::string(8 * 100 + 64, 'x')).substr(0, 4), how).empty());
  // Fragments count together: empty stored blocks, which give nothing.
  std::string nothing;
  for (int i = 0; i < 100; ++i) nothing += raw("\x00\x00\x00\xFF\xFF");
  CHECK(says(packed(nothing, false) + frame(0, std::string(364, 'x'), false).substr(0, 4), how).empty());
  CHECK(says(packed(nothing, false) + frame(0, std::string(365, 'x'), false).substr(0, 4), how) == "failed 1009");
  // A sender that flushes each byte is still understood, at the limit.
  zlib_deflater deflater(deflate_params{}, ws_role::client);
  std::string script;
  for (int i = 0; i < 100; ++i) {
    std::string part;
    char c = static_cast<char>('!' + i % 90);
    REQUIRE(deflater.deflate({&c, 1}, part));
    if (i < 99) part += raw("\x00\x00\xFF\xFF");
    script += frame(i ? 0 : 1, part, i == 99, i ? 0 : 4);
  }
  CHECK(play(script, how).at(0).size() == 5 + 100);
}

// --- Both ends ------------------------------------------------------------------------------------------------------

TEST_CASE("what one end deflates the other inflates, with every window and with context or without", "[deflate]") {
  for (auto role : {ws_role::server, ws_role::client}) {
    for (int bits : {9, 10, 12, 15}) {
      for (bool keep : {true, false}) {
        deflate_params agreed{!keep, !keep, bits, bits};
        zlib_deflater deflater(agreed, role);
        std::string script;
        lines expected;
        for (std::size_t size : {1000u, 0u, 1u, 40'000u, 1000u, 0u, 0u, 70'000u}) {
          auto message = mixed_text(size);
          if (role == ws_role::server)
            append_deflated_frame(script, deflater, ws_opcode::text, message);
          else
            append_masked_deflated_frame(script, deflater, ws_opcode::text, message, 0xCAFEBABE);
          expected.push_back(line({ws_event::type::text, message, 0}));
        }
        CHECK(script.size() < 80'000);
        CHECK(play(script, with_inflater(agreed, {}, role == ws_role::server ? ws_role::client : ws_role::server)) ==
              expected);
      }
    }
  }
}

TEST_CASE("a shared frame is understood by connections at any point of their lives", "[deflate]") {
  auto deflater = zlib_deflater::shared();
  std::string answer, first, second;
  auto agreed = accept_deflate(extensions("permessage-deflate; client_max_window_bits"), {}, answer);
  REQUIRE(agreed);
  CHECK(append_deflated_frame(first, deflater, ws_opcode::text, mixed_text(500)));
  CHECK(append_deflated_frame(second, deflater, ws_opcode::text, mixed_text(600)));
  auto how = with_inflater(*agreed, {}, ws_role::client);
  for (auto& script : {first, second, first + second, second + first, second + second})
    CHECK(play(script, how).size() == (script.size() > second.size() ? 2 : 1));
  std::string again;
  append_deflated_frame(again, deflater, ws_opcode::text, mixed_text(500));
  CHECK(again == first);
}

TEST_CASE("a shared frame that would not get smaller goes as it is", "[deflate]") {
  auto deflater = zlib_deflater::shared();
  std::string out;
  CHECK_FALSE(append_deflated_frame(out, deflater, ws_opcode::text, "Hi"));
  CHECK(out == "\x81\x02Hi");
  out.clear();
  CHECK(append_deflated_frame(out, deflater, ws_opcode::text, std::string(100, 'x')));
  CHECK(out[0] == '\xC1');
  CHECK(out.size() < 20);
}

TEST_CASE("a window of 2^8 bytes is read, and answered uncompressed", "[deflate]") {
  deflate_params agreed{false, false, 8, 8};
  zlib_deflater deflater(agreed, ws_role::client);
  std::string out;
  CHECK_FALSE(append_masked_deflated_frame(out, deflater, ws_opcode::text, std::string(100, 'x'), key));
  CHECK(says(out + packed(raw("\xF2\x48\xCD\xC9\xC9\x07\x00")), with_inflater(agreed)) ==
        "text " + std::string(100, 'x') + "; text Hello");
}

TEST_CASE("an empty message is one byte, however often it is repeated", "[deflate]") {
  zlib_deflater keeps(deflate_params{}, ws_role::server);
  for (int i = 0; i < 3; ++i) CHECK(server_frame(keeps, "") == raw("\xC1\x01\x00"));
  server_frame(keeps, "something");
  for (int i = 0; i < 3; ++i) CHECK(server_frame(keeps, "") == raw("\xC1\x01\x00"));
}

TEST_CASE("context makes repeated messages small", "[deflate]") {
  auto message = mixed_text(300);
  zlib_deflater keeps(deflate_params{}, ws_role::server);
  std::string first, second;
  REQUIRE(keeps.deflate(message, first));
  REQUIRE(keeps.deflate(message, second));
  CHECK(second.size() < first.size() / 5);
}
