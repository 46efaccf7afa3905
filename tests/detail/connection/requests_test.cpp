// SPDX-License-Identifier: BSL-1.0
#include "detail/connection/stage.hpp"

using namespace stage;

namespace {

std::string code(const answer& a) {
  auto at = a.body.find("\"code\":\"");
  return at == a.body.npos ? std::string() : a.body.substr(at + 8, a.body.find('"', at + 8) - at - 8);
}
void check_problem(const answer& a, errc what) {
  INFO(a.body);
  CHECK(a.status == http_status(what));
  CHECK(a["content-type"] == "application/problem+json");
  CHECK(code(a) == code_name(what));
  CHECK(a["cache-control"] == "no-store");
}
options listing(std::initializer_list<std::string> origins) {
  options o;
  o.allowed_origins = origins;
  return o;
}

}  // namespace

// ---- which transport

TEST_CASE("the first transport that claims a request serves it") {
  house h;
  h.publish("chat", "1");
  client c(h);
  SECTION("none of the marks: short poll") {
    CHECK(c.ask(get("/live?channel=chat&since=earliest"))["content-type"] == "application/json");
  }
  SECTION("a literal text/event-stream with q over 0: SSE") {
    CHECK(c.ask(get("/live?channel=chat", "Accept: text/html, Text/Event-Stream;q=0.1\r\n"))["content-type"] ==
          "text/event-stream");
  }
  SECTION("q=0 or a wildcard is not it") {
    CHECK(c.ask(get("/live?channel=chat", "Accept: text/event-stream;q=0, */*\r\n"))["content-type"] ==
          "application/json");
  }
  SECTION("an upgrade goes before Accept") {
    CHECK(c.ask(upgrade("?channel=chat", "Accept: text/event-stream\r\n")).status == 101);
  }
  SECTION("an Accept goes before wait") {
    CHECK(c.ask(get("/live?channel=chat&wait=5", "Accept: text/event-stream\r\n"))["content-type"] ==
          "text/event-stream");
  }
  SECTION("wait or Prefer: wait is a long poll, which is held") {
    for (auto& request : {get("/live?channel=chat&since=chat-1.1&wait=5"),
                          get("/live?channel=chat&since=chat-1.1", "Prefer: respond-async, wait=5\r\n")}) {
      c.send(request);
      CHECK(c.take().empty());
      h.advance(5100);
      CHECK(read_answer(c.take()).body == R"({"messages":[],"notices":[],"cursor":"chat-1.1"})");
    }
  }
}

TEST_CASE("what no linked transport claims is 406, naming what is offered, or 426 when only WebSocket is linked") {
  SECTION("406") {
    house h({}, detail::linked<transport::sse, transport::long_poll>);
    client c(h);
    auto a = c.ask(get("/live?channel=chat"));
    check_problem(a, errc::not_acceptable);
    CHECK(a.has("Server-Sent Events"));
    CHECK(a.has("long poll"));
  }
  SECTION("426") {
    house h({}, detail::linked<transport::websocket>);
    client c(h);
    auto a = c.ask(get("/live?channel=chat"));
    check_problem(a, errc::upgrade_required);
    CHECK(a["upgrade"] == "websocket");
    CHECK(a["connection"] == "Upgrade");
    CHECK(a["sec-websocket-version"] == "13");
  }
  SECTION("a Prefer that nobody honours is ignored") {
    house h({}, detail::linked<transport::short_poll>);
    client c(h);
    CHECK(c.ask(get("/live?channel=chat&wait=9", "Prefer: wait=9\r\n")).status == 200);
  }
}

TEST_CASE("methods: HEAD is a short poll without its body, OPTIONS says what is allowed, others are 405") {
  house h;
  h.publish("chat", "1");
  client c(h);
  auto whole = c.ask(get("/live?channel=chat&since=earliest"));
  auto head = c.ask("HEAD /live?channel=chat&since=earliest&wait=5 HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(head.status == 200);
  CHECK(head["content-length"] == std::to_string(whole.body.size()));
  CHECK(head["etag"] == whole["etag"]);
  CHECK(head.rest.empty());

  auto options_answer = c.ask("OPTIONS /live HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(options_answer.status == 204);
  CHECK(options_answer["allow"] == "GET, HEAD, POST, OPTIONS");
  CHECK(c.ask("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").status == 204);
  CHECK(c.ask("OPTIONS /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n").status == 404);

  auto a = c.ask("DELETE /live?channel=chat HTTP/1.1\r\nHost: h\r\n\r\n");
  check_problem(a, errc::method_not_allowed);
  CHECK(a["allow"] == "GET, HEAD, POST, OPTIONS");

  // Event streams answer it where they are asked for; what waits or upgrades does not.
  house events({}, detail::linked<transport::sse>);
  client d(events);
  CHECK(d.ask("HEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\n\r\n").status == 406);
  CHECK(d.ask("OPTIONS /live HTTP/1.1\r\nHost: h\r\n\r\n")["allow"] == "GET, HEAD, POST, OPTIONS");
  CHECK(d.ask("HEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").status == 200);
  house waiting({}, detail::linked<transport::websocket, transport::long_poll>);
  client e(waiting);
  a = e.ask("HEAD /live?channel=chat&wait=1 HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(a.status == 405);
  CHECK(a["allow"] == "GET, POST, OPTIONS");
}

TEST_CASE("HEAD has no content, whatever becomes of it, and has the fields of the transport that would answer") {
  house h;
  h.publish("chat", "1");
  const std::string accept = "Accept: text/event-stream\r\n";
  for (const std::string& wrong : {std::string("HEAD /live?channel=chat HTTP/1.1\r\n\r\n"),            // no Host
                                   std::string("HEAD /live HTTP/1.1\r\nHost: h\r\nbad line\r\n\r\n"),  // no colon
                                   std::string("\r\nHEAD /live HTTP/3.0\r\nHost: h\r\n\r\n"),
                                   "HEAD /live HTTP/1.1\r\nHost: h\r\nX: " + std::string(9000, 'x') + "\r\n\r\n"}) {
    client c(h);
    c.send(wrong);
    const std::string bytes = c.take();
    CAPTURE(wrong.substr(0, 60), bytes);
    CHECK(bytes.find("\r\n\r\n") == bytes.size() - 4);
    CHECK(read_answer(bytes, true).status >= 400);
  }
  // Cut by the client's end, or by the time that a head may take.
  for (std::string cut : {"HEAD", "HEAD ", "HEAD /live", "\r\nHEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\n"}) {
    for (bool ended : {true, false}) {
      client c(h);
      c.send(cut);
      if (ended) {
        c.c->send_end();
        h.run();
      } else {
        h.advance(10'100);
      }
      const std::string bytes = c.take();
      CAPTURE(cut, ended, bytes);
      CHECK(bytes.find("\r\n\r\n") == bytes.size() - 4);
      CHECK(read_answer(bytes, true).status == (ended ? 400 : 408));
    }
  }
  // Others hear the reason.
  client other(h);
  other.send("HEADS /live");
  h.advance(10'100);
  CHECK(read_answer(other.take()).has("took too long"));
  client c(h), g(h);
  auto head = c.ask("HEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\n" + accept + "\r\n");
  g.send(event_stream("?channel=chat"));
  auto whole = read_answer(g.take(), true);
  CHECK(head.status == 200);
  CHECK(head.fields == whole.fields);
  CHECK(head["content-type"] == "text/event-stream");
  CHECK(head.rest.empty());
  CHECK(c.c->ended_by_server);
  CHECK(h.gate.messages.session_count() == 1);  // of the GET alone
  client secret(h);
  CHECK(secret.ask("HEAD /live?channel=secret HTTP/1.1\r\nHost: h\r\n" + accept + "\r\n").status == 403);
}

TEST_CASE("a query that cannot be read concerns the live resource alone") {
  house h;
  h.gate.host.on_http = [](const request& r, reply_to<result<response>> reply) {
    reply(response{.body = "host of " + std::string(r.path())});
  };
  client c(h);
  auto a = c.ask(get("/page?100%&x=%zz"));
  CHECK(a.status == 200);
  CHECK(a.body == "host of /page");
  check_problem(c.ask(get("/live?channel=chat&x=%zz")), errc::bad_request);
}

TEST_CASE("a body for the host may be as long as a payload, and no longer") {
  options o;
  o.max_payload = 100;
  house h(o);
  h.gate.host.on_http = [](const request& r, reply_to<result<response>> reply) {
    reply(response{.body = std::to_string(r.body().size())});
  };
  for (const bool chunked : {false, true}) {
    for (std::size_t size : {99u, 100u, 101u}) {
      client c(h);
      const std::string body(size, 'x');
      auto a = c.ask(chunked ? "POST /page HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" +
                                   std::string(size == 99    ? "63"
                                               : size == 100 ? "64"
                                                             : "65") +
                                   "\r\n" + body + "\r\n0\r\n\r\n"
                             : "POST /page HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(size) +
                                   "\r\n\r\n" + body);
      CAPTURE(chunked, size);
      if (size <= 100) {
        CHECK(a.body == std::to_string(size));
      } else {
        check_problem(a, errc::too_large);
      }
    }
  }
}

TEST_CASE("a server takes back every cursor that it gives: a follow whose cursor could not return is refused") {
  options o;
  o.max_channels = 1000;
  o.head.headers = 20;
  auto names = [](int n) {
    std::string query = "?since=earliest";
    for (int i = 0; i < n; ++i) query += "&channel=" + std::to_string(i);
    return query;
  };
  std::size_t taken = 0, refused = 0;
  for (int n = 50; n <= 600; n += 50) {
    house h(o);
    client polling(h), events(h), again(h), socket(h);
    auto a = polling.ask(get("/live" + names(n)));
    events.send(event_stream(names(n)));
    auto e = read_answer(events.take(), true);
    CAPTURE(n, a.body);
    CHECK(a.status == e.status);
    if (a.status == 400) {
      ++refused;
      check_problem(a, errc::bad_request);
      continue;
    }
    ++taken;
    REQUIRE(a.status == 200);
    // Come back with it, in each of the ways.
    const std::string cursor = a["etag"].substr(1, a["etag"].size() - 2);
    CHECK(std::count(cursor.begin(), cursor.end(), ',') == n - 1);
    CHECK(again.ask(get("/live" + names(n).substr(15).replace(0, 1, "?"), "If-None-Match: " + a["etag"] + "\r\n"))
              .status == 304);
    again.send(event_stream(names(n).substr(15).replace(0, 1, "?"), "Last-Event-ID: " + cursor + "\r\n"));
    CHECK(read_answer(again.take(), true).status == 200);
  }
  CHECK(taken > 2);
  CHECK(refused > 2);
}

TEST_CASE("what a cursor may grow to is counted, to the byte, and a client comes back with that in either field") {
  constexpr std::size_t channels = 4, longest = channels * 50 - 1;  // 32 letters, a point, 16 digits, a comma
  std::string query = "?", cursor;
  for (std::size_t i = 0; i < channels; ++i) {
    query += "&channel=" + std::to_string(i);
    cursor += (i ? "," : "") + std::string(32, static_cast<char>('a' + i)) + ".9007199254740991";
  }
  REQUIRE(cursor.size() == longest);
  const std::string first = get("/live" + query), tag = "If-None-Match: W/\"" + cursor + "\"\r\n",
                    id = "Last-Event-ID: " + cursor + "\r\n";
  const std::size_t line = tag.size() - 2, head = first.size() + tag.size();
  for (int by : {-1, 0, 1}) {
    CAPTURE(by);
    const auto moved = [by](std::size_t n) { return by < 0 ? n - 1 : n + static_cast<std::size_t>(by); };
    options narrow_line, narrow_head, few_fields;
    narrow_line.head.line = moved(line);
    narrow_head.head.head = moved(head);
    few_fields.head.headers = moved(2);  // Host, and the one with the cursor
    for (const options& o : {narrow_line, narrow_head, few_fields}) {
      house h(o);
      client fresh(h), events(h);
      CHECK(fresh.ask(first).status == (by < 0 ? 400 : 200));
      if (by < 0) continue;
      // And with it once more: it stands in place of the one that this request has brought.
      for (const std::string& field : {tag, id}) CHECK(client(h).ask(get("/live" + query, field)).status == 200);
    }
  }
}

TEST_CASE("an unreadable cursor in a tag is refused; what is plainly another server's tag is passed over") {
  house h;
  for (int i = 1; i <= 4; ++i) h.publish("chat", std::to_string(i));
  auto ask = [&](const std::string& value, const std::string& query = "") {
    return client(h).ask(get("/live?channel=chat" + query, "If-None-Match: " + value + "\r\n"));
  };
  auto begins_at_latest = [](const answer& a) {
    return a.status == 200 && a["etag"] == "\"chat-1.4\"" && !a.has("offset");
  };
  // No point and no word, or letters that no cursor has: not ours.
  for (std::string foreign :
       {"\"x\"", "\"\"", "*", "\"5d8c72a5-3b2\"", "\"v1.2/x\"", "W/\"a+b.c\"", "\"Latest\"", "\"a,b\""}) {
    CAPTURE(foreign);
    CHECK(begins_at_latest(ask(foreign)));
  }
  // Meant as one.
  for (std::string broken : {"\"chat-1.9007199254740992\"", "\"chat-1.2-gzip\"", "\"chat-1.\"", "\".1\"",
                             "\"chat-1.1,chat-1.2\"", "\"chat-1.1,\"", "W/\"chat-1.02\"", "\"latest,earliest\"",
                             "\"x\", \"chat-1.x\"", "chat-1.2", "\"chat-1.x\", *", "\"chat-1.2"}) {
    CAPTURE(broken);
    check_problem(ask(broken), errc::bad_request);
    check_problem(ask(broken, "&wait=5"), errc::bad_request);
    check_problem(client(h).ask(event_stream("?channel=chat", "If-None-Match: " + broken + "\r\n")), errc::bad_request);
  }
  CHECK(ask("\"chat-1.x\"").has("neither epoch.offset"));
  CHECK(ask("\"a.1,b.2\", \"chat-1.x\"").has("2 elements for 1"));     // the first is told
  CHECK(ask("\"chat-1.x\", \"chat-1.3\"")["etag"] == "\"chat-1.4\"");  // one that is readable decides
  CHECK(ask("\"earliest\"").has("\"offset\":1"));
  // Only where a tag is what decides.
  CHECK(ask("\"chat-1.x\"", "&since=chat-1.3").status == 200);
  CHECK(client(h).ask(upgrade("", "If-None-Match: \"chat-1.x\"\r\n")).status == 101);
}

// ---- lines of JSON

TEST_CASE("lines of JSON: open, gaps, history, then live, one object a line, on any number of channels") {
  house h;
  h.store.keep = 2;
  for (int i = 1; i <= 3; ++i) h.publish("chat", std::to_string(i));
  client c(h);
  std::string heard = c.open(json_lines("?channel=chat&channel=news&since=chat-1.0,latest"));
  CHECK(heard ==
        "{\"open\":{\"session\":\"SSSSSSSSSSS\",\"user\":\"\",\"heartbeat\":25,\"keys\":0,\"channels\":{\"chat\":{"
        "\"epoch\":"
        "\"chat-1\",\"offset\":1,\"recovered\":false},\"news\":{\"epoch\":\"news-1\",\"offset\":0,\"recovered\":true}}}"
        "}\n"
        "{\"gap\":{\"channel\":\"chat\",\"reason\":\"trimmed\",\"epoch\":\"chat-1\",\"next\":2}}\n" +
            published("chat", 2, "2") + '\n' + published("chat", 3, "3") + '\n');
  h.publish("news", "4");
  h.publish("chat", "5");
  CHECK(c.take() == published("news", 1, "4") + '\n' + published("chat", 4, "5") + '\n');
  h.advance(25'100);
  CHECK(c.take() == "{\"ping\":{}}\n");
  REQUIRE(h.gate.messages.sessions().size() == 1);
  session& s = *h.gate.messages.sessions()[0];
  CHECK(s.transport() == "ndjson");
  CHECK_FALSE(s.send("hello", "1"));
  CHECK_FALSE(s.follow("more"));
  h.run();
  CHECK(c.take() ==
        "{\"hello\":1}\n{\"followed\":{\"more\":{\"epoch\":\"more-1\",\"offset\":0,\"recovered\":true}}}\n");
  s.close(1013);
  h.run();
  CHECK(c.take() == "{\"bye\":{\"code\":\"overloaded\",\"reconnect\":true,\"after\":[1000,2000]}}\n");
  CHECK(c.c->ended_by_server);
}

TEST_CASE("lines of JSON: what will pass is an HTTP error, and the longest cursor must be able to come back") {
  options o;
  o.max_sessions = 1;
  house h(o);
  client first(h), second(h);
  first.open(json_lines("?channel=chat"));
  auto a = second.ask(json_lines("?channel=chat"));
  check_problem(a, errc::overloaded);
  CHECK(a["retry-after"] == "5");
  auto head = client(h).ask("HEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\nAccept: application/x-ndjson\r\n\r\n");
  CHECK(head.status == 200);
  CHECK(head["content-type"] == "application/x-ndjson");
  CHECK(head.rest.empty());
  options narrow;
  narrow.head.line = 60;
  house n(narrow);
  check_problem(client(n).ask(get("/live?channel=a", "Accept: application/x-ndjson\r\n")), errc::bad_request);
  CHECK(client(n).ask(upgrade("?channel=a")).status == 101);  // this one needs no cursor in one piece
}

// ---- a host's own transport

namespace {

/// Lines both ways, behind an upgrade: what it may do hangs on what it says of itself.
struct parley_stream : transport::ndjson_stream {
  parley_stream() : ndjson_stream(false) {}
  std::string_view name() const noexcept override { return "parley"; }
  bool duplex() const noexcept override { return true; }
  transport::stream_event receive(std::span<char>& in, std::string&) override {
    const std::string_view text(in.data(), in.size());
    const auto end = text.find('\n');
    in = in.subspan(end == text.npos ? in.size() : end + 1);
    if (end == text.npos) return {};
    return {transport::stream_event::kind::command, text.substr(0, end), 0};
  }
  void reply(std::string& out, std::string_view json) override { out.append(json) += '\n'; }
};
struct parley {
  static constexpr std::string_view name = "parley", offer = "parley (Upgrade: parley)";
  static constexpr bool upgrades = true;
  static bool claims(const transport::live_request& a) { return a.head.has_token("Upgrade", "parley"); }
  static result<transport::accepted> begin(const transport::live_request&) {
    transport::accepted b;
    b.live = transport::stream_box::of<parley_stream>();
    b.open = [](std::string& out, std::string_view extra) {
      out.append("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parley\r\n").append(extra) +=
          "\r\n";
    };
    return b;
  }
  static transport::spoken_refusal refuse(const failure& why) {
    return {"text/plain", "X-Said: parley\r\n", std::string(code_name(why.code))};
  }
};

std::string ask_parley(const std::string& query, const std::string& more = {}) {
  return get("/live" + query, "Connection: Upgrade\r\nUpgrade: parley\r\n" + more);
}

}  // namespace

TEST_CASE(
    "a host's transport that upgrades: no channel needed, no body, pages of this host alone, 426 where it is alone") {
  static_assert(transport::check_transport<parley>());
  house h({}, detail::linked<parley>);
  CHECK(client(h).ask(ask_parley("")).status == 101);
  CHECK(client(h).ask(ask_parley("?channel=chat", "Origin: http://h\r\n")).status == 101);
  check_problem(client(h).ask(ask_parley("?channel=chat", "Origin: https://evil.example\r\n")), errc::forbidden);
  check_problem(client(h).ask(ask_parley("?channel=chat", "Content-Length: 1\r\n") + "x"), errc::bad_request);
  check_problem(client(h).ask(get("/live?channel=chat")), errc::upgrade_required);
  auto a = client(h).ask("HEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\nUpgrade: parley\r\n\r\n");
  CHECK(a.status == 405);
  CHECK(a["allow"] == "GET, POST, OPTIONS");
}

TEST_CASE("a host's transport that is duplex carries commands, those of a connection among them") {
  house h({}, detail::linked<parley, transport::short_poll>);
  client c(h);
  c.open(ask_parley(""), 101);
  c.send("{\"id\":1,\"subscribe\":{\"channel\":\"chat\"}}\n");
  CHECK(c.take() == "{\"reply\":1,\"ok\":{\"epoch\":\"chat-1\",\"offset\":0,\"recovered\":true}}\n");
  c.send("{\"id\":2,\"publish\":{\"channel\":\"chat\",\"data\":7}}\n");
  CHECK(c.take() == "{\"reply\":2,\"ok\":{\"epoch\":\"chat-1\",\"offset\":1}}\n" + published("chat", 1, "7") + '\n');
  c.send("{\"id\":3,\"renew\":{\"token\":\"t\"}}\n{\"id\":4,\"unsubscribe\":{\"channel\":\"chat\"}}\n");
  const std::string heard = c.take();
  CHECK(heard.find("\"reply\":3,\"error\":{\"code\":\"not_implemented\"") !=
        heard.npos);  // no hook, and no "elsewhere"
  CHECK(heard.find("{\"reply\":4,\"ok\":{}}\n") != heard.npos);
}

TEST_CASE("a host's transport says what will pass in its own way") {
  options o;
  o.max_sessions = 0;
  house h(o, detail::linked<parley>);
  auto a = client(h).ask(ask_parley("?channel=chat"));
  CHECK(a.status == 200);
  CHECK(a["content-type"] == "text/plain");
  CHECK(a["x-said"] == "parley");
  CHECK(a.body == "overloaded");
  check_problem(client(h).ask(ask_parley("?channel=secret")), errc::forbidden);
}

// ---- what is asked

TEST_CASE("a malformed request for the live resource is bad_request") {
  house h;
  for (std::string query :
       {"", "?", "?channel=", "?channel=a%00", "?channel=a%E2%80%A8", "?channel=chat&channel=chat",
        "?channel=chat&since=nonsense", "?channel=chat&since=chat-1", "?channel=chat&since=chat-1.01",
        "?channel=chat&since=chat-1.9007199254740992", "?channel=chat&since=a.1,b.2",
        "?channel=chat&channel=news&since=a.1", "?channel=chat&wait=-1", "?channel=chat&wait=1.5",
        "?channel=chat&wait=", "?channel=chat&device=a%0Ab", "?channel=%zz", "?channel=%ff", "?channel=chat&since=%"}) {
    INFO(query);
    client c(h);
    check_problem(c.ask(get("/live" + query)), errc::bad_request);
  }
  client c(h);
  check_problem(c.ask(get("/live?channel=chat&device=" + std::string(65, 'd'))), errc::bad_request);
  check_problem(c.ask(get("/live?channel=" + std::string(256, 'c'))), errc::bad_request);
  CHECK(c.ask(get("/live?channel=" + std::string(255, 'c'))).status == 200);
  check_problem(c.ask(get("/live?channel=chat", "Last-Event-ID: nonsense\r\n")), errc::bad_request);
  check_problem(c.ask(get("/live?channel=chat&since=" + std::string(4097, 'a'))), errc::bad_request);
  std::string many = "/live?";
  for (int i = 0; i < 32; ++i) many += "channel=c" + std::to_string(i) + '&';
  CHECK(c.ask(get(many)).status == 200);
  check_problem(c.ask(get(many + "channel=one_more")), errc::bad_request);
  CHECK(c.ask(get("/live?channel=%zz")).status == 400);  // where the request ends is known, so the connection is kept
  CHECK(c.ask(get("/%zz")).status == 400);
  CHECK(c.ask(get("/live?channel=a+b")).body == R"({"messages":[],"notices":[],"cursor":"a_b-1.0"})");
  CHECK(c.ask(get("/live?channel=a&device=")).status == 200);
  c.send(
      get("/live?channel=a&wait=9&user=ada&since=a-1.0&device=first&device=second"));  // what an authorizer sees, too
  CHECK(h.gate.messages.find("ada").at(0)->device() == "first");
}

TEST_CASE("a head that cannot be read is answered and the connection closed") {
  house h;
  struct {
    std::string bytes;
    int status;
  } cases[] = {{"GET /live HTTP/1.1\n", 400},
               {"GET /live HTTP/2.0\r\n\r\n", 505},
               {"GET /live HTTP/1.1\r\n\r\n", 400},
               {"GET /live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
               {"GET /" + std::string(9000, 'a'), 431},
               {"POST /live HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
               {"POST /live HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
               {"GET /live?channel=a HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n", 417},
               {"POST /live HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", 413},
               {"CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n", 501}};
  for (auto& k : cases) {
    INFO(k.bytes.substr(0, 60));
    client c(h);
    auto a = c.ask(k.bytes);
    CHECK(a.status == k.status);
    CHECK(a["content-type"] == "application/problem+json");
    CHECK(a["connection"] == "close");
    CHECK(c.c->ended_by_server);
    c.c->send_end();
    h.run();
    CHECK(c.c->closed);
  }
}

// ---- who may

TEST_CASE("one forbidden channel refuses the whole URL, before any log is looked at") {
  house h;
  h.store.holding = true;
  for (auto& request :
       {get("/live?channel=chat&channel=secret&since=earliest"), event_stream("?channel=chat&channel=secret"),
        upgrade("?channel=secret"), get("/live?channel=chat&channel=secret.unheard.of&wait=9")}) {
    client c(h);
    auto a = c.ask(request);
    check_problem(a, errc::forbidden);
    CHECK(h.store.asked() == 0);
  }
  client c(h);
  check_problem(c.ask(get("/live?channel=@ada&user=bob")), errc::forbidden);
  check_problem(c.ask(get("/live?channel=@ada")), errc::forbidden);
  CHECK(h.store.asked() == 0);
  c.send(get("/live?channel=@ada&user=ada"));
  CHECK(h.store.asked() == 1);
}

TEST_CASE("an inbox is its user's alone, however its name is written and by whatever way it is asked for") {
  house h;
  h.gate.host.authorize = [](const request& r, authorize_reply reply) {  // as careless as a host may be
    reply(grant{.user = std::string(r.param("user")), .follow = channel_set::all(), .publish = {"chat"}});
  };
  client ada(h);
  for (std::string mine : {"@ada", "%40ada", "%40%61da"})
    CHECK(ada.ask(get("/live?user=ada&channel=" + mine)).status == 200);
  for (std::string user :
       {"", "&user=bob", "&user=ADA", "&user=Ada", "&user=ada%20", "&user=%20ada", "&user=ad", "&user=ada.",
        "&user=%40ada", "&user=@", "&user=*", "&user=@*", "&user=%D0%B0da", "&user=a%CC%81da"}) {
    INFO(user);
    for (std::string name : {"@ada", "%40ada", "%40%61%64%61"}) {
      client c(h);
      check_problem(c.ask(get("/live?channel=" + name + user)), errc::forbidden);
      check_problem(c.ask(get("/live?channel=chat&channel=" + name + user + "&since=earliest&wait=5")),
                    errc::forbidden);
      CHECK(c.ask(event_stream("?channel=" + name + user)).status == 403);
      CHECK(c.ask(post("?channel=" + name + user, "1")).status == 403);
      CHECK(client(h).ask(upgrade("?channel=" + name + user)).status == 403);
      c.send("HEAD /live?channel=" + name + user + " HTTP/1.1\r\nHost: h\r\n\r\n");
      CHECK(c.take().starts_with("HTTP/1.1 403 "));
    }
    client c(h);
    for (std::string what : {"history", "presence", "received", "read", "subscribe"}) {
      auto a = c.ask(post("?x=1" + user, "{\"id\":1,\"" + what + R"(":{"channel":"\u0040ada","offset":1}})"));
      INFO(what);
      CHECK(a.status != 200);
      CHECK_FALSE(a.has("\"ok\""));
    }
    CHECK(c.ask(post("?x=1" + user, R"({"id":1,"history":{"channel":"@ada"}})")).status == 403);
    CHECK(c.ask(post("?x=1" + user, R"({"id":1,"publish":{"channel":"@ada","data":1}})")).status == 403);
    client socket(h);
    socket.join("?channel=chat" + user);
    socket.send(frame(R"({"id":1,"subscribe":{"channel":"@ada"}})"));
    auto heard = socket.hear();
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].find("\"forbidden\"") != heard[0].npos);
  }
  // Of nobody: the inbox of who has no name.
  check_problem(ada.ask(get("/live?channel=@")), errc::forbidden);
  check_problem(ada.ask(get("/live?channel=@&user=ada")), errc::forbidden);
  // Not its name, but another's: UTF-8 in too many bytes, escapes within escapes, a zero, letters that look like it.
  for (std::string none : {"%C1%80ada", "%E0%81%80ada", "@ada%00", "%00@ada", "@ad%ZZ", "@ada%"})
    CHECK(ada.ask(get("/live?user=bob&channel=" + none)).status == 400);
  h.publish("@ada", "\"for ada\"");
  for (std::string other : {"%2540ada", "%EF%BC%A0ada", "%20@ada", "+@ada", "%E2%80%8B@ada"}) {
    auto a = ada.ask(get("/live?user=bob&since=earliest&channel=" + other));
    CHECK(a.status == 200);
    CHECK_FALSE(a.has("for ada"));
  }
}

TEST_CASE("another's cursor, key or session gives nobody what is the other's") {
  house h;
  h.publish("secret plans", "\"plan\"");
  h.publish("chat", "1");
  client bob(h);
  // Positions of a channel that he may not read, in one that he may, and the other way round.
  check_problem(bob.ask(get("/live?channel=secret+plans&user=bob&since=secret_plans-1.0")), errc::forbidden);
  auto a = bob.ask(get("/live?channel=chat&user=bob&since=secret_plans-1.0"));
  CHECK(a.has(R"("reason":"epoch","epoch":"chat-1")"));
  CHECK_FALSE(a.has("plan\""));
  check_problem(bob.ask(post("?user=bob", R"({"history":{"channel":"secret plans","epoch":"secret_plans-1"}})")),
                errc::forbidden);
  // A key with a name in it is no other's key, wherever the name might be thought to end.
  auto keyed = [&](const std::string& user, const std::string& key) {
    return bob.ask(post("?channel=chat&user=" + user, "\"" + user + key + "\"", "application/json",
                        "Idempotency-Key: " + key + "\r\n"));
  };
  CHECK(keyed("ada", "k").has("\"offset\":2"));
  CHECK(keyed("adak", "k").has("\"offset\":3"));
  CHECK(keyed("ad", "ak").has("\"offset\":4"));
  CHECK(keyed("a", "dak").has("\"offset\":5"));
  CHECK(keyed("@ada", "k").has("\"offset\":6"));
  CHECK(keyed("ada%20k", "k").has("\"offset\":7"));
  CHECK(keyed("ada", "@ada").has("\"offset\":8"));
  CHECK(keyed("ada", "k").has("\"offset\":2"));
}

TEST_CASE("without an authorizer clients follow and publish nothing") {
  house h;
  h.gate.host.authorize = nullptr;
  client c(h);
  check_problem(c.ask(get("/live?channel=chat")), errc::forbidden);
  check_problem(c.ask(post("?channel=chat", "1")), errc::forbidden);
}

TEST_CASE("what an authorizer says no with is the answer; on SSE, what passes is an event") {
  house h;
  failure why;
  h.gate.host.authorize = [&](const request&, authorize_reply reply) { reply(why); };
  for (errc e : {errc::unauthenticated, errc::forbidden, errc::rate_limited, errc::overloaded, errc::draining}) {
    why = failure(e, "because", 7);
    client c(h);
    auto a = c.ask(get("/live?channel=chat"));
    check_problem(a, e);
    CHECK(a.has("because"));
    bool passes = e == errc::rate_limited || e == errc::overloaded || e == errc::draining;
    CHECK(a["retry-after"] == (passes ? "7" : ""));
    CHECK((a["www-authenticate"] == "Bearer") == (e == errc::unauthenticated));
    check_problem(c.ask(upgrade("?channel=chat")), e);
    check_problem(c.ask(post("", "{}")), e);

    client s(h);
    a = s.ask(event_stream("?channel=chat"));
    if (!passes) {
      check_problem(a, e);
      continue;
    }
    CHECK(a.status == 200);
    CHECK(a["content-type"] == "text/event-stream");
    CHECK(a.body == "retry: R\nevent: bye\ndata: {\"bye\":{\"code\":\"" + std::string(code_name(e)) +
                        "\",\"reconnect\":true,\"after\":[7000,14000]}}\n\n");
    CHECK(s.c->ended_by_server);
  }
}

TEST_CASE("an authorizer may answer later, never, twice or by throwing") {
  house h;
  std::vector<authorize_reply> waiting;
  h.gate.host.authorize = [&](const request&, authorize_reply reply) { waiting.push_back(std::move(reply)); };
  SECTION("later") {
    client c(h);
    c.send(get("/live?channel=chat"));
    CHECK(c.take().empty());
    grant g;
    g.follow = channel_set::all();
    waiting[0](g);
    h.run();
    CHECK(read_answer(c.take()).status == 200);
  }
  SECTION("later, for a stream whose client has already gone on talking") {
    client c(h);
    c.send(upgrade("?channel=chat") + frame(R"({"id":1,"ping":{}})"));
    grant g;
    g.follow = channel_set::all();
    waiting[0](g);
    h.run();
    auto bytes = c.take();
    auto heard = frames(bytes.substr(bytes.find("\r\n\r\n") + 4));
    REQUIRE(heard.size() == 2);
    CHECK(heard[1] == R"(text {"reply":1,"ok":{}})");
  }
  SECTION("never: the client gets 500") {
    client c(h);
    c.send(get("/live?channel=chat"));
    waiting.clear();
    h.run();
    check_problem(read_answer(c.take()), errc::internal);
  }
  SECTION("after the client has gone: nothing happens") {
    client c(h);
    c.send(get("/live?channel=chat"));
    c.c->reset();
    h.run();
    CHECK(c.c->closed);
    waiting[0](grant{});
    h.run();
    CHECK(c.take().empty());
  }
  SECTION("for an earlier request: nothing happens") {
    client c(h);
    c.send(get("/live?channel=chat"));
    auto old = std::move(waiting[0]);
    waiting.clear();
    CHECK(c.take().empty());
    old(errc::forbidden);
    h.run();
    check_problem(read_answer(c.take()), errc::forbidden);
    c.send(get("/live?channel=chat"));
    CHECK(c.take().empty());
  }
  SECTION("throwing") {
    h.gate.host.authorize = [](const request&, authorize_reply) { throw std::runtime_error("no database"); };
    client c(h);
    check_problem(c.ask(get("/live?channel=chat")), errc::internal);
    check_problem(c.ask(post("?channel=chat", "1")), errc::internal);
    REQUIRE(h.log.size() == 2);
    CHECK(h.log[0] == "authorizer threw: no database");
  }
  SECTION("a name that is no user's") {
    h.gate.host.authorize = [](const request&, authorize_reply reply) {
      grant g;
      g.user = std::string(255, 'u');
      reply(g);
    };
    client c(h);
    check_problem(c.ask(get("/live?channel=chat")), errc::internal);
    CHECK(h.log.size() == 1);
  }
}

TEST_CASE("a channel predicate that throws is a hook that throws") {
  house h;
  bool later = false;
  std::vector<authorize_reply> waiting;
  h.gate.host.authorize = [&](const request&, authorize_reply reply) {
    if (later)
      waiting.push_back(std::move(reply));
    else
      reply([] {
        grant g;
        g.follow = g.publish = channel_set(std::function<bool(std::string_view)>([](std::string_view c) -> bool {
          if (c == "bad") throw std::runtime_error("predicate");
          return true;
        }));
        return g;
      }());
  };
  client neighbour(h);
  neighbour.join("?channel=chat");
  SECTION("following") {
    client c(h);
    check_problem(c.ask(get("/live?channel=bad")), errc::internal);
  }
  SECTION("publishing") {
    client c(h);
    check_problem(c.ask(post("?channel=bad", "1")), errc::internal);
  }
  SECTION("subscribing, history, publish on a WebSocket") {
    for (std::string command : {R"({"id":1,"subscribe":{"channel":"bad"}})", R"({"id":1,"history":{"channel":"bad"}})",
                                R"({"id":1,"publish":{"channel":"bad","data":1}})"}) {
      client c(h);
      c.join("");
      c.say(command);
      auto heard = c.hear();
      REQUIRE(!heard.empty());
      CHECK(heard.back() == "close 1011 internal error");
    }
  }
  CHECK(h.log.size() >= 1);
  h.publish("chat", "1");
  CHECK(neighbour.hear() == lines{"text " + published("chat", 1, "1")});
}

// ---- origins

TEST_CASE("a POST or handshake of a page that is neither this host's nor listed is 403") {
  house h(listing({"https://app.example"}));
  for (std::string origin : {"https://evil.example", "null", "https://app.example.evil", "https://app.example:8443",
                             "http://app.example", ""}) {
    INFO(origin);
    client c(h);
    auto a = c.ask(post("?channel=chat", "1", "application/json", "Origin: " + origin + "\r\n"));
    check_problem(a, errc::forbidden);
    CHECK(a["access-control-allow-origin"].empty());
    check_problem(c.ask(upgrade("?channel=chat", "Origin: " + origin + "\r\n")), errc::forbidden);
    a = c.ask(get("/live?channel=chat", "Origin: " + origin + "\r\n"));
    CHECK(a.status == 200);  // the browser keeps the answer from the page
    CHECK(a["access-control-allow-origin"].empty());
    CHECK(a["vary"] == "Origin");
  }
  for (std::string origin : {"http://h", "https://h", "HTTP://H:80", "https://app.example"}) {
    INFO(origin);
    client c(h);
    CHECK(c.ask(post("?channel=chat", "1", "application/json", "Origin: " + origin + "\r\n")).status == 201);
    CHECK(c.ask(upgrade("?channel=chat", "Origin: " + origin + "\r\n")).status == 101);
  }
}

TEST_CASE("an origin is this host's or a listed one to the letter, not by what it begins, ends or could be read as") {
  house h(listing({"https://app.example", "http://[2001:db8::1]:8080"}));
  auto from = [&](const std::string& lines_of_head) {
    client c(h);
    auto a = c.ask(post("?channel=chat", "1", "application/json", lines_of_head));
    CHECK((a.status == 201) == (client(h).ask(upgrade("?channel=chat", lines_of_head)).status == 101));
    if (a.status != 201) CHECK(a["access-control-allow-origin"].empty());
    return a.status;
  };
  for (std::string origin : {"null",
                             "Null",
                             "NULL",
                             "file://",
                             "https://",
                             "https",
                             "h",
                             "//h",
                             "://h",
                             "http:h",
                             "http:/h",
                             "http:///h",
                             "ftp://h",
                             "ws://h",
                             "javascript://h",
                             "chrome-extension://h",
                             "http://hh",
                             "http://h.h",
                             "http://h.",
                             "http://.h",
                             "http://xh",
                             "http://h:8080",
                             "http://h:x",
                             "http://h:80x",
                             "http://h/",
                             "http://h/x",
                             "http://h?x",
                             "http://h#x",
                             "http://evil@h",
                             "http://h@evil",
                             "http://evil:80@h",
                             "http://h:80@evil",
                             "http://h\\evil",
                             "http://evil#h",
                             "http://evil?h",
                             "http://evil/h",
                             "http://h,http://evil",
                             "http://evil http://h",
                             "http://h http://evil",
                             "http://%68",
                             "http://[h]",
                             "https://app.example.",
                             "https://app.example:443",
                             "https://app.example/",
                             "https://app.example.evil",
                             "https://evilapp.example",
                             "https://evil.app.example",
                             "https://app_example",
                             "https://app.example@evil",
                             "https://evil#https://app.example",
                             "https://app.example https://evil",
                             "HTTPS://APP.EXAMPLE",
                             "http://[2001:db8::1]",
                             "http://[2001:db8::1]:80800",
                             "http://[2001:0db8::1]:8080",
                             "http://2001:db8::1:8080",
                             "*",
                             "https://*"}) {
    INFO(origin);
    CHECK(from("Origin: " + origin + "\r\n") == 403);
  }
  CHECK(from("Origin: http://[2001:db8::1]:8080\r\n") == 201);
  // Two of them: none is believed for being the first or the last.
  CHECK(from("Origin: http://h\r\nOrigin: https://evil\r\n") != 201);
  CHECK(from("Origin: https://evil\r\nOrigin: http://h\r\n") != 201);
  CHECK(from("Origin: https://app.example\r\nOrigin: https://evil\r\n") != 201);
}

TEST_CASE("a listed origin is echoed, with credentials and never with a star, on answers, errors and preflights") {
  house h(listing({"https://app.example", "https://b.example"}));
  client c(h);
  auto check = [](const answer& a) {
    CHECK(a["access-control-allow-origin"] == "https://b.example");
    CHECK(a["access-control-allow-credentials"] == "true");
    CHECK(a["access-control-expose-headers"] ==
          "ETag, Retry-After, Location, Content-Range, Accept-Ranges, Upload-Offset, Upload-Complete, Upload-Limit");
    CHECK(a["vary"] == "Origin");
  };
  std::string origin = "Origin: https://b.example\r\n";
  check(c.ask(get("/live?channel=chat", origin)));
  check(c.ask(get("/live?channel=secret", origin)));
  check(c.ask(get("/live?channel=%zz", origin)));
  client d(h);
  check(d.ask(get("/live?channel=chat&since=nonsense", origin)));
  check(d.ask(post("?channel=chat", "1", "application/json", origin)));
  auto a = d.ask("OPTIONS /live?channel=chat HTTP/1.1\r\nHost: h\r\nAccess-Control-Request-Method: POST\r\n" + origin +
                 "\r\n");
  CHECK(a.status == 204);
  check(a);
  CHECK(a["access-control-allow-methods"] == "GET, HEAD, POST, OPTIONS");
  CHECK(a["access-control-allow-headers"] ==
        "Content-Type, Authorization, Prefer, If-None-Match, Last-Event-ID, Idempotency-Key, Cache-Control, Range, "
        "If-Range, Upload-Offset, Upload-Complete, Upload-Length");
  check(d.ask(event_stream("?channel=chat", origin)));
  client e(h);
  check(e.ask("POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n" + origin + "\r\n"));
}

TEST_CASE("without listed origins nothing varies") {
  house h;
  client c(h);
  auto a = c.ask(get("/live?channel=chat", "Origin: https://x.example\r\n"));
  CHECK(a["vary"].empty());
  CHECK(a["access-control-allow-origin"].empty());
}

// ---- polls

TEST_CASE("where to start: Last-Event-ID, since, If-None-Match, latest") {
  house h;
  for (int i = 1; i <= 4; ++i) h.publish("chat", std::to_string(i));
  client c(h);
  auto count = [&](const std::string& query, const std::string& fields) {
    auto a = c.ask(get("/live?channel=chat" + query, fields));
    if (a.status == 304) return -1;
    CHECK(a.status == 200);
    return static_cast<int>(std::count(a.body.begin(), a.body.end(), '{')) - 1;
  };
  CHECK(count("", "") == 0);
  CHECK(count("&since=chat-1.1", "") == 3);
  CHECK(count("&since=chat-1.1", "Last-Event-ID: chat-1.3\r\nIf-None-Match: \"chat-1.2\"\r\n") == 1);
  CHECK(count("&since=chat-1.1", "Last-Event-ID:\r\n") == 3);
  CHECK(count("&since=chat-1.1", "If-None-Match: \"chat-1.2\"\r\n") == 3);
  CHECK(count("", "If-None-Match: \"chat-1.2\"\r\n") == 2);
  CHECK(count("", "If-None-Match: W/\"chat-1.2\"\r\n") == 2);
  CHECK(count("", "If-None-Match: \"other\", \"a.1,b.2\", \"chat-1.3\"\r\n") == 1);
  CHECK(count("&since=", "If-None-Match: \"chat-1.3\"\r\n") == 1);
  CHECK(count("", "If-None-Match: *\r\n") == 0);
  CHECK(count("&since=earliest", "") == 4);
  CHECK(count("&since=received", "") == 4);
}

TEST_CASE("a WebSocket that names no channel has no cursor: a word is as good as none, anything else is bad_request") {
  house h;
  for (std::string since : {"", "latest", "earliest"}) CHECK(client(h).join("?since=" + since).size() == 1);
  for (std::string since : {"chat-1.0", "latest,latest", "x", ","})
    check_problem(client(h).ask(upgrade("?since=" + since)), errc::bad_request);
  check_problem(client(h).ask(upgrade("", "Last-Event-ID: chat-1.0\r\n")), errc::bad_request);
}

TEST_CASE("one word stands for all channels, and cursors follow the URL's order") {
  house h;
  h.publish("b", "1");
  h.publish("a", "2");
  client c(h);
  auto a = c.ask(get("/live?channel=b&channel=a&since=earliest"));
  CHECK(a.body == "{\"messages\":[" + published("b", 1, "1") + ',' + published("a", 1, "2") +
                      "],\"notices\":[],\"cursor\":\"b-1.1,a-1.1\"}");
  CHECK(a["etag"] == "\"b-1.1,a-1.1\"");
  CHECK(a["cache-control"] == "no-store");
  a = c.ask(get("/live?channel=b&channel=a&since=earliest,a-1.1"));
  CHECK(a.body == "{\"messages\":[" + published("b", 1, "1") + "],\"notices\":[],\"cursor\":\"b-1.1,a-1.1\"}");
  a = c.ask(get("/live?channel=b&channel=a&since=latest,earliest"));
  CHECK(a.body == "{\"messages\":[" + published("a", 1, "2") + "],\"notices\":[],\"cursor\":\"b-1.1,a-1.1\"}");
}

TEST_CASE("a poll with nothing to tell is 304 when a tag equals the cursor, else an empty answer") {
  house h;
  h.publish("chat", "1");
  client c(h);
  for (std::string wait : {"", "&wait=3"}) {
    INFO(wait);
    auto poll = [&](const std::string& fields) {
      c.send(get("/live?channel=chat&since=chat-1.1" + wait, fields));
      if (!wait.empty()) CHECK(c.c->received.empty());
      h.advance(3100);
      return read_answer(c.take());
    };
    CHECK(poll("").body == R"({"messages":[],"notices":[],"cursor":"chat-1.1"})");
    CHECK(poll("If-None-Match: \"x\"\r\n").status == 200);
    for (std::string tag : {"\"chat-1.1\"", "W/\"chat-1.1\"", "\"x\", \"chat-1.1\""}) {
      auto a = poll("If-None-Match: " + tag + "\r\n");
      CHECK(a.status == 304);
      CHECK(a["etag"] == "\"chat-1.1\"");
      CHECK(a["cache-control"] == "no-store");
      CHECK_FALSE(a.fields.count("content-length"));
      CHECK(a.rest.empty());
    }
  }
}

TEST_CASE("a poll at latest is answered at once, wait or not, and the next begins there") {
  house h;
  h.publish("chat", "1");
  client c(h);
  auto a = c.ask(get("/live?channel=chat&wait=30"));
  CHECK(a.body == R"({"messages":[],"notices":[],"cursor":"chat-1.1"})");
  h.publish("chat", "2");
  a = c.ask(get("/live?channel=chat&wait=30&since=chat-1.1"));
  CHECK(a.body == "{\"messages\":[" + published("chat", 2, "2") + "],\"notices\":[],\"cursor\":\"chat-1.2\"}");
  a = c.ask(get("/live?channel=chat&channel=other&wait=30&since=chat-1.2,latest"));
  CHECK(a.body == R"({"messages":[],"notices":[],"cursor":"chat-1.2,other-1.0"})");
}

TEST_CASE("polls on two channels that look alike in all but the name have each its own messages") {
  house h;
  h.store.one_epoch = true;
  client a(h), b(h);
  for (int i = 1; i <= 50; ++i) {
    a.send(get("/live?channel=aa&wait=30&since=one." + std::to_string(i - 1)));
    b.send(get("/live?channel=bb&wait=30&since=one." + std::to_string(i - 1)));
    std::string n = std::to_string(i);
    h.publish("aa", "1");  // in two turns of one millisecond: the second's bytes may lie where the first's have been
    h.publish("bb", "2");
    CHECK(read_answer(a.take()).body ==
          "{\"messages\":[" + published("aa", i, "1") + "],\"notices\":[],\"cursor\":\"one." + n + "\"}");
    CHECK(read_answer(b.take()).body ==
          "{\"messages\":[" + published("bb", i, "2") + "],\"notices\":[],\"cursor\":\"one." + n + "\"}");
  }
}

TEST_CASE("a long poll waits for the first thing, gathers a turn's messages, and is capped by the server") {
  options o;
  o.longest_wait = std::chrono::seconds(10);
  house h(o);
  client c(h);
  c.send(get("/live?channel=a&channel=b&since=earliest&wait=9999"));
  CHECK(c.take().empty());
  CHECK(h.gate.messages.session_count() == 1);
  CHECK_FALSE(h.gate.messages.publish("b", payload::json("1")));
  CHECK_FALSE(h.gate.messages.publish("b", payload::text("x")));
  h.run();
  auto a = read_answer(c.take());
  CHECK(a.body == "{\"messages\":[" + published("b", 1, "1") + ',' + published("b", 2, "\"x\"") +
                      "],\"notices\":[],\"cursor\":\"a-1.0,b-1.2\"}");
  CHECK(h.gate.messages.session_count() == 0);
  c.send(get("/live?channel=a&since=earliest&wait=9999"));
  h.advance(9900);
  CHECK(c.take().empty());
  h.advance(300);
  CHECK(read_answer(c.take()).status == 200);
  CHECK(c.ask(get("/live?channel=a&since=earliest&wait=0")).status == 200);
  CHECK(c.ask(get("/live?channel=a&since=earliest", "Prefer: wait=0\r\n")).status == 200);
}

TEST_CASE("polls that one flush answers are each answered as they asked") {
  house h;
  struct asked {
    std::string target, more, version = "1.1";
  };
  // The first and the last have the very same answer; between them every way to have another one.
  const std::vector<asked> all = {
      {"/live?channel=a&since=a-1.0&wait=9", {}},
      {"/live?channel=a&since=a-1.0&wait=9", "Connection: close\r\n"},
      {"/live?channel=a&since=a-1.0&wait=9", "Connection: keep-alive\r\n", "1.0"},
      {"/live?channel=a&channel=b&since=a-1.0,b-1.0&wait=9", {}},
      {"/live?channel=b&since=b-1.0&wait=9", {}},
      {"/live?channel=a&since=a-1.0&wait=9", {}},
  };
  std::vector<client> clients(all.size(), client(h));
  for (std::size_t i = 0; i < all.size(); ++i) {
    clients[i].c = testing::memory_connection::open(h.gate);
    clients[i].send("GET " + all[i].target + " HTTP/" + all[i].version + "\r\nHost: h\r\n" + all[i].more + "\r\n");
    CHECK(clients[i].take().empty());
  }
  CHECK_FALSE(h.gate.messages.publish("a", payload::json("1")));
  CHECK_FALSE(h.gate.messages.publish("b", payload::json("2")));
  h.run();
  std::vector<std::string> got;
  for (auto& c : clients) got.push_back(c.take());
  std::string first = published("a", 1, "1"), second = published("b", 1, "2");
  for (std::size_t i : {0u, 1u, 2u, 5u})
    CHECK(read_answer(got[i]).body == "{\"messages\":[" + first + R"(],"notices":[],"cursor":"a-1.1"})");
  CHECK(read_answer(got[3]).body ==
        "{\"messages\":[" + first + R"(],"notices":[],"cursor":"a-1.1,b-1.0","more":true})");
  CHECK(read_answer(got[4]).body == "{\"messages\":[" + second + R"(],"notices":[],"cursor":"b-1.1"})");
  CHECK(got[0] == got[5]);
  CHECK(read_answer(got[0])["connection"].empty());
  CHECK(read_answer(got[1])["connection"] == "close");
  CHECK(read_answer(got[2])["connection"] == "keep-alive");
  CHECK(read_answer(got[0])["etag"] == "\"a-1.1\"");

  // A turn later, at the same moment of the clock, with a message of the same size.
  clients[0].send(get("/live?channel=a&since=a-1.1&wait=9"));
  h.publish("a", "3");
  CHECK(read_answer(clients[0].take()).body ==
        "{\"messages\":[" + published("a", 2, "3") + R"(],"notices":[],"cursor":"a-1.2"})");
}

TEST_CASE("a channel that is known at once misses nothing while the request's others are asked for") {
  for (auto request : {upgrade("?channel=a&channel=b"), event_stream("?channel=a&channel=b"),
                       get("/live?channel=a&channel=b&since=a-1.1,b-1.0&wait=9")}) {
    house h;
    h.publish("a", "1");
    client warm(h);
    warm.join("?channel=a");
    client c(h);
    h.store.holding = true;
    h.publish("a", "2");
    c.send(request);
    CHECK(c.take().empty());
    h.answer(1);  // the publish: `a` is flushed while `b` is being asked for
    CHECK(warm.take().find(published("a", 2, "2")) != std::string::npos);
    CHECK(c.take().empty());
    h.store.holding = false;
    h.answer();
    CHECK(c.take().find(published("a", 2, "2")) != std::string::npos);
  }
}

TEST_CASE("nothing of a request is left for the next one on its connection") {
  options o = listing({"https://app.example"});
  o.trusted_proxies = {"203.0.113.7"};
  o.forwarding = options::forwarding_header::forwarded;
  house h(o);
  lines seen;
  h.gate.host.authorize = [&](const request& r, authorize_reply reply) {
    seen.push_back(std::string(r.method()) + ' ' + r.path() + ' ' + std::string(r.param("device")) + ' ' + r.peer() +
                   ' ' + std::string(r.address()) + ' ' + std::string(r.scheme()) + ' ' + std::string(r.host()) + ' ' +
                   std::string(r.transport()));
    reply(usual(r));
  };
  const std::string plain = get("/live?channel=chat");
  client fresh(h);
  const std::string expected = fresh.ask(plain).body;
  const std::string expected_sight = seen.back();
  client c(h);
  for (const std::string& before :
       {get("/live?channel=chat&channel=b&device=phone&since=earliest",
            "Origin: https://app.example\r\nForwarded: for=198.51.100.9;proto=https;host=far\r\n"),
        post("?channel=chat&device=phone", "[1]"), post("", R"([{"id":1,"ping":{}},{"id":2,"ping":{}}])"),
        post("", "{\"ping\":{}"), get("/live?channel=chat&since=x.7"), get("/live?channel=%zz"),
        std::string("HEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\n\r\n"),
        get("/live?channel=chat", "X-Filler: " + std::string(7000, 'x') + "\r\n")}) {
    c.send(before);
    c.take();
    auto a = c.ask(plain);
    CHECK(a.status == 200);
    CHECK(a["access-control-allow-origin"].empty());
    CHECK(a.body.substr(0, 28) == expected.substr(0, 28));
    CHECK(seen.back() == expected_sight);
  }
}

TEST_CASE("a session knows where its client is, for as long as it lasts and whoever is between them") {
  options o;
  o.trusted_proxies = {"203.0.113.7"};
  o.forwarding = options::forwarding_header::forwarded;
  house h(o);
  lines left;
  h.gate.host.on_close = [&](session& s, const close_reason&) { left.push_back(s.address()); };
  auto address = [&](const std::string& peer, const std::string& request) {
    client c(h);
    c.c->from = peer;
    c.send(request);
    auto all = h.gate.messages.sessions();
    REQUIRE(all.size() == 1);
    const std::string out = all[0]->address();
    h.advance(1000);
    REQUIRE(h.gate.messages.sessions().size() == 1);
    CHECK(h.gate.messages.sessions()[0]->address() == out);
    c.c->reset();
    h.run();
    CHECK(h.gate.messages.sessions().empty());
    return out;
  };
  const std::string named = "Forwarded: for=\"[2001:db8::9]:77\"\r\n", hidden = "Forwarded: for=unknown\r\n";
  for (const auto& open : {std::string("ws"), std::string("sse"), std::string("poll")}) {
    CAPTURE(open);
    auto request = [&](const std::string& more) {
      return open == "ws"    ? upgrade("?channel=a", more)
             : open == "sse" ? event_stream("?channel=a", more)
                             : get("/live?channel=a&wait=20&since=a-1.0", more);
    };
    left.clear();
    CHECK(address("198.51.100.4:99", request("")) == "198.51.100.4");
    CHECK(address("198.51.100.4:99", request(named)) == "198.51.100.4");  // nobody believes that one
    CHECK(address("[2001:db8::1]:5", request("")) == "2001:db8::1");
    CHECK(address("unix", request("")) == "unix");
    CHECK(address("203.0.113.7:1", request("")) == "203.0.113.7");
    CHECK(address("203.0.113.7:1", request(named)) == "2001:db8::9");
    CHECK(address("203.0.113.7:1", request(hidden)) == "203.0.113.7");
    CHECK(left ==
          lines{"198.51.100.4", "198.51.100.4", "2001:db8::1", "unix", "203.0.113.7", "2001:db8::9", "203.0.113.7"});
  }
}

TEST_CASE("an answer holds at most so many messages and bytes, never less than one, and says when there is more") {
  options o;
  o.poll_messages = 3;
  o.poll_bytes = 1000;
  house h(o);
  client c(h);
  std::string big = '"' + std::string(900, 'x') + '"';
  auto follow = [&](std::string from) {
    std::string shape;
    for (int polls = 0; polls < 20; ++polls) {
      auto a = c.ask(get("/live?channel=chat&channel=news&since=" + from));
      for (std::size_t at = 0; (at = a.body.find("\"offset\":", at)) != a.body.npos; ++at) shape += a.body[at + 9];
      from = a["etag"].substr(1, a["etag"].size() - 2);
      CHECK(a.body.find("\"cursor\":\"" + from + "\"") != a.body.npos);
      if (!a.has("\"more\":true")) return shape;
      shape += ' ';
    }
    return std::string("endless");
  };
  SECTION("by count, over chunks and channels") {
    for (int i = 0; i < 4; ++i) h.publish("chat", "1");
    for (int i = 0; i < 2; ++i) h.publish("news", "1");
    CHECK(follow("earliest") == "123 412");
  }
  SECTION("exactly full: no more") {
    for (int i = 0; i < 3; ++i) h.publish("chat", "1");
    CHECK(follow("earliest") == "123");
  }
  SECTION("by bytes") {
    h.publish("chat", "1");
    h.publish("chat", big);
    h.publish("chat", big);
    h.publish("news", "1");
    CHECK(follow("earliest") == "11 2 3");
  }
}

TEST_CASE("a gap is a notice of a poll, and ends the wait") {
  house h;
  for (int i = 0; i < 5; ++i) h.publish("chat", "1");
  h.store.trim("chat", 2);
  client c(h);
  auto a = c.ask(get("/live?channel=chat&since=chat-1.1"));
  CHECK(
      a.body ==
      "{\"messages\":[" + published("chat", 4, "1") + ',' + published("chat", 5, "1") +
          R"(],"notices":[{"gap":{"channel":"chat","reason":"trimmed","epoch":"chat-1","next":4}}],"cursor":"chat-1.5"})");
  a = c.ask(get("/live?channel=chat&since=chat-1.3"));
  CHECK(a.has("\"notices\":[]"));  // exactly before the oldest is no gap
  a = c.ask(get("/live?channel=chat&since=earliest"));
  CHECK(a.has("\"notices\":[]"));
  a = c.ask(get("/live?channel=chat&since=chat-1.6"));
  CHECK(a.has(R"({"gap":{"channel":"chat","reason":"epoch","epoch":"chat-1","next":4}})"));
  h.store.trim("chat", 0);
  a = c.ask(get("/live?channel=chat&since=other.9&wait=30"));
  CHECK(
      a.body ==
      R"({"messages":[],"notices":[{"gap":{"channel":"chat","reason":"epoch","epoch":"chat-1","next":6}}],"cursor":"chat-1.5"})");
  a = c.ask(get("/live?channel=chat&since=chat-1.1&wait=30", "If-None-Match: \"chat-1.5\"\r\n"));
  CHECK(a.status == 200);
  CHECK(a.has("\"next\":6"));
}

TEST_CASE("a poll from earliest is told of no gap, whatever happens to the log while it waits") {
  house h;
  client first(h), second(h);
  first.send(get("/live?channel=chat&since=earliest&wait=30"));
  second.send(get("/live?channel=chat&since=chat-1.0&wait=30"));
  h.store.restart("chat");
  h.publish("chat", "1");
  const std::string message = "{\"messages\":[" + published("chat", 1, "1") + "],\"notices\":[";
  CHECK(read_answer(first.take()).body == message + R"(],"cursor":"chat-2.1"})");
  CHECK(read_answer(second.take()).body ==
        message + R"({"gap":{"channel":"chat","reason":"epoch","epoch":"chat-2","next":1}}],"cursor":"chat-2.1"})");
}

TEST_CASE("an answer tells of no gap behind its own messages: it ends before it, and the next begins with it") {
  for (std::string since : {"a-1.0,b-1.0", "earliest"}) {
    INFO(since);
    house h;
    for (int i = 0; i < 300; ++i) h.publish("a", "1");
    client c(h);
    h.store.holding = true;
    c.send(get("/live?channel=a&channel=b&wait=30&since=" + since));
    h.store.answer(1);  // of `a` comes what one read holds; the rest is dropped while `b` is asked for
    h.run();
    h.store.trim("a", 10);
    h.store.holding = false;
    h.answer();
    auto a = read_answer(c.take());
    CHECK(a.has(R"("offset":256,)"));
    CHECK_FALSE(a.has(R"("offset":291,)"));
    CHECK(a.body.ends_with(R"(],"notices":[],"cursor":"a-1.256,b-1.0","more":true})"));
    a = c.ask(get("/live?channel=a&channel=b&wait=30&since=a-1.256,b-1.0"));
    CHECK(a.body.starts_with("{\"messages\":[" + published("a", 291, "1")));
    CHECK(a.body.ends_with(
        R"(],"notices":[{"gap":{"channel":"a","reason":"trimmed","epoch":"a-1","next":291}}],"cursor":"a-1.300,b-1.0"})"));
  }
}

TEST_CASE("a floor hides what is below it, as a trimmed gap") {
  house h;
  for (int i = 0; i < 5; ++i) h.publish("chat", "1");
  h.gate.host.authorize = [](const request&, authorize_reply reply) {
    grant g;
    g.follow = channel_set::all();
    g.floors = {{"chat", 4}};
    reply(g);
  };
  client c(h);
  auto a = c.ask(get("/live?channel=chat&since=chat-1.1"));
  CHECK(a.has(R"("reason":"trimmed","epoch":"chat-1","next":4)"));
  CHECK(a["etag"] == "\"chat-1.5\"");
  CHECK(c.ask(get("/live?channel=chat&since=earliest")).has("\"notices\":[]"));
}

TEST_CASE("a floor that is no offset hides nothing, or everything, and leaves cursors that can be read") {
  house h;
  for (int i = 0; i < 2; ++i) h.publish("chat", "1");
  std::uint64_t floor = 0;
  h.gate.host.authorize = [&](const request&, authorize_reply reply) {
    grant g;
    g.follow = channel_set::all();
    g.floors = {{"chat", floor}};
    reply(g);
  };
  client c(h);
  CHECK(c.ask(get("/live?channel=chat"))["etag"] == "\"chat-1.2\"");
  CHECK(c.ask(get("/live?channel=chat&since=chat-1.0")).has(R"("offset":1,)"));
  CHECK(c.ask(post("", R"({"id":1,"history":{"channel":"chat"}})")).has(R"("offset":1,)"));
  client stream(h);
  stream.join("?channel=chat");
  h.store.restart("chat");
  h.publish("chat", "1");
  CHECK(stream.hear().at(0) == R"(text {"gap":{"channel":"chat","reason":"epoch","epoch":"chat-2","next":1}})");
  floor = UINT64_MAX;
  for (std::string since : {"latest", "earliest", "chat-2.0"}) {
    auto a = c.ask(get("/live?channel=chat&since=" + since));
    CHECK(a["etag"] == "\"chat-2.9007199254740990\"");
    CHECK(c.ask(get("/live?channel=chat&since=chat-2.9007199254740990")).status == 200);
  }
  CHECK(c.ask(post("", R"({"id":1,"history":{"channel":"chat"}})")).has(R"("messages":[])"));
}

TEST_CASE("a channel that the host takes away while a request is still beginning is not begun") {
  house h;
  for (auto c : {"a", "b", "c"}) h.publish(c, "1");
  client warm(h);  // so that `a` is known at once and the others are asked for
  warm.join("?channel=a");
  auto begin = [&](client& c, const std::string& request) {
    h.store.holding = true;
    c.send(request);
    REQUIRE(h.gate.messages.find("ada").size() == 1);
    CHECK_FALSE(h.gate.messages.find("ada")[0]->unfollow("a"));
    h.store.holding = false;
    h.answer();
  };
  SECTION("a stream is refused: it could not be told") {
    for (auto request : {upgrade("?channel=a&channel=b&channel=c&since=latest,b-1.0,x.7&user=ada"),
                         event_stream("?channel=a&channel=b&channel=c&user=ada")}) {
      client c(h);
      begin(c, request);
      check_problem(read_answer(c.take()), errc::forbidden);
      CHECK(h.gate.messages.find("ada").empty());
    }
  }
  SECTION("a poll is told") {
    client c(h);
    begin(c, get("/live?channel=a&channel=b&channel=c&since=latest,b-1.0,x.7&user=ada"));
    auto answer = read_answer(c.take());
    CHECK(answer.body ==
          "{\"messages\":[" + published("b", 1, "1") + ',' + published("c", 1, "1") +
              R"(],"notices":[{"closed":{"channel":"a","code":"forbidden"}},)" +
              R"({"gap":{"channel":"c","reason":"epoch","epoch":"c-1","next":1}}],"cursor":"a-1.1,b-1.1,c-1.1"})");
  }
}

TEST_CASE("a gap of a channel that is taken away before it could be told is not passed by the cursor") {
  for (const std::string from : {"a-1.2", "a-0.7", "a-1.5"}) {  // trimmed, another epoch, none
    house h;
    for (int i = 0; i < 5; ++i) h.publish("a", "1");
    h.publish("b", "1");
    h.store.trim("a", 0);
    h.store.holding = true;
    client c(h);
    c.send(get("/live?channel=b&channel=a&channel=c&user=ada&since=b-1.0," + from + ",latest"));
    h.store.answer(2);  // where `b` and `a` begin is known then
    h.run();
    CHECK_FALSE(h.gate.messages.find("ada").at(0)->unfollow("a"));
    h.answer();
    CHECK(read_answer(c.take()).body ==
          "{\"messages\":[" + published("b", 1, "1") +
              R"(],"notices":[{"closed":{"channel":"a","code":"forbidden"}}],"cursor":"b-1.1,)" + from + ",c-1.0\"}");
  }
}

TEST_CASE("an answer that tells of a gap has the messages behind it, also when they are yet to be read") {
  for (const char* wait : {"", "&wait=30"}) {
    house h;
    h.publish("chat", "1");
    h.store.holding = true;
    client c(h);
    c.send(get(std::string("/live?channel=chat&since=chat-1.9") + wait));
    h.store.answer(1);  // where the channel stands; its message is asked for next
    h.run();
    CHECK(c.take().empty());
    h.answer();
    auto a = read_answer(c.take());
    CHECK(a["etag"] == "\"chat-1.1\"");
    CHECK(a.has(R"("notices":[{"gap":{"channel":"chat","reason":"epoch","epoch":"chat-1","next":1}}])"));
    CHECK(a.has(R"("offset":1,)"));
  }
}

TEST_CASE("a poll behind a publish on one connection has what was published, wherever its cursor stood") {
  for (const char* since : {"chat-1.0", "chat-1.9", "earliest", "other.3"}) {
    house h;
    client other(h);
    other.open(event_stream("?channel=chat"));
    client c(h);
    c.send(post("?channel=chat", "1") + get(std::string("/live?channel=chat&since=") + since));
    auto published = read_answer(c.take());
    CHECK(published.status == 201);
    INFO(since);
    CHECK(read_answer(published.rest)["etag"] == "\"chat-1.1\"");
  }
}

TEST_CASE("a held poll is answered when the storage is slow, and refused when it fails") {
  house h;
  h.publish("chat", "1");
  h.store.holding = true;
  client c(h);
  c.send(get("/live?channel=cold&channel=other&since=earliest"));
  CHECK(c.take().empty());
  SECTION("slow") {
    h.answer(1);
    CHECK(c.take().empty());
    h.answer();
    CHECK(read_answer(c.take()).body == R"({"messages":[],"notices":[],"cursor":"cold-1.0,other-1.0"})");
  }
  SECTION("failing") {
    h.store.failing = errc::internal;
    h.answer();
    auto a = read_answer(c.take());
    check_problem(a, errc::internal);
    CHECK(a.rest.empty());  // both channels failed, there is one answer
    CHECK(h.gate.messages.session_count() == 0);
  }
  SECTION("overloaded in the middle of an answer") {
    h.store.holding = false;
    h.answer();
    c.take();
    for (int i = 0; i < 3; ++i) h.publish("long", '"' + std::string(60'000, 'x') + '"');
    h.store.holding = true;
    c.send(get("/live?channel=long&since=long-1.0&wait=30"));
    h.store.answer(1);  // what the first read brings is not all
    h.store.failing = errc::overloaded;
    h.answer();
    auto a = read_answer(c.take());
    CHECK(a.status == 200);  // what had been read is told, and that there is more
    CHECK(a["etag"] == "\"long-1.1\"");
    CHECK(a.body.ends_with(R"(,"more":true})"));
    CHECK(a.rest.empty());
    h.store.holding = false;
    a = c.ask(get("/live?channel=long&since=long-1.1&wait=30"));
    check_problem(a, errc::overloaded);
    CHECK_FALSE(a["retry-after"].empty());
    h.store.failing = {};
    CHECK(c.ask(get("/live?channel=long&since=long-1.1")).status == 200);
  }
  SECTION("overloaded at once in the middle of an answer") {
    h.store.holding = false;
    h.answer();
    c.take();
    for (int i = 0; i < 3; ++i) h.publish("long", '"' + std::string(60'000, 'x') + '"');
    h.store.fail_after = 1;
    auto a = c.ask(get("/live?channel=long&since=long-1.0&wait=30"));
    check_problem(a, errc::overloaded);
    CHECK(a.rest.empty());
  }
  SECTION("overloaded, on SSE: an event") {
    client s(h);
    s.send(event_stream("?channel=third"));
    h.store.failing = errc::overloaded;
    h.answer();
    auto a = read_answer(s.take());
    CHECK(a.status == 200);
    CHECK(a.has("event: bye\ndata: {\"bye\":{\"code\":\"overloaded\""));
  }
  SECTION("overloaded, on SSE that is open") {
    h.store.holding = false;
    h.answer();
    for (int i = 0; i < 9; ++i) h.publish("long", '"' + std::string(60'000, 'x') + '"');
    h.store.holding = true;
    client s(h);
    s.send(event_stream("?channel=long&since=long-1.0"));
    h.store.answer(2);  // what the channel has, and the first of its messages
    h.run();
    h.store.failing = errc::overloaded;
    h.answer();
    std::string told = s.take();
    CHECK(told.find("\nid: long-1.1\n") != told.npos);
    CHECK(told.ends_with(
        "event: bye\ndata: {\"bye\":{\"code\":\"overloaded\",\"reconnect\":true,\"after\":[1000,2000]}}\n\n"));
  }
  SECTION("the client is gone first") {
    c.c->reset();
    h.run();
    CHECK(h.gate.messages.session_count() == 0);
    h.answer();
    CHECK(c.take().empty());
  }
}

TEST_CASE("more sessions than allowed are overloaded") {
  options o;
  o.max_sessions = 1;
  house h(o);
  client a(h), b(h), s(h), w(h);
  a.join("?channel=chat");
  auto no = b.ask(get("/live?channel=chat"));
  check_problem(no, errc::overloaded);
  CHECK(no["retry-after"] == "5");
  CHECK(s.ask(event_stream("?channel=chat")).has("event: bye"));
  check_problem(w.ask(upgrade("?channel=chat")), errc::overloaded);
  CHECK(b.ask(post("?channel=chat", "1")).status == 201);
  a.c->reset();
  h.run();
  CHECK(b.ask(get("/live?channel=chat")).status == 200);
}

// ---- POST

TEST_CASE("a plain publish: JSON as data, text as a string, anything else as bytes") {
  house h;
  client reader(h);
  reader.join("?channel=chat");
  client c(h);
  struct {
    std::string body, type, seen;
  } cases[] = {{" {\"a\":\r\n1}", "application/json", "\"data\": {\"a\":  1}"},
               {"[]", "Application/JSON ; charset=utf-8", "\"data\":[]"},
               {"a\r\n\"b\"", "text/plain", "\"data\":\"a\\r\\n\\\"b\\\"\""},
               {"x", "text/csv;header=present", "\"data\":\"x\""},
               {std::string("\0\xff", 2), "image/png", "\"bytes\":\"AP8=\""},
               {"1", "application/x-www-form-urlencoded", "\"bytes\":\"MQ==\""},
               {"", "text/plain", "\"data\":\"\""},
               {"", "application/octet-stream", "\"bytes\":\"\""}};
  int offset = 0;
  for (auto& k : cases) {
    INFO(k.type);
    auto a = c.ask(post("?channel=chat&user=ada", k.body, k.type));
    CHECK(a.status == 201);
    CHECK(a["content-type"] == "application/json");
    CHECK(a.body == "{\"channel\":\"chat\",\"epoch\":\"chat-1\",\"offset\":" + std::to_string(++offset) + '}');
    auto heard = reader.hear();
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].find(k.seen + '}') != std::string::npos);
    CHECK(heard[0].find("\"from\":\"ada\"") != std::string::npos);
  }
  CHECK(c.ask("POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").status == 201);
  CHECK(reader.hear()[0].find("\"bytes\":\"eA==\"") != std::string::npos);
  CHECK(c.ask("POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nTransfer-Encoding: "
              "chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: t\r\n\r\n")
            .status == 201);
  CHECK(reader.hear()[0].find("\"data\":\"abc\"") != std::string::npos);
}

TEST_CASE("a plain publish that cannot be") {
  options o;
  o.max_payload = 100;
  house h(o);
  client c(h);
  check_problem(c.ask(post("?channel=chat&channel=news", "1")), errc::bad_request);
  check_problem(c.ask(post("?channel=", "1")), errc::bad_request);
  check_problem(c.ask(post("?channel=chat&device=" + std::string(65, 'd'), "1")), errc::bad_request);
  check_problem(c.ask(post("?channel=chat", "{")), errc::bad_request);
  check_problem(c.ask(post("?channel=chat", "")), errc::bad_request);
  check_problem(c.ask(post("?channel=chat", "\xff", "text/plain")), errc::unsupported_media);
  for (auto query : {"?channel=chat", ""})
    check_problem(c.ask(post(query, "\x1f\x8b", "application/json", "Content-Encoding: gzip\r\n")),
                  errc::unsupported_media);
  check_problem(c.ask(post("?channel=chat", "\x1f\x8b", "image/png", "Content-Encoding: gzip\r\n")),
                errc::unsupported_media);
  check_problem(
      c.ask(post("?channel=chat", "1", "image/png", "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n")),
      errc::unsupported_media);
  CHECK(c.ask(post("?channel=chat", "1", "application/json", "Content-Encoding: Identity\r\n")).status == 201);
  check_problem(c.ask(post("?channel=chat", std::string(101, '1'))), errc::too_large);
  CHECK(c.ask(post("?channel=chat", std::string(100, '1'))).status == 201);
  check_problem(c.ask(post("?channel=secret", "1")), errc::forbidden);
  check_problem(c.ask(post("?channel=secret", "{")), errc::forbidden);  // before a look at what it says
  check_problem(c.ask(post("?channel=chat", "1", "application/json", "Idempotency-Key:\r\n")), errc::bad_request);
  check_problem(c.ask(post("?channel=chat&user=a", "1", "application/json", "Idempotency-Key: a b\r\n")),
                errc::bad_request);
  check_problem(
      c.ask(post("?channel=chat&user=a", "1", "application/json", "Idempotency-Key: " + std::string(65, 'k') + "\r\n")),
      errc::bad_request);
  h.store.failing = errc::internal;
  check_problem(c.ask(post("?channel=chat", "1")), errc::internal);
  h.store.failing = std::make_error_code(std::errc::io_error);
  check_problem(c.ask(post("?channel=chat", "1")), errc::internal);
  h.store.failing = errc::overloaded;
  auto a = c.ask(post("?channel=chat", "1"));
  check_problem(a, errc::overloaded);
  CHECK(a["retry-after"] == "1");
}

TEST_CASE(
    "a storage without room refuses with overloaded and a time, however it was asked; what it has can be read, and it "
    "takes on") {
  auto [error, seconds, text] = GENERATE(table<std::error_code, std::string, std::string>({
      {std::error_code(ENOSPC, std::system_category()), "10", "the storage is full, try again later"},
      {std::error_code(EDQUOT, std::system_category()), "10", "the storage is full, try again later"},
      {std::error_code(EBUSY, std::system_category()), "1", "overloaded, try again later"},
      {std::error_code(ENOMEM, std::system_category()), "1", "overloaded, try again later"},
      {errc::overloaded, "1", "overloaded, try again later"},
  }));
  house h;
  client c(h), w(h), raw(h), e(h);
  w.join("?channel=chat&user=ada");
  raw.join("?channel=chat&user=bob", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  CHECK(c.ask(post("?channel=chat", "1")).status == 201);
  w.take(), raw.take();
  const std::string publish = R"({"id":1,"publish":{"channel":"chat","data":2}})";
  const std::string refused =
      R"({"reply":1,"error":{"code":"overloaded","message":")" + text + R"(","retry_after":)" + seconds + "}}";

  h.store.failing = error;
  for (const auto& request :
       {post("?channel=chat", "2"), post("?channel=chat", "2", "text/plain"), post("", publish)}) {
    auto a = c.ask(request);
    check_problem(a, errc::overloaded);
    CHECK(a["retry-after"] == seconds);
    CHECK(a.has(text));
  }
  CHECK(c.ask(post("", '[' + publish + ']')).body == '[' + refused + ']');
  CHECK(w.say(publish).hear() == lines{"text " + refused});
  CHECK(w.say(R"({"id":1,"history":{"channel":"chat"}})").hear() == lines{"text " + refused});
  CHECK(w.say(R"({"id":1,"subscribe":{"channel":"news"}})").hear() == lines{"text " + refused});
  CHECK(raw.say("2").hear().at(0) == "close 1013 " + text);
  CHECK(c.ask(get("/live?channel=news"))["retry-after"] == seconds);
  CHECK(e.ask(event_stream("?channel=news")).has("retry: R\nevent: bye\ndata: {\"bye\":{\"code\":\"overloaded\""));

  h.store.failing = {};
  CHECK(c.ask(post("", publish)).has("\"offset\":2"));
  CHECK(w.hear().size() == 1);  // the follower was not disturbed
  CHECK(c.ask(get("/live?channel=chat&since=earliest")).has("\"cursor\":\"chat-1.2\""));
}

TEST_CASE(
    "the same key returns the first position; another payload under it is a conflict; anonymous keys are ignored") {
  house h;
  client c(h);
  auto keyed = [&](const std::string& user, const std::string& key, const std::string& body) {
    return c.ask(post("?channel=chat" + user, body, "application/json", "Idempotency-Key: " + key + "\r\n"));
  };
  CHECK(keyed("&user=ada", "k", "1").has("\"offset\":1"));
  CHECK(keyed("&user=ada", "\"k\"", "1").has("\"offset\":1"));
  CHECK(keyed("&user=ada", "k", "1").status == 201);
  check_problem(keyed("&user=ada", "k", "2"), errc::conflict);
  CHECK(keyed("&user=bob", "k", "2").has("\"offset\":2"));
  CHECK(keyed("", "k", "3").has("\"offset\":3"));
  CHECK(keyed("", "k", "4").has("\"offset\":4"));
}

TEST_CASE("commands by POST: one is answered 200 or its HTTP error, an array always 200 with replies") {
  house h;
  client c(h);
  auto a = c.ask(post("?user=ada", R"({"id":"x","publish":{"channel":"chat","data":1}})"));
  CHECK(a.status == 200);
  CHECK(a["content-type"] == "application/json");
  CHECK(a.body == R"({"reply":"x","ok":{"epoch":"chat-1","offset":1}})");
  CHECK(c.ask(post("", R"( {"id":1,"ping":{}} )")).body == R"({"reply":1,"ok":{}})");
  check_problem(c.ask(post("", R"({"id":1,"publish":{"channel":"secret","data":1}})")), errc::forbidden);
  check_problem(c.ask(post("", R"({"id":1,"fly":{}})")), errc::bad_request);
  check_problem(c.ask(post("", R"({"id":1,"subscribe":{"channel":"chat"}})")), errc::bad_request);
  check_problem(c.ask(post("", R"({"id":1,"unsubscribe":{"channel":"chat"}})")), errc::bad_request);
  check_problem(c.ask(post("", R"({"id":1,"presence":{"channel":"chat"}})")), errc::not_found);
  check_problem(c.ask(post("", R"({"id":1,"publish":{"channel":"chat","data":1,"ephemeral":true}})")),
                errc::not_implemented);
  check_problem(c.ask(post("", R"({"id":1,"history":{"channel":"secret"}})")), errc::forbidden);
  check_problem(c.ask(post("", R"({"id":1,"history":{"channel":"chat","epoch":"another"}})")), errc::not_found);
  CHECK(c.ask(post("", R"({"id":1,"history":{"channel":"chat"}})")).body == R"({"reply":1,"ok":{"messages":[)" +
                                                                                published("chat", 1, "1", 1000, "ada") +
                                                                                R"(],"epoch":"chat-1","more":false}})");
  check_problem(c.ask(post("", "{")), errc::bad_request);
  check_problem(c.ask(post("", "")), errc::bad_request);
  check_problem(c.ask(post("", "{}", "text/plain")), errc::unsupported_media);
  check_problem(c.ask("POST /live HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"), errc::unsupported_media);

  a = c.ask(post(
      "?user=ada",
      R"([{"id":1,"publish":{"channel":"chat","data":2}},{"id":2,"nonsense":1},{"id":3,"ping":{}},4,{"ping":{}},{"nonsense":1},{"id":null,"ping":{}}])"));
  CHECK(a.status == 200);
  CHECK(a.body.starts_with(
      R"([{"reply":1,"ok":{"epoch":"chat-1","offset":2}},{"reply":2,"error":{"code":"bad_request",)"));
  CHECK(a.has(R"(,{"reply":3,"ok":{}},{"reply":null,"error":)"));
  CHECK(a.body.ends_with(R"(,{"reply":null,"ok":{}}])"));
  // Without an id only errors are answered: 1, 2, 3, the number, the nonsense, the null.
  std::size_t replies = 0;
  for (std::size_t at = 0; (at = a.body.find("\"reply\":", at)) != a.body.npos; ++at) ++replies;
  CHECK(replies == 6);
  CHECK(c.ask(post("", "[]")).body == "[]");
  check_problem(c.ask(post("", "[{]")), errc::bad_request);
  std::string many = "[";
  for (int i = 0; i < 64; ++i) many += "{\"id\":1,\"ping\":{}},";
  many.back() = ']';
  CHECK(c.ask(post("", many)).status == 200);
  many.back() = ',';
  check_problem(c.ask(post("", many + "1]")), errc::bad_request);
}

TEST_CASE("a payload may nest as deep in a command as by itself, however the command comes") {
  house h;
  client c(h), ws(h);
  ws.join("");
  for (auto [depth, status] : {std::pair{64, 201}, {65, 400}}) {
    INFO(depth);
    std::string deep = std::string(std::size_t(depth), '[') + std::string(std::size_t(depth), ']');
    std::string command = "{\"id\":1,\"publish\":{\"channel\":\"chat\",\"data\":" + deep + "}}";
    CHECK(c.ask(post("?channel=chat", deep)).status == status);
    CHECK(c.ask(post("", command)).status == (status == 201 ? 200 : 400));
    CHECK(c.ask(post("", '[' + command + ']')).has("\"ok\"") == (status == 201));
    ws.say(command);
    CHECK((ws.hear().at(0).find("\"ok\"") != std::string::npos) == (status == 201));
  }
}

TEST_CASE("an array's replies are bounded: history past it is too_large, everything else is carried out") {
  options o;
  o.poll_bytes = 1000;
  house h(o);
  h.publish("chat", '"' + std::string(3000, 'x') + '"');
  client c(h);
  std::string many = "[";
  for (int i = 1; i <= 60; ++i) many += R"({"id":)" + std::to_string(i) + R"(,"history":{"channel":"chat"}},)";
  auto a = c.ask(
      post("?user=ada",
           many + R"({"id":"p","publish":{"channel":"chat","data":2}},{"id":"s","history":{"channel":"secret"}}])"));
  CHECK(a.status == 200);
  CHECK(a.body.size() < 30'000);
  CHECK(a.has(R"({"reply":3,"ok":{"messages":[)"));
  CHECK(a.has(R"({"reply":4,"error":{"code":"too_large",)"));
  CHECK(a.has(R"({"reply":60,"error":{"code":"too_large",)"));
  CHECK(a.has(R"({"reply":"p","ok":{"epoch":"chat-1","offset":2}})"));
  CHECK(c.ask(post("", R"({"id":4,"history":{"channel":"chat"}})")).status == 200);
}

TEST_CASE("an array's commands wait for one another on a slow storage") {
  house h;
  h.store.holding = true;
  client c(h);
  c.send(post(
      "?user=a",
      R"([{"id":1,"publish":{"channel":"chat","data":1}},{"id":2,"history":{"channel":"chat"}},{"publish":{"channel":"chat","data":2}},{"id":3,"ping":{}}])"));
  for (int i = 0; i < 10 && c.c->received.empty(); ++i) {
    CHECK(h.store.asked() == 1);
    h.answer(1);
  }
  auto a = read_answer(c.take());
  CHECK(a.body.starts_with(
      R"([{"reply":1,"ok":{"epoch":"chat-1","offset":1}},{"reply":2,"ok":{"messages":[{"channel":"chat","offset":1,)"));
  CHECK(a.body.ends_with(R"({"reply":3,"ok":{}}])"));
}

TEST_CASE("one element of an array that nests too deep is that element's error") {
  house h;
  client c(h);
  for (std::size_t depth : {66u, 1023u, 1024u, 5000u, 100'000u}) {
    INFO(depth);
    std::string deep(depth, '[');
    deep += R"("]\"[{")" + std::string(depth, ']');
    auto a = c.ask(post(
        "", R"([{"id":1,"ping":{}},{"id":2,"publish":{"channel":"chat","data":)" + deep + R"(}},{"id":3,"ping":{}}])"));
    CHECK(a.status == 200);
    CHECK(a.body.starts_with(R"([{"reply":1,"ok":{}},{"reply":2,"error":{"code":"bad_request",)"));
    CHECK(a.body.ends_with(R"(,{"reply":3,"ok":{}}])"));
    check_problem(c.ask(post("", "[1," + std::string(depth, '[') + ']')), errc::bad_request);  // no array at all
    check_problem(c.ask(post("", "[1," + std::string(depth, '[') + '"')), errc::bad_request);
  }
}

TEST_CASE("a stop in the middle of an array: what is with the host is answered, the rest is draining and not done") {
  house h;
  lines done;
  std::vector<command_reply> kept;
  bool later = false;
  auto stop = [&] {
    h.gate.stopping = true;
    h.gate.messages.stop();
    for (auto* each : h.gate.connections()) each->shut_down();
  };
  h.gate.host.on_command = [&](session&, std::string_view name, std::string_view, command_reply reply) {
    done.emplace_back(name);
    if (name == "stop" && !later) stop();
    if (later) return kept.push_back(std::move(reply));
    reply(result<std::string>(std::string("1")));
  };
  client c(h);
  const std::string three =
      R"([{"id":1,"one":1},{"id":2,"stop":1},{"id":3,"two":1},{"id":4,"publish":{"channel":"chat","data":1}}])";
  SECTION("by a hook") {
    auto a = c.ask(post("", three));
    CHECK(a.status == 200);
    CHECK(a.body.starts_with(R"([{"reply":1,"ok":1},{"reply":2,"ok":1},{"reply":3,"error":{"code":"draining",)"));
    CHECK(a.has(R"({"reply":4,"error":{"code":"draining",)"));
    CHECK(done == lines{"one", "stop"});
  }
  SECTION("while the storage has one of them") {
    h.store.holding = true;
    c.send(post("", R"([{"id":1,"publish":{"channel":"chat","data":1}},{"id":2,"two":1},{"id":3,"ping":{}}])"));
    stop();
    h.run();
    c.c->deliver();
    auto a = read_answer(c.take());
    CHECK(a.status == 200);
    CHECK(a.body.starts_with(R"([{"reply":1,"error":{"code":"internal",)"));
    CHECK(a.has(R"({"reply":2,"error":{"code":"draining",)"));
    CHECK(a.has(R"({"reply":3,"error":{"code":"draining",)"));
    CHECK(done.empty());
  }
  SECTION("while the host has one of them") {
    later = true;
    c.send(post("", three));
    stop();
    h.run();
    auto a = read_answer(c.take());
    CHECK(a.status == 200);
    CHECK(a.body.starts_with(R"([{"reply":1,"error":{"code":"internal",)"));
    CHECK(a.has(R"({"reply":2,"error":{"code":"draining",)"));
    CHECK(done == lines{"one"});
    for (auto& reply : kept) reply(result<std::string>(std::string("1")));
    h.run();
    CHECK(done == lines{"one"});
  }
}

TEST_CASE("hooks that throw in a POST: 500, logged, and the connection serves on") {
  house h;
  client c(h);
  h.gate.host.on_publish = [](session&, std::string_view, const payload&) -> verdict {
    throw std::runtime_error("on_publish");
  };
  h.gate.host.on_command = [](session&, std::string_view, std::string_view, command_reply) { throw 1; };
  check_problem(c.ask(post("?channel=chat", "1")), errc::internal);
  check_problem(c.ask(post("", R"({"id":1,"publish":{"channel":"chat","data":1}})")), errc::internal);
  check_problem(c.ask(post("", R"({"id":1,"dance":{}})")), errc::internal);
  auto a = c.ask(post("", R"([{"id":1,"ping":{}},{"id":2,"publish":{"channel":"chat","data":1}},{"id":3,"ping":{}}])"));
  CHECK(a.status == 200);
  CHECK(a.body.starts_with(R"([{"reply":1,"ok":{}},{"reply":2,"error":{"code":"internal",)"));
  CHECK(a.has(R"(,{"reply":3,"error":{"code":"internal",)"));
  a = c.ask(post("", R"([{"id":1,"dance":{}}])"));
  CHECK(a.status == 200);
  CHECK(a.body.starts_with(R"([{"reply":1,"error":{"code":"internal",)"));
  CHECK(h.log == lines{"on_publish threw: on_publish", "on_publish threw: on_publish",
                       "on_command threw: not a std::exception", "on_publish threw: on_publish",
                       "on_command threw: not a std::exception"});
  h.gate.host.on_publish = nullptr;
  CHECK(c.ask(post("?channel=chat", "1")).status == 201);
}

TEST_CASE("what the host makes of a publish") {
  house h;
  client c(h);
  verdict v = verdict::accept();
  std::string seen;
  h.gate.host.on_publish = [&](session& s, std::string_view channel, const payload& p) {
    seen = std::string(s.user()) + ' ' + std::string(channel) + ' ' + std::string(p.bytes()) + ' ' +
           std::string(s.transport());
    return v;
  };
  CHECK(c.ask(post("?channel=chat&user=ada", "{\"a\":1}")).status == 201);
  CHECK(seen == "ada chat {\"a\":1} post");
  v = verdict::replace(payload::json("[2]"));
  CHECK(c.ask(post("?channel=chat&user=ada", "1")).status == 201);
  CHECK(c.ask(get("/live?channel=chat&since=chat-1.1")).has("\"data\":[2]"));
  v = verdict::replace(payload::json("no json"));
  check_problem(c.ask(post("?channel=chat", "1")), errc::bad_request);
  v = verdict::refuse(errc::rate_limited, "slow down");
  auto a = c.ask(post("?channel=chat", "1"));
  check_problem(a, errc::rate_limited);
  CHECK(a.has("slow down"));
  CHECK(!a["retry-after"].empty());
  seen.clear();
  check_problem(c.ask(post("?channel=secret", "1")), errc::forbidden);
  CHECK(seen.empty());
}

TEST_CASE("a publish in whose hook the host ends the session is refused, and stored nowhere") {
  house h;
  client c(h);
  int asked = 0, at = 1;
  h.gate.host.on_publish = [&](session& s, std::string_view, const payload&) {
    if (++asked == at) s.close(4000, "enough");
    return verdict::accept();
  };
  auto stored = [&] {
    std::size_t n = SIZE_MAX;
    h.gate.messages.history("chat", {}, 1, [&](history_result r) { n = r.messages.size(); });
    h.run();
    return n;
  };
  SECTION("one") {
    auto a = c.ask(post("?channel=chat", "1"));
    check_problem(a, errc::forbidden);
    CHECK(a.has("enough"));
    CHECK(stored() == 0);
  }
  SECTION("one as a command") {
    check_problem(c.ask(post("", R"({"id":1,"publish":{"channel":"chat","data":1}})")), errc::forbidden);
    CHECK(stored() == 0);
  }
  SECTION("the second of an array: what was done has its reply") {
    at = 2;
    auto a = c.ask(post(
        "",
        R"([{"id":1,"publish":{"channel":"chat","data":1}},{"id":2,"publish":{"channel":"chat","data":2}},{"id":3,"publish":{"channel":"chat","data":3}}])"));
    CHECK(a.status == 200);
    CHECK(
        a.body.starts_with(R"([{"reply":1,"ok":{"epoch":"chat-1","offset":1}},{"reply":2,"error":{"code":"internal")"));
    CHECK(a.has(R"({"reply":3,"error":{"code":"forbidden","message":"enough")"));
    CHECK(stored() == 1);
    CHECK(asked == 2);
  }
  SECTION("on a stream") {
    c.join("?channel=chat");
    c.say(R"({"id":1,"publish":{"channel":"chat","data":1}})");
    CHECK(c.hear() == lines{"close 4000 enough"});
    CHECK(stored() == 0);
  }
  CHECK(client(h).ask(post("?channel=other", "1")).status == 201);
}

TEST_CASE("a host answers what came over a connection that has broken: it stays broken") {
  house h;
  client c(h);
  SECTION("a command") {
    std::vector<command_reply> later;
    h.gate.host.on_command = [&](session&, std::string_view, std::string_view, command_reply r) {
      later.push_back(std::move(r));
    };
    for (std::string command : {R"({"id":9,"dance":{}})", R"([{"id":9,"dance":{}},{"id":10,"dance":{}}])"}) {
      client d(h);
      d.send(post("", command));
      d.c->reset();
      later.back()(result<std::string>(std::string("1")));  // in the same turn
      h.run();
      CHECK(d.c->closed);
      CHECK(d.take().empty());
    }
    CHECK(later.size() == 2);
  }
  SECTION("a publish, a poll and a stream that wait for the storage") {
    h.store.holding = true;
    for (auto& request : {post("?channel=chat", "1"), get("/live?channel=cold&since=earliest"),
                          event_stream("?channel=cold&since=earliest")}) {
      client d(h);
      d.send(request);
      d.c->reset();
      h.store.answer(SIZE_MAX);  // in the same turn
      h.run();
      CHECK(d.c->closed);
      CHECK(d.take().empty());
    }
  }
  CHECK(h.gate.messages.session_count() == 0);
  CHECK(h.gate.connections().size() == 1);
}

TEST_CASE("a hook may look at what it was handed to its end, whatever it does with the reply") {
  house h;
  // Long enough to lie in memory of its own.
  const std::string user(40, 'u'), more = "?channel=chat&user=" + user;
  std::string said;
  client c(h);
  SECTION("an authorizer") {
    h.gate.host.authorize = [&](const request& r, authorize_reply reply) {
      if (r.param("no") == "1")
        reply(errc::forbidden);
      else
        reply(usual(r));
      said = r.path() + ' ' + std::string(r.address()) + ' ' + std::string(r.param("user")) + ' ' +
             std::string(r.header("host"));
    };
    const std::string all = "/live 203.0.113.7 " + user + " h";
    SECTION("of a WebSocket") { CHECK(c.join(more).size() == 1); }
    SECTION("of an event stream") { CHECK(c.open(event_stream(more)).find("event: open") != std::string::npos); }
    SECTION("of a WebSocket whose storage is slow") {
      h.store.holding = true;
      c.send(upgrade(more));
      h.answer();
      CHECK(c.take().starts_with("HTTP/1.1 101"));
    }
    SECTION("of a poll") { CHECK(c.ask(get("/live" + more + "&since=latest")).status == 200); }
    SECTION("of a publish") { CHECK(c.ask(post(more, "1")).status == 201); }
    SECTION("that refuses") { CHECK(c.ask(get("/live" + more + "&no=1")).status == 403); }
    CHECK(said == all);
  }
  SECTION("on_http") {
    h.gate.host.on_http = [&](const request& r, reply_to<result<response>> reply) {
      reply(response{200, "text/plain", "page", {}});
      said =
          r.path() + ' ' + std::string(r.address()) + ' ' + std::string(r.param("user")) + ' ' + std::string(r.body());
    };
    CHECK(c.ask("POST /page?user=" + user + " HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n" + user).body ==
          "page");
    CHECK(said == "/page 203.0.113.7 " + user + ' ' + user);
  }
  SECTION("on_publish that ends the session") {
    h.gate.host.on_publish = [&](session& s, std::string_view channel, const payload& p) {
      s.close();
      said = std::string(channel) + ' ' + std::string(p.bytes());
      return verdict::accept();
    };
    const std::string data = '"' + user + '"';
    SECTION("of a POST") { c.ask(post("?channel=" + user, data)); }
    SECTION("of a command") { c.ask(post("", R"({"publish":{"channel":")" + user + R"(","data":)" + data + "}}")); }
    SECTION("of a stream") {
      c.join(more);
      c.say(R"({"publish":{"channel":")" + user + R"(","data":)" + data + "}}");
    }
    CHECK(said == user + ' ' + data);
  }
  SECTION("on_command that answers, and ends the session") {
    h.gate.host.on_command = [&](session& s, std::string_view name, std::string_view body, command_reply reply) {
      reply(result<std::string>(std::string("1")));
      s.close();
      said = std::string(name) + ' ' + std::string(body);
    };
    const std::string command = R"({"id":1,"dance":")" + user + "\"}";
    SECTION("of a POST") { c.ask(post("", command)); }
    SECTION("of an array") { c.ask(post("", '[' + command + ']')); }
    SECTION("of a stream") {
      c.join(more);
      c.say(command);
    }
    CHECK(said == "dance \"" + user + '"');
  }
}

// ---- elsewhere

TEST_CASE("OPTIONS * is the host's where it answers requests") {
  house h;
  h.gate.host.on_http = [](const request& r, reply_to<result<response>> reply) {
    reply(response{.body = std::string(r.method()) + ' ' + r.path() + ' ' + std::string(r.body())});
  };
  client c(h);
  auto a = c.ask("OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
  CHECK(a.status == 200);
  CHECK(a.body == "OPTIONS * hi");
  CHECK(c.ask("OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n").body == "OPTIONS * ");
}

TEST_CASE("what is not the live resource's goes to on_http") {
  house h;
  client c(h);
  check_problem(c.ask(get("/page")), errc::not_found);
  std::vector<reply_to<result<response>>> waiting;
  std::string seen;
  h.gate.host.on_http = [&](const request& r, reply_to<result<response>> reply) {
    seen = std::string(r.method()) + ' ' + r.path() + ' ' + std::string(r.param("q")) + ' ' + std::string(r.body()) +
           ' ' + std::string(r.header("x-a")) + ' ' + r.peer();
    if (r.path() == "/later") return waiting.push_back(std::move(reply));
    if (r.path() == "/throw") throw std::runtime_error("page");
    if (r.path() == "/bad") return reply(response{99, "", "", {}});
    if (r.path() == "/no") return reply(errc::rate_limited);
    if (r.path() == "/read") return reply(errc::method_not_allowed);
    if (r.path() == "/none") return reply(response{204, "", "", {}});
    reply(response{
        200,
        "text/html\r\nX: y",
        "page",
        {{"X-Fine", "1"}, {"Content-Length", "7"}, {"connection", "x"}, {"Bad Name", "1"}, {"Split", "a\r\nB: c"}}});
  };
  auto a = c.ask("PUT /a%20b?q=%C3%A9 HTTP/1.1\r\nHost: h\r\nX-A: v\r\nContent-Length: 3\r\n\r\nxyz");
  CHECK(seen == "PUT /a b é xyz v 203.0.113.7:4711");
  CHECK(a.status == 200);
  CHECK(a.body == "page");
  CHECK(a["x-fine"] == "1");
  CHECK(a["content-type"] == "application/octet-stream");
  CHECK(a.fields.count("split") + a.fields.count("b") + a.fields.count("bad name") + a.fields.count("x") == 0);
  CHECK(!a["date"].empty());
  auto head = c.ask("HEAD /page HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK(head["content-length"] == "4");
  CHECK(head.rest.empty());
  check_problem(c.ask(get("/throw")), errc::internal);
  CHECK(h.log == lines{"on_http threw: page"});
  check_problem(c.ask(get("/bad")), errc::internal);
  check_problem(c.ask(get("/no")), errc::rate_limited);
  a = c.ask("POST /read HTTP/1.1\r\nHost: h\r\n\r\n");
  check_problem(a, errc::method_not_allowed);
  CHECK(a["allow"] == "GET, HEAD");  // of the live resource more are
  a = c.ask(get("/none"));
  CHECK(a.status == 204);
  CHECK_FALSE(a.fields.count("content-length"));
  c.send(get("/later"));
  CHECK(c.take().empty());
  waiting[0](response{});
  h.run();
  CHECK(read_answer(c.take()).status == 200);
  waiting.clear();
  c.send(get("/later"));
  waiting.clear();
  h.run();
  check_problem(read_answer(c.take()), errc::internal);
  check_problem(c.ask(get("/%zz")), errc::bad_request);
}

// ---- connections

TEST_CASE("keeping a connection: 1.1 unless told otherwise, 1.0 only when asked") {
  house h;
  auto reply = [&](const std::string& request) {
    client c(h);
    auto a = c.ask(request);
    return a["connection"] + (c.c->ended_by_server ? " ended" : "");
  };
  CHECK(reply("GET / HTTP/1.1\r\nHost: h\r\n\r\n") == "");
  CHECK(reply("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n") == "close ended");
  CHECK(reply("GET / HTTP/1.0\r\n\r\n") == "close ended");
  CHECK(reply("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == "keep-alive");
  CHECK(reply("GET /live?channel=a HTTP/1.0\r\n\r\n") == "close ended");
  CHECK(reply("GET /live?channel=a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n") == "keep-alive");
}

TEST_CASE("pipelined requests are answered in order, whatever each waits for") {
  house h;
  h.publish("chat", "1");
  std::vector<reply_to<result<response>>> waiting;
  h.gate.host.on_http = [&](const request&, reply_to<result<response>> reply) { waiting.push_back(std::move(reply)); };
  client c(h);
  c.send(get("/page") + get("/live?channel=chat&since=earliest") + post("?channel=chat", "2") +
         get("/live?channel=chat&since=chat-1.2&wait=30") + get("/nowhere"));
  CHECK(c.take().empty());
  waiting[0](response{200, "text/plain", "page", {}});
  h.run();
  auto a = read_answer(c.take());
  CHECK(a.body == "page");
  auto b = read_answer(a.rest);
  CHECK(b.has("\"cursor\":\"chat-1.1\""));
  auto d = read_answer(b.rest);
  CHECK(d.status == 201);
  CHECK(d.rest.empty());
  h.publish("chat", "3");
  a = read_answer(c.take());
  CHECK(a.has("\"cursor\":\"chat-1.3\""));
  CHECK(a.rest.empty());
  REQUIRE(waiting.size() == 2);
  waiting[1](errc::not_found);
  h.run();
  CHECK(read_answer(c.take()).status == 404);
}

TEST_CASE("an answer does not wait for the poll that was pipelined behind it") {
  house h;
  client c(h);
  h.publish("chat", "1");
  SECTION("with room") {}
  SECTION("blocked at first") {
    c.narrow(10);
    c.send(get("/nowhere") + get("/live?channel=chat&since=chat-1.1&wait=30"));
    c.widen();
    auto a = read_answer(c.take());
    CHECK(a.status == 404);
    h.publish("chat", "2");
    CHECK(read_answer(c.take()).has("chat-1.2"));
    return;
  }
  c.send(get("/nowhere") + get("/live?channel=chat&since=chat-1.1&wait=30"));
  CHECK(read_answer(c.take()).status == 404);
}

TEST_CASE("a flood of pipelined requests is read only as fast as its answers are taken") {
  options o;
  o.max_unsent = 4096;
  house h(o);
  std::size_t asked = 0;
  h.gate.host.on_http = [&](const request&, reply_to<result<response>> reply) {
    ++asked;
    reply(response{200, "text/plain", std::string(1000, 'x'), {}});
  };
  client c(h);
  c.narrow(0);
  std::string many;
  for (int i = 0; i < 1000; ++i) many += get("/");
  c.send(many);
  CHECK(asked < 8);
  c.widen();
  h.advance(0);
  std::string all = c.take();
  int answers = 0;
  while (!all.empty()) {
    auto a = read_answer(all);
    REQUIRE(a.body.size() == 1000);
    all = a.rest;
    ++answers;
  }
  CHECK(answers == 1000);
}

TEST_CASE("Expect: 100-continue is met when the body has not come yet") {
  house h;
  client c(h);
  std::string head =
      "POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nExpect: "
      "100-continue\r\nContent-Length: 2\r\n\r\n";
  c.send(head);
  CHECK(c.take() == "HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(c.ask("hi").status == 201);
  CHECK(c.ask(head + "ho").status == 201);
}

TEST_CASE("a client that closes its half first still gets its answer") {
  house h;
  h.publish("chat", "1");
  SECTION("a short poll on a slow storage") {
    h.store.holding = true;
    client c(h);
    c.send(get("/live?channel=cold&since=earliest"));
    c.c->send_end();
    h.answer();
    CHECK(read_answer(c.take()).status == 200);
    CHECK(c.c->closed);
  }
  SECTION("a long poll: at once, because nobody can tell it from one that has gone") {
    client c(h);
    c.send(get("/live?channel=chat&since=chat-1.1&wait=30"));
    c.c->send_end();
    h.run();
    CHECK(read_answer(c.take()).body == R"({"messages":[],"notices":[],"cursor":"chat-1.1"})");
    CHECK(c.c->closed);
    CHECK(h.gate.messages.session_count() == 0);
  }
  SECTION("a publish that waits for the storage") {
    h.store.holding = true;
    client c(h);
    c.send(post("?channel=chat", "1"));
    c.c->send_end();
    h.run();
    CHECK_FALSE(c.c->closed);
    h.answer();
    CHECK(read_answer(c.take()).status == 201);
    CHECK(c.c->closed);
  }
  SECTION("an answer that is blocked") {
    client c(h);
    c.narrow(5);
    c.send(get("/nowhere"));
    c.c->send_end();
    h.run();
    CHECK_FALSE(c.c->closed);
    c.widen();
    CHECK(read_answer(c.take()).status == 404);
    CHECK(c.c->closed);
  }
  SECTION("a long poll that was asked for while the authorizer was busy") {
    std::vector<authorize_reply> waiting;
    h.gate.host.authorize = [&](const request&, authorize_reply reply) { waiting.push_back(std::move(reply)); };
    client c(h);
    c.send(get("/live?channel=chat&since=chat-1.1&wait=50"));
    c.c->send_end();
    h.run();
    REQUIRE(waiting.size() == 1);
    waiting[0](grant{.follow = channel_set::all()});
    h.run();
    CHECK(read_answer(c.take()).body == R"({"messages":[],"notices":[],"cursor":"chat-1.1"})");
    CHECK(c.c->closed);
    CHECK(h.gate.messages.session_count() == 0);
  }
  SECTION("all its pipelined requests, also when its first answer is more than may be unsent") {
    h.publish("chat", '"' + std::string(100'000, 'x') + '"');
    for (std::size_t opened : {std::size_t{0}, std::size_t{80'000}, SIZE_MAX}) {
      client c(h);
      c.narrow(1000);
      c.send(get("/live?channel=chat&since=earliest") + post("?channel=news", "1") +
             get("/live?channel=news&since=earliest&wait=9") + get("/nowhere"));
      c.c->open_window(opened);
      c.c->send_end();
      h.run();
      c.widen();
      auto a = read_answer(c.take());
      CHECK(a.status == 200);
      CHECK(a["connection"] == "");
      a = read_answer(a.rest);
      CHECK(a.status == 201);
      a = read_answer(a.rest);
      CHECK(a.status == 200);
      a = read_answer(a.rest);
      CHECK(a.status == 404);
      CHECK(a["connection"] == "close");
      CHECK(a.rest.empty());
      CHECK(c.c->closed);
    }
  }
  SECTION("a pipelined request behind one that is being served") {
    h.store.holding = true;
    client c(h);
    c.send(post("?channel=chat", "1") + post("?channel=chat", "2") + get("/live?channel=chat"));
    c.c->send_end();
    h.answer();
    h.answer();
    h.answer();
    auto a = read_answer(c.take());
    CHECK(a.status == 201);
    a = read_answer(a.rest);
    CHECK(a.status == 201);
    a = read_answer(a.rest);
    CHECK(a.status == 200);
    CHECK(a.rest.empty());
    CHECK(c.c->closed);
  }
  SECTION("half a request, half a body or a stream behind a whole request") {
    for (std::string last :
         {std::string("GET / HT"), post("?channel=news", "123").substr(0, post("?channel=news", "123").size() - 1),
          event_stream("?channel=chat"), upgrade("?channel=chat")}) {
      h.store.holding = true;
      client c(h);
      c.send(post("?channel=chat", "1") + last);
      c.c->send_end();
      h.answer();
      auto a = read_answer(c.take());
      CHECK(a.status == 201);
      a = read_answer(a.rest);
      CHECK(a.status == 400);
      CHECK(a["connection"] == "close");
      CHECK(a.rest.empty());
      CHECK(c.c->closed);
      CHECK(h.gate.messages.session_count() == 0);
    }
  }
  SECTION("half a request") {
    client c(h);
    c.send("GET / HT");
    c.c->send_end();
    h.run();
    CHECK(read_answer(c.take()).status == 400);
    CHECK(c.c->closed);
  }
}

// ---- the same however it is cut

TEST_CASE("requests are answered the same however their bytes are cut") {
  std::string scripts[] = {
      get("/live?channel=chat&since=earliest") + post("?channel=chat&user=ada", "[1, 2]") +
          "HEAD /live?channel=chat HTTP/1.1\r\nHost: h\r\n\r\n" + get("/nowhere"),
      "POST /live?channel=chat HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nTransfer-Encoding: "
      "chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" +
          post("", R"([{"id":1,"publish":{"channel":"chat","data":1}},{"id":2,"fly":1}])") + get("/live?channel=%"),
      get("/live?channel=chat&channel=secret") + "GET /live?channel=a HTTP/1.1\r\nHost h\r\n\r\n" + get("/"),
      event_stream("?channel=chat&channel=news&since=earliest") + "whatever follows",
  };
  for (auto& script : scripts) {
    auto run = [&](std::size_t cut, std::size_t step) {
      house h;
      h.publish("chat", "{\"n\":1}");
      client c(h);
      for (std::size_t at = 0; at < script.size();) {
        std::size_t n = at == 0 && cut ? cut : step;
        c.send(std::string_view(script).substr(at, n));
        at += n;
      }
      h.publish("chat", "2");
      return c.take() + (c.c->ended_by_server ? "|" : "");
    };
    auto whole = run(0, script.size());
    CHECK(run(0, 1) == whole);
    for (std::size_t cut = 1; cut < script.size(); ++cut) {
      if (run(cut, script.size()) != whole) FAIL("differs when cut at byte " << cut);
    }
  }
}
