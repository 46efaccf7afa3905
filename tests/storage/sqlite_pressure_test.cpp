// SPDX-License-Identifier: BSL-1.0
// A disk that is slower than those who publish: what the clients of a whole server are told.

#include "detail/connection/stage.hpp"
#include "storage/faulty_disk.hpp"
#include "storage/temporary.hpp"

using namespace stage;

namespace {

bool contains(std::string_view all, std::string_view part) { return all.find(part) != all.npos; }

struct slow_disk {
  faulty_disk disk;
  temporary dir;
  sqlite_options options = [this] {
    sqlite_options o;
    o.vfs = disk.name();
    o.pending = 6;
    return o;
  }();
  std::unique_ptr<sqlite_storage> storage = ::open(dir.file(), options);
  house h{detail::erase_storage<sqlite_storage&>(*storage)};

  /// Turns the loop until what the client was sent is enough.
  std::string wait(client& c, std::string_view last) {
    std::string got;
    for (auto late = std::chrono::steady_clock::now() + std::chrono::seconds(60); got.find(last) == got.npos;) {
      REQUIRE(std::chrono::steady_clock::now() < late);
      h.run();
      c.c->deliver();
      h.run();
      got += c.take();
      std::this_thread::yield();
    }
    return got;
  }
};

}  // namespace

TEST_CASE(
    "past what a slow disk has room for everybody is overloaded at once and told when to come back; what was taken is "
    "kept") {
  slow_disk s;
  client watcher(s.h), socket(s.h), socket_late(s.h), raw(s.h);
  socket.send(upgrade("?user=ada"));
  socket_late.send(upgrade("?user=bob"));
  watcher.send(upgrade("?channel=chat"));
  raw.send(upgrade("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n"));
  s.wait(watcher, "\"open\"");
  s.wait(raw, "\r\n\r\n");
  s.wait(socket, "\"open\"");
  s.wait(socket_late, "\"open\"");
  auto command = [](const std::string& data) { return R"({"id":1,"publish":{"channel":"chat","data":)" + data + "}}"; };

  s.disk.hold();
  socket.say(command("1"));
  std::vector<std::unique_ptr<client>> taken;
  for (int i = 2; i <= 6; ++i) {
    taken.push_back(std::make_unique<client>(s.h));
    taken.back()->send(i % 2 ? post("?channel=chat", std::to_string(i)) : post("", command(std::to_string(i))));
    CHECK(taken.back()->take().empty());
  }
  // Six wait. The next are refused at once, on every way to publish and to follow.
  for (int round = 0; round < 100; ++round) {
    client late(s.h);
    for (const auto& request :
         {post("?channel=chat", "99"), post("", command("99")), get("/live?channel=cold"),
          get("/live?channel=cold&wait=5"), post("", R"({"id":1,"history":{"channel":"chat"}})")}) {
      auto a = late.ask(request);
      REQUIRE(a.status == 503);
      REQUIRE(a.has("\"code\":\"overloaded\""));
      REQUIRE(a["retry-after"] == "1");
    }
    REQUIRE(late.ask(post("", '[' + command("99") + ']')).has("\"code\":\"overloaded\""));
    REQUIRE(contains(socket_late.say(command("99")).hear().at(0),
                     "\"code\":\"overloaded\",\"message\":\"overloaded, try again later\",\"retry_after\":1"));
    client stream(s.h);
    REQUIRE(stream.ask(event_stream("?channel=cold")).has("event: bye\ndata: {\"bye\":{\"code\":\"overloaded\""));
  }
  CHECK(raw.say("99").hear().at(0).starts_with("close 1013"));
  CHECK(watcher.take().empty());

  // The disk catches up: what was taken is answered and sent, and nothing else; service resumes.
  s.disk.release();
  s.wait(socket, "\"offset\":1}");
  for (auto& c : taken) s.wait(*c, "\"offset\":");
  client again(s.h);
  again.send(post("?channel=chat", "7"));
  s.wait(again, "\"offset\":7}");
  CHECK(frames(s.wait(watcher, "\"offset\":7")).size() >= 1);
  again.send(get("/live?channel=chat&since=earliest"));
  auto log = read_answer(s.wait(again, "\"cursor\"")).body;
  for (int i = 1; i <= 7; ++i) CHECK(contains(log, "\"offset\":" + std::to_string(i) + ","));
  CHECK_FALSE(contains(log, "\"data\":99"));
}
