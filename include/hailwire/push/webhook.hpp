// SPDX-License-Identifier: BSL-1.0
#pragma once

// Wakes devices through a service of the host's own: a signed POST to its URL. Opt in by including this header and
// linking `hailwire::push`, which needs libcurl and OpenSSL 3.
//
//     hailwire::webhook wake(io, {.url = "https://push.internal.example/wake", .secrets = {secret}});
//
// The body is {"user":"ada","device":"phone","token":"…","channel":"@ada","epoch":"…","offset":42,"count":3}. It is
// signed as Standard Webhooks 1.0 says, so that its libraries verify it: `webhook-id` (the same for every attempt),
// `webhook-timestamp`, and `webhook-signature`, a list of `v1,` and the base64 of HMAC-SHA256 over
// `id.timestamp.body`. 2xx is delivered, 410 forgets the device's token, 429 and 5xx are tried again.

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/push/crypto.hpp"
#include "hailwire/detail/push/members.hpp"
#include "hailwire/detail/push/sender.hpp"
#include "hailwire/proto/url.hpp"

namespace hailwire {

/// What a `webhook` is told.
struct webhook_options {
  /// Where notices are posted; http or https. It is the host's: no client can change a byte of it.
  std::string url;
  /// One to eight, each of 24 to 64 bytes (Standard Webhooks). All of them sign, so that one can be replaced.
  std::vector<std::string> secrets;
  push_limits limits = {};
  push_network network = {};
};

namespace detail {

/// The rules of the host's own service.
class webhook_provider final : public push_provider {
 public:
  explicit webhook_provider(webhook_options o) : o_(std::move(o)) {
    auto wrong = [](const char* why) { throw std::invalid_argument(std::string("hailwire: webhook_options: ") + why); };
    if (!proto::parse_url(o_.url)) wrong("the URL cannot be read");
    if (o_.secrets.empty() || o_.secrets.size() > 8) wrong("one to eight secrets are needed");
    for (const std::string& s : o_.secrets)
      if (s.size() < 24 || s.size() > 64) wrong("a secret has 24 to 64 bytes");
  }

  static result<push_token> accept(std::string_view object) {
    auto token = json_members(object).text("token");
    if (!token || token->empty() || token->size() > 1024 || !proto::printable_utf8(*token))
      return {errc::bad_request, "a webhook's token is a word of 1 to 1,024 bytes"};
    return push_token{std::move(*token)};
  }

  result<push_request> write(const push_job& job, std::int64_t now) override {
    push_request r{o_.url};
    proto::json::append_quoted(r.body = "{\"user\":", job.to.user);
    proto::json::append_quoted(r.body += ",\"device\":", job.to.device);
    proto::json::append_quoted(r.body += ",\"token\":", job.to.token);
    r.body += "," + job.what.members() + "}";
    const std::string seconds = std::to_string(now / 1000), text = job.id + "." + seconds + "." + r.body;
    std::string signatures = "webhook-signature:";
    for (const std::string& s : o_.secrets) proto::append_base64(signatures += " v1,", hmac_sha256(s, text));
    r.headers = {"Content-Type: application/json", "webhook-id: " + job.id, "webhook-timestamp: " + seconds,
                 std::move(signatures)};
    return r;
  }
  push_verdict judge(const push_job&, const push_response& r, std::int64_t) override {
    if (r.status == 410) return {push_verdict::what::gone, "status 410"};
    return judge_status(r);
  }

 private:
  webhook_options o_;
};

}  // namespace detail
}  // namespace hailwire

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// See the top of this file, and `http_notifier`.
class webhook : public http_notifier {
 public:
  /// `where` is an execution context or an executor. Throws `std::invalid_argument` for a URL that cannot be read, and
  /// for secrets that are none.
  template <class Context>
  webhook(Context&& where, webhook_options o) : webhook(where, std::move(o.limits), std::move(o.network), o) {}

  static constexpr std::string_view service() noexcept { return "webhook"; }
  static result<push_token> accept(std::string_view object, const push_token& /*kept*/ = {}) {
    return detail::webhook_provider::accept(object);
  }

 private:
  template <class Context>
  webhook(Context& where, push_limits l, push_network n, webhook_options& o)
      : http_notifier(where, std::make_unique<detail::webhook_provider>(std::move(o)), l, std::move(n)) {}
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
