// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a host may say to a server, and what it is shown for it. Every hook is optional, runs on the hub's executor, and
// may throw: then the session it was called for is closed with 1011 (or the request answered 500), the log is told, and
// nothing else notices.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/proto/http_fields.hpp"
#include "hailwire/session.hpp"

namespace hailwire {

namespace detail {
class connection;
class http_exchange;
}  // namespace detail

/// What is known of a client that came over TLS.
struct tls_peer {
  std::string version;      ///< `TLSv1.3`
  std::string cipher;       ///< `TLS_AES_128_GCM_SHA256`
  std::string server_name;  ///< the name that it asked for (SNI); empty: none
  /// Of its certificate, which has been verified; all empty when it showed none.
  std::string subject;             ///< as RFC 4514 writes names: `CN=ada,O=Analytical Engines`
  std::vector<std::string> names;  ///< alternative names: `DNS:…`, `email:…`, `URI:…`, `IP:…`
  std::string fingerprint;         ///< SHA-256 of the certificate, 64 lower hexadecimal digits

  bool operator==(const tls_peer&) const = default;
};

/// An HTTP request as the host sees it. It and views into it are valid during the call that it is given to: who answers
/// later copies what that takes, because the client may be gone by then and the request with it.
class request {
 public:
  /// As sent, case kept: `GET`.
  std::string_view method() const noexcept { return head_->method; }
  /// The path, percent escapes decoded: valid UTF-8.
  const std::string& path() const noexcept { return path_; }
  /// The target as sent, query included.
  std::string_view target() const noexcept { return head_->target; }
  /// The first field of that name, in any case; empty when there is none.
  std::string_view header(std::string_view name) const noexcept { return head_->find(name); }
  /// The first query parameter of that name, decoded as form data; empty when there is none.
  std::string_view param(std::string_view name) const noexcept;
  const proto::query_pairs& query() const noexcept { return *query_; }
  /// The body, as sent but for its chunked framing; empty for requests to the live resource.
  std::string_view body() const noexcept { return body_; }
  /// Who asks: `address:port`, `[address]:port`, `unix`, or `unknown` when the connection has broken already or an
  /// adopted stream cannot say; who is connected, or, when that is a trusted proxy
  /// (`options::trusted_proxies`), the client that it names, often without a port.
  const std::string& peer() const;
  /// The address alone, without brackets and port; `unix` or `unknown` where there is none.
  std::string_view address() const;
  /// `https` over this server's own TLS or that of an adopted stream, or when a trusted proxy says that the client
  /// asked it so; else `http`.
  std::string_view scheme() const noexcept {
    return !scheme_.empty() ? std::string_view(scheme_) : tls_ ? "https" : "http";
  }
  /// The host that the client asked for, with its port if it is not the scheme's: from a trusted proxy, or the
  /// request's own.
  std::string_view host() const noexcept { return host_.empty() ? head_->host : std::string_view(host_); }
  /// Whether it came over this server's own TLS or that of an adopted stream. A proxy in front that speaks TLS does not
  /// count.
  bool secure() const noexcept { return tls_ != nullptr; }
  /// What TLS knows of the client; null without TLS.
  const std::shared_ptr<const tls_peer>& tls() const noexcept { return tls_; }
  /// The transport that serves it (`websocket`, `sse`, `ndjson`, `long_poll`, `short_poll`, a host's own), `post` for
  /// commands and publishes on the live resource, empty elsewhere.
  std::string_view transport() const noexcept { return transport_; }
  /// The parsed head, for what has no accessor here.
  const proto::http1::head& head() const noexcept { return *head_; }

 private:
  // Whether there is one yet.
  explicit operator bool() const noexcept { return on_ != nullptr; }
  friend class detail::connection;
  friend class detail::http_exchange;
  void begin(const detail::connection& on, const proto::http1::head& h, const proto::query_pairs& q,
             std::shared_ptr<const tls_peer> tls);
  const proto::http1::head* head_ = nullptr;
  const proto::query_pairs* query_ = nullptr;
  const detail::connection* on_ = nullptr;
  std::string path_;
  mutable std::string peer_;   // empty until somebody asks: it takes a system call
  std::string scheme_, host_;  // as a trusted proxy says
  std::shared_ptr<const tls_peer> tls_;
  std::string_view body_, transport_;
};

/// An HTTP answer of the host's.
struct response {
  int status = 200;
  std::string content_type = "text/plain;charset=utf-8";
  std::string body = {};
  /// More header fields. `Content-Length`, `Connection`, `Date` and `Transfer-Encoding` are the server's own and
  /// skipped, as is a field that is not well-formed.
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// An authorizer's answer: what is allowed, or why nothing is.
class decision {
 public:
  decision(grant allowed) : allowed_(std::move(allowed)) {}
  /// One grant can serve many clients; it costs each a pointer. None refuses as `internal`.
  decision(shared_grant allowed) noexcept : allowed_(std::move(allowed)) {}
  /// Usually `unauthenticated` or `forbidden`.
  decision(errc why) : refused_(why) {}
  decision(failure why) noexcept : refused_(std::move(why)) {}

  /// Null when it is refused.
  const shared_grant* allowed() const noexcept { return allowed_ ? &allowed_ : nullptr; }
  /// Why, when `allowed()` is null.
  const failure& refused() const noexcept { return refused_; }

 private:
  shared_grant allowed_;
  failure refused_;
};

/// What a host makes of a client's publish.
class verdict {
 public:
  static verdict accept() { return verdict(choice::accept); }
  /// Stored and sent in place of what the client said.
  static verdict replace(payload p);
  static verdict refuse(errc why, std::string message = {});

  const payload* replacement() const noexcept { return choice_ == choice::replace ? &payload_ : nullptr; }
  const failure* refusal() const noexcept { return choice_ == choice::refuse ? &why_ : nullptr; }

 private:
  enum class choice : std::uint8_t { accept, replace, refuse };
  explicit verdict(choice c) : choice_(c) {}
  choice choice_;
  payload payload_;
  failure why_;
};

/// Answers one thing, once: a command, an authorization or a request. Movable. One that is dropped unanswered answers
/// `internal` by itself. Calling it when the client has gone, or after `options::hook_time`, when the client has been
/// told `timeout`, does nothing; it may outlive the server.
///
/// Threads: one object is not for two threads at once. A server's may be called, and may die, on any: elsewhere than on
/// the hub's executor the answer is handed over to that.
template <class Answer>
class reply_to {
 public:
  explicit reply_to(detail::move_only_function<void(Answer)> f) : f_(std::move(f)) {}
  reply_to(reply_to&& other) noexcept : f_(std::exchange(other.f_, nullptr)) {}
  reply_to& operator=(reply_to&& other) noexcept {
    drop();
    f_ = std::exchange(other.f_, nullptr);
    return *this;
  }
  ~reply_to() { drop(); }

  void operator()(Answer a) {
    if (auto f = std::exchange(f_, nullptr)) f(std::move(a));
  }

 private:
  void drop() noexcept {
    try {
      if (f_) (*this)(Answer(failure(errc::internal)));
    } catch (...) {
    }
  }
  detail::move_only_function<void(Answer)> f_;
};

/// The JSON text of a host-defined command's `ok`, or what went wrong.
using command_reply = reply_to<result<std::string>>;
using authorize_reply = reply_to<decision>;

/// How a session ended.
struct close_reason {
  errc code = errc::internal;  ///< what the server thinks of it; meaningless when `by_peer` and for close code 1000
  std::uint16_t close_code = 1006;  ///< as WebSocket has them (RFC 6455, section 7.4.1): 1006, it just went away
  std::string text;
  bool by_peer = false;  ///< the client ended it, or its connection broke
};

/// A client that speaks the host's own WebSocket frames, on a path given to `server::on_websocket`. For the hub's
/// executor; a reference is valid until `frame_handlers::on_close` for it has returned.
class frame_socket {
 public:
  /// Sends one message: valid UTF-8, or any bytes. `overloaded` when `options::max_unsent` bytes wait already;
  /// `operation_aborted` once it is closing.
  virtual std::error_code send_text(std::string_view utf8) = 0;
  virtual std::error_code send_binary(std::string_view bytes) = 0;
  /// Closes with a code (RFC 6455, section 7.4) and a reason of at most 123 bytes.
  virtual void close(std::uint16_t code = 1000, std::string_view reason = {}) = 0;
  /// The host's own object, destroyed with the connection.
  std::shared_ptr<void> data;

 protected:
  ~frame_socket() = default;
};

/// What a host does with such clients. While a client does not read what was sent to it, it is not read either.
struct frame_handlers {
  std::function<bool(frame_socket&, const request&)> on_open = {};  ///< false: answered 403. Sending is allowed already
  std::function<void(frame_socket&, std::string_view, bool binary)> on_message = {};
  std::function<void(frame_socket&, const close_reason&)> on_close = {};
  std::vector<std::string> subprotocols = {};  ///< of these the client's first choice is taken
  std::size_t max_message = 1 << 20;           ///< bytes; a longer one closes with 1009
};

namespace detail {
/// The hooks as they are stored; `server` has the members that set them.
struct hooks {
  /// Whether the three that may answer later never do: then nobody waits for their answers.
  bool authorizes_at_once = false, renews_at_once = false, serves_at_once = false;
  std::function<void(const request&, authorize_reply)> authorize;
  std::function<void(session&, std::string_view, authorize_reply)> on_renew;
  std::function<void(session&)> on_open;
  std::function<verdict(session&, std::string_view, const payload&)> on_publish;
  std::function<verdict(session&, std::string_view, const payload&, const content_reference&)> on_publish_content;
  std::function<std::string(const request&, std::string_view, const message&)> on_fetch;
  std::function<bool(session&, std::string_view, const message&)> on_erase;
  std::function<void(session&, std::string_view, std::string_view, command_reply)> on_command;
  std::function<void(session&, const close_reason&)> on_close;
  std::function<void(const request&, reply_to<result<response>>)> on_http;
};
}  // namespace detail

}  // namespace hailwire

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/hooks.ipp"
#endif
