// SPDX-License-Identifier: BSL-1.0
// What a client is given of the past, wherever its cursor stands: the same on all four transports.
#include <nlohmann/json.hpp>

#include "detail/connection/stage.hpp"

using namespace stage;
using nlohmann::json;

namespace {

const lines transports = {"websocket", "sse", "long poll", "short poll"};

/// What a client of one transport was told, in words that are the same for all: gaps, offsets, and where it then
/// stands.
struct follower {
  follower(house& h, std::string how, std::string name) : how_(std::move(how)), channel_(std::move(name)), c_(h) {}

  /// Follows from `since`, the first time, or goes on from where it stands.
  std::string follow(const std::string& since) {
    std::string query = "?channel=" + channel_ + "&since=" + since;
    if (how_ == "websocket") return words(objects(c_.join(query)));
    if (how_ == "sse") return words(objects(c_.open(event_stream(query))));
    return poll(query);
  }
  /// What has come since.
  std::string more() {
    if (how_ == "websocket") return words(objects(c_.hear()));
    if (how_ == "sse") return words(objects(c_.take()));
    return poll("?channel=" + channel_ + "&since=" + at_);
  }
  /// Some transports bring all at once, a poll says that there is more.
  std::string rest() {
    std::string out;
    while (more_) out += more() + ", ";
    return out;
  }
  std::string command(const std::string& text) {
    if (how_ == "websocket") {
      auto heard = c_.say(text).hear();
      REQUIRE(heard.size() == 1);
      return heard[0].substr(5);
    }
    return client(*c_.at).ask(post("", '[' + text + ']')).body;
  }

 private:
  std::string poll(std::string query) {
    if (how_ == "long poll") query += "&wait=20";
    c_.send(get("/live" + query));
    if (c_.c->received.empty()) c_.at->advance(20'000);  // held to its end: nothing to tell
    auto a = read_answer(c_.take());
    REQUIRE(a.status == 200);
    json body = json::parse(a.body);
    std::vector<json> all;
    for (auto& o : body["notices"]) all.push_back(o);
    for (auto& o : body["messages"]) all.push_back(o);
    std::string out = words(all, body["cursor"]);
    more_ = body.contains("more");
    return out;
  }
  static std::vector<json> objects(const lines& frames) {
    std::vector<json> out;
    for (auto& line : frames) out.push_back(json::parse(line.substr(5)));
    return out;
  }
  static std::vector<json> objects(const std::string& events) {
    std::vector<json> out;
    for (std::size_t at = 0; (at = events.find("data: ", at)) != events.npos;) {
      auto end = events.find('\n', at);
      out.push_back(json::parse(events.substr(at + 6, end - at - 6)));
      at = end;
    }
    return out;
  }
  std::string words(const std::vector<json>& all, const std::string& cursor = {}) {
    std::string out;
    bool recovered = false, opened = false, gap = false;
    for (const json& o : all) {
      if (o.contains("open")) {
        const json& entry = o["open"]["channels"][channel_];
        stand(entry["epoch"], entry["offset"].get<int>());
        opened = true;
        recovered = entry["recovered"];
      } else if (o.contains("gap")) {
        const json& g = o["gap"];
        CHECK(g["channel"] == channel_);
        gap = true;
        out += "gap " + g["reason"].get<std::string>() + ' ' + g["epoch"].get<std::string>() + '.' +
               std::to_string(g["next"].get<int>()) + ", ";
        stand(g["epoch"], g["next"].get<int>() - 1);
      } else {
        int offset = o["offset"];
        out += std::to_string(offset) + ' ';
        if (!epoch_.empty()) stand(epoch_, offset);
      }
    }
    if (opened) CHECK(recovered == !gap);
    if (!cursor.empty()) at_ = cursor;
    return out + "at " + at_;
  }
  void stand(std::string epoch, int offset) {
    epoch_ = std::move(epoch);
    at_ = epoch_ + '.' + std::to_string(offset);
  }

  std::string how_, channel_, epoch_, at_;
  bool more_ = false;
  client c_;
};

}  // namespace

TEST_CASE("where a cursor stands decides what is replayed and what is a gap, the same on every transport") {
  struct {
    std::string channel, since, told;
  } const cases[] = {
      // 5 to 9 are kept
      {"kept", "earliest", "5 6 7 8 9 at kept-1.9"},
      {"kept", "received", "gap trimmed kept-1.5, 5 6 7 8 9 at kept-1.9"},  // a device that has received nothing
      {"kept", "latest", "at kept-1.9"},
      {"kept", "kept-1.9", "at kept-1.9"},
      {"kept", "kept-1.8", "9 at kept-1.9"},
      {"kept", "kept-1.5", "6 7 8 9 at kept-1.9"},
      {"kept", "kept-1.4", "5 6 7 8 9 at kept-1.9"},  // exactly before the oldest: nothing is missing
      {"kept", "kept-1.3", "gap trimmed kept-1.5, 5 6 7 8 9 at kept-1.9"},
      {"kept", "kept-1.0", "gap trimmed kept-1.5, 5 6 7 8 9 at kept-1.9"},
      {"kept", "kept-1.10", "gap epoch kept-1.5, 5 6 7 8 9 at kept-1.9"},  // above the head
      {"kept", "kept-0.7", "gap epoch kept-1.5, 5 6 7 8 9 at kept-1.9"},   // of another life
      // 1 to 3 were there, and are all gone
      {"gone", "earliest", "at gone-1.3"},
      {"gone", "latest", "at gone-1.3"},
      {"gone", "gone-1.3", "at gone-1.3"},
      {"gone", "gone-1.2", "gap trimmed gone-1.4, at gone-1.3"},
      {"gone", "gone-1.4", "gap epoch gone-1.4, at gone-1.3"},
      {"gone", "gone-0.3", "gap epoch gone-1.4, at gone-1.3"},
      // never published to
      {"new", "earliest", "at new-1.0"},
      {"new", "latest", "at new-1.0"},
      {"new", "new-1.0", "at new-1.0"},
      {"new", "new-1.1", "gap epoch new-1.1, at new-1.0"},
      {"new", "new-0.7", "gap epoch new-1.1, at new-1.0"},
  };
  for (const std::string& transport : transports) {
    for (const auto& k : cases) {
      INFO(transport << " follows " << k.channel << " since " << k.since);
      house h;
      for (int i = 1; i <= 9; ++i) h.publish("kept", std::to_string(i));
      for (int i = 1; i <= 3; ++i) h.publish("gone", std::to_string(i));
      h.store.trim("kept", 5);
      h.store.trim("gone", 0);
      follower f(h, transport, k.channel);
      CHECK(f.follow(k.since) == k.told);
      // What is published next comes next.
      h.publish(k.channel, "0");
      std::string next = k.channel == "kept" ? "10" : k.channel == "gone" ? "4" : "1";
      CHECK(f.more() == next + " at " + k.channel + "-1." + next);
    }
  }
}

TEST_CASE("a log that begins anew under a client that follows is a gap on every transport, and its messages come") {
  for (const std::string& transport : transports) {
    INFO(transport);
    house h;
    for (int i = 1; i <= 3; ++i) h.publish("chat", std::to_string(i));
    follower f(h, transport, "chat");
    CHECK(f.follow("earliest") == "1 2 3 at chat-1.3");
    h.store.restart("chat");
    h.publish("chat", "1");
    h.publish("chat", "2");
    CHECK(f.more() == "gap epoch chat-2.1, 1 2 at chat-2.2");
    h.publish("chat", "3");
    CHECK(f.more() == "3 at chat-2.3");
  }
}

TEST_CASE("more than an answer holds comes with the next, on streams at once") {
  options o;
  o.poll_messages = 4;
  for (const std::string& transport : transports) {
    INFO(transport);
    house h(o);
    for (int i = 1; i <= 10; ++i) h.publish("chat", std::to_string(i));
    follower f(h, transport, "chat");
    if (transport.ends_with("poll")) {
      CHECK(f.follow("earliest") == "1 2 3 4 at chat-1.4");
      CHECK(f.rest() == "5 6 7 8 at chat-1.8, 9 10 at chat-1.10, ");
    } else {
      CHECK(f.follow("earliest") == "1 2 3 4 5 6 7 8 9 10 at chat-1.10");
    }
  }
}

TEST_CASE("the command history gives the same in both directions, as a frame and by POST beside the other transports") {
  for (const std::string& transport : transports) {
    house h;
    for (int i = 1; i <= 9; ++i) h.publish("kept", std::to_string(i));
    for (int i = 1; i <= 3; ++i) h.publish("gone", std::to_string(i));
    h.store.trim("kept", 5);
    h.store.trim("gone", 0);
    follower f(h, transport, "other");
    f.follow("latest");
    auto ask = [&](const std::string& channel, const std::string& more) {
      json r = json::parse(f.command(R"({"id":1,"history":{"channel":")" + channel + '"' + more + "}}"));
      if (r.is_array()) r = r[0];
      CHECK(r["reply"] == 1);
      if (r.contains("error")) return r["error"]["code"].get<std::string>();
      std::string out;
      for (auto& m : r["ok"]["messages"]) out += std::to_string(m["offset"].get<int>()) + ' ';
      CHECK(r["ok"]["epoch"] == channel + "-1");
      return out + (r["ok"]["more"] ? "more" : "all");
    };
    INFO(transport);
    CHECK(ask("kept", "") == "5 6 7 8 9 all");
    CHECK(ask("kept", R"(,"limit":2)") == "8 9 more");
    CHECK(ask("kept", R"(,"after":0)") == "5 6 7 8 9 all");
    CHECK(ask("kept", R"(,"after":0,"limit":2)") == "5 6 more");
    CHECK(ask("kept", R"(,"after":4,"limit":5)") == "5 6 7 8 9 all");
    CHECK(ask("kept", R"(,"after":7)") == "8 9 all");
    CHECK(ask("kept", R"(,"after":9)") == "all");
    CHECK(ask("kept", R"(,"after":99)") == "all");
    CHECK(ask("kept", R"(,"before":9,"limit":2)") == "7 8 more");
    CHECK(ask("kept", R"(,"before":7,"limit":2)") == "5 6 all");
    CHECK(ask("kept", R"(,"before":5)") == "all");
    CHECK(ask("kept", R"(,"before":2)") == "all");
    CHECK(ask("kept", R"(,"before":99,"limit":1)") == "9 more");
    CHECK(ask("kept", R"(,"epoch":"kept-1","after":8)") == "9 all");
    CHECK(ask("kept", R"(,"epoch":"kept-0","after":8)") == "not_found");
    CHECK(ask("gone", "") == "all");
    CHECK(ask("gone", R"(,"after":0)") == "all");
    CHECK(ask("new", "") == "all");
    CHECK(ask("new", R"(,"before":3)") == "all");
    CHECK(ask("secret", "") == "forbidden");
  }
}

TEST_CASE("JSON with raw line breaks that another program wrote into the storage breaks no transport's framing") {
  house h;
  draft d;
  d.at = 1;
  for (const char* text : {"{\"a\":\n1,\r\n\"b\":2}", "\r[\n]", "\n\ndata: \"no\""}) {
    d.data = payload::json(text);
    h.store.async_append("chat", d, append_handler([](append_result) {}));
  }
  const lines due = {R"("data":{"a": 1,  "b":2}})", R"("data": [ ]})", R"("data":  data: "no"})"};
  auto sse = client(h).open(event_stream("?channel=chat&since=earliest"));
  auto nd = client(h).open(json_lines("?channel=chat&since=earliest"));
  std::string ws;
  for (auto& line : client(h).join("?channel=chat&since=earliest")) ws += line + '\n';
  auto poll = client(h).ask(get("/live?channel=chat&since=earliest")).body;
  auto history = client(h).ask(post("", R"({"history":{"channel":"chat"}})")).body;
  for (const auto& part : due)
    for (const auto* text : {&sse, &nd, &ws, &poll, &history}) CHECK(text->find(part) != text->npos);
  for (const auto* text : {&poll, &history}) CHECK(text->find_first_of("\r\n") == text->npos);
  CHECK(std::count(nd.begin(), nd.end(), '\n') == 4);  // open, and three messages
  CHECK(sse.find('\r') == sse.npos);
  CHECK(client(h).join("?channel=chat&since=earliest", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n").at(1) ==
        "text  [ ]");
  // What is missing here and read from the storage live.
  client live(h);
  live.open(json_lines("?channel=chat"));
  d.data = payload::json("[\n4]");
  h.store.async_append("chat", d, append_handler([](append_result) {}));
  h.publish("chat", "5");
  auto heard = live.take();
  CHECK(heard.find("\"data\":[ 4]}\n") != heard.npos);
  CHECK(heard.find("\"data\":5}\n") != heard.npos);
}
