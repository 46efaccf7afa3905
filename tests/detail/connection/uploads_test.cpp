// SPDX-License-Identifier: BSL-1.0
// Content on its way in and out.
#include "detail/connection/stage.hpp"
#include "hailwire/storage/memory.hpp"

using namespace stage;

namespace {

/// Logs in memory, and content in memory that is answered when it is told to, as a disk would.
class content_storage_of_tests {
 public:
  static constexpr bool keeps_keys = true;
  bool holding = false;
  std::error_code failing;  // of the next operations on content
  std::size_t largest_read = 0, reads = 0;
  struct kept {
    upload state;
    content_limits limits;
    std::string bytes;
  };
  std::map<std::string, kept> all;

  append_result append(std::string_view channel, const draft& d) {
    if (!d.content) return log_.append(channel, d);
    auto at = all.find(d.content->id);
    if (at == all.end() || at->second.state.channel != channel) return errc::not_found;
    if (at->second.state.named && d.key.empty()) return errc::conflict;
    append_result r = log_.append(channel, d);
    if (!r.error) at->second.state.named = true;
    return r;
  }
  read_result read(std::string_view channel, std::uint64_t since, read_limit limit) {
    return log_.read(channel, since, limit);
  }
  void async_open_content(upload u, const content_limits& limits, upload_handler done) {
    later(std::move(done), [this, u = std::move(u), limits]() mutable -> upload_result {
      for (auto& [id, k] : all)
        if (!u.key.empty() && k.state.key == u.key && k.state.owner == u.owner) {
          upload_result r(k.state);
          r.known = true;
          return r;
        }
      if (all.size() >= limits.uploads) return errc::rate_limited;
      u.id = "id-" + std::to_string(all.size() + 1);
      u.left_ms = limits.life_ms;
      all[u.id] = {u, limits, {}};
      return u;
    });
  }
  void async_find_content(std::string_view id, upload_handler done) {
    later(std::move(done), [this, id = std::string(id)]() -> upload_result {
      auto at = all.find(id);
      return at == all.end() ? upload_result(errc::not_found) : upload_result(at->second.state);
    });
  }
  void async_write_content(std::string_view id, std::uint64_t offset, std::string bytes, upload_handler done) {
    later(std::move(done), [this, id = std::string(id), offset, bytes = std::move(bytes)]() -> upload_result {
      auto at = all.find(id);
      if (at == all.end()) return errc::not_found;
      kept& k = at->second;
      if (offset != k.state.offset || k.state.complete) {
        upload_result r(k.state);
        r.error = errc::conflict;
        return r;
      }
      if (offset + bytes.size() > k.state.length.value_or(k.limits.size)) {
        all.erase(at);
        return errc::too_large;
      }
      k.bytes += bytes;
      k.state.offset = k.bytes.size();
      return k.state;
    });
  }
  void async_commit_content(std::string_view id, upload_handler done) {
    later(std::move(done), [this, id = std::string(id)]() -> upload_result {
      auto at = all.find(id);
      if (at == all.end()) return errc::not_found;
      upload& u = at->second.state;
      if (u.length.value_or(u.offset) != u.offset) return errc::bad_request;
      u.complete = true;
      return u;
    });
  }
  void async_abort_content(std::string_view id, upload_handler done) {
    later(std::move(done), [this, id = std::string(id)]() -> upload_result {
      auto at = all.find(id);
      if (at == all.end()) return errc::not_found;
      if (at->second.state.named) return errc::conflict;
      all.erase(at);
      return upload_result();
    });
  }
  void async_read_content(std::string_view id, std::uint64_t from, std::size_t size, content_handler done) {
    ++reads;
    largest_read = std::max(largest_read, size);
    later(std::move(done), [this, id = std::string(id), from, size]() -> content_result {
      auto at = all.find(id);
      if (at == all.end()) return errc::not_found;
      content_result r;
      r.bytes = at->second.bytes.substr(static_cast<std::size_t>(from), size);
      return r;
    });
  }
  void answer(std::size_t most = SIZE_MAX) {
    for (; most && !waiting_.empty(); --most) {
      auto f = std::move(waiting_.front());
      waiting_.pop_front();
      f();
    }
  }
  std::size_t asked() const noexcept { return waiting_.size(); }

 private:
  template <class Result, class Work>
  void later(detail::move_only_function<void(Result)> done, Work work) {
    auto all_of_it = [this, done = std::move(done), work = std::move(work)]() mutable {
      done(failing ? Result(failing) : work());
    };
    if (!holding) return all_of_it();
    waiting_.push_back(std::move(all_of_it));
  }
  memory_storage log_;
  std::deque<detail::move_only_function<void()>> waiting_;
};

struct content_house {
  content_storage_of_tests store;
  house h;
  explicit content_house(options o = {}) : h(detail::erase_storage(store), o) {}
  void answer(std::size_t most = SIZE_MAX) {
    store.answer(most);
    h.run();
  }
};

std::string upload_of(const std::string& body, const std::string& more = {},
                      const std::string& query = "?channel=chat&user=ada", const std::string& type = "image/png") {
  return "POST /live/content" + query + " HTTP/1.1\r\nHost: h\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + more + "\r\n" + body;
}
std::string part_of(const std::string& id, std::size_t offset, const std::string& body, const std::string& more = {},
                    const std::string& user = "ada") {
  return "PATCH /live/content/" + id + "?user=" + user +
         " HTTP/1.1\r\nHost: h\r\nContent-Type: application/partial-upload\r\nUpload-Offset: " +
         std::to_string(offset) + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + more + "\r\n" + body;
}
std::string about(const std::string& method, const std::string& id, const std::string& user = "ada",
                  const std::string& more = {}) {
  return method + " /live/content/" + id + "?user=" + user + " HTTP/1.1\r\nHost: h\r\n" + more + "\r\n";
}
std::string naming(const std::string& id, const std::string& more = {}, const std::string& channel = "chat") {
  return "{\"id\":1,\"publish\":{\"channel\":\"" + channel + "\",\"content\":\"" + id + '"' + more + "}}";
}
void check_problem(const answer& a, errc code) {
  CAPTURE(a.body);
  CHECK(a.status == http_status(code));
  CHECK(a.has("\"code\":\"" + std::string(code_name(code)) + '"'));
}

}  // namespace

TEST_CASE("an upload in one request is named by a message, and fetched by whoever may follow") {
  content_house c;
  client ada(c.h), bob(c.h);
  auto a = ada.ask(upload_of("picture"));
  CHECK(a.status == 201);
  CHECK(a.body == R"({"content":"id-1","offset":7,"complete":true,"expires":3600})");
  CHECK(a["location"] == "/live/content/id-1");
  CHECK(a["upload-offset"] == "7");
  CHECK(a["upload-complete"] == "?1");
  CHECK(a["upload-limit"] == "max-size=67108864");
  CHECK(a["cache-control"] == "no-store");

  bob.join("?channel=chat&user=bob");
  client signals(c.h);
  signals.join("?channel=chat&user=bob&signal=1");
  a = ada.ask(post("?user=ada", naming("id-1", R"(,"data":{"text":"look"},"type":"photo")")));
  CHECK(a.status == 200);
  const auto heard = bob.hear();
  REQUIRE(heard.size() == 1);
  CHECK(heard[0].find(R"("type":"photo","epoch":")") != std::string::npos);
  CHECK(heard[0].find(R"("size":7,"content_type":"image/png","data":{"text":"look"}})") != std::string::npos);
  const auto signalled = signals.hear();
  REQUIRE(signalled.size() == 1);
  CHECK(signalled[0].ends_with(R"("size":7,"content_type":"image/png"})"));

  const std::string epoch = heard[0].substr(heard[0].find("\"epoch\":\"") + 9, 12);
  auto get_it = [&](const std::string& more = {}, const std::string& method = "GET") {
    return method + " /live/messages?channel=chat&epoch=" + epoch + "&offset=1&user=bob HTTP/1.1\r\nHost: h\r\n" +
           more + "\r\n";
  };
  client get(c.h);
  a = get.ask(get_it());
  CHECK(a.status == 200);
  CHECK(a.body == "picture");
  CHECK(a["content-type"] == "image/png");
  CHECK(a["etag"] == "\"" + epoch + ".1\"");
  CHECK(a["x-content-type-options"] == "nosniff");
  a = get.ask(get_it("Range: bytes=2-3\r\nIf-Range: \"" + epoch + ".1\"\r\n"));
  CHECK(a.status == 206);
  CHECK(a.body == "ct");
  CHECK(a["content-range"] == "bytes 2-3/7");
  CHECK(get.ask(get_it("Range: bytes=7-\r\n")).status == 416);
  a = get.ask(get_it({}, "HEAD"));
  CHECK(a.status == 200);
  CHECK(a["content-length"] == "7");
  a = get.ask(post("?user=bob", R"({"id":1,"history":{"channel":"chat","after":0}})"));
  CHECK(a.has(R"("size":7,"content_type":"image/png","data":{"text":"look"}}])"));
}

TEST_CASE("an upload goes on where it stopped, and says where that is") {
  content_house c;
  client ada(c.h);
  auto a = ada.ask(upload_of("abc", "Upload-Complete: ?0\r\nUpload-Length: 9\r\nIdempotency-Key: k\r\n"));
  CHECK(a.status == 201);
  CHECK(a.has(R"("offset":3,"complete":false)"));
  CHECK(a["upload-complete"] == "?0");
  a = ada.ask(about("HEAD", "id-1"));
  CHECK(a.status == 204);
  CHECK(a["upload-offset"] == "3");
  CHECK(a["upload-complete"] == "?0");
  CHECK(a["cache-control"] == "no-store");
  a = ada.ask(part_of("id-1", 3, "def", "Upload-Complete: ?0\r\n"));
  CHECK(a.status == 204);
  CHECK(a["upload-offset"] == "6");
  for (std::size_t wrong : {0u, 5u, 7u}) {
    client other(c.h);
    a = other.ask(part_of("id-1", wrong, "x"));
    check_problem(a, errc::conflict);
    CHECK(a["upload-offset"] == "6");
    CHECK(a["connection"] == "close");
  }
  client again(c.h);
  a = again.ask(upload_of("abc", "Upload-Complete: ?0\r\nIdempotency-Key: \"k\"\r\n"));  // the same key
  CHECK(a.status == 201);
  CHECK(a.has(R"("content":"id-1","offset":6,"complete":false)"));
  a = ada.ask(part_of("id-1", 6, "ghi"));
  CHECK(a.status == 204);
  CHECK(a["upload-complete"] == "?1");
  CHECK(c.store.all.at("id-1").bytes == "abcdefghi");
  check_problem(client(c.h).ask(part_of("id-1", 9, "")), errc::conflict);
}

TEST_CASE("what came before a cut is kept, whether the client ends or its connection breaks") {
  content_house c;
  const std::string whole(300'000, 'x'), request = upload_of(whole, "Idempotency-Key: k\r\n");
  for (bool breaks : {false, true}) {
    client ada(c.h);
    ada.send(request.substr(0, request.size() - 100'000));
    breaks ? ada.c->reset() : ada.c->send_end();
    c.h.run();
    CHECK(ada.c->closed);
    CHECK(c.store.all.at("id-1").state.offset == 200'000);
    c.store.all.clear();
  }
}

TEST_CASE("an upload is not read faster than the storage takes it") {
  content_house c;
  c.store.holding = true;
  client ada(c.h);
  const std::string whole(2'000'000, 'y');
  ada.send(upload_of({}, "Upload-Complete: ?0\r\n"));
  c.answer();
  CHECK(read_answer(ada.take()).status == 201);
  const std::string request = part_of("id-1", 0, whole);
  ada.send(request.substr(0, 1000));
  c.answer();
  for (std::size_t at = 1000; at < request.size(); at += 10'000) ada.c->unread += request.substr(at, 10'000);
  // Handed over in pieces, as a socket would.
  std::string left = std::exchange(ada.c->unread, {});
  std::size_t sent = 0, most = 0;
  int rounds = 0;
  while (sent < left.size() && ++rounds < 10'000) {
    while (ada.c->reading && sent < left.size()) {
      ada.send(left.substr(sent, 10'000));
      sent += std::min<std::size_t>(10'000, left.size() - sent);
    }
    most = std::max(most, sent - static_cast<std::size_t>(c.store.all.at("id-1").state.offset));
    c.answer();
  }
  c.answer();
  CHECK(most <= 2 * detail::upload_buffer + 20'000);
  CHECK(read_answer(ada.take()).status == 204);
  CHECK(c.store.all.at("id-1").bytes == whole);
}

TEST_CASE("an upload is bounded by progress, not by the time that a body may take") {
  options o;
  o.body_time = std::chrono::seconds(30);
  o.stall_time = std::chrono::seconds(60);
  content_house c(o);
  client ada(c.h);
  const std::string request = upload_of("0123456789");
  ada.send(request.substr(0, request.size() - 10));
  for (int i = 0; i < 9; ++i) {  // nine minutes
    c.h.advance(59'999);
    ada.send("x");
    REQUIRE_FALSE(ada.c->closed);
  }
  c.h.advance(59'998);
  CHECK(ada.take().empty());
  c.h.advance(200);  // a timer is rounded up to a tenth of a second
  check_problem(read_answer(ada.take()), errc::timeout);
  CHECK(c.store.all.at("id-1").state.offset == 9);
}

TEST_CASE("limits, and lengths that lie") {
  options o;
  o.content.size = 10;
  content_house c(o);
  auto ask = [&](const std::string& request) { return client(c.h).ask(request); };
  check_problem(ask(upload_of("12345678901")), errc::too_large);
  CHECK(ask(upload_of("1234567890")).status == 201);
  CHECK(ask(upload_of("123", "Upload-Length: 5\r\nUpload-Complete: ?0\r\n")).status == 201);
  check_problem(ask(part_of("id-2", 3, "4")), errc::bad_request);  // shorter than it said
  check_problem(ask(part_of("id-2", 4, "56", "Upload-Length: 6\r\n")), errc::bad_request);
  check_problem(ask(part_of("id-2", 4, "56")), errc::too_large);  // longer, and gone
  check_problem(ask(about("GET", "id-2")), errc::method_not_allowed);
  CHECK(ask(about("HEAD", "id-2")).status == 404);
  for (auto bad : {"Upload-Length: x\r\n", "Upload-Complete: yes\r\n", "Idempotency-Key: \r\n"})
    check_problem(ask(upload_of("1", bad)), errc::bad_request);
  check_problem(ask(upload_of("1", {}, "?user=ada")), errc::bad_request);
  check_problem(ask(upload_of("1", {}, "?channel=a&channel=b&user=ada")), errc::bad_request);
  check_problem(ask(upload_of("1", "Content-Encoding: gzip\r\n")), errc::unsupported_media);
  check_problem(ask(about("PATCH", "id-1")), errc::unsupported_media);
  check_problem(ask(about("PATCH", "id-1", "ada", "Content-Type: application/partial-upload\r\n")), errc::bad_request);
  c.store.failing = std::error_code(ENOSPC, std::system_category());
  check_problem(ask(upload_of("1")), errc::overloaded);
  c.store.failing = errc::rate_limited;
  auto a = ask(upload_of("1"));
  check_problem(a, errc::rate_limited);
  CHECK(a["retry-after"] == "60");
}

TEST_CASE("an upload is who made it's alone, for its channel alone, the right asked each time") {
  content_house c;
  auto ask = [&](const std::string& request) { return client(c.h).ask(request); };
  CHECK(ask(upload_of("abc", "Upload-Complete: ?0\r\n")).status == 201);
  for (const auto& request : {about("DELETE", "id-1", "bob"), part_of("id-1", 3, "d", {}, "bob")})
    check_problem(ask(request), errc::not_found);
  CHECK(ask(about("HEAD", "id-1", "bob")).status == 404);
  CHECK(ask(about("HEAD", "nobody")).status == 404);
  check_problem(ask(upload_of("abc", {}, "?channel=chat")), errc::forbidden);  // nobody
  check_problem(ask(upload_of("abc", {}, "?channel=secret&user=ada")), errc::forbidden);
  check_problem(ask(post("?user=ada", naming("id-1"))), errc::conflict);  // not complete
  CHECK(ask(part_of("id-1", 3, "d")).status == 204);
  check_problem(ask(post("?user=bob", naming("id-1"))), errc::not_found);
  check_problem(ask(post("?user=ada", naming("id-1", {}, "other"))), errc::not_found);
  check_problem(ask(post("?user=ada", naming("no/id"))), errc::bad_request);
  check_problem(ask(post("?user=ada", naming("id-1", R"(,"ephemeral":true)"))), errc::bad_request);
  const auto first = ask(post("?user=ada", naming("id-1", R"(,"key":"k")")));
  CHECK(first.status == 200);
  CHECK(ask(post("?user=ada", naming("id-1", R"(,"key":"k")"))).body == first.body);
  check_problem(ask(post("?user=ada", naming("id-1"))), errc::conflict);
  check_problem(ask(about("DELETE", "id-1")), errc::conflict);
  CHECK(ask(upload_of("abc")).status == 201);
  CHECK(ask(about("DELETE", "id-2")).status == 204);
  CHECK(ask(about("HEAD", "id-2")).status == 404);
  c.h.gate.host.authorize = [](const request& r, authorize_reply reply) {
    grant g;
    g.user = r.param("user");
    reply(std::move(g));
  };
  check_problem(ask(about("DELETE", "id-1")), errc::forbidden);
}

TEST_CASE("of two who write one upload the earlier is cut") {
  content_house c;
  client first(c.h), second(c.h);
  first.send(upload_of("abc", "Upload-Complete: ?0\r\n"));
  first.take();
  const std::string request = part_of("id-1", 3, "0123456789");
  first.send(request.substr(0, request.size() - 6));
  CHECK(c.store.all.at("id-1").bytes == "abc0123");
  auto a = second.ask(part_of("id-1", 7, "456"));
  CHECK(a.status == 204);
  CHECK(first.c->closed);
  CHECK(c.store.all.at("id-1").bytes == "abc0123456");
  CHECK(c.h.gate.uploads.empty());
}

TEST_CASE("the host sees what a publish names, and may refuse it") {
  content_house c;
  std::vector<std::string> seen;
  c.h.gate.host.on_publish_content = [&](session& s, std::string_view channel, const payload& p,
                                         const content_reference& r) {
    seen.push_back(std::string(s.user()) + ' ' + std::string(channel) + ' ' + std::string(p.bytes()) + ' ' + r.type +
                   ' ' + std::to_string(r.size));
    return r.size > 3 ? verdict::refuse(errc::forbidden, "too heavy") : verdict::accept();
  };
  client ada(c.h);
  ada.ask(upload_of("abcd"));
  ada.ask(upload_of("abc"));
  auto a = ada.ask(post("?user=ada", naming("id-1", R"(,"data":1)")));
  check_problem(a, errc::forbidden);
  CHECK(a.has("too heavy"));
  CHECK(ada.ask(post("?user=ada", naming("id-2"))).status == 200);
  CHECK(seen == lines{"ada chat 1 image/png 4", "ada chat null image/png 3"});
}

TEST_CASE("a host may send whoever fetches elsewhere") {
  content_house c;
  std::string url = "https://cdn.example/x?signed=1";
  c.h.gate.host.on_fetch = [&](const request& r, std::string_view channel, const message& m) {
    return r.param("user") == "bob" && channel == "chat" && m.offset == 1 ? url : std::string();
  };
  c.h.publish("chat", "1");
  client bob(c.h);
  const std::string epoch = c.store.read("chat", 0, {}).epoch;
  const std::string at = "/live/messages?channel=chat&epoch=" + epoch + "&offset=1&user=";
  auto a = bob.ask(get(at + "bob"));
  CHECK(a.status == 307);
  CHECK(a["location"] == url);
  CHECK(a["cache-control"] == "no-store");
  CHECK(bob.ask(get(at + "ada")).status == 200);
  url = "https://x\r\nSet-Cookie: a=b";
  check_problem(bob.ask(get(at + "bob")), errc::internal);
  c.h.gate.host.on_fetch = [](const request&, std::string_view, const message&) -> std::string { throw 1; };
  check_problem(bob.ask(get(at + "bob")), errc::internal);
}

TEST_CASE("a download takes no more memory than a block, however slow its client") {
  options o;
  o.stall_time = std::chrono::seconds(60);
  content_house c(o);
  std::string whole;
  for (int i = 0; whole.size() < 3'000'000; ++i) whole += std::to_string(i) + ' ';
  client ada(c.h), bob(c.h);
  CHECK(ada.ask(upload_of(whole)).status == 201);
  CHECK(ada.ask(post("?user=ada", naming("id-1"))).status == 200);
  const std::string epoch = c.store.read("chat", 0, {}).epoch;
  bob.narrow(1000);
  bob.send(get("/live/messages?channel=chat&epoch=" + epoch + "&offset=1&user=bob"));
  std::string got;
  std::size_t held = 0;
  for (int i = 0; i < 4000 && got.size() < whole.size(); ++i) {
    c.h.advance(50'000);  // a day
    bob.widen(10'000);
    got += bob.c->take();
    held = std::max(
        held, c.store.reads * detail::download_block - std::min(c.store.reads * detail::download_block, got.size()));
    REQUIRE_FALSE(bob.c->closed);
  }
  bob.widen();
  got += bob.c->take();
  CHECK(c.store.largest_read == detail::download_block);
  CHECK(held <= 2 * detail::download_block);
  CHECK(read_answer(got).body == whole);
  CHECK(
      bob.ask(get("/live/messages?channel=chat&epoch=" + epoch + "&offset=1&user=bob", "Range: bytes=0-1\r\n")).body ==
      "0 ");  // the connection goes on

  client slow(c.h);
  slow.narrow(100'000);
  slow.send(get("/live/messages?channel=chat&epoch=" + epoch + "&offset=1&user=bob"));
  c.h.advance(60'001);
  c.h.advance(20'000);
  CHECK(slow.c->closed);
}

TEST_CASE("a download whose content goes in the middle ends without its end") {
  content_house c;
  client ada(c.h), bob(c.h);
  ada.ask(upload_of(std::string(200'000, 'x')));
  ada.ask(post("?user=ada", naming("id-1")));
  const std::string epoch = c.store.read("chat", 0, {}).epoch;
  c.store.holding = true;
  bob.send(get("/live/messages?channel=chat&epoch=" + epoch + "&offset=1&user=bob"));
  c.answer(1);
  c.store.all.clear();
  c.answer();
  CHECK(bob.c->closed);
  CHECK(bob.c->take().size() < 200'000);
}

TEST_CASE("a payload over the inline limit is fetched, where the storage keeps content; a raw client gets it whole") {
  options o;
  o.inline_limit = 10;
  content_house c(o);
  house plain(o);
  client bob(c.h), raw(c.h), other(plain);
  bob.join("?channel=chat&user=bob");
  other.join("?channel=chat&user=bob");
  raw.join("?channel=chat&user=bob", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  for (auto json : {R"("12345678")", R"("123456789")"}) {
    c.h.publish("chat", json);
    plain.publish("chat", json);
  }
  auto heard = bob.hear();
  REQUIRE(heard.size() == 2);
  CHECK(heard[0].ends_with(R"("data":"12345678"})"));
  CHECK(heard[1].ends_with(R"("size":11,"content_type":"application/json"})"));
  CHECK(raw.hear() == lines{R"(text "12345678")", R"(text "123456789")"});
  CHECK(other.hear()[1].ends_with(R"("data":"123456789"})"));
}

TEST_CASE("a raw client is told 4410 of what it cannot be given") {
  content_house c;
  client ada(c.h), raw(c.h), position(c.h);
  raw.join("?channel=chat&user=bob", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  position.join("?channel=chat&user=bob&signal=1", "Sec-WebSocket-Protocol: hailwire.v1.raw\r\n");
  ada.ask(upload_of("abc"));
  ada.ask(post("?user=ada", naming("id-1")));
  CHECK(raw.hear() == lines{"close 4410 gap"});
  CHECK(position.hear() == lines{"text " + c.store.read("chat", 0, {}).epoch + ".1"});
}

TEST_CASE("a plain publish that is too large for a log becomes a content") {
  options o;
  o.max_payload = 1000;
  content_house c(o);
  client ada(c.h), bob(c.h);
  bob.join("?channel=chat&user=bob");
  const std::string body(5000, 'z');
  const std::string request = post("?channel=chat&user=ada", body, "image/png", "Idempotency-Key: k\r\n");
  auto a = ada.ask(request);
  CHECK(a.status == 201);
  CHECK(a.has(R"({"channel":"chat","epoch":")"));
  auto heard = bob.hear();
  REQUIRE(heard.size() == 1);
  CHECK(heard[0].ends_with(R"("size":5000,"content_type":"image/png"})"));
  CHECK(c.store.all.at("id-1").bytes == body);
  check_problem(client(c.h).ask(post("?channel=secret&user=ada", body, "image/png")), errc::forbidden);
  house plain(o);
  check_problem(client(plain).ask(request), errc::too_large);
}

TEST_CASE("where the storage keeps no content uploads are not implemented") {
  house h;
  client c(h);
  check_problem(c.ask(upload_of("")), errc::not_implemented);
  check_problem(c.ask(post("?user=ada", naming("abc"))), errc::not_implemented);
}

TEST_CASE("pages of listed origins may upload, and no others") {
  options o;
  o.allowed_origins = {"https://app.example"};
  content_house c(o);
  client page(c.h);
  auto a = page.ask("OPTIONS /live/content HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\n\r\n");
  CHECK(a.status == 204);
  CHECK(a["access-control-allow-methods"] == "POST, OPTIONS");
  CHECK(a["access-control-allow-headers"].find("Upload-Offset, Upload-Complete, Upload-Length") != std::string::npos);
  a = page.ask("OPTIONS /live/content/id-1 HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\n\r\n");
  CHECK(a["access-control-allow-methods"] == "HEAD, PATCH, DELETE, OPTIONS");
  a = page.ask(upload_of("abc", "Origin: https://app.example\r\n"));
  CHECK(a.status == 201);
  CHECK(a["access-control-expose-headers"].find("Location") != std::string::npos);
  CHECK(a["access-control-expose-headers"].find("Upload-Offset, Upload-Complete, Upload-Limit") != std::string::npos);
  for (const auto& request : {upload_of("abc", "Origin: null\r\n"), part_of("id-1", 3, "", "Origin: https://evil\r\n"),
                              about("DELETE", "id-1", "ada", "Origin: https://evil\r\n")})
    check_problem(client(c.h).ask(request), errc::forbidden);
}

TEST_CASE("an upload comes in chunks too, and behind an expectation") {
  content_house c;
  client ada(c.h);
  ada.pieces = 1;
  auto a = ada.ask(
      "POST /live/content?channel=chat&user=ada HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  CHECK(a.status == 201);
  CHECK(c.store.all.at("id-1").bytes == "abcde");
  CHECK(c.store.all.at("id-1").state.type == "application/octet-stream");
  ada.pieces = SIZE_MAX;
  ada.send(
      "POST /live/content?channel=chat&user=ada HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: "
      "100-continue\r\n\r\n");
  CHECK(ada.take() == "HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(ada.ask("xy").status == 201);
  CHECK(ada.ask(about("HEAD", "id-2")).status == 204);
}
