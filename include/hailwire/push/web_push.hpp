// SPDX-License-Identifier: BSL-1.0
#pragma once

// Wakes browsers through Web Push (RFC 8030, encrypted as RFC 8291 says, identified as RFC 8292 says). Opt in by
// including this header and linking `hailwire::push`, which needs libcurl and OpenSSL 3.
//
//     hailwire::web_push web(io, {.keys = {vapid_private_key}, .subject = "mailto:ops@example.org",
//                                 .title = "New message", .navigate = "https://chat.example.org/"});
//     // the page: registration.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: web.public_key()})
//
// What is encrypted is a Declarative Web Push message (W3C Push API, working draft of September 2025), which a browser
// that knows it shows even without a service worker; `mutable` has the service worker asked first where there is one,
// and where the browser does not know it, the service worker gets the text as it always did:
// {"web_push":8030,"notification":{"title":"…","navigate":"…","tag":"hailwire","data":{"channel":"@ada","epoch":"…",
// "offset":42,"count":3}},"mutable":true}.
//
// A subscription names a URL, and a client must not make the server call a URL of its choice: an endpoint is https on
// the standard port of a push service that the host lists, every address that it leads to is public (asked of the very
// address that is connected to, so no name can change in between), and no redirect is followed.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/net/system.hpp"
#include "hailwire/detail/push/crypto.hpp"
#include "hailwire/detail/push/members.hpp"
#include "hailwire/detail/push/sender.hpp"
#include "hailwire/proto/url.hpp"

namespace hailwire {

/// What `web_push` is told.
struct web_push_options {
  /// One to eight VAPID keys: PEM text, or base64url of the secret number, as Web Push tools print it. The first is for
  /// new subscriptions; each subscription is served with the one that it was made for, which is kept with it.
  std::vector<std::string> keys;
  /// Whom a push service may write to: `mailto:…` or `https:…` (RFC 8292, section 2.1).
  std::string subject;
  /// What the browser shows: the notification's title, and the https URL that it opens.
  std::string title, navigate;
  /// How long the push service keeps a notice for a browser that is off. RFC 8030, section 5.2, wants it said always.
  std::chrono::seconds time_to_live{24 * 3600};
  /// The push services by host name; `*.` stands for one or more labels. These are the browsers' own.
  std::vector<std::string> services = {"fcm.googleapis.com", "*.push.services.mozilla.com", "*.push.apple.com",
                                       "*.notify.windows.com"};
  /// Push services of the host's own, by host name. They may have any address and port.
  std::vector<std::string> own_services = {};
  push_limits limits = {};
  push_network network = {};
};

namespace detail {

/// The rules of Web Push. `accept` and the rest may run on different threads: what they share never changes.
class web_push_provider final : public push_provider {
 public:
  /// Precedent: half of the longest that RFC 8292, section 2, allows; made anew when half of it is over.
  static constexpr std::int64_t token_life = 12 * 3600;

  explicit web_push_provider(web_push_options o) : o_(std::move(o)) {
    auto wrong = [](const char* why) {
      throw std::invalid_argument(std::string("hailwire: web_push_options: ") + why);
    };
    if (o_.keys.empty() || o_.keys.size() > 8) wrong("one to eight keys are needed");
    for (const std::string& k : o_.keys) {
      keys_.push_back(p256_key::read(k));
      points_.push_back(base64url(keys_.back().point()));
    }
    if (!o_.subject.starts_with("mailto:") && !o_.subject.starts_with("https:"))
      wrong("the subject is a mailto: or an https: URI");
    auto to = proto::parse_url(o_.navigate);
    if (!to || !to->secure) wrong("navigate is an https URL");
    if (o_.title.empty() || !proto::valid_utf8(o_.title) || o_.title.size() > 256)
      wrong("the title has 1 to 256 bytes");
    o_.time_to_live = std::max(o_.time_to_live, std::chrono::seconds(0));
  }

  const std::string& public_key() const noexcept { return points_.front(); }

  /// What is kept of a device: its endpoint, and {"p256dh":"…","auth":"…","key":"…"}, the last being the public VAPID
  /// key. A subscription that is kept already stays with its key: it was made for that one.
  result<push_token> accept(std::string_view object, const push_token& kept = {}) const {
    const json_members subscription(json_members(object).inner("token"));
    const json_members keys(subscription.inner("keys"));
    auto endpoint = subscription.text("endpoint"), p256dh = keys.text("p256dh"), auth = keys.text("auth");
    if (!endpoint || !p256dh || !auth)
      return {errc::bad_request, "the token of web is a PushSubscription with endpoint and keys"};
    if (endpoint->size() > 2048) return {errc::bad_request, "the endpoint is longer than 2,048 bytes"};
    auto at = proto::parse_url(*endpoint);
    if (!at || !at->secure) return {errc::bad_request, "the endpoint is no https URL"};
    if (!listed(*at)) return {errc::bad_request, "the endpoint is at no push service that this server knows"};
    auto point = decode_base64url(*p256dh), secret = decode_base64url(*auth);
    if (!point || !p256_key::from_point(*point)) return {errc::bad_request, "p256dh is no public key on P-256"};
    if (!secret || secret->size() != 16) return {errc::bad_request, "auth is not 16 bytes"};
    std::string key = points_.front();
    if (kept.token == *endpoint)
      if (auto old = json_members(kept.extra).text("key"); old && find_key(*old)) key = std::move(*old);
    return push_token{std::move(*endpoint), "{\"p256dh\":\"" + base64url(*point) + "\",\"auth\":\"" +
                                                base64url(*secret) + "\",\"key\":\"" + key + "\"}"};
  }

  result<push_request> write(const push_job& job, std::int64_t now) override {
    const json_members kept(job.to.extra);
    auto at = proto::parse_url(job.to.token);
    auto point = decode_base64url(kept.text("p256dh").value_or("")),
         secret = decode_base64url(kept.text("auth").value_or(""));
    auto to = point ? p256_key::from_point(*point) : std::nullopt;
    if (!at || !to || !secret) return {errc::bad_request, "a token that web_push::accept has not given"};
    // The list may have become shorter since.
    if (!at->secure || !listed(*at))
      return {errc::forbidden, "the endpoint is at no push service that this server knows"};
    const std::string name = kept.text("key").value_or("");
    const p256_key* key = find_key(name);
    if (!key) return {errc::forbidden, "the subscription was made for a key that is not there any more"};

    std::string text = "{\"web_push\":8030,\"notification\":{\"title\":";
    proto::json::append_quoted(text, o_.title);
    proto::json::append_quoted(text += ",\"navigate\":", o_.navigate);
    text += ",\"tag\":\"hailwire\",\"data\":" + job.what.json() + "},\"mutable\":true}";
    if (text.size() > max_push_text) return {errc::too_large, "the notice is larger than push services take"};
    std::string salt(16, '\0');
    secret_bytes({raw(salt), salt.size()});

    push_request r{job.to.token};
    r.public_only = !own(*at);
    r.body = encrypt_push(text, *to, *secret, p256_key::generate(), salt);
    const std::int64_t left = std::max<std::int64_t>(o_.time_to_live.count() - (now - job.began) / 1000, 0);
    r.headers = {"TTL: " + std::to_string(left),
                 "Urgency: high",
                 "Topic: hailwire",  // a newer notice takes the place of one that waits (RFC 8030, section 5.4)
                 "Content-Encoding: aes128gcm",
                 "Content-Type: application/notification+json",
                 "Authorization: vapid t=" + token_for(*at, *key, name, now) + ", k=" + name};
    return r;
  }

  push_verdict judge(const push_job&, const push_response& r, std::int64_t) override {
    using enum push_verdict::what;
    if (r.status == 404 || r.status == 410) return {gone, "status " + std::to_string(r.status)};
    push_verdict v = judge_status(r);
    if (v.next == wait) v.next = retry;  // it is one of several services that has no room
    return v;
  }

 private:
  struct token {
    std::string text;
    std::int64_t good_until = 0;
  };

  static bool matches(std::string_view host, std::string_view pattern) {
    if (!pattern.starts_with("*.")) return host == pattern;
    return host.size() > pattern.size() - 1 && host.ends_with(pattern.substr(1));
  }
  static bool any(const std::vector<std::string>& list, std::string_view host) {
    return std::any_of(list.begin(), list.end(), [&](const std::string& p) { return matches(host, p); });
  }
  bool own(const proto::url& at) const { return any(o_.own_services, at.host); }
  bool listed(const proto::url& at) const { return own(at) || (at.port == 443 && any(o_.services, at.host)); }
  const p256_key* find_key(std::string_view point) const {
    for (std::size_t i = 0; i < points_.size(); ++i)
      if (points_[i] == point) return &keys_[i];
    return nullptr;
  }
  // RFC 8292, section 2: one token serves all subscriptions of an origin. The services are listed, so these are few; a
  // list with `*.` can be asked for many names, and then the oldest are made again.
  const std::string& token_for(const proto::url& at, const p256_key& key, const std::string& name, std::int64_t now) {
    if (tokens_.size() >= 1024) tokens_.clear();
    token& t = tokens_["https://" + at.authority() + " " + name];
    if (t.text.empty() || now >= t.good_until || t.good_until > now + token_life * 1000) {
      std::string claims = "{\"aud\":";
      proto::json::append_quoted(claims, "https://" + at.authority());
      claims += ",\"exp\":" + std::to_string(now / 1000 + token_life) + ",\"sub\":";
      proto::json::append_quoted(claims, o_.subject);
      t.text = signed_token(key, "{\"typ\":\"JWT\",\"alg\":\"ES256\"}", claims + "}");
      t.good_until = now + token_life * 500;
    }
    return t.text;
  }

  web_push_options o_;
  std::vector<p256_key> keys_;
  std::vector<std::string> points_;
  std::map<std::string, token> tokens_;  // by origin and key
};

}  // namespace detail
}  // namespace hailwire

namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE {

/// See the top of this file, and `http_notifier`. 404 and 410 forget a subscription.
class web_push : public http_notifier {
 public:
  /// `where` is an execution context or an executor. Throws `std::invalid_argument` for keys that cannot be used and
  /// for what is missing.
  template <class Context>
  web_push(Context&& where, web_push_options o)
      : web_push(where, o.limits, o.network, std::make_unique<detail::web_push_provider>(o)) {}

  static constexpr std::string_view service() noexcept { return "web"; }
  result<push_token> accept(std::string_view object, const push_token& kept = {}) const {
    return provider_->accept(object, kept);
  }
  /// What pages subscribe with (`applicationServerKey`): base64url.
  const std::string& public_key() const noexcept { return provider_->public_key(); }

 private:
  template <class Context>
  web_push(Context& where, push_limits l, push_network n, std::unique_ptr<detail::web_push_provider> p)
      : web_push(where, l, std::move(n), p.get(), p) {}
  template <class Context>
  web_push(Context& where, push_limits l, push_network n, const detail::web_push_provider* known,
           std::unique_ptr<detail::web_push_provider>& p)
      : http_notifier(where, std::move(p), l, std::move(n)), provider_(known) {}

  const detail::web_push_provider* provider_;  // lives as long as the sender
};

}  // namespace hailwire::inline HAILWIRE_ASIO_NAMESPACE
