// SPDX-License-Identifier: BSL-1.0
#pragma once

// The commands of a client that wait or are unanswered, and which of them may be sent, and sent again.
//
// Theory of operation. A command is in one of two rows: `waiting_`, in the order in which they are to be sent, and
// `sent_`, in the order in which they were. What comes of the rows' ends:
//  - An answer takes a command out of `sent_`. One that says that the server may do it later puts a keyed publish back
//    to the front of `waiting_`.
//  - The end of a connection puts back what may be sent twice (`requeue`): keyed publishes, because their key makes a
//    repeat harmless for as long as the server keeps it; questions, because they change nothing; of marks (`received`
//    and `read`) the newest of a channel. All else ends as `timeout`, because nobody knows whether it was done.
//  - Time: a publish that was sent once and is not answered within the life of its key is never sent again, and ends as
//    `timeout`. The clock is the caller's and must run while the machine sleeps: a key dies meanwhile.
//
// Order. Keyed publishes of one channel are sent with at most `window` of them unanswered, so with one a publish that
// has to be repeated is never overtaken by its successor.
//
// Poison. When a server ends a connection because of what it was sent (WebSocket closes 1002, 1007, 1008 and 1009),
// what was unanswered is suspect: it is sent again one at a time, and the one behind which the connection ends so again
// is given up.
//
// Ends are not told at once but gathered in `ended`: whoever hears of one may do anything with the client. Those of a
// link's own commands are told at once.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hailwire/client_options.hpp"
#include "hailwire/detail/base/function.hpp"

namespace hailwire::detail {

/// How one command ended: an error, or what `ok` carries, as JSON text.
using command_end = move_only_function<void(const client_error&, std::string_view ok)>;

/// One command on its way.
struct client_command {
  enum class kind : std::uint8_t {
    publish,   ///< with a key: may be repeated while the server keeps it
    question,  ///< changes nothing: may be repeated
    mark,      ///< `received` or `read`: only the newest of a channel counts
    once,      ///< never repeated
    link,      ///< of this connection alone: goes with it without a word
  };
  kind what = kind::once;
  bool suspect = false;     ///< a connection has ended behind it, for what it was sent
  bool live_only = false;   ///< not kept for later
  std::uint8_t tries = 0;   ///< answers that asked for patience
  std::uint64_t id = 0;     ///< of the wire; 0 until it is put into a row
  std::int64_t first = -1;  ///< when it was first sent
  std::string channel;      ///< of a publish or a mark
  std::string name;         ///< of a mark: which
  std::string body;         ///< the command without its id: `"publish":{…}}`
  command_end end;

  /// The object as it travels.
  std::string text() const { return "{\"id\":" + std::to_string(id) + ',' + body; }
};

/// All commands of one client. One thread at a time.
class client_commands {
 public:
  using command = client_command;
  struct finished {
    command_end end;
    client_error error;
    std::string ok;
  };

  client_commands(std::size_t max_count, std::size_t max_bytes, std::size_t window) noexcept
      : max_count_(max_count), max_bytes_(max_bytes), window_(std::max<std::size_t>(window, 1)) {}

  /// Puts a command into the row, or refuses it as `overloaded`.
  void add(command c) {
    if (c.what == command::kind::mark) {
      // A newer one of the same name and channel takes the place of one that was not sent yet.
      for (auto& w : waiting_)
        if (w.what == command::kind::mark && w.channel == c.channel && w.name == c.name) {
          bytes_ = bytes_ - w.body.size() + c.body.size();
          std::swap(w.body, c.body);
          std::swap(w.end, c.end);
          return finish(c, {}, "{}");  // the newer one says all that the older one said
        }
    }
    if (c.what != command::kind::link &&
        (size() >= max_count_ || c.body.size() > max_bytes_ - std::min(bytes_, max_bytes_)))
      return finish(c, {make_error_code(errc::overloaded), "too much is waiting or unanswered"});
    c.id = ++last_id_;
    bytes_ += c.body.size();
    waiting_.push_back(std::move(c));
  }

  /// The next command that may be sent, now in the row of the unanswered; null when there is none.
  const command* take(std::int64_t now) {
    expire(now);
    const bool careful = std::any_of(waiting_.begin(), waiting_.end(), [](auto& c) { return c.suspect; }) ||
                         std::any_of(sent_.begin(), sent_.end(), [](auto& c) { return c.suspect; });
    if (careful && !sent_.empty()) return nullptr;
    for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
      if (it->what == command::kind::publish && unanswered(it->channel) >= window_) continue;
      if (it->first < 0) it->first = now;
      sent_.push_back(std::move(*it));
      waiting_.erase(it);
      return &sent_.back();
    }
    return nullptr;
  }

  /// An answer to command `id`. False when nobody waits for it.
  bool answer(std::uint64_t id, const client_error& error, std::string_view ok) {
    auto it = std::find_if(sent_.begin(), sent_.end(), [&](auto& c) { return c.id == id; });
    if (it == sent_.end()) return false;
    command c = std::move(*it);
    sent_.erase(it);
    bytes_ -= c.body.size();
    finish(c, error, ok);
    return true;
  }
  /// The oldest unanswered command: what an answer without an id belongs to, since answers come in order.
  std::uint64_t oldest() const noexcept { return sent_.empty() ? 0 : sent_.front().id; }

  /// Whether the command may be tried once more after this error; it is back at the front of the row then.
  bool again(std::uint64_t id, errc code) {
    auto it = std::find_if(sent_.begin(), sent_.end(), [&](auto& c) { return c.id == id; });
    if (it == sent_.end() || it->what != command::kind::publish) return false;
    const bool unknown = code == errc::internal || code == errc::timeout;
    const bool passing = code == errc::draining || code == errc::overloaded || code == errc::rate_limited;
    if (!unknown && !passing) return false;
    // What the server has no room for, it will have; what it fails at, it may fail at for ever.
    if (unknown && ++it->tries >= max_tries) return false;
    waiting_.insert(waiting_.begin(), std::move(*it));
    sent_.erase(it);
    return true;
  }

  /// A question whose answer had no room behind those before it goes first next time. False where it is none.
  bool ask_first(std::uint64_t id) {
    auto it = std::find_if(sent_.begin(), sent_.end(), [&](auto& c) { return c.id == id; });
    if (it == sent_.end() || it->what != command::kind::question) return false;
    waiting_.insert(waiting_.begin(), std::move(*it));
    sent_.erase(it);
    return true;
  }

  /// The connection has ended. `blamed`: for what it was sent, with this code; else 0 and no text.
  void requeue(std::int64_t now, errc code = {}, std::string_view blamed = {}) {
    std::vector<command> lost;
    lost.swap(sent_);
    if (!blamed.empty() && lost.size() == 1 && lost[0].suspect) {
      bytes_ -= lost[0].body.size();
      finish(lost[0], {make_error_code(code), blamed});
      return;
    }
    std::vector<command> kept;
    for (auto& c : lost) {
      c.suspect = c.suspect || !blamed.empty();
      const bool repeat = c.what == command::kind::question || (c.what == command::kind::publish && life_ > 0) ||
                          (c.what == command::kind::mark && !newer_mark(c));
      if (repeat) {
        kept.push_back(std::move(c));
        continue;
      }
      bytes_ -= c.body.size();
      if (c.what == command::kind::mark) finish(c, {}, "{}");
      if (c.what == command::kind::link || c.what == command::kind::mark) continue;
      finish(c, {make_error_code(errc::timeout), "the connection ended before the answer"});
    }
    waiting_.insert(waiting_.begin(), std::make_move_iterator(kept.begin()), std::make_move_iterator(kept.end()));
    drop_waiting([](const command& c) { return c.what == command::kind::link || c.live_only; },
                 {make_error_code(std::errc::not_connected), "the connection ended"});
    expire(now);
  }

  /// What a channel's log no longer has is not marked any more: another life of it has begun.
  void forget_marks(std::string_view channel) {
    drop_waiting([&](const command& c) { return c.what == command::kind::mark && c.channel == channel; },
                 {make_error_code(errc::not_found), "another epoch has begun"});
  }

  /// For how long the server keeps keys, in seconds; 0: not at all, so nothing is repeated. The last tenth, at most ten
  /// seconds, is left for the way to the server.
  void keys_live(std::int64_t seconds) noexcept {
    const std::int64_t all = seconds * 1000;
    life_ = all - std::min<std::int64_t>(10'000, all / 10);
  }

  /// Ends what was sent once and may not be sent again.
  void expire(std::int64_t now) {
    drop_waiting(
        [&](const command& c) { return c.what == command::kind::publish && c.first >= 0 && now - c.first >= life_; },
        {make_error_code(errc::timeout), "unanswered for so long that a repeat might store it twice"});
  }
  /// When `expire` is next worth calling; `never` when nothing is due.
  std::int64_t expires(std::int64_t never) const noexcept {
    for (auto& c : waiting_)
      if (c.what == command::kind::publish && c.first >= 0) never = std::min(never, c.first + life_);
    return never;
  }

  /// Ends everything.
  void fail_all(const client_error& why) {
    for (auto* row : {&sent_, &waiting_}) {
      std::vector<command> all;
      all.swap(*row);
      for (auto& c : all)
        if (c.what != command::kind::link) finish(c, why);
    }
    bytes_ = 0;
  }

  std::vector<finished>& ended() noexcept { return ended_; }
  std::size_t size() const noexcept { return waiting_.size() + sent_.size(); }
  bool has_waiting() const noexcept { return !waiting_.empty(); }
  std::size_t unanswered() const noexcept { return sent_.size(); }
  /// The ids of the unanswered, oldest first.
  template <class F>
  void each_unanswered(F f) const {
    for (auto& c : sent_) f(c);
  }

 private:
  /// Answers of `internal` and `timeout` after which a publish is given up.
  static constexpr std::uint8_t max_tries = 5;

  std::size_t unanswered(std::string_view channel) const noexcept {
    return static_cast<std::size_t>(std::count_if(
        sent_.begin(), sent_.end(), [&](auto& c) { return c.what == command::kind::publish && c.channel == channel; }));
  }
  bool newer_mark(const command& old) const noexcept {
    return std::any_of(waiting_.begin(), waiting_.end(), [&](auto& c) {
      return c.what == command::kind::mark && c.channel == old.channel && c.name == old.name;
    });
  }
  void finish(command& c, client_error error, std::string_view ok = {}) {
    if (!c.end) return;
    // The machine's own: what comes right behind the answer hangs on it.
    if (c.what == command::kind::link) return std::exchange(c.end, nullptr)(error, ok);
    ended_.push_back({std::move(c.end), std::move(error), std::string(ok)});
  }
  template <class F>
  void drop_waiting(F which, const client_error& why) {
    for (std::size_t i = 0; i < waiting_.size();) {
      if (!which(waiting_[i])) {
        ++i;
        continue;
      }
      command c = std::move(waiting_[i]);
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
      bytes_ -= c.body.size();
      if (c.what != command::kind::link) finish(c, why);
    }
  }

  std::vector<command> waiting_, sent_;
  std::vector<finished> ended_;
  std::size_t max_count_, max_bytes_, window_, bytes_ = 0;
  std::uint64_t last_id_ = 0;
  std::int64_t life_ = 290'000;  // until the server says: every server keeps keys for five minutes
};

}  // namespace hailwire::detail
