// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/ws_frame.hpp"

#include <string>

#include "catch.hpp"

using namespace hailwire::proto;
using namespace std::string_literals;

TEST_CASE("a server's frames are those of RFC 6455, section 5.7", "[ws_frame]") {
  std::string out;
  append_text(out, "Hello");
  CHECK(out == "\x81\x05Hello");
  out.clear();
  append_frame(out, ws_opcode::text, "Hel", false);
  append_frame(out, ws_opcode::continuation, "lo");
  CHECK(out == "\x01\x03Hel\x80\x02lo");
  out.clear();
  append_ping(out, "Hello");
  append_pong(out, "Hello");
  CHECK(out == "\x89\x05Hello\x8A\x05Hello");
  out.clear();
  append_frame_header(out, ws_opcode::binary, 256);
  CHECK(out == "\x82\x7E\x01\x00"s);
  out.clear();
  append_frame_header(out, ws_opcode::binary, 65536);
  CHECK(out == "\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00"s);
  out.clear();
  append_frame_header(out, ws_opcode::text, 7, true, true);
  CHECK(out == "\xC1\x07");
}

TEST_CASE("a client's frame is that of RFC 6455, section 5.7", "[ws_frame]") {
  std::uint32_t key;
  std::memcpy(&key, "\x37\xFA\x21\x3D", 4);
  std::string out;
  append_masked_frame(out, ws_opcode::text, "Hello", key);
  CHECK(out == "\x81\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58");
}

TEST_CASE("a length takes its shortest form, and is read back", "[ws_frame]") {
  for (std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{125}, std::uint64_t{126}, std::uint64_t{65535},
        std::uint64_t{65536}, std::uint64_t{0x123456789ABCDEF0}, (std::uint64_t{1} << 63) - 1}) {
    std::string out;
    append_frame_header(out, ws_opcode::binary, size, false, true);
    CHECK(out.size() == (size < 126 ? 2 : size < 65536 ? 4 : 10));
    for (std::size_t n = 0; n < out.size(); ++n) {
      ws_frame_head head;
      CHECK(read_frame_head({out.data(), n}, head) == 0);
    }
    ws_frame_head head;
    CHECK(read_frame_head(out + "payload", head) == out.size());
    CHECK(head.size == size);
    CHECK(head.what == ws_opcode::binary);
    CHECK(head.reserved == 4);
    CHECK_FALSE(head.fin);
    CHECK_FALSE(head.masked);
  }
}

TEST_CASE("a head's mask is read in memory order", "[ws_frame]") {
  std::string out;
  append_masked_frame(out, ws_opcode::ping, "abc", 0x01020304);
  ws_frame_head head;
  CHECK(read_frame_head(out, head) == 6);
  CHECK(head.masked);
  CHECK(head.fin);
  CHECK(head.key == 0x01020304);
  CHECK(head.size == 3);
}

TEST_CASE("unmasking by words is XOR byte by byte, at every size, phase and alignment", "[ws_frame]") {
  const unsigned char ring[4] = {0x12, 0xFF, 0x00, 0x9A};
  std::uint32_t key;
  std::memcpy(&key, ring, 4);
  for (std::size_t size = 0; size < 100; ++size) {
    for (std::size_t phase = 0; phase < 4; ++phase) {
      for (std::size_t alignment = 0; alignment < 8; ++alignment) {
        std::string bytes(alignment + size, '\0'), expected(size, '\0');
        for (std::size_t i = 0; i < size; ++i) {
          bytes[alignment + i] = static_cast<char>(i * 37);
          expected[i] = static_cast<char>(static_cast<unsigned char>(i * 37) ^ ring[(phase + i) % 4]);
        }
        unmask(bytes.data() + alignment, size, key, phase);
        if (bytes.substr(alignment) != expected)
          FAIL("size " << size << " phase " << phase << " alignment " << alignment);
      }
    }
  }
}

TEST_CASE("unmasking in two parts is unmasking at once", "[ws_frame]") {
  std::string whole(77, 'x');
  unmask(whole.data(), whole.size(), 0xDEADBEEF);
  for (std::size_t cut = 0; cut <= 77; ++cut) {
    std::string parts(77, 'x');
    unmask(parts.data(), cut, 0xDEADBEEF);
    unmask(parts.data() + cut, 77 - cut, 0xDEADBEEF, cut);
    if (parts != whole) FAIL("cut at " << cut);
  }
  CHECK(whole != std::string(77, 'x'));
}

TEST_CASE("close codes are valid as RFC 6455 and its registry say", "[ws_frame]") {
  for (unsigned code = 0; code <= 0xFFFF; ++code) {
    bool registered = code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
    if (valid_close_code(static_cast<std::uint16_t>(code)) != (registered || (code >= 3000 && code <= 4999)))
      FAIL(code);
  }
}

TEST_CASE("a close frame carries its code and reason, or nothing", "[ws_frame]") {
  std::string out;
  append_close(out, 1000);
  CHECK(out == "\x88\x02\x03\xE8");
  out.clear();
  append_close(out, 4410, "gap");
  CHECK(out == "\x88\x05\x11\x3Agap");
  out.clear();
  append_close(out, ws_no_code, "not sent");
  CHECK(out == "\x88\x00"s);
}

TEST_CASE("a close reason that is not UTF-8 is left out", "[ws_frame]") {
  CHECK(close_payload(4403, "caf\xE9") == "\x11\x33");
  CHECK(close_payload(4403, std::string(200, '\x80')) == "\x11\x33");
  CHECK(close_payload(4403, "caf\xC3\xA9").substr(2) == "caf\xC3\xA9");
}

TEST_CASE("a close reason is cut to 123 bytes between characters", "[ws_frame]") {
  CHECK(close_payload(1000, std::string(123, 'x')).size() == 125);
  CHECK(close_payload(1000, std::string(200, 'x')).size() == 125);
  std::string reason(122, 'x');
  CHECK(close_payload(1000, reason + "\xC3\xA4").substr(2) == reason);
  CHECK(close_payload(1000, reason.substr(1) + "\xC3\xA4zzz").substr(2) == reason.substr(1) + "\xC3\xA4");
  CHECK(close_payload(1000, reason.substr(1) + "\xF0\x9F\x98\x80").substr(2) == reason.substr(1));
}
