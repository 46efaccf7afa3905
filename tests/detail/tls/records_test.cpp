// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/tls/records.hpp"

#include <vector>

#include "gnutls_records.hpp"
#include "tls_wire.hpp"

using namespace tls_wire;

namespace {

std::string from_hex(std::string_view digits) {
  std::string out;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    out += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  return out;
}
std::string to_hex(std::span<const unsigned char> bytes) {
  std::string out;
  for (unsigned char b : bytes) out += {"0123456789abcdef"[b >> 4], "0123456789abcdef"[b & 15]};
  return out;
}
void use(tls_keys& k, std::string_view secret) {
  std::copy(secret.begin(), secret.end(), reinterpret_cast<char*>(k.secret.data()));
}
std::string update(int asked) { return {24, 0, 0, 1, static_cast<char>(asked)}; }
constexpr std::string_view unexpected("\2\12", 2), overflow("\2\26", 2);

/// A server's records and a peer that has the keys and keeps no rule.
struct both {
  explicit both(std::uint16_t id = 0x1301, std::size_t most = hailwire::detail::tls_record_content)
      : suite(tls_suite::make(id)), theirs(tls_suite::make(id)) {
    for (auto* k : {&server.in, &out}) k->secret.fill(1);
    for (auto* k : {&server.out, &in}) k->secret.fill(2);
    REQUIRE(server.begin(*suite, 0, most));
    REQUIRE(theirs->derive(in));
    REQUIRE(theirs->derive(out));
  }
  std::string record(std::uint8_t type, std::string_view content) {
    std::string made;
    const std::span<const char> piece(content);
    REQUIRE(theirs->seal(out, type, {&piece, 1}, made));
    return made;
  }
  std::string new_key(int asked) {
    auto made = record(22, update(asked));
    REQUIRE(theirs->update(out));
    return made;
  }
  /// What the server reads of them in one read.
  std::string give(const std::string& bytes) {
    std::vector<char> into(bytes.size() + 1);
    std::size_t produced = 0, used = server.receive(bytes, into, produced, reply, second);
    CHECK((used == bytes.size() || server.now() != tls_record_layer::state::open));
    return {into.data(), produced};
  }
  /// What it has answered since, a line `type:content` in hexadecimal digits for each record; follows its keys.
  std::vector<std::pair<int, std::string>> answers() {
    std::vector<std::pair<int, std::string>> all;
    std::string_view rest = reply;
    while (rest.size() >= 5) {
      std::size_t size = 5 + (static_cast<std::size_t>(static_cast<unsigned char>(rest[3])) << 8 |
                              static_cast<unsigned char>(rest[4]));
      std::vector<char> into(size);
      auto opened = theirs->open(in, rest.substr(0, size), into.data());
      REQUIRE(opened);
      all.emplace_back(into[*opened - 1], std::string(into.data(), *opened - 1));
      if (all.back().first == 22) REQUIRE(theirs->update(in));
      rest.remove_prefix(size);
    }
    reply.clear();
    return all;
  }
  std::unique_ptr<tls_suite> suite, theirs;
  tls_record_layer server;
  tls_keys in, out;
  std::string reply;
  std::int64_t second = 1'000'000;
};
/// In order, which `+` would not promise.
std::string joined(std::initializer_list<std::string> all) {
  std::string out;
  for (auto& one : all) out += one;
  return out;
}
using lines = std::vector<std::pair<int, std::string>>;

}  // namespace

TEST_CASE("keys and records are those of RFC 8448") {
  // Section 3: "derive write traffic keys for application data", "send application_data record", "send alert record".
  auto suite = tls_suite::make(0x1301);
  tls_keys server, client, reading;
  use(server, from_hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"));
  use(client, from_hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"));
  reading.secret = client.secret;
  for (auto* k : {&server, &client, &reading}) REQUIRE(suite->derive(*k));
  CHECK(to_hex(std::span(server.key).first(16)) == "9f02283b6c9c07efc26bb9f2ac92e356");
  CHECK(to_hex(server.iv) == "cf782b88dd83549aadf1e984");
  CHECK(to_hex(std::span(client.key).first(16)) == "17422dda596ed5d9acd890e3c63f5051");
  CHECK(to_hex(client.iv) == "5b78923dee08579033e523d9");
  CHECK_FALSE(tls_suite::make(0x1304));

  std::string content;
  for (char c = 0; c < 0x32; ++c) content += c;
  auto sealed = [&](tls_keys& k, std::uint8_t type, std::string_view text) {
    std::string out;
    const std::span<const char> piece(text);
    REQUIRE(suite->seal(k, type, {&piece, 1}, out));
    return out;
  };
  server.sequence = 1;  // the session ticket was the first
  CHECK(sealed(server, 23, content) == from_hex("17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30ef"
                                                "af97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c"
                                                "2955d"));
  const auto data = from_hex(
      "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2"
      "977014bd1e3deae63aeebb21694915e4");
  const auto alert = from_hex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3");
  CHECK(sealed(client, 23, content) == data);
  CHECK(sealed(client, 21, std::string_view("\1\0", 2)) == alert);
  char into[128];
  auto size = suite->open(reading, data, into);
  REQUIRE(size);
  CHECK(std::string(into, *size) == content + "\x17");
  size = suite->open(reading, alert, into);
  REQUIRE(size);
  CHECK(std::string_view(into, *size) == std::string_view("\1\0\x15", 3));
}

TEST_CASE("records that GnuTLS has sealed are opened, padded or not, through its key updates, and ours are its own") {
  for (const auto& c : gnutls::connections) {
    INFO(std::hex << c.suite);
#ifdef OPENSSL_NO_CHACHA20
    if (c.suite == 0x1303) continue;
#endif
    auto suite = tls_suite::make(c.suite);
    REQUIRE(suite);
    for (bool client : {true, false}) {
      tls_record_layer reading;
      tls_keys sealing;
      use(reading.in, from_hex(client ? c.client_secret : c.server_secret));
      sealing.secret = reading.in.secret;
      REQUIRE(reading.begin(*suite, 0));
      REQUIRE(suite->derive(sealing));
      int records = 0;
      for (const auto& r : c.records) {
        if (r.client != client) continue;
        ++records;
        auto bytes = from_hex(r.sealed), content = from_hex(r.content);
        std::vector<char> into(bytes.size());
        std::size_t produced = 0;
        std::string reply;
        CHECK(reading.receive(bytes, into, produced, reply, 0) == bytes.size());
        CHECK(std::string(into.data(), produced) == (r.type == 23 ? content : ""));
        CHECK(reply.empty());
        CHECK(reading.now() == tls_record_layer::state::open);
        // Content, its type, zeros: with padding, the type that is sealed last is the last of the zeros.
        std::string padding = r.padding ? std::string(1, static_cast<char>(r.type)) +
                                              std::string(static_cast<std::size_t>(r.padding) - 1, '\0')
                                        : "";
        const std::span<const char> pieces[] = {content, padding};
        std::string ours;
        REQUIRE(suite->seal(sealing, r.padding ? 0 : r.type, pieces, ours));
        CHECK(ours == bytes);
        if (r.type == 22) REQUIRE(suite->update(sealing));
      }
      CHECK(records == 15);
    }
  }
}

TEST_CASE("a key is replaced before it has sealed more than it is good for") {
  both b;
  auto first = b.server.out.secret;
  constexpr std::uint64_t good_for = std::uint64_t{1} << 24;
  b.server.out.sequence = b.in.sequence = good_for - 1;
  for (int i = 0; i < 4; ++i) {
    const std::span<const char> piece("hello", 5);
    REQUIRE(b.server.seal({&piece, 1}, b.reply));
    CHECK(b.server.out.sequence == (i == 0 ? good_for : static_cast<std::uint64_t>(i)));
    CHECK((b.server.out.secret == first) == (i == 0));
    CHECK(b.answers() == (i == 1 ? lines{{22, update(0)}, {23, "hello"}} : lines{{23, "hello"}}));
  }
}

TEST_CASE("a KeyUpdate that is asked for is answered, also when the farewell came in the same read") {
  both b;
  CHECK(b.give(joined({b.new_key(1), b.record(23, "x"), b.record(21, std::string_view("\1\0", 2))})) == "x");
  CHECK(b.server.now() == tls_record_layer::state::ended);
  const std::span<const char> piece("after", 5);
  REQUIRE(b.server.seal({&piece, 1}, b.reply));
  CHECK(b.answers() == lines{{22, update(0)}, {23, "after"}});
}

TEST_CASE("nothing is sealed behind close_notify, not even the answer to a KeyUpdate") {
  both b;
  b.server.close(b.reply);
  CHECK(b.answers() == lines{{21, std::string("\1\0", 2)}});
  CHECK(b.give(joined({b.new_key(1), b.record(23, "more")})) == "more");
  CHECK(b.reply.empty());
  CHECK(b.server.now() == tls_record_layer::state::open);
  const std::span<const char> piece("x", 1);
  CHECK_FALSE(b.server.seal({&piece, 1}, b.reply));
  b.server.close(b.reply);
  CHECK(b.reply.empty());
}

TEST_CASE("a client that only listens may update its keys for ever, not all at once") {
  both b;
  for (int hour = 0; hour < 500; ++hour) {
    b.give(b.new_key(1));
    REQUIRE(b.server.now() == tls_record_layer::state::open);
    CHECK(b.answers() == lines{{22, update(0)}});
    b.second += 3600;
  }
  for (int i = 0; i < 32; ++i) b.give(b.new_key(0));
  CHECK(b.server.now() == tls_record_layer::state::open);
  b.second += 1;
  b.give(b.new_key(0));
  CHECK(b.server.now() == tls_record_layer::state::open);
  b.give(b.new_key(0));
  CHECK(b.server.now() == tls_record_layer::state::failed);
  CHECK(b.answers() == lines{{21, std::string(unexpected)}});
}

TEST_CASE("KeyUpdates with data in between are answered once a read, and bounded too") {
  both b;
  std::size_t pairs = 0, answered = 0, reads = 0;
  while (b.server.now() == tls_record_layer::state::open && pairs < 60'000) {
    std::string bytes;
    for (int i = 0; i < 650; ++i, ++pairs) bytes += joined({b.new_key(1), b.record(23, "x")});
    b.give(bytes);
    ++reads;
    for (auto& [type, content] : b.answers()) answered += type == 22;
  }
  CHECK(pairs == 1300);
  CHECK(reads == 2);
  CHECK(answered == 1);
  // At their own pace they go on.
  both slow;
  for (int i = 0; i < 3000; ++i, ++slow.second)
    CHECK(slow.give(joined({slow.new_key(0), slow.record(23, "x")})) == "x");
  CHECK(slow.server.now() == tls_record_layer::state::open);
}

TEST_CASE("an agreed fragment length holds for what is received") {
  for (std::size_t most : {512u, 4096u}) {
    both fine(0x1301, most), padded(0x1301, most), over(0x1301, most);
    CHECK(fine.give(fine.record(23, some_text(most))) == some_text(most));
    // The limit is for content (RFC 6066, section 4); padding is the record's.
    CHECK(padded.give(padded.record(0, "x\x17" + std::string(2 * most, '\0'))) == "x");
    CHECK(over.give(over.record(23, some_text(most + 1))).empty());
    CHECK(over.server.now() == tls_record_layer::state::failed);
    CHECK(over.answers() == lines{{21, std::string(overflow)}});
  }
}

TEST_CASE("a key that fails to derive leaves the one before, with its number") {
  both b;
  auto before = b.out.sequence = 7;
  auto key = b.out.key;
  tls_keys none;
  std::string out;
  const std::span<const char> piece("x", 1);
  CHECK_FALSE(b.theirs->seal(none, 23, {&piece, 1}, out));  // keys that were never derived seal nothing
  CHECK(out.empty());
  tls_keys fresh;
  REQUIRE(b.theirs->next(b.out, fresh));
  CHECK(b.out.sequence == before);
  CHECK(b.out.key == key);
  b.theirs->install(b.out, fresh);
  CHECK(b.out.sequence == 0);
  CHECK(b.out.key != key);
}
