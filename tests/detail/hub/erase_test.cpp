// SPDX-License-Identifier: BSL-1.0
// Taking a message back: who may, what everybody is shown of it afterwards, and that nothing of it goes out any more,
// wherever its bytes stand.
#include <nlohmann/json.hpp>

#include "detail/connection/stage.hpp"
#include "hailwire/broker/in_process.hpp"
#include "hailwire/storage/memory.hpp"

using namespace stage;
using nlohmann::json;

namespace {

/// A house in which everybody may take back what is their own.
struct lenient : house {
  using house::house;
  void allow() {
    gate.host.on_erase = [](session&, std::string_view, const message&) { return true; };
  }
};

std::string erase_command(const std::string& id, int offset, const std::string& epoch = "chat-1") {
  return "{\"id\":" + id + R"(,"erase":{"channel":"chat","epoch":")" + epoch +
         "\",\"offset\":" + std::to_string(offset) + "}}";
}
std::string publish_command(const std::string& data) { return R"({"publish":{"channel":"chat","data":)" + data + "}}"; }
/// What the error of an answer says.
std::string code(const lines& heard) {
  REQUIRE(heard.size() == 1);
  json o = json::parse(heard[0].substr(5));
  return o.contains("error") ? o["error"]["code"].get<std::string>() : o["ok"].dump();
}
bool contains(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }
std::string joined(const lines& all) {
  std::string out;
  for (const auto& l : all) out += l + '\n';
  return out;
}
/// The messages in a text, as `offset:data`, `offset:erased` or `offset:erases N`.
std::string shown(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; (at = text.find("{\"channel\":", at)) != text.npos; ++at) {
    // The object ends where it can be read.
    for (auto end = text.find('}', at); end != text.npos; end = text.find('}', end + 1)) {
      json m = json::parse(text.substr(at, end + 1 - at), nullptr, false);
      if (m.is_discarded() || !m.contains("offset")) continue;
      out += out.empty() ? "" : " ";
      out += std::to_string(m["offset"].get<int>()) + ':';
      if (m.value("erased", false)) {
        CHECK_FALSE(m.contains("data"));
        CHECK_FALSE(m.contains("type"));
        out += "erased";
      } else if (m.contains("erases")) {
        CHECK_FALSE(m.contains("data"));
        out += "erases " + std::to_string(m["erases"].get<int>());
      } else {
        out += m["data"].dump();
      }
      break;
    }
  }
  return out;
}
void erase(house& h, int offset, const std::string& channel = "chat") {
  CHECK_FALSE(h.gate.messages.erase(channel, {"", static_cast<std::uint64_t>(offset)}));
  h.run();
}

}  // namespace

TEST_CASE("a message that was taken back is shown so on every transport, live, replayed and in history") {
  house h;
  h.publish("chat", "1");
  client ws(h), sse(h), nd(h), held(h), raw(h);
  ws.join("?channel=chat&user=bob");
  sse.open(event_stream("?channel=chat"));
  nd.open(json_lines("?channel=chat"));
  raw.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  h.publish("chat", "2");
  h.publish("chat", "3");
  held.send(get("/live?channel=chat&wait=20&since=chat-1.3"));
  for (auto* c : {&ws, &sse, &nd, &raw}) c->take();
  erase(h, 2);

  const std::string at = std::to_string(testing::manual_loop::unix_start + 1000);
  const std::string note = R"({"channel":"chat","offset":4,"at":)" + at + R"(,"erases":2})";
  CHECK(ws.hear() == lines{"text " + note});
  CHECK(sse.take() == "data: " + note + "\nid: chat-1.4\n\n");
  CHECK(nd.take() == note + "\n");
  CHECK(contains(held.take(), "\"messages\":[" + note + "],"));
  CHECK(raw.take().empty());
  h.publish("chat", "5");
  CHECK(raw.hear() == lines{"text 5"});

  const std::string all = "1:1 2:erased 3:3 4:erases 2 5:5";
  CHECK(shown(joined(client(h).join("?channel=chat&since=earliest"))) == all);
  CHECK(shown(client(h).open(event_stream("?channel=chat&since=earliest"))) == all);
  CHECK(shown(client(h).open(json_lines("?channel=chat&since=earliest"))) == all);
  CHECK(shown(client(h).ask(get("/live?channel=chat&since=earliest")).body) == all);
  CHECK(shown(client(h).ask(get("/live?channel=chat&since=earliest&wait=5")).body) == all);
  CHECK(shown(client(h).ask(post("", R"({"history":{"channel":"chat"}})")).body) == all);
  CHECK(client(h).join("?channel=chat&since=earliest", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n") ==
        lines{"text 1", "text 3", "text 5"});
}

TEST_CASE("a client of payloads alone passes over what it is sent nothing of, wherever that stands") {
  house h;
  for (int i = 1; i <= 3; ++i) h.publish("chat", std::to_string(i));
  for (int i : {1, 2, 3}) erase(h, i);  // nothing is left but erased places, and the entries that say so
  client late(h), live(h);
  const std::string raw = "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n";
  CHECK(late.join("?channel=chat&since=earliest", raw).empty());
  live.join("?channel=chat", raw);
  h.publish("chat", "7");
  erase(h, 7);
  h.publish("chat", "9");
  for (auto* c : {&late, &live}) CHECK(c->hear() == lines{"text 7", "text 9"});
  client slow(h);
  slow.join("?channel=chat", raw);
  slow.narrow(1);
  h.publish("chat", "10");
  h.publish("chat", "11");
  erase(h, 10);  // of this one the beginning has gone out
  erase(h, 11);
  h.publish("chat", "14");
  slow.widen();
  CHECK(slow.hear() == lines{"text 10", "text 14"});
}

TEST_CASE("who may take a message back: the user whose it is, if the host allows it; and the host") {
  lenient h;
  lines asked;
  client ada(h), bob(h), nobody(h);
  ada.join("?channel=chat&user=ada");
  bob.join("?channel=chat&user=bob");
  nobody.join("?channel=chat");
  ada.say(publish_command("\"from ada\""));
  nobody.say(publish_command("\"from nobody\""));
  for (auto* c : {&ada, &bob, &nobody}) c->take();

  CHECK(code(ada.say(erase_command("1", 1)).hear()) == "forbidden");  // there is no hook
  h.gate.host.on_erase = [&](session& s, std::string_view channel, const message& m) {
    asked.push_back(std::string(s.user()) + ' ' + std::string(channel) + ' ' + std::string(m.data.bytes()));
    return asked.size() > 1;
  };
  CHECK(code(ada.say(erase_command("1", 1)).hear()) == "forbidden");
  CHECK(asked == lines{"ada chat \"from ada\""});
  CHECK(code(bob.say(erase_command("1", 1)).hear()) == "forbidden");
  CHECK(code(bob.say(erase_command("1", 2)).hear()) == "forbidden");  // what is nobody's is not his
  CHECK(code(nobody.say(erase_command("1", 2)).hear()) == "forbidden");
  CHECK(asked.size() == 1);
  auto heard = ada.say(erase_command("1", 1)).hear();
  REQUIRE(heard.size() == 2);  // the answer comes first, so a client knows its own
  CHECK(heard[0] == R"(text {"reply":1,"ok":{"epoch":"chat-1","offset":3}})");
  CHECK(heard[1] == R"(text {"channel":"chat","offset":3,"at":)" +
                        std::to_string(testing::manual_loop::unix_start + 1000) + R"(,"from":"ada","erases":1})");
  CHECK(bob.hear().size() == 1);
  CHECK(code(ada.say(erase_command("1", 1)).hear()) == R"({"epoch":"chat-1","offset":3})");  // once more: the same
  CHECK(bob.hear().empty());
  std::string told;
  CHECK_FALSE(h.gate.messages.erase("chat", {"chat-1", 2}, [&](std::error_code ec, position p) {
    told = ec ? ec.message() : p.epoch + '.' + std::to_string(p.offset);
  }));
  h.run();
  CHECK(told == "chat-1.4");
}

TEST_CASE("an erase that cannot be done says why, and changes nothing") {
  lenient h;
  h.allow();
  client ada(h);
  ada.join("?channel=chat&user=ada");
  ada.say(publish_command("1"));
  ada.take();
  auto refused = [&](const std::string& text) { return code(ada.say(text).hear()); };
  CHECK(refused(erase_command("1", 2)) == "not_found");
  CHECK(refused(erase_command("1", 1, "chat-2")) == "not_found");
  CHECK(refused(erase_command("1", 0)) == "bad_request");
  CHECK(refused(R"({"id":1,"erase":{"channel":"chat","epoch":"chat-1"}})") == "bad_request");
  CHECK(refused(R"({"id":1,"erase":{"channel":"chat","offset":1}})") == "bad_request");
  CHECK(refused(R"({"id":1,"erase":{"channel":"chat","epoch":"a.b","offset":1}})") == "bad_request");
  CHECK(refused(R"({"id":1,"erase":{"epoch":"chat-1","offset":1}})") == "bad_request");
  CHECK(refused(R"({"id":1,"erase":{"channel":"secret","epoch":"secret-1","offset":1}})") == "forbidden");
  CHECK(refused(R"({"id":1,"erase":{"channel":"secret none","epoch":"none","offset":1}})") == "forbidden");
  CHECK(client(h).ask(post("?user=ada", erase_command("1", 2))).status == 404);
  h.store.failing = make_error_code(errc::overloaded);
  CHECK(refused(erase_command("1", 1)) == "overloaded");
  h.store.failing = {};
  CHECK(ada.say(erase_command("1", 1)).hear().size() == 2);
  CHECK(refused(erase_command("1", 2)) == "not_found");  // the entry of an erasure, which is hers
  CHECK(client(h).ask(post("?user=ada", erase_command("1", 1))).body ==
        R"({"reply":1,"ok":{"epoch":"chat-1","offset":2}})");
  // A hook that throws ends the session, and erases nothing.
  ada.say(publish_command("3"));
  ada.take();
  h.gate.host.on_erase = [](session&, std::string_view, const message&) -> bool { throw 1; };
  CHECK(joined(ada.say(erase_command("1", 3)).hear()).find("close 1011") != std::string::npos);
  CHECK(shown(client(h).ask(get("/live?channel=chat&since=earliest")).body) == "1:erased 2:erases 1 3:3");
}

TEST_CASE("what a storage cannot take back is not implemented, after it is known who may ask") {
  struct bare {
    std::uint64_t append(std::string_view, const draft&) { return ++head; }
    read_result read(std::string_view, std::uint64_t, read_limit) { return {}; }
    std::uint64_t head = 0;
  } store;
  lenient h(detail::erase_storage(store));
  h.allow();
  client ada(h);
  ada.join("?user=ada");
  CHECK(code(ada.say(erase_command("1", 1)).hear()) == "not_implemented");
  CHECK(code(ada.say(R"({"id":1,"erase":{"channel":"secret","epoch":"e","offset":1}})").hear()) == "forbidden");
  std::error_code told;
  CHECK_FALSE(h.gate.messages.erase("chat", {"", 1}, [&](std::error_code ec, position) { told = ec; }));
  CHECK(told == errc::not_implemented);
}

TEST_CASE("an erased payload is not served from memory to who is behind") {
  const int erased = GENERATE(2, 3, 4);
  const bool one_turn = GENERATE(false, true);  // then all of them are one chunk, in which both clients stand
  CAPTURE(erased, one_turn);
  house h;
  client slow(h), sse(h);
  slow.join("?channel=chat");
  sse.open(event_stream("?channel=chat"));
  slow.narrow(5);  // of the first message a part goes out
  sse.narrow(5);
  for (int i = 1; i <= 5; ++i) {
    CHECK_FALSE(h.gate.messages.publish("chat", payload::json("\"payload " + std::to_string(i) + '"')));
    if (!one_turn) h.run();
  }
  h.run();
  erase(h, erased);
  std::string due;
  for (int i = 1; i <= 5; ++i)
    due += std::to_string(i) + (i == erased ? ":erased " : ":\"payload " + std::to_string(i) + "\" ");
  due += "6:erases " + std::to_string(erased);
  slow.widen();
  sse.widen();
  CHECK(shown(joined(slow.hear())) == due);
  CHECK(shown(sse.take()) == due);
}

TEST_CASE("a message that is taken back in the turn of its publish goes out no more") {
  house h;
  client live(h), raw(h);
  live.join("?channel=chat");
  raw.join("?channel=chat", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  for (const char* data : {"1", "2", "3"}) CHECK_FALSE(h.gate.messages.publish("chat", payload::json(data)));
  CHECK_FALSE(h.gate.messages.erase("chat", {"", 2}));
  h.run();
  CHECK(shown(joined(live.hear())) == "1:1 2:erased 3:3 4:erases 2");
  CHECK(raw.hear() == lines{"text 1", "text 3"});
  // Who begins to follow within the turn is given nothing twice.
  CHECK_FALSE(h.gate.messages.publish("chat", payload::json("5")));
  client late(h);
  late.c->send(event_stream("?channel=chat"));
  late.c->deliver();
  CHECK_FALSE(h.gate.messages.erase("chat", {"", 5}));
  h.run();
  auto first = late.take();
  CHECK(shown(first.substr(first.find("\r\n\r\n"))) == "6:erases 5");
  CHECK(shown(joined(live.hear())) == "5:erased 6:erases 5");
  CHECK(raw.hear().empty());
  h.publish("chat", "7");
  CHECK(shown(joined(live.hear())) == "7:7");
  CHECK(shown(late.take()) == "7:7");
  CHECK(raw.hear() == lines{"text 7"});
}

TEST_CASE("the key of an erased message still returns its position") {
  lenient h;
  h.allow();
  client ada(h);
  ada.join("?user=ada");
  const std::string publish = R"({"id":1,"publish":{"channel":"chat","data":1,"key":"k"}})";
  CHECK(code(ada.say(publish).hear()) == R"({"epoch":"chat-1","offset":1})");
  ada.say(erase_command("2", 1)).hear();
  CHECK(code(ada.say(publish).hear()) == R"({"epoch":"chat-1","offset":1})");
  CHECK(code(ada.say(R"({"id":1,"publish":{"channel":"chat","data":2,"key":"k"}})").hear()) == "conflict");
}

TEST_CASE("an erasure reaches the other hubs' memory, and reads that were under way there") {
  memory_storage store;
  in_process_broker broker;
  struct on_hub : house {
    on_hub(memory_storage& s, in_process_broker& b) : house(detail::erase_storage(s)) {
      gate.messages.join(detail::erase_broker(b));
    }
  };
  on_hub here(store, broker), there(store, broker);
  auto both = [&] {
    for (int i = 0; i < 4; ++i) here.run(), there.run();
  };
  client slow(there), live(there);
  live.join("?channel=chat");
  slow.join("?channel=chat");
  slow.narrow(5);
  for (int i = 1; i <= 3; ++i) here.publish("chat", "\"payload " + std::to_string(i) + '"'), both();
  CHECK(shown(joined(live.hear())) == R"(1:"payload 1" 2:"payload 2" 3:"payload 3")");
  CHECK_FALSE(here.gate.messages.erase("chat", {"", 2}));
  both();
  CHECK(shown(joined(live.hear())) == "4:erases 2");
  slow.widen();
  CHECK(shown(joined(slow.hear())) == R"(1:"payload 1" 2:erased 3:"payload 3" 4:erases 2)");
}

TEST_CASE("a read that began before an erasure shows nothing of what was erased") {
  // Reads are answered late with what there was when they were asked, as another node's may be, once the entry has come
  // by the broker.
  struct late_reads {
    memory_storage store;
    bool holding = false;
    std::vector<detail::move_only_function<void()>> waiting;
    void async_append(std::string_view channel, draft d, append_handler done) { done(store.append(channel, d)); }
    void async_read(std::string_view channel, std::uint64_t since, read_limit limit, read_handler done) {
      auto answer = [done = std::move(done), r = store.read(channel, since, limit)]() mutable { done(std::move(r)); };
      holding ? waiting.push_back(std::move(answer)) : answer();
    }
  } storage;
  struct by_hand {
    broker_receiver receiver;
    std::uint64_t attach(broker_receiver r) { return receiver = std::move(r), 1; }
    void detach(std::uint64_t) {}
    void subscribe(std::uint64_t, std::string_view) {}
    void unsubscribe(std::uint64_t, std::string_view) {}
    void publish(std::uint64_t, std::string_view, std::string_view, const message&) {}
    void tell(std::uint64_t, std::string_view, const live_event&) {}
  } broker;
  house h(detail::erase_storage(storage));
  h.gate.messages.join(detail::erase_broker(broker));
  for (int i = 1; i <= 3; ++i) h.publish("chat", "\"payload " + std::to_string(i) + '"');
  client live(h), follows(h), slow(h);
  live.join("?channel=chat");
  slow.join("?channel=chat&since=earliest");
  slow.take();
  slow.narrow(0);
  h.publish("chat", "\"payload 4\"");
  live.take();
  storage.holding = true;
  follows.send(upgrade("?channel=chat&since=earliest"));
  REQUIRE(storage.waiting.size() == 1);
  draft d;
  d.at = 1;
  const auto note = storage.store.erase("chat", {storage.store.read("chat", 0, {}).epoch, 2}, d);
  REQUIRE(note.offset == 5);
  message m;
  m.offset = 5;
  m.erases = 2;
  broker.receiver({"chat", note.epoch, &m, {}});
  h.run();
  CHECK(shown(joined(live.hear())) == "5:erases 2");
  storage.holding = false;
  for (auto& answer : storage.waiting) answer();
  h.run();
  follows.widen();
  auto bytes = follows.take();
  CHECK(shown(joined(frames(bytes.substr(bytes.find("\r\n\r\n") + 4)))) ==
        R"(1:"payload 1" 2:erased 3:"payload 3" 4:"payload 4" 5:erases 2)");
  slow.widen();
  CHECK(shown(joined(slow.hear())) == "4:\"payload 4\" 5:erases 2");
}

TEST_CASE("an erasure while a client was away is heard of at its cursor") {
  house h;
  client away(h);
  for (int i = 1; i <= 3; ++i) h.publish("chat", std::to_string(i));
  const std::string cursor = json::parse(away.ask(get("/live?channel=chat&since=earliest")).body)["cursor"];
  CHECK(cursor == "chat-1.3");
  erase(h, 1);
  CHECK(shown(client(h).ask(get("/live?channel=chat&since=" + cursor)).body) == "4:erases 1");
  CHECK(shown(joined(client(h).join("?channel=chat&since=" + cursor))) == "4:erases 1");
}

TEST_CASE("an erasure that waits for the storage is aborted when the hub stops, and told once") {
  house h;
  h.publish("chat", "1");
  h.store.holding = true;
  std::string told;
  auto note = [&](std::error_code ec, position) { told += ec == operation_aborted() ? "aborted " : "other "; };
  CHECK_FALSE(h.gate.messages.erase("chat", {"", 1}, note));
  CHECK_FALSE(h.gate.messages.erase("chat", {"", 1}, note));
  h.answer(1);  // one of them is at the second step
  CHECK(h.gate.messages.pending_count() == 2);
  h.gate.messages.stop();
  CHECK(told == "aborted aborted ");
  CHECK(h.gate.messages.pending_count() == 0);
  h.answer();
  CHECK(told == "aborted aborted ");
  CHECK(h.gate.messages.erase("chat", {"", 1}, note) == operation_aborted());
}
