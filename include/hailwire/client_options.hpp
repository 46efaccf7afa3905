// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a client is told, and what it tells: options, messages, how commands end.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/text.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"

namespace hailwire {

namespace detail {
class client_security;
}

/// How a command, or a client, ended otherwise than well. `code` is one of the protocol's (`errc`), or the system's:
/// `operation_aborted()` when the client was closed first, `std::errc::not_connected` for what is never kept for later.
/// `errc::timeout` always means that nobody knows whether it was done.
struct client_error {
  std::error_code code;
  std::string message;  ///< English, for whoever has to mend it; may be empty
  int retry_after = 0;  ///< seconds after which trying again makes sense; 0: not said

  client_error() = default;
  client_error(std::error_code c, std::string_view text = {}, int seconds = 0)
      : code(c), message(text), retry_after(seconds) {}
  explicit operator bool() const noexcept { return bool(code); }
  /// `message`, or what the code itself says.
  std::string text() const { return message.empty() ? code.message() : message; }
};

/// One message as it arrives. All views are valid during the call that brings it.
struct client_message {
  std::string_view channel, epoch;
  std::uint64_t offset = 0;  ///< its place in the channel; 0: ephemeral, it has none
  std::int64_t at = 0;       ///< when the server accepted it: Unix time in milliseconds
  std::string_view from;     ///< the user who published it; empty for the host and for anonymous users
  std::string_view type;     ///< the publisher's own word; may be empty
  std::string_view data;     ///< the payload as JSON text, byte for byte as published; empty when it was bytes
  std::string_view bytes;    ///< the payload where it was bytes
  bool binary = false;       ///< `bytes` has the payload, which may be empty
  bool erased = false;       ///< it was taken back: there is no payload
  std::uint64_t erases = 0;  ///< this message takes back the one of that offset; 0: it is an ordinary one
  std::uint64_t size = 0;  ///< the payload is not here and has so many bytes: see `basic_client::fetch`; 0: it is here
  std::string_view content_type;  ///< of such a payload
  std::string_view json;          ///< the whole object as it came
};

/// What lay between the client's position and `next` cannot be had; the position is now (`epoch`, `next` − 1).
struct client_gap {
  std::string_view channel;
  std::string_view reason;  ///< `trimmed`, or `epoch`
  std::string_view epoch;
  std::uint64_t next = 0;
};

/// A message or a gap that owns its text: what `async_receive` gives. One that was made without either, or moved from,
/// holds an empty message.
class client_event {
 public:
  client_event() = default;
  explicit client_event(const client_message& m) : message_(m) {
    std::size_t size = m.json.size();
    each(m, [&](std::string_view v) {
      if (!within(v, m.json)) size += v.size();
      return v;
    });
    text_ = std::make_unique<char[]>(size + 1);
    char* to = text_.get();
    message_.json = copy(m.json, to);
    each(message_, [&](std::string_view v) {
      return within(v, m.json) ? message_.json.substr(static_cast<std::size_t>(v.data() - m.json.data()), v.size())
                               : copy(v, to);
    });
  }
  explicit client_event(const client_gap& g) : gap_(g), is_gap_(true) {
    text_ = std::make_unique<char[]>(g.channel.size() + g.reason.size() + g.epoch.size() + 1);
    char* to = text_.get();
    for (auto* v : {&gap_.channel, &gap_.reason, &gap_.epoch}) *v = copy(*v, to);
  }
  client_event(client_event&& other) noexcept { *this = std::move(other); }
  client_event& operator=(client_event&& other) noexcept {
    text_ = std::move(other.text_);
    message_ = std::exchange(other.message_, {});
    gap_ = std::exchange(other.gap_, {});
    is_gap_ = std::exchange(other.is_gap_, false);
    return *this;
  }

  /// The message; empty where it is a gap. Valid as long as this object stands where it is, or was moved to.
  const client_message& message() const noexcept { return message_; }
  /// The gap; null where it is a message.
  const client_gap* gap() const noexcept { return is_gap_ ? &gap_ : nullptr; }

 private:
  static bool within(std::string_view v, std::string_view whole) noexcept {
    return !std::less<>()(v.data(), whole.data()) && !std::less<>()(whole.data() + whole.size(), v.data() + v.size());
  }
  static std::string_view copy(std::string_view v, char*& to) noexcept {
    v.copy(to, v.size());
    return {std::exchange(to, to + v.size()), v.size()};
  }
  template <class Message, class F>
  static void each(Message& m, F f) {
    if constexpr (std::is_const_v<Message>) {
      for (auto v : {m.channel, m.epoch, m.from, m.type, m.data, m.bytes, m.content_type}) f(v);
    } else {
      for (auto* v : {&m.channel, &m.epoch, &m.from, &m.type, &m.data, &m.bytes, &m.content_type}) *v = f(*v);
    }
  }
  std::unique_ptr<char[]> text_;
  client_message message_;
  client_gap gap_;
  bool is_gap_ = false;
};

/// Who follows a channel, as the server told it. With `names` left out only the numbers are there.
struct client_presence {
  struct member {
    std::string user;
    std::uint64_t sessions = 0;
    std::string info;  ///< what the server's authorizer gave, as JSON text; may be empty
  };
  std::vector<member> members;  ///< at most 1,000
  std::uint64_t count = 0;      ///< users
  std::uint64_t anonymous = 0;  ///< sessions without a user
  bool more = false;            ///< there are more than `members`
};

/// How far the users of a channel have come in it, one's own first.
struct client_receipts {
  struct receipt {
    std::string user;
    std::uint64_t received = 0, read = 0;  ///< offsets: the highest over that user's devices
  };
  std::string epoch;
  std::uint64_t head = 0;  ///< the newest offset: minus one's own `read` it is the number of unread messages
  std::vector<receipt> receipts;
  bool more = false;
};

/// Somebody has come or gone in a channel with presence, or only their number is told. All views are valid during the
/// call that brings it.
struct client_presence_change {
  enum class kind : std::uint8_t {
    join,   ///< the user's first session
    leave,  ///< the user's last session has been gone for the grace time
    count,  ///< a channel of so many users that no names are told
  };
  kind what = kind::join;
  std::string_view channel;
  std::string_view user;    ///< empty of `count`
  std::string_view info;    ///< what the server's authorizer gave, as JSON text; may be empty
  std::uint64_t count = 0;  ///< of `count`: users
};

/// How far a user has come in a channel, as it is told live. All views are valid during the call that brings it.
struct client_receipt {
  std::string_view channel, epoch, user;
  std::uint64_t received = 0, read = 0;  ///< offsets: the highest over that user's devices
};

/// A payload that was fetched on its own.
struct client_content {
  std::string bytes;
  std::string type;  ///< its Content-Type, as its publisher gave it
};

/// Where a device is woken while it has no connection (PROTOCOL.md, the command `device`).
struct client_device {
  std::string_view push;        ///< the service: `web`, `apns`, `fcm`, `webhook`
  std::string_view token = {};  ///< what the service gave, as JSON text: `"00fc13…"` in its quotes, a PushSubscription
  std::string_view fid = {};    ///< of `fcm`, in place of a token: the Firebase installation ID
  bool sandbox = false;         ///< of `apns`: an app under development
};

/// What a client is doing.
struct client_status {
  enum class state : std::uint8_t {
    connecting,
    following,  ///< messages arrive, commands are sent
    waiting,    ///< to connect again, in `wait`
    stopped,    ///< for good; `reason` says why
  };
  state now = state::connecting;
  std::string_view transport;         ///< the transport in use, or the one to be tried next
  std::string_view reason;            ///< a code of the protocol, or `unreachable`, `silent`, `lost`, …
  std::string_view text;              ///< more about it, in English; may be empty
  std::chrono::milliseconds wait{0};  ///< until the next attempt
};

/// How a publish is to be done.
struct client_publish_options {
  std::string_view type = {};  ///< the publisher's own word, at most 64 bytes
  std::string_view key = {};   ///< of 1 to 64 visible ASCII characters; empty: a random one of 128 bits
  bool ephemeral = false;      ///< sent once to whoever is there, or not at all; stored nowhere
};

/// Takes a token from whoever gives tokens out, once: a line of printable ASCII; an empty string when there is none for
/// now, to be asked again after a while; nothing when there will be none. Safe to call at any time, also when the
/// client is gone, on the client's executor.
using token_reply = detail::move_only_function<void(std::optional<std::string>)>;

/// How a client behaves. Each default is what a program on an ordinary network wants.
struct client_options {
  /// Commands that wait or are unanswered; one more is refused with `errc::overloaded`. So many, or
  /// `max_pending_bytes` of them, is what a client keeps while it is offline.
  std::size_t max_pending = 1000;
  std::size_t max_pending_bytes = std::size_t{1} << 20;
  /// Keyed publishes of one channel that are unanswered at a time. 1 keeps their order whatever happens; with more, one
  /// that was refused and is repeated lands behind others.
  std::size_t unanswered = 1;
  /// Bytes of messages that wait for `async_receive`. While there are as many nothing more is read, so a program that
  /// takes its time costs itself memory for these, and its server a cursor.
  std::size_t max_unreceived = std::size_t{256} << 10;
  /// Bytes of one object from the server. Its largest payload is 1 MiB unless its host says otherwise, and a poll's
  /// answer has as much again in bytes of base64 and envelopes.
  std::size_t max_object = std::size_t{4} << 20;
  /// Bytes of one content that is fetched; more is `errc::too_large`. As much as a hailwire server takes by default.
  std::size_t max_content = std::size_t{64} << 20;
  /// How long a connection may take to be made, a stream to open, a request to be answered.
  std::chrono::milliseconds patience{10'000};
  /// How long a long poll asks to be held: below the 30 seconds after which common proxies cut what is silent.
  std::chrono::seconds hold{25};
  /// Between two short polls.
  std::chrono::milliseconds poll_interval{2'000};
  /// The time before a reconnect is random, between nothing and the least of `most_wait` and `first_wait` · 2^attempts
  /// (full jitter), and comes on top of what the server asks for.
  std::chrono::milliseconds first_wait{500}, most_wait{30'000};
  /// How long a client that has fallen back stays on a lesser transport before it tries the first again; doubles with
  /// each attempt that fails, up to sixteen times as long.
  std::chrono::milliseconds climb{60'000};
  /// Whole lines of request heads, each with its CRLF: cookies, `User-Agent: …`.
  std::string headers = {};
  /// `http://host:port` of a proxy that makes tunnels (CONNECT: RFC 9110, section 9.3.6); empty: none.
  std::string proxy = {};
  /// What https and wss URLs need: `client_tls` from client_tls.hpp.
  std::shared_ptr<const detail::client_security> tls = {};

  friend bool operator==(const client_options&, const client_options&) = default;
};

}  // namespace hailwire
