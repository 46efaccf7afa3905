// SPDX-License-Identifier: BSL-1.0
#include "hailwire/metrics.hpp"

#include <asio/io_context.hpp>

#include <string>
#include <thread>

#include "catch.hpp"
#include "hailwire/hailwire.hpp"
#include "socket_client.hpp"

using namespace hailwire;
using namespace hailwire::test;

namespace {

std::string line_of(const std::string& page, const std::string& name) {
  const auto at = page.find('\n' + name + ' ');
  return at == page.npos ? "<no " + name + '>' : page.substr(at + 1, page.find('\n', at + 1) - at - 1);
}

struct rig {
  explicit rig(std::function<bool(const request&)> may_read = {}) {
    live.authorize([](const request&) { return grant{.follow = channel_set::all(), .publish = channel_set::all()}; });
    live.on_http([this, may_read](const request& r) -> result<response> {
      if (auto answer = serve_metrics(live, r, may_read)) return std::move(*answer);
      return response{.body = "the host's"};
    });
    port = live.listen("127.0.0.1", 0);
    context = std::thread([this] { live.run(); });
  }
  ~rig() {
    live.quit();
    context.join();
  }
  std::string ask(const std::string& path, const std::string& more = {}, const std::string& method = "GET") {
    return wire(port).send(method + ' ' + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + more + "\r\n").all();
  }
  server<websocket, sse> live{own_thread};
  std::uint16_t port = 0;
  std::thread context;
};

}  // namespace

TEST_CASE("the page of metrics has a line for each number, also before anything has happened") {
  server_stats s;
  s.transports = {{"sse", 7, 2}};
  s.published = 3;
  s.refused[static_cast<std::size_t>(errc::forbidden)] = 4;
  s.append.add(2'000'000);
  s.append.add(20'000'000'000);
  const auto page = prometheus_text(s);
  CHECK(line_of(page, "hailwire_messages_published_total") == "hailwire_messages_published_total 3");
  CHECK(line_of(page, "hailwire_sessions{transport=\"sse\"}") == "hailwire_sessions{transport=\"sse\"} 2");
  CHECK(line_of(page, "hailwire_sessions_opened_total{transport=\"sse\"}") ==
        "hailwire_sessions_opened_total{transport=\"sse\"} 7");
  CHECK(line_of(page, "hailwire_refusals_total{code=\"forbidden\"}") ==
        "hailwire_refusals_total{code=\"forbidden\"} 4");
  CHECK(line_of(page, "hailwire_refusals_total{code=\"http_version\"}") ==
        "hailwire_refusals_total{code=\"http_version\"} 0");
  const std::string append = "hailwire_storage_append_duration_seconds";
  CHECK(line_of(page, append + "_bucket{le=\"0.001\"}") == append + "_bucket{le=\"0.001\"} 0");
  CHECK(line_of(page, append + "_bucket{le=\"0.003\"}") == append + "_bucket{le=\"0.003\"} 1");
  CHECK(line_of(page, append + "_bucket{le=\"10\"}") == append + "_bucket{le=\"10\"} 1");
  CHECK(line_of(page, append + "_bucket{le=\"+Inf\"}") == append + "_bucket{le=\"+Inf\"} 2");
  CHECK(line_of(page, append + "_sum") == append + "_sum 20.002");
  CHECK(line_of(page, append + "_count") == append + "_count 2");
  CHECK(line_of(page, "hailwire_draining") == "hailwire_draining 0");
}

TEST_CASE("health, readiness and metrics are answered, and everything else is the host's") {
  rig r;
  wire follower(r.port);
  follower.send(event_stream("?channel=chat")).until("\n\n\r\n");
  CHECK(contains(r.ask("/healthz"), " 200 "));
  CHECK(contains(r.ask("/readyz"), "\r\n\r\nok\n"));
  const auto page = r.ask("/metrics");
  CHECK(contains(page, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  CHECK(line_of(page, "hailwire_sessions{transport=\"sse\"}") == "hailwire_sessions{transport=\"sse\"} 1");
  CHECK(contains(r.ask("/"), "the host's"));
  CHECK(contains(r.ask("/metrics", {}, "POST"), " 405 "));
  CHECK(contains(r.ask("/healthz", {}, "HEAD"), " 200 "));
  r.live.post([&] { r.live.drain(std::chrono::seconds(20), {.closes_per_second = 1}); });
  follower.all();
}

TEST_CASE("a server that drains is healthy and not ready") {
  rig r;
  wire a(r.port), b(r.port);
  for (auto* f : {&a, &b}) f->send(event_stream("?channel=chat")).until("\n\n\r\n");
  r.live.post([&] { r.live.drain(std::chrono::seconds(20), {.closes_per_second = 1}); });
  a.all();
  CHECK(contains(r.ask("/healthz"), " 200 "));
  const auto told = r.ask("/readyz");
  CHECK(contains(told, " 503 "));
  CHECK(contains(told, "draining\n"));
  CHECK(line_of(r.ask("/metrics"), "hailwire_draining") == "hailwire_draining 1");
}

TEST_CASE("metrics are for this machine, and not for who comes through it") {
  rig r;
  CHECK(contains(r.ask("/metrics"), " 200 "));
  for (const char* field : {"X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "Via: 1.1 proxy", "X-Real-IP: x"})
    CHECK(contains(r.ask("/metrics", std::string(field) + "\r\n"), " 403 "));
  CHECK(contains(r.ask("/healthz", "Via: 1.1 proxy\r\n"), " 200 "));
}

TEST_CASE("a host's predicate decides in place of the address") {
  rig r([](const request& q) { return q.header("Authorization") == "Bearer scrape"; });
  CHECK(contains(r.ask("/metrics"), " 403 "));
  CHECK(contains(r.ask("/metrics", "Authorization: Bearer scrape\r\nVia: 1.1 proxy\r\n"), " 200 "));
}
