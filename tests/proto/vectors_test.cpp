// SPDX-License-Identifier: BSL-1.0
//
// The page of the protocol, include/hailwire/proto/README.md, and the vectors beside it are held to what the library
// does.
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hailwire/message.hpp"
#include "hailwire/proto/command.hpp"
#include "hailwire/proto/envelope.hpp"

using namespace hailwire;
using nlohmann::json;

namespace {

std::string read_file(const std::string& name) {
  std::ifstream in(std::string(HAILWIRE_SOURCE_DIR) + "/include/hailwire/proto/" + name);
  std::stringstream text;
  text << in.rdbuf();
  REQUIRE(!text.str().empty());
  return text.str();
}

/// The one-line examples of the page between "```json KIND" and "```".
std::vector<std::string> examples(std::string_view kind) {
  std::vector<std::string> found;
  std::istringstream page(read_file("README.md"));
  const std::string fence = "```json " + std::string(kind);
  for (std::string line; std::getline(page, line);) {
    if (line != fence) continue;
    REQUIRE(std::getline(page, line));
    found.push_back(line);
  }
  return found;
}

}  // namespace

TEST_CASE("names of the vectors are channels or are not") {
  const json vectors = json::parse(read_file("vectors.json"));
  for (const auto& name : vectors.at("channels").at("valid")) {
    CAPTURE(name);
    CHECK(valid_channel(name.get<std::string>()));
  }
  for (const auto& name : vectors.at("channels").at("invalid")) {
    CAPTURE(name);
    CHECK_FALSE(valid_channel(name.get<std::string>()));
  }
}

TEST_CASE("cursors of the vectors are read as they say") {
  const json vectors = json::parse(read_file("vectors.json"));
  for (const auto& vector : vectors.at("cursors")) {
    CAPTURE(vector.dump());
    auto read = parse_cursor(vector.at("text").get<std::string>(), vector.at("channels").get<std::size_t>());
    REQUIRE(bool(read) == !vector.contains("error"));
    if (!read) continue;
    REQUIRE(read->size() == vector.at("elements").size());
    for (std::size_t i = 0; i < read->size(); ++i) {
      const auto& wanted = vector.at("elements")[i];
      const start& s = (*read)[i];
      if (wanted.contains("word")) {
        const std::string word = wanted.at("word");
        CHECK(s.from == (word == "latest"     ? start::word::latest
                         : word == "earliest" ? start::word::earliest
                                              : start::word::received));
      } else {
        CHECK(s.from == start::word::at);
        CHECK(s.at.epoch == wanted.at("epoch").get<std::string>());
        CHECK(s.at.offset == wanted.at("offset").get<std::uint64_t>());
      }
    }
  }
}

TEST_CASE("commands of the vectors and of the page are taken or refused as they say") {
  const json vectors = json::parse(read_file("vectors.json"));
  auto taken = examples("command");
  CHECK(taken.size() >= 6);
  for (const auto& text : vectors.at("commands").at("valid")) taken.push_back(text);
  for (const auto& text : taken) {
    CAPTURE(text);
    auto read = proto::read_command(text);
    CHECK(read);
    if (read) CHECK(read->what != proto::command::verb::other);
  }
  for (const auto& text : vectors.at("commands").at("invalid")) {
    CAPTURE(text);
    CHECK_FALSE(proto::read_command(text.get<std::string>()));
  }
}

TEST_CASE("messages of the page are written by the library byte for byte") {
  const auto all = examples("message");
  CHECK(all.size() >= 2);
  for (const auto& text : all) {
    const json m = json::parse(text);
    message made;
    made.offset = m.at("offset");
    made.at = m.at("at");
    made.from = m.value("from", "");
    made.type = m.value("type", "");
    made.data = m.contains("bytes") ? payload::binary(*proto::decode_base64(m.at("bytes").get<std::string>()))
                                    : payload::json(m.at("data").dump());
    std::string out;
    proto::append_message(out, m.at("channel").get<std::string>(), made);
    CHECK(out == text);
  }
}

TEST_CASE("notices, answers and replies of the page are JSON objects; a notice has one member") {
  for (const auto& text : examples("notice")) CHECK(json::parse(text).size() == 1);
  for (const auto& text : examples("answer")) CHECK(json::parse(text).contains("cursor"));
  for (const auto& text : examples("reply")) {
    const json reply = json::parse(text);
    CHECK((reply.contains("reply") && reply.contains("ok") != reply.contains("error")));
  }
}

TEST_CASE("the error codes of the page are those of the library, with their status") {
  const std::string page = read_file("README.md");
  for (int i = 1; code_name(static_cast<errc>(i)) != "internal"; ++i) {
    const auto code = static_cast<errc>(i);
    CAPTURE(code_name(code));
    const auto at = page.find('`' + std::string(code_name(code)) + '`', page.find("## Errors"));
    REQUIRE(at != page.npos);
    const auto status = page.find(" | ", at);
    CHECK(page.substr(status + 3, 3) == std::to_string(http_status(code)));
  }
}
