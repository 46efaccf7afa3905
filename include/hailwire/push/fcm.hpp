// SPDX-License-Identifier: BSL-1.0
#pragma once

// Wakes Android devices, and others that use Firebase, through Firebase Cloud Messaging's HTTP v1. Opt in by including
// this header and linking `hailwire::push`, which needs libcurl and OpenSSL 3.
//
//     hailwire::fcm google(io, {.service_account = json_text_of_the_key_file});
//
// Fields and answers as Google documented them in November 2026 (FCM's reference of `projects.messages` and
// `ErrorCode`; OAuth 2.0 for server to server applications).
//
// A device is named by its Firebase Installation ID (`"fid"`) or by a registration token (`"token"`), which FCM has
// deprecated and still takes. A notice is a data message of high priority, whose values are texts:
// {"channel":"@ada","epoch":"…","offset":"42","count":"3"}; all notices have one `collapse_key`, so that a device that
// was off gets the last. An Apple device behind FCM gets an alert with `loc-key`, for background pushes are throttled
// there.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "hailwire/detail/push/crypto.hpp"
#include "hailwire/detail/push/members.hpp"
#include "hailwire/detail/push/sender.hpp"
#include "hailwire/proto/url.hpp"

namespace hailwire {

/// What `fcm` is told.
struct fcm_options {
  /// The JSON text of a service account's key file: `project_id`, `client_email`, `private_key`, `private_key_id`,
  /// `token_uri`.
  std::string service_account;
  /// How long FCM keeps a notice for a device that is off; FCM's most is four weeks.
  std::chrono::seconds time_to_live{24 * 3600};
  /// The key of the alert's text in an Apple app's `Localizable.strings`.
  std::string loc_key = "NEW_MESSAGE";
  std::string url = "https://fcm.googleapis.com";
  push_limits limits = {};
  push_network network = {};
};

namespace detail {

/// The rules of FCM.
class fcm_provider final : public push_provider {
 public:
  explicit fcm_provider(fcm_options o) : fcm_provider(std::move(o), json_members(o.service_account)) {}

  /// What is kept of a device: `fid:` or `token:` and the word.
  static result<push_token> accept(std::string_view object) {
    const json_members all(object);
    auto fid = all.text("fid"), token = all.text("token");
    if (fid.has_value() == token.has_value()) return {errc::bad_request, "fcm wants a fid or a token"};
    const std::string& word = fid ? *fid : *token;
    if (word.empty() || word.size() > 4000) return {errc::bad_request, "a fid or token has 1 to 4,000 letters"};
    for (char c : word)
      if (c <= ' ' || c > '~') return {errc::bad_request, "a fid or token is visible ASCII"};
    return push_token{(fid ? "fid:" : "token:") + word};
  }

  // RFC 7523, section 2.1: a token that the account's key has signed is exchanged for one that the API takes.
  std::optional<push_request> credential(std::int64_t now) override {
    if (!token_.empty() && now < good_until_) return {};
    const std::int64_t seconds = now / 1000;
    std::string claims = "{\"iss\":";
    proto::json::append_quoted(claims, email_);
    claims += ",\"scope\":\"https://www.googleapis.com/auth/firebase.messaging\",\"aud\":";
    proto::json::append_quoted(claims, token_uri_);
    claims += ",\"iat\":" + std::to_string(seconds) + ",\"exp\":" + std::to_string(seconds + 3600) + "}";
    std::string header = "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":";
    proto::json::append_quoted(header, key_id_);
    push_request r{token_uri_, {"Content-Type: application/x-www-form-urlencoded"}};
    r.body = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=" +
             signed_token(key_, header + "}", claims);
    return r;
  }
  std::string take_credential(const push_response& r, std::int64_t now) override {
    if (r.status == 0) return r.error;
    const json_members all(r.body);
    if (r.status != 200) return "status " + std::to_string(r.status) + " " + all.text("error").value_or("");
    auto token = all.text("access_token");
    auto* life = all.find("expires_in");
    auto seconds = life ? proto::json::to_uint(*life, 7 * 24 * 3600) : std::nullopt;
    if (!token || token->empty() || !seconds) return "an answer without a token";
    for (char c : *token)
      if (c <= ' ' || c > '~') return "a token that no header can hold";
    token_ = std::move(*token);
    // A new one in time for what is on its way when the old one ends.
    good_until_ = now + static_cast<std::int64_t>(*seconds) * 1000 -
                  std::min<std::int64_t>(5 * 60'000, static_cast<std::int64_t>(*seconds) * 500);
    return {};
  }

  result<push_request> write(const push_job& job, std::int64_t now) override {
    const std::size_t colon = job.to.token.find(':');
    if (colon == std::string::npos) return {errc::bad_request, "a token that fcm::accept has not given"};
    const std::int64_t left = std::max<std::int64_t>(o_.time_to_live.count() - (now - job.began) / 1000, 0);
    push_request r{o_.url + "/v1/projects/" + project_ + "/messages:send"};
    std::string& b = r.body;
    b = "{\"message\":{\"" + job.to.token.substr(0, colon) + "\":";
    proto::json::append_quoted(b, std::string_view(job.to.token).substr(colon + 1));
    proto::json::append_quoted(b += ",\"data\":{\"channel\":", job.what.channel);
    proto::json::append_quoted(b += ",\"epoch\":", job.what.epoch);
    b +=
        ",\"offset\":\"" + std::to_string(job.what.offset) + "\",\"count\":\"" + std::to_string(job.what.count) + "\"}";
    b += ",\"android\":{\"collapse_key\":\"hailwire\",\"priority\":\"HIGH\",\"ttl\":\"" + std::to_string(left) + "s\"}";
    b += ",\"apns\":{\"headers\":{\"apns-priority\":\"10\",\"apns-push-type\":\"alert\",\"apns-collapse-id\":"
         "\"hailwire\","
         "\"apns-expiration\":\"" +
         std::to_string(job.began / 1000 + o_.time_to_live.count()) +
         "\"},\"payload\":{\"aps\":{\"alert\":{\"loc-key\":";
    proto::json::append_quoted(b, o_.loc_key);
    b += "},\"mutable-content\":1}}}}}";
    r.headers = {"Authorization: Bearer " + token_, "Content-Type: application/json"};
    return r;
  }

  push_verdict judge(const push_job& job, const push_response& r, std::int64_t) override {
    using enum push_verdict::what;
    push_verdict v = judge_status(r);
    if (r.status == 0 || v.next == delivered) return v;
    // {"error":{"code":404,"status":"NOT_FOUND","details":[{"@type":"…FcmError","errorCode":"UNREGISTERED"}]}}
    const json_members error(json_members(r.body).inner("error"));
    std::string code = error.text("status").value_or("");
    vector<proto::json::value> details;
    if (!proto::json::read_array(error.inner("details"), details, {.depth = 16, .members = 64}))
      for (const auto& d : details)
        if (auto c = json_members(d.text).text("errorCode")) code = *c;
    if (!code.empty()) v.reason = "status " + std::to_string(r.status) + " " + code;
    // INVALID_ARGUMENT may be any fault of the request, so it forgets nothing.
    if (code == "UNREGISTERED") v.next = gone;
    // The quota is the project's, not the device's.
    if (r.status == 429) v.next = wait;
    if (r.status == 401 && code != "THIRD_PARTY_AUTH_ERROR") {
      token_.clear();
      v.next = job.attempts < 3 ? renew : failed;
    }
    return v;
  }

 private:
  fcm_provider(fcm_options&& o, const json_members& account)
      : o_(std::move(o)),
        key_(rsa_key::read(account.text("private_key").value_or(""))),
        key_id_(account.text("private_key_id").value_or("")),
        email_(account.text("client_email").value_or("")),
        project_(account.text("project_id").value_or("")),
        token_uri_(account.text("token_uri").value_or("")) {
    auto wrong = [](const char* why) { throw std::invalid_argument(std::string("hailwire: fcm_options: ") + why); };
    if (email_.empty() || project_.empty()) wrong("the service account has no client_email or no project_id");
    for (char c : project_)
      if (!proto::is_token_letter(c) && c != '.' && c != ':') wrong("the project_id is not one");
    if (!proto::parse_url(token_uri_) || !proto::parse_url(o_.url)) wrong("a URL cannot be read");
  }

  fcm_options o_;
  rsa_key key_;
  std::string key_id_, email_, project_, token_uri_;
  std::string token_;
  std::int64_t good_until_ = 0;
};

}  // namespace detail
}  // namespace hailwire

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// See the top of this file, and `http_notifier`. `UNREGISTERED` forgets a device's token; nothing else does.
class fcm : public http_notifier {
 public:
  /// `where` is an execution context or an executor. Throws `std::invalid_argument` for a service account that cannot
  /// be used.
  template <class Context>
  fcm(Context&& where, fcm_options o) : fcm(where, o.limits, std::move(o.network), o) {}

  static constexpr std::string_view service() noexcept { return "fcm"; }
  static result<push_token> accept(std::string_view object, const push_token& /*kept*/ = {}) {
    return detail::fcm_provider::accept(object);
  }

 private:
  template <class Context>
  fcm(Context& where, push_limits l, push_network n, fcm_options& o)
      : http_notifier(where, std::make_unique<detail::fcm_provider>(std::move(o)), l, std::move(n)) {}
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
