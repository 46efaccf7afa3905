// SPDX-License-Identifier: BSL-1.0
#pragma once

// Receipts: how far each device of a user has received and read a channel. The storage keeps these watermarks, which
// only rise (storage_members.hpp); here is who may raise them, how often they are written, and who is told.
//
// A first mark of a device in a second goes to the storage and is answered by it, so that a 17th device, another epoch
// or an offset above the head is the storage's to refuse. Marks that follow within a second, and that the channel's log
// here bears out, are answered at once and written together when the second is over: a crash in between leaves a lower
// watermark, which is safe. What the storage has kept is told: to the user's own sessions that follow the channel with
// all that was read, and, where the channel's rule says so and there are few enough of them, to all followers with what
// may be known. A user's receipts of a channel are told once a second at most.
//
// Devices of one user may say how far they are at different hubs, whose words pass one another on the way. So what was
// told of a user lately is remembered, at each hub that tells it: what is not above that is not told again, and whoever
// listens never sees a level fall.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hailwire/detail/base/function.hpp"
#include "hailwire/detail/base/timer_wheel.hpp"
#include "hailwire/detail/hub/live_codec.hpp"
#include "hailwire/error.hpp"
#include "hailwire/message.hpp"
#include "hailwire/storage_members.hpp"

namespace hailwire {

class hub;
class session;

/// How far a user has come in a channel: the highest over all devices.
struct receipt {
  std::string user;
  std::uint64_t received = 0, read = 0;
};

/// The receipts of a channel. `head` less `receipt::read` is what a user has not read.
struct receipts_result {
  std::error_code error;  ///< `not_implemented`: the storage keeps no watermarks
  std::string epoch;
  std::uint64_t head = 0;
  std::vector<receipt> receipts;  ///< by their users' names, at most 1,000
  bool more = false;
};
using receipts_handler = detail::move_only_function<void(receipts_result)>;

namespace detail {

/// How often one device's watermark in a channel is written, and one user's receipts of it are told.
inline constexpr std::int64_t receipt_interval_ms = 1'000;
/// For how long it is remembered what was told of a user: as long as word of another hub may be on its way.
inline constexpr std::int64_t receipt_memory_ms = 10'000;
/// How many devices' watermarks, and how many users' receipts, a hub keeps at most between two writes, for each of the
/// operations that may wait for the storage (`options::max_pending`): everybody who follows a large channel says
/// `received` within the same second. More marks are `overloaded`, and of more receipts followers are told `missed`.
inline constexpr std::size_t marks_per_pending = 10;
/// The most users in one answer.
inline constexpr std::size_t max_receipts = 1000;

class receipts {
 public:
  explicit receipts(hub& h);
  receipts(const receipts&) = delete;
  receipts& operator=(const receipts&) = delete;

  using mark_done = move_only_function<void(std::error_code)>;
  /// Raises the watermark of the session's device; `read`: that too, `hidden`: only its user may know.
  void mark(session& s, std::string_view channel, position at, bool read, bool hidden, mark_done done);
  /// The receipts of a channel, all as far as they are public but `own`'s; `others`: also those of other users.
  void list(std::string_view channel, std::string own, bool others, receipts_handler done);
  /// Where `since=received` stands for this device: before the first message if it has no watermark. An error of the
  /// storage's is one here: nobody who cannot be found is shown everything again.
  void find(session& s, std::string_view channel, move_only_function<void(result<position>)> done);
  /// Another hub has told of a receipt.
  void heard(std::string_view channel, live_reader& in);
  void stop() noexcept;
  /// Of how many devices and users something is kept.
  std::size_t size() const noexcept { return devices_.size() + users_.size(); }

 private:
  struct device_mark {
    watermark pending;
    bool waits = false;  // something is to be written
    bool writing = false;
    std::int64_t next = 0;  // when it may be written again
  };
  struct user_receipt {
    std::string epoch;
    watermark_levels levels, told;
    bool waits = false;
    std::int64_t next = 0;   // when it may be told again
    std::int64_t until = 0;  // when it may be forgotten
  };
  using name = std::pair<std::string, std::string>;  // of a channel, and of a user or a user's device
  struct second final : timer {
    explicit second(receipts& r) noexcept;
    HAILWIRE_INLINE void expire(std::int64_t now) override;
    receipts* of;
  };

  void write(const name& key, device_mark& d, watermark m, mark_done done);
  void written(const name& key, const watermark& m, mark_result r, mark_done& done);
  void tell(const std::string& channel, const std::string& user, const std::string& epoch, const watermark_levels& to);
  void send(const std::string& channel, const std::string& user, user_receipt& r);
  // What is remembered of a user; null where there is no room. `epoch` is that of what is to be told.
  user_receipt* remember(std::string_view channel, std::string_view user, std::string_view epoch);
  void tell_here(std::string_view channel, std::string_view user, std::string_view epoch, const watermark_levels& l,
                 bool others);
  void tick(std::int64_t now);
  void arm();

  std::size_t most() const noexcept;

  hub* hub_;
  std::size_t writes_ = 0;  // that the storage has not answered
  std::map<name, device_mark> devices_;
  std::map<name, user_receipt> users_;
  second second_{*this};
};

}  // namespace detail
}  // namespace hailwire
