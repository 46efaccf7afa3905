// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "hailwire/channel_rule.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/storage_content.hpp"

namespace hailwire {

/// Everything that can be set on a server, each with a default that is safe on the open internet and the reason for it.
/// Read once, when the server is made.
struct options {
  /// The resource that clients follow and publish to, as the request's path names it after decoding. One that does not
  /// begin with a slash throws `std::invalid_argument` when the server is made. Beside it stand `{path}/messages`,
  /// where single messages are fetched, and `{path}/content`, where content is uploaded.
  std::string path = "/live";

  /// Names this server to others that it is joined to, in what `everywhere().find` says; up to 64 printable bytes, more
  /// throw `std::invalid_argument` when the server is made. Empty: a random word.
  std::string node = {};

  /// Life is shown on every open stream at least this often, and asked for where a transport can: by a ping on
  /// WebSocket, else by the system (keep-alive probes of TCP, and its acknowledgements). Proxies and NATs commonly drop
  /// what is silent for 30–60 s. At least a second, as the times that follow.
  std::chrono::seconds heartbeat{25};
  /// Who is asked for life and shows none for this long is gone. Long enough for what a mobile network holds back for
  /// some seconds when it wakes or changes cells. A peer that is there and reads nothing has `stall_time` all the same.
  std::chrono::seconds heartbeat_answer{10};
  /// Between these a client may choose its own interval (`&heartbeat=`); what lies outside counts as the nearer one.
  /// The shorter one bounds what a client costs, the longer one for how long one that vanished is still thought to be
  /// there.
  std::chrono::seconds shortest_heartbeat{10}, longest_heartbeat{300};
  /// The longest that a poll is held; a client may ask for less. Below the usual 60 s time-out of proxies.
  std::chrono::seconds longest_wait{55};
  /// What SSE clients are told to wait before they reconnect (`retry:`): a random time between this and its double for
  /// each, so that those that lose their server at one moment do not come back at one.
  std::chrono::milliseconds retry{2000};

  /// A stream whose permission ends is told so this long before, in time for a round trip to whoever gives tokens.
  std::chrono::seconds expiry_notice{30};

  /// A request head must be complete this soon after its first byte (and a connection must send one this soon after it
  /// was opened). Precedent: 10–60 s in common servers; short, because each costs a descriptor.
  std::chrono::seconds head_time{10};
  /// A request body must be complete this soon after its head.
  std::chrono::seconds body_time{30};
  /// A kept-alive connection without a request is closed after this.
  std::chrono::seconds idle_time{75};
  /// A peer that takes none of its bytes for this long is let go; what it missed it reads again with its cursor. What
  /// its system has acknowledged is taken, where that is known (Linux).
  std::chrono::seconds stall_time{60};
  /// How long a closing WebSocket waits for the peer's close frame (RFC 6455, section 7.1.1).
  std::chrono::seconds close_time{5};

  /// Bounds on the request head: one line, the whole, the number of fields.
  proto::http1::limits head = {};
  /// How long a hook that may answer later has for its answer; then the client is told `timeout`, and the log. In time
  /// for a slow database, and before clients and proxies give up (30–60 s).
  std::chrono::seconds hook_time{20};
  /// The largest payload of a publish, in bytes; also bounds, with the largest of `channels`, a WebSocket message (plus
  /// the command around it) and a request body. One message must fit into memory several times over.
  std::size_t max_payload = 1 << 20;
  /// Where the storage keeps content: a payload over so many bytes is not carried by its message object but fetched by
  /// whoever wants it. About what a mobile network carries in a tenth of a second; and a follower who wants none of it
  /// is not held up.
  std::size_t inline_limit = 64 * 1024;
  /// Bounds on what lies beside the log, where the storage keeps content: the size of one, how many uploads of one user
  /// no message names, what those hold together, and for how long after their last byte. 64 MiB hold a minute of video
  /// of a phone; 16 uploads are a gallery that is sent at once.
  content_limits content = {};
  /// What holds for some channels instead of the options here: of the rules whose pattern fits a channel the first. A
  /// rule that makes no sense throws `std::invalid_argument` when the server is made.
  std::vector<channel_rule> channels = {};
  /// How long after a message the devices of its inbox's user are woken that have no live session, where there is a
  /// notifier (`server::add_notifier`): in time for a device that is just coming back to say `received`, or for another
  /// one to say `read`, which spares it.
  std::chrono::milliseconds wake_delay{5000};
  /// Whether a device is woken only while no device of its user has a live session. By default a tab that was left open
  /// on a desk does not silence a phone.
  bool wake_absent_users_only = false;
  /// Up to how many followers of a channel with presence are told of by name when they come and go; of more they are
  /// told how many there are, once a second. 100 names are a list that somebody reads, and 100 who come and go are
  /// 10,000 notices.
  std::size_t presence_names = 100;
  /// The most channels that one session follows.
  std::size_t max_channels = 32;
  /// The most connections at a time, over all threads of a `threaded_server`; more are answered `overloaded`, by up to
  /// 128 that are accepted for this, and what comes while those are taken waits to be accepted. Unset: the descriptors
  /// that this process may open when the server is made (the soft RLIMIT_NOFILE), but for 256, or half of them where
  /// there are fewer than 512, which are left for files, other sockets and these answers.
  std::optional<std::size_t> max_connections = {};
  /// The most connections of one address, over all threads; more are answered `rate_limited`. A /64 of IPv6 counts as
  /// one address; trusted proxies and who has no address are not counted. 0: no limit, because a proxy that is not
  /// listed in `trusted_proxies` is one address for everybody.
  std::size_t max_connections_per_address = 0;
  /// How many clients a second may begin on a new connection, with a second's worth at once; more are `overloaded` and
  /// told when there will be room for them, each at a time of its own. As many again who show a ticket of the last ten
  /// minutes: they were here a moment ago, and come back before newcomers. An address (a /64 of IPv6) that wants more
  /// than a tenth of this is given it while half of the room is left for others. By a core's TLS handshakes with ECDSA,
  /// 1–3 thousand a second, and so that a storage is not asked by everybody at once after a restart. Counted at a
  /// connection's first request of the live resource; divided among the threads of a `threaded_server`. 0: no limit,
  /// and no tickets.
  std::size_t newcomers_per_second = 1000;
  /// What tickets are signed with, at least 16 random bytes: the same after a restart and at each server that clients
  /// may come back to. Empty: a key of this server's own, so that tickets end with it. A shorter one throws
  /// `std::invalid_argument` when the server is made.
  std::string ticket_key = {};
  /// The most commands a second of one user, one `grant::key_scope`, or, of anonymous clients without one, one address
  /// (a /64 of IPv6), over all its connections, with a second's worth at once; more are `rate_limited`. A request
  /// counts as one, and each command of a POST; a `ping` does not. Many hundred times what a person does, for a whole
  /// office may share an address, and few enough that nobody takes more than a few hundredths of a core. Each hub
  /// counts for itself. 0: no limit.
  std::size_t commands_per_second = 1000;
  /// The same for bytes that clients send; what is over it is not read until its time has come, so that TCP holds the
  /// sender back. 64 Mbit/s.
  std::size_t bytes_per_second = 8u << 20;
  /// How many bytes the hub may hold for sessions, channels and their tails before it takes no new sessions, which are
  /// `overloaded`, so that those that there are go on: `hub::memory_held`. What a storage holds in this process is its
  /// own affair. Divided among the threads of a `threaded_server`. Unset: half of what the machine has when the server
  /// is made; it is another question whether a container lets this process have as much.
  std::optional<std::size_t> max_memory = {};
  /// The most sessions at a time; more are answered `overloaded`. Below the descriptors that a process may open, the
  /// acceptor pauses by itself.
  std::size_t max_sessions = 1'000'000;
  /// The most publishes and commands that wait for the storage or for the hub's thread; more are `overloaded`.
  std::size_t max_pending = 10'000;
  /// The most publishes with an idempotency key of one user, or one `grant::key_scope`, within a key's life of five
  /// minutes; more are `rate_limited`, with the time after which there is room, but for repeats of those that are
  /// known. That is 33 a second, and a
  /// tenth of what the memory storage keeps of everybody's, so that no user locks the others out. Each hub counts for
  /// itself. 0: no limit.
  std::size_t max_keys_per_user = 10'000;
  /// What is a session's own and unsent (replies, notices, pongs), in bytes. While it is unsent, the session's commands
  /// are not read; a host that sends past it is told `overloaded`.
  std::size_t max_unsent = 64 * 1024;
  /// The most messages, and the most bytes of them, in one poll answer.
  std::size_t poll_messages = 1000;
  std::size_t poll_bytes = 1 << 20;
  /// The most commands in one POST.
  std::size_t post_commands = 64;
  /// What the kernel holds of one connection's bytes, written and not yet acknowledged (`SO_SNDBUF`, of which Linux
  /// gives the double for its own bookkeeping, up to `net.core.wmem_max`): left to itself it holds 4 MB for each reader
  /// that stands still. It bounds what one connection can carry on a long way to about this in a round trip. 0: the
  /// system's choice.
  std::size_t send_buffer = 256 * 1024;
  /// How many connections the kernel may queue (SOMAXCONN on Linux since 5.4).
  int backlog = 4096;

  /// Origins, such as `https://app.example`, whose pages may use the server besides those it serves itself.
  std::vector<std::string> allowed_origins = {};

  /// Reverse proxies that are believed when they say whose requests they bring: addresses, ranges such as `10.0.0.0/8`
  /// and `fd00::/8`, or `unix` for whoever connects to a Unix socket. Of a chain of them the rightmost address that is
  /// not listed here is the client's; that is who is shown and counted. Nobody else's word is read. A malformed entry
  /// throws `std::invalid_argument` when the server is made.
  std::vector<std::string> trusted_proxies = {};
  /// Which header they write: `Forwarded` (RFC 7239), or X-Forwarded-For, -Proto and -Host.
  enum class forwarding_header : unsigned char { x_forwarded, forwarded };
  /// Only the one named is read: the other may be a client's own that a proxy has passed on.
  forwarding_header forwarding = forwarding_header::x_forwarded;
  /// Whether connections from trusted proxies begin with a header of the PROXY protocol, version 2. One that does not
  /// is closed. Holds for listeners, not for what a host adopts.
  bool proxy_protocol = false;
  /// Of every so many sessions that begin, the end of one is told to the log (`session_ended`): 1 tells of each, and of
  /// polls each request is one. 0: of none.
  std::size_t access_log_every = 0;
  /// The most sessions of one address, streams and waiting polls, over all threads of a `threaded_server`; more are
  /// `rate_limited`. A /64 of IPv6 counts as one address. Who has none is not limited by it and counted nowhere: who
  /// comes by a Unix socket, or by a stream of the host's whose address is not known, without a proxy's word. 0: no
  /// limit, for whole offices share an address.
  std::size_t max_sessions_per_address = 0;
};

/// The largest payload that any channel takes: what bounds bytes before it is known which channel they are for.
inline std::size_t largest_payload(const options& o) noexcept {
  std::size_t most = o.max_payload;
  for (const channel_rule& r : o.channels) most = std::max(most, r.max_payload.value_or(0));
  return most;
}

/// How a server that is to end sends its clients away; see `server::drain`.
struct drain_options {
  /// How many streams are closed in a second; more when the deadline could not be kept else. Each close is a message, a
  /// TLS alert and a connection's end: 1,000 take a few per cent of one core, and a million clients a quarter of an
  /// hour.
  std::size_t closes_per_second = 1000;
  /// How many clients a second whoever takes over lets in: they are told to come back spread over so many seconds as
  /// this takes, a quarter more for the luck of the draw, and never less than one. 0: as many newcomers as this server
  /// lets in itself (`options::newcomers_per_second`), or, where that is without limit, 1,000.
  std::size_t returns_per_second = 0;
  /// Where they are to come back to, as `bye` carries it: an absolute URL, or one that is relative to theirs. Empty:
  /// where they are, after this server has gone; with a URL they may come at once.
  std::string url = {};
};

}  // namespace hailwire
