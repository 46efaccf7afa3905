// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/command.hpp"

#include <nlohmann/json.hpp>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::proto;
using namespace std::string_literals;
using verb = command::verb;

namespace {

command read_good(std::string_view text) {
  auto c = read_command(text);
  CAPTURE(text, c ? "" : c.error().message);
  REQUIRE(c);
  return std::move(*c);
}

/// The sentence with which `text` is refused; every one of them comes with its code.
std::string refusal(std::string_view text, errc code = errc::bad_request) {
  auto c = read_command(text);
  CAPTURE(text);
  REQUIRE_FALSE(c);
  CHECK(c.error().code == code);
  CHECK_FALSE(c.error().message.empty());
  CHECK(valid_utf8(c.error().message));
  return c.error().message;
}

bool names(const std::string& sentence, std::string_view member) {
  return sentence.find("\"" + std::string(member) + "\"") != sentence.npos;
}

}  // namespace

TEST_CASE("reads a publish with everything it can carry") {
  const auto text =
      R"( {"id":1,"publish":{"channel":"chat","data":{"a":[1.0, "x\n"]} ,"type":"note","key":"k-1","ephemeral":false}} )"s;
  auto c = read_good(text);
  CHECK(c.id == "1");
  CHECK(c.what == verb::publish);
  CHECK(c.name == "publish");
  CHECK(c.body.front() == '{');
  CHECK(c.body.back() == '}');
  CHECK(c.channel == "chat");
  CHECK(c.has_data);
  CHECK(c.data == R"({"a":[1.0, "x\n"]})");
  CHECK_FALSE(c.has_bytes);
  CHECK(c.type == "note");
  CHECK(c.key == "k-1");
  CHECK_FALSE(c.ephemeral);
  CHECK(c.data.data() == text.data() + text.find("{\"a\""));
}

TEST_CASE("takes any JSON as a publish's data, null too") {
  for (auto data : {"null", "false", "0", "\"\"", "\"\\ud800\"", "[]", "{}", "[\r\n1]", "{\"a\":1,\"a\":2}", "1e999"}) {
    auto text = R"({"publish":{"channel":"a","data":)" + std::string(data) + "}}";
    auto c = read_good(text);
    CHECK(c.has_data);
    CHECK(c.data == data);
    CHECK(c.id.empty());
    CHECK(c.type.empty());
    CHECK(c.key.empty());
    CHECK_FALSE(c.ephemeral);
  }
}

TEST_CASE("decodes a publish's bytes from base64") {
  auto c = read_good(R"({"publish":{"channel":"a","bytes":"AAH\/\u002Fw=="}})");
  CHECK(c.has_bytes);
  CHECK_FALSE(c.has_data);
  CHECK(c.bytes == "\x00\x01\xFF\xFF"s);
  CHECK(read_good(R"({"publish":{"channel":"a","bytes":""}})").has_bytes);
  for (auto bytes :
       {"\"A\"", "\"AAA\"", "\"AAB=\"", "\"AA==AAAA\"", "\"AA A\"", "\"_-==\"", "null", "[1]", "7", "\"\\ud800\""}) {
    CHECK(names(refusal(R"({"publish":{"channel":"a","bytes":)" + std::string(bytes) + "}}"), "bytes"));
  }
}

TEST_CASE("wants exactly one of data and bytes") {
  auto both = refusal(R"({"publish":{"channel":"a","data":1,"bytes":"AA=="}})");
  CHECK(names(both, "data"));
  CHECK(names(both, "bytes"));
  auto none = refusal(R"({"publish":{"channel":"a"}})");
  CHECK(names(none, "data"));
  CHECK(names(none, "bytes"));
}

TEST_CASE("checks a publish's type, key and ephemeral") {
  auto with = [](const std::string& rest) { return R"({"publish":{"channel":"a","data":1,)" + rest + "}}"; };
  CHECK(read_good(with(R"("type":"é 😀")")).type == "é 😀");
  CHECK(read_good(with("\"type\":\"" + std::string(64, 'x') + "\"")).type.size() == 64);
  for (auto type :
       {"\"\"", "\"a\\nb\"", "\"\\u0000\"", "\"\\u0085\"", "\"\\u2028\"", "\"\\ud800\"", "null", "1", "[\"a\"]"})
    CHECK(names(refusal(with("\"type\":" + std::string(type))), "type"));
  CHECK(names(refusal(with("\"type\":\"" + std::string(65, 'x') + "\"")), "type"));
  CHECK(names(refusal(with("\"type\":\"" + std::string(63, 'x') + "é\"")), "type"));

  CHECK(read_good(with(R"("key":"!~\"\\a")")).key == "!~\"\\a");
  CHECK(read_good(with("\"key\":\"" + std::string(64, 'x') + "\"")).key.size() == 64);
  for (auto key : {"\"\"", "\"a b\"", "\"é\"", "\"\\u007f\"", "\"\\n\"", "null", "1", "{}"})
    CHECK(names(refusal(with("\"key\":" + std::string(key))), "key"));
  CHECK(names(refusal(with("\"key\":\"" + std::string(65, 'x') + "\"")), "key"));

  CHECK_FALSE(read_good(with(R"("ephemeral":false)")).ephemeral);
  for (auto flag : {"null", "1", "\"true\"", "[]"})
    CHECK(names(refusal(with("\"ephemeral\":" + std::string(flag))), "ephemeral"));
}

TEST_CASE("wants a valid channel wherever a command takes one") {
  for (std::string v : {"publish", "subscribe", "unsubscribe", "history", "presence", "received", "read"}) {
    CAPTURE(v);
    auto with = [&](const std::string& channel) {
      return "{\"" + v + "\":{" + channel + "\"data\":1,\"epoch\":\"e\",\"offset\":1}}";
    };
    CHECK(read_good(with("\"channel\":\"@\\u0061d\u00e4 \",")).channel == "@ad\u00e4 ");
    CHECK(read_good(with("\"channel\":\"" + std::string(255, 'x') + "\",")).channel.size() == 255);
    CHECK(names(refusal(with("")), "channel"));
    for (auto channel : {"\"\"", "\"a\\nb\"", "\"\\u0000\"", "\"\\u007F\"", "\"\\u009f\"", "\"\\u2029\"", "\"\\udc00\"",
                         "null", "1", "[\"a\"]"})
      CHECK(names(refusal(with("\"channel\":" + std::string(channel) + ",")), "channel"));
    CHECK(names(refusal(with("\"channel\":\"" + std::string(256, 'x') + "\",")), "channel"));
  }
}

TEST_CASE("reads where a subscription starts") {
  auto c = read_good(R"({"id":2,"subscribe":{"channel":"chat"}})");
  CHECK(c.what == verb::subscribe);
  CHECK_FALSE(c.since);
  for (auto since : {"latest", "earliest", "received", "e-1.0", "e-1.9007199254740991"})
    CHECK(read_good("{\"subscribe\":{\"channel\":\"a\",\"since\":\"" + std::string(since) + "\"}}").since == since);
  for (auto since : {"\"\"", "\"e\"", "\"e.\"", "\"e.-1\"", "\"e.01\"", "\"latest,latest\"", "\"e.9007199254740992\"",
                     "null", "5"}) {
    auto sentence = refusal("{\"subscribe\":{\"channel\":\"a\",\"since\":" + std::string(since) + "}}");
    CHECK((names(sentence, "since") || sentence.find("cursor") != sentence.npos));
  }
}

TEST_CASE("reads a subscription to several channels") {
  auto c = read_good(R"({"id":2,"subscribe":{"channels":["chat","@\u0061da"],"since":"e-1.5,latest"}})");
  CHECK(c.channel.empty());
  REQUIRE(c.channels.size() == 2);
  CHECK(c.channels[0] == "chat");
  CHECK(c.channels[1] == "@ada");
  CHECK(c.since == "e-1.5,latest");
  CHECK(read_good(R"({"subscribe":{"channels":["a"]}})").channels.size() == 1);
  CHECK(read_good(R"({"subscribe":{"channels":["a","b","c"],"since":"earliest"}})").since == "earliest");
  for (auto bad : {"[]", "null", "\"a\"", "{}", "[1]", "[\"a\",null]", "[[\"a\"]]", "[\"\"]", "[\"a\\nb\"]",
                   "[\"a\",\"b\",\"a\"]", "[\"a\",\"\\u0061\"]", "[\"\\ud800\"]"}) {
    CAPTURE(bad);
    CHECK(names(refusal("{\"subscribe\":{\"channels\":" + std::string(bad) + "}}"), "channels"));
  }
  CHECK(names(refusal(R"({"subscribe":{"channel":"a","channels":["b"]}})"), "channel"));
  for (auto since : {"e.1", "e.1,", "latest,latest,latest", "e.1,newest"}) {
    CAPTURE(since);
    CHECK(refusal(R"({"subscribe":{"channels":["a","b"],"since":")" + std::string(since) + "\"}}").find("cursor") !=
          std::string::npos);
  }
  auto many = [](std::size_t n) {
    std::string text = "{\"subscribe\":{\"channels\":[";
    for (std::size_t i = 0; i < n; ++i) text += (i ? ",\"" : "\"") + std::to_string(i) + '"';
    return text + "]}}";
  };
  CHECK(read_good(many(max_subscribe_channels)).channels.size() == max_subscribe_channels);
  CHECK(names(refusal(many(max_subscribe_channels + 1)), "channels"));
  CHECK(read_good(R"({"unsubscribe":{"channel":"a","channels":["b"]}})").channels.empty());  // not known there
}

TEST_CASE("reads which part of the history is asked for") {
  auto with = [](const std::string& rest) { return R"({"id":4,"history":{"channel":"a")" + rest + "}}"; };
  auto newest = read_good(with(""));
  CHECK(newest.what == verb::history);
  CHECK_FALSE(newest.before);
  CHECK_FALSE(newest.after);
  CHECK_FALSE(newest.limit);
  CHECK_FALSE(newest.epoch);
  auto c = read_good(with(R"(,"before":9007199254740991,"limit":1000,"epoch":"A_z-9")"));
  CHECK(c.before == max_offset);
  CHECK(c.limit == 1000u);
  CHECK(c.epoch == "A_z-9");
  CHECK(read_good(with(R"(,"after":0,"limit":1)")).after == 0u);
  auto both = refusal(with(R"(,"before":3,"after":1)"));
  CHECK(names(both, "before"));
  CHECK(names(both, "after"));
  for (std::string name : {"before", "after"})
    for (auto n : {"-1", "1.0", "1e2", "9007199254740992", "\"1\"", "null", "true"})
      CHECK(names(refusal(with(",\"" + name + "\":" + n)), name));
  for (auto n : {"0", "1001", "-1", "1.5", "\"50\"", "null"}) CHECK(names(refusal(with(",\"limit\":"s + n)), "limit"));
  for (auto e : {"\"\"", "\"a.b\"", "\"é\"", "1", "null"}) CHECK(names(refusal(with(",\"epoch\":"s + e)), "epoch"));
  CHECK(names(refusal(with(",\"epoch\":\"" + std::string(33, 'e') + "\"")), "epoch"));
}

TEST_CASE("reads watermarks, which need an epoch and an offset") {
  CHECK(read_good(R"({"receipts":{"channel":"a"}})").what == verb::receipts);
  CHECK(names(refusal(R"({"read":{"channel":"a","epoch":"e","offset":1,"private":1}})"), "private"));
  for (std::string v : {"received", "read"}) {
    auto with = [&](const std::string& rest) { return "{\"" + v + "\":{\"channel\":\"a\"" + rest + "}}"; };
    auto c = read_good(with(",\"epoch\":\"e-1\",\"offset\":42,\"private\":true"));
    CHECK(c.is_private == (v == "read"));
    CHECK(c.epoch == "e-1");
    CHECK(names(refusal(with(",\"offset\":42")), "epoch"));
    CHECK(names(refusal(with(",\"offset\":42,\"epoch\":\"a.b\"")), "epoch"));
    CHECK(c.what == (v == "read" ? verb::read : verb::received));
    CHECK(c.offset == 42u);
    CHECK(names(refusal(with("")), "offset"));
    for (auto n : {"-1", "4.2e1", "9007199254740992", "\"42\"", "null"})
      CHECK(names(refusal(with(",\"offset\":"s + n)), "offset"));
  }
}

TEST_CASE("reads an erase: which message of which life of the log") {
  auto c = read_good(R"({"id":12,"erase":{"channel":"a","epoch":"e-1_Z","offset":42}})");
  CHECK(c.what == verb::erase);
  CHECK(c.channel == "a");
  CHECK(c.epoch == "e-1_Z");
  CHECK(c.offset == 42u);
  auto with = [](const std::string& rest) { return "{\"erase\":{\"channel\":\"a\"" + rest + "}}"; };
  CHECK(names(refusal(with(",\"epoch\":\"e\"")), "offset"));
  CHECK(names(refusal(with(",\"offset\":1")), "epoch"));
  for (auto n : {"0", "-1", "4.2e1", "9007199254740992", "\"42\"", "null"})
    CHECK(names(refusal(with(",\"epoch\":\"e\",\"offset\":"s + n)), "offset"));
  CHECK(read_good(with(R"(,"epoch":"e","offset":9007199254740991)")).offset == max_offset);
  for (auto e : {"\"\"", "\"a.b\"", "7", "null"}) CHECK(names(refusal(with(",\"offset\":1,\"epoch\":"s + e)), "epoch"));
}

TEST_CASE("reads the commands with few arguments") {
  CHECK(read_good(R"({"unsubscribe":{"channel":"a"}})").what == verb::unsubscribe);
  CHECK(read_good(R"({"id":5,"presence":{"channel":"a"}})").count == false);
  CHECK(read_good(R"({"id":5,"presence":{"channel":"a","count":true}})").count);
  CHECK(names(refusal(R"({"presence":{"channel":"a","count":1}})"), "count"));
  auto renew = read_good(R"({"renew":{"token":"a\"\u00e9"}})");
  CHECK(renew.what == verb::renew);
  CHECK(renew.token == "a\"\u00e9");
  for (auto body : {"{}", R"({"token":null})", R"({"token":1})"})
    CHECK(names(refusal("{\"renew\":"s + body + "}"), "token"));
  auto ping = read_good(R"({"id":9,"ping":{}})");
  CHECK(ping.what == verb::ping);
  CHECK(ping.body == "{}");
  auto device = read_good(R"({"device":{"push":"web","token":{"endpoint":"x"}}})");
  CHECK(device.what == verb::device);
  CHECK(device.body == R"({"push":"web","token":{"endpoint":"x"}})");
}

TEST_CASE("wants an object as the value of each of its own commands") {
  for (std::string v : {"publish", "subscribe", "unsubscribe", "history", "presence", "received", "read", "renew",
                        "device", "erase", "ping"})
    for (auto body : {"null", "true", "1", "\"a\"", "[]"}) CHECK(names(refusal("{\"" + v + "\":" + body + "}"), v));
}

TEST_CASE("ignores members that it does not know, beside the command and in it") {
  auto c = read_good(R"({"trace":{"a":[]},"ping":{"x":1},"v":2})");
  CHECK(c.what == verb::ping);
  CHECK(read_good(R"({"read":{"channel":"a","epoch":"e","offset":1,"since":7,"limit":"x","data":null}})").offset == 1u);
}

TEST_CASE("hands a command it does not know to the host, if there is exactly one") {
  auto c = read_good(R"({"id":"a","move":[1, 2]})");
  CHECK(c.what == verb::other);
  CHECK(c.name == "move");
  CHECK(c.body == "[1, 2]");
  CHECK(c.id == "\"a\"");
  CHECK(read_good(R"({"":null})").body == "null");
  CHECK(read_good(R"({"Publish":1})").what == verb::other);
  refusal("{}");
  refusal(R"({"id":1})");
  refusal(R"({"a":1,"b":2})");
}

TEST_CASE("refuses two commands in one object, and duplicate members on both levels") {
  auto two = refusal(R"({"ping":{},"publish":{"channel":"a","data":1}})");
  CHECK(names(two, "ping"));
  CHECK(names(two, "publish"));
  refusal(R"({"ping":{},"ping":{}})");
  refusal(R"({"ping":{},"pin\u0067":{}})");
  refusal(R"({"id":1,"id":1,"ping":{}})");
  refusal(R"({"publish":{"channel":"a","channel":"b","data":1}})");
  refusal(R"({"publish":{"channel":"a","data":1,"d\u0061ta":2}})");
  refusal(R"({"ping":{},"x":1,"x":2})");
}

TEST_CASE("knows names by their characters, not by how they are written") {
  auto c = read_good(R"({"i\u0064":7,"\u0070ublish":{"\u0063hannel":"a","d\u0061ta":1}})");
  CHECK(c.what == verb::publish);
  CHECK(c.name == "publish");
  CHECK(c.id == "7");
  CHECK(c.channel == "a");
  CHECK(c.data == "1");
}

TEST_CASE("takes any JSON scalar of at most 64 bytes as an id and gives it as it was written") {
  for (auto id : {"1", "-1.50e+3", "null", "true", "false", "\"\"", "\"a\\u0062\\/\"", "\"\\ud800\"", "\"é\""}) {
    auto text = "{\"id\": "s + id + " ,\"ping\":{}}";
    CHECK(read_good(text).id == id);
    CHECK(command_id(text) == id);
  }
  auto quoted = [](std::size_t n) { return "\"" + std::string(n - 2, 'x') + "\""; };
  CHECK(read_good("{\"id\":" + quoted(64) + ",\"ping\":{}}").id == quoted(64));
  for (auto id : {quoted(65), std::string(65, '1'), "[]"s, "{}"s, "[1]"s}) {
    auto text = "{\"id\":" + id + ",\"ping\":{}}";
    CHECK(names(refusal(text), "id"));
    CHECK(command_id(text).empty());
  }
}

TEST_CASE("finds the id of a command that is refused") {
  CHECK(command_id(R"({"id":1,"publish":{}})") == "1");
  CHECK(command_id(R"({"a":1,"b":2,"id":"x"})") == "\"x\"");
  CHECK(command_id(R"({"id":1,"ping":{},"ping":{}})") == "1");
  CHECK(command_id(R"({"id":1,"publish":{"channel":)") == "1");
  CHECK(command_id(R"({"id":1,"id":2})").empty());
  CHECK(command_id(R"({"publish":{"id":1}})").empty());
  CHECK(command_id(R"({"publish":{"channel":},"id":1})").empty());
  CHECK(command_id(R"([{"id":1}])").empty());
  CHECK(command_id("").empty());
  CHECK(command_id("\xFF").empty());
}

TEST_CASE("refuses what is not one JSON object, saying where it stops being one") {
  for (auto text : {"", " ", "1", "[]", "null", "\"ping\"", "{\"ping\":{}", "{\"ping\":{}}{}", "{'ping':{}}",
                    "{\"ping\":{},}", "{\"ping\":{}}\xFF"})
    refusal(text);
  CHECK(refusal(R"({"ping":{}}x)").find("byte 11") != std::string::npos);
  CHECK(refusal(R"({"ping":{"x":1,"x":2}})").find("byte 21") != std::string::npos);
  refusal(R"({"publish":{"channel":"a","data":)" + std::string(65, '[') + std::string(65, ']') + "}}");
  CHECK(
      read_good(R"({"publish":{"channel":"a","data":)" + std::string(64, '[') + std::string(64, ']') + "}}").has_data);
}

TEST_CASE("refuses more members than a command can need as too large") {
  auto members = [](int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += ",\"m" + std::to_string(i) + "\":1";
    return out;
  };
  CHECK(read_good("{\"ping\":{}" + members(63) + "}").what == verb::ping);
  refusal("{\"ping\":{}" + members(64) + "}", errc::too_large);
  CHECK(read_good("{\"ping\":{\"a\":1" + members(63) + "}}").what == verb::ping);
  refusal("{\"ping\":{\"a\":1" + members(64) + "}}", errc::too_large);
}

TEST_CASE("every beginning of a command is refused, and none of them does harm") {
  const auto text =
      R"({"id":"x\u00e9","publish":{"channel":"chat","data":{"a":[1,2]},"type":"é","key":"k","ephemeral":false}})"s;
  REQUIRE(read_command(text));
  for (std::size_t n = 0; n < text.size(); ++n) {
    // A copy of just these bytes: reading past them is then seen by the address sanitizer.
    std::vector<char> part(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(n));
    std::string_view view(part.data(), part.size());
    refusal(view);
    auto id = command_id(view);
    CHECK((id.empty() || id == R"("x\u00e9")"));
  }
}

TEST_CASE("answers with the id as it came, or with null") {
  std::string out = "x";
  append_reply_ok(out, "\"a\\u0062\"", R"({"offset":1})");
  CHECK(out == R"(x{"reply":"a\u0062","ok":{"offset":1}})");
  out.clear();
  append_reply_error(out, "7", {errc::forbidden, "not \"here\"\n"});
  CHECK(out == R"({"reply":7,"error":{"code":"forbidden","message":"not \"here\"\n"}})");
  out.clear();
  append_reply_error(out, {}, {errc::rate_limited, "slow down", 30});
  CHECK(out == R"({"reply":null,"error":{"code":"rate_limited","message":"slow down","retry_after":30}})");
  out.clear();
  append_reply_error(out, {}, {errc::conflict, "\xFF"});
  CHECK(out == R"({"reply":null,"error":{"code":"conflict","message":"same key, other payload"}})");
}

TEST_CASE("writes a problem document for every code") {
  for (int i = 1; i <= static_cast<int>(errc::http_version); ++i) {
    auto code = static_cast<errc>(i);
    std::string out;
    append_problem(out, {code, "so \\ it is"});
    auto doc = nlohmann::json::parse(out);
    CHECK(doc["type"] == "about:blank");
    CHECK(doc["status"] == http_status(code));
    CHECK(doc["code"] == std::string(code_name(code)));
    CHECK(doc["detail"] == "so \\ it is");
    CHECK(doc.size() == 5);
    // Only the code that is a 500 has its title.
    CHECK((doc["title"] == "Internal Server Error") == (code == errc::internal));
  }
  std::string out;
  append_problem(out, errc::forbidden);
  CHECK(out == R"({"type":"about:blank","title":"Forbidden","status":403,"code":"forbidden","detail":"not allowed"})");
}

TEST_CASE("a key does not go with an ephemeral message") {
  CHECK(names(refusal(R"({"publish":{"channel":"c","data":1,"key":"k","ephemeral":true}})"), "key"));
  CHECK(read_good(R"({"publish":{"channel":"c","data":1,"key":"k","ephemeral":false}})").key == "k");
  CHECK(read_good(R"({"publish":{"channel":"c","data":1,"ephemeral":true}})").ephemeral);
}

TEST_CASE("a publish may name an upload in place of a payload, or beside one") {
  auto c = read_command(R"({"publish":{"channel":"c","content":"A-z_0"}})");
  REQUIRE(c);
  CHECK(c->content == "A-z_0");
  CHECK_FALSE(c->has_data);
  c = read_command(R"({"publish":{"channel":"c","content":"x","data":{"text":"look"},"key":"k"}})");
  REQUIRE(c);
  CHECK(c->data == R"({"text":"look"})");
  CHECK(c->key == "k");
  for (auto bad : {R"("")", R"("a/b")", R"("a.b")", "1", "null"}) {
    c = read_command(R"({"publish":{"channel":"c","data":1,"content":)" + std::string(bad) + "}}");
    CHECK_FALSE(c);
  }
  CHECK_FALSE(read_command(R"({"publish":{"channel":"c","content":")" + std::string(65, 'a') + R"("}})"));
  CHECK(read_command(R"({"publish":{"channel":"c","content":")" + std::string(64, 'a') + R"("}})"));
  CHECK_FALSE(read_command(R"({"publish":{"channel":"c","content":"x","ephemeral":true}})"));
  CHECK_FALSE(read_command(R"({"publish":{"channel":"c"}})"));
}
