// SPDX-License-Identifier: BSL-1.0
#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

#include "detail/connection/stage.hpp"

using namespace stage;

namespace {

std::string opening(const std::string& channels, const std::string& user = {}) {
  return R"({"open":{"session":"SSSSSSSSSSS","user":")" + user + R"(","heartbeat":25,"keys":)" +
         (user.empty() ? "0" : "300") + R"(,"channels":{)" + channels + "}}}";
}
std::string entry(const std::string& channel, int offset, bool recovered = true) {
  return '"' + channel + R"(":{"epoch":")" + channel + R"(-1","offset":)" + std::to_string(offset) +
         (recovered ? R"(,"recovered":true})" : R"(,"recovered":false})");
}
std::string text(const std::string& json) { return "text " + json; }
std::string event(const std::string& name, const std::string& json, const std::string& id = {}) {
  return "event: " + name + "\ndata: " + json + (id.empty() ? "" : "\nid: " + id) + "\n\n";
}
std::string ok(const std::string& id, const std::string& json) {
  return text("{\"reply\":" + id + ",\"ok\":" + json + '}');
}
bool contains(const std::string& all, std::string_view part) { return all.find(part) != all.npos; }

// The id that an EventSource has at the end of each event, the one that those clients have which keep an id as soon as
// they have read its line, and the messages between them.
struct event_source {
  std::string last_id, eager_id;
  lines messages, notices;
  void read(const std::string& bytes) {
    rest_ += bytes;
    if (auto line = rest_.rfind("\nid: "); line != rest_.npos && rest_.find('\n', line + 1) != rest_.npos)
      eager_id = rest_.substr(line + 5, rest_.find('\n', line + 1) - line - 5);
    for (std::size_t end; (end = rest_.find("\n\n")) != rest_.npos; rest_.erase(0, end + 2)) {
      std::string block = rest_.substr(0, end + 1), name, data;
      for (std::size_t at = 0; at < block.size();) {
        auto stop = block.find('\n', at);
        auto line = block.substr(at, stop - at);
        at = stop + 1;
        if (line.starts_with("id: ")) last_id = line.substr(4);
        if (line.starts_with("event: ")) name = line.substr(7);
        if (line.starts_with("data: ")) data = line.substr(6);
      }
      CHECK_FALSE(data.empty());  // several clients take a block without data for an empty event
      CHECK((block.find("\nid: ") == block.npos || block.rfind("\nid: ") == block.rfind('\n', block.size() - 2)));
      (name.empty() ? messages : notices).push_back(name.empty() ? data : name + ' ' + data);
    }
  }

 private:
  std::string rest_;
};

}  // namespace

// ---- opening

TEST_CASE("a WebSocket begins with open; replay comes next, then live") {
  house h;
  h.publish("chat", "1");
  h.publish("chat", "2");
  client c(h);
  CHECK(c.join("?channel=chat&channel=news&since=chat-1.1,latest&user=ada") ==
        lines{text(opening(entry("chat", 1) + ',' + entry("news", 0), "ada")), text(published("chat", 2, "2"))});
  h.publish("news", "3");
  CHECK(c.hear() == lines{text(published("news", 1, "3"))});
  client d(h);
  CHECK(d.join("") == lines{text(opening(""))});
  client e(h);
  CHECK(e.join("?channel=chat") == lines{text(opening(entry("chat", 2)))});
}

TEST_CASE("SSE begins with retry, then open with its id; a message carries its own id when there is one channel") {
  house h;
  h.publish("chat", "1");
  client c(h);
  CHECK(c.open(event_stream("?channel=chat&since=earliest")) ==
        "retry: R\n" + event("open", opening(entry("chat", 0)), "chat-1.0") + "data: " + published("chat", 1, "1") +
            "\nid: chat-1.1\n\n");
  CHECK_FALSE(h.gate.messages.publish("chat", payload::json("[1,\r\n2]")));
  CHECK_FALSE(h.gate.messages.publish("chat", payload::text("a\r\nb\n")));
  h.run();
  CHECK(c.take() == "data: " + published("chat", 2, "[1,  2]") +
                        "\nid: chat-1.2\n\ndata: " + published("chat", 3, "\"a\\r\\nb\\n\"") + "\nid: chat-1.3\n\n");
  client d(h);
  d.send(event_stream("?channel=chat"));
  auto a = read_answer(d.take());
  CHECK(a["cache-control"] == "no-store");
  CHECK(a["x-accel-buffering"] == "no");
  CHECK(a["content-type"] == "text/event-stream");
  CHECK_FALSE(a.fields.count("content-length"));
}

TEST_CASE("SSE of several channels carries the session's id behind the last message of a batch, in its block") {
  house h;
  h.publish("a", "1");
  h.publish("a", "2");
  h.publish("b", "3");
  client c(h);
  event_source es;
  auto first = c.open(event_stream("?channel=a&channel=b&since=earliest"));
  es.read(first);
  CHECK(contains(first, event("open", opening(entry("a", 0) + ',' + entry("b", 0)), "a-1.0,b-1.0")));
  CHECK(es.messages == lines{published("a", 1, "1"), published("a", 2, "2"), published("b", 1, "3")});
  CHECK(es.last_id == "a-1.2,b-1.1");
  CHECK_FALSE(h.gate.messages.publish("a", payload::json("4")));
  CHECK_FALSE(h.gate.messages.publish("a", payload::json("5")));
  CHECK_FALSE(h.gate.messages.publish("b", payload::json("6")));
  h.run();
  auto batch = c.take();
  CHECK(batch == "data: " + published("a", 3, "4") + "\n\ndata: " + published("a", 4, "5") +
                     "\nid: a-1.4,b-1.1\n\ndata: " + published("b", 2, "6") + "\nid: a-1.4,b-1.2\n\n");
}

TEST_CASE("an id on SSE never goes back, and never past what came before it, wherever the writing stops") {
  // Every amount of room: what has arrived, with the last id seen, must lead to the whole log without a repeat of what
  // that id covers.
  auto run = [](std::size_t room) {
    house h;
    for (int i = 1; i <= 3; ++i) {
      h.publish("a", std::to_string(i));
      h.publish("b", std::to_string(10 * i));
    }
    client c(h);
    c.narrow(0);
    c.send(event_stream("?channel=a&channel=b&channel=c&since=earliest"));
    c.widen(room);
    h.publish("a", "4");
    h.publish("b", "40");
    std::string bytes = c.take();
    auto end = bytes.find("\r\n\r\n");
    if (end == bytes.npos) return;
    event_source es;
    es.read(bytes.substr(end + 4));
    std::map<std::string, int> seen;
    for (auto& m : es.messages) ++seen[m.substr(12, 1)];
    if (es.last_id.empty()) return;
    int a = std::stoi(es.last_id.substr(es.last_id.find("a-1.") + 4)),
        b = std::stoi(es.last_id.substr(es.last_id.find("b-1.") + 4));
    INFO("room " << room << " id " << es.last_id);
    CHECK(a <= seen["a"]);
    CHECK(b <= seen["b"]);
    // Once all is there, the last id is the end of both.
    c.widen();
    es.read(c.take());
    CHECK(es.messages.size() == 8);
    CHECK(es.last_id == "a-1.4,b-1.4,c-1.0");
  };
  for (std::size_t room = 1; room < 1600; ++room) run(room);
}

TEST_CASE(
    "an event stream that is cut at any byte loses nothing, for either kind of client, and leaves no gap unheard") {
  // What an id covers has been told before: each message up to its offset was seen, or lies in a gap that was.
  const std::string query = GENERATE("?channel=a&since=a-1.1", "?channel=a&channel=b&since=a-1.1,b-1.0",
                                     "?channel=a&channel=b&since=old.7,b-1.1");
  house h;
  for (int i = 1; i <= 5; ++i) {
    h.publish("a", std::to_string(i));
    h.publish("b", std::to_string(10 * i));
  }
  h.store.trim("a", 3);
  client c(h);
  std::string bytes = c.open(event_stream(query));
  h.publish("a", "6");
  h.publish("b", "60");
  bytes += c.take();
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    event_source es;
    es.read(bytes.substr(0, cut));
    std::map<char, int> seen{{'a', 1}, {'b', contains(query, "b-1.1") ? 1 : 0}};
    for (auto& m : es.messages) seen[m[12]] = std::stoi(m.substr(m.find("\"offset\":") + 9));
    for (auto& n : es.notices)
      if (n.starts_with("gap")) seen['a'] = std::max(seen['a'], std::stoi(n.substr(n.find("\"next\":") + 7)) - 1);
    // In the one byte between the line of the id and the blank line those clients that are eager still lose a message.
    const bool between = cut && bytes[cut - 1] == '\n' && bytes[cut - 2] != '\n' &&
                         bytes.substr(0, cut).rfind("\nid: ") == bytes.rfind('\n', cut - 2);
    for (const std::string& id : {es.last_id, between ? es.last_id : es.eager_id}) {
      CAPTURE(query, cut, id);
      if (auto at = id.find("a-1."); at != id.npos) CHECK(std::stoi(id.substr(at + 4)) <= seen['a']);
      if (auto at = id.find("b-1."); at != id.npos) CHECK(std::stoi(id.substr(at + 4)) <= seen['b']);
      if (contains(query, "old.7") && !id.empty() && !contains(id, "old.7")) CHECK(seen['a'] >= 2);
    }
  }
  event_source whole;
  whole.read(bytes);
  CHECK(whole.last_id == (contains(query, "channel=b") ? "a-1.6,b-1.6" : "a-1.6"));
}

TEST_CASE("HTTP/1.0 gets an event stream that ends with the connection, without chunks") {
  house h;
  client c(h);
  c.send("GET /live?channel=a&channel=b HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n");
  std::string head = c.c->take();
  CHECK(contains(head, "Connection: close\r\n"));
  CHECK_FALSE(contains(head, "Transfer-Encoding"));
  h.publish("a", "1");
  CHECK(c.c->take() == "data: " + published("a", 1, "1") + "\nid: a-1.1,b-1.0\n\n");
  h.gate.messages.sessions().front()->close();
  h.run();
  CHECK(c.c->take().empty());
  CHECK(c.c->ended_by_server);
}

TEST_CASE("on HTTP/1.1 each event is a chunk, and the last chunk comes at an orderly end alone") {
  house h;
  client c(h), broken(h);
  c.open(event_stream("?channel=a"));
  broken.open(event_stream("?channel=a&channel=b"));
  const auto before = c.chunks.chunks;
  CHECK_FALSE(h.gate.messages.publish("a", payload::json("1")));
  CHECK_FALSE(h.gate.messages.publish("a", payload::json("2")));
  h.run();
  c.take(), broken.take();
  CHECK(c.chunks.chunks == before + 2);
  CHECK_FALSE(c.chunks.ended);
  broken.c->reset();
  h.run();
  CHECK_FALSE((broken.take(), broken.chunks.ended));
  h.gate.messages.sessions().front()->close();
  h.run();
  c.take();
  CHECK(c.chunks.ended);
}

TEST_CASE("a gap follows open at once, with the session's id on SSE") {
  house h;
  for (int i = 0; i < 4; ++i) h.publish("chat", "1");
  h.publish("news", "1");
  h.store.trim("chat", 1);
  std::string gap = R"({"gap":{"channel":"chat","reason":"trimmed","epoch":"chat-1","next":4}})";
  client c(h), w(h);
  CHECK(c.open(event_stream("?channel=chat&channel=news&since=chat-1.1,news-1.1")) ==
        "retry: R\n" + event("open", opening(entry("chat", 3, false) + ',' + entry("news", 1)), "chat-1.1,news-1.1") +
            event("gap", gap, "chat-1.3,news-1.1") + "data: " + published("chat", 4, "1") +
            "\nid: chat-1.4,news-1.1\n\n");
  CHECK(w.join("?channel=news&channel=chat&since=news-1.1,chat-1.0") ==
        lines{text(opening(entry("news", 1) + ',' + entry("chat", 3, false))), text(gap),
              text(published("chat", 4, "1"))});
  client both(h);
  auto heard = both.join("?channel=news&channel=chat&since=old.1,old.1");
  REQUIRE(heard.size() == 5);
  CHECK(contains(heard[1], R"("channel":"news","reason":"epoch")"));
  CHECK(contains(heard[2], R"("channel":"chat","reason":"epoch","epoch":"chat-1","next":4)"));
}

TEST_CASE("a live epoch change is a gap, and the id goes with it") {
  house h;
  h.publish("chat", "1");
  client c(h), w(h);
  c.open(event_stream("?channel=chat"));
  w.join("?channel=chat");
  h.store.restart("chat");
  h.publish("chat", "2");
  std::string gap = R"({"gap":{"channel":"chat","reason":"epoch","epoch":"chat-2","next":1}})";
  CHECK(c.take() == event("gap", gap, "chat-2.0") + "data: " + published("chat", 1, "2") + "\nid: chat-2.1\n\n");
  CHECK(w.hear() == lines{text(gap), text(published("chat", 1, "2"))});
}

TEST_CASE("the id of a notice covers the message whose last bytes go out before it") {
  house h;
  h.publish("a", "1");
  client c(h);
  c.open(event_stream("?channel=a&channel=b&since=latest"));
  c.narrow(30);
  h.publish("a", "\"a longer message that does not fit\"");
  h.store.restart("b");
  h.publish("b", "1");
  c.widen();
  event_source es;
  es.read(c.take());
  REQUIRE(es.notices.size() <= 1);
  CHECK(es.messages.size() == 2);
  CHECK(es.last_id == "a-1.2,b-2.1");
}

// ---- writing

TEST_CASE("whatever room there is, a stream's bytes are whole and in order") {
  auto run = [](const std::string& request, std::size_t room, std::size_t step) {
    house h;
    for (int i = 0; i < 3; ++i) h.publish("chat", std::to_string(i));
    h.publish("news", "\"" + std::string(300, 'n') + "\"");
    client c(h);
    c.narrow(room);
    c.send(request);
    h.publish("chat", "{\"live\":1}");
    if (request.find("Upgrade") != request.npos) c.say(R"({"id":1,"publish":{"channel":"chat","data":2}})");
    for (int i = 0; i < 5; ++i) h.publish("news", std::to_string(i));
    std::size_t before = 0;
    do {
      before = c.c->received.size();
      c.widen(step);
    } while (c.c->received.size() > before);
    std::string all = c.take();
    return all;
  };
  // Messages of different channels may come in another order, so what is compared is the set of frames.
  std::string ws = upgrade("?channel=chat&channel=news&since=earliest");
  auto sorted = [](const std::string& bytes) {
    auto out = frames(bytes.substr(bytes.find("\r\n\r\n") + 4));
    std::sort(out.begin(), out.end());
    return out;
  };
  auto whole = sorted(run(ws, SIZE_MAX, 1));
  CHECK(whole.size() == 1 + 3 + 1 + 1 + 2 + 5);
  for (std::size_t room = 0; room < 2000; room += 7) {
    auto got = sorted(run(ws, room, 1 + room % 13));
    if (got != whole) FAIL("differs with room " << room);
  }
  std::string one = event_stream("?channel=chat&since=earliest");
  auto stream = run(one, SIZE_MAX, 1);
  for (std::size_t room = 0; room < 1200; ++room)
    if (run(one, room, 1 + room % 13) != stream) FAIL("differs with room " << room);
}

TEST_CASE("a slow reader costs its place, not a queue, and pulls the rest when it can") {
  house h;
  client slow(h), quick(h);
  slow.join("?channel=chat");
  quick.join("?channel=chat");
  slow.narrow(10);
  std::string big = '"' + std::string(10'000, 'x') + '"';
  for (int i = 0; i < 300; ++i) h.publish("chat", big);
  CHECK(quick.hear().size() == 300);
  CHECK(slow.take().size() == 10);
  slow.widen();
  h.run();
  std::size_t n = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string got = slow.take();
    if (got.empty()) break;
    n += got.size();
    h.run();
  }
  std::size_t all = 0;
  for (int i = 1; i <= 300; ++i) all += published("chat", i, big).size() + 4;
  CHECK(n + 10 == all);
}

TEST_CASE("past retention a slow reader gets a gap, in the place where it belongs") {
  house h;
  client c(h);
  c.join("?channel=chat");
  c.narrow(5);
  std::string big = '"' + std::string(400'000, 'x') + '"';
  h.publish("chat", "1");
  for (int i = 0; i < 8; ++i) h.publish("chat", big);
  h.store.trim("chat", 2);
  c.widen();
  auto heard = c.hear();
  REQUIRE(heard.size() >= 3);
  CHECK(heard[0] == text(published("chat", 1, "1")));
  std::size_t gaps = 0;
  for (auto& line : heard) gaps += contains(line, "{\"gap\":");
  CHECK(gaps <= 1);
  CHECK(contains(heard.back(), "\"offset\":9"));
}

TEST_CASE("nothing is sent after a close frame when a channel's storage fails in the middle of a batch") {
  house h;
  h.publish("a", "1");
  client c(h);
  c.join("?channel=a&channel=b");
  c.narrow(0);
  std::string big = '"' + std::string(700'000, 'x') + '"';
  for (int i = 0; i < 4; ++i) h.publish("b", big);  // leaves the tail
  h.publish("a", "2");
  auto [error, words] = GENERATE(table<errc, std::string>(
      {{errc::internal, "1011 the storage failed"}, {errc::overloaded, "1013 overloaded, try again later"}}));
  h.store.failing = error;
  c.widen();
  auto heard = c.hear();
  REQUIRE(!heard.empty());
  CHECK(heard.back() == "close " + words);
}

TEST_CASE("what is a session's own is bounded, and while it is unsent commands are not read") {
  options o;
  o.max_unsent = 1000;
  house h(o);
  client c(h);
  c.join("?channel=chat");
  c.narrow(0);
  std::string many;
  for (int i = 0; i < 1000; ++i)
    many += frame(R"({"id":)" + std::to_string(1000 + i) + R"(,"publish":{"channel":"chat","data":1}})");
  c.send(many);
  client look(h);
  auto a = look.ask(get("/live?channel=chat"));
  auto head = std::stoi(a["etag"].substr(8));
  CHECK(head < 30);
  CHECK(head > 5);
  session* s = h.gate.messages.sessions().at(0);
  CHECK(s->send("hello", std::string(900, ' ') + "1") == errc::overloaded);
  c.widen();
  std::vector<std::string> heard = c.hear();
  int next = 1000;
  for (auto& line : heard)
    if (line.starts_with("text {\"reply\":")) CHECK(line.substr(14, 4) == std::to_string(next++));
  CHECK(next == 2000);
}

TEST_CASE("one reply may be larger than the bound") {
  options o;
  o.max_unsent = 1000;
  house h(o);
  h.publish("chat", '"' + std::string(50'000, 'x') + '"');
  client c(h);
  c.join("");
  c.say(R"({"id":1,"history":{"channel":"chat"}})");
  CHECK(c.hear().at(0).size() > 50'000);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a connection that idles keeps nothing of its request, and no buffer") {
  house h;
  std::vector<std::unique_ptr<client>> all;
  all.reserve(1000);
  auto open = [&](const std::string& request) {
    all.push_back(std::make_unique<client>(h));
    client& c = *all.back();
    c.send(request);
    if (request.find("Upgrade") != request.npos) c.say(R"({"id":1,"history":{"channel":"chat","limit":20}})");
    CHECK(c.take().size() > 100);
    c.c->received.shrink_to_fit();
    c.c->unread.shrink_to_fit();
  };
  for (int i = 0; i < 20; ++i) h.publish("chat", '"' + std::string(1000, 'x') + '"');
  std::string filler = "X-Filler: " + std::string(7000, 'x') + "\r\n";
  // One that is kept alive between polls keeps what its next request needs, if that is little.
  for (std::string request : {upgrade("?channel=chat", filler), event_stream("?channel=chat", filler),
                              get("/live?channel=chat", filler), get("/live?channel=chat")}) {
    open(request);
    auto before = ::mallinfo2().uordblks;
    for (int i = 0; i < 200; ++i) open(request);
    auto each = (::mallinfo2().uordblks - before) / 200;
    INFO(each << " bytes each, of which the test's own half is "
              << sizeof(client) + sizeof(testing::memory_connection) - sizeof(detail::connection));
    CHECK(each < 2300);
  }
}
#endif

// ---- commands

TEST_CASE("commands take effect and are answered in order; ok comes before one's own message") {
  house h;
  client c(h);
  c.join("?channel=chat&user=ada");
  c.send(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})") +
         frame(R"({"id":"2","publish":{"channel":"chat","data":2,"type":"note"}})") + frame(R"({"id":3,"ping":{}})"));
  CHECK(c.hear() ==
        lines{ok("1", R"({"epoch":"chat-1","offset":1})"), ok("\"2\"", R"({"epoch":"chat-1","offset":2})"),
              ok("3", "{}"), text(published("chat", 1, "1", 1000, "ada")),
              text(R"({"channel":"chat","offset":2,"at":1767225601000,"from":"ada","type":"note","data":2})")});
}

TEST_CASE(
    "what is a client's own leaves with the input that asks for it; beside a message of the turn it waits for that") {
  house h;
  client c(h);
  c.join("?channel=chat");
  auto writes_of = [&c](const std::string& bytes) {
    const auto before = c.c->writes;
    c.c->send(bytes);  // and the turn goes on
    return c.c->writes - before;
  };
  CHECK(writes_of(frame(R"({"id":1,"ping":{}})") + frame("a", proto::ws_opcode::ping)) == 1);
  CHECK(c.hear() == lines{ok("1", "{}"), "pong a"});
  CHECK(writes_of(frame(R"({"id":2,"publish":{"channel":"news","data":1}})")) == 1);
  CHECK(c.hear() == lines{ok("2", R"({"epoch":"news-1","offset":1})")});
  CHECK(writes_of(frame(R"({"id":3,"publish":{"channel":"chat","data":1}})")) == 0);
  const auto before = c.c->writes;
  h.run();
  CHECK(c.c->writes - before == 1);
  CHECK(c.hear() == lines{ok("3", R"({"epoch":"chat-1","offset":1})"), text(published("chat", 1, "1"))});
  CHECK(c.c->reading);
}

TEST_CASE("on a slow storage too, and the client is not read meanwhile") {
  house h;
  client c(h), other(h);
  c.join("?channel=chat");
  other.join("?channel=chat");
  h.store.holding = true;
  c.send(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})") +
         frame(R"({"id":2,"publish":{"channel":"chat","data":2}})"));
  c.say(R"({"id":3,"ping":{}})");
  CHECK(c.hear().empty());
  CHECK(h.store.asked() == 1);
  other.say(R"({"id":9,"ping":{}})");
  CHECK(other.hear() == lines{ok("9", "{}")});
  h.answer(1);
  CHECK(c.hear() == lines{ok("1", R"({"epoch":"chat-1","offset":1})"), text(published("chat", 1, "1"))});
  h.answer(1);
  h.run();
  c.c->deliver();
  h.run();
  CHECK(c.hear() == lines{ok("2", R"({"epoch":"chat-1","offset":2})"), text(published("chat", 2, "2")), ok("3", "{}")});
}

TEST_CASE("reading resumes after a command that needs no answer") {
  house h;
  client c(h), raw(h);
  c.join("?channel=chat");
  raw.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  h.store.holding = true;
  for (int i = 1; i < 4; ++i) {
    c.say(R"({"publish":{"channel":"news","data":1}})");
    REQUIRE(h.store.asked() == 1);
    h.answer();
    CHECK(c.c->reading);
    raw.say("hello");
    REQUIRE(h.store.asked() == 1);
    h.answer();
    CHECK(raw.c->reading);
  }
  CHECK(raw.hear() == lines{"text hello", "text hello", "text hello"});
}

TEST_CASE("bad commands are answered, the connection goes on") {
  house h;
  client c(h);
  c.join("");
  auto error = [&](const std::string& command, const std::string& id, errc what) {
    c.say(command);
    auto heard = c.hear();
    INFO(command);
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].starts_with("text {\"reply\":" + id + R"(,"error":{"code":")" + std::string(code_name(what)) +
                               R"(","message":")"));
  };
  error("{", "null", errc::bad_request);
  error("", "null", errc::bad_request);
  error("[]", "null", errc::bad_request);
  error(R"({"id":7})", "7", errc::bad_request);
  error(R"({"id":7,"fly":{}})", "7", errc::bad_request);
  error(R"({"id":7,"ping":{},"publish":{}})", "7", errc::bad_request);
  error(R"({"id":7,"ping":{},"ping":{}})", "7", errc::bad_request);
  error(R"({"id":{},"ping":{}})", "null", errc::bad_request);
  error(R"({"id":7,"publish":{"channel":"secret","data":1}})", "7", errc::forbidden);
  error(R"({"publish":{"channel":"secret","data":1}})", "null", errc::forbidden);
  error(R"({"id":7,"subscribe":{"channel":"secret"}})", "7", errc::forbidden);
  error(R"({"id":7,"subscribe":{"channel":"@bob"}})", "7", errc::forbidden);
  error(R"({"id":7,"history":{"channel":"secret"}})", "7", errc::forbidden);
  error(R"({"id":7,"subscribe":{"channel":"a","since":"x"}})", "7", errc::bad_request);
  error(R"({"id":7,"unsubscribe":{"channel":"a"}})", "7", errc::bad_request);
  error(R"({"id":7,"presence":{"channel":"a"}})", "7", errc::not_found);
  error(R"({"id":7,"presence":{"channel":"secret"}})", "7", errc::forbidden);
  error(R"({"id":7,"received":{"channel":"a","offset":1}})", "7", errc::bad_request);
  error(R"({"id":7,"received":{"channel":"a","epoch":"e","offset":1}})", "7", errc::forbidden);  // it is nobody
  error(R"({"id":7,"read":{"channel":"secret","epoch":"e","offset":1}})", "7", errc::forbidden);
  error(R"({"id":7,"receipts":{"channel":"a"}})", "7", errc::forbidden);
  error(R"({"id":7,"renew":{"token":"t"}})", "7", errc::not_implemented);
  error(R"({"id":7,"device":{"push":"web","token":null}})", "7", errc::not_implemented);
  error(R"({"id":7,"publish":{"channel":"a","data":1,"ephemeral":true}})", "7", errc::not_implemented);
  c.say(R"({"ping":{}})");
  CHECK(c.hear().empty());  // without an id only errors are answered
  c.say(R"({"id":null,"ping":{}})");
  CHECK(c.hear() == lines{ok("null", "{}")});
}

TEST_CASE("who subscribes without asking for a reply is served like everybody") {
  for (bool later : {false, true}) {
    CAPTURE(later);
    house h;
    h.publish("old", "1");
    client c(h);
    c.join("");
    h.store.holding = later;
    c.say(R"({"subscribe":{"channel":"fresh"}})").say(R"({"subscribe":{"channel":"old","since":"earliest"}})");
    h.answer();
    c.c->deliver();  // a command waits for the one before it
    h.store.holding = false;
    h.answer();
    CHECK(c.hear() == lines{"text " + published("old", 1, "1")});
    h.publish("fresh", "2");
    CHECK(c.hear() == lines{"text " + published("fresh", 1, "2")});
  }
}

TEST_CASE("subscribe is answered before its first message; after unsubscribe's answer none comes") {
  house h;
  h.publish("chat", "1");
  h.publish("chat", "2");
  client c(h);
  c.join("");
  c.say(R"({"id":1,"subscribe":{"channel":"chat","since":"chat-1.1"}})");
  CHECK(c.hear() ==
        lines{ok("1", R"({"epoch":"chat-1","offset":1,"recovered":true})"), text(published("chat", 2, "2"))});
  c.say(R"({"id":2,"subscribe":{"channel":"chat"}})");
  CHECK(contains(c.hear().at(0), R"({"reply":2,"error":{"code":"bad_request")"));
  CHECK_FALSE(h.gate.messages.publish("chat", payload::json("3")));
  c.c->send(frame(R"({"id":3,"unsubscribe":{"channel":"chat"}})"));
  h.run();
  auto heard = c.hear();
  CHECK(heard.back() == ok("3", "{}"));
  h.publish("chat", "4");
  CHECK(c.hear().empty());
  h.store.trim("chat", 1);
  c.say(R"({"id":4,"subscribe":{"channel":"chat","since":"chat-1.1"}})");
  CHECK(c.hear() == lines{ok("4", R"({"epoch":"chat-1","offset":3,"recovered":false})"),
                          text(R"({"gap":{"channel":"chat","reason":"trimmed","epoch":"chat-1","next":4}})"),
                          text(published("chat", 4, "4"))});
}

TEST_CASE("unsubscribing in the middle of a frame sends its rest, then the answer, then nothing") {
  for (std::size_t room = 0; room < 120; ++room) {
    house h;
    client c(h);
    c.join("?channel=chat");
    c.narrow(room);
    h.publish("chat", "\"0123456789\"");
    h.publish("chat", "\"0123456789\"");
    c.say(R"({"id":1,"unsubscribe":{"channel":"chat"}})");
    c.widen();
    auto heard = c.hear();
    REQUIRE(!heard.empty());
    CHECK(heard.back() == ok("1", "{}"));
    for (std::size_t i = 0; i + 1 < heard.size(); ++i)
      CHECK(heard[i] == text(published("chat", static_cast<int>(i) + 1, "\"0123456789\"")));
    h.publish("chat", "3");
    CHECK(c.hear().empty());
  }
}

TEST_CASE("history: forward, back, the newest, with its bounds") {
  house h;
  for (int i = 1; i <= 5; ++i) h.publish("chat", std::to_string(i));
  client c(h);
  c.join("");
  auto ask = [&](const std::string& more) {
    c.say(R"({"id":1,"history":{"channel":"chat")" + more + "}}");
    auto line = c.hear().at(0);
    std::string out;
    for (std::size_t at = 0; (at = line.find("\"offset\":", at)) != line.npos; ++at) out += line[at + 9];
    return out + (contains(line, "\"more\":true") ? "+" : "") + (contains(line, "\"error\"") ? "error" : "");
  };
  CHECK(ask("") == "12345");
  CHECK(ask(",\"limit\":2") == "45+");
  CHECK(ask(",\"after\":0,\"limit\":2") == "12+");
  CHECK(ask(",\"after\":3") == "45");
  CHECK(ask(",\"before\":3") == "12");
  CHECK(ask(",\"before\":3,\"limit\":1") == "2+");
  CHECK(ask(",\"epoch\":\"chat-1\",\"before\":2") == "1");
  CHECK(ask(",\"epoch\":\"other\"") == "error");
  CHECK(ask(",\"before\":1") == "");
  CHECK(ask(",\"before\":0") == "");
  CHECK(ask(",\"before\":9007199254740991,\"limit\":1") == "5+");
}

TEST_CASE("a command of the protocol that is not offered is answered so by its name, and reaches no hook") {
  house h;
  int asked = 0;
  h.gate.host.on_command = [&](session&, std::string_view, std::string_view, command_reply) { ++asked; };
  h.gate.host.on_renew = [&](session&, std::string_view, authorize_reply) { ++asked; };
  client c(h);
  c.join("?channel=chat&user=ada");
  for (std::string name : {"received", "read", "receipts", "device"}) {
    c.say("{\"id\":1,\"" + name + R"(":{"channel":"chat","epoch":"e","offset":1,"push":"web","token":"t"}})");
    CHECK(c.hear() == lines{text(R"({"reply":1,"error":{"code":"not_implemented","message":")" + name +
                                 R"( is not offered by this server"}})")});
  }
  CHECK(asked == 0);
}

TEST_CASE("who follows a channel with presence is told who comes and goes, and lists who is there") {
  options o;
  o.channels = {{.pattern = "chat", .presence = true}};
  house h(o);
  h.advance(10'000);
  client c(h), d(h);
  c.join("?channel=chat&user=ada");
  h.run();
  c.hear();
  d.join("?channel=chat&user=bob");
  h.run();
  CHECK(c.hear() == lines{text(R"({"join":{"channel":"chat","user":"bob"}})")});
  c.say(R"({"id":1,"presence":{"channel":"chat"}})");
  c.say(R"({"id":2,"presence":{"channel":"chat","count":true}})");
  CHECK(c.hear() ==
        lines{text(R"({"reply":1,"ok":{"members":[{"user":"ada","sessions":1},{"user":"bob","sessions":1}],)"
                   R"("count":2,"anonymous":0,"more":false}})"),
              text(R"({"reply":2,"ok":{"count":2,"anonymous":0,"more":false}})")});
  d.say(R"({"id":1,"unsubscribe":{"channel":"chat"}})");
  h.run();
  CHECK(c.hear() == lines{text(R"({"leave":{"channel":"chat","user":"bob"}})")});
}

TEST_CASE("an ephemeral message is for whoever is there but its sender, and nothing is stored of it") {
  options o;
  o.channels = {{.pattern = "chat", .ephemeral = true}};
  house h(o);
  client c(h), d(h);
  c.join("?channel=chat&user=ada");
  d.join("?channel=chat&user=bob");
  c.say(R"({"id":1,"publish":{"channel":"chat","data":"typing","ephemeral":true}})");
  h.run();
  CHECK(c.hear() == lines{text(R"({"reply":1,"ok":{}})")});
  const lines heard = d.hear();
  REQUIRE(heard.size() == 1);
  CHECK(heard[0].find(R"("from":"ada","data":"typing"})") != std::string::npos);
  CHECK(heard[0].find("offset") == std::string::npos);
  c.say(R"({"id":2,"publish":{"channel":"chat","data":1}})");
  h.run();
  REQUIRE(c.hear().size() == 2);
  CHECK(d.hear()[0].find("\"offset\":1") != std::string::npos);
  c.say(R"({"id":3,"publish":{"channel":"other","data":1,"ephemeral":true}})");
  CHECK(c.hear() == lines{text(R"({"reply":3,"error":{"code":"not_implemented",)"
                               R"("message":"the channel takes no ephemeral messages"}})")});
}

TEST_CASE("a host-defined command is answered by the host, now or later, once") {
  house h;
  std::vector<command_reply> waiting;
  std::string seen;
  h.gate.host.on_command = [&](session& s, std::string_view name, std::string_view body, command_reply reply) {
    seen = std::string(s.user()) + ' ' + std::string(name) + ' ' + std::string(body);
    if (name == "now") return reply(std::string("{\"a\":\r\n1}"));
    if (name == "no") return reply(failure(errc::conflict, "no"));
    if (name == "bad") return reply(std::string("{"));
    waiting.push_back(std::move(reply));
  };
  client c(h);
  c.join("?user=ada");
  c.say(R"({"id":1,"now":{"x":[1]}})");
  CHECK(seen == R"(ada now {"x":[1]})");
  CHECK(c.hear() == lines{ok("1", "{\"a\":  1}")});
  c.say(R"({"id":1,"no":3})");
  CHECK(c.hear() == lines{text(R"({"reply":1,"error":{"code":"conflict","message":"no"}})")});
  c.say(R"({"id":1,"bad":3})");
  CHECK(contains(c.hear().at(0), "\"internal\""));
  c.send(frame(R"({"id":1,"later":3})") + frame(R"({"id":2,"ping":{}})"));
  CHECK(c.hear().empty());
  waiting[0](std::string("true"));
  h.run();
  CHECK(c.hear() == lines{ok("1", "true"), ok("2", "{}")});
  waiting[0](std::string("false"));
  waiting.clear();
  c.say(R"({"id":3,"dropped":3})");
  waiting.clear();
  h.run();
  CHECK(contains(c.hear().at(0), R"({"reply":3,"error":{"code":"internal")"));
  c.say(R"({"id":4,"gone":3})");
  c.c->reset();
  h.run();
  waiting[0](std::string("1"));
  h.run();
  CHECK(c.hear().empty());
}

TEST_CASE("a reply may outlive the server") {
  std::vector<command_reply> commands;
  std::vector<authorize_reply> permissions;
  std::vector<reply_to<result<response>>> pages;
  {
    house h;
    h.gate.host.on_command = [&](session&, std::string_view, std::string_view, command_reply reply) {
      commands.push_back(std::move(reply));
    };
    h.gate.host.on_http = [&](const request&, reply_to<result<response>> reply) { pages.push_back(std::move(reply)); };
    client c(h), d(h), p(h);
    c.join("");
    c.say(R"({"id":4,"gone":3})");
    p.send(get("/"));
    h.gate.host.authorize = [&](const request&, authorize_reply reply) { permissions.push_back(std::move(reply)); };
    d.send(get("/live?channel=chat"));
  }
  commands.at(0)(std::string("1"));
  permissions.at(0)(grant{});
  pages.at(0)(response{});
}

// ---- raw

TEST_CASE("a host that sends to a client without notices is told so, and one that sends to an ending session too") {
  house h;
  client raw(h);
  raw.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  auto sessions = h.gate.messages.sessions();
  REQUIRE(sessions.size() == 1);
  CHECK(sessions[0]->send("weather", "1") == errc::not_implemented);
  client object(h);
  object.join("?channel=chat&user=ada");
  session* ada = h.gate.messages.find("ada").at(0);
  CHECK_FALSE(ada->send("weather", "1"));
  ada->close();
  CHECK(ada->send("weather", "1") == operation_aborted());
}

TEST_CASE("raw: payloads both ways, nothing else") {
  house h;
  client raw(h), object(h);
  CHECK(raw.join("?channel=chat&user=ada", "Sec-WebSocket-Protocol: other, hailwire.v1.raw, bearer.t\r\n").empty());
  object.join("?channel=chat");
  raw.say("hello\n");
  raw.send(frame(std::string("\0\xff", 2), proto::ws_opcode::binary));
  raw.send(frame("{\"id\":1,\"ping\":{}}"));
  h.publish("chat", "[1, 2]");
  h.gate.messages.sessions().at(0)->send("note", "1");
  h.run();
  CHECK(raw.hear() ==
        lines{"text hello\n", std::string("binary \0\xff", 9), "text {\"id\":1,\"ping\":{}}", "text [1, 2]"});
  auto heard = object.hear();
  REQUIRE(heard.size() == 4);
  CHECK(contains(heard[0], R"("from":"ada","data":"hello\n"})"));
  CHECK(contains(heard[1], R"("bytes":"AP8="})"));
  CHECK(heard[3] == text(published("chat", 4, "[1, 2]")));
}

TEST_CASE("raw closes: 4410 for a gap, 1008, 1009 and 4429 for a publish that is refused") {
  options o;
  o.max_payload = 100;
  house h(o);
  for (int i = 0; i < 3; ++i) h.publish("chat", "1");
  h.store.trim("chat", 1);
  errc why = errc::forbidden;
  h.gate.host.on_publish = [&](session&, std::string_view, const payload& p) {
    return p.bytes() == "fine" ? verdict::accept() : verdict::refuse(why, "no");
  };
  std::string protocol = "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n";
  SECTION("a gap at the start") {
    client c(h);
    CHECK(c.join("?channel=chat&since=chat-1.0", protocol) == lines{"close 4410 gap"});
  }
  SECTION("a live gap") {
    client c(h);
    c.join("?channel=chat", protocol);
    h.store.restart("chat");
    h.publish("chat", "9");
    CHECK(c.hear() == lines{"close 4410 gap"});
  }
  SECTION("refused") {
    for (auto [code, close] : {std::pair{errc::forbidden, 1008},
                               {errc::bad_request, 1008},
                               {errc::too_large, 1009},
                               {errc::rate_limited, 4429},
                               {errc::draining, 1012},
                               {errc::conflict, 1008}}) {
      why = code;
      client c(h);
      c.join("?channel=chat", protocol);
      c.say("x");
      CHECK(c.hear() == lines{"close " + std::to_string(close) + " no"});
    }
  }
  SECTION("over the limit") {
    client c(h);
    c.join("?channel=chat", protocol);
    c.say(std::string(101, 'x'));
    CHECK(c.hear().at(0).starts_with("close 1009"));
  }
  SECTION("the storage fails, or is full: the outcome is not a refusal of what was sent") {
    client c(h), d(h);
    c.join("?channel=chat", protocol);
    d.join("?channel=chat", protocol);
    h.store.failing = errc::internal;
    c.say("fine");
    CHECK(c.hear().at(0).starts_with("close 1011"));
    h.store.failing = errc::overloaded;
    d.say("fine");
    CHECK(d.hear().at(0).starts_with("close 1013"));
  }
  SECTION("not UTF-8") {
    client c(h);
    c.join("?channel=chat", protocol);
    c.say("\xff");
    CHECK(c.hear().at(0).starts_with("close 1007"));
  }
  SECTION("the host took its channel away") {
    client c(h);
    c.join("?channel=chat", protocol);
    auto* s = h.gate.messages.sessions().at(0);
    CHECK(s->follow("news") == errc::bad_request);  // exactly one channel
    CHECK_FALSE(s->unfollow("chat"));
    h.run();
    c.say("fine");
    CHECK(c.hear().at(0).starts_with("close 4403"));
  }
}

TEST_CASE("raw needs exactly one channel; unknown subprotocols alone are refused") {
  house h;
  for (std::string query : {"", "?channel=a&channel=b"}) {
    client c(h);
    CHECK(c.ask(upgrade(query, "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n")).status == 400);
  }
  client c(h);
  CHECK(c.ask(upgrade("?channel=a", "Sec-WebSocket-Protocol: bearer.TOKEN\r\n")).status == 400);
  CHECK(c.ask(upgrade("?channel=a", "Sec-WebSocket-Protocol: chat\r\n")).status == 400);
  auto a = c.ask(upgrade("?channel=a", "Sec-WebSocket-Protocol: bearer.TOKEN, hailwire.v1, hailwire.v1.raw\r\n"));
  CHECK(a.status == 101);
  CHECK(a["sec-websocket-protocol"] == "hailwire.v1");
  client d(h);
  CHECK_FALSE(d.ask(upgrade("?channel=a")).fields.count("sec-websocket-protocol"));
  client e(h);
  a = e.ask(upgrade("?channel=a", "Sec-WebSocket-Version: 8\r\n"));
  CHECK(a.status == 400);
}

// ---- frames

TEST_CASE("a client that breaks a rule of WebSocket is closed with its code, and nobody else notices") {
  house h;
  client neighbour(h);
  neighbour.join("?channel=chat");
  struct {
    std::string bytes;
    std::string close;
  } cases[] = {{"\x81\x02hi", "close 1002"},
               {frame("x", proto::ws_opcode::continuation), "close 1002"},
               {frame("\xff"), "close 1007"},
               {frame(std::string(2'000'000, ' ')), "close 1009"},
               {frame("x", proto::ws_opcode::binary), "close 1008"},
               {close_frame(1000, "bye"), "close 1000"},
               {frame("", proto::ws_opcode::close), "close 1005"},
               {close_frame(4000), "close 4000"},
               {frame(std::string("\x03\xED", 2), proto::ws_opcode::close), "close 1002"}};
  for (auto& k : cases) {
    client c(h);
    c.join("?channel=chat");
    c.send(k.bytes);
    auto heard = c.hear();
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].starts_with(k.close));
    if (k.close == "close 1008")
      c.send(close_frame(1008));  // it broke no rule of RFC 6455, so its answer is waited for
    CHECK(c.c->ended_by_server);
    h.publish("chat", "1");
    CHECK(c.hear().empty());
    CHECK(neighbour.hear().size() == 1);
    c.c->send_end();
    h.run();
    CHECK(c.c->closed);
  }
}

TEST_CASE("a ping is answered; of a flood that came in one read the first 64 and the newest") {
  house h;
  client c(h);
  c.join("?channel=chat");
  c.send(frame("a", proto::ws_opcode::ping));
  CHECK(c.hear() == lines{"pong a"});
  std::string flood;
  for (int i = 0; i < 10'000; ++i) flood += frame(std::to_string(i), proto::ws_opcode::ping);
  c.narrow(0);
  c.send(flood);
  c.widen();
  lines pongs;
  for (int i = 0; i < 64; ++i) pongs.push_back("pong " + std::to_string(i));
  pongs.push_back("pong 9999");
  CHECK(c.hear() == pongs);
  c.send(frame("1", proto::ws_opcode::ping) + frame("2", proto::ws_opcode::pong) + frame(R"({"id":1,"ping":{}})") +
         frame("3", proto::ws_opcode::ping));
  CHECK(c.hear() == lines{"pong 1", ok("1", "{}"), "pong 3"});
}

TEST_CASE("a client that never reads is not read for ever") {
  options o;
  o.max_unsent = 2000;
  house h(o);
  client c(h);
  c.join("?channel=chat");
  c.narrow(0);
  for (int i = 0; i < 3000; ++i) c.send(frame(std::string(100, 'p'), proto::ws_opcode::ping));
  CHECK_FALSE(c.c->reading);
  c.widen();
  CHECK(c.c->unread.empty());
  CHECK(c.hear().size() <= 3000);
}

// ---- time

TEST_CASE("a request must come, and be complete, in time") {
  house h;
  SECTION("no byte") {
    client c(h);
    h.advance(9'900);
    CHECK_FALSE(c.c->closed);
    h.advance(300);
    CHECK(c.c->closed);
    CHECK(c.take().empty());
  }
  SECTION("half a head, with its first lines long gone from where they were read") {
    client c(h);
    c.send("GET /live?channel=chat HTTP/1.1\r\n");
    for (int i = 0; i < 40; ++i) c.send("X-Filler-" + std::to_string(i) + ": " + std::string(100, 'x') + "\r\n");
    h.advance(10'200);
    auto a = read_answer(c.take());
    CHECK(a.status == 408);
    CHECK(a["connection"] == "close");
    CHECK(a.body.size() > 20);
    CHECK(c.c->ended_by_server);
    h.advance(5'200);
    CHECK(c.c->closed);
  }
  SECTION("half a body") {
    client c(h);
    c.send("POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345");
    h.advance(20'000);
    c.send("6");
    h.advance(10'200);
    CHECK(read_answer(c.take()).status == 408);
  }
  SECTION("a kept connection idles longer") {
    client c(h);
    CHECK(c.ask(get("/")).status == 404);
    h.advance(74'000);
    CHECK_FALSE(c.c->closed);
    h.advance(1'200);
    CHECK(c.c->closed);
  }
}

TEST_CASE("a request that ends before it is whole is told so, at every byte") {
  const std::string whole =
      "POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n123";
  house h;
  for (std::size_t n = 1; n < whole.size(); ++n) {
    client c(h);
    c.send(whole.substr(0, n));
    c.c->send_end();
    h.run();
    auto a = read_answer(c.take());
    CHECK(a.status == 400);
    CHECK(a["connection"] == "close");
    CHECK(c.c->closed);
  }
  client silent(h);
  silent.c->send_end();
  h.run();
  CHECK(silent.take().empty());
  CHECK(silent.c->closed);
}

TEST_CASE("SSE shows life every heartbeat of silence") {
  house h;
  client c(h);
  c.open(event_stream("?channel=chat"));
  h.advance(24'900);
  CHECK(c.take().empty());
  h.advance(300);
  CHECK(c.take() == ": beat\n" + event("ping", "{\"ping\":{}}"));
  h.advance(20'000);
  h.publish("chat", "1");
  c.take();
  h.advance(20'000);
  CHECK(c.take().empty());
  h.advance(5'300);
  CHECK(c.take() == ": beat\n" + event("ping", "{\"ping\":{}}"));
}

TEST_CASE("a WebSocket is asked for life after one heartbeat and closed with 4408 when it has not answered in time") {
  house h;
  client c(h);
  c.join("?channel=chat");
  h.advance(25'200);
  CHECK(c.hear() == lines{"ping"});
  c.send(frame("", proto::ws_opcode::pong));
  h.advance(24'000);
  CHECK(c.hear().empty());
  h.advance(1'200);
  CHECK(c.hear() == lines{"ping"});
  h.advance(9'000);
  c.c->send("\x81");  // any bytes count
  h.advance(26'000);
  CHECK(c.hear() == lines{"ping"});
  h.advance(8'900);
  CHECK(c.hear().empty());
  h.advance(600);
  CHECK(c.hear() == lines{"close 4408 no sign of life"});
  h.advance(5'200);
  CHECK(c.c->closed);
}

TEST_CASE("the time to answer may be shorter than a heartbeat, or longer") {
  options o;
  o.heartbeat_answer = std::chrono::seconds(GENERATE(1, 10, 25, 40));
  house h(o);
  client c(h);
  c.join("?channel=chat");
  h.advance(25'000);
  h.advance(detail::milliseconds_of(o.heartbeat_answer) - 1);
  for (auto& line : c.hear()) CHECK(line == "ping");
  h.advance(1 + 600);  // twice what the timer wheel rounds
  auto heard = c.hear();
  REQUIRE_FALSE(heard.empty());
  CHECK(heard.back() == "close 4408 no sign of life");
}

TEST_CASE("a stream whose client says nothing ends when its system is silent in time; one that is slow goes on") {
  enum class peer : std::uint8_t { vanished, has_acknowledged, acknowledges_nothing_but_lives, was_quiet_for_less };
  const auto is =
      GENERATE(peer::vanished, peer::has_acknowledged, peer::acknowledges_nothing_but_lives, peer::was_quiet_for_less);
  const bool is_told_something = GENERATE(false, true);  // before its first heartbeat, so there is none in time
  house h;
  client c(h);
  c.open(GENERATE(event_stream("?channel=chat"), json_lines("?channel=chat")));
  c.c->withholds = is != peer::has_acknowledged;
  c.c->silence = is == peer::vanished ? 10'000 : is == peer::was_quiet_for_less ? 9'999 : 0;
  if (is_told_something) {
    h.advance(20'000);
    h.publish("chat", "1");
    h.advance(14'900);
  } else {
    h.advance(34'900);
  }
  CHECK_FALSE(c.c->closed);
  h.advance(700);
  CHECK(c.c->closed == (is == peer::vanished));
  if (is == peer::vanished) return;
  h.advance(120'000);
  CHECK_FALSE(c.c->closed);
}

TEST_CASE("a client asks for a heartbeat of its own, within bounds, and is told which holds") {
  struct wish {
    const char* query;
    int holds;
  };
  const auto w = GENERATE(wish{"", 25}, wish{"&heartbeat=25", 25}, wish{"&heartbeat=9", 10}, wish{"&heartbeat=10", 10},
                          wish{"&heartbeat=11", 11}, wish{"&heartbeat=299", 299}, wish{"&heartbeat=300", 300},
                          wish{"&heartbeat=301", 300}, wish{"&heartbeat=18446744073709551615", 300});
  const bool events = GENERATE(false, true);
  const std::string query = std::string("?channel=chat") + w.query;
  house h;
  client c(h);
  const std::string open = events ? c.open(event_stream(query)) : c.join(query).at(0);
  CHECK(open.find("\"heartbeat\":" + std::to_string(w.holds) + ',') != open.npos);
  CHECK(c.c->probed_after.count() == (w.holds == 25 ? 0 : w.holds));
  c.take();
  h.advance(w.holds * 1000 - 100);
  CHECK(c.take().empty());
  h.advance(400);
  CHECK_FALSE(c.take().empty());
  if (events) return;
  h.advance(10'600);
  CHECK(c.hear() == lines{"close 4408 no sign of life"});
}

TEST_CASE("what is no number of seconds is no heartbeat") {
  house h;
  for (const char* value : {"0", "", "-1", "1.5", "x", "18446744073709551616"}) {
    INFO(value);
    CHECK(client(h).ask(get(std::string("/live?channel=chat&heartbeat=") + value)).status == 400);
  }
}

TEST_CASE("a connection is not idle while the end of its answer has yet to reach a peer who takes it slowly") {
  options o;
  o.idle_time = std::chrono::seconds(5);
  o.stall_time = std::chrono::seconds(20);
  house h(o);
  client c(h);
  c.c->holds = true;
  c.ask(get("/live?channel=chat"));
  for (int i = 0; i < 5; ++i) {
    h.advance(15'000);
    REQUIRE_FALSE(c.c->closed);
    c.c->move();
  }
  SECTION("then it is") {
    c.c->holds = false;
    c.c->move();
    h.advance(25'000);
    CHECK(c.c->closed);
  }
  SECTION("nor for ever where the peer takes nothing") {
    h.advance(20'200);
    CHECK(c.c->closed);
  }
}

TEST_CASE("a client that is slower than one of its channels hears the others") {
  const std::string big = '"' + std::string(5000, 'x') + '"';
  const bool events = GENERATE(true, false);
  const int calm = GENERATE(1, 20);  // of an event stream more than a batch holds
  house h;
  client c(h);
  std::string query = "?channel=busy&since=latest";
  for (int i = 0; i < calm; ++i) query += "&channel=calm" + std::to_string(i);
  events ? void(c.open(event_stream(query))) : void(c.join(query));
  c.take();
  c.narrow(0);
  h.publish("busy", big);
  for (int i = 0; i < calm; ++i) h.publish("calm" + std::to_string(i), "1");
  std::string got;
  auto heard = [&](int i) { return got.find("\"channel\":\"calm" + std::to_string(i) + '"') != got.npos; };
  for (int round = 0; round < 30; ++round) {
    h.publish("busy", big);
    c.widen(4990);
    got += c.take();
  }
  for (int i = 0; i < calm; ++i) CHECK(heard(i));
  c.widen();
  got += c.take();
  std::size_t at = 0;
  for (int i = 1; i <= 31; ++i) {
    at = got.find("\"channel\":\"busy\",\"offset\":" + std::to_string(i) + ',', at);
    REQUIRE(at != got.npos);
  }
}

TEST_CASE(
    "channels that have much take turns, each in its own order, and an event's id names what came before it and "
    "itself") {
  const bool events = GENERATE(true, false);
  house h;
  for (int i = 1; i <= 200; ++i)
    for (auto name : {"a", "b"}) h.publish(name, '"' + std::string(1000, 'x') + '"');
  client c(h);
  c.narrow(70'000);
  std::string query = "?channel=a&channel=b&since=earliest";
  c.send(events ? event_stream(query) : upgrade(query));
  std::string first = c.take();
  CHECK(first.find("\"channel\":\"a\"") != first.npos);
  CHECK(first.find("\"channel\":\"b\"") != first.npos);
  c.widen();
  std::string all = first + c.take();
  std::map<std::string, int> last{{"a", 0}, {"b", 0}};
  std::size_t ids = 0;
  for (std::size_t at = events ? all.find("\n\n", all.find("\"open\"")) : 0;;) {
    auto next = all.find("{\"channel\":\"", at);
    if (next == all.npos) break;
    auto name = all.substr(next + 12, 1);
    CHECK(std::stoi(all.substr(next + 24)) == ++last[name]);
    if (events) {
      // A cursor stands in the block of a batch's last message of a channel, behind it.
      auto block = all.substr(next, all.find("\n\n", next) - next);
      if (auto line = block.find("\nid: "); line != block.npos) {
        CHECK(block.substr(line) == "\nid: a-1." + std::to_string(last["a"]) + ",b-1." + std::to_string(last["b"]));
        ++ids;
      }
    }
    at = next + 12;
  }
  CHECK(last["a"] == 200);
  CHECK(last["b"] == 200);
  if (events) CHECK(ids > 10);
}

TEST_CASE("what a layer has taken and not sent yet is waited for like what waits for the socket") {
  options o;
  o.idle_time = std::chrono::seconds(5);
  o.stall_time = std::chrono::seconds(20);
  house h(o);
  client c(h);
  c.c->seals = true;
  SECTION("nobody is idle meanwhile, and afterwards they are") {
    c.ask(get("/live?channel=chat"));
    for (int i = 0; i < 5; ++i) {
      h.advance(15'000);
      REQUIRE_FALSE(c.c->closed);
      c.c->leave(false);
    }
    SECTION("when all has left") {
      c.c->leave(true);
      h.advance(4'000);
      CHECK_FALSE(c.c->closed);
      h.advance(2'000);
      CHECK(c.c->closed);
    }
    SECTION("or the peer takes nothing") {
      h.advance(20'200);
      CHECK(c.c->closed);
    }
  }
  SECTION("an end comes behind it, also for a peer that has ended") {
    bool first = GENERATE(true, false);
    CHECK(c.ask(get("/live?channel=chat", first ? "" : "Connection: close\r\n")).status == 200);
    if (first) c.c->send_end(), h.run();
    CHECK_FALSE(c.c->ended_by_server);
    c.c->leave(false), h.run();
    CHECK_FALSE(c.c->ended_by_server);
    c.c->leave(true), h.run();
    CHECK(c.c->ended_by_server);
    CHECK(c.c->closed == first);
  }
  SECTION("a stream's messages and its close come behind it, and it stalls") {
    c.send(upgrade("?channel=chat"));
    c.c->leave(true), h.run();
    c.take();
    h.publish("chat", "1");
    CHECK(c.hear() == lines{"text " + published("chat", 1, "1", h.loop.now())});
    h.publish("chat", "2");
    CHECK(c.hear().empty());
    c.c->leave(true), h.run();
    CHECK(c.hear() == lines{"text " + published("chat", 2, "2", h.loop.now())});
    SECTION("closed") {
      c.send(close_frame(1000));
      CHECK(c.hear().empty());
      CHECK_FALSE(c.c->ended_by_server);
      c.c->leave(true), h.run();
      CHECK(c.hear() == lines{"close 1000"});
      CHECK_FALSE(c.c->ended_by_server);
      c.c->leave(true), h.run();
      CHECK(c.c->ended_by_server);
    }
    SECTION("stalled") {
      h.advance(20'200);
      CHECK(c.c->closed);
    }
  }
}

TEST_CASE("a sign of life counts that has come while the loop was held up and is not read yet") {
  options o;
  o.heartbeat_answer = o.heartbeat;
  house h(o);
  client c(h);
  c.join("?channel=chat");
  h.advance(25'200);
  CHECK(c.hear() == lines{"ping"});
  c.c->unread = frame("", proto::ws_opcode::pong);
  h.advance(30'000);
  CHECK(c.hear() == lines{"ping"});
  c.c->deliver();
  h.advance(60'000);
  CHECK(c.hear() == lines{"ping", "ping", "close 4408 no sign of life"});
}

TEST_CASE("after a pause of the server whoever was not asked for life is asked, and not closed") {
  enum class before : std::uint8_t { nothing, answered, asked };
  const auto was =
      GENERATE(before::nothing, before::answered, before::asked);  // asked: the pause may have swallowed it
  const bool answers = GENERATE(true, false);
  options o;
  o.stall_time = std::chrono::seconds(300);
  o.heartbeat_answer = o.heartbeat;
  house h(o);
  client c(h);
  c.join("?channel=chat");
  if (was != before::nothing) {
    h.advance(25'200);
    CHECK(c.hear() == lines{"ping"});
    if (was == before::answered) c.send(frame("", proto::ws_opcode::pong));
  }
  h.loop.stand_still(180'000);
  CHECK(c.hear() == lines{"ping"});
  h.advance(20'000);
  CHECK(c.hear().empty());
  if (answers) {
    c.send(frame("", proto::ws_opcode::pong));
    h.advance(20'000);
    CHECK(c.hear() == lines{"ping"});
  } else {
    h.advance(5'300);
    CHECK(c.hear() == lines{"close 4408 no sign of life"});
  }
}

TEST_CASE("after a pause of the server its time limits begin anew: the peer's bytes may be on their way") {
  options o;
  o.stall_time = std::chrono::seconds(20);
  house h(o);
  client c(h);
  SECTION("a head") { c.send("GET /live"); }
  SECTION("a body") { c.send("POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{"); }
  SECTION("the next request") { c.ask(get("/live?channel=chat")); }
  SECTION("a stream that is slow") {
    c.join("?channel=chat");
    c.narrow(10);
    h.publish("chat", "1");
  }
  SECTION("a stream's end") {
    c.join("?channel=chat");
    h.gate.messages.sessions().at(0)->close(1000, "bye");
    h.run();
    CHECK(c.hear() == lines{"close 1000 bye"});
  }
  c.take();
  h.loop.stand_still(300'000);
  CHECK_FALSE(c.c->closed);
  CHECK(c.take().empty());
  h.advance(90'000);
  CHECK((c.c->closed || c.take().find("HTTP/1.1 408") == 0));
}

TEST_CASE("a reader that is never still is not let go: what its system acknowledges is progress") {
  enum class what : std::uint8_t { web_socket, event_stream, poll };
  const auto reads = GENERATE(what::web_socket, what::event_stream, what::poll);
  const bool stops = GENERATE(true, false);
  options o;
  o.stall_time = std::chrono::seconds(20);
  house h(o);
  client c(h);
  if (reads == what::web_socket) c.join("?channel=chat");
  if (reads == what::event_stream) c.open(event_stream("?channel=chat"));
  c.c->withholds = true;
  c.narrow(100'000);
  h.publish("chat", '"' + std::string(150'000, 'x') + '"');
  if (reads == what::poll) c.send(get("/live?channel=chat&since=earliest"));
  REQUIRE(c.c->waiting);
  for (int i = 0; i < 40; ++i) {
    h.advance(7'000);
    REQUIRE_FALSE(c.c->closed);
    c.c->acknowledge(600);
  }
  h.advance(15'000);
  CHECK_FALSE(c.c->closed);
  if (stops) {
    h.advance(11'000);
    CHECK(c.c->closed);
  } else {
    c.c->acknowledge(100'000);
    c.widen();
    CHECK(c.take().size() > 150'000);
  }
}

TEST_CASE("the time to answer a ping begins when the peer's system has it; until then what it takes is life") {
  enum class then : std::uint8_t { stops, answers, is_silent };
  const auto what = GENERATE(then::stops, then::answers, then::is_silent);
  auto only_pings = [](const lines& heard) {
    return std::all_of(heard.begin(), heard.end(), [](auto& line) { return line == "ping"; });
  };
  options o;
  o.heartbeat_answer = o.heartbeat;
  house h(o);
  client c(h);
  c.join("?channel=chat");
  c.c->withholds = true;
  h.publish("chat", '"' + std::string(150'000, 'x') + '"');
  c.take();
  h.advance(25'200);
  CHECK(c.hear() == lines{"ping"});
  for (int i = 0; i < 14; ++i) {  // 150 KB behind which the ping stands
    h.advance(10'000);
    c.c->acknowledge(10'000);
    REQUIRE(only_pings(c.hear()));
  }
  if (what == then::stops) {
    h.advance(50'000);
    auto heard = c.hear();
    REQUIRE_FALSE(heard.empty());
    CHECK(heard.back() == "close 4408 no sign of life");
    return;
  }
  c.c->acknowledge(1'000'000);
  h.advance(20'000);
  CHECK(only_pings(c.hear()));
  if (what == then::answers) c.send(frame("", proto::ws_opcode::pong));
  h.advance(15'000);
  auto heard = c.hear();
  REQUIRE_FALSE(heard.empty());
  CHECK(heard.back() == (what == then::answers ? "ping" : "close 4408 no sign of life"));
}

TEST_CASE("a reader that has made room after long is alive, whatever it was asked before") {
  options o;
  o.stall_time = std::chrono::seconds(300);
  house h(o);
  client c(h);
  c.join("?channel=chat");
  h.advance(24'000);
  c.narrow(10);
  h.publish("chat", "1");
  h.advance(100'000);
  c.widen();
  h.advance(20'000);
  for (auto& line : c.hear()) CHECK(line.substr(0, 5) != "close");
}

TEST_CASE("a client that sends a message and then the end of its stream, without a close, is still answered") {
  house h;
  std::string closed;
  h.gate.host.on_close = [&](session&, const close_reason& why) { closed += std::to_string(why.close_code) + " "; };
  client c(h);
  c.join("");
  std::string said = frame(R"({"id":1,"publish":{"channel":"chat","data":1}})") + frame(R"({"id":2,"ping":{}})");
  auto end = [&] {
    c.c->send(said);
    c.c->send_end();
    h.run();
  };
  SECTION("at once") { end(); }
  SECTION("when the storage has answered, and what came behind it too") {
    h.store.holding = true;
    end();
    CHECK_FALSE(c.c->closed);
    CHECK(c.take().empty());
    h.answer();
  }
  SECTION("when it takes it") {
    c.narrow(3);
    end();
    CHECK_FALSE(c.c->closed);
    c.widen();
  }
  auto heard = c.hear();
  REQUIRE(heard.size() == 2);
  CHECK(heard[0].starts_with(R"(text {"reply":1,"ok")"));
  CHECK(heard[1].starts_with(R"(text {"reply":2,"ok")"));
  CHECK(c.c->closed);
  CHECK(closed == "1006 ");
}

TEST_CASE("to a session that is ending nothing is sent any more, and it says so") {
  house h;
  std::vector<std::error_code> said;
  std::size_t counted = 0;
  h.gate.host.on_close = [&](session& s, const close_reason&) {
    said = {s.send("news", "1"), s.follow("other")};
    counted = h.gate.messages.session_count();
  };
  client c(h);
  c.join("?channel=chat");
  session* s = h.gate.messages.sessions().at(0);
  CHECK_FALSE(s->send("news", "1"));
  s->close(1000, "bye");
  CHECK(s->send("news", "1") == operation_aborted());
  CHECK(s->follow("other") == operation_aborted());
  h.run();
  CHECK(said == std::vector<std::error_code>{operation_aborted(), operation_aborted()});
  CHECK(counted == 1);
  CHECK(h.gate.messages.session_count() == 0);
}

TEST_CASE("a client that has ended its stream and takes no answer is let go in close_time") {
  house h;
  client c(h);
  c.join("");
  c.narrow(3);
  c.c->send(frame(R"({"id":1,"ping":{}})"));
  c.c->send_end();
  h.run();
  CHECK_FALSE(c.c->closed);
  h.advance(5'200);
  CHECK(c.c->closed);
}

TEST_CASE("the host's own frames are answered too when the end comes with them") {
  house h;
  frame_handlers echo;
  echo.on_message = [](frame_socket& s, std::string_view bytes, bool) { s.send_text(bytes); };
  h.gate.frame_routes.push_back(std::unique_ptr<detail::frame_route>(
      new detail::frame_route{"/echo", std::move(echo),
                              [](const transport::live_request& a, const std::vector<std::string>& known,
                                 std::size_t most) { return transport::websocket::begin_plain(a, known, most); }}));
  client c(h);
  CHECK(frames(c.open(upgrade("", "", "/echo"), 101)).empty());
  c.c->send(frame("hello"));
  c.c->send_end();
  h.run();
  CHECK(c.hear() == lines{"text hello"});
  CHECK(c.c->closed);
}

TEST_CASE("a WebSocket that only sends hears from the server too") {
  house h;
  client raw(h);
  raw.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  h.gate.messages.sessions().at(0)->unfollow("chat");
  client c(h);
  c.join("");
  std::size_t pings = 0;
  for (int i = 0; i < 100; ++i) {
    h.advance(1'000);
    c.send(frame("", proto::ws_opcode::pong));
    pings += c.hear().size();
  }
  CHECK(pings >= 3);
}

TEST_CASE("silence is not held against a client that is not being read") {
  house h;
  client c(h);
  c.join("?channel=chat");
  h.store.holding = true;
  c.say(R"({"id":1,"publish":{"channel":"chat","data":1}})");
  for (int i = 0; i < 80; ++i) {
    h.advance(1'000);
    c.c->send(frame("", proto::ws_opcode::pong));
  }
  h.answer();
  c.c->deliver();
  h.advance(1'000);
  auto heard = c.hear();
  CHECK(std::count(heard.begin(), heard.end(), ok("1", R"({"epoch":"chat-1","offset":1})")) == 1);
  CHECK_FALSE(c.c->ended_by_server);
  for (auto& line : heard) CHECK_FALSE(line.starts_with("close"));
}

TEST_CASE("a heartbeat is not late after the client was blocked") {
  house h;
  client c(h);
  c.open(event_stream("?channel=chat"));
  c.narrow(0);
  h.publish("chat", "1");
  h.advance(10'000);
  c.widen();
  c.take();
  h.advance(25'300);
  CHECK(c.take() == ": beat\n" + event("ping", "{\"ping\":{}}"));
}

TEST_CASE("a peer that takes nothing for a minute is let go, one that takes a little is not") {
  house h;
  for (std::string request :
       {event_stream("?channel=chat"), upgrade("?channel=chat"), get("/live?channel=chat&since=earliest"),
        get("/live?channel=chat&since=earliest", "Connection: close\r\n"), get("/page"),
        get("/page", "Connection: close\r\n")}) {
    INFO(request);
    h.gate.host.on_http = [](const hailwire::request&, reply_to<result<response>> reply) {
      reply(response{200, "text/plain", std::string(100'000, 'x'), {}});
    };
    client idle(h), slow(h);
    for (auto* c : {&idle, &slow}) {
      c->narrow(100);
      c->send(request);
    }
    for (int i = 0; i < 40; ++i) h.publish("chat", '"' + std::string(1000, 'x') + '"');
    for (int i = 0; i < 59; ++i) {
      h.advance(1'000);
      if (i % 10 == 0) slow.widen(50);
    }
    CHECK_FALSE(idle.c->closed);
    h.advance(2'500);
    CHECK(idle.c->closed);
    for (int i = 0; i < 100; ++i) {
      h.advance(3'000);
      slow.widen(50);
      if (slow.c->unread.empty() && request.find("Upgrade") != request.npos && i % 5 == 0)
        slow.c->send(frame("", proto::ws_opcode::pong));
    }
    CHECK_FALSE(slow.c->closed);
    slow.widen();
    if (request.find("page") != request.npos) CHECK(read_answer(slow.take()).body.size() == 100'000);
    CHECK_FALSE(h.gate.messages.session_count() > 1);
    slow.c->reset();
    h.run();
  }
}

TEST_CASE("a close handshake has a time limit, and ends early when the peer answers") {
  house h;
  client c(h), d(h), e(h);
  for (auto* x : {&c, &d, &e}) x->join("?channel=chat");
  for (auto* s : h.gate.messages.sessions()) s->close(4000, "done");
  h.run();
  CHECK(c.hear() == lines{"close 4000 done"});
  CHECK_FALSE(c.c->ended_by_server);
  d.send(close_frame(4000));
  CHECK(d.c->ended_by_server);
  d.c->send_end();
  h.run();
  CHECK(d.c->closed);
  e.c->send_end();
  h.run();
  CHECK(e.c->closed);
  h.advance(5'200);
  CHECK(c.c->closed);
}

TEST_CASE("the peer's close is seen also when it waits behind commands that were not read") {
  house h;
  client c(h);
  c.join("?channel=chat");
  h.store.holding = true;
  c.send(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})") + frame(R"({"id":2,"ping":{}})") +
         close_frame(1000));
  h.gate.messages.sessions().at(0)->close(4000, "done");
  h.run();
  h.answer();
  CHECK(c.c->ended_by_server);
  auto heard = c.hear();
  CHECK(heard == lines{"close 4000 done"});
  for (int i = 0; i < 100; ++i) c.send(std::string(1000, 'x'));
  c.c->send_end();
  h.run();
  CHECK(c.c->closed);
}

// ---- ends

TEST_CASE("on_open and on_close come in pairs, with the reason") {
  house h;
  lines heard;
  h.gate.host.on_open = [&](session& s) { heard.push_back("open " + std::string(s.transport())); };
  h.gate.host.on_close = [&](session& s, const close_reason& r) {
    heard.push_back("close " + std::string(s.transport()) + ' ' + std::to_string(r.close_code) + ' ' + r.text +
                    (r.by_peer ? " by peer" : ""));
  };
  {
    client c(h);
    c.join("?channel=chat");
    c.send(close_frame(1000, "bye"));
    CHECK(std::exchange(heard, {}) == lines{"open websocket", "close websocket 1000 bye by peer"});
  }
  {
    client c(h);
    c.join("?channel=chat");
    c.c->reset();
    h.run();
    CHECK(std::exchange(heard, {}) == lines{"open websocket", "close websocket 1006  by peer"});
  }
  {
    client c(h);
    c.open(event_stream("?channel=chat"));
    c.c->send_end();
    h.run();
    CHECK(std::exchange(heard, {}) == lines{"open sse", "close sse 1006  by peer"});
  }
  {
    client c(h);
    c.open(event_stream("?channel=chat"));
    h.gate.messages.sessions().at(0)->close(4001, "no more");
    h.run();
    CHECK(std::exchange(heard, {}) == lines{"open sse", "close sse 4001 no more"});
    CHECK(c.c->ended_by_server);
  }
  {
    client c(h);
    c.ask(get("/live?channel=chat"));
    CHECK(std::exchange(heard, {}) == lines{"open short_poll", "close short_poll 1000 "});
    c.send(get("/live?channel=chat&since=earliest&wait=9"));
    CHECK(std::exchange(heard, {}) == lines{"open long_poll"});
    h.advance(10'000);
    CHECK(std::exchange(heard, {}) == lines{"close long_poll 1000 "});
    c.ask(post("?channel=chat", "1"));
    c.ask(get("/live?channel=secret"));
    CHECK(heard.empty());
  }
  {
    client c(h);
    c.join("?channel=chat");
    h.advance(51'000);
    CHECK(std::exchange(heard, {}) == lines{"open websocket", "close websocket 4408 no sign of life"});
  }
}

TEST_CASE("a host that closes its user's sessions when one closes has no poll answered twice") {
  house h;
  h.gate.host.on_close = [&](session& s, const close_reason&) {
    for (session* other : h.gate.messages.find(s.user())) other->close(4000, "one at a time");
  };
  client c(h);
  for (std::string wait : {"", "&wait=9"}) {
    CAPTURE(wait);
    c.send(get("/live?channel=chat&user=ada&since=earliest" + wait));
    h.advance(10'000);
    auto a = read_answer(c.take());
    CHECK(a.status == 200);
    CHECK(a.rest.empty());
  }
}

TEST_CASE("a raw client that has lost something is closed before on_open, and so without on_close") {
  house h;
  lines heard;
  h.gate.host.on_open = [&](session&) { heard.push_back("open"); };
  h.gate.host.on_close = [&](session&, const close_reason&) { heard.push_back("close"); };
  for (int i = 0; i < 3; ++i) h.publish("chat", "1");
  h.store.trim("chat", 1);
  client c(h);
  CHECK(c.join("?channel=chat&since=chat-1.0", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n") ==
        lines{"close 4410 gap"});
  c.c->reset();
  h.run();
  CHECK(heard.empty());
}

TEST_CASE("hooks that throw close their session with 1011, are logged, and nobody else notices") {
  house h;
  client neighbour(h);
  neighbour.join("?channel=chat");
  std::size_t closed = 0;
  h.gate.host.on_close = [&](session&, const close_reason&) {
    ++closed;
    throw std::runtime_error("close");
  };
  SECTION("on_open") {
    h.gate.host.on_open = [](session&) { throw std::runtime_error("open"); };
    client c(h), s(h), p(h);
    CHECK(c.join("?channel=chat").back() == "close 1011 internal error");
    s.open(event_stream("?channel=chat"));
    CHECK(s.c->ended_by_server);
    CHECK(p.ask(get("/live?channel=chat")).status == 500);
    CHECK(closed == 3);
    CHECK(h.log.size() == 6);
  }
  SECTION("on_publish and on_command") {
    h.gate.host.on_publish = [](session&, std::string_view, const payload&) -> verdict {
      throw std::runtime_error("publish");
    };
    h.gate.host.on_command = [](session&, std::string_view, std::string_view, command_reply) {
      throw std::runtime_error("command");
    };
    for (std::string command : {R"({"id":1,"publish":{"channel":"chat","data":1}})", R"({"id":1,"dance":1})"}) {
      client c(h);
      c.join("?channel=chat");
      c.send(frame(command) + frame(R"({"id":2,"ping":{}})"));
      auto heard = c.hear();
      REQUIRE(heard.size() == 2);
      CHECK(heard[0].starts_with(R"(text {"reply":1,"error":{"code":"internal")"));
      CHECK(heard[1] == "close 1011 internal error");
    }
    CHECK(closed == 2);
    CHECK(h.log == lines{"on_publish threw: publish", "on_close threw: close", "on_command threw: command",
                         "on_close threw: close"});
    h.gate.host.on_publish = nullptr;
  }
  h.publish("chat", "1");
  CHECK(neighbour.hear() == lines{text(published("chat", 1, "1"))});
}

TEST_CASE("a server that stops ends streams with a close, held polls with an answer, and lets answers out") {
  house h;
  h.publish("chat", "1");
  client ws(h), sse(h), held(h), idle(h), busy(h), waiting(h), asking(h);
  std::vector<authorize_reply> later;
  ws.join("?channel=chat");
  sse.open(event_stream("?channel=chat"));
  held.send(get("/live?channel=chat&since=chat-1.1&wait=30"));
  idle.ask(get("/nowhere"));
  busy.narrow(10);
  busy.send(get("/live?channel=chat&since=earliest"));
  h.store.holding = true;
  waiting.send(post("?channel=chat", "1"));
  h.gate.host.authorize = [&](const request&, authorize_reply reply) { later.push_back(std::move(reply)); };
  asking.send(get("/live?channel=chat"));

  h.gate.stopping = true;
  h.gate.messages.stop();
  for (auto* c : h.gate.connections()) c->shut_down();
  h.run();
  CHECK(ws.hear() == lines{"close 1001 server stopped"});
  CHECK(sse.c->ended_by_server);
  auto a = read_answer(held.take());
  CHECK(a.body == R"({"messages":[],"notices":[],"cursor":"chat-1.1"})");
  CHECK(a["connection"] == "close");
  CHECK(idle.c->ended_by_server);
  CHECK(read_answer(waiting.take()).status == 500);  // whether it was stored is unknown
  a = read_answer(asking.take());
  CHECK(a.status == 503);
  CHECK(!a["retry-after"].empty());
  CHECK_FALSE(busy.c->closed);
  busy.widen();
  CHECK(read_answer(busy.take()).status == 200);
  h.advance(5'200);
  CHECK(h.gate.connections().empty());
  later.at(0)(grant{});
  h.run();
}

TEST_CASE("a server that stops says of each command of a POST whether it was done, may be, or will not be") {
  house h;
  std::vector<command_reply> later;
  h.gate.host.on_command = [&](session&, std::string_view, std::string_view, command_reply reply) {
    later.push_back(std::move(reply));
  };
  client one(h), array(h);
  one.send(post("", R"({"id":1,"fly":{}})"));
  array.send(post(
      "",
      R"([{"id":1,"publish":{"channel":"chat","data":1}},{"id":2,"fly":{}},{"id":3,"publish":{"channel":"chat","data":2}},4])"));
  REQUIRE(later.size() == 2);
  h.gate.stopping = true;
  h.gate.messages.stop();
  for (auto* c : h.gate.connections()) c->shut_down();
  h.run();
  CHECK(read_answer(one.take()).status == 500);
  auto a = read_answer(array.take());
  CHECK(a.status == 200);
  CHECK(
      a.body ==
      R"([{"reply":1,"ok":{"epoch":"chat-1","offset":1}},{"reply":2,"error":{"code":"internal","message":"internal error"}},)"
      R"({"reply":3,"error":{"code":"draining","message":"server is going away","retry_after":1}},)"
      R"({"reply":null,"error":{"code":"draining","message":"server is going away","retry_after":1}}])");
  for (auto& reply : later) reply(std::string("{}"));
  h.run();
}

TEST_CASE("when it stops, a peer that takes nothing gets close_time, not more") {
  house h;
  client c(h);
  c.narrow(10);
  c.send(get("/nowhere"));
  h.gate.stopping = true;
  h.gate.messages.stop();
  c.c->shut_down();
  h.advance(5'200);
  CHECK(c.c->closed);
}

// ---- the host's side of a session

TEST_CASE("the host follows, unfollows, sends and closes") {
  house h;
  h.publish("news", "1");
  client c(h);
  c.join("?channel=chat&user=ada");
  session* s = h.gate.messages.find("ada").at(0);
  CHECK(s->channels() == lines{"chat"});
  CHECK_FALSE(s->follow("news", start::earliest()));
  h.run();
  CHECK(c.hear() == lines{text(R"({"followed":{"news":{"epoch":"news-1","offset":0,"recovered":true}}})"),
                          text(published("news", 1, "1"))});
  CHECK(s->follow("news") == errc::bad_request);
  CHECK_FALSE(s->follow("old", start::after({"x", 3})));
  h.run();
  auto heard = c.hear();
  REQUIRE(heard.size() == 2);
  CHECK(contains(heard[1], R"({"gap":{"channel":"old","reason":"epoch")"));
  CHECK_FALSE(s->unfollow("chat"));
  CHECK(s->unfollow("chat") == errc::not_found);
  CHECK_FALSE(s->send("hello", "{\"a\":\n1}"));
  CHECK(s->send("open", "1") == errc::bad_request);
  CHECK(s->send("a b", "1") == errc::bad_request);
  CHECK(s->send("hello", "{") == errc::bad_request);
  h.run();
  CHECK(c.hear() == lines{text(R"({"closed":{"channel":"chat","code":"forbidden"}})"), text("{\"hello\":{\"a\": 1}}")});
  h.publish("chat", "2");
  CHECK(c.hear().empty());
  s->data<std::string>() = "mine";
  CHECK(s->data<std::string>() == "mine");
  CHECK_THROWS_AS(s->data<int>(), std::bad_cast);
  s->close(4000, "enough");
  s->close(4001, "again");
  h.run();
  CHECK(c.hear() == lines{"close 4000 enough"});
  CHECK(h.gate.messages.find("ada").empty());
}

TEST_CASE(
    "what a client follows may move in memory while a frame is half sent or being read, and nothing is lost or "
    "repeated") {
  const std::string padded = '"' + std::string(40, 'x') + '"';
  for (std::size_t room = 0; room < 420; ++room) {
    INFO("room " << room);
    house h;
    client c(h);
    c.join("?channel=a&channel=b&channel=c&user=ada");
    session* s = h.gate.messages.find("ada").at(0);
    c.narrow(room);
    for (int i = 0; i < 2; ++i)
      for (const char* channel : {"c", "b", "a"}) h.publish(channel, padded);
    h.store.holding = room % 3 == 0;  // then some of it waits for a read while it moves
    std::string got = c.take();
    c.widen(7);
    CHECK_FALSE(s->follow("d"));
    CHECK_FALSE(s->follow("e"));  // two others: the array grows
    if (room % 2) CHECK_FALSE(s->unfollow("d"));
    CHECK_FALSE(s->unfollow("a"));
    h.run();
    got += c.take();
    c.widen(11);
    for (const char* channel : {"b", "e", "c"}) h.publish(channel, padded);
    h.store.holding = false;
    h.answer();
    c.widen();
    got += c.take();
    std::map<std::string, int> count;
    for (const std::string& line : frames(got)) {
      if (!contains(line, padded)) continue;
      auto from = line.find(":\"") + 2;
      std::string channel = line.substr(from, line.find('"', from) - from);
      CHECK(contains(line, "\"offset\":" + std::to_string(++count[channel]) + ','));
    }
    CHECK(count["b"] == 3);
    CHECK(count["c"] == 3);
    CHECK(count["e"] == 1);
    CHECK(count["a"] <= 2);
  }
}

TEST_CASE("a client that cannot be told what it follows is closed, so nothing is lost on it silently") {
  house h;
  client slow(h), raw(h), events(h);
  slow.join("?channel=chat&user=ada");
  raw.join("?channel=chat&user=raw", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  events.open(event_stream("?channel=chat&user=eve"));
  slow.narrow(0);
  events.narrow(0);
  for (std::string user : {"ada", "eve"}) {
    session* s = h.gate.messages.find(user).at(0);
    for (std::size_t n : {1000u, 50u, 1u})
      while (!s->send("filler", std::string("\"").append(n, 'x').append("\""))) h.run();
    if (user == "ada") CHECK_FALSE(s->follow("news"));
    if (user == "eve") CHECK_FALSE(s->unfollow("chat"));
    h.run();
    CHECK(h.gate.messages.find(user).empty());
  }
  CHECK_FALSE(h.gate.messages.find("raw").at(0)->unfollow("chat"));
  h.run();
  CHECK(raw.hear() == lines{"close 4403 the channel may not be followed any more"});
  slow.widen();
  CHECK(slow.hear().back() == "close 1013 too much is unsent");
  events.widen();
  std::string told = events.take();
  INFO(told.substr(told.size() > 300 ? told.size() - 300 : 0));
  CHECK(without_retry(told).find("x\"}\n\nretry: R\nevent: bye\ndata: {\"bye\":{\"code\":\"overloaded\"") !=
        std::string::npos);
  CHECK(events.c->ended_by_server);
}

TEST_CASE("a channel that the host added does not enter the ids of an event stream") {
  house h;
  client one(h), two(h);
  one.open(event_stream("?channel=a"));
  two.open(event_stream("?channel=a&channel=b"));
  for (auto* s : h.gate.messages.sessions()) CHECK_FALSE(s->follow("extra"));
  h.run();
  one.take();
  two.take();
  h.publish("a", "1");
  h.publish("extra", "2");
  event_source es;
  es.last_id = "none";
  es.read(one.take());
  CHECK(es.messages.size() == 2);
  CHECK(es.last_id == "a-1.1");
  event_source both;
  both.read(two.take());
  CHECK(both.messages.size() == 2);
  CHECK(both.last_id == "a-1.1,b-1.0");
}

TEST_CASE("a channel that the host took away keeps its place in the cursor") {
  house h;
  for (auto c : {"a", "b", "c"}) h.publish(c, "1");
  client s(h), p(h);
  s.open(event_stream("?channel=a&channel=b&channel=c&user=ada"));
  p.send(get("/live?channel=a&channel=b&since=latest,earliest&user=bob"));
  p.take();
  p.send(get("/live?channel=a&channel=b&since=a-1.1,b-1.1&wait=30&user=bob"));
  CHECK_FALSE(h.gate.messages.find("ada").at(0)->unfollow("b"));
  h.run();
  s.take();
  h.publish("c", "2");
  event_source es;
  es.read(s.take());
  CHECK(es.last_id == "a-1.1,b-1.1,c-1.2");
  h.publish("b", "3");
  CHECK(s.take().empty());
  p.take();
  p.send(get("/live?channel=a&channel=b&since=a-1.1,b-1.2&wait=30&user=bob"));
  CHECK_FALSE(h.gate.messages.find("bob").at(0)->unfollow("a"));
  h.run();
  auto a = read_answer(p.take());
  CHECK(a.body ==
        R"({"messages":[],"notices":[{"closed":{"channel":"a","code":"forbidden"}}],"cursor":"a-1.1,b-1.2"})");
}

TEST_CASE("a notice for a poll ends its wait; closing a poll's session answers it") {
  house h;
  client c(h);
  c.send(get("/live?channel=chat&since=earliest&wait=30&user=ada"));
  CHECK_FALSE(h.gate.messages.find("ada").at(0)->send("hello", "1"));
  CHECK(h.gate.messages.find("ada").at(0)->follow("news") == errc::bad_request);
  h.run();
  CHECK(read_answer(c.take()).body == R"({"messages":[],"notices":[{"hello":1}],"cursor":"chat-1.0"})");
  c.send(get("/live?channel=chat&since=earliest&wait=30&user=ada"));
  h.gate.messages.find("ada").at(0)->close(4403, "no");
  h.run();
  CHECK(read_answer(c.take()).body == R"({"messages":[],"notices":[],"cursor":"chat-1.0"})");
  h.gate.host.on_open = [](session& s) { s.close(4403, "go away"); };
  CHECK(c.ask(get("/live?channel=chat&wait=30&since=earliest")).status == 403);
}

TEST_CASE("the host may close, send and follow from within on_open") {
  house h;
  h.gate.host.on_open = [](session& s) {
    s.send("hello", "1");
    s.follow("news", start::earliest());
    if (s.user() == "bob") s.close(4403, "not bob");
  };
  h.publish("news", "1");
  client c(h), d(h);
  auto heard = c.join("?channel=chat");
  REQUIRE(heard.size() == 4);
  CHECK(heard[1] == text("{\"hello\":1}"));
  CHECK(contains(heard[2], "followed"));
  heard = d.join("?channel=chat&user=bob");
  CHECK(heard.back() == "close 4403 not bob");
  d.send(close_frame(4403));
  CHECK(d.c->ended_by_server);
}

// ---- the host's own frames

TEST_CASE("on_websocket: the host's frames on its own path") {
  house h;
  lines heard;
  frame_handlers handlers;
  frame_socket* open = nullptr;
  handlers.subprotocols = {"v2", "v1"};
  handlers.max_message = 100;
  handlers.on_open = [&](frame_socket& s, const request& r) {
    if (r.param("no") == "1") return false;
    if (r.param("throw") == "1") throw std::runtime_error("open");
    s.data = std::make_shared<int>(5);
    CHECK_FALSE(s.send_text("welcome"));
    if (r.param("bye") == "1") s.close(4002, "at once");
    CHECK((r.path() == "/frames" && r.address() == "203.0.113.7" && r.header("host") == "h"));  // also behind a close
    open = &s;
    return true;
  };
  handlers.on_message = [&](frame_socket& s, std::string_view bytes, bool binary) {
    heard.push_back((binary ? "binary " : "text ") + std::string(bytes) + ' ' +
                    std::to_string(*std::static_pointer_cast<int>(s.data)));
    if (bytes == "throw") throw std::runtime_error("message");
    if (bytes == "close") {
      s.close(4001, "asked");
      CHECK(bytes == "close");
      return;
    }
    if (binary)
      CHECK_FALSE(s.send_binary(bytes));
    else
      CHECK_FALSE(s.send_text(bytes));
  };
  handlers.on_close = [&](frame_socket&, const close_reason& r) {
    heard.push_back("closed " + std::to_string(r.close_code) + (r.by_peer ? " by peer" : ""));
  };
  h.gate.frame_routes.push_back(std::unique_ptr<detail::frame_route>(
      new detail::frame_route{"/frames", handlers,
                              [](const transport::live_request& a, const std::vector<std::string>& known,
                                 std::size_t most) { return transport::websocket::begin_plain(a, known, most); }}));
  auto request = [](const std::string& query, const std::string& more = {}) { return upgrade(query, more, "/frames"); };
  SECTION("both ways") {
    client c(h);
    CHECK(frames(c.open(request("", "Sec-WebSocket-Protocol: v1, v2\r\n") + frame("early"), 101)) ==
          lines{"text welcome", "text early"});
    c.send(frame("a") + frame(std::string("\0", 1), proto::ws_opcode::binary));
    CHECK(c.hear() == lines{"text a", std::string("binary \0", 8)});
    c.send(close_frame(1000));
    CHECK(c.hear() == lines{"close 1000"});
    CHECK(heard.back() == "closed 1000 by peer");
    CHECK(open->send_text("late") == operation_aborted());
  }
  SECTION("the subprotocol is the client's first choice among those known, or none") {
    client c(h), d(h);
    CHECK(c.ask(request("", "Sec-WebSocket-Protocol: v3, v1, v2\r\n"))["sec-websocket-protocol"] == "v1");
    CHECK_FALSE(d.ask(request("", "Sec-WebSocket-Protocol: v3\r\n")).fields.count("sec-websocket-protocol"));
  }
  SECTION("no") {
    client c(h);
    CHECK(c.ask(request("?no=1")).status == 403);
    CHECK(c.ask(request("?throw=1")).status == 500);
    CHECK(h.log == lines{"on_open threw: open"});
    CHECK(c.ask(request("", "Origin: https://evil.example\r\n")).status == 403);
    CHECK(c.ask(get("/frames")).status == 404);
    CHECK(heard.empty());
    CHECK(c.join("?channel=chat").size() == 1);
  }
  SECTION("asked for by one who has closed its half: there is nobody to talk with") {
    h.store.holding = true;
    client c(h);
    c.send(post("?channel=chat", "1") + request(""));
    c.c->send_end();
    h.answer();
    auto a = read_answer(c.take());
    CHECK(a.status == 201);
    CHECK(read_answer(a.rest).status == 400);
    CHECK(c.c->closed);
    CHECK(heard.empty());
  }
  SECTION("closed within on_open") {
    client c(h);
    CHECK(frames(c.open(request("?bye=1"), 101)) == lines{"text welcome", "close 4002 at once"});
    CHECK(heard == lines{"closed 4002"});
  }
  SECTION("a handler that throws") {
    client c(h);
    c.open(request(""), 101);
    c.say("throw");
    CHECK(c.hear() == lines{"close 1011 internal error"});
    CHECK(h.log == lines{"on_message threw: message"});
    CHECK(heard == lines{"text throw 5", "closed 1011"});
  }
  SECTION("closing, too big, not UTF-8, gone") {
    client a(h), b(h), c(h), d(h);
    for (auto* x : {&a, &b, &c, &d}) x->open(request(""), 101);
    a.say("close");
    CHECK(a.hear() == lines{"close 4001 asked"});
    b.say(std::string(101, 'x'));
    CHECK(b.hear().at(0).starts_with("close 1009"));
    c.say("\xff");
    CHECK(c.hear().at(0).starts_with("close 1007"));
    d.c->reset();
    h.run();
    CHECK(heard == lines{"text close 5", "closed 4001", "closed 1009", "closed 1007", "closed 1006 by peer"});
  }
  SECTION("a client that does not read is not read, and the host is told overloaded") {
    client c(h);
    c.open(request(""), 101);
    c.narrow(0);
    CHECK_FALSE(open->send_text(std::string(70'000, 'x')));
    CHECK(open->send_text("more") == errc::overloaded);
    h.run();
    c.say("unread");
    CHECK(heard.empty());
    c.widen();
    CHECK(heard == lines{"text unread 5"});
  }
}

// ---- the same however it is cut, and whatever breaks

namespace {

// One thing that happens in a script.
using step = std::function<void(house&, client&)>;
struct script {
  std::string name;
  std::vector<step> steps;
};

step sends(std::string bytes) {
  return [bytes](house&, client& c) { c.send(bytes); };
}
step passes(std::int64_t ms) {
  return [ms](house& h, client& c) {
    h.advance(ms);
    c.widen(0);
  };
}
step publishes(std::string channel, std::string json) {
  return [=](house& h, client& c) {
    CHECK_FALSE(h.gate.messages.publish(channel, payload::json(json)));
    h.run();
    c.widen(0);
  };
}
step answers(std::size_t n) {
  return [n](house& h, client& c) {
    h.answer(n);
    c.widen(0);
  };
}
step takes(std::size_t n) {
  return [n](house&, client& c) { c.widen(n); };
}
step holds(bool on) {
  return [on](house& h, client&) { h.store.holding = on; };
}

std::vector<script> scripts() {
  std::string big = '"' + std::string(5000, 'x') + '"';
  return {
      {"polls",
       {publishes("chat", "1"), sends(get("/live?channel=chat&since=earliest")),
        sends(get("/live?channel=chat&since=chat-1.1&wait=20")), publishes("chat", "2"),
        sends(get("/live?channel=chat&since=chat-1.2&wait=5")), passes(6000), sends(post("?channel=chat", big)),
        sends(get("/live?channel=chat&since=chat-1.2"))}},
      {"posts",
       {sends(post(
            "?user=a",
            R"([{"id":1,"publish":{"channel":"chat","data":1}},{"id":2,"history":{"channel":"chat"}},{"id":3,"ping":{}}])")),
        holds(true),
        sends(
            post("?user=a",
                 R"([{"id":1,"publish":{"channel":"chat","data":1}},{"id":2,"publish":{"channel":"chat","data":2}}])")),
        answers(1), answers(9)}},
      {"event stream",
       {publishes("a", "1"), publishes("b", big), sends(event_stream("?channel=a&channel=b&since=earliest")),
        publishes("a", "2"), publishes("b", "3"), passes(26000), publishes("a", big)}},
      {"slow event stream",
       {publishes("a", big), takes(0), sends(event_stream("?channel=a&channel=b&since=earliest")), takes(200),
        publishes("b", big), takes(3000), publishes("a", "2"), takes(9000), takes(SIZE_MAX)}},
      {"websocket",
       {publishes("chat", "1"), sends(upgrade("?channel=chat&since=earliest")),
        sends(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})")),
        sends(frame(R"({"id":2,"subscribe":{"channel":"news","since":"earliest"}})")), publishes("news", "1"),
        sends(frame(R"({"id":3,"unsubscribe":{"channel":"chat"}})")), passes(26000),
        sends(frame("", proto::ws_opcode::pong)), sends(close_frame(1000))}},
      {"websocket on a slow storage",
       {publishes("chat", "1"), holds(true), sends(upgrade("?channel=chat&channel=news&since=earliest")), answers(1),
        answers(1),
        sends(frame(R"({"id":1,"publish":{"channel":"chat","data":1}})") +
              frame(R"({"id":2,"subscribe":{"channel":"more","since":"earliest"}})") +
              frame(R"({"id":3,"publish":{"channel":"chat","data":2}})")),
        answers(1), answers(1), answers(9), sends(close_frame(1000))}},
      {"raw",
       {sends(upgrade("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n")), sends(frame("hello")),
        publishes("chat", big), sends(frame("again")), sends(frame("\xff"))}},
      {"closing",
       {sends(upgrade("?channel=chat")),
        [](house& h, client&) {
          for (auto* s : h.gate.messages.sessions())
            if (s->user().empty()) s->close(4000, "done");
          h.run();
        },
        passes(1000), sends(close_frame(4000)), passes(6000)}},
      {"bad", {sends("GET /live?channel=a HTTP/1.1\r\nHost: h\r\nExpect: 1\r\n\r\n"), passes(6000)}},
      {"slow head", {sends("GET /live?channel=a HTTP/1.1\r\nHost: h\r\n"), passes(11000), passes(6000)}},
  };
}

}  // namespace

TEST_CASE(
    "each script again with the connection breaking at each step: no callback comes after the last, nothing stays") {
  enum class fault { reset, end, stall, stop, destroy };
  std::size_t runs = 0;
  for (auto& s : scripts()) {
    for (fault f : {fault::reset, fault::end, fault::stall, fault::stop, fault::destroy}) {
      for (std::size_t broken = 0; broken <= s.steps.size(); ++broken) {
        INFO(s.name << ", fault " << static_cast<int>(f) << " at step " << broken);
        int open = 0, opened = 0;
        house h;
        client neighbour(h);
        neighbour.join("?channel=neighbours&user=neighbour");
        h.gate.host.on_open = [&](session& x) {
          ++open, ++opened;
          x.data<std::string>() = "here";
        };
        h.gate.host.on_close = [&](session& x, const close_reason&) {
          --open;
          CHECK((x.data<std::string>() == "here" || x.user() == "neighbour"));
        };
        client c(h);
        for (std::size_t i = 0; i < s.steps.size(); ++i) {
          if (i == broken) {
            switch (f) {
              case fault::reset:
                c.c->reset();
                break;
              case fault::end:
                c.c->send_end();
                break;
              case fault::stall:
                c.c->room = 0;
                break;
              case fault::stop:
                h.gate.stopping = true;
                c.c->shut_down();
                break;
              case fault::destroy:
                if (!c.c->closed) c.c->destroy();
                break;
            }
            h.run();
          }
          if (f == fault::stall && i >= broken) c.c->room = 0;
          if (!c.c->closed) s.steps[i](h, c);
          ++runs;
        }
        h.store.holding = false;
        h.answer();
        neighbour.send(frame("", proto::ws_opcode::pong));
        neighbour.take();
        h.publish("neighbours", "1");
        CHECK(neighbour.hear() == lines{text(published("neighbours", 1, "1", h.loop.now()))});
        for (int i = 0; i < 200 && !c.c->closed; ++i) {
          h.advance(1000);
          neighbour.send(frame("", proto::ws_opcode::pong));
          neighbour.take();
        }
        CHECK(open >= 0);
        if (broken < s.steps.size() && f != fault::stall) CHECK(c.c->closed);
        if (c.c->closed) {
          CHECK(open == 0);
          CHECK(h.gate.connections().size() == 1);
          CHECK(h.gate.messages.session_count() == 1);
        }
        h.gate.host.on_open = [](session&) { FAIL("opened after the end"); };
      }
    }
  }
  CHECK(runs > 300);
}

TEST_CASE("streams answer the same however their input is cut") {
  for (auto& s : scripts()) {
    INFO(s.name);
    auto run = [&](std::size_t pieces) {
      house h;
      client c(h);
      c.pieces = pieces;
      for (auto& st : s.steps) st(h, c);
      return c.take();
    };
    auto whole = run(SIZE_MAX);
    for (std::size_t cut : std::initializer_list<std::size_t>{1, 2, 3, 5, 7, 11, 13, 29}) {
      if (run(cut) != whole) FAIL("differs in pieces of " << cut << " bytes");
    }
  }
}
