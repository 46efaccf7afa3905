// SPDX-License-Identifier: BSL-1.0
#pragma once

// Wakes Apple devices through APNs. Opt in by including this header and linking `hailwire::push`, which needs libcurl
// (with HTTP/2) and OpenSSL 3.
//
//     hailwire::apns apple(io, {.team = "A1B2C3D4E5", .key_id = "F6G7H8I9J0", .key = p8_text, .topic =
//     "org.example.chat"});
//
// Fields and answers as Apple documented them in November 2026 ("Sending notification requests to APNs", "Establishing
// a token-based connection to APNs", "Handling error responses from APNs").
//
// A notice is an alert with `loc-key` (the app's own words, in the user's language) and `mutable-content` (a
// notification service extension may fetch the messages and show them): background pushes are throttled by the system,
// alerts are not. `apns-collapse-id` is the same for all, so that a device that was off shows one. The payload is
// {"aps":{"alert":{"loc-key":"…"},"mutable-content":1},"channel":"@ada","epoch":"…","offset":42,"count":3}.

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/push/crypto.hpp"
#include "hailwire/detail/push/members.hpp"
#include "hailwire/detail/push/sender.hpp"
#include "hailwire/proto/url.hpp"

namespace hailwire {

/// What `apns` is told.
struct apns_options {
  std::string team;    ///< the ten letters of the developer team
  std::string key_id;  ///< the ten letters of the key
  std::string key;     ///< the key: PEM text, as the `.p8` file has it
  std::string topic;   ///< the app's bundle id
  /// The key of the alert's text in the app's `Localizable.strings`.
  std::string loc_key = "NEW_MESSAGE";
  /// How long APNs keeps a notice for a device that is off.
  std::chrono::seconds time_to_live{24 * 3600};
  /// Where devices of the App Store are reached, and those of developers (`"environment":"sandbox"`).
  std::string url = "https://api.push.apple.com", sandbox_url = "https://api.sandbox.push.apple.com";
  push_limits limits = {};
  push_network network = {};
};

namespace detail {

/// The rules of APNs.
class apns_provider final : public push_provider {
 public:
  /// A provider token may be made anew at most once in 20 minutes, and is refused when it is an hour old.
  static constexpr std::int64_t renew_after = 40 * 60'000, least_age = 20 * 60'000;
  /// The largest payload of an alert.
  static constexpr std::size_t max_payload = 4096;

  explicit apns_provider(apns_options o) : o_(std::move(o)), key_(p256_key::read(o_.key)) {
    auto wrong = [](const char* why) { throw std::invalid_argument(std::string("hailwire: apns_options: ") + why); };
    if (o_.team.empty() || o_.key_id.empty() || o_.topic.empty()) wrong("team, key_id and topic are needed");
    for (std::string_view word : {std::string_view(o_.team), std::string_view(o_.key_id), std::string_view(o_.topic)})
      for (char c : word)
        if (!proto::is_token_letter(c) && c != '.') wrong("team, key_id and topic are letters, digits, '-' and '.'");
    if (!proto::parse_url(o_.url) || !proto::parse_url(o_.sandbox_url)) wrong("a URL cannot be read");
  }

  /// What is kept of a device: its token in lower case, behind `sandbox:` where it is a developer's.
  static result<push_token> accept(std::string_view object) {
    const json_members all(object);
    auto token = all.text("token");
    // Its length is Apple's to choose and has grown before; the bound is ours.
    if (!token || token->empty() || token->size() > 400 || token->size() % 2)
      return {errc::bad_request, "an APNs token is an even number of hexadecimal digits"};
    for (char& c : *token) {
      c = proto::to_lower(c);
      if (proto::hex_digit(c) < 0) return {errc::bad_request, "an APNs token is written in hexadecimal digits"};
    }
    auto* environment = all.find("environment");
    if (!environment || environment->text == "\"production\"") return push_token{std::move(*token)};
    if (environment->text != "\"sandbox\"") return {errc::bad_request, "environment is sandbox or production"};
    return push_token{"sandbox:" + *token};
  }

  result<push_request> write(const push_job& job, std::int64_t now) override {
    std::string_view token = job.to.token;
    const bool sandbox = token.starts_with(sandboxed);
    if (sandbox) token.remove_prefix(sandboxed.size());
    push_request r{(sandbox ? o_.sandbox_url : o_.url) + "/3/device/" + std::string(token)};
    proto::json::append_quoted(r.body = "{\"aps\":{\"alert\":{\"loc-key\":", o_.loc_key);
    r.body += "},\"mutable-content\":1}," + job.what.members() + "}";
    if (r.body.size() > max_payload) return {errc::too_large, "the notice is larger than APNs takes"};
    if (token_.empty() || now - made_ >= renew_after || now < made_) make_token(now);
    r.headers = {"authorization: bearer " + token_, "apns-topic: " + o_.topic, "apns-push-type: alert",
                 "apns-priority: 10",
                 // Absolute, so that an attempt an hour later does not live an hour longer.
                 "apns-expiration: " + std::to_string(job.began / 1000 + o_.time_to_live.count()),
                 "apns-collapse-id: hailwire", "content-type: application/json"};
    return r;
  }

  push_verdict judge(const push_job& job, const push_response& r, std::int64_t now) override {
    using enum push_verdict::what;
    if (r.status == 200 || r.status == 0) return judge_status(r);
    const json_members all(r.body);
    const std::string reason = all.text("reason").value_or("status " + std::to_string(r.status));
    if (r.status == 410) {
      // When APNs last saw it fail. One that the app has registered since then is another life of it.
      auto* at = all.find("timestamp");
      auto seen = at ? proto::json::to_uint(*at, INT64_MAX) : std::nullopt;
      if (seen && static_cast<std::int64_t>(*seen) > job.to.registered) return {gone, reason};
      return {failed, reason + ", but the device was registered later"};
    }
    if (reason == "ExpiredProviderToken") {
      if (now - made_ < least_age) return {wait, reason + " of a token that is new: is the clock right?"};
      token_.clear();
      return {renew, reason};
    }
    if (reason == "TooManyProviderTokenUpdates") return {wait, reason};
    // BadDeviceToken is what a good token of the other environment gets as well: it says nothing of the device.
    push_verdict v = judge_status(r);
    v.reason = reason;
    return v;
  }

 private:
  static constexpr std::string_view sandboxed = "sandbox:";

  void make_token(std::int64_t now) {
    made_ = now;
    std::string header = "{\"alg\":\"ES256\",\"kid\":\"" + o_.key_id + "\"}";
    std::string claims = "{\"iss\":\"" + o_.team + "\",\"iat\":" + std::to_string(now / 1000) + "}";
    token_ = signed_token(key_, header, claims);
  }

  apns_options o_;
  p256_key key_;
  std::string token_;
  std::int64_t made_ = 0;
};

}  // namespace detail
}  // namespace hailwire

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// See the top of this file, and `http_notifier`. A 410 forgets a token if it is newer than the token's registration;
/// `BadDeviceToken` forgets nothing.
class apns : public http_notifier {
 public:
  /// `where` is an execution context or an executor. Throws `std::invalid_argument` for a key that cannot be used and
  /// for what is missing.
  template <class Context>
  apns(Context&& where, apns_options o) : apns(where, o.limits, std::move(o.network), o) {}

  static constexpr std::string_view service() noexcept { return "apns"; }
  static result<push_token> accept(std::string_view object, const push_token& /*kept*/ = {}) {
    return detail::apns_provider::accept(object);
  }

 private:
  template <class Context>
  apns(Context& where, push_limits l, push_network n, apns_options& o)
      : http_notifier(where, std::make_unique<detail::apns_provider>(std::move(o)), l, std::move(n)) {}
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
