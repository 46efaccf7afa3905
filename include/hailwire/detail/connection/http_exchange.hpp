// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a connection has only while something is unfinished on it, or while it serves HTTP requests. A stream on which
// nobody says anything has none of this.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/hooks.hpp"
#include "hailwire/hub.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::detail {

/// What serving one request takes, and begins anew with the next.
struct serving_one {
  std::string rest;  // what came after the head
  std::string body;
  proto::http1::chunked_decoder chunks;
  std::string extra;  // header lines of every answer to this request

  const transport::entry* serving = nullptr;  // null: a POST
  std::string device;
  move_only_function<void(std::string&, std::string_view)> open;  // of a stream that has not been answered yet
  std::optional<transport::poll> once;
  std::size_t following = 0;  // channels whose start is not known yet
  std::string notices;        // of a poll
  std::int64_t until = 0;     // when a held poll is over

  std::vector<std::string> commands;  // of a POST
  std::size_t done = 0;
  std::string replies;

  bool own_page = true, listed_page = false;  // the page that asks: this host's or nobody's; or one of a listed origin
  bool at_once = false;                       // the poll is answered even if there is nothing
  bool array = false;                         // the POST's commands are one
  bool query_readable = true;
};

/// All that requests need and an idle stream does not. It stays from one request to the next, because a client that
/// polls polls again, and memory asked for anew was a third of what a poll took.
struct exchange : serving_one {
  explicit exchange(const options& o) : parser(o.head) {}
  std::uint32_t serial = 0;  // of the request; answers to earlier ones are ignored
  std::string in;            // the head, whole once it is parsed; never touched while `head` is in use
  proto::http1::head_parser parser;
  proto::http1::head head;
  proto::query_pairs query;
  request shown;
  std::vector<std::string> channels;
  cursor from;
  vector<follow_start> starts;
  std::shared_ptr<connection*> here;            // what hooks that answer later hold on to
  std::unique_ptr<exchange>* keeper = nullptr;  // while a hook looks at `shown`: where this goes instead of away

  /// Ready for the next request; false when more memory has gathered than is worth keeping.
  bool renew() {
    static_cast<serving_one&>(*this) = serving_one();
    in.clear(), head.clear(), query.clear(), channels.clear(), from.clear(), starts.clear();
    parser.reset();
    return in.capacity() <= 2048 &&
           std::max({query.capacity(), channels.capacity(), from.capacity(), starts.capacity()}) <= 16;
  }
};
static_assert(sizeof(exchange) <= 1000, "an allocation over 1,000 bytes is a slow one in glibc");

class server_state;

/// Bytes that wait, a request, an end that is near.
struct pending_io {
  explicit pending_io(server_state& g, bool of_all = false) : gate(&g), common(of_all) {}
  server_state* gate;
  const bool common;             // the server_state's `nothing`
  std::string out, held;         // own bytes that are to be sent; input that waits
  std::size_t sent = 0;          // of `out`
  subscription* half = nullptr;  // whose frame is half sent
  std::size_t next = 0;          // the channel whose turn it is, while not all have had theirs
  std::unique_ptr<exchange> request;
  std::unique_ptr<close_reason> reason;
  // How far the peer's acknowledgements are looked at, as `connection::acknowledged` counts plus 1, while its bytes
  // stand in a queue; 0 when nobody looks.
  std::uint64_t seen = 0;  // when last looked at
  std::uint64_t ping = 0;  // of the ping that is behind others
  bool none() const noexcept { return out.empty() && held.empty() && !half && !next && !request && !reason && !seen; }
};

}  // namespace hailwire::detail
