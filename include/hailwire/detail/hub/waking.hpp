// SPDX-License-Identifier: BSL-1.0
#pragma once

// Waking the devices of those who are not there: which message wakes whom, and when.
//
// How it works. A message that this hub has stored in an inbox (or a channel whose rule says so) begins a wait of
// `options::wake_delay`; what is stored meanwhile only raises what is to be told. When the wait is over the storage is
// asked where the devices of the user stand: one that has received the message is not woken, and where any device of
// the user has read it none is. So whatever cancels a wake goes through the storage, on whichever node it came in. Of
// what is left each device is woken that has a token and no live session, and that no notice is on its way to: what is
// said of one channel brings a device to all of its channels.
//
// Who stands behind a channel that is no inbox: the users who have watermarks in it.
//
// A session that ends as dead (no sign of life, or a broken connection) may have been told what never arrived: it
// begins the same wait for its user, for what lies above its device's watermark.
//
// The hub that stored a message decides, so each message is decided once. Which devices are live is known for all hubs
// of a process; of another node's sessions only their watermarks are.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/hash_table.hpp"
#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/hub/notifiers.hpp"
#include "hailwire/message.hpp"
#include "hailwire/storage_members.hpp"

namespace hailwire {

class hub;
class session;

namespace detail {

/// Which devices have live sessions, over all hubs of a process. Safe from any thread.
class live_devices {
 public:
  void add(std::string_view user, std::string_view device);
  void remove(std::string_view user, std::string_view device) noexcept;
  bool has(std::string_view user, std::string_view device) const;
  bool has(std::string_view user) const;

 private:
  using name = std::pair<std::string, std::string>;
  mutable std::mutex mutex_;
  std::map<name, std::size_t> sessions_;
};

/// See the top of this file. For the hub's executor.
class waking {
 public:
  waking(hub& h, std::shared_ptr<live_devices> live);
  waking(const waking&) = delete;
  waking& operator=(const waking&) = delete;
  ~waking();

  /// Throws `std::invalid_argument` for a second one of the same service.
  void add(std::unique_ptr<any_notifier> n);
  any_notifier* find(std::string_view service) const noexcept;

  /// A message was stored here.
  void stored(std::string_view channel, std::string_view epoch, const message& m);
  void opened(session& s);
  void closed(session& s) noexcept;
  /// A session ends as dead; before `closed`.
  void died(session& s);

  /// Keeps, or forgets, where a device is woken: `object` is the value of a `device` command.
  void keep(session& s, std::string_view object, device_handler done);

  wake_counters counters() const noexcept {
    wake_counters c = counters_;
    c.waiting = waits_.size();
    return c;
  }
  /// Nobody is woken from now on.
  void stop() noexcept { waits_.delete_all(); }

 private:
  // A channel, and maybe one user of it, that waits until somebody is woken.
  struct wait final : hash_node, timer {
    wait(waking& w, std::string_view c, std::string_view u) : owner(&w), channel(c), user(u) {}
    void expire(std::int64_t) override { owner->begin(*this); }
    waking* owner;
    std::string channel;
    std::string user;  // empty: all who stand behind the channel
    std::string epoch;
    std::string from;                     // who has written all messages of the wait; empty: several have, or the host
    std::uint64_t offset = 0, count = 0;  // of the newest, and how many; 0: none, a session has died
  };
  // The users of one wait, one after the other.
  struct round : intrusive_count {
    struct member {
      std::string user;
      std::vector<watermark> marks;
      bool marks_known = false;
    };
    std::string channel, epoch, from;
    std::uint64_t offset = 0, count = 0;
    bool all = false;  // the users are those who have watermarks
    std::deque<member> to_do;
    std::string after;
    bool more = false;
  };
  using round_pointer = intrusive_ptr<round>;

  bool wakes(std::string_view channel) const;
  static std::string_view inbox_user(std::string_view channel) noexcept {
    return channel.starts_with('@') ? channel.substr(1) : std::string_view();
  }
  wait* obtain(std::string_view channel, std::string_view user);
  void begin(wait& w);
  // The steps of a round, each of which asks the storage and goes on to the next one.
  void look_up_head(round_pointer r);
  void next(round_pointer r);
  void next_later(round_pointer r);
  void list_users(round_pointer r);
  void look_up_tokens(round_pointer r);
  void look_up_marks(round_pointer r, std::vector<device_token> tokens);
  void decide(const round& r, const std::vector<device_token>& tokens);
  void wake(const round& r, const device_token& t, std::uint64_t count);
  void ended(const device_token& t, push_result r);
  bool failed(std::string_view channel, const std::error_code& ec, const std::exception_ptr& cause) const noexcept;

  hub* hub_;
  std::shared_ptr<live_devices> live_;
  std::vector<std::unique_ptr<any_notifier>> notifiers_;
  intrusive_hash_table<wait> waits_;                         // owned
  std::set<std::pair<std::string, std::string>> under_way_;  // devices to which a notice is on its way
  wake_counters counters_;
};

}  // namespace detail
}  // namespace hailwire
