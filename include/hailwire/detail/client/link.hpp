// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a client is made of beside its machine: links, which move its cursor forward, and errands, which do over another
// connection what a link cannot.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/base/event_loop.hpp"
#include "hailwire/detail/base/function.hpp"
#include "hailwire/message.hpp"

namespace hailwire::detail {

class client_machine;

/// A connection of a client: links follow over the first, commands are posted over the second, content comes over the
/// third.
enum class client_lane : std::uint8_t { follow, command, content };
inline constexpr int client_lanes = 3;

/// What a client lets go of at the end of a turn, since it may be what the turn is in.
class client_part {
 public:
  virtual ~client_part() = default;
};

/// One attempt to move the cursor forward, over the lane `follow`. Made when the lane is about to connect; destroyed at
/// the end of the turn in which it ended.
class client_link : public client_part {
 public:
  /// The lane is connected.
  virtual void connected() = 0;
  virtual void receive(std::span<char> in) = 0;
  /// The server has ended the lane in order, or it broke.
  virtual void ended() = 0;
  /// Its own alarm has passed.
  virtual void alarm() {}
  virtual std::int64_t due() const noexcept { return event_loop::no_alarm; }
  /// Whether it takes commands; else they are posted.
  virtual bool carries_commands() const noexcept { return false; }
  virtual void send(std::string_view) {}
  /// Asks the server for a sign of life, where that can be asked for.
  virtual void probe() {}
  /// The client goes: whatever is to be said to the server.
  virtual void leave() {}
};

/// A transport as a client uses it. There is one object of each, with static lifetime.
struct client_transport {
  std::string_view name;
  std::unique_ptr<client_link> (*make)(client_machine&);
};

/// What uses a lane of its own while the link follows: posts commands, or fetches content. Made when it is first
/// needed.
class client_errands : public client_part {
 public:
  /// There may be something to do.
  virtual void flush() = 0;
  virtual void connected() = 0;
  virtual void receive(std::span<char> in) = 0;
  virtual void ended() = 0;
  virtual void alarm() = 0;
  virtual std::int64_t due() const noexcept = 0;
  /// What it was doing is void; commands have been put back.
  virtual void reset() = 0;
};

/// How a fetch ended: an error, or the content.
using fetch_end = move_only_function<void(const client_error&, client_content)>;

/// A payload to be fetched.
struct client_fetch {
  std::string channel;
  position at;
  fetch_end end;
};

/// What a host hears.
struct client_handlers {
  move_only_function<void(const client_message&)> message;
  move_only_function<void(std::string_view name, std::string_view json)> notice;
  move_only_function<void(const client_gap&)> gap;
  move_only_function<void(const client_status&)> status;
  move_only_function<void(const std::string& cursor)> cursor;
  move_only_function<void(token_reply)> renew;
  /// Of what other followers do. Most clients do without, and idle clients are many.
  struct others {
    move_only_function<void(const client_presence_change&)> presence;
    move_only_function<void(const client_receipt&)> receipt;
    move_only_function<void(std::string_view channel)> missed;
  };
  std::unique_ptr<others> about_others;
  others& of_others() {
    if (!about_others) about_others = std::make_unique<others>();
    return *about_others;
  }
};

}  // namespace hailwire::detail
