// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a server counts, for Prometheus and for health checks, written with {fmt} (9 or newer):
//
//     live.on_http([&](const hailwire::request& r) -> hailwire::result<hailwire::response> {
//       if (auto answer = hailwire::serve_metrics(live, r)) return std::move(*answer);
//       return my_page(r);
//     });

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/error.hpp"
#include "hailwire/hooks.hpp"
#include "hailwire/server.hpp"
#include "hailwire/stats.hpp"

namespace hailwire {

namespace detail {

class prometheus_page {
 public:
  void head(std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(std::back_inserter(text), "# HELP hailwire_{0} {2}\n# TYPE hailwire_{0} {1}\n", name, type, help);
  }
  template <class Value>
  void sample(std::string_view name, Value value, std::string_view label = {}, std::string_view of = {}) {
    fmt::format_to(std::back_inserter(text), "hailwire_{}", name);
    if (!label.empty()) fmt::format_to(std::back_inserter(text), "{{{}=\"{}\"}}", label, of);
    fmt::format_to(std::back_inserter(text), " {}\n", value);
  }
  void counter(std::string_view name, std::uint64_t value, std::string_view help) {
    head(name, "counter", help);
    sample(name, value);
  }
  void gauge(std::string_view name, std::uint64_t value, std::string_view help) {
    head(name, "gauge", help);
    sample(name, value);
  }
  void histogram(const std::string& name, const duration_histogram& h, std::string_view help) {
    head(name, "histogram", help);
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < h.bounds.size(); ++i)
      sample(name + "_bucket", below += h.counts[i], "le", fmt::format("{}", h.bounds[i]));
    sample(name + "_bucket", h.count(), "le", "+Inf");
    sample(name + "_sum", static_cast<double>(h.nanoseconds) / 1e9);
    sample(name + "_count", h.count());
  }
  std::string text;
};

}  // namespace detail

/// The page that Prometheus scrapes (its text exposition format 0.0.4): names and units by its conventions, every
/// series there from the first scrape on. Labels are transports, codes and bounds, never a channel or a user.
inline std::string prometheus_text(const server_stats& s) {
  detail::prometheus_page p;
  p.counter("connections_accepted_total", s.accepted, "Connections accepted.");
  p.gauge("connections", s.connections, "Connections open, with a session or without.");
  p.head("sessions", "gauge", "Sessions open, by transport; of polls those that wait.");
  for (const auto& t : s.transports) p.sample("sessions", t.open, "transport", t.name);
  p.head("sessions_opened_total", "counter", "Sessions opened, by transport; of polls each request.");
  for (const auto& t : s.transports) p.sample("sessions_opened_total", t.opened, "transport", t.name);
  p.counter("messages_published_total", s.published, "Messages stored.");
  p.counter("publish_failures_total", s.failed, "Publishes that were allowed and not stored.");
  p.counter("deliveries_total", s.deliveries, "Messages handed to followers, each message once for each follower.");
  p.counter("received_bytes_total", s.bytes_in, "Bytes received from clients, without TLS.");
  p.counter("sent_bytes_total", s.bytes_out, "Bytes sent to clients, without TLS.");
  p.counter("gaps_total", s.gaps, "Gaps told to followers: messages that they could not be given any more.");
  p.head("refusals_total", "counter", "Requests and commands answered with an error, by its code.");
  for (std::size_t i = 1; i < s.refused.size(); ++i)
    p.sample("refusals_total", s.refused[i], "code", code_name(static_cast<errc>(i)));
  p.gauge("channels", s.channels, "Channels of which something is in memory.");
  p.gauge("pending_operations", s.pending, "Publishes and reads that wait for the storage or the hub.");
  p.gauge("slow_subscriptions", s.slow, "Subscriptions that are behind their channel.");
  p.gauge("slowest_lag_messages", s.lag, "How many messages the slowest subscription is behind.");
  p.gauge("held_bytes", s.memory, "Bytes held for sessions, channels and who is behind.");
  p.gauge("draining", s.draining, "1 while the server sends its clients away.");
  p.histogram("turn_duration_seconds", s.turn,
              "The end of a loop's turn, in which messages go out; 1 of 64 is measured.");
  p.histogram("storage_append_duration_seconds", s.append, "From asking the storage to its answer; 1 of 64.");
  p.histogram("storage_read_duration_seconds", s.reading, "From asking the storage to its answer; 1 of 64.");
  return p.text;
}

/// Whether a request comes from this machine itself: by a loopback address or a Unix socket, and through no proxy that
/// says so. A proxy on this machine that adds no header of its own and is not among `options::trusted_proxies` looks
/// like this machine: have it keep `/metrics` to itself, or give a predicate.
inline bool from_this_machine(const request& r) {
  for (std::string_view field : {"Forwarded", "X-Forwarded-For", "Via", "X-Real-IP"})
    if (r.header(field).data()) return false;
  const std::string_view from = r.address();
  return from == "unix" || from == "::1" || from.starts_with("127.") || from.starts_with("::ffff:127.");
}

/// Answers `/healthz` (200 while the server runs), `/readyz` (200, or 503 from the beginning of a drain or a stop on)
/// and
/// `/metrics`, for GET and HEAD; nothing for other paths, which are the host's. `/metrics` is for those that `may_read`
/// lets in, which is this machine if it is empty; others are told `forbidden`. To be called where hooks run. Of a
/// `threaded_server` each thread knows its own clients only, so there a host answers `/metrics` with
/// `prometheus_text` of what `threaded_server::stats` tells.
inline std::optional<result<response>> serve_metrics(const basic_server& s, const request& r,
                                                     const std::function<bool(const request&)>& may_read = {}) {
  const std::string_view path = r.path();
  const bool health = path == "/healthz", readiness = path == "/readyz";
  if (!health && !readiness && path != "/metrics") return {};
  if (r.method() != "GET" && r.method() != "HEAD") return errc::method_not_allowed;
  response out;
  out.headers = {{"Cache-Control", "no-store"}};
  if (health || readiness) {
    const bool fine = health || s.ready();
    out.status = fine ? 200 : 503;
    out.body = fine ? "ok\n" : "draining\n";
  } else {
    if (!(may_read ? may_read(r) : from_this_machine(r))) return errc::forbidden;
    out.content_type = "text/plain; version=0.0.4; charset=utf-8";
    out.body = prometheus_text(s.stats());
  }
  return out;
}

}  // namespace hailwire
